"""A tree is proved gone on a machine where strangers start and end all the time."""

from __future__ import annotations

import statistics
import subprocess

import pytest

from overseer_lite.liveness import Tree, clear

pytestmark = pytest.mark.slow


def test_strangers_in_the_middle_of_an_exec_are_looked_at_again_by_themselves():
    """There is always such a stranger; beginning anew for each, twelve shells that fork for ever took up to 26 passes."""
    shells = [subprocess.Popen(["/bin/sh", "-c", "while :; do /bin/true; done"]) for _ in range(12)]
    try:
        tree = Tree(cookie="nobody", output="/nowhere/output")
        cleared = [clear(tree, free=lambda: True) for _ in range(9)]
    finally:
        for shell in shells:
            shell.kill()
            shell.wait()
    assert all(each.done and not each.killed for each in cleared)
    assert statistics.median(each.passes for each in cleared) == 1
