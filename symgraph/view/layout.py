"""A layered layout in plain Python, for machines without Graphviz.

The steps are those of K. Sugiyama, S. Tagawa, M. Toda, "Methods for visual understanding of hierarchical system
structures", IEEE Transactions on Systems, Man and Cybernetics 11 (1981): layers by longest path, dummy boxes on
arrows that cross layers, the order within a layer by barycentres, then positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from symgraph.view.scene import Arrow

_SWEEPS = 12
_GAP = 26.0
_LAYER_GAP = 54.0


class Point(NamedTuple):
    """A place in the picture; y grows downwards."""

    x: float
    y: float


class Layout(NamedTuple):
    """The centre of each box and the points that each arrow passes."""

    centres: list[Point]
    paths: list[list[Point]]
    width: float
    height: float


def lay_out(sizes: Sequence[tuple[float, float]], arrows: Sequence[Arrow]) -> Layout:
    """Return places for boxes of these sizes, so that arrows point down.

    Args:
        sizes: Width and height of each box.
        arrows: From the tail's number to the head's; they make no circle.
    """
    layers = _layers(len(sizes), arrows)
    widths = [width for width, _ in sizes]
    chains: list[list[int]] = []
    for arrow in arrows:
        chain = [arrow.tail]
        for layer in range(layers[arrow.tail] + 1, layers[arrow.head]):
            chain.append(len(layers))
            layers.append(layer)
            widths.append(12.0)
        chains.append([*chain, arrow.head])
    above: list[list[int]] = [[] for _ in layers]
    below: list[list[int]] = [[] for _ in layers]
    for chain in chains:
        for tail, head in itertools.pairwise(chain):
            above[head].append(tail)
            below[tail].append(head)
    rows = _ordered(layers, above, below)
    xs = _positions(rows, widths, above, below)
    heights = [max(sizes[i][1] if i < len(sizes) else 0.0 for i in row) for row in rows]
    tops = [0.0]
    for height in heights:
        tops.append(tops[-1] + height + _LAYER_GAP)
    points = [Point(xs[i], tops[layers[i]] + heights[layers[i]] / 2) for i in range(len(layers))]
    left = min(p.x - w / 2 for p, w in zip(points, widths, strict=True))
    points = [Point(p.x - left, p.y) for p in points]
    width = max(p.x + w / 2 for p, w in zip(points, widths, strict=True))
    return Layout(points[: len(sizes)], [[points[i] for i in chain] for chain in chains], width, tops[-1] - _LAYER_GAP)


def _layers(count: int, arrows: Sequence[Arrow]) -> list[int]:
    """Return each box's layer: below all its arguments; one without arguments just above its first user."""
    layers = [0] * count
    for arrow in sorted(arrows, key=lambda a: a.head):
        layers[arrow.head] = max(layers[arrow.head], layers[arrow.tail] + 1)
    entered = {arrow.head for arrow in arrows}
    for i in set(range(count)) - entered:
        layers[i] = min((layers[arrow.head] for arrow in arrows if arrow.tail == i), default=1) - 1
    return layers


def _ordered(layers: Sequence[int], above: Sequence[list[int]], below: Sequence[list[int]]) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(max(layers) + 1)]
    for i, layer in enumerate(layers):
        rows[layer].append(i)
    place = {i: float(position) for row in rows for position, i in enumerate(row)}
    best, fewest = [list(row) for row in rows], _crossings(rows, below, place)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        neighbours = above if down else below
        for row in rows if down else reversed(rows):
            centre = {i: _mean([place[j] for j in neighbours[i]], place[i]) for i in row}
            row.sort(key=lambda i: (centre[i], place[i]))
            for position, i in enumerate(row):
                place[i] = float(position)
        crossings = _crossings(rows, below, place)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _crossings(rows: Sequence[list[int]], below: Sequence[list[int]], place: dict[int, float]) -> int:
    total = 0
    for row in rows:
        ends = [place[j] for i in row for j in sorted(below[i], key=place.__getitem__)]
        total += sum(1 for k, end in enumerate(ends) for other in ends[k + 1 :] if other < end)
    return total


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _positions(
    rows: Sequence[list[int]], widths: Sequence[float], above: Sequence[list[int]], below: Sequence[list[int]]
) -> list[float]:
    xs = [0.0] * len(widths)
    for row in rows:
        x = 0.0
        for i in row:
            xs[i] = x + widths[i] / 2
            x += widths[i] + _GAP
    for sweep in range(_SWEEPS * 2):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wished = [_mean([xs[j] for j in (above[i] if down else below[i])], xs[i]) for i in row]
            for i, x in zip(row, _apart(wished, [widths[i] for i in row]), strict=True):
                xs[i] = x
    return xs


def _apart(wished: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Return positions nearest to those wished (least squares) that keep the order and do not overlap.

    With the gaps subtracted this is isotonic regression, which pooling adjacent violators solves.
    """
    offsets = [0.0]
    for left, right in itertools.pairwise(widths):
        offsets.append(offsets[-1] + (left + right) / 2 + _GAP)
    pools: list[tuple[float, int]] = []
    for wish, offset in zip(wished, offsets, strict=True):
        mean, count = wish - offset, 1
        while pools and pools[-1][0] > mean:
            other, size = pools.pop()
            mean, count = (mean * count + other * size) / (count + size), count + size
        pools.append((mean, count))
    spread = [mean for mean, count in pools for _ in range(count)]
    return [x + offset for x, offset in zip(spread, offsets, strict=True)]
