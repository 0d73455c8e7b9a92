"""What is done with a block of each kind: it is run, or compared with what it must be equal to. Each can fail."""

from __future__ import annotations

import ast
import configparser
import doctest
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import click

from docs.states import drawing
from overseer_lite import config
from overseer_lite import job as jobs
from overseer_lite.cli.main import program
from overseer_lite.cli.session import Session
from tests.pages import image, terminal
from tests.pages.blocks import ROOT

#: What a page may compare with; a block that needs one which is not there is not run, and the test says so.
EXTRAS = ("luigi", "huey")
UNIT = ROOT / "overseer_lite/examples/overseer-lite.service"
ELLIPSIS = doctest.ELLIPSIS


class Scene:
    """One page's scratch project: what its blocks wrote, the terminal they are typed in, what was left out."""

    def __init__(self, directory):
        self.directory = directory
        self.terminal = terminal.Terminal(directory)
        self.written = []
        self.left_out = []

    def write(self, name, text):
        """Write a file, or add to it where an earlier block wrote it."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8") + "\n\n" if name in self.written else ""
        path.write_text(before + text, encoding="utf-8")
        self.written.append(name)

    def missing(self, block):
        """Return the first extra that a block needs and that is not installed."""
        needed = (extra for extra in EXTRAS if re.search(rf"\b(?:import|from) {extra}\b|\b{extra}_", block.text))
        return next((extra for extra in needed if importlib.util.find_spec(extra) is None), None)

    def play(self, block):
        """Do with a block what is to be done with one of its kind."""
        assert block.kind in KINDS, f"{block}: nothing checks a block of this kind; there are {', '.join(KINDS)}"
        extra = self.missing(block)
        if extra is not None:
            self.left_out.append(f"{block} needs {extra}")
            return
        try:
            KINDS[block.kind](self, block)
        except (AssertionError, OSError, SyntaxError, ValueError, configparser.Error) as error:
            raise AssertionError(f"{block}: {error}") from error


# ---- what is run -----------------------------------------------------------------------------------------------------


def python(scene, block):
    """Write the file that the first comment names, or run it in an interpreter of its own."""
    if block.file is not None:
        ast.parse(block.text)
        scene.write(block.file, block.text)
        return
    done = subprocess.run(
        [sys.executable, "-c", block.text], cwd=scene.directory, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"


def sh(scene, block):
    """Type the commands; each ends with 0, or with the code that a comment behind it says."""
    for command in terminal.typed(block.text):
        _type(scene, command)


def console(scene, block):
    """Type the commands and compare what they print with what is shown; `...` stands for anything."""
    for command in terminal.shown(block.text):
        output = _type(scene, command)
        want, got = (re.sub(r"[ \t]+$", "", each, flags=re.MULTILINE) for each in (command.shown, output))
        if want.endswith("\n...\n"):
            want = want.removesuffix("\n")  # whatever else there is: nothing, too
        if not doctest.OutputChecker().check_output(want, got, ELLIPSIS):
            example = doctest.Example(command.text, want)
            difference = doctest.OutputChecker().output_difference(example, got, doctest.REPORT_NDIFF | ELLIPSIS)
            raise AssertionError(f"`{command.text}` prints something else:\n{difference}\nwhole output:\n{got}")


def _type(scene, command):
    output, code = scene.terminal.type(command.text)
    assert code == command.code, f"`{command.text}` ended with {code} instead of {command.code}:\n{output}"
    return output


def diff(scene, block):
    """Change a file that stands: the lines it takes away must stand there, together, and once."""
    head = re.match(r"--- (\S+)\n\+\+\+ \1\n", block.text)
    assert head, "it does not begin with `--- FILE` and `+++ FILE`"
    lines = block.text[head.end() :].splitlines(keepends=True)
    assert all(line[0] in " +-" for line in lines), "a line begins with none of ` `, `+`, `-`"
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    path = scene.directory / head[1]
    before = path.read_text(encoding="utf-8")
    assert before.count(old) == 1, f"{head[1]} has these lines {before.count(old)} times:\n{old}"
    path.write_text(before.replace(old, new), encoding="utf-8")


# ---- what is compared ------------------------------------------------------------------------------------------------


def toml(scene, block):
    """Accept it as settings; where it names pyproject.toml, it is the project's from here on."""
    table = tomllib.loads(block.text).get("tool", {}).get("overseer_lite")
    assert table, "it has no [tool.overseer_lite], or nothing in it"
    alone = scene.directory / "settings"
    alone.mkdir(exist_ok=True)
    (alone / "pyproject.toml").write_text(block.text, encoding="utf-8")
    try:
        settings = config.load(environ={}, cwd=str(alone))
    except config.ConfigError as error:
        raise AssertionError(f"it is no settings: {error}") from error
    finally:
        shutil.rmtree(alone)
    assert {row.name for row in settings.rows() if row.origin.endswith("pyproject.toml")} == set(table)
    if block.file == "pyproject.toml":
        scene.write(block.file, block.text)


