"""The emitted NumPy modules compute what the graph computes, for every operation."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ExportError
from symgraph.op import REGISTRY, Kind
from tests.export.samples import (
    ELEMENTWISE,
    STRUCTURED,
    SYMBOLIC,
    Sample,
    elementwise_sample,
    structured_sample,
    symbolic_sample,
)


def run_source(source: str, *args: Any, name: str = "function") -> Any:
    """Execute a module in an empty namespace and call its function."""
    assert "symgraph" not in source
    namespace: dict[str, Any] = {}
    exec(compile(source, "<source>", "exec"), namespace)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return namespace[name](*args)


def check(sample: Sample) -> None:
    expected = sg.evaluate(sample.node, sample.feed)
    result = run_source(sg.to_source(sample.node, inputs=list(sample.feed)), *sample.feed.values())
    assert np.asarray(result).dtype == sample.node.dtype
    assert np.shape(result) == expected.shape
    tolerance = 2e-5 if sample.node.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_source_of_elementwise_operation(name: str, dtype: str) -> None:
    check(elementwise_sample(name, dtype))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_source_of_elementwise_operation_on_numbers(name: str) -> None:
    check(elementwise_sample(name, shape=()))


@pytest.mark.parametrize("name", STRUCTURED)
def test_source_of_structured_expression(name: str) -> None:
    check(structured_sample(name))


@pytest.mark.parametrize("name", SYMBOLIC)
def test_source_of_symbolic_expression(name: str) -> None:
    check(symbolic_sample(name))


def test_every_operation_has_a_sample() -> None:
    seen = set(ELEMENTWISE)
    for name in STRUCTURED:
        stack = [structured_sample(name).node]
        while stack:
            node = stack.pop()
            seen.add(node.op.name)
            stack += node.args
    assert {name for name, op in REGISTRY.items() if op.kind not in (Kind.CONTROL, Kind.CUSTOM)} <= seen


@pytest.mark.parametrize("first", [0.0, 1.0, float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("second", [0.0, -0.0, 2.0])
def test_arithmetic_of_constants_is_numpys(first: float, second: float) -> None:
    node = sg.constant(first, "float32") / sg.constant(second, "float32")
    result = run_source(sg.to_source(node))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, sg.evaluate(node))


@pytest.mark.parametrize("reduction", ["sum", "prod", "logsumexp", "vector_norm", "mean", "any"])
@pytest.mark.parametrize("values", [np.zeros((0, 3)), np.full((2, 2), np.inf), -np.full((2, 2), np.inf), [[1, np.nan]]])
def test_reductions_of_nothing_and_of_infinities(reduction: str, values: Any) -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n", "m"))
    for axis in (None, 0, 1):
        node = getattr(sg, reduction)(x, axis=axis)
        result = run_source(sg.to_source(node), values)
        np.testing.assert_array_equal(result, sg.evaluate(node, {x: values}))


def test_integers_keep_their_dtype() -> None:
    with sg.Graph():
        x = sg.placeholder("x", (3,), "int8")
    values = np.array([100, 27, -128], np.int8)
    node = x + 100
    result = run_source(sg.to_source(node), values)
    assert result.dtype == np.int8
    np.testing.assert_array_equal(result, sg.evaluate(node, {x: values}))


def test_inputs_default_to_placeholders_then_variables_in_order() -> None:
    with sg.Graph():
        v = sg.variable(2.0, name="v")
        b = sg.placeholder("b")
        a = sg.placeholder("a")
    assert "def f(b, a, v):" in sg.to_source(a - b * v, name="f")
    assert run_source(sg.to_source(a - b * v, name="f"), 3.0, 10.0, 2.0, name="f") == 4.0


def test_several_outputs_come_back_as_a_tuple() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    total, doubled, same = run_source(sg.to_source([sg.sum(x), x * 2, x]), [1.0, 2.0])
    assert total == 3.0
    assert doubled.tolist() == [2.0, 4.0]
    assert same.tolist() == [1.0, 2.0]
    assert run_source(sg.to_source([sg.sum(x)]), [1.0, 2.0]) == (3.0,)


def test_results_do_not_share_memory_with_arguments() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    values = np.ones(4)
    for node in (x, x[1:], x[None], sg.broadcast_to(x, (2, x.shape[0]))):
        result = run_source(sg.to_source(node), values)
        result[...] = 5.0
        assert values.tolist() == [1.0] * 4


def test_any_node_can_be_an_input() -> None:
    with sg.Graph():
        x = sg.placeholder("x")
    inner = sg.exp(x)
    assert run_source(sg.to_source(inner * 2, inputs=[inner]), 5.0) == 10.0


def test_words_of_python_are_no_names() -> None:
    with sg.Graph():
        x, y = sg.placeholder("lambda"), sg.placeholder("np")
        with sg.name_scope("layer"):
            z = sg.placeholder("t1")
    shared = sg.exp(x * y * z)
    assert run_source(sg.to_source(shared * sg.sin(shared)), 0.0, 5.0, 1.0) == pytest.approx(np.sin(1.0))


def test_custom_operations_made_of_operations_are_written_out() -> None:
    twice = sg.custom_op("twice", lambda x: sg.sin(x) * 2, vjp=lambda g, out, x: [g])
    with sg.Graph():
        x = sg.placeholder("x")
    source = sg.to_source(twice(twice(x) + 1))
    assert run_source(source, 0.5) == pytest.approx(2 * np.sin(2 * np.sin(0.5) + 1))


def test_opaque_operations_are_refused_by_name() -> None:
    opaque = sg.custom_op("opaque", lambda x: x * 2, opaque=True)
    scalar = sg.custom_op("scalar", lambda x: x * 2, elementwise=True)
    with sg.Graph():
        x = sg.placeholder("x", (3,))
    for operation in (opaque, scalar):
        with pytest.raises(ExportError, match=operation.op.name):
            sg.to_source(operation(x))


def test_errors_name_what_is_wrong() -> None:
    with sg.Graph():
        x, y = sg.placeholder("x", ("n*m",)), sg.placeholder("y")
    with pytest.raises(ExportError, match="numpy"):
        sg.to_source(x, language="cobol")
    with pytest.raises(ExportError, match="placeholder y"):
        sg.to_source(x * y, inputs=[x])
    with pytest.raises(ExportError, match="sizes m, n"):
        sg.to_source(sg.reshape(x, ("n", "m")))
    for name in ("2", "class"):
        with pytest.raises(ExportError, match="not a name"):
            sg.to_source(x, name=name)
    with pytest.raises(ExportError, match="too large"):
        sg.to_source(y * np.arange(2000.0))


def test_source_of_a_deep_chain_is_linear() -> None:
    with sg.Graph():
        x = sg.placeholder("x")
    node, lengths = x, []
    for count in (2_000, 4_000):
        while len(lengths) < count:
            node = sg.sin(node) * node
            lengths.append(count)
        source = sg.to_source(node)
        assert len(source) < 60 * count
    expected = sg.evaluate(node, {x: 0.5})
    assert run_source(source, 0.5) == expected
