"""The error tree: what happened, to which thing, what to do.

Every class composes its own sentence from facts and keeps the facts as attributes. `exit_code` is what the command
line ends with when the error reaches it; the table stands in the README.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that looks most like the word, None if none does: for the hint in a message.

    Looks at the first 5,000 candidates of about the same length only, so that it is quick among a million.
    """
    from difflib import get_close_matches
    from itertools import islice

    alike = (name for name in candidates if isinstance(name, str) and abs(len(name) - len(word)) <= 3)
    return next(iter(get_close_matches(word, islice(alike, 5000), n=1)), None)


def shown(value: object, limit: int = 80) -> str:
    """Return a value as a message shows it: its repr on one line, cut; its type where it has no repr to show."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - a repr may be somebody else's code, or have no end
        return f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[:limit]}..."


class OverseerError(Exception):
    """The root of everything this package raises on purpose; control flow of handlers aside (see `handler`)."""

    exit_code: ClassVar[int] = 1


# ---- bad input: exit 2, nothing was stored ---------------------------------------------------------------------------


class InvalidInputError(OverseerError):
    """Something the caller gave cannot be accepted; nothing was stored."""

    exit_code = 2


class InvalidGraphError(InvalidInputError):
    """A graph cannot be run as it stands."""


class CycleError(InvalidGraphError):
    """Jobs of a graph wait for one another in a circle. `cycle` has their names, the first again at its end."""

    def __init__(self, cycle: Sequence[str]) -> None:
        self.cycle = tuple(cycle)
        left_out = f"({len(cycle) - 10} more)"
        shown = cycle if len(cycle) <= 12 else [*cycle[:5], left_out, *cycle[-5:]]
        super().__init__(
            f"The graph has a cycle: {' -> '.join(shown)}. Nothing was stored; remove one of these dependencies."
        )


class UnknownDependencyError(InvalidGraphError):
    """A job names a dependency that is neither in its graph nor in the store."""

    def __init__(self, job: str, dependency: str, near: str | None = None) -> None:
        self.job, self.dependency = job, dependency
        hint = f" Did you mean {near!r}?" if near else ""
        super().__init__(
            f"Job {job!r} depends on {dependency!r}, which is neither in the graph nor in the store.{hint} "
            "Nothing was stored; add that job or correct the name."
        )


class DuplicateJobError(InvalidGraphError):
    """Two jobs of one graph have the same name or id."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"The graph has two jobs named {name!r}. Nothing was stored; give one of them another `name=`."
        )


class MissingHandlerError(InvalidGraphError):
    """Jobs have types nobody handles."""

    def __init__(self, types: Iterable[str], known: Iterable[str] = (), near: str | None = None) -> None:
        self.types = tuple(sorted(types))
        self.known = tuple(sorted(known))
        names = ", ".join(map(repr, self.types))
        hint = f" Did you mean {near!r}?" if near else ""
        super().__init__(
            f"No handler for type {names}.{hint} Nothing was stored; add it to the app's `handlers` "
            f"(which has {', '.join(map(repr, self.known)) or 'none'})."
        )


class EmptyGraphError(InvalidGraphError):
    """A graph without jobs: running nothing must not look like success."""

    def __init__(self, what: str = "The graph") -> None:
        super().__init__(f"{what} has no jobs. Nothing was stored; a graph needs at least one job.")


class InvalidJobError(InvalidInputError):
    """One job's description breaks a rule."""

    def __init__(self, job: str, problem: str, remedy: str) -> None:
        self.job, self.problem, self.remedy = job, problem, remedy
        super().__init__(f"Job {job!r}: {problem}. Nothing was stored; {remedy}.")


class InvalidLineError(InvalidInputError):
    """One line of JSON Lines describes no job."""

    def __init__(self, origin: str, line: int, problem: str, remedy: str) -> None:
        self.origin, self.line, self.problem = origin, line, problem
        super().__init__(f"{origin}:line {line}: {problem}. Nothing was stored; {remedy}.")


class NotJsonError(InvalidInputError):
    """A value that must be JSON is not."""

    def __init__(self, what: str, problem: str) -> None:
        self.what, self.problem = what, problem
        super().__init__(f"{what}: {problem}")


class GraphConflictError(InvalidInputError):
    """Ids of this graph are in the store already, with other content or only in part; `differences` has a line for each."""

    def __init__(self, differences: Sequence[str]) -> None:
        self.differences = tuple(differences)
        shown = "; ".join(differences[:5]) + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")
        super().__init__(
            f"The graph conflicts with what is stored: {shown}. Nothing was stored; "
            "use another run id, or submit exactly what was submitted before."
        )


class UnknownJobError(InvalidInputError):
    """No job has that id."""

    def __init__(self, job_id: str, near: str | None = None) -> None:
        self.job_id, self.near = job_id, near
        hint = f" Did you mean {near!r}?" if near else " `overseer-lite jobs` lists them."
        super().__init__(f"There is no job {job_id!r} in this store.{hint}")


class UnknownRunError(InvalidInputError):
    """No run has that id."""

    def __init__(self, run_id: str, near: str | None = None) -> None:
        self.run_id, self.near = run_id, near
        hint = f" Did you mean {near!r}?" if near else " `overseer-lite status` counts what is there."
        super().__init__(f"There is no run {run_id!r} in this store.{hint}")


