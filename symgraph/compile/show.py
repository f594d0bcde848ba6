"""A loop program for people: formulas instead of one operation a line.

A scalar that one statement of the same loop body uses is written where it is used. ``str(program)`` shows every
statement by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from symgraph.compile import loops
from symgraph.compile.loops import Buffer, Let, Loop, Name, Program, Statement, buffers_of, walk, written

WIDTH = 60
"""A longer formula keeps its name."""


def show(program: Program) -> str:
    """Return a program as text."""
    mentions = Counter(name for statement in walk(program.body) for name in loops.mentioned(statement))
    mentions.update(r.name for r in program.results if isinstance(r, Name))
    single = {name for name, count in mentions.items() if count == 1}
    single -= {r.name for r in program.results if isinstance(r, Name)}
    head, *_ = str(replace(program, body=())).splitlines()
    return "\n".join([head, *_lines(program.body, single, 1), ""])


def _lines(body: Sequence[Statement], single: set[str], depth: int) -> list[str]:
    inlined = _inlined(body, single)
    formulas: dict[str, _Formula] = {}
    found: list[str] = []
    for statement in body:
        if isinstance(statement, Loop):
            found.append("  " * depth + f"{statement.head()}:")
            found += _lines(statement.body, single, depth + 1)
            continue
        if isinstance(statement, Let):
            text = _formula(statement, formulas)
            if statement.name in inlined and len(text.text) <= WIDTH:
                formulas[statement.name] = text
            else:
                found.append("  " * depth + f"{statement.name} = {text.text}")
            continue
        found.append("  " * depth + str(_put_in(statement, formulas)))
    return found


def _inlined(body: Sequence[Statement], single: set[str]) -> set[str]:
    """Return the scalars that one later statement of the same body uses, while what they read is still the same."""
    users = {name: k for k, s in enumerate(body) if not isinstance(s, Loop) for name in loops.mentioned(s)}
    found: set[str] = set()
    last: dict[Buffer, int] = {}
    for k in range(len(body) - 1, -1, -1):
        statement = body[k]
        if isinstance(statement, Let) and statement.name in single and statement.name in users:
            # A formula is put in where its user stands, which may itself be put in further down.
            user = users[statement.name]
            if all(last.get(buffer, len(body)) >= user for buffer in buffers_of(statement)):
                found.add(statement.name)
                users |= dict.fromkeys(loops.mentioned(statement), user)
        for one in walk([statement]):
            last |= dict.fromkeys(written(one), k)
    return found


_BINDS = {"add": 1, "subtract": 1, "multiply": 2, "divide": 2, "negative": 3}
"""How tightly an operation binds; one that is not here stands in brackets, and needs its operands in brackets."""

_WHOLE = 4


class _Formula(loops.Name):
    """A formula in the place of the scalar that it defines."""

    text: str
    binds: int

    def __str__(self) -> str:
        return self.text if self.binds == _WHOLE else f"({self.text})"


def _formula(let: Let, formulas: Mapping[str, _Formula]) -> _Formula:
    operands = _put_in(let.operands, formulas)
    if let.template is None:
        shown = [_bare(operand) for operand in operands] + [str(a) for a in let.attributes]
        text, binds = f"{let.operation}({', '.join(shown)})", _WHOLE
    elif let.template == "{0}" and isinstance(operands[0], _Formula):
        text, binds = operands[0].text, operands[0].binds
    else:
        binds = _BINDS.get(let.operation, 0)
        needed = [binds, binds + 1]
        shown = [
            operand.text if isinstance(operand, _Formula) and 0 < least <= operand.binds else str(operand)
            for operand, least in zip(operands, needed if binds else [0] * len(operands), strict=False)
        ]
        text = let.template.format(*shown)
        if let.template == "{0}":
            binds = 0 if isinstance(operands[0], loops.IndexValue) else _WHOLE
    formula = _Formula(let.name, let.dtype)
    object.__setattr__(formula, "text", text)
    object.__setattr__(formula, "binds", binds)
    return formula


def _bare(operand: Any) -> str:
    return operand.text if isinstance(operand, _Formula) else str(operand)


def _put_in(value: Any, formulas: Mapping[str, _Formula]) -> Any:
    match value:
        case Name(name=name):
            return formulas.get(name, value)
        case tuple():
            return tuple(_put_in(part, formulas) for part in value)
        case Let(operands=operands):
            return replace(value, operands=_put_in(operands, formulas))
        case loops.Store(indices=indices, operand=operand):
            return replace(value, indices=_put_in(indices, formulas), operand=_stripped(_put_in(operand, formulas)))
        case loops.Accumulate(target=target, operand=operand):
            return replace(value, target=_put_in(target, formulas), operand=_stripped(_put_in(operand, formulas)))
        case loops.Load(indices=indices):
            return replace(value, indices=_put_in(indices, formulas))
        case loops.Wrapped(value=name):
            return replace(value, value=_put_in(name, formulas))
        case loops.Guarded(operand=operand, otherwise=otherwise):
            return replace(value, operand=_put_in(operand, formulas), otherwise=_put_in(otherwise, formulas))
    return value


def _stripped(operand: Any) -> Any:
    """Return a formula without the brackets that a whole right side does not need."""
    if isinstance(operand, _Formula):
        object.__setattr__(operand, "binds", _WHOLE)
    return operand
