"""Examining a store and all that lies and runs around it: what `doctor` says. Nothing is mended, nobody is stopped."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from overseer_lite.errors import (
    StoreError,
    StoreMissingError,
    StoreUnavailableError,
    UnfixedEngineError,
    UnusableStoreError,
)
from overseer_lite.liveness import tree as trees
from overseer_lite.liveness.identity import Identity, Life, look, program_of, read_stat
from overseer_lite.liveness.workerfile import Snapshot, WorkerFile, WorkerFileError, take
from overseer_lite.liveness.writers import has_writer
from overseer_lite.sqlite import engine, files
from overseer_lite.sqlite.connection import FLOOR_BYTES, Database
from overseer_lite.sqlite.look import Reader
from overseer_lite.sqlite.readers import readers_of
from overseer_lite.store import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from overseer_lite.clock import Clock
    from overseer_lite.store import WorkerRecord

OK: Final = "ok"
WARNING: Final = "warning"
ERROR: Final = "error"

_WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
_SPACE_BYTES: Final = 256 * 1024 * 1024
_MIB: Final = 1024 * 1024
_DAMAGED_ROW: Final = "Nobody recovers its jobs by that row: `overseer-lite doctor --full`, then restore a backup"


class Subject(NamedTuple):
    """What is examined, and by which settings."""

    db: Database
    clock: Clock
    durability: str
    silent_for_s: float
    unsafe_filesystem: bool
    full: bool

    @property
    def path(self) -> str:
        """The store's file."""
        return self.db.path

    @property
    def state(self) -> str:
        """The directory of its companions."""
        return self.db.state


def examine(
    path: str,
    clock: Clock,
    *,
    full: bool = False,
    durability: str = "full",
    silent_for_s: float = 50.0,
    unsafe_filesystem: bool = False,
) -> list[Finding]:
    """Look at a store, in the order in which trouble explains trouble; a store that cannot be used is a finding, no error.

    Args:
        full: Read every page and every row; takes seconds a GiB, and holds a snapshot meanwhile.
        silent_for_s: Silence after which a worker is suspected.
    """
    path = os.path.realpath(path)
    db = Database(path, durability=durability, timeout_s=1.0, unsafe_filesystem=unsafe_filesystem)
    subject = Subject(db, clock, durability, silent_for_s, unsafe_filesystem, full)
    findings: list[Finding] = []
    with db:
        for look_at in _OUTSIDE:
            findings += _safely(look_at, subject)
        if all(finding.level != ERROR for finding in findings):
            findings += _safely(_schema, subject)
        if all(finding.level != ERROR for finding in findings):
            for look_at in _INSIDE:
                findings += _safely(look_at, subject)
    return findings


def _safely(look_at: Callable[[Subject], Iterator[Finding]], subject: Subject) -> list[Finding]:
    """Return what one look finds; that it could not look is a finding too."""
    name = look_at.__name__.strip("_").replace("_", " ")
    try:
        return list(look_at(subject))
    except (UnusableStoreError, StoreUnavailableError) as error:
        return [Finding(name, ERROR, error.problem, error.remedy)]
    except StoreError as error:
        return [Finding(name, ERROR, str(error), "Do as it says, then look again")]
    except OSError as error:
        return [Finding(name, ERROR, f"cannot be looked at: {error}", "Run it as the store's owner, then look again")]


# ---- before it is opened ---------------------------------------------------------------------------------------------


def _engine(_subject: Subject) -> Iterator[Finding]:
    what = f"SQLite {engine.VERSION} ({engine.NAME})"
    try:
        engine.check()
    except UnfixedEngineError as error:
        yield Finding("engine", ERROR, str(error), "pip install -U 'apsw>=3.53'")
    else:
        yield Finding("engine", OK, f"{what}, free of the WAL-reset race")


def _file(subject: Subject) -> Iterator[Finding]:
    try:
        files.check_file(subject.path)
    except StoreMissingError as error:
        yield Finding(
            "file",
            ERROR,
            f"there is no store at {error.path}",
            "Name it with --db; `submit`, `run` and `worker` make one",
        )
        return
    found = os.stat(subject.path)
    mode = stat.S_IMODE(found.st_mode)
    detail = f"{subject.path}, {found.st_size / _MIB:.1f} MiB, mode {mode:04o}, owner {found.st_uid}"
    if mode & 0o044:
        yield Finding("file", WARNING, f"{detail}: others can read it", f"chmod 600 {subject.path}")
    else:
        yield Finding("file", OK, detail)
    if found.st_nlink > 1:
        yield Finding(
            "names",
            ERROR,
            f"the file has {found.st_nlink} names; opened by two of them it is corrupted",
            f"find -samefile {subject.path} the others, and remove them",
        )


