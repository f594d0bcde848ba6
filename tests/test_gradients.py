"""What ``sg.gradients`` and ``sg.grad`` promise."""

from __future__ import annotations

import gc
import sys
import weakref
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import DifferentiationError, GraphError
from symgraph.expr import topological
from symgraph.models import MODELS, symgraph_library
from symgraph.op import Kind, Op
from symgraph.ops.construct import apply


@pytest.fixture(autouse=True)
def graph() -> Iterator[sg.Graph]:
    with sg.Graph() as graph:
        yield graph


def values(nodes: Any, feed: dict[sg.Expr, Any] | None = None) -> list[Any]:
    return [np.asarray(v).tolist() for v in sg.evaluate(list(nodes), feed)]


# TensorFlow 1's contract


def test_the_gradient_by_an_intermediate_node_and_by_what_it_depends_on() -> None:
    a = sg.placeholder("a")
    b = 2 * a
    assert values(sg.gradients(a + b, [a, b]), {a: 1.0}) == [3.0, 1.0]


def test_stop_gradients_count_as_constants() -> None:
    a = sg.placeholder("a")
    b = 2 * a
    assert values(sg.gradients(a + b, [a, b], stop_gradients=[a, b]), {a: 1.0}) == [1.0, 1.0]
    assert values(sg.gradients(b * a, [a], stop_gradients=[b]), {a: 5.0}) == [10.0]


def test_an_intermediate_node_stays_one_though_rewriting_would_absorb_it() -> None:
    x = sg.placeholder("x", (2,))
    inner = sg.exp(x)
    (by_inner,) = sg.gradients(sg.log(1 + inner), [inner])
    np.testing.assert_allclose(sg.evaluate(by_inner, {x: [0.0, 1.0]}), [0.5, 1 / (1 + np.e)])


def test_ys_are_summed_and_weighted() -> None:
    x = sg.placeholder("x", (2,))
    feed = {x: [1.0, 3.0]}
    assert values(sg.gradients([x**2, 5 * x], x), feed) == [[7.0, 11.0]]
    assert values(sg.gradients([x**2, 5 * x], [x], [[1.0, 0.0], None]), feed) == [[7.0, 5.0]]
    assert values(sg.gradients([x**2, x**2], [x]), feed) == [[4.0, 12.0]]


def test_a_y_that_is_not_a_scalar_is_summed() -> None:
    x = sg.placeholder("x", (2, 3))
    (found,) = sg.gradients(x * x, [x])
    (of_sum,) = sg.gradients(sg.sum(x * x), [x])
    at = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(sg.evaluate(found, {x: at}), 2 * at)
    np.testing.assert_array_equal(sg.evaluate(of_sum, {x: at}), 2 * at)


def test_an_x_that_is_a_y_has_the_derivative_one() -> None:
    x = sg.placeholder("x", (2,))
    y = x * 3
    assert values(sg.gradients([x, y], [x, y]), {x: [1.0, 2.0]}) == [[4.0, 4.0], [1.0, 1.0]]


def test_the_same_x_twice_gives_the_same_gradient_twice() -> None:
    x = sg.placeholder("x")
    first, second = sg.gradients(x**2, [x, x])
    assert first is second


def test_grad_ys_may_be_nodes_and_are_differentiated() -> None:
    x, v = sg.placeholder("x", (2,)), sg.placeholder("v", (2,))
    (g,) = sg.gradients(x**3, [x], [v])
    feed = {x: [1.0, 2.0], v: [10.0, 100.0]}
    assert values([g], feed) == [[30.0, 1200.0]]
    assert values(sg.gradients(g, [v, x]), feed) == [[3.0, 12.0], [60.0, 1200.0]]


def test_stop_gradient_is_a_constant_to_every_order() -> None:
    x = sg.placeholder("x")
    first = sg.grad(x * sg.stop_gradient(x**2), x)
    assert values([first], {x: 3.0}) == [9.0]
    assert values(sg.gradients(first, [x], unconnected="zero"), {x: 3.0}) == [0.0]


# What is not connected


def test_what_is_not_connected_raises_by_default_and_says_what_helps() -> None:
    x, y = sg.placeholder("x"), sg.placeholder("y", ("n",))
    with pytest.raises(DifferentiationError, match=r"(?s)<placeholder y.*unconnected='zero'.*test_gradients\.py:\d+"):
        sg.gradients(x * x, [x, y])


