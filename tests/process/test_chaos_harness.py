"""The harness of the chaos runs: a run that is cut short, that fails, that goes on, that is not complete; tiny rows."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.chaos import traced
from tests.chaos.judge import gather, leftovers
from tests.chaos.progress import Progress
from tests.chaos.rig import HERE, Rig
from tests.chaos.run import SLICES, Run
from tests.chaos.scenario import Scenario, Skipped, Violation
from tests.chaos.syscalls import every_point
from tests.conftest import wait_until

ROOT = os.path.dirname(os.path.dirname(HERE))
SEED = 7


class Bench:
    """A directory of runs, and what they have run so far. Each unit takes a second of a clock that stands otherwise."""

    def __init__(self, directory):
        self.directory = str(directory)
        self.ran: list[tuple[str, int]] = []
        self.broken: set[tuple[str, int]] = set()
        self._seconds = itertools.count()
        self._now = 0

    def row(self, name, units, *, alone=False, closing=None):
        def run(unit):
            self._now = next(self._seconds)
            self.ran.append((name, unit.index))
            if (name, unit.index) in self.broken:
                raise Violation("P2: broken")
            return {"jobs": 1}

        return Scenario(name, run, units, units, alone, "A tiny row.", closing)

    def run(self, rows, minutes=None, *, release=True):
        """Run as the same command would; return the run and its exit code."""
        options = argparse.Namespace(release=release, units=None, seed=SEED, minutes=minutes)
        progress = Progress(os.path.join(self.directory, "progress.jsonl"), SEED, "release")
        run = Run(options, self.directory, progress, clock=lambda: self._now)
        run.rows(rows)
        return run, run.closing(rows, 0.0)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


# ---- a run that is cut short


def test_a_run_that_is_cut_short_has_as_large_a_share_of_every_row(bench):
    """Those that run alone come first only within a slice; or a short run would never get to the others."""
    rows = [bench.row("alone", 2 * SLICES, alone=True), bench.row("beside", SLICES), bench.row("few", 2)]
    run, code = bench.run(rows, minutes=20 / 60)
    done = {row.name: run.whole(row).done for row in rows}
    assert code == 0
    assert sum(done.values()) < 25
    assert done["few"] == 1
    assert 6 <= done["beside"] <= 8
    assert 0 <= done["alone"] - 2 * done["beside"] <= 4


def test_the_same_command_goes_on_where_it_was(bench):
    """Begun after their time, units are left for the next; in the end each has run once."""
    rows = [bench.row("alone", 8, alone=True), bench.row("beside", 16)]
    bench.run(rows, minutes=5 / 60)
    first = len(bench.ran)
    assert 0 < first < 24
    run, code = bench.run(rows)
    assert code == 0
    assert [run.whole(row).done for row in rows] == [8, 16]
    assert Counter(bench.ran) == Counter([("alone", n) for n in range(8)] + [("beside", n) for n in range(16)])


def test_a_small_run_is_one_slice_the_lone_ones_first(bench):
    """It is not cut short, and what runs side by side loses least time in one piece."""
    rows = [bench.row("beside", 1), bench.row("alone", 2, alone=True)]
    bench.run(rows, release=False)
    assert bench.ran == [("alone", 0), ("alone", 1), ("beside", 0)]


# ---- what failed


def test_a_failed_unit_is_done_again_and_not_forgotten(bench, capsys):
    """It passes the second time: the run is green, and its violation stays in the figures for ever."""
    rows = [bench.row("beside", 3)]
    bench.broken = {("beside", 1)}
    run, code = bench.run(rows)
    assert (code, run.whole(rows[0]).violations) == (1, 1)
    bench.broken, bench.ran[:] = set(), []
    run, code = bench.run(rows)
    assert bench.ran == [("beside", 1)]
    assert (code, run.whole(rows[0]).violations) == (0, 1)
    assert "(1 failed in an earlier part of this run)" in capsys.readouterr().out
    run, code = bench.run(rows)
    assert (len(bench.ran), code, run.whole(rows[0]).violations) == (1, 0, 1)


def test_a_unit_that_failed_twice_counts_twice(bench):
    """No unit's failure hides another's."""
    rows = [bench.row("beside", 1)]
    bench.broken = {("beside", 0)}
    bench.run(rows)
    run, code = bench.run(rows)
    assert (code, run.whole(rows[0]).violations) == (1, 2)


def test_a_line_that_was_cut_off_costs_its_own_unit_and_no_other(bench):
    """The run was killed while it wrote: what it wrote before counts, and what comes after is not glued to the piece."""
    rows = [bench.row("beside", 3)]
    bench.run(rows, minutes=-1)
    path = os.path.join(bench.directory, "progress.jsonl")
    bench.run(rows)
    with open(path, encoding="ascii") as file:
        lines = file.readlines()
    with open(path, "w", encoding="ascii") as file:
        file.write("".join(lines[:2]) + lines[2][: lines[2].index("}") + 1])
    bench.ran.clear()
    bench.run(rows)
    assert len(bench.ran) == 1
    bench.run(rows)
    assert len(bench.ran) == 1


def test_progress_of_another_seed_is_not_this_runs(bench):
    """The same file may hold several runs."""
    path = os.path.join(bench.directory, "progress.jsonl")
    Progress(path, SEED + 1, "release").add({"scenario": "beside", "unit": 0, "outcome": "failed", "words": "it broke"})
    run, code = bench.run([row := bench.row("beside", 1)])
    assert (bench.ran, code, run.whole(row).violations) == ([("beside", 0)], 0, 0)


def test_a_run_in_which_all_was_skipped_is_no_success(bench):
    """Nothing was proved."""

    def skip(_unit):
        raise Skipped("no strace here")

    _, code = bench.run([Scenario("beside", skip, 1, 2, False, "", None)])
    assert code == 1


# ---- what was never reached


def test_missing_points_make_a_complete_run_red(bench, capsys):
    """And only that: while units are still to come, so may the points be."""
    rows = [bench.row("beside", 4, closing=lambda _directory: ({"points": 2}, ["here"]))]
    run, code = bench.run(rows, minutes=1 / 60)
    assert (code, run.whole(rows[0]).missing) == (0, [])
    run, code = bench.run(rows)
    assert (code, run.whole(rows[0]).violations) == (1, 1)
    assert "FAILED  beside: 1 points were never reached: here" in capsys.readouterr().out


def test_a_system_call_that_was_never_visited_makes_the_run_red(bench, capsys):
    """With the true plan of the row: two points, one of them visited; then both."""
    with open(os.path.join(bench.directory, traced.PLAN), "w", encoding="ascii") as file:
        json.dump({"command": {"fsync": 2}}, file)
    with open(os.path.join(bench.directory, traced.VISITED), "w", encoding="ascii") as file:
        file.write("command KILL fsync 1\n")
    rows = [bench.row("syscalls", 1, closing=every_point)]
    run, code = bench.run(rows)
    assert (code, run.whole(rows[0]).missing) == (1, ["command KILL fsync 2"])
    assert run.whole(rows[0]).figures["visited"] == 1
    assert "1 points were never reached: command KILL fsync 2" in capsys.readouterr().out
    traced.plan_of(bench.directory, "", 0, None).visit(traced.Point("command", traced.KILL, "fsync", 2))
    _, code = bench.run(rows)
    assert code == 0


# ---- the command


ROWS = '''
import os
from tests.chaos.scenario import Violation, scenario

@scenario("tiny", small=1, release=3)
def tiny(unit):
    """A tiny row."""
    if os.environ.get("TINY_BREAKS") == str(unit.index):
        raise Violation("P1: it broke")
    return {"jobs": 2, "builds": [f"b{unit.index}"], "silent_ms": [10.0 * unit.index]}

@scenario("mute", small=1, release=1)
def mute(unit):
    """A row without figures."""
    return {}
'''


@pytest.fixture
def command(tmp_path):
    """Run the command with the tiny rows, its figures written to a file of the test's own."""
    (tmp_path / "tiny_rows.py").write_text(ROWS)
    path = tmp_path / "RESULTS.md"

    def run(*words):
        argv = [sys.executable, "-m", "tests.chaos", "--rows", "tiny_rows", "--dir", str(tmp_path / "runs")]
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(
            [*argv, "--results", str(path), *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )

    run.results = path
    return run


def test_the_figures_of_a_run_go_where_they_belong(command):
    """Its section is replaced in its place, row by row, and all else is left as it is."""
    command.results.write_text("# What was measured\n\n## chaos\n\nold\n\n## another\n\nkept\n")
    done = command("--release", "--write")
    assert done.returncode == 0, done.stderr
    text = command.results.read_text()
    head, _, rest = text.partition("## chaos\n")
    section, _, after = rest.partition("\n## ")
    assert (head, after, "old" in section) == ("# What was measured\n\n", "another\n\nkept\n", False)
    assert "| tiny | 3 of 3 | 0 | jobs 6, longest pause of beats 20.0, these: b0, b1, b2 |" in section
    assert "| mute | 1 of 1 | 0 | no figures |" in section
    command("--release", "--write", "--seed", "1", "--minutes", "-1")
    assert "| tiny | 0 of 3 |  | not yet run |" in command.results.read_text()


def test_a_section_that_is_not_there_yet_comes_last(command):
    """And nothing is written unless it is asked for."""
    command.results.write_text("# What was measured\n\n## another\n\nkept\n")
    command("--release")
    assert "chaos" not in command.results.read_text()
    command("--release", "--write")
    assert command.results.read_text().startswith("# What was measured\n\n## another\n\nkept\n\n## chaos\n\n")


def test_what_failed_is_told_of_though_it_passed_in_the_end(command, monkeypatch):
    """Which unit, of which version, and what was said: who reads the figures sees whether a promise was broken."""
    command.results.write_text("# What was measured\n")
    monkeypatch.setenv("TINY_BREAKS", "1")
    assert command("--release").returncode == 1
    monkeypatch.delenv("TINY_BREAKS")
    assert command("--release", "--write").returncode == 0
    text = command.results.read_text()
    assert "| tiny | 3 of 3 | 1 |" in text
    assert re.search(r"^- tiny, unit 1, version .*: P1: it broke$", text, re.MULTILINE)


def test_a_run_without_time_begins_nothing_and_the_next_does_all(command):
    """`--minutes` that are over: exit 1, nothing was proved."""
    done = command("--release", "--minutes", "-1")
    assert (done.returncode, "0 passed, 0 failed" in done.stdout) == (1, True)
    done = command("--release")
    assert (done.returncode, "4 passed, 0 failed" in done.stdout) == (0, True)


# ---- what the judge finds outside the log


@pytest.mark.slow
def test_the_judge_finds_files_and_processes_that_are_left(tmp_path):
    """A worker's file, a process that still holds a job's lock; nothing of either in a rig that is done."""
    rig = Rig(str(tmp_path / "rig"))
    try:
        rig.submit([{"id": "a", "args": {"s": 0}}])
        rig.drain(workers=1)
        assert leftovers(rig) == []
        lock = os.path.join(rig.directory, "locks", "held")
        with open(lock, "wb") as file:
            left = subprocess.Popen(["sleep", "60"], pass_fds=[file.fileno()], env={})
        open(os.path.join(f"{rig.db}.d", "bells", "w9"), "wb").close()
        try:
            wait_until(lambda: rig.pids("other") == [left.pid], 5, "the process is seen")
            found = leftovers(rig)
        finally:
            left.kill()
            left.wait()
        assert found == [f"left: process {left.pid} (other, sleep 60 )", "left: bells/w9"]
    finally:
        rig.close()


HARM = """
import sys
from overseer_lite.sqlite import engine
connection = engine.Connection(sys.argv[1], engine.OPEN_READWRITE)
connection.execute("PRAGMA foreign_keys = OFF")
connection.execute("PRAGMA ignore_check_constraints = ON")
connection.execute(sys.argv[2])
connection.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("INSERT INTO workers (id, registered) VALUES ('w9', 1)", "left: the row of worker w9"),
        ("UPDATE jobs SET waiting_for = -1", "P7: integrity_check says CHECK constraint failed in jobs"),
        ("UPDATE jobs SET type = 77", "P7: foreign_key_check says ['jobs', 1, 'types'"),
    ],
    ids=["worker", "integrity", "foreign key"],
)
def test_the_judge_finds_what_is_wrong_with_the_file(tmp_path, statement, found):
    """Harmed from a process of its own: two engines in one process would lose each other's locks."""
    rig = Rig(str(tmp_path / "rig"))
    rig.submit([{"id": "a"}])
    assert gather(rig)[1] == []
    subprocess.run([sys.executable, "-c", HARM, rig.db, statement], check=True)
    assert [words for words in gather(rig)[1] if words.startswith(found)]
