"""SciPy's BLAS and LAPACK as functions that machine code calls by name.

SciPy exports both to Cython: each function is a capsule with its address. `register` tells LLVM the addresses, so
machine code, which names the functions, may be kept on disk. Only programs that call BLAS pay for loading it.

Machine code divides its work over threads of its own, and results must not depend on their number. OpenBLAS divides
some sums over its threads; so while machine code runs, between `enter` and `leave`, OpenBLAS keeps to one.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from symgraph.compile.machine.language import Array, Number, function
from symgraph.compile.machine.vectors import BYTE, INT, LONG, DType, intrinsic
from symgraph.errors import CompileError

PREFIX = "symgraph_blas_"
"""What every symbol registered here begins with."""

_FUNCTIONS = {
    "cython_blas": ("gemm", "gemv", "swap", "syrk", "trsv"),
    "cython_lapack": ("potrf", "getrf"),
}
_STATE = f"{PREFIX}state"
_CONTROLS = [
    (f"{prefix}openblas_get_num_threads{suffix}", f"{prefix}openblas_set_num_threads{suffix}")
    for prefix in ("scipy_", "")
    for suffix in ("", "64_")
]

_registering = threading.Lock()
_kept: list[Any] = []  # what must live as long as the machine code that refers to it


def register() -> None:
    """Make the functions known to LLVM; this must come before machine code that calls them is loaded.

    Raises:
        CompileError: SciPy's BLAS counts in other integers than those of C.
    """
    if _kept:
        return
    with _registering:
        if _kept:
            return
        modules = {name: _load(name) for name in _FUNCTIONS}
        for module, names in _FUNCTIONS.items():
            for name in [kind + name for name in names for kind in "sd"]:
                llvm.add_symbol(PREFIX + name, _address(modules[module], name))
        _kept.extend([*modules.values(), _Threads(modules["cython_blas"])])


def needed_by(code: bytes) -> bool:
    """Tell whether machine code calls functions registered here."""
    return PREFIX.encode() in code


def call(builder: Any, name: str, arguments: Sequence[Any]) -> None:
    """Call a function of BLAS or LAPACK, which takes pointers only: to numbers, flags and arrays.

    Args:
        builder: Where to write the call.
        name: Such as ``"dgemm"``.
        arguments: Flags as one letter, integers, LLVM's numbers (64-bit integers among them), arrays and pointers.
    """
    register()
    addresses = [builder.bitcast(_by_reference(builder, argument), BYTE.as_pointer()) for argument in arguments]
    kinds = [BYTE.as_pointer()] * len(addresses)
    builder.call(intrinsic(builder.module, PREFIX + name, ir.VoidType(), kinds), addresses)


def letter(dtype: DType) -> str:
    """Return the letter that names of BLAS and LAPACK begin with for a type of numbers."""
    return "d" if dtype.itemsize == 8 else "s"


def enter(builder: Any) -> None:
    """Write the call that keeps BLAS to one thread until as many calls of `leave` as of this one have been made."""
    register()
    builder.call(function(builder.module, "symgraph.blas.enter", ir.VoidType(), [], _write_enter), [])


def leave(builder: Any) -> None:
    """Write the call that, as the last one, gives BLAS back the user's number of threads."""
    register()
    builder.call(function(builder.module, "symgraph.blas.leave", ir.VoidType(), [], _write_leave), [])


def _by_reference(builder: Any, argument: Any) -> Any:
    if isinstance(argument, Array):
        return argument.pointer
    if isinstance(argument, Number):
        argument = argument.value
    if isinstance(argument, int):
        argument = ir.Constant(LONG, argument)
    if isinstance(argument, str):
        argument = ir.Constant(BYTE, ord(argument))
    if isinstance(argument.type, ir.PointerType):
        return argument
    if argument.type == LONG:
        argument = builder.trunc(argument, INT)
    with builder.goto_entry_block():
        place = builder.alloca(argument.type)
    builder.store(argument, place)
    return place


def _load(name: str) -> types.ModuleType:
    """Import a module of scipy.linalg, without the rest of it where that is possible: it takes 0.3 seconds."""
    full = f"scipy.linalg.{name}"
    if full in sys.modules or "scipy.linalg" in sys.modules:
        return importlib.import_module(full)
    scipy = importlib.import_module("scipy")
    spec = PathFinder.find_spec(full, [os.path.join(path, "linalg") for path in scipy.__path__])
    if spec is None or spec.loader is None:
        return importlib.import_module(full)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Whoever imports scipy.linalg later must find nothing half done.
    sys.modules.pop(full, None)
    return module


