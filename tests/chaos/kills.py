"""Processes killed: a random worker or runner, the supervisor, everything at once."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter

from overseer_lite.liveness import read_stat
from tests.chaos.judge import Evidence, judge
from tests.chaos.rig import Rig
from tests.chaos.scenario import Figures, Unit, Violation, scenario, times

READY_P99_MS = 100.0
START_P99_MS = 250.0
AGAIN_MS = 2000.0
FORCED_GROUP = 16  # in every other unit, whatever was measured: by itself a group grows little where long jobs abound
LEAST_GROUP = {False: 2, True: FORCED_GROUP // 2}  # that many at least shared a reservation; forced or not
OURS_ALONE = 0.25  # a machine busier than this with other things says nothing about our times


class Kill:
    """One kill: of which attempt, when by which clock."""

    def __init__(self, job: str, attempt: int, role: str) -> None:
        self.job, self.attempt, self.role = job, attempt, role
        self.at_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.wall_s = time.time()


def chains(unit: Unit, count: int, length: int, low_s: float, high_s: float) -> list[dict]:
    """Return chains of jobs: at any time at most `count` of them can run."""
    return [
        {
            "id": f"c{chain}-{link:03}",
            "args": {"s": round(unit.random.uniform(low_s, high_s), 3), "sub": unit.random.random() < 0.4},
            "dependencies": [f"c{chain}-{link - 1:03}"] if link else [],
        }
        for link in range(length)
        for chain in range(count)
    ]


@scenario("kills", small=1, release=100, alone=True)
def kills(unit: Unit) -> Figures:
    """SIGKILL of a random worker or runner, a hundred a unit, each while another worker is idle."""
    number = 100
    busy_before = busy_share()
    rig = Rig(unit.directory)
    try:
        rig.submit(chains(unit, 2, number // 2 + 10, 0.15, 0.35))
        started = rig.start("--drain", "-n", "4")
        rig.look_on(2.0)
        done = _kill_at_random(unit, rig, number)
        rig.finish(started, 120)
        figures, evidence = judge(rig, least=number // 2, most=len(done))
    finally:
        rig.close()
    ready, start = latencies(done, evidence)
    figures |= {"kills": len(done), "busy_before": busy_before, **times("ready", ready), **times("start", start)}
    slow = [
        f"P6: kill to {name} p99 is {figures[f'{name}_p99']} ms, over {limit:g}"
        for name, limit in (("ready", READY_P99_MS), ("start", START_P99_MS))
        if figures[f"{name}_p99"] > limit
    ]
    if slow and busy_before > OURS_ALONE:
        figures["unenforced"] = 1
        figures["not_enforced"] = f"the machine was {busy_before:.0%} busy with other things: {'; '.join(slow)}"
    elif slow:
        raise Violation(*slow, figures=figures)
    if len(done) < number:
        raise Violation(f"only {len(done)} of {number} kills could be done in time", figures=figures)
    return figures


def busy_share() -> float:
    """Return how busy the machine is with other things: the share of its CPU time that is used in a half second."""

    def look() -> tuple[int, int]:
        with open("/proc/stat", encoding="ascii") as file:
            numbers = [int(word) for word in file.readline().split()[1:9]]
        return sum(numbers), numbers[3] + numbers[4]

    total, idle = look()
    time.sleep(0.5)
    total_now, idle_now = look()
    return round(1 - (idle_now - idle) / max(1, total_now - total), 2)


def _kill_at_random(unit: Unit, rig: Rig, number: int) -> list[Kill]:
    done: list[Kill] = []
    per_job: dict[str, int] = {}
    deadline = time.monotonic() + 110
    while len(done) < number and time.monotonic() < deadline:
        time.sleep(unit.random.uniform(0.01, 0.1))
        running = rig.running()
        # An interruption limit of ten a job is right; the kills are spread so that luck does not reach it.
        targets = [event for event in running if per_job.get(event["job"], 0) < 6]
        entered = len(os.listdir(f"{rig.db}.d/bells"))
        if not targets or entered <= len(running):
            continue
        event = unit.random.choice(targets)
        role = unit.random.choice(("worker", "runner"))
        kill = Kill(event["job"], event["attempt"], role)
        if rig.kill(event["ppid"] if role == "worker" else event["pid"]):
            per_job[event["job"]] = per_job.get(event["job"], 0) + 1
            done.append(kill)
            # Whoever was killed leaves its bell until it is buried: it must not be taken for an idle one.
            rig.wait_for(lambda: event not in rig.running(), name="the killed one is dead")
            time.sleep(0.1)
    return done


@scenario("groups", small=1, release=100)
def groups(unit: Unit) -> Figures:
    """Groups of jobs that do next to nothing, long ones among them; workers and runners killed in the middle."""
    deaths = 12
    forced = unit.index % 2 == 1
    rig = Rig(unit.directory)
    killed = 0
    try:
        if forced:
            rig.env["CHAOS_GROUP"] = str(FORCED_GROUP)
        long_ones = set(unit.random.sample(range(100, 1500), 40))
        rig.submit(
            [
                {"id": f"n{number:04}", "type": "noop", "args": {"s": 0.15} if number in long_ones else {}}
                for number in range(1500)
            ]
        )
        started = rig.start("--drain", "-n", "2")
        rig.look_on(1.5)
        while killed < deaths and started.poll() is None:
            before = len(rig.events())
            enough = before + unit.random.randint(20, 110)
            rig.wait_for(lambda: len(rig.events()) > enough or started.poll() is not None, name="some more jobs")
            victims = rig.pids(unit.random.choice(("worker", "runner")))
            if victims:
                killed += rig.kill(unit.random.choice(victims))
        rig.finish(started)
        figures, evidence = judge(rig, most=killed, interrupted=killed)
    finally:
        rig.close()
    largest = Counter((row.worker, row.reserved_at) for rows in evidence.history.values() for row in rows)
    figures |= {"killed": killed, "largest_group": max(largest.values())}
    if figures["largest_group"] < LEAST_GROUP[forced]:
        raise Violation(f"the largest group was {figures['largest_group']}: groups were not used", figures=figures)
    if killed < deaths // 2:
        raise Violation(f"only {killed} kills hit: nothing is proved", figures=figures)
    return figures


def latencies(done: list[Kill], evidence: Evidence) -> tuple[list[float], list[float]]:
    """Return kill to ready (the commit that put the job back) and kill to next start, in milliseconds."""
    begins = {(e["job"], e["attempt"]): e["t_ns"] for e in evidence.events if e["event"] == "begin"}
    ready, start = [], []
    for kill in done:
        row = next((row for row in evidence.history[kill.job] if row.number == kill.attempt), None)
        if row is None or row.outcome not in ("crashed", "interrupted"):
            continue  # it finished first
        ready.append((row.ended_at - kill.wall_s) * 1e3)
        if (again := begins.get((kill.job, kill.attempt + 1))) is not None:
            start.append((again - kill.at_ns) / 1e6)
    return ready, start


@scenario("everything", small=2, release=100, alone=True)
def everything(unit: Unit) -> Figures:
    """Everything killed at once, five times a unit; running again in under two seconds, no orphan."""
    cycles = 5
    busy_before = busy_share()
    rig = Rig(unit.directory)
    again_ms = []
    killed = 0
    try:
        rig.submit(chains(unit, 3, cycles + 1, 0.25, 0.5))
        started = rig.start("-n", "2")
        rig.look_on(1.0)
        for cycle in range(cycles):
            rig.wait_for(rig.running, name="a job runs")
            time.sleep(unit.random.uniform(0, 0.25))
            roles = ["supervisor", "worker", "runner"] + (["other"] if unit.random.random() < 0.5 else [])
            before = len(rig.events())
            victims = [pid for role in roles for pid in rig.pids(role)]
            killed += sum(rig.kill(pid) for pid in victims)
            at = time.monotonic()
            started.wait()
            started = rig.start("-n", "2", *(["--drain"] if cycle == cycles - 1 else []))
            rig.wait_for(lambda: any(e["event"] == "begin" for e in rig.events()[before:]), name="a job runs again")
            again_ms.append((time.monotonic() - at) * 1e3)
        rig.finish(started)
        figures, _evidence = judge(rig, least=cycles)
    finally:
        rig.close()
    figures |= {"cycles": cycles, "killed": killed, "busy_before": busy_before, **times("again", again_ms)}
    slow = f"running again took {max(again_ms):.0f} ms, over {AGAIN_MS:g}" if max(again_ms) > AGAIN_MS else ""
    if slow and busy_before > OURS_ALONE:
        figures["unenforced"] = 1
        figures["not_enforced"] = f"the machine was {busy_before:.0%} busy with other things: {slow}"
    elif slow:
        raise Violation(slow, figures=figures)
    return figures


def _orphans(rig: Rig, beside: subprocess.Popen[bytes] | None) -> list[int]:
    """Return the workers, spares among them, that are not those of the supervisor beside."""
    stats = [read_stat(pid) for pid in rig.pids("worker")]
    return [stat.pid for stat in stats if stat is not None and (beside is None or stat.ppid != beside.pid)]


@scenario("supervisor", small=2, release=100)
def supervisor(unit: Unit) -> Figures:
    """The supervisor killed, five times a unit: its workers end their jobs and leave, another goes on."""
    cycles = 5
    rig = Rig(unit.directory)
    try:
        rig.submit(chains(unit, 3, cycles + 2, 0.1, 0.3))
        beside = rig.start("-n", "1") if unit.index % 2 else None  # a second supervisor on the same file
        for _ in range(cycles):
            first = rig.start("-n", "2")
            known = {process.pid for process in rig.processes()}
            rig.wait_for(
                lambda: any(event["ppid"] not in known for event in rig.running()) or _all_ended(rig), name="a job runs"
            )
            time.sleep(unit.random.uniform(0, 0.3))
            rig.kill(first.pid)
            first.wait()
            if unit.random.random() < 0.5:
                rig.wait_for(lambda: not _orphans(rig, beside), name="the orphaned workers left")
        if beside is not None:
            rig.wait_for(lambda: _all_ended(rig), 30, name="the second supervisor does all")
            rig.stop(beside)
        rig.drain()
        rig.wait_for(lambda: not rig.pids("worker", "runner"), name="the orphaned workers left")
        figures, _evidence = judge(rig, interrupted=cycles)
    finally:
        rig.close()
    return {**figures, "killed": cycles}


def _all_ended(rig: Rig) -> bool:
    return {event["job"] for event in rig.events() if event["event"] == "end"} >= rig.jobs.keys()
