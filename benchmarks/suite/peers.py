"""Builders of contestants: from a loss, written in a library's own language, to a call that can be timed.

Each ``NAME(loss)`` gives the value and its gradients; each ``NAME_function(function)`` gives whatever the function
returns. Libraries are imported when a builder runs, so one that is not installed is a contestant that is skipped.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import symgraph as sg
from benchmarks.suite.contest import Array, Builder, Model, Problem, Run, Skipped
from symgraph.compile.kernels.lowering import teach

Loss = Callable[..., Any]


def symgraph(model: Callable[..., Model]) -> Builder:
    """Return the builder of a static graph: compiled with its derivatives, called with NumPy arrays."""

    def build(problem: Problem) -> Run:
        declared = model(**problem.case.parameters)
        outputs = declared.outputs
        if outputs is None:
            outputs = [declared.value, sg.gradients(declared.value, list(declared.parameters))]
        return Run(sg.function(list(declared.inputs), outputs), problem.arrays)

    return build


def by_hand(limit: Builder) -> Builder:
    """Return the builder of a kernel written by hand: Numba is taught the functions of vectors that it may call."""

    def build(problem: Problem) -> Run:
        teach()
        return limit(problem)

    return build


def eager(loss: Loss) -> Builder:
    """Return the builder of symgraph's dynamic engine: ``loss(symgraph.eager, *tensors)``, then backwards."""
    return partial(_by_tape, "symgraph.eager", loss, lambda work: work)


def torch(loss: Loss) -> Builder:
    """Return the builder of eager PyTorch: ``loss(torch, *tensors)``, then ``torch.autograd.grad``."""
    return partial(_by_tape, "torch", loss, lambda work: work)


def torch_compile(loss: Loss) -> Builder:
    """Return the builder of PyTorch with its forward pass, and so its backward pass, compiled by Inductor."""
    return partial(_by_tape, "torch", loss, _compiled)


def eager_function(function: Loss) -> Builder:
    """Return the builder of ``function(symgraph.eager, *tensors)``, which returns all results."""
    return partial(_as_written, "symgraph.eager", function, lambda work: work)


def torch_function(function: Loss) -> Builder:
    """Return the builder of ``function(torch, *tensors)``, which returns all results."""
    return partial(_as_written, "torch", function, lambda work: work)


def torch_compile_function(function: Loss) -> Builder:
    """Return the builder of a compiled ``function(torch, *tensors)``, which returns all results."""
    return partial(_as_written, "torch", function, _compiled)


def jax(loss: Loss) -> Builder:
    """Return the builder of JAX: ``jit`` of ``value_and_grad`` of ``loss(jax, *arrays)``, on JAX's arrays."""

    def build(problem: Problem) -> Run:
        library = _jax()
        by = tuple(problem.positions)
        jitted = library.jit(library.value_and_grad(partial(loss, library), argnums=by))

        def call(*arrays: Any) -> Any:
            results = jitted(*arrays)
            results[0].block_until_ready()  # one event for all results of a program
            return results

        return Run(call, [library.device_put(array) for array in problem.arrays])

    return build


def jax_function(function: Loss) -> Builder:
    """Return the builder of ``jit`` of ``function(jax, *arrays)``, which returns all results."""

    def build(problem: Problem) -> Run:
        library = _jax()
        jitted = library.jit(partial(function, library))
        return Run(
            lambda *arrays: library.block_until_ready(jitted(*arrays)),
            [library.device_put(array) for array in problem.arrays],
        )

    return build


def pytensor(loss: Loss) -> Builder:
    """Return the builder of PyTensor: ``loss(pytensor.tensor, *variables)``, by Numba, inputs and outputs unchecked."""

    def results(tensor: Any, problem: Problem, variables: Sequence[Any]) -> list[Any]:
        value = loss(tensor, *variables)
        return [value, *tensor.grad(value, [variables[i] for i in problem.positions])]

    return partial(_by_pytensor, results)


def pytensor_function(function: Loss) -> Builder:
    """Return the builder of ``function(pytensor.tensor, *variables)``, which returns all results."""
    return partial(_by_pytensor, lambda tensor, problem, variables: list(function(tensor, *variables)))


def casadi(loss: Loss, *, scalar: bool = False, prepare: Callable[[Problem], Sequence[Array]] | None = None) -> Builder:
    """Return the builder of CasADi: ``loss(casadi, *symbols)``, called through its buffers.

    ``scalar`` takes SX, graphs of scalars, which are compiled by a C compiler where there is one; else MX, graphs of
    matrices. ``prepare(problem)`` gives other arrays than the problem's (one-hot labels, for instance), in the same
    order; gradients have the shapes of those.
    """

    def results(library: Any, problem: Problem, symbols: Sequence[Any]) -> list[Any]:
        value = loss(library, *symbols)
        return [value, *(library.gradient(value, symbols[i]) for i in problem.positions)]

    def build(problem: Problem) -> Run:
        arrays = problem.arrays if prepare is None else list(prepare(problem))
        return _by_casadi(results, [(), *(arrays[i].shape for i in problem.positions)], scalar, arrays, problem)

    return build


