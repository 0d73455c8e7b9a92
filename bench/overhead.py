"""What real work pays for being kept: the demo's pipeline, and the same functions in a bare pool of processes."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

from bench import measure, workers
from bench.measure import ROOT, Options, Reach, Report, Table

PIPELINE = os.path.join(ROOT, "overseer_lite", "examples", "stdlib_pipeline.py")
LONG_S = 20.0


def run(options: Options) -> Report:
    """Find out how often to repeat the parsing for it to last twenty seconds, then run both in turn."""
    repeat = 1 if options.quick else long_enough()
    found = measure.side_by_side(
        {
            "pool": lambda: _child_wall(repeat),
            "ours": lambda: {"wall_s": ours(options, repeat)},
        },
        options.rounds,
    )
    wall = {name: [each["wall_s"] for each in results] for name, results in found.items()}
    labels = {"pool": "concurrent.futures.ProcessPoolExecutor, keeps nothing", "ours": "overseer-lite run -n 4"}
    rows = [
        [
            labels[name],
            measure.number(measure.median(values)),
            measure.spread(values),
            measure.number(measure.ratio(values, wall["pool"])),
        ]
        for name, values in wall.items()
    ]
    asked = "the demo's pipeline to a bare process pool"
    return Report(
        "overhead",
        "full; the pool keeps nothing.",
        [
            Table(
                f"The demo's pipeline, each file parsed {repeat} times, 4 workers",
                ("what", "s", "least .. most", "to the pool"),
                rows,
                ["From the command typed to its end, interpreters' start-up included, both."],
            )
        ],
        [Reach(asked, measure.ratio(wall["ours"], wall["pool"]), most=1.15)],
        {"repeat": repeat, **found},
    )


def long_enough() -> int:
    """Return how often to parse each file for the pool to take twenty seconds; some of its work is done once anyway."""
    few, many = (measure.child(pool, repeat=repeat)["span_s"] for repeat in (2, 6))
    return math.ceil((LONG_S * 1.1 - few) / ((many - few) / 4)) + 2


def _child_wall(repeat: int) -> dict[str, float]:
    begun = time.perf_counter()
    found = measure.child(pool, repeat=repeat)
    return {**found, "wall_s": time.perf_counter() - begun}


def ours(options: Options, repeat: int) -> float:
    """Run the pipeline by the command line; return the seconds."""
    with measure.place(options) as directory:
        command = [
            sys.executable,
            "-m",
            "overseer_lite",
            "run",
            PIPELINE,
            "-n",
            "4",
            "--args",
            json.dumps({"repeat": repeat}),
        ]
        return measure.timed(command, cwd=directory, env=workers.clean_env({"db": directory + "/jobs.db"}))


class _Job:
    """What the pipeline's functions look at of a job."""

    def __init__(self, args: dict[str, Any], results: dict[str, Any]) -> None:
        self.args = args
        self.results = _Results(results)

    def progress(self, fraction: float, step: str | None = None) -> None:
        """Nobody looks."""


class _Results(dict):
    def of(self, kind: str) -> list[Any]:
        return [value for name, value in self.items() if name.startswith(f"{kind}-")]


def _call(function: str, args: dict[str, Any], results: dict[str, Any]) -> Any:
    from overseer_lite.examples import stdlib_pipeline

    return getattr(stdlib_pipeline, function)(_Job(args, results))


def pool(repeat: int) -> dict[str, float]:
    """Run the same graph's functions in a pool of four processes, each as soon as what it needs is there."""
    from overseer_lite.examples import stdlib_pipeline

    begun = time.perf_counter()
    graph = stdlib_pipeline.graph(repeat=repeat)
    shared = json.loads(graph.args_json or "{}")
    waiting = list(graph.jobs)
    done: dict[str, Any] = {}
    running: dict[Future[Any], str] = {}
    from concurrent.futures import FIRST_COMPLETED, wait

    with ProcessPoolExecutor(4) as executor:
        while waiting or running:
            needs = {job.name: [getattr(each, "name", each) for each in job.dependencies] for job in waiting}
            for job in [job for job in waiting if all(name in done for name in needs[job.name])]:
                waiting.remove(job)
                args = {**shared, **(json.loads(job.args_json) if job.args_json else {})}
                results = {name: done[name] for name in needs[job.name]}
                running[executor.submit(_call, job.type, args, results)] = job.name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done[running.pop(future)] = future.result()
    return {"span_s": time.perf_counter() - begun, "functions": done["report"]["functions"]}
