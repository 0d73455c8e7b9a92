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
SMALL_N, RELEASE_N = 160, 700
CHANGING = (
    "write,pwrite64,ftruncate,fallocate,fdatasync,fsync,unlink,unlinkat,rename,link,mkdir,mknod,mknodat,flock,fcntl,"
    "sendto,kill,pidfd_send_signal,clone,clone3,vfork,openat"
)
#: What is done at the N-th of which calls. Errors are those that these calls can really end with.
FAULTS = {
    "KILL": (CHANGING, "signal=KILL"),
    "EIO": ("pwrite64,pread64,fdatasync,fsync,ftruncate", "error=EIO"),
    "ENOSPC": ("pwrite64,write,ftruncate,fallocate", "error=ENOSPC"),
    "EMFILE": ("openat,socket,socketpair,pipe2,dup,fcntl", "error=EMFILE"),
}
ENDS = {0, 3}  # done, or the store cannot be used: said in one line


def _order(unit: Unit, number: int) -> tuple[str, str, int]:
    """Return role, fault and N: in the release run every N in turn, else by chance."""
    count = unit.index * A_UNIT + number
    fault = ("KILL", "EIO", "KILL", "ENOSPC", "KILL", "EMFILE")[count % 6]
    role = "command" if count % 5 == 4 and fault != "EMFILE" else "worker"
    if unit.release:
        return role, fault, 1 + count // 6 % RELEASE_N
    low = 120 if fault == "EMFILE" else 1  # its first hundred are the interpreter's own start
    return role, fault, unit.random.randint(low, low + (40 if role == "command" or fault == "EIO" else SMALL_N))


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
            role, fault, n = _order(unit, number)
            trace = os.path.join(unit.directory, f"trace-{number}")
            calls, deed = FAULTS[fault]
            if role == "command":
                calls = calls.replace(
                    "pwrite64,write,", "pwrite64,"
                )  # with no room for an error's words, none are said
            words = [role, trace, "-e", f"trace={calls}", "-e", f"inject={calls}:{deed}:when={n}"]
            env = {"CHAOS_STRACE": json.dumps(words)}
            jobs = _jobs(unit, f"s{number}")
            if role == "command":
                _submit(rig, jobs, env)
            else:
                rig.submit(jobs)
                started = rig.start("--drain", "-n", "2", env=env)
                code = started.wait(60)
                if code not in ENDS:
                    raise Violation(f"{fault} at {n}: the worker command ended with {code}: {rig.said()[-800:]}")
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
