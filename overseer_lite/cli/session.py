"""What every command shares: its options for settings, its settings, its store.

Each setting is an option of the program and of every command, so it may stand before the command or after it; the one
nearer to the end wins. A command's help shows only those that matter to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import click

from overseer_lite import config
from overseer_lite.errors import InvalidInputError, UnknownJobError
from overseer_lite.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from overseer_lite.job import JobInfo
    from overseer_lite.store import FileStore, FullStore

#: Shorter names for some options.
_ALIASES: Final = {"heartbeat_interval_s": ["--heartbeat-interval"], "grace_s": ["--grace"]}
_LOOKED_AT: Final = 5000  # a name is looked for among so many jobs; an id among all
WORK_SETTINGS: Final = (
    "db",
    "heartbeat_interval_s",
    "tolerance",
    "crash_limit",
    "durability",
    "grace_s",
    "spares",
    "color",
    "unsafe_filesystem",
)
LOOK_SETTINGS: Final = ("db", "color")


class Session:
    """One invocation: the options given so far, and what follows from them."""

    def __init__(self) -> None:
        self.overrides: dict[str, Any] = {}
        self._settings: config.Config | None = None

    @property
    def settings(self) -> config.Config:
        """The settings, read at the first use, when all options are known.

        Raises:
            ConfigError: One has a value it cannot have.
        """
        if self._settings is None:
            self._settings = config.load(self.overrides)
        return self._settings

    def store(self) -> FullStore:
        """Open the store of these settings; nothing is touched before its first use, and nothing is made.

        It is closed when the command ends.
        """
        settings = self.settings
        options: dict[str, Any] = {}
        if "://" not in settings.db or settings.db.startswith("sqlite://"):
            options = {
                "durability": settings.durability,
                "crash_limit": settings.crash_limit,
                "unsafe_filesystem": settings.unsafe_filesystem,
            }
        store = open_store(settings.db, **options)
        click.get_current_context().call_on_close(store.close)
        return store

    def file_store(self, verb: str) -> FileStore:
        """Return the store as one that is kept in a file.

        Raises:
            InvalidInputError: It is not.
        """
        store = self.store()
        if not hasattr(store, verb):
            raise InvalidInputError(f"The store {self.settings.db} is kept in no file of ours: it has no `{verb}`.")
        return cast("FileStore", store)


def session() -> Session:
    """Return the session of the command that runs."""
    return click.get_current_context().ensure_object(Session)


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value is not None and option.name is not None:
        context.ensure_object(Session).overrides[option.name] = value


def setting_options(shown: Iterable[str]) -> list[click.Option]:
    """Return an option for each setting; those not named are taken, but not shown in the help.

    A secret has none: whoever can list processes could read it.
    """
    options = []
    for setting in config.SETTINGS:
        if setting.secret:
            continue
        flag: dict[str, Any] = {"metavar": setting.expected.split(",")[0].upper().replace(" ", "-")}
        if isinstance(setting.default, bool):
            flag = {"is_flag": True, "flag_value": "true"}
        elif setting.name in _METAVARS:
            flag = {"metavar": _METAVARS[setting.name]}
        options.append(
            click.Option(
                [setting.name, setting.option, *_ALIASES.get(setting.name, ())],
                help=f"{setting.doc} Default: {setting.default}." if setting.default is not False else setting.doc,
                hidden=setting.name not in shown,
                expose_value=False,
                callback=_remember,
                default=None,
                **flag,
            )
        )
    return options


_METAVARS: Final = {
    "db": "PATH",
    "app": "APP",
    "heartbeat_interval_s": "SECONDS",
    "tolerance": "N",
    "crash_limit": "N",
    "durability": "full|normal",
    "grace_s": "SECONDS",
    "spares": "N",
    "color": "auto|always|never",
    "profile": "local|lease",
}


class Command(click.Command):
    """A command that takes every setting as an option, and whose help ends with an example."""

    def __init__(self, *args: Any, shown: Iterable[str] = LOOK_SETTINGS, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        own = {name for param in self.params for name in param.opts}
        self.params.extend(option for option in setting_options(shown) if not own & set(option.opts))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the example as it is typed."""
        if self.example:
            with formatter.section("Example"):
                for line in self.example.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def command(
    name: str, example: str, shown: Iterable[str] = LOOK_SETTINGS, short_help: str | None = None
) -> Callable[[Callable[..., Any]], click.Command]:
    """Return the decorator that makes a function a command of that name."""

    def make(function: Callable[..., Any]) -> click.Command:
        return click.command(name, cls=Command, example=example, shown=shown, short_help=short_help)(function)

    return make


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout, and nothing else there.")


def completing(what: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return what completes a word after Tab: a function of `complete`, which is imported when it is asked."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        from overseer_lite.cli import complete as room

        found: list[str] = getattr(room, f"complete_{what}")(context, parameter, begun)
        return found

    return complete


run_option = click.option("--run", "run", metavar="RUN", help="Only that run.", shell_complete=completing("run"))
job_argument = click.argument("job_id", metavar="ID", shell_complete=completing("job"))


def jobs_argument(*, required: bool) -> Callable[[Any], Any]:
    """Return the argument that takes ids of jobs."""
    return click.argument("job_ids", metavar="ID...", nargs=-1, required=required, shell_complete=completing("job"))


def hint(*words: str) -> str:
    """Return the command line that does something, as it can be typed: the store is named where an option named it."""
    import shlex

    from overseer_lite.cli.show import escape

    settings = session().settings
    where = ["--db", settings.db] if settings.origin("db").startswith("option") else []
    return " ".join(shlex.quote(escape(word)) for word in ("overseer-lite", *words, *where))


def find_job(store: FullStore, given: str, run: str | None = None) -> JobInfo:
    """Return the job an operator means: its id, or its name where only one job of the store (or run) has it.

    Raises:
        UnknownJobError: There is none; the message suggests one that is alike.
        InvalidInputError: Several have that name.
    """
    info = store.job_info(given)
    if info is None and run is not None:
        info = store.job_info(f"{run}/{given}")
    if info is None:
        alike = [job for job in store.jobs(text=given, run=run, limit=_LOOKED_AT) if job.name == given]
        if len(alike) > 1:
            shown = ", ".join(job.id for job in alike[-3:])
            raise InvalidInputError(f"{len(alike)} jobs are named {given!r}, the last of them {shown}. Give an id.")
        if alike:
            info = store.job_info(alike[0].id)
    if info is None:
        raise UnknownJobError(given, nearest_job(store, given))
    return info


def nearest_job(store: FullStore, given: str) -> str | None:
    """Return the id, or else the name, of a job that looks like what was given."""
    near = store.nearest_id(given)
    if near is None:
        from overseer_lite.errors import nearest

        near = nearest(given, (job.name for job in store.jobs(limit=_LOOKED_AT)))
    return near


def find_jobs(store: FullStore, given: Sequence[str], run: str | None = None) -> list[JobInfo]:
    """Return the jobs an operator means, each once; see `find_job`."""
    return list({job.id: job for job in (find_job(store, each, run) for each in given)}.values())


def check_run(store: FullStore, run: str | None) -> None:
    """Raise UnknownRunError unless the run, if one is given, is in the store."""
    if run is not None and store.run_info(run) is None:
        from overseer_lite.errors import UnknownRunError, nearest

        raise UnknownRunError(run, nearest(run, (each.id for each in store.runs(limit=1000))))
