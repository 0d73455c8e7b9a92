"""A job, its five statuses, and the moves between them: stated once, here.

    unstarted --reserve--> started --finish--> finished
        ^                   | | |---fail-----> failed      (retries left: back to unstarted, later)
        |-hand back/fault/reset-| |---abort--> aborted     (and every transitive dependent that is not terminal)
    unstarted --abort--> aborted      started --crash limit--> failed      failed, aborted --retry (operator)--> unstarted

`TRANSITIONS` is that drawing as a literal table. The SQL, the memory store, the contract suite and the docs follow it;
no other move exists, and `check_transition` says so. Ready and stuck are predicates over unstarted jobs, no statuses.

This module is imported by every process, the runner of somebody's handlers among them: it stays free of slow imports
(`dataclasses` alone would cost 14 ms of a start that takes 37).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from overseer_lite.errors import IllegalTransitionError, InvalidJobError, NotJsonError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_ID_CHARS: Final = 200
MAX_JSON_BYTES: Final = 1024 * 1024
MAX_JSON_DEPTH: Final = 64
MAX_PRIORITY: Final = 2**31 - 1
MAX_DELAY_S: Final = 10 * 365 * 24 * 3600.0


class Status(StrEnum):
    """Where a job stands. Finished, failed and aborted are terminal.

    A member is equal to its word: `job.status == "finished"`.
    """

    UNSTARTED = "unstarted"
    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    ABORTED = "aborted"

    @property
    def terminal(self) -> bool:
        """Whether only an operator's retry (or, for finished, nothing at all) leaves this status."""
        return self in (Status.FINISHED, Status.FAILED, Status.ABORTED)


class Outcome(StrEnum):
    """How an attempt ended; a job's history has one a row."""

    FINISHED = "finished"
    FAILED = "failed"  # the handler raised, or ran out of time; counted as a failure
    ABORTED = "aborted"  # the handler or an operator gave the job up
    FAULTED = "faulted"  # passing trouble; counted as nothing
    CRASHED = "crashed"  # its runner died; counted as a crash
    INTERRUPTED = "interrupted"  # only its worker died; counted as an interruption
    STOPPED = "stopped"  # cut short because the worker was told to stop now; counted as nothing
    RESET = "reset"  # an operator's wish; counted as nothing
    HANDED_BACK = "handed back"  # the handler never began: leaves no history, its number is given again


class Transition(NamedTuple):
    """One arrow of the drawing: who may take a job from where to where, and by which verb."""

    verb: str
    source: Status
    target: Status
    by: str


TRANSITIONS: Final[tuple[Transition, ...]] = (
    Transition("reserve", Status.UNSTARTED, Status.STARTED, "worker"),
    Transition("finish", Status.STARTED, Status.FINISHED, "holder"),
    Transition("fail", Status.STARTED, Status.FAILED, "holder"),
    Transition("fail", Status.STARTED, Status.UNSTARTED, "holder"),
    Transition("fault", Status.STARTED, Status.UNSTARTED, "holder"),
    Transition("hand back", Status.STARTED, Status.UNSTARTED, "holder"),
    Transition("reset", Status.STARTED, Status.UNSTARTED, "holder or recovery"),
    Transition("reset", Status.STARTED, Status.FAILED, "holder or recovery"),
    Transition("abort", Status.STARTED, Status.ABORTED, "holder"),
    Transition("abort", Status.UNSTARTED, Status.ABORTED, "anyone"),
    Transition("retry", Status.FAILED, Status.UNSTARTED, "operator"),
    Transition("retry", Status.ABORTED, Status.UNSTARTED, "operator"),
)


#: The verb of `TRANSITIONS` by which an attempt of that outcome leaves `started`.
VERBS: Final[dict[Outcome, str]] = {
    Outcome.FINISHED: "finish",
    Outcome.FAILED: "fail",
    Outcome.ABORTED: "abort",
    Outcome.FAULTED: "fault",
    Outcome.CRASHED: "reset",
    Outcome.INTERRUPTED: "reset",
    Outcome.STOPPED: "reset",
    Outcome.RESET: "reset",
    Outcome.HANDED_BACK: "hand back",
}


