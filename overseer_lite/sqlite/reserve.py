"""Reserving: which ready jobs a worker gets next. Highest priority first, then first in, first out.

The statements lead with the type, so that a million jobs of types a worker lacks are never read past; delayed jobs
enter the ready index when they are due (`promote`), so neither are those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from overseer_lite.job import Attempt, DependencyResult, ReservedJob, merge_args
from overseer_lite.sqlite.transaction import keys_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from overseer_lite.sqlite.connection import Database
    from overseer_lite.sqlite.transaction import Moment


def reserve(
    moment: Moment,
    worker: tuple[str, int],
    want: int,
    types: Mapping[int, str],
    limits: Mapping[int, int],
    run: int | None,
) -> tuple[list[ReservedJob], dict[int, int]]:
    """Reserve up to `want` ready jobs; return them, and how many of each type were taken.

    Args:
        worker: Id and key.
        types: Keys and names.
        limits: By type key: at most so many started.
        run: Only of this run.
    """
    db = moment.db
    promote(moment, types)
    jobs: list[ReservedJob] = []
    taken: dict[int, int] = {}
    for key in _candidates(db, want, types, limits, run):
        job, kind = start(moment, worker, key)
        jobs.append(job)
        taken[kind] = taken.get(kind, 0) + 1
    return jobs, taken


def promote(moment: Moment, types: Mapping[int, str]) -> None:
    """Let delayed jobs whose time has come enter the ready index."""
    moment.db.run("promote", (keys_json(types), moment.now.boottime_us))


def _candidates(
    db: Database, want: int, types: Mapping[int, str], limits: Mapping[int, int], run: int | None
) -> list[int]:
    if want <= 0 or not types:
        return []
    room = dict.fromkeys(types, want)
    if limits:
        started: dict[int, int] = {key: count for key, count in db.all("started_by_type")}  # noqa: C416
        for key, limit in limits.items():
            if key in room:
                room[key] = limit - started.get(key, 0)
    keys = keys_json(key for key, count in room.items() if count > 0)
    rows = db.all("candidates", (keys, want)) if run is None else db.all("candidates_in_run", (keys, want, run))
    chosen: list[int] = []
    for key, kind in rows:
        if len(chosen) == want:
            break
        if room[kind] > 0:
            room[kind] -= 1
            chosen.append(key)
    return chosen


def start(moment: Moment, worker: tuple[str, int], key: int) -> tuple[ReservedJob, int]:
    """Start the next attempt of a ready job; return it and the key of its type."""
    db, now = moment.db, moment.now
    row = db.one("reserve", (key, worker[1], now.monotonic_us, now.wall_us, now.boottime_us))
    assert row is not None, "it was ready in this very transaction"
    job_id, run_key, name, type_key, number, args, failures, depends = row
    run = db.one("run_of", (run_key,))
    kind = db.one("type_name", (type_key,))
    assert run is not None
    assert kind is not None
    results = dependency_results(db, key) if depends else ()
    return (
        ReservedJob(
            Attempt(job_id, number, worker[0]),
            run[0],
            job_name(job_id, run[0], name),
            kind[0],
            merge_args(run[1], args),
            results,
            failures,
            key,
        ),
        type_key,
    )


def dependency_results(db: Database, key: int) -> list[DependencyResult]:
    """Return what a job's dependencies gave, in declared order."""
    return [
        DependencyResult(job_name(job_id, run, name), kind, value)
        for job_id, run, name, kind, value in db.all("dependency_results", (key,))
    ]


def job_name(job_id: str, run: str, name: str | None) -> str:
    """Return a job's name: as kept, else what follows its run in its id."""
    return name if name is not None else job_id[len(run) + 1 :]
