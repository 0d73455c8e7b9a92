"""The reports that `run` leaves: however it ended, where they were asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from contextlib import suppress

import pytest

from tests.conftest import Ended

pytestmark = pytest.mark.slow

PIPELINE = """
import os, time
import overseer_lite as overseer

handlers = overseer.Handlers()

@handlers
def first(job):
    print("first says hello", flush=True)
    while "HOLD" in os.environ and not os.path.exists(os.environ["HOLD"]):
        time.sleep(0.01)

@handlers
def second(job):
    if "MENDED" not in os.environ:
        raise ValueError("not mended yet")

graph = {"first": [], "second": ["first"]}
"""
BOTH = ("--junit", "out/junit.xml", "--summary", "out/summary.md")


class Place:
    """A directory with an app, in which `run` is called."""

    def __init__(self, directory):
        self.directory = directory
        self.app = directory / "pipeline.py"
        self.app.write_text(PIPELINE)
        self.junit = directory / "out/junit.xml"
        self.summary = directory / "out/summary.md"
        self.started = []

    def start(self, *words, **env):
        ours = ("OVERSEER_LITE_", "CI", "GITHUB_")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        argv = [sys.executable, "-m", "overseer_lite", "run", "-n", "1", "--id", "r", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(argv, cwd=self.directory, env={**environ, **env}, **pipes)
        self.started.append(process)
        return process

    def run(self, *words, **env):
        process = self.start(*words, **env)
        out, err = process.communicate(timeout=60)
        return Ended(process.returncode, out, err)

    def cases(self):
        """Return what the JUnit file says of each job."""
        found = {case.get("name"): [each.tag for each in case] for case in ET.parse(self.junit).iter("testcase")}
        return {name: tags[0] if tags else "passed" for name, tags in found.items()}

    def head(self):
        """Return the first line of the summary."""
        return self.summary.read_text().splitlines()[0]


@pytest.fixture
def place(tmp_path):
    """A directory of its own; a run that a failed test left there is stopped."""
    made = Place(tmp_path)
    yield made
    for process in made.started:
        for _ in range(2):
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=3)
        process.kill()
        process.communicate()


def test_both_files_are_written_and_say_what_failed(place):
    """Their directory is made; nothing is annotated where nobody reads annotations."""
    ended = place.run(*BOTH)

    assert ended.code == 1
    assert place.cases() == {"first": "passed", "second": "failure"}
    assert place.head() == "## Run `r`: ended with failures"
    assert "::error" not in ended.out + ended.err


def test_a_run_that_is_continued_and_has_nothing_to_do_writes_them_anew(place):
    """They tell of the run, not of this call; an old file must not be taken for a new one."""
    place.run(*BOTH)
    before = place.junit.read_text()
    place.junit.write_text("old")

    assert place.run(*BOTH).code == 1
    assert place.junit.read_text() == before
    assert place.summary.read_text().count("## Run") == 1


def test_a_run_stopped_by_a_signal_still_writes_them(place, eventually):
    """What had not begun is skipped."""
    hold = place.directory / "hold"
    process = place.start(*BOTH, HOLD=str(hold))
    output = place.directory / ".overseer/jobs.db.d/output"
    eventually(lambda: output.is_dir() and any(file.stat().st_size for file in output.iterdir()), what="the job begins")
    process.send_signal(signal.SIGTERM)
    assert "Stopping" in process.stderr.readline()
    hold.touch()
    process.communicate(timeout=30)

    assert process.returncode == 143
    assert place.cases() == {"first": "passed", "second": "skipped"}
    assert place.head() == "## Run `r`: not at its end"


def test_a_run_that_timed_out_still_writes_them(place):
    """The job that was cut short is among the attempts cut short, and skipped."""
    ended = place.run(*BOTH, "--timeout", "1", HOLD=str(place.directory / "never"))

    assert ended.code == 4
    assert place.cases() == {"first": "skipped", "second": "skipped"}
    assert "### Attempts cut short" in place.summary.read_text()


def test_a_run_that_lost_its_workers_still_writes_them(place):
    """And the last words are those of the workers."""
    place.app.write_text(f"import os\nif os.path.exists('seen'): os._exit(7)\nopen('seen', 'w').close()\n{PIPELINE}")
    ended = place.run(*BOTH)

    assert ended.code == 5
    assert ended.err.splitlines()[-1].startswith("overseer-lite: Workers cannot be kept alive: ")
    assert place.cases() == {"first": "skipped", "second": "skipped"}


def test_on_github_the_summary_goes_to_the_step_s_and_failures_are_annotated(place):
    """Added to what other commands of the step wrote; the annotation names the line in the app."""
    step = place.directory / "step.md"
    step.write_text("before\n")
    ended = place.run(GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(step))
    line = 1 + PIPELINE.splitlines().index('        raise ValueError("not mended yet")')

    assert step.read_text().startswith("before\n## Run `r`: ended with failures\n")
    assert [line for line in ended.out.splitlines() if line.startswith("::")] == [
        f"::error title=r/second failed,file=pipeline.py,line={line}::ValueError: not mended yet"
    ]


def test_annotations_leave_stdout_to_json(place):
    """`--json` prints JSON to stdout, and nothing else there."""
    ended = place.run("--json", GITHUB_ACTIONS="true")

    assert json.loads(ended.out)["exit_code"] == 1
    assert "\n::error title=r/second failed," in ended.err


@pytest.mark.parametrize("option", ["--junit", "--summary"])
def test_a_file_that_cannot_be_written_ends_a_run_that_went_well_with_2(place, option):
    """One line says which and why; the run itself is told as it was."""
    ended = place.run(option, ".", "--json", MENDED="1")
    value = json.loads(ended.out)

    assert (ended.code, value["exit_code"], value["jobs"]["finished"]) == (2, 2, 2)
    what = {"--junit": "JUnit report", "--summary": "summary"}[option]
    assert ended.err.splitlines()[-1] == f"overseer-lite: Cannot write the {what} to .: Is a directory."
    assert place.run(option, ".", MENDED="1").out.splitlines()[-2].startswith("finished in ")


def test_a_file_that_cannot_be_written_leaves_the_code_of_a_run_that_failed(place):
    """That a job failed is the worse news. The other file is written all the same."""
    ended = place.run("--junit", ".", "--summary", "out/summary.md")

    assert ended.code == 1
    assert "Cannot write the JUnit report to .: Is a directory." in ended.err
    assert place.head() == "## Run `r`: ended with failures"
