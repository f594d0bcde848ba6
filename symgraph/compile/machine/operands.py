"""What an operand is in the code that is being written: a number, or a vector with an element for each lane.

Elements of buffers are found by their indices, which go on from lane to lane by a step or are data, and are loaded
and stored under masks. Numbers that are the same for all lanes stay scalars.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, reduce
from typing import Any

import numpy as np
from llvmlite import ir

from symgraph.compile import loops
from symgraph.compile.kernels.elements import emit_cast, emit_element
from symgraph.compile.kernels.instructions import any_lane
from symgraph.compile.loops import Affine, Buffer, Load, Name, Operand
from symgraph.compile.machine import memory, vectors
from symgraph.compile.machine.memory import Memory, plus, times
from symgraph.compile.machine.scope import INDEX_ERROR, NEGATIVE_POWER, Element, Lanes, Scope, report
from symgraph.compile.machine.totals import COMBINE
from symgraph.compile.machine.vectors import BIT, BYTE, DType, literal, long, splat
from symgraph.dims import Size


class Operands:
    """Reads operands, computes with them, and writes elements, in one function.

    Args:
        builder: Where to write.
        scope: What is known there.

    Attributes:
        lanes: The loop whose iterations are being written side by side; None outside of one.
        ahead: Buffers whose rows will be read again, each with how many rows further: what is there is asked for.
    """

    def __init__(self, builder: Any, scope: Scope) -> None:
        self.builder, self.scope = builder, scope
        self.lanes: Lanes | None = None
        self.ahead: dict[Buffer, int] = {}

    def size(self, size: Size) -> Any:
        """Return a size as a number."""
        return memory.size(self.builder, size, self.scope.names)

    # Arithmetic

    def elementwise(
        self, operation: str, dtype: DType, values: Sequence[Any], attributes: tuple[Any, ...] = (), site: int = -1
    ) -> Any:
        """Return the result of an elementwise operation; a vector where one of the operands is."""
        width = max(vectors.width_of(v) for v in values)
        spread = [splat(self.builder, v, width) for v in values]
        return emit_element(self.builder, operation, dtype, spread, attributes, fail=partial(self._fail_in_power, site))

    def _fail_in_power(self, site: int, builder: Any, wrong: Any) -> None:
        """Note an integer to a negative power, which is no integer."""
        with builder.if_then(any_lane(builder, self._where_there(wrong)), likely=False):
            report(builder, self.scope.error, long(NEGATIVE_POWER), site)

    def _where_there(self, condition: Any) -> Any:
        """Return a condition, false in lanes that are not there."""
        if self.lanes is None or self.lanes.mask is None or vectors.width_of(condition) == 1:
            return condition
        return self.builder.and_(condition, self.lanes.mask)

    def cast(self, value: Any, before: DType, after: DType) -> Any:
        """Return a number in another dtype."""
        return value if before == after else emit_cast(self.builder, value, before, after)

    def combine(self, how: str, dtype: DType, left: Any, right: Any) -> Any:
        """Return two partial results of an accumulation as one."""
        return self.elementwise(COMBINE[how], dtype, [left, right])

    # Operands

    def value(self, operand: Operand) -> Any:
        """Return an operand's value: a scalar, or a vector where it differs from lane to lane."""
        match operand:
            case Name(name=name):
                cell = self.scope.cells.get(name)
                return self.scope.names[name] if cell is None else self.builder.load(cell)
            case loops.Scalar(name=name):
                return self.scope.names[name]
            case loops.Literal(value=value, dtype=dtype):
                return literal(dtype, value)
            case loops.IndexValue(index=index, dtype=dtype):
                return self.cast(self._index(index), np.dtype("int64"), dtype)
            case Load(buffer=buffer, indices=indices):
                place = self.scope.memories[buffer]
                at = self.locate(place, indices)
                if buffer in self.ahead:
                    self._prefetch(place, at, buffer.dtype.itemsize, self.ahead[buffer])
                return self.get(place, buffer.dtype, at)
            case loops.Guarded():
                return self._guarded(operand)
        raise TypeError(f"no operand: {operand!r}")

    def _prefetch(self, place: Memory, at: Element, width: int, rows: int) -> None:
        if vectors.width_of(at.offset) > 1:
            return
        builder = self.builder
        distance = builder.add(at.offset, builder.mul(place.strides[0], long(rows)))
        address = builder.bitcast(builder.gep(place.pointer, [distance]), BYTE.as_pointer())
        lanes = 1 if self.lanes is None else self.lanes.width
        for line in range(0, lanes * width, vectors.CACHE_LINE):
            vectors.prefetch(builder, builder.gep(address, [long(line)]))

    def _guarded(self, guarded: loops.Guarded) -> Any:
        """Return an operand where its conditions hold, another one elsewhere; neither is read where it is not meant."""
        conditions = [self._holds(bound) for bound in guarded.conditions]
        same = self._all([c for c in conditions if vectors.width_of(c) == 1])
        by_lane = self._all([c for c in conditions if vectors.width_of(c) > 1])
        if same is None:
            return self._chosen_by_lane(by_lane, guarded)
        with self.builder.if_else(same) as (yes, no):
            with yes:
                value = self._chosen_by_lane(by_lane, guarded)
                inside = self.builder.block
            with no:
                otherwise = self._in_all_lanes(guarded.otherwise)
                outside = self.builder.block
        merged = self.builder.phi(value.type)
        merged.add_incoming(value, inside)
        merged.add_incoming(otherwise, outside)
        return merged

    def _all(self, conditions: Sequence[Any]) -> Any:
        return reduce(self.builder.and_, conditions) if conditions else None

    def _chosen_by_lane(self, condition: Any, guarded: loops.Guarded) -> Any:
        if condition is None:
            return self._in_all_lanes(guarded.operand)
        with self._only(condition):
            value = self._in_all_lanes(guarded.operand)
        with self._only(self.builder.not_(condition)):
            otherwise = self._in_all_lanes(guarded.otherwise)
        return self.builder.select(condition, value, otherwise)

    def _in_all_lanes(self, operand: Operand) -> Any:
        return splat(self.builder, self.value(operand), 1 if self.lanes is None else self.lanes.width)

    @contextmanager
    def _only(self, condition: Any) -> Iterator[None]:
        """Write what runs in some lanes only, or in none."""
        assert self.lanes is not None
        outside = self.lanes
        mask = condition if outside.mask is None else self.builder.and_(outside.mask, condition)
        self.lanes = replace(outside, mask=mask, may_be_empty=True)
        try:
            yield
        finally:
            self.lanes = outside

    def _holds(self, bound: loops.Bound) -> Any:
        index = self._index(bound.index)
        stop = splat(self.builder, self.size(bound.size), vectors.width_of(index))
        holds = self.builder.icmp_unsigned("<", index, stop)
        if bound.stride != 1:
            stride = splat(self.builder, long(bound.stride), vectors.width_of(index))
            rest = self.builder.srem(index, stride)
            nought = splat(self.builder, long(0), vectors.width_of(index))
            holds = self.builder.and_(holds, self.builder.icmp_signed("==", rest, nought))
        return holds

    # Elements

    def _index(self, index: Affine) -> Any:
        """Return an index as a number, or as a vector of the lanes' numbers."""
        first, step = self._affine(index)
        if isinstance(step, int) and step == 0:
            return first
        assert self.lanes is not None
        width = self.lanes.width
        if step is None:
            return first
        return self.builder.add(
            splat(self.builder, first, width),
            self.builder.mul(vectors.iota(width), splat(self.builder, long(step), width)),
        )

    def _affine(self, index: Affine) -> tuple[Any, int | None]:
        """Return an index in the first lane and its step to the next; a vector and None where it has no step."""
        builder = self.builder
        first: Any = self.size(index.offset)
        step = 0
        if index.axis is not None:
            first = plus(builder, times(builder, long(index.step), self.scope.indices[index.axis]), first)
            if self.lanes is not None and index.axis is self.lanes.axis:
                step = index.step
        if index.divisor != 1:
            if step == 0:
                first = memory.quotient(builder, first, index.divisor)
            else:
                assert self.lanes is not None
                every = self._index(replace(index, divisor=1, block=None))
                found = memory.quotient(builder, every, index.divisor)
                if index.block is not None:
                    start = splat(builder, self.scope.indices[index.block], self.lanes.width)
                    found = builder.sub(found, start)
                return found, None
        if index.block is not None:
            first = builder.sub(first, self.scope.indices[index.block])
        return first, step

    def locate(self, place: Memory, indices: Sequence[loops.Subscript]) -> Element:
        """Return which element indices mean."""
        builder = self.builder
        offset: Any = long(0)
        step: Any = 0
        spread: Any = None
        invalid: Any = None
        for index, size, stride in zip(indices, place.shape, place.strides, strict=True):
            if isinstance(index, Affine):
                first, by = self._affine(index)
            else:
                first, bad = self._wrapped(index, size)
                by = None if vectors.width_of(first) > 1 else 0
                if bad is not None:
                    invalid = bad if invalid is None else self._either(invalid, bad)
            if by is None:
                scaled = builder.mul(first, splat(builder, stride, vectors.width_of(first)))
                spread = scaled if spread is None else builder.add(spread, scaled)
                continue
            offset = plus(builder, offset, times(builder, first, stride))
            if by:
                moved = times(builder, long(by), stride)
                step = moved if isinstance(step, int) else plus(builder, step, moved)
        if isinstance(step, ir.Constant):
            step = step.constant
        if spread is None:
            return Element(offset, step, invalid)
        width = vectors.width_of(spread)
        spread = builder.add(spread, splat(builder, offset, width))
        if not isinstance(step, int) or step != 0:
            by_lane = splat(builder, step if not isinstance(step, int) else long(step), width)
            spread = builder.add(spread, builder.mul(vectors.iota(width), by_lane))
        return Element(spread, 0, invalid)

    def _either(self, left: Any, right: Any) -> Any:
        width = max(vectors.width_of(left), vectors.width_of(right))
        return self.builder.or_(splat(self.builder, left, width), splat(self.builder, right, width))

    def _wrapped(self, index: loops.Wrapped | Name, size: Any) -> tuple[Any, Any]:
        """Return an index that is data, counted from the beginning, and where it is out of bounds (0 stands there)."""
        builder = self.builder
        name = index.value if isinstance(index, loops.Wrapped) else index
        value = self.cast(self.value(name), name.dtype, np.dtype("int64"))
        if not isinstance(index, loops.Wrapped):
            return value, None
        width = vectors.width_of(value)
        count, nought = splat(builder, size, width), splat(builder, long(0), width)
        negative = builder.icmp_signed("<", value, nought)
        place = builder.select(negative, builder.add(value, count), value)
        bad = self._where_there(builder.icmp_unsigned(">=", place, count))
        with builder.if_then(any_lane(builder, bad), likely=False):
            self._note(value, bad, size, index.site)
        return builder.select(bad, nought, place), bad

    def _note(self, value: Any, bad: Any, size: Any, site: int) -> None:
        """Note an index out of bounds: the first one met."""
        builder = self.builder

        def first(x: Any, y: Any) -> Any:
            return builder.select(builder.icmp_signed("!=", x, splat(builder, long(0), vectors.width_of(x))), x, y)

        if vectors.width_of(value) > 1:
            nought = splat(builder, long(0), vectors.width_of(value))
            value = vectors.combined(builder, builder.select(bad, value, nought), first)
        report(builder, self.scope.error, long(INDEX_ERROR), site, value, size)

    def get(self, place: Memory, dtype: DType, at: Element) -> Any:
        """Return an element."""
        return self.from_memory(self._load(place, at), dtype)

    def _load(self, place: Memory, at: Element) -> Any:
        builder, lanes = self.builder, self.lanes
        has_offsets = vectors.width_of(at.offset) > 1
        if place.lanes > 1 and has_offsets:
            assert lanes is not None
            return vectors.gather(builder, place.pointer, self._offsets_of_own(place, at), lanes.mask)
        if place.lanes > 1:
            return builder.load(self._if_any(self._address_of_own(place, at)))
        if has_offsets:
            return vectors.gather(builder, place.pointer, at.offset, self._mask_for(at))
        if at.is_shared:
            return builder.load(self._if_any(self._address_of_shared(place, at)))
        assert lanes is not None
        if at.step == 1:
            return vectors.load_vector(builder, builder.gep(place.pointer, [at.offset]), lanes.width, lanes.mask)
        if at.step == -1:
            last = builder.sub(at.offset, long(lanes.width - 1))
            mask = None if lanes.mask is None else vectors.reversed_elements(builder, lanes.mask)
            found = vectors.load_vector(builder, builder.gep(place.pointer, [last]), lanes.width, mask)
            return vectors.reversed_elements(builder, found)
        return vectors.gather(builder, place.pointer, self._offsets(at), lanes.mask)

    def put(self, place: Memory, dtype: DType, at: Element, value: Any) -> None:
        """Write an element; the last lane's value stays where all have the same element."""
        builder, lanes = self.builder, self.lanes
        value = self.to_memory(value, dtype)
        if place.lanes == 1 and at.is_shared:
            if vectors.width_of(value) > 1:
                value = self._last(value)
            builder.store(value, self._address_of_shared(place, at))
            return
        assert lanes is not None
        value = splat(builder, value, lanes.width)
        has_offsets = vectors.width_of(at.offset) > 1
        if place.lanes > 1 and has_offsets:
            vectors.scatter(builder, value, place.pointer, self._offsets_of_own(place, at), self._mask_for(at))
        elif place.lanes > 1:
            builder.store(value, self._address_of_own(place, at))
        elif has_offsets:
            vectors.scatter(builder, value, place.pointer, at.offset, self._mask_for(at))
        elif at.step == 1:
            vectors.store_vector(builder, value, builder.gep(place.pointer, [at.offset]), lanes.mask)
        else:
            vectors.scatter(builder, value, place.pointer, self._offsets(at), lanes.mask)

    def _last(self, value: Any) -> Any:
        assert self.lanes is not None
        last = self.builder.trunc(self.builder.sub(self.lanes.count, long(1)), vectors.INT)
        return self.builder.extract_element(value, last)

    def _address_of_shared(self, place: Memory, at: Element) -> Any:
        """Return where an element is that all lanes share; somewhere else where its index is out of bounds."""
        builder = self.builder
        address = builder.gep(place.pointer, [at.offset])
        if at.invalid is None:
            return address
        return builder.select(at.invalid, memory.stack(builder, place.pointer.type.pointee), address)

    def _address_of_own(self, place: Memory, at: Element) -> Any:
        """Return where the elements are that lanes have of their own, side by side."""
        builder = self.builder
        kind = ir.VectorType(place.pointer.type.pointee, place.lanes)
        address = builder.gep(place.pointer, [times(builder, at.offset, long(place.lanes))])
        return builder.bitcast(address, kind.as_pointer())

    def _offsets_of_own(self, place: Memory, at: Element) -> Any:
        """Return which elements lanes have of their own where each has another index."""
        width = vectors.width_of(at.offset)
        first = self.builder.mul(at.offset, splat(self.builder, long(place.lanes), width))
        return self.builder.add(first, vectors.iota(width))

    def _offsets(self, at: Element) -> Any:
        """Return which elements the lanes have, given the first one's and the step."""
        assert self.lanes is not None
        width = self.lanes.width
        by = long(at.step) if isinstance(at.step, int) else at.step
        stepped = self.builder.mul(vectors.iota(width), splat(self.builder, by, width))
        return self.builder.add(splat(self.builder, at.offset, width), stepped)

    def _if_any(self, address: Any) -> Any:
        """Return an address to read from, or some other where no lane reads."""
        if self.lanes is None or not self.lanes.may_be_empty:
            return address
        nowhere = memory.stack(self.builder, address.type.pointee)
        return self.builder.select(any_lane(self.builder, self.lanes.mask), address, nowhere)

    def _mask_for(self, at: Element) -> Any:
        return self.lanes.mask if at.invalid is None and self.lanes is not None else self.there(at.invalid)

    def there(self, invalid: Any) -> Any:
        """Return the mask of the lanes that there are, and whose index is within bounds."""
        assert self.lanes is not None
        width = self.lanes.width
        there = splat(self.builder, ir.Constant(BIT, 1), width) if self.lanes.mask is None else self.lanes.mask
        if invalid is None:
            return there
        return self.builder.and_(there, self.builder.not_(splat(self.builder, invalid, width)))

    def from_memory(self, value: Any, dtype: DType) -> Any:
        """Return a number as it is computed with: truth values are bytes in memory."""
        if dtype.kind != "b":
            return value
        return self.builder.trunc(value, vectors.vector(BIT, vectors.width_of(value)))

    def to_memory(self, value: Any, dtype: DType) -> Any:
        """Return a number as it stands in memory."""
        if dtype.kind != "b":
            return value
        return self.builder.zext(value, vectors.vector(BYTE, vectors.width_of(value)))
