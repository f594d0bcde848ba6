"""Scheduling: which loops run, what runs in them, and in which order.

Every node is a *step* with its own iteration axes, which reads its operands at affine indices of those
axes; movement is read through. Axes that are indexed identically are unified into global axes. Then the
nest is built from the outside in: each step chooses its outermost axis, and joins the first loop over that
axis that comes after everything it needs. A step may share a loop with a step it needs when that one has
its element ready in the same iteration: it carries the axis, does not reduce over it, and is read at the
very index. Everything else waits for a later loop. The body of each loop is scheduled the same way over
the remaining axes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from symgraph.compile.lower import is_matrix_transpose, is_read_through, needs_arrays
from symgraph.dims import Size
from symgraph.expr import Expr, topological
from symgraph.op import Kind


@dataclass(frozen=True)
class Index:
    """Where an axis of an operand is read: ``step * axis + offset``, or at an index that is data.

    Attributes:
        axis: The iteration axis of the reading step, None for a fixed place.
        step, offset: The affine function of the axis.
        divisor: What the affine function is divided by, rounded down.
        data: Which read of the same step gives the index instead.
    """

    axis: int | None
    step: int = 1
    offset: Size = 0
    divisor: int = 1
    data: int | None = None

    @property
    def is_aligned(self) -> bool:
        """Whether the operand's axis runs with the iteration axis."""
        return self.axis is not None and (self.step, self.offset, self.divisor, self.data) == (1, 0, 1, None)


FIXED = Index(None)


@dataclass(frozen=True)
class Guard:
    """An operand is read only where ``(axis - start) / step`` is a whole number in ``[0, size)``; no axis is 0."""

    axis: int | None
    start: Size
    step: int
    size: Size


@dataclass(frozen=True)
class Read:
    """One operand of a step: what is read, where, and under which conditions."""

    source: Expr
    indices: tuple[Index, ...]
    guards: tuple[Guard, ...] = ()
    whole: bool = False


@dataclass(eq=False)
class Step:
    """A node that is computed, with its iteration axes.

    Attributes:
        node: The node.
        sizes: The size of each iteration axis.
        places: For each axis of the result its iteration axis, None where it has size 1 or is not iterated.
        reads: Its operands.
        reduced: The iteration axes that are reduced over.
        opaque: Whether it is a call on whole arrays.
        axes: The global axis of each iteration axis (found by unification).
        path: The loops it runs in, outermost first.
    """

    node: Expr
    sizes: list[Size]
    places: list[int | None]
    reads: list[Read]
    reduced: frozenset[int] = frozenset()
    opaque: bool = False
    axes: list[int] = field(default_factory=list)
    path: list[Group] = field(default_factory=list)


@dataclass(eq=False)
class Group:
    """Steps that run together: in one loop over a global axis, or straight through when there is none."""

    axis: int | None
    steps: list[Step]
    children: list[Group] = field(default_factory=list)


@dataclass
class Schedule:
    """The result of scheduling.

    Attributes:
        steps: Every computed node's step, operands first.
        groups: What runs at the outermost level, in order.
        sizes: The size of each global axis.
    """

    steps: dict[Expr, Step]
    groups: list[Group]
    sizes: dict[int, Size]


def schedule(outputs: Sequence[Expr], given: Iterable[Expr]) -> Schedule:
    """Return the loops that compute the outputs.

    Args:
        outputs: Lowered and materialised nodes.
        given: Nodes whose values are given.
    """
    leaves = set(given)
    steps: dict[Expr, Step] = {}
    for node in topological(outputs, stop=leaves):
        if node not in leaves and not is_read_through(node):
            steps[node] = _step(node, leaves)
    axes = _unify(steps)
    groups = _nest(list(steps.values()), steps, frozenset())
    return Schedule(steps, groups, axes.sizes)


# Index forms


def read(node: Expr, indices: Sequence[Index], given: set[Expr]) -> tuple[Expr, tuple[Index, ...]]:
    """Read a node at indices, through movement: what is read in the end, and where."""
    where = [FIXED if size == 1 else index for index, size in zip(indices, node.shape, strict=True)]
    while node not in given and node.args and is_read_through(node):
        source = node.args[0]
        match node.op.name:
            case "permute_dims":
                moved = list(where)
                for place, axis in enumerate(node.attrs[0]):
                    moved[axis] = where[place]
                where = moved
            case "expand_dims":
                where = [index for axis, index in enumerate(where) if axis not in node.attrs[0]]
            case "squeeze":
                kept = iter(where)
                where = [FIXED if axis in node.attrs[0] else next(kept) for axis in range(source.ndim)]
            case "broadcast_to":
                where = where[node.ndim - source.ndim :]
            case "slice":
                starts, strides, _ = node.attrs
                where = [_compose(index, s, k) for index, s, k in zip(where, starts, strides, strict=True)]
        node = source
        where = [FIXED if size == 1 else index for index, size in zip(where, node.shape, strict=True)]
    return node, tuple(where)


