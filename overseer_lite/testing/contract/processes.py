"""Several processes on one store: c250 to c259."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from overseer_lite.job import Attempt
from overseer_lite.liveness.spawn import python_argv
from overseer_lite.testing.clock import SharedClock
from overseer_lite.testing.contract.clauses import Clauses, check_needs, needs
from overseer_lite.testing.contract.judge import Journal, judge
from overseer_lite.testing.elsewhere import JOBS, OWN_RUNS, Plan, crowd, own_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from overseer_lite.store import FullStore

PROCESSES: Final = 4
KILLS: Final = 6
_END_S: Final = 90.0
_LOOK_S: Final = 0.002


class Shared(NamedTuple):
    """A store that other processes open as well, by one clock, which stands still.

    Attributes:
        spawned: All processes that were started on it, or on another that was made from it.
    """

    store: FullStore
    clock: SharedClock
    directory: Path
    factory: str
    spawned: list[subprocess.Popen[bytes]]

    def spawn(self, verb: str, **more: object) -> subprocess.Popen[bytes]:
        """Start a process that opens the store for itself and does that."""
        address = str(getattr(self.store, "path", ""))
        plan = Plan(str(self.directory), address, self.factory, self.clock.path, verb)._replace(**more)  # type: ignore[arg-type]
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
        process = subprocess.Popen(
            python_argv("overseer_lite.testing.elsewhere", plan),
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.spawned.append(process)
        return process


def end(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process; return its exit code, and fail with its words if it ended by itself and badly."""
    try:
        words, _ = process.communicate(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        words, _ = process.communicate()
        pytest.fail(f"a process had not ended after {_END_S:g} s: {words.decode(errors='replace')}")
    assert process.returncode in (0, -signal.SIGKILL), words.decode(errors="replace")
    return process.returncode


class _Hammer:
    """Processes that work on one store, each with its journal."""

    def __init__(self, shared: Shared, journals: Path) -> None:
        self._shared, self._journals = shared, journals
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, seed: int, go: str = "", **more: object) -> None:
        """Start one more, which opens the store when a file of the name `go` is there, if one is given."""
        worker = f"w{seed}"
        self.processes[worker] = self._shared.spawn(
            "hammer", worker=worker, seed=seed, journal=str(self._journals / worker), go=go, **more
        )

    def let_go(self, go: Path) -> None:
        """Let all begin at once, when all are there."""
        for worker in self.processes:
            self.wait_written(worker, 1)
        go.touch()

    def wait_written(self, worker: str, lines: int) -> bool:
        """Wait until a process has written so much into its journal; False: it ended before."""
        path = self._journals / worker
        while not path.exists() or path.read_bytes().count(b"\n") < lines:
            if self.processes[worker].poll() is not None:
                return False
            time.sleep(_LOOK_S)
        return True

    def end_all(self) -> list[Journal]:
        """Wait for all that are left; return what each did."""
        for process in self.processes.values():
            end(process)
        return [Journal.read(self._journals / worker) for worker in self.processes]


def put_back(store: FullStore, worker: str, workers: Iterable[str]) -> None:
    """Do what a monitor does after a worker's proved death, by what the store has for it.

    Args:
        workers: All that have been at work: it may have held a job that any of them submitted.
    """
    if "workers" in store.capabilities:
        store.recover(worker, {})
        return
    graphs = [crowd(), *(own_graph(one, number + 1) for one in workers for number in range(OWN_RUNS))]
    for job_id in (graph.job_id(job) for graph in graphs for job in graph.jobs):
        info = store.job_info(job_id)
        if info is not None and info.worker == worker:
            store.reset_job(Attempt(job_id, info.attempt, worker))


