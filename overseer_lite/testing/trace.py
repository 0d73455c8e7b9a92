"""Traces: what happened to the jobs of a double, in the order of its commits, as canonical JSON Lines.

Two equal runs have equal traces: runs and workers are numbered in the order in which they appear, and there is nothing
in it that differs from one run to the next, unless times are asked for.
"""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from overseer_lite.job import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

#: How an attempt may end; `aborted` also happens to jobs that are not started.
ENDS: Final = frozenset(map(str, Outcome))


class Event(NamedTuple):
    """Something that happened to a job.

    Attributes:
        event: `submitted`, `reserved`, how an attempt ended (the words of history, and `handed back`), `refused` (a
            late write that the fence kept out, or one in conflict), `retried`, `pruned`, `killed` (by the test) or
            `state` (where it stood when the trace was taken).
        job: Its id; None where it happened to a run or a worker.
        attempt: Number of the attempt, where it happened to one.
        worker: Who held it.
        at_s: Seconds by the store's clock (that of the boot) at the commit.
        more: What else belongs to that event.
    """

    event: str
    job: str | None
    attempt: int | None
    worker: str | None
    at_s: float
    more: Mapping[str, Any]

    @classmethod
    def of(cls, fields: Mapping[str, Any], at_s: float) -> Event:
        """Make an event of the fields of a line."""
        rest = {
            name: value for name, value in fields.items() if name not in ("event", "job", "attempt", "worker", "at_s")
        }
        return cls(fields["event"], fields.get("job"), fields.get("attempt"), fields.get("worker"), at_s, rest)

    @property
    def fence(self) -> tuple[str | None, int | None, str | None]:
        """Which attempt it happened to."""
        return self.job, self.attempt, self.worker

    def fields(self) -> dict[str, Any]:
        """Return what is said of it, but for the time."""
        own = {"event": self.event, "job": self.job, "attempt": self.attempt, "worker": self.worker}
        return {**{name: value for name, value in own.items() if value is not None}, **self.more}


class Trace:
    """Events in the order in which they were committed; compared by what `to_jsonl()` says of them."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events: Sequence[Event] = tuple(events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __eq__(self, other: object) -> bool:
        return self.to_jsonl() == other.to_jsonl() if isinstance(other, Trace) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.to_jsonl())

    def __repr__(self) -> str:
        return f"Trace({len(self.events)} events)"

    def __str__(self) -> str:
        return self.to_jsonl()

    def to_jsonl(self, *, times: bool = False) -> str:
        """Return the canonical text: an object a line, keys sorted; equal for equal runs.

        Args:
            times: Give each line the seconds since the first, by the store's clock. They are equal for equal runs as
                long as that clock stands; while a pool works it runs, and they are not.
        """
        names = _Names()
        first_s = self.events[0].at_s if self.events else 0.0
        lines = []
        for event in self.events:
            fields = names.canonical(event)
            if times:
                fields["at_s"] = round(event.at_s - first_s, 6)
            lines.append(json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n")
        return "".join(lines)

    @classmethod
    def from_jsonl(cls, text: str) -> Self:
        """Read what `to_jsonl` wrote.

        Raises:
            ValueError: A line is no event.
        """
        events = []
        for number, line in enumerate(text.splitlines(), 1):
            fields = json.loads(line)
            if not isinstance(fields, dict) or not isinstance(fields.get("event"), str):
                raise ValueError(f"line {number} of the trace is no event: {line[:80]}")  # noqa: TRY004 - the text is at fault, not its type
            events.append(Event.of(fields, float(fields.get("at_s", 0.0))))
        return cls(events)


def diff(expected: Trace, seen: Trace) -> str:
    """Return how two traces differ, as a unified diff of their canonical text; empty if they do not."""
    return "".join(
        difflib.unified_diff(
            expected.to_jsonl().splitlines(keepends=True), seen.to_jsonl().splitlines(keepends=True), "expected", "seen"
        )
    )


class _Names:
    """Numbers runs and workers in the order in which they appear."""

    def __init__(self) -> None:
        self._runs: dict[str, str] = {}
        self._workers: dict[str, str] = {}
        self._jobs: dict[str, str] = {}

    def canonical(self, event: Event) -> dict[str, Any]:
        """Return an event's fields with those names."""
        fields = event.fields()
        run = fields.get("run")
        if run is not None:
            fields["run"] = self._runs.setdefault(run, f"r{len(self._runs) + 1}")
        job = fields.get("job")
        if job is not None and run is not None and job not in self._jobs:
            own = job.startswith(f"{run}/")
            self._jobs[job] = f"{fields['run']}/{job[len(run) + 1 :]}" if own else job
        if job is not None:
            fields["job"] = self._jobs.get(job, job)
        for name in ("by",):
            if name in fields:
                fields[name] = self._jobs.get(fields[name], fields[name])
        if "dependencies" in fields and run is not None:
            fields["dependencies"] = [self._of(each, run, fields["run"]) for each in fields["dependencies"]]
        if "worker" in fields:
            worker = fields["worker"]
            fields["worker"] = self._workers.setdefault(worker, f"w{len(self._workers) + 1}")
        return fields

    def _of(self, job: str, run: str, number: str) -> str:
        if job in self._jobs:
            return self._jobs[job]
        return f"{number}/{job[len(run) + 1 :]}" if job.startswith(f"{run}/") else job


