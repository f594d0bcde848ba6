"""The laws of elementwise arithmetic, choice and logic.

Negations move outward through products, so that they meet and cancel; subtraction is preferred to adding a
negation. IEEE 754 arithmetic rounds symmetrically, which makes these laws exact. Moving a negation through
a sum is not: ``-(x - y)`` is ``-0.0`` where ``y - x`` is ``0.0``.
"""

# ruff: noqa: B002, PLW0108 (both sides of a law are functions of its variables, and are written as such)

from __future__ import annotations

from functools import partial
from typing import Any

from symgraph.arraytype import is_float
from symgraph.expr import Expr
from symgraph.ops.elementwise import (
    abs,
    cos,
    cosh,
    equal,
    exp,
    log,
    maximum,
    minimum,
    not_equal,
    positive,
    reciprocal,
    sqrt,
    square,
)
from symgraph.rewrite.laws import Law, known, primitive

where, logical_not = primitive("where"), primitive("logical_not")
logical_and, logical_or = primitive("logical_and"), primitive("logical_or")
equals, differs = primitive("equal"), primitive("not_equal")

exact = partial(Law, kind="exact", group="algebra")
rounding = partial(Law, kind="rounding", group="algebra")
domain = partial(Law, kind="domain", group="algebra")

_POSITIVE = (0.3, 3.0)
_CONDITION = {"c": "bool"}
_BOOLEAN = {"x": "bool", "y": "bool"}


def _is_float(x: Expr) -> bool:
    return is_float(x.dtype)


def _is_integer(x: Expr) -> bool:
    return x.dtype.kind in "iu"


def _is_signed(x: Expr) -> bool:
    return x.dtype.kind in "if"


def _is_number(x: Expr) -> bool:
    return x.dtype.kind != "b"


def _zero(node: Expr) -> Any:
    return Expr._constant(0, node.dtype)


# fmt: off
SIGNS = (
    exact("double_negation",      lambda x: -(-x),                lambda x: x),
    exact("positive",             lambda x: positive(x),          lambda x: x),
    exact("times_minus_one",      lambda x: x * -1,               lambda x: -x),
    exact("over_minus_one",       lambda x: x / -1,               lambda x: -x),
    exact("minus_zero_less",      lambda x: -0.0 - x,             lambda x: -x),
    exact("negated_factors",      lambda x, y: -x * -y,           lambda x, y: x * y),
    exact("negated_factor",       lambda x, y: -x * y,            lambda x, y: -(x * y)),
    exact("negated_fraction",     lambda x, y: -x / -y,           lambda x, y: x / y),
    exact("negated_numerator",    lambda x, y: -x / y,            lambda x, y: -(x / y)),
    exact("negated_denominator",  lambda x, y: x / -y,            lambda x, y: -(x / y)),
    exact("negated_scale",        lambda x, c: -(x * known(c)),   lambda x, c: x * -c, sample={"c": 3.0}),
    exact("negated_quotient",     lambda x, c: -(known(c) / x),   lambda x, c: -c / x, sample={"c": 3.0}),
    exact("plus_negation",        lambda x, y: x + -y,            lambda x, y: x - y),
    exact("less_negation",        lambda x, y: x - -y,            lambda x, y: x + y),
    exact("square_of_negation",   lambda x: square(-x),           lambda x: square(x)),
    exact("square_of_abs",        lambda x: square(abs(x)),       lambda x: square(x)),
    exact("abs_of_negation",      lambda x: abs(-x),              lambda x: abs(x), _is_signed),
    exact("abs_of_abs",           lambda x: abs(abs(x)),          lambda x: abs(x)),
    exact("abs_of_square",        lambda x: abs(square(x)),       lambda x: square(x), _is_float),
    exact("abs_of_exp",           lambda x: abs(exp(x)),          lambda x: exp(x)),
    exact("cos_of_negation",      lambda x: cos(-x),              lambda x: cos(x)),
    exact("cosh_of_negation",     lambda x: cosh(-x),             lambda x: cosh(x)),
    exact("exp_of_zero_less",     lambda x: exp(0 - x),           lambda x: exp(-x)),
)

