"""The commands init, prune, graph and events: what they print, what they write, what they leave alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib

import pytest
from click.testing import CliRunner

from overseer_lite.cli.events import Event, History
from overseer_lite.cli.main import program
from overseer_lite.graph import Graph, job_graph
from overseer_lite.job import Attempt, Evidence, Failure, Job, Outcome, Settlement, stored
from overseer_lite.report import markdown
from overseer_lite.store import open_store
from overseer_lite.testing import ManualClock, MemoryStore
from tests.conftest import Ended

pytestmark = pytest.mark.usefixtures("elsewhere")

DAY_S = 86_400.0
BOOM = Failure("exception", "boom", "ValueError", "Traceback:\nValueError: boom")


@pytest.fixture
def clock():
    """Ten days ago."""
    return ManualClock(wall_s=time.time() - 10 * DAY_S)


@pytest.fixture
def store(tmp_path, clock):
    """Return a store at the default place, by that clock."""
    made = open_store(str(tmp_path / ".overseer/jobs.db"), clock=clock)
    made.install()
    yield made
    made.close()


def finish(store, job_id, **evidence):
    """Reserve a ready job and finish it; return the attempt."""
    attempt = store.reserve_job("w", job_id)
    store.exchange("w", [Settlement(attempt, Outcome.FINISHED, evidence=Evidence(**evidence))], 0, [])
    return attempt


def files(directory):
    """Return what lies below a directory: names, contents, times of change; the store's insides by name alone."""
    found = {}
    for path in sorted(directory.rglob("*")):
        inside = ".overseer" in path.parts
        found[str(path)] = None if inside or path.is_dir() else (path.read_bytes(), path.stat().st_mtime_ns)
    return found


# ---- init ------------------------------------------------------------------------------------------------------------


def test_init_writes_a_pipeline_a_table_and_a_store_and_says_so(cli, tmp_path):
    """In an empty directory: everything that a first `run` needs, of which each line tells one thing."""
    ended = cli("init")

    assert ended == Ended(
        0,
        "Wrote pipeline.py.\nWrote test_pipeline.py.\nWrote pyproject.toml: [tool.overseer_lite].\n"
        f"Made the store {tmp_path}/.overseer/jobs.db.\n"
        "Next: `overseer-lite run -n 4`, and `pytest test_pipeline.py` (pip install 'overseer-lite[testing]')\n",
        "",
    )
    assert len((tmp_path / "pipeline.py").read_text().splitlines()) == 25
    assert tomllib.loads((tmp_path / "pyproject.toml").read_text()) == {
        "tool": {"overseer_lite": {"app": "pipeline.py"}}
    }
    assert cli("status").code == 0


def test_a_second_init_changes_nothing_and_says_so(cli, tmp_path):
    """Not a byte, not a time of change; jobs stay as they were."""
    cli("init")
    before = files(tmp_path)
    ended = cli("init")

    assert ended.code == 0
    assert ended.out.startswith("Nothing to do: ")
    assert files(tmp_path) == before


def test_init_never_overwrites_what_is_there(cli, tmp_path):
    """A pipeline and a table of one's own stay, whatever they say; only what is missing is added."""
    (tmp_path / "pipeline.py").write_text("mine = 1\n")
    (tmp_path / "pyproject.toml").write_text("[tool.overseer_lite]\ndb = 'elsewhere.db'\n")
    ended = cli("init")

    assert ended == Ended(0, f"Made the store {tmp_path}/elsewhere.db.\n", "")
    assert not (tmp_path / "test_pipeline.py").exists()  # it would be a test of another pipeline
    assert (tmp_path / "pipeline.py").read_text() == "mine = 1\n"
    assert (tmp_path / "pyproject.toml").read_text() == "[tool.overseer_lite]\ndb = 'elsewhere.db'\n"


@pytest.mark.parametrize("there", ["[project]\nname = 'x'\n", "[project]\nname = 'ü'", "", "[tool.other]\na = 1\n"])
def test_init_adds_its_table_after_what_a_project_file_says(cli, tmp_path, there):
    """All that was there comes first, byte by byte; the whole is TOML, and says what it said and the table."""
    (tmp_path / "pyproject.toml").write_text(there)
    ended = cli("init")

    now = (tmp_path / "pyproject.toml").read_text()
    assert "Added to pyproject.toml: [tool.overseer_lite].\n" in ended.out
    assert now.startswith(there)
    tables = tomllib.loads(now)
    assert tables["tool"].pop("overseer_lite") == {"app": "pipeline.py"}
    assert {**tables, "tool": tables["tool"]} == {"tool": {}, **tomllib.loads(there)}


