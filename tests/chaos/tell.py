"""The figures of a release run, as a section of bench/RESULTS.md."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from typing import Any

from tests.chaos.scenario import Scenario, Whole

#: What is told of a row, in this order; the rest is in the run's own file of progress.
TOLD = (
    "jobs", "attempts", "kills", "killed", "stopped", "faults", "cut_short", "points", "visited", "cycles", "steps",
    "lives", "namespaces_killed", "pid_reused", "pid_reused_after_reboot", "looks", "ready_p50", "ready_p99",
    "start_p50", "start_p99", "again_p50", "again_p99", "unenforced", "hostile", "told_one_by_one", "held_s", "silent_max",
    "waited", "submits_refused", "damaged", "inputs", "commands", "refused", "accepted", "answered", "unharmed",
    "found_out", "builds",
)  # fmt: skip
#: What a figure is called, where its name does not say it.
WORDS = {
    "unenforced": "units whose times were not held against them, the machine being busy with other things",
    "hostile": "hostile attempts",
    "told_one_by_one": "of them alone in their runner, with the one right end",
    "held_s": "interpreter held, seconds",
    "silent_max": "longest pause of beats",
    "waited": "pauses for want of space",
    "damaged": "damaged files",
    "inputs": "bad inputs",
    "commands": "bad command lines, all refused",
    "answered": "could still be used",
    "unharmed": "of them with every job as it was",
    "found_out": "bad builds found out",
    "builds": "these:",
}


def section(seed: int, rows: Mapping[Scenario, Whole]) -> str:
    """Return what has come of a run so far, row by row; rows of which nothing was done are said to be so."""
    done = {row: whole for row, whole in rows.items() if whole.done}
    commits = sorted(set().union(*(whole.commits for whole in done.values())) - {""})
    cut = sum(whole.figures.get("cut_short", 0) for whole in done.values())
    broken = sum(whole.violations for whole in done.values())
    units, wanted = (sum(getattr(whole, name) for whole in rows.values()) for name in ("done", "wanted"))
    hours = sum(whole.seconds for whole in done.values()) / 3600
    return "\n".join(
        [
            "## chaos",
            "",
            "Faults done to the program through its command line, and a judge that reads what the handlers wrote: nothing lost,",
            "nothing run twice, no overlap, nothing left behind, the file sound. `python -m tests.chaos --list` says what each row",
            "does; written by `python -m tests.chaos --release --write`. Times are in milliseconds.",
            "",
            f"- date: {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC; version: {', '.join(commits) or 'not known'}; seed {seed}",
            f"- machine: {os.cpu_count()} CPUs, Linux {platform.release()}, CPython {platform.python_version()}",
            f"- {units} of {wanted} units, {hours:.1f} hours of units; {cut:,} attempts were cut short; failed: {broken}",
            "",
            "| row | units | failed | figures |",
            "| --- | ---: | ---: | --- |",
            *[_line(row, whole) for row, whole in rows.items()],
            *_failed(done),
        ]
    )


def _failed(rows: Mapping[Scenario, Whole]) -> list[str]:
    """Return what was said of each unit that failed, be it by a broken promise or by a fault of the row itself."""
    said = [f"- {row.name}, {words[:240]}" for row, whole in rows.items() for words in whole.said]
    return ["", "What failed, each done again when the run went on:", "", *said] if said else []


def _line(row: Scenario, whole: Whole) -> str:
    told = {key: whole.figures[key] for key in TOLD if key in whole.figures}
    words = ", ".join(f"{WORDS.get(key, key.replace('_', ' '))} {_shown(value)}" for key, value in told.items())
    skipped = whole.outcomes.get("skipped", 0)
    words = words or ("no figures" if whole.done else "not yet run")
    if skipped:
        words += f"; {skipped} skipped"
    return f"| {row.name} | {whole.done:,} of {whole.wanted:,} | {whole.violations if whole.done else ''} | {words} |"


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else f"{value:,}"
