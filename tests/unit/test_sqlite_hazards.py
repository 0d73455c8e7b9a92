"""What can go wrong with one SQLite file under several processes, and what answers it (hazards of this shape).

Nothing here opens a live file but the store itself: whoever must look from outside is another process.
"""

from __future__ import annotations

import ast
import fcntl
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from overseer_lite import failpoints
from overseer_lite.errors import (
    InvalidInputError,
    OverseerError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreMissingError,
    StoreReplacedError,
    StoreUnavailableError,
    UnfixedEngineError,
    UnusableStoreError,
)
from overseer_lite.graph import Graph
from overseer_lite.job import Attempt, Evidence, Failure, Job, Outcome, Settlement, Status
from overseer_lite.liveness.tree import flock_holder
from overseer_lite.sqlite import connection, create, engine, files, wakeup
from overseer_lite.sqlite.backup import backup
from overseer_lite.sqlite.connection import CHECKPOINT_PAGES
from overseer_lite.store import WorkerRecord, open_store
from overseer_lite.testing.clock import ManualClock
from overseer_lite.worker.pace import LARGEST

WING = Path(connection.__file__).parent

OUTSIDE = """
import json, sys
from overseer_lite.sqlite import engine
connection = engine.Connection(sys.argv[1], engine.OPEN_READWRITE)
try:
    print(json.dumps([connection.execute(statement).fetchall() for statement in sys.argv[2:]]))
except engine.Error as error:
    print(json.dumps(type(error).__name__))
"""


def outside(path, *statements):
    """Run statements in another process, as a stranger would; return the rows of each, or the name of its error."""
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE, str(path), *statements], capture_output=True, text=True, check=True, timeout=20
    )
    return json.loads(done.stdout)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "jobs.db")


@pytest.fixture
def store(path):
    with open_store(path, timeout_s=1.0) as made:
        made.install()
        yield made


def submit(store, run="r", jobs=2, **options):
    graph = Graph(id=run)
    for number in range(jobs):
        graph.add("t", name=f"j{number}", **options)
    return store.transact_graph(graph)


def whole(path):
    """Return what lies at a path and beside it: names, and the bytes of the file; the state directory's names too."""
    return sorted(os.listdir(os.path.dirname(path))), Path(path).read_bytes() if os.path.isfile(path) else None


def settled_file(path, jobs=300):
    """Make a store whose log is empty and whose file holds everything; it is closed."""
    with open_store(path) as made:
        made.install()
        submit(made, jobs=jobs)
        assert made.database.checkpoint(truncate=True)


# ---- the engine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ("3.7.0", False),
        ("3.40.1", False),
        ("3.44.5", False),
        ("3.44.6", True),
        ("3.44.7", True),
        ("3.45.0", False),
        ("3.46.1", False),
        ("3.50.6", False),
        ("3.50.7", True),
        ("3.51.0", False),
        ("3.51.2", False),
        ("3.51.3", True),
        ("3.52.0", False),
        ("3.52.1", False),
        ("3.53.0", True),
        ("3.54.1", True),
        ("4.0.0", True),
    ],
)
def test_an_engine_is_judged_by_the_wal_reset_race(version, fixed):
    """3.7.0 to 3.51.2 carry it, but for the two branches it was mended in; 3.52 was withdrawn."""
    assert engine.is_fixed(version) is fixed


def test_a_store_refuses_an_engine_that_corrupts(path, monkeypatch):
    """Before anything is opened or made: the file would look well, and lose a commit later."""
    monkeypatch.setattr(engine, "VERSION", "3.46.1")

    with pytest.raises(UnfixedEngineError, match=r"SQLite 3\.46\.1 carries the WAL-reset race"):
        open_store(path).install()

    assert os.listdir(os.path.dirname(path)) == []


def test_the_engine_never_maps_the_file(store):
    """A mapped file turns an I/O error into SIGBUS, and a commit elsewhere into a torn page."""
    assert store.database.open().execute("PRAGMA mmap_size").fetchall() in ([], [(0,)])


def test_the_largest_group_leaves_every_statement_prepared(store):
    """The engine's cache of statements is a ring; a group that went round it would have each exchange prepare anew."""
    submit(store, jobs=5 * LARGEST)
    jobs = store.exchange("w", [], LARGEST, ["t"]).jobs
    known = store.database.open().cache_stats()
    for _ in range(4):
        ends = [Settlement(job.attempt, Outcome.FINISHED, result_json="1") for job in jobs]
        jobs = store.exchange("w", ends, LARGEST, ["t"]).jobs

    assert len(jobs) == LARGEST
    assert store.database.open().cache_stats()["misses"] - known["misses"] <= 3  # what the first had no need of


