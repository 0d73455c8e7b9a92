"""The command line, called in this process: what it prints, what it ends with, what it leaves alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from overseer_lite import errors
from overseer_lite.cli import show as say
from overseer_lite.cli.main import COMMANDS
from overseer_lite.cli.watch import Event, Watch
from overseer_lite.graph import Graph, job_graph
from overseer_lite.job import Attempt, Evidence, Failure, Job, Outcome, Settlement
from overseer_lite.liveness import Identity, WorkerFile
from overseer_lite.store import WorkerRecord, open_store
from tests.conftest import Ended

pytestmark = pytest.mark.usefixtures("elsewhere")

NAMES = [name for section in COMMANDS.values() for name in section]
LOOKING = ["status", "jobs", "show x", "logs x", "why x", "workers", "runs", "wait"]
ACTING = ["retry x", "abort x", "reset x"]


@pytest.fixture
def store(tmp_path):
    """Return a store at the default place, closed at the end."""
    made = open_store(str(tmp_path / ".overseer/jobs.db"))
    made.install()
    yield made
    made.close()


@pytest.fixture
def chain(store):
    """Store the run `r`: a, then b, then c."""
    store.transact_graph(job_graph({"a": [], "b": ["a"], "c": ["b"]}, id="r"))
    return store


def fail(store, job_id, message="boom", **more):
    """Reserve a ready job and settle its attempt as failed for good."""
    attempt = store.reserve_job("w", job_id)
    failure = Failure("exception", message, "ValueError", f"Traceback:\nValueError: {message}")
    store.exchange("w", [Settlement(attempt, Outcome.FAILED, failure=failure, **more)], 0, [])
    return attempt


def finish(store, job_id, result=None):
    """Reserve a ready job and finish it."""
    attempt = store.reserve_job("w", job_id)
    store.finish_job(attempt, result)
    return attempt


def register(store, worker="w", **fields):
    """Enter a worker that is this process."""
    record = WorkerRecord(**{"id": worker, "pid": os.getpid(), "identity": Identity.mine().to_text(), **fields})
    return store.register(record)


# ---- the program -----------------------------------------------------------------------------------------------------


def test_help_lists_every_command(cli):
    """What is there is listed, by what it is for."""
    ended = cli("--help")

    assert ended.code == 0
    assert [name for name in NAMES if f"\n  {name} " not in ended.out] == []
    assert [section for section in COMMANDS if f"{section}:\n" not in ended.out] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_command_s_help_has_an_example_that_names_it(cli, name):
    """An example says more than a list of options."""
    ended = cli(f"{name} --help")

    assert ended.code == 0
    assert f"overseer-lite {name}" in ended.out.partition("Example:")[2]


def test_a_misspelt_command_gets_a_suggestion_and_exit_2(cli):
    """The line names what was typed, and what was perhaps meant."""
    assert cli("statsu") == Ended(
        2, "", "overseer-lite: There is no command 'statsu'. Did you mean 'status'? See `overseer-lite --help`.\n"
    )


@pytest.mark.parametrize("line", ["wait nightly", "graph nightly"])
def test_a_run_that_stands_where_nothing_may_is_met_with_the_option_that_takes_it(cli, line):
    """So anybody types it at first."""
    words = f"Got unexpected extra argument (nightly). A run is named with --run. See `overseer-lite {line.split()[0]} --help`."
    assert cli(line) == (2, "", f"overseer-lite: {words}\n")


@pytest.mark.parametrize(
    "line",
    [
        "status --jason",
        "jobs --status done",
        "jobs --limit 0",
        "run -n 0",
        "run -n many",
        "run --timeout soon",
        "show",
        "status extra",
        "wait --timeout -1",
        "--db",
    ],
)
def test_bad_usage_is_one_line_exit_2_and_makes_nothing(cli, tmp_path, line):
    """Nothing is stored, nothing is made, the line says where the help is."""
    ended = cli(line)

    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith("overseer-lite: ")
    assert "--help`" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_that_of_the_package(cli):
    """As the installed package says it."""
    from importlib.metadata import version

    assert cli("--version") == Ended(0, f"overseer-lite {version('overseer-lite')}\n", "")


def test_a_fault_of_the_program_is_one_line_and_exit_70(cli, monkeypatch):
    """No traceback reaches a user; the line names the fault and how to see more."""
    monkeypatch.setattr("overseer_lite.cli.look.check_run", None)

    ended = cli(["jobs", "--db", "x"])

    assert ended.code == 70
    assert ended.err == (
        "overseer-lite: This is a fault of overseer-lite itself: TypeError: 'NoneType' object is not callable. "
        "Set OVERSEER_LITE_DEBUG=1 to see the traceback.\n"
    )


def test_the_variable_shows_the_traceback_of_a_fault(cli, monkeypatch):
    """For whoever reports it."""
    monkeypatch.setattr("overseer_lite.cli.look.check_run", None)
    monkeypatch.setenv("OVERSEER_LITE_DEBUG", "1")

    ended = cli(["jobs", "--db", "x"])

    assert ended.code == 70
    assert ended.err.startswith("Traceback (most recent call last):")


def test_an_error_s_line_cannot_forge_another(cli, chain):
    """Whatever the words of an error hold, it is one line without control characters."""
    ended = cli(["status", "--db", "x\n\x1b[31mred\u202e"])

    assert ended.err.count("\n") == 1
    assert "/x\\n\\x1b[31mred\\u202e. " in ended.err


def test_an_interrupt_ends_with_130(cli, chain, monkeypatch):
    """As the shell's convention has it."""

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("overseer_lite.cli.look.check_run", interrupted)

    assert cli("jobs") == Ended(130, "", "\noverseer-lite: Stopped.\n")


