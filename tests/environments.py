"""What a process was given as its environment, read in the plainest way, apart from the code under test."""

from __future__ import annotations

import time
from pathlib import Path

_KERNEL_THREAD = 0x200000
_ENV_END = 48  # in /proc/PID/stat, counted from the state


def environment(pid: int | str, timeout_s: float = 2.0) -> bytes:
    """Return a process's environment, a NUL before and after each entry; b"" if it was given none.

    In the middle of an exec there is none yet, and it is read again: who was started a moment ago would be overlooked.

    Raises:
        OSError: It is dead, or another user's.
    """
    until = time.monotonic() + timeout_s
    while True:
        before = _end(pid)
        if found := Path(f"/proc/{pid}/environ").read_bytes():
            return b"\0" + found + b"\0"
        if before is None or before == _end(pid) != 0 or time.monotonic() > until:
            return b""


def _end(pid: int | str) -> int | None:
    """Return where its environment ends in its memory, 0 in the middle of an exec; None if it can never have any."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X") or int(fields[6]) & _KERNEL_THREAD:
        return None
    return int(fields[_ENV_END])