def moved_pages(path):
    """Return how many pages of the log were moved into the file (sqlite.org/walformat.html), as another process reads it."""
    reading = "import struct, sys; print(*struct.unpack_from('=I', open(sys.argv[1], 'rb').read(100), 96))"
    done = subprocess.run([sys.executable, "-c", reading, path + "-shm"], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.fixture
def long_log(store, path):
    """The store, two jobs being ready, its log a few pages shorter than it may be."""
    submit(store, jobs=2)
    store.register(WorkerRecord("w", 1, types=("t",))).close()
    while (os.stat(path + "-wal").st_size - 32) // (4096 + 24) < CHECKPOINT_PAGES - 3:
        store.beat("w")
    assert moved_pages(path) == 0
    return store


def test_whoever_waits_for_a_job_does_not_wait_for_the_log_to_be_moved(long_log, path):
    """It takes 15 ms and more. The commit of the end moves it, for which nobody waits."""
    (job,) = long_log.exchange("w", [], 1, ["t"]).jobs
    assert moved_pages(path) == 0

    long_log.exchange("w", [Settlement(job.attempt, Outcome.FINISHED)], 0, ["t"])

    assert moved_pages(path) >= CHECKPOINT_PAGES


def test_any_other_commit_moves_a_long_log_at_once(long_log, path):
    """A submit, say; also after a reservation that was rolled back."""
    failpoints.arm("exchange.before_commit", "raise")
    try:
        with pytest.raises(failpoints.FailpointError):
            long_log.exchange("w", [], 1, ["t"])
    finally:
        failpoints.disarm()
    submit(long_log, run="s", jobs=9)

    assert moved_pages(path) >= CHECKPOINT_PAGES


def test_a_log_that_only_reservations_write_is_moved_as_well(store, path):
    """Where a worker always has a job to wait for."""
    submit(store, jobs=400)
    for _ in range(400):
        assert len(store.exchange("w", [], 1, ["t"]).jobs) == 1
        if os.stat(path + "-wal").st_size > CHECKPOINT_PAGES * 4120 and moved_pages(path):
            break
    else:
        pytest.fail("it grew for ever")


# ---- several connections ---------------------------------------------------------------------------------------------


def test_two_stores_on_one_file_in_one_process_see_each_other_s_commits(store, path):
    """One copy of the engine knows of both, so their locks do not undo each other."""
    with open_store(path) as other:
        submit(store, "a")
        submit(other, "b")

        assert store.counts() == other.counts()
        assert store.counts().total == 4


def test_closing_one_store_leaves_the_locks_of_the_other(store, path):
    """POSIX locks go when a process closes any descriptor of the file; the engine must be the only one that does."""
    with store.database.write("act"):
        with open_store(path) as other:
            other.counts()
        engine.read_header(path)
        files.check_file(path)

        assert outside(path, "BEGIN IMMEDIATE") == "BusyError"
    assert outside(path, "BEGIN IMMEDIATE") == [[]]


@pytest.mark.slow
def test_a_connection_carried_over_a_fork_raises_there_and_works_on_here(path):
    """The fork's copy has none of the locks it believes to have; closing it there takes none of ours either."""
    script = """
import os, sys
from overseer_lite.errors import StoreError
from overseer_lite.graph import Graph
from overseer_lite.store import open_store
store = open_store(sys.argv[1]); store.install()
dropped = open_store(sys.argv[1]); dropped.counts(); dropped.database.drop()  # its gate stays open
def submit(run):
    graph = Graph(id=run); graph.add("t"); store.transact_graph(graph)
submit("a")
with store.database.write("act"):
    pid = os.fork()
    if pid == 0:
        try:
            store.counts()
        except StoreError as error:
            words = str(error)
        store.close()
        from overseer_lite.errors import StoreBusyError
        dropped.database.timeout_s = 0.1
        try:  # its own gate, not the parent's: the parent holds it
            with dropped.database.write("act"):
                os._exit(3)
        except StoreBusyError:
            os._exit(0 if "is used in its fork" in words else 2)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
submit("b")
print(code, store.counts().total)
"""
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True, timeout=20)

    assert done.stdout.split() == ["0", "2"]
    assert outside(path, "PRAGMA integrity_check") == [[["ok"]]]


def test_a_gate_that_was_open_before_a_fork_is_opened_anew_there(path, store, monkeypatch):
    """Parent and fork share an inherited descriptor's lock: both would be let in at once."""
    store.counts()
    db = store.database
    db.drop()
    before = db._gate
    monkeypatch.setattr(os, "getpid", lambda pid=os.getpid() + 1: pid)
    store.counts()

    assert db._gate is not before
    monkeypatch.undo()
    db._pid = os.getpid()


def test_a_read_transaction_cannot_write(store):
    """Who reads first and writes then gets SQLITE_BUSY at once when another has written: no timeout helps there."""
    submit(store)
    with pytest.raises(UnusableStoreError, match="read-?only"), store.database.read() as db:
        db.run("forget_workers")

    submit(store, "after")
    assert store.counts().total == 4


def test_only_begin_immediate_begins_a_write():
    """There is one place that begins: `_Write` and `_Read`; a bare BEGIN elsewhere would read first and write then."""
    found = [
        (file.name, statement.group(0))
        for file in sorted(WING.glob("*.py"))
        for statement in re.finditer(r'"BEGIN[^"]*"', file.read_text())
    ]

    assert found == [
        ("backup.py", '"BEGIN IMMEDIATE"'),
        ("connection.py", '"BEGIN IMMEDIATE"'),
        ("connection.py", '"BEGIN"'),
        ("create.py", '"BEGIN IMMEDIATE"'),
    ]


def test_nothing_that_was_listed_leaves_a_reader_behind(store):
    """A half-read cursor is a long reader: the log could not begin anew, and would grow without end."""
    submit(store, jobs=50)
    store.jobs(limit=3)
    store.jobs_ready(limit=1)
    assert store.database.one("snapshot") is not None
    with store.database.read() as db:
        db.one("workers")

    assert store.database.checkpoint(truncate=True)
    assert store.database.wal_bytes() == 0


def test_a_reader_bounds_a_checkpoint_and_does_not_fail_it(store, path):
    """A bulk submit truncates the log afterwards: were a listing elsewhere an error, an acknowledged submit would look failed."""
    submit(store)
    with open_store(path) as other, other.database.read():
        submit(store, "second")

        assert not store.database.checkpoint(truncate=True)
    assert store.database.checkpoint(truncate=True)


@pytest.mark.slow
def test_writers_slow_down_where_the_log_has_grown_large(store, monkeypatch):
    """It cannot begin anew under a reader; at full speed it would be past its bound within seconds."""
    monkeypatch.setattr(connection, "_LARGE_LOG_PAUSE_S", 0.3)
    took_s = []
    for run, large in (("a", 1 << 30), ("b", 1 << 30), ("c", 0)):
        monkeypatch.setattr(connection, "LARGE_LOG_BYTES", large)
        begun = time.monotonic()
        submit(store, run)
        took_s.append(time.monotonic() - begun)

    assert max(took_s[:2]) < 0.3 <= took_s[2]


def test_a_bulk_submit_leaves_no_large_log_and_is_acknowledged_even_if_it_must(store, path, monkeypatch):
    """A million jobs leave up to 200 MiB of it; a reader elsewhere may keep it, and the graph is stored all the same."""
    monkeypatch.setattr("overseer_lite.sqlite.store.TRUNCATE_FROM_JOBS", 50)
    submit(store, "large", jobs=50)
    assert store.database.wal_bytes() == 0
    submit(store, "small", jobs=49)
    assert store.database.wal_bytes() > 0
    with open_store(path) as other, other.database.read():
        assert len(submit(store, "kept", jobs=50).created) == 50


def test_closing_does_not_checkpoint(store, path):
    """It would run outside the gate: the log stays, and the next one plays it back."""
    submit(store)
    size = os.path.getsize(path + "-wal")
    store.close()

    assert os.path.getsize(path + "-wal") == size > 0
    assert store.counts().total == 2


