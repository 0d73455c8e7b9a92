"""`doctor` and `backup` as an operator calls them: each finding with its remedy, and an exit code that can be relied on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from overseer_lite.graph import job_graph
from overseer_lite.job import Failure
from overseer_lite.liveness import Identity, WorkerFile
from overseer_lite.liveness.identity import read_stat
from overseer_lite.sqlite import connection, engine, examine, files
from overseer_lite.store import WorkerRecord, open_store
from tests.conftest import wait_until

pytestmark = pytest.mark.usefixtures("elsewhere")

OUTSIDE = """
import sys
from overseer_lite.sqlite import engine
connection = engine.Connection(sys.argv[1], engine.OPEN_READWRITE)
for statement in sys.argv[2:]:
    connection.execute(statement).fetchall()
"""

HOLD = """
import sys
from overseer_lite.sqlite.gate import Gate
gate = Gate(sys.argv[1])
gate.acquire(10)
print("held", flush=True)
sys.stdin.read()
"""


def outside(path, *statements):
    """Run statements in another process: whoever opened the file here and closed it would take away this one's locks."""
    subprocess.run([sys.executable, "-c", OUTSIDE, path, *statements], check=True, timeout=20)


@pytest.fixture
def store(tmp_path):
    """Return a store at the default place with the run `r`, a and then b; closed at the end."""
    with open_store(str(tmp_path / ".overseer/jobs.db")) as made:
        made.install()
        made.transact_graph(job_graph({"a": [], "b": ["a"]}, id="r"))
        yield made


@pytest.fixture
def child():
    """Start processes that end with the test."""
    started = []

    def start(*argv, **options):
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=20)


def troubles(ended):
    """Return the findings of `doctor --json` that are no `ok`."""
    return [found for found in ended.json["findings"] if found["level"] != "ok"]


def only(ended, what, level, detail, remedy):
    """Check that one thing is amiss, in these words, and that the exit code follows from it."""
    (found,) = troubles(ended)
    assert (found["what"], found["level"]) == (what, level)
    assert detail in found["detail"]
    assert remedy in found["remedy"]
    assert ended.code == ended.json["exit_code"] == (3 if level == "error" else 0)


def register(store, worker="w", identity=None, *, file=True):
    """Enter a worker, with its lock file held by this process unless told not to."""
    identity = identity or Identity.mine()
    now_us = store.clock.read().monotonic_us
    path = os.path.join(store.state_directory, "workers", worker)
    held = WorkerFile.create(path, store_uuid=store.uuid, worker_id=worker, identity=identity, now_us=now_us)
    if not file:
        held.unlink()
        held.close()
    store.register(WorkerRecord(worker, identity.pid, identity=identity.to_text())).close()
    return held


# ---- all is well -----------------------------------------------------------------------------------------------------


def test_a_sound_store_has_no_trouble_and_exit_0(cli, store):
    """Each thing that was looked at is named, so that nobody has to guess what `nothing found` means."""
    ended = cli("doctor --json")

    assert (ended.code, troubles(ended)) == (0, [])
    assert [found["what"] for found in ended.json["findings"]] == [
        "engine",
        "file",
        "state directory",
        "directory",
        "filesystem",
        "space",
        "schema",
        "durability",
        "log",
        "gate",
        "workers",
        "jobs",
        "orphans",
        "leftovers",
        "integrity",
    ]
    assert f"SQLite {engine.VERSION} (apsw), free of the WAL-reset race" in ended.out


def test_what_is_said_to_a_person_is_a_line_a_finding_with_the_settings_and_their_origins(cli, store):
    """The remedy stands below what it mends; where a setting comes from is half of most riddles."""
    store.fail_job(store.reserve_job("w", "r/a"), Failure("error", "boom"))
    ended = cli("doctor --tolerance 7")

    assert ended.code == 0
    assert "ok      engine: SQLite" in ended.out
    assert "WARNING jobs: 2 in all, 0 started, 1 stuck\n        -> `overseer-lite why ID`" in ended.out
    assert "tolerance = 7 (" in ended.out


