"""Where figures come from: the processor, the versions, and the number of threads that everyone gets."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "numpy", "scipy", "numba", "llvmlite", "jax", "jaxlib", "torch", "pytensor", "casadi", "autograd",
)  # fmt: skip


def thread_environment(threads: int) -> dict[str, str]:
    """Return the variables that hold every library to so many threads; they are read when a library is loaded.

    OpenMP is for PyTorch and for Numba's ``prange`` where it runs on OpenMP, MKL for PyTorch's contractions, OpenBLAS
    for NumPy's and SciPy's, Numba's own for kernels by hand, NPROC for the thread pool of XLA. How their idle threads
    wait is left as users have it: a worker that sleeps at once (``OMP_WAIT_POLICY=PASSIVE``) would slow its own
    library's next call, and turns are kept apart by a rest instead.
    """
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA", "VECLIB_MAXIMUM", "NUMEXPR")
    return {
        **{f"{name}_NUM_THREADS": str(threads) for name in names},
        "OMP_DYNAMIC": "FALSE",
        "MKL_DYNAMIC": "FALSE",
        "NPROC": str(threads),
    }


def hold_to(threads: int) -> None:
    """Let this process run on so many processors only, where the system can: no pool then gains from being larger."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def facts(threads: int) -> dict[str, Any]:
    """Return what a reader needs to know to compare figures, and nothing that names the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor(),
        "cores": cores,
        "threads": threads,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def without_folders(text: str) -> str:
    """Return a message with its paths cut down to names of files.

    Example:
        >>> without_folders("cannot open /home/me/x.c: no such file")
        'cannot open x.c: no such file'
    """
    return " ".join(Path(word).name if word.count("/") > 1 else word for word in text.split())


def processor() -> str:
    """Return the processor's name with its widest vectors, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    lines = dict(
        (part.strip() for part in line.split(":", 1)) for line in path.read_text().splitlines() if line.count(":")
    )
    flags = lines.get("flags", lines.get("Features", "")).split()
    width = next(
        (name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("asimd", "NEON")) if flag in flags), ""
    )
    model = " ".join(lines.get("model name", platform.machine()).replace("(R)", "").replace("(TM)", "").split())
    return f"{model}, {width}" if width else model


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
