"""The code blocks of the pages, as a Markdown parser sees them: no block is missed for the way it is fenced."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
#: Pages that a command writes: they are compared with what it writes, and not run.
GENERATED = "docs/reference/"
#: What `.ci/run` runs itself, from a clean clone: setting up, the demo, the suite. Nothing else is left out.
RUN_BY_CI = {("README.md", "Run it"), ("README.md", "Test it")}


class Block(NamedTuple):
    """One code block: where it stands, what its fence says of it, and its text."""

    page: str
    line: int
    heading: str
    kind: str
    text: str

    def __str__(self):
        return f"{self.page}:{self.line} ({self.kind or 'no kind'})"

    @property
    def file(self):
        """The file that the block's first comment names; None if it names none."""
        named = re.match(r"(?:#|;;) ([\w./-]+\.\w+)(?:,.*)?$", self.text.partition("\n")[0])
        return named[1] if named else None


def pages():
    """Return the paths of all pages, relative to the repository."""
    found = ["README.md", *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md")))]
    assert len(found) > 10, f"only {found}: the rule would hold of nothing"
    return found


def read(page):
    """Return a page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page, text=None):
    """Return a page's code blocks in order, those that are only indented among them."""
    found, heading = [], ""
    tokens = MarkdownIt("commonmark").parse(read(page) if text is None else text)
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open":
            heading = following.content
        elif token.type in ("fence", "code_block"):
            found.append(Block(page, token.map[0] + 1, heading, token.info.strip(), token.content))
    return found


def spans(page):
    """Return what a page has as code within its sentences."""
    tokens = MarkdownIt("commonmark").enable("table").parse(read(page))
    return [child.content for token in tokens for child in token.children or () if child.type == "code_inline"]
