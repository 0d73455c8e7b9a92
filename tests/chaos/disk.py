"""The disk is full, and then it is not: work waits and goes on by itself, nothing acknowledged is lost."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.chaos.judge import judge
from tests.chaos.kills import chains
from tests.chaos.rig import Rig
from tests.chaos.scenario import Figures, Skipped, Unit, Violation, scenario

CYCLES = 5
SIZE = "64m"
FULL_S = 1.2


@contextmanager
def _small_disk(path: str) -> Iterator[None]:
    os.makedirs(path, mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "chaos", path]
    done = subprocess.run(mount, capture_output=True, text=True, check=False) if os.geteuid() == 0 else None
    if done is None or done.returncode != 0:
        raise Skipped(f"no small disk can be mounted: {'not root' if done is None else done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def _fill(path: str) -> None:
    """Take all the room there is."""
    block = b"\0" * (1 << 20)
    with open(path, "ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(block)
            if len(block) > 4096 and os.statvfs(path).f_bavail * os.statvfs(path).f_frsize < len(block):
                block = block[:4096]


@scenario("disk-full", small=1, release=40)
def disk_full(unit: Unit) -> Figures:
    """The store's disk is full, five times a unit, then has room again: it finishes by itself."""
    disk = os.path.join(unit.directory, "disk")
    with _small_disk(disk):
        rig = Rig(unit.directory, {"db": os.path.join(disk, "jobs.db"), "heartbeat_interval_s": 0.5, "tolerance": 100})
        rig.db = os.path.join(disk, "jobs.db")
        try:
            return _cycles(unit, rig, os.path.join(disk, "filler"))
        finally:
            rig.close()


def _cycles(unit: Unit, rig: Rig, filler: str) -> Figures:
    refused = waited = 0
    rig.submit([*chains(unit, 2, 24, 0.1, 0.4), *({"id": f"n{number}", "type": "noop"} for number in range(300))])
    started = rig.start("-n", "2")
    rig.look_on(2.0)
    for cycle in range(CYCLES):
        rig.wait_for(rig.running, name="a job runs")
        _fill(filler)
        begun = len(rig.events())
        time.sleep(FULL_S)
        jobs = [{"id": f"extra-{cycle}-{number}", "args": {"s": 0, "pad": "x" * 20_000}} for number in range(20)]
        done = rig.cli("submit", "-", input=rig.lines(jobs))
        if done.returncode not in (0, 3):
            raise Violation(f"a submit to a full disk ended with {done.returncode}: {done.stderr[-300:]}")
        refused += done.returncode == 3
        after = len(rig.events())
        time.sleep(FULL_S / 2)
        waited += len(rig.events()) == after  # nothing is reserved below the floor
        os.unlink(filler)
        if done.returncode == 0:
            rig.note(jobs)
        else:
            rig.submit(jobs)
        rig.wait_for(lambda: len(rig.events()) > begun + 2, name="it goes on by itself")
    rig.stop(started)
    rig.drain()
    figures, _evidence = judge(rig, interrupted=waited)
    if not waited or not refused:
        raise Violation(
            f"two-sided: {waited} pauses, {refused} submits refused: the disk was never full", figures=figures
        )
    return {**figures, "cycles": CYCLES, "waited": waited, "submits_refused": refused}
