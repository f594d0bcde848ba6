"""Measuring several ways of doing the same work side by side: interleaved rounds, medians, ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

_SHORTEST_SAMPLE = 1e-3


class Timing(NamedTuple):
    """Median seconds of one call, and the median over rounds of the ratio to the first contestant's time."""

    seconds: float
    ratio: float


def race(contestants: Mapping[str, Callable[[], object]], seconds: float, rounds: int = 15) -> dict[str, Timing]:
    """Time calls round after round, every contestant once in each round.

    A sample repeats a short call until it takes a millisecond, so that the clock's steps do not show. Fewer
    rounds are run when the time is up, but at least three.

    Args:
        contestants: What is called, by name; the first one is what ratios refer to. All are warmed up already.
        seconds: How long to go on for, about.
        rounds: How many rounds are run at most.

    Example:
        >>> timings = race({"one": lambda: sum(range(10)), "ten": lambda: sum(range(20000))}, 0.1)
        >>> timings["one"].ratio, timings["ten"].ratio > 1
        (1.0, True)
    """
    repeats = {name: _repeats(call) for name, call in contestants.items()}
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    end = time.perf_counter() + seconds
    for done in range(rounds):
        if done >= 3 and time.perf_counter() > end:
            break
        for name, call in contestants.items():
            samples[name].append(_sample(call, repeats[name]))
    first = samples[next(iter(contestants))]
    return {
        name: Timing(statistics.median(times), statistics.median(a / b for a, b in zip(times, first, strict=True)))
        for name, times in samples.items()
    }


def _sample(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _repeats(call: Callable[[], object]) -> int:
    repeats = 1
    while (taken := _sample(call, repeats) * repeats) < _SHORTEST_SAMPLE:
        repeats = max(repeats + 1, min(repeats * 10, int(repeats * _SHORTEST_SAMPLE / max(taken, 1e-9)) + 1))
    return repeats


def format_seconds(seconds: float) -> str:
    """Return a time as a person reads it.

    Example:
        >>> format_seconds(3.21e-6), format_seconds(0.0123)
        ('3.21 µs', '12.3 ms')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
