"""Indexing as NumPy has it: slices with symbolic bounds, integer arrays, functional updates.

An index is read once into a :class:`Region`: what slices, integers and new axes select, which is only a
movement of elements, and which axes of that region integer arrays then index. Reading gathers from the
region, updating scatters into it.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symgraph.arraytype import BOOL, INT64, format_shape
from symgraph.dims import Dim, Shape, Size
from symgraph.errors import DTypeError, ShapeError, at_user_line
from symgraph.op import FUNCTIONS, public
from symgraph.ops.construct import as_value, broadcast_shapes, cast, engine_of, normalize_axis
from symgraph.ops.creation import arange, zeros_like
from symgraph.ops.elementwise import where
from symgraph.ops.movement import broadcast_to, expand_dims, permute_dims, place, reshape, slice_at, squeeze
from symgraph.ops.scatter import Axes, gather, rest_of, scatter_add, scatter_set
from symgraph.value import Value, is_python_scalar


@dataclass(frozen=True, eq=False)
class Region:
    """What an index selects, read once.

    Attributes:
        whole: The shape of the array that is indexed.
        starts, steps, sizes: What is taken along each of its axes.
        dropped: Its axes that an integer takes away.
        added: The axes of the region that are new.
        indices: Index arrays of one shape, over the axes ``axes`` of the region.
        axes: Which axes of the region the index arrays index.
        front: Where NumPy puts the index arrays' axes among the others.
    """

    whole: Shape
    starts: tuple[Size, ...]
    steps: tuple[int, ...]
    sizes: Shape
    dropped: Axes
    added: Axes
    indices: tuple[Any, ...]
    axes: Axes
    front: int

    def take(self, x: Any) -> Any:
        """Return the region of x that slices, integers and new axes select."""
        part = slice_at(x, self.starts, self.steps, self.sizes)
        part = squeeze(part, self.dropped) if self.dropped else part
        return expand_dims(part, self.added)

    def put(self, part: Any) -> Any:
        """Return zeros of the whole shape with the region in its place: the adjoint of ``take``."""
        part = squeeze(part, self.added) if self.added else part
        return place(expand_dims(part, self.dropped), self.whole, self.starts, self.steps)

    @property
    def is_whole(self) -> bool:
        """Whether slices and integers select everything, in order."""
        return self.sizes == self.whole and all(s == 0 for s in self.starts) and all(s == 1 for s in self.steps)

    @property
    def rank(self) -> int:
        """How many axes the region has."""
        return len(self.sizes) - len(self.dropped) + len(self.added)

    def order(self) -> Axes:
        """Return for each axis of NumPy's result the axis of the gathered one."""
        index_rank = self.indices[0].ndim
        others = list(range(index_rank, index_rank + self.rank - len(self.axes)))
        return (*others[: self.front], *range(index_rank), *others[self.front :])


def read_index(name: str, x: Any, index: Any, engine: type[Value]) -> Region:
    """Read a NumPy index of integers, slices, None, Ellipsis and integer arrays, which become values of the engine.

    Raises:
        ShapeError: too many indices, an integer out of range, or a boolean mask.
        DTypeError: an index is not of an integer type.
    """
    entries = _expand_ellipsis(name, x, list(index) if isinstance(index, tuple) else [index])
    taken: list[tuple[Size, int, Size]] = []
    dropped, added, axes, arrays = [], [], [], []
    advanced: list[tuple[int, int]] = []
    region_axis = 0
    for position, entry in enumerate(entries):
        if entry is Ellipsis:
            continue
        if entry is None:
            added.append(region_axis)
            region_axis += 1
            continue
        axis = len(taken)
        if isinstance(entry, slice):
            taken.append(_read_slice(name, entry, x.shape[axis]))
            region_axis += 1
            continue
        advanced.append((position, region_axis))
        integer = _as_integer(entry)
        if integer is not None:
            taken.append((_read_integer(name, x, axis, integer), 1, 1))
            dropped.append(axis)
            continue
        taken.append((0, 1, x.shape[axis]))
        arrays.append(entry)
        axes.append(region_axis)
        region_axis += 1
    indices = _index_arrays(name, engine, arrays)
    adjacent = bool(advanced) and advanced[-1][0] - advanced[0][0] == len(advanced) - 1
    starts, steps, sizes = (tuple(column) for column in zip(*taken, strict=True)) if taken else ((), (), ())
    return Region(
        whole=x.shape,
        starts=starts,
        steps=steps,
        sizes=sizes,
        dropped=tuple(dropped),
        added=tuple(added),
        indices=indices,
        axes=tuple(axes),
        front=advanced[0][1] if adjacent else 0,
    )


