"""Graphs: built, checked as a whole, carried as text."""

from __future__ import annotations

import json
import random
import string
from itertools import pairwise

import pytest

from overseer_lite.errors import (
    CycleError,
    DuplicateJobError,
    EmptyGraphError,
    InvalidGraphError,
    InvalidInputError,
    InvalidJobError,
    InvalidLineError,
    MissingHandlerError,
    UnknownDependencyError,
)
from overseer_lite.graph import (
    Graph,
    Resolved,
    as_graph,
    from_json,
    generate_run_id,
    job_graph,
    jobs_from_json,
    jobs_to_json,
    simple_graph,
    to_json,
    validate_graph_handlers,
)
from overseer_lite.job import Job, stored


def content(graph):
    """Return all a store would see of a graph."""
    return (
        graph.id,
        graph.args_json,
        graph.validate(),
        [(job.type, job.name, job.id, job.args_json, job.priority, job.delay_s, job.detached) for job in graph.jobs],
        [graph.dependency_ids(job) for job in graph.jobs],
    )


# ---- ids -------------------------------------------------------------------------------------------------------------


def test_generated_run_ids_sort_by_time_and_never_repeat_in_a_process():
    """Ids made one after the other are in order, and none is given twice, however fast they are made."""
    ids = [generate_run_id() for _ in range(5000)]
    assert sorted(set(ids)) == ids


def test_a_generated_run_id_is_readable():
    """UTC date, time, and eight hexadecimal digits, so that the order holds across a change to summer time."""
    date, time, rest = generate_run_id().split("-")
    assert (len(date), len(time), len(rest)) == (8, 6, 8)
    assert date.isdigit()
    assert time.isdigit()
    assert set(rest) <= set(string.hexdigits)


def test_a_job_is_stored_as_run_and_name_unless_it_has_an_id():
    """The id in the store is `run/name`; a name is the type unless given; an id of one's own is taken as it is."""
    graph = Graph(id="night")
    jobs = [graph.add("count"), graph.add("count", name="second"), graph.add("count", name="third", id="mine")]
    assert [graph.job_id(job) for job in jobs] == ["night/count", "night/second", "mine"]
    assert graph.validate().ids == ["night/count", "night/second", "mine"]


def test_run_and_name_together_stay_within_the_limit_of_an_id():
    """200 characters are stored, 201 are refused when the job is added, and the graph stays as it was."""
    graph = Graph(id="r" * 100)
    graph.add("t", name="n" * 99)
    with pytest.raises(InvalidJobError, match="201 characters"):
        graph.add("t", name="n" * 100)
    assert [job.name for job in graph.jobs] == ["n" * 99]


def test_another_run_id_may_make_an_id_too_long():
    """Renaming a run checks every id anew."""
    graph = Graph()
    graph.add("t", name="n" * 100)
    with pytest.raises(InvalidJobError, match="201 characters"):
        graph.with_id("r" * 100)


@pytest.mark.parametrize("id", ["", " a", "a\n", "x" * 201, "a\0b"])
def test_a_run_id_must_be_a_usable_label(id):
    """Blank, unprintable and overlong ids are refused."""
    with pytest.raises(InvalidJobError, match="run id"):
        Graph(id=id)


# ---- building --------------------------------------------------------------------------------------------------------


def test_a_name_is_given_once():
    """Two jobs of one name are refused when the second is added."""
    graph = Graph()
    graph.add("a", name="x")
    with pytest.raises(DuplicateJobError, match="'x'"):
        graph.add("b", name="x")


def test_an_id_is_given_once():
    """An id of one's own that is another job's `run/name` would make two jobs one: refused."""
    graph = Graph(id="r")
    graph.add("a")
    graph.add("b", id="r/a")
    with pytest.raises(DuplicateJobError, match="'r/a'"):
        graph.validate()


def test_shared_args_must_be_a_json_object():
    """Shared args are checked when the graph is made, and kept as text."""
    assert Graph({"day": "x"}).args_json == '{"day":"x"}'
    assert Graph().args_json is None
    with pytest.raises(InvalidJobError, match="not a mapping"):
        Graph([1])
    with pytest.raises(InvalidJobError, match="not JSON"):
        Graph({"day": {1}})


