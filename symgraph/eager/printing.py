"""Tensors printed as PyTorch prints them.

The rules, found by printing with PyTorch 2: four digits after the point; whole numbers get a bare point;
scientific notation when the largest magnitude is over 1000 times the smallest non-zero one or over 1e8, or
the smallest under 1e-4 among numbers that are not whole; one width for all elements, that of the widest
finite one; lines of 80 characters;
over 1000 elements, three at either end of each axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_WIDTH, _THRESHOLD, _EDGE = 80, 1000, 3
_UNSAID = ("float32", "int64", "bool")


def format_tensor(array: Array, suffixes: Sequence[str] = ()) -> str:
    """Return the text of a tensor.

    Args:
        array: Its elements.
        suffixes: What else is said of it, such as ``requires_grad=True``.
    """
    prefix = "tensor("
    unsaid = _UNSAID if array.size else _UNSAID[:1]
    said = [] if array.dtype.name in unsaid else [f"dtype=torch.{array.dtype.name}"]
    if array.size == 0:
        said = [f"size={array.shape}", *said] if array.ndim != 1 else said
        body = "[]"
    else:
        body = _format_body(array, len(prefix))
    text = prefix + body
    length = len(text) - text.rfind("\n") - 1
    for suffix in [*said, *suffixes]:
        if length + len(suffix) + 3 > _WIDTH:
            text += ",\n" + " " * len(prefix) + suffix
            length = len(prefix) + len(suffix)
        else:
            text += ", " + suffix
            length += len(suffix) + 2
    return text + ")"


def _format_body(array: Array, indent: int) -> str:
    shortened = array.size > _THRESHOLD
    shown = _edges(array) if shortened else array
    element, width = _element_format(shown.reshape(-1))
    return _format_axis(array, indent, shortened, element, width)


def _edges(array: Array) -> Array:
    for axis in range(array.ndim):
        if array.shape[axis] > 2 * _EDGE:
            kept = [*range(_EDGE), *range(array.shape[axis] - _EDGE, array.shape[axis])]
            array = np.take(array, kept, axis)
    return array


def _element_format(values: Array) -> tuple[Callable[[Any], str], int]:
    if values.dtype.kind != "f":
        texts = [str(v) for v in values.tolist()]
        return str, max(map(len, texts))
    numbers = values.astype(np.float64)
    usual = numbers[np.isfinite(numbers) & (numbers != 0)]
    if not usual.size:
        element = _whole
    else:
        largest, smallest = float(np.max(np.abs(usual))), float(np.min(np.abs(usual)))
        whole = bool(np.all(np.ceil(usual) == usual))
        if largest > 1000 * smallest or largest > 1e8 or (not whole and smallest < 1e-4):
            element = _scientific
        else:
            element = _whole if whole else _fixed
    return element, max((len(element(v)) for v in usual.tolist()), default=1)


def _whole(value: float) -> str:
    return f"{value:.0f}." if np.isfinite(value) else str(value)


def _fixed(value: float) -> str:
    return f"{value:.4f}"


def _scientific(value: float) -> str:
    return f"{value:.4e}"


def _format_axis(array: Array, indent: int, shortened: bool, element: Callable[[Any], str], width: int) -> str:
    if array.ndim == 0:
        return element(array.item())
    shorten = shortened and array.shape[0] > 2 * _EDGE
    if array.ndim == 1:
        per_line = max(1, (_WIDTH - indent) // (width + 2))
        if shorten:
            texts = [element(v).rjust(width) for v in array[:_EDGE].tolist()]
            texts += [" ..."] + [element(v).rjust(width) for v in array[-_EDGE:].tolist()]
        else:
            texts = [element(v).rjust(width) for v in array.tolist()]
        lines = [", ".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    rows: list[Array | None] = [*array[:_EDGE], None, *array[-_EDGE:]] if shorten else [*array]
    parts = ["..." if row is None else _format_axis(row, indent + 1, shortened, element, width) for row in rows]
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(parts) + "]"