def _compose(index: Index, start: Size, stride: int) -> Index:
    return Index(index.axis, index.step * stride, start + stride * index.offset)


def _step(node: Expr, given: set[Expr]) -> Step:
    if needs_arrays(node):
        return _opaque(node)
    match node.op.kind, node.op.name:
        case Kind.ELEMENTWISE, _:
            places, sizes = _iterate(node.shape)
            reads = [_aligned_read(arg, places, given) for arg in node.args]
            return Step(node, sizes, places, reads)
        case Kind.REDUCE, _:
            return _reduction(node, given)
        case _, "place":
            return _place(node, given)
        case _, "concat":
            return _concat(node, given)
        case _, "gather":
            return _gather(node, given)
        case _, ("scatter_add" | "scatter_set"):
            return _scatter(node, given)
        case _, "einsum":
            return _diagonal(node, given)
    raise TypeError(f"the scheduler does not know {node.op.name}")


def _iterate(shape: Sequence[Size]) -> tuple[list[int | None], list[Size]]:
    """Give every axis that is not of size 1 an iteration axis."""
    places: list[int | None] = []
    sizes: list[Size] = []
    for size in shape:
        places.append(None if size == 1 else len(sizes))
        if size != 1:
            sizes.append(size)
    return places, sizes


def _aligned_read(arg: Expr, places: Sequence[int | None], given: set[Expr]) -> Read:
    """Read an operand that broadcasts to a result whose axes have these iteration axes."""
    return Read(*read(arg, [Index(place) for place in places[len(places) - arg.ndim :]], given))


def _reduction(node: Expr, given: set[Expr]) -> Step:
    (operand,) = node.args
    axes, keepdims = node.attrs
    places, sizes = _iterate(operand.shape)
    kept = [None if a in axes else p for a, p in enumerate(places) if keepdims or a not in axes]
    reduced = frozenset(p for a in axes if (p := places[a]) is not None)
    return Step(node, sizes, kept, [_aligned_read(operand, places, given)], reduced)


def _place(node: Expr, given: set[Expr]) -> Step:
    (operand,) = node.args
    _, starts, strides = node.attrs
    places, sizes = _iterate(node.shape)
    indices, guards = [], []
    for place, whole, size, start, stride in zip(places, node.shape, operand.shape, starts, strides, strict=True):
        if start == 0 and stride == 1 and size == whole:
            indices.append(Index(place))
        elif place is None and size == 1:
            indices.append(FIXED)
        else:
            sign = 1 if stride > 0 else -1
            guards.append(Guard(place, start, stride, size))
            indices.append(Index(place, sign, -sign * start, abs(stride)))
    if any(abs(stride) != 1 for stride in strides):
        return Step(node, sizes, places, [Read(operand, tuple(indices), tuple(guards))])
    return Step(node, sizes, places, [Read(*read(operand, indices, given), tuple(guards))])


def _concat(node: Expr, given: set[Expr]) -> Step:
    axis = node.attrs[0]
    places, sizes = _iterate(node.shape)
    reads, start = [], 0
    for arg in node.args:
        place = places[axis]
        size = arg.shape[axis]
        indices = [Index(p) for p in places]
        guards: tuple[Guard, ...] = ()
        if place is not None and size != node.shape[axis]:
            indices[axis] = Index(place, 1, -start)
            guards = (Guard(place, start, 1, size),)
        reads.append(Read(*read(arg, indices, given), guards))
        start = start + size
    filled = [r for r, arg in zip(reads, node.args, strict=True) if arg.shape[axis] != 0]
    return Step(node, sizes, places, filled or reads[:1])


def _gather(node: Expr, given: set[Expr]) -> Step:
    source, *selectors = node.args
    axes = node.attrs[0]
    places, sizes = _iterate(node.shape)
    rank = node.ndim - (source.ndim - len(axes))
    rest = iter(places[rank:])
    indices = [Index(None, data=1 + axes.index(a)) if a in axes else Index(next(rest)) for a in range(source.ndim)]
    reads = [_data_read(source, indices, given)]
    reads += [_aligned_read(s, places[:rank], given) for s in selectors]
    return Step(node, sizes, places, reads)


def _data_read(source: Expr, indices: Sequence[Index], given: set[Expr]) -> Read:
    """Read an operand at indices that are data: it is not read through, since the index must be checked first."""
    return Read(source, tuple(indices), whole=True)


def _scatter(node: Expr, given: set[Expr]) -> Step:
    base, updates, *selectors = node.args
    axes = node.attrs[0]
    places, sizes = _iterate(updates.shape)
    rank = updates.ndim - (base.ndim - len(axes))
    rest = iter(places[rank:])
    results = [None if a in axes else next(rest) for a in range(base.ndim)]
    reads = [Read(base, tuple(FIXED for _ in base.shape), whole=True), _aligned_read(updates, places, given)]
    reads += [_aligned_read(s, places[:rank], given) for s in selectors]
    return Step(node, sizes, results, reads, frozenset(p for p in places[:rank] if p is not None))


