"""A straight line of scalar operations: how long it takes to build, to differentiate and to compile.

There is nothing to fuse and nothing to vectorise; what is measured is whether a compiler's time grows with the number
of operations or faster. ``python -m benchmarks.deep`` tells symgraph's stages apart, with their memory and growth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import symgraph as sg
from benchmarks.suite import peers
from benchmarks.suite.contest import Array, Builder, Case, Model, Problem, Run, Skipped, Workload


def data(nodes: int) -> dict[str, Array]:
    """Return a number to start from."""
    return {"x": np.array(0.3)}


def chain(sin: Callable[[Any], Any], x: Any, nodes: int) -> Any:
    """Return a value that is about so many operations away from x, and depends on each of them."""
    value = x
    for i in range(2 * nodes // 5):
        value = sin(value) * 1.01 + x if i % 2 else value * x - 0.5
    return value


def model(nodes: int) -> Model:
    """Return the graph."""
    with sg.Graph():
        x = sg.placeholder("x")
    return Model([x], chain(sg.sin, x, nodes), [x])


def _builder(make: Callable[[Any], Builder], sine: Callable[[Any], Any], most: int, reason: str = "") -> Builder:
    """Return the builder of a contestant that takes chains of at most so many nodes."""

    def build(problem: Problem) -> Run:
        nodes = problem.case.parameters["nodes"]
        if nodes > most:
            raise Skipped(reason)
        return make(lambda library, x: chain(sine(library), x, nodes))(problem)

    return build


def casadi(problem: Problem) -> Run:
    """Return CasADi's run: compiled as C where that takes seconds, else by its own interpreter."""
    scalar = problem.case.parameters["nodes"] <= 1_000
    return _builder(lambda loss: peers.casadi(loss, scalar=scalar), lambda library: library.sin, 100_000)(problem)


WORKLOAD = Workload(
    name="deep",
    what="straight line of scalar operations",
    cases=[Case(f"{nodes:,} nodes", nodes=nodes) for nodes in (1_000, 10_000, 100_000)],
    tiny=Case("50 nodes", nodes=50),
    data=data,
    wrt=["x"],
    measure="compile",
    contestants={
        "symgraph": peers.symgraph(model),
        "symgraph eager": _builder(peers.eager, lambda library: library.sin, 100_000),
        "JAX": _builder(peers.jax, lambda library: library.numpy.sin, 10_000, "XLA takes minutes"),
        "PyTorch": _builder(peers.torch, lambda library: library.sin, 100_000),
        "torch.compile": _builder(peers.torch_compile, lambda library: library.sin, 1_000, "Inductor takes minutes"),
        "PyTensor": _builder(peers.pytensor, lambda library: library.sin, 1_000, "Numba takes minutes"),
        "CasADi": casadi,
        "autograd": _builder(peers.autograd, lambda library: library.numpy.sin, 100_000),
    },
)
