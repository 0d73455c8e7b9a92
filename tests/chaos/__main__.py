"""The command: which rows, how large, where the figures go."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from importlib import import_module
from typing import Final

from bench.tell import RESULTS, write_section
from tests.chaos import tell
from tests.chaos.progress import Progress
from tests.chaos.rig import kill_below
from tests.chaos.run import Run
from tests.chaos.scenario import SCENARIOS

MODULES: Final = ("kills", "points", "syscalls", "stops", "hostile", "clocks", "disk", "damage", "garbage", "bad")
DEFAULT_SEED: Final = 20261124
RELEASE_DIR: Final = ".chaos"


def _stop_on_signals(directory: str) -> None:
    """Leave nobody behind when told to stop; what was done so far is in the file of figures."""

    def stop(number: int, _frame: object) -> None:
        kill_below(directory)
        os.write(2, b"stopped; the same command with --dir goes on\n")
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def main() -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--release", action="store_true", help="the large run: hours")
    parser.add_argument("--only", action="append", metavar="NAME", help="only that row; may be given again")
    parser.add_argument(
        "--seed", type=int, default=DEFAULT_SEED, help=f"what chance begins with (default {DEFAULT_SEED})"
    )
    parser.add_argument("--units", type=int, help="so many units of each row")
    parser.add_argument("--minutes", type=float, help="begin no unit after so many; the same command goes on")
    parser.add_argument(
        "--dir",
        help=f"where progress.jsonl and failed units are kept (default: with --release {RELEASE_DIR}, else a temporary one)",
    )
    parser.add_argument(
        "--write", action="store_true", help="put the figures of the release run so far into bench/RESULTS.md"
    )
    parser.add_argument("--results", default=RESULTS, metavar="FILE", help="another file for --write")
    parser.add_argument(
        "--rows", action="append", metavar="MODULE", help="a module whose rows are run instead; may be given again"
    )
    parser.add_argument("--list", action="store_true", help="list the rows")
    options = parser.parse_args()
    for module in options.rows or [f"tests.chaos.{name}" for name in MODULES]:
        import_module(module)
    if options.list:
        for row in SCENARIOS.values():
            print(f"{row.name:<12} {row.small:>4} / {row.release:<5} {row.doc}")
        return 0
    unknown = set(options.only or ()) - SCENARIOS.keys()
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; --list shows them")
    rows = [row for row in SCENARIOS.values() if not options.only or row.name in options.only]
    if options.write and not options.release:
        parser.error("--write keeps the figures of a release run; add --release")
    kept = options.dir or (RELEASE_DIR if options.release else None)
    directory = os.path.abspath(kept or tempfile.mkdtemp(prefix="chaos-"))
    os.makedirs(directory, exist_ok=True)
    progress = Progress(
        os.path.join(directory, "progress.jsonl"), options.seed, "release" if options.release else "small"
    )
    print(f"seed {options.seed}, {directory}", flush=True)
    _stop_on_signals(directory)
    begun = time.monotonic()
    run = Run(options, directory, progress)
    run.rows(rows)
    code = run.closing(rows, time.monotonic() - begun)
    if options.write:
        write_section(tell.section(options.seed, {row: run.whole(row) for row in SCENARIOS.values()}), options.results)
    if not kept and code == 0:
        shutil.rmtree(directory)
    return code


if __name__ == "__main__":
    sys.exit(main())
