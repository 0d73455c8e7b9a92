"""Two supervisors on one store share its jobs; one monitor acts, and the other takes over when it dies."""

from __future__ import annotations

import signal
import time

import pytest

from overseer_lite.graph import simple_graph
from overseer_lite.job import Job
from tests.process.conftest import kill, parent

pytestmark = pytest.mark.slow


def test_two_supervisors_share_one_stores_jobs(crew):
    """Every job runs once, whoever's worker has it."""
    crew.submit(simple_graph(*(Job("quick", name=f"n{index}") for index in range(60)), id="r"))
    first, second = crew.start(1, drain=True), crew.start(1, drain=True)
    assert (first.wait(), second.wait()) == (0, 0)
    assert crew.store.counts("r").finished == 60
    assert len(crew.notes("quick")) == 60


def test_when_the_acting_monitor_dies_the_other_supervisor_recovers_the_jobs_of_its_dead_workers(crew):
    """Everything of the first is killed; within two seconds the second runs its job again."""
    crew.submit({"first_held": []})
    first = crew.start(1)
    crew.wait_log("This supervisor runs the store's monitor")
    note = crew.wait_note("first_held", "first_held", 1)
    crew.start(1)
    crew.wait_ready(2)
    first.signal(signal.SIGSTOP)  # so that it does not bury its own
    kill(parent(note.pid))
    first.signal(signal.SIGKILL)
    killed_at = time.monotonic()
    first.wait()
    again = crew.wait_note("first_held", "first_held", 2)
    crew.wait_for("first_held")
    print(f"supervisor and worker killed; the other runs the job again {again.at - killed_at:.3f} s later")
    assert again.at - killed_at < 2
    assert crew.outcomes("first_held") == ["interrupted", "finished"]
    assert crew.log().count("This supervisor runs the store's monitor") == 2


def test_the_monitor_of_a_second_supervisor_leaves_living_workers_alone(crew):
    """While the first lives, its workers' jobs are nobody else's."""
    crew.submit({"held": []})
    crew.start(1)
    crew.wait_note("held")
    crew.start(1)
    crew.wait_ready(2)
    crew.allow("go")
    assert crew.wait_for("held").attempt == 1
