"""Run a graph of Python jobs on one machine: nothing is lost, nothing runs twice.

Everything public is here, loaded when it is first used: the import itself costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from overseer_lite.api import Outcome, run, start
    from overseer_lite.commands import command
    from overseer_lite.errors import (
        AppError,
        CommandFailedError,
        ConfigError,
        CycleError,
        GraphConflictError,
        IllegalTransitionError,
        InvalidGraphError,
        InvalidInputError,
        InvalidJobError,
        MissingHandlerError,
        NotJsonError,
        OverseerError,
        StoreError,
        StoreMissingError,
        StoreUnavailableError,
        SupersededError,
        TimedOutError,
        UnknownDependencyError,
        UnknownJobError,
        WorkersLostError,
    )
    from overseer_lite.graph import Graph, job_graph, simple_graph, validate_graph_handlers
    from overseer_lite.handler import Handler, Handlers, RunningJob, abort, abort_silent, fault, harness
    from overseer_lite.job import Attempt, AttemptRecord, Failure, Job, JobInfo, Status, stored
    from overseer_lite.store import Counts, Exchange, Store, Submitted, open_store

__version__: Final = "0.1.0"

_PLACES: Final = {
    "api": ("Outcome", "run", "start"),
    "commands": ("command",),
    "errors": (
        "AppError", "CommandFailedError", "ConfigError", "CycleError", "GraphConflictError", "IllegalTransitionError",
        "InvalidGraphError", "InvalidInputError", "InvalidJobError", "MissingHandlerError", "NotJsonError", "OverseerError", "StoreError",
        "StoreMissingError", "StoreUnavailableError", "SupersededError", "TimedOutError", "UnknownDependencyError",
        "UnknownJobError", "WorkersLostError",
    ),
    "graph": ("Graph", "job_graph", "simple_graph", "validate_graph_handlers"),
    "handler": ("Handler", "Handlers", "RunningJob", "abort", "abort_silent", "fault", "harness"),
    "job": ("Attempt", "AttemptRecord", "Failure", "Job", "JobInfo", "Status", "stored"),
    "store": ("Counts", "Exchange", "Store", "Submitted", "open_store"),
}  # fmt: skip
_PLACE: Final = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "AppError",
    "Attempt",
    "AttemptRecord",
    "CommandFailedError",
    "ConfigError",
    "Counts",
    "CycleError",
    "Exchange",
    "Failure",
    "Graph",
    "GraphConflictError",
    "Handler",
    "Handlers",
    "IllegalTransitionError",
    "InvalidGraphError",
    "InvalidInputError",
    "InvalidJobError",
    "Job",
    "JobInfo",
    "MissingHandlerError",
    "NotJsonError",
    "Outcome",
    "OverseerError",
    "RunningJob",
    "Status",
    "Store",
    "StoreError",
    "StoreMissingError",
    "StoreUnavailableError",
    "Submitted",
    "SupersededError",
    "TimedOutError",
    "UnknownDependencyError",
    "UnknownJobError",
    "WorkersLostError",
    "__version__",
    "abort",
    "abort_silent",
    "command",
    "fault",
    "harness",
    "job_graph",
    "open_store",
    "run",
    "simple_graph",
    "start",
    "stored",
    "validate_graph_handlers",
]


def __getattr__(name: str) -> Any:
    place = _PLACE.get(name)
    if place is None:
        raise AttributeError(f"module 'overseer_lite' has no attribute {name!r}")
    value = getattr(import_module(f"overseer_lite.{place}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACE})
