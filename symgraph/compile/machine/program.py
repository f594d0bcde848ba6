"""A loop program as machine code: one function that Numba only wraps.

Numba takes the arguments apart and packs the results; between stands LLVM code written here, so that nothing of the
program passes through Numba's own front end, which takes about a millisecond a statement.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numba
from llvmlite import ir

from symgraph.compile import loops
from symgraph.compile.kernels.instructions import WIDEST
from symgraph.compile.kernels.lowering import lower_builtin, signature, type_callable, types
from symgraph.compile.loops import Buffer, Loop, Name, Statement
from symgraph.compile.machine import blas, library, memory
from symgraph.compile.machine.chunks import write_outermost
from symgraph.compile.machine.frame import mentioned
from symgraph.compile.machine.memory import Scratch
from symgraph.compile.machine.scope import NEGATIVE_POWER, Scope
from symgraph.compile.machine.straight import Stretch, stretches, write_stretch
from symgraph.compile.machine.threads import dismiss, threads_of_call
from symgraph.compile.machine.vectors import LONG, element_type, long
from symgraph.compile.machine.writer import Writer
from symgraph.dims import Size, product

_from_dtype: Any = numba.from_dtype  # Numba's own annotations are incomplete
NAME = "symgraph_program"


def native_function(program: loops.Program) -> Callable[..., Any]:
    """Return what Numba sees as a function: called with arguments, constants, sizes and the number of threads."""

    def function(*_: Any) -> Any:
        raise TypeError("only compiled code can call this")

    count = len(program.arguments) + len(given_results(program)) + len(program.sizes) + 1
    parameters = [inspect.Parameter(f"a{i}", inspect.Parameter.POSITIONAL_OR_KEYWORD) for i in range(count)]
    result = types.Tuple([_from_dtype(r.dtype) for r in program.results if not getattr(r, "shape", ())])

    def typing_rule(_: Any) -> Callable[..., Any]:
        def resolve(*arguments: Any) -> Any:
            return signature(result, *map(types.unliteral, arguments))

        resolve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return resolve

    def lowering(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        return _Native(program, context, builder, signature, values).write()

    type_callable(function)(typing_rule)
    lower_builtin(function, types.VarArg(types.Any))(lowering)
    return function


def wrapper(program: loops.Program) -> str:
    """Return the text of the function that Numba compiles around the native one."""
    count = len(program.arguments) + len(given_results(program)) + len(program.sizes) + 1
    takes = ", ".join(f"a{i}" for i in range(count))
    return f"def kernel({takes}):\n    return {NAME}({takes})\n"


def given_results(program: loops.Program) -> list[Buffer]:
    """Return the results that are arrays: the caller gives them, new, between constants and sizes, to be filled."""
    return [result for result in program.results if isinstance(result, Buffer) and result.shape]


class _Native:
    """Writes the program into the function that Numba has begun."""

    def __init__(
        self, program: loops.Program, context: Any, builder: Any, signature: Any, values: Sequence[Any]
    ) -> None:
        self.program, self.context, self.builder = program, context, builder
        set.add(builder.function.attributes, WIDEST)
        error = memory.variable(builder, ir.ArrayType(LONG, 3))
        error = builder.gep(error, [long(0), long(0)])
        builder.store(long(0), error)
        given = [*program.arguments, *given_results(program)]
        sizes = dict(zip(program.sizes, values[len(given) : -1], strict=True))
        self.scope = Scope(sizes, {}, {}, {}, error, threads_of_call(builder, values[-1]))
        self.writer = Writer(context, builder, self.scope)
        for argument, kind, value in zip(given, signature.args, values, strict=False):
            if isinstance(argument, Buffer):
                if kind.dtype != _from_dtype(argument.dtype):
                    raise TypeError(f"{argument.name} is compiled for {argument.dtype}, not for {kind}")
                data = context.make_array(kind)(context, builder, value).data
                pointer = builder.bitcast(data, element_type(argument.dtype).as_pointer())
                self._place(argument, pointer)
            else:
                wanted = _from_dtype(argument.dtype)
                self.scope.names[argument.name] = context.cast(builder, value, kind, wanted)
        self.result_type = signature.return_type
        self.scratch: dict[Buffer, Scratch] = {}
        self.uses_blas = False

    def _place(self, buffer: Buffer, pointer: Any) -> None:
        shape = [self.writer.size(s) for s in buffer.shape]
        self.scope.memories[buffer] = memory.memory(self.builder, pointer, shape)

    def write(self) -> Any:
        self._numbers_in_memory()
        taken = [s.buffer for s in self.program.body if isinstance(s, loops.Allocate)] + given_results(self.program)
        bytes_: Size = 0
        for buffer in taken:
            bytes_ = bytes_ + product(buffer.shape) * buffer.dtype.itemsize
        memory.keep_pages(self.builder, self.writer.size(bytes_))
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
                    write_stretch(self.writer, statement, self._wanted(body[place + 1 :]), self._no_memory)
                case Loop():
                    write_outermost(self.writer, statement, self._no_memory)
                case loops.Allocate(buffer=buffer):
                    self._take([(buffer, 1)])
                case loops.Free(buffer=buffer):
                    if buffer in self.scratch:
                        self.scratch.pop(buffer).release(self.builder)
                case _:
                    self.writer.write([statement])
        self._give_back()
        self._raise()
        values = []
        for result in self.program.results:
            if not isinstance(result, Buffer):
                values.append(self.writer.operand(result))
            elif not result.shape:
                found = self.builder.load(self.scope.memories[result].pointer)
                values.append(self.writer.from_memory(found, result.dtype))
        return self.context.make_tuple(self.builder, self.result_type, values)

    def _wanted(self, later: Sequence[Any]) -> set[str]:
        """Return the scalars that are results, or that later statements mention."""
        found = {result.name for result in self.program.results if isinstance(result, Name)}
        return found.union(*[mentioned(statement)[0] for statement in later])

    def _take(self, wanted: Sequence[tuple[Buffer, int]]) -> None:
        scratch = Scratch()
        self.scope.memories |= scratch.take(self.builder, wanted, self.scope.names, self._no_memory)
        for buffer, _ in wanted[:1]:
            self.scratch[buffer] = scratch

    def _numbers_in_memory(self) -> None:
        """Find room for results without axes that live in memory."""
        for result in self.program.results:
            if isinstance(result, Buffer) and not result.shape and result not in self.scope.memories:
                pointer = memory.stack(self.builder, element_type(result.dtype))
                self.scope.memories[result] = memory.memory(self.builder, pointer, ())

    def _no_memory(self) -> None:
        """Give back what there is and raise."""
        self._give_back()
        exception, message = library.ERRORS[library.NO_MEMORY]
        self.context.call_conv.return_user_exc(self.builder, exception, (message,))

    def _give_back(self) -> None:
        dismiss(self.builder, self.scope.threads)
        for scratch in self.scratch.values():
            scratch.release(self.builder)
        if self.uses_blas:
            blas.leave(self.builder)

    def _raise(self) -> None:
        builder, error = self.builder, self.scope.error
        indexes = any(isinstance(part, loops.Wrapped) for s in self.program.body for part in loops.parts(s))
        errors = {library.NO_MEMORY: library.ERRORS[library.NO_MEMORY]}
        if any(isinstance(s, loops.Let) and s.operation == "power" for s in loops.walk(self.program.body)):
            errors[NEGATIVE_POWER] = (ValueError, "Integers to negative integer powers are not allowed.")
        if any(isinstance(s, loops.Call) for s in loops.walk(self.program.body)):
            errors |= library.ERRORS
        code = builder.load(error)
        with builder.if_then(builder.icmp_signed("!=", code, long(0)), likely=False):
            for number, (exception, message) in errors.items():
                with builder.if_then(builder.icmp_signed("==", code, long(number))):
                    self.context.call_conv.return_user_exc(builder, exception, (message,))
            if not indexes:
                return
            index, size = (builder.load(builder.gep(error, [long(i)])) for i in (1, 2))
            self.context.call_conv.return_dynamic_user_exc(
                builder, IndexError, ("index", index, size), [types.int64, types.int64]
            )


def _uses_blas(statement: Statement) -> bool:
    match statement:
        case loops.Multiply():
            return True
        case loops.Call(function=name):
            return library.needs_blas(name, loops.operand_dtype(statement))
    return False
