"""Known-bad builds: what the program would be if one of its safeguards were missing. Applied to a process at its start."""

import time


def _overwrite_history(connection):
    """The history's key is a fence of its own: an attempt has one end. Without it the later word stands."""
    for name in ("add_attempt", "add_words", "add_result"):
        statement = connection.SQL[name]
        assert statement.startswith("INSERT INTO")
        connection.SQL[name] = statement.replace("INSERT INTO", "INSERT OR REPLACE INTO", 1)


def no_fence():
    """A settlement names its job only: any attempt, of any worker, settles whoever holds it now."""
    from overseer_lite.sqlite import connection, settle

    fence = "AND status = 1 AND attempt = ?2 AND worker = ?3"
    _overwrite_history(connection)
    for name in ("finish", "finish_each"):
        statement = connection.SQL[name]
        assert fence in statement
        connection.SQL[name] = statement.replace(fence, "AND status = 1 AND ?2 > 0 AND ?3 > 0")
    settle.is_plain = lambda settlement, worker: settlement.outcome is settle.Outcome.FINISHED and not settlement.added


def settle_without_guard():
    """A settlement takes the job wherever it stands: finished jobs are overwritten."""
    from overseer_lite.sqlite import connection, settle

    guard = "WHERE key = ?1 AND status = 1 AND attempt = ?2 AND worker = (SELECT key FROM workers WHERE id = ?3)"
    assert guard in connection.SQL["settle"]
    _overwrite_history(connection)
    connection.SQL["settle"] = connection.SQL["settle"].replace(guard, "WHERE key = ?1 AND ?2 > 0 AND ?3 > ''")
    right = settle.Holder

    class Holder(right):
        """A row that always looks as if the attempt at hand held it."""

        def __new__(cls, *row):
            return right.__new__(cls, *row)._replace(status=settle.STARTED, attempt=_Any(), worker=_Any())

    class _Any(int):
        def __eq__(self, other):
            return True

        def __ne__(self, other):
            return False

        __hash__ = int.__hash__

    old_move = settle._move

    def move(job, settlement, limits):
        return old_move(job._replace(attempt=settlement.attempt.number), settlement, limits)

    settle.Holder = Holder
    settle._move = move


def reset_by_age():
    """A worker that has not beaten for long is taken for dead, and its jobs are put back."""
    from overseer_lite import monitor

    right = monitor.Monitor.sweep

    def sweep(self, own=()):
        monitor.reset_silent(self._store, self._silent_for_s)
        return right(self, own)

    monitor.Monitor.sweep = sweep


def _replace_clear(clear):
    from overseer_lite import supervisor
    from overseer_lite.liveness import tree
    from overseer_lite.monitor import burial
    from overseer_lite.runner import process

    assert burial.trees is tree
    tree.clear = clear
    process.clear = clear
    supervisor.Supervisor.kill_adopted = lambda _self, _worker=None: []


def no_tree_kill():
    """Only the worker's and the runner's own deaths count; what they started works on."""
    from overseer_lite.liveness import tree

    def clear(wanted, *, free, timeout_s=10.0):
        deadline = time.monotonic() + timeout_s
        while not free() and time.monotonic() < deadline:
            time.sleep(0.005)
        return tree.Cleared(True, (), 1, ())

    _replace_clear(clear)


def one_sweep():
    """One look over /proc, whoever is found is killed, and that is taken for proof."""
    import signal

    from overseer_lite.liveness import tree
    from overseer_lite.liveness.identity import send_signal

    def clear(wanted, *, free, timeout_s=10.0):
        found = tree.members(wanted)
        time.sleep(0.05)  # a busy machine's pause: whoever forks meanwhile is on no list
        for who in found:
            send_signal(who, signal.SIGKILL)
        deadline = time.monotonic() + 1.0
        while not free() and time.monotonic() < deadline:
            time.sleep(0.005)
        return tree.Cleared(True, tuple(found), 1, ())

    _replace_clear(clear)


def take_back_without_kernel():
    """The worker takes a job back by its own word; the token stays in the pipe, and the runner may read it."""
    from overseer_lite.liveness.workerfile import BEGUN
    from overseer_lite.runner import process

    right = process.ProcessRunner.take_back

    def take_back(self):
        if self._at_end:
            return right(self)
        back = []
        while self._given and self._steps.slot(self._given[-1][1]).state < BEGUN:
            back.append(self._given.pop()[0])
        return back

    process.ProcessRunner.take_back = take_back


BUILDS = {
    "no-fence": no_fence,
    "reset-by-age": reset_by_age,
    "no-tree-kill": no_tree_kill,
    "one-sweep": one_sweep,
    "settle-without-guard": settle_without_guard,
    "take-back-without-kernel": take_back_without_kernel,
}


def apply(name):
    """Make this process one of that build."""
    BUILDS[name]()
