"""Operations that only move elements: shapes, permutations, slices and their adjoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.arraytype import ArrayType, ShapeLike, as_shape, format_shape
from symgraph.dims import Dim, Shape, Size, dim, divide_exactly
from symgraph.dims import product as size_product
from symgraph.errors import ShapeError, at_user_line
from symgraph.op import FUNCTIONS, Kind, Op, Requirement, no_negative_sizes, public, register
from symgraph.ops import reference
from symgraph.ops.construct import (
    apply,
    as_value,
    broadcast_shapes,
    engine_of,
    expect_rank,
    normalize_axes,
    normalize_axis,
    promote,
)
from symgraph.value import Axis


def _movement(name: str, type_rule: Any, numpy: Any, attributes: Sequence[str], vjp: Any, **facts: Any) -> Op:
    return register(
        Op(
            name,
            Kind.MOVEMENT,
            facts.pop("arity", 1),
            type_rule,
            numpy,
            attributes=tuple(attributes),
            vjp=vjp,
            facts=frozenset({"linear"}),
            **facts,
        )
    )


def _reshape_requires(x: ArrayType, shape: Shape) -> list[Requirement]:
    before, after = size_product(x.shape), size_product(shape)
    if before == after:
        return []
    message = f"reshape: {format_shape(x.shape)} does not fill {format_shape(shape)}"
    return [Requirement(before - after, "== 0", message)]


_RESHAPE = _movement(
    "reshape", lambda x, shape: ArrayType(x.dtype, shape), "numpy:reshape", ["shape"],
    lambda g, out, x, shape: [reshape(g, x.shape)],
    requires=_reshape_requires, torch_name="View",
)  # fmt: skip
_PERMUTE = _movement(
    "permute_dims", lambda x, axes: ArrayType(x.dtype, tuple(x.shape[a] for a in axes)), "numpy:transpose", ["axes"],
    lambda g, out, x, axes: [permute_dims(g, tuple(axes.index(a) for a in range(len(axes))))],
    torch_name="Permute",
)  # fmt: skip
_EXPAND = _movement(
    "expand_dims", lambda x, axes: ArrayType(x.dtype, _expanded(x.shape, axes)), "numpy:expand_dims", ["axes"],
    lambda g, out, x, axes: [squeeze(g, axes)],
    torch_name="Unsqueeze",
)  # fmt: skip
_SQUEEZE = _movement(
    "squeeze",
    lambda x, axes: ArrayType(x.dtype, tuple(s for a, s in enumerate(x.shape) if a not in axes)),
    "numpy:squeeze", ["axes"],
    lambda g, out, x, axes: [expand_dims(g, axes)],
    torch_name="Squeeze",
)  # fmt: skip
_BROADCAST = _movement(
    "broadcast_to", lambda x, shape: ArrayType(x.dtype, shape), "numpy:broadcast_to", ["shape"],
    lambda g, out, x, shape: [sum_to_shape(g, x.shape)],
    requires=lambda x, shape: no_negative_sizes("broadcast_to", shape), torch_name="Expand",
)  # fmt: skip
_SLICE = _movement(
    "slice", lambda x, starts, steps, sizes: ArrayType(x.dtype, sizes), reference.slice_, ["starts", "steps", "sizes"],
    lambda g, out, x, starts, steps, sizes: [place(g, x.shape, starts, steps)],
    requires=lambda x, starts, steps, sizes: _slice_requires("slice", x.shape, starts, steps, sizes),
    torch_name="Slice",
)  # fmt: skip
_PLACE = _movement(
    "place", lambda x, shape, starts, steps: ArrayType(x.dtype, shape), reference.place, ["shape", "starts", "steps"],
    lambda g, out, x, shape, starts, steps: [slice_at(g, starts, steps, x.shape)],
    requires=lambda x, shape, starts, steps: _slice_requires("place", shape, starts, steps, x.shape),
    torch_name="SliceBackward",
)  # fmt: skip
_CONCAT = _movement(
    "concat", lambda *types: _concat_type(types[:-1], types[-1]),
    lambda *arrays: np.concatenate(arrays[:-1], arrays[-1]), ["axis"],
    lambda g, out, *args: _concat_vjp(g, args[:-1], args[-1]),
    arity=None, torch_name="Cat",
)  # fmt: skip


def _slice_requires(
    name: str, shape: Shape, starts: Sequence[Size], steps: Sequence[int], sizes: Shape
) -> list[Requirement]:
    needed = []
    for axis, (whole, start, step, size) in enumerate(zip(shape, starts, steps, sizes, strict=True)):
        if start == 0 and step == 1 and size == whole:
            continue
        last = start + (size - 1) * step
        low, high = (start, last) if step > 0 else (last, start)
        message = f"{name}: axis {axis} of size {whole} has no elements {low} to {high}"
        bounds = (size, low, whole - 1 - high) if size != 0 else (size,)
        needed += [Requirement(bound, ">= 0", message) for bound in bounds if isinstance(bound, Dim)]
    return needed


def _expanded(shape: Shape, axes: Sequence[int]) -> Shape:
    sizes = list(shape)
    for axis in axes:
        sizes.insert(axis, 1)
    return tuple(sizes)


def _concat_type(types: Sequence[ArrayType], axis: int) -> ArrayType:
    total: Size = 0
    for t in types:
        total = total + t.shape[axis]
    shape = types[0].shape
    return ArrayType(types[0].dtype, (*shape[:axis], total, *shape[axis + 1 :]))


def _concat_vjp(g: Any, args: Sequence[Any], axis: int) -> list[Any]:
    parts, start = [], 0
    for arg in args:
        starts = tuple(start if a == axis else 0 for a in range(arg.ndim))
        parts.append(slice_at(g, starts, (1,) * arg.ndim, arg.shape))
        start = start + arg.shape[axis]
    return parts


@public
def reshape(x: Any, shape: ShapeLike) -> Any:
    """Return the same elements, in C order, with another shape.

    Args:
        x: Any array.
        shape: Sizes; one of them may be -1, which is found from the others.

    Raises:
        ShapeError: the sizes cannot hold the elements. What depends on names is checked at the call.

    Example:
        >>> import symgraph as sg
        >>> sg.reshape(sg.constant([1.0, 2.0, 3.0, 4.0]), (2, -1)).shape
        (2, 2)
    """
    x = as_value("reshape", x)
    given = shape if isinstance(shape, list | tuple) else (shape,)
    unknown = [i for i, size in enumerate(given) if isinstance(size, int) and size == -1]
    sizes: list[Size] = [1 if i in unknown else dim(size) for i, size in enumerate(given)]
    before, after = size_product(x.shape), size_product(sizes)
    if len(unknown) > 1:
        raise ShapeError(at_user_line(f"reshape: only one size of {given} may be -1"))
    if unknown:
        rest = divide_exactly(before, after)
        if rest is None:
            raise _reshape_error(x.shape, given)
        sizes[unknown[0]] = rest
    elif isinstance(before - after, int) and before != after:
        raise _reshape_error(x.shape, given)
    return x if tuple(sizes) == x.shape else apply(_RESHAPE, x, attrs=(tuple(sizes),))


def _reshape_error(shape: Shape, given: Any) -> ShapeError:
    return ShapeError(
        at_user_line(f"reshape: an array of shape {format_shape(shape)} cannot have shape {format_shape(given)}")
    )


@public
def permute_dims(x: Any, axes: Sequence[int] | None = None) -> Any:
    """Return x with its axes in another order; reversed when none is given.

    Example:
        >>> import symgraph as sg
        >>> sg.permute_dims(sg.zeros((2, 3, 4)), (2, 0, 1)).shape
        (4, 2, 3)
    """
    x = as_value("permute_dims", x)
    order = (
        tuple(reversed(range(x.ndim)))
        if axes is None
        else tuple(normalize_axis("permute_dims", a, x.ndim) for a in axes)
    )
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(
            at_user_line(f"permute_dims: {axes} is not an order of the {x.ndim} axes of {format_shape(x.shape)}")
        )
    return x if order == tuple(range(x.ndim)) else apply(_PERMUTE, x, attrs=(order,))


@public
def matrix_transpose(x: Any) -> Any:
    """Return x with its last two axes exchanged.

    Example:
        >>> import symgraph as sg
        >>> sg.matrix_transpose(sg.zeros((5, 2, 3))).shape
        (5, 3, 2)
    """
    x = as_value("matrix_transpose", x)
    expect_rank("matrix_transpose", x, 2)
    return permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


@public
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """Return x with two axes exchanged.

    Example:
        >>> import symgraph as sg
        >>> sg.swapaxes(sg.zeros((2, 3, 4)), 0, 2).shape
        (4, 3, 2)
    """
    x = as_value("swapaxes", x)
    order = list(range(x.ndim))
    first, second = normalize_axis("swapaxes", axis1, x.ndim), normalize_axis("swapaxes", axis2, x.ndim)
    order[first], order[second] = second, first
    return permute_dims(x, order)


@public
def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Any:
    """Return x with axes moved to other places, the others keeping their order.

    Example:
        >>> import symgraph as sg
        >>> sg.moveaxis(sg.zeros((2, 3, 4)), 0, -1).shape
        (3, 4, 2)
    """
    x = as_value("moveaxis", x)
    sources = [source] if isinstance(source, int) else list(source)
    targets = [destination] if isinstance(destination, int) else list(destination)
    sources = [normalize_axis("moveaxis", a, x.ndim) for a in sources]
    targets = [normalize_axis("moveaxis", a, x.ndim) for a in targets]
    if len(sources) != len(targets):
        raise ShapeError(at_user_line(f"moveaxis: {source} and {destination} name different numbers of axes"))
    order = [a for a in range(x.ndim) if a not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return permute_dims(x, order)


@public
def expand_dims(x: Any, axis: int | Sequence[int] = 0) -> Any:
    """Return x with axes of size 1 inserted, at these places of the result.

    Example:
        >>> import symgraph as sg
        >>> sg.expand_dims(sg.zeros((2, 3)), 1).shape
        (2, 1, 3)
    """
    x = as_value("expand_dims", x)
    count = len(axis) if isinstance(axis, list | tuple) else 1
    axes = normalize_axes("expand_dims", axis, x.ndim + count)
    return apply(_EXPAND, x, attrs=(axes,)) if axes else x


@public
def squeeze(x: Any, axis: Axis = None) -> Any:
    """Return x without axes of size 1: those named, or all when None.

    Raises:
        ShapeError: a named axis has another size.

    Example:
        >>> import symgraph as sg
        >>> sg.squeeze(sg.zeros((2, 1, 3))).shape
        (2, 3)
    """
    x = as_value("squeeze", x)
    if axis is None:
        axes = tuple(a for a, size in enumerate(x.shape) if size == 1)
    else:
        axes = normalize_axes("squeeze", axis, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(at_user_line(f"squeeze: axis {a} of shape {format_shape(x.shape)} is not of size 1"))
    return apply(_SQUEEZE, x, attrs=(axes,)) if axes else x


@public
def broadcast_to(x: Any, shape: ShapeLike) -> Any:
    """Return x repeated along new leading axes and along axes of size 1.

    Raises:
        ShapeError: x does not broadcast to the shape.

    Example:
        >>> import symgraph as sg
        >>> sg.broadcast_to(sg.zeros((3, 1)), (2, 3, 4)).shape
        (2, 3, 4)
    """
    x = as_value("broadcast_to", x)
    target = as_shape(shape)
    if broadcast_shapes("broadcast_to", x.shape, target) != target:
        raise ShapeError(
            at_user_line(f"broadcast_to: {format_shape(x.shape)} does not broadcast to {format_shape(target)}")
        )
    return x if target == x.shape else apply(_BROADCAST, x, attrs=(target,))


def sum_to_shape(g: Any, shape: Shape) -> Any:
    """Undo broadcasting: sum a cotangent over the axes along which an array of this shape was repeated."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    repeated = tuple(a for a in range(extra, g.ndim) if shape[a - extra] == 1 and g.shape[a] != 1)
    summed = FUNCTIONS["sum"](g, repeated, True) if repeated else g
    return FUNCTIONS["sum"](summed, tuple(range(extra))) if extra else summed


