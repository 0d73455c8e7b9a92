"""Bad input, seeded: whatever is given is refused in one clear line and nothing stored, or it is good and can be stored."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable
from typing import Any, Final

from overseer_lite.cli.work import parse_args
from overseer_lite.config import SETTINGS, load
from overseer_lite.errors import InvalidInputError
from overseer_lite.graph import Graph, as_graph, from_json, job_graph, simple_graph, to_json
from overseer_lite.handler import Handler, as_handlers
from overseer_lite.job import Job, encode, stored
from overseer_lite.store import open_store
from tests.chaos.rig import APP, Rig
from tests.chaos.scenario import Figures, Unit, Violation, scenario

IN_PROCESS: Final = 10_000
COMMANDS: Final = 50
_CHARACTERS: Final = "ab/ \t\n\r\0\x1b\x7f\x85\u2028\u202e\ufeff\ud800\udfff\ufffdé漢🙂\U0010ffff\"'\\{}[]:,-.0"


class Garbage:
    """Values nobody asked for."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def text(self) -> str:
        """Return text: empty, blank, too long, of odd characters, or quite usual."""
        chance = self.chance
        kind = chance.randrange(8)
        if kind == 0:
            return chance.choice(
                ["", " ", "\t", "a" * 201, "a" * 200, "é" * 200, "x" * 100_000, "None", "true", "-", "--", "a/b"]
            )
        if kind < 4:
            return "".join(chance.choice(_CHARACTERS) for _ in range(chance.randrange(1, 30)))
        return "".join(chance.choice("abcdefgh") for _ in range(chance.randrange(1, 4)))

    def number(self) -> Any:
        """Return a number at the edge of something."""
        return self.chance.choice(
            [
                0,
                -0.0,
                1,
                -1,
                2**31 - 1,
                2**31,
                -(2**31),
                2**63,
                -(2**63) - 1,
                10**400,
                1.5,
                1e308,
                math.nan,
                math.inf,
                -math.inf,
                True,
            ]
        )

    def value(self, depth: int = 0) -> Any:
        """Return any value."""
        chance = self.chance
        kind = chance.randrange(12)
        if kind < 3:
            return self.text()
        if kind < 5:
            return self.number()
        if kind == 5:
            return chance.choice(
                [None, b"bytes", object(), {1, 2}, 1j, lambda: None, ValueError, range(3), ..., bytearray(2)]
            )
        if kind == 6 and not depth:
            return self._deep()
        if depth > 4:
            return None
        if kind < 9:
            return [self.value(depth + 1) for _ in range(chance.randrange(4))]
        return {self._key(): self.value(depth + 1) for _ in range(chance.randrange(4))}

    def _key(self) -> Any:
        return self.text() if self.chance.random() < 0.9 else self.chance.choice([1, None, 1.5, ("a",), b"k"])

    def _deep(self) -> Any:
        value: Any = 1
        for _ in range(self.chance.choice([63, 64, 65, 500, 5000])):
            value = [value] if self.chance.random() < 0.5 else {"k": value}
        return value

    def line(self) -> str:
        """Return a line of JSON Lines: a job with something wrong, or no job at all."""
        chance = self.chance
        job: Any = {"id": f"j{chance.randrange(30)}", "type": "work", "args": {"dir": "/nowhere", "s": 0}}
        for _ in range(chance.randrange(3)):
            key = chance.choice(
                ["id", "type", "args", "dependencies", "priority", "delay", "name", "dependences", self.text()]
            )
            job[key] = self._json_value()
        text = json.dumps(job, ensure_ascii=chance.random() < 0.5, default=str)
        kind = chance.randrange(10)
        if kind == 0:
            return self.text()
        if kind == 1:
            cut = chance.randrange(len(text))
            return text[:cut] + chance.choice(_CHARACTERS) + text[cut + chance.randrange(3) :]
        if kind == 2:
            return text[: chance.randrange(len(text))]
        if kind == 3:
            return chance.choice(
                ['{"id":"a","id":"b","type":"t"}', "[" * 100_000, "1" * 5000, '{"id":NaN}', "[]", "null", '"job"', "{}"]
            )
        return text

    def _json_value(self) -> Any:
        value = self.value()
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            return self.text()
        return value


Try = Callable[[Garbage, Any], Any]


def _lines(garbage: Garbage, store: Any) -> Any:
    return Graph.from_lines([garbage.line() for _ in range(garbage.chance.randrange(1, 5))])


def _job(garbage: Garbage, store: Any) -> Any:
    words = ("name", "args", "dependencies", "priority", "delay_s", "id", "detached")
    chosen = {word: garbage.value() for word in words if garbage.chance.random() < 0.3}
    kind = garbage.value() if garbage.chance.random() < 0.5 else "work"
    return simple_graph(Job(kind, **chosen))


