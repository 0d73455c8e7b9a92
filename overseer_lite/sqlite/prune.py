"""Pruning: whole ended runs leave the store, with all that hangs on their jobs; then the files of their attempts.

Which runs those are is planned in a snapshot. Each is removed in a transaction of its own, in which it is looked at
again: somebody may have retried a job of it meanwhile, or submitted one that depends on it.
"""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING, Final

from overseer_lite.sqlite.codes import STATUS
from overseer_lite.store import Counts, RunInfo

if TYPE_CHECKING:
    from overseer_lite.sqlite.connection import Database, Row

log = logging.getLogger("overseer_lite.sqlite")

_ATTEMPT_FILES: Final = re.compile(r"([0-9]+)-[0-9]+")  # how a runner names an attempt's directory
# Everything of a run, what refers to a job before the job.
_REMOVALS: Final = ("prune_words", "prune_attempts", "prune_results", "prune_dependencies", "prune_jobs", "prune_run")


def plan(db: Database, before_us: int) -> list[RunInfo]:
    """Return the runs that may go, newest first, but one that depends on another always before that other."""
    left = db.all("ended_runs", (before_us, None))
    needed_by = {key: {other for (other,) in db.all("dependent_runs", (key,))} for key, _id, _submitted in left}
    planned: list[Row] = []
    gone: set[int] = set()
    grown = True
    while grown:
        grown = False
        for row in [row for row in left if row[0] not in gone]:
            if needed_by[row[0]] <= gone:
                planned.append(row)
                gone.add(row[0])
                grown = True
    return [_info(db, row) for row in planned]


def remove(db: Database, run: str, before_us: int) -> RunInfo | None:
    """Remove a run, in a write transaction; None if it must stay after all."""
    row = db.one("ended_runs", (before_us, run))
    if row is None or db.all("dependent_runs", (row[0],)):
        return None
    info = _info(db, row)
    # A key is the highest so far plus one, and names an attempt's directory and its step in a worker's file: given
    # again after the newest job is gone, it would let a new job find an old one's files. So the highest key that was
    # ever removed is kept, and counts as given. To keep the newest job's run instead would need no such note, but a
    # store of a single run could then never be pruned.
    db.run("note_pruned_key", (row[0],))
    for statement in _REMOVALS:
        db.run(statement, (row[0],))
    return info


def _info(db: Database, row: Row) -> RunInfo:
    key, run, submitted_us = row
    counts = Counts(**{STATUS[status].value: number for status, number in db.all("count_in_run", (key,))})
    return RunInfo(run, submitted_us / 1e6, counts)


def remove_files(db: Database, directory: str) -> None:
    """Remove the directories of attempts whose jobs were pruned, now or by a process that died before it came to this.

    A directory whose key was never removed is left alone, whoever made it.
    """
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    keys = {name: int(match[1]) for name in names if (match := _ATTEMPT_FILES.fullmatch(name))}
    with db.read():  # begun after the listing: a job is stored before its directory is made
        row = db.one("meta", ("pruned_key",))
        pruned_to = 0 if row is None else row[0]
        gone = [name for name, key in keys.items() if key <= pruned_to and db.one("id_of", (key,)) is None]
    if not gone:
        return
    import shutil  # with three ways to compress: who prunes nothing pays for nothing of it

    for name in gone:
        try:
            shutil.rmtree(os.path.join(directory, name))
        except OSError as error:
            log.warning("The files of a pruned attempt cannot be removed: %s (%s)", error.filename, error.strerror)
