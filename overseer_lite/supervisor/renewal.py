"""Renewing the runners: the app is imported anew somewhere else first, since code that is broken must change nothing."""

from __future__ import annotations

import logging
import time
from typing import Final

from overseer_lite.errors import InvalidInputError
from overseer_lite.runner import Inspection

log = logging.getLogger("overseer_lite.supervisor")

RENEW_S: Final = 60.0  # for looking at an app before the runners are renewed


class Renewal:
    """A look at an app that goes on while everything else does.

    Attributes:
        inspection: The look, while it goes on.
    """

    def __init__(self, app: str) -> None:
        self._app = app
        self.inspection: Inspection | None = None
        self._until = 0.0

    def begin(self) -> None:
        """Begin to look; a look that still goes on is begun anew."""
        self.close()
        try:
            self.inspection = Inspection(self._app)
        except OSError as error:
            log.error("The runners are not renewed: %s", error)  # noqa: TRY400 - the system's error, in one line
        self._until = time.monotonic() + RENEW_S

    def found_well(self) -> bool:
        """Whether the look has just ended, and the app is well. If it is not, it was said."""
        inspection = self.inspection
        if inspection is None:
            return False
        trouble = None
        try:
            if inspection.answer() is None:
                if time.monotonic() <= self._until:
                    return False
                trouble = f"Importing app {self._app!r} took longer than {RENEW_S:g} s."
        except InvalidInputError as error:
            trouble = str(error)
        self.close()
        if trouble is not None:
            log.error("The runners are not renewed: %s", trouble)
        return trouble is None

    def close(self) -> None:
        """End a look that goes on."""
        if self.inspection is not None:
            self.inspection.close()
            self.inspection = None
