"""Children whose death the kernel tells, and who get what they were given and nothing else."""

from __future__ import annotations

import os
import select
import signal
import sys

import pytest

from overseer_lite.liveness import Exit, Identity, Life, children, look, read_stat, reap_strays, spawn, supports

_TELL_DESCRIPTORS = """
import os, sys
out = os.dup(8)
for fd in (3, 4, 5):
    os.write(out, os.read(fd, 9) + b" ")
os.write(out, repr(os.read(0, 9)).encode())
"""

# A parent whose child ties itself to it, says so, and waits.
_TIED = """
import os, sys, time
from overseer_lite.liveness import die_with_parent, spawn
child = '''
import os, time
from overseer_lite.liveness import die_with_parent
die_with_parent({})
os.write(4, str(os.getpid()).encode())
time.sleep(60)
'''.format(os.getpid())
spawn([sys.executable, "-c", child], env=os.environ, descriptors={4: 4})
time.sleep(60)
"""

_LATE = """
import time
from overseer_lite.liveness import die_with_parent
die_with_parent(1 << 22)
time.sleep(60)
"""

# A subreaper that gets a dead orphan, has a dead child of its own besides, and reaps the one without the other.
_SUBREAPER = """
import os, subprocess, sys, time
from overseer_lite.liveness import become_subreaper, children, read_stat, reap_strays, spawn
assert become_subreaper()
known = spawn(["/bin/true"], env={}, descriptors={})
middle = spawn(["/bin/sh", "-c", "sleep 0 & exit 3"], env=dict(os.environ), descriptors={})
while known.exited() is None or middle.exited() is None or len(children(os.getpid())) < 3:
    time.sleep(0.001)
orphan, = children(os.getpid()) - {known.pid, middle.pid}
while not read_stat(orphan).dead:
    time.sleep(0.001)
assert reap_strays({known.pid, middle.pid}) == [orphan]
assert reap_strays({known.pid, middle.pid}) == []
assert children(os.getpid()) == {known.pid, middle.pid}
assert (known.reap(), middle.reap()) == ((0, None), (3, None))
os.write(4, b"well")
"""


@pytest.fixture
def start():
    """Start programs, and see to it that none outlives the test."""
    started = []

    def start(*argv, env=None, descriptors=None, **streams):
        child = spawn(argv, env=env or {}, descriptors=descriptors or {}, **streams)
        started.append(child)
        return child

    yield start
    for child in started:
        child.signal(signal.SIGKILL)
        child.reap()


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def _told(pipe):
    """Return what a child wrote; fail rather than wait for ever for a child that cannot."""
    assert select.select([pipe[0]], [], [], 10)[0], "the child said nothing"
    return os.read(pipe[0], 99)


def _contents(text):
    reading, writing = os.pipe()
    os.write(writing, text)
    os.close(writing)
    return reading


def test_descriptors_arrive_right_whatever_their_numbers(start, pipe):
    """Sources whose numbers are one another's targets, in a circle, arrive where they were meant to."""
    saved = {number: os.dup(number) for number in (3, 4, 5)}  # in use by the test runner
    texts = [_contents(text) for text in (b"three", b"four", b"five")]
    try:
        for number, fd in zip((4, 5, 3), texts, strict=True):  # "three" lies at 4, "four" at 5, "five" at 3
            os.dup2(fd, number, inheritable=False)
        start(sys.executable, "-I", "-S", "-c", _TELL_DESCRIPTORS, descriptors={3: 4, 4: 5, 5: 3, 8: pipe[1]}).reap()
    finally:
        for number, fd in saved.items():
            os.dup2(fd, number, inheritable=False)
        for fd in (*saved.values(), *texts):
            os.close(fd)
    assert _told(pipe) == b"three four five b''"


def test_a_number_in_use_for_passing_on_is_not_overwritten(start, pipe):
    """The numbers asked for may be free here, and so be taken by whatever is needed on the way."""
    first, second = _contents(b"first"), _contents(b"second")
    low, high = os.dup(0), os.dup(0)
    os.close(low)
    os.close(high)
    code = f"import os; os.write(30, os.read({high}, 9) + os.read({high + 9}, 9))"
    start(sys.executable, "-I", "-S", "-c", code, descriptors={high: first, high + 9: second, 30: pipe[1]})
    os.close(first)
    os.close(second)
    assert _told(pipe) == b"firstsecond"


def test_a_descriptor_may_keep_its_number(start, pipe):
    """The same number here and there is passed on too, though it closes on exec here."""
    code = f"import os; os.write({pipe[1]}, b'same')"
    start(sys.executable, "-I", "-S", "-c", code, descriptors={pipe[1]: pipe[1]})
    assert _told(pipe) == b"same"
    assert not os.get_inheritable(pipe[1])


def test_nothing_else_is_passed_on(start, pipe):
    """Even a descriptor that somebody left inheritable stays here."""
    os.set_inheritable(pipe[1], True)
    leaked = os.dup(pipe[1])
    os.set_inheritable(leaked, True)
    child = start("/bin/sleep", "60", descriptors={9: pipe[1]})
    links = {int(fd): os.readlink(f"/proc/{child.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{child.pid}/fd")}
    os.close(leaked)
    assert set(links) == {0, 1, 2, 9}
    assert links[0] == os.devnull


