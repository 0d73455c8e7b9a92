"""The command line as a user has it: processes, signals, pipes, a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from overseer_lite.graph import Graph
from overseer_lite.job import Failure, Job
from overseer_lite.store import open_store
from tests.conftest import Ended

pytestmark = pytest.mark.slow

PIPELINE = """
import os, time
import overseer_lite as overseer

handlers = overseer.Handlers()

@handlers
def first(job):
    print("first says hello", flush=True)
    for number, hold in enumerate(os.environ.get("HOLD", "").split()):
        while not os.path.exists(hold):
            time.sleep(0.01)
        print("first goes on", number, flush=True)

@handlers
def second(job):
    if not os.path.exists("mended"):
        raise ValueError("not mended yet")
    return {"day": job.args.get("day")}

@handlers
def third(job):
    return job.results["second"]

graph = {"first": [], "second": ["first"], "third": ["second"]}
"""


def end(process):
    """Stop a process that a failed test left: at once and with all it started, by two signals; else it is killed."""
    for _ in range(2):
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2)
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):  # not read to its end: an orphan may hold it open
        if stream is not None:
            stream.close()


@pytest.fixture
def start(tmp_path):
    """Start the command line in a directory of its own; whatever is still there at the end is killed."""
    started = []
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("OVERSEER_LITE_", "CI", "GITHUB_"))
    }

    def begin(*words, env=None, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        argv = [sys.executable, "-m", "overseer_lite", *words]
        process = subprocess.Popen(argv, cwd=tmp_path, env={**environ, **(env or {})}, **options)
        started.append(process)
        return process

    yield begin
    for process in started:
        end(process)


@pytest.fixture
def cli(start):
    """Call the command line and wait for its end."""

    def call(*words, env=None):
        process = start(*words, env=env)
        out, err = process.communicate(timeout=60)
        return Ended(process.returncode, out, err)

    return call


@pytest.fixture
def app(tmp_path):
    """Write the app."""
    file = tmp_path / "pipeline.py"
    file.write_text(PIPELINE)
    return file


def without_times(text):
    """Return lines of events without the time before them and the durations in them."""
    text = re.sub(r"^\d\d:\d\d:\d\d ", "", text, flags=re.MULTILINE)
    return re.sub(r"\b[\d.]+ m?s\b", "T", text)


# ---- run -------------------------------------------------------------------------------------------------------------


def test_a_run_that_fails_is_mended_and_goes_on(cli, app, tmp_path):
    """Exit 1 and the way to see more; the same id keeps what failed, --retry runs it again, then all is finished."""
    failed = cli("run", "-n", "2", "--id", "r")

    assert failed.code == 1
    lines = without_times(failed.out).splitlines()
    began = lines.index("failed      r/second  attempt 1, T, ValueError: not mended yet")
    words = [line for line in lines[began:] if line.startswith("    | ")]
    assert words[0] == "    | Traceback (most recent call last):"
    assert words[-1] == "    | ValueError: not mended yet"
    assert "first says hello" not in failed.out  # that job finished
    time_lines = [re.sub(" +T", " T", line) for line in lines[began + 1 + len(words) : -8]]
    assert time_lines[0] == ""
    assert sorted(line.split()[-1] for line in time_lines[1:3]) == ["r/first", "r/second"]
    assert time_lines[3:] == ["longest    chain of jobs T: first T > second T"]
    assert lines[-8:] == [
        "",
        "failed   r/second: ValueError: not mended yet",
        "         overseer-lite show r/second",
        "1 job stuck behind what failed",
        "",
        "ended with failures in T: 1 finished, 1 failed, 1 unstarted (1 stuck)",
        f"run r in {tmp_path}/.overseer/jobs.db",
        "to try the failed jobs again: overseer-lite run --id r --retry",
    ]
    assert "\x1b" not in failed.out

    again = cli("run", "-n", "2", "--id", "r")
    assert again.code == 1
    assert again.out.splitlines()[:2] == [
        "run r goes on: 1 finished, 1 failed, 1 unstarted (1 stuck)",
        "nothing of it is left that can run",
    ]

    (tmp_path / "mended").touch()
    mended = cli("run", "-n", "2", "--id", "r", "--retry")
    assert mended.code == 0
    assert "finished    r/second  attempt 2" in mended.out
    assert cli("show", "third", "--result").out == '{\n  "day": null\n}\n'
    assert "first says hello" in cli("logs", "first").out


@pytest.mark.parametrize(("output", "shown"), [("all", ["first says hello", "not mended yet"]), ("none", [])])
def test_a_run_shows_the_output_that_is_asked_for(cli, app, output, shown):
    """Of every attempt or of none; by default of those that failed."""
    ended = cli("run", "-n", "1", "--id", "r", "--output", output)

    words = [line.rpartition(": ")[2].removeprefix("    | ") for line in ended.out.splitlines() if "    | " in line]
    assert [line for line in words if line in ("first says hello", "not mended yet")] == shown


def test_a_run_says_what_was_cut_short_and_recovered(cli, tmp_path):
    """Which signal, and with which attempt the job finished; the command that shows more names the store that was named."""
    (tmp_path / "pipeline.py").write_text(
        "import overseer_lite as o, os\nhandlers = o.Handlers()\n"
        "@handlers\ndef cut(job):\n    if job.attempt == 1: os.kill(os.getpid(), 9)\n"
        "@handlers\ndef bad(job): raise ValueError('no')\n"
        "graph = {'cut': [], 'bad': []}\n"
    )

    ended = cli("run", "-n", "1", "--id", "r", "--db", "other.db")

    assert "recovered  r/cut: attempt 1 crashed (signal 9 SIGKILL), finished on attempt 2" in ended.out.splitlines()
    assert f"         overseer-lite show r/bad --db {tmp_path}/other.db" in ended.out.splitlines()


def test_run_json_is_alone_on_stdout(cli, app, tmp_path):
    """The events go to stderr."""
    (tmp_path / "mended").touch()

    ended = cli("run", "-n", "2", "--id", "r", "--json", "--args", '{"day": "monday"}')

    value = json.loads(ended.out)
    assert 0 < value.pop("seconds") < 60
    assert value == {
        "run": "r",
        "exit_code": 0,
        "jobs": {"unstarted": 0, "started": 0, "finished": 3, "failed": 0, "aborted": 0, "ready": 0, "stuck": 0},
        "failed": [],
    }
    assert "finished    r/third" in ended.err


def test_a_second_run_without_an_id_is_a_new_one_and_names_the_unfinished(cli, app):
    """A second run neither repeats nor skips in silence."""
    cli("run", "-n", "1", "--id", "old")

    ended = cli("run", "-n", "1")

    assert ended.out.splitlines()[0].endswith("3 jobs stored in " + ended.out.splitlines()[0].rpartition(" ")[2])
    assert "unfinished runs in this store: old (`run --id KEY` continues one)" in ended.out.splitlines()
    assert [run["jobs"]["failed"] for run in json.loads(cli("runs", "--json").out)] == [1, 1]


def test_a_changed_graph_is_refused_with_the_difference(cli, app):
    """Another graph under the same id is no continuation; nothing is stored."""
    cli("run", "-n", "1", "--id", "r")
    app.write_text(PIPELINE.replace('"third": ["second"]', '"third": ["first"]'))

    ended = cli("run", "-n", "1", "--id", "r")

    assert (ended.code, ended.out) == (2, "")
    assert "r/third" in ended.err
    assert "r/first" in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(("signum", "code", "word"), [(signal.SIGINT, 130, "SIGINT"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_run_stopped_by_a_signal_still_has_its_summary(start, app, tmp_path, eventually, signum, code, word):
    """The current jobs end, then the counts and how to go on; the exit code names the signal."""
    hold = tmp_path / "hold"
    process = start("run", "-n", "1", "--id", "r", env={"HOLD": str(hold)})
    output = tmp_path / ".overseer/jobs.db.d/output"
    eventually(lambda: output.is_dir() and any(file.stat().st_size for file in output.iterdir()), what="the job begins")

    process.send_signal(signum)
    assert "Stopping" in process.stderr.readline()  # said when the workers have been told
    hold.touch()
    out, _err = process.communicate(timeout=30)

    assert process.returncode == code
    assert re.search(rf"^stopped by {word} in .*: 1 finished, 2 unstarted \(1 ready\)$", out, re.MULTILINE)
    assert "to go on: overseer-lite run --id r" in out.splitlines()


def test_a_run_that_takes_too_long_ends_with_4(cli, app, tmp_path):
    """Its job is cut short and can be run again."""
    ended = cli("run", "-n", "1", "--id", "r", "--timeout", "1", env={"HOLD": str(tmp_path / "never")})

    assert ended.code == 4
    assert "\ntimed out in " in ended.out
    assert json.loads(cli("status", "--json").out)["jobs"]["ready"] == 1


def test_x_stops_at_the_first_failure(cli, tmp_path):
    """What could still run is left unstarted."""
    (tmp_path / "pipeline.py").write_text(
        "import overseer_lite as o, time\nhandlers = o.Handlers()\n"
        "@handlers\ndef bad(job): raise ValueError('no')\n"
        "@handlers\ndef slow(job): time.sleep(0.3)\n"
        "def graph():\n    g = o.Graph()\n    g.add('bad')\n"
        "    for n in range(40): g.add('slow', name=str(n))\n    return g\n"
    )

    ended = cli("run", "-n", "1", "-x", "--json")

    value = json.loads(ended.out)
    assert (ended.code, value["jobs"]["failed"]) == (1, 1)
    assert value["jobs"]["unstarted"] > 20


def test_x_does_not_stop_at_what_failed_before(cli, tmp_path):
    """A run that is continued would do nothing, and look as if it had tried; its first new failure does stop it."""
    (tmp_path / "pipeline.py").write_text(
        "import overseer_lite as o, os\nhandlers = o.Handlers()\n"
        "@handlers\ndef bad(job): raise ValueError('no')\n"
        "@handlers\ndef good(job): pass\n"
        "def graph():\n    g = o.Graph()\n    g.add('bad')\n"
        "    for n in range(30): g.add('good', name=f'g{n}')\n"
        "    g.add('bad', name='last', priority=-1)\n    g.add('good', name='after', priority=-2)\n    return g\n"
    )
    cli("submit", "--id", "r")
    assert cli("worker", "-n", "1", "--types", "bad", "--drain").code == 0
    assert cli("retry", "r/last").code == 0

    ended = cli("run", "-n", "1", "-x", "--id", "r", "--json")

    assert json.loads(ended.out)["jobs"]["finished"] >= 30
    assert json.loads(ended.out)["jobs"]["failed"] == 2


def test_a_failure_that_a_retry_cured_is_none(cli, tmp_path):
    """Exit 0: the run's end is what counts; the attempt that failed is told of where it happened."""
    (tmp_path / "pipeline.py").write_text(
        "import overseer_lite as o\nhandlers = o.Handlers()\n"
        "@handlers(retries=1, backoff=0)\ndef flaky(job):\n    if job.attempt == 1: raise OSError('line down')\n"
        "graph = {'flaky': []}\n"
    )

    ended = cli("run", "-n", "1", "--id", "r")

    assert (ended.code, "r/flaky  attempt 1, T, OSError: line down" in without_times(ended.out)) == (0, True)
    assert "\nfailed   " not in ended.out


