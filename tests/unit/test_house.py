"""Rules of the house that neither ruff nor import-linter can say, read off the source itself.

Each rule is a function from one parsed file to its offences, and each is first shown a file that breaks it.
"""

from __future__ import annotations

import ast
import functools
import re
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from overseer_lite.failpoints import POINTS

ROOT = Path(__file__).resolve().parents[2]


class File(NamedTuple):
    """One parsed source file; its path is relative to the repository."""

    path: str
    tree: ast.Module


@functools.cache
def parsed(path):
    """Return one file, parsed once for all rules; its name stands in a SyntaxError."""
    name = path.relative_to(ROOT).as_posix()
    return File(name, ast.parse(path.read_bytes(), name))


def files(*folders):
    """Return the parsed Python files below some folders; that there are any is part of every rule."""
    found = [parsed(path) for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(found) >= 3, f"only {len(found)} files in {folders}: the rule would hold of nothing"
    return found


@pytest.fixture(scope="module", autouse=True)
def _everything_parsed():
    """Parse the whole source once, before the first rule looks at it."""
    files("overseer_lite", "tests", "bench")


def missing_rooms():
    """Return the rooms that pyproject.toml gives a floor and that do not stand yet."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (layers,) = (c["layers"] for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    rooms = {room for layer in layers for room in re.findall(r"\w+", layer)}
    assert {"cli", "worker", "errors"} < rooms
    there = {path.stem for path in (ROOT / "overseer_lite").glob("*.py")}
    there |= {path.parent.name for path in (ROOT / "overseer_lite").glob("*/__init__.py")}
    return sorted(rooms - there)


def offences(rule, *folders):
    """Return what a rule objects to, as `path:line what`."""
    return [f"{file.path}:{line} {what}" for file in files(*folders) for line, what in rule(file)]


# ---- the rules -------------------------------------------------------------------------------------------------------


def imports_sqlite3(file):
    """Yield imports of the standard library's SQLite: two copies in one process break each other's locks."""
    for node in ast.walk(file.tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [argument.value for argument in dynamic_import(node)]
        yield from ((node.lineno, name) for name in names if str(name).partition(".")[0] in {"sqlite3", "_sqlite3"})


def dynamic_import(node):
    """Yield the literal names given to importlib.import_module, __import__ and pytest.importorskip."""
    if isinstance(node, ast.Call) and called(node) in {"import_module", "__import__", "importorskip"}:
        yield from (argument for argument in node.args[:1] if isinstance(argument, ast.Constant))


def called(call):
    """Return the last part of the name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def prints(file):
    """Yield calls of print outside the rooms that speak to people."""
    if not file.path.startswith(("overseer_lite/cli/", "overseer_lite/examples/", "bench/")):
        for node in ast.walk(file.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield node.lineno, "print()"


STATEMENT = re.compile(
    r"\s*(SELECT\s+.+|INSERT\s+(OR\s+\w+\s+)?INTO\b|UPDATE\s+\w+\s+SET\b|DELETE\s+FROM\b|PRAGMA\s|BEGIN\s+IMMEDIATE|"
    r"(CREATE|DROP|ALTER)\s+(TABLE|INDEX|VIEW|TRIGGER)\b|VACUUM\b|ATTACH\b|WITH\s+\w+.*\bAS\s*\()",
    re.DOTALL,
)


def speaks_sql(file):
    """Yield SQL statements outside the store's own room; docstrings may talk about them."""
    if file.path.startswith("overseer_lite/sqlite/"):
        return
    prose = {
        id(node.body[0].value)
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(file.tree):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in prose else None
        if isinstance(text, str) and STATEMENT.match(text):
            yield node.lineno, text.strip()[:60]


def sleeps(file):
    """Yield calls of sleep in tests and their fixtures, `wait_until` aside; apps that tests run may take their time.

    `asyncio.sleep(0)` does not sleep: it lets others of the loop have a turn.
    """
    name = Path(file.path).name
    if not name.startswith("test_") and name != "conftest.py":
        return
    allowed = {
        id(inner)
        for node in ast.walk(file.tree)
        if file.path == "tests/conftest.py" and isinstance(node, ast.FunctionDef) and node.name == "wait_until"
        for inner in ast.walk(node)
    }
    for node in ast.walk(file.tree):
        if (
            isinstance(node, ast.Call)
            and called(node) == "sleep"
            and id(node) not in allowed
            and ast.unparse(node) != "asyncio.sleep(0)"
        ):
            yield node.lineno, "sleep()"


#: Words for which design.md has another; those that are also ordinary English or another library's are left out.
BANNED = {
    "workflow": "graph",
    "workflows": "graphs",
    "requeue": "reset",
    "requeued": "reset",
    "rescue": "reset",
    "rescued": "reset",
    "zombie": "dead, silent",
    "zombies": "dead, silent",
    "reaper": "monitor",
    "middleware": "harness",
    "claim": "reserve",
    "claimed": "reserve",
    "workhorse": "runner",
    "ack": "settle",
    "acked": "settled",
}


def misnames(file):
    """Yield names this code gives to things (not those it uses of others) that hold a word the house does not use."""
    for node in ast.walk(file.tree):
        for name in given_names(node):
            for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name):
                if word.lower() in BANNED:
                    yield node.lineno, f"{name}: say {BANNED[word.lower()]!r}"


def given_names(node):
    """Yield the names a node defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr


BREACHES = {
    imports_sqlite3: "def f():\n    from sqlite3 import connect",
    prints: "print('hello')",
    speaks_sql: "'''SELECT in a docstring is none.'''\nx = f'UPDATE job SET status = {1}'",
    sleeps: "import time\ntime.sleep(1)",
    misnames: "class RequeuedJob: pass",
}


@pytest.mark.parametrize("rule", BREACHES, ids=lambda rule: rule.__name__)
def test_each_rule_objects_to_a_file_that_breaks_it(rule):
    """A rule that objects to nothing would keep nothing."""
    lines = [line for line, _ in rule(File("overseer_lite/test_x.py", ast.parse(BREACHES[rule])))]

    assert lines == [BREACHES[rule].count("\n") + 1]


def test_nobody_imports_sqlite3():
    """Tests and benches included: closing a file it has open would drop the locks of the engine from the wheel."""
    assert offences(imports_sqlite3, "overseer_lite", "tests", "bench") == []


def test_only_the_command_line_examples_and_benches_print():
    """Everything else returns, raises or logs; what a library prints nobody can turn off."""
    assert offences(prints, "overseer_lite", "bench") == []


def test_sql_stands_in_the_store_s_own_room_only():
    """Whoever looks for what touches the file finds it in one place."""
    assert offences(speaks_sql, "overseer_lite") == []


def test_no_test_sleeps():
    """A test that sleeps is slow on a fast machine and wrong on a slow one: it waits for a condition instead."""
    assert offences(sleeps, "tests") == []


def test_names_use_the_words_of_the_house():
    """One word for one notion, in code as in the docs."""
    assert offences(misnames, "overseer_lite") == []


# ---- failpoints ------------------------------------------------------------------------------------------------------


def visited_points():
    """Return the points the code visits: written out, or (a store's transactions) as `write("stem")` and a suffix."""
    points, stems, suffixes = set(), set(), set()
    calls = [
        (file, node) for file in files("overseer_lite") for node in ast.walk(file.tree) if isinstance(node, ast.Call)
    ]
    for file, call in calls:
        match called(call), call.args:
            case "hit", [ast.Constant(value=point)]:
                points.add(point)
            case "hit", [ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value=suffix)])]:
                suffixes.add(suffix)
            case "hit", _:
                pytest.fail(f"{file.path}:{call.lineno}: a failpoint whose name nobody can search for")
            case "write", [ast.Constant(value=str(stem))] if stem.isidentifier() and file.path.startswith(
                "overseer_lite/sqlite/"
            ):
                stems.add(stem)
    return points | {stem + suffix for stem in stems for suffix in suffixes}


