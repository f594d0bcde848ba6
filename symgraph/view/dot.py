"""A scene as text in Graphviz's language."""

from __future__ import annotations

import itertools
import json

from symgraph.view.scene import Scene
from symgraph.view.style import FAINT, FRAME_FILL, FRAME_LINE, LINE, STYLES, TEXT


def write_dot(scene: Scene, title: str) -> str:
    """Return the scene in the DOT language; the text is the same whenever the scene is."""
    lines = [
        "digraph symgraph {",
        f'  graph [rankdir=TB, nodesep=0.3, ranksep=0.45, fontname="Helvetica", bgcolor=white, label={_quote(title)}];',
        f'  node [shape=box, style="filled,rounded", fontname="Helvetica", fontsize=12, fontcolor="{TEXT}"];',
        f'  edge [color="{LINE}", fontcolor="{FAINT}", fontname="Helvetica", fontsize=9, arrowsize=0.6];',
    ]
    numbered = sorted(enumerate(scene.boxes), key=lambda item: (item[1].scope, item[0]))
    for scope, members in itertools.groupby(numbered, key=lambda item: item[1].scope):
        indent = "    " if scope else "  "
        if scope:
            lines.append(f"  subgraph {_quote(f'cluster_{scope}')} {{")
            lines.append(f'    label={_quote(scope)}; style="filled,rounded"; color="{FRAME_LINE}";')
            lines.append(f'    fillcolor="{FRAME_FILL}"; fontcolor="{FAINT}"; fontsize=11;')
        for number, box in members:
            style = STYLES[box.style]
            label = f"{box.title}\n{box.note}" if box.note else box.title
            lines.append(f'{indent}n{number} [label={_quote(label)}, fillcolor="{style.fill}", color="{style.line}"];')
        if scope:
            lines.append("  }")
    for arrow in scene.arrows:
        label = f" [label={_quote(arrow.label)}]" if arrow.label else ""
        lines.append(f"  n{arrow.tail} -> n{arrow.head}{label};")
    return "\n".join([*lines, "}", ""])


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
