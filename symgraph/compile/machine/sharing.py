"""Library calls shared among threads, in pieces whose number depends on the sizes alone.

A piece of a matrix product packs its operands anew, so pieces are large: measured with OpenBLAS, a slab of 160 rows
loses a tenth, one of 64 a fifth. That there are 2, 4, 8 or 16 of them suits the usual numbers of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from symgraph.compile.machine.language import Number, invoke
from symgraph.compile.machine.threads import POINTER, TASK, launch
from symgraph.compile.machine.vectors import BIT, INT, LONG, DType, intrinsic, long

_WORTH_SHARING = 4e6  # multiplications of float64, or twice as many of float32: 0.15 ms, of which starting takes 0.03
_SLAB = 128
_MOST = 16
_ROUNDED_TO = 16


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
    kind = ir.LiteralStructType([argument.type for argument in part.args[:-1]])
    with builder.goto_entry_block():
        frame = builder.alloca(kind)
    collected: Any = ir.Constant(kind, ir.Undefined)
    for i, (argument, parameter) in enumerate(zip([*arguments, pieces], part.args, strict=False)):
        value = argument.value if isinstance(argument, Number) else getattr(argument, "pointer", argument)
        value = ir.Constant(parameter.type, int(value)) if isinstance(value, bool) else value
        collected = builder.insert_value(collected, value, i)
    builder.store(collected, frame)
    launch(builder, _task(builder.module, part, kind), builder.bitcast(frame, POINTER), pieces.value, threads)


def _task(module: Any, part: Any, kind: Any) -> Any:
    name = f"{part.name}.task"
    if name in module.globals:
        return module.globals[name]
    task = ir.Function(module, TASK, name)
    task.linkage = "internal"
    builder = ir.IRBuilder(task.append_basic_block())
    frame, number = task.args
    collected = builder.bitcast(frame, kind.as_pointer())
    places = [builder.gep(collected, [ir.Constant(INT, 0), ir.Constant(INT, i)]) for i in range(len(kind.elements))]
    invoke(builder, part, *[builder.load(place) for place in places], number)
    builder.ret_void()
    return task
