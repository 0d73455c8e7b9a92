"""The small words the clauses are written in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from overseer_lite.errors import SupersededError
from overseer_lite.graph import Graph
from overseer_lite.job import Attempt, Evidence, Failure, Job, JobInfo, Outcome, Settlement, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from overseer_lite.store import Exchange, FullStore


#: The limits a store under test is made with, and the default delay of a fault.
CRASH_LIMIT: Final = 3
INTERRUPTION_LIMIT: Final = 10
FAULT_DELAY_S: Final = 10.0

BOOM: Final = Failure("exception", "no such table", "pkg.DbError", "Traceback: line 1")


def submit(store: FullStore, *jobs: Job, run: str = "r", args: dict[str, Any] | None = None) -> list[str]:
    """Store jobs as the graph of a run; return the ids that are new."""
    return list(store.transact_graph(Graph.of(jobs, id=run, args=args)).created)


def info(store: FullStore, job_id: str) -> JobInfo:
    """Return what is known of a job that is there."""
    found = store.job_info(job_id)
    assert found is not None, f"the store lost job {job_id!r}"
    return found


def start(store: FullStore, job_id: str = "r/a", worker: str = "w1") -> Attempt:
    """Reserve a job that is ready."""
    attempt = store.reserve_job(worker, job_id)
    assert attempt is not None, f"{job_id!r} should be ready: {store.job_info(job_id)}"
    return attempt


def finish(store: FullStore, job_id: str = "r/a", result: Any = None) -> None:
    """Run a job to its good end."""
    store.finish_job(start(store, job_id), result)


def settle(
    store: FullStore,
    attempt: Attempt,
    outcome: Outcome,
    *,
    failure: Failure | None = None,
    delay_s: float | None = None,
    evidence: Evidence | None = None,
) -> Exchange:
    """Settle one attempt and reserve nothing."""
    settlement = Settlement(attempt, outcome, failure=failure, delay_s=delay_s, evidence=evidence)
    return store.exchange(attempt.worker, [settlement], 0, ())


def take(store: FullStore, want: int = 1, types: Sequence[str] = ("a", "b", "c", "d"), **scope: Any) -> list[str]:
    """Reserve by exchange; return the ids in order."""
    return [job.attempt.job_id for job in store.exchange("w1", [], want, types, **scope).jobs]


def snapshot(store: FullStore) -> dict[str, JobInfo | None]:
    """Return all that is known of the jobs clauses use, to see that nothing changed."""
    ids = [f"r/{name}" for name in ("a", "b", "c", "d", "x", "y")]
    return {job_id: store.job_info(job_id) for job_id in ids}


class Move(NamedTuple):
    """A verb on a job: how a store is asked for it."""

    verb: str
    act: Callable[[FullStore, Attempt], object]


def _by_exchange(outcome: Outcome, delay_s: float | None = None) -> Callable[[FullStore, Attempt], object]:
    def act(store: FullStore, attempt: Attempt) -> object:
        exchange = store.exchange(attempt.worker, [Settlement(attempt, outcome, delay_s=delay_s)], 0, ())
        if exchange.refused:
            assert [refusal.attempt for refusal in exchange.refused] == [attempt]
            raise SupersededError(outcome, *attempt, exchange.refused[0].reason)
        return None

    return act


#: Each way to end an attempt, by the eleven verbs and by `exchange`.
ENDS: Final[dict[str, Move]] = {
    "finish": Move("finish", lambda store, attempt: store.finish_job(attempt, 1)),
    "fail": Move("fail", lambda store, attempt: store.fail_job(attempt, BOOM)),
    "retry later": Move("fail", lambda store, attempt: store.fail_job(attempt, BOOM, retry_in_s=5)),
    "abort": Move("abort", lambda store, attempt: store.abort_job(attempt.job_id, BOOM, attempt)),
}
RESETS: Final[dict[str, Move]] = {
    "reset": Move("reset", lambda store, attempt: store.reset_job(attempt)),
    "reset, later": Move("reset", lambda store, attempt: store.reset_job(attempt, delay_s=5)),
    "reset, crashed": Move("reset", lambda store, attempt: store.reset_job(attempt, crashed=True)),
}
EXCHANGED: Final[dict[str, Move]] = {
    "finished": Move("finish", _by_exchange(Outcome.FINISHED)),
    "failed": Move("fail", _by_exchange(Outcome.FAILED)),
    "failed, later": Move("fail", _by_exchange(Outcome.FAILED, 5)),
    "aborted": Move("abort", _by_exchange(Outcome.ABORTED)),
    "faulted": Move("fault", _by_exchange(Outcome.FAULTED)),
    "crashed": Move("reset", _by_exchange(Outcome.CRASHED)),
    "interrupted": Move("reset", _by_exchange(Outcome.INTERRUPTED)),
    "stopped": Move("reset", _by_exchange(Outcome.STOPPED)),
    "reset": Move("reset", _by_exchange(Outcome.RESET)),
}
TERMINAL: Final = (Status.FINISHED, Status.FAILED, Status.ABORTED)


def bring(store: FullStore, status: Status) -> Attempt:
    """Bring job `r/a`, on which `r/b` depends, into a status; return its last attempt, or one it might have had."""
    submit(store, Job("a"), Job("b", dependencies=["a"]))
    if status is Status.UNSTARTED:
        return Attempt("r/a", 1, "w1")
    attempt = start(store)
    if status is Status.FINISHED:
        store.finish_job(attempt, 1)
    elif status is Status.FAILED:
        store.fail_job(attempt, BOOM)
    elif status is Status.ABORTED:
        store.abort_job("r/a", BOOM, attempt)
    return attempt