@pytest.mark.parametrize("there", ["[project\n", "tool = {other = 1}\n", "tool = 1\n"])
def test_init_writes_nothing_beside_a_project_file_it_cannot_add_to(cli, tmp_path, there):
    """No TOML, or none that can hold the table: exit 2, the file is named, and nothing half-done is left."""
    (tmp_path / "pyproject.toml").write_text(there)
    ended = cli("init")

    assert (ended.code, ended.out) == (2, "")
    assert str(tmp_path / "pyproject.toml") in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]
    assert (tmp_path / "pyproject.toml").read_text() == there


def test_whoever_finds_no_store_is_told_of_init(cli):
    """The shortest way out of it is named first."""
    ended = cli("status")

    assert ended.code == 3
    assert "`overseer-lite init`" in ended.err


@pytest.mark.slow
def test_the_pipeline_that_init_writes_runs_to_exit_0(cli, tmp_path):
    """As it stands, with the command that init names."""
    cli("init")
    argv = [sys.executable, "-m", "overseer_lite", "run", "-n", "2", "--id", "r"]
    ran = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert ran.returncode == 0, ran.stderr
    assert cli("show r/merge --result").json == 1334


@pytest.mark.slow
def test_the_test_that_init_writes_passes_as_written_and_can_fail(cli, tmp_path):
    """With the command that init names; of a pipeline that counts otherwise it says so."""
    cli("init")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_pipeline.py"]

    def test():
        return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    passed = test()
    assert (passed.returncode, "2 passed" in passed.stdout) == (0, True), passed.stdout + passed.stderr
    file = tmp_path / "pipeline.py"
    file.write_text(file.read_text().replace("n % 3 == 0", "n % 7 == 0"))
    failed = test()
    assert (failed.returncode, "1 failed, 1 passed" in failed.stdout) == (1, True), failed.stdout


def test_init_leaves_a_test_of_that_name_alone(cli, tmp_path):
    """Though it writes the pipeline beside it."""
    (tmp_path / "test_pipeline.py").write_text("mine = 1\n")
    ended = cli("init")

    assert "Wrote pipeline.py.\nWrote pyproject.toml" in ended.out
    assert (tmp_path / "test_pipeline.py").read_text() == "mine = 1\n"


# ---- prune -----------------------------------------------------------------------------------------------------------


def test_prune_removes_old_ended_runs_and_says_which(cli, store, clock):
    """Older than what is said; younger ones and those that have not ended stay."""
    store.transact_graph(job_graph({"a": [], "b": ["a"]}, id="old"))
    store.transact_graph(job_graph({"a": []}, id="open"))
    finish(store, "old/a")
    store.abort_job("old/b")
    clock.advance(5 * DAY_S)
    store.transact_graph(job_graph({"a": []}, id="young"))
    finish(store, "young/a")

    would = cli("prune --older 7d --dry-run")
    assert would == Ended(0, "1 run of 2 jobs would be removed:\n  old: 1 finished, 1 aborted\n", "")
    assert len(store.runs()) == 3
    assert cli("prune --older 1w") == Ended(0, "Removed 1 run of 2 jobs:\n  old: 1 finished, 1 aborted\n", "")
    assert [run.id for run in store.runs()] == ["young", "open"]
    assert cli("prune --older 7d") == Ended(0, "Nothing to do.\n", "")


def test_prune_tells_in_json_what_it_removed(cli, store):
    """Runs with their counts, and whether it was only a dry run."""
    store.transact_graph(job_graph({"a": []}, id="r"))
    finish(store, "r/a")
    (run,) = store.runs()
    shown = {"id": "r", "submitted_at": run.submitted_at, "jobs": run.counts._asdict()}

    assert cli("prune --older 1h --dry-run --json").json == {"runs": [shown], "dry_run": True}
    assert cli("prune --older 1h --json").json == {"runs": [shown], "dry_run": False}
    assert cli("prune --older 1h --json").json == {"runs": [], "dry_run": False}


