"""The namespace of what a user declares: placeholders, variables and names.

A :class:`Graph` holds declared leaves and names only. Building expressions never makes it grow, and no
value is ever stored in it: those of variables live in a session.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from symgraph.arraytype import ArrayType, DTypeLike, ShapeLike, array_type
from symgraph.errors import DTypeError, GraphError, ShapeError, at_user_line
from symgraph.expr import PLACEHOLDER, VARIABLE, Expr, Namespace, constant, make_leaf

_keys = itertools.count()


class Graph(Namespace):
    """A namespace of placeholders, variables and names.

    Used as a context manager, it becomes the graph that declarations go to. Nodes of two graphs cannot
    be combined.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph() as graph:
        ...     x = sg.placeholder("x")
        >>> graph.placeholders["x"] is x
        True
    """

    __slots__ = ("_frozen", "_initial", "_names", "_placeholders", "_scopes", "_trainable", "_variables", "own_session")

    def __init__(self) -> None:
        # The session made for the graph when no other is open: kept here so that both are freed together.
        self.own_session: object = None
        self._placeholders: dict[str, Expr] = {}
        self._variables: dict[str, Expr] = {}
        self._initial: dict[Expr, np.ndarray[Any, Any]] = {}
        self._trainable: list[Expr] = []
        self._names: dict[str, Expr] = {}
        self._scopes: dict[str, str] = {}
        self._frozen = False

    @property
    def placeholders(self) -> Mapping[str, Expr]:
        """The placeholders by name, in the order of their declaration."""
        return MappingProxyType(self._placeholders)

    @property
    def variables(self) -> Mapping[str, Expr]:
        """The variables by name, in the order of their declaration."""
        return MappingProxyType(self._variables)

    @property
    def trainable_variables(self) -> list[Expr]:
        """The variables that optimisers update, in the order of their declaration."""
        return list(self._trainable)

    @property
    def names(self) -> Mapping[str, Expr]:
        """Every named node, declared leaves included."""
        return MappingProxyType(self._names)

    def initial_value(self, variable: Expr) -> np.ndarray[Any, Any]:
        """Return what a variable holds when a session opens."""
        return self._initial[variable]

    def name_of(self, node: Expr) -> str | None:
        """Return the name given to a node, None when it has none."""
        return next((name for name, named in self._names.items() if named is node), None)

    @property
    def frozen(self) -> bool:
        """Whether declarations are refused."""
        return self._frozen

    def freeze(self) -> Self:
        """Refuse every further declaration, and return the graph."""
        self._frozen = True
        return self

    def __enter__(self) -> Self:
        _local.stack.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _local.stack.pop()

    def __repr__(self) -> str:
        return f"<Graph: {len(self._placeholders)} placeholders, {len(self._variables)} variables>"

    def add_name(self, name: str, node: Expr) -> str:
        """Give a node a name, inside the current name scope, and return the full name.

        Raises:
            GraphError: the graph is frozen, the name is taken, or the node is of another graph.
        """
        if self._frozen:
            raise GraphError(at_user_line(f"{name!r} cannot be declared: the graph is frozen"))
        if not isinstance(name, str) or not name:
            raise GraphError(at_user_line(f"a name is a non-empty string, not {name!r}"))
        if node.graph is not self and node.graph is not None:
            raise GraphError(at_user_line(f"{node!r} belongs to another graph"))
        full = "/".join([*_local.scopes, name])
        if full in self._names:
            taken = self._names[full]
            hint = "choose another, or begin a new graph: with sg.Graph(): ..."
            message = f"the name {full!r} is taken by {taken!r} (declared at {taken.location}); {hint}"
            raise GraphError(at_user_line(message))
        self._names[full] = node
        return full

    def _unique_name(self, stem: str) -> str:
        prefix = "/".join([*_local.scopes, ""])
        return next(
            name
            for name in (stem if i == 0 else f"{stem}_{i}" for i in itertools.count())
            if prefix + name not in self._names
        )

    def _declare_leaf(self, op: Any, name: str, type: ArrayType) -> tuple[str, Expr]:
        full = "/".join([*_local.scopes, str(name)])
        node = make_leaf(op, (full, next(_keys)), type, self)
        return self.add_name(name, node), node


class _Local(threading.local):
    def __init__(self) -> None:
        self.stack: list[Graph] = [_root]
        self.scopes: list[str] = []


_root = Graph()
_local = _Local()


def default_graph() -> Graph:
    """Return the graph that declarations go to: the innermost ``with graph:``, or the one shared graph."""
    return _local.stack[-1]


@contextmanager
def name_scope(name: str) -> Iterator[str]:
    """Prefix the names declared inside with ``name/``. Scopes matter for names and pictures only.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph(), sg.name_scope("layer"):
        ...     sg.variable(0.0, name="bias")
        <variable layer/bias: float64[]>
    """
    _local.scopes.append(name)
    try:
        yield "/".join(_local.scopes)
    finally:
        _local.scopes.pop()


def placeholder(name: str, shape: ShapeLike = (), dtype: DTypeLike = "float64") -> Expr:
    """Declare an array that is given at each call.

    Args:
        name: Its name, unique in the graph.
        shape: One entry per axis: an integer, a name such as ``"n"`` (the same name is the same size
            everywhere), or a polynomial of names (``"n+1"``, ``x.shape[0] * 2``).
        dtype: float32, float64, an integer type or bool.

    Raises:
        GraphError: the name is taken or the graph is frozen.
        ShapeError, DTypeError: the shape or the dtype is not one.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph():
        ...     sg.placeholder("X", ("n", 3))
        <placeholder X: float64[n,3]>
    """
    graph = default_graph()
    full, node = graph._declare_leaf(PLACEHOLDER, name, array_type(dtype, shape))
    graph._placeholders[full] = node
    return node


def variable(
    initial_value: Any, name: str | None = None, dtype: DTypeLike | None = None, trainable: bool = True
) -> Expr:
    """Declare state: an array that keeps its value between runs, in a session.

    Args:
        initial_value: A number or array; what the variable holds when a session opens.
        name: Its name, unique in the graph; made up when None.
        dtype: Its element type; that of the initial value when None.
        trainable: Whether optimisers update it unless they are told which variables to update.

    Raises:
        GraphError: the name is taken or the graph is frozen.
        ShapeError, DTypeError: the initial value is a node, or has no supported dtype.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph():
        ...     sg.variable([[1.0, 2.0]], name="W")
        <variable W: float64[1,2]>
    """
    if isinstance(initial_value, Expr):
        literal = initial_value.attrs[0] if initial_value.op.name == "constant" else None
        if literal is None:
            raise ShapeError(at_user_line(f"variable: the initial value is an array of numbers, not {initial_value!r}"))
        initial_value = literal.array
    value = constant(initial_value, dtype)
    if value.op.name != "constant":
        raise DTypeError(at_user_line(f"variable: the initial value is an array of numbers, not {initial_value!r}"))
    graph = default_graph()
    full, node = graph._declare_leaf(VARIABLE, graph._unique_name("variable") if name is None else name, value.type)
    graph._variables[full] = node
    graph._initial[node] = value.attrs[0].array
    if trainable:
        graph._trainable.append(node)
    return node


def named_constant(value: Any, dtype: DTypeLike | None = None, name: str | None = None) -> Expr:
    """Return a constant node; plain numbers and NumPy arrays are accepted wherever a node is.

    Args:
        value: A number or anything NumPy makes an array of; it is copied.
        dtype: The element type; NumPy's choice for the value when None.
        name: A name for it in the graph.

    Raises:
        DTypeError: the value has no supported dtype, or does not fit into the one asked for.

    Example:
        >>> import symgraph as sg
        >>> sg.constant([1.0, 2.0])
        <constant array of shape (2,): float64[2]>
    """
    node = constant(value, dtype)
    if name is not None:
        default_graph().add_name(name, node)
    return node