def test_what_is_not_connected_is_zero_or_none_when_asked_for() -> None:
    x, y = sg.placeholder("x"), sg.placeholder("y", (2,), "float32")
    gradient, zero = sg.gradients(x * x, [x, y], unconnected="zero")
    assert (zero.shape, zero.dtype) == ((2,), np.float32)
    assert values([gradient, zero], {x: 2.0, y: [1, 2]}) == [4.0, [0.0, 0.0]]
    assert sg.gradients(x * x, [y], unconnected="none") == [None]
    with pytest.raises(DifferentiationError, match="'maybe'"):
        sg.gradients(x, [x], unconnected="maybe")


def test_a_path_through_integers_is_no_connection() -> None:
    x = sg.placeholder("x", (3,))
    y = sg.sum(sg.astype(sg.astype(x, "int64"), "float64"))
    assert sg.gradients(y, [x], unconnected="none") == [None]


# What is refused


def next_line() -> int:
    """Return the number of the line after the one that calls."""
    return sys._getframe(1).f_lineno + 1


@pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
def test_integers_and_booleans_have_no_derivatives(dtype: str) -> None:
    x, k = sg.placeholder("x"), sg.placeholder("counts", ("n",), dtype)
    line = next_line() + 1
    with pytest.raises(DifferentiationError, match=r"respect to <placeholder counts.*constants") as error:
        sg.gradients(x * 2, [k])
    assert f"{Path(__file__).name}:{line}" in str(error.value)
    with pytest.raises(DifferentiationError, match=r"cannot differentiate <placeholder counts.*constants"):
        sg.gradients(k, [x])


def test_what_is_not_a_node_is_refused() -> None:
    x = sg.placeholder("x")
    with pytest.raises(DifferentiationError, match=r"cannot differentiate 3\.0"):
        sg.gradients(3.0, [x])
    with pytest.raises(DifferentiationError, match="'x', which is not a node"):
        sg.gradients(x, ["x"])


def test_grad_ys_of_a_wrong_shape_count_or_value_are_refused() -> None:
    x = sg.placeholder("x", ("n", 2))
    with pytest.raises(DifferentiationError, match=r"(?s)shape \(3,\), not \(n, 2\).*test_gradients\.py"):
        sg.gradients(x * 2, [x], [np.ones(3)])
    with pytest.raises(DifferentiationError, match="1 ys need as many grad_ys, got 2"):
        sg.gradients(x * 2, [x], [None, None])
    for bad in (np.nan, np.inf):
        with pytest.raises(DifferentiationError, match="not finite"):
            sg.gradients(sg.sum(x), [x], [bad])


def test_nodes_of_two_graphs_are_refused() -> None:
    x = sg.placeholder("x")
    with sg.Graph():
        other = sg.placeholder("x")
    with pytest.raises(GraphError, match="different graphs"):
        sg.gradients(x * 2, [other])


def test_an_operation_without_a_rule_raises_and_names_the_line_that_declared_it() -> None:
    x = sg.placeholder("x", (3,))
    bare = Op("bare", Kind.REDUCE, 1, lambda t, *_: t, lambda a, *_: a, attributes=("axes", "keepdims"))
    line = next_line()
    y = apply(bare, x, attrs=((0,), False))
    with pytest.raises(DifferentiationError, match="bare has no derivative rule") as error:
        sg.gradients(y * 2, [x])
    assert f"{Path(__file__).name}:{line}" in str(error.value)


# Structures


def test_grad_has_the_structure_of_x() -> None:
    a, b, c = sg.placeholder("a"), sg.placeholder("b", (2,)), sg.placeholder("c")
    pair = namedtuple("pair", "left right")
    found = sg.grad(a * c * sg.sum(b), {"a": a, "rest": [pair(b, c), (a,)]})
    assert list(found) == ["a", "rest"]
    assert isinstance(found["rest"][0], pair)
    assert found["rest"][1] == (found["a"],)
    feed = {a: 2.0, b: [3.0, 4.0], c: 5.0}
    assert values([found["a"], *found["rest"][0]], feed) == [35.0, [10.0, 10.0], 14.0]


