"""What the plugin says of a test that failed, and of one that left a process behind."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final

from overseer_lite.clock import CLOCK_VARIABLE
from overseer_lite.liveness.identity import Identity, read_environment, read_proc, read_stat, send_signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overseer_lite.testing.double import Double

_EVENTS: Final = 60
_OUTPUT_LINES: Final = 20
_LOG_LINES: Final = 40
_GRACE_S: Final = 2.0  # for those that are just leaving
_LOOK_S: Final = 0.01


def sections(double: Double) -> Iterator[tuple[str, str]]:
    """Yield title and text of what a person wants to see of a double whose test has failed: the last of each."""
    yield "graph", "\n".join(_graph(double)) or "(nothing was submitted)"
    yield "events", _last(double.trace().to_jsonl(times=True), _EVENTS) or "(none)"
    if "history" in double.store.capabilities:
        for info in double.jobs():
            for record in double.store.attempts(info.id):
                if record.output:
                    title = f"output of {info.name}, attempt {record.number} ({record.outcome})"
                    yield title, _last(record.output, _OUTPUT_LINES)
    log = os.path.join(double.directory, "pool.log")
    if os.path.exists(log):
        with open(log, encoding="utf-8", errors="replace") as file:
            yield "log of the pool", _last(file.read(), _LOG_LINES)


def _graph(double: Double) -> Iterator[str]:
    names = {info.id: info.name for info in double.jobs()}
    for listed in double.jobs():
        info = double.store.job_info(listed.id) or listed
        after = [names.get(each, each) for each in info.dependencies]
        why = f": {info.failure.message}" if info.failure is not None else ""
        kind = f" ({info.type})" if info.type != info.name else ""
        yield f"{info.name}{kind}: {double.stands(info)}{why}" + (f"  <- {', '.join(after)}" if after else "")


def _last(text: str, lines: int) -> str:
    all_ = text.rstrip("\n").split("\n")
    left_out = [f"... {len(all_) - lines} lines before"] if len(all_) > lines else []
    return "\n".join([*left_out, *all_[-lines:]])


def end_left_behind(double: Double) -> list[str]:
    """Kill the processes that a double's test has left behind; return what each was.

    They are told by their environment, which names the double's clock: its pools' processes, what handlers started,
    what code under test started. One that was given another environment is not found; nor is any without /proc.
    """
    mark = f"{CLOCK_VARIABLE}={double.clock.path}\0".encode()
    until = time.monotonic() + _GRACE_S
    while (left := list(_marked(mark))) and time.monotonic() < until:
        time.sleep(_LOOK_S)
    words = []
    for who in left:
        words.append(f"process {who.pid}: {_command(who.pid)}")
        send_signal(who, signal.SIGKILL)
    return words


def _command(pid: int) -> str:
    try:
        words = read_proc(f"/proc/{pid}/cmdline")
    except OSError:
        return "(it has just gone)"
    return words.replace(b"\0", b" ").decode("utf-8", "replace").strip()[:200]


def _marked(mark: bytes) -> Iterator[Identity]:
    """Yield the living processes, but for this one, whose environment holds the mark."""
    if not os.path.isdir("/proc/self"):
        return
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            environment = read_environment(int(name)) + b"\0"
        except OSError:  # it has just gone, or is another user's
            continue
        if mark in environment:
            who, stat = Identity.of(int(name)), read_stat(int(name))
            if who is not None and stat is not None and not stat.dead:
                yield who
