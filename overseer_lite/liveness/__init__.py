"""Dead, silent, stopped: what the kernel says of processes, and what proves each.

- **Dead** is proved, never guessed: a pidfd that became readable, `waitid`, another start time behind the pid, another
  boot id, a state of Z or X with no thread left. A worker's lock that is free says that nobody of its tree is between
  fork and exec. (`look`, `Child.exited`, `take`)
- **Silent** is suspected: the beat in a worker's file is old. It may be stopped, starved, or on a machine that was
  suspended; whoever acts on silence first makes sure. (`WorkerFile.read`)
- **Stopped** is seen: state T. It may wake at any time and go on as if nothing had happened. (`look`, `Child.stopped`)

A dead worker is not a dead tree: what its handlers started works on. Its jobs are put back only after `clear` has
proved all of it gone. SIGKILL is not yet death, and one look over /proc is no proof; see `tree`.

- `identity`: who a process is, for ever; is it alive; a signal to it and to nobody else
- `workerfile`: one file per worker: lock, heartbeat, table of steps
- `tree`: everything a worker or a runner left behind, found and proved gone
- `recordlocks`: who holds a lock on a file or on bytes of it, by the kernel's table
- `spawn`: children whose death the kernel tells, and who cannot be mistaken for others
"""

from overseer_lite.liveness.identity import (
    Identity,
    Life,
    ProcessStat,
    look,
    open_pidfd,
    read_stat,
    send_signal,
)
from overseer_lite.liveness.spawn import (
    Child,
    Exit,
    become_subreaper,
    die_with_parent,
    reap_strays,
    spawn,
    supports,
)
from overseer_lite.liveness.tree import (
    COOKIE_VARIABLE,
    Cleared,
    Tree,
    children,
    clear,
    flock_holder,
    holders,
    members,
)
from overseer_lite.liveness.workerfile import (
    Slot,
    Snapshot,
    TakenLock,
    WorkerFile,
    WorkerFileError,
    take,
)

__all__ = [
    "COOKIE_VARIABLE",
    "Child",
    "Cleared",
    "Exit",
    "Identity",
    "Life",
    "ProcessStat",
    "Slot",
    "Snapshot",
    "TakenLock",
    "Tree",
    "WorkerFile",
    "WorkerFileError",
    "become_subreaper",
    "children",
    "clear",
    "die_with_parent",
    "flock_holder",
    "holders",
    "look",
    "members",
    "open_pidfd",
    "read_stat",
    "reap_strays",
    "send_signal",
    "spawn",
    "supports",
    "take",
]