def test_grad_of_one_node_is_one_node() -> None:
    x = sg.placeholder("x", ("n", 3))
    assert sg.grad(sg.sum(x**2), x).shape == x.shape


def test_gradients_have_the_dtype_and_shape_of_x() -> None:
    x, w = sg.placeholder("x", ("n", 1), "float32"), sg.placeholder("w", ())
    for leaf, found in zip((x, w), sg.gradients(sg.sum(x * w), [x, w]), strict=True):
        assert found.type is leaf.type


# Size


def count(nodes: Any) -> int:
    return len(topological(nodes))


def _black_scholes() -> tuple[sg.Expr, list[sg.Expr]]:
    """Give the price of a call option (F. Black and M. Scholes, 1973, equation 13) and what it depends on."""
    names = ("price", "strike", "rate", "volatility", "time")
    s, k, r, v, t = [sg.placeholder(name, ("n",)) for name in names]
    spread = v * sg.sqrt(t)
    d1 = (sg.log(s / k) + (r + v * v / 2) * t) / spread

    def normal(z: sg.Expr) -> sg.Expr:
        return 0.5 * (1 + sg.erf(z / np.sqrt(2)))

    return s * normal(d1) - k * sg.exp(-r * t) * normal(d1 - spread), [s, k, r, v, t]


def _model(name: str) -> tuple[sg.Expr, list[sg.Expr]]:
    model = MODELS[name]
    shapes = {key: array.shape for key, array in model.data(np.random.default_rng(0)).items()}
    leaves = {key: sg.placeholder(key, shape) for key, shape in shapes.items()}
    return model.loss(symgraph_library(), **leaves), list(leaves.values())[: model.parameters]


@pytest.mark.parametrize("name", [*MODELS, "black-scholes"])
def test_a_gradient_has_at_most_five_times_the_nodes(name: str) -> None:
    y, xs = _black_scholes() if name == "black-scholes" else _model(name)
    assert count([y, *sg.gradients(y, xs)]) <= 5 * count([y])


CHAINS: dict[str, Callable[[sg.Expr], sg.Expr]] = {
    "sine": sg.sin,
    "product": lambda y: y * (y + 1.5),
    "choice": lambda y: sg.where(y > 0, sg.tanh(y), y),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_gradient_graph_is_linear_in_the_length_of_a_chain(name: str) -> None:
    x = sg.placeholder("x")

    def total(length: int) -> int:
        y = x
        for _ in range(length):
            y = CHAINS[name](y)
        return count([y, *sg.gradients(y, [x])])

    first, second, third = total(20), total(40), total(60)
    assert third - second == second - first


def test_the_second_derivative_of_a_chain_is_linear_too() -> None:
    x = sg.placeholder("x")

    def total(length: int) -> int:
        y = x
        for _ in range(length):
            y = sg.sin(y)
        return count([sg.grad(sg.grad(y, x), x)])

    first, second, third = total(20), total(40), total(60)
    assert third - second == second - first


DEEP = 200_000


def test_a_deep_chain_is_built_differentiated_evaluated_printed_and_freed() -> None:
    x = sg.placeholder("x")
    y = x
    for i in range(DEEP):
        y = y * 1.000001 if i % 2 else y + 1e-9
    (gradient,) = sg.gradients(y, [x])
    value, slope = sg.evaluate([y, gradient], {x: 1.0})
    np.testing.assert_allclose(slope, 1.000001 ** (DEEP / 2), rtol=1e-9)
    np.testing.assert_allclose(
        value, slope * (1 + 1e-9 * sum(1.000001 ** -(i + 0.0) for i in range(DEEP // 2))), rtol=1e-9
    )
    assert sg.to_text(y).count("\n") > 100
    middle = y.args[0].args[0]
    references = [weakref.ref(y), weakref.ref(middle), weakref.ref(gradient)]
    del y, gradient, middle
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]


def test_the_derivative_of_a_standard_deviation_at_0_is_0() -> None:
    x = sg.placeholder("x", (3,))
    (slope,) = sg.gradients(sg.std(x), [x])
    np.testing.assert_array_equal(sg.evaluate(slope, {x: [2.0, 2.0, 2.0]}), np.zeros(3))
