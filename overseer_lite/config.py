"""Settings: one table, and where each value came from.

A value is taken from the first that has one: an option of the command line, the environment (`OVERSEER_LITE_<NAME>`),
the table `[tool.overseer_lite]` of the nearest pyproject.toml upwards, the default. A wrong value is refused wherever
it stands, with its origin in the message; an empty variable is as good as none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from overseer_lite.errors import ConfigError, nearest

PREFIX: Final = "OVERSEER_LITE_"
_TABLE: Final = "overseer_lite"
_DEFAULT: Final = "default"


def cpus() -> int:
    """Return how many CPUs this process may use: how many workers there are unless told."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Setting(NamedTuple):
    """One row of the table.

    Attributes:
        expected: What a value must be, as the message says it.
        check: Takes a value of that kind, or text that says one, and returns it; ValueError or TypeError if it is neither.
        secret: Not to be shown.
    """

    name: str
    default: Any
    doc: str
    expected: str
    check: Callable[[Any], Any]
    secret: bool = False

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"{PREFIX}{self.name.upper()}"

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return f"--{self.name.replace('_', '-')}"


def _text(value: Any) -> str:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value) or "\0" in os.fspath(value):
        raise ValueError
    return os.fspath(value)


def _number(low: float, high: float, *, above: bool = False) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TypeError
        number = float(value)
        if not low <= number <= high or (above and number == low):
            raise ValueError
        return number

    return check


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise TypeError
        number = int(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return check


def _one_of(*words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return check


_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"0", "false", "no", "off"})


def _yes_or_no(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in _YES | _NO:
        raise ValueError
    return value.lower() in _YES


_DAY_S: Final = 24 * 3600.0

SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("db", ".overseer/jobs.db", "The store: a path or an address.", "a path or an address", _text),
    Setting("app", "pipeline.py", "The app: a module, module:attr, or file.py.", "a module or a file", _text),
    Setting(
        "heartbeat_interval_s",
        10.0,
        "Seconds between two heartbeats of a worker.",
        "seconds above 0, at most a day",
        _number(0, _DAY_S, above=True),
    ),
    Setting(
        "tolerance", 5, "How many heartbeats may fail.", "a whole number from 1 to 1,000,000", _whole(1, 1_000_000)
    ),
    Setting(
        "crash_limit",
        3,
        "Crashes after which a job is failed; 0: none is.",
        "a whole number from 0 to 1,000,000",
        _whole(0, 1_000_000),
    ),
    Setting(
        "durability",
        "full",
        "full: a power loss loses nothing; normal: it may run a finished job again.",
        "full or normal",
        _one_of("full", "normal"),
    ),
    Setting(
        "grace_s", 60.0, "Seconds a stopping worker has for its job.", "seconds, at most a day", _number(0, _DAY_S)
    ),
    Setting(
        "spares",
        1,
        "Workers that stand by, their app imported, to take a dead one's place at once.",
        "a whole number from 0 to 64",
        _whole(0, 64),
    ),
    Setting("color", "auto", "Colours on the terminal.", "auto, always or never", _one_of("auto", "always", "never")),
    Setting(
        "profile",
        "local",
        "local: a death is the kernel's word; lease: silence alone, as on a store that spans machines.",
        "local or lease",
        _one_of("local", "lease"),
    ),
    Setting(
        "sentry_dsn", None, "Where failures are reported to; needs the extra `sentry`.", "a DSN", _text, secret=True
    ),
    Setting(
        "unsafe_filesystem",
        False,
        "Allow the store on a filesystem that is not known to be safe.",
        "true or false",
        _yes_or_no,
    ),
)

_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


class Row(NamedTuple):
    """One setting as it stands, for people. `value` is text; a secret is hidden."""

    name: str
    value: str
    origin: str
    doc: str


