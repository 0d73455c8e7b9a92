"""The process in which handlers run: its context, its loop, its output, and what an attempt may not leave behind."""

from __future__ import annotations

import os
import select

import pytest

from overseer_lite.graph import simple_graph
from overseer_lite.job import Attempt, Job, Outcome, ReservedJob
from overseer_lite.liveness import Identity, WorkerFile
from overseer_lite.runner import ProcessRunner, Spec
from tests.conftest import wait_until
from tests.process.conftest import alive

pytestmark = pytest.mark.slow


def test_a_context_is_entered_once_per_runner_and_left_at_its_end(crew):
    """What it yields is job.context for every job of that runner."""
    crew.write_app(
        "@contextlib.contextmanager\n"
        "def context():\n"
        "    note('enter')\n"
        "    yield {'jobs': 0}\n"
        "    note('leave')\n"
        "@handlers\n"
        "def counting(job):\n"
        "    job.context['jobs'] += 1\n"
        "    return job.context['jobs']\n"
    )
    crew.submit(simple_graph(*(Job("counting", name=name) for name in "abc"), id="r"))
    assert crew.start(1, drain=True).wait() == 0
    assert sorted(crew.job(name).result for name in "abc") == [1, 2, 3]
    assert len(crew.notes("enter")) == len(crew.notes("leave")) == 1


def test_async_handlers_share_one_loop(crew):
    """A pool that one coroutine made serves the next."""
    crew.write_app(
        "import asyncio\n"
        "@handlers\n"
        "async def looping(job):\n"
        "    await asyncio.sleep(0)\n"
        "    note('loop', id(asyncio.get_running_loop()))\n"
    )
    crew.submit(simple_graph(*(Job("looping", name=name) for name in "abc"), id="r"))
    assert crew.start(1, drain=True).wait() == 0
    assert len(crew.notes("loop")) == 3
    assert len({note.words[1] for note in crew.notes("loop")}) == 1


def test_what_an_attempt_wrote_is_its_own(crew):
    """stdout, stderr, logging and a subprocess's words, each job's apart from the other's."""
    crew.write_app(
        "@handlers\n"
        "def loud(job):\n"
        "    print('out', job.name)\n"
        "    print('err', job.name, file=sys.stderr)\n"
        "    logging.getLogger('mine').warning('log %s', job.name)\n"
        "    subprocess.run(['echo', 'child', job.name], check=True)\n"
    )
    crew.submit(simple_graph(Job("loud", name="a"), Job("loud", name="b"), id="r"))
    assert crew.start(1, drain=True).wait() == 0
    for name in "ab":
        (attempt,) = crew.attempts(name)
        lines = attempt.output.splitlines()
        assert [line.partition("mine: ")[2] or line for line in lines] == [
            f"{word} {name}" for word in ("out", "err", "log", "child")
        ]


def test_stdout_of_200_megabytes_fills_neither_memory_nor_disk(crew):
    """The file is cut, the last of it is kept, the worker stays small."""
    crew.write_app(
        "@handlers\n"
        "def flooding(job):\n"
        "    line = b'x' * 99 + b'\\n'\n"
        "    for _ in range(200):\n"
        "        os.write(1, line * 10_000)\n"
        "        time.sleep(0.004)\n"
        "    note('flooded')\n"
        "    os.write(1, b'the end\\n')\n"
    )
    crew.submit({"flooding": []})
    crew.start(1)
    largest = 0
    output = os.path.join(crew.store.state_directory, "output")

    def flooded():
        nonlocal largest
        for entry in os.scandir(output):
            largest = max(largest, entry.stat().st_size)
        return crew.notes("flooded")

    wait_until(flooded, 20, "the flood's end")
    crew.wait_for("flooding")
    (attempt,) = crew.attempts("flooding")
    with open(f"/proc/{crew.worker_pid()}/status") as file:
        peak_kib = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    print(f"output file {largest / 2**20:.0f} MiB at most, the worker {peak_kib / 1024:.0f} MiB")
    assert largest < 160 * 2**20
    assert peak_kib < 80 * 1024
    assert attempt.output.endswith("x\nthe end\n")
    assert len(attempt.output) <= 64 * 1024


