"""A run on a terminal: a bar with counts, a line a worker, drawn by rich; what went wrong is printed above."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import IO, TYPE_CHECKING, Any, Final

from overseer_lite.cli import show as say
from overseer_lite.cli.live import LOG_NAME, event_text, now_text, words_of
from overseer_lite.cli.watch import Watch
from overseer_lite.log import LineFormatter, configure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, RenderableType

    from overseer_lite.cli.running import Activity
    from overseer_lite.store import Counts, FullStore

_REDRAW_S: Final = 0.1
_ESTIMATE_S: Final = 1.0
_BAR_CHARS: Final = 32
_JOB_BAR_CHARS: Final = 12
_WORDS_SHOWN: Final = 30
_WORKERS_SHOWN: Final = 16


class LiveView:
    """The view itself; see `live.View`."""

    def __init__(
        self, store: FullStore, run: str, stream: IO[str], output: str = "none", console: Console | None = None
    ) -> None:
        """Begin to draw.

        Args:
            console: Where to draw; one on the stream unless given.
        """
        from rich.console import Console
        from rich.live import Live

        self._store = store
        self._run = run
        self._output = output
        self._watch = Watch(store, run)
        self._console = console or Console(file=stream, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._began = time.monotonic()
        self._ended_before = _ended(self._watch.counts)
        self._next_draw = 0.0
        self._next_estimate = 0.0
        self._done_at: float | None = None
        # What workers write to stderr would go through the drawing: it goes to a file, and from there above it.
        self.log_file: str | None = os.path.join(store.state_directory, f"log-{os.getpid()}")
        self._logged = open(self.log_file, "w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - for our life
        configure("WARNING", LOG_NAME, sys.stderr)
        logging.getLogger("overseer_lite").handlers[:] = [_ConsoleHandler(self._console)]
        self._live.start()

    def tick(self, *, last: bool = False) -> None:
        """Print what went wrong, and draw anew."""
        for event in self._watch.look(last=last):
            lines = words_of(self._store, event, self._output)
            if event.bad or lines:
                style = "yellow" if event.again else say.STYLES.get(event.word, "yellow")
                self._print(event_text(event), style, lines)
        self._print_log()
        now = time.monotonic()
        if now >= self._next_draw or last:
            self._next_draw = now + _REDRAW_S
            self._live.update(self.drawing(), refresh=True)

    def note(self, text: str) -> None:
        """Print a line above the view."""
        self._print(f"{now_text()} {text}", "")

    def close(self) -> None:
        """Take the view away; what was printed above stays."""
        if not self._logged.closed:
            self._print_log()
            self._logged.close()
            os.unlink(str(self.log_file))
        self._live.stop()

    def _print_log(self) -> None:
        for line in self._logged:
            self._print(say.escape(line.rstrip("\n")), "dim")

    def _print(self, text: str, style: str, words: Sequence[str] = ()) -> None:
        """Print a line, and the last of an attempt's words below it; at once, since each print draws all anew."""
        from rich.text import Text

        whole = Text(text, style=style)
        left_out = len(words) - _WORDS_SHOWN
        if left_out > 0:
            whole.append(f"\n  | {say.plural(left_out, 'line')} before", style="not bold dim default")
        for line in words[-_WORDS_SHOWN:]:
            whole.append("\n  | ", style="not bold dim default")
            part = Text.from_ansi(say.escape_output(line))
            part.style = "not bold default"
            whole.append_text(part)
        self._console.print(whole, soft_wrap=True)

    # ---- the drawing

    def drawing(self) -> RenderableType:
        """Return the bar, the counts and the workers as they are now."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        workers = self._activities()
        head = Table.grid(padding=(0, 2))
        counts = self._watch.counts
        head.add_row(
            Text(self._run, style="bold", no_wrap=True, overflow="ellipsis"),
            _bar(counts),
            Text(f"{_ended(counts):,}/{counts.total:,}", no_wrap=True),
            Text(self._time(workers), style="dim", no_wrap=True),
        )
        lines = Table.grid(padding=(0, 2))
        for activity in workers[:_WORKERS_SHOWN]:
            lines.add_row(*_cells(activity, self._run))
        parts: list[RenderableType] = [Text(), head, say.counts_text(counts), lines]
        if len(workers) > _WORKERS_SHOWN:
            parts.append(Text(f"  and {len(workers) - _WORKERS_SHOWN} more workers", style="dim"))
        return Group(*parts)

    def _activities(self) -> list[Activity]:
        from overseer_lite.cli.running import activities, by_place

        mine = [each for each in self._store.workers() if each.run in (None, self._run)]
        return activities(self._store, by_place(mine))

    def _time(self, workers: list[Activity]) -> str:
        """Return how long it has taken, and how long it will."""
        now = time.monotonic()
        elapsed = say.rough(now - self._began)
        if now >= self._next_estimate:
            self._next_estimate = now + _ESTIMATE_S
            left_s = self._left_s(workers)
            self._done_at = None if left_s is None else now + left_s
        if self._done_at is None:
            return elapsed
        return f"{elapsed}, about {say.rough(self._done_at - now)} left"

    def _left_s(self, workers: list[Activity]) -> float | None:
        counts = self._watch.counts
        if self._watch.listed:
            elapsed_s = {each.attempt.job_id: each.elapsed_s for each in workers if each.attempt is not None}
            return self._watch.estimate.left_s(self._watch.jobs, len(workers), elapsed_s)
        done = _ended(counts) - self._ended_before
        left = counts.started + counts.unstarted - counts.stuck
        return (time.monotonic() - self._began) * left / done if done else None


def _ended(counts: Counts) -> int:
    return counts.finished + counts.failed + counts.aborted


def _bar(counts: Counts) -> RenderableType:
    from rich.progress_bar import ProgressBar

    style = "red" if counts.failed or counts.aborted else "green"
    return ProgressBar(
        total=max(1, counts.total),
        completed=_ended(counts),
        width=_BAR_CHARS,
        complete_style=style,
        finished_style=style,
    )


def _cells(activity: Activity, run: str) -> list[RenderableType]:
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    def cell(text: str, style: str = "") -> Text:
        return Text(say.escape(text), style=style, no_wrap=True, overflow="ellipsis")

    worker = cell(activity.worker.id.partition("-")[0], "dim")
    if activity.attempt is None:
        return [worker, cell("idle", "dim"), cell(""), cell(""), cell("")]
    job = cell(activity.attempt.job_id.removeprefix(f"{run}/"))
    if activity.attempt.number > 1:
        job.append(f"  attempt {activity.attempt.number}", style="yellow")
    elapsed = cell(say.duration(activity.elapsed_s), "cyan")
    if activity.progress is None:
        return [worker, job, elapsed, cell(""), cell("")]
    bar = ProgressBar(total=1.0, completed=activity.progress, width=_JOB_BAR_CHARS, complete_style="cyan")
    return [worker, job, elapsed, bar, cell(f"{activity.progress:.0%} {activity.step}".rstrip(), "cyan")]


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
