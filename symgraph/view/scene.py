"""What a picture of a graph shows, before anything is laid out: boxes, arrows and frames around name scopes."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from symgraph.arraytype import format_shape
from symgraph.expr import Expr, scalar_value, topological
from symgraph.graph import Graph
from symgraph.op import Kind

_SYMBOLS = {"*": "×", "-": "−", "**": "^", "<=": "≤", ">=": "≥", "!=": "≠", "==": "="}
_WIDEST = 28


class Box(NamedTuple):
    """One node: what stands in it, how it is coloured, and the name scope it belongs to."""

    title: str
    note: str
    style: str
    scope: str


class Arrow(NamedTuple):
    """An argument's way into its user, by the numbers of the boxes, with the argument's shape."""

    tail: int
    head: int
    label: str


class Scene(NamedTuple):
    """All that is drawn; ``hidden`` says how many nodes are left out."""

    boxes: list[Box]
    arrows: list[Arrow]
    hidden: int


def make_scene(outputs: Sequence[Expr], labels: Sequence[str | None], limit: int) -> Scene:
    """Return what a picture of the nodes that outputs need shows.

    Numbers stand inside the box of the operation that uses them. Of a large graph the nodes nearest to the
    outputs are shown.

    Args:
        outputs: The nodes to end at.
        labels: A name for each output, None for none.
        limit: How many nodes are shown at most.
    """
    order = [node for node in topological(outputs) if node in set(outputs) or not _is_number(node)]
    kept = _nearest(outputs, limit) if len(order) > limit else set(order)
    shown = [node for node in order if node in kept]
    number = {node: i for i, node in enumerate(shown)}
    names = dict(zip(outputs, labels, strict=True))
    scopes = _scopes(shown)
    given = {node: name for node in shown if isinstance(node.graph, Graph) for name in _names_of(node)}
    wanted = set(outputs)
    boxes = [_box(node, scopes[node], node in wanted, names.get(node), given.get(node)) for node in shown]
    arrows = [
        Arrow(number[arg], number[node], format_shape(arg.shape) if arg.shape and arg.args else "")
        for node in shown
        for arg in node.args
        if arg in number
    ]
    return Scene(boxes, arrows, len(order) - len(shown))


def _is_number(node: Expr) -> bool:
    return node.op.kind is Kind.LEAF and (node.op.name == "size" or scalar_value(node) is not None)


def _nearest(outputs: Sequence[Expr], limit: int) -> set[Expr]:
    found: dict[Expr, None] = {}
    queue = deque(outputs)
    while queue and len(found) < limit:
        node = queue.popleft()
        if node not in found:
            found[node] = None
            queue.extend(arg for arg in node.args if not _is_number(arg))
    return set(found)


def _names_of(node: Expr) -> list[str]:
    graph = node.graph
    return [] if not isinstance(graph, Graph) or node.op.kind is Kind.LEAF else [graph.name_of(node) or ""]


def _box(node: Expr, scope: str, is_output: bool, label: str | None, given: str | None) -> Box:
    note = f"= {label}" if label else f"= {given}" if given else "= output" if is_output else ""
    if node.op.kind is Kind.LEAF:
        return Box(*_leaf(node), scope)
    style = "output" if is_output else node.op.kind.value
    return Box(_operation(node), note, style, scope)


def _leaf(node: Expr) -> tuple[str, str, str]:
    if node.op.name in ("placeholder", "variable"):
        return _clipped(str(node.attrs[0]).rpartition("/")[2]), str(node.type), node.op.name
    value = scalar_value(node)
    if value is not None:
        return f"{value:g}", "", "constant"
    return _clipped(node.op.name), str(node.type), "constant"


def _operation(node: Expr) -> str:
    """Return what an operation's box says: a symbol, a formula with its numbers in place, or a name."""
    numbers = [_number(arg) for arg in node.args]
    text = node.op.text
    if text is not None and re.search(r"\w", re.sub(r"{\d}", "", text)) is None:
        if not any(numbers):
            symbol = re.sub(r"{\d}", "", text).strip()
            return "−x" if text == "-{0}" else _SYMBOLS.get(symbol, symbol) or node.op.name
        filled = re.sub(r"{(\d)}", lambda found: numbers[int(found[1])] or "·", text)
        return _clipped(filled.replace("·**2", "·²").replace("**", "^").replace("*", " × ").replace(" - ", " − "))
    if text is not None and text == "{0}**2":
        return "·²"
    if node.op.name == "permute_dims" and node.attrs[0] == tuple(reversed(range(node.ndim))):
        return "transpose"
    title = node.op.name.removesuffix("_to")
    if any(numbers):
        title += f"({', '.join(n or '·' for n in numbers)})"
    return _clipped(" ".join([title, *_attributes(node)]))


def _number(node: Expr) -> str:
    if node.op.name == "size":
        return str(node.attrs[0])
    value = scalar_value(node)
    return "" if value is None or not _is_number(node) else f"{value:g}"


def _attributes(node: Expr) -> list[str]:
    facts = dict(zip(node.op.attributes, node.attrs, strict=True))
    if "axes" in facts and node.op.kind is Kind.REDUCE:
        axes = facts["axes"]
        return [] if axes == tuple(range(node.args[0].ndim)) else [f"axis {', '.join(map(str, axes))}"]
    if "shape" in facts:
        return [format_shape(node.shape)]
    if "subscripts" in facts:
        return [str(facts["subscripts"])]
    return [f"to {facts['dtype']}"] if node.op.name == "astype" else []


def _clipped(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _scopes(order: Sequence[Expr]) -> dict[Expr, str]:
    """Return the name scope that each node is drawn in.

    Only declared leaves carry scopes. An operation that joins a variable to something else belongs to the
    variable's scope (the latest one's), and a chain of one-argument elementwise operations stays where it
    began: so a layer's frame holds its product, its bias and its activation.
    """
    scopes: dict[Expr, str] = {}
    for node in order:
        if node.op.kind is Kind.LEAF:
            name = str(node.attrs[0]) if node.op.name in ("placeholder", "variable") else ""
            scopes[node] = name.rpartition("/")[0]
            continue
        operands = [arg for arg in node.args if arg in scopes and not _is_number(arg)]
        leaves = sorted((arg.attrs[1], scopes[arg]) for arg in operands if arg.op.name == "variable")
        if len(operands) > 1 and leaves:
            scopes[node] = leaves[-1][1]
        elif len(operands) == 1 and operands[0].args and node.op.kind is Kind.ELEMENTWISE:
            scopes[node] = scopes[operands[0]]
        else:
            scopes[node] = ""
    return scopes