@pytest.mark.parametrize(
    ("duration", "seconds"), [("90s", 90), ("2m", 120), ("1.5h", 5400), ("7d", 7 * DAY_S), ("1w", 7 * DAY_S)]
)
def test_a_duration_is_a_number_and_its_unit(cli, store, clock, duration, seconds):
    """s, m, h, d, w: of two runs the one goes that ended a minute longer ago, the other ended a minute less long ago."""
    clock.advance(10 * DAY_S - seconds - 60)
    for run in ("older", "younger"):
        store.transact_graph(job_graph({"a": []}, id=run))
        finish(store, f"{run}/a")
        clock.advance(120)

    assert [run["id"] for run in cli(f"prune --older {duration} --json").json["runs"]] == ["older"]


@pytest.mark.parametrize("duration", ["7", "d", "-1d", "7 d", "1y", "", "1e3s", "٣d", "nan", "9999999w"])
def test_what_is_no_duration_is_refused(duration, store):
    """Exit 2, and nothing is removed: a bare number might mean anything."""
    store.transact_graph(job_graph({"a": []}, id="r"))
    finish(store, "r/a")
    result = CliRunner().invoke(program, ["prune", "--older", duration])

    assert (result.exit_code, result.stdout) == (2, "")
    assert "is no duration" in result.stderr
    assert [run.id for run in store.runs()] == ["r"]


def test_pruning_without_an_age_is_refused(cli, store):
    """There is no age that fits everybody."""
    assert cli("prune").code == 2


def test_the_files_of_pruned_attempts_go_too_and_no_others(cli, store):
    """Those of each attempt, and those that a prune that was killed left; what we did not make stays."""
    store.transact_graph(job_graph({"a": []}, id="r"))
    store.transact_graph(job_graph({"a": [], "b": []}, id="s"))
    first = store.exchange("w", [], 1, ["a"]).jobs[0]
    store.fail_job(first.attempt, BOOM, retry_in_s=0)
    finish(store, "r/a")
    assert (first.attempt.job_id, first.key) == ("r/a", 1)
    directory = os.path.join(store.state_directory, "files")
    for name in ("1-1", "1-2", "2-1", "3-1", "99-1", "mine", "1-x"):
        os.makedirs(os.path.join(directory, name, "deep"))

    cli("prune --older 1h --dry-run")
    assert len(os.listdir(directory)) == 7
    cli("prune --older 1h")
    assert sorted(os.listdir(directory)) == ["1-x", "2-1", "3-1", "99-1", "mine"]
    os.makedirs(os.path.join(directory, "1-2"))
    cli("prune --older 1h")
    assert sorted(os.listdir(directory)) == ["1-x", "2-1", "3-1", "99-1", "mine"]


def test_the_files_of_older_jobs_that_stay_are_left_alone(cli, store):
    """Though their keys are lower than those that were pruned."""
    store.transact_graph(job_graph({"a": []}, id="open"))
    store.transact_graph(job_graph({"b": []}, id="ended"))
    finish(store, "ended/b")
    for name in ("1-1", "2-1"):
        os.makedirs(os.path.join(store.state_directory, "files", name))

    assert cli("prune --older 1h").code == 0
    assert os.listdir(os.path.join(store.state_directory, "files")) == ["1-1"]


def test_a_pruned_store_is_sound(cli, store):
    """No row names one that is gone, and counts agree with what is left."""
    store.transact_graph(job_graph({"a": [], "b": ["a"]}, id="r"))
    store.transact_graph(Graph.of([Job("c"), Job("d", dependencies=["c"])], id="s"))
    attempt = store.reserve_job("w", "r/a")
    store.exchange(
        "w", [Settlement(attempt, Outcome.FINISHED, "1", evidence=Evidence(2.0, output="words", output_bytes=5))], 0, []
    )
    failed = store.reserve_job("w", "r/b")
    store.fail_job(failed, BOOM)

    assert [run["id"] for run in cli("prune --older 1h --json").json["runs"]] == ["r"]
    assert [each for each in cli("doctor --full --json").json["findings"] if each["level"] == "error"] == []
    with store.database.read() as db:
        assert db.all("foreign_key_check") == []
        left = {table: store.database.open().execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
                for table in ("jobs", "runs", "dependencies", "results", "attempts", "words")}  # fmt: skip
    assert left == {"jobs": 2, "runs": 1, "dependencies": 1, "results": 0, "attempts": 0, "words": 0}


