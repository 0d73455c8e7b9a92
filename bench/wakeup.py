"""How soon an idle worker starts: from the commit of a submit to the handler's first line; and what idling costs."""

from __future__ import annotations

import time
from typing import Any

from bench import measure, workers
from bench.measure import Options, Plot, Reach, Report, Table

PAUSE_S = 0.02  # between two submits: everybody is asleep again


def run(options: Options) -> Report:
    """Measure both durabilities, in blocks that take turns."""
    count = options.scale(600, 20)  # each block is long enough to meet the log being moved, two or three times
    blocks = 1 if options.quick else 2
    found = measure.side_by_side(
        {durability: lambda d=durability: once(options, d, count // blocks) for durability in ("normal", "full")},
        blocks,
    )
    rows, series, reach, figures = [], {}, [], {}
    for durability, parts in found.items():
        waits = [each for part in parts for each in part["from_commit_ms"]]
        calls = [each for part in parts for each in part["from_call_ms"]]
        figures[durability] = {"from_commit_ms": waits, "from_call_ms": calls}
        series[durability] = waits
        for label, values in (("commit to first line", waits), ("call of submit to first line", calls)):
            rows.append([f"{label}, durability {durability}", str(len(values)), *_quantiles(values)])
        reach += [
            Reach(f"p50, durability {durability}", measure.quantile(waits, 0.5), "ms", most=1.0),
            Reach(f"p99, durability {durability}", measure.quantile(waits, 0.99), "ms", most=5.0),
        ]
    idle = [each for parts in found.values() for part in parts for each in part["idle_percent"]]
    figures["idle_percent"] = idle
    reach.append(
        Reach("CPU of idle `worker -n 4`, all eleven processes", measure.median(idle), "% of a core", most=0.5)
    )
    return Report(
        "wakeup",
        "as said in each line; at full the reservation is synced before the handler hears of it.",
        [Table("One job submitted to four idle workers", ("ms", "of", "p50", "p90", "p99", "most"), rows)],
        reach,
        figures,
        [
            Plot(
                "wakeup", "From the commit of a submit to the handler's first line", "ecdf", "ms", "share", series, True
            )
        ],
    )


def _quantiles(values: list[float]) -> list[str]:
    return [measure.number(measure.quantile(values, share)) for share in (0.5, 0.9, 0.99, 1.0)]


def once(options: Options, durability: str, count: int) -> dict[str, list[float]]:
    """Start four workers, measure what they use while idle, then submit one job after the other."""
    with measure.place(options) as directory:
        path = directory + "/jobs.db"
        with workers.make_store(path, durability) as store, workers.Crew(path, 4, durability) as crew:
            crew.await_idle(store, 4)
            crew.await_spares()
            idle = _idle_percent(crew, options.scale(5, 1))
            committed = _note_commits()
            waits, calls = [], []
            for _ in range(count):
                graph = workers.jobs_of("moment", 1)
                called = time.monotonic_ns()
                store.transact_graph(graph)
                job_id = graph.job_id(graph.jobs[0])
                time.sleep(PAUSE_S)
                began = workers.until(lambda job_id=job_id: (store.job_info(job_id) or _none()).result)
                waits.append((began - committed[-1]) / 1e6)
                calls.append((began - called) / 1e6)
    return {"from_commit_ms": waits, "from_call_ms": calls, "idle_percent": [idle]}


def _none() -> Any:
    raise AssertionError("a stored job is known")


def _idle_percent(crew: workers.Crew, seconds: float) -> float:
    pids = crew.pids()
    before, begun = workers.cpu_ns(pids), time.monotonic_ns()
    time.sleep(seconds)
    return (workers.cpu_ns(pids) - before) / (time.monotonic_ns() - begun) * 100


def _note_commits() -> list[int]:
    """Have this process note the moment of each commit of a graph, where a test could stop it: before it rings."""
    from overseer_lite import failpoints

    moments: list[int] = []

    def hit(point: str) -> None:
        if point == "submit.after_commit":
            moments.append(time.monotonic_ns())

    failpoints.hit = hit
    return moments
