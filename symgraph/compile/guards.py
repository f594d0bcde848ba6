"""Guards: conditions on a loop's index that its range decides are decided here, once, instead of in every iteration.

A slice's derivative asks ``i < n-1`` of every element. In a loop that runs up to ``n-1`` the answer is always yes; in
the one over the last element always no.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from symgraph.compile import loops
from symgraph.compile.loops import Affine, Axis, Bound, Guarded, Let, Literal, Loop, Name, Operand, Program, Statement
from symgraph.dims import Size

_TRUTH = np.dtype(np.bool_)
_COMPARISONS = ("less", "less_equal", "greater", "greater_equal")


def decide_guards(program: Program) -> Program:
    """Return the program without conditions that hold always or never."""
    return replace(program, body=_body(program.body, {}))


def _body(body: Sequence[Statement], ranges: Mapping[Axis, tuple[Size, Size]]) -> tuple[Statement, ...]:
    known: dict[str, Operand] = {}
    found: list[Statement] = []
    for statement in body:
        match statement:
            case Loop(axis=Axis() as axis):
                inside = {**ranges, axis: (axis.start, axis.size)}
                found.append(replace(statement, body=_body(statement.body, inside)))
            case Loop():
                found.append(replace(statement, body=_body(statement.body, ranges)))
            case Let():
                let = replace(statement, operands=tuple(_operand(o, known, ranges) for o in statement.operands))
                value = _value(let, ranges)
                if value is None:
                    found.append(let)
                else:
                    known[let.name] = value
                    found.append(Let(let.name, let.dtype, "copy", "{0}", (value,)))
            case loops.Store() | loops.Accumulate():
                found.append(replace(statement, operand=_operand(statement.operand, known, ranges)))
            case _:
                found.append(statement)
    return _needed(found, known)


def _needed(body: Sequence[Statement], known: Mapping[str, Operand]) -> tuple[Statement, ...]:
    """Return the statements without those that only name what is known."""
    mentioned = {name for statement in body for name in loops.names_read(statement)}
    return tuple(s for s in body if not (isinstance(s, Let) and s.name in known and s.name not in mentioned))


def _operand(operand: Operand, known: Mapping[str, Operand], ranges: Mapping[Axis, tuple[Size, Size]]) -> Operand:
    if isinstance(operand, Name):
        return known.get(operand.name, operand)
    if not isinstance(operand, Guarded):
        return operand
    answers = [_holds(bound, ranges) for bound in operand.conditions]
    otherwise = _operand(operand.otherwise, known, ranges)
    if False in answers:
        return otherwise
    inner = _operand(operand.operand, known, ranges)
    open_conditions = tuple(b for b, answer in zip(operand.conditions, answers, strict=True) if answer is None)
    return Guarded(open_conditions, inner, otherwise) if open_conditions else inner


def _value(let: Let, ranges: Mapping[Axis, tuple[Size, Size]]) -> Operand | None:
    """Return what a scalar is without computing anything, None where something must be computed."""
    if let.operation in _COMPARISONS:
        answer = _compared(let, ranges)
        return None if answer is None else Literal(answer, _TRUTH)
    condition = let.operands[0] if let.operands else None
    if let.operation == "where" and isinstance(condition, Literal):
        chosen = let.operands[1 if condition.value else 2]
        return chosen if isinstance(chosen, Name | Literal) else None
    return None


def _compared(let: Let, ranges: Mapping[Axis, tuple[Size, Size]]) -> bool | None:
    left, right = (_span(operand, ranges) for operand in let.operands)
    if left is None or right is None:
        return None
    (low, high), (least, most) = left, right
    if let.operation in ("greater", "greater_equal"):
        (low, high), (least, most) = (least, most), (low, high)
    slack = 0 if let.operation in ("less_equal", "greater_equal") else 1
    if _at_least(least - high, slack):
        return True
    return False if _at_least(low - most, 1 - slack) else None


def _span(operand: Operand, ranges: Mapping[Axis, tuple[Size, Size]]) -> tuple[Size, Size] | None:
    """Return the smallest and the greatest value of an integer."""
    match operand:
        case loops.IndexValue(index=index):
            return _index_span(index, ranges)
        case Literal(value=value, dtype=dtype) if dtype.kind in "iu":
            return int(value), int(value)
    return None


def _index_span(index: Affine, ranges: Mapping[Axis, tuple[Size, Size]]) -> tuple[Size, Size] | None:
    if index.divisor != 1 or index.block is not None:
        return None
    if index.axis is None:
        return index.offset, index.offset
    if index.axis not in ranges:
        return None
    start, stop = ranges[index.axis]
    ends = (index.step * start + index.offset, index.step * (stop - 1) + index.offset)
    return ends if index.step > 0 else ends[::-1]


def _holds(bound: Bound, ranges: Mapping[Axis, tuple[Size, Size]]) -> bool | None:
    span = None if bound.stride != 1 else _index_span(bound.index, ranges)
    if span is None:
        return None
    low, high = span
    if _at_least(low, 0) and _at_least(bound.size - high, 1):
        return True
    return False if _at_least(low - bound.size, 0) or _at_least(-1 - high, 0) else None


def _at_least(size: Size, least: int) -> bool:
    """Tell whether a size is known to be so large."""
    return isinstance(size, int) and size >= least
