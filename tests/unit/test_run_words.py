"""What a run says while it goes on and at its end: outputs, the guess of its end, where its time went."""

from __future__ import annotations

import io
import re

import pytest

from overseer_lite.cli.estimate import Estimate
from overseer_lite.cli.live import PlainView
from overseer_lite.cli.watch import Event, Watch
from overseer_lite.graph import Graph, job_graph
from overseer_lite.job import Evidence, Failure, Job, Outcome, Settlement
from overseer_lite.report.profile import profile
from overseer_lite.store import open_store
from overseer_lite.testing import ManualClock

BOOM = Failure("exception", "boom", "ValueError", 'Traceback:\n  File "a.py"\nValueError: boom\n')


@pytest.fixture
def clock():
    return ManualClock(wall_s=1_700_000_000.0)


@pytest.fixture
def store(tmp_path, clock):
    made = open_store(str(tmp_path / "jobs.db"), clock=clock)
    made.install()
    yield made
    made.close()


@pytest.fixture
def run_job(store, clock):
    """Reserve a ready job of run r, let time pass, and settle its attempt."""

    def run(name, seconds=0.0, outcome=Outcome.FINISHED, *, output="", delay_s=None, **evidence):
        attempt = store.reserve_job("w", f"r/{name}")
        clock.advance(seconds)
        failure = None if outcome is Outcome.FINISHED else BOOM
        evidence = Evidence(seconds, output=output, **{"output_bytes": len(output.encode()), **evidence})
        settlement = Settlement(attempt, outcome, failure=failure, delay_s=delay_s, evidence=evidence)
        assert store.exchange("w", [settlement], 0, []).refused == []

    return run


# ---- outputs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(store, run_job):
    """Run a that finishes and b that fails, both with output, and return what a plain view prints, without times."""
    store.transact_graph(job_graph({"a": [], "b": []}, id="r"))

    def tell(output, **more):
        stream = io.StringIO()
        view = PlainView(store, "r", stream, output)
        run_job("a", output="fine\n")
        run_job("b", outcome=Outcome.FAILED, output="\x1b[31mred\x1b[0m\x07\tx\r\nlast", **more)
        view.tick(last=True)
        return [line[9:] if line[2] == ":" else line for line in stream.getvalue().splitlines()]

    return tell


FAILED = "failed      r/b  attempt 1, 0 ms, ValueError: boom"
WORDS = ["    | red\\x07\tx", "    | last", "    | Traceback:", '    |   File "a.py"', "    | ValueError: boom"]


@pytest.mark.parametrize(
    ("output", "lines"),
    [
        ("none", ["finished    r/a  0 ms", FAILED]),
        ("failed", ["finished    r/a  0 ms", FAILED, *WORDS]),
        ("all", ["finished    r/a  0 ms", "    | fine", FAILED, *WORDS]),
    ],
)
def test_outputs_are_shown_of_the_attempts_that_are_asked_for(told, output, lines):
    """Below the line of the attempt's end, its traceback last; colours are left out, what could steer is written out."""
    assert told(output) == lines


def test_output_that_was_not_kept_is_said_to_be_missing(told):
    """Nobody is to take the end for the whole."""
    assert told("failed", output_bytes=5000)[2] == "    | (the first 4,979 bytes were not kept)"


def test_of_a_failure_that_is_retried_its_line_is_enough(store, run_job):
    """Until the last: three times the same traceback would hide the others. Who asks for all gets all."""
    store.transact_graph(job_graph({"a": []}, id="r"))
    streams = {output: io.StringIO() for output in ("failed", "all")}
    views = [PlainView(store, "r", stream, output) for output, stream in streams.items()]
    for number in (1, 2):
        run_job("a", outcome=Outcome.FAILED, output=f"try {number}", delay_s=0.0 if number == 1 else None)
        for view in views:
            view.tick(last=True)

    shown = {name: re.findall("try .", stream.getvalue()) for name, stream in streams.items()}
    assert shown == {"failed": ["try 2"], "all": ["try 1", "try 2"]}