CHANGES = {
    "a type": (
        "g.add('a', name='b')", "job 'r/b' has type 'b' in the store and 'a' here",
    ),
    "a name": ("g.add('b', name='c')", "job 'r/c' is not stored, but 'r/a' is"),
    "args": ("g.add('b', args={'x': 2})", """job 'r/b' has args {"x":1} in the store and {"x":2} here"""),
    "dependencies": (
        "g.add('b', args={'x': 1}, dependencies=['a'])", "job 'r/b' depends on [] in the store and on ['r/a'] here",
    ),
    "a job more": ("g.add('b', args={'x': 1}); g.add('a', name='c')", "job 'r/c' is not stored, but 'r/a' is"),
    "a job less": ("pass", "run 'r' is stored with 2 jobs, the graph has 1"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_of_a_graph_is_shown(cli, tmp_path, change):
    """Under the id of a run that is there, whatever was changed: exit 2, one line with the difference, nothing stored."""
    app = (
        "import overseer_lite as o\nhandlers = {'a': print, 'b': print}\n"
        "def graph():\n    g = o.Graph()\n    g.add('a')\n    %s\n    return g\n"
    )
    changed, words = CHANGES[change]
    (tmp_path / "pipeline.py").write_text(app % "g.add('b', args={'x': 1})")
    cli("submit", "--id", "r")
    (tmp_path / "pipeline.py").write_text(app % changed)

    ended = cli("run", "-n", "1", "--id", "r")

    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert words in ended.err
    assert json.loads(cli("status", "--json").out)["jobs"]["unstarted"] == 2


#: Environment in which the interpreter keeps what it has compiled, as it does unless it is told otherwise.
COMPILES = {"PYTHONDONTWRITEBYTECODE": ""}


def test_code_that_is_mended_within_a_second_is_the_code_that_runs(cli, app):
    """To the interpreter a source of the same length and the same second is the same; a compiled one of before is not used."""
    code = "handlers = {'a': lambda job: %d}\ngraph = {'a': []}\n"
    app.write_text(code % 1)
    written = os.stat(app).st_mtime_ns
    assert cli("run", "-n", "1", "--id", "before", env=COMPILES).code == 0
    app.write_text(code % 2)
    os.utime(app, ns=(written, written))

    assert cli("run", "-n", "1", "--id", "after", env=COMPILES).code == 0

    assert json.loads(cli("show", "--json", "before/a").out)["result"] == 1
    assert json.loads(cli("show", "--json", "after/a").out)["result"] == 2


def test_source_that_is_not_new_is_compiled_once(cli, app, tmp_path):
    """A large app would else be compiled at each start of a runner."""
    os.utime(app, (1e9, 1e9))
    cli("submit", "--id", "r", env=COMPILES)

    assert [file.name.split(".")[0] for file in (tmp_path / "__pycache__").iterdir()] == ["pipeline"]


def test_workers_that_cannot_be_kept_alive_end_a_run_with_5(cli, app):
    """The app imports where it is inspected, and kills every runner: the last words are told, the jobs are kept."""
    app.write_text(f"import os\nif os.path.exists('seen'): os._exit(7)\nopen('seen', 'w').close()\n{PIPELINE}")

    ended = cli("run", "-n", "1", "--id", "r")

    assert ended.code == 5
    assert ended.err.splitlines()[-1].startswith("overseer-lite: Workers cannot be kept alive: ")
    assert "workers lost in" in ended.out
    assert json.loads(cli("status", "--json").out)["jobs"]["ready"] == 1


BAD_APPS = {
    "no such file": (None, "there is no file"),
    "not Python": ("graph = {", "SyntaxError"),
    "raises": ("1 / 0", "ZeroDivisionError"),
    "no handlers": ("graph = {'a': []}", "handlers"),
    "no graph": ("handlers = {'a': print}", "graph"),
    "empty graph": ("handlers = {'a': print}\ngraph = {}", "no jobs"),
    "cycle": ("handlers = {'a': print, 'b': print}\ngraph = {'a': ['b'], 'b': ['a']}", "cycle: a -> b -> a"),
    "unknown dependency": ("handlers = {'a': print}\ngraph = {'a': ['b']}", "depends on 'b'"),
    "missing handler": ("handlers = {'a': print}\ngraph = {'a': [], 'b': []}", "No handler for type 'b'"),
    "exits": ("import sys; sys.exit(3)", "3"),
}


@pytest.mark.parametrize(("verb", "kind"), [*(("run", kind) for kind in BAD_APPS), ("submit", "cycle")])
def test_a_bad_app_is_one_line_exit_2_and_nothing_stored(cli, tmp_path, kind, verb):
    """The line names what is wrong; no store is made."""
    text, words = BAD_APPS[kind]
    if text is not None:
        (tmp_path / "bad.py").write_text(text)

    ended = cli(verb, "bad.py", "-n", "1") if verb == "run" else cli(verb, "bad.py")

    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert words in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / ".overseer").exists()


# ---- worker ----------------------------------------------------------------------------------------------------------


def test_worker_works_on_what_was_submitted_until_it_is_told_to_stop(start, cli, app, tmp_path, eventually):
    """SIGTERM lets the current jobs end, and is exit 0; the log has the ancestor's words."""
    (tmp_path / "mended").touch()
    assert cli("submit", "--id", "r").code == 0
    process = start("worker", "-n", "1")
    assert cli("wait", "--run", "r", "--timeout", "30").code == 0

    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)

    assert (process.returncode, out) == (0, "")
    assert re.search(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO +w1-\w+ Reserving job r/first \(first\)$", err, re.MULTILINE
    )