def _expand_ellipsis(name: str, x: Any, entries: list[Any]) -> list[Any]:
    """Return the entries with a full slice for each axis that none of them names; an Ellipsis stays as a mark."""
    for entry in entries:
        if _is_mask(entry):
            raise ShapeError(
                at_user_line(
                    f"{name}: a boolean mask selects as many elements as the data say, which no shape can express: "
                    f"use sg.where(mask, x, 0), or x.at[mask].set(value)"
                )
            )
    named = sum(entry is not None and entry is not Ellipsis for entry in entries)
    marks = sum(entry is Ellipsis for entry in entries)
    if named > x.ndim or marks > 1:
        fault = f"{named} indices are too many" if named > x.ndim else "more than one Ellipsis"
        raise ShapeError(at_user_line(f"{name}: {fault} for an array of shape {format_shape(x.shape)}"))
    at = next((i for i, entry in enumerate(entries) if entry is Ellipsis), len(entries))
    return [*entries[: at + 1], *[slice(None)] * (x.ndim - named), *entries[at + 1 :]]


def _is_mask(entry: Any) -> bool:
    if isinstance(entry, list):
        try:
            entry = np.asarray(entry)
        except (TypeError, ValueError):
            return False
    return isinstance(entry, bool) or getattr(entry, "dtype", None) == BOOL


def _as_integer(entry: Any) -> Size | None:
    if isinstance(entry, Dim):
        return entry
    if isinstance(entry, Value | np.ndarray) and not (isinstance(entry, np.ndarray) and entry.ndim == 0):
        return None
    try:
        return operator.index(entry)
    except TypeError:
        return None


def _read_integer(name: str, x: Any, axis: int, index: Size) -> Size:
    size = x.shape[axis]
    if isinstance(index, int) and isinstance(size, int) and not -size <= index < size:
        raise ShapeError(
            at_user_line(f"{name}: index {index} is out of bounds for axis {axis} of shape {format_shape(x.shape)}")
        )
    return size + index if isinstance(index, int) and index < 0 else index


def _read_slice(name: str, entry: slice, size: Size) -> tuple[Size, int, Size]:
    """Return start, step and count of a slice: NumPy's for a known size, a polynomial for a symbolic one."""
    try:
        step = 1 if entry.step is None else operator.index(entry.step)
        start, stop = (_bound(bound) for bound in (entry.start, entry.stop))
    except TypeError:
        raise DTypeError(
            at_user_line(f"{name}: the slice {entry.start}:{entry.stop}:{entry.step} needs integers or sizes as bounds")
        ) from None
    if step == 0:
        raise ShapeError(at_user_line(f"{name}: the step of a slice cannot be 0"))
    if isinstance(size, int) and not isinstance(start, Dim) and not isinstance(stop, Dim):
        chosen = range(*slice(start, stop, step).indices(size))
        return (chosen.start, step, len(chosen)) if chosen else (0, 1, 0)
    first: Size = (0 if step > 0 else size - 1) if start is None else _from_front(start, size)
    last: Size = (size if step > 0 else -1) if stop is None else _from_front(stop, size)
    distance = last - first if step > 0 else first - last
    count = (distance + (abs(step) - 1)) // abs(step)
    if isinstance(count, int) and count <= 0:
        return 0, 1, 0
    return first, step, count


def _bound(bound: Any) -> Size | None:
    return bound if bound is None or isinstance(bound, Dim) else operator.index(bound)


def _from_front(bound: Size, size: Size) -> Size:
    return size + bound if isinstance(bound, int) and bound < 0 else bound


