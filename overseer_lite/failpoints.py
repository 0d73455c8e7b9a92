"""Named points at which a test makes a process die, stop, fail or wait; nothing but a look-up when none is set.

`OVERSEER_LITE_FAILPOINTS` sets them for a process and its children: `point=action[:argument][@n][%who]`, several
separated by commas. The action is taken at the n-th visit (the first, if not said), once in each process; only in
processes of that role, or of that pid, if one is named. `OVERSEER_LITE_FAILPOINTS_LOG` names a file to which each visit
is appended, so that a test can tell that a point was really visited.

    settle.before_commit=kill@3            SIGKILL to itself, at the third visit
    recover.tree_cleared=stall:2.5         wait 2.5 s
    gate.held=stop%worker                  SIGSTOP to itself, in workers only
    reserve.after_commit=raise             FailpointError
    gate.held=away:2                       StoreUnavailableError, at each visit for 2 s; without a time, at one
    beat.given=drop                        leave it out, at each visit from then on; for a time, if one is given

`OVERSEER_LITE_FAILPOINTS_FILE` names a file of such words, which is read anew whenever it has changed. There each word
ends with `#name`: its action is taken once in all processes together, by whoever makes the file of that name first.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Final, NamedTuple

from overseer_lite.errors import StoreUnavailableError

VARIABLE: Final = "OVERSEER_LITE_FAILPOINTS"
LOG_VARIABLE: Final = "OVERSEER_LITE_FAILPOINTS_LOG"
FILE_VARIABLE: Final = "OVERSEER_LITE_FAILPOINTS_FILE"

#: Every point there is, with where it stands. A name not in this table cannot be set or visited.
POINTS: Final[dict[str, str]] = {
    "gate.held": "a writer has just got the gate",
    "install.before_commit": "the schema is written to the new file, not yet in its place",
    "install.after_commit": "the new store stands in its place",
    "submit.before_commit": "a graph is written, not yet committed",
    "submit.after_commit": "a graph is committed, not yet acknowledged",
    "exchange.before_commit": "settlements and reservations are written, not yet committed",
    "exchange.after_commit": "settlements and reservations are committed, the worker does not know yet",
    "beat.given": "a worker is about to give a sign of life, in its file or in the store",
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
    "runner.marked_ended": "the job is marked ended, a small result with it; the worker is not told",
    "runner.sent": "the worker is told how it ended, perhaps of several at once",
}


#: What can be done at a point.
ACTIONS: Final = ("kill", "stop", "raise", "stall", "away", "drop")
_LASTING: Final = frozenset(["away", "drop"])


class FailpointError(Exception):
    """Raised by a failpoint whose action is `raise`."""


class Word(NamedTuple):
    """One thing to do at one point.

    Attributes:
        argument: Seconds: how long `stall`, `away` and `drop` last; 0 where none were given.
        at: At which visit.
        who: Only in processes of that role, or of that pid; '' in all.
        name: Once in all processes: whoever makes the file of that name beside the words' file.
    """

    point: str
    action: str
    argument: float = 0.0
    at: int = 1
    who: str = ""
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Word:
        """Read a word as the environment has it.

        Raises:
            ValueError: There is no such point or action, or a number is none.
        """
        rest, _, name = text.strip().partition("#")
        rest, _, who = rest.partition("%")
        rest, _, at = rest.partition("@")
        point, _, action = rest.partition("=")
        action, _, argument = action.partition(":")
        if point not in POINTS:
            raise ValueError(f"There is no failpoint {point!r}; known: {', '.join(POINTS)}")
        if action not in ACTIONS:
            raise ValueError(f"Failpoint {point!r}: unknown action {action!r}; known: {', '.join(ACTIONS)}")
        return cls(point, action, float(argument or 0), int(at or 1), who, name)

    def __str__(self) -> str:
        argument = f":{self.argument!r}" if self.argument else ""
        at = f"@{self.at}" if self.at > 1 else ""
        who = f"%{self.who}" if self.who else ""
        return f"{self.point}={self.action}{argument}{at}{who}" + (f"#{self.name}" if self.name else "")


_armed: dict[str, Word] = {}  # by point: set in this process
_shared: dict[str, list[Word]] = {}  # by point: from the file
_visits: dict[str, int] = {}  # by point, and of the file's words by name since they were set
_since: dict[Word, float] = {}  # of what lasts: when it began
_log_fd: int | None = None
_role = ""
_file: str | None = None
_read: tuple[int, int, int] | None = None  # which state of the file was read
_active = False


def hit(point: str) -> bool:
    """Visit a point; does nothing unless a test armed one. False: what is about to be done is to be left out."""
    return _visit(point) if _active else True


def arm(point: str, action: str, *, argument: float = 0.0, at: int = 1) -> None:
    """Set a point in this process, in place of what was set there: an action (see above), at its n-th visit."""
    global _active
    _armed[point] = Word.parse(f"{point}={action}:{argument!r}@{at}")
    _visits.pop(point, None)
    _active = True


def disarm() -> None:
    """Forget every point set in this process."""
    global _active
    _armed.clear()
    _visits.clear()
    _since.clear()
    _active = _log_fd is not None or _file is not None


def load(role: str) -> None:
    """Arm what the environment names for a process of this role; called once at a process's start."""
    global _active, _log_fd
    log = os.environ.get(LOG_VARIABLE)
    if log and _log_fd is None:
        _log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        _active = True
    watch(os.environ.get(FILE_VARIABLE) or None, role)
    for text in filter(None, os.environ.get(VARIABLE, "").split(",")):
        word = Word.parse(text)
        if _concerns_us(word):
            _armed[word.point] = word
            _visits.pop(word.point, None)
            _active = True


