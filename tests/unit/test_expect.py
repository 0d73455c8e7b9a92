"""Expectations of a double: each holds where it should, and where it does not, says what there was instead."""

from __future__ import annotations

import pytest

import overseer_lite as overseer
from overseer_lite.errors import SupersededError
from overseer_lite.job import Outcome
from overseer_lite.store import Verdict

handlers = overseer.Handlers()


@handlers(retries=1, backoff=60)
def load(job):
    if job.args.get("fail") and job.attempt == 1:
        raise ConnectionError("no answer")


@handlers
def count(job):
    return 1


@handlers
def merge(job):
    return 1


def graph(**args):
    g = overseer.Graph(args={"day": "2026-11-24", **args})
    loaded = g.add("load")
    parts = [g.add("count", name=f"count-{p}", args={"partition": p}, dependencies=[loaded]) for p in range(2)]
    g.add("merge", dependencies=parts)
    return g


@pytest.fixture
def done(overseer_double):
    """Return a double whose graph has been worked off."""
    d = overseer_double(handlers)
    d.submit(graph)
    d.drain()
    return d


@pytest.fixture
def waiting(overseer_double):
    """Return a double whose first job has failed once, and waits for its retry."""
    d = overseer_double(handlers)
    d.submit(graph, fail=True)
    d.drain()
    return d


@pytest.fixture
def lost(overseer_double):
    """Return a double whose first attempt was lost by one worker, reserved by another after 3 s, and settled late."""
    d = overseer_double(handlers)
    d.submit(graph)
    first = d.store.reserve_job("w1", d.job("load").id)
    d.store.recover("w1", {first: Verdict(Outcome.CRASHED)})
    d.clock.advance(3)
    second = d.store.reserve_job("w2", d.job("load").id)
    with pytest.raises(SupersededError):
        d.store.finish_job(first)
    d.store.finish_job(second)
    return d


def said(call, *args, **named):
    """Return the words of an expectation that does not hold."""
    with pytest.raises(AssertionError) as failure:
        call(*args, **named)
    return str(failure.value)


def test_what_holds_is_not_objected_to(done):
    """Nor does it change anything."""
    before = done.trace()

    assert [job.name for job in done.expect.submitted("count", {"day": "2026-11-24"}, count=2)] == [
        "count-0",
        "count-1",
    ]
    assert done.expect.submitted("count", {"partition": 1})[0].name == "count-1"
    assert done.expect.status("merge", "finished").result == 1
    done.expect.attempts("load", ["finished"])
    done.expect.ran_before("load", "count", "merge")
    done.expect.never_concurrent("load", "count", "merge")
    done.expect.quiescent()
    assert done.trace() == before


def test_what_was_recovered_and_fenced_is_not_objected_to(lost):
    """The figures are returned, for whoever wants to look closer."""
    assert [event.more["verb"] for event in lost.expect.fenced("load", count=1)] == ["finish"]
    assert lost.expect.recovered_within("load", 3) == 3
    lost.expect.never_concurrent("load")


def test_a_job_that_was_not_submitted_so_is_shown_as_it_was(done):
    """Each of its type, with what is different."""
    assert said(done.expect.submitted, "count", {"partition": 7}) == (
        "Expected at least one submitted job of type 'count' with args {\"partition\": 7}; 0 of 2 are so.\n"
        "  count-0: partition is 0, not 7\n"
        "  count-1: partition is 1, not 7"
    )
    assert "count-1: partition is 1, not 0" in said(done.expect.submitted, "count", {"partition": 0}, count=2)
    assert said(done.expect.submitted, "load", {"hour": 1}).endswith("load: no hour")
    assert "Did you mean 'count'?" in said(done.expect.submitted, "cuont")
    assert "Types: count, load, merge" in said(done.expect.submitted, "zzz")


