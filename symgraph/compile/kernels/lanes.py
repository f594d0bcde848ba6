"""A small language for kernels that LLVM vectorises: numbers whose operators emit LLVM instructions.

A kernel is a Python function of `Lane`s, read as mathematics and run once to emit straight-line code without branches
or calls. In the loop of a caller LLVM makes of it code for 2 to 16 elements at a time (AVX2, AVX-512, NEON). Where the
caller's vectors are explicit, a kernel may have a second form in which unusual lanes branch off (`rarely`). Every
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

from symgraph.compile.kernels import instructions
from symgraph.compile.kernels.instructions import WIDEST, element_of, intrinsic, resized, suffix
from symgraph.compile.kernels.lowering import Emitter

Number = float | int
_DOUBLE, _FLOAT, _INT = ir.DoubleType(), ir.FloatType(), ir.IntType(32)


class Format:
    """What a floating-point format is made of."""

    def __init__(self, kind: Any, width: int, precision: int) -> None:
        self.type, self.name, self.bits = kind, str(kind), ir.IntType(width)
        self.fraction = precision - 1
        self.exponent_bias: int = 2 ** (width - precision - 1) - 1
        self.round = 1.5 * 2.0**self.fraction  # a number added to it is rounded to an integer in the low bits
        self.tiny = 2.0 ** (1 - self.exponent_bias)
        self.negligible = 2.0 ** -(precision + 2)  # where f(x) = x + O(x**2) rounds to x


# A kernel has more constants than there are registers: they are kept on the stack. With this each has a cache line of
# its own, left to itself LLVM has it cross two: power took 5 % longer.
_ALIGNED = 64

# Keeps an inverse finite, and is nothing beside what is not zero.
_LITTLE = 2.0**-120

# So many terms of a polynomial are summed one after the other.
_CHAIN = 7

# A loop has a few calls; in straight-line code of thousands, copies of the kernels would make compiling slow. A call on
# a vector counts as often as it has registers.
_INLINED, _REGISTER = 48, 512
_calls: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def keep_calls(function: Any) -> None:
    """Let a function of the module call its kernels: none of them is copied into it."""
    _calls[function] = _INLINED


DOUBLE, FLOAT = Format(_DOUBLE, 64, 53), Format(_FLOAT, 32, 24)
FORMATS = {"double": DOUBLE, "float": FLOAT}
Caller = Callable[[Any, Sequence[Any]], Any]
"""Emits the call of a kernel written with lanes: ``(builder, values) -> value``."""
EXPLICIT: dict[Emitter, Caller] = {}
"""For the emitter of a kernel written with lanes, what calls it where vectors are explicit."""

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
        return instructions.constant(kind, rounded(other, element_of(kind)) if self._is_float() else other)

    def _is_float(self) -> bool:
        return not isinstance(element_of(self.value.type), ir.IntType)

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

    def __invert__(self) -> Lane:
        return self.like(self.builder.not_(self.value))

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
        return self.like(self.builder.bitcast(self.value, resized(self.value.type, self.format.bits)))

    def converted(self) -> Lane:
        """Return an integer of the format's width as a float, rounded."""
        return self.like(self.builder.sitofp(self.value, resized(self.value.type, self.format.type)))

    def truncated(self) -> Lane:
        """Return a float as an integer of the format's width."""
        return self.like(self.builder.fptosi(self.value, resized(self.value.type, self.format.bits)))

    def is_wide(self) -> bool:
        """Return whether this is in whole registers of AVX-512, which has `times_power`, `mantissa` and `exponent`."""
        width = instructions.width_of(self.value.type) or 1
        return width * self.format.bits.width % _REGISTER == 0 and instructions.has_avx512()

    def number(self) -> Lane:
        """Return the float that an integer's bits are."""
        return self.like(self.builder.bitcast(self.value, resized(self.value.type, self.format.type)))


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
    return x.like(intrinsic(x.builder, "fma", [x.value, x.constant(y), x.constant(z)]))


def poly(x: Lane, table: Coefficients) -> Lane:
    """Return a polynomial's value; the constant stands first.

    Even and odd terms are summed side by side, which halves the chain of operations; of many terms once more.
    """
    return _sum_of_powers(x, table[x.format.name])


