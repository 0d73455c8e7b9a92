"""Loading an app: the module the operator named, imported afresh in the one process that runs its handlers."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
import traceback
from contextlib import nullcontext, suppress
from importlib.machinery import SourceFileLoader
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from overseer_lite.errors import AppError, InvalidInputError, OverseerError
from overseer_lite.handler import Handler, as_handlers

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


_NEW_S: Final = 2.0


class App(NamedTuple):
    """An app, loaded.

    Attributes:
        handlers: By type.
        graph: Its `graph` attribute, None if it has none.
        context: Its `context`, entered once per runner.
        file: Its source file; '' if it has none.
    """

    handlers: dict[str, Handler]
    graph: Any
    context: Callable[[], AbstractContextManager[Any]]
    file: str


def load_app(name: str) -> App:
    """Import an app: a module, `module:attribute` or `file.py`.

    The working directory, or the file's own, comes first on sys.path.

    Raises:
        AppError: It cannot be found or imported, or has no usable handlers; one line that says where and why.
    """
    target, _, attribute = name.partition(":") if not name.endswith(".py") else (name, "", "")
    module = _load_file(name) if target.endswith(".py") else _load_module(name, target)
    app: Any = module
    for part in filter(None, attribute.split(".")):
        if not hasattr(app, part):
            raise AppError(
                name, f"module {target!r} has no attribute {attribute!r}", "Correct the name after the colon"
            )
        app = getattr(app, part)
    handlers = app if isinstance(app, dict) else getattr(app, "handlers", None)
    if handlers is None:
        raise AppError(
            name, "it has no `handlers`", "Give it `handlers = overseer_lite.Handlers()` or a dict {type: function}"
        )
    try:
        usable = as_handlers(handlers)
    except InvalidInputError as error:
        raise AppError(name, str(error).rstrip("."), "Correct its `handlers`") from None
    context = getattr(app, "context", None)
    if context is not None and not callable(context):
        raise AppError(name, "its `context` cannot be called", "Make it a function with @contextlib.contextmanager")
    file = getattr(module, "__file__", None) or ""
    return App(usable, getattr(app, "graph", None), context or nullcontext, os.path.realpath(file) if file else "")


def _load_file(name: str) -> Any:
    path = os.path.realpath(name)
    if not os.path.isfile(path):
        raise AppError(name, f"there is no file {path}", "Name a file or a module; the default is pipeline.py")
    _put_first(os.path.dirname(path))
    stem = os.path.basename(path).removesuffix(".py")
    if stem in sys.modules or not stem.isidentifier() or stem in sys.stdlib_module_names:
        stem = "overseer_app_" + "".join(c if c.isalnum() else "_" for c in stem)
    spec = importlib.util.spec_from_file_location(stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module  # so that what it defines can be pickled by whoever wants to
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        raise _import_error(name, error) from error
    return module


def _load_module(name: str, target: str) -> Any:
    _put_first(os.getcwd())
    try:
        return importlib.import_module(target)
    except ModuleNotFoundError as error:
        if error.name and (target == error.name or target.startswith(error.name + ".")):
            raise AppError(
                name,
                f"there is no module {target!r} on sys.path or in {os.getcwd()}",
                "Correct the name, or give a file.py",
            ) from error
        raise _import_error(name, error) from error
    except BaseException as error:
        raise _import_error(name, error) from error


def _import_error(name: str, error: BaseException) -> AppError:
    if isinstance(error, OverseerError):
        return AppError(name, str(error).rstrip("."), "Correct it")
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{os.path.basename(error.filename)} line {error.lineno}"
    else:
        frames = [
            f
            for f in traceback.extract_tb(error.__traceback__)
            if "importlib" not in f.filename and f.filename != __file__
        ]
        where = f"{os.path.basename(frames[-1].filename)} line {frames[-1].lineno}" if frames else "its import"
    message = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    return AppError(name, f"{where}: {type(error).__name__}{': ' + message if message else ''}", "Correct the code")


def _put_first(directory: str) -> None:
    if directory in sys.path:
        sys.path.remove(directory)
    sys.path.insert(0, directory)


def keep_no_bytecode_of_new_source() -> None:
    """Have this process leave no compiled file of a source that was written just now. For a runner's start, once.

    The interpreter knows a source again by its size and the second in which it was written. So of one that is mended within
    that second, and keeps its length, the next runner would be given the code of before.
    """
    write = SourceFileLoader.set_data

    def set_data(loader: SourceFileLoader, path: str, data: bytes, **options: Any) -> None:
        with suppress(OSError):
            if os.stat(loader.path).st_mtime < time.time() - _NEW_S:
                write(loader, path, data, **options)

    SourceFileLoader.set_data = set_data  # type: ignore[method-assign,assignment]


def newest_source(app: App) -> float:
    """Return the modification time of the newest source file among the app and what it imported from its directory."""
    if not app.file:
        return 0.0
    directory = os.path.dirname(app.file) + os.sep
    files = {app.file}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.startswith(directory) and "site-packages" not in file:
            files.add(file)
    times = []
    for file in files:
        try:
            times.append(os.stat(file).st_mtime)
        except OSError:
            continue  # gone since it was imported; it cannot be newer than what runs
    return max(times, default=0.0)