@public
def broadcast_arrays(*arrays: Any) -> list[Any]:
    """Return the arrays repeated to their common shape.

    Example:
        >>> import symgraph as sg
        >>> [a.shape for a in sg.broadcast_arrays(sg.zeros(3), sg.zeros((2, 1)))]
        [(2, 3), (2, 3)]
    """
    engine = engine_of("broadcast_arrays", arrays)
    values = [as_value("broadcast_arrays", a, engine) for a in arrays]
    shape = broadcast_shapes("broadcast_arrays", *[v.shape for v in values])
    return [broadcast_to(v, shape) for v in values]


def slice_at(x: Any, starts: Sequence[Size], steps: Sequence[int], sizes: Sequence[Size]) -> Any:
    """Return ``sizes`` elements along each axis, from ``starts`` on in ``steps``: the adjoint of place."""
    if tuple(sizes) == x.shape and all(s == 0 for s in starts) and all(s == 1 for s in steps):
        return x
    return apply(_SLICE, x, attrs=(tuple(starts), tuple(steps), tuple(sizes)))


def place(x: Any, shape: Shape, starts: Sequence[Size], steps: Sequence[int]) -> Any:
    """Return zeros with the elements of x from ``starts`` on in ``steps``: the adjoint of a slice."""
    if shape == x.shape and all(s == 0 for s in starts) and all(s == 1 for s in steps):
        return x
    return apply(_PLACE, x, attrs=(shape, tuple(starts), tuple(steps)))


