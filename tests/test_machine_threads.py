"""Threads of a call: every chunk of every loop runs once, whether they come at once, late, or cannot be started."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from symgraph.compile.machine.threads import POINTER, TASK, dismiss, launch, threads_of_call

LONG = ir.IntType(64)


def _task(module: Any, name: str) -> Any:
    """Return a task that counts in a row of numbers how often each chunk runs, and takes longer for the first ones."""
    if name in module.globals:
        return module.globals[name]
    task = ir.Function(module, TASK, name)
    builder = ir.IRBuilder(task.append_basic_block())
    frame, chunk = task.args
    place = builder.gep(builder.bitcast(frame, LONG.as_pointer()), [chunk])
    _be_busy(builder, builder.sdiv(ir.Constant(LONG, 20_000), builder.add(chunk, ir.Constant(LONG, 1))))
    builder.atomic_rmw("add", place, ir.Constant(LONG, 1), "monotonic")
    builder.ret_void()
    return task


def _be_busy(builder: Any, turns: Any) -> None:
    with cgutils.for_range(builder, turns):
        builder.fence("seq_cst")


@intrinsic
def run(typing_context: Any, counts: Any, chunks: Any, pauses: Any, threads: Any) -> Any:
    """Run loops of so many chunks one after the other on threads of one call, with pauses after each."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, sizes, gaps = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
        )
        crew = threads_of_call(builder, arguments[3])
        task = _task(builder.module, "counting_task")
        width = builder.extract_value(rows.shape, 1)
        with cgutils.for_range(builder, builder.extract_value(sizes.shape, 0)) as loop:
            row = builder.gep(rows.data, [builder.mul(loop.index, width)])
            size = builder.load(builder.gep(sizes.data, [loop.index]))
            much = builder.icmp_signed(">", size, ir.Constant(LONG, 3))  # short loops start no threads
            launch(builder, task, builder.bitcast(row, POINTER), size, crew, much)
            _be_busy(builder, builder.load(builder.gep(gaps.data, [loop.index])))
        dismiss(builder, crew)
        return context.get_dummy_value()

    return types.void(counts, chunks, pauses, threads), generate


@njit(nogil=True)
def loops(counts: Any, chunks: Any, pauses: Any, threads: Any) -> None:
    run(counts, chunks, pauses, threads)


def check(threads: int, seed: int = 0) -> None:
    """Run loops of few and many chunks, some at once after the one before and some when the threads have gone."""
    source = np.random.default_rng(seed)
    chunks = source.choice([1, 2, 3, 5, 16, 64], 60)
    pauses = source.choice([0, 0, 0, 1_000, 100_000], 60)
    counts = np.zeros((60, 64), np.int64)
    loops(counts, chunks, pauses, threads)
    np.testing.assert_array_equal(counts, np.arange(64) < chunks[:, None])


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 64, 1000])
def test_every_chunk_of_every_loop_runs_once(threads: int) -> None:
    for seed in range(5):
        check(threads, seed)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="this system does not tell its threads")
def test_no_thread_outlives_a_call() -> None:
    finished = _run("""
        import time
        from symgraph.compile.machine import threads

        threads._A_WHILE = 10**9  # a thread that nobody ends stays
        check(4)
        time.sleep(0.5)
        before = len(os.listdir("/proc/self/task"))
        for seed in range(20):
            check(4, seed)
            stop = time.monotonic() + 5  # Linux lists a thread for a moment after it is joined
            while len(os.listdir("/proc/self/task")) > before and time.monotonic() < stop:
                time.sleep(0.001)
            assert len(os.listdir("/proc/self/task")) == before, "a thread is left"
    """)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen here")
def test_one_processor_is_enough() -> None:
    finished = _run("""
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        for threads in (2, 5):
            check(threads)
    """)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there are no threads here")
@pytest.mark.parametrize("started", [0, 1, 2])
def test_what_cannot_be_started_is_done_without(started: int) -> None:
    finished = _run(f"""
        import ctypes, errno
        from llvmlite import binding
        kind = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)
        start = kind(("pthread_create", ctypes.CDLL(None)))
        asked = []

        @kind
        def some(*arguments):
            asked.append(None)
            return start(*arguments) if len(asked) <= {started} else errno.EAGAIN

        binding.add_symbol("pthread_create", ctypes.cast(some, ctypes.c_void_p).value)
        check(4)
        assert len(asked) > {started}, "no thread was refused"
    """)
    assert finished.returncode == 0, finished.stderr


def _run(text: str) -> subprocess.CompletedProcess[str]:
    """Run a program beside `check` in a process of its own."""
    here = os.path.dirname(os.path.abspath(__file__))
    program = f"import os, sys\nsys.path.insert(0, {here!r})\nfrom test_machine_threads import check\n"
    return subprocess.run(
        [sys.executable, "-c", program + textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
