"""The clocks a test controls: what each verb moves, and that many processes read one time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from overseer_lite.clock import CLOCK_VARIABLE, Clock, Reading, open_clock
from overseer_lite.testing.clock import ManualClock, SharedClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Controlled = ManualClock | SharedClock


@pytest.fixture(params=["manual", "shared"])
def make_clock(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Controlled]]:
    made: list[SharedClock] = []

    def make(**options: bool) -> Controlled:
        if request.param == "manual":
            return ManualClock(**options)
        made.append(SharedClock.create(tmp_path / f"clock-{len(made)}", **options))
        return made[-1]

    yield make
    for clock in made:
        clock.close()


def moved(before: Reading, after: Reading) -> tuple[float, float, float]:
    """Return by how many seconds the monotonic, the boot-time and the wall clock moved."""
    return tuple((b - a) / 1e6 for a, b in zip(before[1:], after[1:], strict=True))


def test_time_stands_still_until_it_is_moved(make_clock):
    """Two readings are equal, however much real time lies between them."""
    clock: Clock = make_clock()
    first = clock.read()
    os.listdir("/proc")
    assert clock.read() == first


def test_the_three_clocks_start_at_different_values(make_clock):
    """Code that takes one clock for another must not get away with it by luck."""
    reading = make_clock().read()
    assert len({reading.monotonic_us, reading.boottime_us, reading.wall_us}) == 3


@pytest.mark.parametrize(
    ("verb", "seconds", "expected"),
    [
        ("advance", 2.5, (2.5, 2.5, 2.5)),
        ("advance", 0, (0, 0, 0)),
        ("suspend", 3600, (0, 3600, 3600)),
        ("step_wall", 86400, (0, 0, 86400)),
        ("step_wall", -1e9, (0, 0, -1e9)),
    ],
)
def test_a_verb_moves_its_clocks_and_no_other(make_clock, verb, seconds, expected):
    """Advance moves all, suspend all but the monotonic clock, a step only wall time; the boot stays."""
    clock = make_clock()
    before = clock.read()
    getattr(clock, verb)(seconds)
    after = clock.read()
    assert (moved(before, after), after.boot_id) == (expected, before.boot_id)


def test_a_reboot_has_a_new_id_and_counters_near_zero_while_wall_time_goes_on(make_clock):
    """Counters count from the boot; only wall time bridges two boots, the time without power included."""
    clock = make_clock()
    before = clock.read()
    clock.reboot(off_s=90)
    after = clock.read()
    assert after.boot_id != before.boot_id
    assert after.wall_us - before.wall_us == 90_000_000
    assert max(after.monotonic_us, after.boottime_us) <= 1_000_000 < before.monotonic_us


def test_each_boot_has_an_id_of_its_own(make_clock):
    """No two boots share an id, whether given or made up."""
    clock = make_clock()
    ids = [clock.read().boot_id]
    for given in (None, "mine", None, None):
        clock.reboot(given)
        ids.append(clock.read().boot_id)
    assert len(set(ids)) == 5
    assert ids[2] == "mine"


@pytest.mark.parametrize(
    "misuse",
    [
        lambda clock: clock.advance(-1),
        lambda clock: clock.suspend(-0.1),
        lambda clock: clock.advance(float("nan")),
        lambda clock: clock.reboot(clock.read().boot_id),
        lambda clock: clock.reboot("x" * 65),
        lambda clock: clock.reboot(off_s=-1),
    ],
)
def test_what_no_machine_does_is_refused_and_moves_nothing(make_clock, misuse):
    """Counters never go back, and another boot has another id."""
    clock = make_clock()
    before = clock.read()
    with pytest.raises(ValueError):
        misuse(clock)
    assert clock.read() == before


def test_a_running_clock_goes_on_with_real_time(make_clock, eventually):
    """With `running=True` real time that passes is added to all three clocks alike, and verbs still count."""
    clock = make_clock(running=True)
    before = clock.read()
    eventually(lambda: clock.read().monotonic_us > before.monotonic_us + 2000, what="progress of a running clock")
    clock.advance(1000)
    monotonic, boottime, wall = moved(before, clock.read())
    assert 1000.002 < monotonic == boottime == wall < 1010


def test_a_running_clock_counts_real_time_once(make_clock, eventually):
    """However often it is moved meanwhile, no more passes than has really passed."""
    clock = make_clock(running=True)
    begun = time.monotonic()
    before = clock.read()
    eventually(lambda: clock.read().monotonic_us > before.monotonic_us + 2000, what="progress of a running clock")
    for _ in range(100):
        clock.advance(0)
    assert moved(before, clock.read())[0] <= time.monotonic() - begun


def test_a_running_clock_starts_near_zero_after_a_reboot(make_clock):
    """The real time before the reboot is not counted again."""
    clock = make_clock(running=True)
    clock.advance(50)
    clock.reboot()
    assert 1_000_000 <= clock.read().monotonic_us < 6_000_000


def test_all_who_attach_read_the_same_time(tmp_path):
    """A change by one is seen by the other at its next reading, in both directions."""
    one = SharedClock.create(tmp_path / "clock")
    other = SharedClock.attach(tmp_path / "clock")
    one.advance(5)
    other.suspend(7)
    one.reboot("b2")
    assert one.read() == other.read()
    assert other.read().boot_id == "b2"
    one.close()
    other.close()


def test_creating_over_something_is_refused(tmp_path):
    """Two tests must not take each other's clock."""
    SharedClock.create(tmp_path / "clock").close()
    with pytest.raises(FileExistsError):
        SharedClock.create(tmp_path / "clock")


