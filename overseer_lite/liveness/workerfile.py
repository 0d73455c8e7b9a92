"""One file per worker: its kernel lock, its heartbeat, and the table of steps its runner writes.

The file is locked (flock) from before the worker has a row in the store until nobody of its tree holds the descriptor,
or a mapping of it, any more: the lock belongs to the open file description, which the runner shares, and which even a
handler that closes every descriptor cannot let go of while the mapping stands. Beat and steps are stores into a mapped
page: no system call, no lock, and what was written outlives a SIGKILL of the writer. They do not outlive a power loss,
and need not: after a reboot nothing in them is looked at.

    0     header page: who the worker is, its last beat, its runner
    4096  64 slots of 256 bytes: what became of each job that was given to the runner

Of a slot the state byte is always written last, and cleared first when the slot is used anew: a writer that dies
half-way leaves an older state, never a wrong one. A runner whose handler finished with a small result, or none, reports
that in the slot, whole: such a report costs no message and outlives the runner. When it may be read, see `finished`.
"""

from __future__ import annotations

import errno
import fcntl
import math
import mmap
import os
import stat as modes
import struct
from typing import Final, NamedTuple, Self

from overseer_lite.liveness.identity import Identity

SLOTS: Final = 64
FREE: Final = 0
RESERVED: Final = 1
BEGUN: Final = 2
ENDED: Final = 3

_MAGIC: Final = b"ovlworkr"
_VERSION: Final = 2
_HEADER_BYTES: Final = 4096
_SLOT_BYTES: Final = 256
_FILE_BYTES: Final = _HEADER_BYTES + SLOTS * _SLOT_BYTES
_STEP_BYTES: Final = 96
RESULT_BYTES: Final = 87  # the largest result that a slot has room for

# Native byte order and alignment throughout: struct copies native integers in one piece (the portable formats byte by
# byte), and no other machine ever reads this file.
_INT64: Final = struct.Struct("q")
_MARK: Final = struct.Struct("8sqQQ")  # magic, version, the file's own device and inode
_BEAT_AT: Final = 64
_RUNNER_AT: Final = 128
_RUNNER: Final = struct.Struct("qqq")  # pid, start time, output generation; the generation stands last
_GENERATION_AT: Final = _RUNNER_AT + 16
_TEXTS: Final[dict[str, tuple[int, int]]] = {  # where each text of the header stands, and its room
    "store_uuid": (256, 256),
    "worker_id": (512, 1024),
    "identity": (1536, 1024),
    "output": (2560, 1024),
}
_SLOT: Final = struct.Struct(f"B7xqqqqqqd{_STEP_BYTES}s")
_KEY_AT: Final = 8
_KEY: Final = struct.Struct(f"qqqqqqd{_STEP_BYTES}sq")
_BEGUN_AT: Final = 24
_ENDED_AT: Final = 32
_START_AT: Final = 40
_END_AT: Final = 48
_TIMES: Final = struct.Struct("qqqq")
_FRACTION_AT: Final = 56
_FRACTION: Final = struct.Struct("d")
_STEP_AT: Final = 64
_REPORT_AT: Final = _STEP_AT + _STEP_BYTES
_REPORT: Final = struct.Struct(f"qB{RESULT_BYTES}s")  # of which token, 0: none; the result and its length


class WorkerFileError(ValueError):
    """A file that should be a worker's is none, or is not to be trusted."""

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path} is no usable worker file: {problem}. Nothing follows about any worker; {remedy}.")


class Slot(NamedTuple):
    """What became of one job that was given to the runner.

    Attributes:
        job_key: The job's number in the store.
        number: The attempt's number.
        state: FREE, RESERVED, BEGUN or ENDED.
        begun_us: When the handler was about to be called, on the boot-time clock; 0 if it was not.
        output_start: Where the attempt's output begins in the output file; `output_end` is 0 until it ended.
        progress: As the handler reported it, from 0 to 1; None if it has not.
        step: The handler's own word for where it is.
    """

    index: int  # type: ignore[assignment]  # hides a method of tuple that nobody needs
    job_key: int
    number: int
    state: int
    begun_us: int
    ended_us: int
    output_start: int
    output_end: int
    progress: float | None
    step: str


class Times(NamedTuple):
    """The course of one attempt; see `Slot`."""

    state: int
    begun_us: int
    ended_us: int
    output_start: int
    output_end: int


