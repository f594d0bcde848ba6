"""Formulas as Python modules that need NumPy, and SciPy where one of its functions is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symgraph.dims import Dim, Size, names
from symgraph.errors import ExportError, declared_at
from symgraph.export.naming import ATOM, SIGN_PRECEDENCE, Names, shape_text, size_text, solved_size
from symgraph.export.numpy_vocabulary import ELEMENTWISE, HELPERS
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

_LIMIT = 60
_WIDTH = 100
_LARGEST_LITERAL = 1000

_OPERATORS = frozenset(
    ["**", "/", "//", "%", "+", "-", "*", "==", "!=", "<", "<=", ">", ">=", "&", "|", "^", "<<", ">>", "~"]
)
_MODULES = {"numpy": "np", "scipy.special": "special", "numpy.linalg": "np.linalg"}
_RESERVED = {"np", "special", "range", "float"}


def emit_numpy(outputs: list[Expr], inputs: list[Expr], name: str, several: bool) -> str:
    """Return a Python module with one function of NumPy arrays.

    Args:
        outputs: What the function returns.
        inputs: Its parameters.
        name: What it is called.
        several: Whether the outputs come back as a tuple.

    Raises:
        ExportError: an operation has no NumPy source, or a size cannot be found from the inputs.
    """
    printer = _NumpyPrinter(outputs, inputs, name)
    lines, pieces = assemble(
        outputs, printer.children, printer.write, lambda node: printer.names.number("t"), heavy=1, limit=_LIMIT
    )
    results = [printer.result(node, piece) for node, piece in zip(outputs, pieces, strict=True)]
    body = [f"{p} = np.asarray({p}, {_dtype(node.dtype)})" for node, p in printer.parameters.items()]
    body += _size_lines(printer, inputs)
    body += [f"{line.name} = {line.text}" for line in lines]
    text = f"def {name}({', '.join(printer.parameters.values())}):\n"
    text += _docstring(printer, outputs, several)
    text += "".join(f"    {line}\n" for line in body) + _return(results, several)
    helpers = [HELPERS[helper] for helper in sorted(printer.helpers)]
    code = "\n\n".join([*helpers, text])
    imports = "import numpy as np\n" + ("from scipy import special\n" if "special." in code else "")
    return f"{imports}\n\n{code}"


def _docstring(printer: _NumpyPrinter, outputs: Sequence[Expr], several: bool) -> str:
    types = ", ".join(str(output.type) for output in outputs)
    lines = [f'    """Return {f"({types})" if several else types}.']
    if printer.parameters:
        lines += ["", "    Args:"]
        lines += [f"        {name}: {node.type}" for node, name in printer.parameters.items()]
        lines += ['    """']
    else:
        lines[0] += '"""'
    return "\n".join(lines) + "\n"


def _return(results: Sequence[str], several: bool) -> str:
    if not several:
        return f"    return {results[0]}\n"
    if sum(map(len, results)) < _WIDTH:
        return f"    return ({', '.join(results)}{',' if len(results) == 1 else ''})\n"
    return "    return (\n" + "".join(f"        {result},\n" for result in results) + "    )\n"


def _size_lines(printer: _NumpyPrinter, inputs: Sequence[Expr]) -> list[str]:
    """Return the lines that find sizes from the shapes of the parameters."""
    lines: list[str] = []
    known: set[str] = set()
    axes = [(size, f"{printer.parameters[x]}.shape[{a}]") for x in inputs for a, size in enumerate(x.shape)]
    pending = set(printer.used_sizes)
    solved = {name: (0, place) for size, place in reversed(axes) for name in names(size) if str(size) == name}
    for name in sorted(pending & solved.keys()):
        lines.append(f"{printer.sizes[name]} = {solved[name][1]}")
        known.add(name)
    if pending <= known:
        return lines
    for size, place in axes * len(axes):
        unknown = names(size) - known
        if len(unknown) == 1 and isinstance(size, Dim):
            (name,) = unknown
            text = solved_size(size, name, place, printer.sizes)
            if text is not None:
                lines.append(f"{printer.sizes[name]} = {text}")
                known.add(name)
    if not pending <= known:
        missing = ", ".join(sorted(pending - known))
        raise ExportError(f"to_source: the inputs do not determine the sizes {missing}")
    return lines


