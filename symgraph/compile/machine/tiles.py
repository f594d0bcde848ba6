"""Large matrix products, computed in tiles that stay in registers until their sums are done.

A tile has some rows and a few vectors of columns. For each step along the sums it takes one element of each row, which
meets all of the vectors. So that both come from consecutive memory they are packed: as many rows of the right operand
as the sums of one round have, and of the left operand one tile's rows after the other.

What a step has to do besides multiplying counts where another thread shares the core: each then gets half of the
instructions that the core begins in a cycle, but all of its multiplications. So a tile is as wide as registers allow.

An element of the result is the same sum in the same order whatever tile it is in: neither the number of threads nor
the way the result is divided among them changes a bit. Each thread packs what it needs itself, since what another has
packed would have to come from the other's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import binding, ir

from symgraph.compile.kernels.instructions import llvm_type, suffix
from symgraph.compile.machine import vectors
from symgraph.compile.machine.language import SHORT, Array, Number, counted, function, invoke, workspace, zero
from symgraph.compile.machine.sharing import only_if_much, share
from symgraph.compile.machine.threads import POINTER, count_of
from symgraph.compile.machine.vectors import BIT, LONG, DType, intrinsic, load_vector, long, store_vector

_VOID = ir.VoidType()
_ROWS, _VECTORS = 8, 3  # of a tile: with what they are multiplied with, they fit in the 32 registers of AVX-512
_DEPTH = 1536  # at most so many bytes of a row at a time, so that a tile's rows stay in the nearest cache
_PACKED = 2**20  # at most so many bytes of the right operand at a time, so that they stay in the second cache
_LEAST_SIDE, _LEAST_DEPTH = 64, 32
_AHEAD = 8  # steps
_LINE = 64


def are_better(dtype: DType) -> bool:
    """Tell whether tiles are faster than BLAS here: for vectors of 512 bits they have been measured to be."""
    return dtype.kind == "f" and bool(binding.get_host_cpu_features().get("avx512f"))


def are_filled(builder: Any, m: Number, n: Number, k: Number) -> Any:
    """Return whether a product is large enough for its tiles to be full, and packing to be worth it."""
    return builder.and_(m >= _LEAST_SIDE, builder.and_(n >= _LEAST_SIDE, k >= _LEAST_DEPTH))


def multiply(builder: Any, dtype: DType, *arguments: Any) -> Any:
    """Write ``C = A @ B`` or ``C += A @ B``; return whether there was memory for it, without which C is as before.

    Args:
        builder: Where to write it.
        dtype: The type of all elements, a floating-point number.
        arguments: The sizes m, n and k; A, and how many elements apart its rows and its columns are; the same of B;
            C, and how many elements apart its rows are; whether to add to C; and the threads of the call.
    """
    module = builder.module

    def write(
        builder: Any, m: Number, n: Number, k: Number, a: Array, row_a: Number, column_a: Number,
        b: Array, row_b: Number, column_b: Number, c: Array, ldc: Number, accumulate: Any, threads: Any,
    ) -> None:  # fmt: skip
        pieces = Number(builder, count_of(builder, threads)).at_most(m.at_least(n) // _LEAST_SIDE)
        pieces = only_if_much(builder, pieces, [m, n, k], dtype)
        unit, most = _columns(dtype), _DEPTH // dtype.itemsize
        depth = _padded(_quotient(k, _quotient(k, most)), _ROWS)
        width = _padded(n, unit).at_most(_PACKED // (_DEPTH * unit) * unit)
        with (
            workspace(builder, dtype, width * depth * pieces + _LINE) as (room, enough),
            builder.if_then(enough),
        ):
            arguments = [m, n, k, a, row_a, column_a, b, row_b, column_b, c, ldc, accumulate]
            part = _multiply_some(module, dtype)
            share(builder, part, [*arguments, depth, width, _aligned(room)], pieces, threads)
        builder.ret(enough)

    kinds = [LONG, LONG, LONG, dtype, LONG, LONG, dtype, LONG, LONG, dtype, LONG, BIT, POINTER]
    name = f"symgraph.tiles.{dtype.name}"
    made = function(module, name, BIT, kinds, write, distinct=False, attributes=SHORT)
    return invoke(builder, made, *arguments)


def _multiply_some(module: Any, dtype: DType) -> Any:
    """Return the function of one piece of a product: some of its rows, or of its columns where there are more."""

    def write(
        builder: Any, m: Number, n: Number, k: Number, a: Array, row_a: Number, column_a: Number,
        b: Array, row_b: Number, column_b: Number, c: Array, ldc: Number, accumulate: Any,
        depth: Number, width: Number, room: Array, pieces: Number, number: Number,
    ) -> None:  # fmt: skip
        unit = _columns(dtype)
        panel, corner = (
            _on_stack(builder, dtype, size) for size in (_ROWS * (_DEPTH // dtype.itemsize + _ROWS), _ROWS * unit)
        )
        packed = room + number * width * depth
        by_rows = m >= n
        top, bottom = _part(builder, m, _ROWS, by_rows, pieces, number)
        left, right = _part(builder, n, _width(dtype), builder.not_(by_rows), pieces, number)
        with counted(builder, right, start=left, step=width) as first, counted(builder, k, step=depth) as p:
            columns, summands = (right - first.index).at_most(width), (k - p.index).at_most(depth)
            more = builder.or_(accumulate, p.index > 0)
            source = b + p.index * row_b + first.index * column_b
            invoke(builder, _pack(module, dtype, unit), source, column_b, row_b, columns, summands, packed)
            with counted(builder, bottom, start=top, step=_ROWS) as i:
                rows = (bottom - i.index).at_most(_ROWS)
                source = a + i.index * row_a + p.index * column_a
                invoke(builder, _pack(module, dtype, _ROWS), source, row_a, column_a, rows, summands, panel)
                with counted(builder, columns, step=unit) as j:
                    count = (columns - j.index).at_most(unit)
                    target = c + i.index * ldc + first.index + j.index
                    wide = _quotient(count, _width(dtype))
                    operands = [wide, summands, panel, packed + j.index * summands]
                    full = builder.and_(rows.equals(_ROWS), count.equals(wide * _width(dtype)))
                    with builder.if_else(full) as (direct, indirect):
                        with direct:
                            invoke(builder, _tile(module, dtype), *operands, target, ldc, more)
                        with indirect:
                            invoke(builder, _tile(module, dtype), *operands, corner, unit, False)
                            _put(builder, corner, unit, rows, count, target, ldc, more)
        builder.ret_void()

    kinds = [LONG, LONG, LONG, dtype, LONG, LONG, dtype, LONG, LONG, dtype, LONG, BIT, LONG, LONG, dtype, LONG, LONG]
    name = f"symgraph.tiles.some.{dtype.name}"
    return function(module, name, _VOID, kinds, write, distinct=False, attributes=SHORT)


def _part(
    builder: Any, count: Number, unit: int, divided: Any, pieces: Number, number: Number
) -> tuple[Number, Number]:
    """Return where a piece of an axis starts and stops; it is whole unless it is divided."""
    units = _quotient(count, unit)
    start, stop = (((number + i) * units // pieces * unit).at_most(count) for i in (0, 1))
    return (
        Number(builder, builder.select(divided, start.value, long(0))),
        Number(builder, builder.select(divided, stop.value, count.value)),
    )


def _put(
    builder: Any, corner: Array, unit: int, rows: Number, columns: Number, target: Array, ldc: Number, more: Any
) -> None:
    """Put the part of a tile that exists where it belongs."""
    width = _width(corner.dtype)
    with counted(builder, rows) as i:
        for x in range(0, unit, width):
            mask, place = _mask(builder, columns - x, width), target + i.index * ldc + x
            value = load_vector(builder, (corner + i.index * unit + x).pointer, width, None)
            old = load_vector(builder, place.pointer, width, builder.and_(mask, vectors.splat(builder, more, width)))
            store_vector(builder, builder.select(more, builder.fadd(old, value), value), place.pointer, mask)


def _columns(dtype: DType) -> int:
    return _VECTORS * _width(dtype)


def _width(dtype: DType) -> int:
    return _LINE // dtype.itemsize


def _quotient(x: Number, divisor: Number | int) -> Number:
    """Divide and round up."""
    return (x + divisor - 1) // divisor


def _padded(x: Number, unit: int) -> Number:
    return _quotient(x, unit) * unit


def _aligned(room: Array) -> Array:
    builder = room.builder
    start = builder.and_(builder.neg(builder.ptrtoint(room.pointer, LONG)), long(_LINE - 1))
    return room + Number(builder, start) // room.dtype.itemsize


def _on_stack(builder: Any, dtype: DType, count: int) -> Array:
    room = builder.alloca(llvm_type(dtype), size=ir.Constant(vectors.INT, count))
    room.align = _LINE
    return Array(builder, room, dtype)


def _tile(module: Any, dtype: DType) -> Any:
    """Return the function of a tile.

    Its arguments are how many vectors it is wide, how many summands there are, the rows, the columns, the target, how
    many elements apart the target's rows are, and whether to add to it.
    """

    def write(
        builder: Any, count: Number, k: Number, a: Array, b: Array, c: Array, ldc: Number, accumulate: Any
    ) -> None:
        for narrow in range(1, _VECTORS):
            with builder.if_then(count.equals(narrow)):
                _write_tile(builder, narrow, k, a, b, c, ldc, accumulate)
        _write_tile(builder, _VECTORS, k, a, b, c, ldc, accumulate)

    kinds = [LONG, LONG, dtype, dtype, dtype, LONG, BIT]
    return function(module, f"symgraph.tile.{dtype.name}", _VOID, kinds, write, attributes=SHORT)


def _write_tile(
    builder: Any, count: int, k: Number, a: Array, b: Array, c: Array, ldc: Number, accumulate: Any
) -> None:
    """Write a tile that is so many vectors wide, and return."""
    dtype = c.dtype
    width = _width(dtype)
    kind = ir.VectorType(llvm_type(dtype), width)
    fma = intrinsic(builder.module, f"llvm.fma.{suffix(kind)}", kind, [kind] * 3)
    targets = [c + ldc * i + j * width for i in range(_ROWS) for j in range(count)]

    def add(step: Number, sums: Sequence[Any]) -> list[Any]:
        """Add the products of one step to the tile's sums."""
        right, left = b + step * (_VECTORS * width), a + step * _ROWS
        for j in range(count):  # what comes from the second cache must be asked for in time
            vectors.prefetch(builder, (right + (_AHEAD * _VECTORS + j) * width).pointer)
        columns = [load_vector(builder, (right + j * width).pointer, width, None) for j in range(count)]
        factors = (vectors.splat(builder, left[i], width) for i in range(_ROWS))
        pairs = ((factor, column) for factor in factors for column in columns)
        return [builder.call(fma, [*pair, sum_]) for pair, sum_ in zip(pairs, sums, strict=True)]

    sums: Sequence[Any] = [vectors.splat(builder, zero(dtype), width)] * len(targets)
    rows = (k // count).at_most(_ROWS)
    with counted(builder, rows, carried=sums) as row:
        sums = row.values
        for j in range(count):  # a line of the target at a time, or what comes from the second cache waits for many
            vectors.prefetch(builder, (c + ldc * row.index + j * width).pointer)
            sums = add(row.index * count + j, sums)
        row.carry(*sums)
    sums, done = row.values, rows * count
    for together in (2, 1):
        stop = done + (k - done) // together * together
        with counted(builder, stop, start=done, step=together, carried=sums) as step:
            sums = step.values
            for i in range(together):
                sums = add(step.index + i, sums)
            step.carry(*sums)
        sums, done = step.values, stop
    with builder.if_then(accumulate):
        for target, value in zip(targets, sums, strict=True):
            old = load_vector(builder, target.pointer, width, None)
            store_vector(builder, builder.fadd(old, value), target.pointer, None)
        builder.ret_void()
    for target, value in zip(targets, sums, strict=True):
        store_vector(builder, value, target.pointer, None)
    builder.ret_void()


def _pack(module: Any, dtype: DType, unit: int) -> Any:
    """Return the function that packs panels: ``(source, step across, step along, number across, along, target)``.

    What is side by side across a panel becomes consecutive. What is beyond the edge may be anything.
    """

    def write(
        builder: Any, source: Array, across: Number, along: Number, count: Number, k: Number, target: Array
    ) -> None:
        width = min(unit, _width(dtype))

        def put(p: Number, j: Number, is_whole: bool) -> None:
            for x in range(0, unit, width):
                mask = None if is_whole else _mask(builder, count - j - x, width)
                value = load_vector(builder, (source + p * along + j + x).pointer, width, mask)
                store_vector(builder, value, (target + j * k + p * unit + x).pointer, None)

        with builder.if_then(across.equals(1)):
            whole = count // unit * unit
            with counted(builder, k) as p:
                with counted(builder, whole, step=unit) as j:
                    put(p.index, j.index, True)
                with builder.if_then(whole < count):
                    put(p.index, whole, False)
            builder.ret_void()
        with (
            counted(builder, count, step=unit) as j,
            counted(builder, k, step=_ROWS) as p,
            counted(builder, Number(builder, long(unit)), step=_ROWS) as x,
        ):
            mask, first = _mask(builder, k - p.index, _ROWS), j.index + x.index
            places = [source + (first + i).at_most(count - 1) * across + p.index for i in range(_ROWS)]
            rows = [load_vector(builder, place.pointer, _ROWS, mask) for place in places]
            for i, column in enumerate(vectors.transposed(builder, rows)):
                store_vector(builder, column, (target + j.index * k + (p.index + i) * unit + x.index).pointer, None)
        builder.ret_void()

    kinds = [dtype, LONG, LONG, LONG, LONG, dtype]
    name = f"symgraph.tiles.pack{unit}.{dtype.name}"
    return function(module, name, _VOID, kinds, write, attributes=SHORT)


def _mask(builder: Any, count: Number, width: int) -> Any:
    """Return which of so many lanes come before a number, which may be negative."""
    return builder.icmp_signed("<", vectors.iota(width), vectors.splat(builder, count.value, width))
