"""Machine code reads nothing beside its arrays, and no program is taken for another."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg

Array = np.ndarray[Any, Any]


def after_forbidden_memory(values: Sequence[float]) -> Array:
    """Return an array that begins where a page begins, behind one that must not be read."""
    area = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, 0) == 0
    array = np.frombuffer(area, np.float64, len(values), mmap.PAGESIZE)
    array[:] = values
    return array


def joined(x: Any, y: Any) -> Any:
    return sg.concat([x, y]) * 2.0


def joined_and_summed(x: Any, y: Any) -> Any:
    return sg.sum(sg.concat([x, y]) * x[0])


def broadcast_and_padded(x: Any, y: Any) -> Any:
    return sg.pad(sg.broadcast_to(sg.expand_dims(y, 1), (y.shape[0], 24)), ((40, 0), (1, 1))) * 2.0


def gradient_of_a_part(x: Any, y: Any) -> Any:
    spread = sg.broadcast_to(sg.expand_dims(y, 1), (y.shape[0], 24))
    return sg.grad(sg.sum(spread[1:, 2:-1] ** 3), y)


@pytest.mark.skipif(sys.platform == "win32", reason="pages are protected by mprotect")
@pytest.mark.parametrize("formula", [joined, joined_and_summed, broadcast_and_padded, gradient_of_a_part])
@pytest.mark.parametrize("size", [1, 21, 70])
def test_what_a_condition_excludes_is_not_read(formula: Callable[[Any, Any], Any], size: int) -> None:
    with sg.Graph():
        x, y = sg.placeholder("x", ("m",)), sg.placeholder("y", ("n",))
    expression = formula(x, y)
    first, second = np.linspace(1, 2, size), after_forbidden_memory(np.linspace(3, 4, 6).tolist())
    found = sg.function([x, y], expression)(first, second)
    np.testing.assert_allclose(found, sg.evaluate(expression, {x: first, y: second}), rtol=1e-14)


def declared(dtype: str, shape: tuple[str, ...], options: sg.Options) -> Any:
    with sg.Graph():
        x, y = sg.placeholder("x", shape, dtype), sg.placeholder("y", shape, dtype)
    return sg.function([x, y], sg.all(x > y) if shape else x * y, options=options)


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32")])
def test_programs_that_differ_in_dtypes_alone_are_two(dtypes: tuple[str, str], tmp_path: Path) -> None:
    for options in (sg.Options(cache=False), sg.Options(cache_dir=str(tmp_path))):
        for dtype in dtypes:
            kind = np.dtype(dtype).type
            product = declared(dtype, (), options)(kind(1.1), kind(1.1))
            assert type(product) is kind
            assert product == kind(1.1) * kind(1.1)
            below = np.arange(100, dtype=dtype)
            assert declared(dtype, ("n",), options)(below + kind(1), below)
            assert not declared(dtype, ("n",), options)(below, below + kind(1))


def test_what_asks_for_memory_in_time_serves_all_kinds_of_numbers() -> None:
    """Rows of the next block, and tiles of float64 and of float32, are asked for in one program."""
    with sg.Graph():
        X, w, y = sg.placeholder("X", ("n", "d")), sg.placeholder("w", ("d",)), sg.placeholder("y", ("n",))
        A, B = (sg.placeholder(name, ("k", "k"), dtype) for name, dtype in [("A", "float64"), ("B", "float32")])
    z = X @ w
    slope = sg.grad(sg.sum(sg.softplus(z) - y * z), w)
    function = sg.function([X, w, y, A, B], [slope, A @ A, B @ B], options=sg.Options(cache=False))
    rows, square = np.full((70, 3), 0.5), np.full((80, 80), 0.5)
    slopes, *products = function(rows, np.zeros(3), np.ones(70), square, square.astype(np.float32))
    np.testing.assert_allclose(slopes, np.full(3, -17.5))
    for product, dtype in zip(products, (np.float64, np.float32), strict=True):
        np.testing.assert_array_equal(product, np.full((80, 80), 20, dtype))
