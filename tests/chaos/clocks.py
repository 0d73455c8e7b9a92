"""Clocks that step by years, a machine that sleeps, a reboot, and processes of another pid namespace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

from overseer_lite.clock import CLOCK_VARIABLE
from overseer_lite.testing.clock import SharedClock
from tests.chaos.judge import Evidence, judge
from tests.chaos.kills import chains
from tests.chaos.rig import Rig, holds
from tests.chaos.scenario import Figures, Skipped, Unit, Violation, scenario

YEAR_S = 365.25 * 86_400
STEPS = 5
LIVES = 4  # of which every other one ends with a reboot
SETTINGS = {"heartbeat_interval_s": 0.4, "tolerance": 4}
FOUND_AFTER_S = 30
LAST_PID = "/proc/sys/kernel/ns_last_pid"


def _with_clock(unit: Unit) -> tuple[Rig, SharedClock]:
    path = os.path.join(unit.directory, "clock")
    clock = SharedClock.create(path, running=True)
    return Rig(unit.directory, SETTINGS, {CLOCK_VARIABLE: path}), clock


@scenario("clock-steps", small=1, release=20)
def clock_steps(unit: Unit) -> Figures:
    """The wall clock steps by years, both ways, and the machine sleeps for days: no false death, no endless delay."""
    rig, clock = _with_clock(unit)
    try:
        delayed = [{"id": f"late-{number}", "args": {"s": 0.05}, "delay": 2 + number} for number in range(3)]
        rig.submit([*chains(unit, 2, 12, 0.2, 0.5), *delayed])
        started = rig.start("--drain", "-n", "2")
        rig.look_on(1.5)
        for number in range(STEPS):
            rig.wait_for(rig.running, name="a job runs")
            if number % 3 == 2:
                clock.suspend(unit.random.uniform(3600, 10 * 86_400))
            else:
                clock.step_wall(unit.random.uniform(1, 20) * YEAR_S * (1 if number % 3 else -1))
            time.sleep(unit.random.uniform(0.3, 0.8))
        rig.finish(started, FOUND_AFTER_S)
        figures, evidence = judge(rig, interrupted=STEPS)
    finally:
        rig.close()
        clock.close()
    _no_false_death(evidence)
    return {**figures, "steps": STEPS}


def _no_false_death(evidence: Evidence) -> None:
    harmed = [job for job, rows in evidence.history.items() if [row.outcome for row in rows] != ["finished"]]
    if harmed:
        raise Violation(f"P8: attempts were cut short though nobody died: {harmed[:5]}")


@scenario("reboot", small=1, release=20)
def reboot(unit: Unit) -> Figures:
    """All dead, in this boot or another: their jobs come back, and who has a dead worker's pid now is left alone."""
    rig, clock = _with_clock(unit)
    bystanders: list[subprocess.Popen[bytes]] = []
    reused = {"boot": 0, "reboot": 0}
    try:
        rig.submit([*chains(unit, 2, 12, 0.2, 0.5), {"id": "late", "args": {"s": 0}, "delay": 5}])
        for number in range(LIVES):
            started = rig.start("-n", "2")
            # In this life: what the last one began looks as if it ran where its runner's pid is somebody's again.
            rig.wait_for(lambda: {e["ppid"] for e in rig.running()} & set(rig.pids("worker")), name="a job runs")
            time.sleep(unit.random.uniform(0, 0.3))
            workers = rig.pids("worker")
            for pid in rig.pids("supervisor", "worker", "runner", "other"):
                rig.kill(pid)
            started.wait()
            rig.wait_for(lambda: not rig.processes(), name="all are dead")
            kind = ("boot", "reboot")[number % 2]
            if kind == "reboot":
                clock.reboot(off_s=unit.random.choice((0.0, 60.0, YEAR_S)))
            rig.wait_for(lambda: not os.path.exists(f"/proc/{workers[0]}"), name="init has reaped the dead")
            bystanders.append(_bystander(workers[0]))
            reused[kind] += bystanders[-1].pid == workers[0]
        rig.drain(timeout_s=FOUND_AFTER_S)
        figures, _evidence = judge(rig, least=LIVES)
        if any(bystander.poll() is not None for bystander in bystanders):
            raise Violation("P8: a stranger was killed")
    finally:
        rig.close()
        clock.close()
        for bystander in bystanders:
            bystander.kill()
            bystander.wait()
    figures |= {"lives": LIVES, "pid_reused": reused["boot"], "pid_reused_after_reboot": reused["reboot"]}
    if not all(reused.values()) and os.access(LAST_PID, os.W_OK):
        raise Violation("no stranger got the pid of a dead worker: nothing is proved", figures=figures)
    return figures


