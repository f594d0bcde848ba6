"""What a function and a session have in common: outputs and updates computed from inputs and variables."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import count
from typing import Any

from symgraph import dims
from symgraph.arraytype import format_shape
from symgraph.dims import Dim
from symgraph.errors import (
    ArgumentError,
    DeclarationError,
    DTypeError,
    GraphError,
    ShapeError,
    SizeError,
    at_user_line,
    declared_at,
)
from symgraph.expr import PLACEHOLDER, VARIABLE, Expr, Namespace, topological
from symgraph.interpret import check_requirements
from symgraph.op import Kind
from symgraph.options import Options
from symgraph.runtime.door import Door
from symgraph.runtime.glue import Call, Result, write
from symgraph.runtime.program import Program, build_program
from symgraph.runtime.values import Values, copied


class Computation:
    """Outputs and updates, checked once, and the program that computes them, built when first needed.

    Args:
        name: What messages call it, and (without what stands before a dot) the program.
        inputs: The nodes whose values are given at each run.
        labels: What messages call them.
        outputs: The nodes to compute; each may occur more than once.
        updates: The new value of each variable that a run changes.
        backend: ``"numba"`` or ``"numpy"``.
        options: How the program is compiled.

    Raises:
        DeclarationError: a size that is needed is given by no input.
    """

    def __init__(
        self,
        name: str,
        inputs: Sequence[Expr],
        labels: Sequence[str],
        outputs: Sequence[Expr],
        updates: Mapping[Expr, Expr],
        backend: str,
        options: Options,
    ) -> None:
        self.inputs = tuple(inputs)
        self._name, self._backend, self._options = name, backend, options
        self._labels = tuple(labels)
        self.admit = Door(name, inputs, labels).admit
        targets = [*outputs, *updates.values()]
        order = topological(targets, stop=set(inputs))
        given = set(inputs)
        self.variables = tuple(node for node in order if node.op is VARIABLE and node not in given)
        _check_sizes(name, order, inputs)
        self._requirements = [node for node in order if node not in given and _has_requirement(node)]
        self._conditions = _conditions(self._requirements)
        self._sizes_fit = _sizes_fit(self._conditions)
        self._written = tuple(updates)
        self._count = len(outputs)
        needed = set(order)
        passed = [i for i, node in enumerate(inputs) if node in needed]
        self._taken = passed
        self._passed = passed if len(passed) < len(inputs) else None
        self._program_inputs = [*[inputs[i] for i in passed], *self.variables]
        available = {node: i for i, node in enumerate(self._program_inputs)}
        computed: dict[Expr, int] = {}
        for node in targets:
            if node not in available:
                computed.setdefault(node, len(computed))
        self._program_outputs = list(computed)
        self._results = [
            Result(True, available[node]) if node in available else Result(False, computed[node]) for node in targets
        ]
        self._replaceable = self._find_replaceable()
        # None when results are handed on as the program gives them.
        self._sources = None if self._results == [(False, i) for i in range(len(computed))] else self._results
        self._program: Program | None = None
        self._lock = threading.Lock()

    @property
    def program(self) -> Program:
        """The program; built on first use."""
        if self._program is None:
            with self._lock:
                if self._program is None:
                    self._program = build_program(
                        self._backend,
                        self._program_inputs,
                        self._program_outputs,
                        self._options,
                        self._name.rpartition(".")[2],
                        self._replaceable,
                    )
        return self._program

    def run(self, values: Sequence[Any], store: Values | None) -> list[Any]:
        """Return the outputs, as arrays that nobody else holds, and write the updates.

        Everything is computed from the variables' values before the run; they change together, after
        all has succeeded, or not at all.

        Raises:
            ArgumentError, SizeError: as ``Door.admit``.
            SizeError: an operation's requirement does not hold for these sizes.
        """
        admitted, sizes = self.admit(*values)
        if self._sizes_fit is not None and not self._sizes_fit(**sizes):
            check_requirements(self._requirements, sizes)
        if self._passed is not None:
            admitted = [admitted[i] for i in self._passed]
        program = self.program if self._program_outputs else None
        with store.lock if store is not None and self._written else nullcontext():
            values = admitted
            if store is not None:
                changed = [self._program_inputs[i] for i in program.in_place.values()] if program is not None else ()
                values = [*admitted, *store.read(self.variables, changed)]
            given = [copied(values[i]) for is_given, i in self._results if is_given]

            def finish(computed: list[Any]) -> list[Any]:
                results = self._collect(given, computed)
                if store is not None and self._written:
                    store.write(dict(zip(self._written, results[self._count :], strict=True)))
                return results[: self._count]

            return finish([]) if program is None else program.run(values, sizes, finish)

    def checked_sizes(self, name: str, sizes: Mapping[str, Any], needed: frozenset[str]) -> dict[str, int]:
        """Return numbers for the sizes of the inputs.

        Raises:
            ArgumentError: a size is unknown, a needed one is missing, or one is no integer.
            SizeError: one is negative, or does not fit an operation.
        """
        known = sorted(frozenset[str]().union(*[dims.names(size) for node in self.inputs for size in node.shape]))
        listed = f"the sizes are {', '.join(known)}" if known else "no size has a name"
        for wrong, names in [("unknown", sizes.keys() - set(known)), ("missing", needed - sizes.keys())]:
            if names:
                plural = "s" if len(names) > 1 else ""
                raise ArgumentError(f"{name}: {wrong} size{plural} {', '.join(sorted(names))} ({listed})")
        checked: dict[str, int] = {}
        for size, number in sizes.items():
            try:
                checked[size] = operator.index(number)
            except TypeError:
                raise ArgumentError(f"{name}: the size {size} is an integer, not {number!r}") from None
            if checked[size] < 0:
                raise SizeError(f"{name}: the size {size} is negative: {checked[size]}")
        check_requirements(self._requirements, checked)
        return checked

    def straight(
        self, parts: Sequence[Any], outputs: Any, general: Callable[..., Any], store: Values | None
    ) -> Callable[..., Any]:
        """Return what ordinary calls take instead of the way through ``run``: machine code called at once.

        It is worth asking for after the first run, when the machine code exists.

        Args:
            parts: The structures of the arguments by position, with the inputs as leaves, in order.
            outputs: The structure of the results, with None where there is nothing to compute.
            general: Takes the same arguments, and every unusual one.
            store: Where the variables live.

        Returns:
            Just ``general`` where there is no straight line, as for what is interpreted.
        """
        entry = self.program.entry() if self._program_outputs else None
        if entry is None:
            return general
        results = [Result(given, self._place(i) if given else i) for given, i in self._results]
        call = Call(parts, self._labels, self._conditions, self._taken, self.variables, outputs, self._written, results)
        written = write(call, entry, general, store)
        return general if written is None else written[1]

    def _place(self, i: int) -> int:
        """Return where the program's i-th input stands among the inputs and then the variables."""
        return self._taken[i] if i < len(self._taken) else len(self.inputs) + i - len(self._taken)

    def _find_replaceable(self) -> list[tuple[int, int]]:
        """Return the positions of outputs that are variables' new values, with those of the variables as inputs."""
        arrays = [i for is_given, i in self._results if not is_given and self._program_outputs[i].ndim]
        if len(set(arrays)) < len(arrays):  # then copies are made afterwards, for which there may be no memory
            return []
        places = dict(zip(self.variables, count(len(self._taken)), strict=False))
        news = zip(self._written, self._results[self._count :], strict=True)
        return [(i, places[variable]) for variable, (is_given, i) in news if not is_given and variable in places]

    def _collect(self, given: Sequence[Any], computed: list[Any]) -> list[Any]:
        if self._sources is None:
            return computed
        copies = iter(given)
        handed_out: set[int] = set()
        results = []
        for is_given, i in self._sources:
            if is_given:
                results.append(next(copies))
            else:
                results.append(copied(computed[i]) if i in handed_out else computed[i])
                handed_out.add(i)
        return results


