"""A dead worker's or runner's process tree, proved gone.

SIGKILL is not death: the victim may run on for milliseconds; one look over /proc misses a child that is just being
forked or exec'd; a daemon leaves its group, its session and its parents. So `clear` kills what carries any sign of
the tree, waits until the kernel says each of them is dead, and looks again, until a look that BEGAN with the tree's
lock free finds nobody. Whoever is between fork and exec still holds that lock; whoever has exec'd shows its signs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
import time
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from overseer_lite.clock import read_boot_id
from overseer_lite.liveness.identity import (
    HAS_PIDFD,
    PF_EXITING,
    PF_KTHREAD,
    Identity,
    Life,
    look,
    open_pidfd,
    parse_stat,
    proc_is_ours,
    read_proc,
    read_stat,
    send_signal,
)
from overseer_lite.liveness.recordlocks import locks_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from overseer_lite.liveness.identity import ProcessStat

#: The environment variable that carries the worker's id in the runner and in all that it starts.
COOKIE_VARIABLE: Final = "OVERSEER_LITE_WORKER"

_ROUNDS: Final = 50  # lists within one pass; each reads only the pids that are new, so they get short at once
_PIDFDS: Final = 256  # kept at a time: a fork storm must not use up our descriptors
_LOOK_AGAIN_S: Final = 0.1  # a storm goes on while we wait for its dead
_FORGOTTEN = (FileNotFoundError, ProcessLookupError)


class Tree(NamedTuple):
    """Whose tree: the signs by which its processes are known. Any one of them will do.

    Attributes:
        groups: Process groups.
        cookie: The worker's id, as `OVERSEER_LITE_WORKER` has it in their environment; '' matches nobody.
        output: The beginning of the paths of its output files, whole words: `w1` is not the beginning of `w10`. Who has
            such a file as its descriptor 1 or 2 belongs to the tree; '' matches nobody.
        parents: Whose children, spared ones aside, belong to it: a subreaper's adopted ones.
        spare: Pids never to be touched: live workers and runners. The caller and pid 1 never are.
        leaders: Who made the groups. Where one is named and its pid is another's by now, that group is a stranger's and
            is left alone; a group without a named leader is taken at its word, so the caller must have it pinned.
    """

    groups: frozenset[int] = frozenset()
    cookie: str = ""
    output: str = ""
    parents: frozenset[int] = frozenset()
    spare: frozenset[int] = frozenset()
    leaders: frozenset[Identity] = frozenset()


class Cleared(NamedTuple):
    """What `clear` did.

    Attributes:
        done: Whether the tree is proved gone. False proves nothing, and nothing may be reset.
        killed: To whom SIGKILL was sent.
        passes: Looks over /proc that it took.
        left: Who was still there at the end of the time; may be empty when only the lock was not free.
    """

    done: bool
    killed: tuple[Identity, ...]
    passes: int
    left: tuple[Identity, ...]


def members(tree: Tree) -> list[Identity]:
    """Return who belongs to a tree, by one pass over /proc; descendants of a member belong to it too.

    Zombies are not among them. An empty list is no proof that nobody is left: see `clear`. Empty where there is no /proc.
    """
    look_over = _Pass(tree)
    look_over.run()
    return list(look_over.found.values())


def clear(tree: Tree, *, free: Callable[[], bool], timeout_s: float = 10.0) -> Cleared:
    """Kill a tree and prove it gone.

    Args:
        free: The caller's test that nobody can still be forking unseen: the worker's lock is free (held by the caller),
            or the runner's socket is at its end. Asked at the beginning of each pass; must not block.
        timeout_s: How long to try. A process in an uninterruptible wait may take longer than any time.

    Returns:
        `done` only after a pass that began with `free()` true and found no member, nor anyone in the middle of an exec
        who might be one, and after all who were on their way out during it are dead.
    """
    deadline = time.monotonic() + timeout_s
    if not proc_is_ours():
        return _clear_groups(tree, free, deadline)
    killed: dict[Identity, None] = {}
    passes = 0
    nap_s = 0.001
    while True:
        began_free = free()
        with _Victims(killed) as victims:
            look_over = _Pass(tree, victims.strike)
            look_over.run()
            passes += 1
            proof = began_free and look_over.complete
            wait_s = deadline - time.monotonic()
            all_gone = victims.wait_gone(look_over.leaving, wait_s if proof else min(_LOOK_AGAIN_S, wait_s))
            if proof and all_gone:
                return Cleared(True, tuple(killed), passes, ())
        if time.monotonic() >= deadline:
            blamed = look_over.leaving if proof else look_over.found.values()  # strangers leave all the time
            return Cleared(False, tuple(killed), passes, tuple(who for who in blamed if look(who) is not Life.GONE))
        if not look_over.found:
            time.sleep(nap_s)
            nap_s = min(2 * nap_s, 0.05)


class _Verdict(Enum):
    """What one look at a process says."""

    MEMBER = "member"
    STRANGER = "stranger"
    LEAVING = "leaving"  # its signs are gone already, it is not: it cannot fork any more, and must be waited for
    CHANGING = "changing"  # in the middle of an exec: its signs are not there yet
    MISSED = "missed"  # it died before it could be looked at: whom it forked is on the next list


class _Pass:
    """One pass: list, read and judge; and list again, as long as somebody on the last list was not judged alive.

    What is proved by a pass that found nobody: everyone on its last list was a stranger, or on an earlier one; so
    nobody of the tree was alive at that moment, those aside who were leaving. Signs are read after all of a list's
    stats, so that a victim struck meanwhile does not hide whose parent it was.

    Attributes:
        found: The members, by pid.
        leaving: Who was on the way out and may have been a member.
        complete: Whether nobody was found, and nobody else can have been missed.
    """

    __slots__ = (
        "_boot_id",
        "_changing",
        "_everyone",
        "_knows_env_end",
        "_namespace",
        "_output",
        "_strike",
        "_tree",
        "complete",
        "found",
        "leaving",
    )

    def __init__(self, tree: Tree, strike: Callable[[Identity], None] | None = None) -> None:
        self._tree = tree
        self._strike = strike
        self._everyone: dict[int, ProcessStat] = {}
        self._changing: set[int] = set()
        self.found: dict[int, Identity] = {}
        self.leaving: list[Identity] = []
        self.complete = False
        self._boot_id = read_boot_id()
        mine = read_stat(os.getpid())
        self._knows_env_end = mine is not None and mine.env_end > 0
        self._namespace = Identity.mine(self._boot_id).pid_namespace
        self._output = _real_prefix(tree.output)

    def run(self) -> None:
        """Look over everybody; newcomers of the meantime included, so that hopping from pid to pid is no hiding."""
        seen: set[int] = set()
        for _ in range(_ROUNDS):
            listed = _pids() - seen
            seen |= listed
            self._changing.clear()
            verdicts = self._look_at(listed)
            # Whoever was in the middle of an exec is looked at again, and he alone: on a busy machine there is always
            # such a stranger, and beginning anew for each took seconds (12 shells forking for ever: up to 3.1 s).
            seen -= self._changing
            if verdicts.isdisjoint({_Verdict.LEAVING, _Verdict.MISSED, _Verdict.CHANGING}):
                self.complete = not self.found
                return

    def _look_at(self, pids: set[int]) -> set[_Verdict]:
        stats = [read_stat(pid) for pid in sorted(pids, reverse=True)]
        fresh = [stat for stat in stats if stat is not None]
        self._everyone.update((stat.pid, stat) for stat in fresh)
        groups = self._own_groups()
        verdicts = {self._judge(stat, groups) for stat in fresh}
        self._add_descendants()
        return verdicts if len(fresh) == len(stats) else verdicts | {_Verdict.MISSED}

    def _judge(self, stat: ProcessStat, groups: set[int]) -> _Verdict:
        if stat.dead:
            return _Verdict.MISSED
        if self._untouchable(stat):
            return _Verdict.STRANGER
        if stat.pgid in groups or stat.ppid in self._tree.parents:
            self._add(stat)
            return _Verdict.MEMBER
        verdict = self._judge_signs(stat)
        if verdict is _Verdict.MEMBER:
            self._add(stat)
        elif verdict is _Verdict.LEAVING:
            self.leaving.append(self._identity(stat))
        elif verdict is _Verdict.CHANGING:
            self._changing.add(stat.pid)
        return verdict

    def _add_descendants(self) -> None:
        grew = True
        while grew:
            grew = False
            for stat in self._everyone.values():
                if stat.ppid in self.found and stat.pid not in self.found and not self._untouchable(stat):
                    self._add(stat)
                    grew = True

    def _add(self, stat: ProcessStat) -> None:
        self.found[stat.pid] = identity = self._identity(stat)
        if self._strike is not None:
            self._strike(identity)

    def _identity(self, stat: ProcessStat) -> Identity:
        return Identity(self._boot_id, self._namespace, stat.pid, stat.start_time)

    def _untouchable(self, stat: ProcessStat) -> bool:
        return (
            stat.dead or stat.pid in (1, os.getpid()) or stat.pid in self._tree.spare or bool(stat.flags & PF_KTHREAD)
        )

    def _own_groups(self) -> set[int]:
        strangers = {
            leader.pid
            for leader in self._tree.leaders
            if (now := self._everyone.get(leader.pid)) is not None and leader.start_time not in (0, now.start_time)
        }
        return set(self._tree.groups) - strangers

    def _judge_signs(self, stat: ProcessStat) -> _Verdict:
        """Judge by environment and descriptors."""
        if not self._tree.cookie and not self._output:
            return _Verdict.STRANGER
        environments = []
        for place in _places(stat):
            if self._output and _writes_to(place, self._output):
                return _Verdict.MEMBER
            if self._tree.cookie:
                environments.append(_environment(place))
        cookie = f"\0{COOKIE_VARIABLE}={self._tree.cookie}\0".encode()
        if any(cookie in environment for environment in environments if environment):
            return _Verdict.MEMBER
        return _Verdict.STRANGER if any(environments) else self._judge_signless(stat, denied=None in environments)

    def _judge_signless(self, before: ProcessStat, *, denied: bool) -> _Verdict:
        """Judge one without an environment: any daemon may be so, and waiting for it would be waiting for ever."""
        stat = _again(before)
        if stat is None:
            return _Verdict.MISSED
        if not _is_own(stat.pid):
            return _Verdict.STRANGER  # nothing of it can ever be read
        if _is_exiting(stat):
            return _Verdict.LEAVING
        if not self._tree.cookie:
            return _Verdict.STRANGER
        # Between an exec's new memory and the environment in it, the end of it stands at 0; descriptors that close on
        # exec, the lock's among them, are closed by then. Or it has got there just now. Or it was there, and the next
        # exec has begun since, which puts it elsewhere: of 1,500 that exec'd for ever, on a busy machine, 11 were
        # overlooked before this was asked. Where reading it is denied (an ssh-agent, say, has shut itself off) that 0
        # means nothing.
        environment = _environment(f"/proc/{stat.pid}")
        after = _again(stat)
        if after is None:
            return _Verdict.MISSED
        unset = stat.env_end == 0 and self._knows_env_end
        moved = stat.env_end != after.env_end
        return _Verdict.CHANGING if environment or (not denied and (unset or moved)) else _Verdict.STRANGER


def _again(before: ProcessStat) -> ProcessStat | None:
    """Read once more what /proc says of a process; None if it is dead, or its pid another's."""
    stat = read_stat(before.pid)
    return None if stat is None or stat.dead or stat.start_time != before.start_time else stat


