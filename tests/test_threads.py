"""Threads change no result and break nothing: any number of them, calls from many at once, forked processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import symgraph as sg

COUNTS = (1, 2, 5)
Leaf = Callable[..., sg.Expr]
Workload = Callable[[Leaf], list[sg.Expr]]
WORKLOADS: dict[str, tuple[Workload, dict[str, int]]] = {}


def workload(**sizes: int) -> Callable[[Workload], Workload]:
    """Register a graph with sizes at which threads are worth their cost."""

    def register(build: Workload) -> Workload:
        WORKLOADS[build.__name__] = build, sizes
        return build

    return register


def options(threads: int | None = None) -> sg.Options:
    return sg.Options(cache=False, threads=threads)


@workload(n=300_000)
def scalars(leaf: Leaf) -> list[sg.Expr]:
    x, y = leaf("n"), leaf("n", dtype="float32")
    loss = sg.sum(sg.exp(-sg.square(x)) * sg.sin(y)) + sg.logsumexp(x) + sg.var(x)
    found = [loss, *sg.gradients(loss, [x, y]), sg.max(x), sg.min(y), sg.argmax(x), sg.prod(1 + x / 3e5)]
    return [*found, sg.sum(y), sg.any(x > 4), sg.all(x < 5), sg.sum(x > 0), sg.mean(sg.max(x) - x)]


@workload(n=60_001, d=19)
def vectors(leaf: Leaf) -> list[sg.Expr]:
    X, y, w = leaf("n", "d"), leaf("n"), leaf("d")
    z = X @ w
    loss = sg.mean(sg.softplus(z) - y * z)
    return [loss, *sg.gradients(loss, [w, y]), sg.max(X, axis=0), sg.sum(X, axis=0), sg.sum(X, axis=1), X.T @ y]


@workload(n=200_003)
def scattered(leaf: Leaf) -> list[sg.Expr]:
    x, places = leaf("n"), leaf("n", dtype="int64")
    table = sg.square(leaf(9))
    loss = sg.sum(sg.take(table, places) * sg.tanh(x))
    count = sg.zeros(9).at[places].add(x)
    last = sg.zeros(9).at[places].set(x)
    apart = sg.zeros(x.shape).at[sg.flip(sg.arange(x.shape[0]))].set(x * 2)
    return [loss, *sg.gradients(loss, [table, x]), count, last, apart, sg.zeros(9, "int64").at[places].add(1)]


@workload(n=300_000)
def stencil(leaf: Leaf) -> list[sg.Expr]:
    x = leaf("n")
    loss = sg.sum(100 * sg.square(x[1:] - sg.square(x[:-1])) + sg.square(1 - x[:-1]))
    return [loss, *sg.gradients(loss, [x]), x[2:] - 2 * x[1:-1] + x[:-2], x[::-3] * 2, sg.cumulative_sum(x)]


@workload(n=3_011, d=33, k=10)
def matrices(leaf: Leaf) -> list[sg.Expr]:
    X, W, b, V = leaf("n", "d"), leaf("d", "k"), leaf("k"), leaf("k", 7)
    scores = sg.tanh(X @ W + b) @ V
    loss = sg.mean(sg.logsumexp(scores, axis=1) - sg.max(scores, axis=1))
    return [loss, *sg.gradients(loss, [W, b, V, X]), X.T @ X, scores, sg.einsum("nd,ne,n->de", X, X, sg.sum(X, axis=1))]


@workload(n=5_003, d=8, k=25)
def mixture(leaf: Leaf) -> list[sg.Expr]:
    X, centre, width = leaf("n", "d"), leaf("k", "d"), leaf("k", "d")
    distance = sg.sum(sg.square((X[:, None, :] - centre) * sg.exp(width)), axis=2)
    loss = sg.sum(sg.logsumexp(sg.sum(width, axis=1) - 0.5 * distance, axis=1))
    return [loss, *sg.gradients(loss, [centre, width]), sg.argmin(distance, axis=1), sg.min(distance, axis=0)]


@workload(n=700, m=701)
def rows_and_columns(leaf: Leaf) -> list[sg.Expr]:
    X = leaf("n", "m", dtype="float32")
    loss = sg.sum(sg.square(sg.softmax(X, axis=0)) * sg.softmax(X, axis=1))
    return [loss, *sg.gradients(loss, [X]), X.T * 2, sg.max(X, axis=0), sg.argmin(X, axis=1), sg.sum(X, axis=0)]


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[dict[int, Any], list[Any]]]:
    """For each workload its functions, by number of threads, and their arguments."""
    return {name: make(name) for name in WORKLOADS}


def make(name: str) -> tuple[dict[int, Any], list[Any]]:
    build, sizes = WORKLOADS[name]
    leaves: list[sg.Expr] = []

    def leaf(*shape: Any, dtype: str = "float64") -> sg.Expr:
        leaves.append(sg.placeholder(f"x{len(leaves)}", shape, dtype))
        return leaves[-1]

    with sg.Graph():
        outputs = build(leaf)
    source = np.random.default_rng(0)
    values: list[Any] = []
    for node in leaves:
        shape = [sizes.get(str(size), size) for size in node.shape]
        value = source.integers(-9, 9, shape) if node.dtype.kind == "i" else source.normal(size=shape)
        values.append(value.astype(node.dtype))
        values[-1].flags.writeable = False
    return {count: sg.function(leaves, outputs, options=options(count)) for count in COUNTS}, values


def bits(results: list[Any]) -> list[bytes]:
    return [np.asarray(result).tobytes() for result in results]


@pytest.mark.parametrize("name", WORKLOADS)
def test_any_number_of_threads_gives_the_same_bits(name: str, made: dict[str, Any]) -> None:
    functions, values = made[name]
    expected = bits(functions[1](*values))
    for count, function in functions.items():
        for repetition in range(4):
            for i, (got, want) in enumerate(zip(bits(function(*values)), expected, strict=True)):
                assert got == want, f"{count} threads, output {i}, call {repetition + 1}"


@pytest.mark.parametrize("name", WORKLOADS)
def test_threads_compute_what_numpy_does(name: str, made: dict[str, Any]) -> None:
    functions, values = made[name]
    reference = sg.function(functions[5].inputs, functions[5].outputs, backend="numpy")
    for i, (got, want) in enumerate(zip(functions[5](*values), reference(*values), strict=True)):
        narrow = np.float32 in [value.dtype for value in values]
        tolerance = 1e-4 if narrow else 1e-10
        np.testing.assert_allclose(got, want, tolerance, tolerance * np.max(np.abs(want)), err_msg=f"output {i}")


def test_sizes_at_the_edges_of_chunks() -> None:
    """An element more or less than what a thread takes is neither lost nor counted twice: sums here are exact."""
    with sg.Graph():
        x = sg.placeholder("x", ("n",), "float64")
    outputs = [sg.sum(x), sg.max(x), sg.sum(sg.square(x)), x + 1, sg.sum(x[1:] - x[:-1]), sg.sum(x[::-2])]
    functions = {count: sg.function([x], outputs, options=options(count)) for count in COUNTS}
    for power in (12, 14, 16, 17, 18):
        for size in (2**power - 1, 2**power, 2**power + 1, 3 * 2**power // 2 + 1):
            value = np.arange(size) % 1000.0
            want = [value.sum(), value.max(), (value * value).sum(), value + 1, value[-1] - value[0], value[::-2].sum()]
            for count, function in functions.items():
                for i, (got, right) in enumerate(zip(function(value), want, strict=True)):
                    np.testing.assert_array_equal(got, right, f"output {i}, {size} elements, {count} threads")


def test_calls_from_many_threads_at_once(made: dict[str, Any]) -> None:
    jobs = []
    for name in ("vectors", "scattered", "stencil", "rows_and_columns"):
        functions, values = made[name]
        for sign in (1, -1):
            signed = [value if value.dtype.kind == "i" else value * value.dtype.type(sign) for value in values]
            jobs.append((functions[5], signed, bits(functions[5](*signed))))
    start = threading.Barrier(8)

    def work(number: int) -> list[str]:
        start.wait()
        wrong = []
        for turn in range(len(jobs)):
            function, values, expected = jobs[(turn + number * 3) % len(jobs)]
            if bits(function(*values)) != expected:
                wrong.append(f"thread {number}, job {(turn + number * 3) % len(jobs)}")
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert [wrong for found in pool.map(work, range(8)) for wrong in found] == []


def test_the_first_call_may_come_from_many_threads_at_once() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    function = sg.function([x], [sg.sum(sg.sin(x) * 1.25), sg.cos(x) - 0.5], options=options())
    value = np.linspace(0, 1, 200_000)
    start = threading.Barrier(8)

    def work(_: int) -> list[bytes]:
        start.wait()
        return bits(function(value))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))
    assert all(other == found[0] for other in found)
    np.testing.assert_allclose(function(value)[0], np.sum(np.sin(value)) * 1.25, 1e-12)


# Errors


@pytest.mark.parametrize("threads", COUNTS)
def test_an_error_of_one_thread_is_one_error_and_leaves_no_trace(threads: int) -> None:
    with sg.Graph():
        x, places = sg.placeholder("x", ("k",)), sg.placeholder("places", ("n",), "int64")
    taken = sg.take(x, places)
    outputs = [sg.sum(sg.exp(taken)), sg.zeros(x.shape).at[places].add(taken), taken * 2]
    function = sg.function([x, places], outputs, options=options(threads))
    x_value, good = np.arange(100.0) / 50, np.arange(300_000) % 200 - 100
    expected = bits(function(x_value, good))
    for where in (0, 149_999, 150_001, 299_999):
        bad = good.copy()
        bad[where] = 100
        with pytest.raises(IndexError, match="index 100 is out of bounds for an axis of size 100"):
            function(x_value, bad)
        assert bits(function(x_value, good)) == expected
    with pytest.raises(IndexError, match=r"index -?\d+ is out of bounds for an axis of size 100"):
        function(x_value, good * 1000 + 500)
    assert bits(function(x_value, good)) == expected


def test_errors_and_results_of_calls_at_once_do_not_mix() -> None:
    with sg.Graph():
        x, places = sg.placeholder("x", ("k",)), sg.placeholder("places", ("n",), "int64")
    function = sg.function([x, places], sg.sum(sg.take(x, places)), options=options(2))
    x_value, good = np.arange(7.0), np.arange(200_000) % 7
    bad = {number: np.where(np.arange(200_000) == 1234 * number, 7 + number, good) for number in range(1, 4)}

    def work(number: int) -> bool:
        for _ in range(10):
            if number in bad:
                with pytest.raises(IndexError, match=f"index {7 + number} is out of bounds for an axis of size 7"):
                    function(x_value, bad[number])
            elif function(x_value, good) != np.sum(x_value[good]):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


# Other processes

PROGRAM = """
import os, sys, threading
import numpy as np
import symgraph as sg

