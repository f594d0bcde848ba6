"""The emitted NumPy module computes what the compiled function computes, for every operation."""

from __future__ import annotations

from typing import Any

import numpy as np

import symgraph as sg
from tests.export.samples import ELEMENTWISE, STRUCTURED, declare_elementwise, declare_structured
from tests.export.test_source_of_every_operation import run_source


def check(nodes: list[sg.Expr], feed: dict[sg.Expr, Any]) -> None:
    compiled = sg.function(list(feed), nodes)(*feed.values())
    exported = run_source(sg.to_source(nodes, inputs=list(feed)), *feed.values())
    for node, one, other in zip(nodes, compiled, exported, strict=True):
        tolerance = 2e-5 if node.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=sg.to_text(node))


def test_elementwise_operations_compiled_and_exported_agree() -> None:
    with sg.Graph():
        samples = [declare_elementwise(name, prefix=f"{name}_") for name in ELEMENTWISE]
    check([sample.node for sample in samples], {leaf: v for sample in samples for leaf, v in sample.feed.items()})


def test_structured_expressions_compiled_and_exported_agree() -> None:
    with sg.Graph():
        samples = [declare_structured(name, prefix=f"s{i}_") for i, name in enumerate(STRUCTURED)]
    check([sample.node for sample in samples], {leaf: v for sample in samples for leaf, v in sample.feed.items()})
