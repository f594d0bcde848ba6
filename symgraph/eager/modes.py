"""Whether operations are recorded: context managers that are decorators too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from symgraph.eager.tape import MODE


class set_grad_enabled:  # noqa: N801
    """Record, or do not record, in a block; called plainly, from now on.

    Example:
        >>> import symgraph.eager as torch
        >>> x = torch.tensor(1.0, requires_grad=True)
        >>> with torch.set_grad_enabled(False):
        ...     (x * 2).requires_grad
        False
    """

    def __init__(self, mode: bool) -> None:
        self._before = MODE.enabled
        self._mode = bool(mode)
        MODE.enabled = self._mode

    def __enter__(self) -> Self:
        MODE.enabled = self._mode
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        MODE.enabled = self._before


class _Block:
    """A mode that holds in a ``with`` block, or in a function that it decorates."""

    _mode: bool

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> Self:
        self._before.append(MODE.enabled)
        MODE.enabled = self._mode
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        MODE.enabled = self._before.pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def decorated(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return decorated

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        block = super().__new__(cls)
        if function is None:
            return block
        block.__init__()  # type: ignore[misc]
        return block(function)


class no_grad(_Block):  # noqa: N801
    """Do not record what is executed in the block, or in the decorated function.

    Example:
        >>> import symgraph.eager as torch
        >>> x = torch.tensor(1.0, requires_grad=True)
        >>> with torch.no_grad():
        ...     y = x**3
        >>> y, y.requires_grad
        (tensor(1.), False)
    """

    _mode = False


class inference_mode(no_grad):  # noqa: N801
    """The same as :class:`no_grad`."""


class enable_grad(_Block):  # noqa: N801
    """Record what is executed in the block, also inside ``no_grad``.

    Example:
        >>> import symgraph.eager as torch
        >>> x = torch.tensor(1.0, requires_grad=True)
        >>> with torch.no_grad(), torch.enable_grad():
        ...     (x * 2).requires_grad
        True
    """

    _mode = True


def is_grad_enabled() -> bool:
    """Tell whether this thread records what it executes."""
    return MODE.enabled