NEUTRAL = (
    exact("times_one",            lambda x: x * 1,                lambda x: x),
    exact("over_one",             lambda x: x / 1,                lambda x: x),
    exact("less_zero",            lambda x: x - 0,                lambda x: x),
    exact("plus_minus_zero",      lambda x: x + -0.0,             lambda x: x),
    exact("integer_plus_zero",    lambda x: x + 0,                lambda x: x, _is_integer, sample={"x": "int64"}),
    exact("times_itself",         lambda x: x * x,                lambda x: square(x), _is_number),
    exact("power_zero",           lambda x: x**0,                 lambda x: Expr._constant(1, x.dtype), _is_number,
          statement="x**0 -> 1"),
    exact("power_one",            lambda x: x**1,                 lambda x: x, _is_number),
    exact("power_two",            lambda x: x**2,                 lambda x: square(x), _is_number),
    exact("power_minus_one",      lambda x: x**-1,                lambda x: reciprocal(x), _is_float),
    exact("power_half",           lambda x: x**0.5,               lambda x: sqrt(x), _is_float),
    exact("maximum_of_itself",    lambda x: maximum(x, x),        lambda x: x),
    exact("minimum_of_itself",    lambda x: minimum(x, x),        lambda x: x),
)

CHOICE = (
    exact("where_same",           lambda c, x: where(c, x, x),    lambda x: x, sample=_CONDITION),
    exact("where_true",           lambda x, y: where(True, x, y), lambda x: x),
    exact("where_false",          lambda x, y: where(False, x, y), lambda y: y),
    exact("where_not",            lambda c, x, y: where(logical_not(c), x, y),
                                  lambda c, x, y: where(c, y, x), sample=_CONDITION),
    exact("where_in_then",        lambda c, x, y, z: where(c, where(c, x, y), z),
                                  lambda c, x, z: where(c, x, z), sample=_CONDITION),
    exact("where_in_else",        lambda c, x, y, z: where(c, x, where(c, y, z)),
                                  lambda c, x, z: where(c, x, z), sample=_CONDITION),
    exact("not_not",              lambda x: logical_not(logical_not(x)), lambda x: x, sample=_BOOLEAN),
    exact("not_equal",            lambda x, y: logical_not(equals(x, y)), lambda x, y: not_equal(x, y)),
    exact("not_different",        lambda x, y: logical_not(differs(x, y)), lambda x, y: equal(x, y)),
    exact("and_itself",           lambda x: logical_and(x, x),    lambda x: x, sample=_BOOLEAN),
    exact("and_true",             lambda x: logical_and(x, True), lambda x: x, sample=_BOOLEAN),
    exact("and_false",            lambda x: logical_and(x, False), lambda x: Expr._constant(False, x.dtype),
          statement="x & False -> False", sample=_BOOLEAN),
    exact("or_itself",            lambda x: logical_or(x, x),     lambda x: x, sample=_BOOLEAN),
    exact("or_true",              lambda x: logical_or(x, True),  lambda x: Expr._constant(True, x.dtype),
          statement="x | True -> True", sample=_BOOLEAN),
    exact("or_false",             lambda x: logical_or(x, False), lambda x: x, sample=_BOOLEAN),
)

ROUNDING = (
    rounding("plus_zero",         lambda x: x + 0,                lambda x: x, _is_float),
    rounding("zero_less",         lambda x: 0 - x,                lambda x: -x),
    rounding("negated_difference", lambda x, y: -(x - y),         lambda x, y: y - x),
    rounding("merged_scales",     lambda x, b, c: x * known(b) * known(c), lambda x, b, c: x * (b * c),
             sample={"b": 3.0, "c": 0.7}),
    rounding("merged_offsets",    lambda x, b, c: x + known(b) + known(c), lambda x, b, c: x + (b + c), _is_float,
             sample={"b": 3.0, "c": 0.7}),
)

DOMAIN = (
    domain("times_zero",          lambda x: x * 0,                lambda node: _zero(node), statement="x*0 -> 0"),
    domain("difference_of_itself", lambda x: x - x,               lambda node: _zero(node), statement="x - x -> 0"),
    domain("quotient_of_itself",  lambda x: x / x,                lambda x: Expr._constant(1, x.dtype),
           statement="x/x -> 1", domain=_POSITIVE),
    domain("cancelled_factor",    lambda x, y: x * y / y,         lambda x: x, domain=_POSITIVE),
    domain("cancelled_divisor",   lambda x, y: x / y * y,         lambda x: x, domain=_POSITIVE),
    domain("exp_of_log",          lambda x: exp(log(x)),          lambda x: x, domain=_POSITIVE),
    domain("square_of_sqrt",      lambda x: square(sqrt(x)),      lambda x: x, domain=_POSITIVE),
    domain("reciprocal_twice",    lambda x: reciprocal(reciprocal(x)), lambda x: x, domain=_POSITIVE),
)
# fmt: on

ALGEBRA = (*SIGNS, *NEUTRAL, *CHOICE, *ROUNDING, *DOMAIN)
