"""Real supervisors, real workers, real kills: what the tests of processes share.

A `Crew` is one store, one app and the supervisors that a test starts on it. Handlers report to a file (`note`) and wait
for files (`await_file`), so that a test decides what happens when, and nothing has to sleep.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from overseer_lite.graph import Graph, job_graph
from overseer_lite.liveness import Identity, read_stat
from overseer_lite.store import open_store
from tests.conftest import wait_until
from tests.environments import environment

COOKIE = "OVERSEER_TEST_CREW"

PREAMBLE = """
import contextlib, json, logging, os, signal, subprocess, sys, threading, time
import overseer_lite as overseer

HERE = os.environ["CREW_DIRECTORY"]

def note(*words):
    line = " ".join(map(str, (time.monotonic(), os.getpid(), *words))) + "\\n"
    fd = os.open(os.path.join(HERE, "notes"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(fd, line.encode())
    os.close(fd)

def lives(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] not in "ZX"
    return False

def await_file(name):
    while not os.path.exists(os.path.join(HERE, name)):
        time.sleep(0.002)

handlers = overseer.Handlers()

@handlers
def quick(job):
    note("quick", job.name, job.attempt)
    return job.attempt

@handlers
def held(job):
    note("held", job.name, job.attempt)
    await_file("go")
    return job.attempt

@handlers
def first_held(job):
    note("first_held", job.name, job.attempt)
    if job.attempt == 1:
        await_file("never")
    return job.attempt
"""

SCRIPT = """
import json, pkgutil, sys
from overseer_lite.config import load
from overseer_lite.errors import OverseerError
from overseer_lite.log import configure
from overseer_lite.supervisor import Plan, supervise

given = json.loads(sys.argv[1])
configure("DEBUG", "supervisor")
for place, value in given["constants"].items():
    owner, _, name = place.rpartition(".")
    owner = pkgutil.resolve_name(owner)
    getattr(owner, name)  # one that has moved must not be set where nobody looks
    setattr(owner, name, value)
try:
    code = supervise(Plan(settings=load(given["settings"]), **given["plan"]))
except OverseerError as error:
    sys.stderr.write(f"Error: {error}\\n")
    code = error.exit_code
sys.exit(code)
"""


class Note(NamedTuple):
    """One line that a handler wrote: when (monotonic), by which process, what."""

    at: float
    pid: int
    words: tuple[str, ...]


class Supervised:
    """A supervisor in a process of its own."""

    def __init__(self, argv, env, cwd, log):
        with open(log, "ab") as stream:
            self.process = subprocess.Popen(
                argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )
        self.pid = self.process.pid

    def signal(self, signum):
        self.process.send_signal(signum)

    def wait(self, timeout_s=10.0):
        """Wait for its end; return its exit code, negative for a signal."""
        return self.process.wait(timeout_s)

    def stop(self):
        """Stop it in order."""
        self.signal(signal.SIGTERM)
        return self.wait()


class Crew:
    """A store, an app, and the supervisors on it. `store` belongs to the test's process."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.cookie = uuid.uuid4().hex
        self.app_file = self.directory / "app.py"
        self.log_file = self.directory / "log"
        self.store = open_store(str(self.directory / "jobs.db"))
        self.store.install()
        self.supervisors = []
        self.leaves_files = False
        self.write_app("")

    # ---- what is to be done

    def write_app(self, text, *, preamble=PREAMBLE):
        """Write the app, or another version of it; never half of it."""
        new = self.app_file.with_suffix(".new")
        new.write_text(preamble + text)
        os.replace(new, self.app_file)

    def submit(self, graph, **options):
        """Store a graph: a mapping of types as the ancestor wrote it, or a Graph."""
        if not isinstance(graph, Graph):
            graph = job_graph(graph, id=options.pop("id", "r"), **options)
        return self.store.transact_graph(graph)

    def start(self, workers=1, *, constants=None, env=None, app=None, settings=None, db=None, wrap=(), **plan):
        """Start a supervisor; heartbeats of a minute, unless said otherwise, so that no silence takes part.

        `wrap`: a command that runs it, such as one that makes a pid namespace.
        """
        given = {
            "plan": {"address": db or self.store.path, "app": app or str(self.app_file), "workers": workers, **plan},
            "settings": {"heartbeat_interval_s": 60.0, "durability": "normal", **(settings or {})},
            "constants": constants or {},
        }
        argv = [*wrap, sys.executable, "-c", SCRIPT, json.dumps(given)]
        full = {**os.environ, "CREW_DIRECTORY": str(self.directory), COOKIE: self.cookie, **(env or {})}
        supervisor = Supervised(argv, full, self.directory, self.log_file)
        self.supervisors.append(supervisor)
        return supervisor

    def allow(self, name):
        """Make the file that a handler waits for."""
        (self.directory / name).touch()

    # ---- what happened

    def job(self, name, run="r"):
        """Return what the store knows of a job."""
        return self.store.job_info(f"{run}/{name}")

    def attempts(self, name, run="r"):
        """Return a job's history."""
        return self.store.attempts(f"{run}/{name}")

    def outcomes(self, name, run="r"):
        """Return how a job's attempts ended, oldest first."""
        return [str(record.outcome) for record in self.attempts(name, run)]

    def wait_for(self, name, status="finished", run="r", timeout_s=10.0):
        """Wait until a job has a status; return what is known of it."""
        wait_until(lambda: self.job(name, run).status == status, timeout_s, f"job {name} {status}")
        return self.job(name, run)

    def notes(self, *words):
        """Return the handlers' notes that begin with these words."""
        try:
            lines = (self.directory / "notes").read_text().splitlines()
        except FileNotFoundError:
            return []
        found = [Note(float(at), int(pid), tuple(rest)) for at, pid, *rest in (line.split() for line in lines)]
        return [note for note in found if note.words[: len(words)] == tuple(map(str, words))]

    def wait_note(self, *words, count=1, timeout_s=10.0):
        """Wait for the n-th note that begins with these words; return it."""
        wait_until(lambda: len(self.notes(*words)) >= count, timeout_s, f"note {words} number {count}")
        return self.notes(*words)[count - 1]

    def log(self):
        """Return all log lines so far."""
        return self.log_file.read_text()

    def wait_log(self, text, count=1, timeout_s=10.0):
        """Wait until the log says something."""
        wait_until(lambda: self.log().count(text) >= count, timeout_s, f"log line {text!r}")

    def worker_pid(self, worker=None):
        """Return the pid of a registered worker, the first one's unless told which."""
        return next(record.pid for record in self.store.workers() if worker in (None, record.id))

    def wait_ready(self, workers=1):
        """Wait until so many workers are registered."""
        wait_until(lambda: len(self.store.workers()) >= workers, 10, f"{workers} workers")
        return self.store.workers()

    def processes(self):
        """Return the pids of all living processes that were started for this crew."""
        wanted = f"\0{COOKIE}={self.cookie}\0".encode()
        found = []
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with suppress(OSError):
                if wanted in environment(name) and alive(int(name)):
                    found.append(int(name))
        return found

    def companions(self):
        """Return the companion files of workers that are left beside the store."""
        state = Path(self.store.state_directory)
        return sorted(
            str(path.relative_to(state))
            for kind in ("workers", "bells", "output", "payloads")
            for path in (state / kind).iterdir()
        )

    def close(self):
        """End everything; fail if a process or a worker's file is left behind."""
        for supervisor in self.supervisors:
            for _ in range(2):
                if supervisor.process.poll() is None:
                    supervisor.signal(signal.SIGTERM)
                    with suppress(subprocess.TimeoutExpired):
                        supervisor.wait(4)
        in_order = all(supervisor.process.poll() in (0, 4, 130, 143) for supervisor in self.supervisors)
        try:
            wait_until(lambda: not self.processes(), 3, f"the end of all processes ({self.processes()})")
            if in_order and not self.leaves_files:
                assert self.companions() == []
        finally:
            for supervisor in self.supervisors:
                if supervisor.process.poll() is None:
                    supervisor.process.kill()
                    supervisor.process.wait()
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.store.close()


def alive(pid):
    """Whether a process runs: it is there and no zombie."""
    stat = read_stat(pid)
    return stat is not None and not stat.dead


def parent(pid):
    """Return the pid of a process's parent."""
    return read_stat(pid).ppid


def kill(pid, signum=signal.SIGKILL):
    """Send a signal; return when that was, by the clock that notes are dated with."""
    at = time.monotonic()
    os.kill(pid, signum)
    return at


def cpu_s(pids):
    """Return the seconds of CPU that processes have used so far."""
    return sum(read_stat(pid).cpu_ticks for pid in pids) / os.sysconf("SC_CLK_TCK")


def identity(pid):
    """Return who a process is."""
    return Identity.of(pid)


@pytest.fixture
def module_of(tmp_path, monkeypatch):
    """Write and import a module of handlers, in a directory that is on this process's path; gone after the test."""
    made = []

    def make(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        made.append(name)
        return importlib.import_module(name)

    yield make
    for name in made:
        del sys.modules[name]


@pytest.fixture
def crew(tmp_path, request):
    """A crew of its own for one test; its log is shown if the test fails."""
    made = Crew(tmp_path)
    yield made
    try:
        made.close()
    finally:
        if made.log_file.exists():
            print(made.log())
