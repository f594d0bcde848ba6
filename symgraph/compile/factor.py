"""Sums of products, where a factor that does not run along the sum is taken out of it.

``Σₙ Σᵢ a[n,i] b[i,j]`` is ``Σᵢ (Σₙ a[n,i]) b[i,j]``, which multiplies once instead of for every n. Gradients of
locations are such sums: the cotangent of ``A (x - μ)`` is multiplied by ``Aᵀ`` once all data are summed up. Like the
order in which an einsum's operands are multiplied, this is the same in real arithmetic, and rounds otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from symgraph.arraytype import is_float
from symgraph.expr import Expr, rebuild, topological
from symgraph.ops.construct import apply
from symgraph.ops.elementwise import negative
from symgraph.ops.movement import expand_dims, permute_dims, squeeze
from symgraph.ops.reductions import sum as total

DEPTH = 64
"""How deep a formula under a sum is looked into."""

_MOVEMENT = frozenset({"squeeze", "expand_dims", "permute_dims"})

Axes = tuple[int, ...]


def factor(outputs: Sequence[Expr], given: Iterable[Expr]) -> list[Expr]:
    """Return the outputs with factors taken out of sums where that saves multiplications by an axis' length.

    Args:
        outputs: What is computed, lowered.
        given: Nodes that are given; what is behind them is not looked at.
    """
    leaves = set(given)
    order = topological(outputs, stop=leaves)
    users = Counter(arg for node in order if node not in leaves for arg in node.args)
    users.update(outputs)
    computed = {node for node in order if node not in leaves and node.args}
    factoring = _Factoring(computed, {node for node in computed if users[node] == 1}, {})
    for node in order:
        factoring.made[node] = factoring.rebuilt(node) if node in computed else node
    return [factoring.made[output] for output in outputs]


@dataclass
class _Factoring:
    """One graph's factoring.

    Attributes:
        computed: Nodes that are neither given nor leaves.
        inner: Those that only one other node uses, so that nobody misses them.
        made: What became of the nodes.
    """

    computed: set[Expr]
    inner: set[Expr]
    made: dict[Expr, Expr]

    def rebuilt(self, node: Expr) -> Expr:
        """Return a node of what became of its arguments, or what is cheaper."""
        if node.op.name == "sum" and is_float(node.dtype):
            axes, keepdims = node.attrs
            found, gained = self._sum(node.args[0], axes, DEPTH)
            if gained:
                return expand_dims(found, axes) if keepdims else found
        return rebuild(node, [self.made[arg] for arg in node.args])

    def _sum(self, node: Expr, axes: Axes, depth: int) -> tuple[Expr, bool]:
        """Return the sum over axes, without these axes, and whether a factor was taken out of it."""
        if not axes:
            return self.made[node], False
        if depth and node.op.name in _MOVEMENT and node in self.computed:
            return self._sum_of_moved(node, axes, depth)
        if depth and node in self.inner:
            match node.op.name:
                case "negative":
                    found, gained = self._sum(node.args[0], axes, depth - 1)
                    return negative(found), gained
                case "add" | "subtract" if all(arg.shape == node.shape for arg in node.args):
                    terms = [self._sum(arg, axes, depth - 1) for arg in node.args]
                    if any(gained for _, gained in terms):
                        return apply(node.op, *[found for found, _ in terms]), True
                case "multiply" | "divide":
                    return self._sum_of_product(node, axes, depth)
                case "sum":
                    return self._sum_of_sum(node, axes, depth)
                case "matmul" if node.ndim == 2:
                    return self._sum_of_matrix_product(node, axes, depth)
        return total(self.made[node], axes), False

    def _sum_of_product(self, node: Expr, axes: Axes, depth: int) -> tuple[Expr, bool]:
        for i in (1, 0) if node.op.name == "multiply" else (1,):
            inside, outside = node.args[1 - i], node.args[i]
            free = tuple(a for a in axes if _lacks(outside, node, a))
            if not free:
                continue
            skipped = node.ndim - inside.ndim
            own = tuple(a - skipped for a in free)
            found, gained = self._sum(inside, own, depth - 1)
            gained = gained or any(_lacks(inside, node, a) for a in range(node.ndim))
            if gained or free == axes:
                factors = [expand_dims(found, own), self.made[outside]]
                product = squeeze(apply(node.op, *factors if i else factors[::-1]), free)
                rest = tuple(a - sum(f < a for f in free) for a in axes if a not in free)
                return total(product, rest) if rest else product, gained
        return total(self.made[node], axes), False

    def _sum_of_sum(self, node: Expr, axes: Axes, depth: int) -> tuple[Expr, bool]:
        inner, keepdims = node.attrs
        kept = [a for a in range(node.args[0].ndim) if keepdims or a not in inner]
        every = tuple(sorted({*inner, *[kept[a] for a in axes]}))
        found, gained = self._sum(node.args[0], every, depth - 1)
        alone = [a for a in kept if a in inner and kept.index(a) not in axes]
        left = [a for a in kept if a not in every or a in alone]
        return expand_dims(found, tuple(left.index(a) for a in alone)), gained

    def _sum_of_matrix_product(self, node: Expr, axes: Axes, depth: int) -> tuple[Expr, bool]:
        x, y = node.args
        left = self._sum(x, (0,), depth - 1)[0] if 0 in axes else self.made[x]
        right = self._sum(y, (1,), depth - 1)[0] if 1 in axes else self.made[y]
        if len(axes) == 2:
            return total(left * right, (0,)), True
        return total(left * right, (1,)) if axes == (1,) else total(expand_dims(left, (1,)) * right, (0,)), True

    def _sum_of_moved(self, node: Expr, axes: Axes, depth: int) -> tuple[Expr, bool]:
        source, moved = node.args[0], node.attrs[0]
        depth = depth - 1 if node in self.inner else 0
        left = [a for a in range(node.ndim) if a not in axes]
        if node.op.name == "permute_dims":
            found, gained = self._sum(source, tuple(sorted(moved[a] for a in axes)), depth)
            order = sorted(moved[a] for a in left)
            return permute_dims(found, tuple(order.index(moved[a]) for a in left)), gained
        if node.op.name == "squeeze":
            kept = [a for a in range(source.ndim) if a not in moved]
            lost = tuple(kept[a] for a in axes)
            found, gained = self._sum(source, lost, depth)
            return squeeze(found, tuple(a - sum(b < a for b in lost) for a in moved)), gained
        own = [a for a in range(node.ndim) if a not in moved]
        found, gained = self._sum(source, tuple(own.index(a) for a in axes if a in own), depth)
        return expand_dims(found, tuple(left.index(a) for a in moved if a in left)), gained


def _lacks(arg: Expr, node: Expr, axis: int) -> bool:
    """Tell whether an argument is the same along an axis of an elementwise node."""
    own = axis - (node.ndim - arg.ndim)
    return node.shape[axis] != 1 and (own < 0 or arg.shape[own] == 1)
