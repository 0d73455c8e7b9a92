"""The double in one process: a job without a store, a drain, the clock."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

import overseer_lite as overseer
from overseer_lite.errors import InvalidInputError, MissingHandlerError, NotJsonError, UnknownJobError
from overseer_lite.heartbeat import Heartbeat
from overseer_lite.job import Status
from overseer_lite.liveness import Identity, WorkerFile
from overseer_lite.store import WorkerRecord, open_store
from overseer_lite.testing import AttemptFailedError, ManualClock, NotReachedError, Pool, SharedClock, make_job

handlers = overseer.Handlers()


@handlers
def part(job):
    return job.name


@handlers(retries=1, backoff=60)
def load(job):
    return job.context["pool"].fetch(job)


@handlers
def faulty(job):
    if job.attempt == 1:
        overseer.fault("not yet", delay=5)


@handlers
def hopeless(job):
    overseer.abort("there is no such day")


@handlers
def adder(job):
    print("adding")
    with open(job.path("seen"), "x", encoding="utf-8") as file:
        file.write(job.name)
    job.add("part", name=f"{job.name}-part")


class FakePool:
    def __init__(self, fail=0):
        self.fail = fail

    def fetch(self, job):
        if job.attempt <= self.fail:
            raise ConnectionError(f"no answer to {job.attempt}")
        return [1]


def parts(number):
    graph = overseer.Graph()
    for each in range(number):
        graph.add("part", name=f"p{each}")
    return graph


# ---- make_job --------------------------------------------------------------------------------------------------------


def test_a_made_job_shows_its_handler_what_a_store_would():
    """By type in the order given, by name, args and results as JSON brings them; all attempts before it failed."""
    job = make_job(
        "merge",
        args={"days": (1, 2)},
        attempt=3,
        results_of={"count": [{"rows": 2}, None]},
        results={"load": (1,)},
        context="pool",
    )

    assert (job.type, job.name, job.attempt, job.failures, job.context) == ("merge", "merge", 3, 2, "pool")
    assert job.args == {"days": [1, 2]}
    assert job.results.of("count") == [{"rows": 2}, None]
    assert dict(job.results) == {"count-0": {"rows": 2}, "count-1": None, "load": [1]}


def test_a_made_job_refuses_what_no_store_would_carry():
    """A test that hands a handler a set, say, would pass where production fails."""
    with pytest.raises(NotJsonError):
        make_job("merge", results={"load": {1, 2}})


def test_a_made_job_has_a_directory_only_if_it_is_given_one(tmp_path):
    """`job.path` makes files where the test says; else the error names the argument."""
    assert make_job("a", directory=tmp_path).path("x.csv") == str(tmp_path / "x.csv")
    with pytest.raises(InvalidInputError, match="directory="):
        make_job("a").path("x.csv")


# ---- drain -----------------------------------------------------------------------------------------------------------


def test_a_retry_waits_until_the_clock_is_advanced(overseer_double):
    """Time stands still: what is due in 60 s is not run by a drain before they have passed."""
    d = overseer_double(handlers, context={"pool": FakePool(fail=1)})
    d.submit({"load": []})

    assert d.drain() == ["load"]
    assert d.job("load").due_in_s == 60
    d.clock.advance(59)
    assert d.drain() == []
    d.clock.advance(1)
    assert d.drain() == ["load"]
    assert d.attempts("load") == ["failed", "finished"]


def test_a_drain_runs_in_order_of_submission(overseer_double):
    """And the same each time, so that a test may compare the whole list."""
    d = overseer_double(handlers)
    d.submit(parts(5))

    assert d.drain() == ["p0", "p1", "p2", "p3", "p4"]
    assert d.drain() == []


def test_the_same_seed_draws_the_same_order(overseer_double):
    """Another order than that of submission, the same for the same seed, another for another."""

    def order(seed):
        d = overseer_double(handlers)
        d.submit(parts(6))
        return d.drain(seed=seed)

    first, again, other = order(1), order(1), order(2)

    assert sorted(first) == [f"p{each}" for each in range(6)]
    assert first == again
    assert len({tuple(first), tuple(other), tuple(sorted(first))}) == 3


@pytest.mark.parametrize("seed", [None, 7])
def test_a_drawn_order_changes_nothing_else(overseer_double, seed):
    """Faults are told from resets, output is kept, two jobs' directories differ, what is added runs: seed or none."""
    d = overseer_double(handlers)
    graph = overseer.Graph()
    for each in ("a", "b"):
        graph.add("adder", name=each)
    graph.add("faulty")
    d.submit(graph)

    names = d.drain(seed=seed)
    d.clock.advance(5)
    names += d.drain(seed=seed)

    assert sorted(names) == ["a", "a-part", "b", "b-part", "faulty", "faulty"]
    assert d.attempts("faulty") == ["faulted", "finished"]
    assert [d.attempts(each) for each in ("a", "b", "b-part")] == [["finished"]] * 3
    assert d.store.attempts(d.job("a").id)[0].output == "adding\n"


