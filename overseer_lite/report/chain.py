"""The longest chain of what waits for what: by time, where a run's time went or will go; by count, its layers."""

from __future__ import annotations

import graphlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from overseer_lite.job import JobInfo


class Link(NamedTuple):
    """The longest chain that ends with an id.

    Attributes:
        length: Of all it consists of, its last included.
        before: Who stands before the last; None if it is a chain of one.
    """

    length: float
    before: str | None


def waits_for(job: JobInfo) -> Sequence[str]:
    """Return the ids of the jobs after whose end this one begins: its dependencies, and who added it, if anybody did.

    An adder stands in no circle: it has finished before what it adds is there, and what is finished waits for nothing more.
    """
    return job.dependencies if job.adder is None else (*job.dependencies, job.adder)


class Chains:
    """For each id the longest chain that ends with it.

    Args:
        lengths: Of each id; none may be below 0.
        waits_for: What each waits for; ids that have no length are left out, and so is what has no entry.

    Raises:
        graphlib.CycleError: Some wait for one another. No stored run does.
    """

    def __init__(self, lengths: Mapping[str, float], waits_for: Iterable[tuple[str, Iterable[str]]]) -> None:
        above = {
            job_id: [other for other in others if other in lengths] for job_id, others in waits_for if job_id in lengths
        }
        self.links: dict[str, Link] = {}
        for job_id in graphlib.TopologicalSorter(above).static_order():
            before = max(above.get(job_id, ()), key=self.length_to, default=None)
            longest = 0.0 if before is None else self.length_to(before)
            self.links[job_id] = Link(lengths[job_id] + longest, before)

    def length_to(self, job_id: str) -> float:
        """Return the length of the longest chain that ends with a job."""
        return self.links[job_id].length

    @property
    def length(self) -> float:
        """The length of the longest of all; 0 if there is none."""
        return max((link.length for link in self.links.values()), default=0.0)

    def longest(self) -> list[str]:
        """Return the longest of all, first to last; of several the first found, empty if there is none."""
        chain: list[str] = []
        last = max(self.links, key=self.length_to, default=None)
        while last is not None:
            chain.append(last)
            last = self.links[last].before
        return chain[::-1]
