"""Handlers that are commands: what the command is told, how its end is the attempt's, what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

import pytest

import overseer_lite as overseer
from overseer_lite.errors import CommandFailedError, InvalidInputError
from overseer_lite.handler import Handler, as_handlers, execute
from overseer_lite.job import Outcome
from overseer_lite.liveness import read_stat
from overseer_lite.testing import make_job
from tests.conftest import wait_until


def call(command, tmp_path=None, **job):
    """Run a command's handler; return how that ended."""
    job.setdefault("directory", tmp_path)
    return execute(overseer.command(command), make_job("lint", **job))


def printed(command, capfd, **job):
    """Return what a command wrote, which must finish."""
    assert call(command, **job).outcome is Outcome.FINISHED
    return capfd.readouterr().out


def test_a_command_that_exits_with_0_finishes_its_job_and_its_output_is_the_attempts(capfd):
    """Both streams go where the handler's own would go; there is no result."""
    ending = call("echo out; echo err >&2")

    assert (ending.outcome, ending.result_json) == (Outcome.FINISHED, None)
    assert tuple(capfd.readouterr()) == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("exit 3", 3, "`exit 3` exited with 3"),
        ("kill -9 $$", -9, "`kill -9 $$` was ended by signal 9 (SIGKILL)"),
        (
            "sh -c 'kill -15 $$'; exit $?",
            143,
            "`sh -c 'kill -15 $$'; exit $?` exited with 143: signal 15 (SIGTERM) ended a command in it",
        ),
        ("no-such-program-7", 127, "`no-such-program-7` exited with 127: there is no such command"),
        (["false"], 1, "`false` exited with 1"),
        (["no-such-program-7", "-x"], None, "`no-such-program-7 -x` cannot be started: No such file or directory"),
    ],
)
def test_any_other_end_fails_the_attempt_and_names_exit_code_or_signal(command, code, message):
    """In a line that needs no traceback; the exception has the code."""
    failure = call(command).failure

    assert (failure.reason, failure.message, failure.exception, failure.traceback) == ("command", message, None, None)
    with pytest.raises(CommandFailedError) as caught:
        overseer.command(command).process(make_job("lint"))
    assert caught.value.code == code


def test_args_arrive_in_the_environment_text_as_it_is_and_the_rest_as_json(capfd):
    """Names in capitals, with _ for what no variable's name may have."""
    args = {"day": "2026-11-24", "max-rows": 7, "flag": True, "none": None, "deep": {"ü": [1]}, "größe": "x"}
    out = printed("env | grep ^OVERSEER_ARG_ | LC_ALL=C sort", capfd, args=args)

    assert out.splitlines() == [
        "OVERSEER_ARG_DAY=2026-11-24",
        'OVERSEER_ARG_DEEP={"ü": [1]}',
        "OVERSEER_ARG_FLAG=true",
        "OVERSEER_ARG_GR_SSE=x",
        "OVERSEER_ARG_MAX_ROWS=7",
        "OVERSEER_ARG_NONE=null",
    ]


def test_no_arg_can_become_part_of_the_command(capfd, tmp_path):
    """Whatever its value holds, the shell sees one word of it where it is quoted, and never runs it."""
    trap = f'"; touch {tmp_path}/owned; echo "$(touch {tmp_path}/owned)`touch {tmp_path}/owned`\nnext'

    assert printed('printf "%s" "$OVERSEER_ARG_DAY"', capfd, args={"day": trap}) == trap
    assert list(tmp_path.iterdir()) == []


def test_args_with_one_name_in_the_environment_fail_the_attempt_for_good():
    """One of them would be lost in silence; trying again cannot help."""
    handler = overseer.command("true", retries=3)
    ending = execute(handler, make_job("lint", args={"a-b": 1, "a_b": 2}))

    assert (ending.outcome, ending.retry_in_s) == (Outcome.FAILED, None)
    assert "Args 'a-b' and 'a_b' of job 'run/lint' are both OVERSEER_ARG_A_B" in ending.failure.message


