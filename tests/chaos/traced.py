"""The state-changing system calls of each program: counted in calm runs, then visited one by one (strace).

A point is `role fault call N`: at the N-th such call of that process it is killed there, or the call fails. The points
are those of a calm run, the least of several, so that each can be reached in any run; in the release run each must be.
What was visited is kept beside the run's progress, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from tests.chaos.rig import Rig, clear_away
from tests.chaos.scenario import Violation

KILL: Final = "KILL"
#: All by which a process changes anything outside itself: files, locks, other processes, pipes and sockets.
STATE_CHANGING: Final = (
    "write", "pwrite64", "writev", "sendto", "sendmsg", "fdatasync", "fsync", "ftruncate", "fallocate", "unlink",
    "unlinkat", "rename", "renameat2", "link", "linkat", "mkdir", "mknodat", "mknod", "chmod", "fchmod", "flock",
    "fcntl", "clone", "clone3", "vfork", "kill", "tgkill", "pidfd_send_signal", "waitid", "setpgid", "pipe2",
    "socketpair", "prctl",
)  # fmt: skip
#: Which calls fail how, by role; each is counted by itself, or the interpreter's own start would be all that is reached.
ERRORS: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("worker", "EIO"): ("pwrite64", "fdatasync", "fallocate"),
    ("worker", "ENOSPC"): ("pwrite64", "fallocate", "mknodat"),
    ("worker", "EMFILE"): ("openat",),
    ("command", "EIO"): ("pwrite64", "fdatasync"),
    ("command", "ENOSPC"): ("pwrite64",),
    ("monitor", "EIO"): ("pwrite64", "fdatasync"),
    ("monitor", "ENOSPC"): ("pwrite64",),
}
#: `supervisor` is its main thread from the start, `monitor` its other one while it buries a worker.
ROLES: Final = ("worker", "command", "runner", "supervisor", "monitor")
CALM_RUNS: Final = 3
PLAN: Final = "syscalls.json"  # in the run's directory: what was counted in calm runs
VISITED: Final = "syscalls-visited"


class Point(NamedTuple):
    """Where a process is killed, or a call fails: at its N-th call of that name."""

    role: str
    fault: str
    call: str
    number: int

    def arguments(self) -> list[str]:
        """Return the arguments by which strace does it."""
        deed = "signal=KILL" if self.fault == KILL else f"error={self.fault}"
        return ["-e", f"trace={self.call}", "-e", f"inject={self.call}:{deed}:when={self.number}"]

    def __str__(self) -> str:
        return " ".join(map(str, self))


def watching() -> list[str]:
    """Return the arguments by which strace only counts."""
    return ["-e", f"trace={','.join(STATE_CHANGING)},openat"]


def injected(trace: str) -> bool:
    """Whether a trace shows that its deed was done."""
    with open(trace, encoding="utf-8", errors="replace") as file:
        said = file.read()
    return "killed by SIGKILL" in said or "(INJECTED)" in said


def counted(trace: str) -> dict[str, int]:
    """Return how many calls of each name a trace has."""
    found: dict[str, int] = {}
    with open(trace, encoding="utf-8", errors="replace") as file:
        for line in file:
            if match := re.match(r"(\w+)\(", line):
                found[match[1]] = found.get(match[1], 0) + 1
    return found


@contextlib.contextmanager
def attached(rig: Rig, pid: int, trace: str, arguments: Sequence[str]) -> Iterator[None]:
    """Have strace at the other thread of a supervisor, its monitor's."""
    (thread,) = [task for task in os.listdir(f"/proc/{pid}/task") if int(task) != pid]
    tracer = subprocess.Popen(["strace", "-qq", "-o", trace, "-p", thread, *arguments], stderr=subprocess.DEVNULL)
    try:
        rig.wait_for(lambda: f"TracerPid:\t{tracer.pid}\n" in _status(pid, thread), name="strace is attached")
        yield
    finally:
        tracer.send_signal(signal.SIGTERM)  # it lets go; after its process's end it is gone by itself
        tracer.wait(10)


