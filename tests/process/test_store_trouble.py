"""The store's file goes, or a commit's outcome is unknown: nothing is lost and nothing runs twice."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.conftest import wait_until

pytestmark = pytest.mark.slow


def test_a_file_replaced_under_a_running_supervisor_ends_it_with_exit_3_and_no_worker_stays(crew):
    """Writes would go nowhere: everything stops, the handler too."""
    crew.leaves_files = True
    crew.submit({"first_held": []})
    supervisor = crew.start(2)
    crew.wait_ready(2)
    crew.wait_note("first_held")
    path = crew.store.path
    shutil.copy(path, path + ".new")
    os.replace(path + ".new", path)
    assert supervisor.wait(10) == 3
    assert crew.processes() == []
    lines = [line for line in crew.log().splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert "jobs.db" in lines[0]


@pytest.mark.parametrize("point", ["exchange.before_commit", "exchange.after_commit"])
@pytest.mark.parametrize("visit", [1, 2])
def test_a_worker_that_fails_around_a_commit_loses_nothing_and_runs_nothing_twice(crew, point, visit):
    """One clear line, a replacement, and every attempt accounted for: the first exchange reserves, the second settles."""
    crew.submit({"quick": []})
    crew.start(1, env={"OVERSEER_LITE_FAILPOINTS": f"{point}=raise@{visit}%worker"})
    crew.wait_log("died (exit code 1)")
    crew.wait_log("Worker starting", count=2)
    if visit == 1:  # every worker fails at its first exchange; nothing was ever begun
        wait_until(lambda: crew.supervisors[0].process.poll() is not None, 15, "the supervisor giving up")
        assert crew.supervisors[0].process.poll() == 5
        assert crew.notes("quick") == []
        assert (crew.job("quick").status, crew.job("quick").attempt) == ("unstarted", 0)
    elif point == "exchange.before_commit":  # the finish was not recorded: it may run again, its number spent
        crew.wait_note("quick", "quick", 2)
        wait_until(lambda: "interrupted" in crew.outcomes("quick"), 10, "the first attempt's row")
    else:  # the finish was recorded: it never runs again
        crew.wait_for("quick")
        assert crew.outcomes("quick") == ["finished"]
        assert len(crew.notes("quick")) == 1
    assert "Traceback" not in crew.log()
    assert f"FailpointError: {point}" in crew.log()
