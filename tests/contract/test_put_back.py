"""What the clause about killed processes does in a monitor's place, with a store that knows of no workers."""

from __future__ import annotations

import pytest

from overseer_lite.testing.clock import ManualClock
from overseer_lite.testing.contract.processes import put_back
from overseer_lite.testing.elsewhere import OWN_RUNS, crowd, own_graph
from overseer_lite.testing.memory import MemoryStore


class Modest(MemoryStore):
    """The model with the eleven verbs alone."""

    capabilities = frozenset({"shared"})


@pytest.fixture(params=[Modest, MemoryStore], ids=["eleven verbs", "workers"])
def store(request):
    made = request.param(ManualClock())
    made.install()
    return made


@pytest.mark.parametrize(
    "graph",
    [crowd(), own_graph("w0", 1), own_graph("w1", 1), own_graph("w5", OWN_RUNS)],
    ids=["the graph of all", "its own graph", "another's graph", "the last graph of a later one"],
)
def test_all_that_the_dead_held_is_put_back_whoever_submitted_it(store, graph):
    """A process that was killed may hold a job that another submitted; nobody else would ever put that back."""
    store.transact_graph(graph)
    ready = store.jobs_ready()
    held = [store.reserve_job("w0", job_id) for job_id in ready]
    put_back(store, "w0", [f"w{n}" for n in range(6)])

    assert held
    assert [(store.job_info(job_id).status, store.job_info(job_id).worker) for job_id in ready] == [
        ("unstarted", None) for _ in ready
    ]


def test_what_the_living_hold_they_keep(store):
    """Of the same run, too: the clause would break the promise that it is there to judge."""
    graph = crowd()
    store.transact_graph(graph)
    one, two = store.jobs_ready()[:2]
    store.reserve_job("w0", one)
    kept = store.reserve_job("w1", two)
    put_back(store, "w0", ["w0", "w1"])

    assert store.job_info(one).status == "unstarted"
    store.finish_job(kept)
