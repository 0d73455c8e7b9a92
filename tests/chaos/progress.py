"""What of a run has been done, kept so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
import threading
from collections import defaultdict
from typing import Any


class Progress:
    """What has been done: one JSON line a unit, appended when the unit ends.

    Attributes:
        done: By row and unit. A unit that failed is among them until the run ends: the next one does it again.
        failures: By row, what was said of each unit that failed, ever: passing later does not undo it.
    """

    def __init__(self, path: str, seed: int, kind: str) -> None:
        self._path = path
        self._key = {"seed": seed, "kind": kind}
        self._lock = threading.Lock()
        self.done: dict[tuple[str, int], dict[str, Any]] = {}
        self.failures: defaultdict[str, list[str]] = defaultdict(list)
        for line in self._whole_lines():
            entry = json.loads(line)
            if {"seed": entry["seed"], "kind": entry["kind"]} == self._key:
                self._note(entry)
        for key in [key for key, entry in self.done.items() if entry["outcome"] == "failed"]:
            del self.done[key]  # done again, and not forgotten

    def _whole_lines(self) -> list[str]:
        """Return the lines there are. One that was cut off when the run was is cut away, or the next would continue it."""
        if not os.path.exists(self._path):
            return []
        with open(self._path, "r+", encoding="utf-8") as file:
            text = file.read()
            whole = text[: text.rfind("\n") + 1]
            file.truncate(len(whole.encode()))
        return whole.splitlines()

    def _note(self, entry: dict[str, Any]) -> None:
        self.done[entry["scenario"], entry["unit"]] = entry
        if entry["outcome"] == "failed":
            said = entry["words"].strip().splitlines() or ["nothing"]
            self.failures[entry["scenario"]].append(
                f"unit {entry['unit']}, version {entry.get('commit', '')}: {said[-1]}"
            )

    def add(self, entry: dict[str, Any]) -> None:
        """Append a unit's outcome and figures."""
        with self._lock, open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({**self._key, **entry}) + "\n")
            file.flush()
            self._note(entry)
