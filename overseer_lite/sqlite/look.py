"""Looking: what the store knows, read in one snapshot, without the gate."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from overseer_lite.errors import UnknownJobError
from overseer_lite.job import Attempt, AttemptRecord, JobInfo, Status, merge_args
from overseer_lite.sqlite.codes import OUTCOME, STATUS, UNSTARTED
from overseer_lite.sqlite.reserve import job_name
from overseer_lite.sqlite.transaction import failure_from, keys_json
from overseer_lite.store import Counts, RunInfo, WorkerRecord

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

    from overseer_lite.clock import Clock, Reading
    from overseer_lite.sqlite.connection import Database, Row


class Reader:
    """One snapshot, and the moment at which it is looked at."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._read = db.read()
        self._clock = clock

    def __enter__(self) -> Self:
        self._read.__enter__()
        self._now = self._clock.read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._read.__exit__(kind, error, trace)

    def job(self, job_id: str) -> JobInfo | None:
        """Return one job with args and result."""
        row = self._db.one("job", (job_id,))
        if row is None:
            return None
        stuck = row[5] == UNSTARTED and self._db.one("is_stuck", (row[0],)) is not None
        return self._info(row, stuck=stuck)

    def jobs(self, filters: dict[str, Any]) -> list[JobInfo]:
        """List jobs, without args and results."""
        stuck = {key for key, _run in self._db.all("stuck")}
        return [self._info(row, stuck=row[0] in stuck) for row in self._db.all("list", filters)]

    def _info(self, row: Row, *, stuck: bool) -> JobInfo:
        (
            key, job_id, run, name, kind, status, shared, own, priority, attempt, failures, crashes, interruptions,
            worker, failure, result, due_us, waiting_for, request, adder,
        ) = row  # fmt: skip
        unstarted = status == UNSTARTED
        due_in_s = None
        if unstarted and due_us is not None and due_us > self._now.boottime_us:
            due_in_s = (due_us - self._now.boottime_us) / 1e6
        return JobInfo(
            id=job_id,
            run=run,
            name=job_name(job_id, run, name),
            type=kind,
            status=STATUS[status],
            args=json.loads(merge_args(shared, own)),
            priority=priority,
            attempt=attempt,
            failures=failures,
            crashes=crashes,
            interruptions=interruptions,
            worker=worker,
            dependencies=tuple(found for (found,) in self._db.all("dependencies", (key,))),
            failure=failure_from(failure),
            result=None if result is None else json.loads(result),
            ready=unstarted and waiting_for == 0 and due_in_s is None,
            stuck=stuck,
            due_in_s=due_in_s,
            waiting_for=waiting_for,
            request=request,
            adder=adder,
        )

    def ready(self, types: Collection[str] | None, limit: int) -> list[str]:
        """Return ids of ready jobs in order of reservation."""
        known = {name: key for name, key in self._db.all("types")}  # noqa: C416 - rows are tuples of any length
        keys = keys_json(known.values() if types is None else [known[name] for name in types if name in known])
        rows = self._db.all("ready", (keys, limit)) + self._db.all("due", (keys, self._now.boottime_us))
        rows.sort(key=lambda row: (-row[0], row[1]))
        return [job_id for _priority, _key, job_id in rows[:limit]]

    def silent(self, silent_for_s: float) -> list[Attempt]:
        """Return attempts whose last beat is older than that, the oldest first."""
        since = self._now.monotonic_us - round(silent_for_s * 1e6)
        return [Attempt(*row[:3]) for row in self._db.all("silent", (since,))]

    def workers(self) -> list[WorkerRecord]:
        """Return the registered workers."""
        found = []
        for row in self._db.all("workers"):
            worker, pid, runner_pid, identity, supervisor, app, app_file, app_mtime, types, run, beat_us = row
            known = json.loads(types)
            silent_s = float("inf") if beat_us is None else (self._now.monotonic_us - beat_us) / 1e6
            found.append(
                WorkerRecord(
                    id=worker,
                    pid=pid,
                    runner_pid=runner_pid,
                    identity=identity,
                    supervisor=supervisor,
                    app=app,
                    app_file=app_file,
                    app_mtime=app_mtime,
                    types=tuple(known),
                    run=run,
                    silent_s=silent_s,
                    limits={} if isinstance(known, list) else {kind: n for kind, n in known.items() if n is not None},
                )
            )
        return found

    def counts(self, run: str | None) -> Counts:
        """Count jobs by status."""
        now = self._now.boottime_us
        stuck = self._db.all("stuck")
        if run is None:
            rows, ready = self._db.all("count"), self._db.one("count_ready", (now,))
        else:
            key = self._db.one("run", (run,))
            if key is None:
                return Counts()
            rows, ready = self._db.all("count_in_run", (key[0],)), self._db.one("count_ready_in_run", (now, key[0]))
            stuck = [row for row in stuck if row[1] == key[0]]
        assert ready is not None
        by_status = {STATUS[status].value: number for status, number in rows}
        return Counts(**by_status, ready=ready[0], stuck=len(stuck))

    def attempts(self, job_id: str) -> list[AttemptRecord]:
        """Return a job's history."""
        if self._db.one("job_key", (job_id,)) is None:
            raise UnknownJobError(job_id, nearest_id(self._db, job_id))
        return [_record(row) for row in self._db.all("attempts", (job_id,))]

    def attempts_of(self, job_ids: Collection[str]) -> dict[str, list[AttemptRecord]]:
        """Return the histories of many jobs, without outputs."""
        found: dict[str, list[AttemptRecord]] = {}
        for job_id, *row in self._db.all("attempts_of", (keys_json(dict.fromkeys(job_ids)),)):
            found.setdefault(job_id, []).append(_record(tuple(row)))
        return found

    def runs(self, limit: int) -> list[RunInfo]:
        """Return runs, newest first."""
        return [RunInfo(row[1], row[4] / 1e6, self.counts(row[1])) for row in self._db.all("runs", (limit,))]

    def run_info(self, run: str) -> RunInfo | None:
        """Return one run."""
        row = self._db.one("run", (run,))
        return None if row is None else RunInfo(row[1], row[4] / 1e6, self.counts(run))


def _record(row: Row) -> AttemptRecord:
    number, worker, outcome, reserved, ended, ran_us, exit_code, signal, failure, output, output_bytes = row
    return AttemptRecord(
        number=number,
        worker=worker,
        outcome=OUTCOME[outcome],
        reserved_at=reserved / 1e6,
        ended_at=ended / 1e6,
        ran_s=None if ran_us is None else ran_us / 1e6,
        exit_code=exit_code,
        signal=signal,
        failure=failure_from(failure),
        output=output or "",
        output_bytes=output_bytes or 0,
    )


def ready_now(db: Database, job_id: str, now: Reading) -> int | None:
    """Return the key of a job if it is ready."""
    row = db.one("job", (job_id,))
    if row is None or STATUS[row[5]] is not Status.UNSTARTED or row[17] != 0:
        return None
    if row[16] is not None and row[16] > now.boottime_us:
        return None
    key: int = row[0]
    return key


def nearest_id(db: Database, job_id: str) -> str | None:
    """Return the stored id most like the given one, None if none is like it."""
    import difflib

    for length in (len(job_id) // 2, 1, 0):
        prefix = job_id[:length]
        found = [row[0] for row in db.all("similar_ids", (prefix, prefix + "\U0010ffff"))]
        near = difflib.get_close_matches(job_id, found, n=1)
        if near:
            return str(near[0])
    return None
