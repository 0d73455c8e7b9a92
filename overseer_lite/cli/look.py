"""Commands that look and change nothing: jobs, show, workers, runs, wait. `status` has a room of its own."""

from __future__ import annotations

import itertools
import signal
import time
from typing import TYPE_CHECKING, Any

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.session import (
    check_run,
    command,
    completing,
    find_job,
    job_argument,
    json_option,
    run_option,
    session,
)
from overseer_lite.cli.status import look_at_workers, worker_json
from overseer_lite.errors import InvalidInputError, TimedOutError
from overseer_lite.job import Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from overseer_lite.cli.running import Activity
    from overseer_lite.job import JobInfo
    from overseer_lite.store import Counts, FullStore

_PAGE = 100
_PAGE_OF_STORE = 2000


# ---- jobs ------------------------------------------------------------------------------------------------------------


@command(
    "jobs",
    short_help="List jobs",
    example="overseer-lite jobs --status failed\noverseer-lite jobs --run nightly --type count --json",
)
@click.option(
    "--status",
    "wanted",
    type=click.Choice([*(each.value for each in Status), "ready", "stuck"]),
    help="Only those of that status; ready and stuck are among the unstarted.",
)
@click.option("--type", "kind", metavar="TYPE", help="Only those of that type.", shell_complete=completing("type"))
@run_option
@click.option("--text", metavar="TEXT", help="Only those with that text in their id.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help=f"At most so many; {_PAGE} unless --json is given."
)
@click.option("--offset", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out so many first.")
@json_option
def jobs(
    wanted: str | None,
    kind: str | None,
    run: str | None,
    text: str | None,
    limit: int | None,
    offset: int,
    as_json: bool,
) -> None:
    """List jobs, in order of submission."""
    store = session().store()
    check_run(store, run)
    if limit is None and not as_json:
        limit = _PAGE
    filters: dict[str, Any] = {"run": run, "type": kind, "text": text}
    found = _list(store, wanted, filters, None if limit is None else limit + 1, offset)
    page = found if limit is None else found[:limit]
    if kind is not None and not found:
        _suggest_type(store, kind)
    if as_json:
        say.print_json([say.job_json(job) for job in page])
        return
    if not page:
        click.echo("no such jobs")
        return
    say.print_table(
        ("status", "id", "type", "attempt", ""),
        [(say.state(job), job.id, job.type, job.attempt or "", _note(job)) for job in page],
        session().settings.color,
    )
    if len(found) > len(page):
        click.echo(f"more: --offset {offset + len(page)} shows the next ones")


def _list(
    store: FullStore, wanted: str | None, filters: dict[str, Any], limit: int | None, offset: int
) -> list[JobInfo]:
    if wanted not in ("ready", "stuck"):
        return store.jobs(status=None if wanted is None else Status(wanted), limit=limit, offset=offset, **filters)
    found = (job for job in _pages(store, filters) if getattr(job, wanted))
    return list(itertools.islice(found, offset, None if limit is None else offset + limit))


def _pages(store: FullStore, filters: dict[str, Any]) -> Iterator[JobInfo]:
    """Yield the unstarted jobs: ready and stuck are predicates, by which the store does not list."""
    for offset in itertools.count(0, _PAGE_OF_STORE):
        page = store.jobs(status=Status.UNSTARTED, limit=_PAGE_OF_STORE, offset=offset, **filters)
        yield from page
        if len(page) < _PAGE_OF_STORE:
            return


def _suggest_type(store: FullStore, kind: str) -> None:
    from overseer_lite.errors import nearest

    known = {job.type for job in store.jobs(limit=5000)}
    if kind not in known:
        near = nearest(kind, sorted(known))
        hint = f" Did you mean {near!r}?" if near else ""
        click.echo(f"overseer-lite: No job has type {say.escape(kind)!r}.{hint}", err=True)


def _note(job: JobInfo) -> str:
    """Return the few words that say most about where a job stands."""
    if job.status is Status.STARTED:
        return f"{job.worker}" + (f", {job.request} requested" if job.request else "")
    words = []
    if job.due_in_s is not None:
        words.append(f"in {say.duration(job.due_in_s)}")
    if job.status is Status.UNSTARTED and job.waiting_for:
        words.append(f"waits for {job.waiting_for} of {len(job.dependencies)}")
    if job.failure is not None and job.status is not Status.FINISHED:
        words.append(say.failure_line(job.failure))
    return "; ".join(words)


# ---- show ------------------------------------------------------------------------------------------------------------


@command(
    "show",
    short_help="Show one job and all its attempts",
    example="overseer-lite show nightly-2026-11-24/merge\noverseer-lite show merge --result",
)
@job_argument
@click.option("--result", "only_result", is_flag=True, help="Print its result, as JSON, and nothing else.")
@run_option
@json_option
def show(job_id: str, only_result: bool, run: str | None, as_json: bool) -> None:
    """Show one job: its dependencies, every attempt, and why it failed.

    ID is the job's id, or its name where only one job (of the run) has it.
    """
    store = session().store()
    job = find_job(store, job_id, run)
    if only_result:
        if job.status is not Status.FINISHED:
            raise InvalidInputError(f"Job {job.id!r} has no result: it is {job.status.value}.")
        say.print_json(job.result)
        return
    history = store.attempts(job.id)
    if as_json:
        say.print_json({**say.job_json(job, full=True), "attempts": [say.attempt_json(each) for each in history]})
        return
    from overseer_lite.cli.details import print_job

    print_job(store, job, history, session().settings.color)


# ---- workers, runs ---------------------------------------------------------------------------------------------------


@command("workers", short_help="List the workers", example="overseer-lite workers")
@json_option
def workers(as_json: bool) -> None:
    """List the workers: who they are, what they handle, what they do."""
    store = session().store()
    found = look_at_workers(store)
    if as_json:
        say.print_json(
            [
                {
                    **worker_json(each),
                    "app": each.worker.app,
                    "types": list(each.worker.types),
                    "run": each.worker.run,
                    "attempt": None if each.attempt is None else each.attempt.number,
                    "elapsed_s": None if each.attempt is None else round(each.elapsed_s, 3),
                    "progress": each.progress,
                    "step": each.step,
                }
                for each in found
            ]
        )
        return
    if not found:
        click.echo("workers: none")
        return
    say.print_table(
        ("worker", "pid", "runner", "state", "job", "for", "app", "types"),
        [
            (
                each.worker.id,
                each.worker.pid,
                each.worker.runner_pid or "-",
                _life(store, each),
                each.attempt.job_id if each.attempt else "-",
                say.duration(each.elapsed_s) if each.attempt else "",
                each.worker.app + (f" (run {each.worker.run})" if each.worker.run else ""),
                ", ".join(each.worker.types),
            )
            for each in found
        ],
        session().settings.color,
    )


def _life(store: FullStore, each: Activity) -> str:
    """Return what is known of a worker: dead is the kernel's word, silent is ours."""
    from overseer_lite.cli.running import life

    found = life(store, each.worker)
    if found is not None and found.value != "running":
        return {"gone": "dead", "other boot": "dead (other boot)", "foreign": "in another namespace"}.get(
            found.value, found.value
        )
    return f"silent for {say.duration(each.silent_s)}" if _is_silent(each.silent_s) else "alive"


def _is_silent(silent_s: float) -> bool:
    settings = session().settings
    return silent_s > settings.heartbeat_interval_s * settings.tolerance


@command("runs", short_help="List the runs", example="overseer-lite runs --limit 5")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="At most so many."
)
@json_option
def runs(limit: int, as_json: bool) -> None:
    """List the runs, newest first."""
    store = session().store()
    found = store.runs(limit)
    if as_json:
        say.print_json(
            [{"id": each.id, "submitted_at": each.submitted_at, "jobs": each.counts._asdict()} for each in found]
        )
        return
    if not found:
        click.echo("no runs")
        return
    say.print_table(
        ("run", "submitted", "jobs"),
        [(each.id, say.clock_time(each.submitted_at), say.counts_line(each.counts)) for each in found],
        session().settings.color,
    )


