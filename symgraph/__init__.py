"""symgraph: static-graph symbolic differentiation, compiled to native code.

Declare a computation once as a graph of arrays; derive exact gradients of any order as graphs that can
be read, printed and exported; compile value and derivatives together into one native function.

    >>> import symgraph as sg
    >>> with sg.Graph():
    ...     x = sg.placeholder("x", ("n",))
    >>> y = sg.sum(sg.sin(x))
    >>> (dx,) = sg.gradients(y, [x])
    >>> print(sg.to_text(dx))
    cos(x)
"""

from __future__ import annotations

import importlib
from typing import Any

from symgraph import ops as _ops
from symgraph.arraytype import ArrayType
from symgraph.dims import Dim, dim
from symgraph.errors import (
    ArgumentError,
    CallError,
    CompileError,
    DeclarationError,
    DifferentiationError,
    DTypeError,
    ExportError,
    GraphError,
    ShapeError,
    SizeError,
    SymgraphError,
)
from symgraph.expr import Expr
from symgraph.graph import Graph, default_graph, name_scope, placeholder, variable
from symgraph.gradients import grad, gradients
from symgraph.graph import named_constant as constant
from symgraph.interpret import evaluate
from symgraph.op import FUNCTIONS as _FUNCTIONS
from symgraph.ops.custom import custom_op

__version__ = "0.1.0"

# Rooms that need Numba, SymPy or other slow imports are entered when one of their names is first used.
_LAZY = {
    "Function": "symgraph.runtime.function",
    "Options": "symgraph.options",
    "Session": "symgraph.runtime.session",
    "compare": "symgraph.comparison",
    "eager": "symgraph.eager",
    "from_sympy": "symgraph.export.sympy_io",
    "function": "symgraph.runtime.function",
    "hessian": "symgraph.derive.hessian",
    "simplify": "symgraph.rewrite.simplify",
    "spec": "symgraph.tracing",
    "to_latex": "symgraph.export.latex",
    "to_source": "symgraph.export.source",
    "to_sympy": "symgraph.export.sympy_io",
    "to_text": "symgraph.export.text",
    "trace": "symgraph.tracing",
    "train": "symgraph.train",
    "view": "symgraph.view",
}
# ``sg.trace`` of ``symgraph.tracing`` also takes matrices.
_HIDDEN = {"getitem", "at_set", "at_add", "trace"}
_VOCABULARY = {name: function for name, function in _FUNCTIONS.items() if name not in _HIDDEN}
globals().update(_VOCABULARY)

__all__ = sorted(
    [
        "ArgumentError",
        "ArrayType",
        "CallError",
        "CompileError",
        "DTypeError",
        "DeclarationError",
        "DifferentiationError",
        "Dim",
        "ExportError",
        "Expr",
        "Graph",
        "GraphError",
        "ShapeError",
        "SizeError",
        "SymgraphError",
        "constant",
        "custom_op",
        "default_graph",
        "dim",
        "evaluate",
        "grad",
        "gradients",
        "name_scope",
        "placeholder",
        "variable",
        *_LAZY,
        *_VOCABULARY,
    ]
)


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'symgraph' has no attribute {name!r}")
    found = importlib.import_module(module)
    value = found if module == f"symgraph.{name}" and not hasattr(found, name) else getattr(found, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
