"""When a worker is to be started: for a place that has none, or to stand by as a spare."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from overseer_lite.config import cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BACKOFF_S: Final = (0.1, 5.0)
DEATHS_LIMIT: Final = 5  # in a row, at one place, each before the worker's first job
START_TURN_S: Final = 0.25  # how long those that start now can hold up the next
SPARE_AFTER_S: Final = 1.0  # all workers being well for so long, so that no start and no recovery has to share its CPU
SPARE_BACKOFF_S: Final = 60.0


class Places:
    """The places that have no worker, and from when on each is to have one."""

    def __init__(self, count: int) -> None:
        self._first = deque(range(count))  # never had one yet
        self._first_at = 0.0
        self._again_at: dict[int, float] = {}
        self._deaths: dict[int, int] = {}

    def __bool__(self) -> bool:
        """Whether any place has none."""
        return bool(self._first or self._again_at)

    def clear(self) -> None:
        """Leave them as they are: no more are to be started."""
        self._first.clear()
        self._again_at.clear()

    def first(self, starting: Callable[[], int]) -> Iterator[int]:
        """Yield places for their first workers, as many at a time as there are CPUs: side by side each would be later.

        Not for ever: what an app waits for when it is imported must not hold up the workers of other CPUs.

        Args:
            starting: Says how many workers are starting now.
        """
        now = time.monotonic()
        while self._first and (now >= self._first_at or starting() < cpus()):
            self._first_at = now + START_TURN_S
            yield self._first.popleft()

    def again(self) -> Iterator[int]:
        """Yield places that had a worker, and are to have another by now."""
        now = time.monotonic()
        for place, at in list(self._again_at.items()):
            if now >= at:
                del self._again_at[place]
                yield place

    def vacate(self, place: int, *, worked: bool = False) -> None:
        """Have a place filled at once; if its worker had begun a job, what befell those before it is forgotten."""
        if worked:
            self._deaths.pop(place, None)
        self._again_at[place] = time.monotonic()

    def put_off(self, place: int) -> int:
        """Have a place filled whose worker came to nothing: later each time. Return how many did in a row."""
        deaths = self._deaths[place] = self._deaths.get(place, 0) + 1
        self._again_at[place] = time.monotonic() + min(BACKOFF_S[0] * 2 ** (deaths - 1), BACKOFF_S[1])
        return deaths

    def next_at(self) -> list[float]:
        """Return when to look again: monotonic times, none if nothing waits for time to pass."""
        return [*([self._first_at] if self._first else ()), *self._again_at.values()]


class Spares:
    """When a spare is to be started.

    Attributes:
        deaths: How many came to nothing, in a row: the next comes later each time.
        at: When the next is to be started, monotonic; None if none is to be.
    """

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self.deaths = 0
        self.at: float | None = None

    def due(self, standing: int, *, well: bool) -> bool:
        """Whether to start one now: some are missing, and all workers have been well for a while."""
        now = time.monotonic()
        if not well or standing >= self._wanted:
            self.at = None
        elif self.at is None:
            self.at = now + min(SPARE_AFTER_S * 2**self.deaths, SPARE_BACKOFF_S)
        elif now >= self.at:
            self.at = None
            return True
        return False
