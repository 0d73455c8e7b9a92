"""The contract suite as `overseer-lite test-store` runs it: on the factory that the environment names.

Not for import: pytest collects it, in the process that `overseer_lite.testing.factory` is the main of.
"""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any

import pytest

pytest.register_assert_rewrite("overseer_lite.testing.contract")

from overseer_lite.testing.contract import StoreContract  # noqa: E402 - after the line above, or failures say little
from overseer_lite.testing.factory import BRIEF_VARIABLE, FACTORY_VARIABLE, load_factory  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from overseer_lite.clock import Clock
    from overseer_lite.store import FullStore

_make: Any = load_factory(os.environ[FACTORY_VARIABLE])


class TestStore(StoreContract):
    """The clauses, on what the factory makes."""

    factory = os.environ[FACTORY_VARIABLE]
    shrink = BRIEF_VARIABLE not in os.environ

    def make_store(self, directory: Path, clock: Clock) -> FullStore:
        """Return what the factory makes."""
        store: FullStore = _make(directory, clock)
        return store

    def make_unlimited_store(self, directory: Path, clock: Clock) -> FullStore | None:
        """Return one without a crash limit, from a factory that can be asked for it."""
        if "crash_limit" not in inspect.signature(_make).parameters:
            return None
        store: FullStore = _make(directory, clock, crash_limit=0)
        return store