@public
def concat(arrays: Sequence[Any], axis: int | None = 0) -> Any:
    """Return arrays joined along an axis; flattened first when the axis is None.

    Args:
        arrays: Of equal shapes but for the size along the axis; dtypes promote as in NumPy.
        axis: Where to join.

    Raises:
        ShapeError: the shapes differ elsewhere.

    Example:
        >>> import symgraph as sg
        >>> sg.concat([sg.zeros((2, 3)), sg.ones((1, 3))]).shape
        (3, 3)
    """
    if not arrays:
        raise ShapeError(at_user_line("concat: at least one array is needed"))
    engine = engine_of("concat", arrays)
    values = promote("concat", *[as_value("concat", a, engine) for a in arrays])
    if axis is None:
        return concat([reshape(v, (-1,)) for v in values])
    expect_rank("concat", values[0], 1)
    where = normalize_axis("concat", axis, values[0].ndim)
    rest = {(*v.shape[:where], *v.shape[where + 1 :]) for v in values}
    if len(rest) != 1 or len({v.ndim for v in values}) != 1:
        shown = " and ".join(format_shape(v.shape) for v in values)
        raise ShapeError(at_user_line(f"concat: shapes {shown} differ outside axis {where}"))
    return values[0] if len(values) == 1 else apply(_CONCAT, *values, attrs=(where,))


