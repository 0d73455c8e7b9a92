"""Two pid namespaces, as of two containers, on one store: what can be known across them, and what cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from overseer_lite.graph import simple_graph
from overseer_lite.job import Job
from tests.conftest import wait_until
from tests.process.conftest import alive, kill

UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc"]
CANNOT = (
    shutil.which("unshare") is None
    or subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode != 0
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CANNOT, reason="pid namespaces cannot be made here (unshare, root)")]

GRACE = {"overseer_lite.monitor.watch.ABROAD_GRACE_S": 0.5}


class Inside(NamedTuple):
    """A process of another pid namespace: its pids here and there, and its command."""

    pid: int
    pid_there: int
    command: str


def inside(supervised):
    """Return the processes of the pid namespace in which a supervisor was started."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            if os.readlink(f"/proc/{name}/ns/pid") == supervised.namespace and alive(int(name)):
                command = Path(f"/proc/{name}/cmdline").read_text(encoding="utf-8")
                status = Path(f"/proc/{name}/status").read_text(encoding="utf-8").splitlines()
                numbers = next(line for line in status if line.startswith("NSpid:")).split()
                found.append(Inside(int(name), int(numbers[-1]), command))
    return found


def namespace_of_children(pid):
    """Return a process's pid namespace for its children, if it is not ours; None before the first process is in it."""
    with suppress(FileNotFoundError):
        found = os.readlink(f"/proc/{pid}/ns/pid_for_children")
        return found if found != os.readlink("/proc/self/ns/pid") else None
    return None


@pytest.fixture
def contain(crew):
    """Start supervisors in pid namespaces of their own, whose processes all end with the test."""
    made = []

    def start(*args, init=(), **options):
        supervised = crew.start(*args, wrap=[*UNSHARE, *init], **options)
        made.append(supervised)
        supervised.namespace = wait_until(lambda: namespace_of_children(supervised.pid), 5, "a namespace")
        return supervised

    yield start
    for supervised in made:
        for process in inside(supervised):
            if process.pid_there == 1:
                kill(process.pid)
        supervised.wait()


def test_the_jobs_of_a_container_that_was_killed_whole_are_taken_up_by_another(crew, contain):
    """No process of it is left, by the kernel's own rule; its workers' locks are free, and nobody writes their output."""
    crew.write_app(
        "@handlers\n"
        "def starting(job):\n"
        "    if job.attempt == 1:\n"
        "        note('child', subprocess.Popen(['sleep', '60'], start_new_session=True).pid)\n"
        "        await_file('never')\n"
        "    note('again', job.attempt)\n"
    )
    crew.submit({"starting": []})
    there = contain(1)
    crew.wait_note("child")
    here = crew.start(1, constants=GRACE)
    crew.wait_log("lives in another pid namespace")
    assert crew.job("starting").attempt == 1
    (init,) = [process for process in inside(there) if process.pid_there == 1]
    killed_at = kill(init.pid)
    again = crew.wait_note("again", 2)
    assert again.at - killed_at > 0.5
    crew.wait_for("starting")
    assert crew.outcomes("starting") == ["interrupted", "finished"]
    assert inside(there) == []
    assert here.stop() == 0


def test_a_worker_of_another_container_is_left_to_its_own_supervisor(crew, contain):
    """It buries its dead at once; the one outside neither kills nor resets, whatever the silence."""
    crew.submit(simple_graph(Job("first_held"), id="r"))
    there = contain(1, settings={"spares": 0})
    crew.wait_note("first_held", "first_held", 1)
    crew.start(1, types=("quick",), constants=GRACE, settings={"heartbeat_interval_s": 0.1, "tolerance": 3})
    crew.wait_log("lives in another pid namespace")
    before = inside(there)
    silent = next(record for record in crew.store.workers() if record.types != ("quick",)).id
    wait_until(lambda: {each.id: each.silent_s for each in crew.store.workers()}[silent] > 2, 10, "a long silence")
    assert inside(there) == before
    (worker,) = [process for process in before if "overseer_lite.worker.process" in process.command]
    kill(worker.pid)
    crew.wait_note("first_held", "first_held", 2)
    crew.wait_for("first_held")
    assert crew.outcomes("first_held") == ["interrupted", "finished"]
    assert crew.log().count("Resetting: r/first_held") == 1


def test_what_was_started_in_a_container_that_lives_on_keeps_the_jobs_of_its_dead_worker_waiting(crew, contain):
    """Worker, runner and supervisor are gone, the container is not: a child that still writes is known of, though unseen."""
    crew.write_app(
        "@handlers\n"
        "def starting(job):\n"
        "    if job.attempt == 1:\n"
        "        subprocess.Popen(['sh', '-c', 'while :; do sleep 0.1; done'], env={}, start_new_session=True)\n"
        "        note('begun', 1)\n"
        "        await_file('never')\n"
        "    note('again', job.attempt)\n"
    )
    crew.leaves_files = True
    crew.submit({"starting": []})
    first = contain(1, init=("sh", "-c", '"$@"; exec sleep 60', "sh"))
    crew.wait_note("begun")
    contain(1, constants=GRACE)  # in a namespace of its own too: it cannot see the first one's processes
    crew.wait_log("lives in another pid namespace")
    ours = [process for process in inside(first) if "overseer_lite" in process.command and process.pid_there != 1]
    for process in sorted(ours, key=lambda process: process.pid_there):  # the supervisor first: it must bury nobody
        kill(process.pid)
    crew.wait_log("somebody there still writes its output")
    assert crew.job("starting").status == "started"
    (writer,) = [process for process in inside(first) if "while" in process.command]
    kill(writer.pid)
    crew.wait_note("again", 2)
    assert [process.pid_there for process in inside(first)][:1] == [1]
