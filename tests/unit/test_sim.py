"""The simulation: sound stores pass it, stores with one broken verb do not, and a seed that fails does so again."""

from __future__ import annotations

import random

import pytest

import overseer_lite as overseer
from overseer_lite.errors import InvalidInputError, MissingHandlerError
from overseer_lite.job import Outcome, Status
from overseer_lite.testing import MemoryStore, Sim, SimulationError, diff, lease, sqlite_factory

BOUND = 200  # seeds within which each of the broken stores is found

handlers = overseer.Handlers()


@handlers(retries=2)
def load(job):
    if random.random() < 0.3:
        raise ConnectionError("no answer")
    job.add("part", name=f"part-{job.attempt}")


@handlers
def part(job):
    return job.name


@handlers
def merge(job):
    return sorted(job.results.of("part"))


GRAPH = {"load": [], "merge": ["load"]}


# ---- sound stores ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["lease", "local"])
def test_the_memory_store_passes(profile):
    """Crashes, silences and commits of which nobody hears, at any step."""
    assert Sim(profile=profile, trouble=0.2).search(80) == 80


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["lease", "local"])
def test_the_sqlite_store_passes(profile):
    """The real engine, in this process."""
    assert Sim(profile=profile, store=sqlite_factory).search(6) == 6


@pytest.mark.slow
def test_both_stores_do_the_same_for_the_same_seed():
    """Nothing in a trace depends on the store: not the order in which jobs are reserved, either."""
    for seed in range(4):
        assert diff(Sim().run(seed), Sim(store=sqlite_factory).run(seed)) == ""


# ---- broken ones -----------------------------------------------------------------------------------------------------


class NoFence(MemoryStore):
    """Whoever settles a job settles it, were it another's by now."""

    def _settle(self, settlement):
        job = self._jobs[settlement.attempt.job_id]
        holder = job.holder or settlement.attempt
        return super()._settle(settlement._replace(attempt=holder))


class ResetByAge(NoFence):
    """Puts back what was reserved a while ago, though its worker beats; and there is no fence."""

    def exchange(self, worker, settlements, want, types, **options):
        now_us = self.clock.read().wall_us
        for job in list(self._jobs.values()):
            if job.holder and now_us - job.reserved_wall_us > 15e6:
                self.reset_job(job.holder)
        return super().exchange(worker, settlements, want, types, **options)


class TakesTheBeatingForSilent(MemoryStore):
    """Everything that is started is silent."""

    def jobs_dead(self, silent_for_s):
        return [job.holder for job in self._jobs.values() if job.holder]


class LosesAJob(MemoryStore):
    """The last job of a graph is acknowledged, and not stored."""

    def transact_graph(self, graph):
        done = super().transact_graph(graph)
        if done.created:
            del self._jobs[done.created[-1]]
        return done


class ReleasesEarly(MemoryStore):
    """A job is ready as soon as one of its dependencies has finished."""

    def _waiting_for(self, job):
        missing = super()._waiting_for(job)
        return missing if missing == len(job.dependencies) else 0


class GivesTheNumberAgain(MemoryStore):
    """An attempt that was reset leaves no trace of its number."""

    def reset_job(self, attempt, delay_s=0.0, crashed=False):
        done = super().reset_job(attempt, delay_s, crashed)
        self._jobs[attempt.job_id].attempt -= done
        return done


class NoCrashLimit(MemoryStore):
    """A job that kills its runner every time is tried for ever."""

    @staticmethod
    def _check_limit(*_args, **_named):
        pass


class ForgetsTheEnd(MemoryStore):
    """Every third finish is acknowledged, and not written."""

    count = 0

    def _settle(self, settlement):
        if settlement.outcome is Outcome.FINISHED:
            self.count += 1
            if self.count % 3 == 0:
                return []
        return super()._settle(settlement)


class FinishesTwice(MemoryStore):
    """A reset takes finished jobs of that worker back as well."""

    def recover(self, worker, verdicts):
        for job in self._jobs.values():
            if job.status is Status.FINISHED and job.history[-1].worker == worker:
                job.status = Status.UNSTARTED
        return super().recover(worker, verdicts)


class RecoversTooLittle(MemoryStore):
    """The first attempt of a dead worker stays started, by nobody."""

    def recover(self, worker, verdicts):
        for job in self._held(worker)[:1]:
            job.worker = "nobody"
        return super().recover(worker, verdicts)


class KeepsNoDelay(MemoryStore):
    """What failed is ready at once."""

    def _due(self, delay_s):
        return None


class GivesOneToTwo(MemoryStore):
    """What is started may be reserved once more."""

    def _ready(self, types, run):
        started = [job for job in self._jobs.values() if job.status is Status.STARTED]
        for job in started:
            job.status = Status.UNSTARTED
        ready = super()._ready(types, run)
        for job in started:
            if job not in ready:
                job.status = Status.STARTED
        return ready


