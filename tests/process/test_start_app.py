"""`start(store, app=...)`: the supervisor is a process of its own, and whose process it was asked from stays its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from overseer_lite.failpoints import VARIABLE
from tests.conftest import wait_until
from tests.process.conftest import COOKIE, alive, kill, parent

pytestmark = pytest.mark.slow

# The main thread is in `start`; another does what it is told, line by line, and answers in lines.
USER = """
import json, signal, subprocess, sys, threading
import overseer_lite as overseer

path, app, settings = json.loads(sys.argv[1])
started = []

def obey():
    for line in sys.stdin:
        if line == "child\\n":
            started.append(subprocess.Popen(["sleep", "60"], start_new_session=True, stdout=subprocess.DEVNULL))
            print(started[-1].pid, flush=True)
        else:
            print(started[-1].poll(), flush=True)

threading.Thread(target=obey, daemon=True).start()
before = signal.getsignal(signal.SIGTERM)
try:
    overseer.start(overseer.open_store(path), app=app, workers=1, **settings)
    end = f"returned {signal.getsignal(signal.SIGTERM) is before}"
except overseer.OverseerError as error:
    end = f"{type(error).__name__} {error}"
for each in started:
    each.kill()
print(end, flush=True)  # last: whoever has heard it may end us
"""


class User:
    """Somebody's process that calls `start`."""

    def __init__(self, crew, app, settings, env):
        argv = [sys.executable, "-c", USER, json.dumps([crew.store.path, app, settings])]
        env = {**os.environ, **env, "CREW_DIRECTORY": str(crew.directory), COOKIE: crew.cookie}
        with crew.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                argv, env=env, cwd=crew.directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                text=True, process_group=0,
            )  # fmt: skip
        self.pid = self.process.pid

    def tell(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.hear()

    def hear(self):
        return self.process.stdout.readline().strip()


@pytest.fixture
def user(crew):
    """Return a function that starts such a process; it and all that it started end with the test."""
    users = []

    def start(app=None, env=None):
        users.append(User(crew, app or str(crew.app_file), {"heartbeat_interval_s": 60.0}, env or {}))
        return users[-1]

    yield start
    for each in users:
        each.process.terminate()
    try:
        wait_until(lambda: crew.processes() == [], 10, "the end of all processes")
    finally:
        for pid in crew.processes():  # its supervisor has its stdout too
            with suppress(ProcessLookupError):
                kill(pid)
        for each in users:
            each.process.communicate(timeout=10)


def test_children_that_the_users_process_starts_meanwhile_are_left_alone(crew, user):
    """They are no orphans of a dead worker, though they are nobody's that the supervisor knows."""
    asked = user()
    (dead,) = crew.wait_ready(1)
    innocent = int(asked.tell("child"))
    kill(dead.pid)
    wait_until(lambda: [record.id for record in crew.store.workers()] not in ([], [dead.id]), 10, "a new worker")
    assert alive(innocent)
    assert asked.tell("poll") == "None"
    asked.process.send_signal(signal.SIGTERM)
    assert asked.hear() == "returned True"


def test_an_orphan_of_the_users_own_is_none_of_the_supervisors(crew, user):
    """The process that calls `start` adopts nobody, then or later."""
    asked = user()
    (worker,) = crew.wait_ready(1)
    assert parent(worker.pid) != asked.pid
    assert parent(parent(worker.pid)) == asked.pid


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_in_order_and_a_second_one_at_once(crew, user, signum):
    """As if the supervisor were in this process; it returns when all are gone."""
    crew.submit({"held": []})
    asked = user()
    held = crew.wait_note("held")
    asked.process.send_signal(signum)
    crew.wait_log("Stopping: current jobs")
    assert alive(held.pid)
    asked.process.send_signal(signum)
    assert asked.hear() == "returned True"
    assert not alive(held.pid)
    assert str(crew.store.job_info("r/held").status) == "unstarted"


def test_a_signal_to_the_whole_group_counts_once(crew, user):
    """A Ctrl-C in a terminal goes to all of the foreground; the current job is finished all the same."""
    crew.submit({"held": []})
    asked = user()
    crew.wait_note("held")
    os.killpg(asked.pid, signal.SIGINT)
    crew.wait_log("Stopping: current jobs")
    crew.allow("go")
    assert asked.hear() == "returned True"
    assert crew.outcomes("held") == ["finished"]


def test_a_hangup_renews_the_runners(crew, user):
    """It is passed on like the others."""
    asked = user()
    crew.wait_ready(1)
    asked.process.send_signal(signal.SIGHUP)
    crew.wait_log("The runners are renewed")
    asked.process.send_signal(signal.SIGTERM)
    assert asked.hear() == "returned True"


def test_when_the_users_process_is_killed_current_jobs_are_finished_and_all_leave(crew, user):
    """Nobody is left who works on for ever; nothing is cut short."""
    crew.submit({"held": []})
    asked = user()
    crew.wait_note("held")
    asked.process.kill()
    asked.process.wait()
    crew.wait_log("Stopping: current jobs")
    crew.allow("go")
    wait_until(lambda: crew.processes() == [], 10, "all have left")
    assert crew.outcomes("held") == ["finished"]


def test_what_goes_wrong_there_is_raised_here(crew, user):
    """An app that cannot be used; workers that die before their first job, how many and with what last words."""
    assert user(app=str(crew.directory / "nowhere.py")).hear().startswith("InvalidInputError Cannot use app")
    asked = user(env={VARIABLE: "register.after_commit=raise%worker"})
    assert asked.hear().startswith("WorkersLostError Workers cannot be kept alive: 5 died before their first job")


def test_when_a_process_that_runs_a_graph_is_killed_its_workers_finish_and_leave(crew):
    """So it is with `run`: the rest of the run waits for whoever continues it."""
    crew.write_app(
        "@handlers\n"
        "def slow(job):\n"
        "    note('slow', job.name)\n"
        "    time.sleep(0.1)\n"
        "graph = overseer.Graph()\n"
        "for number in range(100):\n"
        "    graph.add('slow', name=f's{number}', dependencies=[f's{number - 1}'] if number else [])\n"
    )
    code = "import sys; import overseer_lite as overseer; overseer.run(sys.argv[1], n=1, id='r', db=sys.argv[2])"
    env = {**os.environ, "CREW_DIRECTORY": str(crew.directory), COOKIE: crew.cookie}
    asked = subprocess.Popen([sys.executable, "-c", code, str(crew.app_file), crew.store.path], env=env)
    crew.wait_note("slow")
    asked.kill()
    asked.wait()
    wait_until(lambda: crew.processes() == [], 10, "all have left")
    assert {str(job.status) for job in crew.store.jobs()} == {"finished", "unstarted"}
    assert {job.attempt for job in crew.store.jobs()} == {0, 1}


CHAIN = """
graph = {"held": [], "quick": ["held"]}
"""


@pytest.mark.parametrize("times", [1, 2])
def test_a_ctrl_c_in_run_is_raised_when_the_workers_have_left(crew, times):
    """Once: the current job is finished. Twice: it is cut short, and counted as nothing. The rest waits either way."""
    crew.write_app(CHAIN)
    code = (
        "import sys, overseer_lite as overseer\n"
        "try: overseer.run(sys.argv[1], n=1, id='r', db=sys.argv[2])\n"
        "except KeyboardInterrupt: sys.exit(77)"
    )
    env = {**os.environ, "CREW_DIRECTORY": str(crew.directory), COOKIE: crew.cookie}
    command = [sys.executable, "-c", code, str(crew.app_file), crew.store.path]
    with open(crew.log_file, "ab") as log:
        asked = subprocess.Popen(command, env=env, stderr=log)
    crew.wait_note("held")
    asked.send_signal(signal.SIGINT)
    crew.wait_log("Stopping: current jobs")
    if times == 2:
        asked.send_signal(signal.SIGINT)
    else:
        crew.allow("go")
    assert asked.wait(10) == 77
    assert crew.processes() == []
    assert crew.outcomes("held") == (["finished"] if times == 1 else ["stopped"])
    assert (str(crew.job("quick").status), crew.job("quick").attempt) == ("unstarted", 0)


@pytest.mark.parametrize(
    "call", ["run(app, n=1, id='r', db=db, ", "start(overseer.open_store(db), app=app, workers=1, "]
)
def test_the_secret_setting_stands_in_no_argument(crew, call):
    """Arguments can be read by anybody on the machine; the environment only by the same user."""
    crew.write_app(CHAIN)
    crew.submit({"held": []}, id="other")
    dsn = "http://k3y@127.0.0.1:9/1"
    code = f"import sys, overseer_lite as overseer; app, db, dsn = sys.argv[1], sys.argv[2], sys.stdin.readline()\noverseer.{call}sentry_dsn=dsn)"
    env = {**os.environ, "CREW_DIRECTORY": str(crew.directory), COOKIE: crew.cookie}
    command = [sys.executable, "-c", code, str(crew.app_file), crew.store.path]
    with open(crew.log_file, "ab") as log:
        asked = subprocess.Popen(command, env=env, stderr=log, stdin=subprocess.PIPE, text=True)
    asked.stdin.write(dsn)
    asked.stdin.close()
    crew.wait_note("held")
    all_arguments = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in crew.processes()]
    assert len(all_arguments) >= 4, "this process, its supervisor, a worker, a runner"
    assert not [line for line in all_arguments if b"k3y" in line]
    assert dsn.encode() in Path(f"/proc/{crew.store.workers()[0].runner_pid}/environ").read_bytes()
    crew.allow("go")
    asked.terminate()
    asked.wait(10)


def test_a_supervisor_that_is_killed_is_told_of(crew, user):
    """`start` does not return as if all were well."""
    crew.leaves_files = True
    asked = user()
    (worker,) = crew.wait_ready(1)
    kill(parent(worker.pid))
    assert (
        asked.hear() == "OverseerError The supervisor was killed by signal 9; its workers finish their jobs and leave."
    )
