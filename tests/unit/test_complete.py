"""What a shell completes after Tab: commands, options, and what the store has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.shell_completion import BashComplete

from overseer_lite.cli.main import program
from overseer_lite.graph import Graph
from overseer_lite.store import open_store


@pytest.fixture
def store(elsewhere, tmp_path):
    """Return a store at the default place, which has the runs nightly and other."""
    made = open_store(str(tmp_path / ".overseer/jobs.db"))
    made.install()
    for run in ("nightly", "other"):
        made.transact_graph(Graph.of([Graph().add("load"), Graph().add("count", name="count-1")], id=run))
    yield made
    made.close()


def completed(*words):
    """Return what stands to choose for the last word."""
    found = BashComplete(program, {}, "overseer-lite", "_X").get_completions(list(words[:-1]), words[-1])
    return [each.value for each in found]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("sho",), ["show"]),
        (("run", "--outp"), ["--output"]),
        (("show", "nightly/"), ["nightly/load", "nightly/count-1"]),
        (("logs", "c"), ["count-1"]),
        (("why", "--run", "other", "o"), ["other/load", "other/count-1"]),
        (("retry", "nightly/load", "nightly/c"), ["nightly/count-1"]),
        (("abort", "oth"), ["other/load", "other/count-1"]),
        (("jobs", "--type", ""), ["count", "load"]),
        (("status", "--run", "n"), ["nightly"]),
        (("jobs", "--status", "fa"), ["failed"]),
    ],
)
def test_commands_options_ids_runs_and_types_are_completed(store, words, found):
    """An id or a name, as the commands take either."""
    assert completed(*words) == found


def test_the_store_that_the_line_names_is_asked(store, tmp_path, monkeypatch):
    """Wherever the option stands."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert completed("show", "nightly/l") == []
    assert completed("--db", store.path, "show", "nightly/l") == ["nightly/load"]
    assert completed("show", "--db", store.path, "nightly/l") == ["nightly/load"]


@pytest.mark.slow
def test_without_a_store_nothing_is_completed_and_nothing_is_said(tmp_path):
    """A message would stand in the middle of somebody's line; and looking makes no store."""
    environ = {
        **os.environ,
        "_OVERSEER_LITE_COMPLETE": "bash_complete",
        "COMP_WORDS": "overseer-lite show n",
        "COMP_CWORD": "2",
    }
    argv = [sys.executable, "-m", "overseer_lite"]
    ended = subprocess.run(argv, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60)

    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
