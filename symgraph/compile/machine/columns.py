"""Products of a matrix with what the lanes of a loop hold: a matrix with one column for each lane.

Blocks of the result stay in registers while a sum runs, so that a number that was loaded is multiplied several times.
How many rows a block has follows from the number of registers (K. Goto and R. van de Geijn, Anatomy of
high-performance matrix multiplication, ACM Transactions on Mathematical Software 34, 2008).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import ir

from symgraph.compile.kernels.instructions import any_lane, constant
from symgraph.compile.loops import Band
from symgraph.compile.machine import memory, vectors
from symgraph.compile.machine.language import SHORT, as_value, function, invoke
from symgraph.compile.machine.totals import add_product, running_sums
from symgraph.compile.machine.vectors import BIT, long, splat

_BLOCKS = (8, 4, 2, 1)
_FAR = 1 << 40  # beyond every matrix


def multiply(
    builder: Any, width: int, sizes: Sequence[Any], a: Any, steps: Sequence[Any], x: Any, y: Any, accumulate: bool,
    band: Band,
) -> None:  # fmt: skip
    """Write ``y[i] = Σⱼ a[i,j] x[j]``, or add to y; each x[j] and y[i] is a vector of all lanes.

    Args:
        builder: Where to write.
        width: The number of lanes.
        sizes: How many i and j there are.
        a: The first element of the matrix.
        steps: How far apart its elements are along i and along j.
        x, y: The first lanes.
        accumulate: Whether y is added to.
        band: Which elements of the matrix are not known to be zero. The others are left out where all x are finite:
            zero times what is not finite is not zero.
    """
    limits = _limits(band)
    if band != (None, None):
        finite = _call(builder, width, _write_finite, BIT, [sizes[1], x])
        every = _limits((None, None))
        limits = [builder.select(finite, some, all_) for some, all_ in zip(limits, every, strict=True)]
    more = ir.Constant(BIT, accumulate)
    _call(builder, width, _write_multiply, ir.VoidType(), [*sizes, a, *steps, y, more, *limits, x])


def add_outer(
    builder: Any, width: int, count: Any, sizes: Sequence[Any], u: Any, v: Any, c: Any, distance: Any, band: Band
) -> None:
    """Write ``c[i,j] += Σ u[i] v[j]``, where the sum runs over the lanes of the vectors u[i] and v[j].

    Args:
        builder: Where to write.
        width: The number of lanes.
        count: How many of them there are.
        sizes: How many i and j there are.
        u, v: The first lanes.
        c: The first element of the matrix.
        distance: How far apart its rows are.
        band: Which elements are needed; others may be left as they are.
    """
    _call(builder, width, _write_outer, ir.VoidType(), [count, *sizes, u, c, distance, *_limits(band), v])


def _limits(band: Band) -> list[Any]:
    return [long(far if each is None else each) for each, far in zip(band, (-_FAR, _FAR), strict=True)]


def _call(builder: Any, width: int, write: Callable[..., None], result: Any, args: Sequence[Any]) -> Any:
    """Call a function that is written once for each type, that of its last argument, and number of lanes."""
    name = f"symgraph.columns{write.__name__.replace('_', '.')}.{args[-1].type.pointee}.{width}"

    def body(builder: Any, *values: Any) -> None:
        write(builder, width, *[as_value(value, arg.type) for value, arg in zip(values, args, strict=True)])

    made = function(builder.module, name, result, [arg.type for arg in args], body, attributes=SHORT)
    return invoke(builder, made, *args)


def _write_finite(builder: Any, width: int, count: Any, x: Any) -> None:
    """Write whether all numbers of all lanes are finite: then each less itself is zero."""
    kind = ir.VectorType(x.type.pointee, width)
    (total,) = running_sums(builder, kind, 1)
    with memory.loop(builder, long(0), count) as j:
        vector = _load(builder, x, builder.mul(j, long(width)), kind)
        builder.store(builder.fadd(builder.load(total), builder.fsub(vector, vector)), total)
    wrong = builder.fcmp_unordered("!=", builder.load(total), constant(kind, 0))
    builder.ret(builder.not_(any_lane(builder, wrong)))


def _write_multiply(
    builder: Any, width: int, rows: Any, inner: Any, a: Any, row_step: Any, column_step: Any, y: Any, more: Any,
    low: Any, high: Any, x: Any,
) -> None:  # fmt: skip
    kind = ir.VectorType(x.type.pointee, width)
    for first, size in _blocks(builder, long(0), rows, kind):
        sums = running_sums(builder, kind, size)
        rows_of_a = [builder.gep(a, [builder.mul(builder.add(first, long(r)), row_step)]) for r in range(size)]
        start = memory.greatest(builder, builder.add(first, low), long(0))
        stop = memory.least(builder, builder.add(builder.add(first, long(size)), high), inner)
        with memory.loop(builder, start, stop) as j:
            column = builder.mul(j, column_step)
            vector = _load(builder, x, builder.mul(j, long(width)), kind)
            for row, total in zip(rows_of_a, sums, strict=True):
                add_product(builder, total, builder.load(builder.gep(row, [column])), vector)
        for r, total in enumerate(sums):
            place = builder.gep(y, [builder.mul(builder.add(first, long(r)), long(width))])
            with builder.if_then(more):
                builder.store(builder.fadd(builder.load(total), _load(builder, place, long(0), kind)), total)
            vectors.store_vector(builder, builder.load(total), place, None)
    builder.ret_void()


def _write_outer(
    builder: Any, width: int, count: Any, rows: Any, columns: Any, u: Any, c: Any, distance: Any, low: Any, high: Any,
    v: Any,
) -> None:  # fmt: skip
    element = v.type.pointee
    side = vectors.register_bits() // vectors.bits_of(element)
    one, two = ir.VectorType(element, side), ir.VectorType(element, 2 * side)
    turned = memory.stack(builder, element, width * two.count)
    with memory.loop(builder, long(0), columns, two.count) as j:
        _turn(builder, v, j, columns, width, side, turned)
        left = builder.sub(columns, j)
        start = _block_of(builder, builder.sub(j, high))
        stop = memory.least(builder, builder.sub(builder.add(j, long(two.count)), low), rows)
        # Of the rows before the middle, one vector of columns is needed, or there is no more.
        middle = memory.least(builder, _block_of(builder, builder.sub(builder.add(j, long(side)), high)), stop)
        middle = builder.select(builder.icmp_signed("<=", left, long(side)), stop, middle)
        for kind, begin, end in ((one, start, middle), (two, memory.greatest(builder, start, middle), stop)):
            mask = builder.icmp_signed("<", vectors.iota(kind.count), splat(builder, left, kind.count))
            for first, size in _blocks(builder, begin, end, kind):
                numbers = [builder.add(first, long(r)) for r in range(size)]
                rows_of_u = [builder.gep(u, [builder.mul(number, long(width))]) for number in numbers]
                places = [builder.gep(c, [builder.add(builder.mul(number, distance), j)]) for number in numbers]
                for place in places:  # asked for now, it is there when the sums are
                    for column in range(0, kind.count, side):
                        vectors.prefetch(builder, builder.gep(place, [long(column)]))
                sums = running_sums(builder, kind, size)
                with memory.loop(builder, long(0), count) as lane:
                    vector = _load(builder, turned, builder.mul(lane, long(two.count)), kind)
                    for row, total in zip(rows_of_u, sums, strict=True):
                        add_product(builder, total, builder.load(builder.gep(row, [lane])), vector)
                for place, total in zip(places, sums, strict=True):
                    old = vectors.load_vector(builder, place, kind.count, mask)
                    vectors.store_vector(builder, builder.fadd(old, builder.load(total)), place, mask)
    builder.ret_void()


def _block_of(builder: Any, row: Any) -> Any:
    """Return the first row of the largest block in which a row lies; no rows are before the first one."""
    return memory.greatest(builder, builder.and_(row, long(-_BLOCKS[0])), long(0))


def _turn(builder: Any, v: Any, first: Any, stop: Any, width: int, side: int, turned: Any) -> None:
    """Write the lanes of ``2 * side`` vectors as rows: those of one lane side by side.

    Where there are not so many vectors, the last one stands for those that are missing.
    """
    kind = ir.VectorType(v.type.pointee, side)
    last = builder.sub(stop, long(1))
    for half in range(2):
        numbers = [memory.least(builder, builder.add(first, long(half * side + r)), last) for r in range(side)]
        starts = [builder.mul(number, long(width)) for number in numbers]
        with memory.loop(builder, long(0), long(width), side) as lane:
            rows = [_load(builder, v, builder.add(start, lane), kind) for start in starts]
            for r, row in enumerate(vectors.transposed(builder, rows)):
                place = builder.add(builder.mul(builder.add(lane, long(r)), long(2 * side)), long(half * side))
                vectors.store_vector(builder, row, builder.gep(turned, [place]), None)


def _blocks(builder: Any, start: Any, stop: Any, kind: Any) -> Iterator[tuple[Any, int]]:
    """Write loops over blocks of rows, the largest that registers hold first, and yield each one's first row."""
    taken = -(-kind.count * vectors.bits_of(kind.element) // vectors.register_bits())
    sizes = [size for size in _BLOCKS if size == 1 or (size + 1) * taken < vectors.register_count()]
    return memory.blocks(builder, start, stop, sizes)


def _load(builder: Any, pointer: Any, offset: Any, kind: Any) -> Any:
    return vectors.load_vector(builder, builder.gep(pointer, [offset]), kind.count, None)
