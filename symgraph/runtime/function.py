"""Compiled functions: a graph's outputs as a Python function of its inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from keyword import iskeyword
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from symgraph.errors import ArgumentError, DeclarationError, GraphError, at_user_line
from symgraph.expr import PLACEHOLDER, VARIABLE, Expr, constant
from symgraph.graph import Graph
from symgraph.options import Options, checked_options
from symgraph.runtime.computation import Computation, check_input, check_updates, common_graph, missing_placeholders
from symgraph.runtime.program import check_backend
from symgraph.runtime.session import Session, default_session
from symgraph.structure import flatten, paths, restore

if TYPE_CHECKING:  # it needs Numba
    from symgraph.compile.memory import Memory


def function(
    inputs: Any,
    outputs: Any,
    *,
    updates: Mapping[Expr, Any] | None = None,
    backend: str = "numba",
    session: Session | None = None,
    name: str | None = None,
    options: Options | None = None,
) -> Function:
    """Return a function that computes outputs, and updates of variables, from inputs.

    The graph is checked at once; it is compiled when the function is first called, or its source is
    first asked for.

    Args:
        inputs: Placeholders, or any other nodes, in any nesting of lists, tuples and dicts.
        outputs: Nodes, numbers, arrays and None, in any nesting; results come back in it.
        updates: For each variable that a call changes, the expression of its new value. Outputs and
            updates are computed from the values before the call, and written together after it.
        backend: ``"numba"`` compiles; ``"numpy"`` interprets the same graph and is the reference.
        session: Where variables live; when None, the innermost session that is open for the graph where
            the function is made, else the one session that the graph has by itself.
        name: What the function is called in messages and in the emitted source.
        options: How it is compiled.

    Raises:
        DeclarationError: an input is missing, given twice, or not a node; a size is given by no input.
        ShapeError, DTypeError: an update does not fit its variable.
        GraphError: nodes, or the session, belong to different graphs.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph():
        ...     x, w = sg.placeholder("x", ("n",)), sg.placeholder("w", ("n",))
        >>> f = sg.function([x, {"w": w}], [x + w, sg.sum(x * w)], backend="numpy")
        >>> f([1.0, 2.0], {"w": [3.0, 4.0]})
        [array([4., 6.]), np.float64(11.0)]
        >>> f(w=[0.0, 0.0], x=[5.0, 6.0])[0]
        array([5., 6.])
    """
    return Function(inputs, outputs, updates, backend, session, name, options)


class Function:
    """A function made by :func:`symgraph.function`; it may be called from many threads.

    Arguments are given by position, in the structure of the inputs, or by name; they are checked once
    and never written to. Results are new arrays, NumPy scalars where an output has no axes.

    Attributes:
        name: What it is called.
        inputs, outputs: The structures it was made from.
        updates: The new value of each variable that a call changes.
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        updates: Mapping[Expr, Any] | None,
        backend: str,
        session: Session | None,
        name: str | None,
        options: Options | None,
    ) -> None:
        check_backend(backend)
        self.name = _checked_name(name)
        self.inputs, self.outputs = inputs, outputs
        nodes = [
            check_input(node, f"{self.name}: {path}")
            for node, path in zip(flatten(inputs), paths(inputs, "inputs"), strict=True)
        ]
        _refuse_duplicates(self.name, nodes, paths(inputs, "inputs"))
        fetched = [None if leaf is None else _as_output(self.name, leaf) for leaf in flatten(outputs)]
        results = [leaf for leaf in fetched if leaf is not None]
        self.updates = MappingProxyType(_checked_updates(self.name, updates))
        targets = [*results, *self.updates.values()]
        graph = common_graph(self.name, [*nodes, *targets, *self.updates])
        _refuse_missing(self.name, targets, nodes)
        labels = [
            node.attrs[0] if node.op in (PLACEHOLDER, VARIABLE) else path
            for node, path in zip(nodes, paths(inputs, "inputs"), strict=True)
        ]
        self._computation = Computation(
            self.name, nodes, labels, results, self.updates, backend, checked_options(options)
        )
        self._session = self._chosen_session(graph, session)
        self._signature = _Signature(self.name, inputs, nodes, labels)
        self._count = len(self._signature.parts)
        self._results = restore(outputs, fetched)
        put_together = _restorer(outputs, [leaf is None for leaf in fetched])
        self._general = _general(self._signature, self._computation, self._session, put_together)
        self._ordinary: Callable[..., Any] | None = None
        shown = ", ".join(f"{label}: {node.type}" for node, label in zip(nodes, labels, strict=True))
        types = restore(outputs, [None if leaf is None else leaf.type for leaf in fetched])
        self.__name__ = self.__qualname__ = self.name
        self.__doc__ = f"{self.name}({shown}) -> {types}"
        self.__signature__ = self._signature.python_signature()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs for these arguments."""
        if self._ordinary is None or kwargs or len(args) != self._count:
            return self._call(args, kwargs)
        return self._ordinary(*args)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        results = self._general(*args, **kwargs)
        if self._ordinary is None:
            values = None if self._session is None else self._session.values
            parts = self._signature.parts
            self._ordinary = self._computation.straight(parts, self._results, self._general, values)
        return results

    def __repr__(self) -> str:
        return f"<function {self.__doc__}>"

    @property
    def source(self) -> str:
        """The emitted module (for ``backend="numpy"`` the operations, in the order they are run)."""
        return self._computation.program.source

    @property
    def loops(self) -> str:
        """The loop program, printed."""
        return self._computation.program.loops

    def memory(self, *args: Any, **sizes: int) -> Memory:
        """Return how much memory a call takes, planned before it runs; it prints as a table.

        The formulas are for all sizes. Where there is little work it is divided into fewer parts, which takes less than
        they say: the numbers are for the sizes given.

        Args:
            *args: Arguments as for a call, whose sizes are meant.
            **sizes: Instead of them, the numbers that the names of sizes stand for. With neither, the formulas
                are returned without numbers.

        Raises:
            ArgumentError: a size is missing, unknown, or no number.
            SizeError: a size is negative; arguments do not fit.
            CallError: the function is interpreted (``backend="numpy"``), so that nothing is planned.

        Example:
            >>> import symgraph as sg
            >>> with sg.Graph():
            ...     x = sg.placeholder("x", ("n", "d"))
            >>> f = sg.function(x, sg.exp(x), options=sg.Options(threads=1))
            >>> f.memory(n=1000, d=20)
            memory in bytes              at most
            inputs              160,000  8*d*n
            constants                 0  0
            results             160,000  8*d*n
            scratch (shared)          0  0
            scratch per thread        0  0
            accumulators              0  0
            peak on 1 thread    160,000  8*d*n
        """
        planned = self._computation.program.memory()
        if args:
            if sizes:
                raise ArgumentError(f"{self.name}.memory: give arguments or sizes, not both")
            _, sizes = self._computation.admit(*self._signature.gather(args, {}))
        elif not sizes:
            return planned
        return planned.at(self._computation.checked_sizes(f"{self.name}.memory", sizes, planned.names()))

    @property
    def session(self) -> Session | None:
        """Where the variables live that the function reads or updates; None when there are none."""
        return self._session

    def _chosen_session(self, graph: Any, session: Session | None) -> Session | None:
        if not self._computation.variables and not self.updates:
            return None
        assert isinstance(graph, Graph)
        if session is None:
            return default_session(graph)
        if session.graph is not graph:
            raise GraphError(at_user_line(f"{self.name}: the variables belong to another graph than the session"))
        return session


class _Signature:
    """How the arguments of a call are found: by position, in the structure of the inputs, or by name."""

    def __init__(self, name: str, inputs: Any, nodes: Sequence[Expr], labels: Sequence[str]) -> None:
        self._name = name
        self.parts = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        self._labels = labels
        self.count = len(nodes)
        self.flat = all(isinstance(part, Expr) for part in self.parts)
        self._position = {label: i for i, label in enumerate(labels)}
        if isinstance(inputs, Mapping):
            for i, (key, part) in enumerate(inputs.items()):
                if isinstance(part, Expr) and isinstance(key, str):
                    self._position.setdefault(key, _first_leaf(inputs, i))
        starts = [0]
        for part in self.parts:
            starts.append(starts[-1] + len(flatten(part)))
        self._starts = starts

    def gather(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the arguments in the order of the inputs.

        Raises:
            ArgumentError: an argument is missing, unknown or given twice.
        """
        if len(args) > len(self.parts):
            raise self._wrong(f"takes {_counted(len(self.parts), 'argument')} by position, got {len(args)}")
        values: list[Any] = [_MISSING] * self.count
        for i, (part, value) in enumerate(zip(self.parts, args, strict=False)):
            found: list[Any] = []
            self._match(part, value, f"argument {i + 1}", found)
            values[self._starts[i] : self._starts[i + 1]] = found
        unknown = [key for key in kwargs if key not in self._position]
        if unknown:
            known = ", ".join(self._position) or "none"
            raise self._wrong(f"unknown {_listed('argument', unknown)} (the arguments are {known})")
        for key, value in kwargs.items():
            position = self._position[key]
            if values[position] is not _MISSING:
                raise self._wrong(f"argument {key} is given twice")
            values[position] = value
        missing = [label for label, value in zip(self._labels, values, strict=True) if value is _MISSING]
        if missing:
            raise self._wrong(f"missing {_listed('argument', missing)}")
        return tuple(values)

    def _match(self, structure: Any, value: Any, where: str, found: list[Any]) -> None:
        if isinstance(structure, Mapping):
            if not isinstance(value, Mapping):
                raise self._wrong(f"{where} is a dict with {_keys(structure)}, got {type(value).__name__}")
            unknown = [key for key in value if key not in structure]
            missing = [key for key in structure if key not in value]
            if missing or unknown:
                wrong = "missing" if missing else "unknown"
                raise self._wrong(f"{where} is a dict with {_keys(structure)}: {wrong} {_keys(missing or unknown)}")
            for key, part in structure.items():
                self._match(part, value[key], f"{where}[{key!r}]", found)
        elif isinstance(structure, list | tuple):
            if not isinstance(value, list | tuple) or len(value) != len(structure):
                got = f"{len(value)} items" if isinstance(value, list | tuple) else type(value).__name__
                raise self._wrong(f"{where} is a {type(structure).__name__} of {len(structure)} items, got {got}")
            for i, part in enumerate(structure):
                self._match(part, value[i], f"{where}[{i}]", found)
        else:
            found.append(value)

    def _wrong(self, message: str) -> ArgumentError:
        return ArgumentError(f"{self._name}({', '.join(self._labels)}): {message}")

    def python_signature(self) -> inspect.Signature:
        """Return the signature that ``help`` shows."""
        names: list[str] = []
        for i, part in enumerate(self.parts):
            label = self._labels[self._starts[i]] if isinstance(part, Expr) else ""
            shown = label if label.isidentifier() and not iskeyword(label) else f"argument_{i + 1}"
            names.append(shown if shown not in names else f"{shown}_")
        return inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names])


