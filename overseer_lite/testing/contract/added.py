"""Jobs added by a handler: c150 to c169."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from overseer_lite.errors import InvalidInputError, SupersededError
from overseer_lite.job import Failure, Job, Outcome, Settlement, Status, stored
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import finish, info, snapshot, start, submit

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class AddedClauses(Clauses):
    """Jobs added by a handler: c150 to c169."""

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

    @needs("added", "exchange")
    def test_c163_a_finish_by_exchange_releases_who_waits_for_an_added_job(self, store: FullStore) -> None:
        """The dependents of the adder, and a job that was added with it and waits for it."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        store.finish_job(start(store), None, [Job("x"), Job("y", dependencies=["x"])])
        for name, released in (("x", ["r/y"]), ("y", ["r/b"])):
            settlement = Settlement(start(store, f"r/{name}"), Outcome.FINISHED)
            assert list(store.exchange("w1", [settlement], 0, ()).refused) == []
            assert store.jobs_ready() == released

    @needs("added", "adders")
    def test_c164_an_added_job_names_the_job_that_added_it(self, store: FullStore) -> None:
        """Whoever waits for it or for nobody, under an id of its own, added by one that was added; a submitted job names none."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        more = [Job("x"), Job("y", dependencies=["x"]), Job("own", id="own"), Job("d", detached=True)]
        store.finish_job(start(store), None, more)
        store.finish_job(start(store, "r/x"), None, [Job("z")])
        adders = {
            "r/a": None, "r/b": None, "r/x": "r/a", "r/y": "r/a", "own": "r/a", "r/d": "r/a", "r/z": "r/x",
        }  # fmt: skip
        assert {job_id: info(store, job_id).adder for job_id in adders} == adders
        if "looking" in store.capabilities:
            assert {job.id: job.adder for job in store.jobs()} == adders

    @needs("added", "adders")
    def test_c165_a_job_that_was_there_keeps_the_adder_it_had(self, store: FullStore) -> None:
        """The first of two, or none, if it was submitted."""
        submit(store, Job("a"), Job("b"), Job("s"))
        for adder in ("r/a", "r/b"):
            store.finish_job(start(store, adder), None, [Job("x"), Job("s"), Job("own", name=f"of-{adder[-1]}")])
        assert [info(store, f"r/{name}").adder for name in ("x", "s", "of-a", "of-b")] == ["r/a", None, "r/a", "r/b"]
