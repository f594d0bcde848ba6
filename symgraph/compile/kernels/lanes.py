"""A small language for kernels that LLVM vectorises: numbers whose operators emit LLVM instructions.

A kernel is a Python function of `Lane`s, read as mathematics and run once to emit straight-line code without branches
or calls. In the loop of a caller LLVM makes of it code for 2 to 16 elements at a time (AVX2, AVX-512, NEON). Every
module gets one copy of a kernel, marked to be inlined.

Products and sums are rounded as they are written: `contract`, which Numba sets on instructions without flags, would
break compensated sums. `arcp` on a product or a sum and `contract` on a quotient say nothing, and keep it away.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any
from weakref import WeakKeyDictionary

from llvmlite import ir

from symgraph.compile.kernels.lowering import Emitter

Number = float | int
_DOUBLE, _FLOAT = ir.DoubleType(), ir.FloatType()


class Format:
    """What a floating-point format is made of."""

    def __init__(self, kind: Any, width: int, precision: int) -> None:
        self.type, self.name, self.bits = kind, str(kind), ir.IntType(width)
        self.fraction = precision - 1
        self.exponent_bias: int = 2 ** (width - precision - 1) - 1
        self.round = 1.5 * 2.0**self.fraction  # a number added to it is rounded to an integer in the low bits
        self.tiny = 2.0 ** (1 - self.exponent_bias)
        self.negligible = 2.0 ** -(precision + 2)  # where f(x) = x + O(x**2) rounds to x
        self.suffix = f"f{width}"


# LLVM keeps to 256 bits where the first processors with AVX-512 slowed down; these kernels gain up to half from 512.
# llvmlite's own `add` knows no attributes with values.
_WIDEST = '"prefer-vector-width"="512"'

# A loop has a few calls; in straight-line code of thousands, copies of the kernels would make compiling slow.
_INLINED = 48
_calls: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

DOUBLE, FLOAT = Format(_DOUBLE, 64, 53), Format(_FLOAT, 32, 24)
FORMATS = {"double": DOUBLE, "float": FLOAT}
Coefficients = Mapping[str, tuple[float, ...]]


class Lane:
    """One number of the code that is being emitted: a float, its bits as an integer, or a truth value."""

    def __init__(self, builder: Any, value: Any, format: Format) -> None:
        self.builder, self.value, self.format = builder, value, format

    def like(self, value: Any) -> Lane:
        """Return a lane of this code."""
        return Lane(self.builder, value, self.format)

    def constant(self, other: Lane | Number) -> Any:
        """Return the LLVM value of a lane, or of a number in this lane's type."""
        if isinstance(other, Lane):
            return other.value
        kind = self.value.type
        return ir.Constant(kind, int(other) % 2**kind.width if isinstance(kind, ir.IntType) else rounded(other, kind))

    def _is_float(self) -> bool:
        return not isinstance(self.value.type, ir.IntType)

    def _do(self, float_name: str, integer_name: str, left: Any, right: Any) -> Lane:
        if self._is_float():
            flags = ("contract",) if float_name == "fdiv" else ("arcp",)
            return self.like(getattr(self.builder, float_name)(left, right, flags=flags))
        return self.like(getattr(self.builder, integer_name)(left, right))

    def __add__(self, other: Lane | Number) -> Lane:
        return self._do("fadd", "add", self.value, self.constant(other))

    def __radd__(self, other: Number) -> Lane:
        return self._do("fadd", "add", self.constant(other), self.value)

    def __sub__(self, other: Lane | Number) -> Lane:
        return self._do("fsub", "sub", self.value, self.constant(other))

    def __rsub__(self, other: Number) -> Lane:
        return self._do("fsub", "sub", self.constant(other), self.value)

    def __mul__(self, other: Lane | Number) -> Lane:
        return self._do("fmul", "mul", self.value, self.constant(other))

    def __rmul__(self, other: Number) -> Lane:
        return self._do("fmul", "mul", self.constant(other), self.value)

    def __truediv__(self, other: Lane | Number) -> Lane:
        return self._do("fdiv", "sdiv", self.value, self.constant(other))

    def __rtruediv__(self, other: Number) -> Lane:
        return self._do("fdiv", "sdiv", self.constant(other), self.value)

    def __neg__(self) -> Lane:
        return self.like(self.builder.fneg(self.value))

    def __and__(self, other: Lane | int) -> Lane:
        return self.like(self.builder.and_(self.value, self.constant(other)))

    def __or__(self, other: Lane | int) -> Lane:
        return self.like(self.builder.or_(self.value, self.constant(other)))

    def __xor__(self, other: Lane | int) -> Lane:
        return self.like(self.builder.xor(self.value, self.constant(other)))

    def __lshift__(self, places: int) -> Lane:
        return self.like(self.builder.shl(self.value, self.constant(places)))

    def __rshift__(self, places: int) -> Lane:
        return self.like(self.builder.lshr(self.value, self.constant(places)))

    def _compare(self, symbol: str, other: Lane | Number) -> Lane:
        return self.like(self.builder.fcmp_ordered(symbol, self.value, self.constant(other)))

    def __lt__(self, other: Lane | Number) -> Lane:
        return self._compare("<", other)

    def __le__(self, other: Lane | Number) -> Lane:
        return self._compare("<=", other)

    def __gt__(self, other: Lane | Number) -> Lane:
        return self._compare(">", other)

    def __ge__(self, other: Lane | Number) -> Lane:
        return self._compare(">=", other)

    def equals(self, other: Lane | Number) -> Lane:
        """Return whether two floats are equal."""
        return self._compare("==", other)

    def differs(self, other: Lane | Number) -> Lane:
        """Return whether two floats are different numbers."""
        return self._compare("!=", other)

    def negative(self) -> Lane:
        """Return whether an integer is negative."""
        return self.like(self.builder.icmp_signed("<", self.value, self.constant(0)))

    def is_nan(self) -> Lane:
        """Return whether a float is NaN."""
        return self.like(self.builder.fcmp_unordered("uno", self.value, self.value))

    def bits(self) -> Lane:
        """Return a float's bits as an integer."""
        return self.like(self.builder.bitcast(self.value, self.format.bits))

    def number(self) -> Lane:
        """Return the float that an integer's bits are."""
        return self.like(self.builder.bitcast(self.value, self.format.type))


