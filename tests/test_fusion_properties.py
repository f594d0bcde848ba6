"""One compiled program is right at every size: fused, unfused and interpreted results agree on random graphs.

SYMGRAPH_EXHAUSTIVE=1 tries thousands of graphs instead of a few.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.expr import topological
from tests.helpers.engines import emitted
from tests.helpers.random_graphs import Feed, RandomGraph, feed_for, fits, sizes_around
from tests.helpers.rounding import Reference

EXHAUSTIVE = os.environ.get("SYMGRAPH_EXHAUSTIVE") == "1"
TILES = (8, 16, 32, 64, 256)

OPTIONS = {
    "fused": sg.Options(cache=False, threads=3),
    "unfused": sg.Options(cache=False, threads=3, fuse=False),
    "as declared": sg.Options(cache=False, threads=3, optimize=False),
}


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let threads share loops of a few hundred elements, for which they are not worth starting."""
    monkeypatch.setattr("symgraph.compile.machine.cost.CHUNK", 2000)


def grow(source: random.Random, steps: int, smooth: bool = True) -> tuple[RandomGraph, list[sg.Expr]]:
    with sg.Graph():
        graph = RandomGraph(source, smooth)
        graph.grow(steps)
        return graph, graph.outputs()


def describe(outputs: Sequence[sg.Expr]) -> str:
    leaves = [f"{leaf.attrs[0]} = {leaf.type}" for leaf in topological(outputs) if leaf.op.name == "placeholder"]
    return "\n".join([*leaves, *[f"out{i} = {sg.to_text(output)}" for i, output in enumerate(outputs)]])


# As loops, which run as plain Python


