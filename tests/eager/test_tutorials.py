"""The tutorials' own code, run as it stands, with nothing but its import lines changed.

The texts lie beside the repository, in ``../shared/seeds``; without them these tests are skipped. A block of code
is a run of lines that say something without words: what is left of a line when comments and strings are taken away
is ASCII, and no list item, caption or other language. Blocks whose line breaks were lost get them back before each
statement that ``SPLITS`` names.

The blocks of one text run one after another in one namespace, as a reader types them in. What they print is compared
with ``PRINTED``, and with PyTorch's own output where PyTorch is installed. Where a tutorial says something else than
PyTorch does, ``SLIPS`` says what is wrong with it.

What is not run, as it is not Python: 000's formulas; 001's lists of outputs (they are checked as outputs) and its
quoted error (``test_the_quoted_error``); 002's formulas, drawings and C++ (its scalar engine is rebuilt in
``test_computations.py``); 004's shell line.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from symgraph import eager

SEEDS = Path(__file__).resolve().parents[3] / "shared" / "seeds"
pytestmark = pytest.mark.skipif(not SEEDS.is_dir(), reason="the tutorials' texts are not there")

IMPORTS = {
    "import torch": "import symgraph.eager as torch",
    "import torch.nn as nn": "import symgraph.eager.nn as nn",
    "import torch.optim as optim": "import symgraph.eager.optim as optim",
    "from torchviz import make_dot": "from symgraph.eager import make_dot",
}

# How the statements begin that stood on lines of their own, for the blocks (by how they begin) that lost them.
SPLITS = {
    "y = x ** 2  # y = x² y.backward()": ["y = x ** 2", "y.backward()", "print("],
    "x = torch.tensor(1.).requires_grad_()": ["x = torch.tensor(1.).", "x = torch.tensor(1.,"],
    "import torch x=torch.tensor(1.": [
        "import torch",
        "x=torch",
        "b=torch",
        "w=torch",
        "z=w*x",
        "z.backward",
        "print(x",
        "print(w",
        "print(b",
    ],
    "import torch x = torch.tensor(2.)": [
        "import torch",
        "x = torch",
        "y = torch",
        "z = x",
        "z.backward",
        "print(",
        "x.grad.data",
        "x.grad.backward",
        "print(",
    ],
    "import torch # ": [
        "import torch",
        "# ",
        "X = torch",
        "W = torch",
        "b = torch",
        "Y = torch",
        "# ",
        "Y.backward",
        "# ",
        "print(W",
        "print(b",
    ],
    "import torchimport numpy": [
        "import torch",
        "import numpy",
        "import torch.nn",
        "import torch.optim",
        "x_values=[",
        "x_train=np",
        "x_train=x_train",
        "y_values=[",
        "y_values=np",
        "y_train=",
        "#",
        "class ",
        "def __init__",
        "super(",
        "self.linear = ",
        "def forward",
        "return ",
        "#",
        "device = ",
        "# ",
        "model = ",
        "model.to",
        "optimizer = ",
        "# ",
        "criterion = ",
        "for epoch",
        "# ",
        "inputs = ",
        "targets = ",
        "# ",
        "outputs = ",
        "loss = ",
        "# ",
        "#",
        "optimizer.zero_grad",
        "#",
        "loss.backward",
        "#",
        "optimizer.step",
        "#",
        "if epoch",
        "print(",
        "#",
        "predicted=",
        "print(predicted",
        "print(targets",
    ],
}


@dataclass(frozen=True)
class Block:
    """A run of code lines, and the lines that the text says it prints."""

    code: str
    stated: tuple[str, ...] = ()

    def with_imports(self, imports: dict[str, str]) -> str:
        """Return the code with its import lines changed, and nothing else."""
        return "\n".join(imports.get(line.strip(), line) for line in self.code.splitlines())


def read_blocks(number: int) -> list[Block]:
    """Return the Python blocks of a tutorial, in order, each with the output that follows it."""
    text = next(SEEDS.glob(f"{number:03}_*.txt")).read_text(encoding="utf-8")
    text = text.replace("“", '"').replace("”", '"')
    blocks: list[Block] = []
    for before, run in _runs(text):
        code = _restored(run)
        if before.startswith("输出") and blocks:
            blocks[-1] = Block(blocks[-1].code, tuple(run.splitlines()))
        elif _is_program(code):
            blocks.append(Block(code))
    return blocks


def _runs(text: str) -> list[tuple[str, str]]:
    """Return the runs of code lines, each with the last line of prose before it."""
    runs: list[tuple[str, str]] = []
    current: list[str] = []
    prose, quoted = "", False
    for line in [*text.splitlines(), "终"]:
        quoted ^= line.strip() == '"""'
        if (quoted or _is_code(line)) and line.strip() != "```":
            current.append(line)
            continue
        if any(_bare(item).strip() for item in current):
            runs.append((prose, "\n".join(current).strip("\n")))
        current = []
        prose = line.strip() if line.strip() and line.strip() != "```" else prose
    return runs


