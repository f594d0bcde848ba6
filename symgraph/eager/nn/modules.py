"""Modules: parameters, and what is computed with them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import numpy as np

from symgraph.eager import creation
from symgraph.eager.functions import FUNCTIONS_OF_TORCH
from symgraph.eager.nn import functional
from symgraph.eager.tensor import Tensor, wrap
from symgraph.errors import EagerError


class Parameter(Tensor):
    """A tensor that a module learns.

    Example:
        >>> import symgraph.eager as torch
        >>> torch.nn.Parameter(torch.ones(2))
        Parameter containing:
        tensor([1., 1.], requires_grad=True)
    """

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        source = wrap(np.zeros(0, np.float32)) if data is None else data
        self._array = source._array
        self._version = [0, 0]
        self.requires_grad_(requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Module:
    """A computation with parameters. Subclasses state ``forward``, and set parameters and modules as attributes.

    Example:
        >>> import symgraph.eager as torch
        >>> class Scale(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.factor = torch.nn.Parameter(torch.tensor(3.0))
        ...     def forward(self, x):
        ...         return self.factor * x
        >>> scale = Scale()
        >>> scale(torch.tensor(2.0)), [name for name, _ in scale.named_parameters()]
        (tensor(6., grad_fn=<MulBackward0>), ['factor'])
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _modules: dict[str, Module]
    _buffers: dict[str, Tensor]

    def __init__(self) -> None:
        for name in ("_parameters", "_modules", "_buffers"):
            object.__setattr__(self, name, {})
        object.__setattr__(self, "training", True)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter | Module):
            if "_parameters" not in self.__dict__:
                what = (
                    "parameters before Module.__init__() call"
                    if isinstance(value, Parameter)
                    else "module before Module.__init__() call"
                )
                raise AttributeError(f"cannot assign {what}")
            self.__dict__.pop(name, None)
            self._parameters.pop(name, None)
            self._modules.pop(name, None)
            table: dict[str, Any] = self._parameters if isinstance(value, Parameter) else self._modules
            table[name] = value
        elif name in self.__dict__.get("_parameters", {}):
            if value is not None:
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' as parameter '{name}' "
                    "(torch.nn.Parameter or None expected)"
                )
            self._parameters[name] = None
        elif name in self.__dict__.get("_buffers", {}):
            self._buffers[name] = value
        else:
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        for table in ("_parameters", "_modules", "_buffers"):
            found = self.__dict__.get(table, {})
            if name in found:
                return found[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __delattr__(self, name: str) -> None:
        tables: list[dict[str, Any]] = [self._parameters, self._modules, self._buffers]
        for table in tables:
            if name in table:
                del table[name]
                return
        object.__delattr__(self, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute; subclasses state it."""
        raise EagerError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute: ``forward``."""
        return self.forward(*args, **kwargs)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Add a parameter, or say that there is none of this name."""
        self._parameters[name] = parameter

    def register_buffer(self, name: str, tensor: Tensor) -> None:
        """Add a tensor that is part of the state and is not learned."""
        self._buffers[name] = tensor

    def add_module(self, name: str, module: Module) -> None:
        """Add a module as a child."""
        self._modules[name] = module

    def children(self) -> Iterator[Module]:
        """Go through the modules set as attributes."""
        return iter(self._modules.values())

    def modules(self) -> Iterator[Module]:
        """Go through this module and all below it."""
        return (module for _, module in self.named_modules())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Go through this module and all below it, with their dotted names; one used twice comes once."""
        seen: set[int] = set()
        stack = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module
                below = [(f"{name}.{key}" if name else key, child) for key, child in module._modules.items()]
                stack.extend(reversed(below))

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Go through all parameters with their dotted names; one used twice comes once."""
        seen: set[int] = set()
        for name, module in self.named_modules(prefix):
            for key, parameter in module._parameters.items():
                if parameter is not None and id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield (f"{name}.{key}" if name else key), parameter

    def parameters(self) -> Iterator[Parameter]:
        """Go through all parameters."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Go through all buffers with their dotted names."""
        for name, module in self.named_modules():
            for key, buffer in module._buffers.items():
                yield (f"{name}.{key}" if name else key), buffer

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters."""
        clear_gradients(self.parameters(), set_to_none)

    def train(self, mode: bool = True) -> Self:
        """Put the module, and all below it, into training mode."""
        for module in self.modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self) -> Self:
        """Put the module, and all below it, into evaluation mode."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Say whether the parameters are recorded."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def to(self, *args: Any, dtype: Any = None, **kwargs: Any) -> Self:
        """Convert the parameters and floating-point buffers to another dtype; there is one device, the CPU."""
        for tensor in [*self.parameters(), *[buffer for _, buffer in self.named_buffers()]]:
            if tensor.dtype.kind == "f":
                tensor._array = tensor.detach().to(*args, dtype=dtype, **kwargs)._array
        return self

    def float(self) -> Self:
        """Convert to float32."""
        return self.to(dtype="float32")

    def double(self) -> Self:
        """Convert to float64."""
        return self.to(dtype="float64")

    def cpu(self) -> Self:
        """Return the module: it is on the CPU."""
        return self

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call a function with every module, children first."""
        for module in reversed(list(self.modules())):
            function(module)
        return self

    def state_dict(self) -> OrderedDict[str, Tensor]:
        """Return all parameters and buffers by name, over the same memory."""
        state = OrderedDict((name, parameter.detach()) for name, parameter in self.named_parameters())
        state.update((name, buffer.detach()) for name, buffer in self.named_buffers())
        return state

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copy parameters and buffers from a dictionary; nothing is copied when a name or shape does not fit.

        Raises:
            EagerError: a name is missing or unknown (if strict), or a shape differs.
        """
        own = self.state_dict()
        problems = []
        if strict:
            missing = [name for name in own if name not in state]
            unknown = [name for name in state if name not in own]
            if missing:
                problems.append(f"Missing key(s) in state_dict: {_listed(missing)}. ")
            if unknown:
                problems.append(f"Unexpected key(s) in state_dict: {_listed(unknown)}. ")
        given = {name: creation.as_tensor(value) for name, value in state.items() if name in own}
        for name, value in given.items():
            if value.shape != own[name].shape:
                problems.append(
                    f"size mismatch for {name}: copying a param with shape {value.shape} from checkpoint, the shape in "
                    f"current model is {own[name].shape}."
                )
        if problems:
            details = "\n\t".join(problems)
            raise EagerError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{details}")
        for name, value in given.items():
            own[name].copy_(value.detach())

    def extra_repr(self) -> str:
        """Return what ``repr`` says between the brackets."""
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): {module!r}".replace("\n", "\n  ") for name, module in self._modules.items()]
        if not children:
            return f"{type(self).__name__}({self.extra_repr()})"
        return f"{type(self).__name__}(\n  " + "\n  ".join(children) + "\n)"


def _listed(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def clear_gradients(parameters: Any, set_to_none: bool) -> None:
    """Forget gradients, or make them zero."""
    for parameter in parameters:
        if set_to_none or parameter._grad is None:
            parameter._grad = None
        else:
            parameter._grad = parameter._grad.detach().zero_()


class Linear(Module):
    """``x @ weight.T + bias``, both drawn uniformly from ±1/√(in_features), as in PyTorch."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: Any = None, device: Any = None
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / math.sqrt(in_features) if in_features else 0.0
        self.weight = Parameter(wrap(creation.uniform((out_features, in_features), -bound, bound, dtype)))
        if bias:
            self.bias = Parameter(wrap(creation.uniform((out_features,), -bound, bound, dtype)))
        else:
            self.register_parameter("bias", None)

    def forward(self, input: Any) -> Any:
        """Return ``input @ weight.T + bias``."""
        return functional.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Sequential(Module):
    """Modules called one after another; indexing and iterating give the modules."""

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        named = modules[0].items() if len(modules) == 1 and isinstance(modules[0], Mapping) else enumerate(modules)
        for name, module in named:
            self.add_module(str(name), module)

    def forward(self, input: Any) -> Any:
        """Return what the last module returns."""
        for module in self._modules.values():
            input = module(input)
        return input

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int) -> Module:
        return list(self._modules.values())[index]


class ModuleList(Sequential):
    """A list of modules whose parameters are found; it is not called itself."""

    def __init__(self, modules: Any = ()) -> None:
        super().__init__(*modules)

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def forward(self, input: Any) -> Any:
        """Refuse: a list is not a computation."""
        raise EagerError('Module [ModuleList] is missing the required "forward" function')


def _activation(name: str, function: Callable[..., Any], doc: str) -> type[Module]:
    def forward(self: Module, input: Any) -> Any:
        return function(input)

    return type(name, (Module,), {"forward": forward, "__doc__": doc, "__module__": __name__})


ReLU = _activation("ReLU", functional.relu, "``max(x, 0)`` as a module.")
Sigmoid = _activation("Sigmoid", functional.sigmoid, "``1 / (1 + exp(-x))`` as a module.")
Tanh = _activation("Tanh", functional.tanh, "The hyperbolic tangent as a module.")
GELU = _activation("GELU", functional.gelu, "``x * Φ(x)`` as a module.")
SiLU = _activation("SiLU", functional.silu, "``x * sigmoid(x)`` as a module.")
Softplus = _activation("Softplus", functional.softplus, "``log(1 + exp(x))`` as a module.")
ELU = _activation("ELU", functional.elu, "``x``, or ``exp(x) - 1`` where x is negative, as a module.")
Identity = _activation("Identity", lambda input: input, "What it is given, as a module.")
Flatten = _activation(
    "Flatten", lambda input: FUNCTIONS_OF_TORCH["flatten"](input, 1), "All dimensions but the first made one."
)


class LeakyReLU(Module):
    """``x``, or ``negative_slope * x`` where x is negative."""

    def __init__(self, negative_slope: Any = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, input: Any) -> Any:
        """Return the activations."""
        return functional.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        """Return the slope."""
        return f"negative_slope={self.negative_slope}"


class Softmax(Module):
    """The softmax along a dimension."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Any:
        """Return the probabilities."""
        return functional.softmax(input, self.dim)

    def extra_repr(self) -> str:
        """Return the dimension."""
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """The logarithm of the softmax along a dimension."""

    def forward(self, input: Any) -> Any:
        """Return the log-probabilities."""
        return functional.log_softmax(input, self.dim)


class Dropout(Module):
    """Random elements zero while training, the others divided by ``1 - p``."""

    def __init__(self, p: Any = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: Any) -> Any:
        """Return what is kept."""
        return functional.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        """Return the probability."""
        return f"p={self.p}, inplace=False"


class _Loss(Module):
    """A loss; ``reduction`` is ``"mean"``, ``"sum"`` or ``"none"``."""

    _function: Callable[..., Any]

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss."""
        return type(self)._function(input, target, self.reduction)


class MSELoss(_Loss):
    """The mean of the squared differences."""

    _function = staticmethod(functional.mse_loss)


class L1Loss(_Loss):
    """The mean of the absolute differences."""

    _function = staticmethod(functional.l1_loss)


class NLLLoss(_Loss):
    """The mean of minus the log-probabilities of the target classes."""

    _function = staticmethod(functional.nll_loss)


class CrossEntropyLoss(_Loss):
    """The mean cross entropy of scores against classes or probabilities."""

    _function = staticmethod(functional.cross_entropy)


class BCELoss(_Loss):
    """The mean cross entropy of probabilities against probabilities."""

    _function = staticmethod(functional.binary_cross_entropy)


class BCEWithLogitsLoss(_Loss):
    """The mean cross entropy of logits against probabilities."""

    _function = staticmethod(functional.binary_cross_entropy_with_logits)
