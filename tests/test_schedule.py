"""Which loops run: read as text in golden files, and checked for what makes them fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.compile.loops import Allocate, Block, Buffer, Call, Free, Loop, Multiply, Program, buffers_of, walk
from symgraph.compile.show import listing, show
from symgraph.dims import names
from symgraph.models import MODELS, symgraph_library
from tests.helpers.engines import emitted, interpreted, program

# The models of symgraph.models, with names for their sizes; the parameters come first.
SHAPES: dict[str, dict[str, Sequence[str]]] = {
    "logistic": {"w": "d", "X": "nd", "y": "n"},
    "softmax": {"W": "dk", "b": "k", "X": "nd", "Y": "nk"},
    "gmm": {"alpha": "k", "mu": "kd", "log_width": "kd", "X": "nd"},
    "rosenbrock": {"x": "n"},
    "mlp": {"W1": "dh", "b1": "h", "W2": "hk", "b2": "k", "X": "nd", "Y": "nk"},
}


def option_prices() -> tuple[list[sg.Expr], list[sg.Expr]]:
    """Return the sum of Black and Scholes's call prices with its gradients."""
    with sg.Graph():
        spot, strike, time, width = (sg.placeholder(name, ("n",)) for name in ("spot", "strike", "time", "width"))
    d1 = (sg.log(spot / strike) + (0.02 + 0.5 * width**2) * time) / (width * sg.sqrt(time))
    d2 = d1 - width * sg.sqrt(time)
    price = spot * sg.erfc(d1 * -(0.5**0.5)) / 2 - strike * sg.exp(-0.02 * time) * sg.erfc(d2 * -(0.5**0.5)) / 2
    leaves = [spot, strike, time, width]
    return leaves, [sg.sum(price), *sg.gradients(sg.sum(price), leaves)]


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


def passes_over(made: Program, size: str) -> list[Loop]:
    """Return the loops over a size, where a block of rows is one loop whatever runs over its rows."""
    return [loop for loop in loops_over(made, size) if isinstance(loop.axis, Block) or loop.axis.block is None]


def scratch(made: Program) -> list[Buffer]:
    return [buffer for buffer in made.buffers() if buffer.role == "scratch"]


def grows_with(buffer: Buffer, name: str) -> bool:
    return any(name in names(size) for size in buffer.shape)


@pytest.mark.parametrize("name", SHAPES)
def test_loops_of_value_and_gradient(name: str, golden: Callable[..., None]) -> None:
    golden(show(plan(name)), "loops")


def test_loops_of_option_prices(golden: Callable[..., None]) -> None:
    golden(show(program(*option_prices())), "loops")


def test_logistic_regression_reads_its_data_in_one_loop() -> None:
    made = plan("logistic")
    assert len(passes_over(made, "n")) == 1
    assert not [s for s in walk(made.body) if isinstance(s, Call)]


@pytest.mark.parametrize("name", ["logistic", "gmm"])
def test_memory_does_not_grow_with_the_data(name: str) -> None:
    assert [buffer for buffer in scratch(plan(name)) if grows_with(buffer, "n")] == []


def test_a_mixture_of_normal_distributions_reads_its_data_in_one_loop() -> None:
    assert len(passes_over(plan("gmm"), "n")) == 1


def test_a_softmax_regression_passes_over_the_data_once_with_its_matrix_products() -> None:
    made = plan("softmax")
    (block,) = passes_over(made, "n")
    assert len([s for s in walk(block.body) if isinstance(s, Multiply)]) == 2
    assert [b for b in scratch(made) if grows_with(b, "n")] == []


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
    assert listing(made).count("tanh(") == 1


def test_what_is_used_twice_is_computed_once() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    shared = sg.exp(sg.sin(x))
    made = program([x], [sg.sum(shared), shared * 2, sg.max(shared + 1)])
    assert listing(made).count("exp(") == 1


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
    inside = listing(replace(made, body=tuple(loops_over(made, "n")[:1])))
    assert "exp(" in listing(made)
    assert "exp(" not in inside


def test_the_text_is_the_same_every_time() -> None:
    first = listing(plan("gmm"))
    assert listing(plan("gmm")) == first


def nested(body: Sequence[Any], around: tuple[Loop, ...] = ()) -> list[tuple[Any, tuple[Loop, ...]]]:
    """Return every statement with the loops around it."""
    found: list[tuple[Any, tuple[Loop, ...]]] = []
    for statement in body:
        found.append((statement, around))
        if isinstance(statement, Loop):
            found += nested(statement.body, (*around, statement))
    return found


@pytest.mark.parametrize("name", SHAPES)
def test_lanes_hold_no_lanes_and_no_blocks(name: str) -> None:
    for statement, around in nested(plan(name).body):
        if any(loop.lanes for loop in around):
            assert not isinstance(statement, Multiply | Call)
            assert not (isinstance(statement, Loop) and (statement.lanes or isinstance(statement.axis, Block)))


