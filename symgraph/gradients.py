"""Gradients as expressions: stabilise, differentiate, simplify."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from symgraph.arraytype import format_shape, is_float
from symgraph.derive.reverse import reverse
from symgraph.errors import DifferentiationError, GraphError, at_user_line
from symgraph.expr import Expr, constant_value
from symgraph.ops.construct import as_value
from symgraph.ops.creation import ones_like, zeros_like
from symgraph.rewrite import rewrite
from symgraph.structure import flatten, restore


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    *,
    stop_gradients: Sequence[Expr] = (),
    unconnected: str = "raise",
) -> list[Any]:
    """Return expressions for Σ over ys of (∂y/∂x)ᵀ · grad_y, one for each x.

    Args:
        ys: A node or a list of nodes. A y that is not a scalar is summed, unless grad_ys is given.
        xs: A node or a list of nodes: placeholders, variables, or intermediate nodes.
        grad_ys: For each y its cotangent, an array or node of its shape; None is all ones.
        stop_gradients: Nodes that count as constants.
        unconnected: What an x gives that no y depends on: ``"raise"``, ``"zero"`` or ``"none"``.

    Returns:
        A list of nodes with the shapes of xs.

    Raises:
        DifferentiationError: a y or x is not of a floating-point dtype, an operation on the way has no
            derivative rule, a grad_y has the wrong shape or is not finite, or an x is unconnected.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph():
        ...     a = sg.placeholder("a")
        >>> b = 2 * a
        >>> [float(sg.evaluate(g, {a: 1.0})) for g in sg.gradients(a + b, [a, b])]
        [3.0, 1.0]
        >>> [float(sg.evaluate(g)) for g in sg.gradients(a + b, [a, b], stop_gradients=[a, b])]
        [1.0, 1.0]
    """
    if unconnected not in ("raise", "zero", "none"):
        raise DifferentiationError(
            at_user_line(f"gradients: unconnected is 'raise', 'zero' or 'none', not {unconnected!r}")
        )
    targets = [_checked("differentiate", y) for y in _as_list(ys)]
    sources = [_checked("differentiate with respect to", x) for x in _as_list(xs)]
    _check_one_graph([*targets, *sources])
    seeds = _seeds(targets, grad_ys)
    barriers = frozenset([*sources, *stop_gradients])
    with _collection_paused():
        # Stable formulas have stable derivatives, so the laws run before as well as after.
        found = reverse(rewrite(targets, keep=barriers), sources, seeds, stop_gradients)
        if unconnected != "zero" and None in found:
            # A law may have dropped what a source does not change, as in where(True, y, x): its derivative is 0.
            declared = reverse(targets, sources, seeds, stop_gradients)
            pairs = zip(sources, found, declared, strict=True)
            found = [zeros_like(x) if g is None and d is not None else g for x, g, d in pairs]
        connected = [_connected(x, g, unconnected) for x, g in zip(sources, found, strict=True)]
        simplified = iter(rewrite([g for g in connected if g is not None], keep=barriers))
        return [None if g is None else next(simplified) for g in connected]


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Pause the collector of cycles: nodes have none, and looking for them again and again took a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _connected(x: Expr, gradient: Expr | None, unconnected: str) -> Any:
    if gradient is not None:
        return gradient
    if unconnected == "raise":
        raise DifferentiationError(
            at_user_line(f"gradients: nothing that is differentiated depends on {x!r} (unconnected='zero' gives zeros)")
        )
    return zeros_like(x) if unconnected == "zero" else None


def _as_list(nodes: Any) -> list[Any]:
    return list(nodes) if isinstance(nodes, list | tuple) else [nodes]


def _checked(what: str, node: Any) -> Expr:
    if not isinstance(node, Expr):
        raise DifferentiationError(at_user_line(f"gradients: cannot {what} {node!r}, which is not a node"))
    if not is_float(node.type.dtype):
        raise DifferentiationError(
            at_user_line(f"gradients: cannot {what} {node!r}: integers and booleans are constants")
        )
    return node


def _check_one_graph(nodes: Sequence[Expr]) -> None:
    graphs = {id(node.graph) for node in nodes if node.graph is not None}
    if len(graphs) > 1:
        raise GraphError(at_user_line("gradients: the nodes belong to different graphs"))


def _seeds(ys: Sequence[Expr], grad_ys: Any) -> list[Expr]:
    given = [None] * len(ys) if grad_ys is None else _as_list(grad_ys)
    if len(given) != len(ys):
        raise DifferentiationError(at_user_line(f"gradients: {len(ys)} ys need as many grad_ys, got {len(given)}"))
    return [ones_like(y) if seed is None else _seed(y, seed) for y, seed in zip(ys, given, strict=True)]


def _seed(y: Expr, seed: Any) -> Expr:
    node: Expr = as_value("gradients", seed)
    if node.shape != y.shape:
        raise DifferentiationError(
            at_user_line(
                f"gradients: the grad_y of {y!r} has shape {format_shape(node.shape)}, not {format_shape(y.shape)}"
            )
        )
    value = constant_value(node)
    if value is not None and not np.all(np.isfinite(value)):
        raise DifferentiationError(at_user_line(f"gradients: the grad_y of {y!r} is not finite"))
    return node if node.dtype == y.dtype else node.astype(y.dtype)


def grad(y: Expr, x: Any) -> Any:
    """Return the gradient of y in the structure of x.

    Args:
        y: A node; one that is not a scalar is summed.
        x: A node, or a list, tuple or dict of such structures.

    Raises:
        DifferentiationError: as :func:`gradients`.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph():
        ...     p = {"w": sg.placeholder("w"), "b": sg.placeholder("b")}
        >>> sorted(sg.grad(p["w"] * p["b"], p))
        ['b', 'w']
    """
    return restore(x, gradients(y, flatten(x)))
