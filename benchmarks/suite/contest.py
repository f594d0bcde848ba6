"""What a workload is, and what a contestant has to offer: the protocol of every file in ``benchmarks/workloads``.

**A workload is one file.** ``benchmarks/workloads/NAME.py`` holds one :class:`Workload` named ``WORKLOAD``, and in it

* ``cases``: the sizes that are measured. Each :class:`Case` is a row of the table. Its keyword arguments are the
  parameters of ``data`` and of the model: ``Case("n = 10", n=10)``. ``tiny`` is a case that the tests run in a moment.
* ``data(**parameters)``: the input arrays by name, made from a fixed seed. Their order is the order in which every
  contestant gets them.
* ``wrt``: the names of the inputs to differentiate by, in the order of the gradients;
  or a function of the data that returns them.
* ``model(**parameters)``: a function of the module, symgraph's graph without data (``gradient_cost.py`` uses it too).
* ``contestants``: for each name of :data:`NAMES` a builder. A builder takes the :class:`Problem` (a case with its data)
  and returns a :class:`Run`: a function with its arguments, already in the arrays that the contestant likes best. The
  timer calls ``function(*arguments)`` and nothing else; what is compiled is compiled in the first call. Results, read
  as NumPy arrays by ``Run.read``, are the same list for every contestant: ``[value, gradient, gradient, ...]``, or what
  the workload's docstring says.

**A contestant is mostly its loss.** ``benchmarks/suite/peers.py`` makes builders from a loss written in the
contestant's own language. Optional packages are handed in, so no workload imports one. The first argument of a loss is

==================  ========================================================================================
builder             the loss is called as
==================  ========================================================================================
``peers.symgraph``  ``model(**parameters)``, returns :class:`Model`: nodes, no data
``peers.eager``     ``loss(symgraph.eager, *tensors)``: nearly always the loss for PyTorch
``peers.jax``       ``loss(jax, *arrays)``; use ``jax.numpy``, ``jax.scipy``, ``jax.nn``
``peers.torch``     ``loss(torch, *tensors)``; also ``peers.torch_compile``
``peers.pytensor``  ``loss(pytensor.tensor, *variables)``
``peers.casadi``    ``loss(casadi, *symbols)``: columns and matrices; ``scalar=True`` for SX instead of MX
``peers.autograd``  ``loss(autograd, *arrays)``; has ``autograd.numpy`` and ``autograd.scipy`` as JAX has, so that one
                    loss ``def loss(library, x): np = library.numpy; ...`` usually serves both
==================  ========================================================================================

These return the value and its gradients by ``wrt``. For other work (Jacobian blocks, Hessians) there is a second form,
``peers.jax_function``, ``peers.torch_function``, ..., called in the same way: what it is given computes *all* results
from the data. For symgraph, ``Model.outputs`` says what is computed. A builder may also be written out in the
workload's file: any ``def builder(problem) -> Run``. It raises :class:`Skipped` with the reason where the
contestant cannot do the work.

**A call takes arrays and returns new ones**, for everyone: the parameters are given to each call, and results of one
call are still there after the next. (So CasADi's buffers are pointed at the arguments and at fresh results in each
call; left where they are, its smallest calls would be faster than any function that returns an array.)

**The limit** is the same work by hand, ``def limit(problem) -> Run``: a fused Numba kernel or the closed form with
BLAS, as good as an expert writes it, using ``problem.threads`` threads; ``peers.by_hand(limit)`` among the contestants.

**Checked before timed.** The results of each contestant are compared with those of the first of :data:`REFERENCES`
that runs, in float64 (for a case in float32 as well), by the largest difference over the largest magnitude of each
result. Who is off by more than :func:`tolerance` is reported, and not timed.

``measure="compile"`` is for workloads that are about building and compiling (``deep``): each contestant is then timed
in fresh processes from its builder's call to its first result, and is not run in rounds.

``benchmarks/workloads/rosenbrock.py`` is the model to follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

SYMGRAPH, EAGER, LIMIT = "symgraph", "symgraph eager", "limit"
PEERS = ("JAX", "PyTorch", "torch.compile", "PyTensor", "CasADi", "autograd")
NAMES = (SYMGRAPH, EAGER, *PEERS, LIMIT)
REFERENCES = ("PyTorch", "JAX", "autograd", LIMIT)


class Skipped(Exception):  # noqa: N818  (being skipped is no error)
    """The contestant cannot do this work; the message says why."""


class Case:
    """One row of the table: a workload at one size.

    Attributes:
        label: The size as the table shows it.
        parameters: What ``data`` and the model are called with.
        dtype: The precision, ``parameters["dtype"]`` where there is one.
    """

    def __init__(self, label: str, /, **parameters: Any) -> None:
        self.label, self.parameters = label, parameters
        self.dtype: str = parameters.get("dtype", "float64")

    def __repr__(self) -> str:
        return f"Case({self.label!r})"


@dataclass(frozen=True)
class Model:
    """A graph of symgraph: a value of some inputs, its parameters among them.

    Attributes:
        inputs: Placeholders, in the order of the data.
        value: A scalar node.
        parameters: What the value is differentiated by.
        outputs: What a call computes; when None, the value and its gradients.
    """

    inputs: Sequence[Any]
    value: Any
    parameters: Sequence[Any]
    outputs: Any = None


@dataclass(frozen=True)
class Problem:
    """A case with its data, as a builder gets it."""

    workload: Workload
    case: Case
    data: Mapping[str, Array]
    threads: int = 2

    @property
    def arrays(self) -> list[Array]:
        """The data, in order."""
        return list(self.data.values())

    @property
    def positions(self) -> list[int]:
        """Where in the data the arrays stand that gradients are taken by, in the order of ``wrt``."""
        names, wrt = list(self.data), self.workload.wrt
        return [names.index(name) for name in (wrt(self.data) if callable(wrt) else wrt)]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The precision of the case."""
        return np.dtype(self.case.dtype)


