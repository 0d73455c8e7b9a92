"""A store of the reader's own, as docs/testing.md presumes it."""

from overseer_lite.testing import sqlite_factory as factory

__all__ = ["factory"]
