"""Bounds: conditions on loop indices that hold (or fail) in every iteration are decided before the program runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from symgraph.compile import loops
from symgraph.compile.loops import Affine, Axis, Bound, Literal, Loop, Name, Operand, Program, Statement, fixed_names
from symgraph.dims import Size

_COMPARISONS = {"less": (-1, False), "less_equal": (-1, True), "greater": (1, False), "greater_equal": (1, True)}
"""The sign that left less right has where the comparison holds, and whether it may be zero."""


def decide_bounds(program: Program) -> Program:
    """Return the program without conditions that are the same in every iteration."""
    return replace(program, body=tuple(_Decider(fixed_names(program)).body(program.body, {})))


class _Decider:
    def __init__(self, fixed: set[str]) -> None:
        self.fixed = fixed
        self.known: dict[str, Operand] = {}

    def body(self, body: Sequence[Statement], ranges: Mapping[Axis, tuple[Size, Size]]) -> list[Statement]:
        """Return statements with what is known put in; the index of each loop around runs over a range."""
        found: list[Statement] = []
        for statement in body:
            match statement:
                case Loop(axis=axis, body=inner):
                    within = {**ranges, axis: (axis.start, axis.size)} if isinstance(axis, Axis) else ranges
                    found.append(replace(statement, body=tuple(self.body(inner, within))))
                case loops.Let():
                    found += self._let(statement, ranges)
                case loops.Store(operand=operand) | loops.Accumulate(operand=operand):
                    found.append(replace(statement, operand=self._operand(operand, ranges)))
                case loops.Call(operands=operands):
                    put_in = (self._operand(o, ranges) if isinstance(o, Name) else o for o in operands)
                    found.append(replace(statement, operands=tuple(put_in)))
                case _:
                    found.append(statement)
        return found

    def _let(self, let: loops.Let, ranges: Mapping[Axis, tuple[Size, Size]]) -> list[Statement]:
        operands = tuple(self._operand(operand, ranges) for operand in let.operands)
        known: Operand | None = None
        if let.operation in _COMPARISONS:
            decided = _compare(let.operation, operands[0], operands[1], ranges)
            known = None if decided is None else Literal(np.bool_(decided), let.dtype)
        elif let.operation == "logical_and":
            known = _both(*operands)
        elif let.operation == "where" and isinstance(operands[0], Literal):
            known = operands[1] if operands[0].value else operands[2]
        if isinstance(known, Name | Literal) and let.name not in self.fixed:
            self.known[let.name] = known
            return []
        if known is not None:
            return [loops.Let(let.name, let.dtype, "copy", "{0}", (known,))]
        return [replace(let, operands=operands)]

    def _operand(self, operand: Operand, ranges: Mapping[Axis, tuple[Size, Size]]) -> Operand:
        match operand:
            case Name(name=name):
                return self.known.get(name, operand)
            case loops.Guarded(conditions=conditions, operand=inner, otherwise=otherwise):
                decided = {bound: _holds(bound, ranges) for bound in conditions}
                if False in decided.values():
                    return self._operand(otherwise, ranges)
                left = tuple(bound for bound in conditions if decided[bound] is None)
                inner = self._operand(inner, ranges)
                return loops.Guarded(left, inner, self._operand(otherwise, ranges)) if left else inner
        return operand


def _both(left: Operand, right: Operand) -> Operand | None:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Literal):
            return other if one.value else one
    return None


def _holds(bound: Bound, ranges: Mapping[Axis, tuple[Size, Size]]) -> bool | None:
    """Return whether an index lies within bounds; None where that depends on the iteration, or on sizes."""
    least, most = _extent(bound.index, ranges)
    if least is None or most is None or bound.stride != 1:
        return None
    if _is_negative(most) or _is_negative(bound.size - 1 - least):
        return False
    may_fail = _is_negative(least, unless=True) or _is_negative(bound.size - 1 - most, unless=True)
    return None if may_fail else True


def _compare(operation: str, left: Operand, right: Operand, ranges: Mapping[Axis, tuple[Size, Size]]) -> bool | None:
    sign, may_be_zero = _COMPARISONS[operation]
    first, second = _number(left, ranges), _number(right, ranges)
    if first is None or second is None:
        return None
    least, most = first[0] - second[1], first[1] - second[0]
    if sign < 0:
        least, most = -most, -least
    if not may_be_zero:
        least, most = least - 1, most - 1
    if _is_negative(most):
        return False
    return None if _is_negative(least, unless=True) else True


def _number(operand: Operand, ranges: Mapping[Axis, tuple[Size, Size]]) -> tuple[Any, Any] | None:
    """Return the least and the greatest value of an integer."""
    if isinstance(operand, Literal) and operand.dtype.kind == "i":
        return int(operand.value), int(operand.value)
    if isinstance(operand, loops.IndexValue) and operand.dtype.kind == "i":
        least, most = _extent(operand.index, ranges)
        return None if least is None else (least, most)
    return None


def _extent(index: Affine, ranges: Mapping[Axis, tuple[Size, Size]]) -> tuple[Any, Any]:
    """Return the least and the greatest value of an index, in a loop that runs at all."""
    if index.divisor != 1 or index.block is not None:
        return None, None
    if index.axis is None:
        return index.offset, index.offset
    if index.axis not in ranges:
        return None, None
    start, stop = ranges[index.axis]
    ends = index.step * start + index.offset, index.step * (stop - 1) + index.offset
    return ends if index.step > 0 else ends[::-1]


def _is_negative(size: Size, unless: bool = False) -> bool:
    """Tell whether a size is known to be negative; what is not known counts as told."""
    return size < 0 if isinstance(size, int) else unless
