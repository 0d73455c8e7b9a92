"""Handlers: options, stages, harness, what a handler is shown, and how its call ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import stat
import subprocess
import sys
import textwrap

import pytest

from overseer_lite import handler as module
from overseer_lite.errors import DuplicateJobError, InvalidInputError, InvalidJobError, UnknownDependencyError
from overseer_lite.handler import (
    AbortJob,
    Ending,
    FaultJob,
    Handler,
    Handlers,
    Options,
    Results,
    RunningJob,
    abort,
    abort_silent,
    as_handlers,
    describe,
    execute,
    fault,
    harness,
    invoke,
    jitter,
    options_from,
    retry_delays,
)
from overseer_lite.job import Attempt, DependencyResult, Failure, Job, Outcome, ReservedJob, stored


def a_job(**fields):
    return RunningJob(**{"type": "t", "id": "r/t", "run": "r", **fields})


def boom(job):
    raise ValueError("boom")


# ---- leaving a handler -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [abort, abort_silent, fault])
def test_except_exception_of_a_handler_does_not_swallow_the_way_out(leave):
    """Abort and fault are no `Exception`: code that catches all errors must not turn an abort into a success."""

    def handler():
        with contextlib.suppress(Exception):
            leave("enough")

    with pytest.raises((AbortJob, FaultJob), match="enough"):
        handler()


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), "10", None, True])
def test_the_delay_of_a_fault_is_checked(delay):
    """A fault that spins without delay, or for ever, is refused."""
    with pytest.raises(InvalidInputError, match="delay"):
        fault("later", delay)


def test_a_fault_waits_ten_seconds_unless_told():
    """Ten seconds by default, any number of seconds on request."""
    assert execute(lambda _job: fault("later"), a_job()).delay_s == 10.0
    assert execute(lambda _job: fault("later", delay=0.5), a_job()).delay_s == 0.5


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"process": "f"}, "process"),
        ({"pre_process": 1}, "pre_process"),
        ({"post_process": 1}, "post_process"),
        ({"retries": -1}, "retries"),
        ({"retries": 1.0}, "retries"),
        ({"retries": True}, "retries"),
        ({"retries": 1001}, "retries"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": "600"}, "timeout"),
        ({"limit": 0}, "limit"),
        ({"limit": 1.5}, "limit"),
        ({"limit": True}, "limit"),
        ({"no_retry": "ValueError"}, "no_retry"),
        ({"no_retry": (ValueError, 3)}, "no_retry"),
        ({"no_retry": int}, "no_retry"),
        ({"backoff": -1, "retries": 1}, "backoff"),
        ({"backoff": "60", "retries": 1}, "backoff"),
        ({"backoff": lambda _n: None, "retries": 1}, r"backoff\(1\)"),
        ({"backoff": lambda n: 2 - n, "retries": 3}, r"backoff\(3\)"),
    ],
)
def test_an_option_is_checked_when_the_handler_is_made(options, word):
    """The message names the option, not the first job that runs into it at night."""
    with pytest.raises(InvalidInputError, match=f"{word} is "):
        Handler(**{"process": print, **options})


def test_the_default_backoff_doubles_up_to_five_minutes():
    """1, 2, 4, ... seconds, never above 300, one delay for each retry."""
    assert retry_delays(Handler(print, retries=11)) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert retry_delays(Handler(print)) == []
    assert retry_delays(Handler(print, retries=1000))[-1] == 300


def test_a_backoff_may_be_a_number_or_a_function():
    """A function is given the number of failures so far, from 1 on."""
    assert retry_delays(Handler(print, retries=2, backoff=60)) == [60, 60]
    assert retry_delays(Handler(print, retries=3, backoff=lambda n: n * n)) == [1, 4, 9]


def test_jitter_is_a_fifth_at_most():
    """From 80 % to 120 %, and really between."""
    assert [round(jitter(10, lambda part=part: part), 9) for part in (0, 0.5, 1)] == [8, 10, 12]
    assert all(8 <= jitter(10) <= 12 for _ in range(100))
    assert len({jitter(10) for _ in range(100)}) > 1


def test_only_the_default_backoff_is_varied():
    """Seconds a user gave are kept to exactly."""
    varied = {execute(Handler(boom, retries=1), a_job()).retry_in_s for _ in range(20)}
    assert len(varied) > 1
    assert all(0.8 <= delay <= 1.2 for delay in varied)
    assert {execute(Handler(boom, retries=1, backoff=60), a_job()).retry_in_s for _ in range(20)} == {60}
    assert {execute(Handler(boom, retries=1, backoff=lambda _n: 60), a_job()).retry_in_s for _ in range(20)} == {60}


# ---- an app's handlers -----------------------------------------------------------------------------------------------


def test_the_decorator_leaves_the_function_as_it_is():
    """A decorated function can be called and tested like any other; its name is the type unless one is given."""
    handlers = Handlers()

    @handlers
    def plain(job):
        return 1

    @handlers(retries=2, timeout=600, limit=4, type="other")
    def with_options(job):
        return 2

    assert (plain(None), with_options(None)) == (1, 2)
    assert list(handlers) == ["plain", "other"]
    assert (handlers["plain"].process, handlers["other"].process) == (plain, with_options)
    other = handlers["other"]
    assert (other.retries, other.timeout, other.limit) == (2, 600, 4)


def test_a_type_has_one_handler():
    """The second is refused, and the message names both places."""
    handlers = Handlers()
    handlers(boom)
    with pytest.raises(InvalidInputError, match="'boom'") as caught:
        handlers(type="boom")(a_job)
    places = [f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}" for function in (boom, a_job)]
    assert all(place in str(caught.value) for place in places)
    assert handlers["boom"].process is boom


def test_the_decorator_wants_a_function_with_a_name():
    """A partial has none, and a label must be usable."""
    with pytest.raises(InvalidInputError, match="no function"):
        Handlers()("count")
    with pytest.raises(InvalidInputError, match="no name"):
        Handlers()(callable_without_name())
    with pytest.raises(InvalidInputError, match="blank"):
        Handlers()(type=" ")(boom)


def callable_without_name():
    class Callable:
        def __call__(self, job):
            return None

    return Callable()


def test_handlers_may_be_a_plain_mapping():
    """Functions, Handlers and mappings of stages are taken alike."""
    one = Handler(boom, retries=3)
    handlers = as_handlers({"a": boom, "b": one, "c": {"process": boom, "post_process": print}})
    assert list(handlers) == ["a", "b", "c"]
    assert (handlers["a"].process, handlers["b"], handlers["c"].post_process) == (boom, one, print)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([boom], "list"),
        ({"": boom}, "blank"),
        ({1: boom}, "not text"),
        ({"a": "boom"}, "'a' is str"),
        ({"a": Handler(post_process=print)}, "'a' has no process"),
        ({"a": {"pre_process": print}}, "'a' has no process"),
        ({"a": {"process": boom, "postprocess": print}}, "mean 'post_process'"),
        ({"a": {"process": 1}}, "process is 1"),
    ],
)
def test_handlers_of_another_form_are_refused_by_type(value, words):
    """The message names the type whose handler is wrong."""
    with pytest.raises(InvalidInputError, match=words):
        as_handlers(value)


def test_a_worker_learns_the_options_without_the_app():
    """What the runner describes passes through JSON, and the worker decides on a retry as the runner would."""
    handlers = {"a": Handler(boom, retries=2, backoff=lambda n: 10 * n, timeout=5, limit=3), "b": boom}
    options = options_from(json.loads(json.dumps(describe(handlers))))
    assert options == {"a": Options(2, (10, 20), False, 5, 3), "b": Options(0, (), True, None, None)}
    assert [options["a"].retry_in_s(failures) for failures in range(3)] == [10, 20, None]
    assert options["b"].retry_in_s(0) is None
    varied = {options_from(describe({"c": Handler(boom, retries=1)}))["c"].retry_in_s(0) for _ in range(20)}
    assert len(varied) > 1


# ---- stages ----------------------------------------------------------------------------------------------------------


def test_stages_run_in_order_and_the_last_one_gives_the_result():
    """pre_process's return is ignored; post_process gets job and result, and what it returns is the result."""
    calls = []
    handler = Handler(
        process=lambda job: calls.append(("process", job)) or [1, 2, 3],
        pre_process=lambda job: calls.append(("pre_process", job)) or "ignored",
        post_process=lambda job, result: calls.append(("post_process", job, result)) or sum(result),
    )
    assert invoke(handler, "job") == 6
    assert calls == [("pre_process", "job"), ("process", "job"), ("post_process", "job", [1, 2, 3])]


