"""What a test of a project, or of another store, needs: a double, time under control, a model store, the contract.

Everything is looked up at first use: importing this package, or `clock` and `memory` in it, imports no test framework.
Only `StoreContract` and `StoreMachine` need the extra `testing` (pytest, hypothesis).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from overseer_lite.testing.clock import ManualClock, SharedClock
    from overseer_lite.testing.contract import StoreContract
    from overseer_lite.testing.double import AttemptFailedError, Double, NotReachedError
    from overseer_lite.testing.expect import Expect
    from overseer_lite.testing.factory import sqlite_factory
    from overseer_lite.testing.faults import Fault, Faults
    from overseer_lite.testing.job import make_job
    from overseer_lite.testing.machine import StoreMachine
    from overseer_lite.testing.memory import MemoryStore
    from overseer_lite.testing.player import replay
    from overseer_lite.testing.pool import Pool
    from overseer_lite.testing.profiles import Profile, lease
    from overseer_lite.testing.promises import Violation, verify
    from overseer_lite.testing.sim import Sim, SimulationError
    from overseer_lite.testing.trace import Event, Trace, diff

__all__ = [
    "AttemptFailedError",
    "Double",
    "Event",
    "Expect",
    "Fault",
    "Faults",
    "ManualClock",
    "MemoryStore",
    "NotReachedError",
    "Pool",
    "Profile",
    "SharedClock",
    "Sim",
    "SimulationError",
    "StoreContract",
    "StoreMachine",
    "Trace",
    "Violation",
    "diff",
    "lease",
    "make_job",
    "replay",
    "sqlite_factory",
    "verify",
]

_HOMES: Final = {
    "ManualClock": "clock",
    "SharedClock": "clock",
    "MemoryStore": "memory",
    "StoreContract": "contract",
    "StoreMachine": "machine",
    "AttemptFailedError": "double",
    "Double": "double",
    "Profile": "profiles",
    "lease": "profiles",
    "Sim": "sim",
    "SimulationError": "sim",
    "Event": "trace",
    "Trace": "trace",
    "diff": "trace",
    "Violation": "promises",
    "verify": "promises",
    "replay": "player",
    "Expect": "expect",
    "Fault": "faults",
    "Faults": "faults",
    "NotReachedError": "double",
    "Pool": "pool",
    "make_job": "job",
    "sqlite_factory": "factory",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
