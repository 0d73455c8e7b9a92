"""The suite that tests the suite: its rows fit the source, and it tells caught from survived from useless."""

from __future__ import annotations

import re

import pytest

from tests.mutation import __main__ as command
from tests.mutation.broken import BROKEN
from tests.mutation.harness import ROOT, MisfitError, Mutant, apply, judge, mutants
from tests.mutation.rows import ROWS, Row


def row(words):
    """Return the mutant whose promise this is."""
    (found,) = [mutant for mutant in mutants() if mutant.breaks == words]
    return found


def test_every_row_fits_the_source():
    """What a row replaces stands there once; a row that rots would show nothing."""
    sources = {file: (ROOT / "overseer_lite/sqlite" / file).read_text() for file in {row.file for row in ROWS}}

    assert [row for row in ROWS if sources[row.file].count(row.old) != 1 or row.new == row.old] == []


def test_there_are_enough_rows_and_no_promise_is_named_twice():
    """At least forty one-line breaks, and a wrapper for each verb that is not `install`."""
    promises = [mutant.breaks for mutant in mutants()]

    assert len(ROWS) >= 40
    assert len(promises) == len(set(promises))
    assert {words.partition(":")[0] for words in BROKEN.values()} >= {
        "transact_graph", "job_info", "jobs_ready", "reserve_job", "heartbeat_job", "finish_job", "fail_job", "reset_job",
        "abort_job", "jobs_dead", "exchange", "recover",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "another type is a conflict",
        "who depends on an aborted job is stuck",
        "fence: the worker must be the holder",
        "attempt numbers go on",
        "finish_job: a stale worker finishes another's attempt, as in the ancestor",
    ],
)
def test_a_broken_store_is_caught(words):
    """A few of them; `python -m tests.mutation` runs all."""
    verdict = judge(row(words))

    assert verdict.verdict == "caught", verdict
    assert re.fullmatch(r"c\d\d\d", verdict.detail)


@pytest.mark.slow
def test_a_change_that_breaks_nothing_survives():
    """Else everything would be caught, whatever it is."""
    assert (
        judge(Mutant("queries.sql", "", Row("queries.sql", "-- boot: which", "-- boot: WHICH", "")), "c00").verdict
        == "survived"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (Row("queries.sql", "SELECT nothing of the sort", "", ""), "stands there 0 times, not once"),
        (Row("queries.sql", "SELECT", "SELECT DISTINCT", ""), "times, not once"),
        (Row("queries.sql", "SET status = 4, due_us", "SET status = 4, no_such_column", ""), "pytest ended|no working program"),
        (Row("settle.py", "FAULT_DELAY_S: Final = 10.0", "FAULT_DELAY_S: Final = nothing", ""), "pytest ended"),
    ],
    ids=["missing", "often", "no-statement", "no-python"],
)  # fmt: skip
def test_a_mutant_that_shows_nothing_is_an_error(changed, said):
    """It is not counted as caught: neither a row that has rotted, nor a change that no program survives."""
    verdict = judge(Mutant(changed.file, "", changed), "c10")

    assert verdict.verdict == "error", verdict
    assert re.search(said, verdict.detail), verdict


def test_the_tree_itself_is_never_touched(tmp_path):
    """A row is applied to the copy that is named."""
    package = tmp_path / "overseer_lite"
    (package / "sqlite").mkdir(parents=True)
    file = package / "sqlite" / ROWS[0].file
    file.write_text(f"before {ROWS[0].old} after")
    before = (ROOT / "overseer_lite/sqlite" / ROWS[0].file).read_bytes()

    apply(ROWS[0], package)

    assert file.read_text() == f"before {ROWS[0].new} after"
    assert (ROOT / "overseer_lite/sqlite" / ROWS[0].file).read_bytes() == before
    with pytest.raises(MisfitError):
        apply(ROWS[0], package)


def test_a_choice_of_none_is_bad_usage(capsys):
    """Rather than `0 of 0 caught`."""
    assert command.main(["-k", "no such promise"]) == 2
    assert "No mutant has 'no such promise'" in capsys.readouterr().err