def test_dependencies_may_be_jobs_names_or_stored_ids():
    """All three forms are resolved, each dependency once, in declared order."""
    graph = Graph(id="r")
    a = graph.add("a")
    graph.add("b")
    c = graph.add("c", dependencies=["b", stored("old/x"), a, "a", stored("old/x"), stored("old/y")])
    assert graph.dependency_ids(c) == ["r/b", "old/x", "r/a", "old/y"]
    assert graph.validate() == Resolved(["r/a", "r/b", "r/c"], [(), (), (1, 0)], {2: ["old/x", "old/y"]})


def test_a_dependency_may_be_declared_after_its_dependent():
    """Order of declaration is free."""
    graph = Graph(id="r")
    graph.add("b", dependencies=["a"])
    graph.add("a")
    assert graph.validate() == Resolved(["r/b", "r/a"], [(1,), ()], {})


def test_a_job_of_another_graph_is_no_dependency():
    """Even if this graph has a job of that name: it would be another job."""
    foreign = Graph().add("a")
    graph = Graph()
    graph.add("a")
    job = graph.add("b", dependencies=[foreign])
    for check in (graph.validate, lambda: graph.dependency_ids(job), lambda: to_json(graph)):
        with pytest.raises(UnknownDependencyError, match="another graph"):
            check()


def test_an_unknown_dependency_comes_with_the_nearest_name():
    """The message names the job, the name, and what may have been meant."""
    graph = Graph()
    graph.add("partitions")
    graph.add("merge", dependencies=["partition"])
    with pytest.raises(UnknownDependencyError, match=r"'merge' depends on 'partition'.*mean 'partitions'"):
        graph.validate()


def test_a_graph_of_jobs_made_before_takes_them_as_they_are():
    """`Graph.of` keeps order, names and dependencies; what a handler added is resolved that way."""
    first = Job("a")
    graph = Graph.of([first, Job("b", dependencies=[first, stored("s")])], id="r")
    assert graph.validate() == Resolved(["r/a", "r/b"], [(), (0,)], {1: ["s"]})


# ---- validation ------------------------------------------------------------------------------------------------------


def test_an_empty_graph_is_refused():
    """Running nothing must not look like success."""
    with pytest.raises(EmptyGraphError):
        Graph().validate()


def test_a_cycle_is_named_in_order():
    """Each job of the cycle stands before the one it waits for, the first again at the end; bystanders are not named."""
    graph = job_graph({"start": [], "a": ["start", "b"], "b": ["c"], "c": ["a"], "end": ["a"]})
    with pytest.raises(CycleError) as caught:
        graph.validate()
    cycle = caught.value.cycle
    assert cycle[0] == cycle[-1]
    assert sorted(cycle[1:]) == ["a", "b", "c"]
    waits_for = {"a": "b", "b": "c", "c": "a"}
    assert [waits_for[one] for one in cycle[:-1]] == list(cycle[1:])


def test_a_job_that_waits_for_itself_is_a_cycle_of_one():
    """It would never run."""
    with pytest.raises(CycleError) as caught:
        job_graph({"a": ["a"]}).validate()
    assert caught.value.cycle == ("a", "a")


def test_a_cycle_through_a_stored_id_of_the_same_graph_is_found():
    """`stored` may name a job of this very graph; it is then one of its jobs like any other."""
    graph = Graph(id="r")
    graph.add("a", dependencies=[stored("r/b")])
    graph.add("b", dependencies=["a"])
    with pytest.raises(CycleError):
        graph.validate()


def test_a_long_cycle_has_a_short_message():
    """The message stays a line; the whole cycle is an attribute."""
    names = [f"n{i}" for i in range(5000)]
    with pytest.raises(CycleError) as caught:
        job_graph({name: [names[i - 1]] for i, name in enumerate(names)}).validate()
    assert len(str(caught.value)) < 300
    assert len(caught.value.cycle) == 5001


