"""Loops over arrays, written as LLVM with Python's operators.

`Number` is a 64-bit integer of the code that is being written, `Array` consecutive elements in memory, and
`counted` a loop. A function of a module is written once, and called from wherever it is needed.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from llvmlite import ir

from symgraph.compile.kernels.instructions import WIDEST, llvm_type
from symgraph.compile.machine import vectors
from symgraph.compile.machine.vectors import BYTE, INT, LONG, DType, element_type, intrinsic, long

_ON_STACK = 256
_HUGE = 2**21  # the bytes of a huge page
_KEPT = 2**25  # the C library keeps smaller pieces for the next call (memory.keep_pages)
_USE_HUGE_PAGES = 14  # MADV_HUGEPAGE of Linux

SHORT = ("noinline", "optsize")
"""What LLVM is told of functions that leave most of the work to others or to vectors: they compile in half the time."""


@dataclass(frozen=True, eq=False)
class Number:
    """A 64-bit integer; comparisons give LLVM's truth values."""

    builder: Any
    value: Any

    def __add__(self, other: Number | int) -> Number:
        return Number(self.builder, self.builder.add(self.value, _long(other), flags=("nsw",)))

    def __sub__(self, other: Number | int) -> Number:
        return Number(self.builder, self.builder.sub(self.value, _long(other), flags=("nsw",)))

    def __mul__(self, other: Number | int) -> Number:
        return Number(self.builder, self.builder.mul(self.value, _long(other), flags=("nsw",)))

    def __floordiv__(self, other: Number | int) -> Number:
        """Divide numbers that are not negative."""
        return Number(self.builder, self.builder.udiv(self.value, _long(other)))

    def __mod__(self, other: int) -> Number:
        return Number(self.builder, self.builder.urem(self.value, _long(other)))

    def __lt__(self, other: Number | int) -> Any:
        return self.builder.icmp_signed("<", self.value, _long(other))

    def __gt__(self, other: Number | int) -> Any:
        return self.builder.icmp_signed(">", self.value, _long(other))

    def __ge__(self, other: Number | int) -> Any:
        return self.builder.icmp_signed(">=", self.value, _long(other))

    def equals(self, other: Number | int) -> Any:
        """Return whether two numbers are equal."""
        return self.builder.icmp_signed("==", self.value, _long(other))

    def at_most(self, other: Number | int) -> Number:
        """Return the smaller of two numbers."""
        return Number(self.builder, self.builder.select(self < other, self.value, _long(other)))

    def at_least(self, other: Number | int) -> Number:
        """Return the greater of two numbers."""
        return Number(self.builder, self.builder.select(self > other, self.value, _long(other)))


def _long(number: Number | int) -> Any:
    return number.value if isinstance(number, Number) else long(number)


@dataclass(frozen=True, eq=False)
class Array:
    """Elements in memory; those of truth values are computed with as bits and kept as bytes."""

    builder: Any
    pointer: Any
    dtype: DType

    def __getitem__(self, index: Number | int) -> Any:
        value = self.builder.load((self + index).pointer)
        return self.builder.trunc(value, vectors.BIT) if self.dtype.kind == "b" else value

    def __setitem__(self, index: Number | int, value: Any) -> None:
        kept = self.builder.zext(value, BYTE) if self.dtype.kind == "b" else value
        self.builder.store(kept, (self + index).pointer)

    def __add__(self, offset: Number | int) -> Array:
        return Array(self.builder, self.builder.gep(self.pointer, [_long(offset)]), self.dtype)


@dataclass(frozen=True, eq=False)
class Loop:
    """A loop that is being written, or has been.

    Attributes:
        index: Its index.
        values: What one iteration hands to the next: at the start of an iteration, and after the loop at its end.
        end: The block behind it.
    """

    index: Number
    values: list[Any]
    end: Any
    _next: list[Any]

    def carry(self, *values: Any) -> None:
        """Hand values to the next iteration."""
        self._next[:] = values

    def leave(self) -> None:
        """End the loop here and now; what it hands over must not be used behind it."""
        self.index.builder.branch(self.end)


@contextmanager
def counted(
    builder: Any, stop: Number, start: Number | int = 0, step: Number | int = 1, carried: Sequence[Any] = ()
) -> Iterator[Loop]:
    """Write a loop from a number up to another; the block within is its body."""
    before = builder.basic_block
    head, body, end = (builder.append_basic_block(name) for name in ("loop", "body", "end"))
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(LONG)
    index.add_incoming(_long(start), before)
    values = [builder.phi(value.type) for value in carried]
    for phi, value in zip(values, carried, strict=True):
        phi.add_incoming(value, before)
    number = Number(builder, index)
    builder.cbranch(number < stop, body, end)
    builder.position_at_end(body)
    loop = Loop(number, values, end, [])
    yield loop
    if not builder.block.is_terminated:
        index.add_incoming((number + step).value, builder.basic_block)
        for phi, value in zip(values, loop._next, strict=True):
            phi.add_incoming(value, builder.basic_block)
        builder.branch(head)
    builder.position_at_end(end)


