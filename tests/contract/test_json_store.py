"""The home-made store of docs/testing.md: the page, whose blocks are run elsewhere, leads to the file that is shipped."""

from __future__ import annotations

from pathlib import Path

from overseer_lite.examples import json_store
from tests.pages.blocks import blocks
from tests.pages.kinds import KINDS, Scene

NAME = "json_store.py"


def test_the_page_s_steps_lead_to_the_shipped_file(tmp_path):
    """Its first try, changed by its diffs one after the other: nothing is changed that the page does not show."""
    scene = Scene(tmp_path)
    try:
        steps = [block for block in blocks("docs/testing.md") if f"+++ {NAME}" in block.text or block.file == NAME]
        for step in steps:
            KINDS[step.kind](scene, step)
    finally:
        scene.terminal.close()
    written = (tmp_path / NAME).read_text().removeprefix(f"# {NAME}\n")

    assert len(steps) > 5
    assert written == Path(json_store.__file__).read_text()


def test_it_is_under_150_lines():
    """A store can be small: that is what the page shows. Blank lines count."""
    assert len(Path(json_store.__file__).read_text().splitlines()) < 150
