"""Global axes: iteration axes of all steps that are indexed identically become one axis, and axes are ranked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeAlias

from symgraph.compile.steps import Read, Step, result_axes
from symgraph.dims import Size
from symgraph.expr import Expr


class _Axes:
    """Iteration axes of all steps and leaves, united into global axes by reads at identical indices."""

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.members: list[set[int]] = []
        self.size_of: list[Size] = []

    def new(self, owner: int, size: Size) -> int:
        self.parent.append(len(self.parent))
        self.members.append({owner})
        self.size_of.append(size)
        return len(self.parent) - 1

    def find(self, axis: int) -> int:
        while self.parent[axis] != axis:
            self.parent[axis] = self.parent[self.parent[axis]]
            axis = self.parent[axis]
        return axis

    def unite(self, first: int, second: int) -> None:
        """Make two axes of one size one, unless some step would then have one axis twice."""
        a, b = self.find(first), self.find(second)
        if a == b or self.size_of[a] != self.size_of[b]:
            return
        if len(self.members[a]) < len(self.members[b]):
            a, b = b, a
        if self.members[a].isdisjoint(self.members[b]):
            self.members[a] |= self.members[b]
            self.members[b] = set()
            self.parent[b] = a


def unify(steps: dict[Expr, Step]) -> dict[int, Size]:
    """Give every step its global axes, and return the size of each."""
    axes = _Axes()
    for owner, step in enumerate(steps.values()):
        step.axes = [axes.new(owner, size) for size in step.sizes]
    results = {node: result_axes(step) for node, step in steps.items()}
    leaves: list[tuple[Step, Read]] = []
    for step in steps.values():
        for operand in step.reads:
            if operand.source in steps:
                _unite_read(axes, step, operand, results[operand.source])
            elif not operand.whole:
                leaves.append((step, operand))
    leaf_axes: dict[Expr, list[int | None]] = {}
    for step, operand in leaves:
        leaf = operand.source
        if leaf not in leaf_axes:
            owner = len(steps) + len(leaf_axes)
            leaf_axes[leaf] = [None if size == 1 else axes.new(owner, size) for size in leaf.shape]
        _unite_read(axes, step, operand, leaf_axes[leaf])
    for step in steps.values():
        step.axes = [axes.find(a) for a in step.axes]
    return {axes.find(a): axes.size_of[a] for a in range(len(axes.parent))}


def _unite_read(axes: _Axes, step: Step, operand: Read, source_axes: Sequence[int | None]) -> None:
    for index, axis in zip(operand.indices, source_axes, strict=True):
        if axis is not None and index.is_aligned and index.axis is not None:
            axes.unite(step.axes[index.axis], axis)


Rank: TypeAlias = "tuple[bool, int, int, int]"


def rank(members: Sequence[Step], bound: frozenset[int]) -> dict[int, Rank]:
    """Rank free axes, outer ones higher.

    First comes the axis along which products are cut into blocks, then those with larger strides in what the members
    read and give, then those that occur more often. What only counts (an identity matrix, the side of a diagonal) has
    nothing in memory, and no say.
    """
    cut = {step.axes[step.rows[0]] for step in members if step.rows}
    shapes: list[list[int]] = []
    for step in members:
        if step.counts:
            continue
        places: list[Iterable[int | None]] = [step.places, *map(_places, step.reads)]
        if not step.rows:
            places.append(range(len(step.axes)))
        shapes += [[step.axes[p] for p in shape if p is not None] for shape in places]
    strides, counts = _strides(shapes, bound), Counter(chain.from_iterable(map(dict.fromkeys, shapes)))
    free = {axis for step in members for axis in step.axes} - bound
    return {axis: (axis in cut, strides.get(axis, 0), counts[axis], -axis) for axis in free}


def choose_rows(steps: Sequence[Step]) -> None:
    """Choose the axis along which each product may be cut into blocks: that with the largest stride in what is given.

    Whatever the product takes is then made of rows as they lie in memory.
    """
    if any(step.rows for step in steps):
        given = [(step, operand) for step in steps for operand in step.reads if operand.step is None]
        shapes = [[step.axes[p] for p in _places(operand) if p is not None] for step, operand in given]
        strides, ranks = _strides(shapes, frozenset()), rank(steps, frozenset())
        for step in steps:
            if step.rows:
                axes = {row: step.axes[row] for row in step.rows}
                step.rows = (max(step.rows, key=lambda row: (strides.get(axes[row], 0), ranks[axes[row]][1:])),)


def _places(operand: Read) -> list[int | None]:
    return [index.axis for index in operand.indices]


def _strides(shapes: Iterable[Sequence[int]], bound: frozenset[int]) -> dict[int, int]:
    """Return for each free axis whether it is among the outer (more) or the inner ones (less) of these shapes."""
    found: dict[int, int] = {}
    for shape in shapes:
        axes = [axis for axis in dict.fromkeys(shape) if axis not in bound]
        for place, axis in enumerate(axes):
            found[axis] = found.get(axis, 0) + len(axes) - 1 - 2 * place
    return found
