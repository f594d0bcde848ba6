"""Long straight-line code, cut into functions of moderate size.

LLVM's time for one function grows faster than its length, so thousands of scalar statements in a row are written as
functions of a few hundred. What one of them computes and another needs stands in a row of cells in memory between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from symgraph.compile import loops
from symgraph.compile.kernels.instructions import llvm_type
from symgraph.compile.kernels.lanes import keep_calls
from symgraph.compile.loops import Let, Statement
from symgraph.compile.machine import memory
from symgraph.compile.machine.frame import Frame, mentioned, new_function, writer_inside
from symgraph.compile.machine.threads import POINTER
from symgraph.compile.machine.vectors import long
from symgraph.compile.machine.writer import Writer

LENGTH = 256
"""How many statements a function has."""

_PIECE = ir.FunctionType(ir.VoidType(), [POINTER])


@dataclass(frozen=True)
class Stretch:
    """Scalar statements without loops, long enough to be cut."""

    pieces: tuple[tuple[Statement, ...], ...]


def stretches(body: Sequence[Statement]) -> list[Statement | Stretch]:
    """Return the statements with long runs of scalar ones cut into pieces."""
    found: list[Statement | Stretch] = []
    run: list[Statement] = []
    for statement in [*body, None]:
        if isinstance(statement, Let | loops.Store):
            run.append(statement)
            continue
        if len(run) > 2 * LENGTH:
            found.append(Stretch(tuple(tuple(run[i : i + LENGTH]) for i in range(0, len(run), LENGTH))))
        else:
            found.extend(run)
        run = []
        if statement is not None:
            found.append(statement)
    return found


def write_stretch(writer: Writer, stretch: Stretch, wanted: set[str], failed: Callable[[], None]) -> None:
    """Write long straight-line code as several functions, and their calls.

    Args:
        writer: Where to write the calls.
        stretch: The code.
        wanted: Scalars that are needed after it.
        failed: Writes what happens where there is no memory.
    """
    builder = writer.builder
    read = [[mentioned(statement) for statement in piece] for piece in stretch.pieces]
    made = {s.name: s.dtype for piece in stretch.pieces for s in piece if isinstance(s, Let)}
    cells = {name: place for place, name in enumerate(sorted(_shared(stretch, read, wanted)))}
    names = {name for piece in read for found, _ in piece for name in found}
    buffers = {buffer for piece in read for _, found in piece for buffer in found}
    frame = Frame(builder)
    row = memory.from_heap(builder, long(8 * max(1, len(cells))), failed)
    frame.add("cells", row)
    frame.add_mentioned(writer, names - made.keys(), buffers)
    address = frame.address()

    def cell(builder: Any, row: Any, name: str) -> Any:
        kind = llvm_type(made[name])
        return builder.bitcast(builder.gep(row, [long(8 * cells[name])]), kind.as_pointer())

    for piece, found in zip(stretch.pieces, read, strict=True):
        function = new_function(builder.module, _PIECE, "symgraph.piece")
        keep_calls(function)
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        told = frame.read(inner, function.args[0])
        inside = writer_inside(inner, told)
        known = inside.scope.names
        for statement, (needed, _) in zip(piece, found, strict=True):
            for name in needed:
                if name not in known and name in cells:
                    known[name] = inner.load(cell(inner, told["cells"], name))
            inside.write([statement])
            if isinstance(statement, Let) and statement.name in cells:
                inner.store(known[statement.name], cell(inner, told["cells"], statement.name))
        inner.ret_void()
        builder.call(function, [address])
    for name in sorted(wanted & cells.keys()):
        writer.scope.names[name] = builder.load(cell(builder, row, name))
    memory.to_heap(builder, row)


def _shared(stretch: Stretch, read: Sequence[Sequence[tuple[set[str], Any]]], wanted: set[str]) -> set[str]:
    """Return the scalars that are needed outside the piece that makes them."""
    maker = {s.name: i for i, piece in enumerate(stretch.pieces) for s in piece if isinstance(s, Let)}
    found = wanted & maker.keys()
    for number, piece in enumerate(read):
        for names, _ in piece:
            found |= {name for name in names if maker.get(name, number) != number}
    return found
