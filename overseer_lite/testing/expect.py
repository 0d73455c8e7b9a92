"""What a test expects of a double, said in one line; where it is not so, the message says the near miss.

    d.expect.attempts("load", ["killed", "finished"])
    d.expect.ran_before("load", "merge")

Names are those of jobs; where several are meant, a type stands for all jobs of it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from overseer_lite.errors import nearest
from overseer_lite.job import Outcome, Status
from overseer_lite.testing.trace import ENDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from overseer_lite.job import Failure, JobInfo
    from overseer_lite.testing.double import Double
    from overseer_lite.testing.trace import Event, Trace

_LOST: Final = frozenset(map(str, (Outcome.CRASHED, Outcome.INTERRUPTED, Outcome.RESET)))
_MOST_SHOWN: Final = 8


class _Span(NamedTuple):
    """An attempt, from its reservation to its end: lines of the trace, from 1; the end is None while it runs."""

    job: str
    number: int
    worker: str
    begin: int
    end: int | None
    how: str

    def __str__(self) -> str:
        until = f"{self.how} at line {self.end}" if self.end is not None else "still running"
        return f"attempt {self.number} of {self.job!r} (reserved at line {self.begin}, {until})"


class Expect:
    """The expectations of one double: `d.expect`. Each raises AssertionError if it is not so, and names the near miss."""

    def __init__(self, double: Double) -> None:
        self._double = double

    def submitted(self, type: str, args: Mapping[str, Any] | None = None, count: int | None = None) -> list[JobInfo]:
        """Expect jobs of a type, of which args has at least these values; return them.

        Args:
            count: Exactly so many; at least one if not given.
        """
        __tracebackhide__ = True
        double = self._double
        alike = [info for info in map(double.store.job_info, self._ids()) if info is not None and info.type == type]
        found = [info for info in alike if _has(info.args, args or {})]
        if len(found) == count or (count is None and found):
            return found
        wanted = "at least one" if count is None else str(count)
        what = f"Expected {wanted} submitted job of type {type!r}" + (f" with args {_shown(args)}" if args else "")
        if not alike:
            types = sorted({info.type for info in double.jobs()})
            near = nearest(type, types)
            raise _miss(f"{what}; there is none of that type. " + _hint(near, types, "Types"))
        lines = [f"{info.name}: {_differences(info.args, args or {})}" for info in alike if info not in found]
        raise _miss(f"{what}; {len(found)} of {len(alike)} are so.", lines)

    def status(self, name: str, status: Status | str) -> JobInfo:
        """Expect a job to stand there; return it."""
        __tracebackhide__ = True
        double = self._double
        info = double.job(name)
        if info.status == Status(status):
            return info
        why = f": {_why(info.failure)}" if info.failure is not None else ""
        raise _miss(f"Expected job {name!r} to be {status}; it is {double.stands(info)}{why}.", self._told(info))

    def attempts(self, name: str, expected: Sequence[str]) -> None:
        """Expect a job's attempts to have ended so, oldest first, in the words of `d.attempts`."""
        __tracebackhide__ = True
        double = self._double
        seen = double.attempts(name)
        if seen != list(expected):
            info = double.job(name)
            now = f" Now it is {double.stands(info)}." if info.status is not Status.FINISHED else ""
            raise _miss(
                f"Expected attempts {list(expected)} of job {name!r}; there were {seen}.{now}", self._told(info)
            )

    def ran_before(self, first: str, *later: str) -> None:
        """Expect that all jobs of that name or type had finished when the first attempt of any of the later ones began."""
        __tracebackhide__ = True
        trace = self._double.trace()
        spans = list(_spans(trace))
        for before in self._named(trace, first):
            finished = [span.end for span in spans if span.job == before and span.how == Outcome.FINISHED and span.end]
            for after in (job for name in later for job in self._named(trace, name)):
                begun = [span for span in spans if span.job == after]
                if not begun:
                    raise _miss(
                        f"Expected {before!r} to run before {after!r}; {after!r} never ran.", self._where(after)
                    )
                if not finished:
                    raise _miss(
                        f"Expected {before!r} to run before {after!r}; {before!r} has not finished.",
                        self._where(before),
                    )
                if begun[0].begin < finished[0]:
                    raise _miss(
                        f"Expected {before!r} to run before {after!r}; {begun[0]} began before the finish at line "
                        f"{finished[0]}.",
                        _around(trace, begun[0].begin, finished[0]),
                    )

    def never_concurrent(self, *names: str) -> None:
        """Expect that of all jobs of these names or types no two were held at a time."""
        __tracebackhide__ = True
        trace = self._double.trace()
        jobs = {job for name in names for job in self._named(trace, name)}
        spans = [span for span in _spans(trace) if span.job in jobs]
        for number, one in enumerate(spans):
            for other in spans[number + 1 :]:
                if one.end is None or other.begin < one.end:
                    raise _miss(
                        f"Expected {', '.join(map(repr, names))} never to be concurrent; {one} and {other} were.",
                        _around(trace, one.begin, other.begin),
                    )

    def fenced(self, name: str, count: int | None = None) -> list[Event]:
        """Expect that late writes of a job's attempts were refused; return the refusals.

        Args:
            count: Exactly so many; at least one if not given.
        """
        __tracebackhide__ = True
        double = self._double
        info = double.job(name)
        late = [event for event in double.trace() if event.event == "refused" and event.job == info.id]
        found = [event for event in late if event.more["reason"] == "superseded"]
        if len(found) == count or (count is None and found):
            return found
        wanted = "a late write" if count is None else f"{count} late writes"
        others = f" ({len(late) - len(found)} were refused for a conflict)" if len(late) > len(found) else ""
        raise _miss(f"Expected {wanted} of job {name!r} to be refused; {len(found)} were{others}.", self._told(info))

    def recovered_within(self, name: str, seconds: float) -> float:
        """Expect that each attempt that was lost was followed by the next within so many seconds; return the longest.

        By the store's clock. An attempt is lost when the test kills its worker or its runner, or, where it did not,
        when the store is told of it.
        """
        __tracebackhide__ = True
        double = self._double
        info = double.job(name)
        waits = list(_recoveries(double.trace(), info.id))
        if not waits:
            raise _miss(f"Expected job {name!r} to be recovered; none of its attempts was lost.", self._told(info))
        for number, took_s in waits:
            if took_s is None:
                where = double.stands(info)
                raise _miss(
                    f"Expected job {name!r} to be recovered; after attempt {number} it is {where}.", self._told(info)
                )
            if took_s > seconds:
                raise _miss(
                    f"Expected job {name!r} to be recovered within {seconds:g} s; after attempt {number} it took "
                    f"{took_s:.3f} s.",
                    self._told(info),
                )
        return max(took_s for _number, took_s in waits if took_s is not None)

    def quiescent(self) -> None:
        """Expect that nothing is left that could run: none started, none ready, none to be tried later."""
        __tracebackhide__ = True
        double = self._double
        left = [
            f"{info.name}: {double.stands(info)}"
            for info in map(double.store.job_info, self._ids())
            if info is not None
            and (info.status is Status.STARTED or (info.status is Status.UNSTARTED and not info.waiting_for))
        ]
        if left:
            raise _miss(f"Expected nothing left to run; {len(left)} {'is' if len(left) == 1 else 'are'}.", left)

    # ---- how it is said

    def _ids(self) -> list[str]:
        return [info.id for info in self._double.jobs()]

    def _named(self, trace: Trace, name: str) -> list[str]:
        """Return the ids of the jobs of that name, or type, in order of submission."""
        submitted = [event for event in trace if event.event == "submitted" and event.job is not None]
        found = [e.job for e in submitted if name in (e.job, e.more["name"])]
        found = found or [e.job for e in submitted if e.more["type"] == name]
        if not found:
            known = sorted({e.more["name"] for e in submitted} | {e.more["type"] for e in submitted})
            raise _miss(
                f"There is no job {name!r}, and none of that type. " + _hint(nearest(name, known), known, "There are")
            )
        return [job for job in found if job is not None]

    def _told(self, info: JobInfo) -> list[str]:
        """Tell of each attempt of a job how it ended and why."""
        if "history" not in self._double.store.capabilities:
            return []
        return [
            f"attempt {record.number} of {record.worker}: {record.outcome}"
            + (f": {_why(record.failure)}" if record.failure is not None else "")
            for record in self._double.store.attempts(info.id)
        ]

    def _where(self, job: str) -> list[str]:
        info = self._double.job(job)
        return [f"{info.name}: {self._double.stands(info)}", *self._told(info)]


