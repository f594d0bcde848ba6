"""Pictures of graphs, by Graphviz where it is installed and in plain Python where it is not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from symgraph.errors import ExportError
from symgraph.expr import Expr
from symgraph.view.dot import write_dot
from symgraph.view.scene import Scene, make_scene
from symgraph.view.svg import write_svg

_GRAPHVIZ_FORMATS = ("png", "pdf")
_SECONDS = 60


class Picture:
    """A drawn graph; Jupyter shows it as it is.

    Attributes:
        dot: The picture in Graphviz's language.
    """

    def __init__(self, scene: Scene, engine: str | None) -> None:
        self._scene = scene
        self._engine = engine
        hidden = f"{scene.hidden} nodes further from the outputs are not shown" if scene.hidden else ""
        self.note = hidden
        self.dot = write_dot(scene, hidden)

    @cached_property
    def svg(self) -> str:
        """The picture as a standalone SVG document."""
        if self._engine == "python" or (self._engine is None and shutil.which("dot") is None):
            return write_svg(self._scene, self.note)
        drawn = _run_graphviz(self.dot, "svg").decode()
        return drawn[drawn.index("<svg") :]

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        boxes = len(self._scene.boxes)
        return f"<Picture of {boxes} nodes{f', {self._scene.hidden} more are not shown' if self._scene.hidden else ''}>"

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file and return its path.

        Args:
            path: Its suffix says the format: ``.svg`` and ``.dot`` always; ``.png`` and ``.pdf`` with Graphviz.

        Raises:
            ExportError: the suffix is another one, or Graphviz is needed and not installed.
        """
        target = Path(path)
        form = target.suffix.removeprefix(".").lower()
        if form == "svg":
            target.write_text(self.svg, encoding="utf-8")
        elif form in ("dot", "gv"):
            target.write_text(self.dot, encoding="utf-8")
        elif form in _GRAPHVIZ_FORMATS:
            target.write_bytes(_run_graphviz(self.dot, form))
        else:
            raise ExportError(f"a picture cannot be saved as {target.name!r}: use .svg, .dot, .png or .pdf")
        return target


def graph(
    outputs: Expr | Sequence[Expr] | Mapping[str, Expr], *, limit: int = 300, engine: str | None = None
) -> Picture:
    """Draw the graph that outputs need: arguments above, outputs below, shapes at the arrows.

    Placeholders, variables and each kind of operation have colours of their own; name scopes are frames;
    numbers stand inside the operation that uses them.

    Args:
        outputs: One node, several, or nodes by name.
        limit: How many nodes are drawn at most; the nearest to the outputs are.
        engine: ``"dot"`` for Graphviz, ``"python"`` for the layout that needs nothing installed; None takes
            Graphviz where it is.

    Raises:
        ExportError: something is not a node, or the engine is unknown or not installed.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph():
        ...     x = sg.placeholder("x", ("n",))
        >>> sg.view.graph(sg.sum(2 * x))
        <Picture of 3 nodes>
    """
    labels: list[str | None]
    if isinstance(outputs, Mapping):
        labels, nodes = list(outputs), list(outputs.values())
    else:
        nodes = [outputs] if isinstance(outputs, Expr) or not isinstance(outputs, Sequence) else list(outputs)
        labels = [None] * len(nodes)
    for node in nodes:
        if not isinstance(node, Expr):
            raise ExportError(f"view.graph: a node of a static graph is expected, got {type(node).__name__}")
    if not nodes or limit < 1:
        raise ExportError("view.graph: there is nothing to draw")
    if engine not in (None, "dot", "python"):
        raise ExportError(f"view.graph: the engine is 'dot' or 'python', not {engine!r}")
    return Picture(make_scene(nodes, labels, limit), engine)


def _run_graphviz(text: str, form: str) -> bytes:
    program = shutil.which("dot")
    if program is None:
        raise ExportError(
            f"a picture as {form} needs the program dot of Graphviz (https://graphviz.org/download); .svg does not"
        )
    run = subprocess.run(
        [program, f"-T{form}"], input=text.encode(), capture_output=True, timeout=_SECONDS, check=False
    )
    if run.returncode:
        raise ExportError(f"Graphviz failed: {run.stderr.decode(errors='replace').strip()}")
    return run.stdout
