"""Passes over finished loop programs: what they must do, and that they change no value."""

from __future__ import annotations

import itertools
import traceback
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph import dims
from symgraph.compile import native, pipeline
from symgraph.compile.contraction import cheapest_order
from symgraph.compile.loops import (
    Accumulate,
    Affine,
    Axis,
    Buffer,
    Guarded,
    Let,
    Load,
    Loop,
    Multiply,
    Name,
    Program,
    Start,
    Store,
    walk,
)  # fmt: skip
from symgraph.compile.notation import bound_text
from symgraph.compile.overlap import overlap
from symgraph.compile.show import show
from tests.helpers.engines import assert_same, compiled, emitted, interpreted, program


def lets(made: Program) -> list[Let]:
    return [s for s in walk(made.body) if isinstance(s, Let)]


def check(outputs: list[sg.Expr], feed: dict[sg.Expr, Any]) -> None:
    for got, want in zip(emitted(outputs, feed), interpreted(outputs, feed), strict=True):
        assert_same(got, want, 1e-12, 1e-14)


def test_an_index_that_always_lies_within_bounds_is_not_checked() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    value = sg.sum((x[1:] - x[:-1]) ** 2)
    made = program([x], [value, *sg.gradients(value, [x])])
    main = next(s for s in made.body if isinstance(s, Loop))
    guarded = [o for s in walk([main]) if isinstance(s, Let) for o in s.operands if isinstance(o, Guarded)]
    assert {bound_text(c) for g in guarded for c in g.conditions} <= {"0 <= i1 - 1 < n-1"}


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9])
def test_stencils_of_any_width_and_direction(n: int) -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    value = sg.sum(sg.sin(x[1:] * x[:-1]) + x[:-1] ** 2) + sg.sum(x[::-1][1:] * x[1:])
    check([value, *sg.gradients(value, [x]), x[1:] - x[:-1], x * 2], {x: np.linspace(-1, 2, n)})


def test_three_loops_over_almost_the_same_rows_are_one() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    outputs = [sg.sum(x[2:] * x[:-2]), sg.sum(x[1:] * x[:-1]), sg.sum(sg.exp(x))]
    made = program([x], outputs)
    found = [s.axis for s in made.body if isinstance(s, Loop)]
    assert [(str(a.start), str(a.size)) for a in found if isinstance(a, Axis)] == [
        ("0", "n-2"), ("n-2", "n-1"), ("n-1", "n"),
    ]  # fmt: skip
    check(outputs, {x: np.linspace(-1, 1, 7)})


def test_loops_of_which_one_has_the_axis_of_the_other_inside() -> None:
    double, n = np.dtype("float64"), dims.dim("n")
    b, M = (Buffer(name, double, (n,) * rank, "argument") for name, rank in (("b", 1), ("M", 2)))
    doubled, product = (Buffer(name, double, (n,), "result") for name in ("doubled", "product"))
    i, j, t = Axis("i", n), Axis("j", n), Name("t", double)
    at_i, at_j = Affine(i), Affine(j)
    inner = Loop(i, (Accumulate(t, "sum", Load(M, (at_i, at_j))),))
    body = (
        Loop(i, (Store(doubled, (at_i,), Load(b, (at_i,))),)),
        Loop(
            j, (Start("t", double, "sum"), inner, Store(product, (at_j,), t), Store(product, (at_j,), Load(b, (at_j,))))
        ),
    )
    joined = overlap(Program("f", (b, M), ("n",), (), body, (doubled, product)))
    (outer,) = joined.body
    assert isinstance(outer, Loop)
    assert outer.axis not in {s.axis for s in walk(outer.body) if isinstance(s, Loop)}


def test_loops_of_which_one_reads_what_the_other_sums_stay_apart() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    outputs = [x * sg.sum(x[1:] * x[:-1])]
    assert len([s for s in program([x], outputs).body if isinstance(s, Loop)]) == 2
    check(outputs, {x: np.linspace(-1, 1, 7)})


def test_cheap_values_are_computed_again_rather_than_stored() -> None:
    with sg.Graph():
        x, m = sg.placeholder("x", ("n", "d")), sg.placeholder("m", ("d",))
    centred = x - m
    outputs = [sg.sum(centred * sg.exp(-sg.sum(centred**2, axis=1))[:, None], axis=0)]
    made = program([x, m], outputs)
    assert [b for b in made.buffers() if b.role == "scratch" and len(b.shape) > 1] == []
    check(outputs, {x: np.linspace(-1, 1, 12).reshape(4, 3), m: np.array([0.1, 0.2, 0.3])})


def test_costly_values_are_stored_rather_than_computed_again() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n", "d"))
    value = sg.sum(sg.softmax(sg.sin(x), axis=1) ** 2)
    made = program([x], [value])
    assert [s.operation for s in lets(made)].count("sin") == 1


