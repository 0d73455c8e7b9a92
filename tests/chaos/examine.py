"""Looks at a store from a process of its own: is the file sound, and what does its history say? Prints one JSON object.

A process of its own, since whoever closes any descriptor of a live store's file loses the locks of that process.
"""

from __future__ import annotations

import json
import sys

from overseer_lite.sqlite import engine
from overseer_lite.store import open_store


def main(path: str, *, brief: bool) -> None:
    """Print what is found; brief: not the history."""
    connection = engine.Connection(path, engine.OPEN_READWRITE)
    connection.config(engine.NO_CHECKPOINT_ON_CLOSE, 1)
    connection.set_busy_timeout(10_000)
    integrity = [row[0] for row in connection.execute("PRAGMA integrity_check").fetchall()]
    foreign_keys = connection.execute("PRAGMA foreign_key_check").fetchall()
    connection.close()
    with open_store(path) as store:  # type: ignore[attr-defined]
        history = {job.id: [list(each[:6]) + [each.failure and each.failure.message, each.signal, each.exit_code, each.output_bytes]
                            for each in store.attempts(job.id)]
                   for job in ([] if brief else store.jobs())}  # fmt: skip
        workers = [each.id for each in store.workers()]
    print(json.dumps({"integrity": integrity, "foreign_keys": foreign_keys, "history": history, "workers": workers}))


if __name__ == "__main__":
    main(sys.argv[1], brief="brief" in sys.argv[2:])
