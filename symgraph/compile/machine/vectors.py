"""Vectors of LLVM: one element of each of several iterations, side by side.

The functions take scalars too, as vectors of width 1, so that one text emits both forms of a loop's body.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir

from symgraph.compile.kernels.instructions import constant, llvm_type, sequence, shuffled, suffix
from symgraph.compile.kernels.lanes import rounded
from symgraph.compile.loops import Loop, MatrixVector, Outer, Statement, walk
from symgraph.dims import Dim

BIT, BYTE, INT, LONG = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
DType = np.dtype[np.generic]

CACHE_LINE = 64

GROUP = 8
"""So many vectors are summed up together; the least number of lanes."""


def native_lanes(registers: int = 4) -> int:
    """Return how many float64 so many vector registers hold, at least a group."""
    return max(GROUP, registers * register_bits() // 64)


def register_bits() -> int:
    """Return how many bits a vector register has."""
    features = binding.get_host_cpu_features()
    return 512 if features.get("avx512f") else 256 if features.get("avx2") else 128


def register_count() -> int:
    """Return how many vector registers there are: with AVX-512 and on 64-bit ARM twice as many as elsewhere."""
    return 16 if register_bits() < 512 and binding.get_process_triple().startswith(("x86_64", "i")) else 32


def lanes_of(loop: Loop) -> int:
    """Return how many iterations of a loop run side by side.

    Two registers for each number keep the processor busy and leave room for others. Where loops of unknown length run
    inside, four save more than they cost: what is the same for all lanes is loaded, and what all lanes add to one
    element summed up, half as often.
    """
    return native_lanes(4 if any(map(_is_long, walk(loop.body))) else 2)


def _is_long(statement: Statement) -> bool:
    if isinstance(statement, Loop):
        return isinstance(statement.axis.size, Dim)
    return isinstance(statement, MatrixVector | Outer)


def element_type(dtype: DType) -> Any:
    """Return the LLVM type of a number in memory."""
    return BYTE if dtype.kind == "b" else llvm_type(dtype)


def width_of(value: Any) -> int:
    """Return how many elements a value has."""
    return value.type.count if isinstance(value.type, ir.VectorType) else 1


def vector(kind: Any, width: int) -> Any:
    """Return the type of so many elements."""
    return kind if width == 1 else ir.VectorType(kind, width)


def literal(dtype: DType, value: Any) -> Any:
    """Return a number as an LLVM constant."""
    kind = llvm_type(dtype)
    if dtype.kind == "f":
        number = float(value)
        return ir.Constant(kind, rounded(number, kind) if math.isfinite(number) else number)
    return ir.Constant(kind, int(value) % 2**kind.width)


def long(value: int) -> Any:
    """Return a 64-bit integer."""
    return ir.Constant(LONG, value)


def splat(builder: Any, value: Any, width: int) -> Any:
    """Return a vector of equal elements; a value that is a vector already stays."""
    if width == 1 or isinstance(value.type, ir.VectorType):
        return value
    kind = ir.VectorType(value.type, width)
    if isinstance(value, ir.Constant):
        return constant(kind, value.constant)
    first = builder.insert_element(constant(kind, 0), value, ir.Constant(INT, 0))
    return shuffled(builder, first, first, [0] * width)


def iota(width: int) -> Any:
    """Return 0, 1, 2 ..."""
    return sequence(LONG, tuple(range(width)))


def reversed_elements(builder: Any, value: Any) -> Any:
    """Return the elements in opposite order."""
    return shuffled(builder, value, value, range(value.type.count)[::-1])


def combined(builder: Any, value: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Return all elements of a vector combined pairwise, always in the same order."""
    value = folded(builder, value, 2, combine)
    if width_of(value) == 1:
        return value
    return combine(*(builder.extract_element(value, ir.Constant(INT, i)) for i in (0, 1)))


def folded(builder: Any, value: Any, width: int, combine: Callable[[Any, Any], Any]) -> Any:
    """Return a vector of fewer elements, each combined of several."""
    while width_of(value) > width:
        half = width_of(value) // 2
        value = combine(
            shuffled(builder, value, value, range(half)), shuffled(builder, value, value, range(half, 2 * half))
        )
    return value


