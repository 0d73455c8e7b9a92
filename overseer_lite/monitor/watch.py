"""The look at all workers: who is dead, who is silent, and what the rules say of each."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from overseer_lite.liveness.identity import Identity, Life, look, read_stat, send_signal
from overseer_lite.liveness.workerfile import Snapshot, WorkerFile, WorkerFileError, take
from overseer_lite.monitor.burial import Burials, snapshot_of
from overseer_lite.monitor.held_log import LogWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from overseer_lite.monitor.burial import Recovered
    from overseer_lite.store import FullStore, Store, WorkerRecord

log = logging.getLogger("overseer_lite.monitor")

STOPPED_GRACE_S: Final = 10.0
ABROAD_GRACE_S: Final = 5.0  # a lock of another pid namespace must have been free for so long
INLINE: Final = "(inline)"  # the app of a worker that runs its handlers in its own process
_SIGKILL: Final = 9
_LEFT_ALONE: Final = "left alone. See `overseer-lite doctor`"


class _Suspicion(NamedTuple):
    """Since when (monotonic) a worker is suspected, and the CPU it had used by then."""

    since: float
    cpu_ticks: int


def _cpu_ticks(identity: Identity) -> int:
    stat = read_stat(identity.pid)
    return 0 if stat is None else stat.cpu_ticks


def _nobody(_worker: str) -> tuple[Identity, ...]:
    return ()


class Monitor:
    """Watches the workers of a store; `sweep` is one look at all of them, `recover` buries one.

    Args:
        silent_for_s: Seconds without a beat after which a worker is silent: interval times tolerance.
        spare: Says which processes must not be touched while a tree is cleared: the living.
        adopted: Kills orphans that dead workers left to this process; returns those that may be the given worker's.
    """

    def __init__(
        self,
        store: FullStore,
        *,
        silent_for_s: float,
        spare: Callable[[], Collection[int]] = tuple,
        adopted: Callable[[str], Collection[Identity]] = _nobody,
    ) -> None:
        self._store = store
        self._silent_for_s = silent_for_s
        self._burials = Burials(store, spare=spare, adopted=adopted)
        self._log_watch = LogWatch(store)
        self._suspected: dict[str, _Suspicion] = {}
        self._free_since: dict[str, float] = {}  # locks of another pid namespace; monotonic
        self._reported: set[tuple[str, str]] = set()

    def path(self, worker: str) -> str:
        """Return where a worker's file lies."""
        return self._burials.path(worker)

    # ---- one look at all workers

    def sweep(self, own: Collection[str] = ()) -> list[Recovered]:
        """Look at every registered worker once, and do what the rules say.

        Args:
            own: Workers whose death this process is told by the kernel; their silence is watched, their death is not.
        """
        self._store.check_in_place()
        self._log_watch.look()
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
        self._free_since = {worker: since for worker, since in self._free_since.items() if worker in present | files}
        self._burials.forget_all_but(present)
        return recovered

    def _examine(self, record: WorkerRecord, own: bool) -> Recovered | None:
        identity = self._identity(record)
        if identity is None:
            return None
        life = look(identity, self._store.clock.read().boot_id)
        if life is Life.FOREIGN:
            return self._abroad(record.id, identity)
        if life in (Life.GONE, Life.OTHER_BOOT):
            return None if own or self._contradicts(record.id, identity) else self.recover(record.id, identity)
        if life is Life.EXITING:
            return None
        if self._lock_is_free(record.id):
            return None if own else self._lost_its_lock(record.id, identity)
        self._watch_silence(record, identity, life)
        return None

    def _abroad(self, worker: str, identity: Identity) -> Recovered | None:
        """A worker of another pid namespace: nobody can be asked about it, but its lock speaks across namespaces.

        Held: it lives, or somebody of its tree does. Free: worker and runner are dead. Its own supervisor, if there is
        one, takes the lock at once and has the better proof; so it must have been free at each look for a while.
        """
        if not self._lock_is_free(worker):
            self._free_since.pop(worker, None)
            self._report_once(worker, "Worker %s lives in another pid namespace; its own supervisor watches it")
            return None
        if not self._is_ours(worker, identity, snapshot_of(self.path(worker))):
            return None
        now = time.monotonic()
        if now - self._free_since.setdefault(worker, now) < ABROAD_GRACE_S:
            return None
        return self.recover(worker, identity)

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
        snapshot = snapshot_of(self.path(worker))
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
        if life is Life.FOREIGN:
            self._abroad(worker, snapshot.identity)
        elif life in (Life.GONE, Life.OTHER_BOOT) and self._lock_is_free(worker):
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
        if not self._is_ours(worker, identity, snapshot_of(self.path(worker))):
            return None
        log.warning("Worker %s lives without its lock; it is killed", worker)
        send_signal(identity, _SIGKILL, self._store.clock.read().boot_id)
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
        snapshot = snapshot_of(self.path(record.id))
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
        send_signal(identity, _SIGKILL, self._store.clock.read().boot_id)

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

    def _report_once(self, worker: str, message: str) -> None:
        if (worker, message) not in self._reported:
            self._reported.add((worker, message))
            log.warning(message, worker)

    # ---- burying one

    def in_this_boot(self, identity: Identity) -> Identity:
        """Return an own child's identity as the store's clock names this boot; a test's clock may name it otherwise."""
        return identity._replace(boot_id=self._store.clock.read().boot_id)

    def recover(self, worker: str, identity: Identity) -> Recovered | None:
        """Prove a dead worker's tree gone, then put its jobs back in one transaction; None: it is not proved (yet).

        A tree that does not go at once is seen to in a thread of its own; call again until the worker's file is gone.
        """
        return self._burials.recover(worker, identity)

    def close(self) -> None:
        """Give up the trees that would not go, and their locks: they are the next one's."""
        self._burials.close()


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
