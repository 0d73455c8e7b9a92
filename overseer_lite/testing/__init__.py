"""What a test of a project, or of another store, needs: time under control, a model store, the contract of stores.

Everything is looked up at first use: importing this package, or `clock` and `memory` in it, imports no test framework.
Only `StoreContract` and `StoreMachine` need the extra `testing` (pytest, hypothesis).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from overseer_lite.testing.clock import ManualClock, SharedClock
    from overseer_lite.testing.contract import StoreContract
    from overseer_lite.testing.machine import StoreMachine
    from overseer_lite.testing.memory import MemoryStore

__all__ = ["ManualClock", "MemoryStore", "SharedClock", "StoreContract", "StoreMachine"]

_HOMES: Final = {
    "ManualClock": "clock",
    "SharedClock": "clock",
    "MemoryStore": "memory",
    "StoreContract": "contract",
    "StoreMachine": "machine",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
