"""The supervisor's main thread: the processes. It spawns, signals and reaps workers, and never waits for the gate."""

from __future__ import annotations

import logging
import os
import secrets
import select
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from overseer_lite import failpoints
from overseer_lite.config import load
from overseer_lite.errors import InvalidInputError, OverseerError, StoreError, StoreUnavailableError, WorkersLostError
from overseer_lite.liveness.identity import Identity, read_stat, send_signal
from overseer_lite.liveness.spawn import become_subreaper, python_argv, reap_strays, spawn, supports
from overseer_lite.liveness.tree import children
from overseer_lite.monitor import Monitor, clear_worker
from overseer_lite.store import open_store
from overseer_lite.supervisor.member import Member, how
from overseer_lite.supervisor.places import DEATHS_LIMIT, Places, Spares
from overseer_lite.supervisor.renewal import Renewal
from overseer_lite.supervisor.standstill import GateWatch, StartWatch
from overseer_lite.supervisor.store_thread import StoreThread
from overseer_lite.worker.process import EXIT_APP, EXIT_DRAINED, EXIT_STORE, LIFE_FD, REPORT_FD, SENTRY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from overseer_lite.liveness.spawn import Exit
    from overseer_lite.store import FullStore
    from overseer_lite.supervisor.plan import Plan

log = logging.getLogger("overseer_lite.supervisor")

