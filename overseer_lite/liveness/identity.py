"""Who a process is to the kernel, and whether it lives: safe against reused pids, reboots and foreign namespaces.

A pid alone names nobody for long: `pid_max` may be 32768. A pid together with its start time, in its pid namespace,
in its boot, names one process for ever. Signals go through a pidfd that was opened BEFORE the start time was compared,
so that no stranger who got the number in between can be hit.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from enum import StrEnum
from typing import Final, NamedTuple

from overseer_lite.clock import read_boot_id

PF_EXITING: Final = 0x4
PF_KTHREAD: Final = 0x200000
_EXEC_S: Final = 0.1


def signal_name(number: int) -> str:
    """Return the name of a signal, '' if it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def _pidfd_works() -> bool:
    """Try it: the functions may be there while the kernel is too old, or a sandbox refuses the call."""
    if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return error.errno not in (errno.ENOSYS, errno.EPERM)
    return True


#: Whether this kernel has descriptors of processes; asked once, at import.
HAS_PIDFD: Final = _pidfd_works()


class Life(StrEnum):
    """What the kernel says of a process. Only GONE and OTHER_BOOT are proofs of death."""

    RUNNING = "running"
    STOPPED = "stopped"  # by a signal, a debugger: silent, and may wake
    EXITING = "exiting"  # on its way out, its descriptors perhaps still open
    GONE = "gone"  # absent, or a zombie without a living thread, or its pid is another's now
    OTHER_BOOT = "other boot"
    FOREIGN = "foreign"  # of another pid namespace: cannot be asked


class ProcessStat(NamedTuple):
    """One reading of /proc/PID/stat.

    Attributes:
        state: The kernel's letter: R, S, D, T, t, Z, X, ...
        flags: The kernel's flags, PF_EXITING among them.
        start_time: Ticks since the boot.
        num_threads: Living threads, the first one included.
        cpu_ticks: Ticks spent in user and kernel mode.
        env_end: Where its environment ends in its memory; 0 in the middle of an exec, and to those who may not know.
    """

    pid: int
    state: str
    ppid: int
    pgid: int
    session: int
    flags: int
    start_time: int
    num_threads: int
    cpu_ticks: int
    env_end: int = 0

    @property
    def dead(self) -> bool:
        """Whether nothing of it runs any more.

        State Z is that of its first thread: when a process of several threads is killed, or its first thread leaves
        early, Z shows while another thread still runs and holds the descriptors. Such a one is not dead.
        """
        return self.state in "ZXx" and self.num_threads <= 1


