"""`python -m tests.mutation`: break the store in one place after another, and see that the contract suite finds it.

Prints a table and, last, `N of N caught`. Exit code 0: all were; 1: one survived; 2: a row does not fit the source any
more, a mutant is no working program, or the suite fails on the store as it is.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from tests.mutation import harness
from tests.mutation.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = harness.ROOT / "docs/testing.md"
FIGURE = re.compile(r"^Of \d+ breaks .*\.$", re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants that are asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "-k", metavar="WORDS", default="", help="only mutants in whose file or promise these words stand"
    )
    parser.add_argument("-j", type=int, default=os.cpu_count() or 1, metavar="N", help="so many at a time")
    parser.add_argument(
        "--record", action="store_true", help="write the figure into docs/testing.md, if all are caught"
    )
    options = parser.parse_args(arguments)
    chosen = [each for each in harness.mutants() if options.k in f"{each.what} {each.breaks} {each.factory}"]
    if not chosen:
        print(f"No mutant has {options.k!r} in its file or promise.", file=sys.stderr)
        return 2
    sound = harness.judge(harness.Mutant("as it is", "nothing is broken: every clause passes"))
    if sound.verdict != "survived":
        print(f"The suite fails on the store as it is: {sound.detail}", file=sys.stderr)
        return 2
    print(f"The store as it is keeps every clause ({sound.took_s:.0f} s). {len(chosen)} mutants:", flush=True)
    verdicts = []
    with ThreadPoolExecutor(options.j) as pool:
        for done in as_completed([pool.submit(harness.judge, mutant) for mutant in chosen]):
            verdicts.append(done.result())
            show(verdicts[-1])
    caught = sum(verdict.verdict == "caught" for verdict in verdicts)
    print(f"{caught} of {len(verdicts)} caught")
    if caught == len(verdicts):
        if options.record and not options.k:
            record(len(verdicts))
        return 0
    return 2 if any(verdict.verdict == "error" for verdict in verdicts) else 1


def show(verdict: harness.Verdict) -> None:
    """Print a line of the table."""
    mutant = verdict.mutant
    where = mutant.what if mutant.row is not None else mutant.factory
    by = verdict.detail if verdict.verdict == "caught" else "-"
    print(f"{verdict.verdict:8} {by:5} {verdict.took_s:5.1f} s  {where:18} {mutant.breaks}", flush=True)
    if verdict.verdict == "error":
        print(f"         {verdict.detail}", flush=True)


def record(count: int) -> None:
    """Write the figure, with today's date, into the page."""
    today = dt.datetime.now(dt.UTC).date()
    line = (
        f"Of {count} breaks ({len(ROWS)} of one line in the SQLite store, {count - len(ROWS)} wrappers with one broken "
        f"verb) the suite caught {count} on {today}."
    )
    text = PAGE.read_text(encoding="utf-8")
    if len(FIGURE.findall(text)) != 1:
        raise SystemExit(f"{PAGE} has not one line of the form {FIGURE.pattern!r}.")
    PAGE.write_text(FIGURE.sub(line, text), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
