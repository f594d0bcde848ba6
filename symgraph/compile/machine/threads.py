"""Loops on several threads: an outermost loop is a function of a chunk of its range, and threads take chunks in turn.

How many chunks there are depends on the sizes alone, and what the chunks add up is combined in their order: so results
are the same, bit for bit, for any number of threads. The threads live for one loop. That costs about as much as waking
sleeping ones, and leaves nothing behind that a fork could break or that two callers could quarrel about.
"""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir

from symgraph.compile.machine.vectors import BYTE, INT, LONG, intrinsic, long

POINTER = BYTE.as_pointer()
TASK = ir.FunctionType(ir.VoidType(), [POINTER, LONG])
"""A chunk of a loop: ``(frame, number of the chunk)``."""

MOST_CHUNKS = 64
_WORKER = ir.FunctionType(POINTER, [POINTER])
_JOB = ir.LiteralStructType([TASK.as_pointer(), POINTER, LONG, LONG])  # task, frame, chunks, the next one


def launch(builder: Any, task: Any, frame: Any, chunks: Any, threads: Any) -> None:
    """Run every chunk of a task, on up to so many threads, and wait for all."""
    builder.call(_launcher(builder.module), [task, frame, chunks, threads])


def _launcher(module: Any) -> Any:
    name = "symgraph.launch"
    if name in module.globals:
        return module.globals[name]
    kind = ir.FunctionType(ir.VoidType(), [TASK.as_pointer(), POINTER, LONG, LONG])
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    task, frame, chunks, threads = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    with builder.if_then(builder.icmp_signed("==", chunks, long(1))):
        builder.call(task, [frame, long(0)])
        builder.ret_void()
    job = builder.alloca(_JOB)
    for i, value in enumerate((task, frame, chunks, long(0))):
        builder.store(value, builder.gep(job, [ir.Constant(INT, 0), ir.Constant(INT, i)]))
    argument = builder.bitcast(job, POINTER)
    worker = _worker(module)
    if sys.platform == "win32":  # no POSIX threads
        builder.call(worker, [argument])
    else:
        _with_helpers(builder, worker, argument, chunks, threads)
    builder.ret_void()
    return function


def _with_helpers(builder: Any, worker: Any, job: Any, chunks: Any, threads: Any) -> None:
    """Start one thread less than wanted, work too, and wait; what cannot be started is done without."""
    create = intrinsic(
        builder.module, "pthread_create", INT, [LONG.as_pointer(), POINTER, _WORKER.as_pointer(), POINTER]
    )
    join = intrinsic(builder.module, "pthread_join", INT, [LONG, POINTER.as_pointer()])
    handles = builder.alloca(LONG, MOST_CHUNKS)
    started = builder.alloca(LONG)
    builder.store(long(0), started)
    limit = builder.select(builder.icmp_signed("<", chunks, threads), chunks, threads)
    nothing = ir.Constant(POINTER, None)
    start, check, done = (builder.append_basic_block(n) for n in ("start", "check", "started"))
    builder.branch(check)
    builder.position_at_end(check)
    count = builder.load(started)
    builder.cbranch(builder.icmp_signed("<", builder.add(count, long(1)), limit), start, done)
    builder.position_at_end(start)
    failed = builder.call(create, [builder.gep(handles, [count]), nothing, worker, job])
    builder.store(builder.add(count, long(1)), started)
    refused = builder.append_basic_block("refused")
    builder.cbranch(builder.icmp_signed("==", failed, ir.Constant(INT, 0)), check, refused)
    builder.position_at_end(refused)
    builder.store(count, started)
    builder.branch(done)
    builder.position_at_end(done)
    builder.call(worker, [job])
    wait, end = builder.append_basic_block("wait"), builder.append_basic_block("end")
    builder.branch(wait)
    builder.position_at_end(wait)
    left = builder.sub(builder.load(started), long(1))
    body = builder.append_basic_block("join")
    builder.cbranch(builder.icmp_signed(">=", left, long(0)), body, end)
    builder.position_at_end(body)
    builder.store(left, started)
    builder.call(join, [builder.load(builder.gep(handles, [left])), ir.Constant(POINTER.as_pointer(), None)])
    builder.branch(wait)
    builder.position_at_end(end)


def _worker(module: Any) -> Any:
    """Return the function that takes chunks as long as there are any."""
    function = ir.Function(module, _WORKER, "symgraph.work")
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    job = builder.bitcast(function.args[0], _JOB.as_pointer())
    task, frame, chunks, following = (builder.gep(job, [ir.Constant(INT, 0), ir.Constant(INT, i)]) for i in range(4))
    again, work, end = (builder.append_basic_block(n) for n in ("again", "work", "end"))
    builder.branch(again)
    builder.position_at_end(again)
    number = builder.atomic_rmw("add", following, long(1), "monotonic")
    builder.cbranch(builder.icmp_signed("<", number, builder.load(chunks)), work, end)
    builder.position_at_end(work)
    builder.call(builder.load(task), [builder.load(frame), number])
    builder.branch(again)
    builder.position_at_end(end)
    builder.ret(ir.Constant(POINTER, None))
    return function
