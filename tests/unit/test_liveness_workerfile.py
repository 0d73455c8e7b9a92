"""A worker's file: lock, beat and steps, with real descriptors and real holders."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from overseer_lite.liveness import Identity, WorkerFile, WorkerFileError, spawn, take
from overseer_lite.liveness.workerfile import BEGUN, ENDED, FREE, RESERVED, RESULT_BYTES, SLOTS, Slot

# The runner's way in: take the descriptor over, say so, and wait to be killed. What it does besides is the argument.
_ATTACH = """
import os, sys, time
from overseer_lite.liveness import WorkerFile
file = WorkerFile.attach(5)
{}
os.write(6, b"x")
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "w1")


@pytest.fixture
def file(path):
    file = _create(path)
    yield file
    file.close()


@pytest.fixture
def attached(file):
    """Give the file to a child as a worker gives it to its runner; wait until the child has it."""
    children = []

    def attached(doing=""):
        ours, theirs = os.pipe()
        child = spawn(
            [sys.executable, "-c", _ATTACH.format(doing)],
            env=dict(os.environ),
            descriptors={5: file.fileno(), 6: theirs},
        )
        children.append(child)
        os.close(theirs)
        assert os.read(ours, 1) == b"x"
        os.close(ours)
        return child

    yield attached
    for child in children:
        child.signal(signal.SIGKILL)
        child.reap()


def _create(path, now_us=7):
    return WorkerFile.create(path, store_uuid="uuid", worker_id="w1", identity=Identity.mine(), now_us=now_us)


def test_a_new_file_says_who_its_worker_is(file, path):
    """Header and first beat are there at once; no slot is taken, no runner entered."""
    status = os.stat(path)
    assert WorkerFile.read(path) == (
        "uuid", "w1", Identity.mine(), 7, 0, "", 0, [], status.st_dev, status.st_ino, False, 0,
    )  # fmt: skip
    assert status.st_mode & 0o777 == 0o600


def test_a_beat_is_seen_by_readers(file, path):
    """A beat replaces the last one, without any lock being taken."""
    file.beat(2**60)
    assert WorkerFile.read(path).beat_us == 2**60


def test_a_runner_is_entered_with_what_tells_it_from_others(file, path):
    """The runner's identity has its start time; its output's name and number belong together."""
    child = spawn(["/bin/sleep", "60"], env={}, descriptors={})
    file.set_runner(child.pid, "w1-1.out", 1)
    snapshot = WorkerFile.read(path)
    child.signal(signal.SIGKILL)
    child.reap()
    assert (snapshot.runner_pid, snapshot.output, snapshot.generation) == (child.pid, "w1-1.out", 1)
    assert snapshot.runner == child.identity


def test_a_slot_tells_its_attempts_walk(file, path):
    """Reserved, begun, ended, freed: each step shows with its numbers, and only slots in use are listed."""
    file.reserve(3, 11, 2)
    assert WorkerFile.read(path).slots == [Slot(3, 11, 2, RESERVED, 0, 0, 0, 0, None, "")]
    file.begin(3, 1000, 50)
    file.progress(3, 0.5, "half")
    assert file.slot(3) == Slot(3, 11, 2, BEGUN, 1000, 0, 50, 0, 0.5, "half")
    file.end(3, 2000, 80)
    assert WorkerFile.read(path).slots == [Slot(3, 11, 2, ENDED, 1000, 2000, 50, 80, 0.5, "half")]
    file.free(3)
    assert WorkerFile.read(path).slots == []
    file.reserve(3, 12, 1)
    assert file.slot(3) == Slot(3, 12, 1, RESERVED, 0, 0, 0, 0, None, "")


@pytest.mark.parametrize("result", [b"", b"7", b"x" * RESULT_BYTES])
def test_a_finish_is_reported_in_the_slot_whole(file, result):
    """Reported is what was noted, under its token only; and the slot's walk shows as for any other end."""
    file.reserve(3, 11, 2)
    file.begin(3, 1000, 50)
    file.progress(3, 0.5, "x" * 96)
    assert file.finished(3, 21) is None
    file.finish(3, 21, 2000, 80, result)
    assert (file.finished(3, 21), file.finished(3, 20)) == (result, None)
    assert file.slot(3) == Slot(3, 11, 2, ENDED, 1000, 2000, 50, 80, 0.5, "x" * 96)


def test_an_end_without_a_report_is_no_finish(file):
    """Neither one marked ended only, nor what an earlier attempt reported in the same slot, counts as a report."""
    file.reserve(3, 11, 2)
    file.finish(3, 21, 2000, 80, b"7")
    file.free(3)
    assert file.finished(3, 21) is None
    file.reserve(3, 12, 1)
    file.end(3, 3000, 90)
    assert (file.finished(3, 21), file.finished(3, 22)) == (None, None)