with sg.Graph():
    X, w = sg.placeholder("X", ("n", "d")), sg.placeholder("w", ("d",))
loss = sg.sum(sg.softplus(X @ w))
outputs = [loss, *sg.gradients(loss, [w]), X.T @ X]
f = sg.function([X, w], outputs)
arguments = np.random.default_rng(0).normal(size=(50_000, 11)), np.arange(11.0) / 11

def bits():
    return b"".join(np.asarray(r).tobytes() for r in f(*arguments))

"""


def run(text: str, **variables: str) -> str:
    """Return what a program prints in a process of its own that has a minute."""
    finished = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM + textwrap.dedent(text)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout.strip()


FORK = """
def child_is_right(expected):
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if bits() == expected and bits() == expected else 1)
        except BaseException:
            os._exit(2)
    for _ in range(300):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        import time; time.sleep(0.1)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "no answer"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot fork here")
def test_a_forked_process_computes_the_same() -> None:
    text = FORK + textwrap.dedent("""
    expected = bits()
    print(child_is_right(expected), child_is_right(expected), bits() == expected)
    running = [threading.Thread(target=lambda: [bits() for _ in range(50)]) for _ in range(2)]
    for thread in running: thread.start()
    print([child_is_right(expected) for _ in range(3)])
    for thread in running: thread.join()
    print(bits() == expected)
    """)
    assert run(text) == "0 0 True\n[0, 0, 0]\nTrue"


