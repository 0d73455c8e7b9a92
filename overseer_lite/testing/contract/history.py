"""History: c170 to c179."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from overseer_lite.job import Evidence, Job, Outcome
from overseer_lite.testing.clock import ManualClock
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import BOOM, settle, start, submit

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class HistoryClauses(Clauses):
    """History: c170 to c179."""

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

    @needs("history", "histories", "exchange")
    def test_c173_the_histories_of_many_jobs_are_those_of_each_without_outputs(self, store: FullStore) -> None:
        """Each once, though asked for twice; who has none is left out, and who is not stored is no error."""
        submit(store, Job("a"), Job("b"), Job("never"), Job("unasked"))
        for name in ("a", "unasked", "b"):
            evidence = Evidence(2.0, 1.0, exit_code=1, output="words", output_bytes=5)
            settle(store, start(store, f"r/{name}"), Outcome.FAILED, failure=BOOM, delay_s=0.0, evidence=evidence)
        store.finish_job(start(store, "r/a"))
        start(store, "r/b")

        asked = ["r/b", "r/never", "r/a", "r/nonesuch", "r/b"]
        expected = {
            job_id: [record._replace(output="", output_bytes=0) for record in store.attempts(job_id)]
            for job_id in ("r/a", "r/b")
        }
        assert [len(records) for records in expected.values()] == [2, 1]
        assert store.attempts_of(asked) == expected
        assert store.attempts_of([]) == {}
