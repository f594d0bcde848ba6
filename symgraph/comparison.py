"""The static and the dynamic engine on the same function: the same numbers, and what each costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symgraph import eager
from symgraph.errors import ArgumentError, SymgraphError
from symgraph.expr import Expr
from symgraph.gradients import gradients
from symgraph.graph import Graph, placeholder
from symgraph.measure import format_seconds, race
from symgraph.ops.reductions import sum as sum_of
from symgraph.runtime.function import function
from symgraph.transcription import transcribe

Array = np.ndarray[Any, Any]
Step = Callable[[], tuple[Any, list[Any]]]

STATIC, DYNAMIC = "symgraph, static", "symgraph, dynamic"


@dataclass(frozen=True)
class Row:
    """One contestant: the median seconds of value and gradients, and how far its gradients are from the first's.

    Attributes:
        name: Which engine.
        seconds: Median time of one call.
        ratio: Median over rounds of its time over the static engine's.
        value_difference: Relative difference of the value.
        gradient_difference: Over all gradients, the largest difference relative to that gradient's largest entry.
    """

    name: str
    seconds: float
    ratio: float
    value_difference: float
    gradient_difference: float


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` measured; printed, it is a table.

    Attributes:
        title: What was compared.
        rows: One per engine, the static one first.
        first_call: Seconds of the static engine's first call: deriving, compiling or loading, and running.
    """

    title: str
    rows: tuple[Row, ...]
    first_call: float

    @property
    def speedup(self) -> float:
        """How many times faster the static engine is than the dynamic one."""
        return self.rows[1].ratio

    def __repr__(self) -> str:
        cells = [self.columns, *map(self.cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(
                text.ljust(width) if i == 0 else text.rjust(width)
                for i, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        return "\n".join([f"{self.title}: value and gradients", *lines, self.footnote])

    columns = ("engine", "time", "time / static", "gradient difference")

    @staticmethod
    def cells(row: Row) -> tuple[str, ...]:
        """Return a row as texts, one per column."""
        return (row.name, format_seconds(row.seconds), f"{row.ratio:.2f}", f"{row.gradient_difference:.1e}")

    @property
    def footnote(self) -> str:
        """What the static engine's preparation cost, once."""
        return f"first call of the static engine, with deriving and compiling: {format_seconds(self.first_call)}"


def compare(
    fn: Callable[..., Any],
    inputs: Sequence[Any] | Mapping[str, Any],
    *,
    wrt: Sequence[int | str] | None = None,
    others: Mapping[str, Step] | None = None,
    seconds: float = 1.0,
    title: str | None = None,
) -> Comparison:
    """Run a function by the static engine and by the dynamic one: value and gradients, checked, then timed.

    Args:
        fn: Takes one array per input and returns one number (more are summed). Written with operators and
            symgraph's or NumPy's functions, it is called with nodes and with eager tensors. One written for the
            dynamic engine alone, with PyTorch's names, is executed once, and the static graph made of its tape.
        inputs: The arrays, in order or by name.
        wrt: Which inputs to differentiate by, by position or name; all of floating-point dtype when None.
        others: Further contestants by name; each call returns the value and the list of gradients.
        seconds: How long the timing goes on for, about.
        title: What the table is called; the function's name when None.

    Raises:
        ArgumentError: an input to differentiate by does not exist, or there is none.
        SymgraphError: the function cannot be run by one of the engines; the message says by which.

    Example:
        >>> import numpy as np, symgraph as sg
        >>> result = sg.compare(lambda x: sg.sum(sg.sin(x) ** 2), [np.linspace(0, 1, 100)], seconds=0.1)
        >>> [row.name for row in result.rows], result.rows[1].gradient_difference < 1e-12
        (['symgraph, static', 'symgraph, dynamic'], True)
    """
    names = list(inputs) if isinstance(inputs, Mapping) else [f"input_{i}" for i in range(len(inputs))]
    arrays = [np.asarray(a) for a in (inputs.values() if isinstance(inputs, Mapping) else inputs)]
    chosen = _chosen(wrt, names, arrays)
    start = time.perf_counter()
    static = _named_step(STATIC, static_step, fn, names, arrays, chosen)
    expected = static()
    first_call = time.perf_counter() - start
    steps = {STATIC: static, DYNAMIC: _named_step(DYNAMIC, dynamic_step, fn, names, arrays, chosen), **(others or {})}
    results = {name: step() for name, step in steps.items()}
    timings = race(steps, seconds)
    rows = tuple(
        Row(name, *timings[name], _difference([results[name][0]], [expected[0]]), _difference(gradient, expected[1]))
        for name, (_, gradient) in results.items()
    )
    return Comparison(title or getattr(fn, "__name__", "function").replace("<lambda>", "function"), rows, first_call)


def static_step(fn: Callable[..., Any], names: Sequence[str], arrays: Sequence[Array], wrt: Sequence[int]) -> Step:
    """Return a call that computes value and gradients by one compiled function."""
    with Graph():
        nodes = [placeholder(name, a.shape, a.dtype) for name, a in zip(names, arrays, strict=True)]
        value = _declared(fn, arrays, nodes)
        outputs = [value, *gradients(value, [nodes[i] for i in wrt], unconnected="zero")]
    compiled = function(nodes, outputs)

    def step() -> tuple[Any, list[Any]]:
        first, *rest = compiled(*arrays)
        return first, rest

    return step


def _declared(fn: Callable[..., Any], arrays: Sequence[Array], nodes: Sequence[Expr]) -> Expr:
    try:
        value: Expr = _one_number(fn(*nodes))
    except (AttributeError, TypeError) as error:
        if isinstance(error, SymgraphError):
            raise
        tensors = [eager.from_numpy(np.array(a)).requires_grad_(a.dtype.kind == "f") for a in arrays]
        return transcribe(lambda *given: _one_number(fn(*given)), tensors, nodes)
    return value


def dynamic_step(fn: Callable[..., Any], names: Sequence[str], arrays: Sequence[Array], wrt: Sequence[int]) -> Step:
    """Return a call that records the function on a tape and goes back over it."""
    tensors = [eager.from_numpy(np.array(a)) for a in arrays]
    leaves = [tensors[i].requires_grad_() for i in wrt]

    def step() -> tuple[Any, list[Any]]:
        value = _one_number(fn(*tensors))
        found = eager.autograd.grad(value, leaves, allow_unused=True)
        return value.numpy(force=True), [
            np.zeros(leaf.shape) if g is None else g.numpy(force=True) for g, leaf in zip(found, leaves, strict=True)
        ]

    return step


def _named_step(name: str, make: Callable[..., Step], *arguments: Any) -> Step:
    try:
        return make(*arguments)
    except SymgraphError as error:
        raise type(error)(f"{name}: {error}") from None


def _one_number(value: Any) -> Any:
    if not isinstance(value, Expr | eager.Tensor):
        raise ArgumentError(f"compare: the function returns {type(value).__name__}, not one array of its engine")
    return sum_of(value) if value.ndim else value


def _chosen(wrt: Sequence[int | str] | None, names: Sequence[str], arrays: Sequence[Array]) -> list[int]:
    if wrt is None:
        found = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    else:
        for item in wrt:
            if item not in names and item not in range(len(names)):
                raise ArgumentError(f"compare: there is no input {item!r} among {', '.join(names)}")
        found = [names.index(item) if isinstance(item, str) else item for item in wrt]
    if not found:
        raise ArgumentError("compare: there is no input of a floating-point dtype to differentiate by")
    return found


def _difference(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """Return the largest difference, each array's relative to its largest entry; nan where one has a nan alone."""
    largest = 0.0
    for a, b in zip(found, expected, strict=True):
        x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if x.shape != y.shape:
            return float("inf")
        off = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
        scale = float(np.max(np.abs(y), initial=0.0)) or 1.0
        largest = float(np.maximum(largest, np.max(off, initial=0.0) / scale))
    return largest
