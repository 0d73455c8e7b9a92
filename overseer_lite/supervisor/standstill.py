"""Processes that stand still (state T) where nobody would ever miss their beats; they are killed after a while."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from overseer_lite.liveness.identity import Identity, read_stat, send_signal
from overseer_lite.liveness.tree import flock_holder
from overseer_lite.worker.loop import STOPPED_GRACE_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from overseer_lite.supervisor.member import Member

log = logging.getLogger("overseer_lite.supervisor")

STOPPED_HOLDER_S: Final = 10.0
LOOK_S: Final = 0.5
LOOK_LATEST_S: Final = 5.0


class StartWatch:
    """Watches the workers that are not in the store yet."""

    def __init__(self) -> None:
        self._look_at = 0.0

    def look(self, members: Iterable[Member]) -> None:
        """Kill whoever has stood still for too long before it entered the store."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        for member in members:
            if member.ready or not member.child.stopped():
                member.stopped_at = None
            elif member.stopped_at is None:
                member.stopped_at = now
            elif now - member.stopped_at > STOPPED_GRACE_S:
                log.warning("Worker %s stands still (state T) before it has entered; it is killed", member.id)
                member.child.signal(signal.SIGKILL)


class GateWatch:
    """Watches whoever holds the writer gate: while it stands still, nobody can write."""

    def __init__(self, state_directory: str) -> None:
        self._path = os.path.join(state_directory, "gate")
        self._holder: tuple[int, float] | None = None
        self._looked_at = 0.0

    def look(self, *, quiet: bool) -> None:
        """Kill the holder if it has stood still for too long.

        The kernel's table of locks takes 7 ms to read, for it waits until every CPU has seen that its locks are held up. So
        it is read while nothing else happens, or a death would wait for it; now and then at any rate.

        Args:
            quiet: Nothing has happened since the last look.
        """
        now = time.monotonic()
        if now - self._looked_at < (LOOK_S if quiet else LOOK_LATEST_S):
            return
        self._looked_at = now
        with suppress(OSError):
            pid = flock_holder(self._path)
            stat = read_stat(pid) if pid else None
            if pid is None or stat is None or stat.state not in "Tt":
                self._holder = None
                return
            if self._holder is None or self._holder[0] != pid:
                self._holder = (pid, now)
                log.warning("Process %d stands still (state T) and holds the writer gate", pid)
            elif now - self._holder[1] > STOPPED_HOLDER_S:
                log.warning("Process %d is killed: it stood still holding the writer gate", pid)
                identity = Identity.of(pid)
                if identity is not None:
                    send_signal(identity, signal.SIGKILL)
                self._holder = None
