"""The other processes of the clauses about several processes: each opens the store under test for itself and acts on it.

Started by `contract.processes`, never imported by a user. It imports no test framework: that would cost more than all
it does. What it did it writes into a journal, a line at a time, which its own death cannot take back.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from overseer_lite import failpoints
from overseer_lite.graph import Graph
from overseer_lite.job import Attempt, Failure, Job, Outcome, Settlement, Status
from overseer_lite.store import WorkerRecord, compose_exchange, open_store
from overseer_lite.testing.clock import SharedClock
from overseer_lite.testing.factory import load_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from overseer_lite.store import Exchange, FullStore

TYPES: Final = ("t", "u")
JOBS: Final = 96
OWN_RUNS: Final = 3
LARGE: Final = 20_000
_WAIT_S: Final = 60.0
_LOOK_S: Final = 0.001
_WORK_S: Final = 0.002  # at most, for a job: so that others have their turn while it is held


class Plan(NamedTuple):
    """What such a process is to do.

    Attributes:
        directory: Where the store lies.
        address: How to open it, where no factory is named.
        factory: The name of the function that opens it, or ''.
        clock: The shared clock's file.
        verb: A key of `ACTS`, or `hammer`.
        kill_at: The failpoint at which it kills itself; '': none. `install.*`: while it opens the store.
        worker: The name it reserves under.
        seed: What it does by chance follows from this.
        journal: The file it writes what it did into.
        go: It waits until this file is there; '': for nothing.
    """

    directory: str
    address: str
    factory: str
    clock: str
    verb: str
    kill_at: str = ""
    worker: str = "w1"
    seed: int = 0
    journal: str = ""
    go: str = ""


def main(arguments: list[str]) -> None:
    """Start as the process that a clause spawned; the one argument is JSON: its plan."""
    do(Plan(*json.loads(arguments[0])))


def do(plan: Plan) -> None:
    """Open the store and act, when all are here; killed at the failpoint that the plan names."""
    if plan.go:
        _say(plan.journal, "here")
        _wait_for(plan.go)
    if plan.kill_at.startswith("install."):
        failpoints.arm(plan.kill_at, "kill")
    store = _open(plan)
    if plan.kill_at and not plan.kill_at.startswith("install."):
        failpoints.arm(plan.kill_at, "kill")
    if plan.verb == "hammer":
        _Hammer(store, plan).run()
    else:
        ACTS[plan.verb](store)
    if hasattr(store, "close"):
        store.close()


def _say(journal: str, event: str, attempt: Sequence[object] = (), **facts: object) -> None:
    line = json.dumps([time.monotonic_ns(), event, list(attempt), facts]) + "\n"
    fd = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


def _wait_for(path: str) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not os.path.exists(path):
        time.sleep(_LOOK_S)
        if time.monotonic() > deadline:
            raise SystemExit(f"{path} was not there within {_WAIT_S:g} s")


def _open(plan: Plan) -> FullStore:
    clock = SharedClock.attach(plan.clock)
    if plan.factory:
        made: FullStore = load_factory(plan.factory)(Path(plan.directory), clock)
        return made
    store = open_store(plan.address, clock=clock)
    store.install()
    return store


# ---- one verb, at whose failpoints a process may be killed -----------------------------------------------------------

HELD: Final = Attempt("r/a", 1, "w1")
BOOM: Final = Failure("exception", "no such table")
CHAIN: Final = (Job("a"), Job("b", dependencies=["a"]), Job("c", dependencies=["b"], delay_s=9))


def chain() -> Graph:
    """Return the graph of the clauses about one verb: three jobs, one after the other, the last with a delay."""
    return Graph.of(CHAIN, id="r", args={"day": "d"})


def _exchange(store: FullStore) -> object:
    """Settle and reserve, so that half of it would be seen: one finished with a job added, its dependent reserved."""
    settlements = [Settlement(HELD, Outcome.FINISHED, '"done"')]
    return store.exchange("w1", settlements, 1, ["a", "b"])


#: What one process does; before it, `BEFORE` brought the store where it makes a difference.
ACTS: Final[dict[str, Callable[[FullStore], object]]] = {
    "install": lambda store: store.jobs_ready(),
    "transact_graph": lambda store: store.transact_graph(chain()),
    "transact_graph, large": lambda store: store.transact_graph(
        Graph.of([Job("t", name=f"n{n}") for n in range(LARGE)], id="large")
    ),
    "reserve_job": lambda store: store.reserve_job("w1", "r/a"),
    "heartbeat_job": lambda store: store.heartbeat_job(HELD),
    "finish_job": lambda store: store.finish_job(HELD, {"rows": 3}),
    "finish_job, added": lambda store: store.finish_job(HELD, 1, [Job("x"), Job("y", dependencies=["x"])]),
    "fail_job": lambda store: store.fail_job(HELD, BOOM),
    "fail_job, later": lambda store: store.fail_job(HELD, BOOM, retry_in_s=5),
    "reset_job": lambda store: store.reset_job(HELD, crashed=True),
    "abort_job, attempt": lambda store: store.abort_job("r/a", BOOM, HELD),
    "abort_job": lambda store: store.abort_job("r/a", BOOM),
    "exchange": _exchange,
    "register": lambda store: store.register(WorkerRecord("w1", 1, types=("a",))),
    "beat": lambda store: store.beat("w1"),
    "leave": lambda store: store.leave("w2"),
    "recover": lambda store: store.recover("w1", {}),
    "request": lambda store: store.request("r/a", "reset"),
    "retry": lambda store: store.retry(["r/a"]),
    "prune": lambda store: store.prune(0),
}


# ---- all verbs at once, from many processes --------------------------------------------------------------------------


def crowd() -> Graph:
    """Return the graph that many processes work on: each job waits for up to two before it, in two types."""
    chance = random.Random(7)
    graph = Graph(id="r")
    jobs: list[Job] = []
    for n in range(JOBS):
        needs = chance.sample(jobs[-12:], k=min(len(jobs), chance.choice([0, 1, 1, 2])))
        jobs.append(graph.add(chance.choice(TYPES), f"j{n}", dependencies=needs, priority=chance.choice([0, 0, 1])))
    return graph


def own_graph(worker: str, number: int) -> Graph:
    """Return the n-th graph, from 1 to `OWN_RUNS`, that a process submits alone: three jobs, one after the other."""
    names = [f"{worker}-{number}-{n}" for n in range(3)]
    jobs = [Job("t", name=name, dependencies=names[n - 1 : n]) for n, name in enumerate(names)]
    return Graph.of(jobs, id=f"own-{worker}-{number}")


class _Hammer:
    def __init__(self, store: FullStore, plan: Plan) -> None:
        self._store, self._worker = store, plan.worker
        self._chance = random.Random(plan.seed)
        self._journal = plan.journal
        self._deadline = time.monotonic() + _WAIT_S

    def run(self) -> None:
        """Submit what all submit, and graphs of its own; reserve and settle until nothing is left that can run."""
        self._submit(crowd())
        own = 0
        settlements: list[Settlement] = []
        while True:
            reserved = self._exchange(settlements)
            settlements = [self._end(attempt) for attempt in reserved]
            if not settlements and self._all_ended():
                return
            if own < OWN_RUNS and self._chance.random() < 0.2:
                own += 1
                self._submit(own_graph(self._worker, own))
            if settlements:
                time.sleep(self._chance.random() * _WORK_S)
            else:
                self._look_again()  # others have what is ready

    def _look_again(self) -> None:
        time.sleep(_LOOK_S)
        if time.monotonic() > self._deadline:
            raise SystemExit(f"worker {self._worker} could not come to an end within {_WAIT_S:g} s")

    def _say(self, event: str, *attempt: Any, **facts: Any) -> None:
        _say(self._journal, event, attempt, **facts)

    def _submit(self, graph: Graph) -> None:
        self._say("submitting", run=graph.id)
        submitted = self._store.transact_graph(graph)
        self._say("submitted", run=graph.id, created=len(submitted.created), existed=len(submitted.existed))

    def _end(self, attempt: Attempt) -> Settlement:
        """Decide how an attempt ends: well in the end, so that nothing gets stuck."""
        number = attempt.number
        ways = [Outcome.FINISHED] * 6
        if number <= 2:
            ways += [Outcome.FAILED, Outcome.RESET, Outcome.CRASHED]
            ways += [Outcome.HANDED_BACK, Outcome.FAULTED] if self._can("exchange") else []
        outcome = self._chance.choice(ways)
        if outcome is Outcome.FINISHED:
            return Settlement(attempt, outcome, json.dumps([attempt.job_id, number]))
        return Settlement(attempt, outcome, delay_s=None if outcome is Outcome.HANDED_BACK else 0.0)

    def _exchange(self, settlements: list[Settlement]) -> list[Attempt]:
        for settlement in settlements:
            self._say("settling", *settlement.attempt, outcome=settlement.outcome)
        want = self._chance.choice([1, 1, 2, 3])
        if settlements and self._chance.random() < 0.3 and all(s.outcome is not Outcome.FAULTED for s in settlements):
            refused = {settlement.attempt for settlement in settlements if not self._settle_by_verb(settlement)}
            settled, settlements = settlements, []
            exchange = self._ask(settlements, want)
        else:
            exchange = self._ask(settlements, want)
            settled = settlements
            refused = {refusal.attempt for refusal in exchange.refused}
        for settlement in settled:
            event = "refused" if settlement.attempt in refused else "settled"
            self._say(event, *settlement.attempt, outcome=settlement.outcome)
        for job in exchange.jobs:
            results = [result.result_json for result in job.results]
            self._say("reserved", *job.attempt, results=results)
            self._store.heartbeat_job(job.attempt)  # raises if it does not hold the job after all
        return [job.attempt for job in exchange.jobs]

    def _ask(self, settlements: list[Settlement], want: int) -> Exchange:
        if self._can("exchange"):
            return self._store.exchange(self._worker, settlements, want, TYPES)
        return compose_exchange(self._store, self._worker, settlements, want, TYPES)

    def _settle_by_verb(self, settlement: Settlement) -> bool:
        attempt, outcome, store = settlement.attempt, settlement.outcome, self._store
        if outcome is Outcome.FINISHED:
            store.finish_job(attempt, json.loads(settlement.result_json or "null"))
        elif outcome is Outcome.FAILED:
            store.fail_job(attempt, retry_in_s=0.0)
        elif outcome is Outcome.HANDED_BACK:
            return not store.exchange(self._worker, [settlement], 0, ()).refused
        else:
            return store.reset_job(attempt, crashed=outcome is Outcome.CRASHED)
        return True

    def _can(self, capability: str) -> bool:
        return capability in self._store.capabilities

    def _all_ended(self) -> bool:
        ids = [f"r/j{n}" for n in range(JOBS)]
        found = [self._store.job_info(job_id) for job_id in ids]
        return all(info is not None and info.status is Status.FINISHED for info in found) and not (
            self._store.jobs_ready(TYPES)
        )
