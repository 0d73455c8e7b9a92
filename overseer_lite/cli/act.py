"""Commands that act on stored jobs: retry, abort, reset. Each can list first what it would change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.session import check_run, command, find_jobs, jobs_argument, json_option, run_option, session
from overseer_lite.errors import IllegalTransitionError, InvalidInputError
from overseer_lite.job import Status, check_transition, sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from overseer_lite.job import JobInfo
    from overseer_lite.store import FullStore

_LISTED = 20
dry_run_option = click.option("--dry-run", is_flag=True, help="Only list what would change.")


# ---- retry -----------------------------------------------------------------------------------------------------------


@command(
    "retry",
    short_help="Put failed and aborted jobs back to unstarted",
    example="overseer-lite retry nightly-2026-11-24/merge\noverseer-lite retry --failed --run nightly",
)
@jobs_argument(required=False)
@click.option("--failed", "all_failed", is_flag=True, help="All failed jobs (of the run).")
@click.option("--with-dependents", is_flag=True, help="And those after them that failed or were aborted.")
@click.option("--no-renew", is_flag=True, help="Leave live workers with the code that they run.")
@run_option
@dry_run_option
@json_option
def retry(
    job_ids: tuple[str, ...],
    all_failed: bool,
    with_dependents: bool,
    no_renew: bool,
    run: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put failed and aborted jobs back to unstarted, their counts anew.

    Live workers whose code is older than the file on disk import it afresh first, by SIGHUP to their supervisor, so that
    the jobs run the mended code.
    """
    if bool(job_ids) == all_failed:
        raise InvalidInputError("Give the ids of jobs to retry, or --failed. Nothing was changed.")
    store = session().store()
    check_run(store, run)
    chosen = _failed(store, run) if all_failed else [job.id for job in _retriable(find_jobs(store, job_ids, run))]
    if with_dependents:
        chosen += _ended_badly(store, store.dependents(chosen))
    chosen = list(dict.fromkeys(chosen))
    if chosen and not dry_run:
        _renew(store, run, ask=not no_renew)
        store.retry(chosen)
    _report(chosen, "Retried", "would be retried", dry_run=dry_run, as_json=as_json)


def _renew(store: FullStore, run: str | None, *, ask: bool) -> None:
    """Have live workers run the code as it is now, and say so; without asking them, say only how."""
    from overseer_lite.cli import renew as room

    if ask:
        renewed = room.renew(store, run)
        warnings = renewed.warnings
        if renewed.workers:
            files = ", ".join(renewed.files)
            told = f"{say.plural(renewed.workers, 'worker')} renewed: {files}, or a module beside it, is newer than what they ran."
            click.echo(f"overseer-lite: {say.escape(told)}", err=True)
    else:
        warnings = list(dict.fromkeys(map(room.warning, room.stale(store, run))))
    for warning in warnings:
        click.echo(f"overseer-lite: {say.escape(warning)}", err=True)


def _failed(store: FullStore, run: str | None) -> list[str]:
    return [job.id for job in store.jobs(run=run, status=Status.FAILED)]


def _retriable(jobs: Iterable[JobInfo]) -> Iterable[JobInfo]:
    for job in jobs:
        check_transition(job.id, "retry", job.status, "only failed and aborted jobs can be retried")
        yield job


def _ended_badly(store: FullStore, job_ids: Iterable[str]) -> list[str]:
    found = (store.job_info(job_id) for job_id in job_ids)
    return [job.id for job in found if job is not None and job.status in sources("retry")]


# ---- abort, reset ----------------------------------------------------------------------------------------------------


@command(
    "abort",
    short_help="Give up jobs and all that depend on them",
    example="overseer-lite abort nightly-2026-11-24/train",
)
@jobs_argument(required=True)
@run_option
@dry_run_option
@json_option
def abort(job_ids: tuple[str, ...], run: str | None, dry_run: bool, as_json: bool) -> None:
    """Give up jobs and all that depend on them. A started one is stopped by its worker first."""
    store = session().store()
    jobs = find_jobs(store, job_ids, run)
    for job in jobs:
        check_transition(job.id, "abort", job.status, "only unstarted and started jobs can be aborted")
    aborted: list[str] = []
    asked: list[JobInfo] = []
    for job in jobs:
        if job.status is Status.STARTED:
            asked.append(job)
            if not dry_run:
                store.abort_job(job.id)
        elif dry_run:
            aborted += [job.id, *_open(store, store.dependents([job.id]))]
        else:
            aborted += store.abort_job(job.id)
    _report(
        list(dict.fromkeys(aborted)),
        "Aborted",
        "would be aborted",
        asked=[job.id for job in asked],
        dry_run=dry_run,
        as_json=as_json,
    )


def _open(store: FullStore, job_ids: Iterable[str]) -> list[str]:
    found = (store.job_info(job_id) for job_id in job_ids)
    return [job.id for job in found if job is not None and not job.status.terminal]


@command(
    "reset", short_help="Put started jobs back to unstarted", example="overseer-lite reset nightly-2026-11-24/train"
)
@jobs_argument(required=True)
@run_option
@dry_run_option
@json_option
def reset(job_ids: tuple[str, ...], run: str | None, dry_run: bool, as_json: bool) -> None:
    """Put started jobs back to unstarted: their workers stop the attempts first."""
    store = session().store()
    jobs = find_jobs(store, job_ids, run)
    for job in jobs:
        if job.status is not Status.STARTED:
            raise IllegalTransitionError(job.id, "reset", job.status, "only started jobs can be reset")
    asked = [job.id for job in jobs if dry_run or store.request(job.id, "reset")]
    _report([], "Reset", "would be reset", asked=asked, dry_run=dry_run, as_json=as_json)


# ---- what was done ---------------------------------------------------------------------------------------------------


def _report(
    changed: Sequence[str], did: str, would: str, *, dry_run: bool, as_json: bool, asked: Sequence[str] = ()
) -> None:
    if as_json:
        say.print_json({"changed": list(changed), "requested": list(asked), "dry_run": dry_run})
        return
    if not changed and not asked:
        click.echo("Nothing to do.")
        return
    if changed:
        number = say.plural(len(changed), "job")
        _list_ids(f"{number} {would}:" if dry_run else f"{did} {number}:", changed)
    if asked:
        number = say.plural(len(asked), "started job")
        head = f"{number} {would}:" if dry_run else f"Asked the worker of {number}, which stops the attempt first:"
        _list_ids(head, asked)


def _list_ids(head: str, ids: Sequence[str]) -> None:
    click.echo(head)
    for job_id in ids[:_LISTED]:
        click.echo(f"  {say.escape(job_id)}")
    if len(ids) > _LISTED:
        click.echo(f"  and {len(ids) - _LISTED:,} more")