def test_a_drain_takes_only_the_types_it_is_told(overseer_double):
    """The others stay as they are."""
    d = overseer_double(handlers)
    d.submit({"part": [], "faulty": []})

    assert d.drain(types=["part"]) == ["part"]
    assert d.job("faulty").attempt == 0


def test_a_drain_ends_where_it_is_told(overseer_double):
    """After so many attempts, when a job has ended, when a function says so; all that ran is settled."""
    d = overseer_double(handlers)
    d.submit(parts(6))

    assert d.drain(limit=2) == ["p0", "p1"]
    assert d.drain(until="p2") == ["p2"]
    assert d.drain(until=lambda: d.job("p4").status is Status.FINISHED) == ["p3", "p4"]
    assert d.unfinished() == ["p5"]
    assert d.store.counts().started == 0


def test_a_drain_may_go_on_until_a_job_that_a_handler_has_yet_to_add(overseer_double):
    """It is not known when the drain begins, and no mistake."""
    d = overseer_double(handlers)
    d.submit({"adder": [], "part": []})

    assert d.drain(until="adder-part") == ["adder", "part", "adder-part"]


@pytest.mark.parametrize("until", ["part", "prt", lambda: False])
def test_a_drain_that_cannot_get_there_says_what_is_left(overseer_double, until):
    """Ending in silence, it would leave the test to assert about something that never ran."""
    d = overseer_double(handlers, context={"pool": FakePool(fail=1)})
    d.submit({"load": [], "part": ["load"]})

    with pytest.raises(NotReachedError, match=r"load \(due in 60 s\), part \(waiting for 1\)"):
        d.drain(until=until)
    assert d.attempts("load") == ["failed"]


def test_a_drain_refuses_types_and_limits_that_mean_nothing(overseer_double):
    """A misspelt type would run nothing, which an assertion might like."""
    d = overseer_double(handlers)
    d.submit({"part": []})

    with pytest.raises(InvalidInputError, match="Did you mean 'part'"):
        d.drain(types="prt")
    with pytest.raises(InvalidInputError, match="-1"):
        d.drain(limit=-1)
    assert d.drain(limit=0) == []


@pytest.mark.parametrize(
    ("kind", "outcome", "why"), [("load", "failed", "no answer"), ("hopeless", "aborted", "no such day")]
)
def test_a_drain_may_raise_at_the_first_failure(overseer_double, kind, outcome, why):
    """Even at one that would be tried again; the attempt is settled all the same, and what comes after is not run."""
    d = overseer_double(handlers, context={"pool": FakePool(fail=1)})
    d.submit({kind: [], "part": []})

    with pytest.raises(AttemptFailedError, match=rf"Attempt 1 of job '.*/{kind}' {outcome}: .*{why}"):
        d.drain(raise_on_failure=True)

    assert d.attempts(kind) == [outcome]
    assert d.attempts("part") == []


def test_the_failure_raised_is_that_of_the_attempt_just_made(overseer_double):
    """Not of one before it, which the test has seen already."""
    d = overseer_double(handlers, context={"pool": FakePool(fail=2)})
    d.submit({"load": []})
    d.drain()
    d.clock.advance(60)

    with pytest.raises(AttemptFailedError, match=r"Attempt 2 .*no answer to 2"):
        d.drain(raise_on_failure=True)


