"""The app whose handlers the benches run. Nothing here but what a bench needs to be told."""

import os
import time

import overseer_lite as overseer

handlers = overseer.Handlers()


def stamp(path, *words):
    """Append a line, whole: the moment by the machine's monotonic clock, who, and what."""
    line = " ".join(map(str, (time.monotonic_ns(), os.getpid(), os.getppid(), *words))) + "\n"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(fd, line.encode())
    os.close(fd)


@handlers
def noop(job):
    """Nothing at all."""


@handlers
def echo(job):
    """Take args and give a result, as peers do that keep results."""
    return job.args


@handlers
def spin(job):
    """Hold the CPU for so many milliseconds."""
    until = time.process_time() + job.args["ms"] / 1000
    while time.process_time() < until:
        pass


@handlers
def moment(_job):
    """Say when it began."""
    return time.monotonic_ns()


@handlers
def first_hangs(job):
    """Say when each attempt began; the first never ends by itself."""
    stamp(job.args["file"], job.name, job.attempt)
    while job.attempt == 1:
        time.sleep(60)


def graph(layers=10, width=100, kind="noop"):
    """Return a layered graph: each job depends on two of the layer before."""
    g = overseer.Graph()
    above = []
    for layer in range(layers):
        above = [
            g.add(kind, f"{layer}-{n}", dependencies=[above[n], above[(n + 1) % width]] if above else [])
            for n in range(width)
        ]
    return g
