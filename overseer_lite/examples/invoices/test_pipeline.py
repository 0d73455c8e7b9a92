"""How the pipeline beside it is tested: a handler alone, the whole graph, time, kills, and whatever dies when.

pip install 'overseer-lite[testing]'
pytest
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pipeline

from overseer_lite.testing import Sim, make_job, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from overseer_lite.testing import Double

DAY = "2026-11-24"
TOTALS = [{"customer": "Ada", "cents": 1500}, {"customer": "Grace", "cents": 450}, {"customer": "Edsger", "cents": 80}]


class Flaky(pipeline.Invoices):
    """The service, not answering the first few times."""

    def __init__(self, fail: int = 0) -> None:
        self.fail = fail

    def of(self, day: str) -> list[dict[str, Any]]:
        """Fail, or return a day's invoices."""
        if self.fail:
            self.fail -= 1
            raise ConnectionError("no answer")
        return super().of(day)


def published(out: Path) -> Any:
    """Return what a reader finds."""
    return json.loads((out / f"{DAY}.json").read_text(encoding="utf-8"))


# ---- a handler alone: no store, no time, no process


def test_a_customer_s_invoices_are_added_up() -> None:
    """Most tests need no more than this."""
    job = make_job("total", args={"customer": "Ada", "cents": [1200, 300]})
    assert pipeline.total(job) == {"customer": "Ada", "cents": 1500}


def test_the_highest_total_comes_first(tmp_path: Path) -> None:
    """Results of dependencies are handed over by type."""
    job = make_job("publish", args={"day": DAY, "out": str(tmp_path)}, results_of={"total": reversed(TOTALS)})
    pipeline.publish(job)
    assert published(tmp_path) == TOTALS


def test_a_job_is_added_for_each_customer() -> None:
    """What a handler adds can be looked at, and nothing is stored."""
    job = make_job("fetch", args={"day": DAY}, context=Flaky())
    pipeline.fetch(job)
    assert [added.name for added in job.added] == ["total-Ada", "total-Grace", "total-Edsger"]


# ---- the graph, and time: in this process, the clock in the test's hand


def test_the_list_is_published_last(overseer_double: Callable[..., Double], tmp_path: Path) -> None:
    """After every total, though nobody knew them when the graph was submitted."""
    d = overseer_double(pipeline.handlers, context=Flaky())
    d.submit(pipeline.graph, day=DAY, out=str(tmp_path))
    d.drain(raise_on_failure=True)
    d.expect.ran_before("total", "publish")
    assert published(tmp_path) == TOTALS


def test_a_service_that_does_not_answer_is_asked_again_in_a_minute(
    overseer_double: Callable[..., Double], tmp_path: Path
) -> None:
    """Not at once, and not for ever."""
    d = overseer_double(pipeline.handlers, context=Flaky(fail=2))
    d.submit(pipeline.graph, day=DAY, out=str(tmp_path))
    d.drain()
    assert d.job("fetch").due_in_s == 60
    for _ in range(2):
        d.clock.advance(60)
        d.drain()
    d.expect.attempts("fetch", ["failed", "failed", "finished"])
    d.expect.quiescent()


def test_any_order_will_do(overseer_double: Callable[..., Double], tmp_path: Path) -> None:
    """Customers do not depend on one another; a handler that leans on their order is found out."""
    for seed in range(5):
        d = overseer_double(pipeline.handlers, context=Flaky())
        d.submit(pipeline.graph, day=DAY, out=str(tmp_path / str(seed)))
        d.drain(seed=seed)
        assert published(tmp_path / str(seed)) == TOTALS


# ---- kills, in processes


def test_a_kill_while_it_publishes_leaves_no_half_a_list(
    overseer_double: Callable[..., Double], tmp_path: Path
) -> None:
    """The handler had ended, and nobody was told: it runs again, and writes the same."""
    d = overseer_double(pipeline.handlers)
    d.submit(pipeline.graph, day=DAY, out=str(tmp_path))
    fault = d.faults.kill("runner.ended", visit=5)  # after fetch and three totals
    with d.pool(1) as pool:
        pool.wait_quiescent()
    assert fault.struck
    d.expect.attempts("publish", ["killed", "finished"])
    assert published(tmp_path) == TOTALS
    assert verify(d.trace()) == []


def test_the_trace_of_a_night_is_as_it_was(overseer_double: Callable[..., Double], tmp_path: Path) -> None:
    """A trace can be kept beside the test: what changes in it is a change of behaviour."""
    d = overseer_double(pipeline.handlers, context=Flaky())
    d.submit(pipeline.graph, day=DAY, out=str(tmp_path))
    d.drain()
    kept = Path(__file__).with_name("night.jsonl").read_text(encoding="utf-8")
    assert d.trace().to_jsonl() == kept


def test_whatever_dies_when_the_list_is_right(tmp_path: Path) -> None:
    """Thirty nights of three workers that die, fall silent and lose acknowledgements at any step."""
    sim = Sim(pipeline.graph, pipeline.handlers, args={"day": DAY, "out": str(tmp_path)}, context=Flaky())
    for seed in range(30):
        (tmp_path / f"{DAY}.json").unlink(missing_ok=True)
        sim.run(seed)
        assert published(tmp_path) == TOTALS
