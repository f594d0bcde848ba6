"""Positive definite matrices: their Cholesky factors, and the derivative of these, by blocks on several threads.

Both go through the columns of blocks once, in phases within which the blocks do not need each other. The factor is
computed from left to right: what is left of a block is taken out of it in one product, then it is divided by the block
on the diagonal, and the diagonal's own share is settled at once, so that its block is factorized while the others of
that phase are at work. The derivative goes the same way backwards (I. Murray, "Differentiation of the Cholesky
decomposition", 2016, arXiv:1602.07527), with two phases for a column: one needs only what is known before the block
on the diagonal to the right, and runs beside it. The factor takes n³/6 multiplications, the derivative twice as many.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from symgraph.compile.machine import blas
from symgraph.compile.machine.factors import NO_MEMORY, NOT_POSITIVE
from symgraph.compile.machine.language import (
    SHORT,
    Array,
    Number,
    copy,
    counted,
    fill_with_zeros,
    function,
    one,
    workspace,
    zero,
)
from symgraph.compile.machine.sharing import share_in_phases
from symgraph.compile.machine.substitution import BLOCK, add_product, divide_columns, divide_rows
from symgraph.compile.machine.vectors import BIT, INT, LONG, DType, long

_FINE = ir.Constant(INT, 0)
_VOID = ir.VoidType()
_WORTH_SHARING = 6  # blocks in a row: 0.3 ms, of which starting threads takes 0.06


def cholesky(module: Any, dtype: DType, shared: bool) -> Any:
    """Return the function ``(result, x, batch, n, threads) -> status``."""

    def write(builder: Any, result: Array, x: Array, batch: Number, n: Number, threads: Number) -> None:
        info = builder.alloca(INT)
        builder.store(_FINE, info)
        blocks = _blocks(n)
        with counted(builder, batch) as i:
            arguments = [result + i.index * (n * n), x + i.index * (n * n), n, info]
            part, crew = _factor_part(module, dtype), threads.value if shared else None
            share_in_phases(builder, part, arguments, blocks, blocks, _workers(builder, blocks), crew)
            failed = builder.icmp_signed("!=", builder.load(info), _FINE)
            with builder.if_then(failed, likely=False):
                builder.ret(ir.Constant(INT, NOT_POSITIVE))
        builder.ret(_FINE)

    kinds = [dtype, dtype, LONG, LONG, LONG]
    return function(module, f"symgraph.cholesky{'_shared' * shared}.{dtype.name}", INT, kinds, write, attributes=SHORT)


def cholesky_pullback(module: Any, dtype: DType, shared: bool) -> Any:
    """Return the function ``(result, factor, cotangent, batch, n, threads) -> status``."""

    def write(
        builder: Any, result: Array, factor: Array, cotangent: Array, batch: Number, n: Number, threads: Number
    ) -> None:
        blocks = _blocks(n)
        room_for = workspace(builder, dtype, (blocks + 2) * _AREA)
        with room_for as (room, enough), builder.if_then(enough), counted(builder, batch) as i:
            start = i.index * (n * n)
            arguments = [result + start, factor + start, cotangent + start, n, room]
            part, crew = _pullback_part(module, dtype), threads.value if shared else None
            share_in_phases(builder, part, arguments, blocks * 2, blocks, _workers(builder, blocks), crew)
        builder.ret(builder.select(enough, _FINE, ir.Constant(INT, NO_MEMORY)))

    kinds = [dtype, dtype, dtype, LONG, LONG, LONG]
    name = f"symgraph.cholesky_pullback{'_shared' * shared}.{dtype.name}"
    return function(module, name, INT, kinds, write, attributes=SHORT)


_AREA = BLOCK * BLOCK


def _blocks(n: Number) -> Number:
    return (n + (BLOCK - 1)) // BLOCK


def _workers(builder: Any, blocks: Number) -> Number:
    """Return how many threads are worth it."""
    return Number(builder, builder.select(blocks < _WORTH_SHARING, long(1), blocks.value))


def _factor_part(module: Any, dtype: DType) -> Any:
    """Return the function that brings one block of a column, and its rows' share of the diagonal, to an end.

    In phase 0 the rows are copied; the first block of each phase also factorizes its block on the diagonal.
    """

    def write(builder: Any, result: Array, x: Array, n: Number, info: Any, phase: Number, number: Number) -> None:
        block = number + phase
        row = block * BLOCK
        with builder.if_then(row >= n):
            builder.ret_void()
        size = (n - row).at_most(BLOCK)
        rows = result + row * n
        diagonal = rows + row
        with builder.if_else(phase.equals(0)) as (first, later):
            with first, counted(builder, size) as i:
                place, kept = (row + i.index) * n, row + i.index + 1
                copy(x + place, result + place, kept)
                fill_with_zeros(result + (place + kept), n - kept)
            with later:
                before = (phase - 1) * BLOCK
                wide = Number(builder, long(BLOCK))
                above, here = result + before * n, rows + before
                with builder.if_then(before > 0):
                    add_product(
                        builder, dtype, (size, wide, before), -1, rows, n, False, above, n, True, here, n
                    )  # fmt: skip
                near = Number(builder, long(1))
                divide_rows(builder, dtype, wide, above + before, (n, near), ir.Constant(BIT, 0), here, n, size)
                letter = _letter(dtype)
                scale = ir.Constant(one(dtype).type, -1)
                blas.call(
                    builder, letter + "syrk", ["U", "T", size, BLOCK, scale, here, n, one(dtype), diagonal, n]
                )  # fmt: skip
        with builder.if_then(number.equals(0)):
            found = builder.alloca(INT)
            blas.call(builder, _letter(dtype) + "potrf", ["U", size, diagonal, n, found])
            value = builder.load(found)
            with builder.if_then(builder.icmp_signed("!=", value, _FINE), likely=False):
                builder.store(value, info)
        builder.ret_void()

    kinds = [dtype, dtype, LONG, INT.as_pointer(), LONG, LONG]
    return function(module, f"symgraph.factor_part.{dtype.name}", _VOID, kinds, write, attributes=SHORT)


def _pullback_part(module: Any, dtype: DType) -> Any:
    """Return the function of one block in one of the two phases of its column, which are counted from the last.

    The result holds the cotangent of the factor where that is not done yet, below the diagonal; what is done is
    symmetric. With T what is done, B the part of the column of L below its block A on the diagonal, and Ḡ their
    cotangents: X = (Ḡ - 2 T B) A⁻¹, half of which is the result, and XᵀB is taken out of A's cotangent.
    """

    def write(
        builder: Any, result: Array, factor: Array, cotangent: Array, n: Number, room: Array, phase: Number,
        number: Number,
    ) -> None:  # fmt: skip
        blocks = _blocks(n)
        column = blocks - 1 - phase // 2
        even = builder.icmp_signed("==", (phase % 2).value, long(0))
        with builder.if_else(even) as (below, beside):
            with below:
                block = column + 1 + number
                with builder.if_then(block < blocks):
                    _finish(builder, dtype, result, factor, cotangent, n, room, column, block, number)
            with beside:
                with builder.if_then(number.equals(0)):
                    _diagonal(builder, dtype, result, factor, cotangent, n, room, column)
                block = column + number
                inside = builder.and_(block < blocks, builder.and_(number > 0, column > 0))
                with builder.if_then(inside):
                    _prepare(builder, dtype, result, factor, cotangent, n, column - 1, block, column + 1, blocks)
        builder.ret_void()

    kinds = [dtype, dtype, dtype, LONG, dtype, LONG, LONG]
    return function(module, f"symgraph.pullback_part.{dtype.name}", _VOID, kinds, write, attributes=SHORT)


def _prepare(
    builder: Any, dtype: DType, result: Array, factor: Array, cotangent: Array, n: Number, column: Number,
    block: Number, first: Number, last: Number,
) -> None:  # fmt: skip
    """Copy a block's cotangent, and take out of it the products with the blocks from one up to another."""
    start, row = column * BLOCK, block * BLOCK
    _copy_block(cotangent + (row * n + start), result + (row * n + start), n, (n - row).at_most(BLOCK))
    _take_out(builder, dtype, result, factor, n, column, block, first * BLOCK, (last * BLOCK).at_most(n))


