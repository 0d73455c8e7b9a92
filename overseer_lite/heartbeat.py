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
        wait: How to wait so long, or until the event is set; returns whether it is. In real time unless given; a clock
            that a test moves has a `wait` of its own, so that a worker beats as often as that clock says.
    """

    def __init__(
        self,
        beat: Callable[[], None],
        interval_s: float,
        wait: Callable[[threading.Event, float], bool] | None = None,
    ) -> None:
        self._beat = beat
        self._interval_s = interval_s
        self._wait = wait or threading.Event.wait
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def beat(self) -> None:
        """Give one sign of life; the step that the thread repeats."""
        if failpoints.hit("beat.given"):
            self._beat()

    def start(self) -> None:
        """Begin; the first beat is given before this returns."""
        self.beat()
        self._thread.start()

    def stop(self) -> None:
        """End; no beat is given after this returns."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._wait(self._stop, self._interval_s):
            self.beat()
