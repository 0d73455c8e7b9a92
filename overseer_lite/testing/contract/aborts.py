"""Abort, with all that depend on it: c100 to c109."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from overseer_lite.errors import SupersededError
from overseer_lite.graph import job_graph
from overseer_lite.job import Failure, Job, Outcome, Status, stored
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import BOOM, bring, finish, info, settle, snapshot, start, submit

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class AbortClauses(Clauses):
    """Abort, with all that depend on it: c100 to c109."""

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

    @pytest.mark.parametrize("failure", [None, BOOM])
    def test_c107_a_started_job_is_not_aborted_behind_its_workers_back(
        self, store: FullStore, failure: Failure | None
    ) -> None:
        """Without its attempt nothing is aborted, neither the job nor what depends on it: its process has to be stopped first."""
        attempt = bring(store, Status.STARTED)
        before = {job_id: now and now._replace(request=None) for job_id, now in snapshot(store).items()}
        assert store.abort_job("r/a", failure) == []
        assert {job_id: now and now._replace(request=None) for job_id, now in snapshot(store).items()} == before
        store.heartbeat_job(attempt)

    def test_c108_an_abort_without_words_leaves_the_last_words_standing(self, store: FullStore) -> None:
        """What an earlier attempt said is still the best that is known; dependents are given no words that are not theirs."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        store.fail_job(start(store), BOOM, retry_in_s=0)
        assert store.abort_job("r/a") == ["r/a", "r/b"]
        assert (info(store, "r/a").failure, info(store, "r/b").failure) == (BOOM, None)
