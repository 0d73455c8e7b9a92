"""What any store must keep: numbered clauses, one test each.

Derive a test class, give it a store, and pytest collects the clauses:

    class TestMyStore(StoreContract):
        def make_store(self, directory, clock):
            return MyStore(directory / "jobs", clock=clock, crash_limit=3)

The clauses see only the protocol of `overseer_lite.store`. Those that need more than its eleven verbs say which
capability; a store that does not declare it has them skipped, with the reason. Time is the clock's that is handed in:
no clause waits. Clauses marked `ancestor` are those of Overseer 0.9.0's own generic store tests, with two differences:
a conflicting submission is an error here, and `jobs_dead` takes a duration instead of an instant.
"""

from __future__ import annotations

from overseer_lite.testing.contract.aborts import AbortClauses
from overseer_lite.testing.contract.added import AddedClauses
from overseer_lite.testing.contract.bells import BellClauses
from overseer_lite.testing.contract.failures import FailureClauses
from overseer_lite.testing.contract.fence import FenceClauses
from overseer_lite.testing.contract.graphs import GraphClauses
from overseer_lite.testing.contract.history import HistoryClauses
from overseer_lite.testing.contract.kills import KillClauses
from overseer_lite.testing.contract.looking import LookingClauses
from overseer_lite.testing.contract.moves import MoveClauses
from overseer_lite.testing.contract.order import OrderClauses
from overseer_lite.testing.contract.processes import ProcessClauses
from overseer_lite.testing.contract.pruning import PruningClauses
from overseer_lite.testing.contract.ready import ReadyClauses
from overseer_lite.testing.contract.results import ResultClauses
from overseer_lite.testing.contract.retries import RetryClauses
from overseer_lite.testing.contract.sequences import SequenceClauses
from overseer_lite.testing.contract.times import TimeClauses
from overseer_lite.testing.contract.wishes import WishClauses
from overseer_lite.testing.contract.workers import WorkerClauses


class StoreContract(
    # pytest collects the last of them first: so they run in the order of their numbers
    SequenceClauses,
    KillClauses,
    ProcessClauses,
    PruningClauses,
    BellClauses,
    RetryClauses,
    LookingClauses,
    WorkerClauses,
    WishClauses,
    HistoryClauses,
    AddedClauses,
    OrderClauses,
    TimeClauses,
    AbortClauses,
    FailureClauses,
    ResultClauses,
    FenceClauses,
    MoveClauses,
    ReadyClauses,
    GraphClauses,
):
    """The clauses. Override `make_store`; the rest is pytest's."""