def _state_directory(subject: Subject) -> Iterator[Finding]:
    if os.path.lexists(subject.state):
        for directory in (subject.state, *(os.path.join(subject.state, name) for name in files.DIRECTORIES)):
            if os.path.lexists(directory):
                files.check_directory(subject.path, directory)
        yield Finding(
            "state directory", OK, f"{subject.state}, mode {stat.S_IMODE(os.stat(subject.state).st_mode):04o}"
        )


def _directory(subject: Subject) -> Iterator[Finding]:
    parent = os.path.dirname(subject.path)
    if not os.path.isdir(parent):
        return
    found = os.stat(parent)
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o022 and not mode & stat.S_ISVTX:
        yield Finding(
            "directory",
            WARNING,
            f"{parent} can be written by others (mode {mode:04o}), who could put another store there",
            f"chmod go-w {parent}, or keep the store in a directory of its own",
        )
    elif found.st_uid not in (os.geteuid(), 0):
        yield Finding(
            "directory",
            WARNING,
            f"{parent} belongs to user {found.st_uid}, who could put another store there",
            "Keep the store in a directory of your own",
        )
    else:
        yield Finding("directory", OK, f"{parent}, mode {mode:04o}")


def _filesystem(subject: Subject) -> Iterator[Finding]:
    directory = os.path.dirname(subject.path)
    if not os.path.isdir(directory):
        return
    kind = files.filesystem_of(directory)
    if kind is None:
        yield Finding("filesystem", WARNING, "the kernel does not say which it is", "Make sure that it is a local disk")
    elif kind in files.LOCAL_FILESYSTEMS:
        yield Finding("filesystem", OK, kind)
    else:
        level = WARNING if subject.unsafe_filesystem else ERROR
        detail = f"{kind}, where locks and shared memory do not hold between processes"
        yield Finding("filesystem", level, detail, "Put the store on a local disk (--db)")
    free = files.free_bytes(subject.path)
    detail = f"{free / _MIB:.0f} MiB free"
    if free < FLOOR_BYTES:
        yield Finding("space", ERROR, f"{detail}: no job is reserved", "Free some space; work goes on by itself")
    elif free < _SPACE_BYTES:
        yield Finding("space", WARNING, detail, "Free some space before it runs out")
    else:
        yield Finding("space", OK, detail)


def _schema(subject: Subject) -> Iterator[Finding]:
    subject.db.open()
    yield Finding("schema", OK, f"version {subject.db.version()}")


# ---- inside ----------------------------------------------------------------------------------------------------------


def _durability(subject: Subject) -> Iterator[Finding]:
    if subject.durability == "full":
        yield Finding("durability", OK, "full: what is acknowledged outlives a power loss")
    else:
        yield Finding(
            "durability",
            WARNING,
            "normal: a power loss (no crash) may undo the last commits; a finished job may then run again",
            "Leave durability at 'full' unless that is worth it",
        )


def _log(subject: Subject) -> Iterator[Finding]:
    size = subject.db.wal_bytes()
    users = [pid for pid in trees.holders(subject.path) if pid != os.getpid()]
    detail = f"{size / _MIB:.1f} MiB; open in {_named(users) or 'no other process'}"
    if size > _WAL_LIMIT_BYTES:
        reading = _named(sorted(readers_of(subject.path))) or "no other process to be seen"
        yield Finding(
            "log",
            WARNING,
            f"{detail}; read just now by {reading}",
            "One of them holds a snapshot for long (a shell, a listing); end it, and it shrinks",
        )
    else:
        yield Finding("log", OK, detail)


def _gate(subject: Subject) -> Iterator[Finding]:
    pid = trees.flock_holder(os.path.join(subject.state, "gate"))
    found = None if pid is None else read_stat(pid)
    if pid is not None and found is not None and found.state in "Tt":
        yield Finding(
            "gate",
            ERROR,
            f"held by {_named([pid])}, which is stopped: nobody can write",
            f"kill -CONT {pid}, or kill it; a running supervisor kills it after 10 s",
        )
    else:
        yield Finding("gate", OK, "free" if pid is None else f"held by {_named([pid])} just now")


