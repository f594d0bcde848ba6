"""Storage: where the value of each step lives.

A value that is used in the iteration that computes it is a scalar. One that outlives its loops gets a
buffer over just those axes along which it does: the axes of its result that are not bound by the loops
which all its users share with it. What outlives the loop over the rows of a block, but not the block, has
the rows of one block. Scratch is laid out in the order of the loops that run over it, lanes innermost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from symgraph.compile.nest import Group, Schedule
from symgraph.compile.steps import Step, result_axes
from symgraph.dims import Size


@dataclass(frozen=True)
class Place:
    """Where a value lives.

    Attributes:
        loops: How many of the step's loops are open where the value becomes known.
        scope: How many of them all users share.
        places: The axes of the result that its buffer has, in the order in which it has them; None for a scalar.
        block: The block whose rows the buffer has, instead of all of an axis.
        is_result: Whether the buffer is handed back.
    """

    loops: int
    scope: int
    places: tuple[int, ...] | None
    block: Group | None
    is_result: bool


def plan(schedule: Schedule, results: set[Step]) -> dict[Step, Place]:
    """Return where the value of each step lives."""
    scopes: dict[Step, int] = {}
    users: dict[Step, list[Step]] = {}
    depths = {step: known_after(schedule, step) for step in schedule.steps}
    for step in schedule.steps:
        for operand in step.reads:
            source = operand.step
            if source is not None:
                shared = (
                    0 if step.opaque else shared_loops(schedule.paths[source], schedule.paths[step], depths[source])
                )
                scopes[source] = min(scopes.get(source, shared), shared)
                users.setdefault(source, []).append(step)
    return {
        step: _place(schedule, step, depths[step], scopes.get(step, depths[step]), users.get(step, []), step in results)
        for step in schedule.steps
    }


def _place(schedule: Schedule, step: Step, loops: int, scope: int, users: Sequence[Step], is_result: bool) -> Place:
    if step in schedule.arrays:
        if step.node.ndim == 0 and not step.opaque:
            return Place(loops, 0, None, None, is_result)
        return Place(loops, 0, tuple(range(step.node.ndim)), None, is_result)
    bound, block = set(), None
    for group in schedule.loops_of(step)[:scope]:
        if group.rows is None:
            bound.add(group.axis)
        else:
            block = group
    axes = result_axes(step)
    places = [k for k, axis in enumerate(axes) if axis is not None and axis not in bound]
    if block is not None and all(axes[k] != block.axis for k in places):
        block = None
    order = _order(schedule, step, users)
    places.sort(key=lambda k: order.index(axes[k]) if axes[k] in order else len(order))
    return Place(loops, scope, tuple(places) or None, block, is_result)


def _order(schedule: Schedule, step: Step, users: Sequence[Step]) -> list[int | None]:
    """Return the axes of the loops around a step from the outside in, with that of the lanes last."""
    if step.rows:
        block = schedule.paths[step][0]
        loops = next((u for u in users if not u.rows and not u.opaque and schedule.paths[u][0] is block), None)
        if loops is None:
            return list(result_axes(step))
        step = loops
    groups = [group for group in schedule.loops_of(step) if group.rows is None]
    return [g.axis for g in groups if not g.lanes] + [g.axis for g in groups if g.lanes]


def known_after(schedule: Schedule, step: Step) -> int:
    """Count the loops that are open where a step's value is known: those outside the first that it reduces over."""
    loops = schedule.loops_of(step)
    reduced = {step.axes[a] for a in step.reduced}
    return next((depth for depth, group in enumerate(loops) if group.axis in reduced), len(loops))


def shared_loops(source: Sequence[Group], user: Sequence[Group], limit: int) -> int:
    """Count the loops that two steps are in together, up to a limit."""
    count = 0
    for mine, other in zip(source, user, strict=False):
        if mine is not other or count == limit:
            break
        if mine.axis is not None:
            count += 1
    return count


def shape_in(step: Step, place: Place) -> tuple[Size, ...]:
    """Return the sizes of a value's buffer."""
    axes = result_axes(step)
    block = place.block
    return tuple(
        block.rows if block is not None and block.rows is not None and axes[k] == block.axis else step.node.shape[k]
        for k in place.places or ()
    )
