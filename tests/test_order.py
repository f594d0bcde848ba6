"""The order of statements in vector loops: what takes long is begun early, and what depends on another stays behind."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

import symgraph as sg
from symgraph.compile.dependence import Dependence
from symgraph.compile.loops import Accumulate, Affine, Axis, Buffer, Let, Load, Loop, Name, Program, Store
from symgraph.compile.machine.order import begun_early
from symgraph.dims import dim
from tests.helpers.engines import program

DOUBLE = np.dtype("float64")
AXIS = Axis("i", dim("n"))
HERE = (Affine(AXIS),)


def in_lanes(*body, lanes=True):
    return Program("f", (), ("n",), (), (Loop(AXIS, body, lanes=lanes),), ())


def operations(found):
    return [getattr(statement, "operation", "store") for statement in found.body[0].body]


def test_the_longest_way_begins_first():
    with sg.Graph():
        x, y = (sg.placeholder(name, ("n",)) for name in "xy")
    plan = program([x, y], [sg.tanh(x) * y, sg.exp(x + y) / y])
    assert operations(plan) == ["tanh", "multiply", "store", "add", "exp", "divide", "store"]
    assert operations(begun_early(plan)) == ["add", "exp", "tanh", "divide", "store", "multiply", "store"]


def test_loops_without_lanes_stay_as_they_are():
    a = Buffer("a", DOUBLE, (dim("n"),), "argument")
    body = Let("s", DOUBLE, "square", None, (Load(a, HERE),)), Let("e", DOUBLE, "exp", None, (Load(a, HERE),))
    assert operations(begun_early(in_lanes(*body))) == ["exp", "square"]
    assert operations(begun_early(in_lanes(*body, lanes=False))) == ["square", "exp"]


def random_body(seed):
    """Return statements that read and write the same few numbers and arrays in any order."""
    choose = random.Random(seed)
    buffers = [Buffer(name, DOUBLE, (dim("n"),), "argument") for name in "ab"]
    names, body = ["start"], []
    for number in range(24):
        operand = choose.choice([Name(choose.choice(names), DOUBLE), Load(choose.choice(buffers), HERE)])
        kind = choose.choice(["let", "let", "let", "store", "total", "element"])
        if kind == "let":
            body.append(Let(f"t{number}", DOUBLE, choose.choice(["square", "exp", "divide"]), None, (operand, operand)))
            names.append(f"t{number}")
        elif kind == "store":
            body.append(Store(choose.choice(buffers), HERE, operand))
        else:
            target = Name("total", DOUBLE) if kind == "total" else Load(choose.choice(buffers), HERE)
            body.append(Accumulate(target, "sum", operand))
    return body


@pytest.mark.parametrize("seed", range(50))
def test_statements_that_depend_on_each_other_stay_in_order(seed):
    body = random_body(seed)
    plan = in_lanes(*body)
    dependence = Dependence(plan)
    place = {id(statement): place for place, statement in enumerate(begun_early(plan).body[0].body)}
    assert sorted(place) == sorted(map(id, body))
    for one, other in itertools.combinations(body, 2):
        assert place[id(one)] < place[id(other)] or dependence.are_independent(one, other)


def test_in_long_stretches_nothing_moves_far():
    a = Buffer("a", DOUBLE, (dim("n"),), "argument")
    cheap = [Let(f"t{i}", DOUBLE, "square", None, (Load(a, HERE),)) for i in range(300)]
    found = operations(begun_early(in_lanes(*cheap, Let("e", DOUBLE, "exp", None, (Load(a, HERE),)))))
    assert 200 < found.index("exp") < 300
