"""`--overseer-store`: a team's own tests of its handlers, run by pytest on the team's own store."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

STORES = """
from overseer_lite.composed import exchange
from overseer_lite.testing import MemoryStore, sqlite_factory

ELEVEN = ("install", "transact_graph", "job_info", "jobs_ready", "reserve_job", "heartbeat_job", "finish_job",
          "fail_job", "reset_job", "abort_job", "jobs_dead")

class Bare:
    # A store of the eleven verbs alone: whoever asks for more than it declares gets an AttributeError.
    capabilities = frozenset()
    def __init__(self, store):
        for verb in ELEVEN:
            setattr(self, verb, getattr(store, verb))

class Told(MemoryStore):
    made = 0

def bare(directory, clock):
    return Bare(MemoryStore(clock))

def memory(directory, clock):
    Told.made += 1
    return Told(clock)

def another_file(directory, clock):
    (directory / "mine").mkdir()
    return sqlite_factory(directory / "mine", clock)
"""
TESTS = """
import os

import overseer_lite as overseer
import pytest

import stores

handlers = overseer.Handlers()

@handlers(retries=1, backoff=60)
def load(job):
    if job.attempt == 1:
        raise ConnectionError("no answer")
    return [job.args["day"]]

@handlers
def count(job):
    return len(job.results["load"])

def graph(day):
    g = overseer.Graph(args={"day": day})
    g.add("count", dependencies=[g.add("load")])
    return g

@pytest.mark.parametrize("seed", [None, 1])
def test_backoff(overseer_double, seed):
    d = overseer_double(handlers)
    d.submit(graph, day="2026-11-24")
    assert d.drain(seed=seed) == ["load"]
    assert (d.job("load").due_in_s, d.unfinished()) == (60, ["load", "count"])
    d.clock.advance(60)
    assert d.drain(seed=seed, until="count") == ["load", "count"]
    assert d.job("count").result == 1

def test_history(overseer_double):
    d = overseer_double(handlers)
    d.submit(graph, day="2026-11-24")
    d.drain()
    assert d.attempts("load") == ["failed"]

def test_which(overseer_double):
    print("store:", type(overseer_double(handlers).store.bare).__name__, stores.Told.made, os.environ.get("OVERSEER_LITE_DB"))

def test_code_under_test(overseer_double):
    d = overseer_double(handlers)
    run = d.submit(graph, day="2026-11-24")
    with overseer.open_store() as store:
        assert store.counts(run).total == 2

def test_pool(overseer_double):
    d = overseer_double(handlers)
    d.pool(1, app="app_of_no_interest")
"""


@pytest.fixture
def run_tests(tmp_path):
    """Run the team's tests with these words; return the process, ended."""
    (tmp_path / "stores.py").write_text(STORES)
    (tmp_path / "test_team.py").write_text(TESTS)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OVERSEER", "PYTEST"))}

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rfE", "-s", *words],
            cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    return run


def test_the_tests_run_on_the_store_that_is_named(run_tests):
    """A store with nearly all capabilities: the same tests pass on it as on ours, and it is that store they had."""
    ours = run_tests("-k", "backoff or history or which")
    theirs = run_tests("--overseer-store=stores:memory", "-k", "backoff or history or which")

    assert (ours.returncode, theirs.returncode) == (0, 0), ours.stdout + theirs.stdout
    assert "store: SqliteStore 0" in ours.stdout
    assert "store: Told 4" in theirs.stdout
    assert "overseer store" not in ours.stdout
    assert "overseer store: stores:memory" in theirs.stdout


def test_a_store_of_the_eleven_verbs_alone_will_do(run_tests):
    """Drain, clock, `job` and `unfinished` take no more; what takes more says which capability is missing."""
    done = run_tests("--overseer-store=stores:bare")

    assert done.stdout.count("FAILED ") == 3, done.stdout
    assert "3 passed" in done.stdout, done.stdout
    assert "The double's `attempts` needs a store that declares history; Bare does not." in done.stdout
    assert "The double's `pool` needs a store that declares exchange, history, looking," in done.stdout


def test_code_under_test_opens_that_store(run_tests):
    """`open_store()` opens it by its address."""
    done = run_tests("--overseer-store=stores:another_file", "-k", "code_under_test or which")

    assert done.returncode == 0, done.stdout
    assert "/mine/jobs.db" in done.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stores", "'stores' is not of the form package.module:function"),
        ("no_such_module:f", "importing 'no_such_module' raised ModuleNotFoundError"),
        ("stores:memry", "has no 'memry'"),
    ],
)
def test_a_factory_that_is_not_there_is_one_line_before_any_test(run_tests, name, said):
    """Not an error in each test."""
    done = run_tests(f"--overseer-store={name}")

    assert done.returncode == 4, done.stdout
    assert said in done.stderr
    assert done.stderr.strip().count("\n") == 0, done.stderr
