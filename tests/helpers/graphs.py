"""Random graphs for property-based tests: hypothesis draws a seed and a length, and shortens the graph that fails."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

import symgraph as sg
from symgraph.dims import evaluate

Array = np.ndarray[Any, Any]

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0]
NOT_FINITE = [np.nan, np.inf, -np.inf]

# Continuous functions that neither grow beyond all bounds nor make an infinity of the sign of a zero.
_UNARY: list[Callable[[sg.Expr], sg.Expr]] = [
    sg.sin, sg.tanh, sg.sigmoid, sg.softplus, sg.abs, sg.relu, sg.atan, sg.asinh, sg.erf, sg.negative, sg.gelu,
    lambda x: sg.exp(sg.minimum(x, 1)), lambda x: sg.log1p(sg.abs(x)), lambda x: sg.sqrt(1 + sg.square(x)),
    lambda x: sg.clip(x, -1, 2), lambda x: x * 0.5 + 1, lambda x: sg.softmax(x) if x.ndim else x,
    sg.stop_gradient, lambda x: sg.where(sg.isnan(x), 1, x),
]  # fmt: skip
_BINARY: list[Callable[[sg.Expr, sg.Expr], sg.Expr]] = [
    sg.add, sg.subtract, sg.multiply, sg.maximum, sg.minimum, sg.hypot, sg.logaddexp,
    lambda x, y: x / (1 + sg.square(y)), lambda x, y: sg.where(x > y, x, y * 2),
]  # fmt: skip
_REDUCTIONS: list[Callable[..., sg.Expr]] = [sg.sum, sg.mean, sg.prod, sg.logsumexp, sg.vector_norm]
_OF_SOMETHING: list[Callable[..., sg.Expr]] = [sg.max, sg.min]


class Graph:
    """Grows a random graph: nodes of one dtype, and the number that each of their sizes stands for."""

    def __init__(self, seed: int, dtype: str) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.dtype = dtype
        self.sizes = {"n": self.random.randint(0, 3), "m": self.random.randint(1, 3)}
        self.nodes: list[sg.Expr] = []
        self.leaves: list[sg.Expr] = []

    def pick(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def coin(self) -> bool:
        return self.random.random() < 0.5

    def axis_of(self, x: sg.Expr) -> int:
        return self.random.randrange(x.ndim)

    def number(self, size: sg.Dim | int) -> int:
        return evaluate(size, self.sizes)

    def declare(self, count: int) -> None:
        self.leaves.append(sg.placeholder("x0", ("n", "m"), self.dtype))
        for i in range(1, count):
            rank = self.random.randint(0, 3)
            shape = [self.pick("n", "m", 1, 2, 3, 0) for _ in range(rank)]
            self.leaves.append(sg.placeholder(f"x{i}", shape, self.dtype))
        self.nodes += self.leaves

    def grow(self, steps: int) -> None:
        makers = [
            self.unary,
            self.binary,
            self.reduction,
            self.movement,
            self.joined,
            self.index,
            self.product,
            self.scan,
        ]
        wanted = len(self.nodes) + steps
        for _ in range(5 * steps):
            if len(self.nodes) == wanted:
                break
            node = self.pick(*makers)(self.pick(*self.nodes[-4:]))
            if (
                node is not None
                and node not in self.nodes
                and node.dtype == self.dtype
                and self.count(node) <= 300
                and node.ndim <= 4
            ):
                self.nodes.append(node)

    def count(self, node: sg.Expr) -> int:
        return int(np.prod([self.number(s) for s in node.shape], dtype=int))

    # What a step may be

    def unary(self, x: sg.Expr) -> sg.Expr:
        return self.pick(*_UNARY)(x)  # type: ignore[no-any-return]

    def binary(self, x: sg.Expr) -> sg.Expr:
        return self.pick(*_BINARY)(x, self.partner(x))  # type: ignore[no-any-return]

    def partner(self, x: sg.Expr) -> sg.Expr:
        found = [y for y in self.nodes if _broadcasts(x, y)]
        if x.ndim:
            axis = self.axis_of(x)
            found += [sg.sum(x, axis=axis, keepdims=True), sg.arange(x.shape[-1], dtype=self.dtype) * 0.25]
        return self.pick(*found)  # type: ignore[no-any-return]

    def axes(self, x: sg.Expr) -> tuple[int, ...]:
        return tuple(a for a in range(x.ndim) if self.coin())

    def reduction(self, x: sg.Expr) -> sg.Expr | None:
        axes, keepdims = self.axes(x), self.coin()
        something = all(self.number(x.shape[a]) for a in axes)
        if not axes:
            return None
        return self.pick(*_REDUCTIONS, *(_OF_SOMETHING if something else []))(x, axis=axes, keepdims=keepdims)  # type: ignore[no-any-return]

    def movement(self, x: sg.Expr) -> sg.Expr:
        if not x.ndim:
            return sg.broadcast_to(x, (self.pick(1, 2, "n"),))
        axis = self.axis_of(x)
        moves: list[Callable[[], sg.Expr]] = [
            lambda: sg.permute_dims(x, self.random.sample(range(x.ndim), x.ndim)),
            lambda: sg.reshape(x, (-1,)),
            lambda: sg.reshape(sg.permute_dims(x), (1, -1)),
            lambda: sg.expand_dims(x, axis),
            lambda: sg.squeeze(x),
            lambda: sg.flip(x, axis),
            lambda: sg.broadcast_to(x, (self.pick(2, "m"), *x.shape)),
            lambda: x[(slice(None),) * axis + (self.slice(x, axis),)],
            lambda: sg.pad(x, [(1, 2) if a == axis else (0, 0) for a in range(x.ndim)]),
            lambda: sg.tile(x, 2),
        ]
        if self.number(x.shape[axis]):
            moves += [lambda: x[(slice(None),) * axis + (self.pick(0, -1),)], lambda: sg.roll(x, 1, axis)]
        if x.ndim > 1:
            moves += [lambda: sg.tril(x), lambda: sg.triu(x, 1), lambda: sg.swapaxes(x, 0, -1)]
        return self.pick(*moves)()  # type: ignore[no-any-return]

    def slice(self, x: sg.Expr, axis: int) -> slice:
        choices = [slice(None, None, -1), slice(None, None, 2), slice(None, None, -2)]
        if isinstance(x.shape[axis], int) or self.number(x.shape[axis]) > 1:
            choices += [slice(1, None), slice(None, -1), slice(1, None, 2), slice(-1, 0, -1), slice(-2, None)]
        return self.pick(*choices)  # type: ignore[no-any-return]

    def joined(self, x: sg.Expr) -> sg.Expr:
        if not x.ndim:
            return sg.stack([x, x * 2, self.pick(*[y for y in self.nodes if not y.ndim])])
        axis = self.axis_of(x)
        rest = [y for y in self.nodes if y.ndim == x.ndim and _without(y, axis) == _without(x, axis)]
        return self.pick(sg.concat([x, self.pick(*rest)], axis), sg.stack([x, x + 1], axis))  # type: ignore[no-any-return]

    def index(self, x: sg.Expr) -> sg.Expr | None:
        if not x.ndim:
            return None
        axis = self.axis_of(x)
        size = x.shape[axis]
        order = sg.flip(sg.arange(size))
        choices = [sg.take(x, order, axis), sg.take(x, sg.stack([order, order]), axis)]
        if axis == 0:
            choices += [
                x.at[order].set(x * 2),
                x.at[order // 2].add(x),
                sg.zeros(x.shape, self.dtype).at[order // 2].add(x),
            ]
        if self.number(size) > 1:
            choices.append(sg.take(x, np.array([0, 1, -1]), axis))
            if axis == 0:
                choices += [x.at[1:].add(1), x.at[-1].set(0)]
            places = sg.argmax(sg.stop_gradient(self.leaf_like(x)), axis=axis, keepdims=True)
            choices.append(sg.take_along_axis(x, places, axis))
        return self.pick(*choices)  # type: ignore[no-any-return]

    def leaf_like(self, x: sg.Expr) -> sg.Expr:
        """Return numbers of this shape without rounding, so that every engine finds the same greatest one."""
        return sg.sum(sg.where(sg.isnan(x), 0, 0), keepdims=True) + sg.cumulative_sum(
            sg.ones(x.shape, self.dtype), x.ndim - 1
        )

    def product(self, x: sg.Expr) -> sg.Expr | None:
        fitting = [y for y in self.nodes if y.ndim and x.ndim and x.shape[-1] == y.shape[0 if y.ndim == 1 else -2]]
        choices = [(x, y) for y in fitting if _broadcasts_batch(x, y)]
        if x.ndim >= 2:
            choices.append((x, sg.matrix_transpose(x)))
            choices.append((sg.matrix_transpose(x), x))
        if not choices:
            return None
        left, right = self.pick(*choices)
        if left.ndim == right.ndim == 2 and self.coin():
            return sg.einsum(self.pick("ij,jk->ki", "ij,jk->i", "ij,jk->", "ij,jk->ijk"), left, right)
        return sg.tanh(left @ right)

    def scan(self, x: sg.Expr) -> sg.Expr | None:
        return sg.cumulative_sum(x, self.axis_of(x)) if x.ndim else None

    # Values

    def values(self, special: bool) -> dict[sg.Expr, Array]:
        """Return values for the leaves; with NaN, infinities and both zeros among them where wanted."""
        random = np.random.default_rng(self.seed)
        pool = SPECIAL + NOT_FINITE if special and self.coin() else SPECIAL
        feed = {}
        for leaf in self.leaves:
            shape = [self.number(size) for size in leaf.shape]
            value = random.normal(size=shape).round(2)
            if special:
                value = np.where(random.uniform(size=shape) < 0.4, random.choice(pool, shape), value)
            feed[leaf] = np.asarray(value, self.dtype)
        return feed


def _broadcasts(x: sg.Expr, y: sg.Expr) -> bool:
    pairs = zip(x.shape[::-1], y.shape[::-1], strict=False)
    return all(a == b or a == 1 or b == 1 for a, b in pairs)


def _broadcasts_batch(x: sg.Expr, y: sg.Expr) -> bool:
    return all(a == b or a == 1 or b == 1 for a, b in zip(x.shape[-3::-1], y.shape[-3::-1], strict=False))


def _without(x: sg.Expr, axis: int) -> tuple[Any, ...]:
    return (*x.shape[:axis], *x.shape[axis + 1 :])


@st.composite
def graphs(
    draw: Callable[..., Any], dtype: str = "float64", steps: int = 20, special: bool = False
) -> tuple[list[sg.Expr], dict[sg.Expr, Array]]:
    """Draw some nodes of a random graph, and values for its placeholders."""
    with sg.Graph():
        graph = Graph(draw(st.integers(0, 2**32 - 1)), dtype)
        graph.declare(graph.random.randint(1, 3))
        graph.grow(draw(st.integers(1, steps)))
        grown = graph.nodes[len(graph.leaves) :] or graph.leaves
        some = [node for node in grown[:-1] if graph.random.random() < 0.3]
        return list(dict.fromkeys([grown[-1], *some])), graph.values(special)
