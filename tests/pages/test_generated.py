"""What follows from the code and stands in docs/ follows from this code: the reference, and the state machine."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from docs.states import drawing
from overseer_lite.job import TRANSITIONS, Status, Transition
from tests.pages.blocks import GENERATED, ROOT, blocks, pages
from tests.pages.kinds import check_calls

RENEW = "run `python -m docs` to renew it"


@pytest.fixture
def written():
    """What the command writes: page to text."""
    pytest.importorskip("griffe", reason="needs griffe: pip install -e '.[dev]'")
    from docs.__main__ import PAGES

    return PAGES


@pytest.mark.slow
def test_every_page_that_a_command_writes_is_what_it_would_write_now(written):
    """A signature, a docstring or an option that was changed is changed there as well."""
    for page, write in written.items():
        assert (ROOT / page).read_text(encoding="utf-8") == write(), f"{page} is out of date: {RENEW}"


def test_no_page_of_the_reference_is_written_by_nobody(written):
    """One that the command no longer writes would stay as it was."""
    assert {page for page in pages() if page.startswith(GENERATED)} == written.keys() - {"docs/concepts.md"}


@pytest.mark.parametrize("page", [page for page in pages() if page.startswith(GENERATED)])
def test_signatures_are_python_and_examples_are_commands(page):
    """Nothing of the reference is run; but it can be read as what it says it is."""
    for block in blocks(page):
        if block.kind == "python":
            ast.parse(block.text)
        else:
            assert block.kind == "sh", block
            for line in block.text.splitlines():
                check_calls(line)


def test_the_drawing_has_every_move_of_the_table(monkeypatch):
    """One arrow for a pair of statuses, every verb on it; and it changes with the table."""
    arrows = dict(line.strip().split(": ") for line in drawing().splitlines() if ": " in line)
    assert {(*pair.split(" --> "), verb) for pair, verbs in arrows.items() for verb in verbs.split(", ")} == {
        *((move.source, move.target, move.verb) for move in TRANSITIONS),
        ("[*]", "unstarted", "submit"),
    }

    more = (*TRANSITIONS, Transition("undo", Status.FINISHED, Status.UNSTARTED, "nobody"))
    monkeypatch.setattr("docs.states.TRANSITIONS", more)
    assert "finished --> unstarted: undo\n" in drawing()
    assert "finished --> [*]" not in drawing()


@pytest.mark.slow
def test_the_command_renews_what_is_out_of_date_and_says_so(tmp_path):
    """Run as the message says, on a copy of the tree whose reference is stale."""
    pytest.importorskip("griffe", reason="needs griffe: pip install -e '.[dev]'")
    for name in ("docs", "overseer_lite"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(tmp_path / name)], check=True)
    stale = tmp_path / "docs/reference/python.md"
    stale.write_text("old\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, "-m", "docs"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)

    assert done.stdout == "wrote docs/reference/python.md\n"
    assert stale.read_bytes() == (ROOT / "docs/reference/python.md").read_bytes()
