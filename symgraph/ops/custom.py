"""A user's own operation, usable wherever a built-in one is: both engines, every order, compiled.

It is stated at one of three levels, by what its forward function computes with:

* *operations* (the default): a function of symgraph's operations, whose derivative is replaced by one's own;
* *arrays* (``opaque=True``, or a ``type_rule``): a function of NumPy arrays that nothing looks into;
* *numbers* (``elementwise=True``): a function of numbers, which fuses into loops as built-in ones do.

Custom operations are not in the registry: two of them may have the same name. The name of a built-in
operation is refused, because formulas and exported source would mean the built-in one.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

import numpy as np

from symgraph.arraytype import ArrayType, array_type, format_shape
from symgraph.errors import ArgumentError, DeclarationError, DTypeError, ShapeError, at_user_line, declared_at
from symgraph.expr import CONSTANT, PLACEHOLDER, SIZE, VARIABLE, Expr, make_leaf, topological
from symgraph.op import REGISTRY, Kind, Op, Requirement, Rule
from symgraph.ops.construct import apply, as_value, broadcast_shapes, cast, elementwise_type, engine_of, promote
from symgraph.ops.movement import sum_to_shape
from symgraph.value import is_python_scalar

Array = np.ndarray[Any, Any]
TypeRule = Callable[..., ArrayType]
Vjp = Callable[..., Sequence[Any]]

_LEAVES = {op.name for op in (CONSTANT, PLACEHOLDER, SIZE, VARIABLE)}
_keys = itertools.count()


class CustomOp:
    """A custom operation: call it on nodes, eager tensors, arrays and numbers.

    Attributes:
        op: The record that the stages read.
    """

    op: Op

    def __init__(self, op: Op, forward: Callable[..., Any], convert: Callable[..., list[Any]], inline: bool) -> None:
        self.op = op
        self.__name__ = self.__qualname__ = op.name
        self.__doc__ = forward.__doc__
        self.__wrapped__ = forward
        self._convert = convert
        self._inline = inline

    def __call__(self, *operands: Any) -> Any:
        """Apply the operation.

        Raises:
            ArgumentError: the number of arguments is wrong.
            ShapeError, DTypeError: the arguments do not fit.
        """
        if not operands or (self.op.arity is not None and len(operands) != self.op.arity):
            expected = "at least one argument" if self.op.arity is None else f"{self.op.arity} arguments"
            raise ArgumentError(at_user_line(f"{self.op.name}: {expected} expected, got {len(operands)}"))
        args = self._convert(self.op.name, *operands)
        return self.op.custom["expand"](*args) if self._inline else apply(self.op, *args)

    def __repr__(self) -> str:
        return f"<custom operation {self.op.name}>"


def custom_op(
    name: str,
    forward: Callable[..., Any],
    *,
    vjp: Vjp | None = None,
    derivative: Sequence[Rule | None] | None = None,
    type_rule: TypeRule | None = None,
    opaque: bool = False,
    elementwise: bool = False,
    numba: bool = True,
) -> CustomOp:
    """Return an operation of one's own, with its own derivative.

    Args:
        name: What it is called in formulas and messages.
        forward: What it computes: a function of operations; with ``opaque`` a function of NumPy arrays that
            returns a new array; with ``elementwise`` a function of numbers that Numba can compile.
        vjp: ``(g, out, *args) -> cotangents``, one for each argument (None is a zero), written with operations,
            so that it has derivatives itself. ``g`` is the cotangent of the result ``out``. Without it a function
            of operations has the derivative of its operations, an opaque one has none. Elements that a ``where``
            did not take have ``g`` 0; a vjp that divides by zero there gives NaN, an elementwise derivative never.
        derivative: For an elementwise operation, one rule per argument: ``(g, out, *args) ->`` g times the
            partial derivative, written with operations (None is a zero).
        type_rule: For an opaque operation ``(*argument types) -> ArrayType``, from ``.dtype`` and ``.shape`` (sizes
            may be symbolic). Without it the arguments promote to one dtype, which is the result's, and their
            shapes broadcast to the result's. Gives ``opaque`` by itself.
        opaque: Whether forward takes arrays.
        elementwise: Whether forward takes numbers.
        numba: Whether the compiler may compile an opaque forward with Numba; it refuses the operation otherwise.

    Raises:
        DeclarationError: the parts do not belong together.

    Example:
        >>> import symgraph as sg
        >>> clipped = sg.custom_op("clipped", lambda x: x * 1.0, vjp=lambda g, out, x: [sg.clip(g, -1, 1)])
        >>> with sg.Graph():
        ...     x = sg.placeholder("x")
        >>> sg.evaluate(sg.grad(100 * clipped(x), x), {x: 2.0})
        np.float64(1.0)
        >>> cube = sg.custom_op("cube", lambda x: x**3, elementwise=True, derivative=[lambda g, out, x: g * 3 * x**2])
        >>> sg.evaluate(sg.grad(cube(x), x), {x: 2.0})
        np.float64(12.0)
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise DeclarationError(at_user_line(f"custom_op: the name {name!r} is not an identifier"))
    if name in REGISTRY or name in _LEAVES:
        raise DeclarationError(at_user_line(f"custom_op: {name!r} is the name of a built-in operation"))
    opaque = opaque or type_rule is not None
    if opaque and elementwise:
        raise DeclarationError(at_user_line(f"custom_op {name}: an operation is opaque or elementwise, not both"))
    if (vjp if elementwise else derivative) is not None:
        raise DeclarationError(
            at_user_line(f"custom_op {name}: an elementwise operation takes derivative=, any other one takes vjp=")
        )
    arity = _arity(forward)
    if elementwise:
        return _of_numbers(name, forward, arity, derivative)
    if opaque:
        return _of_arrays(name, forward, arity, vjp, type_rule, numba)
    return _of_operations(name, forward, arity, vjp)


