"""The store's own SQL, read as text: the store's reader would bring its engine, and here engines are compared."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from bench.measure import ROOT

PLACE = os.path.join(ROOT, "overseer_lite", "sqlite")


def schema() -> str:
    """Return the statements that make a store's tables."""
    with open(os.path.join(PLACE, "schema.sql"), encoding="utf-8") as file:
        return file.read()


def statements() -> dict[str, str]:
    """Return the store's named statements."""
    with open(os.path.join(PLACE, "queries.sql"), encoding="utf-8") as file:
        blocks = file.read().split("\n\n")
    found = {}
    for block in blocks:
        lines = block.strip().splitlines()
        heads = [line for line in lines if line.startswith("-- ") and ": " in line]
        body = "\n".join(line for line in lines if not line.startswith("--"))
        if heads and body:
            found[heads[0][3:].partition(": ")[0]] = body.rstrip(";")
    return found


def row_of(statement: str) -> Callable[..., tuple[Any, ...]]:
    """Return a function that makes an INSERT's bindings from values by column; a column without one is NULL."""
    found = re.search(r"\(([^)]*)\)\s*VALUES", statement)
    assert found is not None
    columns = [each.strip() for each in found[1].split(",")]
    return lambda **values: tuple(values.get(column) for column in columns)
