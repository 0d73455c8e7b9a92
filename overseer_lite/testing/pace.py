"""The double's clock: while processes work by it, time goes on at a pace at which the living can beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from overseer_lite.testing.clock import SharedClock

if TYPE_CHECKING:
    import mmap


class Follower(Protocol):
    """Processes that go by the clock."""

    @property
    def beat_s(self) -> float:
        """Seconds between two beats of theirs."""
        ...

    def wait_beaten(self) -> None:
        """Wait until each of those that live has beaten by the time that the clock shows."""
        ...


class PacedClock(SharedClock):
    """A shared clock that is advanced in steps of at most one beat of those that follow it."""

    __slots__ = ("_followers",)

    def __init__(self, path: str, mapped: mmap.mmap) -> None:
        super().__init__(path, mapped)
        self._followers: list[Follower] = []

    def follow(self, who: Follower) -> None:
        """Have time wait for these processes from now on."""
        self._followers.append(who)

    def leave(self, who: Follower) -> None:
        """Have it not wait for them any more."""
        self._followers.remove(who)

    def advance(self, seconds: float) -> None:
        """Let time pass: all three clocks go on; at once, or, while a pool works, step by step.

        A step is at most one beat, and after each the workers that live are waited for until they have beaten. So
        nobody falls silent by a jump, however far; those that are stopped, or killed, or whose beats are dropped do.
        Retries that have become due are taken up, and attempts run out of time, as in real time.

        Raises:
            TimedOutError: A worker that lives did not beat within 10 s of real time.
        """
        if not self._followers:
            super().advance(seconds)
            return
        if not seconds >= 0:
            raise ValueError(f"{seconds!r} s: counters never go back; only `step_wall` takes a negative duration")
        left_us = round(seconds * 1e6)
        while left_us > 0:
            step_us = min(left_us, *(round(who.beat_s * 1e6) for who in self._followers))
            super().advance(step_us / 1e6)
            left_us -= step_us
            for who in self._followers:
                who.wait_beaten()
