"""The elementwise operations, one statement each.

A derivative rule is ``(g, out, *arguments) -> g times the partial derivative``; it is linear in ``g``, so the
same rule gives the cotangent in reverse mode and the tangent in forward mode. ``None`` is a zero. At kinks
the rules follow PyTorch; each such convention stands beside its rule. Formulas are those of the NIST
Digital Library of Mathematical Functions (DLMF), whose section stands beside the less common ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from symgraph.arraytype import BOOL, FLOAT64, INT8, ArrayType, as_dtype, is_float
from symgraph.errors import DTypeError, at_user_line
from symgraph.expr import Expr
from symgraph.op import Kind, Op, Rule, public, register
from symgraph.ops import construct, reference
from symgraph.ops.construct import apply, elementwise_type, promote

Function = Callable[..., Any]
Interval = tuple[float, float]

_LN2, _LN10 = math.log(2), math.log(10)
_EXAMPLES = {1: "[0.25, 0.5]", 2: "[0.25, 0.5], 2.0", 3: "[0.25, 0.5], 0.0, 1.0"}


def elementwise(
    name: str,
    doc: str,
    *derivative: Rule | None,
    takes: str = "float",
    facts: str = "smooth",
    domain: Sequence[Interval] = (),
    numpy: str | Callable[..., Any] | None = None,
    scalar: str | None = None,
    text: str | None = None,
    precedence: int = 100,
    latex: str | None = None,
    sympy: str | None = None,
    oracle: Any = None,
    torch: str | None = None,
    example: str | None = None,
) -> Function:
    """State an elementwise operation and return its public function.

    Args:
        name: Its name; also the NumPy function's and the kernel's unless they are given.
        doc: One sentence on what it computes.
        derivative: One rule per argument.
        takes: ``float`` (integers become floats), ``number``, ``ordered`` (numbers and booleans, compared),
            ``signed`` (numbers, no booleans), ``truth`` (anything, as booleans), ``bits`` (integers, booleans),
            ``quotient`` (integers become float64), ``counted`` and ``shifted`` (numbers and bits whose booleans
            become int8), all as in NumPy.
        facts: Words that laws and tests rely on.
        domain: Intervals in which the function is smooth, for tests.
        numpy, scalar, text, precedence, latex, sympy, oracle, torch: See :class:`~symgraph.op.Op`.
        example: Arguments for the docstring's example.
    """
    arity = len(derivative)
    result = BOOL if takes in ("ordered", "truth") or facts == "predicate" else None
    op = register(
        Op(
            name,
            Kind.ELEMENTWISE,
            arity,
            lambda *types: elementwise_type(name, result, *types),
            numpy or f"numpy:{name}",
            derivative=derivative,
            scalar=scalar,
            text=text,
            precedence=precedence,
            latex=latex,
            sympy=sympy,
            facts=frozenset(facts.split()),
            domain=tuple(domain) or ((-2.0, 2.0),) * arity,
            oracle=oracle,
            torch_name=torch or name.capitalize(),
        )
    )

    def function(*operands: Any) -> Any:
        return apply(op, *_convert(name, takes, operands))

    return _finish(function, op, arity, doc, takes, example)


def _convert(name: str, takes: str, operands: Sequence[Any]) -> list[Any]:
    if takes == "truth":
        engine = construct.engine_of(name, operands)
        return [construct.cast(construct.as_value(name, x, engine), BOOL) for x in operands]
    values = promote(name, *operands, floating=takes == "float")
    dtype = values[0].type.dtype
    if takes == "quotient" and not is_float(dtype):
        return [construct.cast(x, FLOAT64) for x in values]
    if takes in ("counted", "shifted") and dtype == BOOL:
        return [construct.cast(x, INT8) for x in values]
    if (takes == "signed" and dtype == BOOL) or (takes in ("bits", "shifted") and is_float(dtype)):
        raise DTypeError(at_user_line(f"{name}: {dtype} operands have no {name}"))
    return values


_SIGNATURES: dict[int, Callable[[Function], Function]] = {
    1: lambda f: lambda x, /: f(x),
    2: lambda f: lambda x, y, /: f(x, y),
    3: lambda f: lambda x, y, z, /: f(x, y, z),
}


def _finish(function: Function, op: Op, arity: int, doc: str, takes: str, example: str | None) -> Function:
    named = _SIGNATURES[arity](function)
    named.__name__ = named.__qualname__ = op.name
    named.__module__ = __name__
    arguments = example or _EXAMPLES[arity]
    shown = {
        "float": "integers become floating-point numbers", "quotient": "integers become float64",
        "bits": "integers and booleans only", "shifted": "integers and booleans only",
    }  # fmt: skip
    named.__doc__ = (
        f"{doc}\n\n    Shapes broadcast as in NumPy; {shown.get(takes, 'dtypes promote as in NumPy')}.\n\n"
        f"    Example:\n        >>> import symgraph as sg\n"
        f"        >>> sg.evaluate(sg.{op.name}({_as_constants(arguments)})).shape\n        (2,)\n    "
    )
    named.op = op  # type: ignore[attr-defined]
    return public(named)


def _as_constants(arguments: str) -> str:
    first, bracket, rest = arguments.partition("]")
    return f"sg.constant({first}{bracket}){rest}"


def _half_on_ties(g: Any, wins: Any, ties: Any) -> Any:
    return where(ties, g * 0.5, where(wins, g, 0))


def _over(x: Any, y: Any) -> Any:
    """Return ``x / y``, zero where y is zero: the convention for the derivative of a norm at 0."""
    return where(equal(y, 0), 0, x / where(equal(y, 0), 1, y))


# Arithmetic
add: Function = elementwise(
    "add", "Return ``x + y``.",
    lambda g, out, x, y: g, lambda g, out, x, y: g,
    takes="number", facts="smooth linear commutative associative", scalar="{0} + {1}", text="{0} + {1}", precedence=12,
    latex="{0} + {1}", sympy="{0} + {1}", oracle="fadd",
)  # fmt: skip
subtract: Function = elementwise(
    "subtract", "Return ``x - y``.",
    lambda g, out, x, y: g, lambda g, out, x, y: -g,
    takes="signed", facts="smooth linear", scalar="{0} - {1}", text="{0} - {1}", precedence=12, latex="{0} - {1}",
    sympy="{0} - {1}", oracle="fsub", torch="Sub",
)  # fmt: skip
multiply: Function = elementwise(
    "multiply", "Return ``x * y``.",
    lambda g, out, x, y: g * y, lambda g, out, x, y: g * x,
    takes="number", facts="smooth commutative associative", scalar="{0} * {1}", text="{0}*{1}", precedence=13,
    latex="{0} {1}", sympy="{0} * {1}", oracle="fmul", torch="Mul",
)  # fmt: skip
divide: Function = elementwise(
    "divide", "Return ``x / y``.",
    lambda g, out, x, y: g / y, lambda g, out, x, y: -(g / y * out),
    takes="quotient", scalar="{0} / {1}", text="{0}/{1}", precedence=13, latex=r"\frac{{{0}}}{{{1}}}",
    sympy="{0} / {1}", domain=((-2, 2), (0.5, 3)), oracle="fdiv", torch="Div",
)  # fmt: skip
floor_divide: Function = elementwise(
    "floor_divide", "Return ``x / y`` rounded down.", None, None,
    takes="counted", facts="", text="{0}//{1}", precedence=13, sympy="floor({0}/{1})",
    latex=r"\left\lfloor \frac{{{0}}}{{{1}}} \right\rfloor", domain=((-4, 4), (0.5, 3)),
)  # fmt: skip
remainder: Function = elementwise(
    "remainder", "Return the remainder of ``x / y``, with the sign of y.",
    lambda g, out, x, y: g, lambda g, out, x, y: -(g * floor_divide(x, y)),
    takes="counted", text="{0} % {1}", precedence=13, latex=r"{0} \bmod {1}", sympy="Mod({0}, {1})",
    domain=((2.1, 2.9), (1.1, 1.9)),
)  # fmt: skip
power: Function = elementwise(
    "power", "Return x to the power of y; ``x**0`` is 1 with derivative 0, also at x = 0.",
    lambda g, out, x, y: _power_base(g, x, y),
    lambda g, out, x, y: where(logical_and(equal(x, 0), greater_equal(y, 0)), 0, g * out * log(x)),
    takes="counted", text="{0}**{1}", precedence=15, latex="{{{0}}}^{{{1}}}", sympy="{0}**{1}",
    domain=((0.3, 2.5), (-2, 2)), oracle="power", torch="Pow",
)  # fmt: skip


def _power_base(g: Any, x: Any, y: Any) -> Any:
    exponent = construct.known_number(y)
    if exponent is None:
        # Elsewhere the product is 0 at y = 0 by itself, and must keep its derivative 1/x with respect to y.
        regular = logical_and(not_equal(x, 0), isfinite(x))
        return where(logical_or(not_equal(y, 0), regular), g * y * x ** (y - 1), 0)
    if exponent == 0:
        return None
    if exponent == 1:
        return g
    return g * (exponent * x) if exponent == 2 else g * (exponent * x ** (exponent - 1))


negative: Function = elementwise(
    "negative", "Return ``-x``.", lambda g, out, x: -g,
    takes="signed", facts="smooth linear", scalar="-{0}", text="-{0}", precedence=14, latex="-{0}", sympy="-{0}",
    oracle="fneg", torch="Neg",
)  # fmt: skip
positive: Function = elementwise(
    "positive", "Return x.", lambda g, out, x: g,
    takes="signed", facts="smooth linear", scalar="{0}", text="{0}", latex="{0}", sympy="{0}",
)  # fmt: skip
stop_gradient: Function = elementwise(
    "stop_gradient", "Return x as a constant: no derivative passes.", None,
    takes="number", facts="", numpy="numpy:asarray", scalar="{0}", text="stop_gradient({0})", latex="{0}", sympy="{0}",
    torch="Detach",
)  # fmt: skip
abs: Function = elementwise(
    "abs", "Return the absolute value; its derivative at 0 is 0.",
    lambda g, out, x: g * sign(x),
    takes="number", latex=r"\left| {0} \right|", sympy="Abs", domain=((0.3, 2),), oracle="fabs",
)  # fmt: skip
sign: Function = elementwise(
    "sign", "Return -1, 0 or 1; its derivative is 0 everywhere.", None,
    takes="signed", facts="", latex=r"\operatorname{{sgn}}\left({0}\right)", sympy="sign",
)  # fmt: skip
sqrt: Function = elementwise(
    "sqrt", "Return the square root; its derivative at 0 is inf.",
    lambda g, out, x: g * 0.5 / out,
    latex=r"\sqrt{{{0}}}", sympy="sqrt", domain=((0.3, 3),), oracle="sqrt",
)  # fmt: skip
cbrt: Function = elementwise(
    "cbrt", "Return the real cube root; its derivative at 0 is inf.",
    lambda g, out, x: g / (3 * square(out)),
    latex=r"\sqrt[3]{{{0}}}", sympy="real_root({0}, 3)", domain=((0.3, 3),), oracle="cbrt",
)  # fmt: skip
square: Function = elementwise(
    "square", "Return ``x * x``.", lambda g, out, x: g * (2 * x),
    takes="counted", text="{0}**2", precedence=15, latex="{{{0}}}^{{2}}", sympy="{0}**2",
    oracle=lambda mp, x: x * x, torch="Pow",
)  # fmt: skip
reciprocal: Function = elementwise(
    "reciprocal", "Return ``1 / x``.", lambda g, out, x: -(g * square(out)),
    text="1/{0}", precedence=13, latex=r"\frac{{1}}{{{0}}}", sympy="1/{0}", domain=((0.5, 3),),
    oracle=lambda mp, x: 1 / x,
)  # fmt: skip

# Exponentials and logarithms
exp: Function = elementwise(
    "exp", "Return e to the power of x.", lambda g, out, x: g * out,
    latex="e^{{{0}}}", sympy="exp", oracle="exp",
)  # fmt: skip
exp2: Function = elementwise(
    "exp2", "Return 2 to the power of x.", lambda g, out, x: g * (out * _LN2),
    latex="2^{{{0}}}", sympy="2**({0})", oracle=lambda mp, x: mp.power(2, x),
)  # fmt: skip
expm1: Function = elementwise(
    "expm1", "Return ``exp(x) - 1``, accurate near 0.", lambda g, out, x: g * exp(x),
    latex=r"\left(e^{{{0}}} - 1\right)", sympy="exp({0}) - 1", oracle="expm1",
)  # fmt: skip
log: Function = elementwise(
    "log", "Return the natural logarithm.", lambda g, out, x: g / x,
    latex=r"\log {0}", sympy="log", domain=((0.3, 3),), oracle="log",
)  # fmt: skip
log2: Function = elementwise(
    "log2", "Return the logarithm to base 2.", lambda g, out, x: g / (x * _LN2),
    latex=r"\log_2 {0}", sympy="log({0}, 2)", domain=((0.3, 3),), oracle=lambda mp, x: mp.log(x, 2),
)  # fmt: skip
log10: Function = elementwise(
    "log10", "Return the logarithm to base 10.", lambda g, out, x: g / (x * _LN10),
    latex=r"\log_{{10}} {0}", sympy="log({0}, 10)", domain=((0.3, 3),), oracle="log10",
)  # fmt: skip
log1p: Function = elementwise(
    "log1p", "Return ``log(1 + x)``, accurate near 0.", lambda g, out, x: g / (1 + x),
    latex=r"\log\left(1 + {0}\right)", sympy="log(1 + {0})", domain=((-0.5, 2),), oracle="log1p", torch="Log1P",
)  # fmt: skip
logaddexp: Function = elementwise(
    "logaddexp", "Return ``log(exp(x) + exp(y))`` without overflow.",
    lambda g, out, x, y: g * sigmoid(x - y), lambda g, out, x, y: g * sigmoid(y - x),
    latex=r"\log\left(e^{{{0}}} + e^{{{1}}}\right)", sympy="log(exp({0}) + exp({1}))",
    facts="smooth commutative", oracle=lambda mp, x, y: mp.log(mp.exp(x) + mp.exp(y)),
)  # fmt: skip
xlogy: Function = elementwise(
    "xlogy", "Return ``x * log(y)``, 0 where x is 0.",
    lambda g, out, x, y: where(logical_and(equal(x, 0), less_equal(y, 0)), 0, g * log(y)),
    lambda g, out, x, y: where(logical_and(equal(x, 0), equal(y, 0)), 0, g * (x / y)),
    numpy="scipy.special:xlogy", latex=r"{0} \log {1}", sympy="{0} * log({1})", domain=((0.3, 2), (0.3, 3)),
    oracle=lambda mp, x, y: x * mp.log(y),
)  # fmt: skip

# Trigonometry
sin: Function = elementwise(
    "sin", "Return the sine of x in radians.", lambda g, out, x: g * cos(x),
    latex=r"\sin\left({0}\right)", sympy="sin", oracle="sin",
)  # fmt: skip
cos: Function = elementwise(
    "cos", "Return the cosine of x in radians.", lambda g, out, x: -(g * sin(x)),
    latex=r"\cos\left({0}\right)", sympy="cos", oracle="cos",
)  # fmt: skip
tan: Function = elementwise(
    "tan", "Return the tangent of x in radians.", lambda g, out, x: g * (1 + square(out)),
    latex=r"\tan\left({0}\right)", sympy="tan", domain=((-1.2, 1.2),), oracle="tan",
)  # fmt: skip
asin: Function = elementwise(
    "asin", "Return the angle in [-π/2, π/2] whose sine is x.", lambda g, out, x: g / sqrt((1 - x) * (1 + x)),
    numpy="numpy:arcsin", latex=r"\arcsin\left({0}\right)", sympy="asin", domain=((-0.8, 0.8),), oracle="asin",
)  # fmt: skip
acos: Function = elementwise(
    "acos", "Return the angle in [0, π] whose cosine is x.", lambda g, out, x: -(g / sqrt((1 - x) * (1 + x))),
    numpy="numpy:arccos", latex=r"\arccos\left({0}\right)", sympy="acos", domain=((-0.8, 0.8),), oracle="acos",
)  # fmt: skip
atan: Function = elementwise(
    "atan", "Return the angle in [-π/2, π/2] whose tangent is x.", lambda g, out, x: g / (1 + square(x)),
    numpy="numpy:arctan", latex=r"\arctan\left({0}\right)", sympy="atan", oracle="atan",
)  # fmt: skip
atan2: Function = elementwise(
    "atan2", "Return the angle in [-π, π] of the point (y, x): the first argument is the height.",
    lambda g, out, y, x: g * (x / (square(x) + square(y))),
    lambda g, out, y, x: -(g * (y / (square(x) + square(y)))),
    numpy="numpy:arctan2", latex=r"\operatorname{{atan2}}\left({0}, {1}\right)", sympy="atan2",
    domain=((0.3, 2), (0.3, 2)), oracle="atan2",
)  # fmt: skip
sinh: Function = elementwise(
    "sinh", "Return the hyperbolic sine.", lambda g, out, x: g * cosh(x),
    latex=r"\sinh\left({0}\right)", sympy="sinh", oracle="sinh",
)  # fmt: skip
cosh: Function = elementwise(
    "cosh", "Return the hyperbolic cosine.", lambda g, out, x: g * sinh(x),
    latex=r"\cosh\left({0}\right)", sympy="cosh", oracle="cosh",
)  # fmt: skip
tanh: Function = elementwise(
    "tanh", "Return the hyperbolic tangent.", lambda g, out, x: g * (1 - square(out)),
    latex=r"\tanh\left({0}\right)", sympy="tanh", oracle="tanh",
)  # fmt: skip
asinh: Function = elementwise(
    "asinh", "Return the inverse hyperbolic sine.", lambda g, out, x: g / hypot(x, 1),
    numpy="numpy:arcsinh", latex=r"\operatorname{{arsinh}}\left({0}\right)", sympy="asinh", oracle="asinh",
)  # fmt: skip
acosh: Function = elementwise(
    "acosh", "Return the inverse hyperbolic cosine.", lambda g, out, x: g / (sqrt(x - 1) * sqrt(x + 1)),
    numpy="numpy:arccosh", latex=r"\operatorname{{arcosh}}\left({0}\right)", sympy="acosh", domain=((1.5, 4),),
    oracle="acosh", example="[1.5, 2.0]",
)  # fmt: skip
atanh: Function = elementwise(
    "atanh", "Return the inverse hyperbolic tangent.", lambda g, out, x: g / ((1 - x) * (1 + x)),
    numpy="numpy:arctanh", latex=r"\operatorname{{artanh}}\left({0}\right)", sympy="atanh", domain=((-0.8, 0.8),),
    oracle="atanh",
)  # fmt: skip
hypot: Function = elementwise(
    "hypot", "Return ``sqrt(x**2 + y**2)`` without overflow; its derivative at (0, 0) is 0.",
    lambda g, out, x, y: g * _over(x, out), lambda g, out, x, y: g * _over(y, out),
    facts="smooth commutative", latex=r"\sqrt{{{{{0}}}^{{2}} + {{{1}}}^{{2}}}}", sympy="sqrt(({0})**2 + ({1})**2)",
    domain=((0.3, 2), (0.3, 2)), oracle="hypot",
)  # fmt: skip

# Activations
sigmoid: Function = elementwise(
    "sigmoid", "Return ``1 / (1 + exp(-x))``.", lambda g, out, x: g * (out * sigmoid(-x)),
    numpy="scipy.special:expit", latex=r"\sigma\left({0}\right)", sympy="1/(1 + exp(-({0})))",
    oracle=lambda mp, x: 1 / (1 + mp.exp(-x)),
)  # fmt: skip
softplus: Function = elementwise(
    "softplus", "Return ``log(1 + exp(x))`` without overflow.", lambda g, out, x: g * sigmoid(x),
    numpy=reference.softplus, latex=r"\operatorname{{softplus}}\left({0}\right)", sympy="log(1 + exp({0}))",
    oracle=lambda mp, x: mp.log1p(mp.exp(x)),
)  # fmt: skip
relu: Function = elementwise(
    "relu", "Return ``max(x, 0)``; its derivative at 0 is 0.", lambda g, out, x: where(greater(x, 0), g, 0),
    takes="number", numpy=reference.relu, latex=r"\operatorname{{relu}}\left({0}\right)", sympy="Max({0}, 0)",
    domain=((0.3, 2),), oracle=lambda mp, x: max(x, mp.mpf(0)),
)  # fmt: skip
leaky_relu_op: Function = elementwise(
    "leaky_relu", "Return x where it is positive, else ``slope * x``; the derivative at 0 is the slope.",
    lambda g, out, x, slope: where(greater(x, 0), g, g * slope),
    lambda g, out, x, slope: where(greater(x, 0), 0, g * x),
    numpy=reference.leaky_relu, latex=r"\operatorname{{leakyrelu}}_{{{1}}}\left({0}\right)",
    sympy="Piecewise(({0}, {0} > 0), ({1} * {0}, True))", domain=((-2, -0.3), (0.1, 0.4)),
    oracle=lambda mp, x, slope: x if x > 0 else slope * x, torch="LeakyRelu",
)  # fmt: skip
elu_op: Function = elementwise(
    "elu", "Return x where it is positive, else ``alpha * (exp(x) - 1)``.",
    lambda g, out, x, alpha: where(greater(x, 0), g, g * (alpha * exp(x))),
    lambda g, out, x, alpha: where(greater(x, 0), 0, g * expm1(x)),
    numpy=reference.elu, latex=r"\operatorname{{elu}}_{{{1}}}\left({0}\right)",
    sympy="Piecewise(({0}, {0} > 0), ({1} * (exp({0}) - 1), True))", domain=((-2, -0.3), (0.5, 1.5)),
    oracle=lambda mp, x, alpha: x if x > 0 else alpha * mp.expm1(x),
)  # fmt: skip
gelu: Function = elementwise(
    "gelu", "Return ``x * Φ(x)``, Φ the distribution function of the standard normal.",
    lambda g, out, x: g * (
        0.5 * erfc(x * -math.sqrt(0.5)) + x * (exp(square(x) * -0.5) * (1 / math.sqrt(2 * math.pi)))
    ),
    numpy=reference.gelu, latex=r"\operatorname{{gelu}}\left({0}\right)",
    sympy="({0}) * erfc(-({0}) / sqrt(2)) / 2", oracle=lambda mp, x: x * mp.ncdf(x),
)  # fmt: skip
silu: Function = elementwise(
    "silu", "Return ``x * sigmoid(x)``.", lambda g, out, x: g * (sigmoid(x) * (1 + x * sigmoid(-x))),
    numpy=reference.silu, latex=r"\operatorname{{silu}}\left({0}\right)", sympy="({0}) / (1 + exp(-({0})))",
    oracle=lambda mp, x: x / (1 + mp.exp(-x)),
)  # fmt: skip

# Special functions
erf: Function = elementwise(
    "erf", "Return the error function (DLMF 7.2.1).",
    lambda g, out, x: g * (exp(-square(x)) * (2 / math.sqrt(math.pi))),
    numpy="scipy.special:erf", latex=r"\operatorname{{erf}}\left({0}\right)", sympy="erf", oracle="erf",
)  # fmt: skip
erfc: Function = elementwise(
    "erfc", "Return ``1 - erf(x)``, accurate for large x (DLMF 7.2.2).",
    lambda g, out, x: g * (exp(-square(x)) * (-2 / math.sqrt(math.pi))),
    numpy="scipy.special:erfc", latex=r"\operatorname{{erfc}}\left({0}\right)", sympy="erfc", oracle="erfc",
)  # fmt: skip
erfinv: Function = elementwise(
    "erfinv", "Return the inverse of the error function on (-1, 1).",
    lambda g, out, x: g * (exp(square(out)) * (math.sqrt(math.pi) / 2)),
    numpy="scipy.special:erfinv", latex=r"\operatorname{{erf}}^{{-1}}\left({0}\right)", sympy="erfinv",
    domain=((-0.8, 0.8),), oracle="erfinv",
)  # fmt: skip
lgamma: Function = elementwise(
    "lgamma", "Return the logarithm of the absolute value of the gamma function (DLMF 5.2).",
    lambda g, out, x: g * digamma(x),
    numpy="scipy.special:gammaln", latex=r"\log\Gamma\left({0}\right)", sympy="loggamma", domain=((0.4, 4),),
    oracle="loggamma",
)  # fmt: skip
digamma: Function = elementwise(
    "digamma", "Return the logarithmic derivative of the gamma function (DLMF 5.2.2).",
    lambda g, out, x: g * polygamma(1, x),
    numpy="scipy.special:digamma", latex=r"\psi\left({0}\right)", sympy="digamma", domain=((0.4, 4),),
    oracle="digamma",
)  # fmt: skip

_POLYGAMMA = register(
    Op(
        "polygamma",
        Kind.ELEMENTWISE,
        1,
        lambda x, order: x,
        reference.polygamma,
        attributes=("order",),
        derivative=(lambda g, out, x, order: g * polygamma(order + 1, x),),
        latex=r"\psi^{{({order})}}\left({0}\right)",
        sympy="polygamma({order}, {0})",
        facts=frozenset({"smooth"}),
        domain=((0.4, 4.0),),
        torch_name="Polygamma",
    )
)


def polygamma(order: int, x: Any) -> Any:
    """Return the derivative of a given order of digamma (DLMF 5.15).

    Args:
        order: A positive integer.
        x: Any shape; integers become floating-point numbers.

    Example:
        >>> import symgraph as sg
        >>> sg.polygamma(1, sg.constant([1.0, 2.0]))
        <polygamma: float64[2]>
    """
    if not isinstance(order, int) or order < 1:
        raise DTypeError(at_user_line(f"polygamma: the order is a positive integer, got {order!r}"))
    (value,) = promote("polygamma", x, floating=True)
    return apply(_POLYGAMMA, value, attrs=(order,))


# Choice
maximum: Function = elementwise(
    "maximum", "Return the greater of x and y; where they are equal, each gets half the derivative.",
    lambda g, out, x, y: _half_on_ties(g, greater(x, y), equal(x, y)),
    lambda g, out, x, y: _half_on_ties(g, less(x, y), equal(x, y)),
    takes="number", facts="smooth commutative associative", latex=r"\max\left({0}, {1}\right)", sympy="Max",
    domain=((-2, -0.5), (0.5, 2)), oracle=lambda mp, x, y: max(x, y),
)  # fmt: skip
minimum: Function = elementwise(
    "minimum", "Return the smaller of x and y; where they are equal, each gets half the derivative.",
    lambda g, out, x, y: _half_on_ties(g, less(x, y), equal(x, y)),
    lambda g, out, x, y: _half_on_ties(g, greater(x, y), equal(x, y)),
    takes="number", facts="smooth commutative associative", latex=r"\min\left({0}, {1}\right)", sympy="Min",
    domain=((-2, -0.5), (0.5, 2)), oracle=lambda mp, x, y: min(x, y),
)  # fmt: skip
clip_op: Function = elementwise(
    "clip", "Return x limited to an interval; the derivative is 1 at its ends.",
    lambda g, out, x, low, high: where(logical_and(greater_equal(x, low), less_equal(x, high)), g, 0),
    lambda g, out, x, low, high: where(logical_and(less(x, low), less_equal(low, high)), g, 0),
    lambda g, out, x, low, high: where(greater(maximum(x, low), high), g, 0),
    takes="number", numpy=reference.clip, sympy="Min(Max({0}, {1}), {2})",
    latex=r"\operatorname{{clip}}\left({0}, {1}, {2}\right)", domain=((-0.9, 0.9), (-2, -1), (1, 2)),
    oracle=lambda mp, x, low, high: min(max(x, low), high), torch="Clamp",
)  # fmt: skip
floor: Function = elementwise(
    "floor", "Return x rounded down; its derivative is 0.", None,
    takes="number", facts="", latex=r"\left\lfloor {0} \right\rfloor", sympy="floor",
)  # fmt: skip
ceil: Function = elementwise(
    "ceil", "Return x rounded up; its derivative is 0.", None,
    takes="number", facts="", latex=r"\left\lceil {0} \right\rceil", sympy="ceiling",
)  # fmt: skip
round: Function = elementwise(
    "round", "Return x rounded to the nearest integer, halves to even; its derivative is 0.", None,
    takes="number", facts="", numpy="numpy:round", latex=r"\operatorname{{round}}\left({0}\right)",
)  # fmt: skip
trunc: Function = elementwise(
    "trunc", "Return x without its fraction; its derivative is 0.", None,
    takes="number", facts="", latex=r"\operatorname{{trunc}}\left({0}\right)",
    sympy="Piecewise((floor({0}), {0} >= 0), (ceiling({0}), True))",
)  # fmt: skip

# Predicates, comparison, logic
isnan: Function = elementwise("isnan", "Tell whether x is not a number.", None, facts="predicate")
isinf: Function = elementwise("isinf", "Tell whether x is infinite.", None, facts="predicate")
isfinite: Function = elementwise("isfinite", "Tell whether x is neither infinite nor NaN.", None, facts="predicate")


def _comparison(name: str, doc: str, symbol: str, latex: str, sympy: str, facts: str = "") -> Function:
    return elementwise(
        name, doc, None, None, takes="ordered", facts=facts, scalar=f"{{0}} {symbol} {{1}}",
        text=f"{{0}} {symbol} {{1}}", precedence=7, latex=f"{{0}} {latex} {{1}}", sympy=sympy,
    )  # fmt: skip


equal: Function = _comparison("equal", "Tell where x and y are equal.", "==", "=", "Eq", "commutative")
not_equal: Function = _comparison("not_equal", "Tell where x and y differ.", "!=", r"\neq", "Ne", "commutative")
less: Function = _comparison("less", "Tell where x is less than y.", "<", "<", "Lt")
less_equal: Function = _comparison("less_equal", "Tell where x is at most y.", "<=", r"\leq", "Le")
greater: Function = _comparison("greater", "Tell where x is greater than y.", ">", ">", "Gt")
greater_equal: Function = _comparison("greater_equal", "Tell where x is at least y.", ">=", r"\geq", "Ge")


def _logic(name: str, doc: str, arity: int, scalar: str, precedence: int, latex: str, sympy: str) -> Function:
    return elementwise(
        name, doc, *[None] * arity, takes="truth", facts="commutative" if arity == 2 else "", scalar=scalar,
        text=scalar, precedence=precedence, latex=latex, sympy=sympy,
    )  # fmt: skip


logical_and: Function = _logic(
    "logical_and", "Tell where both x and y are true.", 2, "{0} & {1}", 10, r"{0} \land {1}", "And"
)
logical_or: Function = _logic("logical_or", "Tell where x or y is true.", 2, "{0} | {1}", 8, r"{0} \lor {1}", "Or")
logical_xor: Function = _logic(
    "logical_xor", "Tell where just one of x and y is true.", 2, "{0} ^ {1}", 9, r"{0} \oplus {1}", "Xor"
)
logical_not: Function = elementwise(
    "logical_not", "Tell where x is false.", None, takes="truth", facts="", text="~{0}", precedence=14,
    latex=r"\lnot {0}", sympy="Not",
)  # fmt: skip


def _bits(name: str, doc: str, symbol: str, precedence: int) -> Function:
    return elementwise(
        name, doc, None, None, takes="bits", facts="", scalar=f"{{0}} {symbol} {{1}}",
        text=f"{{0}} {symbol} {{1}}", precedence=precedence, example="[2, 3], 1",
    )  # fmt: skip


bitwise_and: Function = _bits("bitwise_and", "Return the bits that both x and y have.", "&", 10)
bitwise_or: Function = _bits("bitwise_or", "Return the bits that x or y has.", "|", 8)
bitwise_xor: Function = _bits("bitwise_xor", "Return the bits that just one of x and y has.", "^", 9)
bitwise_left_shift: Function = elementwise(
    "bitwise_left_shift", "Return x with its bits moved up by y places.", None, None, takes="shifted", facts="",
    numpy="numpy:left_shift", text="{0} << {1}", precedence=11, example="[2, 3], 1",
)  # fmt: skip
bitwise_right_shift: Function = elementwise(
    "bitwise_right_shift", "Return x with its bits moved down by y places.", None, None, takes="shifted", facts="",
    numpy="numpy:right_shift", text="{0} >> {1}", precedence=11, example="[2, 3], 1",
)  # fmt: skip
bitwise_invert: Function = elementwise(
    "bitwise_invert", "Return x with every bit inverted.", None, takes="bits", facts="", numpy="numpy:invert",
    text="~{0}", precedence=14, example="[2, 3]",
)  # fmt: skip

_WHERE = register(
    Op(
        "where",
        Kind.ELEMENTWISE,
        3,
        lambda condition, x, y: elementwise_type("where", x.dtype, x, y, condition),
        "numpy:where",
        derivative=(None, lambda g, out, c, x, y: where(c, g, 0), lambda g, out, c, x, y: where(c, 0, g)),
        scalar="{1} if {0} else {2}",
        latex=r"\begin{{cases}} {1} & {0} \\ {2} & \text{{otherwise}} \end{{cases}}",
        sympy="Piecewise(({1}, {0}), ({2}, True))",
        facts=frozenset({"select"}),
        torch_name="Where",
    )
)


def where(condition: Any, x: Any, y: Any) -> Any:
    """Return x where the condition holds, y elsewhere.

    The branch not taken never reaches a derivative: NaN and infinities in it do no harm, to any order. Where a
    matrix product lies between, a row or column of the other factor is kept out only when no use of it was taken.

    Args:
        condition: Booleans.
        x, y: Of any dtypes, promoted as in NumPy. All three shapes broadcast.

    Example:
        >>> import symgraph as sg
        >>> x = sg.constant([0.0, 4.0])
        >>> sg.evaluate(sg.where(x > 0, sg.sqrt(x), -1.0))
        array([-1.,  2.])
    """
    engine = construct.engine_of("where", (condition, x, y))
    if isinstance(condition, bool) and engine is Expr:
        hint = "== between nodes tells whether they are the same node: use sg.equal (np.True_ is a constant condition)"
        raise DTypeError(at_user_line(f"where: the condition is Python's {condition}; {hint}"))
    chosen = construct.cast(construct.as_value("where", condition, engine), BOOL)
    left, right = promote("where", x, y, engine=engine)
    return apply(_WHERE, chosen, left, right)


_ASTYPE = register(
    Op(
        "astype",
        Kind.ELEMENTWISE,
        1,
        lambda x, dtype: ArrayType(dtype, x.shape),
        reference.astype,
        attributes=("dtype",),
        derivative=(lambda g, out, x, dtype: construct.cast(g, x.type.dtype),),
        latex="{0}",
        sympy="{0}",
        facts=frozenset({"cast"}),
        torch_name="ToCopy",
    )
)
construct.ASTYPE.append(_ASTYPE)


def astype(x: Any, dtype: Any) -> Any:
    """Return the elements of x converted to another dtype; x itself where it has it already.

    A conversion between floating-point types passes derivatives on; to or from integers it is a constant.

    Example:
        >>> import symgraph as sg
        >>> sg.astype(sg.constant([1.5, 2.5]), "float32")
        <astype: float32[2]>
    """
    return construct.cast(construct.as_value("astype", x), as_dtype(dtype))


def leaky_relu(x: Any, slope: Any = 0.01) -> Any:
    """Return x where it is positive, else ``slope * x``; the derivative at 0 is the slope.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.leaky_relu(sg.constant([-1.0, 2.0])))
        array([-0.01,  2.  ])
    """
    return leaky_relu_op(x, slope)


def elu(x: Any, alpha: Any = 1.0) -> Any:
    """Return x where it is positive, else ``alpha * (exp(x) - 1)``.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.elu(sg.constant([0.0, 2.0])))
        array([0., 2.])
    """
    return elu_op(x, alpha)


def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """Return x limited to an interval; a limit that is None does not limit.

    At the ends of the interval the derivative with respect to x is 1.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.clip(sg.constant([-1.0, 0.5, 2.0]), 0, 1))
        array([0. , 0.5, 1. ])
    """
    if min is None and max is None:
        return construct.as_value("clip", x)
    if min is None:
        return clip_op(x, -math.inf, max) if _is_floating(x) else minimum(x, max)
    if max is None:
        return clip_op(x, min, math.inf) if _is_floating(x) else maximum(x, min)
    return clip_op(x, min, max)


def _is_floating(x: Any) -> bool:
    return is_float(construct.as_value("clip", x).dtype)


for _function in (polygamma, where, astype, leaky_relu, elu, clip):
    public(_function)
