"""Library calls written as machine code give NumPy's results and NumPy's errors, for sizes from 0 on."""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numba.np.numpy_support import as_dtype

from symgraph.compile.machine import blas, factors, library, memory, products, tiles, vectors
from symgraph.compile.machine.threads import dismiss, threads_of_call
from symgraph.compile.machine.vectors import INT, LONG
from symgraph.ops.reference import cholesky_pullback

RANDOM = np.random.default_rng(5)
SIZES = [0, 1, 2, 5, 70]
FLOATS = ["float64", "float32"]
TOLERANCE = {"float64": 1e-11, "float32": 2e-4}


def sizes_of(builder, array):
    return cgutils.unpack_tuple(builder, array.shape)


def compiled(write):
    """Compile a function of a result and operands, the body of which is written as LLVM."""

    @intrinsic
    def body(typing_context, result, operands):
        def generate(context, builder, signature, arguments):
            arrays = [make_array(signature.args[0])(context, builder, arguments[0])]
            for kind, value in zip(signature.args[1].types, cgutils.unpack_tuple(builder, arguments[1]), strict=True):
                arrays.append(make_array(kind)(context, builder, value))
            status = write(builder, as_dtype(signature.args[1].types[0].dtype), *arrays)
            return ir.Constant(ir.IntType(32), 0) if status is None else status

        return types.int32(result, operands), generate

    @njit(nogil=True)
    def run(result, operands):
        return body(result, operands)

    return run


@functools.cache
def program(name, attributes, transposed):
    def write(builder, dtype, result, *operands):
        return library.emit_call(
            builder, name, dtype, result.data, [o.data for o in operands],
            [sizes_of(builder, o) for o in operands], transposed, attributes,
        )  # fmt: skip

    return compiled(write)


def call(name, expected, *operands, attributes=(), transposed=(False, False)):
    """Return a result of the expected one's shape and type."""
    result = np.full(np.shape(expected), 77, np.asarray(expected).dtype)
    before = [o.copy() for o in operands]
    status = program(name, attributes, transposed)(result, operands)
    if status:
        error, message = library.ERRORS[status]
        raise error(message)
    for operand, copy in zip(operands, before, strict=True):
        np.testing.assert_array_equal(operand, copy)
    return result


def close(got, expected, dtype):
    tolerance = TOLERANCE.get(dtype, 0)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max(initial=1))
    assert got.dtype == dtype


def normal(*shape, dtype):
    return RANDOM.normal(size=shape).astype(dtype)


def well_conditioned(*shape, dtype):
    return (RANDOM.normal(size=shape) + 2 * np.sqrt(shape[-1]) * np.eye(shape[-1])).astype(dtype)


def flipped(x):
    return np.ascontiguousarray(np.swapaxes(x, -1, -2))


@pytest.mark.parametrize("transposed", list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("dtype", [*FLOATS, "int64"])
def test_matrix_products(dtype, transposed):
    for m, n, k in itertools.product(SIZES, repeat=3):
        x, y = (10 * normal(m, k, dtype="float64")).astype(dtype), (10 * normal(k, n, dtype="float64")).astype(dtype)
        given = [flipped(a) if flag else a for a, flag in zip((x, y), transposed, strict=True)]
        close(call("matmul", x @ y, *given, transposed=transposed), x @ y, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("transposed", list(itertools.product([False, True], repeat=2)))
def test_large_products_with_a_row_or_a_column(dtype, transposed):
    for m, n, k in [(1, 300, 200), (300, 1, 200), (1, 1, 20_000)]:
        x, y = normal(m, k, dtype=dtype), normal(k, n, dtype=dtype)
        given = [flipped(a) if flag else a for a, flag in zip((x, y), transposed, strict=True)]
        close(call("matmul", x @ y, *given, transposed=transposed), x @ y, dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "bool"])
def test_products_of_integers_wrap_and_those_of_truth_values_say_any(dtype):
    x, y = (RANDOM.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype) for shape in [(5, 7), (7, 3)])
    np.testing.assert_array_equal(call("matmul", x @ y, x, y), x @ y)


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 4, 5), (3, 5, 2)), ((2, 3, 4, 5), (2, 3, 5, 1)), ((0, 4, 5), (0, 5, 2)), ((3, 4, 0), (3, 0, 2)),
     ((3, 4, 5), (5, 2)), ((4, 5), (3, 5, 2)), ((5,), (5,)), ((5,), (5, 2)), ((4, 5), (5,)), ((3, 4, 5), (5,))],
)  # fmt: skip
def test_products_of_stacks_and_of_vectors(left, right):
    x, y = normal(*left, dtype="float64"), normal(*right, dtype="float64")
    close(call("matmul", np.asarray(x @ y), x, y), x @ y, "float64")


