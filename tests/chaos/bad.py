"""Known-bad builds: the same schedule under the true build, which must pass, and under a bad one, which must not.

A judge that has never said no proves nothing. Each schedule makes the fault certain by a stall or by who is started
when, not by luck.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from overseer_lite.failpoints import LOG_VARIABLE, VARIABLE
from tests.chaos.judge import judge
from tests.chaos.rig import Rig
from tests.chaos.scenario import Figures, Unit, Violation, scenario

_RESET = """
import sys
from overseer_lite.store import open_store
with open_store(sys.argv[1]) as store:
    done = [store.reset_job(attempt) for worker in store.workers() for attempt in store.held(worker.id)]
sys.exit(0 if done == [True] else 1)
"""


def _stalled(rig: Rig, job: dict, stall_s: float) -> None:
    """Have a worker stall before it settles a job, put that job back by hand meanwhile, and have another run it.

    Nothing overlaps by that: the handler has ended. When the stalled worker wakes, its word comes late.
    """
    log = os.path.join(rig.directory, "visits")
    rig.submit([job])
    slow = rig.start("-n", "1", env={VARIABLE: f"worker.outcome=stall:{stall_s:g}%worker", LOG_VARIABLE: log})
    rig.wait_for(lambda: os.path.exists(log) and "worker.outcome" in open(log).read(), name="the worker stalls")  # noqa: SIM115
    done = subprocess.run([sys.executable, "-c", _RESET, rig.db], env=rig.env, capture_output=True, check=False)
    if done.returncode != 0:
        raise Violation(f"the job could not be put back by hand: {done.stderr.decode()[-300:]}")
    fast = rig.start("-n", "1")
    rig.wait_for(lambda: any(e["attempt"] == 2 for e in rig.events()), name="attempt 2 begins")
    words = ("Dropped", "exited with status", "fault of its own", "died")
    rig.wait_for(lambda: any(word in rig.said() for word in words), name="the stalled worker wakes")
    rig.wait_for(lambda: _ended(rig, job["id"], 2), name="attempt 2 ends")
    rig.wait_for(lambda: not rig.ask("status")["jobs"]["started"], name="attempt 2 is settled")
    time.sleep(0.5)  # were it put back and run again, that would begin now
    for started in (slow, fast):
        started.send_signal(signal.SIGTERM)
        started.wait(30)


def _ended(rig: Rig, job: str, attempt: int) -> bool:
    return any(e["event"] in ("end", "raised") and (e["job"], e["attempt"]) == (job, attempt) for e in rig.events())


def no_fence(rig: Rig) -> None:
    """A late finish of attempt 1, while attempt 2 runs."""
    _stalled(rig, {"id": "a", "args": {"s": [0.1, 4.0]}}, 3.0)


def settle_without_guard(rig: Rig) -> None:
    """A late failure of attempt 1, when attempt 2 has finished."""
    _stalled(rig, {"id": "a", "type": "failing", "args": {"s": 0.1}}, 4.0)
    rig.drain()


def reset_by_age(rig: Rig) -> None:
    """A worker that stands still for longer than the tolerance, its runner at work; then it goes on."""
    rig.submit([{"id": "a", "args": {"s": 4.0}}])
    started = rig.start("--drain", "-n", "2")
    event = rig.wait_for(rig.running, name="the job runs")[0]
    rig.kill(event["ppid"], signal.SIGSTOP)
    time.sleep(2.5)
    rig.kill(event["ppid"], signal.SIGCONT)
    rig.finish(started)


def no_tree_kill(rig: Rig) -> None:
    """A worker killed while its job's subprocess, in a session of its own, works on."""
    rig.submit([{"id": "a", "args": {"s": [3.0, 0.2], "sub": "session"}}])
    started = rig.start("--drain", "-n", "2")
    event = rig.wait_for(rig.running, name="the job runs")[0]
    time.sleep(0.2)
    rig.kill(event["ppid"])
    rig.finish(started)


def one_sweep(rig: Rig) -> None:
    """A worker killed while children of its job go from pid to pid."""
    rig.submit([{"id": "a", "type": "hostile", "args": {"kind": "hop_by_exec", "hops": 600, "s": 5.0}}])
    started = rig.start("--drain", "-n", "2")
    event = rig.wait_for(rig.running, name="the job runs")[0]
    time.sleep(0.3)
    rig.kill(event["ppid"])
    rig.finish(started)


def take_back_without_kernel(rig: Rig) -> None:
    """A long job at the head of a group of sixteen: what waits behind it is taken back, and run by others meanwhile."""
    rig.env["CHAOS_GROUP"] = "16"  # under the true build as well
    rig.submit(
        [{"id": f"n{number:02}", "type": "noop", "args": {} if number % 16 else {"s": 0.8}} for number in range(48)]
    )
    rig.finish(rig.start("--drain", "-n", "2"))


SCHEDULES: dict[str, Callable[[Rig], None]] = {
    "no-tree-kill": no_tree_kill,
    "take-back-without-kernel": take_back_without_kernel,
    "no-fence": no_fence,
    "reset-by-age": reset_by_age,
    "one-sweep": one_sweep,
    "settle-without-guard": settle_without_guard,
}


@scenario("bad-builds", small=2, release=len(SCHEDULES))
def bad_builds(unit: Unit) -> Figures:
    """Known-bad builds, one a unit: the judge fails each, and passes the true build under the same schedule."""
    name = list(SCHEDULES)[unit.index % len(SCHEDULES)]
    schedule = SCHEDULES[name]
    try:
        _run(unit, "true", schedule, {})
    except Violation as error:
        raise Violation(f"{name}: the true build fails under this schedule: {error}") from error
    try:
        _run(unit, "bad", schedule, {"CHAOS_BAD_BUILD": name})
    except Violation as error:
        promises = [found for found in error.found if found.startswith("P")]
        if not promises:
            raise Violation(f"{name}: the bad build fails, but breaks no promise: {error}") from error
        return {"found_out": 1, "builds": [name], name: "; ".join(promises)[:160]}
    raise Violation(f"{name}: the judge passes a build that is known to be bad")


def _run(unit: Unit, build: str, schedule: Callable[[Rig], None], env: dict[str, str]) -> None:
    rig = Rig(os.path.join(unit.directory, build), {"heartbeat_interval_s": 0.3, "tolerance": 3}, env)
    trouble: Violation | None = None
    try:
        try:
            schedule(rig)
        except Violation as error:
            trouble = error
        # Under a bad build the schedule itself may go wrong; what the judge says then counts, not that.
        for pid in rig.pids("supervisor") if trouble else []:
            rig.kill(pid)
        judge(rig, interrupted=1)
        if trouble is not None:
            raise trouble
    finally:
        rig.close()
