"""What README.md and docs/ print works as printed: every code block is run, or compared with what it must equal.

A page is one scratch project and one terminal: its blocks are taken in order, as its reader would take them. What a
page presumes (a store of the reader's own, say) lies in `given/`, by the page's name.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from overseer_lite.cli.main import program
from tests.pages import image
from tests.pages.blocks import GENERATED, ROOT, RUN_BY_CI, Block, blocks, pages, read, spans
from tests.pages.kinds import KINDS, Scene, check_calls, usage_problem

GIVEN = Path(__file__).parent / "given"


@pytest.fixture
def scene(tmp_path):
    """A scratch project. What a page starts it also stops."""
    directory = tmp_path / "project"
    directory.mkdir()
    made = Scene(directory)
    left = None
    try:
        yield made
    finally:
        left = made.terminal.close()
    assert left == [], "the page leaves processes at work"


def own_tests(scene):
    """Run the tests that a page wrote; of a contract suite its first clauses, the rest is run elsewhere."""
    files = sorted({name for name in scene.written if re.fullmatch(r"test_\w+\.py", name)})
    if not files:
        return
    argv = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        [*argv, *files, "-k", "not test_c or test_c00"],
        cwd=scene.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in pages() if not page.startswith(GENERATED) and blocks(page)])
def test_every_code_block_of_a_page_holds(page, scene):
    """Whoever copies from a page gets what the page says; only what .ci/run itself runs is left out here."""
    given = GIVEN / Path(page).stem
    if given.is_dir():
        shutil.copytree(given, scene.directory, dirs_exist_ok=True)
    for block in blocks(page):
        if (page, block.heading) not in RUN_BY_CI:
            scene.play(block)
    own_tests(scene)
    if scene.left_out:
        pytest.skip("; ".join(scene.left_out))


def test_what_is_left_out_is_there():
    """A name in the list that no heading has any more would leave out nothing, and hide that."""
    assert {(page, block.heading) for page in pages() for block in blocks(page)} >= RUN_BY_CI


def test_there_are_exactly_two_commands_to_set_up_run_and_test():
    """One under `## Run it`, one under `## Test it`, a line each: whoever comes new needs no other step."""
    found = [block for block in blocks("README.md") if block.kind == "sh"]

    assert [block.heading for block in found] == ["Run it", "Test it"]
    assert all(block.text.count("\n") == 1 for block in found)


def test_the_readme_s_pipeline_is_the_example_that_lies_in_the_package():
    """So that it is linted, typed and never out of date."""
    (printed,) = (block.text for block in blocks("README.md") if block.file == "pipeline.py")
    example = (ROOT / "overseer_lite/examples/readme_pipeline.py").read_text(encoding="utf-8")

    assert printed.removeprefix("# pipeline.py\n") == example


@pytest.mark.parametrize("page", pages())
def test_every_command_that_a_sentence_names_is_one_the_program_takes(page):
    """An option that was renamed must not live on in the prose."""
    for span in spans(page):
        words = span.split()
        if words[:1] == ["overseer-lite"] and len(words) > 2:
            check_calls(re.sub(r"[\[\]]|\.\.\.", "", span))
        elif words[:1] == ["overseer-lite"] and len(words) == 2:
            named = re.sub(r"[\[\]]", "", words[1])  # a command's name alone: of some more would have to be said
            assert named in set(program.list_commands(None)) | {"--version", "--help"}, f"{page} names {span!r}"


@pytest.mark.parametrize("page", pages())
def test_every_link_leads_somewhere(page):
    """Within the repository: to a file that is there, and to a heading that it has."""
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        name, _, anchor = target.partition("#")
        if name.startswith(("http:", "https:")):
            continue
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"(?m)^#+ (.+)$", path.read_text(encoding="utf-8"))
            assert anchor in {slug(heading) for heading in headings}, f"{page} links to {target}"


def slug(heading):
    """Return the anchor that a heading has where these pages are read."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# ---- the checks themselves: each is shown what it must not let through -----------------------------------------------

