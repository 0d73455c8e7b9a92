"""A store that goes back in time beside files that did not: a copy in its place, commits that a power loss undid."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from overseer_lite import Handlers, start
from overseer_lite.graph import job_graph
from overseer_lite.runner.attempt_files import attempt_directory
from overseer_lite.store import open_store

HANDLER = (
    "@handlers\n"
    "def keep(job):\n"
    "    path = job.path('f.txt')\n"
    "    note('seen', os.path.exists(path))\n"
    "    open(job.path('f.txt'), 'w').write(job.run)\n"
    "    return path\n"
)


@pytest.mark.slow
def test_a_new_job_meets_no_files_of_one_that_the_copy_does_not_know(crew, tmp_path):
    """A copy was put in the store's place and the files stayed: they are put aside, not read and not lost."""
    crew.write_app(HANDLER)
    crew.submit({"keep": []}, id="kept")
    assert crew.start(1, drain=True).wait() == 0
    copy = str(tmp_path / "copy.db")
    crew.store.backup(copy)
    crew.submit({"keep": []}, id="lost")
    assert crew.start(1, drain=True).wait() == 0
    paths = [crew.store.job_info(f"{run}/keep").result for run in ("kept", "lost")]

    crew.store.close()
    for companion in ("", "-wal", "-shm"):
        os.unlink(crew.store.path + companion)
    os.rename(copy, crew.store.path)
    crew.store = open_store(crew.store.path)
    crew.submit({"keep": []}, id="new")
    assert crew.start(1, drain=True).wait() == 0

    assert crew.store.job_info("new/keep").result == paths[1]  # the same place
    assert [note.words[1] for note in crew.notes("seen")] == ["False"] * 3
    aside = f"{os.path.dirname(paths[1])}.orphaned"
    assert [Path(path).read_text() for path in (*paths, f"{aside}/f.txt")] == ["kept", "new", "lost"]
    (attempt,) = crew.store.attempts("new/keep")
    assert f"put aside: {aside}" in attempt.output


def test_a_job_run_in_this_process_meets_none_either(tmp_path):
    """Whoever runs it."""
    handlers = Handlers()
    seen, stop = [], threading.Event()

    @handlers
    def keep(job):
        seen.append(os.path.exists(job.path("f.txt")))
        stop.set()

    with open_store(str(tmp_path / "jobs.db")) as store:
        store.install()
        os.makedirs(os.path.join(store.state_directory, "files", "1-1"), mode=0o700)
        (tmp_path / "jobs.db.d/files/1-1/f.txt").write_text("old")
        store.transact_graph(job_graph({"keep": []}, id="r"))
        start(store, handlers, stop=stop)

    assert seen == [False]
    assert (tmp_path / "jobs.db.d/files/1-1.orphaned/f.txt").read_text() == "old"


def test_what_an_attempt_wrote_itself_stays_where_it_is(tmp_path):
    """Only the first call looks; each attempt by itself."""
    files = str(tmp_path)
    first = attempt_directory(files, 7, 1)
    os.mkdir(first())
    assert (first(), os.listdir(files)) == (f"{files}/7-1", ["7-1"])

    for _life in range(2):
        os.makedirs(attempt_directory(files, 7, 1)())
    assert sorted(os.listdir(files)) == ["7-1", "7-1.orphaned", "7-1.orphaned-2"]


def test_nothing_is_looked_at_before_a_job_asks(tmp_path):
    """Most never do."""
    (tmp_path / "7-1").mkdir()
    attempt_directory(str(tmp_path), 7, 1)

    assert os.listdir(tmp_path) == ["7-1"]
