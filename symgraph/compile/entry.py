"""Machine code and what it takes: what whoever calls it without detours has to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from symgraph.compile.loops import Buffer


class Entry(NamedTuple):
    """A compiled function that trusts what it is given: ``code(*values, *constants, *arrays, *sizes[, threads])``.

    Attributes:
        code: Returns a tuple of results, Python's numbers for those without axes, but no arrays that it was given.
        constants: Arrays that belong to the program.
        sizes: The names of sizes, in the order in which their numbers are given.
        numbers: For each result without axes the type that its number becomes; None for an array.
        arrays: The results that are new arrays, given to be filled; none where the code makes them itself.
        threads: How many threads it may use; None where it takes no such argument.
        in_place: Positions of results that are written over values, each with that of the value.
    """

    code: Callable[..., tuple[Any, ...]]
    constants: tuple[np.ndarray[Any, Any], ...]
    sizes: tuple[str, ...]
    numbers: tuple[type[np.generic] | None, ...]
    threads: int | None
    arrays: tuple[Buffer, ...] = ()
    in_place: Mapping[int, int] = MappingProxyType({})