STRAYS = {
    "thread": "threading.Thread(target=lambda: [note('stray', os.getpid()), time.sleep(60)]).start()",
    "child": "note('stray', subprocess.Popen(['sleep', '60']).pid)",
    "detached": "note('stray', subprocess.Popen(['sleep', '60'], env={}, stdout=subprocess.DEVNULL,"
    " stderr=subprocess.DEVNULL, start_new_session=True).pid)",
    "orphan": "note('stray', subprocess.run(['sh', '-c', 'sleep 60 >/dev/null 2>&1 & echo $!'], env={'PATH': os.environ['PATH']},"
    " start_new_session=True, stdout=subprocess.PIPE, text=True).stdout.strip())",
}


@pytest.mark.parametrize("kind", STRAYS)
def test_what_a_failed_attempt_left_running_is_gone_before_its_retry_begins(crew, kind):
    """Its runner is replaced first; the retry finds another runner and no stray."""
    crew.write_app(
        "@handlers(retries=1, backoff=0)\n"
        "def littering(job):\n"
        "    if job.attempt == 1:\n"
        f"        {STRAYS[kind]}\n"
        "        while not os.path.exists(os.path.join(HERE, 'pid')): time.sleep(0.002)\n"
        "        raise OSError('leaving it')\n"
        "    pid = int(open(os.path.join(HERE, 'pid')).read())\n"
        "    return [not lives(pid), pid == os.getpid()]\n"
    )
    crew.submit({"littering": []})
    crew.start(1)
    pid = int(crew.wait_note("stray").words[1])
    assert alive(pid)
    new = crew.directory / "pid.new"
    new.write_text(str(pid))
    new.rename(crew.directory / "pid")
    info = crew.wait_for("littering")
    assert info.result == [True, False]
    assert crew.outcomes("littering") == ["failed", "finished"]
    assert "left threads or processes behind" in crew.log()


def test_a_failed_attempt_that_left_nothing_keeps_its_runner(crew):
    """Replacing a runner costs; it is done only where it must be."""
    crew.write_app(
        "@handlers(retries=1, backoff=0)\ndef failing(job):\n    note('try')\n    if job.attempt == 1: raise OSError\n"
    )
    crew.submit({"failing": []})
    crew.start(1)
    crew.wait_for("failing")
    assert len({note.pid for note in crew.notes("try")}) == 1


@pytest.fixture
def steps(tmp_path):
    for name in ("output", "payloads", "files"):
        (tmp_path / name).mkdir()
    file = WorkerFile.create(str(tmp_path / "w"), store_uuid="uuid", worker_id="w", identity=Identity.mine(), now_us=1)
    yield file
    file.close()


def test_a_reported_end_is_told_once_however_often_the_channel_was_looked_at_meanwhile(tmp_path, steps):
    """While a runner takes its time to end, each look takes in what is new and leaves what waits as it is."""
    app = tmp_path / "app.py"
    app.write_text(
        "import threading\ndef brief(job): return 7\ndef endless(job): threading.Event().wait()\n"
        "handlers = {'brief': brief, 'endless': endless}\n"
    )
    runner = ProcessRunner(Spec(str(app), "w", str(tmp_path)), steps, 1)
    try:
        wait_until(lambda: runner.receive() == [] and runner.hello is not None, 10, "the runner's hello")
        jobs = [
            ReservedJob(Attempt(f"r/{kind}", 1, "w"), "r", kind, kind, "{}", (), 0, key)
            for key, kind in enumerate(("brief", "endless"), 1)
        ]
        runner.give([(job, job.key, job.key) for job in jobs])
        assert select.select([runner.control], [], [], 10)[0]
        looks = iter([False] * 8)
        runner.finish(10, hurry=lambda: next(looks, True))
    finally:
        dead = runner.bury()
        runner.close()
    assert [(ended.token, ended.outcome, ended.result_json) for ended in dead.ended] == [(1, Outcome.FINISHED, "7")]
