"""The model store keeps the contract that it is the model of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overseer_lite.testing.contract import StoreContract
from overseer_lite.testing.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from overseer_lite.clock import Clock


class TestMemoryStore(StoreContract):
    def make_store(self, directory: Path, clock: Clock) -> MemoryStore:
        return MemoryStore(clock)

    def make_unlimited_store(self, directory: Path, clock: Clock) -> MemoryStore:
        return MemoryStore(clock, crash_limit=0)
