"""The program: which commands there are, and what becomes of an error.

Exit codes are those of the README's table. Beyond it: 70 is a fault of this program itself (a line says how to see its
traceback), 141 means that whoever read our output went away.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from overseer_lite import failpoints
from overseer_lite.cli.session import LOOK_SETTINGS, Session, setting_options
from overseer_lite.errors import OverseerError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED: Final = 130
OUTPUT_CLOSED: Final = 141
PROGRAM_FAULT: Final = 70
DEBUG_VARIABLE: Final = "OVERSEER_LITE_DEBUG"

#: Where each command stands; a module is imported when one of its commands is asked for.
COMMANDS: Final[dict[str, dict[str, str]]] = {
    "Begin": {"init": "init", "demo": "demo", "check": "work"},
    "Work": {"run": "run", "worker": "work", "submit": "work"},
    "Look": {
        "status": "status",
        "jobs": "look",
        "show": "look",
        "logs": "logs",
        "why": "why",
        "workers": "look",
        "runs": "look",
        "graph": "graph",
        "events": "events",
        "wait": "look",
    },
    "Act": {"retry": "act", "abort": "act", "reset": "act", "prune": "prune", "backup": "backup"},
    "Examine": {"doctor": "doctor", "test-store": "test_store"},
}
_MODULES: Final = {name: module for section in COMMANDS.values() for name, module in section.items()}


class _OutputClosedError(Exception):
    """Whoever read our output went away. No OSError, since click would end on that one with 1: a job failed."""


class Program(click.Group):
    """All commands, each imported on use; every error ends as one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Return the names of all commands, in the order of the help."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Import a command; None if there is none of that name."""
        module = _MODULES.get(cmd_name)
        if module is None:
            return None
        home = importlib.import_module(f"overseer_lite.cli.{module}")
        found: click.Command = getattr(home, cmd_name.replace("-", "_"))
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a misspelt one gets a suggestion."""
        if args[0] not in _MODULES and not args[0].startswith("-"):
            near = nearest(args[0], _MODULES)
            hint = f" Did you mean {near!r}?" if near else ""
            ctx.fail(f"There is no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by what they are for."""
        for section, names in COMMANDS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(section):
                formatter.write_dl([(name, found.get_short_help_str(70)) for name, found in commands if found])

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command; what it printed has been handed on when this returns."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise _OutputClosedError from error
        return result

    def main(  # type: ignore[override]  # it never returns: every end is an exit code
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,  # noqa: ARG002 - click's
        **extra: Any,
    ) -> NoReturn:
        """Run the command line and exit."""
        extra["standalone_mode"] = False
        sys.exit(_guarded(lambda: super(Program, self).main(args, "overseer-lite", **extra)))


def _guarded(call: Any) -> int:
    """Return the exit code of a call; whatever it raises is told in one line."""
    try:
        code = call()
    except OverseerError as error:
        return _end(error.exit_code, str(error), error)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.UsageError as error:
        return _end(error.exit_code, f"{_sentence(error.format_message())}{_usage_hint(error)}", error)
    except click.ClickException as error:
        return _end(error.exit_code, error.format_message(), error)
    except (KeyboardInterrupt, click.Abort) as error:
        return _end(INTERRUPTED, "Stopped.", error)
    except _OutputClosedError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
        return OUTPUT_CLOSED
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
        what = f"{type(error).__name__}: {error}"
        remedy = f"Set {DEBUG_VARIABLE}=1 to see the traceback."
        return _end(PROGRAM_FAULT, f"This is a fault of overseer-lite itself: {what}. {remedy}", error)
    return code if isinstance(code, int) else 0


def _usage_hint(error: click.UsageError) -> str:
    """Return where the right words are to be found; the likeliest slip is told at once."""
    if error.ctx is None:
        return " See `overseer-lite --help`."
    takes_run = any("--run" in parameter.opts for parameter in error.ctx.command.params)
    slip = " A run is named with --run." if takes_run and "extra argument" in error.message else ""
    return f"{slip} See `{error.ctx.command_path} --help`."


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _end(code: int, message: str, error: BaseException) -> int:
    from overseer_lite.cli.show import escape

    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exception(error)
    with suppress(OSError):  # nobody can be told: the disk behind stderr is full, say; the exit code still tells
        click.echo(f"overseer-lite: {escape(message)}", err=True)
    return code


def _print_version(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"overseer-lite {version('overseer-lite')}")
        context.exit()


@click.group(
    cls=Program,
    name="overseer-lite",
    params=setting_options(LOOK_SETTINGS),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings come from an option, else OVERSEER_LITE_<NAME>, else [tool.overseer_lite] of the nearest "
    "pyproject.toml, else the default. Each command's --help has an example. Completion of commands, options, ids, runs "
    'and types: add `eval "$(_OVERSEER_LITE_COMPLETE=bash_source overseer-lite)"` to ~/.bashrc (zsh_source, '
    "fish_source for those).",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@click.pass_context
def program(context: click.Context) -> None:
    """Run a graph of Python jobs on one machine: nothing is lost, nothing runs twice."""
    context.ensure_object(Session)


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a C locale must not turn a name into a traceback
    failpoints.load("cli")
    program.main()
