"""The plugin: what it says of a failed test, what it does of one that leaves a process behind, and many at a time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from overseer_lite.liveness import read_stat

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).resolve().parents[2] / "overseer_lite/examples/invoices"

JOBS = """
import os, signal, subprocess, sys
import overseer_lite as overseer

handlers = overseer.Handlers()

@handlers
def load(job):
    print("loading", job.attempt)
    raise ConnectionError("no answer")

@handlers
def merge(job):
    pass

@handlers
def quick(job):
    return os.getpid()

graph = {"load": [], "merge": ["load"]}
"""


@pytest.fixture
def run_tests(tmp_path):
    """Run tests beside a module of handlers, in a process of their own; return what that said, ended."""

    def run(tests, *words):
        (tmp_path / "plugin_jobs.py").write_text(JOBS)
        (tmp_path / "test_theirs.py").write_text("import plugin_jobs as jobs\n" + textwrap.dedent(tests))
        env = {name: value for name, value in os.environ.items() if not name.startswith(("OVERSEER", "PYTEST"))}
        argv = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
        return subprocess.run(
            [*argv, "-rfE", *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120
        )

    return run


FAILING = """
    def test_it(overseer_double):
        d = overseer_double(jobs.handlers)
        d.submit(jobs.graph)
        d.drain()
        assert d.job("merge").status == "finished"
"""


def test_a_failed_test_shows_graph_events_and_output(run_tests):
    """Enough to see what happened, without running it again."""
    said = run_tests(FAILING).stdout

    assert "- overseer double: graph -" in said
    assert "load: failed: no answer" in said
    assert re.search(r"merge: stuck: something it depends on failed or was aborted  <- load", said)
    assert "- overseer double: events -" in said
    assert '{"at_s":0.0,"attempt":1,"event":"reserved","job":"r1/load","worker":"w1"}' in said
    assert "- overseer double: output of load, attempt 1 (failed) -\nloading 1\n" in re.sub("-{2,}", "-", said)


def test_each_double_of_a_failed_test_is_shown(run_tests):
    """By number, in the order in which they were made; with the log of a pool, if it had one."""
    said = run_tests(
        """
        def test_it(overseer_double):
            one, other = overseer_double(jobs.handlers), overseer_double(jobs.handlers)
            other.submit({"quick": []})
            with other.pool(1) as pool:
                pool.wait_quiescent()
            assert one.jobs()
        """
    ).stdout

    assert "- overseer double 1: graph -" in said
    assert "(nothing was submitted)" in said
    assert "- overseer double 2: log of the pool -" in said
    assert "Worker starting" in said


def test_what_cannot_be_shown_hides_no_failure(run_tests):
    """The test's own failure comes first, whatever has become of its store."""
    said = run_tests(
        """
        import os

        def test_it(overseer_double):
            d = overseer_double(jobs.handlers)
            d.submit(jobs.graph)
            d.store.close()
            os.truncate(d.store.path, 100)
            assert 1 == 2
        """
    ).stdout

    assert "assert 1 == 2" in said
    assert "cannot be read: " in said


def test_a_test_that_passes_shows_nothing(run_tests):
    """Nor does one that fails without a double."""
    done = run_tests(FAILING.replace('== "finished"', '== "unstarted"') + "\n    def test_other():\n        assert 0\n")

    assert "1 failed, 1 passed" in done.stdout
    assert "overseer double" not in done.stdout


@pytest.mark.parametrize("how", ["a process of its own", "a pool"])
def test_a_test_that_leaves_a_process_behind_fails_and_it_is_killed(run_tests, tmp_path, how):
    """It would go on beside the next test, on a store that is gone."""
    leave = {
        "a process of its own": 'pid = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]).pid',
        "a pool": "pid = d.pool(1).__enter__().pid",
    }[how]
    done = run_tests(
        f"""
        import pathlib, subprocess, sys, warnings

        def test_it(overseer_double):
            warnings.simplefilter("ignore")
            d = overseer_double(jobs.handlers)
            {leave}
            pathlib.Path("pid").write_text(str(pid))

        def test_next():
            pass
        """
    )
    pid = int((tmp_path / "pid").read_text())

    assert done.returncode == 1
    assert "2 passed, 1 error" in done.stdout
    assert f"The test has left behind, and they were killed:\n  process {pid}: " in re.sub("(?m)^E +", "", done.stdout)
    stat = read_stat(pid)
    assert stat is None or stat.dead


def test_many_tests_run_at_a_time(run_tests):
    """Under pytest-xdist: each worker of it has directories of its own, and nobody sees another's jobs or processes."""
    pytest.importorskip("xdist", reason="needs pytest-xdist: pip install -e '.[dev]'")
    done = run_tests(
        """
        import os
        import pytest

        seen = []

        @pytest.mark.parametrize("number", range(4))
        def test_drain(overseer_double, number, tmp_path_factory):
            d = overseer_double(jobs.handlers)
            d.submit({"quick": []})
            assert d.drain() == ["quick"]
            assert d.directory.startswith(str(tmp_path_factory.getbasetemp()))
            assert os.environ["PYTEST_XDIST_WORKER"] in d.directory
            assert d.job("quick").result == os.getpid()

        @pytest.mark.parametrize("number", range(2))
        def test_pool(overseer_double, number):
            d = overseer_double(jobs.handlers)
            d.submit({"quick": []})
            with d.pool(1) as pool:
                pool.wait_quiescent()
            assert d.attempts("quick") == ["finished"]

        def test_failing(overseer_double):
            d = overseer_double(jobs.handlers)
            d.submit(jobs.graph)
            d.drain()
            assert 0
        """,
        "-n",
        "2",
    )

    assert "1 failed, 6 passed" in done.stdout
    assert "- overseer double: events -" in done.stdout


def test_the_example_is_tested_as_its_user_would_test_it(tmp_path):
    """A copy of the project, nothing else on the path: all its tests pass, and none is skipped."""
    project = tmp_path / "invoices"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__"))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OVERSEER", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(project), "-p", "no:cacheprovider"],
        cwd=project, env=env, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert " 9 passed" in done.stdout
    assert "skipped" not in done.stdout
