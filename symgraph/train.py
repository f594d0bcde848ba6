"""Optimisers: a loss and its variables become one operation that computes gradients and updates.

The updates are those of PyTorch's ``torch.optim.SGD`` and ``torch.optim.Adam``. What an optimiser
remembers between steps is held in variables of the same graph, named after the variable they serve
(``w/momentum``), so that a session holds them, and a function can take part in them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from symgraph.arraytype import format_shape, is_float
from symgraph.errors import DeclarationError, DifferentiationError, DTypeError, GraphError, ShapeError, at_user_line
from symgraph.expr import VARIABLE, Expr
from symgraph.gradients import gradients
from symgraph.graph import Graph, name_scope, variable
from symgraph.op import FUNCTIONS
from symgraph.ops.construct import cast
from symgraph.runtime.session import Assignment


class TrainOperation(Assignment):
    """One step of training: fetched by ``Session.run``, it computes and writes all updates together."""


class Optimizer(ABC):
    """What all optimisers share: from a loss to gradients, from gradients to a train operation.

    Args:
        learning_rate: A number, or a variable, placeholder or other scalar node.

    Raises:
        DeclarationError: the number is negative or not finite.
        ShapeError, DTypeError: the node is not a floating-point scalar.
    """

    def __init__(self, learning_rate: Any) -> None:
        self._learning_rate = _checked_rate(type(self).__name__, learning_rate)
        self._slots: dict[tuple[Expr, str], Expr] = {}

    def minimize(self, loss: Expr, variables: Sequence[Expr] | None = None) -> TrainOperation:
        """Return the operation that takes one step towards a smaller loss.

        Args:
            loss: A floating-point node; one that is not a scalar is summed.
            variables: What to update; the graph's trainable variables that the loss depends on when None.

        Raises:
            DifferentiationError: the loss has no gradient with respect to a variable, or to any.
            GraphError: the graph is frozen and the optimiser must declare variables of its own.

        Example:
            >>> import symgraph as sg
            >>> with sg.Graph() as graph:
            ...     w = sg.variable(4.0, name="w")
            ...     loss = (w - 1) ** 2
            ...     step = sg.train.GradientDescent(0.5).minimize(loss)
            >>> with sg.Session(graph, backend="numpy") as session:
            ...     session.run([step, loss]), session.value(w)
            ([None, np.float64(9.0)], np.float64(1.0))
        """
        return self.apply_gradients(self.compute_gradients(loss, variables))

    def compute_gradients(self, loss: Expr, variables: Sequence[Expr] | None = None) -> list[tuple[Expr, Expr]]:
        """Return pairs of a gradient and its variable; the arguments are those of :meth:`minimize`."""
        what = type(self).__name__
        if not isinstance(loss, Expr):
            raise DifferentiationError(at_user_line(f"{what}: the loss is a node, not {loss!r}"))
        if not isinstance(loss.graph, Graph):
            raise DifferentiationError(at_user_line(f"{what}: the loss {loss!r} is constant"))
        if variables is not None:
            given = [variables] if isinstance(variables, Expr) else variables
            chosen = [_checked_variable(what, each) for each in given]
            if not chosen:
                raise DifferentiationError(at_user_line(f"{what}: there are no variables to update"))
            return list(zip(gradients(loss, chosen), chosen, strict=True))
        trainable = loss.graph.trainable_variables
        if not trainable:
            raise DifferentiationError(at_user_line(f"{what}: the graph has no trainable variables"))
        chosen = [each for each in trainable if is_float(each.dtype)]
        found = gradients(loss, chosen, unconnected="none") if chosen else []
        pairs = [(gradient, each) for gradient, each in zip(found, chosen, strict=True) if gradient is not None]
        if not pairs:
            names = ", ".join(each.attrs[0] for each in trainable)
            raise DifferentiationError(at_user_line(f"{what}: the loss depends on no trainable variable ({names})"))
        return pairs

    def apply_gradients(self, pairs: Iterable[tuple[Expr, Expr]]) -> TrainOperation:
        """Return the operation that updates variables by these gradients.

        Args:
            pairs: Gradients, perhaps changed (clipped, say), each with its variable.

        Raises:
            DeclarationError: there are no pairs, or a variable occurs twice.
            ShapeError, DTypeError: a gradient has not the shape and dtype of its variable.
            GraphError: the graph is frozen and the optimiser must declare variables of its own.
        """
        what = type(self).__name__
        checked = [_checked_pair(what, gradient, each) for gradient, each in pairs]
        targets = [each for _, each in checked]
        if not targets:
            raise DeclarationError(at_user_line(f"{what}: there are no gradients to apply"))
        if len(set(targets)) != len(targets):
            raise DeclarationError(at_user_line(f"{what}: a variable is updated twice"))
        updates: dict[Expr, Expr] = {}
        for gradient, each in checked:
            updates.update(self._updates(gradient, each))
        return TrainOperation(what, MappingProxyType(updates))

    @abstractmethod
    def _updates(self, gradient: Expr, target: Expr) -> dict[Expr, Expr]:
        """Return the new value of the variable, and of what is remembered for it."""

    def _rate(self, target: Expr) -> Any:
        rate = self._learning_rate
        return cast(rate, target.dtype) if isinstance(rate, Expr) else rate

    def _slot(self, target: Expr, name: str, initial: Any) -> Expr:
        """Return the variable in which the optimiser remembers something for another variable."""
        found = self._slots.get((target, name))
        if found is None:
            assert isinstance(target.graph, Graph)
            with target.graph as graph, name_scope(target.attrs[0]) as scope:
                count = 0
                while f"{scope}/{name}{f'_{count}' if count else ''}" in graph.names:
                    count += 1
                full = f"{name}_{count}" if count else name
                found = self._slots[target, name] = variable(initial, name=full, trainable=False)
        return found


class GradientDescent(Optimizer):
    """``w ← w - learning_rate · g``.

    Example:
        >>> import symgraph as sg
        >>> sg.train.GradientDescent(0.1)
        GradientDescent(learning_rate=0.1)
    """

    def _updates(self, gradient: Expr, target: Expr) -> dict[Expr, Expr]:
        return {target: target - self._rate(target) * gradient}

    def __repr__(self) -> str:
        return f"GradientDescent(learning_rate={self._learning_rate!r})"


class Momentum(Optimizer):
    """``b ← momentum · b + g``, ``w ← w - learning_rate · b``, as ``torch.optim.SGD`` with momentum.

    Args:
        learning_rate: A number, or a scalar node.
        momentum: How much of the last step is kept, from 0 up to, without, 1.
        nesterov: Whether the step is ``g + momentum · b`` (Sutskever et al., 2013, as PyTorch states it).

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph() as graph:
        ...     w = sg.variable(4.0, name="w")
        ...     step = sg.train.Momentum(0.1, 0.9).minimize(w * w)
        >>> list(graph.variables)
        ['w', 'w/momentum']
    """

    def __init__(self, learning_rate: Any, momentum: float, nesterov: bool = False) -> None:
        super().__init__(learning_rate)
        self._momentum = _checked_fraction("Momentum", "momentum", momentum)
        self._nesterov = nesterov

    def _updates(self, gradient: Expr, target: Expr) -> dict[Expr, Expr]:
        slot = self._slot(target, "momentum", np.zeros(target.shape, target.dtype))
        moved = self._momentum * slot + gradient
        step = gradient + self._momentum * moved if self._nesterov else moved
        return {target: target - self._rate(target) * step, slot: moved}

    def __repr__(self) -> str:
        return f"Momentum(learning_rate={self._learning_rate!r}, momentum={self._momentum}, nesterov={self._nesterov})"


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015, algorithm 1), with PyTorch's defaults and its place of epsilon.

    Args:
        learning_rate: A number, or a scalar node.
        beta1, beta2: How much of the running means of g and g² is kept.
        epsilon: Added to the root of the mean of g².

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph() as graph:
        ...     w = sg.variable(4.0, name="w")
        ...     step = sg.train.Adam(0.1).minimize(w * w)
        >>> list(graph.variables)
        ['w', 'w/adam_step', 'w/adam_mean', 'w/adam_square']
    """

    def __init__(
        self, learning_rate: Any = 1e-3, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        super().__init__(learning_rate)
        self._beta1 = _checked_fraction("Adam", "beta1", beta1)
        self._beta2 = _checked_fraction("Adam", "beta2", beta2)
        if not (math.isfinite(epsilon) and epsilon >= 0):
            raise DeclarationError(at_user_line(f"Adam: epsilon is a number of at least 0, not {epsilon!r}"))
        self._epsilon = epsilon

    def _updates(self, gradient: Expr, target: Expr) -> dict[Expr, Expr]:
        zeros = np.zeros(target.shape, target.dtype)
        steps = self._slot(target, "adam_step", np.int64(0))
        mean = self._slot(target, "adam_mean", zeros)
        square = self._slot(target, "adam_square", zeros)
        # The corrections are scalars, computed in float64 whatever the variable's dtype, as PyTorch does.
        step = steps + 1
        exponent = step.astype("float64")
        correction1 = 1 - self._beta1**exponent
        correction2 = FUNCTIONS["sqrt"](1 - self._beta2**exponent)
        new_mean = self._beta1 * mean + (1 - self._beta1) * gradient
        new_square = self._beta2 * square + (1 - self._beta2) * gradient * gradient
        denominator = FUNCTIONS["sqrt"](new_square) / cast(correction2, target.dtype) + self._epsilon
        rate = cast(self._rate64() / correction1, target.dtype)
        return {target: target - rate * (new_mean / denominator), steps: step, mean: new_mean, square: new_square}

    def _rate64(self) -> Any:
        rate = self._learning_rate
        return cast(rate, np.dtype("float64")) if isinstance(rate, Expr) else rate

    def __repr__(self) -> str:
        return (
            f"Adam(learning_rate={self._learning_rate!r}, beta1={self._beta1}, beta2={self._beta2}, "
            f"epsilon={self._epsilon})"
        )


def _checked_rate(what: str, rate: Any) -> Any:
    if not isinstance(rate, Expr):
        try:
            number = float(rate)
        except (TypeError, ValueError):
            raise DeclarationError(at_user_line(f"{what}: learning_rate is a number or a node, not {rate!r}")) from None
        if not (math.isfinite(number) and number >= 0):
            raise DeclarationError(at_user_line(f"{what}: learning_rate is a number of at least 0, not {rate!r}"))
        return number
    if rate.shape:
        raise ShapeError(at_user_line(f"{what}: learning_rate is a scalar, not of shape {format_shape(rate.shape)}"))
    if not is_float(rate.dtype):
        raise DTypeError(at_user_line(f"{what}: learning_rate is a floating-point number, not {rate.dtype}"))
    return rate


def _checked_fraction(what: str, name: str, number: float) -> float:
    if not (isinstance(number, int | float) and 0 <= number < 1):
        raise DeclarationError(at_user_line(f"{what}: {name} is a number from 0 up to, without, 1, not {number!r}"))
    return float(number)


def _checked_variable(what: str, node: Any) -> Expr:
    if not isinstance(node, Expr) or node.op is not VARIABLE:
        raise DeclarationError(at_user_line(f"{what}: only variables can be updated, not {node!r}"))
    if not is_float(node.dtype):
        raise DTypeError(at_user_line(f"{what}: {node!r} is not of a floating-point dtype and has no gradient"))
    return node


def _checked_pair(what: str, gradient: Any, target: Any) -> tuple[Expr, Expr]:
    _checked_variable(what, target)
    name = target.attrs[0]
    if not isinstance(gradient, Expr):
        raise DeclarationError(at_user_line(f"{what}: the gradient of {name} is a node, not {gradient!r}"))
    if gradient.graph is not None and gradient.graph is not target.graph:
        raise GraphError(at_user_line(f"{what}: the gradient of {name} belongs to another graph"))
    if gradient.shape != target.shape:
        raise ShapeError(
            at_user_line(
                f"{what}: the gradient of {name} has shape {format_shape(gradient.shape)}, "
                f"the variable {format_shape(target.shape)}"
            )
        )
    if gradient.dtype != target.dtype:
        raise DTypeError(
            at_user_line(f"{what}: the gradient of {name} is {gradient.dtype}, the variable {target.dtype}")
        )
    return gradient, target
