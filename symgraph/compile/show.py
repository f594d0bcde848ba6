"""A loop program as text: every statement by itself, or with formulas for people.

In a formula a scalar that one statement of the same loop body uses is written where it is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from symgraph.compile import loops
from symgraph.compile.loops import Buffer, Let, Loop, Name, Operand, Program, Statement, Transposed, walk
from symgraph.compile.notation import bound_text, index_text, section_text, shape_text

WIDTH = 60
"""A longer formula keeps its name."""

_BINDS = {"add": 1, "subtract": 1, "multiply": 2, "divide": 2, "negative": 3}
"""How tightly an operation binds; one that is not here stands in brackets, and needs its operands in brackets."""

_WHOLE = 4

_IDENTITY = {
    "sum": "0", "prod": "1", "max": "-inf", "min": "inf", "any": "False", "all": "True", "set": "0",
}  # fmt: skip
_SYMBOL = {"sum": "+=", "prod": "*=", "max": "max=", "min": "min=", "any": "|=", "all": "&=", "set": "="}


def show(program: Program) -> str:
    """Return a program as formulas."""
    mentions = Counter(name for statement in walk(program.body) for name in loops.mentioned(statement))
    results = {r.name for r in program.results if isinstance(r, Name)}
    return _text(program, {name for name, count in mentions.items() if count == 1} - results)


def listing(program: Program) -> str:
    """Return a program statement by statement: all that distinguishes its loops from those of others."""
    return _text(program, frozenset())


def _text(program: Program, single: AbstractSet[str]) -> str:
    takes, gives = signature(program)
    head = f"{program.name}({', '.join(takes)}) -> {', '.join(gives)}"
    return "\n".join([head, *_lines(program.body, single, 1), ""])


def signature(program: Program) -> tuple[list[str], list[str]]:
    """Return what a program takes and what it gives."""

    def named(value: Buffer | Operand) -> str:
        return f"{value.name}{shape_text(value.shape)}" if isinstance(value, Buffer) else _Printer().operand(value)

    return [named(each) for each in program.arguments], [named(each) for each in program.results]


def _lines(body: Sequence[Statement], single: AbstractSet[str], depth: int) -> list[str]:
    """Return the lines of statements, of which scalars with a single use may be written there."""
    inlined = _inlined(body, single) if single else frozenset()
    printer, indent = _Printer(), "  " * depth
    found: list[str] = []
    for statement in body:
        if isinstance(statement, Loop):
            found.append(f"{indent}{_head(statement)}:")
            found += _lines(statement.body, single, depth + 1)
        elif isinstance(statement, Let):
            formula = printer.formula(statement)
            if statement.name in inlined and len(formula.text) <= WIDTH:
                printer.formulas[statement.name] = formula
            else:
                found.append(f"{indent}{statement.name} = {formula.text}")
        else:
            found.append(f"{indent}{printer.statement(statement)}")
    return found


def _inlined(body: Sequence[Statement], single: AbstractSet[str]) -> set[str]:
    """Return the scalars that one later statement of the same body uses, while what they read is still the same."""
    users = {name: k for k, s in enumerate(body) if not isinstance(s, Loop) for name in loops.mentioned(s)}
    found: set[str] = set()
    last: dict[Buffer, int] = {}
    for k in range(len(body) - 1, -1, -1):
        statement = body[k]
        if isinstance(statement, Let) and statement.name in single and statement.name in users:
            # A formula is put in where its user stands, which may itself be put in further down.
            user = users[statement.name]
            if all(last.get(buffer, len(body)) >= user for buffer in loops.buffers_of(statement)):
                found.add(statement.name)
                users |= dict.fromkeys(loops.mentioned(statement), user)
        for one in walk([statement]):
            last |= dict.fromkeys(loops.written(one), k)
    return found


def _head(loop: Loop) -> str:
    """Return the line that begins a loop."""
    axis = loop.axis
    if isinstance(axis, loops.Block):
        return f"for rows from {axis.name} of {axis.size}, {axis.rows} at a time"
    head = f"for {axis.name} in rows" if axis.block is not None else f"for {axis.name} < {axis.size}"
    if axis.start != 0:
        head = f"for {axis.start} <= {axis.name} < {axis.size}"
    return f"{head}, in lanes" if loop.lanes else head


class _Formula(NamedTuple):
    """The right side of a scalar's definition, and how tightly it binds."""

    text: str
    binds: int


