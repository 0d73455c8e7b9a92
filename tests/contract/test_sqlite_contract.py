"""The SQLite store keeps the contract, and agrees with the model store step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from overseer_lite.store import open_store
from overseer_lite.testing.contract import StoreContract
from overseer_lite.testing.machine import StoreMachine

if TYPE_CHECKING:
    from pathlib import Path

    from overseer_lite.clock import Clock
    from overseer_lite.store import FullStore


class TestSqliteStore(StoreContract):
    def make_store(self, directory: Path, clock: Clock) -> FullStore:
        return open_store(str(directory / "jobs.db"), clock=clock, crash_limit=3)

    def make_unlimited_store(self, directory: Path, clock: Clock) -> FullStore:
        return open_store(str(directory / "jobs.db"), clock=clock, crash_limit=0)


class SqliteMachine(StoreMachine):
    def make_store(self, directory: Path, clock: Clock) -> FullStore:
        return open_store(str(directory / "jobs.db"), clock=clock, crash_limit=3)


@pytest.mark.slow
def test_any_sequence_of_verbs_leaves_the_store_as_the_model_says():
    """What each verb returns, and all that can be seen after it, is what the model store says: 50 sequences of up to 40 steps."""
    run_state_machine_as_test(
        SqliteMachine,
        settings=settings(
            derandomize=True,
            database=None,
            deadline=None,
            max_examples=50,
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )
