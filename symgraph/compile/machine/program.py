"""A loop program as machine code: one function that Numba only wraps.

Numba takes the arguments apart and packs the results; between stands LLVM code written here, so that nothing of the
program passes through Numba's own front end, which takes about a millisecond a statement.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils, extending, typing
from numba.np import arrayobj

from symgraph.compile import loops
from symgraph.compile.kernels import lanes
from symgraph.compile.loops import Accumulate, Affine, Axis, Block, Buffer, Load, Loop, Name, Statement
from symgraph.compile.machine import blas, library, memory, vectors
from symgraph.compile.machine.cost import CHUNK, cost
from symgraph.compile.machine.memory import Scratch, times
from symgraph.compile.machine.straight import Stretch, stretches
from symgraph.compile.machine.threads import MOST_CHUNKS, POINTER, TASK, launch
from symgraph.compile.machine.vectors import INT, LONG, element_type, long
from symgraph.compile.machine.writer import Scope, Writer, identity, outer_totals, report
from symgraph.dims import Dim, names

_WIDEST = '"prefer-vector-width"="512"'
NAME = "symgraph_program"


def native_function(program: loops.Program) -> Callable[..., Any]:
    """Return what Numba sees as a function: called with arguments, constants, sizes and the number of threads."""

    def function(*_: Any) -> Any:
        raise TypeError("only compiled code can call this")

    count = len(program.arguments) + len(program.sizes) + 1
    parameters = [inspect.Parameter(f"a{i}", inspect.Parameter.POSITIONAL_OR_KEYWORD) for i in range(count)]
    result = types.Tuple([_numba_type(r) for r in program.results])

    def typing_rule(_: Any) -> Callable[..., Any]:
        def resolve(*arguments: Any) -> Any:
            return typing.signature(result, *map(types.unliteral, arguments))

        resolve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return resolve

    def lowering(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        return _Native(program, context, builder, signature, values).write()

    extending.type_callable(function)(typing_rule)
    extending.lower_builtin(function, types.VarArg(types.Any))(lowering)
    return function


def wrapper(program: loops.Program) -> str:
    """Return the text of the function that Numba compiles around the native one."""
    takes = ", ".join(f"a{i}" for i in range(len(program.arguments) + len(program.sizes) + 1))
    return f"def kernel({takes}):\n    return {NAME}({takes})\n"


def _numba_type(result: Any) -> Any:
    scalar = numba.from_dtype(result.dtype)
    shape = getattr(result, "shape", ())
    return types.Array(scalar, len(shape), "C") if shape else scalar


class _Native:
    """Writes the program into the function that Numba has begun."""

    def __init__(
        self, program: loops.Program, context: Any, builder: Any, signature: Any, values: Sequence[Any]
    ) -> None:
        self.program, self.context, self.builder = program, context, builder
        set.add(builder.function.attributes, _WIDEST)
        error = cgutils.alloca_once(builder, ir.ArrayType(LONG, 3))
        error = builder.gep(error, [long(0), long(0)])
        builder.store(long(0), error)
        count = len(program.arguments)
        sizes = dict(zip(program.sizes, values[count:-1], strict=True))
        self.scope = Scope(sizes, {}, {}, {}, error, values[-1])
        self.writer = Writer(context, builder, self.scope)
        for argument, kind, value in zip(program.arguments, signature.args, values, strict=False):
            if isinstance(argument, Buffer):
                data = arrayobj.make_array(kind)(context, builder, value).data
                pointer = builder.bitcast(data, element_type(argument.dtype).as_pointer())
                self._place(argument, pointer)
            else:
                wanted = numba.from_dtype(argument.dtype)
                self.scope.names[argument.name] = context.cast(builder, value, kind, wanted)
        self.result_type = signature.return_type
        self.scratch: dict[Buffer, Scratch] = {}
        self.arrays: dict[Buffer, Any] = {}
        self.uses_blas = False

    def _place(self, buffer: Buffer, pointer: Any) -> None:
        shape = [self.writer.size(s) for s in buffer.shape]
        self.scope.memories[buffer] = memory.memory(self.builder, pointer, shape)

    def write(self) -> Any:
        arrays = self._results()
        within = {s.buffer for s in loops.walk(self.program.body) if isinstance(s, loops.Allocate)}
        views = {s.result for s in loops.walk(self.program.body) if isinstance(s, loops.View)}
        loose = [b for b in self.program.buffers() if b.role != "result" and b not in within and b not in views]
        self._take([(buffer, 1) for buffer in loose])
        self.uses_blas = any(_uses_blas(statement) for statement in loops.walk(self.program.body))
        if self.uses_blas:
            blas.enter(self.builder)
        body = stretches(self.program.body)
        for place, statement in enumerate(body):
            match statement:
                case Stretch():
                    self._straight(statement, body[place + 1 :])
                case Loop():
                    self._outermost(statement)
                case loops.Allocate(buffer=buffer):
                    self._take([(buffer, 1)])
                case loops.Free(buffer=buffer):
                    if buffer in self.scratch:
                        self.scratch.pop(buffer).release(self.builder)
                case _:
                    self.writer.write([statement])
        for scratch in self.scratch.values():
            scratch.release(self.builder)
        if self.uses_blas:
            blas.leave(self.builder)
        self._raise()
        values = []
        for result in self.program.results:
            if result in arrays:
                values.append(arrays[result])
            elif isinstance(result, Buffer):
                found = self.builder.load(self.scope.memories[result].pointer)
                values.append(self.writer._from_memory(found, result.dtype))
            else:
                values.append(self.writer.operand(result))
        return self.context.make_tuple(self.builder, self.result_type, values)

    def _take(self, wanted: Sequence[tuple[Buffer, int]]) -> None:
        scratch = Scratch()
        self.scope.memories |= scratch.take(self.builder, wanted, self.scope.names, self._no_memory)
        for buffer, _ in wanted[:1]:
            self.scratch[buffer] = scratch

    def _results(self) -> dict[Buffer, Any]:
        """Allocate the arrays that are handed back."""
        builder, arrays = self.builder, self.arrays
        for result, kind in zip(self.program.results, self.result_type, strict=True):
            if not isinstance(result, Buffer) or result in self.scope.memories:
                continue
            shape = [self.writer.size(s) for s in result.shape]
            width = max(1, result.dtype.itemsize)
            if not result.shape:
                pointer = memory.stack(self.builder, element_type(result.dtype))
                self.scope.memories[result] = memory.memory(self.builder, pointer, ())
                continue
            count: Any = long(width)
            for s in shape:
                count = times(self.builder, count, s)
            block = self.context.nrt.meminfo_alloc_aligned(self.builder, count, ir.Constant(INT, 64))
            nothing = ir.Constant(block.type, None)
            with builder.if_then(builder.icmp_unsigned("==", block, nothing), likely=False):
                self._no_memory()
            data = self.context.nrt.meminfo_data(builder, block)
            array = arrayobj.make_array(kind)(self.context, self.builder)
            pointer = self.builder.bitcast(data, array.data.type)
            made = memory.memory(
                self.builder, self.builder.bitcast(data, element_type(result.dtype).as_pointer()), shape
            )
            arrayobj.populate_array(
                array,
                data=pointer,
                shape=cgutils.pack_array(self.builder, shape),
                strides=cgutils.pack_array(self.builder, [times(self.builder, s, long(width)) for s in made.strides]),
                itemsize=long(width),
                meminfo=block,
            )
            self.scope.memories[result] = made
            arrays[result] = array._getvalue()
        return arrays

    def _no_memory(self) -> None:
        """Give back what there is and raise."""
        for scratch in self.scratch.values():
            scratch.release(self.builder)
        if self.uses_blas:
            blas.leave(self.builder)
        self._drop_results()
        exception, message = library.ERRORS[library.NO_MEMORY]
        self.context.call_conv.return_user_exc(self.builder, exception, (message,))

    def _drop_results(self) -> None:
        for result, kind in zip(self.program.results, self.result_type, strict=True):
            if result in self.arrays:
                self.context.nrt.decref(self.builder, kind, self.arrays[result])

    def _raise(self) -> None:
        builder, error = self.builder, self.scope.error
        indexes = _indexes_by_data(self.program.body)
        if not indexes and not any(isinstance(s, loops.Call) for s in loops.walk(self.program.body)):
            return
        code = builder.load(error)
        with builder.if_then(builder.icmp_signed("!=", code, long(0)), likely=False):
            self._drop_results()
            for number, (exception, message) in library.ERRORS.items():
                with builder.if_then(builder.icmp_signed("==", code, long(number))):
                    self.context.call_conv.return_user_exc(builder, exception, (message,))
            if not indexes:
                return
            index, size = (builder.load(builder.gep(error, [long(i)])) for i in (1, 2))
            self.context.call_conv.return_dynamic_user_exc(
                builder, IndexError, ("index", index, size), [types.int64, types.int64]
            )

    # Straight-line code

    def _straight(self, stretch: Stretch, later: Sequence[Any]) -> None:
        """Write long straight-line code as several functions."""
        builder, scope = self.builder, self.scope
        mentioned = [[_mentioned(statement) for statement in piece] for piece in stretch.pieces]
        wanted_after = {r.name for r in self.program.results if isinstance(r, Name)}
        for statement in later:
            wanted_after |= _mentioned(statement)[0]
        made = {s.name: s for piece in stretch.pieces for s in piece if isinstance(s, loops.Let)}
        user = {name: number for number, piece in enumerate(stretch.pieces) for name in _made(piece)}
        for number, piece in enumerate(mentioned):  # -1 stands for several pieces
            for found, _ in piece:
                for name in found:
                    user[name] = number if user.get(name, number) == number else -1
        shared = [name for name in made if user.get(name) == -1 or name in wanted_after]
        slots = {name: i for i, name in enumerate(shared)}
        cells = memory.from_heap(builder, long(8 * max(1, len(slots))), self._no_memory)
        frame = _Frame(builder)
        frame.add("cells", cells)
        frame.add("error", scope.error)
        for name in user:
            if name not in made:
                cell = scope.cells.get(name)
                frame.add(("name", name), scope.names[name] if cell is None else builder.load(cell))
        used = {buffer for piece in mentioned for _, buffers in piece for buffer in buffers}
        for buffer, place in scope.memories.items():
            if buffer in used:
                frame.add(("buffer", buffer), place.pointer)
        address = frame.address()

        def cell_of(builder: Any, cells: Any, name: str) -> Any:
            at = builder.gep(cells, [long(8 * slots[name])])
            return builder.bitcast(at, vectors.value_type(made[name].dtype).as_pointer())

        kind = ir.FunctionType(ir.VoidType(), [POINTER])
        for piece, mentions in zip(stretch.pieces, mentioned, strict=True):
            function = _function(builder.module, kind, "symgraph.piece")
            inside = ir.IRBuilder(function.append_basic_block("entry"))
            lanes._calls[function] = 10**6
            inner = self._inside(inside, frame.read(inside, function.args[0]))
            known = inner.scope.names
            whole = frame.read(inside, function.args[0])["cells"]
            for statement, (found, _) in zip(piece, mentions, strict=True):
                for name in found:
                    if name not in known and name in slots:
                        known[name] = inside.load(cell_of(inside, whole, name))
                inner.write([statement])
                if isinstance(statement, loops.Let) and statement.name in slots:
                    inside.store(known[statement.name], cell_of(inside, whole, statement.name))
            inside.ret_void()
            builder.call(function, [address])
        for name in wanted_after & set(slots):
            scope.names[name] = builder.load(cell_of(builder, cells, name))
        memory.to_heap(builder, cells)

    def _inside(self, builder: Any, known: dict[Any, Any]) -> Writer:
        """Return the writer of another function, which knows what it is told."""
        scope = Scope({}, {}, {}, {}, known["error"], None)
        writer = Writer(self.context, builder, scope)
        for key, value in known.items():
            if isinstance(key, tuple) and key[0] == "name":
                scope.names[key[1]] = value
        for key, value in known.items():
            if isinstance(key, tuple) and key[0] == "buffer":
                shape = [writer.size(s) for s in key[1].shape]
                scope.memories[key[1]] = memory.memory(builder, value, shape)
        return writer

    # Loops on threads

    def _outermost(self, loop: Loop) -> None:
        """Write an outermost loop as a function of a chunk of its range, and run all chunks."""
        builder, scope = self.builder, self.scope
        targets = outer_totals(loop.body)
        buffers = _shared_targets(loop)
        in_order = "set" in buffers.values()  # the last write stays
        if in_order:
            buffers = {}
        names_used, buffers_used = _mentioned(loop)
        frame = _Frame(builder)
        for name in sorted(names_used):
            if name in targets:
                continue
            if name in scope.cells:
                frame.add(("name", name), builder.load(scope.cells[name]))
            elif name in scope.names:
                frame.add(("name", name), scope.names[name])
        for buffer in scope.memories:
            if buffer in buffers_used:
                frame.add(("buffer", buffer), scope.memories[buffer].pointer)
        frame.add("error", scope.error)
        start, stop = self.writer.bounds(loop.axis)
        chunks = long(1) if in_order else self._chunks(loop, buffers, builder.sub(stop, start))
        frame.add("chunks", chunks)
        frame.add("start", start)
        frame.add("stop", stop)
        totals = {}
        for name, (dtype, _) in targets.items():
            totals[name] = memory.stack(builder, vectors.value_type(dtype), MOST_CHUNKS)
            frame.add(("total", name), totals[name])
        private, raw = self._private(buffers, chunks)
        for buffer, (pointer, distance) in private.items():
            frame.add(("private", buffer), pointer)
            frame.add(("distance", buffer), distance)
        task = self._task(loop, frame, targets, buffers)
        launch(builder, task, frame.address(), chunks, scope.threads)
        self._combine(targets, totals, buffers, private, chunks)
        raw.release(builder)

    def _chunks(self, loop: Loop, buffers: dict[Buffer, str], length: Any) -> Any:
        """Return the number of chunks."""
        builder, writer = self.builder, self.writer
        work = writer.size(cost([loop]))
        chunks = builder.sdiv(work, long(CHUNK))
        if buffers:
            weight: Any = long(1)
            for buffer in buffers:
                place = self.scope.memories[buffer]
                count: Any = long(32 * max(1, buffer.dtype.itemsize))
                for s in place.shape:
                    count = times(builder, count, s)
                weight = builder.add(weight, count)
            chunks = memory.least(builder, chunks, builder.sdiv(work, weight))
        pieces = memory.quotient(builder, builder.add(length, long(_grain(loop) - 1)), _grain(loop))
        chunks = memory.least(builder, memory.least(builder, chunks, pieces), long(MOST_CHUNKS))
        return memory.greatest(builder, chunks, long(1))

    def _private(self, buffers: dict[Buffer, str], chunks: Any) -> tuple[dict[Buffer, tuple[Any, Any]], Scratch]:
        """Return for each buffer that all chunks add to where a chunk's own stands: the first and their distance.

        A single chunk adds to the buffer itself.
        """
        builder = self.builder
        raw = Scratch()
        if not buffers:
            return {}, raw
        alone = builder.icmp_signed("==", chunks, long(1))
        total: Any = long(64)
        counts = {}
        for buffer in buffers:
            count: Any = long(1)
            for s in self.scope.memories[buffer].shape:
                count = times(builder, count, s)
            padded = builder.and_(builder.add(count, long(63)), long(-64))
            counts[buffer] = (padded, total)
            bytes_needed = builder.mul(builder.mul(padded, long(max(1, buffer.dtype.itemsize))), chunks)
            total = builder.add(total, bytes_needed)
        raw.raw = memory.from_heap(builder, builder.select(alone, long(1), total), self._no_memory)
        found = {}
        for buffer, (padded, offset) in counts.items():
            start = builder.and_(builder.neg(builder.ptrtoint(raw.raw, LONG)), long(63))
            place = builder.add(start, builder.sub(offset, long(64)))
            shared = self.scope.memories[buffer].pointer
            own = builder.bitcast(builder.gep(raw.raw, [place]), shared.type)
            found[buffer] = (builder.select(alone, shared, own), padded)
        return found, raw

    def _task(self, loop: Loop, frame: _Frame, targets: dict[str, Any], buffers: dict[Buffer, str]) -> Any:
        module = self.builder.module
        function = _function(module, TASK, "symgraph.loop")
        address, number = function.args
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        known = frame.read(builder, address)
        for buffer in buffers:
            moved = builder.mul(number, known["distance", buffer])
            known["buffer", buffer] = builder.gep(known["private", buffer], [moved])
        writer = self._inside(builder, known)
        scope = writer.scope
        alone = builder.icmp_signed("==", known["chunks"], long(1))
        for buffer, how in buffers.items():
            place = scope.memories[buffer]
            count: Any = long(1)
            for s in place.shape:
                count = times(builder, count, s)
            with builder.if_then(builder.not_(alone)):
                writer.fill(place.pointer, writer._to_memory(identity(how, buffer.dtype), buffer.dtype), count)
        for name, (dtype, how) in targets.items():
            cell = cgutils.alloca_once(builder, vectors.value_type(dtype))
            builder.store(identity(how, dtype), cell)
            scope.cells[name] = cell
        scratch = Scratch()

        def failed() -> None:
            report(builder, scope.error, long(library.NO_MEMORY), long(0), long(0))
            builder.ret_void()

        scope.memories |= scratch.take(builder, _allocated(loop), scope.names, failed)
        first, count = _range(builder, number, known["start"], known["stop"], known["chunks"], _grain(loop))
        writer.loop_between(loop, first, builder.add(first, count))
        for name in targets:
            total = builder.gep(known["total", name], [number])
            builder.store(builder.load(scope.cells[name]), total)
        scratch.release(builder)
        builder.ret_void()
        return function

    def _combine(
        self,
        targets: dict[str, Any],
        totals: dict[str, Any],
        buffers: dict[Buffer, str],
        private: dict[Buffer, tuple[Any, Any]],
        chunks: Any,
    ) -> None:
        """Add up what the chunks found, in their order."""
        builder, writer = self.builder, self.writer
        with memory.loop(builder, long(0), chunks) as (number, _):
            for name, (dtype, how) in targets.items():
                cell = self.scope.cells[name]
                part = builder.load(builder.gep(totals[name], [number]))
                builder.store(writer.combine(how, dtype, builder.load(cell), part), cell)
        if not buffers:
            return
        with (
            builder.if_then(builder.icmp_signed(">", chunks, long(1))),
            memory.loop(builder, long(0), chunks) as (number, _),
        ):
            for buffer, how in buffers.items():
                place = self.scope.memories[buffer]
                pointer, distance = private[buffer]
                own = builder.gep(pointer, [builder.mul(number, distance)])
                count: Any = long(1)
                for s in place.shape:
                    count = times(builder, count, s)
                with memory.loop(builder, long(0), count) as (i, _):
                    target = builder.gep(place.pointer, [i])
                    old = writer._from_memory(builder.load(target), buffer.dtype)
                    more = writer._from_memory(builder.load(builder.gep(own, [i])), buffer.dtype)
                    builder.store(writer._to_memory(writer.combine(how, buffer.dtype, old, more), buffer.dtype), target)


class _Frame:
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


def _made(piece: Sequence[Statement]) -> list[str]:
    return [statement.name for statement in piece if isinstance(statement, loops.Let)]


def _grain(loop: Loop) -> int:
    """Return of how many iterations a chunk's size is a multiple."""
    return loop.axis.rows if isinstance(loop.axis, Block) else vectors.native_lanes()


