"""What `run` says at its end: where the time went, what failed and how to see more, counts, how to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.session import hint
from overseer_lite.job import Status
from overseer_lite.liveness.identity import signal_name
from overseer_lite.report.profile import PROFILED_UP_TO, Profile, profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from overseer_lite.job import JobInfo
    from overseer_lite.report.profile import Spent
    from overseer_lite.store import Counts, FullStore

_FAILURES_SHOWN: Final = 10
_RECOVERED_SHOWN: Final = 5
_CHAIN_SHOWN: Final = 5
_LABEL_CHARS: Final = 10
_PARALLEL_FROM_S: Final = 1.0  # of less, starting and stopping is all that is seen


class Again(NamedTuple):
    """How to go on with a run.

    Attributes:
        command: The command that continues it.
        remark: What must be said of it; args may be secret, and are not repeated.
    """

    command: str
    remark: str = ""


class Line(NamedTuple):
    """A line of the summary: a label that begins it, the rest, and the status in whose colour the label is, or `bold`."""

    label: str
    text: str
    word: str = ""


def print_summary(
    store: FullStore, run: str, counts: Counts, code: int, took_s: float, again: Again, *, since: float, color: str
) -> None:
    """Print how a run ended.

    Args:
        since: When this command began to work on it, wall time.
    """
    for lines in (_time_lines(store, run, counts, since), _failure_lines(store, run, counts)):
        shown = list(lines)
        if shown:
            click.echo("")
        for line in shown:
            _print(line, color)
    click.echo("")
    word = {0: "finished", 1: "failed"}.get(code, "stuck")
    _print(Line(ending(code), f"in {say.duration(took_s)}: {say.counts_line(counts)}", word), color)
    click.echo(f"run {say.escape(run)} in {store.path}")
    if counts.failed or counts.aborted:
        click.echo(f"to try the failed jobs again: {again.command} --retry{again.remark}")
    elif counts.started or counts.unstarted:
        click.echo(f"to go on: {again.command}{again.remark}")


def ending(code: int) -> str:
    """Return how a run of that exit code ended."""
    words = {0: "finished", 1: "ended with failures", 4: "timed out", 5: "workers lost"}
    if code > 128:
        return f"stopped by {signal_name(code - 128)}"
    return words.get(code, "could not go on")


def ended_badly(store: FullStore, run: str) -> list[JobInfo]:
    """Return the failed jobs of a run, then the aborted ones."""
    return [*store.jobs(run=run, status=Status.FAILED), *store.jobs(run=run, status=Status.ABORTED)]


def _print(line: Line, color: str) -> None:
    label = line.label
    if line.word and say.is_terminal(color):
        style = say.STYLES.get(line.word, "bold").split()
        label = click.style(label, fg=style[-1] if style[-1] != "bold" else None, bold="bold" in style)
    click.echo(f"{label} {line.text}" if label else line.text)


# ---- where the time went ---------------------------------------------------------------------------------------------


def _time_lines(store: FullStore, run: str, counts: Counts, since: float) -> Iterator[Line]:
    found = profile(store, run, since=since)
    if found is None:
        text = f"of {counts.total:,} jobs are not looked for; up to {PROFILED_UP_TO:,} they are"
        yield Line("the slowest", text)
        return
    if len(found.slowest) > 1:
        yield from _slowest_lines(found.slowest)
        yield from _chain_lines(found)
    for each in found.recovered[:_RECOVERED_SHOWN]:
        how = f"attempt {each.attempt.number} {say.how_ended(each.attempt)}, finished on attempt {each.job.attempt}"
        yield Line(f"{'recovered':{_LABEL_CHARS}}", f"{say.escape(each.job.id)}: {how}", "bold")
    if len(found.recovered) > _RECOVERED_SHOWN:
        more = len(found.recovered) - _RECOVERED_SHOWN
        yield Line("", f"{'':{_LABEL_CHARS}} and {say.plural(more, 'attempt')} more that were cut short")


def _slowest_lines(slowest: Sequence[Spent]) -> Iterator[Line]:
    width = max(len(say.duration(each.seconds)) for each in slowest)
    for number, (job, seconds) in enumerate(slowest):
        attempts = f" in {job.attempt} attempts" if job.attempt > 1 else ""
        text = f"{say.duration(seconds):>{width}}  {say.escape(job.id)}{attempts}"
        yield Line(f"{'' if number else 'slowest':{_LABEL_CHARS}}", text, "bold")


def _chain_lines(found: Profile) -> Iterator[Line]:
    names = [f"{say.escape(each.job.name)} {say.duration(each.seconds)}" for each in found.chain]
    if len(names) > _CHAIN_SHOWN:
        left_out = len(names) - _CHAIN_SHOWN + 1
        names[2:-2] = [f"({left_out} more)"]
    if len(names) > 1:
        chain = f"{say.duration(found.chain_s)}: {' > '.join(names)}"
        yield Line(f"{'longest':{_LABEL_CHARS}}", f"chain of jobs {chain}", "bold")
    if found.span_s >= _PARALLEL_FROM_S:
        text = (
            f"{found.parallel:.1f} jobs at a time: {say.duration(found.busy_s)} of work in {say.duration(found.span_s)}"
        )
        yield Line(f"{'parallel':{_LABEL_CHARS}}", text, "bold")


# ---- what failed -----------------------------------------------------------------------------------------------------


def _failure_lines(store: FullStore, run: str, counts: Counts) -> Iterator[Line]:
    if not counts.failed and not counts.aborted:
        return
    jobs = ended_badly(store, run)
    for job in jobs[:_FAILURES_SHOWN]:
        message = say.failure_line(job.failure)
        text = say.escape(job.id) + (f": {message}" if message else "")
        yield Line(f"{job.status.value:<8}", text, job.status.value)
        yield Line("", f"{'':8} {hint('show', job.id)}")
    if len(jobs) > _FAILURES_SHOWN:
        yield Line("", f"and {len(jobs) - _FAILURES_SHOWN:,} more: {hint('jobs', '--status', 'failed', '--run', run)}")
    if counts.stuck:
        yield Line("", f"{say.plural(counts.stuck, 'job')} stuck behind what failed")
