"""The two ways to run jobs from Python: `run` a graph to its end, `start` a worker."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from overseer_lite.config import cpus, load
from overseer_lite.errors import InvalidInputError, MissingHandlerError, OverseerError, StoreError, WorkersLostError
from overseer_lite.job import JobInfo, Status
from overseer_lite.liveness.spawn import Child, Exit, python_argv, spawn
from overseer_lite.store import Counts, FullStore, Store, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

_CUT_SHORT: Final = (4, 128 + signal.SIGINT, 128 + signal.SIGTERM)  # the time was up, a signal came
_ERROR_FD: Final = 3  # of a supervisor that is waited for: there it says why it could not go on


class ResultsByName(Mapping[str, Any]):
    """The results of a run's finished jobs, by name; each is read from the store when it is asked for.

    A job that has not finished is not in it; one that finished without a result has None.
    """

    def __init__(self, store: FullStore, jobs: Sequence[JobInfo]) -> None:
        self._store = store
        self._ids = {job.name: job.id for job in jobs if job.status is Status.FINISHED}

    def __getitem__(self, name: str) -> Any:
        info = self._store.job_info(self._ids[name])
        return None if info is None else info.result

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


class Outcome:
    """How a run ended, at the moment at which `run` returned.

    Attributes:
        run: The run's id.
        exit_code: What the command line would have ended with: 0 all finished; 1 a job failed, was aborted or is
            stuck; 4 timed out; 130, 143 stopped by a signal.
        counts: Jobs by status.
        failed: Ids of the jobs that failed or were aborted, in order of submission.
        results: The results of finished jobs by name; read when asked for, so a store that was pruned or removed since
            has none.
    """

    def __init__(self, store: FullStore, run: str, stopped: int) -> None:
        self.run = run
        self.counts: Counts = store.counts(run)
        self.exit_code = stopped or self.counts.exit_code
        jobs = store.jobs(run=run)
        self.failed = [job.id for job in jobs if job.status in (Status.FAILED, Status.ABORTED)]
        self.results: Mapping[str, Any] = ResultsByName(store, jobs)

    def __repr__(self) -> str:
        return f"Outcome(run={self.run!r}, exit_code={self.exit_code}, {self.counts})"


def run(
    app: str,
    *,
    n: int | None = None,
    id: str | None = None,
    args: dict[str, Any] | None = None,
    retry: bool = False,
    timeout: float | None = None,
    db: str | None = None,
    **settings: Any,
) -> Outcome:
    """Submit an app's graph, work on that run alone until nothing of it can run any more, and say how it ended.

    The workers are processes of their own, under a supervisor of its own; this process imports no app and no signal
    handler of it is touched. An exception that comes while it waits, such as Ctrl-C's KeyboardInterrupt, is raised when
    they have finished their current jobs and left; a second one stops them at once. They leave too if this process dies.
    What they log of trouble goes to stderr.

    Args:
        app: A module, `module:attribute` or `file.py`.
        n: How many workers; as many as there are CPUs unless given.
        id: Continue the run of that id, or begin it; without one, a new run.
        args: For the app's graph: keywords of its function, or shared args of its mapping.
        retry: First retry what failed or was aborted in the run; of use with an id only.
        timeout: Seconds after which everything is stopped and what was at work is put back; exit code 4.
        db: The store; the configured one unless given. It is made if there is none.
        settings: Other settings by name, as in `[tool.overseer_lite]`.

    Raises:
        InvalidInputError: The app, the graph or a setting cannot be used; nothing was stored.
        StoreError: The store cannot be used.
        WorkersLostError: Workers cannot be kept alive.
        OverseerError: The supervisor was killed, or ended by a fault of its own, which it has told on stderr.
    """
    from overseer_lite.runner import inspect_app

    overrides = {**settings, **({} if db is None else {"db": db})}
    config = load(overrides)
    described = inspect_app(app, args=args, graph=True, id=id)
    graph = described.graph
    missing = {job.type for job in graph.jobs} - described.types.keys()
    if missing:
        raise MissingHandlerError(missing, described.types)
    store = open_store(
        config.db,
        durability=config.durability,
        crash_limit=config.crash_limit,
        unsafe_filesystem=config.unsafe_filesystem,
    )
    store.install()
    store.transact_graph(graph)
    if retry:
        wanted = [job.id for job in store.jobs(run=graph.id) if job.status in (Status.FAILED, Status.ABORTED)]
        store.retry(wanted)
    plan = {
        "address": config.db,
        "app": app,
        "workers": n or cpus(),
        "run": graph.id,
        "drain": True,
        "timeout_s": timeout,
        "log_level": "WARNING",
    }
    exit_ = _supervise_to_its_end(plan, {**overrides, "db": config.db}, config.sentry_dsn)
    return Outcome(store, graph.id, exit_.code if exit_.code in _CUT_SHORT else 0)


def _supervise_to_its_end(plan: dict[str, Any], settings: Mapping[str, Any], sentry_dsn: str | None) -> Exit:
    """Run a supervisor in a process of its own; return how it ended. An exception here, such as Ctrl-C's, stops it.

    It is waited for all the same, since it stops in order: another one while it does so stops it at once.
    """
    child, errors = _start_supervisor(plan, settings, sentry_dsn)
    with errors:
        stopped: BaseException | None = None
        while True:
            try:
                exit_ = child.reap()
                break
            except BaseException as error:  # noqa: BLE001 - raised again once nobody of ours is left
                stopped = stopped or error
                child.signal(signal.SIGTERM)
        if stopped is not None:
            raise stopped
        _raise_end(exit_, errors.read())
        return exit_


def _supervise_until_stopped(plan: dict[str, Any], settings: Mapping[str, Any], sentry_dsn: str | None) -> None:
    """Run a supervisor in a process of its own until it is stopped, this process's signals being passed on to it."""
    child: Child | None = None
    early: list[int] = []

    def pass_on(signum: int, _frame: object) -> None:
        if child is None:
            early.append(signum)
        else:
            child.signal(signum)

    old = {signum: signal.signal(signum, pass_on) for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        child, errors = _start_supervisor(plan, settings, sentry_dsn)
        with errors:
            for signum in early:
                child.signal(signum)
            exit_ = child.reap()
            _raise_end(exit_, errors.read())
    finally:
        for signum, handler in old.items():
            signal.signal(signum, handler)


def _start_supervisor(
    plan: dict[str, Any], settings: Mapping[str, Any], sentry_dsn: str | None
) -> tuple[Child, BinaryIO]:
    """Start a supervisor, and return it with the pipe in which it says why it could not go on.

    Not in this process: whoever runs workers adopts, and kills, what the dead among them left. A child that another
    thread starts meanwhile could not be told from that.
    """
    # The one setting that is secret goes by the environment: arguments can be read by anybody.
    open_settings = {name: value for name, value in settings.items() if name != "sentry_dsn"}
    secret = {} if sentry_dsn is None else {"OVERSEER_LITE_SENTRY_DSN": sentry_dsn}
    argv = python_argv("overseer_lite.supervisor", [plan, open_settings, os.getpid(), _ERROR_FD])
    read_end, write_end = os.pipe()
    errors = os.fdopen(read_end, "rb")
    try:
        return spawn(argv, env={**os.environ, **secret}, descriptors={_ERROR_FD: write_end}), errors
    except BaseException:
        errors.close()
        raise
    finally:
        os.close(write_end)


def _raise_end(exit_: Exit, said: bytes) -> None:
    """Raise what a supervisor ended by, unless it was stopped."""
    told = json.loads(said) if said else {}
    if exit_.code == WorkersLostError.exit_code and told:
        raise WorkersLostError(told["deaths"], told["words"])
    if exit_.code == StoreError.exit_code and told:
        raise StoreError(told["words"])
    if exit_.code == InvalidInputError.exit_code and told:
        raise InvalidInputError(told["words"])
    if exit_.signal is not None:
        raise OverseerError(
            f"The supervisor was killed by signal {exit_.signal}; its workers finish their jobs and leave."
        )
    if exit_.code not in (None, 0, 1, *_CUT_SHORT):
        raise OverseerError(f"The supervisor ended with exit code {exit_.code}; see stderr.")


def start(
    store: Store,
    handlers: Mapping[str, Any] | None = None,
    *,
    app: str | None = None,
    workers: int | None = None,
    context: Callable[[], AbstractContextManager[Any]] | None = None,
    types: Sequence[str] | None = None,
    stop: threading.Event | None = None,
    **settings: Any,
) -> None:
    """Work on a store until stopped: one worker inline in this process, or n processes for an app.

    With handlers: one worker in the calling thread, until `stop` is set or an exception (Ctrl-C) comes. It beats and
    looks after dead workers; but a timeout cannot stop a handler here, and a crash takes this process along.

    With `app`: a supervisor in a process of its own, with `workers` worker processes, until SIGTERM or SIGINT: the current
    jobs are finished within the grace; a second signal stops at once. For as long, SIGTERM, SIGINT and SIGHUP of this
    process are passed on to it, so call this in the main thread. Other children of this process are left alone. If this
    process dies, current jobs are finished and all leave.

    Args:
        store: The store; with `app` one that is kept in a file. It must have been installed.
        handlers: By type: a `Handlers`, or a mapping to functions, Handlers, or mappings of stages.
        app: A module, `module:attribute` or `file.py`; instead of handlers.
        workers: How many processes; as many as there are CPUs unless given. For an app.
        context: Entered once; what it yields is `job.context`. For handlers; an app has its own.
        types: The only types to take.
        stop: Set by a handler or another thread, it ends the work after the current job. For handlers.
        settings: Other settings by name, as in `[tool.overseer_lite]`.

    Raises:
        TypeError: Handlers and an app were given, or neither.
        InvalidInputError: The handlers, the app or a setting cannot be used.
        StoreError: The store cannot be used.
        WorkersLostError: Workers cannot be kept alive.
        OverseerError: The supervisor was killed, or ended by a fault of its own, which it has told on stderr.
        ValueError: Called with an app, and not in the main thread.
    """
    config = load(settings)
    only = None if types is None else tuple(types)
    if app is not None:
        if handlers is not None:
            raise TypeError("start() takes handlers or an app, not both")
        address: str = store.path  # type: ignore[attr-defined]
        plan = {"address": address, "app": app, "workers": workers or cpus(), "types": only}
        _supervise_until_stopped(plan, settings, config.sentry_dsn)
        return
    if handlers is None:
        raise TypeError("start() needs handlers, or an app")
    from overseer_lite.worker.inline import InlineWorker

    worker = InlineWorker(
        store,
        handlers,
        context=context,
        types=only,
        heartbeat_interval_s=config.heartbeat_interval_s,
        tolerance=config.tolerance,
    )
    with worker:
        worker.work_until(stop or threading.Event())
