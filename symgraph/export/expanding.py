"""Custom operations made of operations, written out for languages that do not know them."""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.expr import Expr, rebuild, topological
from symgraph.op import Kind


def expand_custom(outputs: Sequence[Expr], inputs: Sequence[Expr] = ()) -> list[Expr]:
    """Return nodes in which every custom operation that is made of operations is replaced by these.

    Args:
        outputs: The nodes.
        inputs: Nodes whose arguments are not looked at.
    """
    stop = set(inputs)
    found = list(outputs)
    while any(_expands(node) and node not in stop for node in topological(found, stop)):
        changed: dict[Expr, Expr] = {}
        for node in topological(found, stop):
            args = [] if node in stop else [changed[arg] for arg in node.args]
            if _expands(node) and node not in stop:
                changed[node] = node.op.custom["expand"](*args)
            else:
                changed[node] = rebuild(node, args) if args else node
        found = [changed[node] for node in found]
    return found


def _expands(node: Expr) -> bool:
    return node.op.kind is Kind.CUSTOM and "expand" in node.op.custom
