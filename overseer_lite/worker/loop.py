"""The worker's loop: one step waits for something to happen, gathers what ended, and makes one exchange with the store.

    wait -> gather (ends, deaths, wishes, time that ran out) -> exchange (settle these, reserve those) -> give

What has ended waits in `_settlements` until an exchange was committed. If the store cannot be written just now, it goes
on waiting, visibly; beats go on, since another thread gives them. After an exchange whose outcome is unknown, what the
store says is true: settling again is a success, and what was reserved unseen is handed back.
"""

from __future__ import annotations

import logging
import selectors
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from overseer_lite import failpoints
from overseer_lite.errors import StoreBusyError, StoreUnavailableError
from overseer_lite.handler import limits_of
from overseer_lite.job import Attempt, Evidence, Failure, Outcome, Settlement
from overseer_lite.liveness.identity import signal_name
from overseer_lite.liveness.workerfile import BEGUN, ENDED, SLOTS
from overseer_lite.worker.pace import GATHER_S, LONG_S, Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from overseer_lite.handler import Options
    from overseer_lite.job import ReservedJob
    from overseer_lite.liveness.spawn import Exit
    from overseer_lite.liveness.workerfile import Slot, Times, WorkerFile
    from overseer_lite.runner.process import Dead, ProcessRunner
    from overseer_lite.runner.protocol import Ended
    from overseer_lite.store import Bell, Exchange, FullStore

log = logging.getLogger("overseer_lite.worker")

TICK_S: Final = 0.5  # while a job runs: its time, its runner's state
DRAIN_TICK_S: Final = 1.0
STOPPED_GRACE_S: Final = 2.0
RETRY_STORE_S: Final = 0.5
RUNNER_END_S: Final = 5.0
FLOOD_TICK_S: Final = 0.02  # while a handler's output grows fast: it is cut before it fills the disk
KILLED_STARTS: Final = 5  # runners that somebody may kill in a row while they start
SIGKILL: Final = 9

OPEN, FINISHING, NOW = range(3)


class WorkerSpec(NamedTuple):
    """What a worker is to do.

    Attributes:
        id: Its id; unique among all workers the store has ever had.
        types: The only types it takes, if not all that its app handles.
        run: The only run it works on.
        drain: End when nothing is left that it could run.
        heartbeat_interval_s: Seconds between two beats.
    """

    id: str
    types: tuple[str, ...] | None = None
    run: str | None = None
    drain: bool = False
    heartbeat_interval_s: float = 10.0


class Held(NamedTuple):
    """A job that was reserved and given to the runner."""

    job: ReservedJob
    token: int
    slot: int
    given_us: int  # monotonic