@pytest.mark.parametrize("seed", range(20))
def test_a_graph_has_a_cycle_exactly_if_it_cannot_be_sorted(seed):
    """Against the definition: jobs are taken away while one has no dependency left; a cycle is what stays."""
    chance = random.Random(seed)
    names = [f"n{i}" for i in range(chance.randrange(2, 12))]
    mapping = {name: chance.sample(names, chance.randrange(2)) for name in names}
    left = dict(mapping)
    while free := [name for name, needs in left.items() if not any(need in left for need in needs)]:
        for name in free:
            del left[name]
    if not left:
        assert len(job_graph(mapping).validate().ids) == len(names)
        return
    with pytest.raises(CycleError) as caught:
        job_graph(mapping).validate()
    cycle = caught.value.cycle
    assert cycle[0] == cycle[-1]
    assert len(set(cycle)) == len(cycle) - 1
    assert all(wanted in mapping[job] for job, wanted in pairwise(cycle))


@pytest.mark.slow
def test_a_deep_graph_needs_no_recursion():
    """100,000 jobs in a chain, declared last first: the worst order there is."""
    n = 100_000
    graph = Graph(id="r")
    for i in range(n):
        graph.add("t", name=f"j{i}", dependencies=[f"j{i + 1}"] if i < n - 1 else ())
    assert graph.validate().internal == [*((i + 1,) for i in range(n - 1)), ()]


# ---- other ways to write a graph -------------------------------------------------------------------------------------


def test_a_job_graph_has_one_job_a_type_with_shared_args():
    """The ancestor's form: type to the types it waits for; lists, tuples and sets alike."""
    graph = job_graph({"start": [], "a": ("start",), "b": {"start"}, "end": ["a", "b"]}, {"org": 1}, "r")
    assert [(job.type, job.name, graph.dependency_ids(job)) for job in graph.jobs] == [
        ("start", "start", []),
        ("a", "a", ["r/start"]),
        ("b", "b", ["r/start"]),
        ("end", "end", ["r/a", "r/b"]),
    ]
    assert graph.args_json == '{"org":1}'


def test_a_dependency_of_a_job_graph_must_be_a_key():
    """A misspelt type must not become a job of its own."""
    with pytest.raises(UnknownDependencyError, match="mean 'start'"):
        job_graph({"start": [], "end": ["strat"]})


@pytest.mark.parametrize("mapping", [{"a": "b", "b": []}, {"a": None}, {"a": [1]}, {1: []}, ["a"], {"a": {"b": []}}])
def test_a_job_graph_of_another_form_is_refused(mapping):
    """A string instead of a list is a common slip: it must not be read letter by letter."""
    with pytest.raises(InvalidInputError):
        job_graph(mapping)


def test_a_simple_graph_has_independent_jobs():
    """Jobs or types, in the order given."""
    graph = simple_graph("a", Job("b", name="c"), id="r", args={"x": 1})
    assert content(graph)[2] == Resolved(["r/a", "r/c"], [(), ()], {})
    assert graph.args_json == '{"x":1}'


def test_a_simple_graph_refuses_dependencies():
    """They would be lost on the reader, who takes the jobs to be independent."""
    with pytest.raises(InvalidJobError, match="dependencies"):
        simple_graph(Job("a", dependencies=["b"]), "b")


def make_graph(day, n=1):
    graph = Graph({"day": day})
    for i in range(n):
        graph.add("count", name=f"count-{i}")
    return graph


def make_mapping(day):
    return {"a": []}


def test_an_apps_graph_may_be_a_mapping_a_graph_or_a_function():
    """All three give the same kind of graph; args reach a mapping's jobs, and a function as keywords."""
    assert as_graph({"a": []}, {"x": 1}, "r").args_json == '{"x":1}'
    assert as_graph(make_graph("mon"), None, "r").id == "r"
    made = as_graph(make_graph, {"day": "mon", "n": 2}, "r")
    assert (made.id, made.args_json, [job.name for job in made.jobs]) == ("r", '{"day":"mon"}', ["count-0", "count-1"])
    assert as_graph(make_mapping, {"day": "mon"}, "r").args_json == '{"day":"mon"}'


def test_a_graph_keeps_its_generated_id_if_no_other_is_given():
    """Nothing is renamed without need."""
    graph = make_graph("mon")
    assert as_graph(graph) is graph


def test_a_graph_that_names_its_run_may_be_asked_for_by_that_name():
    """Only another id would be a contradiction."""
    assert as_graph(Graph(id="r"), None, "r").id == "r"