def test_a_traceback_that_the_output_has_already_is_not_shown_twice(store, run_job):
    """As where the handler logged it itself."""
    store.transact_graph(job_graph({"a": []}, id="r"))
    stream = io.StringIO()
    view = PlainView(store, "r", stream, "failed")
    run_job("a", outcome=Outcome.FAILED, output=f"logged\n{BOOM.traceback}")
    view.tick(last=True)

    assert stream.getvalue().count("ValueError: boom\n") == 2  # in the line of the end, and in the output


def test_an_event_names_the_attempt_that_ended(store, run_job):
    """So that its output can be found, of each attempt its own."""
    store.transact_graph(job_graph({"a": []}, id="r"))
    watch = Watch(store, "r")
    run_job("a", outcome=Outcome.FAILED, delay_s=0.0)
    run_job("a")

    found = [(event.word, event.number, event.again) for event in watch.look(last=True)]
    assert found == [("failed", 1, True), ("finished", 2, False)]
    assert Event("started", "r/a").number == 0


# ---- the guess -------------------------------------------------------------------------------------------------------


def guess(store, workers, elapsed_s=None, **ran):
    """Return the guess for run r, of which jobs were seen to run that long, by type."""
    estimate = Estimate()
    for kind, seconds in ran.items():
        for each in seconds:
            estimate.ended(kind, each)
    return estimate.left_s(store.jobs(run="r"), workers, elapsed_s or {})


def test_there_is_no_guess_before_a_job_has_finished(store):
    """Any would be made up."""
    store.transact_graph(job_graph({"a": []}, id="r"))
    assert guess(store, 4) is None


def test_what_is_left_is_guessed_by_the_median_of_each_type_and_shared_by_the_workers(store):
    """One slow outlier moves nothing; a type of which none has finished is taken to be as long as the others."""
    store.transact_graph(Graph.of([Job("a", name=f"a{n}") for n in range(6)] + [Job("b"), Job("c")], id="r"))

    assert guess(store, 4, a=[1.0, 2.0, 90.0], b=[10.0]) == max((6 * 2.0 + 10.0 + 6.0) / 4, 10.0)
    assert guess(store, 1, a=[1.0, 2.0, 90.0], b=[10.0]) == 28.0


def test_the_guess_is_never_less_than_the_longest_chain(store):
    """More workers do not help jobs that wait for one another."""
    store.transact_graph(job_graph({"a": [], "b": ["a"], "c": ["b"], "d": []}, id="r"))

    assert guess(store, 100, a=[1.0], b=[2.0], c=[3.0], d=[1.0]) == 6.0


def test_what_has_run_so_far_is_not_guessed_again(store, run_job):
    """Finished jobs are left out, as are those that nothing will free; of running ones only the rest counts."""
    store.transact_graph(job_graph({"a": [], "b": [], "bad": [], "behind": ["bad"]}, id="r"))
    run_job("a")
    run_job("bad", outcome=Outcome.FAILED)
    store.reserve_job("w", "r/b")

    assert guess(store, 1, {"r/b": 7.0}, a=[1.0], b=[10.0], behind=[100.0]) == 3.0
    assert guess(store, 1, {"r/b": 17.0}, a=[1.0], b=[10.0], behind=[100.0]) == 0.0


def test_watch_learns_how_long_jobs_run(store, run_job):
    """From the attempts that finish while it looks."""
    store.transact_graph(Graph.of([Job("a", name=str(n)) for n in range(3)], id="r"))
    watch = Watch(store, "r")
    run_job("0", 5.0)
    run_job("1", 90.0, Outcome.FAILED)
    watch.look(last=True)

    assert watch.estimate.left_s(watch.jobs, 1, {}) == 5.0


# ---- where the time went ---------------------------------------------------------------------------------------------


def names(spent):
    return [(each.job.name, each.seconds) for each in spent]


def test_the_chain_is_the_one_whose_jobs_ran_longest(store, run_job):
    """Not the one with most jobs; all attempts of a job count."""
    store.transact_graph(job_graph({"a": [], "b": ["a"], "c": ["b"], "slow": ["a"], "end": ["c", "slow"]}, id="r"))
    run_job("a", 1.0)
    run_job("b", 2.0)
    run_job("c", 3.0)
    run_job("slow", 2.0, Outcome.FAILED, delay_s=0.0)
    run_job("slow", 4.0)
    run_job("end", 0.5)

    found = profile(store, "r")
    assert names(found.chain) == [("a", 1.0), ("slow", 6.0), ("end", 0.5)]
    assert found.chain_s == 7.5
    assert names(found.slowest) == [("slow", 6.0), ("c", 3.0), ("b", 2.0), ("a", 1.0), ("end", 0.5)]


