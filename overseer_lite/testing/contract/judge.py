"""What many processes wrote into their journals, held against the promises and against the store they leave behind."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from overseer_lite.job import Outcome, Status
from overseer_lite.testing.elsewhere import JOBS, crowd

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from overseer_lite.store import FullStore

#: How the attempts of a killed process are put back: by `recover`, or by a reset where a store has no such thing.
RECOVERED: Final = (Outcome.INTERRUPTED, Outcome.RESET)


class Tenure(NamedTuple):
    """For how long a process had a job, at least: from its reservation's return to the begin of its settling.

    Attributes:
        outcome: How it was going to settle it; None: it died before.
        known: Whether that was acknowledged.
    """

    job: str
    number: int
    worker: str
    begin_ns: int
    end_ns: int
    results: list[Any]
    outcome: Outcome | None
    known: bool


class Journal(NamedTuple):
    """What one process did."""

    tenures: list[Tenure]
    refused: list[str]
    submits: list[tuple[str, int, bool]]  # run, how many jobs it created, whether that was acknowledged

    @classmethod
    def read(cls, path: Path) -> Journal:
        """Read a journal; a last line that its writer's death cut off does not count."""
        tenures: dict[tuple[Any, ...], list[Tenure]] = {}
        refused, submits, last_ns = [], [], 0
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            last_ns, event, attempt, facts = json.loads(line)
            if event == "reserved":
                results = [None if text is None else json.loads(text) for text in facts["results"]]
                job, number, worker = attempt
                new = Tenure(job, number, worker, last_ns, 0, results, outcome=None, known=False)
                tenures.setdefault(tuple(attempt), []).append(new)
            elif event in ("settling", "settled"):
                last = tenures[tuple(attempt)].pop()
                last = last._replace(outcome=Outcome(facts["outcome"]), known=event == "settled")
                tenures[tuple(attempt)].append(last._replace(end_ns=last.end_ns or last_ns))
            elif event == "refused":
                refused.append(f"attempt {attempt} was refused, and nobody else touched it")
            elif event == "submitting":
                submits.append((facts["run"], 0, False))
            elif event == "submitted":
                submits[-1] = (facts["run"], facts["created"], True)
        whole = [each._replace(end_ns=each.end_ns or last_ns) for found in tenures.values() for each in found]
        return cls(whole, refused, submits)


def judge(store: FullStore, journals: Collection[Journal], killed: Collection[str] = ()) -> list[str]:
    """Return every breach of a promise; none is what is wanted.

    Args:
        killed: The workers that were killed: what they had not acknowledged may or may not have happened.
    """
    by_job: dict[str, list[Tenure]] = {}
    for tenure in sorted((each for journal in journals for each in journal.tenures), key=lambda each: each.begin_ns):
        by_job.setdefault(tenure.job, []).append(tenure)
    breaches = [words for journal in journals for words in journal.refused]
    for job, tenures in by_job.items():
        breaches += _one_after_another(job, tenures)
        breaches += _as_stored(store, job, tenures, killed)
    breaches += _in_order(by_job)
    breaches += _submitted(store, journals, killed)
    left = [f"r/j{n}" for n in range(JOBS) if f"r/j{n}" not in by_job]
    return breaches + [f"job {job!r} was never reserved" for job in left]


def _one_after_another(job: str, tenures: list[Tenure]) -> Iterator[str]:
    for one, two in pairwise(tenures):
        if two.begin_ns < one.end_ns:
            yield f"two had job {job!r} at a time: {one} and {two}"
        if one.outcome is Outcome.FINISHED and one.known:
            yield f"job {job!r} was reserved again after it had finished: {one} and then {two}"
        again = one.outcome is Outcome.HANDED_BACK
        if two.number < one.number or (two.number == one.number and not again):
            yield f"number {two.number} of job {job!r} was given after {one.number}: {one} and then {two}"


def _in_order(by_job: Mapping[str, list[Tenure]]) -> Iterator[str]:
    ends = {job: tenure for job, tenures in by_job.items() for tenure in tenures if tenure.outcome is Outcome.FINISHED}
    graph = crowd()
    for declared in graph.jobs:
        for tenure in by_job.get(graph.job_id(declared), ()):
            expected = []
            for dependency in graph.dependency_ids(declared):
                end = ends.get(dependency)
                if end is None or end.end_ns > tenure.begin_ns:
                    yield f"{tenure} began before its dependency {dependency!r} had finished: {end}"
                expected.append([dependency, end.number if end else None])
            if tenure.results != expected:
                yield f"{tenure} was given other results than {expected}"


def _as_stored(store: FullStore, job: str, tenures: list[Tenure], killed: Collection[str]) -> Iterator[str]:
    info = store.job_info(job)
    last = tenures[-1]
    if info is None or info.status is not Status.FINISHED:
        yield f"job {job!r} is not finished: {info}"
        return
    if (last.outcome, info.attempt, info.result) != (Outcome.FINISHED, last.number, [job, last.number]):
        yield f"job {job!r} ended otherwise than its last attempt: {last}, {info}"
    counted = [each for each in tenures if each.outcome is not Outcome.HANDED_BACK]
    for outcome, count in ((Outcome.FAILED, info.failures), (Outcome.CRASHED, info.crashes)):
        sure = sum(each.outcome is outcome and each.known for each in counted)
        maybe = sum(each.outcome is outcome for each in counted)
        if not sure <= count <= maybe:
            yield f"job {job!r} {outcome} {sure} to {maybe} times, the store counted {count}"
    if "history" in store.capabilities:
        yield from _as_told(store, job, counted, killed)


def _as_told(store: FullStore, job: str, tenures: list[Tenure], killed: Collection[str]) -> Iterator[str]:
    told = {(record.number, record.worker): record.outcome for record in store.attempts(job)}
    if len(told) != len(store.attempts(job)):
        yield f"job {job!r}: an attempt has two rows of history"
    for each in tenures:
        outcome = told.pop((each.number, each.worker), None)
        possible = [each.outcome] if each.known or each.worker not in killed else [each.outcome, *RECOVERED]
        if outcome not in possible:
            yield f"history says {outcome} of {each}"
    for (number, worker), outcome in told.items():
        # reserved, and dead before it could write that down
        if worker not in killed or outcome not in RECOVERED:
            yield f"history tells of attempt {number} of job {job!r}, {outcome}, which worker {worker!r} never had"


def _submitted(store: FullStore, journals: Collection[Journal], killed: Collection[str]) -> Iterator[str]:
    submits = [submit for journal in journals for submit in journal.submits]
    creators = sum(created == JOBS for run, created, known in submits if run == "r" and known)
    if creators > 1 or (creators == 0 and not killed):
        yield f"{creators} processes say that they created the graph all submitted"
    for run, _created, known in submits:
        worker_and_number = run.removeprefix("own-")
        if run == "r":
            continue
        there = sum(store.job_info(f"{run}/{worker_and_number}-{n}") is not None for n in range(3))
        if there != 3 and (known or there):
            yield f"of run {run!r} {there} of 3 jobs are stored, acknowledged: {known}"
