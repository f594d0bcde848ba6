"""The node of the static graph.

An :class:`Expr` is an operation, its arguments, its static attributes and its array type. Nodes are
immutable and weakly interned: building the same node twice gives the same object, so structural
sharing is identity, and ``==`` between nodes *is* identity (``sg.equal`` builds the comparison). A
node knows the namespace that its leaves were declared in, and the user's line that first built it;
neither is part of its identity.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NoReturn, Self
from weakref import ref

import numpy as np

from symgraph.arraytype import ArrayType, as_dtype, format_shape
from symgraph.dims import Dim
from symgraph.errors import DTypeError, GraphError, Location, at_user_line, user_location
from symgraph.op import Kind, Op
from symgraph.value import Value


class Namespace:
    """What the leaves of a graph belong to; two namespaces never meet in one node."""

    __slots__ = ("__weakref__",)


class Expr(Value):
    """A node of a static graph: an array that will be computed.

    Arithmetic, comparison, indexing, methods and NumPy functions build further nodes. Nodes are made by
    ``sg.placeholder``, ``sg.variable``, ``sg.constant`` and operations, never by calling this class.

    Example:
        >>> import symgraph as sg
        >>> x = sg.placeholder("x", ("n",))
        >>> (x + 1) is (x + 1), (x + 1).shape
        (True, (n,))
    """

    __slots__ = ("__weakref__", "args", "attrs", "graph", "location", "op", "type")
    op: Op
    args: tuple[Expr, ...]
    attrs: tuple[Any, ...]
    type: ArrayType
    graph: Namespace | None
    location: Location | None

    def __init__(self) -> None:
        raise TypeError("nodes are made by sg.placeholder, sg.variable, sg.constant and operations")

    @classmethod
    def _apply(cls, op: Op, args: tuple[Any, ...], attrs: tuple[Any, ...]) -> Self:
        return make(op, args, attrs)  # type: ignore[return-value]

    @classmethod
    def _constant(cls, value: Any, dtype: np.dtype[np.generic] | None) -> Self:
        if type(value) is float and dtype is not None:
            return _number(value, math.copysign(1.0, value), dtype)  # type: ignore[return-value]
        return constant(value, dtype)  # type: ignore[return-value]

    def _known_number(self) -> float | int | bool | None:
        return scalar_value(self)

    def attribute(self, name: str) -> Any:
        """Return a static attribute by its name."""
        return self.attrs[self.op.attributes.index(name)]

    def __repr__(self) -> str:
        if self.op.kind is Kind.LEAF and self.op.name != "arange":
            shown = self.attrs[0]
            return f"<{self.op.name} {shown}: {self.type}>"
        return f"<{self.op.name}: {self.type}>"

    def __bool__(self) -> NoReturn:
        raise TypeError(
            at_user_line(f"{self!r} has no truth value while the graph is declared: use sg.where, sg.logical_and")
        )

    def __eq__(self, other: object) -> bool:
        """Tell whether this is the same node; a comparison with numbers is refused, since it would not be one."""
        if isinstance(other, int | float | np.generic | np.ndarray | Dim):
            raise TypeError(at_user_line(f"== and != tell whether nodes are the same node: use sg.equal for {self!r}"))
        return self is other

    __hash__ = object.__hash__

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError(at_user_line(f"{self!r} cannot be changed: use x = x.at[index].set(value)"))

    def __float__(self) -> NoReturn:
        raise TypeError(at_user_line(f"{self!r} has no value while the graph is declared: compile or run it"))

    __int__ = __index__ = __complex__ = __float__

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(at_user_line(f"{self!r} has no value while the graph is declared: compile or run it"))


class Literal:
    """The value of a constant, equal to another when dtype, shape and every bit are equal."""

    __slots__ = ("_key", "array")

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        data = array.tobytes() if array.nbytes <= 64 else hashlib.blake2b(array.data, digest_size=32).digest()
        self._key = (array.dtype.str, array.shape, data)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._key == other._key

    def __repr__(self) -> str:
        return repr(self.array.item()) if self.array.ndim == 0 else f"array of shape {self.array.shape}"


class _Reference(ref[Expr]):
    """A weak reference to a node that knows under which key the node is interned."""

    __slots__ = ("key",)
    key: tuple[Any, ...]


def _forget(reference: ref[Expr]) -> None:
    key = reference.key  # type: ignore[attr-defined]
    if _interned.get(key) is reference:
        del _interned[key]


_interned: dict[tuple[Any, ...], _Reference] = {}


class _Origin(threading.local):
    location: Location | None = None


_origin = _Origin()


def described(node: Expr) -> str:
    """Return an operation with its arguments' shapes, as errors name it."""
    shapes = " and ".join(format_shape(arg.shape) for arg in node.args)
    return f"{node.op.name} of {'shapes' if len(node.args) > 1 else 'shape'} {shapes}"


@contextmanager
def derived() -> Iterator[Callable[[Location | None], None]]:
    """Let nodes that a stage makes point at the user's line of the node they come from.

    Yields a function that says which line that is; without one it is the line that called symgraph.
    """
    before = _origin.location

    def come_from(location: Location | None) -> None:
        _origin.location = location or before

    try:
        yield come_from
    finally:
        _origin.location = before