@pytest.mark.slow
def test_a_journal_mode_changed_by_a_stranger_is_put_back(store, path):
    """In another mode readers stop writers, and nothing is synced as promised."""
    submit(store)
    store.close()
    assert outside(path, "PRAGMA journal_mode = delete") == [[["delete"]]]

    submit(store, "after")

    assert store.counts().total == 4
    store.close()
    assert outside(path, "PRAGMA journal_mode") == [[["wal"]]]


def test_looking_needs_no_gate(store, path):
    """`status` must work while a bulk submit holds the gate, or a stopped process does."""
    submit(store)
    with store.database.write("act"), open_store(path, timeout_s=0.05) as other:
        assert other.counts().total == 2


# ---- errors in the middle --------------------------------------------------------------------------------------------


@pytest.fixture
def failing():
    """Arm a failpoint to raise; disarmed at the end."""
    yield lambda point: failpoints.arm(point, "raise")
    failpoints.disarm()


@pytest.mark.parametrize("point", ["gate.held", "submit.before_commit", "submit.after_commit"])
def test_an_error_in_a_transaction_lets_the_gate_go(store, failing, point):
    """Whatever is raised, wherever: nobody else may wait for a process that has given up."""
    failing(point)
    with pytest.raises(failpoints.FailpointError):
        submit(store)
    failpoints.disarm()

    assert flock_holder(os.path.join(store.state_directory, "gate")) is None
    submit(store, "after")
    assert store.counts().total == (4 if point == "submit.after_commit" else 2)


def test_a_failed_beat_leaves_no_later_commit_unsynced(store, failing):
    """Beats are not synced; what follows on the same connection is."""
    store.register(WorkerRecord("w", os.getpid()))
    failing("beat.before_commit")
    with pytest.raises(failpoints.FailpointError):
        store.beat("w")
    failpoints.disarm()

    assert store.database.open().execute("PRAGMA synchronous").fetchall() == [(2,)]
    store.beat("w")
    assert store.database.open().execute("PRAGMA synchronous").fetchall() == [(2,)]


