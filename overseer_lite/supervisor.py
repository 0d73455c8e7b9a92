"""The supervisor: starts n workers, replaces the dead ones at once, stops them in order, runs the monitor.

Two threads. The main one has the processes: it spawns (what ties a child to its parent's life is the forking thread),
signals, reaps, and never waits for the writer gate, since it must be able to kill a holder that stands still. The other
has the store: it buries the dead and sweeps.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import secrets
import select
import signal
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from overseer_lite import failpoints
from overseer_lite.config import Config, cpus, load
from overseer_lite.errors import InvalidInputError, OverseerError, StoreError, StoreUnavailableError, WorkersLostError
from overseer_lite.liveness.identity import Identity, read_stat, send_signal
from overseer_lite.liveness.spawn import Child, Exit, become_subreaper, python_argv, reap_strays, spawn, supports
from overseer_lite.liveness.tree import children, flock_holder
from overseer_lite.monitor import Monitor, clear_worker
from overseer_lite.runner import Inspection
from overseer_lite.store import open_store
from overseer_lite.worker.loop import STOPPED_GRACE_S
from overseer_lite.worker.process import EXIT_APP, EXIT_DRAINED, EXIT_STORE, LIFE_FD, REPORT_FD, SENTRY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from overseer_lite.store import FullStore

log = logging.getLogger("overseer_lite.supervisor")

SWEEP_S: Final = 1.0
TAKE_OVER_S: Final = 0.1
BACKOFF_S: Final = (0.1, 5.0)
DEATHS_LIMIT: Final = 5  # in a row, at one place, each before the worker's first job
RENEW_S: Final = 60.0  # for looking at an app before the runners are renewed
BURIAL_S: Final = 20.0  # for the last burials, once told to stop at once
STOPPED_HOLDER_S: Final = 10.0
LAST_GRACE_S: Final = 5.0
PARENT_LOOK_S: Final = 1.0
SPARE_AFTER_S: Final = 1.0  # all workers being well for so long, so that no start and no recovery has to share its CPU
SPARE_BACKOFF_S: Final = 60.0
START_TURN_S: Final = 0.25  # how long those that start now can hold up the next


class Plan(NamedTuple):
    """What a supervisor is to do.

    Attributes:
        address: The store; it must be there.
        app: The app whose handlers run.
        workers: How many workers.
        types: The only types they take.
        run: The only run they work on; then a stop by signal is no success.
        drain: End when nothing is left that could run.
        stop_on_failure: End, current jobs finished, as soon as a job of the run has failed or was aborted.
        failed_before: How many had before, which are no reason to end.
        timeout_s: End at once after so many seconds; exit code 4.
        settings: Where intervals and limits come from; the configured ones if None.
        log_level: What workers say.
        log_file: Where they say it: a path; stderr if None.
    """

    address: str
    app: str
    workers: int
    types: tuple[str, ...] | None = None
    run: str | None = None
    drain: bool = False
    stop_on_failure: bool = False
    failed_before: int = 0
    timeout_s: float | None = None
    settings: Config | None = None
    log_level: str = "INFO"
    log_file: str | None = None


class _Member:
    """A worker process, from its spawn to its burial. One without a place is a spare: it stands by."""

    __slots__ = (
        "_said",
        "begun_job",
        "child",
        "id",
        "life",
        "not_its",
        "place",
        "ready",
        "report",
        "stopped_at",
        "words",
    )

    def __init__(self, place: int | None, worker_id: str, child: Child, life: int, report: int) -> None:
        self.place = place
        self.id = worker_id
        self.child = child
        self.life = life  # our end of the pipe whose end tells the worker that we are gone
        self.report = report
        self.ready = False
        self.begun_job = False
        self.words = b""
        self._said = b""
        self.stopped_at: float | None = None
        self.not_its: set[Identity] = set()  # orphans that came to us while it lived, and so are another's

    def listen(self) -> None:
        """Read what the worker has reported so far."""
        with suppress(BlockingIOError):
            while data := os.read(self.report, 4096):
                self._said += data
        head, _, self.words = self._said.partition(b" ")
        self.ready, self.begun_job = b"r" in head, b"j" in head

    def call(self, place: int) -> None:
        """Have a spare take a place: it enters the store and works."""
        self.place = place
        with suppress(BrokenPipeError):  # it has just died: seen in a moment, and replaced like any other
            os.write(self.life, b"!")

    def close(self) -> None:
        """Let go of its pipes."""
        os.close(self.life)
        os.close(self.report)


class _Watch(threading.Thread):
    """The thread that has the store: buries the dead it is told of, and sweeps."""

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__(name="monitor", daemon=True)
        self._supervisor = supervisor
        self._orders: queue.SimpleQueue[_Member | None] = queue.SimpleQueue()
        self.trouble: BaseException | None = None
        self.waiting_since: float | None = None
        self._acting: Any = None

    def bury(self, member: _Member) -> None:
        """Order a dead worker's burial."""
        self._orders.put(member)

    def end(self, timeout_s: float) -> None:
        """End when all that was ordered is done; at most so many seconds are waited for that."""
        self._orders.put(None)
        self.join(timeout_s)

    def run(self) -> None:
        supervisor = self._supervisor
        try:
            store = supervisor.open_store()
            monitor = supervisor.monitor(
                store,
                silent_for_s=supervisor.silent_for_s,
                spare=supervisor.living,
                adopted=supervisor.kill_adopted,
            )
            try:
                self._loop(store, monitor)
            finally:
                monitor.close()
                store.close()
                if self._acting is not None:
                    self._acting.release()
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.trouble = error
            supervisor.wake()

    def _loop(self, store: FullStore, monitor: Monitor) -> None:
        pending: list[_Member] = []
        next_sweep = 0.0
        ending = False
        while not (ending and not pending):
            with suppress(queue.Empty):
                wait_s = 0.05 if pending else max(0.0, next_sweep - time.monotonic())
                while True:
                    order = self._orders.get(timeout=wait_s) if wait_s else self._orders.get_nowait()
                    if order is None:
                        ending = True
                    else:
                        pending.append(order)
                    wait_s = 0.0
            try:
                pending = [member for member in pending if not self._buried(monitor, member)]
                now = time.monotonic()
                if now >= next_sweep and not ending:
                    acting = self._is_acting(store)
                    next_sweep = now + (self._supervisor.sweep_s if acting else TAKE_OVER_S)
                    if acting:
                        monitor.sweep({member.id for member in self._supervisor.members.copy().values()})
            except StoreUnavailableError as error:
                log.warning("The monitor has to wait: %s", error)
                time.sleep(0.2)

    def _buried(self, monitor: Monitor, member: _Member) -> bool:
        done = monitor.recover(member.id, monitor.in_this_boot(member.child.identity))
        if done is None and os.path.lexists(monitor.path(member.id)):
            return False
        self._supervisor.reap(member)
        if done is not None and done.reset:
            log.info("Worker %s is buried, %d jobs put back in %.1f ms", member.id, len(done.reset), done.took_s * 1e3)
        return True

    def _is_acting(self, store: FullStore) -> bool:
        """Whether this is the one acting monitor of the store; tries to become it."""
        if self._acting is None:
            from filelock import FileLock, Timeout

            lock = FileLock(
                os.path.join(store.state_directory, "monitor.lock"),
                mode=0o600,
                fallback_to_soft=False,
                thread_local=False,
            )
            try:
                lock.acquire(blocking=False)
            except Timeout:
                return False
            self._acting = lock
            log.debug("This supervisor runs the store's monitor")
        return True


