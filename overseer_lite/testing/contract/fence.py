"""The fence: nothing from an attempt that does not hold its job; c050 to c059."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from overseer_lite.errors import SupersededError
from overseer_lite.job import Attempt, Job, Outcome, Settlement, Status
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import (
    BOOM,
    ENDS,
    EXCHANGED,
    RESETS,
    bring,
    info,
    settle,
    snapshot,
    start,
    submit,
)

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class FenceClauses(Clauses):
    """The fence: nothing from an attempt that does not hold its job; c050 to c059."""

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

    @needs("exchange", "history")
    @pytest.mark.parametrize("stale", [Attempt("r/a", 1, "w1"), Attempt("r/a", 3, "w1"), Attempt("r/a", 2, "w2")])
    @pytest.mark.parametrize("end", EXCHANGED)
    def test_c058_a_worker_s_own_earlier_number_settles_nothing(
        self, store: FullStore, stale: Attempt, end: str
    ) -> None:
        """Here w1 holds attempt 2, having put its attempt 1 back by hand: number and worker must both be right."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        settle(store, start(store), Outcome.STOPPED)
        start(store)
        before = snapshot(store)
        settlement = Settlement(stale, Outcome(end.partition(",")[0]))
        again = stale.number == 1 and settlement.outcome is Outcome.STOPPED  # that is how it ended: no news, no refusal
        refused = store.exchange(stale.worker, [settlement], 0, ()).refused
        assert [(refusal.attempt, refusal.reason) for refusal in refused] == [(stale, "superseded")] * (not again)
        assert snapshot(store) == before

    @needs("exchange", "history")
    def test_c059_many_are_settled_together_as_one_by_one(self, store: FullStore) -> None:
        """Held, failed before, superseded, another worker's, ended already, to be aborted: none sways the others' ends."""
        found = []
        for run in ("alone", "together"):
            submit(
                store,
                *(_first_and_after(n) for n in range(24)),
                *(_first_and_after(n, "after") for n in range(24)),
                run=run,
            )
            settlements = [Settlement(_bring(store, f"{run}/j{n}", n % 6), Outcome.FINISHED, str(n)) for n in range(24)]
            groups = [settlements] if run == "together" else [[one] for one in settlements]
            refusals = [refusal for group in groups for refusal in store.exchange("w1", group, 0, ()).refused]
            infos = [info(store, f"{run}/{name}{n}") for name in ("j", "after") for n in range(24)]
            found.append(
                (
                    [(refusal.attempt.job_id.partition("/")[2], refusal.reason) for refusal in refusals],
                    [one._replace(id="", run="", dependencies=()) for one in infos],
                    [store.attempts(f"{run}/j{n}") for n in range(24)],
                )
            )
        alone, together = found
        assert together == alone
        assert together[0] == [(f"j{n}", "superseded") for n in range(24) if n % 6 in (2, 3)]
        assert sum(one.status is Status.FINISHED for one in together[1]) == 16


def _first_and_after(n: int, name: str = "j") -> Job:
    return Job("t", name=f"{name}{n}", dependencies=[] if name == "j" else [f"j{n}"])


def _bring(store: FullStore, job_id: str, case: int) -> Attempt:
    """Start a job, and bring it about that its worker is right, or wrong, to say that an attempt of it has finished."""
    attempt = start(store, job_id)
    if case in (1, 2, 3):
        store.fail_job(attempt, BOOM, retry_in_s=0)
        second = start(store, job_id, "w2" if case == 3 else "w1")
        return attempt if case == 2 else second._replace(worker="w1")
    if case == 4:
        store.finish_job(attempt, 4)
    elif case == 5:
        store.abort_job(job_id)
    return attempt
