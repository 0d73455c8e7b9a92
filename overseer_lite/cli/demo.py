"""`demo`: the example app on real input, in a store of its own that is gone afterwards; `--kill` breaks something."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.session import command, session
from overseer_lite.config import cpus
from overseer_lite.errors import OverseerError

if TYPE_CHECKING:
    from overseer_lite.cli.live import View
    from overseer_lite.job import Attempt, AttemptRecord
    from overseer_lite.store import FullStore

APP: Final = "overseer_lite.examples.stdlib_pipeline"
_KILL_FROM: Final = 0.25
_SLOW_HEARTBEAT_S: Final = 60.0  # so that nobody takes the recovery for a missed heartbeat
_REPEAT: Final = {False: 1, True: 2}


class Kill(NamedTuple):
    """A worker that was killed: when, by the wall clock, and what it was on."""

    at: float
    pid: int
    worker: str
    attempt: Attempt


@command(
    "demo",
    short_help="Run the example in a store of its own; --kill breaks something",
    example="overseer-lite demo\noverseer-lite demo --kill -n 4",
    shown=("heartbeat_interval_s", "color"),
)
@click.option("-n", "number", type=click.IntRange(1, 64), metavar="N", help="How many workers; at least 2 by default.")
@click.option("--kill", is_flag=True, help="SIGKILL a worker in the middle, and say what became of its job.")
def demo(number: int | None, kill: bool) -> int:
    """Parse the standard library's source with all workers, in a store that is removed afterwards."""
    from overseer_lite.cli.app import describe_graph
    from overseer_lite.store import open_store

    with tempfile.TemporaryDirectory(prefix="overseer-lite-demo-") as directory:
        session().overrides["db"] = f"{directory}/jobs.db"
        if kill:
            session().overrides.setdefault("heartbeat_interval_s", _SLOW_HEARTBEAT_S)
        settings = session().settings
        described, graph = describe_graph(APP, {"repeat": _REPEAT[kill]}, "demo")
        store: FullStore = open_store(settings.db)
        try:
            store.install()
            store.transact_graph(graph)
            workers = number or max(2, cpus())
            click.echo(f"{say.plural(len(graph), 'job')}, {say.plural(workers, 'worker')}, store {store.path}")
            return _carry_out(store, described.app, workers, kill=kill)
        finally:
            store.close()


def _carry_out(store: FullStore, app: str, workers: int, *, kill: bool) -> int:
    from overseer_lite.cli.live import open_view, patient
    from overseer_lite.supervisor import Plan, supervise

    view = open_view(store, "demo", color=session().settings.color)
    plan = Plan(
        store.path,
        app,
        workers,
        run="demo",
        drain=True,
        settings=session().settings,
        log_level="WARNING",
        log_file=view.log_file,
    )
    killer = _Killer(store, view) if kill else None

    def tick() -> None:
        view.tick()
        if killer is not None:
            killer.tick()

    began = time.monotonic()
    try:
        code = supervise(plan, patient(tick))
    finally:
        try:
            view.tick(last=True)
        finally:
            view.close()
    counts = store.counts("demo")
    code = code or counts.exit_code
    if code == 0:
        _print_table(store)
    click.echo(f"\n{say.counts_line(counts)} in {say.duration(time.monotonic() - began)}")
    if killer is not None:
        code = _print_kill(store, killer.kill) or code
    return code


def _print_table(store: FullStore) -> None:
    """Print what the last job printed: it is the outcome."""
    history = store.attempts("demo/report")
    if history:
        click.echo(f"\n{say.escape_output(history[-1].output.rstrip())}")


# ---- the kill --------------------------------------------------------------------------------------------------------


class _Killer:
    """Kills one worker, once a quarter of the jobs are finished and it is in the middle of one."""

    def __init__(self, store: FullStore, view: View) -> None:
        self.kill: Kill | None = None
        self._store = store
        self._view = view

    def tick(self) -> None:
        if self.kill is not None:
            return
        counts = self._store.counts("demo")
        if counts.finished < counts.total * _KILL_FROM:
            return
        from overseer_lite.cli.running import activities
        from overseer_lite.liveness import Identity, send_signal

        for activity in activities(self._store):
            if activity.attempt is None or activity.worker.identity is None or activity.output_end is not None:
                continue
            who = Identity.from_text(activity.worker.identity)
            at = time.time()
            if send_signal(who, signal.SIGKILL):
                self.kill = Kill(at, who.pid, activity.worker.id, activity.attempt)
                job = f"{activity.attempt.job_id}, attempt {activity.attempt.number}"
                self._view.note(f"SIGKILL to worker {activity.worker.id} (pid {who.pid}) in the middle of {job}")
                return


def _print_kill(store: FullStore, kill: Kill | None) -> int:
    """Print what became of the job whose worker was killed; return 1 if there is nothing to tell."""
    if kill is None:
        click.echo("No worker was caught in the middle of a job: nothing was killed.", err=True)
        return 1
    job_id = kill.attempt.job_id
    interval_s = session().settings.heartbeat_interval_s
    history = store.attempts(job_id)
    cut = next((each for each in history if each.number == kill.attempt.number), None)
    again = next((each for each in history if each.number > kill.attempt.number), None)
    click.echo(f"\nWhat the kill of worker {kill.worker} did, in ms after it (heartbeats come every {interval_s:g} s):")
    if cut is not None and again is None:
        click.echo(f"  {job_id} had just {cut.outcome.value} when its worker was killed: nothing had to run again")
        return 0
    if cut is None or again is None:
        raise OverseerError(f"Job {job_id!r} was not run again after its worker was killed.")
    for line in _kill_lines(kill, cut, again):
        click.echo(f"  {line}")
    others = [each.id for each in store.jobs(run="demo") if each.attempt > 1 and each.id != job_id]
    click.echo("  every other job ran once" if not others else f"  also run again: {', '.join(others)}")
    sys.stdout.flush()
    return 0


def _kill_lines(kill: Kill, cut: AttemptRecord, again: AttemptRecord) -> list[str]:
    job_id = kill.attempt.job_id
    return [
        f"{0:6.0f}  killed, while attempt {cut.number} of {job_id} ran",
        f"{_ms(kill, cut.ended_at):6.0f}  attempt {cut.number} reset: {cut.outcome.value}",
        f"{_ms(kill, again.reserved_at):6.0f}  attempt {again.number} began on worker {again.worker}",
        f"{_ms(kill, again.ended_at):6.0f}  attempt {again.number} {again.outcome.value}",
    ]


def _ms(kill: Kill, at: float) -> float:
    return (at - kill.at) * 1000
