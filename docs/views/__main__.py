"""`python -m docs.views`: run the pipeline of the pictures in a scratch directory, and record what a terminal shows.

The pictures differ from one run to the next, as times do, so no test compares them. The scratch directory stands as
/srv/etl in them, as in all pages.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

from docs.names import ROOT
from docs.views.terminal import export, screens

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN: Final = "/srv/etl"
RUN: Final = "nightly-2026-11-24"
_PATIENCE_S: Final = 60.0


def view(name: str) -> str:
    """Return where a picture stands."""
    return os.path.join(ROOT, "docs/views", f"{name}.svg")


def main() -> None:
    """Record all pictures."""
    with tempfile.TemporaryDirectory() as directory:
        shutil.copy(os.path.join(ROOT, "docs/views/pipeline.py"), directory)
        _record_run(directory)
        _record_look(directory)
        _record_status(directory)


def _record_run(directory: str) -> None:
    """Record a run that is on its way, one failure behind it, and its end."""
    words = ["run", "-n", "4", "--id", RUN]
    live: Text | None = None
    screen = None
    for screen in screens(words, directory):
        now = screen.text()
        done = re.search(r"(\d+)/(\d+)", now.plain)
        failed = re.search("failed      .*attempt 3", now.plain)
        if live is None and failed and done and int(done[1]) > 0.6 * int(done[2]) and now.plain.count("%") > 2:
            live = now
    if live is None or screen is None:
        raise LookupError("the run never stood where it was to be recorded")
    _export("run", [(words, live)], directory)
    end = screen.text()
    _export("summary", [(words, Text.assemble(("...\n", "dim"), _after(end, "slowest")))], directory)


def _record_look(directory: str) -> None:
    """Record what one looks at after it: why something does not run, and the job that is to blame."""
    commands = [["why", "report"], ["show", "clean-23"]]
    _export("look", [(words, _output(words, directory)) for words in commands], directory)


def _record_status(directory: str) -> None:
    """Record the status while workers are busy with another night."""
    subprocess.run(
        [sys.executable, "-m", "overseer_lite", "submit", "--id", "nightly-2026-11-25"],
        cwd=directory, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, "-m", "overseer_lite", "worker", "-n", "4"],
        cwd=directory, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _record_when(lambda text: text.count("%") > 3, "status", ["status"], directory)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(_PATIENCE_S)


def _record_when(condition: Callable[[str], bool], name: str, words: list[str], directory: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        found = _output(words, directory)
        if condition(found.plain):
            _export(name, [(words, found)], directory)
            return
    raise LookupError(f"`{' '.join(words)}` never showed what was to be recorded")


def _output(words: list[str], directory: str) -> Text:
    last = deque(screens(words, directory), maxlen=1)
    if not last:
        raise LookupError(f"`{' '.join(words)}` said nothing")
    return last[0].text()


def _after(text: Text, word: str) -> Text:
    """Return the end of a text, from the line with the word on."""
    lines = text.split("\n")
    first = next(number for number, line in enumerate(lines) if word in line.plain)
    return Text("\n").join(lines[first:])


def _export(name: str, parts: list[tuple[list[str], Text]], directory: str) -> None:
    whole = Text()
    for number, (words, output) in enumerate(parts):
        whole.append("\n\n" if number else "")
        whole.append("$ ", style="bold green")
        whole.append(f"overseer-lite {' '.join(words)}\n", style="bold")
        whole.append_text(_elsewhere(output, directory))
    export(whole, view(name), "overseer-lite")


def _elsewhere(text: Text, directory: str) -> Text:
    """Return the text with the path that stands for the scratch directory in its place."""
    console = Console()
    while found := re.search(re.escape(os.path.realpath(directory)), text.plain):
        style = text.get_style_at_offset(console, found.start())
        text = Text.assemble(text[: found.start()], (SHOWN, style), text[found.end() :])
    return text


if __name__ == "__main__":
    main()
