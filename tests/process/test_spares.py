"""A spare worker: it stands by with its app imported, and takes a dead one's place at once."""

from __future__ import annotations

import os
import signal

import pytest

from tests.conftest import wait_until
from tests.process.conftest import PREAMBLE, alive, kill, parent

pytestmark = pytest.mark.slow

IMPORTED = """
note("imported")

@contextlib.contextmanager
def context():
    note("entered")
    yield
"""

#: The spare comes as soon as all workers are well.
AT_ONCE = {"overseer_lite.supervisor.places.SPARE_AFTER_S": 0.0}


def wait_spare(crew, count=1):
    """Wait until the app has been imported for the n-th spare of a crew of one; return its runner's pid."""
    return crew.wait_note("imported", count=1 + count).pid


def test_a_spare_takes_the_place_of_a_dead_worker(crew):
    """With no worker idle the job of a killed one goes to the spare, and another spare comes."""
    crew.write_app(IMPORTED)
    crew.submit({"first_held": []})
    crew.start(1, constants=AT_ONCE)
    crew.wait_note("first_held")
    spare = wait_spare(crew)
    kill(crew.worker_pid())
    assert crew.wait_for("first_held").attempt == 2
    assert [note.pid for note in crew.notes("first_held")][1] == spare
    assert crew.outcomes("first_held") == ["interrupted", "finished"]
    assert wait_spare(crew, 2) != spare


def test_a_spare_is_not_in_the_store_and_takes_no_job(crew):
    """It is no worker until it is needed: it holds no job, and its context is not entered."""
    crew.write_app(IMPORTED)
    crew.start(1, constants=AT_ONCE)
    spare = wait_spare(crew)
    crew.submit({"quick": []})
    crew.wait_for("quick")
    assert len(crew.store.workers()) == 1
    assert [note.pid for note in crew.notes("entered")] == [crew.store.workers()[0].runner_pid]
    assert spare not in [note.pid for note in crew.notes("quick")]


def test_a_spare_whose_app_was_mended_meanwhile_runs_the_new_code(crew):
    """It has imported the old code; before it runs a job another runner imports the new one."""
    crew.write_app(IMPORTED)
    crew.submit({"first_held": []})
    crew.start(1, constants=AT_ONCE)
    crew.wait_note("first_held")
    wait_spare(crew)
    before = os.stat(crew.app_file).st_mtime_ns
    crew.write_app(IMPORTED, preamble=PREAMBLE.replace("return job.attempt", "return 'new code'"))
    assert os.stat(crew.app_file).st_mtime_ns != before
    kill(crew.worker_pid())
    assert crew.wait_for("first_held").result == "new code"
    assert "The app has changed since the spare runner imported it" in crew.log()


def test_a_hangup_replaces_the_spare(crew):
    """After SIGHUP no process with the old code stands by."""
    crew.write_app(IMPORTED)
    supervisor = crew.start(1, constants=AT_ONCE)
    old = wait_spare(crew)
    supervisor.signal(signal.SIGHUP)
    crew.wait_log("The runners are renewed")
    wait_until(lambda: not alive(old), 10, "the end of the old spare")
    wait_until(
        lambda: {parent(n.pid) for n in crew.notes("imported") if alive(n.pid)} - {crew.worker_pid()}, 10, "spare"
    )


def test_a_spare_that_stands_still_is_passed_over_and_killed(crew):
    """A stopped process is nobody to wait for: the place is filled by a new worker, the spare by a new spare."""
    crew.write_app(IMPORTED)
    crew.submit({"first_held": []})
    crew.start(1, constants=AT_ONCE)
    crew.wait_note("first_held")
    spare = parent(wait_spare(crew))
    os.kill(spare, signal.SIGSTOP)
    kill(crew.worker_pid())
    assert crew.wait_for("first_held").attempt == 2
    assert "takes the place of the dead one" not in crew.log()
    wait_until(lambda: not alive(spare), 10, "the end of the spare")
    crew.wait_log("stands still (state T) before it has entered; it is killed")


def test_a_spare_that_dies_is_replaced_and_costs_nobody_anything(crew):
    """Its death is none of a worker: nothing is reset, the others work on."""
    crew.write_app(IMPORTED)
    crew.submit({"held": []})
    crew.start(1, constants=AT_ONCE)
    crew.wait_note("held")
    spare = parent(wait_spare(crew))
    kill(spare)
    assert parent(wait_spare(crew, 2)) != spare
    crew.allow("go")
    assert crew.wait_for("held").attempt == 1
    assert crew.log().count("Spare worker s-") == 1


def test_a_spare_that_cannot_import_the_app_stops_nobody(crew):
    """The app was broken after the workers had imported it: they go on, and the log says why there is no spare."""
    crew.write_app(IMPORTED)
    crew.submit({"held": []})
    crew.start(1, constants={"overseer_lite.supervisor.places.SPARE_AFTER_S": 0.2})
    crew.wait_note("held")
    crew.write_app("def broken(:\n")
    crew.wait_log("Spare worker s-")
    crew.allow("go")
    assert crew.wait_for("held").attempt == 1
    assert "SyntaxError" in crew.log()


def test_no_spare_is_kept_where_none_is_wanted(crew):
    """`spares = 0`: as many processes as workers."""
    crew.write_app(IMPORTED)
    crew.submit({"first_held": []})
    supervisor = crew.start(1, constants=AT_ONCE, settings={"spares": 0})
    crew.wait_note("first_held")
    supervisor.signal(signal.SIGHUP)  # it looks at the app, in the time of several spares' starts
    crew.wait_log("The runners are renewed")
    wait_until(lambda: len(crew.processes()) == 3, 10, "the end of who looked at the app")
    assert "standing by" not in crew.log()
    kill(crew.worker_pid())
    assert crew.wait_for("first_held").attempt == 2


def test_a_spare_leaves_with_the_others(crew):
    """SIGTERM ends it as well, and it leaves no file behind."""
    crew.write_app(IMPORTED)
    supervisor = crew.start(1, constants=AT_ONCE)
    wait_spare(crew)
    assert supervisor.stop() == 0
    assert crew.processes() == []
    assert crew.companions() == []
