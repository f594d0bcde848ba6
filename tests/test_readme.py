"""What the documents show is what happens: code blocks, commands, examples and the notebook are run."""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib.util
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from symgraph.cli.main import main

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return [found[3] for found in FENCE.finditer(text) if found[2] == language]


@pytest.mark.parametrize("document", [name for name in ("README.md", "ARCHITECTURE.md") if (ROOT / name).exists()])
def test_python_blocks_of_a_document_print_what_they_show(document: str) -> None:
    shown = [block for block in blocks(document, "python") if ">>>" in block]
    test = doctest.DocTestParser().get_doctest("\n".join(shown), {}, document, document, 0)
    assert test.examples or document != "README.md"
    report = io.StringIO()
    outcome = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.write)
    assert not outcome.failed, report.getvalue()


def console_sessions() -> list[tuple[str, str]]:
    sessions = [part for block in blocks("README.md", "console") for part in re.split(r"^\$ ", block, flags=re.M)[1:]]
    return [(command, output) for command, _, output in (part.partition("\n") for part in sessions)]


@pytest.mark.parametrize(("command", "output"), console_sessions())
def test_command_of_the_readme_prints_what_it_shows(command: str, output: str) -> None:
    program, *arguments = shlex.split(command)
    assert program == "symgraph"
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert result.output == output


def test_readme_has_console_sessions() -> None:
    assert len(console_sessions()) >= 2


def test_readme_sets_up_and_tests_with_one_command_each_and_the_server_runs_the_same() -> None:
    commands = "".join(blocks("README.md", "shell")).splitlines()
    assert commands == ['pip install -e ".[examples]" && symgraph demo', 'pip install -e ".[test]" && pytest']
    pattern = re.search(r"grep -m 1 -E '(.*)' README.md", (ROOT / ".ci/run").read_text(encoding="utf-8"))
    assert pattern is not None
    assert re.fullmatch(pattern[1], commands[1])


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_links_and_paths_of_a_document_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    paths = re.findall(r"`((?:symgraph|tests|examples|\.ci)/[\w./]+)`", text)
    assert [name for name in (*links, *paths) if not (ROOT / name).exists()] == []


def test_statements_that_contributing_shows_stand_in_the_source() -> None:
    shown = [" ".join(block.split()) for block in blocks("CONTRIBUTING.md", "python")[:-1]]
    sources = [ROOT / "symgraph/ops/elementwise.py", ROOT / "symgraph/rewrite/algebra.py"]
    text = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in sources)
    assert len(shown) == 2
    assert [statement for statement in shown if statement not in text] == []


def test_contributing_prints_the_code_of_a_graph(capsys: pytest.CaptureFixture[str]) -> None:
    exec(blocks("CONTRIBUTING.md", "python")[-1], {})
    _, written, optimized, machine = re.split(r"; ModuleID|\.file", capsys.readouterr().out)
    assert 'define i8* @"f"' in written
    assert "define ptr @f" in optimized
    assert all("PyEval_SaveThread" in text for text in (written, optimized, machine))


def load_example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_example_of_least_squares_finds_the_weights(capsys: pytest.CaptureFixture[str]) -> None:
    np.testing.assert_allclose(load_example("least_squares").main(), [1.5, -2.0, 0.5], atol=0.02)
    assert r"\frac{2}{n} X^\top \left(X w - y\right)" in capsys.readouterr().out


def test_example_of_softmax_regression_recognises_digits() -> None:
    pytest.importorskip("sklearn")
    assert load_example("softmax_by_hand").main() > 0.95


def test_example_of_nonlinear_regression_finds_the_certified_values() -> None:
    found = load_example("nonlinear_regression").main()
    np.testing.assert_allclose(found, [2.3894212918e02, 5.5015643181e-04], rtol=1e-9)


def test_every_example_is_tested() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [path.stem for path in (ROOT / "examples").glob("*.py") if f'load_example("{path.stem}")' not in text] == []


def run_cell(source: str, namespace: dict[str, Any]) -> str:
    """Run a cell as a notebook does, and return what it prints and the representation of its last expression."""
    body = ast.parse(source).body
    last = ast.Expression(body.pop().value) if body and isinstance(body[-1], ast.Expr) else None  # type: ignore[attr-defined]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "<cell>", "exec"), namespace)
        value = None if last is None else eval(compile(last, "<cell>", "eval"), namespace)
    return printed.getvalue() + ("" if value is None else repr(value))


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_shows_what_its_cells_give(notebook: Path) -> None:
    cells = [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    namespace: dict[str, Any] = {}
    for cell in cells:
        stored = "".join(
            "".join(output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"])
            for output in cell["outputs"]
        )
        assert run_cell("".join(cell["source"]), namespace).strip() == stored.strip()
