"""The tape: what was executed, and reverse mode over it.

Executing an operation on a tensor that requires grad leaves a :class:`Node` behind, which names the
operation, its arguments and where their cotangents go. The order of numbers is an order of time, so going
through nodes by falling numbers visits every user of a value before the value, without recursion.

A node keeps the arrays that a derivative rule may read. When one was changed in place since, or was given
back after a backward pass, the rule receives a tensor that knows its type but raises when it is read: what
a rule does not read may change, what it reads must not, and no list says which is which.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from symgraph.derive.pullback import Cotangent, add_cotangents, pull_back
from symgraph.op import Op

Edge: TypeAlias = "tuple[BackwardNode, int]"
Hook: TypeAlias = Callable[[Any], Any]

FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
    "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
    "retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors "
    "after calling backward."
)


class Mode(threading.local):
    """Whether this thread records what it executes, and whether NumPy's warnings are off already."""

    enabled: bool = True
    quiet: bool = False


MODE = Mode()
_numbers = itertools.count(1)


class BackwardNode:
    """One step of the tape. Iterating over ``next_functions`` walks the graph, as in PyTorch."""

    __slots__ = ("__weakref__", "hooks", "number", "parents", "retained")
    number: int
    parents: tuple[Edge | None, ...]
    hooks: dict[int, dict[object, Hook]] | None
    retained: dict[int, Any] | None

    @property
    def outputs(self) -> int:
        """How many tensors the step returned."""
        return 1

    @abstractmethod
    def name(self) -> str:
        """Return PyTorch's name of the step."""

    @property
    def next_functions(self) -> tuple[tuple[BackwardNode | None, int], ...]:
        """Where the cotangents of the arguments go: each argument's step, and which of its results it was."""
        return tuple((None, 0) if edge is None else edge for edge in self.parents)

    def pull(self, cotangents: Sequence[Cotangent | None], wanted: Sequence[bool], create: bool) -> Sequence[Any]:
        """Return the cotangents of the arguments, from those of the results."""
        return ()

    def free(self) -> None:
        """Give back what was kept for the derivative rules."""

    def __repr__(self) -> str:
        return f"<{self.name()} object at {hex(id(self))}>"


class Node(BackwardNode):
    """One executed operation."""

    __slots__ = ("args", "attrs", "kinds", "label", "op", "out", "out_version", "stamp", "versions")
    args: tuple[Any, ...] | None
    kinds: tuple[tuple[Any, ...], ...]
    label: str | None
    out: Any

    def __init__(
        self, op: Op, args: tuple[Any, ...], attrs: tuple[Any, ...], parents: tuple[Edge | None, ...], out: Any
    ) -> None:
        self.op = op
        self.args = args
        self.attrs = attrs
        self.parents = parents
        self.versions = [arg._version[0] for arg in args]
        self.out = out._array
        self.out_version = out._version
        self.stamp = out._version[0]
        self.number = next(_numbers)
        self.hooks = self.retained = self.label = None

    def name(self) -> str:
        """Return PyTorch's name of the operation, such as ``AddBackward0``."""
        return self.label or backward_name(self.op, self.args, self.attrs)

    def pull(self, cotangents: Sequence[Cotangent | None], wanted: Sequence[bool], create: bool) -> Sequence[Any]:
        """Apply the operation's derivative rule; a rule that is None gives zeros."""
        (cotangent,) = cotangents
        assert cotangent is not None
        kind = type(cotangent.value)
        if self.args is None:
            args = [kind._unavailable(dtype, shape, FREED) for dtype, shape in self.kinds[:-1]]
            out = kind._unavailable(*self.kinds[-1], FREED)
        else:
            args = [
                arg if arg._version[0] == version else arg._modified(version)
                for arg, version in zip(self.args, self.versions, strict=True)
            ]
            out = kind._saved(self.out, self.out_version, (self, 0) if create else None)
            if self.out_version[0] != self.stamp:
                out = out._modified(self.stamp, self.name())
        found = pull_back(self.op, cotangent, out, args, self.attrs, wanted)
        return [
            Cotangent(arg._zeros()) if w and c is None else c for arg, c, w in zip(args, found, wanted, strict=True)
        ]

    def free(self) -> None:
        """Give back the arrays, keeping their types: rules that read no array still work."""
        if self.args is not None:
            if self.op.name in _VARIANTS:
                self.label = self.name()
            self.kinds = (*[(a._array.dtype, a._array.shape) for a in self.args], (self.out.dtype, self.out.shape))
            self.args = self.out = None


class AccumulateGrad(BackwardNode):
    """The end of the tape: adds what arrives to the ``.grad`` of a leaf."""

    __slots__ = ("variable",)

    def __init__(self, variable: Any) -> None:
        self.variable = variable
        self.number = -next(_numbers)
        self.parents = ()
        self.hooks = self.retained = None

    def name(self) -> str:
        """Return PyTorch's name."""
        return "AccumulateGrad"


_VARIANTS: Mapping[str, Callable[[Any, Any], str]] = {
    "mean": lambda args, attrs: _reduction_variant("Mean", args, attrs),
    "sum": lambda args, attrs: _reduction_variant("Sum", args, attrs),
    "prod": lambda args, attrs: _reduction_variant("Prod", args, attrs),
    "power": lambda args, attrs: (
        "PowBackward2" if _is_number(args[0]) else f"PowBackward{int(not _is_number(args[1]))}"
    ),
    "remainder": lambda args, attrs: f"RemainderBackward{int(not _is_number(args[1]))}",
    "matmul": lambda args, attrs: _product_name(args),
    "clip": lambda args, attrs: f"ClampBackward{int(_is_number(args[1]) and _is_number(args[2]))}",
}


