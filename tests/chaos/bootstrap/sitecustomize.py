"""What the harness does inside the program's own processes, from outside the program: python imports this at its start.

CHAOS_ONCE        a failpoint that has done its deed in one process is not armed in those that take its place
CHAOS_FIRST       a file: failpoints are armed in the first process of the role they name only
CHAOS_STRACE      `role file argument...` (JSON): the first process of that role goes on under strace, its pid kept
CHAOS_GROUP       so many jobs are reserved at a time, whatever was measured
CHAOS_BAD_BUILD   the name of a known-bad build; see badbuild.py
"""

import os
import sys


def _role():
    words = sys.orig_argv
    text = "\0".join(words)
    if "overseer_lite.worker.process" in text:
        return "worker"
    if "overseer_lite.runner.child" in text:
        return "runner" if '"verb": "serve"' in text else "inspection"
    if "-m" in words and "overseer_lite" in words:
        return "supervisor" if "worker" in words else "command"
    return ""


def _done(armed, log):
    """Whether some process has visited the armed point often enough for its deed."""
    point, _, rest = armed.partition("=")
    at = int(rest.partition("%")[0].partition("@")[2] or 1)
    try:
        with open(log, "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return False
    visits = [line for line in lines if line.startswith(point.encode() + b" ")]
    return any(visits.count(line) >= at for line in set(visits))


def _once():
    armed = os.environ.get("OVERSEER_LITE_FAILPOINTS")
    if armed and _done(armed, os.environ["OVERSEER_LITE_FAILPOINTS_LOG"]):
        del os.environ["OVERSEER_LITE_FAILPOINTS"]


def _first(role):
    if not os.environ.get("OVERSEER_LITE_FAILPOINTS", "").endswith(f"%{role}"):
        return
    try:
        os.close(os.open(os.environ["CHAOS_FIRST"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        del os.environ["OVERSEER_LITE_FAILPOINTS"]


def _trace(role):
    import json

    wanted, path, *arguments = json.loads(os.environ["CHAOS_STRACE"])
    if role != wanted:
        return
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return  # once
    os.execvp("strace", ["strace", "-D", "-qq", "-o", path, *arguments, *sys.orig_argv])


_ROLE = _role()
if _ROLE and "CHAOS_ONCE" in os.environ:
    _once()
if _ROLE and "CHAOS_FIRST" in os.environ:
    _first(_ROLE)
if _ROLE and "CHAOS_STRACE" in os.environ:
    _trace(_ROLE)
if _ROLE == "command" and "OVERSEER_LITE_FAILPOINTS" in os.environ:
    from overseer_lite import failpoints

    failpoints.load("command")  # commands other than `worker` do not do so themselves
if _ROLE == "worker" and "CHAOS_GROUP" in os.environ:
    from overseer_lite.worker.pace import Pace

    Pace.size = lambda _self, _kind: int(os.environ["CHAOS_GROUP"])
if _ROLE in ("worker", "supervisor") and "CHAOS_BAD_BUILD" in os.environ:
    import badbuild

    badbuild.apply(os.environ["CHAOS_BAD_BUILD"])
