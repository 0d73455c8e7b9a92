"""What any store must keep: numbered clauses, one test each.

Derive a test class, give it a store, and pytest collects the clauses:

    class TestMyStore(StoreContract):
        def make_store(self, directory, clock):
            return MyStore(directory / "jobs", clock=clock, crash_limit=3)

The clauses see only the protocol of `overseer_lite.store`. Those that need more than its eleven verbs say which
capability; a store that does not declare it has them skipped, with the reason. Time is the clock's that is handed in:
no clause waits. Clauses marked `ancestor` are those of Overseer 0.9.0's own generic store tests, with two differences:
a conflicting submission is an error here, and `jobs_dead` takes a duration instead of an instant.
"""

from __future__ import annotations

import math
import select
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import pytest

from overseer_lite.errors import (
    CycleError,
    DuplicateJobError,
    EmptyGraphError,
    GraphConflictError,
    IllegalTransitionError,
    InvalidInputError,
    NotJsonError,
    SupersededError,
    UnknownDependencyError,
    UnknownJobError,
)
from overseer_lite.graph import Graph, job_graph, simple_graph
from overseer_lite.job import (
    TRANSITIONS,
    Attempt,
    DependencyResult,
    Evidence,
    Failure,
    Job,
    JobInfo,
    Outcome,
    Settlement,
    Status,
    stored,
)
from overseer_lite.store import Counts, Request, Verdict, WorkerRecord
from overseer_lite.testing.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from overseer_lite.clock import Clock
    from overseer_lite.store import Exchange, FullStore

#: The limits a store under test is made with, and the default delay of a fault.
CRASH_LIMIT: Final = 3
INTERRUPTION_LIMIT: Final = 10
FAULT_DELAY_S: Final = 10.0

BOOM: Final = Failure("exception", "no such table", "pkg.DbError", "Traceback: line 1")

_Clause = TypeVar("_Clause", bound="Callable[..., None]")


def needs(*capabilities: str) -> Callable[[_Clause], _Clause]:
    """Mark a clause that a store without these capabilities need not keep."""

    def mark(clause: _Clause) -> _Clause:
        clause.needs = capabilities  # type: ignore[attr-defined]
        return clause

    return mark


# ---- small words the clauses are written in --------------------------------------------------------------------------


def submit(store: FullStore, *jobs: Job, run: str = "r", args: dict[str, Any] | None = None) -> list[str]:
    """Store jobs as the graph of a run; return the ids that are new."""
    return list(store.transact_graph(Graph.of(jobs, id=run, args=args)).created)


def info(store: FullStore, job_id: str) -> JobInfo:
    """Return what is known of a job that is there."""
    found = store.job_info(job_id)
    assert found is not None, f"the store lost job {job_id!r}"
    return found


def start(store: FullStore, job_id: str = "r/a", worker: str = "w1") -> Attempt:
    """Reserve a job that is ready."""
    attempt = store.reserve_job(worker, job_id)
    assert attempt is not None, f"{job_id!r} should be ready: {store.job_info(job_id)}"
    return attempt


def finish(store: FullStore, job_id: str = "r/a", result: Any = None) -> None:
    """Run a job to its good end."""
    store.finish_job(start(store, job_id), result)


def settle(
    store: FullStore,
    attempt: Attempt,
    outcome: Outcome,
    *,
    failure: Failure | None = None,
    delay_s: float | None = None,
    evidence: Evidence | None = None,
) -> Exchange:
    """Settle one attempt and reserve nothing."""
    settlement = Settlement(attempt, outcome, failure=failure, delay_s=delay_s, evidence=evidence)
    return store.exchange(attempt.worker, [settlement], 0, ())


def take(store: FullStore, want: int = 1, types: Sequence[str] = ("a", "b", "c", "d"), **scope: Any) -> list[str]:
    """Reserve by exchange; return the ids in order."""
    return [job.attempt.job_id for job in store.exchange("w1", [], want, types, **scope).jobs]


def snapshot(store: FullStore) -> dict[str, JobInfo | None]:
    """Return all that is known of the jobs clauses use, to see that nothing changed."""
    ids = [f"r/{name}" for name in ("a", "b", "c", "d", "x", "y")]
    return {job_id: store.job_info(job_id) for job_id in ids}


class Move(NamedTuple):
    """A verb on a job: how a store is asked for it."""

    verb: str
    act: Callable[[FullStore, Attempt], object]


def _by_exchange(outcome: Outcome, delay_s: float | None = None) -> Callable[[FullStore, Attempt], object]:
    def act(store: FullStore, attempt: Attempt) -> object:
        exchange = store.exchange(attempt.worker, [Settlement(attempt, outcome, delay_s=delay_s)], 0, ())
        if exchange.refused:
            assert [refusal.attempt for refusal in exchange.refused] == [attempt]
            raise SupersededError(outcome, *attempt, exchange.refused[0].reason)
        return None

    return act


#: Each way to end an attempt, by the eleven verbs and by `exchange`.
ENDS: Final[dict[str, Move]] = {
    "finish": Move("finish", lambda store, attempt: store.finish_job(attempt, 1)),
    "fail": Move("fail", lambda store, attempt: store.fail_job(attempt, BOOM)),
    "retry later": Move("fail", lambda store, attempt: store.fail_job(attempt, BOOM, retry_in_s=5)),
    "abort": Move("abort", lambda store, attempt: store.abort_job(attempt.job_id, BOOM, attempt)),
}
RESETS: Final[dict[str, Move]] = {
    "reset": Move("reset", lambda store, attempt: store.reset_job(attempt)),
    "reset, later": Move("reset", lambda store, attempt: store.reset_job(attempt, delay_s=5)),
    "reset, crashed": Move("reset", lambda store, attempt: store.reset_job(attempt, crashed=True)),
}
EXCHANGED: Final[dict[str, Move]] = {
    "finished": Move("finish", _by_exchange(Outcome.FINISHED)),
    "failed": Move("fail", _by_exchange(Outcome.FAILED)),
    "failed, later": Move("fail", _by_exchange(Outcome.FAILED, 5)),
    "aborted": Move("abort", _by_exchange(Outcome.ABORTED)),
    "faulted": Move("fault", _by_exchange(Outcome.FAULTED)),
    "crashed": Move("reset", _by_exchange(Outcome.CRASHED)),
    "interrupted": Move("reset", _by_exchange(Outcome.INTERRUPTED)),
    "stopped": Move("reset", _by_exchange(Outcome.STOPPED)),
    "reset": Move("reset", _by_exchange(Outcome.RESET)),
}
TERMINAL: Final = (Status.FINISHED, Status.FAILED, Status.ABORTED)


def bring(store: FullStore, status: Status) -> Attempt:
    """Bring job `r/a`, on which `r/b` depends, into a status; return its last attempt, or one it might have had."""
    submit(store, Job("a"), Job("b", dependencies=["a"]))
    if status is Status.UNSTARTED:
        return Attempt("r/a", 1, "w1")
    attempt = start(store)
    if status is Status.FINISHED:
        store.finish_job(attempt, 1)
    elif status is Status.FAILED:
        store.fail_job(attempt, BOOM)
    elif status is Status.ABORTED:
        store.abort_job("r/a", BOOM, attempt)
    return attempt


