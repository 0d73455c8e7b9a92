"""The promises, as far as a trace can show them: each event is held against what may happen where its job stands.

P1  two attempts of one job never overlap
P2  a job recorded finished never runs again, and stays finished
P3  an acknowledged submit is never lost
P4  a job starts only after all its dependencies finished
P5  failures and crashes bounded, faults delayed, each attempt visible under a number of its own
fence  only the attempt that holds a job settles it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from overseer_lite.job import Outcome, Status
from overseer_lite.testing.trace import ENDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from overseer_lite.testing.trace import Event, Trace

_SLACK_S: Final = 1e-6


class Violation(NamedTuple):
    """A promise that was not kept.

    Attributes:
        promise: `P1` to `P5`, or `fence`; of a simulation also `error`: the store raised what it has no reason to.
        line: Which line of the trace shows it, from 1.
        message: What happened, to which job.
    """

    promise: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.promise}, line {self.line}: {self.message}"


class _Seen:
    """Where a job stands by the events so far."""

    __slots__ = ("crashes", "dependencies", "due_s", "holder", "interruptions", "last", "run", "status")

    def __init__(self, run: str | None, dependencies: Iterable[str]) -> None:
        self.run = run
        self.dependencies = list(dependencies)
        self.status = Status.UNSTARTED
        self.holder: tuple[int | None, str | None] | None = None
        self.last = 0
        self.crashes = self.interruptions = 0
        self.due_s: float | None = None


def verify(trace: Trace, *, crash_limit: int = 3, interruption_limit: int = 10) -> list[Violation]:
    """Return the promises that a trace shows broken, in order; empty if it shows none.

    What it cannot show: processes that overlap (P1 is judged by reservations), a power loss, and the time between the
    store's answer and the handler's begin.

    Args:
        crash_limit: That of the store; 0: none.
        interruption_limit: Likewise.
    """
    judge = _Judge(crash_limit, interruption_limit)
    for line, event in enumerate(trace, 1):
        judge.take(line, event)
    return judge.found


class _Judge:
    def __init__(self, crash_limit: int, interruption_limit: int) -> None:
        self._limits = {Outcome.CRASHED: crash_limit, Outcome.INTERRUPTED: interruption_limit}
        self._jobs: dict[str, _Seen] = {}
        self._pruned: set[str] = set()
        self._now_s = float("-inf")
        self._line = 0
        self.found: list[Violation] = []

    def take(self, line: int, event: Event) -> None:
        self._line = line
        if event.at_s < self._now_s:  # another boot: its counter began anew, and no due time can be judged by it
            for job in self._jobs.values():
                job.due_s = None
        self._now_s = event.at_s
        if event.event == "submitted":
            self._submitted(event)
        elif event.event == "pruned":
            self._pruned.add(event.more["run"])
        elif event.job is not None and event.event in {"reserved", "retried", "state", *ENDS}:
            seen = self._jobs.get(event.job)
            if seen is None:
                self._object("P3", f"job {event.job!r} is {event.event}, and was never submitted")
                return
            if event.event == "reserved":
                self._reserved(event.job, seen, event)
            elif event.event == "retried":
                self._retried(event.job, seen)
            elif event.event == "state":
                self._state(event.job, seen, event)
            elif event.attempt is None:
                self._given_up(event.job, seen)
            else:
                self._ended(event.job, seen, event)

    def _object(self, promise: str, message: str) -> None:
        self.found.append(Violation(promise, self._line, message))

    def _submitted(self, event: Event) -> None:
        assert event.job is not None
        seen = self._jobs[event.job] = _Seen(event.more.get("run"), event.more.get("dependencies", ()))
        if event.more.get("delay_s"):
            seen.due_s = event.at_s + event.more["delay_s"]
        by = event.more.get("by")
        if by is not None and not event.more.get("detached"):
            for job, dependent in self._jobs.items():
                if by in dependent.dependencies and job != event.job:
                    dependent.dependencies.append(event.job)

    def _reserved(self, job: str, seen: _Seen, event: Event) -> None:
        what = f"attempt {event.attempt} of job {job!r} was reserved by {event.worker!r}"
        if seen.status is Status.FINISHED:
            self._object("P2", f"{what}, after the job had been recorded finished")
        elif seen.status in (Status.FAILED, Status.ABORTED):
            self._object("P5", f"{what}, after the job had {seen.status}, and nobody had retried it")
        if seen.holder is not None:
            number, worker = seen.holder
            self._object("P1", f"{what} while attempt {number} of {worker!r} held it")
        missing = [each for each in seen.dependencies if each in self._jobs and not self._is_finished(each)]
        if missing:
            self._object("P4", f"{what} before {', '.join(map(repr, missing))} had finished")
        if event.attempt != seen.last + 1:
            self._object("P5", f"{what}, but the attempt before it was {seen.last}")
        if seen.due_s is not None and event.at_s < seen.due_s - _SLACK_S:
            self._object("P5", f"{what} {seen.due_s - event.at_s:g} s before its time had come")
        seen.last = event.attempt or 0
        seen.holder = (event.attempt, event.worker)
        seen.status, seen.due_s = Status.STARTED, None

    def _is_finished(self, job: str) -> bool:
        return self._jobs[job].status is Status.FINISHED

    def _ended(self, job: str, seen: _Seen, event: Event) -> None:
        if seen.holder != (event.attempt, event.worker):
            now = f"it is {seen.status}"
            if seen.holder is not None:
                now = f"attempt {seen.holder[0]} of {seen.holder[1]!r} holds it"
            self._object(
                "fence", f"attempt {event.attempt} of {event.worker!r} ended job {job!r} as {event.event}; {now}"
            )
            if seen.status is Status.FINISHED and event.event != Outcome.FINISHED:
                self._object("P2", f"job {job!r} was finished, and is {event.event}")
                return
        seen.holder = None
        seen.status = self._moved(job, seen, event)

    def _moved(self, job: str, seen: _Seen, event: Event) -> Status:
        """Return where an end takes a job."""
        outcome = Outcome(event.event)
        again_in_s = event.more.get("again_in_s")
        if outcome in (Outcome.FINISHED, Outcome.ABORTED):
            return Status(str(outcome))
        if outcome is Outcome.FAILED and again_in_s is None:
            return Status.FAILED
        if outcome is Outcome.HANDED_BACK:
            seen.last -= 1
        if again_in_s:
            seen.due_s = event.at_s + again_in_s
        elif outcome is Outcome.FAULTED and again_in_s is None:
            seen.due_s = event.at_s + _FAULT_DELAY_S
        then = event.more.get("then")
        if outcome in self._limits and self._is_over(job, seen, outcome):
            return Status.FAILED
        return Status(then) if then is not None else Status.UNSTARTED

    def _is_over(self, job: str, seen: _Seen, outcome: Outcome) -> bool:
        """Count a crash or an interruption; whether that was the last one the job may have."""
        seen.crashes += outcome is Outcome.CRASHED
        seen.interruptions += outcome is Outcome.INTERRUPTED
        count = seen.crashes if outcome is Outcome.CRASHED else seen.interruptions
        limit = self._limits[outcome]
        if limit and count > limit:
            self._object("P5", f"job {job!r} was {outcome} {count} times, the limit is {limit}")
        return bool(limit) and count >= limit

    def _given_up(self, job: str, seen: _Seen) -> None:
        if seen.status is Status.FINISHED:
            self._object("P2", f"job {job!r} was aborted after it had been recorded finished")
        elif seen.holder is not None:
            self._object(
                "fence", f"job {job!r} was aborted while attempt {seen.holder[0]} of {seen.holder[1]!r} held it"
            )
        seen.status = Status.ABORTED

    def _retried(self, job: str, seen: _Seen) -> None:
        if seen.status is Status.FINISHED:
            self._object("P2", f"job {job!r} was retried after it had been recorded finished")
        seen.status, seen.holder, seen.due_s = Status.UNSTARTED, None, None
        seen.crashes = seen.interruptions = 0

    def _state(self, job: str, seen: _Seen, event: Event) -> None:
        """Hold where a job stands in the store against where its events have taken it."""
        status = event.more["status"]
        if status is None:
            if seen.run not in self._pruned:
                self._object("P3", f"job {job!r} was submitted, and is not in the store")
        elif (status == Status.FINISHED) != (seen.status is Status.FINISHED):
            promise = "P2" if seen.status is Status.FINISHED else "P5"
            self._object(promise, f"job {job!r} is {seen.status} by its events, and {status} in the store")
        elif status == Status.STARTED and seen.holder is None:
            self._object("P5", f"job {job!r} is started in the store, by an attempt that nobody reserved")
        elif seen.holder is not None and status != Status.STARTED:
            self._object("fence", f"attempt {seen.holder[0]} holds job {job!r}, which is {status} in the store")


_FAULT_DELAY_S: Final = 10.0
