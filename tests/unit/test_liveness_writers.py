"""Whether anybody has a file open for writing, whoever and wherever: by the kernel's word."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from overseer_lite.liveness.writers import has_writer
from tests.conftest import wait_until


def test_a_file_that_somebody_has_open_for_writing_has_a_writer(tmp_path):
    """Whether it writes or not; and none once it is closed. Readers do not count."""
    path = str(tmp_path / "output")
    with open(path, "ab"):
        assert has_writer(path) is True
    with open(path, "rb"):
        assert has_writer(path) is False


@pytest.mark.slow
def test_a_child_that_inherited_it_is_a_writer(tmp_path):
    """As what a handler starts inherits its output."""
    path = str(tmp_path / "output")
    with open(path, "ab") as file:
        child = subprocess.Popen(["sleep", "60"], stdout=file)
    try:
        assert has_writer(path) is True
    finally:
        child.kill()
        child.wait()
    assert has_writer(path) is False


def test_what_is_not_there_has_no_writer_and_what_is_no_file_cannot_be_told(tmp_path):
    """Not to be told is not no."""
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    assert has_writer(str(tmp_path / "missing")) is False
    assert has_writer(fifo) is None


def test_asking_leaves_nothing_behind(tmp_path):
    """Whoever opens it next is neither kept waiting nor are we told of it by a signal that would end us."""
    path = tmp_path / "output"
    path.touch()
    seen = []
    old = signal.signal(signal.SIGIO, lambda *_: seen.append("SIGIO"))
    try:
        assert has_writer(str(path)) is False
        path.write_text("x")
        assert has_writer(str(path)) is False
        wait_until(lambda: path.read_text() == "x", 1)
    finally:
        signal.signal(signal.SIGIO, old)
    assert seen == []