@public
def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """Return arrays of equal shapes joined along a new axis.

    Example:
        >>> import symgraph as sg
        >>> sg.stack([sg.zeros(3), sg.ones(3)], axis=1).shape
        (3, 2)
    """
    if not arrays:
        raise ShapeError(at_user_line("stack: at least one array is needed"))
    engine = engine_of("stack", arrays)
    values = [as_value("stack", a, engine) for a in arrays]
    if len({v.shape for v in values}) != 1:
        shown = " and ".join(format_shape(v.shape) for v in values)
        raise ShapeError(at_user_line(f"stack: shapes {shown} differ"))
    where = normalize_axis("stack", axis, values[0].ndim + 1)
    return concat([expand_dims(v, where) for v in values], where)


@public
def flip(x: Any, axis: Axis = None) -> Any:
    """Return x with the order of elements reversed along axes (all when None).

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.flip(sg.constant([1.0, 2.0, 3.0])))
        array([3., 2., 1.])
    """
    x = as_value("flip", x)
    axes = normalize_axes("flip", axis, x.ndim)
    starts = tuple(size - 1 if a in axes else 0 for a, size in enumerate(x.shape))
    return slice_at(x, starts, tuple(-1 if a in axes else 1 for a in range(x.ndim)), x.shape)


@public
def roll(x: Any, shift: int | Sequence[int], axis: Axis = None) -> Any:
    """Return x with elements moved along axes; what leaves at one end comes in at the other.

    Args:
        x: Any array.
        shift: By how many places, for each axis.
        axis: Which axes; the flattened array is rolled when None.

    Raises:
        ShapeError: an axis of symbolic size is rolled by more than its size (found at the call).

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.roll(sg.constant([1.0, 2.0, 3.0]), 1))
        array([3., 1., 2.])
    """
    x = as_value("roll", x)
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, 0), x.shape)
    places = axis if isinstance(axis, list | tuple) else (axis,)
    shifts = shift if isinstance(shift, list | tuple) else (shift,) * len(places)
    if len(shifts) != len(places):
        raise ShapeError(at_user_line(f"roll: {shift} and {axis} have different lengths"))
    for one, where in zip(shifts, places, strict=True):
        a = normalize_axis("roll", where, x.ndim)
        size = x.shape[a]
        moved = one if isinstance(size, Dim) else one % size if size else 0
        if moved != 0:
            split = -moved if moved < 0 else size - moved
            x = concat([_along(x, a, split, size - split), _along(x, a, 0, split)], a)
    return x


