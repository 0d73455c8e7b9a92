"""The one place where the SQLite engine is imported, judged and named.

Two copies of SQLite in one process break each other's POSIX locks (sqlite.org/howtocorrupt.html, 2.2), so nothing
else imports one, the standard library's included. The engine comes from a wheel since the WAL-reset race of 3.7.0 to
3.51.2 corrupts a file that several processes write, and Linux distributions link such versions.
"""

from __future__ import annotations

from typing import Final

import apsw

from overseer_lite.errors import UnfixedEngineError

NAME: Final = "apsw"
VERSION: Final[str] = apsw.sqlite_lib_version()

#: Back-ports of the fix, beside 3.51.3 and later. 3.52.0 was withdrawn.
_FIXED_BRANCHES: Final = {(3, 50): 7, (3, 44): 6}


def is_fixed(version: str) -> bool:
    """Whether a SQLite version is free of the WAL-reset race (sqlite.org/wal.html)."""
    numbers = tuple(int(part) for part in version.split(".")[:3])
    major, minor, patch = (*numbers, 0, 0)[:3]
    if (major, minor) == (3, 52):
        return False
    if (major, minor, patch) >= (3, 51, 3):
        return True
    return (major, minor) in _FIXED_BRANCHES and patch >= _FIXED_BRANCHES[major, minor]


def check() -> None:
    """Refuse an engine that can corrupt our kind of file."""
    if not is_fixed(VERSION):
        raise UnfixedEngineError(VERSION)


def read_header(path: str, size: int = 100) -> bytes:
    """Return the first bytes of a database file, without opening the database: nothing at all is written.

    By the engine's own door: were the file merely opened and closed, the locks that this process holds on it would go.

    Raises:
        Error: It cannot be read.
    """
    file = apsw.VFSFile("unix", path, [apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_MAIN_DB, 0])
    try:
        return file.xRead(size, 0)
    finally:
        file.xClose()


Connection = apsw.Connection
Error = apsw.Error
BusyError = apsw.BusyError
LockedError = apsw.LockedError
FullError = apsw.FullError
EngineIOError = apsw.IOError
CorruptError = apsw.CorruptError
NotADBError = apsw.NotADBError
ReadOnlyError = apsw.ReadOnlyError
CantOpenError = apsw.CantOpenError
ConstraintError = apsw.ConstraintError

OPEN_READWRITE: Final = apsw.SQLITE_OPEN_READWRITE
OPEN_CREATE: Final = apsw.SQLITE_OPEN_CREATE
OPEN_NOFOLLOW: Final = apsw.SQLITE_OPEN_NOFOLLOW
NO_CHECKPOINT_ON_CLOSE: Final = apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE
STABLE_PLANS: Final = apsw.SQLITE_DBCONFIG_ENABLE_QPSG
CHECKPOINT_PASSIVE: Final = apsw.SQLITE_CHECKPOINT_PASSIVE
CHECKPOINT_TRUNCATE: Final = apsw.SQLITE_CHECKPOINT_TRUNCATE