def as_arrays(results: Any) -> list[Array]:
    """Return the leaves of nested lists and tuples as NumPy arrays; tensors give up their ``numpy()``."""
    if isinstance(results, (list, tuple)):
        return [array for part in results for array in as_arrays(part)]
    if hasattr(results, "detach"):
        results = results.detach().numpy()
    return [np.asarray(results)]


@dataclass(frozen=True)
class Run:
    """What is timed, ``function(*arguments)``, and how its results are read.

    ``function`` returns when the results are there: asynchronous libraries wait for them inside it.
    """

    function: Callable[..., Any]
    arguments: Sequence[Any] = ()
    read: Callable[[Any], list[Array]] = as_arrays

    def results(self) -> list[Array]:
        """Run once, and return copies of the results."""
        return [np.array(array) for array in self.read(self.function(*self.arguments))]


Builder: TypeAlias = Callable[[Problem], Run]


@dataclass(frozen=True)
class Workload:
    """A piece of work and everyone who does it; the module's docstring explains the attributes."""

    name: str
    what: str
    cases: Sequence[Case]
    tiny: Case
    data: Callable[..., Mapping[str, Array]]
    wrt: Sequence[str] | Callable[[Mapping[str, Array]], Sequence[str]]
    contestants: Mapping[str, Builder]
    measure: Literal["run", "compile"] = "run"

    def __post_init__(self) -> None:
        unknown = set(self.contestants) - set(NAMES)
        if unknown:
            raise ValueError(f"{self.name}: no contestant is called {', '.join(sorted(unknown))}")

    def problem(self, case: Case, threads: int = 2) -> Problem:
        """Return the case with its data."""
        return Problem(self, case, self.data(**case.parameters), threads)

    def case(self, label: str) -> Case:
        """Return the case with this label."""
        return next(case for case in [*self.cases, self.tiny] if case.label == label)


def tolerance(dtype: str) -> float:
    """Return how far results may be from the reference, relatively."""
    return {"float64": 1e-9, "float32": 1e-4}[dtype]


def in_double(problem: Problem) -> Problem:
    """Return the same problem with its data in float64."""
    data = {
        name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in problem.data.items()
    }
    parameters = {**problem.case.parameters, **({"dtype": "float64"} if "dtype" in problem.case.parameters else {})}
    return Problem(problem.workload, Case(problem.case.label, **parameters), data, problem.threads)


def largest_difference(results: Sequence[Array], reference: Sequence[Array]) -> float:
    """Return the largest difference over the largest magnitude, of the result where that is worst.

    Example:
        >>> largest_difference([np.array([1.0, 4.0])], [np.array([1.0, 5.0])])
        0.2
    """
    if len(results) != len(reference):
        raise ValueError(f"{len(results)} results, where the reference has {len(reference)}")
    worst = 0.0
    for index, (array, true) in enumerate(zip(results, reference, strict=True)):
        if array.shape != true.shape:
            raise ValueError(f"result {index} has shape {array.shape}, where the reference has {true.shape}")
        if not true.size:
            continue
        scale = float(np.max(np.abs(true)))
        difference = float(np.max(np.abs(array.astype(np.float64) - true)))
        worst = max(worst, difference / scale if scale else difference) if difference == difference else float("nan")
        if worst != worst:
            return worst
    return worst
