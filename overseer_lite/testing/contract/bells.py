"""Bells: c230 to c239."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import pytest

from overseer_lite.job import Job, Outcome, Settlement, Status
from overseer_lite.store import WorkerRecord
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import bring, start, submit

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class BellClauses(Clauses):
    """Bells: c230 to c239."""

    @needs("wake_up", "exchange")
    @pytest.mark.parametrize("cause", ["submit", "finish", "exchange", "reset", "retry", "abort", "recover", "room"])
    def test_c230_a_worker_that_got_nothing_is_rung_when_there_is_something(self, store: FullStore, cause: str) -> None:
        """Whatever made a job of its types ready, or made room under a limit; or ended what a run's end waits for."""
        submit(store, Job("a"), Job("b", dependencies=["a"]), Job("d"))
        held = start(store, worker="w2")
        if cause == "retry":
            store.fail_job(held)
        if cause == "room":
            submit(store, Job("a"), run="s")
        bell = store.register(WorkerRecord("w1", 1, types=("a", "b", "c")))
        limits = {"a": 1} if cause == "room" else None
        assert list(store.exchange("w1", [], 1, ["a", "b", "c"], limits=limits).jobs) == []
        assert bell.answer() is False
        if cause == "submit":
            submit(store, Job("c"), run="s")
        elif cause == "finish":
            store.finish_job(held)
        elif cause == "exchange":
            store.exchange("w2", [Settlement(held, Outcome.FINISHED)], 0, ["a"])
        elif cause == "reset":
            store.reset_job(held)
        elif cause == "retry":
            store.retry(["r/a"])
        elif cause == "abort":
            store.abort_job("r/a", attempt=held)
        elif cause == "recover":
            store.recover("w2", {})
        else:
            store.exchange("w2", [Settlement(held, Outcome.FINISHED)], 0, ["a"], limits={"a": 1})
        assert select.select([bell], [], [], 0)[0] == [bell]
        assert [bell.answer(), bell.answer()] == [True, False]
        bell.close()

    @needs("wake_up", "requests")
    @pytest.mark.parametrize("wish", ["abort", "reset"])
    def test_c231_a_wish_rings_the_worker_that_is_to_grant_it(self, store: FullStore, wish: str) -> None:
        """Busy as it is with that very job."""
        bell = store.register(WorkerRecord("w1", 1, types=("a",)))
        bring(store, Status.STARTED)
        bell.answer()
        store.request("r/a", wish)
        assert bell.answer() is True
        bell.close()

    @needs("wake_up")
    def test_c232_who_registers_again_after_taking_its_bell_down_has_a_bell_again(self, store: FullStore) -> None:
        """A bell that is down has no descriptor any more: to use the old one would be to use a stranger's."""
        store.register(WorkerRecord("w1", 1, types=("a",))).close()
        bell = store.register(WorkerRecord("w1", 1, types=("a",)))
        assert bell.answer() is False
        bring(store, Status.STARTED)
        store.request("r/a", "reset")
        assert bell.answer() is True
        bell.close()

    @needs("wake_up", "exchange", "limits")
    def test_c233_room_under_a_limit_rings_though_nothing_became_ready(self, store: FullStore) -> None:
        """The job was ready all along; what has changed is that one more of its type may be started."""
        submit(store, Job("a"), Job("a", name="b"))
        held = start(store, worker="w2")
        bell = store.register(WorkerRecord("w1", 1, types=("a",)))
        assert list(store.exchange("w1", [], 1, ["a"], limits={"a": 1}).jobs) == []
        store.exchange("w2", [Settlement(held, Outcome.FINISHED)], 0, ["a"], limits={"a": 1})
        assert bell.answer() is True
        bell.close()