@pytest.mark.parametrize("damage", [lambda _: b"", lambda whole: whole[:-1], lambda whole: b"x" * len(whole)])
def test_a_file_that_is_no_clock_is_refused(tmp_path, damage):
    """Neither size nor checksum may be wrong."""
    SharedClock.create(tmp_path / "clock").close()
    (tmp_path / "clock").write_bytes(damage((tmp_path / "clock").read_bytes()))
    with pytest.raises(ValueError, match="no clock file"):
        SharedClock.attach(tmp_path / "clock")


@pytest.mark.parametrize("cut", [0, 1, 9, 50, 110])
def test_a_writer_killed_in_the_middle_leaves_the_last_whole_state(tmp_path, cut):
    """A torn slot is passed over; the next change repairs it."""
    clock = SharedClock.create(tmp_path / "clock")
    clock.advance(1)
    whole = clock.read()
    before = (tmp_path / "clock").read_bytes()
    clock.advance(10**6)
    after = (tmp_path / "clock").read_bytes()
    torn = next(i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b) + cut
    (tmp_path / "clock").write_bytes(after[:torn] + before[torn:])
    reopened = SharedClock.attach(tmp_path / "clock")
    assert reopened.read() == whole
    reopened.advance(2)
    assert moved(whole, reopened.read()) == (2, 2, 2)
    clock.close()
    reopened.close()


def test_the_environment_makes_a_process_go_by_the_shared_clock(tmp_path, monkeypatch):
    """`open_clock` attaches to the file `OVERSEER_LITE_CLOCK` names."""
    clock = SharedClock.create(tmp_path / "clock")
    monkeypatch.setenv(CLOCK_VARIABLE, str(tmp_path / "clock"))
    opened = open_clock()
    clock.advance(3)
    assert isinstance(opened, SharedClock)
    assert opened.read() == clock.read()
    clock.close()
    opened.close()


_ADVANCE = """
import sys
from overseer_lite.testing.clock import SharedClock
clock = SharedClock.attach(sys.argv[1])
for _ in range(1000):
    clock.advance(1)
sys.stdin.readline()  # the reader has seen that
for _ in range(1000):
    clock.advance(1)
"""


@pytest.mark.slow
def test_changes_by_several_processes_are_all_counted_and_never_seen_torn(tmp_path):
    """Writers exclude each other; a reader meanwhile sees only whole states, each no older than the one before."""
    clock = SharedClock.create(tmp_path / "clock")
    start = clock.read()
    argv = [sys.executable, "-c", _ADVANCE, clock.path]
    writers = [subprocess.Popen(argv, stdin=subprocess.PIPE) for _ in range(2)]
    seen = [clock.read()]
    while moved(start, seen[-1])[0] < 2000:
        seen.append(clock.read())
    for writer in writers:
        writer.stdin.close()
    while any(writer.poll() is None for writer in writers):
        seen.append(clock.read())
    seen.append(clock.read())
    assert [writer.returncode for writer in writers] == [0, 0]
    assert all(len(set(moved(start, reading))) == 1 for reading in seen)
    assert all(a.monotonic_us <= b.monotonic_us for a, b in pairwise(seen))
    assert len(set(seen)) > 2, "nothing was read while the others wrote"
    assert moved(start, clock.read()) == (4000, 4000, 4000)
    clock.close()


def test_changes_by_several_threads_are_all_counted(make_clock):
    """A worker beats from a thread: no change is lost between threads either."""
    clock = make_clock()
    start = clock.read()
    threads = [
        threading.Thread(target=lambda: [clock.advance(1) for _ in range(200)]),
        threading.Thread(target=lambda: [clock.advance(1) for _ in range(200)]),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert moved(start, clock.read()) == (400, 400, 400)


@pytest.mark.slow
def test_the_clocks_and_the_model_store_import_no_test_framework():
    """A production process under test pays nothing for `overseer_lite.testing` and needs no extra."""
    code = (
        "import sys, overseer_lite.testing.clock, overseer_lite.testing.memory\n"
        "print(sorted({'pytest', 'hypothesis', '_pytest', 'dataclasses'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
