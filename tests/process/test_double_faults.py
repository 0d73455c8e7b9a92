"""Faults on demand in a double's processes: each is seen to strike, and to be got over."""

from __future__ import annotations

import pytest

import overseer_lite as overseer
from overseer_lite.errors import TimedOutError
from overseer_lite.liveness import Life, look
from overseer_lite.testing import verify

pytestmark = pytest.mark.slow

JOBS = """
import os, time
import overseer_lite as overseer

handlers = overseer.Handlers()
here = os.path.dirname(__file__)

@handlers
def note(job):
    with open(os.path.join(here, "ran"), "a") as file:
        file.write(f"{job.name} {job.attempt}\\n")

@handlers
def wait(job):
    while job.attempt == 1 and not os.path.exists(os.path.join(here, "go")):
        time.sleep(0.005)

graph = {"note": []}
"""


@pytest.fixture
def jobs(module_of):
    """A module of handlers in a directory that is on this process's path."""
    return module_of("fault_jobs", JOBS)


def ran(tmp_path):
    """Return what the handler noted, one word an attempt."""
    return (tmp_path / "ran").read_text().split("\n")[:-1]


@pytest.mark.parametrize(
    ("point", "begun"),
    [
        ("exchange.after_commit", 0),  # reserved, and nobody knows: handed back
        ("worker.given", None),
        ("worker.outcome", 1),
        ("runner.begun", 0),
        ("runner.ended", 1),
    ],
)
def test_a_process_killed_at_a_point_is_made_good(overseer_double, jobs, tmp_path, point, begun):
    """Once in all processes: its replacement gets past the point, and the job is finished."""
    d = overseer_double(jobs.handlers)
    d.submit(jobs.graph)
    fault = d.faults.kill(point)
    with d.pool(1) as pool:
        pool.wait_quiescent()

    assert fault.struck
    assert d.attempts("note")[-1] == "finished"
    if begun is not None:
        assert len(ran(tmp_path)) == begun + 1


def test_a_fault_may_come_by_the_environment(overseer_double, jobs, monkeypatch):
    """As it may for any process of the project; then in each process that visits the point."""
    d = overseer_double(jobs.handlers)
    d.submit(jobs.graph)
    monkeypatch.setenv("OVERSEER_LITE_FAILPOINTS", "runner.begun=kill%runner")
    with d.pool(1) as pool:
        pool.wait_quiescent()

    assert d.attempts("note") == ["killed"] * 3
    assert d.job("note").failure.reason == "crash"


def test_a_worker_whose_beats_are_dropped_is_made_sure_of(overseer_double, jobs):
    """It lives and works, and nobody hears it: after the tolerance it is killed, and its job given to another."""
    d = overseer_double(jobs.handlers)
    d.submit({"wait": []})
    with d.pool(2, heartbeat_interval_s=10, tolerance=3) as pool:
        attempt = pool.wait_started("wait")
        fault = d.faults.drop_beats(attempt)
        d.clock.advance(40)
        pool.wait_quiescent()

    assert fault.struck
    assert look(attempt.worker, d.clock.read().boot_id) is Life.GONE
    assert d.attempts("wait") == ["killed", "finished"]


def test_beats_that_come_again_in_time_cost_nothing(overseer_double, jobs, tmp_path):
    """A few may be missed: that is what the tolerance is for."""
    d = overseer_double(jobs.handlers)
    d.submit({"wait": []})
    with d.pool(2, heartbeat_interval_s=10, tolerance=6) as pool:
        attempt = pool.wait_started("wait")
        with d.faults.drop_beats(attempt):
            d.clock.advance(40)
        d.clock.advance(40)
        (tmp_path / "go").touch()
        pool.wait_quiescent()

    assert d.attempts("wait") == ["finished"]


