"""The laws of numerical stability: the same in real arithmetic, without overflow or cancellation on the way.

They run before differentiating as well as after, so that derivatives are stable too. None turns a finite
right answer into a wrong one. ``entropy`` is the one law of the default pipeline that replaces a NaN on
purpose: ``x*log(x)`` is 0 at ``x = 0``, its limit, as information theory defines it.
"""

# ruff: noqa: PLW0108 (both sides of a law are functions of its variables, and are written as such)

from __future__ import annotations

from functools import partial
from typing import Any

from symgraph.dims import product
from symgraph.expr import Expr, constant
from symgraph.ops.elementwise import (
    abs,
    erf,
    erfc,
    exp,
    expm1,
    hypot,
    log,
    log1p,
    logaddexp,
    reciprocal,
    sigmoid,
    sinh,
    softplus,
    sqrt,
    square,
    tanh,
    xlogy,
)
from symgraph.rewrite.laws import Law, primitive

total, mean, logsumexp = primitive("sum"), primitive("mean"), primitive("logsumexp")
expand_dims, squeeze, reshape = primitive("expand_dims"), primitive("squeeze"), primitive("reshape")
permute_dims, slice_at, gather = primitive("permute_dims"), primitive("slice"), primitive("gather")

stable = partial(Law, kind="rounding", group="stability")

_ROWS = {"a": (1,), "k": True}
_POSITIVE = (0.3, 3.0)


def _log_count(x: Expr, a: tuple[int, ...]) -> Any:
    return log(constant(product(x.shape[axis] for axis in a), x.dtype))


# fmt: off
LOGARITHMS = (
    stable("softplus",            lambda x: log(1 + exp(x)),      lambda x: softplus(x)),
    stable("softplus_of_log1p",   lambda x: log1p(exp(x)),        lambda x: softplus(x)),
    stable("logaddexp",           lambda x, y: log(exp(x) + exp(y)), lambda x, y: logaddexp(x, y)),
    Law("logaddexp_zero",         lambda x: logaddexp(x, 0),      lambda x: softplus(x), group="stability"),
    stable("logsumexp",           lambda x, a, k: log(total(exp(x), a, k)), lambda x, a, k: logsumexp(x, a, k),
           sample=_ROWS),
    stable("logmeanexp",          lambda x, a, k: log(mean(exp(x), a, k)),
                                  lambda x, a, k: logsumexp(x, a, k) - _log_count(x, a), sample=_ROWS,
           statement="log(mean(exp(x), axes=a)) -> logsumexp(x, axes=a) - log(count)"),
    stable("log_of_exp",          lambda x: log(exp(x)),          lambda x: x),
    stable("log_of_sigmoid",      lambda x: log(sigmoid(x)),      lambda x: -softplus(-x)),
    stable("log1p",               lambda x: log(1 + x),           lambda x: log1p(x), domain=_POSITIVE),
    stable("log1p_of_negation",   lambda x: log(1 - x),           lambda x: log1p(-x), domain=(-3.0, 0.7)),
)

# The labels' probabilities in a cross-entropy are elements chosen from a softmax. Their logarithm goes inward
# through movements that keep every element, to where it may meet an exponential.
MOVED = (
    stable("log_before_reshape",  lambda x, a: log(reshape(x, a)), lambda x, a: reshape(log(x), a),
           sample={"a": (4, 3)}, domain=_POSITIVE),
    stable("log_before_permute",  lambda x, a: log(permute_dims(x, a)), lambda x, a: permute_dims(log(x), a),
           sample={"a": (1, 0)}, domain=_POSITIVE),
    stable("log_before_expansion", lambda x, a: log(expand_dims(x, a)), lambda x, a: expand_dims(log(x), a),
           sample={"a": (1,)}, domain=_POSITIVE),
    stable("log_before_squeeze",  lambda x, a: log(squeeze(x, a)), lambda x, a: squeeze(log(x), a),
           sample={"x": (3, 1), "a": (1,)}, domain=_POSITIVE),
    stable("log_of_slice_of_exp", lambda x, a, b, c: log(slice_at(exp(x), a, b, c)),
                                  lambda x, a, b, c: slice_at(x, a, b, c),
           sample={"a": (1, 3), "b": (1, -2), "c": (2, 2)}),
    stable("log_of_gathered_exp", lambda x, i, a: log(gather(exp(x), i, a)), lambda x, i, a: gather(x, i, a),
           sample={"i": "int64", "a": (0,)}),
    stable("log_of_chosen_exp",   lambda x, i, j, a: log(gather(exp(x), i, j, a)),
                                  lambda x, i, j, a: gather(x, i, j, a),
           sample={"i": "int64", "j": "int64", "a": (0, 1)}),
)

