"""The model store: the state machine of `job.py` in plain dictionaries, as simple as it can be said.

It keeps the same contract as the SQLite store and is what that store is compared with, step by step. Everything that
another store keeps up to date (what is ready, how many dependencies are missing) is worked out anew here whenever
somebody asks: slow, and plain to see. It serves one process, and forgets all when that ends.
"""

from __future__ import annotations

import json
import math
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from overseer_lite.clock import Clock, Reading, SystemClock
from overseer_lite.errors import (
    GraphConflictError,
    InvalidInputError,
    SupersededError,
    UnknownDependencyError,
    UnknownJobError,
    nearest,
)
from overseer_lite.graph import Graph
from overseer_lite.job import (
    VERBS,
    Attempt,
    AttemptRecord,
    DependencyResult,
    Evidence,
    Failure,
    JobInfo,
    Outcome,
    ReservedJob,
    Settlement,
    Status,
    check_transition,
    encode,
    merge_args,
)
from overseer_lite.store import (
    CAPABILITIES,
    Counts,
    Exchange,
    Refusal,
    Request,
    RunInfo,
    Submitted,
    Verdict,
    WorkerRecord,
    superseded,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from overseer_lite.job import Job

FAULT_DELAY_S: Final = 10.0


class _Due(NamedTuple):
    """When a delayed job's time comes, in the present boot and by the wall, and how long a delay was asked for."""

    asked_us: int
    boottime_us: int
    wall_us: int


class _Run(NamedTuple):
    args_json: str | None
    declared: int  # jobs it was submitted with; handlers may add more
    submitted_at: float


class _Beat(NamedTuple):
    boot_id: str
    monotonic_us: int


class _Job:
    __slots__ = (
        "added", "adder", "alone", "args_json", "attempt", "beat", "crashes", "declared", "due", "failure", "failures", "history", "id",
        "interruptions", "key", "name",  "priority", "request", "reserved_wall_us", "result_json", "run", "status",
        "type", "worker",
    )  # fmt: skip

    def __init__(
        self,
        *,
        key: int,
        id: str,
        run: str,
        name: str,
        type: str,
        args_json: str,
        priority: int,
        declared: Sequence[str],
        adder: str | None,
    ) -> None:
        self.key, self.id, self.run, self.name, self.type = key, id, run, name, type
        self.args_json, self.priority = args_json, priority
        self.declared = tuple(declared)
        self.adder = adder
        self.added: tuple[str, ...] = ()  # dependencies that handlers added to the declared ones
        self.status = Status.UNSTARTED
        self.attempt = self.failures = self.crashes = self.interruptions = 0
        self.due: _Due | None = None
        self.alone = False  # it was handed back: next time nothing is reserved with it
        self.failure: Failure | None = None
        self.result_json: str | None = None
        self.history: list[AttemptRecord] = []
        # While it is started:
        self.worker: str | None = None
        self.request: str | None = None
        self.beat: _Beat | None = None
        self.reserved_wall_us = 0

    @property
    def dependencies(self) -> tuple[str, ...]:
        return self.declared + self.added

    @property
    def holder(self) -> Attempt | None:
        return Attempt(self.id, self.attempt, self.worker) if self.worker is not None else None

    def ended_so(self, attempt: Attempt, outcome: Outcome) -> bool:
        """Whether that very attempt has been settled, and in that way. A hand-back shows only in the number's return."""
        if outcome is Outcome.HANDED_BACK:
            return self.status is Status.UNSTARTED and self.attempt == attempt.number - 1
        return (attempt.number, attempt.worker, outcome) in [(r.number, r.worker, r.outcome) for r in self.history]


class SilentBell:
    """The bell of a store that does not ring: there is one process, and it has nobody to wake."""

    __slots__ = ()

    def fileno(self) -> int:
        """Return -1: there is nothing to wait on."""
        return -1

    def answer(self) -> bool:
        """Return False: nobody rang."""
        return False

    def close(self) -> None:
        """Do nothing."""


class MemoryStore:
    """A store in this process's memory; for tests, and the model of what every store promises.

    Capabilities: all but `wake_up`, and what takes several processes. Verbs are to be called from one thread; beats may come from another.

    Args:
        clock: Where its time comes from; the machine's unless given.
        crash_limit: Crashes after which a job is failed; 0: never.
        interruption_limit: The same for interruptions.
    """

    capabilities: frozenset[str] = frozenset(CAPABILITIES) - {"wake_up", "shared", "failpoints"}

    def __init__(self, clock: Clock | None = None, crash_limit: int = 3, interruption_limit: int = 10) -> None:
        self.path = ":memory:"
        self.state_directory = ""  # it has no companions beside it
        self.uuid = uuid.uuid4().hex
        self.clock: Clock = clock or SystemClock()
        self.crash_limit = crash_limit
        self.interruption_limit = interruption_limit
        self._jobs: dict[str, _Job] = {}  # in order of submission
        self._runs: dict[str, _Run] = {}  # in order of submission
        self._last_key = 0  # no key is given twice, were the job pruned
        self._workers: dict[str, WorkerRecord] = {}  # in order of registration
        self._beats: dict[str, _Beat] = {}  # of workers
        self._boot_id = self.clock.read().boot_id

    # ---- the eleven verbs, and exchange ------------------------------------------------------------------------------

    def install(self) -> None:
        """Do nothing: it is ready."""

    def close(self) -> None:
        """Do nothing: it ends with the process."""

    def check_in_place(self) -> None:
        """Do nothing: nobody can take it away."""

    def held_log(self) -> None:
        """Return None: it keeps no log."""

    def job_info(self, job_id: str) -> JobInfo | None:
        """Return what is known of a job, None if there is none of that id."""
        job = self._jobs.get(job_id)
        return self._info(job) if job else None

    def jobs_ready(self, types: Collection[str] | None = None, limit: int = 100) -> list[str]:
        """Return ids of ready jobs in the order in which they would be reserved."""
        return [job.id for job in self._ready(types, None)][:limit]

    def reserve_job(self, worker: str, job_id: str) -> Attempt | None:
        """Start the next attempt of a ready job; None if it is not ready, or there is none of that id."""
        job = self._jobs.get(job_id)
        if job is None or not self._is_ready(job):
            return None
        return self._reserve(worker, job)

    def heartbeat_job(self, attempt: Attempt) -> None:
        """Note that the attempt is alive."""
        job = self._jobs.get(attempt.job_id)
        if job is None or job.holder != attempt:
            raise self._superseded("heartbeat", attempt)
        job.beat = self._beat()

    def finish_job(self, attempt: Attempt, result: Any = None, added: Sequence[Job] = ()) -> None:
        """Settle an attempt as finished and release its dependents."""
        result_json = None if result is None else encode(result, f"The result of job {attempt.job_id!r}")
        self._settle(Settlement(attempt, Outcome.FINISHED, result_json, added))

    def fail_job(self, attempt: Attempt, failure: Failure | None = None, retry_in_s: float | None = None) -> None:
        """Settle an attempt as failed, for good or to be retried."""
        self._settle(Settlement(attempt, Outcome.FAILED, failure=failure, delay_s=retry_in_s))

    def reset_job(self, attempt: Attempt, delay_s: float = 0.0, crashed: bool = False) -> bool:
        """Put a started job back; False if the attempt does not hold it."""
        job = self._jobs.get(attempt.job_id)
        if job is None or job.holder != attempt:
            return False
        self._settle(Settlement(attempt, Outcome.CRASHED if crashed else Outcome.RESET, delay_s=delay_s))
        return True

    def abort_job(self, job_id: str, failure: Failure | None = None, attempt: Attempt | None = None) -> list[str]:
        """Abort a job and all that depend on it; without an attempt, a started job is only asked to."""
        if attempt is not None:
            return self._settle(Settlement(attempt, Outcome.ABORTED, failure=failure))
        job = self._known(job_id)
        if job.status is Status.STARTED:
            job.request = "abort"
        return self._abort(job, failure) if job.status is Status.UNSTARTED else []

    def jobs_dead(self, silent_for_s: float) -> list[Attempt]:
        """Return attempts that have been silent for longer than that, the longest silent first."""
        ages = [(self._silent_s(job), job.holder) for job in self._jobs.values() if job.holder]
        return [holder for age, holder in sorted(ages, key=lambda pair: -pair[0]) if age > silent_for_s]

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
        for settlement in settlements:
            try:
                self._settle(settlement)
            except SupersededError as error:
                refused.append(Refusal(settlement.attempt, "superseded", str(error)))
            except InvalidInputError as error:
                refused.append(Refusal(settlement.attempt, "conflict", str(error)))
        jobs: list[ReservedJob] = []
        holds = bool(self.held(worker))
        for job in self._ready(types, run):
            limit = (limits or {}).get(job.type, math.inf)
            room = (groups or {}).get(job.type, want) - sum(one.type == job.type for one in jobs)
            if job.alone and (jobs or holds):
                continue
            if len(jobs) < want and self._started_of(job.type) < limit and room > 0:
                alone = job.alone
                jobs.append(self._reserved(self._reserve(worker, job), job))
                if alone:
                    break
        return Exchange(jobs, refused, self._next_due_s(types, run))

    def transact_graph(self, graph: Graph) -> Submitted:
        """Store a whole graph, or nothing of it."""
        ids = graph.validate().ids
        there = [job_id for job_id in ids if job_id in self._jobs]
        run = self._runs.get(graph.id)
        differences = self._differences(graph)
        if there:
            differences += [f"job {job_id!r} is not stored, {there[0]!r} is" for job_id in ids if job_id not in there]
        if run and (not there or run.declared > len(ids)):
            differences.append(f"run {graph.id!r} is stored with {run.declared} jobs, of which {len(there)} are here")
        if differences:
            raise GraphConflictError(differences)
        if there:
            return Submitted([], ids)
        self._check_external(graph)
        self._runs[graph.id] = _Run(graph.args_json, len(ids), self._now().wall_us / 1e6)
        self._insert(graph)
        return Submitted(ids, [])

    # ---- workers and operators ---------------------------------------------------------------------------------------

    def register(self, record: WorkerRecord) -> SilentBell:
        """Enter a worker, or renew its entry."""
        self._workers[record.id] = record
        self._beats[record.id] = self._beat()
        return SilentBell()

    def leave(self, worker: str) -> None:
        """Strike out a worker that holds no job; nothing if it holds one."""
        if not self.held(worker):
            self._strike_out(worker)

    def beat(self, worker: str) -> None:
        """Note that a worker is alive; nothing if it neither is registered nor holds a job."""
        if worker in self._workers or self.held(worker):
            self._beats[worker] = self._beat()

    def workers(self) -> list[WorkerRecord]:
        """Return the registered workers."""
        return [
            record._replace(silent_s=self._age_s(self._beats.get(worker))) for worker, record in self._workers.items()
        ]

    def held(self, worker: str) -> list[Attempt]:
        """Return the attempts a worker holds, in order of submission."""
        return [job.holder for job in self._held(worker) if job.holder]

    def held_keys(self, worker: str) -> dict[tuple[int, int], Attempt]:
        """Return the attempts a worker holds by job key and number."""
        return {(job.key, job.attempt): job.holder for job in self._held(worker) if job.holder}

    def recover(self, worker: str, verdicts: Mapping[Attempt, Verdict]) -> list[tuple[Attempt, Status]]:
        """Put back everything a dead worker holds and strike it out."""
        put_back = []
        for attempt in self.held(worker):
            outcome, failure, evidence = verdicts.get(attempt, Verdict(Outcome.INTERRUPTED))
            self._settle(Settlement(attempt, outcome, failure=failure, evidence=evidence))
            put_back.append((attempt, self._jobs[attempt.job_id].status))
        self._strike_out(worker)
        return put_back

    def request(self, job_id: str, wish: str) -> bool:
        """Note an operator's wish for a started job; False: it is not started."""
        job = self._known(job_id)
        if job.status is not Status.STARTED:
            return False
        job.request = wish
        return True

    def requests(self, worker: str) -> list[Request]:
        """Return the wishes waiting for a worker's attempts."""
        return [Request(job.holder, job.request) for job in self._held(worker) if job.holder and job.request]

    def retry(self, job_ids: Sequence[str]) -> list[str]:
        """Put failed and aborted jobs back to unstarted, all of them or none."""
        for job_id in job_ids:
            check_transition(job_id, "retry", self._known(job_id).status, "only failed and aborted jobs can be retried")
        jobs = [self._jobs[job_id] for job_id in job_ids]
        for job in jobs:
            job.status = Status.UNSTARTED
            job.failures = job.crashes = job.interruptions = 0
            job.failure = job.due = None
        return [job.id for job in jobs]

    def prune(self, older_s: float, *, dry_run: bool = False) -> list[RunInfo]:
        """Remove whole ended runs that are older than that and on which no job of a run that stays depends."""
        before_us = self._now().wall_us - round(older_s * 1e6)
        ended = [run for run in reversed(self._runs) if self._ended_before(run, before_us)]
        gone: list[str] = []
        grown = True
        while grown:
            grown = False
            for run in [run for run in ended if run not in gone]:
                if self._dependent_runs(run) <= set(gone):
                    gone.append(run)
                    grown = True
        found = [RunInfo(run, self._runs[run].submitted_at, self.counts(run)) for run in gone]
        if not dry_run:
            self._jobs = {job.id: job for job in self._jobs.values() if job.run not in gone}
            self._runs = {run: kept for run, kept in self._runs.items() if run not in gone}
        return found

    def _ended_before(self, run: str, before_us: int) -> bool:
        """Whether a run has nothing left to do, and its last attempt (without any: its submission) lies before then."""
        jobs = [job for job in self._jobs.values() if job.run == run]
        ends = [record.ended_at for job in jobs for record in job.history] or [self._runs[run].submitted_at]
        return all(job.status.terminal for job in jobs) and round(max(ends) * 1e6) < before_us

    def _dependent_runs(self, run: str) -> set[str]:
        """Return the other runs that have a job which depends on one of this run."""
        return {
            job.run
            for job in self._jobs.values()
            if job.run != run and any(self._jobs[above].run == run for above in job.dependencies)
        }

    # ---- looking -----------------------------------------------------------------------------------------------------

    def dependents(self, job_ids: Sequence[str]) -> list[str]:
        """Return the ids of all transitive dependents, nearest first, then in order of submission."""
        return [job.id for job in self._downstream(job_ids)]

    def counts(self, run: str | None = None) -> Counts:
        """Count jobs by status."""
        jobs = [job for job in self._jobs.values() if run in (None, job.run)]
        by_status = {status.value: sum(job.status is status for job in jobs) for status in Status}
        return Counts(**by_status, ready=sum(map(self._is_ready, jobs)), stuck=sum(map(self._is_stuck, jobs)))

    def drained(self, types: Collection[str], run: str | None = None) -> bool:
        """Whether nothing is left that workers of these types could run."""
        jobs = [job for job in self._jobs.values() if run in (None, job.run)]
        return not any(
            job.status is Status.STARTED
            or (job.status is Status.UNSTARTED and job.type in types and not self._waiting_for(job))
            for job in jobs
        )

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
        found = [
            self._info(job)._replace(args={}, result=None)
            for job in self._jobs.values()
            if run in (None, job.run)
            and status in (None, job.status)
            and type in (None, job.type)
            and (text is None or text in job.id)
        ]
        return found[offset:][:limit]

    def attempts(self, job_id: str) -> list[AttemptRecord]:
        """Return a job's history, oldest first."""
        return list(self._known(job_id).history)

    def attempts_of(self, job_ids: Collection[str]) -> dict[str, list[AttemptRecord]]:
        """Return the histories of many jobs by id, each oldest first, without what they wrote."""
        jobs = [self._jobs[job_id] for job_id in job_ids if job_id in self._jobs]
        return {
            job.id: [record._replace(output="", output_bytes=0) for record in job.history]
            for job in jobs
            if job.history
        }

    def runs(self, limit: int = 100) -> list[RunInfo]:
        """Return runs, newest first."""
        return [RunInfo(run, at, self.counts(run)) for run, (_, _, at) in reversed(self._runs.items())][:limit]

    def run_info(self, run: str) -> RunInfo | None:
        """Return one run, None if there is none of that id."""
        return RunInfo(run, self._runs[run].submitted_at, self.counts(run)) if run in self._runs else None

    def nearest_id(self, job_id: str) -> str | None:
        """Return the stored id most like the given one, None if none is like it."""
        return nearest(job_id, self._jobs)

    # ---- graphs ------------------------------------------------------------------------------------------------------

    def _differences(self, graph: Graph) -> list[str]:
        """Say in what the jobs of a graph that are stored differ from what is stored."""
        differences = []
        for job in graph.jobs:
            there = self._jobs.get(graph.job_id(job))
            if there:
                asked, kept = _content(graph, job), (there.type, json.loads(there.args_json), list(there.declared))
                for what, new, old in zip(("type", "args", "dependencies"), asked, kept, strict=True):
                    if _canonical(new) != _canonical(old):
                        verb = "is" if what == "type" else "are"
                        differences.append(f"job {there.id!r}: {what} {new!r} {verb} stored as {old!r}")
        return differences

    def _check_external(self, graph: Graph) -> None:
        for position, dependencies in graph.validate().external.items():
            for dependency in dependencies:
                if dependency not in self._jobs:
                    raise UnknownDependencyError(graph.jobs[position].name, dependency)

    def _insert(self, graph: Graph, adder: str | None = None) -> None:
        """Store those jobs of a checked graph that are not there."""
        for job in graph.jobs:
            job_id = graph.job_id(job)
            if job_id not in self._jobs:
                kind, args, dependencies = _content(graph, job)
                self._last_key += 1
                new = _Job(
                    key=self._last_key,
                    id=job_id,
                    run=graph.id,
                    name=job.name,
                    type=kind,
                    args_json=json.dumps(args),
                    priority=job.priority,
                    declared=dependencies,
                    adder=adder,
                )
                new.due = self._due(job.delay_s)
                self._jobs[job_id] = new

    def _add(self, adder: _Job, added: Sequence[Job]) -> None:
        """Store what a handler added, and let the adder's dependents wait for it; or raise and store nothing."""
        if not added:
            return
        graph = Graph.of(added, id=adder.run, args=json.loads(self._runs[adder.run].args_json or "{}"))
        ids = graph.validate().ids
        self._check_external(graph)
        differences = self._differences(graph)
        if differences:
            raise GraphConflictError(differences)
        dependents = [job for job in self._jobs.values() if adder.id in job.dependencies]
        waited_for = [job_id for job_id, job in zip(ids, added, strict=True) if not job.detached]
        self._refuse_circle(graph, waited_for, dependents)
        self._insert(graph, adder.id)
        for dependent in dependents:
            dependent.added += tuple(job_id for job_id in waited_for if job_id not in dependent.dependencies)

    def _refuse_circle(self, graph: Graph, waited_for: Sequence[str], dependents: Sequence[_Job]) -> None:
        """Raise if a dependent of the adder would wait for an added job that waits for that dependent."""
        above = {graph.job_id(job): graph.dependency_ids(job) for job in graph.jobs}
        reached: set[str] = set()
        todo = list(waited_for)
        while todo:
            job_id = todo.pop()
            if job_id not in reached:
                reached.add(job_id)
                todo += self._jobs[job_id].dependencies if job_id in self._jobs else above[job_id]
        circle = [job.id for job in dependents if job.id in reached]
        if circle:
            raise GraphConflictError(
                [f"job {circle[0]!r} would wait for an added job that waits for {circle[0]!r} itself"]
            )

    # ---- time --------------------------------------------------------------------------------------------------------

    def _now(self) -> Reading:
        """Return a reading; at the first one of another boot, carry the due times over by the wall clock."""
        now = self.clock.read()
        if now.boot_id != self._boot_id:
            self._boot_id = now.boot_id
            for job in self._jobs.values():
                if job.due:
                    left_us = max(0, min(job.due.asked_us, job.due.wall_us - now.wall_us))
                    job.due = job.due._replace(boottime_us=now.boottime_us + left_us)
        return now

    def _due(self, delay_s: float) -> _Due | None:
        now, delay_us = self._now(), round(delay_s * 1e6)
        return _Due(delay_us, now.boottime_us + delay_us, now.wall_us + delay_us) if delay_us > 0 else None

    def _due_in_s(self, job: _Job) -> float | None:
        """Return the seconds until an unstarted job's time comes, None if it has come."""
        now = self._now()
        if job.status is not Status.UNSTARTED or not job.due or job.due.boottime_us <= now.boottime_us:
            return None
        return (job.due.boottime_us - now.boottime_us) / 1e6

    def _beat(self) -> _Beat:
        now = self._now()
        return _Beat(now.boot_id, now.monotonic_us)

    def _age_s(self, beat: _Beat | None) -> float:
        now = self._now()
        return (now.monotonic_us - beat.monotonic_us) / 1e6 if beat and beat.boot_id == now.boot_id else math.inf

    def _silent_s(self, job: _Job) -> float:
        """Return the age of the last sign of life: the attempt's own, or its worker's if that is younger."""
        return min(self._age_s(job.beat), self._age_s(self._beats.get(job.worker or "")))

    # ---- predicates, worked out anew each time -----------------------------------------------------------------------

    def _waiting_for(self, job: _Job) -> int:
        return sum(self._jobs[dependency].status is not Status.FINISHED for dependency in job.dependencies)

    def _is_ready(self, job: _Job) -> bool:
        return job.status is Status.UNSTARTED and not self._waiting_for(job) and self._due_in_s(job) is None

    def _is_stuck(self, job: _Job) -> bool:
        return job.status is Status.UNSTARTED and any(
            above.status in (Status.FAILED, Status.ABORTED) for above in self._upstream(job.dependencies)
        )

    def _ready(self, types: Collection[str] | None, run: str | None) -> list[_Job]:
        """Return the ready jobs: higher priority first, then in order of submission."""
        ready = [
            job
            for job in self._jobs.values()
            if (types is None or job.type in types) and run in (None, job.run) and self._is_ready(job)
        ]
        return sorted(ready, key=lambda job: -job.priority)

    def _next_due_s(self, types: Collection[str], run: str | None) -> float | None:
        waits = [
            self._due_in_s(job)
            for job in self._jobs.values()
            if job.type in types and run in (None, job.run) and not self._waiting_for(job)
        ]
        return min((wait for wait in waits if wait is not None), default=None)

    def _upstream(self, ids: Iterable[str]) -> list[_Job]:
        """Return these jobs and all that they depend on."""
        seen: dict[str, _Job] = {}
        todo = list(ids)
        while todo:
            job = self._jobs[todo.pop()]
            if job.id not in seen:
                seen[job.id] = job
                todo += job.dependencies
        return list(seen.values())

    def _downstream(self, ids: Iterable[str]) -> list[_Job]:
        """Return all that depend on these jobs, nearest first, then in order of submission; not these themselves."""
        found: list[_Job] = []
        seen = level = set(ids)
        while level:
            nearest = [job for job in self._jobs.values() if job.id not in seen and level & set(job.dependencies)]
            found += nearest
            level = {job.id for job in nearest}
            seen = seen | level
        return found

    def _started_of(self, type: str) -> int:
        return sum(job.status is Status.STARTED and job.type == type for job in self._jobs.values())

    def _held(self, worker: str) -> list[_Job]:
        return [job for job in self._jobs.values() if job.worker == worker]

    def _known(self, job_id: str) -> _Job:
        if job_id not in self._jobs:
            raise UnknownJobError(job_id, self.nearest_id(job_id))
        return self._jobs[job_id]

    def _superseded(self, verb: str, attempt: Attempt) -> SupersededError:
        return superseded(verb, attempt, self.job_info(attempt.job_id))

    def _info(self, job: _Job) -> JobInfo:
        return JobInfo(
            id=job.id,
            run=job.run,
            name=job.name,
            type=job.type,
            status=job.status,
            args=json.loads(job.args_json),
            priority=job.priority,
            attempt=job.attempt,
            failures=job.failures,
            crashes=job.crashes,
            interruptions=job.interruptions,
            worker=job.worker,
            dependencies=job.dependencies,
            failure=job.failure,
            result=None if job.result_json is None else json.loads(job.result_json),
            ready=self._is_ready(job),
            stuck=self._is_stuck(job),
            due_in_s=self._due_in_s(job),
            waiting_for=self._waiting_for(job),
            request=job.request,
            adder=job.adder,
        )

    # ---- moves -------------------------------------------------------------------------------------------------------

    def _strike_out(self, worker: str) -> None:
        self._workers.pop(worker, None)
        self._beats.pop(worker, None)

    def _reserve(self, worker: str, job: _Job) -> Attempt:
        check_transition(job.id, "reserve", job.status)
        job.status, job.worker = Status.STARTED, worker
        job.attempt += 1
        job.alone = False
        job.due = None
        job.beat, job.reserved_wall_us = self._beat(), self._now().wall_us
        return Attempt(job.id, job.attempt, worker)

    def _reserved(self, attempt: Attempt, job: _Job) -> ReservedJob:
        above = [self._jobs[dependency] for dependency in job.dependencies]
        results = [DependencyResult(dependency.name, dependency.type, dependency.result_json) for dependency in above]
        return ReservedJob(attempt, job.run, job.name, job.type, job.args_json, results, job.failures, job.key)

    def _settle(self, settlement: Settlement) -> list[str]:
        """Settle an attempt, or raise and change nothing; return the ids it aborted."""
        attempt, outcome, failure = settlement.attempt, settlement.outcome, settlement.failure
        job = self._jobs.get(attempt.job_id)
        if job is None or job.holder != attempt:
            if job is not None and job.ended_so(attempt, outcome):
                return []
            raise self._superseded(VERBS[outcome], attempt)
        check_transition(job.id, VERBS[outcome], job.status)
        if outcome is Outcome.FINISHED:
            self._add(job, settlement.added)  # may refuse: before anything is written
        wish = job.request
        if outcome is Outcome.HANDED_BACK:
            job.attempt -= 1
            job.alone = True
        else:
            job.history.append(self._record(job, settlement))
        job.status, job.worker, job.request, job.beat = Status.UNSTARTED, None, None, None
        if outcome is Outcome.FINISHED:
            job.status, job.result_json, job.failure = Status.FINISHED, settlement.result_json, None
            return []
        job.failure = failure or job.failure
        self._count(job, settlement)
        if outcome is Outcome.ABORTED or (job.status is Status.UNSTARTED and wish == "abort"):
            return self._abort(job, failure)
        if job.status is Status.UNSTARTED:
            job.due = self._due(_delay_s(settlement))
        return []

    def _count(self, job: _Job, settlement: Settlement) -> None:
        """Charge an attempt to its job, and fail the job if that was the last straw."""
        if settlement.outcome is Outcome.FAILED:
            job.failures += 1
            job.status = Status.FAILED if settlement.delay_s is None else job.status
        elif settlement.outcome is Outcome.CRASHED:
            job.crashes += 1
            self._check_limit(
                job, "crash", "crashed", count=job.crashes, limit=self.crash_limit, failure=settlement.failure
            )
        elif settlement.outcome is Outcome.INTERRUPTED:
            job.interruptions += 1
            self._check_limit(
                job,
                "interruption",
                "was interrupted",
                count=job.interruptions,
                limit=self.interruption_limit,
                failure=settlement.failure,
            )

    @staticmethod
    def _check_limit(job: _Job, reason: str, verb: str, *, count: int, limit: int, failure: Failure | None) -> None:
        if limit and count >= limit:
            job.status = Status.FAILED
            last = f": {failure.message}" if failure else ""
            job.failure = Failure(reason, f"{verb} {count} times, which is the limit{last}")

    def _abort(self, job: _Job, failure: Failure | None) -> list[str]:
        """Abort an unstarted job and all that depend on it and are not terminal; return their ids."""
        job.failure = failure or job.failure
        aborted = [job, *(below for below in self._downstream([job.id]) if not below.status.terminal)]
        for each in aborted:
            check_transition(each.id, "abort", each.status)
            each.status = Status.ABORTED
        return [each.id for each in aborted]

    def _record(self, job: _Job, settlement: Settlement) -> AttemptRecord:
        evidence = settlement.evidence or Evidence()
        ended_ago_s = evidence.ended_ago_s or 0.0
        return AttemptRecord(
            number=settlement.attempt.number,
            worker=settlement.attempt.worker,
            outcome=settlement.outcome,
            reserved_at=job.reserved_wall_us / 1e6,
            ended_at=self._now().wall_us / 1e6 - ended_ago_s,
            ran_s=None if evidence.began_ago_s is None else evidence.began_ago_s - ended_ago_s,
            exit_code=evidence.exit_code,
            signal=evidence.signal,
            failure=settlement.failure,
            output=evidence.output,
            output_bytes=evidence.output_bytes,
        )


def _content(graph: Graph, job: Job) -> tuple[str, dict[str, Any], list[str]]:
    """Return what makes two submissions of a job the same: its type, the args its handler sees, what it waits for."""
    args: dict[str, Any] = json.loads(merge_args(graph.args_json, job.args_json))
    return job.type, args, graph.dependency_ids(job)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)  # unlike `==`, it tells 1, 1.0 and True apart


def _delay_s(settlement: Settlement) -> float:
    if settlement.delay_s is None:
        return FAULT_DELAY_S if settlement.outcome is Outcome.FAULTED else 0.0
    return settlement.delay_s
