"""Loops on several threads: an outermost loop is a function of a chunk of its range, and threads take chunks in turn.

How many chunks there are depends on the sizes alone, and what the chunks add up is combined in their order: so results
are the same, bit for bit, for any number of threads. The threads live for one loop. That costs about as much as waking
sleeping ones, and leaves nothing behind that a fork could break or that two callers could quarrel about.
"""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import binding, ir

from symgraph.compile.machine.vectors import BYTE, INT, LONG, intrinsic, long

POINTER = BYTE.as_pointer()
TASK = ir.FunctionType(ir.VoidType(), [POINTER, LONG])
"""A chunk of a loop: ``(frame, number of the chunk)``."""

MOST_CHUNKS = 64
_WORDS = 16  # 1024 processors, as many as C libraries count
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
    taken = [LONG.as_pointer(), POINTER, _WORKER.as_pointer(), POINTER]
    create = intrinsic(builder.module, "pthread_create", INT, taken)
    join = intrinsic(builder.module, "pthread_join", INT, [LONG, POINTER.as_pointer()])
    handles = builder.alloca(LONG, MOST_CHUNKS)
    started = builder.alloca(LONG)
    builder.store(long(0), started)
    limit = builder.select(builder.icmp_signed("<", chunks, threads), chunks, threads)
    with builder.if_then(builder.icmp_signed("<", limit, long(2))):
        builder.call(worker, [job])
        builder.ret_void()
    chooses = _can_choose_processors()
    attributes = _elsewhere(builder) if chooses else ir.Constant(POINTER, None)
    start, check, done = (builder.append_basic_block(n) for n in ("start", "check", "started"))
    builder.branch(check)
    builder.position_at_end(check)
    count = builder.load(started)
    builder.cbranch(builder.icmp_signed("<", builder.add(count, long(1)), limit), start, done)
    builder.position_at_end(start)
    failed = builder.call(create, [builder.gep(handles, [count]), attributes, worker, job])
    builder.store(builder.add(count, long(1)), started)
    refused = builder.append_basic_block("refused")
    builder.cbranch(builder.icmp_signed("==", failed, ir.Constant(INT, 0)), check, refused)
    builder.position_at_end(refused)
    builder.store(count, started)
    builder.branch(done)
    builder.position_at_end(done)
    if chooses:
        builder.call(intrinsic(builder.module, "pthread_attr_destroy", INT, [POINTER]), [attributes])
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


def _can_choose_processors() -> bool:
    """Tell whether the C library lets new threads begin on certain processors."""
    return sys.platform == "linux" and binding.address_of_symbol("pthread_attr_setaffinity_np") is not None


def _elsewhere(builder: Any) -> Any:
    """Return attributes of new threads by which they run on any of the process's processors but the caller's.

    Linux may begin a thread on the processor of the one that starts it, which works on itself: until the scheduler
    looks again, some milliseconds later, both share it.
    """
    module = builder.module
    mask, attributes = builder.alloca(ir.ArrayType(LONG, _WORDS)), builder.alloca(ir.ArrayType(LONG, _WORDS))
    untyped_mask, untyped = builder.bitcast(mask, POINTER), builder.bitcast(attributes, POINTER)
    builder.store(ir.Constant(mask.type.pointee, None), mask)
    size = long(8 * _WORDS)
    builder.call(intrinsic(module, "pthread_attr_init", INT, [POINTER]), [untyped])
    builder.call(
        intrinsic(module, "sched_getaffinity", INT, [INT, LONG, POINTER]), [ir.Constant(INT, 0), size, untyped_mask]
    )
    here = builder.zext(builder.call(intrinsic(module, "sched_getcpu", INT, []), []), LONG)
    known = builder.icmp_unsigned("<", here, long(64 * _WORDS))
    here = builder.select(known, here, long(0))
    word = builder.gep(mask, [long(0), builder.lshr(here, long(6))])
    bit = builder.shl(long(1), builder.and_(here, long(63)))
    builder.store(builder.and_(builder.load(word), builder.not_(builder.select(known, bit, long(0)))), word)
    others: Any = long(0)
    for i in range(_WORDS):
        others = builder.or_(others, builder.load(builder.gep(mask, [long(0), long(i)])))
    with builder.if_then(builder.icmp_unsigned("!=", others, long(0))):
        kind = [POINTER, LONG, POINTER]
        builder.call(intrinsic(module, "pthread_attr_setaffinity_np", INT, kind), [untyped, size, untyped_mask])
    return untyped


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