def backward_name(op: Op, args: Any, attrs: Any) -> str:
    """Return what PyTorch calls the backward step of an operation on these arguments."""
    variant = _VARIANTS.get(op.name)
    if variant is not None and args is not None:
        return variant(args, attrs)
    return f"{op.torch_name or op.name.title().replace('_', '')}Backward0"


def _is_number(x: Any) -> bool:
    return x._known_number() is not None


def _reduction_variant(name: str, args: Any, attrs: Any) -> str:
    whole = len(attrs[0]) == args[0].ndim and not attrs[1]
    return f"{name}Backward{int(not whole)}"


def _product_name(args: Any) -> str:
    ranks = (args[0].ndim, args[1].ndim)
    return {(1, 1): "Dot", (2, 2): "Mm", (2, 1): "Mv", (1, 2): "Squeeze", (3, 3): "Bmm"}.get(
        ranks, "UnsafeView"
    ) + "Backward0"


def run_backward(
    roots: Iterable[tuple[Edge, Any]],
    retain_graph: bool,
    create_graph: bool,
    inputs: Sequence[Edge] | None = None,
    accumulate: bool = True,
) -> dict[Edge, Any]:
    """Send cotangents from the roots through the tape.

    Args:
        roots: Where to start, each with its cotangent.
        retain_graph: Whether nodes keep their arrays for another pass.
        create_graph: Whether the rules are recorded too, for higher derivatives.
        inputs: Where cotangents are wanted; every leaf when None. Nothing else is computed.
        accumulate: Whether leaves that are reached add to their ``.grad``.

    Returns:
        The cotangents that arrived at ``inputs``.
    """
    pending: dict[BackwardNode, list[Cotangent | None]] = {}
    heap: list[tuple[int, BackwardNode]] = []

    def arrive(edge: Edge, cotangent: Cotangent) -> None:
        node, position = edge
        waiting = pending.get(node)
        if waiting is None:
            waiting = pending[node] = [None] * node.outputs
            heapq.heappush(heap, (-node.number, node))
        waiting[position] = add_cotangents(waiting[position], cotangent)

    roots = list(roots)
    captured: dict[Edge, Any] = {}
    targets = frozenset(inputs or ())
    needed = None if inputs is None else _leading_to({node for node, _ in targets}, [edge[0] for edge, _ in roots])
    before = MODE.enabled, MODE.quiet
    MODE.enabled, MODE.quiet = create_graph, True
    try:
        with np.errstate(all="ignore"):
            for edge, gradient in roots:
                if needed is None or edge[0] in needed:
                    arrive(edge, Cotangent(gradient))
            while heap:
                _, node = heapq.heappop(heap)
                cotangents = pending.pop(node)
                if node.hooks is not None or node.retained is not None:
                    cotangents = _observed(node, cotangents)
                for position, cotangent in enumerate(cotangents if targets else ()):
                    if cotangent is not None and (node, position) in targets:
                        captured[node, position] = cotangent.value
                if type(node) is AccumulateGrad:
                    if accumulate and cotangents[0] is not None:
                        node.variable._accumulate(cotangents[0].value, create_graph)
                    continue
                wanted = [e is not None and (needed is None or e[0] in needed) for e in node.parents]
                if True in wanted:
                    found = node.pull(cotangents, wanted, create_graph)
                    for parent, cotangent in zip(node.parents, found, strict=True):
                        if parent is not None and cotangent is not None:
                            arrive(parent, cotangent)
                    if not retain_graph:
                        node.free()
    finally:
        MODE.enabled, MODE.quiet = before
    return captured


def _leading_to(targets: set[BackwardNode], roots: Sequence[BackwardNode]) -> set[BackwardNode]:
    """Return the nodes from which a target can be reached."""
    seen: set[BackwardNode] = set(roots)
    stack = list(roots)
    while stack:
        for edge in stack.pop().parents:
            if edge is not None and edge[0] not in seen:
                seen.add(edge[0])
                stack.append(edge[0])
    needed: set[BackwardNode] = set()
    for node in sorted(seen, key=lambda node: node.number):
        if node in targets or any(edge is not None and edge[0] in needed for edge in node.parents):
            needed.add(node)
    return needed


def _observed(node: BackwardNode, cotangents: list[Cotangent | None]) -> list[Cotangent | None]:
    """Call the hooks of a node's results, and leave the gradients that were asked for on tensors."""
    for position, arrived in enumerate(cotangents):
        if arrived is None:
            continue
        cotangent = arrived
        for hook in list((node.hooks or {}).get(position, {}).values()):
            replaced = hook(cotangent.value)
            cotangent = cotangent if replaced is None else Cotangent(replaced)
        cotangents[position] = cotangent
        tensor = (node.retained or {}).get(position, lambda: None)()
        if tensor is not None:
            tensor._accumulate(cotangent.value, MODE.enabled)
    return cotangents


def shares_memory(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> bool:
    """Tell whether two arrays may lie in the same memory."""
    return x.base is not None and np.may_share_memory(x, y)
