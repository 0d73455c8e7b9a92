"""A rig: one store in a directory, and the command line that is run on it; who is who among its processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tests.chaos.scenario import Violation
from tests.environments import environment

HERE: Final = os.path.dirname(os.path.abspath(__file__))
APP: Final = os.path.join(HERE, "app.py")
BOOTSTRAP: Final = os.path.join(HERE, "bootstrap")
MARK: Final = "CHAOS_RIG"
COOKIE: Final = b"OVERSEER_LITE_WORKER="


class Process(NamedTuple):
    """A process of a rig. `role`: supervisor, worker, runner, or other for whatever handlers started."""

    pid: int
    role: str


class Rig:
    """A store, its jobs as submitted, and the processes on it.

    Args:
        settings: Settings of the program by name, beyond the rig's own.
        env: Further environment of all that is started here.
    """

    def __init__(
        self, directory: str, settings: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        os.makedirs(os.path.join(directory, "locks"), exist_ok=True)
        self.db = os.path.join(directory, "jobs.db")
        self.log = os.path.join(directory, "log")
        self.jobs: dict[str, list[str]] = {}
        self.looks = 0
        self.trouble: list[str] = []
        self._started: list[subprocess.Popen[bytes]] = []
        self._end = threading.Event()
        self._lookers: list[threading.Thread] = []
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("OVERSEER_LITE_", "CHAOS_"))}
        ours = {"db": self.db, "app": APP, "crash_limit": 0, "heartbeat_interval_s": 60, **(settings or {})}
        self.env = {
            **clean,
            **{f"OVERSEER_LITE_{key.upper()}": str(value) for key, value in ours.items()},
            "PYTHONPATH": BOOTSTRAP,
            MARK: directory,
            **(env or {}),
        }

    # ---- the command line

    def argv(self, *words: str) -> list[str]:
        """Return a command of the program."""
        return [sys.executable, "-m", "overseer_lite", *words]

    def cli(
        self, *words: str, input: str | None = None, env: Mapping[str, str] | None = None, timeout_s: float = 60.0,
        wrap: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run a command to its end; a traceback in what it says is a violation."""
        done = subprocess.run(
            [*wrap, *self.argv(*words)], cwd=self.directory, env={**self.env, **(env or {})}, input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        if "Traceback" in done.stderr:
            raise Violation(f"{' '.join(words)}: a traceback: {done.stderr[-600:]}")
        return done

    def ask(self, *words: str) -> Any:
        """Run a command that prints JSON, and return it; anything else is a violation."""
        done = self.cli(*words, "--json")
        if done.returncode != 0:
            raise Violation(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return json.loads(done.stdout)

    def lines(self, jobs: Iterable[Mapping[str, Any]]) -> str:
        """Return jobs as JSON Lines, each with what the handlers need."""
        return "".join(
            json.dumps({"type": "work", **job, "args": {"dir": self.directory, **job.get("args", {})}}) + "\n"
            for job in jobs
        )

    def submit(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Submit jobs: `id`, and if wanted `type`, `args`, `dependencies`."""
        done = self.cli("submit", "-", input=self.lines(jobs))
        if done.returncode != 0:
            raise Violation(f"submit ended with {done.returncode}: {done.stderr}")
        self.note(jobs)

    def note(self, jobs: Iterable[Mapping[str, Any]]) -> None:
        """Take jobs as acknowledged."""
        self.jobs.update((job["id"], list(job.get("dependencies", ()))) for job in jobs)

    def start(
        self, *words: str, env: Mapping[str, str] | None = None, wrap: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a `worker` command; what it says goes to a file of the rig."""
        with open(os.path.join(self.directory, f"worker-{len(self._started)}.err"), "wb") as file:
            started = subprocess.Popen(
                [*wrap, *self.argv("worker", *words)], cwd=self.directory, env={**self.env, **(env or {})},
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        self._started.append(started)
        return started

    def said(self) -> str:
        """Return what all started workers have said."""
        text = ""
        for number in range(len(self._started)):
            with open(os.path.join(self.directory, f"worker-{number}.err"), encoding="utf-8", errors="replace") as file:
                text += file.read()
        return text

    def drain(self, workers: int = 2, timeout_s: float = 60.0, env: Mapping[str, str] | None = None) -> None:
        """Run a `worker --drain` to its end."""
        self.finish(self.start("--drain", "-n", str(workers), env=env), timeout_s)

    def finish(self, started: subprocess.Popen[bytes], timeout_s: float = 60.0, code: int = 0) -> None:
        """Wait for a started command's end; a wrong exit code, or none, is a violation."""
        try:
            found = started.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise Violation(f"still running after {timeout_s:g} s; last words: {self.said()[-1500:]}") from None
        if found != code:
            raise Violation(f"a worker command ended with {found}; last words: {self.said()[-1500:]}")

    def stop(self, started: subprocess.Popen[bytes], timeout_s: float = 30.0) -> None:
        """Stop a worker command in order."""
        started.send_signal(signal.SIGTERM)
        self.finish(started, timeout_s)

    # ---- looking on during all of it

    def look_on(self, pause_s: float = 0.5) -> None:
        """Ask `status`, `jobs` and, where there is one, `backup` again and again, in a thread, until `close`."""
        thread = threading.Thread(target=self._look, args=(pause_s,), daemon=True)
        self._lookers.append(thread)
        thread.start()

    def _look(self, pause_s: float) -> None:
        commands = [("status",), ("jobs",), ("workers",)]
        if has_backup():
            commands.append(("backup",))
        while not self._end.wait(pause_s):
            command = commands[self.looks % len(commands)]
            self.looks += 1
            try:
                if command == ("backup",):
                    self._back_up()
                else:
                    self.ask(*command)
            except (Violation, ValueError, subprocess.TimeoutExpired) as error:
                self.trouble.append(f"looking on: {error}")

    def _back_up(self) -> None:
        target = os.path.join(self.directory, f"backup-{self.looks}.db")
        done = self.cli("backup", target)
        if done.returncode != 0:
            raise Violation(f"backup ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        found = examine(target)
        if found["integrity"] != ["ok"] or found["foreign_keys"]:
            raise Violation(f"a backup is not sound: {found['integrity'][:3]} {found['foreign_keys'][:3]}")
        os.unlink(target)

    # ---- the log

    def events(self) -> list[dict[str, Any]]:
        """Return what handlers have logged so far."""
        try:
            with open(self.log, "rb") as file:
                return [json.loads(line) for line in file.read().split(b"\n")[:-1]]
        except FileNotFoundError:
            return []

    def running(self) -> list[dict[str, Any]]:
        """Return the begin events of attempts that have not ended and whose process is there."""
        open_: dict[tuple[str, int], dict[str, Any]] = {}
        for event in self.events():
            if event["event"] == "begin":
                open_[event["job"], event["pid"]] = event
            elif event["event"] in ("end", "raised"):
                open_.pop((event["job"], event["pid"]), None)
        return [event for event in open_.values() if self.is_ours(event["pid"])]

    def wait_for(self, what: Any, timeout_s: float = 20.0, name: str = "a condition") -> Any:
        """Return the first true value of a function; its not coming true is a violation."""
        deadline = time.monotonic() + timeout_s
        while not (value := what()):
            if time.monotonic() > deadline:
                raise Violation(f"{name} did not come true within {timeout_s:g} s; said: {self.said()[-1200:]}")
            time.sleep(0.005)
        return value

    # ---- processes

    def is_ours(self, pid: int) -> bool:
        """Whether a pid is a living process of this rig."""
        return pid > 1 and role_of(pid, self.directory) is not None

    def processes(self) -> list[Process]:
        """Return all living processes that carry any sign of this rig."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdecimal() and int(name) != os.getpid():
                role = role_of(int(name), self.directory)
                if role is not None:
                    found.append(Process(int(name), role))
        return found

    def pids(self, *roles: str) -> list[int]:
        """Return the pids of processes of these roles."""
        return [process.pid for process in self.processes() if process.role in roles]

    def kill(self, pid: int, number: int = signal.SIGKILL) -> bool:
        """Send a signal to a process of this rig, and to no other; False if it is gone."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            if not self.is_ours(pid):
                return False
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(pidfd)
        return True

    def close(self) -> None:
        """End the looking on, and kill all that is left; for whoever is done with judging."""
        self._end.set()
        for thread in self._lookers:
            thread.join()
        for _ in range(50):
            left = self.processes()
            for process in left:
                self.kill(process.pid)
            for started in self._started:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    started.wait(0.01)
            if not left:
                return


def role_of(pid: int, directory: str) -> str | None:
    """Return what a process is in the rig of a directory; None if it is dead or none of it."""
    mark = directory.encode()
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            if file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X"):
                return None
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read()
        given = environment(pid)
    except OSError:
        return None
    ours = f"\0{MARK}={directory}\0".encode() in given
    if not ours and not (mark in command and b"overseer_lite" in command):
        return "other" if holds(pid, directory) else None
    if b"overseer_lite.worker.process" in command:
        return "worker"
    if b"overseer_lite.runner.child" in command:
        return "runner"
    if b"\0-m\0overseer_lite\0" in command and COOKIE not in given:
        return "supervisor" if b"\0worker\0" in command else "command"
    return "other"


def holds(pid: int, directory: str) -> bool:
    """Whether a process has a file of the directory's locks open: whoever lost all other signs still holds one."""
    place = os.path.join(directory, "locks") + os.sep
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}").startswith(place) for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


_backup: bool | None = None


def has_backup() -> bool:
    """Whether this version of the program has `backup`."""
    global _backup
    if _backup is None:
        command = [sys.executable, "-m", "overseer_lite", "backup", "--help"]
        _backup = subprocess.run(command, capture_output=True, check=False).returncode == 0
    return _backup


def examine(path: str, env: Mapping[str, str] | None = None, *, brief: bool = False) -> dict[str, Any]:
    """Look at a store from a process of its own, its history left out if brief; see `examine.py`."""
    done = subprocess.run(
        [sys.executable, os.path.join(HERE, "examine.py"), path, *(["brief"] if brief else [])],
        capture_output=True, text=True, timeout=120, check=False, env=dict(env) if env else None,
    )  # fmt: skip
    if done.returncode != 0:
        raise Violation(f"the store cannot be examined: {done.stderr.strip()[-400:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def kill_below(directory: str) -> bool:
    """Kill every process of a rig in or below a directory; return whether there was any."""
    mark = f"\0{MARK}={directory}".encode()
    found = False
    for pid in [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()]:
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(pid)
            try:
                given = environment(pid)
                if mark + b"\0" in given or mark + b"/" in given or holds(pid, directory):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    found = True
            finally:
                os.close(pidfd)
    return found


def clear_away(directory: str, timeout_s: float = 10.0) -> None:
    """Remove what an earlier run left, which may have been killed: its processes, its small disk, its files."""
    deadline = time.monotonic() + timeout_s
    while kill_below(directory) or os.path.lexists(directory):
        disk = os.path.join(directory, "disk")
        if os.path.ismount(disk):
            subprocess.run(["umount", "-l", disk], check=False)
        shutil.rmtree(directory, ignore_errors=True)
        if time.monotonic() > deadline:
            raise Violation(f"{directory} cannot be removed: somebody writes into it")
        time.sleep(0.02)
