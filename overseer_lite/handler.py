"""Handlers: what an app says of each type of job, what a handler is shown, and how its call ended.

A handler is a function of one argument, `job`, or up to three stages: pre_process(job), whose return is ignored, then
process(job), then post_process(job, result). The last stage's return value is the job's result. Nothing here knows a
store or a process; `execute` turns one call into an `Ending`, whatever the handler does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn, TypeVar, overload

from overseer_lite.errors import (
    CommandFailedError,
    DuplicateJobError,
    InvalidInputError,
    InvalidJobError,
    NotJsonError,
    UnknownDependencyError,
    nearest,
    shown,
)
from overseer_lite.job import (
    MAX_DELAY_S,
    DependencyResult,
    Failure,
    Job,
    Outcome,
    ReservedJob,
    Stored,
    check_label,
    encode,
)

Stage = Callable[..., Any]
Wrapper = Callable[[Stage], Stage]
RunAsync = Callable[[Coroutine[Any, Any, Any]], Any]
Observe = Callable[[BaseException, "RunningJob"], object]
_Function = TypeVar("_Function", bound=Callable[..., Any])

STAGES: Final = ("pre_process", "process", "post_process")
DEFAULT_FAULT_DELAY_S: Final = 10.0
MAX_RETRIES: Final = 1000
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 300.0
JITTER: Final = 0.2
MAX_TRACEBACK_BYTES: Final = 16 * 1024
MAX_MESSAGE_CHARS: Final = 1000


# ---- leaving a handler -----------------------------------------------------------------------------------------------


class AbortJob(BaseException):
    """Leaves a handler to give its job up. No `Exception`: a handler's own `except Exception` must not swallow it."""

    def __init__(self, message: str, *, silent: bool = False) -> None:
        self.message, self.silent = message, silent
        super().__init__(message)


class FaultJob(BaseException):
    """Leaves a handler for passing trouble. No `Exception`: a handler's own `except Exception` must not swallow it."""

    def __init__(self, message: str, delay_s: float = DEFAULT_FAULT_DELAY_S) -> None:
        self.message, self.delay_s = message, delay_s
        super().__init__(message)


def abort(msg: str) -> NoReturn:
    """Leave the handler: abort this job and everything that depends on it, and report it (log, Sentry).

    It leaves by an exception that derives from BaseException: `finally` is run, `except Exception` does not catch it.
    Called outside a handler it ends whoever called it. Nothing is tried again but by an operator's retry.
    """
    raise AbortJob(msg)


def abort_silent(msg: str) -> NoReturn:
    """Leave the handler like `abort`, but without a report to Sentry."""
    raise AbortJob(msg, silent=True)


def fault(msg: str, delay: float = DEFAULT_FAULT_DELAY_S) -> NoReturn:
    """Leave the handler for passing trouble: the job is unstarted again and ready after `delay` seconds.

    It is counted as no failure and not reported, however often: a fault that never passes is tried for ever. It leaves
    by an exception that derives from BaseException, as `abort` does.

    Args:
        delay: Seconds, at most ten years.

    Raises:
        InvalidInputError: The delay is no number of seconds.
    """
    raise FaultJob(msg, _seconds("fault", "delay", delay))


# ---- a handler and its options ---------------------------------------------------------------------------------------


