"""What a worker and its runner hold, beside two bare interpreters with the engine loaded; and what importing costs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from bench import measure, workers
from bench.measure import ROOT, Options, Reach, Report, Table

BARE = "import apsw, sys; c = apsw.Connection(sys.argv[1]); c.execute('SELECT count(*) FROM jobs').fetchall(); print(flush=True); input()"


def run(options: Options) -> Report:
    """Look at both while both are there: what is shared is then shared alike."""
    held = [once(options) for _ in range(options.rounds)]
    imports = measure.side_by_side(
        {
            "a bare interpreter": lambda: _start_s("pass"),
            "import overseer_lite": lambda: _start_s("import overseer_lite"),
        },
        options.scale(15, 5),
    )
    pair = [each["worker"]["Pss"] + each["runner"]["Pss"] for each in held]
    bare = [sum(found["Pss"] for found in each["bare"]) for each in held]
    rows = []
    for label, which in (("the worker", "worker"), ("its runner", "runner"), ("the supervisor", "supervisor")):
        rows.append([label, *_mib([each[which] for each in held])])
    rows.append(["a bare interpreter with the engine loaded", *_mib([each["bare"][0] for each in held])])
    extra = [a - b for a, b in zip(imports["import overseer_lite"], imports["a bare interpreter"], strict=True)]
    own = max(each[which]["Own"] for each in held for which in ("worker", "runner", "supervisor"))
    return Report(
        "memory",
        "full; it makes no difference here.",
        [
            Table("`worker -n 1`, idle, after a hundred jobs (MiB, medians)", ("process", "PSS", "its own", "resident"), rows,
                  ["PSS: what it shares counts by its share. Measured while all of these were there, so that all share alike."]),
            Table("Importing", ("what", "ms, median", "least .. most"),
                  [[label, measure.number(measure.median(s) * 1e3), measure.spread([each * 1e3 for each in s])] for label, s in imports.items()]),
        ],
        [
            Reach("PSS of a worker and its runner to two bare interpreters with the engine", measure.ratio(pair, bare), most=1.5),
            Reach("own memory of any process of ours, idle", own / 1024, "MiB", most=30.0),
            Reach("import overseer_lite, beyond the interpreter's start", measure.median(extra) * 1e3, "ms", most=60.0),
        ],
        {"memory_kib": held, "import_s": imports},
    )  # fmt: skip


def _mib(found: Sequence[dict[str, int]]) -> list[str]:
    return [measure.number(measure.median([each[what] / 1024 for each in found])) for what in ("Pss", "Own", "Rss")]


def _start_s(code: str) -> float:
    return measure.timed([sys.executable, "-c", code], cwd=ROOT)


def once(options: Options) -> dict:
    """Return the memory of each process, in KiB."""
    with measure.place(options) as directory:
        path = directory + "/jobs.db"
        with workers.make_store(path) as store, workers.Crew(path, 1, "full") as crew:
            crew.await_idle(store, 1)
            store.transact_graph(workers.jobs_of("noop", 100))
            workers.until(lambda: store.counts().finished == 100)
            (worker,) = store.workers()
            bare = [
                subprocess.Popen([sys.executable, "-c", BARE, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                for _ in range(2)
            ]
            for each in bare:
                each.stdout.readline()
            time.sleep(0.2)
            found = {
                "worker": memory(worker.pid),
                "runner": memory(worker.runner_pid),
                "supervisor": memory(crew.process.pid),
                "bare": [memory(each.pid) for each in bare],
            }
            for each in bare:
                each.communicate(b"\n")
    return found


def memory(pid: int) -> dict[str, int]:
    """Return a process's memory in KiB: resident, by its share, and its own."""
    kib = {}
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if rest.endswith("kB\n"):
                kib[name] = int(rest.split()[0])
    return {"Rss": kib["Rss"], "Pss": kib["Pss"], "Own": kib["Private_Clean"] + kib["Private_Dirty"]}
