"""What a row of the table is: a function that runs one unit of it and returns figures, or raises what it found."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Figures = dict[str, Any]


class Violation(Exception):
    """A promise was broken; each entry says which, and of what. What was measured all the same is in `figures`."""

    def __init__(self, *found: str, figures: Figures | None = None) -> None:
        self.found = found
        self.figures = figures or {}
        super().__init__("; ".join(found[:8]) + (f"; and {len(found) - 8} more" if len(found) > 8 else ""))


class Skipped(Exception):
    """This machine cannot do it; the message says what it lacks."""


class Unit(NamedTuple):
    """One run of a row.

    Attributes:
        index: Which unit of the row this is.
        directory: A new directory of its own, for the store, the log and all else; short-lived.
        random: Seeded by the run's seed, the row and the index: the same unit makes the same choices.
        release: Whether this is the large run.
    """

    scenario: str
    index: int
    directory: str
    random: random.Random
    release: bool


class Scenario(NamedTuple):
    """A row of the table.

    Attributes:
        small: Units in the small run; release: in the large one.
        alone: Its figures are times, so nothing else may run beside it.
        closing: Of a large run, once all its units are done: figures of the whole, and what is missing, each a failure.
            It is given the run's directory.
    """

    name: str
    run: Callable[[Unit], Figures]
    small: int
    release: int
    alone: bool
    doc: str
    closing: Callable[[str], tuple[Figures, list[str]]] | None


class Whole(NamedTuple):
    """What has come of a row, all its units so far together.

    Attributes:
        missing: What should have been reached and never was; told once all units are done.
        violations: Units that failed, those included that passed when the run went on; and one for what is missing.
        said: What was said of each unit that failed.
        commits: The versions of the program that were tried.
    """

    done: int
    wanted: int
    outcomes: Mapping[str, int]
    figures: Figures
    missing: list[str]
    violations: int
    said: list[str]
    seconds: float
    commits: set[str]


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    name: str,
    *,
    small: int,
    release: int,
    alone: bool = False,
    closing: Callable[[str], tuple[Figures, list[str]]] | None = None,
) -> Callable[..., Callable[[Unit], Figures]]:
    """Enter a function as a row."""

    def enter(run: Callable[[Unit], Figures]) -> Callable[[Unit], Figures]:
        SCENARIOS[name] = Scenario(name, run, small, release, alone, (run.__doc__ or "").splitlines()[0], closing)
        return run

    return enter


def percentile(values: list[float], share: float) -> float:
    """Return the value below which that share of them lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(len(ordered) * share) - 1))]


def times(name: str, values_ms: list[float]) -> Figures:
    """Return the figures of a list of times in milliseconds, the values themselves included, so that runs can be joined."""
    if not values_ms:
        return {}
    rounded = [round(value, 1) for value in values_ms]
    return {
        f"{name}_p50": percentile(rounded, 0.5),
        f"{name}_p99": percentile(rounded, 0.99),
        f"{name}_max": max(rounded),
        f"{name}_ms": rounded,
    }


def joined(all_figures: list[Mapping[str, Any]]) -> Figures:
    """Return the figures of several units as one: numbers summed, times joined."""
    total: Figures = {}
    for figures in all_figures:
        for key, value in figures.items():
            if isinstance(value, list):
                total[key] = total.get(key, []) + value
            elif isinstance(value, int | float) and not key.endswith(("_p50", "_p99", "_max")):
                total[key] = round(total.get(key, 0) + value, 3)
    for key in [key for key in total if key.endswith("_ms")]:
        total |= times(key.removesuffix("_ms"), total[key])
    return total
