"""The worker's side of a runner: a child process that is given jobs, and whose death leaves no question open."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from overseer_lite import failpoints
from overseer_lite.errors import InvalidInputError, OverseerError
from overseer_lite.handler import Options, options_from
from overseer_lite.liveness.identity import PF_EXITING, read_stat
from overseer_lite.liveness.spawn import Child, Exit, python_argv, spawn
from overseer_lite.liveness.tree import COOKIE_VARIABLE, Cleared, Tree, children, clear
from overseer_lite.runner.protocol import (
    CHUNK,
    CONTROL_FD,
    EXIT_CHANNEL,
    LET_GO,
    STEPS_FD,
    TOKEN,
    TOKENS_FD,
    AppTrouble,
    Ended,
    Frames,
    Hello,
    ended_from,
    finished,
    frame,
    is_large,
    payload_of,
    write_payload,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from overseer_lite.job import ReservedJob
    from overseer_lite.liveness.workerfile import WorkerFile

_TAIL_BYTES: Final = 64 * 1024
_OUTPUT_LIMIT_BYTES: Final = 64 * 1024 * 1024
_FLOOD_BYTES: Final = 1024 * 1024


def child_argv(config: dict[str, Any]) -> list[str]:
    """Return the command of a runner."""
    return python_argv("overseer_lite.runner.child", config)


class Spec(NamedTuple):
    """What a worker's runners are made from.

    Attributes:
        app: The app, as the operator named it.
        worker: The worker's id; a cookie in the environment of the runner and all it starts.
        state_directory: Where the store's companions lie.
    """

    app: str
    worker: str
    state_directory: str


class Dead(NamedTuple):
    """A runner's end: what it was told and had not said, all of it read, its tree proved gone.

    Attributes:
        ended: Attempts whose end it had still reported.
        handed_back: Tokens that nobody read: those jobs never began.
        exit: How it ended.
        cleared: The proof.
        misdeed: What it did to its channel, where that is why it had to be killed; '' else.
    """

    ended: Sequence[Ended]
    handed_back: Sequence[int]
    exit: Exit
    cleared: Cleared
    misdeed: str = ""


class ProcessRunner:
    """One runner process, seen from its worker. Nothing here blocks but `kill` and `close`, and those are bounded."""

    def __init__(self, spec: Spec, steps: WorkerFile, generation: int, *, held_back: bool = False) -> None:
        """Start a runner.

        Args:
            generation: Which one of its worker's; names its output.
            held_back: It imports the app, and enters its context and says hello only after `let_go`.
        """
        self._spec = spec
        self._held_back = held_back
        self._steps = steps
        self.generation = generation
        self.hello: Hello | None = None
        self.trouble: AppTrouble | None = None
        self.stale = False  # held back, its app was mended meanwhile
        self.options: dict[str, Options] = {}
        self._out = bytearray()
        self._frames = Frames()
        self._ended: list[Ended] = []
        self._at_end = False
        self._buried: Dead | None = None
        self.garbled = False
        self._payloads: dict[int, str] = {}
        self._given: deque[tuple[int, int]] = deque()  # token and slot of whose end we know nothing yet
        self._output_seen = 0
        self.floods = False  # its output has grown fast since it was last looked at
        self.output_path = os.path.join(spec.state_directory, "output", f"{spec.worker}.{generation}")
        self._output = os.open(
            self.output_path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        self.control = ours
        self._tokens_read, self._tokens_write = os.pipe()
        os.set_blocking(self._tokens_read, False)  # for both: the description is shared, so the runner polls first
        os.set_blocking(self._tokens_write, False)
        config = {
            "verb": "serve",
            "app": self._spec.app,
            "parent": os.getpid(),
            "held_back": self._held_back,
            "files": os.path.join(self._spec.state_directory, "files"),
        }
        try:
            self.child: Child = spawn(
                child_argv(config),
                env={**os.environ, COOKIE_VARIABLE: self._spec.worker},
                descriptors={CONTROL_FD: theirs.fileno(), TOKENS_FD: self._tokens_read, STEPS_FD: self._steps.fileno()},
                stdout=self._output,
                stderr=self._output,
            )
        finally:
            theirs.close()
        self._steps.set_runner(self.child.pid, os.path.basename(self.output_path), self.generation)

    @property
    def pid(self) -> int:
        """The runner's process id."""
        return self.child.pid

    @property
    def wants_to_write(self) -> bool:
        """Whether something is left to be sent: wait for the control channel to become writable as well."""
        return bool(self._out)

    @property
    def dead(self) -> bool:
        """Whether the runner has ended, or closed or garbled its channel, which is as good."""
        return self._at_end or self.garbled or self.child.exited() is not None

    def let_go(self) -> None:
        """Have a runner that was held back go on. It says hello then, or that it is `stale`, and ends."""
        with contextlib.suppress(BrokenPipeError):  # it is dead; whoever reads its end sees to that
            os.write(self._tokens_write, TOKEN.pack(LET_GO))

    # ---- jobs out, ends in

    def give(self, parcel: Sequence[tuple[ReservedJob, int, int]]) -> list[tuple[int, OSError]]:
        """Hand jobs over, each with its token and slot: their steps marked, their payloads sent, then their tokens.

        Never blocks. Tokens rise, from one call to the next as well. Returns those of the jobs that could not be handed
        over, and why: no room for a payload.
        """
        failed: list[tuple[int, OSError]] = []
        given: list[list[Any]] = []
        tokens = bytearray()
        for job, token, slot in parcel:
            payload: list[Any] | str
            if is_large(job):
                payload = os.path.join(self._spec.state_directory, "payloads", f"{self._spec.worker}.{token}")
                try:
                    write_payload(job, payload)
                except OSError as error:
                    failed.append((token, error))
                    continue
                self._payloads[token] = payload
            else:
                payload = payload_of(job)
            self._steps.reserve(slot, job.key, job.attempt.number)
            given.append([token, slot, payload])
            self._given.append((token, slot))
            tokens += TOKEN.pack(token)
        self._out += frame("jobs", given)
        self.send()
        with contextlib.suppress(BrokenPipeError):  # it is dead; whoever reads its end finds the jobs not begun
            os.write(self._tokens_write, tokens)
        return failed

    def send(self) -> None:
        """Send what the channel takes."""
        try:
            while self._out:
                del self._out[: self.control.send(self._out)]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._out.clear()

    @property
    def heard(self) -> bool:
        """Whether something was heard besides `receive` and waits to be dealt with: ask that, do not wait first."""
        return bool(self._ended) or self.garbled

    def receive(self) -> list[Ended]:
        """Return the ends reported so far, in the order of their tokens; reads what is there, without waiting."""
        self._listen()
        ended, self._ended = self._ended, []
        return ended

    def _listen(self) -> None:
        """Read what is there; the ends in it are kept for whoever asks for them next."""
        while not self._at_end:
            try:
                data = self.control.recv(CHUNK)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            if not data:
                self._at_end = True
                break
            self._understand(data)

    def _understand(self, data: bytes) -> None:
        """Take in what the runner said. A handler can write nonsense into our channel: then nothing more is believed."""
        if self.garbled:
            return
        try:
            for kind, body in self._frames.feed(data):
                self._heed(kind, body)
        except (ValueError, TypeError, KeyError, struct.error, OverseerError):
            self.garbled = True

    def _heed(self, kind: str, body: Any) -> None:
        match kind:
            case "hello":
                self.hello = Hello(body["types"], body["app_file"], body["app_mtime"], tuple(body["children"]))
                self.options = options_from(self.hello.types)
            case "trouble":
                self.trouble = AppTrouble(*body)
            case "stale":
                self.stale = True
            case "look":
                self._take_told(body)
            case "finished" | "ended":
                ended: Ended = body if kind == "finished" else ended_from(body)
                self._take_told(ended.token - 1)
                if self._given and self._given[0][0] == ended.token:
                    self._given.popleft()
                self._take(ended)

    def _take_told(self, last: int) -> None:
        """Take in all up to a token that only the steps report, the runner having said that all of them ended.

        Raises:
            ValueError: The steps do not bear that out: a handler said it.
        """
        self._take_reports(last)
        if self._given and self._given[0][0] <= last:
            raise ValueError(f"the end of token {self._given[0][0]} is missing")

    def _take_reports(self, last: int) -> None:
        """Take in what the steps report, up to a token, or to the first of which they report no end."""
        while self._given and self._given[0][0] <= last:
            token, slot = self._given[0]
            result = self._steps.finished(slot, token)
            if result is None:
                return
            self._given.popleft()
            self._take(finished(token, result))

    def _take_last_reports(self) -> None:
        """Take in every report that a dead runner left in the steps, whether or not it came to tell us."""
        for token, slot in self._given:
            result = self._steps.finished(slot, token)
            if result is not None:
                self._take(finished(token, result))
        self._given.clear()

    def _take(self, ended: Ended) -> None:
        self._forget_payload(ended.token)
        self._ended.append(ended)

    def take_back(self) -> list[int]:
        """Take back every job whose token nobody has read: the kernel decides, job by job.

        So we also learn who has ended, told or not: all whose tokens were read but the last. See `heard`.
        """
        failpoints.hit("worker.take_back")
        tokens: list[int] = []
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._tokens_read, TOKEN.size * 64):
                tokens += [number for (number,) in TOKEN.iter_unpack(data)]
        for token in tokens:
            self._forget_payload(token)
        while self._given and tokens and self._given[-1][0] >= tokens[0]:
            self._given.pop()
        self._listen()  # first: who ended with a frame has no report in the steps
        if len(self._given) > 1:
            self._take_reports(self._given[-2][0])
        return tokens

    def _forget_payload(self, token: int) -> None:
        path = self._payloads.pop(token, None) if self._payloads else None
        if path is not None:
            with contextlib.suppress(FileNotFoundError):  # the runner removes it when it has read it
                os.unlink(path)

    # ---- what an attempt wrote

    def output(self, start: int, end: int | None) -> tuple[str, int]:
        """Return the last 64 KiB of an attempt's output, and how many bytes it wrote in all."""
        size = os.fstat(self._output).st_size
        if start > size:  # it wrote so much that the file was cut meanwhile
            start = 0
        end = size if not end or end > size else end
        if end <= start:
            return "", 0
        data = os.pread(self._output, min(_TAIL_BYTES, end - start), max(start, end - _TAIL_BYTES))
        return data.decode("utf-8", "replace"), end - start

    def trim_output(self, *, busy: bool) -> bool:
        """Cut the output file when it has grown too large; return whether that cut a running attempt's output.

        The file is written in append mode, so what comes next goes on at its new end.
        """
        size = os.fstat(self._output).st_size
        self.floods = size - self._output_seen > _FLOOD_BYTES
        self._output_seen = size
        if size > _OUTPUT_LIMIT_BYTES or (not busy and size > _OUTPUT_LIMIT_BYTES // 4):
            os.ftruncate(self._output, 0)
            self._output_seen = 0
            return busy
        return False

    def last_words(self) -> str:
        """Return the last line the runner wrote, for a message."""
        text, _size = self.output(0, None)
        lines = text.strip().splitlines()
        return lines[-1] if lines else ""

    # ---- its end

    def strays(self) -> bool:
        """Whether the runner has processes besides those of its context, or left some to its worker."""
        known = frozenset(self.hello.children if self.hello else ())
        return bool(children(self.pid) - known) or bool(children(os.getpid()) - {self.pid})

    def _tree(self) -> Tree:
        return Tree(
            groups=frozenset({self.pid}),
            cookie=self._spec.worker,
            output=self.output_path,
            parents=frozenset({os.getpid()}),
            spare=frozenset({os.getppid()}),
        )

    def _channel_ended(self) -> bool:
        """Whether nobody holds the runner's end of the channel any more, what it said having been read to the end."""
        self._listen()
        return self._at_end

    def bury(self, timeout_s: float = 10.0) -> Dead:
        """Prove the runner's tree gone, killing what is left of it, and return all that is still to be known of it.

        Its reports are read to the end, so that what it finished counts as finished, told or not. Once that is done,
        asking again gives the same answer: the pid may be a stranger's by then.
        """
        if self._buried is not None:
            return self._buried
        closed = self._at_end and not self._is_exiting()
        self.child.signal(9)
        cleared = clear(self._tree(), free=self._channel_ended, timeout_s=timeout_s)
        handed_back = self.take_back()
        if cleared.done:
            self._take_last_reports()
        ended = self.receive()
        if not cleared.done:
            return Dead(ended, handed_back, Exit(None, None), cleared)
        how = self.child.reap()
        misdeed = self._misdeed(closed or how.code == EXIT_CHANNEL)
        self._buried = Dead(ended, handed_back, how, cleared, misdeed)
        return self._buried

    def _is_exiting(self) -> bool:
        """Whether it ends by itself: who exits, or was killed, closes its channel a little before its end can be seen."""
        stat = read_stat(self.pid)
        return stat is None or stat.dead or bool(stat.flags & PF_EXITING)

    def _misdeed(self, closed: bool) -> str:
        """Return what the runner did to its channel, if that is why it had to be killed."""
        if self.garbled:
            return "wrote nonsense into the channel to its worker and was killed"
        return "closed the channel to its worker" if closed else ""

    @property
    def buried(self) -> bool:
        """Whether it is proved gone."""
        return self._buried is not None

    def finish(self, timeout_s: float, hurry: Callable[[], bool] = bool) -> None:
        """Let the runner end by itself, its context left in order: no more tokens will come. Then `bury` it.

        Args:
            hurry: Asked now and then: whether not to wait any longer.
        """
        if self._tokens_write >= 0:
            os.close(self._tokens_write)
            self._tokens_write = -1
        deadline = time.monotonic() + timeout_s
        while self.child.exited() is None and (left_s := deadline - time.monotonic()) > 0 and not hurry():
            self._listen()
            if self.child.pidfd is not None:
                select.select([self.child.pidfd], [], [], min(left_s, 0.1))
            else:
                time.sleep(0.01)

    def close(self) -> None:
        """Let go of everything; the runner is dead and its output settled."""
        self.control.close()
        os.close(self._tokens_read)
        if self._tokens_write >= 0:
            os.close(self._tokens_write)
        os.close(self._output)
        for token in list(self._payloads):
            self._forget_payload(token)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.output_path)


