"""Any sequence of verbs, on a store under test and on the model store, compared step by step.

    class MyMachine(StoreMachine):
        def make_store(self, directory, clock):
            return MyStore(directory / "jobs", clock=clock, crash_limit=3)

    def test_my_store_does_as_the_model_does():
        run_state_machine_as_test(MyMachine)

Both go by one clock, which the machine moves. After each step everything that can be seen is compared: what the verb
returned or the class of its error, every job, its history, who holds what, what is ready, counted, silent, drained. Of a
store without all capabilities only that is asked which it declares.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from overseer_lite.errors import OverseerError
from overseer_lite.graph import Graph
from overseer_lite.job import Attempt, AttemptRecord, Evidence, Failure, Job, Outcome, ReservedJob, Settlement, stored
from overseer_lite.store import Exchange, Refusal, Verdict, WorkerRecord
from overseer_lite.testing.clock import ManualClock
from overseer_lite.testing.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from overseer_lite.clock import Clock
    from overseer_lite.job import JobInfo
    from overseer_lite.store import Bell, FullStore

WORKERS: Final = ("w1", "w2")
TYPES: Final = ("t", "u")
RUNS: Final = ("r", "s")
NAMES: Final = ("a", "b", "c", "d")

# Few values, so that ids meet again; numbers pick from what there is by then, modulo its size.
_pick = st.integers(0, 23)
_workers = st.sampled_from(WORKERS)
_delays = st.sampled_from([None, 0.0, 5.0, 30.0])
_durations = st.sampled_from([1.0, 5.0, 29.0, 30.0, 60.0])
_failures = st.sampled_from(
    [None, Failure("exception", "boom", "E", "tb"), Failure("timeout", "too long", silent=True)]
)
_evidence = st.sampled_from([None, Evidence(), Evidence(9.0, 1.0, 3, 9, "words", 70)])
_results = st.sampled_from([None, "1", '{"ü":[null]}'])
_types = st.sampled_from([TYPES, ("t",), ("u", "unheard"), ()])
_submitted = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(TYPES),
        st.lists(_pick, max_size=2),  # dependencies: jobs before it in the graph, or stored ones
        st.sampled_from([0, 0, 0, 1, -1]),
        st.sampled_from([0.0, 0.0, 0.0, 5.0, 60.0]),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda job: job[0],
)
_added = st.lists(
    st.tuples(st.sampled_from(["x", "y", "a"]), st.sampled_from(TYPES), st.lists(_pick, max_size=1), st.booleans()),
    max_size=2,
    unique_by=lambda job: job[0],
)
_settled = st.tuples(_pick, st.sampled_from(Outcome), _results, _failures, _delays, _evidence)


def needs(*capabilities: str) -> Callable[[Any], Any]:
    """Leave a rule out where the store does not declare these."""
    return precondition(lambda machine: machine.store.capabilities.issuperset(capabilities))


class StoreMachine(RuleBasedStateMachine):
    """The verbs as rules. Override `make_store`."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory(prefix="overseer-lite-")
        self.clock = ManualClock()
        self.model: FullStore = MemoryStore(self.clock)
        self.store = self.make_store(Path(self._directory.name), self.clock)
        self.store.install()
        self.can = self.store.capabilities
        self.bells: dict[int, Bell] = {}
        self.ids: list[str] = []
        self.attempts: list[Attempt] = [Attempt("r/a", 1, "w1")]
        self.graphs: list[Graph] = []
        self._wall_s = self._highest_wall_s = 0.0

    def make_store(self, directory: Path, clock: Clock) -> FullStore:
        """Return a fresh store in that directory, or (if it declares `shared`) the one left there; crash limit 3."""
        raise NotImplementedError

    def teardown(self) -> None:
        """Take the store down."""
        self.close()
        self._directory.cleanup()

    def close(self) -> None:
        """Close the store under test, with its bells."""
        for bell in self.bells.values():
            bell.close()
        self.bells = {}
        if hasattr(self.store, "close"):
            self.store.close()

    def both(self, act: Callable[[FullStore], Any]) -> Any:
        """Ask both, compare, and return what the model said, None for an error."""
        expected, seen = _ask(self.model, act), _ask(self.store, act)
        assert plain(seen) == plain(expected), f"the store: {seen!r}\nthe model: {expected!r}"
        return None if isinstance(expected, Exception) else expected

    def settled_already(self, attempt: Attempt) -> bool:
        """Whether a store without history may answer otherwise than the model: it cannot know how the attempt ended."""
        if "history" in self.can:
            return False
        held = [held for worker in (*WORKERS, "w9") for held in self.model.held(worker)]
        return attempt not in held and self.model.job_info(attempt.job_id) is not None

    def kept(self, info: JobInfo | None) -> JobInfo | None:
        """Return what is known of a job, without what the store under test need not keep."""
        return info if info is None or "adders" in self.can else info._replace(adder=None)

    def some_id(self, pick: int) -> str:
        """Return an id that is stored, or seldom one that is not."""
        return self.ids[pick % len(self.ids)] if self.ids and pick else "r/nobody"

    def some_attempt(self, pick: int) -> Attempt:
        """Return an attempt that holds a job, an earlier one, or one that never was."""
        held = [attempt for worker in WORKERS for attempt in self.model.held(worker)]
        if held and pick >= 8:
            return held[pick % len(held)]
        attempt = self.attempts[-1 - pick % len(self.attempts)]
        if pick == 1:
            return attempt._replace(number=attempt.number + 1)
        return attempt._replace(worker="w9") if pick == 2 else attempt

    def seen(self, attempts: Iterable[Attempt | None]) -> None:
        """Keep attempts to come back to."""
        self.attempts = [*self.attempts, *(attempt for attempt in attempts if attempt)][-30:]

    def dependencies(self, picks: list[int], names: list[str]) -> list[Any]:
        """Return jobs named before, or stored ones."""
        return [
            names[pick % len(names)] if names and pick % 3 else stored(self.some_id(pick))
            for pick in picks
            if names or self.ids
        ]

    def settlement(self, drawn: tuple[Any, ...]) -> Settlement:
        """Return a settlement of some attempt."""
        pick, outcome, result, failure, delay_s, evidence = drawn
        if outcome is Outcome.FINISHED:
            return Settlement(self.some_attempt(pick), outcome, result, (), None, None, evidence)
        return Settlement(self.some_attempt(pick), outcome, None, (), failure, delay_s, evidence)

    # ---- submitting --------------------------------------------------------------------------------------------------

    @initialize(run=st.sampled_from(RUNS), drawn=_submitted)
    def begin(self, run: str, drawn: list[tuple[Any, ...]]) -> None:
        """Begin with a graph: nothing happens to an empty store."""
        self.submit(run, drawn)

    @rule(run=st.sampled_from([*RUNS, None]), drawn=_submitted)
    def submit_more(self, run: str | None, drawn: list[tuple[Any, ...]]) -> None:
        """Store another graph, as a new run, or under an id that is likely to conflict."""
        if len(self.ids) < 14:
            self.submit(run or f"n{len(self.graphs)}", drawn)

    def submit(self, run: str, drawn: list[tuple[Any, ...]]) -> None:
        """Store a graph."""
        graph = Graph({"shared": 1}, id=run)
        names: list[str] = []
        for name, kind, picks, priority, delay_s in drawn:
            graph.add(kind, name, {"own": len(picks)}, self.dependencies(picks, names), priority, delay_s)
            names.append(name)
        if self._is_a_matter_of_runs(graph):
            return
        self.graphs.append(graph)
        submitted = self.both(lambda store: store.transact_graph(graph))
        self.ids += submitted.created if submitted else []

    def _is_a_matter_of_runs(self, graph: Graph) -> bool:
        """Whether it conflicts only since its run is stored, with other jobs or more: not a store's that keeps no runs."""
        run = self.model.run_info(graph.id)
        if run is None or "runs" in self.can:
            return False
        there = [job for job in graph.jobs if self.model.job_info(graph.job_id(job))]
        return not there or (len(there) == len(graph.jobs) < run.counts.total)

    @rule(pick=_pick)
    def submit_the_same(self, pick: int) -> None:
        """Store a graph that was stored, or refused, before."""
        graph = self.graphs[pick % len(self.graphs)]
        if self._is_a_matter_of_runs(graph):
            return
        submitted = self.both(lambda store: store.transact_graph(graph))
        self.ids += submitted.created if submitted else []

    # ---- a worker's verbs --------------------------------------------------------------------------------------------

    @rule(worker=_workers, pick=_pick)
    def reserve(self, worker: str, pick: int) -> None:
        """Reserve some job, ready or not."""
        job_id = self.some_id(pick)
        self.seen([self.both(lambda store: store.reserve_job(worker, job_id))])

    @needs("exchange", "history", "requests")
    @rule(
        worker=_workers,
        drawn=st.lists(_settled, max_size=3),
        want=st.integers(0, 3),
        types=_types,
        limits=st.sampled_from([None, {"t": 1}, {"t": 2, "u": 0}]),
        pick=_pick,
    )
    def exchange(
        self,
        worker: str,
        drawn: list[tuple[Any, ...]],
        want: int,
        types: Collection[str],
        limits: dict[str, int] | None,
        pick: int,
    ) -> None:
        """Settle and reserve."""
        settlements = [self.settlement(each) for each in drawn]
        runs = [run.id for run in self.model.runs()]
        run = runs[pick % len(runs)] if runs and pick < 4 and "runs" in self.can else None
        limits = limits if "limits" in self.can else None
        exchange = self.both(
            lambda store: store.exchange(worker, settlements, want, types, limits=limits, run=run),
        )
        self.seen(job.attempt for job in exchange.jobs)

    @needs("exchange")
    @rule(worker=_workers, want=st.integers(1, 3), drawn=st.lists(_settled, max_size=3))
    def work(self, worker: str, want: int, drawn: list[tuple[Any, ...]]) -> None:
        """Reserve what there is, and settle some of it: what a worker does all day."""
        exchange = self.both(lambda store: store.exchange(worker, [], want, TYPES))
        self.seen(job.attempt for job in exchange.jobs)
        settlements = [
            self.settlement(each)._replace(attempt=job.attempt) for each, job in zip(drawn, exchange.jobs, strict=False)
        ]
        self.both(lambda store: store.exchange(worker, settlements, 0, ()))

    @rule(pick=_pick, drawn=_added, result=st.sampled_from([None, 0, "x"]))
    def finish(self, pick: int, drawn: list[tuple[Any, ...]], result: Any) -> None:
        """Finish some attempt, which may have added jobs."""
        attempt = self.some_attempt(pick)
        if not self.settled_already(attempt):
            self._finish(attempt, drawn, result)

    @rule(pick=_pick, drawn=_added, worker=_workers)
    def reserve_and_finish(self, pick: int, drawn: list[tuple[Any, ...]], worker: str) -> None:
        """Run a ready job to its good end: of attempts that are met by chance, hardly one still holds its job."""
        ready = self.model.jobs_ready()
        if ready:
            job_id = ready[pick % len(ready)]
            attempt = self.both(lambda store: store.reserve_job(worker, job_id))
            self.seen([attempt])
            self._finish(attempt, drawn, None)

    def _finish(self, attempt: Attempt, drawn: list[tuple[Any, ...]], result: Any) -> None:
        names: list[str] = []
        added: list[Job] = []
        for name, kind, picks, detached in drawn if len(self.ids) < 20 and "added" in self.can else []:
            dependencies = self.dependencies(picks, names)
            added.append(Job(kind, name=name, args={"n": 1}, dependencies=dependencies, detached=detached))
            names.append(name)
        self.both(lambda store: store.finish_job(attempt, result, added))
        run = attempt.job_id.partition("/")[0]
        there = [f"{run}/{name}" for name in names if self.model.job_info(f"{run}/{name}")]
        self.ids += [job_id for job_id in there if job_id not in self.ids]

    @rule(
        pick=_pick,
        verb=st.sampled_from(["fail", "reset", "crash", "abort", "heartbeat"]),
        failure=_failures,
        delay_s=_delays,
    )
    def settle(self, pick: int, verb: str, failure: Failure | None, delay_s: float | None) -> None:
        """Let some attempt say something by one of the eleven verbs."""
        attempt = self.some_attempt(pick)
        if self.settled_already(attempt) and verb in ("fail", "abort"):
            return
        acts: dict[str, Callable[[FullStore], Any]] = {
            "fail": lambda store: store.fail_job(attempt, failure, delay_s),
            "reset": lambda store: store.reset_job(attempt, delay_s or 0.0),
            "crash": lambda store: store.reset_job(attempt, delay_s or 0.0, crashed=True),
            "abort": lambda store: store.abort_job(attempt.job_id, failure, attempt),
            "heartbeat": lambda store: store.heartbeat_job(attempt),
        }
        self.both(acts[verb])

    # ---- workers, monitor, operator ----------------------------------------------------------------------------------

    @needs("workers")
    @rule(worker=_workers, verb=st.sampled_from(["register", "beat", "beat", "leave"]), types=_types)
    def come_or_go(self, worker: str, verb: str, types: Collection[str]) -> None:
        """Register a worker, anew or again, or let it beat or leave, registered or not."""
        if verb == "register":
            record = WorkerRecord(worker, 1, types=tuple(types))
            self.model.register(record)
            bell = self.store.register(record)
            self.bells[id(bell)] = bell
        elif verb == "beat":
            self.both(lambda store: store.beat(worker))
        else:
            self.both(lambda store: store.leave(worker))

    @needs("workers", "requests")
    @rule(worker=_workers, outcomes=st.lists(st.tuples(st.sampled_from(Outcome), _failures, _evidence), max_size=3))
    def recover(self, worker: str, outcomes: list[tuple[Outcome, Failure | None, Evidence | None]]) -> None:
        """Recover a worker's jobs, some with a verdict."""
        possible = (Outcome.HANDED_BACK, Outcome.CRASHED, Outcome.INTERRUPTED)
        verdicts = {
            attempt: Verdict(outcome, failure, evidence)
            for attempt, (outcome, failure, evidence) in zip(self.model.held(worker), outcomes, strict=False)
            if outcome in possible
        }
        self.both(lambda store: store.recover(worker, verdicts))

    @rule(pick=_pick, failure=_failures)
    def abort(self, pick: int, failure: Failure | None) -> None:
        """Abort some job; of one that is started that is a wish, which not every store takes."""
        job_id = self.some_id(pick)
        info = self.model.job_info(job_id)
        if "requests" in self.can or info is None or info.worker is None:
            self.both(lambda store: store.abort_job(job_id, failure))

    @needs("requests", "retry")
    @rule(pick=_pick, verb=st.sampled_from(["wish to abort", "wish to reset", "retry"]))
    def operate(self, pick: int, verb: str) -> None:
        """Let an operator act on some job, or on two."""
        job_id = self.some_id(pick)
        ids = list(dict.fromkeys([job_id, self.some_id(pick // 2)]))
        acts: dict[str, Callable[[FullStore], Any]] = {
            "wish to abort": lambda store: store.request(job_id, "abort"),
            "wish to reset": lambda store: store.request(job_id, "reset"),
            "retry": lambda store: store.retry(ids),
        }
        self.both(acts[verb])

    @needs("retry", "looking")
    @rule()
    def retry_all(self) -> None:
        """Retry all that can be."""
        ids = [job.id for job in self.model.jobs() if job.status in ("failed", "aborted")]
        self.both(lambda store: store.retry(ids))

    # ---- time, and the store's own coming and going ------------------------------------------------------------------

    @rule(verb=st.sampled_from(["advance", "advance", "advance", "suspend", "forward", "back"]), seconds=_durations)
    def let_time_pass(self, verb: str, seconds: float) -> None:
        """Let time pass, or the machine sleep, or set the wall clock."""
        if verb == "advance":
            self.clock.advance(seconds)
        elif verb == "suspend":
            self.clock.suspend(seconds)
        else:
            self._step_wall(seconds * 1e4 if verb == "forward" else -seconds * 1e4)

    def _step_wall(self, seconds: float) -> None:
        self.clock.step_wall(seconds)
        self._wall_s += seconds
        self._highest_wall_s = max(self._highest_wall_s, self._wall_s)

    @rule(off_s=st.sampled_from([None, 0.0, 10.0, 100.0]))
    def reboot(self, off_s: float | None) -> None:
        """Boot anew, or only open the store anew; one that nobody can open a second time stays open.

        With a wall clock that was set back, whether a job whose time has come waits once more depends on whether
        anybody had looked at it in between: a store may, but need not, have noted it. So it is set right first.
        """
        if off_s is not None:
            self._step_wall(self._highest_wall_s - self._wall_s)
            self.clock.reboot(off_s=off_s)
        if "shared" in self.can:
            self.close()
            self.store = self.make_store(Path(self._directory.name), self.clock)

    # ---- what must be the same ---------------------------------------------------------------------------------------

    @invariant()
    def all_that_can_be_seen_is_the_same(self) -> None:
        """Compare everything, one kind of thing after the other."""
        for job_id in self.ids:
            self.both(lambda store, job_id=job_id: self.kept(store.job_info(job_id)))  # type: ignore[misc]
            if "history" in self.can:
                self.both(lambda store, job_id=job_id: store.attempts(job_id))  # type: ignore[misc]
        if "histories" in self.can:
            self.both(lambda store: store.attempts_of(self.ids))
        self.both(lambda store: store.jobs_ready())
        self.both(lambda store: store.jobs_dead(0.5))
        if "looking" in self.can:
            self.both(lambda store: [self.kept(job) for job in store.jobs()])
            self.both(lambda store: store.counts())
            self.both(lambda store: [store.drained([kind]) for kind in TYPES])
            self.both(lambda store: store.dependents(self.ids[:1]) if self.ids else [])
        if "runs" in self.can:
            self.both(lambda store: store.runs())
        if "workers" in self.can:
            self.both(lambda store: store.workers())
        for worker in WORKERS:
            if "workers" in self.can:
                self.both(lambda store, worker=worker: store.held(worker))  # type: ignore[misc]
            if "requests" in self.can:
                self.both(lambda store, worker=worker: sorted(store.requests(worker)))  # type: ignore[misc]


def _ask(store: FullStore, act: Callable[[FullStore], Any]) -> Any:
    try:
        return act(store)
    except OverseerError as error:
        return error


def plain(value: Any) -> Any:
    """Return a value as it is compared: JSON parsed, times in microseconds, words for people and the store's own keys left out."""
    if isinstance(value, OverseerError):
        return type(value).__name__
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, Refusal):
        return [*value.attempt, value.reason]
    if isinstance(value, ReservedJob):
        return plain(tuple(value._replace(args_json=json.loads(value.args_json), key=0)))
    if isinstance(value, Exchange):
        return {"jobs": plain(value.jobs), "refused": plain(value.refused), "next_due_s": plain(value.next_due_s)}
    if isinstance(value, AttemptRecord):
        return plain(value._asdict())
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
