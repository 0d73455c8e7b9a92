"""`python -m docs`: write anew what follows from the code: the reference, and the drawing of the state machine."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Final

from docs.commands import commands_page
from docs.names import ROOT, python_page, store_page, testing_page
from docs.states import drawing

if TYPE_CHECKING:
    from collections.abc import Callable

CONCEPTS: Final = "docs/concepts.md"
#: Every page, or page with a part, that this command writes.
PAGES: Final[dict[str, Callable[[], str]]] = {
    "docs/reference/python.md": python_page,
    "docs/reference/store.md": store_page,
    "docs/reference/testing.md": testing_page,
    "docs/reference/commands.md": commands_page,
    CONCEPTS: lambda: _with_drawing(read(CONCEPTS)),
}


def read(page: str) -> str:
    """Return a page as it stands; '' if it is not there."""
    try:
        with open(os.path.join(ROOT, page), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _with_drawing(text: str) -> str:
    new, places = re.subn(r"(?ms)^```mermaid\n.*?^```$", lambda _: f"```mermaid\n{drawing()}```", text)
    if places != 1:
        raise LookupError(f"{CONCEPTS} has {places} drawings instead of one")
    return new


def main() -> None:
    """Write what is out of date; say which pages those were."""
    for page, write in PAGES.items():
        text = write()
        if text != read(page):
            path = os.path.join(ROOT, page)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            sys.stdout.write(f"wrote {page}\n")


if __name__ == "__main__":
    main()
