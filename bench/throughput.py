"""How many no-op jobs pass: ours, raw SQLite's and peers', in turn, at the same durability."""

from __future__ import annotations

import random
import time
from typing import Any

from bench import measure, peers, servers, workers
from bench.measure import Options, Plot, Reach, Report, Table

TABLE_ROWS = 100_000
#: Jobs for each peer, in a full run and in a quick one; few enough for its rate, which falls with the queue's length.
PEERS = {
    "huey": (10_000, 1_000),
    "litequeue": (2_000, 1_000),
    "persist-queue": (10_000, 1_000),
    "dbos": (1_000, 0),
    "procrastinate": (3_000, 0),
    "rq": (1_000, 0),
}
WAL_LIMIT_MIB = 64


def run(options: Options) -> Report:
    """Measure each at both durabilities."""
    jobs, echoes = options.scale(100_000, 8_000), options.scale(50_000, 5_000)
    here = {peer: sizes[options.quick] for peer, sizes in PEERS.items() if sizes[options.quick] and _is_here(peer)}
    tables, reach, figures, plots = [], [], {}, []
    for durability in ("normal", "full"):
        variants: dict[str, Any] = {
            "raw": lambda d=durability: raw(options, d),
            "noop": lambda d=durability: ours(options, "noop", jobs, d, "WARNING"),
            "echo": lambda d=durability: ours(options, "echo", echoes, d, "WARNING"),
            **{
                peer: lambda p=peer, n=number, d=durability: peer_rate(options, p, n, d)
                for peer, number in here.items()
            },
        }
        if durability == "full" and not options.quick:
            variants["logged"] = lambda: ours(options, "noop", jobs // 2, "full", "INFO")
        found = measure.side_by_side(variants, options.rounds)
        rates = {name: [each["rate"] for each in results] for name, results in found.items()}
        figures[durability] = found
        twice = {peer: sum(each["twice"] for each in found[peer]) for peer in here}
        best = max((p for p in here if not twice[p]), key=lambda peer: measure.median(rates[peer]), default=None)
        labels = {
            "raw": f"raw SQLite: one-row write transactions, one process, {TABLE_ROWS:,} rows",
            "noop": f"overseer_lite, {jobs:,} no-op jobs",
            "echo": f"overseer_lite, {echoes:,} jobs with args and a result, kept",
            "logged": f"overseer_lite, {jobs // 2:,} no-op jobs, workers log each (INFO) to a file",
            **{peer: f"{peer} {measure.installed(peer)}, {number:,} jobs" for peer, number in here.items()},
        }
        rows = [_row(labels[name], found[name], rates[name], rates, best) for name in variants]
        notes = [
            (
                "WAL: the log's largest size. jobs/s: from the first reservation to the last end. CPU: microseconds a job, "
                "of all processes together."
            ),
        ]
        notes += [
            f"{peer} handed {count} jobs out twice, to two processes: no queue for several, and not compared with."
            for peer, count in twice.items()
            if count
        ]
        tables.append(
            Table(
                f"No-op jobs, 4 workers with their runners, durability {durability}",
                (
                    "what",
                    "jobs/s",
                    "least .. most",
                    "to raw",
                    f"to {best}" if best else "to peers",
                    "WAL MiB",
                    "CPU us",
                ),
                rows,
                notes,
            )
        )
        least, goal = {"normal": (0.7, 1.0), "full": (2.0, 4.0)}[durability]
        reach.append(
            Reach(
                f"no-op jobs to raw SQLite, durability {durability}",
                measure.ratio(rates["noop"], rates["raw"]),
                least=least,
                goal=goal,
            )
        )
        if best:
            asked = f"with args and results, to the fastest durable peer ({best}), durability {durability}"
            reach.append(Reach(asked, measure.ratio(rates["echo"], rates[best]), least=3.0, goal=5.0))
        wal = max(each["wal_bytes"] for name in ("noop", "echo") for each in found[name]) / 2**20
        reach.append(Reach(f"the log's largest size, durability {durability}", wal, "MiB", most=WAL_LIMIT_MIB))
        plots.append(
            Plot(f"throughput-{durability}", f"Jobs per second, 4 worker processes, durability {durability}", "bars", "jobs/s (raw: transactions/s)", "",
                 {labels[name].partition(",")[0] if name not in ("noop", "echo", "logged") else labels[name]: measure.median(rates[name]) for name in variants})
        )  # fmt: skip
    return Report(
        "throughput",
        "each table at one setting, peers and raw at the same: normal is synchronous=NORMAL, full synchronous=FULL; WAL "
        "and autocheckpoint 1000 everywhere (dbos keeps its rollback journal). Ours at full leaves only beats unsynced.",
        tables,
        reach,
        figures,
        plots,
    )


def _is_here(peer: str) -> bool:
    return servers.here(peer) if peer in ("procrastinate", "rq") else measure.installed(peer) is not None


def _row(
    label: str, found: list[Any], rates: list[float], all_rates: dict[str, list[float]], best: str | None
) -> list[str]:
    wal = [each["wal_bytes"] for each in found if "wal_bytes" in each]
    cpu = [each["cpu_us"] for each in found if "cpu_us" in each]
    return [
        label,
        measure.number(measure.median(rates)),
        measure.spread(rates),
        measure.number(measure.ratio(rates, all_rates["raw"])),
        measure.number(measure.ratio(rates, all_rates[best])) if best else "-",
        f"{max(wal) / 2**20:.1f}" if wal else "-",
        f"{measure.median(cpu):.0f}" if cpu else "-",
    ]


def ours(options: Options, kind: str, jobs: int, durability: str, log_level: str) -> dict[str, float]:
    """Have four workers do so many jobs; return the rate, the log's maximum and the CPU's microseconds a job."""
    with measure.place(options) as directory:
        path = directory + "/jobs.db"
        with workers.make_store(path, durability) as store:
            graph = workers.jobs_of(kind, jobs, args=kind == "echo")
            store.transact_graph(graph)
            used = measure.child(
                workers.drain, path=path, run=graph.id, workers=4, durability=durability, log_level=log_level,
                log_file=directory + "/log",
            )  # fmt: skip
        found = workers.history(path)
    return {
        "rate": jobs / found["span_s"],
        "wal_bytes": used["wal_bytes"],
        "cpu_us": used["cpu_s"] / jobs * 1e6,
        "wall_s": used["wall_s"],
    }


def raw(options: Options, durability: str) -> dict[str, float]:
    """Return how many one-row write transactions a second one process makes."""
    with measure.place(options) as directory:
        return measure.child(raw_rate, path=directory + "/raw.db", synchronous=durability, seconds=options.scale(3, 1))


def raw_rate(path: str, synchronous: str, seconds: float) -> dict[str, float]:
    """BEGIN IMMEDIATE, a one-row UPDATE by key, COMMIT; for a process of its own."""
    from overseer_lite.sqlite import engine

    wal = measure.WalMaximum(path)
    connection = engine.Connection(path)
    for pragma in ("journal_mode = wal", f"synchronous = {synchronous}", "wal_autocheckpoint = 1000"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("CREATE TABLE t (key INTEGER PRIMARY KEY, number INTEGER, text TEXT)")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES (?, 0, ?)", ((n, "x" * 50) for n in range(TABLE_ROWS)))
    connection.execute("COMMIT")
    done, begun = 0, time.perf_counter()
    while (now := time.perf_counter()) - begun < seconds:
        for _ in range(50):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE t SET number = number + 1 WHERE key = ?", (random.randrange(TABLE_ROWS),))
            connection.execute("COMMIT")
        done += 50
        wal.look()
    return {"rate": done / (now - begun), "wal_bytes": wal.bytes}


def peer_rate(options: Options, peer: str, jobs: int, durability: str) -> dict[str, Any]:
    """Return a peer's rate."""
    with measure.place(options) as directory:
        of = servers if peer in ("procrastinate", "rq") else peers
        return of.rate(peer, directory, jobs, durability)
