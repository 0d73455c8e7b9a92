"""Rendering: numbers, times, tables and details as people read them, and as JSON."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from typing import IO, TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table as RichTable
    from rich.text import Text

    from overseer_lite.job import AttemptRecord, Failure, JobInfo
    from overseer_lite.store import Counts

# Control characters, those that turn the direction of text, line separators, surrogates: what can forge a line.
_FORGING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_ANY_WIDTH: Final = 10_000
_SENTENCE_CHARS: Final = 20  # at least so much of a sentence on a line, however narrow the terminal
STYLES: Final = {
    "finished": "green",
    "started": "cyan",
    "failed": "bold red",
    "aborted": "red",
    "stuck": "yellow",
    "ready": "default",
    "unstarted": "dim",
}


def escape(text: str, keep: str = "") -> str:
    r"""Return the text with every character that could forge a line or hide in it written out, as `\x1b` is."""
    return _FORGING.sub(lambda found: found[0] if found[0] in keep else _written(found[0]), text)


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode()


def escape_output(text: str) -> str:
    """Return a handler's output for a terminal: lines and colours stay, every other control character is written out."""
    parts = _COLOUR.split(text)
    colours = [*_COLOUR.findall(text), ""]
    return "".join(escape(part, "\n\t") + colour for part, colour in zip(parts, colours, strict=True))


def without_colours(text: str) -> str:
    """Return text without the codes that colour it."""
    return _COLOUR.sub("", text)


def is_terminal(color: str = "auto", stream: IO[str] | None = None) -> bool:
    """Return whether to draw: on a terminal that can, unless `CI` or `NO_COLOR` is set; `color` overrules the latter."""
    stream = stream or sys.stdout
    if color == "never" or not stream.isatty() or os.environ.get("TERM") == "dumb":
        return False
    return color == "always" or not (os.environ.get("CI") or os.environ.get("NO_COLOR"))


def print_json(value: Any) -> None:
    """Print one JSON value to stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def duration(seconds: float) -> str:
    """Return a duration in words as short as its size asks for: `0.3 s`, `12 s`, `3 min`, `2 h 5 min`, `4 d 2 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.095 else f"{seconds * 1000:.0f} ms"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def rough(seconds: float) -> str:
    """Return a duration for what is only a guess: whole seconds, at least one."""
    return f"{max(1, round(seconds))} s" if seconds < 119.5 else duration(seconds)


def clock_time(at: float) -> str:
    """Return a wall time as local time; with its date unless it is today's."""
    moment = time.localtime(at)
    today = time.localtime()[:3] == moment[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", moment)


def plural(number: int, noun: str) -> str:
    """Return `1 job`, `2 jobs`."""
    if number == 1:
        return f"1 {noun}"
    ending = "ies" if noun.endswith("y") else "s"
    return f"{number:,} {noun[:-1] if ending == 'ies' else noun}{ending}"


def counts_line(counts: Counts) -> str:
    """Return counts as one line; what is zero is left out."""
    if not counts.total:
        return "no jobs"
    parts = [
        f"{number:,} {word}"
        for word, number in (
            ("finished", counts.finished),
            ("failed", counts.failed),
            ("aborted", counts.aborted),
            ("started", counts.started),
        )
        if number
    ]
    if counts.unstarted:
        inside = [f"{n:,} {word}" for word, n in (("ready", counts.ready), ("stuck", counts.stuck)) if n]
        parts.append(f"{counts.unstarted:,} unstarted" + (f" ({', '.join(inside)})" if inside else ""))
    return ", ".join(parts)


def state(job: JobInfo) -> str:
    """Return a job's status, or where that says more, its predicate: ready, stuck."""
    if job.stuck:
        return "stuck"
    return "ready" if job.ready else job.status.value


def failure_line(failure: Failure | None) -> str:
    """Return a failure as the last line of a traceback has it, escaped; '' if there is none."""
    if failure is None:
        return ""
    lines = failure.message.strip().splitlines()
    last = lines[-1] if lines else ""
    if failure.exception and not last.startswith(failure.exception):
        last = f"{failure.exception}: {last}" if last else failure.exception
    return escape(last or failure.reason)


def job_json(job: JobInfo, *, full: bool = False) -> dict[str, Any]:
    """Return a job as `jobs --json` lists it; `full` adds its args and result, and the failure's traceback."""
    failure = None
    if job.failure is not None:
        failure = job.failure._asdict()
        if not full:
            del failure["traceback"]
    value: dict[str, Any] = {
        "id": job.id,
        "run": job.run,
        "name": job.name,
        "type": job.type,
        "status": job.status.value,
        "attempt": job.attempt,
        "failures": job.failures,
        "crashes": job.crashes,
        "interruptions": job.interruptions,
        "worker": job.worker,
        "dependencies": list(job.dependencies),
        "failure": failure,
        "priority": job.priority,
        "ready": job.ready,
        "stuck": job.stuck,
        "due_in_s": job.due_in_s,
        "waiting_for": job.waiting_for,
        "request": job.request,
        "adder": job.adder,
    }
    if full:
        value |= {"args": job.args, "result": job.result}
    return value


def attempt_json(record: AttemptRecord) -> dict[str, Any]:
    """Return one row of history as JSON values."""
    return {
        **record._asdict(),
        "outcome": record.outcome.value,
        "failure": None if record.failure is None else record.failure._asdict(),
    }


def how_ended(record: AttemptRecord) -> str:
    """Return how an attempt ended, with the signal or exit code of its runner if that says something."""
    from overseer_lite.liveness.identity import signal_name

    words = record.outcome.value
    if record.signal:
        words += f" (signal {record.signal} {signal_name(record.signal)})".replace(" )", ")")
    elif record.exit_code:
        words += f" (exit {record.exit_code})"
    return words


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]], color: str = "auto") -> None:
    """Print rows below their heads: drawn on a terminal that is wide enough, else in columns, however long the lines.

    Drawn, words that are statuses are coloured, and sentences are broken. Ids are whole either way, to be copied.
    """
    if is_terminal(color) and _draw_table(head, rows):
        return
    for line in columns(head, rows):
        click.echo(line)


def columns(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield rows below their heads as lines of plain columns."""
    cells = [[escape(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    for row in [list(head), *cells]:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _draw_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> bool:
    """Draw the table if the terminal has room for it; return whether it has."""
    from rich.console import Console
    from rich.measure import Measurement

    drawn = table(head, rows)
    console = Console(highlight=False)
    fits = Measurement.get(console, console.options.update(max_width=_ANY_WIDTH), drawn).minimum <= console.width
    if fits:
        console.print(drawn)
    return fits


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> RichTable:
    """Return rows below their heads as rich draws them; words that are statuses are coloured.

    A column without a head holds sentences, which are broken where they do not fit; all else stays whole on its line.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    cells = [[Text(escape(str(cell)), style=STYLES.get(str(cell), "")) for cell in row] for row in rows]
    for title, *column in zip(map(Text, head), *cells, strict=True):
        whole = max(text.cell_len for text in (title, *column))
        least = whole if title else min(whole, _SENTENCE_CHARS)
        table.add_column(title, overflow="fold", no_wrap=bool(title), min_width=least)
    for row in cells:
        table.add_row(*row)
    return table


def counts_text(counts: Counts) -> Text:
    """Return counts as one line for a terminal, each number in the colour of its status."""
    from rich.text import Text

    line = Text(no_wrap=True, overflow="ellipsis")
    for part in re.split(r"([\d,]+ [a-z]+)", counts_line(counts)):
        line.append(part, style=STYLES.get(part.rpartition(" ")[2], "dim"))
    return line
