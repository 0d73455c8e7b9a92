"""Peers that need a server, where one is on the machine: throw-away ones, on a socket in the bench's own directory.

procrastinate on PostgreSQL (`initdb`, `pg_ctl` on the PATH or where Debian puts them), rq on Redis (`redis-server`).
What durability means there: PostgreSQL's synchronous_commit on or off; Redis's log synced always or each second.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import measure
from bench.measure import WORKERS, start_together, wait_for_go


def here(peer: str) -> bool:
    """Return whether a peer and its server are on the machine."""
    if measure.installed(peer) is None:
        return False
    if peer == "procrastinate":
        return measure.installed("psycopg") is not None and _postgres("initdb") is not None and _user() is not None
    return shutil.which("redis-server") is not None


def rate(peer: str, directory: str, jobs: int, durability: str) -> dict[str, Any]:
    """Start the server, fill the queue, have four processes empty it; return jobs per second."""
    server, fill, work = {
        "procrastinate": (_postgres_server, procrastinate_fill, procrastinate_work),
        "rq": (_redis_server, rq_fill, rq_work),
    }[peer]
    with server(directory, durability) as where:
        measure.child(fill, where=where, jobs=jobs)
        with ThreadPoolExecutor(WORKERS) as threads:
            futures = [
                threads.submit(measure.child, work, where=where, directory=directory, name=f"w{n}")
                for n in range(WORKERS)
            ]
            start_together(directory, futures)
            found = [future.result() for future in futures]
    if sum(each["done"] for each in found) != jobs:
        raise RuntimeError(f"{peer} did {sum(each['done'] for each in found)} of {jobs} jobs")
    span_s = (max(each["last"] for each in found) - min(each["first"] for each in found)) / 1e9
    return {"rate": jobs / span_s, "twice": 0}


# ---- PostgreSQL --------------------------------------------------------------------------------------------------------


def _postgres(program: str) -> str | None:
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    return shutil.which(program, path=os.pathsep.join([*places, os.environ.get("PATH", "")]))


def _user() -> str | None:
    """Return whom a server runs as: it refuses root."""
    if os.geteuid() != 0:
        return ""
    import pwd

    return next((name for name in ("postgres", "nobody") if name in {each.pw_name for each in pwd.getpwall()}), None)


@contextlib.contextmanager
def _postgres_server(directory: str, durability: str) -> Iterator[str]:
    place = os.path.join(directory, "pg")
    os.mkdir(place)
    user = _user() or None
    if user is not None:
        os.chmod(directory, 0o711)
        shutil.chown(place, user)
    settings = f"-c listen_addresses='' -k {place} -c synchronous_commit={'on' if durability == 'full' else 'off'}"
    data = os.path.join(place, "data")

    def call(program: str, *arguments: str) -> None:
        command = [str(_postgres(program)), "-D", data, *arguments]
        subprocess.run(command, user=user, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)

    call("initdb", "-A", "trust", "-U", "bench")
    call("pg_ctl", "-w", "-l", os.path.join(place, "log"), "-o", settings, "start")
    try:
        yield f"host={place} user=bench dbname=postgres"
    finally:
        call("pg_ctl", "-m", "immediate", "stop")


def _procrastinate(where: str) -> Any:
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=where))

    @app.task(name="echo")
    def echo(n: int) -> None:
        _done.append(n)

    return app, echo


_done: list[int] = []


def procrastinate_fill(where: str, jobs: int) -> None:
    """Make its tables and defer the jobs."""
    app, echo = _procrastinate(where)

    async def fill() -> None:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            for begin in range(0, jobs, 500):
                await echo.batch_defer_async(*({"n": n} for n in range(begin, min(jobs, begin + 500))))

    asyncio.run(fill())


def procrastinate_work(where: str, directory: str, name: str) -> dict[str, int]:
    """Be one of its workers until nothing is left."""
    app, _echo = _procrastinate(where)

    async def work() -> tuple[int, int]:
        async with app.open_async():
            wait_for_go(directory, name)
            first = time.monotonic_ns()
            await app.run_worker_async(wait=False, concurrency=1, install_signal_handlers=False)
            return first, time.monotonic_ns()

    first, last = asyncio.run(work())
    return {"done": len(_done), "first": first, "last": last}


# ---- Redis -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _redis_server(directory: str, durability: str) -> Iterator[str]:
    path = os.path.join(directory, "redis.sock")
    synced = {"full": "always", "normal": "everysec"}[durability]
    options = ["--appendonly", "yes", "--appendfsync", synced, "--save", ""]
    server = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", path, "--dir", directory, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        while not os.path.exists(path):
            if server.poll() is not None:
                raise RuntimeError(f"redis-server ended with {server.returncode}")
            time.sleep(0.01)
        yield path
    finally:
        server.terminate()
        server.wait()


def rq_echo(n: int) -> dict[str, int]:
    """Return what came."""
    return {"n": n}


def rq_fill(where: str, jobs: int) -> None:
    """Enqueue the jobs."""
    from redis import Redis
    from rq import Queue

    queue = Queue("bench", connection=Redis(unix_socket_path=where))
    queue.enqueue_many([Queue.prepare_data(rq_echo, args=(n,)) for n in range(jobs)])


def rq_work(where: str, directory: str, name: str) -> dict[str, int]:
    """Be one of its workers, the sort that forks for each job as it does by default, until nothing is left."""
    from redis import Redis
    from rq import Queue, Worker
    from rq.job import Job

    connection = Redis(unix_socket_path=where)
    queue = Queue("bench", connection=connection)
    worker = Worker([queue], connection=connection)
    wait_for_go(directory, name)
    first = time.monotonic_ns()
    worker.work(burst=True, logging_level="ERROR")
    last = time.monotonic_ns()
    finished = Job.fetch_many(queue.finished_job_registry.get_job_ids(), connection=connection)
    mine = sum(job is not None and job.worker_name == worker.name for job in finished)
    return {"done": mine, "first": first, "last": last}
