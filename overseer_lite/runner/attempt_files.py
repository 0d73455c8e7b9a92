"""The directory of an attempt, where `job.path` puts what it keeps: one that nobody has used before.

Its name is made of the store's number for the job and the attempt's. Both may come twice where the store goes back in time
and the directories do not: a copy put in its place, or last commits that a power loss undid (`durability = "normal"`).
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("overseer_lite.runner")

_looking = threading.Lock()


def attempt_directory(files: str, key: int, number: int) -> Callable[[], str]:
    """Return what gives an attempt the path of its directory; nothing is looked at before the first call.

    What lies there at the first call is of another life of the store. It is put aside beside it, never removed: it may be
    all that is left of a result. Later calls, of any thread, give the same path.
    """
    looked = False

    def directory() -> str:
        nonlocal looked
        path = os.path.join(files, f"{key}-{number}")
        with _looking:
            if not looked and os.path.lexists(path):
                log.warning("Files of an earlier life of the store were put aside: %s", _put_aside(path))
            looked = True
        return path

    return directory


def _put_aside(path: str) -> str:
    names = itertools.chain([f"{path}.orphaned"], (f"{path}.orphaned-{number}" for number in itertools.count(2)))
    aside = next(name for name in names if not os.path.lexists(name))
    os.rename(path, aside)
    return aside