class _NumpyPrinter:
    def __init__(self, outputs: Sequence[Expr], inputs: Sequence[Expr], name: str) -> None:
        self.names = Names({*_RESERVED, name, *(f"_{helper}" for helper in HELPERS)})
        self.parameters = {node: self.names.claim(_wanted(node)) for node in inputs}
        nodes = topological(outputs, stop=set(inputs))
        found = {name for node in [*nodes, *inputs] for size in node.shape for name in names(size)}
        found |= {name for node in nodes if node.op.name == "size" for name in names(node.attrs[0])}
        self.sizes = {name: self.names.claim(name) for name in sorted(found)}
        self.used_sizes: set[str] = set()
        self.helpers: set[str] = set()
        self._views: dict[Expr, View] = {}

    def view(self, node: Expr) -> View:
        found = self._views.get(node)
        if found is None:
            found = self._views[node] = view(node, composites=False)
        return found

    def children(self, node: Expr) -> Sequence[Expr]:
        return () if node in self.parameters else self.view(node).args

    def write(self, node: Expr, pieces: list[Piece]) -> Piece:
        if node in self.parameters:
            return Piece(self.parameters[node])
        if node.op.kind is Kind.LEAF:
            return self._leaf(node)
        shown = self.view(node)
        if shown.op is not None and node.op.kind is Kind.ELEMENTWISE:
            piece = self._elementwise(shown, pieces)
            widened = shown.name == "polygamma" and node.dtype.itemsize < 8
            return Piece(f"{piece.text}.astype({_dtype(node.dtype)})", ATOM, piece.weight) if widened else piece
        writer = _WRITERS.get(shown.name)
        if writer is None:
            message = f"to_source: the operation {node.op.name} has no NumPy source"
            raise ExportError(declared_at(message, node.location))
        typed = [self.typed(arg, piece) for arg, piece in zip(shown.args, pieces, strict=True)]
        return writer(self, shown, node, typed)

    def result(self, node: Expr, piece: Piece) -> str:
        """Return the text of an output; what may be a view of a parameter is copied."""
        if node.op.kind is Kind.MOVEMENT or node in self.parameters:
            return f"np.array({piece.text})"
        return self.typed(node, piece).text

    def typed(self, node: Expr, piece: Piece) -> Piece:
        """Return a piece that is an array or scalar of NumPy, where a bare number would not do."""
        return Piece(f"{_dtype(node.dtype)}({piece.text})") if _is_bare(node) and node not in self.parameters else piece

    def _leaf(self, node: Expr) -> Piece:
        value = constant_value(node)
        if node.op.name == "size":
            return self.size(node.attrs[0])
        if value is None:
            dtype = "" if node.dtype == np.dtype("int64") else f", dtype={_dtype(node.dtype)}"
            return Piece(f"np.arange({self.size(node.shape[0]).text}{dtype})", weight=1)
        if value.ndim == 0:
            text = _number(value)
            return Piece(text, SIGN_PRECEDENCE if text.startswith("-") else ATOM)
        if value.size > _LARGEST_LITERAL:
            raise ExportError(
                f"to_source: a constant of {value.size} numbers is too large to write out: make it a placeholder"
            )
        if not value.size:
            return Piece(f"np.zeros({value.shape}, {_dtype(value.dtype)})", weight=1)
        return Piece(f"np.array({_nested(value)}, {_dtype(value.dtype)})", weight=1)

    def _elementwise(self, shown: View, pieces: list[Piece]) -> Piece:
        op = shown.op
        assert op is not None
        values = range(1, 3) if op.name == "where" else range(len(pieces))
        if all(_is_bare(shown.args[i]) for i in values):
            first = values[0]
            pieces = [*pieces[:first], self.typed(shown.args[first], pieces[first]), *pieces[first + 1 :]]
        elif op.name == "astype":
            pieces = [self.typed(shown.args[0], pieces[0])]
        attrs: dict[str, Any] = {
            key: _dtype(value) if isinstance(value, np.dtype) else value for key, value in shown.attrs.items()
        }
        template = ELEMENTWISE.get(op.name)
        if template is not None:
            self.helpers |= {op.name} & HELPERS.keys()
            return combine(template, 14 if template == "~{0}" else ATOM, pieces, True, **attrs)
        if op.text is not None and _is_operator(op.text):
            return combine(op.text, op.precedence, pieces)
        if op.name == "positive":
            return pieces[0]
        if not isinstance(op.numpy, str):
            raise ExportError(f"to_source: the operation {op.name} has no NumPy source")
        module, _, function = op.numpy.partition(":")
        places = ", ".join(f"{{{i}}}" for i in range(len(pieces)))
        return combine(f"{_MODULES[module]}.{function}({places})", ATOM, pieces)

    def size(self, size: Size) -> Piece:
        self.used_sizes |= names(size)
        return Piece(*size_text(size, self.sizes))

    def shape(self, shape: Sequence[Size]) -> str:
        self.used_sizes |= {name for size in shape for name in names(size)}
        return shape_text(shape, self.sizes)


