"""The command `backup`: a sound copy of a store that is in use."""

from __future__ import annotations

import os

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.session import command, json_option, session


@command(
    "backup",
    short_help="Copy the store to a file, workers at work or not",
    example="overseer-lite backup /mnt/backup/jobs-2026-11-24.db\noverseer-lite status --db /mnt/backup/jobs-2026-11-24.db",
)
@click.argument("file", metavar="FILE")
@json_option
def backup(file: str, as_json: bool) -> None:
    """Copy the store to FILE, which must not exist: checked, of one moment, workers left out, started jobs unstarted.

    To go back to a copy: stop all workers, move the store and its -wal and -shm files away, put the copy in its place.
    """
    done = session().file_store("backup").backup(os.path.abspath(file))
    if as_json:
        say.print_json(done._asdict())
        return
    unstarted = f", {say.plural(done.unstarted, 'started job')} unstarted in it" if done.unstarted else ""
    click.echo(f"Copied to {say.escape(done.path)}: {done.size_bytes / 1024 / 1024:.1f} MiB{unstarted}")
