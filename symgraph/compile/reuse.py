"""Reuse: a vector of the lanes goes where one is that it replaces, or that replaces it.

Where a loop within a loop in lanes reads the last of one vector and stores another, element by element, one memory does
for both. So more of what one iteration works on is still in the nearest cache.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

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
    Outer,
    Program,
    Section,
    Start,
    Statement,
    Store,
    buffers_of,
    parts,
    substituted,
    walk,
    written,
)

_MOVABLE = (Let, Start, Store, Accumulate, MatrixVector, Outer, Loop)
"""Statements that name elements and sections, not whole buffers."""


def reuse_vectors(program: Program) -> Program:
    """Return the program with vectors of lanes where those are that they replace, or that replace them."""

    def changed(statement: Statement) -> Statement:
        if not isinstance(statement, Loop):
            return statement
        if not statement.lanes:
            return replace(statement, body=tuple(map(changed, statement.body)))
        own = {s.buffer for s in walk(statement.body) if isinstance(s, Allocate)}
        return replace(statement, body=_level(statement.body, own, _last_uses(statement.body), ()))

    return replace(program, body=tuple(map(changed, program.body)))


def _level(
    body: Sequence[Statement], own: AbstractSet[Buffer], ended: Sequence[AbstractSet[Buffer]], around: tuple[Axis, ...]
) -> tuple[Statement, ...]:
    """Return statements with fewer vectors among them, and in the loops among them.

    Args:
        body: The statements.
        own: The scratch of the loop in lanes.
        ended: For each statement, the buffers that nothing else uses in the loops around it, nor after them.
        around: The axes of these loops, within that in lanes.
    """
    found = list(body)
    for place, statement in enumerate(body):
        if isinstance(statement, Loop):
            assert isinstance(statement.axis, Axis)
            only = _only_uses(statement.body, ended[place])
            found[place] = replace(statement, body=_level(statement.body, own, only, (*around, statement.axis)))
    last = list(ended)
    left = own
    for vector in [s.buffer for s in reversed(body) if isinstance(s, Allocate) and len(s.buffer.shape) == 1]:
        begin, end = Allocate(vector), Free(vector)
        life = range(found.index(begin), found.index(end))
        uses = [k for k in life if vector in buffers_of(found[k])]
        if not uses or not all(isinstance(s, _MOVABLE) for s in walk([found[k] for k in uses])):
            continue
        home = _replaced(found[uses[0]], vector, last[uses[0]] & left, around)
        others = _touched(found[k] for k in life if k != uses[-1])
        home = home or _replacing(found[uses[-1]], vector, left - others, around)
        if home is not None:
            left = left - {vector, home.buffer}
            longer = Free(home.buffer)  # where the home's own use ends before the vector's
            dropped = (begin, longer) if longer in found[life.start : life.stop] else (begin, end)
            kept = [k for k, s in enumerate(found) if s not in dropped]
            found = [substituted(longer if found[k] == end else found[k], {vector: home}) for k in kept]
            last = [last[k] for k in kept]
    return tuple(found)


def _replaced(loop: Statement, vector: Buffer, gone: AbstractSet[Buffer], around: Sequence[Axis]) -> Section | None:
    """Return which of these vectors a loop reads before it stores the elements of another."""
    if isinstance(loop, Loop) and (place := _place_of_store(loop, vector)) is not None:
        for load in _loads(loop.body):
            home = _section(load, vector, loop, around)
            is_own = home and home.buffer in gone and {*home.indices} >= {Affine(axis) for axis in around}
            if is_own and _is_read_up_to(place, loop, load):
                return home
    return None


def _replacing(loop: Statement, vector: Buffer, free: AbstractSet[Buffer], around: Sequence[Axis]) -> Section | None:
    """Return which of these vectors a loop stores that has read the elements of another."""
    if not isinstance(loop, Loop):
        return None
    for statement in loop.body:
        match statement:
            case Store(buffer=buffer, indices=indices) if buffer in free:
                home = _section(Load(buffer, indices), vector, loop, around)
                place = _place_of_store(loop, buffer)
                if home and place is not None and _is_read_up_to(place, loop, Load(vector, indices[-1:])):
                    return home
    return None


def _section(element: Load, vector: Buffer, loop: Loop, around: Sequence[Axis]) -> Section | None:
    """Return the section of which an element is at the index of a loop over all of a vector, and that is like it."""
    axis, buffer = loop.axis, element.buffer
    if not isinstance(axis, Axis) or axis.block is not None or axis.start != 0 or not element.indices:
        return None
    *before, last = element.indices
    outer = [index for index in before if isinstance(index, Affine) and (index.axis is None or index.axis in around)]
    is_like = buffer.dtype == vector.dtype and (axis.size,) == vector.shape == buffer.shape[-1:]
    fits = last == Affine(axis) and len(outer) == len(before) == len(buffer.shape) - 1
    return Section(buffer, tuple(outer)) if is_like and fits and buffer is not vector else None


def _place_of_store(loop: Loop, buffer: Buffer) -> int | None:
    """Return which of a loop's statements stores an element of a buffer that nothing else in the loop uses."""
    is_only = list(buffers_of(loop)).count(buffer) == 1
    return next((k for k, s in enumerate(loop.body) if is_only and isinstance(s, Store) and s.buffer is buffer), None)


def _is_read_up_to(place: int, loop: Loop, element: Load) -> bool:
    """Tell whether a buffer is used in the statements of a loop up to one only, and only this element is read."""
    reads = [load for load in _loads(loop.body[: place + 1]) if load.buffer is element.buffer]
    is_all = len(reads) == list(buffers_of(loop)).count(element.buffer)
    is_kept = not any(element.buffer in written(s) for s in walk(loop.body))
    return is_all and is_kept and all(load == element for load in reads)


def _loads(body: Sequence[Statement]) -> list[Load]:
    return [part for part in parts(tuple(body)) if isinstance(part, Load)]


def _touched(statements: Iterable[Statement]) -> set[Buffer]:
    """Return the buffers that statements use, or begin."""
    return {b for s in statements for b in ([s.buffer] if isinstance(s, Allocate) else buffers_of(s))}


def _last_uses(body: Sequence[Statement]) -> list[set[Buffer]]:
    """Return for each statement the buffers that none after it uses."""
    found: list[set[Buffer]] = []
    later: set[Buffer] = set()
    for statement in reversed(body):
        here = {*buffers_of(statement)}
        found.append(here - later)
        later |= here
    return found[::-1]


def _only_uses(body: Sequence[Statement], ended: AbstractSet[Buffer]) -> list[set[Buffer]]:
    """Return for each statement of a loop those of some buffers that no other statement of the loop uses."""
    used = [{*buffers_of(statement)} & ended for statement in body]
    count = Counter(buffer for each in used for buffer in each)
    return [{buffer for buffer in each if count[buffer] == 1} for each in used]
