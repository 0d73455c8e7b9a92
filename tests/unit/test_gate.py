"""The writer gate: one holder at a time, every wait bounded, a dead holder lets go, a stopped one is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from overseer_lite import failpoints
from overseer_lite.errors import StoreBusyError, StoreUnavailableError, UnusableStoreError
from overseer_lite.liveness.identity import read_stat
from overseer_lite.liveness.tree import flock_holder
from overseer_lite.sqlite.gate import Gate

HOLD = """
import sys
from overseer_lite.sqlite.gate import Gate
gate = Gate(sys.argv[1])
gate.acquire(10)
print("held", flush=True)
sys.stdin.read()
"""

# Adds to a number that only the gate protects: reads, lets others run, writes.
COUNT = """
import os, sys
from overseer_lite.sqlite.gate import Gate
gate = Gate(sys.argv[1])
for _ in range(200):
    gate.acquire(30)
    with open(sys.argv[2]) as file:
        number = int(file.read())
    os.sched_yield()
    with open(sys.argv[2], "w") as file:
        file.write(str(number + 1))
    gate.release()
"""

# Waits for the gate as a worker does: bounded, a signal's handler only sets a flag.
WAIT = """
import signal, sys, time
from overseer_lite.errors import StoreBusyError
from overseer_lite.sqlite.gate import Gate, use_alarm
flags = []
signal.signal(signal.SIGTERM, lambda *_: flags.append(time.monotonic()))
use_alarm()
gate = Gate(sys.argv[1])
print("waiting", flush=True)
while not flags:
    try:
        gate.acquire(1.0)
        print("got", flush=True)
        break
    except StoreBusyError:
        pass
print(f"{time.monotonic() - flags[0]:.3f}" if flags else "none", flush=True)
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "gate")


@pytest.fixture
def child():
    """Start children that say a word when they are ready; those still there at the end are killed."""
    children = []

    def start(code, *arguments, word=None):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        children.append(process)
        if word is not None:
            assert process.stdout.readline().strip() == word
        return process

    yield start
    for process in children:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait(20)


@pytest.fixture
def gate(path):
    made = Gate(path, "jobs.db")
    yield made
    made.close()


@pytest.mark.slow
def test_two_processes_never_hold_the_gate_at_once(path, tmp_path, child):
    """What one reads and writes under the gate no other one changes in between: no addition is lost."""
    number = tmp_path / "number"
    number.write_text("0")

    for process in [child(COUNT, path, str(number)) for _ in range(3)]:
        assert process.wait(60) == 0

    assert number.read_text() == "600"


def test_a_gate_that_is_let_go_can_be_taken_again(gate, path):
    """Also by another handle of this very process: the lock belongs to the open file, not to the process."""
    other = Gate(path)
    gate.acquire(0)
    with pytest.raises(StoreBusyError):
        other.acquire(0)
    gate.release()
    other.acquire(0)

    assert (gate.held, other.held) == (False, True)
    other.close()


def test_a_wait_ends_at_its_bound_and_names_the_holder(gate, path, child):
    """A waiter must come back to look at its flags; who holds it is what a person needs to know."""
    holder = child(HOLD, path, word="held")

    begun = time.monotonic()
    with pytest.raises(StoreBusyError) as caught:
        gate.acquire(0.1)

    assert 0.1 <= time.monotonic() - begun < 0.2
    assert caught.value.holder == f"process {holder.pid}"
    assert caught.value.path == "jobs.db", "the store is what a person knows, not its gate"
    assert caught.value.waited_s == pytest.approx(0.1, abs=0.05)


def test_a_stopped_holder_is_said_to_be_stopped(gate, path, child, eventually):
    """It holds the gate until it is continued or killed: waiting longer helps nobody."""
    holder = child(HOLD, path, word="held")
    holder.send_signal(signal.SIGSTOP)
    eventually(lambda: read_stat(holder.pid).state == "T")

    with pytest.raises(StoreBusyError, match=rf"process {holder.pid} \(which is stopped\)"):
        gate.acquire(0.02)


def test_a_killed_holder_lets_go_at_once(gate, path, child):
    """The kernel closes its descriptors: nobody has to notice the death first."""
    holder = child(HOLD, path, word="held")
    killed_at = []
    threading.Timer(0.05, lambda: (killed_at.append(time.monotonic()), holder.kill())).start()

    gate.acquire(5)

    assert time.monotonic() - killed_at[0] < 0.1


@pytest.mark.slow
def test_a_waiter_in_the_kernel_acts_on_sigterm_within_a_second(path, child, eventually):
    """Python resumes an interrupted flock by itself (PEP 475): a flag-only handler would be seen when the lock is got."""
    child(HOLD, path, word="held")
    waiter = child(WAIT, path, word="waiting")
    eventually(lambda: flock_waits(waiter.pid))
    waiter.send_signal(signal.SIGTERM)

    late_s = float(waiter.stdout.readline())

    assert late_s < 1.1


def flock_waits(pid):
    with open("/proc/locks") as file:
        return any(words[1] == "->" and words[5] == str(pid) for words in map(str.split, file))


@pytest.mark.slow
def test_a_waiter_in_the_kernel_gets_the_gate_when_it_is_let_go(path, child, eventually):
    """The alarm only bounds the wait; it does not lose the lock."""
    holder = child(HOLD, path, word="held")
    waiter = child(WAIT, path, word="waiting")
    eventually(lambda: flock_waits(waiter.pid))
    holder.stdin.close()

    assert waiter.stdout.readline().strip() == "got"


def test_whatever_goes_wrong_just_after_the_gate_was_got_lets_it_go(gate):
    """A signal's handler may raise anywhere: a gate nobody knows to be held would stop all writers for ever."""
    failpoints.arm("gate.held", "raise")
    try:
        with pytest.raises(failpoints.FailpointError):
            gate.acquire(0)
    finally:
        failpoints.disarm()

    assert (gate.held, flock_holder(gate.path)) == (False, None)


def test_the_gate_is_no_link_and_nobody_elses(path, tmp_path):
    """Whoever could put a link there could have us lock, or make, a file of his choice."""
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(StoreUnavailableError):
        Gate(path)
    os.unlink(path)
    os.mkfifo(path)
    with pytest.raises(UnusableStoreError):
        Gate(path)

    assert not (tmp_path / "elsewhere").exists()


def test_the_gate_is_made_for_our_eyes_only(path):
    """Whoever can open it can hold it, and stop all writers."""
    mask = os.umask(0)
    try:
        Gate(path).close()
    finally:
        os.umask(mask)

    assert os.stat(path).st_mode & 0o777 == 0o600
