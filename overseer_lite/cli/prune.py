"""The command `prune`: old runs that have ended leave the store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.act import dry_run_option
from overseer_lite.cli.session import command, json_option, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overseer_lite.store import RunInfo

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smhdw])")
_LISTED: Final = 20


def _seconds(_context: click.Context, _option: click.Parameter, value: str) -> float:
    """Return a duration (a number and its unit: 90s, 30m, 12h, 7d, 4w) as seconds."""
    found = _DURATION.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no duration: write a number and s, m, h, d or w, as 12h or 7d.")
    return float(found[1]) * _UNITS_S[found[2]]


@command(
    "prune",
    short_help="Remove old runs that have ended",
    example="overseer-lite prune --older 7d --dry-run\noverseer-lite prune --older 4w",
)
@click.option(
    "--older",
    "older_s",
    callback=_seconds,
    required=True,
    metavar="DURATION",
    help="Whose last attempt ended longer ago than that: 90s, 30m, 12h, 7d, 4w.",
)
@dry_run_option
@json_option
def prune(older_s: float, dry_run: bool, as_json: bool) -> None:
    """Remove whole runs that have ended: every job finished, failed or aborted. Results and files of theirs go too.

    A run with a stuck job has not ended, and one on which a job of another run depends stays as long as that one.
    """
    pruned = session().store().prune(older_s, dry_run=dry_run)
    if as_json:
        say.print_json({"runs": [_run_json(run) for run in pruned], "dry_run": dry_run})
        return
    if not pruned:
        click.echo("Nothing to do.")
        return
    _print_runs(pruned, dry_run=dry_run)


def _run_json(run: RunInfo) -> dict[str, object]:
    return {"id": run.id, "submitted_at": run.submitted_at, "jobs": run.counts._asdict()}


def _print_runs(pruned: Sequence[RunInfo], *, dry_run: bool) -> None:
    what = f"{say.plural(len(pruned), 'run')} of {say.plural(sum(run.counts.total for run in pruned), 'job')}"
    click.echo(f"{what} would be removed:" if dry_run else f"Removed {what}:")
    for run in pruned[:_LISTED]:
        click.echo(f"  {say.escape(run.id)}: {say.counts_line(run.counts)}")
    if len(pruned) > _LISTED:
        click.echo(f"  and {len(pruned) - _LISTED:,} more")
