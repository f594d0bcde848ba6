"""The values of a graph's variables, as one session has them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from sys import getrefcount
from typing import Any

import numpy as np

from symgraph.errors import CallError
from symgraph.expr import Expr
from symgraph.graph import Graph


def copied(value: Any) -> Any:
    """Return a value in memory of its own; numbers are nobody's."""
    return value.copy() if isinstance(value, np.ndarray) else value


class Values:
    """Where the values of variables live. It may be used from many threads.

    Args:
        graph: Whose variables they are; it gives the initial values.

    Attributes:
        lock: Held by whoever reads values and then writes others that depend on them.
        closed: Whether they have been let go.
    """

    def __init__(self, graph: Graph) -> None:
        self.lock = threading.RLock()
        self.closed = False
        self._graph = graph
        self._values: dict[Expr, Any] = {}

    def read(self, variables: Iterable[Expr], changed: Iterable[Expr] = ()) -> list[Any]:
        """Return the values of variables as they are now; nobody writes to these arrays while someone holds them.

        Args:
            variables: Those wanted.
            changed: Those among them over whose arrays the caller, who holds the lock, is going to write. Where
                somebody else still holds such an array, a copy takes its place first.
        """
        with self.lock:
            self.check_open()
            found = self._values
            for variable in changed:
                if variable in found and getrefcount(found[variable]) > _ALONE:
                    found[variable] = found[variable].copy()
            return [self._current(variable) for variable in variables]

    def write(self, values: Mapping[Expr, Any]) -> None:
        """Replace the values of variables together by arrays that nobody else holds."""
        with self.lock:
            self.check_open()
            self._values.update(values)

    def check_open(self) -> None:
        """Check that the session is not closed.

        Raises:
            CallError: it is.
        """
        if self.closed:
            raise CallError("the session is closed")

    def close(self) -> None:
        """Let go of all values."""
        with self.lock:
            self.closed = True
            self._values.clear()

    def _current(self, variable: Expr) -> Any:
        if variable not in self._values:
            self._values[variable] = self._graph.initial_value(variable).copy()[()]
        return self._values[variable]


_ONE: Mapping[None, object] = {None: object()}
_ALONE = getrefcount(_ONE[None])
"""The count of references to what is nobody's but a dictionary's."""
