"""Names in printed formulas: identifiers for declared leaves, for sizes and for shared parts."""

from __future__ import annotations

import itertools
import keyword
import re
from collections.abc import Iterable

from symgraph.dims import Dim, Quotient, Size

SUM_PRECEDENCE, PRODUCT_PRECEDENCE, SIGN_PRECEDENCE, POWER_PRECEDENCE, ATOM = 12, 13, 14, 15, 100


class Names:
    """Gives out identifiers, each once.

    Args:
        reserved: Words that are never given out.
    """

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._taken = {*keyword.kwlist, *keyword.softkwlist, *reserved}
        self._counts: dict[str, itertools.count[int]] = {}

    def claim(self, wanted: str) -> str:
        """Return an identifier as close to the wanted name as is free."""
        name = identifier(wanted)
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def number(self, stem: str) -> str:
        """Return the next free numbered identifier: ``t1``, ``t2`` ..."""
        counter = self._counts.setdefault(stem, itertools.count(1))
        name = next(name for name in (f"{stem}{i}" for i in counter) if name not in self._taken)
        self._taken.add(name)
        return name


def identifier(name: str) -> str:
    """Return a Python identifier that reads like the name: ``layer/bias`` becomes ``layer_bias``."""
    text = re.sub(r"\W", "_", name)
    return text if text.isidentifier() else f"_{text}"


def size_text(size: Size, rename: dict[str, str] | None = None) -> tuple[str, int]:
    """Return a size as a Python expression, and its precedence.

    Args:
        size: An integer or a polynomial of names.
        rename: Identifiers for names of sizes, where they differ from the names.
    """
    if isinstance(size, int):
        return str(size), SIGN_PRECEDENCE if size < 0 else ATOM
    rename = rename or {}
    text = ""
    for monomial, coefficient in size.terms:
        factors = []
        for atom in monomial:
            if isinstance(atom, Quotient):
                inner, precedence = size_text(atom.numerator, rename)
                shown = inner if precedence >= PRODUCT_PRECEDENCE else f"({inner})"
                quotient = f"{shown}//{atom.denominator}"
                factors.append(quotient if len(size.terms) == len(monomial) == coefficient == 1 else f"({quotient})")
            else:
                factors.append(rename.get(atom, atom))
        if abs(coefficient) != 1 or not monomial:
            factors.insert(0, str(abs(coefficient)))
        sign = (" - " if coefficient < 0 else " + ") if text else "-" if coefficient < 0 else ""
        text += sign + "*".join(factors)
    if len(size.terms) > 1:
        return text, SUM_PRECEDENCE
    monomial, coefficient = size.terms[0]
    if coefficient < 0:
        return text, PRODUCT_PRECEDENCE
    plain = len(monomial) == 1 and coefficient == 1 and not isinstance(monomial[0], Quotient)
    return text, ATOM if plain else PRODUCT_PRECEDENCE


def shape_text(shape: Iterable[Size], rename: dict[str, str] | None = None) -> str:
    """Return a shape as a Python tuple."""
    sizes = [size_text(size, rename)[0] for size in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def solved_size(size: Dim, name: str, place: str, rename: dict[str, str]) -> str | None:
    """Return what a name that occurs linearly in a size stands for, where ``place`` is that size; else None."""
    linear = [(m, c) for m, c in size.terms if name in m]
    quotients = any(not isinstance(atom, str) for monomial, _ in size.terms for atom in monomial)
    if quotients or len(linear) != 1 or linear[0][0].count(name) != 1:
        return None
    monomial, coefficient = linear[0]
    rest = size - Dim((linear[0],))
    factor = Dim(((tuple(a for a in monomial if a != name), coefficient),)) if len(monomial) > 1 else coefficient
    text = place
    if rest != 0:
        shown, precedence = size_text(rest, rename)
        text += f" - {shown if precedence > SUM_PRECEDENCE else f'({shown})'}"
    if factor == 1:
        return text
    divisor, precedence = size_text(factor, rename)
    return f"{f'({text})' if rest != 0 else text}//{divisor if precedence == ATOM else f'({divisor})'}"