def _wanted(node: Expr) -> str:
    return str(node.attrs[0]) if node.op.name in ("placeholder", "variable") else node.op.name


def _is_bare(node: Expr) -> bool:
    return node.op.name == "size" or (node.op.name == "constant" and node.ndim == 0)


def _is_operator(text: str) -> bool:
    return text.replace("{0}", "").replace("{1}", "").strip() in _OPERATORS or text in ("{0}**2", "1/{0}")


def _dtype(dtype: np.dtype[Any]) -> str:
    return "np.bool_" if dtype.kind == "b" else f"np.{dtype.name}"


def _number(value: np.ndarray[Any, Any]) -> str:
    number = value.item()
    if value.dtype.kind != "f":
        return str(number)
    if number != number:
        return 'float("nan")'
    if number in (float("inf"), float("-inf")):
        return f'{"-" if number < 0 else ""}float("inf")'
    text = str(value.dtype.type(number))
    return text if any(c in text for c in ".e") else text + ".0"


def _nested(value: np.ndarray[Any, Any]) -> str:
    return _number(value) if value.ndim == 0 else f"[{', '.join(_nested(np.asarray(part)) for part in value)}]"


def _call(function: str, texts: Sequence[str], pieces: Sequence[Piece], **keywords: Any) -> Piece:
    given = [*texts, *(f"{key}={value}" for key, value in keywords.items())]
    return Piece(f"{function}({', '.join(given)})", weight=1 + sum(piece.weight for piece in pieces))


