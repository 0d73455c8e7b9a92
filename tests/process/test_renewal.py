"""Mended code, broken code, and workers that cannot be kept alive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from tests.conftest import wait_until

pytestmark = pytest.mark.slow

BROKEN = "@handlers\ndef mended(job): raise OSError('old code')\n"
MENDED = "@handlers\ndef mended(job): return 'new code'\n"


def last_words(crew):
    """Return the lines of the log that say the supervisor's error."""
    return [line for line in crew.log().splitlines() if line.startswith("Error: ")]


def test_after_a_hangup_the_retry_runs_the_mended_code(crew):
    """SIGHUP renews each runner once the app is known to load; workers live on."""
    crew.write_app(BROKEN)
    crew.submit({"mended": []})
    supervisor = crew.start(1)
    crew.wait_for("mended", "failed")
    (before,) = crew.store.workers()
    crew.write_app(MENDED)
    supervisor.signal(signal.SIGHUP)
    wait_until(lambda: crew.store.workers()[0].runner_pid != before.runner_pid, 10, "a fresh runner")
    crew.store.retry(["r/mended"])
    assert crew.wait_for("mended").result == "new code"
    assert crew.store.workers()[0].id == before.id


def test_a_runner_is_renewed_only_after_its_current_job(crew):
    """SIGHUP cuts nothing short."""
    crew.submit({"held": []})
    supervisor = crew.start(1)
    note = crew.wait_note("held")
    supervisor.signal(signal.SIGHUP)
    crew.wait_log("The runners are renewed")
    crew.allow("go")
    assert crew.wait_for("held").attempt == 1
    crew.wait_log("has a fresh runner")
    wait_until(lambda: crew.store.workers()[0].runner_pid != note.pid, 10, "a fresh runner")
    assert crew.outcomes("held") == ["finished"]


def test_a_broken_app_is_refused_at_a_hangup_and_the_old_runners_stay(crew):
    """One line says why; what was loaded before works on."""
    supervisor = crew.start(1)
    (before,) = crew.wait_ready()
    crew.write_app("def broken(:\n")
    supervisor.signal(signal.SIGHUP)
    crew.wait_log("The runners are not renewed: ")
    crew.submit({"quick": []})
    crew.wait_for("quick")
    assert crew.notes("quick")[0].pid == before.runner_pid
    assert "SyntaxError" in crew.log()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nonesuch\n", "ModuleNotFoundError"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("sys.exit(3)\n", "SystemExit"),
        ("handlers = None\n", "handlers"),
    ],
)
def test_an_app_that_cannot_be_imported_is_exit_2_and_one_clear_line(crew, text, words):
    """It names the app and the reason; no worker is started again and again for it."""
    crew.write_app(text)
    assert crew.start(2).wait() == 2
    (line,) = last_words(crew)
    assert "app.py" in line
    assert words in line
    assert crew.processes() == []


def test_a_context_that_cannot_be_entered_ends_with_exit_5_and_its_last_words(crew):
    """It might be passing trouble: tried again with growing pauses, not for ever."""
    crew.write_app(
        "@contextlib.contextmanager\ndef context():\n    note('enter')\n    raise OSError('no database')\n    yield\n"
    )
    crew.submit({"quick": []})
    assert crew.start(1).wait(15) == 5
    (line,) = last_words(crew)
    assert "no database" in line
    starts = [note.at for note in crew.notes("enter")]
    pauses = [b - a for a, b in pairwise(starts)]
    assert len(starts) == 5
    assert pauses[-1] > pauses[0] + 0.3
    assert crew.job("quick").status == "unstarted"


def test_a_worker_that_dies_at_its_start_again_and_again_ends_with_exit_5(crew):
    """The supervisor backs off, then gives up with the last words; it never idles without workers."""
    crew.submit({"quick": []})
    supervisor = crew.start(1, env={"OVERSEER_LITE_FAILPOINTS": "register.before_commit=raise%worker"})
    assert supervisor.wait(15) == 5
    (line,) = last_words(crew)
    assert "5 died before their first job" in line
    assert "FailpointError" in line
    assert "Traceback" not in crew.log()
    assert crew.processes() == []


def test_a_retry_runs_the_mended_code_though_nobody_told_the_supervisor(crew):
    """From the command line, at once after the file was written: the old code does not run once more."""
    crew.write_app(BROKEN)
    crew.submit({"mended": []})
    crew.start(2)
    crew.wait_for("mended", "failed")
    crew.write_app(MENDED)
    os.utime(crew.app_file, (time.time() + 10, time.time() + 10))  # not within the clock's grain of the first
    argv = [sys.executable, "-m", "overseer_lite", "retry", "r/mended", "--db", crew.store.path]
    subprocess.run(argv, check=True, timeout=60)
    assert crew.wait_for("mended").result == "new code"
    assert crew.outcomes("mended") == ["failed", "finished"]


def test_a_retry_of_broken_code_is_refused(crew):
    """The jobs stay failed, and the workers stay as they are."""
    crew.write_app(BROKEN)
    crew.submit({"mended": []})
    crew.start(1)
    crew.wait_for("mended", "failed")
    crew.write_app("def broken(:\n")
    os.utime(crew.app_file, (time.time() + 10, time.time() + 10))
    script = (
        "import sys; from overseer_lite.cli import renew; renew._PATIENCE_S = 2.0\n"
        "from overseer_lite.cli.main import main; main()"
    )
    argv = [sys.executable, "-c", script, "retry", "r/mended", "--db", crew.store.path]
    ended = subprocess.run(argv, check=False, timeout=60, capture_output=True, text=True)
    assert (ended.returncode, "did not import it within 2 s" in ended.stderr) == (2, True)
    assert crew.outcomes("mended") == ["failed"]
