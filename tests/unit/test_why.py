"""The sentence that says why a job does not run: each case, told by a store in which it is the case."""

from __future__ import annotations

import os
import time

import pytest
from click.testing import CliRunner

from overseer_lite.cli.main import program
from overseer_lite.graph import Graph, job_graph
from overseer_lite.handler import Handler, RunningJob, execute
from overseer_lite.job import Failure, Outcome, Settlement
from overseer_lite.liveness import Identity, WorkerFile
from overseer_lite.store import WorkerRecord, open_store
from overseer_lite.testing import SharedClock


@pytest.fixture
def clock(elsewhere, tmp_path, monkeypatch):
    """Let the store of this process and the command line go by one clock, which moves only when the test says so."""
    path = str(tmp_path / "clock")
    monkeypatch.setenv("OVERSEER_LITE_CLOCK", path)
    made = SharedClock.create(path)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path, clock):
    made = open_store(str(tmp_path / ".overseer/jobs.db"), clock=clock)
    made.install()
    yield made
    made.close()


@pytest.fixture
def why(clock):
    """Ask the command line."""

    def ask(job_id, *options):
        result = CliRunner().invoke(program, ["why", job_id, *options])
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout.removeprefix(f"{job_id}: ").removesuffix("\n")

    return ask


@pytest.fixture
def register(store, clock):
    """Register a worker that is this process, in this boot of the clock."""

    def enter(worker, **fields):
        mine = Identity.mine()._replace(boot_id=clock.read().boot_id)
        store.register(WorkerRecord(worker, os.getpid(), identity=mine.to_text(), **fields)).close()
        return mine

    return enter


def fail(store, job_id, handler, error=ValueError("no rows")):
    """Reserve a job and settle it as the handler's options have it after that error, with no delay."""
    attempt = store.reserve_job("w", job_id)

    def process(_job):
        raise error

    options = Handler(process, retries=handler.retries, backoff=0, no_retry=handler.no_retry)
    ending = execute(options, RunningJob(type="b", failures=store.job_info(job_id).failures))
    settlement = Settlement(attempt, Outcome.FAILED, failure=ending.failure, delay_s=ending.retry_in_s)
    store.exchange("w", [settlement], 0, [])


# ---- behind a failure ------------------------------------------------------------------------------------------------


def test_a_stuck_job_waits_for_what_failed_on_which_attempt_of_how_many(store, why):
    """How often it was tried says whether a retry is worth it."""
    store.transact_graph(job_graph({"b": [], "c": ["b"]}, id="r"))
    for _ in range(3):
        fail(store, "r/b", Handler(retries=2))

    assert why("r/c") == (
        "stuck: it waits for r/b, which failed on attempt 3 of 3: ValueError: no rows; `overseer-lite retry r/b` frees it"
    )
    assert why("r/b") == ("it failed on attempt 3 of 3: ValueError: no rows; `overseer-lite retry r/b` tries it again")


def test_a_failure_that_is_not_to_be_retried_says_so(store, why):
    """Or one would look for the retries that are left."""
    store.transact_graph(job_graph({"b": [], "c": ["b"]}, id="r"))
    fail(store, "r/b", Handler(retries=2, no_retry=KeyError), KeyError("day"))

    assert "which failed on attempt 1 of 3, which is not to be retried: KeyError: 'day'; " in why("r/c")


def test_numbers_of_attempts_go_on_after_a_retry_and_failures_begin_anew(store, why):
    """So both are told where they differ."""
    store.transact_graph(job_graph({"b": [], "c": ["b"]}, id="r"))
    fail(store, "r/b", Handler(retries=0))
    store.retry(["r/b"])
    fail(store, "r/b", Handler(retries=0))

    assert "which failed on attempt 2, failure 1 of 1: " in why("r/c")


