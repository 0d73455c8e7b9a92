"""Order, limits, and what an exchange gives: c130 to c149."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from overseer_lite.job import Attempt, DependencyResult, Job, Outcome, Settlement, Status
from overseer_lite.testing.clock import ManualClock
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import BOOM, bring, info, settle, start, submit, take

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class OrderClauses(Clauses):
    """Order, limits, and what an exchange gives: c130 to c149."""

    @needs("exchange")
    def test_c130_higher_priority_first_then_first_in_first_out(self, store: FullStore) -> None:
        """Across types, whatever order the types are given in; decided at reservation."""
        submit(store, Job("a"), Job("b", priority=-5), Job("c", priority=5), Job("b", name="x"), Job("a", name="y"))
        assert take(store, 2, ["b", "a", "c"]) == ["r/c", "r/a"]
        submit(store, Job("a", priority=1), run="s")
        assert take(store, 9, ["b", "a", "c"]) == ["s/a", "r/x", "r/y", "r/b"]

    @needs("exchange")
    def test_c131_a_retried_job_keeps_its_place_in_line(self, store: FullStore) -> None:
        """Neither failure nor reset sends it to the end."""
        submit(store, Job("a"), Job("b"), Job("c"))
        store.fail_job(start(store, "r/b"), retry_in_s=0)
        store.reset_job(start(store, "r/a"))
        assert take(store, 3) == ["r/a", "r/b", "r/c"]

    @needs("exchange")
    def test_c132_no_more_is_given_than_wanted_and_only_of_the_types(self, store: FullStore) -> None:
        """Nothing for nobody: want 0 or no types reserve nothing."""
        submit(store, Job("a"), Job("b"), Job("a", name="c"))
        assert take(store, 0) == []
        assert take(store, 5, []) == []
        assert take(store, 5, ["unheard"]) == []
        assert take(store, 1, ["b", "a"]) == ["r/a"]
        assert take(store, 5, ["a"]) == ["r/c"]
        assert info(store, "r/b").status is Status.UNSTARTED

    @needs("exchange")
    def test_c133_a_reserved_job_comes_with_all_its_handler_will_be_shown(self, store: FullStore) -> None:
        """Run, name, type, the merged args, results, and how often it has failed."""
        submit(store, Job("t", name="a", args={"x": 2}), Job("t", name="b", id="own"), args={"x": 1, "day": "d"})
        store.fail_job(start(store), BOOM, retry_in_s=0)
        one, two = store.exchange("w7", [], 2, ["t"]).jobs
        assert one.args_json.replace(" ", "") == '{"x":2,"day":"d"}'
        assert one[:4] == (Attempt("r/a", 2, "w7"), "r", "a", "t")
        assert two[:4] == (Attempt("own", 1, "w7"), "r", "b", "t")
        assert [(list(job.results), job.failures) for job in (one, two)] == [([], 1), ([], 0)]

    @needs("exchange")
    def test_c134_what_a_settlement_releases_can_be_reserved_in_the_same_exchange(self, store: FullStore) -> None:
        """Settling comes first, all of it; then reserving, with the results just settled."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        attempt = start(store)
        exchange = store.exchange("w1", [Settlement(attempt, Outcome.FINISHED, '{"n":1}')], 1, ["b"])
        assert list(exchange.refused) == []
        assert [job.attempt for job in exchange.jobs] == [Attempt("r/b", 1, "w1")]
        assert list(exchange.jobs[0].results) == [DependencyResult("a", "a", '{"n":1}')]

    @needs("exchange")
    def test_c135_settlements_are_made_in_the_order_given(self, store: FullStore) -> None:
        """The first of two ends of one attempt wins, within one exchange as well."""
        attempt = bring(store, Status.STARTED)
        exchange = store.exchange(
            "w1", [Settlement(attempt, Outcome.FAILED, failure=BOOM), Settlement(attempt, Outcome.FINISHED)], 0, ()
        )
        assert [refusal.reason for refusal in exchange.refused] == ["superseded"]
        assert info(store, "r/a").status is Status.FAILED

    @needs("exchange")
    def test_c136_a_worker_may_settle_and_reserve_the_same_job_again(self, store: FullStore) -> None:
        """What is put back without delay is ready at once, also for the one who had it."""
        submit(store, Job("a"))
        exchange = store.exchange("w1", [Settlement(start(store), Outcome.RESET)], 1, ["a"])
        assert [job.attempt for job in exchange.jobs] == [Attempt("r/a", 2, "w1")]

    @needs("exchange")
    def test_c137_the_next_due_time_is_told(self, store: FullStore, clock: ManualClock) -> None:
        """Of delayed jobs of these types that wait for nothing else; None if there is none, or all have come."""
        submit(
            store,
            Job("a", delay_s=60), Job("a", name="b", delay_s=30), Job("c", delay_s=5),
            Job("d"), Job("a", name="x", dependencies=["d"], delay_s=1),
        )  # fmt: skip
        assert store.exchange("w1", [], 0, ["a"]).next_due_s == 30
        assert store.exchange("w1", [], 0, ["a", "c"]).next_due_s == 5
        assert store.exchange("w1", [], 0, ["d"]).next_due_s is None
        clock.advance(29)
        assert store.exchange("w1", [], 0, ["a"]).next_due_s == 1
        clock.advance(1)
        exchange = store.exchange("w1", [], 5, ["a"])
        assert ([job.attempt.job_id for job in exchange.jobs], exchange.next_due_s) == (["r/b"], 30)
        clock.advance(31)
        assert store.exchange("w1", [], 0, ["a"]).next_due_s is None

    @needs("exchange")
    def test_c138_a_fault_is_the_next_thing_due(self, store: FullStore) -> None:
        """An exchange tells of what it has itself just put off."""
        submit(store, Job("a"))
        exchange = store.exchange("w1", [Settlement(start(store), Outcome.FAULTED, delay_s=7)], 1, ["a"])
        assert (list(exchange.jobs), exchange.next_due_s) == ([], 7)

    @needs("exchange", "limits")
    def test_c139_no_more_than_the_limit_of_a_type_are_started(self, store: FullStore) -> None:
        """All started jobs of the type count, whoever holds them; other types are passed by none."""
        submit(store, *(Job("a", name=f"a{n}", priority=9) for n in range(4)), Job("b"), Job("c", name="c0"))
        start(store, "r/a0", "w2")
        assert take(store, 9, ["a", "b"], limits={"a": 2}) == ["r/a1", "r/b"]
        assert take(store, 9, ["a", "c"], limits={"a": 2}) == ["r/c0"]
        assert take(store, 9, ["a"], limits={"a": 1}) == []
        assert take(store, 9, ["a"], limits={"b": 1, "a": 3}) == ["r/a2"]
        assert take(store, 9, ["a"]) == ["r/a3"]

    @needs("exchange", "limits")
    def test_c140_what_is_settled_makes_room_under_the_limit(self, store: FullStore) -> None:
        """In the same exchange."""
        submit(store, Job("a", name="a"), Job("a", name="b"))
        attempt = start(store)
        assert take(store, 1, ["a"], limits={"a": 1}) == []
        exchange = store.exchange("w1", [Settlement(attempt, Outcome.FINISHED)], 1, ["a"], limits={"a": 1})
        assert [job.attempt.job_id for job in exchange.jobs] == ["r/b"]

    @needs("exchange", "limits", "runs")
    def test_c141_a_limit_counts_the_jobs_of_all_runs(self, store: FullStore) -> None:
        """It protects what the type uses; that knows of no runs."""
        submit(store, Job("a"))
        submit(store, Job("a"), run="s")
        start(store, "r/a", "w2")
        assert take(store, 1, ["a"], limits={"a": 1}, run="s") == []

    @needs("exchange", "runs")
    def test_c142_a_worker_may_confine_itself_to_a_run(self, store: FullStore) -> None:
        """Then jobs of others are not reserved, whatever their priority, nor is their time of interest."""
        submit(store, Job("a", priority=9), Job("b", delay_s=5))
        submit(store, Job("a"), Job("b"), Job("c", delay_s=50), run="s")
        assert store.exchange("w1", [], 0, ["a", "b", "c"], run="s").next_due_s == 50
        assert take(store, 9, ["a", "b"], run="s") == ["s/a", "s/b"]

    @needs("exchange")
    def test_c143_a_group_bounds_one_exchange_type_by_type(self, store: FullStore) -> None:
        """Not what is started: the next exchange may reserve as many again."""
        submit(store, Job("a"), Job("a", name="a2"), Job("b"), Job("a", name="a3"), Job("b", name="b2"))
        reserved = [job.attempt.job_id for job in store.exchange("w1", [], 9, ["a", "b"], groups={"a": 1}).jobs]
        assert reserved == ["r/a", "r/b", "r/b2"]
        reserved = [job.attempt.job_id for job in store.exchange("w1", [], 9, ["a", "b"], groups={"a": 1}).jobs]
        assert reserved == ["r/a2"]

    @needs("exchange")
    def test_c144_a_job_that_was_handed_back_is_reserved_alone(self, store: FullStore) -> None:
        """Nothing comes with it, and nobody gets it who holds something else: it has waited behind others once."""
        submit(store, *(Job("a", name=name) for name in "abcd"))
        reserved = store.exchange("w1", [], 2, ["a"]).jobs
        assert [job.attempt.job_id for job in reserved] == ["r/a", "r/b"]
        back = Settlement(reserved[1].attempt, Outcome.HANDED_BACK)
        assert [job.attempt.job_id for job in store.exchange("w1", [back], 9, ["a"]).jobs] == ["r/c", "r/d"]
        assert [job.attempt for job in store.exchange("w2", [], 9, ["a"]).jobs] == [Attempt("r/b", 1, "w2")]
        again = Settlement(Attempt("r/b", 1, "w2"), Outcome.RESET)
        submit(store, Job("a"), run="s")
        reserved = store.exchange("w2", [again], 9, ["a"]).jobs
        assert [job.attempt.job_id for job in reserved] == ["r/b", "s/a"], (
            "having been reserved alone, it is as any other"
        )

    @needs("exchange")
    @pytest.mark.parametrize("status", Status)
    def test_c145_an_exchange_reserves_what_is_ready_and_nothing_else(self, store: FullStore, status: Status) -> None:
        """In each status: a job that is not unstarted, waits or is stuck is never reserved again."""
        bring(store, status)
        ready = {Status.UNSTARTED: ["r/a"], Status.FINISHED: ["r/b"]}.get(status, [])
        assert store.jobs_ready() == ready
        assert take(store, 9, ["a", "b"]) == ready
        assert take(store, 9, ["a", "b"]) == []

    @needs("exchange", "limits")
    def test_c146_a_limit_counts_jobs_not_workers(self, store: FullStore) -> None:
        """One worker that holds two takes the room of two; so does its own group within one exchange."""
        submit(store, *(Job("a", name=f"a{n}") for n in range(4)))
        for n in range(2):
            start(store, f"r/a{n}", "w2")
        assert take(store, 9, ["a"], limits={"a": 2}) == []
        assert take(store, 9, ["a"], limits={"a": 3}) == ["r/a2"]
        assert take(store, 9, ["a"], limits={"a": 3}) == []

    @needs("exchange")
    def test_c147_nothing_is_reserved_with_a_job_that_was_handed_back(self, store: FullStore) -> None:
        """However many more are ready and wanted; they are reserved after it, together as ever."""
        submit(store, Job("a"), Job("b"), Job("c"))
        settle(store, start(store), Outcome.HANDED_BACK)
        assert take(store, 9) == ["r/a"]
        store.finish_job(Attempt("r/a", 1, "w1"))
        assert take(store, 9) == ["r/b", "r/c"]

    @needs("exchange")
    def test_c148_many_are_reserved_together_as_one_by_one(self, store: FullStore, clock: ManualClock) -> None:
        """In the same order, with all that their handlers will be shown; neither the delayed nor the waiting among them."""
        found = []
        for kind in ("alone", "together"):
            names = [f"{kind}{n}" for n in range(12)]
            submit(
                store,
                *(Job(kind, name=name, args={"n": n}, priority=n % 3) for n, name in enumerate(names)),
                Job(kind, name="later", delay_s=60), Job("d", name="d"),
                Job(kind, name="waits", dependencies=["d"]), run=kind, args={"n": 0, "day": "d"},
            )  # fmt: skip
            store.fail_job(start(store, f"{kind}/{names[7]}"), BOOM, retry_in_s=0)
            clock.advance(9)
            wants = [99] if kind == "together" else [1] * 13
            jobs = [job for want in wants for job in store.exchange("w1", [], want, [kind]).jobs]
            assert store.jobs_dead(8) == [], "a reservation is the first beat"
            found.append(
                [
                    (job.attempt.number, job.name.removeprefix(kind), job.args_json, list(job.results), job.failures)
                    for job in jobs
                ]
            )
            for job in jobs:
                assert info(store, job.attempt.job_id).worker == "w1"
                store.finish_job(job.attempt)
        alone, together = found
        assert together == alone
        assert [name for _number, name, *_ in together] == [str(n) for p in (2, 1, 0) for n in range(p, 12, 3)]
