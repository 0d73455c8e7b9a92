"""The command `graph`: a run's jobs and what waits for what, as a tree of text, for Mermaid or for Graphviz."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import click

from overseer_lite.cli import show as say
from overseer_lite.cli.session import check_run, command, run_option, session
from overseer_lite.report.chain import Chains
from overseer_lite.report.mermaid import COLOURS, as_label, flowchart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from overseer_lite.job import JobInfo

DRAWN_UP_TO: Final = 500
_NAMED_UP_TO: Final = 8

#: How a state is drawn in text.
MARKS: Final = {
    "finished": "+",
    "started": ">",
    "failed": "!",
    "aborted": "x",
    "stuck": "#",
    "ready": "o",
    "unstarted": ".",
}


class Node(NamedTuple):
    """What is drawn once: a job, or in a large run all jobs of a type.

    Attributes:
        above: Keys of the nodes it waits for, in declared order; one of another run is among them by its id.
        layer: 0 for what waits for nothing of the run, else one more than the deepest it waits for.
        note: What is said of it beside its name.
    """

    key: str
    label: str
    state: str
    above: tuple[str, ...]
    layer: int
    note: str = ""


@command(
    "graph",
    short_help="Draw a run: what waits for what, and where it stands",
    example="overseer-lite graph\noverseer-lite graph --run nightly-2026-11-24 --format dot | dot -Tsvg > nightly.svg",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["ascii", "mermaid", "dot"]),
    default="ascii",
    show_default=True,
    help="A tree of text, a Mermaid flowchart, or a digraph for Graphviz.",
)
@run_option
def graph(form: str, run: str | None) -> None:
    """Draw a run, the newest unless told, each job once. In the tree a job stands below the last it waits for.

    A run of more than 500 jobs is drawn by type, with counts.
    """
    store = session().store()
    check_run(store, run)
    if run is None:
        newest = store.runs(limit=1)
        if not newest:
            click.echo("no runs")
            return
        run = newest[0].id
    jobs = store.jobs(run=run)
    nodes = job_nodes(jobs) if len(jobs) <= DRAWN_UP_TO else type_nodes(jobs)
    for line in _FORMS[form](run, nodes):
        click.echo(line)


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def _layers(jobs: Sequence[JobInfo]) -> dict[str, int]:
    """Return the layer of each job, by id."""
    chains = Chains({job.id: 1 for job in jobs}, ((job.id, job.dependencies) for job in jobs))
    return {job.id: round(chains.length_to(job.id)) - 1 for job in jobs}


def job_nodes(jobs: Sequence[JobInfo]) -> list[Node]:
    """Return a node for each job, in order of submission."""
    layers = _layers(jobs)
    return [
        Node(
            job.id,
            job.name,
            say.state(job),
            job.dependencies,
            layers[job.id],
            f"({job.type})" if job.type != job.name else "",
        )
        for job in jobs
    ]


def type_nodes(jobs: Sequence[JobInfo]) -> list[Node]:
    """Return a node for each type, in order of first submission, on the layer of the first of its jobs."""
    layers = _layers(jobs)
    types = {job.id: job.type for job in jobs}
    members: dict[str, list[JobInfo]] = {}
    for job in jobs:
        members.setdefault(job.type, []).append(job)
    nodes = []
    for kind, of_type in members.items():
        states = [say.state(job) for job in of_type]
        counted = {state: states.count(state) for state in COLOURS if state in states}
        above = dict.fromkeys(types.get(other, other) for job in of_type for other in job.dependencies)
        above.pop(kind, None)  # jobs of a type that wait for one another
        detail = ", ".join(f"{number:,} {state}" for state, number in counted.items())
        layer = min(layers[job.id] for job in of_type)
        note = f"{say.plural(len(of_type), 'job')}: {detail}"
        nodes.append(Node(kind, kind, next(iter(counted)), tuple(above), layer, note))
    return nodes


def _stand_below(nodes: Sequence[Node]) -> dict[str, list[Node]]:
    """Return the nodes by the key of the one they stand below in the tree, '' for those that begin it."""
    by_key = {node.key: node for node in nodes}
    below: dict[str, list[Node]] = {}
    for node in nodes:
        # Types may wait for one another both ways: only one of an earlier layer can carry another.
        above = [by_key[key] for key in node.above if key in by_key and by_key[key].layer < node.layer]
        parent = max(above, key=lambda other: other.layer).key if above else ""
        below.setdefault(parent, []).append(node)
    return below


# ---- the forms -------------------------------------------------------------------------------------------------------


def ascii_lines(run: str, nodes: Sequence[Node]) -> Iterator[str]:
    """Yield a tree: each node once, below the last it waits for, with what else it waits for beside it."""
    yield f"run {say.escape(run)}"
    below = _stand_below(nodes)
    labels = {node.key: node.label for node in nodes}
    todo = [(node, 0, "") for node in reversed(below.get("", ()))]
    while todo:
        node, depth, parent = todo.pop()
        others = [labels.get(key, key) for key in node.above if key != parent]
        words = [MARKS[node.state], node.label, node.note]
        if others:
            words.append(f"<- {'also ' if parent else ''}{_some(others)}")
        yield "  " * depth + say.escape(" ".join(word for word in words if word))
        todo += [(child, depth + 1, node.key) for child in reversed(below.get(node.key, ()))]
    drawn = {node.state for node in nodes}
    yield ", ".join(f"{mark} {state}" for state, mark in MARKS.items() if state in drawn)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_UP_TO:,} more" if len(names) > _NAMED_UP_TO else ""
    return ", ".join(names[:_NAMED_UP_TO]) + more


def mermaid_lines(_run: str, nodes: Sequence[Node]) -> Iterator[str]:
    """Return a Mermaid flowchart, coloured by state."""
    numbers, others = _numbered(nodes)
    return flowchart(
        [(as_label(say.escape(_words(node))), node.state) for node in nodes],
        [(numbers[key], numbers[node.key]) for node in nodes for key in node.above],
        [as_label(say.escape(other)) for other in others],
    )


def dot_lines(run: str, nodes: Sequence[Node]) -> Iterator[str]:
    """Yield a digraph for Graphviz, coloured by state."""
    numbers, others = _numbered(nodes)
    yield f"digraph {_dot(run)} {{"
    yield '  rankdir=LR; node [shape=box, style="rounded,filled", fontname="sans-serif"];'
    for node in nodes:
        words, (fill, text) = _dot(_words(node)), COLOURS[node.state]
        drawn = f'tooltip={_dot(node.state)}, fillcolor="{fill}", fontcolor="{text}"'
        yield f"  n{numbers[node.key]} [label={words}, {drawn}];"
    for other in others:
        yield f'  n{numbers[other]} [label={_dot(other)}, style="dashed"];'
    for node in nodes:
        for key in node.above:
            yield f"  n{numbers[key]} -> n{numbers[node.key]};"
    yield "}"


def _numbered(nodes: Sequence[Node]) -> tuple[Mapping[str, int], Sequence[str]]:
    """Return a number for each key, since ids may hold anything; and those keys that are of other runs."""
    own = dict.fromkeys(node.key for node in nodes)
    others = [key for key in dict.fromkeys(key for node in nodes for key in node.above) if key not in own]
    return {key: number for number, key in enumerate([*own, *others])}, others


def _words(node: Node) -> str:
    return f"{node.label} {node.note}".strip()


def _dot(text: str) -> str:
    """Return text as a quoted string; a backslash is doubled, or Graphviz would read what follows as its own."""
    written = say.escape(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{written}"'


_FORMS: Final[dict[str, Callable[[str, Sequence[Node]], Iterable[str]]]] = {
    "ascii": ascii_lines,
    "mermaid": mermaid_lines,
    "dot": dot_lines,
}
