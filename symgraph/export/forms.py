"""Expressions as a person writes them: scalar factors in front, matrix products, norms.

The graph is lowered to a small printing tree of interned :class:`Form` nodes, in which scalar factors of
products, quotients, transposes, sums and matrix products are collected into one coefficient in front.
Only the printed form is rearranged; the graph is not. Lowering is linear and keeps what is shared shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from symgraph.dims import Quotient, Shape, Size
from symgraph.dims import product as size_product
from symgraph.export.printing import View
from symgraph.expr import Expr, constant_value
from symgraph.op import REGISTRY, Kind

_LONGEST_TERM = 6
_KNOWN = {
    math.pi: r"\pi",
    2 * math.pi: r"2 \pi",
    math.log(2): r"\log 2",
    math.log(10): r"\log 10",
    math.log(2 * math.pi): r"\log\left(2 \pi\right)",
    math.sqrt(2): r"\sqrt{2}",
    math.sqrt(math.pi): r"\sqrt{\pi}",
    math.sqrt(2 * math.pi): r"\sqrt{2 \pi}",
}
"""Numbers that formulas hold, and what they are; each is recognised with a small factor as well."""
_FACTORS = [Fraction(p, q) * sign for p, q in ((1, 1), (1, 2), (2, 1)) for sign in (1, -1)]


@dataclass(frozen=True, eq=False, slots=True)
class Form:
    """A node of the printing tree.

    Attributes:
        head: What it is: ``atom``, ``term``, ``add``, ``matmul`` ...
        args: Its parts.
        data: What else the printer must know.
        rank: How many axes it has.
    """

    head: str
    args: tuple[Form, ...] = ()
    data: tuple[Any, ...] = ()
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Term:
    """A product: a rational coefficient, scalar factors over scalar divisors, and an array (or None)."""

    coefficient: Fraction = Fraction(1)
    factors: tuple[Form, ...] = ()
    divisors: tuple[Form, ...] = ()
    core: Form | None = None


class Lowering:
    """Turns the nodes of one formula into forms.

    Args:
        leaf: Gives the printed name of a placeholder, a variable or a size.
    """

    def __init__(self, leaf: Callable[[Any], str]) -> None:
        self._leaf = leaf
        self._interned: dict[Any, Form] = {}
        self._order: dict[Form, int] = {}
        self.one = self.product(Term())

    def form(self, head: str, *args: Form, data: tuple[Any, ...] = (), rank: int = 0) -> Form:
        """Return the one form with these parts."""
        key = (head, args, data, rank)
        found = self._interned.get(key)
        if found is None:
            found = self._interned[key] = Form(head, args, data, rank)
            self._order[found] = len(self._order)
        return found

    def names(self) -> set[str]:
        """Return everything that is printed as it stands."""
        return {form.data[0] for form in self._interned.values() if form.head == "atom"}

    def atom(self, text: str, rank: int = 0) -> Form:
        """Return something printed as it stands."""
        return self.form("atom", data=(text,), rank=rank)

    def term(self, form: Form) -> Term:
        """Return a form as a product."""
        if form.head != "term":
            return Term(core=form) if form.rank else Term(factors=(form,))
        coefficient, factors, divisors = form.data
        core = form.args[factors + divisors :]
        return Term(
            coefficient, form.args[:factors], form.args[factors : factors + divisors], core[0] if core else None
        )

    def product(self, term: Term) -> Form:
        """Return a product as a form."""
        divisors = list(term.divisors)
        factors = []
        for factor in term.factors:
            if factor.head == "atom" and factor.data[-1] == "size" and factor in divisors:
                divisors.remove(factor)
            else:
                factors.append(factor)
        factors.sort(key=self._place)
        divisors.sort(key=self._place)
        if term.coefficient == 0:
            return self.form("term", data=(Fraction(0), 0, 0))
        if term.coefficient == 1 and not divisors:
            if not factors and term.core is not None:
                return term.core
            if len(factors) == 1 and term.core is None:
                return factors[0]
        args = (*factors, *divisors, *([term.core] if term.core is not None else []))
        data = (term.coefficient, len(factors), len(divisors))
        rank = 0 if term.core is None else term.core.rank
        made = self.form("term", *args, data=data, rank=rank)
        return made if len(args) <= _LONGEST_TERM else self.form("group", made, rank=rank)

    def _place(self, factor: Form) -> tuple[int, int]:
        """Return where a factor stands in a product: digits, names, powers of names, anything else."""
        base = factor.args[0] if factor.head == "power" else factor
        group = 2 if base.head != "atom" else 0 if base.data[-1] == "number" else 1
        return group, self._order[factor]

    def scaled(self, form: Form, by: Fraction) -> Form:
        """Return a form multiplied by a number."""
        term = self.term(form)
        return self.product(Term(term.coefficient * by, term.factors, term.divisors, term.core))

    def split(self, form: Form) -> tuple[Term, Form]:
        """Return the scalar coefficient of an array, and the array without it."""
        term = self.term(form)
        core = term.core if term.core is not None else self.one
        return Term(term.coefficient, term.factors, term.divisors), core

    def linear(self, form: Form, function: Callable[[Form], Form]) -> Form:
        """Apply a linear function to an array, its coefficient staying in front."""
        if not form.rank:
            return function(form)
        coefficient, core = self.split(form)
        return self.multiply(self.product(coefficient), function(core))

    def multiply(self, x: Form, y: Form, join: str = "hadamard") -> Form:
        """Return the product of two forms; their arrays are joined elementwise or as matrices."""
        a, b = self.term(x), self.term(y)
        if a.core is None or b.core is None:
            core = a.core or b.core
        elif join == "matmul":
            core = self.form("matmul", a.core, b.core, rank=max(a.core.rank + b.core.rank - 2, 0))
        else:
            core = self._hadamard(a.core, b.core)
        factors, divisors = (*a.factors, *b.factors), (*a.divisors, *b.divisors)
        if core is not None and not core.rank:
            factors, core = (*factors, core), None
        return self.product(Term(a.coefficient * b.coefficient, factors, divisors, core))

    def _hadamard(self, x: Form, y: Form) -> Form:
        if x is y:
            return self.power(x, self.atom("2"))
        return self.form("hadamard", x, y, rank=max(x.rank, y.rank))

    def divide(self, x: Form, y: Form) -> Form:
        """Return the quotient of two forms; one array over another becomes an elementwise fraction."""
        a, b = self.term(x), self.term(y)
        if b.coefficient == 0:
            return self.form("fraction", x, y, rank=max(x.rank, y.rank))
        core = a.core
        if b.core is not None:
            core = self.form("fraction", a.core or self.one, b.core, rank=max(x.rank, y.rank))
        return self.product(
            Term(a.coefficient / b.coefficient, (*a.factors, *b.divisors), (*a.divisors, *b.factors), core)
        )

    def add(self, x: Form, y: Form) -> Form:
        """Return the sum of two forms; where one is a number everywhere, only the number is written."""
        plain_x = self.without_ones(x) if y.rank and not self._is_diagonal(y) else x
        plain_y = self.without_ones(y) if x.rank and not self._is_diagonal(x) else y
        rank = max(x.rank, y.rank)
        if rank and not plain_x.rank and not plain_y.rank:
            ones = next(c for f in (x, y) if (c := self.term(f).core) is not None and c.rank == rank)
            return self.multiply(self.form("add", plain_x, plain_y), ones)
        return self._sum(plain_x, plain_y)

    def _sum(self, x: Form, y: Form) -> Form:
        """Return a sum, a coefficient that both parts share in front of it and what is positive first."""
        a, b = self.term(x), self.term(y)
        rank = max(x.rank, y.rank)
        if a.coefficient == 0 or b.coefficient == 0:
            return x if b.coefficient == 0 else y
        if (a.factors, a.divisors, a.core) == (b.factors, b.divisors, b.core):
            return self.product(Term(a.coefficient + b.coefficient, a.factors, a.divisors, a.core))
        if a.coefficient < 0 < b.coefficient:
            (x, a), (y, b) = (y, b), (x, a)
        alike = (abs(a.coefficient), a.factors, a.divisors) == (abs(b.coefficient), b.factors, b.divisors)
        if alike and a.core is not None and b.core is not None and (abs(a.coefficient) != 1 or a.factors or a.divisors):
            signs = [self.product(Term(Fraction(1 if t.coefficient > 0 else -1), core=t.core)) for t in (a, b)]
            inside = self.form("add", *signs, rank=rank)
            return self.product(Term(abs(a.coefficient), a.factors, a.divisors, inside))
        return self.form("add", x, y, rank=rank)

    def _is_diagonal(self, x: Form) -> bool:
        core = self.term(x).core
        return core is not None and core.data == ("I",)

    def without_ones(self, x: Form) -> Form:
        """Return the number that an array has everywhere, any other array itself."""
        term = self.term(x)
        if term.core is not None and term.core.head == "ones":
            return self.product(Term(term.coefficient, term.factors, term.divisors))
        return x

    def power(self, x: Form, exponent: Form) -> Form:
        """Return a form to the power of another."""
        return self.form("power", x, exponent, rank=max(x.rank, exponent.rank))

    def squared(self, x: Form) -> Form:
        """Return the elementwise square, the coefficient squared in front."""
        if not x.rank:
            return self.multiply(x, x) if x.head == "term" else self.power(x, self.atom("2"))
        return self.linear_square(x)

    def linear_square(self, x: Form) -> Form:
        """Return the elementwise square of an array."""
        coefficient, core = self.split(x)
        scalar = self.product(coefficient)
        return self.multiply(self.multiply(scalar, scalar), self.power(core, self.atom("2")))

    def transpose(self, x: Form) -> Form:
        """Return the transposed matrix, or the row that a vector is."""
        return self.linear(x, lambda core: core.args[0] if core.head == "transpose" else self._transposed(core))

    def _transposed(self, core: Form) -> Form:
        if core.head == "matmul" and any(part.head == "transpose" for part in core.args):
            turned = [self.transpose(part) for part in reversed(core.args)]
            return self.form("matmul", *turned, rank=max(core.rank, 2))
        return self.form("transpose", core, rank=max(core.rank, 2))

    def total(self, x: Form) -> Form:
        """Return the sum of all elements."""
        return self.linear(x, self._total)

    def ones(self, shape: Shape) -> Form:
        """Return an array of ones."""
        return self.form("ones", data=shape, rank=max(len(shape), 1))

    def _total(self, core: Form) -> Form:
        if core.head == "ones":
            return self.size(size_product(core.data))
        if core.head == "call" and core.data[0] == "sum":
            return self._total(core.args[0])
        if core.head == "power" and core.args[1].data == ("2",) and core.args[0].rank == core.rank <= 2:
            return self.form("squared_norm", core.args[0])
        if core.head == "hadamard" and core.args[0].rank == core.args[1].rank == 1:
            return self.form("matmul", self.transpose(core.args[0]), core.args[1])
        return self.form("total", core)

    def size(self, size: Size) -> Form:
        """Return a size as a form."""
        if isinstance(size, int):
            return self.number(size)
        forms = [self._monomial(monomial, coefficient) for monomial, coefficient in size.terms]
        result = forms[0]
        for form in forms[1:]:
            result = self.add(result, form)
        return result

    def _monomial(self, monomial: Sequence[Any], coefficient: int) -> Form:
        atoms = []
        for atom in monomial:
            if isinstance(atom, Quotient):
                atoms.append(self.form("floor", self.size(atom.numerator), self.number(atom.denominator)))
            else:
                atoms.append(self.form("atom", data=(self._leaf(atom), "size")))
        return self.product(Term(Fraction(coefficient), tuple(atoms)))

    def number(self, value: float | int | bool) -> Form:
        """Return a number: a rational where it is a short one, a known constant, or digits."""
        if isinstance(value, bool):
            return self.atom(r"\mathrm{true}" if value else r"\mathrm{false}")
        if not math.isfinite(value):
            text = r"\mathrm{NaN}" if value != value else r"\infty"
            return self.scaled(self.atom(text), Fraction(-1 if value < 0 else 1))
        if isinstance(value, int):
            return self.form("term", data=(Fraction(value), 0, 0))
        near = Fraction(value).limit_denominator(12)
        if float(near) == value and abs(value) < 1e6 and near.denominator % 5:
            return self.form("term", data=(near, 0, 0))
        for known, text in _KNOWN.items():
            for factor in _FACTORS:
                if math.isclose(value, known * float(factor), rel_tol=4e-16):
                    return self.product(Term(factor, (self._digits(text),)))
                if math.isclose(value, float(factor) / known, rel_tol=4e-16):
                    return self.product(Term(factor, (), (self._digits(text),)))
        return self.scaled(self._digits(_digits(abs(value))), Fraction(-1 if value < 0 else 1))

    def _digits(self, text: str) -> Form:
        return self.form("atom", data=(text, "number"))

    def lower(self, node: Expr, shown: View, args: Sequence[Form]) -> Form:
        """Return the form of a node from those of what it shows."""
        columns = any(arg.ndim == 2 and arg.shape[1] == 1 for arg in shown.args)
        if node.op.kind is Kind.ELEMENTWISE and node.ndim == 2 and columns and node.shape[1] != 1:
            args = [self.transpose(form) if x.ndim == 1 else form for form, x in zip(args, shown.args, strict=True)]
        if node.dtype.kind == "b" and shown.name in _LOGIC:
            return self.form("template", *args, data=(REGISTRY[_LOGIC[shown.name]], ()), rank=node.ndim)
        rule = _RULES.get(shown.name)
        if rule is not None:
            return rule(self, node, shown, args)
        if shown.op is not None and shown.op.latex is not None:
            return self.form("template", *args, data=(shown.op, tuple(shown.attrs.items())), rank=node.ndim)
        return self.form("call", *args, data=(shown.name, _subscript(shown)), rank=node.ndim)

    def leaf(self, node: Expr) -> Form:
        """Return the form of a leaf."""
        if node.op.name == "size":
            return self.size(node.attrs[0])
        value = constant_value(node)
        if value is None:
            if node.op.kind is Kind.LEAF and node.op.name != "arange":
                return self.atom(self._leaf(node), node.ndim)
            return self.form("call", self.size(node.shape[0]), data=("arange", ""), rank=1)
        if value.ndim == 0:
            return self.number(float(str(value[()])) if value.dtype.kind == "f" else value.item())
        if value.ndim <= 2 and value.size <= 12:
            rows = value.reshape(len(value), -1).tolist()
            texts = tuple(tuple(_entry(number) for number in row) for row in rows)
            return self.form("matrix", data=texts, rank=value.ndim)
        shape = r" \times ".join(str(size) for size in value.shape)
        return self.atom(rf"\mathrm{{constant}}_{{{shape}}}", value.ndim)


def _entry(number: float | int | bool) -> str:
    if isinstance(number, float) and not math.isfinite(number):
        return r"\mathrm{NaN}" if number != number else (r"\infty" if number > 0 else r"-\infty")
    if isinstance(number, bool):
        return r"\mathrm{true}" if number else r"\mathrm{false}"
    return ("-" if number < 0 else "") + _digits(abs(number))


def _digits(number: float) -> str:
    text = str(int(number)) if number == int(number) and number < 1e16 else repr(number)
    mantissa, exponent, power = text.partition("e")
    if not exponent:
        return text
    front = "" if mantissa == "1" else rf"{mantissa} \times "
    return f"{front}10^{{{int(power)}}}"


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

Rule = Callable[[Lowering, Expr, View, Sequence[Form]], Form]


def _multiply(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    x, y = shown.args
    if x.ndim == 2 and x.shape[1] == 1 != node.shape[1] and args[1].head == "transpose":
        return low.multiply(args[0], args[1], join="matmul")
    if y.ndim == 2 and y.shape[1] == 1 != node.shape[1] and args[0].head == "transpose":
        return low.multiply(args[1], args[0], join="matmul")
    plain = [low.without_ones(arg) if x.shape == node.shape else arg for arg, x in zip(args, (y, x), strict=True)]
    left, right = plain if plain[0].rank or plain[1].rank else (plain[0], args[1])
    return low.multiply(left, right)


def _power(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    exponent = low.term(args[1])
    if args[1].head == "term" and not args[1].args and exponent.coefficient == 2:
        return low.squared(args[0])
    if args[1].head == "term" and not args[1].args and exponent.coefficient == -1:
        return low.divide(low.one, args[0])
    return low.power(*args)


def _sum(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    axes, rank = shown.attrs["axes"], shown.args[0].ndim
    if len(axes) == rank:
        return low.total(args[0])
    data = ("sum", ",".join(str(axis) for axis in axes))
    return low.linear(args[0], lambda core: low.form("call", core, data=data, rank=node.ndim))


def _mean(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    count: Size = 1
    for axis in shown.attrs["axes"]:
        count = count * shown.args[0].shape[axis]
    return low.divide(_sum(low, node, shown, args), low.size(count))


def _matmul(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    x, y = shown.args
    left, right = args
    if x.ndim == 1 and y.ndim == 2:
        left, right = low.transpose(right), left
    elif x.ndim == 1:
        left = low.transpose(left)
    (a, left), (b, right) = low.split(left), low.split(right)
    joined = low.form("matmul", left, right, rank=node.ndim)
    return low.multiply(low.multiply(low.product(a), low.product(b)), joined)


def _permute(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    axes = shown.attrs["axes"]
    if axes == (*range(len(axes) - 2), len(axes) - 1, len(axes) - 2):
        return low.transpose(args[0])
    data = ("permute", ",".join(str(axis) for axis in axes))
    return low.linear(args[0], lambda core: low.form("call", core, data=data, rank=node.ndim))


def _expand(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    x = shown.args[0]
    if low.without_ones(args[0]) is not args[0]:
        return low.multiply(low.without_ones(args[0]), low.ones(node.shape))
    if x.ndim == 1 and shown.attrs["axes"] == (0,):
        return low.transpose(args[0])
    return low.linear(args[0], lambda core: low.form("same", core, rank=node.ndim)) if x.ndim else args[0]


def _squeeze(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    if node.ndim == 1 and shown.args[0].ndim == 2 and shown.attrs["axes"] == (0,):
        return low.transpose(args[0]) if low.split(args[0])[1].head == "transpose" else args[0]
    return args[0]


def _broadcast(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
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


def _same(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    return args[0]


def _index(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    attrs = shown.attrs
    key = (shown.args[0].shape, attrs["starts"], attrs["steps"], attrs["sizes"], attrs.get("axes", ()))
    return low.form("index", args[0], data=key, rank=node.ndim)


def _placed(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    attrs = shown.attrs
    key = (attrs["shape"], attrs["starts"], attrs["steps"], shown.args[0].shape, ())
    return low.linear(args[0], lambda core: low.form("place", core, data=key, rank=node.ndim))


def _reshape(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    sizes = [low.size(size) for size in node.shape]
    return low.linear(args[0], lambda core: low.form("reshape", core, *sizes, rank=node.ndim))


def _stack(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    if node.ndim == 1 and len(args) <= 12:
        return low.form("vector", *args, rank=1)
    return low.form("call", *args, data=(shown.name, ""), rank=node.ndim)


def _norm(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    whole = len(shown.attrs["axes"]) == shown.args[0].ndim
    data = ("", ",".join(str(axis) for axis in shown.attrs["axes"]))
    return low.form("norm", args[0], data=("", "") if whole else data, rank=node.ndim)


def _einsum(low: Lowering, node: Expr, shown: View, args: Sequence[Form]) -> Form:
    subscripts = shown.attrs["subscripts"].replace("->", r" \to ")
    return low.form("call", *args, data=("einsum", subscripts), rank=node.ndim)


_RULES: Mapping[str, Rule] = {
    "add": lambda low, node, shown, args: low.add(*args),
    "subtract": lambda low, node, shown, args: low.add(args[0], low.scaled(args[1], Fraction(-1))),
    "multiply": _multiply,
    "divide": lambda low, node, shown, args: low.divide(*args),
    "negative": lambda low, node, shown, args: low.scaled(args[0], Fraction(-1)),
    "reciprocal": lambda low, node, shown, args: low.divide(low.one, args[0]),
    "square": lambda low, node, shown, args: low.squared(args[0]),
    "power": _power,
    "positive": _same,
    "astype": _same,
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
    "eye": lambda low, node, shown, args: low.atom("I", 2),
}