def test_worker_drain_ends_by_itself(cli, app, tmp_path):
    """When nothing is left that can run, with exit 0."""
    (tmp_path / "mended").touch()
    cli("submit", "--id", "r")

    assert cli("worker", "-n", "2", "--drain").code == 0
    assert json.loads(cli("status", "--json").out)["jobs"]["finished"] == 3


def test_logs_follows_a_running_job_to_its_end(start, app, tmp_path, eventually):
    """What it has written so far, then each line as it comes, once; then it ends."""
    holds = [tmp_path / "hold-1", tmp_path / "hold-2"]
    worker = start("worker", "-n", "1", env={"HOLD": " ".join(map(str, holds))})
    eventually((tmp_path / ".overseer/jobs.db").exists)
    start("submit", "--id", "r").communicate()
    follower = start("logs", "first", "-f")
    assert follower.stdout.readline() == "first says hello\n"
    holds[0].touch()
    assert follower.stdout.readline() == "first goes on 0\n"

    holds[1].touch()
    out, err = follower.communicate(timeout=30)

    assert (follower.returncode, out, err) == (0, "first goes on 1\n", "")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0


def test_status_watch_is_printed_again_when_something_has_changed(start, cli, app):
    """Not each second: a log of it holds what happened. Ctrl-C ends it, and is no trouble to tell of."""
    cli("submit", "--id", "r")
    watching = start("status", "--watch")
    seen = [watching.stdout.readline() for _ in range(6)]
    assert seen[2:] == cli("status").out.splitlines(keepends=True)

    cli("abort", "r/first")
    seen = [watching.stdout.readline() for _ in range(5)]
    assert seen[3:] == ["jobs: 3 aborted\n", "workers: none\n"]

    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=30)
    assert (watching.returncode, out, err) == (130, "", "")


