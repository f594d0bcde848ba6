"""In place: what replaces an array, element by element, is written over it, where nobody can tell the difference.

That is where each element is read no later than it is written. For the new value of a variable, nothing may fail either
once its first element is written, since variables change together or not at all: the loop that writes goes behind what
still reads the old value or may fail. A sum that a result replaces is in the result's memory from the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from symgraph.compile import loops
from symgraph.compile.dependence import Dependence
from symgraph.compile.loops import (
    Affine,
    Allocate,
    Buffer,
    Fill,
    Free,
    Let,
    Load,
    Loop,
    Program,
    Statement,
    Store,
    View,
    bytes_of,
    substituted,
    walk,
)
from symgraph.compile.machine.chunks import allocated, shared_targets
from symgraph.compile.machine.memory import ON_STACK
from symgraph.compile.machine.straight import LENGTH
from symgraph.compile.memory import at_most


def place_updates(program: Program, updates: Sequence[tuple[int, int]]) -> Program:
    """Return the program with results written over arguments, where that may be done.

    Args:
        program: A finished program.
        updates: Positions of results, each with that of the argument whose new value it is.
    """
    if not updates or program.user_functions:  # of which nobody knows whether they fail
        return program
    placement = _Placement(program)
    for result, argument in updates:
        placement.place(program.results[result], program.arguments[argument])
    return replace(program, body=placement.body(), results=substituted(program.results, placement.places))


def place_results(program: Program) -> Program:
    """Return the program with what it adds up in the memory of the results that replace it.

    So a gradient is added up where it is handed back, though the last loop adds something else to it.
    """
    results = [s.buffer for s in walk(program.body) if isinstance(s, Store) and s.buffer.role == "result"]
    dependence = Dependence(program)
    for total in [s.buffer for s in program.body if isinstance(s, Fill) and Allocate(s.buffer) in program.body]:
        result = next((each for each in results if _replaces(each, total, program.body, dependence)), None)
        if result is not None:
            kept = [s for s in program.body if s not in (Allocate(total), Free(total))]
            program = replace(program, body=tuple(substituted(s, {total: result}) for s in kept))
            dependence = Dependence(program)
    return program


def _replaces(result: Buffer, old: Buffer, body: Sequence[Statement], dependence: Dependence) -> bool:
    """Tell whether a result is used in one outermost loop only, where it replaces an array that is last used there."""
    users = [at for at, statement in enumerate(body) if result in dependence.touched(statement)]
    loop = body[users[0]] if len(users) == 1 else None
    if not isinstance(loop, Loop) or (result.dtype, result.shape) != (old.dtype, old.shape):
        return False
    is_last = not any(old in dependence.touched(s) for s in body[users[0] + 1 :] if s != Free(old))
    is_viewed = any(isinstance(s, View) and old in dependence.touched(s) for s in walk(body))
    is_read = old in dependence.touched(loop)
    return is_read and is_last and not is_viewed and _may_overwrite(loop, result, old, dependence)


@dataclass(eq=False)
class _Part:
    """An outermost statement, with the names and buffers that it touches and writes, and whether it may fail."""

    statement: Statement
    touched: frozenset[str | Buffer]
    written: frozenset[str | Buffer]
    may_fail: bool


class _Placement:
    """The outermost statements of a program, and which results were placed where."""

    def __init__(self, program: Program) -> None:
        self.places: dict[object, Buffer] = {}
        self._dependence = Dependence(program)
        # Machine code hands numbers from one piece of long straight-line code to the next through memory.
        is_long = sum(isinstance(s, Let | Store) for s in program.body) > 2 * LENGTH
        self._parts = [
            _Part(
                s,
                self._dependence.touched(s),
                self._dependence.written(s),
                _may_fail(s) or (is_long and isinstance(s, Let | Store)),
            )
            for s in program.body
        ]

    def body(self) -> tuple[Statement, ...]:
        """Return the statements in their order."""
        return tuple(part.statement for part in self._parts)

    def place(self, result: object, argument: object) -> None:
        """Write a result over an argument, if that may be done."""
        if not isinstance(result, Buffer) or not isinstance(argument, Buffer):
            return
        writers = [part for part in self._parts if result in part.written]
        if len(writers) != 1 or not isinstance(writers[0].statement, Loop):
            return
        loop = self._with_last_store(writers[0].statement, result, argument)
        order = self._order(writers[0], argument)
        if order is None or not _may_overwrite(loop, result, argument, self._dependence):
            return
        writers[0].statement = loop
        self._parts = order
        self.places[result] = argument
        for part in order:
            if result in part.touched:
                part.statement = substituted(part.statement, {result: argument})
                part.touched |= {argument}
        writers[0].written |= {argument}

    def _order(self, writer: _Part, argument: Buffer) -> list[_Part] | None:
        """Return the parts with the writer behind all that may fail or reads the argument; None if it has to stay.

        What depends on the writer goes with it; scratch that is freed later then takes no more than is saved.
        """
        at = stop = self._parts.index(writer)
        late, touched, written = {writer}, writer.touched, writer.written
        for place, part in enumerate(self._parts[at + 1 :], at + 1):
            is_obstacle = part.may_fail or argument in part.touched
            if part.written.isdisjoint(touched) and part.touched.isdisjoint(written):
                stop = place if is_obstacle else stop
                continue
            if is_obstacle:
                return None
            late.add(part)
            touched |= part.touched
            written |= part.written
        before, after = self._parts[: stop + 1], self._parts[stop + 1 :]
        moved = [part for part in before if part in late]
        kept = bytes_of(part.statement.buffer for part in moved if isinstance(part.statement, Free))
        saved = bytes_of(b for b in writer.written if isinstance(b, Buffer) and b.role == "result")
        if writer.may_fail or not at_most(kept, saved):
            return None
        return [part for part in before if part not in late] + moved + after

    def _with_last_store(self, loop: Loop, result: Buffer, argument: Buffer) -> Loop:
        """Return a loop in which an element of the result is written after its iteration has read the argument."""
        body = [self._with_last_store(s, result, argument) if isinstance(s, Loop) else s for s in loop.body]
        for at, store in enumerate(body):
            rest = body[at + 1 :]
            if (
                isinstance(store, Store)
                and store.buffer is result
                and any(argument in self._dependence.touched(later) for later in rest)
                and all(self._dependence.are_independent(store, later) for later in rest)
            ):
                body = [*body[:at], *rest, store]
                break
        return replace(loop, body=tuple(body))


def _may_overwrite(loop: Loop, result: Buffer, old: Buffer, dependence: Dependence) -> bool:
    """Tell whether each element of a result is written once, and that of what it replaces is not read after it."""
    statements = list(_inside(loop))
    found = [at for at, (_, s) in enumerate(statements) if result in dependence.written(s)]
    path, store = statements[found[0]]
    if len(found) > 1 or not isinstance(store, Store) or not _differs_each_time(store.indices, path):
        return False
    element = Load(old, store.indices)
    for at, (_, statement) in enumerate(statements):
        parts = loops.parts(statement)
        mentions = sum(isinstance(part, Buffer) and dependence.memory(part) is old for part in parts)
        same = sum(isinstance(part, Load) and part == element for part in parts)
        if mentions and (at > found[0] or same < mentions):
            return False
    return True


def _may_fail(statement: Statement) -> bool:
    """Tell whether a statement may find something wrong, or ask for memory from the heap."""
    if any(map(loops.can_fail, loops.parts(statement))):
        return True
    if isinstance(statement, Loop):
        return bool(shared_targets(statement)) or _is_large(allocated(statement))
    return isinstance(statement, Allocate) and _is_large([(statement.buffer, 1)])


def _is_large(scratch: Sequence[tuple[Buffer, int]]) -> bool:
    """Tell whether there may be no room on the stack for scratch, given with how many times each is needed."""
    room = sum((times * bytes_of([buffer]) for buffer, times in scratch), start=0)
    return not isinstance(room, int) or room > ON_STACK


def _inside(loop: Loop, path: tuple[Loop, ...] = ()) -> Iterator[tuple[tuple[Loop, ...], Statement]]:
    """Iterate over the statements of a loop that are no loops, each with the loops around it."""
    path = (*path, loop)
    for statement in loop.body:
        if isinstance(statement, Loop):
            yield from _inside(statement, path)
        else:
            yield path, statement


def _differs_each_time(indices: Sequence[loops.Subscript], path: Sequence[Loop]) -> bool:
    """Tell whether no two iterations of the loops around have the same indices."""
    if not all(isinstance(index, Affine) and index.divisor == 1 for index in indices):
        return False
    axes = {index.axis for index in indices if isinstance(index, Affine) and index.axis is not None}
    return {loop.axis for loop in path} <= axes | {axis.block for axis in axes}
