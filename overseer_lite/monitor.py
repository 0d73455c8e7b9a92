"""Finding the dead and the silent, and putting their jobs back: by the kernel's word, never by age alone.

    1  own child's pidfd readable: clear its tree, reset its jobs. No timeout takes part.
    2  another supervisor's worker, lock free and process gone: the same.
    3  lock free, but that very process lives: kill it, if its lock file exists and names this store; then 2.
    4  another boot, lock free: reset at once.
    5  lock held and beating: nothing, however long its job takes.
    6  lock held and silent: stopped: wait a grace, then kill; else kill. Its death comes back as 1 or 2.
    7  process dead, lock held: somebody inherited it; clear again, then name the holders.

(8, a runner that stands still, is its worker's to see.) A worker of another pid namespace cannot be asked about: it is
reported, never reset. A file of steps that cannot be read means that everything had begun.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from overseer_lite import failpoints
from overseer_lite.job import Attempt, Evidence, Failure, Outcome, Status
from overseer_lite.liveness import tree as trees
from overseer_lite.liveness.identity import Identity, Life, look, read_stat, send_signal
from overseer_lite.liveness.workerfile import BEGUN, ENDED, Slot, Snapshot, TakenLock, WorkerFile, WorkerFileError, take
from overseer_lite.store import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from overseer_lite.store import FullStore, Store, WorkerRecord

log = logging.getLogger("overseer_lite.monitor")

STOPPED_GRACE_S: Final = 10.0
CLEAR_TIMEOUT_S: Final = 10.0
INLINE: Final = "(inline)"  # the app of a worker that runs its handlers in its own process
_TAIL_BYTES: Final = 64 * 1024
_SIGKILL: Final = 9
_LEFT_ALONE: Final = "left alone. See `overseer-lite doctor`"


class Recovered(NamedTuple):
    """What a recovery did.

    Attributes:
        worker: The dead worker.
        reset: Ids of the jobs that were put back.
        took_s: Seconds from its beginning to the commit.
    """

    worker: str
    reset: tuple[str, ...]
    took_s: float


class _Suspicion(NamedTuple):
    """Since when (monotonic) a worker is suspected, and the CPU it had used by then."""

    since: float
    cpu_ticks: int


def _cpu_ticks(identity: Identity) -> int:
    stat = read_stat(identity.pid)
    return 0 if stat is None else stat.cpu_ticks


class Monitor:
    """Watches the workers of a store; `sweep` is one look at all of them, `recover` buries one.

    Args:
        silent_for_s: Seconds without a beat after which a worker is silent: interval times tolerance.
        spare: Says which processes must not be touched while a tree is cleared: the living.
        adopted: Kills orphans that dead workers left to this process and says whether there were any.
    """

    def __init__(
        self,
        store: FullStore,
        *,
        silent_for_s: float,
        spare: Callable[[], Collection[int]] = tuple,
        adopted: Callable[[], bool] = bool,
    ) -> None:
        self._store = store
        self._silent_for_s = silent_for_s
        self._spare = spare
        self._adopted = adopted
        self._suspected: dict[str, _Suspicion] = {}
        self._reported: set[tuple[str, str]] = set()

    def path(self, worker: str) -> str:
        """Return where a worker's file lies."""
        return os.path.join(self._store.state_directory, "workers", worker)

    # ---- one look at all workers

    def sweep(self, own: Collection[str] = ()) -> list[Recovered]:
        """Look at every registered worker once, and do what the rules say.

        Args:
            own: Workers whose death this process is told by the kernel; their silence is watched, their death is not.
        """
        self._store.check_in_place()
        recovered = []
        present = set(own)
        files = self._files()  # before the rows: whoever has made its file and entered itself since is not among them
        for record in self._store.workers():
            present.add(record.id)
            done = self._examine(record, record.id in own)
            if done is not None:
                recovered.append(done)
        for worker in files - present:
            self._clean_up(worker)
        self._suspected = {worker: since for worker, since in self._suspected.items() if worker in present}
        return recovered

    def _examine(self, record: WorkerRecord, own: bool) -> Recovered | None:
        identity = self._identity(record)
        if identity is None:
            return None
        life = look(identity, self._store.clock.read().boot_id)
        if life is Life.FOREIGN:
            self._report_once(
                record.id, "Worker %s lives in another pid namespace; it is watched by its own supervisor only"
            )
            return None
        if life in (Life.GONE, Life.OTHER_BOOT):
            return None if own or self._contradicts(record.id, identity) else self.recover(record.id, identity)
        if life is Life.EXITING:
            return None
        if self._lock_is_free(record.id):
            return None if own else self._lost_its_lock(record.id, identity)
        self._watch_silence(record, identity, life)
        return None

    def _identity(self, record: WorkerRecord) -> Identity | None:
        """Return who a worker is by its row; None: it is no process, or the row is damaged, and then nothing follows."""
        if record.identity is None:
            return None
        try:
            return Identity.from_text(record.identity)
        except ValueError:
            self._report_once(record.id, f"The row of worker %s is damaged: it names no process; {_LEFT_ALONE}")
            return None

    def _contradicts(self, worker: str, identity: Identity) -> bool:
        """Whether a worker's own file names another process than its row: a damaged row buries nobody.

        A burial begins with killing whatever carries the worker's name, and that one may be well.
        """
        snapshot = self._snapshot(worker)
        if (
            snapshot is None
            or snapshot.copied
            or snapshot.store_uuid != self._store.uuid
            or snapshot.identity == identity
        ):
            return False
        self._report_once(
            worker, f"The row of worker %s is damaged: its lock file names another process; {_LEFT_ALONE}"
        )
        return True

    def _files(self) -> set[str]:
        return set(os.listdir(os.path.join(self._store.state_directory, "workers")))

    def _clean_up(self, worker: str) -> None:
        """Remove the files of a dead worker without a row: it never got one, or whoever recovered it died half-way."""
        try:
            snapshot = WorkerFile.read(self.path(worker))
        except WorkerFileError:
            return  # it is just being made
        if snapshot is None or snapshot.copied or snapshot.store_uuid != self._store.uuid:
            return
        life = look(snapshot.identity, self._store.clock.read().boot_id)
        if life in (Life.GONE, Life.OTHER_BOOT) and self._lock_is_free(worker):
            self.recover(worker, snapshot.identity)

    def _lock_is_free(self, worker: str) -> bool:
        try:
            lock = take(self.path(worker))
        except (FileNotFoundError, WorkerFileError):
            return False
        if lock is None:
            return False
        lock.release()
        return True

    def _lost_its_lock(self, worker: str, identity: Identity) -> Recovered | None:
        """Rule 3: the process lives and its lock is free. Only if the file is this store's own is it ours to kill."""
        if not self._is_ours(worker, identity, self._snapshot(worker)):
            return None
        log.warning("Worker %s lives without its lock; it is killed", worker)
        send_signal(identity, _SIGKILL)
        return self.recover(worker, identity)

    def _is_ours(self, worker: str, identity: Identity, snapshot: Snapshot | None) -> bool:
        """Whether a worker's file proves that the living process is this store's own; a copy holds the same names."""
        if (
            snapshot is not None
            and not snapshot.copied
            and snapshot.store_uuid == self._store.uuid
            and snapshot.identity == identity
        ):
            return True
        self._report_once(
            worker, "Worker %s is entered here but its lock file is missing or another store's; left alone"
        )
        return False

    def _watch_silence(self, record: WorkerRecord, identity: Identity, life: Life) -> None:
        """Rules 5 and 6: a lock that is held is never reset; a silent worker is made sure of."""
        snapshot = self._snapshot(record.id)
        silent_s = record.silent_s
        if snapshot is not None:
            silent_s = min(silent_s, (self._store.clock.read().monotonic_us - snapshot.beat_us) / 1e6)
        if silent_s <= self._silent_for_s:
            self._suspected.pop(record.id, None)
            return
        if not self._is_ours(record.id, identity, snapshot):
            return
        now = time.monotonic()
        if record.id not in self._suspected:
            self._suspected[record.id] = _Suspicion(now, _cpu_ticks(identity))
            log.warning("Found %d jobs with failed heartbeats", len(self._store.held(record.id)))
            log.warning("Worker %s is silent for %.1f s (%s)", record.id, silent_s, life)
        if self._has_respite(record, identity, life, now):
            return
        log.warning("Worker %s is killed: %s and silent for %.1f s", record.id, life, silent_s)
        send_signal(identity, _SIGKILL)

    def _has_respite(self, record: WorkerRecord, identity: Identity, life: Life, now: float) -> bool:
        """Whether a silent worker is let live for now: one that is stopped may wake, an inline one may be busy."""
        suspicion = self._suspected[record.id]
        if life is Life.STOPPED:
            return now - suspicion.since < STOPPED_GRACE_S
        if record.app != INLINE:
            return False
        # A handler may hold its interpreter, and its beat with it: as long as it uses the CPU it is at work.
        ticks = _cpu_ticks(identity)
        if ticks > suspicion.cpu_ticks:
            self._suspected[record.id] = _Suspicion(now, ticks)
        return now - self._suspected[record.id].since < max(self._silent_for_s, STOPPED_GRACE_S)

    def _snapshot(self, worker: str) -> Snapshot | None:
        try:
            return WorkerFile.read(self.path(worker))
        except WorkerFileError as error:
            log.warning("%s", error)
            return None

    def _report_once(self, worker: str, message: str) -> None:
        if (worker, message) not in self._reported:
            self._reported.add((worker, message))
            log.warning(message, worker)

    # ---- burying one

    def in_this_boot(self, identity: Identity) -> Identity:
        """Return an own child's identity as the store's clock names this boot; a test's clock may name it otherwise."""
        return identity._replace(boot_id=self._store.clock.read().boot_id)

    def recover(self, worker: str, identity: Identity) -> Recovered | None:
        """Prove a dead worker's tree gone, then put its jobs back in one transaction; None: it is not proved.

        Whoever takes the lock first recovers; a second one finds no file, no row, and nothing to do.
        """
        begun = time.monotonic()
        failpoints.hit("recover.noticed")
        path = self.path(worker)
        snapshot = self._snapshot(worker)
        missing = not os.path.lexists(path)
        cleared, lock = self._clear(worker, identity, snapshot)
        if not cleared or (lock is None and not missing):  # if it went meanwhile, somebody else has recovered it
            return None
        failpoints.hit("recover.tree_cleared")
        try:
            verdicts = self._verdicts(worker, self._last_steps(worker, identity))
            if verdicts:
                _tell_of(verdicts)
            put_back = self._store.recover(worker, verdicts)
            for attempt, status in put_back:
                if status is not Status.UNSTARTED:
                    log.warning("Job %s is %s", attempt.job_id, status)
            self._remove_leftovers(worker)
            if lock is not None:
                lock.unlink()
        finally:
            if lock is not None:
                lock.release()
        return Recovered(worker, tuple(attempt.job_id for attempt, _status in put_back), time.monotonic() - begun)

    def _last_steps(self, worker: str, identity: Identity) -> Snapshot | None:
        """Return a dead worker's steps, if they can be believed; else None: all it held had begun.

        Not those of another boot, whose last stores into a mapped page may have been lost with the power, nor those of
        a copy, which stood still when it was made.
        """
        snapshot = self._snapshot(worker)
        if snapshot is None or snapshot.copied or snapshot.identity != identity:
            return None
        return snapshot if identity.boot_id == self._store.clock.read().boot_id else None

    def _clear(self, worker: str, identity: Identity, snapshot: Snapshot | None) -> tuple[bool, TakenLock | None]:
        """Kill what is left of a worker's tree and take its lock, if there is one; False if somebody will not go."""
        runner = snapshot.runner if snapshot is not None else None
        while True:
            cleared, lock = clear_worker(self._store.state_directory, worker, identity, runner, spare=self._spare())
            if not cleared.done:
                self._name_the_left(worker, cleared)
                return False, None
            if not self._adopted():
                return True, lock
            if lock is not None:
                lock.release()

    def _name_the_left(self, worker: str, cleared: trees.Cleared) -> None:
        pids = [who.pid for who in cleared.left] or trees.holders(self.path(worker))
        log.error(
            "Worker %s is dead but its tree is not: process %s holds on. Its jobs wait; kill it by hand",
            worker,
            ", ".join(map(str, pids)) or "(not to be found)",
        )

    def _verdicts(self, worker: str, snapshot: Snapshot | None) -> Mapping[Attempt, Verdict]:
        """Tell reserved, begun and ended apart without the dead: by the file of steps."""
        slots = {(slot.job_key, slot.number): slot for slot in snapshot.slots} if snapshot is not None else None
        now_us = self._store.clock.read().boottime_us
        verdicts = {}
        for (key, number), attempt in self._store.held_keys(worker).items():
            slot = None if slots is None else slots.get((key, number))
            if slots is not None and (slot is None or slot.state < BEGUN):
                verdicts[attempt] = Verdict(Outcome.HANDED_BACK)
                continue
            evidence = self._evidence(snapshot, slot, now_us) if slot is not None else None
            words = "its worker died after the handler had ended, before it was settled"
            if slot is None or slot.state != ENDED:
                words = "its worker died"
            verdicts[attempt] = Verdict(Outcome.INTERRUPTED, Failure("interruption", words), evidence)
        return verdicts

    def _evidence(self, snapshot: Snapshot | None, slot: Slot, now_us: int) -> Evidence:
        output, size = "", 0
        if snapshot is not None and snapshot.output:
            output, size = self._output(os.path.join(self._store.state_directory, "output", snapshot.output), slot)
        return Evidence(
            began_ago_s=(now_us - slot.begun_us) / 1e6,
            ended_ago_s=(now_us - slot.ended_us) / 1e6 if slot.state == ENDED else None,
            signal=_SIGKILL,
            output=output,
            output_bytes=size,
        )

    def _output(self, path: str, slot: Slot) -> tuple[str, int]:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return "", 0
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            start = slot.output_start if slot.output_start <= size else 0
            end = slot.output_end if slot.state == ENDED and slot.output_end <= size else size
            file.seek(max(start, end - _TAIL_BYTES))
            return file.read(min(_TAIL_BYTES, end - start)).decode("utf-8", "replace"), max(0, end - start)

    def _remove_leftovers(self, worker: str) -> None:
        """Remove a dead worker's bell, output and payloads."""
        state = self._store.state_directory
        for directory, exact in (("bells", True), ("output", False), ("payloads", False)):
            place = os.path.join(state, directory)
            with suppress(FileNotFoundError):
                for name in os.listdir(place):
                    if name == worker if exact else name.rpartition(".")[0] == worker:
                        with suppress(FileNotFoundError):
                            os.unlink(os.path.join(place, name))


