"""Running sums, products of all others, and the places of extremes, along one axis of arrays.

An array is of shape ``(outer, axis, inner)``. Neighbours along the inner axis are the lanes of vectors, which stay
in registers while the axis is walked along; what is left over goes under a mask. Without an inner axis the scans go
one element at a time, as their results depend on that order, and extremes are looked for in two steps: the greatest
of some kilobytes, lane by lane, and only where it is greater than all before, its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from symgraph.compile.kernels.instructions import any_lane, suffix
from symgraph.compile.machine import vectors
from symgraph.compile.machine.language import SHORT, Array, Number, counted, function, invoke, one
from symgraph.compile.machine.vectors import (
    BIT,
    LONG,
    DType,
    combined,
    intrinsic,
    iota,
    long,
    splat,
)

_VOID = ir.VoidType()
_INDEX = np.dtype(np.int64)
_VECTORS_IN_BLOCK = 64
_BYTES_AT_ONCE = 128


class _Column:
    """Elements of one array along the axis, at one place or at neighbouring places of the inner one."""

    def __init__(self, array: Array, inner: Number, lanes: int, mask: Any) -> None:
        self._array, self._inner, self._lanes, self._mask = array, inner, lanes, mask

    def __getitem__(self, index: Number | int) -> Any:
        place = self._place(index)
        if self._lanes == 1:
            return place.builder.load(place.pointer)
        return vectors.load_vector(place.builder, place.pointer, self._lanes, self._mask)

    def __setitem__(self, index: Number | int, value: Any) -> None:
        place = self._place(index)
        if self._lanes == 1:
            place.builder.store(value, place.pointer)
        else:
            vectors.store_vector(place.builder, value, place.pointer, self._mask)

    def _place(self, index: Number | int) -> Array:
        return self._array + (self._inner * index if isinstance(index, int) else index * self._inner)


Walk = Callable[[_Column, _Column, int], None]


def _walk_columns(
    builder: Any, result: Array, x: Array, outer: Number, axis: Number, inner: Number, reduced: bool, walk: Walk,
    lanes: int,
) -> None:  # fmt: skip
    """Write loops over all axes but one, and within them what is done along that one."""

    def columns(start: Number, place: Number, width: int, mask: Any) -> None:
        kept = inner if reduced else axis * inner
        target = _Column(result + (start * kept + place), inner, width, mask)
        walk(target, _Column(x + (start * (axis * inner) + place), inner, width, mask), width)

    with counted(builder, outer) as i:
        if lanes == 1:
            columns(i.index, Number(builder, long(0)), 1, None)
            return
        rest = inner % lanes
        whole = inner - rest
        with counted(builder, whole, step=lanes) as place:
            columns(i.index, place.index, lanes, None)
        with builder.if_then(rest > 0):
            columns(i.index, whole, lanes, _first_lanes(builder, rest, lanes))


def _first_lanes(builder: Any, count: Number, lanes: int) -> Any:
    return builder.icmp_signed("<", iota(lanes), splat(builder, count.value, lanes))


def _instruction(builder: Any, dtype: DType, name: str) -> Callable[[Any, Any], Any]:
    return getattr(builder, f"f{name}" if dtype.kind == "f" else name)  # type: ignore[no-any-return]


def cumulative_sum(module: Any, dtype: DType, last: bool) -> Any:
    """Return the function ``(result, x, outer, axis, inner)``; `last` says that the inner axis is of one element."""

    def write(builder: Any, result: Array, x: Array, outer: Number, axis: Number, inner: Number) -> None:
        def walk(target: _Column, source: _Column, width: int) -> None:
            first = source[0]
            target[0] = first
            with counted(builder, axis, start=1, carried=[first]) as j:
                total = _instruction(builder, dtype, "add")(j.values[0], source[j.index])
                target[j.index] = total
                j.carry(total)

        with builder.if_then(axis > 0):
            _walk_columns(builder, result, x, outer, axis, inner, False, walk, _lanes(last))
        builder.ret_void()

    name = _name("cumulative_sum", dtype, last)
    return function(module, name, _VOID, [dtype, dtype, *[LONG] * 3], write, attributes=SHORT)


def exclusive_prod(module: Any, dtype: DType, last: bool) -> Any:
    """Return the function ``(result, x, outer, axis, inner)``; `last` says that the inner axis is of one element."""

    def write(builder: Any, result: Array, x: Array, outer: Number, axis: Number, inner: Number) -> None:
        multiply = _instruction(builder, dtype, "mul")

        def walk(target: _Column, source: _Column, width: int) -> None:
            start = splat(builder, one(dtype), width)
            with counted(builder, axis, carried=[start]) as j:
                target[j.index] = j.values[0]
                j.carry(multiply(j.values[0], source[j.index]))
            with counted(builder, axis, carried=[start]) as j:
                place = axis - 1 - j.index
                target[place] = multiply(target[place], j.values[0])
                j.carry(multiply(j.values[0], source[place]))

        _walk_columns(builder, result, x, outer, axis, inner, False, walk, _lanes(last))
        builder.ret_void()

    name = _name("exclusive_prod", dtype, last)
    return function(module, name, _VOID, [dtype, dtype, *[LONG] * 3], write, attributes=SHORT)


def _lanes(last: bool) -> int:
    return 1 if last else vectors.native_lanes()


def _name(operation: str, dtype: DType, last: bool) -> str:
    return f"symgraph.{operation}{'_last' if last else ''}.{dtype.name}"


def place_of_extreme(module: Any, dtype: DType, greatest: bool, last: bool) -> Any:
    """Return the function ``(result, x, outer, axis, inner)``: argmax or argmin, the first NaN where there is one."""
    search = _Search(dtype, greatest)

    def write_rows(builder: Any, result: Array, x: Array, outer: Number, axis: Number, inner: Number) -> None:
        place_in_row = search.in_row(module)
        with counted(builder, outer) as i:
            result[i.index] = invoke(builder, place_in_row, x + i.index * axis, axis)
        builder.ret_void()

    def write(builder: Any, result: Array, x: Array, outer: Number, axis: Number, inner: Number) -> None:
        def walk(target: _Column, source: _Column, width: int) -> None:
            held, index = source[0], splat(builder, long(0), width)
            with counted(builder, axis, start=1, carried=[held, index]) as j:
                held, met = j.values[0], source[j.index]
                better = search.replaces(builder, held, met)
                places = splat(builder, j.index.value, width)
                j.carry(builder.select(better, met, held), builder.select(better, places, j.values[1]))
            target[0] = j.values[1]

        _walk_columns(builder, result, x, outer, axis, inner, True, walk, vectors.native_lanes())
        builder.ret_void()

    name = _name("argmax" if greatest else "argmin", dtype, last)
    return function(module, name, _VOID, [_INDEX, dtype, *[LONG] * 3], write_rows if last else write, attributes=SHORT)


class _Search:
    """What looks for an extreme of one type."""

    def __init__(self, dtype: DType, greatest: bool) -> None:
        self.name = f"{'argmax' if greatest else 'argmin'}.{dtype.name}"
        self._dtype = dtype
        self._sign = ">" if greatest else "<"
        self._lanes = min(_BYTES_AT_ONCE // dtype.itemsize, 32)

    def _beyond(self, builder: Any, met: Any, held: Any) -> Any:
        compare = {"f": builder.fcmp_ordered, "i": builder.icmp_signed}.get(self._dtype.kind, builder.icmp_unsigned)
        return compare(self._sign, met, held)

    def replaces(self, builder: Any, held: Any, met: Any) -> Any:
        """Return whether an element takes the place of the best before it: it is beyond it, or the first NaN."""
        if self._dtype.kind != "f":
            return self._beyond(builder, met, held)
        return builder.and_(builder.fcmp_ordered("ord", held, held), builder.fcmp_unordered(self._sign, met, held))

    def in_row(self, module: Any) -> Any:
        """Return the function ``(x, count) -> place`` of consecutive elements, of which there is at least one."""

        def write(builder: Any, x: Array, count: Number) -> None:
            whole = count - count % self._lanes
            best, place = builder.alloca(x.pointer.type.pointee), builder.alloca(LONG)
            builder.store(builder.load(x.pointer), best)
            builder.store(long(0), place)
            with counted(builder, whole, step=self._lanes * _VECTORS_IN_BLOCK) as block:
                stop = (block.index + self._lanes * _VECTORS_IN_BLOCK).at_most(whole)
                extreme, unordered = self._extreme(builder, x, block.index, stop, builder.load(best))
                beyond = self._beyond(builder, extreme, builder.load(best))
                with builder.if_then(builder.or_(unordered, beyond), likely=False):
                    self._find(builder, x, block.index, stop, extreme, unordered, place)
                    builder.store(extreme, best)
                with builder.if_then(unordered, likely=False):
                    builder.ret(builder.load(place))
            with counted(builder, count, start=whole) as i:
                held, met = builder.load(best), builder.load((x + i.index).pointer)
                better = self.replaces(builder, held, met)
                builder.store(builder.select(better, met, held), best)
                builder.store(builder.select(better, i.index.value, builder.load(place)), place)
            builder.ret(builder.load(place))

        return function(module, f"symgraph.row_{self.name}", LONG, [self._dtype, LONG], write, attributes=SHORT)

    def _vector(self, builder: Any, x: Array, index: Number) -> Any:
        return vectors.load_vector(builder, (x + index).pointer, self._lanes, None)

    def _is_nan(self, builder: Any, value: Any) -> Any:
        if self._dtype.kind == "f":
            return builder.fcmp_unordered("uno", value, value)
        return splat(builder, ir.Constant(BIT, 0), self._lanes)

    def _extreme(self, builder: Any, x: Array, start: Number, stop: Number, best: Any) -> tuple[Any, Any]:
        """Return the extreme of whole vectors and the best before them, and whether any of them is NaN."""
        nowhere = splat(builder, ir.Constant(BIT, 0), self._lanes)
        carried = [splat(builder, best, self._lanes), nowhere]
        with counted(builder, stop, start=start, step=self._lanes, carried=carried) as i:
            held, met = i.values[0], self._vector(builder, x, i.index)
            further = builder.select(self._beyond(builder, met, held), met, held)
            i.carry(further, builder.or_(i.values[1], self._is_nan(builder, met)))
        extreme = combined(builder, i.values[0], lambda a, b: builder.select(self._beyond(builder, b, a), b, a))
        return extreme, any_lane(builder, i.values[1])

    def _find(
        self, builder: Any, x: Array, start: Number, stop: Number, extreme: Any, unordered: Any, place: Any
    ) -> None:
        """Store the first place of the extreme, or of a NaN where there is one."""
        wanted = splat(builder, extreme, self._lanes)
        equals = builder.fcmp_ordered if self._dtype.kind == "f" else builder.icmp_signed
        bits = ir.IntType(self._lanes)
        trailing = intrinsic(builder.module, f"llvm.cttz.{suffix(bits)}", bits, [bits, BIT])
        with counted(builder, stop, start=start, step=self._lanes) as i:
            met = self._vector(builder, x, i.index)
            here = builder.select(unordered, self._is_nan(builder, met), equals("==", met, wanted))
            mask = builder.bitcast(here, bits)
            with builder.if_then(builder.icmp_unsigned("!=", mask, ir.Constant(bits, 0))):
                first = builder.zext(builder.call(trailing, [mask, ir.Constant(BIT, 1)]), LONG)
                builder.store((i.index + Number(builder, first)).value, place)
                i.leave()
