"""Cases in which a stage once gave a wrong result: each states what is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.compile.emit import emit
from symgraph.compile.native import load_plain
from symgraph.compile.pipeline import plan
from symgraph.expr import Expr
from symgraph.interpret import sizes_from
from symgraph.options import Options


@pytest.fixture(autouse=True)
def graph() -> Iterator[sg.Graph]:
    with sg.Graph() as graph:
        yield graph


def as_plain_python(inputs: Sequence[Expr], outputs: Sequence[Expr], values: Sequence[Any]) -> list[Any]:
    """Run the emitted module without compiling it."""
    program = plan(inputs, outputs, Options(), "f")
    sizes = sizes_from(dict(zip(inputs, map(np.asarray, values), strict=True)))
    constants = [value for _, value in program.constants]
    with np.errstate(all="ignore"):
        return list(load_plain(emit(program)).kernel(*values, *constants, *[sizes[n] for n in program.sizes]))


def check_emitted(inputs: Sequence[Expr], output: Expr, *values: Any) -> None:
    """Check the emitted module against the interpreter, dtype and shape included."""
    expected = sg.evaluate(output, dict(zip(inputs, values, strict=True)))
    (found,) = as_plain_python(inputs, [output], values)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.asarray(found).dtype == expected.dtype
    assert np.shape(found) == expected.shape


def test_triangular_systems_with_one_right_side_are_solved() -> None:
    m, r = sg.placeholder("m", (3, 3)), sg.placeholder("r", (3,))
    rng = np.random.default_rng(0)
    system = sg.solve_triangular(m @ m.T + sg.eye(3), r)
    check_emitted([m, r], system, rng.normal(size=(3, 3)), rng.normal(size=3))


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "int64"])
def test_products_of_integers_wrap_as_in_numpy(dtype: str) -> None:
    x = sg.placeholder("x", (3, 4), dtype)
    values = np.full((3, 4), 100, dtype)
    check_emitted([x], sg.einsum("ij,ij->i", x, x), values)
    check_emitted([x], x @ x.T, values)
    check_emitted([x], x @ x[0], values)


def test_the_last_of_repeated_writes_stays_whatever_the_order_of_loops() -> None:
    x, u = sg.placeholder("x", (4,)), sg.placeholder("u", (3, 2))
    index = sg.placeholder("index", (3, 2), "int64")
    updates = np.random.default_rng(0).normal(size=(3, 2))
    check_emitted([x, u, index], x.at[index.T].set(u.T), np.zeros(4), updates, np.array([[0, 1], [1, 0], [0, 0]]))


def test_sizes_that_quotients_divide_are_allocated_right() -> None:
    x = sg.placeholder("x", ("n",))
    check_emitted([x], sg.concat([x[::2], x[1::2] * 2, x[::-3]]), np.arange(7.0))


def test_a_slice_that_stops_early_is_not_the_axis_it_was_cut_from() -> None:
    x = sg.placeholder("x", ("n",))
    value = sg.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    for n in (1, 2, 3, 7):
        check_emitted([x], value, np.linspace(-1, 2, n))
        check_emitted([x], sg.grad(value, x), np.linspace(-1, 2, n))


def test_strong_zeros_hold_through_scans() -> None:
    x = sg.placeholder("x", (3,))
    value = sg.sum(sg.where(np.array([False, True, False]), sg.cumulative_sum(sg.sqrt(x)), 0))
    np.testing.assert_allclose(sg.evaluate(sg.grad(value, x), {x: [1.0, 4.0, 0.0]}), [0.5, 0.25, 0.0])


def test_strong_zeros_hold_on_diagonals() -> None:
    x = sg.placeholder("x", (2, 2))
    value = sg.sum(sg.where(np.array([True, False]), sg.einsum("ii->i", sg.sqrt(x)), 0))
    np.testing.assert_allclose(sg.evaluate(sg.grad(value, x), {x: np.diag([4.0, 0.0])}), np.diag([0.25, 0.0]))


def test_strong_zeros_hold_for_matrices_of_a_batch() -> None:
    x = sg.placeholder("x", (2, 2, 2))
    taken = sg.where(np.array([True, False])[:, None, None], sg.inv(x), 0)
    matrices = np.stack([np.diag([2.0, 4.0]), np.full((2, 2), np.nan)])
    expected = -np.outer([0.5, 0.25], [0.5, 0.25])
    found = sg.evaluate(sg.grad(sg.sum(taken), x), {x: matrices})
    np.testing.assert_allclose(found, [expected, np.zeros((2, 2))])


@pytest.mark.parametrize(("function", "at"), [(sg.xlogy, (0.0, 2.0)), (sg.power, (2.0, 0.0))])
def test_mixed_second_derivatives_agree_where_a_rule_has_a_guard(function: Any, at: tuple[float, float]) -> None:
    x, y = sg.placeholder("x"), sg.placeholder("y")
    by_x, by_y = sg.gradients(function(x, y), [x, y])
    feed = {x: at[0], y: at[1]}
    assert sg.evaluate(sg.grad(by_x, y), feed) == pytest.approx(0.5)
    assert sg.evaluate(sg.grad(by_y, x), feed) == pytest.approx(0.5)


def test_what_a_law_drops_has_derivative_0_and_is_not_unconnected() -> None:
    x, y = sg.placeholder("x", (2,)), sg.placeholder("y", (2,))
    slopes = sg.gradients(sg.sum(sg.where(np.True_, x, y)), [x, y])
    np.testing.assert_array_equal(sg.evaluate(slopes, {x: [1.0, 2.0], y: [3.0, 4.0]}), [[1, 1], [0, 0]])


def test_shared_parts_in_latex_are_not_named_like_elements_of_an_array() -> None:
    t, x = sg.placeholder("t", (3,)), sg.placeholder("x", ("n",))
    text = sg.to_latex(sg.grad(sg.sum((sg.exp(t[1] * x) * t[0] - x) ** 2), x))
    assert "t_{1} x" in text
    assert "t_{1} &=" not in text


def test_comparing_a_node_with_a_number_by_equality_is_refused() -> None:
    x = sg.placeholder("x", ("n",))
    with pytest.raises(TypeError, match=r"use sg\.equal"):
        _ = x == 0
    with pytest.raises(sg.DTypeError, match=r"use sg\.equal"):
        sg.where(x == sg.exp(x), x, 0)
    assert x in [x]
