"""Stores, and workers on them, as the benches start them: real supervisors, workers and runners."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from bench.measure import APP, ROOT, WalMaximum
from overseer_lite.config import load
from overseer_lite.graph import Graph
from overseer_lite.liveness import read_stat
from overseer_lite.sqlite import engine
from overseer_lite.sqlite.store import SqliteStore

PATIENCE_S: Final = 60.0


def clean_env(settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return the environment without settings of ours but those given."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("OVERSEER_LITE_")}
    return {**clean, **{f"OVERSEER_LITE_{key.upper()}": str(value) for key, value in (settings or {}).items()}}


def make_store(path: str, durability: str = "full") -> SqliteStore:
    """Return a new store."""
    store = SqliteStore(path, durability=durability)
    store.install()
    return store


def jobs_of(kind: str, count: int, args: bool = False, id: str | None = None) -> Graph:
    """Return a graph of so many jobs of one type that depend on nothing."""
    graph = Graph(id=id)
    for n in range(count):
        graph.add(kind, f"j{n}", args={"n": n} if args else None)
    return graph


def drain(
    path: str,
    run: str | None,
    workers: int,
    durability: str,
    log_level: str = "WARNING",
    log_file: str | None = None,
    spares: int = 1,
) -> dict[str, float]:
    """Have workers do all there is to do; return the seconds, the CPU's seconds and the log's maximum.

    For a process of its own: it becomes the supervisor.
    """
    from overseer_lite.supervisor import Plan, supervise

    wal = WalMaximum(path)
    settings = load({"durability": durability, "spares": spares})
    plan = Plan(path, APP, workers, run=run, drain=True, log_level=log_level, log_file=log_file, settings=settings)
    begun = time.perf_counter()
    code = supervise(plan, wal.look, 0.02)
    wall_s = time.perf_counter() - begun
    if code != 0:
        raise RuntimeError(f"the supervisor ended with {code}")
    wal.look()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
    return {"wall_s": wall_s, "cpu_s": sum(u.ru_utime + u.ru_stime for u in used), "wal_bytes": wal.bytes}


def history(path: str) -> dict[str, Any]:
    """Return what the history says of a store that nobody uses: first reservation, last end, jobs of each worker.

    Raises:
        RuntimeError: A job did not finish at its first attempt: a figure for that would be none.
    """
    connection = engine.Connection(path)
    try:
        first, last, attempts = connection.execute(
            "SELECT min(reserved_wall_us), max(ended_wall_us), count(*) FROM attempts WHERE outcome = 0"
        ).fetchone()
        jobs, bad = connection.execute("SELECT count(*), sum(status <> 2 OR attempt <> 1) FROM jobs").fetchone()
        if bad or attempts != jobs:
            raise RuntimeError(f"of {jobs} jobs {bad} did not finish at their first attempt; {attempts} attempts")
        shares = connection.execute(
            "SELECT worker, count(*), min(reserved_wall_us), max(ended_wall_us) FROM attempts GROUP BY worker"
        ).fetchall()
    finally:
        connection.close()
    return {"span_s": (last - first) / 1e6, "jobs": jobs, "shares": shares}


class Crew:
    """A supervisor started by the command line, with its workers; stopped in order at the end of the block."""

    def __init__(
        self,
        path: str,
        workers: int,
        durability: str,
        *,
        app: str = APP,
        env: Mapping[str, str] | None = None,
        spares: int = 1,
    ):
        self._processes = 1 + 2 * (workers + spares)
        self._log = open(path + ".log", "ab")  # noqa: SIM115 - as long as the crew
        settings = {"db": path, "heartbeat_interval_s": 60, "durability": durability, "spares": spares}
        self.begun_ns = time.monotonic_ns()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "overseer_lite", "worker", app, "-n", str(workers)],
            cwd=ROOT,
            env={**clean_env(settings), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self._log.close()

    def await_idle(self, store: SqliteStore, workers: int) -> None:
        """Wait until so many workers are there, each with its runner, and none has anything to do."""
        until(lambda: sum(1 for each in store.workers() if each.runner_pid) == workers and not store.counts().started)
        time.sleep(0.05)  # their first look for work, and what a start leaves behind

    def await_spares(self) -> None:
        """Wait until the spares stand by, and nobody is starting any more: no process here has used any CPU just now."""
        until(lambda: len(self.pids()) == self._processes)
        until(lambda: self._ticks() == (time.sleep(0.05), self._ticks())[1])

    def _ticks(self) -> list[int]:
        stats = [read_stat(pid) for pid in self.pids()]
        return [stat.cpu_ticks for stat in stats if stat is not None]

    def pids(self) -> list[int]:
        """Return the supervisor's pid and those of all below it."""
        return tree(self.process.pid)


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{task}/children", encoding="ascii") as file:
                    found += map(int, file.read().split())
    return found


def cpu_ns(pids: Sequence[int]) -> int:
    """Return the CPU time that processes have used so far, to the nanosecond."""
    total = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
    return total


def until(condition, patience_s: float = PATIENCE_S, pause_s: float = 0.002):
    """Wait for a condition; return what it said, once that is true."""
    deadline = time.monotonic() + patience_s
    while not (said := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("what a bench waited for did not happen")
        time.sleep(pause_s)
    return said


def stamps(path: str) -> Iterator[tuple[int, int, int, str, int]]:
    """Yield what `stamp` of the app wrote: moment, pid, parent's pid, job's name, attempt."""
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        for line in file:
            at, pid, parent, name, attempt = line.split()
            yield int(at), int(pid), int(parent), name, int(attempt)


def counts_between(path: str, begun_us: int, ended_us: int) -> list[int]:
    """Return how many attempts of each worker ended between two moments, in a store that nobody uses."""
    connection = engine.Connection(path)
    try:
        rows = connection.execute(
            "SELECT count(*) FROM attempts WHERE ended_wall_us BETWEEN ? AND ? GROUP BY worker", (begun_us, ended_us)
        ).fetchall()
    finally:
        connection.close()
    return [count for (count,) in rows]
