"""A job to show to a handler, without any store: for the many tests that are about one function."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from overseer_lite.handler import RunningJob
from overseer_lite.job import DependencyResult, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def make_job(
    type: str,
    *,
    name: str | None = None,
    args: Mapping[str, Any] | None = None,
    attempt: int = 1,
    results_of: Mapping[str, Iterable[Any]] | None = None,
    results: Mapping[str, Any] | None = None,
    context: Any = None,
    directory: str | os.PathLike[str] | None = None,
) -> RunningJob:
    """Return a job as its handler would see it. What it adds is in `.added`.

    Args and results pass through JSON, as they would on their way through a store: a tuple arrives as a list.

    Args:
        attempt: Number of the attempt; all before it are taken to have failed (`job.failures`).
        results_of: Results of dependencies by type, for `job.results.of(type)`; their names are `type-0`, `type-1`.
        results: Results of dependencies by name, for `job.results[name]`; their type is the name as well.
        context: What the handler finds as `job.context`.
        directory: Where `job.path` makes its files; without one, `job.path` is an error.

    Raises:
        NotJsonError: Args or a result are not JSON.
    """
    found = [
        DependencyResult(f"{kind}-{number}", kind, encode(value, f"result {number} of {kind!r}"))
        for kind, values in (results_of or {}).items()
        for number, value in enumerate(values)
    ]
    found += [
        DependencyResult(each, each, encode(value, f"result of {each!r}")) for each, value in (results or {}).items()
    ]
    return RunningJob(
        type=type,
        name=name,
        args=None if args is None else json.loads(encode(dict(args), "args")),
        attempt=attempt,
        failures=attempt - 1,
        results=found,
        context=context,
        directory=None if directory is None else lambda: os.fspath(directory),
    )
