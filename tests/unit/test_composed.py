"""An exchange made of the eleven verbs, over the model store as a store that has no other."""

from __future__ import annotations

import pytest

from overseer_lite.errors import StoreUnavailableError
from overseer_lite.graph import Graph, job_graph, simple_graph
from overseer_lite.job import Attempt, DependencyResult, Failure, Job, Outcome, ReservedJob, Settlement, Status, stored
from overseer_lite.store import Exchange, compose_exchange
from overseer_lite.testing.memory import MemoryStore

VERBS = (
    "transact_graph", "job_info", "jobs_ready", "reserve_job", "heartbeat_job", "finish_job", "fail_job", "reset_job",
    "abort_job", "jobs_dead", "install",
)  # fmt: skip


class Eleven:
    """A store with the eleven verbs alone: the model's, counted, and unavailable where a test wants it."""

    capabilities = frozenset()

    def __init__(self):
        self.model = MemoryStore()
        self.calls = []
        self.trouble = lambda _verb, _args: False

    def __getattr__(self, verb):
        if verb not in VERBS:
            raise AttributeError(verb)

        def call(*args):
            self.calls.append(verb)
            if self.trouble(verb, args):
                raise StoreUnavailableError("x.db", "asked for by a test")
            return getattr(self.model, verb)(*args)

        return call

    def status(self, job_id):
        return self.model.job_info(job_id).status

    def exchange(self, settlements=(), want=0, types=("a", "b", "c")):
        return compose_exchange(self, "w", settlements, want, types)


@pytest.fixture
def store():
    return Eleven()


def reserved(store, job_id="r/a"):
    """Return an attempt that holds a job."""
    attempt = store.model.reserve_job("w", job_id)
    assert attempt is not None
    return attempt


def test_what_is_reserved_comes_with_all_its_handler_is_shown(store):
    """Args merged, results of dependencies in declared order, failures so far."""
    graph = Graph({"day": "mon", "p": 0}, id="r")
    graph.add("a", "a1")
    graph.add("a", "a2")
    graph.add("b", args={"p": 1}, dependencies=["a2", "a1"])
    store.transact_graph(graph)
    for name, result in (("a1", {"rows": 1}), ("a2", None)):
        store.finish_job(reserved(store, f"r/{name}"), result)
    store.fail_job(reserved(store, "r/b"), Failure("exception", "boom"), 0.0)
    results = (DependencyResult("a2", "a", None), DependencyResult("a1", "a", '{"rows":1}'))
    job = ReservedJob(Attempt("r/b", 2, "w"), "r", "b", "b", '{"day":"mon","p":1}', results, 1)
    assert store.exchange(want=5) == Exchange([job], [], None)


def test_no_more_is_reserved_than_wanted_and_only_those_types(store):
    """In the store's order; nothing is looked for if nothing is wanted."""
    store.transact_graph(simple_graph("a", "b", "c", Job("d"), id="r"))
    assert [job.name for job in store.exchange(want=2, types=["d", "c", "b"]).jobs] == ["b", "c"]
    assert [job.name for job in store.exchange(want=9, types=["a"]).jobs] == ["a"]
    store.calls.clear()
    assert store.exchange() == Exchange([], [], None)
    assert store.calls == []


def test_a_job_others_reserved_meanwhile_is_left_to_them(store):
    """The next one is taken, and looking ends when nothing new is ready."""
    store.transact_graph(simple_graph("a", "b", id="r"))

    def faster(verb, args):
        if verb == "reserve_job" and args[1] == "r/a" and store.status("r/a") is Status.UNSTARTED:
            store.model.reserve_job("other", "r/a")
        return False

    store.trouble = faster
    assert [job.name for job in store.exchange(want=5).jobs] == ["b"]


def test_a_store_that_lists_what_it_does_not_give_ends_no_worker_in_a_loop(store):
    """Each id is tried once an exchange."""
    store.transact_graph(simple_graph("a", id="r"))
    store.model.reserve_job = lambda _worker, _job_id: None
    assert store.exchange(want=1).jobs == []
    assert store.calls.count("reserve_job") == 1


def test_a_finish_releases_what_the_same_exchange_reserves(store):
    """Settlements come first; result and added jobs are stored with them."""
    store.transact_graph(job_graph({"a": [], "b": ["a"]}, id="r"))
    added = [Job("c", detached=True)]
    given = store.exchange([Settlement(reserved(store), Outcome.FINISHED, '{"x":1}', added)], want=5)
    assert given.refused == []
    assert [job.name for job in given.jobs] == ["b", "c"]
    assert store.model.job_info("r/a").result == {"x": 1}


