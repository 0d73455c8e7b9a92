"""The state machine as Mermaid draws it, from the table that the code goes by."""

from __future__ import annotations

from overseer_lite.job import TRANSITIONS, Status


def drawing() -> str:
    """Return the drawing: an arrow for each pair of statuses, with all verbs that lead from the one to the other."""
    verbs: dict[tuple[Status, Status], list[str]] = {}
    for move in TRANSITIONS:
        verbs.setdefault((move.source, move.target), []).append(move.verb)
    lines = [f"    [*] --> {Status.UNSTARTED}: submit"]
    lines += [f"    {source} --> {target}: {', '.join(names)}" for (source, target), names in verbs.items()]
    lines += [f"    {status} --> [*]" for status in Status if all(move.source is not status for move in TRANSITIONS)]
    return "\n".join(["stateDiagram-v2", *lines, ""])
