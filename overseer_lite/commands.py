"""`command`: a handler that runs a command, so that a graph of commands needs no Python beyond a dict."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from overseer_lite.errors import CommandFailedError, InvalidInputError, shown
from overseer_lite.handler import Handler
from overseer_lite.liveness.identity import signal_name
from overseer_lite.liveness.tree import Tree, clear

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from overseer_lite.handler import RunningJob

ARG_PREFIX: Final = "OVERSEER_ARG_"
_SHELL_SIGNAL: Final = 128  # a shell whose command was ended by signal n ends with 128 + n
_SHELL_WORDS: Final = {126: "it cannot be executed", 127: "there is no such command"}


def command(
    command: str | Sequence[str],
    *,
    retries: int = 0,
    backoff: float | Callable[[int], float] | None = None,
    timeout: float | None = None,
    limit: int | None = None,
) -> Handler:
    """Return a handler that runs a command, for example `{"lint": overseer_lite.command("ruff check .")}`.

    It runs in the directory and environment of the runner, in a process group of its own, with nothing on stdin; what
    it writes is the attempt's output. Exit code 0 finishes the job, any other fails the attempt and is named in the
    failure, as is a signal. When the command has ended, what it left running in its group is stopped; when the attempt
    is stopped (timeout, abort, reset), so is all that it started.

    The job's args reach it as environment variables, never as part of the command line: `day` as `OVERSEER_ARG_DAY`,
    characters other than ASCII letters and digits as `_`; text as it is, anything else as JSON. `OVERSEER_JOB`,
    `OVERSEER_RUN`, `OVERSEER_NAME` and `OVERSEER_ATTEMPT` say which attempt it is. `OVERSEER_RESULTS` names a file with
    the results of its dependencies, a JSON object by name; what it writes to the file that `OVERSEER_RESULT` names,
    JSON, is its own result. Both variables are missing where a job has no directory (see `RunningJob.path`).

    Args:
        command: Text for `/bin/sh`, or a list: a program and its arguments, without a shell.
        retries: As all options below: see `Handler`.

    Raises:
        InvalidInputError: The command is empty or no text, or an option has a wrong value.
    """
    argv = _argv(command)
    text = command if isinstance(command, str) else " ".join(argv)

    def run_command(job: RunningJob) -> Any:
        environment = {**os.environ, **_facts(job), **_args(job)}
        answer = _exchange_files(job, environment)
        code = _run(argv, text, environment)
        if code:
            raise CommandFailedError(text, code, _how(code, in_shell=isinstance(command, str)))
        return _result(answer)

    return Handler(
        run_command, retries=retries, backoff=backoff, timeout=timeout, limit=limit, no_retry=InvalidInputError
    )


def _argv(command: str | Sequence[str]) -> list[str]:
    words = [command] if isinstance(command, str) else list(command) if isinstance(command, list | tuple) else []
    if not words or not all(isinstance(word, str) and "\0" not in word for word in words) or not words[0].strip():
        raise InvalidInputError(
            f"The command {shown(command)} cannot be run. Give text for the shell, or a list of a program and its "
            "arguments."
        )
    return ["/bin/sh", "-c", words[0]] if isinstance(command, str) else words


# ---- what the command is told, and what it answers -------------------------------------------------------------------


def _facts(job: RunningJob) -> dict[str, str]:
    return {
        "OVERSEER_JOB": job.id,
        "OVERSEER_RUN": job.run,
        "OVERSEER_NAME": job.name,
        "OVERSEER_ATTEMPT": str(job.attempt),
    }


def _args(job: RunningJob) -> dict[str, str]:
    """Return the args as environment variables.

    Raises:
        InvalidInputError: Two of them have the same name there.
    """
    found: dict[str, str] = {}
    origin: dict[str, str] = {}
    for name, value in job.args.items():
        variable = ARG_PREFIX + re.sub("[^A-Z0-9]", "_", name.upper())
        if variable in found:
            raise InvalidInputError(
                f"Args {origin[variable]!r} and {name!r} of job {job.id!r} are both {variable} in the environment. "
                "Rename one of them."
            )
        found[variable] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        origin[variable] = name
    return found


def _exchange_files(job: RunningJob, environment: dict[str, str]) -> str | None:
    """Enter the files for results into the environment; return where the command's own is expected."""
    for name in ("OVERSEER_RESULT", "OVERSEER_RESULTS"):
        environment.pop(name, None)  # of a command around us
    if not job.has_directory:
        return None
    answer = job.path("result.json")
    environment["OVERSEER_RESULT"] = answer
    if job.results:
        environment["OVERSEER_RESULTS"] = path = job.path("results.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(dict(job.results), file, ensure_ascii=False)
    return answer


def _result(answer: str | None) -> Any:
    """Return what the command wrote as its result, None if it wrote none.

    Raises:
        InvalidInputError: It is not JSON.
    """
    if answer is None:
        return None
    try:
        with open(answer, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        with suppress(OSError):  # not empty: it holds what the command was told, or left
            os.rmdir(os.path.dirname(answer))
        return None
    try:
        return json.loads(data)
    except ValueError as error:
        raise InvalidInputError(
            f"What the command wrote to $OVERSEER_RESULT is not JSON: {error}. Write one JSON value, or nothing."
        ) from None


# ---- running it ------------------------------------------------------------------------------------------------------


def _run(argv: list[str], text: str, environment: dict[str, str]) -> int:
    """Run a program in a group of its own; return its exit code, negative for a signal, when all of the group is gone.

    Raises:
        CommandFailedError: It could not be started, or left something that cannot be killed.
    """
    try:
        process = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, process_group=0)
    except OSError as error:
        remedy = " (its args are too large for an environment)" if error.errno == errno.E2BIG else ""
        raise CommandFailedError(text, None, f"cannot be started: {error.strerror}{remedy}") from None
    try:
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # unreaped, it pins the number of its group
    finally:
        # Whatever ended the wait. A group whose leader is gone may still write files that the next attempt writes.
        left = clear(Tree(groups=frozenset({process.pid})), free=lambda: True)
        code = process.wait()
    if not left.done:
        pids = ", ".join(str(who.pid) for who in left.left)
        raise CommandFailedError(text, code, f"left processes that cannot be killed: {pids}")
    return code


def _how(code: int, *, in_shell: bool) -> str:
    if code < 0:
        return f"was ended by signal {-code} ({signal_name(-code) or 'unknown'})"
    if in_shell and code in _SHELL_WORDS:
        return f"exited with {code}: {_SHELL_WORDS[code]}"
    if in_shell and code > _SHELL_SIGNAL and signal_name(code - _SHELL_SIGNAL):
        number = code - _SHELL_SIGNAL
        return f"exited with {code}: signal {number} ({signal_name(number)}) ended a command in it"
    return f"exited with {code}"
