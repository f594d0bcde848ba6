"""The tape as a picture, in Graphviz's language."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from symgraph.eager.tape import AccumulateGrad, BackwardNode, Node
from symgraph.eager.tensor import Tensor
from symgraph.errors import EagerError


class Dot:
    """A graph in the Dot language.

    ``source`` is its text, which needs no other package; ``render``, ``save`` and showing it in a notebook go
    through the package ``graphviz`` and the program ``dot``.
    """

    def __init__(self, name: str = "tape") -> None:
        self.name = name
        self._lines: list[str] = []

    def node(self, key: str, label: str, color: str | None = None) -> None:
        """Add a node."""
        style = f" style=filled fillcolor={color}" if color else ""
        self._lines.append(f"  {key} [label={_quoted(label)}{style}]")

    def edge(self, tail: str, head: str) -> None:
        """Add an arrow."""
        self._lines.append(f"  {tail} -> {head}")

    @property
    def source(self) -> str:
        """The text in the Dot language."""
        start = f"digraph {self.name} {{\n  node [shape=box fontname=monospace fontsize=10 height=0.2]\n"
        return start + "\n".join(self._lines) + "\n}\n"

    def __str__(self) -> str:
        return self.source

    def render(self, filename: str = "tape", format: str = "pdf", view: bool = False, cleanup: bool = False) -> str:
        """Write the source to ``filename`` and its picture to ``filename.format``; return the picture's path.

        Raises:
            EagerError: the package ``graphviz`` or the program ``dot`` is not installed.
        """
        graphviz = _graphviz()
        try:
            path: str = graphviz.Source(self.source).render(filename, format=format, view=view, cleanup=cleanup)
        except graphviz.ExecutableNotFound:
            raise EagerError(
                "drawing needs Graphviz's program dot on the PATH (https://graphviz.org/download); the Dot text is in "
                ".source"
            ) from None
        return path

    def _repr_svg_(self) -> str:
        text: str = _graphviz().Source(self.source).pipe("svg", encoding="utf-8")
        return text


def _graphviz() -> Any:
    try:
        return importlib.import_module("graphviz")
    except ImportError:
        raise EagerError(
            "drawing needs the package graphviz (pip install graphviz); the Dot text is in .source"
        ) from None


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def make_dot(var: Tensor | tuple[Tensor, ...], params: Mapping[str, Tensor] | None = None) -> Dot:
    """Return the tape behind tensors as a graph: leaves are blue, steps grey, results green.

    Args:
        var: One tensor or several.
        params: Names for leaves.

    Example:
        >>> import symgraph.eager as torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> print(torch.make_dot((x * x).sum(), params={"x": x}).source.count("->"))
        5
    """
    names = {id(tensor): name for name, tensor in (params or {}).items()}
    picture = Dot()
    keys: dict[int, str] = {}
    kept: list[BackwardNode] = []
    results = var if isinstance(var, tuple) else (var,)
    stack: list[BackwardNode] = []

    def key_of(node: BackwardNode) -> str:
        known = keys.get(id(node))
        if known is None:
            known = keys[id(node)] = f"n{len(keys)}"
            kept.append(node)
            stack.append(node)
            picture.node(known, node.name(), "lightgrey")
        return known

    for position, result in enumerate(results):
        edge = result._edge_of()
        picture.node(f"result{position}", _described(names.get(id(result), ""), result), "darkolivegreen1")
        if edge is not None:
            picture.edge(key_of(edge[0]), f"result{position}")
        while stack:
            node = stack.pop()
            if isinstance(node, AccumulateGrad):
                leaf = f"leaf{keys[id(node)]}"
                picture.node(leaf, _described(names.get(id(node.variable), ""), node.variable), "lightblue")
                picture.edge(leaf, keys[id(node)])
            for parent in node.parents:
                if parent is not None:
                    picture.edge(key_of(parent[0]), keys[id(node)])
    return picture


def _described(name: str, tensor: Tensor) -> str:
    shape = f"({', '.join(map(str, tensor.shape))})"
    return f"{name}\n {shape}" if name else shape


__all__ = ["Dot", "Node", "make_dot"]
