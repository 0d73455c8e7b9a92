"""Failures, faults, crashes, interruptions, hand-backs, and their times: c070 to c099."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from overseer_lite.job import Attempt, Failure, Job, Outcome, Status
from overseer_lite.testing.clock import ManualClock
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import (
    BOOM,
    CRASH_LIMIT,
    FAULT_DELAY_S,
    INTERRUPTION_LIMIT,
    finish,
    info,
    settle,
    start,
    submit,
)

if TYPE_CHECKING:
    from pathlib import Path

    from overseer_lite.store import FullStore


class FailureClauses(Clauses):
    """Failures, faults, crashes, interruptions, hand-backs, and their times: c070 to c099."""

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

    @needs("exchange")
    def test_c076_a_good_end_in_an_exchange_clears_the_failure_as_well(self, store: FullStore) -> None:
        """Ends that are settled together leave a job as one that is settled alone."""
        submit(store, Job("a"))
        store.fail_job(start(store), BOOM, retry_in_s=0)
        settle(store, start(store), Outcome.FINISHED)
        assert (info(store, "r/a").failure, info(store, "r/a").failures, info(store, "r/a").attempt) == (None, 1, 2)

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
        if hasattr(store, "close"):
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
