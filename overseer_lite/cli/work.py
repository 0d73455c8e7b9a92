"""Commands that bring work in or do it: worker, submit, check."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from overseer_lite.cli import renew
from overseer_lite.cli import show as say
from overseer_lite.cli.app import args_option, describe_graph, name_app, parse_args, workers_option
from overseer_lite.cli.session import WORK_SETTINGS, command, json_option, session
from overseer_lite.config import cpus
from overseer_lite.errors import InvalidInputError, InvalidLineError, nearest
from overseer_lite.graph import Graph, validate_graph_handlers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overseer_lite.runner import AppDescription


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

    SIGTERM and SIGINT: the current jobs may end within the grace, and the exit code is 0; a second one, or the end of
    the grace, stops them now, and it is 143 or 130. SIGHUP renews the runners after their current jobs, so that they
    run mended code.
    """
    from overseer_lite.log import configure
    from overseer_lite.runner import Inspection

    with Inspection(name_app(given)) as inspection:
        # While another process looks at the app, ours loads what it needs next.
        from overseer_lite.supervisor import Plan, supervise

        store = session().store()
        described = inspection.result()
    chosen = None if types is None else _check_types(types, described)
    store.install()
    configure("INFO", "supervisor", sys.stderr)
    plan = Plan(store.path, described.app, number or cpus(), types=chosen, drain=drain, settings=session().settings)
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
    described = None
    if what is not None and (what == "-" or what.endswith(".jsonl")):
        if args is not None:
            raise InvalidInputError("--args goes with an app; each line has its own. Nothing was stored.")
        graph = Graph.from_lines(_lines(what), "(stdin)" if what == "-" else what)
        graph = graph if run is None else graph.with_id(run)
        graph.validate()
    else:
        described, graph = describe_graph(name_app(what), args, run)
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
    if described is not None:
        renew.warn(store, described, graph.id)


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
