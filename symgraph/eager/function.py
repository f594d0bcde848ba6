"""A user's own step of the tape: forward and backward written in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.derive.pullback import Cotangent
from symgraph.eager.tape import FREED, MODE, BackwardNode, Edge, _numbers
from symgraph.eager.tensor import Tensor, wrap
from symgraph.errors import EagerError
from symgraph.ops.movement import sum_to_shape


class FunctionNode(BackwardNode):
    """One call of a :class:`Function`."""

    __slots__ = ("context", "function", "kinds", "types")

    def __init__(self, function: type[Function], context: Context, args: Sequence[Any]) -> None:
        self.function = function
        self.context = context
        self.types = [arg.type if isinstance(arg, Tensor) else None for arg in args]
        self.parents: tuple[Edge | None, ...] = tuple(
            arg._edge_of() if isinstance(arg, Tensor) else None for arg in args
        )
        self.kinds: list[Any] = []
        self.number = next(_numbers)
        self.hooks = self.retained = None

    @property
    def outputs(self) -> int:
        """How many tensors forward returned."""
        return len(self.kinds)

    def name(self) -> str:
        """Return the class's name with ``Backward``."""
        return f"{self.function.__name__}Backward"

    def __repr__(self) -> str:
        return f"<torch.autograd.function.{self.name()} object at {hex(id(self))}>"

    def pull(self, cotangents: Sequence[Cotangent | None], wanted: Sequence[bool], create: bool) -> Sequence[Any]:
        """Call ``backward`` and check what it returns."""
        context = self.context
        gradients = [
            c.value if c is not None else (wrap(np.zeros(k.shape, k.dtype)) if context.materialize else None)
            for c, k in zip(cotangents, self.kinds, strict=True)
        ]
        found = self.function.backward(context, *gradients)
        returned = list(found) if isinstance(found, tuple | list) else [found]
        while len(returned) > len(self.parents) and returned[-1] is None:
            returned.pop()
        if len(returned) != len(self.parents):
            raise EagerError(
                f"function {self.name()} returned an incorrect number of gradients (expected {len(self.parents)}, got "
                f"{len(returned)})"
            )
        return [self._checked(i, g) if w else None for i, (g, w) in enumerate(zip(returned, wanted, strict=True))]

    def _checked(self, position: int, gradient: Any) -> Cotangent | None:
        if gradient is None:
            return None
        expected = self.types[position]
        assert expected is not None
        if gradient.type.shape != expected.shape:
            try:
                fits = np.broadcast_shapes(gradient.type.shape, expected.shape) == gradient.type.shape
            except ValueError:
                fits = False
            if not fits:
                raise EagerError(
                    f"Function {self.name()} returned an invalid gradient at index {position} - got "
                    f"{list(gradient.shape)} but expected shape compatible with {list(expected.shape)}"
                )
            gradient = sum_to_shape(gradient, expected.shape)
        return Cotangent(gradient if gradient.dtype == expected.dtype else gradient.astype(expected.dtype))

    def free(self) -> None:
        """Give back the saved tensors."""
        self.context.free()


