"""What worker and runner say to each other, and over what.

Three channels, none of which ever blocks the worker:

    tokens    a pipe of 8-byte numbers, one a job. Both hold its reading end: whoever reads a job's token has the job.
              So a job that is taken back while the runner begins it is decided by the kernel, not by luck.
    control   a stream of frames (mark, kind, length, body). To the runner: what to run. From it: hello, how attempts ended.
              Its end of file is the runner's death certificate: a forked child that has not exec'd yet holds it open.
    steps     the worker's file, mapped by both (see `liveness.workerfile`): reserved, begun, ended. Read after a death,
              and for the report of whoever finished with a small result or none. Jobs run in the order of their tokens,
              so a frame about one token also says that all before it have ended: their reports are to be read first.

A payload too large for the stream lies in a file that the frame names.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from overseer_lite.graph import jobs_from_json, jobs_to_json
from overseer_lite.job import Attempt, DependencyResult, Failure, Job, Outcome, ReservedJob

#: Descriptors by which a runner finds its channels.
CONTROL_FD: Final = 3
TOKENS_FD: Final = 4
STEPS_FD: Final = 5

#: With what a runner ends whose handler has closed its channels.
EXIT_CHANNEL: Final = 98

#: The token of no job: it lets a held-back runner go on.
LET_GO: Final = 0

TOKEN: Final = struct.Struct("=q")
_HEAD: Final = struct.Struct("=3scI")
_MARK: Final = b"ovl"
_MESSAGE: Final = b"m"  # JSON: what kind of message, and its body
_FINISHED: Final = b"f"  # the end of one that finished: its token, then the result's JSON text, if there is one
_LOOK: Final = b"l"  # a token: up to it, whoever has said nothing else has finished, as the steps report
_HEAD_FINISHED: Final = struct.Struct("=3scIq")
_LARGEST_INLINE: Final = 64 * 1024
#: What is read of the stream at once. From 128 KiB on a read takes 20 us instead of 3: its buffer is mapped anew each time.
CHUNK: Final = 64 * 1024


class Hello(NamedTuple):
    """What a runner says when it has imported its app.

    Attributes:
        types: Each type's options, as `handler.describe` has them.
        app_file: The app's source file; '' if it has none.
        app_mtime: Wall time of the newest of the app's source files.
        children: Processes its context had started by then; they are no strays.
    """

    types: dict[str, dict[str, Any]]
    app_file: str = ""
    app_mtime: float = 0.0
    children: tuple[int, ...] = ()


class Ended(NamedTuple):
    """An attempt's end, as the runner tells it.

    Attributes:
        token: Which job, by the number it was given under.
        strays: Threads, tasks and processes that the attempt left running; the runner then begins nothing more.
    """

    token: int
    outcome: Outcome
    result_json: str | None
    added: tuple[Job, ...]
    failure: Failure | None
    retry_in_s: float | None
    delay_s: float | None
    strays: int


class AppTrouble(NamedTuple):
    """The app could not be imported or its context not be entered: the runner ends after saying this.

    Attributes:
        lasting: The app itself is at fault, and another try would end the same way.
    """

    message: str
    lasting: bool


def frame(kind: str, body: Any) -> bytes:
    """Return one message as it travels."""
    text = json.dumps([kind, body], ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return _HEAD.pack(_MARK, _MESSAGE, len(text)) + text


def finished_frame(token: int, result: bytes) -> bytes:
    """Return the message that an attempt finished and added nothing; its result as JSON, b"" for none."""
    return _HEAD_FINISHED.pack(_MARK, _FINISHED, TOKEN.size + len(result), token) + result


def look_frame(token: int) -> bytes:
    """Return the message that up to this token all have ended: the steps report those that no frame did."""
    return _HEAD_FINISHED.pack(_MARK, _LOOK, TOKEN.size, token)


class Frames:
    """Frames out of bytes as they come."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[str, Any]]:
        """Take in bytes; yield the messages they complete. Those before bytes that are no frames are still believed.

        Raises:
            ValueError: There are bytes that are no frames: somebody else wrote into the channel.
        """
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= _HEAD.size:
                mark, kind, length = _HEAD.unpack_from(buffer, at)
                if mark != _MARK:
                    raise ValueError("these bytes begin no frame")
                begin = at + _HEAD.size
                if len(buffer) - begin < length:
                    break
                at = begin + length
                if kind == _FINISHED:
                    yield "finished", _finished(buffer, begin, at)
                    continue
                if kind == _LOOK:
                    yield "look", TOKEN.unpack_from(buffer, begin)[0]
                    continue
                what, body = json.loads(buffer[begin:at].decode("utf-8", "surrogatepass"))
                yield what, body
        finally:
            del buffer[:at]