def test_products_of_transposed_stacks():
    x, y = normal(3, 4, 5, dtype="float64"), normal(3, 5, 2, dtype="float64")
    close(call("matmul", x @ y, flipped(x), y, transposed=(True, False)), x @ y, "float64")
    close(call("matmul", x @ y, x, flipped(y), transposed=(False, True)), x @ y, "float64")
    close(call("matmul", x @ y[0], flipped(x), y[0].copy(), transposed=(True, False)), x @ y[0], "float64")


def panel_product(transposed, accumulate, threads=None):
    """A product of the first rows and columns of three matrices, whose sizes a fourth array gives."""

    def write(builder, dtype, c, a, b, sizes):
        m, n, k = (builder.load(builder.gep(sizes.data, [ir.Constant(ir.IntType(64), i)])) for i in range(3))
        strides = [sizes_of(builder, array)[1] for array in (a, b, c)]
        crew = None if threads is None else threads_of_call(builder, ir.Constant(ir.IntType(64), threads))
        blas.enter(builder)
        library.gemm(
            builder, dtype, m, n, k, a.data, strides[0], transposed[0], b.data, strides[1], transposed[1],
            c.data, strides[2], accumulate, crew,
        )  # fmt: skip
        blas.leave(builder)
        if crew is not None:
            dismiss(builder, crew)

    return compiled(write)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("dtype", [*FLOATS, "int32"])
