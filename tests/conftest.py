"""What every test may use."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


class Ended(NamedTuple):
    """What a call of the command line left, in this process or in one of its own."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON on stdout; anything else there is an error."""
        return json.loads(self.out)


def wait_until(condition: Callable[[], object], timeout_s: float = 10.0, what: str = "the condition") -> object:
    """Return the first true value of `condition`; fail the test if it takes longer than that."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {timeout_s:g} s")
        time.sleep(0.005)


@pytest.fixture
def eventually() -> Callable[..., object]:
    """The one place in the suite that sleeps: wait for a condition, fail with its name if it does not come true."""
    return wait_until