def _arity(forward: Callable[..., Any]) -> int | None:
    """Return how many positional arguments a function takes; None for any number."""
    if isinstance(forward, np.ufunc):
        return forward.nin
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty for p in parameters)


def _of_numbers(
    name: str, function: Callable[..., Any], arity: int | None, derivative: Sequence[Rule | None] | None
) -> CustomOp:
    if arity is None:
        raise DeclarationError(at_user_line(f"custom_op {name}: an elementwise forward names its arguments"))
    if derivative is not None and len(derivative) != arity:
        raise DeclarationError(
            at_user_line(f"custom_op {name}: {arity} arguments need as many derivative rules, got {len(derivative)}")
        )
    op = Op(
        name,
        Kind.ELEMENTWISE,
        arity,
        partial(elementwise_type, name, None),
        partial(_each_element, function),
        derivative=None if derivative is None else tuple(rule and _checked_rule(name, rule) for rule in derivative),
        facts=frozenset({"custom"}),
        domain=((-2.0, 2.0),) * arity,
        torch_name=name,
        custom=MappingProxyType({"scalar_function": function}),
    )
    return CustomOp(op, function, partial(promote, floating=True), inline=False)


def _checked_rule(name: str, rule: Rule) -> Rule:
    """Return a derivative rule whose result is a value of the engine, also where the user's returns a number."""

    def checked(g: Any, out: Any, *args: Any) -> Any:
        value = rule(g, out, *args)
        return None if value is None else cast(as_value(name, value, engine_of(name, (g, *args))), g.dtype)

    return checked


def _each_element(function: Callable[..., Any], *arrays: Array) -> Array:
    """Apply a function of numbers to arrays that it cannot write to: at once where it takes arrays, else one by one."""
    shape, dtype = np.broadcast_shapes(*[array.shape for array in arrays]), arrays[0].dtype
    spread = [np.broadcast_to(array, shape) for array in arrays]
    if spread[0].size > 1 and not hasattr(function, "py_func"):
        try:
            result = np.asarray(function(*spread))
        except (TypeError, ValueError, AttributeError):
            pass  # it takes numbers only
        else:
            if result.shape == shape:
                return np.array(result, dtype)
    elements = [function(*numbers) for numbers in zip(*[array.flat for array in spread], strict=True)]
    return np.array(elements, dtype).reshape(shape)


def _of_arrays(
    name: str, function: Callable[..., Any], arity: int | None, vjp: Vjp | None, type_rule: TypeRule | None, numba: bool
) -> CustomOp:
    def declared(*types: ArrayType) -> ArrayType:
        if type_rule is None:
            return ArrayType(types[0].dtype, broadcast_shapes(name, *[t.shape for t in types]))
        result = type_rule(*types)
        if not isinstance(result, ArrayType):
            raise DTypeError(at_user_line(f"{name}: its type rule returned {result!r}, which is not an ArrayType"))
        return array_type(result.dtype, result.shape)

    def evaluate(*arrays: Array) -> Array:
        result = np.asarray(function(*[_guarded(function, array) for array in arrays]))
        expected = declared(*[ArrayType(array.dtype, array.shape) for array in arrays])
        _check_result(name, expected, result)
        return result

    op = Op(
        name,
        Kind.CUSTOM,
        arity,
        declared,
        evaluate,
        vjp=None if vjp is None else _checked_vjp(name, vjp, broadcasts=type_rule is None),
        torch_name=name,
        custom=MappingProxyType({"function": function, "numba": numba}),
    )
    return CustomOp(op, function, promote if type_rule is None else _converted, inline=False)


def _guarded(function: Callable[..., Any], array: Array) -> Array:
    """Return an array that a Python function cannot write to; a compiled one declares what it writes to."""
    view = np.asarray(array)
    if not hasattr(function, "py_func"):
        view = view.view()
        view.flags.writeable = False
    return view


def _check_result(name: str, expected: ArrayType, result: Any) -> None:
    if result.shape != expected.shape:
        shown = f"{format_shape(result.shape)}, its type says {format_shape(expected.shape)}"
        raise ShapeError(at_user_line(f"{name}: forward returned an array of shape {shown}"))
    if result.dtype != expected.dtype:
        raise DTypeError(at_user_line(f"{name}: forward returned {result.dtype}, its type says {expected.dtype}"))