def test_all_of_the_file_is_read_only_on_request(cli, store):
    """Seconds a GiB, and a snapshot held meanwhile."""
    assert "quick look; --full reads all of it" in cli("doctor").out
    assert "every page and row" in cli("doctor --full").out


def test_examining_writes_nothing(cli, store):
    """Neither to the store nor beside it; a doctor that migrates or mends would hide what it found."""
    store.close()
    before = {str(path): path.read_bytes() for path in Path(".overseer").rglob("*") if path.is_file()}
    cli("doctor --full")

    after = {str(path): path.read_bytes() for path in Path(".overseer").rglob("*") if path.is_file()}
    assert {path: after[path] for path in before if not path.endswith("-shm")} == {
        path: content for path, content in before.items() if not path.endswith("-shm")
    }
    assert after.keys() == before.keys()


# ---- it cannot be relied on: exit 3 ----------------------------------------------------------------------------------


def test_a_missing_store_is_a_finding_with_exit_3_and_makes_nothing(cli, tmp_path):
    """It names the path it looked at; the engine and the disk are judged all the same."""
    ended = cli("doctor --json")

    only(ended, "file", "error", f"there is no store at {tmp_path}/.overseer/jobs.db", "--db")
    assert os.listdir(tmp_path) == []


def test_an_engine_that_corrupts_is_an_error(cli, store, monkeypatch):
    """The verdict comes first: nothing else is worth saying, and the file is not opened by it."""
    monkeypatch.setattr(engine, "VERSION", "3.46.1")

    only(cli("doctor --json"), "engine", "error", "SQLite 3.46.1 carries the WAL-reset race", "pip install -U 'apsw")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "the file is empty"), (b"no database\n" * 1000, "it is not a SQLite database")],
)
def test_what_is_no_store_is_an_error(cli, tmp_path, content, words):
    """Said as opening it says it."""
    (tmp_path / "notes").write_bytes(content)
    os.chmod(tmp_path / "notes", 0o600)
    ended = cli("doctor --db notes --json")

    assert ended.code == 3
    assert words in troubles(ended)[-1]["detail"]
    assert troubles(ended)[-1]["remedy"]


def test_a_file_others_can_write_is_an_error(cli, store):
    """They could run jobs as its owner."""
    store.close()
    os.chmod(store.path, 0o660)

    only(cli("doctor --json"), "file", "error", "can be written by others (mode 0660)", f"chmod go-w {store.path}")


def test_a_state_directory_others_can_write_is_an_error(cli, store):
    """They could put lock files there."""
    os.chmod(os.path.join(store.state_directory, "workers"), 0o777)

    only(cli("doctor --json"), "state directory", "error", "can be written by others (mode 0777)", "chmod go-w")


def test_a_file_of_two_names_is_an_error(cli, store, tmp_path):
    """Each name has a log of its own: whoever opens both corrupts the file."""
    os.link(store.path, tmp_path / "second")

    only(cli("doctor --json"), "names", "error", "the file has 2 names", "find -samefile")


def test_a_filesystem_that_corrupts_in_silence_is_an_error_and_the_override_a_warning(cli, store, monkeypatch):
    """Who overrode it is reminded each time."""
    monkeypatch.setattr(files, "filesystem_of", lambda _path, *_mountinfo: "virtiofs")

    only(cli("doctor --json"), "filesystem", "error", "virtiofs, where locks", "Put the store on a local disk")
    only(cli("doctor --unsafe-filesystem --json"), "filesystem", "warning", "virtiofs, where locks", "a local disk")


def test_a_full_disk_is_an_error_and_a_filling_one_a_warning(cli, store, monkeypatch):
    """Below the floor no job is reserved, which looks like a hang to whoever does not ask."""
    monkeypatch.setattr(files, "free_bytes", lambda _path: connection.FLOOR_BYTES - 1)
    only(cli("doctor --json"), "space", "error", "no job is reserved", "Free some space; work goes on by itself")

    monkeypatch.setattr(files, "free_bytes", lambda _path: connection.FLOOR_BYTES + 1)
    only(cli("doctor --json"), "space", "warning", "MiB free", "before it runs out")


