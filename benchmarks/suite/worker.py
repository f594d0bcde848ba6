"""The process in which measurements happen: a fresh one for each case, and for each first call.

``python -m benchmarks.suite.worker TASK JSON`` writes one JSON object a line: what it is at, then results. Tasks are

* ``rounds``: build, check and time all contestants of a case, in turn;
* ``first``: build one contestant, and call it once, as the first thing that this process does;
* ``memory``: measure how much more memory a call of one contestant takes at its peak.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from benchmarks.suite import timing
from benchmarks.suite.contest import (
    REFERENCES,
    Array,
    Case,
    Problem,
    Run,
    Skipped,
    in_double,
    largest_difference,
    tolerance,
)
from benchmarks.suite.machine import hold_to, without_folders
from benchmarks.workloads import load

Tell = Callable[..., None]


def run_rounds(
    tell: Tell, workload: str, case: str, threads: int, contestants: list[str], broken: dict[str, str], pace: Any
) -> None:
    """Tell what each contestant's results are worth, then the figures of those that are right."""
    work = load(workload)
    problem = work.problem(work.case(case), threads)
    reference = _reference(tell, problem, broken)
    ready: dict[str, Run] = {}
    for name in contestants:
        if name not in work.contestants:
            continue
        if name in broken:
            tell("contestant", name=name, status="failed", reason=broken[name])
            continue
        tell("at", name=name, doing="building and checking")
        try:
            run = work.contestants[name](problem)
            difference = largest_difference(run.results(), reference)
        except Exception as error:
            status = "skipped" if isinstance(error, (Skipped, ImportError)) else "failed"
            tell("contestant", name=name, status=status, reason=_reason(error))
            continue
        right = difference <= tolerance(problem.case.dtype)
        tell("contestant", name=name, status="right" if right else "wrong", difference=difference)
        if right:
            ready[name] = run
    for name, run in ready.items():
        tell("at", name=name, doing="warming up")
        _warm_up(run)
    times = timing.time_in_turn(ready, timing.Pace(**pace), lambda index: tell("round", index=index)) if ready else {}
    tell("figures", **timing.summarize(times))


def _reference(tell: Tell, problem: Problem, broken: dict[str, str]) -> list[Array]:
    """Return the results, in float64, of the first reference that runs."""
    for name in REFERENCES:
        if name in problem.workload.contestants and f"reference {name}" not in broken:
            tell("at", name=f"reference {name}", doing="computing what is right")
            try:
                return problem.workload.contestants[name](in_double(problem)).results()
            except Exception as error:
                tell("at", name=f"reference {name}", doing=f"failed: {_reason(error)}")
    raise RuntimeError(f"{problem.workload.name}: nothing to compare with runs here")


def _warm_up(run: Run, seconds: float = 0.3, calls: int = 100) -> None:
    stop = time.perf_counter() + seconds
    for _ in range(calls):
        timing.seconds_per_call(run, 1)
        if time.perf_counter() > stop:
            return


def run_first(tell: Tell, workload: str, case: str, threads: int, contestant: str) -> None:
    """Tell the seconds from the builder's call to its return, and from there to the first result."""
    work = load(workload)
    problem = work.problem(work.case(case), threads)
    _import(contestant)
    start = time.perf_counter()
    try:
        run = work.contestants[contestant](problem)
        built = time.perf_counter()
        run.function(*run.arguments)
    except Exception as error:
        tell("first", failed=_reason(error))
        return
    tell("first", build=built - start, first=time.perf_counter() - built)


def _import(contestant: str) -> None:
    """Load a contestant's library, and let it find its devices: this is not compiling."""
    import_module("numba")
    if contestant == "JAX":
        import_module("jax").numpy.zeros(1).block_until_ready()
    elif contestant in ("PyTorch", "torch.compile"):
        import_module("torch")
    elif contestant == "autograd":
        import_module("autograd.scipy.special")
    elif contestant in ("PyTensor", "CasADi"):
        import_module(contestant.lower())


def run_memory(
    tell: Tell, workload: str, small: dict[str, Any], large: dict[str, Any], threads: int, contestant: str
) -> None:
    """Tell how far memory in use rises above what it is before the first call on the large data, in bytes.

    Before it, the large data is there (in the contestant's own arrays), and calls on small data have compiled.
    The second large call is measured: what the first one leaves for good counts, what it needed for compiling does
    not. The peak is the kernel's own high-water mark of this process.
    """
    work = load(workload)
    builder = work.contestants[contestant]
    try:
        run = builder(work.problem(Case("large", **large), threads))
        arguments = builder(work.problem(Case("small", **small), threads)).arguments
        for _ in range(3):
            run.function(*arguments)
        before = _settled()
        run.function(*run.arguments)
        between = _settled()
        Path("/proc/self/clear_refs").write_text("5")  # 5: the high-water mark starts anew
        run.function(*run.arguments)
        peak = _status("VmHWM")
    except Exception as error:
        tell("memory", failed=_reason(error))
        return
    tell("memory", peak=peak - before, kept=between - before)


def _settled() -> int:
    """Return the bytes in use, after what is free has been given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def _reason(error: BaseException) -> str:
    """Return an error's name and the first line that it has to say."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = without_folders(lines[0])[:160] if lines else ""
    return said if isinstance(error, Skipped) else f"{type(error).__name__}: {said}".rstrip(": ")


TASKS = {"rounds": run_rounds, "first": run_first, "memory": run_memory}


def main(task: str, arguments: str) -> None:
    """Run a task; results go to standard output, whatever libraries print to standard error."""
    stream: TextIO = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")

    def tell(event: str, **values: Any) -> None:
        stream.write(json.dumps({"event": event, **values}) + "\n")

    given = json.loads(arguments)
    hold_to(given["threads"])
    TASKS[task](tell, **given)


if __name__ == "__main__":
    main(*sys.argv[1:])
