"""Softmax and the usual losses, made of other operations."""

from __future__ import annotations

import math
from typing import Any

from symgraph.arraytype import INT64, format_shape
from symgraph.errors import DTypeError, ShapeError, at_user_line
from symgraph.op import public
from symgraph.ops.construct import as_value, cast, engine_of, expect_rank, float_dtype, normalize_axis, promote
from symgraph.ops.creation import arange
from symgraph.ops.elementwise import equal, exp, greater_equal, less, logical_and, softplus, square, where
from symgraph.ops.movement import expand_dims
from symgraph.ops.reductions import logsumexp, mean
from symgraph.ops.reductions import sum as total


@public
def log_softmax(x: Any, axis: int = -1) -> Any:
    """Return the logarithm of softmax along an axis, without overflow.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.log_softmax(sg.constant([0.0, 0.0]))).round(4)
        array([-0.6931, -0.6931])
    """
    (x,) = promote("log_softmax", x, floating=True)
    expect_rank("log_softmax", x, 1)
    return x - logsumexp(x, normalize_axis("log_softmax", axis, x.ndim), keepdims=True)


@public
def softmax(x: Any, axis: int = -1) -> Any:
    """Return ``exp(x)`` divided by its sum along an axis, without overflow.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.softmax(sg.constant([1.0, 1.0])))
        array([0.5, 0.5])
    """
    return exp(log_softmax(x, axis))


@public
def mean_squared_error(prediction: Any, target: Any) -> Any:
    """Return the mean over all elements of the squared difference.

    Args:
        prediction, target: Of one shape, or one of them a single number. Other shapes that would broadcast are
            refused: ``(n,)`` against ``(n, 1)`` is nearly always a mistake.

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.mean_squared_error(sg.constant([1.0, 2.0]), sg.constant([1.0, 4.0])))
        np.float64(2.0)
    """
    x, y = promote("mean_squared_error", prediction, target, floating=True)
    _check_alike("mean_squared_error", x, y)
    return mean(square(x - y))


@public
def sigmoid_cross_entropy(logits: Any, labels: Any) -> Any:
    """Return for each element the cross-entropy of a yes-or-no label and ``sigmoid(logits)``, without overflow.

    Args:
        logits: Any shape.
        labels: Probabilities of yes, of the same shape, or one number for all.

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.sigmoid_cross_entropy(sg.constant([0.0, 1000.0]), sg.constant([1.0, 1.0]))).round(4)
        array([0.6931, 0.    ])
    """
    x, y = promote("sigmoid_cross_entropy", logits, labels, floating=True)
    _check_alike("sigmoid_cross_entropy", x, y)
    return softplus(x) - x * y


@public
def softmax_cross_entropy(logits: Any, labels: Any, axis: int = -1) -> Any:
    """Return for each example the cross-entropy of its label and ``softmax(logits)``, without overflow.

    Args:
        logits: One number per class along the axis.
        labels: Probabilities (one-hot ones, for instance) of the same shape; or integers with one axis less, that
            name the classes. The loss of an integer that names no class is NaN.
        axis: Which axis the classes are along.

    Raises:
        ShapeError: the shapes do not fit.
        DTypeError: labels with one axis less are not integers.

    Example:
        >>> import symgraph as sg
        >>> logits = sg.constant([[0.0, 0.0], [1000.0, 0.0]])
        >>> sg.evaluate(sg.softmax_cross_entropy(logits, [0, 1])).round(4)
        array([6.931e-01, 1.000e+03])
        >>> sg.evaluate(sg.softmax_cross_entropy(logits, sg.one_hot([0, 1], 2))).round(4)
        array([6.931e-01, 1.000e+03])
    """
    name = "softmax_cross_entropy"
    engine = engine_of(name, (logits, labels))
    x, y = as_value(name, logits, engine), as_value(name, labels, engine)
    expect_rank(name, x, 1)
    classes = normalize_axis(name, axis, x.ndim)
    if y.shape == x.shape:
        scores, probabilities = promote(name, x, y, floating=True)
        return -total(probabilities * log_softmax(scores, classes), classes)
    if y.shape != (*x.shape[:classes], *x.shape[classes + 1 :]):
        raise ShapeError(
            at_user_line(
                f"{name}: labels of shape {format_shape(y.shape)} are neither probabilities nor classes for logits "
                f"of shape {format_shape(x.shape)} along axis {classes}"
            )
        )
    if y.dtype.kind not in "iu":
        raise DTypeError(at_user_line(f"{name}: labels that name classes are integers, not {y.dtype}"))
    return _of_classes(cast(x, float_dtype(x.dtype)), cast(y, INT64), classes)


def _of_classes(x: Any, labels: Any, axis: int) -> Any:
    """Choose the logit by comparison rather than by indexing, so that the loss fuses into one loop over the data."""
    count = x.shape[axis]
    numbers = expand_dims(arange(count), tuple(a for a in range(x.ndim) if a != axis))
    chosen = total(where(equal(expand_dims(labels, axis), numbers), x, 0), axis)
    known = logical_and(greater_equal(labels, 0), less(labels, count))
    return (logsumexp(x, axis) - chosen) + where(
        known, 0, cast(as_value("softmax_cross_entropy", math.nan, type(x)), x.dtype)
    )


def _check_alike(name: str, x: Any, y: Any) -> None:
    if x.shape != y.shape and x.ndim and y.ndim:
        raise ShapeError(at_user_line(f"{name}: shapes {format_shape(x.shape)} and {format_shape(y.shape)} differ"))
