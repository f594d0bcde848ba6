"""PyTorch's rules for the dtype that operands are computed in.

Three ranks of operands: tensors with axes, tensors without, Python numbers. A lower rank changes the dtype
only when it is of a higher kind (boolean < integer < floating point); a Python float among integers gives
float32, the default dtype. Source: PyTorch's documentation, "Tensor Attributes", type promotion.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from symgraph.arraytype import BOOL, INT64

DType = np.dtype[np.generic]

DEFAULT: DType = np.dtype("float32")
_KIND = {"b": 0, "u": 1, "i": 1, "f": 2}
_NUMBER: dict[type, DType] = {bool: BOOL, int: INT64, float: DEFAULT}


def result_dtype(operands: Iterable[Any]) -> DType:
    """Return the dtype in which operands (tensors, arrays, numbers) are computed together."""
    ranks: list[DType | None] = [None, None, None]
    for x in operands:
        number = _NUMBER.get(type(x))
        rank = 2 if number is not None else 0 if x.ndim else 1
        dtype: DType = x.dtype if number is None else number
        known = ranks[rank]
        ranks[rank] = dtype if known is None else _promote(known, dtype)
    found: DType | None = None
    for candidate in ranks:
        if candidate is not None and (found is None or _KIND[candidate.kind] > _KIND[found.kind]):
            found = candidate
    return DEFAULT if found is None else found


@cache
def _promote(first: DType, second: DType) -> DType:
    if _KIND[first.kind] != _KIND[second.kind]:
        return first if _KIND[first.kind] > _KIND[second.kind] else second
    return np.promote_types(first, second)


def floating(dtype: DType) -> DType:
    """Return the dtype in which a mathematical function of this dtype is computed."""
    return dtype if dtype.kind == "f" else DEFAULT