class Supervisor:
    """Parent of n workers, for as long as `run` lasts. Must be made and run in a main thread.

    Attributes:
        monitor: What looks after the store's workers.
        sweep_s: Seconds between two looks.
    """

    monitor: type[Monitor] = Monitor
    sweep_s = SWEEP_S

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.settings = plan.settings or load()
        self.members: dict[int, _Member] = {}
        self._burying: dict[int, _Member] = {}
        self._lock = threading.Lock()
        self._deaths: dict[int, int] = {}  # by place
        self._to_start = deque(range(plan.workers))  # places that never had a worker yet
        self._start_at = 0.0
        self._respawn_at: dict[int, float] = {}
        self._spare_at: float | None = None
        self._spare_deaths = 0  # in a row
        self._look_at = 0.0
        self._signals: list[int] = []
        self._hangup = False
        self._stage = 0  # 0 open, 1 finishing, 2 now, 3 killed
        self._stage_at = 0.0
        self._verdict: int | None = None
        self._gave_up = False  # waiting for burials
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._identity = Identity.mine()
        self._holder: tuple[int, float] | None = None
        self._parting: OverseerError | None = None
        self._inspection: Inspection | None = None
        self._inspect_until = 0.0
        # Children that somebody else in this process has, or that came with it: never ours to reap or to kill.
        self._guests = children(os.getpid())
        self._watch = _Watch(self)
        self._log_fd = (
            os.open(plan.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600) if plan.log_file else 2
        )
        self._counts: FullStore | None = None

    @property
    def silent_for_s(self) -> float:
        """Seconds without a beat after which a worker is silent."""
        return float(self.settings.heartbeat_interval_s * self.settings.tolerance)

    def open_store(self) -> FullStore:
        """Open the store anew; one object a thread."""
        return open_store(self.plan.address, **self._store_options(), timeout_s=60.0)

    def _store_options(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "durability": settings.durability,
            "crash_limit": settings.crash_limit,
            "unsafe_filesystem": settings.unsafe_filesystem,
        }

    def wake(self) -> None:
        """End the main thread's wait."""
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    # ---- for the monitor's thread

    def living(self) -> list[int]:
        """Return the pids of processes of ours that live, ourselves included."""
        with self._lock:
            return [os.getpid(), *(member.child.pid for member in self.members.values())]

    def kill_adopted(self, worker: str | None = None) -> list[Identity]:
        """Kill orphans that dead workers left to us; return those that may be this one's: anybody's, if None.

        A worker that lives adopts its own orphans. So whoever comes to us, and is no worker, is a dead one's; and not
        that of a worker that was still alive when the orphan was seen here.
        """
        with self._lock:
            known = {member.child.pid for member in (*self.members.values(), *self._burying.values())} | self._guests
            if self._inspection is not None:
                known.add(self._inspection.child.pid)
            strangers = {who for pid in children(os.getpid()) - known if (who := Identity.of(pid)) is not None}
            for member in self.members.values():
                if strangers and member.child.exited() is None:
                    member.not_its = strangers
            mine = [member.not_its for member in self._burying.values() if worker in (None, member.id)]
        found = []
        for stranger in strangers:
            stat = read_stat(stranger.pid)
            if stat is not None and not stat.dead and stat.ppid == os.getpid():
                send_signal(stranger, signal.SIGKILL)
                if any(stranger not in others for others in mine):
                    found.append(stranger)
        reap_strays(known)
        return found

    def reap(self, member: _Member) -> None:
        """A dead worker's jobs are put back: its pid may be given to others now."""
        with self._lock:
            self._burying.pop(member.child.pid, None)
            member.child.reap()
        self.wake()

    # ---- the main thread

    def run(self, on_tick: Callable[[], None] | None = None, tick_s: float = 0.1) -> int:
        """Supervise until it is done; return the exit code.

        Raises:
            WorkersLostError: Workers die before their first job, again and again.
            StoreError: The store cannot be used (any more).
            InvalidInputError: The app cannot be used.
        """
        missing = [name for name, there in supports().items() if not there]
        if missing:
            log.warning(
                "This system lacks %s: deaths are found by polling and by silence, more slowly", ", ".join(missing)
            )
        self._check_store()
        become_subreaper()
        restore = self._take_signals()
        begun = time.monotonic()
        try:
            self._start()
            self._watch.start()
            while (self.members or self._burying or self._to_start or self._respawn_at) and not self._gives_up():
                self._turn(on_tick, tick_s, begun)
            self._watch.end(0.0 if self._gave_up else BURIAL_S)
            self._raise_trouble()
            if self._parting is not None:
                raise self._parting
            return self._exit_code()
        finally:
            self._abandon()
            restore()

    def _gives_up(self) -> bool:
        """Whether, told to stop at once, we have waited long enough for burials: the next supervisor sees to them."""
        if self._stage < 2 or self.members or time.monotonic() - self._stage_at < BURIAL_S:
            return False
        names = ", ".join(member.id for member in self._burying.values())
        log.error("Workers %s are dead and not buried: what they held stays started until the next supervisor", names)
        self._gave_up = True
        return True

    def _check_store(self) -> None:
        store = self.open_store()
        try:
            store.counts("")
        finally:
            store.close()

    def _turn(self, on_tick: Callable[[], None] | None, tick_s: float, begun: float) -> None:
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        for member in self.members.values():
            poller.register(member.report, select.POLLIN)
            if member.child.pidfd is not None:
                poller.register(member.child.pidfd, select.POLLIN)
        if self._inspection is not None:
            poller.register(self._inspection, select.POLLIN)
        poller.poll(self._patience_s(on_tick, tick_s, begun) * 1000)
        with suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        for member in list(self.members.values()):
            member.listen()
            exit_ = member.child.exited()
            if exit_ is not None:
                self._died(member, exit_)
        self._obey(begun)
        self._finish_renewal()
        self._start()
        self._respawn()
        self._keep_spares()
        self._watch_starts()
        self._watch_gate()
        self._raise_trouble()
        if on_tick is not None:
            on_tick()

    def _patience_s(self, on_tick: Callable[[], None] | None, tick_s: float, begun: float) -> float:
        patience = 1.0
        if on_tick is not None:
            patience = min(patience, tick_s)
        if self.plan.stop_on_failure:
            patience = min(patience, 0.2)
        if self._inspection is not None:
            patience = min(patience, 0.1)
        if not supports()["pidfd"]:
            patience = min(patience, 0.05)
        now = time.monotonic()
        if self._to_start:
            patience = min(patience, self._start_at - now)
        if self._respawn_at:
            patience = min(patience, min(self._respawn_at.values()) - now)
        if self._spare_at is not None:
            patience = min(patience, self._spare_at - now)
        if self.plan.timeout_s is not None:
            patience = min(patience, begun + self.plan.timeout_s - now)
        if self._stage in (1, 2):
            grace_s = self.settings.grace_s if self._stage == 1 else LAST_GRACE_S
            patience = min(patience, max(0.05, self._stage_at + grace_s - now))
        return max(0.0, patience)

    def _spawn(self, place: int | None) -> None:
        """Start a worker for a place, or a spare."""
        plan, settings = self.plan, self.settings
        worker_id = f"{'s' if place is None else f'w{place + 1}'}-{secrets.token_hex(4)}"
        life_read, life_write = os.pipe()
        report_read, report_write = os.pipe()
        os.set_blocking(report_read, False)
        config = {
            "id": worker_id,
            "address": plan.address,
            "store": self._store_options(),
            "app": plan.app,
            "types": plan.types,
            "run": plan.run,
            "drain": plan.drain,
            "heartbeat_interval_s": settings.heartbeat_interval_s,
            "supervisor": self._identity.to_text(),
            "spare": place is None,
            "log_level": plan.log_level,
        }
        argv = python_argv("overseer_lite.worker.process", config)
        ours = [life_write, report_read]
        try:
            with self._lock:
                child = spawn(
                    argv,
                    env=self._environment(),
                    descriptors={LIFE_FD: life_read, REPORT_FD: report_write},
                    stdout=self._log_fd,
                    stderr=self._log_fd,
                )
                self.members[child.pid] = _Member(place, worker_id, child, life_write, report_read)
                ours.clear()
        except OSError as error:  # no process or descriptor is left just now
            if place is None:
                self._spare_deaths += 1
            else:
                self._try_again(place, f"it cannot be started: {error}")
        finally:
            for fd in (life_read, report_write, *ours):
                os.close(fd)

    def _environment(self) -> dict[str, str]:
        """Return what workers get: ours, and the one setting that is secret. Arguments can be read by anybody."""
        dsn = self.settings.sentry_dsn
        return {**os.environ, **({} if dsn is None else {SENTRY_VARIABLE: dsn})}

    # ---- deaths

    def _died(self, member: _Member, exit_: Exit) -> None:
        member.listen()
        with self._lock:
            del self.members[member.child.pid]
            self._burying[member.child.pid] = member
        member.close()
        words = member.words.decode("utf-8", "replace").strip()
        place = member.place
        if exit_.code == EXIT_DRAINED:
            self._finish(0)
        elif exit_.code == EXIT_STORE:
            self._fail(StoreError(words or "The store cannot be used."))
        elif place is None:
            self._spare_died(member, exit_, words)
        elif exit_.code == EXIT_APP:
            self._app_is_broken(InvalidInputError(words or "The app cannot be used."))
        elif self._stage == 0 and exit_.code != 0:
            self._replace(member, place, exit_, words)
        elif self._stage == 0:
            self._respawn_at[place] = time.monotonic()
        # Whatever it left, even after an orderly end, is looked at: no row, no file, nothing to do.
        self._watch.bury(member)

    def _replace(self, member: _Member, place: int, exit_: Exit, words: str) -> None:
        outside = exit_.signal == signal.SIGKILL
        how = _how(exit_)
        log.warning("Worker %s died (%s)%s", member.id, how, f": {words}" if words else "")
        if not member.begun_job and not outside:
            self._try_again(place, words or how)
            return
        if member.begun_job:
            self._deaths.pop(place, None)
        self._respawn_at[place] = time.monotonic()

    def _spare_died(self, member: _Member, exit_: Exit, words: str) -> None:
        """Say that a spare died. The next comes later each time: the app may be broken by now; whoever lives goes on."""
        if self._stage == 0 and exit_.code != 0:
            self._spare_deaths += 1
            log.warning("Spare worker %s died (%s)%s", member.id, _how(exit_), f": {words}" if words else "")

    def _try_again(self, place: int, why: str) -> None:
        """Start a worker once more after one came to nothing: later each time, and not for ever."""
        deaths = self._deaths[place] = self._deaths.get(place, 0) + 1
        if deaths >= DEATHS_LIMIT:
            self._fail(WorkersLostError(deaths, why))
            return
        self._respawn_at[place] = time.monotonic() + min(BACKOFF_S[0] * 2 ** (deaths - 1), BACKOFF_S[1])

    def _start(self) -> None:
        """Start workers, as many at a time as there are CPUs: side by side each would have its first job later.

        Not for ever: what an app waits for when it is imported must not hold up the workers of other CPUs.
        """
        if self._stage:
            self._to_start.clear()
        now = time.monotonic()
        while self._to_start and (now >= self._start_at or self._starting() < cpus()):
            self._start_at = now + START_TURN_S
            self._spawn(self._to_start.popleft())

    def _starting(self) -> int:
        return sum(not member.ready for member in self.members.values())

    def _respawn(self) -> None:
        if self._stage:
            self._respawn_at.clear()
        now = time.monotonic()
        for place, at in list(self._respawn_at.items()):
            if now >= at:
                del self._respawn_at[place]
                self._fill(place)

    def _fill(self, place: int) -> None:
        """Have a spare take a place, if one stands by; else start a worker for it."""
        for spare in self._spares():
            if not spare.child.stopped():
                log.info("Spare worker %s takes the place of the dead one", spare.id)
                spare.call(place)
                self._spare_deaths = 0
                return
        self._spawn(place)

    def _spares(self) -> list[_Member]:
        return [member for member in self.members.values() if member.place is None]

    def _keep_spares(self) -> None:
        """Start a spare once all workers have been well for a while."""
        spares = self._spares()
        workers = [member for member in self.members.values() if member.place is not None]
        missing = len(spares) < self.settings.spares
        well = len(workers) == self.plan.workers and all(member.ready for member in workers)
        if self._stage or not missing or not well:
            self._spare_at = None
            return
        now = time.monotonic()
        if self._spare_at is None:
            self._spare_at = now + min(SPARE_AFTER_S * 2**self._spare_deaths, SPARE_BACKOFF_S)
        elif now >= self._spare_at:
            self._spare_at = None
            self._spawn(None)

    def _watch_starts(self) -> None:
        """Kill whoever stands still and is not in the store yet: nobody would ever miss its beats."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + 0.5
        for member in self.members.values():
            if member.ready or not member.child.stopped():
                member.stopped_at = None
            elif member.stopped_at is None:
                member.stopped_at = now
            elif now - member.stopped_at > STOPPED_GRACE_S:
                log.warning("Worker %s stands still (state T) before it has entered; it is killed", member.id)
                member.child.signal(signal.SIGKILL)

    def _app_is_broken(self, error: InvalidInputError) -> None:
        """Stop; but what others have begun with the app as it was before is finished first."""
        if any(member.begun_job for member in self.members.values()):
            log.error("%s", error)
            self._parting = self._parting or error
            self._finish(error.exit_code)
        else:
            self._fail(error)

    def _fail(self, error: OverseerError) -> None:
        if self._watch.trouble is None:
            self._watch.trouble = error

    def _raise_trouble(self) -> None:
        if self._watch.trouble is not None:
            raise self._watch.trouble

    # ---- stopping

    def _take_signals(self) -> Callable[[], None]:
        def note(signum: int, _frame: object) -> None:
            if signum == signal.SIGHUP:
                self._hangup = True
            else:
                self._signals.append(signum)

        old = {signum: signal.signal(signum, note) for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        old_fd = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

        def restore() -> None:
            signal.set_wakeup_fd(old_fd)
            for signum, handler in old.items():
                signal.signal(signum, handler)

        return restore

    def _obey(self, begun: float) -> None:
        now = time.monotonic()
        if self._hangup:
            self._hangup = False
            self._renew()
        if self.plan.timeout_s is not None and now - begun >= self.plan.timeout_s and self._stage < 2:
            log.warning("Time is up after %g s; stopping at once", self.plan.timeout_s)
            self._verdict = 4
            self._stop(2)
        if self.plan.stop_on_failure and self._stage == 0 and self._something_failed():
            log.warning("A job failed; finishing what runs, starting nothing more")
            self._finish(0)
        if len(self._signals) > self._stage and self._stage < 2:
            self._stop(min(len(self._signals), 2))
        if self._stage == 1 and now - self._stage_at > self.settings.grace_s:
            log.warning("The grace of %g s is over; stopping at once", self.settings.grace_s)
            self._stop(2)
        if self._stage == 2 and now - self._stage_at > LAST_GRACE_S:
            log.warning("Workers do not stop; they are killed")
            self._stop(3)

    def _finish(self, verdict: int) -> None:
        if self._verdict is None:
            self._verdict = verdict
        if self._stage == 0:
            self._stop(1)

    def _stop(self, stage: int) -> None:
        before, self._stage, self._stage_at = self._stage, stage, time.monotonic()
        # Two signals, since two of one kind may arrive as one.
        signals = {1: (signal.SIGTERM,), 2: (signal.SIGTERM, signal.SIGINT)[before:], 3: (signal.SIGKILL,)}[stage]
        for member in self.members.values():
            for signum in signals:
                member.child.signal(signum)
        if stage == 1:
            # Asked for by a signal, somebody waits and wants to know: for what, and how not to.
            log.log(
                logging.WARNING if self._signals else logging.INFO,
                "Stopping: current jobs have %g s to finish, no more are taken%s",
                self.settings.grace_s,
                "; a second signal stops at once" if self._signals else "",
            )

    def _exit_code(self) -> int:
        if self._verdict is not None:
            return self._verdict
        # A grace that is over stands for the second signal: jobs were cut short, so it was no stop in order.
        if self._signals and (self.plan.run is not None or self._stage > 1):
            return 128 + self._signals[-1]
        return 0

    def _renew(self) -> None:
        """Have every worker replace its runner after its current job, once the app is known to load."""
        if self._inspection is not None:
            self._inspection.close()
        try:
            self._inspection = Inspection(self.plan.app)
        except OSError as error:
            self._inspection = None
            log.error("The runners are not renewed: %s", error)  # noqa: TRY400 - the system's error, in one line
        self._inspect_until = time.monotonic() + RENEW_S

    def _finish_renewal(self) -> None:
        """Renew the runners, if the app has been looked at meanwhile and is well."""
        inspection = self._inspection
        if inspection is None:
            return
        try:
            if inspection.answer() is None:
                if time.monotonic() > self._inspect_until:
                    raise InvalidInputError(f"Importing app {self.plan.app!r} took longer than {RENEW_S:g} s.")  # noqa: TRY301
                return
            log.info("The runners are renewed, each after its current job")
            for member in self.members.values():
                # A spare has the old code, and nothing to finish: it goes, another comes.
                member.child.signal(signal.SIGTERM if member.place is None else signal.SIGHUP)
            self._spare_deaths = 0
        except InvalidInputError as error:
            log.error("The runners are not renewed: %s", error)  # noqa: TRY400 - the app's error, in one line
        inspection.close()
        self._inspection = None

    def _something_failed(self) -> bool:
        if self._counts is None:
            self._counts = self.open_store()
        try:
            counts = self._counts.counts(self.plan.run)
        except StoreUnavailableError as error:
            log.warning("Cannot look for failed jobs: %s", error)
            return False
        return counts.failed + counts.aborted > self.plan.failed_before

    def _watch_gate(self) -> None:
        """Kill whoever stands still while holding the writer gate: nothing can be written until it is gone."""
        path = os.path.join(self._state_directory(), "gate")
        with suppress(OSError):
            pid = flock_holder(path)
            stat = read_stat(pid) if pid else None
            if pid is None or stat is None or stat.state not in "Tt":
                self._holder = None
                return
            now = time.monotonic()
            if self._holder is None or self._holder[0] != pid:
                self._holder = (pid, now)
                log.warning("Process %d stands still (state T) and holds the writer gate", pid)
            elif now - self._holder[1] > STOPPED_HOLDER_S:
                log.warning("Process %d is killed: it stood still holding the writer gate", pid)
                identity = Identity.of(pid)
                if identity is not None:
                    send_signal(identity, signal.SIGKILL)
                self._holder = None

    def _state_directory(self) -> str:
        if not hasattr(self, "_state"):
            store = self.open_store()
            self._state = store.state_directory
            store.close()
        return self._state

    def _abandon(self) -> None:
        """Leave nobody behind when an error ends us: kill the workers and have them buried."""
        for member in list(self.members.values()):
            member.child.signal(signal.SIGKILL)
            while member.child.exited() is None:
                if member.child.pidfd is not None:
                    select.select([member.child.pidfd], [], [], 1.0)
                else:
                    time.sleep(0.01)
            with self._lock:
                del self.members[member.child.pid]
                self._burying[member.child.pid] = member
            member.close()
            self._watch.bury(member)
        if self._watch.is_alive():
            self._watch.end(0.0 if self._gave_up else BURIAL_S)
        if self._inspection is not None:
            self._inspection.close()
        self._clear_unburied()
        for fd in (self._wake_read, self._wake_write):
            with suppress(OSError):
                os.close(fd)
        if self._log_fd != 2:
            os.close(self._log_fd)
        if self._counts is not None:
            self._counts.close()

    def _clear_unburied(self) -> None:
        """Kill what dead workers left, without the store: it is what fails. Their jobs wait for the next supervisor."""
        until = time.monotonic() + LAST_GRACE_S  # for all of them: one that will not go must not keep us
        for member in self._burying.values():
            left_s = max(0.0, until - time.monotonic())
            cleared, lock = clear_worker(self._state_directory(), member.id, (member.child.identity,), timeout_s=left_s)
            if lock is not None:
                lock.release()
            if cleared.done:
                member.child.reap()
        if self._burying:
            self.kill_adopted()


def _how(exit_: Exit) -> str:
    return f"signal {exit_.signal}" if exit_.signal is not None else f"exit code {exit_.code}"


def supervise(
    plan: Plan,
    on_tick: Callable[[], None] | None = None,
    tick_s: float = 0.1,
    *,
    kind: type[Supervisor] = Supervisor,
) -> int:
    """Start the plan's workers and keep them until they are done or stopped; return the exit code.

    Runs in the main thread. 0: drained, or stopped in order, every current job having ended within the grace; 4: timed
    out; 128 + signal: stopped at once, by a second signal or the end of the grace, or a run stopped at all.

    Args:
        on_tick: Called about every `tick_s` in between, for whoever shows something.
        kind: Which supervisor.

    Raises:
        WorkersLostError: Workers die before their first job, again and again.
        StoreError: The store cannot be used.
        InvalidInputError: The app cannot be used.
    """
    failpoints.load("supervisor")
    return kind(plan).run(on_tick, tick_s)


def main(arguments: list[str], kind: type[Supervisor] = Supervisor) -> None:
    """Start as a process that `overseer_lite.run` or `start` spawned; the one argument is JSON: a plan, and settings.

    Third there may be the pid of whoever waits for it: when that process is gone, current jobs are finished and all leave.
    Fourth a descriptor on which to say, as JSON, why it could not go on; stderr without.

    Args:
        kind: Which supervisor.
    """
    from overseer_lite.log import configure

    given, overrides, parent, error_fd = [*json.loads(arguments[0]), None, None][:4]
    plan = Plan(**given, settings=load(overrides))
    configure(plan.log_level, "supervisor")
    try:
        code = supervise(plan, None if parent is None else _leave_with(parent), PARENT_LOOK_S, kind=kind)
    except OverseerError as error:
        _report(error, error_fd)
        code = error.exit_code
    sys.exit(code)


def _leave_with(parent: int) -> Callable[[], None]:
    """Return what is to be called now and then: it stops this process in order once its parent is gone."""
    gone = False

    def look() -> None:
        nonlocal gone
        if not gone and os.getppid() != parent:
            gone = True
            log.warning("Process %d, which started this supervisor, is gone", parent)
            os.kill(os.getpid(), signal.SIGTERM)

    return look


def _report(error: OverseerError, error_fd: int | None) -> None:
    if error_fd is None:
        sys.stderr.write(f"{error}\n")
        return
    deaths, words = (error.deaths, error.last_words) if isinstance(error, WorkersLostError) else (0, str(error))
    os.write(error_fd, json.dumps({"deaths": deaths, "words": words}).encode())  # a pipe's buffer takes it at once
