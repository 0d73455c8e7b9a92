"""A run for people who look at CI: a summary in GitHub-flavoured Markdown, and annotations for failures."""

from __future__ import annotations

import html
import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from overseer_lite.job import Status
from overseer_lite.report.facts import CUT_SHORT, each_history, failure_line, find_run, plain, ran_s
from overseer_lite.report.mermaid import mermaid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from overseer_lite.job import AttemptRecord, JobInfo
    from overseer_lite.store import Counts, FullStore

_LISTED: Final = 20
_SLOWEST: Final = 5
_ANNOTATED: Final = 10  # GitHub shows so many errors of a step, and drops the others
_CODE_CHARS: Final = 300
_TRACEBACK_CHARS: Final = 4000


class _Cut(NamedTuple):
    """An attempt that was cut short, and its job."""

    job: JobInfo
    attempt: AttemptRecord


def markdown(store: FullStore, run: str) -> str:
    """Return a run as Markdown: counts, failures, the slowest jobs, attempts cut short, and the graph as a picture.

    What a job or its handler named or wrote stands in code, where it can make neither a link nor a heading. Lists end
    after twenty rows and say how many more there are.

    Raises:
        UnknownRunError: There is no such run.
    """
    counts = find_run(store, run).counts
    jobs = store.jobs(run=run)
    spent: list[tuple[float, JobInfo]] = []
    cut: list[_Cut] = []
    for job, attempts in each_history(store, jobs):
        spent.append((ran_s(attempts), job))
        cut += [_Cut(job, each) for each in attempts if each.outcome in CUT_SHORT]
    slowest = sorted((pair for pair in spent if pair[0] > 0), key=lambda pair: -pair[0])[:_SLOWEST]
    sections = (_head(run, counts), _failures(jobs), _slowest(slowest), _cut_short(cut), _graph(jobs))
    return "\n".join(line for section in sections for line in section)


def error_annotations(store: FullStore, run: str) -> list[str]:
    """Return a line `::error ...` for each job that failed or gave itself up, as GitHub reads them from a step's output.

    At most ten, the last of which then says how many more there are. Silent aborts and jobs that were aborted along
    with another have none. A failure in a file below the working directory is annotated at that line.

    Raises:
        UnknownRunError: There is no such run.
    """
    find_run(store, run)
    found = [*store.jobs(run=run, status=Status.FAILED), *store.jobs(run=run, status=Status.ABORTED)]
    told = [job for job in found if not _is_quiet(job)]
    if len(told) <= _ANNOTATED:
        return [_annotation(job) for job in told]
    shown = told[: _ANNOTATED - 1]
    return [*map(_annotation, shown), f"::error::and {len(told) - len(shown):,} more jobs of run {_data(plain(run))}"]


# ---- Markdown --------------------------------------------------------------------------------------------------------


def code(text: str) -> str:
    """Return text as code on one line, which holds in a table as well; cut if it is long, '' if there is none."""
    text = plain(" ".join(text.split()))
    text = text if len(text) <= _CODE_CHARS else f"{text[:_CODE_CHARS]}..."
    if "`" not in text and "|" not in text:
        return f"`{text}`" if text else ""
    # A backtick would end the code and a bar the cell, whatever stands before them: as entities they do not.
    return "<code>" + re.sub(r"[^\w ]|_", lambda found: f"&#{ord(found[0])};", text) + "</code>"


def _head(run: str, counts: Counts) -> Iterator[str]:
    if counts.exit_code == 0:
        ending = "finished"
    elif counts.started or counts.unstarted > counts.stuck:
        ending = "not at its end"
    else:
        ending = "ended with failures"
    yield f"## Run {code(run)}: {ending}"
    yield ""
    yield from _table(
        ("jobs", "finished", "failed", "aborted", "stuck", "started", "unstarted"),
        [
            (
                f"{counts.total:,}",
                f"{counts.finished:,}",
                f"{counts.failed:,}",
                f"{counts.aborted:,}",
                f"{counts.stuck:,}",
                f"{counts.started:,}",
                f"{counts.unstarted - counts.stuck:,}",
            )
        ],
    )


