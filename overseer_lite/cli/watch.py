"""What happens in a run, found by looking at the store again and again, at a cost that stays small.

Counts first; jobs are listed only where something moved, and not at all in runs of more than `LISTED_UP_TO` jobs,
where only counts and failures are told. No look begins sooner than ten times as long after the last as that took.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from overseer_lite.cli import show as say
from overseer_lite.cli.estimate import Estimate
from overseer_lite.job import Outcome, Status
from overseer_lite.liveness.identity import signal_name
from overseer_lite.report.facts import histories
from overseer_lite.store import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from overseer_lite.job import AttemptRecord, JobInfo
    from overseer_lite.store import FullStore

LISTED_UP_TO: Final = 2000
_FAILURES_LISTED: Final = 20
_RELIST_S: Final = 1.0
_SHARE: Final = 10


class Event(NamedTuple):
    """Something that happened to a job.

    Attributes:
        word: `started`, `finished`, `failed`, or how else an attempt ended.
        bad: Whether somebody should look at it.
        at: When, in seconds since 1970; for what the store keeps no time of, when it was seen.
        number: Of the attempt that ended; 0 where none did.
        again: Whether the job is to be run again after it, or has been.
    """

    word: str
    job: str
    detail: str = ""
    bad: bool = False
    at: float = 0.0
    number: int = 0
    again: bool = False


class _Seen(NamedTuple):
    status: Status
    attempt: int


class Watch:
    """One run as it goes on. `look` returns what happened since it was last called.

    Attributes:
        counts: As of the last look.
        jobs: As of the last time they were listed, at most a second before the last look; empty in a large run.
        estimate: What was seen of how long jobs run.
    """

    def __init__(self, store: FullStore, run: str) -> None:
        self.counts = Counts()
        self.jobs: list[JobInfo] = []
        self.estimate = Estimate()
        self._store = store
        self._run = run
        self._seen: dict[str, _Seen] = {}
        self._told: dict[str, int] = {}
        self._next_look = 0.0
        self._next_list = 0.0
        self._failed: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        """Take in how things stand, so that only what happens from now on is told."""
        self.counts = self._store.counts(self._run)
        self._failed = {job.id for job in self._failed_jobs()}
        if self.listed:
            self.jobs = self._store.jobs(run=self._run)
            for job in self.jobs:
                self._seen[job.id] = _Seen(job.status, job.attempt)
                self._told[job.id] = job.attempt - (job.status is Status.STARTED)

    @property
    def listed(self) -> bool:
        """Whether the run is small enough for each job to be told of."""
        return self.counts.total <= LISTED_UP_TO

    def look(self, *, last: bool = False) -> list[Event]:
        """Return what happened since the last look; nothing if that was just now, unless this is the last one."""
        began = time.monotonic()
        if not last and began < self._next_look:
            return []
        before, self.counts = self.counts, self._store.counts(self._run)
        events: list[Event] = []
        if not self.listed:
            self.jobs = []
            events = self._new_failures() if self.counts != before else []
        elif last or self.counts != before or began >= self._next_list:
            events = self._listed_events()
            self._next_list = began + _RELIST_S
        self._next_look = time.monotonic() + _SHARE * (time.monotonic() - began)
        return events

    def _failed_jobs(self) -> list[JobInfo]:
        return self._store.jobs(run=self._run, status=Status.FAILED) if self.counts.failed else []

    def _new_failures(self) -> list[Event]:
        failed = self._failed_jobs()
        new = [job for job in failed if job.id not in self._failed]
        self._failed = {job.id for job in failed}
        now_s = time.time()
        told = [
            Event("failed", job.id, say.failure_line(job.failure), bad=True, at=now_s, number=job.attempt)
            for job in new[:_FAILURES_LISTED]
        ]
        more = len(new) - len(told)
        return [*told, Event("failed", f"and {more:,} more", bad=True, at=now_s)] if more else told

    def _listed_events(self) -> list[Event]:
        ended: list[Event] = []
        started: list[Event] = []
        now_s = time.time()
        self.jobs = self._store.jobs(run=self._run)
        moved = [job for job in self.jobs if self._seen.get(job.id) != _Seen(job.status, job.attempt)]
        asked = [job.id for job in moved if self._has_ended(job) or (job.attempt and job.status is Status.ABORTED)]
        history = histories(self._store, asked)
        for job in moved:
            before = self._seen.get(job.id, _Seen(Status.UNSTARTED, 0))
            now = self._seen[job.id] = _Seen(job.status, job.attempt)
            attempts = history.get(job.id, ())
            if job.status is Status.FAILED:
                self._failed.add(job.id)  # told here: not again should handlers make the run a large one
            ended += self._endings(job, attempts)
            if job.status is Status.STARTED and (before.status is not Status.STARTED or now.attempt != before.attempt):
                again = f"attempt {job.attempt}" if job.attempt > 1 else ""
                started.append(Event("started", job.id, again, at=now_s))
            if job.status is Status.ABORTED and before.status is not Status.ABORTED and not _ended_so(job, attempts):
                ended.append(Event("aborted", job.id, say.failure_line(job.failure), bad=True, at=now_s))
                self._told[job.id] = job.attempt
        return sorted(ended, key=lambda event: event.at) + started

    def _has_ended(self, job: JobInfo) -> bool:
        """Return whether an attempt of it may have ended whose end was not told."""
        told = self._told.get(job.id, 0)
        return job.attempt > told + (job.status is Status.STARTED)

    def _endings(self, job: JobInfo, attempts: Sequence[AttemptRecord]) -> list[Event]:
        """Return an event for each attempt that was settled since the last look."""
        if not self._has_ended(job):
            return []
        told = self._told.get(job.id, 0)
        events = []
        for each in attempts:
            if each.number <= told:
                continue
            self._told[job.id] = each.number
            last = each.number == job.attempt
            word = each.outcome.value
            words = [f"attempt {each.number}"] if each.number > 1 or each.outcome is not Outcome.FINISHED else []
            if each.ran_s is not None:
                words.append(say.duration(each.ran_s))
            if each.signal and signal_name(each.signal) not in say.failure_line(each.failure):
                words.append(say.how_ended(each).removeprefix(word).strip(" ()"))
            if each.outcome is not Outcome.FINISHED:
                message = say.failure_line(each.failure)
                words += [message] if message else []
                if last and job.status is Status.UNSTARTED:
                    words.append(f"again in {say.duration(job.due_in_s)}" if job.due_in_s else "to be run again")
            bad = each.outcome is not Outcome.FINISHED
            if not bad and each.ran_s is not None:
                self.estimate.ended(job.type, each.ran_s)
            again = not last or job.status in (Status.UNSTARTED, Status.STARTED)
            events.append(Event(word, job.id, ", ".join(words), bad, each.ended_at, each.number, again))
        return events


def _ended_so(job: JobInfo, attempts: Iterable[AttemptRecord]) -> bool:
    """Return whether its last attempt ended as aborted: told with that attempt, not once more of the job."""
    return any(each.number == job.attempt and each.outcome is Outcome.ABORTED for each in attempts)
