"""Formulas as standalone modules of source code, which need no symgraph to run."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping, Sequence

from symgraph.errors import ExportError
from symgraph.export.expanding import expand_custom
from symgraph.export.numpy_source import emit_numpy
from symgraph.export.text import given_outputs
from symgraph.expr import Expr, topological

Emitter = Callable[[list[Expr], list[Expr], str, bool], str]

LANGUAGES: Mapping[str, Emitter] = {"numpy": emit_numpy}
"""For each language, what writes a module: ``(outputs, inputs, name, several) -> text``."""


def to_source(
    outputs: Expr | Sequence[Expr],
    *,
    inputs: Sequence[Expr] | None = None,
    language: str = "numpy",
    name: str = "function",
) -> str:
    """Return a standalone module that defines one function computing the outputs.

    Args:
        outputs: One node, whose value the function returns, or several, which come back as a tuple.
        inputs: The parameters in order: placeholders, variables or any other nodes. When None, the
            placeholders and after them the variables that the outputs need, in the order of declaration
            (variables are parameters too: their values live in sessions, not in the graph).
        language: ``"numpy"``: imports NumPy, and SciPy where a function of it is needed.
        name: What the function is called.

    Returns:
        The text of the module. Parts that are used several times are computed once.

    Raises:
        ExportError: the language is unknown, the name is no identifier, a leaf that is needed is no input,
            or an operation has no source in the language.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph():
        ...     x = sg.placeholder("x", ("n",))
        >>> print(sg.to_source(sg.sum(sg.sin(x)), name="total"))
        import numpy as np
        <BLANKLINE>
        <BLANKLINE>
        def total(x):
            \"\"\"Return float64[].
        <BLANKLINE>
            Args:
                x: float64[n]
            \"\"\"
            x = np.asarray(x, np.float64)
            return np.sum(np.sin(x))
        <BLANKLINE>
    """
    emit = LANGUAGES.get(language)
    if emit is None:
        raise ExportError(f"to_source: the language {language!r} is not known: use {', '.join(sorted(LANGUAGES))}")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ExportError(f"to_source: {name!r} is not a name for a function")
    nodes, _ = given_outputs(outputs)
    parameters = _inputs(nodes, inputs)
    return emit(expand_custom(nodes, parameters), parameters, name, not isinstance(outputs, Expr))


def _inputs(outputs: Sequence[Expr], inputs: Sequence[Expr] | None) -> list[Expr]:
    given = [] if inputs is None else list(inputs)
    leaves = [n for n in topological(outputs, stop=set(given)) if n.op.name in ("placeholder", "variable")]
    declared = sorted(leaves, key=lambda leaf: (leaf.op.name, leaf.attrs[1]))
    if inputs is None:
        return declared
    for leaf in declared:
        if leaf not in given:
            raise ExportError(f"to_source: {leaf!r} is needed, but is not among the inputs")
    if len(set(given)) != len(given):
        raise ExportError("to_source: an input is given twice")
    return given
