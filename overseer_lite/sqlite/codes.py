"""How statuses and outcomes are written in the file: small integers, never renumbered."""

from __future__ import annotations

from typing import Final

from overseer_lite.job import Outcome, Status

STATUS: Final[tuple[Status, ...]] = (
    Status.UNSTARTED,
    Status.STARTED,
    Status.FINISHED,
    Status.FAILED,
    Status.ABORTED,
)
UNSTARTED, STARTED, FINISHED, FAILED, ABORTED = range(5)
STATUS_CODE: Final = {status: code for code, status in enumerate(STATUS)}

OUTCOME: Final[tuple[Outcome, ...]] = (
    Outcome.FINISHED,
    Outcome.FAILED,
    Outcome.ABORTED,
    Outcome.FAULTED,
    Outcome.CRASHED,
    Outcome.INTERRUPTED,
    Outcome.STOPPED,
    Outcome.RESET,
)
OUTCOME_CODE: Final = {outcome: code for code, outcome in enumerate(OUTCOME)}
