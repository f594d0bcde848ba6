"""Products of some rows of a matrix with a vector, by rows and by columns, several rows at a time.

A number of the vector that was loaded is multiplied with those of several rows, and the sums over lanes of several rows
are taken together.

A block's rows are multiplied twice, with a vector and then with what was made of the result, and the second time they
come from the cache. So that memory is not idle then, each of the two asks for half of what comes next, at an even rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from llvmlite import ir

from symgraph.compile.kernels.instructions import constant, joined
from symgraph.compile.machine import memory, vectors
from symgraph.compile.machine.language import SHORT, Array, Number, function, invoke
from symgraph.compile.machine.totals import FLUSH, Total, add_product, running_sums
from symgraph.compile.machine.vectors import CACHE_LINE, LONG, DType, bits_of, long, splat

_TOGETHER = (8, 1)
"""So many rows are worked on at a time; those that are left one by one."""

_AHEAD = 16_384
"""So many bytes ahead numbers are asked for, at most: with those of a block they fit into the nearest cache."""

_DOUBLE, _VOID = ir.DoubleType(), ir.VoidType()


def multiply(builder: Any, dtypes: tuple[DType, DType], rows: Any, columns: Any, a: Any, x: Any, y: Any) -> None:
    """Write ``y[i] = Σⱼ a[i,j] x[j]``, multiplied and summed up in float64.

    Args:
        builder: Where to write.
        dtypes: The type of a and x, and that of y.
        rows, columns: How many i and j there are.
        a: The first element of the matrix, whose rows lie one behind the other.
        x, y: The first elements of the vectors.
    """
    given, made = dtypes
    name = f"symgraph.rows.multiply.{given.name}.{made.name}"
    kinds = [LONG, LONG, given, given, made]
    called = function(builder.module, name, _VOID, kinds, _write_multiply, attributes=SHORT)
    invoke(builder, called, rows, columns, a, x, y)


def add(builder: Any, dtype: DType, rows: Any, columns: Any, a: Any, u: Any, c: Any) -> None:
    """Write ``c[j] += Σᵢ a[i,j] u[i]``.

    Args:
        builder: Where to write.
        dtype: The type of all elements.
        rows, columns: How many i and j there are.
        a: The first element of the matrix, whose rows lie one behind the other.
        u, c: The first elements of the vectors.
    """
    kinds = [LONG, LONG, dtype, dtype, dtype]
    called = function(builder.module, f"symgraph.rows.add.{dtype.name}", _VOID, kinds, _write_add, attributes=SHORT)
    invoke(builder, called, rows, columns, a, u, c)


def _write_multiply(builder: Any, rows: Number, columns: Number, a: Array, x: Array, y: Array) -> None:
    side = vectors.register_bits() // bits_of(_DOUBLE)
    kind = ir.VectorType(_DOUBLE, side)
    strip = FLUSH * side
    ahead = a + _distance(a, rows * columns)
    for first, count in memory.blocks(builder, long(0), rows.value, _TOGETHER):
        number = Number(builder, first)
        starts = [a + (number + r) * columns for r in range(count)]
        total = Total(builder, None, np.dtype(np.float64), "sum", count)
        with memory.loop(builder, long(0), columns.value, strip) as begin:
            sums = running_sums(builder, kind, count)
            end = (Number(builder, begin) + strip).at_most(columns)
            for j, mask in _in_vectors(builder, begin, end.value, side):
                if count > 1:
                    _ask(ahead + (number * columns + j * count) // 2, count * side // 2)
                vector = _wide(builder, x + j, side, mask)
                for start, each in zip(starts, sums, strict=True):
                    add_product(builder, each, _wide(builder, start + j, side, mask), vector)
            builder.store(_over_lanes(builder, [builder.load(each) for each in sums]), total.recent)
            with builder.if_then(end < columns, likely=False):
                total.flush(builder)
        place = (y + number).pointer
        found = total.value(builder)
        if y.dtype != np.float64:
            found = builder.fptrunc(found, vectors.vector(place.type.pointee, count))
        vectors.store_vector(builder, found, place, None)
    builder.ret_void()


def _write_add(builder: Any, rows: Number, columns: Number, a: Array, u: Array, c: Array) -> None:
    side = vectors.register_bits() // (8 * a.dtype.itemsize)
    ahead = a + _distance(a, rows * columns) + rows * columns // 2
    for first, count in memory.blocks(builder, long(0), rows.value, _TOGETHER):
        number = Number(builder, first)
        starts = [a + (number + r) * columns for r in range(count)]
        factors = [splat(builder, u[number + r], side) for r in range(count)]
        for j, mask in _in_vectors(builder, long(0), columns.value, side):
            if count > 1:
                _ask(ahead + (number * columns + j * count) // 2, count * side // 2)
            # Two sums at a time: an addition takes as long as several begin.
            sums = [vectors.load_vector(builder, (c + j).pointer, side, mask), constant(factors[0].type, 0)]
            for r, (start, factor) in enumerate(zip(starts, factors, strict=True)):
                row = vectors.load_vector(builder, (start + j).pointer, side, mask)
                product = builder.fmul(row, factor, flags=("contract",))
                sums[r % 2] = builder.fadd(sums[r % 2], product, flags=("contract",))
            total = builder.fadd(*sums) if count > 1 else sums[0]
            vectors.store_vector(builder, total, (c + j).pointer, mask)
    builder.ret_void()


def _in_vectors(builder: Any, start: Any, stop: Any, side: int) -> Iterator[tuple[Number, Any]]:
    """Write a loop over vectors of columns, and what is left under a mask; yield each one's first column and mask."""
    middle = memory.last_whole(builder, start, stop, side)
    with memory.loop(builder, start, middle, side) as j:
        yield Number(builder, j), None
    rest = builder.sub(stop, middle)
    with builder.if_then(builder.icmp_signed(">", rest, long(0))):
        yield Number(builder, middle), builder.icmp_signed("<", vectors.iota(side), splat(builder, rest, side))


def _distance(a: Array, count: Number) -> Number:
    """Return how many elements ahead numbers are asked for while as many are worked on."""
    return count.at_most(_AHEAD // a.dtype.itemsize)


def _ask(first: Array, count: int) -> None:
    """Ask for elements that will be read."""
    size = first.dtype.itemsize
    for offset in range(0, count * size, CACHE_LINE):
        vectors.prefetch(first.builder, (first + offset // size).pointer)


def _wide(builder: Any, place: Array, side: int, mask: Any) -> Any:
    """Return elements as float64."""
    found = vectors.load_vector(builder, place.pointer, side, mask)
    return found if place.dtype == np.float64 else builder.fpext(found, ir.VectorType(_DOUBLE, side))


def _over_lanes(builder: Any, sums: list[Any]) -> Any:
    """Return the sums over the lanes of some vectors, or of one."""
    if len(sums) == 1:
        return vectors.combined(builder, sums[0], builder.fadd)
    side = sums[0].type.count
    groups = [vectors.sums(builder, sums[start : start + side], builder.fadd) for start in range(0, len(sums), side)]
    return joined(builder, groups)
