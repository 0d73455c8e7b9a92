"""The longest chain: of what waits for what, by any length."""

from __future__ import annotations

import graphlib

import pytest

from overseer_lite.report.chain import Chains, Link

DIAMOND = {"end": ["left", "right"], "left": ["top"], "right": ["top"], "top": []}


def chains(lengths, waits_for):
    return Chains(lengths, waits_for.items())


def test_the_longest_is_by_length_not_by_number():
    """One long one is longer than two short ones; whoever comes first in the mapping."""
    found = chains({"top": 1, "left": 2, "right": 5, "end": 1}, DIAMOND)

    assert (found.length, found.longest()) == (7, ["top", "right", "end"])
    assert found.links["left"] == Link(3, "top")


def test_the_longest_may_end_before_the_last():
    """A chain is as long as its links: one beside it may be longer than any that goes to the end."""
    assert chains({"top": 1, "left": 1, "right": 1, "end": 1, "apart": 9}, DIAMOND | {"apart": []}).longest() == [
        "apart"
    ]


def test_the_number_of_links_is_the_layer():
    """Of all of length one."""
    found = chains(dict.fromkeys(DIAMOND, 1), DIAMOND | {"end": ["left", "right", "top"]})

    assert {name: found.length_to(name) for name in DIAMOND} == {"top": 1, "left": 2, "right": 2, "end": 3}


def test_what_has_no_length_is_no_link():
    """It is of another run, has run already or will not run: whoever waits for it waits no longer for that."""
    found = chains({"end": 1, "left": 2}, DIAMOND)

    assert (found.longest(), sorted(found.links)) == (["left", "end"], ["end", "left"])


def test_there_is_no_chain_of_nothing():
    """No jobs, no length."""
    assert (chains({}, {}).length, chains({}, {}).longest()) == (0.0, [])


def test_a_circle_is_an_error():
    """Not an endless chain."""
    with pytest.raises(graphlib.CycleError):
        chains({"a": 1, "b": 1}, {"a": ["b"], "b": ["a"]})
