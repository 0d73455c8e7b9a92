"""`logs`: what an attempt wrote. An ended one's is in the history, a running one's is a stretch of its runner's file."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.session import command, find_job, job_argument, run_option, session
from overseer_lite.errors import InvalidInputError
from overseer_lite.job import Status

if TYPE_CHECKING:
    from overseer_lite.cli.running import Activity
    from overseer_lite.job import AttemptRecord, JobInfo
    from overseer_lite.store import FullStore

_PAUSE_S = 0.1


@command(
    "logs",
    short_help="Print what a job wrote to stdout and stderr",
    example="overseer-lite logs nightly-2026-11-24/train\noverseer-lite logs train -f",
)
@job_argument
@click.option("--attempt", "number", type=click.IntRange(min=1), metavar="N", help="That attempt; the last by default.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@run_option
def logs(job_id: str, number: int | None, follow: bool, run: str | None) -> None:
    """Print what a job's attempt wrote to stdout and stderr."""
    store = session().store()
    job = find_job(store, job_id, run)
    if number is None and follow:
        _follow(store, job)
        return
    if number is None:
        history = store.attempts(job.id)
        number = job.attempt if job.status is Status.STARTED else (history[-1].number if history else None)
    if number is None:
        click.echo(f"overseer-lite: Job {job.id!r} has had no attempt yet.", err=True)
        return
    _print_attempt(store, job, number)


def _print_attempt(store: FullStore, job: JobInfo, number: int) -> None:
    if job.status is Status.STARTED and job.attempt == number:
        activity = _activity(store, job)
        if activity is not None:
            _copy(activity, 0)
            return
    record = _record(store, job.id, number)
    if record is None:
        known = ", ".join(str(each.number) for each in store.attempts(job.id))
        raise InvalidInputError(f"Job {job.id!r} has no attempt {number} in its history, which has: {known or 'none'}.")
    _print_kept(record, 0)


def _follow(store: FullStore, job: JobInfo) -> None:
    """Print what there is, then what comes, of one attempt after the other, until the job is terminal."""
    shown, done = 0, 0  # the attempt that is being shown, and how many bytes of it were
    settled: set[int] = {each.number for each in store.attempts(job.id)[:-1]}
    while True:
        now = store.job_info(job.id)
        assert now is not None
        for record in store.attempts(job.id):
            if record.number not in settled:
                settled.add(record.number)
                _print_kept(record, done if record.number == shown else 0)
                done = 0
        if now.status.terminal or now.stuck:
            return
        if now.status is Status.STARTED and now.attempt not in settled:
            activity = _activity(store, now)
            if activity is not None:
                if now.attempt != shown:
                    shown, done = now.attempt, 0
                done += _copy(activity, done)
        time.sleep(_PAUSE_S)


def _record(store: FullStore, job_id: str, number: int) -> AttemptRecord | None:
    return next((each for each in store.attempts(job_id) if each.number == number), None)


def _activity(store: FullStore, job: JobInfo) -> Activity | None:
    """Return what the job's worker does, if its runner is on this very attempt."""
    from overseer_lite.cli.running import activities

    mine = [each for each in store.workers() if each.id == job.worker]
    for activity in activities(store, mine):
        if activity.output and activity.attempt is not None and activity.attempt[:2] == (job.id, job.attempt):
            return activity
    return None


def _copy(activity: Activity, skip: int) -> int:
    """Print a running attempt's output from that byte on; return how many bytes that was."""
    assert activity.output is not None
    start = activity.output_start + skip
    try:
        with open(activity.output, "rb") as file:
            size = os.fstat(file.fileno()).st_size if activity.output_end is None else activity.output_end
            file.seek(start)
            data = file.read(max(0, size - start))
    except FileNotFoundError:
        return 0  # settled meanwhile: the history has it
    _write(data)
    return len(data)


def _print_kept(record: AttemptRecord, skip: int) -> None:
    """Print what the history keeps of an attempt, but not the bytes of it that were printed already."""
    kept = record.output.encode(errors="surrogatepass")
    missing = max(0, record.output_bytes - len(kept))
    if missing > skip:
        click.echo(f"overseer-lite: The first {missing - skip:,} bytes were not kept.", err=True)
    _write(kept[max(0, skip - missing) :])


def _write(data: bytes) -> None:
    """Write output as it is; on a terminal nothing in it but colours may steer."""
    if sys.stdout.isatty():
        click.echo(say.escape_output(data.decode(errors="replace").replace("\r\n", "\n")), nl=False)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
    sys.stdout.flush()
