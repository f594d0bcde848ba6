"""Formulas as text that reads like Python with NumPy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from symgraph.dims import Dim, names
from symgraph.errors import ExportError
from symgraph.export.naming import ATOM, SIGN_PRECEDENCE, Names, shape_text, size_text
from symgraph.export.printing import (
    Piece,
    View,
    assemble,
    bracket,
    combine,
    expanded_entries,
    index_text,
    slice_texts,
    view,
)
from symgraph.expr import Expr, constant_value, topological
from symgraph.op import Kind
from symgraph.structure import flatten, paths

_LIMIT = 160
_HEAVY = 2
_LARGE = 12


def to_text(e: Expr | Sequence[Expr] | Mapping[str, Expr]) -> str:
    """Return expressions as text that reads like Python with NumPy.

    Sub-expressions that several places use, and those too long to read, become lines ``t1 = ...`` of their
    own, so that the text is linear in the size of the graph. Two terms whose order only matters for rounding
    lose their brackets.

    Args:
        e: One node, several (one line each, sharing the named lines), or nodes by name (``name = ...``).

    Example:
        >>> import symgraph as sg
        >>> x, y = sg.placeholder("x", ("n",)), sg.placeholder("y")
        >>> print(sg.to_text(sg.sum(sg.exp(-(x - y) ** 2))))
        sum(exp(-(x - y)**2))
    """
    outputs, labels = given_outputs(e)
    printer = _TextPrinter(outputs)
    lines, pieces = assemble(
        outputs, printer.children, printer.write, lambda node: printer.names.number("t"), heavy=_HEAVY, limit=_LIMIT
    )
    shown = [f"{line.name} = {line.text}" for line in lines]
    for label, piece in zip(labels, pieces, strict=True):
        shown.append(piece.text if label is None else f"{label} = {piece.text}")
    return "\n".join(shown)


def given_outputs(e: Expr | Sequence[Expr] | Mapping[str, Expr]) -> tuple[list[Expr], list[str | None]]:
    """Return the nodes that a caller asks to print, and the name for each, if any.

    Raises:
        ExportError: something is not a node of a static graph.
    """
    if isinstance(e, Mapping):
        outputs = flatten(e)
        # The path ['w'][0] is the label w_0.
        labels = ["_".join(re.findall(r"[^\[\]']+", path)) for path in paths(e, "")]
    else:
        outputs, labels = flatten(e), []
    for node in outputs:
        if not isinstance(node, Expr):
            raise ExportError(f"a node of a static graph is expected, got {type(node).__name__}")
    return outputs, [*labels] or [None] * len(outputs)


def number_text(value: float | int | bool, dtype: np.dtype[Any]) -> str:
    """Return a number as a person writes it: ``2`` for 2.0, ``0.1`` for the nearest float32 to it."""
    if dtype.kind != "f":
        return str(value)
    if value != value:
        return "nan"
    if value in (float("inf"), -float("inf")):
        return "inf" if value > 0 else "-inf"
    if value == int(value) and abs(value) < 1e16 and (value or str(value)[0] != "-"):
        return str(int(value))
    return str(dtype.type(value))


class _TextPrinter:
    def __init__(self, outputs: Sequence[Expr]) -> None:
        nodes = topological(outputs)
        leaves = [node for node in nodes if node.op.name in ("placeholder", "variable")]
        self.names = Names()
        self.leaves = {leaf: self.names.claim(leaf.attrs[0]) for leaf in sorted(leaves, key=lambda n: n.attrs[1])}
        sizes = {name for node in nodes for size in node.type.shape if isinstance(size, Dim) for name in names(size)}
        self.sizes = {name: self.names.claim(name) for name in sorted(sizes)}
        self._views: dict[Expr, View] = {}

    def view(self, node: Expr) -> View:
        found = self._views.get(node)
        if found is None:
            found = self._views[node] = view(node)
        return found

    def children(self, node: Expr) -> Sequence[Expr]:
        return self.view(node).args

    def write(self, node: Expr, pieces: list[Piece]) -> Piece:
        if node.op.kind is Kind.LEAF:
            return self._leaf(node)
        shown = self.view(node)
        writer = _WRITERS.get(shown.name)
        if writer is not None:
            return writer(self, shown, node, pieces)
        attrs = {name: _attribute_text(value) for name, value in shown.attrs.items()}
        if shown.op is not None and shown.op.text is not None:
            return combine(shown.op.text, shown.op.precedence, pieces, exact=False, **attrs)
        return _call(shown.name, pieces, **attrs)

    def _leaf(self, node: Expr) -> Piece:
        value = constant_value(node)
        if node in self.leaves:
            return Piece(self.leaves[node])
        if node.op.name == "size":
            return Piece(*size_text(node.attrs[0], self.sizes))
        if value is None:
            return Piece(f"arange({size_text(node.shape[0], self.sizes)[0]})")
        if value.ndim == 0:
            text = number_text(value.item(), value.dtype)
            return Piece(text, SIGN_PRECEDENCE if text.startswith("-") else ATOM)
        if value.size <= _LARGE:
            return Piece(f"array({_nested(value)})", weight=_HEAVY if value.size > 4 else 0)
        return Piece(f"array<{node.type}>", weight=_HEAVY)

    def shape(self, shape: Sequence[Any]) -> str:
        return shape_text(shape, self.sizes)


def _nested(value: np.ndarray[Any, Any]) -> str:
    if value.ndim == 0:
        return number_text(value.item(), value.dtype)
    return f"[{', '.join(_nested(np.asarray(part)) for part in value)}]"


def _attribute_text(value: Any) -> str:
    if isinstance(value, np.dtype):
        return str(value)
    if isinstance(value, tuple):
        return shape_text(value) if all(isinstance(v, int | Dim) for v in value) else repr(value)
    return repr(value)


def _call(name: str, pieces: Sequence[Piece], **attributes: Any) -> Piece:
    texts = [piece.text for piece in pieces] + [f"{key}={value}" for key, value in attributes.items()]
    return Piece(f"{name}({', '.join(texts)})", weight=1 + sum(piece.weight for piece in pieces))


def axis_keywords(shown: View, node: Expr) -> dict[str, str]:
    """Return ``axis`` and ``keepdims`` as keywords of a reduction, those that differ from the default."""
    axes, keepdims = shown.attrs["axes"], shown.attrs["keepdims"]
    rank = shown.args[0].ndim
    keywords = {}
    if axes != tuple(range(rank)) or node.op.name.startswith("arg"):
        keywords["axis"] = str(axes[0]) if len(axes) == 1 else str(axes)
    return keywords | ({"keepdims": "True"} if keepdims else {})


def _reduction(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    return _call(shown.name, pieces, **axis_keywords(shown, node))


def _along_axis(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    axis = shown.attrs["axis"]
    last = node.ndim == 1 and axis == 0
    return _call(shown.name, pieces, **({} if last else {"axis": axis}))


def _joined(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    listed = Piece(f"[{', '.join(piece.text for piece in pieces)}]", weight=sum(piece.weight for piece in pieces))
    return _call(shown.name, [listed], **({"axis": shown.attrs["axis"]} if shown.attrs["axis"] else {}))


def _suffix(pieces: Sequence[Piece], suffix: str, cost: int = 0) -> Piece:
    return Piece(bracket(pieces[0], ATOM) + suffix, weight=sum(piece.weight for piece in pieces) + cost)


def _permute(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    axes = shown.attrs["axes"]
    rank = len(axes)
    if axes == tuple(reversed(range(rank))):
        return _suffix(pieces, ".T")
    if axes == (*range(rank - 2), rank - 1, rank - 2):
        return _suffix(pieces, ".mT")
    return _call("permute_dims", [*pieces, Piece(str(axes))])


def _expand(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    if not shown.args[0].ndim:
        return _filled(printer, shown, node, pieces)
    return _suffix(pieces, f"[{', '.join(expanded_entries(node.ndim, shown.attrs['axes']))}]")


def _squeeze(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    axes = shown.attrs["axes"]
    return _call("squeeze", pieces, axis=axes[0] if len(axes) == 1 else axes)


def _slice(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    attrs, shape = shown.attrs, shown.args[0].shape
    integers = attrs.get("axes", ())
    entries = slice_texts(shape, attrs["starts"], attrs["steps"], attrs["sizes"], integers, printer.sizes)
    return _suffix(pieces, f"[{index_text(entries)}]", cost=0 if len(pieces[0].text) < 10 else 1)


def _astype(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    if constant_value(shown.args[0]) is not None and not node.ndim:
        return _call(str(node.dtype), pieces)
    return _suffix(pieces, f".astype({node.dtype})")


def _polygamma(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    return _call("polygamma", [Piece(str(shown.attrs["order"])), *pieces])


def _eye(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    size = size_text(shown.attrs["size"], printer.sizes)[0]
    keywords = {} if node.dtype == np.dtype("float64") else {"dtype": f'"{node.dtype}"'}
    return _call("eye", [Piece(size)], **keywords)


def _place(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    attrs = shown.attrs
    entries = slice_texts(attrs["shape"], attrs["starts"], attrs["steps"], shown.args[0].shape, (), printer.sizes)
    text = f"zeros({printer.shape(attrs['shape'])}).at[{index_text(entries)}].set({pieces[0].text})"
    return Piece(text, weight=pieces[0].weight + 2)


def _shaped(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    return _call(shown.name, [*pieces, Piece(printer.shape(shown.attrs["shape"]))])


def _filled(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    if shown.args[0].ndim:
        return _call("broadcast_to", [*pieces, Piece(printer.shape(node.shape))])
    return _call("full", [Piece(printer.shape(node.shape)), *pieces])


def _einsum(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    return _call("einsum", [Piece(f'"{shown.attrs["subscripts"]}"'), *pieces])


def _gather(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    axes = shown.attrs["axes"]
    if axes != tuple(range(len(axes))):
        return _call("gather", pieces, axes=axes)
    inside = ", ".join(piece.text for piece in pieces[1:])
    return Piece(f"{bracket(pieces[0], ATOM)}[{inside}]", weight=1 + sum(piece.weight for piece in pieces))


def _scatter(printer: _TextPrinter, shown: View, node: Expr, pieces: list[Piece], method: str) -> Piece:
    axes = shown.attrs["axes"]
    if axes != tuple(range(len(axes))):
        return _call(shown.name, pieces, axes=axes)
    inside = ", ".join(piece.text for piece in pieces[2:])
    text = f"{bracket(pieces[0], ATOM)}.at[{inside}].{method}({pieces[1].text})"
    return Piece(text, weight=1 + sum(piece.weight for piece in pieces))


_WRITERS: Mapping[str, Callable[[_TextPrinter, View, Expr, list[Piece]], Piece]] = {
    **dict.fromkeys(("sum", "prod", "mean", "max", "min", "any", "all", "argmax", "argmin"), _reduction),
    **dict.fromkeys(("logsumexp", "vector_norm"), _reduction),
    **dict.fromkeys(("softmax", "log_softmax", "cumulative_sum", "exclusive_prod"), _along_axis),
    **dict.fromkeys(("concat", "stack"), _joined),
    "reshape": _shaped,
    "broadcast_to": _filled,
    **dict.fromkeys(("slice", "index"), _slice),
    "astype": _astype,
    "polygamma": _polygamma,
    "permute_dims": _permute,
    "expand_dims": _expand,
    "squeeze": _squeeze,
    "eye": _eye,
    "place": _place,
    "einsum": _einsum,
    "gather": _gather,
    "scatter_add": partial(_scatter, method="add"),
    "scatter_set": partial(_scatter, method="set"),
}
