"""Settling: an attempt ends, its job goes where the table says, its dependents are released or given up.

Everything here runs inside a write transaction that somebody else began. The fence is checked first, always: a job
leaves `started` only by the attempt that holds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from overseer_lite.errors import SupersededError
from overseer_lite.job import VERBS, Attempt, Failure, Outcome, Settlement
from overseer_lite.sqlite import submit
from overseer_lite.sqlite.codes import ABORTED, FAILED, FINISHED, OUTCOME_CODE, STARTED, STATUS, UNSTARTED
from overseer_lite.sqlite.transaction import failure_text, keys_json, storable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overseer_lite.sqlite.connection import Database
    from overseer_lite.sqlite.transaction import Moment

FAULT_DELAY_S: Final = 10.0


class Limits(NamedTuple):
    """How many crashes and interruptions a job may have; 0: any number."""

    crashes: int = 3
    interruptions: int = 10


class Holder(NamedTuple):
    """A job as a settlement finds it; the columns of the statement of that name."""

    key: int
    status: int
    attempt: int
    worker: str | None
    run: int
    type: int
    failures: int
    crashes: int
    interruptions: int
    request: str | None
    reserved_wall_us: int | None
    failure: str | None


class _Move(NamedTuple):
    """Where a settlement takes a job."""

    status: int
    attempt: int
    failures: int
    crashes: int
    interruptions: int
    failure: str | None
    delay_s: float | None = None


def settle(moment: Moment, settlement: Settlement, limits: Limits) -> list[str]:
    """Settle one attempt, or raise before anything of it is written; return the ids it aborted, the job first.

    Raises:
        SupersededError: The attempt does not hold the job, and was not settled this way before.
        InvalidInputError: What the handler added cannot be stored; the attempt still holds.
    """
    db = moment.db
    attempt = settlement.attempt
    row = db.one("holder", (attempt.job_id,))
    if row is None:
        raise SupersededError(VERBS[settlement.outcome], *attempt, "there is no such job")
    job = Holder(*row)
    if job.status != STARTED or job.attempt != attempt.number or job.worker != attempt.worker:
        if _settled_the_same_way(db, job, settlement):
            return []
        raise SupersededError(VERBS[settlement.outcome], *attempt, _stands(job))
    if settlement.outcome is Outcome.FINISHED and settlement.added:
        submit.add_jobs(moment, job.key, job.run, settlement.added)
    move = _move(job, settlement, limits)
    due = moment.due(move.delay_s) if move.status == UNSTARTED else (None, None, None)
    changed = db.run(
        "settle",
        (
            job.key, attempt.number, attempt.worker, move.status, move.attempt, move.failures, move.crashes,
            move.interruptions, move.failure, *due, int(settlement.outcome is Outcome.HANDED_BACK),
        ),
    )  # fmt: skip
    assert changed == 1, "the holder was read in this very transaction"
    if settlement.outcome is not Outcome.HANDED_BACK:
        _write_history(moment, [(job.key, settlement, job.reserved_wall_us)])
    if move.status == FINISHED:
        if settlement.result_json is not None:
            db.run("add_result", (job.key, settlement.result_json))
        release(moment, job.key)
    elif move.status == ABORTED:
        return [attempt.job_id, *abort_dependents(moment, job.key)]
    elif move.status == UNSTARTED and not move.delay_s:
        moment.ready(job.type)
    return []


def _move(job: Holder, settlement: Settlement, limits: Limits) -> _Move:
    """Decide where an attempt's end takes its job: the arrows out of `started`."""
    failures, crashes, interruptions = job.failures, job.crashes, job.interruptions
    failure, delay_s = settlement.failure, settlement.delay_s or None
    keep = job.failure
    status, number = UNSTARTED, job.attempt
    match settlement.outcome:
        case Outcome.FINISHED:
            status, failure, keep = FINISHED, None, None
        case Outcome.ABORTED:
            status = ABORTED
        case Outcome.FAILED:
            failures += 1
            if settlement.delay_s is None:
                status = FAILED
        case Outcome.FAULTED:
            delay_s = FAULT_DELAY_S if settlement.delay_s is None else delay_s
        case Outcome.CRASHED:
            crashes += 1
            status, failure = _at_limit("crash", crashes, limits.crashes, failure)
        case Outcome.INTERRUPTED:
            interruptions += 1
            status, failure = _at_limit("interruption", interruptions, limits.interruptions, failure)
        case Outcome.HANDED_BACK:
            number -= 1
        case Outcome.STOPPED | Outcome.RESET:
            pass
    if status == UNSTARTED and job.request == "abort":
        status = ABORTED
    return _Move(status, number, failures, crashes, interruptions, failure_text(failure) or keep, delay_s)


def _at_limit(reason: str, count: int, limit: int, failure: Failure | None) -> tuple[int, Failure | None]:
    if not limit or count < limit:
        return UNSTARTED, failure
    verb = "crashed" if reason == "crash" else "was interrupted"
    last = f": {failure.message}" if failure else ""
    return FAILED, Failure(reason, f"{verb} {count} times, which is the limit{last}")


