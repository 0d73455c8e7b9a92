"""The supervisor's second thread: it has the store, buries the dead it is told of, and sweeps."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from overseer_lite.errors import StoreUnavailableError

if TYPE_CHECKING:
    from overseer_lite.monitor import Monitor
    from overseer_lite.store import FullStore
    from overseer_lite.supervisor.member import Member
    from overseer_lite.supervisor.parent import Supervisor

log = logging.getLogger("overseer_lite.supervisor")

TAKE_OVER_S: Final = 0.1


class StoreThread(threading.Thread):
    """The thread that has the store.

    Attributes:
        trouble: What ended it, for the main thread to raise.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__(name="monitor", daemon=True)
        self._supervisor = supervisor
        self._orders: queue.SimpleQueue[Member | None] = queue.SimpleQueue()
        self.trouble: BaseException | None = None
        self._acting: Any = None

    def bury(self, member: Member) -> None:
        """Order a dead worker's burial."""
        self._orders.put(member)

    def end(self, timeout_s: float) -> None:
        """End when all that was ordered is done; at most so many seconds are waited for that."""
        self._orders.put(None)
        self.join(timeout_s)

    def run(self) -> None:
        """Do what is ordered, and look at all workers now and then, until told to end."""
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
        pending: list[Member] = []
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

    def _buried(self, monitor: Monitor, member: Member) -> bool:
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