def _sum_of_powers(x: Lane, coefficients: Sequence[float]) -> Lane:
    if len(coefficients) <= _CHAIN:
        total = fma(x, coefficients[-1], coefficients[-2])
        for coefficient in coefficients[-3::-1]:
            total = fma(total, x, coefficient)
        return total
    square = x * x
    return fma(x, _sum_of_powers(square, coefficients[1::2]), _sum_of_powers(square, coefficients[::2]))


def select(condition: Lane, yes: Lane | Number, no: Lane | Number) -> Lane:
    """Return one of two values; at least one is a lane."""
    model = yes if isinstance(yes, Lane) else no
    assert isinstance(model, Lane)
    return model.like(condition.builder.select(condition.value, model.constant(yes), model.constant(no)))


def unary(name: str, x: Lane) -> Lane:
    """Return an LLVM intrinsic of one float: fabs, sqrt, floor."""
    return x.like(intrinsic(x.builder, name, [x.value]))


def magnitude(x: Lane) -> Lane:
    """Return the absolute value."""
    return unary("fabs", x)


def times_power(x: Lane, n: Lane) -> Lane:
    """Return ``x * 2**n`` rounded once, n an integer as a float."""
    return _wide("mask.scalef", [x, n])


def exponent(x: Lane) -> Lane:
    """Return the largest integer n with ``2**n <= abs(x)``; -inf of 0 and inf of inf."""
    return _wide("mask.getexp", [x])


def mantissa(x: Lane) -> Lane:
    """Return ``x * 2**n`` between 3/4 and 3/2 for some integer n; 1 of 0 and inf, NaN of negative numbers."""
    return _wide("mask.getmant", [x], ir.Constant(_INT, 0b1011))


def reciprocal(x: Lane) -> Lane:
    """Return ``1 / x``, rounded almost always to the nearest, for numbers whose reciprocals are normal.

    In whole registers of AVX-512 by Newton's method, which takes less time than the divider.
    """
    if not x.is_wide() or x.format is FLOAT:
        return 1.0 / x
    found = reciprocal_to_half(x)
    return fma(found, fma(-x, found, 1.0), found)


def reciprocal_to_half(x: Lane) -> Lane:
    """Return ``1 / x`` to half of the format's digits at least, for numbers whose reciprocals are normal.

    The same bits in vectors of any width. Where vectors are explicit: LLVM vectorises no loop around it.
    """
    if not instructions.has_avx512():
        return 1.0 / x
    found = _estimated("rcp14", x)
    return found if x.format is FLOAT else fma(found, fma(-x, found, 1.0), found)


def root_and_inverse(x: Lane) -> tuple[Lane, Lane]:
    """Return ``sqrt(x)`` and ``0.5 / sqrt(x)`` for x >= 0; of 0 the latter is a large number."""
    root = unary("sqrt", x)
    return root, 0.5 / (root + _LITTLE)


def root_and_inverse_to_half(x: Lane) -> tuple[Lane, Lane]:
    """Return the same: the root but for its last bit, the other to half of the digits, as `reciprocal_to_half` does."""
    if not instructions.has_avx512():
        return root_and_inverse(x)
    found = _estimated("rsqrt14", x + _LITTLE)
    root, inverse = x * found, found * 0.5
    if x.format is DOUBLE:
        missing = fma(-root, inverse, 0.5)
        root, inverse = fma(root, missing, root), fma(inverse, missing, inverse)
    return fma(root, fma(-root, inverse, 0.5), root), inverse


def _estimated(name: str, x: Lane) -> Lane:
    """Return what an instruction of AVX-512 makes of floats; the rest of a register is filled up."""
    if x.is_wide():
        return _wide(name, [x], rounds=False)
    builder, kind, width = x.builder, x.value.type, instructions.width_of(x.value.type)
    value = x.value
    if width is None:
        value = builder.insert_element(ir.Constant(ir.VectorType(kind, 1), ir.Undefined), value, ir.Constant(_INT, 0))
    each, last = _REGISTER // x.format.bits.width, (width or 1) - 1
    whole = instructions.shuffled(builder, value, value, [min(i, last) for i in range(each)])
    found = _wide(name, [x.like(whole)], rounds=False).value
    if width is None:
        return x.like(builder.extract_element(found, ir.Constant(_INT, 0)))
    return x.like(instructions.section(builder, found, 0, width))