def _miss(message: str, lines: Sequence[str] = ()) -> AssertionError:
    shown = list(lines[:_MOST_SHOWN])
    if len(lines) > len(shown):
        shown.append(f"... and {len(lines) - len(shown)} more")
    return AssertionError("\n".join([message, *(f"  {line}" for line in shown)]))


def _why(failure: Failure) -> str:
    return f"{failure.exception}: {failure.message}" if failure.exception else failure.message


def _hint(near: str | None, known: Sequence[str], what: str) -> str:
    return f"Did you mean {near!r}?" if near else f"{what}: {', '.join(known) or 'none'}."


def _has(args: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(name in args and args[name] == value for name, value in wanted.items())


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=repr)


def _differences(args: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    parts = [
        f"{name} is {_shown(args[name])}, not {_shown(value)}" if name in args else f"no {name}"
        for name, value in wanted.items()
        if name not in args or args[name] != value
    ]
    return ", ".join(parts)


def _spans(trace: Trace) -> Iterator[_Span]:
    """Yield each attempt in order of reservation."""
    open_: dict[tuple[object, ...], tuple[int, Event]] = {}
    spans: list[_Span] = []
    for line, event in enumerate(trace, 1):
        if event.event == "reserved":
            open_[event.fence] = (line, event)
        elif event.event in ENDS and event.fence in open_:
            spans.append(_span(*open_.pop(event.fence), line, event.event))
    spans += [_span(begin, event, None, "") for begin, event in open_.values()]
    yield from sorted(spans, key=lambda span: span.begin)


def _span(begin: int, event: Event, end: int | None, how: str) -> _Span:
    assert event.job is not None
    assert event.attempt is not None
    assert event.worker is not None
    return _Span(event.job, event.attempt, event.worker, begin, end, how)


def _around(trace: Trace, *lines: int) -> list[str]:
    """Return the lines of the trace that tell the story, with their numbers."""
    text = trace.to_jsonl().splitlines()
    return [f"line {number}: {text[number - 1]}" for number in range(min(lines), max(lines) + 1)]


def _recoveries(trace: Trace, job: str) -> Iterator[tuple[int, float | None]]:
    """Yield each lost attempt of a job, and the seconds until the next one was reserved; None: it was not."""
    killed_s: dict[str | None, float] = {}
    lost: tuple[int, float] | None = None
    for event in trace:
        if event.event == "killed":
            killed_s.setdefault(event.worker, event.at_s)
        elif event.job != job or event.attempt is None:
            continue
        elif event.event == "reserved" and lost is not None:
            yield lost[0], event.at_s - lost[1]
            lost = None
        elif event.event in _LOST:
            lost = (event.attempt, killed_s.pop(event.worker, event.at_s))
    if lost is not None:
        yield lost[0], None
