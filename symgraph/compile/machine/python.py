"""The function that Python calls: objects become addresses and numbers, and numbers become objects.

It has the form that CPython calls fastest, `(self, arguments, how many) -> object`, and calls CPython's interface by
name. Its `self` is the Python function that raises errors. It trusts what it is given: arrays in C order of the dtypes
that the program was written for, and numbers. Of an array it reads the first field behind the header that every object
has, which NumPy's interface says is the address of its elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from symgraph.compile.machine.vectors import BIT, BYTE, INT, LONG, DType, element_type, intrinsic, long

OBJECT = BYTE.as_pointer()
ENTRY = ir.FunctionType(OBJECT, [OBJECT, OBJECT.as_pointer(), LONG])
"""What CPython calls METH_FASTCALL."""

_HEADER = object.__basicsize__
_DOUBLE = ir.DoubleType()
_NOTHING = ir.Constant(OBJECT, None)


def arguments(builder: Any, count: int) -> list[Any]:
    """Return the objects that the function is called with."""
    given = builder.function.args[1]
    return [builder.load(builder.gep(given, [long(i)])) for i in range(count)]


def elements(builder: Any, array: Any, dtype: DType) -> Any:
    """Return the address of an array's elements."""
    place = builder.gep(array, [long(_HEADER)])
    return builder.load(builder.bitcast(place, element_type(dtype).as_pointer().as_pointer()))


def number(builder: Any, given: Any, dtype: DType) -> Any:
    """Return an object's value as it is computed with."""
    if dtype.kind == "f":
        value = _call(builder, "PyFloat_AsDouble", _DOUBLE, given)
        return value if dtype.itemsize == 8 else builder.fptrunc(value, element_type(dtype))
    if dtype.kind == "b":
        return builder.icmp_signed("!=", _call(builder, "PyObject_IsTrue", INT, given), ir.Constant(INT, 0))
    value = _call(builder, "PyLong_AsUnsignedLongLongMask", LONG, given)  # signed ones and NumPy's as well
    return value if dtype.itemsize == 8 else builder.trunc(value, element_type(dtype))


def let_others_run(builder: Any) -> Any:
    """Give up the interpreter; return what `come_back` needs."""
    return _call(builder, "PyEval_SaveThread", OBJECT)


def come_back(builder: Any, state: Any) -> None:
    """Wait for the interpreter."""
    _call(builder, "PyEval_RestoreThread", ir.VoidType(), state)


def fail(builder: Any, *numbers: Any) -> None:
    """Have `self` raise an error that 64-bit integers describe, and return."""
    module = builder.module
    text = bytearray(b"L" * len(numbers) + b"\0")
    form = ir.GlobalVariable(module, ir.ArrayType(BYTE, len(text)), module.get_unique_name("symgraph.form"))
    form.linkage, form.global_constant, form.initializer = "internal", True, ir.Constant(form.value_type, text)
    kind = ir.FunctionType(OBJECT, [OBJECT, OBJECT], var_arg=True)
    call = module.globals.get("PyObject_CallFunction") or ir.Function(module, kind, "PyObject_CallFunction")
    builder.ret(builder.call(call, [builder.function.args[0], builder.bitcast(form, OBJECT), *numbers]))


def succeed(builder: Any, values: Sequence[tuple[Any, DType]]) -> None:
    """Return a tuple of Python's numbers; truth values are 0 and 1."""
    result = _call(builder, "PyTuple_New", OBJECT, long(len(values)))
    with builder.if_then(_missing(builder, result), likely=False):
        builder.ret(_NOTHING)
    complete: Any = ir.Constant(BIT, 1)
    for place, (value, dtype) in enumerate(values):
        item = _object(builder, value, dtype)
        complete = builder.and_(complete, builder.not_(_missing(builder, item)))
        _call(builder, "PyTuple_SetItem", INT, result, long(place), item)
    with builder.if_then(builder.not_(complete), likely=False):
        _call(builder, "Py_DecRef", ir.VoidType(), result)
        builder.ret(_NOTHING)
    builder.ret(result)


def _object(builder: Any, value: Any, dtype: DType) -> Any:
    if dtype.kind == "f":
        wide = value if dtype.itemsize == 8 else builder.fpext(value, _DOUBLE)
        return _call(builder, "PyFloat_FromDouble", OBJECT, wide)
    if dtype.kind == "i":
        wide = value if dtype.itemsize == 8 else builder.sext(value, LONG)
        return _call(builder, "PyLong_FromLongLong", OBJECT, wide)
    wide = value if value.type == LONG else builder.zext(value, LONG)
    return _call(builder, "PyLong_FromUnsignedLongLong", OBJECT, wide)


def _missing(builder: Any, made: Any) -> Any:
    return builder.icmp_unsigned("==", made, _NOTHING)


def _call(builder: Any, name: str, result: Any, *values: Any) -> Any:
    return builder.call(intrinsic(builder.module, name, result, [value.type for value in values]), values)
