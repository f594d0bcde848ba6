"""Measure how long a scalar graph takes to build and to differentiate, for rising numbers of nodes.

Run ``python benchmarks/deep.py``.
"""

from __future__ import annotations

import time

import symgraph as sg
from symgraph.expr import Expr, topological


def chain(nodes: int) -> tuple[Expr, Expr]:
    """Return a graph of about so many nodes, and the leaf that it starts from."""
    with sg.Graph():
        x = sg.placeholder("x")
    value = x
    for i in range(2 * nodes // 5):
        value = sg.sin(value) * 1.01 + x if i % 2 else value * x - 0.5
    return value, x


def main() -> None:
    """Print one line for each size."""
    for nodes in (1_000, 10_000, 100_000):
        start = time.perf_counter()
        value, x = chain(nodes)
        built = time.perf_counter()
        (gradient,) = sg.gradients(value, [x])
        derived = time.perf_counter()
        counts = len(topological([value])), len(topological([value, gradient]))
        print(
            f"{counts[0]:7,} nodes, {counts[1]:7,} with the gradient: "
            f"built in {built - start:5.2f} s, differentiated in {derived - built:5.2f} s"
        )


if __name__ == "__main__":
    main()
