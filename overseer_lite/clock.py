"""Time, as a store sees it: one reading of three clocks and the boot they belong to.

Ages are taken from the monotonic clock, which stops while the machine sleeps: a suspended worker is not silent. Due
times are taken from the boot-time clock, which goes on while it sleeps. Wall time is for people, and bridges two
boots. None of these instants leaves the store: durations cross its boundary, instants do not.
"""

from __future__ import annotations

import os
import time
from typing import Final, NamedTuple, Protocol

_BOOT_ID_FILE: Final = "/proc/sys/kernel/random/boot_id"
_CLOCK_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Reading(NamedTuple):
    """One look at the clocks.

    Attributes:
        boot_id: Which boot of which machine the two counters below count from.
        monotonic_us: Microseconds since some point of this boot, suspend not counted.
        boottime_us: Microseconds since some point of this boot, suspend counted.
        wall_us: Microseconds since 1970, as the wall clock has it; it may step.
    """

    boot_id: str
    monotonic_us: int
    boottime_us: int
    wall_us: int


class Clock(Protocol):
    """Where a store takes its time from; tests bring one they control."""

    def read(self) -> Reading:
        """Return one reading; cheap, and safe from any thread."""
        ...


def read_boot_id() -> str:
    """Return the id of this boot: the kernel's on Linux, elsewhere one made from the boot's wall time.

    The fallback is told apart by its prefix, and is rounded to ten seconds since it is a difference of two clocks.
    """
    try:
        with open(_BOOT_ID_FILE, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return f"since-{round((time.time() - time.monotonic()) / 10)}"


class SystemClock:
    """The machine's clocks. All processes of one boot read the same ones, so there is no drift between them."""

    __slots__ = ("_boot_id",)

    def __init__(self) -> None:
        self._boot_id = read_boot_id()

    def read(self) -> Reading:
        """Return the machine's clocks as they stand."""
        return Reading(
            self._boot_id,
            time.monotonic_ns() // 1000,
            time.clock_gettime_ns(_CLOCK_BOOTTIME) // 1000,
            time.time_ns() // 1000,
        )

    @staticmethod
    def boottime_us() -> int:
        """Return that one counter alone; for whoever needs no more, twice a job."""
        return time.clock_gettime_ns(_CLOCK_BOOTTIME) // 1000


CLOCK_VARIABLE: Final = "OVERSEER_LITE_CLOCK"


def open_clock() -> Clock:
    """Return the clock this process should go by: the machine's, or one a test shares through a file.

    A test that controls time names the file in `OVERSEER_LITE_CLOCK`; every process of the project then reads it.
    """
    path = os.environ.get(CLOCK_VARIABLE)
    if not path:
        return SystemClock()
    from overseer_lite.testing.clock import SharedClock  # only a test gets here

    return SharedClock.attach(path)
