"""Signals to the supervisor: the first finishes what runs, the second cuts it short, and nothing is left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from overseer_lite.graph import simple_graph
from overseer_lite.job import Job
from overseer_lite.liveness import read_stat
from tests.conftest import wait_until
from tests.process.conftest import alive, parent

pytestmark = pytest.mark.slow


def pending(pid):
    """Return the set of signals that wait for a process, as the kernel writes it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd:"))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_finishes_the_current_job_and_takes_no_more(crew, signum):
    """A graceful stop: exit 0, the running job finished, the next one untouched."""
    crew.submit(simple_graph(Job("held"), Job("quick"), id="r"))
    supervisor = crew.start(1)
    crew.wait_note("held", "held", 1)
    supervisor.signal(signum)
    crew.wait_log("Stopping")
    crew.allow("go")
    assert supervisor.wait() == 0
    assert crew.outcomes("held") == ["finished"]
    assert (crew.job("quick").status, crew.job("quick").attempt) == ("unstarted", 0)
    assert crew.companions() == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_cuts_the_current_job_short_and_charges_nobody(crew, signum):
    """Stopped at once: the begun attempt is `stopped`, its whole tree gone, the exit code names the signal."""
    crew.write_app(
        "@handlers\n"
        "def parent_of(job):\n"
        "    note('child', subprocess.Popen(['sleep', '60'], start_new_session=True).pid)\n"
        "    await_file('never')\n"
    )
    crew.submit({"parent_of": []})
    supervisor = crew.start(2)
    crew.wait_ready(2)
    note = crew.wait_note("child")
    supervisor.signal(signum)
    crew.wait_log("Stopping")
    supervisor.signal(signum)
    assert supervisor.wait() == 128 + signum
    info = crew.job("parent_of")
    assert crew.outcomes("parent_of") == ["stopped"]
    assert (info.status, info.failures, info.crashes, info.interruptions) == ("unstarted", 0, 0, 0)
    assert not alive(int(note.words[1]))
    assert crew.processes() == []
    assert crew.companions() == []


def test_two_signals_at_once_are_understood_as_two(crew):
    """Signals of one kind may arrive as one at the worker; it is told by two kinds, so the second is not lost."""
    crew.submit({"first_held": []})
    supervisor = crew.start(1)
    worker = parent(crew.wait_note("first_held").pid)
    os.kill(worker, signal.SIGSTOP)  # so that what it is sent waits for it, two of one kind as one
    wait_until(lambda: read_stat(worker).state == "T", 5, "the worker's standstill")
    supervisor.signal(signal.SIGSTOP)
    supervisor.signal(signal.SIGTERM)
    supervisor.signal(signal.SIGINT)
    supervisor.signal(signal.SIGCONT)
    wait_until(lambda: pending(worker) & 1 << (signal.SIGTERM - 1), 5, "the worker's signals")
    os.kill(worker, signal.SIGCONT)
    assert supervisor.wait() in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert crew.outcomes("first_held") == ["stopped"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_grace_that_is_over_cuts_short_and_charges_nobody(crew, signum):
    """Whoever does not finish within grace_s is stopped at once, as by a second signal; the exit code says so."""
    crew.submit({"first_held": []})
    supervisor = crew.start(1, settings={"grace_s": 0.1})
    crew.wait_note("first_held")
    supervisor.signal(signum)
    assert supervisor.wait() == 128 + signum
    assert crew.outcomes("first_held") == ["stopped"]
    assert crew.job("first_held").interruptions == 0


def test_a_plan_whose_time_is_up_stops_at_once_with_exit_code_4(crew):
    """timeout_s ends a run that takes too long; what runs is cut short, charged to nobody."""
    crew.submit({"first_held": []})
    supervisor = crew.start(1, timeout_s=0.8)
    assert supervisor.wait() == 4
    assert crew.outcomes("first_held") in (["stopped"], [])


def test_a_run_stopped_by_one_signal_is_no_success(crew):
    """A supervisor that works on one run alone ends with 143 when it is stopped, though in order."""
    crew.submit({"held": []})
    supervisor = crew.start(1, run="r", drain=True)
    crew.wait_note("held")
    supervisor.signal(signal.SIGTERM)
    crew.wait_log("Stopping")
    crew.allow("go")
    assert supervisor.wait() == 143


def test_jobs_reserved_ahead_are_handed_back_and_their_numbers_given_again(crew):
    """What a stopping worker reserved and its runner never began has no history, and starts as attempt 1."""
    crew.write_app(
        "@handlers\n"
        "def tiny(job):\n"
        "    note('tiny', job.name, job.attempt)\n"
        "    if job.name == 'n100': await_file('go')\n"
    )
    graph = simple_graph(*(Job("tiny", name=f"n{index}") for index in range(200)), id="r")
    crew.submit(graph)
    supervisor = crew.start(1)
    crew.wait_note("tiny", "n100")
    supervisor.signal(signal.SIGTERM)
    crew.wait_log("Stopping")  # the supervisor has signalled
    worker = crew.worker_pid()
    wait_until(lambda: not pending(worker) & 1 << (signal.SIGTERM - 1), 5, "the worker has the signal")
    crew.allow("go")
    assert supervisor.wait() == 0
    begun = {note.words[1] for note in crew.notes("tiny")}
    for index in range(200):
        info = crew.job(f"n{index}")
        done = f"n{index}" in begun
        assert (info.status, info.attempt) == (("finished", 1) if done else ("unstarted", 0)), info
    assert begun == {f"n{index}" for index in range(101)}  # the current job was the last one to begin
    again = crew.start(1, drain=True)
    assert again.wait() == 0
    assert {crew.job(f"n{index}").attempt for index in range(200)} == {1}
    assert len(crew.notes("tiny")) == 200


def test_a_worker_told_to_stop_by_somebody_else_is_replaced(crew):
    """SIGTERM to one worker ends that one in order; the crew stays as large."""
    crew.start(1)
    (before,) = crew.wait_ready(1)
    os.kill(before.pid, signal.SIGTERM)
    wait_until(lambda: [record.id for record in crew.store.workers()] not in ([], [before.id]), 10, "a new worker")
    assert "died" not in crew.log()


def test_a_context_that_does_not_end_is_cut_short_by_the_second_signal(crew):
    """A runner has its time to leave the context, but not for ever, and not against the operator's word."""
    crew.write_app(
        "@contextlib.contextmanager\ndef context():\n    yield\n    note('leaving')\n    await_file('never')\n"
    )
    supervisor = crew.start(1)
    crew.wait_ready(1)
    supervisor.signal(signal.SIGTERM)
    leaving = crew.wait_note("leaving")
    supervisor.signal(signal.SIGTERM)
    assert supervisor.wait(3) == 143
    assert not alive(leaving.pid)


def test_a_worker_that_hangs_is_killed_when_everything_stops(crew):
    """Stopped at once, a worker that does not heed in time is SIGKILLed, and its job put back."""
    crew.submit({"first_held": []})
    supervisor = crew.start(1, constants={"overseer_lite.supervisor.parent.LAST_GRACE_S": 0.2})
    note = crew.wait_note("first_held")
    os.kill(parent(note.pid), signal.SIGSTOP)
    supervisor.signal(signal.SIGTERM)
    crew.wait_log("Stopping")
    supervisor.signal(signal.SIGTERM)
    assert supervisor.wait() == 143
    assert crew.outcomes("first_held") == ["interrupted"]
    assert crew.companions() == []
