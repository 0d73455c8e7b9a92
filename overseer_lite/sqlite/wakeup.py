"""Doorbells: a FIFO a worker, by its id, beside the store. 0.2 ms from ring to wake, and nothing while nobody rings.

A FIFO, not a socket: socket paths end at 108 bytes. A ring is one byte; a full FIFO has been rung enough.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from contextlib import suppress
from typing import Final

from overseer_lite.errors import StoreUnavailableError

log = logging.getLogger("overseer_lite.sqlite")

#: Nobody is at home: no bell, or nobody who would hear it.
_NOBODY: Final = frozenset([errno.ENXIO, errno.ENOENT, errno.ENOTDIR, errno.EPIPE])


class FifoBell:
    """A worker's own bell.

    Raises:
        StoreUnavailableError: It cannot be hung up.
    """

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._fd = self._hang_up(path)
        except OSError as error:
            raise StoreUnavailableError(path, f"a worker's bell cannot be made: {error.strerror or error}") from error

    @staticmethod
    def _hang_up(path: str) -> int:
        with suppress(FileNotFoundError):
            if not stat.S_ISFIFO(os.lstat(path).st_mode):
                os.unlink(path)  # what rings go into must not be a file that grows
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # Opened for both, so that it never reports end of file while nobody rings.
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._fd

    @property
    def closed(self) -> bool:
        """Whether it was taken down."""
        return self._fd < 0

    def answer(self) -> bool:
        """Forget the rings so far; return whether there were any."""
        try:
            return bool(os.read(self._fd, 4096))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Take the bell down."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        with suppress(FileNotFoundError):
            os.unlink(self._path)


def ring(path: str) -> bool:
    """Ring a bell; False: it did not ring. Never raises.

    It is rung after a commit, which must be acknowledged whatever becomes of the ring. Nobody at home is no trouble,
    since whoever recovers a death rings again; other trouble is logged, and the next ring finds the job as well.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if not stat.S_ISFIFO(os.fstat(fd).st_mode):
                return False
            os.write(fd, b"!")
        except BlockingIOError:
            return True  # full: it has been rung enough
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _NOBODY:
            log.warning("A bell could not be rung: %s: %s", path, error.strerror)
        return False
    return True