SWEEP_S: Final = 1.0
BURIAL_S: Final = 20.0  # for the last burials, once told to stop at once
LAST_GRACE_S: Final = 5.0


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
        self.members: dict[int, Member] = {}
        self._burying: dict[int, Member] = {}
        self._lock = threading.Lock()
        self._places = Places(plan.workers)
        self._spares = Spares(self.settings.spares)
        self._renewal = Renewal(plan.app)
        self._start_watch = StartWatch()
        self._gate_watch: GateWatch | None = None
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
        self._parting: OverseerError | None = None
        # Children that somebody else in this process has, or that came with it: never ours to reap or to kill.
        self._guests = children(os.getpid())
        self._store_thread = StoreThread(self)
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
            if (inspection := self._renewal.inspection) is not None:
                known.add(inspection.child.pid)
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

    def reap(self, member: Member) -> None:
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
            self._store_thread.start()
            while (self.members or self._burying or self._places) and not self._gives_up():
                self._turn(on_tick, tick_s, begun)
            self._store_thread.end(0.0 if self._gave_up else BURIAL_S)
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
            if member.child.pidfd is not None:
                poller.register(member.child.pidfd, select.POLLIN)
            if member.child.pidfd is None or not member.hung_up:
                poller.register(member.report, select.POLLIN)
        if self._renewal.inspection is not None:
            poller.register(self._renewal.inspection, select.POLLIN)
        quiet = not poller.poll(self._patience_s(on_tick, tick_s, begun) * 1000)
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
        self._keep_spares()
        self._start_watch.look(self.members.values())
        self._watch_gate(quiet=quiet)
        self._raise_trouble()
        if on_tick is not None:
            on_tick()

    def _patience_s(self, on_tick: Callable[[], None] | None, tick_s: float, begun: float) -> float:
        patience = 1.0
        if on_tick is not None:
            patience = min(patience, tick_s)
        if self.plan.stop_on_failure:
            patience = min(patience, 0.2)
        if self._renewal.inspection is not None:
            patience = min(patience, 0.1)
        if not supports()["pidfd"]:
            patience = min(patience, 0.05)
        now = time.monotonic()
        patience = min([patience, *(at - now for at in self._places.next_at())])
        if self._spares.at is not None:
            patience = min(patience, self._spares.at - now)
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
                self.members[child.pid] = Member(place, worker_id, child, life_write, report_read)
                ours.clear()
        except OSError as error:  # no process or descriptor is left just now
            if place is None:
                self._spares.deaths += 1
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

    def _died(self, member: Member, exit_: Exit) -> None:
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
            self._places.vacate(place)
        # Whatever it left, even after an orderly end, is looked at: no row, no file, nothing to do.
        self._store_thread.bury(member)

    def _replace(self, member: Member, place: int, exit_: Exit, words: str) -> None:
        outside = exit_.signal == signal.SIGKILL
        ended = how(exit_)
        log.warning("Worker %s died (%s)%s", member.id, ended, f": {words}" if words else "")
        if not member.begun_job and not outside:
            self._try_again(place, words or ended)
            return
        self._places.vacate(place, worked=member.begun_job)

    def _spare_died(self, member: Member, exit_: Exit, words: str) -> None:
        """Say that a spare died. The next comes later each time: the app may be broken by now; whoever lives goes on."""
        if self._stage == 0 and exit_.code != 0:
            self._spares.deaths += 1
            log.warning("Spare worker %s died (%s)%s", member.id, how(exit_), f": {words}" if words else "")

    def _try_again(self, place: int, why: str) -> None:
        """Start a worker once more after one came to nothing: later each time, and not for ever."""
        deaths = self._places.put_off(place)
        if deaths >= DEATHS_LIMIT:
            self._fail(WorkersLostError(deaths, why))

    def _start(self) -> None:
        """Start workers for the places that have none."""
        if self._stage:
            self._places.clear()
        for place in self._places.first(self._starting):
            self._spawn(place)
        for place in self._places.again():
            self._fill(place)

    def _starting(self) -> int:
        return sum(not member.ready for member in self.members.values())

    def _fill(self, place: int) -> None:
        """Have a spare take a place, if one stands by; else start a worker for it."""
        for spare in self._standing():
            if not spare.child.stopped():
                log.info("Spare worker %s takes the place of the dead one", spare.id)
                spare.call(place)
                self._spares.deaths = 0
                return
        self._spawn(place)

    def _standing(self) -> list[Member]:
        return [member for member in self.members.values() if member.place is None]

    def _keep_spares(self) -> None:
        """Start a spare once all workers have been well for a while."""
        workers = [member for member in self.members.values() if member.place is not None]
        well = not self._stage and len(workers) == self.plan.workers and all(member.ready for member in workers)
        if self._spares.due(len(self._standing()), well=well):
            self._spawn(None)

    def _app_is_broken(self, error: InvalidInputError) -> None:
        """Stop; but what others have begun with the app as it was before is finished first."""
        if any(member.begun_job for member in self.members.values()):
            log.error("%s", error)
            self._parting = self._parting or error
            self._finish(error.exit_code)
        else:
            self._fail(error)

    def _fail(self, error: OverseerError) -> None:
        if self._store_thread.trouble is None:
            self._store_thread.trouble = error

    def _raise_trouble(self) -> None:
        if self._store_thread.trouble is not None:
            raise self._store_thread.trouble

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
            self._renewal.begin()
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

    def _finish_renewal(self) -> None:
        """Have every worker replace its runner after its current job, once the app was found to load."""
        if not self._renewal.found_well():
            return
        log.info("The runners are renewed, each after its current job")
        for member in self.members.values():
            # A spare has the old code, and nothing to finish: it goes, another comes.
            member.child.signal(signal.SIGTERM if member.place is None else signal.SIGHUP)
        self._spares.deaths = 0

    def _something_failed(self) -> bool:
        if self._counts is None:
            self._counts = self.open_store()
        try:
            counts = self._counts.counts(self.plan.run)
        except StoreUnavailableError as error:
            log.warning("Cannot look for failed jobs: %s", error)
            return False
        return counts.failed + counts.aborted > self.plan.failed_before

    def _watch_gate(self, *, quiet: bool) -> None:
        if self._gate_watch is None:
            self._gate_watch = GateWatch(self._state_directory())
        self._gate_watch.look(quiet=quiet)

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
            self._store_thread.bury(member)
        if self._store_thread.is_alive():
            self._store_thread.end(0.0 if self._gave_up else BURIAL_S)
        self._renewal.close()
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
