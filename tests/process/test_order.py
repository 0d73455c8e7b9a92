"""Who runs what, when: limits, priorities, types, delays."""

from __future__ import annotations

import pytest

from overseer_lite.graph import simple_graph
from overseer_lite.job import Job
from tests.process.conftest import cpu_s

pytestmark = pytest.mark.slow


def test_a_types_limit_holds_across_workers(crew):
    """At most that many started at a time in the whole store, and they do reach it."""
    crew.write_app(
        "@handlers(limit=2)\n"
        "def limited(job):\n"
        "    note('begin', job.name)\n"
        "    time.sleep(0.02)\n"
        "    note('end', job.name)\n"
    )
    crew.submit(simple_graph(*(Job("limited", name=f"n{index}") for index in range(40)), id="r"))
    assert crew.start(4, drain=True).wait(20) == 0
    notes = sorted(crew.notes("begin") + crew.notes("end"))
    running = peak = 0
    for note in notes:
        running += 1 if note.words[0] == "begin" else -1
        peak = max(peak, running)
    assert len(crew.notes("end")) == 40
    assert peak == 2


def test_one_worker_takes_the_higher_priority_first_then_the_first_submitted(crew):
    """Priority, then first in first out."""
    order = [("a", 0), ("b", 5), ("c", -1), ("d", 5), ("e", 0)]
    crew.submit(simple_graph(*(Job("quick", name=name, priority=priority) for name, priority in order), id="r"))
    assert crew.start(1, drain=True).wait() == 0
    assert [note.words[1] for note in crew.notes("quick")] == ["b", "d", "a", "e", "c"]


def test_a_worker_of_chosen_types_leaves_the_others(crew):
    """`types` is a filter, and draining looks at those alone."""
    crew.submit(simple_graph(Job("held"), Job("quick"), id="r"))
    assert crew.start(1, types=("quick",), drain=True).wait() == 0
    assert (crew.job("quick").status, crew.job("held").status) == ("finished", "unstarted")


def test_a_delayed_job_starts_when_due_and_nobody_polls_for_it(crew):
    """The worker sleeps until the job's time: neither early nor late, and without using the CPU."""
    crew.start(1)
    (worker,) = crew.wait_ready()
    before_s = cpu_s([worker.pid])
    crew.submit(simple_graph(Job("quick", delay_s=0.8), id="r"))
    crew.submit(simple_graph(Job("quick"), id="s"))
    now = crew.wait_note("quick", "quick")
    later = crew.wait_note("quick", "quick", count=2)
    assert 0.75 < later.at - now.at < 1.2
    assert cpu_s([worker.pid]) - before_s < 0.1
