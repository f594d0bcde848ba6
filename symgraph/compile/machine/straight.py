"""Long straight-line code, cut into functions of moderate size.

LLVM's time for one function grows faster than its length, so thousands of scalar statements in a row are written as
functions of a few hundred. What one of them computes and another needs stands in a row of cells in memory between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from symgraph.compile import loops
from symgraph.compile.loops import Statement

LENGTH = 256
"""How many statements a function has."""


@dataclass(frozen=True)
class Stretch:
    """Scalar statements without loops, long enough to be cut."""

    pieces: tuple[tuple[Statement, ...], ...]


def stretches(body: Sequence[Statement]) -> list[Statement | Stretch]:
    """Return the statements with long runs of scalar ones cut into pieces."""
    found: list[Statement | Stretch] = []
    run: list[Statement] = []
    for statement in [*body, None]:
        if isinstance(statement, loops.Let | loops.Store):
            run.append(statement)
            continue
        if len(run) > 2 * LENGTH:
            found.append(Stretch(tuple(tuple(run[i : i + LENGTH]) for i in range(0, len(run), LENGTH))))
        else:
            found.extend(run)
        run = []
        if statement is not None:
            found.append(statement)
    return found
