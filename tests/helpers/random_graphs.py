"""Random graphs over symbolic sizes and mixed dtypes, whose one program is then run at many sizes.

A graph grows from any source of randomness: hypothesis' own (which shrinks every choice), or `random.Random(seed)`.
While it grows its nodes are computed at small sizes, so that numbers stay tame and every requirement on sizes holds.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import symgraph as sg
from symgraph.dims import Dim, evaluate
from symgraph.errors import DifferentiationError, SizeError, SymgraphError
from symgraph.expr import topological
from symgraph.interpret import check_requirements

Array = np.ndarray[Any, Any]
Sizes = dict[str, int]
Feed = dict[sg.Expr, Any]

NAMES = "nmk"
SIZES = ["n", "m", "k", "n", "m", "n+1", "2*n", 1, 2, 3, 5]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.0, np.nan, np.inf, -np.inf]
LARGEST = 1e4
DEEPEST = 4
ELEMENTS = 200_000

_SMOOTH: list[Callable[[sg.Expr], sg.Expr]] = [
    sg.sin, sg.cos, sg.tanh, sg.sigmoid, sg.softplus, sg.atan, sg.asinh, sg.erf, sg.gelu, sg.silu, sg.erfc, sg.elu,
    lambda x: sg.exp(sg.minimum(x, 1)), lambda x: sg.log1p(sg.abs(x)), lambda x: sg.sqrt(1 + sg.square(x)),
    lambda x: sg.log(1.5 + sg.abs(x)), lambda x: sg.expm1(sg.clip(x, -3, 3)), lambda x: sg.sinh(sg.clip(x, -3, 3)),
    lambda x: sg.log2(1.5 + sg.abs(x)), lambda x: 1 / (2 + sg.square(x)), lambda x: sg.softmax(x) if x.ndim else x,
    lambda x: (1 + sg.abs(x)) ** -1.5, lambda x: sg.tan(sg.clip(x, -1, 1)), lambda x: sg.exp2(sg.minimum(x, 2)),
    lambda x: sg.log_softmax(x, axis=0) if x.ndim else x, lambda x: x - sg.mean(x, axis=-1, keepdims=True)
    if x.ndim else x,
]  # fmt: skip
_EXACT: list[Callable[[sg.Expr], sg.Expr]] = [
    sg.negative, sg.abs, sg.relu, sg.square, sg.stop_gradient, sg.sign, sg.floor, sg.round,
    lambda x: sg.clip(x, -1, 2), lambda x: x * 0.5 + 1, lambda x: 2 - x, lambda x: sg.where(sg.isnan(x), 1, x),
    lambda x: sg.leaky_relu(x, 0.25), lambda x: x % 4, lambda x: x // 2, lambda x: x**3, lambda x: sg.trunc(x * 1.5),
    lambda x: sg.where(x > 0, x, -x / 4), lambda x: sg.astype(x, "float64"), lambda x: sg.astype(x, "float32"),
]  # fmt: skip
_OF_INTEGERS: list[Callable[[sg.Expr], sg.Expr]] = [
    sg.negative, sg.abs, sg.sign, sg.square, lambda x: x // 2, lambda x: x % 3, lambda x: ~x, lambda x: x << 1,
    lambda x: x >> 1, lambda x: x & 5, lambda x: x ^ 3, lambda x: sg.astype(x, "float64"),
    lambda x: sg.astype(x, "float32"), lambda x: x > 0, lambda x: x * 3 - 1, lambda x: sg.clip(x, -2, 2),
]  # fmt: skip
_OF_TRUTHS: list[Callable[[sg.Expr], sg.Expr]] = [
    sg.logical_not, lambda x: sg.astype(x, "int64"), lambda x: sg.astype(x, "float64"), lambda x: sg.where(x, 2.5, -1),
    lambda x: sg.where(x, 3, -2),
]  # fmt: skip
_PAIRS: list[Callable[[sg.Expr, sg.Expr], sg.Expr]] = [
    sg.add, sg.subtract, sg.multiply, sg.maximum, sg.minimum, sg.add, sg.multiply, sg.less, sg.equal, sg.greater_equal,
    lambda x, y: sg.where(x > y, x, y * 2), lambda x, y: sg.where(sg.less(x, 0), y, x),
    lambda x, y: sg.multiply(x, y) + x, lambda x, y: x - sg.multiply(y, y),
]  # fmt: skip
_PAIRS_OF_FLOATS: list[Callable[[sg.Expr, sg.Expr], sg.Expr]] = [
    sg.hypot, sg.logaddexp, lambda x, y: x / (1 + sg.square(y)), lambda x, y: sg.atan2(x, 1 + sg.abs(y)),
    lambda x, y: (1 + sg.abs(x)) ** sg.clip(y, -2, 2), lambda x, y: sg.clip(x, -1, sg.maximum(y, -1)),
    lambda x, y: x / sg.where(sg.abs(y) > 1, y, 1),
]  # fmt: skip
_PAIRS_OF_TRUTHS: list[Callable[[sg.Expr, sg.Expr], sg.Expr]] = [sg.logical_and, sg.logical_or, sg.logical_xor]


class RandomGraph:
    """Grows a random graph.

    Attributes:
        random: Makes every choice.
        least: The smallest size for which every node is defined: 0, 1 or 2.
        leaves: The placeholders.
        nodes: All nodes that may be used or put out, leaves first.
    """

    def __init__(self, source: random.Random, smooth: bool = True, floats: Sequence[str] = ("float64", "float32")):
        self.random = source
        self.smooth = smooth
        self.least = source.choice([0, 1, 1, 2])
        low = self.least
        self.trials: list[Sizes] = [
            {"n": 4, "m": 3, "k": 2},
            {"n": low, "m": low, "k": low},
            {"n": low + 1, "m": low, "k": low + 2},
        ]
        self.floats = floats
        self.leaves: list[sg.Expr] = []
        self.nodes: list[sg.Expr] = []
        self.values: dict[sg.Expr, Any] = {}
        self._declare()

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[self.random.randrange(len(choices))]

    def coin(self) -> bool:
        return self.random.randrange(2) == 1

    def _declare(self) -> None:
        main = self.pick(self.floats)
        self._leaf(["n", "m"], main)
        self._leaf(["k"], main)
        for _ in range(self.random.randrange(4)):
            rank = self.pick([0, 1, 1, 2, 2, 3, 4])
            shape = [self.pick(SIZES) for _ in range(rank)]
            self._leaf(shape, self.pick([main, main, self.pick(self.floats), "int64", "bool"]))

    def _leaf(self, shape: Sequence[str | int], dtype: str) -> None:
        known = [evaluate(sg.dim(size), self.trials[0]) for size in shape]
        if np.prod(known) <= 400:
            leaf = sg.placeholder(f"x{len(self.leaves)}", shape, dtype)
            self.leaves.append(leaf)
            self.nodes.append(leaf)
            self.values[leaf] = value_for(leaf.dtype, known, np.random.default_rng(len(self.leaves)), "plain")

    def grow(self, steps: int) -> None:
        """Add nodes; attempts that fit no operand, or whose numbers grow too large, are given up."""
        for _ in range(4 * steps):
            if len(self.nodes) >= len(self.leaves) + steps:
                break
            source = self.pick(self.nodes[-5:] if self.coin() else self.nodes)
            make = self.pick(
                [self.unary, self.pair, self.pair, self.reduction, self.reduction, self.movement, self.movement,
                 self.joined, self.indexed, self.product, self.scan, self.stencil]
            )  # fmt: skip
            node = make(source)
            if node is not None and node not in self.values and node.ndim <= DEEPEST:
                self._admit(node)

    def _admit(self, node: sg.Expr) -> None:
        if count(node, self.trials[0]) > 600:
            return
        try:
            for sizes in self.trials:
                check_requirements(topological([node]), sizes)
            value = sg.evaluate(node, {leaf: self.values[leaf] for leaf in self.leaves})
        except (SizeError, IndexError):
            return
        finite = np.abs(value[np.isfinite(value)]) if node.dtype.kind == "f" else np.abs(np.asarray(value, float))
        if finite.size and finite.max() > LARGEST:
            if node.dtype.kind == "f" and self.coin():
                self._admit(sg.clip(node, -4, 4))
            return
        self.nodes.append(node)
        self.values[node] = value

    # Operands

    def floating(self, x: sg.Expr) -> sg.Expr:
        return x if x.dtype.kind == "f" else sg.astype(x, self.pick(self.floats))

    def integral(self, x: sg.Expr) -> sg.Expr:
        if x.dtype.kind == "f":
            x = sg.floor(sg.clip(sg.where(sg.isnan(x), 0, x), -9, 9))
        return sg.astype(x, "int64")

    def partner(self, x: sg.Expr) -> sg.Expr:
        found = [y for y in self.nodes if _broadcasts(x, y)]
        if x.ndim:
            axis = self.axis_of(x)
            found += [
                sg.sum(x, axis=axis, keepdims=True),
                sg.arange(x.shape[-1]) - 1,
                sg.expand_dims(sg.arange(x.shape[axis]), tuple(range(1, x.ndim - axis))) % 3,
            ]
        return self.pick(found)  # type: ignore[no-any-return]

    def axis_of(self, x: sg.Expr) -> int:
        return self.random.randrange(x.ndim)

    def is_never_empty(self, size: Any) -> bool:
        return all(evaluate(size, sizes) > 0 for sizes in self.trials)

    # What a step may be

    def unary(self, x: sg.Expr) -> sg.Expr:
        if x.dtype.kind == "b":
            return self.pick(_OF_TRUTHS)(x)  # type: ignore[no-any-return]
        if x.dtype.kind == "i":
            return self.pick(_OF_INTEGERS)(x)  # type: ignore[no-any-return]
        return self.pick(_SMOOTH if self.smooth and self.coin() else _EXACT)(x)  # type: ignore[no-any-return]

    def pair(self, x: sg.Expr) -> sg.Expr | None:
        y = self.partner(x)
        kinds = {x.dtype.kind, y.dtype.kind}
        if kinds == {"b"}:
            return self.pick(_PAIRS_OF_TRUTHS)(x, y)  # type: ignore[no-any-return]
        if x.dtype.kind == "b":
            return sg.where(x, y, self.pick([0, 1, -2]))
        if y.dtype.kind == "b":
            return sg.where(y, x, self.pick([0, 1, -2]))
        if "f" in kinds and self.smooth and self.coin():
            return self.pick(_PAIRS_OF_FLOATS)(x, y)  # type: ignore[no-any-return]
        return self.pick(_PAIRS)(x, y)  # type: ignore[no-any-return]

    def reduction(self, x: sg.Expr) -> sg.Expr | None:
        axes = tuple(a for a in range(x.ndim) if self.coin())
        if not axes:
            return None
        keepdims = self.coin()
        choices: list[Callable[[], sg.Expr]] = [
            lambda: sg.sum(x, axis=axes, keepdims=keepdims),
            lambda: sg.sum(x, axis=axes, keepdims=keepdims),
            lambda: sg.any(x, axis=axes, keepdims=keepdims),
            lambda: sg.all(x, axis=axes, keepdims=keepdims),
        ]
        if all(self.is_never_empty(x.shape[a]) for a in axes):
            choices += 2 * [
                lambda: sg.max(x, axis=axes, keepdims=keepdims),
                lambda: sg.min(x, axis=axes, keepdims=keepdims),
                lambda: sg.argmax(x, axis=axes[0], keepdims=keepdims),
                lambda: sg.argmin(x, axis=axes[-1], keepdims=keepdims),
                lambda: sg.mean(x, axis=axes, keepdims=keepdims),
            ]
        if x.dtype.kind == "i":
            choices.append(lambda: sg.prod(x % 3, axis=axes, keepdims=keepdims))
        if x.dtype.kind == "f":
            choices.append(lambda: sg.prod(sg.where(x > 1, -1, 1 + 0 * x), axis=axes, keepdims=keepdims))
        if x.dtype.kind == "f" and self.smooth:
            choices += [
                lambda: sg.logsumexp(x, axis=axes, keepdims=keepdims),
                lambda: sg.vector_norm(x, axis=axes, keepdims=keepdims),
                lambda: sg.prod(1 + sg.sin(x) / 64, axis=axes, keepdims=keepdims),
                lambda: sg.var(x, axis=axes, keepdims=keepdims),
            ]
        return self.pick(choices)()  # type: ignore[no-any-return]

    def movement(self, x: sg.Expr) -> sg.Expr | None:
        if not x.ndim:
            return sg.broadcast_to(x, (self.pick([1, 2, "n", "m"]),))
        axis = self.axis_of(x)
        before = (slice(None),) * axis
        moves: list[Callable[[], sg.Expr]] = [
            lambda: sg.permute_dims(x, self._order(x.ndim)),
            lambda: sg.reshape(x, (-1,)),
            lambda: sg.reshape(x, (1, *x.shape[:-2], -1)) if x.ndim > 1 else sg.reshape(x, (-1, 1)),
            lambda: sg.reshape(sg.permute_dims(x), x.shape),
            lambda: sg.expand_dims(x, axis),
            lambda: sg.squeeze(x),
            lambda: sg.flip(x, axis),
            lambda: sg.broadcast_to(x, (self.pick([2, "m", "k"]), *x.shape)),
            lambda: x[(*before, self._slice())],
            lambda: x[(*before, self._slice())],
            lambda: x[(*before, self._slice())],
            lambda: sg.pad(x, [(1, 2) if a == axis else (0, 0) for a in range(x.ndim)]),
            lambda: x.at[(*before, self._slice())].set(self.pick([0, 1])),
            lambda: x.at[(*before, self._slice())].add(1) if x.dtype.kind != "b" else x,
            lambda: sg.tile(x, 2),
            lambda: sg.repeat(x, 2, axis),
            lambda: sg.roll(x, self.pick([1, -1]), axis),
            lambda: x[(*before, self.pick([0, -1]))],
        ]
        if x.ndim > 1:
            moves += [lambda: sg.tril(x), lambda: sg.triu(x, 1), lambda: sg.swapaxes(x, 0, -1)]
        if x.ndim > 1 and x.shape[-1] == x.shape[-2]:
            moves += 3 * [lambda: sg.diagonal(x)]
        if x.ndim == 1:
            moves.append(lambda: sg.diag(x))
        try:
            return self.pick(moves)()  # type: ignore[no-any-return]
        except SymgraphError:
            return None

    def _order(self, rank: int) -> list[int]:
        order = list(range(rank))
        for i in range(rank - 1):
            j = i + self.random.randrange(rank - i)
            order[i], order[j] = order[j], order[i]
        return order

    def _slice(self) -> slice:
        ends = [None, None, 0, 1, 2, -1, -2]
        return slice(self.pick(ends), self.pick(ends), self.pick([None, 1, 2, 3, -1, -1, -2, -3]))

    def joined(self, x: sg.Expr) -> sg.Expr:
        if not x.ndim:
            return sg.stack([x, x * 2 if x.dtype.kind != "b" else ~x])
        axis = self.axis_of(x)
        rest = [y for y in self.nodes if y.ndim == x.ndim and _without(y, axis) == _without(x, axis)]
        choices = [[x, self.pick(rest)], [self.pick(rest), x, sg.flip(x, axis)]]
        return sg.concat(self.pick(choices), axis) if self.coin() else sg.stack([x, sg.flip(x, axis)], axis)

    def indexed(self, x: sg.Expr) -> sg.Expr | None:
        if not x.ndim:
            return None
        axis = self.axis_of(x)
        size = x.shape[axis]
        if not self.is_never_empty(size):
            order = sg.flip(sg.arange(size))
            return self.pick([sg.take(x, order, axis), sg.take(x, sg.stack([order, order]), axis)])  # type: ignore[no-any-return]
        whole = [sg.reshape(y, (-1,)) for y in self.nodes if y.ndim]
        places = self.pick([sg.arange(size), self.integral(self.pick(whole)), sg.constant(np.array([0, 0, 0, 0]))])
        places = places % size - self.pick([0, 0, size])  # negative indices count from the end
        taken = sg.take(x, places, axis)
        if axis or self.coin():
            return taken
        value = ~taken if x.dtype.kind == "b" else taken * 2 - 1
        updated = [x.at[places].set(value)]
        if x.dtype.kind != "b":
            updated += [x.at[places].add(value), sg.zeros(x.shape, x.dtype).at[places].add(value)]
        return self.pick(updated)  # type: ignore[no-any-return]

    def product(self, x: sg.Expr) -> sg.Expr | None:
        if not x.ndim or x.dtype.kind == "b":
            return None
        if self.coin():
            return self._einsum(x)
        fitting = [
            y for y in self.nodes
            if y.ndim and y.dtype.kind != "b" and x.shape[-1] == y.shape[0 if y.ndim == 1 else -2]
            and (x.ndim == 1 or y.ndim == 1 or _broadcasts_batch(x, y))
        ]  # fmt: skip
        pairs = [(x, y) for y in fitting]
        if x.ndim >= 2:
            pairs += [(x, sg.matrix_transpose(x)), (sg.matrix_transpose(x), x)]
        if not pairs:
            return None
        left, right = self.pick(pairs)
        return left @ right  # type: ignore[no-any-return]

    def _einsum(self, x: sg.Expr) -> sg.Expr | None:
        operands = [x, *[self.pick(self.nodes) for _ in range(self.pick([0, 1, 1, 2]))]]
        operands = [y for y in operands if y.ndim and y.dtype.kind != "b"]
        known: dict[str, Any] = {}
        terms = []
        for y in operands:
            term = ""
            for size in y.shape:
                same = [c for c, s in known.items() if s is size or s == size]
                label = self.pick(same) if same and self.random.randrange(4) else "abcdefghij"[len(known) % 10]
                known.setdefault(label, size)
                if known[label] != size or (label in term and self.coin()):
                    return None
                term += label
            terms.append(term)
        kept = [c for c in known if self.coin()]
        result = "".join(kept[i] for i in self._order(len(kept)))
        dtype = np.result_type(*[y.dtype for y in operands])
        return sg.einsum(",".join(terms) + "->" + result, *[sg.astype(y, dtype) for y in operands])

    def scan(self, x: sg.Expr) -> sg.Expr | None:
        return sg.cumulative_sum(x, self.axis_of(x)) if x.ndim and x.dtype.kind != "b" else None

    def stencil(self, x: sg.Expr) -> sg.Expr | None:
        if not x.ndim or x.dtype.kind == "b":
            return None
        axis = self.axis_of(x)
        if self.least + (0 if isinstance(x.shape[axis], Dim) else 2) < 2:
            x = sg.concat([x, x], axis)

        def at(start: int | None, stop: int | None) -> sg.Expr:
            return x[(slice(None),) * axis + (slice(start, stop),)]  # type: ignore[no-any-return]

        choices: list[Callable[[], sg.Expr]] = [
            lambda: at(1, None) - at(None, -1),
            lambda: at(1, None) * at(None, -1),
            lambda: at(2, None) - 2 * at(1, -1) + at(None, -2),
            lambda: sg.square(at(1, None) - sg.square(at(None, -1))),
        ]
        try:
            return self.pick(choices)()  # type: ignore[no-any-return]
        except SymgraphError:
            return None

    # What is computed

    def outputs(self, gradients: bool = True) -> list[sg.Expr]:
        """Return the last node, some others, maybe leaves and repetitions, and gradients of a scalar by all leaves."""
        grown = self.nodes[len(self.leaves) :] or self.leaves
        found = [grown[-1], *[node for node in grown[:-1] if self.random.randrange(10) < 3]]
        if self.coin():
            found.append(self.pick(found))
        if self.random.randrange(4) == 0:
            found.append(self.pick(self.leaves))
        return found + (self.gradients() if gradients else [])

    def gradients(self) -> list[sg.Expr]:
        leaves = [leaf for leaf in self.leaves if leaf.dtype.kind == "f"]
        grown = [node for node in self.nodes[len(self.leaves) :] if node.dtype.kind == "f"]
        if not grown:
            return []
        chosen = [grown[-1], *[self.pick(grown) for _ in range(self.random.randrange(2))]]
        loss = sum(sg.sum(sg.astype(node, "float64") * self.pick([1, 2, -0.5])) for node in chosen)
        try:
            first: list[sg.Expr] = sg.gradients(loss, leaves, unconnected="zero")
            if self.random.randrange(6) == 0:
                return [*first, *sg.gradients(sg.sum(sg.tanh(first[0])), leaves, unconnected="zero")]
        except DifferentiationError:
            return []
        return [loss, *first] if self.coin() else first


def _broadcasts(x: sg.Expr, y: sg.Expr) -> bool:
    pairs = zip(x.shape[::-1], y.shape[::-1], strict=False)
    return all(a == b or a == 1 or b == 1 for a, b in pairs)


def _broadcasts_batch(x: sg.Expr, y: sg.Expr) -> bool:
    return all(a == b or a == 1 or b == 1 for a, b in zip(x.shape[-3::-1], y.shape[-3::-1], strict=False))


def _without(x: sg.Expr, axis: int) -> tuple[Any, ...]:
    return (*x.shape[:axis], *x.shape[axis + 1 :])


def count(node: sg.Expr, sizes: Mapping[str, int]) -> int:
    """Return how many elements a node has at these sizes."""
    return int(np.prod([evaluate(size, sizes) for size in node.shape], dtype=int))


def fits(outputs: Sequence[sg.Expr], sizes: Mapping[str, int], limit: int = ELEMENTS) -> bool:
    """Tell whether every node is small enough, and defined, at these sizes."""
    nodes = topological(outputs)
    try:
        check_requirements(nodes, dict(sizes))
    except SizeError:
        return False
    return all(count(node, sizes) <= limit for node in nodes)


def value_for(dtype: np.dtype[Any], shape: Sequence[int], source: np.random.Generator, how: str) -> Any:
    """Return random values: ``plain`` ones are quarters, whose sums are exact; others are ``rough`` or ``special``."""
    if dtype.kind == "b":
        return source.uniform(size=shape) < 0.5
    if dtype.kind == "i":
        return source.integers(-4, 5, shape).astype(dtype)
    value = source.integers(-12, 13, shape) / 4 if how != "rough" else source.normal(size=shape)
    if how == "special":
        value = np.where(source.uniform(size=shape) < 0.3, source.choice(SPECIAL, shape), value)
    return np.asarray(value, dtype)


def feed_for(leaves: Sequence[sg.Expr], sizes: Mapping[str, int], seed: int, special: bool = False) -> Feed:
    """Return read-only values for leaves."""
    source = np.random.default_rng(seed)
    found: Feed = {}
    for leaf in leaves:
        shape = [evaluate(size, sizes) for size in leaf.shape]
        how = "special" if special else ["plain", "rough"][int(source.integers(2))]
        value = np.ascontiguousarray(value_for(leaf.dtype, shape, source, how), leaf.dtype).reshape(shape)
        value.flags.writeable = False
        found[leaf] = value
    return found


def sizes_around(tiles: Sequence[int], least: int, large: int) -> list[Sizes]:
    """Return sizes at, below and above each tile, for one name at a time, and a large one."""
    edges = sorted({size for tile in tiles for size in (tile - 1, tile, tile + 1)})
    small = [size for size in (0, 1, 2, 3) if size >= least]
    found = [{"n": size, "m": size, "k": size} for size in small]
    found += [{other: small[1] if other == name else small[0] for other in NAMES} for name in NAMES]
    for i, edge in enumerate([*edges, large]):
        rest = itertools.cycle([small[-1] - i % 2, max(least, 1)])
        found.append({name: edge if name == "n" else next(rest) for name in NAMES})
        if i % 2:
            found.append({name: edge if name == "mk"[i // 2 % 2] else next(rest) for name in NAMES})
    found += [{"n": tile + 1, "m": tile - 1, "k": tile} for tile in tiles if tile <= 16]
    return [dict(pairs) for pairs in dict.fromkeys(tuple(sizes.items()) for sizes in found)]
