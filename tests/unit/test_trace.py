"""Traces: what they say, that equal runs have equal ones, what they are held against, and that they can be played."""

from __future__ import annotations

import json

import pytest

import overseer_lite as overseer
from overseer_lite.errors import SupersededError
from overseer_lite.job import Attempt, Outcome, Settlement, Status
from overseer_lite.store import Verdict
from overseer_lite.testing import ManualClock, MemoryStore, Trace, Violation, diff, replay, sqlite_factory, verify

handlers = overseer.Handlers()


@handlers
def load(job):
    job.add("extra", name="more")


@handlers
def extra(job):
    return 1


@handlers
def merge(job):
    return len(job.results)


@handlers(retries=1, backoff=60)
def shaky(job):
    if job.attempt == 1:
        raise ConnectionError("no answer")


@handlers
def faulty(job):
    if job.attempt == 1:
        overseer.fault("not yet", delay=5)


@handlers
def hopeless(job):
    overseer.abort("there is no such day")


GRAPH = {"load": [], "merge": ["load"], "shaky": ["merge"], "faulty": ["merge"], "hopeless": [], "extra": ["hopeless"]}


def run(overseer_double):
    """Return a double in which a bit of everything has happened."""
    d = overseer_double(handlers)
    d.submit(GRAPH)
    d.drain()
    d.clock.advance(60)
    d.drain()
    return d


def words(trace):
    """Return what happened to whom, in short."""
    return [
        " ".join(str(part) for part in (event.event, (event.job or "").rpartition("/")[2], event.attempt or "") if part)
        for event in trace
    ]


def test_a_trace_says_what_was_committed_in_that_order(overseer_double):
    """A line a change; what a handler adds stands before the end that stores it."""
    d = overseer_double(handlers)
    d.submit({"load": [], "merge": ["load"]})
    d.drain()

    assert words(d.trace()) == [
        "submitted load", "submitted merge", "reserved load 1", "submitted more", "finished load 1", "reserved more 1",
        "finished more 1", "reserved merge 1", "finished merge 1", "state load 1", "state merge 1", "state more 1",
    ]  # fmt: skip


def test_equal_runs_have_equal_traces(overseer_double):
    """Though their runs' ids, workers, directories and wall times differ; with times as well, since time stands still."""
    one, other = run(overseer_double).trace(), run(overseer_double).trace()

    assert one.to_jsonl() == other.to_jsonl()
    assert one.to_jsonl(times=True) == other.to_jsonl(times=True)
    assert one == other
    assert diff(one, other) == ""
    assert verify(one) == []


def test_a_trace_is_canonical_json_lines(overseer_double):
    """Keys sorted, no blanks, runs and workers numbered; times only if they are asked for."""
    d = overseer_double(handlers)
    d.submit({"extra": []})
    d.clock.advance(2)
    d.drain()
    first, second, *_ = d.trace().to_jsonl().splitlines()

    assert first == (
        '{"dependencies":[],"event":"submitted","job":"r1/extra","name":"extra","run":"r1","type":"extra"}'
    )
    assert second == '{"attempt":1,"event":"reserved","job":"r1/extra","worker":"w1"}'
    assert json.loads(d.trace().to_jsonl(times=True).splitlines()[1])["at_s"] == 2


def test_a_trace_reads_back_what_it_wrote(overseer_double):
    """So that one may be kept beside a test, and compared with."""
    trace = run(overseer_double).trace()

    assert Trace.from_jsonl(trace.to_jsonl()) == trace
    assert Trace.from_jsonl(trace.to_jsonl(times=True)).to_jsonl(times=True) == trace.to_jsonl(times=True)
    with pytest.raises(ValueError, match="line 1"):
        Trace.from_jsonl("[]\n")


def test_a_difference_is_shown_as_a_diff(overseer_double):
    """The line that differs, with its neighbours."""
    trace = run(overseer_double).trace()
    other = Trace.from_jsonl(trace.to_jsonl().replace('"event":"faulted"', '"event":"failed"'))

    assert '-{"again_in_s":5.0,"attempt":1,"event":"faulted"' in diff(trace, other)


