"""What the printers share: what a node shows, where brackets stand, and lines for shared parts.

A printer walks the nodes in dependency order and writes each as a :class:`Piece` from the pieces of what
it shows. A piece that several places use becomes a named line, as does one that grows long: the output
is linear in the size of the graph, however deep it is and however much is shared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple, TypeVar

from symgraph.dims import Dim, Size
from symgraph.export.naming import ATOM, POWER_PRECEDENCE, SIGN_PRECEDENCE, size_text
from symgraph.expr import Expr, scalar_value
from symgraph.op import Kind, Op
from symgraph.ops.construct import broadcast_shapes


@dataclass(frozen=True, slots=True)
class Piece:
    """A printed part.

    Attributes:
        text: What is printed.
        precedence: How strongly it binds; Python's order, 100 is an atom.
        weight: How many operations it holds: light pieces are repeated, heavy ones are named when shared.
        signable: Whether a sign in front of it negates the whole, as in ``-x*y``.
        chain: ``"*"`` for a chain of products and quotients, ``"+"`` for one of sums and differences: it needs
            no brackets as a part of a longer one.
    """

    text: str
    precedence: int = ATOM
    weight: int = 0
    signable: bool = False
    chain: str = ""


class Line(NamedTuple):
    """A named part of a formula."""

    name: str
    text: str


Node = TypeVar("Node", bound=Hashable)


def assemble(
    outputs: Sequence[Node],
    children: Callable[[Node], Sequence[Node]],
    write: Callable[[Node, list[Piece]], Piece],
    name: Callable[[Node], str],
    *,
    heavy: int,
    limit: int,
) -> tuple[list[Line], list[Piece]]:
    """Print nodes, with named lines for what is shared or long.

    Args:
        outputs: What to print.
        children: The nodes whose pieces a node shows.
        write: Gives a node's piece from its children's.
        name: Gives the next name for a line.
        heavy: From which weight on a shared piece is named.
        limit: From which length on a piece is named although it is used once.

    Returns:
        The lines in order, and one piece per output.
    """
    order, uses = _order(outputs, children)
    pieces: dict[Node, Piece] = {}
    lines: list[Line] = []
    final = set(outputs)
    for node in order:
        shown = children(node)
        piece = write(node, [pieces[child] for child in shown])
        shared = uses[node] > 1 and piece.weight >= heavy
        if shared or (len(piece.text) > limit and node not in final):
            line = Line(name(node), piece.text)
            lines.append(line)
            piece = Piece(line.name)
        pieces[node] = piece
    return lines, [pieces[output] for output in outputs]


def _order(outputs: Sequence[Node], children: Callable[[Node], Sequence[Node]]) -> tuple[list[Node], dict[Node, int]]:
    order: list[Node] = []
    uses: dict[Node, int] = {}
    stack: list[tuple[Node, bool]] = []
    for output in outputs:
        stack.append((output, False))
        while stack:
            node, ready = stack.pop()
            if ready:
                order.append(node)
            elif node in uses:
                uses[node] += 1
            else:
                uses[node] = 1
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(children(node)))
    return order, uses


def bracket(piece: Piece, minimum: int) -> str:
    """Return the piece's text, in brackets where it binds more weakly than its place asks for."""
    return piece.text if piece.precedence >= minimum else f"({piece.text})"


def combine(template: str, precedence: int, pieces: Sequence[Piece], exact: bool = True, **attributes: Any) -> Piece:
    """Write an operation from its template, with the fewest brackets that keep the meaning.

    Args:
        template: Text with ``{0}``, ``{1}`` ... for the arguments.
        precedence: How strongly the result binds.
        pieces: The arguments.
        exact: Whether brackets stay where leaving them out changes the rounding, as in ``a + (b + c)``.
        attributes: Values for named fields of the template.
    """
    weight = 1 + sum(piece.weight for piece in pieces)
    if template == "{0}":
        return pieces[0]
    if template == "-{0}":
        if pieces[0].signable:
            return replace(pieces[0], text=f"-{pieces[0].text}", signable=False)
        return Piece("-" + bracket(pieces[0], POWER_PRECEDENCE), SIGN_PRECEDENCE, pieces[0].weight)
    chain = _CHAINS.get(template, "")
    texts = []
    for i, (piece, minimum) in enumerate(zip(pieces, _places(template, precedence), strict=False)):
        alike = chain != "" and piece.chain == chain
        leftmost = i == 0 and template.startswith("{0}")
        if alike and (leftmost or (not exact and template in _JOINING)):
            least = precedence
        else:
            least = SIGN_PRECEDENCE if chain == "*" else minimum
        texts.append(bracket(piece, least))
    positive = template in _LINEAR and not texts[0].startswith("-")
    signable = template == "1/{0}" or (positive and _takes_sign(pieces[0], chain))
    return Piece(template.format(*texts, **attributes), precedence, weight, signable, chain)