def test_a_handler_may_be_a_function_or_a_mapping():
    """As the ancestor's; anything else is refused."""
    assert invoke(lambda job: job + 1, 1) == 2
    assert invoke({"process": lambda job: job + 1, "post_process": lambda _job, result: result * 10}, 1) == 20
    with pytest.raises(InvalidInputError, match="str"):
        invoke("neither", 1)
    with pytest.raises(InvalidInputError, match="no process"):
        invoke(Handler(), 1)


def test_a_failed_stage_ends_the_call():
    """Nothing after it runs."""
    with pytest.raises(ValueError, match="boom"):
        invoke(Handler(pre_process=boom, process=lambda _job: pytest.fail("ran")), 1)
    with pytest.raises(ValueError, match="boom"):
        invoke(Handler(process=boom, post_process=lambda _job, _result: pytest.fail("ran")), 1)


def test_each_stage_may_be_async():
    """A coroutine is run by the loop that was given, whichever stage returned it."""
    ran = []

    async def pre_process(job):
        await asyncio.sleep(0)

    async def process(job):
        await asyncio.sleep(0)
        return 20

    async def post_process(job, result):
        return result + 1

    def run_async(coroutine):
        ran.append(coroutine.__qualname__.rpartition(".")[2])
        return asyncio.run(coroutine)

    assert invoke(Handler(process, pre_process, post_process), None, run_async) == 21
    assert ran == ["pre_process", "process", "post_process"]
    assert invoke(process, None) == 20


