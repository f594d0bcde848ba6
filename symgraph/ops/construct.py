"""Helpers with which operations are stated: conversion of operands, promotion, broadcasting, axes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

from symgraph.arraytype import ArrayType, format_shape, is_float
from symgraph.dims import Dim, Shape, Size
from symgraph.errors import DTypeError, ShapeError, at_user_line
from symgraph.expr import Expr
from symgraph.op import Op
from symgraph.value import Axis, Value, is_python_scalar

DType = np.dtype[np.generic]


def engine_of(name: str, operands: Sequence[Any]) -> type[Value]:
    """Return the class of values that an operation works on; nodes when all operands are plain.

    Raises:
        DTypeError: nodes of the static graph and eager tensors are mixed.
    """
    engine: type[Value] | None = None
    for operand in operands:
        if isinstance(operand, Value) and not _is_plain(operand):
            kind = type(operand)
            engine = kind if engine is None else next(base for base in engine.__mro__ if issubclass(kind, base))
            if engine is Value:
                raise DTypeError(at_user_line(f"{name}: a node of a static graph and an eager tensor cannot be mixed"))
    return Expr if engine is None else engine


def _is_plain(operand: Value) -> bool:
    """Tell whether a value is a node made of constants and sizes only: either engine may take it."""
    return isinstance(operand, Expr) and operand.graph is None


def as_value(name: str, operand: Any, engine: type[Value] | None = None, dtype: DType | None = None) -> Any:
    """Return an operand as a value of the engine: itself, or a constant."""
    kind = Expr if engine is None else engine
    if isinstance(operand, Value) and (engine is None or isinstance(operand, kind)):
        return operand
    if isinstance(operand, list | tuple) and any(isinstance(item, Value) for item in operand):
        raise DTypeError(
            at_user_line(f"{name}: an array is expected, got a {type(operand).__name__} of nodes: use stack")
        )
    try:
        return kind._constant(operand, dtype)
    except DTypeError as error:
        raise DTypeError(f"{name}: {error}") from None


def apply(op: Op, *args: Any, attrs: tuple[Any, ...] = ()) -> Any:
    """Interpret an operation on values of one engine."""
    kind: type[Value] = type(args[0]) if args else Expr
    return kind._apply(op, args, attrs)


def cast(x: Any, dtype: DType) -> Any:
    """Return a value converted to a dtype, itself where it has it already."""
    return x if x.type.dtype is dtype or x.type.dtype == dtype else apply(ASTYPE[0], x, attrs=(dtype,))


ASTYPE: list[Op] = []
"""Holds the operation ``astype`` once the elementwise operations are declared: promotion inserts it."""


def promote(name: str, *operands: Any, floating: bool = False, engine: type[Value] | None = None) -> list[Any]:
    """Return operands as values of one engine and one dtype, by NumPy's promotion rules.

    Python numbers are weak: they take the dtype of the arrays they meet.

    Args:
        name: The operation, for messages.
        operands: Values, arrays and numbers.
        floating: Whether integers and booleans become floating-point numbers.
        engine: The class of the values; found from the operands when None.

    Raises:
        DTypeError: a number does not fit into the common dtype.
    """
    first = operands[0]
    if isinstance(first, Value):
        kind, dtype = type(first), first.dtype
        if all(type(x) is kind and x.dtype is dtype for x in operands) and (not floating or dtype.kind == "f"):
            return list(operands)
    engine = engine or engine_of(name, operands)
    arrays = [x if is_python_scalar(x) else as_value(name, x, engine) for x in operands]
    dtype = _common_dtype(tuple(_weak_sample(x) if is_python_scalar(x) else x.type.dtype for x in arrays), floating)
    return [_converted(name, x, engine, dtype) for x in arrays]


def _converted(name: str, x: Any, engine: type[Value], dtype: DType) -> Any:
    if not is_python_scalar(x):
        return cast(x, dtype)
    if isinstance(x, Dim):
        return engine._constant(x, dtype)
    if dtype.kind in "iu" and not isinstance(x, bool):
        limits = np.iinfo(dtype.type)  # type: ignore[type-var]
        if not limits.min <= x <= limits.max:
            raise DTypeError(at_user_line(f"{name}: the number {x} is out of bounds for {dtype}"))
    return engine._constant(x, dtype)


def known_number(x: Value) -> float | int | bool | None:
    """Return the number that a value is known to be everywhere, None for any other value."""
    return x._known_number()


def _weak_sample(x: Any) -> Any:
    return bool if isinstance(x, bool) else float if isinstance(x, float) else int


@cache
def _common_dtype(kinds: tuple[Any, ...], floating: bool) -> DType:
    samples = {bool: False, int: 1, float: 1.0}
    dtype = np.result_type(*[samples.get(kind, kind) if isinstance(kind, type) else kind for kind in kinds])
    return float_dtype(dtype) if floating else dtype


@cache
def float_dtype(dtype: DType) -> DType:
    """Return the dtype in which a mathematical function of this dtype is computed, as NumPy's ufuncs do.

    Where NumPy would answer in float16, which symgraph does not have, it is float32.
    """
    if is_float(dtype):
        return dtype
    result = np.sqrt.resolve_dtypes((dtype, None))[1]
    return np.dtype("float32") if result == np.float16 else result


@lru_cache(maxsize=100_000)
def _broadcast(shapes: tuple[Shape, ...]) -> Shape | None:
    rank = max(map(len, shapes))
    result: list[Size] = []
    for axis in range(-rank, 0):
        size: Size = 1
        for shape in shapes:
            if -axis <= len(shape) and (other := shape[axis]) != 1:
                if size != 1 and size != other:
                    return None
                size = other
        result.append(size)
    return tuple(result)


def broadcast_shapes(name: str, *shapes: Shape) -> Shape:
    """Return the shape that shapes broadcast to; only a literal 1 broadcasts.

    Raises:
        ShapeError: two sizes differ, or cannot be proved equal.
    """
    result = _broadcast(shapes)
    if result is None:
        shown = " and ".join(format_shape(shape) for shape in shapes)
        raise ShapeError(at_user_line(f"{name}: shapes {shown} do not broadcast{size_hint(*shapes)}"))
    return result


def size_hint(*shapes: Shape) -> str:
    """Return a reminder, for a message about shapes some of whose sizes have names."""
    symbolic = {str(size) for shape in shapes for size in shape if isinstance(size, Dim)}
    return " (sizes are equal only when they have the same name)" if symbolic else ""


@lru_cache(maxsize=100_000)
def elementwise_type(name: str, result: DType | None, *types: ArrayType) -> ArrayType:
    """Return the type of an elementwise operation: the arguments' dtype (or ``result``), shapes broadcast."""
    shape = types[0].shape if len(types) == 1 else broadcast_shapes(name, *[t.shape for t in types])
    return ArrayType(types[0].dtype if result is None else result, shape)