class Context:
    """What ``forward`` leaves for ``backward``; any attribute may be set on it."""

    def __init__(self) -> None:
        self.materialize = True
        self.needs_input_grad: tuple[bool, ...] = ()
        self._saved: list[tuple[Tensor | None, int, int | None]] | None = []
        self._given: tuple[Any, ...] = ()
        self._node: FunctionNode | None = None
        self._constants: list[Tensor] = []
        self._dirty: list[Tensor] = []

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for ``backward``; a change in place is noticed there."""
        self._given = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say that results are constants."""
        self._constants = list(tensors)

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say that arguments were changed in place."""
        self._dirty = list(tensors)

    def set_materialize_grads(self, value: bool) -> None:
        """Say whether a result that nothing depends on has a gradient of zeros, or None."""
        self.materialize = value

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors that were kept.

        Raises:
            EagerError: one was changed in place since, or the graph was freed.
        """
        if self._saved is None:
            raise EagerError(FREED)
        found: list[Tensor | None] = []
        for tensor, version, output in self._saved:
            if tensor is not None and tensor._version[0] != version:
                raise EagerError(tensor._modified(version).message)
            if tensor is None or output is None or self._node is None or not MODE.enabled:
                found.append(tensor)
            else:
                found.append(Tensor._saved(tensor._array, tensor._version, (self._node, output)))
        return tuple(found)

    def keep(self, node: FunctionNode | None, results: Sequence[Any]) -> None:
        """Note the versions of what was saved; results are kept without their history, which would be a cycle."""
        self._node = node
        self._saved = []
        for tensor in self._given:
            place = next((i for i, result in enumerate(results) if result is tensor), None)
            if tensor is not None and place is not None:
                self._saved.append((wrap(tensor._array, tensor._version), tensor._version[0], place))
            else:
                self._saved.append((tensor, 0 if tensor is None else tensor._version[0], None))
        self._given = ()

    def free(self) -> None:
        """Give back what was kept."""
        if self._saved:
            self._saved = None


class Function:
    """A differentiable step with its own forward and backward.

    Subclasses state two static methods: ``forward(ctx, *args)`` returns one tensor or a tuple of them, and
    ``backward(ctx, *gradients)`` returns one gradient (or None) for each argument. Higher derivatives follow when
    ``backward`` is made of operations. ``forward`` may leave out ``ctx`` where ``setup_context(ctx, inputs,
    output)`` is stated, as in PyTorch.

    Example:
        >>> import symgraph.eager as torch
        >>> class Double(torch.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         return 2 * x
        ...     @staticmethod
        ...     def backward(ctx, g):
        ...         return 2 * g
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> y = Double.apply(x)
        >>> y.backward()
        >>> y, x.grad
        (tensor(6., grad_fn=<DoubleBackward>), tensor(2.))
    """

    setup_context: Any = None

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the results."""
        raise EagerError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Compute the gradients of the arguments."""
        raise EagerError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Compute the results, and record how their gradients are found."""
        context = Context()
        recorded = MODE.enabled and any(isinstance(arg, Tensor) and arg._requires for arg in args)
        context.needs_input_grad = tuple(isinstance(arg, Tensor) and arg._requires for arg in args)
        node = FunctionNode(cls, context, args) if recorded else None
        before, MODE.enabled = MODE.enabled, False
        try:
            if cls.setup_context is None:
                returned = cls.forward(context, *args)
            else:
                returned = cls.forward(*args)
                cls.setup_context(context, args, returned)
        finally:
            MODE.enabled = before
        results = list(returned) if isinstance(returned, tuple) else [returned]
        results = [_own(result, args, context) for result in results]
        context.keep(node, results)
        if node is not None:
            _attach(node, context, results)
        return tuple(results) if isinstance(returned, tuple) else results[0]


def _own(result: Any, args: Sequence[Any], context: Context) -> Any:
    """Return a result that is an argument as a tensor of its own, unless it was changed in place."""
    if isinstance(result, Tensor) and any(result is arg for arg in args):
        if any(result is dirty for dirty in context._dirty):
            result._check_in_place()
            result._version[0] += 1
            return result
        return wrap(result._array.copy())
    return result


def _attach(node: FunctionNode, context: Context, results: Sequence[Any]) -> None:
    for position, result in enumerate(results):
        node.kinds.append(result.type if isinstance(result, Tensor) else None)
        is_constant = any(result is constant for constant in context._constants)
        if isinstance(result, Tensor) and not is_constant and result.dtype.kind == "f":
            result._edge = (node, position)
            result._requires = True
            if any(result is dirty for dirty in context._dirty):
                result._version[1] += 1


__all__ = ["Context", "Function", "FunctionNode"]