def casadi_function(
    function: Loss,
    shapes: Callable[[Problem], Sequence[tuple[int, ...]]],
    *,
    scalar: bool = False,
    prepare: Callable[[Problem], Sequence[Array]] | None = None,
) -> Builder:
    """Return the builder of ``function(casadi, *symbols)``, which returns all results, of these shapes (dense)."""

    def build(problem: Problem) -> Run:
        arrays = problem.arrays if prepare is None else list(prepare(problem))
        return _by_casadi(
            lambda library, _, symbols: list(function(library, *symbols)), shapes(problem), scalar, arrays, problem
        )

    return build


def autograd(loss: Loss) -> Builder:
    """Return the builder of HIPS autograd: ``value_and_grad`` of ``loss(autograd, *arrays)``."""

    def build(problem: Problem) -> Run:
        library = _autograd()
        return Run(library.value_and_grad(partial(loss, library), tuple(problem.positions)), problem.arrays)

    return build


def autograd_function(function: Loss) -> Builder:
    """Return the builder of ``function(autograd, *arrays)``, which returns all results."""

    def build(problem: Problem) -> Run:
        return Run(partial(function, _autograd()), problem.arrays)

    return build


def _compiled(work: Loss) -> Loss:
    import torch

    compiled: Loss = torch.compile(work, dynamic=False)
    return compiled


def _tensors(name: str, problem: Problem) -> tuple[Any, list[Any]]:
    """Return the library, and tensors that share the data's memory."""
    if name == "torch":
        import torch as library

        library.set_num_threads(problem.threads)
    else:
        import symgraph.eager as library
    return library, [library.from_numpy(np.array(array)) for array in problem.arrays]


def _by_tape(name: str, loss: Loss, wrap: Callable[[Loss], Loss], problem: Problem) -> Run:
    library, tensors = _tensors(name, problem)
    for i in problem.positions:
        tensors[i].requires_grad_()
    forward, positions = wrap(partial(loss, library)), problem.positions

    def call(*tensors: Any) -> Any:
        value = forward(*tensors)
        return value, library.autograd.grad(value, [tensors[i] for i in positions])

    return Run(call, tensors)


def _as_written(name: str, function: Loss, wrap: Callable[[Loss], Loss], problem: Problem) -> Run:
    library, tensors = _tensors(name, problem)
    return Run(wrap(partial(function, library)), tensors)


def _jax() -> Any:
    import jax
    import jax.scipy

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    return jax


def _autograd() -> Any:
    import autograd
    import autograd.numpy
    import autograd.scipy.special

    return autograd


def _by_pytensor(results: Callable[[Any, Problem, Sequence[Any]], list[Any]], problem: Problem) -> Run:
    import pytensor as library

    pt = library.tensor
    variables = [
        pt.tensor(name, dtype=str(array.dtype), shape=(None,) * array.ndim) for name, array in problem.data.items()
    ]
    outputs = [library.Out(output, borrow=True) for output in results(pt, problem, variables)]
    inputs = [library.In(variable, borrow=True) for variable in variables]
    compiled = library.function(inputs, outputs, mode="NUMBA", trust_input=True, on_unused_input="ignore")
    return Run(compiled, [np.asarray(array) for array in problem.arrays])


def _by_casadi(
    results: Callable[[Any, Problem, Sequence[Any]], list[Any]],
    shapes: Sequence[tuple[int, ...]],
    scalar: bool,
    arrays: Sequence[Array],
    problem: Problem,
) -> Run:
    import casadi as library

    if problem.dtype != np.float64:
        raise Skipped("CasADi computes in float64 only")
    symbol = library.SX.sym if scalar else library.MX.sym
    symbols = [
        symbol(name, *([*array.shape, 1, 1][:2] if array.ndim else [1, 1]))
        for name, array in zip(problem.data, arrays, strict=True)
    ]
    outputs = [library.densify(output) for output in results(library, problem, symbols)]
    options = {"jit": True, "compiler": "shell", "jit_options": {"flags": ["-O3", "-march=native"]}}
    jit = scalar and shutil.which("gcc") is not None
    compiled = library.Function("work", symbols, outputs, options if jit else {})
    # CasADi reads and writes doubles, column by column, wherever its buffers point to.
    own = [np.array(array, np.float64, order="F").reshape(-1, order="F") for array in arrays]
    buffer, trigger = compiled.buffer()
    for i, array in enumerate(own):
        buffer.set_arg(i, memoryview(array))
    sizes, positions = [int(np.prod(shape)) for shape in shapes], problem.positions

    def call(*given: Array) -> list[Array]:
        for i in positions:
            buffer.set_arg(i, memoryview(given[i]))
        results = [np.empty(size) for size in sizes]
        for i, result in enumerate(results):
            buffer.set_res(i, memoryview(result))
        trigger()
        return results

    def read(results: list[Array]) -> list[Array]:
        return [result.reshape(shape, order="F") for result, shape in zip(results, shapes, strict=True)]

    call.compiled = compiled  # type: ignore[attr-defined]  (buffers do not keep their function alive)
    return Run(call, own, read)