# ---- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["--db {} status", "status --db {}", "--db other.db status --db {}"])
def test_an_option_of_the_program_may_stand_before_and_after_the_command(cli, chain, line):
    """The one nearer to the end wins."""
    assert cli(line.format(chain.path)).out.splitlines()[0] == chain.path


def test_the_store_is_found_from_a_subdirectory_of_the_project(cli, chain, tmp_path, monkeypatch):
    """It lies beside the nearest pyproject.toml upwards."""
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "deep/down").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep/down")

    assert cli("status").out.splitlines()[0] == chain.path


def test_a_wrong_setting_names_itself_its_origin_and_the_remedy(cli, chain):
    """Exit 2, wherever the value came from."""
    ended = cli("status --tolerance many")

    assert ended == Ended(
        2, "", "overseer-lite: Setting 'tolerance' is 'many' (from option --tolerance); expected a whole number from 1 "
        "to 1,000,000. Correct it there.\n"
    )  # fmt: skip


# ---- stores that cannot be used --------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [*LOOKING, *ACTING])
def test_a_wrong_directory_never_yields_an_empty_store(cli, tmp_path, line):
    """Exit 3, the path that was looked at in the line, and nothing made."""
    ended = cli(line)

    assert (ended.code, ended.out) == (3, "")
    assert f"There is no store at {tmp_path}/.overseer/jobs.db." in ended.err
    assert list(tmp_path.iterdir()) == []


OTHER_DATABASE = "import apsw, sys; apsw.Connection(sys.argv[1]).execute('create table t (x)').fetchall()"
NEWER_STORE = "import apsw, sys; apsw.Connection(sys.argv[1]).execute('pragma user_version = 999').fetchall()"


def unusable(kind, path):
    """Put something at the path that is no store of ours."""
    if kind == "directory":
        path.mkdir()
    elif kind == "newer":
        made = open_store(str(path))
        made.install()
        made.close()
        subprocess.run([sys.executable, "-c", NEWER_STORE, str(path)], check=True)
    elif kind == "other database":
        subprocess.run([sys.executable, "-c", OTHER_DATABASE, str(path)], check=True)
        path.chmod(0o600)
    else:
        path.write_text({"empty": "", "text": "not a database\n" * 100}[kind])
        path.chmod(0o600)


WORDS = {
    "directory": "it is a directory",
    "empty": "the file is empty",
    "text": "not a SQLite database",
    "other database": "not",
    "newer": "its schema is version 999, this overseer_lite knows",
}


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("line", ["status", "jobs --json", "abort x", "submit -"])
def test_a_file_that_is_no_store_is_exit_3_and_stays_as_it_was(cli, tmp_path, kind, line):
    """Each kind has its own words; nothing is written, by whoever looks or by whoever would make a store."""
    path = tmp_path / "x.db"
    unusable(kind, path)
    before = path.read_bytes() if path.is_file() else None

    ended = cli(f"{line} --db {path}", stdin='{"id": "a", "type": "t"}\n')

    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert WORDS[kind] in ended.err
    assert (path.read_bytes() if path.is_file() else None) == before


# ---- status, jobs ----------------------------------------------------------------------------------------------------


def test_status_json_has_exactly_these_keys(cli, chain):
    """Programs build on them: counts by status, ready and stuck among the unstarted, workers and what they are on."""
    fail(chain, "r/a")
    register(chain, "w1", runner_pid=7)

    value = cli("status --json").json

    assert value["jobs"] == {
        "unstarted": 2, "started": 0, "finished": 0, "failed": 1, "aborted": 0, "ready": 0, "stuck": 2,
    }  # fmt: skip
    (worker,) = value["workers"]
    assert 0 <= worker.pop("silent_s") < 5
    assert worker == {"id": "w1", "pid": os.getpid(), "runner_pid": 7, "job": None}
    assert set(value) == {"jobs", "workers"}


def test_status_counts_and_names_unfinished_runs(cli, chain):
    """In words, what is zero left out."""
    finish(chain, "r/a")

    assert cli("status").out == (
        f"{chain.path}\njobs: 1 finished, 2 unstarted (1 ready)\nrun r: 1 finished, 2 unstarted (1 ready)\nworkers: none\n"
    )


def test_a_misspelt_run_gets_a_suggestion(cli, store):
    """Not a count of zero."""
    store.transact_graph(job_graph({"a": []}, id="nightly"))

    for line in ("status --run nigthly", "jobs --run nigthly", "wait --run nigthly", "retry --failed --run nigthly"):
        assert cli(line) == Ended(
            2, "", "overseer-lite: There is no run 'nigthly' in this store. Did you mean 'nightly'?\n"
        )