# ---- wait ------------------------------------------------------------------------------------------------------------


@command(
    "wait",
    short_help="Wait until nothing is left that can run",
    example="overseer-lite wait --run nightly-2026-11-24 --timeout 3600",
)
@run_option
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), metavar="SECONDS", help="Exit 4 after so long.")
@json_option
def wait(run: str | None, timeout_s: float | None, as_json: bool) -> int:
    """Wait until nothing is left that can run; exit 0 if all jobs are finished, else 1."""
    store = session().store()
    check_run(store, run)
    what = f"Run {run!r}" if run is not None else "The jobs of this store"
    for counts in _watch(store, run, timeout_s, what):
        if not counts.total:
            raise InvalidInputError("There are no jobs to wait for: the store is empty. Submit some first.")
        if not counts.started and counts.unstarted == counts.stuck:
            if as_json:
                say.print_json({"jobs": counts._asdict(), "exit_code": counts.exit_code})
            else:
                click.echo(say.counts_line(counts))
            return counts.exit_code
    raise AssertionError("unreachable")


class _TerminatedError(BaseException):
    pass


def _raise_terminated(_number: int, _frame: FrameType | None) -> None:
    raise _TerminatedError


def _watch(store: FullStore, run: str | None, timeout_s: float | None, what: str) -> Iterator[Counts]:
    """Yield the counts every now and then, SIGTERM ends it with 143."""
    began = time.monotonic()
    before = signal.signal(signal.SIGTERM, _raise_terminated)
    pause_s = 0.02
    try:
        while True:
            asked = time.monotonic()
            yield store.counts(run)
            took_s = time.monotonic() - asked
            pause_s = max(min(pause_s * 1.5, 0.5), 10 * took_s)  # a large store is not asked all the time
            if timeout_s is not None:
                left_s = began + timeout_s - time.monotonic()
                if left_s <= 0:
                    raise TimedOutError(what, timeout_s)
                pause_s = min(pause_s, left_s)
            time.sleep(pause_s)
    except _TerminatedError:
        click.get_current_context().exit(128 + signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
