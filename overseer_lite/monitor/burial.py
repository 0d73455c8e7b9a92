"""Burying a dead worker: its tree proved gone, its jobs put back, its files removed.

Burials do not wait for one another. Nearly every tree goes within milliseconds, and is cleared here and now; one that
does not (a process in an uninterruptible wait, a lock that somebody inherited) gets a thread that goes on trying, and
the next burial begins.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from overseer_lite import failpoints
from overseer_lite.job import Outcome, Status
from overseer_lite.liveness import tree as trees
from overseer_lite.liveness.identity import Identity
from overseer_lite.liveness.workerfile import Snapshot, TakenLock, WorkerFile, WorkerFileError, take
from overseer_lite.liveness.writers import has_writer
from overseer_lite.monitor.verdicts import verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from overseer_lite.job import Attempt
    from overseer_lite.store import FullStore, Verdict

log = logging.getLogger("overseer_lite.monitor")

FIRST_TRY_S: Final = 0.25  # of a tree's clearing, while the next burial waits
CLEAR_TIMEOUT_S: Final = 10.0  # of each later try; then it is said who is left


def snapshot_of(path: str) -> Snapshot | None:
    """Return what a worker's file says; None if there is none, or it is not to be believed, which is said."""
    try:
        return WorkerFile.read(path)
    except WorkerFileError as error:
        log.warning("%s", error)
        return None


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


class _Dead(NamedTuple):
    """Whose tree is to be cleared.

    Attributes:
        path: Its file.
        leaders: Who made its process groups, as far as their pids mean anything here.
    """

    worker: str
    path: str
    leaders: frozenset[Identity]


class _LongClearing(threading.Thread):
    """A tree that did not go at once: tried again and again, its lock never let go of for long, until it is gone."""

    def __init__(self, dead: _Dead, clear: Callable[[_Dead, float], tuple[trees.Cleared, TakenLock | None]]) -> None:
        super().__init__(name=f"burial of {dead.worker}", daemon=True)
        self._dead = dead
        self._clear = clear
        self._mutex = threading.Lock()
        self._ended = False
        self.begun = time.monotonic()
        self.missing = not os.path.lexists(dead.path)
        self.lock: TakenLock | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            done = False
            while not (done or self._ended):
                cleared, lock = self._clear(self._dead, CLEAR_TIMEOUT_S)
                done = cleared.done
            if lock is not None:
                self._keep(lock)
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result raises it
            self.error = error

    def _keep(self, lock: TakenLock) -> None:
        with self._mutex:
            if self._ended:
                lock.release()
            else:
                self.lock = lock

    def end(self) -> None:
        """Have it give up after the try that it is at."""
        with self._mutex:
            self._ended = True
            if self.lock is not None:
                self.lock.release()