def test_jobs_json_lists_each_job_in_order_of_submission(cli, chain):
    """Every key that a job has; a failure without its traceback, which `show` has."""
    fail(chain, "r/a")

    value = cli("jobs --json").json

    assert value[0] == {
        "id": "r/a", "run": "r", "name": "a", "type": "a", "status": "failed", "attempt": 1, "failures": 1,
        "crashes": 0, "interruptions": 0, "worker": None, "dependencies": [], "priority": 0, "ready": False,
        "stuck": False, "due_in_s": None, "waiting_for": 0, "request": None, "adder": None,
        "failure": {
            "reason": "exception", "message": "boom", "exception": "ValueError", "silent": False, "allowed": None,
        },
    }  # fmt: skip
    assert [(job["id"], job["stuck"], job["dependencies"]) for job in value[1:]] == [
        ("r/b", True, ["r/a"]),
        ("r/c", True, ["r/b"]),
    ]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ("--status finished", ["r/a"]),
        ("--status unstarted", ["r/b", "r/c", "s/a"]),
        ("--status ready", ["r/b", "s/a"]),
        ("--type a", ["r/a", "s/a"]),
        ("--run s", ["s/a"]),
        ("--text /c", ["r/c"]),
        ("--limit 2", ["r/a", "r/b"]),
        ("--limit 2 --offset 1", ["r/b", "r/c"]),
        ("--status ready --limit 1 --offset 1", ["s/a"]),
        ("--status stuck", []),
    ],
)
def test_jobs_are_filtered_and_paged(cli, chain, options, ids):
    """Filters are joined by and; order is that of submission."""
    chain.transact_graph(job_graph({"a": []}, id="s"))
    finish(chain, "r/a")

    assert [job["id"] for job in cli(f"jobs --json {options}").json] == ids


def test_a_page_that_is_not_the_last_says_how_to_go_on(cli, chain):
    """Nobody takes a page for the whole."""
    assert cli("jobs --limit 2").out.splitlines()[-1] == "more: --offset 2 shows the next ones"
    assert "more" not in cli("jobs --limit 3").out


def test_a_misspelt_type_gets_a_suggestion_beside_the_empty_list(cli, store):
    """The list is still the answer; the hint goes to stderr."""
    store.transact_graph(job_graph({"count": []}))

    assert cli("jobs --type cuont --json") == Ended(
        0, "[]\n", "overseer-lite: No job has type 'cuont'. Did you mean 'count'?\n"
    )


def test_a_name_with_control_characters_in_its_failure_is_written_out(cli, chain):
    """A failure's words are somebody else's: they steer no terminal and forge no line."""
    fail(chain, "r/a", "bad \x1b[2J\u202e news")

    assert "ValueError: bad \\x1b[2J\\u202e news" in cli("jobs").out


# ---- show, logs ------------------------------------------------------------------------------------------------------


def test_show_tells_status_dependencies_attempts_and_failure(cli, chain):
    """Everything that is known, in one place."""
    finish(chain, "r/a")
    attempt = fail(chain, "r/b", evidence=Evidence(began_ago_s=1.5, exit_code=None, output="hello\n", output_bytes=6))

    lines = cli("show r/b").out.splitlines()

    assert lines[:4] == ["r/b  failed", "type      b", "run       r", "after     r/a  finished"]
    assert lines[5].split() == ["attempt", "worker", "began", "ran", "outcome"]
    assert lines[6].split()[:2] == [str(attempt.number), "w"]
    assert lines[6].split()[-3:] == ["failed", "ValueError:", "boom"]
    assert "Traceback:" in lines
    assert lines[-2:] == ["output of attempt 1:", "  hello"]


def test_show_tells_who_added_a_job(cli, chain):
    """By its id; a submitted job says nothing of it."""
    chain.finish_job(chain.reserve_job("w", "r/a"), None, [Job("x")])

    assert cli("show r/x").out.splitlines() == ["r/x  unstarted (ready)", "type      x", "run       r", "added by  r/a"]
    assert cli("show r/x --json").json["adder"] == "r/a"
    assert [(job["id"], job["adder"]) for job in cli("jobs --json").json if job["adder"]] == [("r/x", "r/a")]
    assert "added by" not in cli("show r/b").out


def test_a_job_is_found_by_its_name_where_only_one_has_it(cli, chain):
    """Ids of generated runs are long; a name that several jobs have is refused, and one of a run is enough."""
    assert cli("show c --json").json["id"] == "r/c"
    chain.transact_graph(job_graph({"c": []}, id="s"))

    assert cli("show c") == Ended(
        2, "", "overseer-lite: 2 jobs are named 'c', the last of them r/c, s/c. Give an id.\n"
    )
    assert cli("show c --run s --json").json["id"] == "s/c"


def test_a_misspelt_id_gets_a_suggestion(cli, store):
    """Whether an id was meant, or a name."""
    store.transact_graph(job_graph({"summary": []}, id="r"))

    for given in ("r/sumary", "sumary"):
        assert cli(f"show {given}") == Ended(
            2, "", f"overseer-lite: There is no job {given!r} in this store. Did you mean 'r/summary'?\n"
        )


def test_a_misspelt_name_gets_a_suggestion_where_ids_are_long(cli, store):
    """Those of generated runs resemble nothing that is typed."""
    store.transact_graph(job_graph({"summary": []}, id="20261124-040257-7f60bf70"))

    assert "Did you mean 'summary'?" in cli("show sumary").err


def test_show_result_prints_the_result_alone(cli, chain):
    """For a pipe; a job that is not finished has none, which is no empty answer."""
    finish(chain, "r/a", {"rows": [1, "ü"]})

    assert cli("show r/a --result").json == {"rows": [1, "ü"]}
    assert cli("show r/b --result") == Ended(2, "", "overseer-lite: Job 'r/b' has no result: it is unstarted.\n")


def test_show_json_has_args_result_and_every_attempt(cli, store):
    """What `jobs --json` has, and the rest."""
    store.transact_graph(job_graph({"a": []}, {"day": 1}, id="r"))
    fail(store, "r/a", delay_s=0.0)
    finish(store, "r/a", 7)

    value = cli("show r/a --json").json

    assert (value["args"], value["result"], value["status"]) == ({"day": 1}, 7, "finished")
    assert [(each["number"], each["outcome"]) for each in value["attempts"]] == [(1, "failed"), (2, "finished")]
    assert value["attempts"][0]["failure"]["traceback"] == "Traceback:\nValueError: boom"


