"""What a law is: a pattern, what replaces it, when, and how exact that is.

A pattern is written with the same operators and functions as any expression: ``lambda x: log(1 + exp(x))``.
It is called with :class:`Term` values, a third interpreter of the vocabulary beside nodes and eager tensors,
so that the parameters of the function are the variables of the pattern. What replaces it is a function of
the same parameters, called with the nodes that matched: its result is the new node.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self, TypeAlias

import numpy as np

from symgraph.arraytype import FLOAT64, ArrayType
from symgraph.expr import CONSTANT, Expr, constant_value, scalar_value
from symgraph.graph import Graph, placeholder
from symgraph.op import REGISTRY, Kind, Op
from symgraph.ops import construct
from symgraph.value import Value

Exactness: TypeAlias = Literal["exact", "rounding", "domain"]
Bindings: TypeAlias = "dict[str, Any]"
Kept: TypeAlias = "AbstractSet[int]"
"""The identities of nodes that must stay: no pattern looks into one."""


class Variable(NamedTuple):
    """Matches anything, the same everywhere; a ``known`` one matches a constant number."""

    name: str
    known: bool = False


class Family(NamedTuple):
    """Matches a node of a kind with arguments made by one operation; binds its arguments, those opened.

    ``opened`` is bound to the tuple of arguments, each one that ``made_by`` made replaced by its own
    argument (constants, which have none, stay as they are).
    """

    kind: Kind
    made_by: str
    every: bool
    opened: str


class Term(Value):
    """A pattern: a variable, a number, an operation applied to terms, or a family of operations."""

    __slots__ = ("args", "attrs", "head")
    head: Any  # Variable | Family | Op | a number
    args: tuple[Term, ...]
    attrs: tuple[Any, ...]

    def __init__(self, head: Any, args: tuple[Term, ...] = (), attrs: tuple[Any, ...] = ()) -> None:
        self.head = head
        self.args = args
        self.attrs = attrs

    @property
    def type(self) -> ArrayType:
        """The same for every term, so that no conversion gets into a pattern."""
        return ArrayType(FLOAT64, ())

    @classmethod
    def _apply(cls, op: Op, args: tuple[Any, ...], attrs: tuple[Any, ...]) -> Self:
        return cls(op, args, attrs)

    @classmethod
    def _constant(cls, value: Any, dtype: np.dtype[np.generic] | None) -> Self:
        return cls(value)

    def _known_number(self) -> float | int | bool | None:
        return self.head if isinstance(self.head, int | float) else None

    def __str__(self) -> str:
        return _text(self)[0]


def primitive(name: str) -> Callable[..., Any]:
    """Return an operation as a function of its arguments and then its attributes, without conversions.

    It builds a term from terms and a node from nodes. Attributes of a term may be variables too.
    """

    def call(*operands: Any) -> Any:
        op = REGISTRY[name]
        count = len(operands) - len(op.attributes)
        engine = construct.engine_of(name, operands[:count])
        args = [construct.as_value(name, operand, engine) for operand in operands[:count]]
        return construct.apply(op, *args, attrs=operands[count:])

    return call


def known(variable: Any) -> Any:
    """Restrict a variable of a pattern to constants that are one number everywhere."""
    return Term(Variable(variable.head.name, known=True)) if isinstance(variable, Term) else variable


def family(kind: Kind, made_by: str, opened: Any, every: bool = False) -> Term:
    """Return the pattern of any operation of a kind with an argument (or only arguments) that one operation made."""
    return Term(Family(kind, made_by, every, opened.head.name))


@dataclass(frozen=True, eq=False)
class Law:
    """One law of rewriting.

    The parameters of the pattern are its variables; guard and replacement name those that they need, and
    may name ``node``, the node that matched. A replacement of another dtype does not apply, and one of a
    smaller shape is broadcast to the shape of the node. A replacement may return None: it does not apply.

    Attributes:
        name: A unique name, in lists of what was applied.
        pattern: What is replaced.
        replacement: What replaces it.
        guard: A condition on the variables.
        kind: ``exact``: the same bits for all inputs, NaN payloads aside. ``rounding``: the same in real
            arithmetic on the whole domain; differs by rounding, by overflow on the way, or in the sign of
            a zero. ``domain``: differs outside a domain.
        group: What the law is for: ``algebra``, ``structure``, ``stability`` ...
        statement: The law in words, where it is more than ``pattern -> replacement`` can say.
        sample: For tests, by variable: the shape or dtype of an argument, the value of an attribute, the
            number of a known constant; or for ``node`` a function of two arrays that builds an example.
        domain: For tests, the interval from which arguments are drawn.

    Example:
        >>> from symgraph.ops.elementwise import cosh
        >>> from symgraph.rewrite.laws import Law
        >>> print(Law("even", lambda x: cosh(-x), lambda x: cosh(x)))
        even: cosh(-x) -> cosh(x)
    """

    name: str
    pattern: Callable[..., Any]
    replacement: Callable[..., Any]
    guard: Callable[..., bool] | None = None
    kind: Exactness = "exact"
    group: str = "algebra"
    statement: str = ""
    sample: Mapping[str, Any] = field(default_factory=dict)
    domain: tuple[float, float] = (-2.0, 2.0)

    def __repr__(self) -> str:
        return f"<law {self.name}>"

    def __str__(self) -> str:
        if self.statement:
            return f"{self.name}: {self.statement}"
        replaced = self.replacement(*[Term(Variable(name)) for name in _parameters(self.replacement)])
        return f"{self.name}: {self.term} -> {replaced}"

    @cached_property
    def term(self) -> Term:
        """The pattern as a term."""
        term: Term = self.pattern(*[Term(Variable(name)) for name in _parameters(self.pattern)])
        return term

    @cached_property
    def variants(self) -> tuple[Term, ...]:
        """The pattern with the arguments of commutative operations in each order."""
        return tuple({str(term): term for term in _orders(self.term)}.values())

    @cached_property
    def _guard_names(self) -> tuple[str, ...]:
        return _parameters(self.guard) if self.guard else ()

    @cached_property
    def _replacement_names(self) -> tuple[str, ...]:
        return _parameters(self.replacement)

    def applied(self, variant: Term, node: Expr, kept: Kept) -> tuple[Expr, Bindings] | None:
        """Return what replaces a node, and what the variables stand for; None where the law does not apply."""
        found: Bindings = {"node": node}
        if not _match(variant, node, found, kept, root=True):
            return None
        if self.guard is not None and not self.guard(*[found[name] for name in self._guard_names]):
            return None
        new = self.replacement(*[found[name] for name in self._replacement_names])
        fitted = None if new is None or new is node else _fit(new, node)
        return None if fitted is None else (fitted, found)

    def example(self, dtype: str = "float64") -> Expr:
        """Return an expression that the law rewrites, of new placeholders."""
        with Graph():
            if "node" in self.sample:
                built: Expr = self.sample["node"](placeholder("x", (3, 4), dtype), placeholder("y", (4,), dtype))
                return built
            attributes = {a.head.name for a in _attribute_variables(self.term)}
            arguments = {}
            for name in _parameters(self.pattern):
                given = self.sample.get(name, ())
                if name in attributes:
                    arguments[name] = given
                elif isinstance(given, str):
                    arguments[name] = placeholder(name, (3, 4), given)
                elif isinstance(given, tuple):
                    arguments[name] = placeholder(name, given or (3, 4), dtype)
                else:
                    arguments[name] = given
            example: Expr = self.pattern(**arguments)
            return example


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def _attribute_variables(term: Term) -> Iterator[Any]:
    for arg in term.args:
        yield from _attribute_variables(arg)
    for attr in term.attrs:
        if isinstance(attr, Term):
            yield attr


def _orders(term: Term) -> Iterator[Term]:
    for args in itertools.product(*[list(_orders(arg)) for arg in term.args]):
        yield Term(term.head, args, term.attrs)
        if isinstance(term.head, Op) and len(args) == 2 and "commutative" in term.head.facts:
            yield Term(term.head, args[::-1], term.attrs)


def is_plausible(term: Term, op: Op, made_by: Sequence[Op | Expr]) -> bool:
    """Tell whether a term may match some node of an operation.

    Args:
        term: The pattern.
        op: The operation.
        made_by: What made its first arguments: operations, or constants themselves.
    """
    head = term.head
    if isinstance(head, Family):
        made = [m.op.name == head.made_by if isinstance(m, Expr) else m.name == head.made_by for m in made_by]
        return op.kind is head.kind and (all(made) if head.every else any(made))
    if head is not op or not all(_may_be(arg, made) for arg, made in zip(term.args, made_by, strict=False)):
        return False
    twice = len(term.args) == 2 and isinstance(term.args[0].head, Variable) and term.args[0].head == term.args[1].head
    return not twice or made_by[0] is made_by[1]


def _may_be(term: Term, made: Op | Expr) -> bool:
    head = term.head
    if isinstance(made, Expr):
        if isinstance(head, Variable | Op):
            return isinstance(head, Variable)
        number = scalar_value(made)
        return number is not None and _is_number(number, head)
    if isinstance(head, Variable):
        return not head.known or made is CONSTANT or made.name == "broadcast_to"
    return head is made if isinstance(head, Op) else made is CONSTANT or made.name == "broadcast_to"


def _is_number(number: Any, wanted: Any) -> bool:
    """Tell whether a number is the wanted one, its sign at zero included."""
    return number == wanted and (wanted != 0 or math.copysign(1, wanted) == math.copysign(1, number))


def _match(term: Term, node: Expr, found: Bindings, kept: Kept, root: bool = False) -> bool:
    head = term.head
    if isinstance(head, Variable):
        if head.known and _number(node, kept) is None:
            return False
        return found.setdefault(head.name, node) is node
    if not root and id(node) in kept:
        return False
    if isinstance(head, Op):
        if node.op is not head or len(node.args) != len(term.args):
            return False
        for wanted, attr in zip(term.attrs, node.attrs, strict=True):
            if (found.setdefault(wanted.head.name, attr) if isinstance(wanted, Term) else wanted) != attr:
                return False
        return all(map(_match, term.args, node.args, itertools.repeat(found), itertools.repeat(kept)))
    if isinstance(head, Family):
        return _match_family(head, node, found, kept)
    number = _number(node, kept)
    return number is not None and _is_number(number, head)


def _match_family(head: Family, node: Expr, found: Bindings, kept: Kept) -> bool:
    made = [arg.op.name == head.made_by and id(arg) not in kept for arg in node.args]
    if node.op.kind is not head.kind or not (all(made) if head.every else any(made)):
        return False
    found[head.opened] = tuple(
        arg.args[0] if opens and arg.args else arg for arg, opens in zip(node.args, made, strict=True)
    )
    return True


def _number(node: Expr, kept: Kept) -> Any:
    """Return the number that a node is everywhere, None where it is not known or a kept node tells it."""
    while id(node) not in kept:
        array = constant_value(node)
        if array is not None:
            return array.item() if array.size == 1 else None
        if node.op.name != "broadcast_to":
            return None
        node = node.args[0]
    return None


def _fit(new: Expr, node: Expr) -> Expr | None:
    if new.type is node.type:
        return new
    if new.type.dtype != node.type.dtype or construct.broadcast_shapes("law", new.shape, node.shape) != node.shape:
        return None
    return construct.apply(REGISTRY["broadcast_to"], new, attrs=(node.shape,))  # type: ignore[no-any-return]


def _text(term: Term) -> tuple[str, int]:
    head = term.head
    if isinstance(head, Variable):
        return head.name, 100
    if isinstance(head, Family):
        return f"{head.kind.value}({head.made_by}(...))", 100
    if not isinstance(head, Op):
        return repr(head), 100 if head == abs(head) else 14
    if head.text is None:
        parts = [_text(arg)[0] for arg in term.args]
        named = [f"{n}={_attribute_text(a)}" for n, a in zip(head.attributes, term.attrs, strict=True)]
        return f"{head.name}({', '.join(parts + named)})", 100
    shown = []
    for i, arg in enumerate(term.args):
        text, precedence = _text(arg)
        binds = precedence > head.precedence or (precedence == head.precedence and i == 0)
        shown.append(text if binds else f"({text})")
    return head.text.format(*shown), head.precedence


def _attribute_text(attr: Any) -> str:
    return str(attr) if isinstance(attr, Term) else repr(attr)
