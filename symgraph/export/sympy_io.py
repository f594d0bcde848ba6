"""Formulas to SymPy and from SymPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache, reduce
from typing import Any

import numpy as np
import sympy

from symgraph.dims import Dim
from symgraph.errors import ExportError
from symgraph.export.expanding import expand_custom
from symgraph.export.text import given_outputs
from symgraph.expr import Expr, constant, constant_value, topological
from symgraph.interpret import known_attributes
from symgraph.op import FUNCTIONS, REGISTRY, Kind, Op

Cells = np.ndarray[Any, Any]

_LARGEST = 10_000


def to_sympy(e: Expr | Sequence[Expr]) -> Any:
    """Return expressions as SymPy expressions, arrays of fixed shape element by element.

    Args:
        e: One node, or several (a list comes back). Sizes must be integers.

    Returns:
        For a scalar a SymPy expression, for two axes an immutable ``Matrix``, for any other number of axes
        an immutable N-dimensional ``Array``. Placeholders and variables become real (integer, for integer
        dtypes) symbols of the same name, elements of an array ``x_0_1``.

    Raises:
        ExportError: a size is symbolic, an operation has no SymPy form, or an array is too large.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph():
        ...     x, y = sg.placeholder("x"), sg.placeholder("y")
        >>> sg.to_sympy(x**2 * sg.sin(y))
        x**2*sin(y)
    """
    outputs = expand_custom(given_outputs(e)[0])
    cells: dict[Expr, Cells] = {}
    for node in topological(outputs):
        if any(isinstance(size, Dim) for size in node.shape):
            raise ExportError(f"to_sympy: {node!r} has a symbolic size: only fixed shapes have elements to write")
        if math.prod(map(int, node.shape)) > _LARGEST:
            raise ExportError(f"to_sympy: {node!r} has more than {_LARGEST} elements")
        try:
            cells[node] = _leaf(node) if node.op.kind is Kind.LEAF else _apply(node, [cells[arg] for arg in node.args])
        except RecursionError:
            raise ExportError(f"to_sympy: the expression at {node!r} is nested too deeply for SymPy") from None
    results = [_packed(cells[output]) for output in outputs]
    return results[0] if isinstance(e, Expr) else results


def _packed(cells: Cells) -> Any:
    values = [sympy.sympify(value) for value in cells.ravel()]
    if cells.ndim == 0:
        return values[0]
    if cells.ndim == 2:
        return sympy.ImmutableDenseMatrix(*cells.shape, values)
    return sympy.ImmutableDenseNDimArray(values, cells.shape)


def _array(values: Sequence[Any], shape: Sequence[int]) -> Cells:
    cells = np.empty(len(values), object)
    cells[:] = values
    return cells.reshape(shape)


def _leaf(node: Expr) -> Cells:
    shape = tuple(int(size) for size in node.shape)
    value = constant_value(node)
    if node.op.name == "arange":
        value = np.arange(shape[0])
    if value is not None:
        return _array([_number(v.item(), v.dtype) for v in value.ravel()], shape)
    if node.op.name == "size":
        raise ExportError(f"to_sympy: the size {node.attrs[0]} is symbolic: only fixed shapes have elements to write")
    assumptions = {"f": {"real": True}, "b": {}}.get(node.dtype.kind, {"integer": True})
    names = ["_".join([node.attrs[0], *map(str, index)]) for index in np.ndindex(shape)]
    return _array([sympy.Symbol(name, **assumptions) for name in names], shape)


def _number(value: Any, dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "b":
        return sympy.true if value else sympy.false
    if dtype.kind != "f":
        return sympy.Integer(value)
    if value != value:
        return sympy.nan
    if math.isinf(value):
        return sympy.oo if value > 0 else -sympy.oo
    numerator, denominator = value.as_integer_ratio()
    return sympy.Rational(numerator, denominator) if denominator <= 1024 and abs(value) < 1e9 else sympy.Float(value)


def _apply(node: Expr, args: Sequence[Cells]) -> Cells:
    if node.op.kind is Kind.ELEMENTWISE:
        return _elementwise(node, args)
    attrs = dict(zip(node.op.attributes, known_attributes(node.attrs, {}), strict=True))
    if node.op.kind is Kind.MOVEMENT:
        return np.asarray(node.op.evaluate(*args, *attrs.values()), object)
    rule = _REDUCTIONS.get(node.op.name)
    if rule is not None:
        return _reduced(args[0], attrs["axes"], attrs["keepdims"], rule)
    other = _OTHERS.get(node.op.name)
    if other is None:
        raise _unsupported(node.op)
    return np.asarray(other(node, args, attrs), object)


def _unsupported(op: Op) -> ExportError:
    return ExportError(f"to_sympy: the operation {op.name} has no SymPy form")


def _elementwise(node: Expr, args: Sequence[Cells]) -> Cells:
    op = node.op
    if op.name == "astype":
        function = _cast(node.args[0].dtype.kind, node.dtype.kind)
    elif node.args[-1].dtype.kind == "b" and op.name in _LOGIC:
        function = _LOGIC[op.name]
    elif node.args[-1].dtype.kind == "b" and op.name not in _ON_BOOLEANS:
        raise ExportError(f"to_sympy: the operation {op.name} of booleans has no SymPy form")
    elif op.sympy is None:
        raise _unsupported(op)
    else:
        function = _function(op, node.attrs)
    wide = np.broadcast_arrays(*args)
    return _array([function(*values) for values in zip(*(w.ravel() for w in wide), strict=True)], wide[0].shape)


_LOGIC: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("bitwise_and", "multiply", "minimum"), sympy.And),
    **dict.fromkeys(("bitwise_or", "add", "maximum"), sympy.Or),
    "bitwise_xor": sympy.Xor,
    "bitwise_invert": sympy.Not,
}
_ON_BOOLEANS = {"where", "equal", "not_equal", "logical_and", "logical_or", "logical_xor", "logical_not", "positive"}


def _cast(source: str, target: str) -> Callable[[Any], Any]:
    if source == target or (target == "f" and source != "b") or (source != "f" and target in "iu" and source != "b"):
        return lambda x: x
    if source == "b":
        return lambda x: sympy.Piecewise((1, x), (0, True))
    if target == "b":
        return lambda x: sympy.Ne(x, 0)
    return lambda x: sympy.Piecewise((sympy.floor(x), x >= 0), (sympy.ceiling(x), True))


@cache
def _function(op: Op, attrs: tuple[Any, ...]) -> Callable[..., Any]:
    """Return an operation's SymPy fact as a function of SymPy expressions."""
    fact = op.sympy or ""
    if "{" not in fact:
        found: Callable[..., Any] = getattr(sympy, fact)
        return found
    names = [f"x{i}" for i in range(op.arity or 0)]
    body = fact.format(*names, **dict(zip(op.attributes, attrs, strict=True)))
    made: Callable[..., Any] = eval(f"lambda {', '.join(names)}: {body}", vars(sympy))
    return made