class Snapshot(NamedTuple):
    """A worker's file, as somebody else read it at one moment, without any lock.

    Attributes:
        beat_us: The last beat, on the monotonic clock of the worker's boot.
        runner_pid: 0 before the first runner.
        output: Name of the runner's output file; '' while generation is 0.
        generation: Which output file of this worker it is; 0: none yet, or just being changed.
        slots: Those that are not FREE, by index.
        device: Where the file itself lies, as does `inode`.
        copied: The file says that it was made elsewhere: a copy of a state directory holds the names of the living.
        runner_start_time: Start time of the runner's process; 0 if it was gone already when it was entered.
    """

    store_uuid: str
    worker_id: str
    identity: Identity
    beat_us: int
    runner_pid: int
    output: str
    generation: int
    slots: list[Slot]
    device: int
    inode: int
    copied: bool
    runner_start_time: int

    @property
    def runner(self) -> Identity | None:
        """Who the runner is to the kernel; None if there was none, or it cannot be told from whoever has its pid now."""
        if not self.runner_pid or not self.runner_start_time:
            return None
        return self.identity._replace(pid=self.runner_pid, start_time=self.runner_start_time)


class WorkerFile:
    """The file as its worker and its runner have it: open, locked, mapped.

    `beat` may be called from any thread. Of the slots, each has one writer at a time: the worker until it gave the job
    to the runner, the runner until it reported the outcome, then the worker again.
    """

    __slots__ = ("_fd", "_map", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._map = mmap.mmap(fd, _FILE_BYTES, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

    @classmethod
    def create(cls, path: str, *, store_uuid: str, worker_id: str, identity: Identity, now_us: int) -> Self:
        """Make a worker's file under a new name, lock it, and give the first beat.

        The worker does this BEFORE it enters itself into the store: whoever finds its row can rely on its lock.

        Raises:
            FileExistsError: The name is taken.
            OSError: The file could not be made; nothing is left of it.
            ValueError: A text is too long for its place, or holds a NUL.
        """
        page = _header(store_uuid=store_uuid, worker_id=worker_id, identity=identity, now_us=now_us)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _allocate(fd)
            status = os.fstat(fd)
            _MARK.pack_into(page, 0, _MAGIC, _VERSION, status.st_dev, status.st_ino)
            os.pwrite(fd, page, 0)
            return cls(path, fd)
        except BaseException:
            os.unlink(path)
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int, path: str = "") -> Self:
        """Take over an inherited descriptor: the runner's way in. It then holds the lock too, and no child of it does.

        Raises:
            WorkerFileError: The descriptor is not one of a worker's file.
        """
        os.set_inheritable(fd, False)
        _parse_header(path or f"descriptor {fd}", os.pread(fd, _FILE_BYTES, 0))
        return cls(path, fd)

    @staticmethod
    def read(path: str) -> Snapshot | None:
        """Read a worker's file without locking or waiting; None if there is none.

        The writer goes on meanwhile: each number is whole, but two of them need not be of one moment.

        Raises:
            WorkerFileError: It is no worker's file, or not yet: its worker is just starting, or died while it did.
        """
        try:
            fd = _open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(fd)
            if not modes.S_ISREG(status.st_mode):
                raise WorkerFileError(path, "it is no regular file", "remove it")
            page = os.pread(fd, _FILE_BYTES, 0)
        finally:
            os.close(fd)
        device, inode = _parse_header(path, page)
        return _snapshot(
            path, page, status.st_dev, status.st_ino, copied=(device, inode) != (status.st_dev, status.st_ino)
        )

    def beat(self, now_us: int) -> None:
        """Give a sign of life, at that instant of the monotonic clock. Needs no lock and cannot block on one."""
        _INT64.pack_into(self._map, _BEAT_AT, now_us)

    def set_runner(self, pid: int, output: str, generation: int) -> None:
        """Enter a new runner, its output file and that file's number (from 1); the worker's, before it gives it a job.

        The child must not have been reaped: its start time is read here, and tells it later from whoever gets its pid.
        """
        who = Identity.of(pid)
        place = _text("output", output)
        _INT64.pack_into(self._map, _GENERATION_AT, 0)  # first: a reader must not join an old name to a new number
        self._map[_TEXTS["output"][0] : sum(_TEXTS["output"])] = place
        _RUNNER.pack_into(self._map, _RUNNER_AT, pid, who.start_time if who else 0, 0)
        _INT64.pack_into(self._map, _GENERATION_AT, generation)

    def reserve(self, index: int, job_key: int, number: int) -> None:
        """Enter an attempt that is reserved and not begun, over whatever the slot held."""
        at = _place(index)
        self._map[at] = FREE
        _KEY.pack_into(self._map, at + _KEY_AT, job_key, number, 0, 0, 0, 0, math.nan, b"", 0)
        self._map[at] = RESERVED

    def begin(self, index: int, boottime_us: int, output_start: int) -> None:
        """Note that the handler is about to be called; from here on a death counts against the job."""
        at = _place(index)
        _INT64.pack_into(self._map, at + _BEGUN_AT, boottime_us)
        _INT64.pack_into(self._map, at + _START_AT, output_start)
        self._map[at] = BEGUN

    def end(self, index: int, boottime_us: int, output_end: int) -> None:
        """Note that the handler ended, however it did."""
        at = _place(index)
        _INT64.pack_into(self._map, at + _ENDED_AT, boottime_us)
        _INT64.pack_into(self._map, at + _END_AT, output_end)
        self._map[at] = ENDED

    def finish(self, index: int, token: int, boottime_us: int, output_end: int, result: bytes) -> None:
        """Note that the handler finished, with its result, b"" for none: the whole report of such an attempt.

        Args:
            token: Under which the job was given, from 1. No two were given under the same: a child that a handler
                forked may come to this line long after the slot went to another job.
            result: At most RESULT_BYTES of it.
        """
        _REPORT.pack_into(self._map, _place(index) + _REPORT_AT, token, len(result), result)
        self.end(index, boottime_us, output_end)

    def finished(self, index: int, token: int) -> bytes | None:
        """Return the result that `finish` noted, b"" for none; None: no end was reported so of that token's job.

        Another process's stores are promised to be seen in their order only after something that both did in the
        kernel, one after the other: a byte sent and received, a read of the same pipe, a death that was waited for. To
        ask before that is no error, and where processors reorder stores the answer may be wrong.
        """
        at = _place(index)
        if self._map[at] != ENDED:
            return None
        whose, length, result = _REPORT.unpack_from(self._map, at + _REPORT_AT)
        if whose != token or length > RESULT_BYTES:
            return None
        found: bytes = result[:length]
        return found

    def progress(self, index: int, fraction: float | None, step: str = "") -> None:
        """Note how far the handler is, None for not known; the step is cut at 96 bytes, not within a character."""
        at = _place(index)
        _FRACTION.pack_into(self._map, at + _FRACTION_AT, math.nan if fraction is None else fraction)
        self._map[at + _STEP_AT : at + _STEP_AT + _STEP_BYTES] = _cut(step).ljust(_STEP_BYTES, b"\0")

    def free(self, index: int) -> None:
        """Empty a slot: its attempt is settled, or handed back."""
        self._map[_place(index)] = FREE

    def slot(self, index: int) -> Slot:
        """Return a slot as it stands, a FREE one too; what a FREE one holds besides means nothing."""
        return _slot(self._map[_place(index) : _place(index) + _SLOT_BYTES], index)

    def times(self, index: int) -> Times:
        """Return what a slot says of an attempt's course, without what the handler said of it: the part read most."""
        at = _place(index)
        return Times(self._map[at], *_TIMES.unpack_from(self._map, at + _BEGUN_AT))

    def fileno(self) -> int:
        """Return the descriptor: give it to the runner, and the lock with it."""
        return self._fd

    def close(self) -> None:
        """Let go of the file. It stays locked while somebody else, the runner above all, still has it; idempotent."""
        if self._fd >= 0:
            self._map.close()
            os.close(self._fd)
            self._fd = -1

    def unlink(self) -> None:
        """Take the name away; the lock stays. The worker's last act, after its row is gone from the store."""
        os.unlink(self.path)


class TakenLock:
    """The lock of a dead worker's file, in the hands of whoever recovers it. Leaving a `with` block releases it."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let go of the lock and leave the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def unlink(self) -> None:
        """Remove the file, then let go of the lock: nobody can lock the file in between and think it stands."""
        try:
            os.unlink(self.path)
        finally:
            self.release()


def take(path: str) -> TakenLock | None:
    """Lock a worker's file, if nobody holds it; None if somebody does: the worker, its runner, a child of either.

    A free lock alone proves no death: rule 3 of recovery, the process lives and lost its lock, is the caller's to see.

    Raises:
        FileNotFoundError: There is no such file, or it was removed or replaced meanwhile.
        WorkerFileError: It is a link, no regular file, or another user's.
    """
    fd = _open(path, os.O_RDWR)
    try:
        _check_ours(path, fd)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _check_in_place(path, fd)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return TakenLock(path, fd)


def _check_ours(path: str, fd: int) -> None:
    status = os.fstat(fd)
    if not modes.S_ISREG(status.st_mode):
        raise WorkerFileError(path, "it is no regular file", "remove it")
    if status.st_uid != os.geteuid():
        raise WorkerFileError(path, f"user {status.st_uid} owns it", "remove it if it should not be there")


def _check_in_place(path: str, fd: int) -> None:
    """Raise FileNotFoundError unless the path still names the file that was just locked."""
    if not os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd)):
        raise FileNotFoundError(errno.ENOENT, "removed or replaced while it was being locked", path)


def _open(path: str, mode: int) -> int:
    try:
        return os.open(path, mode | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO put there must not block us
    except IsADirectoryError:
        raise WorkerFileError(path, "it is a directory", "remove it") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise WorkerFileError(path, "it is a symbolic link", "remove it") from None
        if error.errno == errno.ENXIO:
            raise WorkerFileError(path, "it is no regular file", "remove it") from None
        raise


def _allocate(fd: int) -> None:
    """Give the file its blocks now: a store into a mapped page that finds the disk full would kill us by SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, _FILE_BYTES)
    else:
        os.pwrite(fd, bytes(_FILE_BYTES), 0)