def _range(builder: Any, number: Any, start: Any, stop: Any, chunks: Any, grain: int) -> tuple[Any, Any]:
    """Return where a chunk of a range begins, and its length."""
    pieces = memory.quotient(builder, builder.add(builder.sub(stop, start), long(grain - 1)), grain)

    def edge(number: Any) -> Any:
        piece = builder.sdiv(builder.mul(pieces, number), chunks)
        return memory.least(builder, builder.add(start, builder.mul(piece, long(grain))), stop)

    first = edge(number)
    return first, builder.sub(edge(builder.add(number, long(1))), first)


def _function(module: Any, kind: Any, name: str) -> Any:
    """Return a new function for a part of the program."""
    function = ir.Function(module, kind, module.get_unique_name(name))
    function.linkage = "internal"
    set.add(function.attributes, _WIDEST)
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    return function


def _allocated(loop: Loop) -> list[tuple[Buffer, int]]:
    """Return the scratch of a loop, and how many lanes each has."""
    found: list[tuple[Buffer, int]] = []
    stack = [(loop, vectors.native_lanes() if loop.lanes else 1)]
    while stack:
        current, lanes = stack.pop()
        for statement in current.body:
            if isinstance(statement, loops.Allocate):
                found.append((statement.buffer, lanes))
            elif isinstance(statement, Loop):
                stack.append((statement, vectors.native_lanes() if statement.lanes else lanes))
    return found


