"""The runner process: imports the app, and runs its handlers one after the other until its worker closes the tokens.

It never opens the store: no handler can break the engine's locks by touching its files (sqlite.org/howtocorrupt.html).
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from overseer_lite import failpoints
from overseer_lite.clock import SystemClock, open_clock
from overseer_lite.errors import AppError, OverseerError
from overseer_lite.graph import as_graph, to_json
from overseer_lite.handler import Ending, RunningJob, describe, execute
from overseer_lite.job import Outcome
from overseer_lite.liveness.spawn import die_with_parent
from overseer_lite.liveness.tree import children
from overseer_lite.liveness.workerfile import RESULT_BYTES, WorkerFile
from overseer_lite.runner.app import App, keep_no_bytecode_of_new_source, load_app, newest_source
from overseer_lite.runner.attempt_files import attempt_directory
from overseer_lite.runner.protocol import (
    CONTROL_FD,
    EXIT_CHANNEL,
    STEPS_FD,
    TOKEN,
    TOKENS_FD,
    Ended,
    Frames,
    ended_body,
    finished_frame,
    frame,
    job_from,
    look_frame,
    read_frames,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from overseer_lite.job import ReservedJob

_CANCEL_S: Final = 1.0
_UNTOLD: Final = 16  # so many ends may stand in the steps before the worker is told to look,
_UNTOLD_US: Final = 1000  # for so long; the end of a longer one tells of those before it as well
_BRIEF_US: Final = 500  # a type's last attempt took no longer: another one may begin before the worker is told
_FILE_CLOCK_S: Final = 0.01  # a file is dated by the kernel's tick, which lags behind the clock

#: Who is told of failures, by setting; imported only if that setting is given.
_OBSERVERS: Final = {"sentry": "overseer_lite.observe.sentry:observer"}


class _Loop:
    """One event loop a runner, made when the first coroutine comes."""

    def __init__(self) -> None:
        self._runner: Any = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        if self._runner is None:
            import asyncio

            self._runner = asyncio.Runner()
        return self._runner.run(coroutine)

    def clear(self) -> int:
        """Cancel what a handler left running in the loop; return how many tasks would not go."""
        if self._runner is None:
            return 0
        import asyncio

        loop = self._runner.get_loop()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if not left:
            return 0
        _done, stubborn = loop.run_until_complete(asyncio.wait(left, timeout=_CANCEL_S))
        return len(stubborn)

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()


class _Runner:
    """The runner's loop: wait for a token, run its job, say how it ended."""

    def __init__(
        self, app: App, context: Any, config: dict[str, Any], control: socket.socket, known_children: frozenset[int]
    ) -> None:
        self._app = app
        self._known_children = known_children
        self._context = context
        self._control = control
        self._frames = Frames()
        self._waiting: deque[tuple[int, int, Any]] = deque()
        self._threads = set(threading.enumerate())  # those of the app and its context: no strays
        self._steps = WorkerFile.attach(STEPS_FD)
        self._files = config["files"]
        self._loop = _Loop()
        self._observe = _observer()
        clock = open_clock()
        self._boottime_us = clock.boottime_us if isinstance(clock, SystemClock) else lambda: clock.read().boottime_us
        self._poll = select.poll()
        self._poll.register(TOKENS_FD, select.POLLIN)
        self._untold = 0  # ends that stand in the steps, and of which the worker does not know
        self._untold_since_us = 0
        self._last_token = 0
        self._brief: set[str] = set()
        self._output = os.dup(1)  # not inherited
        self._streams = _streams()

    def run(self) -> None:
        """Run jobs until the worker closes the tokens."""
        while True:
            token = self._next_token()
            if token is None:
                self._loop.close()
                return
            failpoints.hit("runner.token_read")
            slot, job = self._payload_of(token)
            self._run(token, slot, job)
            if _streams() != self._streams:
                # A handler closed or moved them: the next one's first print would fail, or its first file be our
                # output. Its own end is reported; another runner takes what waits.
                self._loop.close()
                return

    def _next_token(self) -> int | None:
        while True:
            try:
                data = os.read(TOKENS_FD, TOKEN.size)
            except BlockingIOError:  # there is none, or the worker took it back while we were reaching for it
                self._tell()
                self._poll.poll()
                continue
            number: int | None = TOKEN.unpack(data)[0] if data else None
            return number

    def _payload_of(self, token: int) -> tuple[int, ReservedJob]:
        """Read frames up to the token's; those before it belong to jobs that were taken back."""
        while True:
            while self._waiting:
                number, slot, payload = self._waiting.popleft()
                if number == token:
                    job = job_from(payload)
                    if isinstance(payload, str):
                        os.unlink(payload)
                    return slot, job
            messages = read_frames(self._control, self._frames)
            if messages is None:
                sys.exit(0)  # the worker is gone; so is whatever it would have said
            for _kind, parcel in messages:
                self._waiting.extend(parcel)

    def _run(self, token: int, slot: int, reserved: ReservedJob) -> None:
        if reserved.type not in self._brief:
            self._tell()
        begun_us = self._boottime_us()
        self._steps.begin(slot, begun_us, self._output_bytes())
        failpoints.hit("runner.begun")
        ending = self._execute(slot, reserved)
        _flush()
        failpoints.hit("runner.ended")
        ended_us = self._boottime_us()
        (self._brief.add if ended_us - begun_us <= _BRIEF_US else self._brief.discard)(reserved.type)
        plain = ending.outcome is Outcome.FINISHED and not ending.added
        result = (ending.result_json or "").encode("utf-8", "surrogatepass") if plain else b""
        if plain and len(result) <= RESULT_BYTES:
            self._steps.finish(slot, token, ended_us, self._output_bytes(), result)
            failpoints.hit("runner.marked_ended")
            self._note_untold(token, ended_us)
            return
        self._steps.end(slot, ended_us, self._output_bytes())
        failpoints.hit("runner.marked_ended")
        if plain:
            self._send(finished_frame(token, result))
        else:
            self._report(token, ending)

    def _note_untold(self, token: int, now_us: int) -> None:
        """Have the worker told of an end that stands in the steps: soon, or at once if nothing is known to come next."""
        self._last_token = token
        if not self._untold:
            self._untold_since_us = now_us
        self._untold += 1
        if not self._waiting or self._untold >= _UNTOLD or now_us - self._untold_since_us >= _UNTOLD_US:
            self._tell()

    def _tell(self) -> None:
        """Tell the worker of the ends that it does not know of yet."""
        if self._untold:
            self._send(look_frame(self._last_token))

    def _send(self, data: bytes) -> None:
        """Send a frame about a token: it tells of all ends before that as well."""
        self._untold = 0
        self._control.sendall(data)
        failpoints.hit("runner.sent")

    def _report(self, token: int, ending: Ending) -> None:
        """Report an end that is more than a result."""
        strays = 0
        if ending.outcome is not Outcome.FINISHED:
            strays = self._loop.clear() + len(set(threading.enumerate()) - self._threads)
            strays += len(children(os.getpid()) - self._known_children)
        ended = Ended(
            token,
            ending.outcome,
            ending.result_json,
            tuple(ending.added),
            ending.failure,
            ending.retry_in_s,
            ending.delay_s,
            strays,
        )
        self._send(frame("ended", ended_body(ended)))
        if strays:
            self._await_the_end()

    def _await_the_end(self) -> None:
        """Begin nothing more beside what an attempt left behind: the worker is about to replace this runner."""
        while read_frames(self._control, self._frames) is not None:
            pass
        sys.exit(0)

    def _output_bytes(self) -> int:
        """Return the size of our output file, by a descriptor of our own: a handler may have put another behind 1.

        Where it stands in the file is of no importance: all that is written is appended.
        """
        return os.lseek(self._output, 0, os.SEEK_END)

    def _execute(self, slot: int, reserved: ReservedJob) -> Ending:
        handler = self._app.handlers.get(reserved.type)
        if handler is None:
            raise AssertionError(f"the worker reserved type {reserved.type!r}, which this app does not handle")

        def progress(fraction: float, step: str | None) -> None:
            self._steps.progress(slot, fraction, step or "")

        directory = attempt_directory(self._files, reserved.key, reserved.attempt.number)
        job = RunningJob.of(reserved, self._context, progress, directory)
        return execute(handler, job, self._loop.run, self._observe)


