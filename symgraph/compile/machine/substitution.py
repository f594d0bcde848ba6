"""Triangular systems with many right-hand sides: blocks by substitution in vectors, the rest by matrix products.

A block of the matrix is solved for as many right-hand sides as eight vector registers hold numbers, which are copied
side by side first, where the nearest cache keeps them. BLAS's own `trsm` is several times slower than its products
where a side of the matrix is short, and it is what factorizations spend their time on.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from symgraph.compile.kernels.instructions import llvm_type, suffix
from symgraph.compile.machine import blas, vectors
from symgraph.compile.machine.language import (
    SHORT,
    Array,
    Number,
    copy,
    counted,
    fill_with_zeros,
    function,
    invoke,
    one,
)
from symgraph.compile.machine.vectors import (
    BIT,
    BYTE,
    CACHE_LINE,
    GROUP,
    LONG,
    DType,
    element_type,
    intrinsic,
    load_vector,
    long,
    native_lanes,
    splat,
    store_vector,
)

BLOCK = 64
"""How many rows a block has: two of its size stay in the nearest cache."""

_VOID = ir.VoidType()


def divide_columns(
    builder: Any, dtype: DType, n: Number, matrix: Array, strides: tuple[Number, Number], backward: Any, unit: Any,
    sides: Array, leading: Number, count: Number,
) -> None:  # fmt: skip
    """Solve ``T @ X = B`` in place of B, whose columns stand side by side in memory.

    Args:
        builder: Where to write it.
        dtype: The type of all elements.
        n: The number of rows.
        matrix: The first element of T.
        strides: How far apart the neighbours in a column and in a row of T are: one of them is 1.
        backward: Whether T is an upper triangle, and not a lower one.
        unit: Whether the elements on T's diagonal count as 1.
        sides: The first element of B.
        leading: How far apart the rows of B are.
        count: How many columns B has.
    """
    invoke(builder, _columns(builder.module, dtype), n, matrix, *strides, backward, unit, sides, leading, count)


def divide_rows(
    builder: Any, dtype: DType, n: Number, matrix: Array, strides: tuple[Number, Number], backward: Any,
    sides: Array, leading: Number, count: Number,
) -> None:  # fmt: skip
    """Solve ``T @ X.T = B.T`` in place of B, for one block: n is at most BLOCK, and all else as for columns."""
    divide = _block(builder.module, dtype)
    invoke(builder, divide, n, matrix, *strides, backward, False, sides, long(1), leading, count)


def add_product(
    builder: Any, dtype: DType, sizes: tuple[Number, Number, Number], factor: Any, a: Array, lda: Number,
    transposed_a: Any, b: Array, ldb: Number, transposed_b: Any, c: Array, ldc: Number, accumulate: bool = True,
) -> None:  # fmt: skip
    """Write ``C += factor * op(A) @ op(B)``, or ``C =``, for sizes (m, n, k) that BLAS can count; none need be 0."""
    m, n, k = sizes
    flags = [_flag(builder, transposed) for transposed in (transposed_b, transposed_a)]
    scale, beta = ir.Constant(llvm_type(dtype), factor), ir.Constant(llvm_type(dtype), int(accumulate))
    blas.call(builder, blas.letter(dtype) + "gemm", [*flags, n, m, k, scale, b, ldb, a, lda, beta, c, ldc])


def _flag(builder: Any, transposed: Any) -> Any:
    if isinstance(transposed, bool):
        return "T" if transposed else "N"
    return builder.select(transposed, *(ir.Constant(BYTE, ord(letter)) for letter in "TN"))


def _columns(module: Any, dtype: DType) -> Any:
    """Return the function that solves a system block after block, and takes each out of all that follow it."""

    def write(
        builder: Any, n: Number, matrix: Array, down: Number, right: Number, backward: Any, unit: Any, sides: Array,
        leading: Number, count: Number,
    ) -> None:  # fmt: skip
        blocks = (n + (BLOCK - 1)) // BLOCK
        transposed = builder.not_(right.equals(1))
        apart = Number(builder, builder.select(transposed, right.value, down.value))
        with counted(builder, blocks) as step:
            block = Number(builder, builder.select(backward, (blocks - 1 - step.index).value, step.index.value))
            start = block * BLOCK
            size = (n - start).at_most(BLOCK)
            corner = matrix + start * (down + right)
            rows = sides + start * leading
            invoke(
                builder, _block(module, dtype), size, corner, down, right, backward, unit, rows, leading, long(1), count
            )  # fmt: skip
            first = Number(builder, builder.select(backward, long(0), (start + size).value))
            rest = Number(builder, builder.select(backward, start.value, (n - start - size).value))
            with builder.if_then(rest > 0):
                between = matrix + first * down + start * right
                add_product(
                    builder, dtype, (rest, count, size), -1, between, apart, transposed, rows, leading, False,
                    sides + first * leading, leading,
                )  # fmt: skip
        builder.ret_void()

    kinds = [LONG, dtype, LONG, LONG, BIT, BIT, dtype, LONG, LONG]
    return function(module, f"symgraph.divide_columns.{dtype.name}", _VOID, kinds, write, attributes=SHORT)


def _block(module: Any, dtype: DType) -> Any:
    """Return the function that solves one block, with sides at any distances of which one is 1."""

    def write(
        builder: Any, n: Number, matrix: Array, down: Number, right: Number, backward: Any, unit: Any, sides: Array,
        along: Number, across: Number, count: Number,
    ) -> None:  # fmt: skip
        widths = sorted({GROUP, native_lanes(8)}, reverse=True)
        start = Number(builder, long(0))
        for width in widths:
            last = width == GROUP
            whole = count if last else start + (count - start) // width * width
            with counted(builder, whole, start=start, step=width) as strip:
                sides_here = sides + strip.index * across
                invoke(
                    builder, _strip(module, dtype, width), n, matrix, down, right, backward, unit, sides_here, along,
                    across, (count - strip.index).at_most(width),
                )  # fmt: skip
            start = whole
        builder.ret_void()

    kinds = [LONG, dtype, LONG, LONG, BIT, BIT, dtype, LONG, LONG, LONG]
    return function(module, f"symgraph.divide_block.{dtype.name}", _VOID, kinds, write, attributes=SHORT)


def _strip(module: Any, dtype: DType, width: int) -> Any:
    """Return the function that solves one block for at most so many sides."""
    kind = ir.VectorType(llvm_type(dtype), width)
    fused = intrinsic(module, f"llvm.fmuladd.{suffix(kind)}", kind, [kind] * 3)

    def write(
        builder: Any, n: Number, matrix: Array, down: Number, right: Number, backward: Any, unit: Any, sides: Array,
        along: Number, across: Number, count: Number,
    ) -> None:  # fmt: skip
        room = builder.alloca(ir.ArrayType(element_type(dtype), BLOCK * width))
        room.align = CACHE_LINE
        near = Array(builder, builder.bitcast(room, element_type(dtype).as_pointer()), dtype)
        _exchange(builder, near, width, sides, along, across, n, count, inwards=True)
        end = n - 1

        def turned(stride: Number) -> Number:
            return Number(builder, builder.select(backward, builder.neg(stride.value), stride.value))

        def first(stride: Number) -> Number:
            return Number(builder, builder.select(backward, (end * stride).value, long(0)))

        row, column, apart = turned(down), turned(right), turned(Number(builder, long(width)))
        corner, rows = matrix + first(down + right), near + first(Number(builder, long(width)))
        with counted(builder, n) as j:
            place = rows + j.index * apart
            coefficients = corner + j.index * row
            with counted(builder, j.index, carried=[_load(builder, place, width)]) as i:
                factor = splat(builder, builder.fneg(coefficients[i.index * column]), width)
                other = _load(builder, rows + i.index * apart, width)
                i.carry(builder.call(fused, [factor, other, i.values[0]]))
            pivot = builder.select(unit, one(dtype), coefficients[j.index * column])
            reciprocal = splat(builder, builder.fdiv(one(dtype), pivot), width)
            _store(builder, builder.fmul(i.values[0], reciprocal), place)
        _exchange(builder, near, width, sides, along, across, n, count, inwards=False)
        builder.ret_void()

    kinds = [LONG, dtype, LONG, LONG, BIT, BIT, dtype, LONG, LONG, LONG]
    return function(module, f"symgraph.divide_strip_{width}.{dtype.name}", _VOID, kinds, write, attributes=SHORT)


def _load(builder: Any, place: Array, width: int) -> Any:
    """Return a row of what is near, whose address is a multiple of a vector's size."""
    kind = ir.VectorType(llvm_type(place.dtype), width)
    return builder.load(builder.bitcast(place.pointer, kind.as_pointer()), align=_alignment(place.dtype, width))


