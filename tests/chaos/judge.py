"""The judge: reads the handlers' log and the final store, and says which promises were broken.

Two-sided: a run in which nothing was interrupted fails as well, since it has proved nothing.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tests.chaos.rig import Rig, examine
from tests.chaos.scenario import Figures, Violation

CUT_SHORT = frozenset({"crashed", "interrupted", "stopped", "reset"})
FINISHED = "finished"


class Row(NamedTuple):
    """One attempt as the store's history has it."""

    number: int
    worker: str
    outcome: str
    reserved_at: float
    ended_at: float
    ran_s: float | None
    failure: str | None
    signal: int | None
    exit_code: int | None
    output_bytes: int


class Evidence(NamedTuple):
    """All that is known of a run once it has ended."""

    events: list[dict[str, Any]]
    jobs: dict[str, dict[str, Any]]
    history: dict[str, list[Row]]


def gather(rig: Rig) -> tuple[Evidence, list[str]]:
    """Read log and store; return them, and what is wrong with the file itself (P7)."""
    found = examine(rig.db, rig.env)
    wrong = [f"P7: integrity_check says {line}" for line in found["integrity"] if line != "ok"]
    wrong += [f"P7: foreign_key_check says {row}" for row in found["foreign_keys"]]
    wrong += [f"left: the row of worker {worker}" for worker in found["workers"]]
    jobs = {job["id"]: job for job in rig.ask("jobs")}
    history = {job_id: [Row(*row) for row in rows] for job_id, rows in found["history"].items()}
    return Evidence(rig.events(), jobs, history), wrong


def judge(
    rig: Rig,
    expected: Mapping[str, str] | None = None,
    *,
    interrupted: int = 0,
    least: int = 1,
    most: int | None = None,
    rows: bool = True,
) -> tuple[Figures, Evidence]:
    """Judge a run that has ended; return its figures and what they came from.

    Args:
        expected: The status in which a job must have ended, where it is not finished.
        interrupted: Faults that were done and proved, though no attempt need have been cut short by them: a command that
            died half-way, a process that stood still.
        least: How much of both must have been cut short in all, or the run proves nothing.
        most: How many runners died: each costs one job an attempt, the one that was running. What was only reserved is
            handed back, its number unspent; what had ended and was not settled has spent its attempt, that is all.
        rows: Whether each attempt in the log must be in the history (a file of an earlier moment has not all).

    Raises:
        Violation: A promise was broken, or nothing was interrupted.
    """
    evidence, wrong = gather(rig)
    wrong += rig.trouble
    wrong += weigh(evidence, rig.jobs, expected, interrupted=interrupted, least=least, most=most, rows=rows)
    wrong += leftovers(rig)
    if wrong:
        raise Violation(*wrong)
    begun = sum(event["event"] == "begin" for event in evidence.events)
    figures: Figures = {"jobs": len(rig.jobs), "attempts": begun, "cut_short": _cut_short(evidence)}
    return {**figures, "faults": interrupted, "looks": rig.looks}, evidence


def weigh(
    evidence: Evidence,
    jobs: Mapping[str, Sequence[str]],
    expected: Mapping[str, str] | None = None,
    *,
    interrupted: int = 0,
    least: int = 1,
    most: int | None = None,
    rows: bool = True,
) -> list[str]:
    """Return what log and history show to be wrong; see `judge` for the rest.

    Args:
        jobs: The acknowledged jobs, each with what it depends on.
    """
    wrong = _lost(jobs, evidence, expected or {})
    wrong += _overlaps(evidence)
    wrong += _again(evidence)
    wrong += _order(jobs, evidence)
    wrong += _numbers(evidence, rows=rows)
    wrong += _charged(evidence, most) if most is not None else []
    cut = _cut_short(evidence)
    if cut + interrupted < least:
        wrong.append(
            f"two-sided: {cut} attempts were cut short and {interrupted} other faults done, at least {least} should have been: nothing is proved"
        )
    return wrong


def _cut_short(evidence: Evidence) -> int:
    return sum(row.outcome in CUT_SHORT for history in evidence.history.values() for row in history)


