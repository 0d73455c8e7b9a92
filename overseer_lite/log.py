"""Log lines of our own processes: one event a line, whatever a job's id or an error holds."""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO


class LineFormatter(logging.Formatter):
    """Time with milliseconds, level, who, what; characters that could forge a line or a colour are escaped."""

    def __init__(self, who: str) -> None:
        super().__init__()
        self._who = who

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        text = record.getMessage()
        if record.exc_info:
            text += " | " + self.formatException(record.exc_info).replace("\n", " | ")
        return f"{stamp}.{int(record.msecs):03d} {record.levelname:<7} {self._who} {printable(text)}"


def printable(text: str) -> str:
    """Return text with everything escaped that a terminal would act on: control and bidi characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def configure(level: str, who: str, stream: TextIO | None = None) -> None:
    """Send this process's own log lines to a stream, stderr by default."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(who))
    root = logging.getLogger("overseer_lite")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False
