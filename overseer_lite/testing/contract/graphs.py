"""A graph is stored whole or not at all: c001 to c019."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from overseer_lite.errors import (
    CycleError,
    DuplicateJobError,
    EmptyGraphError,
    GraphConflictError,
    InvalidInputError,
    SupersededError,
    UnknownDependencyError,
    UnknownJobError,
)
from overseer_lite.graph import Graph, simple_graph
from overseer_lite.job import Attempt, Job, JobInfo, Status, stored
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import bring, finish, info, snapshot, submit

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class GraphClauses(Clauses):
    """A graph is stored whole or not at all: c001 to c019."""

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
