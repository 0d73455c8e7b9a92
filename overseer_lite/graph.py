"""A graph of jobs: built, checked as a whole, and carried as JSON from the process that imports an app to the store.

Nothing here touches a store. `Graph.validate` says all that can be said without one, and hands the store a form in
which it need not look up a name again. A graph may have a million jobs: lists and dictionaries, no recursion.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from overseer_lite.errors import (
    CycleError,
    DuplicateJobError,
    EmptyGraphError,
    InvalidGraphError,
    InvalidJobError,
    InvalidLineError,
    MissingHandlerError,
    UnknownDependencyError,
    nearest,
    shown,
)
from overseer_lite.job import MAX_ID_CHARS, Job, Stored, check_label, encode_args, type_of

_TICKS_A_SECOND: Final = 1 << 16
_last_tick = 0


def generate_run_id() -> str:
    """Return a new run id such as `20261124-032718-4f2a91c3`: UTC date and time, then eight hexadecimal digits.

    Ids of one process sort in the order in which they were made and never repeat. Those of several processes repeat
    only if made in the same 15 microseconds and with the same 16 random bits.
    """
    global _last_tick
    _last_tick = tick = max(_last_tick + 1, int(time.time() * _TICKS_A_SECOND))
    seconds, fraction = divmod(tick, _TICKS_A_SECOND)
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(seconds))}-{fraction:04x}{os.urandom(2).hex()}"


class Resolved(NamedTuple):
    """A valid graph as a store needs it. Positions are those of `Graph.jobs`; nothing is looked up by name any more.

    Attributes:
        ids: The store id of each job, in declared order; no two are equal.
        internal: For each job the positions of its dependencies within the graph, each once, in declared order; `()`
            for none. Taken together they have no cycle, but a dependency may stand after its dependent.
        external: For the few jobs that have them: position, and ids of dependencies to be found in the store, each
            once, in declared order. None of these ids is in `ids`. Where a job has dependencies of both sorts,
            `Graph.dependency_ids` gives the order they were declared in together.
    """

    ids: list[str]
    internal: list[tuple[int, ...]]
    external: dict[int, list[str]]


class Graph:
    """Jobs and dependencies submitted together: one run.

    Args:
        args: A JSON object all jobs share; a job's own args win over these.
        id: The run's id. One is generated if it is not given; then whoever submits the graph may give another.

    Raises:
        InvalidJobError: The id is no usable label, or args are no JSON object.
    """

    __slots__ = ("_index", "_jobs", "_own_ids", "args_json", "generated_id", "id")

    def __init__(self, args: Mapping[str, Any] | None = None, *, id: str | None = None) -> None:
        if id is not None:
            check_label(f"of run {shown(id)}", "run id", id)
        self.id: str = id if id is not None else generate_run_id()
        self.generated_id = id is None
        self.args_json: str | None = encode_args(f"(all of run {self.id})", args)
        self._jobs: list[Job] = []
        self._index: dict[str, int] = {}
        self._own_ids = False

    def __repr__(self) -> str:
        return f"Graph({self.id!r}, {len(self._jobs)} jobs)"

    def __len__(self) -> int:
        return len(self._jobs)

    @classmethod
    def of(cls, jobs: Iterable[Job], *, id: str | None = None, args: Mapping[str, Any] | None = None) -> Graph:
        """Return a graph of jobs made before, in the order given, dependencies as each has them."""
        graph = cls(args, id=id)
        for job in jobs:
            graph.append(job)
        return graph

    @property
    def jobs(self) -> Sequence[Job]:
        """The jobs in declared order; not to be changed."""
        return self._jobs

    def add(
        self,
        type: str,
        name: str | None = None,
        args: Mapping[str, Any] | None = None,
        dependencies: Iterable[Job | str | Stored] = (),
        priority: int = 0,
        delay_s: float = 0.0,
        id: str | None = None,
    ) -> Job:
        """Add a job and return it; what is returned may stand among the dependencies of jobs added later.

        Raises:
            InvalidJobError: Something of it breaks a rule; the graph is as it was.
            DuplicateJobError: The graph has a job of that name.
        """
        return self.append(
            Job(type, name=name, args=args, dependencies=dependencies, priority=priority, delay_s=delay_s, id=id)
        )

    def append(self, job: Job) -> Job:
        """Add a job made before, and return it. Its dependencies are looked at by `validate`, not here.

        Raises:
            InvalidJobError: Its id would be too long.
            DuplicateJobError: The graph has a job of that name.
        """
        if job.name in self._index:
            raise DuplicateJobError(job.name)
        self._check_length(job)
        self._own_ids = self._own_ids or job.id is not None
        self._index[job.name] = len(self._jobs)
        self._jobs.append(job)
        return job

    def job_id(self, job: Job) -> str:
        """Return a job's id in the store: its own where it was given one, else `run/name`."""
        return job.id if job.id is not None else f"{self.id}/{job.name}"

    def with_id(self, id: str) -> Graph:
        """Return the same graph as another run; this one stays as it is.

        Raises:
            InvalidJobError: The id is no usable label, or makes the id of a job too long.
        """
        other = Graph(id=id)
        other.args_json = self.args_json
        other._jobs = self._jobs.copy()
        other._index = self._index.copy()
        other._own_ids = self._own_ids
        for job in self._jobs:
            other._check_length(job)
        return other

    def dependency_ids(self, job: Job) -> list[str]:
        """Return the ids of a job's dependencies, each once, in declared order.

        Raises:
            UnknownDependencyError: One is no job of this graph (nor said to be in the store).
        """
        ids = (
            dependency.id if isinstance(dependency, Stored) else self.job_id(self._jobs[self._find(job, dependency)])
            for dependency in job.dependencies
        )
        return list(dict.fromkeys(ids))

    def validate(self) -> Resolved:
        """Check everything that can be known without the store, and return the graph as a store needs it.

        A million jobs with a million dependencies take about two seconds; the graph must not change meanwhile.

        Raises:
            EmptyGraphError: It has no jobs.
            DuplicateJobError: Two of its jobs have the same id.
            UnknownDependencyError: A dependency is no job of this graph (nor said to be in the store).
            CycleError: Jobs wait for one another, or one for itself; the cycle is named in order.
        """
        if not self._jobs:
            raise EmptyGraphError
        run = self.id
        ids = [job.id if job.id is not None else f"{run}/{job.name}" for job in self._jobs]
        if self._own_ids:
            _check_unique(ids)
        internal: list[tuple[int, ...]] = []
        external: dict[int, list[str]] = {}
        forward: list[int] = []
        positions: dict[str, int] = {}
        for position, job in enumerate(self._jobs):
            if not job.dependencies:
                internal.append(())
                continue
            inside: list[int] = []
            for dependency in job.dependencies:
                if isinstance(dependency, Stored):
                    # Named as stored, it may yet be a job of this graph; missed, it could hide a cycle.
                    positions = positions or dict(zip(ids, range(len(ids)), strict=True))
                    found = positions.get(dependency.id)
                    if found is None:
                        external.setdefault(position, []).append(dependency.id)
                        continue
                else:
                    found = self._find(job, dependency)
                inside.append(found)
            internal.append(tuple(inside) if len(inside) < 2 else tuple(dict.fromkeys(inside)))
            if inside and max(inside) >= position:
                forward.append(position)
        for position, stored_ids in external.items():
            external[position] = list(dict.fromkeys(stored_ids))
        cycle = _find_cycle(internal, forward)
        if cycle:
            raise CycleError([self._jobs[position].name for position in cycle])
        return Resolved(ids, internal, external)

    @classmethod
    def from_lines(cls, lines: Iterable[str], origin: str = "(input)") -> Graph:
        """Read JSON Lines, one job a line: id, type, and if wanted args, dependencies, priority, delay (seconds).

        Ids are taken as given, a job's name is its id, the run's id is generated. A dependency that is no id of these
        lines is taken to be in the store. Blank lines are skipped. All or nothing.

        Args:
            lines: Decoded text, line by line.
            origin: The file, for messages.

        Raises:
            InvalidLineError: A line is no JSON object of that form; the message names `origin` and the line.
            EmptyGraphError: There is no job.
        """
        graph = cls()
        numbers: list[int] = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            job = _job_of_line(line, origin, number)
            known = graph._index.get(job.name)
            if known is not None:
                problem = f"the id {job.name!r} stands on line {numbers[known]} already"
                raise InvalidLineError(origin, number, problem, "give each job an id of its own")
            graph.append(job)
            numbers.append(number)
        if not numbers:
            raise EmptyGraphError(origin)
        index = graph._index
        for job, number in zip(graph.jobs, numbers, strict=True):
            if any(dependency not in index for dependency in job.dependencies):
                job.dependencies = tuple(
                    dependency if dependency in index else _stored_of_line(job, str(dependency), origin, number)
                    for dependency in job.dependencies
                )
        return graph

    def _find(self, job: Job, dependency: Job | str) -> int:
        if isinstance(dependency, Job):
            found = self._index.get(dependency.name)
            if found is None or self._jobs[found] is not dependency:
                raise UnknownDependencyError(job.name, f"{dependency.name} (a job of another graph)")
            return found
        found = self._index.get(dependency)
        if found is None:
            raise UnknownDependencyError(
                job.name, dependency, nearest(dependency, (name for name in self._index if name != job.name))
            )
        return found

    def _check_length(self, job: Job) -> None:
        if job.id is None and len(self.id) + 1 + len(job.name) > MAX_ID_CHARS:
            raise InvalidJobError(
                job.name[:80],
                f"its id, run {self.id[:80]!r} and name together, has {len(self.id) + 1 + len(job.name)} characters",
                f"shorten one of them: at most {MAX_ID_CHARS} in all",
            )


