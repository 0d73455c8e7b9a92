"""Real processes on a double's store: a supervisor with n workers, which a test may kill, and waits that have an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, cast

from overseer_lite.clock import CLOCK_VARIABLE
from overseer_lite.errors import InvalidInputError, OverseerError, TimedOutError
from overseer_lite.failpoints import FILE_VARIABLE
from overseer_lite.job import Attempt, JobInfo, Status
from overseer_lite.liveness.identity import Identity, Life, look, send_signal
from overseer_lite.liveness.spawn import python_argv
from overseer_lite.liveness.workerfile import BEGUN, WorkerFile, WorkerFileError
from overseer_lite.monitor import reset_silent
from overseer_lite.testing.record import SCHEME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from overseer_lite.store import FileStore
    from overseer_lite.testing.double import Double

WAIT_S: Final = 10.0
_LOOK_S: Final = 0.002
_GRACE_S: Final = 5.0  # for current jobs, when the test is done with the pool
_END_S: Final = 30.0
_LOG_CHARS: Final = 4000


class PoolLostError(OverseerError, AssertionError):
    """The supervisor of a pool ended by itself, or a job was not in the state that a test waited for."""


class Pool:
    """n workers in processes of their own, under a supervisor of its own, from `with` to the end of it.

    While it works the double's clock runs: real time passes for the store, from the time the clock showed.
    """

    def __init__(self, double: Double, n: int, app: str | None, settings: Mapping[str, Any]) -> None:
        if app is None and double.context is not None:
            raise InvalidInputError(
                "A pool's handlers run in other processes, which cannot be given this double's context. Give the app a "
                "`context` of its own and name it (`app=`)."
            )
        double.need("pool", "workers", "wake_up", "shared", "exchange", "runs", "history", "looking", "requests")
        self._double = double
        self._files = cast("FileStore", double.store)
        self._app = app or find_app(double.handlers)
        self._n = n
        self._settings = {
            "heartbeat_interval_s": double.profile.heartbeat_interval_s,
            "tolerance": double.profile.tolerance,
            "durability": "normal",
            "grace_s": _GRACE_S,
            **settings,
        }
        self._log = os.path.join(double.directory, "pool.log")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the supervisor; its workers come up meanwhile."""
        double = self._double
        double.clock.run()
        double.clock.follow(self)
        plan = {
            "address": SCHEME + double.store.path,
            "app": self._app,
            "workers": self._n,
            "log_level": "INFO",
            "log_file": self._log,
        }
        module = "overseer_lite.supervisor" if double.profile.kernel else "overseer_lite.testing.silence"
        argv = python_argv(module, [plan, {**self._settings, "db": double.store.path}])
        environment = {
            **os.environ,
            "OVERSEER_LITE_DB": double.store.path,
            CLOCK_VARIABLE: double.clock.path,
            FILE_VARIABLE: double.faults.path,
            "PYTHONPATH": _own_path(),
        }
        with open(self._log, "ab") as log:
            # A group of its own: a Ctrl-C is for the test, which then ends this in order.
            self._process = subprocess.Popen(
                argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop in order, current jobs within 5 s; at once if the test has failed."""
        assert self._process is not None
        try:
            self._process.send_signal(signal.SIGTERM)
            if kind is not None:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.2)
                self._process.send_signal(signal.SIGTERM)
            self._process.wait(_END_S)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._double.clock.leave(self)
            self._double.clock.stand()

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._process is not None
        return self._process.pid

    def wait_started(self, name: str, timeout_s: float = WAIT_S) -> RunningAttempt:
        """Wait until the handler of the job of that name has begun; return that attempt.

        Raises:
            TimedOutError: It did not begin in time.
            PoolLostError: The job ended before it was seen, or the supervisor did.
        """

        def look() -> RunningAttempt | None:
            info = self._double.job(name)
            if info.status.terminal:
                raise PoolLostError(
                    f"Job {info.id!r} is {info.status}, and was not seen at work. Have its handler wait for something."
                )
            return self._begun(info)

        found: RunningAttempt = self._wait(look, f"the start of job {name!r}", timeout_s)
        return found

    def wait_quiescent(self, timeout_s: float = WAIT_S) -> None:
        """Wait until nothing is left that could run: none started, none ready, none to be tried later.

        Raises:
            TimedOutError: Something is left; the message names it.
            PoolLostError: The supervisor ended.
        """
        double = self._double
        self._wait(lambda: double.store.drained(double.types), "the last job", timeout_s)

    def wait_attempts(self, name: str, count: int, timeout_s: float = WAIT_S) -> None:
        """Wait until that many attempts of a job have ended.

        Raises:
            TimedOutError: They have not in time.
            PoolLostError: The supervisor ended.
        """
        double = self._double
        self._wait(lambda: len(double.attempts(name)) >= count, f"the end of attempt {count} of {name!r}", timeout_s)

    def wait_workers(self, count: int, timeout_s: float = WAIT_S) -> None:
        """Wait until that many workers have come up; they do so by themselves, one sooner than another.

        Raises:
            TimedOutError: They have not in time.
            PoolLostError: The supervisor ended.
        """
        store = self._double.store
        self._wait(lambda: len(store.workers()) >= count, f"{count} workers", timeout_s)

    def wait_until(self, condition: Callable[[], Any], what: str = "the condition", timeout_s: float = WAIT_S) -> Any:
        """Wait until a condition is true, and return what it returned.

        Raises:
            TimedOutError: It did not become so in time.
            PoolLostError: The supervisor ended.
        """
        return self._wait(condition, what, timeout_s)

    @property
    def beat_s(self) -> float:
        """Seconds, by the double's clock, between two beats of a worker."""
        return float(self._settings["heartbeat_interval_s"])

    def wait_beaten(self) -> None:
        """Wait until each worker that lives has beaten, in its file and in the store, within the last interval.

        Not waited for are those that are stopped or gone, or whose beats a fault drops. All are woken: what has become due is taken up.

        Raises:
            TimedOutError: Somebody did not.
        """
        for record in self._double.store.workers():
            self._files.ring(record.id)
        self._wait(lambda: not self._late(), "a beat of each worker that lives", WAIT_S)
        if not self._double.profile.kernel:
            reset_silent(self._double.store, self.beat_s * float(self._settings["tolerance"]))

    def _late(self) -> list[str]:
        """Return the workers that live and owe a beat, having woken them."""
        store = self._double.store
        late = []
        for record in store.workers():
            now = store.clock.read()
            if record.identity is None or self._double.faults.drops_beats_of(record.pid):
                continue
            if look(Identity.from_text(record.identity), now.boot_id) is not Life.RUNNING:
                continue
            try:
                snapshot = WorkerFile.read(os.path.join(store.state_directory, "workers", record.id))
            except WorkerFileError:
                continue  # it has just left
            silent_s = record.silent_s
            if snapshot is not None:
                silent_s = max(silent_s, (now.monotonic_us - snapshot.beat_us) / 1e6)
            if silent_s > self.beat_s:
                self._files.ring(record.id)
                late.append(record.id)
        return late

    def _begun(self, info: JobInfo) -> RunningAttempt | None:
        """Return a job's attempt if its runner has noted that the handler is called."""
        if info.status is not Status.STARTED or info.worker is None:
            return None
        store = self._double.store
        attempt = Attempt(info.id, info.attempt, info.worker)
        try:
            snapshot = WorkerFile.read(os.path.join(store.state_directory, "workers", info.worker))
        except WorkerFileError:
            return None  # gone, or just being made
        held = store.held_keys(info.worker)
        if snapshot is None or not any(
            slot.state == BEGUN and held.get((slot.job_key, slot.number)) == attempt for slot in snapshot.slots
        ):
            return None
        record = next((record for record in store.workers() if record.id == info.worker), None)
        if record is None or record.identity is None:
            return None
        boot_id = store.clock.read().boot_id
        who = Identity.from_text(record.identity)
        return RunningAttempt(attempt, who, snapshot.runner, boot_id, self._double.note)

    def _wait(self, look: Callable[[], Any], what: str, timeout_s: float) -> Any:
        assert self._process is not None
        until = time.monotonic() + timeout_s
        while True:
            found = look()
            if found:
                return found
            code = self._process.poll()
            if code is not None:
                raise PoolLostError(f"The pool's supervisor ended with {code}. Its log:\n{self._tail()}")
            if time.monotonic() > until:
                left = ", ".join(self._double.unfinished()) or "none"
                error = TimedOutError(f"Waiting for {what} (not finished: {left})", timeout_s)
                error.add_note(f"The pool's log:\n{self._tail()}")
                raise error
            time.sleep(_LOOK_S)

    def _tail(self) -> str:
        with open(self._log, encoding="utf-8", errors="replace") as log:
            return log.read()[-_LOG_CHARS:]


class RunningAttempt:
    """An attempt whose handler has begun, in a pool.

    Attributes:
        attempt: Which one.
        worker: The process that holds it.
        runner: The process in which the handler runs.
    """

    __slots__ = ("_boot_id", "_note", "attempt", "runner", "worker")

    def __init__(
        self,
        attempt: Attempt,
        worker: Identity,
        runner: Identity | None,
        boot_id: str,
        note: Callable[..., None],
    ) -> None:
        self.attempt, self.worker, self.runner, self._boot_id, self._note = attempt, worker, runner, boot_id, note

    def __repr__(self) -> str:
        return f"RunningAttempt({self.attempt}, worker {self.worker.pid})"

    def kill(self) -> None:
        """SIGKILL the worker, as the kernel would where memory ends; its runner dies with it.

        Raises:
            PoolLostError: The worker is gone already.
        """
        self._kill(self.worker, "worker")

    def kill_runner(self) -> None:
        """SIGKILL the runner alone, as a handler that crashes its interpreter would.

        Raises:
            PoolLostError: The runner is gone already.
        """
        self._kill(self.runner, "runner")

    def stop(self) -> None:
        """SIGSTOP the worker: it lives, and is silent from now on; its runner works on.

        Raises:
            PoolLostError: The worker is gone.
        """
        self._signal(self.worker, "worker", signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT the worker: it wakes, and says what it would have said, however late.

        Raises:
            PoolLostError: The worker is gone: somebody made sure of it meanwhile.
        """
        self._signal(self.worker, "worker", signal.SIGCONT)

    def _kill(self, who: Identity | None, what: str) -> None:
        self._note("killed", worker=self.attempt.worker, what=what)
        self._signal(who, what, signal.SIGKILL)

    def _signal(self, who: Identity | None, what: str, signum: signal.Signals) -> None:
        if who is None or not send_signal(who, signum, self._boot_id):
            raise PoolLostError(f"The {what} of {self.attempt} cannot be sent {signum.name}: it is gone.")


def find_app(handlers: Mapping[str, Any]) -> str:
    """Return the app whose `handlers` these are, as the command line would name it.

    A module that stands alone is named by its file, one of a package by its name.

    Raises:
        InvalidInputError: No module that has been imported from a file has them as its `handlers`.
    """
    for name, module in list(sys.modules.items()):
        if getattr(module, "__dict__", {}).get("handlers") is not handlers:
            continue
        file = getattr(module, "__file__", None)
        if file is None or name == "__main__" or not _defines(name, handlers):
            continue
        return name if "." in name else os.path.abspath(file)
    raise InvalidInputError(
        "No module has these handlers as its `handlers`, and a pool's processes must import them. Name the app (`app=`)."
    )


def _defines(module: str, handlers: Mapping[str, Any]) -> bool:
    """Whether a module is the one the handlers' functions were written in; others may only have imported them."""
    from overseer_lite.handler import as_handlers

    return any(getattr(handler.process, "__module__", None) == module for handler in as_handlers(handlers).values())


def _own_path() -> str:
    """Return what this process has on sys.path beyond the interpreter's own, as its children are to have it."""
    own = (sys.prefix + os.sep, sys.base_prefix + os.sep)
    return os.pathsep.join(path for path in sys.path if path and not path.startswith(own))
