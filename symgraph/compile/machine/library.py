"""What machine code calls on whole arrays: matrix products, linear algebra, scans and places of extremes.

Each is written into a module once, as a function of its own, and called from there on. Statuses other than 0 are
negative; `ERRORS` says what they mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from symgraph.compile.machine import factors, positive, scans
from symgraph.compile.machine.language import invoke
from symgraph.compile.machine.memory import times
from symgraph.compile.machine.products import gemm, multiply_stacks, syrk
from symgraph.compile.machine.threads import POINTER
from symgraph.compile.machine.vectors import DType, long

__all__ = ["ERRORS", "NO_MEMORY", "emit_call", "gemm", "needs_blas", "syrk"]

NO_MEMORY = factors.NO_MEMORY
"""The status of an allocation that failed."""

ERRORS: dict[int, tuple[type[Exception], str]] = {
    factors.NOT_POSITIVE: (np.linalg.LinAlgError, "Matrix is not positive definite"),
    factors.SINGULAR: (np.linalg.LinAlgError, "Singular matrix"),
    NO_MEMORY: (MemoryError, "there is not enough memory"),
    factors.TOO_MANY: (ValueError, "more right-hand sides than LAPACK can count, which are 2147483647"),
}
"""The exception and its message for each status."""

_NUMBERS_OF_MATRICES = {"det": factors.det, "det_sign": factors.det_sign, "logabsdet": factors.logabsdet}
_MATRICES_OF_MATRICES = {
    "cholesky": positive.cholesky, "cholesky_pullback": positive.cholesky_pullback, "inv": factors.inv,
}  # fmt: skip
_OF_SYSTEMS = {"solve": factors.solve, "solve_triangular": factors.solve_triangular}
_SCANS = {"cumulative_sum": scans.cumulative_sum, "exclusive_prod": scans.exclusive_prod}
_WITHOUT_BLAS = {*_SCANS, "argmax", "argmin"}


def needs_blas(name: str, dtype: DType) -> bool:
    """Tell whether a call reaches BLAS or LAPACK, so that it must stand between `blas.enter` and `blas.leave`."""
    return dtype.kind == "f" and name not in _WITHOUT_BLAS


def emit_call(
    builder: Any,
    name: str,
    dtype: DType,
    result: Any,
    operands: Sequence[Any],
    shapes: Sequence[Sequence[Any]],
    transposed: Sequence[bool],
    attributes: Sequence[Any],
    threads: Any = None,
) -> Any:
    """Write a call; return its status, a 32-bit integer that is 0 when all is well, or None where it cannot fail.

    Args:
        builder: Where to write it.
        name: The operation: matmul, cholesky, cholesky_pullback, solve, solve_triangular, inv, det, det_sign,
            logabsdet, cumulative_sum, exclusive_prod, argmax or argmin.
        dtype: The type of the operands' elements, which is that of the result's for all but argmax and argmin.
        result: The first element of the result, which shares no memory with an operand.
        operands: The first elements of the operands, which lie in C order without gaps.
        shapes: Their sizes in memory, 64-bit integers of LLVM.
        transposed: Whether an operand of matmul is read with its last two axes exchanged.
        attributes: Those of the operation.
        threads: The threads of the call, which may share the work of one large product or division; results do not
            depend on their number. This one alone where None.

    Raises:
        TypeError: there is no such operation.
    """
    module = builder.module
    if name == "matmul":
        _matmul(builder, dtype, result, operands, shapes, transposed, threads)
        return None
    x, shape = operands[0], shapes[0]
    if name in _SCANS:
        called = _SCANS[name](module, dtype, _is_last(shape, attributes[0]))
        invoke(builder, called, result, x, *_around(builder, shape, attributes[0]))
        return None
    if name in ("argmax", "argmin"):
        called = scans.place_of_extreme(module, dtype, name == "argmax", _is_last(shape, attributes[0][0]))
        invoke(builder, called, result, x, *_around(builder, shape, attributes[0][0]))
        return None
    batch, n = _product(builder, shape[:-2]), shape[-1]
    shared = threads is not None
    threads = threads if shared else ir.Constant(POINTER, None)
    if name in _MATRICES_OF_MATRICES:
        return invoke(builder, _MATRICES_OF_MATRICES[name](module, dtype, shared), result, *operands, batch, n, threads)
    if name in _NUMBERS_OF_MATRICES:
        return invoke(builder, _NUMBERS_OF_MATRICES[name](module, dtype), result, x, batch, n)
    if name in _OF_SYSTEMS:
        columns = shapes[1][-1] if len(shapes[1]) > 1 else long(1)
        called = _OF_SYSTEMS[name](module, dtype, _is_one(columns), shared)
        return invoke(builder, called, result, x, operands[1], batch, n, columns, threads, *attributes)
    raise TypeError(f"no library function for {name}")


def _is_one(size: Any) -> bool:
    return isinstance(size, ir.Constant) and size.constant == 1


def _is_last(shape: Sequence[Any], axis: int) -> bool:
    return all(_is_one(size) for size in shape[axis + 1 :])


def _product(builder: Any, sizes: Sequence[Any]) -> Any:
    total: Any = long(1)
    for size in sizes:
        total = times(builder, total, size)
    return total


def _around(builder: Any, shape: Sequence[Any], axis: int) -> tuple[Any, Any, Any]:
    return _product(builder, shape[:axis]), shape[axis], _product(builder, shape[axis + 1 :])


def _matmul(
    builder: Any,
    dtype: DType,
    result: Any,
    operands: Sequence[Any],
    shapes: Sequence[Sequence[Any]],
    transposed: Sequence[bool],
    threads: Any,
) -> None:
    """Write the product of vectors, of matrices, or of stacks of them that are equally many or one."""
    left = shapes[0] if len(shapes[0]) > 1 else [long(1), *shapes[0]]
    right = shapes[1] if len(shapes[1]) > 1 else [*shapes[1], long(1)]
    m, k = reversed(left[-2:]) if transposed[0] else left[-2:]
    n = right[-2] if transposed[1] else right[-1]
    stacks = [_product(builder, shape[:-2]) for shape in (left, right)]
    batch = stacks[0] if len(left) > 2 else stacks[1]
    strides = [times(builder, *shape[-2:]) if len(shape) > 2 else long(0) for shape in (left, right)]
    if len(right) == 2 and not transposed[0]:  # all rows of the left stack at once
        m, batch = times(builder, stacks[0], m), long(1)
    if len(left) == len(right) == 2:
        gemm(
            builder, dtype, m, n, k, operands[0], left[1], transposed[0], operands[1], right[1], transposed[1],
            result, n, False, threads,
        )  # fmt: skip
        return
    multiply_stacks(
        builder, dtype, operands[0], operands[1], result, batch, m, n, k, (strides[0], strides[1]),
        (transposed[0], transposed[1]),
    )  # fmt: skip