def _stand_by(app: App, begun: float, control: socket.socket) -> None:
    """Wait, with the app imported and its context not entered yet, until the worker says that there is work.

    Contexts hold what is scarce, connections and models, so one that may never be needed is not entered. The code may
    have been mended in the meantime: then another runner, with the new code, takes this one's place.

    Args:
        begun: Wall time before the import: what is newer was perhaps written while it was being read.
    """
    imported = newest_source(app)
    poll = select.poll()
    poll.register(TOKENS_FD, select.POLLIN)
    poll.poll()
    if not os.read(TOKENS_FD, TOKEN.size):
        sys.exit(0)  # the worker does not need us any more
    newest = newest_source(app)
    if newest != imported or newest > begun - _FILE_CLOCK_S:
        control.sendall(frame("stale", None))
        sys.exit(0)


def _observer() -> Any:
    dsn = os.environ.get("OVERSEER_LITE_SENTRY_DSN")
    if not dsn:
        return None
    module, _, name = _OBSERVERS["sentry"].partition(":")
    return getattr(import_module(module), name)(dsn)


def _streams() -> list[tuple[int, int] | None]:
    """Return which files stdout and stderr are, None where there is none any more."""
    found: list[tuple[int, int] | None] = []
    for fd, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            status = os.fstat(fd)
        except OSError:
            found.append(None)
            continue
        found.append(None if getattr(stream, "closed", False) else (status.st_dev, status.st_ino))
    return found


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S112 - a handler may have closed or replaced it: what it did is its own loss
            continue


