"""Measure a step of Adam over one large array, given its gradient: in place, with new arrays, and by PyTorch.

Run ``python -m benchmarks.training``. The contestants take turns, round after round; each has taken the same steps
before, with the same result. The figure is the median of the ratios within a round.
"""

from __future__ import annotations

import statistics
from importlib.util import find_spec
from typing import Any

import numpy as np

import symgraph as sg
from benchmarks.suite.contest import Run
from benchmarks.suite.timing import Pace, ratio, time_in_turn

SIZES = (10_000, 1_000_000, 10_000_000)
THREADS = 2
PACE = Pace(rounds=40, seconds=20.0)
IN_PLACE = "symgraph"
STEPS = 3


def contestants(start: np.ndarray[Any, Any], slope: np.ndarray[Any, Any]) -> dict[str, Run]:
    """Return the steps; each contestant has taken a few, which led all to the same place."""
    options = sg.Options(threads=THREADS)
    with sg.Graph() as graph:
        gradient = sg.placeholder("gradient", start.shape)
        variable = sg.variable(start, name="w")
        updates = dict(sg.train.Adam().apply_gradients([(gradient, variable)]).updates)
    step = sg.function([gradient], None, updates=updates, options=options)
    pure = sg.function([gradient, *updates], list(updates.values()), options=options)
    values = [graph.initial_value(each)[()] for each in updates]
    for _ in range(STEPS):
        step(slope)
        values = pure(slope, *values)
    runs = {IN_PLACE: Run(step, [slope]), "new arrays": Run(pure, [slope, *values])}
    found = [step.session.value(variable), values[0]] if step.session is not None else []
    if find_spec("torch"):
        import torch

        torch.set_num_threads(THREADS)
        for how in ("fused", "foreach"):
            parameter = torch.tensor(start)
            parameter.grad = torch.tensor(slope)
            optimizer = torch.optim.Adam([parameter], **{how: True})
            for _ in range(STEPS):
                optimizer.step()
            runs[f"PyTorch, {how}"] = Run(optimizer.step, [])
            found.append(parameter.numpy())
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-12, atol=1e-12)
    return runs


def main() -> None:
    """Print one line for each contestant at each size."""
    source = np.random.default_rng(0)
    for size in SIZES:
        runs = contestants(source.normal(size=size), source.normal(size=size))
        times = time_in_turn(runs, PACE)
        for name in runs:
            seconds = statistics.median(t for t in times[name] if t is not None)
            label = f"{size:,} numbers, {name}"
            print(f"{label:40} {seconds * 1e3:9.3f} ms   {ratio(times, name, IN_PLACE):5.2f} x", flush=True)


if __name__ == "__main__":
    main()