def _converted(name: str, *operands: Any) -> list[Any]:
    """Return operands as values of one engine; numbers adapt to the arrays they meet, arrays keep their dtype."""
    engine = engine_of(name, operands)
    arrays = [None if is_python_scalar(x) else as_value(name, x, engine) for x in operands]
    dtypes = [x.dtype for x in arrays if x is not None]
    return [
        as_value(name, number, engine, _weak_dtype(number, dtypes)) if x is None else x
        for x, number in zip(arrays, operands, strict=True)
    ]


def _weak_dtype(number: Any, dtypes: Sequence[np.dtype[np.generic]]) -> np.dtype[np.generic]:
    return np.result_type(*dtypes, number if isinstance(number, bool | float) else 1)


def _checked_vjp(name: str, vjp: Vjp, broadcasts: bool) -> Vjp:
    """Return a vjp that checks what the user's returns, and undoes broadcasting where the operation broadcasts."""

    def checked(g: Any, out: Any, *args: Any) -> list[Any]:
        found = vjp(g, out, *args)
        if not isinstance(found, list | tuple) or len(found) != len(args):
            raise ShapeError(at_user_line(f"{name}: its vjp returns a list of {len(args)} cotangents, got {found!r}"))
        return [
            None if value is None else fitted(i, as_value(name, value, engine_of(name, (g, value))), arg)
            for i, (value, arg) in enumerate(zip(found, args, strict=True))
        ]

    def fitted(i: int, value: Any, arg: Any) -> Any:
        if broadcasts and value.shape != arg.shape and broadcast_shapes(name, value.shape, arg.shape) == value.shape:
            value = sum_to_shape(value, arg.shape)
        if value.shape != arg.shape:
            shown = f"{format_shape(value.shape)}, the argument has {format_shape(arg.shape)}"
            raise ShapeError(at_user_line(f"{name}: its vjp returned cotangent {i} of shape {shown}"))
        return cast(value, arg.dtype) if arg.dtype.kind == "f" else None

    return checked


def _of_operations(name: str, function: Callable[..., Any], arity: int | None, vjp: Vjp | None) -> CustomOp:
    def expand(*args: Any) -> Any:
        result = function(*args)
        if isinstance(result, list | tuple | dict) or result is None:
            raise DeclarationError(at_user_line(f"{name}: forward returns one array, got a {type(result).__name__}"))
        return as_value(name, result, engine_of(name, (*args, result)))

    @lru_cache(maxsize=256)
    def traced(*types: ArrayType) -> tuple[list[Expr], list[Expr]]:
        return _trace(name, expand, types)

    def requires(*types: ArrayType) -> list[Requirement]:
        _, order = traced(*types)
        return [
            requirement
            for node in order
            if node.op.requires is not None
            for requirement in node.op.requires(*[arg.type for arg in node.args], *node.attrs)
        ]

    op = Op(
        name,
        Kind.CUSTOM,
        arity,
        lambda *types: traced(*types)[1][-1].type,
        lambda *arrays: _run(*traced(*[ArrayType(array.dtype, array.shape) for array in arrays]), arrays),
        vjp=None if vjp is None else _checked_vjp(name, vjp, broadcasts=False),
        requires=requires,
        torch_name=name,
        custom=MappingProxyType({"expand": expand}),
    )
    return CustomOp(op, function, _converted, inline=vjp is None)


def _trace(name: str, expand: Callable[..., Any], types: Sequence[ArrayType]) -> tuple[list[Expr], list[Expr]]:
    """Return placeholders of these types, and the nodes that forward makes of them, the result last.

    Raises:
        DeclarationError: forward uses a placeholder or variable that is not among its arguments.
    """
    inputs = [make_leaf(PLACEHOLDER, (f"{name} argument {i}", next(_keys)), t) for i, t in enumerate(types)]
    order = topological([expand(*inputs)])
    for node in order:
        if node.op.kind is Kind.LEAF and node.op.name in ("placeholder", "variable") and node not in inputs:
            raise DeclarationError(at_user_line(f"{name}: forward uses {node!r}, which is not among its arguments"))
    return inputs, order


def _run(inputs: Sequence[Expr], order: Sequence[Expr], arrays: Sequence[Array]) -> Any:
    """Evaluate traced nodes whose sizes are all known with NumPy."""
    values: dict[Expr, Any] = dict(zip(inputs, arrays, strict=True))
    for node in order:
        if node in values:
            continue
        if node.op is CONSTANT:
            values[node] = node.attrs[0].array
        elif node.op is SIZE:
            raise DeclarationError(declared_at(f"{node!r} is not determined by the arguments", node.location))
        else:
            result = node.op.evaluate(*[np.asarray(values[arg]) for arg in node.args], *node.attrs)
            values[node] = np.asarray(result, node.dtype)
    return values[order[-1]]
