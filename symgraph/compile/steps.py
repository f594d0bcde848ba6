"""Index forms: every computed node as a step with iteration axes of its own, which reads its operands at
affine indices of those axes. Movement is read through.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from symgraph.compile.lower import is_matrix_transpose, is_read_through, needs_arrays
from symgraph.dims import Size, names, product
from symgraph.expr import Expr, constant_value, topological
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
    """One operand of a step: what is read, where, and under which conditions.

    Attributes:
        source: The node that is read.
        indices: Where, for each of its axes.
        guards: When; zero (or another operand) is taken elsewhere.
        whole: Whether the operand must be an array in memory, since it is read anywhere.
        step: The step that computes the source; None for what is given.
    """

    source: Expr
    indices: tuple[Index, ...]
    guards: tuple[Guard, ...] = ()
    whole: bool = False
    step: Step | None = None


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
        rows: For a matrix product that may run on rows of an axis: the iteration axes that can be that axis, best
            first; the others are those of ``left[0, 2] @ right[2, 1]``.
        axes: The global axis of each iteration axis (found by unification).
        before: What is computed again for this step, just before it.
        shared: For what is computed again, whether more steps use it than the one it is computed again for.
        counts: Whether it is cheap, and of loop indices and numbers alone: nothing that it needs is in memory.
    """

    node: Expr
    sizes: list[Size]
    places: list[int | None]
    reads: list[Read]
    reduced: frozenset[int] = frozenset()
    opaque: bool = False
    rows: tuple[int, ...] = ()
    axes: list[int] = field(default_factory=list)
    before: list[Step] = field(default_factory=list)
    shared: bool = False
    counts: bool = False

    @property
    def is_scatter(self) -> bool:
        """Whether it writes at indices that are data."""
        return self.node.op.name in ("scatter_add", "scatter_set")

    @property
    def accumulates(self) -> bool:
        """Whether iterations are combined in one place, which has to be given a beginning."""
        return self.rows[0] == 2 if self.rows else bool(self.reduced) or self.is_scatter


CHEAP = frozenset({"square", "abs", "sign", "relu", "maximum", "minimum", "logical_not", "astype", "isfinite"})
"""Operations without a template that cost about as much as an addition."""

LARGE = 32_768
"""A matrix of so many elements (256 kB) is not read again for every block of rows: its product is one call."""

MANY_ROWS = 512
"""A size known to be smaller is not worth blocks of rows."""


def make_steps(outputs: Sequence[Expr], given: Iterable[Expr], blocks: bool) -> dict[Expr, Step]:
    """Return the step of every computed node, operands first.

    Args:
        outputs: Lowered and materialised nodes.
        given: Nodes whose values are given.
        blocks: Whether matrix products may run on blocks of rows.
    """
    leaves = set(given)
    steps: dict[Expr, Step] = {}
    for node in topological(outputs, stop=leaves):
        if node not in leaves and not is_read_through(node):
            step = _step(node, leaves, blocks)
            step.reads = [replace(r, step=steps[r.source]) if r.source in steps else r for r in step.reads]
            step.counts = _counts(step)
            steps[node] = step
    return steps


def is_cheap(step: Step) -> bool:
    """Tell whether a step costs about as much as an addition."""
    op = step.node.op
    if op.kind is Kind.ELEMENTWISE:
        return (op.scalar is not None and op.name != "divide") or op.name in CHEAP
    return op.name in ("sum", "max", "min", "any", "all", "place", "concat")


def _counts(step: Step) -> bool:
    """Tell whether a step is cheap, and of loop indices and numbers alone."""
    return is_cheap(step) and all(
        r.step.counts
        if r.step is not None
        else r.source.ndim == 0 or r.source.op.name == "arange" or _is_number(r.source)
        for r in step.reads
    )


def _is_number(node: Expr) -> bool:
    value = constant_value(node)
    return value is not None and value.size == 1


def result_axes(step: Step) -> list[int | None]:
    """Return the global axis of each axis of a step's result, None where it is not iterated."""
    return [None if place is None else step.axes[place] for place in step.places]


def make_opaque(step: Step) -> None:
    """Make a product that might run on rows a call on whole matrices."""
    steps = {r.source: r.step for r in step.reads}
    whole = _opaque(step.node)
    step.sizes, step.places, step.axes = whole.sizes, whole.places, whole.axes
    step.reduced, step.rows, step.opaque = whole.reduced, whole.rows, whole.opaque
    step.reads = [replace(r, step=steps[r.source]) for r in whole.reads]


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


def _step(node: Expr, given: set[Expr], blocks: bool) -> Step:
    if node.op.name == "matmul" and blocks:
        return _product(node, given)
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
    reads = [Read(source, tuple(indices), whole=True)]  # not read through, since what is data has to be checked first
    reads += [_aligned_read(s, places[:rank], given) for s in selectors]
    return Step(node, sizes, places, reads)


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


def _product(node: Expr, given: set[Expr]) -> Step:
    """A matrix product as a step over its rows, columns and the axis it sums over, where one of them may be blocks."""
    left, right = node.args
    if node.ndim != 2 or node.dtype.kind != "f":
        return _opaque(node)
    sizes = [*node.shape, left.shape[1]]
    rows = tuple(k for k in range(3) if _may_be_rows(sizes[k], [*sizes[:k], *sizes[k + 1 :]]))
    if not rows:
        return _opaque(node)
    reads = [Read(*read(left, [Index(0), Index(2)], given)), Read(*read(right, [Index(2), Index(1)], given))]
    return Step(node, sizes, [0, 1], reads, frozenset({2}), rows=rows)


def _may_be_rows(size: Size, others: Sequence[Size]) -> bool:
    """Tell whether an axis of a product is worth blocks: it may be long, and the matrix without it is not."""
    if isinstance(size, int) and size < MANY_ROWS:
        return False
    other = product(others)
    return other < LARGE if isinstance(other, int) else names(size).isdisjoint(names(other))


def _opaque(node: Expr) -> Step:
    reads = []
    for arg in node.args:
        source = arg.args[0] if node.op.name == "matmul" and is_matrix_transpose(arg) else arg
        reads.append(Read(source, tuple(FIXED for _ in source.shape), whole=True))
    return Step(node, [], [None] * node.ndim, reads, opaque=True)
