"""The store's file under real trouble: kills while it is made, full and lying disks, long readers, copies taken at work."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from overseer_lite.errors import StoreBusyError
from overseer_lite.graph import Graph
from overseer_lite.job import Status
from overseer_lite.monitor import Monitor
from overseer_lite.sqlite import files
from overseer_lite.sqlite.backup import backup
from overseer_lite.store import open_store
from tests.conftest import wait_until

pytestmark = pytest.mark.slow

INSTALL = """
import sys
from overseer_lite import failpoints
from overseer_lite.store import open_store
failpoints.load("test")
store = open_store(sys.argv[1])
sys.stdin.readline()
store.install()
print(store.uuid)
"""

SOUND = """
import sys
from overseer_lite.sqlite import engine
connection = engine.Connection(sys.argv[1], engine.OPEN_READWRITE)
print(connection.execute("PRAGMA integrity_check").fetchall(), connection.execute("PRAGMA foreign_key_check").fetchall())
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "jobs.db")


def sound(path):
    """Return whether the engine, in another process, finds a file sound."""
    return run(SOUND, path) == "[('ok',)] []"


def run(script, *arguments, **options):
    """Run a script to its end; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True, check=True, timeout=60, **options
    )
    return done.stdout.strip()


class Child(subprocess.Popen):
    """A process that a failing test does not wait for: it may be waiting for the test."""

    def __exit__(self, kind, error, trace):
        if kind is not None:
            self.kill()
        super().__exit__(kind, error, trace)


def start(script, *arguments, **environment):
    """Start a script whose input and output are pipes."""
    return Child(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def submit(store, run_id="r", jobs=1):
    graph = Graph(id=run_id)
    for number in range(jobs):
        graph.add("t", name=f"j{number}")
    return store.transact_graph(graph)


# ---- the gate --------------------------------------------------------------------------------------------------------

HOLD = """
import sys
from overseer_lite.store import open_store
store = open_store(sys.argv[1])
with store.database.write("submit"):
    store.database.run("add_run", ("held", None, 0, 0))
    print("held", flush=True)
    sys.stdin.read()
"""

# Waits as a worker does: by SIGALRM, a second at a time, a signal's handler only sets a flag.
WAIT = """
import signal, sys, time
from overseer_lite.errors import StoreBusyError
from overseer_lite.store import open_store
flags = []
signal.signal(signal.SIGTERM, lambda *_: flags.append(time.monotonic()))
store = open_store(sys.argv[1], timeout_s=1.0, alarm=True)
store.counts()
print("waiting", flush=True)
while not flags:
    try:
        store.exchange("w", [], 1, ["t"])
    except StoreBusyError:
        pass
    else:
        break
