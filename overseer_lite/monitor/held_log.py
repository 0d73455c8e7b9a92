"""The look at the store's log: it grows for as long as somebody reads one snapshot, and whoever that is can be named.

Nothing is lost by it, and writers slow down by themselves (docs/decisions/009). But the disk fills, and each write waits.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from overseer_lite.liveness.identity import Identity, program_of

if TYPE_CHECKING:
    from overseer_lite.store import FullStore

log = logging.getLogger("overseer_lite.monitor")

LOOKS: Final = 4  # in a row, at which one and the same process must read: each of ours does for a moment, now and then
_MIB: Final = 1 << 20


class LogWatch:
    """Says who holds a log that has grown large; once, and again only after it has been small."""

    def __init__(self, store: FullStore) -> None:
        self._store = store
        self._looks: dict[Identity, int] = {}
        self._said = False

    def look(self) -> None:
        """Look once; a log that is large for another reason than a reader, such as one large submit, is not spoken of."""
        found = self._store.held_log()
        if found is None:
            self._looks, self._said = {}, False
            return
        if self._said:
            return
        present = [who for pid in found.readers if (who := Identity.of(pid)) is not None]
        self._looks = {who: self._looks.get(who, 0) + 1 for who in present}
        holders = [who.pid for who, looks in self._looks.items() if looks >= LOOKS]
        if holders:
            self._said = True
            log.warning(
                "The store's log is %.0f MiB large and cannot begin anew: process %s reads an old snapshot of it. "
                "Writers are slowed down until it ends",
                found.size_bytes / _MIB,
                ", ".join(f"{pid} ({program_of(pid)})" for pid in sorted(holders)),
            )
