"""PyTorch's ``torch.autograd``: gradients of tensors, and a user's own differentiable functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgraph.eager.function import Context, Function
from symgraph.eager.modes import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from symgraph.eager.tape import run_backward
from symgraph.eager.tensor import Tensor, backward_roots
from symgraph.errors import EagerError


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradients of tensors with respect to every leaf to the leaves' ``.grad``.

    See :meth:`Tensor.backward`; with several tensors the gradients add up.

    Example:
        >>> import symgraph.eager as torch
        >>> x = torch.tensor(2.0, requires_grad=True)
        >>> torch.autograd.backward([x * 3, x * x])
        >>> x.grad
        tensor(7.)
    """
    outputs = _as_list(tensors)
    roots = backward_roots(outputs, _gradients(outputs, grad_tensors))
    edges = None if inputs is None else [edge for x in _as_list(inputs) if (edge := x._edge_of()) is not None]
    run_backward(roots, create_graph if retain_graph is None else retain_graph, create_graph, edges)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """Return the gradients of outputs with respect to inputs, leaves or not, without touching ``.grad``.

    Args:
        outputs: One tensor or several, whose gradients add up.
        inputs: One tensor or several.
        grad_outputs: The cotangent of each output; ones for a single element when None.
        retain_graph: Whether another pass shall be possible; as ``create_graph`` when None.
        create_graph: Whether the gradients are recorded, for higher derivatives.
        allow_unused: Whether an input that no output depends on has the gradient None.
        materialize_grads: Whether it has a gradient of zeros instead.

    Raises:
        EagerError: an input does not require grad, or no output depends on it.

    Example:
        >>> import symgraph.eager as torch
        >>> x = torch.tensor(2.0, requires_grad=True)
        >>> (first,) = torch.autograd.grad(x**3, x, create_graph=True)
        >>> torch.autograd.grad(first, x)
        (tensor(12.),)
    """
    sources, targets = _as_list(outputs), _as_list(inputs)
    edges = []
    for x in targets:
        edge = x._edge_of()
        if edge is None:
            raise EagerError("One of the differentiated Tensors does not require grad")
        edges.append(edge)
    roots = backward_roots(sources, _gradients(sources, grad_outputs))
    retained = create_graph if retain_graph is None else retain_graph
    captured = run_backward(roots, retained, create_graph, edges, accumulate=False)
    found = []
    for i, (x, edge) in enumerate(zip(targets, edges, strict=True)):
        gradient = captured.get(edge)
        if gradient is None and materialize_grads:
            gradient = x._zeros()
        elif gradient is None and not allow_unused:
            raise EagerError(
                f"The differentiated Tensor at index {i} appears to not have been used in the graph. Set "
                "allow_unused=True if this is the desired behavior."
            )
        found.append(gradient)
    return tuple(found)


def _as_list(tensors: Any) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _gradients(outputs: Sequence[Tensor], given: Any) -> list[Any]:
    if given is None:
        return [None] * len(outputs)
    gradients = [given] if isinstance(given, Tensor) else list(given)
    if len(gradients) != len(outputs):
        raise EagerError(f"got {len(outputs)} tensors and {len(gradients)} gradients")
    return gradients


__all__ = [
    "Context",
    "Function",
    "backward",
    "enable_grad",
    "grad",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
]
