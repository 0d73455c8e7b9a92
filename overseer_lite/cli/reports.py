"""Reports of a run as `run` leaves them: files, and annotations where GitHub reads the output."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from overseer_lite.cli import show as say

if TYPE_CHECKING:
    from overseer_lite.store import FullStore

_STEP_SUMMARY: Final = "GITHUB_STEP_SUMMARY"


junit_option = click.option("--junit", metavar="F", help="Write the jobs as JUnit XML, args left out.")
summary_option = click.option(
    "--summary", metavar="F", help=f"Write a summary as Markdown; by default to ${_STEP_SUMMARY}."
)


class Reports(NamedTuple):
    """Which files are asked for; None: not that one."""

    junit: str | None = None
    summary: str | None = None


def asked(junit: str | None, summary: str | None) -> Reports:
    """Return which reports the options and the environment ask for."""
    return Reports(junit, summary or os.environ.get(_STEP_SUMMARY) or None)


def write(store: FullStore, run: str, reports: Reports) -> bool:
    """Write the reports that are asked for; False if a file could not be written, which is said on stderr."""
    from overseer_lite import report

    written = True
    if reports.junit:
        written &= _put("JUnit report", reports.junit, report.junit(store, run))
    if reports.summary:
        written &= _put("summary", reports.summary, report.markdown(store, run))
    return written


def annotate(store: FullStore, run: str, *, err: bool) -> None:
    """Print annotations if a step of GitHub Actions is what reads the output; it reads stderr as well."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from overseer_lite import report

        for line in report.error_annotations(store, run):
            click.echo(line, err=err)


def _put(what: str, path: str, text: str) -> bool:
    # All commands of a step share its summary; any other file is ours alone, and an old one must not be taken for new.
    mode = "a" if path == os.environ.get(_STEP_SUMMARY) else "w"
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, mode, encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        click.echo(f"overseer-lite: Cannot write the {what} to {say.escape(path)}: {reason}.", err=True)
        return False
    return True
