"""Clocks a test controls: time stands still until somebody moves it, and moves as a machine's time can.

`ManualClock` serves one process. `SharedClock` keeps the same state in a small file which every process that has it
reads, so that a test moves the time of a supervisor, its workers and its own store at once. Both drive what a store
goes by, never the kernel's word on who lives, nor `time.time()` in a handler.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
import time
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from overseer_lite.clock import Reading

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_WALL_S: Final = 1_795_478_400.0  # 2026-11-24 00:00 UTC; fixed, so that a test reads the same every day
_START_US: Final = 1_000_000_000  # the counters start at different, high values: who mixes them up is seen at once
_JUST_BOOTED_US: Final = 1_000_000
_LOOK_S: Final = 0.005
_MAX_BOOT_ID_BYTES: Final = 64


class _State(NamedTuple):
    """Where the clocks stood at `real_us` of the machine's own monotonic clock; `boots` numbers the boots."""

    running: bool
    boots: int
    monotonic_us: int
    boottime_us: int
    wall_us: int
    real_us: int
    boot_id: str


def _initial(wall_s: float, running: bool) -> _State:
    return _State(running, 1, _START_US, 2 * _START_US, round(wall_s * 1e6), _real_us(), "boot-1")


def _real_us() -> int:
    # One clock for all processes of the machine; on macOS, too, it counts from one point for all of them.
    return time.monotonic_ns() // 1000


def _now(state: _State) -> _State:
    """Return the state as of this moment: unchanged, unless the clock runs."""
    if not state.running:
        return state
    real = _real_us()
    gone = max(0, real - state.real_us)
    return state._replace(
        monotonic_us=state.monotonic_us + gone,
        boottime_us=state.boottime_us + gone,
        wall_us=state.wall_us + gone,
        real_us=real,
    )


def _duration_us(seconds: float) -> int:
    if not seconds >= 0:
        raise ValueError(f"{seconds!r} s: counters never go back; only `step_wall` takes a negative duration")
    return round(seconds * 1e6)


