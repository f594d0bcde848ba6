"""The house is built in layers: imports point down, never sideways between rooms, never in a circle."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import symgraph

PACKAGE = Path(symgraph.__file__).parent

# From the ground up. A room imports from the rows below its own, and its own files from each other.
LAYERS = [
    ["errors", "measure", "structure"],
    ["dims", "options"],
    ["arraytype"],
    ["op"],
    ["value"],
    ["expr"],
    ["graph"],
    ["ops"],
    ["compile", "derive", "interpret", "rewrite", "tracing"],
    ["compile.pipeline", "gradients"],
    ["eager", "export", "runtime"],
    ["hessian", "train", "transcription", "view"],
    ["comparison"],
    ["models"],
    [""],
    ["cli"],
]
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
EXTRAS = {"graphviz", "jax", "matplotlib", "sklearn", "torch"}
ONLY_IN = {
    "numba": "compile",
    "llvmlite": "compile",
    "opt_einsum": "compile",
    "sympy": "export",
    "click": "cli",
    "rich": "cli",
}


def module_name(path: Path) -> str:
    parts = ["symgraph", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}


def imported(statement: ast.AST) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        assert not statement.level, "imports name modules in full"
        for alias in statement.names:
            full = f"{statement.module}.{alias.name}"
            yield full if full in SOURCES else str(statement.module)


def imports_of(tree: ast.AST) -> list[tuple[str, int]]:
    return [
        (name, node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imported(node)
    ]


def room_of(module: str) -> str:
    inner = module.removeprefix("symgraph").removeprefix(".")
    rooms = [room for room in RANK if room and f"{inner}.".startswith(f"{room}.")]
    return max(rooms, key=len, default=inner)


def own_imports(module: str) -> list[tuple[str, int]]:
    found = [(name, line) for name, line in imports_of(TREES[module]) if name.split(".")[0] == "symgraph"]
    return [(name, line) for name, line in found if module != "symgraph" and name != module]


@pytest.mark.parametrize("module", SOURCES)
def test_module_stands_in_a_room_and_imports_only_from_rooms_below(module: str) -> None:
    room = room_of(module)
    assert room in RANK, f"{module} is in no room: give it one in LAYERS, and say in ARCHITECTURE.md what it is for"
    wrong = [
        f"{SOURCES[module]}:{line} imports {name}"
        for name, line in own_imports(module)
        if room_of(name) != room and RANK[room_of(name)] >= RANK[room]
    ]
    assert not wrong, "\n".join(wrong)


def test_rule_of_rooms_sees_an_import_that_points_up() -> None:
    ranks = [RANK[room_of(f"symgraph.{module}")] for module in ("cli.main", "compile.pipeline", "ops.creation", "dims")]
    assert ranks == sorted(set(ranks), reverse=True)
    assert room_of("symgraph.compile.kernels.special") == "compile"
    assert room_of("symgraph") == ""


def test_no_circle_of_imports() -> None:
    uses = {module: {name for name, _ in own_imports(module) if name in SOURCES} for module in SOURCES}
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("module", SOURCES)
def test_no_import_inside_a_function_except_of_optional_packages(module: str) -> None:
    functions = [n for n in ast.walk(TREES[module]) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    wrong = {
        f"{SOURCES[module]}:{line} imports {name} inside {function.name}"
        for function in functions
        for name, line in imports_of(function)
        if name.split(".")[0] not in EXTRAS
    }
    assert not wrong, "\n".join(sorted(wrong))


@pytest.mark.parametrize("module", SOURCES)
def test_large_packages_are_imported_in_one_room_only(module: str) -> None:
    top = module.removeprefix("symgraph").removeprefix(".").split(".")[0]
    wrong = [
        f"{SOURCES[module]}:{line} imports {name}, which only {ONLY_IN[name.split('.')[0]]}/ may"
        for name, line in imports_of(TREES[module])
        if ONLY_IN.get(name.split(".")[0], top) != top
    ]
    assert not wrong, "\n".join(wrong)


def run_python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": ""}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return run.stdout


def test_import_of_symgraph_leaves_out_what_is_large() -> None:
    heavy = "{'numba', 'llvmlite', 'opt_einsum', 'sympy', 'scipy', 'matplotlib', 'sklearn', 'click', 'rich'}"
    loaded = run_python(f"import sys, symgraph; print(sorted({heavy} & set(sys.modules)))")
    assert loaded.strip() == "[]"


def test_import_of_symgraph_takes_less_than_three_tenths_of_a_second() -> None:
    # The processor's time, so that other work on the machine does not count; single-threaded, it is the least wait.
    code = "import time; start = time.process_time(); import symgraph; print(time.process_time() - start)"
    assert min(float(run_python(code)) for _ in range(7)) < 0.3
