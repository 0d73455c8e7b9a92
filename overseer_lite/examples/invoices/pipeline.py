"""Last night's invoices: fetch them, add them up by customer, publish the list. Beside it stands how it is tested.

    overseer-lite run -n 4 pipeline.py --args '{"day": "2026-11-24", "out": "published"}'

`fetch` asks a service that does not always answer, so it is retried a minute later. It adds a job for each customer it
finds. `publish` writes beside the old list and then renames: whoever is killed, a reader finds the old list or the new.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import overseer_lite as overseer

if TYPE_CHECKING:
    from collections.abc import Iterator

handlers = overseer.Handlers()


class Invoices:
    """Stands for the service: four invoices a day, always the same."""

    def of(self, day: str) -> list[dict[str, Any]]:
        """Return a day's invoices."""
        amounts = [("Ada", 1200), ("Grace", 450), ("Ada", 300), ("Edsger", 80)]
        return [{"day": day, "customer": customer, "cents": cents} for customer, cents in amounts]


@contextlib.contextmanager
def context() -> Iterator[Invoices]:
    """Connect to the service: once a runner."""
    yield Invoices()


@handlers(retries=3, backoff=60, no_retry=(KeyError,))
def fetch(job: overseer.RunningJob) -> None:
    """Fetch a day's invoices, and add a job for each customer."""
    by_customer: dict[str, list[int]] = {}
    for invoice in job.context.of(job.args["day"]):
        by_customer.setdefault(invoice["customer"], []).append(invoice["cents"])
    for customer, cents in by_customer.items():
        job.add("total", name=f"total-{customer}", args={"customer": customer, "cents": cents})


@handlers
def total(job: overseer.RunningJob) -> dict[str, Any]:
    """Add up one customer's invoices."""
    return {"customer": job.args["customer"], "cents": sum(job.args["cents"])}


@handlers
def publish(job: overseer.RunningJob) -> str:
    """Publish the list, the highest total first; the old one stays until the new one is whole."""
    totals = sorted(job.results.of("total"), key=lambda found: (-found["cents"], found["customer"]))
    target = Path(job.args["out"]) / f"{job.args['day']}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(f".{job.attempt}.new")
    fresh.write_text(json.dumps(totals, indent=1), encoding="utf-8")
    os.replace(fresh, target)
    return str(target)


def graph(day: str, out: str) -> overseer.Graph:
    """Return the night's graph. `publish` waits for what `fetch` adds as well."""
    g = overseer.Graph(args={"day": day, "out": out})
    g.add("publish", dependencies=[g.add("fetch")])
    return g
