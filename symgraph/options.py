"""What a user may choose about compiling, passed along as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How a graph is compiled.

    Attributes:
        optimize: Whether the graph is rewritten by the laws of algebra before it is compiled.
        cache: Whether compiled programs are kept on disk for the next process.
        cache_dir: The folder they are kept in; the user's cache folder when None.

    Example:
        >>> import symgraph as sg
        >>> sg.Options(cache=False)
        Options(optimize=True, cache=False, cache_dir=None)
    """

    optimize: bool = True
    cache: bool = True
    cache_dir: str | None = None
