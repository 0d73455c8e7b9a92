"""Damaged files: bytes flipped, parts cut or blanked. In process: a right answer or an OverseerError, nothing else."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from typing import Any

from overseer_lite.errors import OverseerError
from overseer_lite.graph import Graph
from overseer_lite.job import Outcome, Settlement
from overseer_lite.store import WorkerRecord, open_store
from tests.chaos.judge import gather
from tests.chaos.rig import HERE, Rig
from tests.chaos.scenario import Figures, Unit, Violation, scenario

A_UNIT = 500
FILES = ("", "-wal")


@scenario("damage", small=1, release=200)
def damage(unit: Unit) -> Figures:
    """Damaged files, five hundred a unit, in a process of their own: right answer or clear error, no traceback, no crash."""
    rig = Rig(unit.directory)
    try:
        _make(rig)
        words = [sys.executable, "-m", "tests.chaos.damage", rig.db, str(unit.random.getrandbits(32)), str(A_UNIT)]
        root = os.path.dirname(os.path.dirname(HERE))
        done = subprocess.run(words, cwd=root, env=rig.env, capture_output=True, text=True, timeout=600, check=False)
        _evidence, wrong = gather(rig)  # what was copied is itself untouched
        if done.returncode != 0:
            raise Violation(f"the process that opens damaged files ended with {done.returncode}: {done.stderr[-600:]}")
        figures = json.loads(done.stdout)
    finally:
        rig.close()
    wrong = [found for found in wrong if not found.startswith("left")] + figures.pop("wrong")
    if wrong:
        raise Violation(f"{len(wrong)} of {A_UNIT}", *wrong, figures=figures)
    if not figures["refused"] or not figures["answered"]:
        raise Violation("two-sided: nothing was refused, or nothing answered", figures=figures)
    return figures


def _make(rig: Rig) -> None:
    """Make a store with everything in it, its log not yet moved into the file."""
    rig.submit(
        [
            *({"id": f"n{number}", "type": "noop"} for number in range(60)),
            *({"id": f"w{number}", "args": {"s": 0.05}, "dependencies": [f"n{number}"]} for number in range(4)),
            {"id": "bad", "type": "hostile", "args": {"kind": "huge_result"}},
        ]
    )
    rig.drain()
    more = [{"id": "long", "args": {"s": 30}}, {"id": "next", "args": {"s": 0}, "dependencies": ["long"]}]
    rig.submit([*more, {"id": "late", "args": {"s": 0}, "delay": 3600}])
    started = rig.start("-n", "1")
    rig.wait_for(rig.running, name="a job runs")
    for pid in rig.pids("supervisor", "worker", "runner", "other"):
        rig.kill(pid)
    started.wait()


def harm(chance: random.Random, data: bytearray) -> None:
    """Damage a file's bytes."""
    kind = chance.randrange(5)
    at = chance.randrange(len(data)) if chance.random() < 0.7 else chance.randrange(min(len(data), 200))
    if kind < 2:
        for _ in range(chance.choice((1, 1, 4, 16))):
            data[chance.randrange(at, min(len(data), at + 4096))] ^= 1 << chance.randrange(8)
    elif kind == 2:
        del data[at:]
    elif kind == 3:
        length = min(len(data) - at, chance.choice((1, 64, 4096)))
        data[at : at + length] = bytes(length)
    else:
        length = min(len(data) - at, chance.choice((8, 512, 4096)))
        data[at : at + length] = chance.randbytes(length)


def use(path: str) -> list[Any]:
    """Do with a store what commands and workers do, until something is refused; return what it said its jobs are."""
    with open_store(path, durability="normal") as store:  # type: ignore[attr-defined]
        full: Any = store
        full.install()
        full.counts()
        jobs = full.jobs()
        said = [(job.id, job.type, str(job.status), job.attempt, job.failures) for job in jobs]
        for job in jobs[-8:]:
            full.job_info(job.id)
            full.attempts(job.id)
        full.runs()
        for worker in full.workers():
            full.recover(worker.id, {})
        bell = full.register(WorkerRecord("harm", os.getpid(), os.getpid(), None, app="x", types=("work", "noop")))
        bell.close()
        got = full.exchange("harm", [], 4, ("work", "noop"))
        full.exchange("harm", [Settlement(job.attempt, Outcome.FINISHED, "1") for job in got.jobs], 0, ("work", "noop"))
        graph = Graph()
        graph.add("work", name="new")
        full.transact_graph(graph)
        full.leave("harm")
        full.database.checkpoint(truncate=True)
    return said


def main(source: str, seed: int, count: int) -> None:
    """Damage copies of a store one by one, and print what came of it."""
    chance = random.Random(seed)
    images = {suffix: open(source + suffix, "rb").read() for suffix in FILES if os.path.exists(source + suffix)}  # noqa: SIM115
    place = f"{source}.harm"
    refused: Counter[str] = Counter()
    answered = unharmed = 0
    wrong = []
    truth = use(_copy(place, images))
    for number in range(count):
        victim = chance.choice([suffix for suffix, image in images.items() if image])
        data = bytearray(images[victim])
        harm(chance, data)
        path = _copy(place, {**images, victim: bytes(data)})
        try:
            unharmed += use(path) == truth
        except OverseerError as error:
            refused[type(error).__name__] += 1
            if not str(error) or "\n" in str(error):
                wrong.append(f"damage {number} to jobs.db{victim}: not one clear line: {str(error)[:200]!r}")
        except Exception as error:  # noqa: BLE001 - what else it raises is the finding
            wrong.append(f"damage {number} to jobs.db{victim}: {type(error).__name__}: {str(error)[:160]}")
        else:
            answered += 1
    shutil.rmtree(place, ignore_errors=True)
    total = sum(refused.values())
    print(
        json.dumps(
            {"damaged": count, "refused": total, "answered": answered, "unharmed": unharmed, **refused, "wrong": wrong}
        )
    )


def _copy(place: str, images: dict[str, bytes]) -> str:
    """Make a store of these files in a new directory; return its path."""
    shutil.rmtree(place, ignore_errors=True)
    os.mkdir(place, 0o700)
    path = os.path.join(place, "jobs.db")
    for suffix, image in images.items():
        with open(os.open(path + suffix, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(image)
    return path


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