def read_frames(channel: socket.socket, frames: Frames) -> list[tuple[str, Any]] | None:
    """Wait for bytes; return the messages they complete, None at the stream's end."""
    data = channel.recv(CHUNK)
    return list(frames.feed(data)) if data else None


# ---- a job, to the runner --------------------------------------------------------------------------------------------


def is_large(job: ReservedJob) -> bool:
    """Whether a job's payload is to lie in a file rather than travel on the stream."""
    size = len(job.args_json)
    for result in job.results:
        size += len(result.result_json or "")
    return size > _LARGEST_INLINE


def payload_of(job: ReservedJob) -> list[Any]:
    """Return a job as JSON values."""
    return [
        job.attempt, job.run, job.name, job.type, job.args_json, job.results, job.failures, job.key
    ]  # fmt: skip


def write_payload(job: ReservedJob, path: str) -> None:
    """Put a job's payload into a new file, from which `job_from` reads it.

    Raises:
        OSError: There is no room for it; nothing is left of the file.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass") as file:
            json.dump(payload_of(job), file, ensure_ascii=False)
    except OSError:
        os.unlink(path)
        raise


def job_from(payload: list[Any] | str) -> ReservedJob:
    """Return the job of a frame, read from its file if it lies in one."""
    fields: list[Any]
    if isinstance(payload, str):
        with open(payload, encoding="utf-8", errors="surrogatepass") as file:
            fields = json.load(file)
    else:
        fields = payload
    attempt, run, name, kind, args_json, results, failures, key = fields
    return ReservedJob(
        Attempt(*attempt), run, name, kind, args_json, tuple(DependencyResult(*r) for r in results), failures, key
    )


# ---- an end, from the runner -----------------------------------------------------------------------------------------


def ended_body(ended: Ended) -> list[Any]:
    """Return an end as JSON values."""
    return [
        ended.token, str(ended.outcome), ended.result_json, jobs_to_json(ended.added) if ended.added else None,
        None if ended.failure is None else list(ended.failure), ended.retry_in_s, ended.delay_s, ended.strays,
    ]  # fmt: skip


def finished(token: int, result: bytes | bytearray) -> Ended:
    """Return the end of an attempt that finished and added nothing; b"" is no result."""
    result_json = result.decode("utf-8", "surrogatepass") if result else None
    return Ended(token, Outcome.FINISHED, result_json, (), None, None, None, 0)


def _finished(buffer: bytearray, begin: int, end: int) -> Ended:
    """Return the end that a frame of its own tells."""
    (token,) = TOKEN.unpack_from(buffer, begin)
    begin += TOKEN.size
    return finished(token, buffer[begin:end])


def ended_from(body: list[Any]) -> Ended:
    """Return an end from JSON values."""
    token, outcome, result_json, added, failure, retry_in_s, delay_s, strays = body
    return Ended(
        token,
        Outcome(outcome),
        result_json,
        tuple(jobs_from_json(added)) if added else (),
        None if failure is None else Failure(*failure),
        retry_in_s,
        delay_s,
        strays,
    )
