"""Runs the contract suite on a copy of the package in which one thing is broken; the tree itself is never touched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from overseer_lite.testing.factory import BRIEF_VARIABLE, FACTORY_VARIABLE
from tests.mutation.broken import BROKEN
from tests.mutation.rows import ROWS, Row

ROOT = Path(__file__).resolve().parents[2]
SUITE = "overseer_lite.testing.suite"
OURS = "overseer_lite.testing:sqlite_factory"
TIMEOUT_S = 600.0
#: In memory, where there is such a place: what is tried here is no promise about a disk, and the syncs take most of the time.
SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
#: What a mutant says that is no working program any more: it shows nothing about the suite.
NO_PROGRAM = re.compile(r"SQLError|SyntaxError|IndentationError|NameError|UnboundLocalError")


class Mutant(NamedTuple):
    """One thing that is broken: a row of the SQLite store, a wrapper's factory, or (neither) nothing at all."""

    what: str
    breaks: str
    row: Row | None = None
    factory: str = OURS


class Verdict(NamedTuple):
    """What the suite said: `caught` by the first clause that failed, `survived`, or `error`: the mutant is of no use."""

    mutant: Mutant
    verdict: str
    detail: str
    took_s: float


class MisfitError(Exception):
    """A row that does not fit the source any more."""


def mutants() -> list[Mutant]:
    """Return all there are: the rows, then the wrappers."""
    rows = [Mutant(row.file, row.breaks, row) for row in ROWS]
    return rows + [Mutant("wrapper", f"{words}", None, f"broken:{name}") for name, words in BROKEN.items()]


def apply(row: Row, package: Path) -> None:
    """Break that one thing in a copy of the package.

    Raises:
        MisfitError: What is to be replaced stands there never, or more than once.
    """
    path = package / "sqlite" / row.file
    text = path.read_text(encoding="utf-8")
    if text.count(row.old) != 1:
        raise MisfitError(f"{row.file}: {row.old!r} stands there {text.count(row.old)} times, not once")
    path.write_text(text.replace(row.old, row.new), encoding="utf-8")
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()  # it is told from its source by time and size alone


def judge(mutant: Mutant, select: str | None = None) -> Verdict:
    """Run the suite on one mutant, until its first failure."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="overseer-lite-mutant-", dir=SCRATCH) as scratch:
        copy = Path(scratch)
        shutil.copytree(ROOT / "overseer_lite", copy / "overseer_lite")
        shutil.copy(ROOT / "tests/mutation/broken.py", copy)
        try:
            if mutant.row is not None:
                apply(mutant.row, copy / "overseer_lite")
            verdict, detail = _run(copy, mutant.factory, select)
        except MisfitError as error:
            verdict, detail = "error", str(error)
        except subprocess.TimeoutExpired:
            verdict, detail = "error", f"the suite had not ended after {TIMEOUT_S:g} s"
    return Verdict(mutant, verdict, detail, time.monotonic() - began)


def _run(copy: Path, factory: str, select: str | None) -> tuple[str, str]:
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=short", "-p", "no:cacheprovider"]
    argv += ["-c", os.devnull, "--rootdir", str(copy), "--basetemp", str(copy / "scratch")]
    argv += ["-W", "ignore::pytest.PytestAssertRewriteWarning", *(["-k", select] if select else []), "--pyargs", SUITE]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OVERSEER", "PYTEST"))}
    env = {
        **kept,
        "PYTHONPATH": str(copy),
        FACTORY_VARIABLE: factory,
        BRIEF_VARIABLE: "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        argv,
        cwd=copy,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )
    out = done.stdout + done.stderr
    if done.returncode == 0 and " passed" in out:
        return "survived", ""
    failed = re.search(r"^FAILED .*::test_(c\d+)_(\w+)", out, re.MULTILINE)
    if done.returncode != 1 or failed is None:
        return "error", f"pytest ended with {done.returncode}: {out.strip()[-500:]}"
    broken = NO_PROGRAM.search(out)
    if broken is not None:
        return "error", f"the mutant is no working program: {broken[0]} in {failed[1]}: {out.strip()[-900:]}"
    return "caught", failed[1]