def _failures(jobs: Sequence[JobInfo]) -> Iterator[str]:
    bad = [job for job in jobs if job.status in (Status.FAILED, Status.ABORTED)]
    if not bad:
        return
    yield "### Failed and aborted"
    yield ""
    rows = [(code(job.id), job.status.value, str(job.attempt), code(failure_line(job.failure))) for job in bad]
    yield from _table(("job", "status", "attempts", "failure"), rows)
    for job in bad[:_LISTED]:
        if job.failure is not None and job.failure.traceback:
            yield from _traceback(job.id, plain(job.failure.traceback).rstrip()[-_TRACEBACK_CHARS:])


def _traceback(job_id: str, text: str) -> Iterator[str]:
    # Backticks are what can end the block: its fence is longer than any run of them inside.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    yield f"<details><summary>Traceback of <code>{html.escape(plain(job_id))}</code></summary>"
    yield from ("", f"{fence}text", text, fence, "", "</details>", "")


def _slowest(slowest: Sequence[tuple[float, JobInfo]]) -> Iterator[str]:
    if not slowest:
        return
    yield "### Slowest"
    yield ""
    rows = [(code(job.id), code(job.type), f"{seconds:,.3f} s", str(job.attempt)) for seconds, job in slowest]
    yield from _table(("job", "type", "ran", "attempts"), rows)


def _cut_short(cut: Sequence[_Cut]) -> Iterator[str]:
    if not cut:
        return
    yield "### Attempts cut short"
    yield ""
    rows = [(code(job.id), str(each.number), _how(each), _afterwards(job)) for job, each in cut]
    yield from _table(("job", "attempt", "how", "the job now"), rows)


def _how(attempt: AttemptRecord) -> str:
    if attempt.signal:
        return f"{attempt.outcome.value} (signal {attempt.signal})"
    return f"{attempt.outcome.value} (exit {attempt.exit_code})" if attempt.exit_code else attempt.outcome.value


def _afterwards(job: JobInfo) -> str:
    return f"recovered: finished on attempt {job.attempt}" if job.status is Status.FINISHED else job.status.value


def _graph(jobs: Sequence[JobInfo]) -> Iterator[str]:
    yield "### Graph"
    yield ""
    picture = mermaid(jobs)
    if picture:
        yield f"```mermaid\n{picture}```"
    else:
        yield "Too many types and dependencies to be drawn."
    yield ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows[:_LISTED]):
        yield f"| {' | '.join(row)} |"
    yield ""
    if len(rows) > _LISTED:
        yield f"and {len(rows) - _LISTED:,} more"
        yield ""


# ---- annotations -----------------------------------------------------------------------------------------------------


def _is_quiet(job: JobInfo) -> bool:
    return job.status is Status.ABORTED and (job.failure is None or job.failure.silent)


def _annotation(job: JobInfo) -> str:
    properties = {"title": f"{plain(job.id)} {job.status.value}", **_place(job)}
    written = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::error {written}::{_data(failure_line(job.failure) or job.status.value)}"


def _place(job: JobInfo) -> dict[str, str]:
    """Return the innermost line of a traceback that lies below the working directory, as GitHub names it."""
    here = os.getcwd() + os.sep
    traceback = (job.failure and job.failure.traceback) or ""
    for file, line in reversed(re.findall(r'(?m)^  File "([^"\n]+)", line (\d+)', traceback)):
        if file.startswith(here) and "/site-packages/" not in file:
            return {"file": plain(file.removeprefix(here)), "line": line}
    return {}


def _data(text: str) -> str:
    """Return text as a workflow command takes it; a line feed would end it and begin another."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Return text as the value of a workflow command's property."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