def test_logs_prints_the_last_attempt_or_the_one_asked_for(cli, chain):
    """As the handler wrote it; what was not kept is said on stderr."""
    for text in ("one\n", "two\n"):
        attempt = chain.reserve_job("w", "r/a")
        evidence = Evidence(output=text, output_bytes=100)
        chain.exchange("w", [Settlement(attempt, Outcome.FAILED, delay_s=0.0, evidence=evidence)], 0, [])

    assert cli("logs r/a") == Ended(0, "two\n", "overseer-lite: The first 96 bytes were not kept.\n")
    assert cli("logs r/a --attempt 1").out == "one\n"
    assert cli("logs r/a --attempt 3").err == (
        "overseer-lite: Job 'r/a' has no attempt 3 in its history, which has: 1, 2.\n"
    )
    assert cli("logs r/b") == Ended(0, "", "overseer-lite: Job 'r/b' has had no attempt yet.\n")


def test_follow_ends_when_the_job_has_ended(cli, chain):
    """A job that is terminal has nothing more to say."""
    fail(chain, "r/a", evidence=Evidence(output="the end\n", output_bytes=8))

    assert cli("logs r/a -f").out == "the end\n"


@pytest.fixture
def working(chain):
    """Return the second attempt of r/a, which a worker is in the middle of, as its own file tells it."""
    register(chain, "w", types=("a",))
    fail(chain, "r/a", delay_s=0.0)
    attempt = chain.reserve_job("w", "r/a")
    ((key, number),) = chain.held_keys("w")
    now = chain.clock.read()
    path = os.path.join(chain.state_directory, "workers", "w")
    file = WorkerFile.create(
        path, store_uuid=chain.uuid, worker_id="w", identity=Identity.mine(), now_us=now.monotonic_us
    )
    with open(os.path.join(chain.state_directory, "output", "w.1"), "w") as output:
        output.write("of another attempt\nso far\n")
    file.set_runner(os.getpid(), "w.1", 1)
    file.reserve(0, key, number)
    file.begin(0, now.boottime_us - 3_000_000, len("of another attempt\n"))
    file.progress(0, 0.4, "loading")
    yield attempt
    file.close()


def test_a_running_attempt_s_output_is_a_stretch_of_its_runner_s_file(cli, working):
    """What is there so far, and nothing of the attempts before it."""
    assert cli("logs r/a") == Ended(0, "so far\n", "")


def test_status_says_what_a_runner_is_on(cli, working):
    """The worker's file knows which of the jobs it holds its runner is on, since when, and how far."""
    assert [worker["job"] for worker in cli("status --json").json["workers"]] == ["r/a"]
    assert cli("status").out.splitlines()[-1].split()[:8] == [
        "w", str(os.getpid()), "r/a", "2", "3.0", "s", "40%", "loading",
    ]  # fmt: skip


def test_workers_tells_who_lives(cli, chain, working):
    """The kernel's word, not the age of a beat."""
    record = WorkerRecord(
        "gone", 1, identity=Identity.mine()._replace(start_time=1).to_text(), types=("a", "b"), app="p.py"
    )
    chain.register(record)

    rows = cli("workers").out.splitlines()[1:]

    assert [(row.split()[0], row.split()[3]) for row in rows] == [("w", "alive"), ("gone", "dead")]
    assert [worker["types"] for worker in cli("workers --json").json] == [["a"], ["a", "b"]]


# ---- why -------------------------------------------------------------------------------------------------------------


def why(cli, job_id):
    """Return the sentence."""
    return cli(f"why {job_id} --json").json["why"]


def test_why_names_what_failed_behind_a_stuck_job(cli, chain):
    """The job at the bottom of it, its failure, and the command that frees it."""
    fail(chain, "r/a")

    cause = "r/a, which failed on attempt 1: ValueError: boom"
    assert why(cli, "r/b") == f"stuck: it waits for {cause}; `overseer-lite retry r/a` frees it"
    assert why(cli, "r/c") == f"stuck: it waits, through others, for {cause}; `overseer-lite retry r/a` frees it"


def test_why_names_what_a_job_waits_for(cli, chain):
    """And where that stands."""
    assert why(cli, "r/c") == "it waits for 1 of its 1 dependency: r/b (unstarted)"
    assert cli("why r/b").out == "r/b: it waits for 1 of its 1 dependency: r/a (ready)\n"


def test_why_says_when_a_delayed_job_is_due(cli, chain):
    """And after which failure it waits."""
    fail(chain, "r/a", delay_s=200.0)

    assert why(cli, "r/a").startswith("delayed until ")
    assert why(cli, "r/a").endswith("(in 3 min) after attempt 1: ValueError: boom")


def test_why_says_that_nobody_can_take_a_ready_job(cli, chain):
    """No worker; none of its type; none that is not confined to another run."""
    assert why(cli, "r/a") == "ready, but there is no live worker; `overseer-lite worker` starts some"
    register(chain, "w1", types=("x", "y"))
    assert why(cli, "r/a") == "ready, but no live worker handles type 'a' (they handle x, y)"
    register(chain, "w2", types=("a",), run="s")
    assert why(cli, "r/a") == "ready, but every worker that handles 'a' works on another run alone (s)"


def test_why_does_not_count_on_the_dead(cli, chain):
    """A dead worker that is still registered takes nothing, and what it was on waits for its reset."""
    gone = Identity.mine()._replace(start_time=1).to_text()
    chain.register(WorkerRecord("gone", os.getpid(), identity=gone, types=("a",)))
    assert why(cli, "r/a") == "ready, but there is no live worker; `overseer-lite worker` starts some"
    chain.reserve_job("gone", "r/a")

    assert why(cli, "r/a") == "attempt 1 was on worker gone, which is dead; a supervisor's monitor resets it"


