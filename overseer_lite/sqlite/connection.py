"""One connection to a store's file: opened with care, written behind the gate, dropped after an error.

A transaction is a `with` block: `with db.write("exchange"):` takes the gate, begins IMMEDIATE, commits or rolls back,
and lets go; `with db.read():` is a snapshot. Nobody else says BEGIN. After a failed commit the truth is what the file
says, so the connection is dropped and the next use opens another.
"""

from __future__ import annotations

import errno
import json
import os
import time
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, Final, Self

from overseer_lite import failpoints
from overseer_lite.errors import (
    InvalidInputError,
    OverseerError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreMissingError,
    StoreReplacedError,
    StoreUnavailableError,
    UnusableStoreError,
    shown,
)
from overseer_lite.sqlite import engine, files
from overseer_lite.sqlite.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

APPLICATION_ID: Final = 0x4F564C54  # "OVLT"
SCHEMA_VERSION: Final = 2
BUSY_MS: Final = 250
# The engine's cache of statements is a ring in which each run of one, also for each row of `many`, moves on by a place: in
# one smaller than the runs of an exchange (48 results kept, 48 rows of history), each would meet its statements thrown out.
STATEMENTS_KEPT: Final = 256
FLOOR_BYTES: Final = 8 * 1024 * 1024  # twice the log at which a checkpoint begins
# Of the log's pages, from which a commit moves them into the file, which takes 15 ms and more: behind the gate.
CHECKPOINT_PAGES: Final = 1000
CHECKPOINT_PAGES_AT_LATEST: Final = 1024
LARGE_LOG_BYTES: Final = 48 * 1024 * 1024  # of the 64 MiB that it may have
_LARGE_LOG_PAUSE_S: Final = 0.01
_AT_ONCE: Final = 4  # from so many values on, one run for all takes less than a run for each
_READ_TIMEOUT_S: Final = 5.0
_MAGIC: Final = b"SQLite format 3\0"
_RESTORE: Final = "Restore a backup; see `overseer-lite doctor`"

SYNCHRONOUS_FULL: Final = "PRAGMA synchronous = FULL"
SYNCHRONOUS_NORMAL: Final = "PRAGMA synchronous = NORMAL"
#: What every connection is told, beside how it syncs.
_SETTINGS: Final = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA journal_size_limit = 33554432",  # the log is cut to 32 MiB when it begins anew
    "PRAGMA temp_store = MEMORY",
    "PRAGMA mmap_size = 0",  # the WAL-reset race aside, a mapped file turns an I/O error into SIGBUS
)
#: What reading a damaged file may raise, beside the engine's own errors.
_NONSENSE: Final = (ValueError, TypeError, LookupError, AssertionError, RecursionError, OverflowError)

#: Connections of a parent process, found in its fork: closed by neither, since closing would touch the parent's locks.
_carried_over: list[engine.Connection] = []

Row = tuple[Any, ...]


