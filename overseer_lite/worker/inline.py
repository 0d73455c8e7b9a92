"""One worker inside somebody's process: for a store of any kind, for tests, and for those who want no other processes.

The handler runs in the thread that calls; a thread beside it beats. What needs a process of its own is not to be had
here, and is said so at the start: a timeout cannot stop a handler, a crash takes the whole process along.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import secrets
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

from overseer_lite.errors import StoreUnavailableError, SupersededError
from overseer_lite.handler import Ending, RunningJob, as_handlers, execute, limits_of
from overseer_lite.heartbeat import Heartbeat
from overseer_lite.job import Evidence, Failure, Outcome, Settlement
from overseer_lite.liveness.identity import Identity
from overseer_lite.liveness.workerfile import WorkerFile
from overseer_lite.monitor import INLINE, Monitor, reset_silent
from overseer_lite.runner.attempt_files import attempt_directory
from overseer_lite.store import WorkerRecord, compose_exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from overseer_lite.job import ReservedJob
    from overseer_lite.store import Exchange, FullStore, Store

log = logging.getLogger("overseer_lite.worker")

SWEEP_S: Final = 1.0
IDLE_S: Final = 0.2  # for a store that cannot ring
RETRY_STORE_S: Final = 0.5
_TAIL_CHARS: Final = 64 * 1024


class InlineWorker:
    """A worker whose runner is this very thread.

    Args:
        store: Any store; what it can do beyond the eleven verbs is used.
        handlers: By type: a Handlers, or a plain dict.
        context: A context manager function entered once; what it yields is `job.context`.
        run: The only run it works on (capability `runs`).
        types: The only types it takes.
    """

    def __init__(
        self,
        store: Store,
        handlers: Mapping[str, Any],
        *,
        context: Callable[[], AbstractContextManager[Any]] | None = None,
        run: str | None = None,
        types: tuple[str, ...] | None = None,
        heartbeat_interval_s: float = 10.0,
        tolerance: float = 5.0,
        id: str | None = None,
    ) -> None:
        self.id = id or f"inline-{os.getpid()}-{secrets.token_hex(4)}"
        self._store = store
        self._handlers = {k: h for k, h in as_handlers(handlers).items() if types is None or k in types}
        self._context = context or contextlib.nullcontext
        self._run = run
        self._interval_s = heartbeat_interval_s
        self._silent_for_s = heartbeat_interval_s * tolerance
        self._current: ReservedJob | None = None
        self._full: FullStore | None = store if "workers" in store.capabilities else None  # type: ignore[assignment]
        self._file: WorkerFile | None = None
        self._monitor = None
        if self._full is not None and self._has_files():
            self._monitor = Monitor(self._full, silent_for_s=self._silent_for_s)
        self._sweep_at = 0.0
        self._lasting: Any = None
        self._settlements: list[Settlement] = []
        self._unsure = False  # whether what an exchange reserved is known

    def _has_files(self) -> bool:
        return self._full is not None and bool(getattr(self._full, "state_directory", ""))

    # ---- life

    def __enter__(self) -> Self:
        """Enter the store, enter the context, begin to beat."""
        log.info("Worker starting")
        timed = any(handler.timeout is not None for handler in self._handlers.values())
        log.log(
            logging.WARNING if timed else logging.INFO,
            "Worker %s runs inline: a timeout cannot stop a handler here, nor is a crash survived; "
            "start(store, app=..., workers=n) has both",
            self.id,
        )
        self._stack = contextlib.ExitStack()
        self._held = self._stack.enter_context(self._context())
        if self._full is not None:
            self._register(self._full)
        self._heartbeat = Heartbeat(self._beat, self._interval_s)
        self._heartbeat.start()
        return self

    def _register(self, store: FullStore) -> None:
        identity = None
        if self._has_files():
            who = Identity.mine(store.clock.read().boot_id)
            identity = who.to_text()
            self._file = WorkerFile.create(
                os.path.join(store.state_directory, "workers", self.id),
                store_uuid=store.uuid,
                worker_id=self.id,
                identity=who,
                now_us=store.clock.read().monotonic_us,
            )
        self._bell = store.register(
            WorkerRecord(
                self.id,
                os.getpid(),
                os.getpid(),
                identity,
                app=INLINE,
                types=tuple(self._handlers),
                run=self._run,
                limits=limits_of(self._handlers),
            )
        )

    def __exit__(self, *_: object) -> None:
        """Leave the context and the store. A job cut short by an exception is handed in as stopped."""
        self._heartbeat.stop()
        if self._current is not None:
            failure = Failure("stop", "its inline worker was stopped")
            self._settlements.append(Settlement(self._current.attempt, Outcome.STOPPED, failure=failure))
            self._current = None
        self.settle()
        if self._full is not None:
            self._bell.close()
            self._full.leave(self.id)
        if self._file is not None:
            self._file.unlink()
            self._file.close()
        self._stack.close()
        log.info("Worker stopped")

    def _beat(self) -> None:
        """Beat from the thread: into the file where there is one, which needs no lock; else through the store."""
        if self._file is not None and self._full is not None:
            self._file.beat(self._full.clock.read().monotonic_us)
            return
        current = self._current
        if current is not None:
            try:
                self._store.heartbeat_job(current.attempt)
                log.info("Heartbeat %s: %d", current.attempt.job_id, time.time())
            except (SupersededError, StoreUnavailableError) as error:
                log.warning("Heartbeat: %s", error)

    # ---- work

    def work_once(self) -> bool:
        """Reserve and run one job; False if there was none to be had."""
        result = self._exchange(1)
        if not result.jobs:
            log.debug("No handleable ready-jobs found. Waiting.")
            return False
        self._work(result.jobs[0])
        return True

    def settle(self) -> None:
        """Settle what is done, reserve nothing; does not ask the store if nothing is."""
        if self._settlements or self._unsure:
            self._exchange(0)

    def work_until_idle(self) -> int:
        """Run jobs until none is to be had, each settled in the transaction that reserves the next; return how many."""
        count = 0
        result = self._exchange(1)
        while result.jobs:
            self._work(result.jobs[0])
            count += 1
            result = self._exchange(1)
        return count

    def work_until(self, stop: threading.Event) -> None:
        """Work until told to stop; between jobs wait for the bell, and look after the store's other workers."""
        while not stop.is_set():
            try:
                if self._sweep():
                    continue
                if not self.work_until_idle():
                    self._wait(stop)
            except StoreUnavailableError as error:
                log.warning("The store has to wait: %s", error)
                stop.wait(RETRY_STORE_S)

    def _wait(self, stop: threading.Event) -> None:
        if self._full is not None and "wake_up" in self._store.capabilities:
            import select

            select.select([self._bell.fileno()], [], [], IDLE_S)
            self._bell.answer()
        else:
            stop.wait(IDLE_S)

    def _exchange(self, want: int) -> Exchange:
        limits = limits_of(self._handlers)
        settlements: list[Settlement] = []
        try:
            self._reconcile()
            settlements, self._settlements = self._settlements, []
            if "exchange" in self._store.capabilities:
                result = self._store.exchange(
                    self.id, settlements, want, tuple(self._handlers), limits=limits, run=self._run
                )
            else:
                result = compose_exchange(self._store, self.id, settlements, want, tuple(self._handlers))
        except BaseException:
            self._settlements = settlements + self._settlements
            self._unsure = True
            raise
        for refusal in result.refused:
            log.warning("Dropped: %s", refusal.message)
            if refusal.reason == "conflict":
                failure = Failure("conflict", refusal.message)
                self._settlements.append(Settlement(refusal.attempt, Outcome.FAILED, failure=failure))
        return result

    def _reconcile(self) -> None:
        """After an exchange whose outcome is unknown: hand back what it reserved without our knowing."""
        if self._unsure and self._full is not None:
            known = {settlement.attempt for settlement in self._settlements}
            for attempt in self._full.held(self.id):
                if attempt not in known and (self._current is None or attempt != self._current.attempt):
                    self._settlements.append(Settlement(attempt, Outcome.HANDED_BACK))
        self._unsure = False

    def _work(self, job: ReservedJob) -> None:
        job_id = job.attempt.job_id
        log.info("Found 1 handleable jobs")
        log.info("Reserving job %s (%s)", job_id, job.type)
        log.info("Reserved job %s", job_id)
        self._current = job
        began_us = self._now_us()
        if self._file is not None:  # or whoever finds us dead takes it for one that never began, and charges nobody
            self._file.reserve(0, job.key, job.attempt.number)
            self._file.begin(0, began_us, 0)
        with _Tee("stdout") as out, _Tee("stderr", out) as _err:
            ending = execute(self._handlers[job.type], RunningJob.of(job, self._held, None, self._directory(job)))
        if self._file is not None:
            self._file.end(0, self._now_us(), 0)
        evidence = Evidence(began_ago_s=(self._now_us() - began_us) / 1e6, output=out.tail(), output_bytes=out.size)
        log.info("Job %s exited with status %s", job_id, ending.outcome)
        self._settlements.append(_settlement(job, ending, evidence))
        self._current = None

    def _now_us(self) -> int:
        return self._full.clock.read().boottime_us if self._full is not None else time.monotonic_ns() // 1000

    def _directory(self, job: ReservedJob) -> Callable[[], str] | None:
        if self._full is None or not self._has_files():
            return None
        return attempt_directory(os.path.join(self._full.state_directory, "files"), job.key, job.attempt.number)

    def _sweep(self) -> bool:
        """Look after other workers, once a second; return whether somebody's jobs were put back."""
        now = time.monotonic()
        if now < self._sweep_at:
            return False
        self._sweep_at = now + SWEEP_S
        if self._full is not None:
            self._full.beat(self.id)
        if self._monitor is not None:
            return bool(self._monitor.sweep((self.id,)))
        return bool(reset_silent(self._store, self._silent_for_s))


def _settlement(job: ReservedJob, ending: Ending, evidence: Evidence) -> Settlement:
    delay_s = ending.retry_in_s if ending.outcome is Outcome.FAILED else ending.delay_s
    return Settlement(job.attempt, ending.outcome, ending.result_json, ending.added, ending.failure, delay_s, evidence)


class _Tee(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr while a handler runs: passes on, and keeps the last 64 KiB."""

    def __init__(self, name: str, keeper: _Tee | None = None) -> None:
        self._name = name
        self._keeper = keeper or self
        self._kept = ""
        self.size = 0

    def __enter__(self) -> Self:
        self._real: TextIO = getattr(sys, self._name)
        setattr(sys, self._name, self)
        return self

    def __exit__(self, *_: object) -> None:
        setattr(sys, self._name, self._real)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        keeper = self._keeper
        keeper._kept = (keeper._kept + text)[-_TAIL_CHARS:]  # noqa: SLF001 - its own kind
        keeper.size += len(text.encode("utf-8", "replace"))
        return self._real.write(text)

    def flush(self) -> None:
        self._real.flush()

    def tail(self) -> str:
        """Return the last of what was written."""
        return self._kept
