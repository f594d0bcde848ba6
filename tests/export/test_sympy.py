"""SymPy expressions have the values of the graphs they come from, in both directions."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import sympy

import symgraph as sg
from symgraph.errors import ExportError
from symgraph.op import REGISTRY
from tests.export.samples import ELEMENTWISE, STRUCTURED, Sample, elementwise_sample, structured_sample

WITHOUT_SYMPY = {name for name in ELEMENTWISE if REGISTRY[name].sympy is None}


def values_of_symbols(sample: Sample) -> dict[str, Any]:
    """Return the value of every element's symbol."""
    values = {}
    for leaf, array in sample.feed.items():
        for index in np.ndindex(array.shape):
            values["_".join([leaf.attrs[0], *map(str, index)])] = array[index].item()
    return values


def numbers(result: Any, values: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return the numbers that SymPy itself gives for an exported expression."""
    cells = (
        [result] if isinstance(result, sympy.Basic) and not hasattr(result, "shape") else sympy.flatten(result.tolist())
    )
    found = []
    for cell in cells:
        substituted = cell.subs({symbol: values[symbol.name] for symbol in cell.free_symbols})
        found.append(bool(substituted) if substituted in (sympy.true, sympy.false) else float(sympy.N(substituted)))
    return np.array(found)


def check(sample: Sample) -> None:
    expected = sg.evaluate(sample.node, sample.feed)
    exported = sg.to_sympy(sample.node)
    assert getattr(exported, "shape", ()) == expected.shape
    tolerance = 1e-6 if sample.node.dtype == np.float32 else 1e-9
    found = numbers(exported, values_of_symbols(sample))
    np.testing.assert_allclose(found, np.ravel(expected), rtol=tolerance, atol=1e-12)


def check_return(sample: Sample) -> None:
    """Check that what comes back from SymPy computes the same."""
    expected = sg.evaluate(sample.node, sample.feed)
    exported = sg.to_sympy(sample.node)
    symbols = {}
    for leaf in sample.feed:
        for index in np.ndindex(leaf.shape):  # type: ignore[arg-type]
            symbols["_".join([leaf.attrs[0], *map(str, index)])] = leaf[index]
    free = exported.free_symbols if hasattr(exported, "free_symbols") else set()
    back = sg.from_sympy(exported, {symbol: symbols[symbol.name] for symbol in free})
    assert back.shape == sample.node.shape
    tolerance = 1e-6 if sample.node.dtype == np.float32 else 1e-9
    np.testing.assert_allclose(sg.evaluate(back, sample.feed), expected, rtol=tolerance, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(ELEMENTWISE) - WITHOUT_SYMPY))
def test_elementwise_operation_in_sympy(name: str) -> None:
    check(elementwise_sample(name))


@pytest.mark.parametrize("name", sorted(set(ELEMENTWISE) - WITHOUT_SYMPY))
def test_elementwise_operation_from_sympy(name: str) -> None:
    check_return(elementwise_sample(name))


@pytest.mark.parametrize("name", sorted(WITHOUT_SYMPY))
def test_operation_without_sympy_form_is_refused_by_name(name: str) -> None:
    with pytest.raises(ExportError, match=f"operation {name} "):
        sg.to_sympy(elementwise_sample(name).node)


@pytest.mark.parametrize("name", STRUCTURED)
def test_structured_expression_in_sympy(name: str) -> None:
    check(structured_sample(name))


@pytest.mark.parametrize("name", STRUCTURED)
def test_structured_expression_from_sympy(name: str) -> None:
    check_return(structured_sample(name))


X, Y = sympy.symbols("x y", real=True)
FORMULAS = [
    X**2 * sympy.sin(Y) - 3 / X,
    sympy.sqrt(X) / sympy.sqrt(Y) + X ** sympy.Rational(-3, 2),
    sympy.pi * sympy.E * X + sympy.sqrt(2) + sympy.EulerGamma,
    sympy.exp(-(X**2) / 2) / sympy.sqrt(2 * sympy.pi),
    -X * Y / 7 + sympy.Float("0.1"),
    sympy.Piecewise((X, X > Y), (Y**2, X > 0), (0, True)),
    sympy.Piecewise((X, sympy.And(X > 0, sympy.Or(Y < 0, sympy.Ne(X, Y)))), (1, True)),
    sympy.Max(X, Y, 1) + sympy.Min(X, Y, sympy.Rational(1, 3)),
    sympy.Abs(X - Y) + sympy.sign(Y - X) + sympy.floor(X * 3) + sympy.ceiling(Y * 3),
    sympy.sec(X) + sympy.csc(X) + sympy.cot(X) + sympy.sech(X) + sympy.csch(X) + sympy.coth(X),
    sympy.atan2(Y, X) + sympy.erf(X) + sympy.loggamma(Y) + sympy.polygamma(0, X) + sympy.polygamma(2, Y),
    sympy.Mod(5 * X, Y) + sympy.Heaviside(X - 1, sympy.Rational(1, 2)),
    sympy.log(X, 2) + sympy.log(1 + Y) + X**Y + 2**X,
    sympy.diff(sympy.Max(X, Y**2) * sympy.tanh(X * Y), X),
    sympy.Integer(5),
    X,
]


@pytest.mark.parametrize("formula", FORMULAS, ids=str)
def test_formula_from_sympy(formula: Any) -> None:
    with sg.Graph():
        x, y = sg.placeholder("x"), sg.placeholder("y")
    node = sg.from_sympy(formula, {X: x, Y: y})
    for values in ({X: 0.7, Y: 1.3}, {X: 1.9, Y: 0.4}):
        expected = float(sympy.N(formula.subs(values)))
        assert float(sg.evaluate(node, {x: values[X], y: values[Y]})) == pytest.approx(expected, rel=1e-12)


def test_symbols_may_stand_for_arrays() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    node = sg.from_sympy(X**2 + Y, {X: x, Y: 1.5})
    assert sg.evaluate(node, {x: [1.0, 2.0]}).tolist() == [2.5, 5.5]


def test_matrices_come_as_arrays() -> None:
    with sg.Graph():
        x = sg.placeholder("x")
    node = sg.from_sympy(sympy.Matrix([[X, 1], [X**2, 0]]), {X: x})
    assert sg.evaluate(node, {x: 3.0}).tolist() == [[3.0, 1.0], [9.0, 0.0]]
    assert sg.from_sympy(sympy.zeros(0, 3), {}).shape == (0, 3)


def test_what_is_not_known_is_named() -> None:
    with sg.Graph():
        x, n = sg.placeholder("x"), sg.placeholder("n", ("n",))
    for formula, name in ((sympy.zeta(X), "zeta"), (sympy.I * X, "I"), (X + Y, "symbol y")):
        with pytest.raises(ExportError, match=name):
            sg.from_sympy(formula, {X: x})
    with pytest.raises(ExportError, match="Integral"):
        sg.from_sympy(sympy.Integral(sympy.exp(X**2), (X, 0, 1)), {X: x})
    with pytest.raises(ExportError, match="symbolic size"):
        sg.to_sympy(sg.sum(n))
    with pytest.raises(ExportError, match="elements"):
        sg.to_sympy(sg.ones((200, 200)))
    opaque = sg.custom_op("opaque", lambda x: x * 2, opaque=True)
    with pytest.raises(ExportError, match="operation opaque"):
        sg.to_sympy(opaque(x))
    with sg.Graph():
        index = sg.placeholder("i", (2,), "int64")
        with pytest.raises(ExportError, match="gather needs constant indices"):
            sg.to_sympy(sg.constant([1.0, 2.0])[index])


def test_symbols_are_real_and_carry_the_names_of_placeholders() -> None:
    with sg.Graph():
        x, k, v = sg.placeholder("x"), sg.placeholder("k", (), "int64"), sg.placeholder("v", (2,))
    assert sg.to_sympy(x) == sympy.Symbol("x", real=True)
    assert sg.to_sympy(k) == sympy.Symbol("k", integer=True)
    first, second = sympy.symbols("v_0 v_1", real=True)
    assert sg.to_sympy(v * 2) == sympy.ImmutableDenseNDimArray([2 * first, 2 * second])
    assert sg.to_sympy([x, k]) == [sg.to_sympy(x), sg.to_sympy(k)]


def test_gradients_equal_those_of_sympy() -> None:
    with sg.Graph():
        x, y = sg.placeholder("x"), sg.placeholder("y")
    z = sg.exp(x * y) * sg.sin(x) / (1 + y**2)
    mine, theirs = sg.to_sympy(sg.grad(z, x)), sympy.diff(sg.to_sympy(z), sg.to_sympy(x))
    assert sympy.simplify(mine - theirs) == 0


def test_shared_parts_stay_shared() -> None:
    """Sixty doublings would be 2**60 terms if they were written out."""
    with sg.Graph():
        node = x = sg.placeholder("x")
    for _ in range(60):
        node = sg.sin(node) * sg.cos(node)
    value = 0.5
    back = sg.from_sympy(sg.to_sympy(node), {sympy.Symbol("x", real=True): x})
    for _ in range(60):
        value = float(mpmath.sin(value) * mpmath.cos(value))
    assert float(sg.evaluate(back, {x: 0.5})) == pytest.approx(value, rel=1e-9)
