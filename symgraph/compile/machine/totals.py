"""Accumulation: what it begins with, and how the lanes of a loop share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.compile import loops
from symgraph.compile.kernels.instructions import constant, llvm_type
from symgraph.compile.loops import Accumulate, Name, Statement
from symgraph.compile.machine import memory, vectors
from symgraph.compile.machine.vectors import DType, literal, splat

COMBINE = {
    "sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum", "any": "logical_or", "all": "logical_and",
}  # fmt: skip
"""The elementwise operation that combines two partial results."""

FLUSH = 32
"""After so many vectors a lane's sum is put to the others; NumPy adds up 16 numbers in a row before it pairs them."""


def outer_totals(body: Sequence[Statement]) -> dict[str, tuple[DType, str]]:
    """Return the scalars that are accumulated in statements and begin before them."""
    started = {s.name for s in loops.walk(body) if isinstance(s, loops.Start)}
    return {
        s.target.name: (s.target.dtype, s.how)
        for s in loops.walk(body)
        if isinstance(s, Accumulate) and isinstance(s.target, Name) and s.target.name not in started
    }


def identity(how: str, dtype: DType) -> Any:
    """Return the number that an accumulation begins with, as a constant."""
    return literal(dtype, loops.identity(how, dtype))


def running_sums(builder: Any, kind: Any, count: int) -> list[Any]:
    """Return as many vectors that change, 0 now."""
    sums = [memory.variable(builder, kind) for _ in range(count)]
    for total in sums:
        builder.store(constant(kind, 0), total)
    return sums


def add_product(builder: Any, total: Any, factor: Any, vector: Any) -> None:
    """Write ``total += factor * vector``, where the factor is a vector or the same number for all lanes."""
    product = builder.fmul(splat(builder, factor, vector.type.count), vector, flags=("contract",))
    builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)


class Total:
    """What all lanes of a loop accumulate into: a vector of partial results, one for each lane.

    Sums of floats are rounded. So that errors do not grow with the length of the loop, each lane's recent sum is
    added to the sum of all before it from time to time, with the rounding error of that addition kept beside
    (D. E. Knuth, The Art of Computer Programming 2, section 4.2.2).
    """

    def __init__(self, builder: Any, cell: Any, dtype: DType, how: str, width: int) -> None:
        self.cell, self.dtype, self.how = cell, dtype, how
        self.is_rounded = how == "sum" and dtype.kind == "f"
        kind = vectors.vector(llvm_type(dtype), width)
        self._nothing = splat(builder, identity(how, dtype), width)
        self.recent = self._begin(builder, kind)
        if self.is_rounded:
            self._before, self._error = self._begin(builder, kind), self._begin(builder, kind)

    def _begin(self, builder: Any, kind: Any) -> Any:
        cell = memory.variable(builder, kind)
        builder.store(self._nothing, cell)
        return cell

    def flush(self, builder: Any) -> None:
        """Add the recent sum to the one of all before."""
        x, y = builder.load(self._before), builder.load(self.recent)
        total = builder.fadd(x, y)
        other = builder.fsub(total, x)
        lost = builder.fadd(builder.fsub(x, builder.fsub(total, other)), builder.fsub(y, other))
        # What is infinite has no error: inf - inf would be one.
        finite = builder.fcmp_ordered("==", builder.fsub(total, total), self._nothing)
        lost = builder.select(finite, lost, self._nothing)
        builder.store(builder.fadd(builder.load(self._error), lost), self._error)
        builder.store(total, self._before)
        builder.store(self._nothing, self.recent)

    def value(self, builder: Any) -> Any:
        """Return the partial results."""
        recent = builder.load(self.recent)
        if not self.is_rounded:
            return recent
        return builder.fadd(builder.load(self._before), builder.fadd(builder.load(self._error), recent))
