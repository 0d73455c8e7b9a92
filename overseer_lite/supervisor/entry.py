"""A supervisor as a process of its own, for `overseer_lite.run` and `start`."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from overseer_lite.config import load
from overseer_lite.errors import OverseerError, WorkersLostError
from overseer_lite.supervisor.parent import Supervisor, supervise
from overseer_lite.supervisor.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("overseer_lite.supervisor")

PARENT_LOOK_S: Final = 1.0


def main(arguments: list[str], kind: type[Supervisor] = Supervisor) -> None:
    """Start as a process that `overseer_lite.run` or `start` spawned; the one argument is JSON: a plan, and settings.

    Third there may be the pid of whoever waits for it: when that process is gone, current jobs are finished and all leave.
    Fourth a descriptor on which to say, as JSON, why it could not go on; stderr without.

    Args:
        kind: Which supervisor.
    """
    from overseer_lite.log import configure

    given, overrides, parent, error_fd = [*json.loads(arguments[0]), None, None][:4]
    plan = Plan(**given, settings=load(overrides))
    configure(plan.log_level, "supervisor")
    try:
        code = supervise(plan, None if parent is None else _leave_with(parent), PARENT_LOOK_S, kind=kind)
    except OverseerError as error:
        _report(error, error_fd)
        code = error.exit_code
    sys.exit(code)


def _leave_with(parent: int) -> Callable[[], None]:
    """Return what is to be called now and then: it stops this process in order once its parent is gone."""
    gone = False

    def look() -> None:
        nonlocal gone
        if not gone and os.getppid() != parent:
            gone = True
            log.warning("Process %d, which started this supervisor, is gone", parent)
            os.kill(os.getpid(), signal.SIGTERM)

    return look


def _report(error: OverseerError, error_fd: int | None) -> None:
    if error_fd is None:
        sys.stderr.write(f"{error}\n")
        return
    deaths, words = (error.deaths, error.last_words) if isinstance(error, WorkersLostError) else (0, str(error))
    os.write(error_fd, json.dumps({"deaths": deaths, "words": words}).encode())  # a pipe's buffer takes it at once
