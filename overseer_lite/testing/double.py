"""The double: the real engine on a store of its own, in a test's process, with time and order under control.

Nothing is imitated. The store is the SQLite store, or the one a factory makes; the jobs are run by the inline worker;
only the clock is a test's, and who is next may be drawn by lot.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from overseer_lite.errors import InvalidInputError, OverseerError, StoreUnavailableError, UnknownJobError, nearest
from overseer_lite.graph import as_graph, validate_graph_handlers
from overseer_lite.handler import as_handlers
from overseer_lite.job import Outcome, Status
from overseer_lite.monitor import Monitor, reset_silent
from overseer_lite.store import compose_exchange, open_store
from overseer_lite.testing.expect import Expect
from overseer_lite.testing.faults import Faults
from overseer_lite.testing.pace import PacedClock
from overseer_lite.testing.player import states
from overseer_lite.testing.profiles import Profile, profile_of
from overseer_lite.testing.record import LOG_NAME, EventLog, Recorder
from overseer_lite.testing.trace import trace_of
from overseer_lite.worker.inline import InlineWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from overseer_lite.job import Attempt, AttemptRecord, JobInfo, ReservedJob, Settlement
    from overseer_lite.store import Exchange, FullStore
    from overseer_lite.testing.pool import Pool
    from overseer_lite.testing.trace import Trace

KILLED: Final = "killed"
_T = TypeVar("_T")
_PATIENCE_S: Final = 10.0
_PAUSE_S: Final = 0.01
_MOST_READY: Final = 1_000_000  # by lot means among all that are ready


class AttemptFailedError(OverseerError, AssertionError):
    """An attempt failed, or gave its job up, in a drain that was told to raise on that.

    Attributes:
        attempt: The attempt.
        record: Its row of history.
    """

    def __init__(self, attempt: Attempt, record: AttemptRecord) -> None:
        self.attempt, self.record = attempt, record
        failure = record.failure
        what = failure.message if failure is not None else "no reason is known"
        trace = f"\n{failure.traceback}" if failure is not None and failure.traceback else ""
        super().__init__(f"Attempt {attempt.number} of job {attempt.job_id!r} {record.outcome}: {what}{trace}")


class NotReachedError(OverseerError, AssertionError):
    """A drain ran out of ready jobs before what it was to run until had come true."""


class Double:
    """A store, a clock, and a worker in this process. Made by the fixture `overseer_double`.

    Args:
        handlers: By type: a Handlers, or a plain dict.
        directory: Where its files lie; it must exist, and be empty.
        context: What handlers find as `job.context`: the value itself, or a context manager function as an app has
            it, entered once a drain.
        factory: Makes the store, as for `test-store`: called with the directory and the clock. The SQLite store unless
            given.
        profile: `local`, `lease`, `overseer`, or one that `lease(interval, tolerance)` made: what tells that a worker
            is dead, and after how long. A pool keeps to it, and so does `sweep`.

    Attributes:
        store: The store.
        clock: Its time; stands still until `advance` moves it, and while a pool works it runs.
        faults: What is to go wrong in it: see `Faults`.
        expect: What a test may expect of it: see `Expect`.
    """

    def __init__(
        self,
        handlers: Mapping[str, Any],
        directory: str | os.PathLike[str],
        *,
        context: Any = None,
        factory: Callable[..., Any] | None = None,
        profile: str | Profile = "local",
    ) -> None:
        self.profile = profile_of(profile)
        self.handlers = handlers
        self.context = context
        self.directory = os.fspath(directory)
        self.types = tuple(as_handlers(handlers))
        self.clock = PacedClock.create(os.path.join(self.directory, "clock"))
        self._submitted: list[str] = []
        if factory is None:
            path = os.path.join(self.directory, "jobs.db")
            bare: Any = open_store(path, clock=self.clock, durability="normal")
        else:
            bare = factory(Path(self.directory), self.clock)
        self._recorder = Recorder(bare, EventLog(os.path.join(self.directory, LOG_NAME)))
        self.store: FullStore = cast("FullStore", self._recorder)  # it passes on what it does not note
        self.store.install()
        self.expect = Expect(self)
        self.faults = Faults(os.path.join(self.directory, "faults"))

    def close(self) -> None:
        """Let go of the store and the clock; the files stay."""
        self._recorder.close()
        self.clock.close()

    def need(self, verb: str, *capabilities: str) -> None:
        """Make sure that the store can do what a verb of the double takes.

        Raises:
            InvalidInputError: It does not declare all of these.
        """
        missing = sorted(set(capabilities) - self.store.capabilities)
        if missing:
            raise InvalidInputError(
                f"The double's `{verb}` needs a store that declares {', '.join(missing)}; {type(self._recorder.bare).__name__} "
                "does not. Do without, or use the SQLite store."
            )

    # ---- what is to be done

    def submit(self, graph: Any, **args: Any) -> str:
        """Store a graph: a function (called with the args), a mapping of types, or a Graph; return the run's id.

        Raises:
            InvalidInputError: The graph cannot be run by the double's handlers; nothing was stored.
        """
        made = as_graph(graph, args)
        validate_graph_handlers(self.types, made)
        with self.faults.watched("submit"):
            self.store.transact_graph(made)
        self._submitted += [job_id for job_id in map(made.job_id, made.jobs) if job_id not in self._submitted]
        return made.id

    def drain(
        self,
        types: Iterable[str] | None = None,
        limit: int | None = None,
        until: str | Callable[[], object] | None = None,
        raise_on_failure: bool = False,
        seed: int | None = None,
    ) -> list[str]:
        """Run jobs in this thread, one after another, until none is ready; return their names in order of their run.

        By priority and submission, as one worker would; time does not pass by itself, so a retry that is due later is
        not run. A timeout stops nothing here, and a crash takes the test along: `pool` has both.

        Args:
            types: Only jobs of these types.
            limit: At most so many attempts.
            until: Stop when the job of that name has ended for good (a handler may have yet to add it), or when the
                function returns something true; asked before each attempt.
            raise_on_failure: Raise at the first attempt that fails, even if it would be tried again.
            seed: Draw the next job by lot from those that are ready; the same seed draws the same.

        Raises:
            AttemptFailedError: An attempt failed or was aborted, and `raise_on_failure` is set.
            NotReachedError: Nothing is ready any more, and `until` has not come true; all that ran is settled.
            InvalidInputError: A type without a handler, or a negative limit; nothing was run.
        """
        if raise_on_failure:
            self.need("drain(raise_on_failure=True)", "history")
        only = self._known_types(types)
        if limit is not None and limit < 0:
            raise InvalidInputError(f"A drain cannot be limited to {limit} attempts. Give 0 or more.")
        view: Any = _View(self.store, None if seed is None else random.Random(seed))  # a store: it delegates the rest
        with InlineWorker(view, self.handlers, context=self._entered, types=only) as worker:
            while (limit is None or len(view.reserved) < limit) and not self._reached(until):
                with self.faults.watched("drain"):
                    ran = _patiently(worker.work_once)
                    _patiently(worker.settle)
                if not ran:
                    self._miss(until)
                    break
                if raise_on_failure:
                    self._raise_failure(view.reserved[-1].attempt)
        return [job.name for job in view.reserved]

    def _entered(self) -> AbstractContextManager[Any]:
        if callable(self.context):
            entered: AbstractContextManager[Any] = self.context()
            return entered
        return contextlib.nullcontext(self.context)

    def _reached(self, until: str | Callable[[], object] | None) -> bool:
        if until is None:
            return False
        if not isinstance(until, str):
            return bool(until())
        found = self._find(until)
        return found is not None and found.status.terminal

    def _miss(self, until: str | Callable[[], object] | None) -> None:
        """Nothing is ready: an error where the drain was to go on until something."""
        if until is None:
            return
        what = "its function returned something true"
        if isinstance(until, str):
            found = self._find(until)
            where = "there is no such job" if found is None else f"it is {self.stands(found)}"
            what = f"job {until!r} had ended ({where})"
        left = [f"{job.name} ({self.stands(job)})" for job in self.jobs() if not job.status.terminal]
        raise NotReachedError(
            f"Nothing is ready any more, and the drain was to go on until {what}. Left: {', '.join(left) or 'none'}."
        )

    def _known_types(self, types: Iterable[str] | None) -> tuple[str, ...] | None:
        if types is None:
            return None
        only = tuple([types] if isinstance(types, str) else types)
        for kind in only:
            if kind not in self.types:
                near = nearest(kind, self.types)
                raise InvalidInputError(
                    f"The double has no handler of type {kind!r}, so a drain would run none."
                    + (f" Did you mean {near!r}?" if near else f" It has: {', '.join(self.types) or 'none'}.")
                )
        return only

    def _raise_failure(self, attempt: Attempt) -> None:
        for record in self.store.attempts(attempt.job_id):
            if record.number == attempt.number and record.outcome in (Outcome.FAILED, Outcome.ABORTED):
                raise AttemptFailedError(attempt, record)

    def pool(self, n: int, app: str | None = None, **settings: Any) -> Pool:
        """Return n worker processes under a supervisor, to be used by `with`; handlers run in processes of their own.

        Args:
            app: The app whose handlers run, as on the command line; the module in which the double's handlers stand,
                as its `handlers`, unless given. An app has its own `context`.
            settings: By name, as in `[tool.overseer_lite]`.

        Raises:
            InvalidInputError: The handlers are no module's, or the double has a context, which no process can be given.
        """
        from overseer_lite.testing.pool import Pool

        return Pool(self, n, app, settings)

    def sweep(self) -> list[str]:
        """Look after the workers once, as a monitor does; return the ids of the jobs that were put back.

        In a profile without the kernel's word: what has been silent for longer than its tolerance, whoever lives. While
        a pool works this happens by itself, in such a profile after each step of the clock.
        """
        if not self.profile.kernel:
            return reset_silent(self.store, self.profile.silent_for_s)
        self.need("sweep", "workers")
        with contextlib.closing(Monitor(self.store, silent_for_s=self.profile.silent_for_s)) as monitor:
            return [job_id for recovered in monitor.sweep() for job_id in recovered.reset]

    # ---- what happened

    def job(self, name: str) -> JobInfo:
        """Return what the store knows of the job of that name, or id; of several, the one submitted last.

        Raises:
            UnknownJobError: There is none.
        """
        info = self._find(name)
        if info is None:
            raise UnknownJobError(name, nearest(name, [job.name for job in self.jobs()]))
        return info

    def jobs(self) -> list[JobInfo]:
        """Return the jobs there are; of a store that cannot list them those that were submitted here."""
        if "looking" in self.store.capabilities:
            return self.store.jobs()
        return [info for info in map(self.store.job_info, self._submitted) if info is not None]

    def _find(self, name: str) -> JobInfo | None:
        info = self.store.job_info(name)
        if info is None:
            alike = [job for job in self.jobs() if job.name == name]
            info = self.store.job_info(alike[-1].id) if alike else None
        return info

    def attempts(self, name: str) -> list[str]:
        """Return how the attempts of a job ended, oldest first: the words of history, and `killed`.

        `killed` is an attempt whose runner or worker died. The one that is running is not among them.

        Raises:
            InvalidInputError: The store does not declare `history`.
        """
        self.need("attempts", "history")
        dead = (Outcome.CRASHED, Outcome.INTERRUPTED)
        return [
            KILLED if record.outcome in dead else str(record.outcome)
            for record in self.store.attempts(self.job(name).id)
        ]

    def trace(self) -> Trace:
        """Return what happened so far, in the order of the commits, and where each job stands now.

        Also what happened in a pool, where a worker was killed between its commit and the store's answer as well.
        What other stores on the same file did, that of code under test, say, is not in it.
        """
        lines = self._recorder.log.read()
        past = trace_of(lines, self._ended)
        now_us = self.clock.read().boottime_us
        return trace_of([*lines, {"done": "", "at": now_us, "events": states(self.store, past)}], self._ended)

    def note(self, event: str, **fields: Any) -> None:
        """Put an event of the test's own into the trace."""
        self._recorder.event({"event": event, **fields})

    def _ended(self, job_id: str, number: int, worker: str) -> str | None:
        if "history" in self.store.capabilities and self.store.job_info(job_id) is not None:
            for record in self.store.attempts(job_id):
                if (record.number, record.worker) == (number, worker):
                    return str(record.outcome)
        return None

    @staticmethod
    def stands(job: JobInfo) -> str:
        """Say where a job stands, and why it goes no further."""
        if job.status is not Status.UNSTARTED:
            return str(job.status)
        if job.stuck:
            return "stuck: something it depends on failed or was aborted"
        if job.due_in_s is not None:
            return f"due in {job.due_in_s:g} s"
        if job.waiting_for:
            return f"waiting for {job.waiting_for}"
        return "ready"

    def unfinished(self) -> list[str]:
        """Return the names of the jobs that are not finished, in order of submission."""
        return [job.name for job in self.jobs() if job.status is not Status.FINISHED]


