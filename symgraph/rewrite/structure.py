"""The laws of shapes, dtypes, constants and reductions.

Derivative graphs are full of broadcasts that the next operation would do by itself, and of movements that
undo each other. A movement whose sizes only a call can check is never merged away, so that the check stays.
"""

# ruff: noqa: PLW0108 (both sides of a law are functions of its variables, and are written as such)

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from symgraph.dims import Shape, is_never_negative, product
from symgraph.expr import Expr, constant, constant_value, make
from symgraph.op import REGISTRY, Kind
from symgraph.ops.elementwise import negative
from symgraph.rewrite.laws import Law, family, known, primitive

Axes = tuple[int, ...]
DType = np.dtype[np.generic]

reshape, permute_dims, concat = primitive("reshape"), primitive("permute_dims"), primitive("concat")
expand_dims, squeeze, broadcast_to = primitive("expand_dims"), primitive("squeeze"), primitive("broadcast_to")
slice_at, place, astype, matmul = primitive("slice"), primitive("place"), primitive("astype"), primitive("matmul")
total, mean, prod = primitive("sum"), primitive("mean"), primitive("prod")
greatest, least = primitive("max"), primitive("min")

exact = partial(Law, kind="exact", group="structure")
rounding = partial(Law, kind="rounding", group="structure")

_FOLDED_SIZE = 1
_MANTISSA = {4: 24, 8: 53}
_FILLED = {"reshape", "permute_dims", "expand_dims", "squeeze", "slice"}


def _fold(node: Expr, inner: tuple[Expr, ...]) -> Expr:
    arrays: list[Any] = [constant_value(arg) for arg in inner]
    with np.errstate(all="ignore"):
        result = np.asarray(node.op.evaluate(*arrays, *node.attrs))
    return constant(result.astype(node.dtype, copy=False))


def _is_small(inner: tuple[Expr, ...]) -> bool:
    return all(arg.size == _FOLDED_SIZE for arg in inner)


def _is_decided(name: str, x: Expr, *attrs: Any) -> bool:
    """Tell whether an operation needs no check of its sizes at the call."""
    requires = REGISTRY[name].requires
    return requires is None or all(
        needed.relation == ">= 0" and is_never_negative(needed.size) for needed in requires(x.type, *attrs)
    )


def _is_whole(starts: Shape, steps: Axes) -> bool:
    return all(start == 0 for start in starts) and all(step == 1 for step in steps)


def _keeps_values(narrow: DType, wide: DType) -> bool:
    """Tell whether every number of one dtype is one of another."""
    if narrow == wide or narrow.kind == "b":
        return True
    if wide.kind == "f" and narrow.kind in "iu":
        return narrow.itemsize * 8 <= _MANTISSA[wide.itemsize]
    return wide.kind != "b" and np.can_cast(narrow, wide, "safe")


def _skips(x: Expr, d: DType, e: DType) -> bool:
    """Tell whether ``x -> d -> e`` is ``x -> e``; what a float out of an integer's range becomes is undefined."""
    return _keeps_values(x.dtype, d) and (e == x.dtype or e.kind in "fb" or d.kind != "f")


def _without_leading_axes(node: Expr, inner: tuple[Expr, ...]) -> Expr | None:
    args = tuple(
        opened if opened is not arg and arg.attrs[0] == tuple(range(len(arg.attrs[0]))) else arg
        for arg, opened in zip(node.args, inner, strict=True)
    )
    return None if args == node.args else make(node.op, args, node.attrs)


def _is_single(x: Expr, a: Axes) -> bool:
    return all(x.shape[axis] == 1 for axis in a)


def _without(x: Expr, a: Axes, k: bool) -> Any:
    return x if k or not a else squeeze(x, a)


def _merged_expansion(a: Axes, b: Axes) -> Axes:
    kept = [axis for axis in range(len(a) + len(b) + max((*a, *b))) if axis not in b]
    return tuple(sorted((*b, *[kept[axis] for axis in a])))


