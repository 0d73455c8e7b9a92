"""A million jobs with a million dependencies: stored from Python and from JSON Lines, beside the bare rows."""

from __future__ import annotations

import json
import resource
import time

from bench import measure, rows, workers
from bench.measure import Options, Reach, Report, Table


def run(options: Options) -> Report:
    """Store them each way in turn, every time into a new store."""
    count = options.scale(1_000_000, 20_000)

    def variant(function):
        def once():
            with measure.place(options) as directory:
                return measure.child(function, directory=directory, count=count)

        return once

    found = measure.side_by_side({f.__name__: variant(f) for f in (bare, graph, json_lines)}, options.rounds)
    stored = {name: [each["stored_s"] for each in results] for name, results in found.items()}
    whole = {name: [each["stored_s"] + each["made_s"] for each in results] for name, results in found.items()}
    labels = {
        "bare": "the same rows into the same tables, executemany, one transaction",
        "graph": "Graph.add for each job, then transact_graph",
        "json_lines": "JSON Lines, as `submit FILE.jsonl` reads them",
    }
    told = [
        [
            labels[name],
            measure.number(measure.median([each["made_s"] for each in results])),
            measure.number(measure.median(stored[name])),
            measure.number(measure.ratio(stored["bare"], stored[name])),
            measure.number(measure.ratio(stored["bare"], whole[name])),
            f"{max(each['peak_mib'] for each in results):.0f}",
        ]
        for name, results in found.items()
    ]
    reach = [
        Reach(
            "transact_graph (validated, stored, log cut) to the bare rows",
            measure.ratio(stored["bare"], stored["graph"]),
            least=0.5,
        ),
        Reach("seconds in one transaction", measure.median(stored["graph"]), "s", most=30.0),
        Reach("peak memory, from Python", max(each["peak_mib"] for each in found["graph"]), "MiB", most=1024.0),
        Reach(
            "peak memory, from JSON Lines", max(each["peak_mib"] for each in found["json_lines"]), "MiB", most=1024.0
        ),
    ]
    return Report(
        "submit",
        "full, all three; autocheckpoint 1000.",
        [
            Table(
                f"{count:,} jobs, {count - 1:,} dependencies: a chain",
                ("how", "s, made", "s, stored", "bare to stored", "bare to made and stored", "peak MiB"),
                told,
                [("Peak: the largest resident size of the process that submits. Bare rows come from a generator and are "
                 "compared with nothing that is in the store.")],
            )
        ],
        reach,
        found,
    )  # fmt: skip


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bare(directory: str, count: int) -> dict[str, float]:
    """Write the rows as they are."""
    from overseer_lite.sqlite.connection import SQL

    store = workers.make_store(directory + "/jobs.db")
    connection = store.database.open()
    row = rows.row_of(SQL["add_job"])
    template = row(
        key="key", id="id", waiting_for="waits", depends="waits", awaited="awaited", priority=0, run=1, type=1
    )
    places = {
        name: [n for n, each in enumerate(template) if each == name] for name in ("key", "id", "waits", "awaited")
    }

    def chain():
        values = list(template)
        for n in range(1, count + 1):
            for name, value in (("key", n), ("id", f"r/j{n}"), ("waits", int(n > 1)), ("awaited", int(n < count))):
                for each in places[name]:
                    values[each] = value
            yield tuple(values)

    begun = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(SQL["add_run"], ("r", None, count, 0)).fetchone()
    connection.execute(SQL["add_type"], ("noop",)).fetchone()
    connection.executemany(SQL["add_job"], chain())
    connection.executemany(SQL["add_dependency"], ((n, 0, n - 1, 0) for n in range(2, count + 1)))
    connection.execute("COMMIT")
    return {"made_s": 0.0, "stored_s": time.perf_counter() - begun, "peak_mib": _peak_mib()}


def graph(directory: str, count: int) -> dict[str, float]:
    """Build a graph, then store it."""
    from overseer_lite.graph import Graph

    store = workers.make_store(directory + "/jobs.db")
    begun = time.perf_counter()
    chain = Graph(id="r")
    before = []
    for n in range(1, count + 1):
        before = [chain.add("noop", f"j{n}", dependencies=before)]
    made = time.perf_counter()
    store.transact_graph(chain)
    return {"made_s": made - begun, "stored_s": time.perf_counter() - made, "peak_mib": _peak_mib()}


def json_lines(directory: str, count: int) -> dict[str, float]:
    """Read JSON Lines from a file, then store them."""
    from overseer_lite.graph import Graph

    path = directory + "/jobs.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for n in range(1, count + 1):
            needs = [f"r/j{n - 1}"] if n > 1 else []
            file.write(json.dumps({"id": f"r/j{n}", "type": "noop", "dependencies": needs}) + "\n")
    store = workers.make_store(directory + "/jobs.db")
    begun = time.perf_counter()
    with open(path, encoding="utf-8") as file:
        chain = Graph.from_lines(file, path)
    made = time.perf_counter()
    store.transact_graph(chain)
    return {"made_s": made - begun, "stored_s": time.perf_counter() - made, "peak_mib": _peak_mib()}
