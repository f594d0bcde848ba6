"""The loop language: what a schedule becomes, what storage is planned for, and what is emitted.

A program is a list of statements over typed scalars and buffers, which knows neither graphs nor source code.
`show.show` prints it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from operator import is_
from typing import Any, TypeAlias

import numpy as np

from symgraph.dims import Size, product
from symgraph.errors import Location

DType: TypeAlias = "np.dtype[np.generic]"

Band: TypeAlias = "tuple[int | None, int | None]"
"""The least and the greatest column less row of elements that count in a matrix; None where there is no limit."""


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of an axis that are worked on together; as a loop index, the first of them.

    It runs over 0, rows, 2 * rows ... below the size; the last block may have fewer rows.
    """

    name: str
    size: Size
    rows: int


@dataclass(frozen=True, eq=False)
class Axis:
    """A loop index, running from its start to its size; within a block, over the rows of the block.

    Attributes:
        name: Unique in the program.
        size: Where it stops.
        block: The block whose rows it runs over; the index itself still counts from the beginning of the axis.
        start: Where it begins when it has no block.
    """

    name: str
    size: Size
    block: Block | None = None
    start: Size = 0


@dataclass(frozen=True, eq=False)
class Buffer:
    """An array: an argument, a result, or scratch.

    Attributes:
        name: Unique in the program.
        dtype: The type of its elements.
        shape: Its sizes.
        role: ``"argument"``, ``"result"`` or ``"scratch"``.
    """

    name: str
    dtype: DType
    shape: tuple[Size, ...]
    role: str


@dataclass(frozen=True)
class Affine:
    """The index ``(step * axis + offset) // divisor``; a plain offset where there is no axis.

    With a block it is the place within the block: the index less the block's first row.
    """

    axis: Axis | None
    step: int = 1
    offset: Size = 0
    divisor: int = 1
    block: Block | None = None


@dataclass(frozen=True)
class Name:
    """A scalar computed before."""

    name: str
    dtype: DType


@dataclass(frozen=True)
class Wrapped:
    """An index read from data: negative ones count from the end, others are checked."""

    value: Name
    size: Size
    site: int = field(default=-1, compare=False)


Subscript: TypeAlias = "Affine | Wrapped | Name"


@dataclass(frozen=True)
class Load:
    """One element of a buffer."""

    buffer: Buffer
    indices: tuple[Subscript, ...]

    @property
    def dtype(self) -> DType:
        """The type of the element."""
        return self.buffer.dtype


@dataclass(frozen=True)
class Scalar:
    """A scalar argument."""

    name: str
    dtype: DType


@dataclass(frozen=True)
class Literal:
    """A number."""

    value: Any
    dtype: DType


@dataclass(frozen=True)
class IndexValue:
    """A loop index (or a size) as a number."""

    index: Affine
    dtype: DType


@dataclass(frozen=True)
class Guarded:
    """An element where an index lies within bounds and on the stride, zero elsewhere."""

    conditions: tuple[Bound, ...]
    operand: Operand
    otherwise: Operand

    @property
    def dtype(self) -> DType:
        """The type of the element."""
        return self.operand.dtype


@dataclass(frozen=True)
class Bound:
    """``0 <= index < size``, and the index divides by the stride when that is not 1."""

    index: Affine
    size: Size
    stride: int = 1


Operand: TypeAlias = "Name | Load | Scalar | Literal | IndexValue | Guarded"


@dataclass(frozen=True)
class Let:
    """``name = operation(operands)``, one scalar."""

    name: str
    dtype: DType
    operation: str
    template: str | None
    operands: tuple[Operand, ...]
    attributes: tuple[Any, ...] = ()
    function: Any = None
    site: int = field(default=-1, compare=False)


@dataclass(frozen=True)
class Store:
    """``buffer[indices] = operand``."""

    buffer: Buffer
    indices: tuple[Subscript, ...]
    operand: Operand