def test_a_status_that_is_another_is_said_with_its_reason(waiting):
    """Where the job stands, why it goes no further, and how each attempt ended."""
    message = said(waiting.expect.status, "load", "finished")

    assert message.startswith("Expected job 'load' to be finished; it is due in 60 s: ")
    assert "attempt 1 of inline-" in message
    assert "failed: ConnectionError: no answer" in message
    assert "it is waiting for 1" in said(waiting.expect.status, "count-0", "finished")


def test_attempts_that_ended_otherwise_are_told(waiting):
    """With the reason of each, and what is to come."""
    message = said(waiting.expect.attempts, "load", ["failed", "finished"])

    assert message.startswith(
        "Expected attempts ['failed', 'finished'] of job 'load'; there were ['failed']. Now it is due in 60 s."
    )
    assert "ConnectionError: no answer" in message


def test_an_order_that_was_another_is_shown_by_the_lines_of_the_trace(done, waiting):
    """Who began before whom, or who never ran or finished at all."""
    message = said(done.expect.ran_before, "merge", "load")
    assert "began before the finish at line" in message
    assert '"event":"reserved"' in message
    assert "never ran" in said(waiting.expect.ran_before, "load", "merge")
    assert "has not finished" in said(waiting.expect.ran_before, "merge", "load")
    assert "Did you mean 'merge'?" in said(done.expect.ran_before, "load", "merg")


def test_two_jobs_that_were_held_at_a_time_are_named(overseer_double):
    """With the lines at which either was reserved and ended."""
    d = overseer_double(handlers)
    d.submit({"load": [], "merge": []})
    first = d.store.reserve_job("w1", d.job("load").id)
    second = d.store.reserve_job("w2", d.job("merge").id)
    d.store.finish_job(first)
    message = said(d.expect.never_concurrent, "load", "merge")

    assert "reserved at line 3, finished at line 5" in message
    assert "reserved at line 4, still running" in message
    d.expect.never_concurrent("load")
    d.store.finish_job(second)


def test_a_job_no_late_write_of_which_was_refused_is_told(done, lost):
    """How its attempts ended instead."""
    message = said(done.expect.fenced, "load")
    assert message.startswith("Expected a late write of job 'load' to be refused; 0 were.")
    assert ": finished" in message
    assert "2 late writes of job 'load' to be refused; 1 were" in said(lost.expect.fenced, "load", count=2)


def test_a_recovery_that_took_longer_says_how_long(done, lost, overseer_double):
    """Or that there was nothing to recover, or that it has not come to an end."""
    assert "after attempt 1 it took 3.000 s" in said(lost.expect.recovered_within, "load", 2.9)
    assert "none of its attempts was lost" in said(done.expect.recovered_within, "load", 1)
    d = overseer_double(handlers)
    d.submit({"load": []})
    d.store.reset_job(d.store.reserve_job("w1", d.job("load").id))
    assert "after attempt 1 it is ready" in said(d.expect.recovered_within, "load", 1)


def test_a_recovery_is_measured_from_the_kill_if_the_test_made_it(overseer_double):
    """Not from the moment at which the store was told of it."""
    d = overseer_double(handlers)
    d.submit({"load": []})
    first = d.store.reserve_job("w1", d.job("load").id)
    d.note("killed", worker="w1")
    d.clock.advance(2)
    d.store.recover("w1", {first: Verdict(Outcome.CRASHED)})
    d.store.reserve_job("w2", d.job("load").id)

    assert d.expect.recovered_within("load", 5) == 2


def test_what_is_left_to_run_is_named(waiting, done):
    """With what it waits for; what waits for that is not."""
    assert said(waiting.expect.quiescent) == "Expected nothing left to run; 1 is.\n  load: due in 60 s"
    done.submit({"merge": []})
    assert "merge: ready" in said(done.expect.quiescent)


def test_a_failed_expectation_points_at_the_test_s_own_line(done):
    """Its own frames are hidden, as pytest hides those that say so."""
    with pytest.raises(AssertionError) as failure:
        done.expect.status("load", "failed")

    assert [entry.frame.f_locals.get("__tracebackhide__", False) for entry in failure.traceback][1:] == [True]