def test_a_report_of_an_earlier_job_of_the_slot_is_nobody_elses(file):
    """A child that a handler forked comes back late: what it writes finishes no job that has the slot now."""
    file.reserve(3, 12, 1)
    file.begin(3, 1000, 50)
    file.finish(3, 21, 2000, 80, b"7")
    assert file.finished(3, 22) is None


def test_slots_do_not_run_into_one_another(file, path):
    """The first and the last slot, filled to the brim, leave their neighbours and the header alone."""
    for index in range(SLOTS):
        file.reserve(index, index, 1)
        file.progress(index, 1.0, "x" * 200)
        file.finish(index, index + 1, 1, 2, b"y" * RESULT_BYTES)
    file.free(1)
    slots = WorkerFile.read(path).slots
    assert [slot.job_key for slot in slots] == [0, *range(2, SLOTS)]
    assert {slot.step for slot in slots} == {"x" * 96}
    assert [file.finished(slot.index, slot.index + 1) for slot in slots] == [b"y" * RESULT_BYTES] * (SLOTS - 1)
    assert WorkerFile.read(path).beat_us == 7


@pytest.mark.parametrize("index", [-1, SLOTS])
def test_a_slot_that_does_not_exist_is_refused(file, index):
    """An index outside of the table never touches the header, nor what lies beyond the file."""
    with pytest.raises(IndexError, match="no slot"):
        file.begin(index, 1, 1)


@pytest.mark.parametrize(
    ("step", "kept"),
    [("ä" * 48, "ä" * 48), ("a" + "ä" * 48, "a" + "ä" * 47), ("€" * 40, "€" * 32), ("a\0b", "a b"), ("\ud800", "?")],
)
def test_a_long_step_is_cut_between_characters(file, step, kept):
    """96 bytes are kept, never half a character, and nothing a handler writes there raises."""
    file.reserve(0, 1, 1)
    file.progress(0, None, step)
    assert (file.slot(0).step, file.slot(0).progress) == (kept, None)


def test_no_moment_of_a_write_shows_a_wrong_step(file):
    """Whatever line a writer dies at, the slot shows the old state or the new one with all its numbers, or nothing."""
    file.reserve(0, 1, 1)
    file.begin(0, 10, 30)
    file.end(0, 20, 40)
    for step, arguments in [
        (file.reserve, (2, 5)),
        (file.begin, (100, 300)),
        (file.end, (200, 400)),
        (file.reserve, (3, 1)),
    ]:
        before = _meaning(file.slot(0))
        seen = [_meaning(slot) for slot in _watch(file, step, arguments)]
        assert set(seen) <= {before, (FREE,), seen[-1]}
        assert len(seen) > 3, "the writer was not watched"
    assert seen[-1] == (RESERVED, 3, 1)


def _meaning(slot):
    """Return of a slot what its state says may be believed."""
    fields = [slot.job_key, slot.number, slot.begun_us, slot.output_start, slot.ended_us, slot.output_end]
    return (slot.state, *fields[: {FREE: 0, RESERVED: 2, BEGUN: 4, ENDED: 6}[slot.state]])


def _watch(file, step, arguments):
    """Run a step and return the slot as it stood before each line of it, and after."""
    seen = []
    _at_line_of(step.__name__, lambda: seen.append(file.slot(0)), lambda: step(0, *arguments))
    return [*seen, file.slot(0)]


def _at_line_of(function, act, run):
    """Run, and act before each line of a function; of one that is no writer, before its first line alone."""
    acted = []

    def trace(frame, event, _):
        if frame.f_code.co_name != function:
            return None
        if event == "line" and not (acted and function.startswith("_")):
            sys.settrace(None)
            acted.append(frame.f_lineno)
            act()
            sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return run()
    finally:
        sys.settrace(before)


def test_a_name_is_never_taken_twice(file, path):
    """A worker's file is made under a new name; an old one, a link even, is neither opened nor changed."""
    with pytest.raises(FileExistsError):
        _create(path)
    os.symlink(path, path + "-link")
    with pytest.raises(FileExistsError):
        _create(path + "-link")
    assert WorkerFile.read(path).beat_us == 7


def test_nothing_is_left_of_a_file_that_could_not_be_made(path):
    """A text without room is refused before anything is created."""
    with pytest.raises(ValueError, match="worker_id must be at most"):
        WorkerFile.create(path, store_uuid="u", worker_id="w" * 2000, identity=Identity.mine(), now_us=1)
    assert not os.path.exists(path)


def test_the_file_has_all_its_blocks_from_the_start(file, path):
    """A store into a mapped page that found the disk full would kill the worker by SIGBUS."""
    status = os.stat(path)
    assert status.st_blocks * 512 >= status.st_size > 0


def test_a_held_lock_cannot_be_taken_and_a_free_one_can(file, path):
    """None while the worker has it; then whoever recovers has it, and keeps others out."""
    assert take(path) is None
    file.close()
    with take(path) as lock:
        assert lock.path == path
        assert take(path) is None
    with take(path) as lock:
        lock.unlink()
    assert not os.path.exists(path)
    with pytest.raises(FileNotFoundError):
        take(path)


