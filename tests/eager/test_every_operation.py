"""Every elementwise operation of the registry, executed and declared: the same values and derivatives to second order.

The two engines share their rules, so this says nothing about a rule; it says that the tape applies them as reverse
mode on a graph does, with broadcasting undone and masks kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph import eager
from symgraph.op import REGISTRY, Kind
from symgraph.ops.construct import apply

DIFFERENTIABLE = [
    name
    for name, op in REGISTRY.items()
    if op.kind is Kind.ELEMENTWISE and any(op.derivative or ()) and not op.attributes
]


def _samples(name: str) -> list[Any]:
    rng = np.random.default_rng(len(name))
    shapes = [(3, 4), (4,), (3, 1)]
    op = REGISTRY[name]
    domain = op.domain if len(op.domain) == op.arity else ((-2.0, 2.0),) * (op.arity or 1)
    arrays = [rng.uniform(*interval, shapes[i]) for i, interval in enumerate(domain)]
    return [arrays[0] > 0, *arrays[1:]] if name == "where" else arrays


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_both_engines_agree_to_second_order(name: str) -> None:
    op, arrays = REGISTRY[name], _samples(name)
    leaves = [eager.tensor(array) for array in arrays]
    floats = [leaf.requires_grad_() for leaf in leaves if leaf.is_floating_point()]
    value = apply(op, *leaves)
    weights = np.linspace(0.5, 1.5, value.numel()).reshape(value.shape)
    first = eager.autograd.grad((value * eager.tensor(weights)).sum(), floats, create_graph=True)
    squares = sum((g * g).sum() for g in first)
    second = [eager.zeros_like(leaf) for leaf in floats]
    if squares.requires_grad:
        second = list(eager.autograd.grad(squares, floats, materialize_grads=True))

    with sg.Graph():
        nodes = [sg.placeholder(f"x{i}", array.shape, array.dtype) for i, array in enumerate(arrays)]
    inputs = [node for node in nodes if node.dtype == np.float64]
    declared = apply(op, *nodes)
    gradients = sg.gradients((declared * weights).sum(), inputs, unconnected="zero")
    seconds = sg.gradients([(g * g).sum() for g in gradients], inputs, unconnected="zero")
    expected = sg.evaluate([declared, *gradients, *seconds], dict(zip(nodes, arrays, strict=True)))
    for ours, theirs in zip([value, *first, *second], expected, strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-12, atol=1e-14)