class Worker:
    """One worker in its loop, `work_once` being one turn of it."""

    def __init__(
        self,
        spec: WorkerSpec,
        store: FullStore,
        file: WorkerFile,
        new_runner: Callable[[], ProcessRunner],
        *,
        enter: Callable[[ProcessRunner], Bell],
        heed: Callable[[Worker], None] = lambda _worker: None,
        wake_fds: Iterable[int] = (),
    ) -> None:
        """Make a worker.

        Args:
            new_runner: Starts a runner; it need not have said hello yet.
            enter: Enters the worker, with a runner that has said hello, into the store.
            heed: Called when one of `wake_fds` has ended a wait, before anything is done: empties it, sets `stopping` and
                `renew`.
            wake_fds: Descriptors that end a wait when they become readable (signals, the supervisor's pipe).
        """
        self.spec = spec
        self._store = store
        self._file = file
        self._new_runner = new_runner
        self._enter = enter
        self._heed = heed
        self.runner = new_runner()
        self._bell: Bell | None = None
        self._entered = False
        self._types: list[str] = []  # which it takes, of those its runner handles
        self._limits: dict[str, int] = {}
        self._timed = False  # whether any type has a timeout
        self._selector = selectors.DefaultSelector()
        for fd in wake_fds:
            self._selector.register(fd, selectors.EVENT_READ, "wake")
        self._channel_events = selectors.EVENT_READ
        self._watch_runner()
        self.stopping = OPEN
        self.renew = False
        self.drained = False
        self.jobs_begun = 0
        self._token = 0
        self._pace = Pace()
        self._front_since = 0.0  # when the runner was last known to turn to its next job
        self._long = 0  # token of the last job that was seen to take long
        self._settle_at = 0.0
        self._look_at = 0.0
        self._held: dict[int, Held] = {}
        self._settlements: list[Settlement] = []
        self._settled_slots: list[int] = []
        self._hungry = True
        self._due_at: float | None = None
        self._unsure = False
        self._retry_at = 0.0
        self._troubled: str | None = None
        self._mirror_at = 0.0
        self._mirrored_us = 0  # by the store's clock
        self._moved = hasattr(store.clock, "after")  # by a test: real time does not tell when a beat is due
        self._stopped_since: float | None = None
        self._killed_starts = 0

    # ---- one turn

    @property
    def done(self) -> bool:
        """Whether there is nothing more to do: told to stop or drained, and all is settled."""
        return (self.stopping != OPEN or self.drained) and not self._held and not self._settlements

    def work_once(self, timeout_s: float | None = None) -> None:
        """Wait for something to happen, at most `timeout_s`, and do what follows from it."""
        woken_by = self._wait(timeout_s)
        if "wake" in woken_by:
            self._heed(self)
        self._gather(spoken="runner" in woken_by)
        if self.stopping == NOW and self._held:
            self._stop_now()
        if self.runner.hello is not None and not self._entered:
            self._enter_store()
        if self._bell is None:
            return
        self._mirror()
        self._exchange()

    def _enter_store(self) -> None:
        """Enter this worker, or renew its entry, now that a runner has said what it can do."""
        try:
            bell = self._enter(self.runner)
        except StoreUnavailableError as error:
            self._trouble(error)
            return
        if self._bell is None:
            self._bell = bell
            self._selector.register(bell.fileno(), selectors.EVENT_READ, "bell")
            self._mirror_at = time.monotonic() + self.spec.heartbeat_interval_s
        self._entered = True
        self._hungry = True
        options = self.runner.options
        self._types = [kind for kind in options if self.spec.types is None or kind in self.spec.types]
        self._limits = limits_of(options)
        self._timed = any(each.timeout is not None for each in options.values())
        self._killed_starts = 0

    def _trouble(self, error: StoreUnavailableError) -> None:
        """Wait a little before the store is asked again, and say so once."""
        self._retry_at = time.monotonic() + (0.0 if isinstance(error, StoreBusyError) else RETRY_STORE_S)
        if self._troubled != type(error).__name__:
            self._troubled = type(error).__name__
            log.warning("The store has to wait: %s", error)

    def forget(self, fd: int) -> None:
        """Do not wake for that descriptor any more."""
        self._selector.unregister(fd)

    def _wait(self, timeout_s: float | None) -> set[str]:
        """Wait; return what ended it: bell, runner, wake, or nothing but time."""
        patience_s = self._patience(timeout_s)
        if self._settlements and self._held and patience_s and patience_s <= GATHER_S:
            time.sleep(patience_s)  # for more ends to settle with this one; a wake-up for each would cost more than it
            patience_s = 0.0
        self._heed_room()
        woken_by: set[str] = set()
        for key, _mask in self._selector.select(patience_s):
            woken_by.add(key.data)
            if key.data == "bell":
                assert self._bell is not None
                self._bell.answer()
                self._hungry = True
                if self._moved and self._mirror_is_due():
                    self._mirror_at = 0.0
                if self._held:
                    self._grant_wishes()
            elif key.data == "runner" and self.runner.wants_to_write:
                self.runner.send()
        return woken_by

    def _heed_room(self) -> None:
        """Wake for room in the runner's channel while something waits to be sent: the runner may be waiting for it."""
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.runner.wants_to_write else 0)
        if wanted != self._channel_events and not self.runner.buried:
            self._selector.modify(self.runner.control, wanted, "runner")
            self._channel_events = wanted

    def _patience(self, timeout_s: float | None) -> float | None:
        """Return how long a wait may last."""
        now = time.monotonic()
        if self.runner.heard:
            return 0.0
        limits = [] if timeout_s is None else [timeout_s]
        entering = self.runner.hello is not None and not self._entered
        if entering or (self._hungry and self._wants()):
            limits.append(max(0.0, self._retry_at - now))
        elif self._settlements:
            limits.append(max(0.0, max(self._retry_at, self._settle_at) - now))
        elif self.renew and self._entered and not self._held:
            limits.append(max(0.0, self._retry_at - now))
        if self._held:
            limits.append(FLOOD_TICK_S if self.runner.floods else TICK_S)
            limits += self._times_left_s()
            if len(self._held) > 1:
                limits.append(max(0.0, self._front_since + LONG_S - now))
        elif self.spec.drain and self.stopping == OPEN:
            limits.append(DRAIN_TICK_S)
        if self._due_at is not None and self._wants():
            limits.append(max(0.0, self._due_at - now))
        if self._bell is not None:
            limits.append(max(0.0, self._mirror_at - now))
        return min(limits, default=None)

    def _wants(self) -> int:
        """Return how many jobs the worker would take now."""
        if self.stopping != OPEN or self.renew or not self._entered:
            return 0
        if not self._held:
            return self._pace.largest(self._types)
        if self._long in self._held:
            return 0  # what the ends before it release would wait behind it
        size = self._pace.largest(self._types)
        if len(self._held) > size // 2 or time.monotonic() - self._front_since > LONG_S / 2:
            return 0  # enough is reserved, or what runs may be long
        return size - len(self._held)

    # ---- gathering what ended

    def _gather(self, *, spoken: bool) -> None:
        if self.runner.buried:
            return  # told to stop at once: only the store has still to hear of it
        reports = self.runner.receive() if spoken or self.runner.heard else []
        ends = [ended for ended in reports if ended.token in self._held]
        left_by = [ended for ended in ends if ended.outcome is not Outcome.FINISHED and self._left_strays(ended)]
        now_us = self._store.clock.read().boottime_us
        for ended in ends:
            self._ended(ended, now_us)
        if ends:
            self._front_since = time.monotonic()
        if left_by:
            # Before any of them is settled, or its retry would overlap.
            self._settle_dead(self.runner.bury(), self._cut_short("its runner was replaced: another job left strays"))
            self._replace_runner()
        elif self.runner.dead:
            self._runner_died()
        elif self._held:
            self._watch_time()
            self._watch_stopped()
            self._watch_long()
        if self.runner.trim_output(busy=bool(self._held)):
            log.warning("Output of %s has grown too large; what it wrote so far was dropped", self._held_ids())

    def _left_strays(self, ended: Ended) -> bool:
        if not ended.strays and not self.runner.strays():
            return False
        job_id = self._held[ended.token].job.attempt.job_id
        log.warning("Job %s left threads or processes behind; its runner is replaced", job_id)
        return True

    def _ended(self, ended: Ended, now_us: int) -> None:
        held = self._held.pop(ended.token)
        failpoints.hit("worker.outcome")
        slot = self._file.times(held.slot)
        settlement = _as_reported(held.job.attempt, ended, self._evidence(slot, now_us))
        log.info("Job %s exited with status %s", held.job.attempt.job_id, ended.outcome)
        self._pace.note(held.job.type, (slot.ended_us - slot.begun_us) / 1e6)
        self._settle(settlement, held.slot, hurry=ended.outcome is not Outcome.FINISHED)

    def _settle(self, settlement: Settlement, slot: int, *, hurry: bool = True) -> None:
        """Have an attempt settled: at once, or with others that end within the millisecond."""
        now = time.monotonic()
        if not self._settlements:
            self._settle_at = now if hurry or not self._held else now + GATHER_S
        elif hurry or not self._held:
            self._settle_at = now
        self._settlements.append(settlement)
        self._settled_slots.append(slot)
        self._hungry = True

    def _evidence(self, slot: Slot | Times, now_us: int | None = None, exit_: Exit | None = None) -> Evidence:
        if now_us is None:
            now_us = self._store.clock.read().boottime_us
        output, output_bytes = "", 0
        if slot.state == BEGUN or (slot.state == ENDED and slot.output_end != slot.output_start):
            output, output_bytes = self.runner.output(slot.output_start, slot.output_end)
        return Evidence(
            began_ago_s=(now_us - slot.begun_us) / 1e6 if slot.state >= BEGUN else None,
            ended_ago_s=(now_us - slot.ended_us) / 1e6 if slot.state == ENDED else None,
            exit_code=exit_.code if exit_ else None,
            signal=exit_.signal if exit_ else None,
            output=output,
            output_bytes=output_bytes,
        )

    def _runner_died(self) -> None:
        if self.runner.hello is None:
            self._died_at_start()
            return
        log.warning("Runner %d of worker %s died", self.runner.pid, self.spec.id)
        failpoints.hit("worker.runner_died")
        dead = self.runner.bury()
        self._settle_dead(dead, None)
        self._replace_runner()

    def _died_at_start(self) -> None:
        """A runner died before it had imported its app: the app's fault, unless somebody killed it."""
        dead = self.runner.bury()
        self._settle_dead(dead, None)
        if self.runner.stale:
            log.info("The app has changed since the spare runner imported it; another one does")
            self._replace_runner()
            return
        self._killed_starts += 1
        if self.runner.trouble is not None or dead.exit.signal != SIGKILL or self._killed_starts > KILLED_STARTS:
            raise AppTroubleError(self.runner.trouble, self.runner.last_words() or _how(dead.exit))
        log.warning("Runner %d of worker %s was killed while it started", self.runner.pid, self.spec.id)
        self._replace_runner()

    def _settle_dead(self, dead: Dead, verdict: Callable[[Held, Slot], Settlement | None] | None) -> None:
        """Settle what a buried runner had: reported ends as reported, what never began back, what had begun by verdict.

        Args:
            verdict: What becomes of an attempt that had begun; None, or None from it: a crash.
        """
        if not dead.cleared.done:
            left = ", ".join(str(identity.pid) for identity in dead.cleared.left)
            raise TreeLeftError(f"processes of runner {self.runner.pid} will not die: {left or 'unknown'}")
        failpoints.hit("worker.runner_cleared")
        for ended in dead.ended:
            if ended.token in self._held:
                held = self._held.pop(ended.token)
                evidence = self._evidence(self._file.slot(held.slot))
                self._settle(_as_reported(held.job.attempt, ended, evidence), held.slot)
        for token, held in list(self._held.items()):
            del self._held[token]
            slot = self._file.slot(held.slot)
            settlement = verdict(held, slot) if verdict is not None and slot.state >= BEGUN else None
            self._settle(settlement or self._autopsy(held, slot, dead), held.slot)

    def _autopsy(self, held: Held, slot: Slot, dead: Dead) -> Settlement:
        attempt = held.job.attempt
        if slot.state < BEGUN:
            return Settlement(attempt, Outcome.HANDED_BACK)
        how = dead.misdeed or _how(dead.exit)
        evidence = self._evidence(slot, exit_=dead.exit)
        if slot.state == ENDED:
            message = f"its runner {how} after the handler had ended, before it could report"
            return Settlement(attempt, Outcome.INTERRUPTED, failure=Failure("interruption", message), evidence=evidence)
        last = evidence.output.strip().splitlines()[-1:] or [""]
        message = f"its runner {how}" + (f"; last output: {last[0][:200]}" if last[0] else "")
        return Settlement(attempt, Outcome.CRASHED, failure=Failure("crash", message), evidence=evidence)

    def _replace_runner(self) -> None:
        self._unwatch_runner()
        self.runner.close()
        self._stopped_since = None
        self.runner = self._new_runner()
        self._watch_runner()
        self._entered = False  # entered anew, with the new runner's pid and types, when it has said hello

    def _watch_runner(self) -> None:
        self._selector.register(self.runner.control, selectors.EVENT_READ, "runner")
        self._channel_events = selectors.EVENT_READ
        if self.runner.child.pidfd is not None:
            self._selector.register(self.runner.child.pidfd, selectors.EVENT_READ, "death")

    def _unwatch_runner(self) -> None:
        for fd in [key.fd for key in self._selector.get_map().values() if key.data in ("runner", "death")]:
            self._selector.unregister(fd)

    # ---- time, states, wishes

    def _options(self, held: Held) -> Options:
        return self.runner.options[held.job.type]

    def _times_left_s(self) -> list[float]:
        """Return the seconds that are left to attempts with a timeout."""
        if not self._timed:
            return []
        timeouts = [(held, self._options(held).timeout) for held in self._held.values()]
        return [max(0.0, s - self._ran_s(held)) for held, s in timeouts if s is not None]

    def _ran_s(self, held: Held) -> float:
        """Return the seconds that a handler has been running, the machine's sleep not counted.

        0 if it has not begun, or has reported its end in the steps: that we were not told yet is not its doing.
        """
        slot = self._file.slot(held.slot)
        if slot.state < BEGUN or self._file.finished(held.slot, held.token) is not None:
            return 0.0
        now = self._store.clock.read()
        return min(now.monotonic_us - held.given_us, now.boottime_us - slot.begun_us) / 1e6

    def _watch_long(self) -> None:
        """Hand back what waits behind a job that takes long, or behind the last one; whoever is idle is rung for it.

        The kernel decides: a job whose token the runner has read stays here, however closely it was missed.
        """
        leaving = self.stopping != OPEN or self.renew
        if not leaving and (len(self._held) < 2 or time.monotonic() - self._front_since < LONG_S):
            return
        for token in self.runner.take_back():
            held = self._held.pop(token, None)
            if held is not None:
                log.debug("Job %s has not begun and is handed back", held.job.attempt.job_id)
                self._settle(Settlement(held.job.attempt, Outcome.HANDED_BACK), held.slot)
        self._front_since = time.monotonic()
        self._long = max(self._held, default=0)  # tokens are read in their order: what is left of them runs

    def _watch_time(self) -> None:
        if not self._timed:
            return
        for held in self._held.values():
            timeout_s = self._options(held).timeout
            if timeout_s is None or self._ran_s(held) < timeout_s:
                continue
            # One that has ended and does not come to report it hangs in what it left in the loop.
            if self._file.slot(held.slot).state >= BEGUN:
                log.warning("Job %s ran out of time after %g s", held.job.attempt.job_id, timeout_s)
                self._kill_for(held, self._timed_out(timeout_s))
                return

    def _timed_out(self, timeout_s: float) -> Callable[[Held, Slot], Settlement]:
        def verdict(held: Held, slot: Slot) -> Settlement:
            options = self._options(held)
            retry_in_s = options.retry_in_s(held.job.failures)
            message = f"it ran for longer than its timeout of {timeout_s:g} s and was stopped"
            failure = Failure("timeout", message, allowed=len(options.delays) + 1)
            return Settlement(
                held.job.attempt, Outcome.FAILED, failure=failure, delay_s=retry_in_s, evidence=self._evidence(slot)
            )

        return verdict

    def _kill_for(self, culprit: Held, verdict: Callable[[Held, Slot], Settlement]) -> None:
        """Stop the runner because of one attempt; that one is settled by verdict."""
        dead = self.runner.bury()
        innocent = self._cut_short("its runner was stopped because of another job")
        self._settle_dead(dead, lambda held, slot: (verdict if held is culprit else innocent)(held, slot))
        self._replace_runner()

    def _cut_short(self, why: str) -> Callable[[Held, Slot], Settlement]:
        """What becomes of an attempt whose runner had to go for a reason that is not its own: charged to nobody."""

        def verdict(held: Held, slot: Slot) -> Settlement:
            failure = Failure("stop", why)
            return Settlement(held.job.attempt, Outcome.STOPPED, failure=failure, evidence=self._evidence(slot))

        return verdict

    def _watch_stopped(self) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + TICK_S / 2
        if not self.runner.child.stopped():
            self._stopped_since = None
            return
        now = time.monotonic()
        self._stopped_since = self._stopped_since or now
        if now - self._stopped_since > STOPPED_GRACE_S:
            log.warning("Runner %d stands still (state T) for %g s; it is killed", self.runner.pid, STOPPED_GRACE_S)
            dead = self.runner.bury()
            self._settle_dead(dead, self._stood_still)
            self._replace_runner()

    def _stood_still(self, held: Held, slot: Slot) -> Settlement:
        failure = Failure("crash", f"its runner stood still (state T) for longer than {STOPPED_GRACE_S:g} s")
        return Settlement(held.job.attempt, Outcome.CRASHED, failure=failure, evidence=self._evidence(slot))

    def _grant_wishes(self) -> None:
        """Do what an operator wished for a started job: stop its tree, then settle."""
        try:
            wishes = {request.attempt: request.wish for request in self._store.requests(self.spec.id)}
        except StoreUnavailableError as error:
            log.warning("Cannot ask for requests: %s", error)
            return
        for held in list(self._held.values()):
            wish = wishes.get(held.job.attempt)
            if wish is not None:
                log.info("An operator wished to %s job %s", wish, held.job.attempt.job_id)
                self._kill_for(held, self._wished(wish))
                return

    def _wished(self, wish: str) -> Callable[[Held, Slot], Settlement]:
        outcome = Outcome.ABORTED if wish == "abort" else Outcome.RESET

        def verdict(held: Held, slot: Slot) -> Settlement:
            failure = Failure("abort" if wish == "abort" else "reset", f"an operator wished to {wish} it")
            return Settlement(held.job.attempt, outcome, failure=failure, evidence=self._evidence(slot))

        return verdict

    def _stop_now(self) -> None:
        """Kill the runner's tree: what had begun is cut short and charged to nobody, the rest is handed back."""
        self._settle_dead(self.runner.bury(), self._cut_short("its worker was told to stop at once"))
        self._unwatch_runner()

    # ---- the store

    def _mirror_is_due(self) -> bool:
        """Whether, by the store's clock, a beat is due in the store."""
        return self._store.clock.read().monotonic_us - self._mirrored_us >= self.spec.heartbeat_interval_s * 1e6

    def _mirror(self) -> None:
        """Copy the beat into the store now and then, and look for wishes whose bell was missed."""
        now = time.monotonic()
        if now < self._mirror_at:
            return
        self._mirror_at = now + self.spec.heartbeat_interval_s
        self._hungry = True  # a bell may have rung for one that could not hear it
        if not failpoints.hit("beat.given"):
            return
        before_us = self._store.clock.read().monotonic_us if self._moved else 0  # a test moves it once it sees the beat
        try:
            self._store.beat(self.spec.id)
        except StoreUnavailableError as error:
            log.warning("Cannot mirror the heartbeat: %s", error)
            return
        self._mirrored_us = before_us
        for held in self._held.values():
            log.info("Heartbeat %s: %d", held.job.attempt.job_id, time.time())
        if self._held:
            self._grant_wishes()

    def _exchange(self) -> None:
        now = time.monotonic()
        if self._due_at is not None and now >= self._due_at:
            self._hungry, self._due_at = True, None
        want = self._wants() if self._hungry else 0
        if now < self._retry_at or (self._settlements and not want and now < self._settle_at):
            return
        if not self._settlements and not want:
            if self.spec.drain and not self._held and self._entered:
                self._look_whether_drained()
            if self.renew and not self._held:
                self._renew_runner()
            return
        settled = len(self._settlements)
        try:
            self._reconcile()
            result = self._store.exchange(
                self.spec.id,
                self._settlements[:settled],
                want,
                self._types,
                limits=self._limits,
                groups=self._pace.sizes(self._types, self._limits),
                run=self.spec.run,
            )
        except StoreUnavailableError as error:
            self._unsure = True
            self._trouble(error)
            return
        self._committed(result, settled, want)

    def _reconcile(self) -> None:
        """After an exchange whose outcome is unknown: hand back what it reserved without our knowing."""
        if not self._unsure:
            return
        known = {held.job.attempt for held in self._held.values()} | {s.attempt for s in self._settlements}
        for attempt in self._store.held(self.spec.id):
            if attempt not in known:
                self._settlements.append(Settlement(attempt, Outcome.HANDED_BACK))
        self._unsure = False

    def _committed(self, result: Exchange, settled: int, want: int) -> None:
        if self._troubled:
            log.info("The store is back; what waited is settled")
            self._troubled = None
        by_attempt = {settlement.attempt: settlement for settlement in self._settlements[:settled]}
        del self._settlements[:settled]
        for slot in self._settled_slots:
            self._file.free(slot)
        self._settled_slots.clear()
        for refusal in result.refused:
            log.warning("Dropped: %s", refusal.message)
            if refusal.reason == "conflict":
                evidence = by_attempt[refusal.attempt].evidence
                failure = Failure("conflict", refusal.message)
                self._settlements.append(
                    Settlement(refusal.attempt, Outcome.FAILED, failure=failure, evidence=evidence)
                )
        self._due_at = None if result.next_due_s is None else time.monotonic() + result.next_due_s
        failpoints.hit("worker.reserved")
        if result.jobs:
            self._give(result.jobs)
        if want:
            self._hungry = bool(self._settlements) or len(result.jobs) == want
            if not result.jobs:
                log.debug("No handleable ready-jobs found. Waiting.")
                if self.spec.drain:
                    self._look_whether_drained()

    def _give(self, jobs: Sequence[ReservedJob]) -> None:
        """Hand reserved jobs to the runner, in the order in which they are to run."""
        if not self._held:
            self._front_since = time.monotonic()
        given_us = self._store.clock.read().monotonic_us
        taken = {held.slot for held in self._held.values()} | set(self._settled_slots)
        free = (index for index in range(SLOTS) if index not in taken)
        parcel: list[tuple[ReservedJob, int, int]] = []
        for job in jobs:
            self._token += 1
            slot = next(free)
            self._held[self._token] = Held(job, self._token, slot, given_us)
            parcel.append((job, self._token, slot))
        self.jobs_begun += len(jobs)
        refused = self.runner.give(parcel)
        _tell(jobs)  # only now: the first handler begins before its worker has written three lines
        for token, error in refused:  # no room for a payload, or no descriptor left
            held = self._held.pop(token)
            job_id = held.job.attempt.job_id
            log.warning("Job %s is handed back, it cannot be given to the runner: %s", job_id, error)
            self._settle(Settlement(held.job.attempt, Outcome.HANDED_BACK), held.slot)
            self._retry_at = time.monotonic() + RETRY_STORE_S
        failpoints.hit("worker.given")

    def _look_whether_drained(self) -> None:
        if self.stopping != OPEN:
            return
        try:
            self.drained = self._store.drained(self._types, self.spec.run)
        except StoreUnavailableError as error:
            self._trouble(error)

    def _renew_runner(self) -> None:
        """Put a fresh runner in the place of one that holds nothing: it imports the app as it is now."""
        self.renew = False
        self.runner.finish(RUNNER_END_S, self._is_hurried)
        self._settle_dead(self.runner.bury(), None)
        self._replace_runner()
        self._hungry = True
        log.info("Worker %s has a fresh runner", self.spec.id)

    def close(self) -> None:
        """End the runner in order, and take the bell down; everything is settled by now."""
        if self._bell is not None:
            self._selector.unregister(self._bell.fileno())
            self._bell.close()
        self._unwatch_runner()
        if self.runner.hello is not None:
            self.runner.finish(RUNNER_END_S, self._is_hurried)
        dead = self.runner.bury()
        if not dead.cleared.done:
            raise TreeLeftError(f"processes of runner {self.runner.pid} will not die")
        self.runner.close()
        self._selector.close()

    def _is_hurried(self) -> bool:
        """Whether a runner that ends by itself is not to be waited for."""
        self._heed(self)
        return self.stopping == NOW

    def _held_ids(self) -> str:
        return ", ".join(held.job.attempt.job_id for held in self._held.values())


