"""A terminal in which a page's commands are typed, one after another, as its reader would: one shell for a page."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

from tests.environments import environment

COOKIE = "OVERSEER_TEST_PAGE"
TIMEOUT_S = 240.0  # the contract suite takes 15 s of CPU, and a busy machine gives it little
#: The directory in which a page says that it works; in fact it is a scratch one.
SHOWN = "/srv/etl"


class Command:
    """One command of a block, what the page shows of its output, and the exit code the page says it has."""

    def __init__(self, text, shown=None):
        self.text, self.shown = text, shown
        said = re.search(r"# exit code (\d+)$", text)
        self.code = int(said[1]) if said else 0

    def __repr__(self):
        return f"Command({self.text!r}, {self.shown!r})"


def typed(text):
    """Return the commands of a `sh` block; one that goes on (a here-document, a backslash) has several lines."""
    commands, pending = [], ""
    for line in text.splitlines():
        pending += line + "\n"
        if _is_whole(pending):
            if pending.strip() and not pending.lstrip().startswith("#"):
                commands.append(Command(pending.rstrip("\n")))
            pending = ""
    assert not pending, f"this command has no end:\n{pending}"
    return commands


def shown(text):
    """Return the commands of a `console` block, each with the output below it. `$ ` begins one, `> ` goes on with it."""
    commands = []
    for line in text.splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:], ""))
        elif commands and not _is_whole(commands[-1].text):
            assert line.startswith("> "), f"{line!r} goes on with a command, and does not begin with `> `"
            commands[-1] = Command(f"{commands[-1].text}\n{line[2:]}", "")
        else:
            assert commands, f"output without a command: {line!r}"
            commands[-1].shown += line + "\n"
    assert commands, "no command, which begins with `$ `"
    return commands


def _is_whole(text):
    if text.rstrip("\n").endswith("\\"):
        return False
    # bash only warns of a here-document without an end
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    return done.returncode == 0 and not done.stderr


class Terminal:
    """A shell in a directory, with the environment's `overseer-lite` and `python` first on its path."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.output = ""
        self._cookie, self._mark = uuid.uuid4().hex, f"--{uuid.uuid4().hex}--"
        commands, self._commands = os.pipe()
        # The commands come by a descriptor of their own, for what they start finds an empty stdin.
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile", f"/dev/fd/{commands}"], pass_fds=[commands], env=self._environment(),
            cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        os.close(commands)
        self._write("set -m\n")

    def _environment(self):
        own = ("OVERSEER_LITE_", "GITHUB_", "PYTEST_", "PYTHON")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        binaries = os.path.dirname(sys.executable)
        return {
            **kept, COOKIE: self._cookie, "HOME": str(self.directory), "PATH": f"{binaries}:{kept['PATH']}",
            "LC_ALL": "C.UTF-8", "TERM": "dumb", "NO_COLOR": "1", "TZ": "UTC",
        }  # fmt: skip

    def _write(self, text):
        os.write(self._commands, text.encode())

    def type(self, command):
        """Run a command to its end; return what it printed and its exit code."""
        text = command.replace(SHOWN, str(self.directory))
        self._write(f"{text}\nprintf '%s%s\\n' {self._mark} $?\n")
        printed = self._read(command)
        output, _, code = printed.rpartition(self._mark)
        self.output = output.replace(str(self.directory), SHOWN)
        return self.output, int(code)

    def _read(self, command):
        stdout, read = self._shell.stdout, b""
        deadline = time.monotonic() + TIMEOUT_S
        while not re.search(re.escape(self._mark).encode() + rb"\d+\n", read):
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"`{command}` did not end within {TIMEOUT_S:g} s; it printed:\n{read.decode()}"
            more = os.read(stdout.fileno(), 65536)
            assert more, f"`{command}` ended the shell; it printed:\n{read.decode()}"
            read += more
        return read.decode()

    def processes(self):
        """Return the pids of what was started here and still runs, the shell aside."""
        wanted = f"\0{COOKIE}={self._cookie}\0".encode()
        found = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            with suppress(OSError):
                if int(pid) != self._shell.pid and wanted in environment(pid):
                    found.append(int(pid))
        return found

    def close(self):
        """End the shell and all that it left running; return what was left."""
        left = self.processes()
        os.close(self._commands)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            self._shell.wait(10)
        except subprocess.TimeoutExpired:
            self._shell.kill()
            self._shell.wait()
        self._shell.stdout.close()
        return left
