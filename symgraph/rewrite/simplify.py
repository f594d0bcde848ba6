"""Which laws there are, which run by default, and simplification for users."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, overload

from symgraph.expr import Expr
from symgraph.rewrite.algebra import ALGEBRA
from symgraph.rewrite.laws import Exactness, Law
from symgraph.rewrite.rewriting import Step
from symgraph.rewrite.rewriting import rewrite as rewrite_by
from symgraph.rewrite.stability import STABILITY
from symgraph.rewrite.structure import STRUCTURE

LAWS: tuple[Law, ...] = (*STABILITY, *STRUCTURE, *ALGEBRA)
"""Every law, in the order in which they are tried."""

DEFAULT: tuple[Law, ...] = tuple(law for law in LAWS if law.kind == "exact" or law.group == "stability")
"""What the pipeline applies: every exact law, and the laws of stability."""


_EXACT: tuple[Exactness, ...] = ("exact",)


def rewrite(
    outputs: Sequence[Expr],
    laws: Sequence[Law] = DEFAULT,
    *,
    keep: Collection[Expr] = frozenset(),
    limit: int = 50,
    record: list[Step] | None = None,
) -> list[Expr]:
    """Return what outputs become when laws are applied everywhere, until none applies.

    As :func:`symgraph.rewrite.rewriting.rewrite`, with the laws of the default pipeline.

    Example:
        >>> import symgraph as sg
        >>> from symgraph.rewrite import rewrite
        >>> with sg.Graph():
        ...     x = sg.placeholder("x")
        >>> rewrite([1 / (1 + sg.exp(-x))])
        [<sigmoid: float64[]>]
    """
    return rewrite_by(outputs, laws, keep=keep, limit=limit, record=record)


def choose_laws(kinds: Collection[Exactness] = _EXACT, groups: Collection[str] | None = None) -> tuple[Law, ...]:
    """Return the laws of some kinds, and of some groups unless that is None."""
    return tuple(law for law in LAWS if law.kind in kinds and (groups is None or law.group in groups))


@overload
def simplify(
    outputs: Expr, *, kinds: Collection[Exactness] = _EXACT, groups: Collection[str] | None = None
) -> Expr: ...
@overload
def simplify(
    outputs: Sequence[Expr], *, kinds: Collection[Exactness] = _EXACT, groups: Collection[str] | None = None
) -> list[Expr]: ...
def simplify(outputs: Any, *, kinds: Any = _EXACT, groups: Any = None) -> Any:
    """Return a simpler expression with the same value.

    Args:
        outputs: A node, or a list of nodes.
        kinds: How exact the laws are. ``"exact"``: the same bits for all inputs. ``"rounding"``: the same in
            real arithmetic. ``"domain"``: the same where both sides are defined, such as ``x/x -> 1``.
        groups: What the laws are for: ``"algebra"``, ``"structure"``, ``"stability"``, ``"entropy"``,
            ``"range"``; all when None.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph():
        ...     x = sg.placeholder("x")
        >>> sg.simplify(-(-x) * 1) is x
        True
        >>> sg.simplify(sg.exp(sg.log(x)), kinds=("exact", "domain")) is x
        True
    """
    laws = choose_laws(kinds, groups)
    if isinstance(outputs, Expr):
        return rewrite_by([outputs], laws)[0]
    return rewrite_by(outputs, laws)


def applications(
    outputs: Expr | Sequence[Expr], *, kinds: Collection[Exactness] = _EXACT, groups: Collection[str] | None = None
) -> list[Step]:
    """Return every application of a law by which :func:`simplify` gets to its result, in order.

    Args:
        outputs, kinds, groups: As for :func:`simplify`.

    Example:
        >>> import symgraph as sg
        >>> from symgraph.rewrite import applications
        >>> with sg.Graph():
        ...     x = sg.placeholder("x")
        >>> [step.law for step in applications(-(-x) * 1)]
        ['double_negation', 'times_one']
    """
    steps: list[Step] = []
    nodes = [outputs] if isinstance(outputs, Expr) else outputs
    rewrite_by(nodes, choose_laws(kinds, groups), record=steps)
    return steps
