"""What every report tells of a run, taken from the store."""

from __future__ import annotations

import itertools
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from overseer_lite.errors import UnknownJobError, UnknownRunError, nearest
from overseer_lite.job import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from overseer_lite.job import AttemptRecord, Failure, JobInfo
    from overseer_lite.store import FullStore, RunInfo

#: Endings that were not the handler's own: somebody or something cut the attempt short.
CUT_SHORT: Final = frozenset({Outcome.CRASHED, Outcome.INTERRUPTED, Outcome.STOPPED, Outcome.RESET})

_BATCH: Final = 1000  # jobs a look: what is read of a run is never all in memory, and no reader holds the log for long
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
# Control characters (XML holds none of them but tab and line feed), those that turn the direction of text, line
# separators, surrogates, and the two code points that are no characters.
_FORGING: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def find_run(store: FullStore, run: str) -> RunInfo:
    """Return a run.

    Raises:
        UnknownRunError: There is none of that id.
    """
    info = store.run_info(run)
    if info is None:
        raise UnknownRunError(run, nearest(run, (each.id for each in store.runs(limit=1000))))
    return info


def each_history(store: FullStore, jobs: Iterable[JobInfo]) -> Iterator[tuple[JobInfo, Sequence[AttemptRecord]]]:
    """Yield each job with its attempts that have ended, oldest first, without what they wrote, one look a thousand jobs.

    A job that was pruned since it was listed has none. The store is not asked about one that never began.
    """
    for batch in batched(jobs, _BATCH):
        found = histories(store, [job.id for job in batch if job.attempt])
        for job in batch:
            yield job, found.get(job.id, ())


def histories(store: FullStore, job_ids: Collection[str]) -> Mapping[str, Sequence[AttemptRecord]]:
    """Return the histories of many jobs as `attempts_of` does, of a store that cannot list them as well."""
    if not job_ids or "histories" in store.capabilities:
        return store.attempts_of(job_ids) if job_ids else {}
    found = {}
    for job_id in job_ids:
        with suppress(UnknownJobError):  # pruned since it was listed
            found[job_id] = [each._replace(output="", output_bytes=0) for each in store.attempts(job_id)]
    return found


def batched(jobs: Iterable[JobInfo], size: int) -> Iterator[Sequence[JobInfo]]:
    """Yield the jobs in order, at most so many at a time."""
    left = iter(jobs)
    while batch := tuple(itertools.islice(left, size)):
        yield batch


def ran_s(attempts: Iterable[AttemptRecord]) -> float:
    """Return for how many seconds the handler ran in all these attempts."""
    return sum(each.ran_s or 0.0 for each in attempts)


def plain(text: str) -> str:
    r"""Return text with colours left out, line ends made one, and what could forge or break a report written as `\x1b`."""
    text = _COLOUR.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _FORGING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def failure_line(failure: Failure | None) -> str:
    """Return a failure as the last line of a traceback has it; '' if there is none."""
    if failure is None:
        return ""
    last = plain(failure.message).strip().rpartition("\n")[2]
    exception = plain(failure.exception or "")
    if not last.startswith(exception):
        last = f"{exception}: {last}" if last else exception
    return last or exception or failure.reason


def blockers(jobs: Sequence[JobInfo]) -> dict[str, JobInfo]:
    """Return, for each stuck job, the failed or aborted one nearest above it; those held up by another run are left out."""
    dependents: dict[str, list[JobInfo]] = {}
    for job in jobs:
        for dependency in job.dependencies:
            dependents.setdefault(dependency, []).append(job)
    found: dict[str, JobInfo] = {}
    level = [(job, job) for job in jobs if job.status in (Status.FAILED, Status.ABORTED)]
    while level:
        below = []
        for job, blocker in level:
            for dependent in dependents.get(job.id, ()):
                if dependent.stuck and dependent.id not in found:
                    found[dependent.id] = blocker
                    below.append((dependent, blocker))
        level = below
    return found
