"""An image's instructions carried out without a container engine: in a copy-on-write view of this machine.

What the base image brings, a Python and its pip, is this interpreter's. Namespaces of its own for mounts and processes, so
the image's command is process 1 there; a volume is a directory of the machine's own disk, as its maker left it.
"""

from __future__ import annotations

import functools
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.pages.blocks import ROOT

START_S = 60.0
NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c"]
BECOME = 'exec setpriv --reuid "$0" --regid "$(id -g "$0")" --clear-groups "$@"'


def _view(directory):
    """Return the commands that show this machine's files at `root` in a directory; what is written there is not here."""
    layers = f"lowerdir=/,upperdir={directory}/upper,workdir={directory}/work"
    return [
        f"mount -t tmpfs view {directory}",
        f"mkdir {directory}/upper {directory}/work {directory}/root",
        f"mount -t overlay overlay -o {layers} {directory}/root",
    ]


@functools.cache
def possible():
    """Whether this machine lets us make the smallest of images, and start it as somebody who is not root."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    with tempfile.TemporaryDirectory() as directory:
        view = Path(directory, "view")
        view.mkdir()
        text = script(["USER nobody", 'CMD ["true"]'], Path(directory), view, Path(directory))
        return subprocess.run([*NAMESPACES, text], capture_output=True, check=False).returncode == 0


def script(instructions, context, view, volumes):
    """Return the shell script that does what the instructions say, and at last becomes the image's command."""
    bin_directory = Path(sys.executable).parent
    lines = ["set -e", *_view(view), f"mount -t proc proc {view}/root/proc", f"mount --bind /dev {view}/root/dev"]
    shown = {Path(sys.prefix), Path(sys.base_prefix), ROOT}
    for path in sorted(path for path in shown if path.stat().st_dev != Path("/").stat().st_dev):
        lines += [f"mkdir -p {view}/root{path}", f"mount --bind {path} {view}/root{path}"]
    opened = {parent for path in shown for parent in path.parents}
    lines.append("chmod o+x " + " ".join(f"{view}/root{path}" for path in sorted(opened)))  # for whoever is not root
    place, user, env, command = "/", None, {"PATH": f"{bin_directory}:/usr/sbin:/usr/bin:/sbin:/bin"}, None

    def inside(argv):
        who = [] if user is None else ["sh", "-c", BECOME, user]
        words = [f"{name}={value}" for name, value in env.items()]
        there = ["sh", "-c", f'cd {shlex.quote(place)} && exec "$@"', "sh"]
        return shlex.join(["chroot", f"{view}/root", "env", "-i", *words, *who, *there, *argv])

    for word, _, rest in (line.partition(" ") for line in instructions):
        if word == "RUN":
            lines.append(inside(["sh", "-ec", rest]))
        elif word == "WORKDIR":
            place = rest
            lines.append(f"mkdir -p {view}/root{place}")
        elif word == "COPY":
            source, target = rest.split()
            lines.append(f"cp -r {context / source}/. {view}/root{os.path.join(place, target)}")
        elif word == "USER":
            user = rest
        elif word == "ENV":
            name, _, env[name] = rest.partition("=")
        elif word == "VOLUME":
            own = volumes / rest.strip("/").replace("/", "-")
            lines += [f"mkdir -p {view}/root{rest} {own}", f"chown --reference {view}/root{rest} {own}"]
            lines += [f"chmod --reference {view}/root{rest} {own}", f"mount --bind {own} {view}/root{rest}"]
        elif word in {"CMD", "ENTRYPOINT"}:
            command = json.loads(rest)
        else:
            assert word == "FROM", f"nobody here knows how to {word}"
    lines.append(f"exec {inside(command)}")
    return "\n".join(lines)


def _read_until(stream, words, times):
    """Read until words have come so many times; return what was read."""
    said = b""
    until = time.monotonic() + START_S
    while said.count(words) < times:
        ready = select.select([stream], [], [], max(0.0, until - time.monotonic()))[0]
        data = os.read(stream.fileno(), 65536) if ready else b""
        assert data, f"it does not come up:\n{said.decode()}"
        said += data
    return said


def start_and_stop(instructions, context, workers):
    """Make the image, start it, and stop it as `docker stop` does once its workers are there; return what it said.

    Raises:
        AssertionError: It does not come up, or does not end in order.
    """
    with tempfile.TemporaryDirectory() as directory:
        view, volumes = Path(directory, "view"), Path(directory, "volumes")
        view.mkdir()
        volumes.mkdir()
        os.chmod(directory, 0o755)  # the image's user must come through; what is in it is the page's
        text = script(instructions, context, view, volumes)
        argv = [*NAMESPACES, text]
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as running:
            try:
                said = _read_until(running.stdout, b"Worker starting", workers)
                (first,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text(encoding="ascii").split()
                os.kill(int(first), signal.SIGTERM)
                rest, _ = running.communicate(timeout=START_S)
            finally:
                running.kill()
        text = (said + rest).decode()
        assert running.returncode == 0, f"it ended with {running.returncode}:\n{text}"
        assert any(path.name == "jobs.db" for path in volumes.rglob("*")), f"its store is on no volume:\n{text}"
        return text