def mermaid(scene, block):
    """It is what a command draws: the state machine, or what the page's last command printed."""
    drawn = [drawing(), scene.terminal.output]
    assert block.text in drawn, f"no command draws this; `python -m docs` renews the state machine:\n{drawing()}"


def text(scene, block):
    """It is a table of cron, or the drawing of the state machine as job.py has it."""
    machine = re.search(r"(?m)(?:^    .*\n)+", jobs.__doc__)[0]
    if block.text == re.sub(r"(?m)^    ", "", machine):
        return
    for line in block.text.splitlines():
        if line and not line.startswith("#"):
            _check_cron(line)


CRON_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def _check_cron(line):
    fields = line.split(None, 5)
    assert len(fields) == 6, f"this is neither the state machine nor a line of cron: {line!r}"
    for field, (low, high) in zip(fields, CRON_RANGES, strict=False):
        for part in field.split(","):
            found = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/\d+)?", part)
            numbers = [int(number) for number in found.groups() if number] if found else [-1]
            assert all(low <= number <= high for number in numbers), f"cron knows no {field!r} there: {line!r}"
    assert not re.search(r"(?<!\\)%", fields[5]), f"to cron, % ends the line; write \\%: {line!r}"
    check_calls(fields[5].replace("\\%", "%"))


DIRECTIVES = {
    "Unit": {"Description", "After"},
    "Service": {"Type", "User", "WorkingDirectory", "ExecStart", "SuccessExitStatus", "UMask", "OnFailure"},
    "Timer": {"OnCalendar", "Persistent"},
    "Install": {"WantedBy"},
}


def ini(scene, block):
    """It is the shipped unit, comments aside; or another unit, of directives and commands that there are."""
    unit = _parse_unit(block.text)
    if block.file == UNIT.name:
        assert unit == _parse_unit(UNIT.read_text(encoding="utf-8")), "it is not the shipped one"
        return
    for section, directives in unit.items():
        unknown = directives.keys() - DIRECTIVES.get(section, set())
        assert not unknown, f"[{section}] has no {', '.join(unknown)}, or this check does not know it"
    if "ExecStart" in unit.get("Service", {}):
        command = unit["Service"]["ExecStart"]
        assert not re.search(r"(?<!%)%(?!%)", command.replace("%%", "")), f"systemd takes % for itself: {command!r}"
        check_calls(command.replace("%%", "%").replace("$$", "$"))
    if "OnCalendar" in unit.get("Timer", {}):
        _check_calendar(unit["Timer"]["OnCalendar"])


def _parse_unit(text):
    parser = configparser.ConfigParser(interpolation=None, delimiters=["="])
    parser.optionxform = str
    parser.read_string(text)
    return {section: dict(parser[section]) for section in parser.sections()}


