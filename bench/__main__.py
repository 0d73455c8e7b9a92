"""`python -m bench [NAME...]`: measure, print, and if asked write what was measured."""

from __future__ import annotations

import argparse
import compileall
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Final

from bench import draw, tell
from bench.measure import ROOT, Options, Report, header

#: In the order in which they run, what each answers beside it.
BENCHES: Final = {
    "engine": "which SQLite wheel: the statements of one exchange through apsw and through pysqlite3",
    "throughput": "how many no-op jobs pass, beside raw SQLite and beside peers",
    "fairness": "whether each of four busy workers gets its share, and how long one waits for the gate",
    "wakeup": "how soon an idle worker starts, and what idling costs",
    "recovery": "how soon a killed worker's or runner's job runs again",
    "flat": "whether reserving and settling cost the same however much is queued",
    "submit": "how long a million jobs with a million dependencies take to store",
    "overhead": "what real work pays for being kept",
    "graph": "a layered graph of a thousand no-op jobs, start-up included",
    "memory": "what a worker and its runner hold, and what an import costs",
    "startup": "how long until `status` answers, and until the first job runs",
    "profile": "where the time of a no-op job goes",
}

QUICK_S: Final = 45  # a quick run begins no bench after that, however slow the machine


def main() -> int:
    """Run the benches named, all if none is; 1 if one of them could not be carried out, whatever its figures."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which benches; all unless named")
    parser.add_argument("--list", action="store_true", help="name the benches and what each answers")
    parser.add_argument("--quick", action="store_true", help="a look, in under a minute; for CI")
    parser.add_argument("--large", action="store_true", help="also the sizes that take minutes")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--write", action="store_true", help="write bench/RESULTS.md and the plots of this run")
    parser.add_argument("--dir", default="/var/tmp", metavar="DIR", help="on the disk to be measured (/var/tmp)")
    given = parser.parse_args()
    if given.list:
        for name, answers in BENCHES.items():
            print(f"{name:<12}{answers}")
        return 0
    unknown = [name for name in given.names if name not in BENCHES]
    if unknown:
        parser.error(f"there is no bench {unknown[0]!r}; --list names them")
    if given.write and (given.quick or given.names):
        parser.error("--write keeps full runs: all benches, none of them quick")
    compile_as_installed()
    options = Options(given.quick, given.large, given.dir)
    head = header(options)
    print(tell.head(head), flush=True)

    def keep(reports: list[Report]) -> None:
        """Write the figures so far: a run that is cut short has not been for nothing."""
        head["load at end"] = " ".join(f"{load:.2f}" for load in os.getloadavg())
        if given.json:
            with open(given.json, "w", encoding="utf-8") as file:
                json.dump({"head": head, "benches": {r.name: tell.as_json(r) for r in reports}}, file, indent=1)

    reports, broken = measure(given.names or list(BENCHES), options, keep)
    print(tell.summary(reports))
    if given.write and not broken:
        drawn = draw.draw(reports)
        tell.write(head, reports, drawn, {name: BENCHES[name] for name in BENCHES})
    for name in broken:
        print(f"bench {name} could not be carried out", file=sys.stderr)
    return 1 if broken else 0


def compile_as_installed() -> None:
    """Compile the package, as pip does when it installs it: what is measured is not the compiler."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    compileall.compile_dir(os.path.join(ROOT, "overseer_lite"), quiet=2)
    compileall.compile_dir(os.path.join(ROOT, "bench"), quiet=2)


def measure(names: list[str], options: Options, keep: Callable[[list[Report]], None]) -> tuple[list[Report], list[str]]:
    """Carry benches out, one after the other; one that breaks does not stop the others."""
    reports, broken = [], []
    started = time.monotonic()
    for name in names:
        begun = time.monotonic()
        if options.quick and begun - started > QUICK_S:
            print(f"\n## {name}: left out, {QUICK_S} s are over", flush=True)
            continue
        try:
            report: Report = importlib.import_module(f"bench.{name}").run(options)
        except Exception:  # noqa: BLE001 - told, and counted in the exit code
            traceback.print_exc()
            broken.append(name)
            continue
        reports.append(report._replace(took_s=time.monotonic() - begun, load=os.getloadavg()[0]))
        print(tell.report(reports[-1], BENCHES[name]), flush=True)
        keep(reports)
    return reports, broken


if __name__ == "__main__":
    sys.exit(main())
