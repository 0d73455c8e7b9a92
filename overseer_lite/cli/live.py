"""A run, told while it goes on: a live view on a terminal, a plain line an event elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.watch import Event, Watch
from overseer_lite.errors import StoreUnavailableError
from overseer_lite.log import LineFormatter, configure

log = logging.getLogger("overseer_lite.cli")

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from overseer_lite.cli.running import Activity
    from overseer_lite.store import Counts, FullStore

_COUNTS_EVERY_S: Final = 5.0
_REDRAW_S: Final = 0.1
_BAR_CHARS: Final = 40
_PATIENCE_S: Final = 5.0
LOG_NAME: Final = "supervisor"


class View(Protocol):
    """Where a run is told of.

    Attributes:
        log_file: Where workers are to write their log; stderr if None.
    """

    log_file: str | None

    def tick(self, *, last: bool = False) -> None:
        """Tell what is new."""
        ...

    def note(self, text: str) -> None:
        """Tell a line of our own."""
        ...

    def close(self) -> None:
        """Leave the screen as it should stay; idempotent."""
        ...


def open_view(store: FullStore, run: str, *, color: str, to_stderr: bool = False) -> View:
    """Return the view that suits where the output goes."""
    stream = sys.stderr if to_stderr else sys.stdout
    if say.is_terminal(color, stream):
        return LiveView(store, run, stream)
    return PlainView(store, run, stream)


def patient(tick: Callable[[], None]) -> Callable[[], None]:
    """Return a tick that bears a store which cannot be asked just now: workers wait and go on, and so do we."""
    again_at = 0.0

    def try_tick() -> None:
        nonlocal again_at
        if time.monotonic() < again_at:
            return
        try:
            tick()
        except StoreUnavailableError as error:
            again_at = time.monotonic() + _PATIENCE_S
            log.warning("Cannot look at the run: %s", error)

    return try_tick


def event_text(event: Event) -> str:
    """Return an event as a line."""
    detail = f"  {event.detail}" if event.detail else ""
    return f"{_time(event.at)} {event.word:<11} {say.escape(event.job)}{say.escape(detail)}"


def _time(at: float | None = None) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


class PlainView:
    """One line an event, no control codes: for a file, a pipe, a CI log."""

    def __init__(self, store: FullStore, run: str, stream: IO[str]) -> None:
        self._watch = Watch(store, run)
        self._stream = stream
        self._counts: Counts | None = None
        self._next_counts = time.monotonic() + _COUNTS_EVERY_S
        self.log_file: str | None = None
        configure("WARNING", LOG_NAME, sys.stderr)

    def tick(self, *, last: bool = False) -> None:
        """Print what happened; in a large run, every few seconds how many jobs stand where."""
        for event in self._watch.look(last=last):
            click.echo(event_text(event), file=self._stream)
        now = time.monotonic()
        counts = self._watch.counts
        if not self._watch.listed and now >= self._next_counts and counts != self._counts and not last:
            self._counts, self._next_counts = counts, now + _COUNTS_EVERY_S
            self.note(say.counts_line(counts))

    def note(self, text: str) -> None:
        """Print a line with the time before it."""
        click.echo(f"{_time()} {text}", file=self._stream)

    def close(self) -> None:
        """Nothing stays open."""


class LiveView:
    """A bar with counts and a line a worker, drawn by rich; what went wrong is printed above."""

    def __init__(self, store: FullStore, run: str, stream: IO[str]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._store = store
        self._run = run
        self._watch = Watch(store, run)
        self._console = Console(file=stream, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._began = time.monotonic()
        self._next_draw = 0.0
        # What workers write to stderr would go through the drawing: it goes to a file, and from there above it.
        self.log_file: str | None = os.path.join(store.state_directory, f"log-{os.getpid()}")
        self._logged = open(self.log_file, "w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - for our life
        configure("WARNING", LOG_NAME, sys.stderr)
        logging.getLogger("overseer_lite").handlers[:] = [_ConsoleHandler(self._console)]
        self._live.start()

    def tick(self, *, last: bool = False) -> None:
        """Print what went wrong, and draw anew."""
        for event in self._watch.look(last=last):
            if event.bad:
                self._print(event_text(event), say.STYLES.get(event.word, "yellow"))
        self._print_log()
        now = time.monotonic()
        if now >= self._next_draw or last:
            self._next_draw = now + _REDRAW_S
            self._live.update(self._drawing(), refresh=True)

    def note(self, text: str) -> None:
        """Print a line above the view."""
        self._print(f"{_time()} {text}", "")

    def close(self) -> None:
        """Take the view away; what was printed above stays."""
        if not self._logged.closed:
            self._print_log()
            self._logged.close()
            os.unlink(str(self.log_file))
        self._live.stop()

    def _print_log(self) -> None:
        from rich.text import Text

        for line in self._logged:
            self._console.print(Text(say.escape(line.rstrip("\n"))), soft_wrap=True)

    def _print(self, text: str, style: str) -> None:
        from rich.text import Text

        self._console.print(Text(text, style=style), soft_wrap=True)

    def _drawing(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        counts = self._watch.counts
        ended = counts.finished + counts.failed + counts.aborted
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=max(1, counts.total), completed=ended, width=_BAR_CHARS),
            Text(f"{ended:,}/{counts.total:,}"),
            Text(say.counts_line(counts)),
            Text(say.duration(time.monotonic() - self._began), style="dim"),
        )
        workers = Table.grid(padding=(0, 2))
        for activity in self._activities():
            workers.add_row(*(Text(cell, style=style, no_wrap=True) for cell, style in _worker_cells(activity)))
        whole = Table.grid()
        whole.add_row(head)
        whole.add_row(workers)
        return whole

    def _activities(self) -> list[Activity]:
        from overseer_lite.cli.running import activities

        return activities(self._store, [each for each in self._store.workers() if each.run in (None, self._run)])


def _worker_cells(activity: Activity) -> list[tuple[str, str]]:
    worker = (f"  {activity.worker.id}", "dim")
    if activity.attempt is None:
        return [worker, ("idle", "dim"), ("", ""), ("", ""), ("", "")]
    again = f"attempt {activity.attempt.number}" if activity.attempt.number > 1 else ""
    progress = "" if activity.progress is None else f"{activity.progress:.0%} {activity.step}".strip()
    return [
        worker,
        (say.escape(activity.attempt.job_id), ""),
        (again, "yellow"),
        (say.duration(activity.elapsed_s), "dim"),
        (say.escape(progress), "cyan"),
    ]


class _ConsoleHandler(logging.Handler):
    """Log lines above the live view instead of through it."""

    def __init__(self, console: Any) -> None:
        super().__init__()
        self.setFormatter(LineFormatter(LOG_NAME))
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        from rich.text import Text

        try:
            self._console.print(Text(self.format(record)), soft_wrap=True)
        except Exception:  # noqa: BLE001 - as every handler of logging does: told on stderr, never raised
            self.handleError(record)