def test_a_refused_write_is_in_the_trace(overseer_double):
    """A late write that the fence kept out: what a test of a fence looks for."""
    d = overseer_double(handlers)
    d.submit({"extra": []})
    attempt = d.store.reserve_job("w1", d.job("extra").id)
    d.store.reset_job(attempt)
    with pytest.raises(SupersededError):
        d.store.finish_job(attempt)
    d.store.exchange("w1", [Settlement(attempt, Outcome.FAILED)], 0, ())
    with pytest.raises(SupersededError):
        d.store.heartbeat_job(attempt)

    refused = [event.more["verb"] for event in d.trace() if event.event == "refused"]
    assert refused == ["finish", "fail", "heartbeat"]
    assert verify(d.trace()) == []


def test_operators_are_in_the_trace(overseer_double):
    """Aborts, retries and prunes, none of which breaks a promise."""
    d = overseer_double(handlers)
    d.submit({"extra": [], "merge": ["extra"]})
    d.store.abort_job(d.job("extra").id)
    d.store.retry([d.job("extra").id, d.job("merge").id])
    d.drain()
    d.clock.advance(1)
    d.store.prune(0)

    assert words(d.trace())[2:5] == ["aborted extra", "retried extra", "retried merge"]
    assert "pruned" in words(d.trace())
    assert verify(d.trace()) == []


def test_a_recovery_is_in_the_trace(overseer_double):
    """Each attempt with what became of it, and what that makes of its job."""
    d = overseer_double(handlers)
    d.submit({"extra": [], "hopeless": []})
    begun = d.store.reserve_job("w1", d.job("extra").id)
    d.store.reserve_job("w1", d.job("hopeless").id)
    d.store.recover(
        "w1", {begun: Verdict(Outcome.CRASHED), Attempt(d.job("hopeless").id, 1, "w1"): Verdict(Outcome.HANDED_BACK)}
    )

    assert words(d.trace())[4:6] == ["crashed extra 1", "handed back hopeless 1"]
    assert d.trace().events[4].more["then"] == Status.UNSTARTED
    assert verify(d.trace()) == []


# ---- promises --------------------------------------------------------------------------------------------------------

GOOD = """\
{"dependencies":[],"event":"submitted","job":"a","name":"a","run":"r1","type":"t"}
{"dependencies":["a"],"event":"submitted","job":"b","name":"b","run":"r1","type":"t"}
{"attempt":1,"event":"reserved","job":"a","worker":"w1"}
{"attempt":1,"event":"crashed","job":"a","worker":"w1"}
{"attempt":2,"event":"reserved","job":"a","worker":"w2"}
{"attempt":2,"event":"finished","job":"a","worker":"w2"}
{"attempt":1,"event":"reserved","job":"b","worker":"w2"}
{"attempt":1,"event":"finished","job":"b","worker":"w2"}
{"attempt":2,"event":"state","job":"a","status":"finished"}
{"attempt":1,"event":"state","job":"b","status":"finished"}
""".splitlines(keepends=True)


def line(number, **fields):
    """Return the good trace with one line changed."""
    lines = list(GOOD)
    lines[number - 1] = json.dumps({**json.loads(lines[number - 1]), **fields}) + "\n"
    return lines


def judged(lines, **limits):
    """Return which promises the lines break, and where."""
    return [(violation.promise, violation.line) for violation in verify(Trace.from_jsonl("".join(lines)), **limits)]


def inserted(after, **fields):
    """Return the good trace with a line more."""
    return [*GOOD[:after], json.dumps(fields) + "\n", *GOOD[after:]]