def _graph(garbage: Garbage, store: Any) -> Any:
    chance = garbage.chance
    graph = Graph(
        garbage.value() if chance.random() < 0.2 else None, id=garbage.text() if chance.random() < 0.3 else None
    )
    names = [f"n{number}" if chance.random() < 0.95 else garbage.text() for number in range(chance.randrange(6))]
    for name in names:
        waits: list[Any] = [chance.choice(names) for _ in range(chance.randrange(3))]
        if chance.random() < 0.1:
            waits.append(chance.choice([stored(garbage.text()), garbage.value()]))
        graph.add("work", name=name, dependencies=waits)
    return graph


def _any_graph(garbage: Garbage, store: Any) -> Any:
    return as_graph(garbage.value(), garbage.value() if garbage.chance.random() < 0.3 else None)


def _types_graph(garbage: Garbage, store: Any) -> Any:
    value = garbage.value()
    if garbage.chance.random() < 0.5:
        value = {garbage._key(): garbage.value() for _ in range(3)}
    return job_graph(value, args=garbage.value() if garbage.chance.random() < 0.3 else None)


def _carried(garbage: Garbage, store: Any) -> Any:
    text = to_json(simple_graph("work", "more"))
    cut = garbage.chance.randrange(len(text))
    return from_json(text[:cut] + garbage.text() + text[cut + garbage.chance.randrange(4) :])


def _args(garbage: Garbage, store: Any) -> None:
    parse_args(garbage.line())


def _result(garbage: Garbage, store: Any) -> None:
    text = encode(garbage.value(), "the result")
    json.loads(text)
    text.encode()


def _options(garbage: Garbage, store: Any) -> None:
    words = ("retries", "backoff", "no_retry", "timeout", "limit", "pre_process", "post_process")
    as_handlers(
        {"a": Handler(lambda job: None, **{word: garbage.value() for word in words if garbage.chance.random() < 0.3})}
    )


def _handlers(garbage: Garbage, store: Any) -> None:
    as_handlers(garbage.value() if garbage.chance.random() < 0.5 else {garbage._key(): garbage.value()})


def _settings(garbage: Garbage, store: Any) -> None:
    chosen = garbage.chance.choice(SETTINGS)
    if garbage.chance.random() < 0.5:
        load({chosen.name: garbage.value()}, {}, "/")
    else:
        load({}, {chosen.variable: garbage.text()}, "/")


def _ids(garbage: Garbage, store: Any) -> None:
    job_id = garbage.text()
    verb = garbage.chance.randrange(6)
    if verb == 0:
        store.retry([job_id])
    elif verb == 1:
        store.abort_job(job_id)
    elif verb == 2:
        store.request(job_id, "abort")
    elif verb == 3:
        store.counts(job_id)
        store.run_info(job_id)
    elif verb == 4:
        store.jobs(text=job_id, type=job_id, run=job_id)
    else:
        info = store.job_info(job_id)
        if info is not None and info.id != job_id:
            raise AssertionError(f"asked for {job_id!r}, the answer is {info.id!r}")
        store.attempts(job_id)


TRIES: Final[tuple[Try, ...]] = (
    _lines, _lines, _job, _graph, _any_graph, _types_graph, _carried, _args, _result, _options, _handlers, _settings, _ids,
)  # fmt: skip


@scenario("input", small=1, release=10)
def bad_input(unit: Unit) -> Figures:
    """Ten thousand seeded pieces of garbage to the Python interface: a clear error, nothing stored; or good, and storable."""
    garbage = Garbage(unit.random)
    store = open_store(os.path.join(unit.directory, "jobs.db"), durability="normal")
    store.install()  # type: ignore[attr-defined]
    wrong: list[str] = []
    refused = accepted = 0
    for number in range(IN_PROCESS):
        attempt = TRIES[number % len(TRIES)]
        state = unit.random.getstate()
        try:
            if _offer(attempt, garbage, store):
                accepted += 1
            else:
                refused += 1
        except Exception as error:  # noqa: BLE001 - what else it raises is the finding
            unit.random.setstate(state)
            wrong.append(f"{attempt.__name__.strip('_')} {number}: {type(error).__name__}: {str(error)[:200]!r}")
    store.close()
    figures = {"inputs": IN_PROCESS, "refused": refused, "accepted": accepted}
    if wrong:
        raise Violation(f"{len(wrong)} of {IN_PROCESS}", *wrong, figures=figures)
    if not refused or not accepted:
        raise Violation("two-sided: nothing was refused, or nothing accepted", figures=figures)
    return figures


