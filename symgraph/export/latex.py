"""Formulas as LaTeX, matrix expressions as matrix expressions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from symgraph.dims import Dim, names
from symgraph.export.forms import Form, Forms
from symgraph.export.lowering import lower, lower_leaf
from symgraph.export.naming import identifier
from symgraph.export.printing import Piece, View, assemble, slice_texts, view
from symgraph.export.text import given_outputs
from symgraph.expr import Expr, topological
from symgraph.op import Kind, Op

_SUM, _OPEN, _PRODUCT, _POWER, _APPLIED, _ATOM = 12, 13, 14, 15, 90, 100
_HEAVY = 3
_LIMIT = 400
_LONGEST_EXPONENT = 30
_GREEK = frozenset(
    r"""alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi
    omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega varepsilon ell""".split()  # noqa: SIM905
)


def to_latex(e: Expr | Sequence[Expr] | Mapping[str, Expr]) -> str:
    r"""Return expressions as LaTeX for math mode (the subset that KaTeX and MathJax know).

    Matrix products are written by juxtaposition, vectors are columns, elementwise products are ``\odot``,
    and scalar factors are collected in front. Sub-expressions that several places use become lines
    ``t_{1} = ...``; several lines are an ``aligned`` environment. Types and conversions between them are
    not written.

    Args:
        e: One node, several (one line each, sharing the named lines), or nodes by name.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph():
        ...     X, w, y = sg.placeholder("X", ("n", "d")), sg.placeholder("w", ("d",)), sg.placeholder("y", ("n",))
        >>> print(sg.to_latex(sg.mean((X @ w - y) ** 2)))
        \frac{1}{n} \left\| X w - y \right\|^{2}
    """
    outputs, labels = given_outputs(e)
    algebra = Forms(_namer(outputs))
    forms = _lower(outputs, algebra)
    taken = algebra.names()
    # An element of an array t is written t_{1}: shared parts take a letter that no array has.
    stems = {name.partition("_")[0] for name in taken}
    stem = next((letter for letter in "tuvsrqpzyxwabcdefghklm" if letter not in stems), r"\tau")
    free = (name for i in itertools.count(1) if (name := f"{stem}_{{{i}}}") not in taken)
    lines, pieces = assemble(
        forms,
        lambda form: form.args,
        write,
        lambda form: next(free),
        heavy=_HEAVY,
        limit=_LIMIT,
    )
    rows = [(line.name, line.text) for line in lines]
    rows += [
        ("" if label is None else latex_name(label), piece.text) for label, piece in zip(labels, pieces, strict=True)
    ]
    if len(rows) == 1:
        name, text = rows[0]
        return f"{name} = {text}" if name else text
    body = " \\\\\n".join(f"{name} &= {text}" if name else f"& {text}" for name, text in rows)
    return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"


def latex_name(name: str) -> str:
    r"""Return a name as LaTeX: ``\alpha``, ``w_{1}``, ``\mathrm{rate}``."""
    scope, _, last = name.rpartition("/")
    stem, _, subscript = identifier(last).strip("_").partition("_")
    if not subscript and (match := re.fullmatch(r"([^\W\d]+?)(\d+)", stem)):
        stem, subscript = match[1], match[2]
    parts = [part for part in (*subscript.split("_"), *scope.split("/")) if part]
    shown = _word(stem or "x")
    return f"{shown}_{{{','.join(_word(part) for part in parts)}}}" if parts else shown


def _word(word: str) -> str:
    if word in _GREEK:
        return "\\" + word
    return word if len(word) == 1 or word.isdigit() else rf"\mathrm{{{word}}}"


def _namer(outputs: Sequence[Expr]) -> Callable[[object], str]:
    """Return what gives leaves and sizes their printed names, no name to two of them."""
    nodes = topological(outputs)
    leaves = sorted(
        (node for node in nodes if node.op.name in ("placeholder", "variable")), key=lambda node: node.attrs[1]
    )
    sizes = {name for node in nodes for size in node.shape if isinstance(size, Dim) for name in names(size)}
    sizes |= {name for node in nodes if node.op.name == "size" for name in names(node.attrs[0])}
    found: dict[object, str] = {}
    for key, name in [*((leaf, leaf.attrs[0]) for leaf in leaves), *((size, size) for size in sorted(sizes))]:
        shown = latex_name(name)
        if shown in found.values():
            shown = r"\mathrm{" + identifier(name).replace("_", r"\_") + "}"
        while shown in found.values():
            shown += "'"
        found[key] = shown
    return lambda key: found[key]


def _lower(outputs: Sequence[Expr], algebra: Forms) -> list[Form]:
    forms: dict[Expr, Form] = {}
    views: dict[Expr, View] = {}
    pending: list[tuple[Expr, bool]] = [(output, False) for output in reversed(outputs)]
    while pending:
        node, ready = pending.pop()
        if node in forms:
            continue
        if node.op.kind is Kind.LEAF:
            forms[node] = lower_leaf(algebra, node)
        elif ready:
            shown = views.pop(node)
            forms[node] = lower(algebra, node, shown, [forms[arg] for arg in shown.args])
        else:
            views[node] = view(node)
            pending.append((node, True))
            pending.extend((arg, False) for arg in reversed(views[node].args))
    return [forms[output] for output in outputs]


def write(form: Form, pieces: list[Piece]) -> Piece:
    """Return a form as LaTeX."""
    piece = _WRITERS[form.head](form, pieces)
    return Piece(piece.text, piece.precedence, piece.weight + sum(part.weight for part in pieces))


def _bracket(piece: Piece, minimum: int) -> str:
    return piece.text if piece.precedence >= minimum else rf"\left({piece.text}\right)"


def _juxtapose(texts: Sequence[str]) -> str:
    joined = texts[0]
    for text in texts[1:]:
        if text[0].isdigit() or text.startswith(r"\frac"):
            joined += rf" \cdot {text}" if joined[-1].isdigit() else f" {text}"
        elif text.startswith(r"\mathrm") or re.search(r"\\mathrm\{\w*\}$", joined):
            joined += rf" \, {text}"
        else:
            joined += f" {text}"
    return joined


def _factors(pieces: Sequence[Piece]) -> tuple[str, int]:
    """Return pieces written side by side, and the precedence of the product."""
    if len(pieces) == 1:
        return pieces[0].text, pieces[0].precedence
    texts = [_bracket(piece, _PRODUCT) for piece in pieces[:-1]] + [_bracket(pieces[-1], _OPEN)]
    return _juxtapose(texts), min(pieces[-1].precedence, _PRODUCT) if pieces[-1].precedence >= _OPEN else _PRODUCT


def _repeated(forms: Sequence[Form], pieces: Sequence[Piece]) -> list[Piece]:
    """Return factors with those that occur several times as powers."""
    counts: dict[Form, int] = {}
    for form in forms:
        counts[form] = counts.get(form, 0) + 1
    found = dict(zip(forms, pieces, strict=True))
    return [
        found[form] if count == 1 else Piece(f"{_base(found[form])}^{{{count}}}", _POWER, found[form].weight)
        for form, count in counts.items()
    ]


def _term(form: Form, pieces: list[Piece]) -> Piece:
    coefficient, n, m = form.data
    factors = _repeated(form.args[:n], pieces[:n])
    divisors = _repeated(form.args[n : n + m], pieces[n : n + m])
    core = pieces[n + m :]
    plain = all(piece.weight == 0 for piece in divisors)
    top, bottom = abs(coefficient.numerator), coefficient.denominator
    inside = not plain or not (divisors or bottom != 1)
    small = [piece for piece in factors if inside or (piece.weight == 0 and r"\log" not in piece.text)]
    large = [piece for piece in factors if piece not in small]
    front = ([Piece(str(top))] if top != 1 else []) + small
    below = ([Piece(str(bottom))] if bottom != 1 else []) + divisors
    if below:
        above = _factors(front)[0] if front else "1"
        front = [Piece(rf"\frac{{{above}}}{{{_factors(below)[0]}}}", _APPLIED)]
    parts = [*front, *large, *core] or [Piece("1")]
    text, precedence = _factors(parts)
    weight = 1 if len(parts) > 1 or divisors else 0
    if coefficient < 0:
        return Piece("-" + (text if precedence >= _OPEN else _bracket(parts[0], _OPEN)), _SUM, weight)
    return Piece(text, precedence, weight)


def _add(form: Form, pieces: list[Piece]) -> Piece:
    left, right = pieces
    if right.text.startswith("-") and right.precedence >= _SUM:
        if not left.text.startswith("-") and form.args[1].head == "term":
            return Piece(f"{left.text} - {right.text[1:].lstrip()}", _SUM, 1)
        return Piece(f"{_bracket(left, _SUM)} - {right.text[1:].lstrip()}", _SUM, 1)
    return Piece(f"{_bracket(left, _SUM)} + {_bracket(right, _SUM)}", _SUM, 1)


def _matmul(form: Form, pieces: list[Piece]) -> Piece:
    # A number that is a matrix product keeps brackets inside longer products: (xᵀy) z is not xᵀ (y z).
    return Piece(_juxtapose([_bracket(piece, _PRODUCT) for piece in pieces]), _PRODUCT if form.rank else _OPEN, 1)


def _hadamard(form: Form, pieces: list[Piece]) -> Piece:
    left = _bracket(pieces[0], _OPEN if form.args[0].head == "hadamard" else _PRODUCT)
    return Piece(rf"{left} \odot {_bracket(pieces[1], _PRODUCT)}", _OPEN, 1)


def _power(form: Form, pieces: list[Piece]) -> Piece:
    return Piece(f"{_base(pieces[0])}^{{{pieces[1].text}}}", _POWER, 1 if pieces[0].weight else 0)


def _squared_norm(form: Form, pieces: list[Piece]) -> Piece:
    frobenius = "_F" if form.args[0].rank == 2 else ""
    return Piece(rf"\left\| {pieces[0].text} \right\|{frobenius}^{{2}}", _POWER, 1)


def _norm(form: Form, pieces: list[Piece]) -> Piece:
    subscript = f"_{{{form.data[1]}}}" if form.data[1] else ""
    return Piece(rf"\left\| {pieces[0].text} \right\|{subscript}", _ATOM, 1)


def _call(form: Form, pieces: list[Piece]) -> Piece:
    name, subscript = form.data
    shown = _NAMES.get(name, rf"\operatorname{{{name.replace('_', '')}}}")
    if subscript:
        shown += f"_{{{subscript}}}"
    return Piece(rf"{shown}\left({', '.join(piece.text for piece in pieces)}\right)", _APPLIED, 1)


def _base(piece: Piece) -> str:
    """Return a piece as what an exponent stands on; functions of bracketed arguments need no more brackets."""
    applied = piece.precedence == _APPLIED and piece.text.endswith(r"\right)")
    return piece.text if applied else _bracket(piece, _ATOM)


def _entries(form: Form) -> str:
    shape, starts, steps, sizes, integers = form.data
    return ",".join(slice_texts(shape, starts, steps, sizes, integers)).replace("*", " ").replace("//", "/")


def _place(form: Form, pieces: list[Piece]) -> Piece:
    return Piece(rf"\operatorname{{place}}_{{{_entries(form)}}}\left({pieces[0].text}\right)", _APPLIED, 1)


def _index(form: Form, pieces: list[Piece]) -> Piece:
    entries = _entries(form)
    base = _bracket(pieces[0], _ATOM)
    if "_" in base or "^" in base:
        return Piece(rf"{base}\left[{entries}\right]", _APPLIED, 1)
    return Piece(f"{base}_{{{entries}}}", _ATOM, 1)


def _reshape(form: Form, pieces: list[Piece]) -> Piece:
    shape = r" \times ".join(_bracket(piece, _PRODUCT) for piece in pieces[1:])
    return Piece(rf"\operatorname{{reshape}}_{{{shape}}}\left({pieces[0].text}\right)", _APPLIED, 1)


def _matrix(form: Form, pieces: list[Piece]) -> Piece:
    rows = r" \\ ".join(" & ".join(row) for row in form.data)
    return Piece(rf"\begin{{bmatrix}} {rows} \end{{bmatrix}}", _ATOM, 1)


def _vector(form: Form, pieces: list[Piece]) -> Piece:
    rows = r" \\ ".join(piece.text for piece in pieces)
    return Piece(rf"\begin{{bmatrix}} {rows} \end{{bmatrix}}", _ATOM, 1)


def _template(form: Form, pieces: list[Piece]) -> Piece:
    op, attributes = form.data
    assert op.latex is not None
    if op.name == "exp" and (len(pieces[0].text) > _LONGEST_EXPONENT or r"\begin" in pieces[0].text):
        return Piece(rf"\exp\left({pieces[0].text}\right)", _APPLIED, 1)
    texts = [_bracket(piece, least) for piece, least in zip(pieces, _places(op), strict=True)]
    return Piece(op.latex.format(*texts, **dict(attributes)), _strength(op), 1)


@cache
def _places(op: Op) -> tuple[int, ...]:
    """Return the precedence that each argument's place in an operation's template asks for."""
    marks = [chr(i + 1) for i in range(op.arity or 0)]
    shown = (op.latex or "").format(*marks, **dict.fromkeys(op.attributes, ""))
    minimums = []
    for mark in marks:
        before, after = shown.split(mark)[0], shown.split(mark)[1]
        if after.startswith("}^"):
            minimum = _ATOM
        elif re.search(r"(\\left\(|\\left\||\\lfloor ?|\\lceil ?|[{,&]|\\\\|cases\}) ?$", before) and "+" not in after:
            minimum = 0
        elif op.precedence < _ATOM:
            minimum = op.precedence + (0 if "associative" in op.facts else 1)
        else:
            minimum = _APPLIED if before else _PRODUCT
        minimums.append(minimum)
    return tuple(minimums)


def _strength(op: Op) -> int:
    latex = op.latex or ""
    if latex.startswith((r"\left", r"\sqrt")):
        return _ATOM
    if latex.startswith(("e^", "2^")):
        return _POWER
    if latex.endswith(" {0}") or " " in latex.split("{0}")[-1].split("{1}")[0]:
        return op.precedence if op.precedence < _ATOM else _OPEN
    return _APPLIED


def _open(prefix: str) -> Callable[[Form, list[Piece]], Piece]:
    return lambda form, pieces: Piece(f"{prefix} {_bracket(pieces[0], _OPEN)}", _OPEN, 1)


_NAMES = {
    "max": r"\max",
    "min": r"\min",
    "prod": r"\prod",
    "det": r"\det",
    "slice": r"\operatorname{slice}",
}
_WRITERS: Mapping[str, Callable[[Form, list[Piece]], Piece]] = {
    "atom": lambda form, pieces: Piece(form.data[0]),
    "term": _term,
    "group": lambda form, pieces: pieces[0],
    "same": lambda form, pieces: pieces[0],
    "iverson": lambda form, pieces: Piece(rf"\left[{pieces[0].text}\right]", _ATOM, 1),
    "ones": lambda form, pieces: Piece(r"\mathbf{1}"),
    "add": _add,
    "matmul": _matmul,
    "hadamard": _hadamard,
    "power": _power,
    "fraction": lambda form, pieces: Piece(rf"\frac{{{pieces[0].text}}}{{{pieces[1].text}}}", _APPLIED, 1),
    "transpose": lambda form, pieces: Piece(rf"{_base(pieces[0])}^\top", _POWER),
    "floor": lambda form, pieces: Piece(
        rf"\left\lfloor \frac{{{pieces[0].text}}}{{{pieces[1].text}}} \right\rfloor", _ATOM
    ),
    "total": _open(r"\sum"),
    "squared_norm": _squared_norm,
    "norm": _norm,
    "call": _call,
    "index": _index,
    "reshape": _reshape,
    "place": _place,
    "matrix": _matrix,
    "vector": _vector,
    "template": _template,
}