def _prepare_streams() -> None:
    """Make what handlers print survive a kill: line by line into the append file that stdout and stderr are."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def serve(config: dict[str, Any]) -> None:
    """Be a runner: load the app, say hello, run jobs."""
    control = socket.socket(fileno=CONTROL_FD)
    for fd in (CONTROL_FD, TOKENS_FD, STEPS_FD):
        os.set_inheritable(fd, False)
    try:
        begun = time.time()
        app = load_app(config["app"])
        if config["held_back"]:
            _stand_by(app, begun, control)
        with contextlib.ExitStack() as stack:
            try:
                context = stack.enter_context(app.context())
            except Exception as error:
                _say_trouble(control, f"The app's context could not be entered: {type(error).__name__}: {error}", False)
                raise
            started = tuple(sorted(children(os.getpid())))
            runner = _Runner(app, context, config, control, frozenset(started))
            body = {
                "types": describe(app.handlers),
                "app_file": app.file,
                "app_mtime": newest_source(app),
                "children": started,
            }
            control.sendall(frame("hello", body))
            runner.run()
        control.close()  # now, not when the last thread that a handler left has ended
    except AppError as error:
        _say_trouble(control, str(error), True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno == errno.EBADF:
            sys.exit(EXIT_CHANNEL)  # a handler has closed what leads to the worker
        if error.errno not in (errno.EPIPE, errno.ECONNRESET):
            raise
        sys.exit(0)  # the worker is gone


def _say_trouble(control: socket.socket, message: str, lasting: bool) -> None:
    control.sendall(frame("trouble", [" ".join(message.split()), lasting]))


def inspect(config: dict[str, Any]) -> None:
    """Be asked about an app: write its types, options and if wanted its graph as one JSON document to CONTROL_FD."""
    answer: dict[str, Any]
    os.set_inheritable(CONTROL_FD, False)
    try:
        app = load_app(config["app"])
        answer = {"app_file": app.file, "app_mtime": newest_source(app), "types": describe(app.handlers), "graph": None}
        if config["graph"]:
            if app.graph is None:
                raise AppError(  # noqa: TRY301 - told like every other trouble with the app
                    config["app"], "it has no `graph`", "Give it one: a dict {name: [dependencies]} or a function"
                )
            answer["graph"] = to_json(as_graph(app.graph, config["args"], config["id"]))
    except OverseerError as error:
        answer = {"error": str(error), "kind": type(error).__name__}
    except Exception as error:  # noqa: BLE001 - the app's graph function is somebody else's code
        answer = {"error": str(_graph_error(config["app"], error)), "kind": "AppError"}
    _flush()
    with os.fdopen(CONTROL_FD, "w", encoding="utf-8", errors="surrogatepass") as file:
        json.dump(answer, file)


def _graph_error(name: str, error: Exception) -> AppError:
    import traceback

    frames = [f for f in traceback.extract_tb(error.__traceback__) if "overseer_lite" not in f.filename]
    where = f"{os.path.basename(frames[-1].filename)} line {frames[-1].lineno}: " if frames else ""
    return AppError(
        name, f"its graph: {where}{type(error).__name__}: {' '.join(str(error).split())}", "Correct the code"
    )


def main(arguments: list[str]) -> None:
    """Start as the process that `runner.process` or `runner.inspect` spawned; the one argument is JSON."""
    config = json.loads(arguments[0])
    die_with_parent(config["parent"])
    # Ctrl-C is the supervisor's to understand. Not SIG_IGN: the programs that a handler starts would inherit that.
    signal.signal(signal.SIGINT, lambda _signum, _frame: None)
    failpoints.load("runner")
    _prepare_streams()
    keep_no_bytecode_of_new_source()
    if config["verb"] == "inspect":
        inspect(config)
    else:
        serve(config)