# ---- harness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["process", "pre_process", "post_process"])
def test_a_harness_wraps_one_stage_and_keeps_the_rest(stage):
    """The other stages and all options stay; the handler given stays as it is."""
    seen = []
    old = Handler(lambda _job: 1, retries=2, backoff=lambda n: n, no_retry=KeyError, timeout=5, limit=3)

    def wrapper(function):
        def wrapped(*args):
            seen.append(args)
            return function(*args)

        return wrapped

    new = harness(old, wrapper, stage)
    assert invoke(new, "job") == 1
    assert seen == [("job", 1) if stage == "post_process" else ("job",)]
    kept = ("retries", "backoff", "delays", "no_retry", "timeout", "limit")
    assert [getattr(new, name) for name in kept] == [getattr(old, name) for name in kept]
    assert invoke(old, "job") == 1
    assert len(seen) == 1


def test_a_harness_gives_a_missing_stage_as_one_that_changes_nothing():
    """The job for process and pre_process; for post_process the result, where the ancestor handed on the job."""

    def keep(function):
        return function

    assert invoke(harness(lambda _job: 1, keep, "post_process"), "job") == 1
    assert invoke(harness(lambda _job: 1, keep, "pre_process"), "job") == 1
    assert invoke(harness(Handler(), keep), "job") == "job"


def test_a_harness_takes_functions_and_mappings():
    """A Handler comes back whatever went in."""

    def double(function):
        return lambda job: function(job) * 2

    for given in (lambda _job: 4, {"process": lambda _job: 4}, Handler(lambda _job: 4)):
        new = harness(given, double)
        assert isinstance(new, Handler)
        assert invoke(new, None) == 8


def test_a_wrong_harness_is_refused():
    """An unknown stage, and a wrapper that forgot to return."""
    with pytest.raises(InvalidInputError, match=r"'postprocess'.*mean 'post_process'"):
        harness(boom, lambda f: f, "postprocess")
    with pytest.raises(InvalidInputError, match="wrapper of process returned None"):
        harness(boom, lambda _f: None)


# ---- what a handler is shown -----------------------------------------------------------------------------------------


def results():
    return Results(
        [
            DependencyResult("count-1", "count", '{"rows":1}'),
            DependencyResult("load", "load", None),
            DependencyResult("count-2", "count", "2"),
        ]
    )


def test_results_are_found_by_name_and_by_type():
    """By name it is a mapping in declared order; `of` lists a type's; a dependency without result has None."""
    assert dict(results()) == {"count-1": {"rows": 1}, "load": None, "count-2": 2}
    assert results().of("count") == [{"rows": 1}, 2]
    assert results().of("other") == []
    assert (len(results()), "load" in results(), "x" in results()) == (3, True, False)
    assert results().get("x", 7) == 7


