"""A worker's process tree, found by its signs and proved gone: real daemons, real storms."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
import uuid
from pathlib import Path

import pytest

from overseer_lite.liveness import (
    COOKIE_VARIABLE,
    Identity,
    Life,
    Tree,
    children,
    clear,
    flock_holder,
    holders,
    identity,
    look,
    members,
    read_stat,
    send_signal,
    spawn,
)
from overseer_lite.liveness import tree as room
from tests.environments import environment

# Forks twice and leaves session, group and parents behind; then becomes `sleep`, with the environment and the output it
# is told. The pid is written to a file, whole.
_DAEMON = """
import os, sys
pid_file, output, *environment = sys.argv[1:]
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for number in (1, 2):
    os.dup2(fd, number)
os.chdir("/")
with open(pid_file + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(pid_file + ".new", pid_file)
os.execve("/bin/sleep", ["sleep", "60"], dict(entry.split("=", 1) for entry in environment))
"""

# Goes on from pid to pid: each process forks the next and leaves. Bounded, should nobody stop it.
_HOPPER = """
import os, time
end = time.monotonic() + 20
if os.fork():
    os._exit(0)
os.setsid()
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
"""

# Fills a tree of its own: each child is in a session of its own and has the storm's environment.
_STORM = """
import os, time
for _ in range(400):
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)
        os._exit(0)
    time.sleep(0.002)
