"""Expressions as a person writes them: scalar factors in front, matrix products, norms.

The graph is lowered to a small printing tree of interned :class:`Form` nodes, in which scalar factors of
products, quotients, transposes, sums and matrix products are collected into one coefficient in front.
Only the printed form is rearranged; the graph is not. Lowering is linear and keeps what is shared shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from symgraph.dims import Quotient, Shape, Size
from symgraph.dims import product as size_product

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


class Forms:
    """The forms of one formula, and the algebra that keeps them in the shape a person writes.

    Args:
        leaf: Gives the printed name of a placeholder, a variable or a size.
    """

    def __init__(self, leaf: Callable[[Any], str]) -> None:
        self.name = leaf
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
        plain_x = self.without_ones(x) if y.rank and not self.is_diagonal(y) else x
        plain_y = self.without_ones(y) if x.rank and not self.is_diagonal(x) else y
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

    def is_diagonal(self, x: Form) -> bool:
        """Tell whether a form is a multiple of the identity matrix, to which no bare number can be added."""
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
                atoms.append(self.form("atom", data=(self.name(atom), "size")))
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
                    return self.product(Term(factor, (self._number_atom(text),)))
                if math.isclose(value, float(factor) / known, rel_tol=4e-16):
                    return self.product(Term(factor, (), (self._number_atom(text),)))
        return self.scaled(self._number_atom(digits(abs(value))), Fraction(-1 if value < 0 else 1))

    def _number_atom(self, text: str) -> Form:
        return self.form("atom", data=(text, "number"))


def digits(number: float) -> str:
    """Return a positive number as LaTeX digits, with a power of ten where it is very large or small."""
    text = str(int(number)) if number == int(number) and number < 1e16 else repr(number)
    mantissa, exponent, power = text.partition("e")
    if not exponent:
        return text
    front = "" if mantissa == "1" else rf"{mantissa} \times "
    return f"{front}10^{{{int(power)}}}"