def _check_unique(ids: list[str]) -> None:
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for job_id in ids:
        if job_id in seen:
            raise DuplicateJobError(job_id)
        seen.add(job_id)


def _find_cycle(internal: Sequence[tuple[int, ...]], starts: Iterable[int]) -> list[int] | None:
    """Return a cycle as positions, the first repeated at its end, None if there is none.

    Every cycle has a job with a dependency declared at or after it: looking from those (`starts`) is enough, and
    costs nothing for a graph declared in order. `graphlib` would keep an object a job, here it is a byte.
    """
    new, on_path, done = 0, 1, 2
    state = bytearray(len(internal))
    for start in starts:
        if state[start] != new:
            continue
        state[start] = on_path
        path = [start]
        pending: list[Iterator[int]] = [iter(internal[start])]
        while path:
            for position in pending[-1]:
                if state[position] == on_path:
                    return [*path[path.index(position) :], position]
                if state[position] == new:
                    state[position] = on_path
                    path.append(position)
                    pending.append(iter(internal[position]))
                    break
            else:
                state[path.pop()] = done
                pending.pop()
    return None


# ---- other ways to write a graph -------------------------------------------------------------------------------------


def job_graph(
    mapping: Mapping[str, Iterable[str]], args: Mapping[str, Any] | None = None, id: str | None = None
) -> Graph:
    """Return the graph of one job a type: `{"start": [], "finish": ["start"]}`, each type with those it waits for.

    Args:
        mapping: Type to a list, tuple or set of types, every one of which is a key as well.
        args: What all jobs share.
        id: The run's id.

    Raises:
        UnknownDependencyError: A type is waited for and is no key.
        InvalidGraphError: It is not of that form.
    """
    if not isinstance(mapping, Mapping):
        raise InvalidGraphError(
            f"The graph is {type_of(mapping).__name__}, no mapping. Nothing was stored; write {{type: [types]}}."
        )
    graph = Graph(args, id=id)
    for kind, dependencies in mapping.items():
        names = _dependency_types(kind, dependencies)
        for name in names:
            if name not in mapping:
                raise UnknownDependencyError(kind, name, nearest(name, (key for key in mapping if key != kind)))
        graph.add(kind, dependencies=names)
    return graph