@settings(
    max_examples=4000 if EXHAUSTIVE else 60,
    deadline=None,
    derandomize=not EXHAUSTIVE,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(st.randoms(use_true_random=False), st.integers(1, 12), st.booleans())
def test_random_graphs_as_loops(source: random.Random, steps: int, smooth: bool) -> None:
    graph, outputs = grow(source, steps, smooth)
    note(describe(outputs))
    sizes = [*graph.trials[1:], {"n": 5, "m": 3, "k": 3}]
    for i, chosen in enumerate(sizes):
        if fits(outputs, chosen, 2000):
            feed = feed_for(graph.leaves, chosen, i)
            note(f"sizes {chosen}, values of seed {i}")
            compare(lambda feed: emitted(outputs, feed, optimize=False), outputs, feed, "as declared")
            compare(lambda feed: emitted(outputs, feed), outputs, feed, "rewritten")


def compare(run: Callable[[Feed], list[Any]], outputs: Sequence[sg.Expr], feed: Feed, hint: str) -> None:
    """Check what a program computes against the interpreter: values within the derived tolerance, or the same error."""
    try:
        reference = Reference(outputs, feed)
    except IndexError:
        with pytest.raises(IndexError):
            run(feed)
        return
    reference.check(run(feed), hint)


# What random graphs found, made small


def test_what_is_placed_reads_nothing_beyond_its_place() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n", "m"))
    joined = sg.pad(2 * sg.concat([x, x])[1:], [(0, 1), (0, 0)])
    added = sg.zeros((x.shape[0] - 1,)).at[np.array([0])].add(x[:1, 0])
    outputs = [joined, sg.pad(added * 2, (0, 1))]
    for size in (2, 5):
        feed = feed_for([x], {"n": size, "m": 1}, size)
        compare(lambda feed: emitted(outputs, feed), outputs, feed, f"size {size}")


def test_a_condition_on_a_sum_is_known_to_what_it_selects() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n", "m"))
    total = sg.sum(x, axis=1, keepdims=True)
    divisor = sg.where(sg.abs(total) > 1, total, 1)
    slope = sg.where(sg.abs(total) > 1, sg.sum(-1.5 * x / divisor / divisor, axis=1, keepdims=True), 0)
    outputs = [sg.broadcast_to(1.5 / divisor + slope, x.shape)]
    for size in (1, 3):
        feed = feed_for([x], {"n": size, "m": size}, size)
        compare(lambda feed: emitted(outputs, feed), outputs, feed, f"size {size}")


# As machine code


@pytest.mark.parametrize("seed", range(1000 if EXHAUSTIVE else 4))
def test_random_graphs_as_machine_code(seed: int) -> None:
    graph, outputs = grow(random.Random(seed), 4 + seed % 9, smooth=seed % 3 > 0)
    for name, options in OPTIONS.items():
        if EXHAUSTIVE or name != "as declared" or seed % 4 == 0:
            try:
                check_sizes(graph, outputs, options)
            except Exception as error:
                fewer = reduced(graph, outputs, options)
                raise AssertionError(f"seed {seed}, {name}: {error}\n\nreduced:\n{describe(fewer)}") from error


def check_sizes(graph: RandomGraph, outputs: Sequence[sg.Expr], options: sg.Options) -> None:
    """Check one compiled function at every size, on one thread and on several, and that no memory is shared."""
    function = sg.function(graph.leaves, list(outputs), options=options)
    alone = sg.function(graph.leaves, list(outputs), options=replace(options, threads=1))

    def run(feed: Feed) -> list[Any]:
        found = called(function, feed)
        for i, (many, one) in enumerate(zip(found, alone(*feed.values()), strict=True)):
            assert np.asarray(many).tobytes() == np.asarray(one).tobytes(), f"output {i} differs on one thread"
        return found

    for i, sizes in enumerate(sizes_around(TILES, graph.least, 30_001)):
        if fits(outputs, sizes, 60_000):
            feed = feed_for(graph.leaves, sizes, i)
            compare(run, outputs, feed, f"sizes {sizes}, values of seed {i}")


def called(function: Any, feed: Feed) -> list[Any]:
    """Call a function twice with read-only arrays; check that results are new, the same, and nobody else's memory."""
    before = [np.asarray(value).tobytes() for value in feed.values()]
    found = function(*feed.values())
    kept = [np.array(value) for value in found]
    arrays = [value for value in found if isinstance(value, np.ndarray)]
    for i, array in enumerate(arrays):
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert owner(array).nbytes == array.nbytes, f"array {i} keeps more memory than it has"
        others = [*arrays[:i], *[value for value in feed.values() if isinstance(value, np.ndarray)]]
        assert not any(np.shares_memory(array, other) for other in others), f"array {i} shares memory"
    for array in arrays:
        array.fill(1)
    again = function(*feed.values())
    for i, (first, second) in enumerate(zip(kept, again, strict=True)):
        assert first.tobytes() == np.asarray(second).tobytes(), f"output {i} differs when called again"
    assert [np.asarray(value).tobytes() for value in feed.values()] == before, "an input was written to"
    return list(again)


def owner(array: Any) -> Any:
    return array if array.base is None or not isinstance(array.base, np.ndarray) else owner(array.base)


def reduced(graph: RandomGraph, outputs: Sequence[sg.Expr], options: sg.Options) -> list[sg.Expr]:
    """Return fewer outputs that are still computed wrongly: one of the nodes alone, or some of the outputs."""

    def fails(some: list[sg.Expr]) -> bool:
        try:
            check_sizes(graph, some, options)
        except Exception:
            return True
        return False

    for node in topological(outputs):
        if node.op.name not in ("placeholder", "constant", "size") and fails([node]):
            return [node]
    kept = list(outputs)
    for output in list(kept):
        fewer = [node for node in kept if node is not output]
        if fewer and fails(fewer):
            kept = fewer
    return kept


# Special values


@settings(
    max_examples=2000 if EXHAUSTIVE else 25,
    deadline=None,
    derandomize=not EXHAUSTIVE,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(st.randoms(use_true_random=False), st.integers(1, 10))
def test_nan_and_infinities_as_loops(source: random.Random, steps: int) -> None:
    graph, outputs = grow_without_gradients(source, steps)
    note(describe(outputs))
    for i, sizes in enumerate([graph.trials[2], {"n": 5, "m": 3, "k": 3}]):
        if fits(outputs, sizes, 2000):
            feed = feed_for(graph.leaves, sizes, i, special=True)
            note(f"sizes {sizes}, values of seed {i}")
            compare(lambda feed: emitted(outputs, feed, optimize=False), outputs, feed, "as declared")


@pytest.mark.parametrize("seed", range(300 if EXHAUSTIVE else 2))
def test_nan_and_infinities_as_machine_code(seed: int) -> None:
    graph, outputs = grow_without_gradients(random.Random(seed), 14)
    options = replace(OPTIONS["unfused" if seed % 2 else "fused"], optimize=False)
    function = sg.function(graph.leaves, list(outputs), options=options)
    for i, sizes in enumerate(sizes_around((16, 64), graph.least, 1001)):
        if fits(outputs, sizes, 60_000):
            feed = feed_for(graph.leaves, sizes, i, special=True)
            hint = f"seed {seed}, sizes {sizes}, values of seed {i}\n{describe(outputs)}\n"
            compare(lambda feed: called(function, feed), outputs, feed, hint)


def grow_without_gradients(source: random.Random, steps: int) -> tuple[RandomGraph, list[sg.Expr]]:
    with sg.Graph():
        graph = RandomGraph(source, smooth=False)
        graph.grow(steps)
        return graph, graph.outputs(gradients=False)


# What models are made of, at the edges of tiles

Model = Callable[[Callable[..., sg.Expr]], list[sg.Expr]]
PATTERNS: dict[str, Model] = {}


def pattern(build: Model) -> Model:
    PATTERNS[build.__name__] = build
    return build


def with_gradients(loss: sg.Expr, *leaves: sg.Expr) -> list[sg.Expr]:
    return [loss, *sg.gradients(loss, leaves)]


@pattern
def logistic_regression(leaf: Callable[..., sg.Expr]) -> list[sg.Expr]:
    X, y, w = leaf("n", "m"), leaf("n", dtype="bool"), leaf("m")
    z = X @ w
    return with_gradients(sg.mean(sg.softplus(z) - y * z) + 0.5 * sg.sum(w * w), w, X)


@pattern
def softmax_regression(leaf: Callable[..., sg.Expr]) -> list[sg.Expr]:
    X, labels, W, b = leaf("n", "m"), leaf("n", dtype="int64"), leaf("m", "k"), leaf("k")
    z = X @ W + b
    right = sg.sum(z * (sg.arange(z.shape[1]) == sg.expand_dims(labels, 1) + 1), axis=1)
    return [*with_gradients(sg.sum(sg.logsumexp(z, axis=1) - right), W, b), sg.argmax(z, axis=1)]


@pattern
def mixture(leaf: Callable[..., sg.Expr]) -> list[sg.Expr]:
    X, centre, width, weight = leaf("n", "m"), leaf("k", "m"), leaf("k", "m"), leaf("k")
    distance = sg.sum(sg.square((X[:, None, :] - centre) * sg.exp(-sg.square(width))), axis=2)
    scores = sg.log_softmax(weight) - 0.5 * distance - sg.sum(sg.square(width), axis=1)
    return with_gradients(sg.sum(sg.logsumexp(scores, axis=1)), centre, width, weight)


@pattern
def network(leaf: Callable[..., sg.Expr]) -> list[sg.Expr]:
    X, W, b, V = leaf("n", "m"), leaf("m", "k"), leaf("k"), leaf("k", 3)
    hidden = sg.relu(X @ W + b)
    return with_gradients(sg.mean(sg.square(sg.tanh(hidden @ V))), W, b, V)


@pattern
def attention(leaf: Callable[..., sg.Expr]) -> list[sg.Expr]:
    Q, K, V = leaf("m", 3), leaf("n", 3), leaf("n", "k")
    weights = sg.softmax(Q @ K.T * 0.5, axis=1)
    return [*with_gradients(sg.sum(sg.sin(weights @ V)), Q, K, V), weights @ V]


@pattern
def normalised_layer(leaf: Callable[..., sg.Expr]) -> list[sg.Expr]:
    X, scale = leaf("n", "m"), leaf("m")
    centred = X - sg.mean(X, axis=1, keepdims=True)
    out = centred / sg.sqrt(sg.var(X, axis=1, keepdims=True) + 1) * scale
    return [*with_gradients(sg.sum(out * sg.cos(X)), X, scale), out]


@pattern
def stencils(leaf: Callable[..., sg.Expr]) -> list[sg.Expr]:
    x, X = sg.pad(leaf("n"), 2), sg.pad(leaf("n", "m"), 1)
    valley = sg.sum(10 * sg.square(x[1:] - sg.square(x[:-1])) + sg.square(1 - x[:-1]))
    bending = x[2:] - 2 * x[1:-1] + x[:-2]
    heat = X[1:-1, 2:] + X[1:-1, :-2] + X[2:, 1:-1] + X[:-2, 1:-1] - 4 * X[1:-1, 1:-1]
    return [*with_gradients(valley + sg.sum(bending[::2] * bending[::-2]) + sg.sum(heat * heat), x, X), bending, heat]


@pattern
def reductions_of_rows_and_columns(leaf: Callable[..., sg.Expr]) -> list[sg.Expr]:
    X = leaf("n", "m", dtype="float32")
    Y = sg.pad(X * 2, [(1, 0), (0, 1)])
    both = [(sg.sum(Y, axis=a), sg.max(Y, axis=a), sg.argmin(Y, axis=a), sg.logsumexp(Y, axis=a)) for a in (0, 1)]
    more = [sg.mean(Y, axis=0), sg.var(Y, axis=1), sg.prod(1 + Y / 64, axis=0), sg.min(Y), sg.argmax(Y), sg.max(Y)]
    return [*both[0], *both[1], *more, sg.any(X > 2, axis=0), sg.all(X > -3, axis=1), sg.sum(X > 0), sg.sum(X)]


@pattern
def gathered_and_scattered(leaf: Callable[..., sg.Expr]) -> list[sg.Expr]:
    table, places, x = leaf(9, "k"), leaf("n", dtype="int64"), leaf("n")
    rows = sg.take(table, places, axis=0)
    count = sg.zeros(9).at[places].add(1)
    last = sg.zeros(9).at[places].set(x)
    total = sg.zeros((9, 9)).at[places, sg.flip(places)].add(x)
    return [*with_gradients(sg.sum(sg.tanh(rows) * x[:, None]), table, x), count, last, total, x.at[1:].set(0)]


@pattern
def contractions(leaf: Callable[..., sg.Expr]) -> list[sg.Expr]:
    X, W, x, B = leaf("n", "m"), leaf("m", "k"), leaf("n"), leaf("k", 3, 3)
    return [
        X.T @ X, X @ W, x @ X, X @ (W @ W.T), sg.einsum("nm,mk,n->k", X, W, x), sg.einsum("nm,np->mp", X, X * 2),
        sg.einsum("n,m->nm", x, sg.sum(W, axis=1)), B @ B, sg.einsum("kij,kji->k", B, B),
        sg.einsum("kii->ik", B), sg.sum(X @ W, axis=0), B @ sg.sum(B, axis=0)[0],
    ]  # fmt: skip


@pattern
def nearest_centres(leaf: Callable[..., sg.Expr]) -> list[sg.Expr]:
    X, C = leaf("n", "m"), sg.pad(leaf("k", "m"), [(0, 1), (0, 0)])
    distance = sg.sum(sg.square(X[:, None, :] - C), axis=2)
    return [*with_gradients(sg.sum(sg.min(distance, axis=1)), X, C), sg.argmin(distance, axis=1)]


@pattern
def running_sums(leaf: Callable[..., sg.Expr]) -> list[sg.Expr]:
    X, x = leaf("n", "m"), leaf("n", dtype="int64")
    total = sg.cumulative_sum(X, axis=0)
    loss = sg.sum(sg.square(total) * sg.cumulative_sum(X * 0.5, axis=1))
    return [*with_gradients(loss, X), total * 2, sg.cumulative_sum(x) - x]


@pattern
def pieces(leaf: Callable[..., sg.Expr]) -> list[sg.Expr]:
    x, y, X = leaf("n"), leaf("m"), leaf("n", "m")
    joined = sg.concat([x, 2 * y, sg.flip(x), sg.square(x)[::2]])
    framed = sg.concat([sg.pad(X, 1), sg.zeros((1, X.shape[1] + 2))], axis=0)
    moved = sg.roll(X, 1, 0) + sg.roll(X, -2, 1) - sg.flip(X) * sg.repeat(x, 1)[:, None]
    apart = sg.reshape(sg.permute_dims(X), (-1,)) * sg.reshape(X, (-1,))
    weights = sg.arange(joined.shape[0]) % 3
    return [*with_gradients(sg.sum(joined * weights) + sg.sum(moved * moved), x, y, X), joined, framed, moved, apart]


@pattern
def four_axes(leaf: Callable[..., sg.Expr]) -> list[sg.Expr]:
    X, Y = leaf(2, "n", 3, "m"), leaf("n", 1, "m")
    product = sg.tanh(X) * Y
    return [
        *with_gradients(sg.sum(sg.square(sg.sum(product, axis=(0, 2)))), X, Y), sg.sum(product, axis=(1, 3)),
        sg.permute_dims(product, (3, 0, 2, 1)), sg.sum(X, axis=(0, 1), keepdims=True), sg.sum(X, axis=3)[..., ::-1],
    ]  # fmt: skip


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_at_the_edges_of_tiles(name: str) -> None:
    leaves: list[sg.Expr] = []

    def leaf(*shape: Any, dtype: str = "float64") -> sg.Expr:
        leaves.append(sg.placeholder(f"x{len(leaves)}", shape, dtype))
        return leaves[-1]

    with sg.Graph():
        outputs = PATTERNS[name](leaf)
    function = sg.function(leaves, outputs, options=OPTIONS["fused"])
    for i, sizes in enumerate(sizes_around(TILES, 0, 3001)):
        if fits(outputs, sizes, 40_000):
            feed = feed_for(leaves, sizes, i)
            compare(lambda feed: called(function, feed), outputs, feed, f"sizes {sizes}, values of seed {i}")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_element_does_not_depend_on_its_place(dtype: str) -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",), dtype)
    functions = [
        sg.exp, sg.expm1, sg.exp2, sg.log1p, sg.log, sg.tanh, sg.sigmoid, sg.softplus, sg.sin, sg.cos, sg.tan, sg.erf,
        sg.erfc, sg.atan, sg.cbrt, sg.sinh, sg.cosh, sg.sqrt, lambda x: x**1.7, lambda x: sg.sin(x) * x + sg.exp(x) * x,
        lambda x: sg.hypot(x, x * 3), sg.gelu, sg.silu, sg.log2, sg.log10,
    ]  # fmt: skip
    computed = sg.function([x], [f(x) for f in functions], options=OPTIONS["fused"])
    for value in (0.7, 1e-3, 3.3, 21.0):
        for size in (1, 7, 33, 1001):
            found = computed(np.full(size, value, dtype))
            for i, got in enumerate(found):
                assert len(np.unique(got)) == 1, f"function {i} at {value}, {size} elements"
                assert got[0] == computed(np.full(1, value, dtype))[i][0]


# Whose memory it is


def test_arguments_may_share_memory_and_have_any_layout() -> None:
    with sg.Graph():
        x, y, X = sg.placeholder("x", ("n",)), sg.placeholder("y", ("n",)), sg.placeholder("X", ("n", "n"))
    outputs = [x[::-1] + y, sg.cumulative_sum(x) * y, X.T @ x, sg.sum(X, axis=0) - y, x, X]
    inputs = [x, y, X]
    function = sg.function(inputs, outputs, options=OPTIONS["fused"])
    for size in (1, 8, 33, 300):
        memory = np.random.default_rng(size).integers(-9, 9, 2 * size * size + 4).astype(float)
        layouts = [memory[: size**2].reshape(size, size), memory[: size**2].reshape(size, size).T]
        layouts += [
            memory[: 2 * size**2].reshape(size, 2 * size)[:, ::-2],
            np.broadcast_to(memory[:size], (size, size)),
        ]
        for matrix in layouts:
            for first, second in [(memory[:size], memory[:size]), (memory[1 : size + 1], memory[: 2 * size : 2][::-1])]:
                feed = dict(zip(inputs, (first, second, matrix), strict=True))
                before = memory.tobytes()
                compare(lambda feed: called(function, feed), outputs, feed, f"size {size}")
                assert memory.tobytes() == before


def test_outputs_that_rewriting_makes_one_are_arrays_of_their_own() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    size, twice = sg.abs(x), sg.sum(x[:, None] * sg.ones(3), axis=0)
    outputs = [size, _again(size), size * 1, x, _again(x), sg.reshape(x, (-1, 1))[:, 0], twice, _again(twice), size]
    for options in OPTIONS.values():
        function = sg.function([x], outputs, options=options)
        for count in (1, 5, 1000):
            feed = {x: np.arange(count) - 7.0}
            compare(lambda feed, function=function: called(function, feed), outputs, feed, f"{count} elements")


def _again(x: sg.Expr) -> sg.Expr:
    return sg.negative(sg.negative(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [1, 7, 64, 20_001])
def test_updates_see_the_values_before_the_call(size: int) -> None:
    """Updates in place would be seen by outputs, by other updates, and by elements that are read later."""
    start = np.arange(size) % 7.0
    with sg.Graph():
        v, w = sg.variable(start, "v"), sg.variable(start[::-1].copy(), "w")
        x = sg.placeholder("x", (size,))
    updates = {v: (v[::-1] + sg.roll(w, 1) + x) % 16, w: (v - sg.cumulative_sum(w) * 0.5) % 16}
    step = sg.function([x], [v, sg.sum(v * w), v[::-1], updates[w]], updates=updates, options=OPTIONS["fused"])
    value = np.full(size, 0.25)
    old_v, old_w = start, start[::-1]
    held: list[tuple[Any, Any]] = []
    for _ in range(4):
        new_w = (old_v - np.cumsum(old_w) * 0.5) % 16
        results = step(value)
        for got, want in zip(results, [old_v, np.sum(old_v * old_w), old_v[::-1], new_w], strict=True):
            np.testing.assert_array_equal(got, want)
            held.append((got, np.array(want)))
        old_v, old_w = (old_v[::-1] + np.roll(old_w, 1) + value) % 16, new_w
    for got, want in held:
        np.testing.assert_array_equal(got, want)


# Accuracy


@pytest.fixture(scope="module")
def totals() -> dict[str, Any]:
    """Functions of a vector, one for each dtype: sum, mean, variance and logsumexp."""
    found = {}
    for dtype in ("float64", "float32"):
        with sg.Graph():
            x = sg.placeholder("x", ("n",), dtype)
        found[dtype] = sg.function([x], [sg.sum(x), sg.mean(x), sg.var(x), sg.logsumexp(x)], options=OPTIONS["fused"])
    return found


SAMPLES: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "uniform": lambda source, n: source.uniform(size=n),
    "normal": lambda source, n: source.normal(size=n),
    "far from zero": lambda source, n: 1000 + source.normal(size=n),
    "of many magnitudes": lambda source, n: source.choice([-1, 1], n) * 10.0 ** source.uniform(-8, 8, n),
    "equal": lambda source, n: np.full(n, 0.1),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sample", SAMPLES)
def test_sums_are_as_accurate_as_pairwise_ones(totals: dict[str, Any], dtype: str, sample: str) -> None:
    x = SAMPLES[sample](np.random.default_rng(1), 1_000_000).astype(dtype)
    exact = exact_totals(x)
    top = np.max(x)
    with np.errstate(over="ignore"):
        pairwise = [np.sum(x), np.mean(x), np.var(x), np.log(np.sum(np.exp(x - top))) + top]
    size = math.fsum(np.abs(x))
    # Pairwise sums add at most 16 + 3 + 13 numbers one after the other here, each with an error of half a unit.
    unit = float(np.finfo(dtype).eps)
    of_mean = 16 * size / x.size
    # What a mean is off by enters the variance as its square.
    bounds = [16 * size, of_mean, 17 * exact[2] + unit * of_mean**2, 20 + abs(exact[3])]
    for name, got, want, other, bound in zip(
        ("sum", "mean", "var", "logsumexp"), totals[dtype](x), exact, pairwise, bounds, strict=True
    ):
        error, allowed = abs(float(got) - want), abs(float(other) - want)
        shown = f"{name}: an error of {error:.3g}, NumPy's is {allowed:.3g}, its bound {unit * bound:.3g}"
        assert error <= max(allowed, unit * bound), shown


def exact_totals(x: Any) -> list[float]:
    wide = x.astype(np.float64)
    total = math.fsum(wide)
    mean = total / x.size
    top = float(wide.max())
    return [total, mean, math.fsum((wide - mean) ** 2) / x.size, math.log(math.fsum(np.exp(wide - top))) + top]


# Errors that only the data tell


@pytest.fixture(scope="module")
def gathering() -> Any:
    with sg.Graph():
        x, places = sg.placeholder("x", ("n",)), sg.placeholder("places", ("k",), "int64")
    taken = sg.take(x, places)
    spread = sg.zeros(x.shape).at[places].add(sg.sin(taken))
    return sg.function([x, places], [sg.sum(taken * taken), spread], options=OPTIONS["fused"])


@pytest.mark.parametrize("where", [0, 1, 100_000, 199_999])
@pytest.mark.parametrize("wrong", [50, -51, 2**62, -(2**63)])
def test_an_index_out_of_bounds_is_one_clear_error(gathering: Any, where: int, wrong: int) -> None:
    x = np.arange(50.0)
    places = np.arange(200_000) % 100 - 50
    good = gathering(x, places)
    bad = places.copy()
    bad[where] = wrong
    with pytest.raises(IndexError, match=f"index {wrong} is out of bounds for an axis of size 50"):
        gathering(x, bad)
    for first, second in zip(good, gathering(x, places), strict=True):
        assert np.asarray(first).tobytes() == np.asarray(second).tobytes()


def test_of_many_wrong_indices_one_is_told(gathering: Any) -> None:
    with pytest.raises(IndexError, match="is out of bounds for an axis of size 50"):
        gathering(np.zeros(50), np.arange(200_000) + 1000)
    with pytest.raises(IndexError, match="index 0 is out of bounds for an axis of size 0"):
        gathering(np.zeros(0), np.zeros(200_000, np.int64))
    assert [value.tolist() for value in gathering(np.zeros(0), np.zeros(0, np.int64))] == [0.0, []]


def test_a_matrix_that_is_not_positive_definite_is_an_error() -> None:
    with sg.Graph():
        A = sg.placeholder("A", ("n", 3, 3))
    function = sg.function([A], [sg.sum(sg.log(sg.diagonal(sg.cholesky(A @ A.mT - 1)[0])))], options=OPTIONS["fused"])
    good = np.broadcast_to(3 * np.eye(3), (2000, 3, 3)).copy()
    expected = function(good)
    bad = good.copy()
    bad[1500] = 0
    for _ in range(2):
        with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
            function(bad)
        assert function(good) == expected
