"""Factors taken out of sums: where, where not, and that the sums stay what they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.compile.factor import factor
from symgraph.compile.lower import lower
from symgraph.expr import topological
from tests.helpers.engines import compiled, emitted, interpreted

SIZES = {"n": 7, "i": 3, "j": 4}


def arrays() -> dict[str, sg.Expr]:
    with sg.Graph():
        return {
            "x": sg.placeholder("x", ("n", "i")),
            "g": sg.placeholder("g", ("n", "i")),
            "A": sg.placeholder("A", ("i", "j")),
            "c": sg.placeholder("c", ("j",)),
            "s": sg.placeholder("s", ("n",)),
        }


# Sums over n in which A, c or both can be multiplied with once the data are summed up.
FACTORED = {
    "product": lambda x, g, A, c, s: sg.sum(sg.sum(x[:, :, None] * A, axis=1), axis=0),
    "either side": lambda x, g, A, c, s: sg.sum(A * x[:, :, None], axis=(0, 1)),
    "quotient": lambda x, g, A, c, s: sg.sum(x[:, :, None] / A, axis=(0, 1)),
    "terms": lambda x, g, A, c, s: sg.sum(-(sg.sum(x[:, :, None] * A, axis=1) + s[:, None] * c), axis=0),
    "difference": lambda x, g, A, c, s: sg.sum(sg.sum(x[:, :, None] * A, axis=1) - s[:, None] * sg.exp(c), axis=0),
    "kept axes": lambda x, g, A, c, s: sg.sum(
        sg.sum(x[:, :, None] * A, axis=1, keepdims=True), axis=(0, 1), keepdims=True
    ),
    "moved": lambda x, g, A, c, s: sg.sum(sg.permute_dims(x[:, :, None] * A, (1, 2, 0)), axis=(0, 2)),
    "squeezed": lambda x, g, A, c, s: sg.sum(sg.squeeze(x[:, :, None, None] * A[:, :, None], (3,)), axis=(0, 1)),
    "nested": lambda x, g, A, c, s: sg.sum((x[:, :, None] * A) * c, axis=(0, 1)),
    "two factors": lambda x, g, A, c, s: sg.sum((x * g)[:, :, None] * A, axis=(0, 1)),
}


@pytest.mark.parametrize("name", FACTORED)
def test_a_factor_that_does_not_run_along_a_sum_is_taken_out_of_it(name: str) -> None:
    leaves = arrays()
    output = FACTORED[name](**leaves)
    lowered = lower([output], leaves.values())
    assert is_wide(lowered)
    assert not is_wide(factor(lowered, leaves.values()))
    feed = data(leaves)
    used = {leaf: value for leaf, value in feed.items() if leaf in topological([output])}
    want = interpreted([output], used)[0]
    for engine in (emitted, compiled):
        np.testing.assert_allclose(engine([output], used)[0], want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("rows", [0, 1, 5, 40])
def test_sums_of_matrix_products(rows: int, axis: int | None) -> None:
    leaves = arrays()
    x, A = leaves["x"], leaves["A"]
    output = sg.sum(sg.exp(x) @ A, axis=axis)
    assert "matmul" not in {node.op.name for node in topological(factor(lower([output], [x, A]), [x, A]))}
    random = np.random.default_rng(rows)
    feed = {x: random.normal(size=(rows, 20)), A: random.normal(size=(20, 30))}
    for engine in (emitted, compiled):
        np.testing.assert_allclose(engine([output], feed)[0], interpreted([output], feed)[0], rtol=1e-12, atol=1e-12)


# Sums that stay: nothing is saved, or somebody else needs the product.
KEPT = {
    "all factors run along": lambda x, g, A, c, s: sg.sum(x * g, axis=0),
    "one multiplication less": lambda x, g, A, c, s: sg.sum(x * s[:, None] * 3, axis=1),
    "used elsewhere": lambda x, g, A, c, s: sg.sum(x[:, :, None] * A, axis=0) + sg.max(x[:, :, None] * A, axis=0),
    "not linear": lambda x, g, A, c, s: sg.sum(sg.exp(x[:, :, None] * A), axis=(0, 1)),
    "broadcast term": lambda x, g, A, c, s: sg.sum(sg.sum(x[:, :, None] * A, axis=1) + c, axis=0),
    "a quotient's divisor": lambda x, g, A, c, s: sg.sum(A / x[:, :, None], axis=0),
    "integers": lambda x, g, A, c, s: sg.sum(sg.astype(x, "int32")[:, :, None] * sg.astype(A, "int32"), axis=(0, 1)),
}


@pytest.mark.parametrize("name", KEPT)
def test_other_sums_stay(name: str) -> None:
    leaves = arrays()
    lowered = lower([KEPT[name](**leaves)], leaves.values())
    assert factor(lowered, leaves.values()) == lowered


def test_a_graph_that_is_not_to_be_optimized_stays() -> None:
    leaves = arrays()
    output = FACTORED["product"](**leaves)
    options = sg.Options(optimize=False)
    texts = [sg.function([leaves["x"], leaves["A"]], output, options=o).loops for o in (options, sg.Options())]
    assert texts[0] != texts[1]


def test_the_gradient_of_a_location_multiplies_once() -> None:
    with sg.Graph():
        x, m, A = sg.placeholder("x", ("n", "d")), sg.placeholder("m", ("d",)), sg.placeholder("A", ("d", "d"))
    value = sg.sum(((x - m) @ A) ** 2)
    gradient = sg.grad(value, m)
    random = np.random.default_rng(0)
    X, M, B = random.normal(size=(50, 20)), random.normal(size=20), random.normal(size=(20, 20))
    feed = {x: X, m: M, A: B}
    want = -2 * (X - M).sum(0) @ B @ B.T
    np.testing.assert_allclose(compiled([gradient], feed)[0], want, rtol=1e-11)
    products = [s for s in sg.function(list(feed), [value, gradient]).loops.splitlines() if "@" in s]
    assert len(products) == 1  # that of the value


def is_wide(outputs: list[sg.Expr]) -> bool:
    """Tell whether something has an element for each example and each element of A."""
    return any({"n", "i", "j"} <= set(map(str, node.shape)) for node in topological(outputs))


def data(leaves: dict[str, sg.Expr]) -> dict[sg.Expr, Any]:
    random = np.random.default_rng(0)
    return {x: random.uniform(0.5, 1.5, [SIZES[str(s)] for s in x.shape]) for x in leaves.values()}
