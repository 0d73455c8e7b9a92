"""What a dead worker's attempts had come to: told from the file of steps that it and its runner left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from overseer_lite.job import Attempt, Evidence, Failure, Outcome
from overseer_lite.liveness.workerfile import BEGUN, ENDED, Slot, Snapshot
from overseer_lite.store import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from overseer_lite.store import FullStore

_TAIL_BYTES: Final = 64 * 1024
_SIGKILL: Final = 9


def verdicts(store: FullStore, worker: str, snapshot: Snapshot | None) -> Mapping[Attempt, Verdict]:
    """Tell reserved, begun and ended apart without the dead, of all that a worker held.

    Args:
        snapshot: The worker's file as it left it; None: it cannot be believed, and all had begun.
    """
    slots = {(slot.job_key, slot.number): slot for slot in snapshot.slots} if snapshot is not None else None
    now_us = store.clock.read().boottime_us
    found = {}
    for (key, number), attempt in store.held_keys(worker).items():
        slot = None if slots is None else slots.get((key, number))
        if slots is not None and (slot is None or slot.state < BEGUN):
            found[attempt] = Verdict(Outcome.HANDED_BACK)
            continue
        evidence = _evidence(store, snapshot, slot, now_us) if slot is not None else None
        words = "its worker died after the handler had ended, before it was settled"
        if slot is None or slot.state != ENDED:
            words = "its worker died"
        found[attempt] = Verdict(Outcome.INTERRUPTED, Failure("interruption", words), evidence)
    return found


def _evidence(store: FullStore, snapshot: Snapshot | None, slot: Slot, now_us: int) -> Evidence:
    output, size = "", 0
    if snapshot is not None and snapshot.output:
        output, size = _output(os.path.join(store.state_directory, "output", snapshot.output), slot)
    return Evidence(
        began_ago_s=(now_us - slot.begun_us) / 1e6,
        ended_ago_s=(now_us - slot.ended_us) / 1e6 if slot.state == ENDED else None,
        signal=_SIGKILL,
        output=output,
        output_bytes=size,
    )


def _output(path: str, slot: Slot) -> tuple[str, int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return "", 0
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        start = slot.output_start if slot.output_start <= size else 0
        end = slot.output_end if slot.state == ENDED and slot.output_end <= size else size
        file.seek(max(start, end - _TAIL_BYTES))
        return file.read(min(_TAIL_BYTES, end - start)).decode("utf-8", "replace"), max(0, end - start)
