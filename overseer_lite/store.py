"""What a store is: the eleven verbs of the ancestor, `exchange`, and capabilities a store may declare beyond them.

A verb is one transaction; nobody outside sees its begin or end. Durations cross this boundary, instants do not: the
store owns its clock. `open_store` turns an address into a store; the wings are named nowhere else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from overseer_lite.errors import SupersededError, UnknownAddressError
from overseer_lite.job import Attempt, Evidence, Failure, JobInfo, Outcome, ReservedJob, Settlement, Status

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from overseer_lite.clock import Clock
    from overseer_lite.graph import Graph
    from overseer_lite.job import AttemptRecord, Job

#: Capabilities beyond the eleven verbs. A store lists those it has in `capabilities`.
CAPABILITIES: Final[dict[str, str]] = {
    "exchange": "settles and reserves in one transaction (composed from the eleven where missing)",
    "runs": "keeps runs: run_info, runs, prune, and a scope for exchange, counts and drained",
    "history": "one row an attempt: attempts",
    "histories": "the histories of many jobs in one look: attempts_of (asked for one by one where missing)",
    "limits": "at most n started jobs of a type: limits of exchange",
    "requests": "an operator's abort or reset of a started job waits for its worker: request, requests",
    "workers": "registers workers, recovers the jobs of a dead one: register, leave, recover, workers, beat",
    "wake_up": "rings idle workers: bell",
    "looking": "listings: counts, jobs, drained",
    "retry": "an operator's retry",
    "added": "jobs added in the settling transaction",
    "adders": "keeps which job added a job: adder of job_info and jobs (None where missing)",
    "shared": "several processes may use it at once, each opening it by its address",
    "failpoints": "visits the failpoints of its transactions, so that a test may kill it there",
}


class Submitted(NamedTuple):
    """What became of a graph: ids that are new, ids that were there with the same content; both in declared order."""

    created: Sequence[str]
    existed: Sequence[str]


class Refusal(NamedTuple):
    """A settlement that was not made: nothing of it was written.

    Attributes:
        reason: `superseded`: the attempt no longer holds the job. `conflict`: what the handler added conflicts with
            what is stored; the job is still held, and its worker settles it as failed.
    """

    attempt: Attempt
    reason: str
    message: str


class Exchange(NamedTuple):
    """What one exchange gave.

    Attributes:
        jobs: What was reserved, in the order in which it is to run.
        refused: Settlements that were not made.
        next_due_s: Seconds until the next delayed job's time; None if none is delayed.
    """

    jobs: Sequence[ReservedJob]
    refused: Sequence[Refusal]
    next_due_s: float | None


class Counts(NamedTuple):
    """How many jobs stand where, at one moment. `ready` and `stuck` are among the unstarted."""

    unstarted: int = 0
    started: int = 0
    finished: int = 0
    failed: int = 0
    aborted: int = 0
    ready: int = 0
    stuck: int = 0

    @property
    def total(self) -> int:
        """All jobs."""
        return self.unstarted + self.started + self.finished + self.failed + self.aborted

    @property
    def exit_code(self) -> int:
        """0 if all are finished, else 1: what a run's end is worth."""
        return 0 if self.finished == self.total else 1


class RunInfo(NamedTuple):
    """One run. `submitted_at` is wall time, for display."""

    id: str
    submitted_at: float
    counts: Counts


class WorkerRecord(NamedTuple):
    """A worker, as it registered itself.

    Attributes:
        identity: Who it is to the kernel, as text (see `liveness`); None for one that cannot be asked about.
        supervisor: The identity of its supervisor, likewise.
        app: The app it runs, as the operator named it.
        app_file: The app's source file; '' if not known.
        app_mtime: Wall time of the newest source file of the app when the runner imported it; 0 if not known.
        types: Types it handles.
        run: The run it is confined to, if it is.
        silent_s: Seconds since its last beat in the store. Its lock file may have a younger one.
        limits: At most so many started jobs of a type, for the types that have a limit.
    """

    id: str
    pid: int
    runner_pid: int | None = None
    identity: str | None = None
    supervisor: str | None = None
    app: str = ""
    app_file: str = ""
    app_mtime: float = 0.0
    types: Sequence[str] = ()
    run: str | None = None
    silent_s: float = 0.0
    limits: Mapping[str, int] = {}


class Verdict(NamedTuple):
    """What became of one attempt of a dead worker: how `recover` settles it.

    `HANDED_BACK`: it had not begun; `CRASHED`: it had, and its runner died; `INTERRUPTED`: it had begun or even ended,
    and only its worker died.
    """

    outcome: Outcome
    failure: Failure | None = None
    evidence: Evidence | None = None