print(time.monotonic() - flags[0] if flags else "got", flush=True)
"""


@pytest.fixture
def held(path):
    """Return a process that has begun to write and does not go on; killed at the end."""
    with open_store(path) as store:
        store.install()
    with start(HOLD, path) as holder:
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.kill()


def test_a_writer_that_waits_too_long_names_the_holder_and_gets_in_at_once_when_that_is_killed(path, held):
    """Nobody has to notice the death first, and what the dead had begun to write is not there."""
    with open_store(path, timeout_s=0.2) as store:
        begun = time.monotonic()
        with pytest.raises(
            StoreBusyError, match=rf"process {held.pid} has held the writer gate for 0\.[23] s"
        ) as caught:
            submit(store)
        assert time.monotonic() - begun < 1.0
        assert (caught.value.exit_code, store.counts().total) == (3, 0)

        held.kill()
        held.wait(20)
        begun = time.monotonic()
        submit(store)
        assert time.monotonic() - begun < 0.15
        assert [run.id for run in store.runs()] == ["r"]
    assert sound(path)


def test_a_worker_that_waits_for_the_gate_acts_on_sigterm_within_a_second(path, held):
    """Python resumes an interrupted flock by itself (PEP 475): without the alarm it would act when the gate is let go."""
    with start(WAIT, path) as waiter:
        assert waiter.stdout.readline() == "waiting\n"
        wait_until(lambda: flock_waits(waiter.pid))
        waiter.send_signal(signal.SIGTERM)
        late_s = float(waiter.communicate(timeout=20)[0])

    assert late_s < 1.1
    assert held.poll() is None


def flock_waits(pid):
    with open("/proc/locks") as file:
        return any(words[1] == "->" and words[5] == str(pid) for words in map(str.split, file))


# ---- making ----------------------------------------------------------------------------------------------------------


def test_processes_that_install_at_once_make_one_store(path):
    """They meet at a lock; the later ones find it done, and all see the same id."""
    makers = [start(INSTALL, path, OVERSEER_LITE_FAILPOINTS="install.before_commit=stall:0.3") for _ in range(4)]
    for maker in makers:
        maker.stdin.write("go\n")
        maker.stdin.flush()
    uuids = {maker.communicate(timeout=30)[0] for maker in makers}

    assert len(uuids) == 1
    assert [maker.returncode for maker in makers] == [0] * 4
    assert files.drafts(path) == []


@pytest.mark.parametrize(("point", "there"), [("install.before_commit", False), ("install.after_commit", True)])
def test_a_kill_while_a_store_is_made_leaves_all_of_it_or_nothing(path, point, there):
    """What is half-made has another name; the next install removes it and goes on."""
    maker = start(INSTALL, path, OVERSEER_LITE_FAILPOINTS=f"{point}=kill")
    maker.communicate("go\n", timeout=30)
    assert maker.returncode == -signal.SIGKILL
    assert os.path.exists(path) is there
    assert bool(files.drafts(path)) is not there

    with open_store(path) as store:
        store.install()
        submit(store)
        assert store.counts().total == 1
    assert files.drafts(path) == []
    assert sound(path)


# ---- disks -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(place, size):
    """Mount a small disk of our own, in memory; skip where that is not allowed."""
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield str(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


FILL = """
import os, sys
from overseer_lite.errors import StoreFullError
from overseer_lite.job import Outcome, Settlement
from overseer_lite.store import open_store
from overseer_lite.graph import Graph
store = open_store(sys.argv[1])
store.install()
graph = Graph(id="r")
for number in range(20):
    graph.add("t", name=f"j{number}")
store.transact_graph(graph)
held = [job.attempt for job in store.exchange("w", [], 20, ["t"]).jobs]
with open(sys.argv[1] + ".ballast", "wb", buffering=0) as ballast:
    try:
        while True:
            ballast.write(bytes(4096))
    except OSError:
        pass
acknowledged, refused = [], 0
def settle(attempt):
    store.exchange("w", [Settlement(attempt, Outcome.FINISHED, '"' + "x" * 100_000 + '"')], 0, ["t"])
    acknowledged.append(attempt.job_id)
for attempt in held:
    try:
        settle(attempt)
    except StoreFullError:
        refused += 1
full = Graph(id="full")
full.add("t", args={"x": "y" * 900_000})
try:
    store.transact_graph(full)
    submitted = True
except StoreFullError as error:
    submitted = str(error)
print(len(acknowledged), refused, submitted, sep="\\n", flush=True)
before = set(acknowledged)
os.unlink(sys.argv[1] + ".ballast")
for attempt in held:
    if attempt.job_id not in before:
        settle(attempt)
assert store.counts().finished == 20, store.counts()
assert store.run_info("full") is None
assert len(store.transact_graph(full).created) == 1
print("finished")
"""


def test_a_full_disk_loses_nothing_that_was_acknowledged_and_work_goes_on_with_space(tmp_path):
    """A settlement that found no room is refused whole, and made when it is said again; so is a submit."""
    with small_disk(tmp_path / "disk", "24m") as disk:
        acknowledged, refused, submitted, finished = run(FILL, disk + "/jobs.db").splitlines()
        assert sound(disk + "/jobs.db")

    assert int(acknowledged) + int(refused) == 20
    assert int(refused) > 0, "the disk was never full: this showed nothing"
    assert "the disk is full" in submitted
    assert finished == "finished"


def test_a_copy_that_finds_its_disk_full_names_that_disk_and_leaves_nothing(tmp_path, path):
    """The store's own disk has space: to free some there would help nobody."""
    with open_store(path) as store:
        store.install()
        submit(store, jobs=20_000)
        with small_disk(tmp_path / "disk", "1m") as disk:
            script = (
                "import sys\nfrom overseer_lite.errors import StoreFullError\nfrom overseer_lite.sqlite.backup import backup\n"
                "try:\n    backup(sys.argv[1], sys.argv[2])\nexcept StoreFullError as error:\n    print(error)"
            )
            words = run(script, path, disk + "/copy.db")
            assert os.listdir(disk) == []
    assert words.startswith(f"The store {tmp_path}/disk/copy.db is unavailable: the disk is full.")


