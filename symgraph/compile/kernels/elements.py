"""One elementwise operation as LLVM code, for one element or for a vector of elements.

Values are LLVM numbers, or LLVM vectors of one width: float and double, integers of their width, truth values as i1.
The results are those of the NumPy reference: integers wrap, their quotients by zero are 0, shifts by more than the
width shift everything out, NaN and signed zeros are kept. Sums, products and quotients of floats carry `contract`: a
product may be fused with the sum it goes into.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from symgraph.compile.kernels import vector_gamma
from symgraph.compile.kernels.instructions import (
    BOOLEAN,
    any_lane,
    constant,
    element_of,
    intrinsic,
    llvm_type,
    resized,
    suffix,
)
from symgraph.compile.kernels.lanes import EXPLICIT, FORMATS, Caller, Lane, calls_kernel
from symgraph.compile.kernels.lowering import EMITTERS
from symgraph.compile.kernels.vector_special import floor_division

DType = np.dtype[Any]
Rule = Callable[..., Any]
"""Emits an operation: ``(builder, dtype, *values) -> value``."""
Failure = Callable[[Any, Any], None]
"""Emits what happens when an operation is an error: ``(builder, condition of each lane)``."""

_CONTRACT = ("contract",)


def emit_element(
    builder: Any,
    operation: str,
    dtype: DType,
    values: Sequence[Any],
    attributes: tuple[Any, ...] = (),
    *,
    fail: Failure | None = None,
) -> Any:
    """Emit an elementwise operation.

    Args:
        builder: Where to emit.
        operation: The operation's name, or ``copy``, or ``accumulate``: a sum that may be reordered.
        dtype: The operands' dtype; for where that of the branches.
        values: The operands: all of the dtype's LLVM type, or all vectors of one width.
        attributes: The operation's attributes.
        fail: Emits what happens where an integer is raised to a negative power.

    Returns:
        A value of the operands' type, or truth values.
    """
    rule = _RULES.get(operation)
    if operation == "astype":
        return emit_cast(builder, values[0], dtype, np.dtype(attributes[0]))
    if operation == "power" and dtype.kind in "iu":
        return _integer_power(builder, dtype, values[0], values[1], fail)
    if operation in ("floor_divide", "remainder"):
        if dtype.kind == "f":
            return _divide_down(builder, operation, *values)
        return _quotient_and_rest(builder, dtype, *values)[operation == "remainder"]
    if rule is not None:
        return rule(builder, dtype, *values)
    return _kernel(operation, attributes)(builder, values)


def emit_cast(builder: Any, value: Any, before: DType, after: DType) -> Any:
    """Emit the conversion of a value from one dtype to another, as NumPy's astype does it.

    Floats that an integer dtype cannot hold become any number.
    """
    if before == after:
        return value
    target = resized(value.type, llvm_type(after))
    if after.kind == "b":
        return _compare("!=")(builder, before, value, constant(value.type, 0))
    if before.kind == "f" and after.kind == "f":
        return (builder.fpext if after.itemsize > before.itemsize else builder.fptrunc)(value, target)
    if before.kind == "f":
        return _float_to_integer(builder, value, after, target)
    if after.kind == "f":
        return (builder.sitofp if before.kind == "i" else builder.uitofp)(value, target)
    width, wanted = element_of(value.type).width, element_of(target).width
    if wanted == width:
        return value
    if wanted < width:
        return builder.trunc(value, target)
    return (builder.sext if before.kind == "i" else builder.zext)(value, target)


def _float_to_integer(builder: Any, value: Any, after: DType, target: Any) -> Any:
    """Emit the conversion as processors do it: small integers from larger ones, which lets negative ones wrap."""
    if after == np.uint64:
        return builder.fptoui(value, target)
    through = ir.IntType(64 if after.itemsize == 8 or after == np.uint32 else 32)
    wide = builder.fptosi(value, resized(target, through))
    return wide if wide.type == target else builder.trunc(wide, target)


def _arithmetic(floats: str, integers: str, booleans: str = "") -> Rule:
    def emit(builder: Any, dtype: DType, x: Any, y: Any) -> Any:
        if dtype.kind == "f":
            return getattr(builder, floats)(x, y, flags=_CONTRACT)
        return getattr(builder, booleans if dtype.kind == "b" else integers)(x, y)

    return emit


def _accumulate(builder: Any, dtype: DType, total: Any, x: Any) -> Any:
    if dtype.kind == "f":
        return builder.fadd(total, x, flags=("reassoc", "contract"))
    return _RULES["add"](builder, dtype, total, x)


def _compare(symbol: str) -> Rule:
    def emit(builder: Any, dtype: DType, x: Any, y: Any) -> Any:
        if dtype.kind == "f":
            return (builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered)(symbol, x, y)
        return (builder.icmp_signed if dtype.kind == "i" else builder.icmp_unsigned)(symbol, x, y)

    return emit


def _first(builder: Any, dtype: DType, x: Any, *others: Any) -> Any:
    return x


def _bitwise(name: str) -> Rule:
    return lambda builder, dtype, x, y: getattr(builder, name)(x, y)


def _negative(builder: Any, dtype: DType, x: Any) -> Any:
    return builder.fneg(x) if dtype.kind == "f" else builder.neg(x)


def _abs(builder: Any, dtype: DType, x: Any) -> Any:
    if dtype.kind == "f":
        return intrinsic(builder, "fabs", [x])
    if dtype.kind != "i":
        return x
    return builder.select(builder.icmp_signed("<", x, constant(x.type, 0)), builder.neg(x), x)


def _sign(builder: Any, dtype: DType, x: Any) -> Any:
    minus, zero, one = (constant(x.type, number) for number in (-1, 0, 1))
    greater, less = (_compare(symbol)(builder, dtype, x, zero) for symbol in "><")
    if dtype.kind == "f":
        zero = builder.select(builder.fcmp_unordered("uno", x, x), x, zero)
    elif dtype.kind == "u":
        return builder.zext(greater, x.type)
    return builder.select(greater, one, builder.select(less, minus, zero))


def _square(builder: Any, dtype: DType, x: Any) -> Any:
    return _RULES["multiply"](builder, dtype, x, x)


def _reciprocal(builder: Any, dtype: DType, x: Any) -> Any:
    return builder.fdiv(constant(x.type, 1.0), x, flags=_CONTRACT)


def _choice(symbol: str, booleans: str) -> Rule:
    """Return the rule of x where it compares so with y or is NaN, of y elsewhere."""

    def emit(builder: Any, dtype: DType, x: Any, y: Any) -> Any:
        if dtype.kind == "b":
            return getattr(builder, booleans)(x, y)
        chosen = builder.select(_compare(symbol)(builder, dtype, x, y), x, y)
        return builder.select(builder.fcmp_unordered("uno", x, x), x, chosen) if dtype.kind == "f" else chosen

    return emit


def _clip(builder: Any, dtype: DType, x: Any, low: Any, high: Any) -> Any:
    return _RULES["minimum"](builder, dtype, _RULES["maximum"](builder, dtype, x, low), high)


def _relu(builder: Any, dtype: DType, x: Any) -> Any:
    return x if dtype.kind == "b" else _RULES["maximum"](builder, dtype, x, constant(x.type, 0))


def _leaky_relu(builder: Any, dtype: DType, x: Any, slope: Any) -> Any:
    positive = builder.fcmp_ordered(">", x, constant(x.type, 0))
    return builder.select(positive, x, builder.fmul(x, slope, flags=_CONTRACT))


def _rounding(name: str) -> Rule:
    return lambda builder, dtype, x: intrinsic(builder, name, [x]) if dtype.kind == "f" else x


def _sqrt(builder: Any, dtype: DType, x: Any) -> Any:
    return intrinsic(builder, "sqrt", [x])


def _predicate(symbol: str, limit: float) -> Rule:
    """Return the rule of how abs(x) compares with a limit."""

    def emit(builder: Any, dtype: DType, x: Any) -> Any:
        if dtype.kind != "f":
            return constant(resized(x.type, BOOLEAN), symbol == "<")
        compare = builder.fcmp_unordered if symbol == "uno" else builder.fcmp_ordered
        return compare(symbol, intrinsic(builder, "fabs", [x]), constant(x.type, limit))

    return emit


def _logical_not(builder: Any, dtype: DType, x: Any) -> Any:
    return _compare("==")(builder, dtype, x, constant(x.type, 0))


def _left_shift(builder: Any, dtype: DType, x: Any, places: Any) -> Any:
    inside = builder.icmp_unsigned("<", places, constant(x.type, element_of(x.type).width))
    zero = constant(x.type, 0)
    return builder.select(inside, builder.shl(x, builder.select(inside, places, zero)), zero)


def _right_shift(builder: Any, dtype: DType, x: Any, places: Any) -> Any:
    width = element_of(x.type).width
    inside = builder.icmp_unsigned("<", places, constant(x.type, width))
    if dtype.kind == "i":
        return builder.ashr(x, builder.select(inside, places, constant(x.type, width - 1)))
    zero = constant(x.type, 0)
    return builder.select(inside, builder.lshr(x, builder.select(inside, places, zero)), zero)


def _where(builder: Any, dtype: DType, condition: Any, x: Any, y: Any) -> Any:
    return builder.select(condition, x, y)


def _quotient_and_rest(builder: Any, dtype: DType, x: Any, y: Any) -> tuple[Any, Any]:
    """Emit an integer quotient rounded down and its remainder, both 0 where y is 0."""
    zero, one = constant(x.type, 0), constant(x.type, 1)
    by_zero = builder.icmp_unsigned("==", y, zero)
    divisor = builder.select(by_zero, one, y)
    if dtype.kind == "u":
        quotient = builder.udiv(x, divisor)
        rest = builder.sub(x, builder.mul(quotient, divisor))
        return builder.select(by_zero, zero, quotient), rest
    # The least integer over -1 wraps, where the processor traps.
    by_minus_one = builder.icmp_signed("==", y, constant(x.type, -1))
    divisor = builder.select(by_minus_one, one, divisor)
    quotient = builder.sdiv(x, divisor)
    rest = builder.sub(x, builder.mul(quotient, divisor))
    opposite = builder.icmp_signed("<", builder.xor(rest, divisor), zero)
    down = builder.and_(builder.icmp_unsigned("!=", rest, zero), opposite)
    quotient = builder.sub(quotient, builder.zext(down, x.type))
    quotient = builder.select(by_minus_one, builder.neg(x), quotient)
    return builder.select(by_zero, zero, quotient), builder.select(down, builder.add(rest, divisor), rest)


def _integer_power(builder: Any, dtype: DType, x: Any, y: Any, fail: Failure | None) -> Any:
    """Emit an integer's power by repeated squaring, lanes side by side until the last is done."""
    if dtype.kind == "i" and fail is not None:
        fail(builder, builder.icmp_signed("<", y, constant(y.type, 0)))
    name = f"symgraph.power.{suffix(x.type)}"
    module, kind = builder.module, x.type
    if name not in module.globals:
        function = _internal_function(module, name, ir.FunctionType(kind, [kind, kind]))
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        body, done = (function.append_basic_block(part) for part in ("body", "done"))
        start, zero, one = inner.block, constant(kind, 0), constant(kind, 1)
        inner.branch(body)
        inner.position_at_end(body)
        result, base, rest = (inner.phi(kind) for _ in range(3))
        odd = inner.trunc(rest, resized(kind, BOOLEAN))
        more = inner.select(odd, inner.mul(result, base), result)
        squared, halved = inner.mul(base, base), inner.lshr(rest, one)
        for phi, first, following in ((result, one, more), (base, function.args[0], squared)):
            phi.add_incoming(first, start)
            phi.add_incoming(following, body)
        rest.add_incoming(function.args[1], start)
        rest.add_incoming(halved, body)
        inner.cbranch(any_lane(inner, inner.icmp_unsigned("!=", halved, zero)), body, done)
        inner.position_at_end(done)
        inner.ret(more)
    return builder.call(module.globals[name], [x, y])


