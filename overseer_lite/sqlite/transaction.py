"""What the steps of one write transaction share: the moment it stands at, and whom it must ring when it is done."""

from __future__ import annotations

import json
import os
from itertools import islice
from typing import TYPE_CHECKING, Any

from overseer_lite.job import Failure

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from overseer_lite.clock import Reading
    from overseer_lite.sqlite.connection import Database


class Moment:
    """One transaction's moment and its gathered consequences.

    Attributes:
        made_ready: How many jobs of each type (by key) became ready, or may now be taken since a limit has room.
        due_changed: Whether somebody who sleeps until the next due time must look again.
    """

    __slots__ = ("db", "due_changed", "made_ready", "now")

    def __init__(self, db: Database, now: Reading) -> None:
        self.db = db
        self.now = now
        self.made_ready: dict[int, int] = {}
        self.due_changed = False

    def ready(self, type_key: int) -> None:
        """Note that a job of that type became ready."""
        self.made_ready[type_key] = self.made_ready.get(type_key, 0) + 1

    def due(self, delay_s: float | None) -> tuple[int | None, int | None, int | None]:
        """Return the columns due_us, due_wall_us, delay_us for a delay from now; none for no delay."""
        if not delay_s:
            return None, None, None
        self.due_changed = True
        delay_us = max(1, round(delay_s * 1_000_000))
        return self.now.boottime_us + delay_us, self.now.wall_us + delay_us, delay_us


def adopt_boot(moment: Moment) -> None:
    """Carry the file's instants over into this boot, if they count from another."""
    db, now = moment.db, moment.now
    row = db.one("boot")
    if row is not None and row[0] == now.boot_id:
        return
    db.run("rebase_delays", (now.boottime_us, now.wall_us))
    db.run("forget_job_beats")
    db.run("forget_worker_beats")
    db.run("set_boot", (now.boot_id,))


def whom_to_ring(moment: Moment, taken: dict[int, int], but: str, type_names: dict[int, str]) -> list[str]:
    """Return the idle workers to ring for what this transaction made ready and did not itself take.

    For each type as many as there are jobs of it, by chance, and none that stands still: it would not hear. To wake them all
    for each job would cost those that find nothing, and whoever waits for them (the first line of a handler 1.3 ms after the
    commit, not 1.0). Who keeps to a run is rung besides: the jobs may be of another. Whoever takes a job and sees more rings
    again, and so does whoever leaves (`more_to_ring`); whoever recovers a death rings all; and each worker looks by itself
    when it mirrors its beat: so none is left for long while somebody is idle.

    Nobody is missed: who sets `idle` does so in a transaction that saw no job, so it comes before or after this one.
    """
    left = {key: count - taken.get(key, 0) for key, count in moment.made_ready.items() if count > taken.get(key, 0)}
    if not left and not moment.due_changed:
        return []
    idle = moment.db.all("idle_workers", (but,))
    if moment.due_changed:
        return [row[0] for row in idle]
    handled = {worker: json.loads(types) for worker, types, _run, _pid in idle}
    chosen: list[str] = []
    for key, count in left.items():
        able = [row for row in idle if type_names[key] in handled[row[0]] and row[0] not in chosen]
        chosen += [worker for worker, _types, run, _pid in able if run is not None]
        chosen += _some([(worker, pid) for worker, _types, run, pid in able if run is None], count)
    return chosen


def _some(able: list[tuple[str, int]], count: int) -> list[str]:
    """Return so many of the workers, those first that are able to hear."""
    if len(able) > count:
        first = os.urandom(1)[0] % len(able)  # `random` takes 3 ms and more memory than this whole room
        able = [*able[first:], *able[:first]]
        awake = list(islice((one for one in able if not _stands_still(one[1])), count))
        able = awake or able[:count]
    return [worker for worker, _pid in able]


def _stands_still(pid: int) -> bool:
    from overseer_lite.liveness.identity import read_stat  # who only looks pays for nothing of this

    stat = read_stat(pid)
    return stat is not None and stat.state in "Tt"


def more_to_ring(moment: Moment, but: str, type_keys: dict[str, int], limited: Collection[str] = ()) -> list[str]:
    """Return one idle worker for which there is still something ready, if there is one.

    Args:
        limited: Types that are left out: whoever makes room under a limit rings for it.
    """
    db = moment.db
    for worker, types, run, _pid in db.all("idle_workers", (but,)):
        keys = keys_json(type_keys[name] for name in json.loads(types) if name in type_keys and name not in limited)
        if run is None:
            ready = db.all("candidates", (keys, 1))
        else:
            found = db.one("run", (run,))
            ready = db.all("candidates_in_run", (keys, 1, found[0])) if found else []
        if ready:
            return [worker]
    return []


def failure_text(failure: Failure | None) -> str | None:
    """Return a failure as it is kept: in ASCII, since the name of a file in its message may be no UTF-8."""
    return None if failure is None else json.dumps(failure._asdict())


def storable(output: str) -> str:
    """Return output as SQLite can keep it: NUL would end it there, and a lone surrogate is no UTF-8."""
    return output.replace("\0", "\ufffd").encode("utf-8", "backslashreplace").decode()


def failure_from(text: str | None) -> Failure | None:
    """Return a failure from how it is kept."""
    return None if text is None else Failure(**json.loads(text))


def keys_json(keys: Iterable[Any]) -> str:
    """Return keys as the JSON list that a statement's `json_each` reads."""
    return json.dumps(list(keys))
