"""How far a correct program may be from the NumPy interpreter, derived for each element of each output.

The graph is interpreted several times, with the rounding error that each operation may make put in at random: a few
units in the last place for elementary functions, one for arithmetic whose result is not exact, and the classical
bound ``count * unit * sum of magnitudes`` (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2)
for sums and products that may be reordered. Arithmetic that is exact, as with small fractions of a power of two, gets
no error: then every program must give the same bits. The largest deviation met is what is tolerated; where
a comparison may turn out either way, whatever follows from it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import symgraph as sg
from symgraph import dims
from symgraph.expr import CONSTANT, SIZE, topological
from symgraph.interpret import known_attributes, sizes_from
from symgraph.op import Kind

Array = np.ndarray[Any, Any]

RUNS = 30
"""How often a graph is interpreted with errors before a deviation counts as wrong."""
MARGIN = 3.0
"""How many times the largest deviation met is tolerated."""
ULPS = 3
"""What elementary functions may be off in either engine, in units in the last place."""

_SELECTIONS = frozenset(
    {
        "abs", "negative", "positive", "stop_gradient", "maximum", "minimum", "where", "clip", "relu", "sign", "floor",
        "ceil", "round", "trunc", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and",
        "logical_or", "logical_xor", "logical_not", "isnan", "isinf", "isfinite", "max", "min", "any", "all", "argmax",
        "argmin", "gather", "scatter_set",
    }
)  # fmt: skip
_SUMS = frozenset({"sum", "mean", "cumulative_sum", "scatter_add", "matmul", "einsum"})
_ARITHMETIC = frozenset({"add", "subtract", "multiply", "divide", "square", "astype", "sqrt", "remainder"})


class Reference:
    """What the outputs of a graph are for some values, and how far from it a correct program may be.

    Raises:
        IndexError: an index in the values is out of bounds.
    """

    def __init__(self, outputs: Sequence[sg.Expr], feed: Mapping[sg.Expr, Any]) -> None:
        self._outputs, self._feed = outputs, feed
        self._order = topological(outputs, stop=set(feed))
        self._sizes = sizes_from({leaf: np.asarray(value) for leaf, value in feed.items()})
        self.expected = self._interpret(None)
        self.limits = [np.zeros(np.shape(value)) for value in self.expected]
        self._runs = 0

    def check(self, found: Sequence[Any], hint: str = "") -> None:
        """Check dtypes, shapes and elements; errors are put in until they explain every deviation.

        Raises:
            AssertionError: an output is wrong; the message says which, and where first.
        """
        assert len(found) == len(self.expected), hint
        for i, (got, want) in enumerate(zip(found, self.expected, strict=True)):
            assert np.asarray(got).dtype == want.dtype, f"{hint}: output {i}: {got!r} for {want!r}"
            assert np.shape(got) == want.shape, f"{hint}: output {i}: {np.shape(got)} for {want.shape}"
        while (wrong := self._wrong(found)) is not None and self._runs < RUNS:
            self._disturb()
        assert wrong is None, f"{hint}: {wrong}"

    def _wrong(self, found: Sequence[Any]) -> str | None:
        for i, (got, want, limit) in enumerate(zip(found, self.expected, self.limits, strict=True)):
            floor = 4 * float(np.finfo(want.dtype).tiny) if want.dtype.kind == "f" else 0
            wrong = np.argwhere(_deviation(want, got) > limit * MARGIN + floor)
            if len(wrong):
                place = tuple(int(k) for k in wrong[0])
                shown = f"output {i} at {place}: {np.asarray(got)[place]!r}, expected {want[place]!r}"
                return f"{shown} within {limit[place] * MARGIN:.2g} ({len(wrong)} elements of {want.size})"
        return None

    def _disturb(self) -> None:
        disturbed = self._interpret(np.random.default_rng(self._runs))
        for limit, right, other in zip(self.limits, self.expected, disturbed, strict=True):
            np.maximum(limit, _deviation(right, other), out=limit)
        self._runs += 1

    def _interpret(self, source: np.random.Generator | None) -> list[Any]:
        values: dict[sg.Expr, Any] = {leaf: np.asarray(value, leaf.dtype) for leaf, value in self._feed.items()}
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            for node in self._order:
                if node not in values:
                    values[node] = _value(node, values, self._sizes, source)
        return [values[output] for output in self._outputs]


def _deviation(right: Any, other: Any) -> Array:
    """Return how far apart elements are: 0 where both are the same NaN or infinity, inf where only one is."""
    with np.errstate(all="ignore"):
        apart = np.abs(np.subtract(right, other, dtype=np.float64))
        same = (right == other) | ((right != right) & (other != other))
    return np.where(same, 0, np.where(np.isnan(apart), np.inf, apart))


def _value(
    node: sg.Expr, values: Mapping[sg.Expr, Any], sizes: Mapping[str, int], source: np.random.Generator | None
) -> Any:
    attrs = known_attributes(node.attrs, sizes)
    if node.op is CONSTANT:
        return np.asarray(node.attrs[0].array)
    if node.op is SIZE:
        return np.asarray(dims.evaluate(node.attrs[0], sizes), node.dtype)
    args = [values[arg] for arg in node.args]
    out = np.asarray(node.op.evaluate(*args, *attrs)).astype(node.dtype, copy=False)
    if source is None or node.dtype.kind != "f" or not out.size:
        return out
    error = _error(node, args, attrs, out)
    if error is None:
        return out
    disturbed = out + source.uniform(-2, 2, out.shape) * error
    return np.where(np.isfinite(out) & np.isfinite(error), disturbed, out).astype(node.dtype)


def _error(node: sg.Expr, args: Sequence[Array], attrs: Any, out: Array) -> Array | None:
    """Return how far off each element may be, None where nothing can be."""
    name, kind = node.op.name, node.op.kind
    unit = float(np.finfo(node.dtype).eps)
    if name in _SELECTIONS or kind in (Kind.MOVEMENT, Kind.LEAF):
        return None
    if name in _SUMS:
        return _error_of_sum(node, args, attrs, out, unit)
    if name in _ARITHMETIC:
        return np.where(_is_exact(name, args, out, node.dtype), 0, unit * np.abs(out))
    if name in ("prod", "exclusive_prod"):
        several = args[0].size / max(out.size, 1) if name == "prod" else args[0].shape[attrs[0]]
        is_power = np.all((np.frexp(args[0])[0] % 0.5 == 0) | ~np.isfinite(args[0]))
        return None if is_power else unit * several * np.abs(out)
    if name in ("logsumexp", "logaddexp"):  # the logarithm of a sum is added to the largest operand, and may cancel it
        largest = max(float(np.max(np.abs(arg), initial=0, where=np.isfinite(arg))) for arg in args)
        return unit * (ULPS + args[0].size / max(out.size, 1)) * (1 + largest + np.abs(out))
    if name == "vector_norm":
        return unit * (ULPS + args[0].size / max(out.size, 1)) * np.abs(out)
    return ULPS * unit * np.abs(out) * ((out != np.rint(out)) | (np.abs(out) > 1))


def _is_exact(name: str, args: Sequence[Array], out: Array, dtype: np.dtype[Any]) -> Any:
    """Tell where arithmetic made no error, so that another way of computing it can make none."""
    digits = np.finfo(dtype).nmant + 1
    match name:
        case "add" | "subtract":
            x, y = args[0], args[1] if name == "add" else -args[1]
            back = out - x
            return (x - (out - back)) + (y - back) == 0
        case "multiply" | "square":
            return _digits(args[0]) + _digits(args[-1]) <= digits
        case "divide":
            return (np.abs(np.frexp(args[1])[0]) == 0.5) | (args[0] == 0)
        case "sqrt":
            return (_digits(out) * 2 <= digits) & (out * out == args[0])
        case "remainder":
            return (_digits(args[1]) <= 8) & (out == np.fmod(out * 4, 1e9) / 4)
    return args[0] == out.astype(args[0].dtype)


def _digits(x: Array) -> Array:
    """Return how many binary digits each number needs: 1 for a power of two, 0 for zero."""
    whole = np.where(np.isfinite(x), np.frexp(x)[0] * 2.0**53, 0).astype(np.int64)
    lowest = whole & -whole
    return np.where(whole == 0, 0, 54 - np.frexp(lowest.astype(np.float64))[1])


def _granule(x: Array) -> float:
    """Return the largest power of two that all numbers are multiples of; inf when all are zero."""
    x = np.asarray(x, np.float64)
    x = x[np.isfinite(x) & (x != 0)]
    return float(np.min(np.ldexp(1.0, np.frexp(x)[1] - _digits(x)))) if x.size else np.inf


def _error_of_sum(node: sg.Expr, args: Sequence[Array], attrs: Any, out: Array, unit: float) -> Array | None:
    name = node.op.name
    arrays = [np.abs(arg) if arg.dtype.kind == "f" else arg for arg in args]
    magnitude = np.abs(np.asarray(node.op.evaluate(*arrays, *attrs)).astype(np.float64))
    values = [arg for arg in args if arg.dtype.kind == "f"]
    granules = [_granule(arg) for arg in values]
    if name in ("matmul", "einsum"):
        granule, count = float(np.prod(granules)), _count_of_product(node, args)
    else:
        granule, count = min(granules), max(arg.size for arg in values)
    if name == "mean":
        several = args[0].size / max(out.size, 1)
        return np.where(magnitude == 0, 0, unit * (several + 1) * magnitude)
    largest = float(np.max(magnitude, initial=0, where=np.isfinite(magnitude)))
    if name not in ("matmul", "einsum") or len(args) < 3:
        if largest == 0 or (np.isfinite(granule) and largest <= granule * 2.0 ** (np.finfo(node.dtype).nmant)):
            return None
    elif largest == 0:
        return None
    if name == "sum":
        count = int(args[0].size / max(out.size, 1))
    return unit * count * magnitude


def _count_of_product(node: sg.Expr, args: Sequence[Array]) -> int:
    """Return how many products are summed at most for one element."""
    if node.op.name == "matmul":
        return args[0].shape[-1] + 1
    terms, _, result = node.attrs[0].partition("->")
    sizes = {
        c: n for term, arg in zip(terms.split(","), args, strict=True) for c, n in zip(term, arg.shape, strict=True)
    }
    return int(np.prod([n for c, n in sizes.items() if c not in result], dtype=int)) + len(args)
