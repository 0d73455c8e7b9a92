"""The monitor before rows and files that nobody of ours would have written: it goes on, and harms nobody."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
from contextlib import ExitStack

import pytest

from overseer_lite.graph import simple_graph
from overseer_lite.job import Job
from overseer_lite.liveness import Identity, WorkerFile
from overseer_lite.liveness.tree import COOKIE_VARIABLE
from overseer_lite.liveness.workerfile import take
from overseer_lite.monitor import Monitor, watch
from overseer_lite.store import WorkerRecord, open_store
from tests.conftest import wait_until


class Place:
    """A store, and workers as they would have entered themselves: a row, a lock file, a started job."""

    def __init__(self, directory, stack):
        self.store = stack.enter_context(open_store(str(directory / "jobs.db")))
        self.store.install()
        self.store.transact_graph(simple_graph(Job("a"), Job("b"), id="r"))
        self.monitor = Monitor(self.store, silent_for_s=60.0)
        self._stack = stack

    def enter(self, worker, identity, job, row=None):
        """Enter a worker whose lock file names one process, and its row that or anything else; return the file."""
        path = os.path.join(self.store.state_directory, "workers", worker)
        now_us = self.store.clock.read().monotonic_us
        file = WorkerFile.create(path, store_uuid=self.store.uuid, worker_id=worker, identity=identity, now_us=now_us)
        self._stack.callback(file.close)
        text = identity.to_text() if row is None else row
        self.store.register(WorkerRecord(worker, identity.pid, identity=text)).close()
        assert self.store.reserve_job(worker, job) is not None
        return file

    def process(self, worker):
        """Start a process that bears a worker's name, as its runner would."""
        started = subprocess.Popen(["sleep", "60"], env={COOKIE_VARIABLE: worker}, start_new_session=True)
        self._stack.callback(started.wait)
        self._stack.callback(started.kill)
        return started

    def status(self, job):
        """Return a job's status."""
        return str(self.store.job_info(job).status)


@pytest.fixture
def place(tmp_path):
    """A store in a directory of its own."""
    with ExitStack() as stack:
        yield Place(tmp_path, stack)


def dead():
    """Return the identity of a process that is dead and reaped."""
    started = subprocess.Popen(["sleep", "60"])
    who = Identity.of(started.pid)
    started.kill()
    started.wait()
    return who


DAMAGED = ["[broken", "", "null", "[1,2]", '["boot","pid:[1]",0,1]', '["boot","pid:[1]",7]', "[" * 100_000]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_row_that_names_no_process_is_said_once_and_stops_nothing(place, caplog, text):
    """Nobody is killed or reset by it, and the dead beside it are buried all the same."""
    runner = place.process("w-damaged")
    place.enter("w-damaged", Identity.of(runner.pid), "r/a", row=text)
    place.enter("w-dead", dead(), "r/b").close()
    with caplog.at_level(logging.WARNING):
        buried = [found.worker for _ in range(3) for found in place.monitor.sweep()]
    assert buried == ["w-dead"]
    assert (place.status("r/a"), place.status("r/b")) == ("started", "unstarted")
    assert runner.poll() is None
    said = [record.message for record in caplog.records if "damaged" in record.message]
    assert said == [
        "The row of worker w-damaged is damaged: it names no process; left alone. See `overseer-lite doctor`"
    ]


@pytest.mark.parametrize(
    "change",
    [{"pid": 2**22 + 1}, {"pid": 2**70}, {"start_time": 1}, {"boot_id": "another"}],
    ids=["no such pid", "no pid at all", "start time", "boot"],
)
@pytest.mark.parametrize("held", [True, False], ids=["lock held", "lock free"])
def test_a_row_that_names_another_process_than_the_lock_file_buries_nobody(place, caplog, change, held):
    """A digit that flipped makes a living worker look dead; a burial would begin with killing its runner."""
    runner = place.process("w")
    truth = Identity.of(runner.pid)
    file = place.enter("w", truth, "r/a", row=json.dumps(truth._replace(**change)))
    if not held:
        file.close()
    with caplog.at_level(logging.WARNING):
        assert [place.monitor.sweep() for _ in range(2)] == [[], []]
    assert runner.poll() is None
    assert place.status("r/a") == "started"
    assert [record.message for record in caplog.records] == [
        "The row of worker w is damaged: its lock file names another process; left alone. See `overseer-lite doctor`"
    ]


def stranger(stack):
    """Start a process in a group of its own that bears no sign of anybody."""
    started = subprocess.Popen(["sleep", "60"], env={}, start_new_session=True)
    stack.callback(started.wait)
    stack.callback(started.kill)
    return started