# ---- graph -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def diamond(store):
    """Store the run `r`: a finished, b failed, c ready, d stuck, e apart; d also waits for a job of another run."""
    store.transact_graph(job_graph({"z": []}, id="old"))
    store.transact_graph(
        Graph.of(
            [
                Job("load", name="a"),
                Job("b", dependencies=["a"]),
                Job("c", dependencies=["a"]),
                Job("d", dependencies=["b", "c", stored("old/z")]),
                Job("e"),
            ],
            id="r",
        )
    )
    finish(store, "r/a")
    store.fail_job(store.reserve_job("w", "r/b"), BOOM)
    store.reserve_job("w", "r/e")
    return store


def test_graph_draws_the_newest_run_as_a_tree_with_each_job_once(cli, diamond):
    """Below the last it waits for, with a mark of where it stands, and what else it waits for beside it."""
    assert cli("graph").out.splitlines() == [
        "run r",
        "+ a (load)",
        "  ! b",
        "    # d <- also c, old/z",
        "  o c",
        "> e",
        "+ finished, > started, ! failed, # stuck, o ready",
    ]
    assert cli("graph --run old").out.splitlines() == ["run old", "o z", "o ready"]


def test_in_the_tree_a_job_stands_below_the_last_it_waits_for(cli, store):
    """Not below the first it names, which begins earlier."""
    store.transact_graph(job_graph({"a": [], "b": ["a"], "c": ["a", "b"]}, id="r"))

    assert cli("graph").out.splitlines()[1:4] == ["o a", "  . b", "    . c <- also a"]


def test_graph_as_mermaid_names_every_job_and_every_dependency(cli, diamond):
    """Words of our own stand for ids, which may hold anything; one of another run is drawn apart."""
    lines = cli("graph --format mermaid").out.splitlines()

    assert lines[:12] == [
        "flowchart LR",
        '  n0["a (load)"]:::finished',
        '  n1["b"]:::failed',
        '  n2["c"]:::ready',
        '  n3["d"]:::stuck',
        '  n4["e"]:::started',
        '  n5(["old/z"])',
        "  n0 --> n1",
        "  n0 --> n2",
        "  n1 --> n3",
        "  n2 --> n3",
        "  n5 --> n3",
    ]
    assert [line.split()[:2] for line in lines[12:]] == [
        ["classDef", state] for state in ("failed", "stuck", "started", "ready", "finished")
    ]


def test_every_drawing_of_a_run_has_the_same_colours(cli, store, diamond):
    """The picture in a CI summary, and those that `graph` makes: red is one thing."""
    of_dot = re.findall(r'tooltip="(\w+)", fillcolor="(#\w+)", fontcolor="(#\w+)"', cli("graph --format dot").out)
    own, report = (
        {(word, *colours) for word, *colours in re.findall(r"classDef (\w+) fill:(#\w+),color:(#\w+)", text)}
        for text in (cli("graph --format mermaid").out, markdown(store, "r"))
    )

    assert own == set(of_dot)
    assert {word for word, *_colours in own} == {"failed", "stuck", "started", "ready", "finished"}
    assert {each for each in report if each[0] != "unstarted"} == {each for each in own if each[0] != "ready"}


def test_graph_as_dot_names_every_job_and_every_dependency(cli, diamond):
    """The same for Graphviz."""
    out = cli("graph --format dot").out

    assert out.startswith('digraph "r" {\n')
    assert out.endswith("}\n")
    assert re.findall(r'n\d \[label="([^"]*)", tooltip="(\w+)"', out) == [
        ("a (load)", "finished"), ("b", "failed"), ("c", "ready"), ("d", "stuck"), ("e", "started"),
    ]  # fmt: skip
    assert re.findall(r"(n\d) -> (n\d);", out) == [
        ("n0", "n1"), ("n0", "n2"), ("n1", "n3"), ("n2", "n3"), ("n5", "n3"),
    ]  # fmt: skip


