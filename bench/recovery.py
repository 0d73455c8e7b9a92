"""SIGKILL to the next start of that job: of a worker and of a runner, with another worker idle and with none."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from bench import measure, workers
from bench.measure import Options, Plot, Reach, Report, Table

CASES = [("worker", 2, 1), ("worker", 1, 1), ("worker", 1, 0), ("runner", 2, 0), ("runner", 1, 0)]


def run(options: Options) -> Report:
    """Kill the one and the other, in blocks that take turns."""
    kills, blocks = (3, 1) if options.quick else (25, 4)
    found = measure.side_by_side(
        {case: lambda case=case: measure_kills(options, *case, kills) for case in CASES}, blocks
    )
    rows, reach, series, figures = [], [], {}, {}
    for (victim, number, spares), parts in found.items():
        waits = [each for part in parts for each in part]
        beside = ("another idle" if number == 2 else "none idle") + (", a spare" if spares else "")
        label = f"{victim} killed, {beside}"
        shown = [measure.number(measure.quantile(waits, share)) for share in (0.5, 0.9, 0.99, 1.0)]
        rows.append([label, str(len(waits)), *shown])
        series[label] = figures[label] = waits
        if victim == "worker" and spares:
            limit, goal = (20.0, 12.0) if number == 2 else (100.0, None)
            reach += [
                Reach(f"{label}: p50", measure.quantile(waits, 0.5), "ms", most=limit, goal=goal),
                Reach(f"{label}: p99", measure.quantile(waits, 0.99), "ms", most=250.0),
            ]
    return Report(
        "recovery",
        "full. Heartbeats of a minute: no silence takes part.",
        [
            Table(
                "From SIGKILL to the first line of the job's next attempt",
                ("ms", "kills", "p50", "p90", "p99", "most"),
                rows,
                [
                    "`a spare`: a spare worker stands by, as by default from a second after the last death; else none is kept."
                ],
            )
        ],
        reach,
        figures,
        [Plot("recovery", "From SIGKILL to the job's next start", "ecdf", "ms", "share", series, True)],
    )


def measure_kills(options: Options, victim: str, number: int, spares: int, kills: int) -> list[float]:
    """Have a job run, kill its worker or its runner, wait until it runs again; return the milliseconds of each."""
    waits = []
    with measure.place(options) as directory:
        path, file = directory + "/jobs.db", directory + "/stamps"
        with workers.make_store(path) as store, workers.Crew(path, number, "full", spares=spares) as crew:
            for n in range(kills):
                crew.await_idle(store, number)
                crew.await_spares()
                _submit(store, f"k{n}", file)
                _at, runner, worker, _name, _attempt = workers.until(lambda n=n: _stamp(file, f"k{n}", 1))
                time.sleep(0.03)  # what led here has settled; the job stands in the middle
                killed = time.monotonic_ns()
                os.kill(worker if victim == "worker" else runner, signal.SIGKILL)
                again = workers.until(lambda n=n: _stamp(file, f"k{n}", 2), pause_s=0.005)
                waits.append((again[0] - killed) / 1e6)
                workers.until(lambda n=n: store.counts().finished == n + 1)
    return waits


def _submit(store: Any, name: str, file: str) -> None:
    from overseer_lite.graph import Graph

    graph = Graph()
    graph.add("first_hangs", name, args={"file": file})
    store.transact_graph(graph)


def _stamp(file: str, name: str, attempt: int) -> Any:
    return next((each for each in workers.stamps(file) if each[3] == name and each[4] == attempt), None)
