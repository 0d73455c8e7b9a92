"""The supervisor keeps the store open for its life, so that nobody else who closes it is the last one to have it open."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import wait_until
from tests.process.conftest import kill

pytestmark = pytest.mark.slow

# As any tool would, a shell for instance: whoever closes last moves the log into the file, outside the gate, and deletes it.
TOOL = """
import sys
from overseer_lite.sqlite import engine
connection = engine.Connection(sys.argv[1], engine.OPEN_READWRITE)
print(connection.execute("SELECT count(*) FROM jobs").fetchall()[0][0])
connection.close()
"""


def test_a_tool_that_closes_the_store_while_no_worker_is_there_leaves_its_log_alone(crew):
    """The only worker died and the next is long in coming: the supervisor alone has the file open."""
    crew.submit({"quick": []})
    supervisor = crew.start(
        1,
        settings={"spares": 0},
        constants={"overseer_lite.supervisor.places.BACKOFF_S": (60.0, 60.0)},
        types=("held",),
    )
    (worker,) = crew.wait_ready(1)
    crew.store.close()  # nor have we
    kill(worker.pid, signal.SIGABRT)
    crew.wait_log("died (signal 6)")
    log = crew.store.path + "-wal"
    wait_until(lambda: is_buried(crew, worker.id), 10, "its burial")
    before = os.stat(log)
    tool = [sys.executable, "-c", TOOL, crew.store.path]
    assert subprocess.run(tool, check=True, capture_output=True, text=True).stdout == "1\n"
    assert os.path.exists(log), "it was the last one, and deleted the log"
    assert (os.stat(log).st_ino, os.stat(log).st_size) == (before.st_ino, before.st_size)
    assert supervisor.stop() == 0


def is_buried(crew, worker):
    """Whether a dead worker is buried."""
    return not os.path.exists(os.path.join(crew.store.path + ".d", "workers", worker))