def test_why_says_that_all_workers_are_busy(cli, store):
    """And how many ready jobs are before it."""
    store.transact_graph(Graph.of([*(Graph().add("t", name=name) for name in "abc")], id="r"))
    register(store, "w", types=("t",))
    store.reserve_job("w", "r/a")

    assert why(cli, "r/c") == "ready; all 1 worker that handle 't' are busy, and 1 ready job is before it"


def test_why_tells_how_far_a_running_job_is(cli, working):
    """Attempt, worker, time, progress."""
    assert why(cli, "r/a") == "it runs: attempt 2 on worker w for 3.0 s, at 40% loading"


def test_why_of_an_ended_job_says_how(cli, chain):
    """Finished, failed or aborted, and how to go on."""
    finish(chain, "r/a")
    chain.abort_job("r/b", Failure("abort", "not wanted"))

    assert why(cli, "r/a") == "it finished on attempt 1"
    assert why(cli, "r/b") == "it was aborted: not wanted; `overseer-lite retry r/b` tries it again"
    assert why(cli, "r/c") == "it was aborted, since it depends on r/b, which was aborted: not wanted"


# ---- retry, abort, reset ---------------------------------------------------------------------------------------------


def statuses(store):
    """Return each job's status by name."""
    return {job.name: job.status.value for job in store.jobs()}


def test_retry_puts_named_jobs_back_and_lists_them(cli, chain):
    """The job alone; what waits for it follows by itself."""
    fail(chain, "r/a")

    assert cli("retry r/a") == Ended(0, "Retried 1 job:\n  r/a\n", "")
    assert statuses(chain) == {"a": "unstarted", "b": "unstarted", "c": "unstarted"}


def test_a_dry_run_lists_and_changes_nothing(cli, chain):
    """For each command that acts."""
    fail(chain, "r/a")
    assert cli("retry --failed --dry-run") == Ended(0, "1 job would be retried:\n  r/a\n", "")
    assert cli("abort r/b --dry-run") == Ended(0, "2 jobs would be aborted:\n  r/b\n  r/c\n", "")

    assert statuses(chain) == {"a": "failed", "b": "unstarted", "c": "unstarted"}


def test_retry_with_dependents_takes_what_was_aborted_with_it(cli, chain):
    """An abort takes all that depend on it; so can its retry."""
    cli("abort r/a")
    assert statuses(chain) == {"a": "aborted", "b": "aborted", "c": "aborted"}

    assert cli("retry r/a --with-dependents --json").json == {
        "changed": ["r/a", "r/b", "r/c"],
        "requested": [],
        "dry_run": False,
    }
    assert statuses(chain) == {"a": "unstarted", "b": "unstarted", "c": "unstarted"}


@pytest.mark.parametrize("line", ["retry", "retry --failed r/a"])
def test_retry_wants_either_ids_or_failed(cli, chain, line):
    """Neither all by accident, nor a choice that is half ignored."""
    ended = cli(line)

    assert (ended.code, ended.err) == (
        2,
        "overseer-lite: Give the ids of jobs to retry, or --failed. Nothing was changed.\n",
    )


@pytest.mark.parametrize(
    ("line", "verb"), [("retry r/b r/a", "retry"), ("abort r/b r/a", "abort"), ("reset r/a", "reset")]
)
def test_a_move_that_does_not_exist_is_refused_as_a_whole(cli, chain, line, verb):
    """Nothing ever leaves finished; of several jobs none is changed."""
    finish(chain, "r/a")
    if verb == "retry":
        fail(chain, "r/b")
    before = statuses(chain)

    ended = cli(line)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"overseer-lite: Cannot {verb} job 'r/a': it is finished. Nothing was changed;")
    assert statuses(chain) == before


@pytest.mark.parametrize("verb", ["abort", "reset"])
def test_a_started_job_is_left_to_its_worker(cli, chain, verb):
    """Only its own worker ends an attempt: the wish is noted, the job stays started."""
    chain.reserve_job("w", "r/a")

    ended = cli(f"{verb} r/a")

    assert ended == Ended(0, "Asked the worker of 1 started job, which stops the attempt first:\n  r/a\n", "")
    assert chain.requests("w") == [(Attempt("r/a", 1, "w"), verb)]
    assert statuses(chain)["a"] == "started"


@pytest.fixture
def hangups():
    """Return the numbers of the SIGHUPs that this process was sent, as a supervisor is."""
    got = []
    before = signal.signal(signal.SIGHUP, lambda number, _frame: got.append(number))
    yield got
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def older(chain, tmp_path):
    """Register a worker whose code is as old as is said, of an app with a module beside it; this is its supervisor."""
    for name in ("pipeline.py", "beside.py"):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (1000, 1000))

    def enter(worker="w1", mtime=900.0, **fields):
        fields = {"supervisor": Identity.mine().to_text(), "runner_pid": 1, **fields}
        file = str(tmp_path / "pipeline.py")
        register(chain, worker, **{"app": file, "app_file": file, "app_mtime": mtime, **fields})

    return enter


def test_retry_asks_nobody_while_workers_run_the_code_as_it_is(cli, chain, older, hangups, tmp_path):
    """Nor one that is confined to another run."""
    fail(chain, "r/a")
    older("w1", 1000.0)
    older("w2", run="s")
    (tmp_path / "test_pipeline.py").write_text("")  # no code of a worker

    assert cli("retry r/a --run r").err == ""
    assert hangups == []


