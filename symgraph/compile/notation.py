"""How indices, conditions, shapes and parts of arrays are written, in both texts of a program: in Python's notation."""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.compile.loops import Affine, Bound, Section
from symgraph.dims import Dim, Size


def index_text(index: Affine) -> str:
    """Return an index as a formula."""
    numerator = _numerator(index)
    text = numerator if index.divisor == 1 else f"({numerator}) // {index.divisor}"
    return text if index.block is None else f"{text} - {index.block.name}"


def _numerator(index: Affine) -> str:
    axis, step, offset = index.axis, index.step, index.offset
    if axis is None:
        return str(offset)
    scaled = {1: axis.name, -1: f"-{axis.name}"}.get(step, f"{step} * {axis.name}")
    if offset == 0:
        return scaled
    return f"{scaled} + {offset}" if isinstance(offset, Dim) or offset > 0 else f"{scaled} - {-offset}"


def bound_text(bound: Bound) -> str:
    """Return a condition on an index as a comparison."""
    index = index_text(bound.index)
    text = f"0 <= {index} < {bound.size}"
    return text if bound.stride == 1 else f"{text} and ({index}) % {bound.stride} == 0"


def shape_text(shape: Sequence[Size]) -> str:
    """Return a shape as it stands behind a buffer's name: ``[n,d]``."""
    return f"[{','.join(str(size) for size in shape)}]" if shape else ""


def section_text(section: Section) -> str:
    """Return a part of an array, without its band."""
    indices = ", ".join(map(index_text, section.indices))
    text = f"{section.buffer.name}[{indices}]" if indices else section.buffer.name
    return f"{text}.T" if section.transposed else text