def _reduced(x: Cells, axes: tuple[int, ...], keepdims: bool, rule: Callable[[list[Any]], Any]) -> Cells:
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    rows = x.transpose(*kept, *axes)
    shape = [1 if a in axes else x.shape[a] for a in range(x.ndim)] if keepdims else [x.shape[a] for a in kept]
    count = math.prod(x.shape[a] for a in axes)
    if not count:
        return _array([rule([]) for _ in range(math.prod(shape))], shape)
    return _array([rule(list(row)) for row in rows.reshape(-1, count)], shape)


def _first(values: list[Any], better: Callable[[Any, Any], Any]) -> Any:
    """Return the index of the first value that no other beats."""
    pairs = [(i, sympy.And(*(better(v, other) for other in values))) for i, v in enumerate(values)]
    return sympy.Piecewise(*pairs)


_REDUCTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "sum": lambda values: sympy.Add(*values),
    "prod": lambda values: sympy.Mul(*values),
    "mean": lambda values: sympy.Add(*values) / len(values) if values else sympy.nan,
    "max": lambda values: sympy.Max(*values),
    "min": lambda values: sympy.Min(*values),
    "any": lambda values: sympy.Or(*values),
    "all": lambda values: sympy.And(*values),
    "argmax": lambda values: _first(values, sympy.Ge),
    "argmin": lambda values: _first(values, sympy.Le),
    "logsumexp": lambda values: sympy.log(sympy.Add(*map(sympy.exp, values))),
    "vector_norm": lambda values: sympy.sqrt(sympy.Add(*(value**2 for value in values))),
}