def _lost(jobs: Mapping[str, Sequence[str]], evidence: Evidence, expected: Mapping[str, str]) -> list[str]:
    wrong = []
    for job_id in jobs:
        want = expected.get(job_id, FINISHED)
        job = evidence.jobs.get(job_id)
        if job is None:
            wrong.append(f"lost: job {job_id} was acknowledged and is not in the store (P3)")
        elif job["status"] != want:
            wrong.append(f"lost: job {job_id} is {job['status']}, should be {want} ({job['failure']})")
    wrong += [
        f"job {job_id} is in the store and was never acknowledged" for job_id in evidence.jobs.keys() - jobs.keys()
    ]
    return wrong


def _overlaps(evidence: Evidence) -> list[str]:
    return [
        f"P1: attempt {event['attempt']} of {event['job']} overlaps another"
        for event in evidence.events
        if event["event"] == "overlap"
    ]


def _again(evidence: Evidence) -> list[str]:
    """P2: nothing began again after the attempt that the store recorded as finished."""
    wrong = []
    ended = {(e["job"], e["attempt"]): e["t_ns"] for e in evidence.events if e["event"] == "end"}
    for job_id, rows in evidence.history.items():
        finished = [row.number for row in rows if row.outcome == FINISHED]
        if len(finished) > 1:
            wrong.append(f"P2: {job_id} is recorded finished {len(finished)} times")
        for event in evidence.events:
            if event["job"] != job_id or event["event"] != "begin" or not finished:
                continue
            end = ended.get((job_id, finished[0]))
            if event["attempt"] > finished[0] or (end is not None and event["t_ns"] > end):
                wrong.append(f"P2: {job_id} was finished by attempt {finished[0]}, attempt {event['attempt']} began")
        if evidence.jobs[job_id]["status"] == FINISHED:
            if not finished:
                wrong.append(f"{job_id} is finished and its history has no such attempt")
            elif (job_id, finished[0]) not in ended:
                wrong.append(f"{job_id} is finished by attempt {finished[0]}, whose handler never ended")
    return wrong


def _order(jobs: Mapping[str, Sequence[str]], evidence: Evidence) -> list[str]:
    """P4: a job begins only after the ends of all its dependencies."""
    wrong = []
    ends: dict[str, int] = {}
    for event in evidence.events:
        if event["event"] == "end":
            rows = evidence.history.get(event["job"], [])
            if any(row.outcome == FINISHED and row.number == event["attempt"] for row in rows):
                ends[event["job"]] = event["t_ns"]
    for event in evidence.events:
        if event["event"] != "begin":
            continue
        for dependency in jobs.get(event["job"], ()):
            if dependency not in ends or ends[dependency] > event["t_ns"]:
                wrong.append(f"P4: {event['job']} began before {dependency} had finished")
    return wrong


def _numbers(evidence: Evidence, *, rows: bool) -> list[str]:
    """P5: no number is given twice, and each attempt that began is in the history."""
    begun: dict[tuple[str, int], int] = defaultdict(int)
    for event in evidence.events:
        if event["event"] == "begin":
            begun[event["job"], event["attempt"]] += 1
    wrong = [
        f"P5: attempt {number} of {job} began {times} times" for (job, number), times in begun.items() if times > 1
    ]
    if rows:
        known = {(job_id, row.number) for job_id, history in evidence.history.items() for row in history}
        wrong += [f"P5: attempt {number} of {job} began and is in no history" for job, number in begun.keys() - known]
    return wrong


def _charged(evidence: Evidence, deaths: int) -> list[str]:
    """A death is charged to the job that was running, not to those that waited behind it."""
    ended = {(e["job"], e["attempt"]) for e in evidence.events if e["event"] in ("end", "raised")}
    found = [
        f"{row.number} of {job_id}"
        for job_id, rows in evidence.history.items()
        for row in rows
        if row.outcome in CUT_SHORT and (job_id, row.number) not in ended
    ]
    if len(found) <= deaths:
        return []
    return [f"{len(found)} attempts were charged for {deaths} deaths, some of which had not begun: {found[:8]}"]


def leftovers(rig: Rig) -> list[str]:
    """Nothing is left: no process with any sign of the rig, no file of a worker."""
    wrong = [f"left: process {process.pid} ({process.role}, {_command(process.pid)})" for process in rig.processes()
             if process.role != "command"]  # fmt: skip
    for name in ("workers", "bells", "output", "payloads"):
        wrong += [f"left: {name}/{entry}" for entry in os.listdir(os.path.join(f"{rig.db}.d", name))]
    return wrong


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()[:120].replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "gone by now"