@dataclass(frozen=True)
class Start:
    """Begin an accumulation in a scalar: ``name = identity``."""

    name: str
    dtype: DType
    how: str


@dataclass(frozen=True)
class Accumulate:
    """Combine an operand into a scalar or an element: ``target += operand`` and the like."""

    target: Name | Load
    how: str
    operand: Operand


@dataclass(frozen=True)
class Fill:
    """Set every element of a buffer to the identity of an accumulation, or to those of another buffer."""

    buffer: Buffer
    how: str
    source: Buffer | Literal | None = None


@dataclass(frozen=True)
class Call:
    """A library call on whole buffers: ``result = function(operands)``."""

    function: str
    result: Buffer
    operands: tuple[Operand | Buffer | Transposed, ...]
    attributes: tuple[Any, ...] = ()
    user: Any = None
    site: int = field(default=-1, compare=False)


@dataclass(frozen=True)
class Transposed:
    """A matrix in a buffer, read with its axes exchanged."""

    buffer: Buffer


@dataclass(frozen=True)
class View:
    """``result`` is the same memory as ``source``, with another shape."""

    result: Buffer
    source: Buffer


@dataclass(frozen=True)
class Allocate:
    """Scratch begins to exist: once for the program, or for each iteration (and thread) of the loop it stands in."""

    buffer: Buffer


@dataclass(frozen=True)
class Free:
    """Scratch is not used any more."""

    buffer: Buffer


@dataclass(frozen=True)
class Panel:
    """A matrix or vector in a product, as an operand or the result: a buffer, or the rows of a block of it.

    Attributes:
        buffer: An array of two axes, or of one.
        block: The rows meant, along the buffer's axis `along`; all where None.
        along: Which axis of the buffer is the block's.
        local: Whether the buffer holds one block only, from its place 0 on.
        transposed: Whether the matrix is the transpose of what the buffer holds.
    """

    buffer: Buffer
    block: Block | None = None
    along: int = 0
    local: bool = False
    transposed: bool = False


@dataclass(frozen=True)
class Multiply:
    """A product of matrices, or of a block's rows with a vector: ``result = left @ right``, or ``+=``.

    Attributes:
        symmetric: Whether left is the transpose of right, so that half of the result is computed and mirrored.
    """

    result: Panel
    left: Panel
    right: Panel
    accumulate: bool = False
    symmetric: bool = False

    @property
    def is_of_vector(self) -> bool:
        """Whether the right factor is a vector, which is multiplied without BLAS."""
        return len(self.right.buffer.shape) == 1


@dataclass(frozen=True)
class Section:
    """All elements along the last axes of a buffer, at indices along the axes before: ``b3[i1]``.

    Attributes:
        buffer: The buffer.
        indices: Those along the axes before.
        transposed: Whether the matrix is read with its axes exchanged.
        band: Which elements count, as the matrix is read. The others of an operand are zero, and those of a result are
            not needed.
    """

    buffer: Buffer
    indices: tuple[Affine, ...] = ()
    transposed: bool = False
    band: Band = (None, None)

    @property
    def shape(self) -> tuple[Size, ...]:
        """The sizes of the matrix or vector as it is read."""
        shape = self.buffer.shape[len(self.indices) :]
        return shape[::-1] if self.transposed else shape


@dataclass(frozen=True)
class MatrixVector:
    """A matrix times a vector of this iteration: ``result = matrix @ vector``, or ``result += matrix @ vector``.

    It stands in a loop in lanes, where the matrix is the same for all lanes, and each has vectors of its own.
    """

    result: Section
    matrix: Section
    vector: Section
    accumulate: bool = False


@dataclass(frozen=True)
class Outer:
    """Add the products of two vectors of this iteration, each of one with each of the other, to a matrix.

    It stands in a loop in lanes, each of which has vectors of its own; all add to the same matrix.
    """

    result: Section
    left: Section
    right: Section