def _patiently(step: Callable[[], _T]) -> _T:
    """Do a step as a worker does it: while the store is away, again after a moment, for up to 10 s of real time."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return step()
        except StoreUnavailableError:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE_S)


class _View:
    """The store as the drain's worker sees it: notes what was reserved, and may draw the next job by lot."""

    def __init__(self, store: FullStore, chance: random.Random | None) -> None:
        self._store = store
        self._chance = chance
        self.reserved: list[ReservedJob] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def capabilities(self) -> frozenset[str]:
        """What the store can do, and an exchange, of which this takes notes."""
        return self._store.capabilities | {"exchange"}

    def exchange(
        self, worker: str, settlements: Sequence[Settlement], want: int, types: Collection[str], **options: Any
    ) -> Exchange:
        """Settle and reserve: in one transaction, or, where the lot decides, one after the other."""
        if "exchange" not in self._store.capabilities:
            result = compose_exchange(cast("FullStore", self), worker, settlements, want, types)
        elif self._chance is None:
            result = self._store.exchange(worker, settlements, want, types, **options)
        else:
            result = self._store.exchange(worker, settlements, 0, types, **options)
            drawn = compose_exchange(cast("FullStore", self), worker, (), want, types)
            held = self._store.held_keys(worker) if "workers" in self._store.capabilities else {}
            keys = {attempt: key for (key, _), attempt in held.items()}
            result = result._replace(jobs=[job._replace(key=keys.get(job.attempt, 0)) for job in drawn.jobs])
        self.reserved += result.jobs
        return result

    def jobs_ready(self, types: Collection[str] | None = None, limit: int = 100) -> list[str]:  # noqa: ARG002 - the verb's
        """Return what is ready, in an order drawn by lot."""
        ready = self._store.jobs_ready(types, _MOST_READY)
        if self._chance is not None:
            self._chance.shuffle(ready)
        return ready
