"""Mended code before a retry: live workers that run older code than the file on disk import it afresh first.

Else a retry runs the old code once more, which is what nobody means by it. The supervisor is asked by SIGHUP, as an
operator would; it looks at the app first, and leaves all as it is if that cannot be imported.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from overseer_lite.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from overseer_lite.store import FullStore, WorkerRecord

_PATIENCE_S: Final = 15.0
_PAUSE_S: Final = 0.05


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

    Args:
        run: Leave out workers that are confined to another run.
    """
    from overseer_lite.cli.running import is_dead

    newest: dict[str, float] = {}
    found = []
    for worker in store.workers():
        if (worker.run is not None and run is not None and worker.run != run) or not worker.app_mtime:
            continue
        if worker.app_file not in newest:
            newest[worker.app_file] = _newest(worker.app_file)
        if newest[worker.app_file] > worker.app_mtime and not is_dead(store, worker):
            found.append(worker)
    return found


def _newest(file: str) -> float:
    """Return when the last of an app's file and the modules beside it was written; 0 if it is not there any more."""
    if not file or not os.path.exists(file):
        return 0.0  # moved away: nothing is known of what would run
    times = [os.stat(file).st_mtime]
    with os.scandir(os.path.dirname(file)) as entries:
        times += [each.stat().st_mtime for each in entries if _may_be_imported(each)]
    return max(times)


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
    return f"{worker.app_file} is newer than what live workers run, which they may run once more: {how}."