def _status(pid: int, thread: str) -> str:
    with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as file:
        return file.read()


class Plan:
    """Which points there are in a run, which were visited, which is next. For several threads."""

    def __init__(self, directory: str, counts: dict[str, dict[str, int]], seed: str) -> None:
        self._path = os.path.join(directory, VISITED)
        self._lock = threading.Lock()
        self.points = points(counts)
        self.visited = {line for line in _lines(self._path)} & set(map(str, self.points))
        self._tries: dict[Point, int] = {}
        self._order = list(self.points)
        random.Random(seed).shuffle(self._order)

    def next(self) -> Point:
        """Return the next point that was not visited, the least tried first; any other once all were."""
        with self._lock:
            waiting = [point for point in self._order if str(point) not in self.visited] or self._order
            point = min(waiting, key=lambda each: self._tries.get(each, 0))
            self._tries[point] = self._tries.get(point, 0) + 1
            return point

    def visit(self, point: Point) -> None:
        """Note that a point was reached."""
        with self._lock:
            self.visited.add(str(point))
            with open(self._path, "a", encoding="ascii") as file:
                file.write(f"{point}\n")

    def missing(self) -> list[str]:
        """Return the points that were never reached."""
        return [str(point) for point in self.points if str(point) not in self.visited]


def points(counts: dict[str, dict[str, int]]) -> list[Point]:
    """Return the points of what was counted: a kill at each state-changing call, a failure where one is meant."""
    found = []
    for role, calls in counts.items():
        faults = {KILL: tuple(STATE_CHANGING), **{fault: names for (of, fault), names in ERRORS.items() if of == role}}
        for fault, names in faults.items():
            found += [Point(role, fault, name, n) for name in names for n in range(1, calls.get(name, 0) + 1)]
    return found


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return [line[:-1] for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return []


def is_planned(directory: str) -> bool:
    """Whether a run has a plan already."""
    return os.path.exists(os.path.join(directory, PLAN))


_plans: dict[str, Plan] = {}
_making = threading.Lock()


def plan_of(directory: str, seed: str, calm_runs: int, run: object) -> Plan:
    """Return the plan of a run; made once, from calm runs of each program, and kept in the run's directory.

    Args:
        run: `run(rig, role, trace, arguments, number)`: have a program of that role do its work under strace.
    """
    with _making:
        if directory not in _plans:
            path = os.path.join(directory, PLAN)
            if not os.path.exists(path):
                counts = {role: _calm(directory, role, calm_runs, run) for role in ROLES}
                with open(f"{path}.new", "w", encoding="ascii") as file:
                    json.dump(counts, file)
                os.rename(f"{path}.new", path)
            with open(path, encoding="ascii") as file:
                _plans[directory] = Plan(directory, json.load(file), seed)
        return _plans[directory]


def _calm(directory: str, role: str, calm_runs: int, run: object) -> dict[str, int]:
    """Return how many calls of each name a program makes when nothing happens to it: the least of several runs."""
    place = os.path.join(directory, f"syscalls-calm-{role}")
    clear_away(place)
    os.makedirs(place, mode=0o700)
    rig = Rig(place, {"heartbeat_interval_s": 0.5, "tolerance": 100})
    counts = []
    try:
        rig.submit([{"id": "first", "args": {"s": 0.01}}])
        for number in range(calm_runs):
            trace = os.path.join(place, f"trace-{number}")
            run(rig, role, trace, watching(), number)  # type: ignore[operator]
            counts.append(counted(trace))
    finally:
        rig.close()
    found = {name: min(each.get(name, 0) for each in counts) for name in counts[0]}
    if not any(found.values()):
        raise Violation(f"{role}: no state-changing call was seen in a calm run: nothing can be proved")
    clear_away(place)
    return found
