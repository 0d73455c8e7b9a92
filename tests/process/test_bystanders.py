"""Whoever stands beside a death, a failure or a renewal is left alone: copies, guests, neighbours, the supervisor itself."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from overseer_lite.graph import simple_graph
from overseer_lite.job import Job
from overseer_lite.monitor import Monitor
from overseer_lite.store import open_store
from tests.conftest import wait_until
from tests.process.conftest import COOKIE, SCRIPT, Supervised, alive, kill, parent

pytestmark = pytest.mark.slow


def test_a_copy_of_a_store_kills_none_of_the_living_that_it_names(crew, tmp_path):
    """A plain copy holds the identities of live workers and old beats; without their lock files it may touch nobody."""
    crew.start(1)
    (worker,) = crew.wait_ready(1)
    copy = tmp_path / "copy"
    copy.mkdir(mode=0o700)
    files = [path for path in (crew.store.path, crew.store.path + "-wal") if os.path.exists(path)]
    subprocess.run(["cp", *files, str(copy)], check=True)  # not here: closing the file would drop the engine's locks
    with closing(open_store(str(copy / "jobs.db"))) as other:
        assert [record.id for record in other.workers()] == [worker.id]
        monitor = Monitor(other, silent_for_s=0.0)
        for _ in range(3):
            assert monitor.sweep() == []
    crew.submit({"quick": []})
    assert crew.wait_for("quick").attempt == 1
    assert crew.store.workers()[0].pid == worker.pid


def test_a_supervisor_neither_kills_nor_reaps_the_children_that_its_process_had_before(crew):
    """`start(store, app=...)` runs in somebody's process: its other children are not orphans of dead workers."""
    before = (
        "import subprocess, sys\n"
        "living = subprocess.Popen(['sleep', '60'])\n"
        "failed = subprocess.Popen(['false'])\n"
        "end = sys.exit\n"
        "def report(code):\n"
        "    print('guests:', living.poll(), failed.wait())\n"
        "    living.kill(); living.wait(); sys.stdout.flush(); end(code)\n"
        "sys.exit = report\n"
    )
    given = {
        "plan": {"address": crew.store.path, "app": str(crew.app_file), "workers": 1},
        "settings": {"heartbeat_interval_s": 60.0},
        "constants": {},
    }
    env = {**os.environ, "CREW_DIRECTORY": str(crew.directory), COOKIE: crew.cookie}
    argv = [sys.executable, "-c", before + SCRIPT, json.dumps(given)]
    supervisor = Supervised(argv, env, crew.directory, crew.log_file)
    crew.supervisors.append(supervisor)
    (dead,) = crew.wait_ready(1)
    kill(dead.pid)
    wait_until(lambda: [record.id for record in crew.store.workers()] not in ([], [dead.id]), 10, "a new worker")
    assert supervisor.stop() == 0
    assert "guests: None 1" in crew.log()


def test_an_import_that_hangs_at_a_hangup_holds_up_neither_a_burial_nor_a_stop(crew):
    """The app is looked at beside the supervisor's own work; the process that looks is gone at the end."""
    slow = "if os.path.exists(os.path.join(HERE, 'slow')):\n    note('import')\n    await_file('never')\n"
    crew.write_app(slow)
    crew.submit({"first_held": []})
    supervisor = crew.start(1)
    note = crew.wait_note("first_held", "first_held", 1)
    crew.allow("slow")
    supervisor.signal(signal.SIGHUP)
    crew.wait_note("import")
    kill(parent(note.pid))
    crew.wait_log("Resetting: r/first_held", timeout_s=5)
    supervisor.signal(signal.SIGTERM)
    assert supervisor.wait(8) == 0
    assert crew.processes() == []


def test_an_app_broken_meanwhile_ends_the_crew_only_after_the_current_jobs(crew):
    """A new runner finds the app broken: exit 2, but what was begun with the app as it was is finished, not cut short."""
    crew.submit({"held": []})
    supervisor = crew.start(2)
    crew.wait_ready(2)
    held = crew.wait_note("held")
    (idle,) = (record for record in crew.store.workers() if record.pid != parent(held.pid))
    crew.write_app("this is no Python\n")
    kill(idle.runner_pid)
    crew.wait_log("Stopping")
    crew.allow("go")
    assert supervisor.wait() == 2
    assert crew.outcomes("held") == ["finished"]
    assert crew.log().count("Error: Cannot use app") == 1