def _takes_sign(first: Piece, chain: str) -> bool:
    """Tell whether a sign in front of a product is one in front of its first factor."""
    return first.signable or first.precedence > SIGN_PRECEDENCE or (chain == "*" and first.chain != "*")


_CHAINS = {"{0}*{1}": "*", "{0}/{1}": "*", "1/{0}": "*", "{0} + {1}": "+", "{0} - {1}": "+"}
_JOINING = {"{0}*{1}", "{0} + {1}"}
_LINEAR = {"{0}*{1}", "{0}/{1}", "{0} @ {1}"}


@cache
def _places(template: str, precedence: int) -> tuple[int, ...]:
    """Return the precedence that each argument's place in a template asks for."""
    minimums: dict[int, int] = {}
    for match in re.finditer(r"\{(\d+)\}", template):
        before, after = template[: match.start()], template[match.end() :]
        index = int(match[1])
        enclosed = before.endswith(("(", ", ", "[")) and after.startswith((")", ",", "]"))
        if enclosed:
            minimum = 0
        elif after.startswith(("**", ".", "[")):
            minimum = ATOM if after.startswith((".", "[")) else POWER_PRECEDENCE + 1
        elif before.endswith("**"):
            minimum = SIGN_PRECEDENCE
        elif before == "" and 7 < precedence < ATOM:
            minimum = precedence
        else:
            minimum = precedence + 1
        minimums[index] = max(minimum, minimums.get(index, 0))
    return tuple(minimums.get(i, 0) for i in range(max(minimums, default=-1) + 1))


class View(NamedTuple):
    """What a node shows: an operation or a recognised composite, and its arguments."""

    name: str
    args: tuple[Expr, ...]
    attrs: dict[str, Any]
    op: Op | None


def view(node: Expr, composites: bool = True) -> View:
    """Return what a node shows.

    Broadcasts that the operation does by itself are left out; a softmax, a stack, an identity matrix and an
    integer index are recognised.

    Args:
        node: The node.
        composites: Whether softmax and log_softmax are recognised.
    """
    attrs = dict(zip(node.op.attributes, node.attrs, strict=True))
    match node.op.name:
        case "exp" if composites and (found := _log_softmax(node.args[0])):
            return View("softmax", found[0], found[1], None)
        case "subtract" if composites and (found := _log_softmax(node)):
            return View("log_softmax", found[0], found[1], None)
        case "equal" | "astype" if (size := _identity(node)) is not None:
            return View("eye", (), {"size": size, "dtype": node.dtype}, None)
        case "concat" if all(_expands(arg, attrs["axis"]) for arg in node.args):
            return View("stack", tuple(arg.args[0] for arg in node.args), attrs, None)
        case "squeeze" if node.args[0].op.name == "slice":
            inner = node.args[0]
            inner_attrs = dict(zip(inner.op.attributes, inner.attrs, strict=True))
            return View("index", inner.args, inner_attrs | attrs, None)
    if node.op.kind is Kind.ELEMENTWISE:
        return View(node.op.name, without_broadcasts(node), attrs, node.op)
    return View(node.op.name, node.args, attrs, node.op)


def without_broadcasts(node: Expr) -> tuple[Expr, ...]:
    """Return the arguments of an elementwise node, without broadcasts that it does by itself."""
    args = list(node.args)
    for i in range(len(args)):
        while _is_broadcast(args[i]):
            shapes = [arg.shape for arg in args]
            shapes[i] = args[i].args[0].shape
            if broadcast_shapes(node.op.name, *shapes) != node.shape:
                break
            args[i] = args[i].args[0]
    return tuple(args)


