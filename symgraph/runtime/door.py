"""The door of a compiled function: arguments are checked and converted, or refused with one clear error.

What is accepted:

* an array of the declared dtype, as it is when it is contiguous, aligned and in native byte order, and
  copied into such an array otherwise; it is never written to;
* booleans and integers where integers or floating-point numbers are declared, when every number is
  represented exactly;
* a floating-point array of lower precision;
* Python numbers and lists of them, which are weak as in NumPy: they take the declared dtype.

Refused are arrays that would lose precision or meaning: float64 for float32, floating-point numbers for
integers, numbers for booleans, complex numbers, objects, text, masked arrays, ragged lists, and nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from symgraph import dims
from symgraph.arraytype import format_shape
from symgraph.errors import ArgumentError, SizeError
from symgraph.expr import Expr

Array = np.ndarray[Any, Any]
DType = np.dtype[np.generic]


class _Parameter(NamedTuple):
    label: str
    dtype: DType
    rank: int
    shape: dims.Shape


class Door:
    """The checks of one function's arguments, planned once.

    Args:
        name: What messages call the function.
        nodes: The nodes that the arguments stand for.
        labels: What messages call the arguments.

    Attributes:
        source: The text of ``admit``, written out for these arguments: looping over a plan would cost
            several microseconds a call.
    """

    __slots__ = ("_parameters", "_prefix", "admit", "source")

    admit: Callable[..., tuple[list[Any], dict[str, int]]]
    """Return the arguments as the program takes them, and what the names of sizes stand for.

    Args:
        *values: The arguments, in order.

    Returns:
        Contiguous, aligned arrays in native byte order and of the declared dtype, NumPy scalars where a
        parameter has no axes; and the number of each name.

    Raises:
        ArgumentError: an argument is not an array of the declared dtype and cannot become one exactly.
        SizeError: a rank or size differs from the declared one, or one name would have two values.
    """

    def __init__(self, name: str, nodes: Sequence[Expr], labels: Sequence[str]) -> None:
        self._prefix = f"{name}({', '.join(labels)})"
        # NumPy keeps one object for each common dtype, so that identity is the quick test.
        self._parameters = [
            _Parameter(label, np.dtype(node.dtype.type), node.ndim, node.shape)
            for node, label in zip(nodes, labels, strict=True)
        ]
        self.source = _admit_source([parameter.shape for parameter in self._parameters])
        namespace: dict[str, Any] = {"array": np.ndarray, "convert": self._convert, "solve": self._solve}
        for i, parameter in enumerate(self._parameters):
            namespace |= {f"p{i}": parameter, f"dtype{i}": parameter.dtype, f"scalar{i}": parameter.dtype.type}
        exec(self.source, namespace)
        self.admit = namespace["admit"]

    def _solve(self, *values: Any) -> dict[str, int]:
        try:
            return dims.solve(
                {
                    f"{parameter.label} axis {axis}": (size, actual)
                    for parameter, value in zip(self._parameters, values, strict=True)
                    for axis, (size, actual) in enumerate(zip(parameter.shape, value.shape, strict=True))
                }
            )
        except SizeError as error:
            raise SizeError(f"{self._prefix}: {error}") from None

    def _convert(self, value: Any, parameter: _Parameter) -> Any:
        array = self._as_array(value, parameter)
        if array.ndim != parameter.rank:
            axes = "1 axis" if parameter.rank == 1 else f"{parameter.rank} axes"
            shown = f" {format_shape(parameter.shape)}" if parameter.rank else " (a number)"
            raise SizeError(f"{self._prefix}: {parameter.label}: expected {axes}{shown}, got shape {array.shape}")
        if array.dtype != parameter.dtype:
            array = self._cast(value, array, parameter)
        elif array.dtype.num != parameter.dtype.num:  # C's "long long" where "long" is int64
            array = array.view(parameter.dtype)
        if not array.ndim:
            return array[()]
        array = np.require(array, requirements=("C", "A"))
        return array if array.flags.writeable else _without_lock(array)

    def _as_array(self, value: Any, parameter: _Parameter) -> Array:
        if isinstance(value, Expr):
            raise self._refuse(parameter, f"the node {value!r}, which has no value yet")
        if isinstance(value, np.ma.MaskedArray):
            raise self._refuse(parameter, "a masked array; fill it first (value.filled(...))")
        try:
            array = np.asarray(value)
        except ValueError:
            raise self._refuse(parameter, f"a ragged {type(value).__name__}: its items differ in shape") from None
        except (TypeError, RuntimeError) as error:
            raise self._refuse(parameter, f"{type(value).__name__}, of which NumPy makes no array: {error}") from None
        if array.dtype.kind == "O":
            raise self._refuse(parameter, _described_object(value))
        if array.dtype.kind not in "biuf":
            raise self._refuse(parameter, f"dtype {array.dtype}")
        return array

    def _cast(self, value: Any, array: Array, parameter: _Parameter) -> Array:
        given, wanted = array.dtype, parameter.dtype
        weak = type(value) in (bool, int, float, list, tuple)
        # NumPy calls 64-bit integers safe for float64, which holds them exactly up to 2**53 only.
        inexact = given.kind in "iu" and given.itemsize == 8 and wanted.kind == "f"
        if (np.can_cast(given, wanted, "safe") and not inexact) or (weak and not array.size):
            return array.astype(wanted)
        if wanted.kind == "f" and given.kind == "f":
            if not weak:
                fix = f"convert it with value.astype({str(wanted)!r})"
                raise self._refuse(parameter, f"{given}, which is more precise; {fix}")
            with np.errstate(over="ignore"):
                converted = array.astype(wanted)
            exact = np.array_equal(np.isfinite(converted), np.isfinite(array))
        elif wanted.kind in "iuf" and given.kind in "iu":
            with np.errstate(invalid="ignore"):
                converted = array.astype(wanted)
            exact = _equal_integers(array, converted)
        else:
            raise self._refuse(parameter, f"{given}")
        if not exact:
            raise self._refuse(parameter, f"{given} with numbers that {wanted} cannot represent")
        return converted

    def _refuse(self, parameter: _Parameter, got: str) -> ArgumentError:
        return ArgumentError(f"{self._prefix}: {parameter.label}: expected {_described(parameter)}, got {got}")


def _admit_source(shapes: Sequence[dims.Shape]) -> str:
    """Return the text of ``admit`` for parameters of these shapes.

    An argument that is just as the program takes it passes at sight, any other goes to ``convert``. Where
    all sizes are numbers or names they are compared at sight too; ``solve`` finds what is left, and says
    what is wrong.

    Example:
        >>> n = dims.dim("n")
        >>> print(_admit_source([(n, 3), (n,), ()]))
        def admit(a0, a1, a2):
            if type(a0) is not array or a0.dtype is not dtype0 or a0.ndim != 2 or not a0.flags.carray:
                a0 = convert(a0, p0)
            s0_0, s0_1 = a0.shape
            if type(a1) is not array or a1.dtype is not dtype1 or a1.ndim != 1 or not a1.flags.carray:
                a1 = convert(a1, p1)
            s1_0, = a1.shape
            if type(a2) is not scalar2:
                a2 = convert(a2, p2)
            if s0_1 != 3 or s1_0 != s0_0:
                solve(a0, a1, a2)
            return [a0, a1, a2], {'n': s0_0}
    """
    values = ", ".join(f"a{i}" for i in range(len(shapes)))
    lines, wrong, known = [f"def admit({values}):"], [], dict[str, str]()
    at_sight = True
    for i, shape in enumerate(shapes):
        test = f"type(a{i}) is not scalar{i}"
        if shape:
            test = f"type(a{i}) is not array or a{i}.dtype is not dtype{i} or a{i}.ndim != {len(shape)}"
            test += f" or not a{i}.flags.carray"
        lines += [f"    if {test}:", f"        a{i} = convert(a{i}, p{i})"]
        met = [f"s{i}_{axis}" for axis in range(len(shape))]
        if met:
            lines.append(f"    {targets(met)} = a{i}.shape")
        for size, actual in zip(shape, met, strict=True):
            if isinstance(size, int):
                wrong.append(f"{actual} != {size}")
            elif (name := plain_name(size)) is None:
                at_sight = False
            elif known.setdefault(name, actual) != actual:
                wrong.append(f"{actual} != {known[name]}")
    if not at_sight:
        return "\n".join([*lines, f"    return [{values}], solve({values})"])
    if wrong:
        lines += [f"    if {' or '.join(wrong)}:", f"        solve({values})"]
    sizes = ", ".join(f"{name!r}: {actual}" for name, actual in known.items())
    return "\n".join([*lines, f"    return [{values}], {{{sizes}}}"])


def targets(names: Sequence[str]) -> str:
    """Return names as the left side of an assignment that takes a sequence apart."""
    return f"{', '.join(names)}{',' if len(names) == 1 else ''}"


def plain_name(size: dims.Size) -> str | None:
    """Return the name that a size is, None where it is a number or computed from names."""
    found = dims.names(size)
    return next(iter(found)) if len(found) == 1 and dims.dim(*found) is size else None


def _described(parameter: _Parameter) -> str:
    article = "an" if parameter.dtype.kind == "i" else "a"
    if not parameter.rank:
        return f"{article} {parameter.dtype} number"
    return f"{article} {parameter.dtype} array of shape {format_shape(parameter.shape)}"


def _described_object(value: Any) -> str:
    if isinstance(value, np.ndarray | list | tuple):
        return "an array of objects"
    if isinstance(value, int):
        return f"{value}, which no integer dtype holds"
    return "None" if value is None else type(value).__name__


def _equal_integers(integers: Array, converted: Array) -> bool:
    """Tell whether a conversion kept every integer; going back may wrap, which the sign shows."""
    if converted.dtype.kind == "f":
        limit = 2.0 ** (integers.dtype.itemsize * 8 - (integers.dtype.kind == "i"))
        if np.any(converted >= limit):
            return False
    back = converted.astype(integers.dtype)
    return bool(np.all(back == integers) and np.all((converted < 0) == (integers < 0)))


class _Unlocked:
    """A read-only array seen without the lock."""

    def __init__(self, array: Array) -> None:
        self.owner = array
        address, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def _without_lock(array: Array) -> Array:
    """Return a view of a read-only array that is not marked so.

    Programs never write to their arguments, and compiled code is specialised for one kind of array;
    copying a large memory-mapped file only to clear its mark would be a waste.
    """
    return np.asarray(_Unlocked(array))
