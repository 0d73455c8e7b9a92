"""SIGKILL at each failpoint of a store's transactions: c260 to c269."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from overseer_lite.errors import UnknownJobError
from overseer_lite.store import WorkerRecord
from overseer_lite.testing.contract.clauses import needs
from overseer_lite.testing.contract.processes import ProcessClauses, Shared, end
from overseer_lite.testing.elsewhere import ACTS, HELD, LARGE, chain

if TYPE_CHECKING:
    from collections.abc import Callable

    from overseer_lite.store import FullStore

#: The ids there may be in these clauses.
IDS: Final = ("r/a", "r/b", "r/c", "r/x", "r/y")


def _nothing(shared: Shared) -> None:
    del shared


def _submitted(shared: Shared) -> None:
    shared.store.transact_graph(chain())
    shared.clock.advance(10)


def _started(shared: Shared) -> None:
    _submitted(shared)
    assert shared.store.reserve_job("w1", "r/a") == HELD
    shared.clock.advance(10)


def _failed(shared: Shared) -> None:
    _started(shared)
    shared.store.fail_job(HELD)


def _ended(shared: Shared) -> None:
    _submitted(shared)
    shared.store.abort_job("r/a")
    shared.clock.advance(10)


def _registered(shared: Shared) -> None:
    for worker in ("w1", "w2"):
        shared.store.register(WorkerRecord(worker, 1, types=("a",))).close()
    _started(shared)


class Case(NamedTuple):
    """A verb to be killed in.

    Attributes:
        stem: The failpoints are `stem.before_commit` and `stem.after_commit`.
        before: Brings the store to where the verb makes a difference.
        needs: The capabilities it takes.
    """

    stem: str
    before: Callable[[Shared], None]
    needs: tuple[str, ...] = ()


CASES: Final[dict[str, Case]] = {
    "transact_graph": Case("submit", _nothing),
    "reserve_job": Case("exchange", _submitted),
    "heartbeat_job": Case("beat", _started),
    "finish_job": Case("exchange", _started),
    "finish_job, added": Case("exchange", _started, ("added",)),
    "fail_job": Case("exchange", _started),
    "fail_job, later": Case("exchange", _started),
    "reset_job": Case("exchange", _started),
    "abort_job, attempt": Case("exchange", _started),
    "abort_job": Case("act", _submitted),
    "exchange": Case("exchange", _started, ("exchange",)),
    "register": Case("register", _submitted, ("workers",)),
    "beat": Case("beat", _registered, ("workers",)),
    "leave": Case("leave", _registered, ("workers",)),
    "recover": Case("recover", _registered, ("workers",)),
    "request": Case("act", _started, ("requests",)),
    "retry": Case("act", _failed, ("retry",)),
    "prune": Case("act", _ended, ("runs",)),
}


def seen(store: FullStore) -> dict[str, Any]:
    """Return all that can be seen in the store, by what it can tell."""
    can = store.capabilities
    view: dict[str, Any] = {job_id: store.job_info(job_id) for job_id in IDS}
    view |= {"ready": store.jobs_ready(), "silent": store.jobs_dead(1)}
    if "history" in can:
        view["history"] = [_history(store, job_id) for job_id in IDS]
    if "workers" in can:
        view["workers"] = [worker._replace(types=tuple(worker.types)) for worker in store.workers()]
    if "requests" in can:
        view["requests"] = store.requests("w1")
    if "runs" in can:
        view["runs"] = store.runs()
    return view


def _history(store: FullStore, job_id: str) -> object:
    try:
        return store.attempts(job_id)
    except UnknownJobError:
        return None


class KillClauses(ProcessClauses):
    """SIGKILL at each failpoint of a store's transactions: c260 to c269."""

    @needs("shared", "failpoints")
    @pytest.mark.parametrize("verb", CASES)
    def test_c260_a_verb_that_is_killed_happened_whole_or_not_at_all(
        self, share: Callable[[str], Shared], verb: str
    ) -> None:
        """Killed before its commit, nothing of it is seen, and it can be said again; killed after it, all of it is seen.

        What it looks like undisturbed is seen in a third store. None of them is left locked or in need of repair.
        """
        case = CASES[verb]
        stores = {name: share(name) for name in ("undisturbed", "before_commit", "after_commit")}
        missing = sorted(set(case.needs) - stores["undisturbed"].store.capabilities)
        if missing:
            pytest.skip(f"the store does not declare {', '.join(missing)}")
        for shared in stores.values():
            case.before(shared)
        untouched = seen(stores["undisturbed"].store)
        ACTS[verb](stores["undisturbed"].store)
        done = seen(stores["undisturbed"].store)
        assert done != untouched, "the verb made no difference: nothing would be shown"
        processes = {
            point: stores[point].spawn(verb, kill_at=f"{case.stem}.{point}")
            for point in ("before_commit", "after_commit")
        }
        for point, process in processes.items():
            assert end(process) == -signal.SIGKILL, f"{verb} did not visit {case.stem}.{point}"
        assert seen(stores["before_commit"].store) == untouched
        assert seen(stores["after_commit"].store) == done
        ACTS[verb](stores["before_commit"].store)
        assert seen(stores["before_commit"].store) == done

    @needs("shared", "failpoints")
    def test_c261_who_dies_with_the_lock_of_the_writers_leaves_it(self, share: Callable[[str], Shared]) -> None:
        """The kernel takes it from the dead: the next writer waits for nobody."""
        shared = share("store")
        if end(shared.spawn("transact_graph", kill_at="gate.held")) == 0:
            pytest.skip("the store does not visit gate.held")
        assert shared.store.job_info("r/a") is None
        assert list(shared.store.transact_graph(chain()).created) == ["r/a", "r/b", "r/c"]

    @needs("shared", "failpoints")
    @pytest.mark.parametrize("point", ["install.before_commit", "install.after_commit"])
    def test_c262_a_killed_installation_is_made_good_by_the_next(
        self, share: Callable[[str], Shared], point: str
    ) -> None:
        """There is no store, or a whole one; never half of one that nobody could use."""
        shared = share("store")
        empty = shared._replace(directory=shared.directory / "new")
        empty.directory.mkdir()
        address = str(getattr(shared.store, "path", ""))
        elsewhere = address.replace(str(shared.directory), str(empty.directory))
        if end(empty.spawn("install", address=elsewhere, kill_at=point)) == 0:
            pytest.skip(f"the store does not visit {point}")
        store = self.make_store(empty.directory, empty.clock)
        store.install()
        assert store.jobs_ready() == []
        assert list(store.transact_graph(chain()).created) == ["r/a", "r/b", "r/c"]
        if hasattr(store, "close"):
            store.close()

    @needs("shared", "failpoints")
    @pytest.mark.parametrize("point", ["checkpoint.before", "checkpoint.after"])
    def test_c263_what_is_tidied_up_after_a_large_graph_is_not_needed(
        self, share: Callable[[str], Shared], point: str
    ) -> None:
        """The graph is committed by then: a death in between loses nothing of it."""
        shared = share("store")
        if end(shared.spawn("transact_graph, large", kill_at=point)) == 0:
            pytest.skip(f"the store does not visit {point} after {LARGE} jobs")
        assert shared.store.jobs_ready(limit=LARGE + 1) == [f"large/n{n}" for n in range(LARGE)]
