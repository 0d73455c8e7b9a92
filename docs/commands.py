"""The page of the reference that follows from the command line: what each command's `--help` says, and the settings."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import click

from docs.names import NOTE
from overseer_lite.cli.main import COMMANDS, program
from overseer_lite.cli.session import Session
from overseer_lite.config import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands_page() -> str:
    """Return the page of all commands and settings."""
    lines = ["# The command line", "", NOTE.format(what="the commands themselves")]
    lines += [
        "`python -m overseer_lite` is the same as `overseer-lite`. Options may stand after the command. What the exit codes",
        "mean stands in [Operating it](../operating.md#exit-codes).",
        "",
    ]
    with click.Context(program, info_name="overseer-lite", obj=Session(), **program.context_settings) as context:
        for section, names in COMMANDS.items():
            lines += [f"## {section}", ""]
            for name in names:
                command = program.get_command(context, name)
                if command is None:
                    raise LookupError(f"the command {name} is in the table, and is not there")
                lines += _entry(name, command, context)
    lines += ["## Settings", ""]
    lines += ["Each is also an option of every command, whether its help shows it or not.", ""]
    lines += ["| setting | environment | default | |", "|---|---|---|---|"]
    for setting in SETTINGS:
        default = "" if setting.default is None else f"`{setting.default}`"
        lines.append(
            f"| `{setting.name}` | `{setting.variable}` | {default} | {setting.doc} Expected: {setting.expected}. |"
        )
    return "\n".join(lines) + "\n"


def _entry(name: str, command: click.Command, context: click.Context) -> Iterator[str]:
    with click.Context(command, info_name=name, parent=context) as own:
        usage = " ".join([name, *command.collect_usage_pieces(own)])
        yield from (f"### `{name}`", "", f"`{usage}`", "", inspect.cleandoc(command.help or ""), "")
        rows = [
            record
            for option in command.get_params(own)
            if isinstance(option, click.Option)
            and option.name != "help"
            and (record := option.get_help_record(own)) is not None
        ]
    yield from ("| option | |", "|---|---|")
    yield from (f"| `{_cell(names)}` | {_cell(text)} |" for names, text in rows)
    yield from ("", "```sh", getattr(command, "example", ""), "```", "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
