"""Emitted modules become machine code, once: per process in memory, per machine on disk.

Numba compiles at the first call and asks the dispatcher's cache before and tells it afterwards. Its own cache trusts
whatever it finds, and breaks when the disk is full; `_DiskCache` answers the same calls from symgraph's folder. So the
caller gets Numba's dispatcher itself, and a call costs nothing extra.

A module that was loaded stays for the life of the process: Numba never frees machine code, and loading the same
symbols twice is not safe.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import linecache
import os
import pickle
import platform
import sys
import threading
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache as remember
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import compiler, registry, serialize, sigutils
from numba.core.runtime import nrt

from symgraph.compile.cache import open_directory, read_code, refuse, write_code, write_text
from symgraph.compile.loops import Program
from symgraph.compile.machine import blas
from symgraph.compile.machine.program import NAME as NATIVE
from symgraph.compile.machine.program import native_function, wrapper
from symgraph.errors import CacheWarning, CompileError

# Numba's own annotations are incomplete: these are looked up without them.
_njit: Any = numba.njit
_settings: Any = numba.config
_target: Any = registry.cpu_target
_runtime: Any = nrt.rtsys
_dumps: Any = serialize.dumps
_rebuild: Any = compiler.CompileResult._rebuild
_normalize_signature: Any = sigutils.normalize_signature

FLAGS: tuple[tuple[str, Any], ...] = (
    ("error_model", "numpy"), ("fastmath", ("contract",)), ("nogil", True), ("no_cfunc_wrapper", True),
)  # fmt: skip
_SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "USING_SVML", "DISABLE_JIT")

_loaded: dict[str, Callable[..., Any]] = {}
_loading = threading.RLock()
_numbers = itertools.count(1)


def load(
    source: str,
    *,
    entry: str = "kernel",
    cache: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
    identity: tuple[Any, ...] = (),
    namespace: Mapping[str, Callable[..., Any]] | None = None,
) -> Callable[..., Any]:
    """Return the compiled function of an emitted module; Numba compiles it, or finds it on disk, at its first call.

    Args:
        source: The module's text. A tuple `COMPILED` in it names the functions to compile, callees before callers.
        entry: The function wanted. Its plain form is the dispatcher's `py_func`.
        cache: Whether to look on disk and keep the result there. A text that this process has loaded is the same
            function whatever is said here.
        cache_dir: The folder, if not the one that `cache.directory` gives.
        identity: What else distinguishes the program from others of the same text.
        namespace: A user's own functions that the text calls. What they do is not part of the text, so nothing
            of such a module is kept, neither on disk nor in memory.

    Raises:
        CompileError: The module does not define the function.
    """
    name = _program_name(source, entry, identity)
    if namespace:
        jitted = {
            key: function if hasattr(function, "py_func") else _njit(function) for key, function in namespace.items()
        }
        return _compile_lazily(f"{name}_{next(_numbers)}", source, entry, None, jitted)
    return _once(name, source, entry, cache, cache_dir, dict)


def load_machine(
    program: Program, text: str, *, cache: bool, cache_dir: str | os.PathLike[str] | None, identity: tuple[Any, ...]
) -> Callable[..., Any]:
    """Return a loop program as compiled code: ``(*arguments, *constants, *arrays, *sizes, threads) -> numbers``.

    Args:
        program: The program.
        text: All that distinguishes it from others.
        cache, cache_dir, identity: As for `load`.
    """
    source = wrapper(program)
    name = _program_name(text, source, identity)
    return _once(name, source, "kernel", cache, cache_dir, lambda: {NATIVE: native_function(program)})


def _once(
    name: str,
    source: str,
    entry: str,
    cache: bool,
    cache_dir: str | os.PathLike[str] | None,
    namespace: Callable[[], dict[str, Any]],
) -> Callable[..., Any]:
    """Return the function of a module that is loaded once in a process."""
    with _loading:
        if name not in _loaded:
            folder = open_directory(cache_dir) if cache else None
            _loaded[name] = _compile_lazily(name, source, entry, folder, namespace())
        return _loaded[name]


def machine_code(function: Callable[..., Any], examples: Sequence[Any]) -> Callable[..., Any]:
    """Return the machine code of a loaded function for arguments of the types of the examples.

    Called like the function, it trusts that the types are these. Before it is compiled, the function comes back.
    """
    compiled: Any = function
    if not hasattr(compiled, "overloads"):
        return function
    result = compiled.overloads.get(tuple(compiled.typeof_pyval(example) for example in examples))
    code: Callable[..., Any] = function if result is None else result.entry_point
    return code


def load_plain(source: str) -> types.ModuleType:
    """Return the emitted module as plain Python, nothing of it compiled; its numbers divide as machine numbers do."""
    name = "symgraph_plain_" + hashlib.sha256(source.encode()).hexdigest()[:32]
    filename = _remember_lines(name, source)
    tree = ast.fix_missing_locations(_MachineNumbers().visit(ast.parse(source, filename)))
    return _execute(types.ModuleType(name), tree, filename)


class _MachineNumbers(ast.NodeTransformer):
    """Makes the floating-point numbers in a text NumPy's: Python's own raise where they are divided by zero."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        """Wrap a number."""
        if not isinstance(node.value, float):
            return node
        kind = ast.Attribute(ast.Name("np", ast.Load()), "float64", ast.Load())
        return ast.copy_location(ast.Call(kind, [node], []), node)


def _compile_lazily(
    name: str, source: str, entry: str, folder: Path | None, namespace: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    module = types.ModuleType(name)
    module.__dict__.update(namespace or {})
    # Numba finds the globals of code that it loads through sys.modules.
    sys.modules[name] = module
    try:
        _execute(module, source, _module_file(name, source, folder))
        flags = {flag: set(value) if isinstance(value, tuple) else value for flag, value in FLAGS}
        compile_function = _njit(**flags)
        for callee in getattr(module, "COMPILED", ()):
            if callee != entry:
                setattr(module, callee, compile_function(getattr(module, callee)))
        if not hasattr(module, entry):
            raise CompileError(f"the emitted module {name} defines no function {entry!r}")
        dispatcher = compile_function(getattr(module, entry))
        if folder is not None and not _settings.DISABLE_JIT:
            dispatcher._cache = _DiskCache(folder, name)
        function: Callable[..., Any] = dispatcher
        return function
    except BaseException:
        del sys.modules[name]
        raise


def _execute(module: types.ModuleType, source: str | ast.Module, filename: str) -> types.ModuleType:
    module.__file__ = filename
    exec(compile(source, filename, "exec", dont_inherit=True), module.__dict__)
    return module


def _module_file(name: str, source: str, folder: Path | None) -> str:
    if folder is not None:
        path = folder / f"{name}.py"
        try:
            write_text(path, source)
            return str(path)
        except OSError as error:
            refuse(folder, error)
    return _remember_lines(name, source)


def _remember_lines(name: str, source: str) -> str:
    """Make the lines known to tracebacks, and return the file name that stands for them."""
    filename = f"<{name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    return filename


def _program_name(source: str, entry: str, identity: tuple[Any, ...]) -> str:
    target = _target.target_context.codegen().magic_tuple()
    settings = [(setting, repr(getattr(_settings, setting, None))) for setting in _SETTINGS]
    everything = repr((source, entry, identity, FLAGS, target, settings, _toolchain()))
    return "symgraph_" + hashlib.sha256(everything.encode()).hexdigest()[:32]


@remember
def _toolchain() -> tuple[str, ...]:
    """Return what else decides the machine code: the versions, and the text of what emitted modules import."""
    texts = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(b"\0".join(text.read_bytes() for text in texts)).hexdigest()
    return (
        sys.version,
        platform.python_implementation(),
        np.__version__,
        numba.__version__,
        llvmlite.__version__,
        digest,
    )


class _DiskCache:
    """The cache of one dispatcher, in the form that Numba's dispatchers call."""

    def __init__(self, folder: Path, name: str) -> None:
        self.cache_path = str(folder)
        self._folder = folder
        self._name = name

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled result for the signature; None when it must be compiled."""
        code = read_code(self._path(sig))
        if code is None:
            return None
        if blas.needed_by(code):
            blas.register()
        # Of what compiling needs, finished code needs the runtime alone; the rest takes half a second.
        _runtime.initialize(target_context)
        try:
            return _rebuild(target_context, *pickle.loads(code))
        except Exception:
            # Unharmed but unusable means that an assumption about Numba's own format does not hold: compile.
            return None

    def save_overload(self, sig: Any, result: Any) -> None:
        """Store the compiled result; a failure costs a warning, never the result."""
        if result.library.has_dynamic_globals:
            reason = "holds addresses of this process and cannot be kept on disk"
            warnings.warn(f"{self._name} {reason}", CacheWarning, stacklevel=2)
            return
        try:
            write_code(self._path(sig), _dumps(result._reduce()))
        except (OSError, pickle.PicklingError) as error:
            refuse(self._folder, error)

    def enable(self) -> None:
        """Do nothing: the cache is on while it is the dispatcher's."""

    def disable(self) -> None:
        """Do nothing: `load(..., cache=False)` is how to do without."""

    def flush(self) -> None:
        """Do nothing: `cache.clear()` empties the folder."""

    def _path(self, sig: Any) -> Path:
        key = hashlib.sha256(repr(_normalize_signature(sig)).encode()).hexdigest()[:16]
        return self._folder / f"{self._name}-{key}.code"
