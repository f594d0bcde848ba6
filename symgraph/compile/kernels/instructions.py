"""LLVM's types, constants and intrinsics for numbers and for vectors of numbers alike.

llvmlite's builder takes vectors in most instructions; what it lacks stands here. Values of a loop's iterations that run
side by side are one vector `<W x T>`, and the same code is emitted for it as for one number.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir

WIDEST = '"prefer-vector-width"="512"'
"""An attribute of functions: LLVM keeps to 256 bits where the first processors with AVX-512 slowed down; vectors here
gain from 512. llvmlite's own `add` knows no attributes with values: `set.add(function.attributes, WIDEST)`."""

BOOLEAN = ir.IntType(1)
_TYPES = {"f8": ir.DoubleType(), "f4": ir.FloatType(), "b1": BOOLEAN}


@cache
def has_avx512() -> bool:
    """Return whether the processor has AVX-512."""
    return bool(binding.get_host_cpu_features().get("avx512f"))


class _Splat(ir.Constant):  # type: ignore[misc]
    """A vector whose elements are one constant, written once."""

    def _get_reference(self) -> str:
        return f"splat ({self.type.element} {self.constant[0].get_reference()})"


def llvm_type(dtype: np.dtype[Any], width: int | None = None) -> Any:
    """Return the LLVM type of a number of this dtype, or of a vector of so many."""
    element = _TYPES.get(dtype.str[1:]) or ir.IntType(8 * dtype.itemsize)
    return element if width is None else ir.VectorType(element, width)


def element_of(kind: Any) -> Any:
    """Return the type of a vector's elements, or the type itself."""
    return kind.element if isinstance(kind, ir.VectorType) else kind


def width_of(kind: Any) -> int | None:
    """Return how many elements a vector type has, None for other types."""
    return kind.count if isinstance(kind, ir.VectorType) else None


def resized(kind: Any, element: Any) -> Any:
    """Return a type of as many elements as `kind` has, of another type."""
    return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element


def constant(kind: Any, number: float | int) -> Any:
    """Return a number as a constant of a type; in a vector it stands in every element."""
    element = element_of(kind)
    if isinstance(element, ir.IntType):
        number = int(number) % 2**element.width
    return _Splat(kind, number) if isinstance(kind, ir.VectorType) else ir.Constant(kind, number)


def suffix(kind: Any) -> str:
    """Return what stands for a type in the names of overloaded functions: ``f64``, ``v8f64``, ``v8i1``."""
    element = element_of(kind)
    name = {"double": "f64", "float": "f32"}.get(str(element)) or str(element)
    return f"v{kind.count}{name}" if isinstance(kind, ir.VectorType) else name


def intrinsic(builder: Any, name: str, values: Sequence[Any], result: Any = None, *more: Any) -> Any:
    """Emit a call of an LLVM intrinsic that is overloaded by its first argument.

    Args:
        builder: Where.
        name: The name between ``llvm.`` and the type.
        values: The arguments.
        result: The type of the result, if not the first argument's.
        more: Further types in the intrinsic's name.
    """
    kinds = [value.type for value in values]
    full = ".".join(["llvm", name, *(suffix(kind) for kind in (kinds[0], *more))])
    module = builder.module
    function = module.globals.get(full)
    if function is None:
        function = ir.Function(module, ir.FunctionType(result or kinds[0], kinds), full)
    return builder.call(function, values)


def any_lane(builder: Any, condition: Any) -> Any:
    """Return whether a condition holds in any lane."""
    if not isinstance(condition.type, ir.VectorType):
        return condition
    return intrinsic(builder, "vector.reduce.or", [condition], BOOLEAN)


def section(builder: Any, vector: Any, start: int, count: int) -> Any:
    """Return some neighbouring elements of a vector."""
    return shuffled(builder, vector, vector, range(start, start + count))


def joined(builder: Any, vectors: Sequence[Any]) -> Any:
    """Return vectors of one length, whose number is a power of two, as one vector."""
    vectors = list(vectors)
    while len(vectors) > 1:
        vectors = [
            shuffled(builder, first, second, range(2 * first.type.count))
            for first, second in zip(vectors[::2], vectors[1::2], strict=True)
        ]
    return vectors[0]


def shuffled(builder: Any, first: Any, second: Any, chosen: Sequence[int]) -> Any:
    """Return elements of two vectors, those of the second counted on."""
    return builder.shuffle_vector(first, second, sequence(ir.IntType(32), tuple(chosen)))


@functools.cache
def sequence(element: Any, numbers: tuple[int, ...]) -> Any:
    """Return a vector of integers as a constant, which puts itself into words once: that takes long."""
    return ir.Constant(ir.VectorType(element, len(numbers)), list(numbers))