def test_an_index_that_is_data_keeps_its_name() -> None:
    with sg.Graph():
        x, k = sg.placeholder("x", ("n", "d")), sg.placeholder("k", ("n",), "int64")
    outputs = [x[k][:, k[:2]], sg.take(x, sg.constant([0, -1]), axis=1)]
    check(outputs, {x: np.arange(12.0).reshape(3, 4), k: np.array([2, 0, -1])})


def test_every_value_has_its_own_bits() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    outputs = [sg.copysign(x, 0.0) if hasattr(sg, "copysign") else x * 0.0, x * -0.0]
    for got, want in zip(emitted(outputs, {x: np.ones(3)}), interpreted(outputs, {x: np.ones(3)}), strict=True):
        np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


def test_a_product_of_a_matrix_with_itself_is_symmetric() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n", "d"))
    made = program([x], [x.T @ x, x @ x.T])
    assert [s.symmetric for s in walk(made.body) if isinstance(s, Multiply)] == [True, True]
    check([x.T @ x, x @ x.T], {x: np.linspace(-1, 1, 12).reshape(4, 3)})


@pytest.mark.parametrize("shapes", list(itertools.product([0, 1, 5], [1, 4], [0, 1, 20])))
def test_products_of_any_shape(shapes: tuple[int, int, int]) -> None:
    n, m, k = shapes
    with sg.Graph():
        a, b = sg.placeholder("a", ("n", "m")), sg.placeholder("b", ("m", "k"))
        c, d = sg.placeholder("c", ("n", 1)), sg.placeholder("d", (1, 3))
    feed = {
        a: np.linspace(-1, 1, n * m).reshape(n, m),
        b: np.linspace(0, 1, m * k).reshape(m, k),
        c: np.linspace(1, 2, n).reshape(n, 1),
        d: np.array([[1.0, 2.0, 4.0]]),
    }
    check([a @ b, sg.sum(sg.tanh(a @ b)), sg.tanh(a).T @ (a @ b), c @ d, (a @ b).T @ c], feed)


def test_the_order_of_a_contraction_is_the_cheapest() -> None:
    sizes = {"i": 100, "j": 2, "k": 100, "l": 3}
    assert cheapest_order(["ij", "jk", "kl"], "il", sizes) == [(1, 2), (0, 1)]
    assert cheapest_order(["ij", "jk", "k"], "i", dict.fromkeys("ijk", sg.dim("n"))) == [(1, 2), (0, 1)]


@pytest.mark.parametrize("subscripts", ["ij,jk,k->i", "ij,ik,il->jkl", "i,j,k->ijk", "ij,ji,jk,kl,lm,mi->"])
def test_contractions_of_many_operands(subscripts: str) -> None:
    labels = subscripts.split("->", maxsplit=1)[0].split(",")
    sizes = {c: 2 + k for k, c in enumerate(sorted({c for label in labels for c in label}))}
    random = np.random.default_rng(0)
    with sg.Graph():
        leaves = [sg.placeholder(f"x{k}", tuple(label)) for k, label in enumerate(labels)]
    feed = {leaf: random.uniform(-1, 1, [sizes[c] for c in label]) for leaf, label in zip(leaves, labels, strict=True)}
    check([sg.einsum(subscripts, *leaves)], feed)


def test_without_fusion_every_operation_has_loops_of_its_own_and_an_array() -> None:
    with sg.Graph():
        x, w = sg.placeholder("x", ("n", "d")), sg.placeholder("w", ("d",))
    outputs = [sg.sum(sg.tanh(x @ w)), sg.exp(x)[1:] - sg.exp(x)[:-1]]
    made = pipeline.plan([x, w], outputs, sg.Options(fuse=False), "program")
    assert len([s for s in made.body if isinstance(s, Loop)]) == 6
    assert {tuple(map(str, b.shape)) for b in made.buffers()} >= {("n", "d"), ("n",)}


def test_a_formula_is_shown_where_it_is_used() -> None:
    with sg.Graph():
        x, y = sg.placeholder("x", ("n",)), sg.placeholder("y", ("n",))
    text = show(program([x, y], [sg.sum((x + y) * sg.exp(-x)), x / (y - x)]))
    assert "(x[i1] + y[i1]) * exp(-x[i1])" in text
    assert "x[i1] / (y[i1] - x[i1])" in text


def test_a_formula_is_shown_where_a_function_is_called_with_it() -> None:
    scaled = sg.custom_op(
        "scaled", lambda x, s: x * s, vjp=lambda g, *rest: [g, g], opaque=True, type_rule=lambda x, s: x
    )
    with sg.Graph():
        x, s = sg.placeholder("x", ("n",)), sg.placeholder("s")
    assert "scaled(x, 2 * s + 1)" in show(program([x, s], [scaled(x, 2 * s + 1)]))