def _address(module: types.ModuleType, name: str) -> int:
    capsule = module.__dict__["__pyx_capi__"][name]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    signature = api.PyCapsule_GetName(capsule)
    if b", int *" not in signature:
        raise CompileError(f"{module.__name__}.{name} does not take C's integers, but is {signature.decode()}")
    address: int = api.PyCapsule_GetPointer(capsule, signature)
    return address


class _State(ctypes.Structure):
    """What machine code knows of OpenBLAS: a lock, the number of callers, the user's number of threads, and controls.

    The controls get and set the number of threads; they are missing where the BLAS is another one.
    """

    _fields_ = (
        ("lock", ctypes.c_int32), ("callers", ctypes.c_int32), ("threads", ctypes.c_int32),
        ("get", ctypes.c_void_p), ("set", ctypes.c_void_p),
    )  # fmt: skip


_STATE_TYPE = ir.LiteralStructType([INT, INT, INT, BYTE.as_pointer(), BYTE.as_pointer()])
_LOCK, _CALLERS, _USERS, _GET, _SET = range(5)


class _Threads:
    """What machine code reads to keep OpenBLAS to one thread while anyone calls."""

    def __init__(self, module: types.ModuleType) -> None:
        self._controls = _find_controls(module)
        self._state = _State()
        if self._controls is not None:
            self._state.get, self._state.set = (ctypes.cast(each, ctypes.c_void_p).value for each in self._controls)
        llvm.add_symbol(_STATE, ctypes.addressof(self._state))
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Forget the callers on threads of the parent, which the child does not have."""
        callers, self._state.lock, self._state.callers = self._state.callers, 0, 0
        if callers and self._controls is not None:
            self._controls[1](self._state.threads)


def _write_enter(builder: Any) -> None:
    with _locked(builder):
        callers = builder.load(_cell(builder, _CALLERS))
        with builder.if_then(builder.icmp_signed("==", callers, ir.Constant(INT, 0))):
            builder.store(_threads(builder), _cell(builder, _USERS))
            _set_threads(builder, ir.Constant(INT, 1))
        builder.store(builder.add(callers, ir.Constant(INT, 1)), _cell(builder, _CALLERS))
    builder.ret_void()


def _write_leave(builder: Any) -> None:
    with _locked(builder):
        callers = builder.sub(builder.load(_cell(builder, _CALLERS)), ir.Constant(INT, 1))
        builder.store(callers, _cell(builder, _CALLERS))
        untouched = builder.icmp_signed("==", _threads(builder), ir.Constant(INT, 1))
        last = builder.icmp_signed("==", callers, ir.Constant(INT, 0))
        # A number that the user has set meanwhile stays.
        with builder.if_then(builder.and_(last, untouched)):
            _set_threads(builder, builder.load(_cell(builder, _USERS)))
    builder.ret_void()


@contextmanager
def _locked(builder: Any) -> Iterator[None]:
    """Write what happens where there are controls and nobody else is here; all spend a few nanoseconds in it."""
    missing = ir.Constant(BYTE.as_pointer(), None)
    with builder.if_then(builder.icmp_unsigned("!=", builder.load(_cell(builder, _GET)), missing)):
        again, inside = builder.append_basic_block(), builder.append_basic_block()
        builder.branch(again)
        builder.position_at_end(again)
        held = builder.atomic_rmw("xchg", _cell(builder, _LOCK), ir.Constant(INT, 1), "acquire")
        builder.cbranch(builder.icmp_signed("==", held, ir.Constant(INT, 0)), inside, again)
        builder.position_at_end(inside)
        yield
        builder.store_atomic(ir.Constant(INT, 0), _cell(builder, _LOCK), "release", 4)


def _threads(builder: Any) -> Any:
    kind = ir.FunctionType(INT, []).as_pointer()
    return builder.call(builder.bitcast(builder.load(_cell(builder, _GET)), kind), [])


def _set_threads(builder: Any, threads: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [INT]).as_pointer()
    builder.call(builder.bitcast(builder.load(_cell(builder, _SET)), kind), [threads])


def _cell(builder: Any, place: int) -> Any:
    module = builder.module
    state = module.globals.get(_STATE) or ir.GlobalVariable(module, _STATE_TYPE, _STATE)
    return builder.gep(state, [ir.Constant(INT, 0), ir.Constant(INT, place)])


def _find_controls(module: types.ModuleType) -> tuple[Any, Any] | None:
    """Return OpenBLAS's functions that get and set the number of threads, looked up in what a module is linked with."""
    file = Path(str(module.__file__))
    # A search from the module goes through the libraries it needs, except on Windows.
    bundled = sorted(file.parents[2].glob("scipy.libs/*openblas*")) if os.name == "nt" else []
    for path in [file, *bundled]:
        library = ctypes.CDLL(str(path))
        for names in _CONTROLS:
            if all(hasattr(library, name) for name in names):
                get, set_ = (getattr(library, name) for name in names)
                return get, set_
    return None