def _internal_function(module: Any, name: str, signature: Any) -> Any:
    function = ir.Function(module, signature, name)
    function.linkage = "internal"
    function.attributes.add("nounwind")
    return function


_RULES: dict[str, Rule] = {
    "accumulate": _accumulate,
    "add": _arithmetic("fadd", "add", "or_"),
    "subtract": _arithmetic("fsub", "sub"),
    "multiply": _arithmetic("fmul", "mul", "and_"),
    "divide": _arithmetic("fdiv", ""),
    "negative": _negative,
    "positive": _first,
    "copy": _first,
    "stop_gradient": _first,
    "abs": _abs,
    "sign": _sign,
    "sqrt": _sqrt,
    "square": _square,
    "reciprocal": _reciprocal,
    "maximum": _choice(">", "or_"),
    "minimum": _choice("<", "and_"),
    "clip": _clip,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "floor": _rounding("floor"),
    "ceil": _rounding("ceil"),
    "round": _rounding("roundeven"),
    "trunc": _rounding("trunc"),
    "isnan": _predicate("uno", 0.0),
    "isinf": _predicate("==", np.inf),
    "isfinite": _predicate("<", np.inf),
    "equal": _compare("=="),
    "not_equal": _compare("!="),
    "less": _compare("<"),
    "less_equal": _compare("<="),
    "greater": _compare(">"),
    "greater_equal": _compare(">="),
    "logical_and": _bitwise("and_"),
    "logical_or": _bitwise("or_"),
    "logical_xor": _bitwise("xor"),
    "logical_not": _logical_not,
    "bitwise_and": _bitwise("and_"),
    "bitwise_or": _bitwise("or_"),
    "bitwise_xor": _bitwise("xor"),
    "bitwise_left_shift": _left_shift,
    "bitwise_right_shift": _right_shift,
    "bitwise_invert": lambda builder, dtype, x: builder.not_(x),
    "where": _where,
}


_GAMMA: dict[str, Caller] = {
    "lgamma": calls_kernel(vector_gamma.lgamma, in_double=True),
    "digamma": calls_kernel(vector_gamma.digamma, in_double=True),
}


def _kernel(operation: str, attributes: tuple[Any, ...]) -> Caller:
    """Return what calls the kernel of an operation, whose attributes are part of it."""
    if operation == "polygamma":
        return calls_kernel(vector_gamma.polygamma(*attributes), in_double=True)
    return _GAMMA.get(operation) or EXPLICIT[EMITTERS[operation]]


def _divide_down(builder: Any, operation: str, x: Any, y: Any) -> Any:
    """Emit the quotient of two floats rounded down, or its remainder."""
    format = FORMATS[str(element_of(x.type))]
    return floor_division(operation, Lane(builder, x, format), Lane(builder, y, format)).value
