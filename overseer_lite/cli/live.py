"""A run, told while it goes on: a live view on a terminal (see `screen`), a plain line an event elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import IO, TYPE_CHECKING, Final, Protocol

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.watch import Event, Watch
from overseer_lite.errors import StoreUnavailableError
from overseer_lite.log import configure

log = logging.getLogger("overseer_lite.cli")

if TYPE_CHECKING:
    from collections.abc import Callable

    from overseer_lite.store import Counts, FullStore

OUTPUTS: Final = ("failed", "all", "none")
LOG_NAME: Final = "supervisor"
_COUNTS_EVERY_S: Final = 5.0
_PATIENCE_S: Final = 5.0


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


def open_view(store: FullStore, run: str, *, color: str, to_stderr: bool = False, output: str = "none") -> View:
    """Return the view that suits where the output goes.

    Args:
        output: Whose own output is shown: of `failed` jobs, of `all` attempts, or of `none`.
    """
    stream = sys.stderr if to_stderr else sys.stdout
    if say.is_terminal(color, stream):
        from overseer_lite.cli.screen import LiveView

        return LiveView(store, run, stream, output)
    return PlainView(store, run, stream, output)


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
    return f"{now_text(event.at)} {event.word:<11} {say.escape(event.job)}{say.escape(detail)}"


def now_text(at: float | None = None) -> str:
    """Return a wall time, now's by default, as a line begins with it."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def words_of(store: FullStore, event: Event, output: str) -> list[str]:
    """Return what an ended attempt left in words, its output and then its traceback, if that is asked for; in lines.

    `failed` asks for that of jobs that have failed: of an attempt that is to be followed by another, its line is enough.
    """
    if not event.number or output == "none" or (output == "failed" and (not event.bad or event.again)):
        return []
    record = next((each for each in store.attempts(event.job) if each.number == event.number), None)
    if record is None:
        return []
    lines = record.output.replace("\r\n", "\n").rstrip().split("\n") if record.output.strip() else []
    missing = record.output_bytes - len(record.output.encode(errors="surrogatepass"))
    if missing > 0:
        lines.insert(0, f"(the first {missing:,} bytes were not kept)")
    traceback = record.failure.traceback if record.failure is not None else None
    if traceback and traceback not in record.output:
        lines += traceback.rstrip().split("\n")
    return lines


class PlainView:
    """One line an event, no control codes: for a file, a pipe, a CI log."""

    def __init__(self, store: FullStore, run: str, stream: IO[str], output: str = "none") -> None:
        self._store = store
        self._watch = Watch(store, run)
        self._stream = stream
        self._output = output
        self._counts: Counts | None = None
        self._next_counts = time.monotonic() + _COUNTS_EVERY_S
        self.log_file: str | None = None
        configure("WARNING", LOG_NAME, sys.stderr)

    def tick(self, *, last: bool = False) -> None:
        """Print what happened; in a large run, every few seconds how many jobs stand where."""
        for event in self._watch.look(last=last):
            click.echo(event_text(event), file=self._stream)
            for line in words_of(self._store, event, self._output):
                click.echo(f"    | {say.escape(say.without_colours(line), keep=chr(9))}".rstrip(), file=self._stream)
        now = time.monotonic()
        counts = self._watch.counts
        if not self._watch.listed and now >= self._next_counts and counts != self._counts and not last:
            self._counts, self._next_counts = counts, now + _COUNTS_EVERY_S
            self.note(say.counts_line(counts))

    def note(self, text: str) -> None:
        """Print a line with the time before it."""
        click.echo(f"{now_text()} {text}", file=self._stream)

    def close(self) -> None:
        """Nothing stays open."""