class ProcessClauses(Clauses):
    """Several processes on one store: c250 to c259."""

    @pytest.fixture
    def share(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Shared]]:
        """Make stores under test that several processes open, each in a folder of that name; leave no process behind."""
        stores: list[FullStore] = []
        spawned: list[subprocess.Popen[bytes]] = []

        def make(name: str) -> Shared:
            directory = tmp_path / name
            directory.mkdir()
            clock = SharedClock.create(tmp_path / f"{name}.clock")
            store = self.make_store(directory, clock)
            check_needs(store, request)
            store.install()
            stores.append(store)
            return Shared(store, clock, directory, self.factory, spawned)

        yield make
        for process in spawned:
            if process.poll() is None:  # the clause failed, and the others did not wait for that
                process.kill()
            process.communicate()
        for store in stores:
            if hasattr(store, "close"):
                store.close()

    @needs("shared")
    def test_c250_what_one_process_wrote_another_reads(self, share: Callable[[str], Shared]) -> None:
        """At once, after the verb has returned, whoever opened the store first."""
        shared = share("store")
        assert shared.store.jobs_ready() == []
        assert end(shared.spawn("transact_graph")) == 0
        assert shared.store.jobs_ready() == ["r/a"]
        attempt = shared.store.reserve_job("w1", "r/a")
        assert attempt == Attempt("r/a", 1, "w1")
        assert end(shared.spawn("finish_job")) == 0
        found = shared.store.job_info("r/a")
        assert found is not None
        assert (found.status, found.result) == ("finished", {"rows": 3})

    @needs("shared")
    def test_c251_many_processes_at_once_keep_every_promise(
        self, share: Callable[[str], Shared], tmp_path: Path
    ) -> None:
        """Installing, submitting, reserving, beating and settling as fast as they can.

        Of those that submit the same graph one creates it. Never have two a job at a time; no number is given twice; no
        job begins before its dependencies finished, nor after it finished itself; each end is counted once and told
        once; dependents are given the results that were settled.
        """
        shared = share("store")
        hammer, go = _Hammer(shared, tmp_path), tmp_path / "go"
        for seed in range(PROCESSES):
            hammer.start(seed, str(go))
        hammer.let_go(go)
        journals = hammer.end_all()
        assert judge(shared.store, journals) == []
        created = [submit[1] for journal in journals for submit in journal.submits if submit[0] == "r"]
        assert sorted(created) == [*[0] * (PROCESSES - 1), JOBS]
        assert sum(bool(journal.tenures) for journal in journals) > 1, "one had them all: nothing was shown"

    @needs("shared")
    def test_c252_processes_killed_in_the_middle_leave_every_promise_kept(
        self, share: Callable[[str], Shared], tmp_path: Path
    ) -> None:
        """SIGKILL at any moment: what was acknowledged happened, what was not did so whole or not at all.

        Nobody waits for the dead, and what they had is put back once, by whoever has proved their death.
        """
        shared = share("store")
        hammer = _Hammer(shared, tmp_path)
        for seed in range(PROCESSES):
            hammer.start(seed)
        killed = []
        for n in range(KILLS):
            victim = f"w{n}"
            if hammer.wait_written(victim, 4 + 3 * n):
                hammer.processes[victim].kill()
                if end(hammer.processes[victim]) == -signal.SIGKILL:
                    killed.append(victim)
            put_back(shared.store, victim, hammer.processes)
            hammer.start(PROCESSES + n)
        journals = hammer.end_all()
        assert killed, "no process was at work long enough to be killed"
        assert judge(shared.store, journals, killed) == []

    @needs("shared")
    def test_c253_many_processes_may_install_at_once(self, share: Callable[[str], Shared], tmp_path: Path) -> None:
        """Whoever comes first makes the store, the others find it: what is submitted right after it is not lost."""
        shared = share("store")
        new = shared._replace(directory=tmp_path / "new")
        new.directory.mkdir()
        address = str(getattr(shared.store, "path", "")).replace(str(shared.directory), str(new.directory))
        hammer, go = _Hammer(new, tmp_path), tmp_path / "go"
        for seed in range(PROCESSES):
            hammer.start(seed, str(go), address=address)
        hammer.let_go(go)
        journals = hammer.end_all()
        store = self.make_store(new.directory, new.clock)
        store.install()
        assert judge(store, journals) == []
        if hasattr(store, "close"):
            store.close()