def test_retry_has_the_code_renewed_before_the_job_can_run(cli, chain, older, hangups, tmp_path, monkeypatch):
    """The supervisor is asked once; the job is put back when its workers have fresh runners."""
    fail(chain, "r/a")
    older("w1")
    older("w2")
    seen = []

    def sleep(_seconds):  # the supervisor's part, while the command waits
        seen.append(statuses(chain)["a"])
        older("w1", 1000.0, runner_pid=2)
        older("w2", 1000.0, runner_pid=2)

    monkeypatch.setattr("overseer_lite.cli.renew.time.sleep", sleep)

    ended = cli("retry r/a")
    assert ended == Ended(
        0,
        "Retried 1 job:\n  r/a\n",
        f"overseer-lite: 2 workers renewed: {tmp_path}/pipeline.py, or a module beside it, is newer "
        "than what they ran.\n",
    )
    assert (hangups, seen, statuses(chain)["a"]) == ([signal.SIGHUP], ["failed"], "unstarted")


def test_a_mended_module_beside_the_app_counts_as_well(cli, chain, older, hangups, tmp_path, monkeypatch):
    """Code is not one file."""
    fail(chain, "r/a")
    older("w1", 1000.0)
    os.utime(tmp_path / "beside.py", (2000, 2000))
    monkeypatch.setattr("overseer_lite.cli.renew.time.sleep", lambda _s: older("w1", 2000.0, runner_pid=2))

    assert (cli("retry r/a").code, hangups) == (0, [signal.SIGHUP])


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("package/inner/deep.py", [signal.SIGHUP]),
        ("namespace/part.py", [signal.SIGHUP]),
        ("package/test_deep.py", []),
        ("tests/helper.py", []),
        ("not-a-package/script.py", []),
        ("data/year/script.py", []),
    ],
)
def test_a_mended_module_of_a_package_counts_where_an_import_may_find_it(
    cli, chain, older, hangups, tmp_path, monkeypatch, module, told
):
    """However deep it lies; tests are no code of a worker, and what no import can name is none either."""
    fail(chain, "r/a")
    older("w1", 1000.0)
    for name in ("package/__init__.py", "package/inner/__init__.py", module):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (1000, 1000))
    os.utime(tmp_path / module, (2000, 2000))
    monkeypatch.setattr("overseer_lite.cli.renew.time.sleep", lambda _s: older("w1", 2000.0, runner_pid=2))

    assert (cli("retry r/a").code, hangups) == (0, told)


@pytest.fixture
def apps(tmp_path):
    """Two apps with a package below them, and a script that neither imports, which is newer than all."""
    (tmp_path / "package").mkdir()
    source = "import overseer_lite, package.part\nhandlers = overseer_lite.Handlers()\n@handlers\ndef t(job): pass\ngraph = {'t': []}\n"
    for name, text in {"pipeline.py": source, "other.py": source, "package/part.py": "", "script.py": ""}.items():
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (1000, 1000))
    os.utime(tmp_path / "package/part.py", (2000, 2000))
    os.utime(tmp_path / "script.py", (3000, 3000))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["submit", "run -n 1"])
def test_whoever_brings_work_is_told_of_workers_that_run_older_code(
    cli, chain, older, apps, tmp_path, hangups, command
):
    """By what the app imports now, packages included; it is the operator who renews them, as they may be at work."""
    older("w1", 1999.0)
    older("w2", 1999.0)
    ended = cli(f"{command} --id s")

    assert (ended.code, hangups) == (0, [])
    assert ended.err == (
        f"overseer-lite: {tmp_path}/pipeline.py is newer than what live workers run, who may run jobs on the older code: "
        f"SIGHUP the supervisor (kill -HUP {os.getpid()}).\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "worker",
    [
        {"mtime": 2000.0},
        {"mtime": 1999.0, "run": "another"},
        {"mtime": 1999.0, "file": "other.py"},
        {"mtime": 1999.0, "identity": Identity.mine()._replace(pid=2**22 + 1).to_text()},
    ],
    ids=["as new", "of another run", "of another app", "dead"],
)
def test_nobody_is_told_of_workers_that_cannot_run_it_on_older_code(cli, chain, older, apps, tmp_path, worker):
    """A warning that comes each time is read by nobody: not for a script beside the app which it does not import."""
    file = str(tmp_path / worker.pop("file", "pipeline.py"))
    older("w1", worker.pop("mtime"), app_file=file, **worker)

    assert (cli("submit --id s").code, cli("submit --id s").err) == (0, "")


def test_a_worker_in_the_middle_of_a_job_is_not_waited_for_once_another_is_renewed(
    cli, chain, older, hangups, monkeypatch
):
    """It was told in the same go, and takes no other job before."""
    chain.transact_graph(job_graph({"long": []}, id="s"))
    fail(chain, "r/a")
    older("w1")
    older("w2")
    chain.reserve_job("w2", "s/long")
    monkeypatch.setattr("overseer_lite.cli.renew.time.sleep", lambda _s: older("w1", 1000.0, runner_pid=2))

    assert (cli("retry r/a").code, statuses(chain)["a"]) == (0, "unstarted")


def test_where_the_code_is_not_renewed_nothing_is_retried(cli, chain, older, hangups, monkeypatch):
    """Most likely it cannot be imported: exit 2, and how to find out, and how to retry all the same."""
    fail(chain, "r/a")
    older()
    monkeypatch.setattr("overseer_lite.cli.renew._PATIENCE_S", 0.0)

    ended = cli("retry r/a")
    assert (ended.code, ended.out, statuses(chain)["a"]) == (2, "", "failed")
    assert "overseer-lite check" in ended.err
    assert "--no-renew" in ended.err