def _wide(name: str, operands: Sequence[Lane], *more: Any, rounds: bool = True) -> Lane:
    """Return what an instruction of AVX-512 makes of floats, one register after the other."""
    x = operands[0]
    builder, each = x.builder, _REGISTER // x.format.bits.width
    full = f"llvm.x86.avx512.{name}.{'pd' if x.format is DOUBLE else 'ps'}.512"
    found = []
    for start in range(0, x.value.type.count, each):
        parts = [instructions.section(builder, operand.value, start, each) for operand in operands]
        everywhere, rounding = ir.Constant(ir.IntType(each), -1), ir.Constant(_INT, 4)
        values = [*parts, *more, parts[0], everywhere, *[rounding] * rounds]
        function = builder.module.globals.get(full) or ir.Function(
            builder.module, ir.FunctionType(parts[0].type, [value.type for value in values]), full
        )
        found.append(builder.call(function, values))
    return x.like(instructions.joined(builder, found))


def with_sign(x: Lane, sign: Lane) -> Lane:
    """Return x with the sign of another number."""
    return x.like(intrinsic(x.builder, "copysign", [x.value, sign.value]))


def widened(x: Lane) -> Lane:
    """Return a float in double precision."""
    if x.format is DOUBLE:
        return x
    return Lane(x.builder, x.builder.fpext(x.value, resized(x.value.type, _DOUBLE)), DOUBLE)


def narrowed(x: Lane, format: Format) -> Lane:
    """Return a double rounded to a format."""
    if format is x.format:
        return x
    return Lane(x.builder, x.builder.fptrunc(x.value, resized(x.value.type, format.type)), format)