def test_a_newer_schema_is_an_error(cli, store):
    """Whoever does not know its tables cannot judge what is in them."""
    store.close()
    outside(store.path, "PRAGMA user_version = 9")

    only(cli("doctor --json"), "schema", "error", "its schema is version 9", "Upgrade overseer_lite")


@pytest.mark.slow
def test_a_gate_whose_holder_is_stopped_is_an_error(cli, store, child):
    """Nobody can write, `doctor` can look, and it names the one to continue or kill."""
    holder = child(sys.executable, "-c", HOLD, os.path.join(store.state_directory, "gate"))
    assert holder.stdout.readline() == "held\n"
    assert f"held by process {holder.pid}" in cli("doctor").out
    holder.send_signal(signal.SIGSTOP)
    wait_until(lambda: read_stat(holder.pid).state == "T")

    only(cli("doctor --json"), "gate", "error", f"process {holder.pid}", f"kill -CONT {holder.pid}")


@pytest.mark.slow
def test_a_process_of_a_worker_long_gone_is_an_error(cli, store, child):
    """What it does overlaps whoever runs that job now; its pid is in the remedy."""
    (Path(store.state_directory) / "output" / "w9.0").touch()
    orphan = child("sleep", "60", env={**os.environ, "OVERSEER_LITE_WORKER": "w9"})
    wait_until(lambda: b"sleep" in Path(f"/proc/{orphan.pid}/comm").read_bytes())
    ended = cli("doctor --json")

    assert ended.code == 3
    assert [found["what"] for found in troubles(ended)] == ["orphans", "leftovers"]
    assert troubles(ended)[0]["remedy"] == f"kill -9 {orphan.pid}"
    assert f"process {orphan.pid} (sleep) of worker w9, which is gone" in troubles(ended)[0]["detail"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "options", "words"),
    [
        ("UPDATE jobs SET waiting_for = 5 WHERE waiting_for = 1", "--full", "job 'r/b' has a wrong count"),
        ("DELETE FROM types", "--full", "a row of jobs names a row of types that is not there"),
    ],
)
def test_a_row_that_contradicts_another_is_an_error(cli, store, statement, options, words):
    """Found by reading all of it: the pages are sound, what they say is not."""
    store.close()
    outside(store.path, "PRAGMA foreign_keys = OFF", statement)

    assert cli("doctor").code == 0
    only(cli(f"doctor {options} --json"), "integrity", "error", words, "Stop all workers, restore a backup")


def test_a_damaged_page_is_an_error(cli, store):
    """Without --full as well, and in one line."""
    assert store.database.checkpoint(truncate=True)
    store.close()
    with open(store.path, "r+b") as file:
        file.seek(os.path.getsize(store.path) - 4096)
        file.write(b"\xa5" * 4096)
    ended = cli("doctor --json")

    assert ended.code == 3
    assert all("\n" not in found["detail"] + found["remedy"] for found in troubles(ended))
    assert any(found["level"] == "error" and "restore" in found["remedy"].lower() for found in troubles(ended))


# ---- a person should know: a warning, exit 0 -------------------------------------------------------------------------


def test_a_file_others_can_read_is_a_warning(cli, store):
    """Args and results may hold secrets; no promise depends on it."""
    os.chmod(store.path, 0o644)

    only(cli("doctor --json"), "file", "warning", "mode 0644, owner", f"chmod 600 {store.path}")


def test_a_directory_others_can_write_is_a_warning(cli, store, tmp_path):
    """The parent: umask 002 and shared CI mounts are common, so it is said and not refused."""
    os.chmod(tmp_path / ".overseer", 0o770)

    only(cli("doctor --json"), "directory", "warning", "can be written by others (mode 0770)", "chmod go-w")


def test_durability_below_full_is_a_warning(cli, store):
    """What it may cost is said to whoever has to explain a job that ran twice."""
    only(cli("doctor --durability normal --json"), "durability", "warning", "a power loss (no crash)", "'full'")