class AppDescription(NamedTuple):
    """An app, as a short-lived process found it.

    Attributes:
        app: The app, as the operator named it.
        app_file: Its source file; '' if it has none.
        types: The options of each type it handles.
        graph: Its graph, if it was asked for.
        app_mtime: Wall time of the newest of its source files, those it imported from beside it included; 0 if not known.
    """

    app: str
    app_file: str
    types: dict[str, Options]
    graph: Any = None
    app_mtime: float = 0.0


class Inspection:
    """A short-lived process that is asked about an app; whoever started it waits on `fileno`, then asks `answer`.

    Args:
        args: For the app's graph.
        graph: Whether the graph is asked for as well.
        id: The run's id.
    """

    def __init__(
        self, app: str, *, args: dict[str, Any] | None = None, graph: bool = False, id: str | None = None
    ) -> None:
        self.app = app
        self._cookie = f"inspection-{os.urandom(8).hex()}"
        self._exit = Exit(None, None)
        self._data = bytearray()
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        config = {"verb": "inspect", "app": app, "parent": os.getpid(), "args": args, "graph": graph, "id": id}
        try:
            self.child = spawn(
                child_argv(config),
                env={**os.environ, COOKIE_VARIABLE: self._cookie},
                descriptors={CONTROL_FD: write},
                stdout=2,
                stderr=2,
            )
        except BaseException:
            os.close(self._read)
            raise
        finally:
            os.close(write)

    def fileno(self) -> int:
        """Return the descriptor to wait on; somebody whom the app started may keep it from ending, so look now and then."""
        return self._read

    def answer(self) -> AppDescription | None:
        """Return the answer, None if there is none yet; nothing of the process is left when there is one.

        Raises:
            InvalidInputError: The app, or its graph, cannot be used; one line that says where and why.
        """
        dead = self.child.exited() is not None  # looked at first: what it wrote before is in the pipe
        if not self._read_to_end() and not dead:
            return None
        if not self._data:
            self._wait_exit(1.0)
        exit_ = self.close()
        if not self._data:
            how = f"signal {exit_.signal}" if exit_.signal else f"exit code {exit_.code}"
            raise InvalidInputError(
                f"Cannot use app {self.app!r}: importing it ended its process ({how}). Correct the code."
            )
        return _description(self.app, json.loads(self._data.decode("utf-8", "surrogatepass")))

    def _read_to_end(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._read, 1 << 16):
                self._data += data
            return True
        return False

    def _wait_exit(self, timeout_s: float) -> None:
        """Give a process that closed its channel the time to say how it ends."""
        deadline = time.monotonic() + timeout_s
        while self.child.exited() is None and time.monotonic() < deadline:
            time.sleep(0.005)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until there may be an answer; False when the time is up."""
        watched = [self._read] if self.child.pidfd is None else [self._read, self.child.pidfd]
        return bool(select.select(watched, [], [], timeout_s)[0])

    def result(self) -> AppDescription:
        """Wait for the answer; else like `answer`."""
        while True:
            self.wait()
            answer = self.answer()
            if answer is not None:
                return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> Exit:
        """Kill the process, if it lives, and all that it started."""
        if self._read >= 0:
            os.close(self._read)
            self._read = -1
            exit_ = self.child.exited()
            self.child.signal(9)
            clear(Tree(groups=frozenset({self.child.pid}), cookie=self._cookie), free=lambda: True)
            self._exit = exit_ or self.child.reap()
            self.child.reap()
        return self._exit


def _description(app: str, answer: dict[str, Any]) -> AppDescription:
    from overseer_lite.graph import from_json

    if "error" in answer:
        raise InvalidInputError(answer["error"])
    found = from_json(answer["graph"]) if answer["graph"] is not None else None
    return AppDescription(app, answer["app_file"], options_from(answer["types"]), found, answer["app_mtime"])


def inspect_app(
    app: str, *, args: dict[str, Any] | None = None, graph: bool = False, id: str | None = None
) -> AppDescription:
    """Ask a short-lived process for an app's types, options and graph; this process never imports the app.

    Raises:
        InvalidInputError: The app, or its graph, cannot be used; one line that says where and why.
    """
    with Inspection(app, args=args, graph=graph, id=id) as inspection:
        return inspection.result()
