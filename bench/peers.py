"""Other queues that keep their jobs, each driven the way it wants to be: four processes, a no-op, results kept where it
keeps any. Every function here is for a process of its own; none of them ever meets our engine.

Loops are the shortest that each allows, without its consumer's polling and logging: what is compared is the queue.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import measure
from bench.measure import WORKERS, start_together, wait_for_go

SYNCHRONOUS = {"normal": 1, "full": 2}


def rate(peer: str, directory: str, jobs: int, durability: str) -> dict[str, Any]:
    """Fill a peer's queue, have four processes empty it; return jobs per second and how many were taken twice."""
    if peer == "dbos":
        return _dbos_rate(directory, jobs, durability)
    measure.child(fill, peer=peer, directory=directory, jobs=jobs, durability=durability)
    with ThreadPoolExecutor(WORKERS) as threads:
        futures = [
            threads.submit(measure.child, empty, peer=peer, directory=directory, durability=durability, name=f"w{n}")
            for n in range(WORKERS)
        ]
        start_together(directory, futures)
        found = [future.result() for future in futures]
    done = [n for each in found for n in each["done"]]
    if len(set(done)) != jobs:
        raise RuntimeError(f"{peer} lost {jobs - len(set(done))} of {jobs} jobs")
    span_s = (max(each["last"] for each in found) - min(each["first"] for each in found)) / 1e9
    return {"rate": jobs / span_s, "twice": len(done) - jobs}


def fill(peer: str, directory: str, jobs: int, durability: str) -> None:
    """Put jobs into a peer's queue; unsynced, since this is not measured."""
    queue = _QUEUES[peer](directory, durability)
    for n in range(jobs):
        queue.put(n)


def empty(peer: str, directory: str, durability: str, name: str) -> dict[str, Any]:
    """Take and finish jobs until there is none."""
    queue = _QUEUES[peer](directory, durability)
    wait_for_go(directory, name)
    done: list[int] = []
    first = time.monotonic_ns()
    while (n := queue.work()) is not None:
        done.append(n)
    return {"done": done, "first": first, "last": time.monotonic_ns()}


class _Huey:
    """SqliteHuey: the row is deleted, then the task runs; what it returns is stored."""

    def __init__(self, directory: str, durability: str) -> None:
        from huey import SqliteHuey
        from huey.storage import SqliteStorage

        class Storage(SqliteStorage):
            def _create_connection(self):
                connection = super()._create_connection()
                connection.execute(f"pragma synchronous={SYNCHRONOUS[durability]}")
                return connection

        self._huey = SqliteHuey("bench", filename=os.path.join(directory, "huey.db"), storage_class=Storage, timeout=60)

        def echo(n: int) -> dict[str, int]:
            return {"n": n}

        self._task = self._huey.task()(echo)

    def put(self, n: int) -> None:
        self._task(n)

    def work(self) -> int | None:
        task = self._huey.dequeue()
        if task is None:
            return None
        self._huey.execute(task)
        return task.args[0]


class _LiteQueue:
    """litequeue: locked, then marked done; it keeps no results."""

    def __init__(self, directory: str, durability: str) -> None:
        from litequeue import LiteQueue

        self._queue = LiteQueue(os.path.join(directory, "litequeue.db"), timeout=60)
        self._queue.conn.execute(f"PRAGMA synchronous = {SYNCHRONOUS[durability]}")

    def put(self, n: int) -> None:
        self._queue.put(json.dumps({"n": n}))

    def work(self) -> int | None:
        message = self._queue.pop()
        if message is None:
            return None
        n = json.loads(message.data)["n"]
        self._queue.done(message.message_id)
        return n


class _PersistQueue:
    """persist-queue's queue with acknowledgements: taken, then acknowledged; it keeps no results."""

    def __init__(self, directory: str, durability: str) -> None:
        from persistqueue import SQLiteAckQueue

        self._queue = SQLiteAckQueue(os.path.join(directory, "persist"), auto_resume=False, timeout=60)
        self._queue._conn.execute(f"PRAGMA synchronous = {SYNCHRONOUS[durability]}")  # noqa: SLF001 - it has no setting

    def put(self, n: int) -> None:
        self._queue.put({"n": n})

    def work(self) -> int | None:
        from persistqueue import Empty

        try:
            item = self._queue.get(block=False)
        except Empty:
            return None
        self._queue.ack(item)
        return item["n"]


_QUEUES: dict[str, Any] = {"huey": _Huey, "litequeue": _LiteQueue, "persist-queue": _PersistQueue}


# ---- dbos: its own processes, its own queue threads --------------------------------------------------------------------


def _dbos_rate(directory: str, jobs: int, durability: str) -> dict[str, Any]:
    measure.child(dbos_fill, directory=directory, jobs=jobs)
    with ThreadPoolExecutor(WORKERS) as threads:
        futures = [
            threads.submit(
                measure.child, dbos_work, directory=directory, durability=durability, name=f"w{n}", jobs=jobs
            )
            for n in range(WORKERS)
        ]
        start_together(directory, futures)
        found = [future.result() for future in futures]
    return {"rate": jobs / min(each["span_s"] for each in found), "twice": 0}


def _dbos(directory: str, durability: str, name: str) -> Any:
    from dbos import DBOS
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    @event.listens_for(Engine, "connect")
    def _tell(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS[durability]}")

    config: Any = {
        "name": "bench",
        "system_database_url": f"sqlite:///{directory}/dbos.sqlite",
        "log_level": "ERROR",
        "executor_id": name,
        "application_version": "1",
        "run_admin_server": False,
    }
    return DBOS(config=config)


def dbos_fill(directory: str, jobs: int) -> None:
    """Enqueue workflows."""
    from dbos import DBOS, DBOSClient

    _dbos(directory, "normal", "filler")
    DBOS.launch()
    DBOS.destroy()
    client = DBOSClient(system_database_url=f"sqlite:///{directory}/dbos.sqlite")
    for n in range(jobs):
        client.enqueue({"queue_name": "q", "workflow_name": "echo", "app_version": "1"}, n)
    client.destroy()


def dbos_work(directory: str, durability: str, name: str, jobs: int) -> dict[str, Any]:
    """Be one of its executors until all workflows are done."""
    from dbos import DBOS
    from sqlalchemy import create_engine, text

    _dbos(directory, durability, name)

    @DBOS.workflow(name="echo")
    def echo(n: int) -> dict[str, int]:
        return {"n": n}

    DBOS.launch()
    database = create_engine(f"sqlite:///{directory}/dbos.sqlite")
    wait_for_go(directory, name)
    begun = time.monotonic()
    DBOS.register_queue("q", worker_concurrency=50, polling_interval_sec=0.05)
    question = text("SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'")
    while True:
        with database.connect() as connection:
            (done,) = connection.execute(question).one()
        span_s = time.monotonic() - begun
        if done >= jobs:
            break
        if span_s > 120:
            raise TimeoutError(f"dbos finished {done} of {jobs} workflows in two minutes")
        time.sleep(0.05)
    DBOS.destroy()
    return {"span_s": span_s}
