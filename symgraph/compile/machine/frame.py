"""Functions of a program's own beside the one that Python calls, and how they are told what they need to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llvmlite import ir

from symgraph.compile import loops
from symgraph.compile.kernels.instructions import WIDEST
from symgraph.compile.loops import Buffer, Name
from symgraph.compile.machine import memory
from symgraph.compile.machine.scope import Scope
from symgraph.compile.machine.threads import POINTER
from symgraph.compile.machine.vectors import INT
from symgraph.compile.machine.writer import Writer
from symgraph.dims import Dim, names


def new_function(module: Any, kind: Any, name: str) -> Any:
    """Return a new function for a part of the program."""
    function = ir.Function(module, kind, module.get_unique_name(name))
    function.linkage = "internal"
    set.add(function.attributes, WIDEST)
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    return function


class Frame:
    """What a chunk's function is told: values in a structure, found by key."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.items: dict[Any, Any] = {}

    def add(self, key: Any, value: Any) -> None:
        """Tell a value."""
        self.items[key] = value

    def address(self) -> Any:
        """Return the structure's address, its values written."""
        room = memory.stack(self.builder, self._type())
        for i, value in enumerate(self.items.values()):
            self.builder.store(value, self.builder.gep(room, [ir.Constant(INT, 0), ir.Constant(INT, i)]))
        return self.builder.bitcast(room, POINTER)

    def read(self, builder: Any, address: Any) -> dict[Any, Any]:
        """Return the values in the function that is told them."""
        room = builder.bitcast(address, self._type().as_pointer())
        return {
            key: builder.load(builder.gep(room, [ir.Constant(INT, 0), ir.Constant(INT, i)]))
            for i, key in enumerate(self.items)
        }

    def _type(self) -> Any:
        return ir.LiteralStructType([value.type for value in self.items.values()])

    def add_mentioned(self, writer: Writer, mentioned: set[str], buffers: set[Buffer]) -> None:
        """Tell the scalars, sizes and buffers that are known outside, and where errors are noted."""
        scope = writer.scope
        for name in sorted(mentioned):
            if name in scope.cells:
                self.add(("name", name), self.builder.load(scope.cells[name]))
            elif name in scope.names:
                self.add(("name", name), scope.names[name])
        for buffer, place in scope.memories.items():
            if buffer in buffers:
                self.add(("buffer", buffer), place.pointer)
        self.add("error", scope.error)


def writer_inside(builder: Any, known: Mapping[Any, Any]) -> Writer:
    """Return the writer of a function that knows what a frame told it."""
    scope = Scope({}, {}, {}, {}, known["error"], None)
    writer = Writer(builder, scope)
    told = [(key, value) for key, value in known.items() if isinstance(key, tuple)]
    scope.names |= {name: value for (kind, name), value in told if kind == "name"}
    for (kind, buffer), value in told:
        if kind == "buffer":
            shape = [writer.size(s) for s in buffer.shape]
            scope.memories[buffer] = memory.memory(builder, value, shape)
    return writer


def mentioned(statement: Any) -> tuple[set[str], set[Buffer]]:
    """Return the names, sizes among them, and the buffers that a statement mentions."""
    found: set[str] = set()
    buffers: set[Buffer] = set()
    for part in loops.parts(statement):
        if isinstance(part, Name | loops.Scalar):
            found.add(part.name)
        elif isinstance(part, Dim):
            found |= names(part)
        elif isinstance(part, Buffer):
            buffers.add(part)
    return found, buffers
