"""PyTorch's ``torch.optim``: steps along the gradient, in place."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from symgraph.eager.modes import enable_grad, no_grad
from symgraph.eager.nn.modules import clear_gradients
from symgraph.eager.tensor import Tensor

Array = np.ndarray[Any, Any]


class Optimizer:
    """Parameters in groups, each with its own settings, and a state per parameter."""

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        given = [params] if isinstance(params, Tensor) else list(params)
        if not given:
            raise ValueError("optimizer got an empty parameter list")
        groups = given if isinstance(given[0], Mapping) else [{"params": given}]
        self.defaults = dict(defaults)
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.param_groups = [{**defaults, **group, "params": _as_list(group["params"])} for group in groups]
        for group in self.param_groups:
            for parameter in group["params"]:
                if not isinstance(parameter, Tensor):
                    raise TypeError(
                        f"optimizer can only optimize Tensors, but one of the params is {type(parameter).__name__}"
                    )
                if not parameter.is_leaf:
                    raise ValueError("can't optimize a non-leaf Tensor")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            clear_gradients(group["params"], set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient; a closure computes the loss first."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad(), np.errstate(all="ignore"):
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter._grad is not None:
                        self._update(parameter, parameter._grad._array, group, self.state.setdefault(parameter, {}))
                        parameter._version[0] += 1
        return loss

    @abstractmethod
    def _update(self, parameter: Tensor, gradient: Array, group: Mapping[str, Any], state: dict[str, Any]) -> None:
        """Change one parameter's array in place."""


def _as_list(parameters: Any) -> list[Any]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


class SGD(Optimizer):
    """Gradient descent, with momentum if asked: ``v = momentum*v + (1-dampening)*g``, ``x -= lr*v``.

    Source: PyTorch's documentation of ``torch.optim.SGD``; the first step starts with ``v = g``.

    Example:
        >>> import symgraph.eager as torch
        >>> x = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = torch.optim.SGD([x], lr=0.25)
        >>> (x * x).sum().backward()
        >>> optimizer.step()
        >>> x
        tensor([0.5000], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        if lr < 0 or momentum < 0 or weight_decay < 0:
            raise ValueError(f"Invalid settings: lr={lr}, momentum={momentum}, weight_decay={weight_decay}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(
            params,
            {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
            | {"maximize": maximize},
        )

    def _update(self, parameter: Tensor, gradient: Array, group: Mapping[str, Any], state: dict[str, Any]) -> None:
        x, g = parameter._array, -gradient if group["maximize"] else gradient
        if group["weight_decay"]:
            g = g + group["weight_decay"] * x
        if group["momentum"]:
            velocity = state.get("momentum_buffer")
            if velocity is None:
                velocity = state["momentum_buffer"] = g.copy()
            else:
                velocity *= group["momentum"]
                velocity += (1 - group["dampening"]) * g
            g = g + group["momentum"] * velocity if group["nesterov"] else velocity
        x -= group["lr"] * g


class Adam(Optimizer):
    """Adam: steps divided by a running root mean square of the gradient (Kingma and Ba, 2015, algorithm 1).

    Example:
        >>> import symgraph.eager as torch
        >>> x = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = torch.optim.Adam([x], lr=0.1)
        >>> (x * x).sum().backward()
        >>> optimizer.step()
        >>> x
        tensor([0.9000], requires_grad=True)
    """

    _decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        if lr < 0 or eps < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Invalid settings: lr={lr}, betas={betas}, eps={eps}")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
            },
        )

    def _update(self, parameter: Tensor, gradient: Array, group: Mapping[str, Any], state: dict[str, Any]) -> None:
        x, g = parameter._array, -gradient if group["maximize"] else gradient
        if group["weight_decay"] and self._decoupled:
            x *= 1 - group["lr"] * group["weight_decay"]
        elif group["weight_decay"]:
            g = g + group["weight_decay"] * x
        if not state:
            state |= {
                "step": 0,
                "exp_avg": np.zeros_like(x),
                "exp_avg_sq": np.zeros_like(x),
                "max_exp_avg_sq": np.zeros_like(x),
            }
        first, second = group["betas"]
        state["step"] += 1
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean += (1 - first) * (g - mean)
        square *= second
        square += (1 - second) * g * g
        if group["amsgrad"]:
            square = np.maximum(state["max_exp_avg_sq"], square, out=state["max_exp_avg_sq"])
        corrected = np.sqrt(square) / np.sqrt(1 - second ** state["step"]).astype(x.dtype) + x.dtype.type(group["eps"])
        x -= x.dtype.type(group["lr"] / (1 - first ** state["step"])) * mean / corrected


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters directly (Loshchilov and Hutter, 2019)."""

    _decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)


__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
