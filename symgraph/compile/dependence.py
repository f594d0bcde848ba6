"""Dependence: which statements of a program have to stay in their order.

Those of which one writes what the other touches: a scalar, or memory, under whatever name.
"""

from __future__ import annotations

from collections.abc import Iterator

from symgraph.compile import loops
from symgraph.compile.lifetimes import shared_memory
from symgraph.compile.loops import Buffer, Program, Statement, walk


class Dependence:
    """What the statements of a program touch and write; of buffers that are views, the one they are views of."""

    def __init__(self, program: Program) -> None:
        self._memory = shared_memory(program)
        # Each statement is compared with many others. It is kept, so that its identity is nobody else's.
        self._known: dict[int, tuple[Statement, frozenset[str | Buffer], frozenset[str | Buffer]]] = {}

    def memory(self, buffer: Buffer) -> Buffer:
        """Return the buffer whose memory a buffer is: its own, or that of which it is a view."""
        return self._memory.get(buffer, buffer)

    def touched(self, statement: Statement) -> frozenset[str | Buffer]:
        """Return the names and buffers that a statement mentions."""
        return self._effects(statement)[1]

    def written(self, statement: Statement) -> frozenset[str | Buffer]:
        """Return the names and buffers that a statement gives a value, or begins or ends."""
        return self._effects(statement)[2]

    def are_independent(self, one: Statement, other: Statement) -> bool:
        """Tell whether two statements may exchange places."""
        return self.written(one).isdisjoint(self.touched(other)) and self.written(other).isdisjoint(self.touched(one))

    def _effects(self, statement: Statement) -> tuple[Statement, frozenset[str | Buffer], frozenset[str | Buffer]]:
        if id(statement) not in self._known:
            touched, written = frozenset(self._touched(statement)), frozenset(self._written(statement))
            self._known[id(statement)] = statement, touched, written
        return self._known[id(statement)]

    def _touched(self, statement: Statement) -> Iterator[str | Buffer]:
        for part in loops.parts(statement):
            if isinstance(part, Buffer):
                yield self.memory(part)
            elif isinstance(part, loops.Name | loops.Let | loops.Start):
                yield part.name

    def _written(self, statement: Statement) -> Iterator[str | Buffer]:
        for one in walk([statement]):
            match one:
                case loops.Let(name=name) | loops.Start(name=name) | loops.Accumulate(target=loops.Name(name=name)):
                    yield name
                case loops.Allocate(buffer=buffer) | loops.Free(buffer=buffer):
                    yield self.memory(buffer)
                case _:
                    yield from map(self.memory, loops.written(one))
