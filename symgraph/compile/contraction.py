"""In which order the operands of an einsum are multiplied: opt_einsum's cheapest one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import opt_einsum

from symgraph.dims import Size

GUESS = 64
"""What a size is taken for that is not known before the call."""


def cheapest_order(labels: Sequence[str], result: str, sizes: Mapping[str, Size]) -> list[tuple[int, int]]:
    """Return which two operands are multiplied, step by step; the product becomes the last operand.

    Args:
        labels: The labels of each operand, each once.
        result: Those of the result.
        sizes: The size of each label.

    Example:
        >>> cheapest_order(["ij", "jk", "k"], "i", {"i": 100, "j": 100, "k": 100})
        [(1, 2), (0, 1)]
    """
    known = {label: max(1, size) if isinstance(size, int) else GUESS for label, size in sizes.items()}
    shapes = [tuple(known[label] for label in operand) for operand in labels]
    path, _ = opt_einsum.contract_path(f"{','.join(labels)}->{result}", *shapes, shapes=True)
    return [(step[0], step[1]) for step in path if len(step) == 2]  # one operand alone is no product


def kept_labels(left: str, right: str, others: Sequence[str], result: str) -> str:
    """Return the labels that a product of two operands still needs."""
    needed = set(result).union(*others)
    return "".join(c for c in dict.fromkeys(left + right) if c in needed)
