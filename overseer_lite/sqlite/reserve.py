"""Reserving: which ready jobs a worker gets next. Highest priority first, then first in, first out.

The statements lead with the type, so that a million jobs of types a worker lacks are never read past; delayed jobs
enter the ready index when they are due (`promote`), so neither are those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from overseer_lite.job import Attempt, DependencyResult, ReservedJob, merge_args
from overseer_lite.sqlite.transaction import keys_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overseer_lite.sqlite.connection import Database
    from overseer_lite.sqlite.transaction import Moment


_RUNS_KEPT: Final = 1000


class Wanted(NamedTuple):
    """What a worker would take.

    Attributes:
        worker: Its id and key.
        want: At most so many jobs.
        types: Keys and names.
        limits: By type key: at most so many started.
        groups: By type key: at most so many by this exchange.
        run: Only of this run, by key.
    """

    worker: tuple[str, int]
    want: int
    types: Mapping[int, str]
    limits: Mapping[int, int]
    groups: Mapping[int, int]
    run: int | None


class Runs:
    """Ids and shared args of runs, by key; a run never changes."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[str, str | None]] = {}

    def of(self, db: Database, key: int) -> tuple[str, str | None]:
        """Return a run's id and shared args."""
        found = self._known.get(key)
        if found is None:
            row = db.one("run_of", (key,))
            assert row is not None
            if len(self._known) > _RUNS_KEPT:
                self._known.clear()
            found = self._known[key] = (row[0], row[1])
        return found


def reserve(moment: Moment, wanted: Wanted, runs: Runs) -> tuple[list[ReservedJob], dict[int, int], bool]:
    """Reserve ready jobs.

    Returns:
        The jobs in the order in which they are to run; how many of each type were taken; whether some were seen and left.
    """
    keys, more = _candidates(moment.db, wanted)
    if not keys:
        return [], {}, False
    taken: dict[int, int] = {}
    jobs = []
    for job, kind in start(moment, wanted.worker, keys, wanted.types, runs):
        jobs.append(job)
        taken[kind] = taken.get(kind, 0) + 1
    return jobs, taken, more


def promote(moment: Moment, types: Mapping[int, str], run: int | None) -> float | None:
    """Let delayed jobs whose time has come enter the ready index; return the seconds until the next one's time.

    Most often there is none, and one look tells both.
    """
    next_due = next_due_s(moment, types, run)
    if next_due is None or next_due > 0:
        return next_due
    moment.db.run("promote", (keys_json(types), moment.now.boottime_us))
    return next_due_s(moment, types, run)


def next_due_s(moment: Moment, types: Mapping[int, str], run: int | None) -> float | None:
    """Return the seconds until the next delayed job of these types is due, None if there is none."""
    keys = keys_json(types)
    row = moment.db.one("next_due", (keys,)) if run is None else moment.db.one("next_due_in_run", (keys, run))
    if row is None or row[0] is None:
        return None
    due_us: int = row[0]
    return max(0.0, (due_us - moment.now.boottime_us) / 1e6)


def _candidates(db: Database, wanted: Wanted) -> tuple[list[int], bool]:
    """Return which jobs to reserve, by key, and whether others are as ready."""
    count = wanted.want
    if count <= 0 or not wanted.types:
        return [], False
    room = {key: wanted.groups.get(key, count) for key in wanted.types}
    if wanted.limits:
        started: dict[int, int] = {key: number for key, number in db.all("started_by_type")}  # noqa: C416
        for key, limit in wanted.limits.items():
            if key in room:
                room[key] = min(room[key], limit - started.get(key, 0))
    keys = keys_json(key for key, number in room.items() if number > 0)
    if wanted.run is None:
        rows = db.all("candidates", (keys, count + 1))
    else:
        rows = db.all("candidates_in_run", (keys, count + 1, wanted.run))
    chosen: list[int] = []
    for key, kind, alone in rows:
        if alone:
            if chosen or db.one("holds_any", (wanted.worker[1],)) is not None:
                continue
            return [key], len(rows) > 1
        if len(chosen) == count:
            break
        if room[kind] > 0:
            room[kind] -= 1
            chosen.append(key)
    return chosen, len(rows) > len(chosen)


def start(
    moment: Moment, worker: tuple[str, int], keys: Sequence[int], types: Mapping[int, str], runs: Runs
) -> list[tuple[ReservedJob, int]]:
    """Start the next attempt of ready jobs; return each with the key of its type."""
    db, now = moment.db, moment.now
    started: list[tuple[ReservedJob, int]] = []
    rows = db.each("reserve", keys, (worker[1], now.monotonic_us, now.wall_us, now.boottime_us))
    if len(keys) > 1:
        place = {key: n for n, key in enumerate(keys)}
        rows.sort(key=lambda row: place[row[0]])
    for key, job_id, run_key, name, kind, number, args, failures, depends in rows:
        run, shared = runs.of(db, run_key)
        job = ReservedJob(
            Attempt(job_id, number, worker[0]),
            run,
            job_name(job_id, run, name),
            types.get(kind) or type_name(db, kind),
            merge_args(shared, args),
            dependency_results(db, key) if depends else (),
            failures,
            key,
        )
        started.append((job, kind))
    assert len(started) == len(keys), "they were ready in this very transaction"
    return started


def type_name(db: Database, key: int) -> str:
    """Return a type's name."""
    row = db.one("type_name", (key,))
    assert row is not None
    return str(row[0])


def dependency_results(db: Database, key: int) -> list[DependencyResult]:
    """Return what a job's dependencies gave, in declared order."""
    return [
        DependencyResult(job_name(job_id, run, name), kind, value)
        for job_id, run, name, kind, value in db.all("dependency_results", (key,))
    ]


def job_name(job_id: str, run: str, name: str | None) -> str:
    """Return a job's name: as kept, else what follows its run in its id."""
    return name if name is not None else job_id[len(run) + 1 :]