@dataclass(frozen=True)
class Loop:
    """Run a body once for each value of an axis, or once for each block of rows.

    Attributes:
        axis: The loop index.
        body: The statements.
        lanes: Whether iterations are the lanes of vectors. Nothing inside has lanes of its own, nor blocks.
    """

    axis: Axis | Block
    body: tuple[Statement, ...]
    lanes: bool = False


Statement: TypeAlias = (
    "Let | Store | Start | Accumulate | Fill | Call | View | Allocate | Free | Multiply | MatrixVector | Outer | Loop"
)


@dataclass(frozen=True)
class Origin:
    """What can fail at a call, as its error names it: an operation with its shapes, and the user's line."""

    subject: str
    location: Location | None


@dataclass(frozen=True)
class Program:
    """A loop program.

    Attributes:
        name: What the function is called.
        arguments: Buffers and scalars, in the order in which they are given.
        sizes: The names of symbolic sizes, in the order in which they are given after the arguments.
        constants: The values of argument buffers that belong to the program.
        body: The statements.
        results: What is handed back, in order; an argument among them is updated in place.
        user_functions: What the user wrote in Python, in the order in which it is called.
        origins: What can fail; a `site` is a place among them.
    """

    name: str
    arguments: tuple[Buffer | Scalar, ...]
    sizes: tuple[str, ...]
    constants: tuple[tuple[Buffer, np.ndarray[Any, Any]], ...]
    body: tuple[Statement, ...]
    results: tuple[Buffer | Operand, ...]
    user_functions: tuple[Any, ...] = ()
    origins: tuple[Origin, ...] = field(default=(), compare=False)

    def buffers(self) -> Iterator[Buffer]:
        """Iterate over scratch and result buffers in the order of their first use."""
        seen: set[int] = set()
        for statement in walk(self.body):
            for buffer in written(statement):
                if buffer.role != "argument" and id(buffer) not in seen:
                    seen.add(id(buffer))
                    yield buffer


def walk(body: Sequence[Statement]) -> Iterator[Statement]:
    """Iterate over all statements, those inside loops included, in program order."""
    stack: list[Statement] = list(reversed(body))
    while stack:
        statement = stack.pop()
        yield statement
        if isinstance(statement, Loop):
            stack.extend(reversed(statement.body))


def buffers_of(statement: Statement) -> Iterator[Buffer]:
    """Iterate over the buffers that a statement reads or writes, those inside a loop included."""
    for one in walk([statement]):
        match one:
            case Let(operands=operands):
                yield from _loaded(operands)
            case Store(buffer=buffer, operand=operand):
                yield buffer
                yield from _loaded((operand,))
            case Accumulate(target=target, operand=operand):
                yield from _loaded((target, operand))
            case Fill(buffer=buffer, source=source):
                yield buffer
                if isinstance(source, Buffer):
                    yield source
            case Call(result=result, operands=given):
                yield result
                for whole in given:
                    match whole:
                        case Buffer():
                            yield whole
                        case Transposed(buffer=buffer):
                            yield buffer
                        case _:
                            yield from _loaded((whole,))
            case View(result=result, source=source):
                yield result
                yield source
            case Multiply(result=result, left=left, right=right):
                yield from (result.buffer, left.buffer, right.buffer)
            case MatrixVector(result=result, matrix=left, vector=right) | Outer(result=result, left=left, right=right):
                yield from (result.buffer, left.buffer, right.buffer)


def _loaded(operands: Sequence[Operand]) -> Iterator[Buffer]:
    pending = list(operands)
    while pending:
        match pending.pop():
            case Load(buffer=buffer):
                yield buffer
            case Guarded(operand=operand, otherwise=otherwise):
                pending += [operand, otherwise]


def operand_dtype(call: Call) -> DType:
    """Return the type of the elements that a library call works on."""
    first = call.operands[0]
    return first.buffer.dtype if isinstance(first, Transposed) else first.dtype


