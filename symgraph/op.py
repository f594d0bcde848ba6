"""What an operation is: one record of facts, from which every stage reads what it needs.

Stages dispatch on an operation's :class:`Kind`, never on its name. A record holds no behaviour of any
stage: the derivative rules are written with operations themselves, the NumPy function is named as text
and looked up when it is first needed, and the scalar code is a template.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import Any

from symgraph.arraytype import ArrayType, format_shape
from symgraph.dims import Shape, Size, is_never_negative


class Kind(Enum):
    """How a stage treats an operation."""

    LEAF = "leaf"
    ELEMENTWISE = "elementwise"
    REDUCE = "reduce"
    SCAN = "scan"
    CONTRACT = "contract"
    MOVEMENT = "movement"
    INDEX = "index"
    LINALG = "linalg"
    CONTROL = "control"
    CUSTOM = "custom"


Rule = Callable[..., Any]


@dataclass(frozen=True)
class Requirement:
    """A fact about sizes that only the call can decide: ``size >= 0``, or ``size == 0``."""

    size: Size
    relation: str
    message: str


def no_negative_sizes(name: str, shape: Shape) -> list[Requirement]:
    """Return what an operation requires that makes an array of a shape from nothing of that shape."""
    message = f"{name}: {format_shape(shape)} has a negative size"
    return [Requirement(size, ">= 0", message) for size in shape if not is_never_negative(size)]


@dataclass(frozen=True, eq=False)
class Op:
    """One operation and all that is known about it.

    Attributes:
        name: The name in the Python array API standard or NumPy 2.
        kind: Which kind of operation it is.
        arity: How many arguments it takes; None for any number.
        attributes: The names of its static attributes, in order.
        type_rule: ``(*argument types, *attributes) -> ArrayType``; checks that the arguments fit.
        numpy: The reference, ``(*arrays, *attributes) -> array``: a function, or ``"module:name"``.
        derivative: For an elementwise operation one rule per argument, ``(g, out, *args, *attributes)``,
            linear in ``g``: ``g`` times the partial derivative, which serves both modes. None is a zero.
        vjp: For other operations ``(g, out, *args, *attributes) -> one cotangent per argument``.
        scalar: The code of one element, with ``{0}``, ``{1}`` ... for the arguments' elements.
        text: How :func:`symgraph.to_text` prints it; ``sin({0})`` style when None.
        precedence: How strongly the printed form binds (Python's order; 100 is an atom).
        latex: How :func:`symgraph.to_latex` prints it; ``\\operatorname{name}`` style when None.
        sympy: The SymPy function of the same meaning, or None.
        facts: Algebraic facts: ``commutative``, ``associative``, ``linear``, ``smooth``, ``columnwise`` ...
        domain: For tests, one interval per argument from which smooth inputs are drawn.
        oracle: The mpmath function of the same meaning, for tests, or None.
        requires: ``(*argument types, *attributes) -> requirements`` that only a call can check.
        torch_name: What PyTorch calls the operation in ``grad_fn``, without ``Backward``.
    """

    name: str
    kind: Kind
    arity: int | None
    type_rule: Callable[..., ArrayType]
    numpy: str | Callable[..., Any]
    attributes: tuple[str, ...] = ()
    derivative: tuple[Rule | None, ...] | None = None
    vjp: Callable[..., Sequence[Any]] | None = None
    scalar: str | None = None
    text: str | None = None
    precedence: int = 100
    latex: str | None = None
    sympy: str | None = None
    facts: frozenset[str] = frozenset()
    domain: tuple[tuple[float, float], ...] = ()
    oracle: str | None = None
    requires: Callable[..., list[Requirement]] | None = None
    torch_name: str | None = None
    custom: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<operation {self.name}>"

    @property
    def differentiable(self) -> bool:
        """Whether a derivative rule is stated."""
        return self.derivative is not None or self.vjp is not None

    @cached_property
    def evaluate(self) -> Callable[..., Any]:
        """The reference as a callable; a named module is imported on first use."""
        return resolve(self.numpy) if isinstance(self.numpy, str) else self.numpy


def resolve(name: str) -> Callable[..., Any]:
    """Return the object that ``"module:name"`` names."""
    module, _, attribute = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return found


_registry: dict[str, Op] = {}
_functions: dict[str, Callable[..., Any]] = {}

REGISTRY: Mapping[str, Op] = MappingProxyType(_registry)
"""Every operation that symgraph declares, by name."""

FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(_functions)
"""Every public function over arrays, by name: operations and composites of them."""


def register(op: Op) -> Op:
    """Add an operation to the registry and return it."""
    if op.name in _registry:
        raise ValueError(f"operation {op.name} is declared twice")
    _registry[op.name] = op
    return op


def public(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add a public function over arrays to the table that methods and NumPy dispatch use."""
    _functions[function.__name__] = function
    return function
