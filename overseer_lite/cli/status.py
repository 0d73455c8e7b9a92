"""The command `status`: how many jobs stand where, and what each worker does; once, or again and again."""

from __future__ import annotations

import json
import math
import signal
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.session import check_run, command, json_option, run_option, session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from overseer_lite.cli.running import Activity
    from overseer_lite.store import Counts, FullStore, RunInfo

_UNFINISHED_SHOWN: Final = 5
_EVERY_S: Final = 1.0
_SHARE: Final = 10  # a large store is not to be kept busy: it rests ten times as long as a look takes
_HEAD: Final = ("worker", "pid", "job", "attempt", "for", "progress", "silent")


class Seen(NamedTuple):
    """What one look found.

    Attributes:
        unfinished: Runs that have not ended, the newest first; empty where a run was asked for.
    """

    path: str
    counts: Counts
    unfinished: Sequence[RunInfo]
    workers: Sequence[Activity]

    def to_json(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        return {"jobs": self.counts._asdict(), "workers": [worker_json(each) for each in self.workers]}


@command(
    "status",
    short_help="Count the jobs, say what each worker does",
    example="overseer-lite status\noverseer-lite status --watch --run nightly-2026-11-24",
)
@click.option("-w", "--watch", is_flag=True, help="Look again each second, until Ctrl-C.")
@run_option
@json_option
def status(watch: bool, run: str | None, as_json: bool) -> int:
    """Count the jobs, and say what each worker does.

    With --watch it is drawn anew on a terminal; elsewhere it is printed again whenever something has changed, with
    --json an object a line.
    """
    store = session().store()
    check_run(store, run)
    if watch:
        return _watch(store, run, as_json=as_json)
    seen = _look(store, run)
    if as_json:
        say.print_json(seen.to_json())
    elif say.is_terminal(session().settings.color):
        from rich.console import Console

        Console(highlight=False).print(_drawing(seen))
    else:
        for line in _lines(seen):
            click.echo(line)
    return 0


def _look(store: FullStore, run: str | None) -> Seen:
    unfinished = []
    if run is None:
        unfinished = [each for each in store.runs(limit=20) if each.counts.unstarted or each.counts.started]
    return Seen(store.path, store.counts(run), unfinished, look_at_workers(store))


def look_at_workers(store: FullStore) -> list[Activity]:
    """Return what each registered worker does."""
    workers = store.workers()
    if not workers:
        return []
    from overseer_lite.cli.running import activities, by_place

    return activities(store, by_place(workers))


# ---- once ------------------------------------------------------------------------------------------------------------


def _lines(seen: Seen) -> Iterator[str]:
    yield say.escape(seen.path)
    yield f"jobs: {say.counts_line(seen.counts)}"
    for each in seen.unfinished[:_UNFINISHED_SHOWN]:
        yield f"run {say.escape(each.id)}: {say.counts_line(each.counts)}"
    if len(seen.unfinished) > _UNFINISHED_SHOWN:
        yield "more unfinished runs: `overseer-lite runs` lists them"
    yield f"workers: {len(seen.workers) or 'none'}"
    if seen.workers:
        yield from say.columns(_HEAD, [_worker_row(each) for each in seen.workers])


def _drawing(seen: Seen) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    counted = Table.grid(padding=(0, 2, 0, 0))
    counted.add_row(Text("jobs", style="bold"), say.counts_text(seen.counts))
    for each in seen.unfinished[:_UNFINISHED_SHOWN]:
        counted.add_row(Text(f"run {say.escape(each.id)}", style="bold"), say.counts_text(each.counts))
    parts: list[RenderableType] = [Text(say.escape(seen.path), style="dim"), counted]
    if len(seen.unfinished) > _UNFINISHED_SHOWN:
        parts.append(Text("more unfinished runs: `overseer-lite runs` lists them", style="dim"))
    if not seen.workers:
        parts.append(Text("workers: none", style="bold"))
    else:
        parts.append(Text())
        parts.append(say.table(_HEAD, [_worker_row(each) for each in seen.workers]))
    return Group(*parts)


def worker_json(each: Activity) -> dict[str, Any]:
    """Return a worker as JSON values."""
    return {
        "id": each.worker.id,
        "pid": each.worker.pid,
        "runner_pid": each.worker.runner_pid,
        "job": None if each.attempt is None else each.attempt.job_id,
        "silent_s": None if math.isinf(each.silent_s) else round(each.silent_s, 3),
    }


def _worker_row(each: Activity) -> tuple[object, ...]:
    silent = "another boot" if math.isinf(each.silent_s) else say.duration(each.silent_s)
    if each.attempt is None:
        return (each.worker.id, each.worker.pid, "-", "", "", "", silent)
    progress = "" if each.progress is None else f"{each.progress:.0%} {each.step}".strip()
    elapsed = say.duration(each.elapsed_s)
    return (each.worker.id, each.worker.pid, each.attempt.job_id, each.attempt.number, elapsed, progress, silent)


# ---- again and again -------------------------------------------------------------------------------------------------


def _watch(store: FullStore, run: str | None, *, as_json: bool) -> int:
    try:
        if not as_json and say.is_terminal(session().settings.color):
            _redraw(store, run)
        else:
            _print_changes(store, run, as_json=as_json)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # how watching ends: nothing to tell
    raise AssertionError("unreachable")


def _looks(store: FullStore, run: str | None) -> Iterator[Seen]:
    while True:
        began = time.monotonic()
        yield _look(store, run)
        time.sleep(max(_EVERY_S, _SHARE * (time.monotonic() - began)))


def _redraw(store: FullStore, run: str | None) -> None:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(highlight=False), auto_refresh=False, vertical_overflow="crop") as live:
        for seen in _looks(store, run):
            live.update(_drawing(seen), refresh=True)


def _print_changes(store: FullStore, run: str | None, *, as_json: bool) -> None:
    before: object = None
    for seen in _looks(store, run):
        # Times pass by themselves: a change is a job that moved, or a worker that took another or came or went.
        jobs = [(each.worker.id, each.attempt, each.progress, each.step) for each in seen.workers]
        now = (seen.counts, jobs)
        if now == before:
            continue
        before = now
        if as_json:
            click.echo(json.dumps(seen.to_json(), ensure_ascii=False))
        else:
            click.echo("\n".join(["", time.strftime("%H:%M:%S"), *_lines(seen)]))
