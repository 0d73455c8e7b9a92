"""The pytest plugin: the fixture `overseer_double`. Loaded by entry point in every run of pytest, so it imports nothing.

What it gives is imported when a test asks for it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from overseer_lite.testing.double import Double


@pytest.fixture
def overseer_double(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Double]]:
    """Make doubles: `overseer_double(handlers, context=None)`. `open_store()` opens the one made last."""
    from overseer_lite.clock import CLOCK_VARIABLE
    from overseer_lite.testing.double import Double

    with contextlib.ExitStack() as stack:

        def make(handlers: Mapping[str, Any], context: Any = None) -> Double:
            double = Double(handlers, tmp_path_factory.mktemp("overseer"), context=context)
            stack.callback(double.close)
            monkeypatch.setenv("OVERSEER_LITE_DB", double.store.path)
            # Code under test opens the store anew; by another clock, the two would take each other for another boot.
            monkeypatch.setenv(CLOCK_VARIABLE, double.clock.path)
            return double

        yield make
