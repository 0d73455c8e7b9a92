"""Reports of a run: JUnit XML, Markdown, the picture of the graph, annotations."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET

import pytest

from overseer_lite.errors import UnknownRunError
from overseer_lite.graph import Graph, job_graph
from overseer_lite.job import Attempt, Evidence, Failure, Outcome, Settlement
from overseer_lite.report import error_annotations, junit, markdown
from overseer_lite.report.facts import blockers
from overseer_lite.testing.clock import ManualClock
from overseer_lite.testing.memory import MemoryStore

SECRET = {"password": "hunter2"}
TRACEBACK = 'Traceback (most recent call last):\n  File "app.py", line 3, in b\nValueError: no rows\n'


@pytest.fixture
def store():
    """A store in memory whose time stands still."""
    return MemoryStore(ManualClock())


def settle(store, job_id, outcome=Outcome.FINISHED, *, ran_s=None, output="", signal=None, **more):
    """Reserve a ready job and settle its attempt."""
    attempt = store.reserve_job("w", job_id)
    assert attempt is not None, f"{job_id} is not ready"
    evidence = Evidence(began_ago_s=ran_s, output=output, output_bytes=len(output), signal=signal)
    store.exchange("w", [Settlement(attempt, outcome, evidence=evidence, **more)], 0, [])


def fail(store, job_id, message="no rows", **more):
    """Reserve a ready job and fail it for good."""
    failure = Failure("exception", message, "ValueError", TRACEBACK)
    settle(store, job_id, Outcome.FAILED, **{"failure": failure, **more})


def give_up(store, job_id, message="given up", *, silent=False):
    """Reserve a ready job and abort it, and with it all that depend on it."""
    settle(store, job_id, Outcome.ABORTED, failure=Failure("abort", message, silent=silent))


@pytest.fixture
def mixed(store):
    """The run `r`: a crashed and finished, b failed on its second attempt, c is stuck, d was aborted, f is started."""
    store.transact_graph(
        job_graph({"a": [], "b": ["a"], "c": ["b"], "d": [], "e": ["d"], "f": [], "g": ["f"]}, args=SECRET, id="r")
    )
    settle(store, "r/a", Outcome.CRASHED, ran_s=0.5, signal=9, failure=Failure("crash", "killed"), delay_s=0.0)
    settle(store, "r/a", ran_s=1.25)
    fail(store, "r/b", delay_s=0.0, ran_s=0.125)
    fail(store, "r/b", ran_s=0.125, output="looking\nno rows here\n")
    give_up(store, "r/d")
    assert store.reserve_job("w", "r/f") == Attempt("r/f", 1, "w")
    return store


def cases(text):
    """Return the testcases of a JUnit file: their labels, and what they hold by tag."""
    return {
        case.get("name"): (case.get("classname"), case.get("time"), {each.tag: each for each in case})
        for case in ET.fromstring(text).iter("testcase")
    }


# ---- JUnit -----------------------------------------------------------------------------------------------------------


def test_a_testcase_a_job_with_the_run_as_its_class_and_the_time_of_all_attempts(mixed):
    """So that a CI system lists a run as it lists a test suite."""
    found = cases(junit(mixed, "r"))

    assert {name: case[:2] for name, case in found.items()} == {
        "a": ("r", "1.750"),
        "b": ("r", "0.250"),
        "c": ("r", "0.000"),
        "d": ("r", "0.000"),
        "e": ("r", "0.000"),
        "f": ("r", "0.000"),
        "g": ("r", "0.000"),
    }
    assert found["a"][2] == {}


def test_the_suite_counts_what_it_holds(mixed):
    """Viewers show these numbers without counting themselves."""
    root = ET.fromstring(junit(mixed, "r"))
    totals = {"tests": "7", "failures": "3", "errors": "0", "skipped": "3", "time": "2.000"}

    assert root.attrib == {"name": "overseer_lite", **totals}
    assert [suite.attrib for suite in root] == [{"name": "r", **totals, "timestamp": "2026-11-24T00:00:00+00:00"}]


def test_a_failed_job_is_a_failure_with_its_traceback_and_the_last_attempt_s_output(mixed):
    """What went wrong is read where it is reported, not in a store that is gone with the CI machine."""
    held = cases(junit(mixed, "r"))["b"][2]

    assert held["failure"].attrib == {"message": "ValueError: no rows", "type": "ValueError"}
    assert held["failure"].text == f"failed on attempt 2\n{TRACEBACK.rstrip()}"
    assert held["system-out"].text == "looking\nno rows here\n"


def test_an_aborted_job_is_a_failure_and_so_is_what_was_aborted_with_it(mixed):
    """Neither has been done, and a run with one of them ends with 1."""
    found = cases(junit(mixed, "r"))

    assert found["d"][2]["failure"].attrib == {"message": "given up", "type": "abort"}
    assert found["e"][2]["failure"].attrib == {"message": "aborted with a job it depends on", "type": "aborted"}


def test_a_job_that_has_not_ended_is_skipped_and_says_why(mixed):
    """Skipped is neither passed nor failed; a stuck one names the job it is stuck behind."""
    found = cases(junit(mixed, "r"))

    assert {name: found[name][2]["skipped"].get("message") for name in "cfg"} == {
        "c": "stuck behind r/b, which failed",
        "f": "not ended: attempt 1 was still started",
        "g": "not started",
    }


def test_a_stuck_job_names_the_nearest_that_failed(store):
    """Through stuck jobs between them."""
    store.transact_graph(job_graph({"a": [], "b": ["a"], "c": ["b"]}, id="r"))
    fail(store, "r/a")

    assert cases(junit(store, "r"))["c"][2]["skipped"].get("message") == "stuck behind r/a, which failed"


def test_only_stuck_jobs_are_held_up(mixed):
    """What was aborted along with another has ended: nothing holds it up."""
    assert {stuck: job.id for stuck, job in blockers(mixed.jobs(run="r")).items()} == {"r/c": "r/b"}


def test_a_stopped_job_is_skipped_with_the_attempt_that_was_stopped(store):
    """What a stop by signal leaves is no failure."""
    store.transact_graph(job_graph({"a": []}, id="r"))
    settle(store, "r/a", Outcome.STOPPED, delay_s=0.0)

    assert cases(junit(store, "r"))["a"][2]["skipped"].get("message") == "not ended: back to unstarted after attempt 1"


def test_characters_that_xml_cannot_hold_are_written_out(store):
    """An unreadable report would hide every failure in it. Colours go, line ends stay."""
    store.transact_graph(job_graph({"a": []}, id="r"))
    fail(store, "r/a", "bad \x00\x0b\ud800\ufffe]]> <b>&", output="\x1b[31mred\x1b[0m\r\nbell\x07\ttab\x1b[2J")
    held = cases(junit(store, "r"))["a"][2]

    assert held["failure"].get("message") == r"ValueError: bad \x00\x0b\ud800\ufffe]]> <b>&"
    assert held["system-out"].text == "red\nbell\\x07\ttab\\x1b[2J"


def test_tracebacks_and_outputs_end_where_the_file_would_grow_too_large(store):
    """A CI system refuses a file of some 30 MB, and then shows nothing; every failure keeps its message."""
    store.transact_graph(named(*(f"n{n}" for n in range(40))))
    for number in range(40):
        failure = Failure("exception", "no rows", "E", "t" * 250_000)
        settle(store, f"r/n{number}", Outcome.FAILED, failure=failure, output="o" * 250_000)
    found = list(cases(junit(store, "r")).values())
    whole = [len(held["failure"].text) == 250_000 and "system-out" in held for _, _, held in found]

    assert whole == [True] * 16 + [False] * 24
    assert {held["failure"].get("message") for _, _, held in found} == {"E: no rows"}
    assert len(found[-1][2]["failure"].text) < 100_000


def test_args_and_results_are_in_no_report(mixed):
    """Reports are published, and either may be secret."""
    mixed.transact_graph(job_graph({"x": []}, args=SECRET, id="s"))
    settle(mixed, "s/x", result_json='{"token": "hunter2"}')

    for report in (junit(mixed, "r"), markdown(mixed, "r"), junit(mixed, "s"), markdown(mixed, "s")):
        assert "hunter2" not in report
        assert "password" not in report


@pytest.mark.parametrize("report", [junit, markdown, error_annotations])
def test_a_run_that_is_not_there_is_an_error(mixed, report):
    """An empty report would look like a run in which nothing failed."""
    with pytest.raises(UnknownRunError, match="no run 'rr'"):
        report(mixed, "rr")


# ---- Markdown --------------------------------------------------------------------------------------------------------

GOLDEN = """\
## Run `r`: not at its end