@pytest.mark.parametrize("other", ["removed", "replaced"])
def test_a_file_that_goes_while_it_is_locked_is_not_there(file, path, other):
    """Between opening and locking, whoever recovered may have removed it: that lock would guard a file without a name."""
    file.close()

    def go():
        os.unlink(path)
        if other == "replaced":
            _create(path, now_us=8).close()

    with pytest.raises(FileNotFoundError):
        _at_line_of("_check_ours", go, lambda: take(path))
    assert (WorkerFile.read(path) is not None) == (other == "replaced")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_not_taken(file, path):
    """Whoever could put a file there must not have its word believed."""
    file.close()
    os.chown(path, 12345, -1)
    with pytest.raises(WorkerFileError, match="user 12345 owns it"):
        take(path)


def test_a_runner_holds_the_lock_after_its_worker(file, path, attached, eventually):
    """The inherited descriptor is the same lock: it is free only once the runner too is dead."""
    child = attached()
    file.close()
    assert take(path) is None
    child.signal(signal.SIGKILL)
    eventually(lambda: take(path)).release()


def test_a_forked_child_holds_the_lock_until_it_dies(file, path, attached, eventually):
    """Who is forked and has not exec'd is what one look over /proc may miss; the lock tells of it."""
    child = attached("import signal; pid = os.fork() or (time.sleep(60), os._exit(0)); file.beat(pid)")
    forked = WorkerFile.read(path).beat_us
    file.close()
    child.signal(signal.SIGKILL)
    eventually(child.exited)
    assert take(path) is None
    os.kill(forked, signal.SIGKILL)
    eventually(lambda: take(path)).release()


def test_a_program_that_the_runner_starts_does_not_hold_the_lock(file, path, attached, eventually):
    """The descriptor closes on exec: the lock tells of forks alone, and exec'd children show other signs."""
    child = attached("import subprocess; file.beat(subprocess.Popen(['/bin/sleep', '60'], close_fds=False).pid)")
    started = WorkerFile.read(path).beat_us
    file.close()
    child.signal(signal.SIGKILL)
    eventually(lambda: take(path)).release()
    os.kill(started, signal.SIGKILL)


def test_closing_every_descriptor_does_not_let_go_of_the_lock(file, path, attached, eventually):
    """A handler that closes all it finds, as daemons do, leaves the mapping, and with it lock and steps."""
    child = attached("os.dup2(6, 2); os.closerange(3, 100); os.dup2(2, 6); file.reserve(1, 5, 1)")
    file.close()
    assert take(path) is None
    assert [slot.job_key for slot in WorkerFile.read(path).slots] == [5]
    child.signal(signal.SIGKILL)
    eventually(lambda: take(path)).release()


def test_what_is_no_worker_file_is_named_and_not_taken(tmp_path):
    """Links, directories, FIFOs, other formats and half-made files: each is refused in words, and nothing blocks."""
    path = str(tmp_path / "w")
    assert WorkerFile.read(path) is None
    cases = {
        "symbolic link": lambda: os.symlink("/etc/passwd", path),
        "no regular file": lambda: os.mkfifo(path),
        "another format": lambda: (tmp_path / "w").write_bytes(b"x" * 30000),
        "incomplete": (tmp_path / "w").touch,
    }
    for words, make in cases.items():
        make()
        with pytest.raises(WorkerFileError, match=words):
            WorkerFile.read(path)
        os.unlink(path)
    os.mkdir(path)
    with pytest.raises(WorkerFileError, match="no regular file"):
        WorkerFile.read(path)
    with pytest.raises(WorkerFileError, match="directory"):
        take(path)
    os.symlink("/etc/passwd", path + "2")
    with pytest.raises(WorkerFileError, match="symbolic link"):
        take(path + "2")


def test_a_copy_says_that_it_is_one(file, path):
    """A copied state directory holds the names of the living; nobody may be killed on the word of it."""
    with open(path, "rb") as source, open(path + "-copy", "wb") as target:
        target.write(source.read())
    assert not WorkerFile.read(path).copied
    assert WorkerFile.read(path + "-copy").copied


def test_a_damaged_slot_is_not_believed(file, path):
    """A state that does not exist is said, so that the reader takes everything as begun."""
    with open(path, "r+b") as raw:
        raw.seek(4096)
        raw.write(b"\x09")
    with pytest.raises(WorkerFileError, match="state that does not exist"):
        WorkerFile.read(path)


def test_a_stranger_descriptor_is_not_attached(tmp_path):
    """A runner that was given the wrong descriptor says so, rather than writing steps into it."""
    (tmp_path / "other").write_bytes(b"text")
    with open(tmp_path / "other", "r+b") as other, pytest.raises(WorkerFileError, match="incomplete"):
        WorkerFile.attach(other.fileno())
