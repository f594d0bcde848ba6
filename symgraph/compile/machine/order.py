"""What takes long is begun early: the order in which the statements of vector loops meet the processor.

A processor has some hundred instructions in view. A division keeps its divider for as long as thirty other
instructions take, and a function is a long chain of steps: where they follow each other at the end of a formula,
nothing else is left to do beside them. So these come as early as what they need allows, the one first from which the
way to the end is longest. A number is stored as soon as it is known; all else stays in its order, near its use.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from symgraph.compile.dependence import Dependence
from symgraph.compile.loops import Accumulate, Buffer, Let, Loop, Program, Statement, Store
from symgraph.compile.machine.cost import is_function

_DIVISIONS = frozenset({"divide", "reciprocal", "sqrt"})
_LONG, _SHORT = 24, 4  # cycles until there is a result
_TOGETHER = 96  # statements: what all functions of a longer stretch have computed would have to wait in memory


def begun_early(program: Program) -> Program:
    """Return the program with what takes long moved forward, in loops whose iterations are lanes."""
    return replace(program, body=_ordered(program.body, Dependence(program), in_lanes=False))


def _ordered(body: Sequence[Statement], dependence: Dependence, in_lanes: bool) -> tuple[Statement, ...]:
    found: list[Statement] = []
    for is_simple, group in groupby(body, lambda statement: isinstance(statement, Let | Store | Accumulate)):
        if is_simple and in_lanes:
            run = list(group)
            for start in range(0, len(run), _TOGETHER):
                found += _long_first(run[start : start + _TOGETHER], dependence)
            continue
        for statement in group:
            if not isinstance(statement, Loop):
                found.append(statement)
                continue
            inner = _ordered(statement.body, dependence, in_lanes or statement.lanes)
            found.append(replace(statement, body=inner))
    return tuple(found)


def _long_first(body: Sequence[Statement], dependence: Dependence) -> list[Statement]:
    needed = _needed(body, dependence)
    long = [place for place, statement in enumerate(body) if _takes_long(statement)]
    to_the_end = _to_the_end(needed, long)
    ends = defaultdict[int, list[int]](list)  # by what they need
    for place, statement in enumerate(body):
        for before in needed[place] if not isinstance(statement, Let) else ():
            ends[before].append(place)
    chosen: dict[int, None] = {}
    for place in (*sorted(long, key=lambda place: -to_the_end[place]), *range(len(body))):
        pending = sorted(_missing(place, needed, chosen), reverse=True)
        while pending:
            one = pending.pop()
            if one not in chosen:
                chosen[one] = None
                pending += [end for end in ends[one] if needed[end] <= chosen.keys()]
    return [body[place] for place in chosen]


def _to_the_end(needed: Sequence[set[int]], long: Sequence[int]) -> list[int]:
    """Return for each place how many cycles the longest way takes that begins there."""
    own = [_SHORT] * len(needed)
    for place in long:
        own[place] = _LONG
    found = list(own)
    for place in reversed(range(len(needed))):
        for before in needed[place]:
            found[before] = max(found[before], own[before] + found[place])
    return found


def _takes_long(statement: Statement) -> bool:
    if not isinstance(statement, Let) or statement.dtype.kind != "f" or statement.operation == "astype":
        return False
    return statement.operation in _DIVISIONS or is_function(statement)


def _needed(body: Sequence[Statement], dependence: Dependence) -> list[set[int]]:
    """Return for each statement the places of those that have to stay before it, at least the last of them."""
    written: dict[str | Buffer, int] = {}
    touched: defaultdict[str | Buffer, list[int]] = defaultdict(list)
    found = []
    for place, statement in enumerate(body):
        changes, uses = dependence.written(statement), dependence.touched(statement)
        before = {written[each] for each in uses if each in written}
        before.update(other for each in changes for other in touched[each])
        found.append(before)
        for each in uses:
            touched[each].append(place)
        for each in changes:
            written[each], touched[each] = place, [place]
    return found


def _missing(place: int, needed: Sequence[Iterable[int]], chosen: dict[int, None]) -> set[int]:
    """Return a place and all those before it that it needs, as far as they are not chosen."""
    found: set[int] = set()
    pending = [place]
    while pending:
        one = pending.pop()
        if one not in chosen and one not in found:
            found.add(one)
            pending += needed[one]
    return found
