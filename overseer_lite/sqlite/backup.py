"""A copy of a store, taken while it is in use: sound, of one moment, and nobody's yet.

A plain copy of a live file lacks what stands in its log. The engine's own backup reads one snapshot; what it wrote is
checked, emptied of everything that belongs to the processes at work on the original, synced, and only then given its
name. Whoever opens the copy finds no worker, and so kills nobody (hazards, rule 3).
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from overseer_lite.errors import InvalidInputError, StoreFullError, StoreUnavailableError, UnusableStoreError
from overseer_lite.sqlite import engine, files
from overseer_lite.sqlite.connection import SQL, SYNCHRONOUS_FULL, Database
from overseer_lite.store import Backup

if TYPE_CHECKING:
    from collections.abc import Callable

_PAGES_A_STEP: Final = 4096  # 16 MiB: a signal is acted on between two steps


def backup(store_path: str, target: str, *, unsafe_filesystem: bool = False) -> Backup:
    """Copy a store that may be in use to a file of its own, of one moment, under a new id.

    Workers are not in the copy; jobs that were started are unstarted, with the number of their attempt spent, and an
    operator's wish for one of them is forgotten. History, results and runs are as they were; what handlers keep as
    files (`job.path`) is not copied.

    Raises:
        InvalidInputError: Something stands at the target, or there is no directory for it; nothing was written.
        UnusableStoreError: The store is none, or is damaged; no copy is left.
        StoreUnavailableError: It could not be copied now; no copy is left.
    """
    target = os.path.join(os.path.realpath(os.path.dirname(target) or "."), os.path.basename(target))
    unstarted = 0

    def clear(copied: engine.Connection) -> None:
        nonlocal unstarted
        copied.execute(SQL["unstart"])
        unstarted = copied.changes()
        copied.execute(SQL["forget_workers"])
        copied.execute(SQL["set_meta"], ("uuid", uuid.uuid4().hex))

    with Database(os.path.realpath(store_path), unsafe_filesystem=unsafe_filesystem) as db:
        db.open()  # a store that cannot be used is said first
        _check_target(target)
        for leftover, pid in files.drafts(target):
            if not _lives(pid):
                os.unlink(leftover)
        copy(db, target, clear)
    return Backup(target, os.stat(target).st_size, unstarted)


def _check_target(target: str) -> None:
    directory = os.path.dirname(target)
    if not os.path.basename(target) or os.path.isdir(target):
        raise InvalidInputError(f"Cannot back up to {target}: it is a directory. Name a new file inside it.")
    if os.path.lexists(target):
        raise InvalidInputError(f"Cannot back up to {target}: it exists, and is not overwritten. Name a new file.")
    if not os.path.isdir(directory):
        raise InvalidInputError(f"Cannot back up to {target}: there is no directory {directory}. Make it first.")
    for companion in (target + "-wal", target + "-journal"):
        if os.path.lexists(companion):  # the engine would play it back into the copy
            raise InvalidInputError(
                f"Cannot back up to {target}: {companion} lies beside it, an earlier file's log. Name a new file."
            )


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def copy(db: Database, target: str, clear: Callable[[engine.Connection], None]) -> None:
    """Copy a store's file of this moment; `clear` makes of the copy what it is to be, in a transaction.

    Raises:
        StoreUnavailableError: It could not be done now; nothing is left at the target.
        UnusableStoreError: What was copied is damaged; nothing is left at the target.
    """
    draft = files.draft_of(target)
    try:
        descriptor = os.open(draft, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _fill(db, draft, target, clear)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)  # nobody has the draft open any more, so this takes no lock from anyone
        _put(draft, target)
        files.sync_directory(os.path.dirname(target))
    except engine.FullError as error:
        raise StoreFullError(target) from error
    except engine.Error as error:
        raise StoreUnavailableError(target, f"the copy cannot be made: {error}") from error
    except OSError as error:
        raise StoreUnavailableError(target, f"the copy cannot be made: {error.strerror or error}") from error
    finally:
        for leftover in (draft, draft + "-wal", draft + "-shm", draft + "-journal"):
            with suppress(FileNotFoundError):
                os.unlink(leftover)


def _fill(db: Database, draft: str, target: str, clear: Callable[[engine.Connection], None]) -> None:
    copied = engine.Connection(draft, engine.OPEN_READWRITE)
    try:
        copied.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()  # a log without shared memory: any disk will do
        _copy_pages(db, copied, target)
        copied.execute(SYNCHRONOUS_FULL)
        copied.execute("BEGIN IMMEDIATE")
        clear(copied)
        copied.execute("COMMIT")
        found = copied.execute("PRAGMA integrity_check(3)").fetchall()
        if found != [("ok",)]:
            raise _damaged(db, "; ".join(str(line) for (line,) in found))
    except engine.CorruptError as error:
        raise _damaged(db, str(error)) from error
    finally:
        copied.close()  # the last one: its log is moved into the file


def _copy_pages(db: Database, copied: engine.Connection, target: str) -> None:
    with db.read(), copied.backup("main", db.open(), "main") as copying:  # the snapshot keeps it of one moment
        try:
            while not copying.done:
                copying.step(_PAGES_A_STEP)
        except engine.FullError as error:  # it is the copy's disk that is full, not the store's
            raise StoreFullError(target) from error


def _damaged(db: Database, how: str) -> UnusableStoreError:
    return UnusableStoreError(db.path, f"the file is damaged ({how})", "No copy was made; restore an earlier one")


def _put(draft: str, target: str) -> None:
    """Give the draft its name, which must still be free."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise
    except OSError:  # a disk that knows no second names
        if os.path.lexists(target):
            raise
        os.rename(draft, target)