def _scan(rule: Callable[[list[Any], int], Any]) -> Callable[..., Cells]:
    def apply(node: Expr, args: Sequence[Cells], attrs: dict[str, Any]) -> Cells:
        moved = np.moveaxis(args[0], attrs["axis"], -1)
        rows = [[rule(list(row), i) for i in range(len(row))] for row in moved.reshape(-1, moved.shape[-1])]
        return np.moveaxis(_array([v for row in rows for v in row], moved.shape), -1, attrs["axis"])

    return apply


def _indexed(node: Expr, args: Sequence[Cells], attrs: dict[str, Any]) -> Cells:
    first = 1 if node.op.name == "gather" else 2
    indices = []
    for cells in args[first:]:
        if not all(isinstance(value, int | sympy.Integer) for value in cells.ravel()):
            raise ExportError(f"to_sympy: the operation {node.op.name} needs constant indices to have a SymPy form")
        indices.append(cells.astype(np.int64))
    return np.asarray(node.op.evaluate(*args[:first], *indices, *attrs.values()), object)


def _matrices(rule: Callable[..., Any], rank: int) -> Callable[..., Cells]:
    """Return a rule on matrices as one on the last two axes of arrays."""

    def apply(node: Expr, args: Sequence[Cells], attrs: dict[str, Any]) -> Cells:
        vector = len(args) == 2 and args[1].ndim == 1
        columns = [args[0], args[1][:, None]] if vector else list(args)
        batch = np.broadcast_shapes(*(a.shape[:-2] for a in columns))
        wide = [np.broadcast_to(a, (*batch, *a.shape[-2:])) for a in columns]
        parts = []
        for index in np.ndindex(batch):
            found = rule(*(sympy.Matrix(*a.shape[-2:], list(a[index].ravel())) for a in wide), **attrs)
            parts += list(found) if rank else [found]
        return _array(parts, node.shape)  # type: ignore[arg-type]

    return apply


def _triangular(a: Any, b: Any, lower: bool, transposed: bool) -> Any:
    triangle = a.lower_triangular(0) if lower else a.upper_triangular(0)
    return (triangle.T if transposed else triangle).LUsolve(b)


def _cholesky_pullback(factor: Any, cotangent: Any) -> Any:
    lower = (factor.T * cotangent.lower_triangular(0)).lower_triangular(0)
    half = factor.T.LUsolve(lower + lower.lower_triangular(-1).T)
    return factor.T.LUsolve(half.T) / 2


_OTHERS: dict[str, Callable[[Expr, Sequence[Cells], dict[str, Any]], Any]] = {
    "cumulative_sum": _scan(lambda row, i: sympy.Add(*row[: i + 1])),
    "exclusive_prod": _scan(lambda row, i: sympy.Mul(*row[:i], *row[i + 1 :])),
    "matmul": lambda node, args, attrs: np.matmul(*args),
    "einsum": lambda node, args, attrs: np.einsum(attrs["subscripts"], *args, optimize=False),
    "gather": _indexed,
    "scatter_add": _indexed,
    "scatter_set": _indexed,
    "cholesky": _matrices(lambda a: a.cholesky(hermitian=False), 2),
    "cholesky_pullback": _matrices(_cholesky_pullback, 2),
    "solve": _matrices(lambda a, b: a.LUsolve(b), 2),
    "solve_triangular": _matrices(_triangular, 2),
    "inv": _matrices(lambda a: a.inv(), 2),
    "det": _matrices(lambda a: a.det(), 0),
    "det_sign": _matrices(lambda a: sympy.sign(a.det()), 0),
    "logabsdet": _matrices(lambda a: sympy.log(sympy.Abs(a.det())), 0),
}


