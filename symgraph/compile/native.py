"""Emitted modules become functions: plain Python, or, where they call a user's own functions, compiled by Numba.

A user's function is Python, which only Numba can compile. What it does is not part of the module's text, so nothing of
such a module is kept on disk.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import linecache
import types
from collections.abc import Callable, Mapping
from typing import Any

import numba

from symgraph.compile.kernels.lowering import teach

_njit: Any = numba.njit  # Numba's own annotations are incomplete
_FLAGS = {"error_model": "numpy", "fastmath": {"contract"}, "nogil": True, "no_cfunc_wrapper": True}
_numbers = itertools.count(1)


def load(source: str, functions: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """Return the function ``kernel`` of an emitted module; Numba compiles it at its first call.

    Args:
        source: The module's text.
        functions: A user's own functions that the text calls.
    """
    module = types.ModuleType(f"symgraph_module_{next(_numbers)}")
    for name, function in functions.items():
        setattr(module, name, function if hasattr(function, "py_func") else _njit(function))
    _execute(module, source, _remember_lines(module.__name__, source))
    teach()
    compiled: Callable[..., Any] = _njit(**_FLAGS)(module.kernel)
    return compiled


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


def _execute(module: types.ModuleType, source: str | ast.Module, filename: str) -> types.ModuleType:
    module.__file__ = filename
    exec(compile(source, filename, "exec", dont_inherit=True), module.__dict__)
    return module


def _remember_lines(name: str, source: str) -> str:
    """Make the lines known to tracebacks, and return the file name that stands for them."""
    filename = f"<{name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    return filename