@pytest.mark.slow
def test_a_beat_that_met_a_stranger_s_lock_leaves_no_later_commit_unsynced(store, path):
    """The same, where it did not even begin."""
    store.database.timeout_s = 0.01
    script = OUTSIDE.replace(
        "print(", "print(connection.execute('BEGIN IMMEDIATE').fetchall(), flush=True); input(); ("
    )
    other = subprocess.Popen([sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with other:
        assert other.stdout.readline() == b"[]\n"
        with pytest.raises(StoreBusyError, match="a process outside the gate"):
            store.beat("w")
        other.communicate(b"\n", timeout=20)

    assert store.database.open().execute("PRAGMA synchronous").fetchall() == [(2,)]


def test_a_reboot_is_adopted_even_if_the_first_transaction_after_it_fails(path, failing):
    """Believing the rolled-back adoption would leave delays of the old boot standing: a job that is never due."""
    clock = ManualClock()
    with open_store(path, clock=clock) as store:
        store.install()
        submit(store, jobs=1, delay_s=60)
        clock.reboot()
        failing("exchange.before_commit")
        with pytest.raises(failpoints.FailpointError):
            store.exchange("w", [], 1, ["t"])
        failpoints.disarm()
        clock.advance(61)

        assert [job.attempt.job_id for job in store.exchange("w", [], 1, ["t"]).jobs] == ["r/j0"]


def test_a_type_learnt_in_a_transaction_that_was_rolled_back_is_forgotten(store, failing):
    """Its number is given to another type: a worker would be handed jobs of a type it has no handler for."""
    submit(store, jobs=1)
    held = store.exchange("w", [], 1, ["t"]).jobs[0].attempt
    graph = Graph(id="added")
    graph.add("phantom", name="x")
    failing("exchange.before_commit")
    with pytest.raises(failpoints.FailpointError):
        store.exchange("w", [Settlement(held, Outcome.FINISHED, added=graph.jobs)], 0, ["phantom"])
    failpoints.disarm()
    other = Graph(id="other")
    other.add("real", name="y")
    store.transact_graph(other)

    assert store.exchange("w", [], 1, ["phantom"]).jobs == []


def test_settling_twice_the_same_way_is_a_success(store):
    """A COMMIT that failed may have happened: whoever is not sure says it again."""
    submit(store, jobs=1)
    held = store.exchange("w", [], 1, ["t"]).jobs[0].attempt
    settlement = Settlement(held, Outcome.FINISHED, "1")

    assert [store.exchange("w", [settlement], 0, []).refused for _ in range(2)] == [[], []]


def test_a_job_whose_failure_is_no_utf8_is_settled(store):
    """A file's name in a message may hold any byte; a settlement that cannot be written would kill each next worker."""
    submit(store, jobs=1)
    held = store.exchange("w", [], 1, ["t"]).jobs[0].attempt
    failure = Failure("error", "no such file: \udcff\0")
    store.exchange(
        "w", [Settlement(held, Outcome.FAILED, failure=failure, evidence=Evidence(output="a\0b\ud800"))], 0, []
    )

    (record,) = store.attempts("r/j0")
    assert (record.failure, record.output) == (failure, "a\ufffdb\\ud800")


@pytest.mark.parametrize("text", ["'; DROP TABLE jobs; --", '"quoted" \\ %s {0} ?1', "名前 🦉 \u202e", "x" * 1_000_000])
def test_what_is_submitted_reaches_the_file_as_it_is(store, text):
    """Values travel beside the statements, never in them."""
    graph = Graph(id="r", args={"a": text})
    graph.add("t", name="j", priority=2**31 - 1)
    store.transact_graph(graph)
    job = store.job_info("r/j")

    assert (job.args, job.priority) == ({"a": text}, 2**31 - 1)


def test_below_the_floor_of_free_space_nothing_is_reserved_and_what_is_done_is_settled(store, monkeypatch):
    """What began could perhaps not be settled; a worker asks again each second, and says why it waits."""
    submit(store)
    held = store.exchange("w", [], 1, ["t"]).jobs[0].attempt
    with monkeypatch.context() as patch:
        patch.setattr(connection, "FLOOR_BYTES", 1 << 62)
        with pytest.raises(StoreFullError):
            store.exchange("w", [], 1, ["t"])
        done = store.exchange("w", [Settlement(held, Outcome.FINISHED)], 1, ["t"])

    assert (list(done.jobs), done.refused, done.next_due_s) == ([], [], 1.0)
    assert store.job_info("r/j0").status is Status.FINISHED
    assert len(store.exchange("w", [], 1, ["t"]).jobs) == 1


# ---- the file is not what it was -------------------------------------------------------------------------------------


def remove(path):
    os.unlink(path)


def replace(path):
    copy = path + ".copy"
    shutil.copyfile(path, copy)
    os.replace(copy, path)


def move(path):
    os.rename(path, path + ".moved")


@pytest.mark.parametrize("change", [remove, replace, move])
def test_a_file_that_is_no_longer_in_place_is_not_written_to(store, path, change):
    """The engine would go on writing to a file that nobody will ever read: 12 of 12 writes were lost in silence."""
    submit(store)
    change(path)
    before = whole(path)

    for _ in range(2):
        with pytest.raises(StoreReplacedError):
            submit(store, "lost")
        with pytest.raises(StoreReplacedError):
            store.check_in_place()
    assert whole(path) == before


def test_a_deleted_log_is_noticed_before_the_next_write(store, path):
    """Commits would go into a file without a name, and be gone with the last process; reads alone do not open it anew."""
    store.counts()
    os.unlink(path + "-wal")

    with pytest.raises(StoreReplacedError, match="lost its companion .*-wal"):
        submit(store)


@pytest.mark.parametrize("companion", ["-shm", ".d/gate"])
def test_other_deleted_companions_are_noticed_by_the_sweep(store, path, companion):
    """Two generations of processes would each have a lock, or an index of the log, of their own."""
    submit(store)
    store.check_in_place()
    os.unlink(path + companion)

    with pytest.raises(StoreReplacedError):
        store.check_in_place()


def test_a_file_replaced_between_an_error_and_the_next_opening_is_noticed(store, path):
    """After an error the store opens anew by itself: not another file, with the attempts of this one in its hands."""
    submit(store)
    store.database.drop()
    replace(path)

    with pytest.raises(StoreReplacedError):
        submit(store, "lost")
    store.close()
    assert store.counts().total >= 0, "whoever closes and opens it means the file that is there"


# ---- what is no store ------------------------------------------------------------------------------------------------


def refuse(path, words="", kind=UnusableStoreError):
    """Check that a store is refused in one line, with exit code 3, and that nothing was written at it or beside it."""
    before = whole(path)
    for use in (lambda s: s.counts(), lambda s: s.install() or s.counts(), submit):
        with open_store(path, timeout_s=0.5) as store, pytest.raises(kind, match=words) as caught:
            use(store)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 3
        assert isinstance(caught.value, StoreError)
    assert whole(path) == before


@pytest.mark.parametrize("content", [b"", b"x", b"[tool]\nname = 'x'\n" * 500, b"SQLite format 3\0", bytes(8192)])
def test_what_is_no_database_is_refused(path, content):
    """Somebody's notes named by mistake stay as they are, and no directory of ours appears beside them."""
    Path(path).write_bytes(content)
    os.chmod(path, 0o600)

    refuse(path, "it is not a SQLite database|the file is empty")


def test_a_directory_is_refused(path):
    """The store lies in one, and is none."""
    os.mkdir(path)

    refuse(path, "it is a directory")


ASK = """
import sys
from overseer_lite.errors import StoreError
from overseer_lite.store import open_store
for verb in ("counts", "install", "examine"):
    try:
        print(getattr(open_store(sys.argv[1]), verb)())
    except StoreError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_pipe_is_refused(path):
    """Opening it would wait for ever, deaf to every signal but the last: so another process tries, which can be killed."""
    os.mkfifo(path, 0o600)
    before = os.listdir(os.path.dirname(path))

    done = subprocess.run([sys.executable, "-c", ASK, path], capture_output=True, text=True, check=True, timeout=20)

    assert done.stdout.count("it is no regular file") == 3
    assert os.listdir(os.path.dirname(path)) == before


def test_where_nothing_may_be_made_it_is_said_who_needs_which_right(path, monkeypatch):
    """As on a new volume that belongs to root."""
    really = os.makedirs

    def makedirs(directory, **options):
        if directory.endswith(".d"):
            raise PermissionError(13, "Permission denied")
        really(directory, **options)

    monkeypatch.setattr(os, "makedirs", makedirs)
    words = rf"Permission denied\. Let user {os.geteuid()} write to {re.escape(os.path.dirname(path))}, or name another store"
    with pytest.raises(StoreUnavailableError, match=words):
        open_store(path).install()


def test_a_missing_store_is_said_to_be_missing(path):
    """Looking makes nothing."""
    with pytest.raises(StoreMissingError):
        open_store(path).counts()

    assert os.listdir(os.path.dirname(path)) == []


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_of_something_else_is_refused_and_left_alone(path, mode):
    """Merely opening one by the engine would make a log beside it, or play one back into it."""
    outside_make = f"PRAGMA journal_mode = {mode}"
    Path(path).touch(mode=0o600)
    outside(path, outside_make, "CREATE TABLE theirs (x)", "PRAGMA user_version = 1")

    refuse(path, "it is a SQLite database of something else")


def test_a_newer_schema_is_refused(store, path):
    """Whoever does not know its tables cannot keep its promises."""
    submit(store)
    store.close()
    outside(path, "PRAGMA user_version = 3")

    refuse(path, "its schema is version 3, this overseer_lite knows 2")


def test_an_older_schema_without_a_way_here_is_refused(store, path):
    """There was none before the first."""
    submit(store)
    store.close()
    outside(path, "PRAGMA user_version = 0")

    refuse(path, "its schema is version 0, this overseer_lite needs 2|no way leads from its schema")


@pytest.mark.parametrize("length", [1, 99, 100, 511, 512, 4095, 4096, 4097, 20480, 40000])
def test_a_truncated_file_is_refused(path, length):
    """Whatever is missing: no answer is given from what is left."""
    settled_file(path)
    assert os.path.getsize(path) > 40000
    os.truncate(path, length)
    for companion in ("-wal", "-shm"):
        os.unlink(path + companion)
    before = Path(path).read_bytes()

    with open_store(path) as store:
        for use in (lambda: store.counts(), lambda: submit(store, "x"), lambda: store.job_info("r/j0")):
            with pytest.raises(StoreError) as caught:
                use()
            assert (caught.value.exit_code, str(caught.value).count("\n")) == (3, 0)
    assert Path(path).read_bytes() == before


@pytest.mark.slow
def test_a_page_that_was_overwritten_is_an_error_not_an_answer(path):
    """Each page in turn, the first aside: the words name the damage and the remedy."""
    settled_file(path)
    sound = Path(path).read_bytes()
    refused = 0
    for page in range(1, len(sound) // 4096):
        Path(path).write_bytes(sound[: page * 4096] + b"\xa5" * 4096 + sound[(page + 1) * 4096 :])
        with open_store(path) as store:
            try:
                everything(store)
            except StoreError as error:
                refused += 1
                assert "\n" not in str(error)
                assert "Restore a backup" in str(error)
    assert refused > 10


def everything(store):
    """Ask for all there is, and write something."""
    for job in store.jobs():
        store.job_info(job.id)
        store.attempts(job.id)
    store.counts()
    store.runs()
    store.workers()
    for job in store.exchange("w", [], 5, ["t"]).jobs:
        store.finish_job(job.attempt, {"x": 1})
    submit(store, f"more{random.random()}")


@pytest.mark.slow
def test_flipped_bytes_give_a_right_answer_or_a_clear_error(path):
    """Never another exception: a traceback says nothing to whoever has to restore the backup. Seeded, 60 files; chaos has the rest."""
    settled_file(path, jobs=60)
    sound = Path(path).read_bytes()
    chance = random.Random(20261124)
    errors = 0
    for _ in range(60):
        damaged = bytearray(sound)
        for _ in range(chance.choice((1, 3, 30))):
            damaged[chance.randrange(100, len(sound))] ^= 1 << chance.randrange(8)
        Path(path).write_bytes(damaged)
        for companion in ("-wal", "-shm"):
            if os.path.exists(path + companion):
                os.unlink(path + companion)
        with open_store(path) as store:
            try:
                everything(store)
            except OverseerError as error:
                errors += 1
                assert "\n" not in str(error)
    assert errors > 6


@pytest.mark.parametrize(
    "statement",
    ["UPDATE runs SET args = '{broken'", "UPDATE jobs SET args = CAST(x'ff7b' AS TEXT)"],
)
def test_stored_text_that_nobody_can_have_stored_is_called_damage(store, path, statement):
    """Pages have no checksums: a flipped bit in a text shows only when it is read."""
    graph = Graph(id="r", args={"a": 1})
    graph.add("t", name="j", args={"b": 2})
    store.transact_graph(graph)
    store.close()
    outside(path, statement)

    with pytest.raises(UnusableStoreError, match="the file is damaged"):
        store.job_info("r/j")
    with pytest.raises(UnusableStoreError, match="the file is damaged"):
        store.exchange("w", [], 1, ["t"])
    assert store.counts().started == 0


def test_a_fault_of_the_program_is_not_called_damage(store):
    """A sound file is never blamed: whoever restored a backup for it would lose what was done since."""
    with pytest.raises(ValueError, match="mine"), store.database.read():
        raise ValueError("mine")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET status = 7",
        "UPDATE jobs SET status = 1",
        "UPDATE jobs SET status = 'started'",
        "UPDATE jobs SET waiting_for = -1",
        "UPDATE jobs SET due_us = 5",
        "UPDATE jobs SET worker = 1",
        "UPDATE jobs SET request = 'explode'",
        "UPDATE jobs SET attempt = 'two'",
        "UPDATE jobs SET id = NULL",
        "UPDATE jobs SET id = 'r/j0'",
        "INSERT INTO results VALUES (1, NULL)",
        "INSERT INTO meta VALUES ('uuid', 'another')",
    ],
)
def test_the_tables_refuse_a_row_that_cannot_be(store, statement):
    """A started job has a worker, counts are not negative, types are kept: the file's own rules, below all code."""
    submit(store)
    before = store.jobs()

    with (
        pytest.raises(UnusableStoreError, match="a rule of its tables would be broken"),
        store.database.write("act") as db,
    ):
        db.open().execute(statement)
    assert store.jobs() == before


# ---- who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_others_can_write_is_refused(store, path, mode):
    """Whoever can write it can run any registered handler as the worker's user."""
    submit(store)
    store.close()
    os.chmod(path, mode)

    refuse(path, f"can be written by others .mode {mode:04o}., .* chmod go-w {re.escape(path)}")


@pytest.mark.parametrize("directory", ["", "workers", "bells", "output", "files", "payloads"])
def test_a_state_directory_others_can_write_is_refused(store, path, directory):
    """They could put lock files and bells there, and output."""
    submit(store)
    store.close()
    os.chmod(os.path.join(path + ".d", directory), 0o770)

    refuse(path, "can be written by others .mode 0770.")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["", ".d", ".d/gate"])
def test_what_belongs_to_another_user_is_refused(store, path, what):
    """He can change its mode whenever he likes."""
    submit(store)
    store.close()
    os.chown(path + what, 12345, -1)

    refuse(path, "belongs to user 12345|is no regular file of yours")


@pytest.mark.parametrize("existing", [0o022, 0o000])
def test_all_that_is_made_is_for_our_eyes_only(tmp_path, existing):
    """Under any umask, a permissive one above all."""
    mask = os.umask(existing)
    try:
        with open_store(str(tmp_path / ".overseer" / "jobs.db")) as store:
            store.install()
            submit(store)
            store.register(WorkerRecord("w", os.getpid()))
            store.backup(str(tmp_path / ".overseer" / "copy.db"))
            made = {
                str(found.relative_to(tmp_path)): oct(found.stat().st_mode & 0o777)
                for found in [tmp_path / ".overseer", *sorted((tmp_path / ".overseer").rglob("*"))]
            }
    finally:
        os.umask(mask)

    directories = {name for name in made if (tmp_path / name).is_dir()}
    assert {made[name] for name in directories} == {"0o700"}
    assert {made[name] for name in made.keys() - directories} == {"0o600"}
    assert len(made) > 12
    assert (tmp_path / ".overseer" / ".gitignore").read_text() == "*\n"


def test_a_link_is_followed_once(tmp_path):
    """Lock files lie beside the file itself: two paths to one file have one gate, and what the link says later is nothing."""
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real" / "jobs.db", tmp_path / "link.db")
    with open_store(str(tmp_path / "link.db")) as store:
        store.install()
        submit(store)
        os.unlink(tmp_path / "link.db")
        os.symlink("/dev/null", tmp_path / "link.db")
        submit(store, "second")

        assert store.path == os.path.realpath(tmp_path / "real" / "jobs.db")
        assert os.path.isdir(tmp_path / "real" / "jobs.db.d")


# ---- where it lies ---------------------------------------------------------------------------------------------------

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:30 / /srv rw - nfs4 server:/srv rw
31 30 0:31 / /srv/local\\040disk rw - xfs /dev/vdb rw
32 22 0:32 / /mnt/host rw - virtiofs host rw
33 22 0:33 / /mnt/share rw shared:1 - fuse.sshfs me@there: rw
34 22 0:34 / /scratch rw - tmpfs none rw
35 34 0:35 / /scratch rw - 9p over rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/jobs.db", "ext4"),
        ("/srv/jobs.db", "nfs4"),
        ("/srvx/jobs.db", "ext4"),
        ("/srv/local disk/jobs.db", "xfs"),
        ("/mnt/host/deep/er/jobs.db", "virtiofs"),
        ("/mnt/share/jobs.db", "fuse.sshfs"),
        ("/scratch/jobs.db", "9p"),
    ],
)
def test_a_filesystem_that_corrupts_in_silence_is_refused_by_its_name(tmp_path, path, kind):
    """The innermost mount counts, the last of several at one point; the override is the operator's own risk."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)

    assert files.filesystem_of(os.path.dirname(path), str(mounts)) == kind
    if kind in ("ext4", "xfs"):
        files.check_filesystem(path, unsafe_allowed=False, mountinfo=str(mounts))
        return
    with pytest.raises(UnusableStoreError, match=rf"it lies on {kind}, .* OVERSEER_LITE_UNSAFE_FILESYSTEM=1"):
        files.check_filesystem(path, unsafe_allowed=False, mountinfo=str(mounts))
    files.check_filesystem(path, unsafe_allowed=True, mountinfo=str(mounts))


def test_where_the_kernel_does_not_say_any_filesystem_will_do(tmp_path):
    """MacOS has no such table."""
    assert files.filesystem_of("/", str(tmp_path / "nothing")) is None


# ---- making ----------------------------------------------------------------------------------------------------------


def test_installing_removes_what_a_killed_predecessor_left(path):
    """A draft is nobody's store; with the install lock held nobody is making one."""
    for name in ("jobs.db.new-1", "jobs.db.new-1-wal", "jobs.db.new-999999-journal"):
        Path(os.path.dirname(path), name).write_bytes(b"half")
    mine = Path(os.path.dirname(path), "jobs.db.new-idea")
    mine.write_bytes(b"somebody's")
    with open_store(path) as store:
        store.install()
        Path(path + ".new-2").write_bytes(b"half")
        store.install()

    assert files.drafts(path) == []
    assert mine.read_bytes() == b"somebody's"


