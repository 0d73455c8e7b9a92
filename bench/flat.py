"""Whether an exchange costs the same however much is queued, delayed, or of types the worker lacks."""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

from bench import measure, workers
from bench.measure import Options, Plot, Reach, Report, Table
from overseer_lite.graph import Graph
from overseer_lite.job import Evidence, Outcome, Settlement

DEPENDENTS = 10_000


def run(options: Options) -> Report:
    """Make the stores, then do exchanges on all of them in turn."""
    sizes = [10_000, 100_000] if options.quick else [10_000, 100_000, 1_000_000]
    sizes += [10_000_000] if options.large else []
    million = options.scale(1_000_000, 50_000)
    with measure.place(options) as directory:
        found = measure.child(
            exchanges,
            directory=directory,
            sizes=sizes,
            million=million,
            count=options.scale(200, 50),
            rounds=options.scale(5, 3),
        )
    with measure.place(options) as directory:
        released = [measure.child(release, directory=f"{directory}/{n}") for n in range(options.rounds)]
    base = found["queued 10,000"]
    rows = []
    for label, blocks in found.items():
        medians = [measure.median(block) for block in blocks["one"]]
        groups = [measure.median(block) / 32 for block in blocks["group"]]
        beside = [measure.median(block) for block in base["one"]]
        flat = [each for block in blocks["one"] for each in block]
        rows.append(
            [label, measure.number(measure.median(medians)), measure.number(measure.quantile(flat, 0.99)),
             measure.number(measure.median(groups)), measure.number(measure.ratio(medians, beside))]
        )  # fmt: skip
    ratios = {label: measure.ratio(_medians(blocks), _medians(base)) for label, blocks in found.items()}
    largest = f"queued {sizes[-1]:,}"
    stalls = [each["stall_ms"] for each in released]
    reach = [
        Reach(f"{largest} to queued 10,000", ratios[largest], most=1.3),
        *(Reach(f"{label} to 10,000 alone", ratios[label], most=1.3) for label in found if label.startswith("behind")),
        Reach(
            f"longest wait of another writer while {DEPENDENTS:,} dependents are released",
            measure.median(stalls),
            "ms",
            most=100.0,
        ),
    ]
    tables = [
        Table(
            "One exchange: settle one job, reserve the next, in one transaction",
            ("what the store holds", "us, median", "us, p99", "us a job, group of 32", "to 10,000"),
            rows,
            ["One process alone; the gate, checks and history included, the runner not."],
        ),
        Table(
            f"{DEPENDENTS:,} dependents released in one settling",
            ("what", "ms, median", "least .. most"),
            [
                [
                    "the exchange itself",
                    measure.number(measure.median([e["exchange_ms"] for e in released])),
                    measure.spread([e["exchange_ms"] for e in released]),
                ],
                [
                    "longest wait of another writer meanwhile",
                    measure.number(measure.median(stalls)),
                    measure.spread(stalls),
                ],
            ],
        ),
    ]
    points = [(size, measure.median(_medians(found[f"queued {size:,}"]))) for size in sizes]
    return Report(
        "flat",
        "normal, so that the disk does not hide what is asked; one CPU is used.",
        tables,
        reach,
        {"exchange_us": found, "release": released},
        [
            Plot(
                "flat",
                "One exchange, by what is queued",
                "lines",
                "jobs queued",
                "us",
                {"settle one, reserve one": points},
                True,
            )
        ],
    )


def _medians(blocks: dict[str, Any]) -> list[float]:
    return [measure.median(block) for block in blocks["one"]]


def exchanges(directory: str, sizes: list[int], million: int, count: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Return microseconds of exchanges by store, in blocks of `count`; for a process of its own."""
    stores: dict[str, Any] = {}
    for size in sizes:
        stores[f"queued {size:,}"] = _store(f"{directory}/q{size}.db", [("noop", size, 0.0)])
    stores[f"behind {million:,} delayed"] = _store(
        f"{directory}/d.db", [("noop", million, 86_400.0), ("noop", 10_000, 0.0)]
    )
    stores[f"behind {million:,} of types the worker lacks"] = _store(
        f"{directory}/t.db", [("other", million, 0.0), ("noop", 10_000, 0.0)]
    )
    held: dict[str, Any] = {}
    found: dict[str, dict[str, Any]] = {label: {"one": [], "group": []} for label in stores}
    for _ in range(rounds):
        for (label, store), (kind, group) in itertools.product(stores.items(), (("one", 1), ("group", 32))):
            _turn(store, held, label, group)  # the pages that the last one's turn has put out of the caches
            found[label][kind].append([_turn(store, held, label, group) for _ in range(count // group or 3)])
    return found


def _store(path: str, parts: list[tuple[str, int, float]]) -> Any:
    store = workers.make_store(path, "normal")
    for kind, size, delay_s in parts:
        for begin in range(0, size, 1_000_000):
            graph = Graph()
            for n in range(begin, min(size, begin + 1_000_000)):
                graph.add(kind, f"j{n}", delay_s=delay_s)
            store.transact_graph(graph)
    return store


def _turn(store: Any, held: dict[str, Any], label: str, group: int) -> float:
    """Settle what is held and reserve as much again; return the microseconds."""
    evidence = Evidence(began_ago_s=0.0001, ended_ago_s=0.00005)
    settlements = [Settlement(job.attempt, Outcome.FINISHED, evidence=evidence) for job in held.get(label, ())]
    begun = time.perf_counter_ns()
    exchange = store.exchange("bench", settlements, group, ["noop"])
    took_us = (time.perf_counter_ns() - begun) / 1e3
    held[label] = exchange.jobs
    if len(exchange.jobs) != group:
        raise RuntimeError(f"{label}: {len(exchange.jobs)} jobs where {group} were wanted")
    return took_us


def release(directory: str) -> dict[str, float]:
    """Finish a job that 10,000 wait for, while another process writes; return the milliseconds of both."""
    import subprocess
    import sys

    os.mkdir(directory)
    path = directory + "/jobs.db"
    store = workers.make_store(path, "normal")
    graph = Graph()
    first = graph.add("noop", "first")
    for n in range(DEPENDENTS):
        graph.add("noop", f"d{n}", dependencies=[first])
    store.transact_graph(graph)
    (job,) = store.exchange("bench", [], 1, ["noop"]).jobs
    code = f"from bench.flat import other_writer; other_writer({path!r})"
    other = subprocess.Popen(
        [sys.executable, "-c", code], cwd=measure.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdin is not None
    assert other.stdout is not None
    other.stdout.readline()
    time.sleep(0.1)
    begun = time.perf_counter()
    store.exchange("bench", [Settlement(job.attempt, Outcome.FINISHED)], 1, ["noop"])
    took_ms = (time.perf_counter() - begun) * 1e3
    time.sleep(0.1)
    other.stdin.close()
    return {"exchange_ms": took_ms, "stall_ms": float(other.stdout.readline()), "other": other.wait()}


def other_writer(path: str) -> None:
    """Write again and again until standard input ends; print the longest milliseconds that one write took."""
    import select
    import sys

    from overseer_lite.sqlite.store import SqliteStore

    store = SqliteStore(path, durability="normal")
    store.beat("nobody")
    print("ready", flush=True)
    longest = 0.0
    while not select.select([sys.stdin], [], [], 0)[0]:
        begun = time.perf_counter()
        store.beat("nobody")
        longest = max(longest, time.perf_counter() - begun)
        time.sleep(0.0005)
    print(longest * 1e3, flush=True)
