"""Workers with nothing to do cost next to nothing."""

from __future__ import annotations

import time

import pytest

from tests.conftest import wait_until
from tests.process.conftest import cpu_s

pytestmark = pytest.mark.slow


def own_mib(pid):
    """Return the MiB that a process shares with nobody."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_")) / 1024


def test_four_idle_workers_use_under_one_percent_of_a_core_and_under_30_mib_each(crew):
    """A doorbell, no polling: supervisor, workers and runners together, over three seconds."""
    crew.start(4)
    crew.wait_ready(4)
    wait_until(lambda: len(crew.processes()) == 9, 5, "supervisor, workers, runners and nobody else")
    pids = crew.processes()
    first_s, first_at = cpu_s(pids), time.monotonic()
    wait_until(lambda: time.monotonic() - first_at > 3, 4, "three seconds")
    used = (cpu_s(pids) - first_s) / (time.monotonic() - first_at)
    memory = {pid: own_mib(pid) for pid in pids}
    print(f"idle: {used:.2%} of a core; own memory {', '.join(f'{mib:.1f}' for mib in memory.values())} MiB")
    assert used < 0.01 + 0.01  # ticks of 10 ms, and what starting still had to do
    assert max(memory.values()) < 30
