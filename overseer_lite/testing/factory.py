"""Factories of stores for the contract suite: ours, one found by its name, and the process that runs the suite on it.

`overseer-lite test-store pkg.mod:factory` starts this module's `main` in a process of its own, so that neither pytest
nor anybody's store is imported by the command line.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from overseer_lite.errors import InvalidInputError, OverseerError
from overseer_lite.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from overseer_lite.clock import Clock
    from overseer_lite.store import FullStore

#: Where `overseer_lite.testing.suite` finds the name of the factory it is to run on.
FACTORY_VARIABLE: Final = "OVERSEER_LITE_STORE_FACTORY"
#: Set where only the names of broken clauses are asked for.
BRIEF_VARIABLE: Final = "OVERSEER_LITE_SUITE_BRIEF"
SUITE: Final = "overseer_lite.testing.suite"

_BAD_INPUT: Final = 2
_TESTS_FAILED: Final = 1


def sqlite_factory(directory: Path | str, clock: Clock | None, *, crash_limit: int = 3) -> FullStore:
    """Return a SQLite store in that directory, by that clock, installed; the one left there if there is one.

    Args:
        directory: Must exist; the store is `jobs.db` in it.
        clock: None: the machine's.
        crash_limit: The suite asks for 0 as well, where a factory has this argument.
    """
    store = open_store(str(Path(directory) / "jobs.db"), clock=clock, crash_limit=crash_limit)
    store.install()
    return store


def load_factory(name: str) -> Callable[..., Any]:
    """Return the factory of that name, `package.module:function`.

    Raises:
        InvalidInputError: There is none, it cannot be imported, or it cannot be called.
    """
    module_name, separator, attribute = name.partition(":")
    if not (module_name and separator and attribute):
        raise InvalidInputError(f"Factory {name!r} is not of the form package.module:function. Write it so.")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidInputError(f"Factory {name!r}: importing {module_name!r} raised {what}. Correct it.") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InvalidInputError(f"Factory {name!r}: module {module_name!r} has no {attribute!r}. Correct the name.")
        found = getattr(found, part)
    if not callable(found):
        raise InvalidInputError(f"Factory {name!r} is {type(found).__name__}. Give a function of (directory, clock).")
    factory: Callable[..., Any] = found
    return factory


def check_factory(name: str) -> None:
    """Have a factory make one store, so that what is wrong with it is said in a line, not by every clause.

    Raises:
        InvalidInputError: It cannot be found, raises, or returns no store.
    """
    from overseer_lite.testing.clock import ManualClock

    factory = load_factory(name)
    with tempfile.TemporaryDirectory(prefix="overseer-lite-") as directory:
        try:
            store = factory(Path(directory), ManualClock())
        except Exception as error:
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise InvalidInputError(f"Factory {name!r} raised {what}. It is called with (directory, clock).") from error
        if not hasattr(store, "capabilities"):
            raise InvalidInputError(
                f"Factory {name!r} returned {type(store).__name__}, which has no `capabilities`. Return an installed store."
            )
        if hasattr(store, "close"):
            store.close()


def run_suite(name: str, select: str | None = None, *, brief: bool = False) -> int:
    """Run the contract suite on a factory's stores, in this process; return 0 if every clause is kept, else 1.

    Args:
        select: Only the clauses that match, as pytest's `-k`.
        brief: Say no more than which clauses are broken, a line each.

    Raises:
        InvalidInputError: pytest is not installed, the factory is of no use, or nothing was selected.
    """
    if importlib.util.find_spec("pytest") is None:
        raise InvalidInputError(
            "The contract suite needs pytest. Install the extra: pip install 'overseer-lite[testing]'."
        )
    check_factory(name)
    import pytest

    os.environ[FACTORY_VARIABLE] = name
    with tempfile.TemporaryDirectory(prefix="overseer-lite-") as root:
        # Nobody's settings of pytest take part: the suite means the same wherever it is run.
        own = ["-c", os.devnull, "--rootdir", root, "-p", "no:cacheprovider"]
        own += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # the factory is imported before pytest starts
        told = None
        if brief:
            from overseer_lite.testing.brief import Brief

            os.environ[BRIEF_VARIABLE] = "1"
            told = Brief()
            own += ["-p", "no:terminal"]
        else:
            own += ["--tb=short", "-q", "-rfEs"]
        argv = [*own, *(["-k", select] if select is not None else []), "--pyargs", SUITE]
        code = pytest.main(argv, plugins=[told] if told is not None else [])
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise InvalidInputError(f"No clause matches -k {select!r}. Nothing was tested.")
    if code == pytest.ExitCode.USAGE_ERROR:
        raise InvalidInputError(f"pytest does not understand -k {select!r}. Nothing was tested.")
    if told is not None:
        sys.stdout.write("".join(f"{line}\n" for line in told.lines()))
    return 0 if code == pytest.ExitCode.OK else _TESTS_FAILED


def main(arguments: list[str]) -> None:
    """Start as the process that `test-store` spawned; the one argument is JSON: the factory's name, a selection, brief or not."""
    name, select, brief = json.loads(arguments[0])
    sys.path.insert(0, os.getcwd())
    try:
        code = run_suite(name, select, brief=brief)
    except OverseerError as error:
        sys.stderr.write(f"{error}\n")
        code = _BAD_INPUT
    sys.exit(code)
