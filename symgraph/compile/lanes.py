"""Lanes: along which axis the iterations of each step become the lanes of vectors.

A step that reads or writes an array in memory with all its axes wants the axis along which that array is
contiguous; one with a single axis wants that one. Steps that run over the same axes and read each other element
by element want the same. The others have no opinion and take that of the steps which use them, then of those
which they use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from symgraph.compile.axes import Rank
from symgraph.compile.lower import copy
from symgraph.compile.steps import Index, Read, Step, is_cheap, result_axes
from symgraph.dims import Size
from symgraph.expr import constant_value

SHORT = 16
"""An axis known to be shorter does not fill vectors."""

SLIGHT = 8
"""So many cheap operations for one row are not worth vectors of their own."""


def is_slight(steps: Sequence[Step]) -> bool:
    """Tell whether steps cost so little that they may as well run one by one."""
    return len(steps) <= SLIGHT and all(len(step.axes) == 1 and is_cheap(step) for step in steps)


def is_row_product(step: Step, lane: int | None, arrays: set[Step]) -> bool:
    """Tell whether a step sums up a matrix in memory, which has its lanes along the rows, times a vector."""
    if step.node.op.name != "sum" or len(step.axes) != 2 or len(step.reduced) != 1:
        return False
    product = step.reads[0].step
    if product is None or product.node.op.name != "multiply" or set(product.axes) != set(step.axes):
        return False
    summed = step.axes[next(iter(step.reduced))]
    axes = [[product.axes[i.axis] for i in each.indices if i.axis is not None] for each in product.reads]
    return any(
        is_array(each, arrays) and len(own) == 2 and own[-1] == lane and other == [summed]
        for each, own, other in zip(product.reads, axes, axes[::-1], strict=True)
    )


def arrays_of(steps: Sequence[Step], results: set[Step]) -> set[Step]:
    """Return the steps whose values are arrays in memory: results, and what library calls read and write."""
    arrays = {step for step in results if step.node.ndim}
    for step in steps:
        if step.opaque or step.is_scatter:
            arrays.add(step)
        for operand in step.reads:
            if operand.step is not None and (operand.whole or step.opaque):
                arrays.add(operand.step)
    return arrays


def choose_lanes(
    steps: Sequence[Step],
    ranks: dict[int, Rank],
    sizes: dict[int, Size],
    arrays: set[Step],
    before: Mapping[Step, int | None],
) -> dict[Step, int | None]:
    """Return for each step of an outermost loop the axis of its lanes; None where it has none.

    Args:
        steps: What runs in the loop.
        ranks: The rank of each axis, outer ones higher.
        sizes: The size of each axis.
        arrays: The steps whose values are arrays in memory with their axes in order.
        before: The lanes of the steps of earlier loops, along which their scratch is contiguous.
    """
    loops = [step for step in steps if not step.rows]
    families = _families(loops)
    may = {family: _may(members, sizes) for family, members in families.items()}
    chosen: dict[Step, int | None] = {}
    for family, members in families.items():
        votes = Counter(axis for step in members for axis in _votes(step, arrays, before) if axis in may[family])
        if len(family.axes) == 1:
            votes.update(axis for axis in family.axes if axis in may[family])
        if votes:
            chosen[family] = max(votes, key=lambda axis: (votes[axis], ranks[axis]))
        elif not may[family]:
            chosen[family] = None
    _spread(families, may, chosen, ranks)
    _follow_wider(families, may, chosen, arrays)
    return {step: chosen[family] for family, members in families.items() for step in members}


def _families(steps: Sequence[Step]) -> dict[Step, list[Step]]:
    """Group steps that run over the same axes and read each other, or one matrix product, at the very element; the
    first stands for all."""
    parent = {step: step for step in steps}

    def find(step: Step) -> Step:
        while parent[step] is not step:
            parent[step] = parent[parent[step]]
            step = parent[step]
        return step

    readers: dict[tuple[object, frozenset[int]], Step] = {}
    for step in steps:
        axes = frozenset(step.axes)
        same = [readers.setdefault((step.node, axes), step)]
        for operand in step.reads:
            source = operand.step
            if source is None:
                continue
            if source in parent and not source.reduced and set(source.axes) == axes:
                same.append(source)
            elif source.rows and len(axes) == 2:
                same.append(readers.setdefault((source, axes), step))
        for other in same:
            parent[find(step)] = find(other)
    families: dict[Step, list[Step]] = {}
    for step in steps:
        families.setdefault(find(step), []).append(step)
    return families


def _may(members: Sequence[Step], sizes: dict[int, Size]) -> set[int]:
    """Return the axes that are long enough, and along which no two lanes can write to one place."""
    clash = {step.axes[a] for step in members if step.is_scatter for a in step.reduced}
    every = {axis for step in members for axis in step.axes} - clash
    return {axis for axis in every if not isinstance(size := sizes[axis], int) or size >= SHORT}


def _votes(step: Step, arrays: set[Step], before: Mapping[Step, int | None]) -> Iterator[int]:
    """Iterate over the axes along which arrays with all axes of a step are contiguous."""
    every = set(range(len(step.axes)))
    for operand in step.reads:
        index = _contiguous(operand, arrays, before)
        if index is None or index.axis is None or abs(index.step) != 1:
            continue
        if every <= {i.axis for i in operand.indices}:
            yield step.axes[index.axis]
    if step in arrays and every <= set(step.places):
        kept = [place for place in step.places if place is not None]
        if kept:
            yield step.axes[kept[-1]]


def _contiguous(operand: Read, arrays: set[Step], before: Mapping[Step, int | None]) -> Index | None:
    """Return at which index the axis is read along which an operand in memory is contiguous."""
    shape = operand.source.shape
    if is_array(operand, arrays):
        return next((i for i, size in zip(operand.indices[::-1], shape[::-1], strict=True) if size != 1), None)
    lane = None if operand.step is None else before.get(operand.step)
    if operand.step is None or lane is None:
        return None
    return next((i for i, axis in zip(operand.indices, result_axes(operand.step), strict=True) if axis == lane), None)


def is_array(operand: Read, arrays: set[Step]) -> bool:
    """Tell whether what is read is an array in memory with its axes in order."""
    if operand.step is not None:
        return operand.step in arrays
    if operand.source.ndim == 0 or operand.source.op.name == "arange":
        return False
    value = constant_value(operand.source)
    return value is None or value.size > 1


def _spread(
    families: dict[Step, list[Step]],
    may: dict[Step, set[int]],
    chosen: dict[Step, int | None],
    ranks: dict[int, Rank],
) -> None:
    """Give families without an opinion that of their neighbours, until all have one.

    Those with fewer axes by more than one are asked only where no others have an opinion.
    """
    family_of = {step: family for family, members in families.items() for step in members}
    users: dict[Step, list[Step]] = {family: [] for family in families}
    sources: dict[Step, list[Step]] = {family: [] for family in families}
    for step, family in family_of.items():
        for operand in step.reads:
            other = None if operand.step is None else family_of.get(operand.step)
            if other is not None and other is not family:
                sources[family].append(other)
                users[other].append(family)
    waiting = [family for family in reversed(families) if family not in chosen]
    far = False
    while waiting:
        for family in waiting:
            least = 0 if far else len(family.axes) - 1
            for neighbours in (users[family], sources[family]):
                near = [chosen.get(other) for other in neighbours if len(other.axes) >= least]
                opinions = Counter(axis for axis in near if axis in may[family])
                if opinions:
                    chosen[family] = max(opinions, key=lambda axis: (opinions[axis], ranks[axis]))
                    break
        left = [family for family in waiting if family not in chosen]
        is_stuck = len(left) == len(waiting)
        if is_stuck and far:
            chosen[left[0]] = max(may[left[0]], key=ranks.__getitem__)
        far = is_stuck and not far
        waiting = [family for family in left if family not in chosen]


def _follow_wider(
    families: dict[Step, list[Step]], may: dict[Step, set[int]], chosen: dict[Step, int | None], arrays: set[Step]
) -> None:
    """Give families whose values are read again and again, by steps over more axes, the lanes of these.

    They then read the data with a stride, but once. Otherwise the others would read them with a stride each time.
    """
    family_of = {step: family for family, members in families.items() for step in members}
    wanted: dict[Step, set[int | None]] = {}
    for step, family in family_of.items():
        for operand in step.reads:
            source = operand.step
            if source in family_of and not source.reduced and set(source.axes) < set(step.axes):
                wanted.setdefault(family_of[source], set()).add(chosen[family])
    for family, axes in wanted.items():
        if len(axes) == 1 and axes <= may[family] and arrays.isdisjoint(families[family]):
            chosen[family] = axes.pop()


def pack(steps: Sequence[Step], axis: int, lanes: dict[Step, int | None], arrays: set[Step]) -> list[Step]:
    """Return the steps with rows of arrays copied first where lanes would read them with a stride again and again.

    Scratch within a loop of lanes is contiguous along the lanes. The copies get their lanes along the axis.
    """
    made: dict[tuple[Any, ...], Step] = {}
    found: list[Step] = []
    for step in steps:
        if lanes.get(step) == axis:
            for k, operand in enumerate(step.reads):
                if _is_strided(step, operand, axis, arrays):
                    places = [i.axis for i in operand.indices if i.axis is not None]
                    # One may read only the beginning of what another reads.
                    key = (operand.source, *((step.axes[place] == axis, step.sizes[place]) for place in places))
                    if key not in made:
                        made[key] = _row(operand, [step.axes[place] for place in places])
                        lanes[made[key]] = axis
                        found.append(made[key])
                    step.reads[k] = Read(made[key].node, operand.indices, operand.guards, step=made[key])
        found.append(step)
    return found


def _is_strided(step: Step, operand: Read, axis: int, arrays: set[Step]) -> bool:
    if operand.whole or operand.guards or not is_array(operand, arrays):
        return False
    if any(not i.is_aligned and (i.data is not None or size != 1)
           for i, size in zip(operand.indices, operand.source.shape, strict=True)):  # fmt: skip
        return False
    used = [step.axes[i.axis] for i in operand.indices if i.axis is not None]
    return len(used) > 1 and axis in used and used[-1] != axis and len(used) < len(step.axes)


def _row(operand: Read, axes: Sequence[int]) -> Step:
    """Return the step that copies what an operand reads."""
    places: list[int | None] = []
    count = 0
    for index in operand.indices:
        places.append(None if index.axis is None else count)
        count += index.axis is not None
    shape = operand.source.shape
    sizes = [size for size, place in zip(shape, places, strict=True) if place is not None]
    own = replace(operand, indices=tuple(Index(place) for place in places))
    return Step(copy(operand.source), sizes, places, [own], axes=list(axes))