def vectorises(
    source: Callable[..., Lane],
    *,
    in_double: bool = False,
    explicit: Callable[..., Lane] | None = None,
    registers: int | None = None,
) -> Emitter:
    """Return the emitter that calls a kernel written with lanes.

    Args:
        source: The kernel, without branches: LLVM vectorises the loop around it.
        in_double: Whether float32 is computed in float64 and rounded once.
        explicit: The kernel where vectors are explicit, and branches do no harm; the same if not given.
        registers: How many registers of AVX-512 a call takes at most, if more would put too many numbers on the stack.
    """

    def emit(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
        return call(builder, values)

    call = calls_kernel(source, in_double)
    EXPLICIT[emit] = calls_kernel(explicit or source, in_double, registers)
    return emit


def calls_kernel(source: Callable[..., Lane], in_double: bool = False, registers: int | None = None) -> Caller:
    """Return what calls a kernel; `in_double` and `registers` as for `vectorises`."""

    def call(builder: Any, values: Sequence[Any]) -> Any:
        kind = values[0].type
        width = instructions.width_of(kind) or 1
        each = (registers or width) * _REGISTER // FORMATS[str(element_of(kind))].bits.width
        if width <= each:
            return call_once(builder, values)
        starts = range(0, width, each)
        found = [
            call_once(builder, [instructions.section(builder, v, start, each) for v in values]) for start in starts
        ]
        return instructions.joined(builder, found)

    def call_once(builder: Any, values: Sequence[Any]) -> Any:
        function = _kernel_function(builder.module, source, [value.type for value in values], in_double)
        set.add(builder.function.attributes, WIDEST)
        builder.function.attributes.alignstack = _ALIGNED
        kind = values[0].type
        taken = -(-(instructions.width_of(kind) or 1) * FORMATS[str(element_of(kind))].bits.width // _REGISTER)
        _calls[builder.function] = count = _calls.get(builder.function, 0) + taken
        return builder.call(function, values, attrs=("noinline",) if count > _INLINED else ())

    return call


def _kernel_function(
    module: Any, source: Callable[..., Lane], kinds: list[Any], in_double: bool, *, inline: bool = True
) -> Any:
    name = f"symgraph.{source.__name__}.{suffix(kinds[0])}"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(kinds[0], kinds), name)
    function.linkage = "internal"
    function.attributes.add("alwaysinline" if inline else "noinline")
    function.attributes.add("nounwind")
    set.add(function.attributes, WIDEST)
    function.attributes.alignstack = _ALIGNED
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    format = FORMATS[str(element_of(kinds[0]))]
    lanes = [Lane(builder, argument, format) for argument in function.args]
    if in_double:
        lanes = [widened(lane) for lane in lanes]
    builder.ret(narrowed(source(*lanes), format).value)
    return function


def rarely(condition: Lane, usual: Lane, source: Callable[..., Lane], *arguments: Lane) -> Lane:
    """Return what a kernel makes of the arguments where a condition holds, the usual value elsewhere.

    The kernel is called only when the condition holds in some lane.
    """
    builder = usual.builder
    before = builder.block
    with builder.if_then(instructions.any_lane(builder, condition.value), likely=False):
        exception = _apart(source, *arguments)
        chosen = select(condition, exception, usual)
        after = builder.block
    result = builder.phi(usual.value.type)
    result.add_incoming(usual.value, before)
    result.add_incoming(chosen.value, after)
    return usual.like(result)


def _apart(source: Callable[..., Lane], *arguments: Lane) -> Lane:
    """Return the result of a kernel that is called, not inlined, with as many lanes at a time as a register has."""
    model = arguments[0]
    builder, kind = model.builder, model.value.type
    count, most = instructions.width_of(kind), 512 // model.format.bits.width
    if count is not None and count > most and count % most == 0:
        parts = [
            _apart(source, *[a.like(instructions.section(builder, a.value, start, most)) for a in arguments]).value
            for start in range(0, count, most)
        ]
        return model.like(instructions.joined(builder, parts))
    function = _kernel_function(builder.module, source, [a.value.type for a in arguments], False, inline=False)
    return model.like(builder.call(function, [a.value for a in arguments]))


def table_entry(index: Lane, name: str, numbers: Sequence[float]) -> Lane:
    """Return a number of a constant table; LLVM reads several at once where the processor can.

    A table that fills one or two registers of AVX-512 stays in them. Of an index into it only the low bits count.
    """
    module, element = index.builder.module, index.format.type
    each = _REGISTER // index.format.bits.width
    if len(numbers) in (each, 2 * each):
        if index.is_wide():
            return _permuted(index, numbers)
        index = index & (len(numbers) - 1)
    if name not in module.globals:
        constant = ir.GlobalVariable(module, ir.ArrayType(element, len(numbers)), name)
        constant.linkage, constant.global_constant = "internal", True
        constant.initializer = ir.Constant(constant.value_type, list(numbers))
    table, builder, kind = module.globals[name], index.builder, index.value.type
    indices = [ir.Constant(ir.IntType(64), 0), index.value]
    if not isinstance(kind, ir.VectorType):
        return index.like(builder.load(builder.gep(table, indices, inbounds=True)))
    addresses = builder.gep(table, indices, inbounds=True, source_etype=table.value_type)
    addresses.type = resized(kind, ir.PointerType(element))  # llvmlite takes it for one address
    everywhere = instructions.constant(resized(kind, instructions.BOOLEAN), 1)
    start = instructions.constant(resized(kind, element), 0.0)
    alignment = ir.Constant(ir.IntType(32), index.format.bits.width // 8)
    name = f"llvm.masked.gather.{suffix(start.type)}.v{kind.count}p0"
    if name not in module.globals:
        kinds = [value.type for value in (addresses, alignment, everywhere, start)]
        ir.Function(module, ir.FunctionType(start.type, kinds), name)
    return index.like(builder.call(module.globals[name], [addresses, alignment, everywhere, start]))


def _permuted(index: Lane, numbers: Sequence[float]) -> Lane:
    """Return numbers of a table in one or two registers, one register of indices after the other."""
    builder, each, double = index.builder, _REGISTER // index.format.bits.width, index.format is DOUBLE
    kind = ir.VectorType(index.format.type, each)
    first, *second = (ir.Constant(kind, list(numbers[start : start + each])) for start in range(0, len(numbers), each))
    name = ("vpermi2var.pd" if double else "vpermi2var.ps") if second else ("permvar.df" if double else "permvar.sf")
    full = f"llvm.x86.avx512.{name}.512"
    found = []
    for start in range(0, index.value.type.count, each):
        values = [first, instructions.section(builder, index.value, start, each), *second]
        function = builder.module.globals.get(full) or ir.Function(
            builder.module, ir.FunctionType(kind, [value.type for value in values]), full
        )
        found.append(builder.call(function, values))
    return index.like(instructions.joined(builder, found))


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