def test_args_too_large_for_an_environment_are_said_to_be(capfd):
    """The kernel's own words would name the command line."""
    ending = call("true", args={"text": "x" * 200_000})

    assert ending.failure.message == (
        "`true` cannot be started: Argument list too long (its args are too large for an environment)"
    )


def test_a_command_knows_its_job_and_attempt(capfd):
    """For what it names after them."""
    out = printed(
        'echo "$OVERSEER_JOB $OVERSEER_RUN $OVERSEER_NAME $OVERSEER_ATTEMPT"', capfd, name="lint-7", attempt=2
    )

    assert out == "run/lint-7 run lint-7 2\n"


def test_a_command_reads_results_from_a_file_and_may_write_its_own(tmp_path, capfd):
    """Both as JSON; nothing written is no result, and leaves no directory."""
    ending = call('cat "$OVERSEER_RESULTS"; echo "[1, 2]" > "$OVERSEER_RESULT"', tmp_path, results={"load": {"n": 7}})

    assert json.loads(capfd.readouterr().out) == {"load": {"n": 7}}
    assert (ending.outcome, ending.result_json) == (Outcome.FINISHED, "[1,2]")
    empty = tmp_path / "empty"
    assert call("true", empty).result_json is None
    assert not empty.exists()


def test_a_result_that_is_no_json_fails_the_attempt(tmp_path):
    """It is said where it was expected."""
    ending = call('echo oops > "$OVERSEER_RESULT"', tmp_path)

    assert ending.outcome is Outcome.FAILED
    assert "What the command wrote to $OVERSEER_RESULT is not JSON" in ending.failure.message


def test_a_command_without_a_directory_finds_no_files_of_an_outer_one(capfd, monkeypatch):
    """A job made by hand within a command must not overwrite that command's result."""
    monkeypatch.setenv("OVERSEER_RESULT", "outer")
    monkeypatch.setenv("OVERSEER_RESULTS", "outer")

    assert printed("env | grep ^OVERSEER_RESULT || true", capfd) == ""


def test_what_a_command_leaves_in_its_group_is_gone_when_it_has_ended(tmp_path):
    """Also where it exits with 0: nothing of it meets the next attempt, or the dependents."""
    assert call(f"sleep 60 & echo $! > {tmp_path}/pid").outcome is Outcome.FINISHED

    assert is_gone((tmp_path / "pid").read_text())


def is_gone(pid):
    """Whether a process is dead; a zombie is."""
    stat = read_stat(int(pid))
    return stat is None or stat.dead


def test_a_command_is_stopped_wholly_when_the_wait_for_it_is_cut_short(tmp_path, monkeypatch):
    """As Ctrl-C does it to an inline worker: the command and its children are gone when the handler is left."""
    pids = tmp_path / "pids"

    def interrupt():
        wait_until(lambda: pids.exists())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        overseer.command(f"sleep 60 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait").process(make_job("x"))
    thread.join()

    assert [is_gone(pid) for pid in pids.read_text().split()] == [True, True]


def test_a_list_is_run_without_a_shell(capfd):
    """Its words arrive as they are."""
    argv = [sys.executable, "-c", "import sys; print(sys.argv[1:])", "$HOME", "a b; c"]

    assert printed(argv, capfd) == "['$HOME', 'a b; c']\n"


def test_a_command_stands_in_a_plain_dict_and_takes_the_options_of_a_handler():
    """So a graph of commands is a dict and nothing else."""
    handler = overseer.command("true", retries=2, backoff=5, timeout=9, limit=1)
    handlers = as_handlers({"lint": handler})

    assert handlers == {"lint": handler}
    assert isinstance(handler, Handler)
    assert (handler.delays, handler.timeout, handler.limit) == ((5.0, 5.0), 9.0, 1)


@pytest.mark.parametrize("wrong", ["", "  ", [], ["", "x"], [1], "a\0b", None, 7, {"a": 1}])
def test_what_is_no_command_is_refused(wrong):
    """Where it is written, not when it runs."""
    with pytest.raises(InvalidInputError, match="cannot be run"):
        overseer.command(wrong)