| jobs | finished | failed | aborted | stuck | started | unstarted |
| --- | --- | --- | --- | --- | --- | --- |
| 7 | 1 | 1 | 2 | 1 | 1 | 1 |

### Failed and aborted

| job | status | attempts | failure |
| --- | --- | --- | --- |
| `r/b` | failed | 2 | `ValueError: no rows` |
| `r/d` | aborted | 1 | `given up` |
| `r/e` | aborted | 0 |  |

<details><summary>Traceback of <code>r/b</code></summary>

```text
Traceback (most recent call last):
  File "app.py", line 3, in b
ValueError: no rows
```

</details>

### Slowest

| job | type | ran | attempts |
| --- | --- | --- | --- |
| `r/a` | `a` | 1.750 s | 2 |
| `r/b` | `b` | 0.250 s | 2 |

### Attempts cut short

| job | attempt | how | the job now |
| --- | --- | --- | --- |
| `r/a` | 1 | crashed (signal 9) | recovered: finished on attempt 2 |

### Graph

```mermaid
flowchart LR
  n0["a"]:::finished
  n1["b"]:::failed
  n2["c"]:::stuck
  n3["d"]:::aborted
  n4["e"]:::aborted
  n5["f"]:::started
  n6["g"]:::unstarted
  n0 --> n1
  n1 --> n2
  n3 --> n4
  n5 --> n6
  classDef failed fill:#cf222e,color:#ffffff
  classDef aborted fill:#a40e26,color:#ffffff
  classDef stuck fill:#d4a72c,color:#000000
  classDef started fill:#0969da,color:#ffffff
  classDef unstarted fill:#d0d7de,color:#000000
  classDef finished fill:#1a7f37,color:#ffffff
```
"""


def test_the_summary_of_a_small_run(mixed):
    """Counts, failures, the slowest, what was cut short, the graph: as it is written."""
    assert markdown(mixed, "r") == GOLDEN


def test_a_run_in_which_all_went_well_has_no_empty_sections(store):
    """Nothing failed, nothing was cut short, and nobody needs to read that."""
    store.transact_graph(job_graph({"a": []}, id="r"))
    settle(store, "r/a", ran_s=1.0)
    text = markdown(store, "r")

    assert text.startswith("## Run `r`: finished\n")
    assert re.findall("(?m)^### (.+)$", text) == ["Slowest", "Graph"]


def test_the_slowest_are_five_the_slowest_first(store):
    """More would be a listing."""
    store.transact_graph(job_graph({name: [] for name in "abcdefg"}, id="r"))
    for number, name in enumerate("abcdefg"):
        settle(store, f"r/{name}", ran_s=float(number))

    assert re.findall(r"\| `r/(.)` \|", markdown(store, "r")) == ["g", "f", "e", "d", "c"]


def test_long_lists_end_and_say_how_many_more_there_are(store):
    """GitHub shows no summary of more than 1 MiB."""
    store.transact_graph(job_graph({f"j{n}": [] for n in range(25)}, id="r"))
    for number in range(25):
        fail(store, f"r/j{number}")
    text = markdown(store, "r")

    assert len(re.findall(r"(?m)^\| `r/j", text)) == 20
    assert "\nand 5 more\n" in text


def test_what_a_job_names_or_writes_cannot_break_out_of_its_cell_or_block(store):
    """A bar, a backtick, a line end or a tag in a message is text."""
    store.transact_graph(named("x|`y"))
    failure = Failure("exception", "a | b `c` <b>\x1b", "E", "before\n```\n# heading\n````\nafter")
    settle(store, "r/x|`y", Outcome.FAILED, failure=failure)
    text = markdown(store, "r")

    job, message = "<code>r&#47;x&#124;&#96;y</code>", "E&#58; a &#124; b &#96;c&#96; &#60;b&#62;&#92;x1b"
    assert f"\n| {job} | failed | 1 | <code>{message}</code> |\n" in text
    assert "\n`````text\nbefore\n```\n# heading\n````\nafter\n`````\n" in text
    assert '\n  n0["x#124;#96;y"]:::failed\n' in text


def named(*names):
    """Return a graph of the run `r` with jobs of these names, all of type `t`."""
    graph = Graph(id="r")
    for name in names:
        graph.add("t", name=name)
    return graph


def test_a_large_graph_is_drawn_by_type_with_counts_in_the_colour_of_its_worst_job(store):
    """A picture of a thousand nodes shows nothing, and Mermaid refuses more than 500 edges."""
    graph = Graph(id="r")
    parts = [graph.add("part", name=f"part-{n}") for n in range(200)]
    graph.add("merge", dependencies=parts)
    store.transact_graph(graph)
    fail(store, "r/part-7")
    drawn = markdown(store, "r").partition("```mermaid\n")[2].partition("```")[0]

    assert drawn == (
        "flowchart LR\n"
        '  n0["part<br/>1 failed, 199 unstarted"]:::failed\n'
        '  n1["merge<br/>1 stuck"]:::stuck\n'
        "  n0 --> n1\n"
        "  classDef failed fill:#cf222e,color:#ffffff\n"
        "  classDef stuck fill:#d4a72c,color:#000000\n"
    )


def test_a_graph_of_200_jobs_is_drawn_by_job(store):
    """The largest that is."""
    store.transact_graph(named(*(f"n{n}" for n in range(200))))

    assert markdown(store, "r").count(":::unstarted") == 200


# ---- annotations -----------------------------------------------------------------------------------------------------


def test_an_annotation_for_each_job_that_failed_or_gave_itself_up(mixed):
    """Not for one that was aborted along with another: that one has its own."""
    assert error_annotations(mixed, "r") == [
        "::error title=r/b failed::ValueError: no rows",
        "::error title=r/d aborted::given up",
    ]


def test_a_silent_abort_is_not_annotated(store):
    """Its handler asked for that."""
    store.transact_graph(job_graph({"a": []}, id="r"))
    give_up(store, "r/a", silent=True)

    assert error_annotations(store, "r") == []


def test_an_annotation_is_one_command_whatever_it_says(store):
    """A line feed would begin another command, a comma or `::` another property."""
    store.transact_graph(named("x,y::z%"))
    settle(store, "r/x,y::z%", Outcome.FAILED, failure=Failure("exception", "100%\u2028::stop", "a\nb"))

    assert error_annotations(store, "r") == [
        r"::error title=r/x%2Cy%3A%3Az%25 failed::a%0Ab: 100%25\u2028::stop",
    ]


def test_an_annotation_names_the_innermost_line_of_one_s_own_code(store):
    """So that it stands beside that line in the pull request."""
    here = os.getcwd()
    traceback = (
        f'Traceback (most recent call last):\n  File "{here}/app,1.py", line 3, in b\n'
        f'  File "{here}/.venv/lib/site-packages/x.py", line 5, in c\n  File "/usr/lib/y.py", line 7, in d\nE: no\n'
    )
    store.transact_graph(job_graph({"a": []}, id="r"))
    settle(store, "r/a", Outcome.FAILED, failure=Failure("exception", "no", "E", traceback))

    assert error_annotations(store, "r") == ["::error title=r/a failed,file=app%2C1.py,line=3::E: no"]


def test_there_are_at_most_ten_annotations_and_the_last_says_how_many_more(store):
    """GitHub shows ten of a step."""
    store.transact_graph(job_graph({f"j{n}": [] for n in range(12)}, id="r"))
    for number in range(12):
        fail(store, f"r/j{number}")
    lines = error_annotations(store, "r")

    assert len(lines) == 10
    assert lines[-1] == "::error::and 3 more jobs of run r"
