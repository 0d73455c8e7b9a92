"""The N-th state-changing system call of each of our programs: there it is killed, or the call fails."""

from __future__ import annotations

import json
import os
import shutil
import signal

from overseer_lite.liveness import read_stat
from tests.chaos import traced
from tests.chaos.judge import judge
from tests.chaos.rig import Rig
from tests.chaos.scenario import Figures, Skipped, Unit, Violation, scenario

A_UNIT = 10
LATE = 0.75  # before that share of what a process opens, its interpreter only starts; a release run takes those as well
DONE = {0, 3}  # done, or the store cannot be used: said in one line
#: In the small run: of which role and fault, one after the other; which call and which number is left to chance.
SAMPLE = (
    ("worker", "KILL"), ("monitor", "KILL"), ("runner", "KILL"), ("worker", "EIO"), ("command", "KILL"),
    ("supervisor", "KILL"), ("worker", "ENOSPC"), ("monitor", "EIO"), ("worker", "EMFILE"), ("command", "EIO"),
    ("monitor", "KILL"), ("worker", "KILL"), ("supervisor", "KILL"), ("runner", "KILL"), ("monitor", "ENOSPC"),
)  # fmt: skip


def _plan(directory: str, *, release: bool) -> traced.Plan:
    return traced.plan_of(directory, "syscalls", traced.CALM_RUNS if release else 1, _calm)


def every_point(directory: str) -> tuple[Figures, list[str]]:
    """Return how many points were visited in a whole run, and which never were."""
    if not traced.is_planned(directory):  # no unit has asked for one: strace is not there
        return {}, []
    plan = _plan(directory, release=True)
    return {"points": len(plan.points), "visited": len(plan.visited)}, plan.missing()


@scenario("syscalls", small=3, release=400, closing=every_point)
def syscalls(unit: Unit) -> Figures:
    """SIGKILL, EIO, ENOSPC, EMFILE at the N-th state-changing system call of each program, ten a unit (strace)."""
    if shutil.which("strace") is None:
        raise Skipped("strace is not installed")
    plan = _plan(os.path.dirname(unit.directory), release=unit.release)
    rig = Rig(unit.directory, {"heartbeat_interval_s": 0.5, "tolerance": 100})
    reached = gave_up = 0
    try:
        rig.submit([{"id": "first", "args": {"s": 0.01}}])
        rig.look_on(1.5)
        for number in range(A_UNIT):
            point = plan.next() if unit.release else _sample(unit, plan, number)
            trace = os.path.join(unit.directory, f"trace-{number}")
            gave_up += _do(rig, point.role, trace, point.arguments(), f"s{number}", point) == 3
            if traced.injected(trace):
                reached += 1
                plan.visit(point)
        rig.drain()
        rig.wait_for(lambda: not rig.pids("worker", "runner"), name="the orphaned workers left")
        figures, _evidence = judge(rig, interrupted=reached, least=A_UNIT // 3)
    finally:
        rig.close()
    return {**figures, "injected": reached, "gave_up": gave_up, "beyond": A_UNIT - reached}


def _sample(unit: Unit, plan: traced.Plan, number: int) -> traced.Point:
    role, fault = SAMPLE[(unit.index * A_UNIT + number) % len(SAMPLE)]
    found = [point for point in plan.points if (point.role, point.fault) == (role, fault)]
    call = unit.random.choice(sorted({point.call for point in found}))
    of_call = [point for point in found if point.call == call]
    least = LATE * max(point.number for point in of_call) if fault == "EMFILE" else 1
    return unit.random.choice([point for point in of_call if point.number >= least])


def _calm(rig: Rig, role: str, trace: str, arguments: list[str], number: int) -> None:
    code = _do(rig, role, trace, arguments, f"calm{number}", None)
    if code != 0:
        raise Violation(f"{role}: a calm run ended with {code}: {rig.said()[-800:]}")
    rig.drain()


def _do(rig: Rig, role: str, trace: str, arguments: list[str], prefix: str, point: traced.Point | None) -> int:
    """Have a program of a role do its work under strace; return its exit code, or that of the command around it."""
    env = {"CHAOS_STRACE": json.dumps([role, trace, *arguments])}
    jobs = _jobs(prefix)
    if role == "command":
        return _submit(rig, jobs, env)
    rig.submit(jobs)
    code = _bury(rig, trace, arguments) if role == "monitor" else rig.start("--drain", "-n", "2", env=env).wait(60)
    killed = point is not None and point.fault == traced.KILL and role in ("supervisor", "monitor")
    if code not in DONE and not (killed and code == -signal.SIGKILL):
        raise Violation(f"{point or 'calm'}: the worker command ended with {code}: {rig.said()[-800:]}")
    return code


def _bury(rig: Rig, trace: str, arguments: list[str]) -> int:
    """Kill a worker in the middle of a job, with strace at the thread that buries it."""
    started = rig.start("--drain", "-n", "2")

    def long_ones() -> list[dict]:
        """Under this supervisor only: a worker that outlived the one before may still be at an earlier long job."""
        running = [event for event in rig.running() if event["job"].endswith("-long")]
        return [e for e in running if (stat := read_stat(e["ppid"])) is not None and stat.ppid == started.pid]

    event = rig.wait_for(long_ones, name="the long job runs")[0]
    with traced.attached(rig, started.pid, trace, arguments):
        rig.kill(event["ppid"])
        return started.wait(60)


def _jobs(prefix: str) -> list[dict]:
    jobs = [{"id": f"{prefix}-n{number}", "type": "noop"} for number in range(20)]
    jobs += [{"id": f"{prefix}-{number}", "args": {"s": 0.03 * number}} for number in range(3)]
    jobs += [{"id": f"{prefix}-long", "args": {"s": [0.6, 0.1]}}]
    return [*jobs, {"id": f"{prefix}-last", "args": {"s": 0}, "dependencies": [job["id"] for job in jobs[-5:]]}]


def _submit(rig: Rig, jobs: list[dict], env: dict[str, str]) -> int:
    """All or nothing is stored; what was acknowledged is all there."""
    done = rig.cli("submit", "-", input=rig.lines(jobs), env=env)
    if done.returncode not in (0, 3, -signal.SIGKILL):
        raise Violation(f"a submit ended with {done.returncode}: {done.stderr[-300:]}")
    stored = {job["id"] for job in rig.ask("jobs")} & {job["id"] for job in jobs}
    if len(stored) != len(jobs) and (stored or done.returncode == 0):
        raise Violation(f"a submit ended with {done.returncode} and {len(stored)} of {len(jobs)} jobs stored (P3)")
    rig.submit(jobs)
    return done.returncode
