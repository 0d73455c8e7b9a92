"""How a supervisor starts its workers: as many at a time as there are CPUs, and none held up for long."""

from __future__ import annotations

import os
import sys

import pytest

pytestmark = pytest.mark.slow

TURN_S = "overseer_lite.supervisor.places.START_TURN_S"

#: The app says, each time it is imported, how many workers are at work already.
COUNTED = """
note("imported", len(os.listdir(os.path.join(HERE, "jobs.db.d", "bells"))))
"""

#: The app can be imported only when that many are at it.
TOGETHER = """
note("importing")
while open(os.path.join(HERE, "notes")).read().count("importing") < 3:
    time.sleep(0.002)
"""

ONE_CPU = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.execv(sys.argv[1], sys.argv[1:])
"""


def on_one_cpu():
    """Return the command that runs another on one CPU; the test is left out where none can be chosen."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("a process cannot choose its CPUs here")
    return (sys.executable, "-c", ONE_CPU)


def test_with_one_cpu_a_worker_is_ready_before_the_next_starts(crew):
    """What four interpreters do side by side on one CPU makes the first job wait for all of them."""
    crew.write_app(COUNTED)
    crew.start(3, constants={TURN_S: 60.0}, settings={"spares": 0}, wrap=on_one_cpu())
    crew.wait_note("imported", count=3)
    assert [note.words[1] for note in crew.notes("imported")] == ["0", "1", "2"]


def test_a_start_that_takes_long_does_not_hold_up_the_next_for_ever(crew):
    """An app may wait for something when it is imported: the other workers are started all the same."""
    crew.write_app(TOGETHER)
    crew.submit({"quick": []})
    crew.start(3, constants={TURN_S: 0.1}, settings={"spares": 0}, wrap=on_one_cpu())
    assert crew.wait_for("quick").attempt == 1
    assert len(crew.notes("importing")) == 3


def test_workers_whose_turn_never_came_are_not_waited_for(crew):
    """With --drain, the first two have done it all before the last one's turn: nobody starts it, nobody waits."""
    crew.write_app(COUNTED)
    crew.submit({"quick": []})
    supervisor = crew.start(9, constants={TURN_S: 60.0}, settings={"spares": 0}, wrap=on_one_cpu(), drain=True)
    assert supervisor.wait() == 0
    assert crew.job("quick").status == "finished"
    assert len(crew.notes("imported")) < 6