def function(
    module: Any,
    name: str,
    result: Any,
    kinds: Sequence[Any],
    write: Callable[..., Any],
    *,
    distinct: bool = True,
    attributes: Sequence[str] = (),
) -> Any:
    """Return a module's own function, written at its first use.

    Args:
        module: The module.
        name: The function's name; the same name means the same function.
        result: What it returns.
        kinds: What it takes: LLVM types, or NumPy's for pointers to elements.
        write: Writes the body: a builder, and the arguments as `Number`, `Array` or LLVM's values.
        distinct: Whether no two of the pointers lead to the same memory.
        attributes: What LLVM is told besides.
    """
    if name in module.globals:
        return module.globals[name]
    types = [kind if isinstance(kind, ir.Type) else element_type(kind).as_pointer() for kind in kinds]
    made = ir.Function(module, ir.FunctionType(result, types), name)
    made.linkage = "internal"
    for attribute in ("nounwind", *attributes):
        made.attributes.add(attribute)
    set.add(made.attributes, WIDEST)
    builder = ir.IRBuilder(made.append_basic_block())
    arguments: list[Any] = []
    for kind, argument in zip(kinds, made.args, strict=True):
        if not isinstance(kind, ir.Type):
            if distinct:
                argument.add_attribute("noalias")
            arguments.append(Array(builder, argument, kind))
        else:
            arguments.append(Number(builder, argument) if kind == LONG else argument)
    write(builder, *arguments)
    return made


def invoke(builder: Any, called: Any, *arguments: Any) -> Any:
    """Call a function with numbers, arrays, Python's truth values and integers, or LLVM's values."""
    values = [as_value(argument, kind.type) for argument, kind in zip(arguments, called.args, strict=True)]
    return builder.call(called, values)


def as_value(argument: Any, kind: Any) -> Any:
    """Return LLVM's value of a number, an array, one of Python's truth values or integers, or LLVM's value itself."""
    if isinstance(argument, Number):
        return argument.value
    if isinstance(argument, Array):
        return argument.pointer
    return ir.Constant(kind, int(argument)) if isinstance(argument, int) else argument


def chosen(builder: Any, condition: Any, yes: Number, no: Number) -> Number:
    """Return one of two numbers."""
    return Number(builder, builder.select(condition, yes.value, no.value))


def zero(dtype: DType) -> Any:
    """Return the number 0."""
    return ir.Constant(llvm_type(dtype), 0)


def one(dtype: DType) -> Any:
    """Return the number 1."""
    return ir.Constant(llvm_type(dtype), 1)


def fill_with_zeros(target: Array, count: Number) -> None:
    """Set elements to zero."""
    builder = target.builder
    address, size = _bytes(target), count * target.dtype.itemsize
    fill = intrinsic(builder.module, "llvm.memset.p0.i64", ir.VoidType(), [BYTE.as_pointer(), BYTE, LONG, vectors.BIT])
    builder.call(fill, [address, ir.Constant(BYTE, 0), size.value, ir.Constant(vectors.BIT, 0)])


def copy(source: Array, target: Array, count: Number) -> None:
    """Copy elements."""
    builder = source.builder
    kinds = [BYTE.as_pointer(), BYTE.as_pointer(), LONG, vectors.BIT]
    move = intrinsic(builder.module, "llvm.memcpy.p0.p0.i64", ir.VoidType(), kinds)
    size = count * source.dtype.itemsize
    builder.call(move, [_bytes(target), _bytes(source), size.value, ir.Constant(vectors.BIT, 0)])


def _bytes(array: Array) -> Any:
    return array.builder.bitcast(array.pointer, BYTE.as_pointer())


@cache
def is_in_c_library(name: str) -> bool:
    """Tell whether the process has a function of the C library that not every one has."""
    return sys.platform != "win32" and hasattr(ctypes.CDLL(None), name)


@contextmanager
def workspace(builder: Any, dtype: DType, count: Number) -> Iterator[tuple[Array, Any]]:
    """Provide memory for a number of elements, on the stack where they are few; and whether there was enough."""
    kind = element_type(dtype)
    with builder.goto_entry_block():
        stack = builder.alloca(kind, size=ir.Constant(vectors.INT, _ON_STACK))
    bytes_ = (count * max(1, dtype.itemsize)).value
    few = builder.icmp_signed("<=", count.value, long(_ON_STACK))
    before = builder.basic_block
    with builder.if_then(builder.not_(few)):
        taken = builder.call(allocator(builder.module), [bytes_])
        heap = builder.bitcast(taken, kind.as_pointer())
        inside = builder.basic_block
    pointer = builder.phi(kind.as_pointer())
    pointer.add_incoming(stack, before)
    pointer.add_incoming(heap, inside)
    yield Array(builder, pointer, dtype), builder.icmp_unsigned("!=", pointer, ir.Constant(pointer.type, None))
    with builder.if_then(builder.not_(few)):
        address = builder.bitcast(pointer, BYTE.as_pointer())
        builder.call(intrinsic(builder.module, "free", ir.VoidType(), [BYTE.as_pointer()]), [address])


def allocator(module: Any) -> Any:
    """Return the function of a number of bytes that allocates them, on Linux on huge pages where they are very many.

    New memory costs a fault for each page that is written to, which takes as long as computing what is written. What
    the C library gives back to the system whatever it is told costs this at every call.
    """
    address = BYTE.as_pointer()
    malloc = intrinsic(module, "malloc", address, [LONG])

    def write(builder: Any, count: Number) -> None:
        with builder.if_then(count < _KEPT, likely=True):
            builder.ret(builder.call(malloc, [count.value]))
        place = builder.alloca(address)
        whole = (count + (_HUGE - 1)) // _HUGE * _HUGE
        aligned = intrinsic(module, "posix_memalign", INT, [place.type, LONG, LONG])
        failed = builder.call(aligned, [place, long(_HUGE), whole.value])
        with builder.if_then(builder.icmp_signed("!=", failed, ir.Constant(INT, 0)), likely=False):
            builder.ret(ir.Constant(address, None))
        advise = intrinsic(module, "madvise", INT, [address, LONG, INT])
        builder.call(advise, [builder.load(place), whole.value, ir.Constant(INT, _USE_HUGE_PAGES)])
        builder.ret(builder.load(place))

    if sys.platform != "linux":
        return malloc
    return function(module, "symgraph.take", address, [LONG], write, attributes=SHORT)