def test_status_watch_json_is_an_object_a_line(start, cli, app):
    """For whoever reads it with a program."""
    cli("submit", "--id", "r")
    watching = start("status", "--watch", "--json")

    assert json.loads(watching.stdout.readline()) == json.loads(cli("status", "--json").out)


def test_status_watch_draws_anew_on_a_terminal(start, cli, app):
    """At one place; the cursor is back afterwards."""
    cli("submit", "--id", "r")
    code, drawn = on_a_terminal(
        start, "status", "--watch", until=lambda drawn: drawn.count(b"3 unstarted") > 3, env={"COLUMNS": "80"}
    )

    assert code == 130
    assert "\x1b[1A" in drawn
    assert drawn.rstrip().endswith("\x1b[?25h")


# ---- start and output ------------------------------------------------------------------------------------------------

WHAT_IS_IMPORTED = """
import sys
from overseer_lite.cli.main import program
try:
    program.main(["status"])
except SystemExit as end:
    assert end.code == 0, end.code
heavy = ("rich", "overseer_lite.runner", "overseer_lite.supervisor", "overseer_lite.worker", "overseer_lite.liveness",
         "filelock", "asyncio", "importlib.metadata", "dataclasses")
print([name for name in heavy if name in sys.modules], file=sys.stderr)
"""