def _reduction(function: str) -> Any:
    def write(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
        x, axes = shown.args[0], shown.attrs["axes"]
        keywords: dict[str, Any] = {}
        if axes != tuple(range(x.ndim)) or not axes:
            keywords["axis"] = axes[0] if len(axes) == 1 else axes
        elif shown.name.startswith("arg"):
            keywords["axis"] = axes[0]
        if shown.attrs["keepdims"]:
            keywords["keepdims"] = True
        if shown.name in ("sum", "prod") and node.dtype.kind in "biu" and node.dtype.itemsize < 8:
            keywords["dtype"] = _dtype(node.dtype)
        printer.helpers |= {shown.name} & HELPERS.keys()
        return _call(function, [pieces[0].text], pieces, **keywords)

    return write


def _cumulative_sum(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    narrow = node.dtype.kind in "biu" and node.dtype.itemsize < 8
    keywords = {"axis": shown.attrs["axis"]} | ({"dtype": _dtype(node.dtype)} if narrow else {})
    return _call("np.cumsum", [pieces[0].text], pieces, **keywords)


def _helper(name: str, *attributes: str) -> Any:
    def write(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
        printer.helpers.add(name)
        return _call(f"_{name}", [p.text for p in pieces], pieces, **{key: shown.attrs[key] for key in attributes})

    return write


def _function(function: str, *attributes: str) -> Any:
    def write(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
        return _call(function, [p.text for p in pieces], pieces, **{key: shown.attrs[key] for key in attributes})

    return write


def _part(function: str, part: int) -> Any:
    def write(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
        found = _call(function, [pieces[0].text], pieces)
        return Piece(f"{found.text}[{part}]", weight=found.weight)

    return write


def _matmul(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    return combine("{0} @ {1}", 13, pieces)


def _einsum(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    return _call("np.einsum", [f'"{shown.attrs["subscripts"]}"', *(p.text for p in pieces)], pieces)


def _reshape(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    return _call("np.reshape", [pieces[0].text, printer.shape(node.shape)], pieces)


def _broadcast(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    x = shown.args[0]
    if _is_bare(x) and x not in printer.parameters:
        return _call("np.full", [printer.shape(node.shape), printer.write(x, []).text, _dtype(node.dtype)], [])
    return _call("np.broadcast_to", [pieces[0].text, printer.shape(node.shape)], pieces)


def _permute(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    axes = shown.attrs["axes"]
    rank = len(axes)
    if axes == tuple(reversed(range(rank))):
        return Piece(f"{bracket(pieces[0], ATOM)}.T", weight=pieces[0].weight)
    if axes == (*range(rank - 2), rank - 1, rank - 2):
        return _call("np.swapaxes", [pieces[0].text, "-1", "-2"], pieces)
    return _call("np.transpose", [pieces[0].text, str(axes)], pieces)


def _expand(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    if not shown.args[0].ndim:
        return _broadcast(printer, shown, node, pieces)
    entries = ", ".join(expanded_entries(node.ndim, shown.attrs["axes"]))
    return Piece(f"{bracket(pieces[0], ATOM)}[{entries}]", weight=pieces[0].weight)


def _eye(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    return _call("np.eye", [printer.size(shown.attrs["size"]).text], [], dtype=_dtype(node.dtype))


def _squeeze(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    axes = shown.attrs["axes"]
    return _call("np.squeeze", [pieces[0].text], pieces, axis=axes[0] if len(axes) == 1 else axes)


def _slice(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    attrs, shape = shown.attrs, shown.args[0].shape
    printer.shape(tuple(_shown_sizes(shape, attrs["starts"], attrs["sizes"])))
    integers = attrs.get("axes", ())
    entries = slice_texts(shape, attrs["starts"], attrs["steps"], attrs["sizes"], integers, printer.sizes)
    return Piece(f"{bracket(pieces[0], ATOM)}[{index_text(entries)}]", weight=pieces[0].weight + 1)


def _shown_sizes(shape: Sequence[Size], starts: Sequence[Size], sizes: Sequence[Size]) -> list[Size]:
    partial = [(s, start) for whole, start, s in zip(shape, starts, sizes, strict=True) if whole != s or start != 0]
    return [size for pair in partial for size in pair]


def _place(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    attrs, sizes = shown.attrs, shown.args[0].shape
    printer.helpers.add("place")
    printer.shape(tuple(_shown_sizes(attrs["shape"], attrs["starts"], sizes)))
    entries = slice_texts(attrs["shape"], attrs["starts"], attrs["steps"], sizes, (), printer.sizes)
    index = f"np.s_[{index_text(entries)}]"
    return _call("_place", [pieces[0].text, printer.shape(attrs["shape"]), index], pieces)


def _joined(function: str) -> Any:
    def write(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
        keywords = {"axis": shown.attrs["axis"]} if shown.attrs["axis"] else {}
        return _call(function, [f"[{', '.join(p.text for p in pieces)}]"], pieces, **keywords)

    return write


def _gather(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
    axes = shown.attrs["axes"]
    leading = axes == tuple(range(len(axes)))
    array = bracket(pieces[0], ATOM) if leading else f"np.moveaxis({pieces[0].text}, {axes}, range({len(axes)}))"
    inside = ", ".join(p.text for p in pieces[1:])
    return Piece(f"{array}[{inside}]", weight=1 + sum(p.weight for p in pieces))


def _scatter(name: str) -> Any:
    def write(printer: _NumpyPrinter, shown: View, node: Expr, pieces: list[Piece]) -> Piece:
        printer.helpers.add(name)
        indices = f"({', '.join(p.text for p in pieces[2:])},)"
        return _call(f"_{name}", [pieces[0].text, pieces[1].text, indices, str(shown.attrs["axes"])], pieces)

    return write


_WRITERS: dict[str, Callable[[_NumpyPrinter, View, Expr, list[Piece]], Piece]] = {
    **{name: _reduction(f"np.{name}") for name in ("sum", "prod", "mean", "max", "min", "any", "all")},
    "argmax": _reduction("np.argmax"),
    "argmin": _reduction("np.argmin"),
    "logsumexp": _reduction("_logsumexp"),
    "vector_norm": _reduction("np.linalg.vector_norm"),
    "cumulative_sum": _cumulative_sum,
    "exclusive_prod": _helper("exclusive_prod", "axis"),
    "matmul": _matmul,
    "einsum": _einsum,
    "reshape": _reshape,
    "broadcast_to": _broadcast,
    "permute_dims": _permute,
    "expand_dims": _expand,
    "squeeze": _squeeze,
    "eye": _eye,
    "slice": _slice,
    "index": _slice,
    "place": _place,
    "concat": _joined("np.concatenate"),
    "stack": _joined("np.stack"),
    "gather": _gather,
    "scatter_add": _scatter("scatter_add"),
    "scatter_set": _scatter("scatter_set"),
    "cholesky": _function("np.linalg.cholesky"),
    "cholesky_pullback": _helper("cholesky_pullback"),
    "solve": _function("np.linalg.solve"),
    "solve_triangular": _helper("solve_triangular", "lower", "transposed"),
    "inv": _function("np.linalg.inv"),
    "det": _function("np.linalg.det"),
    "det_sign": _part("np.linalg.slogdet", 0),
    "logabsdet": _part("np.linalg.slogdet", 1),
}
