"""Finding the dead and the silent, and putting their jobs back: by the kernel's word, never by age alone.

    1  own child's pidfd readable: clear its tree, reset its jobs. No timeout takes part.
    2  another supervisor's worker, lock free and process gone: the same.
    3  lock free, but that very process lives: kill it, if its lock file exists and names this store; then 2.
    4  another boot, lock free: reset at once.
    5  lock held and beating: nothing, however long its job takes.
    6  lock held and silent: stopped: wait a grace, then kill; else kill. Its death comes back as 1 or 2.
    7  process dead, lock held: somebody inherited it; clear again, then name the holders.

    9  of another pid namespace: lock held: reported, never reset; free for a while, and nobody writes into its output
       any more: reset.

(8, a runner that stands still, is its worker's to see.) A file of steps that cannot be read means that everything had
begun; a row that cannot be read, nothing at all.
"""

from __future__ import annotations

from overseer_lite.monitor.burial import Recovered, clear_worker
from overseer_lite.monitor.watch import INLINE, Monitor, reset_silent

__all__ = ["INLINE", "Monitor", "Recovered", "clear_worker", "reset_silent"]