class Burials:
    """Buries dead workers; see `Monitor` for the arguments."""

    def __init__(
        self,
        store: FullStore,
        *,
        spare: Callable[[], Collection[int]],
        adopted: Callable[[str], Collection[Identity]],
    ) -> None:
        self._store = store
        self._spare = spare
        self._adopted = adopted
        self._long: dict[str, _LongClearing] = {}
        self._reported: set[str] = set()

    def path(self, worker: str) -> str:
        """Return where a worker's file lies."""
        return os.path.join(self._store.state_directory, "workers", worker)

    def recover(self, worker: str, identity: Identity) -> Recovered | None:
        """Prove a dead worker's tree gone, then put its jobs back in one transaction; None: it is not proved (yet).

        Whoever takes the lock first recovers; a second one finds no file, no row, and nothing to do.
        """
        begun = time.monotonic()
        if (long := self._long.get(worker)) is None:
            failpoints.hit("recover.noticed")
            snapshot = snapshot_of(self.path(worker))
            dead = _Dead(worker, self.path(worker), self._leaders(identity, snapshot))
            missing = not os.path.lexists(dead.path)
            cleared, lock = self._clear(dead, FIRST_TRY_S)
            if not cleared.done:
                self._long[worker] = _LongClearing(dead, self._clear_and_tell)
                self._long[worker].start()
                return None
        elif long.is_alive():
            return None
        else:
            del self._long[worker]
            if long.error is not None:
                raise long.error
            begun, lock, missing = long.begun, long.lock, long.missing
        if lock is None and not missing:  # it went meanwhile: somebody else has recovered it
            return None
        if self._is_abroad(identity) and self._is_written_to(worker):
            if lock is not None:
                lock.release()
            return None
        return self._put_back(worker, identity, lock, begun)

    def forget_all_but(self, present: Collection[str]) -> None:
        """Give up the trees of workers that are not there any more: somebody else has recovered them."""
        for worker in [worker for worker in self._long if worker not in present]:
            self._long.pop(worker).end()

    def close(self) -> None:
        """Give up all trees that would not go."""
        self.forget_all_but(())

    def _put_back(self, worker: str, identity: Identity, lock: TakenLock | None, begun: float) -> Recovered:
        try:
            failpoints.hit("recover.tree_cleared")
            found = verdicts(self._store, worker, self._last_steps(worker, identity))
            if found:
                _tell_of(found)
            put_back = self._store.recover(worker, found)
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

    # ---- the tree

    def _leaders(self, identity: Identity, snapshot: Snapshot | None) -> frozenset[Identity]:
        """Return worker and runner, if their pids are of this boot and namespace: else they are numbers of strangers."""
        if identity.boot_id != self._store.clock.read().boot_id or self._is_abroad(identity):
            return frozenset()
        return frozenset(who for who in (identity, snapshot.runner if snapshot else None) if who is not None)

    @staticmethod
    def _is_abroad(identity: Identity) -> bool:
        return identity.pid_namespace != Identity.mine().pid_namespace

    def _is_written_to(self, worker: str) -> bool:
        """Whether somebody may still write a dead worker's output: what its handlers started, where we cannot look."""
        place = os.path.join(self._store.state_directory, "output")
        names = [name for name in os.listdir(place) if name.rpartition(".")[0] == worker]
        if not any(has_writer(os.path.join(place, name)) in (True, None) for name in names):
            return False
        if worker not in self._reported:
            self._reported.add(worker)
            log.error(
                "Worker %s of another pid namespace is dead, but somebody there still writes its output. "
                "Its jobs wait; end that process, or its container",
                worker,
            )
        return True

    def _last_steps(self, worker: str, identity: Identity) -> Snapshot | None:
        """Return a dead worker's steps, if they can be believed; else None: all it held had begun.

        Not those of another boot, whose last stores into a mapped page may have been lost with the power, nor those of
        a copy, which stood still when it was made.
        """
        snapshot = snapshot_of(self.path(worker))
        if snapshot is None or snapshot.copied or snapshot.identity != identity:
            return None
        return snapshot if identity.boot_id == self._store.clock.read().boot_id else None

    def _clear(self, dead: _Dead, timeout_s: float) -> tuple[trees.Cleared, TakenLock | None]:
        """Kill what is left of a worker's tree and take its lock, if there is one."""
        deadline = time.monotonic() + timeout_s
        nap_s = 0.001
        self._adopted(
            dead.worker
        )  # first of all: an orphan seen while a worker lives is not held against that one later
        while True:
            cleared, lock = clear_worker(
                self._store.state_directory,
                dead.worker,
                dead.leaders,
                spare=self._spare(),
                timeout_s=max(0.0, deadline - time.monotonic()),
            )
            orphans = self._adopted(dead.worker) if cleared.done else ()
            if not orphans:
                return cleared, lock
            if lock is not None:
                lock.release()
            if time.monotonic() >= deadline:
                return cleared._replace(done=False, left=tuple(orphans)), None
            time.sleep(nap_s)
            nap_s = min(2 * nap_s, 0.05)

    def _clear_and_tell(self, dead: _Dead, timeout_s: float) -> tuple[trees.Cleared, TakenLock | None]:
        cleared, lock = self._clear(dead, timeout_s)
        # Taken by another than the dead: another supervisor is at it, and says who is left.
        if not cleared.done and trees.flock_holder(dead.path) in {None, *(who.pid for who in dead.leaders)}:
            log.error(
                "Worker %s is dead but its tree is not: process %s holds on. Its jobs wait; kill it by hand",
                dead.worker,
                ", ".join(map(str, [who.pid for who in cleared.left] or trees.holders(dead.path)))
                or "(not to be found)",
            )
        return cleared, lock

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
    leaders: Collection[Identity],
    *,
    spare: Collection[int] = (),
    timeout_s: float = CLEAR_TIMEOUT_S,
) -> tuple[trees.Cleared, TakenLock | None]:
    """Kill what is left of a dead worker's tree and take its lock; no store takes part.

    Args:
        leaders: Worker and runner, if they were of this boot and pid namespace: their groups belong to the tree.

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

    tree = trees.Tree(
        groups=frozenset(who.pid for who in leaders),
        cookie=worker,
        output=os.path.join(state_directory, "output", worker),
        spare=frozenset(spare),
        leaders=frozenset(leaders),
    )
    cleared = trees.clear(tree, free=free, timeout_s=timeout_s)
    if cleared.done:
        return cleared, lock[0] if lock else None
    for taken in lock:
        taken.release()
    return cleared, None