def sums(builder: Any, values: list[Any], combine: Callable[[Any, Any], Any]) -> Any:
    """Return the vector of the totals of as many vectors as each has elements, a power of two.

    Side by side this takes a third of the instructions of one after the other: each step adds halves of two vectors.
    """
    count = stride = len(values)
    while len(values) > 1:
        # Blocks of 2 * stride elements: the first half sums up elements of x, the second elements of y.
        stride //= 2
        half = len(values) // 2
        starts = [p // (2 * stride) * 2 * stride + p % stride + (p // stride % 2) * count for p in range(count)]
        after = [p + stride for p in starts]
        values = [
            combine(shuffled(builder, x, y, starts), shuffled(builder, x, y, after))
            for x, y in zip(values[:half], values[half:], strict=True)
        ]
    return values[0]


def transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Return the columns of a square matrix given by its rows, a power of two."""
    size = distance = len(rows)
    while distance > 1:
        # Each step exchanges the upper right and the lower left quarter of all blocks of 2 * distance.
        distance //= 2
        upper = [p if not p & distance else size + p - distance for p in range(size)]
        lower = [p + distance if not p & distance else size + p for p in range(size)]
        for i in range(size):
            if not i & distance:
                x, y = rows[i], rows[i + distance]
                rows[i], rows[i + distance] = shuffled(builder, x, y, upper), shuffled(builder, x, y, lower)
    return rows


def intrinsic(module: Any, name: str, result: Any, operands: list[Any]) -> Any:
    """Return an LLVM function by its full name, declared once."""
    found = module.globals.get(name)
    return found or ir.Function(module, ir.FunctionType(result, operands), name)


def load_vector(builder: Any, pointer: Any, width: int, mask: Any) -> Any:
    """Return consecutive elements from an address; those that a mask leaves out are not read, and 0."""
    kind = ir.VectorType(pointer.type.pointee, width)
    size = _bytes(pointer)
    address = builder.bitcast(pointer, kind.as_pointer())
    if mask is None:
        return builder.load(address, align=size)
    function = intrinsic(
        builder.module, f"llvm.masked.load.{suffix(kind)}.p0", kind, [address.type, INT, mask.type, kind]
    )
    return builder.call(function, [address, ir.Constant(INT, size), mask, constant(kind, 0)])


def prefetch(builder: Any, address: Any) -> None:
    """Ask for a cache line that will be read soon; one that does not exist does no harm."""
    kind = BYTE.as_pointer()
    function = intrinsic(builder.module, "llvm.prefetch.p0", ir.VoidType(), [kind, INT, INT, INT])
    line = builder.bitcast(address, kind)
    builder.call(function, [line, ir.Constant(INT, 0), ir.Constant(INT, 3), ir.Constant(INT, 1)])


def store_vector(builder: Any, value: Any, pointer: Any, mask: Any) -> None:
    """Write consecutive elements; those that a mask leaves out stay."""
    size = _bytes(pointer)
    address = builder.bitcast(pointer, value.type.as_pointer())
    if mask is None:
        builder.store(value, address, align=size)
        return
    name = f"llvm.masked.store.{suffix(value.type)}.p0"
    function = intrinsic(builder.module, name, ir.VoidType(), [value.type, address.type, INT, mask.type])
    builder.call(function, [value, address, ir.Constant(INT, size), mask])


def gather(builder: Any, base: Any, offsets: Any, mask: Any) -> Any:
    """Return elements at offsets from an address, counted in elements."""
    width = offsets.type.count
    kind = ir.VectorType(base.type.pointee, width)
    pointers = addresses(builder, base, offsets)
    name = f"llvm.masked.gather.{suffix(kind)}.v{width}p0"
    mask = splat(builder, ir.Constant(BIT, 1), width) if mask is None else mask
    function = intrinsic(builder.module, name, kind, [pointers.type, INT, mask.type, kind])
    return builder.call(function, [pointers, ir.Constant(INT, _bytes(base)), mask, constant(kind, 0)])


def scatter(builder: Any, value: Any, base: Any, offsets: Any, mask: Any) -> None:
    """Write elements at offsets from an address, in the order of the lanes."""
    width = offsets.type.count
    pointers = addresses(builder, base, offsets)
    name = f"llvm.masked.scatter.{suffix(value.type)}.v{width}p0"
    mask = splat(builder, ir.Constant(BIT, 1), width) if mask is None else mask
    function = intrinsic(builder.module, name, ir.VoidType(), [value.type, pointers.type, INT, mask.type])
    builder.call(function, [value, pointers, ir.Constant(INT, _bytes(base)), mask])


def addresses(builder: Any, base: Any, offsets: Any) -> Any:
    """Return a vector of pointers to elements at offsets from an address."""
    width = offsets.type.count
    start = splat(builder, builder.ptrtoint(base, LONG), width)
    scaled = builder.mul(offsets, splat(builder, long(_bytes(base)), width))
    return builder.inttoptr(builder.add(start, scaled), ir.VectorType(base.type, width))


def bits_of(kind: Any) -> int:
    """Return how many bits a number of an LLVM type has."""
    return kind.width if isinstance(kind, ir.IntType) else {"double": 64, "float": 32}[str(kind)]


def _bytes(pointer: Any) -> int:
    return bits_of(pointer.type.pointee) // 8
