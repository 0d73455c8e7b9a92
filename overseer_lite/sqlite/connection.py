"""One connection to a store's file: opened with care, written behind the gate, dropped after an error.

A transaction is a `with` block: `with db.write("exchange"):` takes the gate, begins IMMEDIATE, commits or rolls back,
and lets go; `with db.read():` is a snapshot. Nobody else says BEGIN. After a failed commit the truth is what the file
says, so the connection is dropped and the next use opens another.
"""

from __future__ import annotations

import errno
import os
import time
from importlib.resources import files as package_files
from typing import TYPE_CHECKING, Any, Final

from overseer_lite import failpoints
from overseer_lite.errors import (
    OverseerError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreReplacedError,
    StoreUnavailableError,
    UnusableStoreError,
)
from overseer_lite.sqlite import engine, files
from overseer_lite.sqlite.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

APPLICATION_ID: Final = 0x4F564C54  # "OVLT"
SCHEMA_VERSION: Final = 1
BUSY_MS: Final = 250
WAL_LIMIT_BYTES: Final = 32 * 1024 * 1024

Row = tuple[Any, ...]


def _load_queries() -> dict[str, str]:
    """Read queries.sql: `-- name: what it does`, then the statement, then a blank line."""
    statements: dict[str, str] = {}
    text = package_files("overseer_lite.sqlite").joinpath("queries.sql").read_text(encoding="utf-8")
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        while lines and lines[0].startswith("-- ") and ": " not in lines[0]:
            lines.pop(0)
        if lines and lines[0].startswith("-- "):
            name = lines[0][3:].partition(": ")[0]
            statements[name] = "\n".join(line for line in lines[1:] if not line.startswith("--")).rstrip(";")
    return statements


SQL: Final = _load_queries()