class Handler:
    """How one type of job is run; never changed once made.

    Args:
        process: The function of a job that does the work. May be missing only until `harness` gives one.
        pre_process: Called with the job first; what it returns is ignored.
        post_process: Called with the job and process's result; what it returns is the result.
        retries: How many attempts that failed are tried again, at most 1,000. Crashes and faults are not among them.
        backoff: Seconds before such a try: a number, or a function of how many attempts have failed so far (1, 2,
            ...), called when the handler is made. Both are kept to exactly. Default: 1 s, doubled each time up to
            300 s, give or take a fifth by chance, so that what failed together does not come back together.
        no_retry: Classes of exceptions after which nothing is tried again.
        timeout: Seconds, for all stages together, after which the attempt is stopped with all it started, and has
            failed. A worker inline in a process (`start` with handlers, `drain`) stops nothing.
        limit: At most so many jobs of the type are started at a time, in the whole store, by all workers together.

    Raises:
        InvalidInputError: An option has a value it cannot have.
    """

    __slots__ = (
        "backoff",
        "delays",
        "limit",
        "no_retry",
        "post_process",
        "pre_process",
        "process",
        "retries",
        "timeout",
    )

    def __init__(
        self,
        process: Stage | None = None,
        pre_process: Stage | None = None,
        post_process: Stage | None = None,
        *,
        retries: int = 0,
        backoff: float | Callable[[int], float] | None = None,
        no_retry: Sequence[type[BaseException]] | type[BaseException] = (),
        timeout: float | None = None,
        limit: int | None = None,
    ) -> None:
        name = getattr(process, "__name__", "handler")
        for stage, function in zip(STAGES, (pre_process, process, post_process), strict=True):
            if function is not None and not callable(function):
                _refuse(name, stage, function, "a function")
        if type(retries) is not int or not 0 <= retries <= MAX_RETRIES:
            _refuse(name, "retries", retries, f"a whole number from 0 to {MAX_RETRIES}")
        if limit is not None and (type(limit) is not int or limit < 1):
            _refuse(name, "limit", limit, "a whole number of at least 1, or None")
        if timeout is not None and _seconds(name, "timeout", timeout) == 0:
            _refuse(name, "timeout", timeout, "a number of seconds above 0, or None")
        classes = (no_retry,) if isinstance(no_retry, type) else no_retry
        if not isinstance(classes, tuple | list) or not all(_is_exception(each) for each in classes):
            _refuse(name, "no_retry", no_retry, "a tuple of classes of exceptions")
        self.process = process
        self.pre_process = pre_process
        self.post_process = post_process
        self.retries = retries
        self.backoff = backoff
        self.no_retry = tuple(classes)
        self.timeout = float(timeout) if timeout is not None else None
        self.limit = limit
        self.delays: tuple[float, ...] = tuple(_delay(name, backoff, failed) for failed in range(1, retries + 1))

    def __repr__(self) -> str:
        stages = ", ".join(stage for stage in STAGES if getattr(self, stage) is not None)
        return f"Handler({stages or 'no stage'})"


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _delay(name: str, backoff: object, failed: int) -> float:
    if backoff is None:
        return float(min(FIRST_BACKOFF_S * 2 ** min(failed - 1, 60), LONGEST_BACKOFF_S))
    return (
        _seconds(name, f"backoff({failed})", backoff(failed))
        if callable(backoff)
        else _seconds(name, "backoff", backoff)
    )


def _seconds(name: str, option: str, value: object) -> float:
    # NaN and infinity fail the comparison as well
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_DELAY_S:
        _refuse(name, option, value, "a number of seconds, at most ten years")
    return float(value)


def _refuse(name: str, option: str, value: object, expected: str) -> NoReturn:
    raise InvalidInputError(f"Handler {name!r}: {option} is {shown(value)}. Give {expected}.")


def retry_delays(handler: Handler) -> list[float]:
    """Return the seconds to wait after the first, second, ... failure, without jitter; one for each retry."""
    return list(handler.delays)


def jitter(delay_s: float, random: Callable[[], float] | None = None) -> float:
    """Return the delay, up to a fifth shorter or longer by chance.

    Args:
        random: Gives numbers from 0 to 1, for tests; Python's own by default.
    """
    if random is None:
        from random import random as chance  # takes 3 ms to import, and is seldom needed

        random = chance
    return delay_s * (1 - JITTER + 2 * JITTER * random())


class Handlers(dict[str, Handler]):
    """An app's handlers by type; a decorator as well.

    Either `@handlers` or `@handlers(retries=2, type="other")`: the type is the function's name unless given, the
    options are those of `Handler`, the function stays as it is. Assignment puts another in its place on purpose.
    """

    __slots__ = ()

    @overload
    def __call__(self, function: _Function, /) -> _Function: ...

    @overload
    def __call__(self, /, *, type: str | None = None, **options: Any) -> Callable[[_Function], _Function]: ...

    def __call__(self, function: Any = None, /, *, type: str | None = None, **options: Any) -> Any:
        """Enter a function as the handler of its type.

        Raises:
            InvalidInputError: The type has a handler already, is no usable label, or an option has a wrong value.
        """
        if function is not None:
            self._enter(function, type, options)
            return function

        def enter(function: _Function) -> _Function:
            self._enter(function, type, options)
            return function

        return enter

    def _enter(self, function: Stage, given: str | None, options: Mapping[str, Any]) -> None:
        if not callable(function):
            raise InvalidInputError(
                f"{shown(function)} is no function. Write @handlers or @handlers(option=...) over one."
            )
        kind = given if given is not None else getattr(function, "__name__", None)
        if kind is None:
            raise InvalidInputError(f"{shown(function)} has no name to serve as type. Write @handlers(type=...).")
        _check_type(kind)
        if kind in self:
            raise InvalidInputError(
                f"Type {kind!r} has two handlers: {_place(self[kind].process)} and {_place(function)}. "
                "Rename one of them, or give it another `type=`."
            )
        self[kind] = Handler(function, **options)