def test_retry_without_renewing_says_how_it_is_done(cli, chain, older, hangups, tmp_path):
    """For those who know better; and where nobody can be asked it is all there is."""
    line = "overseer-lite: {} is newer than what live workers run, who may run jobs on the older code: {}.\n"
    fail(chain, "r/a")
    older()
    how = f"SIGHUP the supervisor (kill -HUP {os.getpid()})"
    assert cli("retry r/a --no-renew").err == line.format(tmp_path / "pipeline.py", how)
    fail(chain, "r/a")
    older(supervisor=None)
    assert cli("retry r/a").err == line.format(tmp_path / "pipeline.py", "restart the workers")
    assert hangups == []


# ---- wait, runs ------------------------------------------------------------------------------------------------------


def test_wait_ends_when_nothing_is_left_that_can_run(cli, chain):
    """Stuck jobs are not waited for; anything that is not finished is exit 1."""
    fail(chain, "r/a")

    assert cli("wait") == Ended(1, "1 failed, 2 unstarted (2 stuck)\n", "")
    for job_id in ("r/a", "r/b", "r/c"):
        if job_id == "r/a":
            chain.retry([job_id])
        finish(chain, job_id)
    assert cli("wait --json").json["exit_code"] == 0


def test_wait_times_out_with_4(cli, chain):
    """Jobs that nobody runs are waited for; the timeout ends it."""
    assert cli("wait --run r --timeout 0.01") == Ended(4, "", "overseer-lite: Run 'r' did not end within 0.01 s.\n")


def test_waiting_for_nothing_is_no_success(cli, store):
    """Green on nothing is how a broken pipeline stays unseen."""
    assert cli("wait").code == 2


def test_runs_are_listed_newest_first(cli, chain):
    """With counts of each."""
    chain.transact_graph(job_graph({"x": []}, id="s"))

    assert [(run["id"], run["jobs"]["unstarted"]) for run in cli("runs --json").json] == [("s", 1), ("r", 3)]
    assert [line.split()[0] for line in cli("runs").out.splitlines()] == ["run", "s", "r"]


# ---- submit ----------------------------------------------------------------------------------------------------------

LINES = '{"id": "a", "type": "t", "args": {"n": 1}}\n{"id": "b", "type": "t", "dependencies": ["a"]}\n'


def test_json_lines_are_stored_with_their_ids_as_given(cli, tmp_path):
    """From stdin or a file; the store is made."""
    ended = cli("submit - --json", stdin=LINES)

    assert ended.json["created"] == ["a", "b"]
    assert [(job["id"], job["dependencies"]) for job in cli("jobs --json").json] == [("a", []), ("b", ["a"])]


def test_the_same_lines_again_are_no_error_and_nothing_new(cli, tmp_path):
    """Idempotent on its ids: a submit that was not acknowledged can be said again."""
    (tmp_path / "f.jsonl").write_text(LINES)
    cli("submit f.jsonl")

    again = cli("submit f.jsonl --json")

    assert (again.code, again.json) == (0, {"run": None, "created": [], "existed": ["a", "b"]})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no jobs"),
        ("{", "(stdin):line 1: this is not JSON"),
        (LINES + "[]", "(stdin):line 3: this is no JSON object"),
        ('{"id": "a"}', "line 1: the job has no 'type'"),
        ('{"id": "a", "type": "t", "arg": {}}', "did you mean 'args'?"),
        ('{"id": "a", "type": "t", "args": {"x": NaN}}', "NaN is not JSON"),
        ('{"id": "a", "type": "t", "dependencies": ["b"]}', "depends on 'b'"),
        ('{"id": "a", "type": "t", "dependencies": ["a"]}', "cycle: a -> a"),
        (LINES + LINES, "line 3: the id 'a' stands on line 1 already"),
        (b'{"id": "\xff", "type": "t"}', "line 1: this is not UTF-8 (byte 9)"),
    ],
)
def test_bad_lines_are_exit_2_and_nothing_is_stored(cli, tmp_path, text, words):
    """All or nothing; the line that is wrong is named."""
    ended = cli("submit -", stdin=text)

    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert words in ended.err
    assert not (tmp_path / ".overseer/jobs.db").exists() or cli("jobs --json").json == []


def test_a_file_that_cannot_be_read_is_exit_2(cli, tmp_path):
    """Named, with the reason; no store is made."""
    assert cli("submit nope.jsonl") == Ended(
        2, "", "overseer-lite: Cannot read nope.jsonl: No such file or directory. Nothing was stored.\n"
    )
    assert list(tmp_path.iterdir()) == []


# ---- run, worker: what is wrong before anything is stored ------------------------------------------------------------

ARGS = [
    ("[1]", "--args is list, not an object"),
    ("{", "--args is not JSON"),
    ('{"a": NaN}', "--args is not JSON: NaN"),
    ('{"a": 1, "a": 2}', "the key 'a' stands there twice"),
]


@pytest.mark.parametrize("verb", ["run", "submit", "check"])
@pytest.mark.parametrize(("text", "words"), ARGS)
def test_args_that_are_no_json_object_are_exit_2(cli, tmp_path, verb, text, words):
    """Before the app is looked at, and with the right form in the line."""
    ended = cli([verb, "--args", text])

    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err
    assert """write --args '{"name": value}'.""" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_retry_of_a_new_run_is_refused(cli, tmp_path):
    """There is nothing to retry in it; --id was forgotten."""
    ended = cli("run --retry")

    assert (ended.code, list(tmp_path.iterdir())) == (2, [])
    assert "--retry needs --id" in ended.err