class StoreContract:
    """The clauses. Override `make_store`; the rest is pytest's."""

    def make_store(self, directory: Path, clock: Clock) -> FullStore:
        """Return a fresh store in that directory, by that clock, with a crash limit of 3; it need not be installed."""
        raise NotImplementedError

    def make_unlimited_store(self, directory: Path, clock: Clock) -> FullStore | None:
        """Return one with crash limit 0, that is none; None if the store has no such thing."""
        del directory, clock
        return None

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time of the store under test."""
        return ManualClock()

    @pytest.fixture
    def store(self, tmp_path: Path, clock: ManualClock, request: pytest.FixtureRequest) -> Iterator[FullStore]:
        """The store under test, installed, empty."""
        store = self.make_store(tmp_path, clock)
        store.install()
        missing = sorted(set(getattr(request.function, "needs", ())) - store.capabilities)
        if missing:
            pytest.skip(f"the store does not declare {', '.join(missing)}")
        yield store
        if hasattr(store, "close"):
            store.close()

    # ---- c001 to c019: a graph is stored whole or not at all ---------------------------------------------------------

    def test_c001_installing_again_keeps_what_is_stored(self, store: FullStore) -> None:
        """`install` is idempotent."""
        submit(store, Job("a"))
        before = snapshot(store)
        store.install()
        assert snapshot(store) == before

    def test_c002_a_submitted_graph_is_there_as_it_was_declared(self, store: FullStore) -> None:
        """Ids are `run/name`, or as given; created in declared order; a new job is unstarted and has no history."""
        submitted = store.transact_graph(
            Graph.of([Job("b", dependencies=["a"], args={"n": 1}), Job("t", name="a", id="own", priority=7)], id="r")
        )
        assert (list(submitted.created), list(submitted.existed)) == (["r/b", "own"], [])
        assert info(store, "r/b") == JobInfo(
            id="r/b", run="r", name="b", type="b", status=Status.UNSTARTED, args={"n": 1}, priority=0, attempt=0,
            failures=0, crashes=0, interruptions=0, worker=None, dependencies=("own",), failure=None, result=None,
            ready=False, stuck=False, due_in_s=None, waiting_for=1, request=None,
        )  # fmt: skip
        assert info(store, "own") == JobInfo(
            id="own", run="r", name="a", type="t", status=Status.UNSTARTED, args={}, priority=7, attempt=0,
            failures=0, crashes=0, interruptions=0, worker=None, dependencies=(), failure=None, result=None,
            ready=True, stuck=False, due_in_s=None, waiting_for=0, request=None,
        )  # fmt: skip

    @pytest.mark.parametrize("status", Status)
    def test_c003_submitting_again_changes_nothing(self, store: FullStore, status: Status) -> None:
        """Same ids, same content: existed, whatever has become of the jobs meanwhile."""
        bring(store, status)
        before = snapshot(store)
        again = store.transact_graph(Graph.of([Job("a"), Job("b", dependencies=["a"])], id="r"))
        assert (list(again.created), list(again.existed)) == ([], ["r/a", "r/b"])
        assert snapshot(store) == before

    def test_c004_priority_delay_and_the_order_of_keys_are_no_content(self, store: FullStore) -> None:
        """What makes two submissions the same is type, args as JSON values, and declared dependencies."""
        submit(store, Job("a", args={"x": 1, "y": {"p": 1, "q": 2}}))
        before = snapshot(store)
        again = store.transact_graph(
            Graph.of([Job("a", args={"y": {"q": 2, "p": 1}, "x": 1}, priority=9, delay_s=60)], id="r")
        )
        assert list(again.existed) == ["r/a"]
        assert snapshot(store) == before

    @pytest.mark.parametrize(
        ("jobs", "named"),
        [
            ([Job("z", name="a"), Job("b", dependencies=["a"], args={"n": 1}), Job("c")], "r/a"),
            ([Job("a"), Job("b", dependencies=["a"], args={"n": 2}), Job("c")], "r/b"),
            ([Job("a"), Job("b", dependencies=["a"]), Job("c")], "r/b"),
            ([Job("a"), Job("b", args={"n": 1}), Job("c")], "r/b"),
            ([Job("a"), Job("b", dependencies=["c"], args={"n": 1}), Job("c")], "r/b"),
            ([Job("a"), Job("b", dependencies=["a", "c"], args={"n": 1}), Job("c")], "r/b"),
            ([Job("a"), Job("b", dependencies=["a"], args={"n": 1}), Job("c"), Job("d")], "r/d"),
        ],
        ids=["type", "args", "no-args", "no-dependency", "dependency", "more-dependencies", "one-more"],
    )
    def test_c005_other_content_under_stored_ids_is_a_conflict(
        self, store: FullStore, jobs: list[Job], named: str
    ) -> None:
        """Same ids with other type, args or dependencies, or only some ids there: an error that names the job."""
        submit(store, Job("a"), Job("b", dependencies=["a"], args={"n": 1}), Job("c"))
        before = snapshot(store)
        with pytest.raises(GraphConflictError) as caught:
            submit(store, *jobs)
        assert repr(named) in str(caught.value)
        assert snapshot(store) == before

    def test_c006_dependencies_in_another_order_are_a_conflict(self, store: FullStore) -> None:
        """Results are handed over in declared order, so that order is content."""
        submit(store, Job("a"), Job("b"), Job("c", dependencies=["a", "b"]))
        with pytest.raises(GraphConflictError):
            submit(store, Job("a"), Job("b"), Job("c", dependencies=["b", "a"]))

    def test_c007_one_and_true_are_different_args(self, store: FullStore) -> None:
        """Args are compared as JSON, not as Python compares: 1 is not true."""
        submit(store, Job("a", args={"n": 1}))
        with pytest.raises(GraphConflictError):
            submit(store, Job("a", args={"n": True}))

    def test_c008_shared_args_lie_below_a_jobs_own(self, store: FullStore) -> None:
        """A handler sees the graph's args with the job's own on top, one level deep."""
        submit(store, Job("a", args={"x": 2, "in": {"p": 1}}), Job("b"), args={"x": 1, "day": "d", "in": {"q": 1}})
        assert info(store, "r/a").args == {"x": 2, "day": "d", "in": {"p": 1}}
        assert info(store, "r/b").args == {"x": 1, "day": "d", "in": {"q": 1}}

    def test_c009_who_brought_the_args_is_no_content(self, store: FullStore) -> None:
        """It is the args a handler sees that are compared, shared or own."""
        submit(store, Job("a"), args={"x": 1})
        assert list(store.transact_graph(Graph.of([Job("a", args={"x": 1})], id="r")).existed) == ["r/a"]
        with pytest.raises(GraphConflictError):
            submit(store, Job("a"), args={"x": 2})

    @pytest.mark.parametrize(
        ("jobs", "error"),
        [
            ([], EmptyGraphError),
            ([Job("a", dependencies=["b"]), Job("b", dependencies=["a"])], CycleError),
            ([Job("a", dependencies=["a"])], CycleError),
            ([Job("a", id="same"), Job("b", id="same")], DuplicateJobError),
            ([Job("a"), Job("b", dependencies=["nobody"])], UnknownDependencyError),
            ([Job("a"), Job("b", dependencies=[stored("nobody")])], UnknownDependencyError),
        ],
        ids=["empty", "cycle", "itself", "duplicate", "unknown-name", "unknown-stored"],
    )
    def test_c010_of_an_invalid_graph_nothing_is_stored(
        self, store: FullStore, jobs: list[Job], error: type[InvalidInputError]
    ) -> None:
        """The ancestor stored cycles, which never ran; here the whole graph is refused."""
        with pytest.raises(error):
            submit(store, *jobs)
        assert set(snapshot(store).values()) == {None}
        assert store.job_info("same") is None
        assert store.jobs_ready() == []
        assert submit(store, Job("a")) == ["r/a"]

    def test_c011_ancestor_a_graph_is_transacted_once(self, store: FullStore) -> None:
        """Ancestor's `test-transact-graph`: idempotent, no upsert. Difference: the ancestor dropped it in silence."""
        store.transact_graph(simple_graph(Job("t", id="foo-id", args={"x": 1}), id="r1"))
        again = store.transact_graph(simple_graph(Job("t", id="foo-id", args={"x": 1}), id="r1"))
        assert list(again.existed) == ["foo-id"]
        with pytest.raises(GraphConflictError):
            store.transact_graph(simple_graph(Job("t", id="foo-id", args={"x": 2}), id="r2"))
        assert info(store, "foo-id").args == {"x": 1}

    def test_c012_ancestor_args_come_back_as_they_went(self, store: FullStore) -> None:
        """Ancestor's `test-job-info`: args survive the round trip, id and type with them."""
        store.transact_graph(simple_graph(Job("foo", id="j", args={"email": "foo@example.com", "age": 30})))
        after = info(store, "j")
        assert (after.id, after.type, after.args) == ("j", "foo", {"email": "foo@example.com", "age": 30})

    @pytest.mark.parametrize(
        "value",
        [
            "naïve 𝄞 \x01 \"'\\ \u2028 😀",
            [1, [2, {"k": [None, True, False]}]],
            {"": {}, "a.b": [], "0": ""},
            2**80,
            -(2**63),
            1.5e300,
            0.1,
            "x" * 500_000,
        ],
        ids=["text", "nested", "keys", "big", "negative", "float", "tenth", "long"],
    )
    def test_c013_any_json_comes_back_as_it_went(self, store: FullStore, value: Any) -> None:
        """As args and as a result: no value is cut, rounded or changed."""
        submit(store, Job("a", args={"value": value}))
        finish(store, result=value)
        assert info(store, "r/a").args == {"value": value}
        assert info(store, "r/a").result == value

    def test_c014_of_an_unknown_job_nothing_is_known(self, store: FullStore) -> None:
        """`job_info` says None; other verbs that take an id say so as well."""
        submit(store, Job("a"))
        assert store.job_info("r/b") is None
        assert store.reserve_job("w1", "r/b") is None
        with pytest.raises(UnknownJobError):
            store.abort_job("r/b")
        with pytest.raises(SupersededError):
            store.finish_job(Attempt("r/b", 1, "w1"))
        assert store.reset_job(Attempt("r/b", 1, "w1")) is False

    def test_c015_what_is_read_is_the_readers_own(self, store: FullStore) -> None:
        """Whoever changes what he was given changes nothing in the store."""
        given: dict[str, Any] = {"list": [1]}
        submit(store, Job("a", args=given))
        given["list"].append(2)
        info(store, "r/a").args["list"].append(3)
        assert info(store, "r/a").args == {"list": [1]}

    @needs("runs")
    def test_c016_a_run_is_one_submitted_graph(self, store: FullStore) -> None:
        """Only some of a run's jobs, or other jobs under its id, are a conflict; the run stays as it was."""
        submit(store, Job("a"), Job("b"))
        before = store.run_info("r")
        for jobs in ([Job("a")], [Job("c")], [Job("a", id="elsewhere")]):
            with pytest.raises(GraphConflictError):
                submit(store, *jobs)
        assert store.run_info("r") == before

    # ---- c020 to c029: ready, waiting, stuck -------------------------------------------------------------------------

    def test_c020_a_job_is_ready_when_all_its_dependencies_are_finished(self, store: FullStore) -> None:
        """Not before the last one; `waiting_for` counts down."""
        submit(store, Job("d", dependencies=["a", "b", "c"]), Job("a"), Job("b"), Job("c"))
        for left, name in ((2, "b"), (1, "a"), (0, "c")):
            assert not info(store, "r/d").ready
            finish(store, f"r/{name}")
            assert info(store, "r/d").waiting_for == left
        assert info(store, "r/d").ready
        assert store.jobs_ready() == ["r/d"]

    def test_c021_a_diamonds_end_waits_for_both_sides(self, store: FullStore) -> None:
        """Each finished job releases those that depend on it directly, and no others."""
        submit(
            store,
            Job("a"),
            Job("b", dependencies=["a"]),
            Job("c", dependencies=["a"]),
            Job("d", dependencies=["b", "c"]),
        )
        assert [info(store, f"r/{name}").waiting_for for name in "abcd"] == [0, 1, 1, 2]
        finish(store, "r/a")
        assert store.jobs_ready() == ["r/b", "r/c"]
        finish(store, "r/b")
        assert store.jobs_ready() == ["r/c"]
        finish(store, "r/c")
        assert store.jobs_ready() == ["r/d"]

    @pytest.mark.parametrize("status", Status)
    def test_c022_a_job_added_after_its_dependency_waits_only_if_that_is_not_finished(
        self, store: FullStore, status: Status
    ) -> None:
        """Added after its dependency's end it is ready at once if that finished, stuck if it failed or was aborted."""
        bring(store, status)
        submit(store, Job("x", dependencies=[stored("r/a")]), run="s")
        added = info(store, "s/x")
        assert added.dependencies == ("r/a",)
        assert (added.ready, added.stuck, added.waiting_for) == {
            Status.UNSTARTED: (False, False, 1),
            Status.STARTED: (False, False, 1),
            Status.FINISHED: (True, False, 0),
            Status.FAILED: (False, True, 1),
            Status.ABORTED: (False, True, 1),
        }[status]

    def test_c023_a_job_added_while_its_dependency_runs_is_released_by_it(self, store: FullStore) -> None:
        """It is released like those submitted with it."""
        attempt = bring(store, Status.STARTED)
        submit(store, Job("x", dependencies=[stored("r/a")]), run="s")
        store.finish_job(attempt)
        assert store.jobs_ready() == ["r/b", "s/x"]

    def test_c024_dependents_of_a_failed_job_are_stuck_however_far(self, store: FullStore) -> None:
        """They are not aborted, and they say that they will not run; others go on."""
        submit(store, Job("a"), Job("b", dependencies=["a"]), Job("c", dependencies=["b"]), Job("d"))
        store.fail_job(start(store))
        stuck = {name: info(store, f"r/{name}").stuck for name in "abcd"}
        assert stuck == {"a": False, "b": True, "c": True, "d": False}
        assert info(store, "r/c").status is Status.UNSTARTED
        assert store.jobs_ready() == ["r/d"]

    def test_c025_ancestor_jobs_become_ready_one_after_the_other(self, store: FullStore) -> None:
        """Ancestor's `test-jobs-ready`."""
        store.transact_graph(job_graph({"j0": [], "j1": ["j0"], "j2": ["j1"]}, id="r"))
        for name in ("j0", "j1", "j2"):
            assert store.jobs_ready() == [f"r/{name}"]
            finish(store, f"r/{name}")
        assert store.jobs_ready() == []

    def test_c026_ready_jobs_are_listed_in_the_order_of_reservation(self, store: FullStore) -> None:
        """Higher priority first, then in order of submission; of the given types; at most `limit`."""
        submit(store, Job("a"), Job("b", priority=-1), Job("c", priority=5), Job("a", name="x"), Job("b", name="y"))
        assert store.jobs_ready() == ["r/c", "r/a", "r/x", "r/y", "r/b"]
        assert store.jobs_ready(["a"]) == ["r/a", "r/x"]
        assert store.jobs_ready(["b", "c", "unheard"]) == ["r/c", "r/y", "r/b"]
        assert store.jobs_ready([]) == []
        assert store.jobs_ready(limit=2) == ["r/c", "r/a"]
        assert store.jobs_ready(["a", "b"], limit=3) == ["r/a", "r/x", "r/y"]

    # ---- c030 to c049: the state machine -----------------------------------------------------------------------------

    def test_c030_reserving_starts_the_next_attempt(self, store: FullStore) -> None:
        """The job is started and held by the worker; nothing else of it changes."""
        submit(store, Job("a"))
        before = info(store, "r/a")
        assert store.reserve_job("w1", "r/a") == Attempt("r/a", 1, "w1")
        assert info(store, "r/a") == before._replace(status=Status.STARTED, worker="w1", attempt=1, ready=False)

    @pytest.mark.parametrize("status", [status for status in Status if status is not Status.UNSTARTED])
    def test_c031_only_an_unstarted_job_can_be_reserved(self, store: FullStore, status: Status) -> None:
        """None, and nothing changes; also for the worker that holds it (ancestor: nil)."""
        bring(store, status)
        before = snapshot(store)
        assert store.reserve_job("w1", "r/a") is None
        assert store.reserve_job("w2", "r/a") is None
        assert snapshot(store) == before

    def test_c032_a_job_that_is_not_ready_cannot_be_reserved(self, store: FullStore) -> None:
        """Waiting, delayed or stuck: None, and nothing changes."""
        submit(
            store, Job("a"), Job("b", dependencies=["a"]), Job("c", delay_s=1), Job("x"), Job("y", dependencies=["x"])
        )
        store.abort_job("r/x")
        before = snapshot(store)
        assert [store.reserve_job("w1", f"r/{name}") for name in "bcxy"] == [None] * 4
        assert snapshot(store) == before

    def test_c033_attempt_numbers_go_on(self, store: FullStore) -> None:
        """Each reservation has a number of its own, however the one before ended."""
        submit(store, Job("a"))
        store.fail_job(start(store), retry_in_s=0)
        store.reset_job(start(store, worker="w2"))
        store.reset_job(start(store), crashed=True)
        assert start(store, worker="w3") == Attempt("r/a", 4, "w3")

    @pytest.mark.parametrize("move", TRANSITIONS, ids=lambda move: f"{move.verb}-{move.source}-{move.target}")
    def test_c034_every_move_of_the_table_leads_where_it_says(self, store: FullStore, move: Any) -> None:
        """`job.TRANSITIONS` is the truth; each arrow is drawn once here."""
        if move.verb == "retry" and "retry" not in store.capabilities:
            pytest.skip("the store does not declare retry")
        if move.verb in ("fault", "hand back") and "exchange" not in store.capabilities:
            pytest.skip("the store does not declare exchange")
        attempt = bring(store, move.source)
        if (move.verb, move.target) == ("reset", Status.FAILED):
            for _ in range(CRASH_LIMIT - 1):
                store.reset_job(attempt, crashed=True)
                attempt = start(store)
        acts: dict[tuple[str, Status], Callable[[], object]] = {
            ("reserve", Status.STARTED): lambda: store.reserve_job("w1", "r/a"),
            ("finish", Status.FINISHED): lambda: store.finish_job(attempt),
            ("fail", Status.FAILED): lambda: store.fail_job(attempt),
            ("fail", Status.UNSTARTED): lambda: store.fail_job(attempt, retry_in_s=1),
            ("fault", Status.UNSTARTED): lambda: settle(store, attempt, Outcome.FAULTED),
            ("hand back", Status.UNSTARTED): lambda: settle(store, attempt, Outcome.HANDED_BACK),
            ("reset", Status.UNSTARTED): lambda: store.reset_job(attempt),
            ("reset", Status.FAILED): lambda: store.reset_job(attempt, crashed=True),
            ("abort", Status.ABORTED): lambda: store.abort_job(
                "r/a", attempt=attempt if move.source is Status.STARTED else None
            ),
            ("retry", Status.UNSTARTED): lambda: store.retry(["r/a"]),
        }
        assert info(store, "r/a").status is move.source
        acts[move.verb, move.target]()
        after = info(store, "r/a")
        assert after.status is move.target
        assert (after.worker is not None) is (after.status is Status.STARTED)

    @pytest.mark.parametrize("status", [status for status in Status if status is not Status.STARTED])
    @pytest.mark.parametrize("end", ENDS)
    def test_c035_a_job_that_is_not_started_cannot_be_settled(self, store: FullStore, status: Status, end: str) -> None:
        """The ancestor let a stale worker finish any job. Refused, or the very same end again: nothing changes."""
        attempt = bring(store, status)
        same = {"finish": "finished", "fail": "failed", "retry later": "failed", "abort": "aborted"}[end] == status
        before = snapshot(store)
        if same and "history" in store.capabilities:
            ENDS[end].act(store, attempt)
        elif not same:
            with pytest.raises(SupersededError):
                ENDS[end].act(store, attempt)
        assert snapshot(store) == before

    @pytest.mark.parametrize("status", [status for status in Status if status is not Status.STARTED])
    @pytest.mark.parametrize("reset", RESETS)
    def test_c036_a_job_that_is_not_started_cannot_be_reset(self, store: FullStore, status: Status, reset: str) -> None:
        """False, and nothing changes (ancestor: nil)."""
        attempt = bring(store, status)
        before = snapshot(store)
        assert RESETS[reset].act(store, attempt) is False
        assert snapshot(store) == before

    @needs("exchange")
    @pytest.mark.parametrize("status", [status for status in Status if status is not Status.STARTED])
    @pytest.mark.parametrize("end", EXCHANGED)
    def test_c037_a_job_that_is_not_started_cannot_be_settled_by_exchange(
        self, store: FullStore, status: Status, end: str
    ) -> None:
        """The settlement is refused as superseded, or it is the very same again: nothing changes."""
        attempt = bring(store, status)
        same = status.value == end.partition(",")[0]
        before = snapshot(store)
        if same and "history" in store.capabilities:
            EXCHANGED[end].act(store, attempt)
        elif not same:
            with pytest.raises(SupersededError, match="superseded"):
                EXCHANGED[end].act(store, attempt)
        assert snapshot(store) == before

    @pytest.mark.parametrize("status", [status for status in Status if status is not Status.STARTED])
    def test_c038_a_job_that_is_not_started_takes_no_heartbeat(self, store: FullStore, status: Status) -> None:
        """The ancestor took heartbeats for any job in any status."""
        attempt = bring(store, status)
        before = snapshot(store)
        with pytest.raises(SupersededError):
            store.heartbeat_job(attempt)
        assert snapshot(store) == before
        assert store.jobs_dead(0) == []

    @pytest.mark.parametrize("status", TERMINAL)
    def test_c039_a_terminal_job_cannot_be_aborted(self, store: FullStore, status: Status) -> None:
        """The ancestor's abort overwrote finished jobs. Here it stays as it is, and so do its dependents."""
        bring(store, status)
        before = snapshot(store)
        assert store.abort_job("r/a", BOOM) == []
        assert snapshot(store) == before

    @needs("retry")
    @pytest.mark.parametrize("status", [Status.UNSTARTED, Status.STARTED, Status.FINISHED])
    def test_c040_only_a_failed_or_aborted_job_can_be_retried(self, store: FullStore, status: Status) -> None:
        """Refused as a whole, with the status in the message; a failed job in the same call stays failed."""
        bring(store, status)
        submit(store, Job("x"), run="s")
        store.fail_job(start(store, "s/x"))
        before = snapshot(store), store.job_info("s/x")
        with pytest.raises(IllegalTransitionError, match=status.value):
            store.retry(["s/x", "r/a"])
        assert (snapshot(store), store.job_info("s/x")) == before

    @needs("requests")
    @pytest.mark.parametrize("status", [status for status in Status if status is not Status.STARTED])
    @pytest.mark.parametrize("wish", ["abort", "reset"])
    def test_c041_only_a_started_job_takes_a_request(self, store: FullStore, status: Status, wish: str) -> None:
        """False, and nothing changes."""
        bring(store, status)
        before = snapshot(store)
        assert store.request("r/a", wish) is False
        assert snapshot(store) == before

    def test_c042_ancestor_a_jobs_life(self, store: FullStore) -> None:
        """Ancestor's `test-updating-jobs`: reserve, reset, finish and fail, each seen in the job's status."""
        store.transact_graph(simple_graph(*(Job("foo", name=name, id=name) for name in ("j1", "j2", "j3"))))
        assert info(store, "j1").status is Status.UNSTARTED
        attempt = start(store, "j1")
        assert info(store, "j1").status is Status.STARTED
        assert store.reserve_job("w2", "j1") is None
        assert store.reset_job(attempt) is True
        assert info(store, "j1").status is Status.UNSTARTED
        assert store.reset_job(attempt) is False
        finish(store, "j2")
        assert info(store, "j2").status is Status.FINISHED
        store.fail_job(start(store, "j3"), BOOM)
        assert (info(store, "j3").status, info(store, "j3").failure) == (Status.FAILED, BOOM)

    # ---- c050 to c059: the fence -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("stale", [Attempt("r/a", 1, "w1"), Attempt("r/a", 2, "w1"), Attempt("r/a", 1, "w2")])
    @pytest.mark.parametrize("end", [*ENDS, "heartbeat"])
    def test_c050_nothing_from_a_superseded_attempt_changes_anything(
        self, store: FullStore, stale: Attempt, end: str
    ) -> None:
        """Number and worker must both be the holder's: attempt 2 of w2 holds it here."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        store.reset_job(start(store))
        start(store, worker="w2")
        before = snapshot(store)
        act = ENDS[end].act if end in ENDS else lambda store, attempt: store.heartbeat_job(attempt)
        with pytest.raises(SupersededError) as caught:
            act(store, stale)
        assert (caught.value.job_id, caught.value.number, caught.value.worker) == stale
        assert snapshot(store) == before

    @pytest.mark.parametrize("stale", [Attempt("r/a", 1, "w1"), Attempt("r/a", 2, "w1"), Attempt("r/a", 1, "w2")])
    @pytest.mark.parametrize("reset", RESETS)
    def test_c051_a_reset_of_a_superseded_attempt_changes_nothing(
        self, store: FullStore, stale: Attempt, reset: str
    ) -> None:
        """A monitor that is late must not put back what somebody else is running by now."""
        submit(store, Job("a"))
        store.fail_job(start(store), retry_in_s=0)
        start(store, worker="w2")
        before = snapshot(store)
        assert RESETS[reset].act(store, stale) is False
        assert snapshot(store) == before

    @needs("exchange")
    @pytest.mark.parametrize("end", EXCHANGED)
    def test_c052_a_superseded_settlement_is_refused_and_the_others_are_made(self, store: FullStore, end: str) -> None:
        """A refusal names its attempt and says `superseded`; it stops neither the others nor the reservation."""
        submit(store, Job("a"), Job("b"), Job("c"))
        stale = start(store)
        settle(store, stale, Outcome.HANDED_BACK)
        start(store, worker="w2")
        mine = start(store, "r/b")
        before = info(store, "r/a")
        outcome = Outcome(end.partition(",")[0])
        exchange = store.exchange(
            "w1", [Settlement(stale, outcome), Settlement(mine, Outcome.FINISHED)], 1, ["a", "b", "c"]
        )
        assert [(refusal.attempt, refusal.reason) for refusal in exchange.refused] == [(stale, "superseded")]
        assert exchange.refused[0].message
        assert info(store, "r/a") == before
        assert info(store, "r/b").status is Status.FINISHED
        assert [job.attempt for job in exchange.jobs] == [Attempt("r/c", 1, "w1")]

    @needs("exchange", "history")
    @pytest.mark.parametrize("end", EXCHANGED)
    def test_c053_settling_an_attempt_twice_the_same_way_is_a_success(self, store: FullStore, end: str) -> None:
        """A worker that could not learn whether its commit happened says it again; the second time changes nothing."""
        attempt = bring(store, Status.STARTED)
        EXCHANGED[end].act(store, attempt)
        before = snapshot(store), store.attempts("r/a")
        EXCHANGED[end].act(store, attempt)
        assert (snapshot(store), store.attempts("r/a")) == before

    @needs("exchange", "history")
    @pytest.mark.parametrize("end", ["failed, later", "faulted", "crashed", "interrupted", "stopped", "reset"])
    def test_c054_said_again_late_it_does_not_touch_the_attempt_that_followed(self, store: FullStore, end: str) -> None:
        """Also when the next attempt is running by then, the repetition is a success that changes nothing."""
        submit(store, Job("a", name="a"))
        attempt = start(store)
        outcome = Outcome(end.partition(",")[0])
        settle(store, attempt, outcome, delay_s=0)
        start(store, worker="w2")
        before = snapshot(store), store.attempts("r/a")
        assert list(settle(store, attempt, outcome, delay_s=0).refused) == []
        assert (snapshot(store), store.attempts("r/a")) == before

    @needs("exchange", "history")
    @pytest.mark.parametrize("first", Outcome)
    @pytest.mark.parametrize("second", Outcome)
    def test_c055_settling_an_attempt_another_way_is_refused(
        self, store: FullStore, first: Outcome, second: Outcome
    ) -> None:
        """Whoever commits first wins; the other is told, and nothing changes."""
        attempt = bring(store, Status.STARTED)
        settle(store, attempt, first)
        before = snapshot(store), store.attempts("r/a")
        refused = settle(store, attempt, second).refused
        assert [refusal.reason for refusal in refused] == ([] if first is second else ["superseded"])
        assert (snapshot(store), store.attempts("r/a")) == before

    @needs("history")
    def test_c056_the_eleven_verbs_may_be_said_twice_as_well(self, store: FullStore) -> None:
        """Finishing, failing and aborting the same attempt again are successes; another worker's are not."""
        submit(store, Job("a"), Job("b"), Job("c"))
        done, failed, given_up = (start(store, f"r/{name}") for name in "abc")
        for _ in range(2):
            store.finish_job(done, 1)
            store.fail_job(failed, BOOM)
            aborted = store.abort_job("r/c", BOOM, given_up)
        assert aborted == [], "the second time nothing was aborted"
        assert (info(store, "r/a").result, info(store, "r/b").failures) == (1, 1)
        assert [len(store.attempts(f"r/{name}")) for name in "abc"] == [1, 1, 1]
        with pytest.raises(SupersededError):
            store.finish_job(done._replace(worker="w2"), 1)

    def test_c057_two_workers_cannot_hold_one_job(self, store: FullStore) -> None:
        """The second to reserve gets nothing, by whichever verb."""
        submit(store, Job("a"))
        assert store.reserve_job("w1", "r/a") is not None
        assert store.reserve_job("w2", "r/a") is None
        if "exchange" in store.capabilities:
            assert list(store.exchange("w2", [], 5, ["a"]).jobs) == []

    # ---- c060 to c069: results ---------------------------------------------------------------------------------------

    @pytest.mark.parametrize("result", [None, 0, "", False, [], {}, "done", {"rows": 3}])
    def test_c060_a_finished_job_keeps_its_result(self, store: FullStore, result: Any) -> None:
        """Empty values too; None is no result. Nothing else is left over from the attempt."""
        submit(store, Job("a"))
        before = info(store, "r/a")
        finish(store, result=result)
        assert info(store, "r/a") == before._replace(status=Status.FINISHED, attempt=1, result=result, ready=False)
        assert type(info(store, "r/a").result) is type(result)

    @pytest.mark.parametrize("result", [{1, 2}, object(), float("nan"), {1: 2}, "\0", "x" * (1 << 20)])
    def test_c061_a_result_that_is_not_json_is_refused_and_the_attempt_holds_on(
        self, store: FullStore, result: Any
    ) -> None:
        """Nothing is written: the caller still can settle."""
        attempt = bring(store, Status.STARTED)
        before = snapshot(store)
        with pytest.raises(NotJsonError):
            store.finish_job(attempt, result)
        assert snapshot(store) == before
        store.heartbeat_job(attempt)

    @needs("exchange")
    def test_c062_results_are_handed_over_in_declared_order(self, store: FullStore) -> None:
        """One for each dependency, with its name and type; null for one that has no result."""
        submit(
            store,
            Job("t", name="a"), Job("t", name="b"), Job("t", name="c", id="own"),
            Job("d", dependencies=["c", "a", "b"]),
        )  # fmt: skip
        finish(store, "r/a", {"ü": [1, "😀"]})
        finish(store, "r/b")
        finish(store, "own", 0)
        (reserved,) = store.exchange("w1", [], 1, ["d"]).jobs
        assert list(reserved.results) == [
            DependencyResult("c", "t", "0"),
            DependencyResult("a", "t", '{"ü":[1,"😀"]}'),
            DependencyResult("b", "t", None),
        ]

    @needs("exchange")
    def test_c063_a_large_result_is_handed_over_whole(self, store: FullStore) -> None:
        """Up to 1 MiB of JSON text."""
        text = "ß" * ((1 << 19) - 1)
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        finish(store, "r/a", text)
        (reserved,) = store.exchange("w1", [], 1, ["b"]).jobs
        assert list(reserved.results) == [DependencyResult("a", "a", f'"{text}"')]

    @needs("exchange")
    def test_c064_results_of_another_run_are_handed_over_as_well(self, store: FullStore) -> None:
        """A dependency on a stored job hands its result over like any other."""
        bring(store, Status.FINISHED)
        submit(store, Job("x", dependencies=[stored("r/a")]), run="s")
        (reserved,) = store.exchange("w1", [], 1, ["x"]).jobs
        assert list(reserved.results) == [DependencyResult("a", "a", "1")]

    # ---- c070 to c079: failures --------------------------------------------------------------------------------------

    def test_c070_a_failure_for_good_is_kept_with_its_words(self, store: FullStore) -> None:
        """The job is failed, its failure counted and kept whole."""
        submit(store, Job("a"))
        before = info(store, "r/a")
        store.fail_job(start(store), BOOM)
        assert info(store, "r/a") == before._replace(
            status=Status.FAILED, attempt=1, failures=1, failure=BOOM, ready=False
        )

    def test_c071_a_failure_to_be_retried_waits_its_time(self, store: FullStore, clock: ManualClock) -> None:
        """Unstarted, counted, its last failure kept; ready exactly when the time has come, not a moment before."""
        submit(store, Job("a"))
        before = info(store, "r/a")
        store.fail_job(start(store), BOOM, retry_in_s=2.5)
        waiting = before._replace(attempt=1, failures=1, failure=BOOM, ready=False, due_in_s=2.5)
        assert info(store, "r/a") == waiting
        clock.advance(2.499999)
        assert store.reserve_job("w1", "r/a") is None
        assert info(store, "r/a").due_in_s == pytest.approx(0.000001)
        clock.advance(0.000001)
        assert info(store, "r/a") == waiting._replace(due_in_s=None, ready=True)
        assert store.jobs_ready() == ["r/a"]
        assert store.reserve_job("w1", "r/a") == Attempt("r/a", 2, "w1")

    def test_c072_a_retry_without_delay_is_ready_at_once(self, store: FullStore) -> None:
        """Zero seconds are a retry; None is none."""
        submit(store, Job("a"))
        store.fail_job(start(store), BOOM, retry_in_s=0)
        assert store.jobs_ready() == ["r/a"]

    def test_c073_failures_add_up_and_the_last_words_stand(self, store: FullStore) -> None:
        """Each attempt's failure counts; a failure without words leaves the last words standing."""
        submit(store, Job("a"))
        store.fail_job(start(store), BOOM, retry_in_s=0)
        store.fail_job(start(store), None, retry_in_s=0)
        assert (info(store, "r/a").failures, info(store, "r/a").failure) == (2, BOOM)
        store.fail_job(start(store), Failure("timeout", "took 600 s"))
        assert (info(store, "r/a").failures, info(store, "r/a").failure) == (3, Failure("timeout", "took 600 s"))

    def test_c074_a_good_end_clears_the_failure_and_keeps_the_count(self, store: FullStore) -> None:
        """A finished job shows no failure; how many attempts it took is still seen."""
        submit(store, Job("a"))
        store.fail_job(start(store), BOOM, retry_in_s=0)
        finish(store)
        assert (info(store, "r/a").failure, info(store, "r/a").failures, info(store, "r/a").attempt) == (None, 1, 2)

    def test_c075_a_failure_that_is_retried_leaves_dependents_waiting(self, store: FullStore) -> None:
        """They are neither stuck nor released before the job has finished."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        store.fail_job(start(store), BOOM, retry_in_s=0)
        assert (info(store, "r/b").stuck, info(store, "r/b").waiting_for) == (False, 1)
        finish(store)
        assert store.jobs_ready() == ["r/b"]

    # ---- c080 to c099: faults, crashes, interruptions, hand-backs ----------------------------------------------------

    def test_c080_a_reset_puts_the_job_back_and_counts_nothing(self, store: FullStore) -> None:
        """Ready at once; only the attempt's number is spent."""
        submit(store, Job("a"))
        before = info(store, "r/a")
        assert store.reset_job(start(store)) is True
        assert info(store, "r/a") == before._replace(attempt=1)

    def test_c081_a_reset_with_a_delay_waits(self, store: FullStore, clock: ManualClock) -> None:
        """A fault does not spin: it is put back later."""
        submit(store, Job("a"))
        store.reset_job(start(store), delay_s=30)
        assert info(store, "r/a").due_in_s == 30
        clock.advance(29.9)
        assert store.jobs_ready() == []
        clock.advance(0.1)
        assert store.jobs_ready() == ["r/a"]

    @needs("exchange")
    def test_c082_a_fault_waits_ten_seconds_unless_it_says_otherwise(
        self, store: FullStore, clock: ManualClock
    ) -> None:
        """It counts as nothing, keeps its words, and may well ask for no delay at all."""
        submit(store, Job("a"))
        before = info(store, "r/a")
        settle(store, start(store), Outcome.FAULTED, failure=BOOM)
        assert info(store, "r/a") == before._replace(attempt=1, failure=BOOM, ready=False, due_in_s=FAULT_DELAY_S)
        clock.advance(FAULT_DELAY_S)
        settle(store, start(store), Outcome.FAULTED, delay_s=3)
        assert info(store, "r/a").due_in_s == 3
        clock.advance(3)
        settle(store, start(store), Outcome.FAULTED, delay_s=0)
        assert store.jobs_ready() == ["r/a"]

    @needs("exchange")
    @pytest.mark.parametrize("outcome", [Outcome.STOPPED, Outcome.RESET])
    def test_c083_stopped_and_reset_count_as_nothing(self, store: FullStore, outcome: Outcome) -> None:
        """However often: neither failure nor crash nor interruption."""
        submit(store, Job("a"))
        before = info(store, "r/a")
        for _ in range(INTERRUPTION_LIMIT + 2):
            settle(store, start(store), outcome)
        assert info(store, "r/a") == before._replace(attempt=INTERRUPTION_LIMIT + 2)

    def test_c084_a_crash_counts_and_puts_the_job_back(self, store: FullStore) -> None:
        """Crashes are counted apart from failures; below the limit the job is ready again."""
        submit(store, Job("a"))
        before = info(store, "r/a")
        assert store.reset_job(start(store), crashed=True) is True
        assert info(store, "r/a") == before._replace(attempt=1, crashes=1)

    def test_c085_at_the_crash_limit_the_job_is_failed_and_says_so(self, store: FullStore) -> None:
        """The ancestor's poison job looped for ever."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        for _ in range(CRASH_LIMIT):
            assert info(store, "r/a").status is Status.UNSTARTED
            assert store.reset_job(start(store), crashed=True) is True
        after = info(store, "r/a")
        assert (after.status, after.crashes, after.failures) == (Status.FAILED, CRASH_LIMIT, 0)
        assert after.failure is not None
        assert after.failure.reason == "crash"
        assert after.failure.message.startswith("crashed 3 times, which is the limit")
        assert info(store, "r/b").stuck

    @needs("exchange")
    def test_c086_the_last_crash_keeps_its_own_words(self, store: FullStore) -> None:
        """What killed the runner stands in the failure; a delay asked for is kept below the limit."""
        submit(store, Job("a"))
        settle(store, start(store), Outcome.CRASHED, failure=Failure("crash", "killed by SIGSEGV"), delay_s=0)
        assert info(store, "r/a").failure == Failure("crash", "killed by SIGSEGV")
        store.reset_job(start(store), crashed=True)
        settle(store, start(store), Outcome.CRASHED, failure=Failure("crash", "killed by SIGKILL"), delay_s=60)
        after = info(store, "r/a")
        assert after.failure == Failure("crash", "crashed 3 times, which is the limit: killed by SIGKILL")
        assert after.due_in_s is None

    def test_c087_a_crash_may_ask_for_a_delay(self, store: FullStore) -> None:
        """Then the job waits, like after a fault."""
        submit(store, Job("a"))
        store.reset_job(start(store), delay_s=4, crashed=True)
        assert (info(store, "r/a").crashes, info(store, "r/a").due_in_s) == (1, 4)

    @needs("exchange")
    def test_c088_interruptions_have_a_limit_of_their_own(self, store: FullStore) -> None:
        """Ten times the worker died, the runner being well: then the job is failed and says so."""
        submit(store, Job("a"))
        for count in range(INTERRUPTION_LIMIT):
            assert info(store, "r/a").status is Status.UNSTARTED
            assert info(store, "r/a").interruptions == count
            settle(store, start(store), Outcome.INTERRUPTED)
        after = info(store, "r/a")
        assert (after.status, after.interruptions, after.crashes) == (Status.FAILED, INTERRUPTION_LIMIT, 0)
        assert after.failure is not None
        assert after.failure.reason == "interruption"
        assert "interrupted 10 times, which is the limit" in after.failure.message

    def test_c089_without_a_limit_a_job_may_crash_for_ever(self, tmp_path: Path, clock: ManualClock) -> None:
        """Crash limit 0 is none; crashes are counted all the same."""
        store = self.make_unlimited_store(tmp_path, clock)
        if store is None:
            pytest.skip("the store's crash limit cannot be lifted")
        store.install()
        submit(store, Job("a"))
        for _ in range(CRASH_LIMIT + 3):
            store.reset_job(start(store), crashed=True)
        assert (info(store, "r/a").status, info(store, "r/a").crashes) == (Status.UNSTARTED, CRASH_LIMIT + 3)
        store.close()

    @needs("exchange")
    def test_c090_what_is_handed_back_is_as_if_it_had_not_been_reserved(self, store: FullStore) -> None:
        """Nobody saw the number: it is given again, and the job is whole as before."""
        submit(store, Job("a"))
        store.reset_job(start(store))
        before = info(store, "r/a")
        assert list(settle(store, start(store), Outcome.HANDED_BACK).refused) == []
        assert info(store, "r/a") == before
        assert start(store, worker="w2") == Attempt("r/a", 2, "w2")

    @needs("exchange", "history")
    def test_c091_a_hand_back_leaves_no_history(self, store: FullStore) -> None:
        """The handler never began; there is nothing to tell."""
        submit(store, Job("a"))
        settle(store, start(store), Outcome.HANDED_BACK)
        assert store.attempts("r/a") == []

    # ---- c100 to c109: abort -----------------------------------------------------------------------------------------

    def test_c100_ancestor_an_abort_takes_all_dependents_along(self, store: FullStore) -> None:
        """Ancestor's `test-updating-jobs`, aborting: direct and transitive dependents."""
        store.transact_graph(job_graph({"start": [], "step1": ["start"], "step2": ["step1"]}, id="r"))
        assert store.abort_job("r/start", BOOM) == ["r/start", "r/step1", "r/step2"]
        statuses = {info(store, f"r/{name}").status for name in ("start", "step1", "step2")}
        assert statuses == {Status.ABORTED}
        assert info(store, "r/start").failure == BOOM
        assert store.jobs_ready() == []

    def test_c101_the_job_comes_first_then_the_nearest_then_the_earliest_submitted(self, store: FullStore) -> None:
        """The order in which aborted ids are returned."""
        submit(
            store,
            Job("z", name="d", dependencies=["c"]), Job("z", name="c", dependencies=["a"]),
            Job("z", name="a"), Job("z", name="b", dependencies=["a"]), Job("z", name="x", dependencies=["b", "d"]),
            Job("z", name="y"),
        )  # fmt: skip
        assert store.abort_job("r/a") == ["r/a", "r/c", "r/b", "r/d", "r/x"]
        assert info(store, "r/y").status is Status.UNSTARTED

    def test_c102_an_abort_reaches_through_what_is_aborted_already(self, store: FullStore) -> None:
        """A dependent added later to an aborted one depends on the whole chain."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        assert store.abort_job("r/b") == ["r/b"]
        submit(store, Job("c", dependencies=[stored("r/b")]), run="s")
        assert info(store, "s/c").stuck
        assert store.abort_job("r/a") == ["r/a", "s/c"]

    def test_c103_an_abort_leaves_alone_what_does_not_depend_on_it(self, store: FullStore) -> None:
        """Dependencies, finished or not, and siblings stay as they are."""
        submit(
            store, Job("a"), Job("b", dependencies=["a"]), Job("c", dependencies=["b"]), Job("d", dependencies=["a"])
        )
        finish(store)
        before = {name: info(store, f"r/{name}") for name in "ad"}
        assert store.abort_job("r/b") == ["r/b", "r/c"]
        assert {name: info(store, f"r/{name}") for name in "ad"} == before

    def test_c104_an_attempt_can_abort_its_own_job(self, store: FullStore) -> None:
        """Its dependents go with it; nobody holds it any more."""
        attempt = bring(store, Status.STARTED)
        before = info(store, "r/a")
        assert store.abort_job("r/a", BOOM, attempt) == ["r/a", "r/b"]
        assert info(store, "r/a") == before._replace(status=Status.ABORTED, worker=None, failure=BOOM)
        assert info(store, "r/b").status is Status.ABORTED
        with pytest.raises(SupersededError):
            store.heartbeat_job(attempt)

    def test_c105_a_delayed_job_can_be_aborted_and_waits_for_nothing_then(self, store: FullStore) -> None:
        """Its time is of no more interest."""
        submit(store, Job("a", delay_s=60))
        store.abort_job("r/a")
        assert (info(store, "r/a").status, info(store, "r/a").due_in_s) == (Status.ABORTED, None)

    @needs("exchange")
    def test_c106_an_abort_by_exchange_takes_dependents_along(self, store: FullStore) -> None:
        """A settlement is the same end as the verb."""
        attempt = bring(store, Status.STARTED)
        settle(store, attempt, Outcome.ABORTED, failure=BOOM)
        assert [info(store, f"r/{name}").status for name in "ab"] == [Status.ABORTED] * 2
        assert info(store, "r/a").failure == BOOM

    # ---- c110 to c129: beats and time --------------------------------------------------------------------------------

    def test_c110_ancestor_a_job_whose_heartbeat_is_old_is_listed(self, store: FullStore, clock: ManualClock) -> None:
        """Ancestor's `test-jobs-dead`. Difference: a duration, not an instant."""
        submit(store, Job("a"), Job("b"), Job("c"))
        clock.advance(1000)
        dead = start(store, "r/b")
        clock.advance(49)
        start(store, "r/a")
        clock.advance(0.5)
        start(store, "r/c")
        clock.advance(0.5)
        assert store.jobs_dead(3) == [dead]

    def test_c111_ancestor_a_heartbeat_renews_the_sign_of_life(self, store: FullStore, clock: ManualClock) -> None:
        """Ancestor's `test-updating-jobs`, heartbeating; a reservation is itself the first beat."""
        submit(store, Job("a"))
        attempt = start(store)
        clock.advance(10)
        assert store.jobs_dead(9.9) == [attempt]
        store.heartbeat_job(attempt)
        assert store.jobs_dead(0) == []
        clock.advance(10)
        assert store.jobs_dead(9.9) == [attempt]

    def test_c112_silence_must_be_longer_than_asked_for(self, store: FullStore, clock: ManualClock) -> None:
        """Exactly as long is not longer."""
        submit(store, Job("a"))
        attempt = start(store)
        clock.advance(10)
        assert store.jobs_dead(10) == []
        clock.advance(0.000001)
        assert store.jobs_dead(10) == [attempt]

    def test_c113_the_longest_silent_comes_first(self, store: FullStore, clock: ManualClock) -> None:
        """Those equally silent in order of submission."""
        submit(store, Job("a"), Job("b"), Job("c"), Job("d"))
        attempts = {name: start(store, f"r/{name}", f"w-{name}") for name in "dcba"}
        clock.advance(1)
        store.heartbeat_job(attempts["b"])
        clock.advance(1)
        store.heartbeat_job(attempts["a"])
        clock.advance(1)
        assert store.jobs_dead(0) == [attempts[name] for name in "cdba"]

    def test_c114_a_job_that_left_started_is_not_silent(self, store: FullStore, clock: ManualClock) -> None:
        """Only a started job has to give signs of life."""
        submit(store, Job("a"), Job("b"))
        finish(store, "r/a")
        store.reset_job(start(store, "r/b"))
        clock.advance(1000)
        assert store.jobs_dead(1) == []

    @pytest.mark.parametrize("step_s", [1e8, -1e8])
    def test_c115_a_step_of_the_wall_clock_is_no_silence(
        self, store: FullStore, clock: ManualClock, step_s: float
    ) -> None:
        """Nor does it hide one."""
        submit(store, Job("a"))
        attempt = start(store)
        clock.advance(5)
        clock.step_wall(step_s)
        assert store.jobs_dead(5) == []
        assert store.jobs_dead(4) == [attempt]

    def test_c116_sleep_of_the_machine_is_no_silence(self, store: FullStore, clock: ManualClock) -> None:
        """Nobody can beat while the machine is suspended."""
        submit(store, Job("a"))
        start(store)
        clock.suspend(1e6)
        assert store.jobs_dead(0) == []

    def test_c117_after_a_reboot_everybody_was_silent_for_ever(self, store: FullStore, clock: ManualClock) -> None:
        """Whatever the new boot's counters say: who beat in another boot is not alive."""
        submit(store, Job("a"), Job("b"))
        attempt = start(store)
        clock.reboot()
        other = start(store, "r/b")
        assert store.jobs_dead(1e9) == [attempt]
        clock.advance(5e6)
        store.heartbeat_job(other)
        assert store.jobs_dead(1e9) == [attempt]
        store.heartbeat_job(attempt)
        assert store.jobs_dead(0) == []

    @pytest.mark.parametrize("delay_s", [0.5, 60, 86400 * 365])
    def test_c118_a_delayed_job_waits_from_its_submission(
        self, store: FullStore, clock: ManualClock, delay_s: float
    ) -> None:
        """Not before, and exactly then; it then stands in line by its order of submission."""
        submit(store, Job("a", delay_s=delay_s), Job("b"))
        assert (info(store, "r/a").due_in_s, info(store, "r/a").ready) == (delay_s, False)
        assert store.jobs_ready() == ["r/b"]
        clock.advance(delay_s)
        assert (info(store, "r/a").due_in_s, info(store, "r/a").ready) == (None, True)
        assert store.jobs_ready() == ["r/a", "r/b"]

    def test_c119_a_delay_runs_while_the_job_waits_for_its_dependencies(
        self, store: FullStore, clock: ManualClock
    ) -> None:
        """The later of the two decides, in either order."""
        submit(store, Job("a"), Job("b", dependencies=["a"], delay_s=60))
        clock.advance(40)
        finish(store)
        assert (info(store, "r/b").waiting_for, info(store, "r/b").due_in_s) == (0, 20)
        clock.advance(20)
        assert store.jobs_ready() == ["r/b"]

    def test_c120_a_delay_goes_on_while_the_machine_sleeps(self, store: FullStore, clock: ManualClock) -> None:
        """A job due in the night is due in the morning."""
        submit(store, Job("a", delay_s=60))
        clock.suspend(59)
        assert info(store, "r/a").due_in_s == 1
        clock.suspend(1)
        assert store.jobs_ready() == ["r/a"]

    @pytest.mark.parametrize("step_s", [1e8, -1e8])
    def test_c121_a_step_of_the_wall_clock_moves_no_due_time(
        self, store: FullStore, clock: ManualClock, step_s: float
    ) -> None:
        """Within a boot the boot's own clock decides."""
        submit(store, Job("a", delay_s=60))
        clock.step_wall(step_s)
        assert info(store, "r/a").due_in_s == 60
        clock.advance(60)
        assert store.jobs_ready() == ["r/a"]

    @pytest.mark.parametrize(
        ("before_s", "step_s", "off_s", "left_s"),
        [
            (0, 0, 0, 60),
            (10, 0, 0, 50),
            (10, 0, 20, 30),
            (10, 0, 50, None),
            (0, 0, 1e6, None),
            (10, 1e8, 0, None),
            (10, -1e8, 0, 60),
            (10, -5, 0, 55),
        ],
    )
    def test_c122_a_reboot_carries_a_delay_over_by_the_wall_clock(
        self, store: FullStore, clock: ManualClock, before_s: float, step_s: float, off_s: float, left_s: float | None
    ) -> None:
        """What the wall clock says is left, never less than nothing, and never longer than was asked for."""
        submit(store, Job("a", delay_s=60))
        clock.advance(before_s)
        clock.step_wall(step_s)
        clock.reboot(off_s=off_s)
        assert info(store, "r/a").due_in_s == left_s
        assert store.jobs_ready() == (["r/a"] if left_s is None else [])
        clock.advance(left_s or 0)
        assert store.reserve_job("w1", "r/a") is not None

    def test_c123_what_was_ready_before_a_reboot_is_ready_after_it(self, store: FullStore, clock: ManualClock) -> None:
        """Jobs without a delay, and those whose time had come."""
        submit(store, Job("a"), Job("b", delay_s=60))
        clock.advance(61)
        clock.reboot()
        assert store.jobs_ready() == ["r/a", "r/b"]

    @needs("workers")
    def test_c124_a_workers_beat_counts_for_all_it_holds(self, store: FullStore, clock: ManualClock) -> None:
        """The younger of the two signs decides; another worker's beat counts for nothing."""
        for worker in ("w1", "w2"):
            store.register(WorkerRecord(worker, 1))
        submit(store, Job("a"), Job("b"), Job("c"))
        mine = start(store, "r/a"), start(store, "r/b")
        other = start(store, "r/c", "w2")
        clock.advance(10)
        store.beat("w1")
        assert store.jobs_dead(1) == [other]
        clock.advance(5)
        store.heartbeat_job(mine[1])
        assert store.jobs_dead(1) == [other, mine[0]]

    @needs("workers")
    def test_c125_a_workers_silence_is_told(self, store: FullStore, clock: ManualClock) -> None:
        """By the monotonic clock, from its registration or last beat; in another boot it is without end."""
        store.register(WorkerRecord("w1", 1))
        clock.advance(7)
        clock.suspend(100)
        clock.step_wall(-1e6)
        assert [worker.silent_s for worker in store.workers()] == [7]
        store.beat("w1")
        assert [worker.silent_s for worker in store.workers()] == [0]
        clock.reboot()
        assert [worker.silent_s for worker in store.workers()] == [math.inf]

    # ---- c130 to c149: order, limits, exchange -----------------------------------------------------------------------

    @needs("exchange")
    def test_c130_higher_priority_first_then_first_in_first_out(self, store: FullStore) -> None:
        """Across types, whatever order the types are given in; decided at reservation."""
        submit(store, Job("a"), Job("b", priority=-5), Job("c", priority=5), Job("b", name="x"), Job("a", name="y"))
        assert take(store, 2, ["b", "a", "c"]) == ["r/c", "r/a"]
        submit(store, Job("a", priority=1), run="s")
        assert take(store, 9, ["b", "a", "c"]) == ["s/a", "r/x", "r/y", "r/b"]

    @needs("exchange")
    def test_c131_a_retried_job_keeps_its_place_in_line(self, store: FullStore) -> None:
        """Neither failure nor reset sends it to the end."""
        submit(store, Job("a"), Job("b"), Job("c"))
        store.fail_job(start(store, "r/b"), retry_in_s=0)
        store.reset_job(start(store, "r/a"))
        assert take(store, 3) == ["r/a", "r/b", "r/c"]

    @needs("exchange")
    def test_c132_no_more_is_given_than_wanted_and_only_of_the_types(self, store: FullStore) -> None:
        """Nothing for nobody: want 0 or no types reserve nothing."""
        submit(store, Job("a"), Job("b"), Job("a", name="c"))
        assert take(store, 0) == []
        assert take(store, 5, []) == []
        assert take(store, 5, ["unheard"]) == []
        assert take(store, 1, ["b", "a"]) == ["r/a"]
        assert take(store, 5, ["a"]) == ["r/c"]
        assert info(store, "r/b").status is Status.UNSTARTED

    @needs("exchange")
    def test_c133_a_reserved_job_comes_with_all_its_handler_will_be_shown(self, store: FullStore) -> None:
        """Run, name, type, the merged args, results, and how often it has failed."""
        submit(store, Job("t", name="a", args={"x": 2}), Job("t", name="b", id="own"), args={"x": 1, "day": "d"})
        store.fail_job(start(store), BOOM, retry_in_s=0)
        one, two = store.exchange("w7", [], 2, ["t"]).jobs
        assert one.args_json.replace(" ", "") == '{"x":2,"day":"d"}'
        assert one[:4] == (Attempt("r/a", 2, "w7"), "r", "a", "t")
        assert two[:4] == (Attempt("own", 1, "w7"), "r", "b", "t")
        assert [(list(job.results), job.failures) for job in (one, two)] == [([], 1), ([], 0)]

    @needs("exchange")
    def test_c134_what_a_settlement_releases_can_be_reserved_in_the_same_exchange(self, store: FullStore) -> None:
        """Settling comes first, all of it; then reserving, with the results just settled."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        attempt = start(store)
        exchange = store.exchange("w1", [Settlement(attempt, Outcome.FINISHED, '{"n":1}')], 1, ["b"])
        assert list(exchange.refused) == []
        assert [job.attempt for job in exchange.jobs] == [Attempt("r/b", 1, "w1")]
        assert list(exchange.jobs[0].results) == [DependencyResult("a", "a", '{"n":1}')]

    @needs("exchange")
    def test_c135_settlements_are_made_in_the_order_given(self, store: FullStore) -> None:
        """The first of two ends of one attempt wins, within one exchange as well."""
        attempt = bring(store, Status.STARTED)
        exchange = store.exchange(
            "w1", [Settlement(attempt, Outcome.FAILED, failure=BOOM), Settlement(attempt, Outcome.FINISHED)], 0, ()
        )
        assert [refusal.reason for refusal in exchange.refused] == ["superseded"]
        assert info(store, "r/a").status is Status.FAILED

    @needs("exchange")
    def test_c136_a_worker_may_settle_and_reserve_the_same_job_again(self, store: FullStore) -> None:
        """What is put back without delay is ready at once, also for the one who had it."""
        submit(store, Job("a"))
        exchange = store.exchange("w1", [Settlement(start(store), Outcome.RESET)], 1, ["a"])
        assert [job.attempt for job in exchange.jobs] == [Attempt("r/a", 2, "w1")]

    @needs("exchange")
    def test_c137_the_next_due_time_is_told(self, store: FullStore, clock: ManualClock) -> None:
        """Of delayed jobs of these types that wait for nothing else; None if there is none, or all have come."""
        submit(
            store,
            Job("a", delay_s=60), Job("a", name="b", delay_s=30), Job("c", delay_s=5),
            Job("d"), Job("a", name="x", dependencies=["d"], delay_s=1),
        )  # fmt: skip
        assert store.exchange("w1", [], 0, ["a"]).next_due_s == 30
        assert store.exchange("w1", [], 0, ["a", "c"]).next_due_s == 5
        assert store.exchange("w1", [], 0, ["d"]).next_due_s is None
        clock.advance(29)
        assert store.exchange("w1", [], 0, ["a"]).next_due_s == 1
        clock.advance(1)
        exchange = store.exchange("w1", [], 5, ["a"])
        assert ([job.attempt.job_id for job in exchange.jobs], exchange.next_due_s) == (["r/b"], 30)
        clock.advance(31)
        assert store.exchange("w1", [], 0, ["a"]).next_due_s is None

    @needs("exchange")
    def test_c138_a_fault_is_the_next_thing_due(self, store: FullStore) -> None:
        """An exchange tells of what it has itself just put off."""
        submit(store, Job("a"))
        exchange = store.exchange("w1", [Settlement(start(store), Outcome.FAULTED, delay_s=7)], 1, ["a"])
        assert (list(exchange.jobs), exchange.next_due_s) == ([], 7)

    @needs("exchange", "limits")
    def test_c139_no_more_than_the_limit_of_a_type_are_started(self, store: FullStore) -> None:
        """All started jobs of the type count, whoever holds them; other types are passed by none."""
        submit(store, *(Job("a", name=f"a{n}", priority=9) for n in range(4)), Job("b"), Job("c", name="c0"))
        start(store, "r/a0", "w2")
        assert take(store, 9, ["a", "b"], limits={"a": 2}) == ["r/a1", "r/b"]
        assert take(store, 9, ["a", "c"], limits={"a": 2}) == ["r/c0"]
        assert take(store, 9, ["a"], limits={"a": 1}) == []
        assert take(store, 9, ["a"], limits={"b": 1, "a": 3}) == ["r/a2"]
        assert take(store, 9, ["a"]) == ["r/a3"]

    @needs("exchange", "limits")
    def test_c140_what_is_settled_makes_room_under_the_limit(self, store: FullStore) -> None:
        """In the same exchange."""
        submit(store, Job("a", name="a"), Job("a", name="b"))
        attempt = start(store)
        assert take(store, 1, ["a"], limits={"a": 1}) == []
        exchange = store.exchange("w1", [Settlement(attempt, Outcome.FINISHED)], 1, ["a"], limits={"a": 1})
        assert [job.attempt.job_id for job in exchange.jobs] == ["r/b"]

    @needs("exchange", "limits", "runs")
    def test_c141_a_limit_counts_the_jobs_of_all_runs(self, store: FullStore) -> None:
        """It protects what the type uses; that knows of no runs."""
        submit(store, Job("a"))
        submit(store, Job("a"), run="s")
        start(store, "r/a", "w2")
        assert take(store, 1, ["a"], limits={"a": 1}, run="s") == []

    @needs("exchange", "runs")
    def test_c142_a_worker_may_confine_itself_to_a_run(self, store: FullStore) -> None:
        """Then jobs of others are not reserved, whatever their priority, nor is their time of interest."""
        submit(store, Job("a", priority=9), Job("b", delay_s=5))
        submit(store, Job("a"), Job("b"), Job("c", delay_s=50), run="s")
        assert store.exchange("w1", [], 0, ["a", "b", "c"], run="s").next_due_s == 50
        assert take(store, 9, ["a", "b"], run="s") == ["s/a", "s/b"]

    @needs("exchange")
    def test_c143_a_group_bounds_one_exchange_type_by_type(self, store: FullStore) -> None:
        """Not what is started: the next exchange may reserve as many again."""
        submit(store, Job("a"), Job("a", name="a2"), Job("b"), Job("a", name="a3"), Job("b", name="b2"))
        reserved = [job.attempt.job_id for job in store.exchange("w1", [], 9, ["a", "b"], groups={"a": 1}).jobs]
        assert reserved == ["r/a", "r/b", "r/b2"]
        reserved = [job.attempt.job_id for job in store.exchange("w1", [], 9, ["a", "b"], groups={"a": 1}).jobs]
        assert reserved == ["r/a2"]

    @needs("exchange")
    def test_c144_a_job_that_was_handed_back_is_reserved_alone(self, store: FullStore) -> None:
        """Nothing comes with it, and nobody gets it who holds something else: it has waited behind others once."""
        submit(store, *(Job("a", name=name) for name in "abcd"))
        reserved = store.exchange("w1", [], 2, ["a"]).jobs
        assert [job.attempt.job_id for job in reserved] == ["r/a", "r/b"]
        back = Settlement(reserved[1].attempt, Outcome.HANDED_BACK)
        assert [job.attempt.job_id for job in store.exchange("w1", [back], 9, ["a"]).jobs] == ["r/c", "r/d"]
        assert [job.attempt for job in store.exchange("w2", [], 9, ["a"]).jobs] == [Attempt("r/b", 1, "w2")]
        again = Settlement(Attempt("r/b", 1, "w2"), Outcome.RESET)
        submit(store, Job("a"), run="s")
        reserved = store.exchange("w2", [again], 9, ["a"]).jobs
        assert [job.attempt.job_id for job in reserved] == ["r/b", "s/a"], (
            "having been reserved alone, it is as any other"
        )

    # ---- c150 to c169: jobs added by a handler -----------------------------------------------------------------------

    @needs("added")
    def test_c150_added_jobs_are_stored_with_the_finish_and_dependents_wait_for_them(self, store: FullStore) -> None:
        """They belong to the adder's run, see its shared args, and stand last among the dependents' dependencies."""
        submit(store, Job("a"), Job("b"), Job("c", dependencies=["a", "b"]), args={"day": "d"})
        finish(store, "r/b", "b")
        store.finish_job(start(store), "a", [Job("t", name="x", args={"n": 1}), Job("t", name="y", id="own")])
        added = info(store, "r/x")
        assert (added.run, added.name, added.type, added.args) == ("r", "x", "t", {"day": "d", "n": 1})
        assert (info(store, "own").run, info(store, "own").name) == ("r", "y")
        waiting = info(store, "r/c")
        assert (waiting.dependencies, waiting.waiting_for, waiting.ready) == (("r/a", "r/b", "r/x", "own"), 2, False)
        assert store.jobs_ready() == ["r/x", "own"]
        finish(store, "own", "y")
        assert not info(store, "r/c").ready
        finish(store, "r/x", "x")
        assert store.jobs_ready() == ["r/c"]

    @needs("added", "exchange")
    def test_c151_dependents_get_the_results_of_added_jobs_last(self, store: FullStore) -> None:
        """Declared dependencies first, then those added, in the order in which they were added."""
        submit(store, Job("a"), Job("b"), Job("c", dependencies=["a", "b"]))
        store.finish_job(start(store), "a", [Job("t", name="y"), Job("t", name="x")])
        for name in ("b", "x", "y"):
            finish(store, f"r/{name}", name)
        (reserved,) = store.exchange("w1", [], 1, ["c"]).jobs
        assert [(result.name, result.result_json) for result in reserved.results] == [
            (name, f'"{name}"') for name in "abyx"
        ]

    @needs("added")
    def test_c152_a_detached_job_is_waited_for_by_nobody(self, store: FullStore) -> None:
        """It is stored like the others, and the adder's dependents are released without it."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        store.finish_job(start(store), None, [Job("x", detached=True), Job("y")])
        assert info(store, "r/b").dependencies == ("r/a", "r/y")
        finish(store, "r/y")
        assert store.jobs_ready() == ["r/b", "r/x"]

    @needs("added")
    def test_c153_added_jobs_may_depend_on_each_other_and_on_what_is_stored(self, store: FullStore) -> None:
        """Also on the adder itself, which is finished by then; priority and delay count as ever."""
        submit(store, Job("a"), Job("b", dependencies=["a"]), Job("c"))
        store.finish_job(
            start(store),
            None,
            [
                Job("x", dependencies=["y", stored("r/c")]),
                Job("y", dependencies=[stored("r/a")], delay_s=9, priority=3),
            ],
        )
        assert info(store, "r/x").dependencies == ("r/y", "r/c")
        assert (info(store, "r/x").waiting_for, info(store, "r/b").waiting_for) == (2, 2)
        after = info(store, "r/y")
        assert (after.waiting_for, after.due_in_s, after.priority, after.dependencies) == (0, 9, 3, ("r/a",))

    @needs("added")
    def test_c154_an_added_job_that_is_there_with_the_same_content_is_waited_for(self, store: FullStore) -> None:
        """It stays as it is, its own progress included; a finished one is not waited for."""
        submit(store, Job("a"), Job("b", dependencies=["a"]), Job("x", args={"n": 1}), Job("y"))
        finish(store, "r/y")
        before = info(store, "r/x"), info(store, "r/y")
        store.finish_job(start(store), None, [Job("x", args={"n": 1}), Job("y")])
        assert (info(store, "r/x"), info(store, "r/y")) == before
        assert (info(store, "r/b").dependencies, info(store, "r/b").waiting_for) == (("r/a", "r/x", "r/y"), 1)

    @needs("added")
    def test_c155_two_adders_of_the_same_job_add_it_once(self, store: FullStore) -> None:
        """A dependent of both does not wait twice."""
        submit(store, Job("a"), Job("b"), Job("c", dependencies=["a", "b"]))
        store.finish_job(start(store, "r/a"), None, [Job("x")])
        store.finish_job(start(store, "r/b"), None, [Job("x")])
        assert (info(store, "r/c").dependencies, info(store, "r/c").waiting_for) == (("r/a", "r/b", "r/x"), 1)

    @needs("added")
    @pytest.mark.parametrize(
        "added",
        [
            [Job("y"), Job("x", args={"n": 2})],
            [Job("y"), Job("z", name="x")],
            [Job("y"), Job("x", dependencies=["y"], args={"n": 1})],
            [Job("y"), Job("z", dependencies=[stored("nobody")])],
            [Job("y", dependencies=["z"]), Job("z", dependencies=["y"])],
            [Job("y", id="same"), Job("z", id="same")],
            [Job("y"), Job("z", dependencies=[stored("r/b")])],
            [Job("y"), Job("z", dependencies=[stored("r/c")])],
            [Job("y", dependencies=["z"]), Job("z", dependencies=[stored("r/c")], detached=True)],
            [Job("y"), Job("c", dependencies=[stored("r/b")])],
        ],
        ids=[
            "args", "type", "dependencies", "unknown", "cycle", "duplicate", "waits-for-dependent",
            "waits-for-a-dependents-dependent", "by-way-of-a-detached-one", "is-a-dependents-dependent",
        ],
    )  # fmt: skip
    def test_c156_what_cannot_be_added_leaves_the_attempt_as_it_was(self, store: FullStore, added: list[Job]) -> None:
        """Other content, invalid, or it would make jobs wait in a circle: nothing is written, the job is still held."""
        submit(store, Job("a"), Job("b", dependencies=["a"]), Job("c", dependencies=["b"]), Job("x", args={"n": 1}))
        attempt = start(store)
        before = snapshot(store)
        with pytest.raises(InvalidInputError):
            store.finish_job(attempt, "result", added)
        assert snapshot(store) == before
        assert store.job_info("r/z") is None
        if "exchange" in store.capabilities:
            settlement = Settlement(attempt, Outcome.FINISHED, '"result"', added)
            (refusal,) = store.exchange("w1", [settlement], 0, ()).refused
            assert (refusal.attempt, refusal.reason) == (attempt, "conflict")
            assert snapshot(store) == before
        store.fail_job(attempt, Failure("conflict", "as the worker then does"))
        assert info(store, "r/a").status is Status.FAILED

    @needs("added")
    def test_c157_a_detached_job_may_wait_for_the_adders_dependents(self, store: FullStore) -> None:
        """Nobody waits for it, so there is no circle."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        store.finish_job(start(store), None, [Job("x", dependencies=[stored("r/b")], detached=True)])
        finish(store, "r/b")
        assert store.jobs_ready() == ["r/x"]

    @needs("added")
    def test_c158_a_superseded_attempt_adds_nothing(self, store: FullStore) -> None:
        """The fence comes first."""
        submit(store, Job("a"))
        stale = start(store)
        store.reset_job(stale)
        with pytest.raises(SupersededError):
            store.finish_job(stale, None, [Job("x")])
        assert store.job_info("r/x") is None

    @needs("added", "history")
    def test_c159_finishing_again_adds_nothing(self, store: FullStore) -> None:
        """The repetition of a finish whose commit was in doubt is a success without effect."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        attempt = start(store)
        store.finish_job(attempt, None, [Job("x")])
        before = snapshot(store)
        store.finish_job(attempt, None, [Job("x")])
        assert snapshot(store) == before

    @needs("added")
    def test_c160_dependents_of_an_added_job_that_fails_are_stuck(self, store: FullStore) -> None:
        """An added dependency is one like any other."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        store.finish_job(start(store), None, [Job("x")])
        store.fail_job(start(store, "r/x"))
        assert info(store, "r/b").stuck

    @needs("added")
    def test_c161_submitting_the_graph_again_takes_no_notice_of_what_was_added(self, store: FullStore) -> None:
        """Only declared dependencies are content."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        store.finish_job(start(store), None, [Job("x")])
        before = snapshot(store)
        assert submit(store, Job("a"), Job("b", dependencies=["a"])) == []
        assert snapshot(store) == before

    @needs("added")
    def test_c162_a_circle_by_way_of_what_was_added_earlier_is_refused(self, store: FullStore) -> None:
        """Here x has come to wait for b through another adder; so b must not be made to wait for x."""
        submit(store, Job("a"), Job("b", dependencies=["a"]), Job("c"), Job("x", dependencies=["c"]))
        store.finish_job(start(store, "r/c"), None, [Job("y", dependencies=[stored("r/b")])])
        attempt = start(store)
        before = snapshot(store)
        with pytest.raises(InvalidInputError):
            store.finish_job(attempt, None, [Job("x", dependencies=[stored("r/c")])])
        assert snapshot(store) == before

    # ---- c170 to c179: history ---------------------------------------------------------------------------------------

    @needs("history")
    def test_c170_each_attempt_has_its_row(self, store: FullStore, clock: ManualClock) -> None:
        """Oldest first: number, worker, outcome, wall times, failure; the running one is not among them."""
        submit(store, Job("a"))
        first = start(store)
        reserved_at = clock.read().wall_us / 1e6
        clock.advance(3)
        store.fail_job(first, BOOM, retry_in_s=0)
        store.reset_job(start(store, worker="w2"), crashed=True)
        running = start(store)
        one, two = store.attempts("r/a")
        assert (one.number, one.worker, one.outcome, one.failure) == (1, "w1", Outcome.FAILED, BOOM)
        assert (one.reserved_at, one.ended_at) == pytest.approx((reserved_at, reserved_at + 3))
        assert (one.ran_s, one.exit_code, one.signal, one.output, one.output_bytes) == (None, None, None, "", 0)
        assert (two.number, two.worker, two.outcome, two.failure) == (2, "w2", Outcome.CRASHED, None)
        store.finish_job(running)
        assert [record.outcome for record in store.attempts("r/a")][2:] == [Outcome.FINISHED]

    @needs("history", "exchange")
    @pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.HANDED_BACK])
    def test_c171_the_evidence_stands_in_the_history(
        self, store: FullStore, clock: ManualClock, outcome: Outcome
    ) -> None:
        """How it ended, what it wrote, how long it ran; durations become times by the store's clock."""
        submit(store, Job("a"))
        attempt = start(store)
        clock.advance(100)
        evidence = Evidence(9.5, 2.0, exit_code=3, signal=9, output="last words ü", output_bytes=70_000)
        settle(store, attempt, outcome, failure=BOOM, evidence=evidence)
        (record,) = store.attempts("r/a")
        assert (record.outcome, record.failure, record.ran_s) == (outcome, BOOM, 7.5)
        assert record.ended_at - record.reserved_at == pytest.approx(98)
        assert (record.exit_code, record.signal) == (3, 9)
        assert (record.output, record.output_bytes) == ("last words ü", 70_000)

    @needs("history")
    def test_c172_a_job_without_attempts_has_no_history(self, store: FullStore) -> None:
        """Also one that is running its first."""
        submit(store, Job("a"))
        start(store)
        assert store.attempts("r/a") == []

    # ---- c180 to c189: an operator's wishes --------------------------------------------------------------------------

    @needs("requests")
    @pytest.mark.parametrize("wish", ["abort", "reset"])
    def test_c180_a_wish_waits_for_the_worker(self, store: FullStore, wish: str) -> None:
        """It is seen in the job and by its worker, by no other, and changes nothing else."""
        attempt = bring(store, Status.STARTED)
        before = info(store, "r/a")
        assert store.request("r/a", wish) is True
        assert info(store, "r/a") == before._replace(request=wish)
        assert store.requests("w1") == [Request(attempt, wish)]
        assert store.requests("w2") == []

    @needs("requests")
    def test_c181_aborting_a_started_job_only_asks_its_worker_to(self, store: FullStore) -> None:
        """Nothing is aborted yet: its process has to be stopped first."""
        attempt = bring(store, Status.STARTED)
        assert store.abort_job("r/a", BOOM) == []
        assert info(store, "r/a").status is Status.STARTED
        assert info(store, "r/b").status is Status.UNSTARTED
        assert store.requests("w1") == [Request(attempt, "abort")]

    @needs("requests")
    @pytest.mark.parametrize("wish", ["abort", "reset"])
    def test_c182_a_finish_that_is_committed_first_wins(self, store: FullStore, wish: str) -> None:
        """The wish is dropped, dependents are released."""
        attempt = bring(store, Status.STARTED)
        store.request("r/a", wish)
        store.finish_job(attempt)
        assert (info(store, "r/a").status, info(store, "r/a").request) == (Status.FINISHED, None)
        assert store.jobs_ready() == ["r/b"]
        assert store.requests("w1") == []

    @needs("requests", "exchange")
    @pytest.mark.parametrize("end", ["failed, later", "faulted", "crashed", "interrupted", "stopped", "reset"])
    def test_c183_what_would_come_back_is_aborted_if_that_was_wished(self, store: FullStore, end: str) -> None:
        """With its dependents; a hand-back likewise."""
        attempt = bring(store, Status.STARTED)
        store.request("r/a", "abort")
        EXCHANGED[end].act(store, attempt)
        assert [info(store, f"r/{name}").status for name in "ab"] == [Status.ABORTED] * 2
        assert (info(store, "r/a").request, info(store, "r/a").due_in_s) == (None, None)

    @needs("requests", "exchange")
    def test_c184_what_is_handed_back_is_aborted_if_that_was_wished(self, store: FullStore) -> None:
        """The number is taken back all the same."""
        attempt = bring(store, Status.STARTED)
        store.request("r/a", "abort")
        settle(store, attempt, Outcome.HANDED_BACK)
        assert (info(store, "r/a").status, info(store, "r/a").attempt) == (Status.ABORTED, 0)
        assert info(store, "r/b").status is Status.ABORTED

    @needs("requests")
    def test_c185_a_failure_for_good_stays_one(self, store: FullStore) -> None:
        """The wish is dropped; dependents are stuck, not aborted."""
        attempt = bring(store, Status.STARTED)
        store.request("r/a", "abort")
        store.fail_job(attempt, BOOM)
        assert (info(store, "r/a").status, info(store, "r/a").request) == (Status.FAILED, None)
        assert info(store, "r/b").status is Status.UNSTARTED

    @needs("requests", "exchange")
    @pytest.mark.parametrize("end", ["faulted", "crashed", "reset"])
    def test_c186_a_wish_to_reset_ends_with_the_attempt(self, store: FullStore, end: str) -> None:
        """However it ended; the next attempt knows nothing of it."""
        attempt = bring(store, Status.STARTED)
        store.request("r/a", "reset")
        EXCHANGED[end].act(store, attempt)
        assert (info(store, "r/a").status, info(store, "r/a").request) == (Status.UNSTARTED, None)

    @needs("requests")
    def test_c187_the_last_wish_stands(self, store: FullStore) -> None:
        """One wish at a time."""
        attempt = bring(store, Status.STARTED)
        store.request("r/a", "abort")
        store.request("r/a", "reset")
        assert store.requests("w1") == [Request(attempt, "reset")]

    # ---- c190 to c209: workers and recovery --------------------------------------------------------------------------

    @needs("workers")
    def test_c190_a_registered_worker_is_listed_as_it_registered(self, store: FullStore) -> None:
        """In order of registration; registering again renews the entry in its place."""
        one = WorkerRecord("w1", 11, 12, "boot:11", "boot:1", "jobs", "/srv/jobs.py", 1.5, ("a", "b"), "r", 0.0)
        two = WorkerRecord("w2", 21)
        for record in (one, two, one._replace(pid=13, types=("c",))):
            store.register(record)
        assert [worker._replace(types=tuple(worker.types)) for worker in store.workers()] == [
            one._replace(pid=13, types=("c",)),
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

    # ---- c210 to c219: looking ---------------------------------------------------------------------------------------

    @needs("looking")
    def test_c210_jobs_are_counted_by_status(self, store: FullStore) -> None:
        """Ready and stuck are among the unstarted; a run's own, or all."""
        names = ["ok", "bad", "up", "on", "late", "wait"]
        submit(
            store,
            *(Job("t", name=name) for name in names[:4]),
            Job("t", name="late", delay_s=60),
            Job("t", name="wait", dependencies=["on"]),
            Job("t", name="hung", dependencies=["bad"]),
            Job("t", name="hung2", dependencies=["hung"]),
            Job("t", name="free"),
        )
        submit(store, Job("t", name="other"), run="s")
        finish(store, "r/ok")
        store.fail_job(start(store, "r/bad"))
        store.abort_job("r/up")
        start(store, "r/on")
        expected = Counts(unstarted=5, started=1, finished=1, failed=1, aborted=1, ready=1, stuck=2)
        assert store.counts("r" if "runs" in store.capabilities else None)._replace(ready=1, unstarted=5) == expected
        assert store.counts() == expected._replace(unstarted=6, ready=2)

    @needs("looking", "runs")
    def test_c211_a_run_is_counted_by_itself(self, store: FullStore) -> None:
        """Exit code 0 only where all is finished."""
        submit(store, Job("a"))
        submit(store, Job("a"), Job("b"), run="s")
        finish(store)
        assert store.counts("r") == Counts(finished=1)
        assert store.counts("s") == Counts(unstarted=2, ready=2)
        assert (store.counts("r").exit_code, store.counts("s").exit_code) == (0, 1)

    @needs("looking")
    def test_c212_a_store_is_drained_when_nothing_is_left_that_can_run(
        self, store: FullStore, clock: ManualClock
    ) -> None:
        """Ready, started or delayed jobs hold it up; waiting, stuck, failed and other types' jobs do not."""
        assert store.drained(["a", "b"])
        submit(store, Job("a"), Job("b", dependencies=["a"]), Job("c", delay_s=60), Job("d"))
        assert not store.drained(["a"])
        assert store.drained(["b"])
        assert not store.drained(["c"])
        attempt = start(store)
        assert not store.drained(["b"])
        store.fail_job(attempt)
        assert store.drained(["a", "b"])
        assert not store.drained(["a", "b", "c"])
        clock.advance(60)
        assert not store.drained(["c"])
        finish(store, "r/c")
        assert store.drained(["a", "b", "c"])
        assert not store.drained(["d"])

    @needs("looking", "runs")
    def test_c213_a_run_is_drained_by_itself(self, store: FullStore) -> None:
        """What other runs do holds up nobody confined to this one."""
        submit(store, Job("a"))
        submit(store, Job("a"), Job("b"), run="s")
        start(store, "s/a")
        finish(store)
        assert store.drained(["a", "b"], "r")
        assert not store.drained(["a", "b"], "s")
        assert not store.drained(["a", "b"])

    @needs("looking")
    def test_c214_jobs_are_listed_in_order_of_submission(self, store: FullStore) -> None:
        """Without args and results, else as `job_info` has them; by status, type, part of the id; in pages."""
        submit(store, Job("b", args={"n": 1}), Job("a", dependencies=["b"]), Job("a", name="c", delay_s=5))
        finish(store, "r/b", "result")
        whole = [info(store, job_id)._replace(args={}, result=None) for job_id in ("r/b", "r/a", "r/c")]
        assert store.jobs() == whole
        assert store.jobs(status=Status.UNSTARTED) == whole[1:]
        assert store.jobs(type="a") == whole[1:]
        assert store.jobs(text="/c") == whole[2:]
        assert store.jobs(text="%") == []
        assert store.jobs(limit=2) == whole[:2]
        assert store.jobs(limit=1, offset=1) == whole[1:2]
        assert store.jobs(status=Status.FAILED) == []

    @needs("looking")
    def test_c215_dependents_are_listed_nearest_first(self, store: FullStore) -> None:
        """Each once, however many ways lead to it; whatever their status."""
        submit(
            store,
            Job("z", name="d", dependencies=["a", "c"]), Job("z", name="c", dependencies=["b"]),
            Job("z", name="a"), Job("z", name="b", dependencies=["a"]), Job("z", name="x", dependencies=["d"]),
        )  # fmt: skip
        assert store.dependents(["r/a"]) == ["r/d", "r/b", "r/c", "r/x"]
        store.abort_job("r/d")
        assert store.dependents(["r/c", "r/x"]) == ["r/d"]
        assert store.dependents(["r/x"]) == []

    @needs("runs")
    def test_c216_runs_are_listed_newest_first(self, store: FullStore, clock: ManualClock) -> None:
        """With the wall time of their submission and their counts; an unknown one is None."""
        at = clock.read().wall_us / 1e6
        submit(store, Job("a"))
        clock.advance(5)
        submit(store, Job("a"), run="s")
        finish(store, "r/a")
        newest, oldest = store.runs()
        assert (newest.id, newest.counts) == ("s", Counts(unstarted=1, ready=1))
        assert (oldest.id, oldest.counts) == ("r", Counts(finished=1))
        assert [run.submitted_at for run in (newest, oldest)] == pytest.approx([at + 5, at])
        assert store.runs(limit=1) == [newest]
        assert (store.run_info("s"), store.run_info("nobody")) == (newest, None)

    # ---- c220 to c229: an operator's retry ---------------------------------------------------------------------------

    @needs("retry")
    def test_c220_a_retry_begins_the_counts_anew(self, store: FullStore) -> None:
        """Failed back to unstarted and ready at once; attempt numbers go on, history stays."""
        submit(store, Job("a", delay_s=0))
        before = info(store, "r/a")
        store.reset_job(start(store), crashed=True)
        store.fail_job(start(store), BOOM)
        assert store.retry(["r/a"]) == ["r/a"]
        assert info(store, "r/a") == before._replace(attempt=2)
        assert start(store) == Attempt("r/a", 3, "w1")

    @needs("retry")
    def test_c221_after_a_retry_all_limits_are_far_away_again(self, store: FullStore) -> None:
        """A job that crashed to its limit may crash as often again."""
        submit(store, Job("a"))
        for _ in range(2):
            for _ in range(CRASH_LIMIT):
                assert info(store, "r/a").status is Status.UNSTARTED
                store.reset_job(start(store), crashed=True)
            assert info(store, "r/a").status is Status.FAILED
            store.retry(["r/a"])

    @needs("retry")
    def test_c222_a_retry_frees_those_that_were_stuck(self, store: FullStore) -> None:
        """They wait again, and run when the job has finished after all; aborted ones stay aborted."""
        submit(store, Job("a"), Job("b", dependencies=["a"]), Job("c", dependencies=["b"]))
        store.fail_job(start(store))
        store.abort_job("r/c")
        store.retry(["r/a"])
        assert (info(store, "r/b").stuck, info(store, "r/b").waiting_for) == (False, 1)
        finish(store)
        finish(store, "r/b")
        assert info(store, "r/c").status is Status.ABORTED
        assert store.retry(["r/c"]) == ["r/c"]
        assert store.jobs_ready() == ["r/c"]

    @needs("retry")
    def test_c223_a_job_retried_after_its_dependencies_failed_is_stuck(self, store: FullStore) -> None:
        """It is unstarted, and says that it will not run before they do."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        store.abort_job("r/a")
        store.retry(["r/b"])
        assert (info(store, "r/b").status, info(store, "r/b").stuck) == (Status.UNSTARTED, True)
        store.retry(["r/a"])
        assert (info(store, "r/b").stuck, store.jobs_ready()) == (False, ["r/a"])

    @needs("retry")
    def test_c224_a_retry_of_an_unknown_job_retries_none(self, store: FullStore) -> None:
        """All of them, or an error and none."""
        bring(store, Status.FAILED)
        before = snapshot(store)
        with pytest.raises(UnknownJobError):
            store.retry(["r/a", "r/nobody"])
        assert snapshot(store) == before
        assert store.retry([]) == []

    # ---- c230 to c239: bells -----------------------------------------------------------------------------------------

    @needs("wake_up", "exchange")
    @pytest.mark.parametrize("cause", ["submit", "finish", "reset", "retry", "abort", "recover", "room"])
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

    # ---- c240 to c249: pruning ---------------------------------------------------------------------------------------

    @needs("runs", "looking", "history")
    def test_c240_an_old_ended_run_is_pruned_whole(self, store: FullStore, clock: ManualClock) -> None:
        """Its jobs however they ended, their results and history, and the run; other runs stay as they are."""
        submit(store, Job("a"), Job("b"), Job("c", dependencies=["b"]))
        finish(store, "r/a", {"rows": 1})
        store.fail_job(start(store, "r/b"), BOOM)
        store.abort_job("r/c")
        clock.advance(10)
        submit(store, Job("a"), run="s")
        before = info(store, "s/a")
        (pruned,) = store.prune(5)
        assert (pruned.id, pruned.counts) == ("r", Counts(finished=1, failed=1, aborted=1))
        assert (store.run_info("r"), [run.id for run in store.runs()]) == (None, ["s"])
        assert [job.id for job in store.jobs()] == ["s/a"]
        assert info(store, "s/a") == before
        for job_id in ("r/a", "r/b", "r/c"):
            assert store.job_info(job_id) is None
            with pytest.raises(UnknownJobError):
                store.attempts(job_id)
        assert store.prune(5) == []

    @needs("runs")
    @pytest.mark.parametrize("left", ["unstarted", "started", "delayed", "stuck"])
    def test_c241_a_run_with_a_job_that_has_not_ended_is_not_pruned(
        self, store: FullStore, clock: ManualClock, left: str
    ) -> None:
        """However old it is: a stuck job waits for an operator's retry."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        if left == "started":
            finish(store)
            start(store, "r/b")
        elif left == "delayed":
            store.fail_job(start(store), retry_in_s=1e6)
        elif left == "stuck":
            store.fail_job(start(store))
        else:
            finish(store)
        before = snapshot(store)
        clock.advance(1000)
        assert store.prune(0) == []
        assert {job_id: now and now._replace(due_in_s=None) for job_id, now in snapshot(store).items()} == {
            job_id: was and was._replace(due_in_s=None) for job_id, was in before.items()
        }

    @needs("runs")
    def test_c242_a_run_is_as_old_as_its_last_attempt_s_end(self, store: FullStore, clock: ManualClock) -> None:
        """Not as its submission, unless it had no attempt at all; exactly that old is not older."""
        submit(store, Job("a"))
        submit(store, Job("a"), run="s")
        store.abort_job("s/a")
        attempt = start(store)
        clock.advance(100)
        store.finish_job(attempt)
        clock.advance(50)
        assert store.prune(150) == []
        assert [run.id for run in store.prune(149)] == ["s"]
        assert store.prune(50) == []
        assert [run.id for run in store.prune(49)] == ["r"]

    @needs("runs")
    def test_c243_a_run_on_which_another_run_s_job_depends_stays_as_long_as_that_one(
        self, store: FullStore, clock: ManualClock
    ) -> None:
        """Whatever has become of that job, and by way of others too; a dependent run goes before what it depends on."""
        submit(store, Job("a"))
        submit(store, Job("b", dependencies=[stored("r/a")]), run="s")
        submit(store, Job("c", dependencies=[stored("s/b")]), run="t")
        finish(store)
        finish(store, "s/b")
        clock.advance(100)
        finish(store, "t/c")
        clock.advance(10)
        assert store.prune(50) == []
        assert (info(store, "s/b").dependencies, info(store, "t/c").dependencies) == (("r/a",), ("s/b",))
        clock.advance(100)
        assert [run.id for run in store.prune(50)] == ["t", "s", "r"]
        assert store.runs() == []

    @needs("runs", "exchange")
    def test_c244_a_pruned_job_s_key_is_never_given_again(self, store: FullStore, clock: ManualClock) -> None:
        """Keys name an attempt's directory and steps: a new job must not find an old one's. 0: the store has no keys."""
        keys: list[int] = []
        for run in ("r", "s", "r"):
            submit(store, Job("a"), run=run)
            (job,) = store.exchange("w1", [], 1, ["a"]).jobs
            store.finish_job(job.attempt)
            keys.append(job.key)
            clock.advance(10)
            assert [each.id for each in store.prune(5)] == [run]
        assert keys == sorted(set(keys)) or set(keys) == {0}

    @needs("runs", "history")
    def test_c245_the_ids_of_a_pruned_run_may_be_submitted_again(self, store: FullStore, clock: ManualClock) -> None:
        """As new jobs, with other content if need be, from the first attempt on; the old attempt settles nothing."""
        old = bring(store, Status.FAILED)
        store.abort_job("r/b")
        clock.advance(10)
        assert [run.id for run in store.prune(5)] == ["r"]
        assert submit(store, Job("z", name="a")) == ["r/a"]
        assert (info(store, "r/a").attempt, info(store, "r/a").failure, store.attempts("r/a")) == (0, None, [])
        with pytest.raises(SupersededError):
            store.finish_job(old)
        assert start(store).number == 1

    @needs("runs")
    def test_c246_a_dry_run_says_what_would_be_pruned_and_removes_nothing(
        self, store: FullStore, clock: ManualClock
    ) -> None:
        """The same runs in the same order."""
        submit(store, Job("a"))
        submit(store, Job("b", dependencies=[stored("r/a")]), run="s")
        finish(store)
        finish(store, "s/b")
        clock.advance(10)
        runs = store.runs()
        planned = store.prune(5, dry_run=True)
        assert [run.id for run in planned] == ["s", "r"]
        assert store.runs() == runs
        assert store.prune(5) == planned