def test_output_goes_where_it_is_told(start, tmp_path):
    """Descriptors 1 and 2 are those that were given."""
    with (tmp_path / "out").open("w") as out:
        start("/bin/sh", "-c", "echo one; echo two >&2", stdout=out.fileno(), stderr=out.fileno()).reap()
    assert (tmp_path / "out").read_text() == "one\ntwo\n"


def test_a_child_leads_a_group_of_its_own(start):
    """A signal to its group reaches it and its children, and nobody else."""
    child = start("/bin/sleep", "60")
    stat = read_stat(child.pid)
    assert (stat.pgid, stat.session) == (child.pid, os.getsid(0))


def test_signals_are_as_a_program_expects_them(start):
    """What this process ignores or blocks does not pass to the child: a runner that ignored SIGTERM could not be stopped."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        child = start("/bin/sleep", "60")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR1, before)
    with open(f"/proc/{child.pid}/status") as status:
        lines = dict(line.split(":\t", 1) for line in status if line.startswith("Sig"))
    programs = sum(1 << (number - 1) for number in signal.valid_signals())  # the C library keeps two for itself
    assert (int(lines["SigBlk"], 16), int(lines["SigIgn"], 16) & programs) == (0, 0)


def test_looking_does_not_reap_and_reaping_does(start, eventually):
    """Until it is reaped, a dead child keeps its pid and its group: nobody else can be mistaken for it."""
    child = start("/bin/sh", "-c", "exit 7")
    eventually(child.exited)
    assert [child.exited(), child.exited()] == [Exit(7, None)] * 2
    assert Identity.of(child.pid) == child.identity
    assert child.reap() == Exit(7, None)
    assert Identity.of(child.pid) is None
    assert (child.exited(), child.reap()) == (Exit(7, None), Exit(7, None))


def test_its_descriptor_tells_of_its_death(start):
    """The pidfd becomes readable when it is dead, not before."""
    child = start("/bin/sleep", "60")
    assert select.select([child], [], [], 0)[0] == []
    assert child.signal(signal.SIGKILL)
    assert select.select([child], [], [], 5)[0] == [child]
    assert child.exited() == Exit(None, signal.SIGKILL)
    child.reap()
    with pytest.raises(OSError, match="exited"):
        child.fileno()


def test_a_dead_child_gets_no_signal(start, eventually):
    """A zombie, and one that was reaped: neither is signalled, nor whoever has its pid."""
    child = start("/bin/true")
    eventually(child.exited)
    assert not child.signal(signal.SIGKILL)
    child.reap()
    assert not child.signal(signal.SIGKILL)


def test_a_stopped_child_is_seen(start, eventually):
    """Stopped is neither dead nor running."""
    child = start("/bin/sleep", "60")
    assert not child.stopped()
    child.signal(signal.SIGSTOP)
    eventually(child.stopped)
    assert child.exited() is None


def test_a_program_that_does_not_exist_leaves_nothing(pipe):
    """The failure is raised here, and no descriptor is left open."""
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        spawn(["/nowhere/at/all"], env={}, descriptors={3: pipe[0]})
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_tied_child_dies_with_its_parent(start, pipe, eventually):
    """SIGKILL of the parent is the end of the child; no handler of either takes part."""
    parent = start(sys.executable, "-c", _TIED, env=dict(os.environ), descriptors={4: pipe[1]})
    tied = Identity.of(int(_told(pipe)))
    assert tied.pid in children(parent.pid)
    assert look(tied) is Life.RUNNING
    parent.signal(signal.SIGKILL)
    eventually(lambda: look(tied) is Life.GONE)


def test_a_child_that_comes_late_dies_at_once(start):
    """Whose parent is gone before it could tie itself to it does not live on, adopted."""
    assert start(sys.executable, "-c", _LATE, env=dict(os.environ)).reap() == Exit(None, signal.SIGKILL)


def test_a_subreaper_reaps_strays_and_nobody_else(start, pipe):
    """Orphans come to it and are reaped one by one; its own children keep their end for whoever waits for it."""
    child = start(sys.executable, "-c", _SUBREAPER, env=dict(os.environ), descriptors={4: pipe[1]})
    assert _told(pipe) == b"well"
    assert child.reap() == Exit(0, None)


def test_an_ignored_sigchld_does_not_reap_for_us(start, eventually):
    """Inherited from a careless parent, it would free the pids of the dead; a spawn sets it right."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        child = start("/bin/sh", "-c", "exit 4")
        assert child.reap() == Exit(4, None)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_strays_of_a_process_without_children_are_none():
    """Nothing to reap is nothing reaped."""
    assert reap_strays(children(os.getpid())) == []


@pytest.mark.skipif(sys.platform != "linux", reason="says what Linux has")
def test_what_the_kernel_can_do_is_said():
    """On Linux all of it is there."""
    assert supports() == {"pidfd": True, "subreaper": True, "pdeathsig": True, "proc": True}
