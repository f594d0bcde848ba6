"""Models of examples with small vectors, turned, cut and multiplied with each other: compiled and interpreted agree.

Such vectors live in scratch of one iteration, where copies are shared and memory is used again.
SYMGRAPH_EXHAUSTIVE=1 tries a thousand models instead of a few.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

import symgraph as sg
from tests.helpers.random_graphs import feed_for
from tests.helpers.rounding import Reference

MODELS = 1000 if os.environ.get("SYMGRAPH_EXHAUSTIVE") == "1" else 24
OPTIONS = [sg.Options(cache=False, threads=threads) for threads in (1, 3)]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let threads share loops of a few hundred elements, for which they are not worth starting."""
    monkeypatch.setattr("symgraph.compile.machine.cost.CHUNK", 200)


class RowModel:
    """A random model of n examples: numbers and vectors of each, made from each other."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.width = width = source.choice([2, 3, 3, 5, "d"])
        with sg.Graph():
            self.leaves = [sg.placeholder(name, ("n", width)) for name in "pqr"]
            self.vectors = list(self.leaves)
            self.weight = sg.placeholder("w", ("n",))
            self.direction, self.matrix = sg.placeholder("u", (width,)), sg.placeholder("A", (width, width))
            self.places = sg.placeholder("m", ("k", width))
        self.leaves += [self.weight, self.direction, self.matrix, self.places]
        self.numbers, self.results = [self.weight], list[sg.Expr]()

    def grow(self, steps: int) -> list[sg.Expr]:
        """Return what the model computes after some steps, with gradients."""
        for _ in range(steps):
            self.source.choice([self._map, self._scale, self._project, self._turn, self._mix, self._near, self._sum])()
        last, number = self.vectors[-1], self.numbers[-1]
        outputs = [last, number, *self.source.sample(self.results, min(2, len(self.results)))]
        values = [sg.sum(last * self._vector()), sg.sum(number), *(sg.sum(sg.tanh(result)) for result in self.results)]
        for value in self.source.sample(values, min(2, len(values))):
            wrt = self.source.sample(self.leaves, self.source.randint(1, 4))
            outputs += sg.gradients(value, wrt, unconnected="zero")
        self.source.shuffle(outputs)
        return outputs

    def _vector(self) -> sg.Expr:
        recent = self.vectors[-4:] if self.source.random() < 0.7 else self.vectors
        return self.source.choice(recent)

    def _part(self) -> sg.Expr:
        """Return a vector, often a given one, or what is left of it."""
        vector = self.source.choice([*self.vectors[:3], self._vector()])
        cut = self.source.choice([slice(None), slice(None), slice(2), slice(1), slice(1, None), slice(None, None, -1)])
        return vector[:, cut if isinstance(self.width, int) else slice(None)]

    def _map(self) -> None:
        smooth: Sequence[Callable[[sg.Expr], sg.Expr]] = [sg.sin, sg.tanh, sg.negative, lambda x: x / (1 + x * x)]
        self.vectors.append(self.source.choice(smooth)(self._vector()))
        self.numbers.append(self.source.choice(smooth)(self.numbers[-1]))

    def _scale(self) -> None:
        self.vectors.append(self._vector() * self.source.choice(self.numbers)[:, None] + self._vector())
        self.vectors.append(self._vector() * self.source.choice([self._vector(), self.direction]))

    def _project(self) -> None:
        x, y = self._vector(), self._vector()
        self.numbers.append(sg.sum(x * y, axis=1))
        self.vectors.append(x / sg.sqrt(1 + sg.sum(y * y, axis=1))[:, None])

    def _turn(self) -> None:
        """Add a cross product, or what is like it with other sizes."""
        x, y, d = self._vector(), self._vector(), self.width
        if isinstance(d, int):
            parts = [x[:, (i + 1) % d] * y[:, (i + 2) % d] - x[:, (i + 2) % d] * y[:, (i + 1) % d] for i in range(d)]
            self.vectors.append(sg.stack(parts, axis=1))
        else:
            self.vectors.append(x[:, ::-1] * y)

    def _mix(self) -> None:
        form = self.source.choice(["ij,nj->ni", "ij,ni->nj"])
        self.vectors.append(sg.einsum(form, self.matrix, self._vector()) / 4)

    def _near(self) -> None:
        away = sg.sum((self._vector()[:, None, :] - self.places[None]) ** 2, axis=2)
        self.numbers.append(sg.logsumexp(-away, axis=1))
        self.vectors.append(sg.sum(sg.exp(-away)[:, :, None] * self.places[None], axis=1))

    def _sum(self) -> None:
        form = self.source.choice(["ni,nj->ij", "ni,nj->nij", "ni,nj,n->ij"])
        operands = [self._part(), self._part(), self.source.choice(self.numbers)]
        self.results.append(sg.einsum(form, *operands[: form.count(",") + 1]))


@pytest.mark.parametrize("seed", range(MODELS))
def test_models_of_rows(seed: int) -> None:
    source = random.Random(seed)
    model = RowModel(source)
    outputs = model.grow(source.randint(3, 9))
    functions = [sg.function(model.leaves, outputs, options=options) for options in OPTIONS]
    for n, d in ((1, 3), (9, 2), (65, 5)):
        feed = feed_for(model.leaves, {"n": n, "d": d, "k": 2}, seed)
        one, other = (function(*feed.values()) for function in functions)
        Reference(outputs, feed).check(one, f"model {seed} at n = {n}")
        assert all(np.array_equal(*pair, equal_nan=True) for pair in zip(one, other, strict=True))


BEGINNINGS: dict[str, Callable[[sg.Expr, sg.Expr], list[sg.Expr]]] = {
    "products": lambda x, w: [x[:, :3].T @ x[:, :3], x @ w],
    "of each row with itself": lambda x, w: [x[:, :3, None] * x[:, None, :3], x[:, :, None] * x[:, None, :]],
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_who_reads_whole_rows_gets_more_than_their_beginning(name: str) -> None:
    with sg.Graph():
        x, w = sg.placeholder("x", ("n", 5)), sg.placeholder("w", (5, 6))
    parts = BEGINNINGS[name](x, w)
    for outputs in (parts, parts[::-1]):
        feed = feed_for([x, w], {"n": 9}, 0)
        Reference(outputs, feed).check(sg.function([x, w], outputs, options=OPTIONS[0])(*feed.values()), name)
