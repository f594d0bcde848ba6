"""Sessions: where variables have values, and graphs are run by naming what to fetch."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakValueDictionary

from symgraph.errors import ArgumentError, DeclarationError, GraphError, at_user_line
from symgraph.expr import PLACEHOLDER, VARIABLE, Expr
from symgraph.graph import Graph, default_graph
from symgraph.options import Options, checked_options
from symgraph.runtime.computation import Computation, check_input, common_graph, missing_placeholders
from symgraph.runtime.door import Door
from symgraph.runtime.program import check_backend
from symgraph.runtime.values import Values, copied
from symgraph.structure import flatten, restore

_REMEMBERED_PROGRAMS = 128


@dataclass(frozen=True, eq=False)
class Assignment:
    """New values of variables that a run writes together when it is fetched.

    Attributes:
        name: What it is called.
        updates: The expression of each variable's new value.
    """

    name: str
    updates: Mapping[Expr, Expr]

    def __repr__(self) -> str:
        return f"<{self.name} of {', '.join(variable.attrs[0] for variable in self.updates)}>"


class Session:
    """Holds the values of a graph's variables and runs parts of the graph.

    Entered with ``with``, it is the default session of its graph, and its graph is the default graph; on
    leaving it is closed. Any number of sessions of a graph may exist, each with its own values. A session
    may be used from many threads: runs that update variables follow one another.

    Args:
        graph: Whose variables it holds; the default graph when None.
        backend: ``"numba"`` compiles what is run; ``"numpy"`` interprets it.
        options: How programs are compiled.

    Raises:
        DeclarationError: the graph is not one, or there is no such backend.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph() as graph:
        ...     x = sg.placeholder("x", ("n",))
        ...     w = sg.variable(2.0, name="w")
        ...     y = x * w
        >>> with sg.Session(graph, backend="numpy") as session:
        ...     session.run({"y": y, "w": w}, {x: [1.0, 2.0]})
        {'y': array([2., 4.]), 'w': np.float64(2.0)}
    """

    def __init__(self, graph: Graph | None = None, *, backend: str = "numba", options: Options | None = None) -> None:
        if graph is not None and not isinstance(graph, Graph):
            raise DeclarationError(at_user_line(f"Session: a graph is expected, not {graph!r}"))
        check_backend(backend)
        self.graph = default_graph() if graph is None else graph
        self.values = Values(self.graph)
        self._backend = backend
        self._options = checked_options(options)
        # Fetches in different structures share a program; it stays as long as one of them is remembered.
        self._programs: WeakValueDictionary[tuple[Any, ...], Computation] = WeakValueDictionary()
        self._runs: OrderedDict[tuple[Any, ...], _Run] = OrderedDict()

    def run(self, fetches: Any, feed_dict: Mapping[Any, Any] | None = None) -> Any:
        """Compute what is fetched, and return it in the same structure.

        Only what is needed for it runs, each node once. All variables are read before any is written.

        Args:
            fetches: Nodes, names of nodes, and train operations (whose results are None), in any nesting
                of lists, tuples and dicts.
            feed_dict: Values of placeholders, or of any other node but a constant, by node or name. They
                hold for this run only.

        Returns:
            New arrays, NumPy scalars where a node has no axes.

        Raises:
            ArgumentError: a placeholder that is needed is not fed; something is fetched or fed that cannot
                be; a value is not of the declared dtype.
            SizeError: a value has not the declared rank or size.
            CallError: the session is closed.

        Example:
            >>> import symgraph as sg
            >>> with sg.Graph() as graph:
            ...     x = sg.placeholder("x")
            ...     y = x * x
            ...     z = y + 1
            >>> session = sg.Session(graph, backend="numpy")
            >>> session.run([z, "x"], {x: 3.0}), session.run(z, {y: 1.0})
            ([np.float64(10.0), np.float64(3.0)], np.float64(2.0))
        """
        feeds = {} if feed_dict is None else feed_dict
        if type(feeds) is not dict and not isinstance(feeds, Mapping):
            raise ArgumentError(f"Session.run: feed_dict is a dict {{node: value}}, not {feeds!r}")
        key = (_form(fetches), *feeds)
        run = self._runs.get(key)
        if run is None:
            run = self._prepare(fetches, feeds)
        with self.values.lock:
            self.values.check_open()
            self._runs[key] = run
            self._runs.move_to_end(key)
            if len(self._runs) > _REMEMBERED_PROGRAMS:
                self._runs.popitem(last=False)
        return run(*feeds.values())

    def make_callable(self, fetches: Any, feed_list: Sequence[Any] = ()) -> Callable[..., Any]:
        """Return a function of the values of the nodes in feed_list, which runs the fetches.

        Args:
            fetches: As for :meth:`run`.
            feed_list: Nodes, or names of nodes; the function takes their values in this order.

        Raises:
            ArgumentError: as :meth:`run`, and when the function is called with another number of values.

        Example:
            >>> import symgraph as sg
            >>> with sg.Graph() as graph:
            ...     x = sg.placeholder("x")
            >>> square = sg.Session(graph, backend="numpy").make_callable(x * x, [x])
            >>> square(3.0)
            np.float64(9.0)
        """
        count = len(feed_list)
        run = self._prepare(fetches, feed_list)

        def call(*values: Any) -> Any:
            if len(values) != count:
                raise ArgumentError(f"Session.make_callable: {count} values are expected, got {len(values)}")
            self.values.check_open()
            return run(*values)

        return call

    def value(self, variable: Any) -> Any:
        """Return a copy of the value of a variable, given as a node or by its name.

        Raises:
            ArgumentError: it is not a variable of this graph.
            CallError: the session is closed.
        """
        node = self._variable(variable)
        self.values.check_open()
        (value,) = self.values.read([node])
        return copied(value)

    __getitem__ = value

    def assign(self, variable: Any, value: Any) -> None:
        """Give a variable, named by its node or its name, another value.

        Raises:
            ArgumentError: it is not a variable of this graph, or the value is not of its dtype.
            SizeError: the value has not the variable's shape.
            CallError: the session is closed.
        """
        node = self._variable(variable)
        self.values.check_open()
        (admitted,), _ = Door("Session.assign", [node], [node.attrs[0]]).admit(value)
        self.values.write({node: copied(admitted)})

    def close(self) -> None:
        """Let go of all values and programs; the session cannot be used any more."""
        with self.values.lock:
            self.values.close()
            self._programs.clear()
            self._runs.clear()

    def __enter__(self) -> Self:
        self.values.check_open()
        self.graph.__enter__()
        _open.sessions.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        _open.sessions.remove(self)
        self.graph.__exit__(*exception)
        self.close()

    def __repr__(self) -> str:
        return f"<{'closed ' if self.values.closed else ''}Session of {self.graph!r}>"

    def _prepare(self, fetches: Any, feeds: Iterable[Any]) -> _Run:
        leaves = [self._fetchable(leaf) for leaf in flatten(fetches)]
        nodes = self._feeds(feeds)
        return _Run(self.values, fetches, leaves, nodes, self._computation(leaves, nodes))

    def _computation(self, leaves: Sequence[Expr | Assignment], fed: Sequence[Expr]) -> Computation:
        key = (*leaves, None, frozenset(fed))
        with self.values.lock:
            self.values.check_open()
            found = self._programs.get(key)
            if found is None:
                found = self._programs[key] = self._build(leaves, fed)
            return found

    def _build(self, leaves: Sequence[Expr | Assignment], fed: Sequence[Expr]) -> Computation:
        outputs = [leaf for leaf in leaves if isinstance(leaf, Expr)]
        updates = _merged_updates(leaves)
        targets = [*outputs, *updates.values()]
        for placeholder, target in missing_placeholders(targets, fed):
            needed_by = "" if placeholder is target else f", which {self._fetch_name(leaves, target)} needs"
            raise ArgumentError(f"Session.run: no value is fed for {placeholder!r}{needed_by}")
        labels = [node.attrs[0] if node.op in (PLACEHOLDER, VARIABLE) else repr(node) for node in fed]
        return Computation("Session.run", fed, labels, outputs, updates, self._backend, self._options)

    def _fetch_name(self, leaves: Sequence[Expr | Assignment], target: Expr) -> str:
        for leaf in leaves:
            if isinstance(leaf, Assignment) and any(target is update for update in leaf.updates.values()):
                return repr(leaf)
        name = self.graph.name_of(target)
        shown = repr(target) if name is None else f"{name} {target!r}"
        return shown if target.location is None else f"{shown} (declared at {target.location})"

    def _fetchable(self, leaf: Any) -> Expr | Assignment:
        if isinstance(leaf, Assignment):
            common = common_graph("Session.run", leaf.updates)
            if common is not self.graph:
                raise GraphError(f"Session.run: {leaf!r} belongs to another graph than the session")
            return leaf
        return self._node(leaf, "fetched", "nodes, names and train operations")

    def _feeds(self, keys: Iterable[Any]) -> list[Expr]:
        found: dict[Expr, None] = {}
        for key in keys:
            node = self._node(key, "fed", "nodes and names")
            try:
                check_input(node, "what is fed")
            except DeclarationError as error:
                raise ArgumentError(f"Session.run: {error}") from None
            if node in found:
                raise ArgumentError(f"Session.run: {node!r} is fed twice")
            found[node] = None
        return list(found)

    def _node(self, key: Any, what: str, allowed: str) -> Expr:
        if isinstance(key, str):
            node = self.graph.names.get(key)
            if node is None:
                raise ArgumentError(f"Session.run: no node of the graph is named {key!r}")
            return node
        if not isinstance(key, Expr):
            raise ArgumentError(f"Session.run: {allowed} can be {what}, not {key!r}")
        if key.graph is not None and key.graph is not self.graph:
            raise GraphError(f"Session.run: {key!r} belongs to another graph than the session")
        return key

    def _variable(self, variable: Any) -> Expr:
        node = self.graph.variables.get(variable) if isinstance(variable, str) else variable
        if not isinstance(node, Expr) or node.op is not VARIABLE or node.graph is not self.graph:
            raise ArgumentError(f"{variable!r} is not a variable of the session's graph")
        return node


class _Run:
    """What is fetched for what is fed, ready to be run again: a function of the values fed, in order."""

    def __init__(
        self,
        values: Values,
        fetches: Any,
        leaves: Sequence[Expr | Assignment],
        fed: Sequence[Expr],
        computation: Computation,
    ) -> None:
        order = None if computation.inputs == tuple(fed) else [fed.index(node) for node in computation.inputs]
        results = restore(fetches, [leaf if isinstance(leaf, Expr) else None for leaf in leaves])
        is_node = [isinstance(leaf, Expr) for leaf in leaves]

        def general(*given: Any) -> Any:
            values.check_open()
            ordered = given if order is None else [given[i] for i in order]
            computed = iter(computation.run(ordered, values))
            return restore(results, [next(computed) if node else None for node in is_node])

        def straight() -> Callable[..., Any]:
            return general if order else computation.straight(computation.inputs, results, general, values)

        self._general, self._straight = general, straight
        self._ordinary: Callable[..., Any] | None = None

    def __call__(self, *given: Any) -> Any:
        if self._ordinary is not None:
            return self._ordinary(*given)
        results = self._general(*given)
        self._ordinary = self._straight()
        return results


def _form(fetches: Any) -> Any:
    """Return what identifies fetches: the nodes and names, in their structure."""
    kind = type(fetches)
    if kind is Expr or kind is str or isinstance(fetches, Assignment):
        return fetches
    if isinstance(fetches, list | tuple):
        return (kind, *[_form(item) for item in fetches])
    if isinstance(fetches, Mapping):
        return (dict, *fetches, *[_form(item) for item in fetches.values()])
    return None  # what cannot be fetched is refused before this is remembered


def _merged_updates(leaves: Sequence[Expr | Assignment]) -> dict[Expr, Expr]:
    merged: dict[Expr, Expr] = {}
    for leaf in leaves:
        if isinstance(leaf, Assignment):
            for variable, expression in leaf.updates.items():
                if merged.setdefault(variable, expression) is not expression:
                    raise ArgumentError(f"Session.run: {variable!r} is updated twice, the second time by {leaf!r}")
    return merged


class _Open(threading.local):
    def __init__(self) -> None:
        self.sessions: list[Session] = []


_open = _Open()
_default_lock = threading.Lock()


def default_session(graph: Graph) -> Session:
    """Return the innermost open session of a graph, else the one session that the graph has by itself."""
    for session in reversed(_open.sessions):
        if session.graph is graph:
            return session
    with _default_lock:
        if not isinstance(graph.own_session, Session):
            graph.own_session = Session(graph)
        return graph.own_session
