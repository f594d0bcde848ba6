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
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from symgraph.compile.machine.language import Array, Number
from symgraph.compile.machine.vectors import BYTE, INT, LONG, intrinsic
from symgraph.errors import CompileError

PREFIX = "symgraph_blas_"
"""What every symbol registered here begins with."""

_FUNCTIONS = {
    "cython_blas": ("gemm", "gemv", "swap", "syrk", "trsv"),
    "cython_lapack": ("potrf", "getrf"),
}
_ENTER, _LEAVE = f"{PREFIX}enter", f"{PREFIX}leave"
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


def enter(builder: Any) -> None:
    """Write the call that keeps BLAS to one thread until as many calls of `leave` as of this one have been made."""
    register()
    builder.call(intrinsic(builder.module, _ENTER, ir.VoidType(), []), [])


def leave(builder: Any) -> None:
    """Write the call that, as the last one, gives BLAS back the user's number of threads."""
    register()
    builder.call(intrinsic(builder.module, _LEAVE, ir.VoidType(), []), [])


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


class _Threads:
    """Keeps OpenBLAS to one thread while anyone calls; another BLAS is left alone."""

    def __init__(self, module: types.ModuleType) -> None:
        self._controls = _find_controls(module)
        self._state = (ctypes.c_int32 * 3)()  # a lock, the number of callers, the user's number of threads
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        parsed = llvm.parse_assembly(str(self._write()))
        machine = llvm.Target.from_default_triple().create_target_machine()
        self._engine = llvm.create_mcjit_compiler(parsed, machine)
        self._engine.finalize_object()
        for name in (_ENTER, _LEAVE):
            llvm.add_symbol(name, self._engine.get_function_address(name))
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Forget the callers on threads of the parent, which the child does not have."""
        _, callers, threads = self._state
        self._state[0] = self._state[1] = 0
        if callers and self._controls is not None:
            self._controls[1](threads)

    def _write(self) -> ir.Module:
        module = ir.Module("symgraph_blas")
        module.triple = llvm.get_process_triple()
        for name, write in ((_ENTER, self._write_enter), (_LEAVE, self._write_leave)):
            function = ir.Function(module, ir.FunctionType(ir.VoidType(), []), name)
            builder = ir.IRBuilder(function.append_basic_block())
            if self._controls is not None:
                write(builder)
            builder.ret_void()
        return module

    def _write_enter(self, builder: Any) -> None:
        self._lock(builder)
        callers = builder.load(self._cell(1))
        with builder.if_then(builder.icmp_signed("==", callers, ir.Constant(INT, 0))):
            builder.store(self._get(builder), self._cell(2))
            self._set(builder, ir.Constant(INT, 1))
        builder.store(builder.add(callers, ir.Constant(INT, 1)), self._cell(1))
        self._unlock(builder)

    def _write_leave(self, builder: Any) -> None:
        self._lock(builder)
        callers = builder.sub(builder.load(self._cell(1)), ir.Constant(INT, 1))
        builder.store(callers, self._cell(1))
        untouched = builder.icmp_signed("==", self._get(builder), ir.Constant(INT, 1))
        last = builder.icmp_signed("==", callers, ir.Constant(INT, 0))
        # A number that the user has set meanwhile stays.
        with builder.if_then(builder.and_(last, untouched)):
            self._set(builder, builder.load(self._cell(2)))
        self._unlock(builder)

    def _lock(self, builder: Any) -> None:
        """Wait until nobody else is between `_lock` and `_unlock`, where all spend a few nanoseconds."""
        again, inside = builder.append_basic_block(), builder.append_basic_block()
        builder.branch(again)
        builder.position_at_end(again)
        held = builder.atomic_rmw("xchg", self._cell(0), ir.Constant(INT, 1), "acquire")
        builder.cbranch(builder.icmp_signed("==", held, ir.Constant(INT, 0)), inside, again)
        builder.position_at_end(inside)

    def _unlock(self, builder: Any) -> None:
        builder.store_atomic(ir.Constant(INT, 0), self._cell(0), "release", 4)

    def _get(self, builder: Any) -> Any:
        return builder.call(self._control(builder, 0, ir.FunctionType(INT, [])), [])

    def _set(self, builder: Any, threads: Any) -> None:
        builder.call(self._control(builder, 1, ir.FunctionType(ir.VoidType(), [INT])), [threads])

    def _control(self, builder: Any, which: int, kind: Any) -> Any:
        assert self._controls is not None
        address = ctypes.cast(self._controls[which], ctypes.c_void_p).value
        return builder.inttoptr(ir.Constant(LONG, address), kind.as_pointer())

    def _cell(self, place: int) -> Any:
        return ir.Constant(LONG, ctypes.addressof(self._state) + 4 * place).inttoptr(INT.as_pointer())


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
