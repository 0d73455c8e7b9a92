"""What a shell completes after Tab, from the store: ids of jobs, runs, types. See the README for how to switch it on.

Silent by nature: a shell that is in the middle of a line has no place for a message. Where there is no store, or none
that can be used, nothing is completed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from overseer_lite.cli.session import session
from overseer_lite.errors import OverseerError

if TYPE_CHECKING:
    from collections.abc import Callable

    import click

    from overseer_lite.store import FullStore

_OFFERED: Final = 100
_LOOKED_AT: Final = 2000


def complete_job(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return ids of jobs that begin so, and names that do."""

    def ask(store: FullStore) -> list[str]:
        jobs = store.jobs(text=begun, run=context.params.get("run"), limit=_LOOKED_AT)
        return [each for job in jobs for each in (job.id, job.name)]

    return _begin_so(context, begun, ask)


def complete_run(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return ids of runs that begin so, the newest first."""
    return _begin_so(context, begun, lambda store: [run.id for run in store.runs(limit=_LOOKED_AT)])


def complete_type(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return types of stored jobs that begin so."""
    return _begin_so(context, begun, lambda store: sorted({job.type for job in store.jobs(limit=_LOOKED_AT)}))


def _begin_so(context: click.Context, begun: str, ask: Callable[[FullStore], list[str]]) -> list[str]:
    with context.scope():
        try:
            found = ask(session().store())
        except OverseerError:  # told by the command itself, once the line is complete
            return []
    return [each for each in dict.fromkeys(found) if each.startswith(begun)][:_OFFERED]
