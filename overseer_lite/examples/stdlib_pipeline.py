"""What does the standard library import, how long are its functions, and how many of them are documented?

The pipeline behind `overseer-lite demo`, and the example to copy. Its input is real: the source of the standard library
on this machine, some six hundred files. One job a package parses them, three merge and rank, the last one prints:

    parse-asyncio   parse-email   ...   parse-modules-1   ...
          |              |                     |
          +--------------+----------+----------+
                         |          |          |
                     importing  functions  documented
                         |          |          |
                         +----------+----------+
                                    |
                                  report

    overseer-lite run -n 4 overseer_lite/examples/stdlib_pipeline.py
    overseer-lite run -n 4 overseer_lite/examples/stdlib_pipeline.py --args '{"source": "~/project"}'
"""

from __future__ import annotations

import ast
import heapq
import os
import sysconfig
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import overseer_lite as overseer

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = 10
SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
MODULE_JOBS = 8

handlers = overseer.Handlers()


# ---- the graph: found by looking at the disk, once, when it is submitted ---------------------------------------------


def graph(source: str | None = None, repeat: int = 1) -> overseer.Graph:
    """Return one parsing job a package, three that rank what those found, and the report.

    Args:
        source: The folder to look at; the standard library's unless given.
        repeat: How often to parse each file: a knob to make the work longer.
    """
    root = Path(source or sysconfig.get_path("stdlib")).expanduser().resolve()
    g = overseer.Graph(args={"source": str(root), "repeat": repeat})  # every job sees these; its own args win
    parses = [
        g.add("parse", name=f"parse-{name}", args={"package": name, "files": files})
        for name, files in shares(root).items()
    ]
    rankings = [g.add(ranking, dependencies=parses) for ranking in ("importing", "functions", "documented")]
    g.add("report", dependencies=[*parses, *rankings])
    return g


def shares(root: Path) -> dict[str, list[str]]:
    """Deal the files out: modules that belong to no package over a few shares of equal size, then a share a package.

    The large shares come first: jobs run in the order in which they were added, and a long one that begins last would
    leave the other workers idle.
    """
    packages: dict[str, list[str]] = defaultdict(list)
    modules: list[str] = []
    for file in sources(root):
        package, separator, _ = file.partition(os.sep)
        if separator:
            packages[package].append(file)
        else:
            modules.append(file)
    modules.sort(key=lambda file: (root / file).stat().st_size, reverse=True)
    pairs = 2 * MODULE_JOBS  # one of the largest goes with one of the smallest of each sixteen
    dealt = {
        f"modules-{n + 1}": modules[n::pairs] + modules[pairs - 1 - n :: pairs]
        for n in range(min(MODULE_JOBS, len(modules)))
    }
    return {**dealt, **packages}


def sources(root: Path) -> Iterator[str]:
    """Yield the Python files below a folder, as paths relative to it, tests and installed packages aside."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(set(subfolders) - SKIPPED_FOLDERS)
        for file in sorted(files):
            if file.endswith(".py"):
                yield os.path.relpath(os.path.join(folder, file), root)


# ---- the handlers: ordinary functions of a job; what they return is handed to the jobs that depend on it --------------


@handlers(retries=2, timeout=120)
def parse(job: overseer.RunningJob) -> dict[str, Any]:
    """Parse the files of one share. A file that is no valid Python is counted and passed over."""
    root, files = Path(job.args["source"]), job.args["files"]
    lines = unparsable = with_docstring = 0
    importers: Counter[str] = Counter()
    lengths: list[tuple[int, str, str]] = []
    for number, file in enumerate(files):
        job.progress(number / len(files), file)
        text = (root / file).read_bytes()
        try:
            for _ in range(job.args["repeat"]):
                tree = ast.parse(text, file)
        except (SyntaxError, ValueError):  # ValueError: a NUL, in the first releases of 3.11
            unparsable += 1
            continue
        lines += text.count(b"\n")
        importers.update(imported(tree))
        for function in defined(tree):
            lengths.append((length(function), function.name, f"{file}:{function.lineno}"))
            with_docstring += ast.get_docstring(function, clean=False) is not None
    return {
        "package": job.args["package"],
        "files": len(files),
        "unparsable": unparsable,
        "lines": lines,
        "importers": importers,
        "functions": len(lengths),
        "documented": with_docstring,
        "longest": heapq.nlargest(TOP, lengths),
    }


@handlers
def importing(job: overseer.RunningJob) -> list[tuple[str, int]]:
    """Rank modules by how many files import them."""
    importers: Counter[str] = Counter()
    for share in job.results.of("parse"):
        importers.update(share["importers"])
    return importers.most_common(TOP)


@handlers
def functions(job: overseer.RunningJob) -> list[tuple[int, str, str]]:
    """Rank functions by their length: the longest of each share are enough to know the longest of all."""
    return heapq.nlargest(TOP, (tuple(found) for share in job.results.of("parse") for found in share["longest"]))


@handlers
def documented(job: overseer.RunningJob) -> dict[str, int]:
    """Count the functions, and those of them that have a docstring."""
    found = job.results.of("parse")
    return {key: sum(share[key] for share in found) for key in ("functions", "documented")}


@handlers
def report(job: overseer.RunningJob) -> dict[str, Any]:
    """Print the table, which lands in this job's log, and return the figures, which are the outcome of the run."""
    found = job.results.of("parse")
    totals = {key: sum(share[key] for share in found) for key in ("files", "unparsable", "lines")}
    docs = job.results["documented"]
    figures = {
        **totals,
        **docs,
        "share_documented": round(docs["documented"] / max(1, docs["functions"]), 3),
        "importing": job.results["importing"],
        "longest": job.results["functions"],
    }
    print(table(job.args["source"], figures))
    return figures


# ---- plain Python --------------------------------------------------------------------------------------------------


def imported(tree: ast.AST) -> set[str]:
    """Return the top-level modules a file imports, each once; imports from its own package aside."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module.partition(".")[0])
    return modules


def defined(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method of a file, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's length in lines, from `def` to its last line."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def table(source: str, figures: dict[str, Any]) -> str:
    """Return the figures as text, a screen wide."""
    left = [f"{count:5} {module}" for module, count in figures["importing"]]
    right = [f"{lines:5} {name}  ({place})" for lines, name, place in figures["longest"]]
    left += [""] * (len(right) - len(left))
    right += [""] * (len(left) - len(right))
    return "\n".join(
        [
            f"{source}: {figures['files']:,} files, {figures['lines']:,} lines, {figures['unparsable']} not parsed",
            f"{figures['share_documented']:.0%} of {figures['functions']:,} functions are documented",
            "",
            f"{'Most imported (files)':26}Longest functions (lines)",
            *(f"{module:26}{function}".rstrip() for module, function in zip(left, right, strict=True)),
        ]
    )
