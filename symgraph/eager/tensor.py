"""The eager array: an operation on it is executed at once, and recorded when a gradient may be asked for.

A tensor is a NumPy array, a version that counts changes in place (shared by every tensor over the same
memory), and an *edge*: the step of the tape that returned it. Everything that PyTorch names differently from
NumPy is in :mod:`symgraph.eager.functions`; this file is the engine.
"""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from symgraph.arraytype import ArrayType, as_dtype
from symgraph.eager.conversion import Convertible
from symgraph.eager.indices import index_name, plain_index
from symgraph.eager.printing import format_tensor
from symgraph.eager.promotion import result_dtype
from symgraph.eager.tape import MODE, AccumulateGrad, BackwardNode, Edge, Hook, Node, run_backward, shares_memory
from symgraph.errors import DTypeError, EagerError
from symgraph.expr import Expr
from symgraph.interpret import interpret
from symgraph.op import FUNCTIONS, REGISTRY, Kind, Op

Array = np.ndarray[Any, Any]

_NOT_FLOATING = "Only Tensors of floating point and complex dtype can require gradients"
_LEAF_IN_PLACE = "a leaf Variable that requires grad is being used in an in-place operation."


class Size(tuple[int, ...]):
    """A shape that prints as PyTorch's."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"torch.Size({list(self)})"

    def numel(self) -> int:
        """Return how many elements an array of this shape has."""
        return math.prod(self)


class Tensor(Convertible):
    """An array of the eager engine, with PyTorch's names and behaviour.

    Made by ``eager.tensor`` and its relatives, and by operations. Arithmetic promotes dtypes as PyTorch does.

    Example:
        >>> import symgraph.eager as torch
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        tensor([2., 4.])
    """

    _array: Array
    _version: list[int]
    _requires: bool = False
    _edge: Edge | None = None
    _stamp: int | None = None
    _grad: Tensor | None = None
    _accumulator: weakref.ref[AccumulateGrad] | None = None
    _hooks: dict[int, dict[object, Hook]] | None = None
    _constant_number: float | int | bool | None = None
    __array_priority__ = 2000.0

    # What the operations ask of a value
    @property
    def type(self) -> ArrayType:
        """Element type and shape."""
        return ArrayType(self._array.dtype, self._array.shape)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The element type."""
        dtype: np.dtype[np.generic] = self._array.dtype
        return dtype

    @property
    def shape(self) -> Size:
        """The size of each axis."""
        return Size(self._array.shape)

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return self._array.ndim

    @classmethod
    def _apply(cls, op: Op, args: tuple[Any, ...], attrs: tuple[Any, ...]) -> Any:
        arrays = [arg._array for arg in args]
        try:
            if MODE.quiet:
                array = op.evaluate(*arrays, *attrs)
            else:
                with np.errstate(all="ignore"):
                    array = op.evaluate(*arrays, *attrs)
        except ValueError as error:
            op.type_rule(*[arg.type for arg in args], *attrs)
            raise EagerError(f"{op.name}: {error}") from None
        if type(array) is not np.ndarray:
            array = np.asarray(array)
        kind = op.kind
        result = object.__new__(Tensor)
        result._version = [0, 0]
        if kind is _ELEMENTWISE:
            if array.dtype is not arrays[-1].dtype or op.name == "astype":
                array = _of_declared_type(op, array, args, attrs)
        elif kind is not _MOVEMENT or array.dtype is not arrays[0].dtype:
            array = _of_declared_type(op, array, args, attrs)
            if kind is Kind.CUSTOM and any(array is a or shares_memory(array, a) for a in arrays):
                array = array.copy()
        elif len(args) == 1 and shares_memory(array, arrays[0]):
            result._version = args[0]._version
            result._stamp = result._version[1]
        result._array = array
        if MODE.enabled:
            for arg in args:
                if arg._requires or arg._stamp is not None:
                    _record(op, args, attrs, result)
                    break
        return result

    @classmethod
    def _constant(cls, value: Any, dtype: np.dtype[np.generic] | None) -> Any:
        if isinstance(value, Expr):
            if value.graph is not None:
                raise DTypeError(f"{value!r} of a static graph and an eager tensor cannot be mixed")
            (computed,) = interpret([value], {}, {})
            return wrap(np.array(computed, value.dtype if dtype is None else dtype))
        if type(value) in (float, int, bool):
            return number(value, dtype)
        try:
            array = np.array(value, dtype=None if dtype is None else as_dtype(dtype))
        except (ValueError, TypeError, OverflowError) as error:
            raise DTypeError(f"constant: {error}") from None
        return wrap(array.astype(as_dtype(array.dtype), copy=False))

    def _known_number(self) -> float | int | bool | None:
        if self._constant_number is not None:
            return self._constant_number
        if self._requires or self._array.ndim:
            return None
        found: float | int | bool = self._array.item()
        return found

    # What the tape asks of a tensor
    @classmethod
    def _saved(cls, array: Array, version: list[int], edge: Edge | None) -> Tensor:
        saved = wrap(array, version)
        saved._edge = edge
        saved._requires = edge is not None
        return saved

    @classmethod
    def _unavailable(cls, dtype: Any, shape: tuple[int, ...], message: str) -> Tensor:
        tensor = object.__new__(_Unavailable)
        tensor.known = ArrayType(dtype, shape)
        tensor.message = message
        tensor._version = [0, 0]
        return tensor

    def _modified(self, expected: int, source: str | None = None) -> Tensor:
        kind = {"float32": "FloatTensor", "float64": "DoubleTensor"}.get(self.dtype.name, f"{self.dtype} tensor")
        node = self._edge[0].name() if self._edge is not None else source
        origin = f", which is output 0 of {node}" if node else ""
        return self._unavailable(
            self._array.dtype,
            self._array.shape,
            "one of the variables needed for gradient computation has been modified by an inplace operation: "
            f"[torch.{kind} {list(self.shape)}]{origin}, is at version {self._version[0]}; expected version {expected} "
            "instead.",
        )

    def _zeros(self) -> Tensor:
        return wrap(np.zeros(self.type.shape, self.type.dtype))

    def _accumulate(self, gradient: Tensor, create_graph: bool) -> None:
        if gradient._array.dtype != self._array.dtype:
            gradient = gradient.astype(self._array.dtype)
        if create_graph:
            self._grad = named(_copied(gradient), "CopyBackwards") if self._grad is None else self._grad + gradient
        elif self._grad is None:
            self._grad = wrap(np.array(gradient._array, order="C"))
        else:
            self._grad._array += gradient._array
            self._grad._version[0] += 1

    def _edge_of(self) -> Edge | None:
        if self._edge is not None:
            return self._edge
        if not self._requires:
            return None
        node = None if self._accumulator is None else self._accumulator()
        if node is None:
            node = AccumulateGrad(self)
            node.hooks = self._hooks
            self._accumulator = weakref.ref(node)
        return (node, 0)

    # Gradients
    @property
    def requires_grad(self) -> bool:
        """Whether operations on the tensor are recorded."""
        return self._requires

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Say whether operations on the tensor are recorded from now on.

        Raises:
            EagerError: the tensor is not of a floating-point dtype, or is the result of a recorded operation.
        """
        if requires_grad and self._array.dtype.kind != "f":
            raise EagerError(_NOT_FLOATING)
        if not requires_grad and self._edge is not None:
            raise EagerError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in "
                "a subgraph that doesn't require differentiation use var_no_grad = var.detach()."
            )
        self._requires = bool(requires_grad)
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether the tensor was not made by a recorded operation."""
        return self._edge is None

    @property
    def grad_fn(self) -> BackwardNode | None:
        """The step of the tape that made the tensor; None for a leaf."""
        return None if self._edge is None else self._edge[0]

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward passes have added up; kept for leaves and after ``retain_grad()``."""
        if self._grad is None and self._edge is not None and not self.retains_grad:
            warnings.warn(
                "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute "
                "won't be populated during autograd.backward(): use .retain_grad() on it.",
                stacklevel=2,
            )
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and value._array.shape != self._array.shape:
            raise EagerError(
                f"attempting to assign a gradient of size '{list(value.shape)}' to a tensor of size "
                f"'{list(self.shape)}'. Please ensure that the gradient and the tensor are the same size"
            )
        if value is not None and value._array.dtype != self._array.dtype:
            raise EagerError(
                f"attempting to assign a gradient with dtype '{value.dtype}' to a tensor with dtype '{self.dtype}'. "
                "Please ensure that the gradient and the tensor have the same dtype"
            )
        self._grad = value

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Sequence[Tensor] | None = None,
    ) -> None:
        """Add the gradient of the tensor with respect to every leaf to the leaf's ``.grad``.

        Args:
            gradient: The cotangent to start with, of the tensor's shape; 1 for a single element when None.
            retain_graph: Whether another pass shall be possible; as ``create_graph`` when None.
            create_graph: Whether the pass is recorded itself, for higher derivatives.
            inputs: Which leaves get a gradient; all when None.

        Raises:
            EagerError: the tensor was not recorded, has several elements and no gradient is given, the graph was
                freed by an earlier pass, or an array that the derivative needs was changed in place.
        """
        edges = None if inputs is None else [edge for x in inputs if (edge := x._edge_of()) is not None]
        roots = backward_roots([self], [gradient])
        run_backward(roots, create_graph if retain_graph is None else retain_graph, create_graph, edges)

    @property
    def retains_grad(self) -> bool:
        """Whether a tensor that is not a leaf keeps its gradient."""
        return self._edge is not None and self._edge[1] in (self._edge[0].retained or {})

    def retain_grad(self) -> None:
        """Keep the gradient of a tensor that is not a leaf in ``.grad``."""
        if not self._requires:
            raise EagerError("can't retain_grad on Tensor that has requires_grad=False")
        if self._edge is not None:
            node, position = self._edge
            node.retained = {**(node.retained or {}), position: weakref.ref(self)}

    def register_hook(self, hook: Hook) -> RemovableHandle:
        """Call a function with the gradient whenever it is computed; what it returns replaces the gradient."""
        if not self._requires:
            raise EagerError("cannot register a hook on a tensor that doesn't require gradient")
        if self._edge is None:
            if self._hooks is None:
                self._hooks = {0: {}}
            hooks = self._hooks
            node, position = self._edge_of()  # type: ignore[misc]
            node.hooks = hooks
        else:
            node, position = self._edge
            if node.hooks is None:
                node.hooks = {}
            hooks = node.hooks
        return RemovableHandle(hooks.setdefault(position, {}), hook)

    def detach(self) -> Tensor:
        """Return a tensor over the same memory that is not part of the tape."""
        return wrap(self._array, self._version)

    def detach_(self) -> Self:
        """Take the tensor off the tape."""
        self._edge = None
        self._requires = False
        return self

    @property
    def data(self) -> Tensor:
        """A tensor over the same memory; changes through it are neither recorded nor noticed, as in PyTorch."""
        return wrap(self._array)

    @data.setter
    def data(self, value: Tensor) -> None:
        if value._array.dtype != self._array.dtype and self._requires and value._array.dtype.kind != "f":
            raise EagerError("data set to a tensor that requires gradients must be floating point or complex dtype")
        self._array = value._array

    # Changes in place
    def _check_in_place(self) -> None:
        if MODE.enabled and self._requires:
            if self._edge is None:
                raise EagerError(_LEAF_IN_PLACE)
            if self._stamp is not None:
                raise EagerError(
                    "a view of a Variable that requires grad is being used in an in-place operation: assign to an "
                    "index of the tensor itself"
                )
        if not self._array.flags.writeable:
            raise EagerError(
                "unsupported operation: more than one element of the written-to tensor refers to a single memory "
                "location. Please clone() the tensor before performing the operation."
            )

    def _in_place(self, compute: Callable[[Tensor], Tensor]) -> Self:
        """Replace the elements by what an operation returns, and the history by the operation's."""
        self._check_in_place()
        before: Tensor = self
        if MODE.enabled:  # the rule of this very operation may read the elements as they were
            before = wrap(self._array.copy())
            before._edge, before._requires = self._edge, self._requires
        result = compute(before)
        if MODE.enabled and self._requires and not result._requires:  # what the elements were no longer matters
            result = FUNCTIONS["where"](wrap(np.array(True)), result, before)
        if result._array.dtype != self._array.dtype:
            if not np.can_cast(result._array.dtype, self._array.dtype, "same_kind"):
                raise EagerError(
                    f"result type {_type_name(result)} can't be cast to the desired output type {_type_name(self)}"
                )
            result = result.astype(self._array.dtype)
        if result._array.shape != self._array.shape:
            raise EagerError(
                f"output with shape {list(self.shape)} doesn't match the broadcast shape {list(result.shape)}"
            )
        if result._requires and self._stamp is not None:
            raise EagerError("a view cannot be changed in place by a recorded operation: assign to an index instead")
        np.copyto(self._array, result._array)
        self._version[0] += 1
        if result._requires:
            self._version[1] += 1
            self._edge = result._edge
            self._requires = True
        return self

    def __getitem__(self, index: Any) -> Any:
        plain = plain_index(index)
        if not (MODE.enabled and (self._requires or self._stamp is not None)):
            return _view_of(self, np.asarray(self._array[plain]))
        result = FUNCTIONS["getitem"](self, plain)
        if result is self:
            return _copied(self)
        return named(result, index_name(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        plain = plain_index(index)
        other = value if isinstance(value, Tensor) else wrap(np.asarray(value, self._array.dtype))
        if MODE.enabled and (self._requires or other._requires):
            if self._requires and self._edge is None:
                raise EagerError("a view of a leaf Variable that requires grad is being used in an in-place operation.")
            cast = other if other.dtype == self.dtype else other.astype(self.dtype)
            self._in_place(lambda before: named(FUNCTIONS["at_set"](before, plain, cast), "CopySlices"))
            return
        self._check_in_place()
        try:
            self._array[plain] = other._array
        except ValueError:
            raise EagerError(
                f"shape mismatch: value tensor of shape {list(other.shape)} cannot be broadcast to indexing result of "
                f"shape {list(self._array[plain].shape)}"
            ) from None
        self._version[0] += 1

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Take NumPy's scalars as Python's numbers, which leave the dtype of a tensor alone."""
        plain = [x.item() if isinstance(x, np.generic) else x for x in inputs]
        return super().__array_ufunc__(ufunc, method, *plain, **kwargs)

    def __hash__(self) -> int:
        return id(self) >> 4

    def __repr__(self) -> str:
        return format_tensor(self._array, self._suffixes())

    def _suffixes(self) -> list[str]:
        if self._edge is not None:
            return [f"grad_fn=<{self._edge[0].name()}>"]
        return ["requires_grad=True"] if self._requires else []

    def __deepcopy__(self, memo: Any) -> Any:
        if self._edge is not None:
            raise EagerError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the "
                "moment."
            )
        copied = object.__new__(type(self))
        copied._array = self._array.copy()
        copied._version = [0, 0]
        copied._requires = self._requires
        copied._grad = None if self._grad is None else wrap(self._grad._array.copy())
        return copied

    def __reduce__(self) -> Any:
        return _restored, (type(self), self.detach().numpy(), self._requires)

    if TYPE_CHECKING:  # PyTorch's further methods are attached from tables, in symgraph.eager.functions

        def __getattr__(self, name: str) -> Any: ...


class _Unavailable(Tensor):
    """A saved tensor whose elements are gone: its type is known, reading it raises."""

    known: ArrayType
    message: str

    @property
    def _array(self) -> Any:  # type: ignore[override]
        raise EagerError(self.message)

    @property
    def type(self) -> ArrayType:
        return self.known

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self.known.dtype

    @property
    def shape(self) -> Size:
        return Size(self.known.shape)  # type: ignore[arg-type]

    @property
    def ndim(self) -> int:
        return len(self.known.shape)


class RemovableHandle:
    """Removes a hook again."""

    def __init__(self, hooks: dict[object, Hook], hook: Hook) -> None:
        self._hooks = hooks
        self._key = object()  # the handle may be let go of, and its identity be another's
        hooks[self._key] = hook

    def remove(self) -> None:
        """Take the hook away."""
        self._hooks.pop(self._key, None)


def wrap(array: Array, version: list[int] | None = None) -> Tensor:
    """Return a tensor over an array, without copying it."""
    tensor = object.__new__(Tensor)
    tensor._array = array
    tensor._version = [0, 0] if version is None else version
    return tensor


_numbers: dict[tuple[type, Any, Any], Tensor] = {}


def number(value: float | int | bool, dtype: np.dtype[np.generic] | None = None) -> Tensor:
    """Return a Python number as a tensor without axes; frequent ones are kept."""
    key = (type(value), value, dtype)
    found = _numbers.get(key)
    if found is not None:
        return found
    try:
        array = np.array(value, dtype=result_dtype([value]) if dtype is None else dtype)
    except OverflowError as error:
        raise DTypeError(f"constant: {error}") from None
    array.flags.writeable = False
    tensor = wrap(array)
    tensor._constant_number = array.item()
    if value != 0 and value == value:  # 0.0 equals -0.0, and NaN is never found again
        if len(_numbers) > 4096:
            _numbers.clear()
        _numbers[key] = tensor
    return tensor


def named(tensor: Tensor, name: str) -> Tensor:
    """Name the step that made a tensor as PyTorch names it, where several operations here are one there."""
    if tensor._edge is not None and isinstance(tensor._edge[0], Node):
        tensor._edge[0].label = name
    return tensor


def backward_roots(outputs: Sequence[Tensor], gradients: Sequence[Any]) -> list[tuple[Edge, Tensor]]:
    """Return where a backward pass starts, with checked cotangents.

    Raises:
        EagerError: an output was not recorded, has several elements and no gradient, or its gradient does not fit.
    """
    roots = []
    for i, (output, gradient) in enumerate(zip(outputs, gradients, strict=True)):
        edge = output._edge_of()
        seed = gradient
        if gradient is None and edge is not None:
            if output._array.size != 1:
                raise EagerError("grad can be implicitly created only for scalar outputs")
            seed = wrap(np.ones(output._array.shape, output._array.dtype))
        if edge is None:
            raise EagerError(f"element {i} of tensors does not require grad and does not have a grad_fn")
        if not isinstance(seed, Tensor):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(seed).__name__}")
        if seed._array.shape != output._array.shape:
            raise EagerError(
                f"Mismatch in shape: grad_output[{i}] has a shape of {seed.shape} and output[{i}] has a shape of "
                f"{output.shape}."
            )
        roots.append((edge, seed if seed.dtype == output.dtype else seed.astype(output.dtype)))
    return roots


def _record(op: Op, args: tuple[Tensor, ...], attrs: tuple[Any, ...], result: Tensor) -> None:
    for arg in args:
        if arg._stamp is not None and arg._stamp != arg._version[1]:
            raise EagerError(
                f"{op.name}: the tensor is a view of a tensor that a recorded operation changed in place since: "
                "take the view again"
            )
    if result._array.dtype.kind == "f" and any(arg._requires for arg in args):
        node = Node(op, args, attrs, tuple([arg._edge_of() for arg in args]), result)
        result._edge = (node, 0)
        result._requires = True


_ELEMENTWISE, _MOVEMENT = Kind.ELEMENTWISE, Kind.MOVEMENT
_CHECKED_BY_NUMPY = {Kind.ELEMENTWISE, Kind.MOVEMENT, Kind.REDUCE, Kind.SCAN}
_declared: dict[tuple[Any, ...], np.dtype[np.generic]] = {}


def _of_declared_type(op: Op, array: Array, args: Sequence[Tensor], attrs: tuple[Any, ...]) -> Array:
    """Return a result in the dtype that the type rule states.

    NumPy checks the shapes of most kinds of operations as the type rule does, so that their dtype is only looked up;
    the others are checked by their rule.

    Raises:
        EagerError: the operation's function returned another shape than its type rule states.
    """
    if op.kind in _CHECKED_BY_NUMPY:
        key = (op, attrs if "dtype" in op.attributes else None, *[arg._array.dtype for arg in args])
        dtype = _declared.get(key)
        if dtype is None:
            dtype = _declared[key] = op.type_rule(*[arg.type for arg in args], *attrs).dtype
    else:
        expected = op.type_rule(*[arg.type for arg in args], *attrs)
        dtype = expected.dtype
        if array.shape != expected.shape:
            raise EagerError(f"{op.name}: the type rule states {expected}, the result has shape {array.shape}")
    return array if array.dtype == dtype else array.astype(dtype)


def _copied(x: Tensor) -> Tensor:
    return named(Tensor._apply(REGISTRY["positive"], (x,), ()), "CloneBackward0")


def _view_of(base: Tensor, array: Array) -> Tensor:
    if not shares_memory(array, base._array):
        return wrap(array)
    view = wrap(array, base._version)
    view._stamp = base._version[1]
    return view


def _type_name(tensor: Tensor) -> str:
    return {"float32": "Float", "float64": "Double", "int64": "Long", "bool": "Bool"}.get(
        tensor.dtype.name, tensor.dtype.name.capitalize()
    )


def _restored(kind: type[Tensor], array: Array, requires: bool) -> Tensor:
    tensor = object.__new__(kind)
    tensor._array = array
    tensor._version = [0, 0]
    tensor._requires = requires
    return tensor
