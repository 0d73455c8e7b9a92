"""A reader that holds one snapshot for long makes the log grow: the monitor says who, once, and writing goes on."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import closing

import pytest

from overseer_lite.graph import simple_graph
from overseer_lite.job import Job
from overseer_lite.liveness.recordlocks import record_lock_holders
from overseer_lite.monitor import Monitor
from overseer_lite.monitor.held_log import LOOKS
from overseer_lite.sqlite.connection import LARGE_LOG_BYTES
from overseer_lite.sqlite.readers import readers_of
from overseer_lite.store import open_store

pytestmark = pytest.mark.slow

MIB = 1 << 20

READER = """
import sys
from overseer_lite.sqlite import engine
connection = engine.Connection(sys.argv[1], engine.OPEN_READWRITE)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM jobs").fetchall()
print("reading", flush=True)
sys.stdin.read()
"""

WRITER = """
import fcntl
gate = open(sys.argv[1] + ".d/gate", "rb")
fcntl.flock(gate, fcntl.LOCK_EX)
"""

LOCKS = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_SH, 2, 10)
fcntl.lockf(file, fcntl.LOCK_EX, 0, 100)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child():
    """Start a process that says one word when it is ready, and ends with its stdin."""
    started = []

    def start(code, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout.readline()
        return process

    yield start
    for process in started:
        process.communicate()


class Place:
    """A store, its monitor, and a writer who goes on whatever happens."""

    def __init__(self, path):
        self.path = path
        self.store = open_store(path, durability="normal")
        self.store.install()
        self.watched = open_store(path)
        self.monitor = Monitor(self.watched, silent_for_s=60.0)
        self._written = 0

    def write(self, mib):
        """Commit so many MiB, in transactions of one each."""
        for _ in range(mib):
            self._written += 1
            args = {"filler": "x" * (MIB - 4096)}
            self.store.transact_graph(simple_graph(Job("work", args=args), id=f"r{self._written}"))

    def log_bytes(self):
        return os.stat(self.path + "-wal").st_size

    def sweep(self, times=LOOKS):
        for _ in range(times):
            self.monitor.sweep()
            self.write(1)


@pytest.fixture
def place(tmp_path):
    place = Place(str(tmp_path / "jobs.db"))
    with closing(place.store), closing(place.watched):
        yield place


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_who_holds_a_large_log_is_said_once_and_again_only_after_it_has_been_small(place, child, caplog):
    """By pid and program, while writers go on; not the writers, not whoever has the file open and reads nothing."""
    reader = child(READER, place.path)
    idle = child(READER.replace('connection.execute("BEGIN")\n', ""), place.path)
    place.write(LARGE_LOG_BYTES // MIB + 2)
    assert place.log_bytes() > LARGE_LOG_BYTES
    place.sweep(LOOKS - 1)
    assert said(caplog) == []  # each of ours reads for a moment, now and then: one look proves nothing
    place.sweep(2 * LOOKS)
    (line,) = said(caplog)
    assert f"cannot begin anew: process {reader.pid} (python" in line
    assert str(idle.pid) not in line
    reader.communicate()
    place.write(2)
    assert place.log_bytes() < LARGE_LOG_BYTES
    place.sweep()
    another = child(READER, place.path)
    place.write(LARGE_LOG_BYTES // MIB + 2)
    place.sweep(2 * LOOKS)
    assert len(said(caplog)) == 2
    assert f"process {another.pid} (" in said(caplog)[1]


def test_a_log_that_is_small_or_that_nobody_holds_is_not_spoken_of(place, child, caplog):
    """A reader without harm; and a log that stays large after its reader, until somebody writes."""
    reader = child(READER, place.path)
    place.sweep(2 * LOOKS)
    place.write(LARGE_LOG_BYTES // MIB + 2)
    reader.communicate()
    assert place.log_bytes() > LARGE_LOG_BYTES
    for _ in range(2 * LOOKS):
        place.monitor.sweep()
    assert said(caplog) == []


def test_readers_by_turns_are_not_held_to_be_one(place, child, caplog):
    """The log was held by each for a while: nobody is named for what another did."""
    first = child(READER, place.path)
    place.write(LARGE_LOG_BYTES // MIB + 2)
    place.sweep(LOOKS - 1)
    child(READER, place.path)
    place.sweep(1)
    first.communicate()
    assert len(said(caplog)) == 1
    assert f"process {first.pid} (" in said(caplog)[0]


def test_who_writes_is_no_reader_and_neither_is_the_one_who_asks(place, child):
    """A writer holds a snapshot too, for as long as a large submit takes; it is told by the gate."""
    reader = child(READER, place.path)
    assert readers_of(place.path) == {reader.pid}
    writer = child(READER.replace("import sys\n", "import sys" + WRITER), place.path)
    assert readers_of(place.path) == {reader.pid}
    assert writer.poll() is None
    with place.store.database.read():
        assert readers_of(place.path) == {reader.pid}


def test_the_holders_of_a_files_bytes_are_told_by_range(tmp_path, child):
    """A shared lock on bytes 10 and 11, one on all from 100 on; a file that is not there has none."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 200)
    pid = child(LOCKS, str(path)).pid
    held = [(0, 9), (9, 10), (11, 50), (12, 99), (12, 100), (5000, 6000)]
    assert [record_lock_holders(str(path), *each) == {pid} for each in held] == [False, True, True, False, True, True]
    assert record_lock_holders(str(tmp_path / "none"), 0, 10) == frozenset()