def _bare(line: str) -> str:
    """Return a line without its strings and comment."""
    return re.sub(r'"[^"]*"|\'[^\']*\'', '""', line).split("#")[0]


def _is_code(line: str) -> bool:
    bare = _bare(line)
    other = re.match(r"\s*(\d+\.|[-*>•]|//)|###|[a-z]\w*$", bare)
    return bare.isascii() and other is None


def _restored(run: str) -> str:
    """Return a run with the line breaks that it lost; a statement keeps its indentation, in steps of four."""
    for beginning, statements in SPLITS.items():
        if run.lstrip().startswith(beginning):
            places, position = [], 0
            for statement in statements:
                position = run.index(statement, position)
                places.append(position)
                position += len(statement)
            lines = []
            for start, stop in zip(places, [*places[1:], len(run)], strict=True):
                spaces = len(run[:start]) - len(run[:start].rstrip(" "))
                lines.append(" " * (spaces // 4 * 4 if start else 0) + run[start:stop].strip())
            return "\n".join(lines)
    return run


def _is_program(code: str) -> bool:
    """Tell whether a run is Python that does something, rather than a formula, a shell line or another language."""
    try:
        body = ast.parse(code).body
    except SyntaxError:
        return False
    imports = any(
        isinstance(node, ast.Import | ast.ImportFrom | ast.With | ast.ClassDef | ast.FunctionDef) for node in body
    )
    calls = any(isinstance(node, ast.Call) for statement in body for node in ast.walk(statement))
    return imports or calls


# Variables that a fragment needs and no earlier block of its text declares.
GIVEN = {
    (0, 2): """
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
input = torch.ones(3, 1)
model(input).sum().backward()
""",
    (0, 7): "loss = (x ** 2).sum()",
    (1, 0): "import torch",
    (2, 1): "f_0 = f_1 = f_2 = lambda value: 2 * value",
    (3, 0): "import torch",
}

# What each block prints, 0x for any address and ~ for any number that depends on random numbers.
PRINTED: dict[tuple[int, int], str] = {
    (0, 1): "tensor([4.])",
    (0, 5): """
x的值: tensor([3., 4.], requires_grad=True)
y的值: tensor([25., 36.], grad_fn=<PowBackward0>)
dy/dx 的值: tensor([10., 12.])
x.gard: None
y.gard: <PowBackward0 object at 0x>
z.gard: <AddBackward0 object at 0x>""",
    (0, 6): "tensor([2.0000, 0.2000])",
    (0, 9): "tensor([0., 1.])",
    (1, 0): "tensor([[1., 1.],\n        [1., 1.]], requires_grad=True)\nNone",
    (1, 1): "tensor([[3., 3.],\n        [3., 3.]], grad_fn=<AddBackward0>)\n<AddBackward0 object at 0x>",
    (1, 2): "True False",
    (1, 3): "tensor([[27., 27.],\n        [27., 27.]], grad_fn=<MulBackward0>) tensor(27., grad_fn=<MeanBackward0>)",
    (1, 4): "False\nTrue\n<SumBackward0 object at 0x>",
    (1, 6): "tensor([[4.5000, 4.5000],\n        [4.5000, 4.5000]])",
    (1, 7): "tensor([[1., 1.],\n        [1., 1.]])\ntensor([[1., 1.],\n        [1., 1.]])",
    (1, 8): "tensor([[2., 4.],\n        [6., 8.]], grad_fn=<ViewBackward0>)",
    (1, 9): "tensor([2.0000, 0.2000, 0.0200, 0.0020])",
    (1, 10): """
True
tensor(1., grad_fn=<PowBackward0>) True
tensor(1.) False
tensor(2., grad_fn=<AddBackward0>) True""",
    (1, 11): "tensor(2.)",
    (1, 12): "tensor([1.])\nFalse\ntensor([100.], requires_grad=True)\ntensor([2.])",
    (2, 0): "64.0",
    (2, 2): "x_0.grad = 6.0",
    (2, 3): "x: -2.0 x.grad: 64.0\nz: -4.0 z.grad: 25.0\ny1: 1.0 y1.grad: 1.0\ny2: 17.0 y2.grad: -3.0",
    (2, 4): "2.0\n8.0",
    (3, 1): "tensor(3.)\ntensor(1.)\ntensor(1.)",
    (3, 2): "tensor(12., grad_fn=<CopyBackwards>)\ntensor(6., grad_fn=<CopyBackwards>)",
    (3, 3): "tensor([1.5000, 2.5000, 3.5000])\ntensor(1.)",
    (4, 0): "y: tensor([ 9., 16.], grad_fn=<AddBackward0>)",
    (4, 2): "Gradient of y with respect to x: tensor([6., 8.])",
}
RANDOM = {(3, 4), (4, 4)}  # train from random weights: see test_training_from_random_weights


@dataclass(frozen=True)
class Slip:
    """Where a tutorial says something else than PyTorch does.

    Attributes:
        what: What is wrong with it.
        error: How the message begins that PyTorch raises, where the block cannot run to its end.
        stated: Words of the stated output -> what PyTorch prints instead.
    """

    what: str
    error: str = ""
    stated: tuple[tuple[str, str], ...] = ()


SLIPS: dict[tuple[int, int], Slip] = {
    (0, 4): Slip(
        "says that w.backward() runs and leaves x.grad None; w was made from a detached tensor, so PyTorch raises "
        "(x.grad is None all the same)",
        error="element 0 of tensors does not require grad and does not have a grad_fn",
    ),
    (0, 8): Slip(
        "goes on with the x of the block before, which has two elements: z.backward() needs a scalar, so PyTorch "
        "raises; with a scalar x it prints 2y, as stated",
        error="grad can be implicitly created only for scalar outputs",
    ),
    (1, 1): Slip(
        "names from PyTorch 0.4 to 1.1",
        stated=(("<AddBackward>", "<AddBackward0>"), ("<AddBackward ", "<AddBackward0 ")),
    ),
    (1, 3): Slip(
        "names from PyTorch 0.4 to 1.1",
        stated=(("<MulBackward>", "<MulBackward0>"), ("<MeanBackward1>", "<MeanBackward0>")),
    ),
    (1, 7): Slip(
        "states 5.5, as if the 4.5 of the block before were still there; the block makes a new x, whose gradient "
        "starts anew",
        stated=(("5.5000, 5.5000", "1., 1."),),
    ),
    (1, 8): Slip("a name from PyTorch 0.4 to 1.1", stated=(("<ViewBackward>", "<ViewBackward0>"),)),
    (1, 10): Slip("a name from PyTorch 0.4", stated=(("<ThAddBackward>", "<AddBackward0>"),)),
}
"""Slips in the blocks. Slips of the prose, which no block repeats: 000 writes tensor([4.0]) where PyTorch prints
tensor([4.]), and 2 where it prints 2.0 (002 too); 002 follows x(-5, ...) through its steps, where x is -2, and writes
relu as if it had the derivative 1 at 0; 003 writes ``x2*w2*x3*w3`` for ``x2*w2 + x3*w3``; 004 calls the nodes
operations and, a line below, operations or variables."""

COUNTS = {0: 11, 1: 13, 2: 5, 3: 5, 4: 5}


def run_blocks(number: int, torch: ModuleType, imports: dict[str, str]) -> Iterator[tuple[int, str, Exception | None]]:
    """Run a tutorial's blocks in one namespace; yield each one's number, what it printed and what it raised."""
    namespace: dict[str, Any] = {"torch": torch}
    for position, block in enumerate(read_blocks(number)):
        given = Block(GIVEN.get((number, position), "")).with_imports(imports)
        exec(compile(given, "<given>", "exec"), namespace)
        printed, raised = io.StringIO(), None
        with contextlib.redirect_stdout(printed):
            try:
                exec(compile(block.with_imports(imports), f"<tutorial {number}, block {position}>", "exec"), namespace)
            except (RuntimeError, ImportError) as error:
                raised = error
        yield position, re.sub(r"0x[0-9a-f]+", "0x", printed.getvalue()).strip(), raised


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("number", COUNTS)
def test_every_block_is_found(number: int) -> None:
    blocks = read_blocks(number)
    assert len(blocks) == COUNTS[number]
    text = next(SEEDS.glob(f"{number:03}_*.txt")).read_text(encoding="utf-8")
    found = sum(block.code.count("backward(") for block in blocks)
    prose = [line for line in text.splitlines() if "backward(" in line and not _is_code(line)]
    restored = sum(line.count("backward(") for line in prose if any(line.strip().startswith(s) for s in SPLITS))
    elsewhere = sum(line.count("backward(") for line in prose) - restored
    assert found == text.count("backward(") - elsewhere


@pytest.mark.skipif(shutil.which("dot") is None, reason="drawing needs Graphviz's program dot")
@pytest.mark.parametrize("number", COUNTS)
def test_every_block_runs_and_prints_what_pytorch_prints(number: int, tmp_path: Path) -> None:
    pytest.importorskip("graphviz")
    for position, printed, raised in run_blocks(number, eager, IMPORTS):
        place = (number, position)
        slip = SLIPS.get(place, Slip(""))
        assert str(raised or "") == slip.error, place
        if place not in RANDOM:
            assert printed == PRINTED.get(place, "").strip(), place
    if number == 4:
        assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("number", COUNTS)
def test_pytorch_prints_the_same(number: int) -> None:
    torch = pytest.importorskip("torch")
    for position, printed, raised in run_blocks(number, torch, {}):
        place = (number, position)
        if isinstance(raised, ModuleNotFoundError):
            assert "torchviz" in str(raised)
            continue
        assert str(raised or "") == SLIPS.get(place, Slip("")).error, place
        if place not in RANDOM:
            assert printed == PRINTED.get(place, "").strip(), place


def test_stated_outputs_are_what_is_printed_but_for_the_slips() -> None:
    compared = 0
    for position, block in enumerate(read_blocks(1)):
        if block.stated:
            stated = re.sub(r"0x[0-9a-f]+", "0x", "\n".join(block.stated))
            for words, instead in SLIPS.get((1, position), Slip("")).stated:
                assert words in stated
                stated = stated.replace(words, instead)
            assert stated == PRINTED[1, position].strip(), position
            compared += 1
    assert compared == 11


def test_the_quoted_error() -> None:
    x = eager.tensor(1.0, requires_grad=True)
    with eager.no_grad():
        y2 = x**3
    with pytest.raises(RuntimeError) as caught:
        y2.backward()
    text = next(SEEDS.glob("001_*.txt")).read_text(encoding="utf-8")
    assert f"RuntimeError: {caught.value}" in text


def test_detached_block_leaves_no_gradient_and_scalar_version_prints_twice_y() -> None:
    detached, retained = read_blocks(0)[4], read_blocks(0)[8]
    namespace: dict[str, Any] = {}
    with pytest.raises(RuntimeError, match="element 0"):
        exec(detached.with_imports(IMPORTS), namespace)
    assert namespace["x"].grad is None
    scalar = {"x": eager.tensor(3.0, requires_grad=True)}
    exec(retained.code, scalar)
    assert scalar["y"].grad.item() == 2 * scalar["y"].item() == 10.0


def test_pseudo_code_adds_the_contributions_up() -> None:
    namespace: dict[str, Any] = {"f_0": lambda x: 3 * x, "f_1": lambda x: 2 * x - 2, "f_2": lambda x: x}
    exec(read_blocks(2)[1].code, namespace)
    assert namespace["forward"](1.0, 2.0) == (3.0, 0.0, 2.0)
    namespace |= {"dy_0": 3.0, "dx_0": 1.0, "dy_1": 2.0}
    assert namespace["backward"](1.0, 1.0, 3.0, 5.0) == 3 * 1 + 2 * 3


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("number", [3, 4])
def test_training_from_random_weights(number: int, seed: int) -> None:
    """The tutorials state no numbers here: the loss falls, and the line that the data lie on is approached."""
    eager.manual_seed(seed)
    block = read_blocks(number)[4]
    printed = io.StringIO()
    namespace: dict[str, Any] = {}
    with contextlib.redirect_stdout(printed):
        exec(block.with_imports(IMPORTS), namespace)
    losses = [float(x) for x in re.findall(r"[Ll]oss:? ([-\d.e]+)", printed.getvalue())]
    assert len(losses) == 10
    assert losses == sorted(losses, reverse=True)
    model = namespace["model"]
    layer = model.linear if number == 3 else model
    slope, intercept = layer.weight.item(), layer.bias.item()
    if number == 3:
        assert slope * 7 + intercept == pytest.approx(2 * 7 + 1, abs=0.5)
        assert "grad_fn=<AddmmBackward0>" in printed.getvalue()
    else:
        assert slope * 2.5 + intercept == pytest.approx(2.5 + 1, abs=0.5)
        assert f"Weight: {slope}\nBias: {intercept}\n" in printed.getvalue()
