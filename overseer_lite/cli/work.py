"""Commands that bring work in or do it: run, worker, submit, check."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.session import WORK_SETTINGS, command, json_option, session
from overseer_lite.errors import AppError, InvalidInputError, InvalidLineError, OverseerError, nearest
from overseer_lite.graph import Graph, validate_graph_handlers
from overseer_lite.job import Status, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overseer_lite.cli.live import View
    from overseer_lite.job import JobInfo
    from overseer_lite.runner import AppDescription
    from overseer_lite.sqlite.store import SqliteStore
    from overseer_lite.store import Counts, Submitted

_MOST_WORKERS: Final = 1024
_FAILURES_SHOWN: Final = 10
_UNFINISHED_NAMED: Final = 3


def cpus_allowed() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


workers_option = click.option(
    "-n",
    "number",
    type=click.IntRange(1, _MOST_WORKERS),
    metavar="N",
    help="How many workers; the CPUs this process may use by default.",
)
args_option = click.option("--args", "args_json", metavar="JSON", help="A JSON object for the app's graph.")


def parse_args(text: str | None) -> dict[str, Any] | None:
    """Return what `--args` says; None if it was not given.

    Raises:
        InvalidInputError: It is no JSON object.
    """
    if text is None:
        return None
    remedy = """Nothing was stored; write --args '{"name": value}'."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"--args is not JSON: {error.msg} at column {error.colno}. {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"--args is not JSON: {error}. {remedy}") from None
    if not isinstance(value, dict):
        raise InvalidInputError(f"--args is {type(value).__name__}, not an object. {remedy}")
    encode(value, "--args")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is none of its values")


def name_app(app: str | None) -> str:
    """Return the app to use: the argument, else the setting."""
    if app is not None:
        session().overrides["app"] = app
    return session().settings.app


def describe_graph(app: str, args: dict[str, Any] | None, run: str | None) -> tuple[AppDescription, Graph]:
    """Return what an app has, and its graph, both found good; nothing is stored yet.

    Raises:
        InvalidInputError: Something is wrong with either.
    """
    from overseer_lite.runner import inspect_app

    described = inspect_app(app, args=args, graph=True, id=run)
    if described.graph is None:
        raise AppError(app, "it has no `graph`", "Give it one: a mapping of types, a Graph, or a function")
    validate_graph_handlers(described.types, described.graph)
    described.graph.validate()
    return described, described.graph


# ---- run -------------------------------------------------------------------------------------------------------------


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
@click.option("-x", "stop_on_failure", is_flag=True, help="Stop at the first failure.")
@json_option
def run(
    given: str | None,
    number: int | None,
    run: str | None,
    args_json: str | None,
    retry: bool,
    timeout_s: float | None,
    stop_on_failure: bool,
    as_json: bool,
) -> int:
    """Submit an app's graph, work on that run alone, and wait for its end.

    APP is a module, module:attr or file.py; pipeline.py by default. Exit code: 0 all finished, 1 a job failed, was
    aborted or is stuck, 2 bad input, 3 the store cannot be used, 4 timed out, 5 workers cannot be kept alive, 130 or
    143 stopped by a signal.
    """
    if retry and run is None:
        raise InvalidInputError("--retry needs --id: a new run has nothing to retry. Nothing was stored.")
    app = name_app(given)
    described, graph = describe_graph(app, parse_args(args_json), run)
    store = session().store()
    store.install()
    unfinished = [] if run is not None else _unfinished(store)
    submitted = store.transact_graph(graph)
    _announce(store, graph.id, submitted, unfinished, retry=retry, err=as_json)
    return carry_out(
        store,
        described.app,
        graph.id,
        number,
        again=_again(given, graph.id, has_args=args_json is not None),
        timeout_s=timeout_s,
        stop_on_failure=stop_on_failure,
        as_json=as_json,
    )


def _again(given: str | None, run: str, *, has_args: bool) -> str:
    """Return the command that continues the run; args may be secret, and are not repeated."""
    words = ["overseer-lite", "run", *([] if given is None else [given])]
    if session().settings.origin("db").startswith("option"):
        words += ["--db", session().settings.db]
    return " ".join(map(_quoted, [*words, "--id", run])) + (" --args (the same)" if has_args else "")


def _unfinished(store: SqliteStore) -> list[str]:
    return [each.id for each in store.runs(limit=20) if each.counts.started or each.counts.unstarted]


def _announce(
    store: SqliteStore, run: str, submitted: Submitted, unfinished: list[str], *, retry: bool, err: bool
) -> None:
    if submitted.created:
        number = say.plural(len(submitted.created), "job")
        click.echo(f"run {say.escape(run)}: {number} stored in {store.path}", err=err)
    else:
        if retry:
            again = [job.id for job in _ended_badly(store, run)]
            if again:
                store.retry(again)
                click.echo(f"run {say.escape(run)}: {say.plural(len(again), 'job')} to be retried", err=err)
        click.echo(f"run {say.escape(run)} goes on: {say.counts_line(store.counts(run))}", err=err)
    if unfinished:
        named = ", ".join(map(say.escape, unfinished[:_UNFINISHED_NAMED]))
        more = f" and {len(unfinished) - _UNFINISHED_NAMED} more" if len(unfinished) > _UNFINISHED_NAMED else ""
        click.echo(f"unfinished runs in this store: {named}{more} (`run --id KEY` continues one)", err=err)