def _workers(subject: Subject) -> Iterator[Finding]:
    with Reader(subject.db, subject.clock) as reader:
        records = reader.workers()
        boot_id = subject.clock.read().boot_id
        held = {record.id: len(subject.db.all("held", (record.id,))) for record in records}
    troubles = [
        found for record in records if (found := _trouble(subject, record, boot_id, held[record.id])) is not None
    ]
    yield from troubles
    if not troubles:
        yield Finding("workers", OK, f"{len(records)} at work" if records else "none at work")
    if records and trees.flock_holder(os.path.join(subject.state, "monitor.lock")) is None:
        yield Finding(
            "monitor",
            WARNING,
            "nobody watches the workers: the jobs of one that dies wait",
            "Start `overseer-lite worker`, whose supervisor watches them all",
        )


def _trouble(subject: Subject, record: WorkerRecord, boot_id: str, held: int) -> Finding | None:
    if record.identity is None:
        return None
    name = f"worker {record.id}"
    jobs = f"{held} started job{'' if held == 1 else 's'}"
    try:
        identity = Identity.from_text(record.identity)
    except ValueError as error:
        return Finding(name, ERROR, f"its row does not say which process it is ({error})", _DAMAGED_ROW)
    snapshot = _snapshot(subject, record.id)
    if snapshot is not None and not snapshot.copied and snapshot.identity != identity:
        return Finding(
            name,
            ERROR,
            f"its row names process {identity.pid}, its lock file process {snapshot.identity.pid}, or another start of it",
            _DAMAGED_ROW,
        )
    life = look(identity, boot_id)
    if life in (Life.GONE, Life.OTHER_BOOT):
        return Finding(
            name,
            WARNING,
            f"dead ({'of another boot' if life is Life.OTHER_BOOT else f'process {record.pid} is gone'}), {jobs}",
            "A running supervisor puts its jobs back at once; start `overseer-lite worker`",
        )
    if life is Life.FOREIGN:
        return _abroad(subject, record, snapshot, jobs)
    if snapshot is None or snapshot.copied:
        return Finding(
            name,
            WARNING,
            f"process {record.pid} lives, but its lock file is missing or another store's",
            "If this file is a copy, open one made by `overseer-lite backup` instead",
        )
    if life is Life.STOPPED:
        return Finding(
            name, WARNING, f"process {record.pid} is stopped, {jobs}", f"kill -CONT {record.pid}, or kill it"
        )
    silent_s = min(record.silent_s, (subject.clock.read().monotonic_us - snapshot.beat_us) / 1e6)
    if silent_s > subject.silent_for_s:
        return Finding(
            name,
            WARNING,
            f"process {record.pid} has been silent for {silent_s:.0f} s, {jobs}",
            f"A running supervisor kills it; else kill {record.pid}",
        )
    return None


def _abroad(subject: Subject, record: WorkerRecord, snapshot: Snapshot | None, jobs: str) -> Finding:
    """Say of a worker of another pid namespace what its lock says: held by somebody, or by nobody any more."""
    name, where = f"worker {record.id}", "of another pid namespace"
    if snapshot is None or snapshot.copied or _has_lock(subject, record.id):
        return Finding(name, WARNING, f"{where}, {jobs}: it cannot be asked about", "Look at it from its container")
    written = [path for worker, path in _companions(subject, ("output",)) if worker == record.id]
    if any(has_writer(path) is not False for path in written):
        detail = f"dead, {where}, {jobs}; but somebody there still writes its output"
        return Finding(name, WARNING, detail, "End that process, or its container; then its jobs are put back")
    remedy = "A running supervisor puts its jobs back within seconds; start `overseer-lite worker`"
    return Finding(name, WARNING, f"dead, {where}, {jobs}", remedy)


def _has_lock(subject: Subject, worker: str) -> bool:
    """Whether somebody holds the lock of a worker's file."""
    try:
        lock = take(os.path.join(subject.state, "workers", worker))
    except (OSError, WorkerFileError):
        return True
    if lock is not None:
        lock.release()
    return lock is None


def _snapshot(subject: Subject, worker: str) -> Snapshot | None:
    try:
        return WorkerFile.read(os.path.join(subject.state, "workers", worker))
    except WorkerFileError:
        return None


def _jobs(subject: Subject) -> Iterator[Finding]:
    with Reader(subject.db, subject.clock) as reader:
        counts = reader.counts(None)
    detail = f"{counts.total} in all, {counts.started} started, {counts.stuck} stuck"
    if counts.stuck:
        remedy = "`overseer-lite why ID` names what failed before them; mend it, then `overseer-lite retry`"
        yield Finding("jobs", WARNING, detail, remedy)
    else:
        yield Finding("jobs", OK, detail)