class _Controlled:
    """The verbs both clocks have, over a state that a subclass keeps."""

    __slots__ = ()

    def _load(self) -> _State:
        raise NotImplementedError

    def _change(self, change: Callable[[_State], _State]) -> None:
        raise NotImplementedError

    def read(self) -> Reading:
        """Return one reading; never a mixture of two states, from any thread."""
        state = _now(self._load())
        return Reading(state.boot_id, state.monotonic_us, state.boottime_us, state.wall_us)

    def advance(self, seconds: float) -> None:
        """Let time pass: all three clocks go on."""
        gone = _duration_us(seconds)
        self._change(
            lambda s: s._replace(
                monotonic_us=s.monotonic_us + gone, boottime_us=s.boottime_us + gone, wall_us=s.wall_us + gone
            )
        )

    def run(self) -> None:
        """From now on real time that passes counts as well; from the time the clock shows, not the machine's."""
        self._change(lambda s: s._replace(running=True, real_us=_real_us()))

    def stand(self) -> None:
        """From now on time stands still until a verb moves it."""
        self._change(lambda s: s._replace(running=False))

    def suspend(self, seconds: float) -> None:
        """Let the machine sleep: the boot-time and the wall clock go on, the monotonic clock does not."""
        gone = _duration_us(seconds)
        self._change(lambda s: s._replace(boottime_us=s.boottime_us + gone, wall_us=s.wall_us + gone))

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back by a negative number; nothing else moves."""
        step = round(seconds * 1e6)
        self._change(lambda s: s._replace(wall_us=s.wall_us + step))

    def reboot(self, boot_id: str | None = None, *, off_s: float = 0.0) -> None:
        """Start another boot: a new boot id, counters near zero; the wall clock goes on, also while the power is off.

        Args:
            boot_id: The new boot's id; one not used before unless given.
            off_s: Seconds for which the machine was off.

        Raises:
            ValueError: The id is the present one, or longer than 64 bytes.
        """
        gone = _duration_us(off_s)
        if boot_id is not None and not 0 < len(boot_id.encode()) <= _MAX_BOOT_ID_BYTES:
            raise ValueError(f"boot id {boot_id!r} has not between 1 and {_MAX_BOOT_ID_BYTES} bytes")

        def boot(state: _State) -> _State:
            if boot_id == state.boot_id:
                raise ValueError(f"boot id {boot_id!r} is the present one: another boot has another id")
            return state._replace(
                boots=state.boots + 1,
                boot_id=boot_id or f"boot-{state.boots + 1}",
                monotonic_us=_JUST_BOOTED_US,
                boottime_us=_JUST_BOOTED_US,
                wall_us=state.wall_us + gone,
            )

        self._change(boot)


class ManualClock(_Controlled):
    """A clock of one process, safe from any thread.

    Args:
        wall_s: Seconds since 1970 at the start.
        running: Real time that passes counts as well; else time stands still until a verb moves it.
    """

    __slots__ = ("_lock", "_state")

    def __init__(self, *, wall_s: float = DEFAULT_WALL_S, running: bool = False) -> None:
        self._lock = threading.Lock()
        self._state = _initial(wall_s, running)

    def __repr__(self) -> str:
        return f"ManualClock({self.read()})"

    def _load(self) -> _State:
        return self._state

    def _change(self, change: Callable[[_State], _State]) -> None:
        with self._lock:
            self._state = change(_now(self._state))


_HEAD: Final = struct.Struct("<8sQ")  # magic, serial number of this state
_BODY: Final = struct.Struct("<?qqqqq64s")
_SUM: Final = struct.Struct("<I")
_MAGIC: Final = b"ovl-clk1"
_SLOT_BYTES: Final = _HEAD.size + _BODY.size + _SUM.size
_FILE_BYTES: Final = 2 * _SLOT_BYTES


class SharedClock(_Controlled):
    """A clock in a file: every process that attaches to it reads the same time, and any may move it.

    The file has two slots, each with a serial number and a checksum. A writer holds a lock and fills the older slot; a
    reader takes the younger of those whose checksum is right. So a reader needs no lock and sees no torn state, even
    if a writer is killed in the middle. Use `create` and `attach`.
    """

    __slots__ = ("_map", "path")

    def __init__(self, path: str, mapped: mmap.mmap) -> None:
        self.path = path
        self._map = mapped

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, wall_s: float = DEFAULT_WALL_S, running: bool = False) -> Self:
        """Make a new clock file and attach to it.

        Args:
            path: Where; nothing may be there yet.
            wall_s: Seconds since 1970 at the start.
            running: Real time that passes counts as well: needed where processes must beat by themselves.

        Raises:
            FileExistsError: Something is there.
        """
        first = _pack(1, _initial(wall_s, running))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, first + bytes(_SLOT_BYTES))
        finally:
            os.close(fd)
        return cls.attach(path)

    @classmethod
    def attach(cls, path: str | os.PathLike[str]) -> Self:
        """Attach to a clock file that `create` made.

        Raises:
            FileNotFoundError: There is none.
            ValueError: The file is no clock.
        """
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size != _FILE_BYTES:
                raise ValueError(f"{os.fspath(path)} is no clock file: it has not {_FILE_BYTES} bytes")
            mapped = mmap.mmap(fd, _FILE_BYTES)
        finally:
            os.close(fd)
        clock = cls(os.fspath(path), mapped)
        clock._load()
        return clock

    def __repr__(self) -> str:
        return f"SharedClock({self.path!r})"

    def close(self) -> None:
        """Detach; the file stays."""
        self._map.close()

    def after(self, seconds: float) -> Callable[[threading.Event], bool]:
        """Return how to wait until so many seconds have passed from now by this clock, or an event is set.

        What is returned tells whether the event is set. Another process may move the clock, which nobody is told of: it
        is looked at every 5 ms.
        """
        since_us = self.read().monotonic_us
        until_us = since_us + _duration_us(seconds)

        def wait(stop: threading.Event) -> bool:
            while not stop.is_set():
                # In another boot the counter begins anew, and what was waited for in the last one is over.
                if not since_us <= self.read().monotonic_us < until_us:
                    return False
                stop.wait(_LOOK_S)
            return True

        return wait

    def _load(self) -> _State:
        return self._newest()[1]

    def _newest(self) -> tuple[int, _State]:
        # Both slots torn or old at once needs two whole changes during one copy of 250 bytes; then look again.
        for _ in range(1000):
            image = self._map[:_FILE_BYTES]
            valid = [slot for slot in (_unpack(image[:_SLOT_BYTES]), _unpack(image[_SLOT_BYTES:])) if slot]
            if valid:
                return max(valid, key=lambda slot: slot[0])
        raise ValueError(f"{self.path} is no clock file, or it is damaged: neither slot has a right checksum")

    def _change(self, change: Callable[[_State], _State]) -> None:
        # A descriptor of its own for each change: the lock then excludes threads and forked children as well.
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            serial, state = self._newest()
            start = serial % 2 * _SLOT_BYTES  # serial 1 lies in slot 0, 2 in slot 1, and so on by turns
            self._map[start : start + _SLOT_BYTES] = _pack(serial + 1, change(_now(state)))
        finally:
            os.close(fd)


def _pack(serial: int, state: _State) -> bytes:
    slot = _HEAD.pack(_MAGIC, serial) + _BODY.pack(*state[:-1], state.boot_id.encode())
    return slot + _SUM.pack(zlib.crc32(slot))


def _unpack(slot: bytes) -> tuple[int, _State] | None:
    magic, serial = _HEAD.unpack_from(slot)
    if magic != _MAGIC or _SUM.unpack_from(slot, _SLOT_BYTES - _SUM.size)[0] != zlib.crc32(slot[: -_SUM.size]):
        return None
    running, boots, monotonic, boottime, wall, real, boot_id = _BODY.unpack_from(slot, _HEAD.size)
    return serial, _State(running, boots, monotonic, boottime, wall, real, boot_id.rstrip(b"\0").decode())