VERBS = """
import json, sys
from overseer_lite.errors import StoreUnavailableError
from overseer_lite.graph import Graph
from overseer_lite.job import Outcome, Settlement
from overseer_lite.store import open_store
store = open_store(sys.argv[1])
errors = []
def again(verb):
    for _ in range(3):
        try:
            return verb()
        except StoreUnavailableError as error:
            errors.append(str(error))
            assert store.database._connection is None  # what is true is read by the next one
    raise SystemExit("no third time")
def graph(run):
    made = Graph(id=run)
    made.add("t", name="a")
    return made
for run in "pqrs":
    again(lambda: store.transact_graph(graph(run)))
    attempt = store.held("w")[0] if store.held("w") else None
    if attempt is None:
        again(lambda: store.held("w") or store.exchange("w", [], 1, ["t"]))
        attempt = store.held("w")[0]
    settlement = Settlement(attempt, Outcome.FINISHED, '"done"')
    assert not again(lambda: store.exchange("w", [settlement], 0, ["t"])).refused
print(json.dumps([errors, store.counts()._asdict(), [store.job_info(run + "/a").attempt for run in "pqrs"]]))
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("when", [1, 2, 3, 4, 5])
def test_after_an_error_at_a_commit_what_is_true_is_read_and_the_same_said_again_is_a_success(path, when):
    """EIO at the log's sync: the commit may have happened. The store opens anew by itself, and nothing is done twice."""
    with open_store(path) as store:
        store.install()
        store.counts()
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", "/dev/null", "-P", path + "-wal", "-e", f"inject=fdatasync,fsync:error=EIO:when={when}",
         sys.executable, "-c", VERBS, path],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "ptrace" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()[:100]}")
    assert done.returncode == 0, done.stderr
    errors, counts, attempts = json.loads(done.stdout)

    assert len(errors) == 1, "the error was never met: this showed nothing"
    assert "is unavailable" in errors[0]
    assert (counts["finished"], counts["started"], counts["unstarted"]) == (4, 0, 0)
    assert attempts == [1, 1, 1, 1]
    assert sound(path)


# A store of its own is opened first: the interpreter, and all it imports on the way, may lie where nobody else can read.
AS_NOBODY = """
import os, sys
from overseer_lite.errors import StoreError
from overseer_lite.store import open_store
open_store(sys.argv[2]).counts()
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    print(open_store(sys.argv[1]).counts().total)
except StoreError as error:
    print(type(error).__name__, error.exit_code, error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root must become somebody else: to root nothing is read-only")
@pytest.mark.parametrize(
    ("what", "mode", "words"), [("jobs.db", 0o400, "the file is read-only"), (".", 0o500, "is read-only")]
)
def test_what_is_read_only_is_refused(tmp_path, what, mode, words):
    """Before the engine tries: a log that cannot be made is an error at the first read, in words nobody understands."""
    own = str(tmp_path / "own.db")
    with open_store(own) as store:
        store.install()
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = os.path.join(directory, "jobs.db")
        with open_store(path) as store:
            store.install()
        for root, _directories, names in os.walk(directory):
            for name in [root, *(os.path.join(root, name) for name in names)]:
                os.chown(name, 65534, 65534)
        probe = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, path, own], capture_output=True, text=True, check=False
        )
        if probe.stdout.strip() != "0":
            pytest.skip(f"nobody else can run this here: {(probe.stdout + probe.stderr).strip()[-200:]}")
        os.chmod(os.path.join(directory, what), mode)
        before = sorted(os.listdir(directory))

        refused = run(AS_NOBODY, path, own)

        assert refused.startswith("UnusableStoreError 3 ")
        assert words in refused
        assert sorted(os.listdir(directory)) == before


# ---- the log ---------------------------------------------------------------------------------------------------------

COMMITS = """
import os, sys, time
from overseer_lite.store import WorkerRecord, open_store
store = open_store(sys.argv[1], durability="normal")
store.register(WorkerRecord(sys.argv[2], os.getpid()))
largest = 0
for number in range(10_000):
    store.beat(sys.argv[2])
    if number % 100 == 0:
        largest = max(largest, store.database.wal_bytes())