def _store(builder: Any, value: Any, place: Array) -> None:
    address = builder.bitcast(place.pointer, value.type.as_pointer())
    builder.store(value, address, align=_alignment(place.dtype, value.type.count))


def _alignment(dtype: DType, width: int) -> int:
    return min(CACHE_LINE, width * dtype.itemsize)


def _exchange(
    builder: Any, near: Array, width: int, sides: Array, along: Number, across: Number, n: Number, count: Number,
    inwards: bool,
) -> None:  # fmt: skip
    """Copy sides to rows of a width, or back; they lie side by side in memory, or each by itself."""
    with builder.if_else(across.equals(1)) as (beside, apart):
        with beside, counted(builder, n) as j:
            row, kept = sides + j.index * along, near + j.index * width
            if inwards:
                copy(row, kept, count)
                fill_with_zeros(kept + count, Number(builder, long(width)) - count)
            else:
                copy(kept, row, count)
        with apart:
            if inwards:
                fill_with_zeros(near, n * width)
            with counted(builder, count, step=GROUP) as c, counted(builder, n, step=GROUP) as j:
                corner, kept = sides + c.index * across + j.index, near + j.index * width + c.index
                whole = builder.and_((c.index + (GROUP - 1)) < count, (j.index + (GROUP - 1)) < n)
                with builder.if_else(whole) as (tile, edge):
                    with tile:
                        source, step = (corner, across) if inwards else (kept, Number(builder, long(width)))
                        target, apart_ = (kept, Number(builder, long(width))) if inwards else (corner, across)
                        lines = [load_vector(builder, (source + step * i).pointer, GROUP, None) for i in range(GROUP)]
                        for i, line in enumerate(vectors.transposed(builder, lines)):
                            store_vector(builder, line, (target + apart_ * i).pointer, None)
                    with edge:
                        wide, high = ((count - c.index).at_most(GROUP), (n - j.index).at_most(GROUP))
                        with counted(builder, wide) as x, counted(builder, high) as y:
                            far, close = x.index * across + y.index, y.index * width + x.index
                            if inwards:
                                kept[close] = corner[far]
                            else:
                                corner[far] = kept[close]
