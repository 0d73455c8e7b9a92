"""Processes that stand still (SIGSTOP): from a tenth of a second to beyond the tolerance, also while holding the gate."""

from __future__ import annotations

import os
import signal
import time

from overseer_lite.failpoints import LOG_VARIABLE, VARIABLE
from tests.chaos.judge import judge
from tests.chaos.kills import chains
from tests.chaos.rig import Rig
from tests.chaos.scenario import Figures, Unit, Violation, scenario

A_UNIT = 19
TOLERANCE_S = 1.2


@scenario("stops", small=2, release=50)
def stops(unit: Unit) -> Figures:
    """SIGSTOP of workers, runners and supervisors for 0.1 to 1.5 s, and one beyond the tolerance and its grace."""
    rig = Rig(unit.directory, {"heartbeat_interval_s": TOLERANCE_S / 3, "tolerance": 3})
    stopped = 0
    try:
        rig.submit(chains(unit, 3, 45, 0.1, 0.4))
        started = rig.start("--drain", "-n", "3")
        rig.look_on(1.5)
        rig.wait_for(rig.running, name="a job runs")
        beyond = _beyond(unit, rig)
        for _ in range(A_UNIT):
            if started.poll() is not None:
                break
            stopped += _stop_for_a_while(unit, rig)
        rig.finish(started, 90)
        figures, _evidence = judge(rig, interrupted=stopped, least=A_UNIT // 2)
    finally:
        rig.close()
    return {**figures, "stopped": stopped + 1, "killed_after_s": beyond}


def _stop_for_a_while(unit: Unit, rig: Rig) -> int:
    role = unit.random.choice(("worker", "worker", "runner", "runner", "supervisor"))
    victims = rig.pids(role)
    if not victims:
        return 0
    victim = unit.random.choice(victims)
    if not rig.kill(victim, signal.SIGSTOP):
        return 0
    time.sleep(unit.random.choice((0.1, 0.2, 0.3, 0.5, 1.0, 1.5)))
    rig.kill(victim, signal.SIGCONT)
    time.sleep(unit.random.uniform(0, 0.2))
    return 1


def _beyond(unit: Unit, rig: Rig) -> float:
    """Stop a worker or a runner for good: the others go on meanwhile, and in the end it is killed."""
    role = ("runner", "worker")[unit.index % 2]
    event = rig.wait_for(rig.running, name="a job runs")[-1]
    victim = event["pid"] if role == "runner" else event["ppid"]
    begun = time.monotonic()
    if not rig.kill(victim, signal.SIGSTOP):
        return 0.0
    before = len(rig.events())
    # Until the worker is killed nobody has its job: whatever begins meanwhile is begun by the others.
    rig.wait_for(lambda: sum(e["event"] == "begin" for e in rig.events()[before:]) >= 3, 8, "the others go on")
    rig.wait_for(lambda: not rig.is_ours(victim), 25, f"the {role} that stands still is killed")
    return round(time.monotonic() - begun, 1)


@scenario("stopped-gate", small=2, release=50)
def stopped_gate(unit: Unit) -> Figures:
    """A worker, or a submit, that stands still while it holds the writer gate: it is killed, and the rest goes on."""
    rig = Rig(unit.directory, {"heartbeat_interval_s": 30, "tolerance": 3})
    log = os.path.join(unit.directory, "visits")
    try:
        rig.submit([*chains(unit, 2, 4, 0.05, 0.2), *({"id": f"n{n}", "type": "noop"} for n in range(50))])
        at = unit.random.randint(1, 4)
        env = {VARIABLE: f"gate.held=stop@{at}", LOG_VARIABLE: log, "CHAOS_ONCE": "1"}
        begun = time.monotonic()
        if unit.index % 2 == 0:
            env[VARIABLE] += "%worker"
            env["CHAOS_FIRST"] = os.path.join(unit.directory, "first")
            started = rig.start("--drain", "-n", "2", env=env)
        else:
            started = rig.start("-n", "2")
            rig.wait_for(rig.running, name="a job runs")
            env[VARIABLE] = "gate.held=stop"
            jobs = [{"id": "late", "args": {"s": 0}}]
            done = rig.cli("submit", "-", input=rig.lines(jobs), env=env)
            if done.returncode != -signal.SIGKILL:
                raise Violation(f"the submit that stood still ended with {done.returncode}")
            rig.submit(jobs)
            rig.wait_for(
                lambda: any(e["event"] == "end" and e["job"] == "late" for e in rig.events()), name="late runs"
            )
            rig.stop(started)
            started = rig.start("--drain", "-n", "2")
        rig.finish(started, 40)
        took_s = round(time.monotonic() - begun, 1)
        # One that holds the gate at its first write is not in the store yet: whoever watches starts is the first to kill it.
        words = ("it stood still holding the writer gate", "stands still (state T) before it has entered; it is killed")
        if not os.path.exists(log) or not any(each in rig.said() for each in words):
            raise Violation("nobody was killed for standing still with the gate")
        figures, _evidence = judge(rig, interrupted=1)
    finally:
        rig.close()
    return {**figures, "stopped": 1, "took_s": took_s}