class Database:
    """A store's file as one process sees it. Not for two threads at once; not across a fork."""

    def __init__(
        self, path: str, *, durability: str = "full", timeout_s: float = 60.0, unsafe_filesystem: bool = False
    ) -> None:
        self.path = path
        self.state = files.state_directory(path)
        self.timeout_s = timeout_s
        self.generation = 0  # counts openings: whoever caches what the file says compares it
        self._synchronous = "FULL" if durability == "full" else "NORMAL"
        self._unsafe_filesystem = unsafe_filesystem
        self._connection: engine.Connection | None = None
        self._gate: Gate | None = None
        self._pid = os.getpid()
        self._file: files.FileIdentity | None = None
        self._wal: files.FileIdentity | None = None

    # ---- opening and closing

    @property
    def gate(self) -> Gate:
        """The writer gate; opens the store if need be."""
        self.open()
        assert self._gate is not None
        return self._gate

    @property
    def identity(self) -> files.FileIdentity:
        """Which file this is; opens the store if need be."""
        self.open()
        assert self._file is not None
        return self._file

    def open(self) -> engine.Connection:
        """Return the connection, opened and checked if it is not."""
        if self._connection is None:
            self._connection = self._connect()
            self.generation += 1
        elif self._pid != os.getpid():
            raise StoreError(
                f"The store {self.path} was opened in process {self._pid} and is used in its fork {os.getpid()}. "
                "Open it again there; a connection carried over a fork corrupts the file."
            )
        return self._connection

    def _connect(self) -> engine.Connection:
        engine.check()
        files.check_file(self.path)
        files.check_filesystem(self.path, unsafe_allowed=self._unsafe_filesystem)
        files.make_state_directory(self.path)
        self._pid = os.getpid()
        self._file = files.FileIdentity.of(self.path)
        if self._gate is None:
            self._gate = Gate(os.path.join(self.state, "gate"))
        try:
            connection = engine.Connection(self.path, engine.OPEN_READWRITE)
            connection.set_busy_timeout(BUSY_MS)
            connection.config(engine.NO_CHECKPOINT_ON_CLOSE, 1)
            self._check_content(connection)
            for pragma in (
                f"synchronous = {self._synchronous}",
                "trusted_schema = OFF",
                f"journal_size_limit = {WAL_LIMIT_BYTES}",
                "wal_autocheckpoint = 1000",
                "temp_store = MEMORY",
                "mmap_size = 0",
            ):
                connection.execute(f"PRAGMA {pragma}")
        except engine.Error as error:
            raise self._translate(error) from error
        self._wal = None
        return connection

    def _check_content(self, connection: engine.Connection) -> None:
        application = _scalar(connection, "PRAGMA application_id")
        if application != APPLICATION_ID:
            raise UnusableStoreError(self.path, "it is a SQLite database of something else", "Name another store")
        version = _scalar(connection, "PRAGMA user_version")
        if version > SCHEMA_VERSION:
            raise UnusableStoreError(
                self.path,
                f"its schema is version {version}, this overseer_lite knows {SCHEMA_VERSION}",
                "Upgrade overseer_lite, or use another store",
            )
        if _scalar(connection, "PRAGMA journal_mode") != "wal":
            _scalar(connection, "PRAGMA journal_mode = wal")

    def drop(self) -> None:
        """Close the connection; the next use opens another. The gate stays open."""
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            try:
                connection.close()
            except engine.Error:
                # A connection that met an I/O error may fail to close as well; it is of no use either way, and the
                # error that led here is being raised.
                return

    def close(self) -> None:
        """Let go of the file and the gate."""
        self.drop()
        if self._gate is not None and self._pid == os.getpid():
            self._gate.close()
            self._gate = None

    def check_in_place(self) -> None:
        """Make sure that the path still names the file that is open, and its log.

        Raises:
            StoreReplacedError: It does not; what would be written would go nowhere.
        """
        now = files.FileIdentity.of(self.path)
        if now != self._file:
            raise StoreReplacedError(self.path, "was removed" if now is None else "was replaced by another file")
        if self._wal is not None and files.FileIdentity.of(self.path + "-wal") != self._wal:
            raise StoreReplacedError(self.path, "lost its -wal file")

    # ---- transactions

    def write(self, point: str, *, synced: bool = True) -> _Write:
        """Return a write transaction; `point` names its failpoints. Unsynced ones may vanish in a power loss."""
        return _Write(self, point, synced)

    def read(self) -> _Read:
        """Return a read transaction: one snapshot for all that is asked in it."""
        return _Read(self)

    def all(self, name: str, arguments: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        """Run a named statement; return all its rows. Never half of them: a half-read cursor is a long reader."""
        assert self._connection is not None
        return self._connection.execute(SQL[name], arguments).fetchall()

    def one(self, name: str, arguments: Sequence[Any] | dict[str, Any] = ()) -> Row | None:
        """Run a named statement; return its first row, None if it has none."""
        rows = self.all(name, arguments)
        return rows[0] if rows else None

    def run(self, name: str, arguments: Sequence[Any] | dict[str, Any] = ()) -> int:
        """Run a named statement for its effect; return how many rows it changed."""
        assert self._connection is not None
        self._connection.execute(SQL[name], arguments)
        return self._connection.changes()

    def many(self, name: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a named statement once for each row; the rows are streamed."""
        assert self._connection is not None
        self._connection.executemany(SQL[name], rows)

    def checkpoint(self, *, truncate: bool = False) -> tuple[int, int]:
        """Move the log into the file, under the gate; return its frames and how many of them were moved.

        Raises:
            StoreUnavailableError: It could not be done now.
        """
        connection = self.open()
        self.gate.acquire(self.timeout_s)
        try:
            failpoints.hit("checkpoint.before")
            mode = engine.CHECKPOINT_TRUNCATE if truncate else engine.CHECKPOINT_PASSIVE
            done = connection.wal_checkpoint(mode=mode)
            failpoints.hit("checkpoint.after")
        except engine.Error as error:
            raise self._failed(error) from error
        finally:
            self.gate.release()
        return done

    # ---- errors

    def _failed(self, error: engine.Error) -> StoreError:
        translated = self._translate(error)
        if not isinstance(translated, StoreBusyError):
            self.drop()
        return translated

    def _translate(self, error: engine.Error) -> StoreError:
        """Return what an engine's error means for us."""
        if isinstance(error, engine.BusyError | engine.LockedError):
            return StoreBusyError(self.path, BUSY_MS / 1000, "a process outside the gate")
        if isinstance(error, engine.FullError):
            return StoreFullError(self.path)
        if isinstance(error, engine.NotADBError):
            return UnusableStoreError(self.path, "it is not a SQLite database", "Name another store")
        if isinstance(error, engine.CorruptError):
            return UnusableStoreError(
                self.path, f"the file is damaged ({error})", "Restore a backup; see `overseer-lite doctor`"
            )
        if isinstance(error, engine.ReadOnlyError):
            return UnusableStoreError(self.path, "it is read-only", "Make the file and its directory writable")
        if isinstance(error, engine.EngineIOError | engine.CantOpenError):
            code = self._connection.system_errno if self._connection is not None else 0
            if code == errno.ENOSPC or self._out_of_space():
                return StoreFullError(self.path)
            return StoreUnavailableError(self.path, f"{error}" + (f" ({os.strerror(code)})" if code else ""))
        return UnusableStoreError(self.path, f"{error}", "See `overseer-lite doctor`")

    def _out_of_space(self) -> bool:
        try:
            return files.free_bytes(self.path) < 1 << 16
        except OSError:
            return False


class _Write:
    """A write transaction. Entered: the gate is held and the transaction begun. Left: committed, or rolled back."""

    __slots__ = ("_db", "_point", "_synced")

    def __init__(self, db: Database, point: str, synced: bool) -> None:
        self._db, self._point, self._synced = db, point, synced

    def __enter__(self) -> Database:
        db = self._db
        connection = db.open()
        db.check_in_place()
        gate = db.gate
        deadline = time.monotonic() + db.timeout_s
        gate.acquire(db.timeout_s)
        try:
            if not self._synced:
                connection.execute("PRAGMA synchronous = NORMAL")
            while True:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                except engine.BusyError:  # someone who does not know the gate: a backup, a person with a shell
                    if time.monotonic() > deadline:
                        raise
                else:
                    break
        except BaseException as error:
            gate.release()
            if isinstance(error, engine.Error):
                raise db._failed(error) from error
            raise
        return db

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        db = self._db
        connection = db._connection
        assert connection is not None
        try:
            if error is None:
                failpoints.hit(f"{self._point}.before_commit")
                connection.execute("COMMIT")
                if db._wal is None:
                    db._wal = files.FileIdentity.of(db.path + "-wal")
            elif connection.in_transaction:
                connection.execute("ROLLBACK")
            if not self._synced:
                connection.execute(f"PRAGMA synchronous = {db._synchronous}")
        except engine.Error as failure:
            raise db._failed(failure) from failure
        except BaseException:
            db.drop()
            raise
        finally:
            db.gate.release()
        if error is None:
            failpoints.hit(f"{self._point}.after_commit")
        elif isinstance(error, engine.Error) and not isinstance(error, engine.ConstraintError):
            raise db._failed(error) from error


class _Read:
    """A read transaction: one snapshot, no gate."""

    __slots__ = ("_db",)

    def __init__(self, db: Database) -> None:
        self._db = db

    def __enter__(self) -> Database:
        connection = self._db.open()
        try:
            connection.execute("BEGIN")
        except engine.Error as error:
            raise self._db._failed(error) from error
        return self._db

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._db._connection
        if connection is not None and connection.in_transaction:
            try:
                connection.execute("COMMIT")
            except engine.Error as failure:
                raise self._db._failed(failure) from failure
        if isinstance(error, engine.Error):
            raise self._db._failed(error) from error


def _scalar(connection: engine.Connection, statement: str) -> Any:
    row = connection.execute(statement).fetchone()
    return row[0] if row else None


__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "SQL", "Database", "OverseerError", "Row"]
