"""Overlap: loops over almost the same rows become one, so that what they share is read once.

The value of a stencil like ``x[1:] - x[:-1]`` runs over ``n-1`` elements, its gradient over ``n``. Adjacent loops
over sizes that differ by a number, of which none reads what another writes, run together up to the smallest
size; what is left of the longer ones follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from symgraph.compile import loops
from symgraph.compile.dependence import Dependence
from symgraph.compile.loops import Axis, Buffer, Loop, Program, Statement, substituted, walk
from symgraph.dims import Dim

REACH = 64
"""How many statements a loop may lie behind the one that it joins."""


def overlap(program: Program) -> Program:
    """Return the program with loops over almost the same rows as one."""
    return replace(program, body=_Overlap(program).level(program.body))


class _Overlap:
    def __init__(self, program: Program) -> None:
        self.dependence = Dependence(program)
        self.taken = {name for s in walk(program.body) for name in _named(s)}

    def level(self, body: Sequence[Statement]) -> tuple[Statement, ...]:
        """Return the statements of one level with overlapping loops joined, those inside loops first."""
        inner = [replace(s, body=self.level(s.body)) if isinstance(s, Loop) else s for s in body]
        found: list[Statement] = []
        at = 0
        while at < len(inner):
            statement = inner[at]
            at += 1
            if isinstance(statement, Loop) and _is_plain(statement):
                joined, used = self._joined(statement, inner[at : at + REACH])
                found += joined
                at += used
            else:
                found.append(statement)
        return tuple(found)

    def _joined(self, first: Loop, rest: Sequence[Statement]) -> tuple[list[Statement], int]:
        """Return a loop with the later ones that join it, and how many of the following statements that covers."""
        group, before, after = [first], list[Statement](), list[Statement]()
        best: tuple[list[Statement], int] = ([first], 0)
        for number, statement in enumerate(rest):
            is_free = all(self.dependence.are_independent(statement, other) for other in (*group, *after))
            if isinstance(statement, Loop):
                if not is_free or not _may_join(first, statement) or not self._share(first, statement):
                    break
                group.append(statement)
                best = ([*before, *self._together(group), *after], number + 1)
            else:
                (before if is_free else after).append(statement)
        return best

    def _together(self, group: Sequence[Loop]) -> list[Statement]:
        shortest = min(group, key=_excess(group[0]))
        axis = shortest.axis
        assert isinstance(axis, Axis)
        found: list[Statement] = []
        for stop in dict.fromkeys(loop.axis.size for loop in sorted(group, key=_excess(group[0]))):
            longer = [loop for loop in group if _excess(loop)(_sized(loop, stop)) <= 0]
            start = found[-1].axis.size if found and isinstance(found[-1], Loop) else 0
            # A loop inside another one that joins may run over this very axis.
            inside = {inner.axis for loop in longer for inner in walk(loop.body) if isinstance(inner, Loop)}
            is_new = bool(found) or axis in inside
            index = Axis(self._fresh(axis.name), stop, start=start) if is_new else axis
            body: list[Statement] = []
            for loop in longer:
                change: dict[object, Any] = {loop.axis: index}
                if found:
                    change |= self._renamed(loop.body)
                body += [substituted(s, change) for s in loop.body]
            found.append(Loop(index, tuple(body), shortest.lanes))
        return found

    def _renamed(self, body: Sequence[Statement]) -> dict[object, Any]:
        """Return fresh names for what belongs to a loop's body."""
        change: dict[object, Any] = {}
        for statement in walk(body):
            match statement:
                case loops.Let(name=name) | loops.Start(name=name) if name not in change:
                    change[name] = self._fresh(name)
                case loops.Allocate(buffer=buffer):
                    change[buffer] = replace(buffer, name=self._fresh(buffer.name))
        return change

    def _fresh(self, name: str) -> str:
        count = 2
        while f"{name}_{count}" in self.taken:
            count += 1
        self.taken.add(f"{name}_{count}")
        return f"{name}_{count}"

    def _share(self, one: Statement, other: Statement) -> bool:
        touched = self.dependence.touched
        return any(isinstance(thing, Buffer) for thing in touched(one) & touched(other))


def _is_plain(loop: Loop) -> bool:
    axis = loop.axis
    return isinstance(axis, Axis) and axis.block is None and axis.start == 0 and isinstance(axis.size, Dim)


def _may_join(first: Loop, other: Loop) -> bool:
    return _is_plain(other) and first.lanes == other.lanes and isinstance(other.axis.size - first.axis.size, int)


def _excess(first: Loop) -> Any:
    return lambda loop: loop.axis.size - first.axis.size


def _sized(loop: Loop, size: Any) -> Loop:
    return replace(loop, axis=Axis("", size))


def _named(statement: Statement) -> Iterator[str]:
    match statement:
        case loops.Let(name=name) | loops.Start(name=name) | Loop(axis=Axis(name=name)):
            yield name
        case loops.Allocate(buffer=buffer):
            yield buffer.name
