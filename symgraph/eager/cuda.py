"""Devices: there is one, the CPU."""

from __future__ import annotations

from typing import Self

from symgraph.errors import EagerError


class device(str):  # noqa: N801  (PyTorch's name)
    """A device by name; ``device("cpu")`` is the only one there is."""

    __slots__ = ()

    def __new__(cls, name: str = "cpu", index: int | None = None) -> Self:
        """Return the device of this name."""
        kind = str(name).partition(":")[0]
        if kind != "cpu":
            raise EagerError(f"there is no device {name!r}: the eager engine computes on the CPU")
        return super().__new__(cls, "cpu")

    @property
    def type(self) -> str:
        """The kind of device."""
        return "cpu"

    def __repr__(self) -> str:
        return "device(type='cpu')"


def is_available() -> bool:
    """Tell whether there is a GPU: there is none."""
    return False


def device_count() -> int:
    """Return how many GPUs there are."""
    return 0