def _place(function: object) -> str:
    code = getattr(getattr(function, "__wrapped__", function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(function)


def _check_type(value: object) -> None:
    try:
        check_label("handler", "type", value)
    except InvalidJobError as error:
        raise InvalidInputError(f"Handler type {shown(value)}: {error.problem}; {error.remedy}.") from None


def as_handlers(value: object) -> dict[str, Handler]:
    """Return what an app's `handlers` says, checked: type to Handler.

    Args:
        value: A mapping of types to functions, to Handlers, or to mappings of stages (`process` and, if wanted,
            `pre_process`, `post_process`).

    Raises:
        InvalidInputError: It is not; the message names the type.
    """
    if not isinstance(value, Mapping):
        raise InvalidInputError(
            f"The handlers are {type(value).__name__}, no mapping. Give {{type: function}}, or overseer_lite.Handlers()."
        )
    handlers = {}
    for kind, item in value.items():
        _check_type(kind)
        handler = _as_handler(item, kind)
        if handler.process is None:
            raise InvalidInputError(f"The handler of type {kind!r} has no process. Give it a function of the job.")
        handlers[kind] = handler
    return handlers


def _as_handler(item: object, kind: str | None = None) -> Handler:
    of = f" of type {kind!r}" if kind is not None else ""
    if isinstance(item, Handler):
        return item
    if isinstance(item, Mapping):
        for stage in item:
            if stage not in STAGES:
                near = nearest(stage, STAGES) if isinstance(stage, str) else None
                hint = f" Did you mean {near!r}?" if near else ""
                raise InvalidInputError(
                    f"The handler{of} has a stage {shown(stage)}.{hint} There are {', '.join(STAGES)}; "
                    "options take a Handler."
                )
        return Handler(**item)
    if callable(item):
        return Handler(item)
    raise InvalidInputError(
        f"The handler{of} is {type(item).__name__}. Give a function, a Handler, or a mapping of stages."
    )


# ---- harness ---------------------------------------------------------------------------------------------------------


def _same_job(job: Any) -> Any:
    return job


def _same_result(job: Any, result: Any) -> Any:  # noqa: ARG001 - called as post_process is
    return result


def harness(handler: Handler | Stage | Mapping[str, Stage], wrapper: Wrapper, stage: str = "process") -> Handler:
    """Return a handler one stage of which is wrapped; the other stages and all options are kept.

    Args:
        handler: A Handler, a function, or a mapping of stages; left as it is.
        wrapper: Takes the stage's function, returns one of the same signature. A missing stage is given to it as a
            function that changes nothing: the job for process and pre_process, the result for post_process.
        stage: `process`, `pre_process` or `post_process`.

    Raises:
        InvalidInputError: There is no such stage, or the wrapper returned no function.
    """
    if stage not in STAGES:
        near = nearest(stage, STAGES) if isinstance(stage, str) else None
        hint = f" Did you mean {near!r}?" if near else ""
        raise InvalidInputError(f"There is no stage {shown(stage)} to harness.{hint} There are {', '.join(STAGES)}.")
    old = _as_handler(handler)
    stages: dict[str, Any] = {name: getattr(old, name) for name in STAGES}
    wrapped = wrapper(stages[stage] or (_same_result if stage == "post_process" else _same_job))
    if not callable(wrapped):
        raise InvalidInputError(
            f"The wrapper of {stage} returned {shown(wrapped)}. Return the function that takes its place."
        )
    stages[stage] = wrapped
    new = Handler(**stages, timeout=old.timeout, limit=old.limit, no_retry=old.no_retry)
    # Not through the constructor: a backoff that is a function is called once, when the handler is first made.
    new.retries, new.backoff, new.delays = old.retries, old.backoff, old.delays
    return new


# ---- what a handler is shown -----------------------------------------------------------------------------------------


class Results(Mapping[str, Any]):
    """Results of a job's dependencies by name, in declared order. JSON is parsed when first looked at, once.

    A dependency without a result has None. Of two dependencies of the same name (of two runs) the first has it;
    `of` gives both.
    """

    __slots__ = ("_items", "_positions", "_values")

    def __init__(self, items: Iterable[DependencyResult] = ()) -> None:
        self._items = tuple(items)
        self._values: dict[int, Any] = {}
        self._positions: dict[str, int] | None = None

    def __getitem__(self, name: str) -> Any:
        position = self._by_name().get(name)
        if position is None:
            near = nearest(name, self._by_name()) if isinstance(name, str) else None
            hint = f"; did you mean {near!r}?" if near else ""
            raise KeyError(f"no dependency of this job is named {name!r}{hint}")
        return self._value(position)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name())

    def __len__(self) -> int:
        return len(self._by_name())

    def __contains__(self, name: object) -> bool:
        return name in self._by_name()

    def __repr__(self) -> str:
        return f"Results({list(self)!r})"

    def of(self, type: str) -> list[Any]:
        """Return the results of all dependencies of that type, in declared order; empty if there are none."""
        return [self._value(position) for position, item in enumerate(self._items) if item.type == type]

    def _by_name(self) -> dict[str, int]:
        if self._positions is None:
            positions: dict[str, int] = {}
            for position, item in enumerate(self._items):
                positions.setdefault(item.name, position)
            self._positions = positions
        return self._positions

    def _value(self, position: int) -> Any:
        if position not in self._values:
            text = self._items[position].result_json
            self._values[position] = None if text is None else json.loads(text)
        return self._values[position]


class RunningJob:
    """A job as its handler sees it: one attempt.

    Attributes:
        id: Its id in the store.
        run: The run it belongs to.
        name: Its name in the run.
        type: Its type.
        args: Its args, the graph's shared ones below its own.
        attempt: Number of this attempt; 1 the first time.
        failures: How many attempts before this one failed.
        results: Results of its dependencies: `results[name]`, `results.of(type)`.
        context: What the app's `context` yields; None if it has none.
        added: Jobs added so far, for whoever settles the attempt.
    """

    __slots__ = (
        "_directory",
        "_names",
        "_progress",
        "added",
        "args",
        "attempt",
        "context",
        "failures",
        "id",
        "name",
        "results",
        "run",
        "type",
    )

    def __init__(
        self,
        *,
        type: str,
        id: str | None = None,
        run: str = "run",
        name: str | None = None,
        args: Mapping[str, Any] | None = None,
        attempt: int = 1,
        failures: int = 0,
        results: Iterable[DependencyResult] = (),
        context: Any = None,
        progress: Callable[[float, str | None], object] | None = None,
        directory: Callable[[], str] | None = None,
    ) -> None:
        """Make a job to show to a handler.

        Args:
            progress: Told of each call of `progress`; None: nobody is told.
            directory: Gives the path of this attempt's directory, when first asked for; it need not exist.
        """
        self.type = type
        self.run = run
        self.name = name if name is not None else type
        self.id = id if id is not None else f"{run}/{self.name}"
        self.args: dict[str, Any] = dict(args) if args else {}
        self.attempt = attempt
        self.failures = failures
        self.results = Results(results)
        self.context = context
        self.added: list[Job] = []
        self._names: dict[str, Job] = {}
        self._progress = progress
        self._directory = directory

    def __repr__(self) -> str:
        return f"RunningJob({self.id!r}, attempt {self.attempt})"

    @classmethod
    def of(
        cls,
        reserved: ReservedJob,
        context: Any = None,
        progress: Callable[[float, str | None], object] | None = None,
        directory: Callable[[], str] | None = None,
    ) -> RunningJob:
        """Return what the handler of a reserved job is to be shown."""
        return cls(
            type=reserved.type,
            id=reserved.attempt.job_id,
            run=reserved.run,
            name=reserved.name,
            args=None if reserved.args_json == "{}" else json.loads(reserved.args_json),
            attempt=reserved.attempt.number,
            failures=reserved.failures,
            results=reserved.results,
            context=context,
            progress=progress,
            directory=directory,
        )

    def progress(self, fraction: float, step: str | None = None) -> None:
        """Say how far the attempt is, from 0 to 1, and if wanted at what; for people, nothing depends on it.

        It is shown while the attempt runs, and kept no longer. Call it as often as you like: it writes to memory.

        Raises:
            InvalidInputError: The fraction is no number from 0 to 1, or the step no text.
        """
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
            raise InvalidInputError(f"Progress {shown(fraction)} of job {self.id!r}: give a number from 0 to 1.")
        if step is not None and not isinstance(step, str):
            raise InvalidInputError(f"Progress step {shown(step)} of job {self.id!r}: give text.")
        if self._progress is not None:
            self._progress(float(fraction), step)

    def add(
        self,
        type: str,
        name: str | None = None,
        args: Mapping[str, Any] | None = None,
        dependencies: Iterable[Job | str | Stored] = (),
        priority: int = 0,
        delay_s: float = 0.0,
        id: str | None = None,
        detached: bool = False,
    ) -> Job:
        """Add a job to the run: stored in the transaction that finishes this attempt, or not at all.

        This job's dependents wait for it as well, unless it is detached.

        Args:
            type: A key of the app's handlers; the others are those of `Job`.
            name: Its name in the run, where no other job may have it; its type unless given.
            dependencies: Jobs added in this attempt, their names, or `stored(id)`.

        Returns:
            The job, to stand among the dependencies of jobs added later.

        Raises:
            InvalidJobError: Something of it breaks a rule.
            DuplicateJobError: This attempt has added a job of that name.
            UnknownDependencyError: A dependency was not added in this attempt.
        """
        job = Job(
            type,
            name=name,
            args=args,
            dependencies=dependencies,
            priority=priority,
            delay_s=delay_s,
            id=id,
            detached=detached,
        )
        if job.name in self._names:
            raise DuplicateJobError(job.name)
        for dependency in job.dependencies:
            if isinstance(dependency, Stored):
                continue
            wanted = dependency.name if isinstance(dependency, Job) else dependency
            found = self._names.get(wanted)
            if found is None or (isinstance(dependency, Job) and found is not dependency):
                raise UnknownDependencyError(job.name, wanted, nearest(wanted, self._names) if found is None else None)
        self._names[job.name] = job
        self.added.append(job)
        return job

    @property
    def has_directory(self) -> bool:
        """Whether this attempt has a directory, so that `path` can be asked for; a job made by hand may have none."""
        return self._directory is not None

    def path(self, name: str) -> str:
        """Return an absolute path for a file of this attempt; its directory is made, for this user only.

        Each attempt has a directory of its own: the next one does not see what this one left. Directories stay until
        the run is pruned; `backup` does not copy them.

        Args:
            name: Relative, and without a way out of the attempt's directory: `part.parquet`, `parts/1.csv`.

        Raises:
            InvalidInputError: The name is none of that sort, or this job has no directory.
        """
        inside = os.path.normpath(name) if isinstance(name, str) and name else ".."
        if os.path.isabs(inside) or inside.split(os.sep)[0] in {"..", "."} or "\0" in inside:
            raise InvalidInputError(
                f"Path {shown(name)} of job {self.id!r}: give the name of a file within its directory."
            )
        if self._directory is None:
            raise InvalidInputError(
                f"Job {self.id!r} has no directory here. Give it one where it is made (`directory=`)."
            )
        path = os.path.join(os.path.abspath(self._directory()), inside)
        _make_private(os.path.dirname(path))
        return path


def _make_private(directory: str) -> None:
    # os.makedirs gives its mode to the last directory only
    if os.path.isdir(directory):
        return
    _make_private(os.path.dirname(directory))
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        if not os.path.isdir(directory):
            raise


# ---- calling a handler -----------------------------------------------------------------------------------------------


def _run_alone(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio

    return asyncio.run(coroutine)


def invoke(handler: Handler | Stage | Mapping[str, Stage], job: Any, run_async: RunAsync | None = None) -> Any:
    """Call a handler's stages in order and return the last one's value; whatever they raise passes through.

    Args:
        handler: A Handler, a function, or a mapping of stages.
        job: What the stages are shown.
        run_async: Runs a coroutine a stage returned to its end and returns its value; by default each in a loop of
            its own.

    Raises:
        InvalidInputError: The handler has no process, or is no handler.
    """
    handler = _as_handler(handler)
    if handler.process is None:
        raise InvalidInputError("The handler has no process. Give it a function of the job.")
    run_async = run_async or _run_alone
    if handler.pre_process is not None:
        _call(run_async, handler.pre_process, job)
    result = _call(run_async, handler.process, job)
    if handler.post_process is not None:
        result = _call(run_async, handler.post_process, job, result)
    return result


def _call(run_async: RunAsync, stage: Stage, *args: Any) -> Any:
    value = stage(*args)
    return run_async(value) if isinstance(value, Coroutine) else value


class Ending(NamedTuple):
    """How the call of a handler ended.

    Attributes:
        outcome: FINISHED, FAILED, ABORTED or FAULTED.
        result_json: The result as JSON text, for FINISHED; None: no result.
        added: Jobs the handler added, for FINISHED.
        failure: Why, for the others.
        retry_in_s: Seconds until the job is to be tried again, for FAILED; None: it is not.
        delay_s: Seconds until the job may be reserved again, for FAULTED.
    """

    outcome: Outcome
    result_json: str | None = None
    added: Sequence[Job] = ()
    failure: Failure | None = None
    retry_in_s: float | None = None
    delay_s: float | None = None


def execute(
    handler: Handler | Stage | Mapping[str, Stage],
    job: RunningJob,
    run_async: RunAsync | None = None,
    observe: Observe | None = None,
) -> Ending:
    """Call a handler and say how that ended. Nothing the handler raises gets out, `sys.exit` and Ctrl-C included.

    Args:
        handler: A Handler, a function, or a mapping of stages.
        job: What the handler is shown; `job.failures` decides on a retry.
        run_async: See `invoke`.
        observe: Called with the exception and the job for each failure and each abort that is not silent. An
            exception of its own becomes one line on stderr.
    """
    handler = _as_handler(handler)
    try:
        result = invoke(handler, job, run_async)
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its attempt's end, not the runner's
        return _ended_by(_control_flow(error), handler, job, observe)
    return _finished(result, job, observe)


def _control_flow(error: BaseException) -> BaseException:
    """Return the abort or fault a group of exceptions stands for, as asyncio.TaskGroup makes one; else the error."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    aborts, _ = error.split(AbortJob)
    faults, others = error.split(FaultJob)
    leaf: BaseException = aborts or (faults if faults is not None and others is None else error)
    while leaf is not error and isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf


def _ended_by(error: BaseException, handler: Handler, job: RunningJob, observe: Observe | None) -> Ending:
    if isinstance(error, FaultJob):
        return Ending(Outcome.FAULTED, failure=Failure("fault", _line(error)), delay_s=error.delay_s)
    if isinstance(error, AbortJob) and error.silent:
        return Ending(Outcome.ABORTED, failure=Failure("abort", _line(error), silent=True))
    _observe(observe, error, job)
    if isinstance(error, AbortJob):
        return Ending(Outcome.ABORTED, failure=Failure("abort", _line(error), traceback=_traceback(error)))
    allowed = len(handler.delays) + 1
    if isinstance(error, CommandFailedError):  # its words say it all: a traceback would show our own lines
        failure = Failure("command", _line(error), allowed=allowed)
    else:
        failure = Failure("exception", _line(error), _class_name(error), _traceback(error), allowed=allowed)
    return Ending(Outcome.FAILED, failure=failure, retry_in_s=_retry_in_s(handler, job, error))


def _finished(result: Any, job: RunningJob, observe: Observe | None) -> Ending:
    try:
        text = None if result is None else encode(result, "the result")
    except Exception as error:  # noqa: BLE001 - a result may be an object whose own methods raise
        _observe(observe, error, job)
        problem = str(error) if isinstance(error, NotJsonError) else f"the result: {_class_name(error)}: {_line(error)}"
        advice = (
            "return JSON of at most 1 MiB; write anything else to a file named by job.path(...) and return its path"
        )
        return Ending(Outcome.FAILED, failure=Failure("result", _clean(f"{problem}; {advice}")))
    return Ending(Outcome.FINISHED, text, tuple(job.added))


def _retry_in_s(handler: Handler, job: RunningJob, error: BaseException) -> float | None:
    if isinstance(error, handler.no_retry) or job.failures >= len(handler.delays):
        return None
    delay_s = handler.delays[job.failures]
    return jitter(delay_s) if handler.backoff is None else delay_s


def _observe(observe: Observe | None, error: BaseException, job: RunningJob) -> None:
    if observe is None:
        return
    try:
        observe(error, job)
    except BaseException as trouble:  # noqa: BLE001 - the report failed, the job's own end stands
        sys.stderr.write(f"Reporting the failure of {job.id} failed: {_class_name(trouble)}: {_line(trouble)}\n")


# ---- words for a failure ---------------------------------------------------------------------------------------------


def _clean(text: str) -> str:
    """Make text fit for a database and for JSON: no lone surrogates, no NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _class_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _line(error: BaseException) -> str:
    """Return an exception's message as one line that is never blank."""
    if isinstance(error, SystemExit):
        return _clean(f"the handler called sys.exit({shown(error.code)}); only its attempt ended")
    if isinstance(error, KeyboardInterrupt):
        return "the handler raised KeyboardInterrupt; only its attempt ended"
    try:
        text = str(error)
    except Exception as trouble:  # noqa: BLE001 - the message is the handler's code
        text = f"(its message cannot be shown: {_class_name(trouble)})"
    line = " ".join(_clean(text).split())
    if len(line) > MAX_MESSAGE_CHARS:
        line = f"{line[: MAX_MESSAGE_CHARS - 4]} ..."
    return line or _class_name(error)


def _traceback(error: BaseException) -> str:
    """Return the traceback from the handler's first frame on, the middle left out beyond 16 KiB."""
    import traceback  # takes 5 ms to import, and nothing has failed so far

    frames = error.__traceback__
    while frames is not None and _is_machinery(frames.tb_frame.f_globals.get("__name__")):
        frames = frames.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, frames))
    except Exception as trouble:  # noqa: BLE001 - it shows objects of the handler's
        return f"{_class_name(error)}: (its traceback cannot be shown: {_class_name(trouble)})"
    data = _clean(text).encode()
    if len(data) <= MAX_TRACEBACK_BYTES:
        return data.decode()
    head, tail = data[: MAX_TRACEBACK_BYTES // 4], data[-(MAX_TRACEBACK_BYTES // 2) :]
    left_out = f"\n... {len(data) - len(head) - len(tail):,} bytes left out ...\n"
    return f"{head.decode(errors='ignore')}{left_out}{tail.decode(errors='ignore')}"


_MACHINERY: Final = (__name__, "overseer_lite.commands", "overseer_lite.runner", "asyncio", "concurrent.futures")


def _is_machinery(module: object) -> bool:
    return isinstance(module, str) and any(module == name or module.startswith(f"{name}.") for name in _MACHINERY)


# ---- what a worker knows of handlers it never imports ----------------------------------------------------------------


class Options(NamedTuple):
    """The options of one type, as the worker knows them.

    Attributes:
        delays: Seconds to wait after the first, second, ... failure.
        jitter: Whether those are to be varied by chance.
        timeout: Seconds an attempt may take; None: any.
        limit: How many jobs of the type may be started at a time; None: any number.
    """

    retries: int = 0
    delays: tuple[float, ...] = ()
    jitter: bool = True
    timeout: float | None = None
    limit: int | None = None

    def retry_in_s(self, failures: int) -> float | None:
        """Return the seconds until a retry of an attempt that has just failed, jitter included; None: no retry.

        Args:
            failures: How many attempts failed before this one (`ReservedJob.failures`).
        """
        if failures >= len(self.delays):
            return None
        return jitter(self.delays[failures]) if self.jitter else self.delays[failures]


def limits_of(types: Mapping[str, Handler] | Mapping[str, Options]) -> dict[str, int]:
    """Return how many jobs of a type may be started at a time, for the types that have a limit."""
    return {kind: each.limit for kind, each in types.items() if each.limit is not None}


def describe(handlers: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what a worker must know of an app's handlers, as plain JSON values; `options_from` reads it.

    Raises:
        InvalidInputError: They are no handlers; see `as_handlers`.
    """
    return {
        kind: {
            "retries": handler.retries,
            "delays": list(handler.delays),
            "jitter": handler.backoff is None,
            "timeout": handler.timeout,
            "limit": handler.limit,
        }
        for kind, handler in as_handlers(handlers).items()
    }


def options_from(described: Mapping[str, Mapping[str, Any]]) -> dict[str, Options]:
    """Return the options by type that `describe` wrote down."""
    return {
        kind: Options(item["retries"], tuple(item["delays"]), item["jitter"], item["timeout"], item["limit"])
        for kind, item in described.items()
    }
