"""Time contestants in turn, round after round; and the arithmetic of what is reported."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from benchmarks.suite.contest import LIMIT, PEERS, SYMGRAPH, Run

Times = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Pace:
    """How long a contest is timed.

    Attributes:
        rounds: How many rounds at most.
        seconds: After this time no further round starts, once there are ``least``.
        least: How many rounds at least.
        block: A contestant whose call is shorter is called for so many seconds in a round.
        rest: How long all wait before a contestant's turn. The idle workers of OpenMP and OpenBLAS spin for up to
            0.1 s in the hope of more work; what spins for one contestant must not take the processor from the next.
        slow: A contestant whose call takes longer, in seconds, joins the first ``least`` rounds only.
    """

    rounds: int = 40
    seconds: float = 50.0
    least: int = 5
    block: float = 0.02
    rest: float = 0.2
    slow: float = 1.0


QUICK = Pace(rounds=5, seconds=4.0, least=3)


def time_in_turn(
    runs: Mapping[str, Run], pace: Pace, on_round: Callable[[int], None] = lambda _: None
) -> dict[str, list[float | None]]:
    """Return seconds per call of each contestant in each round; None where one sat out.

    Everyone has been called before. A turn is a rest, one call that is not timed (so that the caches hold the
    contestant's own data, as in a loop that calls it), then as many timed calls as fill a block. Turns are taken in
    a new order in each round.
    """
    estimates = {name: min(seconds_per_call(run, 1) for _ in range(2)) for name, run in runs.items()}
    counts = {name: max(1, round(pace.block / max(seconds, 1e-8))) for name, seconds in estimates.items()}
    order, shuffle = list(runs), random.Random(0).shuffle
    times: dict[str, list[float | None]] = {name: [] for name in runs}
    gc.collect()
    gc.freeze()  # what libraries hold for good is not looked through again during anyone's turn
    try:
        for index in _rounds(pace):
            on_round(index)
            shuffle(order)
            for name in order:
                if estimates[name] > pace.slow and index >= pace.least:
                    times[name].append(None)
                    continue
                time.sleep(pace.rest)
                seconds_per_call(runs[name], 1)
                times[name].append(seconds_per_call(runs[name], counts[name]))
    finally:
        gc.unfreeze()
    return times


def _rounds(pace: Pace) -> Iterator[int]:
    stop = time.perf_counter() + pace.seconds
    for index in range(pace.rounds):
        if index >= pace.least and time.perf_counter() > stop:
            return
        yield index


def seconds_per_call(run: Run, count: int) -> float:
    """Return how long a call takes, on average over so many."""
    function, arguments = run.function, run.arguments
    start = time.perf_counter()
    for _ in repeat(None, count):
        function(*arguments)
    return (time.perf_counter() - start) / count


def ratio(times: Times, name: str, other: str) -> float:
    """Return the median, over the rounds in which both ran, of one's time over the other's.

    Example:
        >>> ratio({"a": [1.0, 2.0, 30.0], "b": [1.0, 1.0, 10.0]}, "a", "b")
        2.0
    """
    pairs = zip(times[name], times[other], strict=True)
    return statistics.median(a / b for a, b in pairs if a is not None and b is not None)


def summarize(times: Times) -> dict[str, Any]:
    """Return the figures of one case: for each contestant seconds and its time over symgraph's; the best peer.

    ``faster`` is the best peer's time over symgraph's, ``over_limit`` symgraph's over the limit's, each where both ran.
    The best peer is the one with the least median ratio to symgraph (to the first contestant where symgraph is out).

    Example:
        >>> figures = summarize({"symgraph": [1.0, 1.0], "JAX": [3.0, 5.0], "PyTorch": [6.0, 6.0], "limit": [0.5, 0.5]})
        >>> figures["best_peer"], figures["faster"], figures["over_limit"]
        ('JAX', 4.0, 2.0)
    """
    figures: dict[str, Any] = {"contestants": {}}
    if not times:
        return figures
    base = SYMGRAPH if SYMGRAPH in times else next(iter(times))
    for name in times:
        measured = sorted(t for t in times[name] if t is not None)
        figures["contestants"][name] = {
            "seconds": statistics.median(measured),
            "least_seconds": measured[0],
            "rounds": len(measured),
            **({"over_symgraph": ratio(times, name, SYMGRAPH)} if SYMGRAPH in times else {}),
        }
    peers = [name for name in PEERS if name in times]
    if peers:
        figures["best_peer"] = min(peers, key=lambda name: ratio(times, name, base))
    if peers and SYMGRAPH in times:
        figures["faster"] = ratio(times, figures["best_peer"], SYMGRAPH)
    if {LIMIT, SYMGRAPH} <= set(times):
        figures["over_limit"] = ratio(times, SYMGRAPH, LIMIT)
    return figures
