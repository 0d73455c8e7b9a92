"""Beats and time: c110 to c129."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from overseer_lite.job import Job
from overseer_lite.store import WorkerRecord
from overseer_lite.testing.clock import ManualClock
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import finish, info, start, submit

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class TimeClauses(Clauses):
    """Beats and time: c110 to c129."""

    def test_c110_ancestor_a_job_whose_heartbeat_is_old_is_listed(self, store: FullStore, clock: ManualClock) -> None:
        """Ancestor's `test-jobs-dead`. Difference: a duration, not an instant."""
        submit(store, Job("a"), Job("b"), Job("c"))
        clock.advance(1000)
        dead = start(store, "r/b")
        clock.advance(49)
        start(store, "r/a")
        clock.advance(0.5)
        start(store, "r/c")
        clock.advance(0.5)
        assert store.jobs_dead(3) == [dead]

    def test_c111_ancestor_a_heartbeat_renews_the_sign_of_life(self, store: FullStore, clock: ManualClock) -> None:
        """Ancestor's `test-updating-jobs`, heartbeating; a reservation is itself the first beat."""
        submit(store, Job("a"))
        attempt = start(store)
        clock.advance(10)
        assert store.jobs_dead(9.9) == [attempt]
        store.heartbeat_job(attempt)
        assert store.jobs_dead(0) == []
        clock.advance(10)
        assert store.jobs_dead(9.9) == [attempt]

    def test_c112_silence_must_be_longer_than_asked_for(self, store: FullStore, clock: ManualClock) -> None:
        """Exactly as long is not longer."""
        submit(store, Job("a"))
        attempt = start(store)
        clock.advance(10)
        assert store.jobs_dead(10) == []
        clock.advance(0.000001)
        assert store.jobs_dead(10) == [attempt]

    def test_c113_the_longest_silent_comes_first(self, store: FullStore, clock: ManualClock) -> None:
        """Those equally silent in order of submission."""
        submit(store, Job("a"), Job("b"), Job("c"), Job("d"))
        attempts = {name: start(store, f"r/{name}", f"w-{name}") for name in "dcba"}
        clock.advance(1)
        store.heartbeat_job(attempts["b"])
        clock.advance(1)
        store.heartbeat_job(attempts["a"])
        clock.advance(1)
        assert store.jobs_dead(0) == [attempts[name] for name in "cdba"]

    def test_c114_a_job_that_left_started_is_not_silent(self, store: FullStore, clock: ManualClock) -> None:
        """Only a started job has to give signs of life."""
        submit(store, Job("a"), Job("b"))
        finish(store, "r/a")
        store.reset_job(start(store, "r/b"))
        clock.advance(1000)
        assert store.jobs_dead(1) == []

    @pytest.mark.parametrize("step_s", [1e8, -1e8])
    def test_c115_a_step_of_the_wall_clock_is_no_silence(
        self, store: FullStore, clock: ManualClock, step_s: float
    ) -> None:
        """Nor does it hide one."""
        submit(store, Job("a"))
        attempt = start(store)
        clock.advance(5)
        clock.step_wall(step_s)
        assert store.jobs_dead(5) == []
        assert store.jobs_dead(4) == [attempt]

    def test_c116_sleep_of_the_machine_is_no_silence(self, store: FullStore, clock: ManualClock) -> None:
        """Nobody can beat while the machine is suspended."""
        submit(store, Job("a"))
        start(store)
        clock.suspend(1e6)
        assert store.jobs_dead(0) == []

    def test_c117_after_a_reboot_everybody_was_silent_for_ever(self, store: FullStore, clock: ManualClock) -> None:
        """Whatever the new boot's counters say: who beat in another boot is not alive."""
        submit(store, Job("a"), Job("b"))
        attempt = start(store)
        clock.reboot()
        other = start(store, "r/b")
        assert store.jobs_dead(1e9) == [attempt]
        clock.advance(5e6)
        store.heartbeat_job(other)
        assert store.jobs_dead(1e9) == [attempt]
        store.heartbeat_job(attempt)
        assert store.jobs_dead(0) == []

    @pytest.mark.parametrize("delay_s", [0.5, 60, 86400 * 365])
    def test_c118_a_delayed_job_waits_from_its_submission(
        self, store: FullStore, clock: ManualClock, delay_s: float
    ) -> None:
        """Not before, and exactly then; it then stands in line by its order of submission."""
        submit(store, Job("a", delay_s=delay_s), Job("b"))
        assert (info(store, "r/a").due_in_s, info(store, "r/a").ready) == (delay_s, False)
        assert store.jobs_ready() == ["r/b"]
        clock.advance(delay_s)
        assert (info(store, "r/a").due_in_s, info(store, "r/a").ready) == (None, True)
        assert store.jobs_ready() == ["r/a", "r/b"]

    def test_c119_a_delay_runs_while_the_job_waits_for_its_dependencies(
        self, store: FullStore, clock: ManualClock
    ) -> None:
        """The later of the two decides, in either order."""
        submit(store, Job("a"), Job("b", dependencies=["a"], delay_s=60))
        clock.advance(40)
        finish(store)
        assert (info(store, "r/b").waiting_for, info(store, "r/b").due_in_s) == (0, 20)
        clock.advance(20)
        assert store.jobs_ready() == ["r/b"]

    def test_c120_a_delay_goes_on_while_the_machine_sleeps(self, store: FullStore, clock: ManualClock) -> None:
        """A job due in the night is due in the morning."""
        submit(store, Job("a", delay_s=60))
        clock.suspend(59)
        assert info(store, "r/a").due_in_s == 1
        clock.suspend(1)
        assert store.jobs_ready() == ["r/a"]

    @pytest.mark.parametrize("step_s", [1e8, -1e8])
    def test_c121_a_step_of_the_wall_clock_moves_no_due_time(
        self, store: FullStore, clock: ManualClock, step_s: float
    ) -> None:
        """Within a boot the boot's own clock decides."""
        submit(store, Job("a", delay_s=60))
        clock.step_wall(step_s)
        assert info(store, "r/a").due_in_s == 60
        clock.advance(60)
        assert store.jobs_ready() == ["r/a"]

    @pytest.mark.parametrize(
        ("before_s", "step_s", "off_s", "left_s"),
        [
            (0, 0, 0, 60),
            (10, 0, 0, 50),
            (10, 0, 20, 30),
            (10, 0, 50, None),
            (0, 0, 1e6, None),
            (10, 1e8, 0, None),
            (10, -1e8, 0, 60),
            (10, -5, 0, 55),
        ],
    )
    def test_c122_a_reboot_carries_a_delay_over_by_the_wall_clock(
        self, store: FullStore, clock: ManualClock, before_s: float, step_s: float, off_s: float, left_s: float | None
    ) -> None:
        """What the wall clock says is left, never less than nothing, and never longer than was asked for."""
        submit(store, Job("a", delay_s=60))
        clock.advance(before_s)
        clock.step_wall(step_s)
        clock.reboot(off_s=off_s)
        assert info(store, "r/a").due_in_s == left_s
        assert store.jobs_ready() == (["r/a"] if left_s is None else [])
        clock.advance(left_s or 0)
        assert store.reserve_job("w1", "r/a") is not None

    def test_c123_what_was_ready_before_a_reboot_is_ready_after_it(self, store: FullStore, clock: ManualClock) -> None:
        """Jobs without a delay, and those whose time had come."""
        submit(store, Job("a"), Job("b", delay_s=60))
        clock.advance(61)
        clock.reboot()
        assert store.jobs_ready() == ["r/a", "r/b"]

    @needs("workers")
    def test_c124_a_workers_beat_counts_for_all_it_holds(self, store: FullStore, clock: ManualClock) -> None:
        """The younger of the two signs decides; another worker's beat counts for nothing."""
        for worker in ("w1", "w2"):
            store.register(WorkerRecord(worker, 1))
        submit(store, Job("a"), Job("b"), Job("c"))
        mine = start(store, "r/a"), start(store, "r/b")
        other = start(store, "r/c", "w2")
        clock.advance(10)
        store.beat("w1")
        assert store.jobs_dead(1) == [other]
        clock.advance(5)
        store.heartbeat_job(mine[1])
        assert store.jobs_dead(1) == [other, mine[0]]

    @needs("workers")
    def test_c125_a_workers_silence_is_told(self, store: FullStore, clock: ManualClock) -> None:
        """By the monotonic clock, from its registration or last beat; in another boot it is without end."""
        store.register(WorkerRecord("w1", 1))
        clock.advance(7)
        clock.suspend(100)
        clock.step_wall(-1e6)
        assert [worker.silent_s for worker in store.workers()] == [7]
        store.beat("w1")
        assert [worker.silent_s for worker in store.workers()] == [0]
        clock.reboot()
        assert [worker.silent_s for worker in store.workers()] == [math.inf]
