"""Handlers that nobody vetted: each kind of evil has its right outcome and its right words, and harms nobody else."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from tests.chaos.judge import CUT_SHORT, Evidence, judge
from tests.chaos.rig import Rig
from tests.chaos.scenario import Figures, Unit, Violation, scenario, times

A_KIND = 2
SILENT_S = 2.0


class Right(NamedTuple):
    """How the first attempt of a kind must end, what its failure must say, and how the job ends."""

    outcome: str
    words: str = ""
    status: str = "finished"


KINDS = {
    "fork_and_finish": Right("finished"),
    "fork_and_raise": Right("failed", "after a fork"),
    "subprocess_and_raise": Right("failed", "after a subprocess"),
    "daemonise_and_raise": Right("failed", "after a daemon"),
    "empty_environment": Right("failed", "after a daemon without environment"),
    "hop": Right("failed", "after hopping"),
    "hop_by_exec": Right("failed", "after hopping"),
    "close_all": Right("crashed", "closed the channel to its worker"),
    "close_streams": Right("finished"),
    "read_store": Right("finished"),
    "fill_stdout": Right("finished"),
    "stop_runner": Right("crashed", "stood still"),
    "stop_worker": Right("interrupted", "its worker died"),
    "kill_worker": Right("interrupted", "its worker died"),
    "kill_group": Right("crashed", "SIGKILL"),
    "exit_now": Right("crashed", "code 3"),
    "system_exit": Right("failed", "sys.exit(4)"),
    "segfault": Right("crashed", "SIGSEGV"),
    "thread_and_raise": Right("failed", "after a thread"),
    "thread_and_finish": Right("finished"),
    "garble": Right("crashed", "nonsense"),
    "ignore_signals": Right("finished"),
    "recurse": Right("failed", "recursion"),
    "huge_result": Right("failed", "MiB", "failed"),
}
ENDLESS = {"endless": Right("failed", "timeout of 1 s")}


@scenario("hostile", small=2, release=250)
def hostile(unit: Unit) -> Figures:
    """Hostile handlers, each kind twice: the right outcome and words, nobody else harmed, nothing left."""
    # Alone in its runner each has one right end. In groups, every other unit, the evil of one cuts short what ended
    # before it and is not settled, or began beside it: then only the promises and the ends of jobs are certain.
    alone = unit.index % 2 == 0
    rig = Rig(unit.directory, {"heartbeat_interval_s": 0.5, "tolerance": 3}, {"CHAOS_GROUP": "1"} if alone else None)
    jobs = [
        {"id": f"{kind}-{number}", "type": "hostile", "args": {"kind": kind, "hop_s": 2.0, "hops": 60}}
        for kind in KINDS
        for number in range(A_KIND)
    ]
    jobs += [{"id": f"endless-{number}", "type": "endless"} for number in range(A_KIND)]
    jobs += [{"id": f"innocent-{number}", "args": {"s": 0.05}} for number in range(20)]
    unit.random.shuffle(jobs)
    try:
        rig.submit(jobs)
        started = rig.start("--drain", "-n", "3")
        rig.look_on(1.5)
        rig.finish(started, 120)
        expected = {f"{kind}-{number}": right.status for kind, right in KINDS.items() for number in range(A_KIND)}
        figures, evidence = judge(
            rig, expected, least=A_KIND * sum(right.outcome in CUT_SHORT for right in KINDS.values())
        )
    finally:
        rig.close()
    wrong = []
    if alone:
        wrong += [found for kind, right in {**KINDS, **ENDLESS}.items() for found in _wrong(evidence, kind, right)]
    harmless = {"finished"} if alone else {"finished", *CUT_SHORT}
    wrong += [
        f"innocent job {job} was harmed: {[row.outcome for row in rows]}"
        for job, rows in evidence.history.items()
        if job.startswith("innocent") and not {row.outcome for row in rows} <= harmless
    ]
    evil = A_KIND * len({**KINDS, **ENDLESS})
    figures |= {"hostile": evil, "told_one_by_one": evil if alone else 0}
    if wrong:
        raise Violation(*wrong, figures=figures)
    return figures


def _wrong(evidence: Evidence, kind: str, right: Right) -> list[str]:
    wrong = []
    for number in range(A_KIND):
        rows = evidence.history[f"{kind}-{number}"]
        first = rows[0]
        if first.outcome != right.outcome:
            wrong.append(f"{kind}: attempt 1 {first.outcome} ({first.failure}), should have {right.outcome}")
        elif right.words not in (first.failure or ""):
            wrong.append(f"{kind}: the words are {first.failure!r}, without {right.words!r}")
        elif len(rows) != (1 if right.outcome == "finished" or right.status == "failed" else 2):
            wrong.append(f"{kind}: {len(rows)} attempts: {[row.outcome for row in rows]}")
    return wrong


@scenario("interpreter", small=1, release=50)
def interpreter(unit: Unit) -> Figures:
    """Handlers that hold the interpreter for long: beats never pause for over two seconds, nothing is reset."""
    hold_s = 60.0 if unit.release else 10.0
    rig = Rig(unit.directory, {"heartbeat_interval_s": 0.25, "tolerance": 8})
    longest = [0.0]
    end = threading.Event()
    try:
        rig.submit(
            [{"id": f"hold-{n}", "type": "hostile", "args": {"kind": "hold", "hold_s": hold_s}} for n in range(2)]
        )
        started = rig.start("--drain", "-n", "2")
        rig.wait_for(rig.running, name="a job runs")

        def watch() -> None:
            while not end.wait(0.5):
                for worker in rig.ask("status")["workers"]:
                    longest[0] = max(longest[0], worker["silent_s"])

        watcher = threading.Thread(target=watch)
        watcher.start()
        begun = time.monotonic()
        try:
            rig.finish(started, 5 * hold_s)
        finally:
            end.set()
            watcher.join()
        held_s = time.monotonic() - begun
        figures, _evidence = judge(rig, least=0)  # two-sided in its own way: see below
    finally:
        rig.close()
    figures |= {"held_s": round(held_s, 1), **times("silent", [1e3 * longest[0]])}
    if figures["attempts"] != 2 or held_s < 0.5 * hold_s:
        raise Violation(
            f"{figures['attempts']} attempts in {held_s:.1f} s, should be 2 in at least {hold_s:g}", figures=figures
        )
    if longest[0] > SILENT_S:
        raise Violation(f"a beat came {longest[0]:.1f} s late", figures=figures)
    return figures
