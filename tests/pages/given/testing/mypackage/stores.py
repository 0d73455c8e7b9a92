"""A store of the reader's own, as docs/testing.md presumes it."""

from overseer_lite.testing import MemoryStore


def factory(directory, clock, *, crash_limit=3):
    """Return a fresh store by that clock."""
    return MemoryStore(clock, crash_limit)
