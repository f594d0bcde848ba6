"""Measure how building, differentiating and compiling a scalar graph grow with its number of nodes.

Run ``python -m benchmarks.deep``. Each size has a fresh process and an empty cache; the growth is the slope between
two sizes on logarithmic axes: 1 is linear.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time

import symgraph as sg
from benchmarks.workloads.deep import WORKLOAD, model
from symgraph.expr import topological

STAGES = ("built", "differentiated", "compiled", "memory")


def stages(nodes: int) -> dict[str, float]:
    """Return the seconds of each stage, the first call being part of compiling, and the memory in megabytes."""
    # What every graph needs is loaded and compiled before, by a small one.
    _first_call(50)
    before = _peak()
    start = time.perf_counter()
    declared = model(nodes)
    built = time.perf_counter()
    (gradient,) = sg.gradients(declared.value, list(declared.parameters))
    differentiated = time.perf_counter()
    sg.function(list(declared.inputs), [declared.value, gradient])(0.3)
    compiled = time.perf_counter()
    return {
        "nodes": len(topological([declared.value])),
        "with gradient": len(topological([declared.value, gradient])),
        "built": built - start,
        "differentiated": differentiated - built,
        "compiled": compiled - differentiated,
        "memory": _peak() - before,
    }


def _first_call(nodes: int) -> None:
    declared = model(nodes)
    sg.function(list(declared.inputs), [declared.value, sg.gradients(declared.value, list(declared.parameters))])(0.3)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print one line for each size, and one for the growth since the size before."""
    last: dict[str, float] = {}
    for case in WORKLOAD.cases:
        with tempfile.TemporaryDirectory() as folder:
            told = subprocess.run(
                [sys.executable, "-m", "benchmarks.deep", str(case.parameters["nodes"])],
                env={**os.environ, "SYMGRAPH_CACHE_DIR": folder},
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        found: dict[str, float] = json.loads(told)
        print(
            f"{found['nodes']:7,.0f} nodes, {found['with gradient']:7,.0f} with the gradient: "
            f"built in {found['built']:6.2f} s, differentiated in {found['differentiated']:6.2f} s, "
            f"compiled in {found['compiled']:7.2f} s, {found['memory']:6.0f} MB",
            flush=True,
        )
        if last:
            steps = math.log(found["with gradient"] / last["with gradient"])
            growth = {stage: math.log(found[stage] / last[stage]) / steps for stage in STAGES}
            print("        growth: " + ", ".join(f"{stage} {slope:.2f}" for stage, slope in growth.items()), flush=True)
        last = found


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(stages(int(sys.argv[1]))))
    else:
        main()
