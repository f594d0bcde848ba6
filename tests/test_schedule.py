"""Which loops run: read as text in golden files, and checked for what makes them fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.compile.loops import Buffer, Call, Loop, Program, walk
from symgraph.dims import names
from symgraph.models import MODELS, symgraph_library
from tests.helpers.engines import emitted, interpreted, program

# The models of symgraph.models, with names for their sizes; the parameters come first.
SHAPES: dict[str, dict[str, Sequence[str]]] = {
    "logistic": {"w": "d", "X": "nd", "y": "n"},
    "softmax": {"W": "dk", "b": "k", "X": "nd", "Y": "nk"},
    "gmm": {"alpha": "k", "mu": "kd", "log_width": "kd", "X": "nd"},
    "rosenbrock": {"x": "n"},
}


def value_and_gradient(name: str) -> tuple[list[sg.Expr], list[sg.Expr]]:
    """Return a model's placeholders, and its value with the gradients by its parameters."""
    model = MODELS[name]
    with sg.Graph():
        leaves = {key: sg.placeholder(key, tuple(shape)) for key, shape in SHAPES[name].items()}
    loss = model.loss(symgraph_library(), **leaves)
    return list(leaves.values()), [loss, *sg.gradients(loss, list(leaves.values())[: model.parameters])]


def plan(name: str) -> Program:
    return program(*value_and_gradient(name))


def loops_over(made: Program, size: str) -> list[Loop]:
    return [s for s in walk(made.body) if isinstance(s, Loop) and str(s.axis.size) == size]


def outermost(made: Program) -> list[Loop]:
    return [s for s in made.body if isinstance(s, Loop)]


def scratch(made: Program) -> list[Buffer]:
    return [buffer for buffer in made.buffers() if buffer.role == "scratch"]


def grows_with(buffer: Buffer, name: str) -> bool:
    return any(name in names(size) for size in buffer.shape)


@pytest.mark.parametrize("name", SHAPES)
def test_loops_of_value_and_gradient(name: str, golden: Callable[..., None]) -> None:
    golden(str(plan(name)), "loops")


def test_logistic_regression_reads_its_data_in_one_loop() -> None:
    made = plan("logistic")
    assert len(loops_over(made, "n")) == 1
    assert not [s for s in walk(made.body) if isinstance(s, Call)]


@pytest.mark.parametrize("name", ["logistic", "gmm"])
def test_memory_does_not_grow_with_the_data(name: str) -> None:
    assert [buffer for buffer in scratch(plan(name)) if grows_with(buffer, "n")] == []


def test_a_mixture_of_normal_distributions_reads_its_data_in_one_loop() -> None:
    assert len(loops_over(plan("gmm"), "n")) == 1


def test_a_softmax_regression_passes_over_the_data_between_two_matrix_products() -> None:
    made = plan("softmax")
    calls = [s for s in made.body if isinstance(s, Call)]
    assert [call.function for call in calls] == ["matmul", "matmul"]
    assert len(loops_over(made, "n")) == 1


def test_an_elementwise_chain_and_its_sum_are_one_loop_without_memory() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n", "m"))
    y = sg.sum(sg.exp(-sg.square(x)) * sg.cos(x))
    made = program([x], [y])
    assert [len(loops_over(made, size)) for size in "nm"] == [1, 1]
    assert list(made.buffers()) == []


def test_value_and_gradient_of_an_elementwise_chain_share_a_loop() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    y = sg.sum(sg.tanh(x) ** 2 * sg.sin(x))
    made = program([x], [y, *sg.gradients(y, [x])])
    assert len(loops_over(made, "n")) == 1
    assert scratch(made) == []
    assert str(made).count("tanh(") == 1


def test_what_is_used_twice_is_computed_once() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    shared = sg.exp(sg.sin(x))
    made = program([x], [sg.sum(shared), shared * 2, sg.max(shared + 1)])
    assert str(made).count("exp(") == 1


def test_movement_moves_nothing_by_itself() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n", "m"))
    made = program([x], [sg.sum(x.T[::-1, ::2][:, None] * 2)])
    assert list(made.buffers()) == []
    assert len(outermost(made)) == 1


def test_a_mean_that_is_used_again_for_every_element_cuts_the_loop() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    made = program([x], [sg.var(x)])
    assert len(loops_over(made, "n")) == 2
    assert scratch(made) == []


def test_independent_outputs_over_one_axis_share_its_loop() -> None:
    with sg.Graph():
        x, y = sg.placeholder("x", ("n",)), sg.placeholder("y", ("n",))
    made = program([x, y], [sg.sum(x), sg.max(y), x * y, sg.sum(sg.sin(y))])
    assert len(loops_over(made, "n")) == 1


def test_what_does_not_depend_on_an_axis_is_computed_outside_its_loop() -> None:
    with sg.Graph():
        x, s = sg.placeholder("x", ("n",)), sg.placeholder("s")
    made = program([x, s], [x * sg.exp(s)])
    inside = str(loops_over(made, "n")[0])
    assert "exp(" in str(made)
    assert "exp(" not in inside


def test_the_text_is_the_same_every_time() -> None:
    first = str(plan("gmm"))
    assert str(plan("gmm")) == first


@pytest.mark.parametrize("name", SHAPES)
def test_the_loops_compute_the_model(name: str) -> None:
    inputs, outputs = value_and_gradient(name)
    random = np.random.default_rng(0)
    sizes = {"n": 5, "d": 3, "k": 2}
    feed: dict[sg.Expr, Any] = {x: random.uniform(0.2, 1, [sizes[str(s)] for s in x.shape]) for x in inputs}
    for got, want in zip(emitted(outputs, feed), interpreted(outputs, feed), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)
