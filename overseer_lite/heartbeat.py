"""Saying "alive": a thread that beats, whatever the main loop of its process waits for.

A beat is a store into the worker's own mapped file: no lock of the database takes part, so one stuck writer or a full
disk does not silence every worker at once. The main loop mirrors beats into the store's table when it can.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from overseer_lite import failpoints

if TYPE_CHECKING:
    from collections.abc import Callable


class Heartbeat:
    """Beats every so many seconds, the first time at once, until stopped.

    Args:
        beat: Gives one sign of life; called from the thread.
        interval_s: Seconds between two beats.
        after: Asked for before each beat: how to wait until so many seconds have passed from then on, or the event is
            set; tells whether it is. In real time unless given; a clock that a test moves has one of its own, so that a
            worker beats as often as that clock says, also where it is moved as soon as a beat was seen.
    """

    def __init__(
        self,
        beat: Callable[[], None],
        interval_s: float,
        after: Callable[[float], Callable[[threading.Event], bool]] | None = None,
    ) -> None:
        self._beat = beat
        self._interval_s = interval_s
        self._after = after or _after
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def beat(self) -> None:
        """Give one sign of life; the step that the thread repeats."""
        if failpoints.hit("beat.given"):
            self._beat()

    def start(self) -> None:
        """Begin; the first beat is given before this returns."""
        wait = self._after(self._interval_s)
        self.beat()
        self._thread = threading.Thread(target=self._run, args=(wait,), name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; no beat is given after this returns."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, wait: Callable[[threading.Event], bool]) -> None:
        while not wait(self._stop):
            wait = self._after(self._interval_s)
            self.beat()


def _after(seconds: float) -> Callable[[threading.Event], bool]:
    return lambda stop: stop.wait(seconds)
