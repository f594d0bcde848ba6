"""Printed text means what the graph means: read back as Python, it computes the same."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.op import FUNCTIONS, REGISTRY
from symgraph.ops.construct import apply
from tests.export.samples import (
    ELEMENTWISE,
    STRUCTURED,
    SYMBOLIC,
    Sample,
    elementwise_sample,
    structured_sample,
    symbolic_sample,
)
from tests.export.test_source_of_every_operation import run_source


def read_back(text: str, feed: dict[sg.Expr, Any]) -> Any:
    """Evaluate printed text as Python: arithmetic and indexing are NumPy's, functions are symgraph's."""
    updates = ".at[" in text

    def function(name: str) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            if name in FUNCTIONS:
                result = FUNCTIONS[name](*args, **keywords)
            else:
                result = apply(REGISTRY[name], *map(sg.constant, args), attrs=tuple(keywords.values()))
            return result if updates else sg.evaluate(result)

        return call

    array = sg.constant if updates else np.array
    names: dict[str, Any] = {name: function(name) for name in {*REGISTRY, *FUNCTIONS}}
    names |= {"array": array, "inf": np.inf, "nan": np.nan}
    names |= {name: name if updates else np.dtype(name).type for name in ("float32", "float64", "int64")}
    for leaf, value in feed.items():
        for size, number in zip(leaf.shape, np.shape(value), strict=True):
            names[str(size)] = number
    names |= {leaf.attrs[0]: array(value) for leaf, value in feed.items()}
    names["bool"] = "bool"
    *lines, last = text.split("\n")
    for line in lines:
        name, _, expression = line.partition(" = ")
        names[name] = eval(expression, names)
    result = eval(last, names)
    return sg.evaluate(result) if isinstance(result, sg.Expr) else result


def check(sample: Sample) -> None:
    expected = sg.evaluate(sample.node, sample.feed)
    result = read_back(sg.to_text(sample.node), sample.feed)
    tolerance = 1e-6 if sample.node.dtype == np.float32 else 1e-12
    assert np.shape(result) == np.shape(expected)
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=1e-12)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_text_of_elementwise_operation(name: str) -> None:
    check(elementwise_sample(name))


@pytest.mark.parametrize("name", STRUCTURED)
def test_text_of_structured_expression(name: str) -> None:
    check(structured_sample(name))


@pytest.mark.parametrize("name", sorted(set(SYMBOLIC) - {"a name that is a size", "size from a sum"}))
def test_text_of_symbolic_expression(name: str) -> None:
    check(symbolic_sample(name))


OPERATORS = ["add", "subtract", "multiply", "divide", "floor_divide", "remainder", "negative", "square", "reciprocal"]
OPERATORS += ["power", "less", "matmul"]


def random_expression(seed: int) -> Sample:
    """Return a tree of operators, in which every way of nesting two of them comes up."""
    choose = random.Random(seed)
    with sg.Graph():
        feed = {sg.placeholder("x"): np.float64(1.7), sg.placeholder("y"): np.float64(0.6)}
        vector = sg.placeholder("v", (2,))
        feed[vector] = np.array([0.3, 1.1])
    nodes = [*feed][:2]
    for _ in range(7):
        name = choose.choice(OPERATORS)
        a, b = nodes[-1] if choose.random() < 0.7 else choose.choice(nodes), choose.choice(nodes)
        if choose.random() < 0.5:
            a, b = b, a
        if name == "power":
            base, exponent = choose.choice([(a, 2.0), (2.0, b % 3.0), (abs(a), b)])
            node = sg.power(base, exponent)
        elif name == "less":
            node = sg.where(a < b, a, b)
        elif name == "matmul":
            node = (vector * a) @ (b / vector)
        else:
            node = getattr(sg, name)(*[a, b][: REGISTRY[name].arity])
        nodes.append(node)
    return Sample(nodes[-1], feed)


@pytest.mark.parametrize("seed", range(150))
def test_brackets_keep_the_meaning(seed: int) -> None:
    sample = random_expression(seed)
    expected = sg.evaluate(sample.node, sample.feed)
    with np.errstate(all="ignore"):
        text = read_back(sg.to_text(sample.node), sample.feed)
    np.testing.assert_allclose(text, expected, rtol=1e-6)
    source = run_source(sg.to_source(sample.node, inputs=list(sample.feed)), *sample.feed.values())
    np.testing.assert_array_equal(source, expected)


with sg.Graph():
    A, B, C = sg.placeholder("a"), sg.placeholder("b"), sg.placeholder("c")
    V, W = sg.placeholder("v", ("n",)), sg.placeholder("w", ("n", 3))

PRINTED = {
    "a + b + c": A + (B + C),
    "a - (b - c)": A - (B - C),
    "a - (b + c)": A - (B + C),
    "a*b/c": A * (B / C),
    "a/(b*c)": A / (B * C),
    "-a*b": -(A * B),
    "-(a + b)": -(A + B),
    "-a**2": -(A**2),
    "(-a)**2": (-A) ** 2,
    "(a**b)**c": (A**B) ** C,
    "a**b**c": A ** (B**C),
    "2*a + 0.1": 2.0 * A + 0.1,
    "(a < b) & (b < c)": (A < B) & (B < C),
    "~(a < b)": sg.logical_not(A < B),
    "exp(-a**2/2)": sg.exp(-(A**2) / 2),
    "v[1:] - v[:-1]": V[1:] - V[:-1],
    "v[::-1]": V[::-1],
    "v[0]": V[0],
    "v[-1]": V[-1],
    "w[:, 1]": W[:, 1],
    "w.T @ v": W.T @ V,
    "v[:, None]*w": V[:, None] * W,
    "sum(w, axis=1, keepdims=True)": sg.sum(W, axis=1, keepdims=True),
    "sum(w)/n": sg.sum(W) / W.shape[0],
    "softmax(w, axis=1)": sg.softmax(W, axis=1),
    "log_softmax(w, axis=1)": sg.log_softmax(W, axis=1),
    "logsumexp(w, axis=1)": sg.logsumexp(W, axis=1),
    "v*(w @ w.T @ v)": V * (W @ W.T @ V),
    "zeros((n,)).at[1:].set(v[1:])": sg.pad(V[1:], (1, 0)),
    "v.astype(float32)": V.astype("float32"),
    "where(v < 0, 0, v)": sg.where(V < 0, 0, V),
    "[array([1, 2, 0.5])]": sg.constant([1.0, 2.0, 0.5]),
}


@pytest.mark.parametrize("text", PRINTED)
def test_printed_form(text: str) -> None:
    assert sg.to_text(PRINTED[text]) == text.strip("[]" if text.startswith("[") else "")


def test_shared_parts_become_named_lines() -> None:
    shared = sg.exp(A * B) + 1
    assert sg.to_text(shared * sg.sin(shared)) == "t1 = exp(a*b) + 1\nt1*sin(t1)"
    assert sg.to_text([shared, 2 * shared]) == "t1 = exp(a*b) + 1\nt1\n2*t1"
    assert sg.to_text({"f": A * B, "g": A}) == "f = a*b\ng = a"


def test_small_shared_parts_are_repeated() -> None:
    assert sg.to_text(sg.sin(-A) * sg.cos(-A)) == "sin(-a)*cos(-a)"


def test_shared_parts_never_swell() -> None:
    node = A
    for _ in range(300):
        node = sg.sin(node) * sg.cos(node)
    assert len(sg.to_text(node)) < 300 * 40
    assert len(sg.to_latex(node)) < 300 * 100


def test_names_of_lines_are_free() -> None:
    with sg.Graph():
        t1 = sg.placeholder("t1")
    shared = sg.exp(sg.sin(t1))
    assert sg.to_text(shared / (1 + shared)) == "t2 = exp(sin(t1))\nt2/(1 + t2)"


@pytest.mark.parametrize("print_text", [sg.to_text, sg.to_latex, sg.to_source])
def test_a_deep_chain_prints(print_text: Any) -> None:
    node = A
    for _ in range(20_000):
        node = -sg.sin(node)
    assert print_text(node).count("sin") >= 20_000


@pytest.mark.parametrize("print_text", [sg.to_text, sg.to_latex, sg.to_sympy, sg.to_source])
def test_only_nodes_are_printed(print_text: Any) -> None:
    with pytest.raises(sg.ExportError, match="node of a static graph"):
        print_text(3.0)
