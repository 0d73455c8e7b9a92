"""`test-store`: what it ends with, for a store that keeps the contract, one that does not, and no store at all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

STORES = """
from overseer_lite.testing import sqlite_factory

class Wrapper:
    def __init__(self, store):
        self._store = store
    def __getattr__(self, name):
        return getattr(self._store, name)

class Forgetful(Wrapper):
    def finish_job(self, attempt, result=None, added=()):
        self._store.finish_job(attempt, None, added)

class Modest(Wrapper):
    capabilities = frozenset({"looking"})

def forgetful(directory, clock):
    return Forgetful(sqlite_factory(directory, clock))

def modest(directory, clock):
    return Modest(sqlite_factory(directory, clock))

def failing(directory, clock):
    raise OSError("no room")

def nothing(directory, clock):
    pass

number = 3
"""


@pytest.fixture
def test_store(tmp_path):
    """Call the command in a directory that has a module of factories; return its process, ended."""
    (tmp_path / "stores.py").write_text(STORES)

    def call(*words, **env):
        return subprocess.run(
            [sys.executable, "-m", "overseer_lite", "test-store", *words],
            cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip

    return call


def test_our_store_passes(test_store):
    """All clauses, none of them skipped: our store has every capability, and its factory makes one without crash limit."""
    done = test_store("overseer_lite.testing:sqlite_factory")

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert " passed" in done.stdout
    assert "SKIPPED" not in done.stdout


def test_one_broken_verb_is_found(test_store):
    """A finish that loses the result: exit 1, and the clause is named."""
    done = test_store("stores:forgetful", "-k", "result")

    assert done.returncode == 1, done.stderr
    assert "FAILED" in done.stdout
    assert " passed" in done.stdout  # the other verbs are kept


def test_what_is_skipped_is_printed_with_the_reason(test_store):
    """A store need not have every capability; but nobody is to think that it was tested for them."""
    done = test_store("stores:modest", "-k", "c07 or c08")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "SKIPPED" in done.stdout
    assert "the store does not declare" in done.stdout
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stores"], "'stores' is not of the form"),
        (["no_such_module:f"], "importing 'no_such_module' raised ModuleNotFoundError"),
        (["stores:forgetfull"], "has no 'forgetfull'"),
        (["stores:number"], "is int. Give a function"),
        (["stores:failing"], "raised OSError: no room"),
        (["stores:nothing"], "returned NoneType, which has no `capabilities`"),
        (["stores:modest", "-k", "no_such_clause"], "No clause matches -k 'no_such_clause'"),
        (["stores:modest", "-k", "c01 or"], "does not understand -k 'c01 or'"),
    ],
    ids=["form", "module", "name", "number", "raises", "nothing", "no clause", "expression"],
)
def test_a_factory_that_is_of_no_use_is_one_line_and_exit_2(test_store, words, said):
    """The line names the factory and what to do; no clause is tried."""
    done = test_store(*words)

    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("overseer-lite: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_pytest_the_extra_is_named(test_store, tmp_path):
    """Who has only the library installed learns what to install."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "old = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'pytest' else old(name, package)\n"
    )
    done = test_store("stores:modest", PYTHONPATH=str(tmp_path))

    assert (done.returncode, done.stderr) == (
        2,
        "overseer-lite: The contract suite needs pytest. Install the extra: pip install 'overseer-lite[testing]'.\n",
    )
