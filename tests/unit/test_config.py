"""Settings: where each value comes from, and what is refused."""

from __future__ import annotations

import pytest

from overseer_lite.config import SETTINGS, Row, load
from overseer_lite.errors import ConfigError


@pytest.fixture
def project(tmp_path):
    """A function that writes a project's table and returns the directory two floors below it."""

    def write(table="", text=None):
        below = tmp_path / "project" / "src" / "deep"
        below.mkdir(parents=True, exist_ok=True)
        content = f'[project]\nname = "x"\n[tool.overseer_lite]\n{table}\n' if text is None else text
        (tmp_path / "project" / "pyproject.toml").write_text(content)
        return str(below)

    return write


def test_defaults_just_work(tmp_path):
    """Nothing need be set; paths are absolute, so that they do not depend on the working directory."""
    config = load(environ={}, cwd=str(tmp_path))
    values = {setting.name: getattr(config, setting.name) for setting in SETTINGS}
    assert values == {
        "db": str(tmp_path / ".overseer/jobs.db"),
        "app": str(tmp_path / "pipeline.py"),
        "heartbeat_interval_s": 10.0,
        "tolerance": 5,
        "crash_limit": 3,
        "durability": "full",
        "grace_s": 60.0,
        "spares": 1,
        "color": "auto",
        "profile": "local",
        "sentry_dsn": None,
        "unsafe_filesystem": False,
    }
    assert {config.origin(setting.name) for setting in SETTINGS} == {"default"}
    assert config.project is None


def test_an_option_wins_over_the_environment_over_the_file_over_the_default(project):
    """One after the other is taken away, and the next takes its place; each says where it came from."""
    cwd = project("tolerance = 7")
    file = f"{cwd.removesuffix('/src/deep')}/pyproject.toml"
    environ = {"OVERSEER_LITE_TOLERANCE": "8"}

    def seen(**sources):
        config = load(**{"environ": {}, "cwd": cwd, **sources})
        return config.tolerance, config.origin("tolerance")

    assert seen(overrides={"tolerance": 9}, environ=environ) == (9, "option --tolerance")
    assert seen(overrides={"tolerance": None}, environ=environ) == (8, "environment OVERSEER_LITE_TOLERANCE")
    assert seen() == (7, file)
    project("")
    assert seen() == (5, "default")


def test_an_empty_variable_is_as_good_as_none(project):
    """`OVERSEER_LITE_DB= command` is how a shell unsets for one command."""
    assert load(environ={"OVERSEER_LITE_GRACE_S": ""}, cwd=project("grace_s = 3")).grace_s == 3


def test_paths_are_relative_to_where_they_stand(project):
    """In the file: to the file. In a variable or an option: to the working directory. The default store: to the file."""
    cwd = project('db = "data/x.db"\napp = "jobs/nightly.py"')
    root = cwd.removesuffix("/src/deep")
    config = load(environ={}, cwd=cwd)
    assert (config.db, config.app) == (f"{root}/data/x.db", f"{root}/jobs/nightly.py")
    config = load({"app": "a.py"}, {"OVERSEER_LITE_DB": "../y.db"}, cwd)
    assert (config.db, config.app) == (f"{root}/src/y.db", f"{cwd}/a.py")
    project("")
    config = load(environ={}, cwd=cwd)
    assert (config.db, config.app, config.project) == (f"{root}/.overseer/jobs.db", f"{cwd}/pipeline.py", root)


def test_the_store_of_a_file_without_our_table_lies_beside_it(project):
    """Any pyproject.toml marks the project, ours or not."""
    cwd = project(text="[project]\nname = 'x'\n")
    assert load(environ={}, cwd=cwd).db == f"{cwd.removesuffix('/src/deep')}/.overseer/jobs.db"


def test_addresses_and_modules_stay_as_they_are(project):
    """Only paths are resolved."""
    cwd = project('db = "postgresql://h/x"\napp = "pkg.mod:attr"')
    config = load(environ={}, cwd=cwd)
    assert (config.db, config.app) == ("postgresql://h/x", "pkg.mod:attr")
    assert load({"db": "sqlite:///x.db"}, {}, cwd).db == "sqlite:///x.db"


