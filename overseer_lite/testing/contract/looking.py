"""Looking: c210 to c219."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from overseer_lite.job import Job, Status
from overseer_lite.store import Counts
from overseer_lite.testing.clock import ManualClock
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import finish, info, start, submit

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class LookingClauses(Clauses):
    """Looking: c210 to c219."""

    @needs("looking")
    def test_c210_jobs_are_counted_by_status(self, store: FullStore) -> None:
        """Ready and stuck are among the unstarted; a run's own, or all."""
        names = ["ok", "bad", "up", "on", "late", "wait"]
        submit(
            store,
            *(Job("t", name=name) for name in names[:4]),
            Job("t", name="late", delay_s=60),
            Job("t", name="wait", dependencies=["on"]),
            Job("t", name="hung", dependencies=["bad"]),
            Job("t", name="hung2", dependencies=["hung"]),
            Job("t", name="free"),
        )
        submit(store, Job("t", name="other"), run="s")
        finish(store, "r/ok")
        store.fail_job(start(store, "r/bad"))
        store.abort_job("r/up")
        start(store, "r/on")
        expected = Counts(unstarted=5, started=1, finished=1, failed=1, aborted=1, ready=1, stuck=2)
        assert store.counts("r" if "runs" in store.capabilities else None)._replace(ready=1, unstarted=5) == expected
        assert store.counts() == expected._replace(unstarted=6, ready=2)

    @needs("looking", "runs")
    def test_c211_a_run_is_counted_by_itself(self, store: FullStore) -> None:
        """Exit code 0 only where all is finished."""
        submit(store, Job("a"))
        submit(store, Job("a"), Job("b"), run="s")
        finish(store)
        assert store.counts("r") == Counts(finished=1)
        assert store.counts("s") == Counts(unstarted=2, ready=2)
        assert (store.counts("r").exit_code, store.counts("s").exit_code) == (0, 1)

    @needs("looking")
    def test_c212_a_store_is_drained_when_nothing_is_left_that_can_run(
        self, store: FullStore, clock: ManualClock
    ) -> None:
        """Ready, started or delayed jobs hold it up; waiting, stuck, failed and other types' jobs do not."""
        assert store.drained(["a", "b"])
        submit(store, Job("a"), Job("b", dependencies=["a"]), Job("c", delay_s=60), Job("d"))
        assert not store.drained(["a"])
        assert store.drained(["b"])
        assert not store.drained(["c"])
        attempt = start(store)
        assert not store.drained(["b"])
        store.fail_job(attempt)
        assert store.drained(["a", "b"])
        assert not store.drained(["a", "b", "c"])
        clock.advance(60)
        assert not store.drained(["c"])
        finish(store, "r/c")
        assert store.drained(["a", "b", "c"])
        assert not store.drained(["d"])

    @needs("looking", "runs")
    def test_c213_a_run_is_drained_by_itself(self, store: FullStore) -> None:
        """What other runs do holds up nobody confined to this one."""
        submit(store, Job("a"))
        submit(store, Job("a"), Job("b"), run="s")
        start(store, "s/a")
        finish(store)
        assert store.drained(["a", "b"], "r")
        assert not store.drained(["a", "b"], "s")
        assert not store.drained(["a", "b"])

    @needs("looking")
    def test_c214_jobs_are_listed_in_order_of_submission(self, store: FullStore) -> None:
        """Without args and results, else as `job_info` has them; by status, type, part of the id; in pages."""
        submit(store, Job("b", args={"n": 1}), Job("a", dependencies=["b"]), Job("a", name="c", delay_s=5))
        finish(store, "r/b", "result")
        whole = [info(store, job_id)._replace(args={}, result=None) for job_id in ("r/b", "r/a", "r/c")]
        assert store.jobs() == whole
        assert store.jobs(status=Status.UNSTARTED) == whole[1:]
        assert store.jobs(type="a") == whole[1:]
        assert store.jobs(text="/c") == whole[2:]
        assert store.jobs(text="%") == []
        assert store.jobs(limit=2) == whole[:2]
        assert store.jobs(limit=1, offset=1) == whole[1:2]
        assert store.jobs(status=Status.FAILED) == []

    @needs("looking")
    def test_c215_dependents_are_listed_nearest_first(self, store: FullStore) -> None:
        """Each once, however many ways lead to it; whatever their status."""
        submit(
            store,
            Job("z", name="d", dependencies=["a", "c"]), Job("z", name="c", dependencies=["b"]),
            Job("z", name="a"), Job("z", name="b", dependencies=["a"]), Job("z", name="x", dependencies=["d"]),
        )  # fmt: skip
        assert store.dependents(["r/a"]) == ["r/d", "r/b", "r/c", "r/x"]
        store.abort_job("r/d")
        assert store.dependents(["r/c", "r/x"]) == ["r/d"]
        assert store.dependents(["r/x"]) == []

    @needs("runs")
    def test_c216_runs_are_listed_newest_first(self, store: FullStore, clock: ManualClock) -> None:
        """With the wall time of their submission and their counts; an unknown one is None."""
        at = clock.read().wall_us / 1e6
        submit(store, Job("a"))
        clock.advance(5)
        submit(store, Job("a"), run="s")
        finish(store, "r/a")
        newest, oldest = store.runs()
        assert (newest.id, newest.counts) == ("s", Counts(unstarted=1, ready=1))
        assert (oldest.id, oldest.counts) == ("r", Counts(finished=1))
        assert [run.submitted_at for run in (newest, oldest)] == pytest.approx([at + 5, at])
        assert store.runs(limit=1) == [newest]
        assert (store.run_info("s"), store.run_info("nobody")) == (newest, None)
