"""Whether each of four busy workers gets its share, and how long one waits for the writer gate."""

from __future__ import annotations

import json
import os

from bench import measure, workers
from bench.measure import BOOTSTRAP, Options, Reach, Report, Table
from overseer_lite.graph import Graph


def run(options: Options) -> Report:
    """Keep four workers busy with no-op jobs and with jobs of a millisecond, in turn."""
    loads = {
        "no-op jobs": ("noop", options.scale(60_000, 8_000), None),
        "jobs of 1 ms CPU": ("spin", options.scale(10_000, 1_500), {"ms": 1}),
    }
    found = measure.side_by_side(
        {label: lambda load=load: once(options, *load) for label, load in loads.items()}, options.rounds
    )
    rows, reach = [], []
    for label, results in found.items():
        least = [each["least_share"] for each in results]
        waits = [each["gate_ms"] for each in results]
        rows.append(
            [
                f"{loads[label][1]:,} {label}",
                measure.number(measure.median(least)),
                measure.spread(least),
                measure.number(max(waits)),
            ]
        )
        reach += [
            Reach(f"share of the least busy of four, {label}", measure.median(least), least=0.8),
            Reach(f"longest wait for the gate, {label}", max(waits), "ms", most=100.0),
        ]
    return Report(
        "fairness",
        "full.",
        [
            Table(
                "Four workers, always something ready",
                ("load", "least share, of an equal one", "least .. most", "longest wait for the gate, ms"),
                rows,
                [("Counted while all four were at work, from the last one's first job to the first one's last. "
                 "Waits are those of all workers in all rounds, as each says at its end.")],
            )
        ],
        reach,
        found,
    )  # fmt: skip


def once(options: Options, kind: str, count: int, args: dict[str, int] | None) -> dict[str, float]:
    """Have four workers do the jobs; return the least one's share and the longest wait for the gate."""
    with measure.place(options) as directory:
        path, out = directory + "/jobs.db", directory + "/out"
        os.mkdir(out)
        with workers.make_store(path) as store:
            graph = Graph()
            for n in range(count):
                graph.add(kind, f"j{n}", args=args)
            store.transact_graph(graph)
            probe = {"BENCH_PROBE": "gate", "BENCH_OUT": out, "PYTHONPATH": BOOTSTRAP}
            measure.child(workers.drain, env=probe, path=path, run=graph.id, workers=4, durability="full", spares=0)
        found = workers.history(path)
        begun, ended = max(each[2] for each in found["shares"]), min(each[3] for each in found["shares"])
        counts = workers.counts_between(path, begun, ended)
        waits = []
        for name in os.listdir(out):
            if name.startswith("worker"):
                with open(os.path.join(out, name), encoding="ascii") as file:
                    waits.append(json.load(file))
    if len(waits) != 4 or len(counts) != 4:
        raise RuntimeError(
            f"{len(counts)} workers did something, {len(waits)} said how long they waited; four were meant to"
        )
    return {"least_share": min(counts) * 4 / sum(counts), "gate_ms": max(waits) * 1e3}