class Config:
    """The settings as they stand. Made by `load`; a path in it does not depend on the working directory.

    Attributes:
        project: Directory of the nearest pyproject.toml upwards, None if there is none.
    """

    __slots__ = (*_BY_NAME, "_origins", "project")

    db: str
    app: str
    heartbeat_interval_s: float
    tolerance: int
    crash_limit: int
    durability: str
    grace_s: float
    spares: int
    color: str
    profile: str
    sentry_dsn: str | None
    unsafe_filesystem: bool
    project: str | None

    def __init__(self, values: Mapping[str, Any], origins: Mapping[str, str], project: str | None = None) -> None:
        for name in _BY_NAME:
            setattr(self, name, values[name])
        self._origins = dict(origins)
        self.project = project

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{row.name}={row.value}' for row in self.rows())})"

    def origin(self, name: str) -> str:
        """Return where a setting's value came from: an option, a variable, the path of a file, or `default`."""
        return self._origins[name]

    def rows(self) -> list[Row]:
        """Return all settings in the table's order, for `doctor`."""
        return [Row(each.name, self._shown(each), self._origins[each.name], each.doc) for each in SETTINGS]

    def _shown(self, setting: Setting) -> str:
        value = getattr(self, setting.name)
        if value is None:
            return "(none)"
        return "(hidden)" if setting.secret else str(value)


def load(
    overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None, cwd: str | None = None
) -> Config:
    """Return the settings.

    Args:
        overrides: Options by name of the setting; one that is None was not given.
        environ: The environment; this process's by default.
        cwd: Directory to begin at, and to which paths are relative that do not stand in a pyproject.toml; this
            process's working directory by default.

    Raises:
        ConfigError: A value is wrong, a name is none of the table, or pyproject.toml cannot be read.
    """
    environ = os.environ if environ is None else environ
    here = os.path.abspath(cwd if cwd is not None else os.getcwd())
    file = _find_project_file(here)
    project = os.path.dirname(file) if file is not None else None
    table = _read_table(file) if file is not None else {}
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    _check_names(given, "an option")
    _check_names(table, file or "")
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for setting in SETTINGS:
        name = setting.name
        base = here
        if name in given:
            value, origin = given[name], f"option {setting.option}"
        elif environ.get(setting.variable):
            value, origin = environ[setting.variable], f"environment {setting.variable}"
        elif name in table and project is not None and file is not None:
            value, origin, base = table[name], file, project
        else:
            value, origin = setting.default, _DEFAULT
            base = project if project is not None and name == "db" else here
        values[name] = value if origin == _DEFAULT else _checked(setting, value, origin)
        origins[name] = origin
        if name == "db" or (name == "app" and values[name].endswith(".py")):
            values[name] = _absolute(values[name], base)
    return Config(values, origins, project)


def _checked(setting: Setting, value: Any, origin: str) -> Any:
    shown = "(hidden)" if setting.secret else value
    from_file = not origin.startswith(("option ", "environment "))
    if from_file and isinstance(value, str) and not isinstance(setting.default, str | None):
        # TOML has numbers and booleans of its own
        raise ConfigError(setting.name, shown, origin, f"{setting.expected}, without quotes")
    try:
        return setting.check(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(setting.name, shown, origin, setting.expected) from None


def _check_names(names: Mapping[str, Any], origin: str) -> None:
    for name, value in names.items():
        if name not in _BY_NAME:
            near = nearest(name, _BY_NAME)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise ConfigError(name, value, origin, f"one of {', '.join(_BY_NAME)}{hint}")


def _absolute(value: str, base: str) -> str:
    return value if "://" in value else os.path.normpath(os.path.join(base, os.path.expanduser(value)))


def _find_project_file(directory: str) -> str | None:
    while True:
        file = os.path.join(directory, "pyproject.toml")
        if os.path.isfile(file):
            return file
        above = os.path.dirname(directory)
        if above == directory:
            return None
        directory = above


def _read_table(file: str) -> dict[str, Any]:
    try:
        with open(file, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise ConfigError("pyproject.toml", "unreadable", file, f"a file that can be read ({error.strerror})") from None
    if _TABLE.encode() not in data:
        return {}  # without the 6 ms that importing the parser takes
    import tomllib

    try:
        table = tomllib.loads(data.decode()).get("tool", {}).get(_TABLE, {})
    except (ValueError, AttributeError) as error:
        raise ConfigError("pyproject.toml", "unreadable", file, f"valid TOML ({error})") from None
    if not isinstance(table, dict):
        raise ConfigError(f"tool.{_TABLE}", table, file, "a table")
    return table