def test_a_good_trace_breaks_no_promise():
    """Or what follows would prove nothing."""
    assert judged(GOOD) == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (inserted(3, event="reserved", job="a", attempt=2, worker="w2"), ("P1", 4)),
        (inserted(6, event="reserved", job="a", attempt=3, worker="w3"), ("P2", 7)),
        (inserted(6, event="retried", job="a"), ("P2", 7)),
        (inserted(6, event="aborted", job="a"), ("P2", 7)),
        (inserted(6, event="failed", job="a", attempt=1, worker="w1"), ("P2", 7)),
        (line(9, status="unstarted"), ("P2", 9)),
        (line(9, status=None), ("P3", 9)),
        (inserted(2, event="reserved", job="c", attempt=1, worker="w1"), ("P3", 3)),
        ([*GOOD[:2], *GOOD[6:8], *GOOD[2:6], *GOOD[8:]], ("P4", 3)),
        (line(5, attempt=1), ("P5", 5)),
        (line(5, attempt=3), ("P5", 5)),
        (inserted(2, event="aborted", job="a"), ("P5", 4)),
        (line(8, event="failed"), ("P5", 10)),
        (line(6, worker="w1"), ("fence", 6)),
        (line(6, attempt=1), ("fence", 6)),
        (inserted(4, event="finished", job="a", attempt=1, worker="w1"), ("fence", 5)),
        (inserted(3, event="aborted", job="a"), ("fence", 4)),
    ],
)
def test_a_broken_promise_is_found_where_it_was_broken(lines, expected):
    """The first of what it leads to, with the line that shows it."""
    assert expected in judged(lines)


def test_a_retry_before_its_time_is_found():
    """Failures, faults and resets by hand are delayed, for as long as was said."""
    lines = line(4, event="failed", again_in_s=60.0)
    early = [
        *lines[:4],
        lines[4].replace("}", ',"at_s":59}'),
        *(each.replace("}", ',"at_s":59}') for each in lines[5:]),
    ]
    late = [each.replace('"at_s":59', '"at_s":60') for each in early]

    assert judged(early) == [("P5", 5)]
    assert judged(late) == []


def test_more_crashes_than_the_limit_are_found():
    """The job that kills its worker every time ends as failed, and is not reserved again."""
    assert judged(GOOD, crash_limit=1) == [("P5", 5)]
    assert judged(GOOD, crash_limit=2) == []
    assert judged(line(4, event="interrupted"), interruption_limit=1) == [("P5", 5)]


def test_what_a_handler_added_is_waited_for():
    """By the dependents of its adder, unless it was detached."""
    more = {"event": "submitted", "job": "c", "run": "r1", "name": "c", "type": "t", "dependencies": [], "by": "a"}
    assert ("P4", 8) in judged(inserted(5, **more, detached=False))
    assert judged(inserted(5, **more, detached=True)) == []


def test_a_violation_says_who_and_what():
    """Enough to look for it."""
    (violation, *_) = verify(Trace.from_jsonl("".join(line(6, worker="w1"))))

    assert isinstance(violation, Violation)
    assert str(violation) == ("fence, line 6: attempt 2 of 'w1' ended job 'a' as finished; attempt 2 of 'w2' holds it")


# ---- replay ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_trace_can_be_played_on_another_store(overseer_double, tmp_path, kind):
    """The same graph, the same events in the same order: there, the same comes of it."""
    trace = run(overseer_double).trace()
    clock = ManualClock()
    store = MemoryStore(clock) if kind == "memory" else sqlite_factory(tmp_path, clock)

    played = replay(trace, store, clock)

    assert len(trace) > 20
    assert diff(trace, played) == ""


def test_a_trace_that_was_kept_as_text_can_be_played(overseer_double):
    """Without its times as well: what is due later is waited for."""
    trace = Trace.from_jsonl(run(overseer_double).trace().to_jsonl())
    clock = ManualClock()

    assert diff(trace, replay(trace, MemoryStore(clock), clock)) == ""


class Forgetful(MemoryStore):
    """Keeps no delay: what failed is ready again at once, and a fault likewise."""

    def exchange(self, worker, settlements, want, types, **options):
        failed = (Outcome.FAILED, Outcome.ABORTED)
        changed = [s._replace(outcome=Outcome.RESET) if s.outcome in failed else s for s in settlements]
        return super().exchange(worker, changed, want, types, **options)


def test_a_store_that_does_otherwise_shows_in_the_replay(overseer_double):
    """Where it stands at the end is part of the trace."""
    trace = run(overseer_double).trace()
    clock = ManualClock()

    assert '"status":"aborted"' in diff(trace, replay(trace, Forgetful(clock), clock))