def _header(*, store_uuid: str, worker_id: str, identity: Identity, now_us: int) -> bytearray:
    page = bytearray(_HEADER_BYTES)
    _INT64.pack_into(page, _BEAT_AT, now_us)
    for name, text in (("store_uuid", store_uuid), ("worker_id", worker_id), ("identity", identity.to_text())):
        page[_TEXTS[name][0] : sum(_TEXTS[name])] = _text(name, text)
    return page


def _text(name: str, text: str) -> bytes:
    room = _TEXTS[name][1]
    data = text.encode()
    if len(data) > room or b"\0" in data:
        raise ValueError(f"A worker file's {name} must be at most {room} bytes without NUL; this one is {text[:80]!r}")
    return data.ljust(room, b"\0")


def _place(index: int) -> int:
    if not 0 <= index < SLOTS:
        raise IndexError(f"A worker file has slots 0 to {SLOTS - 1}; there is no slot {index}")
    return _HEADER_BYTES + index * _SLOT_BYTES


def _cut(step: str) -> bytes:
    data = step.encode(errors="replace").replace(b"\0", b" ")
    return data if len(data) <= _STEP_BYTES else data[:_STEP_BYTES].decode(errors="ignore").encode()


def _slot(data: bytes, index: int) -> Slot:
    state, key, number, begun, ended, start, end, fraction, step = _SLOT.unpack_from(data)
    return Slot(
        index,
        key,
        number,
        state,
        begun,
        ended,
        start,
        end,
        None if math.isnan(fraction) else fraction,
        step.rstrip(b"\0").decode(errors="replace"),  # it may be caught half-written
    )


