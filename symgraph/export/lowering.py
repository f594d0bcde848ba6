"""From nodes to the forms that a person writes: one rule per operation whose form is not just its template."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from symgraph.dims import Size
from symgraph.export.forms import Form, Forms, digits
from symgraph.export.printing import View
from symgraph.expr import Expr, constant_value
from symgraph.op import REGISTRY, Kind


def lower(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    """Return the form of a node from those of what it shows."""
    columns = any(arg.ndim == 2 and arg.shape[1] == 1 for arg in shown.args)
    if node.op.kind is Kind.ELEMENTWISE and node.ndim == 2 and columns and node.shape[1] != 1:
        args = [low.transpose(form) if x.ndim == 1 else form for form, x in zip(args, shown.args, strict=True)]
    if node.dtype.kind == "b" and shown.name in _LOGIC:
        return low.form("template", *args, data=(REGISTRY[_LOGIC[shown.name]], ()), rank=node.ndim)
    rule = _RULES.get(shown.name)
    if rule is not None:
        return rule(low, node, shown, args)
    if shown.op is not None and shown.op.latex is not None:
        return low.form("template", *args, data=(shown.op, tuple(shown.attrs.items())), rank=node.ndim)
    return low.form("call", *args, data=(shown.name, _subscript(shown)), rank=node.ndim)


def lower_leaf(low: Forms, node: Expr) -> Form:
    """Return the form of a leaf."""
    if node.op.name == "size":
        return low.size(node.attrs[0])
    value = constant_value(node)
    if value is None:
        if node.op.kind is Kind.LEAF and node.op.name != "arange":
            return low.atom(low.name(node), node.ndim)
        return low.form("call", low.size(node.shape[0]), data=("arange", ""), rank=1)
    if value.ndim == 0:
        return low.number(float(str(value[()])) if value.dtype.kind == "f" else value.item())
    if value.ndim <= 2 and value.size <= 12:
        rows = value.reshape(len(value), -1).tolist()
        texts = tuple(tuple(_entry(number) for number in row) for row in rows)
        return low.form("matrix", data=texts, rank=value.ndim)
    shape = r" \times ".join(str(size) for size in value.shape)
    return low.atom(rf"\mathrm{{constant}}_{{{shape}}}", value.ndim)


def _entry(number: float | int | bool) -> str:
    if isinstance(number, float) and not math.isfinite(number):
        return r"\mathrm{NaN}" if number != number else (r"\infty" if number > 0 else r"-\infty")
    if isinstance(number, bool):
        return r"\mathrm{true}" if number else r"\mathrm{false}"
    return ("-" if number < 0 else "") + digits(abs(number))


def _subscript(shown: View) -> str:
    if "axes" not in shown.attrs and "axis" not in shown.attrs:
        return ""
    axes = shown.attrs.get("axes", shown.attrs.get("axis"))
    axes = axes if isinstance(axes, tuple) else (axes,)
    rank = shown.args[0].ndim
    if len(axes) == rank or (shown.name.endswith("softmax") and axes == (rank - 1,)):
        return ""
    return ",".join(str(axis) for axis in axes)


_LOGIC = {
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor",
    "bitwise_invert": "logical_not",
}

Rule = Callable[[Forms, Expr, View, Sequence[Form]], Form]


def _add(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    x, y = args
    if low.is_diagonal(x) and not y.rank:
        y = low.multiply(y, low.ones(node.shape))
    elif low.is_diagonal(y) and not x.rank:
        x = low.multiply(x, low.ones(node.shape))
    return low.add(x, y)


def _multiply(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    x, y = shown.args
    if x.ndim == 2 and x.shape[1] == 1 != node.shape[1] and args[1].head == "transpose":
        return low.multiply(args[0], args[1], join="matmul")
    if y.ndim == 2 and y.shape[1] == 1 != node.shape[1] and args[0].head == "transpose":
        return low.multiply(args[1], args[0], join="matmul")
    plain = [low.without_ones(arg) if x.shape == node.shape else arg for arg, x in zip(args, (y, x), strict=True)]
    left, right = plain if plain[0].rank or plain[1].rank else (plain[0], args[1])
    return low.multiply(left, right)


def _power(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    exponent = low.term(args[1])
    if args[1].head == "term" and not args[1].args and exponent.coefficient == 2:
        return low.squared(args[0])
    if args[1].head == "term" and not args[1].args and exponent.coefficient == -1:
        return low.divide(low.one, args[0])
    return low.power(*args)


def _sum(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    axes, rank = shown.attrs["axes"], shown.args[0].ndim
    if len(axes) == rank:
        return low.total(args[0])
    data = ("sum", ",".join(str(axis) for axis in axes))
    return low.linear(args[0], lambda core: low.form("call", core, data=data, rank=node.ndim))


def _mean(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    count: Size = 1
    for axis in shown.attrs["axes"]:
        count = count * shown.args[0].shape[axis]
    return low.divide(_sum(low, node, shown, args), low.size(count))


def _matmul(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    x, y = shown.args
    left, right = args
    if x.ndim == 1 and y.ndim == 2:
        left, right = low.transpose(right), left
    elif x.ndim == 1:
        left = low.transpose(left)
    (a, left), (b, right) = low.split(left), low.split(right)
    joined = low.form("matmul", left, right, rank=node.ndim)
    return low.multiply(low.multiply(low.product(a), low.product(b)), joined)


def _permute(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    axes = shown.attrs["axes"]
    if axes == (*range(len(axes) - 2), len(axes) - 1, len(axes) - 2):
        return low.transpose(args[0])
    data = ("permute", ",".join(str(axis) for axis in axes))
    return low.linear(args[0], lambda core: low.form("call", core, data=data, rank=node.ndim))


def _expand(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    x = shown.args[0]
    if low.without_ones(args[0]) is not args[0]:
        return low.multiply(low.without_ones(args[0]), low.ones(node.shape))
    if x.ndim == 1 and shown.attrs["axes"] == (0,):
        return low.transpose(args[0])
    return low.linear(args[0], lambda core: low.form("same", core, rank=node.ndim)) if x.ndim else args[0]


def _squeeze(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    if node.ndim == 1 and shown.args[0].ndim == 2 and shown.attrs["axes"] == (0,):
        return low.transpose(args[0]) if low.split(args[0])[1].head == "transpose" else args[0]
    return args[0]


def _broadcast(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    x = shown.args[0]
    if low.without_ones(args[0]) is not args[0]:
        args = [low.without_ones(args[0])]
    if not x.ndim or not args[0].rank:
        return low.multiply(args[0], low.ones(node.shape))
    if node.ndim == 2 and x.ndim == 1:
        return low.multiply(low.ones(node.shape[:1]), low.transpose(args[0]), join="matmul")
    if node.ndim == 2 and x.shape[0] == 1:
        return low.multiply(low.ones(node.shape[:1]), args[0], join="matmul")
    if node.ndim == 2 and x.shape[1] == 1:
        return low.multiply(args[0], low.transpose(low.ones(node.shape[1:])), join="matmul")
    return args[0]


def _same(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    return args[0]


def _cast(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    truth = node.args[0].dtype.kind == "b" != node.dtype.kind
    return low.form("iverson", args[0], rank=node.ndim) if truth else args[0]


def _index(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    attrs = shown.attrs
    key = (shown.args[0].shape, attrs["starts"], attrs["steps"], attrs["sizes"], attrs.get("axes", ()))
    return low.form("index", args[0], data=key, rank=node.ndim)


def _placed(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    attrs = shown.attrs
    key = (attrs["shape"], attrs["starts"], attrs["steps"], shown.args[0].shape, ())
    return low.linear(args[0], lambda core: low.form("place", core, data=key, rank=node.ndim))


def _reshape(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    sizes = [low.size(size) for size in node.shape]
    return low.linear(args[0], lambda core: low.form("reshape", core, *sizes, rank=node.ndim))


def _stack(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    if node.ndim == 1 and len(args) <= 12:
        return low.form("vector", *args, rank=1)
    return low.form("call", *args, data=(shown.name, ""), rank=node.ndim)


def _norm(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    whole = len(shown.attrs["axes"]) == shown.args[0].ndim
    data = ("", ",".join(str(axis) for axis in shown.attrs["axes"]))
    return low.form("norm", args[0], data=("", "") if whole else data, rank=node.ndim)


def _einsum(low: Forms, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    subscripts = shown.attrs["subscripts"].replace("->", r" \to ")
    return low.form("call", *args, data=("einsum", subscripts), rank=node.ndim)


_RULES: Mapping[str, Rule] = {
    "add": _add,
    "subtract": lambda low, node, shown, args: _add(low, node, shown, [args[0], low.scaled(args[1], Fraction(-1))]),
    "multiply": _multiply,
    "divide": lambda low, node, shown, args: low.divide(*args),
    "negative": lambda low, node, shown, args: low.scaled(args[0], Fraction(-1)),
    "reciprocal": lambda low, node, shown, args: low.divide(low.one, args[0]),
    "square": lambda low, node, shown, args: low.squared(args[0]),
    "power": _power,
    "positive": _same,
    "astype": _cast,
    "sum": _sum,
    "mean": _mean,
    "vector_norm": _norm,
    "matmul": _matmul,
    "einsum": _einsum,
    "permute_dims": _permute,
    "expand_dims": _expand,
    "squeeze": _squeeze,
    "broadcast_to": _broadcast,
    "reshape": _reshape,
    "slice": _index,
    "index": _index,
    "stack": _stack,
    "place": _placed,
    "eye": lambda low, node, shown, args: low.atom("i = j" if node.dtype.kind == "b" else "I", 2),
}
