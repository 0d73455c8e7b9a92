"""Running attempts: in a process of its own (`process`), or in this one (`inline`).

A runner is what imports the app. Its worker gives it jobs, learns how they ended, and can take back those that have
not begun; it outlives none of what it started. See `protocol` for what passes between the two.
"""

from __future__ import annotations

from overseer_lite.runner.process import AppDescription, Dead, Inspection, ProcessRunner, Spec, inspect_app
from overseer_lite.runner.protocol import Ended

__all__ = ["AppDescription", "Dead", "Ended", "Inspection", "ProcessRunner", "Spec", "inspect_app"]
