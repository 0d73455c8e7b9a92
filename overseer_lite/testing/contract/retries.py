"""An operator's retry: c220 to c229."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from overseer_lite.errors import UnknownJobError
from overseer_lite.job import Attempt, Job, Status
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import BOOM, CRASH_LIMIT, bring, finish, info, snapshot, start, submit

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class RetryClauses(Clauses):
    """An operator's retry: c220 to c229."""

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