def _is_broadcast(node: Expr) -> bool:
    """Tell whether a node only repeats its argument, or gives it leading axes of size 1."""
    return node.op.name == "broadcast_to" or (
        node.op.name == "expand_dims" and node.attrs[0] == tuple(range(node.ndim - node.args[0].ndim))
    )


def _identity(node: Expr) -> Size | None:
    """Return the size of an identity matrix, which compares the indices of rows with those of columns."""
    if node.op.name == "astype":
        node = node.args[0]
    if node.op.name != "equal" or node.ndim != 2:
        return None
    found = [_row_of_indices(arg) for arg in without_broadcasts(node)]
    return node.shape[0] if found in (["column", "row"], ["row", "column"]) and node.shape[0] == node.shape[1] else None


def _row_of_indices(node: Expr) -> str:
    kind = "row"
    while node.op.name in ("add", "expand_dims"):
        if node.op.name == "add" and scalar_value(node.args[1]) != 0:
            return ""
        kind = "column" if node.op.name == "expand_dims" and node.attrs[0] == (1,) else kind
        node = node.args[0]
    return kind if node.op.name == "arange" else ""


def _expands(node: Expr, axis: int) -> bool:
    return node.op.name == "expand_dims" and node.attrs[0] == (axis,)


def _log_softmax(node: Expr) -> tuple[tuple[Expr, ...], dict[str, Any]] | None:
    if node.op.name != "subtract":
        return None
    x, total = node.args
    if total.op.name == "broadcast_to":
        total = total.args[0]
    if total.op.name == "logsumexp" and total.args[0] is x and total.attribute("keepdims"):
        axes = total.attribute("axes")
        return (x,), {"axis": axes[0] if len(axes) == 1 else axes}
    return None


def slice_texts(
    shape: Sequence[Size],
    starts: Sequence[Size],
    steps: Sequence[int],
    sizes: Sequence[Size],
    integers: Sequence[int] = (),
    rename: dict[str, str] | None = None,
) -> list[str]:
    """Return the entries of an index expression, one per axis.

    Args:
        shape: Of the array that is indexed.
        starts, steps, sizes: As the operation ``slice`` has them.
        integers: Axes of which one element is taken, and which vanish.
        rename: Identifiers for names of sizes.
    """
    entries = []
    for axis, (whole, start, step, size) in enumerate(zip(shape, starts, steps, sizes, strict=True)):
        if axis in integers:
            entries.append(_bound(start, whole, rename))
        else:
            entries.append(_slice_text(whole, start, step, size, rename))
    return entries


def _slice_text(whole: Size, start: Size, step: int, size: Size, rename: dict[str, str] | None) -> str:
    if step > 0:
        low = "" if start == 0 else _bound(start, whole, rename)
        natural = (whole - start + (step - 1)) // step
        stop = start + (size - 1) * step + 1
        high = "" if natural == size else _bound(stop, whole, rename)
    else:
        low = "" if start - whole == -1 else _bound(start, whole, rename)
        natural = start // -step + 1 if isinstance(start, int) else (start + -step) // -step
        stop = start + size * step
        high = "" if natural == size or (isinstance(stop, int) and stop < 0) else _bound(stop, whole, rename)
    if size == 0:
        return "0:0"
    return f"{low}:{high}" if step == 1 else f"{low}:{high}:{step}"


def _bound(place: Size, whole: Size, rename: dict[str, str] | None) -> str:
    from_end = place - whole
    if isinstance(place, Dim) and isinstance(from_end, int) and from_end < 0:
        return str(from_end)
    return size_text(place, rename)[0]


def index_text(entries: Sequence[str]) -> str:
    """Return the entries of an index expression, without the full slices at its end."""
    kept = list(entries)
    while len(kept) > 1 and kept[-1] == ":":
        kept.pop()
    return ", ".join(kept)


def expanded_entries(rank: int, axes: Sequence[int]) -> list[str]:
    """Return the index entries that insert axes into an array: ``:`` and ``None``."""
    return ["None" if axis in axes else ":" for axis in range(rank)]
