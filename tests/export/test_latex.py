r"""LaTeX: what a reader expects to see, and that every formula is well formed."""

from __future__ import annotations

import re

import numpy as np
import pytest

import symgraph as sg
from tests.export.samples import (
    ELEMENTWISE,
    STRUCTURED,
    SYMBOLIC,
    elementwise_sample,
    structured_sample,
    symbolic_sample,
)

with sg.Graph():
    X, S = sg.placeholder("X", ("n", "d")), sg.placeholder("Sigma", ("d", "d"))
    W, U, Y = sg.placeholder("W1", ("d", "k")), sg.placeholder("U", ("k", "m")), sg.placeholder("Y", ("n", "k"))
    w, mu, x, y = [sg.placeholder(name, (size,)) for name, size in (("w", "d"), ("mu", "d"), ("x", "n"), ("y", "n"))]
    a, b, sigma = sg.placeholder("a"), sg.placeholder("b"), sg.placeholder("sigma")
    rate = sg.placeholder("rate")
    k = sg.placeholder("k", (), "int64")

residual = X @ w - y
squares = sg.mean(residual**2)
logistic = sg.mean(sg.softplus(X @ w) - y * (X @ w))
EXPECTED = [
    (squares, r"\frac{1}{n} \left\| X w - y \right\|^{2}"),
    (sg.grad(squares, w), r"\frac{2}{n} X^\top \left(X w - y\right)"),
    (sg.grad(sg.mean(sg.square(residual)), w), r"\frac{2}{n} X^\top \left(X w - y\right)"),
    (sg.grad(sg.sum(residual**2), w), r"2 X^\top \left(X w - y\right)"),
    (sg.grad(sg.sum(residual**2) / 2, w), r"X^\top \left(X w - y\right)"),
    (sg.grad(squares, X), r"\frac{2}{n} \left(X w - y\right) w^\top"),
    (sg.grad(logistic, w), r"\frac{1}{n} X^\top \left(\sigma\left(X w\right) - y\right)"),
    (squares + rate * (w @ w), r"\frac{1}{n} \left\| X w - y \right\|^{2} + \mathrm{rate} \, w^\top w"),
    (w @ S @ w, r"w^\top \Sigma w"),
    (sg.grad(w @ S @ w, w), r"\Sigma^\top w + \Sigma w"),
    ((X - mu) @ sg.inv(S), r"\left(X - \mu\right) {\Sigma}^{-1}"),
    (sg.sum((X @ W - Y) ** 2), r"\left\| X W_{1} - Y \right\|_F^{2}"),
    (X @ (W @ U), r"X W_{1} U"),
    ((X @ W).T @ Y, r"\left(X W_{1}\right)^\top Y"),
    (sg.mean(x), r"\frac{1}{n} \sum x"),
    (sg.grad(sg.mean(x), x), r"\frac{1}{n} \mathbf{1}"),
    (sg.sum(x * y), r"x^\top y"),
    (sg.sum(X, axis=0), r"\operatorname{sum}_{0}\left(X\right)"),
    (x[:, None] * y, r"x y^\top"),
    (x * y, r"x \odot y"),
    (x / y, r"\frac{x}{y}"),
    (2 * x / (3 * a), r"\frac{2}{3 a} x"),
    (a * x * b, r"a b x"),
    ((x @ y) * x, r"\left(x^\top y\right) x"),
    (a / (a + b), r"\frac{a}{a + b}"),
    ((a + b) * (a - b), r"\left(a + b\right) \left(a - b\right)"),
    (-(a - b), r"-\left(a - b\right)"),
    (a - (b - sigma), r"a - \left(b - \sigma\right)"),
    (a + -b, r"a - b"),
    (-a + b, r"b - a"),
    (a * a * b, r"a^{2} b"),
    (2.5 * a, r"\frac{5 a}{2}"),
    (0.3 * a, r"0.3 a"),
    (1e-5 * a, r"10^{-5} a"),
    (sg.exp(-0.5 * ((x - a) / sigma) ** 2), r"\exp\left(-\frac{1}{2 \sigma^{2}} \left(x - a\right)^{2}\right)"),
    (sg.exp(-x), r"e^{-x}"),
    (sg.sin(a) ** 2, r"\sin\left(a\right)^{2}"),
    (sg.log(a + b) * a, r"a \log \left(a + b\right)"),
    (np.log(2 * np.pi) / 2 + a * np.pi, r"\frac{1}{2} \log\left(2 \pi\right) + \pi a"),
    (sg.softmax(X, axis=1), r"\operatorname{softmax}\left(X\right)"),
    (x[1:] - x[:-1], r"x_{1:} - x_{:-1}"),
    (X[:, 0], r"X_{:,0}"),
    (sg.eye(3) * a + sg.ones((3, 3)), r"a I + \mathbf{1}"),
    (sg.where(x > 0, x, -x), r"\begin{cases} x & x > 0 \\ -x & \text{otherwise} \end{cases}"),
    ((a > 0) & ~(b > 0), r"\left(a > 0\right) \land \lnot \left(b > 0\right)"),
    (sg.where(x > 0, np.inf, np.nan), r"\begin{cases} \infty & x > 0 \\ \mathrm{NaN} & \text{otherwise} \end{cases}"),
    (sg.sum(x) / X.shape[1], r"\frac{1}{d} \sum x"),
    (k // 2, r"\left\lfloor \frac{k}{2} \right\rfloor"),
]


@pytest.mark.parametrize(("node", "latex"), EXPECTED, ids=[latex for _, latex in EXPECTED])
def test_formula_reads_as_expected(node: sg.Expr, latex: str) -> None:
    assert sg.to_latex(node) == latex


@pytest.mark.parametrize(
    ("name", "latex"),
    [
        ("x", "x"),
        ("alpha", r"\alpha"),
        ("w_1", "w_{1}"),
        ("w1", "w_{1}"),
        ("Sigma_xy", r"\Sigma_{\mathrm{xy}}"),
        ("weight_decay", r"\mathrm{weight}_{\mathrm{decay}}"),
        ("layer/bias", r"\mathrm{bias}_{\mathrm{layer}}"),
        ("a_1_2", "a_{1,2}"),
    ],
)
def test_name_in_latex(name: str, latex: str) -> None:
    with sg.Graph():
        assert sg.to_latex(sg.placeholder(name)) == latex


def test_names_that_look_alike_stay_apart() -> None:
    with sg.Graph():
        first, second = sg.placeholder("x1"), sg.placeholder("x_1")
    left, right = sg.to_latex(first - second).split(" - ")
    assert left != right


def test_shared_parts_become_lines_of_an_aligned_environment() -> None:
    shared = sg.tanh(X @ w + a)
    assert sg.to_latex({"f": sg.sum(shared), "g": shared * x}) == (
        "\\begin{aligned}\n"
        "t_{1} &= \\tanh\\left(X w + a\\right) \\\\\n"
        "f &= \\sum t_{1} \\\\\n"
        "g &= t_{1} \\odot x\n"
        "\\end{aligned}"
    )


def assert_well_formed(latex: str) -> None:
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", latex):
        depth += 1 if brace == "{" else -1
        assert depth >= 0, latex
    assert depth == 0, latex
    assert len(re.findall(r"\\left\b", latex)) == len(re.findall(r"\\right\b", latex)), latex
    assert sorted(re.findall(r"\\begin\{(\w+)\}", latex)) == sorted(re.findall(r"\\end\{(\w+)\}", latex))
    assert not re.search(r"\^\{[^{}]*\}\^|\^\\top\^|_\{[^{}]*\}_", latex), f"two scripts in one place: {latex}"
    assert not re.search(r"\bNone\b|\*|\{0\}.*\{1\}", latex), f"Python or a template shows: {latex}"


def _well_formed_samples() -> list[sg.Expr]:
    nodes = [elementwise_sample(name).node for name in ELEMENTWISE]
    nodes += [structured_sample(name).node for name in STRUCTURED]
    return [*nodes, *(symbolic_sample(name).node for name in SYMBOLIC), *(node for node, _ in EXPECTED)]


def test_every_formula_is_well_formed() -> None:
    for node in _well_formed_samples():
        assert_well_formed(sg.to_latex(node))


def test_every_name_of_an_elementwise_operation_is_printed() -> None:
    for name in ELEMENTWISE:
        latex = sg.to_latex(elementwise_sample(name).node)
        for argument in elementwise_sample(name).feed:
            assert argument.attrs[0] in latex, name
