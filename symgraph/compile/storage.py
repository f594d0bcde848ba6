"""Storage: where the value of each step lives.

A value that is used in the iteration that computes it is a scalar. One that outlives its loops gets a
buffer over just those axes along which it does: the axes of its result that are not bound by the loops
which all its users share with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from symgraph.compile.schedule import Group, Schedule, Step, loops_of, result_axes
from symgraph.dims import Size
from symgraph.expr import Expr


@dataclass(frozen=True)
class Place:
    """Where a value lives.

    Attributes:
        loops: How many of the step's loops are open where the value becomes known.
        scope: How many of them all users share.
        places: The axes of the result that its buffer has; None where it is a scalar.
        is_result: Whether the buffer is handed back.
    """

    loops: int
    scope: int
    places: tuple[int, ...] | None
    is_result: bool


def plan(schedule: Schedule, outputs: Sequence[Expr]) -> dict[Expr, Place]:
    """Return where the value of each step lives."""
    scopes: dict[Expr, int] = {}
    whole: set[Expr] = set()
    depths = {node: _known_after(step) for node, step in schedule.steps.items()}
    for step in schedule.steps.values():
        for operand in step.reads:
            source = schedule.steps.get(operand.source)
            if source is not None:
                shared = 0 if step.opaque else _shared(source.path, step.path, depths[source.node])
                scopes[source.node] = min(scopes.get(source.node, shared), shared)
                if operand.whole:
                    whole.add(source.node)
    results = set(outputs)
    return {
        node: _place(step, depths[node], scopes.get(node, depths[node]), node in whole, node in results)
        for node, step in schedule.steps.items()
    }


def _place(step: Step, loops: int, scope: int, is_whole: bool, is_result: bool) -> Place:
    result_is_array = is_result and step.node.ndim > 0
    if result_is_array or step.opaque or step.node.op.name.startswith("scatter") or is_whole:
        if step.node.ndim == 0 and not step.opaque:
            return Place(loops, 0, None, is_result)
        return Place(loops, 0, tuple(range(step.node.ndim)), is_result)
    bound = {group.axis for group in loops_of(step)[:scope]}
    places = tuple(k for k, axis in enumerate(result_axes(step)) if axis is not None and axis not in bound)
    return Place(loops, scope, places or None, is_result)


def _known_after(step: Step) -> int:
    """Count the loops that are open where a step's value is known: those outside the first that it reduces over."""
    loops = loops_of(step)
    reduced = {step.axes[a] for a in step.reduced}
    return next((depth for depth, group in enumerate(loops) if group.axis in reduced), len(loops))


def _shared(source: Sequence[Group], user: Sequence[Group], limit: int) -> int:
    count = 0
    for mine, other in zip(source, user, strict=False):
        if mine is not other or count == limit:
            break
        if mine.axis is not None:
            count += 1
    return count


def shape_in(step: Step, place: Place) -> tuple[Size, ...]:
    """Return the sizes of a value's buffer."""
    return tuple(step.node.shape[k] for k in place.places or ())