def test_a_new_store_is_not_played_the_log_of_one_that_is_gone(store, path, caplog):
    """The engine takes any log that lies there for the file's own; removing jobs.db alone is what a person does."""
    submit(store, "old", jobs=500)
    store.close()
    log = Path(path + "-wal").read_bytes()
    os.unlink(path)

    store.install()

    assert store.counts().total == 0
    submit(store, "new")
    assert [run.id for run in store.runs()] == ["new"]
    assert Path(path + "-wal.orphaned").read_bytes() == log
    assert "A log without its store was put aside" in caplog.text


def test_a_failed_install_leaves_nothing_half_made(path, failing):
    """Neither a store nor a draft."""
    failing("install.before_commit")
    with pytest.raises(failpoints.FailpointError):
        open_store(path).install()

    assert os.listdir(os.path.dirname(path)) == ["jobs.db.d"]


# ---- migrating -------------------------------------------------------------------------------------------------------

SCHEMA_1 = Path(__file__).with_name("schema-1.sql").read_text()  # as it was: never to be changed
ROWS_1 = """
INSERT INTO meta VALUES ('uuid', 'of-version-1'), ('created_wall_us', 1), ('boot_id', 'boot');
INSERT INTO types VALUES (1, 't');
INSERT INTO runs VALUES (1, 'r', NULL, 2, 1000000);
INSERT INTO jobs (key, id, run, name, type, status, waiting_for, depends, awaited, attempt, args) VALUES
  (1, 'r/a', 1, NULL, 1, 2, 0, 0, 1, 1, '{"n": 1}'), (2, 'r/b', 1, NULL, 1, 0, 1, 2, 0, 0, NULL),
  (3, 'r/x', 1, NULL, 1, 0, 0, 0, 1, 0, NULL);
INSERT INTO dependencies VALUES (2, 0, 1, 0), (2, 1, 3, 1);
INSERT INTO results VALUES (1, '7');
INSERT INTO attempts VALUES (1, 1, 'w', 0, 1000000, 2000000, 500000, NULL, NULL);
"""
MARKS_1 = ("PRAGMA application_id = 1331055700", "PRAGMA user_version = 1", "PRAGMA journal_mode = wal")
JOBS_TABLE = (
    "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('jobs')",
    'SELECT "table", "from", "to" FROM pragma_foreign_key_list(\'jobs\') ORDER BY 1, 2',
    "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'jobs' ORDER BY 1",
)
COUNT_ADDER = "SELECT count(*) FROM pragma_table_info('jobs') WHERE name = 'adder'"