class _Victims:
    """Who was struck in one pass, held by pidfds until they are gone."""

    __slots__ = ("_killed", "_pidfds")

    def __init__(self, killed: dict[Identity, None]) -> None:
        self._killed = killed
        self._pidfds: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pidfd in self._pidfds:
            os.close(pidfd)

    def strike(self, who: Identity) -> None:
        """Send SIGKILL at once: whoever forks for ever has moved on to another pid a millisecond later."""
        with contextlib.suppress(PermissionError):  # another user's stays, and is left over
            if not HAS_PIDFD:
                self._note(who, struck=send_signal(who, signal.SIGKILL))
            elif (pidfd := open_pidfd(who)) is not None:
                self._keep(pidfd)
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                self._note(who, struck=True)

    def wait_gone(self, others: Iterable[Identity], timeout_s: float) -> bool:
        """Wait until all that were struck, and the others, are dead; False if the time is up first."""
        deadline = time.monotonic() + timeout_s
        if not HAS_PIDFD:
            return _poll_gone([*self._killed, *others], deadline)
        for who in others:
            if (pidfd := open_pidfd(who)) is not None:
                self._keep(pidfd)
        poll = select.poll()
        for pidfd in self._pidfds:
            poll.register(pidfd, select.POLLIN)
        waiting = len(self._pidfds)
        while waiting:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            for pidfd, _ in poll.poll(left_s * 1000):
                poll.unregister(pidfd)
                waiting -= 1
        return True

    def _keep(self, pidfd: int) -> None:
        if len(self._pidfds) < _PIDFDS:
            self._pidfds.append(pidfd)
        else:
            os.close(self._pidfds[0])
            self._pidfds[0] = pidfd

    def _note(self, who: Identity, *, struck: bool) -> None:
        if struck:
            self._killed[who] = None