class _Missing:
    def __repr__(self) -> str:
        return "missing"


_MISSING = _Missing()


def _first_leaf(inputs: Mapping[Any, Any], index: int) -> int:
    return sum(len(flatten(part)) for part in list(inputs.values())[:index])


def _general(
    signature: _Signature, computation: Computation, session: Session | None, put_together: Callable[[list[Any]], Any]
) -> Callable[..., Any]:
    """Return what takes every call. It knows nothing of the function, which is freed when nobody holds it."""
    values = None if session is None else session.values

    def general(*args: Any, **kwargs: Any) -> Any:
        if kwargs or not signature.flat or len(args) != signature.count:
            args = signature.gather(args, kwargs)
        return put_together(computation.run(args, values))

    return general


def _keys(keys: Any) -> str:
    return "the keys " + ", ".join(repr(key) for key in keys) if len(keys) > 1 else f"the key {next(iter(keys))!r}"


def _listed(noun: str, names: Sequence[str]) -> str:
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _checked_name(name: str | None) -> str:
    if name is None:
        return "function"
    if not isinstance(name, str) or not name.isidentifier():
        raise DeclarationError(at_user_line(f"the name of a function is an identifier, not {name!r}"))
    return name


def _refuse_duplicates(name: str, nodes: Sequence[Expr], places: Sequence[str]) -> None:
    first: dict[Expr, str] = {}
    for node, place in zip(nodes, places, strict=True):
        if node in first:
            raise DeclarationError(at_user_line(f"{name}: {first[node]} and {place} are the same node, {node!r}"))
        first[node] = place


