"""The app under test: handlers that keep an append-only log and hold a kernel lock per job, and hostile ones.

Each event is one line of JSON in the file `log` of the directory that the job's args name, written with O_APPEND. The
lock of a job is a file of its own, locked without waiting for the whole attempt; a subprocess, a forked child and a
daemon hold it on, since they share the open file. Whoever does not get it has seen two attempts overlap: promise P1.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import overseer_lite as overseer

handlers = overseer.Handlers()


class Attempt:
    """One attempt in the log, the job's lock held for as long as anybody of it lives."""

    def __init__(self, job):
        self.job = job
        self.directory = job.args["dir"]
        name = hashlib.sha256(job.id.encode()).hexdigest()[:24]
        self.log = os.open(
            os.path.join(self.directory, "log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        path = os.path.join(self.directory, "locks", name)
        self.lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, event):
        """Append one event."""
        line = {
            "event": event,
            "job": self.job.id,
            "attempt": self.job.attempt,
            "pid": os.getpid(),
            "ppid": os.getppid(),
            "t_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        }
        os.write(self.log, json.dumps(line).encode() + b"\n")

    def __enter__(self):
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.note("overlap")
        self.note("begin")
        return self

    def __exit__(self, kind, error, trace):
        try:
            self.note("end" if kind is None else "raised")
            os.close(self.lock)  # not LOCK_UN: whoever shares the open file holds it on
            os.close(self.log)
        except OSError:
            pass  # the handler closed all descriptors, which is its test


def _nap(seconds):
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, 0.05))


def _seconds(job):
    """Return how long this attempt is to take: `s`, or one entry of it an attempt."""
    s = job.args["s"]
    return s[min(job.attempt, len(s)) - 1] if isinstance(s, list) else s


@handlers
def work(job):
    """Work for `s` seconds; with `sub`, in a subprocess that holds the lock and may outlive us."""
    with Attempt(job) as attempt:
        print(job.id, "at work")  # whoever was here before may have closed or moved our streams
        if job.args.get("sub"):
            subprocess.run(
                ["/bin/sleep", str(_seconds(job))],
                pass_fds=[attempt.lock],
                check=True,
                start_new_session=job.args["sub"] == "session",
            )
        else:
            _nap(_seconds(job))
        return {"attempt": job.attempt}


@handlers(retries=1, backoff=0)
def failing(job):
    """Fail, the first time."""
    with Attempt(job):
        _nap(_seconds(job))
        if job.attempt == 1:
            raise RuntimeError("the first time")


@handlers
def noop(job):
    """Do next to nothing, so that groups of these are reserved; with `s`, be a long one among them."""
    with Attempt(job):
        if "s" in job.args:
            _nap(_seconds(job))


@handlers(retries=3, backoff=0)
def hostile(job):
    """On the first attempt do the evil that `kind` names; on later ones be good."""
    with Attempt(job) as attempt:
        if job.attempt == 1 or job.args.get("always"):
            return EVIL[job.args["kind"]](job, attempt)
        _nap(0.05)
        return "good"


@handlers(timeout=1.0, retries=1, backoff=0)
def endless(job):
    """Hold the interpreter for ever, the first time."""
    with Attempt(job):
        if job.attempt == 1:
            re.match(r"(a+)+$", "a" * 60 + "b")
        return "good"


def _close_all_but(keep):
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd != keep:
            try:
                os.close(fd)
            except OSError:
                pass


def _fork(attempt, seconds=60.0):
    """Leave a forked child that never execs and holds what we hold."""
    if os.fork() == 0:
        time.sleep(seconds)
        os._exit(0)


def _daemon(attempt, then):
    """Leave a grandchild in a session of its own."""
    if (child := os.fork()) == 0:
        os.setsid()
        if os.fork() == 0:
            then()
        os._exit(0)
    with contextlib.suppress(ChildProcessError):  # another evil handler may have this runner ignore SIGCHLD
        os.waitpid(child, 0)


def fork_and_finish(job, attempt):
    _fork(attempt)
    return "forked"


def fork_and_raise(job, attempt):
    _fork(attempt)
    raise RuntimeError("after a fork")


def subprocess_and_raise(job, attempt):
    subprocess.Popen(["/bin/sleep", "60"], pass_fds=[attempt.lock], start_new_session=True)
    raise RuntimeError("after a subprocess")