@pytest.mark.slow
def test_a_large_log_is_a_warning_that_says_who_has_it_open(cli, store, child, monkeypatch):
    """A long reader holds it: some shell with a half-read cursor."""
    monkeypatch.setattr(examine, "_WAL_LIMIT_BYTES", 1000)
    reader = child(
        sys.executable, "-c", OUTSIDE + "print('open', flush=True)\nsys.stdin.read()", store.path, "SELECT * FROM jobs"
    )
    assert reader.stdout.readline() == "open\n"

    only(cli("doctor --json"), "log", "warning", f"open in process {reader.pid} (python", "holds a snapshot for long")


def test_a_stuck_job_is_a_warning(cli, store):
    """Nothing will ever start it but an operator's retry."""
    store.fail_job(store.reserve_job("w", "r/a"), Failure("error", "boom"))

    only(cli("doctor --json"), "jobs", "warning", "1 stuck", "`overseer-lite why ID`")


def test_a_worker_of_ours_that_beats_is_well_but_somebody_should_watch_it(cli, store):
    """Without a monitor the jobs of a dead worker wait until somebody starts one."""
    held = register(store)
    try:
        only(cli("doctor --json"), "monitor", "warning", "nobody watches the workers", "`overseer-lite worker`")
    finally:
        held.close()


def silent_since_long(store):
    held = register(store)
    held.beat(store.clock.read().monotonic_us - 900_000_000)
    store.database.open()
    with store.database.write("beat") as db:
        db.open().execute("UPDATE workers SET beat_us = beat_us - 900000000")
    return held


@pytest.mark.parametrize(
    ("make", "detail", "remedy"),
    [
        (lambda s: register(s, identity=Identity.mine()._replace(start_time=1)), "is gone), 0 started jobs", "puts its jobs back"),
        (lambda s: register(s, identity=Identity.mine()._replace(boot_id="another")), "dead (of another boot)", "puts its jobs"),
        (lambda s: register(s, identity=Identity.mine()._replace(pid_namespace="pid:[1]")), "another pid namespace", "its container"),
        (lambda s: register(s, file=False), "its lock file is missing", "`overseer-lite backup`"),
        (silent_since_long, "has been silent for 900 s", "A running supervisor kills it"),
    ],
    ids=["gone", "other boot", "foreign", "no lock file", "silent"],
)  # fmt: skip
def test_a_worker_that_is_not_well_is_a_warning_that_says_how(cli, store, make, detail, remedy):
    """Dead, foreign, a copy's and silent are told apart, since what to do about them differs."""
    held = make(store)
    try:
        found = troubles(cli("doctor --json"))
    finally:
        held.close()

    assert [(each["what"], each["level"]) for each in found] == [("worker w", "warning"), ("monitor", "warning")]
    assert detail in found[0]["detail"]
    assert remedy in found[0]["remedy"]


def test_a_worker_of_another_namespace_whose_lock_is_free_is_dead_unless_somebody_writes_its_output(cli, store):
    """Which pids it had says nothing here; who holds its lock, and who has its output open, does."""
    register(store, identity=Identity.mine()._replace(pid_namespace="pid:[1]")).close()
    found = troubles(cli("doctor --json"))[0]
    assert (found["what"], found["level"]) == ("worker w", "warning")
    assert found["detail"] == "dead, of another pid namespace, 0 started jobs"
    assert "puts its jobs back within seconds" in found["remedy"]

    with open(os.path.join(store.state_directory, "output", "w.1"), "ab"):
        found = troubles(cli("doctor --json"))[0]
    assert "somebody there still writes its output" in found["detail"]


def test_a_worker_whose_identity_nobody_can_read_is_an_error(cli, store):
    """We never wrote it: the file is damaged, and the damage must not be a fault of the program."""
    store.register(WorkerRecord("w", 1, identity="[broken")).close()
    found = troubles(cli("doctor --json"))[0]

    assert (found["what"], found["level"]) == ("worker w", "error")
    assert "restore a backup" in found["remedy"]