def normalize_axis(name: str, axis: Any, rank: int) -> int:
    """Return an axis counted from the front.

    Raises:
        ShapeError: the array has no such axis.
    """
    try:
        number: int = axis.__index__()
    except (AttributeError, TypeError):
        raise ShapeError(at_user_line(f"{name}: axis {axis!r} is not an integer")) from None
    if not -rank <= number < rank:
        raise ShapeError(at_user_line(f"{name}: axis {number} is out of bounds for an array with {rank} axes"))
    return number % rank


def normalize_axes(name: str, axis: Axis, rank: int) -> tuple[int, ...]:
    """Return axes counted from the front, in rising order; all axes when None.

    Raises:
        ShapeError: an axis does not exist or is named twice.
    """
    if axis is None:
        return tuple(range(rank))
    axes = axis if isinstance(axis, list | tuple) else (axis,)
    found = sorted(normalize_axis(name, a, rank) for a in axes)
    if len(set(found)) != len(found):
        raise ShapeError(at_user_line(f"{name}: axis {axis!r} names an axis twice"))
    return tuple(found)


def expect_rank(name: str, x: Any, minimum: int) -> None:
    """Check that a value has at least so many axes.

    Raises:
        ShapeError: it has fewer.
    """
    if len(x.shape) < minimum:
        raise ShapeError(
            at_user_line(f"{name}: an array of at least {minimum} axes is expected, got shape {format_shape(x.shape)}")
        )