def daemonise_and_raise(job, attempt):
    def then():
        _close_all_but(attempt.lock)
        time.sleep(60)

    _daemon(attempt, then)
    raise RuntimeError("after a daemon")


def empty_environment(job, attempt):
    def then():
        _close_all_but(attempt.lock)
        os.set_inheritable(attempt.lock, True)
        os.execve("/bin/sleep", ["sleep", "60"], {})

    _daemon(attempt, then)
    raise RuntimeError("after a daemon without environment")


def hop(job, attempt):
    """Leave children that go from pid to pid, as a child between fork and exec does, until they are caught."""
    for _ in range(8):
        if os.fork() == 0:
            until = time.monotonic() + job.args.get("hop_s", 2.0)
            while time.monotonic() < until:
                time.sleep(0.0005)
                if os.fork():
                    os._exit(0)
            os._exit(0)
    _nap(job.args.get("s", 0.0))
    raise RuntimeError("after hopping")


def hop_by_exec(job, attempt):
    """The same by programs: they hold nothing of the worker's, so only looking again finds them."""
    script = os.path.join(attempt.directory, f"hop-{os.getpid()}.sh")
    with open(script, "w", encoding="ascii") as file:
        file.write('if [ "$1" -gt 0 ]; then sh "$0" $(($1 - 1)) "$2" & else exec sleep "$2"; fi\n')
    for _ in range(4):
        subprocess.Popen(["/bin/sh", script, str(job.args["hops"]), "3"], pass_fds=[attempt.lock])
    _nap(job.args.get("s", 0.0))
    raise RuntimeError("after hopping")


def close_all(job, attempt):
    os.closerange(0, 1024)
    return "closed"


def close_streams(job, attempt):
    sys.stdout.close()
    sys.stderr.close()
    os.close(1)
    os.close(2)
    return "closed"


def read_store(job, attempt):
    for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
        for _ in range(20):
            with open(os.path.join(attempt.directory, name), "rb") as file:
                file.read()
    return "read"


def fill_stdout(job, attempt):
    block = "x" * 65535 + "\n"
    for _ in range(1600):
        sys.stdout.write(block)
    print("the last line")
    return "filled"


def hold(job, attempt):
    """Hold the interpreter, in one C call that releases nothing, for about `hold_s` seconds."""
    until = time.monotonic() + job.args["hold_s"]
    rounds = 20
    while time.monotonic() < until:
        begun = time.monotonic()
        re.match(r"(a+)+$", "a" * rounds + "b")
        took = time.monotonic() - begun
        if took < 0.4 * job.args["hold_s"]:
            rounds += 1
    return "held"


def stop_runner(job, attempt):
    os.kill(os.getpid(), signal.SIGSTOP)
    return "woken"


def stop_worker(job, attempt):
    os.kill(os.getppid(), signal.SIGSTOP)
    _nap(60)


def kill_worker(job, attempt):
    os.kill(os.getppid(), signal.SIGKILL)
    _nap(60)


def kill_group(job, attempt):
    os.killpg(0, signal.SIGKILL)


def exit_now(job, attempt):
    os._exit(3)


def system_exit(job, attempt):
    sys.exit(4)


def segfault(job, attempt):
    ctypes.string_at(0)


def thread_and_raise(job, attempt):
    copy = os.dup(attempt.lock)
    threading.Thread(target=lambda: (time.sleep(60), os.close(copy)), daemon=True).start()
    raise RuntimeError("after a thread")


def thread_and_finish(job, attempt):
    threading.Thread(target=time.sleep, args=(60,)).start()
    return "finished"


def garble(job, attempt):
    for fd in set(range(3, 10)) - {attempt.log, attempt.lock}:
        try:
            os.write(fd, b"\xff\xff\x00\x00 this is no frame" * 100)
        except OSError:
            continue
    _nap(60)


def ignore_signals(job, attempt):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    return "ignored"


def recurse(job, attempt):
    return recurse(job, attempt)


def huge_result(job, attempt):
    return "x" * (2 << 20)


EVIL = {
    function.__name__: function
    for function in (
        fork_and_finish, fork_and_raise, subprocess_and_raise, daemonise_and_raise, empty_environment, hop, hop_by_exec, close_all,
        close_streams, read_store, fill_stdout, hold, stop_runner, stop_worker, kill_worker, kill_group, exit_now,
        system_exit, segfault, thread_and_raise, thread_and_finish, garble, ignore_signals, recurse, huge_result,
    )
}  # fmt: skip