class _Printer:
    """Writes statements and operands.

    Attributes:
        formulas: What is written in the place of some scalars.
    """

    def __init__(self) -> None:
        self.formulas: dict[str, _Formula] = {}

    def formula(self, let: Let) -> _Formula:
        """Return the right side of a scalar statement."""
        operands = let.operands
        if let.template is None:
            return _Formula(f"{let.operation}({self._listed(operands, let.attributes)})", _WHOLE)
        if let.template == "{0}":
            (copied,) = operands
            if isinstance(copied, Name) and copied.name in self.formulas:
                return self.formulas[copied.name]
            return _Formula(self.operand(copied), 0 if isinstance(copied, loops.IndexValue) else _WHOLE)
        binds = _BINDS.get(let.operation, 0)
        needed = (binds, binds + 1) if binds else (_WHOLE,) * len(operands)
        shown = [self.operand(operand, least) for operand, least in zip(operands, needed, strict=False)]
        return _Formula(let.template.format(*shown), binds)

    def _listed(self, operands: Iterable[Operand | Buffer | Transposed], attributes: Iterable[object]) -> str:
        return ", ".join([*(self._whole(operand) for operand in operands), *map(str, attributes)])

    def _whole(self, operand: Operand | Buffer | Transposed) -> str:
        match operand:
            case Buffer(name=name):
                return name
            case Transposed(buffer=buffer):
                return f"{buffer.name}.T"
        return self.operand(operand, 0)

    def statement(self, statement: Statement) -> str:
        """Return a statement that defines no scalar and is no loop."""
        match statement:
            case loops.Store(buffer=buffer, indices=indices, operand=operand):
                return f"{self._element(buffer, indices)} = {self.operand(operand, 0)}"
            case loops.Accumulate(target=target, how=how, operand=operand):
                return f"{self.operand(target)} {_SYMBOL[how]} {self.operand(operand, 0)}"
            case loops.Start(name=name, how=how):
                return f"{name} = {_IDENTITY[how]}"
            case loops.Fill(buffer=buffer, how=how, source=source):
                return f"{buffer.name}[...] = {_IDENTITY[how] if source is None else self._whole(source)}"
            case loops.Call(function=function, result=result, operands=operands, attributes=attributes):
                return f"{result.name} = {function}({self._listed(operands, attributes)})"
            case loops.View(result=result, source=source):
                return f"{result.name} = {source.name} as {shape_text(result.shape)}"
            case loops.Allocate(buffer=buffer):
                return f"{buffer.name}{shape_text(buffer.shape)} = scratch"
            case loops.Free(buffer=buffer):
                return f"free {buffer.name}"
            case loops.Multiply(result=result, left=left, right=right, accumulate=more):
                return f"{_panel(result)} {'+=' if more else '='} {_panel(left)} @ {_panel(right)}"
            case loops.MatrixVector(result=result, matrix=matrix, vector=vector, accumulate=more):
                return f"{_section(result)} {'+=' if more else '='} {_section(matrix)} @ {_section(vector)}"
            case loops.Outer(result=result, left=left, right=right):
                return f"{_section(result)} += outer({_section(left)}, {_section(right)})"
        raise TypeError(f"no statement: {statement!r}")

    def operand(self, operand: Operand, least: int = _WHOLE) -> str:
        """Return an operand; a formula that binds less tightly than needed stands in brackets."""
        match operand:
            case Name(name=name):
                formula = self.formulas.get(name)
                if formula is None:
                    return name
                return formula.text if formula.binds >= least else f"({formula.text})"
            case loops.Load(buffer=buffer, indices=indices):
                return self._element(buffer, indices)
            case loops.Literal(value=value, dtype=dtype):
                return f"{value:g}" if dtype.kind == "f" else str(value)
            case loops.IndexValue(index=index):
                return index_text(index)
            case loops.Guarded(conditions=conditions, operand=inner, otherwise=otherwise):
                tests = " and ".join(map(bound_text, conditions))
                return f"({self.operand(inner)} if {tests} else {self.operand(otherwise)})"
        return operand.name

    def _element(self, buffer: Buffer, indices: Sequence[loops.Subscript]) -> str:
        return f"{buffer.name}[{', '.join(map(self._subscript, indices)) or '()'}]"

    def _subscript(self, index: loops.Subscript) -> str:
        match index:
            case loops.Affine():
                return index_text(index)
            case loops.Wrapped(value=value):
                return self.operand(value)
        return self.operand(index)


def _panel(panel: loops.Panel) -> str:
    where = "" if panel.block is None or panel.local else "[:, rows]" if panel.along else "[rows]"
    return f"{panel.buffer.name}{where}{'.T' if panel.transposed else ''}"


def _section(section: loops.Section) -> str:
    text = section_text(section)
    for function, limit in zip(("triu", "tril"), section.band, strict=True):
        if limit is not None:
            text = f"{function}({text})" if limit == 0 else f"{function}({text}, {limit})"
    return text
