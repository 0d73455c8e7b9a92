"""What goes into a handler and comes out of it: large args and results, files, progress, added jobs."""

from __future__ import annotations

import os

import pytest

from overseer_lite.graph import Graph, simple_graph
from overseer_lite.job import Job
from overseer_lite.liveness.workerfile import WorkerFile
from tests.conftest import wait_until

pytestmark = pytest.mark.slow


def test_large_args_and_results_of_a_mebibyte_pass_whole(crew):
    """Both ways, and on to a dependent."""
    crew.write_app(
        "@handlers\ndef big(job): return job.args['text'][::-1] + 'x' * (1024 * 1024 - 2 - len(job.args['text']))\n"
        "@handlers\ndef after(job): return [len(job.results['big']), job.results['big'][:3]]\n"
    )
    graph = Graph(id="r")
    big = graph.add("big", args={"text": "abc" * 100_000})
    graph.add("after", dependencies=[big])
    crew.submit(graph)
    crew.start(1)
    assert crew.wait_for("after").result == [1024 * 1024 - 2, "cba"]


def test_a_group_larger_than_the_channel_holds_passes_whole(crew):
    """Jobs reserved together may weigh more than a socket's buffer: the rest is sent as the runner reads."""
    crew.write_app("@handlers\ndef weighty(job): return len(job.args['text'])\n")
    jobs = (Job("weighty", name=f"n{index}", args={"text": "x" * 60_000}) for index in range(150))
    crew.submit(simple_graph(*jobs, id="r"))
    assert crew.start(1, drain=True).wait() == 0
    assert crew.store.counts("r").finished == 150
    assert {crew.job(f"n{index}").attempt for index in (0, 75, 149)} == {1}


def test_a_result_beyond_a_mebibyte_fails_the_job_and_is_not_retried(crew):
    """It would be as large the next time; the message says where to put it."""
    crew.write_app("@handlers(retries=3)\ndef big(job): return 'x' * (1024 * 1024)\n")
    crew.submit({"big": []})
    crew.start(1)
    info = crew.wait_for("big", "failed")
    assert (info.attempt, info.failure.reason) == (1, "result")
    assert "over the limit of 1,048,576" in info.failure.message
    assert "job.path" in info.failure.message


def test_each_attempt_has_a_directory_of_its_own(crew):
    """job.path names a place beside the store, private, that no other attempt has."""
    crew.write_app(
        "@handlers(retries=1, backoff=0)\n"
        "def writing(job):\n"
        "    path = job.path('part/f.txt')\n"
        "    note('path', path, os.path.exists(path))\n"
        "    open(path, 'w').write('hello')\n"
        "    if job.attempt == 1: raise OSError\n"
        "    return path\n"
    )
    crew.submit({"writing": []})
    crew.start(1)
    path = crew.wait_for("writing").result
    one, two = crew.notes("path")
    assert one.words[1] != two.words[1] == path
    assert (one.words[2], two.words[2]) == ("False", "False")
    assert path.startswith(os.path.join(crew.store.state_directory, "files") + os.sep)
    assert os.stat(os.path.dirname(path)).st_mode & 0o077 == 0


def test_progress_is_seen_while_the_job_runs(crew):
    """The worker's file has the handler's own word, without any lock."""
    crew.write_app(
        "@handlers\ndef far(job):\n    job.progress(0.25, 'reading')\n    note('far')\n    await_file('go')\n"
    )
    crew.submit({"far": []})
    crew.start(1)
    crew.wait_note("far")
    (worker,) = crew.store.workers()
    snapshot = WorkerFile.read(os.path.join(crew.store.state_directory, "workers", worker.id))
    (slot,) = snapshot.slots
    assert (slot.progress, slot.step, slot.number) == (0.25, "reading", 1)
    crew.allow("go")
    crew.wait_for("far")


def test_dependents_wait_for_the_jobs_a_handler_adds_but_not_for_detached_ones(crew):
    """Added in the settling transaction: merge runs after the parts, with their results."""
    crew.write_app(
        "@handlers\n"
        "def split(job):\n"
        "    for n in range(3): job.add('part', name=f'part-{n}', args={'n': n})\n"
        "    job.add('held', detached=True)\n"
        "@handlers\n"
        "def part(job): return job.args['n'] * 10\n"
        "@handlers\n"
        "def merge(job): return job.results.of('part')\n"
    )
    crew.submit({"split": [], "merge": ["split"]})
    crew.start(2)
    assert crew.wait_for("merge").result == [0, 10, 20]
    crew.wait_note("held")
    assert crew.job("held").status == "started"
    crew.allow("go")
    crew.wait_for("held")


def test_jobs_that_a_failed_attempt_added_are_not_there(crew):
    """All or nothing: what an attempt added is stored only with its finish."""
    crew.write_app("@handlers\ndef split(job):\n    job.add('quick')\n    raise OSError('after all')\n")
    crew.submit({"split": []})
    crew.start(1)
    crew.wait_for("split", "failed")
    assert crew.job("quick") is None
    wait_until(lambda: crew.store.counts("r").total == 1, 1, "one job alone")