def _tell_of(verdicts: Mapping[Attempt, Verdict]) -> None:
    """Log what a dead worker held, as the ancestor did; those of its group that had not begun by their number."""
    begun = [attempt.job_id for attempt, verdict in verdicts.items() if verdict.outcome is not Outcome.HANDED_BACK]
    rest = len(verdicts) - len(begun)
    log.warning("Found %d jobs with failed heartbeats", len(verdicts))
    log.warning("Resetting: %s", ", ".join([*begun, *([f"{rest} that had not begun"] if rest else [])]))


def clear_worker(
    state_directory: str,
    worker: str,
    identity: Identity,
    runner: Identity | None,
    *,
    spare: Collection[int] = (),
    timeout_s: float = CLEAR_TIMEOUT_S,
) -> tuple[trees.Cleared, TakenLock | None]:
    """Kill what is left of a dead worker's tree and take its lock; no store takes part.

    Returns:
        The proof, and the lock: None if the tree is not proved gone, or there is no file (any more).
    """
    lock: list[TakenLock] = []
    path = os.path.join(state_directory, "workers", worker)

    def free() -> bool:
        if not lock:
            with suppress(FileNotFoundError):
                taken = take(path)
                if taken is not None:
                    failpoints.hit("recover.lock_taken")
                    lock.append(taken)
        return bool(lock) or not os.path.lexists(path)

    leaders = frozenset(who for who in (identity, runner) if who is not None)
    tree = trees.Tree(
        groups=frozenset(who.pid for who in leaders),
        cookie=worker,
        output=os.path.join(state_directory, "output", worker),
        spare=frozenset(spare),
        leaders=leaders,
    )
    cleared = trees.clear(tree, free=free, timeout_s=timeout_s)
    if cleared.done:
        return cleared, lock[0] if lock else None
    for taken in lock:
        taken.release()
    return cleared, None


def reset_silent(store: Store, silent_for_s: float) -> list[str]:
    """Reset the attempts that are silent beyond the tolerance: all a store without a kernel to ask can do.

    Only the fence protects then: a worker that was merely slow finds its late write refused.
    """
    silent = store.jobs_dead(silent_for_s)
    if not silent:
        return []
    log.warning("Found %d jobs with failed heartbeats", len(silent))
    log.warning("Resetting: %s", ", ".join(attempt.job_id for attempt in silent))
    return [attempt.job_id for attempt in silent if store.reset_job(attempt)]
