"""The histories of many jobs in one look: what it costs, and who uses it."""

from __future__ import annotations

import io

import pytest

from overseer_lite import report
from overseer_lite.cli.events import History
from overseer_lite.cli.live import PlainView
from overseer_lite.graph import Graph
from overseer_lite.job import Evidence, Failure, Outcome, Settlement
from overseer_lite.report import facts
from overseer_lite.report.profile import profile
from overseer_lite.sqlite.connection import SQL
from overseer_lite.store import open_store
from overseer_lite.testing import ManualClock
from overseer_lite.testing.memory import MemoryStore

BOOM = Failure("exception", "boom", "ValueError")


@pytest.fixture
def store(tmp_path):
    with open_store(str(tmp_path / "jobs.db")) as made:
        made.install()
        yield made


def run_all(store, jobs=6):
    """Submit so many jobs as run r, fail the first once, and run all to their end."""
    graph = Graph(id="r")
    for number in range(jobs):
        graph.add("t", name=f"j{number}")
    store.transact_graph(graph)
    first = store.reserve_job("w", "r/j0")
    failed = Settlement(first, Outcome.FAILED, failure=BOOM, delay_s=0.0, evidence=Evidence(1.0, output="words"))
    store.exchange("w", [failed], 0, [])
    held = store.exchange("w", [], jobs, ["t"]).jobs
    done = [Settlement(job.attempt, Outcome.FINISHED, evidence=Evidence(2.0, output="words")) for job in held]
    assert store.exchange("w", done, 0, []).refused == []


class Counting:
    """A store that counts the looks at histories."""

    def __init__(self, store, capabilities=None):
        self._store = store
        self.capabilities = store.capabilities if capabilities is None else capabilities
        self.looks = []

    def __getattr__(self, name):
        if name in ("attempts", "attempts_of"):
            self.looks.append(name)
        return getattr(self._store, name)


READERS = {
    "profile": lambda store: profile(store, "r"),
    "junit": lambda store: report.junit(store, "r"),
    "markdown": lambda store: report.markdown(store, "r"),
    "events": lambda store: History(store, "r").look(),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_the_history_of_a_run_is_one_look(store, reader):
    """Not one a job: of 10,000 jobs that is over a second."""
    run_all(store)
    counting = Counting(store)
    reader(counting)

    assert counting.looks == ["attempts_of"]


def test_what_ended_between_two_looks_is_one_look(store):
    """However many jobs it was; nothing moved, no look."""
    counting = Counting(store)
    graph = Graph(id="r")
    for name in "abc":
        graph.add("t", name=name)
    store.transact_graph(graph)
    told = io.StringIO()
    view = PlainView(counting, "r", told)
    view.tick(last=True)
    assert counting.looks == []

    for name in "abc":
        store.finish_job(store.reserve_job("w", f"r/{name}"))
    view.tick(last=True)
    view.tick(last=True)

    assert [line.split()[1:3] for line in told.getvalue().splitlines()] == [["finished", f"r/{name}"] for name in "abc"]
    assert counting.looks == ["attempts_of"]


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_store_without_the_listing_is_asked_job_by_job(store, reader):
    """Whoever wrote a store before there was one need not change it: all is told as with it."""
    run_all(store)
    older = Counting(store, store.capabilities - {"histories"})

    assert reader(older) == reader(store)
    assert older.looks == ["attempts"] * 6


def test_a_job_pruned_since_it_was_listed_has_no_history():
    """In either way to ask."""
    store = MemoryStore(ManualClock())
    store.install()
    run_all(store, jobs=2)
    kept = store.jobs(run="r")
    gone = kept[0]._replace(id="r/gone")
    older = Counting(store, frozenset({"history"}))

    for each in (store, older):
        found = facts.each_history(each, [gone, kept[1]])
        assert [(job.id, len(attempts)) for job, attempts in found] == [("r/gone", 0), ("r/j1", 1)]


def test_no_more_than_a_batch_of_a_run_is_read_at_once(store, monkeypatch):
    """A run may have more jobs than fit into memory with their histories; each job is told of once, in order."""
    monkeypatch.setattr(facts, "_BATCH", 4)
    run_all(store)
    counting = Counting(store)
    found = [(job.name, len(attempts)) for job, attempts in facts.each_history(counting, store.jobs(run="r"))]

    assert counting.looks == ["attempts_of"] * 2
    assert found == [("j0", 2), *((f"j{number}", 1) for number in range(1, 6))]


def test_each_history_is_found_by_index(store):
    """The ids lead to the jobs, and these to their rows: the cost is that of the jobs asked for, whatever else is stored."""
    plan = store.database.open().execute("EXPLAIN QUERY PLAN " + SQL["attempts_of"], ("[]",)).fetchall()
    steps = [row[-1].partition(" (")[0] for row in plan]

    assert [step for step in steps if step.startswith(("SCAN", "SEARCH"))] == [
        "SCAN i VIRTUAL TABLE INDEX 1:",
        "SEARCH j USING COVERING INDEX sqlite_autoindex_jobs_1",
        "SEARCH a USING PRIMARY KEY",
        "SEARCH w USING INDEX sqlite_autoindex_words_1",
    ]
