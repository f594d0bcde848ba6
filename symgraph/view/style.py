"""Colours of pictures, one statement for both layouts."""

from __future__ import annotations

from typing import NamedTuple


class Style(NamedTuple):
    """How a box of one kind looks, and what the legend calls it."""

    fill: str
    line: str
    meaning: str


STYLES: dict[str, Style] = {
    "placeholder": Style("#d6e6fb", "#2f6db5", "placeholder"),
    "variable":    Style("#d5f0dc", "#2a8a4a", "variable"),
    "constant":    Style("#ececec", "#8a8a8a", "constant"),
    "elementwise": Style("#ffffff", "#6b6b6b", "elementwise"),
    "reduce":      Style("#f3e3fb", "#8742b0", "reduction"),
    "scan":        Style("#f3e3fb", "#8742b0", "scan"),
    "contract":    Style("#ffe9c9", "#c47a12", "product"),
    "linalg":      Style("#ffe9c9", "#c47a12", "linear algebra"),
    "movement":    Style("#f6f6ee", "#a3a386", "movement"),
    "index":       Style("#f6f6ee", "#a3a386", "indexing"),
    "control":     Style("#e3f5f7", "#2a8290", "control flow"),
    "custom":      Style("#e3f5f7", "#2a8290", "user's operation"),
    "output":      Style("#ffdcd6", "#c2402a", "output"),
}  # fmt: skip

TEXT, FAINT, LINE, FRAME_FILL, FRAME_LINE = "#1c1c1c", "#6a6a6a", "#8c8c8c", "#f4f8f5", "#b7cfc0"
FONT = "Helvetica, Arial, sans-serif"
