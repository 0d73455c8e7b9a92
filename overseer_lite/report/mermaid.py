"""A run's graph as a Mermaid picture, coloured by status."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from overseer_lite.job import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from overseer_lite.job import JobInfo

_DRAWN: Final = 200
_EDGES: Final = 500  # Mermaid draws no picture of more, nor of more than 50,000 characters
_LABEL_CHARS: Final = 60

#: How each status is drawn, the one that matters most first: a type has the colour of its worst job.
_COLOURS: Final = {
    "failed": "#cf222e,color:#fff",
    "aborted": "#a40e26,color:#fff",
    "stuck": "#d4a72c,color:#000",
    "started": "#0969da,color:#fff",
    "unstarted": "#d0d7de,color:#000",
    "finished": "#1a7f37,color:#fff",
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


def _picture(nodes: Sequence[tuple[str, str]], edges: Iterable[tuple[int, int]]) -> str:
    used = {word for _, word in nodes}
    lines = ["flowchart LR"]
    lines += [f'  n{number}["{label}"]:::{word}' for number, (label, word) in enumerate(nodes)]
    lines += [f"  n{above} --> n{below}" for above, below in edges]
    lines += [f"  classDef {word} fill:{colour}" for word, colour in _COLOURS.items() if word in used]
    return "\n".join(lines) + "\n"


def _word(job: JobInfo) -> str:
    return "stuck" if job.status is Status.UNSTARTED and job.stuck else job.status.value


def _worst(found: Counter[str]) -> str:
    return next(word for word in _COLOURS if found[word])


def _numbers(found: Counter[str]) -> str:
    return "<br/>" + ", ".join(f"{found[word]:,} {word}" for word in _COLOURS if found[word])


def _label(text: str) -> str:
    """Return text that is nothing but a label: whatever Mermaid or HTML could read otherwise is written as `#35;`."""
    text = text if len(text) <= _LABEL_CHARS else f"{text[:_LABEL_CHARS]}..."
    return re.sub(r"[^\w \-./]", lambda found: f"#{ord(found[0])};", text)
