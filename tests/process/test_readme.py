"""What the README prints works as printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """Return the README's code blocks of a language, each with the heading it stands under."""
    heading, found = "", []
    for part in re.split(r"(?m)^(## .+)$", README):
        if part.startswith("## "):
            heading = part
        found += [(heading, body) for body in re.findall(rf"```{language}\n(.*?)```", part, re.DOTALL)]
    return found


def pipeline(heading="## A pipeline"):
    """Return the one block of Python under a heading."""
    (found,) = [body for under, body in blocks("python") if under == heading]
    return found


def test_there_are_exactly_two_commands_to_set_up_run_and_test():
    """One under `## Run it`, one under `## Test it`, a line each: whoever comes new needs no other step."""
    assert [heading for heading, _ in blocks("sh")] == ["## Run it", "## Test it"]
    assert all(body.count("\n") == 1 for _, body in blocks("sh"))


def test_the_pipeline_is_the_example_that_lies_in_the_package():
    """So that it is linted, typed and never out of date."""
    printed = pipeline()
    example = ROOT / "overseer_lite/examples/readme_pipeline.py"
    assert printed == example.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_pipeline_runs_as_printed(tmp_path):
    """With the command that stands below it, to the result that stands there."""
    printed = pipeline()
    (tmp_path / "pipeline.py").write_text(printed, encoding="utf-8")

    def cli(*words):
        argv = [sys.executable, "-m", "overseer_lite", *words]
        return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    ran = cli("run", "-n", "4", "--id", "r")
    assert ran.returncode == 0, ran.stderr
    shown = json.loads(cli("show", "r/merge", "--result", "--json").stdout)

    assert "says 9592" in README
    assert shown == 9592


@pytest.mark.slow
def test_the_graph_of_commands_runs_as_printed(tmp_path):
    """Beside a source and its test, with this interpreter as `python`: to exit code 0, and to the file it packs."""
    for name, text in (
        ("pipeline.py", pipeline("## Steps that are commands")),
        ("src/a.py", "A = 1\n"),
        ("tests/test_a.py", "def test_a():\n    pass\n"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    environment = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    argv = [sys.executable, "-m", "overseer_lite", "run", "-n", "2"]
    ran = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60, env=environment)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / "src.tgz").exists()
