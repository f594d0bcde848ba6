"""What computes: a program built from a graph by a backend."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from symgraph.compile.entry import Entry
from symgraph.errors import CallError, DeclarationError, at_user_line
from symgraph.expr import Expr, topological
from symgraph.interpret import interpret
from symgraph.op import Kind
from symgraph.options import Options

if TYPE_CHECKING:  # it needs Numba
    from symgraph.compile.memory import Memory

T = TypeVar("T")
BACKENDS = ("numba", "numpy")


class Program(Protocol):
    """Computes the outputs of a graph from values for its inputs."""

    @property
    def source(self) -> str:
        """The text that is run."""

    @property
    def loops(self) -> str:
        """The loop program, printed."""

    @property
    def in_place(self) -> Mapping[int, int]:
        """Positions of outputs that are written over inputs, each with that of the input."""

    def memory(self) -> Memory:
        """Return the planned memory, by the names of sizes."""

    def entry(self) -> Entry | None:
        """Return the machine code as it is after the first run; None where there is none."""

    def run(self, values: Sequence[Any], sizes: dict[str, int], finish: Callable[[list[Any]], T]) -> T:
        """Return what is made of the outputs: new arrays (NumPy scalars for those without axes) that share no memory.

        Args:
            values: For each input an array as ``Door.admit`` returns it. None is written to, except that those
                which ``in_place`` names become outputs, when nothing has failed.
            sizes: What the names of sizes stand for.
            finish: Takes the outputs. It is called whenever inputs have been written over, even if an interrupt from
                the keyboard arrives in the meantime; again, should that be while it is at work.
        """


def check_backend(backend: str) -> None:
    """Check that a backend exists.

    Raises:
        DeclarationError: there is none of that name.
    """
    if backend not in BACKENDS:
        known = " or ".join(repr(name) for name in BACKENDS)
        raise DeclarationError(at_user_line(f"the backend is {known}, not {backend!r}"))


def build_program(
    backend: str,
    inputs: Sequence[Expr],
    outputs: Sequence[Expr],
    options: Options,
    name: str,
    updates: Sequence[tuple[int, int]] = (),
) -> Program:
    """Return the program of a backend; Numba is imported only when it is the one.

    Args:
        backend: ``"numba"`` or ``"numpy"``.
        inputs, outputs: Nodes.
        options: How the program is compiled.
        name: What it is called.
        updates: Positions of outputs, each with that of the input that it may be written over.
    """
    if backend == "numpy":
        return NumpyProgram(inputs, outputs, name)
    pipeline = importlib.import_module("symgraph.compile.pipeline")
    program: Program = pipeline.build(inputs, outputs, options, name, updates)
    return program


class NumpyProgram:
    """Interprets the graph with NumPy, node by node: the reference for compiled programs."""

    def __init__(self, inputs: Sequence[Expr], outputs: Sequence[Expr], name: str) -> None:
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._name = name
        self.in_place: Mapping[int, int] = MappingProxyType({})

    def run(self, values: Sequence[Any], sizes: dict[str, int], finish: Callable[[list[Any]], T]) -> T:
        """Return what is made of the outputs, which are new arrays."""
        results = interpret(self._outputs, dict(zip(self._inputs, values, strict=True)), sizes)
        taken = {id(value) for value in values}
        return finish([_fresh(result, taken) for result in results])

    @property
    def source(self) -> str:
        """One line for each operation, in the order they are interpreted."""
        names = {node: node.attrs[0] if node.op.kind is Kind.LEAF else f"a{i}" for i, node in enumerate(self._inputs)}
        lines: list[str] = []
        for node in topological(self._outputs, stop=set(self._inputs)):
            if node not in names:
                names[node] = f"v{len(lines)}"
                arguments = [names[arg] for arg in node.args] + [repr(attribute) for attribute in node.attrs]
                lines.append(f"    {names[node]} = {node.op.name}({', '.join(arguments)})  # {node.type}")
        parameters = ", ".join(names[node] for node in self._inputs)
        results = ", ".join(names[node] for node in self._outputs)
        return "\n".join([f"{self._name}({parameters}):", *lines, f"    return {results}", ""])

    @property
    def loops(self) -> str:
        """The same text: what is interpreted has no loops of its own."""
        return self.source

    def memory(self) -> Memory:
        """Refuse: NumPy allocates as it goes.

        Raises:
            CallError: always.
        """
        raise CallError(f"{self._name}: memory is planned for compiled functions only (backend='numba')")

    def entry(self) -> None:
        """Return None: what is interpreted has no machine code."""


def _fresh(result: Any, taken: set[int]) -> Any:
    """Return an array that owns its memory and is nobody else's."""
    if not isinstance(result, np.ndarray):
        return result
    flags = result.flags
    if id(result) in taken or not (flags.owndata and flags.carray):
        return result.copy()
    taken.add(id(result))
    return result