def _merged_squeeze(x: Expr, a: Axes, b: Axes) -> Axes:
    left = [axis for axis in range(x.ndim) if axis not in a]
    return tuple(sorted((*a, *[left[axis] for axis in b])))


def _slice_of_slice(x: Expr, a: Shape, b: Axes, d: Shape, e: Axes, sizes: Shape) -> Any:
    starts = tuple(first + step * start for first, step, start in zip(a, b, d, strict=True))
    return slice_at(x, starts, tuple(step * other for step, other in zip(b, e, strict=True)), sizes)


def _place_of_place(x: Expr, a: Shape, b: Axes, shape: Shape, d: Shape, e: Axes) -> Any:
    starts = tuple(first + step * start for first, step, start in zip(d, e, a, strict=True))
    return place(x, shape, starts, tuple(step * other for step, other in zip(b, e, strict=True)))


def _sum_of_broadcast(x: Expr, shape: Shape, a: Axes, k: bool) -> Any:
    extra = len(shape) - x.ndim
    aligned = expand_dims(x, tuple(range(extra))) if extra else x
    if not a or not _is_single(aligned, a):
        return None
    return _without(aligned, a, k) * constant(product(shape[axis] for axis in a), x.dtype)


# fmt: off
ELEMENTS = (
    exact("constant",             lambda node, inner: family(Kind.ELEMENTWISE, "constant", inner, every=True),
                                  _fold, _is_small, statement="f(numbers) -> number",
          sample={"node": lambda x, y: constant(0.5, x.dtype) * constant(3, x.dtype) + x}),
    exact("broadcast_argument",   lambda node, inner: family(Kind.ELEMENTWISE, "broadcast_to", inner),
                                  lambda node, inner: make(node.op, inner, node.attrs),
          statement="f(broadcast_to(x, s), y) -> f(x, y), broadcast to s if y is smaller",
          sample={"node": lambda x, y: broadcast_to(y, (3, 4)) * x}),
    exact("leading_axis_argument", lambda node, inner: family(Kind.ELEMENTWISE, "expand_dims", inner),
                                  _without_leading_axes,
          statement="f(expand_dims(x, leading axes), y) -> f(x, y), broadcast if y has not these axes",
          sample={"node": lambda x, y: expand_dims(y, (0,)) * x}),
    exact("astype_same",          lambda x, d: astype(x, d),      lambda x: x, lambda x, d: x.dtype == d,
          statement="astype(x, dtype of x) -> x", sample={"x": "float32", "d": np.dtype("float32")}),
    exact("astype_of_astype",     lambda x, d, e: astype(astype(x, d), e), lambda x, e: astype(x, e), _skips,
          sample={"x": "float32", "d": np.dtype("float64"), "e": np.dtype("float32")}),
)

