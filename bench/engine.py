"""apsw or pysqlite3: the statements of one exchange through each, and what importing each takes.

Each in a process of its own: two copies of SQLite in one break each other's locks. So nothing of overseer_lite's store
is imported here, which would bring apsw; its SQL is read as text.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from bench import measure, rows
from bench.measure import Options, Reach, Report, Table

JOBS = 100_000
MODULES = {"apsw": "apsw", "pysqlite3": "pysqlite3.dbapi2"}


def run(options: Options) -> Report:
    """Measure both engines, group of one and of thirty-two, in turn."""
    engines = [name for name in MODULES if measure.installed(name)]
    counts = {1: options.scale(20_000, 2_000), 32: options.scale(64_000, 6_400)}

    def variant(name: str, group: int):
        def once() -> dict[str, Any]:
            with measure.place(options) as directory:
                return measure.child(exchange, engine=name, path=directory + "/x.db", group=group, count=counts[group])

        return once

    variants = {(name, group): variant(name, group) for group in counts for name in engines}
    found = measure.side_by_side(variants, options.rounds)
    imports = measure.side_by_side(
        {name: lambda name=name: measure.child(import_s, engine=name) for name in engines}, options.scale(9, 3)
    )
    lines, figures = [], {}
    for (name, group), results in found.items():
        rates = [each["rate"] for each in results]
        beside = [each["rate"] for each in found["apsw", group]]
        figures[f"{name} group {group}"] = rates
        lines.append(
            [f"{name}, SQLite {results[0]['sqlite']}", str(group), measure.number(measure.median(rates)),
             measure.spread(rates), measure.number(measure.ratio(rates, beside))]
        )  # fmt: skip
    statements = Table(
        f"The statements of an exchange (settle, history, release, reserve), {JOBS:,} jobs queued",
        ("engine", "group", "jobs/s", "least .. most", "to apsw"),
        lines,
        ["Statements alone: one process, no gate, no checks of ours, bindings made by Python."],
    )
    importing = Table(
        "Importing it",
        ("engine", "ms", "least .. most"),
        [
            [name, measure.number(measure.median(s) * 1e3), measure.spread([each * 1e3 for each in s])]
            for name, s in imports.items()
        ],
    )
    reach = []
    if len(engines) == 2:
        other = [each["rate"] for each in found["pysqlite3", 1]]
        ours = [each["rate"] for each in found["apsw", 1]]
        reach = [
            Reach("the engine chosen (apsw) beside pysqlite3, group of one", measure.ratio(ours, other), least=1.0)
        ]
    return Report(
        "engine",
        "synchronous=NORMAL, WAL, autocheckpoint 1000, both; one CPU is used.",
        [statements, importing],
        reach,
        {**figures, **{f"import_s {name}": values for name, values in imports.items()}},
    )


def import_s(engine: str) -> float:
    """Return the seconds that importing an engine takes, its package found for the first time in this process."""
    begun = time.perf_counter()
    import_module(MODULES[engine])
    return time.perf_counter() - begun


class _Apsw:
    """A connection through apsw, as the store uses it."""

    def __init__(self, path: str) -> None:
        module = import_module("apsw")
        self.version = module.sqlite_lib_version()
        self._connection = module.Connection(path)

    def script(self, text: str) -> None:
        self._connection.execute(text).fetchall()  # it runs no further than the first row that is not asked for

    def all(self, statement: str, arguments: Sequence[Any] = ()) -> list[Any]:
        return self._connection.execute(statement, arguments).fetchall()

    def many(self, statement: str, rows: Any) -> None:
        self._connection.executemany(statement, rows)

    def many_rows(self, statement: str, rows: Any) -> list[Any]:
        return self._connection.executemany(statement, rows).fetchall()


class _Pysqlite:
    """A connection through pysqlite3; it gives no rows from many bindings at once, so those are asked one by one."""

    def __init__(self, path: str) -> None:
        module = import_module("pysqlite3.dbapi2")
        self.version = module.sqlite_version
        self._connection = module.connect(path, isolation_level=None)

    def script(self, text: str) -> None:
        self._connection.executescript(text)

    def all(self, statement: str, arguments: Sequence[Any] = ()) -> list[Any]:
        return self._connection.execute(statement, arguments).fetchall()

    def many(self, statement: str, rows: Any) -> None:
        self._connection.executemany(statement, rows)

    def many_rows(self, statement: str, rows: Any) -> list[Any]:
        execute = self._connection.execute
        return [found for row in rows for found in execute(statement, row).fetchall()]


def exchange(engine: str, path: str, group: int, count: int) -> dict[str, Any]:
    """Settle and reserve until so many jobs are done; return jobs per second. For a process of its own."""
    db: Any = {"apsw": _Apsw, "pysqlite3": _Pysqlite}[engine](path)
    sql = rows.statements()
    db.script("PRAGMA journal_mode = wal; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;" + rows.schema())
    db.all("BEGIN IMMEDIATE")
    (run,) = db.all(sql["add_run"], ("r", None, JOBS, 0))[0]
    (kind,) = db.all(sql["add_type"], ("noop",))[0]
    row = rows.row_of(sql["add_job"])
    ready = {"run": run, "type": kind, "priority": 0, "waiting_for": 0, "depends": 0, "awaited": 0}
    db.many(sql["add_job"], (row(key=n, id=f"r/j{n}", **ready) for n in range(1, JOBS + 1)))
    (worker, *_) = db.all(sql["add_worker"], ("w1", 0))[0]
    db.all("COMMIT")
    types = json.dumps([kind])

    def several(name: str, values: list[Any], *rest: Any) -> list[Any]:
        """Run a statement about one row for each value: as the store does, at once if there are a few."""
        if group == 1:
            return db.many_rows(sql[name], [(value, *rest) for value in values])
        return db.all(sql[name + "_each"], (json.dumps(values), *rest))

    held: list[Any] = []
    clock = itertools.count(1)
    begun = time.perf_counter()
    done = 0
    while done < count:
        now = next(clock)
        db.all("BEGIN IMMEDIATE")
        db.all(sql["worker"], ("w1",))
        if held:
            settled = several("finish", held, 1, worker)
            db.many(sql["add_attempt"], [(found[1], 1, "w1", 0, found[2], now, 5, None, None) for found in settled])
            db.many_rows(sql["release"], [(found[1],) for found in settled])
            done += len(settled)
        db.all(sql["next_due"], (types,))
        keys = db.all(sql["candidates"], (types, group))
        reserved = several("reserve", [found[0] for found in keys], worker, now, now, now)
        db.all("COMMIT")
        held = [found[1] for found in reserved]
    return {"rate": done / (time.perf_counter() - begun), "sqlite": db.version}
