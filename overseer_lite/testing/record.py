"""A store that keeps a log of what it did: the events from which a trace is made. In any number of processes at once.

Of each verb three lines are kept: that it was asked, that it was committed, what came of it. The second is written
behind the writer gate, so that the order of these lines is the order of the commits, whoever made them; and a process
that dies between its commit and its answer has still said what it asked for.
"""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING, Any, Final

from overseer_lite.errors import InvalidInputError, SupersededError
from overseer_lite.job import VERBS, Attempt, Outcome, Settlement
from overseer_lite.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from overseer_lite.graph import Graph
    from overseer_lite.job import Failure, Job, Status
    from overseer_lite.store import Exchange, FullStore, RunInfo, Submitted, Verdict

SCHEME: Final = "double://"
LOG_NAME: Final = "events.jsonl"

_calls = itertools.count(1)


class EventLog:
    """Lines in order: in a file that several processes append to, or in memory if no path is given."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self._lines: list[dict[str, Any]] = []
        self._fd = -1

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line; whole, whoever else writes."""
        if self.path is None:
            self._lines.append(dict(line))
            return
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.write(self._fd, json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    def read(self) -> list[dict[str, Any]]:
        """Return the lines so far; one that is just being written is left out."""
        if self.path is None:
            return list(self._lines)
        try:
            with open(self.path, encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def close(self) -> None:
        """Let go of the file; it stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_address(address: str, **options: Any) -> FullStore:
    """Open the store of a double, in a process of its pool: `double://` and the path of its file."""
    path = address.removeprefix(SCHEME)
    store: Any = Recorder(open_store(path, **options), EventLog(os.path.join(os.path.dirname(path), LOG_NAME)))
    full: FullStore = store
    return full


class Recorder:
    """Any store, and a log of its verbs. Everything but the verbs that change something is passed on as it is."""

    def __init__(self, store: Any, log: EventLog) -> None:
        self.bare = store
        self.log = log
        self._call: str | None = None
        database = getattr(store, "database", None)
        self._tells = database is not None
        if database is not None:
            database.on_commit = self._committed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)

    def close(self) -> None:
        """Close the store, if it can be closed, and the log."""
        if hasattr(self.bare, "close"):
            self.bare.close()
        self.log.close()

    # ---- the verbs

    def transact_graph(self, graph: Graph) -> Submitted:
        """Note what is submitted."""
        ids = [graph.job_id(job) for job in graph.jobs]
        events = submitted_events(graph)

        def came(done: Submitted) -> list[dict[str, Any]]:
            created = set(done.created)
            return [event for job_id, event in zip(ids, events, strict=True) if job_id in created]

        result: Submitted = self._note("submit", {"events": events}, lambda: self.bare.transact_graph(graph), came)
        return result

    def reserve_job(self, worker: str, job_id: str) -> Attempt | None:
        """Note what is reserved."""
        reserved: Attempt | None = self._note(
            "exchange",
            {"worker": worker},
            lambda: self.bare.reserve_job(worker, job_id),
            lambda attempt: [] if attempt is None else [_reserved(attempt)],
        )
        return reserved

    def heartbeat_job(self, attempt: Attempt) -> None:
        """Note a beat only if it is refused."""
        try:
            self.bare.heartbeat_job(attempt)
        except SupersededError:
            self.event({"event": "refused", **_fence(attempt), "verb": "heartbeat", "reason": "superseded"})
            raise

    def finish_job(self, attempt: Attempt, result: Any = None, added: Sequence[Job] = ()) -> None:
        """Note that it is finished, and what was added."""
        settlement = Settlement(attempt, Outcome.FINISHED, added=added)
        self._settle(settlement, lambda: self.bare.finish_job(attempt, result, added))

    def fail_job(self, attempt: Attempt, failure: Failure | None = None, retry_in_s: float | None = None) -> None:
        """Note that it failed."""
        settlement = Settlement(attempt, Outcome.FAILED, failure=failure, delay_s=retry_in_s)
        self._settle(settlement, lambda: self.bare.fail_job(attempt, failure, retry_in_s))

    def reset_job(self, attempt: Attempt, delay_s: float = 0.0, crashed: bool = False) -> bool:
        """Note that it is reset, if it is."""
        outcome = Outcome.CRASHED if crashed else Outcome.RESET
        event = self._end(Settlement(attempt, outcome, delay_s=delay_s))
        return bool(
            self._note(
                "exchange",
                {"worker": attempt.worker, "events": [event]},
                lambda: self.bare.reset_job(attempt, delay_s, crashed),
                lambda done: [event] if done else [],
            )
        )

    def abort_job(self, job_id: str, failure: Failure | None = None, attempt: Attempt | None = None) -> list[str]:
        """Note that it is aborted; what that takes along is not noted."""
        if attempt is not None:
            settlement = Settlement(attempt, Outcome.ABORTED, failure=failure)
            return list(self._settle(settlement, lambda: self.bare.abort_job(job_id, failure, attempt)))
        return list(
            self._note(
                "act",
                {},
                lambda: self.bare.abort_job(job_id, failure),
                lambda ids: [{"event": "aborted", "job": job_id}] if ids else [],
            )
        )

    def exchange(
        self, worker: str, settlements: Sequence[Settlement], want: int, types: Collection[str], **options: Any
    ) -> Exchange:
        """Note what is settled, what is refused, what is reserved."""
        asked = [list(self._end_events(settlement)) for settlement in settlements]

        def came(done: Exchange) -> list[dict[str, Any]]:
            refused = {refusal.attempt: refusal.reason for refusal in done.refused}
            events: list[dict[str, Any]] = []
            for settlement, ends in zip(settlements, asked, strict=True):
                reason = refused.get(settlement.attempt)
                events += ends if reason is None else [_refused(settlement, reason)]
            return events + [_reserved(job.attempt) for job in done.jobs]

        ask = {"worker": worker, "events": [event for ends in asked for event in ends]}
        call = lambda: self.bare.exchange(worker, settlements, want, types, **options)  # noqa: E731
        result: Exchange = self._note("exchange", ask, call, came)
        return result

    def recover(self, worker: str, verdicts: Mapping[Attempt, Verdict]) -> list[tuple[Attempt, Status]]:
        """Note what is put back, and where that leaves it."""

        def came(done: list[tuple[Attempt, Status]]) -> list[dict[str, Any]]:
            return [
                {
                    "event": str(verdicts[attempt].outcome if attempt in verdicts else Outcome.INTERRUPTED),
                    **_fence(attempt),
                    "then": str(status),
                }
                for attempt, status in done
            ]

        return list(self._note("recover", {"of": worker}, lambda: self.bare.recover(worker, verdicts), came))

    def retry(self, job_ids: Sequence[str]) -> list[str]:
        """Note what is retried."""
        events = [{"event": "retried", "job": job_id} for job_id in job_ids]
        return list(self._note("act", {"events": events}, lambda: self.bare.retry(job_ids), lambda _ids: events))

    def prune(self, older_s: float, *, dry_run: bool = False) -> list[RunInfo]:
        """Note which runs are removed."""

        def came(runs: list[RunInfo]) -> list[dict[str, Any]]:
            return [] if dry_run else [{"event": "pruned", "run": run.id} for run in runs]

        return list(self._note("prune", {}, lambda: self.bare.prune(older_s, dry_run=dry_run), came))

    def event(self, event: Mapping[str, Any]) -> None:
        """Note something that no verb of a store did."""
        self.log.write({"done": self._new_call(), "at": self._now_us(), "events": [event]})

    # ---- noting

    def _settle(self, settlement: Settlement, call: Callable[[], Any]) -> Any:
        events = list(self._end_events(settlement))
        ask = {"worker": settlement.attempt.worker, "events": events}
        try:
            return self._note("exchange", ask, call, lambda _done: events)
        except SupersededError:
            self.event(_refused(settlement, "superseded"))
            raise
        except InvalidInputError:
            self.event(_refused(settlement, "conflict"))
            raise

    def _note(
        self,
        verb: str,
        ask: Mapping[str, Any],
        call: Callable[[], Any],
        came: Callable[[Any], Iterable[Mapping[str, Any]]],
    ) -> Any:
        self._call = me = self._new_call()
        self.log.write({"ask": me, "verb": verb, **ask})
        try:
            result = call()
            if not self._tells:
                self._committed()
        finally:
            self._call = None
        self.log.write({"done": me, "at": self._now_us(), "events": list(came(result))})
        return result

    def _committed(self) -> None:
        """Note a commit; called behind the gate, if the store has one. Beats are no verbs, and have no call."""
        if self._call is not None:
            self.log.write({"commit": self._call, "at": self._now_us()})

    @staticmethod
    def _new_call() -> str:
        return f"{os.getpid()}.{next(_calls)}"

    def _now_us(self) -> int:
        clock = getattr(self.bare, "clock", None)
        return 0 if clock is None else clock.read().boottime_us

    def _end_events(self, settlement: Settlement) -> Iterable[dict[str, Any]]:
        """Yield the event of an attempt's end, that of what it added before it."""
        if settlement.outcome is Outcome.FINISHED and settlement.added:
            yield from self._added(settlement)
        yield self._end(settlement)

    def _added(self, settlement: Settlement) -> Iterable[dict[str, Any]]:
        from overseer_lite.graph import Graph

        by = settlement.attempt.job_id
        info = self.bare.job_info(by)
        if info is not None:
            graph = Graph.of(settlement.added, id=info.run)
            for event, job in zip(submitted_events(graph), settlement.added, strict=True):
                yield {**event, "by": by, "detached": job.detached}

    @staticmethod
    def _end(settlement: Settlement) -> dict[str, Any]:
        event = {"event": str(settlement.outcome), **_fence(settlement.attempt)}
        if settlement.outcome in (Outcome.FAILED, Outcome.FAULTED, Outcome.RESET):
            event["again_in_s"] = settlement.delay_s
        return event


def submitted_events(graph: Graph) -> list[dict[str, Any]]:
    """Return an event for each job of a graph."""
    return [
        {
            "event": "submitted",
            "job": graph.job_id(job),
            "run": graph.id,
            "name": job.name,
            "type": job.type,
            "dependencies": graph.dependency_ids(job),
            **({"priority": job.priority} if job.priority else {}),
            **({"delay_s": job.delay_s} if job.delay_s else {}),
        }
        for job in graph.jobs
    ]


def _fence(attempt: Attempt) -> dict[str, Any]:
    return {"job": attempt.job_id, "attempt": attempt.number, "worker": attempt.worker}


def _reserved(attempt: Attempt) -> dict[str, Any]:
    return {"event": "reserved", **_fence(attempt)}


def _refused(settlement: Settlement, reason: str) -> dict[str, Any]:
    event = {"event": "refused", **_fence(settlement.attempt), "verb": VERBS[settlement.outcome], "reason": reason}
    return {**event, "outcome": str(settlement.outcome)}