def test_a_context_may_be_a_function_as_an_app_has_it(overseer_double):
    """It is entered once a drain, however many jobs it runs."""
    entered = []

    class Context:
        def __enter__(self):
            entered.append("in")
            return {"pool": FakePool()}

        def __exit__(self, *_):
            entered.append("out")

    d = overseer_double(handlers, context=Context)
    d.submit({"load": [], "part": []})

    assert d.drain() == ["load", "part"]
    assert entered == ["in", "out"]


# ---- the store and its clock -----------------------------------------------------------------------------------------


def test_code_under_test_opens_the_double(overseer_double):
    """By `open_store()` as it stands in production, with the double's time, so that what is due is due for both."""
    d = overseer_double(handlers)
    mine = open_store()
    assert mine.clock.read() == d.clock.read()
    graph = overseer.Graph()
    graph.add("part", delay_s=30)
    mine.transact_graph(graph)
    mine.close()

    assert d.drain() == []
    assert d.job("part").due_in_s == 30
    d.clock.advance(30)
    assert d.drain() == ["part"]


def test_two_doubles_do_not_see_each_other(overseer_double):
    """Each has a store and a clock of its own."""
    one, other = overseer_double(handlers), overseer_double(handlers)
    one.submit({"part": []})
    before = other.clock.read()
    one.clock.advance(5)

    assert (one.drain(), other.drain()) == (["part"], [])
    assert other.clock.read() == before


def test_a_graph_without_handlers_is_refused(overseer_double):
    """Its job would wait for ever, and the test would say nothing of why."""
    d = overseer_double(handlers)
    with pytest.raises(MissingHandlerError):
        d.submit({"prt": []})


def test_a_misspelt_job_gets_a_suggestion(overseer_double):
    """An unknown job is an error, never an empty answer that an assertion might like."""
    d = overseer_double(handlers)
    d.submit({"part": []})
    with pytest.raises(UnknownJobError, match="'part'"):
        d.attempts("prt")


def test_handlers_of_no_module_have_no_pool(overseer_double):
    """Processes could not import them; the error says what to give instead."""
    own = overseer.Handlers({"part": overseer.Handler(lambda job: None)})
    with pytest.raises(InvalidInputError, match="app="):
        overseer_double(own).pool(1)


def test_a_context_cannot_be_handed_to_processes(overseer_double):
    """A pool that silently took another would test something else."""
    with pytest.raises(InvalidInputError, match="context"):
        overseer_double(handlers, context={"pool": FakePool()}).pool(1)


def test_only_an_attempt_whose_handler_has_begun_is_seen_at_work(overseer_double):
    """One that was merely reserved is handed back when its worker is killed, and would leave no trace of the kill."""
    d = overseer_double(handlers)
    d.submit({"part": []})
    me = Identity.mine(d.clock.read().boot_id)
    file = WorkerFile.create(
        f"{d.store.state_directory}/workers/w", store_uuid=d.store.uuid, worker_id="w", identity=me, now_us=0
    )
    bell = d.store.register(WorkerRecord("w", me.pid, identity=me.to_text(), types=("part",)))
    (reserved,) = d.store.exchange("w", [], 1, ("part",)).jobs
    pool = Pool(d, 1, "no_app", {})

    file.reserve(0, reserved.key, reserved.attempt.number)
    assert pool._begun(d.job("part")) is None
    file.begin(0, 1, 0)
    assert pool._begun(d.job("part")).attempt == reserved.attempt
    bell.close()
    file.close()


@pytest.mark.parametrize("make", [lambda path: ManualClock(), SharedClock.create], ids=["manual", "shared"])
def test_a_clock_that_begins_to_run_does_not_make_up_for_the_time_it_stood(tmp_path, eventually, make):
    """Only what passes from then on counts."""
    made_at = time.monotonic()
    clock = make(tmp_path / "clock")
    shown = clock.read()
    eventually(lambda: time.monotonic() > made_at + 0.1)
    run_at = time.monotonic()
    clock.run()
    gone_us = clock.read().monotonic_us - shown.monotonic_us

    assert gone_us <= (time.monotonic() - run_at) * 1e6 + 1