time.sleep(60)
"""

# Has so much memory that the kernel takes a while to free it, in small pieces.
_LARGE = """
import mmap, time
memory = mmap.mmap(-1, 400 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
for at in range(0, len(memory), 4096):
    memory[at] = 1
time.sleep(60)
"""

# Has a child that nobody of its user may look into, itself included, and clears a tree that neither belongs to.
_SHUT_OFF = """
import ctypes, os, signal, sys, time
from overseer_lite.liveness import Tree, clear
told = open(sys.argv[1], "w")
clear(Tree(cookie="nobody's"), free=lambda: True)  # what it imports may not be readable below
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
child = os.fork()
if child == 0:
    time.sleep(60)
try:
    open(f"/proc/{child}/environ", "rb").read()
    told.write("open ")
except PermissionError:
    told.write("denied ")
told.write(str(clear(Tree(cookie="nobody's"), free=lambda: True, timeout_s=2).done))
told.close()
os.kill(child, signal.SIGKILL)
"""

# Adopts what its first child leaves behind; has a second child that is to be spared.
_SUBREAPER = """
import sys, time
from overseer_lite.liveness import become_subreaper, spawn
become_subreaper()
spawn(sys.argv[1:], env={}, descriptors={}).reap()
spawn(["/bin/sleep", "60"], env={}, descriptors={})
time.sleep(60)
"""

_FIRST_THREAD_LEAVES = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture
def cookie():
    """A worker's id that no other process on the machine carries; whoever still carries it at the end is killed."""
    cookie = f"test-{uuid.uuid4().hex}"
    yield cookie
    assert clear(Tree(cookie=cookie), free=lambda: True).done


@pytest.fixture
def start(cookie):
    """Start programs of that worker, and see to it that none outlives the test."""
    started = []

    def start(*argv, **environment):
        child = spawn(argv, env={COOKIE_VARIABLE: cookie, **environment}, descriptors={})
        started.append(child)
        return child

    yield start
    for child in started:
        child.signal(signal.SIGKILL)
        child.reap()


@pytest.fixture
def daemon(start, tmp_path, eventually):
    """Start a daemon that has left everything but what it is told to keep; return who it is."""
    started = []

    def daemon(*environment, output="/dev/null", starter=start):
        pid_file = tmp_path / f"pid-{len(started)}"
        starter(sys.executable, "-I", "-S", "-c", _DAEMON, str(pid_file), str(output), *environment)
        eventually(pid_file.exists)
        who = Identity.of(int(pid_file.read_text()))
        eventually(lambda: Path(f"/proc/{who.pid}/cmdline").read_bytes().startswith(b"sleep"))
        started.append(who)
        return who

    yield daemon
    for who in started:
        send_signal(who, signal.SIGKILL)


def _carriers(cookie):
    """Look for living carriers of a cookie in the plainest way, apart from the code under test."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if f"\0{COOKIE_VARIABLE}={cookie}\0".encode() in environment(name):
                found.append(int(name))
        except OSError:
            continue
    return found


def _forget_pidfds(monkeypatch):
    for module in (identity, room):
        monkeypatch.setattr(module, "HAS_PIDFD", False)


def _python(code):
    return (sys.executable, "-I", "-S", "-c", code)


def test_a_daemon_is_found_by_its_cookie(daemon, cookie):
    """Another session, group and parent do not hide whoever still carries the worker's id."""
    who = daemon("A=1", f"{COOKIE_VARIABLE}={cookie}")
    assert read_stat(who.pid).ppid != os.getpid()
    assert members(Tree(cookie=cookie)) == [who]
    cleared = clear(Tree(cookie=cookie), free=lambda: True)
    assert (cleared.done, cleared.killed, cleared.left) == (True, (who,), ())
    assert look(who) is Life.GONE


def test_only_the_exact_cookie_counts(daemon, cookie):
    """A longer id, a shorter one, another variable with that value: strangers, all of them."""
    for entry in (f"{COOKIE_VARIABLE}={cookie}0", f"{COOKIE_VARIABLE}={cookie[:-1]}", f"X{COOKIE_VARIABLE}={cookie}"):
        daemon(entry)
    assert members(Tree(cookie=cookie)) == []


def test_a_daemon_with_an_empty_environment_is_found_by_its_output(daemon, tmp_path):
    """Whoever still writes to the worker's output belongs to it."""
    who = daemon(output=tmp_path / "w1-3.out")
    assert members(Tree(output=str(tmp_path / "w1"))) == [who]
    assert members(Tree(output=str(tmp_path / "w1-"))) == [who]
    assert members(Tree(output=str(tmp_path / "w"))) == []
    assert members(Tree(output=str(tmp_path / "w2"))) == []


def test_output_is_recognised_through_a_link(daemon, tmp_path):
    """The directory may be reached by another name than the kernel's."""
    (tmp_path / "link").symlink_to(tmp_path)
    who = daemon(output=tmp_path / "w1.out")
    assert members(Tree(output=str(tmp_path / "link" / "w1"))) == [who]


def test_a_daemon_without_any_sign_is_found_by_its_parent(daemon, start, eventually):
    """Orphans come to the subreaper, and its children, spared ones aside, belong to the tree."""
    reapers = []
    who = daemon(starter=lambda *argv: reapers.append(start(sys.executable, "-c", _SUBREAPER, *argv)))
    parent = reapers[0].pid
    parents = frozenset({parent})
    eventually(lambda: len(members(Tree(parents=parents))) == 2)
    (spared,) = {each.pid for each in members(Tree(parents=parents))} - {who.pid}
    assert members(Tree(parents=parents, spare=frozenset({spared}))) == [who]
    cleared = clear(Tree(parents=parents, spare=frozenset({spared})), free=lambda: True)
    assert (cleared.done, cleared.killed) == (True, (who,))
    assert read_stat(spared).state == "S"
    assert send_signal(Identity.of(spared), signal.SIGKILL)


def test_a_process_without_environment_is_found_in_its_group(start, eventually):
    """An emptied environment does not hide whoever stayed in the group, also after the group's leader died."""
    leader = start("/bin/sh", "-c", "env -i /bin/sleep 60 & exit 0")
    eventually(leader.exited)
    (who,) = members(Tree(groups=frozenset({leader.pid})))
    eventually(lambda: Path(f"/proc/{who.pid}/environ").read_bytes() == b"" and read_stat(who.pid).state == "S")
    cleared = clear(Tree(groups=frozenset({leader.pid})), free=lambda: True)
    assert (cleared.done, cleared.killed) == (True, (who,))
    assert leader.exited() is not None, "the leader was reaped: its group was anybody's"


def test_a_group_whose_number_is_a_strangers_now_is_left_alone(start):
    """A group's number is reused like any pid: where its leader is known, another one behind it makes it a stranger's."""
    stranger = start("/bin/sleep", "60")
    former = stranger.identity._replace(start_time=stranger.identity.start_time - 5)
    group = frozenset({stranger.pid})
    assert members(Tree(groups=group, leaders=frozenset({former}))) == []
    assert members(Tree(groups=group, leaders=frozenset({stranger.identity}))) == [stranger.identity]


def test_descendants_of_a_member_belong_to_it(start, eventually):
    """A child that carries no sign at all belongs to the tree as long as its parent does."""
    parent = start("/bin/sh", "-c", "setsid env -i /bin/sleep 60 & wait")
    eventually(lambda: children(parent.pid))
    (child,) = children(parent.pid)
    eventually(lambda: read_stat(child).session == child)
    found = {who.pid for who in members(Tree(groups=frozenset({parent.pid})))}
    assert {parent.pid, child} <= found
    assert clear(Tree(groups=frozenset({parent.pid})), free=lambda: True).done
    assert read_stat(child) is None or read_stat(child).dead


def test_the_spared_are_never_touched(start, cookie):
    """They may carry every sign there is: whoever is spared is no member, and not killed."""
    spared, other = start("/bin/sleep", "60"), start("/bin/sleep", "60")
    tree = Tree(groups=frozenset({spared.pid, other.pid}), cookie=cookie, spare=frozenset({spared.pid}))
    assert members(tree) == [other.identity]
    cleared = clear(tree, free=lambda: True)
    assert (cleared.done, cleared.killed) == (True, (other.identity,))
    assert spared.exited() is None


def test_the_caller_and_the_first_process_are_no_members():
    """Whoever looks belongs to no tree that it looks for, nor does pid 1."""
    groups = frozenset({read_stat(os.getpid()).pgid, read_stat(1).pgid})
    found = {who.pid for who in members(Tree(groups=groups, parents=frozenset({0, os.getppid()})))}
    assert found.isdisjoint({1, os.getpid()})


def test_zombies_are_no_members(start, cookie, eventually):
    """A dead process that nobody has reaped does nothing any more."""
    child = start("/bin/true")
    eventually(child.exited)
    assert members(Tree(groups=frozenset({child.pid}), cookie=cookie)) == []


def test_a_process_whose_first_thread_left_is_found_and_killed(start, cookie, eventually):
    """State Z is that of the first thread; where others run on, their environment gives the process away."""
    child = start(*_python(_FIRST_THREAD_LEAVES))
    eventually(lambda: read_stat(child.pid).state == "Z")
    assert members(Tree(cookie=cookie)) == [child.identity]
    assert clear(Tree(cookie=cookie), free=lambda: True).killed == (child.identity,)
    assert child.exited() == (None, signal.SIGKILL)


def test_it_is_not_done_while_somebody_may_be_forking_unseen(start, cookie):
    """Nobody found proves nothing while the lock is held: only a pass that began with it free does."""
    cleared = clear(Tree(cookie=cookie), free=lambda: False, timeout_s=0.05)
    assert (cleared.done, cleared.killed, cleared.left) == (False, (), ())
    assert cleared.passes > 1
    child = start("/bin/sleep", "60")
    cleared = clear(Tree(cookie=cookie), free=lambda: False, timeout_s=0.1)
    assert (cleared.done, cleared.killed, cleared.left) == (False, (child.identity,), ())


def test_the_lock_must_be_free_before_the_last_look_not_after(start, cookie):
    """A lock that became free during a look does not make that look a proof; whoever let go of it may have been missed."""
    asked = []

    def free():
        asked.append(len(members(Tree(cookie=cookie))))
        if len(asked) == 2:
            start("/bin/sleep", "60")  # as if forked just before the lock was let go
        return len(asked) >= 2

    cleared = clear(Tree(cookie=cookie), free=free)
    assert cleared.done
    assert cleared.passes == len(asked) >= 3
    assert len(cleared.killed) == 1


def test_a_stopped_member_is_killed(start, cookie, eventually):
    """Whoever is stopped, in a debugger say, is no less a member."""
    child = start("/bin/sleep", "60")
    child.signal(signal.SIGSTOP)
    eventually(child.stopped)
    assert clear(Tree(cookie=cookie), free=lambda: True).done
    assert child.exited() == (None, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("pidfds", [True, False])
def test_a_process_on_its_way_out_is_waited_for(pidfds, start, cookie, eventually, monkeypatch):
    """Killed is not dead: the environment goes first, the descriptors long after; it is done when the kernel says so."""
    child = start(*_python(_LARGE))
    eventually(lambda: read_stat(child.pid).state == "S")
    if not pidfds:
        _forget_pidfds(monkeypatch)
    child.signal(signal.SIGKILL)
    eventually(lambda: look(child.identity) is not Life.RUNNING)
    hasty = clear(Tree(cookie=cookie), free=lambda: True, timeout_s=0)
    assert look(child.identity) is Life.EXITING, "it was gone too soon to tell anything"
    assert not hasty.done
    assert clear(Tree(cookie=cookie), free=lambda: True).done
    assert child.exited() == (None, signal.SIGKILL)


def test_a_process_that_may_not_be_looked_into_is_not_waited_for(start, tmp_path):
    """An agent that has shut itself off never shows an environment; another tree's end must not hang on it."""
    told = tmp_path / "told"
    told.touch(mode=0o666)
    told.chmod(0o666)
    child = start(sys.executable, "-c", _SHUT_OFF, str(told))
    assert child.reap() == (0, None)
    assert told.read_text() == "denied True"


@pytest.mark.parametrize(
    ("ends", "verdict"), [((7, 9), "changing"), ((7, 0), "changing"), ((0, 7), "changing"), ((7, 7), "stranger")]
)
def test_one_exec_after_another_is_no_process_without_an_environment(start, monkeypatch, ends, verdict):
    """The first is over when it is asked where the environment ends, the second has begun when that is read."""
    found = room.read_stat(start("/bin/sleep", "60").pid)
    told = iter(ends)
    look_over = room._Pass(Tree(cookie="somebody"))
    look_over._knows_env_end = True
    monkeypatch.setattr(room, "read_stat", lambda pid: found._replace(env_end=next(told)))
    monkeypatch.setattr(room, "_environment", lambda place: b"")

    assert look_over._judge_signless(found, denied=False).value == verdict


@pytest.mark.slow
def test_a_process_in_the_middle_of_an_exec_is_not_overlooked(start, cookie, tmp_path):
    """For a moment of each exec the new environment is not there yet, while the lock is let go of already."""
    script = tmp_path / "again"
    script.write_text('exec /bin/sh "$0"\n')
    for _ in range(40):
        child = start("/bin/sh", str(script))
        assert clear(Tree(cookie=cookie), free=lambda: True).done
        assert look(child.identity) is Life.GONE
        child.reap()


@pytest.mark.slow
def test_a_fork_storm_is_cleared(start, cookie, eventually):
    """A process that forks all the while it is being killed, each child in a session of its own, ends with all of them."""
    start(*_python(_STORM))
    eventually(lambda: len(_carriers(cookie)) > 20)
    cleared = clear(Tree(cookie=cookie), free=lambda: True)
    assert cleared.done
    assert len(cleared.killed) > 20
    assert _carriers(cookie) == []


@pytest.mark.slow
@pytest.mark.parametrize("round", range(5))
def test_a_process_that_goes_from_pid_to_pid_is_cleared(round, start, cookie, eventually):
    """Each process forks the next and leaves: no pid lives longer than a look at it takes, and the end comes all the same."""
    first = start(*_python(_HOPPER))
    eventually(first.exited)
    cleared = clear(Tree(cookie=cookie), free=lambda: True)
    assert cleared.done
    assert len(cleared.killed) >= 1
    assert _carriers(cookie) == []


def test_without_pidfds_the_tree_is_cleared_all_the_same(start, cookie, monkeypatch):
    """An old kernel or a sandbox may refuse them: then it is signalled by its pid and looked at until it is gone."""
    _forget_pidfds(monkeypatch)
    child = start("/bin/sleep", "60")
    assert not send_signal(child.identity._replace(start_time=1), signal.SIGKILL)
    cleared = clear(Tree(cookie=cookie), free=lambda: True)
    assert (cleared.done, cleared.killed) == (True, (child.identity,))
    assert child.exited() == (None, signal.SIGKILL)


def test_holders_of_a_file_are_named(start, tmp_path):
    """Rule 7: a lock that stays held is held by somebody, and the message says by whom."""
    path = tmp_path / "file"
    assert holders(str(path)) == []
    with path.open("w") as file:
        child = spawn(["/bin/sleep", "60"], env={}, descriptors={7: file.fileno()})
        assert holders(str(path)) == sorted([os.getpid(), child.pid])
    assert holders(str(path)) == [child.pid]
    child.signal(signal.SIGKILL)
    child.reap()


def test_who_has_a_file_mapped_holds_it_too(start, tmp_path, eventually):
    """A mapping keeps a lock alive after every descriptor is closed, so it is named as well."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 4096)
    child = start(
        *_python(
            f"import mmap, time\nwith open({str(path)!r}, 'r+b') as f: m = mmap.mmap(f.fileno(), 4096)\n"
            "import os; os.closerange(3, 99); time.sleep(60)"
        )
    )
    eventually(lambda: holders(str(path)) == [child.pid] and len(os.listdir(f"/proc/{child.pid}/fd")) == 3)
    assert holders(str(path)) == [child.pid]


def test_the_holder_of_a_lock_is_named_and_no_waiter(start, tmp_path, eventually):
    """Who holds the gate is told from who waits for it, by path and by descriptor."""
    path = str(tmp_path / "gate")
    assert flock_holder(path) is None
    with open(path, "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)  # of another kind, and no matter here
        assert flock_holder(path) is None
        fcntl.flock(file, fcntl.LOCK_EX)
        waiter = start(*_python(f"import fcntl; fcntl.flock(open({path!r}), fcntl.LOCK_EX)"))
        eventually(lambda: "-> FLOCK" in Path("/proc/locks").read_text())
        assert (flock_holder(path), flock_holder(file.fileno())) == (os.getpid(), os.getpid())
    assert waiter.reap() == (0, None)
    assert flock_holder(path) is None


def test_without_a_proc_the_groups_are_cleared(start, eventually):
    """Where /proc is not ours, what can be done is done: the groups are killed, and the lock must be free."""
    leader = start("/bin/sh", "-c", "/bin/sleep 60 & exec /bin/sleep 60")
    tree = Tree(groups=frozenset({leader.pid}))
    assert not room._clear_groups(tree, lambda: False, time.monotonic() + 0.03).done
    assert room._clear_groups(tree, lambda: True, time.monotonic() + 10).done
    assert leader.exited() == (None, signal.SIGKILL)
    eventually(lambda: members(tree) == [])
