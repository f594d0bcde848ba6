"""In which order the operands of an einsum are multiplied: the one with the fewest multiplications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import prod

from symgraph.dims import Size

GUESS = 64
"""What a size is taken for that is not known before the call."""

EXHAUSTIVE = 5
"""So many operands at most are tried in every order (180 of them); from more, the cheapest pair is taken first."""


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
    known = {label: size if isinstance(size, int) else GUESS for label, size in sizes.items()}
    return _best(list(labels), result, known)[1]


def kept_labels(left: str, right: str, others: Sequence[str], result: str) -> str:
    """Return the labels that a product of two operands still needs."""
    needed = set(result).union(*others)
    return "".join(c for c in dict.fromkeys(left + right) if c in needed)


def _best(labels: list[str], result: str, sizes: Mapping[str, int]) -> tuple[int, list[tuple[int, int]]]:
    if len(labels) < 2:
        return 0, []
    pairs = list(combinations(range(len(labels)), 2))

    def cost(pair: tuple[int, int]) -> int:
        return prod(sizes[c] for c in {*labels[pair[0]], *labels[pair[1]]})

    if len(labels) > EXHAUSTIVE:
        pairs = [min(pairs, key=cost)]
    found = []
    for i, j in pairs:
        others = [label for k, label in enumerate(labels) if k not in (i, j)]
        rest, steps = _best([*others, kept_labels(labels[i], labels[j], others, result)], result, sizes)
        found.append((cost((i, j)) + rest, [(i, j), *steps]))
    return min(found, key=lambda one: one[0])