SHAPES = (
    exact("reshape_same",         lambda x, a: reshape(x, a),     lambda x: x, lambda x, a: x.shape == a,
          statement="reshape(x, shape of x) -> x", sample={"a": (3, 4)}),
    exact("reshape_of_reshape",   lambda x, a, b: reshape(reshape(x, a), b), lambda x, b: reshape(x, b),
                                  lambda x, a: _is_decided("reshape", x, a), sample={"a": (2, 6), "b": (12,)}),
    exact("reshape_of_expanded",  lambda x, a, b: reshape(expand_dims(x, a), b), lambda x, b: reshape(x, b),
          sample={"a": (1,), "b": (12,)}),
    exact("reshape_of_squeezed",  lambda x, a, b: reshape(squeeze(x, a), b), lambda x, b: reshape(x, b),
          sample={"x": (3, 1, 4), "a": (1,), "b": (12,)}),
    exact("permute_same",         lambda x, a: permute_dims(x, a), lambda x: x, lambda a: a == tuple(range(len(a))),
          statement="permute_dims(x, (0, 1, ...)) -> x", sample={"a": (0, 1)}),
    exact("permute_of_permute",   lambda x, a, b: permute_dims(permute_dims(x, a), b),
                                  lambda x, a, b: permute_dims(x, tuple(a[axis] for axis in b)),
          statement="permute_dims(permute_dims(x, a), b) -> permute_dims(x, a[b])",
          sample={"x": (3, 4, 2), "a": (1, 2, 0), "b": (1, 0, 2)}),
    exact("squeeze_of_expanded",  lambda x, a: squeeze(expand_dims(x, a), a), lambda x: x, sample={"a": (1,)}),
    exact("expanded_squeeze",     lambda x, a: expand_dims(squeeze(x, a), a), lambda x: x,
          sample={"x": (3, 1), "a": (1,)}),
    exact("expanded_twice",       lambda x, a, b: expand_dims(expand_dims(x, a), b),
                                  lambda x, a, b: expand_dims(x, _merged_expansion(a, b)),
          statement="expand_dims(expand_dims(x, a), b) -> expand_dims(x, a and b)", sample={"a": (1,), "b": (0, 2)}),
    exact("squeezed_twice",       lambda x, a, b: squeeze(squeeze(x, a), b),
                                  lambda x, a, b: squeeze(x, _merged_squeeze(x, a, b)),
          statement="squeeze(squeeze(x, a), b) -> squeeze(x, a and b)",
          sample={"x": (1, 3, 1, 1), "a": (0, 3), "b": (1,)}),
    exact("broadcast_same",       lambda x, a: broadcast_to(x, a), lambda x: x, lambda x, a: x.shape == a,
          statement="broadcast_to(x, shape of x) -> x", sample={"a": (3, 4)}),
    exact("broadcast_twice",      lambda x, a, b: broadcast_to(broadcast_to(x, a), b),
                                  lambda x, b: broadcast_to(x, b), sample={"x": (4,), "a": (3, 4), "b": (2, 3, 4)}),
    exact("broadcast_of_expanded", lambda x, a, b: broadcast_to(expand_dims(x, a), b),
                                  lambda x, b: broadcast_to(x, b), lambda a: a == tuple(range(len(a))),
          statement="broadcast_to(expand_dims(x, leading axes), b) -> broadcast_to(x, b)",
          sample={"a": (0,), "b": (2, 3, 4)}),
    exact("filled",               lambda node, inner: family(Kind.MOVEMENT, "broadcast_to", inner),
                                  lambda node, inner: broadcast_to(inner[0], node.shape),
                                  lambda node, inner: node.op.name in _FILLED and inner[0].ndim == 0
                                  and _is_decided(node.op.name, node.args[0], *node.attrs),
          statement="reshape(broadcast_to(number, a), b) -> broadcast_to(number, b); other movements but place too",
          sample={"node": lambda x, y: reshape(broadcast_to(constant(2, x.dtype), (2, 6)), (3, 4)) * x}),
    exact("slice_same",           lambda x, a, b, c: slice_at(x, a, b, c), lambda x: x,
                                  lambda x, a, b, c: c == x.shape and _is_whole(a, b),
          statement="x[:] -> x", sample={"a": (0, 0), "b": (1, 1), "c": (3, 4)}),
    exact("slice_of_slice",       lambda x, a, b, c, d, e, sizes: slice_at(slice_at(x, a, b, c), d, e, sizes),
                                  _slice_of_slice, lambda x, a, b, c: _is_decided("slice", x, a, b, c),
          statement="slice(slice(x)) -> slice(x)",
          sample={"a": (2, 1), "b": (-1, 1), "c": (3, 3), "d": (1, 0), "e": (1, 2), "sizes": (2, 2)}),
    exact("slice_of_place",       lambda x, a, b, s, sizes: slice_at(place(x, s, a, b), a, b, sizes),
                                  lambda x: x,
                                  lambda x, s, a, b, sizes: sizes == x.shape and _is_decided("place", x, s, a, b),
          sample={"s": (6, 4), "a": (1, 0), "b": (2, 1), "sizes": (3, 4)}),
    exact("place_same",           lambda x, s, a, b: place(x, s, a, b), lambda x: x,
                                  lambda x, s, a, b: s == x.shape and _is_whole(a, b),
          statement="place(x, shape of x, 0, 1) -> x", sample={"s": (3, 4), "a": (0, 0), "b": (1, 1)}),
    exact("place_of_place",       lambda x, s, a, b, shape, d, e: place(place(x, s, a, b), shape, d, e),
                                  _place_of_place, lambda x, s, a, b: _is_decided("place", x, s, a, b),
          statement="place(place(x)) -> place(x)",
          sample={"s": (6, 4), "a": (1, 3), "b": (2, -1), "shape": (8, 9), "d": (1, 0), "e": (1, 2)}),
    exact("concat_of_one",        lambda x, a: concat(x, a),      lambda x: x, sample={"a": 0}),
)

