"""One graph, computed in every way there is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import symgraph as sg
from symgraph.compile import native, pipeline
from symgraph.compile.emit import emit
from symgraph.eager.tensor import Tensor
from symgraph.expr import CONSTANT, SIZE, topological
from symgraph.interpret import known_attributes, sizes_from
from symgraph.ops.construct import apply

Array = np.ndarray[Any, Any]
Feed = Mapping[sg.Expr, Any]


def interpreted(outputs: Sequence[sg.Expr], feed: Feed) -> list[Any]:
    """Return the outputs as NumPy computes them, node by node."""
    results: list[Any] = sg.evaluate(list(outputs), feed)
    return results


def program(inputs: Sequence[sg.Expr], outputs: Sequence[sg.Expr], optimize: bool = True) -> Any:
    """Return the loop program of a graph."""
    return pipeline.plan(list(inputs), list(outputs), sg.Options(optimize=optimize), "program")


def emitted(outputs: Sequence[sg.Expr], feed: Feed, optimize: bool = True) -> list[Any]:
    """Return the outputs as the emitted module computes them when it runs as plain Python."""
    plan = program(list(feed), outputs, optimize)
    values = [np.ascontiguousarray(value, leaf.dtype).reshape(np.shape(value))[()] for leaf, value in feed.items()]
    sizes = sizes_from({leaf: np.asarray(value) for leaf, value in feed.items()})
    constants = [np.array(value) for _, value in plan.constants]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        # NumPy warns of what machine code does without a word.
        warnings.simplefilter("ignore", RuntimeWarning)
        results = native.load_plain(emit(plan)).kernel(*values, *constants, *[sizes[name] for name in plan.sizes])
    return [r if isinstance(r, np.ndarray) else o.dtype.type(r) for r, o in zip(results, outputs, strict=True)]


def compiled(outputs: Sequence[sg.Expr], feed: Feed) -> list[Any]:
    """Return the outputs as machine code computes them."""
    results: list[Any] = sg.function(list(feed), list(outputs))(*feed.values())
    return results


def replay(outputs: Sequence[sg.Expr], feed: Mapping[sg.Expr, Tensor]) -> list[Tensor]:
    """Return the outputs as tensors that the eager engine computes and records."""
    sizes = sizes_from({leaf: tensor.detach().numpy() for leaf, tensor in feed.items()})
    found: dict[sg.Expr, Any] = dict(feed)
    for node in topological(outputs, stop=set(feed)):
        if node in found:
            continue
        if node.op is CONSTANT:
            found[node] = Tensor._constant(node.attrs[0].array, node.dtype)
        elif node.op is SIZE or not node.args:
            found[node] = Tensor._constant(sg_value(node, sizes), node.dtype)
        else:
            attrs = known_attributes(node.attrs, sizes)
            found[node] = apply(node.op, *[found[arg] for arg in node.args], attrs=attrs)
    return [found[output] for output in outputs]


def sg_value(leaf: sg.Expr, sizes: Mapping[str, int]) -> Any:
    """Return the value of a leaf that sizes determine."""
    attrs = known_attributes(leaf.attrs, sizes)
    return attrs[0] if leaf.op is SIZE else leaf.op.evaluate(*attrs)


def tensors(feed: Feed, requires_grad: bool = False) -> dict[sg.Expr, Tensor]:
    """Return the values as leaves of the eager engine; floating-point ones may ask for gradients."""
    found = {}
    for leaf, value in feed.items():
        tensor = Tensor._constant(np.asarray(value), leaf.dtype)
        found[leaf] = tensor.requires_grad_() if requires_grad and leaf.dtype.kind == "f" else tensor
    return found


def eager(outputs: Sequence[sg.Expr], feed: Feed) -> list[Any]:
    """Return the outputs as the eager engine computes them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return [tensor.detach().numpy() for tensor in replay(outputs, tensors(feed))]


def assert_same(found: Any, expected: Any, rtol: float, atol: float, hint: str = "") -> None:
    """Check shape, dtype and values; NaN equals NaN, and infinities have their sign."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype, hint
    assert found.shape == expected.shape, hint
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol, err_msg=hint)
