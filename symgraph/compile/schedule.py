"""Scheduling: from a graph to the loops that compute it.

Nodes become steps (``steps``), their axes are unified (``axes``), loops are built (``nest``); what is cheaper
to compute again than to store is computed again (``recompute``), which is found where values would live
(``storage``), and the loops are built anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from symgraph.compile.axes import choose_rows, unify
from symgraph.compile.nest import Schedule, nest, pack_rows
from symgraph.compile.recompute import compute_again
from symgraph.compile.steps import make_steps
from symgraph.expr import Expr

ROUNDS = 3
"""How often what is computed again may make more worth computing again."""


def schedule(outputs: Sequence[Expr], given: Iterable[Expr], fuse: bool = True) -> Schedule:
    """Return the loops that compute the outputs.

    Args:
        outputs: Lowered and materialised nodes.
        given: Nodes whose values are given.
        fuse: Whether loops are shared; otherwise every step has loops of its own.
    """
    computes = make_steps(outputs, given, fuse)
    sizes = unify(computes)
    steps = list(computes.values())
    choose_rows(steps)
    results = {computes[node] for node in outputs if node in computes}
    found = nest(steps, computes, sizes, results, fuse)
    if not fuse:
        return found
    for _ in range(ROUNDS):
        again = compute_again(found, results)
        if again is None:
            break
        found = nest(again, computes, sizes, results, fuse)
    return pack_rows(found)
