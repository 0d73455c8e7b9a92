"""How long a run will take from now: from the median of each type, the workers there are, and what waits for what."""

from __future__ import annotations

import statistics
from collections import deque
from typing import TYPE_CHECKING, Final

from overseer_lite.job import Status
from overseer_lite.report.chain import Chains

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from overseer_lite.job import JobInfo

_REMEMBERED: Final = 500  # of each type: a run that slows down is seen to do so


class Estimate:
    """What is known of how long jobs run, by type. A guess for people: nothing may depend on it."""

    def __init__(self) -> None:
        self._ran: dict[str, deque[float]] = {}

    def ended(self, type: str, ran_s: float) -> None:
        """Take in for how long a job of that type ran which finished."""
        self._ran.setdefault(type, deque(maxlen=_REMEMBERED)).append(ran_s)

    def left_s(self, jobs: Collection[JobInfo], workers: int, elapsed_s: Mapping[str, float]) -> float | None:
        """Return the seconds until all that can run has run; None while no job has finished.

        What is left is shared by the workers, but takes no less than its longest chain of dependencies. A type of which
        none has finished is taken to run as long as the others do; jobs that handlers will add are not known yet.

        Args:
            jobs: All of the run.
            elapsed_s: For how long those that are running have been, by id.
        """
        if not self._ran:
            return None
        medians = {kind: statistics.median(ran) for kind, ran in self._ran.items()}
        other = statistics.median(medians.values())
        left = {
            job.id: max(0.0, medians.get(job.type, other) - elapsed_s.get(job.id, 0.0))
            for job in jobs
            if job.status is Status.STARTED or (job.status is Status.UNSTARTED and not job.stuck)
        }
        chains = Chains(left, ((job.id, job.dependencies) for job in jobs))
        return max(sum(left.values()) / max(1, workers), chains.length)
