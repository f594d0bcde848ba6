"""Measure what a gradient costs: the time of value and gradient together, over that of the value alone.

Run ``python -m benchmarks.gradient_cost``. The two functions of a workload are called in turn, round after
round; the figure is the median of the ratios.
"""

from __future__ import annotations

import statistics
from importlib import import_module
from typing import Any

import symgraph as sg
from benchmarks.suite.contest import Case, Run
from benchmarks.suite.timing import Pace, ratio, time_in_turn
from benchmarks.workloads import names

PACE = Pace(rounds=1_000, seconds=2.0, rest=0.0)


def cost(module: Any, case: Case) -> tuple[float, float]:
    """Return the median time of the value, and the median ratio."""
    model = module.model(**case.parameters)
    arrays = list(module.data(**case.parameters).values())
    runs = {
        "value": Run(sg.function(model.inputs, model.value), arrays),
        "both": Run(
            sg.function(model.inputs, [model.value, sg.gradients(model.value, list(model.parameters))]), arrays
        ),
    }
    for run in runs.values():
        run.results()
    times = time_in_turn(runs, PACE)
    return statistics.median(t for t in times["value"] if t is not None), ratio(times, "both", "value")


def main() -> None:
    """Print one line for each case of each workload that is a value with its gradients."""
    for name in names():
        module = import_module(f"benchmarks.workloads.{name}")
        for case in module.WORKLOAD.cases if hasattr(module, "model") else ():
            if module.model(**case.parameters).outputs is None:
                alone, times = cost(module, case)
                label = f"{name}, {case.label}"
                print(f"{label:44} value {alone * 1e3:9.3f} ms   value and gradient {times:5.2f} x", flush=True)


if __name__ == "__main__":
    main()
