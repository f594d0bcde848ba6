"""A loop program as machine code: an LLVM module with one function that Python calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from symgraph.compile import loops
from symgraph.compile.kernels.instructions import WIDEST
from symgraph.compile.loops import Buffer, Loop, Name, Origin, Statement
from symgraph.compile.machine import blas, library, memory, python
from symgraph.compile.machine.chunks import allocated, write_outermost
from symgraph.compile.machine.frame import mentioned
from symgraph.compile.machine.memory import Scratch
from symgraph.compile.machine.order import begun_early
from symgraph.compile.machine.scope import INDEX_ERROR, NEGATIVE_POWER, NOTED, Scope, report
from symgraph.compile.machine.straight import Stretch, stretches, write_stretch
from symgraph.compile.machine.threads import dismiss, threads_of_call
from symgraph.compile.machine.vectors import LONG, element_type, long
from symgraph.compile.machine.writer import Writer
from symgraph.errors import declared_at

_SIZE = np.dtype(np.int64)


def write_program(program: loops.Program, name: str) -> ir.Module:
    """Return a module whose function of this name takes arguments, constants, arrays to fill, sizes and threads."""
    module = ir.Module(name)
    _Entry(begun_early(program), module, name).write()
    return module


def raise_error(origins: Sequence[Origin], code: int, site: int, first: int, second: int) -> None:
    """Raise the error that a program noted: its code, its place among the origins, and two numbers of its own."""
    if code == INDEX_ERROR:
        exception: type[Exception] = IndexError
        message = f"index {first} is out of bounds for an axis of size {second}"
    elif code == NEGATIVE_POWER:
        exception, message = ValueError, "Integers to negative integer powers are not allowed."
    else:
        exception, message = library.ERRORS[code]
    if site < 0:
        raise exception(message)
    raise exception(declared_at(f"{origins[site].subject}: {message}", origins[site].location))


def given_results(program: loops.Program) -> list[Buffer]:
    """Return the results that are new arrays: the caller gives them, between constants and sizes, to be filled."""
    return [r for r in program.results if isinstance(r, Buffer) and r.shape and r.role != "argument"]


class _Entry:
    """Writes the program into the function that Python calls."""

    def __init__(self, program: loops.Program, module: Any, name: str) -> None:
        self.program = program
        function = ir.Function(module, python.ENTRY, name)
        set.add(function.attributes, WIDEST)
        self.builder = builder = ir.IRBuilder(function.append_basic_block("entry"))
        error = builder.gep(memory.variable(builder, ir.ArrayType(LONG, NOTED)), [long(0), long(0)])
        for place in range(NOTED):
            builder.store(long(0), builder.gep(error, [long(place)]))
        given = [*program.arguments, *given_results(program)]
        objects = python.arguments(builder, len(given) + len(program.sizes) + 1)
        *sizes, threads = (python.number(builder, each, _SIZE) for each in objects[len(given) :])
        self.scope = Scope(
            dict(zip(program.sizes, sizes, strict=True)), {}, {}, {}, error, threads_of_call(builder, threads)
        )
        self.writer = Writer(builder, self.scope)
        for argument, each in zip(given, objects, strict=False):
            if isinstance(argument, Buffer):
                self._place(argument, python.elements(builder, each, argument.dtype))
            else:
                self.scope.names[argument.name] = python.number(builder, each, argument.dtype)
        self.state = python.let_others_run(builder)
        self.failed = function.append_basic_block("failed")
        with builder.goto_block(self.failed):
            python.come_back(builder, self.state)
            python.fail(builder, *(builder.load(builder.gep(error, [long(i)])) for i in range(NOTED)))
        self.scratch: dict[Buffer, Scratch] = {}
        self.uses_blas = False

    def _place(self, buffer: Buffer, pointer: Any) -> None:
        shape = [self.writer.size(s) for s in buffer.shape]
        self.scope.memories[buffer] = memory.memory(self.builder, pointer, shape)

    def write(self) -> None:
        """Write it."""
        self._numbers_in_memory()
        taken = [s.buffer for s in self.program.body if isinstance(s, loops.Allocate)] + given_results(self.program)
        inside = [each for s in self.program.body if isinstance(s, Loop) for each in allocated(s)]
        kept = loops.bytes_of(taken) + sum(lanes * loops.bytes_of([buffer]) for buffer, lanes in inside)
        memory.keep_pages(self.builder, self.writer.size(kept))
        within = {s.buffer for s in loops.walk(self.program.body) if isinstance(s, loops.Allocate)}
        views = {s.result for s in loops.walk(self.program.body) if isinstance(s, loops.View)}
        loose = [b for b in self.program.buffers() if b.role != "result" and b not in within and b not in views]
        self._take([(buffer, 1) for buffer in loose])
        self.uses_blas = any(_uses_blas(statement) for statement in loops.walk(self.program.body))
        if self.uses_blas:
            blas.enter(self.builder)
        body = stretches(self.program.body)
        first = next((s for s in self.program.body if isinstance(s, Loop) and _changes_argument(s)), None)
        for place, statement in enumerate(body):
            if statement is first:
                self._check()  # now, since nothing fails after it
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
        self._check()
        self._give_back()
        values = []
        for result in self.program.results:
            if not isinstance(result, Buffer):
                values.append((self.writer.value(result), result.dtype))
            elif not result.shape:
                found = self.builder.load(self.scope.memories[result].pointer)
                values.append((self.writer.from_memory(found, result.dtype), result.dtype))
        python.come_back(self.builder, self.state)
        python.succeed(self.builder, values)

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
        """Give back what there is, and end."""
        self._give_back()
        report(self.builder, self.scope.error, long(library.NO_MEMORY))
        self.builder.branch(self.failed)

    def _check(self) -> None:
        """End the call if an error is noted."""
        noted = self.builder.icmp_signed("!=", self.builder.load(self.scope.error), long(0))
        with self.builder.if_then(noted, likely=False):
            self._give_back()
            self.builder.branch(self.failed)

    def _give_back(self) -> None:
        dismiss(self.builder, self.scope.threads)
        for scratch in self.scratch.values():
            scratch.release(self.builder)
        if self.uses_blas:
            blas.leave(self.builder)


def _changes_argument(statement: Statement) -> bool:
    return any(buffer.role == "argument" for one in loops.walk([statement]) for buffer in loops.written(one))


def _uses_blas(statement: Statement) -> bool:
    match statement:
        case loops.Multiply():
            return not statement.is_of_vector
        case loops.Call(function=name):
            return library.needs_blas(name, loops.operand_dtype(statement))
    return False
