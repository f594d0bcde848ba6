"""Matrix products in row-major memory: in tiles or by BLAS for floating-point numbers, by loops for the rest.

BLAS keeps matrices by columns. What it sees of a matrix kept by rows is the transpose, so it is asked for
``C.T = B.T @ A.T``: operands exchanged, nothing copied. A transposed operand is a flag.

Measured on one thread of a processor with AVX-512, with SciPy's OpenBLAS: a call costs 35 ns and reaches half the
speed of a large product at 32×32×32; by gemv a matrix and a vector take up to half less than by gemm from some ten
thousand elements on, and more below; syrk takes half the time of gemm for large matrices, and more for small ones.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from symgraph.compile.machine import blas, tiles
from symgraph.compile.machine.language import (
    SHORT,
    Array,
    Number,
    chosen,
    counted,
    fill_with_zeros,
    function,
    invoke,
    one,
    zero,
)
from symgraph.compile.machine.sharing import piece, pieces_along, share
from symgraph.compile.machine.threads import POINTER
from symgraph.compile.machine.vectors import BIT, LONG, DType, long

_VOID = ir.VoidType()
_GREATEST = 2**31 - 1  # BLAS counts in C's integers
_BY_GEMV = 2**14
_SYMMETRIC_SIDE, _SYMMETRIC_DEPTH = 64, 128
_BLOCK = 16


def gemm(
    builder: Any,
    dtype: DType,
    m: Any,
    n: Any,
    k: Any,
    a: Any,
    lda: Any,
    transposed_a: bool,
    b: Any,
    ldb: Any,
    transposed_b: bool,
    c: Any,
    ldc: Any,
    accumulate: bool,
    threads: Any = None,
) -> None:
    """Write ``C = op(A) @ op(B)`` or ``C += op(A) @ op(B)``, with op(A) of shape (m, k) and op(B) of shape (k, n).

    Args:
        builder: Where to write it.
        dtype: The type of all elements.
        m, n, k: The sizes, any of which may be 0; these and the strides are 64-bit integers of LLVM.
        a, b, c: The first elements. C shares no memory with A and B.
        lda, ldb, ldc: How many elements apart the rows are, in memory.
        transposed_a, transposed_b: Whether op transposes what is in memory.
        accumulate: Whether to add to C.
        threads: The threads of the call, which may share the work; this one alone where None.
    """
    arguments = (m, n, k, a, lda, transposed_a, b, ldb, transposed_b, c, ldc, accumulate)
    if threads is None:
        invoke(builder, _gemm(builder.module, dtype), *arguments)
    else:
        invoke(builder, _shared(builder.module, dtype), *arguments, threads)


def syrk(
    builder: Any,
    dtype: DType,
    n: Any,
    k: Any,
    a: Any,
    lda: Any,
    transposed: bool,
    c: Any,
    ldc: Any,
    accumulate: bool,
) -> None:
    """Write ``C = op(A) @ op(A).T`` or ``C += op(A) @ op(A).T``, half of it computed and the rest mirrored.

    Args:
        builder: Where to write it.
        dtype: The type of all elements, a floating-point number.
        n, k: The shape of op(A).
        a: The first element of A.
        lda: How many elements apart A's rows are, in memory.
        transposed: Whether A is of shape (k, n) in memory, so that the result is ``A.T @ A``.
        c: The first element of C, which is symmetric before when it is added to.
        ldc: How many elements apart C's rows are.
        accumulate: Whether to add to C.
    """
    invoke(builder, _syrk(builder.module, dtype), n, k, a, lda, transposed, c, ldc, accumulate)


def _gemm(module: Any, dtype: DType) -> Any:
    def write(
        builder: Any, m: Number, n: Number, k: Number, a: Array, lda: Number, transposed_a: Any,
        b: Array, ldb: Number, transposed_b: Any, c: Array, ldc: Number, accumulate: Any,
    ) -> None:  # fmt: skip
        near = Number(builder, long(1))
        with builder.if_then(builder.or_(m.equals(0), n.equals(0))):
            builder.ret_void()
        with builder.if_then(_must_loop(builder, dtype, m, n, k, lda, ldb, ldc)):
            loops = _loops(module, dtype)
            steps = [_strides(builder, lda, transposed_a), _strides(builder, ldb, transposed_b)]
            invoke(builder, loops, m, n, k, a, *steps[0], b, *steps[1], c, ldc, accumulate)
            builder.ret_void()
        if dtype.kind == "f":
            beta = builder.select(accumulate, one(dtype), zero(dtype))
            column = n.equals(1)
            large = chosen(builder, column, m * k, n * k) >= _BY_GEMV
            with builder.if_then(builder.and_(builder.or_(column, m.equals(1)), large)):
                # C = op(A) @ b when C is a column, and C.T = op(B).T @ a when it is a row.
                matrix = builder.select(column, a.pointer, b.pointer)
                vector = builder.select(column, b.pointer, a.pointer)
                leading = chosen(builder, column, lda, ldb)
                upright = builder.select(column, transposed_a, builder.not_(transposed_b))
                count = chosen(builder, column, m, n)
                rows, columns = chosen(builder, upright, count, k), chosen(builder, upright, k, count)
                step_a, step_b = _strides(builder, lda, transposed_a)[1], _strides(builder, ldb, transposed_b)[0]
                step, step_c = chosen(builder, column, step_b, step_a), chosen(builder, column, ldc, near)
                flag = _flag(builder, builder.not_(upright))
                blas.call(
                    builder, blas.letter(dtype) + "gemv",
                    [flag, rows, columns, one(dtype), matrix, leading, vector, step, beta, c, step_c],
                )  # fmt: skip
                builder.ret_void()
            flags = _flag(builder, transposed_b), _flag(builder, transposed_a)
            blas.call(
                builder, blas.letter(dtype) + "gemm", [*flags, n, m, k, one(dtype), b, ldb, a, lda, beta, c, ldc]
            )  # fmt: skip
        builder.ret_void()

    kinds = [LONG, LONG, LONG, dtype, LONG, BIT, dtype, LONG, BIT, dtype, LONG, BIT]
    return function(module, f"symgraph.gemm.{dtype.name}", _VOID, kinds, write, distinct=False, attributes=SHORT)


def _must_loop(builder: Any, dtype: DType, m: Number, n: Number, k: Number, *strides: Number) -> Any:
    """Return whether BLAS cannot do a product; without summands it may leave what is in C."""
    if dtype.kind != "f":
        return ir.Constant(BIT, 1)
    found = k.equals(0)
    for number in (m, n, k, *strides):
        found = builder.or_(found, number > _GREATEST)
    return found


def _shared(module: Any, dtype: DType) -> Any:
    """Return the function of a product that threads share: in tiles, or else in slabs."""

    def write(
        builder: Any, m: Number, n: Number, k: Number, a: Array, lda: Number, transposed_a: Any,
        b: Array, ldb: Number, transposed_b: Any, c: Array, ldc: Number, accumulate: Any, threads: Any,
    ) -> None:  # fmt: skip
        if tiles.are_better(dtype):
            with builder.if_then(tiles.are_filled(builder, m, n, k)):
                steps = *_strides(builder, lda, transposed_a), *_strides(builder, ldb, transposed_b)
                arguments = [m, n, k, a, *steps[:2], b, *steps[2:], c, ldc, accumulate, threads]
                with builder.if_then(tiles.multiply(builder, dtype, *arguments)):
                    builder.ret_void()
        pieces = pieces_along(builder, m.at_least(n), [m, n, k], dtype)
        arguments = [m, n, k, a, lda, transposed_a, b, ldb, transposed_b, c, ldc, accumulate]
        share(builder, _slab(module, dtype), arguments, pieces, threads)
        builder.ret_void()

    kinds = [LONG, LONG, LONG, dtype, LONG, BIT, dtype, LONG, BIT, dtype, LONG, BIT, POINTER]
    return function(module, f"symgraph.shared.{dtype.name}", _VOID, kinds, write, distinct=False, attributes=SHORT)


def _slab(module: Any, dtype: DType) -> Any:
    """Return the function of one piece of a product: some of its rows, or of its columns where there are more."""

    def write(
        builder: Any, m: Number, n: Number, k: Number, a: Array, lda: Number, transposed_a: Any,
        b: Array, ldb: Number, transposed_b: Any, c: Array, ldc: Number, accumulate: Any,
        pieces: Number, number: Number,
    ) -> None:  # fmt: skip
        nothing = Number(builder, long(0))
        by_rows = m >= n
        start, count = piece(chosen(builder, by_rows, m, n), pieces, number)
        row, column = chosen(builder, by_rows, start, nothing), chosen(builder, by_rows, nothing, start)
        rows, columns = chosen(builder, by_rows, count, m), chosen(builder, by_rows, n, count)
        left = a + row * _strides(builder, lda, transposed_a)[0]
        right = b + column * _strides(builder, ldb, transposed_b)[1]
        invoke(
            builder, _gemm(module, dtype), rows, columns, k, left, lda, transposed_a, right, ldb, transposed_b,
            c + row * ldc + column, ldc, accumulate,
        )  # fmt: skip
        builder.ret_void()

    kinds = [LONG, LONG, LONG, dtype, LONG, BIT, dtype, LONG, BIT, dtype, LONG, BIT, LONG, LONG]
    return function(module, f"symgraph.slab.{dtype.name}", _VOID, kinds, write, distinct=False, attributes=SHORT)


def _flag(builder: Any, transposed: Any) -> Any:
    return builder.select(transposed, *(ir.Constant(ir.IntType(8), ord(letter)) for letter in "TN"))


def _strides(builder: Any, leading: Number, transposed: Any) -> tuple[Number, Number]:
    """Return how far apart neighbours along the rows' and along the columns' index are."""
    near = Number(builder, long(1))
    return chosen(builder, transposed, near, leading), chosen(builder, transposed, leading, near)


def _loops(module: Any, dtype: DType) -> Any:
    multiply, add = ("fmul", "fadd") if dtype.kind == "f" else ("and_", "or_") if dtype.kind == "b" else ("mul", "add")

    def write(
        builder: Any, m: Number, n: Number, k: Number, a: Array, row_a: Number, column_a: Number,
        b: Array, row_b: Number, column_b: Number, c: Array, ldc: Number, accumulate: Any,
    ) -> None:  # fmt: skip
        with counted(builder, m) as i:
            row = c + i.index * ldc
            with builder.if_then(builder.not_(accumulate)):
                fill_with_zeros(row, n)
            with counted(builder, k) as s:
                factor = a[i.index * row_a + s.index * column_a]
                other = b + s.index * row_b
                with counted(builder, n) as j:
                    product = getattr(builder, multiply)(factor, other[j.index * column_b])
                    row[j.index] = getattr(builder, add)(row[j.index], product)
        builder.ret_void()

    kinds = [LONG, LONG, LONG, dtype, LONG, LONG, dtype, LONG, LONG, dtype, LONG, BIT]
    attributes = ("noinline", "optnone") if dtype.kind == "f" else ()  # hardly ever called
    return function(module, f"symgraph.product.{dtype.name}", _VOID, kinds, write, attributes=attributes)


def _syrk(module: Any, dtype: DType) -> Any:
    def write(
        builder: Any, n: Number, k: Number, a: Array, lda: Number, transposed: Any, c: Array, ldc: Number,
        accumulate: Any,
    ) -> None:  # fmt: skip
        small = builder.or_(n < _SYMMETRIC_SIDE, k < _SYMMETRIC_DEPTH)
        far = builder.or_(n > _GREATEST, builder.or_(k > _GREATEST, builder.or_(lda > _GREATEST, ldc > _GREATEST)))
        with builder.if_then(builder.or_(small, far)):
            other = builder.not_(transposed)
            invoke(
                builder, _gemm(module, dtype), n, n, k, a, lda, transposed, a, lda, other, c, ldc, accumulate
            )  # fmt: skip
            builder.ret_void()
        beta = builder.select(accumulate, one(dtype), zero(dtype))
        flag = _flag(builder, builder.not_(transposed))
        blas.call(builder, blas.letter(dtype) + "syrk", ["L", flag, n, k, one(dtype), a, lda, beta, c, ldc])
        _mirror(builder, c, n, ldc)
        builder.ret_void()

    kinds = [LONG, LONG, dtype, LONG, BIT, dtype, LONG, BIT]
    return function(module, f"symgraph.syrk.{dtype.name}", _VOID, kinds, write, distinct=False, attributes=SHORT)


def _mirror(builder: Any, c: Array, n: Number, ldc: Number) -> None:
    """Copy what is above the diagonal to below it, block by block: both sides stay in the cache."""
    with (
        counted(builder, n, step=_BLOCK) as left,
        counted(builder, n, start=left.index, step=_BLOCK) as top,
        counted(builder, (top.index + _BLOCK).at_most(n), start=top.index) as j,
        counted(builder, (left.index + _BLOCK).at_most(j.index), start=left.index) as i,
    ):
        c[j.index * ldc + i.index] = c[i.index * ldc + j.index]


def transpose(builder: Any, source: Array, rows: Number, columns: Number, target: Array) -> None:
    """Write a copy of a matrix with its axes exchanged, block by block."""
    with (
        counted(builder, columns, step=_BLOCK) as top,
        counted(builder, rows, step=_BLOCK) as left,
        counted(builder, (top.index + _BLOCK).at_most(columns), start=top.index) as j,
        counted(builder, (left.index + _BLOCK).at_most(rows), start=left.index) as i,
    ):
        target[j.index * rows + i.index] = source[i.index * columns + j.index]


def multiply_stacks(
    builder: Any, dtype: DType, a: Any, b: Any, c: Any, batch: Any, m: Any, n: Any, k: Any,
    strides: tuple[Any, Any], transposed: tuple[bool, bool],
) -> None:  # fmt: skip
    """Write the products of the matrices of two stacks.

    Args:
        builder: Where to write it.
        dtype: The type of all elements.
        a, b, c: The first elements of matrices without gaps.
        batch: How many products there are.
        m, n, k: The sizes of each.
        strides: How many elements apart the matrices of a and of b are; 0 for the same one in all products.
        transposed: Whether the matrices of a and of b have their axes exchanged in memory.
    """

    def write(
        builder: Any, a: Array, b: Array, c: Array, batch: Number, m: Number, n: Number, k: Number,
        stride_a: Number, stride_b: Number, transposed_a: Any, transposed_b: Any,
    ) -> None:  # fmt: skip
        lda = chosen(builder, transposed_a, m, k).at_least(1)
        ldb = chosen(builder, transposed_b, k, n).at_least(1)
        with counted(builder, batch) as i:
            left, right, result = a + i.index * stride_a, b + i.index * stride_b, c + i.index * (m * n)
            invoke(
                builder, _gemm(builder.module, dtype), m, n, k, left, lda, transposed_a, right, ldb, transposed_b,
                result, n.at_least(1), False,
            )  # fmt: skip
        builder.ret_void()

    kinds = [dtype, dtype, dtype, *[LONG] * 6, BIT, BIT]
    name = f"symgraph.matmul.{dtype.name}"
    made = function(builder.module, name, _VOID, kinds, write, distinct=False, attributes=SHORT)
    invoke(builder, made, a, b, c, batch, m, n, k, *strides, *transposed)
