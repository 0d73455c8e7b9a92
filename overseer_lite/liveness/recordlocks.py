"""Who holds a POSIX lock on some bytes of a file: by the kernel's table, the file left alone."""

from __future__ import annotations

import os

from overseer_lite.liveness.identity import read_proc
from overseer_lite.liveness.tree import kernel_device


def record_lock_holders(path: str, first: int, last: int) -> frozenset[int]:
    """Return the pids that hold a POSIX lock on any of a file's bytes, as far as this pid namespace shows them.

    The file is not opened: a process that closes any descriptor of a file loses all its own locks on it. Empty too if
    it cannot be told.
    """
    try:
        inode = os.stat(path).st_ino
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            wanted = f"{kernel_device(directory)}:{inode}"  # of the same filesystem
        finally:
            os.close(directory)
        lines = read_proc("/proc/locks").decode("ascii").splitlines()
    except OSError:
        return frozenset()
    found = set()
    for line in lines:
        words = (
            line.split()
        )  # "7: POSIX  ADVISORY  READ 1234 08:01:5678 124 124"; a waiter has "->" for its second word
        if len(words) > 7 and words[1] == "POSIX" and words[5] == wanted:
            begin, end = int(words[6]), float("inf") if words[7] == "EOF" else int(words[7])
            if begin <= last and first <= end and int(words[4]) > 0:
                found.add(int(words[4]))
    return frozenset(found)
