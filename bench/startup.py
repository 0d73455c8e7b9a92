"""How long until `status` answers, and from `worker -n 4` typed until the first job runs."""

from __future__ import annotations

import sys

from bench import measure, workers
from bench.measure import ROOT, Options, Reach, Report, Table
from overseer_lite.graph import Graph


def run(options: Options) -> Report:
    """Type each, in turn."""
    with measure.place(options) as directory:
        path = directory + "/status.db"
        with workers.make_store(path) as store:
            store.transact_graph(workers.jobs_of("noop", 1000))
        env = workers.clean_env({"db": path})
        found = measure.side_by_side(
            {
                "a bare interpreter": lambda: measure.timed([sys.executable, "-c", "pass"], cwd=ROOT),
                "`status`, 1,000 jobs": lambda: measure.timed(
                    [sys.executable, "-m", "overseer_lite", "status"], cwd=ROOT, env=env
                ),
                "`worker -n 4` typed to first job running": lambda: first_job_s(options, 4),
                "`worker -n 1` typed to first job running": lambda: first_job_s(options, 1),
            },
            options.scale(15, 2),
        )
    rows = [
        [label, measure.number(measure.median(s) * 1e3), measure.spread([each * 1e3 for each in s])]
        for label, s in found.items()
    ]
    return Report(
        "startup",
        "full.",
        [Table("Started by hand", ("what", "ms, median", "least .. most"), rows)],
        [
            Reach("`status`", measure.median(found["`status`, 1,000 jobs"]) * 1e3, "ms", most=150.0),
            Reach("first job running after `worker -n 4`", measure.median(found["`worker -n 4` typed to first job running"]) * 1e3, "ms", most=400.0),
        ],
        found,
    )  # fmt: skip


def first_job_s(options: Options, number: int) -> float:
    """Return the seconds from typing `worker` to the first line of the first job's handler; it was there before."""
    with measure.place(options) as directory:
        path = directory + "/jobs.db"
        with workers.make_store(path) as store:
            graph = Graph()
            graph.add("moment", "first")
            store.transact_graph(graph)
            with workers.Crew(path, number, "full") as crew:
                began_ns = workers.until(lambda: store.job_info(f"{graph.id}/first").result, pause_s=0.02)
                begun_ns = crew.begun_ns
                crew.await_idle(store, number)
    return (began_ns - begun_ns) / 1e9