class Request(NamedTuple):
    """An operator's wish for a started job, for its worker to grant: `abort` or `reset`."""

    attempt: Attempt
    wish: str


class HeldLog(NamedTuple):
    """A log that has grown large.

    Attributes:
        readers: Pids of the other processes that read the store just now, as far as they can be seen; one that reads one
            snapshot for long keeps the log from beginning anew.
    """

    size_bytes: int
    readers: frozenset[int]


class Backup(NamedTuple):
    """A copy that was made.

    Attributes:
        path: Where it lies.
        size_bytes: How large it is.
        unstarted: How many jobs were started in the original and are unstarted in it.
    """

    path: str
    size_bytes: int
    unstarted: int


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        what: Its name.
        level: `ok`, `warning` (a person should know) or `error` (the store cannot be relied on).
        detail: What was found.
        remedy: What to do; '' where all is well.
    """

    what: str
    level: str
    detail: str
    remedy: str = ""


class Bell(Protocol):
    """A worker's doorbell: a descriptor that becomes readable when there may be work."""

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        ...

    def answer(self) -> bool:
        """Forget the rings so far; return whether there were any."""
        ...

    def close(self) -> None:
        """Take the bell down."""
        ...


class Store(Protocol):
    """Where jobs are kept. The eleven verbs and `exchange`; everything else is a declared capability (`FullStore`)."""

    capabilities: frozenset[str]

    def install(self) -> None:
        """Make the store ready for use; idempotent, and safe to call from several processes at once."""
        ...

    def transact_graph(self, graph: Graph) -> Submitted:
        """Store a whole graph, or nothing of it; idempotent on its ids.

        Raises:
            GraphConflictError: Some ids are there with other type, args or dependencies, or only some are there.
            UnknownDependencyError: A job depends on an id neither in the graph nor in the store.
        """
        ...

    def job_info(self, job_id: str) -> JobInfo | None:
        """Return what is known of a job, None if there is none of that id."""
        ...

    def jobs_ready(self, types: Collection[str] | None = None, limit: int = 100) -> list[str]:
        """Return ids of ready jobs, in the order in which they would be reserved, at most `limit`; all types if None."""
        ...

    def reserve_job(self, worker: str, job_id: str) -> Attempt | None:
        """Start the next attempt of a ready job and give its first heartbeat; None: not ready, or somebody was faster."""
        ...

    def heartbeat_job(self, attempt: Attempt) -> None:
        """Note that the attempt is alive.

        Raises:
            SupersededError: The attempt does not hold the job (any more), the job's own end included.
        """
        ...

    def finish_job(self, attempt: Attempt, result: Any = None, added: Sequence[Job] = ()) -> None:
        """Settle an attempt as finished and release its dependents. Finishing the same attempt again is a success.

        Raises:
            SupersededError: The attempt does not hold the job; nothing was written.
            GraphConflictError: `added` conflicts with what is stored; nothing was written, the attempt still holds.
            NotJsonError: The result is not JSON; nothing was written.
        """
        ...

    def fail_job(self, attempt: Attempt, failure: Failure | None = None, retry_in_s: float | None = None) -> None:
        """Settle an attempt as failed: back to unstarted after `retry_in_s` seconds, or failed for good if None.

        Raises:
            SupersededError: The attempt does not hold the job; nothing was written.
        """
        ...

    def reset_job(self, attempt: Attempt, delay_s: float = 0.0, crashed: bool = False) -> bool:
        """Put a started job back, for a fault or a recovery. Checks no liveness: the caller has proved it.

        Args:
            delay_s: Seconds until it may be reserved again.
            crashed: Count it as a crash; at the store's crash limit the job is failed instead.

        Returns:
            False if the attempt does not hold the job; nothing was written.
        """
        ...

    def abort_job(self, job_id: str, failure: Failure | None = None, attempt: Attempt | None = None) -> list[str]:
        """Abort a job and everything that depends on it and is not terminal.

        Without an attempt: an unstarted job is aborted at once; for a started one the wish is noted for its worker
        (capability `requests`) and nothing is aborted yet; a terminal one stays as it is. With an attempt: that
        attempt settles itself so.

        Returns:
            Ids that were aborted, the job first.

        Raises:
            SupersededError: The given attempt does not hold the job; nothing was written.
            UnknownJobError: No job has that id.
        """
        ...

    def jobs_dead(self, silent_for_s: float) -> list[Attempt]:
        """Return attempts that have not beaten for longer than that: silent, that is; the monitor makes sure."""
        ...

    def exchange(
        self,
        worker: str,
        settlements: Sequence[Settlement],
        want: int,
        types: Collection[str],
        *,
        limits: Mapping[str, int] | None = None,
        groups: Mapping[str, int] | None = None,
        run: str | None = None,
    ) -> Exchange:
        """Settle what is done, then reserve up to `want` ready jobs of these types: one transaction.

        A settlement that must be refused does not stop the others. Settling an attempt twice the same way is a success.
        A job that was handed back is reserved alone: nothing with it, and only by a worker that holds nothing else.

        Args:
            limits: At most so many started jobs of a type, this worker's own included.
            groups: At most so many of a type by this exchange.
            run: Reserve from this run alone.
        """
        ...