def watch(path: str | None, role: str) -> None:
    """Do what that file's words say from now on, as a process of this role; None: no file's."""
    global _active, _file, _role, _read
    _file, _role, _read = path, role, None
    _shared.clear()
    _active = _file is not None or _log_fd is not None or bool(_armed)


def _concerns_us(word: Word) -> bool:
    return word.who in ("", _role, str(os.getpid()))


def _read_file() -> None:
    global _read
    assert _file is not None
    try:
        found = os.stat(_file)
        state = (found.st_ino, found.st_size, found.st_mtime_ns)
        if state == _read:
            return
        with open(_file, encoding="utf-8") as file:
            words = [Word.parse(text) for text in file.read().split(",") if text.strip()]
    except FileNotFoundError:
        state, words = None, []
    _read = state
    _shared.clear()
    for word in words:
        if _concerns_us(word):
            _shared.setdefault(word.point, []).append(word)


def _visit(point: str) -> bool:
    if point not in POINTS:
        raise AssertionError(f"failpoint {point!r} is not in the table")
    if _file is not None:
        _read_file()
    count = _count(point)
    if _log_fd is not None:
        os.write(_log_fd, f"{point} {os.getpid()}\n".encode())
    go_on = True
    armed = _armed.get(point)
    if armed is not None and (armed.at == count or (armed.at < count and armed in _since)):
        go_on = _act(armed)
    for word in _shared.get(point, ()):
        seen = _count(f"{_file}.{word.name}")  # of another file, the same name is another's
        if (seen == word.at or (seen > word.at and word.action in _LASTING)) and _is_ours(word):
            go_on = _act(word) and go_on
    return go_on


def _count(what: str) -> int:
    _visits[what] = count = _visits.get(what, 0) + 1
    return count


def _is_ours(word: Word) -> bool:
    """Whether a word of the file is to be obeyed here: once in all processes, or as long as it lasts."""
    path = f"{_file}.{word.name}"
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return word.action == "drop" or (word.action == "away" and word.argument > 0)
    return True


def _act(word: Word) -> bool:
    """Do what a word says; False: the caller is to leave out what it was about to do."""
    if word.action in _LASTING:
        began = _since.setdefault(word, time.monotonic())
        over = word.argument and time.monotonic() - began > word.argument
        if over or (word.action == "away" and not word.argument and _count(str(word)) > 1):
            return True
        if word.action == "drop":
            return False
        raise StoreUnavailableError("of this test", f"a fault at {word.point} keeps it away", "Wait until it is over")
    if word.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif word.action == "stall":
        time.sleep(word.argument)
    else:
        raise FailpointError(word.point)
    return True