def test_a_module_level_graph_can_be_submitted_as_several_runs():
    """Giving an id leaves the app's own graph as it was."""
    graph = make_graph("mon")
    assert [as_graph(graph, None, run).validate().ids for run in ("r1", "r2")] == [["r1/count-0"], ["r2/count-0"]]
    assert graph.generated_id


@pytest.mark.parametrize(
    ("value", "args", "id", "words"),
    [
        (make_graph, {}, None, "missing a required argument: 'day'"),
        (make_graph, {"day": 1, "night": 2}, None, "unexpected keyword argument 'night'"),
        (lambda: None, {}, None, "returned NoneType"),
        (7, {}, None, "is int"),
        (Graph(), {"day": 1}, None, "'day' would reach no job"),
        (Graph(id="a"), {}, "b", "'a', and 'b' was asked for"),
    ],
)
def test_an_apps_graph_of_another_form_is_refused_by_name(value, args, id, words):
    """The message names the argument or the type that is wrong."""
    with pytest.raises(InvalidGraphError) as caught:
        as_graph(value, args, id)
    assert words in str(caught.value)


def test_an_error_of_the_graph_function_itself_is_left_alone():
    """A TypeError raised inside is the app's own fault, and must not be taken for args that do not fit."""

    def graph():
        raise TypeError("mine")

    with pytest.raises(TypeError, match=r"^mine$"):
        as_graph(graph)


@pytest.mark.parametrize(
    "graph", [{"count": [], "merge": ["counts"]}, job_graph({"count": [], "counts": [], "merge": []})]
)
def test_types_without_a_handler_are_named(graph):
    """A mapping's dependencies count as types as well; the nearest handler is named."""
    validate_graph_handlers({"count": print, "counts": print, "merge": print}, graph)
    with pytest.raises(MissingHandlerError, match=r"'counts'.*mean 'count'") as caught:
        validate_graph_handlers({"count": print}, graph)
    assert caught.value.types == ("counts", "merge")


# ---- carried as text -------------------------------------------------------------------------------------------------


def rich_graph():
    graph = Graph({"day": "Montag ü", "n": 1.5}, id="r")
    a = graph.add("a", args={"x": [1, None, {"y": "z"}]}, priority=-3, delay_s=0.1)
    graph.add("b", name="b 2", id="own", dependencies=[a, "a", stored("s/1"), "c"])
    graph.append(Job("c", detached=True))
    return graph


def test_a_graph_survives_being_carried_as_text():
    """All that a store sees is the same afterwards, and the text of the copy is the same text."""
    graph = rich_graph()
    text = to_json(graph)
    assert content(from_json(text)) == content(graph)
    assert to_json(from_json(text)) == text


def test_the_text_of_a_graph_has_this_form():
    """Other processes read it, and other versions may."""
    assert json.loads(to_json(rich_graph())) == {
        "id": "r",
        "args": {"day": "Montag ü", "n": 1.5},
        "jobs": [
            {
                "type": "a",
                "name": "a",
                "id": None,
                "args": {"x": [1, None, {"y": "z"}]},
                "dependencies": [],
                "priority": -3,
                "delay": 0.1,
            },
            {
                "type": "b",
                "name": "b 2",
                "id": "own",
                "args": None,
                "dependencies": [{"name": "a"}, {"name": "a"}, {"stored": "s/1"}, {"name": "c"}],
                "priority": 0,
                "delay": 0.0,
            },
            {
                "type": "c",
                "name": "c",
                "id": None,
                "args": None,
                "dependencies": [],
                "priority": 0,
                "delay": 0.0,
                "detached": True,
            },
        ],
    }


def test_a_generated_id_is_still_one_after_being_carried():
    """The process that stores the graph may give the run another id."""
    graph = simple_graph("a")
    assert as_graph(from_json(to_json(graph)), None, "r").id == "r"
    assert not from_json(to_json(rich_graph())).generated_id


def test_jobs_alone_are_carried_likewise():
    """What a handler added crosses from runner to worker so."""
    jobs = rich_graph().jobs
    assert content(Graph.of(jobs_from_json(jobs_to_json(jobs)), id="r"))[1:] == (None, *content(rich_graph())[2:])


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"jobs":[1]}', '{"jobs":[{"type":"a","dependencies":["x"]}]}', '{"jobs":[{}]}', "[" * 10**5],
)
def test_text_of_another_form_is_refused(text):
    """The text comes from a process that runs an app: it is read with care."""
    with pytest.raises(InvalidInputError):
        from_json(text)


