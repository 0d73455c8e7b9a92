"""The writer gate: a kernel lock held around every write transaction and every checkpoint.

SQLite's own waiting sleeps, is unfair and deaf to signals; of 8 writers some starved. Behind a lock the kernel wakes
the waiters at once, and a holder that was killed lets go. A wait is bounded, always: a process that waits for ever
cannot act on SIGTERM.

Python resumes an interrupted `fcntl.flock` by itself (PEP 475), so a bounded wait in the kernel takes libc's own
`flock`, which returns when a signal comes, and an alarm that comes four times a second. An alarm belongs to the whole
process; only processes of ours that asked for it (`use_alarm`) wait that way. A guest in somebody's process tries
again and again instead, at most a millisecond apart.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import threading
import time
from typing import TYPE_CHECKING, Final

from overseer_lite import failpoints
from overseer_lite.errors import StoreBusyError, StoreUnavailableError, UnusableStoreError
from overseer_lite.sqlite.files import FileIdentity

if TYPE_CHECKING:
    from collections.abc import Callable

_ALARM_S: Final = 0.25
_FIRST_PAUSE_S: Final = 0.00005
_LONGEST_PAUSE_S: Final = 0.001

_alarm_is_ours = False


def use_alarm() -> None:
    """Let gates of this process's main thread wait in the kernel, by SIGALRM; for processes that are ours alone."""
    global _alarm_is_ours
    signal.signal(signal.SIGALRM, lambda _signum, _frame: None)
    _alarm_is_ours = True


class Gate:
    """One process's handle on the gate of a store. Not re-entrant; one thread of a process uses it at a time.

    Args:
        path: The gate's own file; made if it is not there.
        store: Whose gate it is, for messages.
    """

    __slots__ = ("_fd", "_store", "held", "identity", "longest_wait_s", "path")

    def __init__(self, path: str, store: str = "") -> None:
        self.path = path
        self._store = store or path
        self._fd = _open(path, self._store)
        found = os.fstat(self._fd)
        self.identity = FileIdentity(found.st_dev, found.st_ino)
        self.held = False
        self.longest_wait_s = 0.0

    def fileno(self) -> int:
        """Return the descriptor that carries the lock."""
        return self._fd

    def acquire(self, timeout_s: float) -> None:
        """Take the gate. Whatever is raised, by a signal's handler too: the gate is then not held.

        Raises:
            StoreBusyError: Somebody else held it for longer than `timeout_s`.
        """
        try:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._wait(timeout_s)
            self.held = True
            failpoints.hit("gate.held")
        except StoreBusyError:
            raise
        except BaseException:
            self.release()
            raise

    def _wait(self, timeout_s: float) -> None:
        begun = time.monotonic()
        wait = _wait_in_kernel if _alarm_is_ours and _in_main_thread() else _wait_by_trying
        got = wait(self._fd, begun + timeout_s)
        waited = time.monotonic() - begun
        self.longest_wait_s = max(self.longest_wait_s, waited)
        if not got:
            raise StoreBusyError(self._store, waited, self._holder())

    def _holder(self) -> str:
        from overseer_lite.liveness.identity import read_stat
        from overseer_lite.liveness.tree import flock_holder

        pid = flock_holder(self._fd)
        if pid is None:
            return "another process"
        found = read_stat(pid)
        stopped = " (which is stopped)" if found is not None and found.state in "Tt" else ""
        return f"process {pid}{stopped}"

    def release(self) -> None:
        """Let the next one in; nothing if it is not held."""
        self.held = False
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file, and with it of the gate."""
        self.held = False
        os.close(self._fd)


def _open(path: str, store: str) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailableError(store, f"cannot open its gate {path}: {error.strerror or error}") from error
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
        return fd
    os.close(fd)
    raise UnusableStoreError(store, f"its gate {path} is no regular file of yours", "Remove it")


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _wait_by_trying(fd: int, deadline: float) -> bool:
    pause = _FIRST_PAUSE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)
        else:
            return True


_libc_flock: Callable[[int, int], int] | None = None


def _wait_in_kernel(fd: int, deadline: float) -> bool:
    global _libc_flock
    import ctypes  # 5 ms, and only where somebody has to wait

    if _libc_flock is None:
        _libc_flock = ctypes.CDLL(None, use_errno=True).flock
    first = max(0.001, min(_ALARM_S, deadline - time.monotonic()))
    signal.setitimer(signal.ITIMER_REAL, first, _ALARM_S)
    try:
        while time.monotonic() < deadline:
            if _libc_flock(fd, fcntl.LOCK_EX) == 0:
                return True
            code = ctypes.get_errno()
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return False