@pytest.fixture
def older(path):
    """A store of version 1: a has finished and added x, for which b waits too."""
    Path(path).touch(mode=0o600)
    outside(path, SCHEMA_1, ROWS_1, *MARKS_1)
    files.make_state_directory(path)
    return path


def test_a_store_of_version_1_is_migrated_by_installing_after_a_copy(older):
    """In one transaction, after which the tables are those of a new store; the copy is the file as it was, under its own id."""
    with open_store(older) as store:
        with pytest.raises(
            UnusableStoreError, match=r"version 1, this overseer_lite needs 2.*migrates it, after a backup"
        ):
            store.counts()
        store.install()
        assert [(job.id, job.status, job.adder) for job in store.jobs()] == [
            ("r/a", Status.FINISHED, None), ("r/b", Status.UNSTARTED, None), ("r/x", Status.UNSTARTED, None),
        ]  # fmt: skip
        assert (store.job_info("r/a").args, store.job_info("r/a").result) == ({"n": 1}, 7)
        assert store.uuid == "of-version-1"
        store.install()
    kept = older + ".version-1"
    assert outside(kept, "PRAGMA user_version", COUNT_ADDER, "SELECT count(*) FROM jobs") == [[[1]], [[0]], [[3]]]
    assert outside(kept, "SELECT value FROM meta WHERE name = 'uuid'") == [[["of-version-1"]]]
    assert not os.path.exists(kept + "-2"), "the second time there was nothing to do"


