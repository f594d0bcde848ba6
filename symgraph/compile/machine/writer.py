"""Writes the statements of a loop program as LLVM code.

A loop in lanes becomes a loop over vectors: each scalar of its body is a vector whose elements belong to neighbouring
iterations, unless it is the same for all of them. What is left over at the end runs once more as a vector under a
mask. Numbers that do not depend on the iteration stay scalars.
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
from symgraph.compile.kernels.instructions import any_lane, llvm_type
from symgraph.compile.loops import Affine, Axis, Block, Buffer, Load, Name, Operand, Statement
from symgraph.compile.machine import columns, library, memory, vectors
from symgraph.compile.machine.language import Array, Number, copy
from symgraph.compile.machine.memory import Memory, plus, times
from symgraph.compile.machine.scope import INDEX_ERROR, NEGATIVE_POWER, Element, Lanes, Scope, report
from symgraph.compile.machine.totals import COMBINE, FLUSH, Total, identity, outer_totals
from symgraph.compile.machine.vectors import BIT, BYTE, LONG, DType, literal, long, splat
from symgraph.dims import Size

_COUNT = " lanes"  # how many lanes there are; no name of a program has a blank


class Writer:
    """Writes statements into one function.

    Args:
        builder: Where to write.
        scope: What is known there.
    """

    def __init__(self, builder: Any, scope: Scope) -> None:
        self.builder, self.scope = builder, scope
        self.lanes: Lanes | None = None
        self._ahead: dict[Buffer, int] = {}

    # Statements

    def write(self, body: Sequence[Statement]) -> None:
        """Write statements."""
        for statement in body:
            match statement:
                case loops.Let():
                    self.scope.names[statement.name] = self._value(statement)
                case loops.Store(buffer=buffer, indices=indices, operand=operand):
                    self._store(self.scope.memories[buffer], buffer.dtype, indices, self.operand(operand))
                case loops.Start(name=name, dtype=dtype, how=how):
                    self._start(name, dtype, how)
                case loops.Accumulate():
                    self._accumulate(statement)
                case loops.Fill(buffer=buffer, how=how, source=source):
                    self._fill(buffer, how, source)
                case loops.Call():
                    self._call(statement)
                case loops.View(result=result, source=source):
                    shape = [self.size(s) for s in result.shape]
                    self.scope.memories[result] = memory.memory(
                        self.builder, self.scope.memories[source].pointer, shape
                    )
                case loops.Multiply():
                    self._multiply(statement)
                case loops.MatrixVector():
                    self._matrix_vector(statement)
                case loops.Outer():
                    self._outer(statement)
                case loops.Loop():
                    self._loop(statement)

    def size(self, size: Size) -> Any:
        """Return a size as a number."""
        return memory.size(self.builder, size, self.scope.names)

    def element(self, operation: str, dtype: DType, values: Sequence[Any], attributes: tuple[Any, ...] = ()) -> Any:
        """Return the result of an elementwise operation; a vector where one of the operands is."""
        width = max(vectors.width_of(v) for v in values)
        spread = [splat(self.builder, v, width) for v in values]
        return emit_element(self.builder, operation, dtype, spread, attributes, fail=self._fail_in_power)

    def _fail_in_power(self, builder: Any, wrong: Any) -> None:
        """Note an integer to a negative power, which is no integer."""
        if self.lanes is not None and self.lanes.mask is not None and vectors.width_of(wrong) > 1:
            wrong = builder.and_(wrong, self.lanes.mask)
        with builder.if_then(any_lane(builder, wrong), likely=False):
            report(builder, self.scope.error, long(NEGATIVE_POWER), long(0), long(0))

    def cast(self, value: Any, before: DType, after: DType) -> Any:
        """Return a number in another dtype."""
        return value if before == after else emit_cast(self.builder, value, before, after)

    def _value(self, let: loops.Let) -> Any:
        values = [self.operand(operand) for operand in let.operands]
        if let.operation == "copy":
            return values[0]
        if let.operation == "astype":
            return self.cast(values[0], let.operands[0].dtype, let.dtype)
        return self.element(let.operation, let.operands[-1].dtype, values, let.attributes)

    # Accumulation

    def _start(self, name: str, dtype: DType, how: str) -> None:
        width = 1 if self.lanes is None else self.lanes.width
        kind = vectors.vector(llvm_type(dtype), width)
        cell = memory.variable(self.builder, kind)
        self.builder.store(splat(self.builder, identity(how, dtype), width), cell)
        self.scope.cells[name] = cell

    def _accumulate(self, statement: loops.Accumulate) -> None:
        target, how = statement.target, statement.how
        value = self.cast(self.operand(statement.operand), statement.operand.dtype, target.dtype)
        if isinstance(target, Load):
            self._accumulate_element(target, how, value)
            return
        cell = self.scope.cells[target.name]
        value = splat(self.builder, value, _pointee_width(cell))
        if self.lanes is not None and target.name in self.lanes.totals:
            value = self._masked(value, how, target.dtype)
        self.builder.store(self.combine(how, target.dtype, self.builder.load(cell), value), cell)

    def combine(self, how: str, dtype: DType, left: Any, right: Any) -> Any:
        """Return two partial results of an accumulation as one."""
        return self.element(COMBINE[how], dtype, [left, right])

    def _masked(self, value: Any, how: str, dtype: DType) -> Any:
        """Replace what lanes hold that are not there by the identity."""
        if self.lanes is None or self.lanes.mask is None:
            return value
        value = splat(self.builder, value, self.lanes.width)
        nothing = splat(self.builder, identity(how, dtype), self.lanes.width)
        return self.builder.select(self.lanes.mask, value, nothing)

    def _accumulate_element(self, target: Load, how: str, value: Any) -> None:
        place = self.scope.memories[target.buffer]
        at = self._locate(place, target.indices)
        dtype = target.buffer.dtype
        if self.lanes is None or place.lanes > 1 or not _is_shared(at):
            if how == "set":
                self._put(place, dtype, at, value)
            elif vectors.width_of(at.offset) > 1:
                self._one_by_one(place, dtype, at, how, value)
            else:
                self._put(place, dtype, at, self.combine(how, dtype, self._get(place, dtype, at), value))
            return
        # All lanes meet in one element.
        value = self._masked(splat(self.builder, value, self.lanes.width), how, dtype)
        total = vectors.combined(self.builder, value, partial(self.combine, how, dtype))
        self._put(place, dtype, at, self.combine(how, dtype, self._get(place, dtype, at), total))

    def _one_by_one(self, place: Memory, dtype: DType, at: Element, how: str, value: Any) -> None:
        """Accumulate lane after lane: two of them may meet in one element."""
        assert self.lanes is not None
        builder, width = self.builder, self.lanes.width
        rooms = []
        for each in (at.offset, splat(builder, value, width), self._there(at.invalid)):
            room = memory.variable(builder, ir.ArrayType(each.type.element, width))
            for lane in range(width):
                one = builder.extract_element(each, ir.Constant(vectors.INT, lane))
                builder.store(one, builder.gep(room, [long(0), long(lane)]))
            rooms.append(room)
        with memory.loop(builder, long(0), long(width)) as lane:
            offset, one, there = (builder.load(builder.gep(room, [long(0), lane])) for room in rooms)
            with builder.if_then(there):
                if place.lanes > 1:
                    offset = builder.add(builder.mul(offset, long(place.lanes)), lane)
                address = builder.gep(place.pointer, [offset])
                old = self.from_memory(builder.load(address), dtype)
                builder.store(self.to_memory(self.combine(how, dtype, old, one), dtype), address)

    def _there(self, invalid: Any) -> Any:
        assert self.lanes is not None
        width = self.lanes.width
        there = splat(self.builder, ir.Constant(BIT, 1), width) if self.lanes.mask is None else self.lanes.mask
        if invalid is None:
            return there
        return self.builder.and_(there, self.builder.not_(splat(self.builder, invalid, width)))

    def _fill(self, buffer: Buffer, how: str, source: Buffer | loops.Literal | None) -> None:
        place = self.scope.memories[buffer]
        count = place.count(self.builder)
        if isinstance(source, Buffer):
            other = Array(self.builder, self.scope.memories[source].pointer, buffer.dtype)
            copy(other, Array(self.builder, place.pointer, buffer.dtype), Number(self.builder, count))
            return
        value = identity(how, buffer.dtype) if source is None else self.operand(source)
        self.fill(place.pointer, self.to_memory(value, buffer.dtype), count)

    def fill(self, pointer: Any, value: Any, count: Any) -> None:
        """Write one number into so many elements."""
        with memory.loop(self.builder, long(0), count) as i:
            self.builder.store(value, self.builder.gep(pointer, [i]))

    # Operands

    def operand(self, operand: Operand) -> Any:
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
                at = self._locate(place, indices)
                if buffer in self._ahead:
                    self._prefetch(place, at, buffer.dtype.itemsize, self._ahead[buffer])
                return self._get(place, buffer.dtype, at)
            case loops.Guarded():
                return self._guarded(operand)
        raise TypeError(f"no operand: {operand!r}")

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
        return splat(self.builder, self.operand(operand), 1 if self.lanes is None else self.lanes.width)

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

    def _locate(self, place: Memory, indices: Sequence[loops.Subscript]) -> Element:
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
        value = self.cast(self.operand(name), name.dtype, np.dtype("int64"))
        if not isinstance(index, loops.Wrapped):
            return value, None
        width = vectors.width_of(value)
        count, nought = splat(builder, size, width), splat(builder, long(0), width)
        negative = builder.icmp_signed("<", value, nought)
        place = builder.select(negative, builder.add(value, count), value)
        bad = builder.icmp_unsigned(">=", place, count)
        if self.lanes is not None and self.lanes.mask is not None and width > 1:
            bad = builder.and_(bad, self.lanes.mask)
        with builder.if_then(any_lane(builder, bad), likely=False):
            self._note(value, bad, size)
        return builder.select(bad, nought, place), bad

    def _note(self, value: Any, bad: Any, size: Any) -> None:
        """Note an index out of bounds: the first one met."""
        builder = self.builder
        error = self.scope.error
        if vectors.width_of(value) > 1:
            width = value.type.count
            value = vectors.combined(
                builder,
                builder.select(bad, value, splat(builder, long(0), width)),
                lambda x, y: builder.select(
                    builder.icmp_signed("!=", x, splat(builder, long(0), vectors.width_of(x))), x, y
                ),
            )
        report(builder, error, long(INDEX_ERROR), value, size)

    def _get(self, place: Memory, dtype: DType, at: Element) -> Any:
        builder, lanes = self.builder, self.lanes
        if place.lanes > 1:
            assert lanes is not None
            if vectors.width_of(at.offset) > 1:
                offsets = builder.mul(at.offset, splat(builder, long(place.lanes), lanes.width))
                offsets = builder.add(offsets, vectors.iota(lanes.width))
                return self.from_memory(vectors.gather(builder, place.pointer, offsets, lanes.mask), dtype)
            address = self._if_any(self._lane_address(place, at))
            return self.from_memory(builder.load(address), dtype)
        if vectors.width_of(at.offset) > 1:
            mask = self._mask_for(at)
            return self.from_memory(vectors.gather(builder, place.pointer, at.offset, mask), dtype)
        if isinstance(at.step, int) and at.step == 0:
            return self.from_memory(self._load_one(place, at), dtype)
        assert lanes is not None
        if at.step == 1:
            address = builder.gep(place.pointer, [at.offset])
            return self.from_memory(vectors.load_vector(builder, address, lanes.width, lanes.mask), dtype)
        if at.step == -1:
            last = builder.sub(at.offset, long(lanes.width - 1))
            mask = None if lanes.mask is None else vectors.reversed_elements(builder, lanes.mask)
            found = vectors.load_vector(builder, builder.gep(place.pointer, [last]), lanes.width, mask)
            return self.from_memory(vectors.reversed_elements(builder, found), dtype)
        return self.from_memory(vectors.gather(builder, place.pointer, self._offsets(at), lanes.mask), dtype)

    def _mask_for(self, at: Element) -> Any:
        return self.lanes.mask if at.invalid is None and self.lanes is not None else self._there(at.invalid)

    def _load_one(self, place: Memory, at: Element) -> Any:
        """Load a shared element; where its index is out of bounds nothing is read."""
        builder = self.builder
        address = builder.gep(place.pointer, [at.offset])
        if at.invalid is not None:
            address = builder.select(at.invalid, memory.stack(builder, place.pointer.type.pointee), address)
        return builder.load(self._if_any(address))

    def _if_any(self, address: Any) -> Any:
        """Return an address to read from, or some other where no lane reads."""
        if self.lanes is None or not self.lanes.may_be_empty:
            return address
        nowhere = memory.stack(self.builder, address.type.pointee)
        return self.builder.select(any_lane(self.builder, self.lanes.mask), address, nowhere)

    def _offsets(self, at: Element) -> Any:
        assert self.lanes is not None
        width = self.lanes.width
        by = long(at.step) if isinstance(at.step, int) else at.step
        stepped = self.builder.mul(vectors.iota(width), splat(self.builder, by, width))
        return self.builder.add(splat(self.builder, at.offset, width), stepped)

    def _lane_address(self, place: Memory, at: Element) -> Any:
        builder = self.builder
        kind = ir.VectorType(place.pointer.type.pointee, place.lanes)
        address = builder.gep(place.pointer, [times(builder, at.offset, long(place.lanes))])
        return builder.bitcast(address, kind.as_pointer())

    def _store(self, place: Memory, dtype: DType, indices: Sequence[loops.Subscript], value: Any) -> None:
        self._put(place, dtype, self._locate(place, indices), value)

    def _put(self, place: Memory, dtype: DType, at: Element, value: Any) -> None:
        builder, lanes = self.builder, self.lanes
        value = self.to_memory(value, dtype)
        if place.lanes > 1:
            assert lanes is not None
            value = splat(builder, value, lanes.width)
            if vectors.width_of(at.offset) > 1:
                offsets = builder.mul(at.offset, splat(builder, long(place.lanes), lanes.width))
                offsets = builder.add(offsets, vectors.iota(lanes.width))
                vectors.scatter(builder, value, place.pointer, offsets, self._mask_for(at))
                return
            builder.store(value, self._lane_address(place, at))
            return
        if vectors.width_of(at.offset) > 1:
            assert lanes is not None
            value = splat(builder, value, lanes.width)
            vectors.scatter(builder, value, place.pointer, at.offset, self._mask_for(at))
            return
        if isinstance(at.step, int) and at.step == 0:
            if vectors.width_of(value) > 1:  # the last iteration's stays
                value = self._last(value)
            address = builder.gep(place.pointer, [at.offset])
            if at.invalid is not None:
                address = builder.select(at.invalid, memory.stack(builder, place.pointer.type.pointee), address)
            builder.store(value, address)
            return
        assert lanes is not None
        value = splat(builder, value, lanes.width)
        if at.step == 1:
            vectors.store_vector(builder, value, builder.gep(place.pointer, [at.offset]), lanes.mask)
        else:
            vectors.scatter(builder, value, place.pointer, self._offsets(at), lanes.mask)

    def _last(self, value: Any) -> Any:
        assert self.lanes is not None
        count = self.scope.names[_COUNT]
        last = self.builder.trunc(self.builder.sub(count, long(1)), vectors.INT)
        return self.builder.extract_element(value, last)

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

    # Loops

    def bounds(self, axis: Axis | Block) -> tuple[Any, Any]:
        """Return where a loop starts and stops."""
        if isinstance(axis, Axis) and axis.block is not None:
            start = self.scope.indices[axis.block]
            stop = memory.least(self.builder, self.builder.add(start, long(axis.block.rows)), self.size(axis.size))
            return start, stop
        return (self.size(axis.start) if isinstance(axis, Axis) else long(0)), self.size(axis.size)

    def _loop(self, loop: loops.Loop) -> None:
        start, stop = self.bounds(loop.axis)
        self.loop_between(loop, start, stop)

    def loop_between(self, loop: loops.Loop, start: Any, stop: Any) -> None:
        """Write a loop over some of its range."""
        if loop.lanes:
            self._in_lanes(loop, start, stop)
            return
        if targets := self._side_by_side(loop):
            start = self._in_groups(loop, targets, start, stop)
        step = loop.axis.rows if isinstance(loop.axis, Block) else 1
        with memory.loop(self.builder, start, stop, step) as index:
            self.scope.indices[loop.axis] = index
            if isinstance(loop.axis, Block):
                self._rows(loop.body, loop.axis)
            else:
                self.write(loop.body)

    def _rows(self, body: Sequence[Statement], block: Block) -> None:
        """Write what is done with the rows of a block.

        Where rows are read a second time, they come from the cache and memory is idle: time to ask for those of the
        next block.
        """
        seen: set[Buffer] = set()
        for statement in body:
            read = {part.buffer for part in loops.parts(statement) if isinstance(part, Load) and _is_row(part, block)}
            self._ahead = dict.fromkeys(read & seen, block.rows)
            self.write([statement])
            seen |= read
        self._ahead = {}

    def _prefetch(self, place: Memory, at: Element, width: int, rows: int) -> None:
        if vectors.width_of(at.offset) > 1:
            return
        builder = self.builder
        distance = builder.add(at.offset, builder.mul(place.strides[0], long(rows)))
        address = builder.bitcast(builder.gep(place.pointer, [distance]), BYTE.as_pointer())
        lanes = 1 if self.lanes is None else self.lanes.width
        for line in range(0, lanes * width, vectors.CACHE_LINE):
            vectors.prefetch(builder, builder.gep(address, [long(line)]))

    def _side_by_side(self, loop: loops.Loop) -> list[loops.Accumulate]:
        """Return the statements by which all lanes meet in one element after the other of an array."""
        if self.lanes is None:
            return []
        found = [s for s in loop.body if isinstance(s, loops.Accumulate) and self._meets(s, loop.axis)]
        simple = all(isinstance(s, loops.Let | loops.Store | loops.Accumulate) for s in loop.body)
        targets = [s.target.buffer for s in found if isinstance(s.target, Load)]
        uses = [part for s in loop.body for part in loops.parts(s) if isinstance(part, Buffer)]
        return found if simple and all(uses.count(buffer) == 1 for buffer in targets) else []

    def _meets(self, statement: loops.Accumulate, axis: Axis | Block) -> bool:
        assert self.lanes is not None
        target = statement.target
        if not isinstance(target, Load) or statement.how != "sum" or target.dtype.kind != "f":
            return False
        *outer, last = target.indices or (None,)
        if self.scope.memories[target.buffer].lanes > 1 or not isinstance(last, Affine) or last.axis is not axis:
            return False
        is_next = (last.step, last.divisor, last.block) == (1, 1, None)
        return is_next and all(isinstance(i, Affine) and i.axis not in (axis, self.lanes.axis) for i in outer)

    def _in_groups(self, loop: loops.Loop, targets: Sequence[loops.Accumulate], start: Any, stop: Any) -> Any:
        """Write a loop for groups of elements in which all lanes meet, and return where the last group ends.

        The totals of several elements together cost a third of what they cost one by one.
        """
        builder, group = self.builder, vectors.GROUP
        middle = memory.last_whole(builder, start, stop, group)
        with memory.loop(builder, start, middle, group) as index:
            found: dict[int, list[Any]] = {id(target): [] for target in targets}
            for number in range(group):
                self.scope.indices[loop.axis] = plus(builder, index, long(number))
                for statement in loop.body:
                    if id(statement) in found:
                        assert isinstance(statement, loops.Accumulate)
                        found[id(statement)].append(self._contribution(statement))
                    else:
                        self.write([statement])
            self.scope.indices[loop.axis] = index
            for statement in targets:
                assert isinstance(statement.target, Load)
                dtype, place = statement.target.dtype, self.scope.memories[statement.target.buffer]
                combine = partial(self.combine, statement.how, dtype)
                first = self._locate(place, statement.target.indices).offset
                address = builder.gep(place.pointer, [first])
                old = vectors.load_vector(builder, address, group, None)
                new = combine(old, vectors.sums(builder, found[id(statement)], combine))
                vectors.store_vector(builder, new, address, None)
        return middle

    def _contribution(self, statement: loops.Accumulate) -> Any:
        """Return what the lanes add to an element."""
        assert self.lanes is not None
        value = self.cast(self.operand(statement.operand), statement.operand.dtype, statement.target.dtype)
        dtype, how = statement.target.dtype, statement.how
        value = self._masked(splat(self.builder, value, self.lanes.width), how, dtype)
        return vectors.folded(self.builder, value, vectors.GROUP, partial(self.combine, how, dtype))

    def _in_lanes(self, loop: loops.Loop, start: Any, stop: Any) -> None:
        assert isinstance(loop.axis, Axis)
        builder, width = self.builder, vectors.lanes_of(loop)
        totals = {
            name: Total(builder, self.scope.cells[name], dtype, how, width)
            for name, (dtype, how) in outer_totals(loop.body).items()
        }
        self.scope.cells |= {name: total.recent for name, total in totals.items()}
        middle = memory.last_whole(builder, start, stop, width)
        sums = [total for total in totals.values() if total.is_rounded]
        with memory.loop(builder, start, middle, width) as index:
            self._body_in_lanes(loop, Lanes(loop.axis, index, width, None, totals), long(width))
            if sums:
                done = builder.and_(builder.sub(index, start), long((FLUSH - 1) * width))
                with builder.if_then(builder.icmp_signed("==", done, long((FLUSH - 1) * width)), likely=False):
                    for total in sums:
                        total.flush(builder)
        rest = builder.sub(stop, middle)
        with builder.if_then(builder.icmp_signed(">", rest, long(0))):
            mask = builder.icmp_signed("<", vectors.iota(width), splat(builder, rest, width))
            self._body_in_lanes(loop, Lanes(loop.axis, middle, width, mask, totals), rest)
        for name, total in totals.items():
            self.scope.cells[name] = total.cell
            combine = partial(self.combine, total.how, total.dtype)
            found = vectors.combined(builder, total.value(builder), combine)
            builder.store(combine(builder.load(total.cell), found), total.cell)

    def _body_in_lanes(self, loop: loops.Loop, lanes: Lanes, count: Any) -> None:
        self.scope.indices[loop.axis] = lanes.first
        self.scope.names[_COUNT] = count
        self.lanes = lanes
        try:
            self.write(loop.body)
        finally:
            self.lanes = None

    # Library

    def _multiply(self, product: loops.Multiply) -> None:
        left, right, result = product.left, product.right, product.result
        if result.transposed:  # the same product as that of the transposes, whose result is the transpose
            left, right = (replace(panel, transposed=not panel.transposed) for panel in (right, left))
        rows, inner = self._extent(left)
        _, columns = self._extent(right)
        (c, ldc), (a, lda), (b, ldb) = (self._panel(panel) for panel in (result, left, right))
        dtype = result.buffer.dtype
        if product.symmetric:
            library.syrk(
                self.builder, dtype, rows, inner, a, lda, left.transposed, c, ldc, product.accumulate,
            )  # fmt: skip
            return
        library.gemm(
            self.builder, dtype, rows, columns, inner,
            a, lda, left.transposed, b, ldb, right.transposed, c, ldc, product.accumulate, self.scope.threads,
        )  # fmt: skip

    def _matrix_vector(self, product: loops.MatrixVector) -> None:
        assert self.lanes is not None
        a, x, y = (self._first(section) for section in (product.matrix, product.vector, product.result))
        distance = self.scope.memories[product.matrix.buffer].strides[-2]
        steps = (long(1), distance) if product.matrix.transposed else (distance, long(1))
        sizes = [self.size(size) for size in product.matrix.shape]
        columns.multiply(self.builder, self.lanes.width, sizes, a, steps, x, y, product.accumulate, product.matrix.band)

    def _outer(self, product: loops.Outer) -> None:
        assert self.lanes is not None
        c, u, v = (self._first(section) for section in (product.result, product.left, product.right))
        distance = self.scope.memories[product.result.buffer].strides[-2]
        sizes = [self.size(size) for size in product.result.shape]
        columns.add_outer(
            self.builder, self.lanes.width, self.scope.names[_COUNT], sizes, u, v, c, distance, product.result.band
        )

    def _first(self, section: loops.Section) -> Any:
        """Return the address of a section's first element."""
        place = self.scope.memories[section.buffer]
        zeros = [Affine(None)] * len(section.shape)
        offset = self._locate(place, [*section.indices, *zeros]).offset
        return self.builder.gep(place.pointer, [times(self.builder, offset, long(place.lanes))])

    def _extent(self, panel: loops.Panel) -> tuple[Any, Any]:
        """Return the rows and columns of a panel as it is read."""
        shape = list(self.scope.memories[panel.buffer].shape)
        if panel.block is not None:
            start = self.scope.indices[panel.block]
            rest = self.builder.sub(self.size(panel.block.size), start)
            shape[panel.along] = memory.least(self.builder, rest, long(panel.block.rows))
        rows, columns = shape
        return (columns, rows) if panel.transposed else (rows, columns)

    def _panel(self, panel: loops.Panel) -> tuple[Any, Any]:
        """Return the first element of a panel and the distance of its rows in memory."""
        place = self.scope.memories[panel.buffer]
        pointer = place.pointer
        if panel.block is not None and not panel.local:
            start = self.scope.indices[panel.block]
            pointer = self.builder.gep(pointer, [times(self.builder, start, place.strides[panel.along])])
        return pointer, place.strides[0]

    def _call(self, call: loops.Call) -> None:
        operands, shapes, transposed = [], [], []
        for operand in call.operands:
            flipped = isinstance(operand, loops.Transposed)
            buffer = operand.buffer if isinstance(operand, loops.Transposed) else operand
            if not isinstance(buffer, Buffer):
                value = self.to_memory(self.operand(buffer), buffer.dtype)
                room = memory.stack(self.builder, value.type)
                self.builder.store(value, room)
                operands.append(room)
                shapes.append(())
            else:
                place = self.scope.memories[buffer]
                operands.append(place.pointer)
                shapes.append(place.shape)
            transposed.append(flipped)
        result = self.scope.memories[call.result]
        dtype = loops.operand_dtype(call)
        status = library.emit_call(
            self.builder, call.function, dtype, result.pointer, result.shape,
            operands, shapes, transposed, call.attributes, self.scope.threads,
        )  # fmt: skip
        if status is not None:
            code = self.builder.sext(status, LONG)
            with self.builder.if_then(self.builder.icmp_signed("!=", code, long(0)), likely=False):
                report(self.builder, self.scope.error, code, long(0), long(0))


def _pointee_width(cell: Any) -> int:
    kind = cell.type.pointee
    return kind.count if isinstance(kind, ir.VectorType) else 1


def _is_row(load: Load, block: Block) -> bool:
    """Tell whether an element of an argument is read that lies in a row of a block."""
    first = load.indices[0] if load.indices else None
    if load.buffer.role != "argument" or len(load.indices) < 2 or not isinstance(first, Affine):
        return False
    return first.axis is not None and first.axis.block is block


def _is_shared(at: Element) -> bool:
    return vectors.width_of(at.offset) == 1 and isinstance(at.step, int) and at.step == 0
