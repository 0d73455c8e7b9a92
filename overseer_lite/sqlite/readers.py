"""Who reads the store just now: told by the kernel's table of locks, without opening a file of the engine's.

A reader holds a shared lock on one of five bytes of the -shm file for as long as its transaction lasts
(sqlite.org/walformat.html, 2.3.3), and the log cannot begin anew before it lets go.
"""

from __future__ import annotations

import os
from typing import Final

from overseer_lite.liveness import tree as trees
from overseer_lite.liveness.recordlocks import record_lock_holders
from overseer_lite.sqlite import files

_READ_BYTES: Final = (123, 127)


def readers_of(path: str) -> frozenset[int]:
    """Return the pids of the other processes that read a store; whoever holds the gate writes, and is none of them.

    Those of another pid namespace are not seen.
    """
    writer = trees.flock_holder(os.path.join(files.state_directory(path), "gate"))
    return record_lock_holders(path + "-shm", *_READ_BYTES) - {os.getpid(), writer}
