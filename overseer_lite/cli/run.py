"""The command `run`: submit an app's graph, work on it, wait for its end, and say how it went."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from overseer_lite.cli import renew
from overseer_lite.cli import reports as files
from overseer_lite.cli import show as say
from overseer_lite.cli.app import args_option, graph_of, name_app, parse_args, workers_option
from overseer_lite.cli.live import OUTPUTS
from overseer_lite.cli.session import WORK_SETTINGS, command, hint, json_option, session
from overseer_lite.cli.summary import Again, ended_badly, print_summary
from overseer_lite.config import cpus
from overseer_lite.errors import InvalidInputError, OverseerError

if TYPE_CHECKING:
    from overseer_lite.cli.live import View
    from overseer_lite.cli.reports import Reports
    from overseer_lite.store import FullStore, Submitted

_UNFINISHED_NAMED: Final = 3


@command(
    "run",
    short_help="Submit an app's graph, work on it, wait for its end",
    example="overseer-lite run pipeline.py -n 4\n"
    """overseer-lite run -n 4 --id nightly-2026-11-24 --args '{"day": "2026-11-24"}'""",
    shown=WORK_SETTINGS,
)
@click.argument("given", metavar="[APP]", required=False)
@workers_option
@click.option("--id", "run", metavar="KEY", help="The run's id; a run of that id that is there already is continued.")
@args_option
@click.option("--retry", is_flag=True, help="With --id: first retry its failed and aborted jobs.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), metavar="SECONDS", help="Exit 4 after so long.")
@click.option("-x", "stop_on_failure", is_flag=True, help="Stop at the first failure from now on.")
@click.option(
    "--output",
    type=click.Choice(OUTPUTS),
    default="failed",
    show_default=True,
    help="Whose output is shown: of jobs that failed, of all attempts, or of none.",
)
@files.junit_option
@files.summary_option
@json_option
def run(
    given: str | None,
    number: int | None,
    run: str | None,
    args_json: str | None,
    retry: bool,
    timeout_s: float | None,
    stop_on_failure: bool,
    output: str,
    junit: str | None,
    summary: str | None,
    as_json: bool,
) -> int:
    """Submit an app's graph, work on that run alone, and wait for its end.

    APP is a module, module:attr or file.py; pipeline.py by default. Exit code: 0 all finished, 1 a job failed, was
    aborted or is stuck, 2 bad input, 3 the store cannot be used, 4 timed out, 5 workers cannot be kept alive, 130 or
    143 stopped by a signal.
    """
    if retry and run is None:
        raise InvalidInputError("--retry needs --id: a new run has nothing to retry. Nothing was stored.")
    from overseer_lite.runner import Inspection

    app = name_app(given)
    with Inspection(app, args=parse_args(args_json), graph=True, id=run) as inspection:
        # While another process looks at the app, ours loads what it needs next.
        import overseer_lite.supervisor  # noqa: F401

        store = session().store()
        described, graph = graph_of(inspection)
    store.install()
    unfinished = [] if run is not None else _unfinished(store)
    submitted = store.transact_graph(graph)
    _announce(store, graph.id, submitted, unfinished, retry=retry, err=as_json)
    renew.warn(store, described, graph.id)
    return carry_out(
        store,
        described.app,
        graph.id,
        number,
        again=Again(_again(given, graph.id), "" if args_json is None else " (with the same --args)"),
        timeout_s=timeout_s,
        stop_on_failure=stop_on_failure,
        output=output,
        reports=files.asked(junit, summary),
        as_json=as_json,
    )


def _again(given: str | None, run: str) -> str:
    """Return the command that continues the run."""
    return hint("run", *([] if given is None else [given]), "--id", run)


def _unfinished(store: FullStore) -> list[str]:
    return [each.id for each in store.runs(limit=20) if each.counts.started or each.counts.unstarted]


def _announce(
    store: FullStore, run: str, submitted: Submitted, unfinished: list[str], *, retry: bool, err: bool
) -> None:
    if submitted.created:
        number = say.plural(len(submitted.created), "job")
        click.echo(f"run {say.escape(run)}: {number} stored in {store.path}", err=err)
    else:
        if retry:
            again = [job.id for job in ended_badly(store, run)]
            if again:
                store.retry(again)
                click.echo(f"run {say.escape(run)}: {say.plural(len(again), 'job')} to be retried", err=err)
        click.echo(f"run {say.escape(run)} goes on: {say.counts_line(store.counts(run))}", err=err)
    if unfinished:
        named = ", ".join(map(say.escape, unfinished[:_UNFINISHED_NAMED]))
        more = f" and {len(unfinished) - _UNFINISHED_NAMED} more" if len(unfinished) > _UNFINISHED_NAMED else ""
        click.echo(f"unfinished runs in this store: {named}{more} (`run --id KEY` continues one)", err=err)


def carry_out(
    store: FullStore,
    app: str,
    run: str,
    number: int | None,
    *,
    again: Again,
    timeout_s: float | None = None,
    stop_on_failure: bool = False,
    output: str = "none",
    reports: Reports | None = None,
    as_json: bool = False,
) -> int:
    """Work on a run until it has ended or is stopped, telling what happens; return the exit code.

    The reports are written however it ended. One that cannot be written makes a run that went well end with 2.
    """
    began, since = time.monotonic(), time.time()
    code, lost = 0, None
    counts = store.counts(run)
    if not counts.started and counts.unstarted == counts.stuck:
        click.echo("nothing of it is left that can run", err=as_json)
    else:
        code, lost = _supervise(
            store,
            app,
            run,
            number,
            timeout_s=timeout_s,
            stop_on_failure=stop_on_failure,
            failed_before=counts.failed + counts.aborted,
            output=output,
            to_stderr=as_json,
        )
        counts = store.counts(run)
    ended = code or counts.exit_code
    took_s = time.monotonic() - began
    # Before anything is printed: whoever reads our output may have gone, and the files are still wanted.
    written = reports is None or files.write(store, run, reports)
    code = ended if written else ended or InvalidInputError.exit_code
    if reports is not None:
        files.annotate(store, run, err=as_json)
    if as_json:
        failed = [say.job_json(job) for job in ended_badly(store, run)]
        seconds = round(took_s, 3)
        say.print_json({"run": run, "exit_code": code, "jobs": counts._asdict(), "seconds": seconds, "failed": failed})
    else:
        color = session().settings.color
        print_summary(store, run, counts, ended, took_s, again, since=since, color=color)
    if lost is not None:
        raise lost
    return code


def _supervise(
    store: FullStore,
    app: str,
    run: str,
    number: int | None,
    *,
    timeout_s: float | None,
    stop_on_failure: bool,
    failed_before: int,
    output: str,
    to_stderr: bool,
) -> tuple[int, OverseerError | None]:
    """Return the exit code, and the error that ended it, which is raised only after the summary."""
    from overseer_lite.cli.live import open_view, patient
    from overseer_lite.supervisor import Plan, supervise

    view = open_view(store, run, color=session().settings.color, to_stderr=to_stderr, output=output)
    plan = Plan(
        store.path,
        app,
        number or cpus(),
        run=run,
        drain=True,
        stop_on_failure=stop_on_failure,
        failed_before=failed_before,
        timeout_s=timeout_s,
        settings=session().settings,
        log_level="WARNING",
        log_file=view.log_file,
    )
    try:
        return supervise(plan, patient(view.tick)), None
    except OverseerError as error:
        return error.exit_code, error
    finally:
        _close(view)


def _close(view: View) -> None:
    try:
        view.tick(last=True)
    finally:
        view.close()