def _orphans(subject: Subject) -> Iterator[Finding]:
    """Processes that carry the cookie of a worker which is not entered here, though this store knows its name."""
    known = _registered(subject)
    orphans = {
        worker: sorted(who.pid for who in trees.members(trees.Tree(cookie=worker, output=_output(subject, worker))))
        for worker in _names_on_disk(subject) - known
        if not _is_there(subject, worker)
    }
    orphans = {worker: pids for worker, pids in orphans.items() if pids}
    for worker, pids in orphans.items():
        yield Finding(
            "orphans",
            ERROR,
            f"{_named(pids)} of worker {worker}, which is gone: what they do overlaps whoever runs its jobs now",
            f"kill -9 {' '.join(map(str, pids))}",
        )
    if not orphans:
        yield Finding("orphans", OK, "none")


def _leftovers(subject: Subject) -> Iterator[Finding]:
    known = _registered(subject)
    found = [path for worker, path in _companions(subject) if worker not in known and not _is_there(subject, worker)]
    found += [path for path, _pid in files.drafts(subject.path)]
    found += [os.path.join(os.path.dirname(subject.path), name) for name in _put_aside(subject.path)]
    if found:
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        yield Finding("leftovers", WARNING, f"of workers long gone: {shown}", "Remove them when no worker is starting")
    else:
        yield Finding("leftovers", OK, "none")


def _integrity(subject: Subject) -> Iterator[Finding]:
    with subject.db.read() as db:
        lines = db.all("integrity_check" if subject.full else "quick_check")
        found = [" ".join(str(line).split()) for (line,) in lines]  # the engine's own words may have lines
        strangers = db.all("foreign_key_check") if subject.full else []
        wrong = [job_id for (job_id,) in db.all("wrong_counts")] if subject.full else []
    found = [] if found == ["ok"] else found
    found += [f"a row of {row[0]} names a row of {row[2]} that is not there" for row in strangers[:5]]
    found += [f"job {job_id!r} has a wrong count of what it waits for" for job_id in wrong]
    if found:
        yield Finding(
            "integrity", ERROR, "; ".join(found), "Stop all workers, restore a backup, find out which disk lies"
        )
    else:
        yield Finding("integrity", OK, "every page and row" if subject.full else "quick look; --full reads all of it")


_OUTSIDE: Final = (_engine, _file, _state_directory, _directory, _filesystem)
_INSIDE: Final = (_durability, _log, _gate, _workers, _jobs, _orphans, _leftovers, _integrity)


# ---- who and what lies around ----------------------------------------------------------------------------------------


def _registered(subject: Subject) -> set[str]:
    with subject.db.read() as db:
        return {worker for (worker,) in db.all("worker_ids")}


def _companions(
    subject: Subject, directories: tuple[str, ...] = ("workers", "bells", "output", "payloads")
) -> Iterator[tuple[str, str]]:
    """Yield the files that belong to workers: whose, and which."""
    for directory in directories:
        place = os.path.join(subject.state, directory)
        with suppress(FileNotFoundError):
            for name in sorted(os.listdir(place)):
                worker = name if directory in ("workers", "bells") else name.rpartition(".")[0]
                yield worker, os.path.join(place, name)


def _names_on_disk(subject: Subject) -> set[str]:
    return {worker for worker, _path in _companions(subject) if worker}


def _is_there(subject: Subject, worker: str) -> bool:
    """Whether a worker that is not entered lives: it is just starting, or leaving. Its lock alone may be a child's."""
    try:
        lock = take(os.path.join(subject.state, "workers", worker))
    except (OSError, WorkerFileError):
        return False
    if lock is not None:
        lock.release()
        return False
    snapshot = _snapshot(subject, worker)
    return snapshot is None or look(snapshot.identity) not in (Life.GONE, Life.OTHER_BOOT)


def _output(subject: Subject, worker: str) -> str:
    return os.path.join(subject.state, "output", worker)


def _put_aside(path: str) -> list[str]:
    directory, name = os.path.split(path)
    return [each for each in sorted(os.listdir(directory)) if each.startswith(name + "-") and ".orphaned" in each]


def _named(pids: list[int]) -> str:
    shown = [f"process {pid} ({program_of(pid)})" for pid in pids[:8]]
    return ", ".join(shown) + (f" and {len(pids) - 8} more" if len(pids) > 8 else "")
