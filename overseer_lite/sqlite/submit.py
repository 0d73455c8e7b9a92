"""Submitting: a graph is stored whole, or is there already, or conflicts and nothing is stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from overseer_lite.errors import GraphConflictError, UnknownDependencyError
from overseer_lite.graph import Graph
from overseer_lite.job import Job, merge_args
from overseer_lite.sqlite.codes import FINISHED
from overseer_lite.store import Submitted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from overseer_lite.graph import Resolved
    from overseer_lite.sqlite.connection import Database
    from overseer_lite.sqlite.transaction import Moment


def compare(db: Database, graph: Graph, resolved: Resolved) -> Submitted | None:
    """Return what is there if the whole graph is stored with the same content, None if nothing of it is.

    Raises:
        GraphConflictError: Something in between; the message shows the difference.
    """
    stored = [job_id for job_id in resolved.ids if db.one("job_key", (job_id,)) is not None]
    run = db.one("run", (graph.id,))
    if not stored:
        if run is not None:
            raise GraphConflictError([f"run {graph.id!r} is stored with {run[3]} other jobs"])
        return None
    differences: list[str] = []
    if len(stored) < len(resolved.ids):
        there = set(stored)
        missing = [job_id for job_id in resolved.ids if job_id not in there]
        differences += [f"job {job_id!r} is not stored, but {stored[0]!r} is" for job_id in missing]
    if run is not None and run[3] > len(resolved.ids):
        differences.append(f"run {graph.id!r} is stored with {run[3]} jobs, the graph has {len(resolved.ids)}")
    for index, job in enumerate(graph.jobs):
        differences += _differences(db, resolved.ids[index], job, graph.args_json, graph.dependency_ids(job))
    if differences:
        raise GraphConflictError(differences)
    return Submitted((), tuple(resolved.ids))


def _differences(
    db: Database, job_id: str, job: Job, shared_json: str | None, dependencies: Sequence[str]
) -> Iterator[str]:
    row = db.one("content", (job_id,))
    if row is None:
        return
    key, type_name, shared, own = row
    if type_name != job.type:
        yield f"job {job_id!r} has type {type_name!r} in the store and {job.type!r} here"
    there, here = merge_args(shared, own), merge_args(shared_json, job.args_json)
    if there != here and _canonical(there) != _canonical(here):
        yield f"job {job_id!r} has args {there[:200]} in the store and {here[:200]} here"
    declared = [found for (found,) in db.all("declared_dependencies", (key,))]
    if declared != list(dependencies):
        yield f"job {job_id!r} depends on {declared[:10]} in the store and on {list(dependencies)[:10]} here"


def _canonical(text: str) -> str:
    """Return JSON text in one form a value: Python itself would take 1 and true for equal."""
    return json.dumps(json.loads(text), sort_keys=True)


def insert(moment: Moment, graph: Graph, resolved: Resolved) -> Submitted:
    """Write a graph nothing of which is stored.

    Raises:
        UnknownDependencyError: A job depends on an id that is not stored either.
    """
    db, now = moment.db, moment.now
    row = db.one("add_run", (graph.id, graph.args_json, len(graph.jobs), now.wall_us))
    assert row is not None
    run = row[0]
    last = db.one("last_job")
    assert last is not None
    first = last[0] + 1
    external = _external_keys(db, resolved)
    prefix = f"{graph.id}/"
    types: dict[str, int] = {}
    awaited = bytearray(len(graph.jobs))
    for internal in resolved.internal:
        for other in internal:
            awaited[other] = 1

    def rows() -> Iterator[tuple[Any, ...]]:
        for index, (job, job_id, internal) in enumerate(zip(graph.jobs, resolved.ids, resolved.internal, strict=True)):
            others = external.get(index, ())
            waiting_for = len(internal) + sum(1 for _key, finished in others if not finished)
            due = moment.due(job.delay_s) if job.delay_s else (None, None, None)
            kind = types.get(job.type)
            if kind is None:
                kind = types[job.type] = type_key(db, job.type)
            if waiting_for == 0 and not job.delay_s:
                moment.ready(kind)
            name = None if job_id == prefix + job.name else job.name
            yield (
                first + index, job_id, run, name, kind, job.priority, waiting_for, len(internal) + len(others),
                *due, job.args_json, awaited[index], None,
            )  # fmt: skip

    def edges() -> Iterator[tuple[int, int, int, int]]:
        for index in range(len(graph.jobs)):
            for position, key in enumerate(_ordered(graph, resolved, index, first, external)):
                yield first + index, position, key, 0

    db.many("add_job", rows())
    db.many("add_dependency", edges())
    db.many("set_awaited", {(key,) for keys in external.values() for key, _finished in keys})
    return Submitted(tuple(resolved.ids), ())


def _external_keys(db: Database, resolved: Resolved) -> dict[int, list[tuple[int, bool]]]:
    """Look up what lies outside the graph: key, and whether it is finished."""
    found: dict[str, tuple[int, bool]] = {}
    keys: dict[int, list[tuple[int, bool]]] = {}
    for index, ids in resolved.external.items():
        for job_id in ids:
            if job_id not in found:
                row = db.one("job_key", (job_id,))
                if row is None:
                    raise UnknownDependencyError(resolved.ids[index], job_id)
                found[job_id] = (row[0], row[1] == FINISHED)
        keys[index] = [found[job_id] for job_id in ids]
    return keys


def _ordered(
    graph: Graph, resolved: Resolved, index: int, first: int, external: dict[int, list[tuple[int, bool]]]
) -> Iterator[int]:
    """Yield the keys a job depends on, in declared order."""
    if index not in external:
        for other in resolved.internal[index]:
            yield first + other
        return
    keys = {resolved.ids[other]: first + other for other in resolved.internal[index]}
    keys.update(zip(resolved.external[index], (key for key, _finished in external[index]), strict=True))
    for job_id in graph.dependency_ids(graph.jobs[index]):
        yield keys[job_id]


def add_jobs(moment: Moment, adder: int, run: int, added: Sequence[Job]) -> None:
    """Store what a handler added, in the transaction that finishes it; the adder's dependents wait for it.

    Checked whole before the first write, so that a refusal leaves nothing behind.

    Raises:
        InvalidInputError: An id is stored with other content (GraphConflictError), an added job depends on what is
            neither added nor stored, or would wait for a job that waits for it.
    """
    db = moment.db
    row = db.one("run_of", (run,))
    assert row is not None
    run_id, shared = row
    graph = Graph.of(added, id=run_id)
    resolved = graph.validate()
    external = _external_keys(db, resolved)
    existing: dict[int, tuple[int, bool]] = {}
    differences: list[str] = []
    for index, (job, job_id) in enumerate(zip(graph.jobs, resolved.ids, strict=True)):
        found = db.one("job_key", (job_id,))
        if found is not None:
            existing[index] = (found[0], found[1] == FINISHED)
            differences += _differences(db, job_id, job, shared, graph.dependency_ids(job))
    differences += _circles(db, adder, graph, resolved, external, existing)
    if differences:
        raise GraphConflictError(differences)
    _write_added(moment, adder, run, graph, resolved, external, existing)


def _circles(
    db: Database,
    adder: int,
    graph: Graph,
    resolved: Resolved,
    external: dict[int, list[tuple[int, bool]]],
    existing: dict[int, tuple[int, bool]],
) -> list[str]:
    """Return what would wait for itself: a dependent of the adder, by way of an added job it is to wait for."""
    reached: dict[int, None] = {}
    todo = [index for index, job in enumerate(graph.jobs) if not job.detached]
    stored: dict[int, str] = {}
    while todo:
        index = todo.pop()
        if index in reached:
            continue
        reached[index] = None
        if index in existing:
            stored[existing[index][0]] = resolved.ids[index]
            continue
        todo += resolved.internal[index]
        for (key, _finished), job_id in zip(external.get(index, ()), resolved.external.get(index, ()), strict=True):
            stored[key] = job_id
    circles = []
    for key, job_id in stored.items():
        row = db.one("waits_for_dependent", (key, adder))
        if row is not None:
            found = db.one("id_of", (row[0],))
            assert found is not None
            circles.append(
                f"job {found[0]!r} would wait for itself, by way of {job_id!r}, which was added for it to wait for"
            )
    return circles


def _write_added(
    moment: Moment,
    adder: int,
    run: int,
    graph: Graph,
    resolved: Resolved,
    external: dict[int, list[tuple[int, bool]]],
    existing: dict[int, tuple[int, bool]],
) -> None:
    db = moment.db
    last = db.one("last_job")
    assert last is not None
    dependents = db.all("adders_dependents", (adder,))  # before the added ones, which may depend on the adder too
    keys: list[tuple[int, bool]] = []
    next_key = last[0] + 1
    for index in range(len(graph.jobs)):
        if index in existing:
            keys.append(existing[index])
        else:
            keys.append((next_key, False))
            next_key += 1
    waited_for: set[int] = set()
    for index, job in enumerate(graph.jobs):
        if index in existing:
            continue
        inside = [keys[other] for other in resolved.internal[index]]
        needed = inside + external.get(index, [])
        waiting_for = sum(1 for _key, finished in needed if not finished)
        kind = type_key(db, job.type)
        if waiting_for == 0 and not job.delay_s:
            moment.ready(kind)
        name = None if resolved.ids[index] == f"{graph.id}/{job.name}" else job.name
        due = moment.due(job.delay_s)
        key = keys[index][0]
        db.run(
            "add_job",
            (
                key, resolved.ids[index], run, name, kind, job.priority, waiting_for, len(needed),
                *due, job.args_json, 0, adder,
            ),
        )  # fmt: skip
        waited_for.update(key for key, _finished in needed)
        by_id = {resolved.ids[other]: keys[other][0] for other in resolved.internal[index]}
        by_id.update(zip(resolved.external.get(index, ()), (k for k, _f in external.get(index, ())), strict=True))
        db.many("add_dependency", [(key, n, by_id[need], 0) for n, need in enumerate(graph.dependency_ids(job))])
    awaited = [keys[index] for index, job in enumerate(graph.jobs) if not job.detached]
    for dependent, position in dependents:
        more = [pair for pair in awaited if pair[0] != dependent and db.one("has_edge", (dependent, pair[0])) is None]
        db.many("add_dependency", [(dependent, position + n, key, 1) for n, (key, _finished) in enumerate(more)])
        db.run("wait_for_more", (dependent, sum(1 for _key, finished in more if not finished), len(more)))
        waited_for.update(key for key, _finished in more)
    db.many("set_awaited", [(key,) for key in waited_for])


def type_key(db: Database, name: str) -> int:
    """Return a type's key, made if there is none."""
    row = db.one("add_type", (name,))
    assert row is not None
    key: int = row[0]
    return key
