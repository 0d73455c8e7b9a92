"""The pytest plugin: the fixture `overseer_double`, the option `--overseer-store`, and what is said of a failed test.

Loaded by entry point in every run of pytest, so it imports nothing; what it gives is imported when a test asks for it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from overseer_lite.testing.double import Double
    from overseer_lite.testing.profiles import Profile


_DOUBLES: pytest.StashKey[list[Double]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a team run its own tests on its own store."""
    parser.getgroup("overseer").addoption(
        "--overseer-store",
        metavar="PKG.MOD:FACTORY",
        help="the store that overseer_double uses: what this function of (directory, clock) returns, as for "
        "`overseer-lite test-store`; the SQLite store if not given",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Say at once, in one line, if the factory cannot be found."""
    if config.getoption("--overseer-store"):
        _factory(config)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say on which store the doubles are, where it is not the usual one."""
    name = config.getoption("--overseer-store")
    return f"overseer store: {name}" if name else None


def _factory(config: pytest.Config) -> Callable[..., Any] | None:
    name = config.getoption("--overseer-store")
    if not name:
        return None
    from overseer_lite.errors import InvalidInputError
    from overseer_lite.testing.factory import load_factory

    try:
        return load_factory(name)
    except InvalidInputError as error:
        raise pytest.UsageError(f"--overseer-store: {error}") from error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach to a failed test what its doubles know: the graph, the events, the output of the jobs."""
    report = yield
    doubles = item.stash.get(_DOUBLES, [])
    if call.when == "call" and report.failed and doubles:
        from overseer_lite.testing.aftermath import sections

        for number, double in enumerate(doubles, 1):
            which = "" if len(doubles) == 1 else f" {number}"
            try:
                report.sections += [(f"overseer double{which}: {title}", text) for title, text in sections(double)]
            except Exception as error:  # noqa: BLE001 - the test's own failure must not be lost by it
                report.sections.append((f"overseer double{which}", f"cannot be read: {type(error).__name__}: {error}"))
    return report


@pytest.fixture
def overseer_double(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> Iterator[Callable[..., Double]]:
    """Make doubles: `overseer_double(handlers, context=None, profile="local")`. `open_store()` opens the one made last.

    A test that leaves a process of a double behind fails at its end, and the process is killed.
    """
    from overseer_lite.clock import CLOCK_VARIABLE
    from overseer_lite.testing.double import Double

    doubles = request.node.stash.setdefault(_DOUBLES, [])
    with contextlib.ExitStack() as stack:

        def make(handlers: Mapping[str, Any], context: Any = None, profile: str | Profile = "local") -> Double:
            factory = _factory(pytestconfig)
            directory = tmp_path_factory.mktemp("overseer")
            double = Double(handlers, directory, context=context, factory=factory, profile=profile)
            stack.callback(double.close)
            doubles.append(double)
            if hasattr(double.store, "path"):  # a store without an address is opened by nobody else
                monkeypatch.setenv("OVERSEER_LITE_DB", double.store.path)
            # Code under test opens the store anew; by another clock, the two would take each other for another boot.
            monkeypatch.setenv(CLOCK_VARIABLE, double.clock.path)
            return double

        yield make
        if doubles:
            from overseer_lite.testing.aftermath import end_left_behind

            left = [word for double in doubles for word in end_left_behind(double)]
            if left:
                pytest.fail("The test has left behind, and they were killed:\n  " + "\n  ".join(left), pytrace=False)
