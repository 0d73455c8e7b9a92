"""Where the time of a no-op job goes: reserve, hand over, handler, settle, wake; in the real processes."""

from __future__ import annotations

import json
import os
import pstats
from typing import Any

from bench import measure, workers
from bench.measure import BOOTSTRAP, Options, Plot, Report, Table

TOP = 15


def run(options: Options) -> Report:
    """Watch the stages by a stop-watch, then have the interpreter profile the same."""
    jobs = options.scale(60_000, 6_000)
    durabilities = ("normal",) if options.quick else ("normal", "full")
    found = {d: [stages(options, jobs, d) for _ in range(options.rounds)] for d in durabilities}
    tables = []
    plots = []
    for durability, rounds in found.items():
        rows, series = _rows(rounds)
        tables.append(
            Table(
                f"{jobs:,} no-op jobs, 4 workers, durability {durability}: microseconds a job",
                ("process: stage", "CPU us", "wall us", "calls a job"),
                rows,
                [("CPU: of that process, its threads included. Wall: waiting included (the gate, the disk, the others). "
                 "Sums over all processes, divided by the number of jobs; what a stage calls within another counts there. "
                 "The stop-watch itself costs about 1.5 us a call.")],
            )
        )  # fmt: skip
        plots.append(
            Plot(
                f"profile-{durability}",
                f"CPU of a no-op job, by stage, durability {durability}",
                "bars",
                "us a job",
                "",
                series,
            )
        )
    tables += [functions(options, jobs, role) for role in ("worker", "runner")]
    return Report(
        "profile", "as said in each title; the interpreter's own profile at normal.", tables, (), found, plots
    )


def _watched(options: Options, jobs: int, durability: str, probe: str, read: Any) -> Any:
    with measure.place(options) as directory:
        path, out = directory + "/jobs.db", directory + "/out"
        os.mkdir(out)
        with workers.make_store(path, durability) as store:
            graph = workers.jobs_of("noop", jobs)
            store.transact_graph(graph)
            env = {"BENCH_PROBE": probe, "BENCH_OUT": out, "PYTHONPATH": BOOTSTRAP}
            measure.child(workers.drain, env=env, path=path, run=graph.id, workers=4, durability=durability)
        return read(out)


def stages(options: Options, jobs: int, durability: str) -> dict[str, dict[str, list[float]]]:
    """Return, for worker and runner, each stage's CPU, wall and calls, a job."""

    def read(out: str) -> dict[str, dict[str, list[float]]]:
        total: dict[str, dict[str, list[float]]] = {"worker": {}, "runner": {}}
        for name in os.listdir(out):
            role = name.partition(".")[0]
            with open(os.path.join(out, name), encoding="utf-8") as file:
                said = json.load(file)
            stages = {**said["stages"], "all of it": [0, said["cpu_ns"], 0]}
            for stage, (wall_ns, cpu_ns, calls) in stages.items():
                sums = total[role].setdefault(stage, [0.0, 0.0, 0.0])
                for n, value in enumerate((cpu_ns / 1e3, wall_ns / 1e3, calls)):
                    sums[n] += value / jobs
        return total

    return _watched(options, jobs, durability, "stages", read)


def _rows(rounds: list[dict[str, dict[str, list[float]]]]) -> tuple[list[list[str]], dict[str, float]]:
    rows, series = [], {}
    for role in ("worker", "runner"):
        sums = {
            stage: [measure.median([each[role][stage][n] for each in rounds]) for n in range(3)]
            for stage in rounds[0][role]
        }
        whole = sums.pop("all of it")[0]
        rest = whole - sum(cpu for cpu, _wall, _calls in sums.values())
        for stage, (cpu, wall, calls) in sorted(sums.items(), key=lambda item: -item[1][0]):
            rows.append([f"{role}: {stage}", f"{cpu:.1f}", f"{wall:.1f}", f"{calls:.2f}"])
            series[f"{role}: {stage}"] = cpu
        rows.append([f"{role}: start, end, and all else", f"{rest:.1f}", "", ""])
        rows.append([f"{role}: all of it", f"{whole:.1f}", "", ""])
    return rows, series


def functions(options: Options, jobs: int, role: str) -> Table:
    """Return the functions of a role in which most time is spent, by the interpreter's profile."""

    def read(out: str) -> list[list[str]]:
        files = [os.path.join(out, name) for name in os.listdir(out) if name.startswith(role)]
        stats: Any = pstats.Stats(*files)
        ranked = sorted(stats.stats.items(), key=lambda item: -item[1][2])
        return [
            [_place(*place), f"{own / jobs * 1e6:.1f}", f"{cumulative / jobs * 1e6:.1f}", f"{calls / jobs:.2f}"]
            for place, (_primitive, calls, own, cumulative, _callers) in ranked
        ][:TOP]

    rows = _watched(options, jobs, "normal", "cprofile", read)
    title = (
        f"The {role}'s functions by their own CPU time, {jobs:,} no-op jobs (which the profile itself doubles or so)"
    )
    return Table(title, ("function", "own us a job", "with callees", "calls a job"), rows)


def _place(file: str, line: int, name: str) -> str:
    if file == "~":
        return name.strip("<>")
    for root in (measure.ROOT + "/overseer_lite/", measure.ROOT + "/"):
        if file.startswith(root):
            return f"{file.removeprefix(root)}:{line} {name}"
    return f"{os.path.basename(file)}:{line} {name}"
