"""Workers and recovery: c190 to c209."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from overseer_lite.errors import SupersededError
from overseer_lite.job import Evidence, Failure, Job, Outcome, Status
from overseer_lite.store import Verdict, WorkerRecord
from overseer_lite.testing.clock import ManualClock
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import CRASH_LIMIT, bring, info, snapshot, start, submit

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class WorkerClauses(Clauses):
    """Workers and recovery: c190 to c209."""

    @needs("workers")
    def test_c190_a_registered_worker_is_listed_as_it_registered(self, store: FullStore) -> None:
        """In order of registration; registering again renews the entry in its place."""
        one = WorkerRecord(
            "w1", 11, 12, "boot:11", "boot:1", "jobs", "/srv/jobs.py", 1.5, ("a", "b"), "r", 0.0, {"a": 4}
        )
        two = WorkerRecord("w2", 21)
        for record in (one, two, one._replace(pid=13, types=("c",), limits={})):
            store.register(record)
        assert [worker._replace(types=tuple(worker.types)) for worker in store.workers()] == [
            one._replace(pid=13, types=("c",), limits={}),
            two,
        ]
        store.exchange("w4", [], 1, ("a",))  # who has asked for work before it registers is no earlier for that
        for worker in ("w3", "w4"):
            store.register(WorkerRecord(worker, 1))
        assert [worker.id for worker in store.workers()] == ["w1", "w2", "w3", "w4"]

    @needs("workers")
    def test_c191_a_worker_that_leaves_is_struck_out(self, store: FullStore) -> None:
        """Leaving twice is well; the others stay."""
        for worker in ("w1", "w2"):
            store.register(WorkerRecord(worker, 1))
        store.leave("w1")
        store.leave("w1")
        assert [worker.id for worker in store.workers()] == ["w2"]

    @needs("workers")
    def test_c192_a_worker_that_holds_a_job_cannot_leave(self, store: FullStore) -> None:
        """It stays where recovery finds it, and so does its job."""
        store.register(WorkerRecord("w1", 1))
        attempt = bring(store, Status.STARTED)
        store.leave("w1")
        assert [worker.id for worker in store.workers()] == ["w1"]
        assert store.held("w1") == [attempt]

    @needs("workers")
    def test_c193_what_a_worker_holds_is_listed_in_order_of_submission(
        self, store: FullStore, clock: ManualClock
    ) -> None:
        """Whatever the order of reservation, and whatever the wall clock does; what is settled is not held."""
        submit(store, Job("a"), Job("b"), Job("c"), Job("d"))
        attempts = {name: start(store, f"r/{name}") for name in "cb"}
        clock.advance(10)
        clock.step_wall(-1000)
        attempts |= {name: start(store, f"r/{name}") for name in "da"}
        start_of_other = store.held("w2")
        assert store.held("w1") == [attempts[name] for name in "abcd"]
        assert start_of_other == []
        store.finish_job(attempts["b"])
        assert store.held("w1") == [attempts[name] for name in "acd"]

    @needs("workers", "history")
    def test_c194_recovery_puts_back_all_a_dead_worker_holds(self, store: FullStore) -> None:
        """Each attempt by its verdict, as interrupted without one; the worker is struck out; others keep theirs."""
        for worker in ("w1", "w2"):
            store.register(WorkerRecord(worker, 1))
        submit(store, Job("a"), Job("b"), Job("c"), Job("d"), Job("x"))
        a, b, c = (start(store, f"r/{name}") for name in "abc")
        other = start(store, "r/x", "w2")
        last_words = Failure("crash", "killed by SIGKILL")
        verdicts = {
            a: Verdict(Outcome.CRASHED, last_words, Evidence(5.0, 1.0, signal=9, output="oh")),
            b: Verdict(Outcome.HANDED_BACK),
        }
        put_back = store.recover("w1", verdicts)
        assert put_back == [(attempt, Status.UNSTARTED) for attempt in (a, b, c)]
        assert (info(store, "r/a").crashes, info(store, "r/a").failure, info(store, "r/a").attempt) == (
            1,
            last_words,
            1,
        )
        assert (info(store, "r/b").attempt, store.attempts("r/b")) == (0, [])
        assert (info(store, "r/c").interruptions, info(store, "r/c").attempt) == (1, 1)
        (record,) = store.attempts("r/a")
        assert (record.outcome, record.signal, record.output, record.ran_s) == (Outcome.CRASHED, 9, "oh", 4.0)
        assert store.jobs_ready() == ["r/a", "r/b", "r/c", "r/d"]
        assert ([worker.id for worker in store.workers()], store.held("w2")) == (["w2"], [other])

    @needs("workers")
    def test_c195_recovery_says_where_each_job_stands_now(self, store: FullStore) -> None:
        """Failed where a limit was reached, aborted where that was wished, else unstarted."""
        submit(store, Job("a"), Job("b"), Job("c"), Job("d", dependencies=["b"]))
        for _ in range(CRASH_LIMIT - 1):
            store.reset_job(start(store), crashed=True)
        a, b, c = (start(store, f"r/{name}") for name in "abc")
        store.request("r/b", "abort")
        store.request("r/c", "reset")
        put_back = store.recover("w1", dict.fromkeys((a, b, c), Verdict(Outcome.CRASHED)))
        assert put_back == [(a, Status.FAILED), (b, Status.ABORTED), (c, Status.UNSTARTED)]
        assert info(store, "r/d").status is Status.ABORTED
        assert [info(store, f"r/{name}").request for name in "abc"] == [None] * 3

    @needs("workers")
    def test_c196_recovering_again_or_somebody_unknown_finds_nothing(self, store: FullStore) -> None:
        """Two monitors may come to the same death; the second changes nothing, whoever holds the job by then."""
        bring(store, Status.STARTED)
        store.recover("w1", {})
        start(store, worker="w2")
        before = snapshot(store)
        assert store.recover("w1", {}) == []
        assert store.recover("nobody", {}) == []
        assert snapshot(store) == before

    @needs("workers")
    def test_c197_a_recovered_workers_late_words_change_nothing(self, store: FullStore, clock: ManualClock) -> None:
        """A stopped process may wake up after its death was taken for proved: the fence refuses it."""
        store.register(WorkerRecord("w1", 1))
        attempt = bring(store, Status.STARTED)
        store.recover("w1", {})
        held_now = start(store, worker="w2")
        clock.advance(10)
        before = snapshot(store)
        store.beat("w1")
        with pytest.raises(SupersededError):
            store.finish_job(attempt)
        assert snapshot(store) == before
        assert store.jobs_dead(9) == [held_now]
        assert store.workers() == []

    @needs("workers")
    def test_c198_the_eleven_verbs_need_no_registration(self, store: FullStore) -> None:
        """Who reserves by hand is no registered worker, and can be recovered all the same."""
        attempt = bring(store, Status.STARTED)
        assert store.workers() == []
        assert store.held("w1") == [attempt]
        assert store.recover("w1", {}) == [(attempt, Status.UNSTARTED)]

    @needs("workers", "exchange")
    def test_c199_what_a_worker_holds_is_found_by_the_keys_it_was_given(self, store: FullStore) -> None:
        """A job comes with a number of the store's own, which never changes, and by which recovery names the job."""
        submit(store, Job("a"), Job("b"))
        first = store.exchange("w1", [], 2, ["a", "b"]).jobs
        keys = [job.key for job in first]
        assert store.held_keys("w1") == {(job.key, job.attempt.number): job.attempt for job in first}
        store.recover("w1", {})
        assert store.held_keys("w1") == {}
        assert [job.key for job in store.exchange("w2", [], 2, ["a", "b"]).jobs] == keys
