"""Tidying: what is computed twice in an iteration is computed once, and what nobody uses is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from symgraph.compile import loops
from symgraph.compile.loops import (
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
)


def tidy(program: Program) -> Program:
    """Return the program without repetitions and without scalars that are not used."""
    merger = _Merger(fixed_names(program))
    merged = replace(program, body=tuple(merger.body(program.body, {})))
    return replace(merged, body=_used(merged))


class _Merger:
    def __init__(self, kept: set[str]) -> None:
        self.kept = kept
        self.same: dict[str, Operand] = {}

    def body(self, body: Sequence[Statement], around: dict[object, Name]) -> list[Statement]:
        """Return statements without scalars that are computed already, here or in a loop around."""
        made = dict(around)
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
            key = _key(changed)
            if key is None or key not in made:
                if key is not None:
                    made[key] = Name(changed.name, changed.dtype)
                found.append(changed)
            else:
                self.same[changed.name] = made[key]
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
    if isinstance(operand, Load):
        return operand.buffer.role == "argument" and all(isinstance(i, loops.Affine) for i in operand.indices)
    return isinstance(operand, Literal)


def _key(let: Let) -> object:
    """Return what two statements have in common that compute the same; None where they may not."""
    parts = [_identity(operand) for operand in let.operands]
    if let.function is not None or any(part is None for part in parts):
        return None
    return let.operation, let.dtype, let.attributes, tuple(parts)


def _identity(operand: Operand) -> object:
    match operand:
        case Literal(value=value, dtype=dtype):
            return "literal", dtype, dtype.type(value).tobytes()
        case loops.Guarded(conditions=conditions, operand=inner, otherwise=otherwise):
            parts = _identity(inner), _identity(otherwise)
            return None if None in parts else (conditions, parts)
        case Load():
            return operand if _never_changes(operand) else None
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
