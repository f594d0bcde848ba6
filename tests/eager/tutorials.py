"""The code blocks of the tutorials, cut out of their texts.

A block is a run of lines that say something without words outside comments and strings: what is left of a line
when those are taken away is ASCII, and neither a list item nor C++. Blocks whose line breaks were lost get them back
before each statement that ``SPLITS`` names.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

SEEDS = Path(__file__).resolve().parents[3] / "shared" / "seeds"

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
        "import torch", "x=torch", "b=torch", "w=torch", "z=w*x", "z.backward", "print(x", "print(w", "print(b",
    ],
    "import torch x = torch.tensor(2.)": [
        "import torch", "x = torch", "y = torch", "z = x", "z.backward", "print(", "x.grad.data", "x.grad.backward", "print(",
    ],
    "import torch # ": [
        "import torch", "# ", "X = torch", "W = torch", "b = torch", "Y = torch", "# ", "Y.backward", "# ", "print(W", "print(b",
    ],
    "import torchimport numpy": [
        "import torch", "import numpy", "import torch.nn", "import torch.optim", "x_values=[", "x_train=np", "x_train=x_train",
        "y_values=[", "y_values=np", "y_train=", "#", "class ", "def __init__", "super(", "self.linear = ", "def forward",
        "return ", "#", "device = ", "# ", "model = ", "model.to", "optimizer = ", "# ", "criterion = ", "for epoch", "# ",
        "inputs = ", "targets = ", "# ", "outputs = ", "loss = ", "# ", "#", "optimizer.zero_grad", "#", "loss.backward", "#",
        "optimizer.step", "#", "if epoch", "print(", "#", "predicted=", "print(predicted", "print(targets",
    ],
}  # fmt: skip


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
    return bare.isascii() and re.match(r"\s*(\d+\.|[-*>•<]|//)", bare) is None and not line.startswith("###")


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
    imports = any(isinstance(node, ast.Import | ast.ImportFrom | ast.With | ast.ClassDef | ast.FunctionDef) for node in body)
    calls = any(isinstance(node, ast.Call) for statement in body for node in ast.walk(statement))
    return imports or calls
