"""Measure what a gradient costs: the time of value and gradient together, over that of the value alone.

Run ``python benchmarks/gradient_cost.py``. The two functions of a workload are called in turn, round after
round; the figure is the median of the ratios.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from workloads import WORKLOADS, Workload

import symgraph as sg


def seconds(call: Callable[..., Any], data: list[Any]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    call(*data)
    return time.perf_counter() - start


def ratio(workload: Workload, budget: float = 2.0) -> tuple[float, float]:
    """Return the median time of the value, and the median ratio."""
    gradients = sg.gradients(workload.value, workload.parameters)
    value = sg.function(workload.inputs, workload.value)
    both = sg.function(workload.inputs, [workload.value, gradients])
    value(*workload.data), both(*workload.data)
    alone, ratios = [], []
    stop = time.perf_counter() + budget
    while len(ratios) < 5 or time.perf_counter() < stop:
        alone.append(seconds(value, workload.data))
        ratios.append(seconds(both, workload.data) / alone[-1])
    return statistics.median(alone), statistics.median(ratios)


def main() -> None:
    """Print one line for each workload."""
    for name, declare in WORKLOADS.items():
        alone, cost = ratio(declare())
        print(f"{name:28} value {alone * 1e3:9.3f} ms   value and gradient {cost:5.2f} x", flush=True)


if __name__ == "__main__":
    main()
