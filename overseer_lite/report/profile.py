"""Where a run's time went: its slowest jobs, its longest chain, how many jobs ran at a time, what was cut short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from overseer_lite.job import Outcome, Status
from overseer_lite.report.chain import Chains, waits_for
from overseer_lite.report.facts import CUT_SHORT, each_history, find_run, ran_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from overseer_lite.job import AttemptRecord, JobInfo
    from overseer_lite.store import FullStore

PROFILED_UP_TO: Final = 20_000  # jobs: half a second; each costs some 25 us, listing it included
_SLOWEST: Final = 5


class Spent(NamedTuple):
    """A job, and for how many seconds its handler ran in all its attempts."""

    job: JobInfo
    seconds: float


class Recovered(NamedTuple):
    """An attempt that was cut short, and its job, which has finished since."""

    job: JobInfo
    attempt: AttemptRecord


class Profile(NamedTuple):
    """Where a run's time went.

    Attributes:
        slowest: At most five, the slowest first; those that never ran are left out.
        chain: The chain of jobs, each waiting for the one before it or added by it, whose handlers ran longest: the run
            cannot take less, however many workers it has. Dependencies on other runs are left out.
        recovered: Attempts cut short (a signal to runner or worker, a stop) whose job has finished since.
        busy_s: For how long handlers ran, of the attempts that ended after `since`.
        span_s: From the first begin of these to their last end, by the wall clock.
    """

    slowest: Sequence[Spent]
    chain: Sequence[Spent]
    recovered: Sequence[Recovered]
    busy_s: float
    span_s: float

    @property
    def parallel(self) -> float:
        """How many jobs ran at a time, on average."""
        return self.busy_s / self.span_s if self.span_s > 0 else 0.0

    @property
    def chain_s(self) -> float:
        """For how long the handlers of the chain ran."""
        return sum(each.seconds for each in self.chain)


def profile(store: FullStore, run: str, *, since: float = 0.0) -> Profile | None:
    """Return where a run's time went; None for a run of more than 20,000 jobs, which would take too long.

    Args:
        since: Wall time; for `busy_s` and `span_s` only what ended after it counts, as a run may be continued much later.

    Raises:
        UnknownRunError: There is no such run.
    """
    if find_run(store, run).counts.total > PROFILED_UP_TO:
        return None
    jobs = store.jobs(run=run)
    spent: list[Spent] = []
    recovered: list[Recovered] = []
    begins: list[float] = []
    ends: list[float] = []
    busy_s = 0.0
    for job, attempts in each_history(store, jobs):
        spent.append(Spent(job, ran_s(attempts)))
        if job.status is Status.FINISHED:
            recovered += [Recovered(job, each) for each in attempts if was_cut_short(each)]
        for each in attempts:
            if each.ended_at > since and each.ran_s is not None:
                busy_s += each.ran_s
                begins.append(each.ended_at - each.ran_s)
                ends.append(each.ended_at)
    slowest = sorted((each for each in spent if each.seconds > 0), key=lambda each: -each.seconds)[:_SLOWEST]
    span_s = max(ends) - min(begins) if ends else 0.0
    return Profile(slowest, _chain(spent), recovered, busy_s, span_s)


def was_cut_short(attempt: AttemptRecord) -> bool:
    """Return whether an attempt was ended from outside; an operator's reset is no accident."""
    return attempt.outcome in CUT_SHORT and attempt.outcome is not Outcome.RESET


def _chain(spent: Iterable[Spent]) -> list[Spent]:
    by_id = {each.job.id: each for each in spent}
    seconds = {job_id: each.seconds for job_id, each in by_id.items()}
    chains = Chains(seconds, ((job_id, waits_for(each.job)) for job_id, each in by_id.items()))
    return [by_id[job_id] for job_id in chains.longest() if seconds[job_id] > 0]
