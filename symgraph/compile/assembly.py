"""Loop programs become functions that Python calls, once: per process in memory, per machine on disk.

LLVM makes the machine code and loads it. Code that was loaded stays for the life of the process.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from functools import cache as remember
from functools import partial
from typing import Any

from llvmlite import binding, ir

from symgraph.compile.cache import open_directory, read_code, refuse, write_code
from symgraph.compile.identity import processor, program_name
from symgraph.compile.loops import Program
from symgraph.compile.machine import blas
from symgraph.compile.machine.program import raise_error, write_program

_loaded: dict[str, _Method] = {}
_loading = threading.RLock()


def load(
    program: Program, text: str, *, cache: bool, cache_dir: str | os.PathLike[str] | None, identity: tuple[Any, ...]
) -> Callable[..., tuple[Any, ...]]:
    """Return a loop program as compiled code: ``(*arguments, *constants, *arrays, *sizes, threads) -> numbers``.

    It trusts that arguments are of the program's dtypes, arrays contiguous, and numbers those of Python or NumPy.

    Args:
        program: The program, whose origins its errors name.
        text: All that distinguishes it from others.
        cache: Whether to look on disk and keep the result there. Code that this process has loaded is used whatever is
            said here.
        cache_dir: The folder, if not the one that `cache.directory` gives.
        identity: What else distinguishes the program from others of the same text.
    """
    name = program_name(text, identity)
    with _loading:
        if name not in _loaded:
            folder = open_directory(cache_dir) if cache else None
            path = None if folder is None else folder / f"{name}.code"
            code = None if path is None else read_code(path)
            if code is None:
                code = assemble(write_program(program, name))
                if path is not None:
                    try:
                        write_code(path, code)
                    except OSError as error:
                        refuse(path.parent, error)
            _loaded[name] = _Method(b"program", address(code, name), _FASTCALL, None)
        return _callable(_loaded[name], partial(raise_error, program.origins))


def assemble(module: ir.Module) -> bytes:
    """Return a module's machine code, as an object file."""
    code: bytes = target().emit_object(optimize(module))
    return code


def optimize(module: ir.Module) -> Any:
    """Return a module as LLVM leaves it."""
    machine = target()
    # From these LLVM knows what is aligned, and what the C library has.
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    parsed = binding.parse_assembly(str(module), binding.create_context())
    parsed.verify()
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(parsed, builder)
    return parsed


@remember
def target() -> Any:
    """Return what generates code for this processor."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    triple, name, features = processor()
    # LLVM's loader takes code that is not position-independent on x86 only.
    relocation = "static" if triple.startswith(("x86", "i386", "i686")) else "default"
    return binding.Target.from_triple(triple).create_target_machine(
        cpu=name, features=features, opt=3, reloc=relocation, codemodel="jitdefault", jit=True
    )


@remember
def _engine() -> Any:
    """Return what loads code."""
    target()
    empty = binding.parse_assembly("", binding.create_context())
    return binding.create_mcjit_compiler(empty, binding.Target.from_triple(processor()[0]).create_target_machine())


def address(code: bytes, name: str) -> int:
    """Load an object file, whose names no other one has, and return the address of a function."""
    if blas.needed_by(code):
        blas.register()
    engine = _engine()
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    found: int = engine.get_function_address(name)
    return found


class _Method(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("code", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    )  # fmt: skip


_FASTCALL = 0x80  # CPython's METH_FASTCALL: arguments by position, as an array


def _callable(method: _Method, fail: Callable[..., Any]) -> Callable[..., Any]:
    """Return machine code as Python calls it; its `self` raises its errors."""
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    function: Callable[..., Any] = make(ctypes.addressof(method), fail, None)
    return function
