"""The vocabulary: every operation, stated once, as facts that the stages read.

Elementwise operations are in ``elementwise``, reductions in ``reductions``, sums of products in
``contraction``, shapes and slices in ``movement``, integer indexing in ``indexing``, linear algebra in
``linalg``, arrays from sizes in ``creation``, losses and softmax in ``composite``, users' own in ``custom``.
"""

from symgraph.ops import (
    composite,
    contraction,
    creation,
    custom,
    elementwise,
    indexing,
    linalg,
    movement,
    reductions,
)

__all__ = [
    "composite",
    "contraction",
    "creation",
    "custom",
    "elementwise",
    "indexing",
    "linalg",
    "movement",
    "reductions",
]
