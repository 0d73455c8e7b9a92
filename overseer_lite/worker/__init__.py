"""A worker: reserves, hands to its runner, settles, and again. It never imports the app."""

from __future__ import annotations

from overseer_lite.worker.loop import Worker, WorkerSpec

__all__ = ["Worker", "WorkerSpec"]
