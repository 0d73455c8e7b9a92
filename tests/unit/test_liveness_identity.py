"""Who a process is, and whether it lives: asked of real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from overseer_lite.liveness import Identity, Life, identity, look, open_pidfd, read_stat, send_signal, spawn
from overseer_lite.liveness.identity import parse_stat, read_environment

# The first thread leaves while another goes on: the state of the process reads Z, and it runs.
_FIRST_THREAD_LEAVES = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture
def start():
    """Start programs, and see to it that none outlives the test."""
    children = []

    def start(*argv):
        child = spawn(argv, env={}, descriptors={})
        children.append(child)
        return child

    yield start
    for child in children:
        child.signal(signal.SIGKILL)
        child.reap()


def _python(code):
    return (sys.executable, "-I", "-S", "-c", code)


def test_an_identity_survives_its_text():
    """What to_text writes, from_text reads."""
    mine = Identity.mine()
    assert Identity.from_text(mine.to_text()) == mine


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '["b","n",1]',
        '["b","n","1",2]',
        '["b","n",true,2]',
        '["b","n",0,2]',
        '["b","n",1,-2]',
        "[" * 99999,
    ],
)
def test_text_that_is_no_identity_is_refused_in_words(text):
    """Junk gives a ValueError that says what was expected, never half an identity."""
    with pytest.raises(ValueError, match="is no process identity"):
        Identity.from_text(text)


def test_this_process_is_running_and_itself():
    """An identity of this process names its pid and start time, and it lives."""
    mine = Identity.mine()
    assert mine == Identity.of(os.getpid())
    assert mine.pid == os.getpid()
    assert look(mine) is Life.RUNNING


def test_another_boot_is_told_by_the_clock_the_caller_goes_by():
    """The boot id compared with is the given one, so that a test can reboot; nothing else is asked then."""
    mine = Identity.mine(boot_id="faked")
    assert look(mine) is Life.OTHER_BOOT
    assert look(mine, boot_id="faked") is Life.RUNNING
    assert look(Identity.mine(), boot_id="faked") is Life.OTHER_BOOT


def test_a_process_of_another_pid_namespace_cannot_be_asked(start):
    """The same number means somebody else there: it is foreign, not gone, and gets no signal."""
    child = start("/bin/sleep", "60")
    foreign = child.identity._replace(pid_namespace="pid:[1]")
    assert look(foreign) is Life.FOREIGN
    assert not send_signal(foreign, signal.SIGKILL)
    assert child.exited() is None


def test_a_reused_pid_is_another_process_and_gets_no_signal(start, eventually):
    """Another start time behind the same pid: the one that was meant is gone, and the one that is there is left alone."""
    child = start("/bin/sleep", "60")
    former = child.identity._replace(start_time=child.identity.start_time - 1)
    assert look(former) is Life.GONE
    assert open_pidfd(former) is None
    assert not send_signal(former, signal.SIGSTOP)
    assert not child.stopped()
    assert send_signal(child.identity, signal.SIGSTOP)
    eventually(child.stopped)


def test_stopped_is_told_from_running(start, eventually):
    """SIGSTOP shows as STOPPED, SIGCONT as RUNNING again."""
    child = start("/bin/sleep", "60")
    assert look(child.identity) is Life.RUNNING
    child.signal(signal.SIGSTOP)
    eventually(lambda: look(child.identity) is Life.STOPPED)
    child.signal(signal.SIGCONT)
    eventually(lambda: look(child.identity) is Life.RUNNING)


def test_a_zombie_is_gone(start, eventually):
    """A dead process that nobody has reaped holds its pid, and is dead all the same."""
    child = start("/bin/true")
    eventually(child.exited)
    assert read_stat(child.pid).state == "Z"
    assert look(child.identity) is Life.GONE
    assert open_pidfd(child.identity) is None
    assert not send_signal(child.identity, signal.SIGKILL)


def test_a_zombie_with_a_living_thread_is_not_gone(start, eventually):
    """State Z is that of the first thread only; while another one runs, so does the process."""
    child = start(*_python(_FIRST_THREAD_LEAVES))
    eventually(lambda: read_stat(child.pid).state == "Z")
    assert look(child.identity) is Life.EXITING
    assert child.exited() is None
    assert send_signal(child.identity, signal.SIGKILL)
    eventually(lambda: look(child.identity) is Life.GONE)


def test_a_process_that_was_reaped_is_gone(start):
    """An absent pid is gone, and has no identity to be asked for."""
    child = start("/bin/true")
    child.reap()
    assert look(child.identity) is Life.GONE
    assert Identity.of(child.pid) is None


def test_a_name_with_parentheses_and_blanks_does_not_shift_the_fields(start, eventually, tmp_path):
    """The fields are counted from the last parenthesis: a program can be called anything."""
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    child = start(str(odd), "60")
    eventually(lambda: "a) R 1 (b" in Path(f"/proc/{child.pid}/stat").read_text())
    stat = read_stat(child.pid)
    assert (stat.pid, stat.ppid, stat.pgid, stat.num_threads) == (child.pid, os.getpid(), child.pid, 1)
    assert look(child.identity) is Life.RUNNING


def test_a_line_cut_short_is_no_reading():
    """Half a line tells nothing, and is not taken for a process."""
    assert parse_stat(b"12 (name) S 1 2") is None
    assert parse_stat(b"") is None


def test_the_environment_of_who_has_just_been_started_is_read():
    """`Popen` returns in the middle of the exec: read once, 3 of 4 had no environment."""
    for mark in map(str, range(20)):
        with subprocess.Popen(["/bin/sleep", "60"], env={"MARK": mark}) as started:
            try:
                assert read_environment(started.pid) == f"MARK={mark}\0".encode()
            finally:
                started.kill()


def test_who_was_given_no_environment_is_not_waited_for(start, eventually, monkeypatch):
    """Nor a zombie, nor the kernel's own."""
    bare, ended = start("/bin/sleep", "60"), start("/bin/true")
    eventually(lambda: read_stat(bare.pid).state == "S")
    eventually(lambda: read_stat(ended.pid).dead)
    monkeypatch.setattr(identity.time, "monotonic", lambda: 0.0)  # from here on the time to wait never passes
    assert read_environment(bare.pid) == b""
    with pytest.raises(ProcessLookupError):
        read_environment(ended.pid)
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            read_environment(int(pid))