@pytest.mark.parametrize(
    ("outcome", "delay_s", "status", "counts"),
    [
        (Outcome.FAILED, None, Status.FAILED, (1, 0)),
        (Outcome.FAILED, 7.0, Status.UNSTARTED, (1, 0)),
        (Outcome.ABORTED, None, Status.ABORTED, (0, 0)),
        (Outcome.FAULTED, 7.0, Status.UNSTARTED, (0, 0)),
        (Outcome.CRASHED, None, Status.UNSTARTED, (0, 1)),
        (Outcome.INTERRUPTED, None, Status.UNSTARTED, (0, 0)),
        (Outcome.STOPPED, None, Status.UNSTARTED, (0, 0)),
        (Outcome.RESET, None, Status.UNSTARTED, (0, 0)),
        (Outcome.HANDED_BACK, None, Status.UNSTARTED, (0, 0)),
    ],
)
def test_each_outcome_settles_its_own_way(store, outcome, delay_s, status, counts):
    """Through the verb that says it: status, delay, and what is counted."""
    store.transact_graph(simple_graph("a", id="r"))
    failure = Failure("exception", "boom")
    settlement = Settlement(reserved(store), outcome, failure=failure, delay_s=delay_s)
    assert store.exchange([settlement]) == Exchange([], [], None)
    info = store.model.job_info("r/a")
    assert (info.status, (info.failures, info.crashes)) == (status, counts)
    assert (info.due_in_s or 0.0) == pytest.approx(delay_s or 0.0, abs=1)
    if status in {Status.FAILED, Status.ABORTED}:
        assert info.failure == failure


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_superseded_settlement_is_refused_and_stops_no_other(store, outcome):
    """Whatever its outcome: nothing of it is written, and the one after it is settled."""
    store.transact_graph(simple_graph("a", "b", id="r"))
    stale = reserved(store)
    store.reset_job(stale)
    holder = reserved(store)
    before = store.model.job_info("r/a")
    given = store.exchange(
        [
            Settlement(stale, outcome, '"stale"', failure=Failure("exception", "stale")),
            Settlement(reserved(store, "r/b"), Outcome.FINISHED),
        ]
    )
    assert [(refusal.attempt, refusal.reason) for refusal in given.refused] == [(stale, "superseded")]
    assert "r/a" in given.refused[0].message
    assert store.model.job_info("r/a") == before
    assert before.attempt == holder.number
    assert store.status("r/b") is Status.FINISHED


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_settlement_of_a_job_that_is_gone_is_refused(store, outcome):
    """It may have been deleted: the worker goes on."""
    given = store.exchange([Settlement(Attempt("r/x", 1, "w"), outcome, failure=Failure("exception", "x"))])
    assert [refusal.reason for refusal in given.refused] == ["superseded"]


@pytest.mark.parametrize("added", [[Job("other", name="b")], [Job("c", dependencies=[stored("nowhere")])]])
def test_what_a_handler_added_in_conflict_is_refused_and_the_attempt_still_holds(store, added):
    """An id that is there with other content, or a dependency that is nowhere: the worker then fails the attempt."""
    store.transact_graph(job_graph({"a": [], "b": ["a"]}, {"x": 1}, id="r"))
    attempt = reserved(store)
    given = store.exchange([Settlement(attempt, Outcome.FINISHED, None, added)])
    assert [(refusal.attempt, refusal.reason) for refusal in given.refused] == [(attempt, "conflict")]
    assert (store.status("r/a"), store.model.job_info("r/a").worker) == (Status.STARTED, "w")


def test_trouble_after_a_reservation_loses_no_attempt(store):
    """What is reserved is returned, and the one that could not be read is given back."""
    store.transact_graph(simple_graph("a", "b", "c", id="r"))
    store.trouble = lambda verb, args: (verb, *args) == ("job_info", "r/b")
    assert [job.name for job in store.exchange(want=3).jobs] == ["a"]
    assert [store.status(f"r/{name}") for name in "abc"] == [Status.STARTED, Status.UNSTARTED, Status.UNSTARTED]


def test_trouble_before_any_reservation_is_raised(store):
    """Nothing follows about any job, and trying again is right."""
    store.transact_graph(simple_graph("a", id="r"))
    store.trouble = lambda verb, _args: verb in {"jobs_ready", "finish_job"}
    with pytest.raises(StoreUnavailableError):
        store.exchange(want=1)
    attempt = reserved(store)
    with pytest.raises(StoreUnavailableError):
        store.exchange([Settlement(attempt, Outcome.FINISHED)])
    store.trouble = lambda _verb, _args: False
    assert store.exchange([Settlement(attempt, Outcome.FINISHED)]).refused == []
