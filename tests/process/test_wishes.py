"""What an operator wishes for a started job: its tree is stopped first; a finish that was committed first wins."""

from __future__ import annotations

import pytest

from tests.process.conftest import alive

pytestmark = pytest.mark.slow

LASTING = """
@handlers
def lasting(job):
    if job.attempt == 1:
        note('child', subprocess.Popen(['sleep', '60'], start_new_session=True).pid)
        await_file('never')
    note('again')

@handlers
def after(job): note('after')
"""


def test_an_abort_of_a_started_job_stops_its_tree_and_gives_up_its_dependents(crew):
    """Wished, then stopped, then settled: handler and detached program are gone when the status says aborted."""
    crew.write_app(LASTING)
    crew.submit({"lasting": [], "after": ["lasting"]})
    crew.start(1)
    child = crew.wait_note("child")
    assert crew.store.abort_job("r/lasting") == []
    crew.wait_for("lasting", "aborted")
    assert not alive(child.pid)
    assert not alive(int(child.words[1]))
    assert crew.job("after").status == "aborted"
    assert crew.outcomes("lasting") == ["aborted"]
    assert crew.notes("after") == []


def test_a_reset_of_a_started_job_stops_its_tree_and_runs_it_again(crew):
    """Its next attempt begins when nothing of the first is left; it is charged to nobody."""
    crew.write_app(LASTING)
    crew.submit({"lasting": [], "after": ["lasting"]})
    crew.start(1)
    child = crew.wait_note("child")
    assert crew.store.request("r/lasting", "reset")
    info = crew.wait_for("lasting")
    assert crew.outcomes("lasting") == ["reset", "finished"]
    assert (info.failures, info.crashes, info.interruptions) == (0, 0, 0)
    assert not alive(child.pid)
    assert not alive(int(child.words[1]))
    crew.wait_for("after")


def test_a_finish_committed_first_wins_over_a_wish(crew):
    """What is finished stays so; the wish is not even noted."""
    crew.submit({"quick": []})
    crew.start(1)
    crew.wait_for("quick")
    assert crew.store.abort_job("r/quick") == []
    assert not crew.store.request("r/quick", "reset")
    assert (crew.job("quick").status, crew.job("quick").request) == ("finished", None)


def test_a_retry_runs_a_failed_job_and_what_was_stuck_behind_it(crew):
    """Failures count anew, attempt numbers go on, idle workers are rung."""
    crew.write_app(
        "@handlers\ndef failing(job):\n    if job.attempt == 1: raise OSError('once')\n@handlers\ndef after(job): pass\n"
    )
    crew.submit({"failing": [], "after": ["failing"]})
    crew.start(1)
    crew.wait_for("failing", "failed")
    assert crew.job("after").stuck
    assert crew.store.retry(["r/failing"]) == ["r/failing"]
    info = crew.wait_for("failing")
    crew.wait_for("after")
    assert (info.attempt, info.failures, info.failure) == (2, 0, None)
