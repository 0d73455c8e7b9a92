"""A layered graph of a thousand no-op jobs, from the command typed to its end."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any

from bench import measure, workers
from bench.measure import APP, Options, Plot, Reach, Report, Table

LAYERS, WIDTH = 10, 100


def run(options: Options) -> Report:
    """Run it by our command line, in a bare pool, and by luigi if that is here and there is time."""
    variants: dict[str, Any] = {
        "overseer-lite run -n 4, durability full": lambda: ours(options, "full"),
        "overseer-lite run -n 4, durability normal": lambda: ours(options, "normal"),
        "a bare pool of 4 processes, keeps nothing": lambda: _walled(pool),
    }
    found = measure.side_by_side(variants, options.rounds if options.quick else 5)
    if measure.installed("luigi") and not options.quick:
        label = f"luigi {measure.installed('luigi')}, 4 workers, local scheduler, files as targets"
        found |= measure.side_by_side({label: lambda: luigi_s(options)}, options.rounds)
    bare = found["a bare pool of 4 processes, keeps nothing"]
    rows = []
    for label, seconds in found.items():
        beside = measure.median(seconds) / measure.median(bare)
        rows.append([label, measure.number(measure.median(seconds)), measure.spread(seconds), measure.number(beside)])
    return Report(
        "graph",
        "as said in each line; luigi keeps files, unsynced.",
        [Table(f"{LAYERS * WIDTH:,} no-op jobs in {LAYERS} layers, each waits for two of the layer before", ("what", "s", "least .. most", "to the pool"), rows)],
        [Reach("start-up included, durability full", measure.median(found["overseer-lite run -n 4, durability full"]), "s", most=1.0)],
        found,
        [Plot("graph", "A layered graph of 1,000 no-op jobs", "bars", "s (logarithmic)", "",
              {label: measure.median(seconds) for label, seconds in found.items()}, True)],
    )  # fmt: skip


def ours(options: Options, durability: str) -> float:
    """Return the seconds of `overseer-lite run`."""
    with measure.place(options) as directory:
        env = workers.clean_env({"db": directory + "/jobs.db", "durability": durability})
        took_s = measure.timed([sys.executable, "-m", "overseer_lite", "run", APP, "-n", "4"], cwd=directory, env=env)
        found = workers.history(directory + "/jobs.db")
    if found["jobs"] != LAYERS * WIDTH:
        raise RuntimeError(f"{found['jobs']} jobs were run, not {LAYERS * WIDTH}")
    return took_s


def _walled(function: Any, **arguments: Any) -> float:
    begun = time.perf_counter()
    measure.child(function, **arguments)
    return time.perf_counter() - begun


def _above(layer: int, n: int) -> list[tuple[int, int]]:
    return [(layer - 1, n), (layer - 1, (n + 1) % WIDTH)] if layer else []


def _nothing() -> None:
    """Do nothing."""


def pool() -> int:
    """Give each job to a pool of processes as soon as those it waits for are done."""
    waits = {(layer, n): len(_above(layer, n)) for layer in range(LAYERS) for n in range(WIDTH)}
    below: dict[Any, list[Any]] = {job: [] for job in waits}
    for job in waits:
        for other in _above(*job):
            below[other].append(job)
    done = 0
    with ProcessPoolExecutor(4) as executor:
        running = {executor.submit(_nothing): job for job, count in waits.items() if not count}
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done += 1
                for job in below[running.pop(future)]:
                    waits[job] -= 1
                    if not waits[job]:
                        running[executor.submit(_nothing)] = job
    return done


def luigi_s(options: Options) -> float:
    """Return the seconds luigi takes, in a directory of its own."""
    with measure.place(options) as directory:
        return _walled(luigi_run, directory=directory)


def luigi_run(directory: str) -> bool:
    """Build the graph by luigi."""
    import luigi

    class Noop(luigi.Task):
        layer = luigi.IntParameter()
        n = luigi.IntParameter()

        def requires(self):
            return [Noop(layer=layer, n=n) for layer, n in _above(self.layer, self.n)]

        def output(self):
            return luigi.LocalTarget(os.path.join(directory, f"{self.layer}-{self.n}"))

        def run(self):
            with self.output().open("w"):
                pass

    last = [Noop(layer=LAYERS - 1, n=n) for n in range(WIDTH)]
    built = luigi.build(last, workers=4, local_scheduler=True, log_level="ERROR")
    if not built or len(os.listdir(directory)) != LAYERS * WIDTH:
        raise RuntimeError("luigi did not build the graph")
    return True
