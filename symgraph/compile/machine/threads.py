"""Loops on several threads: an outermost loop is a function of a chunk of its range, and threads take chunks in turn.

How many chunks there are depends on the sizes alone, and what the chunks add up is combined in their order: so results
are the same, bit for bit, for any number of threads.

The first loop of a call that is worth it starts threads. When it is done they wait for the next one, awake, since to
wake what sleeps takes as long as to start it; after a short while, or at the end of the call, they end, and the call
does not return before. So nothing is left behind that a fork could break, and callers share nothing that they could
quarrel about.

A loop is published by setting how many of its chunks are left. A thread takes one by counting down, and whoever finds
none left does not look at the rest of what is published: so nobody waits for those who come late.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from symgraph.compile.machine import memory
from symgraph.compile.machine.language import Number, counted, function, is_in_c_library
from symgraph.compile.machine.vectors import BIT, BYTE, INT, LONG, intrinsic, long

POINTER = BYTE.as_pointer()
TASK = ir.FunctionType(ir.VoidType(), [POINTER, LONG])
"""A chunk of a loop: ``(frame, number of the chunk)``."""

MOST_CHUNKS = 64
_HAVE_THREADS = sys.platform != "win32"  # POSIX threads, that is
_A_WHILE, _LONGER = 10_000, 20_000  # pauses, of which each takes up to 60 ns
_WORDS = 16  # 1024 processors, as many as C libraries count
_MASK, _MASK_SIZE = ir.ArrayType(LONG, _WORDS), long(8 * _WORDS)
_MAIN = ir.FunctionType(POINTER, [POINTER])
_LAUNCH = "symgraph.launch"
_COLD = ("noinline", "optsize")
_VOID = ir.VoidType()
_NULL = ir.Constant(POINTER, None)
_FIELDS: dict[str, Any] = {
    "count": LONG,  # how many threads may work, the caller included
    "started": LONG,  # how many have been started and are not joined
    "tired": LONG,  # how many of them have waited long enough and end
    "over": LONG,  # whether all shall end
    "avoided": INT,  # the processor that they leave to the caller
    "task": TASK.as_pointer(),
    "frame": POINTER,
    "chunks": LONG,
    "left": LONG,  # chunks that nobody has taken; less than none after those who found none
    "unfinished": LONG,  # chunks that are not done
    "handles": ir.ArrayType(LONG, MOST_CHUNKS),
}
_CREW = ir.LiteralStructType(list(_FIELDS.values()))


def threads_of_call(builder: Any, count: Any) -> Any:
    """Return the address of what a call knows about its threads, of which there may be so many; none is started."""
    crew = builder.bitcast(memory.stack(builder, _CREW), POINTER)
    builder.store(count, _field(builder, crew, "count"))
    for name in ("started", "tired", "over", "left"):
        builder.store(long(0), _field(builder, crew, name))
    return crew


def count_of(builder: Any, threads: Any) -> Any:
    """Return how many threads a call may use, the caller included."""
    return builder.load(_field(builder, threads, "count"))


def launch(builder: Any, task: Any, frame: Any, chunks: Any, threads: Any, much: Any = None) -> None:
    """Run every chunk of a task on the threads of a call, and wait for all.

    Args:
        builder: Where to write it.
        task: The function of a chunk.
        frame: What it is told besides the number of the chunk.
        chunks: How many there are.
        threads: The threads of the call.
        much: Whether to start threads for it, and not only to use those that there are; always where None.
    """
    kinds = [POINTER, TASK.as_pointer(), POINTER, LONG, BIT]
    made = function(builder.module, _LAUNCH, _VOID, kinds, _write_launch, attributes=("noinline",))
    builder.call(made, [threads, task, frame, chunks, ir.Constant(BIT, 1) if much is None else much])


def dismiss(builder: Any, threads: Any) -> None:
    """End the threads of a call, and wait until they have ended."""
    if _HAVE_THREADS and _LAUNCH in builder.module.globals:
        with builder.if_then(_is(builder, ">", _load(builder, threads, "started"), 0), likely=False):
            _end_all(builder, threads)


def _field(builder: Any, crew: Any, name: str) -> Any:
    typed = builder.bitcast(crew, _CREW.as_pointer())
    return builder.gep(typed, [ir.Constant(INT, 0), ir.Constant(INT, list(_FIELDS).index(name))])


def _load(builder: Any, crew: Any, name: str) -> Any:
    return builder.load_atomic(_field(builder, crew, name), "acquire", 8)


def _store(builder: Any, crew: Any, name: str, value: Any) -> None:
    builder.store_atomic(value, _field(builder, crew, name), "release", 8)


def _is(builder: Any, relation: str, x: Any, y: int) -> Any:
    return builder.icmp_signed(relation, x, ir.Constant(x.type, y))


def _write_launch(builder: Any, crew: Any, task: Any, frame: Any, chunks: Number, much: Any) -> None:
    # There are handles for so many, however many processors and pieces there are.
    threads = chunks.at_most(Number(builder, builder.load(_field(builder, crew, "count")))).at_most(MOST_CHUNKS)
    none_there = _is(builder, "==", builder.load(_field(builder, crew, "started")), 0)
    alone = builder.or_(threads < 2, builder.and_(none_there, builder.not_(much)))
    with builder.if_then(alone if _HAVE_THREADS else ir.Constant(BIT, 1)):
        with counted(builder, chunks) as chunk:
            builder.call(task, [frame, chunk.index.value])
        builder.ret_void()
    if _HAVE_THREADS:
        _write_shared(builder, crew, task, frame, chunks, threads, much)
    else:
        builder.unreachable()


def _write_shared(builder: Any, crew: Any, task: Any, frame: Any, chunks: Number, threads: Number, much: Any) -> None:
    """Publish a loop, start the threads that are missing, work too, and wait."""
    useless = _is(builder, ">", _load(builder, crew, "tired"), 0)
    if _can_choose_processors():  # the scheduler may have moved the caller to where another works
        moved = builder.icmp_signed("!=", _processor(builder), builder.load(_field(builder, crew, "avoided")))
        useless = builder.or_(useless, builder.and_(moved, _is(builder, ">", _load(builder, crew, "started"), 0)))
    with builder.if_then(useless, likely=False):
        _end_all(builder, crew)
    for name, value in (("task", task), ("frame", frame), ("chunks", chunks.value), ("unfinished", chunks.value)):
        builder.store(value, _field(builder, crew, name))
    _store(builder, crew, "left", chunks.value)
    missing = (threads - 1) > Number(builder, builder.load(_field(builder, crew, "started")))
    with builder.if_then(builder.and_(missing, much)):
        made = function(builder.module, "symgraph.start", _VOID, [POINTER, LONG], _write_start, attributes=_COLD)
        builder.call(made, [crew, (threads - 1).value])
    builder.call(_work(builder.module), [crew])
    with _while_waiting(builder, _LONGER), builder.if_then(_is(builder, "==", _load(builder, crew, "unfinished"), 0)):
        builder.ret_void()
    _end_all(builder, crew)
    builder.ret_void()


def _work(module: Any) -> Any:
    """Return the function that takes chunks as long as there are any."""

    def write(builder: Any, crew: Any) -> None:
        again = builder.append_basic_block("again")
        builder.branch(again)
        builder.position_at_end(again)
        left = builder.atomic_rmw("sub", _field(builder, crew, "left"), long(1), "acquire")
        with builder.if_then(_is(builder, "<=", left, 0)):
            builder.ret_void()
        task, frame, chunks = (builder.load(_field(builder, crew, name)) for name in ("task", "frame", "chunks"))
        builder.call(task, [frame, builder.sub(chunks, left)])
        builder.atomic_rmw("sub", _field(builder, crew, "unfinished"), long(1), "release")
        builder.branch(again)

    return function(module, "symgraph.work", _VOID, [POINTER], write, attributes=("noinline",))


def _helper(module: Any) -> Any:
    """Return the function of a thread: to work until it shall end, or has had nothing to do for a while."""

    def write(builder: Any, crew: Any) -> None:
        again = builder.append_basic_block("again")
        builder.branch(again)
        builder.position_at_end(again)
        with _while_waiting(builder, _A_WHILE):
            with builder.if_then(_is(builder, "!=", _load(builder, crew, "over"), 0)):
                builder.ret(_NULL)
            with builder.if_then(_is(builder, ">", _load(builder, crew, "left"), 0)):
                builder.call(_work(module), [crew])
                builder.branch(again)
        builder.atomic_rmw("add", _field(builder, crew, "tired"), long(1), "seq_cst")
        builder.call(_work(module), [crew])  # what has been published meanwhile
        builder.ret(_NULL)

    return function(module, "symgraph.help", POINTER, [POINTER], write)


def _write_start(builder: Any, crew: Any, wanted: Number) -> None:
    """Start threads up to a number; what cannot be started is done without, now and later."""
    create = intrinsic(builder.module, "pthread_create", INT, [LONG.as_pointer(), POINTER, _MAIN.as_pointer(), POINTER])
    place = _field(builder, crew, "started")
    attributes = _elsewhere(builder, crew) if _can_choose_processors() else _NULL
    with counted(builder, wanted, start=Number(builder, builder.load(place))) as one:
        handle = builder.gep(_field(builder, crew, "handles"), [long(0), one.index.value])
        failed = builder.call(create, [handle, attributes, _helper(builder.module), crew])
        with builder.if_then(_is(builder, "!=", failed, 0)):
            builder.store((one.index + 1).value, _field(builder, crew, "count"))
            one.leave()
        builder.store((one.index + 1).value, place)
    if _can_choose_processors():
        _call(builder, "pthread_attr_destroy", attributes)
    builder.ret_void()


def _end_all(builder: Any, crew: Any) -> None:
    """End the threads that have been started, after what they are working on."""
    made = function(builder.module, "symgraph.end", _VOID, [POINTER], _write_end, attributes=_COLD)
    builder.call(made, [crew])


def _write_end(builder: Any, crew: Any) -> None:
    _store(builder, crew, "over", long(1))
    nowhere = ir.Constant(POINTER.as_pointer(), None)
    kinds = [LONG, POINTER.as_pointer()]
    with counted(builder, Number(builder, _load(builder, crew, "started"))) as one:
        handle = builder.load(builder.gep(_field(builder, crew, "handles"), [long(0), one.index.value]))
        joined = builder.append_basic_block("joined")
        if is_in_c_library("pthread_tryjoin_np"):
            attempt = intrinsic(builder.module, "pthread_tryjoin_np", INT, kinds)
            with (
                _while_waiting(builder, _LONGER),
                builder.if_then(_is(builder, "==", builder.call(attempt, [handle, nowhere]), 0)),
            ):
                builder.branch(joined)
        builder.call(intrinsic(builder.module, "pthread_join", INT, kinds), [handle, nowhere])
        builder.branch(joined)
        builder.position_at_end(joined)
    for name in ("started", "tired", "over"):
        _store(builder, crew, name, long(0))
    builder.ret_void()


@contextmanager
def _while_waiting(builder: Any, pauses: int) -> Iterator[None]:
    """Write a loop that waits; the block within looks, and leaves when there is something to see."""
    with counted(builder, Number(builder, long(pauses))):
        yield
        _pause(builder)


def _pause(builder: Any) -> None:
    """Tell the processor that this is a loop that waits, where it can be told."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        builder.call(intrinsic(builder.module, "llvm.x86.sse2.pause", _VOID, []), [])
    elif machine in ("aarch64", "arm64"):
        builder.call(intrinsic(builder.module, "llvm.aarch64.hint", _VOID, [INT]), [ir.Constant(INT, 1)])


