"""A virtual worker: what a worker process does, as steps that a simulation takes one at a time, in any order.

No process, no thread, no time of its own. It may die or fall silent between any two steps, and inside an exchange:
after the commit, before it has heard of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from overseer_lite.errors import SupersededError
from overseer_lite.job import Attempt, Outcome, ReservedJob, Settlement
from overseer_lite.store import Verdict, WorkerRecord, compose_exchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from overseer_lite.store import Exchange

_CONFLICT: Final = "conflict"


class VirtualWorker:
    """A worker with what it has reserved, what it runs, and what it has yet to settle.

    Attributes:
        queue: Reserved, not begun.
        running: Begun, not ended.
        alive: False: it is dead, and does nothing more.
        wakes_us: It is silent until then, by the monotonic clock; None: it is awake.
        beat_us: When it last beat.
    """

    def __init__(self, id: str, store: Any, types: tuple[str, ...], now_us: int) -> None:
        self.id = id
        self.queue: list[ReservedJob] = []
        self.running: ReservedJob | None = None
        self.alive = True
        self.wakes_us: int | None = None
        self.beat_us = now_us
        self._store = store
        self._types = types
        self._settlements: list[Settlement] = []
        self._unsure = False
        if "workers" in store.capabilities:
            store.register(WorkerRecord(id, 0, types=types))

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do but to reserve."""
        return not (self.queue or self.running or self._settlements or self._unsure)

    def beat(self, now_us: int) -> None:
        """Give a sign of life, for itself or, where a store knows no workers, for each attempt."""
        self.beat_us = now_us
        if "workers" in self._store.capabilities:
            self._store.beat(self.id)
            return
        for job in [*self.queue, *([self.running] if self.running else [])]:
            try:
                self._store.heartbeat_job(job.attempt)
            except SupersededError:
                continue  # its late write will be refused as well; the handler cannot be stopped by a beat

    def exchange(self, want: int, *, heard: bool = True) -> None:
        """Settle what is done, and reserve. Not heard: it is committed, and the worker does not know."""
        self._reconcile()
        settlements = list(self._settlements)
        if "exchange" in self._store.capabilities:
            result: Exchange = self._store.exchange(self.id, settlements, want, self._types)
        else:
            result = compose_exchange(self._store, self.id, settlements, want, self._types)
        if not heard:
            self._unsure = True
            return
        self._settlements = [
            Settlement(refusal.attempt, Outcome.FAILED) for refusal in result.refused if refusal.reason == _CONFLICT
        ]
        self.queue += result.jobs

    def begin(self) -> ReservedJob:
        """Begin the next job it has."""
        self.running = self.queue.pop(0)
        return self.running

    def end(self, settle: Callable[[ReservedJob], Settlement]) -> None:
        """End what runs; it is settled by a later exchange."""
        assert self.running is not None
        self._settlements.append(settle(self.running))
        self.running = None

    def hand_back(self) -> None:
        """Give back the last job that has not begun."""
        self._settlements.append(Settlement(self.queue.pop().attempt, Outcome.HANDED_BACK))

    def die(self) -> None:
        """Be gone, with all that nobody has heard."""
        self.alive = False

    def verdicts(self) -> dict[Attempt, Verdict]:
        """Return what is told from its file of steps when it is dead: what had begun, and what had not."""
        begun = {settlement.attempt for settlement in self._settlements if settlement.outcome != Outcome.HANDED_BACK}
        if self.running is not None:
            begun.add(self.running.attempt)
        return {
            attempt: Verdict(Outcome.INTERRUPTED if attempt in begun else Outcome.HANDED_BACK)
            for attempt in self._store.held(self.id)
        }

    def _reconcile(self) -> None:
        """After an exchange of which it has not heard: hand back what that reserved."""
        if self._unsure and "workers" in self._store.capabilities:
            known = {settlement.attempt for settlement in self._settlements}
            known |= {job.attempt for job in [*self.queue, *([self.running] if self.running else [])]}
            lost = [attempt for attempt in self._store.held(self.id) if attempt not in known]
            self._settlements += [Settlement(attempt, Outcome.HANDED_BACK) for attempt in lost]
        self._unsure = False