def _shared_targets(loop: Loop) -> dict[Buffer, str]:
    """Return the buffers whose elements several iterations of a loop add to, and how."""
    own = {s.buffer for s in loops.walk(loop.body) if isinstance(s, loops.Allocate)}
    found: dict[Buffer, str] = {}
    for statement in loops.walk(loop.body):
        match statement:
            case Accumulate(target=Load(buffer=buffer, indices=indices), how=how) if buffer not in own:
                if not any(_runs_with(index, loop.axis) for index in indices):
                    found[buffer] = how
            case loops.Multiply(result=panel, accumulate=True) if panel.buffer not in own:
                if panel.block is not loop.axis:
                    found[panel.buffer] = "sum"
    return found


def _runs_with(index: Any, axis: Axis | Block) -> bool:
    """Tell whether different iterations of a loop have different indices."""
    if not isinstance(index, Affine) or index.axis is None or index.divisor != 1:
        return False
    return index.axis is axis or index.axis.block is axis


def _uses_blas(statement: Statement) -> bool:
    match statement:
        case loops.Multiply():
            return True
        case loops.Call(function=name, operands=(first, *_)):
            dtype = first.buffer.dtype if isinstance(first, loops.Transposed) else first.dtype
            return library.needs_blas(name, dtype)
    return False