def _call(builder: Any, name: str, *addresses: Any) -> None:
    """Call a function of the C library that takes addresses only, and cannot fail as it is used here."""
    builder.call(intrinsic(builder.module, name, INT, [POINTER] * len(addresses)), addresses)


def _can_choose_processors() -> bool:
    """Tell whether the C library lets new threads begin on certain processors."""
    return is_in_c_library("pthread_attr_setaffinity_np")


def _processor(builder: Any) -> Any:
    return builder.call(intrinsic(builder.module, "sched_getcpu", INT, []), [])


def _elsewhere(builder: Any, crew: Any) -> Any:
    """Return attributes of new threads by which they run on any of the process's processors but the caller's.

    Linux may begin a thread on the processor of the one that starts it, which works on itself: until the scheduler
    looks again, some milliseconds later, both share it.
    """
    module = builder.module
    mask, attributes = builder.alloca(_MASK), builder.bitcast(builder.alloca(_MASK), POINTER)
    untyped_mask = builder.bitcast(mask, POINTER)
    builder.store(ir.Constant(_MASK, None), mask)
    _call(builder, "pthread_attr_init", attributes)
    builder.call(
        intrinsic(module, "sched_getaffinity", INT, [INT, LONG, POINTER]),
        [ir.Constant(INT, 0), _MASK_SIZE, untyped_mask],
    )
    processor = _processor(builder)
    builder.store(processor, _field(builder, crew, "avoided"))
    here = builder.zext(processor, LONG)
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
        choose = intrinsic(module, "pthread_attr_setaffinity_np", INT, kind)
        builder.call(choose, [attributes, _MASK_SIZE, untyped_mask])
    return attributes