def make(op: Op, args: tuple[Expr, ...], attrs: tuple[Any, ...] = (), type: ArrayType | None = None) -> Expr:
    """Return the one node with this operation, these arguments and these attributes.

    Args:
        op: The operation.
        args: Its arguments, already converted to the dtype the operation computes in.
        attrs: Its static attributes, hashable, in the order of ``op.attributes``.
        type: The array type of a leaf; every other operation's type rule gives it.

    Raises:
        ShapeError, DTypeError: the arguments do not fit (from the type rule).
        GraphError: the arguments belong to two graphs.
    """
    key = (op, attrs, type, *map(id, args))
    interned = _interned.get(key)
    if interned is not None:
        found = interned()
        if found is not None:
            return found
    if type is None:
        type = op.type_rule(*[arg.type for arg in args], *attrs)
    return _new(key, op, args, attrs, type)


def rebuild(node: Expr, args: Sequence[Expr]) -> Expr:
    """Return the node with other arguments, of the same types."""
    key = (node.op, node.attrs, None, *map(id, args))
    interned = _interned.get(key)
    found = None if interned is None else interned()
    return _new(key, node.op, tuple(args), node.attrs, node.type) if found is None else found


def _new(key: tuple[Any, ...], op: Op, args: tuple[Expr, ...], attrs: tuple[Any, ...], type: ArrayType) -> Expr:
    graph = None
    for arg in args:
        if arg.graph is not graph and arg.graph is not None:
            if graph is not None:
                raise GraphError(at_user_line(f"{op.name}: {args!r} belong to different graphs"))
            graph = arg.graph
    node = object.__new__(Expr)
    node.op = op
    node.args = args
    node.attrs = attrs
    node.type = type
    node.graph = graph
    node.location = _origin.location or user_location()
    reference = _Reference(node, _forget)
    reference.key = key
    while True:
        present = _interned.setdefault(key, reference)
        existing = present()
        if existing is not None:
            return existing
        if _interned.get(key) is present:
            _interned[key] = reference


def _no_rule(*_: Any) -> NoReturn:
    raise TypeError("a leaf's type is given when it is declared")


def _leaf_value(*_: Any) -> NoReturn:
    raise TypeError("a leaf has no value of its own")


def _leaf(name: str, *attributes: str) -> Op:
    return Op(name, Kind.LEAF, 0, _no_rule, _leaf_value, attributes=attributes)


PLACEHOLDER = _leaf("placeholder", "name", "key")
VARIABLE = _leaf("variable", "name", "key")
CONSTANT = _leaf("constant", "literal")
SIZE = _leaf("size", "dim")


def make_leaf(op: Op, attrs: tuple[Any, ...], type: ArrayType, graph: Namespace | None = None) -> Expr:
    """Return a leaf node that belongs to a namespace."""
    node = make(op, (), attrs, type)
    node.graph = graph
    return node


def constant(value: Any, dtype: Any = None) -> Expr:
    """Return the node of a constant.

    Args:
        value: A number or anything NumPy makes an array of; it is copied.
        dtype: The element type; NumPy's choice for the value when None.

    Raises:
        DTypeError: the value has no supported dtype, or does not fit into the one asked for.
    """
    if isinstance(value, Expr):
        return value if dtype is None or value.dtype == as_dtype(dtype) else value.astype(dtype)
    if isinstance(value, Dim):
        return make_leaf(SIZE, (value,), ArrayType(np.dtype("int64") if dtype is None else as_dtype(dtype), ()))
    try:
        array = np.array(value) if dtype is None else np.array(value, dtype=as_dtype(dtype))
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, DTypeError):
            raise
        raise DTypeError(at_user_line(f"constant: {error}")) from None
    array = np.ascontiguousarray(array, as_dtype(array.dtype)).reshape(array.shape)
    array.flags.writeable = False
    return make_leaf(CONSTANT, (Literal(array),), ArrayType(array.dtype, array.shape))


@lru_cache(maxsize=1024)
def _number(value: float, sign: float, dtype: np.dtype[np.generic]) -> Expr:
    """Return the constant of a number; the same few are used again and again (the sign tells -0.0 from 0.0)."""
    return constant(value, dtype)


Dim.as_node = staticmethod(constant)


def constant_value(node: Expr) -> np.ndarray[Any, Any] | None:
    """Return the value of a constant node, None for any other."""
    if node.op is not CONSTANT:
        return None
    array: np.ndarray[Any, Any] = node.attrs[0].array
    return array


def scalar_value(node: Expr) -> float | int | bool | None:
    """Return the number of a constant that has one value everywhere, None for any other node."""
    while node.op.name == "broadcast_to":
        node = node.args[0]
    array = constant_value(node)
    if array is None or array.size != 1:
        return None
    number: float | int | bool = array.item()
    return number


def topological(outputs: Iterable[Expr], stop: frozenset[Expr] | set[Expr] = frozenset()) -> list[Expr]:
    """Return every node that the outputs need, arguments before users, in a reproducible order.

    Args:
        outputs: Where to start.
        stop: Nodes whose arguments are not visited.
    """
    order: list[Expr] = []
    seen: set[Expr] = set()
    stack: list[Expr | None] = []
    for output in outputs:
        stack.append(output)
        while stack:
            node = stack.pop()
            if node is None:
                order.append(stack.pop())  # type: ignore[arg-type]
            elif node not in seen:
                seen.add(node)
                if node.args and node not in stop:
                    stack.append(node)
                    stack.append(None)
                    stack.extend(node.args[::-1])
                else:
                    order.append(node)
    return order
