"""Who holds a lock on a file: by the kernel's table, the file left alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from overseer_lite.liveness.identity import read_proc

if TYPE_CHECKING:
    from collections.abc import Iterator


def locks_on(fd: int, inode: int) -> Iterator[list[str]]:
    """Yield the words of each line of /proc/locks about a file: `7: POSIX ADVISORY READ 1234 08:01:5678 124 124`.

    One that waits for a lock has `->` for its second word; the fifth is a pid, not above 0 if of another pid namespace.

    Args:
        fd: The file, or one on the same filesystem.

    Raises:
        OSError: It cannot be told.
    """
    wanted = f"{_kernel_device(fd)}:{inode}"
    for line in read_proc("/proc/locks").decode("ascii").splitlines():
        words = line.split()
        if len(words) > 7 and words[5] == wanted:
            yield words


def record_lock_holders(path: str, first: int, last: int) -> frozenset[int]:
    """Return the pids that hold a POSIX lock on any of a file's bytes, as far as this pid namespace shows them.

    The file is not opened: a process that closes any descriptor of a file loses all its own locks on it. Empty too if
    it cannot be told.
    """
    try:
        inode = os.stat(path).st_ino
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            locks = [words for words in locks_on(directory, inode) if words[1] == "POSIX"]
        finally:
            os.close(directory)
    except OSError:
        return frozenset()
    found = set()
    for words in locks:
        begin, end = int(words[6]), float("inf") if words[7] == "EOF" else int(words[7])
        if begin <= last and first <= end and int(words[4]) > 0:
            found.add(int(words[4]))
    return frozenset(found)


def _kernel_device(fd: int) -> str:
    """Return the device of a descriptor's file as /proc/locks has it.

    On some filesystems (btrfs, overlay) fstat gives another; the table of mounts gives the kernel's own.
    """
    info = dict(
        line.split(":", 1) for line in read_proc(f"/proc/self/fdinfo/{fd}").decode().splitlines() if ":" in line
    )
    mount = info["mnt_id"].strip()
    for line in read_proc("/proc/self/mountinfo").decode(errors="replace").splitlines():
        words = line.split(" ", 3)
        if words[0] == mount:
            major, minor = words[2].split(":")
            return f"{int(major):02x}:{int(minor):02x}"
    device = os.fstat(fd).st_dev
    return f"{os.major(device):02x}:{os.minor(device):02x}"