BROKEN = {
    "a kind that nothing checks": ("rust", "fn main() {}\n"),
    "no kind at all": ("", "echo\n"),
    "a file that is no Python": ("python", "# app.py\ndef f(:\n"),
    "Python that raises": ("python", "assert 1 == 2\n"),
    "a command that fails": ("sh", "true\nfalse\n"),
    "a command that fails otherwise than it says": ("sh", "(exit 2)  # exit code 1\n"),
    "a command that does not fail as it says": ("sh", "true  # exit code 1\n"),
    "a command without an end": ("sh", "cat <<X\n"),
    "other output": ("console", "$ echo one\ntwo\n"),
    "output that is not shown": ("console", "$ echo one\n"),
    "output before any command": ("console", "one\n"),
    "a change to lines that do not stand there": ("diff", "--- a.txt\n+++ a.txt\n-two\n+three\n"),
    "a change to lines that stand there twice": ("diff", "--- a.txt\n+++ a.txt\n-one\n+three\n"),
    "a setting that there is not": ("toml", "[tool.overseer_lite]\nn = 4\n"),
    "a setting with a wrong value": ("toml", '[tool.overseer_lite]\ndurability = "high"\n'),
    "no settings": ("toml", "[tool.other]\na = 1\n"),
    "a service that is not the shipped one": ("ini", "# overseer-lite.service\n[Service]\nType=simple\n"),
    "a directive that there is not": ("ini", "[Service]\nExecBegin=/bin/true\n"),
    "a unit with an option that there is not": ("ini", "[Service]\nExecStart=/x/overseer-lite run --workers 4\n"),
    "a unit that calls something else": ("ini", "[Service]\nExecStart=/bin/true\n"),
    "a unit with a bare percent": ("ini", "[Service]\nExecStart=/bin/sh -c 'overseer-lite run --id $(date +%F)'\n"),
    "a time that there is not": ("ini", "[Timer]\nOnCalendar=*-*-* 25:00:00\n"),
    "neither cron nor the state machine": ("text", "unstarted --reserve--> finished\n"),
    "a minute that there is not": ("text", "61 3 * * * overseer-lite run\n"),
    "a line of cron with a bare percent": ("text", "1 3 * * * overseer-lite run --id $(date +%F)\n"),
    "a line of cron with an option that there is not": ("text", "1 3 * * * overseer-lite run --name x\n"),
    "another state machine": ("mermaid", "stateDiagram-v2\n    unstarted --> finished: reserve\n"),
    "an image that runs something else": ("dockerfile", 'FROM python:3.12\nCMD ["python"]\n'),
    "an image that runs it in a shell": ("dockerfile", "FROM python:3.12\nCMD overseer-lite worker\n"),
    "another graph": ("clojure", "(def job-graph {:a [] :b [:c]})\n"),
    "parentheses left open": ("clojure", "(def job-graph {:a [] :b [:a]}\n"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_each_check_objects_to(what, scene):
    """A check that lets everything through would check nothing."""
    (scene.directory / "a.txt").write_text("one\none\n")
    (scene.directory / "pipeline.py").write_text('graph = {"a": [], "b": ["a"]}\n')
    kind, text = BROKEN[what]

    with pytest.raises(AssertionError):
        scene.play(Block("page.md", 1, "", kind, text))


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["USER nobody", "VOLUME /var/lib/pages-a"], "Permission denied"),
        (["RUN install -d -o nobody /var/lib/pages-b", "USER nobody", "VOLUME /var/lib/pages-c"], "Permission denied"),
        (["RUN false"], "does not come up"),
    ],
    ids=["a volume of root's", "a volume of another directory's", "an instruction that fails"],
)
def test_an_image_that_does_not_come_up_is_found_out(scene, lines, why):
    """It is really made and started."""
    if not image.possible():
        pytest.skip("needs root and overlayfs")
    (scene.directory / "pipeline.py").write_text('handlers = {"a": lambda job: 1}\ngraph = {"a": []}\n')
    env = f"ENV OVERSEER_LITE_DB={lines[-1].rpartition(' ')[2]}/jobs.db"
    text = "\n".join(["FROM python:3.12", "COPY . .", env, *lines, 'CMD ["overseer-lite", "worker", "-n", "1"]\n'])

    with pytest.raises(AssertionError, match=why):
        scene.play(Block("page.md", 1, "", "dockerfile", text))


def test_each_kind_is_shown_something_broken():
    """A kind that is added gets a row in the table."""
    assert KINDS.keys() <= {kind for kind, _ in BROKEN.values()}


def test_a_page_that_leaves_a_process_behind_is_found_out(tmp_path):
    """It would work on after the test, on a machine that others share."""
    made = Scene(tmp_path)
    made.terminal.type("sleep 600 &")

    assert len(made.terminal.close()) == 1


def test_a_broken_test_of_a_page_is_found_out(scene):
    """What a page prints as a test is run."""
    scene.write("test_it.py", "def test_it():\n    assert 1 == 2\n")

    with pytest.raises(AssertionError, match="1 failed"):
        own_tests(scene)


def test_blocks_are_found_however_they_are_fenced():
    """With tildes, within a list, only indented: the last has no kind, and no check lets it pass."""
    text = "# Head\n\n~~~sh\na\n~~~\n\n- x\n\n  ```toml\n  b\n  ```\n\nText\n\n    c\n"

    assert [(b.heading, b.kind, b.text, b.line) for b in blocks("p.md", text)] == [
        ("Head", "sh", "a\n", 3),
        ("Head", "toml", "b\n", 9),
        ("Head", "", "c\n", 15),
    ]


def test_a_command_line_is_read_as_the_program_reads_it():
    """Names of commands and options, numbers, choices; nothing is run."""
    assert usage_problem(["run", "-n", "4", "--id", "x"]) is None
    assert usage_problem(["run", "-n", "four"]) is not None
    assert usage_problem(["graph", "--format", "png"]) is not None
    assert usage_problem(["runn"]) == "there is no command ['runn']"
