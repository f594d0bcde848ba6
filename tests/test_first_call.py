"""The first call: machine code is made and called without Numba, and beside whatever Numba is used for."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.compile.machine import blas

DECLARED = """
import sys
import numpy as np
import symgraph as sg

with sg.Graph():
    x = sg.placeholder("x", ("n", "n"))
value = sg.sum(sg.exp(x)) + sg.slogdet(x @ x.T)[1] + sg.sum(sg.digamma(sg.floor_divide(x, 0.3) + 20.0))
given = np.eye(3) + np.arange(9.0).reshape(3, 3) / 10
expected = sg.evaluate([value, sg.grad(value, x)], {x: given})

def check():
    function = sg.function([x], [value, sg.grad(value, x)])
    for _ in range(2):
        for got, right in zip(function(given), expected):
            np.testing.assert_allclose(got, right, rtol=1e-12)
"""
OWN = """
import numba

@numba.njit
def double(a):
    return 2 * np.sqrt(a).sum()

def check_numba():
    assert double(np.full(3, 4.0)) == 12.0
"""
CUSTOM = """
import math

def ramp(a):
    return math.exp(a) if a > 0 else 0.0

with sg.Graph():
    y = sg.placeholder("y", ("n",))
operation = sg.custom_op("ramp", ramp, derivative=[lambda g, out, a: g * out], elementwise=True)
custom = operation(sg.sigmoid(y))

def check_custom():
    data = np.array([-1.0, 2.0])
    np.testing.assert_allclose(sg.function([y], custom)(data), np.exp(1 / (1 + np.exp(-data))), rtol=1e-14)
"""


def run(folder: Path, *parts: str) -> list[str]:
    """Run a script in a fresh process, compiled code in a folder, and return what it prints."""
    script = "\n".join(textwrap.dedent(part) for part in parts)
    environment = os.environ | {"SYMGRAPH_CACHE_DIR": str(folder), "PYTHONPATH": str(Path(sg.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_first_call_does_without_numba_with_and_without_a_program_on_disk(tmp_path: Path) -> None:
    for _ in ("empty cache", "warm cache"):
        loaded = run(tmp_path, DECLARED, "check()", "print('numba' in sys.modules)")
        assert loaded == ["False"]
    (path,) = tmp_path.iterdir()
    assert blas.needed_by(path.read_bytes())
    assert not blas.needed_by(b"other code")


@pytest.mark.parametrize(
    "calls",
    ["check_numba() check() check_custom()", "check_custom() check() check_numba()", "check() check_custom() check()"],
)
def test_numba_and_users_own_functions_go_on_beside_it_in_any_order(calls: str, tmp_path: Path) -> None:
    for _ in ("empty cache", "warm cache"):
        run(tmp_path, DECLARED, OWN, CUSTOM, *calls.split(), *calls.split())


def scalar_function(*dtypes: str) -> Any:
    with sg.Graph():
        inputs = [sg.placeholder(f"x{i}", (), dtype) for i, dtype in enumerate(dtypes)]
    same = [sg.where(sg.equal(x, x), x, x) for x in inputs]
    return sg.function(inputs, same, options=sg.Options(cache=False))


def test_numbers_of_every_dtype_go_in_and_out_unchanged() -> None:
    integers = [np.dtype(f"{sign}int{8 * size}") for sign in ("", "u") for size in (1, 2, 4, 8)]
    values = [limit for dtype in integers for limit in (np.iinfo(dtype.type).min, np.iinfo(dtype.type).max)]  # type: ignore[type-var]
    dtypes = [dtype for dtype in integers for _ in range(2)]
    given = [dtype.type(value) for dtype, value in zip(dtypes, values, strict=True)]
    given += [np.float64(0.1), np.float32(0.1), np.float64("inf"), np.float32("-inf"), np.bool_(True), np.bool_(False)]
    function = scalar_function(*(value.dtype.name for value in given))
    for _ in range(3):
        results = function(*given)
        assert [type(result) for result in results] == [type(value) for value in given]
        assert results == given


def test_a_call_leaves_no_references_behind() -> None:
    with sg.Graph():
        x, i = sg.placeholder("x", ("n",)), sg.placeholder("i", ("m",), "int64")
    function = sg.function([x, i], [sg.sum(x), sg.sum(sg.take(x, i)), x * 2.0], options=sg.Options(cache=False))
    values, inside, outside = np.linspace(1, 2, 5), np.array([4]), np.array([5])
    function(values, inside)
    before = [sys.getrefcount(each) for each in (values, inside, outside, None)]
    for _ in range(100):
        results = function(values, inside)
        with pytest.raises(IndexError, match="index 5 is out of bounds for an axis of size 5"):
            function(values, outside)
    number, other, array = results
    del results
    known = object()
    assert len({sys.getrefcount(each) for each in (number, other, array, known)}) == 1
    after = [sys.getrefcount(each) for each in (values, inside, outside, None)]
    assert max(b - a for a, b in zip(before, after, strict=True)) < 20


def test_parts_of_arrays_are_read_where_they_begin() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    function = sg.function([x], x + 1.0, options=sg.Options(cache=False))
    whole = np.arange(10.0)
    for start in range(10):
        np.testing.assert_array_equal(function(whole[start:]), whole[start:] + 1)


def test_programs_are_compiled_for_the_first_time_on_many_threads_at_once(tmp_path: Path) -> None:
    def declare(number: int) -> Any:
        with sg.Graph():
            x = sg.placeholder("x", ("n",))
        return sg.function([x], sg.sum(sg.exp(x) * float(number)), options=sg.Options(cache_dir=str(tmp_path)))

    functions = [declare(number // 2) for number in range(8)]
    barrier, results = threading.Barrier(8), [0.0] * 8

    def call(number: int) -> None:
        barrier.wait()
        results[number] = functions[number](np.zeros(50))

    threads = [threading.Thread(target=call, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [50.0 * (number // 2) for number in range(8)]
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_calls_and_compiles(tmp_path: Path) -> None:
    child = """
    check()
    process = os.fork()
    if not process:
        check()
        other = sg.function([x], sg.sum(sg.log(x + 1.0)))
        np.testing.assert_allclose(other(given), np.log(given + 1).sum(), rtol=1e-14)
        print("child", flush=True)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0
    """
    assert run(tmp_path, "import os", DECLARED, child) == ["child"]