def _ended_badly(store: SqliteStore, run: str) -> list[JobInfo]:
    return [*store.jobs(run=run, status=Status.FAILED), *store.jobs(run=run, status=Status.ABORTED)]


def carry_out(
    store: SqliteStore,
    app: str,
    run: str,
    number: int | None,
    *,
    again: str,
    timeout_s: float | None = None,
    stop_on_failure: bool = False,
    as_json: bool = False,
) -> int:
    """Work on a run until it has ended or is stopped, telling what happens; return the exit code."""
    began = time.monotonic()
    code, lost = 0, None
    counts = store.counts(run)
    if counts.started or counts.unstarted > counts.stuck:
        code, lost = _supervise(
            store, app, run, number, timeout_s=timeout_s, stop_on_failure=stop_on_failure, to_stderr=as_json
        )
        counts = store.counts(run)
    code = code or counts.exit_code
    took_s = time.monotonic() - began
    if as_json:
        failed = [say.job_json(job) for job in _ended_badly(store, run)]
        seconds = round(took_s, 3)
        say.print_json({"run": run, "exit_code": code, "jobs": counts._asdict(), "seconds": seconds, "failed": failed})
    else:
        print_summary(store, run, counts, code, took_s, again)
    if lost is not None:
        raise lost
    return code


