"""From the tape of the dynamic engine to a static graph: what was executed, as an expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symgraph.eager import Tensor
from symgraph.eager.tape import AccumulateGrad, BackwardNode, Node
from symgraph.errors import DeclarationError
from symgraph.expr import Expr, constant
from symgraph.ops.construct import apply


def transcribe(fn: Callable[..., Tensor], tensors: Sequence[Tensor], nodes: Sequence[Expr]) -> Expr:
    """Run a function of tensors once, and return the same operations on nodes.

    What did not depend on a tensor that requires grad was not recorded, and becomes a constant: integers,
    comparisons, and the branches that Python took.

    Args:
        fn: A function that only the dynamic engine can run.
        tensors: Its arguments; those of floating-point dtype require grad.
        nodes: What stands for each of them.

    Raises:
        DeclarationError: the function returns no recorded tensor, uses an ``autograd.Function``, or changes a tensor
            in place that was used before.

    Example:
        >>> import symgraph as sg, symgraph.eager as torch
        >>> with sg.Graph():
        ...     x = sg.placeholder("x", (2,))
        >>> print(sg.to_text(transcribe(lambda t: torch.sin(t).sum(), [torch.ones(2, requires_grad=True)], [x])))
        sum(sin(x))
    """
    result = fn(*tensors)
    if not isinstance(result, Tensor) or result.grad_fn is None:
        raise DeclarationError("transcribe: the function returns no tensor that depends on its arguments")
    known: dict[BackwardNode, Expr] = {}
    standing = {id(tensor): node for tensor, node in zip(tensors, nodes, strict=True)}
    for step in _in_order(result.grad_fn):
        if isinstance(step, AccumulateGrad):
            tensor = step.variable
            known[step] = standing.get(id(tensor), constant(tensor.numpy(force=True)))
        elif isinstance(step, Node) and step.args is not None:
            arguments = zip(step.args, step.parents, step.versions, strict=True)
            known[step] = apply(step.op, *[_argument(step, *given, known) for given in arguments], attrs=step.attrs)
        else:
            raise DeclarationError(f"transcribe: {step.name()} has no static form")
    return known[result.grad_fn]


def _argument(step: Node, tensor: Any, parent: Any, version: int, known: dict[BackwardNode, Expr]) -> Expr:
    if parent is not None:
        return known[parent[0]]
    if tensor._version[0] != version:
        raise DeclarationError(f"transcribe: an argument of {step.name()} was changed in place afterwards")
    return constant(tensor.numpy(force=True))


def _in_order(last: BackwardNode) -> list[BackwardNode]:
    """Return the steps that lead to the last one, each after those it needs."""
    found, stack = {last}, [last]
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent[0] not in found:
                found.add(parent[0])
                stack.append(parent[0])
    return sorted(found, key=lambda step: step.number)
