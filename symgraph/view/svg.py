"""A scene as an SVG picture, laid out in plain Python."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from xml.sax.saxutils import escape

from symgraph.view.layout import Layout, Point, lay_out
from symgraph.view.scene import Box, Scene
from symgraph.view.style import FAINT, FONT, FRAME_FILL, FRAME_LINE, LINE, STYLES, TEXT

_MARGIN = 28.0
_CHARACTER, _SMALL = 6.9, 5.4
_LINE_HEIGHT = 15.0


def write_svg(scene: Scene, title: str) -> str:
    """Return the scene as a standalone SVG document.

    Args:
        scene: What to draw.
        title: A line of text below the picture; empty for none.
    """
    layout = lay_out([_size(box) for box in scene.boxes], scene.arrows)
    frames = _frames(scene, layout)
    boxes = [box if box.scope in frames else box._replace(title=_full_name(box), scope="") for box in scene.boxes]
    legend = [name for name in STYLES if any(box.style == name for box in scene.boxes)]
    width = max(layout.width, sum(_entry_width(name) for name in legend), len(title) * _SMALL) + 2 * _MARGIN
    height = layout.height + 2 * _MARGIN + 2 * _LINE_HEIGHT + (_LINE_HEIGHT if title else 0)
    shift = (width - 2 * _MARGIN - layout.width) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"',
        f'  viewBox="0 0 {width:.0f} {height:.0f}" font-family="{FONT}" font-size="12">',
        '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"',
        f'  orient="auto"><path d="M0,1 L10,5 L0,9 z" fill="{LINE}"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<g transform="translate({_MARGIN + shift:.1f},{_MARGIN:.1f})">',
        *frames.values(),
        *_arrows(scene, layout),
        *[_box(box, centre) for box, centre in zip(boxes, layout.centres, strict=True)],
        "</g>",
        *_legend(legend, _MARGIN, layout.height + _MARGIN + 1.6 * _LINE_HEIGHT),
    ]
    if title:
        parts.append(_text(_MARGIN, height - 12, title, FAINT, 10, "start"))
    return "\n".join([*parts, "</svg>", ""])


def _size(box: Box) -> tuple[float, float]:
    width = max(len(_full_name(box)) * _CHARACTER, len(box.note) * _SMALL) + 18
    return max(34.0, width), 38.0 if box.note else 24.0


def _text(x: float, y: float, text: str, colour: str, size: int, anchor: str = "middle") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _rectangle(left: float, top: float, width: float, height: float, fill: str, line: str, more: str = "") -> str:
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6" '
        f'fill="{fill}" stroke="{line}"{more}/>'
    )


def _box(box: Box, centre: Point) -> str:
    width, height = _size(box)
    style = STYLES[box.style]
    drawn = [
        _rectangle(centre.x - width / 2, centre.y - height / 2, width, height, style.fill, style.line),
        _text(centre.x, centre.y + (-2 if box.note else 4), box.title, TEXT, 12),
    ]
    if box.note:
        drawn.append(_text(centre.x, centre.y + 12, box.note, FAINT, 10))
    return "".join(drawn)


def _arrows(scene: Scene, layout: Layout) -> list[str]:
    drawn = []
    labelled: set[int] = set()
    for arrow, path in zip(scene.arrows, layout.paths, strict=True):
        start = Point(path[0].x, path[0].y + _size(scene.boxes[arrow.tail])[1] / 2)
        end = Point(path[-1].x, path[-1].y - _size(scene.boxes[arrow.head])[1] / 2 - 1)
        points = [start, *path[1:-1], end]
        drawn.append(f'<path d="{_curve(points)}" fill="none" stroke="{LINE}" marker-end="url(#arrow)"/>')
        if arrow.label and arrow.tail not in labelled:
            labelled.add(arrow.tail)
            drawn.append(_text(start.x + 4, start.y + 12, arrow.label, FAINT, 9, "start"))
    return drawn


def _curve(points: Sequence[Point]) -> str:
    text = f"M{points[0].x:.1f},{points[0].y:.1f}"
    for here, there in itertools.pairwise(points):
        middle = (here.y + there.y) / 2
        text += f" C{here.x:.1f},{middle:.1f} {there.x:.1f},{middle:.1f} {there.x:.1f},{there.y:.1f}"
    return text


def _full_name(box: Box) -> str:
    return f"{box.scope}/{box.title}" if box.scope and box.style in ("placeholder", "variable") else box.title


def _frames(scene: Scene, layout: Layout) -> dict[str, str]:
    """Return a frame around the boxes of each name scope, unless a box of another scope would lie inside."""
    drawn = {}
    for scope in sorted({box.scope for box in scene.boxes} - {""}):
        inside = [i for i, box in enumerate(scene.boxes) if box.scope == scope]
        edges = [_edges(scene.boxes[i], layout.centres[i]) for i in inside]
        left, top = min(e[0] for e in edges) - 10, min(e[1] for e in edges) - 20
        right, bottom = max(e[2] for e in edges) + 10, max(e[3] for e in edges) + 10
        others = (_edges(box, layout.centres[i]) for i, box in enumerate(scene.boxes) if box.scope != scope)
        if not any(e[0] < right and e[2] > left and e[1] < bottom and e[3] > top for e in others):
            frame = _rectangle(left, top, right - left, bottom - top, FRAME_FILL, FRAME_LINE)
            drawn[scope] = frame + _text(left + 8, top + 13, scope, FAINT, 10, "start")
    return drawn


def _edges(box: Box, centre: Point) -> tuple[float, float, float, float]:
    width, height = _size(box)
    return centre.x - width / 2, centre.y - height / 2, centre.x + width / 2, centre.y + height / 2


def _entry_width(name: str) -> float:
    return len(STYLES[name].meaning) * _SMALL + 30


def _legend(names: Sequence[str], x: float, y: float) -> list[str]:
    drawn = []
    for name in names:
        style = STYLES[name]
        drawn.append(f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="12" height="10" rx="2" '
                     f'fill="{style.fill}" stroke="{style.line}"/>')  # fmt: skip
        drawn.append(_text(x + 17, y, style.meaning, FAINT, 10, "start"))
        x += _entry_width(name)
    return drawn