def _indexes_by_data(body: Sequence[Statement]) -> bool:
    return any(isinstance(part, loops.Wrapped) for statement in body for part in _parts(statement))


def _mentioned(loop: Loop) -> tuple[set[str], set[Buffer]]:
    """Return the names, sizes among them, and the buffers that a loop mentions."""
    found: set[str] = set()
    buffers: set[Buffer] = set()
    for part in _parts(loop):
        if isinstance(part, Name | loops.Scalar):
            found.add(part.name)
        elif isinstance(part, Dim):
            found |= names(part)
        elif isinstance(part, Buffer):
            buffers.add(part)
    return found, buffers


def _parts(statement: Any) -> list[Any]:
    """Return everything that a statement is made of."""
    found, stack = [], [statement]
    while stack:
        part = stack.pop()
        kind = type(part)
        if kind is tuple:
            stack.extend(part)
            continue
        if kind not in _FIELDS:
            _FIELDS[kind] = tuple(f.name for f in fields(kind)) if is_dataclass(kind) else ()
        if kind in _PLAIN:
            continue
        found.append(part)
        stack.extend([getattr(part, name) for name in _FIELDS[kind]])
    return found


_FIELDS: dict[type, tuple[str, ...]] = {}
_PLAIN = frozenset({str, int, bool, float, type(None)})