EXPONENTIALS = (
    stable("softmax",             lambda x, a: exp(x) / total(exp(x), a, True),
                                  lambda x, a: exp(x - logsumexp(x, a, True)), sample=_ROWS),
    stable("softmax_expanded",    lambda x, a: exp(x) / expand_dims(total(exp(x), a, False), a),
                                  lambda x, a: exp(x - expand_dims(logsumexp(x, a, False), a)), sample=_ROWS),
    stable("softmax_leading",     lambda x, a: exp(x) / total(exp(x), a, False),
                                  lambda x, a: exp(x - logsumexp(x, a, False)),
                                  lambda a: a == tuple(range(len(a))), sample={"a": (0,)}),
    stable("sigmoid_of_fraction", lambda x: exp(x) / (1 + exp(x)), lambda x: sigmoid(x)),
    stable("tanh_of_expm1",       lambda x: expm1(x) / (1 + exp(x)), lambda x: tanh(x * 0.5)),
    stable("tanh_of_fraction",    lambda x: (exp(x) - exp(-x)) / (exp(x) + exp(-x)), lambda x: tanh(x)),
    stable("scaled_sigmoid",      lambda x, y: y * exp(x) / (1 + exp(x)), lambda x, y: y * sigmoid(x)),
    stable("sigmoid_of_quotient", lambda x, y: y / (1 + exp(x)),  lambda x, y: y * sigmoid(-x)),
    stable("sigmoid_of_reciprocal", lambda x: reciprocal(1 + exp(x)), lambda x: sigmoid(-x)),
    stable("sigmoid_complement",  lambda x: 1 - sigmoid(x),       lambda x: sigmoid(-x)),
    stable("expm1",               lambda x: exp(x) - 1,           lambda x: expm1(x)),
    stable("expm1_of_sum",        lambda x: exp(x) + -1,          lambda x: expm1(x)),
    stable("negated_expm1",       lambda x: 1 - exp(x),           lambda x: -expm1(x)),
    stable("sinh",                lambda x: (exp(x) - exp(-x)) / 2, lambda x: sinh(x)),
    stable("sinh_of_half",        lambda x: (exp(x) - exp(-x)) * 0.5, lambda x: sinh(x)),
)

OTHERS = (
    stable("erfc",                lambda x: 1 - erf(x),           lambda x: erfc(x)),
    stable("erf",                 lambda x: 1 - erfc(x),          lambda x: erf(x)),
    stable("erfc_of_negation",    lambda x: 1 + erf(x),           lambda x: erfc(-x)),
    stable("quotient_of_quotient", lambda x, y, z: x / (y / z) / z, lambda x, y: x / y, domain=_POSITIVE),
    stable("sqrt_of_square",      lambda x: sqrt(square(x)),      lambda x: abs(x)),
    Law("entropy",                lambda x: x * log(x),           lambda x: xlogy(x, x),
        kind="domain", group="stability", domain=_POSITIVE),
)

# Not in the default pipeline: xlogy hides the NaN of 0*log(y) for any y, hypot costs more than sqrt.
OPTIONAL = (
    Law("xlogy",                  lambda x, y: x * log(y),        lambda x, y: xlogy(x, y),
        kind="domain", group="entropy", domain=_POSITIVE),
    Law("hypot",                  lambda x, y: sqrt(square(x) + square(y)), lambda x, y: hypot(x, y),
        kind="rounding", group="range"),
)
# fmt: on

STABILITY = (*LOGARITHMS, *MOVED, *EXPONENTIALS, *OTHERS, *OPTIONAL)
