"""Results: c060 to c069."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from overseer_lite.errors import NotJsonError
from overseer_lite.job import DependencyResult, Job, Status, stored
from overseer_lite.testing.contract.clauses import Clauses, needs
from overseer_lite.testing.contract.words import bring, finish, info, snapshot, submit

if TYPE_CHECKING:
    from overseer_lite.store import FullStore


class ResultClauses(Clauses):
    """Results: c060 to c069."""

    @pytest.mark.parametrize("result", [None, 0, "", False, [], {}, "done", {"rows": 3}])
    def test_c060_a_finished_job_keeps_its_result(self, store: FullStore, result: Any) -> None:
        """Empty values too; None is no result. Nothing else is left over from the attempt."""
        submit(store, Job("a"))
        before = info(store, "r/a")
        finish(store, result=result)
        assert info(store, "r/a") == before._replace(status=Status.FINISHED, attempt=1, result=result, ready=False)
        assert type(info(store, "r/a").result) is type(result)

    @pytest.mark.parametrize("result", [{1, 2}, object(), float("nan"), {1: 2}, "\0", "x" * (1 << 20)])
    def test_c061_a_result_that_is_not_json_is_refused_and_the_attempt_holds_on(
        self, store: FullStore, result: Any
    ) -> None:
        """Nothing is written: the caller still can settle."""
        attempt = bring(store, Status.STARTED)
        before = snapshot(store)
        with pytest.raises(NotJsonError):
            store.finish_job(attempt, result)
        assert snapshot(store) == before
        store.heartbeat_job(attempt)

    @needs("exchange")
    def test_c062_results_are_handed_over_in_declared_order(self, store: FullStore) -> None:
        """One for each dependency, with its name and type; null for one that has no result."""
        submit(
            store,
            Job("t", name="a"), Job("t", name="b"), Job("t", name="c", id="own"),
            Job("d", dependencies=["c", "a", "b"]),
        )  # fmt: skip
        finish(store, "r/a", {"ü": [1, "😀"]})
        finish(store, "r/b")
        finish(store, "own", 0)
        (reserved,) = store.exchange("w1", [], 1, ["d"]).jobs
        assert list(reserved.results) == [
            DependencyResult("c", "t", "0"),
            DependencyResult("a", "t", '{"ü":[1,"😀"]}'),
            DependencyResult("b", "t", None),
        ]

    @needs("exchange")
    def test_c063_a_large_result_is_handed_over_whole(self, store: FullStore) -> None:
        """Up to 1 MiB of JSON text."""
        text = "ß" * ((1 << 19) - 1)
        submit(store, Job("a"), Job("b", dependencies=["a"]))
        finish(store, "r/a", text)
        (reserved,) = store.exchange("w1", [], 1, ["b"]).jobs
        assert list(reserved.results) == [DependencyResult("a", "a", f'"{text}"')]

    @needs("exchange")
    def test_c064_results_of_another_run_are_handed_over_as_well(self, store: FullStore) -> None:
        """A dependency on a stored job hands its result over like any other."""
        bring(store, Status.FINISHED)
        submit(store, Job("x", dependencies=[stored("r/a")]), run="s")
        (reserved,) = store.exchange("w1", [], 1, ["x"]).jobs
        assert list(reserved.results) == [DependencyResult("a", "a", "1")]
