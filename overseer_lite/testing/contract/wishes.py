"""An operator's wishes for a started job: c180 to c189."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from overseer_lite.job import Outcome, Status
from overseer_lite.store import Request
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import BOOM, EXCHANGED, bring, info, settle

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class WishClauses(Clauses):
    """An operator's wishes for a started job: c180 to c189."""

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

    @needs("requests", "exchange")
    @pytest.mark.parametrize("wish", ["abort", "reset"])
    def test_c188_a_finish_by_exchange_wins_as_well(self, store: FullStore, wish: str) -> None:
        """The wish is dropped, whoever asks afterwards, and the job finished by whichever verb."""
        attempt = bring(store, Status.STARTED)
        store.request("r/a", wish)
        assert list(settle(store, attempt, Outcome.FINISHED).refused) == []
        assert (info(store, "r/a").status, info(store, "r/a").request) == (Status.FINISHED, None)
        assert store.jobs_ready() == ["r/b"]