def test_a_result_is_parsed_when_looked_at_and_once():
    """A large result that nobody asks for costs nothing; the same object comes each time."""
    broken = Results([DependencyResult("a", "t", "{"), DependencyResult("b", "t", "[]")])
    assert broken["b"] is broken["b"]
    with pytest.raises(ValueError, match="property name"):
        broken["a"]


def test_a_wrong_name_comes_with_the_nearest():
    """The KeyError says what may have been meant."""
    with pytest.raises(KeyError, match="did you mean 'count-1'"):
        results()["count1"]


def test_of_two_dependencies_of_one_name_none_is_lost():
    """Names of two runs may be equal: the first has the name, `of` gives both."""
    twice = Results([DependencyResult("a", "t", "1"), DependencyResult("a", "t", "2")])
    assert (twice["a"], twice.of("t"), len(twice)) == (1, [1, 2], 1)


def test_a_reserved_job_is_shown_with_all_it_carries():
    """Nothing of the reservation is lost on the way to the handler."""
    reserved = ReservedJob(
        Attempt("r/x", 3, "w"), "r", "x", "count", '{"p":1}', [DependencyResult("a", "t", "1")], failures=2
    )
    job = RunningJob.of(reserved, context="pool")
    shown = (job.id, job.run, job.name, job.type, job.args, job.attempt, job.failures, dict(job.results), job.context)
    assert shown == ("r/x", "r", "x", "count", {"p": 1}, 3, 2, {"a": 1}, "pool")


def test_progress_is_passed_on_and_checked():
    """From 0 to 1, with a step if wanted."""
    told = []
    job = a_job(progress=lambda fraction, step: told.append((fraction, step)))
    job.progress(0)
    job.progress(0.4, "reading")
    job.progress(1)
    assert told == [(0.0, None), (0.4, "reading"), (1.0, None)]
    for wrong in (-0.1, 1.1, float("nan"), "half", True):
        with pytest.raises(InvalidInputError, match="from 0 to 1"):
            job.progress(wrong)
    with pytest.raises(InvalidInputError, match="text"):
        job.progress(0.5, 7)


def test_added_jobs_are_kept_in_order():
    """With all that was said of them, dependencies on one another included."""
    job = a_job()
    first = job.add("count", "c1", {"p": 1}, priority=1, delay_s=2, id="own", detached=True)
    second = job.add("merge", dependencies=[first, "c1", stored("x")])
    assert job.added == [first, second]
    assert (first.name, first.args_json, first.priority, first.delay_s, first.id, first.detached) == (
        "c1",
        '{"p":1}',
        1,
        2.0,
        "own",
        True,
    )
    assert second.dependencies == (first, "c1", stored("x"))


def test_an_added_job_depends_only_on_jobs_added_before():
    """On others by `stored`: a plain name could mean several things."""
    job = a_job()
    job.add("count", "count-1")
    with pytest.raises(UnknownDependencyError, match="mean 'count-1'"):
        job.add("merge", dependencies=["count-2"])
    with pytest.raises(UnknownDependencyError):
        job.add("merge", dependencies=[Job("count", name="count-1")])
    with pytest.raises(DuplicateJobError):
        job.add("count", "count-1")
    with pytest.raises(InvalidJobError):
        job.add("")
    assert [each.name for each in job.added] == ["count-1"]


