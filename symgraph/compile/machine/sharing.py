"""Library calls shared among threads, in pieces whose number depends on the sizes alone.

A piece of a matrix product packs its operands anew, so pieces are large: measured with OpenBLAS, a slab of 160 rows
loses a tenth, one of 64 a fifth. That there are 2, 4, 8 or 16 of them suits the usual numbers of threads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from symgraph.compile.machine.language import Number, as_value, counted, invoke
from symgraph.compile.machine.threads import MOST_CHUNKS, POINTER, TASK, launch
from symgraph.compile.machine.vectors import BIT, INT, LONG, DType, intrinsic, long

_WORTH_SHARING = 4e6  # multiplications of float64, or twice as many of float32: 0.15 ms, of which starting takes 0.03
_SLAB = 128
_MOST = 16
_ROUNDED_TO = 16
_ALL = -1  # no worker by its number: all take part
_PATIENCE = 2000  # looks at whether others are done, and more where there is more work; each takes about 0.3 µs


def pieces_along(builder: Any, count: Number, work: Sequence[Number], dtype: DType) -> Number:
    """Return into how many pieces to divide an axis of a number of elements, given factors of the work."""
    slabs = (count // _SLAB).at_least(1)
    leading = intrinsic(builder.module, "llvm.ctlz.i64", LONG, [LONG, BIT])
    zeros = builder.call(leading, [slabs.value, ir.Constant(BIT, 0)])
    power = Number(builder, builder.shl(long(1), builder.sub(long(63), zeros))).at_most(_MOST)
    return only_if_much(builder, power, work, dtype)


def only_if_much(builder: Any, pieces: Number, work: Sequence[Number], dtype: DType) -> Number:
    """Return the number of pieces, but 1 where there is too little work to share, given factors of it."""
    product: Any = ir.Constant(ir.DoubleType(), 1.0)  # which does not overflow
    for factor in work:
        product = builder.fmul(product, builder.sitofp(factor.value, ir.DoubleType()))
    little = builder.fcmp_ordered("<", product, ir.Constant(ir.DoubleType(), _WORTH_SHARING * 8 / dtype.itemsize))
    return Number(builder, builder.select(little, long(1), pieces.value))


def piece(count: Number, pieces: Number, number: Number) -> tuple[Number, Number]:
    """Return where a piece starts and how many elements it has."""
    even = (count + pieces - 1) // pieces
    size = (even + (_ROUNDED_TO - 1)) // _ROUNDED_TO * _ROUNDED_TO
    start = (number * size).at_most(count)
    return start, size.at_most(count - start)


def share(builder: Any, part: Any, arguments: Sequence[Any], pieces: Number, threads: Any) -> None:
    """Call a function once for each piece, on up to so many threads.

    Args:
        builder: Where to write it.
        part: Takes the arguments, the number of pieces, and the number of the piece.
        arguments: Numbers, arrays, Python's truth values, or LLVM's values.
        pieces: How many there are.
        threads: The threads of the call.
    """
    frame = _frame(builder, [*arguments, pieces], [argument.type for argument in part.args[:-1]])
    launch(builder, _task(builder.module, part, frame.type), builder.bitcast(frame, POINTER), pieces.value, threads)


def share_in_phases(
    builder: Any,
    part: Any,
    arguments: Sequence[Any],
    phases: Number,
    pieces: Number,
    workers: Number,
    threads: Any,
) -> None:
    """Call a function once for each piece of each phase, on up to so many threads.

    A phase begins when all pieces of those before it are done. Threads take the pieces in their order, so one that
    waits does so for others at work, however few they are. One that has to wait for very long goes on alone: where
    other programs want the processors too, a thread that has been stopped would be waited for in phase after phase.

    Args:
        builder: Where to write it.
        part: Takes the arguments, the number of the phase, and the number of the piece.
        arguments: Numbers, arrays, Python's truth values, or LLVM's values.
        phases: How many there are.
        pieces: How many each has.
        workers: How many threads are worth it.
        threads: How many threads may work, this one included; this one alone where None.
    """
    if threads is None:
        with counted(builder, phases) as phase, counted(builder, pieces) as number:
            invoke(builder, part, *arguments, phase.index, number.index)
        return
    with builder.goto_entry_block():
        cells = [builder.alloca(LONG) for _ in range(3)]
    for cell, value in zip(cells, (0, 0, _ALL), strict=True):
        builder.store(long(value), cell)
    kinds = [*(argument.type for argument in part.args[:-2]), LONG, LONG, *(cell.type for cell in cells)]
    frame = _frame(builder, [*arguments, phases, pieces, *cells], kinds)
    task = _task_of_phases(builder.module, part, frame.type)
    workers = pieces.at_most(workers).at_most(MOST_CHUNKS)
    launch(builder, task, builder.bitcast(frame, POINTER), workers.value, threads)


def _frame(builder: Any, arguments: Sequence[Any], kinds: Sequence[Any]) -> Any:
    """Return the address of a structure of arguments."""
    kind = ir.LiteralStructType(kinds)
    with builder.goto_entry_block():
        frame = builder.alloca(kind)
    collected: Any = ir.Constant(kind, ir.Undefined)
    for i, (argument, element) in enumerate(zip(arguments, kinds, strict=True)):
        collected = builder.insert_value(collected, as_value(argument, element), i)
    builder.store(collected, frame)
    return frame


def _task(module: Any, part: Any, frame: Any) -> Any:
    def write(builder: Any, arguments: list[Any], number: Any) -> None:
        invoke(builder, part, *arguments, number)

    return _unpacking(module, part, frame, write)


def _task_of_phases(module: Any, part: Any, frame: Any) -> Any:
    """Return the task of one thread: to take pieces as long as there are any."""

    def write(builder: Any, values: list[Any], number: Any) -> None:
        *arguments, phases, pieces, taken, done, who = values
        total = builder.mul(phases, pieces)
        again, take, work, end = (builder.append_basic_block(name) for name in ("again", "take", "work", "end"))
        builder.branch(again)
        builder.position_at_end(again)
        working = builder.load_atomic(who, "monotonic", 8)
        others = builder.icmp_signed("!=", working, long(_ALL))
        builder.cbranch(builder.and_(others, builder.icmp_signed("!=", working, number)), end, take)
        builder.position_at_end(take)
        mine = builder.atomic_rmw("add", taken, long(1), "monotonic")
        builder.cbranch(builder.icmp_signed("<", mine, total), work, end)
        builder.position_at_end(work)
        phase, piece = builder.udiv(mine, pieces), builder.urem(mine, pieces)
        patience = builder.add(long(_PATIENCE), builder.mul(pieces, long(_PATIENCE // 32)))
        with _waiting_for(builder, done, builder.mul(phase, pieces), patience):
            builder.cmpxchg(who, long(_ALL), number, "monotonic", "monotonic")
        invoke(builder, part, *arguments, phase, piece)
        builder.atomic_rmw("add", done, long(1), "release")
        builder.branch(again)
        builder.position_at_end(end)

    return _unpacking(module, part, frame, write)


@contextmanager
def _waiting_for(builder: Any, done: Any, count: Any, patience: Any) -> Iterator[None]:
    """Wait until so many pieces are done, leaving the processor to other threads; the block runs if that takes long."""
    before = builder.block
    check, wait, late, again, end = (builder.append_basic_block(n) for n in ("check", "wait", "late", "again", "go"))
    builder.branch(check)
    builder.position_at_end(check)
    waited = builder.phi(LONG)
    waited.add_incoming(long(0), before)
    missing = builder.icmp_signed("<", builder.load_atomic(done, "acquire", 8), count)
    builder.cbranch(missing, wait, end)
    builder.position_at_end(wait)
    if sys.platform != "win32":  # which has no threads here
        builder.call(intrinsic(builder.module, "sched_yield", INT, []), [])
    builder.cbranch(builder.icmp_signed("==", waited, patience), late, again)
    builder.position_at_end(late)
    yield
    builder.branch(again)
    builder.position_at_end(again)
    waited.add_incoming(builder.add(waited, long(1)), again)
    builder.branch(check)
    builder.position_at_end(end)


def _unpacking(module: Any, part: Any, frame: Any, write: Callable[[Any, list[Any], Any], None]) -> Any:
    """Return the task that calls a function with what is in a frame, and the number of the piece."""
    name = f"{part.name}.task"
    if name in module.globals:
        return module.globals[name]
    task = ir.Function(module, TASK, name)
    task.linkage = "internal"
    builder = ir.IRBuilder(task.append_basic_block())
    collected = builder.bitcast(task.args[0], frame)
    count = len(frame.pointee.elements)
    places = [builder.gep(collected, [ir.Constant(INT, 0), ir.Constant(INT, i)]) for i in range(count)]
    write(builder, [builder.load(place) for place in places], task.args[1])
    builder.ret_void()
    return task
