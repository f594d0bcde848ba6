"""Writes how iterations, and lanes of one iteration, are combined into scalars and into elements of arrays.

Lanes that meet in one element are combined pairwise first. Where an index is data, any two of them may meet, so they
go one by one. Where they meet in one element after the other of an array, a group of elements is summed up together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from llvmlite import ir

from symgraph.compile.kernels.instructions import llvm_type
from symgraph.compile.loops import (
    Accumulate,
    Affine,
    Axis,
    Block,
    Buffer,
    Let,
    Load,
    Loop,
    Start,
    Statement,
    Store,
    parts,
)
from symgraph.compile.machine import memory, vectors
from symgraph.compile.machine.memory import Memory, plus
from symgraph.compile.machine.operands import Operands
from symgraph.compile.machine.scope import Element
from symgraph.compile.machine.totals import identity
from symgraph.compile.machine.vectors import DType, long, splat


def start(operands: Operands, statement: Start) -> None:
    """Write the beginning of an accumulation in a scalar, or in one for each lane."""
    builder, dtype = operands.builder, statement.dtype
    width = 1 if operands.lanes is None else operands.lanes.width
    cell = memory.variable(builder, vectors.vector(llvm_type(dtype), width))
    builder.store(splat(builder, identity(statement.how, dtype), width), cell)
    operands.scope.cells[statement.name] = cell


def accumulate(operands: Operands, statement: Accumulate) -> None:
    """Write how an operand is combined into a scalar or an element."""
    target, how = statement.target, statement.how
    value = _given(operands, statement)
    if isinstance(target, Load):
        _accumulate_element(operands, target, how, value)
        return
    builder, cell = operands.builder, operands.scope.cells[target.name]
    value = splat(builder, value, _width_of_cell(cell))
    if operands.lanes is not None and target.name in operands.lanes.totals:
        value = _masked(operands, value, how, target.dtype)
    builder.store(operands.combine(how, target.dtype, builder.load(cell), value), cell)


def _given(operands: Operands, statement: Accumulate) -> Any:
    return operands.cast(operands.value(statement.operand), statement.operand.dtype, statement.target.dtype)


def _width_of_cell(cell: Any) -> int:
    kind = cell.type.pointee
    return kind.count if isinstance(kind, ir.VectorType) else 1


def _masked(operands: Operands, value: Any, how: str, dtype: DType) -> Any:
    """Replace what lanes hold that are not there by the identity."""
    if operands.lanes is None or operands.lanes.mask is None:
        return value
    builder, width = operands.builder, operands.lanes.width
    value = splat(builder, value, width)
    nothing = splat(builder, identity(how, dtype), width)
    return builder.select(operands.lanes.mask, value, nothing)


def _accumulate_element(operands: Operands, target: Load, how: str, value: Any) -> None:
    lanes, place, dtype = operands.lanes, operands.scope.memories[target.buffer], target.dtype
    at = operands.locate(place, target.indices)
    if how == "set":
        operands.put(place, dtype, at, value)
        return
    if vectors.width_of(at.offset) > 1:
        _one_by_one(operands, place, dtype, at, how, value)
        return
    if lanes is not None and place.lanes == 1 and at.is_shared:  # all lanes meet in it
        value = _masked(operands, splat(operands.builder, value, lanes.width), how, dtype)
        value = vectors.combined(operands.builder, value, partial(operands.combine, how, dtype))
    operands.put(place, dtype, at, operands.combine(how, dtype, operands.get(place, dtype, at), value))


def _one_by_one(operands: Operands, place: Memory, dtype: DType, at: Element, how: str, value: Any) -> None:
    """Accumulate lane after lane: two of them may meet in one element."""
    assert operands.lanes is not None
    builder, width = operands.builder, operands.lanes.width
    rooms = []
    for each in (at.offset, splat(builder, value, width), operands.there(at.invalid)):
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
            old = operands.from_memory(builder.load(address), dtype)
            builder.store(operands.to_memory(operands.combine(how, dtype, old, one), dtype), address)


def meetings(operands: Operands, loop: Loop) -> list[Accumulate]:
    """Return the statements by which all lanes meet in one element after the other of an array."""
    if operands.lanes is None:
        return []
    found = [s for s in loop.body if isinstance(s, Accumulate) and _meets(operands, s, loop.axis)]
    simple = all(isinstance(s, Let | Store | Accumulate) for s in loop.body)
    targets = [s.target.buffer for s in found if isinstance(s.target, Load)]
    uses = [part for s in loop.body for part in parts(s) if isinstance(part, Buffer)]
    return found if simple and all(uses.count(buffer) == 1 for buffer in targets) else []


def _meets(operands: Operands, statement: Accumulate, axis: Axis | Block) -> bool:
    assert operands.lanes is not None
    target = statement.target
    if not isinstance(target, Load) or statement.how != "sum" or target.dtype.kind != "f":
        return False
    *outer, last = target.indices or (None,)
    if operands.scope.memories[target.buffer].lanes > 1 or not isinstance(last, Affine) or last.axis is not axis:
        return False
    is_next = (last.step, last.divisor, last.block) == (1, 1, None)
    return is_next and all(isinstance(i, Affine) and i.axis not in (axis, operands.lanes.axis) for i in outer)


def sum_in_groups(
    operands: Operands,
    loop: Loop,
    sums: Sequence[Accumulate],
    start: Any,
    stop: Any,
    write: Callable[[Sequence[Statement]], None],
) -> Any:
    """Write a loop for groups of elements in which all lanes meet, and return where the last group ends.

    The totals of several elements together cost a third of what they cost one by one.

    Args:
        operands: Where to write.
        loop: The loop.
        sums: Those of its statements that `meetings` finds.
        start, stop: Where it starts and stops.
        write: Writes the others.
    """
    builder, scope, group = operands.builder, operands.scope, vectors.GROUP
    middle = memory.last_whole(builder, start, stop, group)
    with memory.loop(builder, start, middle, group) as index:
        found: dict[int, list[Any]] = {id(statement): [] for statement in sums}
        for number in range(group):
            scope.indices[loop.axis] = plus(builder, index, long(number))
            for statement in loop.body:
                if id(statement) in found:
                    assert isinstance(statement, Accumulate)
                    found[id(statement)].append(_folded(operands, statement))
                else:
                    write([statement])
        scope.indices[loop.axis] = index
        for statement in sums:
            assert isinstance(statement.target, Load)
            dtype, place = statement.target.dtype, scope.memories[statement.target.buffer]
            combine = partial(operands.combine, statement.how, dtype)
            first = operands.locate(place, statement.target.indices).offset
            address = builder.gep(place.pointer, [first])
            old = vectors.load_vector(builder, address, group, None)
            new = combine(old, vectors.sums(builder, found[id(statement)], combine))
            vectors.store_vector(builder, new, address, None)
    return middle


def _folded(operands: Operands, statement: Accumulate) -> Any:
    """Return what the lanes add to an element, as a vector of as many sums as a group has elements."""
    assert operands.lanes is not None
    dtype, how = statement.target.dtype, statement.how
    value = _masked(operands, splat(operands.builder, _given(operands, statement), operands.lanes.width), how, dtype)
    return vectors.folded(operands.builder, value, vectors.GROUP, partial(operands.combine, how, dtype))
