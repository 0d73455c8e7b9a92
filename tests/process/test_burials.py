"""Burials do not wait for one another: a tree that will not go keeps its own jobs, and nobody else's."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import closing

import pytest

from overseer_lite.graph import simple_graph
from overseer_lite.job import Job
from tests.conftest import wait_until
from tests.process.conftest import kill, parent

pytestmark = pytest.mark.slow

# The lock of a worker's file is its open file description's. Handed to a process that bears no sign of the tree, it is
# what an unkillable descendant would be: held, and nobody there who could be killed.
GIVE_AWAY = """
import socket

@handlers
def stuck(job):
    if job.attempt == 1:
        links = {int(fd): os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
        fd, *_ = [fd for fd, link in links.items() if os.path.dirname(link).endswith("/workers")]
        with socket.socket(socket.AF_UNIX) as away:
            away.connect(os.path.join(HERE, "away"))
            socket.send_fds(away, [b"!"], [fd])
        note("stuck", job.attempt)
        await_file("never")
    note("stuck", job.attempt)
"""


@pytest.fixture
def lock_of_stuck(crew):
    """Return a function that waits for the lock that the handler `stuck` gives away, and returns a way to let go of it."""
    path = str(crew.directory / "away")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        listening.settimeout(10)
        kept = []

        def receive():
            with closing(listening.accept()[0]) as connection:
                kept.extend(socket.recv_fds(connection, 1, 1)[1])
            return lambda: os.close(kept.pop())

        yield receive
        for fd in kept:
            os.close(fd)


@pytest.fixture
def frozen(tmp_path):
    """A small filesystem that is frozen: whoever writes there cannot be killed. Returns its place and a way to thaw it."""
    image, place = tmp_path / "image", tmp_path / "frozen"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(8 << 20)
    if subprocess.run(["mkfs.ext4", "-q", str(image)], check=False, capture_output=True).returncode:
        pytest.skip("there is no mkfs.ext4 here")
    if subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=False, capture_output=True).returncode:
        pytest.skip("a filesystem cannot be mounted here (root, loop devices)")
    try:
        subprocess.run(["fsfreeze", "--freeze", str(place)], check=True)
        thawed = []

        def thaw():
            if not thawed:
                subprocess.run(["fsfreeze", "--unfreeze", str(place)], check=True)
                thawed.append(True)

        try:
            yield place, thaw
        finally:
            thaw()
    finally:
        wait_until(lambda: not subprocess.run(["umount", str(place)], check=False).returncode, 5, "the unmounting")


@pytest.mark.parametrize("how", ["{}", "{'env': {}, 'start_new_session': True, 'stdout': -3, 'stderr': -3}"])
def test_an_unkillable_process_keeps_its_own_workers_job_waiting_and_nobody_elses(crew, frozen, how):
    """In an uninterruptible wait even SIGKILL waits: a descendant by its signs, or an orphan that came to the supervisor."""
    place, thaw = frozen
    crew.write_app(
        "@handlers\n"
        "def stuck(job):\n"
        "    if job.attempt == 1:\n"
        f"        child = subprocess.Popen(['touch', {str(place / 'x')!r}], **{how})\n"
        "        while open(f'/proc/{child.pid}/stat').read().rpartition(')')[2].split()[0] != 'D': time.sleep(0.002)\n"
        "        note('stuck', job.attempt, child.pid)\n"
        "        await_file('never')\n"
    )
    crew.submit(simple_graph(Job("stuck"), Job("first_held"), id="r"))
    crew.start(2, constants={"overseer_lite.monitor.burial.CLEAR_TIMEOUT_S": 0.5})
    stuck = crew.wait_note("stuck", 1)
    other = crew.wait_note("first_held", "first_held", 1)
    kill(parent(stuck.pid))
    crew.wait_log(f"process {stuck.words[2]} holds on")
    killed_at = kill(parent(other.pid))
    again = crew.wait_note("first_held", "first_held", 2, timeout_s=5)
    print(f"killed beside one that cannot be killed, next start {(again.at - killed_at) * 1e3:.0f} ms later")
    assert again.at - killed_at < 2
    assert (crew.job("stuck").status, crew.job("stuck").attempt) == ("started", 1)
    thaw()
    crew.wait_for("stuck")
    assert crew.outcomes("stuck") == ["interrupted", "finished"]


def test_a_tree_that_will_not_go_holds_up_no_other_burial(crew, lock_of_stuck):
    """While one dead worker's lock is held by somebody who cannot be killed, another's job runs again at once."""
    crew.write_app(GIVE_AWAY)
    crew.submit(simple_graph(Job("stuck"), Job("first_held"), Job("first_held", name="later"), id="r"))
    supervisor = crew.start(3)
    let_go = lock_of_stuck()
    stuck = crew.wait_note("stuck", 1)
    one, two = crew.wait_note("first_held", "first_held", 1), crew.wait_note("first_held", "later", 1)
    kill(parent(stuck.pid))
    crew.wait_log("died (signal 9)")
    kill(parent(one.pid))
    again = crew.wait_note("first_held", "first_held", 2, timeout_s=5)
    wait_until(lambda: time.monotonic() > again.at + 1, 5)  # it is tried in the background by now
    killed_at = kill(parent(two.pid))
    later = crew.wait_note("first_held", "later", 2, timeout_s=5)
    assert later.at - killed_at < 2
    assert crew.job("stuck").status == "started"
    let_go()
    crew.wait_note("stuck", 2)
    crew.wait_for("stuck")
    assert [crew.outcomes(name) for name in ("stuck", "first_held", "later")] == [["interrupted", "finished"]] * 3
    assert supervisor.stop() == 0


def test_who_holds_a_dead_workers_lock_is_named_again_and_again_until_it_goes(crew, lock_of_stuck):
    """Its jobs wait, and somebody has to do something about it: an error each time, with the pid."""
    crew.write_app(GIVE_AWAY)
    crew.submit({"stuck": []})
    crew.start(1, constants={"overseer_lite.monitor.burial.CLEAR_TIMEOUT_S": 0.2})
    let_go = lock_of_stuck()
    kill(parent(crew.wait_note("stuck", 1).pid))
    words = f"is dead but its tree is not: process {os.getpid()} holds on. Its jobs wait; kill it by hand"
    crew.wait_log(words, count=2)
    assert crew.job("stuck").status == "started"
    let_go()
    crew.wait_for("stuck")


def test_a_stop_does_not_wait_for_ever_for_a_tree_that_will_not_go(crew, lock_of_stuck):
    """Told to stop at once, the supervisor gives up after its bound, and says who is not buried."""
    crew.write_app(GIVE_AWAY)
    crew.leaves_files = True
    crew.submit({"stuck": []})
    constants = {
        "overseer_lite.supervisor.parent.BURIAL_S": 0.5,
        "overseer_lite.supervisor.parent.LAST_GRACE_S": 0.3,
        "overseer_lite.monitor.burial.CLEAR_TIMEOUT_S": 0.2,
    }
    supervisor = crew.start(1, constants=constants)
    lock_of_stuck()
    kill(parent(crew.wait_note("stuck", 1).pid))
    crew.wait_log("holds on")
    supervisor.signal(15)
    crew.wait_log("Stopping")
    supervisor.signal(15)
    assert supervisor.wait(8) == 143
    assert "are dead and not buried" in crew.log()
    assert crew.job("stuck").status == "started"
