"""The double's pool: real processes that a test may kill."""

from __future__ import annotations

import os

import pytest

from overseer_lite.errors import TimedOutError
from overseer_lite.liveness import read_stat
from overseer_lite.testing.pool import PoolLostError

pytestmark = pytest.mark.slow

JOBS = """
import os, signal
import overseer_lite as overseer

handlers = overseer.Handlers()

@handlers
def load(job):
    while job.attempt == 1:
        signal.pause()
    return os.getpid()

@handlers
def merge(job):
    return job.results["load"]

@handlers
def hold(job):
    while True:
        signal.pause()

@handlers(timeout=30, retries=1, backoff=60)
def slow(job):
    while job.attempt == 1:
        signal.pause()

@handlers
def quick(job):
    return [os.environ["OVERSEER_LITE_DB"], os.environ["OVERSEER_LITE_CLOCK"]]

graph = {"load": [], "merge": ["load"]}
"""


@pytest.fixture
def jobs(module_of):
    """A module of handlers in a directory that is on this process's path."""
    return module_of("double_jobs", JOBS)


@pytest.mark.parametrize("verb", ["kill", "kill_runner"])
def test_a_killed_attempt_is_told_and_made_good(overseer_double, jobs, verb):
    """Whether the worker was killed or the runner alone: one attempt killed, the next one finished, in another process."""
    d = overseer_double(jobs.handlers)
    d.submit(jobs.graph)
    with d.pool(2) as pool:
        attempt = pool.wait_started("load")
        getattr(attempt, verb)()
        pool.wait_quiescent(timeout_s=10)

    assert d.attempts("load") == ["killed", "finished"]
    assert d.expect.recovered_within("load", 5) > 0
    d.expect.ran_before("load", "merge")
    assert d.attempts("merge") == ["finished"]
    assert d.job("load").result not in (None, attempt.runner.pid, os.getpid())


def test_a_pool_leaves_nobody_behind(overseer_double, jobs):
    """Not even where the test fails with a handler at work: supervisor, worker and runner are gone after the block."""
    d = overseer_double(jobs.handlers)
    d.submit({"hold": []})
    pids = []

    def fail(pool):
        attempt = pool.wait_started("hold")
        pids.extend((pool.pid, attempt.worker.pid, attempt.runner.pid))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), d.pool(1) as pool:
        fail(pool)

    assert len(pids) == 3
    assert [pid for pid in pids if (stat := read_stat(pid)) is not None and not stat.dead] == []


def test_waits_have_an_end_and_name_what_is_left(overseer_double, jobs):
    """A test that hangs says nothing."""
    d = overseer_double(jobs.handlers)
    d.submit({"hold": []})
    with d.pool(1, grace_s=0) as pool:
        pool.wait_started("hold")
        with pytest.raises(TimedOutError, match="hold"):
            pool.wait_quiescent(timeout_s=0.05)


def test_a_job_that_ended_unseen_cannot_be_waited_for(overseer_double, jobs):
    """Its start was missed, and will not come again."""
    d = overseer_double(jobs.handlers)
    d.submit({"quick": []})
    with d.pool(1) as pool:
        pool.wait_quiescent()
        with pytest.raises(PoolLostError, match="finished"):
            pool.wait_started("quick")


def test_a_pool_that_cannot_work_says_why(overseer_double, jobs):
    """The supervisor's last words, not a timeout."""
    d = overseer_double(jobs.handlers)
    d.submit(jobs.graph)
    with d.pool(1, app="no_such_module") as pool, pytest.raises(PoolLostError, match="no_such_module"):
        pool.wait_quiescent(timeout_s=10)


def test_a_pool_s_processes_have_its_double_s_store_and_clock(overseer_double, jobs):
    """Not those of a double that was made later, which the test's own environment names."""
    d, _ = overseer_double(jobs.handlers), overseer_double(jobs.handlers)
    d.submit({"quick": []})
    with d.pool(1) as pool:
        pool.wait_quiescent()

    assert d.job("quick").result == [d.store.path, d.clock.path]


def test_time_runs_on_from_where_it_stood_while_a_pool_works(overseer_double, jobs):
    """What the test has let pass has passed for the processes as well, and time stands again afterwards."""
    d = overseer_double(jobs.handlers)
    d.clock.advance(1_000_000)
    d.submit({"quick": []})
    before = d.clock.read()
    with d.pool(1) as pool:
        pool.wait_quiescent()
    after = d.clock.read()

    assert d.attempts("quick") == ["finished"]
    assert 0 < after.boottime_us - before.boottime_us < 60_000_000
    assert after.boot_id == before.boot_id
    assert d.clock.read() == after


def test_time_that_is_advanced_makes_nobody_silent(overseer_double, jobs):
    """An hour in one call, at a beat of 10 s and a tolerance of three: a job at work keeps its worker, and its attempt."""
    d = overseer_double(jobs.handlers)
    d.submit({"hold": []})
    with d.pool(2, tolerance=3, grace_s=0) as pool:
        attempt = pool.wait_started("hold")
        d.clock.advance(3600)
        silent_s = [worker.silent_s for worker in d.store.workers()]
        held = d.job("hold")

    assert max(silent_s) < 30
    assert (held.attempt, held.worker) == (1, attempt.attempt.worker)
    with open(pool._log, encoding="utf-8") as log:
        assert "silent" not in log.read()


def test_time_that_is_advanced_drives_timeouts_and_retries_in_processes(overseer_double, jobs):
    """The attempt runs out of its 30 s, and its retry is taken up 60 s later, without 90 s of anybody's time."""
    d = overseer_double(jobs.handlers)
    d.submit({"slow": []})
    with d.pool(1) as pool:
        pool.wait_started("slow")
        d.clock.advance(31)
        pool.wait_attempts("slow", 1)
        assert d.job("slow").failure.reason == "timeout"
        assert 0 < d.job("slow").due_in_s <= 60
        d.clock.advance(60)
        pool.wait_quiescent()

    assert d.attempts("slow") == ["failed", "finished"]


def test_time_does_not_wait_for_a_worker_that_stands_still(overseer_double, jobs):
    """It will not beat, so it falls silent; the others do not."""
    d = overseer_double(jobs.handlers)
    d.submit({"hold": []})
    with d.pool(2, grace_s=0, tolerance=100) as pool:
        attempt = pool.wait_started("hold")
        pool.wait_workers(2)
        attempt.stop()
        d.clock.advance(40)
        silent_s = {worker.id: worker.silent_s for worker in d.store.workers()}
        attempt.go_on()

    assert silent_s.pop(attempt.attempt.worker) >= 30
    assert len(silent_s) == 1
    assert max(silent_s.values()) <= 11