def test_a_path_lies_in_a_directory_of_the_attempt_that_is_made_when_asked_for(tmp_path):
    """For this user only, each directory on the way, whatever the umask; nothing is made before."""
    top = tmp_path / "a" / "1"
    job = a_job(directory=lambda: str(top))
    assert not top.exists()
    assert job.path("parts/1.csv") == str(top / "parts" / "1.csv")
    for directory in (top.parent, top, top / "parts"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert job.path("f.parquet") == str(top / "f.parquet")
    assert not os.path.exists(job.path("f.parquet"))


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/../../x", "/etc/passwd", "a\0b", None, 7])
def test_a_path_stays_within_the_directory(tmp_path, name):
    """A name from outside cannot lead out, and nothing is made for it."""
    job = a_job(directory=lambda: str(tmp_path / "d"))
    with pytest.raises(InvalidInputError, match="within its directory"):
        job.path(name)
    assert not (tmp_path / "d").exists()


def test_a_job_without_directory_says_so():
    """A test's job may have none."""
    with pytest.raises(InvalidInputError, match="no directory"):
        a_job().path("x")


# ---- how a call ended ------------------------------------------------------------------------------------------------


def test_a_result_is_the_value_as_json():
    """None is no result; jobs added are handed on."""
    assert execute(lambda _job: {"rows": (1, 2)}, a_job()) == Ending(Outcome.FINISHED, '{"rows":[1,2]}')
    assert execute(lambda _job: None, a_job()) == Ending(Outcome.FINISHED)
    job = a_job()
    assert execute(lambda job: job.add("x") and None, job) == Ending(Outcome.FINISHED, None, tuple(job.added))
    assert len(job.added) == 1


@pytest.mark.parametrize(
    ("result", "words"), [({1}, "set is not JSON"), (float("nan"), "JSON"), ("x" * 2**20, "1,048,578 bytes")]
)
def test_a_result_that_is_no_json_fails_for_good(result, words):
    """Trying again would not help; the message says what to do, and what was added is dropped."""

    def handler(job):
        job.add("x")
        return result

    seen = []
    ending = execute(Handler(handler, retries=5), a_job(), observe=lambda _error, job: seen.append(job.id))
    assert (ending.outcome, ending.retry_in_s, ending.added, seen) == (Outcome.FAILED, None, (), ["r/t"])
    assert ending.failure.reason == "result"
    assert words in ending.failure.message
    assert "job.path" in ending.failure.message


def test_a_result_whose_own_methods_raise_fails_too():
    """A mapping that breaks when read is the handler's fault, not the runner's."""

    class Broken(dict):
        def items(self):
            raise RuntimeError("broken")

    ending = execute(lambda _job: Broken(a=1), a_job())
    assert (ending.outcome, ending.failure.reason) == (Outcome.FAILED, "result")
    assert "broken" in ending.failure.message


def test_an_exception_fails_the_attempt():
    """With its class, its message as one line, and the handler's own frames only."""

    def handler(job):
        return helper()

    def helper():
        raise KeyError("first\nsecond")

    ending = execute(handler, a_job())
    assert ending._replace(failure=None) == Ending(Outcome.FAILED)
    assert ending.failure._replace(traceback=None) == Failure("exception", r"'first\nsecond'", "KeyError", allowed=1)
    assert ending.failure.traceback.startswith("Traceback (most recent call last):\n")
    assert ending.failure.traceback.splitlines()[1].endswith("in handler")
    assert "in helper" in ending.failure.traceback
    assert module.__file__ not in ending.failure.traceback


def test_an_async_handlers_traceback_has_its_own_frames_only():
    """Those of the loop say nothing to its author."""

    async def handler(job):
        await asyncio.sleep(0)
        raise ValueError("boom")

    traceback = execute(handler, a_job()).failure.traceback
    assert traceback.splitlines()[1].endswith("in handler")
    assert "asyncio" not in traceback.replace(__file__, "")


def test_a_handler_called_wrongly_has_a_message_without_frames():
    """No frame of it ever ran."""
    ending = execute(lambda: None, a_job())
    assert "takes 0 positional arguments" in ending.failure.message
    assert ending.failure.traceback.startswith("TypeError")


def test_a_traceback_keeps_within_16_kib():
    """Begin and end are kept, which is where one looks."""

    def handler(job):
        raise ValueError("begin" + "ü" * 30_000 + "end")

    traceback = execute(handler, a_job()).failure.traceback
    assert len(traceback.encode()) <= 16 * 1024
    assert "in handler" in traceback
    assert "bytes left out" in traceback
    assert traceback.rstrip().endswith("end")


def test_a_failures_words_can_always_be_stored():
    """Lone surrogates (names of files), NUL, blank messages and messages that raise themselves."""

    class Rude(Exception):
        def __str__(self):
            raise RuntimeError

    def message(error):
        def handler(job):
            raise error

        failure = execute(handler, a_job()).failure
        assert "\0" not in f"{failure.message}{failure.traceback}"
        f"{failure.message}{failure.traceback}".encode()
        return failure.message

    assert message(OSError("a\udc80b")) == r"a\udc80b"
    assert message(ValueError("a\0b\nc")) == r"a\0b c"
    assert message(ValueError("")) == "ValueError"
    assert "cannot be shown" in message(Rude())
    assert len(message(ValueError("x" * 5000))) == 1000


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SystemExit(3), r"sys\.exit\(3\)"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (asyncio.CancelledError(), "CancelledError"),
    ],
)
def test_no_exception_of_a_handler_ends_the_runner(error, words):
    """Not even those that end a process: the attempt has failed and says so."""

    def handler(job):
        raise error

    ending = execute(Handler(handler, retries=1, backoff=3), a_job())
    assert (ending.outcome, ending.retry_in_s) == (Outcome.FAILED, 3)
    assert re.search(words, ending.failure.message)