def _settled_the_same_way(db: Database, job: Holder, settlement: Settlement) -> bool:
    attempt = settlement.attempt
    if settlement.outcome is Outcome.HANDED_BACK:
        return job.status == UNSTARTED and job.attempt == attempt.number - 1
    return db.one("attempt_outcome", (job.key, attempt.number)) == (attempt.worker, OUTCOME_CODE[settlement.outcome])


def _stands(job: Holder) -> str:
    if job.status == STARTED:
        return f"attempt {job.attempt} of worker {job.worker!r} stands in its place"
    return f"the job is {STATUS[job.status]}"


def is_plain(settlement: Settlement, worker: str) -> bool:
    """Whether a settlement can be made together with others: a worker's own, finished, nothing added."""
    return settlement.outcome is Outcome.FINISHED and not settlement.added and settlement.attempt.worker == worker


def finish_many(moment: Moment, worker: tuple[str, int], settlements: Sequence[Settlement]) -> list[Settlement]:
    """Settle plain settlements of one worker together; return those that are left to `settle`.

    The fence is in the statement; what it does not match is looked at one by one, where the reasons are told apart.
    """
    if not settlements:
        return []
    db = moment.db
    plain = {one.attempt.job_id: one for one in settlements}
    by_number: dict[int, list[str]] = {}
    for job_id, one in plain.items():
        by_number.setdefault(one.attempt.number, []).append(job_id)
    rows = [row for number, ids in by_number.items() for row in db.each("finish", ids, (number, worker[1]))]
    done = [(key, plain[job_id], reserved_wall_us) for job_id, key, reserved_wall_us, _awaited in rows]
    results = [(key, one.result_json) for key, one, _reserved in done if one.result_json is not None]
    if results:
        db.many("add_result", results)
    _write_history(moment, done)
    awaited = [(row[1],) for row in rows if row[3]]
    if awaited:
        for type_key, waiting_for, status in db.many_rows("release", awaited):
            if waiting_for == 0 and status == UNSTARTED:
                moment.ready(type_key)
    settled = {id(one) for _key, one, _reserved in done}
    return [one for one in settlements if id(one) not in settled]


def _write_history(moment: Moment, done: Sequence[tuple[int, Settlement, int | None]]) -> None:
    """Write a row of history for each, and what it left in words, if it did."""
    wall_us = moment.now.wall_us
    attempts: list[tuple[Any, ...]] = []
    words: list[tuple[Any, ...]] = []
    for key, settlement, reserved_wall_us in done:
        (_job_id, number, worker), evidence, failure = settlement.attempt, settlement.evidence, settlement.failure
        ended_us = wall_us
        ran_us = exit_code = signal = None
        if evidence is not None:
            began_ago_s, ended_ago_s, exit_code, signal, output, output_bytes = evidence
            ended_us -= round((ended_ago_s or 0.0) * 1_000_000)
            if began_ago_s is not None:
                ran_us = max(0, round((began_ago_s - (ended_ago_s or 0.0)) * 1_000_000))
            if failure is not None or output or output_bytes:
                words.append((key, number, failure_text(failure), storable(output), output_bytes))
        elif failure is not None:
            words.append((key, number, failure_text(failure), "", 0))
        code = OUTCOME_CODE[settlement.outcome]
        attempts.append((key, number, worker, code, reserved_wall_us, ended_us, ran_us, exit_code, signal))
    moment.db.many("add_attempt", attempts)
    if words:
        moment.db.many("add_words", words)


def release(moment: Moment, key: int) -> None:
    """Tell a finished job's dependents that they wait for one less."""
    for type_key, waiting_for, status in moment.db.all("release", (key,)):
        if waiting_for == 0 and status == UNSTARTED:
            moment.ready(type_key)


def abort_dependents(moment: Moment, key: int) -> list[str]:
    """Give up everything that depends on a job and is not terminal; return the ids, nearest first."""
    aborted: list[str] = []
    seen = {key}
    level = [key]
    while level:
        found = moment.db.all("dependents_of", (keys_json(level),))
        level = []
        for dependent, job_id, status in found:
            if dependent in seen:
                continue
            seen.add(dependent)
            level.append(dependent)
            if status == UNSTARTED:
                moment.db.run("abort", (dependent,))
                aborted.append(job_id)
    if aborted:
        moment.due_changed = True  # whoever waits for the end of a run looks again
    return aborted


def dependents(db: Database, keys: list[int]) -> list[str]:
    """Return all transitive dependents, nearest first."""
    ids: list[str] = []
    seen = set(keys)
    level = keys
    while level:
        found = [row for row in db.all("dependents_of", (keys_json(level),)) if row[0] not in seen]
        level = [row[0] for row in found]
        seen.update(level)
        ids += [row[1] for row in found]
    return ids


def holds(db: Database, attempt: Attempt) -> bool:
    """Whether an attempt holds its job."""
    row = db.one("holder", (attempt.job_id,))
    if row is None:
        return False
    job = Holder(*row)
    return job.status == STARTED and job.attempt == attempt.number and job.worker == attempt.worker