print(largest)
"""

SNAPSHOT = """
import sys, time
from overseer_lite.store import open_store
store = open_store(sys.argv[1])
with store.database.read():
    print("reading", flush=True)
    time.sleep(1.0)
"""


def test_the_log_stays_bounded_under_writers_and_a_reader(path):
    """20,000 commits of two processes, a reader holding one moment for a second: the log begins anew when it lets go."""
    with open_store(path) as store:
        store.install()
        submit(store)
        with start(SNAPSHOT, path) as reader:
            assert reader.stdout.readline() == "reading\n"
            writers = [start(COMMITS, path, f"w{number}") for number in range(2)]
            largest = [int(writer.communicate(timeout=120)[0]) for writer in writers]

        print(f"the log was {max(largest) / 2**20:.1f} MiB at its largest")
        assert 5 * 2**20 < max(largest) < 64 * 2**20, (
            "less than 5: the reader held nothing back, and this showed nothing"
        )
        for _ in range(1500):
            store.beat("w0")
        assert store.database.checkpoint(truncate=True)
    assert sound(path)


# ---- copies ----------------------------------------------------------------------------------------------------------

APP = """
import overseer_lite as overseer
handlers = overseer.Handlers()
@handlers
def count(job):
    job.add("extra", name=f"{job.name}-extra")
    return {"n": job.args.get("n")}
@handlers
def extra(job):
    return "x" * 2000
@handlers
def merge(job):
    return len(job.results.of("count"))
def graph():
    g = overseer.Graph()
    parts = [g.add("count", name=f"c{n:04}", args={"n": n}) for n in range(1500)]
    g.add("merge", dependencies=parts)
    return g
"""


def test_every_copy_taken_while_workers_are_at_work_is_sound_and_nobody_s(tmp_path, path):
    """Of one moment: counts add up, no worker, no started job; a monitor that sweeps it finds nobody to kill (rule 3)."""
    (tmp_path / "app.py").write_text(APP)
    environment = {**os.environ, "OVERSEER_LITE_DB": path}
    command = [sys.executable, "-m", "overseer_lite", "run", "app.py", "-n", "4", "--id", "night"]
    with Child(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as work:
        copies = unstarted = between = 0
        while work.poll() is None:
            if not os.path.exists(path):
                continue
            copies += 1
            done = backup(path, str(tmp_path / f"copy{copies}.db"))
            unstarted += done.unstarted
            with open_store(done.path) as copy:
                findings = copy.examine(full=True)
                assert [found for found in findings if found.level == "error"] == []
                assert copy.workers() == []
                counts = copy.counts()
                assert (counts.started, counts.failed, counts.aborted) == (0, 0, 0)
                between += 0 < counts.finished < counts.total
                assert Monitor(copy, silent_for_s=0.0).sweep() == []
            os.unlink(done.path)
        words = work.stdout.read()

    assert work.returncode == 0, words
    assert copies >= 3
    assert between >= 2, "no copy was taken in the middle: this showed nothing"
    assert unstarted >= 1, "nobody was at work in any copy: this showed nothing"
    with open_store(path) as store:
        assert store.counts().finished == 3001
        assert {attempt.number for attempt in store.attempts("night/merge")} == {1}, "nobody was killed on the way"
        assert store.job_info("night/merge").status is Status.FINISHED
