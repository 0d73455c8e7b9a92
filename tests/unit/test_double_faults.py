"""Faults on demand in the test's own process: what a drain and a submit suffer, and that they get over it."""

from __future__ import annotations

import os
import time

import pytest

import overseer_lite as overseer
from overseer_lite import failpoints
from overseer_lite.errors import InvalidInputError, StoreUnavailableError
from overseer_lite.failpoints import POINTS, FailpointError, Word

handlers = overseer.Handlers()
ran = []


@handlers
def part(job):
    ran.append((job.name, job.attempt))
    return job.attempt


@pytest.fixture
def double(overseer_double):
    """Return a double with two jobs to do, and nothing noted yet."""
    ran.clear()
    d = overseer_double(handlers)
    graph = overseer.Graph()
    graph.add("part", name="a")
    graph.add("part", name="b", dependencies=["a"])
    d.submit(graph)
    return d


def test_a_store_that_is_away_is_waited_for(double):
    """The attempt is settled when it is back, as a worker does; the handler does not run again for it."""
    fault = double.faults.store_away(0.1)
    begun = time.monotonic()

    assert double.drain() == ["a", "b"]
    assert fault.struck
    assert time.monotonic() - begun >= 0.1
    assert ran == [("a", 1), ("b", 1)]


@pytest.mark.parametrize("visit", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", [None, 3])
def test_a_lost_acknowledgement_costs_no_attempt(double, visit, seed):
    """Whether it was of a reservation, which is handed back, or of a settlement, which is a success the second time."""
    fault = double.faults.lose_acknowledgement(visit=visit)
    double.drain(seed=seed)

    assert fault.struck
    assert ran == [("a", 1), ("b", 1)]
    assert [double.attempts(name) for name in "ab"] == [["finished"], ["finished"]]


def test_a_submit_whose_acknowledgement_was_lost_is_stored(overseer_double):
    """Its caller sees the store unavailable; saying it again is right, and stores nothing twice."""
    d = overseer_double(handlers)
    graph = overseer.Graph(id="night")
    graph.add("part")
    d.faults.lose_acknowledgement("submit")

    with pytest.raises(StoreUnavailableError):
        d.submit(graph)
    assert d.job("part").status == "unstarted"
    d.submit(graph)
    assert len(d.store.jobs()) == 1


def test_an_error_nobody_foresaw_reaches_the_test_and_loses_nothing(double):
    """The point raises once; the attempt it hit is settled all the same when the worker leaves."""
    double.faults.fail("exchange.before_commit", visit=2)

    with pytest.raises(FailpointError):
        double.drain()
    assert double.store.counts().started == 0
    double.drain()
    assert [double.attempts(name) for name in "ab"] == [["finished"], ["finished"]]


def test_a_stall_takes_its_time_once(double):
    """In whichever process comes there first, and never again."""
    fault = double.faults.stall("exchange.before_commit", 0.1)
    begun = time.monotonic()
    double.drain(limit=1)
    middle = time.monotonic()
    double.drain()

    assert fault.struck
    assert middle - begun >= 0.1
    assert time.monotonic() - middle < 0.1


def test_a_fault_that_is_lifted_does_not_strike(double):
    """Nor one of a block that is over; what has not struck says so."""
    with double.faults.store_away() as fault:
        pass
    other = double.faults.fail("exchange.before_commit")
    double.faults.clear()

    assert double.drain() == ["a", "b"]
    assert not fault.struck
    assert not other.struck


def test_faults_strike_in_the_double_s_verbs_alone(double):
    """What the test itself asks the store for is not its subject."""
    double.faults.store_away()
    double.store.abort_job(double.job("b").id)

    assert double.job("b").status == "aborted"
    assert failpoints.hit("gate.held")


def test_a_fault_at_no_point_is_refused(double):
    """It would never strike, and the test would say nothing."""
    with pytest.raises(InvalidInputError, match=r"Did you mean 'exchange.after_commit'"):
        double.faults.kill("exchange.after_comit")
    with pytest.raises(InvalidInputError, match="workr"):
        double.faults.kill("exchange.after_commit", role="workr")
    with pytest.raises(InvalidInputError, match="from 1"):
        double.faults.fail("exchange.after_commit", visit=0)


@pytest.mark.parametrize("role", ["drain", "submit", os.getpid()])
def test_the_test_s_own_process_is_not_killed(double, role):
    """It would go with all it has to say."""
    with pytest.raises(InvalidInputError, match="own process"):
        double.faults.kill("exchange.after_commit", role=role)


@pytest.mark.parametrize("word", ["gate.held=stall:2.5@3%worker#x", "beat.given=drop", "runner.begun=kill%runner"])
def test_a_word_reads_as_it_is_written(word):
    """What the API orders is what the environment could say."""
    assert str(Word.parse(word)) == word
    assert Word.parse(word).point in POINTS


@pytest.mark.parametrize("word", ["gate.hold=kill", "gate.held=slay", "gate.held=stall:long"])
def test_a_word_that_means_nothing_is_refused(word):
    """At the start of the process that was to obey it."""
    with pytest.raises(ValueError, match=r"gate\.h|long"):
        Word.parse(word)