def test_products_of_panels_touch_nothing_else(dtype, accumulate):
    run = panel_product((False, True), accumulate)
    x, y, z = ((10 * normal(150, 150, dtype="float64")).astype(dtype) for _ in range(3))
    for m, n, k in [(3, 4, 5), (1, 140, 130), (140, 1, 130), (3, 4, 0), (0, 3, 4), (70, 64, 65)]:
        expected = z.copy()
        expected[:m, :n] = x[:m, :k] @ y[:n, :k].T + (z[:m, :n] if accumulate else 0)
        got = z.copy()
        run(got, (x, y, np.array([m, n, k])))
        close(got, expected, dtype)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("transposed", list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("dtype", FLOATS)
def test_large_products_are_the_same_for_any_number_of_threads(dtype, transposed, accumulate, monkeypatch):
    """Sizes are a little less and more than tiles, rounds of summands, and what is packed at a time have."""
    monkeypatch.setattr(tiles, "_DEPTH", 2**8)
    monkeypatch.setattr(tiles, "_PACKED", 2**16)
    runs = [panel_product(transposed, accumulate, threads) for threads in (1, 2, 5)]
    x, y, z = (normal(1_130, 1_130, dtype=dtype) for _ in range(3))
    for m, n, k in [(64, 64, 32), (65, 71, 33), (127, 95, 129), (300, 1_100, 70), (257, 80, 600), (1_100, 97, 513)]:
        a, b = x[:k, :m].T if transposed[0] else x[:m, :k], y[:n, :k].T if transposed[1] else y[:k, :n]
        expected = z.copy()
        expected[:m, :n] = a.astype("float64") @ b + (z[:m, :n] if accumulate else 0)
        results = [z.copy() for _ in runs]
        for run, result in zip(runs, results, strict=True):
            run(result, (x, y, np.array([m, n, k])))
            np.testing.assert_array_equal(result, results[0])
        close(results[0], expected, dtype)


@pytest.mark.parametrize("transposed", list(itertools.product([False, True], repeat=2)))
def test_what_is_not_finite_stays_in_its_rows_and_columns(transposed):
    run = panel_product(transposed, False, 2)
    x, y, z = (normal(140, 140, dtype="float64") for _ in range(3))
    a, b = x[:90, :70].T if transposed[0] else x[:70, :90], y[:75, :90].T if transposed[1] else y[:90, :75]
    x[:, 90:], x[90:], y[:, 90:], y[90:] = np.nan, np.nan, np.nan, np.nan  # what nobody asks for
    a[69, 3], a[2, 89], b[89, 74], b[5, 0] = np.nan, np.inf, -np.inf, np.nan
    expected = np.zeros((70, 75))
    with np.errstate(invalid="ignore"):
        expected[:] = a @ b
    run(z, (x, y, np.array([70, 75, 90])))
    np.testing.assert_allclose(z[:70, :75], expected, 1e-11, 1e-11)
    assert np.isfinite(z).sum() == z.size - (~np.isfinite(expected)).sum()


def test_sizes_that_blas_cannot_count_go_through_loops(monkeypatch):
    monkeypatch.setattr(products, "_GREATEST", 10)
    run = panel_product((True, False), False)
    x, y, z = (normal(30, 30, dtype="float64") for _ in range(3))
    run(z, (x, y, np.array([20, 15, 12])))
    close(z[:20, :15], x[:12, :20].T @ y[:12, :15], "float64")


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", FLOATS)
def test_symmetric_products_are_mirrored(dtype, transposed, accumulate):
    def write(builder, dtype, c, a):
        rows, columns = sizes_of(builder, a)
        n, k = (columns, rows) if transposed else (rows, columns)
        library.syrk(builder, dtype, n, k, a.data, columns, transposed, c.data, n, accumulate)

    run = compiled(write)
    for n, k in [(0, 3), (3, 0), (5, 7), (64, 128), (101, 300)]:
        x = normal(k, n, dtype=dtype) if transposed else normal(n, k, dtype=dtype)
        before = normal(n, n, dtype=dtype)
        before = before + before.T
        product = x.T @ x if transposed else x @ x.T
        got = before.copy()
        run(got, (x,))
        close(got, product + before if accumulate else product, dtype)
        np.testing.assert_array_equal(got, got.T)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["cholesky", "inv", "det", "det_sign", "logabsdet"])
