"""Graphs from Python functions: a function is run once on placeholders."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from symgraph.arraytype import ArrayType, DTypeLike, ShapeLike, array_type
from symgraph.errors import DeclarationError, at_user_line
from symgraph.expr import Expr, constant
from symgraph.graph import Graph, placeholder
from symgraph.op import FUNCTIONS
from symgraph.structure import flatten, paths, restore
from symgraph.value import Value


@dataclass(frozen=True)
class Spec:
    """What a traced function's argument will be: made by :func:`symgraph.spec`."""

    type: ArrayType
    name: str | None = None


def spec(shape: ShapeLike = (), dtype: DTypeLike = "float64", name: str | None = None) -> Spec:
    """Describe an argument of a function that is to be traced.

    Args:
        shape: As for ``sg.placeholder``: integers, names, or sizes computed from names.
        dtype: float32, float64, an integer type or bool.
        name: The placeholder's name; that of the function's parameter when None.

    Raises:
        ShapeError, DTypeError: the shape or the dtype is not one.

    Example:
        >>> import symgraph as sg
        >>> sg.spec(("n", 3), "float32")
        Spec(type=float32[n,3], name=None)
    """
    return Spec(array_type(dtype, shape), name)


def trace(fn: Any, *specs: Any, graph: Graph | None = None, **axes: int) -> Any:
    """Run a Python function on placeholders, and return them and what it made of them.

    NumPy gives the name to the sum of a matrix's diagonal as well: of an array that is what is returned,
    and the further arguments are NumPy's (``offset``, ``axis1``, ``axis2``).

    Args:
        fn: A function of arrays, written with operators, NumPy functions and ``sg`` functions.
        specs: One for each argument: a spec, or a list, tuple or dict of specs.
        graph: Where the placeholders are declared; a new graph when None. A function that uses nodes
            declared outside needs their graph here.

    Returns:
        The inputs, a list with the structure of specs, and the outputs, in the structure fn returned
        them, numbers as constants: what ``sg.function`` takes.

    Raises:
        DeclarationError: fn does not take that many arguments, a spec is not one, or fn returned
            something that is no node or number.

    Example:
        >>> import symgraph as sg
        >>> inputs, output = sg.trace(lambda x, y: x * y + 1, sg.spec("n"), sg.spec("n"))
        >>> sg.function(inputs, output, backend="numpy")([1.0, 2.0], [3.0, 4.0])
        array([4., 9.])
        >>> sg.evaluate(sg.trace(sg.constant([[1.0, 2.0], [3.0, 4.0]])))
        np.float64(5.0)
    """
    if isinstance(fn, Value) or not callable(fn):
        return FUNCTIONS["trace"](fn, *specs, **axes)
    if axes:
        raise DeclarationError(at_user_line(f"trace: unknown {', '.join(axes)}"))
    what = getattr(fn, "__name__", repr(fn))
    for path, leaf in zip(paths(list(specs), "specs"), flatten(list(specs)), strict=True):
        if not isinstance(leaf, Spec):
            raise DeclarationError(at_user_line(f"trace: {path} of {what} is not made by sg.spec: {leaf!r}"))
    names = _parameter_names(fn, what, specs)
    with Graph() if graph is None else graph:
        inputs = [_declare(part, name) for part, name in zip(specs, names, strict=True)]
        returned = fn(*inputs)
    leaves = [
        _as_node(what, leaf, path) for leaf, path in zip(flatten(returned), paths(returned, "the result"), strict=True)
    ]
    return inputs, restore(returned, leaves)


def _parameter_names(fn: Callable[..., Any], what: str, specs: tuple[Any, ...]) -> list[str]:
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return [f"x{i}" for i in range(len(specs))]
    try:
        bound = signature.bind(*specs)
    except TypeError as error:
        raise DeclarationError(at_user_line(f"trace: {what}{signature} got {len(specs)} specs: {error}")) from None
    names: list[str] = []
    for name in bound.arguments:
        if signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            names.extend(f"{name}_{i}" for i in range(len(bound.arguments[name])))
        else:
            names.append(name)
    return names


def _declare(part: Any, name: str) -> Any:
    if isinstance(part, Mapping):
        return {key: _declare(item, f"{name}_{key}") for key, item in part.items()}
    if isinstance(part, list | tuple):
        return restore(part, flatten([_declare(item, f"{name}_{i}") for i, item in enumerate(part)]))
    return placeholder(name if part.name is None else part.name, part.type.shape, part.type.dtype)


def _as_node(what: str, leaf: Any, path: str) -> Expr:
    if isinstance(leaf, Expr):
        return leaf
    if leaf is None or isinstance(leaf, str | bytes):
        hint = " (is a return missing?)" if leaf is None else ""
        raise DeclarationError(at_user_line(f"trace: {path} of {what} is {leaf!r}, not a node or a number{hint}"))
    return constant(leaf)
