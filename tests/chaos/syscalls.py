"""The N-th state-changing system call of a worker or a submit: there it is killed, or the call fails."""

from __future__ import annotations

import json
import os
import shutil
import signal

from tests.chaos.judge import judge
from tests.chaos.rig import Rig
from tests.chaos.scenario import Figures, Skipped, Unit, Violation, scenario

A_UNIT = 10
#: By role and fault: which calls, and how many of each there are, as counted in such a run. Each call is counted by
#: itself: were all counted as one, the interpreter's own start would be all that is ever reached.
CALLS: dict[tuple[str, str], dict[str, int]] = {
    ("worker", "KILL"): {
        "pwrite64": 120, "fcntl": 115, "write": 90, "flock": 25, "fdatasync": 13, "sendto": 8, "unlink": 3, "clone3": 2,
        "mknodat": 1, "fallocate": 1,
    },
    ("worker", "EIO"): {"pwrite64": 120, "fdatasync": 13, "fallocate": 1},
    ("worker", "ENOSPC"): {"pwrite64": 120, "fallocate": 1, "mknodat": 1},
    ("worker", "EMFILE"): {"openat": 390},
    ("command", "KILL"): {"pwrite64": 60, "fcntl": 55, "fdatasync": 10, "flock": 4, "write": 2},
    ("command", "EIO"): {"pwrite64": 60, "fdatasync": 10},
    ("command", "ENOSPC"): {"pwrite64": 60},
}  # fmt: skip
POINTS = [
    (role, fault, call, n)
    for (role, fault), calls in CALLS.items()
    for call in calls
    for n in range(1, calls[call] + 1)
]
SMALL_EMFILE = 250  # the interpreter's own start opens that many; a release run takes those as well
ENDS = {0, 3}  # done, or the store cannot be used: said in one line


def _point(unit: Unit, number: int) -> tuple[str, str, str, int]:
    """Return role, fault, call and N: in the release run every one in turn, else by chance."""
    if unit.release:
        return POINTS[(unit.index * A_UNIT + number) % len(POINTS)]
    faults = ("KILL", "EIO", "KILL", "ENOSPC", "KILL", "EMFILE", "KILL")
    fault = faults[(unit.index * A_UNIT + number) % len(faults)]
    role = "command" if number % 5 == 4 and fault != "EMFILE" else "worker"
    calls = CALLS[role, fault]
    call = unit.random.choice(sorted(calls))
    return role, fault, call, unit.random.randint(SMALL_EMFILE if fault == "EMFILE" else 1, calls[call])


@scenario("syscalls", small=3, release=400)
def syscalls(unit: Unit) -> Figures:
    """SIGKILL, EIO, ENOSPC, EMFILE at the N-th state-changing system call, ten a unit (strace)."""
    if shutil.which("strace") is None:
        raise Skipped("strace is not installed")
    rig = Rig(unit.directory, {"heartbeat_interval_s": 0.5, "tolerance": 100})
    reached = gave_up = 0
    try:
        rig.submit([{"id": "first", "args": {"s": 0.01}}])
        rig.look_on(1.5)
        for number in range(A_UNIT):
            role, fault, call, n = _point(unit, number)
            trace = os.path.join(unit.directory, f"trace-{number}")
            deed = "signal=KILL" if fault == "KILL" else f"error={fault}"
            words = [role, trace, "-e", f"trace={call}", "-e", f"inject={call}:{deed}:when={n}"]
            env = {"CHAOS_STRACE": json.dumps(words)}
            jobs = _jobs(unit, f"s{number}")
            if role == "command":
                _submit(rig, jobs, env)
            else:
                rig.submit(jobs)
                started = rig.start("--drain", "-n", "2", env=env)
                code = started.wait(60)
                if code not in ENDS:
                    raise Violation(f"{fault} at {call} {n}: the worker command ended with {code}: {rig.said()[-800:]}")
                gave_up += code == 3
            reached += _injected(trace)
        rig.drain()
        figures, _evidence = judge(rig, interrupted=reached, least=A_UNIT // 3)
    finally:
        rig.close()
    return {**figures, "injected": reached, "gave_up": gave_up, "beyond": A_UNIT - reached}


def _jobs(unit: Unit, prefix: str) -> list[dict]:
    jobs = [{"id": f"{prefix}-n{number}", "type": "noop"} for number in range(20)]
    jobs += [{"id": f"{prefix}-{number}", "args": {"s": round(unit.random.uniform(0, 0.1), 3)}} for number in range(3)]
    return [*jobs, {"id": f"{prefix}-last", "args": {"s": 0}, "dependencies": [job["id"] for job in jobs[-4:]]}]


def _submit(rig: Rig, jobs: list[dict], env: dict[str, str]) -> None:
    """All or nothing is stored; what was acknowledged is all there."""
    done = rig.cli("submit", "-", input=rig.lines(jobs), env=env)
    if done.returncode not in (0, 3, -signal.SIGKILL):
        raise Violation(f"a submit ended with {done.returncode}: {done.stderr[-300:]}")
    stored = {job["id"] for job in rig.ask("jobs")} & {job["id"] for job in jobs}
    if len(stored) != len(jobs) and (stored or done.returncode == 0):
        raise Violation(f"a submit ended with {done.returncode} and {len(stored)} of {len(jobs)} jobs stored (P3)")
    rig.submit(jobs)


def _injected(trace: str) -> bool:
    with open(trace, encoding="utf-8", errors="replace") as file:
        said = file.read()
    return "killed by SIGKILL" in said or "(INJECTED)" in said