def test_a_name_cannot_break_out_of_a_drawing(cli, store):
    """Quotes, brackets, markup and backslashes in a name are written so that they stay a name."""
    store.transact_graph(Graph.of([Job("t", name='a"]; x\\<b>')], id="r"))

    assert cli("graph").out.splitlines()[1] == 'o a"]; x\\<b> (t)'
    assert '  n0["a#34;#93;#59; x#92;#60;b#62; (t)"]:::ready' in cli("graph --format mermaid").out.splitlines()
    assert r'label="a\"]; x\\<b> (t)"' in cli("graph --format dot").out


def test_a_large_run_is_drawn_by_type_with_counts(cli, store):
    """Over 500 jobs; each type once, below one of an earlier layer, whatever waits for what within it."""
    parts = [Job("part", name=f"p{n}", dependencies=["split", "p0"] if n == 1 else ["split"]) for n in range(499)]
    chain = [Job("split", name="again", dependencies=["p0"])]
    merge = Job("merge", dependencies=[part.name for part in parts])
    store.transact_graph(Graph.of([Job("split"), *parts, *chain, merge], id="r"))
    finish(store, "r/split")

    assert cli("graph").out.splitlines() == [
        "run r",
        ". split 2 jobs: 1 unstarted, 1 finished <- part",
        "  o part 499 jobs: 498 ready, 1 unstarted",
        "    . merge 1 job: 1 unstarted",
        "o ready, . unstarted",
    ]


def test_a_run_of_500_jobs_is_drawn_job_by_job(cli, store):
    """In a chain as well: depth is no recursion. Many that one job waits for are not all named."""
    chain = [Job("t", name=f"j{n}", dependencies=[f"j{n - 1}"] if n else []) for n in range(480)]
    wide = [Job("w", name=f"w{n}") for n in range(19)]
    last = Job("last", dependencies=[each.name for each in wide])
    store.transact_graph(Graph.of([*chain, *wide, last], id="r"))
    lines = cli("graph").out.splitlines()

    assert len(lines) == 502
    assert lines[480] == "  " * 479 + ". j479 (t)"
    assert "  . last <- also w1, w2, w3, w4, w5, w6, w7, w8 and 10 more" in lines


def test_graph_of_an_empty_store_and_of_an_unknown_run(cli, store):
    """Nothing to draw is no error; a run that is named and not there is one."""
    assert cli("graph") == Ended(0, "no runs\n", "")
    assert cli("graph --run nobody").code == 2


# ---- events ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def past(store, clock):
    """A run `r` with a retried failure, a job that is running and one that was aborted, and a run `s`; return when."""
    at = clock.read().wall_us / 1e6
    store.transact_graph(job_graph({"a": [], "b": ["a"], "c": ["b"]}, id="r"))
    clock.advance(1)
    attempt = store.reserve_job("w", "r/a")
    clock.advance(2)
    failed = Settlement(attempt, Outcome.FAILED, failure=BOOM, delay_s=0, evidence=Evidence(began_ago_s=1.5))
    store.exchange("w", [failed], 0, [])
    clock.advance(1)
    store.transact_graph(job_graph({"x": []}, id="s"))
    clock.advance(1)
    finish(store, "r/a", began_ago_s=0.5)
    store.abort_job("r/c")
    store.reserve_job("w2", "r/b")
    return at


def test_events_tell_the_history_in_order_of_time(cli, past):
    """Runs submitted and attempts ended, then what the store keeps no time of; a running job is told as started."""
    lines = cli("events --json").out.splitlines()

    told = [Event(**json.loads(line)) for line in lines]
    assert [event.at for event in told] == pytest.approx([past, past + 3, past + 4, past + 5, None, None])
    assert [event._replace(at=None) for event in told] == [
        Event(None, "submitted", "r"),
        Event(None, "failed", "r", "r/a", 1, "w", 1.5, "ValueError: boom"),
        Event(None, "submitted", "s"),
        Event(None, "finished", "r", "r/a", 2, "w", 0.5),
        Event(None, "aborted", "r", "r/c"),
        Event(None, "started", "r", "r/b", 1, "w2"),
    ]


def test_events_for_people_are_a_line_each(cli, past):
    """When, what, to which job; attempt, worker, duration and why."""
    lines = [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "T", line) for line in cli("events --run r").out.splitlines()]

    assert lines == [
        "T  submitted    run r",
        "T  failed       r/a  attempt 1, worker w, 1.5 s, ValueError: boom",
        "T  finished     r/a  attempt 2, worker w, 0.5 s",
        "-         aborted      r/c",
        "-         started      r/b  attempt 1, worker w2",
    ]


