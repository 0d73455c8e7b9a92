"""The judge of the chaos runs: passes a sound history, and finds each kind of violation in one made by hand."""

from __future__ import annotations

import pytest

from tests.chaos.judge import Evidence, Row, weigh

JOBS = {"a": [], "b": ["a"]}


def event(kind, job, attempt, t_ns):
    return {"event": kind, "job": job, "attempt": attempt, "pid": 1, "ppid": 1, "t_ns": t_ns}


def row(number, outcome):
    return Row(number, "w1", outcome, 0.0, 1.0, 1.0, None, None, None, 0)


def sound():
    """Return a sound run: the runner of a's first attempt was killed; the second finished; then b."""
    events = [
        event("begin", "a", 1, 10),
        event("begin", "a", 2, 20),
        event("end", "a", 2, 30),
        event("begin", "b", 1, 40),
        event("end", "b", 1, 50),
    ]
    history = {"a": [row(1, "crashed"), row(2, "finished")], "b": [row(1, "finished")]}
    jobs = {name: {"status": "finished", "failure": None} for name in JOBS}
    return Evidence(events, jobs, history)


def test_a_sound_run_is_passed():
    """One attempt cut short by one death, all the rest in order."""
    assert weigh(sound(), JOBS, most=1) == []


def test_a_run_in_which_nothing_was_interrupted_proves_nothing():
    """Two-sided: without its crash the same run fails; a fault that was done and proved makes up for it."""
    evidence = sound()
    evidence.events[:2] = [event("begin", "a", 2, 20)]
    evidence.history["a"] = [row(2, "finished")]
    (found,) = weigh(evidence, JOBS)
    assert found.startswith("two-sided: 0 attempts were cut short and 0 other faults done, at least 1")
    assert weigh(evidence, JOBS, interrupted=1) == []


def test_an_acknowledged_job_that_is_not_there_is_lost():
    """P3."""
    assert weigh(sound(), {**JOBS, "c": []}) == ["lost: job c was acknowledged and is not in the store (P3)"]


def test_a_job_that_nobody_submitted_is_found():
    """All or nothing: what is in the store was acknowledged."""
    found = weigh(sound(), {"a": []})
    assert "job b is in the store and was never acknowledged" in found


@pytest.mark.parametrize(
    ("expected", "status", "wrong"),
    [(None, "started", True), (None, "failed", True), ("failed", "finished", True), ("failed", "failed", False)],
)
def test_a_job_ends_as_it_should(expected, status, wrong):
    """Finished, unless another end is expected of it; and then not finished."""
    evidence = sound()
    evidence.events[3:] = [event("begin", "b", 1, 40), event("end" if status == "finished" else "raised", "b", 1, 50)]
    evidence.history["b"] = [row(1, status)] if status != "started" else []
    evidence.jobs["b"] = {"status": status, "failure": "no"}
    lost = f"lost: job b is {status}, should be {expected or 'finished'} (no)"
    found = weigh(evidence, JOBS, {"b": expected} if expected else None)
    assert (lost in found) is wrong


def test_an_overlap_is_found():
    """P1: the handler that did not get its job's lock says so, in the log."""
    evidence = sound()
    evidence.events.insert(1, event("overlap", "a", 2, 19))
    assert weigh(evidence, JOBS) == ["P1: attempt 2 of a overlaps another"]


@pytest.mark.parametrize("begin", [60, 25], ids=["after its end", "before its end"])
def test_an_attempt_after_the_finished_one_is_found(begin):
    """P2: what the store recorded as finished begins no more; a higher number goes to show it, whatever the times."""
    evidence = sound()
    evidence.events.append(event("begin", "a", 3, begin))
    evidence.history["a"].append(row(3, "crashed"))
    assert "P2: a was finished by attempt 2, attempt 3 began" in weigh(evidence, JOBS)


def test_a_lower_number_that_begins_after_the_finish_is_found():
    """P2 goes by time too: a frozen runner that wakes begins an old attempt when all is over."""
    evidence = sound()
    evidence.events.append(evidence.events.pop(0) | {"t_ns": 60})
    assert weigh(evidence, JOBS) == ["P2: a was finished by attempt 2, attempt 1 began"]


def test_two_finishes_of_one_job_are_found():
    """P2: the late finish of a superseded attempt was taken."""
    evidence = sound()
    evidence.history["a"] = [row(1, "finished"), row(2, "finished")]
    assert "P2: a is recorded finished 2 times" in weigh(evidence, JOBS)


def test_a_finish_whose_handler_never_ended_is_found():
    """A result that nobody returned."""
    evidence = sound()
    del evidence.events[4]
    assert weigh(evidence, JOBS) == ["b is finished by attempt 1, whose handler never ended"]


def test_a_finished_job_without_a_finished_attempt_is_found():
    """Each attempt is visible, so the one that finished is."""
    evidence = sound()
    evidence.history["b"] = [row(1, "failed")]
    assert weigh(evidence, JOBS) == ["b is finished and its history has no such attempt"]


@pytest.mark.parametrize("end", [None, 45], ids=["never", "later"])
def test_a_job_that_begins_before_its_dependency_has_ended_is_found(end):
    """P4: by the times of the handlers' own log."""
    evidence = sound()
    evidence.events[2:3] = [] if end is None else [event("end", "a", 2, end)]
    assert "P4: b began before a had finished" in weigh(evidence, JOBS)


def test_the_end_of_an_attempt_that_was_not_recorded_finished_frees_no_dependent():
    """P4: attempt 1 ended, but was cut short before it was settled; b must wait for attempt 2."""
    evidence = sound()
    evidence.events[:] = [
        event("begin", "a", 1, 10),
        event("end", "a", 1, 15),
        event("begin", "b", 1, 16),
        event("end", "b", 1, 17),
        event("begin", "a", 2, 20),
    ]
    assert "P4: b began before a had finished" in weigh(evidence, JOBS)


def test_the_late_end_of_a_superseded_attempt_says_nothing_of_order():
    """It was put back by hand while its handler slept on; b waited for the attempt that was recorded finished."""
    evidence = sound()
    evidence.events.append(event("end", "a", 1, 60))
    assert weigh(evidence, JOBS) == []


def test_a_number_given_twice_is_found():
    """P5: attempt numbers are distinct."""
    evidence = sound()
    evidence.events.insert(1, event("begin", "a", 1, 15))
    assert weigh(evidence, JOBS) == ["P5: attempt 1 of a began 2 times"]


def test_an_attempt_that_is_in_no_history_is_found():
    """P5: each attempt is visible; unless the file is one of an earlier moment."""
    evidence = sound()
    evidence.history["a"] = [row(2, "finished")]
    assert weigh(evidence, JOBS, interrupted=1) == ["P5: attempt 1 of a began and is in no history"]
    assert weigh(evidence, JOBS, interrupted=1, rows=False) == []


def test_more_charged_attempts_than_deaths_are_found():
    """What waited behind the job that ran is handed back, not charged; what had ended is not counted either."""
    evidence = sound()
    evidence.history["b"].insert(0, row(1, "interrupted"))
    evidence.history["b"][1] = row(2, "finished")
    evidence.events[3:] = [event("begin", "b", 2, 40), event("end", "b", 2, 50)]
    (found,) = weigh(evidence, JOBS, most=1)
    assert found.startswith("2 attempts were charged for 1 deaths")
    evidence.events[3:3] = [event("begin", "b", 1, 35), event("end", "b", 1, 36)]
    assert weigh(evidence, JOBS, most=1) == []
