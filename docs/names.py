"""Pages of the reference that follow from Python names: signatures and docstrings, read off the source by griffe.

Nothing is imported, so a page is the same on every Python: a default is shown as it is written.
"""

from __future__ import annotations

import ast
import os
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, Final

import griffe

ROOT: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NOTE: Final = "Written by `python -m docs` from {what}; a test says when it is out of date.\n"
_WIDTH: Final = 100

#: The rooms of public names, in the order of the page, with their titles.
SECTIONS: Final = {
    "api": "To run",
    "graph": "Graphs",
    "handler": "Handlers",
    "commands": "Commands as handlers",
    "job": "Jobs and attempts",
    "store": "The store",
    "errors": "Errors",
}
#: What a store is asked by and answers with, beyond the names of `overseer_lite` itself.
STORE_NAMES: Final = (
    ("store", ("Store", "FullStore", "FileStore", "Bell")),
    ("job", ("Settlement", "Outcome", "Evidence", "ReservedJob", "DependencyResult", "Transition")),
    ("store", ("Submitted", "Exchange", "Refusal", "Counts", "RunInfo", "WorkerRecord", "Verdict", "Request")),
    ("store", ("Backup", "Finding", "compose_exchange")),
)
#: Names that other pages of the reference have in full.
ELSEWHERE: Final = {"Store": "store.md", "Counts": "store.md", "Exchange": "store.md", "Submitted": "store.md"}
#: Whose methods are not listed: clauses and rules, for a framework to call, or the protocol's, which store.md has.
WITHOUT_METHODS: Final = ("StoreContract", "StoreMachine", "MemoryStore")
_PLAIN: Final = {"NamedTuple", "StrEnum", "Protocol"}  # the fields of which stand in the class itself


def _package() -> Any:
    return griffe.load("overseer_lite", search_paths=[ROOT], docstring_parser="google")


def python_page() -> str:
    """Return the page of all names in `overseer_lite.__all__`."""
    package = _package()
    places: dict[str, list[Any]] = {}
    for name in package.exports:
        if name != "__version__":
            found = package[name].final_target
            places.setdefault(found.path.split(".")[1], []).append(found)
    unknown = places.keys() - SECTIONS.keys()
    if unknown:
        raise LookupError(f"docs/names.py: SECTIONS has no title for {', '.join(sorted(unknown))}")
    lines = ["# `import overseer_lite`", "", NOTE.format(what="signatures and docstrings")]
    for room, title in SECTIONS.items():
        lines += [f"## {title}", ""]
        for found in sorted(places[room], key=lambda each: each.lineno):
            if found.name in ELSEWHERE:
                lines += [
                    f"### `{found.name}`",
                    "",
                    _summary(found),
                    f"See [{found.name}]({ELSEWHERE[found.name]}).",
                    "",
                ]
            else:
                lines += _entry(found)
    return _page([*lines, *_not_exported(package)])


def store_page() -> str:
    """Return the page of what a store is: its protocol, its capabilities, what crosses its boundary."""
    package = _package()
    lines = ["# The store's protocol", "", NOTE.format(what="signatures and docstrings")]
    lines += [
        package["store"].docstring.value,
        "",
        "## Capabilities",
        "",
        "| capability | a store that declares it |",
        "|---|---|",
    ]
    from overseer_lite.store import CAPABILITIES

    lines += [f"| `{name}` | {what} |" for name, what in CAPABILITIES.items()]
    lines += ["", "## Types", ""]
    for room, names in STORE_NAMES:
        for name in names:
            lines += _entry(package[room][name])
    return _page(lines)


def testing_page() -> str:
    """Return the page of `overseer_lite.testing`."""
    package = _package()
    lines = ["# `overseer_lite.testing`", "", NOTE.format(what="signatures and docstrings")]
    lines += [package["testing"].docstring.value, "", "## Fixture", ""]
    lines += _entry(package["testing"]["plugin"]["overseer_double"])
    lines += ["## Names", ""]
    for name in package["testing"].exports:
        lines += _entry(package["testing"][name].final_target)
    return _page(lines)