def test_neighbours_of_a_job_that_left_a_daemon_are_not_charged(crew):
    """Its runner is replaced, though it has begun the next of the group by then: cut short, neither crash nor failure."""
    crew.write_app(
        "@handlers(retries=1, backoff=0)\n"
        "def tiny(job):\n"
        "    if job.args.get('bad') and job.attempt == 1:\n"
        "        subprocess.run(['setsid', 'sh', '-c', 'sleep 60 & echo $! > daemon'], cwd=HERE)\n"
        "        raise ValueError('left a daemon')\n"
        "    if job.args.get('after') and job.attempt == 1:\n"
        "        note('after', job.name)\n"
        "        time.sleep(0.3)\n"
        "    if job.args.get('bad'):\n"
        "        pid = open(os.path.join(HERE, 'daemon')).read().strip()\n"
        "        note('retry', lives(pid))\n"
    )
    warm = [Job("tiny", name=f"warm{index}") for index in range(100)]
    after = [Job("tiny", name=f"after{index}", args={"after": True}) for index in range(3)]
    crew.submit(simple_graph(*warm, Job("tiny", name="bad", args={"bad": True}), *after, id="r"))
    crew.start(1)
    crew.wait_for("bad")
    for job in after:
        info = crew.wait_for(job.name)
        assert (info.crashes, info.interruptions, info.failures) == (0, 0, 0), info
    assert crew.outcomes("bad") == ["failed", "finished"]
    assert crew.wait_note("retry").words == ("retry", "False")


def test_a_task_that_will_not_be_cancelled_does_not_hold_up_its_failed_attempt(crew):
    """It is waited for a second, then its runner is replaced; the retry finds nothing of it."""
    crew.write_app(
        "import asyncio\n"
        "async def stubborn():\n"
        "    while True:\n"
        "        try: await asyncio.sleep(60)\n"
        "        except asyncio.CancelledError: pass\n"
        "@handlers(retries=1, backoff=0)\n"
        "async def failing(job):\n"
        "    note('failing', job.attempt)\n"
        "    if job.attempt == 2: return\n"
        "    asyncio.get_running_loop().kept = asyncio.create_task(stubborn())\n"
        "    await asyncio.sleep(0)\n"
        "    raise ValueError('no')\n"
    )
    crew.submit({"failing": []})
    crew.start(1)
    crew.wait_for("failing")
    one, two = crew.notes("failing")
    assert crew.outcomes("failing") == ["failed", "finished"]
    assert one.pid != two.pid


def test_a_worker_that_cannot_sign_off_leaves_in_order_and_the_crew_with_it(crew):
    """Somebody holds the gate while a worker leaves: no error of the store, its entry is struck out after it."""
    supervisor = crew.start(1)
    (worker,) = crew.wait_ready(1)
    with open(os.path.join(crew.store.state_directory, "gate"), "rb") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        supervisor.signal(signal.SIGTERM)
        crew.wait_log("Left without signing off")
        wait_until(lambda: not alive(worker.pid), 5, "the worker's end")
    assert supervisor.wait() == 0
    assert crew.store.workers() == []


def test_an_inline_workers_begun_job_is_interrupted_not_handed_back_when_its_process_dies(crew):
    """Its number is spent and the death counted, as for any worker: or a poison job would run for ever."""
    code = (
        "import sys; from overseer_lite.store import open_store; import overseer_lite as overseer, os, time\n"
        "def held(job):\n"
        "    open('begun', 'w').close()\n"
        "    time.sleep(60)\n"
        "overseer.start(open_store(sys.argv[1]), {'held': held})\n"
    )
    env = {**os.environ, COOKIE: crew.cookie}
    crew.submit({"held": []})
    crew.allow("go")
    inline = subprocess.Popen([sys.executable, "-c", code, crew.store.path], cwd=crew.directory, env=env)
    try:
        wait_until(lambda: (crew.directory / "begun").exists(), 10, "the inline worker's job")
    finally:
        inline.kill()
        inline.wait()
    crew.start(1)
    info = crew.wait_for("held")
    assert (info.attempt, info.interruptions) == (2, 1)
    assert crew.outcomes("held") == ["interrupted", "finished"]