def _copy_block(source: Array, target: Array, n: Number, rows: Number) -> None:
    builder = source.builder
    with counted(builder, rows) as i:
        copy(source + i.index * n, target + i.index * n, Number(builder, long(BLOCK)))


def _take_out(
    builder: Any, dtype: DType, result: Array, factor: Array, n: Number, column: Number, block: Number, first: Number,
    last: Number,
) -> None:  # fmt: skip
    row, start = block * BLOCK, column * BLOCK
    sizes = (n - row).at_most(BLOCK), Number(builder, long(BLOCK)), last - first
    with builder.if_then(last > first):
        add_product(
            builder, dtype, sizes, -2, result + (row * n + first), n, False, factor + (first * n + start), n, False,
            result + (row * n + start), n,
        )  # fmt: skip


def _finish(
    builder: Any, dtype: DType, result: Array, factor: Array, cotangent: Array, n: Number, room: Array, column: Number,
    block: Number, number: Number,
) -> None:  # fmt: skip
    """Bring a block below the diagonal to its end, and keep its share of the cotangent on the diagonal."""
    start, row = column * BLOCK, block * BLOCK
    size, wide = (n - row).at_most(BLOCK), Number(builder, long(BLOCK))
    place = result + (row * n + start)
    with builder.if_then(number.equals(0)):
        _copy_block(cotangent + (row * n + start), place, n, size)
    first = start + BLOCK
    end = Number(builder, builder.select(number.equals(0), n.value, (first + BLOCK).value)).at_most(n)
    _take_out(builder, dtype, result, factor, n, column, block, first, end)
    near = Number(builder, long(1))
    corner = factor + start * (n + 1)
    divide_rows(builder, dtype, wide, corner, (near, n), ir.Constant(BIT, 1), place, n, size)
    add_product(
        builder, dtype, (wide, wide, size), 1, place, n, True, factor + (row * n + start), n, False,
        room + block * _AREA, wide, accumulate=False,
    )  # fmt: skip
    half = ir.Constant(one(dtype).type, 0.5)
    with counted(builder, size) as i, counted(builder, wide) as j:
        value = builder.fmul(half, place[i.index * n + j.index])
        place[i.index * n + j.index] = value
        result[(start + j.index) * n + row + i.index] = value


