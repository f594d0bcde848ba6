"""Outermost loops as functions of a chunk of their range, which threads run side by side.

Every chunk has scratch and totals of its own. What several chunks add to in memory, the first adds to where it is and
each other one in a copy of its own; afterwards threads add up the copies piece by piece, each in the order of the
chunks. So the number of chunks, which the sizes decide, is all that the last bits of a result depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

from llvmlite import ir

from symgraph.compile import loops
from symgraph.compile.kernels.instructions import llvm_type
from symgraph.compile.loops import Accumulate, Affine, Axis, Block, Buffer, Load, Loop, bytes_of
from symgraph.compile.machine import library, memory, vectors
from symgraph.compile.machine.cost import STARTING, chunk_count, cost
from symgraph.compile.machine.frame import Frame, mentioned, new_function, writer_inside
from symgraph.compile.machine.language import Number
from symgraph.compile.machine.memory import Scratch
from symgraph.compile.machine.scope import report
from symgraph.compile.machine.threads import MOST_CHUNKS, TASK, launch
from symgraph.compile.machine.totals import identity, outer_totals
from symgraph.compile.machine.vectors import DType, long
from symgraph.compile.machine.writer import Writer

_LINE = 64
_PIECE = 4096  # elements of copies that are added up while the sums stay in the nearest cache
_DOUBLE = ir.DoubleType()
_NOT_MUCH = ir.Constant(vectors.BIT, 0)


@dataclass(frozen=True)
class _Shared:
    """What several iterations of a loop add to.

    Attributes:
        totals: Scalars, with dtype and the way of accumulation.
        buffers: Buffers, with the way of accumulation.
        in_order: Whether the order of the iterations counts, since the last write stays.
    """

    totals: dict[str, tuple[DType, str]]
    buffers: dict[Buffer, str]
    in_order: bool


def write_outermost(writer: Writer, loop: Loop, failed: Callable[[], None]) -> None:
    """Write an outermost loop: a function of a chunk of its range, and the launch of all chunks.

    Args:
        writer: Where to write the launch.
        loop: The loop.
        failed: Writes what happens where there is no memory.
    """
    builder = writer.builder
    buffers = shared_targets(loop)
    in_order = "set" in buffers.values()
    shared = _Shared(outer_totals(loop.body), {} if in_order else buffers, in_order)
    frame = Frame(builder)
    names, mentioned_buffers = mentioned(loop)
    frame.add_mentioned(writer, names - shared.totals.keys(), mentioned_buffers)
    start, stop = writer.bounds(loop.axis)
    work = writer.size(cost([loop]))
    chunks = long(1) if in_order else _chunks(writer, loop, shared, work, builder.sub(stop, start))
    for key, value in (("chunks", chunks), ("start", start), ("stop", stop)):
        frame.add(key, value)
    totals = {name: memory.stack(builder, llvm_type(dtype), MOST_CHUNKS) for name, (dtype, _) in shared.totals.items()}
    for name, row in totals.items():
        frame.add(("total", name), row)
    copies, scratch = _copies(writer, shared, chunks, failed)
    for buffer, (first, distance) in copies.items():
        frame.add(("copy", buffer), first)
        frame.add(("distance", buffer), distance)
    task = _task(writer, loop, frame, shared)
    much = builder.icmp_signed(">=", work, long(STARTING))
    address = frame.address()
    launch(builder, task, address, chunks, writer.scope.threads, much)
    _combine_totals(writer, shared, totals, chunks)
    if shared.buffers:
        with builder.if_then(builder.icmp_signed(">", chunks, long(1))):
            addition, pieces = _addition(builder.module, frame, shared), _pieces(writer, shared)
            launch(builder, addition, address, pieces, writer.scope.threads, _NOT_MUCH)
    scratch.release(builder)


def _chunks(writer: Writer, loop: Loop, shared: _Shared, work: Any, length: Any) -> Any:
    """Return the number of chunks: as many as the loop is worth, and no more than its range has pieces."""
    builder, grain = writer.builder, _grain(loop)
    copied = Number(builder, writer.size(bytes_of(shared.buffers))) if shared.buffers else None
    worth = chunk_count(Number(builder, work).at_least(0), copied, Number.at_most, _nearest_root)
    pieces = memory.quotient(builder, builder.add(length, long(grain - 1)), grain)
    return worth.at_most(Number(builder, pieces)).at_least(1).value


def _nearest_root(number: Number) -> Number:
    builder = number.builder
    sqrt = vectors.intrinsic(builder.module, "llvm.sqrt.f64", _DOUBLE, [_DOUBLE])
    root = builder.call(sqrt, [builder.sitofp(number.value, _DOUBLE)])
    return Number(builder, builder.fptosi(builder.fadd(root, ir.Constant(_DOUBLE, 0.5)), vectors.LONG))


def _copies(
    writer: Writer, shared: _Shared, chunks: Any, failed: Callable[[], None]
) -> tuple[dict[Buffer, tuple[Any, Any]], Scratch]:
    """Return for each shared buffer the second chunk's copy and the distance of the next."""
    builder, scratch = writer.builder, Scratch()
    if not shared.buffers:
        return {}, scratch
    others = builder.sub(chunks, long(1))
    total: Any = long(_LINE)
    places = {}
    for buffer in shared.buffers:
        count = writer.scope.memories[buffer].count(builder)
        distance = builder.and_(builder.add(count, long(_LINE - 1)), long(-_LINE))
        places[buffer] = (distance, total)
        total = builder.add(total, builder.mul(builder.mul(distance, long(buffer.dtype.itemsize)), others))
    scratch.raw = memory.from_heap(builder, total, failed)
    start = builder.and_(builder.neg(builder.ptrtoint(scratch.raw, vectors.LONG)), long(_LINE - 1))
    found = {}
    for buffer, (distance, offset) in places.items():
        place = builder.add(start, builder.sub(offset, long(_LINE)))
        kind = writer.scope.memories[buffer].pointer.type
        found[buffer] = (builder.bitcast(builder.gep(scratch.raw, [place]), kind), distance)
    return found, scratch


