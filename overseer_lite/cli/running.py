"""What workers do right now: the store says who holds what, a worker's own file which of it the runner is on."""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from overseer_lite.job import Attempt
    from overseer_lite.liveness import Life
    from overseer_lite.store import FullStore, WorkerRecord


class Activity(NamedTuple):
    """One worker at one moment.

    Attributes:
        attempt: What its runner is on; None: nothing, or it is not known.
        elapsed_s: How long it has been on it.
        progress: As the handler reported it, from 0 to 1; None if it has not.
        output: Path of the runner's output file; None if there is none.
        output_start: Where the attempt's output begins in it.
        output_end: Where it ends; None while the attempt runs.
        silent_s: Seconds since its last beat, in the store or in its file, whichever is younger.
    """

    worker: WorkerRecord
    attempt: Attempt | None
    elapsed_s: float
    progress: float | None
    step: str
    output: str | None
    output_start: int
    output_end: int | None
    silent_s: float


def by_place(workers: Iterable[WorkerRecord]) -> list[WorkerRecord]:
    """Return workers by their place in the crew: one that takes a dead one's place takes its line as well."""

    def place(worker: WorkerRecord) -> float:
        found = re.match(r"w(\d+)-", worker.id)
        return int(found[1]) if found else math.inf  # another's: as registered

    return sorted(workers, key=place)


def activities(store: FullStore, workers: Iterable[WorkerRecord] | None = None) -> list[Activity]:
    """Return what each worker does; all registered ones if none are given."""
    return [_activity(store, worker) for worker in (store.workers() if workers is None else workers)]


def _activity(store: FullStore, worker: WorkerRecord) -> Activity:
    from overseer_lite.liveness import WorkerFile, WorkerFileError
    from overseer_lite.liveness.workerfile import BEGUN, ENDED

    idle = Activity(worker, None, 0.0, None, "", None, 0, None, worker.silent_s)
    directory = getattr(store, "state_directory", None)
    if directory is None:
        return idle
    try:
        found = WorkerFile.read(os.path.join(directory, "workers", worker.id))
    except WorkerFileError:
        found = None  # just starting, or gone half-way: its row is all that is known
    if found is None:
        held = store.held(worker.id)
        return idle._replace(attempt=held[0] if held else None)
    now = store.clock.read()
    silent_s = worker.silent_s
    if now.boot_id == found.identity.boot_id:
        silent_s = max(0.0, min(silent_s, (now.monotonic_us - found.beat_us) / 1e6))
    output = os.path.join(directory, "output", found.output) if found.output else None
    idle = idle._replace(silent_s=silent_s, output=output)
    slots = sorted((slot for slot in found.slots if slot.state in (BEGUN, ENDED)), key=lambda slot: slot.state)
    if not slots:
        return idle
    held_keys = store.held_keys(worker.id)
    for slot in slots:  # a begun one first: of those that ended the worker only has to settle
        attempt = held_keys.get((slot.job_key, slot.number))
        if attempt is not None:
            until_us = slot.ended_us if slot.state == ENDED else now.boottime_us
            return idle._replace(
                attempt=attempt,
                elapsed_s=max(0.0, (until_us - slot.begun_us) / 1e6),
                progress=slot.progress,
                step=slot.step,
                output_start=slot.output_start,
                output_end=slot.output_end if slot.state == ENDED else None,
            )
    return idle


def life(store: FullStore, worker: WorkerRecord) -> Life | None:
    """Return what the kernel says of a worker; None if it cannot be asked."""
    from overseer_lite.liveness import Identity, look

    if worker.identity is None:
        return None
    try:
        return look(Identity.from_text(worker.identity), store.clock.read().boot_id)
    except ValueError:
        return None  # registered by something that knows no processes


def is_dead(store: FullStore, worker: WorkerRecord) -> bool:
    """Return whether the kernel proves that a worker is dead."""
    found = life(store, worker)
    return found is not None and found.value in ("gone", "other boot")


def supervisor_pid(worker: WorkerRecord) -> int | None:
    """Return the pid of a worker's supervisor; None if it has none that is known."""
    from overseer_lite.liveness import Identity

    try:
        return Identity.from_text(worker.supervisor).pid if worker.supervisor else None
    except ValueError:
        return None