def test_an_added_job_follows_its_adder_in_the_chain(store, run_job):
    """It begins after the adder's end, though it depends on nothing; here as in a pipeline that counts parts and merges them."""
    store.transact_graph(job_graph({"partitions": [], "merge": ["partitions"], "other": []}, id="r"))
    attempt = store.reserve_job("w", "r/partitions")
    parts = [Job("count", name=f"count-{n}") for n in range(3)]
    settlement = Settlement(attempt, Outcome.FINISHED, added=parts, evidence=Evidence(2.0))
    assert store.exchange("w", [settlement], 0, []).refused == []
    for name, seconds in (("count-0", 3.0), ("count-1", 5.0), ("count-2", 4.0), ("merge", 1.0), ("other", 7.5)):
        run_job(name, seconds)

    found = profile(store, "r")
    assert names(found.chain) == [("partitions", 2.0), ("count-1", 5.0), ("merge", 1.0)]
    assert found.chain_s == 8.0


def test_parallel_is_work_by_the_time_it_took(store, clock):
    """Three jobs of ten seconds side by side, and one after them: 40 s of work in 20 s."""
    store.transact_graph(job_graph({"a": [], "b": [], "c": [], "d": ["a"]}, id="r"))
    attempts = [store.reserve_job("w", f"r/{name}") for name in "abc"]
    clock.advance(10)
    settlements = [Settlement(each, Outcome.FINISHED, evidence=Evidence(10.0)) for each in attempts]
    store.exchange("w", settlements, 0, [])
    last = store.reserve_job("w", "r/d")
    clock.advance(10)
    store.exchange("w", [Settlement(last, Outcome.FINISHED, evidence=Evidence(10.0))], 0, [])

    found = profile(store, "r")
    assert (found.busy_s, found.span_s, found.parallel) == (40.0, 20.0, 2.0)


def test_what_ended_before_a_run_was_continued_is_no_work_of_the_continuation(store, run_job, clock):
    """The night between the two would make every run look idle."""
    store.transact_graph(job_graph({"a": [], "b": ["a"]}, id="r"))
    run_job("a", 5.0)
    clock.advance(40_000)
    since = clock.read().wall_us / 1e6
    run_job("b", 2.0)

    found = profile(store, "r", since=since)
    assert (found.busy_s, found.span_s) == (2.0, 2.0)
    assert names(found.chain) == [("a", 5.0), ("b", 2.0)]


def test_attempts_cut_short_are_told_where_their_jobs_finished_since(store, run_job):
    """A failure is none, nor an operator's reset; nor one whose job is still to run."""
    store.transact_graph(job_graph({"a": [], "b": [], "c": []}, id="r"))
    run_job("a", 1.0, Outcome.CRASHED, signal=9)
    run_job("a", 1.0, Outcome.INTERRUPTED)
    run_job("a", 1.0, Outcome.RESET)
    run_job("a", 1.0, Outcome.FAILED, delay_s=0.0)
    run_job("a", 1.0)
    run_job("b", 1.0, Outcome.CRASHED, signal=11)
    run_job("c", 1.0)

    assert [(each.job.name, each.attempt.number, each.attempt.signal) for each in profile(store, "r").recovered] == [
        ("a", 1, 9),
        ("a", 2, None),
    ]


def test_a_run_in_which_nothing_ran_has_an_empty_profile(store):
    """No division by its time."""
    store.transact_graph(job_graph({"a": [], "b": ["a"]}, id="r"))
    found = profile(store, "r")

    assert (list(found.slowest), found.chain, found.recovered, found.parallel) == ([], [], [], 0.0)


def test_a_very_large_run_is_not_profiled(store, monkeypatch):
    """Nobody is to wait minutes for a list of five."""
    monkeypatch.setattr("overseer_lite.report.profile.PROFILED_UP_TO", 1)
    store.transact_graph(job_graph({"a": [], "b": []}, id="r"))

    assert profile(store, "r") is None
