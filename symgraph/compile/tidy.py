"""Tidying: what is computed twice in an iteration is computed once, and what nobody uses is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Any

from symgraph.compile import loops
from symgraph.compile.lifetimes import shared_memory
from symgraph.compile.loops import (
    Buffer,
    Let,
    Literal,
    Load,
    Loop,
    Name,
    Operand,
    Program,
    Statement,
    fixed_names,
    mentioned,
    walk,
    written,
)


def tidy(program: Program) -> Program:
    """Return the program without repetitions and without scalars that are not used."""
    memory = shared_memory(program)
    merger = _Merger(fixed_names(program), {*memory, *memory.values()})
    merged = replace(program, body=tuple(merger.body(program.body, {})))
    return replace(merged, body=_used(merged))


class _Merger:
    def __init__(self, kept: set[str], views: set[Buffer]) -> None:
        self.kept = kept
        self.views = views
        self.same: dict[str, Operand] = {}

    def body(self, body: Sequence[Statement], around: dict[object, Name]) -> list[Statement]:
        """Return statements without scalars that are computed already, here or in a loop around."""
        made = dict(around)
        here: dict[object, Name] = {}  # what also reads buffers that do not change here, but may elsewhere
        changing = self.views | {buffer for s in walk(body) for buffer in written(s)}
        found: list[Statement] = []
        for statement in body:
            if isinstance(statement, Loop):
                found.append(replace(statement, body=tuple(self.body(statement.body, made))))
                continue
            changed = self._put_in(statement)
            if not isinstance(changed, Let) or changed.name in self.kept:
                found.append(changed)
                continue
            if changed.operation == "copy" and _never_changes(changed.operands[0]):
                self.same[changed.name] = changed.operands[0]
                continue
            key, known = _key(changed, None), made
            if key is None:
                key, known = _key(changed, changing), here
            if key in known:
                self.same[changed.name] = known[key]
                continue
            if key is not None:
                known[key] = Name(changed.name, changed.dtype)
            found.append(changed)
        return found

    def _put_in(self, value: Any) -> Any:
        """Return a statement with the names that were found to be something else replaced."""
        if isinstance(value, Name):
            return self.same.get(value.name, value)
        if isinstance(value, tuple):
            return tuple(self._put_in(part) for part in value)
        match value:
            case Let(operands=operands):
                return replace(value, operands=self._put_in(operands))
            case loops.Store(operand=operand) | loops.Accumulate(operand=operand):
                return replace(value, operand=self._put_in(operand))
            case loops.Call(operands=operands):
                return replace(value, operands=self._put_in(operands))
            case loops.Guarded(operand=operand, otherwise=otherwise):
                return replace(value, operand=self._put_in(operand), otherwise=self._put_in(otherwise))
        return value


def _never_changes(operand: Operand) -> bool:
    """Tell whether an operand can be read later just as well; an index that is data is checked where it stands."""
    return isinstance(operand, Literal) or (isinstance(operand, Load) and _is_fixed(operand, None))


def _is_fixed(load: Load, changing: Set[Buffer] | None) -> bool:
    """Tell whether an element is of an argument, or of any buffer but those that change, where they are known."""
    stays = load.buffer.role == "argument" if changing is None else load.buffer not in changing
    return stays and all(isinstance(i, loops.Affine) for i in load.indices)


def _key(let: Let, changing: Set[Buffer] | None) -> object:
    """Return what two statements have in common that compute the same; None where they may not."""
    parts = [_identity(operand, changing) for operand in let.operands]
    if let.function is not None or any(part is None for part in parts):
        return None
    return let.operation, let.dtype, let.attributes, tuple(parts)


def _identity(operand: Operand, changing: Set[Buffer] | None) -> object:
    match operand:
        case Literal(value=value, dtype=dtype):
            return "literal", dtype, dtype.type(value).tobytes()
        case loops.Guarded(conditions=conditions, operand=inner, otherwise=otherwise):
            parts = _identity(inner, changing), _identity(otherwise, changing)
            return None if None in parts else (conditions, parts)
        case Load():
            return operand if _is_fixed(operand, changing) else None
    return operand


def _used(program: Program) -> tuple[Statement, ...]:
    """Return the statements without those whose names nobody mentions."""
    mentions = Counter(name for statement in walk(program.body) for name in mentioned(statement))
    mentions.update(r.name for r in program.results if isinstance(r, Name))
    unused: set[str] = set()
    lets = {s.name: s for s in walk(program.body) if isinstance(s, Let)}
    pending = [name for name in lets if not mentions[name]]
    while pending:
        name = pending.pop()
        unused.add(name)
        for other in mentioned(lets[name]):
            mentions[other] -= 1
            if not mentions[other] and other in lets:
                pending.append(other)
    return _without(program.body, unused)


def _without(body: Sequence[Statement], unused: set[str]) -> tuple[Statement, ...]:
    found: list[Statement] = []
    for statement in body:
        if isinstance(statement, Loop):
            inner = _without(statement.body, unused)
            found += [replace(statement, body=inner)] if inner else []
        elif not (isinstance(statement, Let) and statement.name in unused):
            found.append(statement)
    return tuple(found)