def test_a_migrated_store_is_as_a_new_one(older, tmp_path):
    """The same columns, references and indexes; work goes on in it, and it is sound."""
    with open_store(str(tmp_path / "new" / "jobs.db")) as new:
        new.install()
        expected = outside(new.path, *JOBS_TABLE)
    with open_store(older) as store:
        store.install()
        assert outside(older, *JOBS_TABLE) == expected
        store.finish_job(store.reserve_job("w", "r/x"), None, [Job("t", name="y")])
        assert (store.job_info("r/y").adder, store.job_info("r/b").waiting_for) == ("r/x", 1)
        assert integrity_of(store) == "every page and row"


def test_a_migration_that_fails_changes_nothing(older):
    """Each step and the version's number are in one transaction; trying again is right, and keeps each copy."""
    for copy in (".version-1", ".version-1-2"):
        with pytest.raises(UnusableStoreError):
            create.migrate(older, migrations={1: "ALTER TABLE jobs ADD COLUMN adder INTEGER; SELECT nonsense"})
        assert os.path.exists(older + copy)

    assert outside(older, "PRAGMA user_version", COUNT_ADDER) == [[[1]], [[0]]]


def test_nothing_is_migrated_under_workers_of_the_older_version(older):
    """They would go on with statements that no longer fit the tables."""
    from overseer_lite.liveness import Identity, WorkerFile

    file = WorkerFile.create(
        older + ".d/workers/w1", store_uuid="u", worker_id="w1", identity=Identity.mine(), now_us=1
    )
    with pytest.raises(StoreUnavailableError, match="worker w1 is at work .* Stop all workers"):
        create.migrate(older)
    file.close()
    assert create.migrate(older) is not None


def integrity_of(store):
    (found,) = [finding.detail for finding in store.examine(full=True) if finding.what == "integrity"]
    return found


def test_an_adder_that_is_not_there_is_none_and_found_by_a_full_look(store, path):
    """A damaged row stops no listing; pruning never leaves one, since it takes adder and added at once."""
    for run in ("r", "s"):
        store.transact_graph(Graph.of([Job("t", name="a")], id=run))
        store.finish_job(store.reserve_job("w", f"{run}/a"), None, [Job("t", name="x")])
        store.finish_job(store.reserve_job("w", f"{run}/x"))
    assert [run.id for run in store.prune(-1.0)] == ["s", "r"]
    store.transact_graph(Graph.of([Job("t", name="a")], id="r"))
    store.finish_job(store.reserve_job("w", "r/a"), None, [Job("t", name="x")])
    assert integrity_of(store) == "every page and row"

    store.close()
    outside(path, "UPDATE jobs SET adder = 1 WHERE adder IS NOT NULL")  # the key of a job that was pruned

    assert [(job.id, job.adder) for job in store.jobs()] == [("r/a", None), ("r/x", None)]
    assert store.job_info("r/x").adder is None
    assert integrity_of(store) == "a row of jobs names a row of jobs that is not there"


def test_each_older_version_has_a_way_here():
    """Whoever kept a store of any version can go on with it."""
    assert sorted(create.MIGRATIONS) == list(range(1, connection.SCHEMA_VERSION))
    for version, step in create.MIGRATIONS.items():
        assert step.endswith(f"; PRAGMA user_version = {version + 1}")


# ---- copying ---------------------------------------------------------------------------------------------------------


def test_a_backup_is_the_store_without_those_at_work(store, tmp_path):
    """No worker, so whoever opens it kills nobody; the number of an attempt is spent; all else is as it was."""
    submit(store, jobs=3)
    store.register(WorkerRecord("w", os.getpid(), identity="x"))
    first, second = (job.attempt for job in store.exchange("w", [], 2, ["t"]).jobs)
    store.finish_job(first, {"rows": 3})
    store.request(second.job_id, "abort")
    done = backup(store.path, str(tmp_path / "copy.db"))
    with open_store(done.path) as copy:
        assert done.unstarted == 1
        assert copy.uuid != store.uuid
        assert copy.workers() == []
        assert copy.job_info(first.job_id) == store.job_info(first.job_id)
        assert copy.attempts(first.job_id) == store.attempts(first.job_id)
        unstarted = copy.job_info(second.job_id)
        assert (unstarted.status, unstarted.attempt, unstarted.worker, unstarted.request) == (
            "unstarted",
            1,
            None,
            None,
        )
        assert copy.attempts(second.job_id) == []
        again = copy.exchange("v", [], 1, ["t"]).jobs[0].attempt
        assert again == Attempt(second.job_id, 2, "v")
    assert store.job_info(second.job_id).worker == "w", "the original goes on"
    assert not os.path.exists(done.path + ".new-" + str(os.getpid()))


def test_a_backup_stands_alone(store, tmp_path):
    """One file, its log moved into it: it can be carried away."""
    submit(store)
    backup(store.path, str(tmp_path / "copy.db"))

    assert sorted(name for name in os.listdir(tmp_path) if name.startswith("copy")) == ["copy.db"]
    assert os.stat(tmp_path / "copy.db").st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("jobs.db", "it exists, and is not overwritten"),
        ("other", "it exists, and is not overwritten"),
        ("link", "it exists, and is not overwritten"),
        ("here", "it is a directory"),
        ("nowhere/copy.db", "there is no directory .*nowhere"),
        ("stale.db", "an earlier file's log"),
    ],
)
def test_a_backup_overwrites_nothing(store, tmp_path, target, words):
    """Least of all the store itself; what stands there stays, and no draft is left."""
    submit(store)
    (tmp_path / "other").write_text("theirs")
    (tmp_path / "here").mkdir()
    (tmp_path / "stale.db-wal").write_text("a log")
    os.symlink(tmp_path / "nothing", tmp_path / "link")
    before = sorted(os.listdir(tmp_path))

    with pytest.raises(InvalidInputError, match=words) as caught:
        backup(store.path, str(tmp_path / target))

    assert caught.value.exit_code == 2
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "other").read_text() == "theirs"
    assert store.counts().total == 2


