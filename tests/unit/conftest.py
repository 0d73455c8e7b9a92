"""The command line in a place of its own: what the tests that call it in this process share."""

from __future__ import annotations

import os

import pytest
from click.testing import CliRunner

from overseer_lite.cli.main import program
from tests.conftest import Ended


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Work in a directory of its own, below no pyproject.toml, with none of our variables set."""
    for name in [name for name in os.environ if name.startswith("OVERSEER_LITE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cli(elsewhere):
    """Call the command line."""

    def call(line, *, stdin=None):
        words = line.split() if isinstance(line, str) else line
        result = CliRunner().invoke(program, words, input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    return call
