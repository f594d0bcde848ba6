"""What a loop costs, as a polynomial in the sizes: enough to tell whether threads are worth starting, and for how many.

The unit is one arithmetic operation of one lane: Rosenbrock's function with its gradient takes about twenty for each
element, and ``python -m benchmarks rosenbrock`` tells how long a million elements take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symgraph.compile import loops
from symgraph.compile.loops import Axis, Block, Statement
from symgraph.compile.machine.threads import MOST_CHUNKS
from symgraph.dims import Size, product

CHUNK = 250_000
"""Units of one chunk: enough to be handed to a thread that is waiting for work."""

STARTING = 4_000_000
"""Units of a loop for which threads are started: on two, as much is saved as starting them and waiting costs."""

COPY = 16
"""Units for each byte of a copy of what chunks add to: new memory, zeroed, and added to the others in the end."""

_FUNCTION = 16
_READ = 2  # to multiply an element with one number takes less time than to read it from memory
_ALONE = 6  # what a lane loses when it works alone
_CHEAP = frozenset({"square", "abs", "sign", "reciprocal", "relu", "maximum", "minimum", "isnan", "isfinite", "sqrt"})


def chunk_count(work: Any, copied: Any, least: Callable[[Any, Any], Any], root: Callable[[Any], Any]) -> Any:
    """Return how many chunks a loop is worth: one for so much work, and no more than pay for their copies.

    Copies are added up one after the other. Work divided among many chunks and the sum of their copies take least time
    together where each takes the same: with as many chunks as the root of how many copies the work is worth.

    Args:
        work: What the loop costs. This and all other numbers are Python's, or those of code that is being written.
        copied: The bytes of what each chunk has a copy of; None where there is nothing.
        least: Returns the smaller of two numbers.
        root: Returns the integer nearest to a square root.
    """
    chunks = least(work // CHUNK, MOST_CHUNKS)
    return chunks if copied is None else least(chunks, root(work // (copied * COPY + 1)))


def cost(body: Sequence[Statement], in_lanes: bool = False) -> Size:
    """Return the units that statements cost."""
    total: Size = 0
    for statement in body:
        match statement:
            case loops.Loop(axis=Block(), body=inner):
                total = total + cost(inner)
            case loops.Loop(axis=Axis(size=size, start=start), body=inner, lanes=lanes):
                total = total + (size - start) * cost(inner, in_lanes or lanes)
            case loops.Let():
                weight = _FUNCTION if is_function(statement) else 1
                total = total + (weight if in_lanes else weight * _ALONE)
            case loops.Store() | loops.Accumulate():
                total = total + (2 if in_lanes else 2 * _ALONE)
            case loops.Fill(buffer=buffer):
                total = total + product(buffer.shape)
            case loops.MatrixVector(matrix=matrix) | loops.Outer(result=matrix):
                total = total + product(matrix.shape)
            case loops.Multiply(left=left, right=right):
                rows, inner_size = left.buffer.shape if not left.transposed else left.buffer.shape[::-1]
                columns = _READ if statement.is_of_vector else right.buffer.shape[0 if right.transposed else 1]
                if left.local and left.block is not None:  # one block stands for all its rows
                    whole = left.block.size
                    rows, inner_size = (whole, inner_size) if (left.along == 1) == left.transposed else (rows, whole)
                total = total + rows * inner_size * columns
    return total


def is_function(let: loops.Let) -> bool:
    """Tell whether a scalar is computed by a function: by many operations."""
    return let.template is None and let.operation not in _CHEAP
