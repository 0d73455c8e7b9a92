"""The command: which rows, how large, where the figures go."""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, Final

from bench.tell import write_section
from tests.chaos import tell
from tests.chaos.rig import HERE, clear_away, kill_below
from tests.chaos.scenario import SCENARIOS, Scenario, Skipped, Unit, Violation, Whole, joined

MODULES: Final = ("kills", "points", "syscalls", "stops", "hostile", "clocks", "disk", "damage", "garbage", "bad")
DEFAULT_SEED: Final = 20261124
RELEASE_DIR: Final = ".chaos"
BESIDE: Final = 3  # units at a time; most of a unit's time is waiting


class Progress:
    """What has been done: one JSON line a unit, so that a run that was stopped goes on where it was."""

    def __init__(self, path: str, seed: int, kind: str) -> None:
        self._path = path
        self._key = {"seed": seed, "kind": kind}
        self._lock = threading.Lock()
        self.done: dict[tuple[str, int], dict[str, Any]] = {}
        self.failures: Counter[str] = Counter()
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                for line in file:
                    if not line.endswith("}\n"):
                        continue  # cut off when the run was
                    entry = json.loads(line)
                    if {"seed": entry["seed"], "kind": entry["kind"]} != self._key:
                        continue
                    if entry["outcome"] == "failed":  # done again, and not forgotten
                        self.failures[entry["scenario"]] += 1
                    else:
                        self.done[entry["scenario"], entry["unit"]] = entry
            self.failures[entry["scenario"]] += entry["outcome"] == "failed"

    def add(self, entry: dict[str, Any]) -> None:
        """Append a unit's figures."""
        with self._lock, open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({**self._key, **entry}) + "\n")
            file.flush()
            self.done[entry["scenario"], entry["unit"]] = entry


class Run:
    """One invocation: runs units, keeps score."""

    def __init__(self, options: argparse.Namespace, directory: str, progress: Progress) -> None:
        self._options = options
        self._directory = directory
        self._progress = progress
        self._commit = _commit()
        self._until = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes

    def units(self, row: Scenario) -> int:
        """Return how many units of a row are wanted."""
        wanted = row.release if self._options.release else row.small
        return wanted if self._options.units is None else self._options.units

    def rows(self, rows: list[Scenario]) -> None:
        """Run the rows: those whose figures are times one by one, then the others side by side; each row as far on."""
        for row, index in self._in_turn([row for row in rows if row.alone]):
            self._unit(row, index)
        with ThreadPoolExecutor(BESIDE) as pool:
            list(pool.map(lambda pair: self._unit(*pair), self._in_turn([row for row in rows if not row.alone])))

    def _in_turn(self, rows: list[Scenario]) -> list[tuple[Scenario, int]]:
        """Return the units of rows in an order in which a run that is cut short has as large a share of each row."""
        units = [(index / self.units(row), row.name, index, row) for row in rows for index in range(self.units(row))]
        return [(row, index) for _share, _name, index, row in sorted(units, key=lambda unit: unit[:3])]

    def _unit(self, row: Scenario, index: int) -> None:
        if (row.name, index) in self._progress.done or time.monotonic() > self._until:
            return
        directory = os.path.join(self._directory, f"{row.name}-{index}")
        clear_away(directory)
        os.makedirs(directory, mode=0o700)
        chance = random.Random(f"{self._options.seed}/{row.name}/{index}")
        unit = Unit(row.name, index, directory, chance, self._options.release)
        begun = time.monotonic()
        outcome, words, figures = "passed", "", {}
        try:
            figures = row.run(unit)
        except Skipped as error:
            outcome, words = "skipped", str(error)
        except Violation as error:
            outcome, words, figures = "failed", str(error), error.figures
        except Exception:  # noqa: BLE001 - a fault of the row itself fails its unit, not the run
            outcome, words = "failed", traceback.format_exc()
        took_s = time.monotonic() - begun
        self._progress.add(
            {
                "commit": self._commit,
                "scenario": row.name,
                "unit": index,
                "outcome": outcome,
                "seconds": round(took_s, 2),
                "words": words,
                "figures": figures,
            }
        )
        if outcome != "failed":
            shutil.rmtree(directory, ignore_errors=True)
        kept = f" (kept: {directory})" if outcome == "failed" else ""
        shown = " ".join(f"{key}={value}" for key, value in figures.items() if not isinstance(value, list | dict))
        print(f"{outcome.upper():<7} {row.name}[{index}] {took_s:.1f}s {shown} {words}{kept}", flush=True)

    def whole(self, row: Scenario) -> Whole:
        """Return what has come of a row so far, all parts of a run that was stopped and went on together."""
        entries = [entry for (name, _), entry in sorted(self._progress.done.items()) if name == row.name]
        outcomes = Counter(entry["outcome"] for entry in entries)
        figures, missing = joined([entry["figures"] for entry in entries]), []
        if row.closing is not None and self._options.release and entries:
            further, missing = row.closing(self._directory)
            figures |= further
        complete = len(entries) >= self.units(row)
        seconds = sum(entry["seconds"] for entry in entries)
        commits = {entry.get("commit", "") for entry in entries}
        missing = missing if complete else []
        violations = self._progress.failures[row.name] + bool(missing)
        return Whole(len(entries), self.units(row), outcomes, figures, missing, violations, seconds, commits)

    def closing(self, rows: list[Scenario], took_s: float) -> int:
        """Print each row's joined figures and the closing line; return the exit code."""
        print()
        counts = {"passed": 0, "failed": 0, "skipped": 0}
        for row in rows:
            whole = self.whole(row)
            for outcome, number in whole.outcomes.items():
                counts[outcome] += number
            counts["failed"] += bool(whole.missing)
            shown = " ".join(f"{key}={value}" for key, value in whole.figures.items() if not isinstance(value, list))
            print(f"{row.name:<12} {whole.done} of {whole.wanted} units: {shown}")
            if whole.missing:
                print(
                    f"FAILED  {row.name}: {len(whole.missing)} points were never reached: {', '.join(whole.missing[:20])}"
                )
        skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
        print(f"\nin {took_s:.1f} s:\n{counts['passed']} passed, {counts['failed']} failed{skipped}")
        return 1 if counts["failed"] or not counts["passed"] else 0


def _commit() -> str:
    """Return which version of the program is tried, as git names it; empty if that cannot be told."""
    command = ["git", "-C", os.path.dirname(HERE), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


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
    parser.add_argument("--list", action="store_true", help="list the rows")
    options = parser.parse_args()
    for module in MODULES:
        import_module(f"tests.chaos.{module}")
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
        write_section(tell.section(options.seed, {row: run.whole(row) for row in SCENARIOS.values()}))
    if not kept and code == 0:
        shutil.rmtree(directory)
    return code


if __name__ == "__main__":
    sys.exit(main())
