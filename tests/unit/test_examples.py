"""The examples: what the handlers of the demo find in source whose figures are known, and in the real standard library."""

from __future__ import annotations

import json
import sysconfig
import textwrap
from pathlib import Path

import pytest

from overseer_lite.examples import readme_pipeline, stdlib_pipeline
from overseer_lite.graph import Graph
from overseer_lite.handler import Results, RunningJob, execute
from overseer_lite.job import DependencyResult, Outcome

BROKEN = b"def broken(:\n"
LATIN_1 = "# -*- coding: latin-1 -*-\nname = 'Andr\xe9'\n".encode("latin-1")
MODULE = b'''\
import os, sys
import os.path

def documented():
    """Say so."""
    return os, sys

def undocumented():
    pass
'''
PACKAGE = b'''\
from os import path
from . import neighbour
from .neighbour import thing

class Documented:
    """A class is no function."""

    async def longest(self):
        # one
        # two
        return path, neighbour, thing
'''


@pytest.fixture
def source(tmp_path):
    """Return a folder with a module, a package, a file that does not parse, one in Latin-1, and what is to be skipped."""
    contents = {
        "module.py": MODULE,
        "old.py": LATIN_1,
        "package/__init__.py": PACKAGE,
        "package/broken.py": BROKEN,
        "package/nul.py": b"x = 1\0",
        "package/notes.txt": b"no Python",
        "package/tests/test_it.py": MODULE,
        "site-packages/other/__init__.py": MODULE,
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def run_handler(app, job, args=None, results=(), progress=None):
    """Run one job's handler as a runner does; return its result, as its dependents get it, and the jobs it added."""
    shown = RunningJob(
        type=job.type, name=job.name, args={**(args or {}), **job.args}, results=results, progress=progress
    )
    ending = execute(app.handlers[job.type], shown)
    assert ending.outcome is Outcome.FINISHED, ending.failure
    return DependencyResult(job.name, job.type, ending.result_json), ending.added


def run_in_order(app, graph):
    """Run every job of a graph after its dependencies; return the results by name."""
    done = {}
    for job in graph.jobs:
        results = [done[dependency.name] for dependency in job.dependencies]
        done[job.name], _ = run_handler(app, job, json.loads(graph.args_json), results)
    return Results(done.values())


def test_each_package_gets_a_share_and_the_modules_are_spread_over_others(source):
    """Tests and installed packages are nobody's."""
    assert stdlib_pipeline.shares(source) == {
        "modules-1": ["module.py"],
        "modules-2": ["old.py"],
        "package": ["package/__init__.py", "package/broken.py", "package/nul.py"],
    }


def test_modules_are_dealt_out_so_that_no_share_is_much_larger_than_another(tmp_path):
    """By size, not by name: one share with all the large files would keep a single worker busy."""
    for n in range(32):
        (tmp_path / f"module_{n:02}.py").write_bytes(b"#" * 100 * (n + 1))

    sizes = [
        sum((tmp_path / file).stat().st_size for file in files) for files in stdlib_pipeline.shares(tmp_path).values()
    ]

    assert len(sizes) == stdlib_pipeline.MODULE_JOBS
    assert max(sizes) < 1.1 * min(sizes)


def test_the_graph_is_valid_and_its_report_comes_last(source):
    """Parsing jobs wait for nothing, rankings for all of them, the report for everything."""
    graph = stdlib_pipeline.graph(str(source))
    graph.validate()

    parses = ["parse-modules-1", "parse-modules-2", "parse-package"]
    rankings = ["importing", "functions", "documented"]
    assert {job.name: [d.name for d in job.dependencies] for job in graph.jobs} == {
        **{parse: [] for parse in parses},
        **dict.fromkeys(rankings, parses),
        "report": [*parses, *rankings],
    }
    assert {job.type for job in graph.jobs} == set(stdlib_pipeline.handlers)


def test_the_figures_of_known_source_are_right(source, capsys):
    """Files that do not parse are counted, not fatal; a module that imports another twice counts once."""
    results = run_in_order(stdlib_pipeline, stdlib_pipeline.graph(str(source)))

    assert results["report"] == {
        "files": 5,
        "unparsable": 2,
        "lines": 22,
        "functions": 3,
        "documented": 1,
        "share_documented": 0.333,
        "importing": [["os", 2], ["sys", 1]],
        "longest": [
            [4, "longest", "package/__init__.py:8"],
            [3, "documented", "module.py:4"],
            [2, "undocumented", "module.py:8"],
        ],
    }
    assert capsys.readouterr().out == textwrap.dedent(f"""\
        {source}: 5 files, 22 lines, 2 not parsed
        33% of 3 functions are documented

        Most imported (files)     Longest functions (lines)
            2 os                      4 longest  (package/__init__.py:8)
            1 sys                     3 documented  (module.py:4)
                                      2 undocumented  (module.py:8)
        """)


def test_a_parsing_job_says_how_far_it_is(source):
    """Progress is a fraction and what is being looked at; it never goes back and stays below one."""
    steps = []
    graph = stdlib_pipeline.graph(str(source))
    package = next(job for job in graph.jobs if job.name == "parse-package")

    run_handler(stdlib_pipeline, package, json.loads(graph.args_json), progress=lambda *step: steps.append(step))

    assert steps == [(0.0, "package/__init__.py"), (1 / 3, "package/broken.py"), (2 / 3, "package/nul.py")]


def test_an_empty_folder_gives_a_report_of_nothing(tmp_path):
    """No division by zero where there are no functions."""
    report = run_in_order(stdlib_pipeline, stdlib_pipeline.graph(str(tmp_path)))["report"]

    assert (report["files"], report["share_documented"], report["longest"]) == (0, 0.0, [])


@pytest.mark.slow
def test_the_standard_library_of_this_machine_goes_through(capsys):
    """The demo's real input: hundreds of files, more jobs than workers, and figures one can look up."""
    graph = stdlib_pipeline.graph()
    results = run_in_order(stdlib_pipeline, graph)

    report = results["report"]
    imported = [module for module, _ in report["importing"]]
    stdlib = Path(sysconfig.get_path("stdlib"))
    first = stdlib / report["longest"][0][2].rpartition(":")[0]
    assert report["files"] > 300
    assert report["unparsable"] < report["files"] / 100
    assert len(graph.jobs) > 20
    assert {"sys", "os"} <= set(imported[:3])
    assert f"def {report['longest'][0][1]}(" in first.read_text(encoding="utf-8")
    assert 0.2 < report["share_documented"] < 0.9
    assert capsys.readouterr().out.startswith(f"{stdlib.resolve()}: {report['files']} files")


def test_the_readme_s_pipeline_counts_the_primes_below_100_000():
    """Eight jobs are added by a handler, and the merge sees the result of each."""
    graph = Graph()
    partitions = graph.add("partitions")
    found, added = run_handler(readme_pipeline, partitions)
    counts = [run_handler(readme_pipeline, job)[0] for job in added]
    merged, _ = run_handler(readme_pipeline, graph.add("merge", dependencies=[partitions]), results=[found, *counts])

    assert [count.name for count in counts] == [f"count-{p}" for p in range(8)]
    assert merged.result_json == "9592"
    assert readme_pipeline.graph == {"partitions": [], "merge": ["partitions"]}
