"""Profiles: without the kernel's word a death is a silence, and only the fence protects; with it, nobody waits."""

from __future__ import annotations

import pytest

import overseer_lite as overseer
from overseer_lite.errors import InvalidInputError
from overseer_lite.job import Outcome, Settlement
from overseer_lite.liveness import Life, look
from overseer_lite.testing import Profile, lease, verify
from overseer_lite.testing.profiles import PROFILES
from tests.process.test_double_faults import JOBS

handlers = overseer.Handlers()


@handlers
def part(job):
    return job.attempt


@pytest.fixture
def jobs(module_of):
    """A module of handlers in a directory that is on this process's path."""
    return module_of("profile_jobs", JOBS)


def test_the_figures_are_those_of_what_it_stands_for():
    """Overseer 0.9.0 beat once a minute, and bore five that failed."""
    assert PROFILES["overseer"] == Profile("overseer", False, 60, 5)
    assert PROFILES["overseer"].silent_for_s == 300
    assert [PROFILES[name].kernel for name in ("local", "lease")] == [True, False]
    assert lease(3, 4) == Profile("lease", False, 3, 4)


def test_a_profile_that_does_not_exist_is_refused(overseer_double):
    """As is one that nobody could keep."""
    with pytest.raises(InvalidInputError, match="'overseer'"):
        overseer_double(handlers, profile="oversear")
    with pytest.raises(InvalidInputError, match="tolerance"):
        lease(10, 0)


def test_a_sweep_resets_by_silence_what_no_process_holds(overseer_double):
    """In the test's own process: after the tolerance and not before, and the late write is refused."""
    d = overseer_double(handlers, profile=lease(10, 3))
    d.submit({"part": []})
    late = d.store.reserve_job("elsewhere", d.job("part").id)
    d.clock.advance(30)
    assert d.sweep() == []
    d.clock.advance(1)
    assert d.sweep() == [d.job("part").id]
    d.drain()
    refused = d.store.exchange("elsewhere", [Settlement(late, Outcome.FINISHED)], 0, ()).refused

    assert [refusal.reason for refusal in refused] == ["superseded"]
    assert d.attempts("part") == ["reset", "finished"]
    d.expect.fenced("part", count=1)


def test_a_sweep_by_the_kernel_s_word_leaves_the_silent_alone(overseer_double):
    """Nobody has proved that it is dead, however long it is silent."""
    d = overseer_double(handlers)
    d.submit({"part": []})
    d.store.reserve_job("elsewhere", d.job("part").id)
    d.clock.advance(10_000)

    assert d.sweep() == []
    assert d.job("part").status == "started"


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["overseer", "lease"])
def test_a_killed_worker_s_job_is_reset_only_after_its_silence(overseer_double, jobs, profile):
    """Nobody can tell that it was killed: interval times tolerance by the store's clock, and no sooner."""
    d = overseer_double(jobs.handlers, profile=profile)
    silent_for_s = d.profile.silent_for_s
    d.submit({"wait": []})
    with d.pool(2) as pool:
        attempt = pool.wait_started("wait")
        pool.wait_workers(2)
        attempt.kill()
        pool.wait_until(lambda: look(attempt.worker, d.clock.read().boot_id) is Life.GONE)
        d.clock.advance(silent_for_s - 10)
        before = d.job("wait")
        d.clock.advance(20)
        pool.wait_quiescent()

    assert (before.status, before.attempt) == ("started", 1)
    assert d.attempts("wait") == ["reset", "finished"]
    assert silent_for_s - 10 < d.expect.recovered_within("wait", silent_for_s + 60)
    assert verify(d.trace()) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "drop_beats"])
def test_a_silent_worker_that_lives_is_reset_as_well_and_fenced(overseer_double, jobs, tmp_path, how):
    """Its job is given to another while it works on; what it says afterwards is refused, and changes nothing."""
    d = overseer_double(jobs.handlers, profile="overseer")
    d.submit({"wait": []})
    with d.pool(2) as pool:
        attempt = pool.wait_started("wait")
        pool.wait_workers(2)
        if how == "stop":
            attempt.stop()
        else:
            d.faults.drop_beats(attempt)
        d.clock.advance(320)
        pool.wait_attempts("wait", 1)
        if how == "stop":
            pool.wait_quiescent()
        (tmp_path / "go").touch()
        if how == "stop":
            attempt.go_on()
        pool.wait_until(lambda: any(event.event == "refused" for event in d.trace()), "a refusal")
        pool.wait_quiescent()
        lives = look(attempt.worker, d.clock.read().boot_id)

    assert lives is Life.RUNNING
    assert d.attempts("wait") == ["reset", "finished"]
    d.expect.fenced("wait")
    assert verify(d.trace()) == []


@pytest.mark.slow
def test_a_silence_within_the_tolerance_costs_nothing(overseer_double, jobs, tmp_path):
    """In this profile as well."""
    d = overseer_double(jobs.handlers, profile="overseer")
    d.submit({"wait": []})
    with d.pool(1) as pool:
        attempt = pool.wait_started("wait")
        attempt.stop()
        d.clock.advance(280)
        (tmp_path / "go").touch()
        attempt.go_on()
        pool.wait_quiescent()

    assert d.attempts("wait") == ["finished"]


@pytest.mark.slow
def test_by_the_kernel_s_word_nobody_waits_for_a_beat(overseer_double, jobs):
    """A killed worker's job is taken up again at once, with beats of a minute."""
    d = overseer_double(jobs.handlers, profile=Profile("slow beats", True, 60, 5))
    d.submit({"wait": []})
    with d.pool(2) as pool:
        pool.wait_started("wait").kill()
        pool.wait_quiescent()

    assert d.attempts("wait") == ["killed", "finished"]
    d.expect.recovered_within("wait", 10)