def _poll_gone(who: list[Identity], deadline: float) -> bool:
    """Wait for the dead where there are no pidfds."""
    while any(look(each) is not Life.GONE for each in who):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.002)
    return True


def children(pid: int) -> frozenset[int]:
    """Return the pids of a process's children, zombies included; some just being born may be missing."""
    found: set[int] = set()
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(ProcessLookupError):
                found.update(map(int, read_proc(f"/proc/{pid}/task/{task}/children").split()))
    except FileNotFoundError:  # no such process, or a kernel without that file
        stats = filter(None, map(read_stat, _pids()))
        return frozenset(stat.pid for stat in stats if stat.ppid == pid)
    return frozenset(found)


def holders(path: str) -> list[int]:
    """Return the pids that have a file open or mapped, as far as they can be looked into: for messages, no proof."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return []
    wanted = (status.st_dev, status.st_ino)
    return [pid for pid in sorted(_pids()) if _has_open(pid, wanted) or _has_mapped(pid, os.path.realpath(path))]


def flock_holder(file: int | str) -> int | None:
    """Return the pid that took the flock of a file, given by path or descriptor; None if nobody did, or it cannot be told.

    It is the one that took it: a child that inherited the descriptor may be holding it on. None also if the holder is
    of another pid namespace.
    """
    if isinstance(file, int):
        return _flock_holder(file)
    try:
        fd = os.open(file, getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return _flock_holder(fd)
    finally:
        os.close(fd)


def _flock_holder(fd: int) -> int | None:
    try:
        for words in locks_on(fd, os.fstat(fd).st_ino):
            if words[1] == "FLOCK":
                return int(words[4]) if int(words[4]) > 0 else None
    except (*_FORGOTTEN, PermissionError):
        pass  # it cannot be told
    return None


def _has_open(pid: int, wanted: tuple[int, int]) -> bool:
    for fd in _descriptors(pid):
        with contextlib.suppress(OSError):  # it was closed meanwhile, or lies where it cannot be looked at
            status = os.stat(f"/proc/{pid}/fd/{fd}")
            if (status.st_dev, status.st_ino) == wanted:
                return True
    return False


def _has_mapped(pid: int, path: str) -> bool:
    try:
        maps = read_proc(f"/proc/{pid}/maps")
    except (*_FORGOTTEN, PermissionError):
        return False
    return any(line.endswith(os.fsencode(path)) and b" " + os.fsencode(path) in line for line in maps.splitlines())


def _descriptors(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except (*_FORGOTTEN, PermissionError):
        return []


def _pids() -> set[int]:
    try:
        return {int(name) for name in os.listdir("/proc") if name.isdecimal()}
    except FileNotFoundError:
        return set()


def _places(stat: ProcessStat) -> Iterator[str]:
    """Yield where a process's environment and descriptors can be read: at its living threads, if its first one is gone."""
    if stat.state not in "ZXx":
        yield f"/proc/{stat.pid}"
        return
    for task in _tasks(stat.pid):
        yield f"/proc/{stat.pid}/task/{task}"