@pytest.mark.parametrize("change", [{"boot_id": "another"}, {"pid_namespace": "pid:[1]"}], ids=["boot", "namespace"])
def test_a_pid_of_another_boot_or_namespace_names_nobody_here(place, monkeypatch, change):
    """Not even one that has the same start time, and a group of that number: its jobs come back, the stranger stays."""
    monkeypatch.setattr(watch, "ABROAD_GRACE_S", 0.0)
    with ExitStack() as stack:
        somebody = stranger(stack)
        place.enter("w", Identity.of(somebody.pid)._replace(**change), "r/a").close()
        assert [found.reset for found in place.monitor.sweep()] == [("r/a",)]
        assert somebody.poll() is None
    assert place.status("r/a") == "unstarted"


ABROAD = {"pid_namespace": "pid:[1]"}


def test_a_worker_of_another_namespace_is_never_reset_while_its_lock_is_held(place, caplog, monkeypatch):
    """However silent: a lock speaks across namespaces, and this one says that somebody of its tree lives."""
    monkeypatch.setattr(watch, "ABROAD_GRACE_S", 0.0)
    file = place.enter("w", dead()._replace(**ABROAD), "r/a")
    file.beat(place.store.clock.read().monotonic_us - 900_000_000)
    with caplog.at_level(logging.WARNING):
        assert [place.monitor.sweep() for _ in range(3)] == [[], [], []]
    assert place.status("r/a") == "started"
    assert [record.message for record in caplog.records] == [
        "Worker w lives in another pid namespace; its own supervisor watches it"
    ]


def test_a_worker_of_another_namespace_is_reset_once_its_lock_has_been_free_for_a_while(place, monkeypatch):
    """Its own supervisor knows better who is left, and would take the lock at once: it has time to."""
    place.enter("w", dead()._replace(**ABROAD), "r/a").close()
    assert [place.monitor.sweep() for _ in range(3)] == [[], [], []]
    assert place.status("r/a") == "started"
    monkeypatch.setattr(watch, "ABROAD_GRACE_S", 0.0)
    assert [found.reset for found in place.monitor.sweep()] == [("r/a",)]


def test_a_lock_of_another_namespace_that_was_taken_meanwhile_begins_its_time_anew(place, monkeypatch):
    """Free at two looks is not free in between."""
    file = place.enter("w", dead()._replace(**ABROAD), "r/a")
    file.close()
    assert place.monitor.sweep() == []
    first_look = time.monotonic()
    monkeypatch.setattr(watch, "ABROAD_GRACE_S", 0.2)
    wait_until(lambda: time.monotonic() > first_look + 0.2)
    with take(file.path):
        assert place.monitor.sweep() == []
    assert place.monitor.sweep() == []
    found = wait_until(place.monitor.sweep, 5)
    assert [each.reset for each in found] == [("r/a",)]


def test_what_a_dead_worker_of_another_namespace_started_and_still_writes_keeps_its_jobs_waiting(
    place, caplog, monkeypatch
):
    """It cannot be seen, but the kernel knows who has a file open for writing, whatever its namespace."""
    monkeypatch.setattr(watch, "ABROAD_GRACE_S", 0.0)
    place.enter("w", dead()._replace(**ABROAD), "r/a").close()
    output = os.path.join(place.store.state_directory, "output", "w.1")
    with open(output, "ab"), caplog.at_level(logging.WARNING):
        assert [place.monitor.sweep() for _ in range(2)] == [[], []]
    assert place.status("r/a") == "started"
    (record,) = caplog.records
    assert record.message.startswith("Worker w of another pid namespace is dead, but somebody there still writes")
    assert [found.reset for found in place.monitor.sweep()] == [("r/a",)]
    assert not os.path.exists(output)


def test_a_copy_of_a_store_resets_nothing_of_another_namespace(place, monkeypatch):
    """A lock file that is not there, or was copied, says nothing about the one that its worker holds."""
    monkeypatch.setattr(watch, "ABROAD_GRACE_S", 0.0)
    file = place.enter("w", dead()._replace(**ABROAD), "r/a")
    file.close()
    away = os.path.join(place.store.state_directory, "away")
    os.rename(file.path, away)
    assert [place.monitor.sweep() for _ in range(2)] == [[], []]
    with open(away, "rb") as old, open(file.path, "xb") as copy:
        copy.write(old.read())
    assert [place.monitor.sweep() for _ in range(2)] == [[], []]
    assert place.status("r/a") == "started"


def test_the_files_of_a_worker_of_another_namespace_without_a_row_are_removed_in_time(place, monkeypatch):
    """Nobody will come back for them once a container is gone."""
    monkeypatch.setattr(watch, "ABROAD_GRACE_S", 0.0)
    file = place.enter("w", dead()._replace(**ABROAD), "r/a")
    place.store.leave("w")
    place.monitor.sweep()
    assert os.path.exists(file.path)
    file.close()
    place.monitor.sweep()
    assert not os.path.exists(file.path)
