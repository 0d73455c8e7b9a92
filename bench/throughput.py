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
SAID = (
    "Per second: from the first reservation to the last end, 4 workers with their runners. WAL: the log's largest size. "
    "CPU: microseconds a job, of all processes together."
)


def run(options: Options) -> Report:
    """Measure ours beside raw SQLite, then ours beside the peers; each at both durabilities."""
    tables: list[Table] = []
    reach: list[Reach] = []
    figures: dict[str, Any] = {}
    plots: list[Plot] = []
    for durability in ("normal", "full"):
        labels, found = _beside_raw(options, durability)
        figures[f"raw, {durability}"] = found
        rates = _rates(found)
        tables.append(_table(f"Beside raw SQLite, durability {durability}", labels, found, "raw", []))
        least, goal = {"normal": (0.7, 1.0), "full": (2.0, 4.0)}[durability]
        asked = f"no-op jobs to raw SQLite, durability {durability}"
        reach.append(Reach(asked, measure.ratio(rates["noop"], rates["raw"]), least=least, goal=goal))
        wal = max(each["wal_bytes"] for each in found["noop"]) / 2**20
        reach.append(Reach(f"the log's largest size, durability {durability}", wal, "MiB", most=WAL_LIMIT_MIB))
        bars = {labels[name]: measure.median(rates[name]) for name in found}

        labels, found = _beside_peers(options, durability)
        figures[f"peers, {durability}"] = found
        rates = _rates(found)
        best, notes = _fastest(found)
        tables.append(_table(f"Beside peers, 4 processes each, durability {durability}", labels, found, best, notes))
        if best:
            asked = f"with args and results, to the fastest durable peer ({best}), durability {durability}"
            reach.append(Reach(asked, measure.ratio(rates["echo"], rates[best]), least=3.0, goal=5.0))
        bars |= {labels[name]: measure.median(rates[name]) for name in found}
        title = f"Jobs per second (raw: transactions), 4 worker processes, durability {durability}"
        plots.append(Plot(f"throughput-{durability}", title, "bars", "per second", "", bars))
    return Report(
        "throughput",
        "each table at one setting, peers and raw at the same: normal is synchronous=NORMAL, full synchronous=FULL; WAL "
        "and autocheckpoint 1000 everywhere. dbos keeps its rollback journal; PostgreSQL: synchronous_commit off, on; "
        "Redis: its log synced each second, always. Ours at full leaves only beats unsynced.",
        tables,
        reach,
        figures,
        plots,
    )


def _beside_raw(options: Options, durability: str) -> tuple[dict[str, str], dict[str, list[Any]]]:
    jobs = options.scale(100_000, 8_000)
    labels = {
        "raw": f"raw: one-row write transactions, one process, {TABLE_ROWS:,} rows",
        "noop": f"overseer_lite, {jobs:,} no-op jobs",
        "logged": f"overseer_lite, {jobs // 2:,} no-op jobs, workers log each (INFO)",
    }
    variants = {
        "raw": lambda: raw(options, durability),
        "noop": lambda: ours(options, "noop", jobs, durability, "WARNING"),
        "logged": lambda: ours(options, "noop", jobs // 2, durability, "INFO"),
    }
    if options.quick:
        del variants["logged"]
    return labels, measure.side_by_side(variants, 1 if options.quick else 5)


def _beside_peers(options: Options, durability: str) -> tuple[dict[str, str], dict[str, list[Any]]]:
    jobs = options.scale(50_000, 5_000)
    here = {peer: sizes[options.quick] for peer, sizes in PEERS.items() if sizes[options.quick] and _is_here(peer)}
    labels = {
        "echo": f"overseer_lite, {jobs:,} jobs with args and a result, kept",
        **{peer: f"{peer} {measure.installed(peer)}, {number:,} jobs" for peer, number in here.items()},
    }
    variants: dict[str, Any] = {"echo": lambda: ours(options, "echo", jobs, durability, "WARNING")}
    for peer, number in here.items():
        variants[peer] = lambda peer=peer, number=number: peer_rate(options, peer, number, durability)
    return labels, measure.side_by_side(variants, options.rounds)


def _is_here(peer: str) -> bool:
    return servers.here(peer) if peer in ("procrastinate", "rq") else measure.installed(peer) is not None


def _rates(found: dict[str, list[Any]]) -> dict[str, list[float]]:
    return {name: [each["rate"] for each in results] for name, results in found.items()}


def _fastest(found: dict[str, list[Any]]) -> tuple[str | None, list[str]]:
    """Return the fastest peer that gave every job to one process alone, and what is to be said of the others."""
    twice = {peer: sum(each["twice"] for each in results) for peer, results in found.items() if peer != "echo"}
    rates = _rates(found)
    best = max((peer for peer in twice if not twice[peer]), key=lambda peer: measure.median(rates[peer]), default=None)
    return best, [
        f"{peer} handed {count:,} jobs out twice, to two processes: no queue for several, and not compared with."
        for peer, count in twice.items()
        if count
    ]


def _table(
    title: str, labels: dict[str, str], found: dict[str, list[Any]], base: str | None, notes: list[str]
) -> Table:
    rates = _rates(found)
    rows = []
    for name, results in found.items():
        wal = [each["wal_bytes"] for each in results if "wal_bytes" in each]
        cpu = [each["cpu_us"] for each in results if "cpu_us" in each]
        rows.append(
            [
                labels[name],
                measure.number(measure.median(rates[name])),
                measure.spread(rates[name]),
                measure.number(measure.ratio(rates[name], rates[base])) if base else "-",
                f"{max(wal) / 2**20:.1f}" if wal else "-",
                f"{measure.median(cpu):.0f}" if cpu else "-",
            ]
        )
    columns = ("what", "per second", "least .. most", f"to {base}" if base else "-", "WAL MiB", "CPU us")
    return Table(title, columns, rows, [SAID, *notes])


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
