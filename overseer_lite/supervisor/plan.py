"""What a supervisor is told."""

from __future__ import annotations

from typing import NamedTuple

from overseer_lite.config import Config


class Plan(NamedTuple):
    """What a supervisor is to do.

    Attributes:
        address: The store; it must be there.
        app: The app whose handlers run.
        workers: How many workers.
        types: The only types they take.
        run: The only run they work on; then a stop by signal is no success.
        drain: End when nothing is left that could run.
        stop_on_failure: End, current jobs finished, as soon as a job of the run has failed or was aborted.
        failed_before: How many had before, which are no reason to end.
        timeout_s: End at once after so many seconds; exit code 4.
        settings: Where intervals and limits come from; the configured ones if None.
        log_level: What workers say.
        log_file: Where they say it: a path; stderr if None.
    """

    address: str
    app: str
    workers: int
    types: tuple[str, ...] | None = None
    run: str | None = None
    drain: bool = False
    stop_on_failure: bool = False
    failed_before: int = 0
    timeout_s: float | None = None
    settings: Config | None = None
    log_level: str = "INFO"
    log_file: str | None = None
