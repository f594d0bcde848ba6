"""Where buffers are in memory, and which element of one is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from symgraph.compile.loops import Buffer
from symgraph.compile.machine.language import Number, allocator, counted, is_in_c_library
from symgraph.compile.machine.vectors import BYTE, INT, LONG, element_type, intrinsic, long, splat, width_of
from symgraph.dims import Dim, Quotient, Size

ON_STACK = 16 * 1024
"""So many bytes of scratch of known size stand on the stack."""

_ALIGNMENT = 64
_GIVEN_BACK, _NOTICED = 2**17, 2**25 - 2**16  # larger pieces go back to the system; of larger ones it learns nothing


@dataclass(frozen=True, eq=False)
class Memory:
    """A buffer in memory, its elements in C order.

    Attributes:
        pointer: The first element.
        shape: The number of elements along each axis.
        strides: How many elements apart neighbours along each axis are.
        lanes: How many iterations have an element of their own, side by side; 1 where they share it.
    """

    pointer: Any
    shape: tuple[Any, ...]
    strides: tuple[Any, ...]
    lanes: int = 1

    def count(self, builder: Any) -> Any:
        """Return the number of elements, those of all lanes together."""
        total: Any = long(self.lanes)
        for s in self.shape:
            total = times(builder, total, s)
        return total


def memory(builder: Any, pointer: Any, shape: Sequence[Any], lanes: int = 1) -> Memory:
    """Return the memory of a buffer with these sizes at an address."""
    strides: list[Any] = []
    step: Any = long(1)
    for size in reversed(shape):
        strides.append(step)
        step = times(builder, step, size)
    return Memory(pointer, tuple(shape), tuple(reversed(strides)), lanes)


def times(builder: Any, x: Any, y: Any) -> Any:
    """Return a product of sizes; those of constants are constants."""
    if isinstance(x, ir.Constant) and isinstance(y, ir.Constant):
        return long(x.constant * y.constant)
    if isinstance(x, ir.Constant) and x.constant == 1:
        return y
    if isinstance(y, ir.Constant) and y.constant == 1:
        return x
    return builder.mul(x, y, flags=("nsw",))


def plus(builder: Any, x: Any, y: Any) -> Any:
    """Return a sum of sizes; that of constants is a constant."""
    if isinstance(x, ir.Constant) and isinstance(y, ir.Constant):
        return long(x.constant + y.constant)
    if isinstance(x, ir.Constant) and x.constant == 0:
        return y
    if isinstance(y, ir.Constant) and y.constant == 0:
        return x
    return builder.add(x, y, flags=("nsw",))


def least(builder: Any, x: Any, y: Any) -> Any:
    """Return the smaller of two sizes."""
    return builder.select(builder.icmp_signed("<", x, y), x, y)


def greatest(builder: Any, x: Any, y: Any) -> Any:
    """Return the greater of two sizes."""
    return builder.select(builder.icmp_signed(">", x, y), x, y)


def last_whole(builder: Any, start: Any, stop: Any, step: int) -> Any:
    """Return where the last whole step from start ends that does not pass stop; the step is a power of two."""
    whole = builder.and_(builder.sub(stop, start), long(-step))
    return builder.add(start, greatest(builder, whole, long(0)))


def quotient(builder: Any, x: Any, divisor: int) -> Any:
    """Return a size (or vector of sizes) divided by a positive number and rounded down."""
    by, nought = (splat(builder, long(i), width_of(x)) for i in (divisor, 0))
    rough = builder.sdiv(x, by)
    rest = builder.sub(x, builder.mul(rough, by))
    return builder.add(rough, builder.sext(builder.icmp_signed("<", rest, nought), x.type))


def size(builder: Any, size: Size, names: Mapping[str, Any]) -> Any:
    """Return a size as a number, given what its names stand for."""
    if not isinstance(size, Dim):
        return long(size)
    total: Any = long(0)
    for monomial, coefficient in size.terms:
        term: Any = long(coefficient)
        for atom in monomial:
            factor = (
                quotient(builder, _size(builder, atom.numerator, names), atom.denominator)
                if isinstance(atom, Quotient)
                else names[atom]
            )
            term = times(builder, term, factor)
        total = plus(builder, total, term)
    return total


_size = size


def variable(builder: Any, kind: Any) -> Any:
    """Return room for a number that changes, on the stack of the function being written."""
    with builder.goto_entry_block():
        return builder.alloca(kind)


def stack(builder: Any, kind: Any, count: int = 1) -> Any:
    """Return the address of elements on the stack of the function being written."""
    with builder.goto_entry_block():
        room = builder.alloca(kind, size=ir.Constant(INT, count))
        room.align = _ALIGNMENT
    return room


def from_heap(builder: Any, count: Any, failed: Callable[[], None]) -> Any:
    """Return the address of so many bytes.

    Args:
        builder: Where to write.
        count: How many.
        failed: Writes what happens where there is no memory, up to the return of the function.
    """
    address = builder.call(allocator(builder.module), [count])
    nothing = ir.Constant(BYTE.as_pointer(), None)
    with builder.if_then(builder.icmp_unsigned("==", address, nothing), likely=False):
        failed()
    return address


def to_heap(builder: Any, address: Any) -> None:
    """Give bytes back."""
    builder.call(intrinsic(builder.module, "free", ir.VoidType(), [BYTE.as_pointer()]), [address])


def keep_pages(builder: Any, count: Any) -> None:
    """Make the C library keep as many bytes as a call takes, which it would give back to the system after each call.

    Pages that are given back are zeroed when they come again, which takes longer than to compute what goes there. The
    GNU library keeps twice as much as the largest piece that it has been given back, and one that nobody touches costs
    next to nothing. Taken at every call, it would lie behind the results, and both together would be too much to keep.
    """
    if not is_in_c_library("gnu_get_libc_version"):
        return
    most = ir.GlobalVariable(builder.module, LONG, "symgraph.kept")
    most.linkage, most.initializer = "internal", long(_GIVEN_BACK)
    with builder.if_then(builder.icmp_signed(">", count, builder.load_atomic(most, "monotonic", 8)), likely=False):
        builder.store_atomic(count, most, "monotonic", 8)
        malloc = intrinsic(builder.module, "malloc", BYTE.as_pointer(), [LONG])
        untouched = builder.call(malloc, [least(builder, count, long(_NOTICED))])
        kind = ir.FunctionType(ir.VoidType(), [untouched.type])
        builder.asm(kind, "", "r", [untouched], side_effect=True)  # or LLVM would leave both calls out
        to_heap(builder, untouched)


def blocks(builder: Any, start: Any, stop: Any, sizes: Sequence[int]) -> Iterator[tuple[Any, int]]:
    """Write loops over blocks of numbers, the largest first, and yield each one's first number and size.

    The sizes are powers of two, the last of them 1.
    """
    for size in sizes:
        middle = last_whole(builder, start, stop, size)
        with loop(builder, start, middle, size) as first:
            yield first, size
        start = middle


@dataclass
class Scratch:
    """Scratch of one function, taken from the heap in one piece, and given back."""

    raw: Any = None

    def take(
        self,
        builder: Any,
        wanted: Sequence[tuple[Buffer, int]],
        names: Mapping[str, Any],
        failed: Callable[[], None],
    ) -> dict[Buffer, Memory]:
        """Return memory for buffers, with the number of lanes of each; `failed` is as for `from_heap`."""
        made: dict[Buffer, Memory] = {}
        dynamic: list[tuple[Buffer, int, tuple[Any, ...], Any]] = []
        total: Any = long(_ALIGNMENT)
        left = ON_STACK
        for buffer, lanes in wanted:
            shape = tuple(size(builder, s, names) for s in buffer.shape)
            width = buffer.dtype.itemsize
            count: Any = long(lanes)
            for s in shape:
                count = times(builder, count, s)
            if isinstance(count, ir.Constant) and count.constant * width <= left:
                left -= count.constant * width
                pointer = stack(builder, element_type(buffer.dtype), max(1, count.constant))
                made[buffer] = memory(builder, pointer, shape, lanes)
                continue
            dynamic.append((buffer, lanes, shape, total))
            bytes_needed = times(builder, count, long(width))
            rounded = builder.and_(plus(builder, bytes_needed, long(_ALIGNMENT - 1)), long(-_ALIGNMENT))
            total = plus(builder, total, rounded)
        if not dynamic:
            return made
        self.raw = from_heap(builder, total, failed)
        start = builder.and_(builder.neg(builder.ptrtoint(self.raw, LONG)), long(_ALIGNMENT - 1))
        for buffer, lanes, shape, offset in dynamic:
            place = builder.add(start, builder.sub(offset, long(_ALIGNMENT)))
            pointer = builder.bitcast(builder.gep(self.raw, [place]), element_type(buffer.dtype).as_pointer())
            made[buffer] = memory(builder, pointer, shape, lanes)
        return made

    def release(self, builder: Any) -> None:
        """Write the call that gives back what was taken."""
        if self.raw is not None:
            to_heap(builder, self.raw)


@contextmanager
def loop(builder: Any, start: Any, stop: Any, step: int = 1) -> Iterator[Any]:
    """Provide the index of a loop whose body is written within: every step-th number from start to stop."""
    with counted(builder, Number(builder, stop), Number(builder, start), step) as each:
        yield each.index.value
