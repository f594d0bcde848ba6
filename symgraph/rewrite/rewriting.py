"""Apply laws to a graph, arguments before users, until none applies."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from symgraph.errors import Location, RewriteError
from symgraph.expr import CONSTANT, Expr, derived, rebuild, topological
from symgraph.op import Op
from symgraph.rewrite.laws import Bindings, Law, Term, is_plausible

_WATCHED = 3
"""How many arguments' operations select laws; no pattern needs more."""

Candidates = tuple[tuple[Law, Term], ...]


class Step(NamedTuple):
    """One application of a law."""

    law: str
    before: Expr
    after: Expr


def rewrite(
    outputs: Sequence[Expr],
    laws: Sequence[Law],
    *,
    keep: Collection[Expr] = frozenset(),
    limit: int = 50,
    record: list[Step] | None = None,
) -> list[Expr]:
    """Return what outputs become when laws are applied everywhere, until none applies.

    The time is linear in the number of nodes; a node that no law could match costs about a microsecond.

    Args:
        outputs: Any nodes.
        laws: The laws; of several that apply, the first in this order is taken.
        keep: Nodes that stay as they are, such as those to differentiate with respect to: none is
            replaced, no pattern looks into one, and no other node becomes one.
        limit: How many applications there may be for each node.
        record: Gets every application, in order.

    Raises:
        RewriteError: laws undo each other, or never come to an end; the message names them.

    Example:
        >>> import symgraph as sg
        >>> from symgraph.rewrite.rewriting import rewrite
        >>> from symgraph.rewrite.stability import STABILITY
        >>> with sg.Graph():
        ...     x = sg.placeholder("x")
        >>> rewrite([sg.log(1 + sg.exp(x))], STABILITY)
        [<softplus: float64[]>]
    """
    return _Rewriting(tuple(laws), keep, record).run(outputs, limit)


