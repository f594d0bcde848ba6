"""What is known while statements are written: names, memory, loop indices, and which iterations run side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from symgraph.compile.loops import Axis, Block, Buffer
from symgraph.compile.machine.memory import Memory
from symgraph.compile.machine.vectors import long, width_of

INDEX_ERROR, NEGATIVE_POWER = 1, 2
"""Codes of errors that loops note; those of library calls are negative."""

NOTED = 4
"""How many numbers are noted of an error."""


@dataclass(frozen=True)
class Lanes:
    """The loop whose iterations are being written side by side.

    Attributes:
        axis: Its index.
        first: The index of the first lane.
        width: The number of lanes.
        mask: Which lanes there are; all where None.
        count: How many of them there are.
        totals: The scalars that all lanes accumulate into.
        may_be_empty: Whether the mask may leave out all lanes, so that not even what they share may be read.
    """

    axis: Axis
    first: Any
    width: int
    mask: Any
    count: Any
    totals: Mapping[str, Any]
    may_be_empty: bool = False


@dataclass(frozen=True)
class Element:
    """Which element of a memory is meant: an offset for all lanes, and how it goes on from lane to lane.

    Attributes:
        offset: The element of the first lane; or a vector of the elements of all.
        step: How far the next lane's element is: an integer, or a number known at run time.
        invalid: Lanes whose index is out of bounds.
    """

    offset: Any
    step: Any = 0
    invalid: Any = None

    @property
    def is_shared(self) -> bool:
        """Whether it is the same element for all lanes."""
        return width_of(self.offset) == 1 and isinstance(self.step, int) and self.step == 0


@dataclass
class Scope:
    """What the statements of a function can see.

    Attributes:
        names: Scalars, and what the names of sizes stand for.
        cells: Scalars that change: where each is.
        memories: Buffers.
        indices: Loop indices; of a loop in lanes that of the first lane.
        error: Where an error is noted: its code, its site, and two numbers.
        threads: The threads of the call; None where this is one of them.
    """

    names: dict[str, Any]
    cells: dict[str, Any]
    memories: dict[Buffer, Memory]
    indices: dict[Axis | Block, Any]
    error: Any
    threads: Any


def report(builder: Any, error: Any, code: Any, site: int = -1, first: Any = None, second: Any = None) -> None:
    """Note an error, unless one is noted: its code, which origin it has, and what else there is to say."""
    old = builder.cmpxchg(error, long(0), code, "monotonic", "monotonic")
    with builder.if_then(builder.extract_value(old, 1)):
        for place, value in enumerate((long(site), first, second), start=1):
            if value is not None:
                builder.store(value, builder.gep(error, [long(place)]))
