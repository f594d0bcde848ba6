"""Linear algebra by LAPACK: functions of stacks of square matrices, each of which returns a status.

A matrix is factorized in a copy, kept by columns as NumPy has it: the same pivots, and the same matrices are singular.
As in NumPy, NaN is a number like any other, and no error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from symgraph.compile.kernels.instructions import llvm_type, suffix
from symgraph.compile.machine import blas
from symgraph.compile.machine.language import (
    SHORT,
    Array,
    Number,
    chosen,
    copy,
    counted,
    fill_with_zeros,
    function,
    one,
    workspace,
    zero,
)
from symgraph.compile.machine.products import transpose
from symgraph.compile.machine.sharing import piece, pieces_along, share
from symgraph.compile.machine.substitution import divide_columns
from symgraph.compile.machine.threads import POINTER
from symgraph.compile.machine.vectors import BIT, BYTE, INT, LONG, DType, intrinsic, long

NOT_POSITIVE, SINGULAR, NO_MEMORY, TOO_MANY = -1, -2, -3, -4
_GREATEST = 2**31 - 1  # LAPACK counts in C's integers
_FINE = ir.Constant(INT, 0)


def _name(operation: str, dtype: DType, of_vectors: bool, shared: bool) -> str:
    return f"symgraph.{operation}{'_vector' * of_vectors}{'_shared' * shared}.{dtype.name}"


def solve_triangular(module: Any, dtype: DType, of_vectors: bool, shared: bool) -> Any:
    """Return the function ``(result, a, b, batch, n, columns, threads, lower, transposed) -> status``."""

    def write(
        builder: Any, result: Array, a: Array, b: Array, batch: Number, n: Number, columns: Number,
        threads: Any, lower: Any, transposed: Any,
    ) -> None:  # fmt: skip
        size = n * columns
        with builder.if_then(size.equals(0)):
            builder.ret(_FINE)
        _check(builder, columns)
        backward = builder.not_(builder.xor(lower, transposed))
        copy(b, result, batch * size)
        with counted(builder, batch) as i:
            matrix, sides = a + i.index * (n * n), result + i.index * size
            workers = threads if shared else None
            _divide(builder, dtype, n, matrix, transposed, backward, False, sides, columns, of_vectors, workers)
        builder.ret(_FINE)

    kinds = [dtype, dtype, dtype, LONG, LONG, LONG, POINTER, BIT, BIT]
    return function(module, _name("solve_triangular", dtype, of_vectors, shared), INT, kinds, write, attributes=SHORT)


def solve(module: Any, dtype: DType, of_vectors: bool, shared: bool) -> Any:
    """Return the function ``(result, a, b, batch, n, columns, threads) -> status``."""

    def write(
        builder: Any, result: Array, a: Array, b: Array, batch: Number, n: Number, columns: Number, threads: Any
    ) -> None:
        def use(i: Number, factors: Array, pivots: Array) -> None:
            sides = result + i * (n * columns)
            copy(b + i * (n * columns), sides, n * columns)
            _divide_by_factors(
                builder, dtype, factors, pivots, sides, n, columns, of_vectors, threads if shared else None
            )

        _check(builder, columns)
        _factorize_each(builder, dtype, a, batch, n, use, singular_is_error=True)

    kinds = [dtype, dtype, dtype, LONG, LONG, LONG, POINTER]
    return function(module, _name("solve", dtype, of_vectors, shared), INT, kinds, write, attributes=SHORT)


def inv(module: Any, dtype: DType, shared: bool) -> Any:
    """Return the function ``(result, x, batch, n, threads) -> status``."""

    def write(builder: Any, result: Array, x: Array, batch: Number, n: Number, threads: Any) -> None:
        def use(i: Number, factors: Array, pivots: Array) -> None:
            target = result + i * (n * n)
            fill_with_zeros(target, n * n)
            with counted(builder, n) as row:
                target[row.index * (n + 1)] = one(dtype)
            _divide_by_factors(builder, dtype, factors, pivots, target, n, n, False, threads if shared else None)

        _factorize_each(builder, dtype, x, batch, n, use, singular_is_error=True)

    kinds = [dtype, dtype, LONG, LONG, POINTER]
    return function(module, _name("inv", dtype, False, shared), INT, kinds, write, attributes=SHORT)


def det(module: Any, dtype: DType) -> Any:
    """Return the function ``(result, x, batch, n) -> status``."""

    def write(builder: Any, result: Array, x: Array, batch: Number, n: Number) -> None:
        def of_one(i: Number, factors: Array, pivots: Array) -> None:
            start = _parity(builder, dtype, pivots, n)
            with counted(builder, n, carried=[start]) as row:
                row.carry(builder.fmul(row.values[0], factors[row.index * (n + 1)]))
            result[i] = row.values[0]

        _factorize_each(builder, dtype, x, batch, n, of_one)

    return function(module, f"symgraph.det.{dtype.name}", INT, [dtype, dtype, LONG, LONG], write, attributes=SHORT)


def det_sign(module: Any, dtype: DType) -> Any:
    """Return the function ``(result, x, batch, n) -> status``; the sign of a singular matrix is 0."""

    def write(builder: Any, result: Array, x: Array, batch: Number, n: Number) -> None:
        def of_one(i: Number, factors: Array, pivots: Array) -> None:
            start = _parity(builder, dtype, pivots, n)
            with counted(builder, n, carried=[start]) as row:
                sign, value = row.values[0], factors[row.index * (n + 1)]
                turned = builder.select(builder.fcmp_ordered("<", value, zero(dtype)), builder.fneg(sign), sign)
                row.carry(builder.select(builder.fcmp_ordered("==", value, zero(dtype)), zero(dtype), turned))
            result[i] = row.values[0]

        _factorize_each(builder, dtype, x, batch, n, of_one)

    return function(module, f"symgraph.det_sign.{dtype.name}", INT, [dtype, dtype, LONG, LONG], write, attributes=SHORT)


def logabsdet(module: Any, dtype: DType) -> Any:
    """Return the function ``(result, x, batch, n) -> status``."""

    def write(builder: Any, result: Array, x: Array, batch: Number, n: Number) -> None:
        kind = llvm_type(dtype)
        log, size = (intrinsic(module, f"llvm.{name}.{suffix(kind)}", kind, [kind]) for name in ("log", "fabs"))

        def of_one(i: Number, factors: Array, pivots: Array) -> None:
            with counted(builder, n, carried=[zero(dtype)]) as row:
                value = builder.call(size, [factors[row.index * (n + 1)]])
                row.carry(builder.fadd(row.values[0], builder.call(log, [value])))
            result[i] = row.values[0]

        _factorize_each(builder, dtype, x, batch, n, of_one)

    return function(
        module, f"symgraph.logabsdet.{dtype.name}", INT, [dtype, dtype, LONG, LONG], write, attributes=SHORT
    )


def _factorize_each(
    builder: Any,
    dtype: DType,
    x: Array,
    batch: Number,
    n: Number,
    use: Callable[[Number, Array, Array], None],
    singular_is_error: bool = False,
) -> None:
    """Write the end of a function: an LU factorization, kept by columns, of each matrix, and what is done with it."""
    status = _slot(builder)
    with workspace(builder, dtype, n * (n + 1)) as (factors, enough):
        behind = builder.bitcast((factors + n * n).pointer, INT.as_pointer())
        pivots = Array(builder, behind, np.dtype(np.int32))
        builder.store(builder.select(enough, _FINE, ir.Constant(INT, NO_MEMORY)), status)
        info = _slot(builder)
        with builder.if_then(enough), counted(builder, batch) as i:
            with builder.if_then(n > 0):
                transpose(builder, x + i.index * (n * n), n, n, factors)
                blas.call(builder, blas.letter(dtype) + "getrf", [n, n, factors, n, pivots, info])
                if singular_is_error:
                    with builder.if_then(_failed(builder, info), likely=False):
                        builder.store(ir.Constant(INT, SINGULAR), status)
                        i.leave()
            use(i.index, factors, pivots)
    builder.ret(builder.load(status))


def _check(builder: Any, columns: Number) -> None:
    """Write the return for more right-hand sides than can be counted."""
    with builder.if_then(columns > _GREATEST, likely=False):
        builder.ret(ir.Constant(INT, TOO_MANY))


def _slot(builder: Any) -> Any:
    """Return the address of an integer that is 0."""
    with builder.goto_entry_block():
        slot = builder.alloca(INT)
    builder.store(_FINE, slot)
    return slot


def _failed(builder: Any, info: Any) -> Any:
    return builder.icmp_signed("!=", builder.load(info), _FINE)


def _either(builder: Any, condition: Any, letters: str) -> Any:
    return builder.select(condition, *(ir.Constant(BYTE, ord(letter)) for letter in letters))


def _divide(
    builder: Any, dtype: DType, n: Number, matrix: Array, transposed: Any, backward: Any, unit: bool, sides: Array,
    columns: Number, of_vectors: bool, threads: Any,
) -> None:  # fmt: skip
    """Solve a system with one triangle, or its transpose: the lower one or, backward, the upper one."""
    near = Number(builder, long(1))
    strides = chosen(builder, transposed, near, n), chosen(builder, transposed, n, near)
    if of_vectors:
        # By columns BLAS sees the transpose of what lies in rows, and its other triangle.
        triangle = _either(builder, builder.xor(transposed, backward), "LU")
        flags = [triangle, _either(builder, transposed, "NT"), "U" if unit else "N"]
        blas.call(builder, blas.letter(dtype) + "trsv", [*flags, n, matrix, n, sides, 1])
    elif threads is None:
        divide_columns(builder, dtype, n, matrix, strides, backward, unit, sides, columns, columns)
    else:
        pieces = pieces_along(builder, columns, [n, n, columns], dtype)
        arguments = [n, matrix, *strides, backward, unit, sides, columns]
        share(builder, _columns(builder.module, dtype), arguments, pieces, threads)


def _columns(module: Any, dtype: DType) -> Any:
    """Return the function that solves a triangular system for some of the columns."""

    def write(
        builder: Any, n: Number, matrix: Array, down: Number, right: Number, backward: Any, unit: Any, sides: Array,
        columns: Number, pieces: Number, number: Number,
    ) -> None:  # fmt: skip
        start, count = piece(columns, pieces, number)
        divide_columns(builder, dtype, n, matrix, (down, right), backward, unit, sides + start, columns, count)
        builder.ret_void()

    kinds = [LONG, dtype, LONG, LONG, BIT, BIT, dtype, LONG, LONG, LONG]
    return function(module, f"symgraph.divide.{dtype.name}", ir.VoidType(), kinds, write, attributes=SHORT)


def _divide_by_factors(
    builder: Any, dtype: DType, factors: Array, pivots: Array, sides: Array, n: Number, columns: Number,
    of_vectors: bool, threads: Any,
) -> None:  # fmt: skip
    """Solve a system whose matrix is factorized; the sides are rows, and not empty unless the matrix is."""
    with builder.if_then((n * columns) > 0):
        with counted(builder, n) as row:
            other = _pivot(builder, pivots, row.index)
            with builder.if_then(builder.not_(row.index.equals(other))):
                rows = sides + row.index * columns, sides + other * columns
                blas.call(builder, blas.letter(dtype) + "swap", [columns, rows[0], 1, rows[1], 1])
        yes, no = ir.Constant(BIT, 1), ir.Constant(BIT, 0)
        for backward, unit in ((no, True), (yes, False)):
            _divide(builder, dtype, n, factors, yes, backward, unit, sides, columns, of_vectors, threads)


def _pivot(builder: Any, pivots: Array, row: Number) -> Number:
    return Number(builder, builder.sext(pivots[row], LONG)) - 1


def _parity(builder: Any, dtype: DType, pivots: Array, n: Number) -> Any:
    """Return 1 or -1: whether the number of exchanges of rows is even."""
    with counted(builder, n, carried=[one(dtype)]) as row:
        sign = row.values[0]
        row.carry(builder.select(row.index.equals(_pivot(builder, pivots, row.index)), sign, builder.fneg(sign)))
    return row.values[0]
