"""Sizes of axes: integers, names, and integer polynomials of names.

A dimension is a Python ``int`` or a :class:`Dim`. A ``Dim`` is a polynomial with integer coefficients
over *atoms*; an atom is a name (``"n"``) or a quotient rounded down (``(n + 1) // 2``), which strided
slices need. Polynomials are interned in normal form, so two sizes are the same exactly when they are
the same object; what cannot be decided when it is declared is checked at the call.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

from symgraph.errors import ShapeError, SizeError, at_user_line


class Quotient(NamedTuple):
    """The atom ``numerator // denominator``, with a positive integer denominator."""

    numerator: Dim
    denominator: int

    def __str__(self) -> str:
        numerator = str(self.numerator)
        return f"{numerator if numerator.isidentifier() else f'({numerator})'}//{self.denominator}"


Atom: TypeAlias = "str | Quotient"
Monomial: TypeAlias = "tuple[Atom, ...]"
Size: TypeAlias = "int | Dim"
Shape: TypeAlias = "tuple[Size, ...]"


class Dim:
    """A size that depends on names, as a polynomial in normal form.

    Sizes add, subtract and multiply; ``//`` takes a positive integer. Results that are plain numbers
    come back as ``int``. Arithmetic with a float, and ``/``, give a node.

    Example:
        >>> n = dim("n")
        >>> n + 1 - n, (n + 1) * 2, dim("2*n+2") is (n + 1) * 2
        (1, 2*n+2, True)
    """

    __slots__ = ("__weakref__", "_hash", "terms")
    terms: tuple[tuple[Monomial, int], ...]
    _hash: int

    _interned: ClassVar[dict[tuple[tuple[Monomial, int], ...], Dim]] = {}
    as_node: ClassVar[Callable[[Dim], Any]]
    """Makes a node of a size; the layer of nodes provides it."""

    def __new__(cls, terms: tuple[tuple[Monomial, int], ...]) -> Dim:
        """Return the one size with these terms, which are in normal form."""
        found = cls._interned.get(terms)
        if found is None:
            found = object.__new__(cls)
            found.terms = terms
            found._hash = hash(terms)
            found = cls._interned.setdefault(terms, found)
        return found

    def __reduce__(self) -> tuple[Callable[..., Dim], tuple[object, ...]]:
        return Dim, (self.terms,)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, int | Dim):
            return Dim.as_node(self) + other if isinstance(other, float) else NotImplemented
        return _polynomial([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> Size:
        return _polynomial([(m, -c) for m, c in self.terms])

    def __sub__(self, other: Any) -> Any:
        if not isinstance(other, int | Dim):
            return Dim.as_node(self) - other if isinstance(other, float) else NotImplemented
        return _polynomial([*self.terms, *((m, -c) for m, c in _terms(other))])

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        if not isinstance(other, int | Dim):
            return Dim.as_node(self) * other if isinstance(other, float) else NotImplemented
        products = [(_product(m, k), c * d) for m, c in self.terms for k, d in _terms(other)]
        return _polynomial(products)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return Dim.as_node(self) / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / Dim.as_node(self)

    def __floordiv__(self, other: int) -> Size:
        if not isinstance(other, int) or other <= 0:
            return NotImplemented
        whole = [(m, c // other) for m, c in self.terms if c % other == 0]
        rest = [(m, c) for m, c in self.terms if c % other]
        if not rest:
            return _polynomial(whole)
        remainder = _polynomial(rest)
        if isinstance(remainder, int):
            return _polynomial([*whole, ((), remainder // other)])
        return _polynomial([*whole, ((Quotient(remainder, other),), 1)])

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self.terms:
            alone = len(monomial) == 1 and coefficient == 1
            factors = [str(atom) if alone or isinstance(atom, str) else f"({atom})" for atom in monomial]
            if abs(coefficient) != 1 or not monomial:
                factors.insert(0, str(abs(coefficient)))
            sign = "-" if coefficient < 0 else "+" if text else ""
            text += sign + "*".join(factors)
        return text

    __repr__ = __str__

    def __bool__(self) -> bool:
        raise TypeError(f"the size {self} has no truth value before it is known")

    def __index__(self) -> int:
        raise TypeError(f"the size {self} is not known until the function is called")


def dim(size: int | str | Dim) -> Size:
    """Return a size from an integer, a name, or a polynomial written as text.

    Args:
        size: ``3``, ``"n"``, ``"2*n*m+1"``, ``"(n+1)//2"``, or a size already made.

    Raises:
        ShapeError: the text is not such a polynomial, or the number is negative.

    Example:
        >>> dim("n") * dim("m")
        m*n
    """
    if isinstance(size, Dim):
        return size
    if isinstance(size, str):
        try:
            return _evaluate(ast.parse(size, mode="eval").body, size)
        except SyntaxError:
            raise ShapeError(at_user_line(f"{size!r} is not a size: use names, integers, + - * //")) from None
    try:
        number = size.__index__()
    except (AttributeError, TypeError):
        hint = ' (an unknown size needs a name, such as "n")' if size is None else ""
        raise ShapeError(
            at_user_line(f"{size!r} is not a size: an integer, a name or a polynomial of names is{hint}")
        ) from None
    if number < 0:
        raise ShapeError(at_user_line(f"a size cannot be negative: {number}"))
    return number


def _evaluate(tree: ast.expr, text: str) -> Size:
    match tree:
        case ast.Name(id=name):
            return Dim((((name,), 1),))
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, text)
        case ast.BinOp(left=left, op=operator, right=right):
            x, y = _evaluate(left, text), _evaluate(right, text)
            match operator:
                case ast.Add():
                    return x + y
                case ast.Sub():
                    return x - y
                case ast.Mult():
                    return x * y
                case ast.FloorDiv() if isinstance(y, int) and y > 0:
                    return x // y
    raise ShapeError(at_user_line(f"{text!r} is not a size: use names, integers, + - * //"))


def _terms(size: Size) -> Iterable[tuple[Monomial, int]]:
    return size.terms if isinstance(size, Dim) else (((), size),)


def _product(left: Monomial, right: Monomial) -> Monomial:
    return tuple(sorted((*left, *right), key=str))


def _order(term: tuple[Monomial, int]) -> tuple[int, str]:
    return (-len(term[0]), "*".join(str(atom) for atom in term[0]))


def _polynomial(terms: Iterable[tuple[Monomial, int]]) -> Size:
    total: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        total[monomial] = total.get(monomial, 0) + coefficient
    kept = [(m, c) for m, c in total.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    return Dim(tuple(sorted(kept, key=_order)))


def names(size: Size) -> frozenset[str]:
    """Return the names that a size depends on."""
    if isinstance(size, int):
        return frozenset()
    found: set[str] = set()
    for monomial, _ in size.terms:
        for atom in monomial:
            found |= {atom} if isinstance(atom, str) else names(atom.numerator)
    return frozenset(found)


def sizes_in(value: Any) -> Iterator[Dim]:
    """Iterate over the sizes with names in shapes, attributes and other nested tuples."""
    if isinstance(value, Dim):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from sizes_in(item)


def evaluate(size: Size, values: Mapping[str, int]) -> int:
    """Return the number a size stands for when the names have these values."""
    if isinstance(size, int):
        return size
    total = 0
    for monomial, coefficient in size.terms:
        product = coefficient
        for atom in monomial:
            if isinstance(atom, str):
                product *= values[atom]
            else:
                product *= evaluate(atom.numerator, values) // atom.denominator
        total += product
    return total


def product(sizes: Iterable[Size]) -> Size:
    """Return the product of sizes: how many elements an array of that shape has."""
    total: Size = 1
    for size in sizes:
        total = total * size
    return total


def is_never_negative(size: Size) -> bool:
    """Tell whether a size is at least zero whatever its names stand for, as far as its form shows it."""
    if isinstance(size, int):
        return size >= 0
    return all(c >= 0 and all(isinstance(atom, str) for atom in monomial) for monomial, c in size.terms)


def divide_exactly(numerator: Size, denominator: Size) -> Size | None:
    """Return ``numerator / denominator`` where it is a polynomial, or a rounded quotient by an integer.

    Returns:
        None when no size expresses the quotient.
    """
    if isinstance(denominator, int):
        if denominator == 0:
            return None
        if isinstance(numerator, int):
            return numerator // denominator if numerator % denominator == 0 else None
        return numerator // denominator
    if isinstance(numerator, int):
        return 0 if numerator == 0 else None
    if len(denominator.terms) != 1:
        return 1 if numerator is denominator else None
    (divisor, factor), rest = denominator.terms[0], []
    for monomial, coefficient in numerator.terms:
        atoms = list(monomial)
        if coefficient % factor or any(atom not in atoms for atom in divisor):
            return None
        for atom in divisor:
            if atom not in atoms:
                return None
            atoms.remove(atom)
        rest.append((tuple(atoms), coefficient // factor))
    return _polynomial(rest)


def solve(expected: Mapping[str, tuple[Size, int]]) -> dict[str, int]:
    """Return the value of every name, from sizes that were met at a call.

    Args:
        expected: for each place (such as ``"x axis 0"``) the declared size and the size that came.

    Raises:
        SizeError: a size differs from the declared one, or one name would have two values.
    """
    values: dict[str, int] = {}
    origin: dict[str, str] = {}
    pending = dict(expected)
    while pending:
        progressed = False
        for place, (size, actual) in list(pending.items()):
            unknown = names(size) - values.keys()
            if not unknown:
                number = evaluate(size, values)
                if number != actual:
                    raise SizeError(_mismatch(place, size, number, actual, origin))
            elif (name := _linear_unknown(size, unknown)) is not None:
                values[name] = _solve_linear(place, size, name, actual, values)
                origin[name] = place
            else:
                continue
            del pending[place]
            progressed = True
        if not progressed:
            place, (size, actual) = next(iter(pending.items()))
            raise SizeError(f"{place}: the size {size} = {actual} does not determine {sorted(names(size))}")
    return values


def _linear_unknown(size: Size, unknown: frozenset[str]) -> str | None:
    if len(unknown) != 1 or isinstance(size, int):
        return None
    (name,) = unknown
    degree = 0
    for monomial, _ in size.terms:
        if any(isinstance(atom, Quotient) and name in names(atom.numerator) for atom in monomial):
            return None
        degree = max(degree, monomial.count(name))
    return name if degree == 1 else None


def _solve_linear(place: str, size: Size, name: str, actual: int, values: Mapping[str, int]) -> int:
    known = dict(values)
    known[name] = 0
    offset = evaluate(size, known)
    known[name] = 1
    slope = evaluate(size, known) - offset
    if slope == 0 or (actual - offset) % slope or (actual - offset) // slope < 0:
        raise SizeError(f"{place}: size {actual} cannot be {size}")
    return (actual - offset) // slope


def _mismatch(place: str, size: Size, number: int, actual: int, origin: Mapping[str, str]) -> str:
    because = [f"{name} = {origin[name]}" for name in sorted(names(size)) if name in origin]
    where = f" ({', '.join(because)})" if because else ""
    return (
        f"{place}: expected {size} = {number}{where}, got {actual}"
        if names(size)
        else (f"{place}: expected {number}, got {actual}")
    )
