"""What commands that name an app share: their options, the app's name, what it has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from overseer_lite.cli.session import session
from overseer_lite.errors import AppError, InvalidInputError
from overseer_lite.graph import validate_graph_handlers
from overseer_lite.job import encode

if TYPE_CHECKING:
    from overseer_lite.graph import Graph
    from overseer_lite.runner import AppDescription, Inspection

_MOST_WORKERS: Final = 1024


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
    from overseer_lite.runner import Inspection

    with Inspection(app, args=args, graph=True, id=run) as inspection:
        return graph_of(inspection)


def graph_of(inspection: Inspection) -> tuple[AppDescription, Graph]:
    """Return the same, of a look at an app that has begun already.

    Raises:
        InvalidInputError: Something is wrong with either.
    """
    described = inspection.result()
    if described.graph is None:
        raise AppError(inspection.app, "it has no `graph`", "Give it one: a mapping of types, a Graph, or a function")
    validate_graph_handlers(described.types, described.graph)
    described.graph.validate()
    return described, described.graph
