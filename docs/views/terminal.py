"""A terminal of its own for a command, and what stands on its screen at any moment, as rich can export it."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COLUMNS: Final = 96
_ROWS: Final = 40
_WAIT_S: Final = 60.0
_CODE: Final = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])")


class Screen:
    """Lines, as a terminal has them after what was written to it; nothing ever scrolls out.

    Understands what rich's live view writes: line ends, one line up, one line erased, colours. Anything else is an
    error, so that a picture never shows what no terminal would.
    """

    def __init__(self) -> None:
        self._lines: list[str] = [""]
        self._row = 0

    def write(self, text: str) -> None:
        """Take in whole codes and characters."""
        for part in re.split(r"(\x1b\[[?\d;]*[A-Za-z]|\r|\n)", text):
            code = _CODE.fullmatch(part)
            if part == "\n":
                self._row += 1
                if self._row == len(self._lines):
                    self._lines.append("")
            elif code is None or code[2] == "m":
                self._lines[self._row] += part.replace("\r", "")
            elif code[2] == "A":
                self._row -= int(code[1] or 1)
            elif code[2] == "K" and code[1] == "2":
                self._lines[self._row] = ""
            elif code[2] not in "hl":
                raise LookupError(f"the screen does not know the code {part!r}")

    def text(self) -> Text:
        """Return what stands there, with its colours."""
        return Text.from_ansi("\n".join(self._lines).rstrip())


def screens(words: Sequence[str], directory: str) -> Iterator[Screen]:
    """Run our command line on a terminal; yield its screen after each write, to the command's end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "COLUMNS")}
    environment |= {"TERM": "xterm-256color"}
    argv = [sys.executable, "-m", "overseer_lite", *words]
    process = subprocess.Popen(
        argv, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    screen, pending = Screen(), b""
    try:
        while select.select([ours], [], [], _WAIT_S)[0]:
            try:
                pending += os.read(ours, 65536)
            except OSError:  # nobody has the other end any more
                break
            whole, pending = _whole(pending)
            screen.write(whole)
            yield screen
    finally:
        os.close(ours)
        process.wait()


def _whole(data: bytes) -> tuple[str, bytes]:
    """Split off a code or a character that has not arrived whole; a drawing always ends with a whole line."""
    end = data.rfind(b"\x1b")
    if end >= 0 and not re.match(rb"\x1b\[[?\d;]*[A-Za-z]", data[end:]):
        data, rest = data[:end], data[end:]
    else:
        rest = b""
    try:
        return data.decode(), rest
    except UnicodeDecodeError as error:
        return data[: error.start].decode(), data[error.start :] + rest


def export(text: Text, path: str, title: str, columns: int = COLUMNS) -> None:
    """Write a picture of some text. It names no font that would have to be fetched from somewhere."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    console.print(text, overflow="fold")
    console.print()  # or what hangs below the last line is cut off
    name = os.path.basename(path).removesuffix(".svg")
    svg = console.export_svg(title=title, unique_id=f"view-{name}")
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("font-family: Fira Code, monospace", "font-family: ui-monospace, Menlo, Consolas, monospace")
    with open(path, "w", encoding="utf-8") as file:
        file.write(re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE))