def _dependency_types(type: str, dependencies: object) -> list[str]:
    if isinstance(dependencies, str) or not isinstance(dependencies, list | tuple | set | frozenset):
        raise InvalidJobError(
            str(type)[:80],
            f"its dependencies are {shown(dependencies)}, not a list",
            "give a list of types, even for one",
        )
    for name in dependencies:
        if not isinstance(name, str):
            raise InvalidJobError(str(type)[:80], f"dependency {shown(name)} is no type", "give types as strings")
    # The order of a set differs from process to process; the stored order must not.
    return sorted(dependencies) if isinstance(dependencies, set | frozenset) else list(dependencies)


def simple_graph(*jobs: Job | str, id: str | None = None, args: Mapping[str, Any] | None = None) -> Graph:
    """Return a graph of jobs that do not depend on one another; a string stands for a job of that type.

    Raises:
        InvalidJobError: One of them has dependencies.
        DuplicateJobError: Two have the same name.
    """
    graph = Graph(args, id=id)
    for item in jobs:
        job = item if isinstance(item, Job) else Job(item)
        if job.dependencies:
            raise InvalidJobError(job.name, "a job of a simple graph has dependencies", "build it with Graph.add")
        graph.append(job)
    return graph


def as_graph(value: object, args: Mapping[str, Any] | None = None, id: str | None = None) -> Graph:
    """Return the graph that an app's `graph` attribute stands for.

    Args:
        value: A mapping (see `job_graph`), a Graph, or a function that is called with `args` as keywords and returns
            one of those.
        args: For a mapping what its jobs share, returned by a function or not. A Graph a function returned has had
            them by way of the function; one made beforehand takes none.
        id: The run's id. It takes the place of a generated one; a Graph that was given an id keeps it.

    Raises:
        InvalidGraphError: It is none of these, the function's arguments do not fit, or the graph has another id.
    """
    if callable(value) and not isinstance(value, Graph | Mapping):
        made = _call(value, args or {})
        if isinstance(made, Graph):
            return _with_run_id(made, id)
        if not isinstance(made, Mapping):
            raise InvalidGraphError(
                f"The graph function returned {type(made).__name__}. Nothing was stored; "
                "return a Graph, or a mapping of types to the types they wait for."
            )
        return job_graph(made, args, id)
    if isinstance(value, Mapping):
        return job_graph(value, args, id)
    if not isinstance(value, Graph):
        raise InvalidGraphError(
            f"The graph is {type(value).__name__}. Nothing was stored; "
            "make it a mapping of types to the types they wait for, a Graph, or a function that returns one."
        )
    if args:
        raise InvalidGraphError(
            f"The graph is made before its args are known, so {', '.join(map(repr, args))} would reach no job. Nothing "
            "was stored; make `graph` a function with these arguments, or leave them out."
        )
    return _with_run_id(value, id)


