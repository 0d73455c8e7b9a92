"""Stopped is not dead: a grace first, then a kill, and only then is the job anybody else's."""

from __future__ import annotations

import signal

import pytest

from tests.process.conftest import alive, kill, parent

pytestmark = pytest.mark.slow


def test_a_runner_that_stops_itself_is_killed_after_two_seconds_and_counted_as_a_crash(crew):
    """Rule 8: the worker sees state T, bears it for its grace, then ends it."""
    crew.write_app(
        "@handlers\n"
        "def stopping(job):\n"
        "    note('stopping', job.attempt)\n"
        "    if job.attempt == 1: os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    crew.submit({"stopping": []})
    crew.start(1)
    one = crew.wait_note("stopping", 1)
    two = crew.wait_note("stopping", 2)
    info = crew.wait_for("stopping")
    assert 2 <= two.at - one.at < 4
    assert (info.crashes, crew.outcomes("stopping")) == (1, ["crashed", "finished"])
    assert "stood still" in crew.attempts("stopping")[0].failure.message


def test_a_stopped_worker_within_its_tolerance_is_left_alone(crew):
    """It wakes and finishes its attempt; silence alone resets nothing."""
    crew.submit({"held": []})
    crew.start(2, settings={"heartbeat_interval_s": 0.1, "tolerance": 5})
    note = crew.wait_note("held")
    worker = parent(note.pid)
    kill(worker, signal.SIGSTOP)
    crew.wait_log("is silent for")
    kill(worker, signal.SIGCONT)
    crew.allow("go")
    assert crew.wait_for("held").attempt == 1
    assert crew.outcomes("held") == ["finished"]
    assert alive(worker)


def test_a_worker_stopped_beyond_its_tolerance_and_grace_is_killed_and_its_job_runs_again(crew):
    """Rule 6: never reset while its lock is held; killed first, tree and all."""
    crew.submit({"first_held": []})
    constants = {"overseer_lite.monitor.watch.STOPPED_GRACE_S": 0.5}
    crew.start(2, settings={"heartbeat_interval_s": 0.1, "tolerance": 3}, constants=constants)
    note = crew.wait_note("first_held", "first_held", 1)
    worker = parent(note.pid)
    kill(worker, signal.SIGSTOP)
    crew.wait_note("first_held", "first_held", 2)
    assert not alive(worker)
    assert not alive(note.pid)
    crew.wait_for("first_held")
    assert crew.outcomes("first_held") == ["interrupted", "finished"]
    assert "is killed: stopped and silent" in crew.log()


def test_a_worker_stopped_while_it_holds_the_gate_is_killed_and_the_others_go_on(crew):
    """Nothing can be written until it is gone; it is not waited for as a silent worker would be."""
    crew.start(
        1,
        settings={"heartbeat_interval_s": 0.5, "tolerance": 100},
        constants={"overseer_lite.supervisor.standstill.STOPPED_HOLDER_S": 0.3},
        env={"OVERSEER_LITE_FAILPOINTS": "beat.before_commit=stop%worker"},
    )
    crew.start(1)
    crew.wait_log("stands still (state T) and holds the writer gate")
    crew.submit({"quick": []})  # waits for the gate, as everybody does
    crew.wait_for("quick")
    assert "is killed: it stood still holding the writer gate" in crew.log()