def _parse_header(path: str, page: bytes) -> tuple[int, int]:
    """Return the device and inode under which the file was made."""
    if len(page) < _FILE_BYTES or not any(page[:8]):
        raise WorkerFileError(
            path,
            "it is incomplete: its worker is just starting, or died while it did",
            "remove it once nobody holds it",
        )
    magic, version, device, inode = _MARK.unpack_from(page)
    if magic != _MAGIC:
        raise WorkerFileError(path, "its first bytes are another format's", "remove it")
    if version != _VERSION:
        raise WorkerFileError(
            path, f"it has layout {version}, this version knows {_VERSION}", "use the version that made it"
        )
    return device, inode


def _snapshot(path: str, page: bytes, device: int, inode: int, *, copied: bool) -> Snapshot:
    texts = {name: page[at : at + room].rstrip(b"\0").decode(errors="replace") for name, (at, room) in _TEXTS.items()}
    try:
        identity = Identity.from_text(texts["identity"])
    except ValueError as error:
        raise WorkerFileError(path, str(error), "remove it once nobody holds it") from None
    (beat_us,) = _INT64.unpack_from(page, _BEAT_AT)
    runner_pid, runner_start_time, generation = _RUNNER.unpack_from(page, _RUNNER_AT)
    slots = [_slot(page[_place(index) : _place(index) + _SLOT_BYTES], index) for index in range(SLOTS)]
    if any(slot.state > ENDED for slot in slots):
        raise WorkerFileError(
            path, "a slot has a state that does not exist", "take all of its worker's attempts as begun"
        )
    return Snapshot(
        store_uuid=texts["store_uuid"],
        worker_id=texts["worker_id"],
        identity=identity,
        beat_us=beat_us,
        runner_pid=runner_pid,
        output=texts["output"] if generation else "",
        generation=generation,
        slots=[slot for slot in slots if slot.state != FREE],
        device=device,
        inode=inode,
        copied=copied,
        runner_start_time=runner_start_time,
    )
