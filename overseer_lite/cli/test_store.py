"""The command `test-store`: run the contract suite on somebody's store."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import click

from overseer_lite.cli.session import command
from overseer_lite.errors import InvalidInputError
from overseer_lite.liveness.spawn import python_argv

#: Named, never imported: it is pytest's, and what it imports is somebody else's store.
_SUITE: Final = "overseer_lite.testing.factory"


@command(
    "test-store",
    short_help="Run the contract suite on a store of yours",
    example="overseer-lite test-store mypackage.stores:factory\n"
    "overseer-lite test-store overseer_lite.testing:sqlite_factory -k c01",
)
@click.argument("factory", metavar="PKG.MOD:FACTORY")
@click.option("-k", "select", metavar="EXPR", help="Only the clauses that match, as pytest's -k.")
@click.option("--brief", is_flag=True, help="Only the clauses that are broken, a line each.")
def test_store(factory: str, select: str | None, brief: bool) -> int:
    """Run the contract suite on what a factory makes; exit 0 if every clause is kept, else 1.

    FACTORY is called with a directory and a clock, and returns a fresh, installed store that goes by that clock. What
    the store does not declare among its capabilities is skipped, and said so. Needs pytest.
    """
    sys.stdout.flush()
    done = subprocess.run(
        python_argv(_SUITE, [factory, select, brief]),
        check=False,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode == InvalidInputError.exit_code:
        raise InvalidInputError(done.stderr.strip().rpartition("\n")[2])
    click.echo(done.stderr, err=True, nl=False)
    return 1 if done.returncode else 0
