"""Every failpoint, with a kill: the process dies exactly there, the visit is proved by the failpoints' own log."""

from __future__ import annotations

import os
import signal

from overseer_lite.failpoints import LOG_VARIABLE, POINTS, VARIABLE
from tests.chaos.judge import judge
from tests.chaos.rig import Rig, examine
from tests.chaos.scenario import Figures, Unit, Violation, scenario

SHARES = 4
BULK = 20_000  # from here on a submit ends with a checkpoint
COMMANDS = ("install", "submit", "act", "checkpoint")
OFTEN = ("gate", "exchange", "runner", "worker.reserved", "worker.given", "worker.outcome")


def role_of(point: str) -> str:
    """Return whose point it is."""
    room = point.partition(".")[0]
    if room in COMMANDS:
        return "command"
    return {"recover": "supervisor", "runner": "runner"}.get(room, "worker")


@scenario("failpoints", small=SHARES, release=50 * SHARES)
def failpoints(unit: Unit) -> Figures:
    """Every failpoint with a kill, a quarter of them a unit; later rounds at a later visit."""
    share, round_ = unit.index % SHARES, unit.index // SHARES
    points = list(POINTS)[share::SHARES]
    rig = Rig(unit.directory, {"heartbeat_interval_s": 0.2, "tolerance": 100})
    expected: dict[str, str] = {}
    try:
        for number, point in enumerate(sorted(points, key=lambda name: not name.startswith("install"))):
            at = 1 + round_ % 5 if point.startswith(OFTEN) else 1
            _Point(unit, rig, point, at, f"p{number}").kill(expected)
            if number == 0:
                rig.look_on(1.5)  # there is a store from now on
        figures, _evidence = judge(rig, expected, interrupted=len(points))
    finally:
        rig.close()
    return {**figures, "points": len(points)}


class _Point:
    """One point, and what has to happen for it to be visited."""

    def __init__(self, unit: Unit, rig: Rig, point: str, at: int, prefix: str) -> None:
        self.unit, self.rig, self.point, self.at, self.prefix = unit, rig, point, at, prefix
        self.log = os.path.join(rig.directory, f"visits-{prefix}")
        role = role_of(point)
        self.env = {
            VARIABLE: f"{point}=kill@{at}" + ("" if role == "command" else f"%{role}"),
            LOG_VARIABLE: self.log,
            "CHAOS_ONCE": "1",
        }

    def kill(self, expected: dict[str, str]) -> None:
        room = self.point.partition(".")[0]
        if room == "checkpoint":
            self._bulk()
        elif room in ("install", "submit"):
            self._submit()
        elif room == "act":
            self._act(expected)
        else:
            self._work()
        if self.visits() < self.at:
            raise Violation(f"failpoint {self.point} was visited {self.visits()} times, not {self.at}")

    def visits(self) -> int:
        """Return how often the process that visited it most did so."""
        try:
            with open(self.log, encoding="ascii") as file:
                lines = [line for line in file if line.startswith(f"{self.point} ")]
        except FileNotFoundError:
            return 0
        return max((lines.count(line) for line in set(lines)), default=0)

    def _jobs(self) -> list[dict]:
        chain = [
            {
                "id": f"{self.prefix}-c{link}",
                "args": {"s": round(self.unit.random.uniform(0.1, 0.3), 3), "sub": link == 1},
                "dependencies": [f"{self.prefix}-c{link - 1}"] if link else [],
            }
            for link in range(3)
        ]
        return [*chain, *({"id": f"{self.prefix}-n{number}", "type": "noop"} for number in range(30))]

    def _died(self, *words: str, input: str | None = None, rig: Rig | None = None) -> None:
        done = (rig or self.rig).cli(*words, input=input, env=self.env)
        if done.returncode != -signal.SIGKILL:
            raise Violation(f"{words[0]} with {self.point}=kill ended with {done.returncode}: {done.stderr[-300:]}")

    def _submit(self) -> None:
        """An unacknowledged submit is stored whole or not at all, and saying it again is right either way."""
        rig, jobs = self.rig, self._jobs()
        self._died("submit", "-", input=rig.lines(jobs))
        if not self.point.startswith("install"):
            stored = {job["id"] for job in rig.ask("jobs")} & {job["id"] for job in jobs}
            wanted = len(jobs) if self.point.endswith("after_commit") else 0
            if len(stored) != wanted:
                raise Violation(f"{self.point}: {len(stored)} of {len(jobs)} jobs are stored, {wanted} should be (P3)")
        rig.submit(jobs)
        rig.drain()

    def _act(self, expected: dict[str, str]) -> None:
        rig, (job, dependent) = self.rig, (f"{self.prefix}-a", f"{self.prefix}-b")
        rig.submit([{"id": job, "args": {"s": 0}}, {"id": dependent, "args": {"s": 0}, "dependencies": [job]}])
        self._died("abort", job)
        status = {found["id"]: found["status"] for found in rig.ask("jobs")}
        wanted = "aborted" if self.point.endswith("after_commit") else "unstarted"
        if (status[job], status[dependent]) != (wanted, wanted):
            raise Violation(f"{self.point}: the jobs are {status[job]} and {status[dependent]}, should be {wanted}")
        if wanted == "unstarted" and rig.cli("abort", job).returncode != 0:
            raise Violation("the second abort was refused")
        expected.update({job: "aborted", dependent: "aborted"})

    def _bulk(self) -> None:
        rig = Rig(os.path.join(self.rig.directory, self.prefix))
        lines = rig.lines({"id": f"b{number}"} for number in range(BULK))
        self._died("submit", "-", input=lines, rig=rig)
        if rig.cli("submit", "-", input=lines).returncode != 0:
            raise Violation("the second submit was refused")
        unstarted = rig.ask("status")["jobs"]["unstarted"]
        found = examine(rig.db, rig.env, brief=True)
        if unstarted != BULK or found["integrity"] != ["ok"]:
            raise Violation(f"{self.point}: {unstarted} of {BULK} jobs are stored; {found['integrity'][:3]}")

    def _work(self) -> None:
        rig = self.rig
        rig.submit(self._jobs())
        room, _, name = self.point.partition(".")
        begun = len(rig.events())
        started = rig.start("--drain", "-n", "2", env=self.env)
        if room == "recover" or name in ("runner_died", "runner_cleared", "take_back"):
            victim = "worker" if room == "recover" else "runner"
            rig.wait_for(
                lambda: [e for e in rig.running() if e["job"].startswith(f"{self.prefix}-c")], name="a job runs"
            )
            event = rig.running()[-1]
            rig.kill(event["ppid"] if victim == "worker" else event["pid"])
        if room == "recover":
            rig.finish(started, code=-signal.SIGKILL)
            rig.drain()
        else:
            rig.finish(started)
        if len(rig.events()) == begun:
            raise Violation("nothing ran")