def _with_run_id(graph: Graph, id: str | None) -> Graph:
    if id is None or id == graph.id:
        return graph
    if not graph.generated_id:
        raise InvalidGraphError(
            f"The graph names its run {graph.id!r}, and {id!r} was asked for. Nothing was stored; leave one of them out."
        )
    return graph.with_id(id)


def _call(function: Callable[..., object], args: Mapping[str, Any]) -> object:
    import inspect

    if not isinstance(args, Mapping) or not all(isinstance(name, str) for name in args):
        raise InvalidGraphError(
            f"The graph function's args are {shown(args)}. Nothing was stored; give names and values (--args, or `args=`)."
        )
    try:
        inspect.signature(function).bind(**args)
    except ValueError:  # one without a signature (written in C): the call itself tells
        try:
            return function(**args)
        except TypeError as error:
            raise InvalidGraphError(
                f"The graph function's args do not fit: {error}. Nothing was stored; it was given "
                f"{', '.join(map(repr, args)) or 'none'} (--args, or `args=`)."
            ) from None
    except TypeError as error:
        wanted = f"{getattr(function, '__name__', 'graph')}{inspect.signature(function)}"
        raise InvalidGraphError(
            f"The graph function's args do not fit: {error}. Nothing was stored; it is {wanted}, "
            f"and was given {', '.join(map(repr, args)) or 'none'} (--args, or `args=`)."
        ) from None
    return function(**args)


