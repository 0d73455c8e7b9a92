"""A supervisor without the kernel's word: what a worker held is put back when it has been silent for too long.

So it is where a store spans machines: nobody there can prove a death. The processes are real all the same, and a dead
worker's tree is cleared, which its own machine would see to.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, cast

from overseer_lite import supervisor
from overseer_lite.monitor import Monitor, Recovered, reset_silent
from overseer_lite.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from overseer_lite.job import Attempt, Status
    from overseer_lite.store import FullStore, Verdict

SWEEP_S: Final = 0.05


class _Untold:
    """The store, for a burial of which it is told nothing: what the dead held stays started."""

    def __init__(self, store: FullStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def held_keys(self, worker: str) -> dict[tuple[int, int], Attempt]:  # noqa: ARG002 - the verb's
        """Return nothing."""
        return {}

    def recover(self, worker: str, verdicts: Mapping[Attempt, Verdict]) -> list[tuple[Attempt, Status]]:  # noqa: ARG002
        """Do nothing."""
        return []


class LeaseMonitor(Monitor):
    """Resets what is silent, whoever lives; buries trees without telling the store."""

    def __init__(self, store: FullStore, **options: Any) -> None:
        super().__init__(cast("FullStore", _Untold(store)), **options)
        self._told = store

    def sweep(self, own: Collection[str] = ()) -> list[Recovered]:
        """Reset the silent, and strike out the dead that hold nothing any more."""
        reset = reset_silent(self._told, self._silent_for_s)
        for record in self._told.workers():
            if record.id not in own and not os.path.lexists(self.path(record.id)):
                self._told.leave(record.id)
        return [Recovered("", tuple(reset), 0.0)] if reset else []


class LeaseSupervisor(Supervisor):
    """A supervisor with that monitor, which looks more often than time passes: a test moves it."""

    sweep_s = SWEEP_S
    monitor = LeaseMonitor


def main(arguments: list[str]) -> None:
    """Start as the process that a pool spawned; the one argument is JSON: a plan, and settings."""
    supervisor.main(arguments, LeaseSupervisor)
