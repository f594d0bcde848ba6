"""Start worker processes, listen to them, and put together what they tell."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from benchmarks.suite.contest import SYMGRAPH, Case, Workload
from benchmarks.suite.machine import thread_environment, without_folders
from benchmarks.suite.timing import Pace

ROOT = Path(__file__).parents[2]
SILENCE = 600.0
COMPILERS = (SYMGRAPH, "JAX")
MEMORY_CONTESTANTS = (SYMGRAPH, "PyTorch", "JAX")
MEMORY_CASE = {"small": {"n": 1_000, "d": 20}, "large": {"n": 1_000_000, "d": 20}}

Watch = Callable[[str], None]


class Died(Exception):  # noqa: N818  (a worker's end, which is an expected event)
    """A worker ended early; ``name`` is the contestant that it was at."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name, self.reason = name, reason


def case_figures(
    workload: Workload, case: Case, contestants: Sequence[str], threads: int, pace: Pace, watch: Watch
) -> dict[str, Any]:
    """Return the row of one case: run all contestants, again without the one that brings the process down."""
    broken: dict[str, str] = {}
    while True:
        arguments = {
            "workload": workload.name, "case": case.label, "threads": threads, "contestants": list(contestants),
            "broken": broken, "pace": asdict(pace),
        }  # fmt: skip
        try:
            return _row(workload, case, _events("rounds", arguments, threads), pace, watch)
        except Died as death:
            if death.name in broken or not death.name:
                raise
            broken[death.name] = death.reason


def _row(workload: Workload, case: Case, events: Iterator[dict[str, Any]], pace: Pace, watch: Watch) -> dict[str, Any]:
    row: dict[str, Any] = {"workload": workload.name, "case": case.label, "dtype": case.dtype, "contestants": {}}
    for event in events:
        kind = event.pop("event")
        if kind == "at":
            watch(f"{event['name']}: {event['doing']}")
        elif kind == "contestant":
            row["contestants"][event.pop("name")] = event
        elif kind == "round":
            watch(f"round {event['index'] + 1} of at most {pace.rounds}")
        elif kind == "figures":
            for name, figures in event.pop("contestants").items():
                row["contestants"][name].update(figures)
            row.update(event)
    return row


def first_calls(
    workload: Workload, case: Case, contestants: Sequence[str], threads: int, repeats: int, watch: Watch
) -> dict[str, Any]:
    """Return, for each contestant, the seconds to its first result in a fresh process: cache empty, then warm."""
    found: dict[str, Any] = {}
    for name in contestants:
        kinds: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
        failed = ""
        for index in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                for kind, results in kinds.items():
                    watch(f"{name}: first call, {kind} cache ({index + 1} of {repeats})")
                    arguments = {
                        "workload": workload.name, "case": case.label, "threads": threads, "contestant": name,
                    }  # fmt: skip
                    told = _only("first", arguments, threads, cache_environment(folder))
                    failed = failed or told.get("failed", "")
                    results.append(told)
            if failed:
                break
        found[name] = {"failed": failed} if failed else {kind: _medians(told) for kind, told in kinds.items()}
    return found


def memory_peaks(threads: int, watch: Watch, contestants: Sequence[str] = MEMORY_CONTESTANTS) -> dict[str, Any]:
    """Return for each contestant the bytes that logistic regression takes beyond its data, at its peak."""
    peaks = {}
    for name in contestants:
        watch(f"{name}: peak memory")
        arguments = {"workload": "logistic", "threads": threads, "contestant": name, **MEMORY_CASE}
        # Blocks of this size and more are given back to the system when they are freed, so that the peak shows them.
        peaks[name] = _only("memory", arguments, threads, {"MALLOC_MMAP_THRESHOLD_": "131072"})
    return {"workload": "logistic", **MEMORY_CASE["large"], "contestants": peaks}


def cache_environment(folder: str) -> dict[str, str]:
    """Return the variables that put compiled code in a folder, and let JAX keep everything there."""
    return {
        "SYMGRAPH_CACHE_DIR": f"{folder}/symgraph",
        "JAX_COMPILATION_CACHE_DIR": f"{folder}/jax",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch",
        "PYTENSOR_FLAGS": f"base_compiledir={folder}/pytensor",
    }


def _medians(told: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: statistics.median(each[key] for each in told) for key in ("build", "first")}


def _only(task: str, arguments: Mapping[str, Any], threads: int, environment: Mapping[str, str]) -> dict[str, Any]:
    try:
        (told,) = _events(task, arguments, threads, environment)
    except Died as death:
        return {"failed": death.reason}
    told.pop("event")
    return told


def _events(
    task: str, arguments: Mapping[str, Any], threads: int, environment: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield what a worker tells, as it tells it; raise Died where it crashes or is silent for too long."""
    variables = {**os.environ, **thread_environment(threads), **(environment or {})}
    # An installed package has its bytecode; without it a first call would measure Python's compiler.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "benchmarks.suite.worker", task, json.dumps(arguments)]
    at = ""
    # Some libraries leave files in the working folder.
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=folder,
            env=variables,
        )
        try:
            for line in _lines(process):
                event = json.loads(line)
                at = event["name"] if event["event"] == "at" else at
                yield event
            if process.wait() != 0:
                errors.seek(0)
                last = [line.strip() for line in errors.read().splitlines() if line.strip()][-1:]
                raise Died(
                    at,
                    f"the process ended with code {process.returncode}"
                    + "".join(f": {without_folders(x)}" for x in last),
                )
        except Empty:
            raise Died(at, f"no result within {SILENCE:.0f} s") from None
        finally:
            process.kill()
            process.wait()


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """Yield lines; raise Empty when none comes for too long."""
    queue: Queue[str | None] = Queue()
    stream = process.stdout
    assert stream is not None

    def read() -> None:
        for line in stream:
            queue.put(line)
        queue.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (line := queue.get(timeout=SILENCE)) is not None:
        yield line