def _check_calendar(when):
    assert re.fullmatch(r"\*-\*-\* \d\d:\d\d:\d\d", when), f"{when!r}: only times of each day are known here"
    if shutil.which("systemd-analyze"):
        done = subprocess.run(["systemd-analyze", "calendar", when], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


DOCKER = {"FROM", "RUN", "COPY", "WORKDIR", "USER", "ENV", "VOLUME", "ENTRYPOINT", "CMD", "STOPSIGNAL"}


def dockerfile(scene, block):
    """Its command of ours comes up without a shell, which would keep signals, and is stopped in order."""
    lines = [line for line in block.text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    unknown = {line.split()[0] for line in lines} - DOCKER
    assert not unknown, f"no instructions: {unknown}"
    assert lines[0].startswith("FROM "), "it does not begin with FROM"
    last = re.fullmatch(r"(?:CMD|ENTRYPOINT) (\[.+\])", lines[-1])
    assert last, "it does not end with a command as a list"
    command = json.loads(last[1])
    check_calls(shlex.join(command))
    if not image.possible():
        scene.left_out.append(f"{block} needs root and overlayfs")
        return
    image.start_and_stop(lines, scene.directory, workers=int(command[command.index("-n") + 1]))


def clojure(scene, block):
    """Its graph is the one that the page's pipeline.py has, and its parentheses are in order."""
    closing, left = {")": "(", "]": "[", "}": "{"}, []
    for sign in re.sub(r'"[^"]*"|;.*', "", block.text):
        if sign in "([{":
            left.append(sign)
        elif sign in closing:
            assert left[-1:] == [closing[sign]], f"a {sign} closes nothing"
            left.pop()
    assert not left, f"never closed: {left}"
    found = re.search(r"\(def job-graph\s+\{([^}]*)\}", block.text)
    assert found, "it has no (def job-graph {...})"
    graph = {job: re.findall(r":(\S+)", names) for job, names in re.findall(r":(\S+)\s+\[([^]]*)\]", found[1])}
    show = "import json, runpy; print(json.dumps(runpy.run_path('pipeline.py')['graph']))"
    done = subprocess.run([sys.executable, "-c", show], cwd=scene.directory, capture_output=True, text=True, check=True)
    assert graph == json.loads(done.stdout), "its graph is another one than pipeline.py's"


KINDS = {
    "python": python,
    "sh": sh,
    "console": console,
    "diff": diff,
    "toml": toml,
    "ini": ini,
    "text": text,
    "mermaid": mermaid,
    "dockerfile": dockerfile,
    "clojure": clojure,
}


# ---- command lines that are not run ----------------------------------------------------------------------------------


def check_calls(line):
    """Parse every call of `overseer-lite` in a line of shell as the program would; there is at least one."""
    calls = list(_calls(re.sub(r"\$\([^)]*\)", "X", line)))
    assert calls, f"it calls no overseer-lite: {line!r}"
    for words in calls:
        problem = usage_problem(words)
        assert problem is None, f"`{shlex.join(['overseer-lite', *words])}`: {problem}"


def _calls(line):
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    words = None
    for word in [*lexer, ";"]:
        if " " in word and "overseer-lite" in word:  # what a shell is given by `sh -c`
            yield from _calls(word)
        elif word.rpartition("/")[2] == "overseer-lite" or word == "overseer_lite":
            words = []
        elif words is not None and set(word) <= set(";&|<>"):
            yield words
            words = None
        elif words is not None:
            words.append(word)


def usage_problem(words):
    """Return what the program would say of these words, without running anything; None: it would take them."""
    if words == ["--version"]:
        return None
    with click.Context(program, obj=Session()) as context:
        command = program.get_command(context, words[0]) if words else None
        if command is None:
            return f"there is no command {words[:1]}"
        try:
            command.make_context(words[0], list(words[1:]), parent=context)
        except click.exceptions.Exit:
            return None  # --help
        except click.UsageError as error:
            return error.format_message()
    return None