# ---- what happens in a run, found by looking --------------------------------------------------------------------------


def told(watch):
    """Return what is new, without times and what is not told."""
    return [event._replace(at=0.0, number=0, again=False) for event in watch.look(last=True)]


def test_watch_tells_what_began_and_how_it_ended_once(chain):
    """An attempt that began and ended between two looks is told of by its end alone."""
    watch = Watch(chain, "r")
    attempt = chain.reserve_job("w", "r/a")
    assert told(watch) == [Event("started", "r/a")]
    assert told(watch) == []
    chain.finish_job(attempt)
    fail(chain, "r/b")

    assert told(watch) == [
        Event("finished", "r/a"),
        Event("failed", "r/b", "attempt 1, ValueError: boom", bad=True),
    ]
    assert told(watch) == []


def test_watch_tells_each_attempt_of_a_job(chain):
    """A failure with a retry to come says when; two attempts between two looks are two events."""
    watch = Watch(chain, "r")
    fail(chain, "r/a", delay_s=0.0)
    assert [event.detail for event in told(watch)] == ["attempt 1, ValueError: boom, to be run again"]
    fail(chain, "r/a", delay_s=0.0)
    finish(chain, "r/a")
    fail(chain, "r/b", delay_s=30.0)

    assert told(watch) == [
        Event("failed", "r/a", "attempt 2, ValueError: boom", bad=True),
        Event("finished", "r/a", "attempt 3"),
        Event("failed", "r/b", "attempt 1, ValueError: boom, again in 30 s", bad=True),
    ]


def test_watch_tells_that_jobs_were_given_up(chain):
    """The one that was meant, and those that depend on it."""
    watch = Watch(chain, "r")
    chain.abort_job("r/b", Failure("abort", "not wanted"))

    assert told(watch) == [
        Event("aborted", "r/b", "not wanted", bad=True),
        Event("aborted", "r/c", "", bad=True),
    ]


def test_watch_does_not_tell_what_was_there_before(chain):
    """A run that is continued begins with what is new, also for a job that has had attempts before."""
    fail(chain, "r/a", delay_s=0.0)
    attempt = chain.reserve_job("w", "r/a")
    watch = Watch(chain, "r")
    assert told(watch) == []
    chain.finish_job(attempt)

    assert told(watch) == [Event("finished", "r/a", "attempt 2")]


def test_watch_of_a_large_run_tells_counts_and_failures_only(store, monkeypatch):
    """Listing a million jobs ten times a second would be more work than running them; each failure is told once."""
    monkeypatch.setattr("overseer_lite.cli.watch.LISTED_UP_TO", 2)
    store.transact_graph(job_graph({"a": [], "b": [], "c": [], "d": []}, id="r"))
    fail(store, "r/a")
    watch = Watch(store, "r")
    finish(store, "r/b")
    assert told(watch) == []

    for name in "cd":
        fail(store, f"r/{name}")
        assert told(watch) == [Event("failed", f"r/{name}", "ValueError: boom", bad=True)]
    assert told(watch) == []
    assert (watch.counts.finished, watch.counts.failed) == (1, 3)


def test_watch_does_not_look_all_the_time(chain):
    """A look that took long is not repeated at once: nine tenths of the time are left to the workers."""
    watch = Watch(chain, "r")
    watch.look()
    chain.reserve_job("w", "r/a")
    watch._next_look = time.monotonic() + 60

    assert watch.look() == []
    assert [event.word for event in watch.look(last=True)] == ["started"]


# ---- rendering -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 ms"),
        (0.094, "94 ms"),
        (0.1, "0.1 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (119.0, "119 s"),
        (119.9, "2 min"),
        (7199.0, "2 h"),
        (7500.0, "2 h 5 min"),
        (48 * 3600.0, "2 d"),
        (49 * 3600.0, "2 d 1 h"),
    ],
)
def test_a_duration_is_as_exact_as_its_size_asks_for(seconds, words):
    """No `60 s`, no `0.0 s`, no `120 min`."""
    assert say.duration(seconds) == words


def test_output_keeps_lines_and_colours_and_nothing_else_that_steers():
    """On a terminal; a pipe gets the bytes as they are."""
    assert say.escape_output("a\n\x1b[31mred\x1b[0m\x1b[2J\x07\tb") == "a\n\x1b[31mred\x1b[0m\\x1b[2J\\x07\tb"


@pytest.mark.parametrize(
    ("color", "tty", "variables", "drawn"),
    [
        ("auto", True, {}, True),
        ("auto", True, {"NO_COLOR": "1"}, False),
        ("auto", True, {"CI": "true"}, False),
        ("auto", True, {"TERM": "dumb"}, False),
        ("always", True, {"CI": "true"}, True),
        ("never", True, {}, False),
        ("auto", False, {}, False),
        ("always", False, {}, False),
    ],
)
def test_only_a_terminal_that_wants_it_is_drawn_on(monkeypatch, color, tty, variables, drawn):
    """CI and NO_COLOR mean plain lines, unless colour was asked for."""

    class Stream:
        def isatty(self):
            return tty

    for name in ("CI", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert say.is_terminal(color, Stream()) is drawn


def test_every_error_of_the_package_has_an_exit_code_of_the_table():
    """0 to 5 only: whoever scripts against it can rely on them."""

    def below(kind):
        return [kind, *(found for each in kind.__subclasses__() for found in below(each))]

    assert {each.exit_code for each in below(errors.OverseerError)} == {1, 2, 3, 4, 5}
