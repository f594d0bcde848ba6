"""The planned memory: formulas by names of sizes, the fullest moment, and what a process really takes."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import symgraph as sg
from symgraph.compile.loops import (
    Accumulate,
    Affine,
    Allocate,
    Axis,
    Buffer,
    Fill,
    Free,
    Literal,
    Load,
    Loop,
    Program,
    View,
)
from symgraph.compile.machine.threads import MOST_CHUNKS
from symgraph.compile.memory import plan_memory
from symgraph.dims import dim

DOUBLE = np.dtype("float64")


@pytest.fixture
def graph():
    with sg.Graph() as graph:
        yield graph


def scratch(name, *shape, dtype=DOUBLE):
    return Buffer(name, np.dtype(dtype), tuple(dim(size) for size in shape), "scratch")


def program(*body, arguments=(), results=(), constants=()):
    return Program("f", tuple(arguments), ("n",), tuple(constants), tuple(body), tuple(results))


def loop(*body):
    return Loop(Axis("i", dim("n")), body)


def test_what_is_freed_makes_room_for_what_follows():
    a, b, c = scratch("a", "n"), scratch("b", 2, "n"), scratch("c", 10)
    memory = plan_memory(program(Allocate(a), Free(a), Allocate(b), Allocate(c), Free(b), Free(c)), 1)
    assert memory.scratch.formula == memory.peak.formula == "16*n+80"
    assert memory.at({"n": 3}).peak.bytes == 16 * 3 + 80


def test_the_fullest_moment_may_depend_on_sizes():
    a, b = scratch("a", "n"), scratch("b", "m")
    memory = plan_memory(program(Allocate(a), Free(a), Allocate(b), Free(b)), 1)
    assert memory.scratch.formula == "max(8*n, 8*m)"
    assert memory.at({"n": 5, "m": 2}).scratch.bytes == 40
    assert memory.at({"n": 1, "m": 2}).scratch.bytes == 16


def test_scratch_inside_a_loop_is_each_threads_own():
    shared, outer, inner = scratch("s", "n", dtype="float32"), scratch("o", 3), scratch("i", "d")
    body = Allocate(shared), loop(Allocate(outer), loop(Allocate(inner)), Free(outer)), loop(Allocate(outer))
    memory = plan_memory(program(*body), 4).at({"n": 10, "d": 2})
    assert (memory.scratch.bytes, memory.scratch_per_thread.bytes) == (40, 24 + 16)
    assert memory.peak.bytes == 40 + 4 * (24 + 16)
    assert memory.peak.formula == "32*d+4*n+96"


def test_shared_and_own_scratch_need_not_be_fullest_together():
    large, small = scratch("large", 100), scratch("small", 10)
    memory = plan_memory(program(Allocate(large), Free(large), loop(Allocate(small), Free(small))), 2)
    assert (memory.scratch.formula, memory.scratch_per_thread.formula, memory.peak.formula) == ("800", "80", "800")


def accumulating(size, how="sum"):
    total, axis = scratch("total", size), Axis("i", dim("n"))
    element = Load(total, (Affine(Axis("k", 1)),))
    return Allocate(total), Loop(axis, (Accumulate(element, how, Literal(1.0, DOUBLE)),))


def test_each_chunk_of_a_loop_but_the_first_adds_to_a_copy_of_its_own():
    memory = plan_memory(program(*accumulating("d")), 2)
    assert memory.accumulators.formula == "504*d"
    assert memory.peak.formula == "512*d"
    assert memory.at({"n": 1000, "d": 3}).accumulators.bytes == 0
    assert memory.at({"n": 10**12, "d": 3}).accumulators.bytes == (MOST_CHUNKS - 1) * 24
    some = memory.at({"n": 10**6, "d": 3})
    assert some.accumulators.bytes % 24 == 0
    assert 24 <= some.accumulators.bytes < (MOST_CHUNKS - 1) * 24
    assert some.peak.bytes == some.accumulators.bytes + 24
    assert memory.at({"n": 10**6, "d": 10**7}).accumulators.bytes == 0
    assert plan_memory(program(*accumulating("d", "set")), 2).accumulators.formula == "0"


def test_a_loop_that_begins_behind_its_end_copies_nothing():
    total, axis = scratch("total", 2), Axis("i", dim("n"), start=1)
    element = Load(total, (Affine(Axis("k", 1)),))
    body = Allocate(total), Loop(axis, (Accumulate(element, "sum", Literal(1.0, DOUBLE)),))
    assert plan_memory(program(*body), 2).at({"n": 0}).accumulators.bytes == 0


def test_scratch_that_no_statement_allocates_lives_all_the_time():
    a, b, seen = scratch("a", "n"), scratch("b", "n"), scratch("v", 1, "n")
    result = Buffer("y", DOUBLE, (dim("n"),), "result")
    table = Buffer("t", DOUBLE, (5,), "argument")
    x = Buffer("x", np.dtype("bool"), (dim("n"),), "argument")
    body = Fill(a, "sum"), Fill(b, "sum"), View(seen, a), Fill(result, "sum")
    made = program(*body, arguments=[x, table], constants=[(table, np.ones(5))], results=[result])
    memory = plan_memory(made, 1)
    shown = [memory.inputs, memory.constants, memory.results, memory.scratch, memory.scratch_per_thread, memory.peak]
    assert [amount.formula for amount in shown] == ["n", "40", "8*n", "16*n", "0", "24*n"]
    assert memory.accumulators.formula == "0"


def test_a_function_tells_its_memory_by_sizes_and_by_arguments(graph):
    x, w = sg.placeholder("X", ("n", "d")), sg.placeholder("w", ("d",), "float32")
    f = sg.function([x, {"w": w}], [x * sg.astype(w, "float64"), sg.sum(x)], options=sg.Options(threads=1))
    formulas = f.memory()
    assert formulas.inputs.formula == "8*d*n+4*d"
    assert formulas.results.formula == "8*d*n+8"
    assert formulas.peak.bytes is None
    known = f.memory(n=10, d=3)
    assert (known.inputs.bytes, known.results.bytes) == (252, 248)
    assert f.memory(np.ones((10, 3)), {"w": np.ones(3, "float32")}) == known
    assert str(formulas).splitlines()[0].split() == ["memory", "in", "bytes", "at", "most"]
    assert "8*d*n+4*d" in repr(known)
    assert "252" in repr(known)


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ({"n": 3}, sg.ArgumentError, r"^loss.memory: missing size d \(the sizes are d, n\)$"),
        ({"n": 3, "d": 2, "k": 1, "j": 2}, sg.ArgumentError, r"unknown sizes j, k \(the sizes are d, n\)$"),
        ({"n": 3.0, "d": 2}, sg.ArgumentError, "the size n is an integer, not 3.0"),
        ({"n": -1, "d": 2}, sg.SizeError, "the size n is negative: -1"),
        ({"n": 0, "d": 2}, sg.SizeError, "n = 0"),
    ],
)
def test_wrong_sizes_are_one_clear_error(graph, sizes, error, message):
    x = sg.placeholder("x", ("n", "d"))
    f = sg.function([x], sg.sum(x[1:], axis=0), name="loss")
    with pytest.raises(error, match=message):
        f.memory(**sizes)


def test_memory_is_asked_for_by_sizes_or_by_arguments_and_of_compiled_functions(graph):
    x = sg.placeholder("x", ("n",))
    f = sg.function([x], sg.sum(x))
    with pytest.raises(sg.ArgumentError, match="arguments or sizes, not both"):
        f.memory(np.ones(3), n=3)
    with pytest.raises(sg.SizeError, match="expected 1 axis"):
        f.memory(np.ones((3, 3)))
    with pytest.raises(sg.CallError, match="compiled functions only"):
        sg.function([x], sg.sum(x), backend="numpy").memory(n=3)
    with pytest.raises(sg.ArgumentError, match="no size has a name"):
        sg.function([], sg.constant(1.0)).memory(n=3)


MEASURED = """
import re
import numpy as np
import symgraph as sg