def _load_queries() -> dict[str, str]:
    """Read queries.sql: `-- name: what it does`, then the statement, then a blank line."""
    statements: dict[str, str] = {}
    text = files.shipped("queries.sql")
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
    """A store's file as one process sees it. Not for two threads at once; not across a fork.

    Args:
        path: The file, links followed.
        durability: `full` or `normal`.
        timeout_s: How long a write may wait for the gate.
        older: Open a file of an older schema too: for its migration, and nothing else.

    Attributes:
        generation: Grows whenever what was learnt from the file may no longer be so: at each opening, and after each
            transaction that was not committed. Whoever caches what the file says compares it.
    """

    def __init__(
        self,
        path: str,
        *,
        durability: str = "full",
        timeout_s: float = 60.0,
        unsafe_filesystem: bool = False,
        older: bool = False,
    ) -> None:
        self.path = path
        self.state = files.state_directory(path)
        self.timeout_s = timeout_s
        self.durability = durability
        self.on_commit: Callable[[], None] | None = None  # called behind the gate: in the order of the commits
        self.generation = 0
        self._synchronous = SYNCHRONOUS_FULL if durability == "full" else SYNCHRONOUS_NORMAL
        self._unsafe_filesystem = unsafe_filesystem
        self._oldest = 0 if older else SCHEMA_VERSION
        self._connection: engine.Connection | None = None
        self._gate: Gate | None = None
        self._pid = os.getpid()
        self._log_bytes = 0
        self._checkpoint_put_off = False
        self._first: files.FileIdentity | None = None
        self._places: dict[str, files.FileIdentity] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
        return self._places[self.path]

    def open(self) -> engine.Connection:
        """Return the connection, opened and checked if it is not.

        Raises:
            StoreMissingError: There is no store.
            UnusableStoreError: There is something else, or something damaged; nothing was written.
            StoreUnavailableError: It cannot be opened now.
            StoreError: It was opened in another process, of which this one is a fork.
        """
        if self._connection is None:
            return self._open_patiently()
        if self._pid != os.getpid():
            raise StoreError(
                f"The store {self.path} was opened in process {self._pid} and is used in its fork {os.getpid()}. "
                "Open it again there; a connection carried over a fork corrupts the file."
            )
        return self._connection

    def _open_patiently(self) -> engine.Connection:
        deadline = time.monotonic() + min(self.timeout_s, _READ_TIMEOUT_S)
        while True:
            try:
                connection = self._connect()
            except StoreBusyError:  # somebody outside the gate, or the log is being recovered after a power loss
                if time.monotonic() > deadline:
                    raise
            else:
                self.generation += 1
                return connection

    def _connect(self) -> engine.Connection:
        engine.check()
        try:
            files.check_file(self.path)
        except StoreMissingError:
            if self._first is not None:
                raise self._replaced(self.path) from None
            raise
        files.check_filesystem(self.path, unsafe_allowed=self._unsafe_filesystem)
        try:
            self._check_header()
            files.make_state_directory(self.path)  # only now: beside a stranger's file nothing is made
            self._open_gate()
            self._places = {self.path: self._identity_of(self.path)}
            self._check_same_file()
            connection = self._connection = engine.Connection(
                self.path, engine.OPEN_READWRITE | engine.OPEN_NOFOLLOW, statementcachesize=STATEMENTS_KEPT
            )
        except engine.Error as error:
            raise self._translate(error) from error
        try:
            self._prepare(connection)
        except engine.Error as error:
            raise self._failed(error) from error
        except BaseException:
            self.drop()
            raise
        return connection

    def _check_same_file(self) -> None:
        """An opening after an error must find the file of the first one; `close` forgets which that was."""
        if self._first is None:
            self._first = self._places[self.path]
        elif self._first != self._places[self.path]:
            raise self._replaced(self.path, "was replaced by another file")

    def _check_header(self) -> None:
        """Refuse what is no store of ours, before the engine opens it: it would make a log beside it, or play one back."""
        header = engine.read_header(self.path)
        if len(header) < 100 or not header.startswith(_MAGIC):
            raise UnusableStoreError(self.path, "it is not a SQLite database", "Name another store")
        if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
            raise UnusableStoreError(self.path, "it is a SQLite database of something else", "Name another store")
        self._check_version(int.from_bytes(header[60:64], "big"), oldest=min(1, self._oldest))

    def _check_version(self, version: int, *, oldest: int) -> None:
        if version > SCHEMA_VERSION:
            raise UnusableStoreError(
                self.path,
                f"its schema is version {version}, this overseer_lite knows {SCHEMA_VERSION}",
                "Upgrade overseer_lite, or use another store",
            )
        if version < oldest:
            raise UnusableStoreError(
                self.path,
                f"its schema is version {version}, this overseer_lite needs {SCHEMA_VERSION}",
                "`overseer-lite worker`, `run` or `submit` migrates it, after a backup" if version > 0 else _RESTORE,
            )

    def _open_gate(self) -> None:
        if self._gate is not None and self._pid != os.getpid():
            self._gate.close()  # a fork's copy of the descriptor: parent and fork would hold the lock at the same time
            self._gate = None
        if self._gate is None:
            self._gate = Gate(os.path.join(self.state, "gate"), self.path)
        self._pid = os.getpid()

    def _prepare(self, connection: engine.Connection) -> None:
        connection.set_busy_timeout(BUSY_MS)
        connection.config(engine.NO_CHECKPOINT_ON_CLOSE, 1)
        # Else a bound value that might decide for a partial index has its statement prepared anew: 10 us each time.
        connection.config(engine.STABLE_PLANS, 1)
        self._check_version(
            _scalar(connection, "PRAGMA user_version"), oldest=self._oldest
        )  # the log may have a newer one
        if _scalar(connection, "PRAGMA journal_mode") != "wal":
            self._put_back_wal(connection)
        for statement in (self._synchronous, *_SETTINGS):
            connection.execute(statement)
        connection.wal_autocheckpoint(CHECKPOINT_PAGES)
        for companion in (self.path + "-wal", self.path + "-shm"):
            self._places[companion] = self._identity_of(companion)
        assert self._gate is not None
        self._places[self._gate.path] = self._gate.identity
        self.check_in_place()

    def _put_back_wal(self, connection: engine.Connection) -> None:
        """Somebody has switched the file to another journal mode, in which readers and writers stop each other."""
        assert self._gate is not None
        self._gate.acquire(self.timeout_s)
        try:
            mode = _scalar(connection, "PRAGMA journal_mode = wal")
        finally:
            self._gate.release()
        if mode != "wal":
            raise StoreUnavailableError(self.path, f"its journal mode is {mode!r} and cannot be put back to 'wal' now")
        _scalar(connection, "PRAGMA user_version")  # a read: it makes the log and its index

    def _identity_of(self, path: str) -> files.FileIdentity:
        found = files.FileIdentity.of(path)
        if found is None:
            raise self._replaced(path)
        return found

    def drop(self) -> None:
        """Close the connection; the next use opens another. The gate stays open."""
        connection, self._connection = self._connection, None
        self.generation += 1
        if connection is None:
            return
        if self._pid != os.getpid():
            _carried_over.append(connection)
            return
        try:
            connection.close()
        except engine.Error:
            # A connection that met an I/O error may fail to close as well; it is of no use either way, and the
            # error that led here is being raised.
            return

    def close(self) -> None:
        """Let go of the file and the gate."""
        self.drop()
        self._first = None
        if self._gate is not None and self._pid == os.getpid():
            self._gate.close()
            self._gate = None

    def check_in_place(self) -> None:
        """Make sure that the path still names the file that is open, and its companions those that are.

        Raises:
            StoreReplacedError: They do not; what would be written would go nowhere.
            StoreUnavailableError: It cannot be told now.
        """
        self._check(self._places)

    def _check_file_and_log(self) -> None:
        """Look at the two files a write goes to, before each one: 2 us a file; the others at each sweep."""
        self._log_bytes = self._check((self.path, self.path + "-wal"))

    def _spare_the_log(self) -> None:
        """Wait a moment, outside the gate, where a reader keeps the log from beginning anew and it has grown large.

        20,000 commits within one second of a listing made 78 MiB of it; slowed down, they add little more.
        """
        if self._log_bytes > LARGE_LOG_BYTES:
            time.sleep(_LARGE_LOG_PAUSE_S)

    def _check(self, paths: Iterable[str]) -> int:
        path, size = self.path, 0
        try:
            for path in paths:
                found = os.stat(path)
                device, inode = self._places[path]
                if found.st_ino != inode or found.st_dev != device:
                    raise self._replaced(path, "was replaced by another file")
                size = found.st_size
        except (FileNotFoundError, NotADirectoryError):
            raise self._replaced(path) from None
        except OSError as error:
            raise StoreUnavailableError(self.path, error.strerror or str(error)) from error
        return size

    def _replaced(self, path: str, how: str = "was removed") -> StoreReplacedError:
        if path == self.path:
            return StoreReplacedError(self.path, how)
        return StoreReplacedError(self.path, f"lost its companion {path}")

    def version(self) -> int:
        """Return the version of the file's schema."""
        return int(_scalar(self.open(), "PRAGMA user_version"))

    def has_room(self) -> bool:
        """Whether there is space enough to begin something new: the log's, and a checkpoint's."""
        try:
            return files.free_bytes(self.path) >= FLOOR_BYTES
        except OSError:
            return True  # whether there is a disk at all is said by the next write

    def wal_bytes(self) -> int:
        """Return how large the log is."""
        try:
            return os.stat(self.path + "-wal").st_size
        except FileNotFoundError:
            return 0

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

    def _release(self) -> None:
        if self._gate is not None:
            self._gate.release()

    def many(self, name: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a named statement once for each row; the rows are streamed."""
        assert self._connection is not None
        self._connection.executemany(SQL[name], rows)

    def many_rows(self, name: str, rows: Iterable[Sequence[Any]]) -> list[Row]:
        """Run a named statement once for each row of bindings; return all rows it gave."""
        assert self._connection is not None
        return self._connection.executemany(SQL[name], rows).fetchall()

    def each(self, name: str, values: Sequence[Any], rest: tuple[Any, ...]) -> list[Row]:
        """Run a statement about one row for each value of its ?1; return all rows it gave, in any order.

        From a few values on there is one run for all: the statement `<name>_each`, whose ?1 is a JSON list. For 32 it takes half
        as long as 32 runs, for one twice as long.
        """
        if len(values) < _AT_ONCE:
            return self.many_rows(name, [(value, *rest) for value in values])
        return self.all(name + "_each", (json.dumps(values), *rest))

    def put_off_checkpoint(self) -> None:
        """Leave the log to a later commit than the transaction's at hand, unless it has grown further: somebody waits."""
        self.open().wal_autocheckpoint(CHECKPOINT_PAGES_AT_LATEST)
        self._checkpoint_put_off = True

    def checkpoint(self, *, truncate: bool = False) -> bool:
        """Move the log into the file, under the gate, and cut the log to nothing if asked to.

        Returns:
            False if a reader holds some of it back; what could be moved was, and trying again later is right.

        Raises:
            StoreUnavailableError: It could not be done now.
        """
        connection = self.open()
        gate = self.gate
        gate.acquire(self.timeout_s)
        try:
            self.check_in_place()
            failpoints.hit("checkpoint.before")
            mode = engine.CHECKPOINT_TRUNCATE if truncate else engine.CHECKPOINT_PASSIVE
            frames, moved = connection.wal_checkpoint(mode=mode)
            failpoints.hit("checkpoint.after")
        except engine.BusyError:
            return False
        except engine.Error as error:
            raise self._failed(error) from error
        finally:
            gate.release()
        return frames == moved

    # ---- errors

    def _failed(self, error: engine.Error) -> StoreError:
        """Return what an engine's error means for us; the connection is dropped, with whatever it had begun."""
        translated = self._translate(error)
        self.drop()
        return translated

    def _translate(self, error: engine.Error) -> StoreError:
        if isinstance(error, engine.BusyError | engine.LockedError):
            return StoreBusyError(self.path, BUSY_MS / 1000, "a process outside the gate")
        if isinstance(error, engine.FullError):
            return StoreFullError(self.path)
        if isinstance(error, engine.NotADBError):
            return UnusableStoreError(self.path, "it is not a SQLite database", "Name another store")
        if isinstance(error, engine.CorruptError):
            return self._damaged(error)
        if isinstance(error, engine.ReadOnlyError):
            return UnusableStoreError(self.path, "it is read-only", "Make the file and its directory writable")
        if isinstance(error, engine.EngineIOError | engine.CantOpenError):
            code = self._connection.system_errno if self._connection is not None else 0
            if code in (errno.ENOSPC, errno.EDQUOT) or self._out_of_space():
                return StoreFullError(self.path)
            return StoreUnavailableError(self.path, f"{error}" + (f" ({os.strerror(code)})" if code else ""))
        if isinstance(error, engine.ConstraintError):
            return UnusableStoreError(
                self.path, f"a rule of its tables would be broken ({error})", "See `overseer-lite doctor --full`"
            )
        return UnusableStoreError(self.path, f"{error}", "See `overseer-lite doctor`")

    def _damaged(self, error: BaseException | str) -> UnusableStoreError:
        return UnusableStoreError(self.path, f"the file is damaged ({error})", _RESTORE)

    def _unreadable(self, error: BaseException) -> OverseerError | None:
        """Return the error for what a damaged file made the code that reads it raise; None: the file is not to blame.

        Text that is not UTF-8 or no JSON was never written by us; for the rest the engine is asked.
        """
        if isinstance(error, engine.Error):
            return self._failed(error)
        if isinstance(error, UnicodeEncodeError):
            return InvalidInputError(
                f"{shown(error.object)} has a lone surrogate: no id or name can be that. Correct it."
            )
        if not isinstance(error, _NONSENSE):
            return None
        if isinstance(error, UnicodeDecodeError | JSONDecodeError):
            return self._damaged(error)
        try:
            found = _scalar(self.open(), "PRAGMA quick_check(1)")
        except engine.Error as failure:
            return self._failed(failure)
        return None if found == "ok" else self._damaged(str(found))

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
        gate = db.gate
        begun = time.monotonic()
        try:
            db._spare_the_log()
            gate.acquire(db.timeout_s)
            db._check_file_and_log()  # behind the gate: it may have taken a while to get here
            if not self._synced:
                connection.execute(SYNCHRONOUS_NORMAL)
            self._begin(connection, begun)
        except BaseException as error:
            meant = db._failed(error) if isinstance(error, engine.Error) else None
            db.drop()  # it may have been told not to sync
            gate.release()
            if meant is not None:
                raise meant from error
            raise
        return db

    def _begin(self, connection: engine.Connection, begun: float) -> None:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except engine.BusyError:  # someone who does not know the gate: a person with a shell
                waited_s = time.monotonic() - begun
                if waited_s > self._db.timeout_s:
                    raise StoreBusyError(self._db.path, waited_s, "a process outside the gate") from None
            else:
                return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        db = self._db
        try:
            connection = db._connection
            assert connection is not None
            if error is None:
                failpoints.hit(f"{self._point}.before_commit")
                connection.execute("COMMIT")
                if db.on_commit is not None:
                    db.on_commit()
            else:
                db.generation += 1
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            if not self._synced:
                connection.execute(db._synchronous)
            if db._checkpoint_put_off:
                connection.wal_autocheckpoint(CHECKPOINT_PAGES)
                db._checkpoint_put_off = False
        except engine.Error as failure:
            raise db._failed(failure) from failure
        except BaseException:
            db.drop()
            raise
        finally:
            db._release()
        if error is None:
            failpoints.hit(f"{self._point}.after_commit")
        elif (meant := db._unreadable(error)) is not None:
            raise meant from error


class _Read:
    """A read transaction: one snapshot, no gate."""

    __slots__ = ("_db",)

    def __init__(self, db: Database) -> None:
        self._db = db

    def __enter__(self) -> Database:
        db = self._db
        deadline = time.monotonic() + min(db.timeout_s, _READ_TIMEOUT_S)
        while True:
            connection = db.open()
            try:
                connection.execute("PRAGMA query_only = ON")  # who reads first and then writes cannot be made to wait
                connection.execute("BEGIN")
                connection.execute(SQL["snapshot"]).fetchall()  # BEGIN alone takes none
            except engine.BusyError as error:  # the log is being recovered after a power loss, say
                translated = db._failed(error)
                if time.monotonic() > deadline:
                    raise translated from error
            except engine.Error as error:
                raise db._failed(error) from error
            except BaseException:
                db.drop()
                raise
            else:
                return db

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._db._connection
        if connection is not None:
            try:
                if connection.in_transaction:
                    connection.execute("COMMIT")
                connection.execute("PRAGMA query_only = OFF")
            except engine.Error as failure:
                raise self._db._failed(failure) from failure
        if error is not None and (meant := self._db._unreadable(error)) is not None:
            raise meant from error


def _scalar(connection: engine.Connection, statement: str) -> Any:
    row = connection.execute(statement).fetchone()
    return row[0] if row else None


__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "SQL", "Database", "OverseerError", "Row"]