def sources(verb: str) -> frozenset[Status]:
    """Return the statuses a verb may leave."""
    return frozenset(move.source for move in TRANSITIONS if move.verb == verb)


def check_transition(
    job_id: str, verb: str, status: Status, remedy: str = "look at it with `overseer-lite show`"
) -> None:
    """Raise IllegalTransitionError unless the table has an arrow of that verb out of that status."""
    if status not in sources(verb):
        raise IllegalTransitionError(job_id, verb, status, remedy)


class Attempt(NamedTuple):
    """The fence: the number of a reservation and the worker that made it. Every later write names both.

    Attributes:
        number: From 1; an attempt whose handler never began gives its number back. A job's numbers go on after a retry.
        worker: The worker's id; a worker has a new one each time it is started.
    """

    job_id: str
    number: int
    worker: str


class Job:
    """A job as it is submitted: what to run, with what, after what. Checked when made; never changed afterwards.

    Args:
        type: The job's kind; a key of the app's handlers.
        name: The job within its graph; its type unless given. Unique in the graph.
        args: A JSON object for the handler; the graph's shared args come below these.
        dependencies: What it waits for: jobs, names in the same graph, or `stored(id)`.
        priority: Higher is reserved first; within one priority, first in first out. A 32-bit whole number.
        delay_s: Seconds from its submission before which it is not ready, at most ten years.
        id: Its id in the store, as given; `run/name` unless given.
        detached: Only for a job added by a handler: the adder's dependents do not wait for it.

    Raises:
        InvalidJobError: Something of it breaks a rule; the message names it and the remedy.
    """

    __slots__ = ("args", "args_json", "delay_s", "dependencies", "detached", "id", "name", "priority", "type")

    def __init__(
        self,
        type: str,
        *,
        name: str | None = None,
        args: Mapping[str, Any] | None = None,
        dependencies: Iterable[Job | str | Stored] = (),
        priority: int = 0,
        delay_s: float = 0.0,
        id: str | None = None,
        detached: bool = False,
    ) -> None:
        label = id or name or type
        label = label if isinstance(label, str) else shown(label)
        check_label(label, "type", type)
        if name is not None:
            check_label(label, "name", name)
        if id is not None:
            check_label(label, "id", id)
        if isinstance(dependencies, str | Job | Stored) or not hasattr(dependencies, "__iter__"):
            raise InvalidJobError(label, "its dependencies are not a list", "give a list, even for one dependency")
        if type_of(priority) is not int or abs(priority) > MAX_PRIORITY:
            raise InvalidJobError(
                label, f"priority {shown(priority)} is no 32-bit whole number", "give one, higher runs first"
            )
        if type_of(delay_s) not in (int, float) or not 0 <= delay_s <= MAX_DELAY_S:
            raise InvalidJobError(label, f"delay {shown(delay_s)} is no number of seconds up to ten years", "give one")
        self.type = type
        self.name = name if name is not None else type
        self.id = id
        self.args: Mapping[str, Any] = args if args is not None else {}
        self.args_json = encode_args(label, args) if args else None
        self.dependencies: tuple[Job | str | Stored, ...] = tuple(dependencies)
        for dependency in self.dependencies:
            if not isinstance(dependency, Job | str | Stored):
                raise InvalidJobError(
                    label,
                    f"dependency {shown(dependency)} is neither a job nor a name",
                    "give a job, a name, or stored(id)",
                )
        self.priority = priority
        self.delay_s = float(delay_s)
        self.detached = detached

    def __repr__(self) -> str:
        return f"Job({self.type!r}, name={self.name!r})"


type_of = type  # `Job.__init__` has an argument of that name, as users write it


class Stored(NamedTuple):
    """A dependency on a job that is in the store already, by its id."""

    id: str


def stored(job_id: str) -> Stored:
    """Name a job that is already stored as a dependency; that it exists is checked when the graph is stored.

    Of whatever run it is, and in whatever status: what depends on a failed one is stuck from the beginning.
    """
    return Stored(job_id)


