"""Random graphs mean the same to every engine, before and after rewriting, and so do their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings

import symgraph as sg
from symgraph.eager import autograd
from symgraph.rewrite import choose_laws, rewrite
from tests.helpers.engines import assert_same, compiled, eager, emitted, interpreted, replay, tensors
from tests.helpers.graphs import graphs

Array = np.ndarray[Any, Any]
Sample = tuple[list[sg.Expr], dict[sg.Expr, Array]]

EXACT = choose_laws(("exact",))
TOLERANCE = {"float64": (1e-9, 1e-9), "float32": (2e-4, 2e-4)}


def quick(examples: int) -> settings:
    """Return the settings of a property: the same examples in every run."""
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=checks)


def check(found: list[Any], expected: list[Any], dtype: str, engine: str) -> None:
    rtol, atol = TOLERANCE[dtype]
    for i, (got, want) in enumerate(zip(found, expected, strict=True)):
        assert_same(got, want, rtol, atol, f"output {i}, {engine}")


def differentiated(outputs: list[sg.Expr], leaves: list[sg.Expr]) -> list[sg.Expr]:
    """Return the gradient of each output's sum by each leaf."""
    return [g for output in outputs for g in sg.gradients(output, leaves, unconnected="zero")]


def show(sample: Sample) -> None:
    outputs, feed = sample
    for leaf, value in feed.items():
        note(f"{leaf!r} = {value!r}")
    for output in outputs:
        note(sg.to_text(output))


@quick(300)
@given(graphs("float64", special=True))
def test_special_values_in_float64(sample: Sample) -> None:
    check_engines(sample, "float64")


@quick(120)
@given(graphs("float32", special=True))
def test_special_values_in_float32(sample: Sample) -> None:
    check_engines(sample, "float32")


def check_engines(sample: Sample, dtype: str) -> None:
    show(sample)
    outputs, feed = sample
    expected = interpreted(outputs, feed)
    check(eager(outputs, feed), expected, dtype, "eager")
    check(emitted(outputs, feed, optimize=False), expected, dtype, "emitted")
    exact = rewrite(outputs, EXACT, keep=set(feed))
    check(interpreted(exact, feed), expected, dtype, "after exact laws")
    rewritten = rewrite(outputs, keep=set(feed))
    check(emitted(outputs, feed), interpreted(rewritten, feed), dtype, "emitted after rewriting")


@quick(300)
@given(graphs("float64"))
def test_ordinary_values_before_and_after_rewriting(sample: Sample) -> None:
    show(sample)
    outputs, feed = sample
    expected = interpreted(outputs, feed)
    check(interpreted(rewrite(outputs, keep=set(feed)), feed), expected, "float64", "rewritten")
    check(emitted(outputs, feed), expected, "float64", "emitted")


@quick(300)
@given(graphs("float64", steps=12))
def test_gradients(sample: Sample) -> None:
    show(sample)
    outputs, feed = sample
    derived = differentiated(outputs, list(feed))
    expected = interpreted(derived, feed)
    check(emitted(derived, feed), expected, "float64", "emitted")
    check(emitted([*outputs, *derived], feed, optimize=False)[len(outputs) :], expected, "float64", "not rewritten")


@quick(80)
@given(graphs("float64", steps=12))
def test_gradients_of_the_eager_engine(sample: Sample) -> None:
    show(sample)
    outputs, feed = sample
    expected = interpreted(differentiated(outputs, list(feed)), feed)
    values = tensors(feed, requires_grad=True)
    found: list[Array] = []
    for tensor in replay(outputs, values):
        if tensor.requires_grad:
            total = tensor.sum()
            found += [
                g.numpy()
                for g in autograd.grad(
                    total, list(values.values()), retain_graph=True, materialize_grads=True, allow_unused=True
                )
            ]
        else:
            found += [np.zeros_like(value) for value in feed.values()]
    check(found, expected, "float64", "eager")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_compiled(dtype: str) -> None:
    @quick(15 if dtype == "float64" else 5)
    @given(graphs(dtype, special=True))
    def run(sample: Sample) -> None:
        show(sample)
        outputs, feed = sample
        derived = list(dict.fromkeys([*outputs, *differentiated(outputs[:1], list(feed))]))
        before = frozen(feed)
        found = compiled(derived, feed)
        check(found, interpreted(rewrite(derived, keep=set(feed)), feed), dtype, "compiled")
        check_ownership(found, feed, before)

    run()


@quick(40)
@given(graphs("float64"))
def test_nothing_is_written_to_and_nothing_is_shared(sample: Sample) -> None:
    outputs, feed = sample
    results = list(dict.fromkeys([*outputs, *differentiated(outputs[:1], list(feed))]))
    before = frozen(feed)
    for found in (emitted(results, feed), sg.function(list(feed), results, backend="numpy")(*feed.values())):
        check_ownership(found, feed, before)


def frozen(feed: dict[sg.Expr, Array]) -> list[bytes]:
    """Make the arrays read-only and return their bytes."""
    for value in feed.values():
        value.flags.writeable = False
    return [value.tobytes() for value in feed.values()]


def check_ownership(found: list[Any], feed: dict[sg.Expr, Array], before: list[bytes]) -> None:
    """Check that results may be written to, share no memory, and that the inputs are as they were."""
    arrays = [a for a in found if isinstance(a, np.ndarray)]
    for i, array in enumerate(arrays):
        assert array.flags.writeable
        assert not any(np.shares_memory(array, other) for other in [*arrays[:i], *feed.values()])
    assert [value.tobytes() for value in feed.values()] == before