# ---- JSON Lines ------------------------------------------------------------------------------------------------------


def test_lines_give_ids_as_they_are():
    """Id is name, order is free, a dependency that is no id here is taken to be stored, blank lines are skipped."""
    graph = Graph.from_lines(
        [
            '{"id": "m", "type": "merge", "dependencies": ["c1", "old/x", "c1"], "priority": 2, "delay": 1.5}\n',
            "\n",
            '{"id": "c1", "type": "count", "args": {"p": 1}}',
        ]
    )
    assert graph.validate() == Resolved(["m", "c1"], [(1,), ()], {0: ["old/x"]})
    assert [(job.name, job.type, job.args_json, job.priority, job.delay_s) for job in graph.jobs] == [
        ("m", "merge", None, 2, 1.5),
        ("c1", "count", '{"p":1}', 0, 0.0),
    ]
    assert content(from_json(to_json(graph))) == content(graph)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "no JSON object"),
        ('"x"', "no JSON object"),
        ('{"type":"t"}', "no 'id'"),
        ('{"id":"a"}', "no 'type'"),
        ('{"id":"a","type":"t","dependancies":[]}', "'dependancies' (did you mean 'dependencies'?)"),
        ('{"id":"a","type":"t","type":"u"}', "'type' stands there twice"),
        ('{"id":"a","type":"t","args":{"x":1,"x":2}}', "'x' stands there twice"),
        ('{"id":"a","type":"t","args":{"x":NaN}}', "NaN"),
        ('{"id":"a","type":"t","args":{"x":1e999}}', "not JSON"),
        ('{"id":"a","type":"t","args":[1]}', "'args'"),
        ('{"id":"a","type":"t","args":{"x":"\\u0000"}}', "NUL"),
        ('{"id":"a","type":"t","args":{"x":"\\ud800"}}', "surrogate"),
        ('{"id":"a","type":"t","dependencies":"b"}', "'dependencies'"),
        ('{"id":"a","type":"t","dependencies":[1]}', "'dependencies'"),
        ('{"id":"a","type":"t","dependencies":[" "]}', "blank"),
        ('{"id":"a","type":"t","priority":1.5}', "priority"),
        ('{"id":"a","type":"t","priority":true}', "priority"),
        ('{"id":"a","type":"t","delay":-1}', "delay"),
        ('{"id":"a","type":"t","delay":"soon"}', "delay"),
        ('{"id":"a","type":"t","delay":1e999}', "delay"),
        ('{"id":1,"type":"t"}', "id is int"),
        ('{"id":"a","type":null}', "type is NoneType"),
        ('{"id":"' + "a" * 201 + '","type":"t"}', "201 characters"),
        ('{"id":"a","type":"t","args":{"x":' + "[" * 5000 + "]" * 5000 + "}}", ""),
        ('{"id":"a","type":"t","args":{"x":' + "9" * 5000 + "}}", ""),
        ('{"id":"first","type":"t"}', "'first' stands on line 1 already"),
    ],
)
def test_a_bad_line_is_named_with_its_number(line, words):
    """The message names file and line, says what is wrong and that nothing was stored."""
    with pytest.raises(InvalidLineError) as caught:
        Graph.from_lines(['{"id":"first","type":"t"}', "", line], "f.jsonl")
    message = str(caught.value)
    assert message.startswith("f.jsonl:line 3: ")
    assert words in message
    assert "Nothing was stored" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("lines", [[], ["\n", "  "]])
def test_a_blank_file_is_refused_by_name(lines):
    """An empty file is more likely a mistake than a wish."""
    with pytest.raises(EmptyGraphError, match=r"f\.jsonl has no jobs"):
        Graph.from_lines(lines, "f.jsonl")


def test_a_graph_function_without_a_signature_whose_args_do_not_fit_is_bad_input():
    """Some callables written in C have none to look at; what the call says is told in one line all the same."""
    with pytest.raises(InvalidGraphError, match="args do not fit: .*takes no keyword arguments"):
        as_graph(ValueError, {"day": "2026-11-24"})