REDUCTIONS = (
    exact("prod_of_one",          lambda x, a, k: prod(x, a, k),  _without, _is_single,
          statement="prod(x, axes of size 1) -> x without them", sample={"x": (3, 1), "a": (1,), "k": False}),
    exact("max_of_one",           lambda x, a, k: greatest(x, a, k), _without, _is_single,
          statement="max(x, axes of size 1) -> x without them", sample={"x": (3, 1), "a": (1,), "k": False}),
    exact("min_of_one",           lambda x, a, k: least(x, a, k), _without, _is_single,
          statement="min(x, axes of size 1) -> x without them", sample={"x": (3, 1), "a": (1,), "k": True}),
)

# NumPy's sum starts from 0.0, so that the sum of a single -0.0 is 0.0: exact but for the sign of a zero.
ROUNDING = (
    rounding("sum_of_one",        lambda x, a, k: total(x, a, k), _without, _is_single,
             statement="sum(x, axes of size 1) -> x without them", sample={"x": (3, 1), "a": (1,), "k": False}),
    rounding("mean_of_one",       lambda x, a, k: mean(x, a, k),  _without, _is_single,
             statement="mean(x, axes of size 1) -> x without them", sample={"x": (3, 1), "a": (1,), "k": False}),
    rounding("sum_of_negation",   lambda x, a, k: total(negative(x), a, k), lambda x, a, k: -total(x, a, k),
             sample={"a": (1,), "k": False}),
    rounding("mean_of_negation",  lambda x, a, k: mean(negative(x), a, k), lambda x, a, k: -mean(x, a, k),
             sample={"a": (1,), "k": False}),
    rounding("sum_of_scale",      lambda x, c, a, k: total(x * known(c), a, k), lambda x, c, a, k: total(x, a, k) * c,
             lambda c: c.ndim == 0, sample={"c": 3.0, "a": (1,), "k": False}),
    rounding("mean_of_scale",     lambda x, c, a, k: mean(x * known(c), a, k), lambda x, c, a, k: mean(x, a, k) * c,
             lambda c: c.ndim == 0, sample={"c": 3.0, "a": (1,), "k": False}),
    rounding("sum_of_broadcast",  lambda x, shape, a, k: total(broadcast_to(x, shape), a, k), _sum_of_broadcast,
             statement="sum(broadcast_to(x, s), repeated axes) -> x * count",
             sample={"x": (4,), "shape": (3, 4), "a": (0,), "k": False}),
    rounding("matmul_of_negation", lambda x, y: matmul(negative(x), y), lambda x, y: -matmul(x, y),
             sample={"y": (4, 2)}),
    rounding("matmul_with_negation", lambda x, y: matmul(x, negative(y)), lambda x, y: -matmul(x, y),
             sample={"y": (4, 2)}),
    rounding("transposed_matmul", lambda x, y: permute_dims(matmul(x, y), (1, 0)),
                                  lambda x, y: matmul(permute_dims(y, (1, 0)), permute_dims(x, (1, 0))),
             lambda x, y: x.ndim == y.ndim == 2, sample={"y": (4, 2)}),
)
# fmt: on

STRUCTURE = (*ELEMENTS, *SHAPES, *REDUCTIONS, *ROUNDING)
