"""Writes the statements that work on whole arrays: products of matrices, and calls of the library.

A panel or a section becomes the address of its first element, its sizes, and the distance of its rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from symgraph.compile.loops import (
    Affine,
    Buffer,
    Call,
    MatrixVector,
    Multiply,
    Outer,
    Panel,
    Section,
    Transposed,
    operand_dtype,
)
from symgraph.compile.machine import columns, library, memory, rows
from symgraph.compile.machine.memory import times
from symgraph.compile.machine.operands import Operands
from symgraph.compile.machine.scope import report
from symgraph.compile.machine.vectors import LONG, long


def multiply(operands: Operands, product: Multiply) -> None:
    """Write a product of matrices, or of rows with a vector."""
    left, right, result = product.left, product.right, product.result
    if product.is_of_vector:
        _multiply_rows(operands, product)
        return
    if result.transposed:  # the same product as that of the transposes, whose result is the transpose
        left, right = (replace(panel, transposed=not panel.transposed) for panel in (right, left))
    m, k = _extent(operands, left)
    _, n = _extent(operands, right)
    (c, ldc), (a, lda), (b, ldb) = (_panel(operands, panel) for panel in (result, left, right))
    dtype = result.buffer.dtype
    if product.symmetric:
        library.syrk(
            operands.builder, dtype, m, k, a, lda, left.transposed, c, ldc, product.accumulate,
        )  # fmt: skip
        return
    library.gemm(
        operands.builder, dtype, m, n, k,
        a, lda, left.transposed, b, ldb, right.transposed, c, ldc, product.accumulate, operands.scope.threads,
    )  # fmt: skip


def _multiply_rows(operands: Operands, product: Multiply) -> None:
    """Write a product of a block's rows with a vector, or that of their transpose, which is added to its result."""
    left, dtypes = product.left, (product.left.buffer.dtype, product.result.buffer.dtype)
    sizes = _extent(operands, replace(left, transposed=False))
    (a, _), (x, _), (y, _) = (_panel(operands, panel) for panel in (left, product.right, product.result))
    if left.transposed:
        rows.add(operands.builder, dtypes[0], *sizes, a, x, y)
    else:
        rows.multiply(operands.builder, dtypes, *sizes, a, x, y)


def _extent(operands: Operands, panel: Panel) -> tuple[Any, Any]:
    """Return the rows and columns of a panel as it is read."""
    builder, scope = operands.builder, operands.scope
    shape = list(scope.memories[panel.buffer].shape)
    if panel.block is not None:
        rest = builder.sub(operands.size(panel.block.size), scope.indices[panel.block])
        shape[panel.along] = memory.least(builder, rest, long(panel.block.rows))
    return (shape[1], shape[0]) if panel.transposed else (shape[0], shape[1])


def _panel(operands: Operands, panel: Panel) -> tuple[Any, Any]:
    """Return the first element of a panel and the distance of its rows in memory."""
    builder, scope = operands.builder, operands.scope
    place = scope.memories[panel.buffer]
    pointer = place.pointer
    if panel.block is not None and not panel.local:
        pointer = builder.gep(pointer, [times(builder, scope.indices[panel.block], place.strides[panel.along])])
    return pointer, place.strides[0]


def multiply_lanes(operands: Operands, product: MatrixVector) -> None:
    """Write a product of a matrix with a vector that each lane has of its own."""
    assert operands.lanes is not None
    a, x, y = (_first(operands, section) for section in (product.matrix, product.vector, product.result))
    distance = operands.scope.memories[product.matrix.buffer].strides[-2]
    steps = (long(1), distance) if product.matrix.transposed else (distance, long(1))
    sizes = [operands.size(size) for size in product.matrix.shape]
    columns.multiply(
        operands.builder, operands.lanes.width, sizes, a, steps, x, y, product.accumulate, product.matrix.band
    )


def add_outer(operands: Operands, product: Outer) -> None:
    """Write a sum of outer products, one for each lane."""
    lanes = operands.lanes
    assert lanes is not None
    c, u, v = (_first(operands, section) for section in (product.result, product.left, product.right))
    distance = operands.scope.memories[product.result.buffer].strides[-2]
    sizes = [operands.size(size) for size in product.result.shape]
    columns.add_outer(operands.builder, lanes.width, lanes.count, sizes, u, v, c, distance, product.result.band)


def _first(operands: Operands, section: Section) -> Any:
    """Return the address of a section's first element."""
    builder, place = operands.builder, operands.scope.memories[section.buffer]
    zeros = [Affine(None)] * len(section.shape)
    offset = operands.locate(place, [*section.indices, *zeros]).offset
    return builder.gep(place.pointer, [times(builder, offset, long(place.lanes))])


def call(operands: Operands, statement: Call) -> None:
    """Write a call of the library, and note what is wrong."""
    builder, scope = operands.builder, operands.scope
    pointers, shapes = [], []
    for operand in statement.operands:
        whole = operand.buffer if isinstance(operand, Transposed) else operand
        if isinstance(whole, Buffer):
            pointers.append(scope.memories[whole].pointer)
            shapes.append(scope.memories[whole].shape)
        else:
            value = operands.to_memory(operands.value(whole), whole.dtype)
            pointers.append(memory.stack(builder, value.type))
            shapes.append(())
            builder.store(value, pointers[-1])
    transposed = [isinstance(operand, Transposed) for operand in statement.operands]
    result = scope.memories[statement.result].pointer
    status = library.emit_call(
        builder, statement.function, operand_dtype(statement), result, pointers, shapes, transposed,
        statement.attributes, scope.threads,
    )  # fmt: skip
    if status is not None:
        code = builder.sext(status, LONG)
        with builder.if_then(builder.icmp_signed("!=", code, long(0)), likely=False):
            report(builder, scope.error, code, statement.site)