class IllegalTransitionError(InvalidInputError):
    """A move the state machine does not have."""

    def __init__(self, job_id: str, verb: str, status: str, remedy: str) -> None:
        self.job_id, self.verb, self.status = job_id, verb, status
        super().__init__(f"Cannot {verb} job {job_id!r}: it is {status}. Nothing was changed; {remedy}.")


class AppError(InvalidInputError):
    """The app the operator named cannot be used."""

    def __init__(self, app: str, problem: str, remedy: str) -> None:
        self.app, self.problem = app, problem
        super().__init__(f"Cannot use app {app!r}: {problem}. {remedy}.")


class ConfigError(InvalidInputError):
    """A setting has a value it cannot have."""

    def __init__(self, name: str, value: object, origin: str, expected: str) -> None:
        self.name, self.value, self.origin = name, value, origin
        super().__init__(f"Setting {name!r} is {shown(value)} (from {origin}); expected {expected}. Correct it there.")


# ---- the store cannot be used: exit 3 --------------------------------------------------------------------------------


class StoreError(OverseerError):
    """The store cannot be used."""

    exit_code = 3


class StoreUnavailableError(StoreError):
    """The store could not be asked just now; nothing follows about any job or worker. Trying again is right."""

    def __init__(self, path: str, problem: str, remedy: str = "Free what blocks it, then try again") -> None:
        problem = " ".join(problem.split())  # an engine's own words may have lines
        self.path, self.problem, self.remedy = path, problem, remedy
        super().__init__(f"The store {path} is unavailable: {problem}. {remedy}.")


class StoreFullError(StoreUnavailableError):
    """No space is left for the store's file or its log."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "the disk is full", "Free some space; what waits to be written goes on by itself")


class StoreBusyError(StoreUnavailableError):
    """Another process held the store's writer gate for longer than this caller may wait."""

    def __init__(self, path: str, waited_s: float, holder: str = "another process") -> None:
        self.waited_s, self.holder = waited_s, holder
        super().__init__(
            path,
            f"{holder} has held the writer gate for {waited_s:.1f} s",
            "See `overseer-lite doctor`, then try again",
        )


class StoreMissingError(StoreError):
    """There is no store where it was looked for."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"There is no store at {path}. `overseer-lite init`, `submit`, `run` or `worker` creates one; "
            "or name another with --db or OVERSEER_LITE_DB."
        )


class UnusableStoreError(StoreError):
    """The file is there and is no store this version may touch."""

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        problem = " ".join(problem.split())  # an engine's own words may have lines
        self.path, self.problem, self.remedy = path, problem, remedy
        super().__init__(f"Cannot use the store {path}: {problem}. Nothing was written. {remedy}.")


class StoreReplacedError(StoreError):
    """The file behind an open store was unlinked, moved or replaced: writes would go nowhere."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        super().__init__(
            f"The store {path} {problem} while it was in use. Work stopped at once; put the file back, then start again."
        )


class UnfixedEngineError(StoreError):
    """The SQLite that is loaded can corrupt a file several processes write."""

    def __init__(self, version: str) -> None:
        self.version = version
        super().__init__(
            f"SQLite {version} carries the WAL-reset race (3.7.0 to 3.51.2; 3.52.0 was withdrawn), which corrupts a file that "
            "several processes write. Install a newer engine: pip install -U 'apsw>=3.53'."
        )


class UnknownAddressError(StoreError):
    """No store speaks for that address."""

    def __init__(self, address: str, schemes: Iterable[str]) -> None:
        self.address = address
        super().__init__(
            f"No store is installed for address {address!r}. Known: a path, {', '.join(s + '://...' for s in sorted(schemes))}."
        )


# ---- the fence -------------------------------------------------------------------------------------------------------


class SupersededError(OverseerError):
    """The attempt no longer holds its job; whatever it wanted to write is dropped."""

    def __init__(self, verb: str, job_id: str, number: int, worker: str, now: str) -> None:
        self.verb, self.job_id, self.number, self.worker, self.now = verb, job_id, number, worker, now
        super().__init__(
            f"Cannot {verb} job {job_id!r}: attempt {number} of worker {worker!r} no longer holds it ({now}). "
            "What it wanted to write is dropped."
        )


# ---- in a handler ----------------------------------------------------------------------------------------------------


class CommandFailedError(OverseerError):
    """A command that a handler ran (see `command`) did not end with exit code 0.

    Attributes:
        command: The command as it was given.
        code: Its exit code, negative for the signal that ended it; None if it could not be started.
    """

    def __init__(self, command: str, code: int | None, how: str) -> None:
        self.command, self.code = command, code
        super().__init__(f"`{command}` {how}")


# ---- the command line's other ends -----------------------------------------------------------------------------------


class TimedOutError(OverseerError):
    """A wait took longer than the caller allowed."""

    exit_code = 4

    def __init__(self, what: str, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"{what} did not end within {timeout_s:g} s.")


class WorkersLostError(OverseerError):
    """Workers die faster than they can be replaced."""

    exit_code = 5

    def __init__(self, deaths: int, last_words: str) -> None:
        self.deaths, self.last_words = deaths, last_words
        super().__init__(
            f"Workers cannot be kept alive: {deaths} died before their first job. Last words: {last_words or '(none)'}"
        )
