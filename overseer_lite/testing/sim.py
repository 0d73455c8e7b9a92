"""Simulation: many virtual workers in one thread, virtual time, an order drawn by lot; crash and silence at any step.

    Sim(graph, handlers).search(200)             # a team's handlers, on a store in memory
    Sim(store=my_factory).search(200)            # a store, with graphs and outcomes that are drawn as well

A seed decides everything, so one that fails is printed and can be run again: `Sim(...).run(17)`. Each run ends in calm:
nothing more goes wrong, and all that can run must have run. Then its trace is held against the promises.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from overseer_lite.errors import InvalidInputError, OverseerError
from overseer_lite.graph import Graph, as_graph, validate_graph_handlers
from overseer_lite.handler import RunningJob, as_handlers, execute
from overseer_lite.job import Job, Outcome, ReservedJob, Settlement
from overseer_lite.testing.clock import ManualClock
from overseer_lite.testing.memory import MemoryStore
from overseer_lite.testing.player import states
from overseer_lite.testing.profiles import Profile, profile_of
from overseer_lite.testing.promises import Violation, verify
from overseer_lite.testing.record import EventLog, Recorder
from overseer_lite.testing.trace import Trace, trace_of
from overseer_lite.testing.virtual import VirtualWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from overseer_lite.clock import Clock

CRASH_LIMIT: Final = 3
_CALM_STEPS: Final = 4_000
_SHOWN_LINES: Final = 40
_DRAWN_TYPE: Final = "drawn"
_POISON: Final = "poison"  # kills its runner every time


class SimulationError(OverseerError, AssertionError):
    """A simulation broke a promise, or did not come to an end.

    Attributes:
        seed: Give it to `run`, of a `Sim` made the same way, and the same happens again.
        trace: What happened.
        violations: What of it breaks a promise.
    """

    def __init__(self, seed: int, trace: Trace, violations: list[Violation]) -> None:
        self.seed, self.trace, self.violations = seed, trace, violations
        found = "".join(f"\n  {violation}" for violation in violations[:10])
        last = max(violation.line for violation in violations)
        lines = trace.to_jsonl().splitlines()[:last]
        start = max(0, len(lines) - _SHOWN_LINES)
        shown = "".join(f"\n  {number}: {line}" for number, line in enumerate(lines[start:], start + 1))
        super().__init__(
            f"Seed {seed} breaks a promise; run({seed}) shows it again.{found}\nThe trace until then:{shown}"
        )


class Sim:
    """A simulation of one graph on one kind of store.

    Args:
        graph: As for `submit`; one drawn by lot, another for each seed, if not given.
        handlers: What jobs do. They are called in this thread, each attempt at once; a worker may die after that and
            before the store has heard of it, so an attempt may well be made again. Without handlers, how each attempt
            ends is drawn.
        args: The graph's.
        workers: How many.
        steps: How many steps are taken before the calm.
        trouble: How likely a step is a crash, a silence, or a commit of which nobody hears; 0: none is.
        profile: How deaths are found; `lease` tries the fence much harder.
        store: Makes the store, as for `test-store`: called with a fresh directory and the clock, with a crash limit of
            3; a MemoryStore unless given.
        context: What handlers find as `job.context`.
    """

    def __init__(
        self,
        graph: Any = None,
        handlers: Mapping[str, Any] | None = None,
        *,
        args: Mapping[str, Any] | None = None,
        workers: int = 3,
        steps: int = 200,
        trouble: float = 0.1,
        profile: str | Profile = "lease",
        store: Callable[[Path, Clock], Any] | None = None,
        context: Any = None,
    ) -> None:
        if workers < 1 or not 0 <= trouble <= 1:
            raise InvalidInputError(f"A simulation of {workers} workers with trouble {trouble!r} cannot be run.")
        self._graph, self._args = graph, dict(args or {})
        self._handlers = None if handlers is None else as_handlers(handlers)
        self.workers, self.steps, self.trouble = workers, steps, trouble
        self.profile = profile_of(profile)
        self._make_store = store or (lambda _directory, clock: MemoryStore(clock, crash_limit=CRASH_LIMIT))
        self._context = context

    def search(self, seeds: int | Iterable[int] = 100) -> int:
        """Run one seed after another; return how many there were.

        Args:
            seeds: How many, from 0; or which.

        Raises:
            SimulationError: The first that broke a promise.
        """
        chosen = range(seeds) if isinstance(seeds, int) else seeds
        count = 0
        for seed in chosen:
            self.run(seed)
            count += 1
        return count

    def run(self, seed: int) -> Trace:
        """Run one seed; return what happened. The same seed gives the same trace.

        Python's own `random` is seeded meanwhile, so handlers and backoff that draw from it repeat as well.

        Raises:
            SimulationError: A promise was broken, or not all that could run has run.
        """
        before = random.getstate()
        random.seed(seed)
        try:
            with tempfile.TemporaryDirectory(prefix="overseer-lite-") as directory:
                clock = ManualClock()
                store = Recorder(self._make_store(Path(directory), clock), EventLog())
                try:
                    return self._run(seed, store, clock)
                finally:
                    store.close()
        finally:
            random.setstate(before)

    def _run(self, seed: int, store: Any, clock: ManualClock) -> Trace:
        store.install()
        if self.profile.kernel and "workers" not in store.capabilities:
            raise InvalidInputError("A store that knows no workers cannot recover those of a dead one: use a lease.")
        chance = random.Random(seed)
        graph = _drawn_graph(chance) if self._graph is None else as_graph(self._graph, self._args).with_id("sim")
        if self._handlers is not None:
            validate_graph_handlers(self._handlers, graph)
        world = _World(self, graph, store, clock, chance)
        cause: Exception | None = None
        try:
            world.submit()
            for _ in range(self.steps):
                world.step(self.trouble)
            world.calm()
        except Exception as error:  # noqa: BLE001 - whatever a store raises here, it has no reason to
            world.object("error", f"{type(error).__name__}: {error}")
            cause = error
        trace = trace_of(store.log.read(), lambda *_attempt: None)
        for fields in states(store, trace):
            store.event(fields)
        trace = trace_of(store.log.read(), lambda *_attempt: None)
        violations = verify(trace, crash_limit=CRASH_LIMIT) + world.violations
        if violations:
            raise SimulationError(seed, trace, violations) from cause
        return trace

    # ---- what jobs do

    def types(self, graph: Graph) -> tuple[str, ...]:
        """Return the types that the workers take."""
        return tuple(self._handlers or dict.fromkeys([*(job.type for job in graph.jobs), _DRAWN_TYPE, _POISON]))

    def settle(self, reserved: ReservedJob, chance: random.Random) -> Settlement:
        """Make an attempt: call its handler, or draw how it ends."""
        if self._handlers is None:
            return _drawn_end(reserved, chance)
        ending = execute(self._handlers[reserved.type], RunningJob.of(reserved, self._context))
        delay_s = ending.retry_in_s if ending.outcome is Outcome.FAILED else ending.delay_s
        return Settlement(reserved.attempt, ending.outcome, ending.result_json, ending.added, ending.failure, delay_s)


class _World:
    """The workers, the monitor and the clock of one run."""

    def __init__(self, sim: Sim, graph: Graph, store: Any, clock: ManualClock, chance: random.Random) -> None:
        self._sim, self._graph, self._store, self._clock, self._chance = sim, graph, store, clock, chance
        self._types = sim.types(graph)
        self._count = 0
        self._dead: list[VirtualWorker] = []
        self.violations: list[Violation] = []
        self._workers = [self._new_worker() for _ in range(sim.workers)]

    def submit(self) -> None:
        """Submit the graph, sometimes twice: the second time changes nothing."""
        self._store.transact_graph(self._graph)
        if self._chance.random() < 0.3:
            self._store.transact_graph(self._graph)

    # ---- steps

    def step(self, trouble: float) -> None:
        """Take one step of somebody."""
        draw = self._chance.random()
        if draw < 0.1:
            self._pass_time(self._chance.choice((0.5, 1.0, self._sim.profile.heartbeat_interval_s)))
        elif draw < 0.2:
            self._monitor()
        else:
            awake = [worker for worker in self._workers if worker.wakes_us is None]
            if awake:
                worker = self._chance.choice(awake)
                if self._chance.random() < trouble:
                    self._trouble(worker)
                else:
                    self._work(worker)
            else:
                self._pass_time(self._sim.profile.heartbeat_interval_s)

    def _work(self, worker: VirtualWorker) -> None:
        can: list[Callable[[], None]] = [lambda: worker.exchange(self._chance.randint(0, 2))]
        if worker.queue and worker.running is None:
            can += [lambda: self._begin(worker)] * 3
        if worker.queue:
            can.append(worker.hand_back)
        if worker.running is not None:
            can += [lambda: worker.end(lambda job: self._sim.settle(job, self._chance))] * 2
        self._chance.choice(can)()

    def _begin(self, worker: VirtualWorker) -> None:
        job = worker.begin()
        if not self._sim.profile.kernel:
            return  # a silent worker may run on beside the next one: only its writes are fenced
        for other in self._workers:
            if other is not worker and other.running and other.running.attempt.job_id == job.attempt.job_id:
                self.object("P1", f"{job.attempt} began while {other.running.attempt} was running")

    def _trouble(self, worker: VirtualWorker) -> None:
        kind = self._chance.choice(("die", "die unheard", "silence", "unheard"))
        if "unheard" in kind:
            worker.exchange(self._chance.randint(0, 2), heard=False)
        if kind.startswith("die"):
            self._die(worker)
        elif kind == "silence":
            silent_s = self._chance.uniform(0, 2 * self._sim.profile.silent_for_s)
            worker.wakes_us = self._now_us() + round(silent_s * 1e6)

    def _die(self, worker: VirtualWorker) -> None:
        worker.die()
        self._workers.remove(worker)
        self._dead.append(worker)
        self._workers.append(self._new_worker())

    def _new_worker(self) -> VirtualWorker:
        self._count += 1
        return VirtualWorker(f"w{self._count}", self._store, self._types, self._now_us())

    # ---- time, and who looks after whom

    def _now_us(self) -> int:
        return self._clock.read().monotonic_us

    def _pass_time(self, seconds: float) -> None:
        """Let time pass, at most one beat; then those that are awake beat."""
        self._clock.advance(seconds)
        now_us = self._now_us()
        for worker in self._workers:
            if worker.wakes_us is not None and worker.wakes_us <= now_us:
                worker.wakes_us = None
            if worker.wakes_us is None:
                worker.beat(now_us)

    def _monitor(self) -> None:
        """Put back what the dead and the silent held, as the profile has it."""
        silent_for_s = self._sim.profile.silent_for_s
        if self._sim.profile.kernel:
            silent_us = self._now_us() - round(silent_for_s * 1e6)
            for worker in [one for one in self._workers if one.wakes_us is not None and one.beat_us < silent_us]:
                self._die(worker)  # made sure of: a silent one is killed before anything is reset
            for worker in self._dead:
                self._store.recover(worker.id, worker.verdicts())
            self._dead.clear()
            return
        beaten = {one.id: one.beat_us for one in self._workers if one.wakes_us is None}
        for attempt in self._store.jobs_dead(silent_for_s):
            if attempt.worker in beaten and self._now_us() - beaten[attempt.worker] < silent_for_s * 1e6:
                self.object("P1", f"{attempt} is taken for silent, and its worker has beaten all the time")
            self._store.reset_job(attempt)

    def calm(self) -> None:
        """Let all that can run come to its end, without trouble."""
        for worker in self._workers:
            worker.wakes_us = None
        for _ in range(_CALM_STEPS):
            self.step(0.0)
            if self._done():
                return
            if all(worker.idle for worker in self._workers):
                self._pass_time(self._sim.profile.heartbeat_interval_s)
        left = [f"{info.id} is {info.status}" for info in self._infos() if not (info.status.terminal or info.stuck)]
        self.object("P3", f"it does not come to an end: {', '.join(left) or 'a worker is not done'}")

    def _done(self) -> bool:
        return (
            all(worker.idle for worker in self._workers)
            and not (self._dead and self._sim.profile.kernel)
            and all(info.status.terminal or info.stuck for info in self._infos())
        )

    def _infos(self) -> list[Any]:
        if "looking" in self._store.capabilities:
            found: list[Any] = self._store.jobs()
            return found
        ids = [self._graph.job_id(job) for job in self._graph.jobs]
        return [info for info in map(self._store.job_info, ids) if info is not None]

    def object(self, promise: str, message: str) -> None:
        """Note a promise that was broken here."""
        line = len(trace_of(self._store.log.read(), lambda *_attempt: None))
        self.violations.append(Violation(promise, line, message))


# ---- by lot ----------------------------------------------------------------------------------------------------------


def _drawn_graph(chance: random.Random) -> Graph:
    """Draw a graph of two to seven jobs."""
    graph = Graph(id="sim")
    jobs: list[Job] = []
    for number in range(chance.randint(2, 7)):
        dependencies = chance.sample(jobs, min(len(jobs), chance.choice((0, 1, 1, 2))))
        delay_s = chance.choice((0.0, 0.0, 0.0, 3.0))
        priority = chance.choice((0, 0, 1))
        kind = _POISON if chance.random() < 0.05 else _DRAWN_TYPE
        jobs.append(graph.add(kind, name=f"j{number}", dependencies=dependencies, priority=priority, delay_s=delay_s))
    return graph


def _drawn_end(reserved: ReservedJob, chance: random.Random) -> Settlement:
    """Draw how an attempt ends: mostly well."""
    attempt = reserved.attempt
    draw = chance.random()
    if reserved.type == _POISON:
        return Settlement(attempt, Outcome.CRASHED)
    if draw < 0.7 or attempt.number > 8:
        added = [Job(_DRAWN_TYPE, name=f"{reserved.name}-more", detached=chance.random() < 0.5)] if draw < 0.05 else []
        if reserved.name.count("more") > 1:
            added = []
        return Settlement(attempt, Outcome.FINISHED, str(attempt.number), added)
    if draw < 0.8:
        return Settlement(attempt, Outcome.FAILED, delay_s=chance.choice((0.0, 5.0)))
    if draw < 0.88:
        return Settlement(attempt, Outcome.FAULTED, delay_s=chance.choice((None, 0.0, 2.0)))
    if draw < 0.96:
        return Settlement(attempt, Outcome.CRASHED)
    return Settlement(attempt, Outcome.FAILED if draw < 0.98 else Outcome.ABORTED)
