"""The SQLite store keeps the contract, and agrees with the model store step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overseer_lite.store import open_store
from overseer_lite.testing.contract import StoreContract

if TYPE_CHECKING:
    from pathlib import Path

    from overseer_lite.clock import Clock
    from overseer_lite.store import FullStore


class TestSqliteStore(StoreContract):
    sequences = 50

    def make_store(self, directory: Path, clock: Clock) -> FullStore:
        return open_store(str(directory / "jobs.db"), clock=clock, crash_limit=3)

    def make_unlimited_store(self, directory: Path, clock: Clock) -> FullStore:
        return open_store(str(directory / "jobs.db"), clock=clock, crash_limit=0)
