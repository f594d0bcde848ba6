"""Reverse mode on the static graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from symgraph.arraytype import is_float
from symgraph.derive.pullback import Cotangent, add_cotangents, pull_back
from symgraph.errors import DifferentiationError, declared_at
from symgraph.expr import Expr, derived, topological


def reverse(
    ys: Sequence[Expr], xs: Sequence[Expr], grad_ys: Sequence[Expr], stop: Iterable[Expr] = ()
) -> list[Expr | None]:
    """Return Σ over ys of (∂y/∂x)ᵀ · grad_y for each x, None where no y depends on it.

    Args:
        ys: Floating-point nodes.
        xs: Floating-point nodes, leaves or not.
        grad_ys: One cotangent for each y, of its shape and dtype.
        stop: Nodes that count as constants: nothing is propagated to their arguments.
    """
    blocked = frozenset(stop)
    order = topological(ys, stop=blocked)
    reached = set(xs)
    for node in order:
        if node not in blocked and any(arg in reached for arg in node.args) and is_float(node.type.dtype):
            reached.add(node)
    cotangents: dict[Expr, Cotangent] = {}
    for y, seed in zip(ys, grad_ys, strict=True):
        if y in reached:
            cotangents[y] = add_cotangents(cotangents.get(y), Cotangent(seed))
    sources = set(xs)
    with derived() as come_from:
        for node in reversed(order):
            cotangent = cotangents.get(node) if node in sources else cotangents.pop(node, None)
            if cotangent is None or not node.args or node in blocked:
                continue
            come_from(node.location)
            wanted = [arg in reached and arg.type.dtype.kind == "f" for arg in node.args]
            try:
                contributions = pull_back(node.op, cotangent, node, node.args, node.attrs, wanted)
            except DifferentiationError as error:
                raise DifferentiationError(declared_at(str(error), node.location)) from None
            for arg, contribution in zip(node.args, contributions, strict=True):
                if contribution is not None:
                    cotangents[arg] = add_cotangents(cotangents.get(arg), contribution)
    return [cotangents[x].value if x in cotangents else None for x in xs]
