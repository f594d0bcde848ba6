"""Loops that are products of a matrix with a vector, or with what the lanes of a loop hold.

Where the iterations of a loop are the lanes of vectors, a sum over ``j`` of ``A[i,j] * x[j]`` for every ``i`` is the
product of the matrix ``A`` with a matrix of as many columns as there are lanes, and a sum of ``u[i] * v[j]`` over all
lanes is one of two such matrices. Where rows are worked on in blocks, the sums are products of the block's rows with a
vector. Written as one statement each, they are read at a glance, and machine code keeps blocks of the result in
registers instead of loading everything once for each multiplication.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Generic, TypeVar

from symgraph.compile.loops import (
    Accumulate,
    Affine,
    Allocate,
    Axis,
    Block,
    Buffer,
    Free,
    Let,
    Load,
    Loop,
    MatrixVector,
    Multiply,
    Name,
    Outer,
    Panel,
    Program,
    Section,
    Start,
    Statement,
    Store,
    buffers_of,
    mentioned,
    walk,
    written,
)
from symgraph.compile.overlap import overlap
from symgraph.compile.tidy import tidy

LEAST = 8
"""An axis that is known to have fewer elements is no side of a product."""

Part = TypeVar("Part", bound="Section | Panel")


def find_products(program: Program) -> Program:
    """Return the program with the products of a matrix in loops in lanes, and in blocks, as one statement each."""
    taken = {s.buffer.name for s in walk(program.body) if isinstance(s, Allocate)}
    names = (name for name in (f"p{i}" for i in count(1)) if name not in taken)

    def found(statement: Statement) -> Statement:
        match statement:
            case Loop(axis=Axis(), lanes=True):
                return replace(statement, body=_InLanes(statement, names).level(statement.body))
            case Loop(axis=Block() as block):
                return replace(statement, body=_InBlock(block, names).level(tuple(map(found, statement.body))))
            case Loop(body=body):
                return replace(statement, body=tuple(map(found, body)))
        return statement

    changed = replace(program, body=tuple(map(found, program.body)))
    if not any(isinstance(s, MatrixVector | Outer) or _is_by_rows(s) for s in walk(changed.body)):
        return program
    return tidy(overlap(changed))  # loops that a sum no longer keeps apart


@dataclass(frozen=True)
class _Term:
    """The statement ``target += x * y`` of the inner one of two loops, which runs over an axis."""

    axis: Axis
    target: Name | Load
    x: Name | Load
    y: Name | Load


@dataclass(frozen=True)
class _Dot(Generic[Part]):
    """The product ``place = matrix @ vector`` that was taken out of a loop, which reads an element of the place."""

    place: Load
    matrix: Part
    vector: Part


@dataclass
class _Divided(Generic[Part]):
    """A loop, and what is taken out of it.

    Attributes:
        body: What is left in the loop.
        dots: The products that run before it.
        columns: The vectors that it stores.
        sums: The products that run after it.
    """

    body: list[Statement]
    dots: list[_Dot[Part]] = field(default_factory=list)
    columns: list[Buffer] = field(default_factory=list)
    sums: list[Statement] = field(default_factory=list)

    def copy(self) -> _Divided[Part]:
        """Return a copy that can be changed."""
        return _Divided([*self.body], [*self.dots], [*self.columns], [*self.sums])

    def changed_beside(self, inner: Loop) -> set[Buffer]:
        """Return what the loop writes elsewhere."""
        return {buffer for s in walk(self.body) for buffer in written(s)} - {
            buffer for s in inner.body for buffer in written(s)
        }

    def replace(self, inner: Loop, *statements: Statement) -> None:
        at = self.body.index(inner)
        self.body[at : at + 1] = statements

    def take_store(self, place: Load) -> Store | None:
        """Take the statement that stores an element, maybe rounded once, if that is all that the loop does with it."""
        taken: list[Statement] = []
        is_rounded = False
        statements = [s for s in walk(self.body) if not isinstance(s, Loop)]
        users: list[Statement] = [s for s in statements if place.buffer in buffers_of(s)]
        while len(users) == 1 and users[0] in self.body:
            taken += users
            match users[0]:
                case Let(name=name, operation="copy"):
                    users = [s for s in statements if name in mentioned(s)]
                case Let(name=name, operation="astype") if not is_rounded:
                    is_rounded = True
                    users = [s for s in statements if name in mentioned(s)]
                case Store() as store:
                    self.body = [s for s in self.body if s not in taken]
                    return store
                case _:
                    break
        return None


class _Products(ABC, Generic[Part]):
    """Finds products in a loop around; what may be their matrices and vectors depends on how that loop runs."""

    widens = False
    """Whether float32 may be multiplied and summed up as float64."""

    def __init__(self, names: Iterator[str]) -> None:
        self.names = names

    @abstractmethod
    def is_side(self, axis: Axis | Block) -> bool:
        """Tell whether a loop may run over the rows of a matrix."""

    @abstractmethod
    def matrix(self, i: Axis, j: Axis, operand: Name | Load) -> Part | None:
        """Return the matrix whose element at i and j an operand is."""

    @abstractmethod
    def vector(self, j: Axis, operand: Name | Load) -> Part | None:
        """Return the vector whose element at j an operand is."""

    @abstractmethod
    def scratch(self, dtype: Any, i: Axis) -> Load:
        """Return the element at i of a new vector."""

    @abstractmethod
    def product(self, result: Part, matrix: Part, vector: Part, accumulate: bool = False) -> Statement:
        """Return the statement ``result = matrix @ vector``, or ``result += matrix @ vector``."""

    def outer(self, result: Part, left: Part, right: Part) -> Statement | None:
        """Return the statement that adds products of two vectors to a matrix, where there is one."""
        return None

    def level(self, body: Sequence[Statement]) -> tuple[Statement, ...]:
        """Return statements with the products among them, and in the loops among them."""
        found: list[Statement] = []
        for statement in body:
            if isinstance(statement, Loop):
                loop = replace(statement, body=self.level(statement.body))
                found += self._without_products(loop) if self.is_side(loop.axis) else [loop]
            else:
                found.append(statement)
        return tuple(found)

    def _without_products(self, loop: Loop) -> list[Statement]:
        """Return a loop with its products before and after it."""
        assert isinstance(loop.axis, Axis)
        divided: _Divided[Part] = _Divided(list(loop.body))
        for inner in loop.body:
            if isinstance(inner, Loop) and _is_whole(inner.axis):
                terms = _terms(inner)
                alone = divided.copy()
                alone.replace(inner, *(each for each, _ in terms))
                if terms and all(self._take(alone, loop.axis, each, term) for each, term in terms):
                    divided = alone
        products: list[Statement] = []
        scratch = divided.columns
        for dot in divided.dots:
            result = self._home(loop.axis, dot, divided)
            if result is None:
                result = self.vector(loop.axis, dot.place)
                scratch.append(dot.place.buffer)
            assert result is not None
            products.append(self.product(result, dot.matrix, dot.vector))
        rest = [replace(loop, body=tuple(divided.body))] if divided.body else []
        return [*map(Allocate, scratch), *products, *rest, *divided.sums, *map(Free, scratch)]

    def _home(self, i: Axis, dot: _Dot[Part], divided: _Divided[Part]) -> Part | None:
        """Return where a loop stores a product, if that is all it does with it, and leave that out."""
        changed = divided.copy()
        store = changed.take_store(dot.place)
        home = None if store is None else self.vector(i, Load(store.buffer, store.indices))
        if home is None or not (self.widens or home.buffer.dtype == dot.place.dtype):
            return None
        divided.body = changed.body
        return home

    def _take(self, divided: _Divided[Part], i: Axis, inner: Loop, term: _Term) -> bool:
        """Take a term out of a loop over i; tell whether that was possible."""
        if isinstance(term.target, Name):
            return self._take_dot(divided, i, inner, term, term.target)
        return self._take_sum(divided, i, inner, term, term.target)

    def _take_dot(self, divided: _Divided[Part], i: Axis, inner: Loop, term: _Term, target: Name) -> bool:
        """Take ``t = Σⱼ A[i,j] x[j]`` out of a loop over i."""
        starts = [s for s in divided.body if isinstance(s, Start) and s.name == target.name]
        others = [s for s in walk(divided.body) if isinstance(s, Accumulate) and s.target == target]
        if len(starts) != 1 or len(others) != 1 or not (self.widens or target.dtype == term.x.dtype):
            return False
        for x, y in ((term.x, term.y), (term.y, term.x)):
            matrix, vector = self.matrix(i, term.axis, x), self.vector(term.axis, y)
            if matrix and vector and not {matrix.buffer, vector.buffer} & divided.changed_beside(inner):
                place = self.scratch(target.dtype, i)
                divided.dots.append(_Dot(place, matrix, vector))
                divided.replace(inner, Let(target.name, target.dtype, "copy", "{0}", (place,)))
                divided.body.remove(starts[0])
                return True
        return False

    def _take_sum(self, divided: _Divided[Part], i: Axis, inner: Loop, term: _Term, target: Load) -> bool:
        """Take ``C[i,j] += u[i] x[j]``, or ``c[j] += u[i] A[i,j]``, out of a loop over i, which may set u."""
        beside = [s for s in divided.body if s is not inner]
        if target.buffer in {buffer for s in beside for buffer in buffers_of(s)} or target.dtype != term.x.dtype:
            return False
        names = {s.name for s in beside if isinstance(s, Let)}
        for u, other in ((term.x, term.y), (term.y, term.x)):
            is_set = isinstance(u, Name) and u.name in names
            place = self.scratch(u.dtype, i) if is_set else u
            column = self.vector(i, place)
            made = column and self._sum(i, term.axis, column, other, target)
            if column and made and {*buffers_of(made)}.isdisjoint(divided.changed_beside(inner)):
                stored = [Store(place.buffer, place.indices, u)] if isinstance(place, Load) and is_set else []
                divided.columns += [each.buffer for each in stored]
                divided.replace(inner, *stored)
                divided.sums.append(made)
                return True
        return False

    def _sum(self, i: Axis, j: Axis, column: Part, other: Name | Load, target: Load) -> Statement | None:
        if (vector := self.vector(j, other)) and (matrix := self.matrix(i, j, target)):
            left, right = (vector, column) if matrix.transposed else (column, vector)
            return self.outer(replace(matrix, transposed=False), left, right)
        if (result := self.vector(j, target)) and (matrix := self.matrix(i, j, other)):
            return self.product(result, replace(matrix, transposed=not matrix.transposed), column, accumulate=True)
        return None


class _InLanes(_Products[Section]):
    """Finds products in a loop in lanes: of a matrix that is the same for all with vectors of each lane."""

    def __init__(self, loop: Loop, names: Iterator[str]) -> None:
        super().__init__(names)
        self.axis = loop.axis
        self.own = {s.buffer for s in walk(loop.body) if isinstance(s, Allocate)}

    def is_side(self, axis: Axis | Block) -> bool:
        """Tell whether a loop runs over all of an axis that is long enough."""
        return _is_whole(axis)

    def matrix(self, i: Axis, j: Axis, operand: Name | Load) -> Section | None:
        """Return the matrix, the same for all lanes, whose element at i and j an operand is."""
        if not isinstance(operand, Load) or operand.buffer in self.own or len(operand.indices) < 2:
            return None
        *prefix, row, column = operand.indices
        for axes, turned in (((i, j), False), ((j, i), True)):
            if (row, column) == tuple(Affine(axis) for axis in axes):
                return self._section(operand.buffer, prefix, axes, turned)
        return None

    def vector(self, j: Axis, operand: Name | Load) -> Section | None:
        """Return the vector of the lanes whose element at j an operand is."""
        if not isinstance(operand, Load) or operand.buffer not in self.own or not operand.indices:
            return None
        *prefix, last = operand.indices
        return self._section(operand.buffer, prefix, (j,), False) if last == Affine(j) else None

    def _section(self, buffer: Buffer, prefix: Sequence[Any], axes: Sequence[Any], turned: bool) -> Section | None:
        inside = {*axes, self.axis}
        plain = all(isinstance(index, Affine) and index.axis not in inside for index in prefix)
        fits = buffer.shape[len(prefix) :] == tuple(axis.size for axis in axes) and buffer.dtype.kind == "f"
        return Section(buffer, tuple(prefix), turned) if plain and fits else None

    def scratch(self, dtype: Any, i: Axis) -> Load:
        """Return the element at i of a new vector of each lane."""
        buffer = Buffer(next(self.names), dtype, (i.size,), "scratch")
        self.own.add(buffer)
        return Load(buffer, (Affine(i),))

    def product(self, result: Section, matrix: Section, vector: Section, accumulate: bool = False) -> Statement:
        """Return the product of the matrix with the vectors of all lanes."""
        return MatrixVector(result, matrix, vector, accumulate)

    def outer(self, result: Section, left: Section, right: Section) -> Statement:
        """Return the sum over all lanes of products of two vectors."""
        return Outer(result, left, right)


class _InBlock(_Products[Panel]):
    """Finds products of a block's rows of a matrix with a vector."""

    widens = True

    def __init__(self, block: Block, names: Iterator[str]) -> None:
        super().__init__(names)
        self.block = block

    def is_side(self, axis: Axis | Block) -> bool:
        """Tell whether a loop runs over the rows of the block."""
        return isinstance(axis, Axis) and axis.block is self.block

    def matrix(self, i: Axis, j: Axis, operand: Name | Load) -> Panel | None:
        """Return the matrix with the block's rows whose element at i and j an operand is."""
        match operand:
            case Load(buffer=buffer, indices=(row, column)) if column == Affine(j) and buffer.shape[1] == j.size:
                return self._panel(buffer, i, row)
        return None

    def vector(self, j: Axis, operand: Name | Load) -> Panel | None:
        """Return the vector whose element at j an operand is."""
        match operand:
            case Load(buffer=buffer, indices=(index,)) if j.block is not None or buffer.shape == (j.size,):
                return self._panel(buffer, j, index)
        return None

    def _panel(self, buffer: Buffer, axis: Axis, index: Any) -> Panel | None:
        if buffer.dtype.kind == "f" and index in (Affine(axis), Affine(axis, block=self.block)):
            return Panel(buffer, axis.block, local=index.block is not None)
        return None

    def scratch(self, dtype: Any, i: Axis) -> Load:
        """Return the element at i of a new vector of the block's rows."""
        return Load(Buffer(next(self.names), dtype, (self.block.rows,), "scratch"), (Affine(i, block=self.block),))

    def product(self, result: Panel, matrix: Panel, vector: Panel, accumulate: bool = False) -> Statement:
        """Return the product of the rows with a vector, or of their transpose with one."""
        return Multiply(result, matrix, vector, accumulate)


def _terms(inner: Loop) -> list[tuple[Loop, _Term]]:
    """Return the products that a loop sums up, if that is all it does, each in a loop of its own."""
    assert isinstance(inner.axis, Axis)
    found: list[tuple[Loop, _Term]] = []
    made = {s.name: s for s in inner.body if isinstance(s, Let)}
    for statement in inner.body:
        match statement:
            case Let(operation="multiply"):
                pass
            case Accumulate(target, "sum", Name(name=name)) if name in made:
                let = made.pop(name)
                x, y = let.operands
                if not isinstance(x, Name | Load) or not isinstance(y, Name | Load):
                    return []
                found.append((replace(inner, body=(let, statement)), _Term(inner.axis, target, x, y)))
            case _:
                return []
    return [] if made else found


def _is_by_rows(statement: Statement) -> bool:
    return isinstance(statement, Multiply) and statement.is_of_vector


def _is_whole(axis: Axis | Block) -> bool:
    """Tell whether a loop index runs over all of an axis that is long enough for a side of a product."""
    if not isinstance(axis, Axis) or axis.block is not None or axis.start != 0:
        return False
    return not isinstance(axis.size, int) or axis.size >= LEAST
