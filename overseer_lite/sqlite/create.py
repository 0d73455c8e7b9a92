"""Making a store, and migrating an older one: whole, or not at all.

A store is built beside its place, complete and synced, then put there in one step, so an empty or half-made file is
never one of ours. Two processes that want it made at once meet at a lock, and the second finds it done. A migration is
one transaction, after a copy beside the file, and only while no worker of the older version is at work.
"""

from __future__ import annotations

import itertools
import logging
import os
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from overseer_lite import failpoints
from overseer_lite.errors import StoreFullError, StoreUnavailableError, UnusableStoreError
from overseer_lite.sqlite import engine, files
from overseer_lite.sqlite.connection import APPLICATION_ID, SCHEMA_VERSION, SQL, SYNCHRONOUS_FULL, Database

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from overseer_lite.clock import Reading

log = logging.getLogger("overseer_lite.sqlite")

_INSTALL_TIMEOUT_S: Final = 60.0
_MARKS: Final = (
    "PRAGMA application_id = 1331055700",  # APPLICATION_ID
    "PRAGMA user_version = 2",  # SCHEMA_VERSION
)

#: How to get from each older version to the next: SQL that ends with `PRAGMA user_version = <the next>`.
MIGRATIONS: Final[Mapping[int, str]] = {
    # Who added the jobs that are there is not known; no row is rewritten, so this takes no longer for 10^6 jobs.
    1: "ALTER TABLE jobs ADD COLUMN adder INTEGER REFERENCES jobs (key); PRAGMA user_version = 2",
}


def create(path: str, now: Reading, *, unsafe_filesystem: bool = False) -> bool:
    """Make the store if there is none; return whether this call made it.

    What lies at the path is left as it is, and not looked into: opening it does that. What a killed predecessor left
    half-made beside it is removed.

    Raises:
        UnusableStoreError: The place cannot hold a store.
        StoreUnavailableError: It could not be made now.
    """
    engine.check()
    if os.path.lexists(path) and not files.drafts(path):
        return False
    directory = os.path.dirname(path) or "."
    files.make_directory(directory)
    files.check_filesystem(path, unsafe_allowed=unsafe_filesystem)
    try:
        if os.path.basename(directory) == ".overseer":
            _ignore(directory)
        with _install_lock(path):
            for leftover, _pid in files.drafts(path):  # nobody else makes one while we hold the lock
                os.unlink(leftover)
            if os.path.lexists(path):
                return False
            _build(path, now)
            return True
    except OSError as error:
        raise StoreUnavailableError(path, f"it cannot be made: {error.strerror or error}") from error


@contextmanager
def _install_lock(path: str) -> Iterator[None]:
    from filelock import FileLock, Timeout  # 38 ms to import, and only whoever makes a store needs it

    files.make_state_directory(path)
    lock = FileLock(
        os.path.join(files.state_directory(path), "install.lock"),
        timeout=_INSTALL_TIMEOUT_S,
        mode=0o600,
        fallback_to_soft=False,  # a soft lock outlives its holder
    )
    try:
        lock.acquire()
    except Timeout:
        raise StoreUnavailableError(path, "another process has been making or migrating it for a minute") from None
    try:
        yield
    finally:
        lock.release()


def _ignore(directory: str) -> None:
    with suppress(FileExistsError):
        note = os.path.join(directory, ".gitignore")
        descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write("*\n")


def _build(path: str, now: Reading) -> None:
    draft = files.draft_of(path)
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        _write_schema(draft, now)
        _put_aside(path)
        os.link(draft, path)  # fails if somebody else's file has appeared there
    except engine.FullError as error:
        raise StoreFullError(path) from error
    except engine.Error as error:
        raise UnusableStoreError(
            path, f"it cannot be made: {error}", "Free some space, or name another place"
        ) from error
    finally:
        for leftover in (draft, draft + "-wal", draft + "-shm", draft + "-journal"):
            with suppress(FileNotFoundError):
                os.unlink(leftover)
    files.sync_directory(os.path.dirname(path))
    failpoints.hit("install.after_commit")