def _offer(attempt: Try, garbage: Garbage, store: Any) -> bool:
    """Offer one piece; return whether it was taken. A graph that is taken must be storable, one that is not leaves nothing."""
    before = store.counts().total
    try:
        made = attempt(garbage, store)
        if isinstance(made, Graph):
            made.validate()
            if garbage.chance.random() < 0.2:
                store.transact_graph(made)
    except InvalidInputError as error:
        text = str(error)
        if not text or error.exit_code != 2:
            raise AssertionError(f"no clear error: {text!r}") from error
        if "Traceback" in text:
            raise AssertionError("a traceback") from error
        if store.counts().total != before:
            raise AssertionError("something was stored by what was refused") from error
        return False
    return True


# ---- through the command line ----------------------------------------------------------------------------------------


def _commands(unit: Unit, rig: Rig) -> list[tuple[list[str], str | None]]:
    good = rig.lines([{"id": "fresh"}])
    fixed: list[tuple[list[str], str | None]] = [
        (["submit", "-"], ""),
        (["submit", "-"], "\n\n"),
        (["submit", "-"], '{"id": "a"}'),
        (["submit", "-"], good + '{"id": "fresh", "type": "work"}'),
        (["submit", "-"], good + '{"id": "b", "type": "work", "dependencies": ["nobody"]}'),
        (["submit", "-"], '{"id":"x","type":"w","dependencies":["y"]}\n{"id":"y","type":"w","dependencies":["x"]}'),
        (["submit", "-"], '{"id":"x","type":"w","dependencies":["x"]}'),
        (["submit", "-"], '{"id":"x","type":"w","args":{"a":NaN}}'),
        (["submit", "-"], '{"id":"x","type":"w","args":[1]}'),
        (["submit", "-"], '{"id":"x","type":"w","priority":"high"}'),
        (["submit", "-"], '{"id":"x","type":"w","delay":-1}'),
        (["submit", "-"], '{"id":"x","type":"w","dependences":[]}'),
        (["submit", "-"], '{"id":"x\\u0000","type":"w"}'),
        (["submit", "-"], '{"id":"x","type":"w","args":{"a":"\\ud800"}}'),
        (["submit", "-"], "[" * 10_000),
        (["submit", "-", "--args", "{}"], good),
        (["submit", "nowhere.jsonl"], None),
        (["submit", "nowhere.py"], None),
        (["submit", APP], None),
        (["submit", "no.such.module"], None),
        (["submit", APP, "--args", "{"], None),
        (["run", APP, "--args", "[1]"], None),
        (["run", APP, "--retry"], None),
        (["run", APP, "-n", "0"], None),
        (["run", APP, "--timeout", "-1"], None),
        (["worker", "nowhere.py"], None),
        (["worker", APP, "--types", "nothing"], None),
        (["worker", APP, "--types", ","], None),
        (["worker", APP, "-n", "x"], None),
        (["worker", APP, "--heartbeat-interval", "0"], None),
        (["worker", APP, "--tolerance", "none"], None),
        (["worker", APP, "--durability", "some"], None),
        (["show", "nobody"], None),
        (["logs", "nobody"], None),
        (["why", "nobody"], None),
        (["abort", "nobody"], None),
        (["retry", "nobody"], None),
        (["reset", "nobody"], None),
        (["retry", "here"], None),
        (["jobs", "--status", "lost"], None),
        (["jobs", "--limit", "0"], None),
        (["jobs", "--run", "nobody"], None),
        (["status", "--run", "nobody"], None),
        (["statsu"], None),
        (["status", "--jsn"], None),
        (["check", "nowhere.py"], None),
    ]
    garbage = Garbage(unit.random)
    while len(fixed) < COMMANDS:
        lines = "\n".join(garbage.line() for _ in range(3)) + '\n{"id": 7}'
        fixed.append((["submit", "-"], lines.encode("utf-8", "replace").decode().replace("\0", "\\0")))
    return fixed[:COMMANDS]


@scenario("commands", small=1, release=10)
def bad_commands(unit: Unit) -> Figures:
    """Fifty bad command lines: exit 2, one line, nothing stored."""
    rig = Rig(unit.directory)
    wrong: list[str] = []
    try:
        rig.submit([{"id": "here"}])
        for words, text in _commands(unit, rig):
            shown = f"{' '.join(words)[:80]} {text[:60]!r}" if text is not None else " ".join(words)[:120]
            try:
                done = rig.cli(*words, input=text)
            except Violation as error:
                wrong.append(str(error))
                continue
            lines = [line for line in done.stderr.split("\n") if line.strip()]
            if done.returncode != 2:
                wrong.append(f"{shown}: exit code {done.returncode}, not 2: {done.stderr[-200:]!r}")
            elif len(lines) != 1 or done.stdout:
                wrong.append(
                    f"{shown}: {len(lines)} lines on stderr, {len(done.stdout)} characters on stdout: {lines[:3]}"
                )
        if [job["id"] for job in rig.ask("jobs")] != ["here"]:
            wrong.append("something was stored")
    finally:
        rig.close()
    if wrong:
        raise Violation(*wrong, figures={"commands": COMMANDS})
    return {"commands": COMMANDS}