def test_functions_of_matrices(name, dtype):
    reference = {
        "cholesky": np.linalg.cholesky, "inv": np.linalg.inv, "det": np.linalg.det,
        "det_sign": lambda x: np.linalg.slogdet(x)[0], "logabsdet": lambda x: np.linalg.slogdet(x)[1],
    }[name]  # fmt: skip
    for n, batch in itertools.product(SIZES, [(), (0,), (3,), (2, 2)]):
        if name == "det" and n > 5:
            continue
        x = normal(*batch, n, n, dtype=dtype) if n < 70 else well_conditioned(*batch, n, n, dtype=dtype)
        if name == "cholesky":
            x = x @ np.swapaxes(x, -1, -2) + n * np.eye(n, dtype=dtype)
        expected = np.asarray(reference(x.astype("float64"))).astype(dtype)
        slack = 1e-2 if name == "inv" and dtype == "float32" and 1 < n < 70 else 0
        got = call(name, expected, x)
        np.testing.assert_allclose(got, expected, rtol=TOLERANCE[dtype] + slack, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_pullback_of_cholesky_reads_lower_triangles_and_is_symmetric(dtype):
    for n, batch in itertools.product([*SIZES, 63, 64, 65, 128, 200], [(), (2,)]):
        x = well_conditioned(*batch, n, n, dtype="float64")
        factor = np.linalg.cholesky(x @ np.swapaxes(x, -1, -2) / max(n, 1))
        cotangent = normal(*batch, n, n, dtype="float64")
        expected = cholesky_pullback(factor, cotangent)
        upper = ~np.tri(n, dtype=bool)
        hidden = np.where(upper, np.nan, cotangent).astype(dtype)
        got = call("cholesky_pullback", expected.astype(dtype), factor.astype(dtype), hidden)
        close(got, expected, dtype)
        np.testing.assert_array_equal(got, np.swapaxes(got, -1, -2))


def test_cholesky_reads_the_lower_triangle_only():
    x = well_conditioned(6, 6, dtype="float64")
    x = x @ x.T
    half = np.where(np.tri(6, dtype=bool), x, np.nan)
    close(call("cholesky", x, half), np.linalg.cholesky(x), "float64")


@pytest.mark.parametrize("dtype", FLOATS)
def test_solutions(dtype):
    for n, columns, batch in itertools.product(SIZES, [None, *SIZES], [(), (3,)]):
        if columns is None and batch:
            continue
        a = well_conditioned(*batch, n, n, dtype=dtype)
        b = normal(n, dtype=dtype) if columns is None else normal(*batch, n, columns, dtype=dtype)
        close(call("solve", b, a, b), np.linalg.solve(a, b), dtype)


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("dtype", FLOATS)
def test_triangular_solutions_read_one_triangle(dtype, lower, transposed):
    for n, columns, batch in itertools.product(SIZES, [None, *SIZES], [(), (2,)]):
        if columns is None and batch:
            continue
        a = well_conditioned(*batch, n, n, dtype=dtype)
        triangle = np.tril(a) if lower else np.triu(a)
        hidden = np.where(np.tri(n, dtype=bool) if lower else np.tri(n, dtype=bool).T, a, np.nan).astype(dtype)
        b = normal(n, dtype=dtype) if columns is None else normal(*batch, n, columns, dtype=dtype)
        expected = np.linalg.solve(np.swapaxes(triangle, -1, -2) if transposed else triangle, b)
        close(call("solve_triangular", b, hidden, b, attributes=(lower, transposed)), expected, dtype)


def test_a_zero_on_a_triangles_diagonal_is_divided_by():
    a = np.array([[1.0, 0.0], [1.0, 0.0]])
    for b in (np.array([1.0, 3.0]), np.array([[1.0, 1.0], [3.0, 3.0]])):
        got = call("solve_triangular", b, a, b, attributes=(True, False))
        np.testing.assert_array_equal(got, np.array([np.ones_like(b[0]), np.full_like(b[1], np.inf)]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_errors_are_numpys(dtype):
    fine = np.eye(3, dtype=dtype)
    singular = np.outer([1, 2, 3], [1, 2, 4]).astype(dtype)
    for name, bad, operands in [("cholesky", -fine, ()), ("inv", singular, ()), ("solve", singular, (fine,))]:
        with pytest.raises(np.linalg.LinAlgError) as expected:
            getattr(np.linalg, name)(bad, *operands)
        with pytest.raises(np.linalg.LinAlgError, match=f"^{expected.value}$"):
            call(name, fine, bad, *operands)
        stack = np.stack([fine, bad])
        with pytest.raises(np.linalg.LinAlgError):
            call(name, stack, stack, *(np.stack([o, o]) for o in operands))
    assert call("det", fine[0, 0], singular) == 0
    assert call("det_sign", fine[0, 0], singular) == 0
    assert call("logabsdet", fine[0, 0], singular) == -np.inf


def test_more_right_hand_sides_than_lapack_counts_are_refused(monkeypatch):
    monkeypatch.setattr(factors, "_GREATEST", 3)
    a, b = np.eye(2), np.ones((2, 4))
    for name, attributes in [("solve", ()), ("solve_triangular", (True, False))]:
        status = program.__wrapped__(name, attributes, (False, False))(b.copy(), (a, b))
        assert library.ERRORS[status][0] is ValueError


def test_nan_is_a_number():
    x = np.full((3, 3), np.nan)
    for name, operands in [("inv", (x,)), ("solve", (x, x)), ("det", (x,)), ("logabsdet", (x,))]:
        expected = x if len(operands) == 2 or name == "inv" else x[0, 0]
        assert np.isnan(call(name, expected, *operands)).all()


NUMBERS = ["float64", "float32", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"]
SHAPES = [
    (1,),
    (2,),
    (5,),
    (70,),
    (3, 5),
    (70, 33),
    (5, 70),
    (0, 3),
    (2, 3, 4),
    (2, 5, 1),
    (3, 2, 70),
    (2, 1, 65),
    (2, 0, 3),
]


def axes(dtype):
    """Return shapes with an axis each: one program for axes within, one for last ones, and more for one type."""
    found = [(shape, axis) for shape in SHAPES for axis in range(len(shape))]
    return [(s, a) for s, a in found if dtype == "float64" or (len(s) > 1 and a == 1)]


@pytest.mark.parametrize("dtype", NUMBERS)
def test_running_sums_and_products_of_all_others(dtype):
    for shape, axis in [*axes(dtype), ((3, 0), 1)]:
        x = RANDOM.integers(0, 7, shape).astype(dtype) - np.asarray(3, dtype)
        np.testing.assert_array_equal(
            call("cumulative_sum", x, x, attributes=(axis,)), np.cumsum(x, axis, dtype=dtype), strict=True
        )
        others = [np.delete(x, i, axis).prod(axis, dtype=dtype) for i in range(shape[axis])]
        expected = np.stack(others, axis) if others else x
        got = call("exclusive_prod", x, x, attributes=(axis,))
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@pytest.mark.parametrize("dtype", [*NUMBERS, "bool"])
def test_places_of_extremes_are_the_first(name, dtype):
    for (shape, axis), spread in itertools.product([*axes(dtype), ((3, 2500), 1)], (2, 100)):
        if shape[axis]:
            x = RANDOM.integers(0, spread, shape).astype(dtype)
            if np.dtype(dtype).kind in "if":
                x -= np.asarray(spread // 2, dtype)
            expected = getattr(np, name)(x, axis)
            got = call(name, np.asarray(expected), x, attributes=((axis,), False))
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_first_nan_is_the_extreme(name, dtype):
    for size, columns in itertools.product([1, 3, 40, 2100, 5000], [None, 1, 3, 40]):
        shape = (size,) if columns is None else (size, columns)
        for _ in range(6):
            x = normal(*shape, dtype=dtype)
            x[RANDOM.random(shape) < 1.5 / size] = np.nan
            x[RANDOM.random(shape) < 1.5 / size] = np.inf if name == "argmax" else -np.inf
            expected = np.asarray(getattr(np, name)(x, 0))
            got = call(name, expected, x, attributes=((0,), False))
            np.testing.assert_array_equal(got, expected)
    zeros = np.array([0.0, -0.0, 0.0] * 40, dtype)
    assert call(name, np.int64(0), zeros, attributes=((0,), False)) == 0
    assert call(name, np.int64(0), zeros[1:].copy(), attributes=((0,), False)) == 0


def test_an_unknown_function_is_refused():
    with pytest.raises(TypeError, match="frobnicate"):
        program("frobnicate", (), (False,))(np.ones(2), (np.ones(2),))


def run_python(text, **environment):
    """Run a program in a process of its own, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)], env={**os.environ, **environment},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


CONTROLS = """
    import ctypes, os, sys, threading
    from llvmlite import ir
    from symgraph.compile import assembly
    from symgraph.compile.machine import blas
    def written(name, write):
        module = ir.Module(name)
        builder = ir.IRBuilder(ir.Function(module, ir.FunctionType(ir.VoidType(), []), name).append_basic_block())
        write(builder)
        builder.ret_void()
        return ctypes.CFUNCTYPE(None)(assembly.address(assembly.assemble(module), name))
    enter, leave = written("enter", blas.enter), written("leave", blas.leave)
    assert "scipy.linalg" not in sys.modules and "scipy.linalg.cython_blas" not in sys.modules
    import scipy.linalg.cython_blas
    controls = blas._find_controls(scipy.linalg.cython_blas)
    if controls is None:
        print("none")
        raise SystemExit
    get, set_ = controls
"""


def test_blas_keeps_to_one_thread_until_the_last_caller_leaves():
    found = run_python(CONTROLS + """
    set_(3)
    print(get()); enter(); print(get()); enter(); leave(); print(get()); leave(); print(get())
    enter(); set_(2); leave(); print(get())
    """)  # fmt: skip
    assert found == ["none"] or found == ["3", "1", "1", "3", "2"]


def test_callers_on_many_threads_leave_the_users_number():
    found = run_python(CONTROLS + """
    set_(3)
    wrong = []
    def work():
        for _ in range(3000):
            enter()
            if get() != 1:
                wrong.append(get())
            leave()
    threads = [threading.Thread(target=work) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    print(get(), len(wrong))
    """)  # fmt: skip
    assert found == ["none"] or found == ["3", "0"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_forgets_the_callers_of_its_parent():
    found = run_python(CONTROLS + """
    set_(3)
    enter()
    child = os.fork()
    if not child:
        print(get(), flush=True)
        enter()
        print(get(), flush=True)
        leave()
        print(get(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    leave()
    print(get())
    """)  # fmt: skip
    assert found == ["none"] or found == ["3", "1", "3", "3"]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("name", "transposed", "shapes"),
    [
        ("matmul", (False, False), [(700, 200), (200, 401)]),
        ("matmul", (False, True), [(130, 300), (700, 300)]),
        ("matmul", (True, False), [(250, 700), (250, 700)]),
        ("solve_triangular", (False, False), [(200, 200), (200, 700)]),
        ("solve", (False, False), [(200, 200), (200, 700)]),
        ("inv", (False,), [(330, 330)]),
        ("cholesky", (False,), [(330, 330)]),
        ("cholesky_pullback", (False, False), [(330, 330), (330, 330)]),
    ],
)
def test_results_are_the_same_for_any_number_of_threads(name, transposed, shapes, dtype):
    attributes = (True, False) if name == "solve_triangular" else ()

    def write(threads):
        def of_threads(builder, dtype, result, *operands):
            crew = threads_of_call(builder, ir.Constant(ir.IntType(64), threads))
            blas.enter(builder)
            status = library.emit_call(
                builder, name, dtype, result.data, [o.data for o in operands],
                [sizes_of(builder, o) for o in operands], transposed, attributes, crew,
            )  # fmt: skip
            blas.leave(builder)
            dismiss(builder, crew)
            return status

        return of_threads

    operands = [well_conditioned(*s, dtype=dtype) if s[0] == s[1] else normal(*s, dtype=dtype) for s in shapes]
    if name.startswith("cholesky"):
        operands[0] = np.tril(operands[0])
    if name == "cholesky":
        operands[0] = operands[0] @ operands[0].T
    full = [o.T if flag else o for o, flag in zip(operands, transposed, strict=True)]
    expected = {
        "matmul": lambda x, y: x @ y, "solve": np.linalg.solve, "inv": np.linalg.inv,
        "solve_triangular": lambda a, b: np.linalg.solve(np.tril(a), b),
        "cholesky": np.linalg.cholesky, "cholesky_pullback": cholesky_pullback,
    }[name](*full)  # fmt: skip
    results = [np.empty(expected.shape, dtype) for _ in range(3)]
    for threads, result in zip([1, 2, 5], results, strict=True):
        assert compiled(write(threads))(result, tuple(operands)) == 0
    close(results[0], expected, dtype)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are asked for on Linux only")
@pytest.mark.parametrize("size", [1, 100_000, 2**25 - 1, 2**25, 2**25 + 1])
def test_very_large_scratch_is_whole_huge_pages(size):
    def write(builder, dtype, result, count):
        address = memory.from_heap(builder, builder.load(count.data), lambda: None)
        builder.call(vectors.intrinsic(builder.module, "memset", address.type, [address.type, INT, LONG]),
                     [address, ir.Constant(INT, 1), builder.load(count.data)])  # fmt: skip
        builder.store(builder.ptrtoint(address, LONG), result.data)
        memory.to_heap(builder, address)

    result = np.zeros(1, "int64")
    compiled(write)(result, (np.array([size]),))
    assert result[0] % 16 == 0
    assert size < 2**25 or result[0] % 2**21 == 0