def _task(writer: Writer, loop: Loop, frame: Frame, shared: _Shared) -> Any:
    """Return the function of a chunk."""
    function = new_function(writer.builder.module, TASK, "symgraph.loop")
    address, number = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    known = frame.read(builder, address)
    is_copy = builder.icmp_signed(">", number, long(0))
    for buffer in shared.buffers:
        copy = _copy(builder, known, buffer, number)
        known["buffer", buffer] = builder.select(is_copy, copy, known["buffer", buffer])
    inside = writer_inside(builder, known)
    scope, scratch = inside.scope, Scratch()
    for buffer, how in shared.buffers.items():
        place = scope.memories[buffer]
        nothing = inside.to_memory(identity(how, buffer.dtype), buffer.dtype)
        with builder.if_then(is_copy):
            inside.fill(place.pointer, nothing, place.count(builder))
    for name, (dtype, how) in shared.totals.items():
        scope.cells[name] = memory.variable(builder, llvm_type(dtype))
        builder.store(identity(how, dtype), scope.cells[name])

    def failed() -> None:
        report(builder, scope.error, long(library.NO_MEMORY))
        builder.ret_void()

    scope.memories |= scratch.take(builder, allocated(loop), scope.names, failed)
    first, stop = _range(builder, number, known, _grain(loop))
    inside.loop_between(loop, first, stop)
    for name in shared.totals:
        builder.store(builder.load(scope.cells[name]), builder.gep(known["total", name], [number]))
    scratch.release(builder)
    builder.ret_void()
    return function


def _range(builder: Any, number: Any, known: dict[Any, Any], grain: int) -> tuple[Any, Any]:
    """Return where a chunk begins and stops, both at multiples of the grain."""
    start, stop, chunks = known["start"], known["stop"], known["chunks"]
    pieces = memory.quotient(builder, builder.add(builder.sub(stop, start), long(grain - 1)), grain)

    def edge(number: Any) -> Any:
        piece = builder.sdiv(builder.mul(pieces, number), chunks)
        return memory.least(builder, builder.add(start, builder.mul(piece, long(grain))), stop)

    return edge(number), edge(builder.add(number, long(1)))


