"""The pictures in the README, and the terminal they are recorded from."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from docs.views.terminal import Screen, export, screens

ROOT = Path(__file__).resolve().parents[2]
PICTURES = re.findall(r"!\[[^]]+\]\((docs/views/\w+\.svg)\)", (ROOT / "README.md").read_text(encoding="utf-8"))


def words(picture):
    """Return what stands in a picture."""
    texts = ET.parse(picture).iter("{http://www.w3.org/2000/svg}text")
    return "\n".join(text.text or "" for text in texts).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize("picture", PICTURES)
def test_each_picture_of_the_readme_is_there_and_shows_a_command_s_output(picture):
    """Recorded in a scratch directory, of which nothing is to be seen; nothing is fetched by whoever looks at it."""
    shown = words(ROOT / picture)

    assert "overseer-lite" in shown
    assert re.search("nightly-2026-11-24", shown)
    assert "/tmp" not in shown
    svg = (ROOT / picture).read_text(encoding="utf-8")
    assert re.findall(r"(?:url\(|href=\")(?!#)[^)\"]*", svg) == []


def test_every_picture_that_is_recorded_is_shown():
    """Four of them: none lies about unseen."""
    recorded = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs/views").glob("*.svg"))
    assert sorted(PICTURES) == recorded
    assert len(recorded) == 4


def test_the_screen_shows_what_a_terminal_would():
    """What was drawn and erased is gone, what was printed above stays; colours end where they end."""
    screen = Screen()
    screen.write("one\r\n\x1b[?25l\x1b[31mtwo\x1b[0m\r\nthree")
    screen.write("\r\x1b[2K\x1b[1A\x1b[2K\x1b[32mabove\x1b[0m\r\nnow\x1b[?25h\r\n")

    text = screen.text()
    assert text.plain == "one\nabove\nnow"
    console = Console()
    styles = [text.get_style_at_offset(console, offset).color for offset in (0, 4, 8, 11)]
    assert [style and style.number for style in styles] == [None, 2, 2, None]  # 2 is green


def test_a_code_that_the_screen_does_not_know_is_an_error():
    """A picture must not show what no terminal would."""
    with pytest.raises(LookupError, match="does not know the code"):
        Screen().write("\x1b[2J")


@pytest.mark.slow
def test_a_command_s_output_becomes_a_picture(tmp_path):
    """With its words, in the directory it was started in."""
    *_, screen = screens(["status", "--db", "none.db"], str(tmp_path))
    export(screen.text(), str(tmp_path / "view.svg"), "a title")

    shown = " ".join(words(tmp_path / "view.svg").split())
    assert "a title" in shown
    assert "overseer-lite: There is no store at" in shown
