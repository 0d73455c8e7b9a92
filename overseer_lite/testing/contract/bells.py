"""Bells: c230 to c239."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, Final

import pytest

from overseer_lite.job import Job, Outcome, Settlement, Status
from overseer_lite.store import WorkerRecord
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import bring, start, submit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from overseer_lite.job import ReservedJob
    from overseer_lite.store import FullStore

#: Who is idle, with its types and the run it keeps to; what is submitted, one graph after the other.
_SCENES: Final[dict[str, tuple[dict[str, tuple[Any, ...]], list[list[Job]]]]] = {
    "one keeps to another run": ({"w1": (["a"], "s"), "w2": (["a"],)}, [[Job("a")]]),
    "the same one was rung twice": ({"w1": (["a"],), "w2": (["a"],)}, [[Job("a")], [Job("a")]]),
    "one was woken for a job, and gets a better one": (
        {"w1": (["a", "b"],), "w2": (["b"],)},
        [[Job("b")], [Job("a", priority=1)]],
    ),
    "most take one of two types": ({"w1": (["a"],), "w2": (["a"],), "w3": (["b"],)}, [[Job("a"), Job("b")]]),
    "one takes both": ({"w1": (["a", "b"],), "w2": (["a"],), "w3": (["a"],)}, [[Job("a"), Job("b")]]),
    "there are as many as jobs": (
        {"w1": (["a"],), "w2": (["a"],), "w3": (["a"],)},
        [[Job("a", name=name) for name in "xyz"]],
    ),
}


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

    @needs("wake_up", "exchange", "runs")
    @pytest.mark.parametrize("scene", _SCENES)
    def test_c234_ring_by_ring_all_that_is_ready_is_taken(self, store: FullStore, scene: str) -> None:
        """Not everybody need be rung at once, but whoever is idle and could take a job is not left to sleep beside it."""
        takes, submits = _SCENES[scene]
        submit(store, Job("another"), run="s")
        for n in range(16):
            crew = [_Idle(store, worker, *scope) for worker, scope in takes.items()]
            for place, jobs in enumerate(submits):
                submit(store, *jobs, run=f"r{n}.{place}")
            while rung := [idle for idle in crew if idle.rung()]:
                for idle in rung:
                    idle.take(1)
            assert [job for idle in crew for job in idle.jobs], "nobody was rung"
            idlers = [idle for idle in crew if not idle.jobs]
            for idle in idlers:
                idle.take(1)
                assert idle.jobs == [], "it could have been rung"
            for idle in crew:
                idle.close()
            store.exchange("w9", [Settlement(job.attempt, Outcome.FINISHED) for job in _rest(store)], 0, ())

    @needs("wake_up", "exchange")
    def test_c235_whoever_leaves_takes_no_ring_along(self, store: FullStore) -> None:
        """It was told to stop just as it was rung: somebody else is to hear of the job."""
        for n in range(16):
            leaving, staying = _Idle(store, "w1", ["a"]), _Idle(store, "w2", ["a"])
            submit(store, Job("a"), run=f"r{n}")
            leaving.close()
            assert staying.rung()
            staying.take(1)
            staying.close()

    @needs("wake_up", "exchange", "runs")
    def test_c236_who_keeps_to_the_run_of_a_job_hears_of_it(self, store: FullStore) -> None:
        """Beside one that keeps to another."""
        submit(store, Job("a"), run="s")
        submit(store, Job("b"), run="t")
        held = start(store, "s/a", "w9")
        for _ in range(8):
            crew = [_Idle(store, "w1", ["a"], "t"), _Idle(store, "w2", ["a"], "s")]
            store.reset_job(held)
            assert crew[1].rung()
            for idle in crew:
                idle.close()
            held = start(store, "s/a", "w9")


def _rest(store: FullStore) -> Sequence[ReservedJob]:
    return store.exchange("w9", [], 9, ["a", "b"]).jobs


class _Idle:
    """A worker that found nothing and waits for its bell; busy as soon as it has a job."""

    def __init__(self, store: FullStore, worker: str, types: list[str], run: str | None = None) -> None:
        self.jobs: list[ReservedJob] = []
        self._store = store
        self._worker, self._types, self._run = worker, types, run
        self._bell = store.register(WorkerRecord(worker, 1, types=tuple(types), run=run))
        self.take(1)
        assert self.jobs == []

    def rung(self) -> bool:
        return self._bell.answer() and not self.jobs

    def take(self, want: int) -> None:
        self.jobs += self._store.exchange(self._worker, [], want, self._types, run=self._run).jobs

    def close(self) -> None:
        for job in self.jobs:
            self._store.finish_job(job.attempt)
        self._store.leave(self._worker)
        self._bell.close()
