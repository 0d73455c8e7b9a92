"""A trace once more, on a fresh store: the same graph, the same events in the same order, whoever made them then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from overseer_lite.graph import Graph
from overseer_lite.job import Attempt, Job, Outcome, Settlement, stored
from overseer_lite.testing.record import EventLog, Recorder
from overseer_lite.testing.trace import ENDS, Trace, trace_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from overseer_lite.testing.clock import ManualClock, SharedClock
    from overseer_lite.testing.trace import Event


def states(store: Any, trace: Trace) -> list[dict[str, Any]]:
    """Return where each job that was submitted stands in the store, as events."""
    found = []
    for job in dict.fromkeys(event.job for event in trace if event.event == "submitted"):
        info = store.job_info(job)
        at = {"status": None} if info is None else {"status": str(info.status), "attempt": info.attempt}
        found.append({"event": "state", "job": job, **at})
    return found


def replay(trace: Trace, store: Any, clock: ManualClock | SharedClock) -> Trace:
    """Do the same to a fresh store, and return what came of it; compare the two with `diff`.

    Args and results are no part of a trace, so no handler is called. Where a job's time has not come, the clock is
    advanced until it has.

    Args:
        store: With `exchange`; fresh, installed, and by that clock.
        clock: What the store goes by.
    """
    recorder = Recorder(store, EventLog())
    player = _Player(recorder, clock)
    events = [event for event in trace if event.event not in ("state", "killed")]
    while events:
        events = events[player.play(events) :]
    played = trace_of(recorder.log.read(), lambda *_attempt: None)
    if any(event.event == "state" for event in trace):
        for fields in states(store, played):
            recorder.event(fields)
        played = trace_of(recorder.log.read(), lambda *_attempt: None)
    return played


class _Player:
    def __init__(self, store: Recorder, clock: ManualClock | SharedClock) -> None:
        self._store: Any = store
        self._clock = clock

    def play(self, events: Sequence[Event]) -> int:
        """Play the first event, and those that belong to it; return how many they were."""
        first = events[0]
        if first.event == "submitted":
            return self._submit(events)
        if first.event == "reserved":
            self._reserve(first)
        elif first.event == "retried":
            self._store.retry([first.job])
        elif first.event == "aborted" and first.attempt is None:
            self._store.abort_job(first.job)
        elif first.event in ENDS:
            self._settle(first, ())
        elif first.event == "refused" and "outcome" in first.more:
            self._settle(first, (), first.more["outcome"])
        return 1

    def _submit(self, events: Sequence[Event]) -> int:
        """Submit a graph, or finish the attempt that added these jobs."""
        first = events[0]
        by = first.more.get("by")
        count = 0
        for event in events:
            same = event.event == "submitted" and event.more.get("by") == by and event.more["run"] == first.more["run"]
            if not same:
                break
            count += 1
        jobs = [_job(event, events[:count]) for event in events[:count]]
        if by is None:
            self._store.transact_graph(Graph.of(jobs, id=first.more["run"]))
            return count
        self._settle(events[count], jobs)
        return count + 1

    def _reserve(self, event: Event) -> None:
        info = self._store.job_info(event.job)
        if info is not None and info.due_in_s:
            self._clock.advance(info.due_in_s)
        self._store.reserve_job(event.worker, event.job)

    def _settle(self, event: Event, added: Sequence[Job], outcome: str | None = None) -> None:
        assert event.job is not None
        assert event.attempt is not None
        assert event.worker is not None
        attempt = Attempt(event.job, event.attempt, event.worker)
        settlement = Settlement(
            attempt, Outcome(outcome or event.event), added=added, delay_s=event.more.get("again_in_s")
        )
        self._store.exchange(event.worker, [settlement], 0, ())


def _job(event: Event, together: Iterable[Event]) -> Job:
    names = {each.job: each.more["name"] for each in together}
    more = event.more
    return Job(
        more["type"],
        name=more["name"],
        id=event.job,
        dependencies=[names[each] if each in names else stored(each) for each in more["dependencies"]],
        priority=more.get("priority", 0),
        delay_s=more.get("delay_s", 0.0),
        detached=more.get("detached", False),
    )
