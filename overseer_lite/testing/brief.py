"""A plugin of pytest for `test-store --brief`: a line for each clause that is broken, and one for all the rest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pytest

_CLAUSE: Final = re.compile(r"::test_(c\d+)_(\w+)")
_UNDECLARED: Final = re.compile(r"the store does not declare ([\w, ]+)")


class Brief:
    """Counts how each clause went: a clause with several cases is kept if all of them pass."""

    def __init__(self) -> None:
        self._cases: dict[tuple[str, str], list[bool]] = {}
        self._undeclared: set[str] = set()
        self._skipped: dict[str, str] = {}
        self._trouble: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what kept the clauses from being collected at all."""
        if report.failed:
            self._trouble.append(str(report.longrepr))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note one case of a clause."""
        found = _CLAUSE.search(report.nodeid)
        if found is None:
            return
        if report.skipped:
            self._skip(found[1], report.longrepr)
        elif report.failed or report.when == "call":
            self._cases.setdefault((found[1], found[2].replace("_", " ")), []).append(not report.failed)

    def _skip(self, number: str, reason: Any) -> None:
        words = str(reason[2] if isinstance(reason, tuple) else reason).removeprefix("Skipped: ")
        undeclared = _UNDECLARED.search(words)
        if undeclared is not None:
            self._undeclared.update(undeclared[1].split(", "))
        else:
            self._skipped[number] = words

    def lines(self) -> list[str]:
        """Return what there is to say, in order of the clauses' numbers."""
        broken = {clause: cases for clause, cases in sorted(self._cases.items()) if not all(cases)}
        said = [
            f"{number}  {words}" + (f" ({cases.count(False)} of {len(cases)})" if len(cases) > 1 else "")
            for (number, words), cases in broken.items()
        ]
        said += [f"{number}  not shown: {words}" for number, words in sorted(self._skipped.items())]
        closing = (
            f"{len(broken)} clause{'' if len(broken) == 1 else 's'} broken, {len(self._cases) - len(broken)} kept."
        )
        if self._undeclared:
            closing += f" Not asked for what the store does not declare: {', '.join(sorted(self._undeclared))}."
        return [*self._trouble, *said, closing]