class FullStore(Store, Protocol):
    """A store with every capability; ours. What a worker, the monitor and the command line use if it is there."""

    path: str
    clock: Clock
    crash_limit: int

    @property
    def state_directory(self) -> str:
        """Where the store's companions lie: lock files, bells, output."""
        ...

    @property
    def uuid(self) -> str:
        """The store's own id."""
        ...

    def check_in_place(self) -> None:
        """Raise StoreReplacedError if the path no longer names the open file."""
        ...

    def held_log(self) -> HeldLog | None:
        """Return how large the log of what is committed has grown, and who reads it; None while it is no larger than it should be."""
        ...

    def close(self) -> None:
        """Let go of the file; the object is of no further use."""
        ...

    def register(self, record: WorkerRecord) -> Bell:
        """Enter a worker (or renew its entry), beating from now on; return its doorbell."""
        ...

    def leave(self, worker: str) -> None:
        """Strike out a worker that holds no job."""
        ...

    def beat(self, worker: str) -> None:
        """Note that a worker, and with it each of its attempts, is alive."""
        ...

    def workers(self) -> list[WorkerRecord]:
        """Return the registered workers, in order of registration."""
        ...

    def held(self, worker: str) -> list[Attempt]:
        """Return the attempts a worker holds, in order of submission."""
        ...

    def held_keys(self, worker: str) -> dict[tuple[int, int], Attempt]:
        """Return the same by job key and attempt number: how a worker's file of steps names them."""
        ...

    def recover(self, worker: str, verdicts: Mapping[Attempt, Verdict]) -> list[tuple[Attempt, Status]]:
        """Put back everything a dead worker holds and strike it out: one transaction. Checks no liveness.

        An attempt without a verdict is taken as INTERRUPTED. An operator's waiting wish is granted.

        Returns:
            What was put back, and where each job stands now: unstarted, failed (a limit was reached) or aborted.
        """
        ...

    def request(self, job_id: str, wish: str) -> bool:
        """Note an operator's wish (`abort`, `reset`) for a started job and ring its worker; False: it is not started.

        A wish is no end: the worker stops the attempt first. One that finishes before that has finished.
        """
        ...

    def requests(self, worker: str) -> list[Request]:
        """Return the wishes waiting for a worker's attempts."""
        ...

    def retry(self, job_ids: Sequence[str]) -> list[str]:
        """Put failed and aborted jobs back to unstarted with counts anew; return those that were.

        Raises:
            UnknownJobError: No job has one of these ids; nothing was written.
            IllegalTransitionError: One of them is neither failed nor aborted; nothing was written.
        """
        ...

    def dependents(self, job_ids: Sequence[str]) -> list[str]:
        """Return the ids of all transitive dependents, nearest first; an id that is not stored has none."""
        ...

    def counts(self, run: str | None = None) -> Counts:
        """Count jobs by status, of one run or of all."""
        ...

    def drained(self, types: Collection[str], run: str | None = None) -> bool:
        """Whether nothing is left that workers of these types could run: none started, none ready, none delayed."""
        ...

    def jobs(
        self,
        *,
        run: str | None = None,
        status: Status | None = None,
        type: str | None = None,
        text: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[JobInfo]:
        """List jobs in order of submission, without args and results (`job_info` has them).

        Args:
            text: Only jobs whose id has this text in it.
            limit: At most so many; all if None.
            offset: So many are passed over first. Pages that are asked for one after another are of different moments.
        """
        ...

    def attempts(self, job_id: str) -> list[AttemptRecord]:
        """Return a job's history, oldest first; the running attempt is not in it."""
        ...

    def attempts_of(self, job_ids: Collection[str]) -> dict[str, list[AttemptRecord]]:
        """Return the histories of many jobs by id, each oldest first, all of one moment, without what they wrote.

        `output` is '' and `output_bytes` 0 in all of them; `attempts` has both.

        Returns:
            Jobs of which no attempt has ended, and ids that are not stored, are left out.
        """
        ...

    def nearest_id(self, job_id: str) -> str | None:
        """Return the stored id most like the given one, for a suggestion; None if none is like it."""
        ...

    def runs(self, limit: int = 100) -> list[RunInfo]:
        """Return runs, newest first."""
        ...

    def run_info(self, run: str) -> RunInfo | None:
        """Return one run, None if there is none of that id."""
        ...

    def prune(self, older_s: float, *, dry_run: bool = False) -> list[RunInfo]:
        """Remove whole ended runs, and the files of their attempts: one transaction a run.

        A run has ended when each of its jobs is finished, failed or aborted; one with a stuck job has not. One on
        which a job of another run depends stays, unless that other run is removed as well. The ids may be
        submitted again, as new jobs; what names a job inside the store is never given again.

        Args:
            older_s: Seconds, by the wall clock, since the run's last attempt ended; if it had none, since its submission.
            dry_run: Remove nothing.

        Returns:
            What was removed, or would be: newest first, but a run always before those it depends on.
        """
        ...


class FileStore(FullStore, Protocol):
    """A full store that is kept in a file of its own: what is done to such a file."""

    def backup(self, target: str) -> Backup:
        """Copy the store, workers at work or not, to a file that must not exist: checked, of one moment.

        Raises:
            InvalidInputError: Something stands at the target, or there is no directory for it; nothing was written.
            StoreError: The store cannot be copied; no copy is left.
        """
        ...

    def ring(self, worker: str) -> None:
        """Wake a worker, whatever there may be to do; nothing if nobody of that id has a bell."""
        ...

    def examine(self, *, full: bool = False, silent_for_s: float = 50.0) -> list[Finding]:
        """Look at the store and all around it: engine, filesystem, modes, log, workers, stuck jobs, soundness.

        Args:
            full: Read every page and row.
            silent_for_s: Seconds without a beat after which a worker is silent.
        """
        ...


_WINGS: Final[dict[str, str]] = {
    "sqlite": "overseer_lite.sqlite.store:open_address",
    "double": "overseer_lite.testing.record:open_address",  # what a pool of a test double is given
}
_ENTRY_POINTS: Final = "overseer_lite.stores"


def open_store(address: str | None = None, **options: Any) -> FullStore:
    """Open the store an address names; nothing is created or touched before its first use.

    `install` creates it. An object is for one thread, and not to be carried over a fork.

    Args:
        address: A path, `sqlite:///path`, or the address of an installed store; None: the configured store
            (`OVERSEER_LITE_DB`, pyproject.toml, else `.overseer/jobs.db`).
        options: What that store takes; ours: `durability`, `crash_limit`, `clock`, `unsafe_filesystem`, and `timeout_s`,
            for how long a verb that writes may wait for other writers (60). Settings are not looked at for these.

    Raises:
        UnknownAddressError: No store speaks for its scheme.
    """
    if address is None:
        from overseer_lite.config import load

        address = load().db
    scheme, separator, _ = str(address).partition("://")
    if not separator:
        scheme = "sqlite"
    target = _WINGS.get(scheme) or _entry_points().get(scheme)
    if target is None:
        raise UnknownAddressError(str(address), {*_WINGS, *_entry_points()})
    module, _, name = target.partition(":")
    opened: FullStore = getattr(importlib.import_module(module), name)(str(address), **options)
    return opened


def _entry_points() -> dict[str, str]:
    from importlib.metadata import entry_points

    return {entry.name: entry.value for entry in entry_points(group=_ENTRY_POINTS)}


def compose_exchange(
    store: Store,
    worker: str,
    settlements: Sequence[Settlement],
    want: int,
    types: Iterable[str],
) -> Exchange:
    """Make an exchange out of the eleven verbs, for a store that has no other: several transactions, no groups.

    Settlements come first, one by one; a refused one does not stop the others. Results of dependencies are read after
    the reservation, which is safe since a finished job never changes.
    """
    from overseer_lite.composed import exchange

    return exchange(store, worker, settlements, want, types)


def superseded(verb: str, attempt: Attempt, info: JobInfo | None) -> SupersededError:
    """Return the error for an attempt that does not hold its job, with what stands in its place."""
    if info is None:
        now = "there is no such job"
    elif info.status is Status.STARTED:
        now = f"attempt {info.attempt} of worker {info.worker!r} stands in its place"
    else:
        now = f"the job is {info.status}"
    return SupersededError(verb, *attempt, now)