def _index_arrays(name: str, engine: type[Value], arrays: Sequence[Any]) -> tuple[Any, ...]:
    """Return index arrays as int64 values of the engine and of one shape."""
    if not arrays:
        return ()
    values = []
    for array in arrays:
        empty = isinstance(array, list) and not array
        value = as_value(name, np.zeros(0, INT64) if empty else array, engine)
        if value.dtype.kind not in "iu":
            raise DTypeError(
                at_user_line(f"{name}: an index is an integer, a slice or an array of integers, not {array!r}")
            )
        values.append(cast(value, INT64))
    shape = broadcast_shapes(name, *[value.shape for value in values])
    return tuple(broadcast_to(value, shape) for value in values)


def _parts_of_index(index: Any) -> list[Any]:
    return [part for part in (index if isinstance(index, tuple) else (index,)) if isinstance(part, Value)]


@public
def getitem(x: Any, index: Any) -> Any:
    """Return ``x[index]`` with NumPy's meaning.

    Args:
        x: Any array.
        index: Integers, slices with any step, None, Ellipsis, integer arrays or nodes, or a tuple of them.
            On an axis of symbolic size n the slice ``a:b:k`` has ``(b - a + k - 1) // k`` elements: it is not
            cut off at the end but checked at the call. Bounds may be symbolic sizes.

    Raises:
        ShapeError: an integer is out of range, there are too many indices, or a boolean mask is given.
        DTypeError: an index is not of an integer type.
        IndexError: at the call, an element of an index array is out of range.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph():
        ...     x = sg.placeholder("x", ("n", 4))
        >>> x[1:, ::-2].shape, x[:, [0, 2, 3]].shape
        ((n-1, 2), (n, 3))
    """
    engine = engine_of("getitem", (x, *_parts_of_index(index)))
    x = as_value("getitem", x, engine)
    region = read_index("getitem", x, index, engine)
    part = region.take(x)
    if not region.indices:
        return part
    return permute_dims(gather(part, region.indices, region.axes), region.order())


_BREADTH = {"b": 0, "u": 1, "i": 1, "f": 2}


def _updates(name: str, x: Any, value: Any, shape: Shape, engine: type[Value]) -> Any:
    """Return the value of an update in x's dtype and the shape of what is updated."""
    given = as_value(name, value, engine)
    if _BREADTH[given.dtype.kind] > _BREADTH[x.dtype.kind]:
        raise DTypeError(
            at_user_line(f"{name}: elements of {given.dtype} do not fit into an array of {x.dtype}: convert it first")
        )
    exact = as_value(name, value, engine, x.dtype) if is_python_scalar(value) else given
    return broadcast_to(cast(exact, x.dtype), shape)


def _update(name: str, x: Any, index: Any, value: Any, add: bool) -> Any:
    engine = engine_of(name, (x, value, *_parts_of_index(index)))
    x = as_value(name, x, engine)
    if not isinstance(index, tuple | bool) and _is_mask(index):
        return _update_masked(name, x, as_value(name, index, engine), value, add, engine)
    region = read_index(name, x, index, engine)
    part = region.take(x)
    if not region.indices:
        new = _updates(name, x, value, part.shape, engine)
    else:
        order = region.order()
        gathered = region.indices[0].shape + rest_of(part.shape, region.axes)
        shaped = _updates(name, x, value, tuple(gathered[a] for a in order), engine)
        updates = permute_dims(shaped, tuple(order.index(a) for a in range(len(order))))
        if add:
            base = x if part is x else zeros_like(part)
            new = scatter_add(base, updates, region.indices, region.axes)
        else:
            new = scatter_set(part, updates, region.indices, region.axes)
        if part is x:
            return new
    if add:
        return x + region.put(new)
    inside = region.put(FUNCTIONS["ones_like"](new, BOOL))
    return region.put(new) if region.is_whole else where(inside, region.put(new), x)