def _tasks(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except _FORGOTTEN:
        return []


def _is_exiting(stat: ProcessStat) -> bool:
    """Whether the whole process is on its way out, not only its first thread."""
    if stat.state not in "ZXx":
        return bool(stat.flags & PF_EXITING)
    for task in _tasks(stat.pid):
        with contextlib.suppress(*_FORGOTTEN):
            thread = parse_stat(read_proc(f"/proc/{stat.pid}/task/{task}/stat"))
            if thread is not None and not thread.flags & PF_EXITING:
                return False
    return True


def _environment(place: str) -> bytes | None:
    """Return an environment with a NUL before and after each entry; b"" if there is none (yet, any more), None if denied."""
    try:
        environment = read_proc(f"{place}/environ")
    except PermissionError:
        return None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH, errno.EIO):
            return b""  # it is going: what the kernel says then differs between its versions
        raise
    return b"\0" + environment + b"\0" if environment else b""


def _writes_to(place: str, prefix: str) -> bool:
    for fd in (1, 2):
        try:
            target = os.readlink(f"{place}/fd/{fd}")
        except (*_FORGOTTEN, PermissionError):
            continue
        if target.startswith(prefix) and not (prefix[-1].isalnum() and target[len(prefix) : len(prefix) + 1].isalnum()):
            return True
    return False


def _real_prefix(prefix: str) -> str:
    """Return the prefix as /proc shows it: the links in its directory followed."""
    if not prefix:
        return ""
    directory, name = os.path.split(prefix)
    return os.path.join(os.path.realpath(directory), name)


def _is_own(pid: int) -> bool:
    """Whether it is one that we may look into; of others nothing can be read, however long one waits."""
    try:
        return os.geteuid() in (0, os.stat(f"/proc/{pid}").st_uid)
    except _FORGOTTEN:
        return False


def _clear_groups(tree: Tree, free: Callable[[], bool], deadline: float) -> Cleared:
    """Clear what can be cleared without a /proc of ours: the groups. Who left them is not found; `supports` says so."""
    passes = 0
    while True:
        began_free = free()
        alive = [group for group in tree.groups if _strike_group(group)]
        passes += 1
        if began_free and not alive:
            return Cleared(True, (), passes, ())
        if time.monotonic() > deadline:
            return Cleared(False, (), passes, ())
        time.sleep(0.01)


def _strike_group(group: int) -> bool:
    """Send SIGKILL to a group; return whether anyone of it may be alive."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    except PermissionError:
        return sys.platform != "darwin"  # there it is what a group of zombies answers
    try:  # a zombie child that its parent, we, have not reaped yet pins the group, and answers to signals
        return os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return True