def test_a_job_that_ends_while_the_store_is_away_is_settled_when_it_is_back(overseer_double, jobs, tmp_path):
    """Its worker waits, and beats meanwhile; the handler is not run again."""
    d = overseer_double(jobs.handlers)
    d.submit({"wait": [], "note": ["wait"]})
    with d.pool(1) as pool:
        pool.wait_started("wait")
        with d.faults.store_away() as fault:
            (tmp_path / "go").touch()
            with pytest.raises(TimedOutError):
                pool.wait_quiescent(timeout_s=0.7)
            assert fault.struck
            assert d.job("wait").status == "started"
        pool.wait_quiescent()

    assert d.attempts("wait") == ["finished"]
    assert ran(tmp_path) == ["note 1"]


@pytest.mark.parametrize("visit", [1, 2])
def test_a_lost_acknowledgement_costs_a_pool_no_attempt(overseer_double, jobs, tmp_path, visit):
    """The worker asks the store what is true, and goes on from there."""
    d = overseer_double(jobs.handlers)
    d.submit(jobs.graph)
    fault = d.faults.lose_acknowledgement(visit=visit, role="worker")
    with d.pool(1) as pool:
        pool.wait_quiescent()

    assert fault.struck
    assert d.attempts("note") == ["finished"]
    assert ran(tmp_path) == ["note 1"]


def test_a_runner_that_stands_still_is_replaced(overseer_double, jobs):
    """Stopped at a point, with the job begun: its worker sees it, and the attempt is a crash."""
    d = overseer_double(jobs.handlers)
    d.submit(jobs.graph)
    fault = d.faults.stop("runner.begun")
    with d.pool(1) as pool:
        pool.wait_quiescent()

    assert fault.struck
    assert d.attempts("note") == ["killed", "finished"]


def test_a_worker_may_be_silent_and_wake(overseer_double, jobs, tmp_path):
    """Stopped for less than the tolerance: it goes on where it was, and its attempt counts."""
    d = overseer_double(jobs.handlers)
    d.submit({"wait": []})
    with d.pool(1) as pool:
        attempt = pool.wait_started("wait")
        attempt.stop()
        d.clock.advance(20)
        (tmp_path / "go").touch()
        attempt.go_on()
        pool.wait_quiescent()

    assert d.attempts("wait") == ["finished"]


@pytest.mark.parametrize(
    "point", ["exchange.after_commit", "worker.reserved", "worker.given", "runner.begun", "runner.ended"]
)
@pytest.mark.parametrize("visit", [1, 2, 3])
def test_a_trace_is_whole_though_a_process_died_after_its_commit(overseer_double, jobs, point, visit):
    """What it had committed is in it, though nobody lived to say so; and no promise is broken."""
    d = overseer_double(jobs.handlers)
    # Visits count in each process. At most two jobs are ready at a time, so eleven jobs are six exchanges or more, and one
    # of two workers comes to each point three times.
    names = "abcdefghijk"
    graph = overseer.Graph()
    for at, name in enumerate(names):
        graph.add("note", name=name, dependencies=[names[at - 2]] if at > 1 else [])
    d.submit(graph)
    fault = d.faults.kill(point, visit=visit)
    with d.pool(2) as pool:
        pool.wait_quiescent()
    trace = d.trace()
    ended = {name: [e.event for e in trace if e.job == d.job(name).id and e.event == "finished"] for name in names}

    assert fault.struck
    assert verify(trace) == []
    assert ended == {name: ["finished"] for name in names}


def test_a_trace_is_whole_though_an_acknowledgement_was_lost(overseer_double, jobs):
    """It was committed, and its caller did not hear of it: in the trace once, though it was said twice."""
    d = overseer_double(jobs.handlers)
    d.submit({"note": [], "wait": ["note"]})
    d.faults.lose_acknowledgement(visit=2, role="worker")
    with d.pool(1) as pool:
        pool.wait_started("wait").kill()
        pool.wait_quiescent()
    trace = d.trace()

    assert verify(trace) == []
    assert [e.event for e in trace if e.job == d.job("note").id].count("finished") == 1
    assert [e.worker is not None for e in trace if e.event == "killed"] == [True]