def from_sympy(expr: Any, symbols: Mapping[Any, Any]) -> Expr:
    """Return a SymPy expression as a node.

    Args:
        expr: A SymPy expression; a matrix or array becomes an array of its elements.
        symbols: What stands for each symbol: nodes or numbers. Arrays broadcast as in NumPy.

    Raises:
        ExportError: a symbol is missing, or a function has no counterpart; the message names it.

    Example:
        >>> import symgraph as sg, sympy
        >>> with sg.Graph():
        ...     x = sg.placeholder("x")
        >>> s = sympy.Symbol("s")
        >>> print(sg.to_text(sg.from_sympy(sympy.exp(s) / 2, {s: x})))
        exp(x)/2
    """
    root = sympy.sympify(expr)
    if isinstance(root, sympy.MatrixBase | sympy.NDimArray):
        cells = [from_sympy(cell, symbols) for cell in sympy.flatten(root.tolist())] if math.prod(root.shape) else []
        if not cells:
            return constant(np.zeros(root.shape))
        stacked: Expr = FUNCTIONS["reshape"](FUNCTIONS["stack"](cells), tuple(int(size) for size in root.shape))
        return stacked
    known: dict[Any, Any] = {}
    pending: list[tuple[Any, bool]] = [(root, False)]
    while pending:
        tree, ready = pending.pop()
        if tree in known:
            continue
        parts, build = _read(tree, symbols)
        if ready or not parts:
            values = [known[part] for part in parts]
            plain = bool(values) and not any(isinstance(value, Expr) for value in values)
            known[tree] = _float(tree) if plain and tree.is_number and not tree.is_Boolean else build(values)
        else:
            pending.append((tree, True))
            pending.extend((part, False) for part in parts)
    result = known[root]
    return result if isinstance(result, Expr) else constant(result)


Build = Callable[[list[Any]], Any]


def _float(tree: Any) -> float | int:
    if tree.is_Integer:
        return int(tree)
    try:
        return float(tree)
    except TypeError:
        raise ExportError(f"from_sympy: {tree} is not a real number") from None


def _read(tree: Any, symbols: Mapping[Any, Any]) -> tuple[list[Any], Build]:
    """Return the parts of a SymPy expression and what builds it from their values."""
    if tree in symbols:
        return [], lambda _: symbols[tree]
    if isinstance(tree, sympy.Symbol):
        raise ExportError(f"from_sympy: the symbol {tree} is not given: pass {{{tree}: node}}")
    if tree in (sympy.true, sympy.false):
        return [], lambda _: bool(tree)
    if isinstance(tree, sympy.Number | sympy.NumberSymbol):
        return [], lambda _: _float(tree)
    if isinstance(tree, sympy.Add):
        return _read_sum(tree)
    if isinstance(tree, sympy.Mul):
        return _read_product(tree)
    if isinstance(tree, sympy.Pow):
        return _read_power(tree)
    if isinstance(tree, sympy.Piecewise):
        flat = [part for pair in tree.args for part in pair.args]
        return flat, _build_piecewise
    if isinstance(tree, sympy.polygamma) and tree.args[0].is_Integer:
        order = int(tree.args[0])
        return [tree.args[1]], lambda v: FUNCTIONS["polygamma"](order, v[0]) if order else FUNCTIONS["digamma"](v[0])
    if isinstance(tree, sympy.log) and len(tree.args) == 1:
        return list(tree.args), lambda v: FUNCTIONS["log"](v[0])
    build = _builders().get(tree.func.__name__)
    if build is None:
        raise ExportError(f"from_sympy: {tree.func.__name__} has no counterpart in symgraph (in {tree})")
    return list(tree.args), build


