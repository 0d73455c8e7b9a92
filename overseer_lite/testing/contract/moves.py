"""The state machine, every verb in every status: c030 to c049."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from overseer_lite.errors import IllegalTransitionError, SupersededError
from overseer_lite.graph import simple_graph
from overseer_lite.job import TRANSITIONS, Attempt, Job, Outcome, Status
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import (
    BOOM,
    CRASH_LIMIT,
    ENDS,
    EXCHANGED,
    RESETS,
    TERMINAL,
    bring,
    finish,
    info,
    settle,
    snapshot,
    start,
    submit,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from overseer_lite.store import FullStore


class MoveClauses(Clauses):
    """The state machine, every verb in every status: c030 to c049."""

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
