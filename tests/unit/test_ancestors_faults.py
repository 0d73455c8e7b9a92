"""Faults of Overseer 0.9.0 that this project must not have: one regression test each, on the store and on its model."""

from __future__ import annotations

import pytest

from overseer_lite.errors import CycleError, GraphConflictError, SupersededError
from overseer_lite.graph import Graph, job_graph
from overseer_lite.handler import Handlers, fault
from overseer_lite.job import Outcome, Settlement, Status
from overseer_lite.monitor import reset_silent
from overseer_lite.store import open_store
from overseer_lite.testing.clock import ManualClock
from overseer_lite.testing.memory import MemoryStore
from overseer_lite.worker.inline import InlineWorker


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(params=["sqlite", "memory"])
def store(request, tmp_path, clock):
    store = MemoryStore(clock) if request.param == "memory" else open_store(str(tmp_path / "jobs.db"), clock=clock)
    store.install()
    yield store
    store.close()


def submit(store, mapping):
    store.transact_graph(job_graph(mapping, id="r"))


def status(store, name):
    return store.job_info(f"r/{name}").status


def test_abort_leaves_a_finished_job_finished(store):
    """There, aborting a job overwrote it and its dependents whatever they were."""
    submit(store, {"a": [], "b": ["a"]})
    store.finish_job(store.reserve_job("w", "r/a"))
    assert store.abort_job("r/a") == []
    assert (status(store, "a"), status(store, "b")) == (Status.FINISHED, Status.UNSTARTED)


def test_a_stale_worker_cannot_finish_the_attempt_of_another(store):
    """There, whoever knew the job's id could."""
    submit(store, {"a": []})
    stale = store.reserve_job("w1", "r/a")
    store.reset_job(stale)
    held = store.reserve_job("w2", "r/a")
    with pytest.raises(SupersededError):
        store.finish_job(stale, "stale")
    assert (status(store, "a"), store.held("w2")) == (Status.STARTED, [held])


def test_a_heartbeat_is_taken_only_from_the_attempt_that_holds_the_job(store):
    """There, for any job in any status."""
    submit(store, {"a": []})
    attempt = store.reserve_job("w", "r/a")
    store.finish_job(attempt)
    with pytest.raises(SupersededError):
        store.heartbeat_job(attempt)


class ElevenVerbs:
    """A store that offers the eleven verbs alone, so that a worker beats through it."""

    capabilities = frozenset()

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)


def test_a_heartbeat_that_lands_in_a_finish_costs_the_worker_nothing(store):
    """There, the heartbeat's error ended the whole healthy process."""
    submit(store, {"a": [], "b": ["a"]})
    worker = InlineWorker(ElevenVerbs(store), {"a": lambda job: None, "b": lambda job: None}, heartbeat_interval_s=60)
    with worker:
        (job,) = worker._exchange(1).jobs
        worker._current = job
        store.finish_job(job.attempt)
        worker._beat()  # as the thread does, with the job that has just ended
        worker._current = None
        assert worker.work_until_idle() == 1
    assert status(store, "b") is Status.FINISHED


def test_a_cycle_is_refused_and_named(store):
    """There, it was stored and never ran."""
    with pytest.raises(CycleError, match="a -> b -> a|b -> a -> b"):
        submit(store, {"a": ["b"], "b": ["a"]})
    assert store.counts().total == 0


def test_a_fault_waits_before_it_is_tried_again(store, clock):
    """There, it was ready at once, and spun."""
    handlers = Handlers()
    tries = []

    @handlers
    def a(job):
        tries.append(job.attempt)
        fault("not now")

    submit(store, {"a": []})
    with InlineWorker(store, handlers) as worker:
        worker.work_until_idle()
        assert (tries, store.job_info("r/a").due_in_s) == ([1], 10)
        clock.advance(10)
        worker.work_until_idle()
    assert tries == [1, 2]


def test_what_depends_on_a_failed_job_is_shown_as_stuck(store):
    """There, it waited in silence for ever."""
    submit(store, {"a": [], "b": ["a"], "c": ["b"]})
    store.fail_job(store.reserve_job("w", "r/a"))
    assert [store.job_info(f"r/{name}").stuck for name in "bc"] == [True, True]
    assert (store.counts().stuck, store.counts().exit_code) == (2, 1)


def test_an_id_that_is_there_already_is_a_conflict_that_is_told(store):
    """There, the whole new graph was dropped in silence."""
    submit(store, {"a": []})
    other = Graph(id="r")
    other.add("a")
    other.add("b")
    with pytest.raises(GraphConflictError, match="'r/b' is not stored"):
        store.transact_graph(other)


def test_a_job_that_kills_whoever_runs_it_ends_as_failed(store):
    """There, it was reset and killed the next one, for ever."""
    submit(store, {"a": []})
    for _ in range(3):
        attempt = store.reserve_job("w", "r/a")
        store.exchange("w", [Settlement(attempt, Outcome.CRASHED)], 0, ())
    job = store.job_info("r/a")
    assert (job.status, job.crashes) == (Status.FAILED, 3)
    assert "crashed 3 times, which is the limit" in job.failure.message


def test_the_monitor_resets_what_is_silent_and_nothing_else(store, clock):
    """Its own monitor test passed whatever the monitor did: the job had never been started."""
    submit(store, {"a": [], "b": []})
    silent = store.reserve_job("w1", "r/a")
    clock.advance(30)
    store.reserve_job("w2", "r/b")
    clock.advance(31)
    assert reset_silent(store, 60) == ["r/a"]
    assert (status(store, "a"), status(store, "b")) == (Status.UNSTARTED, Status.STARTED)
    with pytest.raises(SupersededError):
        store.finish_job(silent)
