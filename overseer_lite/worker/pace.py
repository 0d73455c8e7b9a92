"""How many jobs a worker reserves at a time: a few milliseconds of work, by the measured length of jobs of that type.

A group shares one transaction, and at full durability one sync. Its price is that a job may wait behind others in the
same worker; so a group is short, a type that takes long (or that nobody has measured yet) comes alone, and what waits
behind a job that turns out to be long is handed back (`LONG_S`), to be reserved alone next time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

BUDGET_S: Final = 0.004
LARGEST: Final = 48  # with what waits to be settled, less than there are slots for
LONG_S: Final = 0.02
GATHER_S: Final = 0.001  # how long an end may wait for others to be settled with

_UP: Final = 0.5  # how fast an estimate follows longer jobs
_DOWN: Final = 0.1


class Pace:
    """What has been measured of each type."""

    __slots__ = ("_estimate_s", "_size")

    def __init__(self) -> None:
        self._estimate_s: dict[str, float] = {}
        self._size: dict[str, int] = {}

    def note(self, kind: str, ran_s: float) -> None:
        """Take one attempt's length into account; a group at most doubles from one such note to the next."""
        known = self._estimate_s.get(kind)
        estimate = ran_s if known is None else known + (ran_s - known) * (_UP if ran_s > known else _DOWN)
        self._estimate_s[kind] = estimate
        fits = int(BUDGET_S / estimate) if estimate > 0 else LARGEST
        self._size[kind] = max(1, min(LARGEST, fits, 2 * self._size.get(kind, 1)))

    def size(self, kind: str) -> int:
        """Return how many jobs of a type are reserved at a time."""
        return self._size.get(kind, 1)

    def largest(self, kinds: Iterable[str]) -> int:
        """Return the largest group that any of these types is reserved in."""
        return max(map(self.size, kinds), default=1)

    def sizes(self, kinds: Iterable[str], limited: Iterable[str]) -> dict[str, int]:
        """Return each type's group; one of which only so many may be started at a time is never reserved ahead."""
        alone = frozenset(limited)
        return {kind: 1 if kind in alone else self.size(kind) for kind in kinds}
