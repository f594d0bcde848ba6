"""Positive definite matrices: their Cholesky factors, and the derivative of these, by blocks on several threads.

Both go through the columns of blocks once, in phases within which the blocks do not need each other. The factor is
computed from left to right: what is left of a block is taken out of it in one product, then it is divided by the block
on the diagonal, and the diagonal's own share is settled at once, so that its block is factorized while the others of
that phase are at work. The derivative goes the same way backwards (I. Murray, "Differentiation of the Cholesky
decomposition", 2016, arXiv:1602.07527), with two phases for a column: one needs only what is known before the block
on the diagonal to the right, and runs beside it. The factor takes n³/6 multiplications, the derivative twice as many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from symgraph.compile.kernels.instructions import llvm_type
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
from symgraph.compile.machine.threads import POINTER
from symgraph.compile.machine.vectors import BIT, INT, LONG, DType, long

_AREA = BLOCK * BLOCK
_FINE = ir.Constant(INT, 0)
_VOID = ir.VoidType()
_WORTH_SHARING = 6  # blocks in a row: 0.3 ms, of which starting threads takes 0.06


def cholesky(module: Any, dtype: DType, shared: bool) -> Any:
    """Return the function ``(result, x, batch, n, threads) -> status``."""

    def write(builder: Any, result: Array, x: Array, batch: Number, n: Number, threads: Any) -> None:
        info = builder.alloca(INT)
        builder.store(_FINE, info)
        blocks = _blocks(n)
        with counted(builder, batch) as i:
            arguments = [result + i.index * (n * n), x + i.index * (n * n), n, info]
            part, crew = _factor_part(module, dtype), threads if shared else None
            share_in_phases(builder, part, arguments, blocks, blocks, _workers(builder, blocks), crew)
            failed = builder.icmp_signed("!=", builder.load(info), _FINE)
            with builder.if_then(failed, likely=False):
                builder.ret(ir.Constant(INT, NOT_POSITIVE))
        builder.ret(_FINE)

    kinds = [dtype, dtype, LONG, LONG, POINTER]
    return function(module, f"symgraph.cholesky{'_shared' * shared}.{dtype.name}", INT, kinds, write, attributes=SHORT)


def cholesky_pullback(module: Any, dtype: DType, shared: bool) -> Any:
    """Return the function ``(result, factor, cotangent, batch, n, threads) -> status``."""

    def write(
        builder: Any, result: Array, factor: Array, cotangent: Array, batch: Number, n: Number, threads: Any
    ) -> None:
        blocks = _blocks(n)
        room_for = workspace(builder, dtype, (blocks + 2) * _AREA)
        with room_for as (room, enough), builder.if_then(enough), counted(builder, batch) as i:
            start = i.index * (n * n)
            arguments = [result + start, factor + start, cotangent + start, n, room]
            part, crew = _pullback_part(module, dtype), threads if shared else None
            share_in_phases(builder, part, arguments, blocks * 2, blocks, _workers(builder, blocks), crew)
        builder.ret(builder.select(enough, _FINE, ir.Constant(INT, NO_MEMORY)))

    kinds = [dtype, dtype, dtype, LONG, LONG, POINTER]
    name = f"symgraph.cholesky_pullback{'_shared' * shared}.{dtype.name}"
    return function(module, name, INT, kinds, write, attributes=SHORT)


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
                near, minus = Number(builder, long(1)), ir.Constant(llvm_type(dtype), -1)
                divide_rows(builder, dtype, wide, above + before, (n, near), ir.Constant(BIT, 0), here, n, size)
                arguments = ["U", "T", size, BLOCK, minus, here, n, one(dtype), diagonal, n]
                blas.call(builder, blas.letter(dtype) + "syrk", arguments)
        with builder.if_then(number.equals(0)):
            found = builder.alloca(INT)
            blas.call(builder, blas.letter(dtype) + "potrf", ["U", size, diagonal, n, found])
            value = builder.load(found)
            with builder.if_then(builder.icmp_signed("!=", value, _FINE), likely=False):
                builder.store(value, info)
        builder.ret_void()

    kinds = [dtype, dtype, LONG, INT.as_pointer(), LONG, LONG]
    return function(module, f"symgraph.factor_part.{dtype.name}", _VOID, kinds, write, attributes=SHORT)


def _pullback_part(module: Any, dtype: DType) -> Any:
    """Return the function of one block in one of the two phases of its column, which are counted from the last."""

    def write(
        builder: Any, result: Array, factor: Array, cotangent: Array, n: Number, room: Array, phase: Number,
        number: Number,
    ) -> None:  # fmt: skip
        blocks = _blocks(n)
        column = blocks - 1 - phase // 2
        pullback = _Pullback(builder, dtype, result, factor, cotangent, n, room)
        even = builder.icmp_signed("==", (phase % 2).value, long(0))
        with builder.if_else(even) as (below, beside):
            with below:
                block = column + 1 + number
                with builder.if_then(block < blocks):
                    pullback.finish(column, block, number)
            with beside:
                with builder.if_then(number.equals(0)):
                    pullback.finish_diagonal(column)
                block = column + number
                inside = builder.and_(block < blocks, builder.and_(number > 0, column > 0))
                with builder.if_then(inside):
                    pullback.prepare(column - 1, block)
        builder.ret_void()

    kinds = [dtype, dtype, dtype, LONG, dtype, LONG, LONG]
    return function(module, f"symgraph.pullback_part.{dtype.name}", _VOID, kinds, write, attributes=SHORT)


@dataclass(frozen=True)
class _Pullback:
    """Writes what is done with one block of the cotangent of a factor L.

    The result holds the cotangent below the diagonal where that is not done yet; what is done is symmetric. With T
    what is done, B what L has below its block A on the diagonal, and B̄ and Ā their cotangents: X = (B̄ - 2 T B) A⁻¹,
    half of which is the result, and XᵀB is taken out of Ā. These products are kept apart for each block, and combined
    in their order.
    """

    builder: Any
    dtype: DType
    result: Array
    factor: Array
    cotangent: Array
    n: Number
    room: Array

    def prepare(self, column: Number, block: Number) -> None:
        """Do what does not need the column to the right of it, which is not done."""
        self._copy(column, block)
        self._take_out(column, block, (column + 2) * BLOCK, self.n)

    def finish(self, column: Number, block: Number, number: Number) -> None:
        """Bring a block below the diagonal to its end; the first one has not been prepared."""
        builder, n, wide = self.builder, self.n, self._number(BLOCK)
        start, row = column * BLOCK, block * BLOCK
        size = (n - row).at_most(BLOCK)
        place = self.result + (row * n + start)
        with builder.if_then(number.equals(0)):
            self._copy(column, block)
        first = start + BLOCK
        end = Number(builder, builder.select(number.equals(0), n.value, (first + BLOCK).value)).at_most(n)
        self._take_out(column, block, first, end)
        corner = self.factor + start * (n + 1)
        divide_rows(builder, self.dtype, wide, corner, (self._number(1), n), ir.Constant(BIT, 1), place, n, size)
        add_product(
            builder, self.dtype, (wide, wide, size), 1, place, n, True, self.factor + (row * n + start), n, False,
            self.room + block * _AREA, wide, accumulate=False,
        )  # fmt: skip
        with counted(builder, size) as i, counted(builder, wide) as j:
            value = builder.fmul(self._half(), place[i.index * n + j.index])
            place[i.index * n + j.index] = value
            self.result[(start + j.index) * n + row + i.index] = value

    def finish_diagonal(self, column: Number) -> None:
        """Bring a block on the diagonal to its end: ½ A⁻ᵀ (P + Pᵀ) A⁻¹, P the lower triangle of AᵀĀ, halved there."""
        builder, dtype, n, wide = self.builder, self.dtype, self.n, self._number(BLOCK)
        start = column * BLOCK
        size, place = (n - start).at_most(BLOCK), start * (n + 1)
        corner, target, given = self.factor + place, self.result + place, self.cotangent + place
        blocks = _blocks(n)
        left, lower = self.room + blocks * _AREA, self.room + (blocks + 1) * _AREA
        with counted(builder, size) as i, counted(builder, size) as j:
            value = builder.select(j.index < i.index + 1, given[i.index * n + j.index], zero(dtype))
            left[i.index * wide + j.index] = value
        with counted(builder, blocks, start=column + 1) as k:
            product = self.room + k.index * _AREA
            with counted(builder, size) as i, counted(builder, i.index + 1) as j:
                at = i.index * wide + j.index
                left[at] = builder.fsub(left[at], product[at])
        add_product(
            builder, dtype, (size, size, size), 1, corner, n, True, left, wide, False, lower, wide, accumulate=False
        )  # fmt: skip
        with counted(builder, size) as i, counted(builder, i.index + 1) as j:
            value = builder.fmul(self._half(), lower[i.index * wide + j.index])
            target[i.index * n + j.index] = value
            target[j.index * n + i.index] = value
        turned, backward = (self._number(1), n), ir.Constant(BIT, 1)
        divide_columns(builder, dtype, size, corner, turned, backward, False, target, n, size)
        divide_rows(builder, dtype, size, corner, turned, backward, target, n, size)
        with counted(builder, size) as i, counted(builder, i.index) as j:
            target[j.index * n + i.index] = target[i.index * n + j.index]

    def _copy(self, column: Number, block: Number) -> None:
        place = block * BLOCK * self.n + column * BLOCK
        with counted(self.builder, (self.n - block * BLOCK).at_most(BLOCK)) as i:
            row = place + i.index * self.n
            copy(self.cotangent + row, self.result + row, self._number(BLOCK))

    def _take_out(self, column: Number, block: Number, first: Number, last: Number) -> None:
        """Write B̄ -= 2 T B for one block of B̄, and for some of the columns of T."""
        n, row, start = self.n, block * BLOCK, column * BLOCK
        sizes = (n - row).at_most(BLOCK), self._number(BLOCK), last - first
        with self.builder.if_then(last > first):
            add_product(
                self.builder, self.dtype, sizes, -2, self.result + (row * n + first), n, False,
                self.factor + (first * n + start), n, False, self.result + (row * n + start), n,
            )  # fmt: skip

    def _number(self, value: int) -> Number:
        return Number(self.builder, long(value))

    def _half(self) -> Any:
        return ir.Constant(llvm_type(self.dtype), 0.5)