def test_a_worker_whose_row_and_lock_file_name_two_processes_is_an_error(cli, store):
    """One of them is damaged; which one, nobody can say, so nobody is buried by either."""
    held = register(store)
    store.database.open()
    with store.database.write("beat") as db:
        db.open().execute("UPDATE workers SET identity = ?", (Identity.mine()._replace(start_time=1).to_text(),))
    try:
        found = troubles(cli("doctor --json"))[0]
    finally:
        held.close()

    assert (found["what"], found["level"]) == ("worker w", "error")
    assert f"its row names process {os.getpid()}, its lock file process {os.getpid()}" in found["detail"]
    assert "restore a backup" in found["remedy"]


@pytest.mark.slow
def test_a_stopped_worker_is_a_warning_with_its_pid(cli, store, child):
    """Ctrl-Z, a debugger, a freezer: it is silent, not dead."""
    process = child("sleep", "60")
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: read_stat(process.pid).state == "T")
    held = register(store, identity=Identity.of(process.pid))
    try:
        found = troubles(cli("doctor --json"))
    finally:
        held.close()

    assert found[0]["detail"] == f"process {process.pid} is stopped, 0 started jobs"
    assert found[0]["remedy"] == f"kill -CONT {process.pid}, or kill it"


def test_files_of_workers_long_gone_are_a_warning(cli, store):
    """Drafts and logs that were put aside among them: nobody else would ever look."""
    state = Path(store.state_directory)
    (state / "output" / "w9.0").touch()
    Path(store.path + ".new-999999").touch()
    Path(store.path + "-wal.orphaned").touch()
    ended = cli("doctor --json")

    only(ended, "leftovers", "warning", "w9.0", "Remove them")
    assert ".new-999999" in troubles(ended)[0]["detail"]
    assert "-wal.orphaned" in troubles(ended)[0]["detail"]


# ---- backup ----------------------------------------------------------------------------------------------------------


def test_backup_says_where_the_copy_lies_and_what_is_unstarted_in_it(cli, store, tmp_path):
    """And the copy is a store that any command takes."""
    store.reserve_job("w", "r/a")
    ended = cli("backup copy.db --json")

    size = os.path.getsize("copy.db")
    assert (ended.code, ended.json) == (0, {"path": str(tmp_path / "copy.db"), "size_bytes": size, "unstarted": 1})
    assert cli("status --db copy.db --json").json["jobs"]["ready"] == 1
    assert cli("doctor --full --db copy.db --json").code == 0


def test_backup_speaks_a_line_to_a_person(cli, store):
    """One started job is the case in which an operator asks what became of it."""
    store.reserve_job("w", "r/a")
    ended = cli("backup copy.db")

    assert ended.out.startswith("Copied to ")
    assert ended.out.endswith("MiB, 1 started job unstarted in it\n")
    assert ended.out.count("\n") == 1


@pytest.mark.parametrize("target", ["copy.db", ".overseer/jobs.db", "nowhere/copy.db", "."])
def test_backup_overwrites_nothing_and_exits_2(cli, store, target):
    """One line, exit 2, nothing written."""
    Path("copy.db").write_text("theirs")
    ended = cli(f"backup {target}")

    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert Path("copy.db").read_text() == "theirs"
    assert not Path("nowhere").exists()


def test_backup_of_nothing_is_exit_3(cli, tmp_path):
    """It names the path it looked at, and makes neither store nor copy."""
    ended = cli("backup copy.db")

    assert (ended.code, os.listdir(tmp_path)) == (3, [])
    assert str(tmp_path / ".overseer/jobs.db") in ended.err


@pytest.mark.parametrize("command", ["backup copy.db", "doctor"])
def test_a_store_that_is_in_no_file_has_neither(cli, command, monkeypatch):
    """One line that says so; not every store has a file to look at."""
    monkeypatch.setattr(
        "overseer_lite.cli.session.open_store", lambda *_a, **_o: type("S", (), {"close": lambda _s: None})()
    )
    ended = cli(command)

    assert ended.code == 2
    assert "is kept in no file of ours" in ended.err