def check_label(job: str, what: str, value: object) -> None:
    """Raise InvalidJobError unless value is a usable id, name or type: printable, not blank, at most 200 characters."""
    if not isinstance(value, str):
        raise InvalidJobError(
            job[:80], f"its {what} is {type(value).__name__}, not text", f"give the {what} as a string"
        )
    if not value.strip() or value != value.strip():
        raise InvalidJobError(
            job[:80], f"its {what} {value[:80]!r} is blank or has blanks around it", f"give a proper {what}"
        )
    if len(value) > MAX_ID_CHARS:
        raise InvalidJobError(
            job[:80], f"its {what} has {len(value)} characters", f"give a {what} of at most {MAX_ID_CHARS} characters"
        )
    if not value.isprintable():
        raise InvalidJobError(
            job[:80], f"its {what} {value[:80]!r} has characters that cannot be printed", "remove them"
        )


def encode(value: Any, what: str, limit_bytes: int = MAX_JSON_BYTES) -> str:
    """Return the value as compact JSON text.

    Refused, since they would come back as something else or not at all: NaN and infinities, keys that are not text,
    NUL and lone surrogates in text, more than 64 levels, more than 1 MiB. Tuples come back as lists; that much is JSON.

    Raises:
        NotJsonError: The value is not JSON in that sense; the message begins with `what`.
    """
    _check_json(value, what, 1)
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJsonError(what, f"{error}") from None
    if size > limit_bytes:
        raise NotJsonError(what, f"{size:,} bytes of JSON are over the limit of {limit_bytes:,}")
    return text


def _check_json(value: Any, what: str, depth: int) -> None:
    kind = type(value)
    if kind is str:
        if "\0" in value:
            raise NotJsonError(what, "text with a NUL character")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise NotJsonError(what, "text with a lone surrogate") from None
    elif kind is dict or isinstance(value, Mapping):
        if depth > MAX_JSON_DEPTH:
            raise NotJsonError(what, f"more than {MAX_JSON_DEPTH} levels deep")
        for key, item in value.items():
            if not isinstance(key, str):
                raise NotJsonError(what, f"key {shown(key)} is {type(key).__name__}, not text")
            _check_json(key, what, depth)
            _check_json(item, what, depth + 1)
    elif kind is list or kind is tuple:
        if depth > MAX_JSON_DEPTH:
            raise NotJsonError(what, f"more than {MAX_JSON_DEPTH} levels deep")
        for item in value:
            _check_json(item, what, depth + 1)
    elif value is not None and not isinstance(value, bool | int | float | str | list | tuple):
        raise NotJsonError(what, f"{type(value).__name__} is not JSON")


def encode_args(job: str, args: object) -> str | None:
    """Return a job's args as JSON text, None for none.

    Raises:
        InvalidJobError: They are no JSON object.
    """
    if args is None:
        return None
    if not isinstance(args, Mapping):
        raise InvalidJobError(job, f"its args are {type(args).__name__}, not a mapping", "give names and values")
    if not args:
        return None
    try:
        return encode(dict(args), "args")
    except NotJsonError as error:
        raise InvalidJobError(job, f"its args are not JSON: {error.problem}", "give plain JSON values") from None


def merge_args(shared_json: str | None, own_json: str | None) -> str:
    """Return the args a handler sees as JSON text: the graph's shared ones, the job's own on top."""
    if own_json is None:
        return shared_json or "{}"
    if shared_json is None:
        return own_json
    return json.dumps({**json.loads(shared_json), **json.loads(own_json)}, ensure_ascii=False, separators=(",", ":"))


class Failure(NamedTuple):
    """Why an attempt, and with it perhaps a job, did not finish.

    Attributes:
        reason: `exception`, `command`, `timeout`, `crash`, `interruption`, `result`, `abort`, `conflict`: what kind of
            end.
        message: One line for people.
        exception: The exception's class, qualified, if there was one.
        traceback: The handler's own traceback, if there was one.
        silent: An abort that asked not to be reported (`abort_silent`).
        allowed: How many attempts may fail by the handler's retries, the first included; None: it does not matter here.
    """

    reason: str
    message: str
    exception: str | None = None
    traceback: str | None = None
    silent: bool = False
    allowed: int | None = None


