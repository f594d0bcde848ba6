"""The nest of loops: which run, what runs in them, and in which order.

The nest is built from the outside in: each step chooses its outermost axis, and joins the first loop over
that axis that comes after everything it needs. A step may share a loop with a step it needs when that one
has its element ready in the same iteration: it carries the axis, does not reduce over it, and is read at the
very index. Everything else waits for a later loop. The body of each loop is scheduled the same way over the
remaining axes.

What shares an outermost loop then decides how that loop runs: with its iterations as the lanes of vectors,
one by one with lanes in the loops inside, or by blocks of rows, within which some steps do the one, some the
other, and matrix products are library calls on the rows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from typing import NamedTuple, TypeAlias

from symgraph.compile.axes import Rank, rank
from symgraph.compile.lanes import arrays_of, choose_lanes, is_row_product, is_slight, pack
from symgraph.compile.steps import Read, Step, make_opaque
from symgraph.dims import Size
from symgraph.expr import Expr

ROWS_OF_PRODUCTS = 128
"""Rows of a block with matrix products."""

ROWS_OF_LANES = 32
"""Rows of a block in which some steps have their lanes along the rows, some along another axis, or that are multiplied
with a vector."""

MOVED_TOGETHER = 16
"""So many steps at most are moved to a later loop with one that is."""


@dataclass(eq=False)
class Group:
    """Steps that run together: in one loop over a global axis, or straight through when there is none.

    Attributes:
        axis: The global axis.
        steps: What runs in it.
        lanes: Whether iterations are the lanes of vectors.
        rows: How many rows are worked on together; the loop over the rows of a block is one of its children.
        children: What it consists of.
    """

    axis: int | None
    steps: list[Step]
    lanes: bool = False
    rows: int | None = None
    children: list[Group] = field(default_factory=list)


@dataclass
class Schedule:
    """The result of scheduling.

    Attributes:
        steps: Everything that is computed, operands first.
        computes: The step that computes a node.
        groups: What runs at the outermost level, in order.
        paths: The loops that each step runs in, outermost first, and last the group without a loop if it is in one.
        sizes: The size of each global axis.
        arrays: The steps whose values are arrays in memory, with all their axes in order.
        lanes: The axis of the lanes of each step in a loop, None where it has none.
    """

    steps: list[Step]
    computes: dict[Expr, Step]
    groups: list[Group]
    paths: dict[Step, tuple[Group, ...]]
    sizes: dict[int, Size]
    arrays: set[Step]
    lanes: dict[Step, int | None]

    def loops_of(self, step: Step) -> tuple[Group, ...]:
        """Return the loops that a step runs in, outermost first."""
        path = self.paths[step]
        return path if path[-1].axis is not None else path[:-1]


def nest(
    steps: list[Step], computes: dict[Expr, Step], sizes: dict[int, Size], results: set[Step], fuse: bool
) -> Schedule:
    """Return the loops that run the steps.

    Args:
        steps: What is computed, operands first.
        computes: The step of each node.
        sizes: The size of each global axis.
        results: The steps whose values are handed back.
        fuse: Whether loops are shared; otherwise every step has loops of its own.
    """
    _mark_shared(steps)
    groups = _group(steps, frozenset(), lambda step: None, fuse)
    done: list[Group] = []
    for group in groups:
        if group.steps[0].rows and all(step.rows for step in group.steps):
            for step in group.steps:
                make_opaque(step)
                done.append(Group(None, [step]))
        else:
            done.append(group)
    arrays = arrays_of(steps, results)
    lanes: dict[Step, int | None] = {}
    for group in done:
        if group.axis is not None:
            _arrange(group, sizes, arrays, lanes, fuse)
    return Schedule(_in_order(done), computes, done, _paths(done), sizes, arrays, lanes)


def _arrange(
    group: Group, sizes: dict[int, Size], arrays: set[Step], before: dict[Step, int | None], fuse: bool
) -> None:
    """Decide how an outermost loop runs, and build what is in it."""
    axis = group.axis
    assert axis is not None
    ranks = rank(group.steps, frozenset())
    lanes = choose_lanes(group.steps, ranks, sizes, arrays, before)
    loops = [step for step in group.steps if not step.rows]
    along = [step for step in loops if lanes[step] == axis]
    products = [step for step in loops if lanes[step] != axis and is_row_product(step, lanes[step], arrays)]
    if len(loops) < len(group.steps):
        group.rows = ROWS_OF_PRODUCTS
    elif len(along) == len(loops):
        group.lanes = True
    elif along and is_slight(along) and not products:
        lanes |= dict.fromkeys(along)
    elif along or products:
        group.rows = ROWS_OF_LANES
    before |= lanes
    _fill(group, lanes, fuse)


def pack_rows(schedule: Schedule) -> Schedule:
    """Return the schedule with rows of arrays copied where lanes would read them with a stride again and again."""
    changed = False
    for group in schedule.groups:
        if group.axis is not None:
            packed = pack(group.steps, group.axis, schedule.lanes, schedule.arrays)
            if len(packed) > len(group.steps):
                group.steps = packed
                _fill(group, schedule.lanes, True)
                changed = True
    if not changed:
        return schedule
    groups = schedule.groups
    return replace(schedule, steps=_in_order(groups), paths=_paths(groups))


def _fill(group: Group, lanes: dict[Step, int | None], fuse: bool) -> None:
    axis = group.axis
    assert axis is not None
    bound = frozenset() if group.rows is not None else frozenset({axis})
    group.children = _nest(group.steps, bound, lanes, group.lanes, axis if group.rows is not None else None, fuse)


def _nest(
    members: Sequence[Step],
    bound: frozenset[int],
    lanes: dict[Step, int | None],
    in_lanes: bool,
    first: int | None,
    fuse: bool,
) -> list[Group]:
    """Build the loops within a loop.

    Args:
        members: What runs in them.
        bound: The axes of the loops around.
        lanes: The axis whose iterations are lanes, for each step.
        in_lanes: Whether a loop around has lanes.
        first: The axis that is the outermost: that of the rows in a block.
        fuse: Whether loops are shared.
    """
    groups = _group(members, bound, (lambda step: None) if in_lanes else lanes.__getitem__, fuse, first)
    for group in groups:
        if group.axis is not None:
            group.children = _nest(group.steps, bound | {group.axis}, lanes, in_lanes or group.lanes, None, fuse)
    return groups


# One level


Key: TypeAlias = "tuple[int, bool]"


def _group(
    members: Sequence[Step],
    bound: frozenset[int],
    lane_of: Callable[[Step], int | None],
    fuse: bool,
    first: int | None = None,
) -> list[Group]:
    """Group steps into the loops of one level, in order."""
    ranks = rank(members, bound)
    keys = {step: _key(step, bound, ranks, lane_of, first) for step in members}
    before = {host: _attached(host, keys) for host in members if host.before}
    along = {step for steps in before.values() for step in steps}
    keys |= {step: keys[host] for host, steps in before.items() for step in steps}
    members = [step for step in members if step not in along]
    # What needs no loop comes first, so that loops which use it need not wait for others.
    places: list[Key | None] = [None]
    by_key: dict[Key | None, list[int]] = {None: [0]}
    place: dict[Step, int] = {}
    order = _ordered(members, before, keys, ranks) if fuse else members

    def together(need: Need) -> bool:
        source, key = need.operand.step, keys[need.step]
        assert source is not None
        if keys[source] != key or _is_call(source, first):
            return False
        if key is None or (source in along and key[0] not in source.axes):
            return True
        return _ready(source, need.step, need.operand, key[0])

    for step in order:
        key = keys[step]
        alone = _is_call(step, first) or not fuse
        earliest = 0
        for need in _needs(step, before):
            if need.operand.step in place:
                there = place[need.operand.step]
                earliest = max(earliest, there if not alone and together(need) else there + 1)
        found = None
        if not alone:
            candidates = by_key.setdefault(key, [])
            position = bisect_left(candidates, earliest)
            found = candidates[position] if position < len(candidates) else None
        if found is None:
            found = len(places)
            places.append(key)
            if not alone:
                by_key.setdefault(key, []).append(found)
        for one in (*before.get(step, ()), step):
            place[one] = found
    if fuse and len(places) > 2:
        stays = before.keys() | {one for attached in before.values() for one in attached}
        _delay(order, before, place, lambda step: keys[step] is None or step.is_scatter or step in stays, together)
    groups = [Group(None, []) if key is None else Group(key[0], [], key[1]) for key in places]
    for step in order:
        groups[place[step]].steps += [*before.get(step, ()), step]
    return [group for group in groups if group.steps]


class Need(NamedTuple):
    """A read that a step does from another."""

    step: Step
    operand: Read


def _needs(step: Step, before: Mapping[Step, Sequence[Step]]) -> Iterator[Need]:
    """Iterate over what a step, and what is computed again just before it, reads from other steps."""
    own = (*before.get(step, ()), step)
    for one in own:
        for operand in one.reads:
            if operand.step is not None and operand.step not in own:
                yield Need(one, operand)


def _attached(host: Step, keys: Mapping[Step, Key | None]) -> list[Step]:
    """Return what is computed again just before a step in its loops, and not already outside of them."""
    found: list[Step] = []
    outside: list[Step] = []
    for step in reversed(host.before):
        is_needed_outside = any(operand.step is step for other in outside for operand in other.reads)
        inside = step in keys and _follows(step, keys[host]) and not is_needed_outside
        (found if inside else outside).append(step)
    return found[::-1]


def _follows(step: Step, key: Key | None) -> bool:
    """Tell whether what is computed again for a user follows it into a loop; it need not where it is the same in
    all iterations and costs more than to count."""
    return key is None or key[0] in step.axes or (step.counts and not step.shared)


def _mark_shared(steps: Sequence[Step]) -> None:
    """Note which of the steps that are computed again have users besides the one that they are computed again for."""
    host = {one: step for step in steps for one in step.before}
    for one in host:
        one.shared = False
    for step in steps:
        for operand in step.reads:
            source = operand.step
            if source in host and host[source] is not step and host.get(step) is not host[source]:
                source.shared = True


def _delay(
    order: Sequence[Step],
    before: Mapping[Step, Sequence[Step]],
    place: dict[Step, int],
    is_fixed: Callable[[Step], bool],
    together: Callable[[Need], bool],
) -> None:
    """Move steps to the later group that alone uses them, where that saves storing their values."""
    users: dict[Step, list[Need]] = {}
    for step in order:
        for need in _needs(step, before):
            source = need.operand.step
            if source in place:
                users.setdefault(source, []).append(need)
    for step in reversed(order):
        here = place[step]
        target = min((place[need.step] for need in users.get(step, ())), default=here)
        if target == here or is_fixed(step):
            continue
        moved = {step}
        pending = [step]
        possible = True
        while pending and possible:
            one = pending.pop()
            possible = (
                len(moved) <= MOVED_TOGETHER
                and not is_fixed(one)
                and all(n.step in moved or place[n.step] > target or together(n) for n in users[one])
            )
            for need in _needs(one, before) if possible else ():
                source = need.operand.step
                if source is None or place.get(source) != here or source in moved:
                    continue
                others = [place[n.step] for n in users[source] if n.step not in moved]
                if all(other >= target for other in others):
                    moved.add(source)
                    pending.append(source)
                elif max(others) == here:
                    possible = False
        if possible:
            place.update(dict.fromkeys(moved, target))


def _is_call(step: Step, first: int | None) -> bool:
    """Tell whether a step is a library call at this level: products are, within their block."""
    return step.opaque or (bool(step.rows) and first is not None)


def _key(
    step: Step,
    bound: frozenset[int],
    ranks: dict[int, Rank],
    lane_of: Callable[[Step], int | None],
    first: int | None,
) -> Key | None:
    """Return the axis of the outermost loop that a step still needs, and whether it is that of its lanes."""
    if _is_call(step, first):
        return None
    if step.rows:
        axis = step.axes[step.rows[0]]
    elif first is not None:
        axis = first
    else:
        free = [a for a in step.axes if a not in bound]
        if not free:
            return None
        axis = max(free, key=ranks.__getitem__)
    return axis, lane_of(step) == axis


def _ordered(
    members: Sequence[Step],
    before: Mapping[Step, Sequence[Step]],
    keys: dict[Step, Key | None],
    ranks: dict[int, Rank],
) -> list[Step]:
    """Return the steps with the loops over the outermost axis as late as what they need allows.

    So what runs over parameters alone is done before the loop over the data begins, which need not be cut for it.
    """
    if not any(keys[step] for step in members):
        return list(members)
    number = {step: k for k, step in enumerate(members)}
    host = {step: one for one in members for step in (*before.get(one, ()), one)}
    users: dict[Step, list[Step]] = {}
    waits = dict.fromkeys(members, 0)
    for step in members:
        for source in dict.fromkeys(host[n.operand.step] for n in _needs(step, before) if n.operand.step in host):
            users.setdefault(source, []).append(step)
            waits[step] += 1

    def entry(step: Step) -> tuple[tuple[int, ...], bool, int]:
        key = keys[step]
        return ((), False, number[step]) if key is None else (ranks[key[0]], key[1], number[step])

    ready = [entry(step) for step in members if not waits[step]]
    heapify(ready)
    found: list[Step] = []
    while ready:
        step = members[heappop(ready)[2]]
        found.append(step)
        for user in users.get(step, ()):
            waits[user] -= 1
            if not waits[user]:
                heappush(ready, entry(user))
    return found


def _ready(source: Step, step: Step, operand: Read, axis: int) -> bool:
    """Tell whether a source's element is ready in the iteration of a loop over an axis in which it is read."""
    along = [index.axis is not None and step.axes[index.axis] == axis for index in operand.indices]
    if sum(along) > 1:
        return False  # A diagonal: scratch of one iteration would be indexed by the iteration.
    for place, index, is_along in zip(source.places, operand.indices, along, strict=True):
        if place is not None and source.axes[place] == axis:
            return is_along and index.is_aligned and place not in source.reduced
    return False


# The result


def _in_order(groups: Sequence[Group]) -> list[Step]:
    """Return all steps in the order in which they run, operands first."""
    found: list[Step] = []
    for group in groups:
        found += _in_order(group.children) if group.axis is not None else group.steps
    return found


def _paths(groups: Sequence[Group]) -> dict[Step, tuple[Group, ...]]:
    paths: dict[Step, tuple[Group, ...]] = {}

    def trace(level: Sequence[Group], around: tuple[Group, ...]) -> None:
        for group in level:
            path = (*around, group)
            for step in group.steps:
                paths[step] = path
            trace(group.children, path)

    trace(groups, ())
    return paths