def _read_sum(tree: Any) -> tuple[list[Any], Build]:
    terms = [(-term, -1) if term.could_extract_minus_sign() else (term, 1) for term in tree.args]
    terms.sort(key=lambda pair: -pair[1])

    def build(values: list[Any]) -> Any:
        total = values[0] if terms[0][1] > 0 else FUNCTIONS["negative"](values[0])
        for value, (_, sign) in zip(values[1:], terms[1:], strict=True):
            total = FUNCTIONS["add" if sign > 0 else "subtract"](total, value)
        return total

    return [term for term, _ in terms], build


def _read_product(tree: Any) -> tuple[list[Any], Build]:
    above, below = [], []
    coefficient, rest = tree.as_coeff_Mul()
    if coefficient.is_Rational and coefficient.q != 1:
        below.append(sympy.Integer(coefficient.q))
        coefficient = sympy.Integer(coefficient.p)
    for factor in sympy.Mul.make_args(rest):
        if isinstance(factor, sympy.Pow) and factor.exp.is_Rational and factor.exp < 0:
            below.append(sympy.Pow(factor.base, -factor.exp))
        else:
            above.append(factor)
    negative = coefficient == -1
    if coefficient not in (1, -1) or not above:
        above.insert(0, sympy.Abs(coefficient) if negative else coefficient)

    def build(values: list[Any]) -> Any:
        total = reduce(FUNCTIONS["multiply"], values[: len(above)])
        if below:
            total = FUNCTIONS["divide"](total, reduce(FUNCTIONS["multiply"], values[len(above) :]))
        return FUNCTIONS["negative"](total) if negative else total

    return above + below, build


def _read_power(tree: Any) -> tuple[list[Any], Build]:
    base, exponent = tree.args
    simple = {
        sympy.Integer(2): "square",
        sympy.Integer(-1): "reciprocal",
        sympy.Rational(1, 2): "sqrt",
    }.get(exponent)
    if simple is not None:
        return [base], lambda v: FUNCTIONS[simple](v[0])
    if exponent.is_Rational and exponent < 0:
        return [sympy.Pow(base, -exponent)], lambda v: FUNCTIONS["reciprocal"](v[0])
    return [base, exponent], lambda v: FUNCTIONS["power"](v[0], v[1])


def _build_piecewise(values: list[Any]) -> Any:
    result: Any = math.nan
    for value, condition in reversed(list(zip(values[::2], values[1::2], strict=True))):
        if condition is True:
            result = value
        elif condition is not False:
            result = FUNCTIONS["where"](condition, value, result)
    return result


@lru_cache(maxsize=1)
def _builders() -> dict[str, Build]:
    """Return what builds each SymPy function: the facts of the operations, and a few made of others."""

    def plain(name: str) -> Build:
        return lambda values: FUNCTIONS[name](*values)

    def folded(name: str) -> Build:
        return lambda values: reduce(FUNCTIONS[name], values)

    def inverse(name: str) -> Build:
        return lambda values: FUNCTIONS["reciprocal"](FUNCTIONS[name](*values))

    found = {
        op.sympy: folded(name) if "associative" in op.facts else plain(name)
        for name, op in REGISTRY.items()
        if op.sympy and op.sympy.isidentifier() and name in FUNCTIONS
    }
    relations = {"Eq": "Equality", "Ne": "Unequality", "Lt": "StrictLessThan", "Le": "LessThan"}
    relations |= {"Gt": "StrictGreaterThan", "Ge": "GreaterThan"}
    found |= {relations[name]: build for name, build in found.items() if name in relations}
    found |= {name: folded(f"logical_{name.lower()}") for name in ("And", "Or", "Xor")}
    found |= {"sec": inverse("cos"), "csc": inverse("sin"), "cot": inverse("tan")}
    found |= {"sech": inverse("cosh"), "csch": inverse("sinh"), "coth": inverse("tanh")}
    found["Mod"] = plain("remainder")
    found["ITE"] = plain("where")
    found["Heaviside"] = lambda values: FUNCTIONS["where"](
        FUNCTIONS["equal"](values[0], 0), values[1], FUNCTIONS["where"](FUNCTIONS["greater"](values[0], 0), 1.0, 0.0)
    )
    return found
