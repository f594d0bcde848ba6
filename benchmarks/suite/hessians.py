"""Builders of contestants for dense Hessians: from a loss to the matrix of its second derivatives.

A loss is written as for ``peers``; the workload differentiates by one vector, and the Hessian by it is the only result.
Each library is given its own fastest way: all directions at once where it has one (JAX, PyTorch, CasADi), else row by
row of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import symgraph as sg
from benchmarks.suite import peers
from benchmarks.suite.contest import Builder, Model, Problem, Run

Loss = Callable[..., Any]


def symgraph(model: Callable[..., Model]) -> Builder:
    """Return the builder of symgraph's Hessian of the model's value by its only parameter."""

    def build(problem: Problem) -> Run:
        declared = model(**problem.case.parameters)
        (parameter,) = declared.parameters
        return Run(sg.function(list(declared.inputs), [sg.hessian(declared.value, parameter)]), problem.arrays)

    return build


def eager(loss: Loss) -> Builder:
    """Return the builder of symgraph's dynamic engine."""
    return _by_position(peers.eager_function, loss, _rows_by_tape)


def torch(loss: Loss) -> Builder:
    """Return the builder of PyTorch: forward over reverse, `vmap` over the directions."""
    return _by_position(peers.torch_function, loss, _by_transformation)


def jax(loss: Loss) -> Builder:
    """Return the builder of JAX: forward over reverse, `vmap` over the directions."""
    return _by_position(
        peers.jax_function, loss, lambda library, call, arrays, i: library.hessian(call, argnums=i)(*arrays)
    )


def pytensor(loss: Loss) -> Builder:
    """Return the builder of PyTensor: a loop over the gradient's elements."""
    return _by_position(
        peers.pytensor_function, loss, lambda tensor, call, arrays, i: [tensor.hessian(call(*arrays), arrays[i])]
    )


def autograd(loss: Loss) -> Builder:
    """Return the builder of HIPS autograd."""
    return _by_position(
        peers.autograd_function, loss, lambda library, call, arrays, i: library.hessian(call, i)(*arrays)
    )


def casadi(loss: Loss, **options: Any) -> Builder:
    """Return the builder of CasADi; the options are those of ``peers.casadi_function``."""

    def build(problem: Problem) -> Run:
        (i,) = problem.positions
        size = problem.arrays[i].size

        def hessian(library: Any, *symbols: Any) -> list[Any]:
            return [library.hessian(loss(library, *symbols), symbols[i])[0]]

        return peers.casadi_function(hessian, lambda _: [(size, size)], **options)(problem)

    return build


def _by_position(form: Callable[[Loss], Builder], loss: Loss, differentiate: Callable[..., Any]) -> Builder:
    """Return the builder of `differentiate(library, loss of the arrays, arrays, position of the parameter)`."""

    def build(problem: Problem) -> Run:
        (i,) = problem.positions

        def results(library: Any, *arrays: Any) -> Any:
            return differentiate(library, lambda *given: loss(library, *given), arrays, i)

        return form(results)(problem)

    return build


def _rows_by_tape(library: Any, call: Loss, tensors: tuple[Any, ...], i: int) -> Any:
    parameter = tensors[i].requires_grad_()
    (slope,) = library.autograd.grad(call(*tensors), [parameter], create_graph=True)
    rows = [library.autograd.grad(slope[j], [parameter], retain_graph=True)[0] for j in range(len(parameter))]
    return library.stack(rows)


def _by_transformation(library: Any, call: Loss, tensors: tuple[Any, ...], i: int) -> Any:
    return library.func.hessian(call, argnums=i)(*tensors)
