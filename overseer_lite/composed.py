"""An exchange made of the eleven verbs, for a store that has no other: several transactions, no groups."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from overseer_lite.errors import InvalidInputError, StoreUnavailableError, SupersededError, UnknownJobError
from overseer_lite.job import Attempt, DependencyResult, Outcome, ReservedJob, Settlement, encode
from overseer_lite.store import Exchange, Refusal, superseded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from overseer_lite.store import Store


def exchange(store: Store, worker: str, settlements: Sequence[Settlement], want: int, types: Iterable[str]) -> Exchange:
    """Settle what is done one by one, then reserve up to `want` ready jobs one by one.

    What the eleven verbs cannot say is left out: an interruption is counted as nothing, evidence is dropped, and when
    the next delayed job is due is not known. Where the store fails after a job was reserved, what has been reserved so
    far is returned, so that no attempt is left without a runner; the next exchange meets the same trouble.

    Raises:
        StoreUnavailableError: The store could not be asked, and nothing was reserved. Settling anew is right.
    """
    refused = []
    for settlement in settlements:
        refusal = _settle(store, settlement)
        if refusal is not None:
            refused.append(refusal)
    return Exchange(_reserve(store, worker, want, list(types)), refused, None)


def _settle(store: Store, settlement: Settlement) -> Refusal | None:
    attempt = settlement.attempt
    try:
        if settlement.outcome is Outcome.FINISHED:
            text = settlement.result_json
            store.finish_job(attempt, None if text is None else json.loads(text), settlement.added)
        elif settlement.outcome is Outcome.FAILED:
            store.fail_job(attempt, settlement.failure, settlement.delay_s)
        elif settlement.outcome is Outcome.ABORTED:
            store.abort_job(attempt.job_id, settlement.failure, attempt)
        else:
            crashed = settlement.outcome is Outcome.CRASHED
            if not store.reset_job(attempt, settlement.delay_s or 0.0, crashed):
                raise superseded("reset", attempt, store.job_info(attempt.job_id))
    except (SupersededError, UnknownJobError) as error:
        return Refusal(attempt, "superseded", str(error))
    except InvalidInputError as error:
        # not only a GraphConflictError: what was added may depend on a job that is not there, or close a cycle
        return Refusal(attempt, "conflict", str(error))
    return None


def _reserve(store: Store, worker: str, want: int, types: list[str]) -> list[ReservedJob]:
    jobs: list[ReservedJob] = []
    tried: set[str] = set()
    try:
        while len(jobs) < want:
            # others may have been faster with all of these: look again until nothing new is ready
            fresh = [job_id for job_id in store.jobs_ready(types, max(100, want)) if job_id not in tried]
            if not fresh:
                break
            for job_id in fresh[: want - len(jobs)]:
                tried.add(job_id)
                attempt = store.reserve_job(worker, job_id)
                job = _reserved(store, attempt) if attempt is not None else None
                if job is not None:
                    jobs.append(job)
    except StoreUnavailableError:
        if not jobs:
            raise
    return jobs


def _reserved(store: Store, attempt: Attempt) -> ReservedJob | None:
    """Return what the handler is to be shown; None if the job was deleted in this very moment.

    Dependencies are read after the reservation, which is safe: they are finished, and a finished job never changes.
    """
    try:
        info = store.job_info(attempt.job_id)
        if info is None:
            return None
        results = [store.job_info(dependency) for dependency in info.dependencies]
    except StoreUnavailableError:
        # Nobody will run it. If this fails as well the attempt falls silent, and is found by that.
        store.reset_job(attempt)
        raise
    return ReservedJob(
        attempt,
        info.run,
        info.name,
        info.type,
        encode(info.args, "args"),
        tuple(
            DependencyResult(each.name, each.type, None if each.result is None else encode(each.result, "result"))
            for each in results
            if each is not None
        ),
        info.failures,
    )
