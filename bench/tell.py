"""Reports as text: the same tables on the terminal and in RESULTS.md, which a terminal can show as well."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bench.measure import ROOT, Report, Table

RESULTS: Final = os.path.join(ROOT, "bench", "RESULTS.md")
CHAOS: Final = "## chaos"
REACH: Final = ("asked for", "measured", "bound", "goal", "reached")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, its columns aligned, words to the left and numbers to the right."""
    widths = [max(len(row[n]) for row in (columns, *rows)) for n in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * width) if n == 0 else ("-" * (width - 1) + ":") for n, width in enumerate(widths)]
    return "\n".join([line(columns), line(rule), *map(line, rows)])


def head(facts: Mapping[str, str]) -> str:
    """Return where and when it was measured."""
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())


def report(one: Report, answers: str) -> str:
    """Return one bench's report."""
    facts = f"Durability: {one.durability} Took {one.took_s:.0f} s; load average at its end {one.load:.1f}."
    parts = [f"\n## {one.name}", f"{answers[0].upper()}{answers[1:]}.", facts]
    parts += [_titled(each) for each in one.tables]
    if one.reach:
        parts.append(table(REACH, [each.row() for each in one.reach]))
    return "\n\n".join(parts)


def _titled(one: Table) -> str:
    notes = "".join(f"\n\n{note}" for note in one.notes)
    return f"**{one.title}**\n\n{table(one.columns, one.rows)}{notes}"


def summary(reports: Sequence[Report]) -> str:
    """Return what is aimed at, all in one table."""
    rows = [[one.name, *each.row()] for one in reports for each in one.reach]
    return f"\n## What is aimed at\n\n{table(('bench', *REACH), rows)}" if rows else ""


def as_json(one: Report) -> dict[str, Any]:
    """Return a report as JSON can hold it."""
    return {
        "durability": one.durability,
        "took_s": one.took_s,
        "load": one.load,
        "figures": dict(one.figures),
        "reach": [{**each._asdict(), "reached": each.verdict()} for each in one.reach],
        "tables": [each._asdict() for each in one.tables],
    }


def write(
    facts: Mapping[str, str], reports: Sequence[Report], drawn: Mapping[str, list[str]], answers: Mapping[str, str]
) -> None:
    """Write RESULTS.md, whole; of what stood there only the section of the chaos runs is kept."""
    parts = [
        "# What was measured",
        (
            "Written by `python -m bench --write`; no figure by hand. Medians of at least three; ratios are taken side by "
            "side in one run. `goal` in the last column: more than is asked for; `NO`: not reached."
        ),
        head(facts),
        summary(reports).strip(),
    ]
    for one in reports:
        parts.append(report(one, answers[one.name]).strip())
        parts += [f"![{name}](results/{name}.svg)" for name in drawn.get(one.name, [])]
    parts += [
        part for part in (_section(_results(RESULTS), CHAOS),) if part
    ]  # the release run's, which takes hours: kept
    _replace("\n\n".join(parts) + "\n", RESULTS)


def write_section(text: str, path: str = RESULTS) -> None:
    """Put a section, which begins with its heading, into RESULTS.md or a file like it: in its own place, else at the end."""
    old = _results(path)
    before = _section(old, text.partition("\n")[0])
    _replace(old.replace(before, text.strip()) if before else f"{old.rstrip()}\n\n{text.strip()}\n", path)


def _section(text: str, heading: str) -> str:
    """Return a section of a text, heading included, without the blank lines around it; empty if there is none."""
    _, found, rest = f"\n{text}".partition(f"\n{heading}\n")
    return f"{heading}\n{rest.partition(chr(10) + '## ')[0]}".strip() if found else ""


def _results(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _replace(text: str, path: str) -> None:
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)
