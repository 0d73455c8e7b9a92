"""The command `events`: what happened, a line each, in order of time."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.session import check_run, command, run_option, session
from overseer_lite.job import Outcome, Status
from overseer_lite.report.facts import each_history

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overseer_lite.job import AttemptRecord, JobInfo
    from overseer_lite.store import FullStore

_PAUSE_S: Final = 0.2
_SHARE: Final = 10  # following a large store must not keep it busy: it rests ten times as long as a look takes


class Event(NamedTuple):
    """Something that happened.

    Attributes:
        at: Seconds since 1970; None if it lies in the past and the store keeps no time of it.
        event: `submitted` (a run), `started`, or how an attempt ended; `aborted` also for a job that was not started.
        job: The job's id; None where it happened to the run.
        ran_s: Seconds from the handler's begin to its end; None if it never began, or has not ended.
        message: Why, where it did not end well.
    """

    at: float | None
    event: str
    run: str
    job: str | None = None
    attempt: int | None = None
    worker: str | None = None
    ran_s: float | None = None
    message: str = ""


class _Seen(NamedTuple):
    status: Status
    attempt: int
    worker: str | None


def _seen(job: JobInfo) -> _Seen:
    return _Seen(job.status, job.attempt, job.worker)


class History:
    """The history of a run, or of all, from its beginning. `look` returns what came since it was last called."""

    def __init__(self, store: FullStore, run: str | None = None) -> None:
        self._store = store
        self._run = run
        self._looked = False
        self._runs: set[str] = set()
        self._seen: dict[str, _Seen] = {}
        self._told: dict[str, int] = {}  # by job: the last attempt whose end was told

    def look(self) -> list[Event]:
        """Return what happened since the last look, in order of time; what has no time comes last."""
        now_s = time.time() if self._looked else None  # what is seen to happen happens now
        self._looked = True
        found: list[Event] = []
        running: list[JobInfo] = []
        moved = filter(self._has_moved, self._store.jobs(run=self._run))
        for job, history in each_history(self._store, moved):
            if job.run not in self._runs:
                self._runs.add(job.run)
                found += self._submitted(job.run)
            before = self._seen.get(job.id)
            self._seen[job.id] = _seen(job)
            ends = self._ends(job, history)
            found += ends
            if job.status is Status.STARTED and job.attempt > self._told.get(job.id, 0):
                running.append(job)
            newly = before is None or before.status is not Status.ABORTED
            if job.status is Status.ABORTED and newly and not (ends and ends[-1].event == Outcome.ABORTED.value):
                found.append(Event(now_s, "aborted", job.run, job.id, message=say.failure_line(job.failure)))
        found += self._started(running, now_s)
        return sorted(found, key=lambda event: (event.at is None, event.at or 0.0))

    def _submitted(self, run: str) -> list[Event]:
        info = self._store.run_info(run)
        return [] if info is None else [Event(info.submitted_at, "submitted", run)]

    def _has_moved(self, job: JobInfo) -> bool:
        return self._seen.get(job.id) != _seen(job)

    def _ends(self, job: JobInfo, history: Sequence[AttemptRecord]) -> list[Event]:
        """Return an event for each attempt that ended and was not told of."""
        told = self._told.get(job.id, 0)
        ends = [_end(job, record) for record in history if record.number > told]
        if ends:
            self._told[job.id] = history[-1].number
        return ends

    def _started(self, jobs: Sequence[JobInfo], now_s: float | None) -> list[Event]:
        """Return an event for each started job, with the time its runner began it where that is known."""
        if not jobs:
            return []
        from overseer_lite.cli.running import activities

        began: dict[tuple[str, int], float] = {}
        for each in activities(self._store):
            if each.attempt is not None and each.output is not None:
                began[each.attempt.job_id, each.attempt.number] = time.time() - each.elapsed_s
        return [
            Event(began.get((job.id, job.attempt), now_s), "started", job.run, job.id, job.attempt, job.worker)
            for job in jobs
        ]


def _end(job: JobInfo, record: AttemptRecord) -> Event:
    message = "" if record.outcome is Outcome.FINISHED else say.failure_line(record.failure)
    word = record.outcome.value
    return Event(record.ended_at, word, job.run, job.id, record.number, record.worker, record.ran_s, message)


@command(
    "events",
    short_help="List what happened, in order of time",
    example="overseer-lite events --run nightly-2026-11-24\noverseer-lite events -f --json",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@run_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON Lines: an object a line, times in seconds since 1970."
)
def events(follow: bool, run: str | None, as_json: bool) -> int:
    """List what happened: runs submitted, jobs that are running, attempts that ended and how.

    What the store keeps no time of (when a job was aborted that was not started) stands last, without one.
    """
    store = session().store()
    check_run(store, run)
    history = History(store, run)
    try:
        while True:
            began = time.monotonic()
            for event in history.look():
                click.echo(json.dumps(event._asdict(), ensure_ascii=False) if as_json else _line(event))
            if not follow:
                return 0
            time.sleep(max(_PAUSE_S, _SHARE * (time.monotonic() - began)))
    except KeyboardInterrupt:
        if not follow:
            raise
        return 128 + signal.SIGINT  # how following ends: nothing to tell


def _line(event: Event) -> str:
    at = "-" if event.at is None else say.clock_time(event.at)
    words = []
    if event.attempt is not None:
        words.append(f"attempt {event.attempt}")
    if event.worker is not None:
        words.append(f"worker {event.worker}")
    if event.ran_s is not None:
        words.append(say.duration(event.ran_s))
    if event.message:
        words.append(event.message)
    what = f"run {event.run}" if event.job is None else event.job
    return say.escape(f"{at:<8}  {event.event:<11}  {what}  {', '.join(words)}".rstrip())
