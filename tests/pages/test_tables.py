"""Tables of the pages that list what the code has: nothing is missing in them, and nothing is left over."""

from __future__ import annotations

import ast
import re

import pytest

from overseer_lite import errors
from overseer_lite.cli import main
from overseer_lite.config import SETTINGS
from overseer_lite.job import Outcome
from overseer_lite.sqlite import examine
from tests.pages.blocks import ROOT, read


def column(page, head):
    """Return the first column of the page's table with that head; code marks left out."""
    found = re.search(rf"(?m)^\| {re.escape(head)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", read(page))
    assert found, f"{page} has no table that begins with {head!r}"
    cells = [line.split("|")[1] for line in found[1].splitlines()]
    return [word.strip().strip("`") for cell in cells for word in cell.split(",")]


@pytest.mark.parametrize("page", ["README.md", "docs/operating.md"])
def test_every_exit_code_has_a_row(page):
    """Whoever reads a code in a log finds what it means."""
    tree = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.OverseerError)]
    codes = {0, main.INTERRUPTED, 143, main.PROGRAM_FAULT} | {each.exit_code for each in tree}
    # That nobody reads any more nobody can be told: only the page for operators has it.
    codes |= {main.OUTPUT_CLOSED} if page != "README.md" else set()

    assert sorted(map(int, column(page, "exit code"))) == sorted(codes)


def test_every_finding_of_doctor_has_a_row():
    """What it names can be looked up; a finding that is added gets a row."""
    tree = ast.parse((ROOT / "overseer_lite/sqlite/examine.py").read_text(encoding="utf-8"))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding" and node.args
    ]
    names = {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}

    assert set(column("docs/operating.md", "finding")) == names


def test_a_look_that_could_not_be_taken_is_named_as_its_findings_are():
    """Such a finding has the name of the look: it must be one that can be looked up as well."""
    looks = {look.__name__ for look in (*examine._OUTSIDE, examine._schema, *examine._INSIDE)}

    assert {name.strip("_").replace("_", " ") for name in looks} <= set(column("docs/operating.md", "finding"))


def test_every_outcome_has_a_row():
    """In the order of the code; what was handed back has no row of history, and so none here."""
    assert column("docs/concepts.md", "outcome") == [each for each in Outcome if each is not Outcome.HANDED_BACK]


def test_every_setting_of_the_readme_is_one_and_has_that_default():
    """It shows those that matter most; docs/reference/commands.md has all."""
    shown = set(column("README.md", "setting"))
    known = {setting.name: setting for setting in SETTINGS}

    assert shown <= known.keys()
    for name, default in re.findall(r"(?m)^\| `(\w+)` \| `?([\w./]+)`? \|", read("README.md")):
        assert str(known[name].default).removesuffix(".0") == default
