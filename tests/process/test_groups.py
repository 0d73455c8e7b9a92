"""Jobs reserved together: a long one delays nobody, a death charges one alone, hand-backs do not cascade."""

from __future__ import annotations

import pytest

from overseer_lite.graph import Graph, simple_graph
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


def test_a_runner_killed_within_a_group_before_it_told_of_ends_costs_nobody_an_attempt(crew):
    """What it had reported in the steps is settled as finished; what had not begun keeps its number."""
    crew.write_app("@handlers\ndef tiny(job): note('tiny', job.name)\n")
    crew.submit(simple_graph(*(Job("tiny", name=f"n{index}") for index in range(150)), id="r"))
    crew.start(1, env={"OVERSEER_LITE_FAILPOINTS": "runner.marked_ended=kill@110%runner"})
    wait_until(lambda: crew.store.counts("r").finished == 150, 10, "all")
    assert crew.log().count("died") == 1
    assert {name: crew.outcomes(name) for name in (f"n{index}" for index in range(150))} == {
        f"n{index}": ["finished"] for index in range(150)
    }
    assert len(crew.notes("tiny")) == 150


def test_an_end_is_heard_of_while_the_job_behind_it_turns_out_to_be_long(crew):
    """The runner, busy with the long one, does not tell; the worker sees by itself, and a dependent elsewhere begins."""
    crew.write_app(MIXED + "@handlers\ndef after(job): note('after')\n")
    crew.allow("begin")
    crew.submit(simple_graph(*(Job("mixed", name=f"warm-{index}") for index in range(120)), id="warm"))
    crew.start(1, log_level="DEBUG")
    wait_until(lambda: crew.store.counts("warm").finished == 120, 10, "the short ones")
    crew.start(1, types=("after",))
    crew.wait_ready(2)
    graph = Graph(id="r")
    short = [graph.add("mixed", f"s{index}") for index in range(5)]
    graph.add("mixed", "long", priority=-1)
    graph.add("after", dependencies=short)
    crew.submit(graph)
    begun = crew.wait_note("mixed", "long")
    delay_s = crew.wait_note("after").at - begun.at
    print(f"a dependent of the short ones began {delay_s * 1e3:.0f} ms after the long one")
    assert delay_s < 0.25
    assert str(crew.job("long").status) == "started"
    assert "Job r/after has not begun" not in crew.log(), (
        "it was reserved behind the long one and had to be handed back"
    )
    crew.allow("go")
    crew.wait_for("long")


def test_an_attempt_whose_end_is_reported_and_not_yet_told_runs_out_of_no_time(crew):
    """Its time is what its handler took: the long one behind it is not cut short because of it."""
    crew.write_app(MIXED + "@handlers(timeout=0.01)\ndef brief(job): pass\n")
    crew.allow("begin")
    warm = [Job(kind, name=f"{kind}-{index}") for index in range(120) for kind in ("mixed", "brief")]
    crew.submit(simple_graph(*warm, id="warm"))
    crew.start(1)
    wait_until(lambda: crew.store.counts("warm").finished == 240, 10, "the short ones")
    crew.submit(simple_graph(Job("brief", name="a"), Job("brief", name="b"), Job("mixed", name="long"), id="r"))
    crew.wait_note("mixed", "long")
    crew.wait_for("b")
    crew.allow("go")
    crew.wait_for("long")
    assert [crew.outcomes(name) for name in ("a", "b", "long")] == [["finished"]] * 3


def test_results_of_every_size_come_in_whole_however_they_are_told(crew):
    """In the steps, in a frame, with a failure or an added job between them: each job its own, none lost."""
    crew.write_app(
        "@handlers\n"
        "def sized(job):\n"
        "    n = int(job.name[1:])\n"
        "    if n % 31 == 5: raise OSError(n)\n"
        "    if n % 31 == 6: job.add('quick', name=f'q{n}')\n"
        "    return None if n % 7 == 0 else 'x' * n if n % 2 else [n]\n"
    )
    crew.submit(simple_graph(*(Job("sized", name=f"n{index}") for index in range(200)), id="r"))
    assert crew.start(1, drain=True).wait() == 0
    expected = {n: None if n % 7 == 0 else "x" * n if n % 2 else [n] for n in range(200) if n % 31 != 5}
    assert {n: crew.job(f"n{n}").result for n in expected} == expected
    failed = {n: crew.job(f"n{n}").failure.message for n in range(200) if n % 31 == 5}
    assert failed == {n: str(n) for n in failed}
    assert {str(crew.job(f"q{n}").status) for n in range(6, 200, 31)} == {"finished"}
    assert "died" not in crew.log()


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