def test_a_crash_limit_is_no_matter_of_retries(store, why):
    """Its own words say how many there were."""
    store.transact_graph(job_graph({"b": [], "c": ["b"]}, id="r"))
    for _ in range(3):
        attempt = store.reserve_job("w", "r/b")
        settlement = Settlement(attempt, Outcome.CRASHED, failure=Failure("crash", "its runner died"))
        store.exchange("w", [settlement], 0, [])

    assert "which failed on attempt 3: crashed 3 times, which is the limit" in why("r/c")


# ---- ready -----------------------------------------------------------------------------------------------------------


def test_no_live_worker_handles_the_type(store, why, register):
    """And which types they do handle."""
    store.transact_graph(job_graph({"train": []}, id="r"))
    register("w1", types=("count", "merge"))

    assert why("r/train") == "ready, but no live worker handles type 'train' (they handle count, merge)"


def test_as_many_run_as_the_type_s_limit_allows(store, why, register):
    """The limit is the one that the workers' app has; an idle worker changes nothing."""
    store.transact_graph(Graph.of([*(Graph().add("count", name=str(n)) for n in range(5))], id="r"))
    for worker in ("w1", "w2"):
        register(worker, types=("count",), limits={"count": 4})
    reserved = store.exchange("w1", [], 9, ["count"], limits={"count": 4}).jobs
    assert len(reserved) == 4

    assert why("r/4") == "ready, but 4 of type 'count' are running, its limit is 4"
    store.finish_job(reserved[0].attempt)
    assert "limit" not in why("r/4")


def test_a_worker_with_a_higher_limit_can_still_take_it(store, why, register):
    """Two apps may disagree: then the job waits for nobody's limit."""
    store.transact_graph(Graph.of([*(Graph().add("count", name=str(n)) for n in range(2))], id="r"))
    register("w1", types=("count",), limits={"count": 1})
    register("w2", types=("count",))
    store.reserve_job("w1", "r/0")

    assert why("r/1") == "ready, and a worker that can take it is idle: it is about to start"


# ---- delayed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delay_s", "form", "words"), [(185, "%H:%M", "3 min"), (30, "%H:%M:%S", "30 s")])
def test_a_delayed_job_says_until_when(store, why, delay_s, form, words, monkeypatch):
    """To the minute where it is some minutes, to the second where it is less; and in how long that is."""
    store.transact_graph(Graph.of([Graph().add("a", delay_s=delay_s)], id="r"))
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    monkeypatch.setattr("overseer_lite.cli.show.time.localtime", lambda at=1_700_000_000.0: time.gmtime(at))

    at = time.strftime(form, time.gmtime(1_700_000_000.0 + delay_s))
    assert why("r/a") == f"delayed until {at} (in {words})"


# ---- running ---------------------------------------------------------------------------------------------------------


def test_a_silent_worker_is_examined_at_a_time_that_is_told_unless_it_beats(store, clock, why, register):
    """Silence is not death: the sentence says what will come of it, by intervals and tolerance as they are set."""
    store.transact_graph(job_graph({"a": []}, id="r"))
    identity = register("w2", types=("a",))
    store.reserve_job("w2", "r/a")
    ((key, number),) = store.held_keys("w2")
    now = clock.read()
    path = os.path.join(store.state_directory, "workers", "w2")
    file = WorkerFile.create(path, store_uuid=store.uuid, worker_id="w2", identity=identity, now_us=now.monotonic_us)
    file.reserve(0, key, number)
    file.begin(0, now.boottime_us, 0)
    running = "it runs: attempt 1 on worker w2 for"

    clock.advance(15)
    assert why("r/a") == f"{running} 15 s"
    clock.advance(25)
    assert why("r/a") == f"{running} 40 s; worker w2 is silent for 40 s, it is examined at 50 s unless it beats"
    clock.advance(20)
    assert why("r/a") == (
        f"{running} 60 s; worker w2 is silent for 60 s, longer than the 50 s that are tolerated: it is being examined"
    )
    file.beat(clock.read().monotonic_us)
    assert why("r/a") == f"{running} 60 s"
    file.close()
