"""The contract's clauses are plain asserts in the package; let pytest explain them as it does those of tests."""

import pytest

pytest.register_assert_rewrite("overseer_lite.testing.contract", "overseer_lite.testing.machine")

#: Clauses that start processes, or try many sequences. A mark in the package itself would ask of everybody's suite to
#: know it.
SLOW = ("test_c25", "test_c26", "test_c27")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow clauses, so that `-m 'not slow'` leaves them out."""
    for item in items:
        if item.name.startswith(SLOW):
            item.add_marker("slow")