class HearsNoSilence(MemoryStore):
    """Nobody is ever silent, so what the dead held stays where it is."""

    def jobs_dead(self, silent_for_s):
        return []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "profile", "promise"),
    [
        (NoFence, "lease", "fence P1"),
        (ResetByAge, "lease", "P1"),
        (ResetByAge, "local", "P1"),
        (TakesTheBeatingForSilent, "lease", "P1"),
        (LosesAJob, "lease", "P3"),
        (ReleasesEarly, "lease", "P4"),
        (GivesTheNumberAgain, "lease", "P5"),
        (NoCrashLimit, "lease", "P5"),
        (ForgetsTheEnd, "lease", "P2"),
        (FinishesTwice, "local", "P2"),
        (RecoversTooLittle, "local", "P3"),
        (KeepsNoDelay, "lease", "P5"),
        (GivesOneToTwo, "local", "P1"),
        (HearsNoSilence, "lease", "P3"),
    ],
)
def test_a_store_with_one_broken_verb_is_found(store, profile, promise):
    """Within a bounded number of seeds, by the promise it breaks; and the seed shows it again, event for event."""
    sim = Sim(profile=profile, store=lambda _directory, clock: store(clock, crash_limit=3))
    with pytest.raises(SimulationError) as failure:
        sim.search(BOUND)
    found = failure.value

    assert {violation.promise for violation in found.violations} & set(promise.split())
    with pytest.raises(SimulationError) as again:
        sim.run(found.seed)
    assert diff(found.trace, again.value.trace) == ""
    assert again.value.violations == found.violations


# ---- what it says and takes ------------------------------------------------------------------------------------------


def test_a_failing_seed_is_said_with_what_happened():
    """How to run it again, which promise it broke, and the trace up to there."""
    sim = Sim(store=lambda _directory, clock: LosesAJob(clock, crash_limit=3))
    with pytest.raises(SimulationError) as failure:
        sim.run(5)
    message = str(failure.value)

    assert message.startswith("Seed 5 breaks a promise; run(5) shows it again.\n  P")
    assert "is not in the store" in message
    assert '"event":"state"' in message


def test_handlers_are_called_and_their_attempts_survive_trouble():
    """Results, retries and what is added, whatever died when; and everything has run in the end."""
    calls = []
    noted = {**handlers, "merge": lambda job: calls.append((job.attempt, sorted(job.results.of("part"))))}
    sim = Sim(GRAPH, noted, trouble=0.2, workers=4)

    for seed in range(10):
        calls.clear()
        trace = sim.run(seed)
        status = {event.job: event.more["status"] for event in trace if event.event == "state"}
        if status["sim/load"] == "finished":
            ((attempt, parts),) = calls[-1:]
            assert attempt >= 1
            assert [part.rstrip("0123456789") for part in parts] == ["part-"]
            assert status["sim/merge"] == "finished"


def test_the_same_seed_gives_the_same_trace():
    """Python's own random among it, which is as it was before afterwards; another seed gives another."""
    sim = Sim(GRAPH, handlers)
    random.seed(1)
    expected = random.random()
    random.seed(1)
    one = sim.run(3)
    assert random.random() == expected

    assert sim.run(3) == one
    assert sim.run(4) != one


def test_no_trouble_means_no_attempt_is_lost():
    """Then a simulation is many workers, and nothing else."""
    trace = Sim({"part": []}, handlers, trouble=0).run(1)

    assert [event.event for event in trace if event.event in ("reset", "interrupted")] == []


def test_what_makes_no_sense_is_refused():
    """Before anything is run."""
    with pytest.raises(InvalidInputError, match="0 workers"):
        Sim(workers=0)
    with pytest.raises(MissingHandlerError):
        Sim({"prt": []}, handlers).run(1)


class Eleven:
    """A store of the eleven verbs alone."""

    capabilities = frozenset()

    def __init__(self, clock):
        self._store = MemoryStore(clock, crash_limit=3)
        self.clock = clock

    def __getattr__(self, name):
        if name in (
            "install", "transact_graph", "job_info", "jobs_ready", "reserve_job", "heartbeat_job", "finish_job",
            "fail_job", "reset_job", "abort_job", "jobs_dead",
        ):  # fmt: skip
            return getattr(self._store, name)
        raise AttributeError(name)


def test_a_store_of_eleven_verbs_can_be_simulated():
    """By a lease; where it knows no workers, nobody can recover those of a dead one."""
    make = lambda _directory, clock: Eleven(clock)  # noqa: E731

    assert Sim(GRAPH, handlers, store=make, profile=lease(10, 3)).search(10) == 10
    with pytest.raises(InvalidInputError, match="lease"):
        Sim(GRAPH, handlers, store=make, profile="local").run(1)