def validate_graph_handlers(handlers: Iterable[str], graph: Graph | Mapping[str, Iterable[str]]) -> None:
    """Check that every type of a graph has a handler.

    Args:
        handlers: The app's handlers, or only their types.
        graph: A Graph, or the mapping it is to be made of.

    Raises:
        MissingHandlerError: Some have none; all are named.
    """
    if isinstance(graph, Graph):
        types = {job.type for job in graph.jobs}
    else:
        types = {*graph, *(name for kind, names in graph.items() for name in _dependency_types(kind, names))}
    known = set(handlers)
    missing = sorted(types - known)
    if missing:
        raise MissingHandlerError(missing, known, nearest(missing[0], sorted(known)))


# ---- carried as text -------------------------------------------------------------------------------------------------


def to_json(graph: Graph) -> str:
    """Return the graph as JSON text that `from_json` makes the same graph of, in another process.

    Raises:
        UnknownDependencyError: A job depends on a job object of another graph; names are not looked at.
    """
    for job in graph.jobs:
        for dependency in job.dependencies:
            if isinstance(dependency, Job):
                graph._find(job, dependency)  # noqa: SLF001 - of this module
    generated = ',"generated":true' if graph.generated_id else ""
    head = f'{{"id":{_text(graph.id)}{generated},"args":{graph.args_json or "null"},"jobs":'
    return f"{head}{jobs_to_json(graph.jobs)}}}"


def from_json(text: str) -> Graph:
    """Return the graph that `to_json` wrote. It is not validated yet, but each of its jobs is sound.

    Raises:
        InvalidGraphError: The text is not of that form.
        InvalidJobError: A job breaks a rule.
    """
    value = _load(text)
    if not isinstance(value, dict) or not isinstance(value.get("jobs"), list):
        _refuse_text("it has no list of jobs")
    graph = Graph(value.get("args"), id=value.get("id"))
    graph.generated_id = value.get("generated") is True
    for item in value["jobs"]:
        graph.append(_job_of_item(item))
    return graph


def jobs_to_json(jobs: Iterable[Job]) -> str:
    """Return jobs as a JSON list. A dependency on a job object becomes its name: the jobs belong together."""
    return f"[{','.join(map(_item_of_job, jobs))}]"


def jobs_from_json(text: str) -> list[Job]:
    """Return the jobs that `jobs_to_json` wrote.

    Raises:
        InvalidGraphError: The text is not of that form.
        InvalidJobError: A job breaks a rule.
    """
    value = _load(text)
    if not isinstance(value, list):
        _refuse_text("it is no list")
    return [_job_of_item(item) for item in value]


_text: Final[Callable[[str], str]] = json.JSONEncoder(ensure_ascii=False).encode


def _item_of_job(job: Job) -> str:
    # args are text already, and may be large: they go in as they are
    dependencies = ",".join(
        f'{{"stored":{_text(dependency.id)}}}'
        if isinstance(dependency, Stored)
        else f'{{"name":{_text(dependency.name if isinstance(dependency, Job) else dependency)}}}'
        for dependency in job.dependencies
    )
    own_id = "null" if job.id is None else _text(job.id)
    detached = ',"detached":true' if job.detached else ""
    return (
        f'{{"type":{_text(job.type)},"name":{_text(job.name)},"id":{own_id},"args":{job.args_json or "null"},'
        f'"dependencies":[{dependencies}],"priority":{job.priority},"delay":{job.delay_s!r}{detached}}}'
    )


