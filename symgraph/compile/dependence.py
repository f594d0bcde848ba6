"""Dependence: which statements of a program have to stay in their order.

Those of which one writes what the other touches: a scalar, or memory, under whatever name.
"""

from __future__ import annotations

from typing import NamedTuple

from symgraph.compile import loops
from symgraph.compile.lifetimes import shared_memory
from symgraph.compile.loops import Buffer, Program, Statement, walk


class _Effects(NamedTuple):
    """A statement, which keeps its identity, and what it touches and writes."""

    statement: Statement
    touched: set[str | Buffer]
    written: set[str | Buffer]


class Dependence:
    """What the statements of a program touch and write; of buffers that are views, the one they are views of."""

    def __init__(self, program: Program) -> None:
        self._memory = shared_memory(program)
        self._known: dict[int, _Effects] = {}  # each statement is compared with many others

    def memory(self, buffer: Buffer) -> Buffer:
        """Return the buffer whose memory a buffer is: its own, or that of which it is a view."""
        return self._memory.get(buffer, buffer)

    def touched(self, statement: Statement) -> set[str | Buffer]:
        """Return the names and buffers that a statement mentions."""
        return self._effects(statement).touched

    def written(self, statement: Statement) -> set[str | Buffer]:
        """Return the names and buffers that a statement gives a value, or begins or ends."""
        return self._effects(statement).written

    def are_independent(self, one: Statement, other: Statement) -> bool:
        """Tell whether two statements may exchange places."""
        return self.written(one).isdisjoint(self.touched(other)) and self.written(other).isdisjoint(self.touched(one))

    def _effects(self, statement: Statement) -> _Effects:
        found = self._known.get(id(statement))
        if found is None:
            found = self._known[id(statement)] = _Effects(statement, self._touched(statement), self._written(statement))
        return found

    def _touched(self, statement: Statement) -> set[str | Buffer]:
        found: set[str | Buffer] = set()
        for part in loops.parts(statement):
            if isinstance(part, Buffer):
                found.add(self.memory(part))
            elif isinstance(part, loops.Name | loops.Let | loops.Start):
                found.add(part.name)
        return found

    def _written(self, statement: Statement) -> set[str | Buffer]:
        found: set[str | Buffer] = set()
        for one in walk([statement]):
            match one:
                case loops.Let(name=name) | loops.Start(name=name):
                    found.add(name)
                case loops.Accumulate(target=loops.Name(name=name)):
                    found.add(name)
                case loops.Allocate(buffer=buffer) | loops.Free(buffer=buffer):
                    found.add(self.memory(buffer))
                case _:
                    found.update(map(self.memory, loops.written(one)))
        return found