def _refuse_missing(name: str, targets: Sequence[Expr], nodes: Sequence[Expr]) -> None:
    missing = list(missing_placeholders(targets, nodes))
    if missing:
        listed = ", ".join(f"{leaf!r} (needed by {target!r})" for leaf, target in missing)
        raise DeclarationError(at_user_line(f"{name}: the inputs lack {listed}"))


def _as_output(name: str, leaf: Any) -> Expr:
    if isinstance(leaf, Expr):
        return leaf
    if isinstance(leaf, str | bytes):
        raise DeclarationError(at_user_line(f"{name}: an output is a node or a number, not {leaf!r}"))
    return constant(leaf)


def _checked_updates(name: str, updates: Mapping[Expr, Any] | None) -> dict[Expr, Expr]:
    if updates is None:
        return {}
    if not isinstance(updates, Mapping):
        raise DeclarationError(at_user_line(f"{name}: updates is a dict {{variable: expression}}, not {updates!r}"))
    found = {
        variable: value
        if isinstance(value, Expr)
        else constant(value, variable.dtype if isinstance(variable, Expr) else None)
        for variable, value in updates.items()
    }
    check_updates(name, found)
    return found


def _restorer(outputs: Any, absent: Sequence[bool]) -> Callable[[list[Any]], Any]:
    """Return what puts results into the structure of the outputs, planned once."""
    if not any(absent):
        if not isinstance(outputs, list | tuple | Mapping):
            return _only
        if type(outputs) in (list, tuple) and not any(isinstance(item, list | tuple | Mapping) for item in outputs):
            return tuple if type(outputs) is tuple else list

    def put_together(results: list[Any]) -> Any:
        remaining = iter(results)
        return restore(outputs, [None if none else next(remaining) for none in absent])

    return put_together


def _only(results: list[Any]) -> Any:
    return results[0]
