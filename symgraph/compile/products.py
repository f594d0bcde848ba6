"""Loops in lanes that are products of a matrix with what the lanes hold.

Where the iterations of a loop are the lanes of vectors, a sum over ``j`` of ``A[i,j] * x[j]`` for every ``i`` is the
product of the matrix ``A`` with a matrix of as many columns as there are lanes, and a sum of ``u[i] * v[j]`` over all
lanes is one of two such matrices. Written as one statement each, they are read at a glance, and machine code keeps
blocks of the result in registers instead of loading everything once for each multiplication.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from symgraph.compile.loops import (
    Accumulate,
    Affine,
    Allocate,
    Axis,
    Buffer,
    Free,
    Let,
    Load,
    Loop,
    MatrixVector,
    Name,
    Outer,
    Program,
    Section,
    Start,
    Statement,
    Store,
    buffers_of,
    walk,
    written,
)
from symgraph.compile.overlap import overlap
from symgraph.compile.tidy import tidy

LEAST = 8
"""An axis that is known to have fewer elements is no side of a product."""


def find_products(program: Program) -> Program:
    """Return the program with the products of a matrix in loops in lanes as one statement each."""
    taken = {s.buffer.name for s in walk(program.body) if isinstance(s, Allocate)}
    names = (name for name in (f"p{i}" for i in count(1)) if name not in taken)

    def found(statement: Statement) -> Statement:
        if not isinstance(statement, Loop):
            return statement
        if not statement.lanes:
            return replace(statement, body=tuple(map(found, statement.body)))
        return replace(statement, body=_Lanes(statement, names).level(statement.body))

    changed = replace(program, body=tuple(map(found, program.body)))
    if not any(isinstance(s, MatrixVector | Outer) for s in walk(changed.body)):
        return program
    return tidy(overlap(changed))  # loops that a sum no longer keeps apart


@dataclass(frozen=True)
class _Term:
    """The statement ``target += x * y`` of the inner one of two loops, which runs over an axis."""

    axis: Axis
    target: Name | Load
    x: Name | Load
    y: Name | Load


@dataclass
class _Divided:
    """A loop, and what is taken out of it: products that run before and after."""

    before: list[Statement]
    body: list[Statement]
    after: list[Statement]

    def changed_beside(self, inner: Loop) -> set[Buffer]:
        """Return what the loop writes elsewhere."""
        return {buffer for s in walk(self.body) for buffer in written(s)} - {
            buffer for s in inner.body for buffer in written(s)
        }

    def replace(self, inner: Loop, statement: Statement) -> None:
        self.body[self.body.index(inner)] = statement


class _Lanes:
    """Finds products in one loop in lanes."""

    def __init__(self, loop: Loop, names: Iterator[str]) -> None:
        self.axis = loop.axis
        self.names = names
        self.own = {s.buffer for s in walk(loop.body) if isinstance(s, Allocate)}

    def level(self, body: Sequence[Statement]) -> tuple[Statement, ...]:
        """Return statements with the products among them, and in the loops among them."""
        found: list[Statement] = []
        for statement in body:
            if isinstance(statement, Loop):
                loop = replace(statement, body=self.level(statement.body))
                found += self._without_products(loop) if _is_whole(loop) else [loop]
            else:
                found.append(statement)
        return tuple(found)

    def _without_products(self, loop: Loop) -> list[Statement]:
        """Return a loop with its products before and after it."""
        assert isinstance(loop.axis, Axis)
        divided = _Divided([], list(loop.body), [])
        for inner in loop.body:
            if isinstance(inner, Loop) and _is_whole(inner) and (term := _term(inner)):
                take = self._take_dot if isinstance(term.target, Name) else self._take_sum
                take(divided, loop.axis, inner, term)
        before, body, after = divided.before, divided.body, divided.after
        if (stored := self._only_stored(loop.axis, divided)) is not None:
            return [*stored, *after]
        frees = [Free(s.buffer) for s in before if isinstance(s, Allocate)]
        return [*before, *([replace(loop, body=tuple(body))] if body else []), *after, *frees]

    def _take_dot(self, divided: _Divided, i: Axis, inner: Loop, term: _Term) -> None:
        """Take ``t = Σⱼ A[i,j] x[j]`` out of a loop over i."""
        target = term.target
        assert isinstance(target, Name)
        starts = [s for s in divided.body if isinstance(s, Start) and s.name == target.name]
        others = [s for s in walk(divided.body) if isinstance(s, Accumulate) and s.target == target]
        if len(starts) != 1 or len(others) != 1 or target.dtype != term.x.dtype:
            return
        for x, y in ((term.x, term.y), (term.y, term.x)):
            matrix, vector = self._matrix(i, term.axis, x), self._vector(term.axis, y)
            if matrix and vector and not {matrix.buffer, vector.buffer} & divided.changed_beside(inner):
                result = self._scratch(target.dtype, i)
                divided.before += [Allocate(result), MatrixVector(Section(result), matrix, vector)]
                divided.replace(inner, Let(target.name, target.dtype, "copy", "{0}", (Load(result, (Affine(i),)),)))
                divided.body.remove(starts[0])
                return

    def _take_sum(self, divided: _Divided, i: Axis, inner: Loop, term: _Term) -> None:
        """Take ``C[i,j] += u x[j]``, or ``c[j] += u A[i,j]``, out of a loop over i that sets u."""
        beside = [s for s in divided.body if s is not inner]
        target = term.target
        assert isinstance(target, Load)
        if target.buffer in {buffer for s in beside for buffer in buffers_of(s)}:
            return
        names = {s.name for s in beside if isinstance(s, Let)}
        for u, other in ((term.x, term.y), (term.y, term.x)):
            if isinstance(u, Name) and u.name in names:
                column = self._scratch(u.dtype, i)
                made = self._sum(i, term.axis, Section(column), other, target)
                if made and {*buffers_of(made)}.isdisjoint(divided.changed_beside(inner)):
                    divided.before.append(Allocate(column))
                    divided.replace(inner, Store(column, (Affine(i),), u))
                    divided.after.append(made)
                    return

    def _sum(self, i: Axis, j: Axis, column: Section, other: Name | Load, target: Load) -> MatrixVector | Outer | None:
        if (vector := self._vector(j, other)) and (matrix := self._matrix(i, j, target)):
            left, right = (vector, column) if matrix.transposed else (column, vector)
            return Outer(replace(matrix, transposed=False), left, right)
        if (result := self._vector(j, target)) and (matrix := self._matrix(i, j, other)):
            turned = replace(matrix, transposed=not matrix.transposed)
            return MatrixVector(result, turned, column, accumulate=True)
        return None

    def _only_stored(self, axis: Axis, divided: _Divided) -> list[Statement] | None:
        """Return a product alone where all that its loop does with it is to store it in scratch of the lanes."""
        match divided.body, divided.before:
            case (
                [Let(name=name, operation="copy"), Store(buffer=buffer, indices=indices, operand=Name(name=same))],
                [Allocate(), MatrixVector() as made],
            ) if name == same and (result := self._vector(axis, Load(buffer, indices))):
                return [replace(made, result=result)]
        return None

    def _matrix(self, i: Axis, j: Axis, operand: Name | Load) -> Section | None:
        """Return the matrix, the same for all lanes, whose element at i and j an operand is."""
        if not isinstance(operand, Load) or operand.buffer in self.own or len(operand.indices) < 2:
            return None
        *prefix, row, column = operand.indices
        for axes, turned in (((i, j), False), ((j, i), True)):
            if (row, column) == tuple(Affine(axis) for axis in axes):
                return self._section(operand.buffer, prefix, axes, turned)
        return None

    def _vector(self, j: Axis, operand: Name | Load) -> Section | None:
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

    def _scratch(self, dtype: Any, axis: Axis) -> Buffer:
        buffer = Buffer(next(self.names), dtype, (axis.size,), "scratch")
        self.own.add(buffer)
        return buffer


def _term(inner: Loop) -> _Term | None:
    match inner.body:
        case (Let(operation="multiply", operands=(x, y)) as made, Accumulate(target, "sum", Name(name=name))):
            if name == made.name and isinstance(x, Name | Load) and isinstance(y, Name | Load):
                assert isinstance(inner.axis, Axis)
                return _Term(inner.axis, target, x, y)
    return None


def _is_whole(loop: Loop) -> bool:
    """Tell whether a loop runs over all of an axis that is long enough."""
    axis = loop.axis
    if not isinstance(axis, Axis) or axis.block is not None or axis.start != 0:
        return False
    return not isinstance(axis.size, int) or axis.size >= LEAST
