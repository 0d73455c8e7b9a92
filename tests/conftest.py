"""What every test may use."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

#: A file system in memory. On a disk the suite waits for it half of its time, and no test here asks what a loss of power
#: leaves.
MEMORY: Final = "/dev/shm"
_ROOM_BYTES: Final = 2 << 30


def pytest_configure(config: pytest.Config) -> None:
    """Put what the tests write into memory, unless TMPDIR or --basetemp says where; `TMPDIR=/tmp` is for a real disk.

    And let what they start hear of a Ctrl-C, which a shell has its background jobs ignore.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "TMPDIR" in os.environ or config.option.basetemp is not None:
        return
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= _ROOM_BYTES:
        os.environ["TMPDIR"] = MEMORY  # for what the tests start, too
        tempfile.tempdir = None  # whoever has asked already asks again


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