def _page(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"


# ---- one name --------------------------------------------------------------------------------------------------------


def _summary(found: Any) -> str:
    summary: str = found.docstring.value.partition("\n\n")[0].replace("\n", " ")
    return summary


def _entry(found: Any) -> list[str]:
    lines = [f"### `{found.name}`", ""]
    if found.is_function:
        return [*lines, *_code(_signatures(found)), *_docstring(found)]
    lines += _code([_class_signature(found)])
    lines += _docstring(found)
    if _is_error(found):
        return lines + _facts(found)
    if found.name not in WITHOUT_METHODS:
        for member in _methods(found):
            lines += [f"#### `{found.name}.{member.name}`", ""]
            lines += _code(_signatures(member)) if member.is_function else []
            lines += _docstring(member)
    return lines


def _code(declarations: Iterable[str]) -> list[str]:
    return ["```python", *declarations, "```", ""]


def _class_signature(found: Any) -> str:
    bases = f"({', '.join(map(str, found.bases))})" if found.bases else ""
    bases = bases if len(bases) < _WIDTH else ""  # the rooms of the contract suite, which say nothing to its users
    head = f"class {found.name}{bases}:"
    if "__init__" in found.members and "\nArgs:" in found.docstring.value:  # else callers are given one, and make none
        return f"{head}\n{_indented(_declaration(found.members['__init__']))}"
    plain = _PLAIN & {str(base).rpartition(".")[2] for base in found.bases}
    fields = [
        each
        for each in found.members.values()
        if plain and each.is_attribute and not each.name.startswith("_") and "property" not in each.labels
    ]
    if not fields:
        return f"{head} ..."
    return "\n".join([head, *(f"    {_field(each)}" for each in fields)])


def _field(member: Any) -> str:
    annotation = f": {member.annotation}" if member.annotation is not None else ""
    value = f" = {_quoted(member.value)}" if member.value is not None else ""
    return f"{member.name}{annotation}{value}"


def _methods(found: Any) -> Iterator[Any]:
    members = {name: each for name, each in found.inherited_members.items() if _is_ours(each)} | found.members
    for member in sorted(members.values(), key=lambda each: (each.final_target if each.is_alias else each).lineno or 0):
        public = not member.name.startswith("_") or member.name == "__call__"
        if public and (member.is_function or "property" in member.labels):
            if member.docstring is None:
                raise LookupError(f"{member.path} is public and has no docstring")
            yield member


def _is_ours(member: Any) -> bool:
    home = (member.final_target if member.is_alias else member).path.rsplit(".", 2)[1]
    return bool(home.startswith("_"))  # a public base has an entry of its own


def _is_error(found: Any) -> bool:
    return found.path.startswith("overseer_lite.errors.") or found.name.endswith("Error")


def _facts(found: Any) -> list[str]:
    from overseer_lite import errors

    said = found.docstring.value
    names = [name for name in _kept(found) if f"\n    {name}:" not in said]
    lines = [f"Keeps {', '.join(f'`{name}`' for name in names)}.", ""] if names else []
    known = getattr(errors, found.name, None)
    return lines if known is None else [*lines, f"Exit code {known.exit_code}.", ""]


def _kept(found: Any) -> list[str]:
    """Return the attributes that a class sets when it is made: griffe does not see several set in one statement."""
    assignments = (node for node in ast.walk(ast.parse(textwrap.dedent(found.source))) if isinstance(node, ast.Assign))
    targets = (inner for node in assignments for target in node.targets for inner in ast.walk(target))
    return [target.attr for target in targets if isinstance(target, ast.Attribute)]


def _not_exported(package: Any) -> list[str]:
    """Return a table of the errors that are raised and caught by an exported base: the room's other classes."""
    others = [
        each
        for name, each in package["errors"].members.items()
        if not each.is_alias and each.is_class and name not in package.exports and not name.startswith("_")
    ]
    lines = ["### More precise errors", "", "Not exported; each is caught by the error that it is made of.", ""]
    lines += ["| `overseer_lite.errors.` | is a | |", "|---|---|---|"]
    return [*lines, *(f"| `{each.name}` | `{each.bases[0]}` | {_summary(each)} |" for each in others), ""]


# ---- signatures ------------------------------------------------------------------------------------------------------


def _signatures(function: Any) -> list[str]:
    return [_declaration(each) for each in function.overloads or [function]]


def _declaration(function: Any) -> str:
    shown = list(_parameters(function))
    returns = f" -> {function.returns}" if function.returns is not None and function.name != "__init__" else ""
    line = f"def {function.name}({', '.join(shown)}){returns}: ..."
    kind = "@classmethod\n" if "classmethod" in function.labels else ""
    if len(line) <= _WIDTH:
        return f"{kind}{line}"
    return "\n".join([f"{kind}def {function.name}(", *(f"    {each}," for each in shown), f"){returns}: ..."])


def _parameters(function: Any) -> Iterator[str]:
    kinds = griffe.ParameterKind
    before = None
    for parameter in function.parameters:
        kind = parameter.kind
        if before is kinds.positional_only and kind is not kinds.positional_only:
            yield "/"
        if kind is kinds.keyword_only and before not in (kinds.keyword_only, kinds.var_positional):
            yield "*"
        stars = {kinds.var_positional: "*", kinds.var_keyword: "**"}.get(kind, "")
        annotation = f": {parameter.annotation}" if parameter.annotation is not None else ""
        equals = " = " if annotation else "="
        default = f"{equals}{_value(function, parameter)}" if parameter.default is not None and not stars else ""
        yield f"{stars}{parameter.name}{annotation}{default}"
        before = kind
    if before is kinds.positional_only:
        yield "/"


def _value(function: Any, parameter: Any) -> str:
    """Return a default as it is written; what a constant of the module stands for, where it is one."""
    written = str(parameter.default)
    named = function.module.members.get(written)
    return _quoted(named.value if named is not None and written.isupper() else written)


def _quoted(value: Any) -> str:
    """Return source text with its strings in double quotes, as the sources have them and griffe has not."""
    return re.sub(r"'([^'\"\\]*)'", r'"\1"', str(value))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


# ---- docstrings ------------------------------------------------------------------------------------------------------


def _docstring(found: Any) -> list[str]:
    if found.docstring is None:
        raise LookupError(f"{found.path} is public and has no docstring")
    lines: list[str] = []
    for section in found.docstring.parse("google", warnings=False):
        kind = section.kind.value
        if kind == "text":
            lines += [section.value, ""]
        elif kind in _LISTS:
            lines += [f"{_LISTS[kind]}:", "", *(_item(each, kind) for each in section.value), ""]
        elif kind == "returns":
            lines += ["Returns:", "", " ".join(each.description.replace("\n", " ") for each in section.value), ""]
        else:
            raise LookupError(f"{found.path}: its docstring has a section {kind}, which no page can show yet")
    return lines


_LISTS: Final = {"parameters": "Args", "attributes": "Attributes", "raises": "Raises"}


def _item(element: Any, kind: str) -> str:
    name = element.annotation if kind == "raises" else element.name
    return f"- `{name}`: {' '.join(element.description.split())}"
