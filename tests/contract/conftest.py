"""The contract's clauses are plain asserts in the package; let pytest explain them as it does those of tests."""

import pytest

pytest.register_assert_rewrite("overseer_lite.testing.contract", "overseer_lite.testing.machine")
