"""Triangles: which elements of a matrix in a product are zero, or not needed.

A lower triangular matrix is declared as a selection, ``where(j <= i, L, 0)``, and its derivative is one too. Where a
product's matrix was stored by such a statement, its other elements are zero, and where all that reads a product's
result is such a selection, its other elements are nobody's. Products leave both out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from symgraph.compile.loops import (
    Affine,
    Axis,
    Band,
    Buffer,
    IndexValue,
    Let,
    Literal,
    Load,
    Loop,
    MatrixVector,
    Name,
    Operand,
    Outer,
    Program,
    Section,
    Statement,
    Store,
    buffers_of,
    mentioned,
    parts,
    walk,
    written,
)

_SIGNS = {"less_equal": (1, 0), "less": (1, 1), "greater_equal": (-1, 0), "greater": (-1, 1)}
"""For ``x R y`` the sign of x in ``sign * (x - y) + less <= 0``, and how much it is less."""


class _Condition(NamedTuple):
    """``left - right <= most``, for two loop indices."""

    left: Axis
    right: Axis
    most: int

    def turned(self) -> _Condition:
        """Return the condition that holds where this one does not."""
        return _Condition(self.right, self.left, -self.most - 1)


def add_bands(program: Program) -> Program:
    """Return the program with the elements told that products may leave out."""
    statements = list(walk(program.body))
    if not any(isinstance(s, MatrixVector | Outer) for s in statements):
        return program
    finder = _Finder(program, statements)

    def told(statement: Statement) -> Statement:
        match statement:
            case Loop(body=body):
                return replace(statement, body=tuple(map(told, body)))
            case MatrixVector(matrix=matrix):
                return replace(statement, matrix=_narrowed(matrix, finder.stored(matrix.buffer)))
            case Outer(result=result):
                return replace(statement, result=_narrowed(result, finder.needed(result.buffer)))
        return statement

    return replace(program, body=tuple(map(told, program.body)))


def _narrowed(section: Section, band: Band) -> Section:
    low, high = band
    if section.transposed:
        low, high = (None if each is None else -each for each in (high, low))
    return replace(section, band=(low, high))


class _Finder:
    def __init__(self, program: Program, statements: Sequence[Statement]) -> None:
        self.statements = statements
        self.results = {r for r in program.results if isinstance(r, Buffer)}
        self.lets = {s.name: s for s in statements if isinstance(s, Let)}
        self.users: dict[str, list[Statement]] = {}
        for statement in statements:
            for name in dict.fromkeys(mentioned(statement)):
                self.users.setdefault(name, []).append(statement)

    def stored(self, buffer: Buffer) -> Band:
        """Return where a buffer's matrices may have elements that are not zero."""
        if buffer.role != "scratch":
            return None, None
        writers = [s for s in self.statements if buffer in written(s)]
        match writers:
            case [Store(indices=indices, operand=Name(name=name))] if name in self.lets:
                match self.lets[name]:
                    case Let(operation="where", operands=(condition, _, Literal(value=0))):
                        return _band(indices, self._condition(condition, True))
                    case Let(operation="where", operands=(condition, Literal(value=0), _)):
                        return _band(indices, self._condition(condition, False))
        return None, None

    def needed(self, buffer: Buffer) -> Band:
        """Return which elements of a buffer's matrices are read, beside by what adds to them."""
        bands: list[Band] = []
        if buffer in self.results:
            return None, None
        for statement in self.statements:
            if isinstance(statement, Loop) or buffer not in buffers_of(statement) or buffer in written(statement):
                continue
            if not isinstance(statement, Let):
                return None, None
            loads = [part for part in parts(statement) if isinstance(part, Load) and part.buffer is buffer]
            bands += [_joined(_band(load.indices, c) for c in self._uses(statement, load)) for load in loads]
        return _joined(bands)

    def _uses(self, let: Let, load: Load) -> list[_Condition | None]:
        """Return the conditions under which an element that a statement loads is used; None for an unknown one."""
        if let.operation == "where":
            condition, *branches = let.operands
            return [self._condition(condition, k == 0) for k in (0, 1) if branches[k] == load] or [None]
        pending, seen, found = [let.name], {let.name}, list[_Condition | None]()
        while pending:
            name = pending.pop()
            for statement in self.users.get(name, ()):
                match statement:
                    case Let(operation="where", operands=(condition, *branches)) if name not in mentioned(condition):
                        found += [self._condition(condition, k == 0) for k in (0, 1) if name in mentioned(branches[k])]
                    case Let(name=user):
                        if user not in seen:
                            seen.add(user)
                            pending.append(user)
                    case _:
                        found.append(None)
        return found or [None]

    def _condition(self, operand: Operand, holds: bool) -> _Condition | None:
        """Return what an operand says of two loop indices where it holds, or where it does not."""
        let = self.lets.get(operand.name) if isinstance(operand, Name) else None
        if let is None or let.operation not in _SIGNS:
            return None
        sides = [self._index(each) for each in let.operands]
        if None in sides:
            return None
        (x, more), (y, less) = sides  # type: ignore[misc]
        sign, strict = _SIGNS[let.operation]
        most = sign * (less - more) - strict
        condition = _Condition(x, y, most) if sign > 0 else _Condition(y, x, most)
        return condition if holds else condition.turned()

    def _index(self, operand: Operand) -> tuple[Axis, int] | None:
        """Return the loop index, and what is added to it, that an operand is."""
        match operand:
            case IndexValue(index=Affine(axis=Axis() as axis, step=1, offset=int(offset), divisor=1, block=None)):
                return axis, offset
            case Name(name=name) if name in self.lets:
                match self.lets[name]:
                    case Let(operation="copy", operands=(inner,)):
                        return self._index(inner)
                    case Let(operation="add", operands=(inner, Literal(value=value))) if float(value).is_integer():
                        found = self._index(inner)
                        return None if found is None else (found[0], found[1] + int(value))
        return None


def _band(indices: Sequence[Any], condition: _Condition | None) -> Band:
    """Return what a condition on the last two indices of an element says about its column less its row."""
    if condition is None or len(indices) < 2:
        return None, None
    row, column = (
        index.axis if isinstance(index, Affine) and index == Affine(index.axis) else None for index in indices[-2:]
    )
    if (column, row) == (condition.left, condition.right):
        return None, condition.most
    if (row, column) == (condition.left, condition.right):
        return -condition.most, None
    return None, None


def _joined(bands: Iterable[Band]) -> Band:
    """Return the band that holds all of these."""
    known = list(bands)
    lows, highs = ([band[side] for band in known] for side in (0, 1))
    return (
        None if not lows or None in lows else min(lows),  # type: ignore[type-var]
        None if not highs or None in highs else max(highs),  # type: ignore[type-var]
    )