def test_status_imports_nothing_it_does_not_need(cli, app, tmp_path):
    """Its start is what is waited for: no rich without a terminal, nothing that runs jobs."""
    cli("submit", "--id", "r")

    ended = subprocess.run(
        [sys.executable, "-c", WHAT_IS_IMPORTED], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert ended.stderr == "[]\n"


def test_a_closed_pipe_ends_a_listing_quietly(start, cli, app):
    """As `jobs | head -1` does."""
    cli("submit", "--id", "r")
    read, write = os.pipe()
    os.close(read)
    process = start("jobs", stdout=write)
    os.close(write)
    _out, err = process.communicate(timeout=30)

    assert (process.returncode, err) == (141, "")


def test_a_locale_that_lacks_a_character_is_no_fault(cli, tmp_path):
    """A name that cannot be written there is written out."""
    (tmp_path / "f.jsonl").write_text('{"id": "a→b", "type": "t"}\n', encoding="utf-8")
    cli("submit", "f.jsonl")

    ended = cli("jobs", env={"PYTHONIOENCODING": "latin-1"})

    assert (ended.code, "a\\u2192b" in ended.out) == (0, True)


def on_a_terminal(start, *words, env=None, until=None):
    """Run on a terminal of 100 columns; return the exit code and everything that was drawn.

    It is interrupted as soon as what was drawn fulfils a condition, if there is one.
    """
    ours, theirs = pty.openpty()
    drawn = b""
    try:
        process = start(
            *words, env={"TERM": "xterm-256color", "COLUMNS": "100", **(env or {})}, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        while select.select([ours], [], [], 60)[0]:
            try:
                drawn += os.read(ours, 65536)
            except OSError:  # nobody has the other end any more
                break
            if until is not None and until(drawn):
                process.send_signal(signal.SIGINT)
                until = None
        return process.wait(timeout=60), drawn.decode()
    finally:
        os.close(ours)


def test_on_a_terminal_a_run_is_a_live_view(start, app, tmp_path):
    """A bar with counts, a line a worker, failures above; the cursor is back afterwards, the summary stays."""
    code, drawn = on_a_terminal(start, "run", "-n", "1", "--id", "r")

    assert code == 1
    assert "\x1b[?25l" in drawn
    assert drawn.rindex("\x1b[?25h") < drawn.index("ended with failures")
    assert "failed      r/second  attempt 1" in drawn
    assert re.search(r"\d/3", drawn)
    assert [file.name for file in (tmp_path / ".overseer/jobs.db.d").glob("log-*")] == []


@pytest.mark.parametrize("variable", ["CI", "NO_COLOR"])
def test_with_ci_or_no_color_set_there_are_no_control_codes(start, app, variable):
    """One plain line an event, on a terminal too."""
    code, drawn = on_a_terminal(start, "run", "-n", "1", "--id", "r", env={variable: "1"})

    assert code == 1
    assert "\x1b" not in drawn
    assert "failed      r/second" in drawn


LONG_ID = "r/a-job-with-a-name-of-fifty-characters-or-thereabouts"


@pytest.mark.parametrize(("columns", "broken"), [(240, False), (110, True), (60, False)])
def test_an_id_in_a_table_is_whole_however_narrow_the_terminal(start, tmp_path, columns, broken):
    """To be copied. A sentence is broken where there is room for some of it beside the rest, else nothing is."""
    sentence = "a row that is bad, " * 5
    with open_store(str(tmp_path / ".overseer/jobs.db")) as store:
        store.install()
        store.transact_graph(Graph.of([Job("t", name=LONG_ID.removeprefix("r/"))], id="r"))
        store.fail_job(store.reserve_job("w", LONG_ID), Failure("exception", sentence, "ValueError"))
    _code, drawn = on_a_terminal(start, "jobs", env={"COLUMNS": str(columns)})
    told = re.sub(r"\x1b\[[\d;]*m", "", drawn).splitlines()[1:]

    assert told[0].split()[:4] == ["failed", LONG_ID, "t", "1"]
    assert (len(told) > 1) is broken
    assert " ".join(" ".join(told).split()).endswith(f"ValueError: {sentence.strip()}")
    assert "1 failed" in on_a_terminal(start, "runs", env={"COLUMNS": "23"})[1]


# ---- demo ------------------------------------------------------------------------------------------------------------


def test_demo_kill_says_what_the_kill_did(cli, tmp_path):
    """A worker is killed in the middle, its job is reset and begun again long before a heartbeat; nothing is left."""
    ended = cli("demo", "--kill", "-n", "2", env={"TMPDIR": str(tmp_path)})

    assert ended.code == 0, ended
    steps = r"^ +(-?\d+)  (killed|attempt 1 reset|attempt 2 began|attempt 2 finished)"
    at_ms = {step: int(ms) for ms, step in re.findall(steps, ended.out, re.MULTILINE)}
    assert list(at_ms) == ["killed", "attempt 1 reset", "attempt 2 began", "attempt 2 finished"]
    assert list(at_ms.values()) == sorted(at_ms.values())
    assert at_ms["killed"] == 0
    assert at_ms["attempt 1 reset"] < 10_000
    assert "heartbeats come every 60 s" in ended.out
    assert "functions are documented" in ended.out
    assert list(tmp_path.iterdir()) == []
