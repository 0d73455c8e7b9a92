"""Faults on demand: what a double is to suffer, and when. In its processes and in its drain, at the named failpoints.

    d.faults.kill("exchange.after_commit", visit=2)      a worker dies right after its second commit
    with d.faults.drop_beats(attempt): ...               a worker lives, and nobody hears it
    d.faults.store_away(2.0)                             nothing can be written for two seconds
    d.faults.lose_acknowledgement()                      a commit of which nobody hears

`overseer_lite.failpoints.POINTS` has the points, and where each stands. Each fault strikes once, in whichever process
gets there first, unless it says that it lasts.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, Self

from overseer_lite import failpoints
from overseer_lite.errors import InvalidInputError, nearest
from overseer_lite.failpoints import POINTS, Word

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from overseer_lite.testing.pool import RunningAttempt

ROLES: Final = ("worker", "runner", "supervisor", "drain", "submit")
_MORTAL: Final = ("worker", "runner", "supervisor")  # processes of their own: the test survives their end


class Fault:
    """A fault that was ordered. Used by `with`, it is lifted at the end of the block."""

    __slots__ = ("_faults", "word")

    def __init__(self, faults: Faults, word: Word) -> None:
        self._faults, self.word = faults, word

    def __repr__(self) -> str:
        return f"Fault({str(self.word).partition('#')[0]!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lift()

    @property
    def struck(self) -> bool:
        """Whether it has happened (begun, if it lasts): somebody came by its point. Assert it, or the test proves little."""
        return os.path.exists(f"{self._faults.path}.{self.word.name}")

    def lift(self) -> None:
        """Let it not happen any more; one that has been lifted, or is over, stays so."""
        self._faults.lift(self)


class Faults:
    """The faults of one double: `d.faults`. What is ordered while a pool works holds from then on.

    Points are those of `overseer_lite.failpoints.POINTS`. `visit` is the n-th visit of a process since the order;
    `role` one of worker, runner, supervisor (a pool's processes), drain, submit (the test's own process, inside those
    verbs of the double), or a pid.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._ordered: list[Fault] = []
        self._count = 0

    # ---- by point

    def kill(self, point: str, *, visit: int = 1, role: str | int | None = None) -> Fault:
        """Have a process SIGKILL itself there: a worker, unless it is a runner's or a supervisor's point."""
        return self._order(point, "kill", visit=visit, role=_mortal(point, role))

    def stop(self, point: str, *, visit: int = 1, role: str | int | None = None) -> Fault:
        """Have a process SIGSTOP itself there, likewise. It holds what it holds, until somebody makes sure of it."""
        return self._order(point, "stop", visit=visit, role=_mortal(point, role))

    def stall(self, point: str, seconds: float, *, visit: int = 1, role: str | int | None = None) -> Fault:
        """Have whoever comes there first wait for so many seconds of real time."""
        return self._order(point, "stall", argument=seconds, visit=visit, role=role)

    def fail(self, point: str, *, visit: int = 1, role: str | int | None = None) -> Fault:
        """Have whoever comes there first raise FailpointError: an error that nobody has foreseen."""
        return self._order(point, "raise", visit=visit, role=role)

    # ---- by what happens

    def drop_beats(self, worker: RunningAttempt | int | None = None) -> Fault:
        """Have a worker (of an attempt, or by pid; all, if none is named) live on without a sign of life, until lifted."""
        pid = worker if isinstance(worker, int) or worker is None else worker.worker.pid
        return self._order("beat.given", "drop", role="worker" if pid is None else pid)

    def store_away(self, for_s: float | None = None, *, role: str | int | None = None) -> Fault:
        """Have every write raise StoreUnavailableError, until lifted, or in each process for so long of real time.

        Nothing is written meanwhile. Looking works on, as it does where a disk is full.
        """
        return self._order("gate.held", "away", argument=float("inf") if for_s is None else for_s, role=role)

    def lose_acknowledgement(self, of: str = "exchange", *, visit: int = 1, role: str | int | None = None) -> Fault:
        """Have one commit succeed and its caller see StoreUnavailableError, as where a connection breaks just then.

        Args:
            of: Whose: `exchange` (a worker's settling and reserving), `submit`, `recover`, `register`, `leave`, `beat`.
        """
        return self._order(f"{of}.after_commit", "away", visit=visit, role=role)

    # ---- keeping them

    def clear(self) -> None:
        """Lift all."""
        self._ordered.clear()
        self._write()

    def lift(self, fault: Fault) -> None:
        """Lift one; nothing if it was."""
        if fault in self._ordered:
            self._ordered.remove(fault)
            self._write()

    def drops_beats_of(self, pid: int) -> bool:
        """Whether a fault silences the worker of that pid."""
        return any(
            each.word.action == "drop" and each.word.point == "beat.given" and each.word.who in ("worker", str(pid))
            for each in self._ordered
        )

    @contextlib.contextmanager
    def watched(self, role: str) -> Iterator[None]:
        """Let the faults strike in this process, as one of that role, for the length of a block."""
        if not self._ordered:
            yield
            return
        failpoints.watch(self.path, role)
        try:
            yield
        finally:
            failpoints.watch(None, "")

    def _order(
        self, point: str, action: str, *, argument: float = 0.0, visit: int = 1, role: str | int | None = None
    ) -> Fault:
        if point not in POINTS:
            near = nearest(point, POINTS)
            raise InvalidInputError(
                f"There is no failpoint {point!r}."
                + (f" Did you mean {near!r}?" if near else " `overseer_lite.failpoints.POINTS` has them all.")
            )
        if isinstance(role, str) and role not in ROLES:
            raise InvalidInputError(f"Nobody has the role {role!r}. There are: {', '.join(ROLES)}; or give a pid.")
        if visit < 1 or not argument >= 0:
            raise InvalidInputError(f"A fault at visit {visit} for {argument!r} s cannot be. Visits count from 1.")
        self._count += 1
        who = "" if role is None else str(role)
        fault = Fault(self, Word(point, action, argument, visit, who, str(self._count)))
        self._ordered.append(fault)
        self._write()
        return fault

    def _write(self) -> None:
        """Write the words whole: a process never reads half of them."""
        fresh = f"{self.path}.new"
        with open(fresh, "w", encoding="utf-8") as file:
            file.write(",".join(str(fault.word) for fault in self._ordered))
        os.replace(fresh, self.path)


def _mortal(point: str, role: str | int | None) -> str | int:
    """Return who is to die or to stand still at a point; never the test's own process."""
    if role is None:
        return {"runner": "runner", "recover": "supervisor"}.get(point.partition(".")[0], "worker")
    if (isinstance(role, str) and role in ROLES and role not in _MORTAL) or role == os.getpid():
        raise InvalidInputError(f"Role {role!r} is the test's own process, which would go with it. Use a pool.")
    return role
