"""The files of a store: where they lie, and whether they may be trusted, before the engine touches them.

    .overseer/jobs.db            the store, 0600 (with -wal and -shm, the engine's own)
    .overseer/jobs.db.d/         its companions, 0700
        gate                     the writer gate
        install.lock             held while the store is made or migrated
        monitor.lock             held by the one acting monitor
        workers/ID               a worker's lock, heartbeat and steps
        bells/ID                 a worker's doorbell
        output/                  what runners write to stdout and stderr
        files/                   what handlers keep (`job.path`), a directory an attempt
        payloads/                what is too large for a worker to hand over in a packet

Nothing here opens the database file: a process that closes any descriptor of it loses the locks the engine holds
(sqlite.org/howtocorrupt.html, 2.2). Only `stat`.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Final, NamedTuple

from overseer_lite.errors import StoreMissingError, StoreUnavailableError, UnusableStoreError

DIRECTORIES: Final = ("workers", "bells", "output", "files", "payloads")
_MOUNTINFO: Final = "/proc/self/mountinfo"

#: Filesystems on which one kernel sees every lock and every page.
LOCAL_FILESYSTEMS: Final = frozenset(
    [
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "zfs",
        "f2fs",
        "bcachefs",
        "jfs",
        "reiserfs",
        "tmpfs",
        "ramfs",
        "overlay",
        "aufs",
        "apfs",
        "hfs",
        "rootfs",
    ]
)


class FileIdentity(NamedTuple):
    """Which file stands behind a path."""

    device: int
    inode: int

    @classmethod
    def of(cls, path: str) -> FileIdentity | None:
        """Return the identity of the file at a path, None if there is none."""
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreUnavailableError(path, error.strerror or str(error)) from error
        return cls(found.st_dev, found.st_ino)


def shipped(name: str) -> str:
    """Return the text of a file that lies beside this one. `importlib.resources` would cost 8 ms and 1.5 MiB a process."""
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return file.read()


def state_directory(path: str) -> str:
    """Return the directory of a store's companions."""
    return path + ".d"


def check_file(path: str) -> None:
    """Refuse what cannot be a store of ours, or could be written by others.

    Raises:
        StoreMissingError: There is nothing at the path.
        UnusableStoreError: There is something that must not be used; the message says what.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreMissingError(path) from None
    except OSError as error:
        raise UnusableStoreError(path, error.strerror or str(error), "Name another store") from error
    if stat.S_ISDIR(found.st_mode):
        raise UnusableStoreError(path, "it is a directory", "Name the file inside it, or another one")
    if not stat.S_ISREG(found.st_mode):
        raise UnusableStoreError(path, "it is no regular file", "Name another store")
    if found.st_size == 0:
        raise UnusableStoreError(path, "the file is empty, which a store never is", "Delete it, or restore a backup")
    _check_owner(path, path, found)
    if not os.access(path, os.R_OK | os.W_OK):
        raise UnusableStoreError(path, "the file is read-only", f"chmod u+rw {path}, or name a store on another disk")
    directory = os.path.dirname(path) or "."
    if not os.access(directory, os.W_OK | os.X_OK):
        raise UnusableStoreError(
            path, f"its directory {directory} is read-only", "Make it writable: the engine's log lies there"
        )


def check_directory(path: str, directory: str) -> None:
    """Refuse a directory of companions that others could write to or that another user owns."""
    try:
        found = os.stat(directory)
    except OSError as error:
        raise StoreUnavailableError(path, f"{directory}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise UnusableStoreError(path, f"{directory} is no directory", "Move it away")
    _check_owner(path, directory, found)


def _check_owner(path: str, what: str, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise UnusableStoreError(
            path,
            f"{what} belongs to user {found.st_uid}, and whoever can write it can run jobs as you",
            "Run as that user, or use a store of your own",
        )
    if found.st_mode & 0o022:
        raise UnusableStoreError(
            path,
            f"{what} can be written by others (mode {stat.S_IMODE(found.st_mode):04o}), who could run jobs as you",
            f"chmod go-w {what}",
        )


def make_directory(directory: str) -> None:
    """Make a directory for our eyes only, and those above it, unless it is there."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except FileExistsError:
        raise UnusableStoreError(directory, "a file stands where its directory should", "Move it away") from None
    except PermissionError as error:
        remedy = f"Let user {os.geteuid()} write to {os.path.dirname(directory)}, or name another store"
        raise StoreUnavailableError(directory, f"cannot make the directory: {error.strerror}", remedy) from error
    except OSError as error:
        raise StoreUnavailableError(directory, f"cannot make the directory: {error.strerror}") from error


def make_state_directory(path: str) -> None:
    """Make the directories of a store's companions; those that are there are checked."""
    state = state_directory(path)
    for directory in (state, *(os.path.join(state, name) for name in DIRECTORIES)):
        if not os.path.isdir(directory):
            make_directory(directory)
        check_directory(path, directory)


def filesystem_of(path: str, mountinfo: str = _MOUNTINFO) -> str | None:
    """Return the type of the filesystem a path lies on, None where the kernel does not say (no mountinfo)."""
    target = os.path.realpath(path)
    best, kind = "", None
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError:
        return None
    for line in lines:
        left, _, right = line.partition(" - ")
        point = _unescape(left.split(" ")[4])
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split(" ")[0]
    return kind


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def check_filesystem(path: str, *, unsafe_allowed: bool, mountinfo: str = _MOUNTINFO) -> None:
    """Refuse filesystems that cannot keep the promises: network and VM-shared ones corrupt without an error first."""
    kind = filesystem_of(os.path.dirname(path) or ".", mountinfo)
    if kind is None or kind in LOCAL_FILESYSTEMS or unsafe_allowed:
        return
    raise UnusableStoreError(
        path,
        f"it lies on {kind}, where locks and shared memory do not hold between processes",
        "Put it on a local disk (--db), or set OVERSEER_LITE_UNSAFE_FILESYSTEM=1 and lose the promises",
    )


def sync_directory(directory: str) -> None:
    """Make what was renamed or linked in a directory outlive a power loss."""
    descriptor = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


#: A file being made beside the place it is for: the maker's pid in its name; the engine's own files go with it.
_DRAFT: Final = re.compile(r"\.new-(\d+)(-wal|-shm|-journal)?")


def draft_of(path: str) -> str:
    """Return the name under which this process makes a file that is to stand at a path."""
    return f"{path}.new-{os.getpid()}"


def drafts(path: str) -> list[tuple[str, int]]:
    """Return the drafts that lie beside a path, whole or not, and the pid of each one's maker."""
    directory, name = os.path.split(path)
    try:
        beside = os.listdir(directory or ".")
    except OSError:
        return []
    found = []
    for each in beside:
        match = _DRAFT.fullmatch(each, len(name)) if each.startswith(name) else None
        if match is not None:
            found.append((os.path.join(directory, each), int(match[1])))
    return sorted(found)


def free_bytes(path: str) -> int:
    """Return how much space is left for us where the store lies."""
    found = os.statvfs(os.path.dirname(path) or ".")
    return found.f_bavail * found.f_frsize
