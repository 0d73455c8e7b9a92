"""Making a store: built beside its place, complete and synced, then put there in one step.

So a store is there whole or not at all; an empty or half-made file is never one of ours. Two processes that want it
made at once meet at a lock, and the second finds it done.
"""

from __future__ import annotations

import os
import uuid
from importlib.resources import files as package_files
from typing import TYPE_CHECKING

from overseer_lite import failpoints
from overseer_lite.errors import StoreUnavailableError, UnusableStoreError
from overseer_lite.sqlite import engine, files
from overseer_lite.sqlite.connection import APPLICATION_ID, SCHEMA_VERSION, SQL

if TYPE_CHECKING:
    from overseer_lite.clock import Reading

_INSTALL_TIMEOUT_S = 60.0


def create(path: str, now: Reading, *, unsafe_filesystem: bool = False) -> bool:
    """Make the store if there is none; return whether this call made it.

    Raises:
        UnusableStoreError: The place cannot hold a store.
        StoreUnavailableError: It could not be made now.
    """
    from filelock import FileLock, Timeout  # 38 ms to import, and only whoever makes a store needs it

    engine.check()
    directory = os.path.dirname(path) or "."
    files.make_directory(directory)
    if os.path.basename(directory) == ".overseer":
        _ignore(directory)
    files.check_filesystem(path, unsafe_allowed=unsafe_filesystem)
    files.make_state_directory(path)
    lock = FileLock(
        os.path.join(files.state_directory(path), "install.lock"),
        timeout=_INSTALL_TIMEOUT_S,
        mode=0o600,
        fallback_to_soft=False,  # a soft lock outlives its holder
    )
    try:
        with lock:
            if os.path.lexists(path):
                return False
            _build(path, now)
            return True
    except Timeout:
        raise StoreUnavailableError(path, "another process has been making it for a minute") from None
    except OSError as error:
        raise StoreUnavailableError(path, f"it cannot be made: {error.strerror or error}") from error


def _ignore(directory: str) -> None:
    note = os.path.join(directory, ".gitignore")
    if not os.path.exists(note):
        with open(note, "w", encoding="ascii") as file:
            file.write("*\n")


def _build(path: str, now: Reading) -> None:
    draft = f"{path}.new-{os.getpid()}"
    for leftover in (draft, draft + "-wal", draft + "-shm", draft + "-journal"):
        if os.path.lexists(leftover):
            os.unlink(leftover)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        connection = engine.Connection(draft, engine.OPEN_READWRITE)
        schema = package_files("overseer_lite.sqlite").joinpath("schema.sql").read_text(encoding="utf-8")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(schema)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for name, value in (("uuid", uuid.uuid4().hex), ("created_wall_us", now.wall_us)):
            connection.execute(SQL["set_meta"], (name, value))
        connection.execute(SQL["set_boot"], (now.boot_id,))
        failpoints.hit("install.before_commit")
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = wal").fetchall()
        connection.close()  # the last one: its log is moved into the file, which then stands alone
    except engine.Error as error:
        raise UnusableStoreError(
            path, f"it cannot be made: {error}", "Free some space, or name another place"
        ) from error
    os.link(draft, path)  # fails if somebody else's file has appeared there
    os.unlink(draft)
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    failpoints.hit("install.after_commit")
