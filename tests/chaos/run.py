"""One invocation: runs units of rows, in an order in which a short run has its share of each, and keeps score."""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import subprocess
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.chaos.progress import Progress
from tests.chaos.rig import HERE, clear_away
from tests.chaos.scenario import Scenario, Skipped, Unit, Violation, Whole, joined

BESIDE: Final = 3  # units at a time; most of a unit's time is waiting
#: Parts of a run that may be cut short, each with as large a share of every row. In one part, some minutes of a release
#: run, those rows go first that can have nobody beside them; after each of them, some CPU is idle for half a minute.
SLICES: Final = 50


class Run:
    """One invocation: runs units, keeps score.

    Args:
        clock: What the minutes are counted by, in seconds.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        directory: str,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._directory = directory
        self._progress = progress
        self._commit = _commit()
        self._clock = clock
        self._until = math.inf if options.minutes is None else clock() + 60 * options.minutes

    def units(self, row: Scenario) -> int:
        """Return how many units of a row are wanted."""
        wanted = row.release if self._options.release else row.small
        return wanted if self._options.units is None else self._options.units

    def rows(self, rows: list[Scenario]) -> None:
        """Run the rows, slice by slice: in each those whose figures are times one by one, then the others side by side."""
        slices = SLICES if self._options.release or self._options.minutes is not None else 1
        for part in range(slices):
            units = self._slice(rows, part, slices)
            for row, index in units:
                if row.alone:
                    self._unit(row, index)
            with ThreadPoolExecutor(BESIDE) as pool:
                list(pool.map(lambda pair: self._unit(*pair), [pair for pair in units if not pair[0].alone]))

    def _slice(self, rows: list[Scenario], part: int, slices: int) -> list[tuple[Scenario, int]]:
        """Return the units of one slice of a run, no row far ahead of another."""
        units = [
            (index / self.units(row), row.name, index, row)
            for row in rows
            for index in range(self.units(row))
            if index * slices // self.units(row) == part
        ]
        return [(row, index) for _share, _name, index, row in sorted(units, key=lambda unit: unit[:3])]

    def _unit(self, row: Scenario, index: int) -> None:
        if (row.name, index) in self._progress.done or self._clock() > self._until:
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
        said = self._progress.failures[row.name]
        violations = len(said) + bool(missing)
        return Whole(len(entries), self.units(row), outcomes, figures, missing, violations, said, seconds, commits)

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
            before = whole.violations - whole.outcomes.get("failed", 0) - bool(whole.missing)
            failed = f" ({before} failed in an earlier part of this run)" if before else ""
            print(f"{row.name:<12} {whole.done} of {whole.wanted} units: {shown}{failed}")
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
