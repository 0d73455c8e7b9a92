"""Jobs reserved together: a long one delays nobody, a death charges one alone, hand-backs do not cascade."""

from __future__ import annotations

import pytest

from overseer_lite.graph import simple_graph
from overseer_lite.job import Job
from tests.conftest import wait_until

pytestmark = pytest.mark.slow

MIXED = """
@handlers
def mixed(job):
    note('mixed', job.name, job.attempt)
    await_file('begin')
    if 'long' in job.name: await_file('go')
"""


def grown(crew, workers, after):
    """Have a worker measure a hundred short jobs of the type, so that its groups are large, then the given ones."""
    crew.write_app(MIXED)
    crew.allow("begin")
    crew.submit(simple_graph(*(Job("mixed", name=f"warm-{index}") for index in range(120)), id="warm"))
    supervisor = crew.start(workers)
    crew.wait_ready(workers)
    wait_until(lambda: crew.store.counts("warm").finished == 120, 10, "the short ones")
    crew.submit(simple_graph(*(Job("mixed", name=name) for name in after), id="r"))
    return supervisor


def largest_delay_s(crew, names, since):
    """Return how long after a moment the last of these jobs began."""
    return max(note.at for note in crew.notes("mixed") if note.words[1] in names) - since


def test_a_long_job_among_short_ones_delays_no_ready_job_while_a_worker_is_idle(crew):
    """What waits behind it is handed back within 50 ms, its number given again."""
    names = ["long", *(f"s{index}" for index in range(20))]
    grown(crew, 2, names)
    begun = crew.wait_note("mixed", "long")
    wait_until(lambda: crew.store.counts("r").finished == 20, 10, "the short ones behind it")
    delay_s = largest_delay_s(crew, names[1:], begun.at)
    print(f"behind a long job: the last of 20 short ones began {delay_s * 1e3:.0f} ms after it")
    assert delay_s < 0.25
    assert {crew.job(name).attempt for name in names} == {1}
    assert {note.words[2] for note in crew.notes("mixed")} == {"1"}
    crew.allow("go")
    crew.wait_for("long")


def test_three_long_jobs_in_one_group_do_not_cascade(crew):
    """With three other workers idle, none waits for another: what is handed back is reserved alone."""
    names = ["long-a", "long-b", "long-c", "s"]
    grown(crew, 4, names)
    notes = [crew.wait_note("mixed", name) for name in names]
    spread_s = max(note.at for note in notes) - min(note.at for note in notes)
    print(f"four jobs of one group, three of them long: all began within {spread_s * 1e3:.0f} ms")
    assert spread_s < 0.25
    crew.wait_for("s")
    assert crew.store.counts("r").started == 3
    assert {crew.job(name).attempt for name in names} == {1}
    crew.allow("go")
    for name in names:
        crew.wait_for(name)


def test_a_runner_killed_within_a_group_costs_an_attempt_only_to_the_job_it_was_running(crew):
    """Those before are settled as reported, those behind handed back with their numbers."""
    crew.write_app(
        "@handlers\n"
        "def tiny(job):\n"
        "    note('tiny', job.name, job.attempt)\n"
        "    if job.name == 'n100' and job.attempt == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    crew.submit(simple_graph(*(Job("tiny", name=f"n{index}") for index in range(150)), id="r"))
    crew.start(1)
    wait_until(lambda: crew.store.counts("r").finished == 150, 10, "all")
    attempts = {name: crew.job(name).attempt for name in (f"n{index}" for index in range(150))}
    assert {name for name, attempt in attempts.items() if attempt != 1} == {"n100"}
    assert crew.outcomes("n100") == ["crashed", "finished"]
    assert len(crew.notes("tiny")) == 151


def test_a_worker_killed_within_a_group_runs_nothing_twice_that_had_not_begun(crew):
    """Reserved: number unspent. Begun: interrupted. Told apart without the dead."""
    crew.write_app(
        "@handlers\n"
        "def tiny(job):\n"
        "    note('tiny', job.name, job.attempt)\n"
        "    if job.name == 'n100' and job.attempt == 1: os.kill(os.getppid(), signal.SIGKILL); await_file('never')\n"
    )
    crew.submit(simple_graph(*(Job("tiny", name=f"n{index}") for index in range(150)), id="r"))
    crew.start(1)
    wait_until(lambda: crew.store.counts("r").finished == 150, 10, "all")
    for index in range(150):
        name = f"n{index}"
        outcomes = crew.outcomes(name)
        begun = [note.words[2] for note in crew.notes("tiny", name)]
        assert begun == [str(number + 1) for number in range(len(outcomes))], name
        assert outcomes in (["finished"], ["interrupted", "finished"]), name
        if index > 100:
            assert outcomes == ["finished"], name
    assert crew.outcomes("n100") == ["interrupted", "finished"]
