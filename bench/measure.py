"""How things are measured here, and how figures are told.

A figure is a median of at least three; a ratio is taken side by side, A B A B in one run, and is the median of the
ratios of the pairs. Every table says what was done with durability. Nothing asserts a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from importlib import metadata
from typing import Any, Final, NamedTuple, TypeVar

ROOT: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
APP: Final = os.path.join(ROOT, "bench", "app.py")
BOOTSTRAP: Final = os.path.join(ROOT, "bench", "bootstrap")
WORKERS: Final = 4  # processes of a peer; as many of ours, with a runner each
PEERS: Final = ("huey", "litequeue", "persist-queue", "dbos", "luigi", "procrastinate", "rq")


T = TypeVar("T")


class Options(NamedTuple):
    """What was asked for on the command line.

    Attributes:
        quick: A look, for CI: small numbers, one round where three are usual.
        large: The sizes that take minutes as well.
        directory: Where stores are made; on the disk that is to be measured.
    """

    quick: bool
    large: bool
    directory: str

    @property
    def rounds(self) -> int:
        """How often each variant is measured."""
        return 1 if self.quick else 3

    def scale(self, full: int, quick: int) -> int:
        """Return the one number or the other."""
        return quick if self.quick else full


class Table(NamedTuple):
    """Rows of text under a title; `notes` say what else is to be known."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


class Reach(NamedTuple):
    """One figure of those that are aimed at.

    Attributes:
        asked: What is asked for, as a person reads it.
        value: What was measured.
        unit: Of the value; "" for a ratio.
        least: At least so much, or
        most: at most so much, is reached.
        goal: What the design should give, beyond that.
    """

    asked: str
    value: float
    unit: str = ""
    least: float | None = None
    most: float | None = None
    goal: float | None = None

    def verdict(self) -> str:
        """Return whether it is reached; a word to read, nothing fails by it."""
        if self.least is not None:
            near, far = self.value >= self.least, self.goal is not None and self.value >= self.goal
        else:
            assert self.most is not None
            near, far = self.value <= self.most, self.goal is not None and self.value <= self.goal
        return "goal" if near and far else "yes" if near else "NO"

    def row(self) -> list[str]:
        """Return it as a row of a table."""
        bound = f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"
        goal = "" if self.goal is None else f"{self.goal:g}"
        return [self.asked, f"{number(self.value)} {self.unit}".strip(), bound, goal, self.verdict()]


class Plot(NamedTuple):
    """What is to be drawn: `kind` is bars (label: value), lines or ecdf (label: points)."""

    name: str
    title: str
    kind: str
    x: str
    y: str
    series: Mapping[str, Any]
    logarithmic: bool = False


class Report(NamedTuple):
    """What one bench has to say.

    Attributes:
        durability: What was done with durability, in a sentence.
        figures: The numbers behind the tables, for `--json`.
        took_s: How long it took.
        load: The machine's load average when it ended; its own processes count as well.
    """

    name: str
    durability: str
    tables: Sequence[Table]
    reach: Sequence[Reach] = ()
    figures: Mapping[str, Any] = {}
    plots: Sequence[Plot] = ()
    took_s: float = 0.0
    load: float = 0.0


# ---- measuring -------------------------------------------------------------------------------------------------------