def _copy(builder: Any, known: Mapping[Any, Any], buffer: Buffer, number: Any) -> Any:
    """Return where a chunk that is not the first has its copy."""
    before = builder.mul(builder.sub(number, long(1)), known["distance", buffer])
    return builder.gep(known["copy", buffer], [before])


def _combine_totals(writer: Writer, shared: _Shared, totals: dict[str, Any], chunks: Any) -> None:
    """Add up the numbers that the chunks found, in their order."""
    builder = writer.builder
    with memory.loop(builder, long(0), chunks) as number:
        for name, (dtype, how) in shared.totals.items():
            cell = writer.scope.cells[name]
            part = builder.load(builder.gep(totals[name], [number]))
            builder.store(writer.combine(how, dtype, builder.load(cell), part), cell)


def _pieces(writer: Writer, shared: _Shared) -> Any:
    """Return in how many pieces copies are added up."""
    builder = writer.builder
    counts = (writer.scope.memories[buffer].count(builder) for buffer in shared.buffers)
    most = reduce(partial(memory.greatest, builder), counts)
    return memory.quotient(builder, builder.add(most, long(_PIECE - 1)), _PIECE)


def _addition(module: Any, frame: Frame, shared: _Shared) -> Any:
    """Return the function that adds to a piece of each buffer what the chunks have in their copies of it."""
    function = new_function(module, TASK, "symgraph.add")
    address, number = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    known = frame.read(builder, address)
    writer = writer_inside(builder, known)
    start = builder.mul(number, long(_PIECE))
    for buffer, how in shared.buffers.items():
        place = writer.scope.memories[buffer]
        stop = memory.least(builder, builder.add(start, long(_PIECE)), place.count(builder))
        with memory.loop(builder, long(1), known["chunks"]) as chunk:
            own = _copy(builder, known, buffer, chunk)
            with memory.loop(builder, start, stop) as i:
                target = builder.gep(place.pointer, [i])
                old, more = (
                    writer.from_memory(builder.load(each), buffer.dtype) for each in (target, builder.gep(own, [i]))
                )
                builder.store(writer.to_memory(writer.combine(how, buffer.dtype, old, more), buffer.dtype), target)
    builder.ret_void()
    return function


def _grain(loop: Loop) -> int:
    """Return of how many iterations a chunk's size is a multiple."""
    return loop.axis.rows if isinstance(loop.axis, Block) else vectors.native_lanes()


def allocated(loop: Loop) -> list[tuple[Buffer, int]]:
    """Return the scratch of a loop, and how many lanes each has."""
    found: list[tuple[Buffer, int]] = []
    stack = [(loop, vectors.lanes_of(loop) if loop.lanes else 1)]
    while stack:
        current, lanes = stack.pop()
        for statement in current.body:
            if isinstance(statement, loops.Allocate):
                found.append((statement.buffer, lanes))
            elif isinstance(statement, Loop):
                stack.append((statement, vectors.lanes_of(statement) if statement.lanes else lanes))
    return found


def shared_targets(loop: Loop) -> dict[Buffer, str]:
    """Return the buffers whose elements several iterations of a loop add to, and how."""
    own = {s.buffer for s in loops.walk(loop.body) if isinstance(s, loops.Allocate)}
    found: dict[Buffer, str] = {}
    for statement in loops.walk(loop.body):
        match statement:
            case Accumulate(target=Load(buffer=buffer, indices=indices), how=how) if buffer not in own:
                if not any(_runs_with(index, loop.axis) for index in indices):
                    found[buffer] = how
            case loops.Multiply(result=panel, accumulate=True) if panel.buffer not in own:
                if panel.block is not loop.axis:
                    found[panel.buffer] = "sum"
            case loops.Outer(result=loops.Section(buffer=buffer, indices=indices)):
                if not any(_runs_with(index, loop.axis) for index in indices):
                    found[buffer] = "sum"
    return found


def _runs_with(index: Any, axis: Axis | Block) -> bool:
    """Tell whether different iterations of a loop have different indices."""
    if not isinstance(index, Affine) or index.axis is None or index.divisor != 1:
        return False
    return index.axis is axis or index.axis.block is axis