def memory(field):
    return int(re.search(rf"{field}:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

n = 4000
with sg.Graph():
    a, b = sg.placeholder("a", ("n", "k")), sg.placeholder("b", ("k", "n"))
product = a @ b
f = sg.function([a, b], [product / sg.sum(product, axis=0), sg.max(product)], options=sg.Options(threads=1))
f(np.ones((2, 3)), np.ones((3, 2)))
values = np.ones((n, 3)), np.ones((3, n))
before = memory("VmRSS")
results = f(*values)
print(memory("VmHWM") - before, f.memory(*values).peak.bytes)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux")
def test_the_plan_is_what_a_process_takes():
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    measured, planned = map(int, done.stdout.split())
    assert planned >= 8 * 4000 * 4000
    assert measured == pytest.approx(planned, abs=8e6)


PAGES = """
import resource
import numpy as np
import symgraph as sg

with sg.Graph():
    x, w = sg.placeholder("x", (400, 400)), sg.placeholder("w", (400, 400))
product = x
for _ in range(6):
    product = sg.relu(product @ w + 1.0)
f = sg.function([x, w], [product, *sg.gradients(sg.sum(product), [x, w])], options=sg.Options(cache=False))
values = np.zeros((400, 400)), np.zeros((400, 400))
for _ in range(5):
    f(*values)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    f(*values)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


PAGES_OF_RESULTS = """
import resource
import numpy as np
import symgraph as sg

with sg.Graph():
    x = sg.placeholder("x", ("n",))
f = sg.function([x], [x + i for i in range(4)], options=sg.Options(cache=False))
values = np.zeros(900_000)
for _ in range(5):
    results = f(values)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    results = f(values)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library decides otherwise what it keeps")
@pytest.mark.parametrize("program", [PAGES, PAGES_OF_RESULTS], ids=["scratch", "results"])
def test_pages_are_kept_from_call_to_call(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 500, "of the thousands of pages that the calls use"
