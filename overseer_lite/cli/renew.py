"""Mended code: live workers that run older code than the file on disk are told of, or import it afresh before a retry.

Else a retry runs the old code once more, which is what nobody means by it. The supervisor is asked by SIGHUP, as an
operator would; it looks at the app first, and leaves all as it is if that cannot be imported.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from overseer_lite.cli import show as say
from overseer_lite.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from overseer_lite.runner import AppDescription
    from overseer_lite.store import FullStore, WorkerRecord

_PATIENCE_S: Final = 15.0
_PAUSE_S: Final = 0.05
_NO_CODE_OF_WORKERS: Final = "tests"


class Renewed(NamedTuple):
    """What became of it.

    Attributes:
        files: Sources that were newer than what workers ran.
        workers: How many workers run them now, or will after their current job.
        warnings: What an operator must do, of workers that could not be asked.
    """

    files: Sequence[str] = ()
    workers: int = 0
    warnings: Sequence[str] = ()


def stale(store: FullStore, run: str | None = None) -> list[WorkerRecord]:
    """Return live workers that run older code than the source of their app on disk, or than what lies beside it.

    What lies there need not be what they imported, so this may be one too many; a renewal in vain does no harm.

    Args:
        run: Leave out workers that are confined to another run.
    """
    newest: dict[str, float] = {}

    def is_older(worker: WorkerRecord) -> bool:
        if worker.app_file not in newest:
            newest[worker.app_file] = _newest(worker.app_file)
        return newest[worker.app_file] > worker.app_mtime

    return _live(store, run, is_older)


def behind(store: FullStore, app: AppDescription, run: str | None = None) -> list[WorkerRecord]:
    """Return live workers of that very app that run older code than it was found to have; nobody else is warned of.

    Args:
        run: Leave out workers that are confined to another run.
    """
    return _live(store, run, lambda worker: worker.app_file == app.app_file and worker.app_mtime < app.app_mtime)


def warn(store: FullStore, app: AppDescription, run: str) -> None:
    """Say on stderr what to do of live workers that would run a run's jobs with older code than the app has now."""
    for line in dict.fromkeys(map(warning, behind(store, app, run))):
        click.echo(f"overseer-lite: {say.escape(line)}", err=True)


def _live(store: FullStore, run: str | None, is_older: Callable[[WorkerRecord], bool]) -> list[WorkerRecord]:
    from overseer_lite.cli.running import is_dead

    return [
        worker
        for worker in store.workers()
        if worker.app_mtime
        and (worker.run is None or run is None or worker.run == run)
        and is_older(worker)
        and not is_dead(store, worker)
    ]


def _newest(file: str) -> float:
    """Return when the last of an app's sources was written; 0 if its file is not there any more.

    Its sources are its file, the modules beside it, and those of packages below, however deep: a directory that no import
    can name, or in which no module lies, is not looked into.
    """
    if not file or not os.path.exists(file):
        return 0.0  # moved away: nothing is known of what would run
    newest = os.stat(file).st_mtime
    todo = [os.path.dirname(file)]
    while todo:
        modules, below = _entries(todo.pop())
        newest = max([newest, *modules])
        if modules:
            todo += below
    return newest


def _entries(directory: str) -> tuple[list[float], list[str]]:
    """Return when each module in a directory was written, and the directories in it that may be packages."""
    modules, below = [], []
    with suppress(FileNotFoundError, PermissionError), os.scandir(directory) as entries:  # as an import would find it
        for each in entries:
            with suppress(FileNotFoundError):  # gone since it was listed: an editor's, most likely
                if _may_be_imported(each):
                    modules.append(each.stat().st_mtime)
                elif (
                    each.name.isidentifier() and each.name != _NO_CODE_OF_WORKERS and each.is_dir(follow_symlinks=False)
                ):
                    below.append(each.path)
    return modules, below


def _may_be_imported(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(".py") and not entry.name.startswith(("test_", "conftest.")) and entry.is_file()


def renew(store: FullStore, run: str | None = None) -> Renewed:
    """Have stale workers import their app afresh, and wait until none that is idle runs the old code.

    A worker in the middle of a job does so after it, before it takes another.

    Raises:
        InvalidInputError: They did not: the app cannot be imported, most likely. Nothing was changed.
    """
    old = stale(store, run)
    asked, warnings = _ask(old)
    if not asked:
        return Renewed(warnings=warnings)
    files = sorted({worker.app_file for worker in asked})
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        left = _left(store, asked)
        idle = [worker for worker in left if not store.held(worker.id)]
        # One that is renewed proves that all have been told: the supervisor tells them in one go.
        if not left or (not idle and len(left) < len(asked)):
            return Renewed(files, len(asked), warnings)
        if time.monotonic() > deadline:
            break
        time.sleep(_PAUSE_S)
    if not idle:
        busy = ", ".join(worker.id for worker in left)
        return Renewed(files, len(asked), [*warnings, f"{busy}: still in the middle of a job, and of the older code."])
    raise InvalidInputError(
        f"Live workers run older code than {', '.join(files)}, and did not import it within {_PATIENCE_S:g} s. Nothing "
        f"was changed; `overseer-lite check {idle[0].app}` says whether it can be imported, --no-renew retries without."
    )


def _left(store: FullStore, asked: Iterable[WorkerRecord]) -> list[WorkerRecord]:
    """Return those that still have the runner which they had."""
    now = {worker.id: worker.runner_pid for worker in store.workers()}
    return [worker for worker in asked if now.get(worker.id) == worker.runner_pid]


def _ask(old: Iterable[WorkerRecord]) -> tuple[list[WorkerRecord], list[str]]:
    """Send SIGHUP to each supervisor once; return whose was sent it, and what to do of the others."""
    from overseer_lite.cli.running import supervisor_pid
    from overseer_lite.liveness import Identity, send_signal

    asked: list[WorkerRecord] = []
    warnings: dict[str, None] = {}
    told: dict[str | None, bool] = {}
    for worker in old:
        if worker.supervisor not in told:
            try:
                who = None if supervisor_pid(worker) is None else Identity.from_text(str(worker.supervisor))
                told[worker.supervisor] = who is not None and send_signal(who, signal.SIGHUP)
            except PermissionError:
                told[worker.supervisor] = False
        if told[worker.supervisor]:
            asked.append(worker)
        else:
            warnings[warning(worker)] = None
    return asked, list(warnings)


def warning(worker: WorkerRecord) -> str:
    """Return what an operator must do about a stale worker."""
    from overseer_lite.cli.running import supervisor_pid

    pid = supervisor_pid(worker)
    how = f"SIGHUP the supervisor (kill -HUP {pid})" if pid else "restart the workers"
    return f"{worker.app_file} is newer than what live workers run, who may run jobs on the older code: {how}."