def _diagonal(
    builder: Any, dtype: DType, result: Array, factor: Array, cotangent: Array, n: Number, room: Array, column: Number
) -> None:
    """Bring a block on the diagonal to its end: ½ A⁻ᵀ (P + Pᵀ) A⁻¹ with P the lower triangle of AᵀḠ, halved there."""
    start = column * BLOCK
    size = (n - start).at_most(BLOCK)
    blocks, wide, near = _blocks(n), Number(builder, long(BLOCK)), Number(builder, long(1))
    place, corner = start * (n + 1), factor + start * (n + 1)
    target = result + place
    rest, lower = room + blocks * _AREA, room + (blocks + 1) * _AREA
    with counted(builder, size) as i, counted(builder, size) as j:
        seen = j.index < i.index + 1
        value = cotangent[place + i.index * n + j.index]
        rest[i.index * wide + j.index] = builder.select(seen, value, zero(dtype))
    with counted(builder, blocks, start=column + 1) as k:
        share = room + k.index * _AREA
        with counted(builder, size) as i, counted(builder, i.index + 1) as j:
            at = i.index * wide + j.index
            rest[at] = builder.fsub(rest[at], share[at])
    add_product(
        builder, dtype, (size, size, size), 1, corner, n, True, rest, wide, False, lower, wide, accumulate=False
    )  # fmt: skip
    half = ir.Constant(one(dtype).type, 0.5)
    with counted(builder, size) as i, counted(builder, i.index + 1) as j:
        value = builder.fmul(half, lower[i.index * wide + j.index])
        target[i.index * n + j.index] = value
        target[j.index * n + i.index] = value
    backward = ir.Constant(BIT, 1)
    divide_columns(builder, dtype, size, corner, (near, n), backward, False, target, n, size)
    divide_rows(builder, dtype, size, corner, (near, n), backward, target, n, size)
    with counted(builder, size) as i, counted(builder, i.index) as j:
        target[j.index * n + i.index] = target[i.index * n + j.index]


def _letter(dtype: DType) -> str:
    return "d" if dtype.itemsize == 8 else "s"