def test_what_is_read_within_bounds_only_is_not_computed_beyond_them() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    value = sg.abs(sg.cumulative_sum(x, axis=0))
    check([sg.concat([value, x]), value * sg.sum(value), sg.concat([x, -value])[::-1]], {x: np.linspace(-1, 1, 5)})


def test_scratch_of_one_iteration_is_not_indexed_by_the_iteration() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n", "n"))
    y = sg.sin(x)
    outputs = [sg.einsum("ii->i", y), sg.sum(y)]
    made = program([x], outputs)
    assert [len(b.shape) for b in made.buffers() if b.role == "scratch"] == [2]
    check(outputs, {x: np.linspace(-1, 1, 9).reshape(3, 3)})


def test_what_is_computed_again_within_what_is_computed_again_comes_first() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n", "m"))
    value = sg.sum(sg.prod(x, axis=1) ** 2)
    (gradient,) = sg.gradients(value, [x])
    outputs = [value, gradient, *sg.gradients(sg.sum(gradient**2), [x])]
    check(outputs, {x: np.linspace(0.5, 1.5, 6).reshape(3, 2)})


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("axis", [0, 1, (0, 1), 2])
def test_a_softmax_takes_the_exponentials_that_its_logsumexp_adds_up(axis: Any, keepdims: bool) -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n", "m", "k"))
    normaliser = sg.logsumexp(x, axis=axis, keepdims=keepdims)
    missing = () if keepdims else axis if isinstance(axis, tuple) else (axis,)
    softmax = sg.exp(x - (sg.expand_dims(normaliser, missing) if missing else normaliser))
    exponentials = [s for s in lets(program([x], [normaliser, softmax])) if s.operation == "exp"]
    assert len(exponentials) == 1
    feed = {x: np.random.default_rng(0).normal(size=(4, 3, 5)) * 20}
    check([normaliser, softmax, sg.grad(sg.sum(softmax**2), x)], feed)


def test_a_softmax_of_large_numbers_is_as_accurate_as_of_small_ones() -> None:
    """As exp(x - logsumexp(x)) it would have the rounding error of the logarithm, here 1e-12, in every element."""
    with sg.Graph():
        x = sg.placeholder("x", ("k",))
    gradient = sg.grad(sg.logsumexp(x), x)
    small = np.arange(-8.0, 8.0)
    near, far = (compiled([gradient], {x: small + shift})[0] for shift in (0.0, 4096.0))
    np.testing.assert_allclose(far, near, rtol=1e-15)


def test_a_softmax_of_what_is_not_finite() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n", "k"))
    gradient = sg.grad(sg.sum(sg.logsumexp(x, axis=1)), x)
    inf = np.inf
    rows = [[1, -inf, 2], [-inf, -inf, -inf], [1000, inf, 2], [inf, inf, 0], [np.nan, 1, 2], [-inf, inf, 1e308]]
    check([gradient], {x: np.array(rows)})
    feed = {x: np.array(rows)}
    np.testing.assert_allclose(compiled([gradient], feed)[0], interpreted([gradient], feed)[0], rtol=1e-15)


GIVEN = {
    "a negative square": lambda x: -sg.square(x),
    "a difference from the logsumexp": lambda x: x - sg.logsumexp(x),
}


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_given_stands_for_itself_whatever_it_was_made_of(name: str) -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    made = GIVEN[name](x)
    values = np.array([0.5, 1.0, 2.0])
    np.testing.assert_allclose(sg.function([made], sg.exp(made))(values), np.exp(values), rtol=1e-15)
    np.testing.assert_allclose(sg.function([x, made], x + sg.exp(made))(values, values), values + np.exp(values))


def test_the_exponential_of_a_given_square() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    made = sg.square(x)
    f = sg.function([x, made], x + sg.exp(-made))
    np.testing.assert_allclose(f(np.ones(3), np.full(3, 2.0)), 1 + np.exp(np.full(3, -2.0)), rtol=1e-15)


def test_an_exponential_of_another_difference_stays() -> None:
    with sg.Graph():
        x, y = sg.placeholder("x", ("n", "n")), sg.placeholder("y", ("n", "n"))
    others = [sg.exp(x - sg.logsumexp(y, axis=1, keepdims=True)), sg.exp(x - sg.logsumexp(x, axis=1)[None, :])]
    feed = {x: np.random.default_rng(0).normal(size=(4, 4)), y: np.random.default_rng(1).normal(size=(4, 4))}
    check([*others, sg.exp(sg.logsumexp(x) - x)], feed)


def test_a_traceback_shows_the_lines_of_an_emitted_module() -> None:
    module = native.load_plain("def kernel(x):\n    return x / 0  # here\n")
    with pytest.raises(ZeroDivisionError) as caught:
        module.kernel(1)
    assert "return x / 0  # here" in "".join(traceback.format_exception(caught.value))