def _supervise(
    store: SqliteStore,
    app: str,
    run: str,
    number: int | None,
    *,
    timeout_s: float | None,
    stop_on_failure: bool,
    to_stderr: bool,
) -> tuple[int, OverseerError | None]:
    """Return the exit code, and the error that ended it, which is raised only after the summary."""
    from overseer_lite.cli.live import open_view, patient
    from overseer_lite.supervisor import Plan, supervise

    view = open_view(store, run, color=session().settings.color, to_stderr=to_stderr)
    plan = Plan(
        store.path,
        app,
        number or cpus_allowed(),
        run=run,
        drain=True,
        stop_on_failure=stop_on_failure,
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


def print_summary(store: SqliteStore, run: str, counts: Counts, code: int, took_s: float, again: str) -> None:
    """Print how a run ended: counts, what failed and how to see more, how to go on."""
    if counts.failed or counts.aborted:
        click.echo("")
        _print_failures(_ended_badly(store, run))
    if counts.stuck:
        click.echo(f"{say.plural(counts.stuck, 'job')} stuck behind what failed")
    click.echo("")
    click.echo(f"{_ending(code)} in {say.duration(took_s)}: {say.counts_line(counts)}")
    click.echo(f"run {say.escape(run)} in {store.path}")
    if counts.failed or counts.aborted:
        click.echo(f"to try the failed jobs again: {again} --retry")
    elif counts.started or counts.unstarted:
        click.echo(f"to go on: {again}")


def _print_failures(jobs: list[JobInfo]) -> None:
    for job in jobs[:_FAILURES_SHOWN]:
        message = say.failure_line(job.failure)
        click.echo(f"{job.status.value:<8} {say.escape(job.id)}" + (f": {message}" if message else ""))
        click.echo(f"         overseer-lite show {_quoted(job.id)}")
    if len(jobs) > _FAILURES_SHOWN:
        click.echo(f"and {len(jobs) - _FAILURES_SHOWN:,} more: overseer-lite jobs --status failed")


def _ending(code: int) -> str:
    words = {0: "finished", 1: "ended with failures", 4: "timed out", 5: "workers lost"}
    return words.get(code) or f"stopped by {signal.Signals(code - 128).name}"


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(say.escape(text))


# ---- worker ----------------------------------------------------------------------------------------------------------


@command(
    "worker",
    short_help="Work on whatever the store has, until stopped",
    example="overseer-lite worker pipeline.py -n 4\noverseer-lite worker -n 2 --types train --drain",
    shown=WORK_SETTINGS,
)
@click.argument("given", metavar="[APP]", required=False)
@workers_option
@click.option("--types", metavar="A,B", help="Only jobs of these types.")
@click.option("--drain", is_flag=True, help="End when nothing is left that can run.")
def worker(given: str | None, number: int | None, types: str | None, drain: bool) -> int:
    """Work on whatever the store has, with n workers, until stopped.

    SIGTERM and SIGINT: the current jobs may end within the grace, a second one stops them now. SIGHUP renews the
    runners after their current jobs, so that they run mended code.
    """
    from overseer_lite.log import configure
    from overseer_lite.runner import inspect_app
    from overseer_lite.supervisor import Plan, supervise

    app = name_app(given)
    described = inspect_app(app)
    chosen = None if types is None else _check_types(types, described)
    store = session().store()
    store.install()
    configure("INFO", "supervisor", sys.stderr)
    plan = Plan(
        store.path, described.app, number or cpus_allowed(), types=chosen, drain=drain, settings=session().settings
    )
    return supervise(plan)


def _check_types(text: str, described: AppDescription) -> tuple[str, ...]:
    types = tuple(dict.fromkeys(each.strip() for each in text.split(",") if each.strip()))
    if not types:
        raise InvalidInputError(f"--types {text!r} names no type. Nothing was stored; write --types a,b.")
    for kind in types:
        if kind not in described.types:
            near = nearest(kind, described.types)
            hint = f" Did you mean {near!r}?" if near else ""
            known = ", ".join(map(repr, sorted(described.types)))
            raise InvalidInputError(
                f"--types: the app {described.app!r} has no handler for {kind!r}.{hint} It has {known}. Nothing was stored."
            )
    return types


# ---- submit ----------------------------------------------------------------------------------------------------------


@command(
    "submit",
    short_help="Store a graph for workers to run",
    example="overseer-lite submit pipeline.py --id nightly-2026-11-24\n"
    """echo '{"id": "a", "type": "count", "args": {"day": 1}}' | overseer-lite submit -""",
    shown=WORK_SETTINGS,
)
@click.argument("what", metavar="APP|FILE.jsonl|-", required=False)
@click.option("--id", "run", metavar="KEY", help="The run's id.")
@args_option
@json_option
def submit(what: str | None, run: str | None, args_json: str | None, as_json: bool) -> None:
    """Store a graph for workers to run: an app's, or JSON Lines, one job a line; all of it or nothing."""
    args = parse_args(args_json)
    if what is not None and (what == "-" or what.endswith(".jsonl")):
        if args is not None:
            raise InvalidInputError("--args goes with an app; each line has its own. Nothing was stored.")
        graph = Graph.from_lines(_lines(what), "(stdin)" if what == "-" else what)
        graph = graph if run is None else graph.with_id(run)
        graph.validate()
    else:
        graph = describe_graph(name_app(what), args, run)[1]
    store = session().store()
    store.install()
    submitted = store.transact_graph(graph)
    if as_json:
        say.print_json(
            {
                "run": graph.id if submitted.created else None,
                "created": list(submitted.created),
                "existed": list(submitted.existed),
            }
        )
    elif submitted.created:
        click.echo(f"run {say.escape(graph.id)}: {say.plural(len(submitted.created), 'job')} stored in {store.path}")
    else:
        click.echo(f"{say.plural(len(submitted.existed), 'job')} were stored in {store.path} before, nothing is new")


def _lines(what: str) -> Iterator[str]:
    """Yield the lines of a file or of stdin.

    Raises:
        InvalidInputError: It cannot be read, or is not UTF-8.
    """
    origin = "(stdin)" if what == "-" else what
    try:
        with click.open_file(what, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    problem = f"this is not UTF-8 (byte {error.start + 1})"
                    raise InvalidLineError(origin, number, problem, "write JSON in UTF-8") from None
    except OSError as error:
        raise InvalidInputError(f"Cannot read {what}: {error.strerror or error}. Nothing was stored.") from None


# ---- check -----------------------------------------------------------------------------------------------------------


@command(
    "check", short_help="Check an app's handlers and graph; store nothing", example="overseer-lite check pipeline.py"
)
@click.argument("given", metavar="[APP]", required=False)
@args_option
@json_option
def check(given: str | None, args_json: str | None, as_json: bool) -> None:
    """Import an app in a process of its own, and check its handlers and its graph. Nothing is stored."""
    from overseer_lite.runner import inspect_app

    described = inspect_app(name_app(given), args=parse_args(args_json), graph=True)
    graph = described.graph
    if graph is not None:
        validate_graph_handlers(described.types, graph)
    resolved = None if graph is None else graph.validate()
    edges = 0 if resolved is None else sum(map(len, resolved.internal)) + sum(map(len, resolved.external.values()))
    if as_json:
        say.print_json(
            {
                "app": described.app,
                "types": {kind: options._asdict() for kind, options in described.types.items()},
                "graph": None if graph is None else {"jobs": len(graph), "dependencies": edges},
            }
        )
        return
    click.echo(f"{described.app}: {say.plural(len(described.types), 'type')}")
    say.print_table(
        ("type", "jobs", "retries", "timeout", "limit"),
        [
            (
                kind,
                "-" if graph is None else sum(job.type == kind for job in graph.jobs),
                options.retries,
                "-" if options.timeout is None else say.duration(options.timeout),
                "-" if options.limit is None else options.limit,
            )
            for kind, options in described.types.items()
        ],
        session().settings.color,
    )
    if graph is None:
        click.echo("graph: none; submit jobs as JSON Lines, or give the app a `graph`")
    else:
        click.echo(f"graph: {say.plural(len(graph), 'job')}, {say.plural(edges, 'dependency')}, no cycle")
