"""Writes the statements of a loop program as LLVM code.

A loop in lanes becomes a loop over vectors: each scalar of its body is a vector whose elements belong to neighbouring
iterations, unless it is the same for all of them. What is left over at the end runs once more as a vector under a
mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from symgraph.compile import loops
from symgraph.compile.loops import Affine, Axis, Block, Buffer, Load, Statement
from symgraph.compile.machine import accumulation, calls, memory, vectors
from symgraph.compile.machine.language import Array, Number, copy
from symgraph.compile.machine.operands import Operands
from symgraph.compile.machine.scope import Lanes
from symgraph.compile.machine.totals import FLUSH, Total, identity, outer_totals
from symgraph.compile.machine.vectors import long, splat


class Writer(Operands):
    """Writes statements into one function."""

    def write(self, body: Sequence[Statement]) -> None:
        """Write statements."""
        memories = self.scope.memories
        for statement in body:
            match statement:
                case loops.Let():
                    self.scope.names[statement.name] = self._result(statement)
                case loops.Store(buffer=buffer, indices=indices, operand=operand):
                    value = self.value(operand)
                    self.put(memories[buffer], buffer.dtype, self.locate(memories[buffer], indices), value)
                case loops.Start():
                    accumulation.start(self, statement)
                case loops.Accumulate():
                    accumulation.accumulate(self, statement)
                case loops.Fill(buffer=buffer, how=how, source=source):
                    self._fill(buffer, how, source)
                case loops.View(result=result, source=source):
                    shape = [self.size(s) for s in result.shape]
                    memories[result] = memory.memory(self.builder, memories[source].pointer, shape)
                case loops.Call():
                    calls.call(self, statement)
                case loops.Multiply():
                    calls.multiply(self, statement)
                case loops.MatrixVector():
                    calls.multiply_lanes(self, statement)
                case loops.Outer():
                    calls.add_outer(self, statement)
                case loops.Loop():
                    self.loop_between(statement, *self.bounds(statement.axis))

    def _result(self, let: loops.Let) -> Any:
        values = [self.value(operand) for operand in let.operands]
        if let.operation == "copy":
            return values[0]
        if let.operation == "astype":
            return self.cast(values[0], let.operands[0].dtype, let.dtype)
        return self.elementwise(let.operation, let.operands[-1].dtype, values, let.attributes, let.site)

    def _fill(self, buffer: Buffer, how: str, source: Buffer | loops.Literal | None) -> None:
        place = self.scope.memories[buffer]
        count = place.count(self.builder)
        if isinstance(source, Buffer):
            other = Array(self.builder, self.scope.memories[source].pointer, buffer.dtype)
            copy(other, Array(self.builder, place.pointer, buffer.dtype), Number(self.builder, count))
            return
        value = identity(how, buffer.dtype) if source is None else self.value(source)
        self.fill(place.pointer, self.to_memory(value, buffer.dtype), count)

    def fill(self, pointer: Any, value: Any, count: Any) -> None:
        """Write one number into so many elements."""
        with memory.loop(self.builder, long(0), count) as i:
            self.builder.store(value, self.builder.gep(pointer, [i]))

    def bounds(self, axis: Axis | Block) -> tuple[Any, Any]:
        """Return where a loop starts and stops."""
        if isinstance(axis, Axis) and axis.block is not None:
            start = self.scope.indices[axis.block]
            stop = memory.least(self.builder, self.builder.add(start, long(axis.block.rows)), self.size(axis.size))
            return start, stop
        return (self.size(axis.start) if isinstance(axis, Axis) else long(0)), self.size(axis.size)

    def loop_between(self, loop: loops.Loop, start: Any, stop: Any) -> None:
        """Write a loop over some of its range."""
        if loop.lanes:
            self._in_lanes(loop, start, stop)
            return
        if sums := accumulation.meetings(self, loop):
            start = accumulation.sum_in_groups(self, loop, sums, start, stop, self.write)
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
            self.ahead = dict.fromkeys(read & seen, block.rows)
            self.write([statement])
            seen |= read
        self.ahead = {}

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
            self._body_in_lanes(loop, Lanes(loop.axis, index, width, None, long(width), totals))
            if sums:
                done = builder.and_(builder.sub(index, start), long((FLUSH - 1) * width))
                with builder.if_then(builder.icmp_signed("==", done, long((FLUSH - 1) * width)), likely=False):
                    for total in sums:
                        total.flush(builder)
        rest = builder.sub(stop, middle)
        with builder.if_then(builder.icmp_signed(">", rest, long(0))):
            mask = builder.icmp_signed("<", vectors.iota(width), splat(builder, rest, width))
            self._body_in_lanes(loop, Lanes(loop.axis, middle, width, mask, rest, totals))
        for name, total in totals.items():
            self.scope.cells[name] = total.cell
            combine = partial(self.combine, total.how, total.dtype)
            found = vectors.combined(builder, total.value(builder), combine)
            builder.store(combine(builder.load(total.cell), found), total.cell)

    def _body_in_lanes(self, loop: loops.Loop, lanes: Lanes) -> None:
        self.scope.indices[loop.axis] = lanes.first
        self.lanes = lanes
        try:
            self.write(loop.body)
        finally:
            self.lanes = None


def _is_row(load: Load, block: Block) -> bool:
    """Tell whether an element of an argument is read that lies in a row of a block."""
    first = load.indices[0] if load.indices else None
    if load.buffer.role != "argument" or len(load.indices) < 2 or not isinstance(first, Affine):
        return False
    return first.axis is not None and first.axis.block is block
