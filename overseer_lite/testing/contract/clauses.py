"""What every room of the contract stands on: the store under test, its clock, and what a clause needs of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

from overseer_lite.testing.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from overseer_lite.clock import Clock
    from overseer_lite.store import FullStore


_Clause = TypeVar("_Clause", bound="Callable[..., None]")


def needs(*capabilities: str) -> Callable[[_Clause], _Clause]:
    """Mark a clause that a store without these capabilities need not keep."""

    def mark(clause: _Clause) -> _Clause:
        clause.needs = capabilities  # type: ignore[attr-defined]
        return clause

    return mark


def check_needs(store: FullStore, request: pytest.FixtureRequest) -> None:
    """Skip the clause, and say why, if it needs what the store does not declare."""
    missing = sorted(set(getattr(request.function, "needs", ())) - store.capabilities)
    if missing:
        pytest.skip(f"the store does not declare {', '.join(missing)}")


class Clauses:
    """A store under test, installed and empty for each clause; `StoreContract` puts the rooms together."""

    #: How another process opens the store under test: the name, `package.module:function`, of a function of (directory,
    #: clock); '': by the store's address, its `path`. Only clauses that need `shared` ask.
    factory: str = ""

    def make_store(self, directory: Path, clock: Clock) -> FullStore:
        """Return a fresh store in that directory, by that clock, with a crash limit of 3; it need not be installed."""
        raise NotImplementedError

    def make_unlimited_store(self, directory: Path, clock: Clock) -> FullStore | None:
        """Return one with crash limit 0, that is none; None if the store has no such thing."""
        del directory, clock
        return None

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time of the store under test."""
        return ManualClock()

    @pytest.fixture
    def store(self, tmp_path: Path, clock: ManualClock, request: pytest.FixtureRequest) -> Iterator[FullStore]:
        """The store under test, installed, empty."""
        store = self.make_store(tmp_path, clock)
        store.install()
        check_needs(store, request)
        yield store
        if hasattr(store, "close"):
            store.close()