def test_every_failpoint_the_code_visits_is_in_the_table():
    """A point outside the table could be armed by nobody, and visiting it while another is armed would raise."""
    visited = visited_points()

    assert "gate.held" in visited
    assert sorted(visited - POINTS.keys()) == []


def test_every_failpoint_of_the_table_is_visited_by_the_code():
    """Chaos arms each point of the table; one that nobody visits would prove nothing."""
    if missing := missing_rooms():
        pytest.skip(f"not all rooms stand yet: {', '.join(missing)}")

    assert sorted(POINTS.keys() - visited_points()) == []


# ---- what an import costs --------------------------------------------------------------------------------------------

HEAVY = ("click", "rich", "apsw", "filelock", "asyncio", "dataclasses", "inspect", "sentry_sdk")
IMPORT = f"""
import sys, time
before, begun = set(sys.modules), time.perf_counter()
import overseer_lite
took_s = time.perf_counter() - begun
print(took_s, *sorted(set({HEAVY}) & (sys.modules.keys() - before)))
"""


def import_afresh():
    """Return how long `import overseer_lite` took in a fresh interpreter, and which heavy modules it brought."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True, cwd=ROOT)
    took_s, *brought = done.stdout.split()
    return float(took_s), brought


def test_importing_the_library_brings_nothing_heavy():
    """A runner imports it before its first job, and a user's program need not pay for a command line it does not use."""
    assert import_afresh()[1] == []


@pytest.mark.slow
def test_importing_the_library_takes_less_than_60_ms():
    """The median of five, bytecode already compiled."""
    import_afresh()

    assert statistics.median(import_afresh()[0] for _ in range(5)) < 0.060