def missing_placeholders(outputs: Sequence[Expr], inputs: Iterable[Expr]) -> Iterator[tuple[Expr, Expr]]:
    """Return each placeholder that is needed and not given, with the first output that needs it."""
    given = set(inputs)
    missing = {node for node in topological(outputs, stop=given) if node.op is PLACEHOLDER} - given
    for output in outputs:
        if not missing:
            return
        for node in topological([output], stop=given):
            if node in missing:
                missing.remove(node)
                yield node, output


def check_input(node: Any, what: str) -> Expr:
    """Check that a value may be given for a node.

    Raises:
        DeclarationError: it is no node, or a constant: equal constants are one node, so that giving one a
            value would change others that happen to be equal.
    """
    if not isinstance(node, Expr):
        raise DeclarationError(at_user_line(f"{what} is not a node: {node!r}"))
    if node.op.kind is Kind.LEAF and node.op not in (PLACEHOLDER, VARIABLE):
        hint = "declare a placeholder to give values to"
        raise DeclarationError(at_user_line(f"{what} is a constant ({node!r}); {hint}"))
    return node


def check_updates(what: str, updates: Mapping[Any, Expr]) -> None:
    """Check that each expression can become the value of its variable.

    Raises:
        DeclarationError: a key is not a variable.
        ShapeError, DTypeError: a shape or dtype differs.
    """
    for variable, expression in updates.items():
        if not isinstance(variable, Expr) or variable.op is not VARIABLE:
            raise DeclarationError(at_user_line(f"{what}: only a variable can be updated, not {variable!r}"))
        name = variable.attrs[0]
        if expression.shape != variable.shape:
            raise ShapeError(
                at_user_line(
                    f"{what}: the update of {name} has shape {format_shape(expression.shape)}, "
                    f"the variable {format_shape(variable.shape)}"
                )
            )
        if expression.dtype != variable.dtype:
            raise DTypeError(
                at_user_line(f"{what}: the update of {name} is {expression.dtype}, the variable {variable.dtype}")
            )