@pytest.mark.parametrize("make", [lambda path: ManualClock(), SharedClock.create], ids=["manual", "shared"])
def test_a_clock_that_runs_goes_on_from_what_it_showed(tmp_path, eventually, make):
    """And stands again at what it shows then: time is never taken back, nor jumps to the machine's."""
    clock = make(tmp_path / "clock")
    shown = clock.read()
    clock.run()
    eventually(lambda: clock.read().monotonic_us > shown.monotonic_us)
    clock.stand()
    stands = clock.read()

    assert shown.monotonic_us < stands.monotonic_us < shown.monotonic_us + 60_000_000
    assert clock.read() == stands


class Follower:
    """Processes that beat once each time they are waited for; notes the time they were waited at."""

    beat_s = 10.0

    def __init__(self, clock):
        self.clock, self.seen_s = clock, []

    def wait_beaten(self):
        self.seen_s.append(self.clock.read().monotonic_us / 1e6)


def test_time_goes_on_in_steps_of_a_beat_while_somebody_follows(overseer_double):
    """And at once when nobody does; the sum is what was asked for in both cases."""
    clock = overseer_double(handlers).clock
    start_s = clock.read().monotonic_us / 1e6
    follower = Follower(clock)
    clock.follow(follower)
    clock.advance(25)
    clock.leave(follower)
    clock.advance(100)

    assert [at - start_s for at in follower.seen_s] == [10, 20, 25]
    assert clock.read().monotonic_us / 1e6 - start_s == 125
    with pytest.raises(ValueError, match="-1"):
        clock.advance(-1)


def test_a_beat_is_due_when_a_moved_clock_says_so(tmp_path, eventually):
    """Not when real time has passed: a worker whose clock stands has all the time there is."""
    clock, beats = SharedClock.create(tmp_path / "clock"), []
    heartbeat = Heartbeat(lambda: beats.append(clock.read().monotonic_us), 60, after=clock.after)
    heartbeat.start()
    clock.advance(59)
    first = list(beats)
    clock.advance(1)
    eventually(lambda: len(beats) == 2)
    heartbeat.stop()

    assert len(first) == 1
    assert beats[1] - beats[0] == 60_000_000


def test_a_clock_that_is_moved_as_soon_as_a_beat_is_seen_makes_the_next_one_due(tmp_path, eventually):
    """As a pool's is: or the thread would count from then on, and its worker seem silent for one beat too long."""
    clock, beats = SharedClock.create(tmp_path / "clock"), []

    def beat():
        beats.append(clock.read().monotonic_us)
        if len(beats) <= 2:  # the first is given by whoever starts it, the next by its thread
            clock.advance(60)

    heartbeat = Heartbeat(beat, 60, after=clock.after)
    heartbeat.start()
    eventually(lambda: len(beats) == 3)
    heartbeat.stop()

    assert [beats[1] - beats[0], beats[2] - beats[1]] == [60_000_000, 60_000_000]


# ---- what it costs others --------------------------------------------------------------------------------------------


def fresh(code):
    """Return what a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_the_model_and_the_clocks_import_no_test_framework():
    """They serve programs that have none installed."""
    code = "import sys, overseer_lite.testing.memory, overseer_lite.testing.clock, overseer_lite.testing.job;"
    assert fresh(code + "print(sorted({'pytest', 'hypothesis'} & sys.modules.keys()))") == "[]\n"


@pytest.mark.slow
def test_the_plugin_imports_next_to_nothing():
    """It is loaded in every run of pytest on the machine, of projects that have nothing to do with it."""
    code = (
        "import sys, pytest; before = set(sys.modules); import overseer_lite.testing.plugin;"
        "print(sorted(name for name in set(sys.modules) - before))"
    )
    assert fresh(code) == "['overseer_lite', 'overseer_lite.testing', 'overseer_lite.testing.plugin']\n"


def test_the_plugin_is_there_by_entry_point(request):
    """Nobody has to name it."""
    assert request.config.pluginmanager.has_plugin("overseer_lite")


def test_the_environment_is_as_before_after_a_double():
    """The fixture's variables end with the test."""
    assert [name for name in ("OVERSEER_LITE_DB", "OVERSEER_LITE_CLOCK") if name in os.environ] == []
