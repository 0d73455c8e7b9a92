"""Pruning: c240 to c249."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from overseer_lite.errors import SupersededError, UnknownJobError
from overseer_lite.job import Job, Status, stored
from overseer_lite.store import Counts
from overseer_lite.testing.clock import ManualClock
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import BOOM, bring, finish, info, snapshot, start, submit

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class PruningClauses(Clauses):
    """Pruning: c240 to c249."""

    @needs("runs", "looking", "history")
    def test_c240_an_old_ended_run_is_pruned_whole(self, store: FullStore, clock: ManualClock) -> None:
        """Its jobs however they ended, their results and history, and the run; other runs stay as they are."""
        submit(store, Job("a"), Job("b"), Job("c", dependencies=["b"]))
        finish(store, "r/a", {"rows": 1})
        store.fail_job(start(store, "r/b"), BOOM)
        store.abort_job("r/c")
        clock.advance(10)
        submit(store, Job("a"), run="s")
        before = info(store, "s/a")
        (pruned,) = store.prune(5)
        assert (pruned.id, pruned.counts) == ("r", Counts(finished=1, failed=1, aborted=1))
        assert (store.run_info("r"), [run.id for run in store.runs()]) == (None, ["s"])
        assert [job.id for job in store.jobs()] == ["s/a"]
        assert info(store, "s/a") == before
        for job_id in ("r/a", "r/b", "r/c"):
            assert store.job_info(job_id) is None
            with pytest.raises(UnknownJobError):
                store.attempts(job_id)
        assert store.prune(5) == []

    @needs("runs")
    @pytest.mark.parametrize("left", ["unstarted", "started", "delayed", "stuck"])
    def test_c241_a_run_with_a_job_that_has_not_ended_is_not_pruned(
        self, store: FullStore, clock: ManualClock, left: str
    ) -> None:
        """However old it is: a stuck job waits for an operator's retry."""
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        if left == "started":
            finish(store)
            start(store, "r/b")
        elif left == "delayed":
            store.fail_job(start(store), retry_in_s=1e6)
        elif left == "stuck":
            store.fail_job(start(store))
        else:
            finish(store)
        before = snapshot(store)
        clock.advance(1000)
        assert store.prune(0) == []
        assert {job_id: now and now._replace(due_in_s=None) for job_id, now in snapshot(store).items()} == {
            job_id: was and was._replace(due_in_s=None) for job_id, was in before.items()
        }

    @needs("runs")
    def test_c242_a_run_is_as_old_as_its_last_attempt_s_end(self, store: FullStore, clock: ManualClock) -> None:
        """Not as its submission, unless it had no attempt at all; exactly that old is not older."""
        submit(store, Job("a"))
        submit(store, Job("a"), run="s")
        store.abort_job("s/a")
        attempt = start(store)
        clock.advance(100)
        store.finish_job(attempt)
        clock.advance(50)
        assert store.prune(150) == []
        assert [run.id for run in store.prune(149)] == ["s"]
        assert store.prune(50) == []
        assert [run.id for run in store.prune(49)] == ["r"]

    @needs("runs")
    def test_c243_a_run_on_which_another_run_s_job_depends_stays_as_long_as_that_one(
        self, store: FullStore, clock: ManualClock
    ) -> None:
        """Whatever has become of that job, and by way of others too; a dependent run goes before what it depends on."""
        submit(store, Job("a"))
        submit(store, Job("b", dependencies=[stored("r/a")]), run="s")
        submit(store, Job("c", dependencies=[stored("s/b")]), run="t")
        finish(store)
        finish(store, "s/b")
        clock.advance(100)
        finish(store, "t/c")
        clock.advance(10)
        assert store.prune(50) == []
        assert (info(store, "s/b").dependencies, info(store, "t/c").dependencies) == (("r/a",), ("s/b",))
        clock.advance(100)
        assert [run.id for run in store.prune(50)] == ["t", "s", "r"]
        assert store.runs() == []

    @needs("runs", "exchange")
    def test_c244_a_pruned_job_s_key_is_never_given_again(self, store: FullStore, clock: ManualClock) -> None:
        """Keys name an attempt's directory and steps: a new job must not find an old one's. 0: the store has no keys."""
        keys: list[int] = []
        for run in ("r", "s", "r"):
            submit(store, Job("a"), run=run)
            (job,) = store.exchange("w1", [], 1, ["a"]).jobs
            store.finish_job(job.attempt)
            keys.append(job.key)
            clock.advance(10)
            assert [each.id for each in store.prune(5)] == [run]
        assert keys == sorted(set(keys)) or set(keys) == {0}

    @needs("runs", "history")
    def test_c245_the_ids_of_a_pruned_run_may_be_submitted_again(self, store: FullStore, clock: ManualClock) -> None:
        """As new jobs, with other content if need be, from the first attempt on; the old attempt settles nothing."""
        old = bring(store, Status.FAILED)
        store.abort_job("r/b")
        clock.advance(10)
        assert [run.id for run in store.prune(5)] == ["r"]
        assert submit(store, Job("z", name="a")) == ["r/a"]
        assert (info(store, "r/a").attempt, info(store, "r/a").failure, store.attempts("r/a")) == (0, None, [])
        with pytest.raises(SupersededError):
            store.finish_job(old)
        assert start(store).number == 1

    @needs("runs")
    def test_c246_a_dry_run_says_what_would_be_pruned_and_removes_nothing(
        self, store: FullStore, clock: ManualClock
    ) -> None:
        """The same runs in the same order."""
        submit(store, Job("a"))
        submit(store, Job("b", dependencies=[stored("r/a")]), run="s")
        finish(store)
        finish(store, "s/b")
        clock.advance(10)
        runs = store.runs()
        planned = store.prune(5, dry_run=True)
        assert [run.id for run in planned] == ["s", "r"]
        assert store.runs() == runs
        assert store.prune(5) == planned

    @needs("runs", "exchange")
    def test_c247_a_key_is_not_given_again_whichever_run_was_pruned_last(
        self, store: FullStore, clock: ManualClock
    ) -> None:
        """Here the newest run goes first, and an older one after it: the highest key there ever was still counts."""
        submit(store, Job("a"))
        submit(store, Job("b"), run="s")
        (newest,) = store.exchange("w1", [], 1, ["b"]).jobs
        store.finish_job(newest.attempt)
        clock.advance(10)
        assert [run.id for run in store.prune(5)] == ["s"]
        finish(store, "r/a")
        clock.advance(10)
        assert [run.id for run in store.prune(5)] == ["r"]
        submit(store, Job("b"), run="t")
        (another,) = store.exchange("w1", [], 1, ["b"]).jobs
        assert another.key > newest.key or newest.key == 0

    @needs("runs")
    def test_c248_a_dry_run_does_not_name_what_would_stay(self, store: FullStore, clock: ManualClock) -> None:
        """An old run on which a job of another depends that has not ended, or not long enough ago."""
        submit(store, Job("a"))
        submit(store, Job("b", dependencies=[stored("r/a")]), run="s")
        finish(store)
        clock.advance(100)
        assert store.prune(50, dry_run=True) == []
        finish(store, "s/b")
        clock.advance(10)
        assert store.prune(50, dry_run=True) == []
        assert [run.id for run in store.prune(5, dry_run=True)] == ["s", "r"]
