"""The reference: a graph evaluated with NumPy, node by node, without compiling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from symgraph import dims
from symgraph.dims import Dim
from symgraph.errors import ArgumentError, SizeError, at_user_line, declared_at
from symgraph.expr import CONSTANT, SIZE, Expr, described, topological
from symgraph.graph import Graph
from symgraph.op import Kind

Array = np.ndarray[Any, Any]

_PLAIN_ERRORS = (IndexError, ValueError, np.linalg.LinAlgError)


def known_attributes(attrs: Any, sizes: Mapping[str, int]) -> Any:
    """Return static attributes with every symbolic size replaced by its number."""
    if isinstance(attrs, Dim):
        return dims.evaluate(attrs, sizes)
    if isinstance(attrs, tuple):
        return tuple(known_attributes(a, sizes) for a in attrs)
    return attrs


def check_requirements(nodes: Iterable[Expr], sizes: Mapping[str, int]) -> None:
    """Check what operations require of sizes that only the call knows.

    Raises:
        SizeError: a size is negative, or an operation's requirement does not hold.
    """
    for node in nodes:
        if node.op.requires is not None:
            for needed in node.op.requires(*[arg.type for arg in node.args], *node.attrs):
                if dims.names(needed.size) <= sizes.keys() and not _holds(needed.size, needed.relation, sizes):
                    known = ", ".join(f"{name} = {sizes[name]}" for name in sorted(dims.names(needed.size)))
                    raise SizeError(declared_at(f"{needed.message} ({known})", node.location))


def _holds(size: dims.Size, relation: str, sizes: Mapping[str, int]) -> bool:
    number = dims.evaluate(size, sizes)
    return number == 0 if relation == "== 0" else number >= 0


def interpret(outputs: Sequence[Expr], values: Mapping[Expr, Array], sizes: Mapping[str, int]) -> list[Any]:
    """Evaluate nodes with NumPy.

    Args:
        outputs: What to compute.
        values: The arrays of leaves, and of any other node that shall not be computed.
        sizes: The numbers that symbolic sizes stand for.

    Returns:
        One array (or NumPy scalar) per output.

    Raises:
        ArgumentError: a leaf has no value.
    """
    order = topological(outputs, stop=set(values))
    check_requirements((node for node in order if node not in values), sizes)
    remaining: dict[Expr, int] = {}
    for node in order:
        for arg in node.args:
            remaining[arg] = remaining.get(arg, 0) + 1
    wanted = set(outputs)
    computed: dict[Expr, Any] = {}
    with np.errstate(all="ignore"):
        for node in order:
            computed[node] = values[node] if node in values else _evaluate(node, computed, sizes)
            if node not in values:
                for arg in node.args:
                    remaining[arg] -= 1
                    if not remaining[arg] and arg not in wanted:
                        computed.pop(arg, None)
    return [computed[output] for output in outputs]


def _evaluate(node: Expr, computed: Mapping[Expr, Any], sizes: Mapping[str, int]) -> Any:
    if node.op is CONSTANT:
        array: Array = node.attrs[0].array
        return array if array.ndim else array[()]
    if node.op is SIZE:
        return node.dtype.type(dims.evaluate(node.attrs[0], sizes))
    if node.op.kind is Kind.LEAF and node.op.name != "arange":
        raise ArgumentError(declared_at(f"{node!r} needs a value", node.location))
    attrs = known_attributes(node.attrs, sizes)
    try:
        result = np.asarray(node.op.evaluate(*[np.asarray(computed[arg]) for arg in node.args], *attrs))
    except _PLAIN_ERRORS as error:
        if type(error) not in _PLAIN_ERRORS:
            raise
        raise type(error)(declared_at(f"{described(node)}: {error}", node.location)) from error
    expected = tuple(dims.evaluate(size, sizes) for size in node.shape)
    if result.shape != expected:
        message = f"{node.op.name}: expected shape {expected}, got {result.shape}"
        raise SizeError(declared_at(message, node.location))
    return result.astype(node.dtype, copy=False)[()]


def evaluate(node: Any, feed: Mapping[Any, Any] | None = None) -> Any:
    """Evaluate a node, or a list of nodes, with NumPy, without compiling anything.

    Args:
        node: What to compute.
        feed: The values of placeholders, or of any other node; placeholders may be named.

    Returns:
        A NumPy array, or a NumPy scalar; a list of them for a list.

    Raises:
        ArgumentError: a placeholder that is needed has no value.
        SizeError: shapes do not fit.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph():
        ...     x = sg.placeholder("x", ("n",))
        >>> sg.evaluate(sg.sum(x * x), {x: [1.0, 2.0]})
        np.float64(5.0)
    """
    many = isinstance(node, list | tuple)
    outputs = list(node) if many else [node]
    values = {_fed(outputs, key): value for key, value in (feed or {}).items()}
    values = {leaf: np.asarray(value, dtype=leaf.dtype) for leaf, value in values.items()}
    sizes = sizes_from(values)
    results = interpret(outputs, values, sizes)
    copies = [result.copy() if isinstance(result, np.ndarray) else result for result in results]
    return copies if many else copies[0]


def _fed(outputs: Sequence[Expr], key: Any) -> Expr:
    graph = next((output.graph for output in outputs if output.graph is not None), None)
    if isinstance(key, Expr):
        if key.graph is not graph and key.graph is not None and graph is not None:
            raise ArgumentError(at_user_line(f"evaluate: the fed {key!r} belongs to another graph"))
        return key
    found = graph.names.get(key) if isinstance(graph, Graph) else None
    if found is None:
        raise ArgumentError(at_user_line(f"evaluate: a node or the name of one is fed, not {key!r}"))
    return found


def sizes_from(values: Mapping[Expr, Array]) -> dict[str, int]:
    """Return what the names of sizes stand for, from the arrays given for nodes.

    Raises:
        SizeError: a rank or size differs from the declared one, or one name would have two values.
    """
    met: dict[str, tuple[dims.Size, int]] = {}
    for node, array in values.items():
        name = node.attrs[0] if node.op.kind is Kind.LEAF else repr(node)
        if array.ndim != node.ndim:
            raise SizeError(f"{name}: expected {node.ndim} axes {node.type}, got shape {array.shape}")
        for axis, (size, actual) in enumerate(zip(node.shape, array.shape, strict=True)):
            met[f"{name} axis {axis}"] = (size, actual)
    return dims.solve(met)