# ---- from a log to a trace -------------------------------------------------------------------------------------------


class _Cut(NamedTuple):
    """A commit whose answer nobody noted: its process died, or its acknowledgement was lost."""

    position: int
    at_s: float
    ask: Mapping[str, Any]


def trace_of(lines: Sequence[Mapping[str, Any]], ended: Callable[[str, int, str], str | None]) -> Trace:
    """Make a trace of a log's lines.

    Args:
        ended: How an attempt (job, number, worker) ended by the store's own history; None: not, or it keeps none.
            Asked only where a process died between its commit and its answer.
    """
    asks = {line["ask"]: line for line in lines if "ask" in line}
    answers = {line["done"]: line for line in lines if "done" in line}
    committed = {line["commit"] for line in lines if "commit" in line}
    builder = _Builder(ended)
    for line in lines:
        if "commit" in line:
            answer = answers.get(line["commit"])
            if answer is None:
                builder.cut(asks[line["commit"]], line["at"] / 1e6)
            else:
                builder.add(answer["events"], line["at"] / 1e6)
        elif "done" in line and line["done"] not in committed:
            builder.add(line["events"], line["at"] / 1e6)
    return Trace(builder.events())


class _Builder:
    def __init__(self, ended: Callable[[str, int, str], str | None]) -> None:
        self._ended = ended
        self._slots: list[list[Event]] = []  # one a commit; what a cut one did is found out later
        self._cuts: dict[str, list[_Cut]] = {}  # by worker
        self._held: dict[str, tuple[int, str]] = {}
        self._seen: set[tuple[object, ...]] = set()
        self._back: set[tuple[object, ...]] = set()  # handed back, and not reserved again

    def events(self) -> list[Event]:
        return [event for slot in self._slots for event in slot]

    def add(self, found: Iterable[Mapping[str, Any]], at_s: float) -> None:
        slot: list[Event] = []
        self._slots.append(slot)
        for fields in found:
            self._put(slot, Event.of(fields, at_s))

    def cut(self, ask: Mapping[str, Any], at_s: float) -> None:
        """Take in a commit without an answer: what was asked for, as far as it was done."""
        slot: list[Event] = []
        self._slots.append(slot)
        asked = [Event.of(fields, at_s) for fields in ask.get("events", ())]
        if ask["verb"] == "recover":
            held = [(job, *holder) for job, holder in self._held.items() if holder[1] == ask["of"]]
            for job, number, worker in held:
                outcome = self._ended(job, number, worker) or str(Outcome.HANDED_BACK)
                asked.append(Event(outcome, job, number, worker, at_s, {}))
        for event in asked:
            if event.event in ENDS and event.event != Outcome.HANDED_BACK and event.job and event.attempt:
                assert event.worker is not None
                if self._ended(event.job, event.attempt, event.worker) != event.event:
                    continue  # it was refused
            self._put(slot, event)
        if "worker" in ask:
            self._cuts.setdefault(ask["worker"], []).append(_Cut(len(self._slots) - 1, at_s, ask))

    def _put(self, slot: list[Event], event: Event) -> None:
        if event.event == "submitted" or (event.event in ENDS and event.event != Outcome.HANDED_BACK):
            once = event.event == "submitted" or event.attempt is not None
            key = (event.event, *event.fence, None if once else len(self._slots))
            if key in self._seen:
                return  # settled, or submitted, once more the same way: a success that changes nothing
            self._seen.add(key)
        if event.job is not None and event.attempt is not None and event.worker is not None:
            mine = (event.attempt, event.worker)
            if event.event == "reserved":
                self._held[event.job] = mine
                self._back.discard(event.fence)
            elif event.event in ENDS:
                if event.event == Outcome.HANDED_BACK:
                    if event.fence in self._back:
                        return  # once more: a success as well
                    self._back.add(event.fence)
                if self._held.get(event.job) != mine:
                    self._reserved_unseen(event)
                self._held.pop(event.job, None)
        slot.append(event)

    def _reserved_unseen(self, end: Event) -> None:
        """An attempt ends that nobody saw reserved: it was, in the last commit of its worker that has no answer."""
        cuts = self._cuts.get(end.worker or "")
        if cuts and end.job not in self._held:
            cut = cuts[-1]
            self._slots[cut.position].append(Event("reserved", end.job, end.attempt, end.worker, cut.at_s, {}))
