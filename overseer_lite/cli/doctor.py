"""The command `doctor`: look at the store and all around it, and say what to do."""

from __future__ import annotations

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.session import WORK_SETTINGS, command, json_option, session
from overseer_lite.errors import StoreError

_MARKS = {"ok": "ok", "warning": "WARNING", "error": "ERROR"}
_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


@command(
    "doctor",
    short_help="Examine the store, its files and its workers",
    example="overseer-lite doctor\noverseer-lite doctor --full --json",
    shown=WORK_SETTINGS,
)
@click.option("--full", is_flag=True, help="Read every page and row: seconds a GiB.")
@json_option
def doctor(full: bool, as_json: bool) -> int:
    """Look at the store, its files, its workers and its settings; exit 3 if it cannot be relied on, else 0."""
    settings = session().settings
    silent_for_s = float(settings.heartbeat_interval_s * settings.tolerance)
    findings = session().file_store("examine").examine(full=full, silent_for_s=silent_for_s)
    code = StoreError.exit_code if any(each.level == "error" for each in findings) else 0
    if as_json:
        rows = [{"name": row.name, "value": row.value, "origin": row.origin} for row in settings.rows()]
        say.print_json({"findings": [each._asdict() for each in findings], "settings": rows, "exit_code": code})
        return code
    colour = say.is_terminal(settings.color)
    for each in findings:
        mark = f"{_MARKS[each.level]:<8}"
        click.echo(f"{_coloured(mark, each.level) if colour else mark}{each.what}: {say.escape(each.detail)}")
        if each.remedy:
            click.echo(f"        -> {say.escape(each.remedy)}")
    click.echo("settings:")
    for row in settings.rows():
        click.echo(f"        {row.name} = {say.escape(row.value)} ({say.escape(row.origin)})")
    return code


def _coloured(text: str, level: str) -> str:
    return click.style(text, fg=_STYLES[level].removeprefix("bold "), bold=level == "error")
