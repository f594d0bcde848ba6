"""What is computed twice is computed once, unless what it reads has changed."""

from __future__ import annotations

import numpy as np
import pytest

from symgraph.compile.loops import Affine, Axis, Buffer, Let, Load, Loop, Name, Program, Statement, Store, View
from symgraph.compile.show import listing
from symgraph.compile.tidy import tidy
from symgraph.dims import dim

DOUBLE = np.dtype("float64")
N = dim("n")
AXIS, INNER = Axis("i", N), Axis("j", N)
GIVEN, FOUND = Buffer("given", DOUBLE, (N,), "argument"), Buffer("found", DOUBLE, (N,), "result")
ROOM, OTHER = Buffer("room", DOUBLE, (N,), "scratch"), Buffer("other", DOUBLE, (N,), "scratch")


def doubled(name: str, buffer: Buffer, axis: Axis = AXIS) -> Let:
    element = Load(buffer, (Affine(axis),))
    return Let(name, DOUBLE, "add", "{0} + {1}", (element, element))


def put(buffer: Buffer, name: str) -> Store:
    return Store(buffer, (Affine(AXIS),), Name(name, DOUBLE))


def sums(*body: Statement, before: tuple[Statement, ...] = ()) -> int:
    made = Program("f", (GIVEN,), ("n",), (), (*before, Loop(AXIS, body)), (FOUND,))
    return listing(tidy(made)).count(" + ")


@pytest.mark.parametrize("buffer", [GIVEN, ROOM])
def test_a_formula_of_the_same_elements_is_computed_once(buffer: Buffer) -> None:
    assert sums(doubled("a", buffer), put(FOUND, "a"), doubled("b", buffer), put(OTHER, "b")) == 1


def test_a_formula_of_elements_that_change_is_computed_again() -> None:
    assert sums(doubled("a", ROOM), put(ROOM, "a"), doubled("b", ROOM), put(FOUND, "b")) == 2


def test_a_formula_of_elements_that_change_under_another_name_is_computed_again() -> None:
    view = View(OTHER, ROOM)
    assert sums(doubled("a", ROOM), put(OTHER, "a"), doubled("b", ROOM), put(FOUND, "b"), before=(view,)) == 2


def test_a_formula_in_a_loop_inside_is_computed_again_where_the_loop_around_changes_what_it_reads() -> None:
    inside = Loop(INNER, (doubled("b", ROOM), put(FOUND, "b")))
    assert sums(doubled("a", ROOM), put(OTHER, "a"), inside, put(ROOM, "a")) == 2