class AppTroubleError(Exception):
    """The runner could not load its app."""

    def __init__(self, trouble: object, last_words: str) -> None:
        self.lasting = bool(getattr(trouble, "lasting", False))
        super().__init__(getattr(trouble, "message", None) or f"The runner died at its start. Last words: {last_words}")


class TreeLeftError(Exception):
    """Processes that must be gone are not; nothing may be reset while they live."""


def _tell(jobs: Sequence[ReservedJob]) -> None:
    log.info("Found %d handleable jobs", len(jobs))
    for job in jobs:
        log.info("Reserving job %s (%s)", job.attempt.job_id, job.type)
        log.info("Reserved job %s", job.attempt.job_id)


def _as_reported(attempt: Attempt, ended: Ended, evidence: Evidence) -> Settlement:
    """Return how an attempt is settled whose runner reported its end."""
    delay_s = ended.retry_in_s if ended.outcome is Outcome.FAILED else ended.delay_s
    return Settlement(attempt, ended.outcome, ended.result_json, ended.added, ended.failure, delay_s, evidence)


def _how(exit_: Exit) -> str:
    if exit_.signal is not None:
        return f"was killed by {signal_name(exit_.signal) or f'signal {exit_.signal}'}"
    return f"exited with code {exit_.code}"


__all__ = ["FINISHING", "NOW", "OPEN", "AppTroubleError", "Attempt", "Held", "TreeLeftError", "Worker", "WorkerSpec"]
