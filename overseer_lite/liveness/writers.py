"""Who has a file open for writing: asked of the kernel, which knows of every process, whatever its pid namespace."""

from __future__ import annotations

import fcntl
import os
import signal
from typing import Final

_SET_SIGNAL: Final = 10  # F_SETSIG


def has_writer(path: str) -> bool | None:
    """Return whether any process on this machine has a file open, or mapped, for writing.

    The kernel grants a read lease only on a file that nobody has. It is given back at once.

    Returns:
        None where it cannot be told: no leases on this system or this filesystem, or the file is another user's.
        False for a file that is not there.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        # Should somebody open it for writing within these microseconds, we are told so by a signal: one that harms nobody.
        fcntl.fcntl(fd, _SET_SIGNAL, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(fd)
    return False