@pytest.mark.parametrize("name", SHAPES)
def test_scratch_exists_from_its_first_use_to_its_last(name: str) -> None:
    made = plan(name)

    def check(body: Sequence[Any], alive: set[Buffer]) -> None:
        mine = set()
        for statement in body:
            if isinstance(statement, Allocate):
                mine.add(statement.buffer)
            elif isinstance(statement, Free):
                mine.remove(statement.buffer)
            elif isinstance(statement, Loop):
                check(statement.body, alive | mine)
            else:
                assert {b for b in buffers_of(statement) if b.role == "scratch"} <= alive | mine
        assert not mine

    check(made.body, set())


@pytest.mark.parametrize("name", SHAPES)
def test_every_loop_of_long_rows_has_lanes(name: str) -> None:
    for statement, around in nested(plan(name).body):
        if isinstance(statement, Loop) and not any(isinstance(s, Loop) for s in statement.body):
            assert statement.lanes or any(loop.lanes for loop in around), statement


def test_a_reduction_over_the_rows_of_a_block_is_not_read_within_it() -> None:
    with sg.Graph():
        x, v = sg.placeholder("x", ("n", "m")), sg.placeholder("v", ("m",))
    z = sg.tanh(x @ v)
    outputs = [sg.sum(x * sg.exp(z - sg.mean(z))[:, None], axis=0)]
    feed = {x: np.linspace(-1, 1, 70 * 3).reshape(70, 3), v: np.array([0.3, -0.2, 0.5])}
    assert len(passes_over(program([x, v], outputs), "n")) == 2
    np.testing.assert_allclose(emitted(outputs, feed)[0], interpreted(outputs, feed)[0], rtol=1e-12)


def test_matrix_products_within_a_block_write_no_memory_that_grows_with_the_data() -> None:
    with sg.Graph():
        x, v, w = sg.placeholder("x", ("n", "d")), sg.placeholder("v", ("d", "h")), sg.placeholder("w", ("h", "k"))
    loss = sg.sum(sg.logsumexp(sg.tanh(x @ v) @ w, axis=1))
    made = program([x, v, w], [loss, *sg.gradients(loss, [v, w])])
    assert len(passes_over(made, "n")) == 1
    assert [b for b in scratch(made) if grows_with(b, "n")] == []


@pytest.mark.parametrize("n", [0, 1, 2, 31, 32, 33, 255, 256, 257, 600])
@pytest.mark.parametrize("name", ["logistic", "softmax", "mlp"])
def test_blocks_of_any_number_of_rows(name: str, n: int) -> None:
    inputs, outputs = value_and_gradient(name)
    random = np.random.default_rng(n)
    sizes = {"n": n, "d": 3, "k": 17, "h": 18}
    feed: dict[sg.Expr, Any] = {x: random.uniform(-1, 1, [sizes[str(s)] for s in x.shape]) for x in inputs}
    for got, want in zip(emitted(outputs, feed), interpreted(outputs, feed), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_loops_over_almost_the_same_rows_are_one(n: int) -> None:
    inputs, outputs = value_and_gradient("rosenbrock")
    first, rest = outermost(program(inputs, outputs))
    assert (str(first.axis.size), str(rest.axis.start), str(rest.axis.size)) == ("n-1", "n-1", "n")
    feed = {inputs[0]: np.linspace(-1, 2, n)}
    for got, want in zip(emitted(outputs, feed), interpreted(outputs, feed), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("name", SHAPES)
def test_the_loops_compute_the_model(name: str) -> None:
    inputs, outputs = value_and_gradient(name)
    random = np.random.default_rng(0)
    sizes = {"n": 5, "d": 3, "k": 2, "h": 4}
    feed: dict[sg.Expr, Any] = {x: random.uniform(0.2, 1, [sizes[str(s)] for s in x.shape]) for x in inputs}
    for got, want in zip(emitted(outputs, feed), interpreted(outputs, feed), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("penalty", [0.0, 0.1])
@pytest.mark.parametrize("name", ["poisson", "least squares", "two predictors"])
def test_value_gradient_and_hessian_of_a_regression_read_the_data_once(name: str, penalty: float) -> None:
    with sg.Graph():
        X, y = sg.placeholder("X", ("n", "d")), sg.placeholder("y", ("n",))
        w, v = sg.placeholder("w", ("d",)), sg.placeholder("v", ("d",))
    losses = {
        "poisson": sg.mean(sg.exp(X @ w) - y * (X @ w)),
        "least squares": sg.mean((X @ w - y) ** 2),
        "two predictors": sg.sum((y - X @ w) ** 2 * sg.exp(-(X @ v)) + X @ v),
    }
    loss = losses[name] + penalty * sg.sum(w**2)
    outputs = [loss, sg.grad(loss, w), sg.hessian(loss, w)]
    leaves = [X, y, w, v]
    made = program(leaves, outputs)
    assert len(passes_over(made, "n")) == 1
    assert not any(grows_with(buffer, "n") for buffer in scratch(made))
    random = np.random.default_rng(0)
    for n, d in ((0, 3), (1, 1), (130, 20), (300, 7)):
        sizes = {"n": n, "d": d}
        feed = {x: random.normal(size=[sizes[str(s)] for s in x.shape]) / 3 for x in leaves}
        found = sg.function(leaves, outputs)(*feed.values())
        for one, other in zip(found, interpreted(outputs, feed), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10 * np.max(np.abs(other), initial=1e-300))
