"""Nested structures of values: lists, tuples and dicts, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def flatten(structure: Any) -> list[Any]:
    """Return the leaves of a structure, in order; whatever is no list, tuple or mapping is a leaf.

    Example:
        >>> flatten([1, {"a": 2, "b": (3, 4)}])
        [1, 2, 3, 4]
    """
    return [leaf for _, leaf in _walk(structure, "")]


def paths(structure: Any, root: str) -> list[str]:
    """Return where each leaf of a structure stands, as Python would say it.

    Example:
        >>> paths([1, {"a": 2}], "inputs")
        ['inputs[0]', "inputs[1]['a']"]
    """
    return [path for path, _ in _walk(structure, root)]


def _walk(structure: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(structure, Mapping):
        for key, item in structure.items():
            yield from _walk(item, f"{path}[{key!r}]")
    elif isinstance(structure, list | tuple):
        for i, item in enumerate(structure):
            yield from _walk(item, f"{path}[{i}]")
    else:
        yield path, structure


def restore(structure: Any, leaves: Sequence[Any]) -> Any:
    """Return a structure of the same form with other leaves.

    Example:
        >>> restore([1, {"a": 2}], ["x", "y"])
        ['x', {'a': 'y'}]
    """
    return _restore(structure, iter(leaves))


def _restore(structure: Any, leaves: Iterator[Any]) -> Any:
    if isinstance(structure, Mapping):
        return {key: _restore(item, leaves) for key, item in structure.items()}
    if isinstance(structure, list | tuple):
        items = [_restore(item, leaves) for item in structure]
        if isinstance(structure, list):
            return items
        return type(structure)(*items) if hasattr(structure, "_fields") else tuple(items)
    return next(leaves)
