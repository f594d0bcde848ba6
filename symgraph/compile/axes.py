"""Global axes: iteration axes of all steps that are indexed identically become one axis, and axes are ranked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


Rank: TypeAlias = "tuple[int, int, int]"


def rank(members: Sequence[Step], bound: frozenset[int]) -> dict[int, Rank]:
    """Rank free axes, outer ones higher: those with larger strides in what the members read and give, then those
    that occur more often. What only counts (an identity matrix, the side of a diagonal) has nothing in memory."""
    stride: dict[int, int] = {}
    count: dict[int, int] = {}
    for step in [each for each in members if not each.counts] or members:
        places: list[Iterable[int | None]] = [
            step.places,
            *([index.axis for index in operand.indices] for operand in step.reads),
        ]
        if not step.rows:
            places.append(range(len(step.axes)))
        for shape in places:
            axes = [step.axes[p] for p in shape if p is not None]
            found = [axis for axis in dict.fromkeys(axes) if axis not in bound]
            for place, axis in enumerate(found):
                stride[axis] = stride.get(axis, 0) + len(found) - 1 - 2 * place
                count[axis] = count.get(axis, 0) + 1
    return {axis: (stride[axis], count[axis], -axis) for axis in stride}