def test_events_of_an_unknown_run_are_an_error_and_of_an_empty_store_none(cli, store):
    """A misspelt run must not look like a quiet one."""
    assert cli("events") == Ended(0, "", "")
    assert cli("events --run nobody").code == 2


def test_a_history_tells_each_thing_once():
    """What is seen to happen has its own time, or that of the look; an end is told once, a start not after its end."""
    store = MemoryStore(ManualClock(wall_s=time.time() - 10))
    history = History(store)
    assert history.look() == []
    store.transact_graph(job_graph({"a": [], "b": ["a"]}, id="r"))
    assert [(event.event, event.run) for event in history.look()] == [("submitted", "r")]
    before_s = time.time()
    attempt = store.reserve_job("w", "r/a")
    (started,) = history.look()
    assert started._replace(at=None) == Event(None, "started", "r", "r/a", 1, "w")
    assert before_s <= started.at <= time.time()
    assert history.look() == []
    store.fail_job(attempt, BOOM, retry_in_s=0)
    finish(store, "r/a")
    store.abort_job("r/b")
    told = history.look()
    assert [(event.event, event.job, event.attempt) for event in told] == [
        ("failed", "r/a", 1), ("finished", "r/a", 2), ("aborted", "r/b", None),
    ]  # fmt: skip
    assert history.look() == []


def test_a_history_tells_of_an_earlier_attempt_only_when_it_ends():
    """What was told of a job is not told again with its next attempt."""
    store = MemoryStore(ManualClock())
    store.transact_graph(job_graph({"a": [], "b": []}, id="r"))
    history = History(store)
    store.fail_job(store.reserve_job("w", "r/a"), BOOM, retry_in_s=0)
    assert [event.event for event in history.look()] == ["submitted", "failed"]
    finish(store, "r/a")
    assert [(event.event, event.attempt) for event in history.look()] == [("finished", 2)]
    store.abort_job("r/b", attempt=store.reserve_job("w", "r/b"))
    assert [(event.event, event.attempt) for event in history.look()] == [("aborted", 1)]


def test_an_attempt_that_ends_while_it_is_looked_at_is_not_told_as_started():
    """Jobs are listed before their attempts are: between the two an attempt may end."""

    class EndsMeanwhile(MemoryStore):
        def attempts_of(self, job_ids):
            self.finish_job(Attempt("r/a", 2, "w"))
            return super().attempts_of(job_ids)

    store = EndsMeanwhile(ManualClock())
    store.transact_graph(job_graph({"a": []}, id="r"))
    store.fail_job(store.reserve_job("w", "r/a"), BOOM, retry_in_s=0)
    store.reserve_job("w", "r/a")
    history = History(store)
    assert [event.event for event in history.look()] == ["submitted", "failed", "finished"]
    assert history.look() == []


def test_a_handed_back_attempt_s_second_start_is_told():
    """Its number is given again: whose it is now is another event."""
    store = MemoryStore(ManualClock())
    store.transact_graph(job_graph({"a": []}, id="r"))
    history = History(store)
    first = store.reserve_job("w1", "r/a")
    assert [event.event for event in history.look()] == ["submitted", "started"]
    store.exchange("w1", [Settlement(first, Outcome.HANDED_BACK)], 0, [])
    assert store.reserve_job("w2", "r/a") == Attempt("r/a", 1, "w2")
    assert [(event.event, event.worker) for event in history.look()] == [("started", "w2")]


@pytest.mark.slow
def test_following_events_goes_on_until_ctrl_c_and_ends_quietly_with_130(store, tmp_path):
    """What is there comes at once, what happens comes when it does; nothing on stderr at the end."""
    store.transact_graph(job_graph({"a": []}, id="r"))
    argv = [sys.executable, "-m", "overseer_lite", "events", "-f", "--json"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert json.loads(process.stdout.readline())["event"] == "submitted"
            finish(store, "r/a")
            words = [json.loads(process.stdout.readline())["event"]]
            while words[-1] == "started":
                words.append(json.loads(process.stdout.readline())["event"])
            assert words[-1] == "finished"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "")
