"""Ready, waiting, stuck: c020 to c029."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from overseer_lite.graph import job_graph
from overseer_lite.job import Job, Outcome, Status, stored
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import bring, finish, info, settle, start, submit

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class ReadyClauses(Clauses):
    """Ready, waiting, stuck: c020 to c029."""

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

    @needs("exchange")
    def test_c027_a_finish_by_exchange_releases_who_was_submitted_with_it_and_later(self, store: FullStore) -> None:
        """As a finish by the verb does."""
        attempt = bring(store, Status.STARTED)
        submit(store, Job("x", dependencies=[stored("r/a")]), run="s")
        assert list(settle(store, attempt, Outcome.FINISHED).refused) == []
        assert store.jobs_ready() == ["r/b", "s/x"]
