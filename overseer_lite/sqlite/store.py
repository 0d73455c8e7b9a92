"""The SQLite store: every verb of the protocol is one transaction here, and this is where it begins and ends.

What happens inside the transactions stands beside: `submit`, `reserve`, `settle`, `look`. The statements stand in
queries.sql, the tables in schema.sql.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from overseer_lite.clock import Clock, open_clock
from overseer_lite.errors import (
    InvalidInputError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    SupersededError,
    UnknownJobError,
    UnknownRunError,
)
from overseer_lite.job import (
    Attempt,
    AttemptRecord,
    Failure,
    JobInfo,
    Outcome,
    Settlement,
    Status,
    check_transition,
    encode,
)
from overseer_lite.sqlite import gate, look, prune, reserve, settle, submit, wakeup
from overseer_lite.sqlite.codes import STATUS, STATUS_CODE, UNSTARTED
from overseer_lite.sqlite.connection import LARGE_LOG_BYTES, Database
from overseer_lite.sqlite.transaction import Moment, adopt_boot, failure_text, keys_json, more_to_ring, whom_to_ring
from overseer_lite.store import (
    CAPABILITIES,
    Backup,
    Bell,
    Counts,
    Exchange,
    Finding,
    HeldLog,
    Refusal,
    Request,
    RunInfo,
    Submitted,
    Verdict,
    WorkerRecord,
    superseded,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from types import TracebackType

    from overseer_lite.graph import Graph
    from overseer_lite.job import Job
    from overseer_lite.sqlite.files import FileIdentity

TRUNCATE_FROM_JOBS: Final = 20_000
FULL_RETRY_S: Final = 1.0


def open_address(address: str, **options: Any) -> SqliteStore:
    """Open the store of an address: a path, `sqlite:///relative/path` or `sqlite:////absolute/path`."""
    return SqliteStore(address.removeprefix("sqlite:///") if address.startswith("sqlite://") else address, **options)


class SqliteStore:
    """A store in one SQLite file. Use one object a thread; it is opened at its first use.

    Args:
        path: The file. Nothing is created but by `install`.
        durability: `full`: each commit but heartbeats is synced; `normal`: a power loss (never a crash) may undo the
            last commits.
        crash_limit: Crashes after which a job is failed; 0: never.
        interruption_limit: Likewise for interruptions.
        clock: Where its time comes from; unless given, the machine's, or the one a test shares.
        timeout_s: How long a verb that writes may wait for the gate.
        unsafe_filesystem: Use it on a filesystem where the promises do not hold.
        alarm: Wait for the gate in the kernel, by SIGALRM: for the main thread of a process that is ours alone.
    """

    capabilities: frozenset[str] = frozenset(CAPABILITIES)

    def __init__(
        self,
        path: str,
        *,
        durability: str = "full",
        crash_limit: int = 3,
        interruption_limit: int = 10,
        clock: Clock | None = None,
        timeout_s: float = 60.0,
        unsafe_filesystem: bool = False,
        alarm: bool = False,
    ) -> None:
        if alarm:
            gate.use_alarm()
        self.path = os.path.realpath(os.path.abspath(path))
        self.clock: Clock = clock or open_clock()
        self.crash_limit = crash_limit
        self.interruption_limit = interruption_limit
        self._unsafe_filesystem = unsafe_filesystem
        self._db = Database(self.path, durability=durability, timeout_s=timeout_s, unsafe_filesystem=unsafe_filesystem)
        self._generation = 0
        self._boot_id: str | None = None
        self._types: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._uuid: str | None = None
        self._runs = reserve.Runs()
        self._own_bells: dict[str, wakeup.FifoBell] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- the file ----------------------------------------------------------------------------------------------------

    @property
    def state_directory(self) -> str:
        """Where the store's companions lie: locks, bells, output."""
        return self._db.state

    @property
    def file_identity(self) -> FileIdentity:
        """Which file this is: device and inode."""
        return self._db.identity

    @property
    def uuid(self) -> str:
        """The store's own id: a copy made by `backup` has another."""
        if self._uuid is None:
            with self._db.read() as db:
                row = db.one("meta", ("uuid",))
            if row is None:
                raise StoreError(
                    f"The store {self.path} has lost its id. Restore a backup; see `overseer-lite doctor`."
                )
            self._uuid = str(row[0])
        return self._uuid

    @property
    def database(self) -> Database:
        """The connection, for `doctor`, `backup` and the monitor's checkpoints."""
        return self._db

    def install(self) -> None:
        """Make the store if there is none, migrate one of an older schema; safe from several processes at once."""
        from overseer_lite.sqlite import create  # most processes find the store made

        if not create.create(self.path, self.clock.read(), unsafe_filesystem=self._unsafe_filesystem):
            create.migrate(self.path, unsafe_filesystem=self._unsafe_filesystem)
        self._db.open()

    def backup(self, target: str) -> Backup:
        """Copy the store, workers at work or not, to a file that must not exist; see `backup.backup`."""
        from overseer_lite.sqlite.backup import backup

        return backup(self.path, target, unsafe_filesystem=self._unsafe_filesystem)

    def examine(self, *, full: bool = False, silent_for_s: float = 50.0) -> list[Finding]:
        """Look at the store and all around it; see `examine.examine`."""
        from overseer_lite.sqlite.examine import examine

        return examine(
            self.path,
            self.clock,
            full=full,
            durability=self._db.durability,
            silent_for_s=silent_for_s,
            unsafe_filesystem=self._unsafe_filesystem,
        )

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        self._db.close()

    def check_in_place(self) -> None:
        """Raise StoreReplacedError if the path no longer names the open file."""
        self._db.open()
        self._db.check_in_place()

    def held_log(self) -> HeldLog | None:
        """Return the log's size and who reads it, once it is so large that writers pause for it; see `readers`."""
        size = self._db.wal_bytes()
        if size <= LARGE_LOG_BYTES:
            return None
        # With the room of processes, which a command that only looks does not need.
        from overseer_lite.sqlite.readers import readers_of

        return HeldLog(size, readers_of(self.path))

    # ---- inside a transaction ----------------------------------------------------------------------------------------

    def _remember(self, db: Database) -> None:
        """Forget what was learnt in a transaction that was not committed, or from an earlier connection."""
        if db.generation != self._generation:
            self._generation = db.generation
            self._boot_id = None
            self._types, self._names = {}, {}

    def _moment(self, db: Database) -> Moment:
        self._remember(db)
        now = self.clock.read()
        moment = Moment(db, now)
        if now.boot_id != self._boot_id:
            adopt_boot(moment)
            self._boot_id = now.boot_id
        return moment

    def _limits(self) -> settle.Limits:
        return settle.Limits(self.crash_limit, self.interruption_limit)

    def _type_keys(self, db: Database, names: Collection[str]) -> dict[int, str]:
        """Return those of the types that the store has ever heard of, by key."""
        self._remember(db)
        if not all(name in self._types for name in names):
            self._learn_types(db)
        return {self._types[name]: name for name in names if name in self._types}

    def _learn_types(self, db: Database) -> None:
        self._types = {name: key for name, key in db.all("types")}  # noqa: C416 - rows are tuples of any length
        self._names = {key: name for name, key in self._types.items()}

    def _bells(self, moment: Moment, taken: dict[int, int] | None = None, but: str = "") -> list[str]:
        if not moment.made_ready and not moment.due_changed:
            return []
        if not all(key in self._names for key in moment.made_ready):
            self._learn_types(moment.db)
        return whom_to_ring(moment, taken or {}, but, self._names)

    def ring(self, worker: str) -> None:
        """Wake a worker, whatever there may be to do."""
        self._ring([worker])

    def _ring(self, workers: Sequence[str]) -> None:
        for worker in workers:
            wakeup.ring(self._bell_path(worker))

    def _bell_path(self, worker: str) -> str:
        return os.path.join(self._db.state, "bells", worker)

    def _reading(self) -> look.Reader:
        """Return a snapshot to look at, its instants those of this boot."""
        boot_id = self.clock.read().boot_id
        if boot_id != self._boot_id:
            with self._db.read() as db:
                self._remember(db)
                row = db.one("boot")
            if row is not None and row[0] == boot_id:  # as always but after a reboot: looking needs no gate
                self._boot_id = boot_id
            else:
                with self._db.write("beat") as db:
                    self._moment(db)
        return look.Reader(self._db, self.clock)

    # ---- the eleven verbs, and exchange ------------------------------------------------------------------------------

    def transact_graph(self, graph: Graph) -> Submitted:
        """Store a whole graph, or nothing of it; idempotent on its ids."""
        resolved = graph.validate()
        try:
            with self._db.write("submit") as db:
                moment = self._moment(db)
                done = submit.compare(db, graph, resolved)
                if done is not None:
                    return done
                done = submit.insert(moment, graph, resolved)
                bells = self._bells(moment)
        except BaseException:
            self._types = {}  # what was learnt inside may have been rolled back
            raise
        self._ring(bells)
        if len(graph.jobs) >= TRUNCATE_FROM_JOBS:
            with suppress(StoreUnavailableError):  # the graph is stored and must be acknowledged; a later one will do
                self._db.checkpoint(truncate=True)
        return done

    def job_info(self, job_id: str) -> JobInfo | None:
        """Return what is known of a job, None if there is none of that id."""
        with self._reading() as reader:
            return reader.job(job_id)

    def jobs_ready(self, types: Collection[str] | None = None, limit: int = 100) -> list[str]:
        """Return ids of ready jobs, in the order in which they would be reserved."""
        with self._reading() as reader:
            return reader.ready(types, limit)

    def reserve_job(self, worker: str, job_id: str) -> Attempt | None:
        """Start the next attempt of a ready job; None if it is not ready, or there is none of that id."""
        with self._db.write("exchange") as db:
            moment = self._moment(db)
            info = look.ready_now(db, job_id, moment.now)
            if info is None:
                return None
            key = self._worker_key(moment, worker)
            ((job, _type),) = reserve.start(moment, (worker, key), [info], {}, self._runs)
        return job.attempt

    def _worker_key(self, moment: Moment, worker: str) -> int:
        row = moment.db.one("worker", (worker,)) or moment.db.one("add_worker", (worker, moment.now.monotonic_us))
        assert row is not None
        key: int = row[0]
        return key

    def heartbeat_job(self, attempt: Attempt) -> None:
        """Note that the attempt is alive."""
        with self._db.write("beat", synced=False) as db:
            moment = self._moment(db)
            changed = db.run("beat_job", (*attempt, moment.now.monotonic_us))
        if not changed:
            raise superseded("heartbeat", attempt, self.job_info(attempt.job_id))

    def finish_job(self, attempt: Attempt, result: Any = None, added: Sequence[Job] = ()) -> None:
        """Settle an attempt as finished and release its dependents."""
        result_json = None if result is None else encode(result, f"The result of job {attempt.job_id!r}")
        self._settle(Settlement(attempt, Outcome.FINISHED, result_json, added))

    def fail_job(self, attempt: Attempt, failure: Failure | None = None, retry_in_s: float | None = None) -> None:
        """Settle an attempt as failed, for good or to be retried."""
        self._settle(Settlement(attempt, Outcome.FAILED, failure=failure, delay_s=retry_in_s))

    def reset_job(self, attempt: Attempt, delay_s: float = 0.0, crashed: bool = False) -> bool:
        """Put a started job back; False if the attempt does not hold it."""
        outcome = Outcome.CRASHED if crashed else Outcome.RESET
        with self._db.write("exchange") as db:
            moment = self._moment(db)
            if not settle.holds(db, attempt):
                return False
            settle.settle(moment, Settlement(attempt, outcome, delay_s=delay_s), self._limits())
            bells = self._bells(moment)
        self._ring(bells)
        return True

    def abort_job(self, job_id: str, failure: Failure | None = None, attempt: Attempt | None = None) -> list[str]:
        """Abort a job and all that depend on it; without an attempt, a started job is only asked to."""
        if attempt is not None:
            return self._settle(Settlement(attempt, Outcome.ABORTED, failure=failure))
        with self._db.write("act") as db:
            moment = self._moment(db)
            row = db.one("job_key", (job_id,))
            if row is None:
                raise UnknownJobError(job_id, look.nearest_id(db, job_id))
            key, status = row
            aborted: list[str] = []
            bells: list[str] = []
            if STATUS[status] is Status.STARTED:
                bells = [holder for (holder,) in db.all("request", (job_id, "abort"))]
            elif status == UNSTARTED:
                db.run("abort", (key,))
                if failure is not None:
                    db.run("set_failure", (key, failure_text(failure)))
                aborted = [job_id, *settle.abort_dependents(moment, key)]
                moment.due_changed = True  # whoever waits for the end of a run looks again
                bells = self._bells(moment)
        self._ring(bells)
        return aborted

    def jobs_dead(self, silent_for_s: float) -> list[Attempt]:
        """Return attempts that have been silent for longer than that, the longest silent first."""
        with self._reading() as reader:
            return reader.silent(silent_for_s)

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
        """Settle what is done, then reserve up to `want` ready jobs of these types."""
        refused: list[Refusal] = []
        full = want > 0 and not self._db.has_room()  # what would be reserved now could perhaps not be settled
        if full and not settlements:
            raise StoreFullError(self.path)
        want = 0 if full else want
        with self._db.write("exchange") as db:
            moment = self._moment(db)
            names = self._type_keys(db, types)
            limits_by_key = {self._types[name]: limit for name, limit in (limits or {}).items() if name in self._types}
            groups_by_key = {self._types[name]: size for name, size in (groups or {}).items() if name in self._types}
            row = db.one("worker", (worker,))
            key, idle = (row[0], row[2]) if row else (self._worker_key(moment, worker), 0)
            for settlement in self._finish_ahead(moment, (worker, key), settlements):
                try:
                    settle.settle(moment, settlement, self._limits())
                except SupersededError as error:
                    refused.append(Refusal(settlement.attempt, "superseded", str(error)))
                except InvalidInputError as error:
                    refused.append(Refusal(settlement.attempt, "conflict", str(error)))
            self._room_made(moment, settlements, limits_by_key)
            run_key = self._run_key(db, run)
            wanted = reserve.Wanted((worker, key), want, names, limits_by_key, groups_by_key, run_key)
            next_due_s = reserve.promote(moment, names, run_key)
            jobs, taken, more = reserve.reserve(moment, wanted, self._runs)
            if jobs:
                db.put_off_checkpoint()
            hungry = want > 0 and not jobs
            if hungry != bool(idle) and (row is None or row[1]):
                db.run("set_idle", (key, int(hungry)))
            bells = self._bells(moment, taken, worker)
            if more and not bells:
                bells = more_to_ring(moment, worker, self._types, limits or ())
        self._ring(bells)
        return Exchange(jobs, refused, FULL_RETRY_S if full else next_due_s)

    def _finish_ahead(
        self, moment: Moment, worker: tuple[str, int], settlements: Sequence[Settlement]
    ) -> Iterator[Settlement]:
        """Settle what can be settled together; yield the rest one by one, so that all are made in the order given."""
        together: list[Settlement] = []
        for settlement in settlements:
            if settle.is_plain(settlement, worker[0]):
                together.append(settlement)
            else:
                yield from settle.finish_many(moment, worker, together)
                together = []
                yield settlement
        yield from settle.finish_many(moment, worker, together)

    def _room_made(self, moment: Moment, settlements: Sequence[Settlement], limits: dict[int, int]) -> None:
        """A job of a limited type ended: another may start, though none became ready."""
        if settlements and limits:
            for key in limits:
                moment.ready(key)

    def _run_key(self, db: Database, run: str | None) -> int | None:
        if run is None:
            return None
        row = db.one("run", (run,))
        if row is None:
            raise UnknownRunError(run)
        key: int = row[0]
        return key

    def _settle(self, settlement: Settlement) -> list[str]:
        with self._db.write("exchange") as db:
            moment = self._moment(db)
            aborted = settle.settle(moment, settlement, self._limits())
            bells = self._bells(moment)
        self._ring(bells)
        return aborted

    # ---- workers -----------------------------------------------------------------------------------------------------

    def register(self, record: WorkerRecord) -> Bell:
        """Enter a worker, or renew its entry; return its doorbell."""
        bell = self._own_bells.get(record.id)
        if bell is None or bell.closed:
            bell = self._own_bells[record.id] = wakeup.FifoBell(self._bell_path(record.id))
        with self._db.write("register") as db:
            moment = self._moment(db)
            db.run(
                "register",
                (
                    record.id, moment.now.monotonic_us, record.pid, record.runner_pid, record.identity,
                    record.supervisor, record.app, record.app_file, record.app_mtime,
                    json.dumps({name: record.limits.get(name) for name in record.types}), record.run,
                ),
            )  # fmt: skip
            for name in record.types:
                db.one("add_type", (name,))
        return bell

    def leave(self, worker: str) -> None:
        """Strike out a worker that holds no job."""
        with self._db.write("leave") as db:
            moment = self._moment(db)
            db.run("leave", (worker,))
            bells = more_to_ring(moment, worker, self._types)  # it may just have been rung, for somebody else now
        self._ring(bells)

    def beat(self, worker: str) -> None:
        """Note that a worker is alive; nothing if it is not registered (any more)."""
        with self._db.write("beat", synced=False) as db:
            db.run("beat_worker", (worker, self._moment(db).now.monotonic_us))

    def workers(self) -> list[WorkerRecord]:
        """Return the registered workers, in order of registration."""
        with self._reading() as reader:
            return reader.workers()

    def held(self, worker: str) -> list[Attempt]:
        """Return the attempts a worker holds, in order of submission."""
        with self._db.read() as db:
            return [Attempt(*row) for row in db.all("held", (worker,))]

    def held_keys(self, worker: str) -> dict[tuple[int, int], Attempt]:
        """Return the attempts a worker holds by job key and number: how its file of steps names them."""
        with self._db.read() as db:
            return {
                (key, number): Attempt(job_id, number, holder)
                for key, job_id, number, holder in db.all("held_keys", (worker,))
            }

    def recover(self, worker: str, verdicts: Mapping[Attempt, Verdict]) -> list[tuple[Attempt, Status]]:
        """Put back everything a dead worker holds and strike it out: one transaction. Checks no liveness."""
        put_back: list[tuple[Attempt, Status]] = []
        with self._db.write("recover") as db:
            moment = self._moment(db)
            for row in db.all("held", (worker,)):
                attempt = Attempt(*row)
                outcome, failure, evidence = verdicts.get(attempt, Verdict(Outcome.INTERRUPTED))
                settle.settle(moment, Settlement(attempt, outcome, failure=failure, evidence=evidence), self._limits())
                now = db.one("job_key", (attempt.job_id,))
                assert now is not None
                put_back.append((attempt, STATUS[now[1]]))
            db.run("leave", (worker,))
            moment.due_changed = True  # whoever waits for the end of a run looks again
            bells = self._bells(moment, but=worker)
        self._ring(bells)
        return put_back

    def request(self, job_id: str, wish: str) -> bool:
        """Note an operator's wish for a started job and ring its worker; False: it is not started."""
        with self._db.write("act") as db:
            if db.one("job_key", (job_id,)) is None:
                raise UnknownJobError(job_id, look.nearest_id(db, job_id))
            holders = [holder for (holder,) in db.all("request", (job_id, wish))]
        self._ring(holders)
        return bool(holders)

    def requests(self, worker: str) -> list[Request]:
        """Return the wishes waiting for a worker's attempts."""
        with self._db.read() as db:
            return [Request(Attempt(*row[:3]), row[3]) for row in db.all("requests", (worker,))]

    def retry(self, job_ids: Sequence[str]) -> list[str]:
        """Put failed and aborted jobs back to unstarted with counts anew, all of them or none."""
        with self._db.write("act") as db:
            moment = self._moment(db)
            keys: dict[str, int] = {}
            for job_id in job_ids:
                row = db.one("job_key", (job_id,))
                if row is None:
                    raise UnknownJobError(job_id, look.nearest_id(db, job_id))
                check_transition(job_id, "retry", STATUS[row[1]], "only failed and aborted jobs can be retried")
                keys[job_id] = row[0]
            for key in keys.values():
                row = db.one("retry", (key,))
                assert row is not None
                moment.ready(row[0])
            bells = self._bells(moment)
        self._ring(bells)
        return list(keys)

    def prune(self, older_s: float, *, dry_run: bool = False) -> list[RunInfo]:
        """Remove whole ended runs that are older than that, each in one transaction, and their attempts' files."""
        before_us = self.clock.read().wall_us - round(older_s * 1e6)
        with self._db.read() as db:
            planned = prune.plan(db, before_us)
        if dry_run:
            return planned
        removed: list[RunInfo] = []
        for run in planned:
            with self._db.write("act") as db:
                done = prune.remove(db, run.id, before_us)
            if done is not None:
                removed.append(done)
        prune.remove_files(self._db, os.path.join(self.state_directory, "files"))
        if sum(run.counts.total for run in removed) >= TRUNCATE_FROM_JOBS:
            with suppress(StoreUnavailableError):  # they are gone; the log is cut another time
                self._db.checkpoint(truncate=True)
        return removed

    def ring_all(self) -> None:
        """Ring every registered worker, idle or not."""
        with self._db.read() as db:
            workers = [row[0] for row in db.all("workers")]
        self._ring(workers)

    # ---- looking -----------------------------------------------------------------------------------------------------

    def dependents(self, job_ids: Sequence[str]) -> list[str]:
        """Return the ids of all transitive dependents, nearest first."""
        with self._db.read() as db:
            keys = [row[0] for row in (db.one("job_key", (job_id,)) for job_id in job_ids) if row is not None]
            return settle.dependents(db, keys)

    def counts(self, run: str | None = None) -> Counts:
        """Count jobs by status, of one run or of all."""
        with self._reading() as reader:
            return reader.counts(run)

    def drained(self, types: Collection[str], run: str | None = None) -> bool:
        """Whether nothing is left that workers of these types could run."""
        with self._db.read() as db:
            keys = keys_json(self._type_keys(db, types))
            if run is None:
                row = db.one("any_left", (keys,))
            else:
                row = db.one("any_left_in_run", (keys, self._run_key(db, run)))
        return row is not None and not row[0]

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
        """List jobs in order of submission, without args and results; `text` is looked for in the id."""
        with self._reading() as reader:
            return reader.jobs(
                {
                    "run": run,
                    "status": None if status is None else STATUS_CODE[status],
                    "type": type,
                    "text": text,
                    "limit": -1 if limit is None else limit,
                    "offset": offset,
                }
            )

    def attempts(self, job_id: str) -> list[AttemptRecord]:
        """Return a job's history, oldest first; the running attempt is not in it."""
        with self._reading() as reader:
            return reader.attempts(job_id)

    def attempts_of(self, job_ids: Collection[str]) -> dict[str, list[AttemptRecord]]:
        """Return the histories of many jobs by id, each oldest first, all of one moment, without what they wrote."""
        with self._reading() as reader:
            return reader.attempts_of(job_ids)

    def runs(self, limit: int = 100) -> list[RunInfo]:
        """Return runs, newest first."""
        with self._reading() as reader:
            return reader.runs(limit)

    def run_info(self, run: str) -> RunInfo | None:
        """Return one run, None if there is none of that id."""
        with self._reading() as reader:
            return reader.run_info(run)

    def nearest_id(self, job_id: str) -> str | None:
        """Return the stored id most like the given one, None if none is like it."""
        with self._db.read() as db:
            return look.nearest_id(db, job_id)
