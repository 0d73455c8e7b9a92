"""Named points at which a test makes a process die, stop, fail or wait; nothing but a look-up when none is set.

`OVERSEER_LITE_FAILPOINTS` sets them for a process and its children: `point=action[:argument][@n][%role]`, several
separated by commas. The action is taken at the n-th visit (the first, if not said), once; in processes of that role
only, if one is named. `OVERSEER_LITE_FAILPOINTS_LOG` names a file to which each visit is appended, so that a test can
tell that a point was really visited.

    settle.before_commit=kill@3            SIGKILL to itself, at the third visit
    recover.tree_cleared=stall:2.5         wait 2.5 s
    gate.held=stop%worker                  SIGSTOP to itself, in workers only
    reserve.after_commit=raise             FailpointError
"""

from __future__ import annotations

import os
import signal
import time
from typing import Final, NamedTuple

VARIABLE: Final = "OVERSEER_LITE_FAILPOINTS"
LOG_VARIABLE: Final = "OVERSEER_LITE_FAILPOINTS_LOG"

#: Every point there is, with where it stands. A name not in this table cannot be set or visited.
POINTS: Final[dict[str, str]] = {
    "gate.held": "a writer has just got the gate",
    "install.before_commit": "the schema is written to the new file, not yet in its place",
    "install.after_commit": "the new store stands in its place",
    "submit.before_commit": "a graph is written, not yet committed",
    "submit.after_commit": "a graph is committed, not yet acknowledged",
    "exchange.before_commit": "settlements and reservations are written, not yet committed",
    "exchange.after_commit": "settlements and reservations are committed, the worker does not know yet",
    "beat.before_commit": "a mirrored heartbeat is written, not yet committed",
    "beat.after_commit": "a mirrored heartbeat is committed",
    "register.before_commit": "a worker's row is written, not yet committed; its lock is held",
    "register.after_commit": "a worker's row is committed",
    "leave.before_commit": "a worker's row is deleted, not yet committed",
    "leave.after_commit": "a worker's row is gone, its lock file is not",
    "act.before_commit": "an operator's abort, reset or retry is written, not yet committed",
    "act.after_commit": "an operator's abort, reset or retry is committed",
    "recover.before_commit": "a dead worker's jobs are reset, not yet committed",
    "recover.after_commit": "a dead worker's jobs are reset, its lock file is still there",
    "recover.noticed": "a death was noticed, nothing done yet",
    "recover.lock_taken": "the dead worker's lock is held by the one who recovers",
    "recover.tree_cleared": "the dead worker's tree is proved gone, its jobs are not yet reset",
    "checkpoint.before": "the gate is held, a checkpoint is about to run",
    "checkpoint.after": "a checkpoint has run, the gate is still held",
    "worker.reserved": "jobs are reserved, the runner has not got them",
    "worker.given": "jobs are given to the runner",
    "worker.outcome": "the runner's outcome is read, not yet settled",
    "worker.take_back": "jobs are about to be taken back from the runner",
    "worker.runner_died": "the worker saw its runner's death, its tree is not cleared",
    "worker.runner_cleared": "the dead runner's tree is cleared, its attempts are not settled",
    "runner.token_read": "the runner has the job's token, the job is not marked begun",
    "runner.begun": "the job is marked begun, the handler has not been called",
    "runner.ended": "the handler returned, the job is not marked ended",
    "runner.marked_ended": "the job is marked ended, the outcome is not sent",
    "runner.sent": "the outcome is sent",
}


class FailpointError(Exception):
    """Raised by a failpoint whose action is `raise`."""


class _Armed(NamedTuple):
    action: str
    argument: float
    at: int


_armed: dict[str, _Armed] = {}
_visits: dict[str, int] = {}
_log_fd: int | None = None
_active = False


def hit(point: str) -> None:
    """Visit a point; does nothing unless a test armed one."""
    if _active:
        _visit(point)


def arm(point: str, action: str, *, argument: float = 0.0, at: int = 1) -> None:
    """Set a point in this process: action `kill`, `stop`, `raise` or `stall` (argument: seconds), at its n-th visit."""
    global _active
    if point not in POINTS:
        raise ValueError(f"There is no failpoint {point!r}; known: {', '.join(POINTS)}")
    if action not in {"kill", "stop", "raise", "stall"}:
        raise ValueError(f"Failpoint {point!r}: unknown action {action!r}; known: kill, stop, raise, stall")
    _armed[point] = _Armed(action, argument, at)
    _visits.pop(point, None)
    _active = True


def disarm() -> None:
    """Forget every point set in this process."""
    global _active
    _armed.clear()
    _visits.clear()
    _active = _log_fd is not None


def load(role: str) -> None:
    """Arm what the environment names for a process of this role; called once at a process's start."""
    global _active, _log_fd
    log = os.environ.get(LOG_VARIABLE)
    if log and _log_fd is None:
        _log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        _active = True
    for word in filter(None, os.environ.get(VARIABLE, "").split(",")):
        rest, _, only = word.strip().partition("%")
        if only and only != role:
            continue
        rest, _, at = rest.partition("@")
        point, _, action = rest.partition("=")
        action, _, argument = action.partition(":")
        arm(point, action, argument=float(argument or 0), at=int(at or 1))


def _visit(point: str) -> None:
    if point not in POINTS:
        raise AssertionError(f"failpoint {point!r} is not in the table")
    _visits[point] = count = _visits.get(point, 0) + 1
    if _log_fd is not None:
        os.write(_log_fd, f"{point} {os.getpid()}\n".encode())
    armed = _armed.get(point)
    if armed is None or armed.at != count:
        return
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif armed.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif armed.action == "stall":
        time.sleep(armed.argument)
    else:
        raise FailpointError(point)