def _job_of_item(item: object) -> Job:
    if not isinstance(item, dict) or not isinstance(item.get("dependencies", []), list):
        _refuse_text(f"{shown(item)} is no job")
    dependencies: list[Any] = []
    for dependency in item.get("dependencies", []):
        if isinstance(dependency, dict) and isinstance(dependency.get("stored"), str):
            dependencies.append(Stored(dependency["stored"]))
        elif isinstance(dependency, dict) and isinstance(dependency.get("name"), str):
            dependencies.append(dependency["name"])
        else:
            _refuse_text(f"{shown(dependency)} is no dependency")
    return Job(
        item.get("type", ""),
        name=item.get("name"),
        args=item.get("args"),
        dependencies=dependencies,
        priority=item.get("priority", 0),
        delay_s=item.get("delay", 0.0),
        id=item.get("id"),
        detached=item.get("detached") is True,
    )


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        _refuse_text(f"{error}")


def _refuse_text(problem: str) -> NoReturn:
    raise InvalidGraphError(f"This is no graph written by `to_json`: {problem}. Nothing was stored; write it anew.")


# ---- JSON Lines ------------------------------------------------------------------------------------------------------

_LINE_KEYS: Final = ("id", "type", "args", "dependencies", "priority", "delay")


def _job_of_line(line: str, origin: str, number: int) -> Job:
    value = _object_of_line(line, origin, number)
    for key in value:
        if key not in _LINE_KEYS:
            near = nearest(key, _LINE_KEYS)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise InvalidLineError(origin, number, f"unknown key {key!r}{hint}", f"a job has {', '.join(_LINE_KEYS)}")
    for key in ("id", "type"):
        if key not in value:
            raise InvalidLineError(origin, number, f"the job has no {key!r}", f"give its {key}")
    dependencies = value.get("dependencies", [])
    if not isinstance(dependencies, list) or not all(isinstance(dependency, str) for dependency in dependencies):
        raise InvalidLineError(origin, number, "'dependencies' is no list of ids", 'write ["id", ...]')
    if not isinstance(value.get("args", {}), dict | None):
        raise InvalidLineError(origin, number, "'args' is no JSON object", 'write {"name": value, ...}')
    try:
        check_label(str(value["id"]), "id", value["id"])
        return Job(
            value["type"],
            name=value["id"],
            id=value["id"],
            args=value.get("args"),
            dependencies=dependencies,
            priority=value.get("priority", 0),
            delay_s=value.get("delay", 0.0),
        )
    except InvalidJobError as error:
        raise InvalidLineError(origin, number, f"job {error.job!r}: {error.problem}", error.remedy) from None


def _stored_of_line(job: Job, dependency: str, origin: str, number: int) -> Stored:
    try:
        check_label(job.name, "dependency", dependency)
    except InvalidJobError as error:
        raise InvalidLineError(origin, number, f"job {error.job!r}: {error.problem}", error.remedy) from None
    return Stored(dependency)


def _object_of_line(line: str, origin: str, number: int) -> dict[str, Any]:
    try:
        value = _LINE_DECODER.decode(line)
    except json.JSONDecodeError as error:
        problem = f"this is not JSON: {error.msg} at column {error.colno}"
        raise InvalidLineError(origin, number, problem, "write one JSON object a line") from None
    except (ValueError, RecursionError) as error:
        raise InvalidLineError(origin, number, f"{error}", "correct that value") from None
    if not isinstance(value, dict):
        raise InvalidLineError(origin, number, "this is no JSON object", 'write {"id": ..., "type": ...}')
    return value


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_LINE_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique_pairs, parse_constant=_refuse_constant)