class JobInfo(NamedTuple):
    """What the store knows of one job, at one moment.

    Attributes:
        args: The graph's shared args with the job's own on top; empty in listings (`jobs`).
        result: What the last stage returned, as JSON brings it back: a tuple as a list. None as well if there is none,
            and in listings.
        failure: Why its last attempt that did not finish did not; None if it has finished, or none has failed.
        ready: Unstarted, every dependency finished, its time has come.
        stuck: Unstarted, and not to be ready until an operator's retry: something it depends on failed or was aborted.
        attempt: Number of the last reservation that counted; 0 before the first.
        failures: Attempts that failed since submission or the last retry.
        crashes: Attempts whose runner died, likewise.
        interruptions: Attempts whose worker died, likewise.
        worker: Who holds it while it is started.
        dependencies: Ids, in declared order, those added by handlers last.
        due_in_s: Seconds until its time comes; None if it has come.
        waiting_for: How many of its dependencies are not finished.
        request: An operator's wish that its worker has not yet granted: `abort` or `reset`.
        adder: Id of the job whose handler added it, always of the same run. None: it was submitted; or the store does not
            keep that (capability `adders`), or did not yet when it was added.
    """

    id: str
    run: str
    name: str
    type: str
    status: Status
    args: dict[str, Any]
    priority: int
    attempt: int
    failures: int
    crashes: int
    interruptions: int
    worker: str | None
    dependencies: tuple[str, ...]
    failure: Failure | None
    result: Any
    ready: bool
    stuck: bool
    due_in_s: float | None
    waiting_for: int
    request: str | None
    adder: str | None = None


class DependencyResult(NamedTuple):
    """One dependency's result, as handed to a dependent."""

    name: str
    type: str
    result_json: str | None


class ReservedJob(NamedTuple):
    """A job just reserved, with all its handler will be shown. JSON stays text: whoever only passes it on does not parse it.

    Attributes:
        key: The store's own number for the job, as a worker's file of steps names it; 0 where a store has none.
    """

    attempt: Attempt
    run: str
    name: str
    type: str
    args_json: str
    results: Sequence[DependencyResult] = ()
    failures: int = 0
    key: int = 0


class Evidence(NamedTuple):
    """What is known of how an attempt went, for its row of history. Durations only: no instant crosses.

    Attributes:
        began_ago_s: Seconds since the handler began; None if it is not known to have begun.
        ended_ago_s: Seconds since it ended; None: just now.
        exit_code: The runner's exit code, where it exited.
        signal: The signal that ended the runner, where one did.
        output: The last of what the attempt wrote to stdout and stderr.
        output_bytes: How much it wrote in all.
    """

    began_ago_s: float | None = None
    ended_ago_s: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    output: str = ""
    output_bytes: int = 0


class Settlement(NamedTuple):
    """How an attempt is to be settled: one of `exchange`'s inputs.

    Attributes:
        result_json: The result as JSON text, for FINISHED; None: no result.
        added: Jobs the handler added, stored in the same transaction, for FINISHED.
        failure: Why, for everything that is neither FINISHED nor HANDED_BACK.
        delay_s: Seconds until the job may be reserved again. For FAILED, None means it is not retried.
    """

    attempt: Attempt
    outcome: Outcome
    result_json: str | None = None
    added: Sequence[Job] = ()
    failure: Failure | None = None
    delay_s: float | None = None
    evidence: Evidence | None = None


class AttemptRecord(NamedTuple):
    """One row of a job's history. Wall times are for display; `ran_s` is by the boot's clock.

    Attributes:
        number: Of the attempt; an attempt that was handed back has no row.
        exit_code: The runner's exit code, where it exited.
        signal: The signal that ended the runner, where one did.
        output: The last of what it wrote to stdout and stderr, up to 64 KiB.
        output_bytes: How much it wrote in all.
        reserved_at: Seconds since 1970 at which the attempt was reserved.
        ended_at: Seconds since 1970 at which it ended.
        ran_s: Seconds from the handler's begin to its end; None if it never began.
    """

    number: int
    worker: str
    outcome: Outcome
    reserved_at: float
    ended_at: float
    ran_s: float | None
    exit_code: int | None
    signal: int | None
    failure: Failure | None
    output: str
    output_bytes: int