class _Rewriting:
    """The state of one call of rewrite.

    ``normal`` maps the identity of every node that is done to its normal form; a node that a law has
    replaced waits until its replacement, and the new nodes under that, are done. ``alive`` holds what was
    made on the way, so that no identity is used twice.
    """

    def __init__(self, laws: tuple[Law, ...], keep: Collection[Expr], record: list[Step] | None) -> None:
        self.laws = _by_root(laws)
        self.record = record
        self.kept = {id(node) for node in keep}
        self.stop = frozenset(keep)
        self.normal: dict[int, Expr] = {id(node): node for node in keep}
        self.waiting: dict[int, tuple[Expr, str]] = {}
        self.alive: list[Expr] = list(keep)
        self.candidates: dict[tuple[Op | Expr, ...], Candidates] = {}
        self.come_from: Callable[[Location | None], None]

    def run(self, outputs: Sequence[Expr], limit: int) -> list[Expr]:
        with derived() as self.come_from:
            return self._run(outputs, limit)

    def _run(self, outputs: Sequence[Expr], limit: int) -> list[Expr]:
        stack = topological(outputs, self.stop)
        left = limit * (len(stack) + 20)
        recent: deque[str] = deque(maxlen=200)
        stack.reverse()
        normal, waiting = self.normal, self.waiting
        while stack:
            node = stack.pop()
            key = id(node)
            if key in normal:
                continue
            if waiting and key in waiting:
                normal[key] = normal[id(waiting.pop(key)[0])]
                continue
            current = node
            for arg in node.args:
                if normal[id(arg)] is not arg:
                    current = self.rebuilt(node)
                    break
            if current is not node and id(current) in normal:
                normal[key] = normal[id(current)]
                continue
            step = self.step(current) if current.args else None
            if step is None:
                normal[key] = normal[id(current)] = current
                continue
            if current is not node:
                if id(current) in waiting:
                    raise self.loop(current)
                waiting[key] = current, "rebuilt"
                stack.append(node)
            recent.append(step.law)
            left -= 1
            if left < 0:
                raise _endless(recent)
            if self.record is not None:
                self.record.append(step)
            waiting[id(current)] = step.after, step.law
            stack.append(current)
            fresh = self.unsettled(step.after)
            for new in fresh:
                if id(new) in waiting:
                    raise self.loop(new)
            self.alive.append(step.after)
            stack.extend(reversed(fresh))
        return [normal[id(output)] for output in outputs]

    def rebuilt(self, node: Expr) -> Expr:
        """Return a node with its arguments in normal form: itself if that would make it a kept node."""
        self.come_from(node.location)
        new = rebuild(node, [self.normal[id(arg)] for arg in node.args])
        if id(new) in self.kept:
            return node
        self.alive.append(new)
        return new

    def step(self, node: Expr) -> Step | None:
        """Return the application of the first law that applies."""
        args = node.args[:_WATCHED]
        made_by: tuple[Op | Expr, ...] = (node.op, *[arg.op for arg in args])
        candidates = self.candidates.get(made_by)
        if candidates is None:
            laws = self.laws.get(node.op, ()) or self.laws.get(None, ())
            candidates = self.candidates[made_by] = _plausible(laws, made_by)
        if candidates and CONSTANT in made_by:
            # Most laws about numbers are about one number: a constant counts with its value.
            valued = (node.op, *[arg if arg.op is CONSTANT else arg.op for arg in args])
            chosen = self.candidates.get(valued)
            if chosen is None:
                chosen = self.candidates[valued] = _plausible(candidates, valued)
            candidates = chosen
        if candidates:
            self.come_from(node.location)
        for law, variant in candidates:
            applied = law.applied(variant, node, self.kept)
            if applied is not None and not (self.kept and self.reaches_kept(*applied)):
                return Step(law.name, node, applied[0])
        return None

    def unsettled(self, new: Expr) -> list[Expr]:
        """Return the nodes of a replacement that are not done yet, arguments before users."""
        order: list[Expr] = []
        seen: set[int] = set()
        stack = [(new, False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif id(node) not in self.normal and id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                stack.extend((arg, False) for arg in reversed(node.args))
        return order

    def reaches_kept(self, new: Expr, found: Bindings) -> bool:
        """Tell whether a replacement would use a kept node that was not among what the pattern matched."""
        bound = {id(node) for node in found.values() if isinstance(node, Expr)}
        bound |= {id(arg) for arg in found["node"].args}
        bound |= {id(node) for value in found.values() if isinstance(value, tuple) for node in value}
        reached = [new, *(arg for node in self.unsettled(new) for arg in node.args)]
        return any(id(node) in self.kept and id(node) not in bound for node in reached)

    def loop(self, node: Expr) -> RewriteError:
        """Return the error for a node whose normal form would need itself."""
        keys = list(self.waiting)
        names = [self.waiting[key][1] for key in keys[keys.index(id(node)) :]]
        named = sorted({name for name in names if name != "rebuilt"})
        return RewriteError(f"rewriting does not end: the laws {', '.join(named)} lead back to {node!r}")


def _plausible(laws: Iterable[tuple[Law, Term]], made_by: Sequence[Any]) -> Candidates:
    return tuple((law, variant) for law, variant in laws if is_plausible(variant, made_by[0], made_by[1:]))


def _endless(recent: Collection[str]) -> RewriteError:
    counted = ", ".join(f"{name} ({count})" for name, count in sorted(Counter(recent).items()))
    return RewriteError(f"rewriting does not end: the last {len(recent)} steps applied the laws {counted}")


@lru_cache(maxsize=32)
def _by_root(laws: tuple[Law, ...]) -> dict[Op | None, Candidates]:
    """Return laws with their variants by root operation; under None those for any operation of a kind."""
    rows = [(law, variant, variant.head) for law in laws for variant in law.variants]
    general = tuple((law, variant) for law, variant, head in rows if not isinstance(head, Op))
    table: dict[Op | None, Candidates] = {None: general}
    for head in {head: None for _, _, head in rows if isinstance(head, Op)}:
        table[head] = tuple((law, v) for law, v, h in rows if h is head or not isinstance(h, Op))
    return table
