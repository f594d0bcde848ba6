"""Pictures: what they show of a graph, that boxes do not overlap, and that arrows point down."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import symgraph as sg
from symgraph.view.layout import lay_out
from symgraph.view.scene import Arrow, make_scene

needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")


def network() -> tuple[sg.Expr, list[sg.Expr]]:
    with sg.Graph():
        X = sg.placeholder("X", ("n", 4))
        with sg.name_scope("hidden"):
            W1, b1 = sg.variable(np.zeros((4, 3)), name="W"), sg.variable(np.zeros(3), name="b")
        with sg.name_scope("last"):
            W2 = sg.variable(np.zeros((3, 2)), name="W")
        loss = sg.mean(sg.tanh(X @ W1 + b1) @ W2) + 0.5 * sg.sum(W1**2)
    return loss, sg.gradients(loss, [W1, b1, W2])


def test_boxes_name_leaves_operations_numbers_and_outputs() -> None:
    loss, _ = network()
    boxes = {(box.title, box.note, box.style, box.scope) for box in make_scene([loss], ["loss"], 300).boxes}
    assert {
        ("X", "float64[n,4]", "placeholder", ""),
        ("W", "float64[4,3]", "variable", "hidden"),
        ("W", "float64[3,2]", "variable", "last"),
        ("tanh", "", "elementwise", "hidden"),
        ("@", "", "contract", "last"),
        ("·²", "", "elementwise", ""),
        ("0.5 × ·", "", "elementwise", ""),
        ("+", "= loss", "output", ""),
    } <= boxes


def test_arrows_carry_shapes() -> None:
    loss, _ = network()
    scene = make_scene([loss], [None], 300)
    found = {(scene.boxes[a.tail].title, scene.boxes[a.head].title, a.label) for a in scene.arrows}
    assert {("@", "+", "(n, 3)"), ("tanh", "@", "(n, 3)"), ("X", "@", ""), ("mean", "+", "")} <= found


def test_large_graph_is_cut_and_says_so() -> None:
    with sg.Graph():
        x = sg.placeholder("x")
        for _ in range(1000):
            x = sg.sin(x)
    picture = sg.view.graph(x, limit=10, engine="python")
    assert repr(picture) == "<Picture of 10 nodes, 991 more are not shown>"
    assert "991 nodes further from the outputs are not shown" in picture.svg
    assert "991 nodes further from the outputs are not shown" in picture.dot


def test_layout_keeps_boxes_apart_and_points_arrows_down() -> None:
    rng = np.random.default_rng(0)
    sizes = [(float(w), float(h)) for w, h in rng.uniform(20, 90, (60, 2))]
    arrows = [Arrow(int(rng.integers(0, head)), head, "") for head in range(5, 60) for _ in range(2)]
    layout = lay_out(sizes, arrows)
    for (a, (wa, ha)), (b, (wb, hb)) in itertools.combinations(zip(layout.centres, sizes, strict=True), 2):
        assert abs(a.x - b.x) >= (wa + wb) / 2 or abs(a.y - b.y) >= (ha + hb) / 2
    for arrow, path in zip(arrows, layout.paths, strict=True):
        assert path[0] == layout.centres[arrow.tail]
        assert path[-1] == layout.centres[arrow.head]
        assert all(there.y > here.y for here, there in itertools.pairwise(path))


def test_layout_removes_a_crossing_that_need_not_be() -> None:
    arrows = [Arrow(0, 3, ""), Arrow(1, 2, "")]
    layout = lay_out([(20.0, 10.0)] * 4, arrows)
    left, right = sorted(arrows, key=lambda arrow: layout.centres[arrow.tail].x)
    assert layout.centres[left.head].x < layout.centres[right.head].x


@pytest.mark.parametrize("engine", ["python", pytest.param("dot", marks=needs_graphviz)])
def test_picture_is_svg_with_every_name(engine: str) -> None:
    loss, gradients = network()
    picture = sg.view.graph({"loss": loss, "dW1": gradients[0]}, engine=engine)
    root = ElementTree.fromstring(picture.svg)
    text = " ".join("".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))
    for word in ("hidden", "last", "tanh", "float64[n,4]", "= loss", "= dW1", "mean"):
        assert word in text
    assert picture._repr_svg_() == picture.svg


def test_frame_encloses_the_boxes_of_a_scope_only() -> None:
    with sg.Graph(), sg.name_scope("layer"):
        w, v = sg.variable([1.0, 2.0], name="w"), sg.variable([3.0, 4.0], name="v")
        y = sg.exp(w * v)
    svg = sg.view.graph(sg.sum(y), engine="python").svg
    assert re.search(r">layer<", svg)
    assert ">w<" in svg
    assert "layer/w" not in svg


def test_dot_is_the_same_every_time_and_has_frames() -> None:
    first, second = (sg.view.graph(network()[0]).dot for _ in range(2))
    assert first == second
    assert 'subgraph "cluster_hidden"' in first


def test_names_with_quotes_and_angles_are_escaped() -> None:
    with sg.Graph():
        x = sg.placeholder('a"<b>&')
    picture = sg.view.graph(sg.sin(x), engine="python")
    assert ElementTree.fromstring(picture.svg) is not None
    assert r'label="a\"<b>&' in picture.dot


@pytest.mark.parametrize("suffix", [".svg", ".dot", pytest.param(".png", marks=needs_graphviz)])
def test_picture_is_saved_in_the_format_of_the_suffix(suffix: str, tmp_path: Path) -> None:
    path = sg.view.graph(network()[0]).save(tmp_path / f"graph{suffix}")
    start = {".svg": b"<svg", ".dot": b"digraph", ".png": b"\x89PNG"}[suffix]
    assert path.read_bytes().startswith(start)


def test_what_cannot_be_drawn_or_saved_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, _ = network()
    with pytest.raises(sg.ExportError, match=r"use \.svg, \.dot, \.png or \.pdf"):
        sg.view.graph(loss).save(tmp_path / "graph.bmp")
    with pytest.raises(sg.ExportError, match="got int"):
        sg.view.graph(3)  # type: ignore[arg-type]
    with pytest.raises(sg.ExportError, match="nothing to draw"):
        sg.view.graph([])
    with pytest.raises(sg.ExportError, match="'dot' or 'python'"):
        sg.view.graph(loss, engine="neato")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert sg.view.graph(loss).svg.startswith("<svg")
    with pytest.raises(sg.ExportError, match="needs the program dot"):
        sg.view.graph(loss).save(tmp_path / "graph.png")
