"""The workloads, one file each; ``benchmarks/suite/contest.py`` says what a file holds."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from benchmarks.suite.contest import Workload

ORDER = (
    "rosenbrock", "logistic", "softmax", "gmm", "black_scholes", "mlp", "ba", "gp",
    "hessian_logistic", "hessian_mlp", "hessian_matfac", "hessian_rosenbrock", "deep",
)  # fmt: skip


def names() -> list[str]:
    """Return the names of all workloads: those of ORDER first, then others by name."""
    found = {module.name for module in pkgutil.iter_modules(__path__)}
    return [name for name in ORDER if name in found] + sorted(found - set(ORDER))


def load(name: str) -> Workload:
    """Return the workload of this name."""
    workload: Workload = import_module(f"{__name__}.{name}").WORKLOAD
    return workload