def test_a_tilde_is_the_home_directory(project, monkeypatch):
    """No shell stands between a file or a unit's environment and us: a directory named `~` is nobody's wish."""
    monkeypatch.setenv("HOME", "/home/of")
    assert load(environ={"OVERSEER_LITE_DB": "~/x.db"}, cwd=project()).db == "/home/of/x.db"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("heartbeat_interval_s", "0.5", 0.5),
        ("crash_limit", "0", 0),
        ("durability", "normal", "normal"),
        ("color", "never", "never"),
        ("profile", "lease", "lease"),
        ("sentry_dsn", "https://k@h/1", "https://k@h/1"),
        ("unsafe_filesystem", "Yes", True),
        ("unsafe_filesystem", "0", False),
    ],
)
def test_a_variable_is_text_and_becomes_a_value(name, text, value, tmp_path):
    """Of the setting's own kind."""
    config = load(environ={f"OVERSEER_LITE_{name.upper()}": text}, cwd=str(tmp_path))
    assert (getattr(config, name), type(getattr(config, name))) == (value, type(value))


def test_the_file_uses_tomls_own_kinds(project):
    """Numbers and booleans without quotes, a whole number for seconds as well."""
    config = load(environ={}, cwd=project("heartbeat_interval_s = 60\nunsafe_filesystem = true\ncrash_limit = 0"))
    assert (config.heartbeat_interval_s, config.unsafe_filesystem, config.crash_limit) == (60.0, True, 0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("heartbeat_interval_s", "0"),
        ("heartbeat_interval_s", "nan"),
        ("heartbeat_interval_s", "inf"),
        ("heartbeat_interval_s", "ten"),
        ("tolerance", "0"),
        ("tolerance", "1.5"),
        ("crash_limit", "-1"),
        ("crash_limit", "9" * 5000),
        ("durability", "FULL"),
        ("grace_s", "-1"),
        ("color", "yes"),
        ("profile", "remote"),
        ("unsafe_filesystem", "maybe"),
        ("db", "a\0b"),
    ],
)
def test_a_wrong_value_is_refused_with_its_origin(name, text, tmp_path):
    """The message names the setting, the value (cut where it is endless), and where it stands."""
    variable = f"OVERSEER_LITE_{name.upper()}"
    value = repr(text) if len(text) < 80 else f"{repr(text)[:80]}..."
    with pytest.raises(ConfigError) as caught:
        load(environ={variable: text}, cwd=str(tmp_path))
    assert f"Setting {name!r} is {value} (from environment {variable})" in str(caught.value)


@pytest.mark.parametrize("line", ['tolerance = "5"', "tolerance = true", "tolerance = 5.0", "db = 1", "color = []"])
def test_a_value_of_another_kind_in_the_file_is_refused(project, line):
    """With the file in the message; a quoted number is one a reader takes for a number."""
    with pytest.raises(ConfigError, match=r"pyproject\.toml\); expected"):
        load(environ={}, cwd=project(line))


def test_an_unknown_key_is_refused_with_the_nearest(project):
    """A misspelt setting must not be without effect in silence, whether in the file or as an option."""
    with pytest.raises(ConfigError, match=r"'tolerence' is 5 \(from .*pyproject.toml\).*mean 'tolerance'"):
        load(environ={}, cwd=project("tolerence = 5"))
    with pytest.raises(ConfigError, match="'graces'"):
        load({"graces": 5}, {}, project())


@pytest.mark.parametrize("text", ["[tool.overseer_lite\n", "[tool]\noverseer_lite = 3\n", "tool = 'overseer_lite'\n"])
def test_a_broken_file_is_refused_by_name(project, text):
    """A file we cannot read may hold settings that matter."""
    with pytest.raises(ConfigError, match=r"pyproject\.toml"):
        load(environ={}, cwd=project(text=text))


def test_rows_show_every_setting_but_no_secret(project):
    """What `doctor` prints: values with their origin; the DSN holds a key."""
    rows = load(environ={"OVERSEER_LITE_SENTRY_DSN": "https://key@h/1"}, cwd=project("tolerance = 7")).rows()
    assert [row.name for row in rows] == [setting.name for setting in SETTINGS]
    shown = {row.name: row for row in rows}
    assert shown["tolerance"].value == "7"
    assert shown["sentry_dsn"]._replace(doc="") == Row(
        "sentry_dsn", "(hidden)", "environment OVERSEER_LITE_SENTRY_DSN", ""
    )
    assert "key@" not in repr(load({"sentry_dsn": "https://key@h/1"}, {}, project()))


def test_a_wrong_secret_is_not_shown_either(tmp_path):
    """An error message ends in a log."""
    with pytest.raises(ConfigError) as caught:
        load(environ={"OVERSEER_LITE_SENTRY_DSN": "key\0"}, cwd=str(tmp_path))
    assert "key" not in str(caught.value)