class Identity(NamedTuple):
    """One process, for ever.

    Attributes:
        pid_namespace: The namespace in which `pid` is its number, as the kernel writes it; '' where there are none.
        start_time: Ticks since the boot; 0 where they cannot be read, and then only the pid is compared.
    """

    boot_id: str
    pid_namespace: str
    pid: int
    start_time: int

    @classmethod
    def mine(cls, boot_id: str | None = None) -> Identity:
        """Return the identity of this process; `boot_id` as the store's clock sees it, if not the kernel's."""
        pid = os.getpid()
        return cls.of(pid, boot_id) or cls(boot_id or read_boot_id(), _pid_namespace(), pid, 0)

    @classmethod
    def of(cls, pid: int, boot_id: str | None = None) -> Identity | None:
        """Return the identity of whoever has that pid now, a zombie too; None if nobody has it, or none can be read."""
        stat = read_stat(pid)
        if stat is None:
            return None
        return cls(boot_id or read_boot_id(), _pid_namespace(), pid, stat.start_time)

    def to_text(self) -> str:
        """Return it as compact JSON, for a file or a column."""
        return json.dumps(self, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Identity:
        """Return the identity that `to_text` wrote.

        Raises:
            ValueError: The text is none.
        """
        try:
            fields = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            fields = None
        if not isinstance(fields, list) or [type(field) for field in fields] != [str, str, int, int]:
            raise ValueError(
                f"{str(text)[:80]!r} is no process identity; expected [boot id, pid namespace, pid, start time]"
            )
        if fields[2] <= 0 or fields[3] < 0:
            raise ValueError(f"{str(text)[:80]!r} is no process identity; its pid or start time is out of range")
        return cls(*fields)


def look(identity: Identity, boot_id: str | None = None) -> Life:
    """Ask the kernel about a process; `boot_id` is the current boot as the store's clock sees it.

    A zombie that still has a living thread counts as EXITING. STOPPED and RUNNING may change before the caller acts.
    """
    if identity.boot_id != (boot_id or read_boot_id()):
        return Life.OTHER_BOOT
    if identity.pid_namespace != _pid_namespace():
        return Life.FOREIGN
    if not proc_is_ours():
        return Life.RUNNING if _exists(identity.pid) else Life.GONE
    stat = read_stat(identity.pid)
    if stat is None or stat.dead or _is_another(identity, stat):
        return Life.GONE
    if stat.flags & PF_EXITING:
        return Life.EXITING
    return Life.STOPPED if stat.state in "Tt" else Life.RUNNING


def read_stat(pid: int) -> ProcessStat | None:
    """Return what /proc says of a pid; None if nobody has it, or this process may not see it, or there is no /proc."""
    if not proc_is_ours():
        return None
    try:
        text = read_proc(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return parse_stat(text)


def parse_stat(text: bytes) -> ProcessStat | None:
    """Take one line of /proc/PID/stat apart; the name in it may hold blanks, newlines and parentheses."""
    head, _, tail = text.rpartition(b")")
    rest = tail.split()
    if len(rest) < 20:
        return None  # it went away while it was read
    return ProcessStat(
        pid=int(head.split(b" ", 1)[0]),
        state=rest[0].decode("ascii"),
        ppid=int(rest[1]),
        pgid=int(rest[2]),
        session=int(rest[3]),
        flags=int(rest[6]),
        start_time=int(rest[19]),
        num_threads=int(rest[17]),
        cpu_ticks=int(rest[11]) + int(rest[12]),
        env_end=int(rest[48]) if len(rest) > 48 else 0,
    )


def read_proc(path: str) -> bytes:
    """Read a file of /proc to its end, without the buffers of `open`: thousands are read in one pass."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def read_environment(pid: int) -> bytes:
    """Return the environment that a process was given, a NUL after each entry; b"" if it was given none.

    In the middle of an exec there is none yet: then it is read again, for 0.1 s at most.

    Raises:
        OSError: It is dead, or may not be read.
    """
    until = time.monotonic() + _EXEC_S
    while True:
        before = read_stat(pid)
        environment = read_proc(f"/proc/{pid}/environ")
        if environment or before is None or before.dead or before.flags & PF_KTHREAD:
            return environment
        after = read_stat(pid)
        if after is None or before.env_end == after.env_end != 0 or time.monotonic() > until:
            return environment


def program_of(pid: int) -> str:
    """Return the name of the program that a process runs, at most 15 characters; "?" if it cannot be told. For messages."""
    try:
        return read_proc(f"/proc/{pid}/comm").decode("utf-8", "replace").strip()
    except OSError:
        return "?"


def open_pidfd(identity: Identity, boot_id: str | None = None) -> int | None:
    """Open a descriptor of that very process; it becomes readable when the process, all its threads included, is dead.

    The caller closes it.

    Returns:
        None if the process is gone, is another by now, cannot be asked, or where there are no pidfds.
    """
    if not HAS_PIDFD:
        return None
    try:
        pidfd = os.pidfd_open(identity.pid)  # first: the number cannot change hands under an open pidfd unnoticed
    except ProcessLookupError:
        return None
    try:
        here = look(identity, boot_id) not in (Life.GONE, Life.OTHER_BOOT, Life.FOREIGN)
    except BaseException:
        os.close(pidfd)
        raise
    if here:
        return pidfd
    os.close(pidfd)
    return None


def send_signal(identity: Identity, signum: int, boot_id: str | None = None) -> bool:
    """Send a signal to that very process; False if it is gone, or cannot be asked.

    Without pidfds the comparison comes just before the signal, which leaves a window of microseconds.

    Raises:
        PermissionError: It belongs to somebody else.
    """
    if not HAS_PIDFD:
        if look(identity, boot_id) in (Life.GONE, Life.OTHER_BOOT, Life.FOREIGN):
            return False
        try:
            os.kill(identity.pid, signum)
        except ProcessLookupError:
            return False
        return True
    pidfd = open_pidfd(identity, boot_id)
    if pidfd is None:
        return False
    try:
        signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def proc_is_ours() -> bool:
    """Whether there is a /proc, and one of this pid namespace: in a container it may be the host's, with other numbers."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _is_another(identity: Identity, stat: ProcessStat) -> bool:
    return identity.start_time not in (0, stat.start_time)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
