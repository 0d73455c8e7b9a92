"""Start children so that the kernel, and nobody else, says when they are dead.

`subprocess.Popen` reaps behind one's back (`poll`, `send_signal`, `terminate` do), and a reaped pid is free for a
stranger. Here looking never reaps: a dead child stays a zombie, its pid and its group pinned, until `reap`.

Spawn from the main thread: what ties a child to its parent's life (`die_with_parent`) ties it to the THREAD that forked it.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from overseer_lite.liveness.identity import HAS_PIDFD, Identity, proc_is_ours, read_stat
from overseer_lite.liveness.tree import children

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


_PACKAGE_ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_BOOT: Final = (
    "import sys\n"
    "from importlib import import_module\n"
    "root, module = sys.argv.pop(1), sys.argv.pop(1)\n"
    "if root not in sys.path: sys.path.append(root)\n"
    "import_module(module).main(sys.argv[1:])\n"
)


def python_argv(module: str, config: object) -> list[str]:
    """Return the command that calls a module's `main` with a configuration as JSON, in a process of its own.

    By this interpreter, with its safe path: the working directory is not on it, and this package comes last, so that no
    file that happens to lie there is taken for a module of the standard library or of ours.
    """
    return [sys.executable, "-P", "-c", _BOOT, _PACKAGE_ROOT, module, json.dumps(config)]


class Exit(NamedTuple):
    """How a child ended: by itself with a code, or by a signal. Both None: it ended, and somebody else has reaped it."""

    code: int | None
    signal: int | None


class Child:
    """A child process, from its spawn to its reaping."""

    __slots__ = ("_exit", "identity", "pid", "pidfd")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._exit: Exit | None = None
        self.pidfd = _open_own_pidfd(pid)
        self.identity = Identity.of(pid) or Identity.mine()._replace(pid=pid, start_time=0)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the child is dead.

        Raises:
            OSError: There are no pidfds here; ask `exited` now and then.
        """
        if self.pidfd is None:
            raise OSError("This kernel has no pidfds, or the child was reaped; ask exited() instead")
        return self.pidfd

    def exited(self) -> Exit | None:
        """Return how it ended, None while it lives. Only looks: its pid and its group stay its own until `reap`."""
        return self._exit or self._wait(os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def reap(self) -> Exit:
        """Wait for its end, reap it and close its pidfd; from here on its pid may be anybody's. Idempotent."""
        if self._exit is None:
            self._exit = self._wait(os.WEXITED) or Exit(None, None)
            if self.pidfd is not None:
                os.close(self.pidfd)
                self.pidfd = None
        return self._exit

    def signal(self, signum: int) -> bool:
        """Send it a signal; False if it is dead."""
        if self.exited() is not None:
            return False
        try:
            if self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, signum)
            else:
                os.kill(self.pid, signum)  # safe: it is our child and not reaped
        except ProcessLookupError:
            return False
        return True

    def stopped(self) -> bool:
        """Whether it is stopped, by a signal or a debugger; False where there is no /proc."""
        stat = None if self._exit else read_stat(self.pid)
        return stat is not None and stat.state in "Tt"

    def _wait(self, options: int) -> Exit | None:
        try:
            result = os.waitid(os.P_PID, self.pid, options)
        except ChildProcessError:
            return Exit(None, None)
        if result is None:
            return None
        if result.si_code == os.CLD_EXITED:
            return Exit(result.si_status, None)
        return Exit(None, result.si_status)


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    descriptors: Mapping[int, int],
    stdout: int | None = None,
    stderr: int | None = None,
) -> Child:
    """Start a program in a process group of its own, with default signal handling and nothing blocked.

    Its stdin is /dev/null. It gets no descriptor of ours but those named here, and 1 and 2.

    Args:
        argv: The program, by its path, and its arguments.
        env: Its whole environment.
        descriptors: Which of our descriptors it gets, by the number under which it gets it; numbers may clash.
        stdout, stderr: Descriptors for its 1 and 2; ours if None.

    Raises:
        OSError: It could not be started, or not be held on to; then it is gone again.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited so from a careless parent, it would reap for us
    wanted = dict(descriptors)
    if stdout is not None:
        wanted[1] = stdout
    if stderr is not None:
        wanted[2] = stderr
    above = max(wanted, default=0)
    moved: dict[int, int] = {}
    try:
        for number, fd in wanted.items():
            moved[number] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, max(above, 2) + 1)
        actions: list[tuple[int, int] | tuple[int, int, int] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()
        ]
        if 0 not in wanted:
            actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
        actions += [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in moved.items()]
        pid = os.posix_spawn(
            argv[0],
            list(argv),
            dict(env),
            file_actions=actions,
            setpgroup=0,
            setsigmask=[],
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
    finally:
        for fd in moved.values():
            os.close(fd)
    return Child(pid)


def die_with_parent(expected_ppid: int) -> bool:
    """Have the kernel SIGKILL this process when its parent ends; at once, if the parent has ended already.

    Args:
        expected_ppid: The parent's pid, as the parent told it: a child that comes late sees only who adopted it.

    Returns:
        False where the kernel cannot do that (not Linux): watch for the end of a pipe instead.
    """
    tied = _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != expected_ppid:
        os.kill(os.getpid(), signal.SIGKILL)  # the same end, whichever came first
    return tied


def become_subreaper() -> bool:
    """Have the kernel hand this process the orphans among its descendants; False where it cannot (not Linux)."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def reap_strays(known: Collection[int]) -> list[int]:
    """Reap the dead children that are not among `known`: orphans handed to a subreaper. Return their pids.

    One by one, by pid: waiting for any child would reap the known ones and free their pids.
    """
    reaped = []
    for pid in sorted(children(os.getpid()) - frozenset(known)):
        stat = read_stat(pid)
        if stat is None or not stat.dead:
            continue
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None:
                reaped.append(pid)
        except ChildProcessError:
            continue  # it was no child of ours after all
    return reaped


def supports() -> dict[str, bool]:
    """Return what this kernel can do for us; where one is False, a death is found later or not by the kernel's word.

    `pidfd`: deaths are told at once and signals hit nobody else; `subreaper`: orphans come to the supervisor;
    `pdeathsig`: a runner dies with its worker; `proc`: trees are found by more than their group.
    """
    linux = sys.platform == "linux"
    return {"pidfd": HAS_PIDFD, "subreaper": linux, "pdeathsig": linux, "proc": proc_is_ours()}


def _open_own_pidfd(pid: int) -> int | None:
    """Open the pidfd of a child just spawned; kill the child if it cannot be held on to."""
    if not HAS_PIDFD:
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED)
        raise


def _inheritable() -> list[int]:
    """Return our descriptors above 2 that would pass to a child: those of C libraries, and those that we inherited."""
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except FileNotFoundError:
        numbers = [int(name) for name in os.listdir("/dev/fd")]
    return [fd for fd in numbers if fd > 2 and _passes_on(fd)]


def _passes_on(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # the listing's own, closed by now


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes  # here: it costs as much as half a runner's other imports

    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)