def _update_masked(name: str, x: Any, mask: Any, value: Any, add: bool, engine: type[Value]) -> Any:
    """Update where a mask over the leading axes holds, with a value that is the same at each place."""
    if mask.ndim > x.ndim or mask.shape != x.shape[: mask.ndim]:
        raise ShapeError(
            at_user_line(
                f"{name}: a mask of shape {format_shape(mask.shape)} does not fit an array of {format_shape(x.shape)}"
            )
        )
    rest = x.shape[mask.ndim :]
    given = as_value(name, value, engine)
    if given.ndim > len(rest):
        raise ShapeError(
            at_user_line(
                f"{name}: at a mask the value has the shape of one place, {format_shape(rest)}, "
                f"got {format_shape(given.shape)}: use sg.where(mask, value, x)"
            )
        )
    wide = expand_dims(mask, tuple(range(mask.ndim, x.ndim)))
    updates = _updates(name, x, value, rest, engine)
    return where(wide, x + updates if add else updates, x)


@public
def at_set(x: Any, index: Any, value: Any) -> Any:
    """Return x with the elements at an index replaced: ``x.at[index].set(value)``.

    Args:
        x: Any array.
        index: As for indexing; where an index array repeats an index, the last value stays. Also a boolean
            mask of the shape of x or of its leading axes.
        value: Broadcasts to the shape of ``x[index]``; at a mask, to the shape of one place.

    Raises:
        ShapeError: the index or the value does not fit.
        DTypeError: the value's kind of number does not fit into x.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.constant([1.0, 2.0, 3.0]).at[1:].set(0))
        array([1., 0., 0.])
    """
    return _update("at_set", x, index, value, add=False)


@public
def at_add(x: Any, index: Any, value: Any) -> Any:
    """Return x with a value added at an index: ``x.at[index].add(value)``; repeated indices add up.

    Args and errors are those of ``x.at[index].set(value)``.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.constant([1.0, 2.0, 3.0]).at[[0, 0]].add(5))
        array([11.,  2.,  3.])
    """
    return _update("at_add", x, index, value, add=True)


@public
def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """Return the elements of x at indices along an axis (of the flattened array when None).

    Raises:
        DTypeError: the indices are not integers.
        IndexError: at the call, an index is out of range.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.take(sg.constant([[1.0, 2.0], [3.0, 4.0]]), [1, 0], axis=1))
        array([[2., 1.],
               [4., 3.]])
    """
    x = as_value("take", x, engine_of("take", (x, indices)))
    if axis is None:
        return take(reshape(x, (-1,)), indices, 0)
    where_to = normalize_axis("take", axis, x.ndim)
    return getitem(x, (*[slice(None)] * where_to, list(indices) if isinstance(indices, tuple) else indices))


@public
def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Any:
    """Return for each place the element of x that an index along one axis names.

    Args:
        x: Any array.
        indices: Integers, with as many axes as x; the other axes broadcast.
        axis: Which axis; the flattened array when None.

    Raises:
        ShapeError: the shapes do not fit.
        IndexError: at the call, an index is out of range.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.take_along_axis(sg.constant([[1.0, 2.0], [3.0, 4.0]]), [[1], [0]], 1))
        array([[2.],
               [3.]])
    """
    engine = engine_of("take_along_axis", (x, indices))
    x, places = as_value("take_along_axis", x, engine), as_value("take_along_axis", indices, engine)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    along = normalize_axis("take_along_axis", axis, x.ndim)
    if places.ndim != x.ndim:
        shown = f"{format_shape(places.shape)} and {format_shape(x.shape)}"
        raise ShapeError(at_user_line(f"take_along_axis: indices and array of shapes {shown} need as many axes"))
    shape = list(broadcast_shapes("take_along_axis", _replaced(x.shape, along, 1), _replaced(places.shape, along, 1)))
    result = _replaced(tuple(shape), along, places.shape[along])
    wide = broadcast_to(x, _replaced(tuple(shape), along, x.shape[along]))
    counted = [_along(arange(size), a, x.ndim) if a != along else places for a, size in enumerate(result)]
    arrays = _index_arrays("take_along_axis", engine, [broadcast_to(index, result) for index in counted])
    return gather(wide, arrays, tuple(range(x.ndim)))


def _replaced(shape: Shape, axis: int, size: Size) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _along(values: Any, axis: int, rank: int) -> Any:
    """Return a vector as an array of this rank, along one axis."""
    return expand_dims(values, tuple(a for a in range(rank) if a != axis))
