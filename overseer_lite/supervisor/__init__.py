"""The supervisor: starts n workers, replaces the dead ones at once, stops them in order, runs the monitor.

Two threads. The main one has the processes: it spawns (what ties a child to its parent's life is the forking thread),
signals, reaps, and never waits for the writer gate, since it must be able to kill a holder that stands still. The other
has the store: it buries the dead and sweeps.

    entry -> parent -> places        when a worker is to be started, or a spare
                       renewal       is the app well, before the runners import it anew
                       standstill    who stands still where nobody would miss its beats
                       store_thread  buries, sweeps
                       member        a worker process
"""

from overseer_lite.supervisor.entry import main
from overseer_lite.supervisor.parent import Supervisor, supervise
from overseer_lite.supervisor.plan import Plan

__all__ = ["Plan", "Supervisor", "main", "supervise"]