def _along(x: Any, axis: int, start: Size, count: Size) -> Any:
    starts = tuple(start if a == axis else 0 for a in range(x.ndim))
    return slice_at(x, starts, (1,) * x.ndim, tuple(count if a == axis else s for a, s in enumerate(x.shape)))


@public
def tile(x: Any, repetitions: int | Sequence[int]) -> Any:
    """Return x repeated so many times along each axis.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.tile(sg.constant([1.0, 2.0]), 2))
        array([1., 2., 1., 2.])
    """
    x = as_value("tile", x)
    counts = list(repetitions) if isinstance(repetitions, list | tuple) else [repetitions]
    rank = max(x.ndim, len(counts))
    counts = [1] * (rank - len(counts)) + counts
    shape = (1,) * (rank - x.ndim) + x.shape
    apart = reshape(x, tuple(s for size in shape for s in (1, size)))
    repeated = broadcast_to(apart, tuple(s for c, size in zip(counts, shape, strict=True) for s in (dim(c), size)))
    return reshape(repeated, tuple(dim(c) * size for c, size in zip(counts, shape, strict=True)))


@public
def repeat(x: Any, repeats: int, axis: int | None = None) -> Any:
    """Return x with every element repeated along an axis (of the flattened array when None).

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.repeat(sg.constant([1.0, 2.0]), 2))
        array([1., 1., 2., 2.])
    """
    x = as_value("repeat", x)
    if axis is None:
        return repeat(reshape(x, (-1,)), repeats, 0)
    a = normalize_axis("repeat", axis, x.ndim)
    wide = broadcast_to(expand_dims(x, a + 1), (*x.shape[: a + 1], dim(repeats), *x.shape[a + 1 :]))
    return reshape(wide, (*x.shape[:a], x.shape[a] * dim(repeats), *x.shape[a + 1 :]))


@public
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Any:
    """Return x with a border of constant elements.

    Args:
        x: Any array.
        pad_width: How wide: one number, ``(before, after)``, or one such pair for each axis.
        mode: ``"constant"`` only.
        constant_values: What the border holds, one number.

    Raises:
        ShapeError: another mode, or widths that do not fit the axes.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.pad(sg.constant([1.0, 2.0]), (1, 2)))
        array([0., 1., 2., 0., 0.])
    """
    x = as_value("pad", x)
    if mode != "constant":
        raise ShapeError(at_user_line(f"pad: the mode {mode!r} is not supported, only 'constant'"))
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    except ValueError:
        raise ShapeError(at_user_line(f"pad: widths {pad_width} do not fit shape {format_shape(x.shape)}")) from None
    if any(w < 0 for pair in widths for w in pair):
        raise ShapeError(at_user_line(f"pad: widths {pad_width} cannot be negative"))
    shape = tuple(size + before + after for size, (before, after) in zip(x.shape, widths, strict=True))
    starts = tuple(before for before, _ in widths)
    padded = place(x, shape, starts, (1,) * x.ndim)
    if isinstance(constant_values, int | float) and constant_values == 0:
        return padded
    inside = place(FUNCTIONS["ones_like"](x, "bool"), shape, starts, (1,) * x.ndim)
    return FUNCTIONS["where"](inside, padded, constant_values)