@pytest.mark.parametrize(
    "variables",
    [{"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "3,2"}, {"NUMBA_NUM_THREADS": "1"}, {"SYMGRAPH_NUM_THREADS": "5"}],
    ids=str,
)
def test_environment_variables_change_no_result(variables: dict[str, str]) -> None:
    digest = "import hashlib; print(hashlib.sha256(bits()).hexdigest())"
    assert run(digest, **variables) == _digest()


SHARE = """
import time

def share_of_others(g):
    rows = np.random.default_rng(0).normal(size=(400_000, 11))
    g(rows, arguments[1])
    before, mine = time.process_time(), time.thread_time()
    for _ in range(30):
        g(rows, arguments[1])
    total = time.process_time() - before
    return 1 - (time.thread_time() - mine) / total

g = sg.function([X, w], [loss, *sg.gradients(loss, [w])])
"""


def test_one_thread_means_that_no_other_works() -> None:
    assert float(run(SHARE + "print(share_of_others(g))", OMP_NUM_THREADS="1")) < 0.05


def test_the_number_of_threads_is_what_the_options_say() -> None:
    text = SHARE + textwrap.dedent("""
    for count in (1, 2):
        options = sg.Options(cache=False, threads=count)
        print(share_of_others(sg.function(g.inputs, g.outputs, options=options)))
    """)
    alone, together = map(float, run(text).split())
    assert alone < 0.05
    assert together > 0.05


_known: list[str] = []


def _digest() -> str:
    if not _known:
        _known.append(run("import hashlib; print(hashlib.sha256(bits()).hexdigest())", OMP_NUM_THREADS="2"))
    return _known[0]


def test_more_threads_than_a_loop_has_chunks() -> None:
    """On a machine of many processors a large product has more pieces than a call can have threads."""
    code = """
import numpy as np, symgraph as sg
with sg.Graph():
    a, b = sg.placeholder("a", ("m", "k")), sg.placeholder("b", ("k", "n"))
f = sg.function([a, b], a @ b, options=sg.Options(threads=200, cache=False))
random = np.random.default_rng(0)
x, y = random.normal(size=(64 * 130, 96)), random.normal(size=(96, 64))
for _ in range(3):
    np.testing.assert_allclose(f(x, y), x @ y, rtol=1e-11, atol=1e-11)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