def test_no_copy_is_made_of_a_damaged_store(path, tmp_path):
    """A backup that is found to be damaged when it is needed is worse than none."""
    settled_file(path)
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) - 4096)
        file.write(b"\xa5" * 4096)
    before = sorted(os.listdir(tmp_path))

    with pytest.raises(UnusableStoreError, match="the file is damaged .* No copy was made"):
        backup(path, str(tmp_path / "copy.db"))

    assert set(os.listdir(tmp_path)) <= {*before, "jobs.db-wal", "jobs.db-shm"}


def test_a_backup_removes_the_draft_of_a_killed_one(store, tmp_path):
    """And leaves that of one which is at work."""
    dead = subprocess.Popen(["true"])
    dead.wait(20)
    (tmp_path / f"copy.db.new-{dead.pid}").write_text("half")
    (tmp_path / f"copy.db.new-{os.getppid()}").write_text("at work")
    backup(store.path, str(tmp_path / "copy.db"))

    assert files.drafts(str(tmp_path / "copy.db")) == [(str(tmp_path / f"copy.db.new-{os.getppid()}"), os.getppid())]


# ---- bells -----------------------------------------------------------------------------------------------------------


def test_a_ring_never_raises_and_never_writes_into_a_file(tmp_path):
    """It comes after the commit, which must be acknowledged: whatever stands where the bell should be."""
    (tmp_path / "file").write_text("mine")
    os.symlink(tmp_path / "file", tmp_path / "link")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "nobody")

    rung = [wakeup.ring(str(tmp_path / name)) for name in ("none", "file", "link", "directory", "nobody", "file/below")]

    assert rung == [False] * 6
    assert (tmp_path / "file").read_text() == "mine"


def test_a_bell_takes_the_place_of_whatever_is_no_bell(tmp_path):
    """A file there would report rings for ever, or none."""
    (tmp_path / "bell").write_text("a file")
    bell = wakeup.FifoBell(str(tmp_path / "bell"))

    assert bell.answer() is False
    assert wakeup.ring(str(tmp_path / "bell")) is True
    assert (bell.answer(), bell.answer()) == (True, False)
    bell.close()
    bell.close()


def test_a_full_bell_has_been_rung_enough(tmp_path):
    """A worker that does not answer must not stop whoever rings."""
    bell = wakeup.FifoBell(str(tmp_path / "bell"))
    size = fcntl.fcntl(bell.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    assert all(wakeup.ring(str(tmp_path / "bell")) for _ in range(size + 2))
    bell.close()


# ---- the source ------------------------------------------------------------------------------------------------------

EXECUTES = {"execute", "executemany"}


def built_statements(tree):
    """Yield the lines on which a statement is not a constant, an element of a table of constants, or a named one."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in EXECUTES):
            continue
        if any(isinstance(inner, ast.JoinedStr | ast.BinOp | ast.Call) for inner in ast.walk(node.args[0])):
            text = ast.unparse(node.args[0])
            if "schema.sql" not in text:
                yield node.lineno, text


def built_texts(tree):
    """Yield SQL that is put together: an f-string, % or + whose constant part begins a statement."""
    for node in ast.walk(tree):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node.left] if isinstance(node, ast.BinOp) else []
        for part in parts[:1]:
            if isinstance(part, ast.Constant) and re.match(
                r"\s*(SELECT|INSERT|UPDATE|DELETE|PRAGMA|CREATE|ALTER|DROP|WITH|BEGIN|ATTACH|VACUUM)\b\s+\S",
                str(part.value),
            ):
                yield node.lineno, ast.unparse(node)


def test_sql_is_constants_and_question_marks():
    """No value ever becomes part of a statement; each rule objects to a line that breaks it."""
    assert [*built_statements(ast.parse("db.execute(f'PRAGMA x = {y}')"))]
    assert [*built_statements(ast.parse("db.execute('SELECT ' + x)"))]
    assert [*built_texts(ast.parse("x = 'SELECT * FROM %s' % y"))]
    assert [*built_texts(ast.parse("x = f'PRAGMA y = {z}'"))]

    trees = {file.name: ast.parse(file.read_text()) for file in WING.glob("*.py")}
    found = {name: [*built_statements(tree), *built_texts(tree)] for name, tree in trees.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_each_named_statement_is_one_statement_without_quoted_values():
    """The file of statements is data to nobody: no place in it is filled in but by `?` and `:name`."""
    assert len(connection.SQL) > 60
    for name, statement in connection.SQL.items():
        assert ";" not in statement, name
        assert "%" not in statement, name
        assert "{" not in statement, name


def names_in(tree):
    """Return every string that stands in a file by itself: statements are named so, in a call or in a table."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_each_named_statement_is_used():
    """One that nobody names is read by people and checked by nobody."""
    used = set().union(*(names_in(ast.parse(file.read_text())) for file in WING.glob("*.py")))
    for_several = {f"{name}_each" for name in used}

    assert sorted(set(connection.SQL) - used - for_several) == []


def test_a_statement_for_several_differs_in_the_number_only():
    """Each has its fence written out, and both are the same."""
    pairs = {name.removesuffix("_each"): text for name, text in connection.SQL.items() if name.endswith("_each")}
    assert sorted(pairs) == ["finish", "reserve"]
    for name, text in pairs.items():
        assert text.replace(" IN (SELECT value FROM json_each(?1))", " = ?1") == connection.SQL[name]


def test_the_marks_of_a_new_store_are_those_that_are_looked_for():
    """Written out in one place as SQL, in the other as numbers."""
    assert (
        f"PRAGMA application_id = {connection.APPLICATION_ID}",
        f"PRAGMA user_version = {connection.SCHEMA_VERSION}",
    ) == create._MARKS


def test_nothing_but_the_engine_opens_the_file():
    """Whoever opens and closes it takes away the locks this process holds on it: in the wing only named files are opened."""
    opened = [
        (file.name, ast.unparse(node.args[0]))
        for file in sorted(WING.glob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "os.open", "os.fdopen")
    ]

    assert set(opened) == {
        ("backup.py", "draft"),
        ("create.py", "descriptor"),
        ("create.py", "draft"),
        ("create.py", "note"),
        ("files.py", "directory or '.'"),
        ("files.py", "mountinfo"),
        ("files.py", "os.path.join(os.path.dirname(__file__), name)"),
        ("gate.py", "path"),
        ("wakeup.py", "path"),
    }
