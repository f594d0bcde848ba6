"""Machine code and what it takes: what whoever calls it without detours has to know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Entry(NamedTuple):
    """A compiled function that trusts its arguments, called as ``code(*values, *constants, *sizes[, threads])``.

    Attributes:
        code: Returns a tuple of results: new arrays, and Python's numbers for results without axes.
        constants: Arrays that belong to the program.
        sizes: The names of sizes, in the order in which their numbers are given.
        numbers: For each result without axes the type that its number becomes; None for an array.
        threads: How many threads it may use; None where it takes no such argument.
    """

    code: Callable[..., tuple[Any, ...]]
    constants: tuple[np.ndarray[Any, Any], ...]
    sizes: tuple[str, ...]
    numbers: tuple[type[np.generic] | None, ...]
    threads: int | None