def side_by_side(variants: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Call each variant once a round, in turn, so that whatever else the machine does hits all of them alike."""
    results: dict[str, list[T]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            results[name].append(variant())
    return results


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios of what was measured side by side."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def spread(values: Sequence[float]) -> str:
    """Return the least and the most of some values."""
    return f"{number(min(values))} .. {number(max(values))}"


def number(value: float) -> str:
    """Return a number as a person reads it: three figures that count, thousands apart."""
    if value and abs(value) < 1:
        return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.4f}"
    if abs(value) < 10:
        return f"{value:.2f}"
    if abs(value) < 1000:
        return f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:,.0f}"


def child(function: Callable[..., Any], /, *, env: Mapping[str, str] | None = None, **arguments: Any) -> Any:
    """Call a function of a bench in a process of its own; return what it returned, which must be JSON.

    So each engine, each peer and each variant has an interpreter to itself: never two SQLites in one process.
    """
    module = function.__module__ if function.__module__ != "__main__" else "bench.__main__"
    code = (
        "import json, os, sys\n"
        "out = os.fdopen(os.dup(1), 'w'); os.dup2(2, 1)\n"
        f"from {module} import {function.__name__} as call\n"
        "json.dump(call(**json.loads(sys.argv[1])), out)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip()
        raise RuntimeError(f"{module}.{function.__name__} ended with {done.returncode}: {words[-2000:]}")
    return json.loads(done.stdout)


def timed(command: Sequence[str], *, cwd: str | None = None, env: Mapping[str, str] | None = None) -> float:
    """Run a command to its end; return the seconds it took, its start-up included. Its end must be a good one."""
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    took_s = time.perf_counter() - begun
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip()
        raise RuntimeError(f"{' '.join(command[:6])} ended with {done.returncode}: {words[-2000:]}")
    return took_s


@contextlib.contextmanager
def place(options: Options) -> Iterator[str]:
    """Yield a fresh directory on the disk that is measured; it is gone afterwards."""
    directory = tempfile.mkdtemp(prefix="overseer-bench-", dir=options.directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class WalMaximum:
    """The largest size seen of a store's log; `look` is called often."""

    def __init__(self, db: str) -> None:
        self._path = db + "-wal"
        self.bytes = 0

    def look(self) -> None:
        """Look once; by stat alone, since opening and closing the file would drop its locks."""
        with contextlib.suppress(FileNotFoundError):
            self.bytes = max(self.bytes, os.stat(self._path).st_size)


def start_together(directory: str, futures: Sequence[Future[Any]]) -> None:
    """Let a peer's workers go once all of them have imported what they need; or once one has failed to."""
    names = [os.path.join(directory, f"ready-w{n}") for n in range(WORKERS)]
    while not all(map(os.path.exists, names)) and not any(future.done() for future in futures):
        time.sleep(0.005)
    with open(os.path.join(directory, "go"), "w", encoding="ascii"):
        pass


def wait_for_go(directory: str, name: str) -> None:
    """Say that this worker is ready, and wait for the others."""
    with open(os.path.join(directory, f"ready-{name}"), "w", encoding="ascii"):
        pass
    while not os.path.exists(os.path.join(directory, "go")):
        time.sleep(0.001)


def installed(package: str) -> str | None:
    """Return the version of a package, None if it is not here."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# ---- where it was measured -------------------------------------------------------------------------------------------


def header(options: Options) -> dict[str, str]:
    """Return what a figure depends on: machine, kernel, filesystem, versions, date, load."""
    from overseer_lite.sqlite import engine

    peers = [f"{peer} {version}" for peer in PEERS if (version := installed(peer))]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{_cpu_model()}, {os.cpu_count()} CPUs ({len(os.sched_getaffinity(0))} allowed), {_memory()}",
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}, "
        f"{_filesystem(options.directory)}, CPython {platform.python_version()}",
        "versions": f"overseer-lite {installed('overseer-lite')}, {engine.NAME} with SQLite {engine.VERSION}",
        "peers": ", ".join(peers) or "none is installed (pip install -e '.[bench]')",
        "load at start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "kind": "quick: small numbers, one round" if options.quick else "full: at least three rounds side by side",
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def _filesystem(directory: str) -> str:
    """Return the type of the filesystem that a directory lies on."""
    found, best = "an unknown filesystem", -1
    path = os.path.realpath(directory)
    with contextlib.suppress(OSError), open("/proc/self/mounts", encoding="utf-8") as file:
        for line in file:
            _device, mount, kind = line.split()[:3]
            if os.path.commonpath([path, mount]) == mount and len(mount) > best:
                found, best = kind, len(mount)
    return found
