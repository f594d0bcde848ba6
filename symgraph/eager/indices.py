"""Indices as PyTorch has them: with tensors, lists and masks in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.value import Value


def plain_index(index: Any) -> Any:
    """Return an index with tensors as arrays, and masks as the positions where they are true."""
    if isinstance(index, tuple):
        return tuple(part for item in index for part in _plain_items(item))
    items = _plain_items(index)
    return items[0] if len(items) == 1 else tuple(items)


def _plain_items(item: Any) -> Sequence[Any]:
    if isinstance(item, Value):
        array: np.ndarray[Any, Any] = item._array  # type: ignore[attr-defined]
        item = array if array.ndim or array.dtype.kind == "b" else int(array)
    elif isinstance(item, list):
        item = np.asarray(item)
    if isinstance(item, np.ndarray) and item.dtype.kind == "b" and item.ndim:
        return item.nonzero()
    return (item,)


def index_name(index: Any) -> str:
    """Return what PyTorch calls the backward step of an index: the last of the steps it takes."""
    last = "Alias"
    for item in index if isinstance(index, tuple) else (index,):
        if isinstance(item, list) or (isinstance(item, np.ndarray | Value) and item.ndim):
            return "IndexBackward0"
        if item is None:
            last = "Unsqueeze"
        elif isinstance(item, slice):
            last = "Slice" if item != slice(None) or last == "Alias" else last
        elif item is not Ellipsis:
            last = "Select"
    return f"{last}Backward0"
