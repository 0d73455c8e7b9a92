"""`why`: the sentence that says why a job stands where it stands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.session import command, find_job, hint, job_argument, json_option, run_option, session
from overseer_lite.job import Status

if TYPE_CHECKING:
    from overseer_lite.cli.running import Activity
    from overseer_lite.job import JobInfo
    from overseer_lite.store import FullStore, WorkerRecord

_NAMED = 3
_SECONDS_MATTER_S = 120


@command("why", short_help="Say why a job does not run", example="overseer-lite why nightly-2026-11-24/merge")
@job_argument
@run_option
@json_option
def why(job_id: str, run: str | None, as_json: bool) -> None:
    """Say in a sentence why a job does not run, or where it stands."""
    store = session().store()
    job = find_job(store, job_id, run)
    sentence = reason(store, job)
    if as_json:
        say.print_json({"id": job.id, "status": job.status.value, "why": sentence})
    else:
        name = say.escape(job.id)
        drawn = say.is_terminal(session().settings.color)
        click.echo(f"{click.style(name, bold=True) if drawn else name}: {say.escape(sentence)}")


def reason(store: FullStore, job: JobInfo) -> str:
    """Return why a job is not running, or what it does, without its id."""
    if job.status is Status.STARTED:
        return _started(store, job)
    if job.status.terminal:
        return _ended(store, job)
    if job.stuck:
        return f"stuck: it waits{_culprit(store, job)}"
    if job.waiting_for:
        return _waiting(store, job)
    if job.due_in_s is not None:
        return _delayed(job)
    return _ready(store, job)


def _ended(store: FullStore, job: JobInfo) -> str:
    message = f": {say.failure_line(job.failure)}" if job.failure else ""
    if job.status is Status.FINISHED:
        return f"it finished on attempt {job.attempt}"
    if job.status is Status.FAILED:
        return f"it failed on {_tries(job)}{message}; `{hint('retry', job.id)}` tries it again"
    culprit = _find_culprit(store, job)
    if culprit is not None and not message:
        return f"it was aborted, since it depends on {_named(culprit)}"
    return f"it was aborted{message}; `{hint('retry', job.id)}` tries it again"


def _tries(job: JobInfo) -> str:
    """Return which attempt a job failed on, and of how many; why it was the last, where retries were left."""
    allowed = None if job.failure is None else job.failure.allowed
    if allowed is None:
        return f"attempt {job.attempt}"
    if job.attempt == job.failures:
        told = f"attempt {job.attempt} of {allowed}"
    else:  # crashes, interruptions and what was before an operator's retry have numbers too
        told = f"attempt {job.attempt}, failure {job.failures} of {allowed}"
    return told if job.failures >= allowed else f"{told}, which is not to be retried"


# ---- waiting for others ----------------------------------------------------------------------------------------------


def _find_culprit(store: FullStore, job: JobInfo) -> JobInfo | None:
    """Return the failed or aborted job, deepest first, that holds this one up."""
    seen = {job.id}
    pending = list(job.dependencies)
    found = None
    while pending:
        job_id = pending.pop(0)
        if job_id in seen:
            continue
        seen.add(job_id)
        info = store.job_info(job_id)
        if info is None:
            continue
        if info.status is Status.FAILED:
            return info
        if info.status is Status.ABORTED:
            found = found or info
            pending = [*info.dependencies, *pending]  # it may itself have been given up because of another
        elif info.stuck:
            pending = [*info.dependencies, *pending]
    return found


def _culprit(store: FullStore, job: JobInfo) -> str:
    culprit = _find_culprit(store, job)
    if culprit is None:
        return " for something that was put right just now"
    through = "" if culprit.id in job.dependencies else ", through others,"
    return f"{through} for {_named(culprit)}; `{hint('retry', culprit.id)}` frees it"


def _named(job: JobInfo) -> str:
    message = f": {say.failure_line(job.failure)}" if job.failure else ""
    if job.status is Status.FAILED:
        return f"{job.id}, which failed on {_tries(job)}{message}"
    return f"{job.id}, which was aborted{message}"


def _waiting(store: FullStore, job: JobInfo) -> str:
    infos = (store.job_info(job_id) for job_id in job.dependencies)
    left: list[JobInfo] = []
    for info in infos:
        if info is not None and info.status is not Status.FINISHED:
            left.append(info)
        if len(left) == _NAMED:
            break
    named = ", ".join(f"{each.id} ({_where(each)})" for each in left)
    more = f" and {job.waiting_for - len(left)} more" if job.waiting_for > len(left) else ""
    return f"it waits for {job.waiting_for} of its {say.plural(len(job.dependencies), 'dependency')}: {named}{more}"


def _where(job: JobInfo) -> str:
    if job.status is Status.STARTED:
        return f"attempt {job.attempt} runs"
    if job.due_in_s is not None:
        return f"due in {say.duration(job.due_in_s)}"
    return say.state(job)


def _delayed(job: JobInfo) -> str:
    assert job.due_in_s is not None
    at = say.clock_time(time.time() + job.due_in_s)
    at = at[:-3] if job.due_in_s >= _SECONDS_MATTER_S else at
    after = f" after attempt {job.attempt}: {say.failure_line(job.failure)}" if job.failure and job.attempt else ""
    return f"delayed until {at} (in {say.duration(job.due_in_s)}){after}"


# ---- ready, or running -----------------------------------------------------------------------------------------------


def _ready(store: FullStore, job: JobInfo) -> str:
    from overseer_lite.cli.running import is_dead

    workers = [each for each in store.workers() if not is_dead(store, each)]
    if not workers:
        return f"ready, but there is no live worker; `{hint('worker')}` starts some"
    able = [each for each in workers if job.type in each.types]
    if not able:
        known = ", ".join(sorted({kind for each in workers for kind in each.types}))
        return f"ready, but no live worker handles type {job.type!r} (they handle {known or 'none'})"
    free = [each for each in able if each.run in (None, job.run)]
    if not free:
        return f"ready, but every worker that handles {job.type!r} works on another run alone ({able[0].run})"
    limits = [each.limits.get(job.type) for each in free]
    running = len(store.jobs(status=Status.STARTED, type=job.type))
    if all(limit is not None and running >= limit for limit in limits):
        limit = max(limit for limit in limits if limit is not None)
        return (
            f"ready, but {running} of type {job.type!r} {'is' if running == 1 else 'are'} running, its limit is {limit}"
        )
    busy = [each for each in free if store.held(each.id)]
    if len(busy) < len(free):
        return "ready, and a worker that can take it is idle: it is about to start"
    before = _before(store, job, free[0])
    return f"ready; all {say.plural(len(free), 'worker')} that handle {job.type!r} are busy{before}"


def _before(store: FullStore, job: JobInfo, worker: WorkerRecord) -> str:
    ready = store.jobs_ready(worker.types, limit=1000)
    if job.id not in ready:
        return ", and more than 1,000 ready jobs are before it" if len(ready) == 1000 else ""
    place = ready.index(job.id)
    return f", and {say.plural(place, 'ready job')} {'is' if place == 1 else 'are'} before it" if place else ""


def _started(store: FullStore, job: JobInfo) -> str:
    from overseer_lite.cli.running import activities, is_dead

    mine = activities(store, [each for each in store.workers() if each.id == job.worker])
    if not mine:
        return f"attempt {job.attempt} is held by worker {job.worker}, which is not registered"
    activity = mine[0]
    if is_dead(store, activity.worker):
        return f"attempt {job.attempt} was on worker {job.worker}, which is dead; a supervisor's monitor resets it"
    return _on(activity, job) + _silence(activity)


def _on(activity: Activity, job: JobInfo) -> str:
    wish = f"; its {job.request} is requested and waits for the worker" if job.request else ""
    if activity.attempt is None or activity.attempt.job_id != job.id:
        return f"attempt {job.attempt} is reserved by worker {job.worker} and about to begin{wish}"
    where = "" if activity.progress is None else f", at {activity.progress:.0%} {activity.step}".rstrip()
    elapsed = say.duration(activity.elapsed_s)
    return f"it runs: attempt {job.attempt} on worker {job.worker} for {elapsed}{where}{wish}"


def _silence(activity: Activity) -> str:
    settings = session().settings
    interval_s, examined_s = settings.heartbeat_interval_s, settings.heartbeat_interval_s * settings.tolerance
    if activity.silent_s <= 2 * interval_s:
        return ""
    silent = f"; worker {activity.worker.id} is silent for {say.duration(activity.silent_s)}"
    if activity.silent_s > examined_s:
        return f"{silent}, longer than the {say.duration(examined_s)} that are tolerated: it is being examined"
    return f"{silent}, it is examined at {say.duration(examined_s)} unless it beats"