def common_graph(what: str, nodes: Iterable[Expr]) -> Namespace | None:
    """Return the graph that nodes belong to, None when they are constants.

    Raises:
        GraphError: they belong to different graphs.
    """
    graph: Namespace | None = None
    first: Expr | None = None
    for node in nodes:
        if node.graph is not None and node.graph is not graph:
            if first is not None:
                raise GraphError(at_user_line(f"{what}: {first!r} and {node!r} belong to different graphs"))
            graph, first = node.graph, node
    return graph


def _check_sizes(name: str, order: Iterable[Expr], inputs: Sequence[Expr]) -> None:
    given = set(inputs)
    known = frozenset[str]().union(*[dims.names(size) for node in inputs for size in node.shape])
    checked: set[Dim] = set()
    for node in order:
        for size in dims.sizes_in((node.shape, node.attrs)):
            if size not in checked and node not in given:
                checked.add(size)
                if unknown := dims.names(size) - known:
                    shown = ", ".join(sorted(unknown))
                    message = f"{name}: the size {shown} of {node!r} is given by no input"
                    raise DeclarationError(declared_at(message, node.location))


def _conditions(nodes: Sequence[Expr]) -> dict[str, frozenset[str]]:
    """Return what nodes require of sizes, as Python says it, with the names it mentions."""
    return {
        f"{requirement.size} {requirement.relation}": dims.names(requirement.size)
        for node in nodes
        for requirement in node.op.requires(*[arg.type for arg in node.args], *node.attrs)  # type: ignore[misc]
    }


def _sizes_fit(conditions: Mapping[str, frozenset[str]]) -> Callable[..., bool] | None:
    """Return a test of conditions on sizes, written out: a loop over them costs more than small programs."""
    if not conditions:
        return None
    names = sorted(frozenset().union(*conditions.values()))
    test: Callable[..., bool] = eval(f"lambda {', '.join([*names, '**_'])}: {' and '.join(conditions)}")
    return test


def _has_requirement(node: Expr) -> bool:
    if node.op.requires is None:
        return False
    needed = node.op.requires(*[arg.type for arg in node.args], *node.attrs)
    return any(dims.names(requirement.size) for requirement in needed)