def test_failures_are_tried_again_as_often_as_said():
    """The delay follows the number of failures so far; after the last one there is none."""
    handler = Handler(boom, retries=2, backoff=lambda n: 10 * n)
    assert [execute(handler, a_job(failures=failures)).retry_in_s for failures in range(4)] == [10, 20, None, None]
    assert execute(boom, a_job()).retry_in_s is None


def test_some_exceptions_are_not_tried_again():
    """Subclasses as well; others are."""
    assert execute(Handler(boom, retries=1, no_retry=(ValueError,)), a_job()).retry_in_s is None
    assert execute(Handler(boom, retries=1, no_retry=[Exception]), a_job()).retry_in_s is None
    assert execute(Handler(boom, retries=1, backoff=5, no_retry=KeyError), a_job()).retry_in_s == 5


def test_abort_and_fault_end_an_attempt_their_own_way():
    """Neither is a failure; only the abort that is not silent has a traceback."""
    assert execute(lambda _job: abort_silent("no"), a_job()) == Ending(
        Outcome.ABORTED, failure=Failure("abort", "no", silent=True)
    )
    assert execute(lambda _job: fault("later", 3), a_job()) == Ending(
        Outcome.FAULTED, failure=Failure("fault", "later"), delay_s=3
    )
    ending = execute(lambda _job: abort("no"), a_job())
    assert ending.outcome is Outcome.ABORTED
    assert ending.failure._replace(traceback=None) == Failure("abort", "no")
    assert "<lambda>" in ending.failure.traceback


def test_an_abort_in_a_task_of_a_group_is_an_abort():
    """asyncio.TaskGroup wraps it; one abort is enough. A fault beside another error is no mere fault."""

    async def raising(error):
        raise error

    def handler(*errors):
        async def process(job):
            async with asyncio.TaskGroup() as group:
                for error in errors:
                    group.create_task(raising(error))

        return process

    assert execute(handler(ValueError(), AbortJob("no")), a_job()).outcome is Outcome.ABORTED
    assert execute(handler(FaultJob("later", 7)), a_job()).delay_s == 7
    assert execute(handler(FaultJob("later", 7), ValueError()), a_job()).outcome is Outcome.FAILED
    assert execute(handler(ValueError("a")), a_job()).outcome is Outcome.FAILED


def test_failures_and_aborts_are_observed_silent_ends_are_not():
    """What goes to Sentry: failures and loud aborts."""
    seen = []
    for leave in (
        boom,
        lambda _job: abort("x"),
        lambda _job: abort_silent("x"),
        lambda _job: fault("x"),
        lambda _job: 1,
    ):
        execute(leave, a_job(), observe=lambda error, job: seen.append((type(error), job.id)))
    assert seen == [(ValueError, "r/t"), (AbortJob, "r/t")]


@pytest.mark.parametrize("error", [RuntimeError("no\nnetwork"), SystemExit(1)])
def test_a_failing_observer_changes_nothing(capsys, error):
    """It becomes one line on stderr; the outcome is the handler's."""

    def observe(error_of_handler, job):
        raise error

    ending = execute(boom, a_job(), observe=observe)
    assert ending.failure.message == "boom"
    err = capsys.readouterr().err
    assert err.startswith("Reporting the failure of r/t failed: ")
    assert err.count("\n") == 1


def test_a_runner_is_not_kept_waiting_for_what_failures_need():
    """The modules that only a failure, a retry or an async handler needs are not imported with this one."""
    code = textwrap.dedent("""
        import sys
        import overseer_lite.handler
        print([name for name in ("asyncio", "traceback", "random", "dataclasses", "inspect", "difflib") if name in sys.modules])
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