def _bystander(pid: int) -> subprocess.Popen[bytes]:
    """Start a stranger, by the pid of a dead worker and in a group of that number, if this kernel lets us choose."""
    for _ in range(20):
        try:
            with open(LAST_PID, "w", encoding="ascii") as file:
                file.write(str(pid - 1))
        except OSError:
            pass  # then it is any stranger
        started = subprocess.Popen(["/bin/sleep", "300"], start_new_session=True, env={})
        if started.pid == pid:
            return started
        last = started
        if _ < 19:
            last.kill()
            last.wait()
    return last


@scenario("namespace", small=1, release=20)
def namespace(unit: Unit) -> Figures:
    """Workers of two pid namespaces on one store: each supervisor sees to its own; one namespace is killed whole."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode
    ):
        raise Skipped("pid namespaces cannot be made here (unshare, root)")
    rig = Rig(unit.directory, SETTINGS)
    killed = 0
    try:
        rig.submit(chains(unit, 4, 24, 0.2, 0.5))
        here = rig.start("--drain", "-n", "2")
        rig.wait_for(lambda: len(rig.ask("status")["workers"]) == 2, name="two workers here, a spare not counted")
        ours = _namespace(here.pid)
        there = rig.start("--drain", "-n", "2", wrap=unshare)
        rig.look_on(1.5)
        foreign = rig.wait_for(lambda: _running_in(rig, ours, here=False), name="a job runs in the other namespace")[0]
        rig.kill(foreign["ppid_here"], signal.SIGSTOP)
        time.sleep(2.5)  # beyond the tolerance
        if not rig.is_ours(foreign["ppid_here"]):
            raise Violation("P8: a worker of another namespace was killed for its silence")
        rig.kill(foreign["ppid_here"], signal.SIGCONT)
        for number in range(4):
            victims = rig.wait_for(lambda: _running_in(rig, ours, here=bool(number % 2)) or [None], name="a job runs")
            if victims[0] is not None:
                killed += rig.kill(unit.random.choice(victims)["ppid_here"])
            time.sleep(0.3)
        killed += _kill_whole(rig, ours)
        there.wait(10)
        rig.finish(here)
        figures, _evidence = judge(rig, least=2)
    finally:
        rig.close()
    return {**figures, "killed": killed, "namespaces_killed": 1}


def _kill_whole(rig: Rig, ours: str) -> int:
    """End the other namespace by its first process, in the middle of its jobs: its supervisor buries nobody."""
    rig.wait_for(lambda: _running_in(rig, ours, here=False), name="a job runs in the other namespace")
    for pid in rig.pids("supervisor"):
        if _namespace(pid) != ours:
            return int(rig.kill(pid))
    raise Violation("the other namespace has no supervisor")


def _namespace(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/pid")


def _running_in(rig: Rig, ours: str, *, here: bool) -> list[dict]:
    """Return workers with a runner at work, of this namespace or of the other, by the pids they have here.

    The log has the pids of the other namespace's own count; who is at work, and no spare, is told by its job's lock.
    """
    found = []
    for pid in [pid for pid in rig.pids("runner") if holds(pid, rig.directory)]:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
            if (_namespace(pid) == ours) == here:
                found.append({"ppid_here": parent})
        except OSError:
            continue
    return found
