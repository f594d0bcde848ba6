"""How a kernel becomes machine code: its name is typed and lowered directly, without compiling a Python function.

Numba can be taught a function in two ways. An ``overload`` compiles a Python function for each kernel: about
40 ms each (measured, Numba 0.68). A typed name with a lowering rule costs next to nothing: what the caller
contains is then one call of Numba's own scalar code. So kernels that Numba has a correct scalar code for are
lowered to it, those whose speed matters to instructions of our own that LLVM vectorises (`lanes`), and only the others
are compiled from a Python source, once per process.

Only emitted modules that Numba compiles need any of it, so Numba is imported, and taught, by `teach`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Function = Callable[..., Any]
Emitter = Callable[[Any, Any, Any, Sequence[Any]], Any]
"""Emits the code of one call: ``(context, builder, signature, values) -> value``."""

EMITTERS: dict[str, Emitter] = {}
"""What each kernel emits for floating-point numbers, by name."""

_lessons: list[Callable[[Any], None]] = []
_teaching = threading.Lock()


def teach() -> None:
    """Teach Numba what it has not been taught yet: before it compiles a function that calls kernels."""
    with _teaching:
        importlib.import_module("numba.extending")
        while _lessons:
            _lessons.pop(0)(importlib.import_module("numba"))


def jitable(function: Function) -> Function:
    """Return a function that Numba compiles where another one calls it."""
    _lessons.append(lambda numba: numba.extending.register_jitable(function))
    return function


def calls(target: Function) -> Emitter:
    """Return the emitter that calls a function of ``math`` or NumPy which Numba knows."""

    def emit(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
        return context.get_function(target, sig)(builder, values)

    return emit


def unchanged(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
    """Emit the first argument itself."""
    return values[0]


def compiles(source: Function, *, widened: bool = True) -> Emitter:
    """Return the emitter that calls a Python function, compiled by Numba when it is first called.

    Args:
        source: The function.
        widened: Whether it is compiled for the widest type of the arguments' kind. So float32 is computed in
            float64 and rounded once; small integers are computed in 64 bits and wrap when they are narrowed, as
            NumPy's do.
    """

    @functools.cache
    def compiled() -> Any:  # kept here: Numba's type of it is a weak reference
        return importlib.import_module("numba").njit(error_model="numpy", nogil=True, no_cpython_wrapper=True)(source)

    def emit(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
        dispatcher = importlib.import_module("numba").types.Dispatcher(compiled())
        wide = tuple(_widest(t) for t in sig.args) if widened else sig.args
        inner = dispatcher.get_call_type(context.typing_context, wide, {})
        cast = [context.cast(builder, v, t, w) for v, t, w in zip(values, sig.args, wide, strict=True)]
        result = context.get_function(dispatcher, inner)(builder, cast)
        return context.cast(builder, result, inner.return_type, sig.return_type)

    return emit


def by_sign(signed: Emitter, unsigned: Emitter) -> Emitter:
    """Return the emitter that chooses between signed and unsigned integers."""

    def emit(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
        return (signed if sig.args[0].signed else unsigned)(context, builder, sig, values)

    return emit


def _widest(numba_type: Any) -> Any:
    types = importlib.import_module("numba").types
    if isinstance(numba_type, types.Float):
        return types.float64
    if isinstance(numba_type, types.Integer):
        return types.int64 if numba_type.signed else types.uint64
    return numba_type


def kernel(
    floats: Emitter, *, integers: Emitter | None = None, booleans: Emitter | None = None, predicate: bool = False
) -> Callable[[Function], Function]:
    """Return the decorator that teaches Numba a function which computes one element with NumPy.

    Args:
        floats, integers, booleans: What to emit for arguments of that kind; integers and booleans that are not
            stated are emitted as floats are.
        predicate: Whether the result is a boolean; otherwise it has the dtype of the arguments.
    """

    def decorate(function: Function) -> Function:
        def emit(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
            types = importlib.import_module("numba").types
            by_kind = ((types.Float, floats), (types.Integer, integers or floats), (types.Boolean, booleans or floats))
            chosen = next(emitter for kind, emitter in by_kind if isinstance(sig.args[0], kind))
            return chosen(context, builder, sig, values)

        EMITTERS[function.__name__] = floats
        return _teach(function, emit, 0, predicate)

    return decorate


def in_double(attributes: int = 0, *, emitter: Emitter | None = None) -> Callable[[Function], Function]:
    """Return the decorator that makes a kernel of a function of np.float64 written with other kernels.

    Args:
        attributes: How many trailing arguments are static integers of the operation.
        emitter: What to emit instead of a call of the function.
    """

    def decorate(source: Function) -> Function:
        @functools.wraps(source)
        def function(*operands: Any) -> Any:
            split = len(operands) - attributes
            result = np.float32 if isinstance(operands[0], np.float32) else np.float64
            return result(source(*[np.float64(x) for x in operands[:split]], *operands[split:]))

        EMITTERS[function.__name__] = emitter or compiles(source)
        return _teach(function, EMITTERS[function.__name__], attributes, False)

    return decorate


def _teach(function: Function, emit: Emitter, attributes: int, predicate: bool) -> Function:
    def lesson(numba: Any) -> None:
        types, extending = numba.types, numba.extending

        def typing(context: Any) -> Function:
            def resolve(*arguments: Any) -> Any:
                split = len(arguments) - attributes
                operand = context.unify_types(*[types.unliteral(t) for t in arguments[:split]])
                if not isinstance(operand, types.Float | types.Integer | types.Boolean):
                    return None
                result = types.boolean if predicate else operand
                return result(*[operand] * split, *[types.int64] * attributes)

            resolve.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
            return resolve

        extending.type_callable(function)(typing)
        extending.lower_builtin(function, types.VarArg(types.Any))(emit)

    _lessons.append(lesson)
    return function