def rounded(value: Number, kind: Any) -> float:
    """Return a number in the precision of an LLVM type."""
    return float(value) if kind == _DOUBLE or not math.isfinite(value) else _to_single(float(value))


def _to_single(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


def parts(value: Fraction, *widths: int) -> Coefficients:
    """Return a number as a sum of floats for each format: parts of so many bits in double, and one for the rest.

    In single precision the parts have half as many bits less one.
    """
    result = {}
    for name, format in FORMATS.items():
        rest, pieces = value, []
        for width in widths:
            places = width if format is DOUBLE else min(width // 2 - 1, 24)
            quantum = Fraction(2) ** (math.frexp(float(rest))[1] - places)
            pieces.append(round(rest / quantum) * quantum)
            rest -= pieces[-1]
        result[name] = (*map(float, pieces), rounded(float(rest), format.type))
    return result


def fma(x: Lane, y: Lane | Number, z: Lane | Number) -> Lane:
    """Return ``x * y + z`` rounded once."""
    return x.like(x.builder.fma(x.value, x.constant(y), x.constant(z)))


def poly(x: Lane, table: Coefficients) -> Lane:
    """Return a polynomial's value; the constant stands first.

    Pairs of terms are summed side by side (Estrin's scheme, one level), which halves the chain of operations.
    """
    coefficients = table[x.format.name]
    square = x * x
    pairs = [
        fma(x, coefficients[i + 1], coefficients[i]) if i + 1 < len(coefficients) else coefficients[i]
        for i in range(0, len(coefficients), 2)
    ]
    total = pairs.pop()
    for pair in reversed(pairs):
        total = fma(square, total, pair)
    assert isinstance(total, Lane)
    return total


def select(condition: Lane, yes: Lane | Number, no: Lane | Number) -> Lane:
    """Return one of two values; at least one is a lane."""
    model = yes if isinstance(yes, Lane) else no
    assert isinstance(model, Lane)
    return model.like(condition.builder.select(condition.value, model.constant(yes), model.constant(no)))


def unary(name: str, x: Lane) -> Lane:
    """Return an LLVM intrinsic of one float: fabs, sqrt, floor."""
    return x.like(_intrinsic(x.builder, name, [x.value]))


def magnitude(x: Lane) -> Lane:
    """Return the absolute value."""
    return unary("fabs", x)


def with_sign(x: Lane, sign: Lane) -> Lane:
    """Return x with the sign of another number."""
    return x.like(_intrinsic(x.builder, "copysign", [x.value, sign.value]))


def _intrinsic(builder: Any, name: str, values: list[Any]) -> Any:
    kind = values[0].type
    signature = ir.FunctionType(kind, [kind] * len(values))
    return builder.call(builder.module.declare_intrinsic(f"llvm.{name}", [kind], signature), values)


def widened(x: Lane) -> Lane:
    """Return a float in double precision."""
    return x if x.format is DOUBLE else Lane(x.builder, x.builder.fpext(x.value, _DOUBLE), DOUBLE)


def narrowed(x: Lane, format: Format) -> Lane:
    """Return a double rounded to a format."""
    return x if format is x.format else Lane(x.builder, x.builder.fptrunc(x.value, format.type), format)


def vectorises(source: Callable[..., Lane], *, in_double: bool = False) -> Emitter:
    """Return the emitter that calls a kernel written with lanes.

    Args:
        source: The kernel.
        in_double: Whether float32 is computed in float64 and rounded once.
    """

    def emit(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
        kind = values[0].type
        module = builder.module
        name = f"symgraph.{source.__name__}.{FORMATS[str(kind)].suffix}"
        if name not in module.globals:
            _define(module, name, source, kind, len(values), in_double)
        set.add(builder.function.attributes, _WIDEST)
        _calls[builder.function] = count = _calls.get(builder.function, 0) + 1
        return builder.call(module.globals[name], values, attrs=("noinline",) if count > _INLINED else ())

    return emit


def _define(module: Any, name: str, source: Callable[..., Lane], kind: Any, arity: int, in_double: bool) -> None:
    function = ir.Function(module, ir.FunctionType(kind, [kind] * arity), name)
    function.linkage = "internal"
    function.attributes.add("alwaysinline")
    function.attributes.add("nounwind")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    format = FORMATS[str(kind)]
    lanes = [Lane(builder, argument, format) for argument in function.args]
    if in_double:
        lanes = [widened(lane) for lane in lanes]
    builder.ret(narrowed(source(*lanes), format).value)


def table_entry(index: Lane, name: str, numbers: Sequence[float]) -> Lane:
    """Return a double of a constant table; LLVM reads several at once where the processor can."""
    module = index.builder.module
    if name not in module.globals:
        constant = ir.GlobalVariable(module, ir.ArrayType(_DOUBLE, len(numbers)), name)
        constant.linkage, constant.global_constant = "internal", True
        constant.initializer = ir.Constant(constant.value_type, list(numbers))
    zero = ir.Constant(index.value.type, 0)
    address = index.builder.gep(module.globals[name], [zero, index.value], inbounds=True)
    return index.like(index.builder.load(address))


def two_sum(x: Lane, y: Lane) -> tuple[Lane, Lane]:
    """Return the rounded sum and its error (D. E. Knuth, The Art of Computer Programming 2, section 4.2.2)."""
    total = x + y
    other = total - x
    return total, (x - (total - other)) + (y - other)


def fast_two_sum(x: Lane, y: Lane | Number) -> tuple[Lane, Lane]:
    """Return the rounded sum and its error, where abs(x) is not less than abs(y) or x is zero."""
    total = x + y
    return total, y - (total - x)


def two_product(x: Lane, y: Lane | Number) -> tuple[Lane, Lane]:
    """Return the rounded product and its error."""
    product = x * y
    return product, fma(x, y, -product)