def _diagonal(node: Expr, given: set[Expr]) -> Step:
    labels, _, result = node.attrs[0].partition("->")
    places, sizes = _iterate(node.shape)
    indices = [Index(places[result.index(label)]) for label in labels]
    return Step(node, sizes, places, [Read(*read(node.args[0], indices, given))])


def _opaque(node: Expr) -> Step:
    reads = []
    for arg in node.args:
        source = arg.args[0] if node.op.name == "matmul" and is_matrix_transpose(arg) else arg
        reads.append(Read(source, tuple(FIXED for _ in source.shape), whole=True))
    return Step(node, [], [None] * node.ndim, reads, opaque=True)


# Unification


class _Axes:
    """Iteration axes of all steps and leaves, united into global axes by reads at identical indices."""

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.members: list[set[int]] = []
        self.size_of: list[Size] = []
        self.sizes: dict[int, Size] = {}

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


def _unify(steps: dict[Expr, Step]) -> _Axes:
    axes = _Axes()
    for owner, step in enumerate(steps.values()):
        step.axes = [axes.new(owner, size) for size in step.sizes]
    results: dict[Expr, list[int | None]] = {}
    for node, step in steps.items():
        results[node] = [None if p is None else step.axes[p] for p in step.places]
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
    axes.sizes = {axes.find(a): axes.size_of[a] for a in range(len(axes.parent))}
    return axes


def _unite_read(axes: _Axes, step: Step, operand: Read, source_axes: Sequence[int | None]) -> None:
    for index, axis in zip(operand.indices, source_axes, strict=True):
        if axis is not None and index.is_aligned and index.axis is not None:
            axes.unite(step.axes[index.axis], axis)


def _priorities(members: Sequence[Step], bound: frozenset[int]) -> dict[int, tuple[int, int, int]]:
    """Rank free axes from outer to inner: those with larger strides in what the members read and give, then those
    that occur more often."""
    stride: dict[int, int] = {}
    count: dict[int, int] = {}
    for step in members:
        places = [
            step.places,
            *([index.axis for index in operand.indices] for operand in step.reads),
            range(len(step.axes)),
        ]
        for shape in places:
            axes = [step.axes[p] for p in shape if p is not None]
            found = [axis for axis in dict.fromkeys(axes) if axis not in bound]
            for place, axis in enumerate(found):
                stride[axis] = stride.get(axis, 0) + len(found) - 1 - 2 * place
                count[axis] = count.get(axis, 0) + 1
    return {axis: (stride[axis], count[axis], -axis) for axis in stride}


# The nest


def _nest(members: Sequence[Step], steps: dict[Expr, Step], bound: frozenset[int]) -> list[Group]:
    priority = _priorities(members, bound)
    # What needs no loop comes first, so that loops which use it need not wait for others.
    groups: list[Group] = [Group(None, [])]
    by_axis: dict[int | None, list[int]] = {None: [0]}
    place: dict[Step, int] = {}
    for step in members:
        free = [a for a in step.axes if a not in bound]
        axis = max(free, key=priority.__getitem__) if free else None
        earliest = 0
        for operand in step.reads:
            source = steps.get(operand.source)
            if source is None or source not in place:
                continue
            together = not source.opaque and groups[place[source]].axis == axis and _ready(source, step, operand, axis)
            earliest = max(earliest, place[source] if together else place[source] + 1)
        found = None
        if not step.opaque:
            candidates = by_axis.setdefault(axis, [])
            position = bisect_left(candidates, earliest)
            found = candidates[position] if position < len(candidates) else None
        if found is None:
            found = len(groups)
            groups.append(Group(axis, []))
            if not step.opaque:
                by_axis.setdefault(axis, []).append(found)
        groups[found].steps.append(step)
        place[step] = found
    groups = [group for group in groups if group.steps]
    for group in groups:
        for step in group.steps:
            step.path.append(group)
        if group.axis is not None:
            group.children = _nest(group.steps, steps, bound | {group.axis})
    return groups


def _ready(source: Step, step: Step, operand: Read, axis: int | None) -> bool:
    """Tell whether a source's element is ready in the iteration of a loop over an axis in which it is read."""
    if axis is None:
        return True
    for place, index in zip(source.places, operand.indices, strict=True):
        if place is not None and source.axes[place] == axis:
            return (
                index.is_aligned
                and index.axis is not None
                and step.axes[index.axis] == axis
                and place not in source.reduced
            )
    return False


def result_axes(step: Step) -> list[int | None]:
    """Return the global axis of each axis of a step's result, None where it is not iterated."""
    return [None if place is None else step.axes[place] for place in step.places]


def loops_of(step: Step) -> list[Group]:
    """Return the loops that a step runs in, outermost first."""
    return [group for group in step.path if group.axis is not None]