def _put_aside(path: str) -> None:
    """Take away the log of a file that is gone: the engine would play it back into the new one, and so damage it.

    The log is kept under another name: whoever moved the file away without it may want what was committed last.
    """
    for companion in (path + "-wal", path + "-journal"):
        if os.path.lexists(companion):
            aside = _free_name(companion + ".orphaned")
            os.rename(companion, aside)
            log.warning("A log without its store was put aside: %s", aside)
    with suppress(FileNotFoundError):
        os.unlink(path + "-shm")


def _write_schema(draft: str, now: Reading) -> None:
    connection = engine.Connection(draft, engine.OPEN_READWRITE)
    try:
        connection.execute(SYNCHRONOUS_FULL)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(files.shipped("schema.sql"))
        for mark in _MARKS:
            connection.execute(mark)
        for name, value in (("uuid", uuid.uuid4().hex), ("created_wall_us", now.wall_us)):
            connection.execute(SQL["set_meta"], (name, value))
        connection.execute(SQL["set_boot"], (now.boot_id,))
        failpoints.hit("install.before_commit")
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = wal").fetchall()
    finally:
        connection.close()  # the last one: its log is moved into the file, which then stands alone


# ---- migrating


def migrate(
    path: str,
    *,
    unsafe_filesystem: bool = False,
    migrations: Mapping[int, str] = MIGRATIONS,
    version: int = SCHEMA_VERSION,
) -> str | None:
    """Bring an older store to this version, in one transaction; a copy of it as it was is left beside it.

    Args:
        migrations: How to get from each version to the next.
        version: Where to get to.

    Returns:
        The path of the copy; None if there was nothing to do.

    Raises:
        UnusableStoreError: It is no store, or of a version from which no way leads here; nothing was written.
        StoreUnavailableError: Workers of the older version are at work, or it cannot be done now; nothing was changed.
    """
    files.check_file(path)  # what is no file must not be read: a pipe would not be done with
    found = _version_of(path)
    if found is None or found >= version:
        return None  # as always; what is no store at all is said by its opening
    _steps(path, found, version, migrations)  # before anything is written beside it
    with _install_lock(path), Database(path, unsafe_filesystem=unsafe_filesystem, older=True) as db:
        found = db.version()
        if found >= version:
            return None
        steps = _steps(path, found, version, migrations)
        _check_nobody_works(path, found)
        from overseer_lite.sqlite.backup import copy

        kept = _free_name(f"{path}.version-{found}")
        copy(db, kept, lambda _copied: None)
        with db.write("install"):
            for step in steps:
                db.open().execute(step)
        db.checkpoint(truncate=True)  # the header tells the version to whoever looks before opening
        return kept


def _version_of(path: str) -> int | None:
    """Return the version of a store's schema by the file's header, None for what is no store; nothing is written."""
    try:
        header = engine.read_header(path)
    except engine.Error:
        return None
    if len(header) < 100 or int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        return None
    return int.from_bytes(header[60:64], "big")


def _steps(path: str, found: int, version: int, migrations: Mapping[int, str]) -> list[str]:
    steps = [migrations.get(step, "") for step in range(found, version)]
    if not all(steps):
        raise UnusableStoreError(
            path, f"no way leads from its schema, version {found}, to version {version}", "Restore a backup"
        )
    return steps


def _free_name(path: str) -> str:
    """Return the path, or where something stands there the next that is free: a copy is never overwritten."""
    names = itertools.chain([path], (f"{path}-{number}" for number in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(name))


def _check_nobody_works(path: str, version: int) -> None:
    """Raise if a worker's lock is held: it runs code of the older version, which knows nothing of the newer tables."""
    from overseer_lite.liveness.workerfile import WorkerFileError, take

    directory = os.path.join(files.state_directory(path), "workers")
    for worker in sorted(os.listdir(directory)):
        try:
            lock = take(os.path.join(directory, worker))
        except (FileNotFoundError, WorkerFileError):
            continue  # it has just left, or is no worker's file
        if lock is None:
            raise StoreUnavailableError(
                path,
                f"worker {worker} is at work with its schema of version {version}",
                "Stop all workers, then start again: the store is migrated then",
            )
        lock.release()
