"""One job in full, for people."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import click

from overseer_lite.cli import show as say
from overseer_lite.job import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from overseer_lite.job import AttemptRecord, JobInfo
    from overseer_lite.store import FullStore

_DEPENDENCIES_SHOWN = 10
_OUTPUT_LINES = 15
_VALUE_CHARS = 2000


def print_job(store: FullStore, job: JobInfo, history: Sequence[AttemptRecord], color: str) -> None:
    """Print what is known of a job."""
    drawn = say.is_terminal(color)
    for number, line in enumerate(_facts(store, job)):
        click.echo(_drawn(line, first=not number) if drawn else line)
    if history or job.status is Status.STARTED:
        click.echo("")
        say.print_table(("attempt", "worker", "began", "ran", "outcome", ""), list(_rows(job, history)), color)
    if job.failure is not None and job.status is not Status.FINISHED:
        words = job.failure.traceback or f"{job.failure.reason}: {job.failure.message}"
        above, _, last = say.escape(words.rstrip(), keep=chr(10)).rpartition("\n")
        click.echo("\n" + (f"{above}\n" if above else "") + (click.style(last, fg="red") if drawn else last))
    _print_output(job, history)


def _drawn(line: str, *, first: bool) -> str:
    """Return a line of facts for a terminal: the id and its status stand out, labels stand back."""
    if not first:
        return click.style(line[:10], dim=True) + line[10:]
    job_id, _, status = line.rpartition("  ")
    style = say.STYLES.get(re.split(r"[ (]", status.rstrip(")"))[-1], "").split()
    colour = style[-1] if style and style[-1] not in ("bold", "dim", "default") else None
    return click.style(job_id, bold=True) + "  " + click.style(status, fg=colour, bold="bold" in style)


def _facts(store: FullStore, job: JobInfo) -> Iterator[str]:
    yield f"{say.escape(job.id)}  {job.status.value}" + ("" if say.state(job) == job.status else f" ({say.state(job)})")
    yield f"type      {say.escape(job.type)}"
    yield f"run       {say.escape(job.run)}"
    if job.adder is not None:
        yield f"added by  {say.escape(job.adder)}"
    if job.priority:
        yield f"priority  {job.priority}"
    if job.args:
        yield f"args      {_short(job.args)}"
    if job.request:
        yield f"request   {job.request}; its worker has not granted it yet"
    if job.due_in_s is not None:
        yield f"due       in {say.duration(job.due_in_s)}"
    for number, dependency in enumerate(job.dependencies[:_DEPENDENCIES_SHOWN]):
        found = store.job_info(dependency)
        yield f"{'after' if not number else '':10}{say.escape(dependency)}" + (f"  {say.state(found)}" if found else "")
    if len(job.dependencies) > _DEPENDENCIES_SHOWN:
        yield f"{'':10}and {len(job.dependencies) - _DEPENDENCIES_SHOWN} more"
    if job.status is Status.FINISHED and job.result is not None:
        yield f"result    {_short(job.result)}"


def _short(value: object) -> str:
    text = say.escape(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _VALUE_CHARS else f"{text[:_VALUE_CHARS]}... ({len(text):,} characters; --json has all)"


def _rows(job: JobInfo, history: Sequence[AttemptRecord]) -> Iterator[tuple[object, ...]]:
    for each in history:
        ran = "" if each.ran_s is None else say.duration(each.ran_s)
        began = say.clock_time(each.reserved_at)
        yield (each.number, each.worker, began, ran, say.how_ended(each), say.failure_line(each.failure))
    if job.status is Status.STARTED:
        yield (job.attempt, job.worker, "", "", "started", "")


def _print_output(job: JobInfo, history: Sequence[AttemptRecord]) -> None:
    """Print the last lines of the last attempt's output."""
    if not history or not history[-1].output:
        return
    last = history[-1]
    lines = last.output.rstrip().splitlines()
    shown = lines[-_OUTPUT_LINES:]
    whole = len(shown) == len(lines) and last.output_bytes == len(last.output.encode())
    more = "" if whole else f", its last lines (all: overseer-lite logs {say.escape(job.id)})"
    click.echo(f"\noutput of attempt {last.number}{more}:")
    for line in shown:
        click.echo(f"  {say.escape_output(line)}")
