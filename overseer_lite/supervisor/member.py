"""A worker process as its supervisor sees it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from overseer_lite.liveness.identity import Identity
    from overseer_lite.liveness.spawn import Child, Exit


class Member:
    """A worker process, from its spawn to its burial. One without a place is a spare: it stands by."""

    __slots__ = (
        "_said",
        "begun_job",
        "child",
        "hung_up",
        "id",
        "life",
        "not_its",
        "place",
        "ready",
        "report",
        "stopped_at",
        "words",
    )

    def __init__(self, place: int | None, worker_id: str, child: Child, life: int, report: int) -> None:
        self.place = place
        self.id = worker_id
        self.child = child
        self.life = life  # our end of the pipe whose end tells the worker that we are gone
        self.report = report
        self.ready = False
        self.begun_job = False
        self.hung_up = False  # it is dying, or was so rude as to close its pipe: nothing more is heard of it
        self.words = b""
        self._said = b""
        self.stopped_at: float | None = None
        self.not_its: set[Identity] = set()  # orphans that came to us while it lived, and so are another's

    def listen(self) -> None:
        """Read what the worker has reported so far."""
        with suppress(BlockingIOError):
            while data := os.read(self.report, 4096):
                self._said += data
            self.hung_up = True
        head, _, self.words = self._said.partition(b" ")
        self.ready, self.begun_job = b"r" in head, b"j" in head

    def call(self, place: int) -> None:
        """Have a spare take a place: it enters the store and works."""
        self.place = place
        with suppress(BrokenPipeError):  # it has just died: seen in a moment, and replaced like any other
            os.write(self.life, b"!")

    def close(self) -> None:
        """Let go of its pipes."""
        os.close(self.life)
        os.close(self.report)


def how(exit_: Exit) -> str:
    """Return how a process ended, in words."""
    return f"signal {exit_.signal}" if exit_.signal is not None else f"exit code {exit_.code}"