def parts(value: Any) -> list[Any]:
    """Return everything that a statement is made of, itself first: statements, operands, buffers, axes and sizes."""
    found: list[Any] = []
    stack = [value]
    while stack:
        part = stack.pop()
        kind = type(part)
        if kind is tuple:
            stack.extend(part)
            continue
        if kind not in _PLAIN:
            found.append(part)
            stack.extend([getattr(part, name) for name in _fields_of(kind)])
    return found


def can_fail(part: Any) -> bool:
    """Tell whether a part of a statement may find something wrong at a call, and then has a site."""
    match part:
        case Call() | Wrapped():
            return True
        case Let(operation="power", dtype=dtype):
            return dtype.kind in "iu"
    return False


def _fields_of(kind: type) -> tuple[str, ...]:
    if kind not in _FIELDS:
        _FIELDS[kind] = tuple(f.name for f in fields(kind)) if is_dataclass(kind) else ()
    return _FIELDS[kind]


_FIELDS: dict[type, tuple[str, ...]] = {}
_PLAIN = frozenset({str, int, bool, float, type(None)})


def substituted(value: Any, change: Mapping[object, Any]) -> Any:
    """Return a statement with axes, buffers and names changed; the same one where nothing is.

    Where a buffer becomes a section of another one, its elements and sections become those of that section.
    """
    kind = type(value)
    if kind is Axis or kind is Buffer:
        return change.get(value, value)
    if kind is tuple:
        inside = tuple([substituted(part, change) for part in value])
        return value if all(map(is_, inside, value)) else inside
    if kind is Block or kind in _PLAIN:
        return value
    old = {name: getattr(value, name) for name in _fields_of(kind)}
    new = {name: substituted(part, change) for name, part in old.items()}
    if isinstance(value, Name | Let | Start):
        new["name"] = change.get(value.name, value.name)
    if isinstance(value, Load | Store | Section) and isinstance(home := new["buffer"], Section):
        new |= {"buffer": home.buffer, "indices": (*home.indices, *new["indices"])}
    return value if all(map(is_, old.values(), new.values())) else kind(**new)


def mentioned(value: Any) -> list[str]:
    """Return the scalars that a statement itself reads or combines into; not those inside a loop."""
    return [] if isinstance(value, Loop) else [part.name for part in parts(value) if isinstance(part, Name)]


def fixed_names(program: Program) -> set[str]:
    """Return the scalars that only a name can stand for: results, and indices that are data."""
    found = {result.name for result in program.results if isinstance(result, Name)}
    loads = [part for part in parts(program.body) if isinstance(part, Load | Store)]
    return found.union(*[mentioned(load.indices) for load in loads])


def written(statement: Statement) -> list[Buffer]:
    """Return the buffers that a statement itself writes."""
    match statement:
        case Store(buffer=buffer) | Fill(buffer=buffer) | Accumulate(target=Load(buffer=buffer)):
            return [buffer]
        case Call(result=buffer) | View(result=buffer) | Multiply(result=Panel(buffer=buffer)):
            return [buffer]
        case MatrixVector(result=Section(buffer=buffer)) | Outer(result=Section(buffer=buffer)):
            return [buffer]
    return []


def identity(how: str, dtype: DType) -> Any:
    """Return the number that an accumulation begins with."""
    if how in ("max", "min") and dtype.kind in "iu":
        limits = np.iinfo(dtype.type)  # type: ignore[type-var]
        return limits.min if how == "max" else limits.max
    if how in ("max", "min"):
        least, greatest = (False, True) if dtype.kind == "b" else (-np.inf, np.inf)
        return least if how == "max" else greatest
    return {"sum": 0, "prod": 1, "any": False, "all": True, "set": 0}[how]


def bytes_of(values: Iterable[Buffer | Operand]) -> Size:
    """Return how much room arrays and numbers take together."""
    total: Size = 0
    for value in values:
        total = total + value.dtype.itemsize * product(getattr(value, "shape", ()))
    return total
