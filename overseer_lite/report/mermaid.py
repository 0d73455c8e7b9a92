"""A run's graph as a Mermaid picture, and the colours of every drawing: of the report's, and of those of `graph`."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from overseer_lite.job import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from overseer_lite.job import JobInfo

_DRAWN: Final = 200
_EDGES: Final = 500  # Mermaid draws no picture of more, nor of more than 50,000 characters
_LABEL_CHARS: Final = 60


class Colours(NamedTuple):
    """How a state is drawn."""

    fill: str
    text: str


#: By state, the one that is most to be known first: several jobs drawn as one have the colour of the first they have.
COLOURS: Final = {
    "failed": Colours("#cf222e", "#ffffff"),
    "aborted": Colours("#a40e26", "#ffffff"),
    "stuck": Colours("#d4a72c", "#000000"),
    "started": Colours("#0969da", "#ffffff"),
    "ready": Colours("#ffffff", "#000000"),
    "unstarted": Colours("#d0d7de", "#000000"),
    "finished": Colours("#1a7f37", "#ffffff"),
}


def mermaid(jobs: Sequence[JobInfo]) -> str | None:
    """Return the picture: a node a job, or, of more than 200 jobs or 500 dependencies, a node a type with counts.

    Dependencies on jobs of other runs are not drawn. None: there are too many types for a picture as well.
    """
    numbers = {job.id: number for number, job in enumerate(jobs)}
    edges = [(numbers[above], numbers[job.id]) for job in jobs for above in job.dependencies if above in numbers]
    if len(jobs) <= _DRAWN and len(edges) <= _EDGES:
        return _picture([(_label(job.name), _word(job)) for job in jobs], edges)
    counts: dict[str, Counter[str]] = {}
    for job in jobs:
        counts.setdefault(job.type, Counter())[_word(job)] += 1
    types = {kind: number for number, kind in enumerate(counts)}
    of_job = [types[job.type] for job in jobs]
    between = sorted({(of_job[above], of_job[below]) for above, below in edges})
    if len(types) > _DRAWN or len(between) > _EDGES:
        return None
    return _picture([(_label(kind) + _numbers(found), _worst(found)) for kind, found in counts.items()], between)


def flowchart(
    nodes: Sequence[tuple[str, str]], edges: Iterable[tuple[int, int]], others: Iterable[str] = ()
) -> Iterator[str]:
    """Yield the lines of a Mermaid flowchart, coloured by state.

    Args:
        nodes: Label, as markup, and state of each.
        edges: Pairs of numbers of nodes, the one that is waited for first; those after `nodes` are of `others`.
        others: Labels of what is drawn apart: it belongs to no state here.
    """
    yield "flowchart LR"
    for number, (label, word) in enumerate(nodes):
        yield f'  n{number}["{label}"]:::{word}'
    for number, label in enumerate(others, len(nodes)):
        yield f'  n{number}(["{label}"])'
    for above, below in edges:
        yield f"  n{above} --> n{below}"
    used = {word for _, word in nodes}
    for word, (fill, text) in COLOURS.items():
        if word in used:
            yield f"  classDef {word} fill:{fill},color:{text}"


def as_label(text: str) -> str:
    """Return text that is nothing but a label: whatever Mermaid or HTML could read otherwise is written as `#35;`."""
    return re.sub(r"[^\w \-./(),:]", lambda found: f"#{ord(found[0])};", text)


def _picture(nodes: Sequence[tuple[str, str]], edges: Iterable[tuple[int, int]]) -> str:
    return "\n".join([*flowchart(nodes, edges), ""])


def _word(job: JobInfo) -> str:
    return "stuck" if job.status is Status.UNSTARTED and job.stuck else job.status.value


def _worst(found: Counter[str]) -> str:
    return next(word for word in COLOURS if found[word])


def _numbers(found: Counter[str]) -> str:
    return "<br/>" + ", ".join(f"{found[word]:,} {word}" for word in COLOURS if found[word])


def _label(text: str) -> str:
    return as_label(text if len(text) <= _LABEL_CHARS else f"{text[:_LABEL_CHARS]}...")
