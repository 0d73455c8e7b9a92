"""The command `init`: a pipeline to begin with and its test, a table of settings, a store. What stands is left alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.session import command, session
from overseer_lite.errors import InvalidInputError

if TYPE_CHECKING:
    from overseer_lite.store import FullStore

PIPELINE_FILE: Final = "pipeline.py"
TEST_FILE: Final = "test_pipeline.py"
PROJECT_FILE: Final = "pyproject.toml"
_TABLE_NAME: Final = "overseer_lite"

PIPELINE: Final = '''\
"""Find the work, do it in parallel, merge what came out: put your own in its place."""

import overseer_lite as overseer

handlers = overseer.Handlers()


@handlers
def partitions(job):
    for number in range(4):  # stored in the transaction that finishes this job
        job.add("count", name=f"count-{number}", args={"first": number * 1000})


@handlers(retries=2, timeout=60)  # seconds for an attempt
def count(job):
    first = job.args["first"]
    return {"rows": sum(1 for n in range(first, first + 1000) if n % 3 == 0)}


@handlers
def merge(job):
    return sum(found["rows"] for found in job.results.of("count"))


graph = {"partitions": [], "merge": ["partitions"]}
'''

TEST: Final = '''\
"""The pipeline on the test double: the real engine, on a store of its own and a clock that the test moves."""

import pipeline
from overseer_lite.testing import make_job


def test_each_partition_is_counted_and_the_counts_are_merged(overseer_double):
    double = overseer_double(pipeline.handlers)
    double.submit(pipeline.graph)
    double.drain()
    assert double.job("count-3").result == {"rows": 334}
    assert double.job("merge").result == 1334


def test_merge_alone():
    assert pipeline.merge(make_job("merge", results_of={"count": [{"rows": 2}, {"rows": 3}]})) == 5
'''

TABLE: Final = f"""\
[tool.{_TABLE_NAME}]
app = "{PIPELINE_FILE}"
# db = ".overseer/jobs.db"  # `overseer-lite doctor` shows every setting and where it came from
"""


@command(
    "init",
    short_help="Write a pipeline to begin with, settings, and a store",
    example="overseer-lite init\noverseer-lite run -n 4",
)
def init() -> None:
    """Write pipeline.py, its test and a table of settings into the working directory, and make the store.

    What is there already is left as it is; beside a pipeline of one's own, no test is written.
    """
    addition = _addition()  # a file that cannot be added to is found out before anything is written
    wrote_pipeline = _write_new(PIPELINE_FILE, PIPELINE)
    if wrote_pipeline:
        click.echo(f"Wrote {PIPELINE_FILE}.")
        if _write_new(TEST_FILE, TEST):
            click.echo(f"Wrote {TEST_FILE}.")
    if addition:
        click.echo(f"{_add(addition)} {PROJECT_FILE}: [tool.{_TABLE_NAME}].")
    store = session().store()  # only now: the table says where it is
    made = _make(store)
    if made:
        click.echo(f"Made the store {say.escape(store.path)}.")
    if not wrote_pipeline and not addition and not made:
        click.echo(
            f"Nothing to do: {PIPELINE_FILE}, [tool.{_TABLE_NAME}] in {PROJECT_FILE} and the store "
            f"{say.escape(store.path)} are there, and were left as they are."
        )
    elif wrote_pipeline:
        click.echo(f"Next: `overseer-lite run -n 4`, and `pytest {TEST_FILE}` (pip install 'overseer-lite[testing]')")


def _make(store: FullStore) -> bool:
    """Make the store if there is none; return whether it was made. One that is there is only looked at."""
    if os.path.lexists(store.path):
        store.check_in_place()
        return False
    store.install()
    return True


def _addition() -> bytes:
    """Return what pyproject.toml lacks: the table, with what must stand before it; nothing if it has one.

    Raises:
        InvalidInputError: The file cannot be read, or could not be any more with the table in it.
    """
    try:
        with open(PROJECT_FILE, "rb") as file:
            there = file.read()
    except FileNotFoundError:
        return TABLE.encode()
    except OSError as error:
        raise _refusal(PROJECT_FILE, f"cannot be read: {error.strerror}") from error
    if _has_table(there):
        return b""
    gap = b"\n" if there.endswith(b"\n") else b"\n\n"
    addition = (gap if there else b"") + TABLE.encode()
    _has_table(there + addition)
    return addition


def _has_table(data: bytes) -> bool:
    """Return whether a project's file has our table, whatever is in it."""
    import tomllib

    try:
        tool = tomllib.loads(data.decode()).get("tool", {})
    except ValueError as error:  # a table `tool` that cannot be added to is one too
        raise _refusal(PROJECT_FILE, f"cannot hold the table [tool.{_TABLE_NAME}]: {error}") from error
    return isinstance(tool, dict) and _TABLE_NAME in tool


def _add(addition: bytes) -> str:
    """Append to pyproject.toml, or make it; return which of it was done."""
    there = os.path.exists(PROJECT_FILE)
    try:
        with open(PROJECT_FILE, "ab") as file:
            file.write(addition)
    except OSError as error:
        raise _refusal(PROJECT_FILE, f"cannot be written: {error.strerror}") from error
    return "Added to" if there else "Wrote"


def _write_new(path: str, text: str) -> bool:
    """Write a file that is not there; return whether it was written. A dangling link is there."""
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        raise _refusal(path, f"cannot be written: {error.strerror}") from error
    return True


def _refusal(path: str, problem: str) -> InvalidInputError:
    return InvalidInputError(f"{os.path.abspath(path)} {problem}. Mend that, then `overseer-lite init` again.")
