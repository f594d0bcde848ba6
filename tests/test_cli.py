"""The command line: what it prints, its exit codes, and that a user's mistake never shows a traceback."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
from click.testing import CliRunner, Result

import symgraph as sg
import symgraph.eager as torch
from symgraph.cli.derive import partial_derivatives
from symgraph.cli.digits import CLASSIFIERS, Digits, declare, load_digits
from symgraph.cli.formula import FormulaError, functions, parse_formula
from symgraph.cli.main import main
from symgraph.errors import CompileError
from symgraph.models import MODELS, peer_steps, symgraph_library
from symgraph.transcription import transcribe


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def parse(text: str) -> tuple[sg.Expr, dict[str, sg.Expr]]:
    symbols: dict[str, sg.Expr] = {}
    with sg.Graph():
        return parse_formula(text, lambda name: symbols.setdefault(name, sg.placeholder(name))), symbols


def test_first_derivatives_are_printed_one_a_line() -> None:
    result = run("derive", "x*sin(y)", "--wrt", "y,x")
    assert result.exit_code == 0
    assert result.output == "f = x*sin(y)\ndf/dy = x*cos(y)\ndf/dx = sin(y)\n"


def test_second_derivatives_are_those_of_all_pairs() -> None:
    result = run("derive", "x**2*sin(y)", "--order", "2", "--format", "sympy")
    assert result.output.splitlines() == [
        "f = x**2*sin(y)",
        "d2f/dx2 = 2*sin(y)",
        "d2f/(dx dy) = 2*x*cos(y)",
        "d2f/dy2 = -x**2*sin(y)",
    ]


def test_a_symbol_named_like_the_formula_does_not_clash() -> None:
    assert run("derive", "2*f").output == "F = 2*f\ndF/df = 2\n"


def test_source_code_defines_the_function_and_its_derivatives() -> None:
    result = run("derive", "b*exp(-a*x)", "--wrt", "a,b", "--format", "numpy", "--name", "model")
    namespace: dict[str, Any] = {}
    exec(result.output, namespace)
    b, a, x = 1.5, 0.3, 2.0
    found = namespace["model"](b, a, x)
    np.testing.assert_allclose(found, [b * np.exp(-a * x), -b * x * np.exp(-a * x), np.exp(-a * x)], rtol=1e-14)


FORMULAS = [
    "x**3*y - y/x + 7", "sin(x)*cosh(y)**2", "log(1 + x**2)*atan(y)", "sqrt(x*y + 4)", "exp(-x**2/2)/sqrt(2*pi)",
    "x**y + 2**x", "atan2(y, x)", "erf(x) + lgamma(y)", "E**(x*y)", "-(x - y)**-2",
]  # fmt: skip


@pytest.mark.parametrize(("formula", "order"), list(itertools.product(FORMULAS, (1, 2, 3))))
def test_derivatives_agree_with_sympy(formula: str, order: int) -> None:
    point = {"x": 1.3, "y": 0.7}
    value, symbols = parse(formula)
    names = sorted(symbols)
    found = partial_derivatives(value, [symbols[name] for name in names], order)
    reference = sympy.sympify(formula.replace("lgamma", "loggamma"))
    pairs = list(itertools.combinations_with_replacement(names, order))
    assert len(found) == len(pairs)
    for node, by in zip(found, pairs, strict=True):
        expected = float(sympy.N(sympy.diff(reference, *by).subs({name: point[name] for name in names}), 30))
        actual = sg.evaluate(node, {symbols[name]: point[name] for name in names})
        np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-11, err_msg=f"{formula} by {by}")


def test_every_function_of_a_formula_can_be_called() -> None:
    for name, function in functions().items():
        count = 3 if name == "where" else function.op.arity if hasattr(function, "op") else 1
        node, _ = parse(f"{name}({', '.join(['x'] * count)})")
        assert node.op.name.startswith(name) or name in ("clip", "leaky_relu", "elu"), name


MISTAKES = {
    "": "the formula is empty",
    "x +": "not an expression",
    "x y": "not an expression",
    "__import__('os').system('true')": "calls other than name(argument, ...)",
    "__import__('os')": "__import__ is not a function",
    "x.__class__": "attributes",
    "().__class__": "attributes",
    "(lambda: 1)()": "calls other than",
    "[x for x in y]": "ListComp",
    "x[0]": "indexing",
    "'text'": "real numbers only",
    "1j*x": "real numbers only",
    "True": "real numbers only",
    "f'{x}'": "strings",
    "x := 3": "not an expression",
    "x^2": "powers are written x**2",
    "x and y": "logical_and",
    "x < y < z": "two values",
    "x if y else z": "where(condition, value, otherwise)",
    "sn(x)": "did you mean sin?",
    "sin": "it is written sin(...)",
    "sin(x, y)": "does not take 2 argument(s)",
    "sin(*x)": "starred",
    "sin(x=1)": "calls other than",
    "_x": "start with a letter",
    "1/0": "no number that float64 can hold",
    "(-1)**0.5": "no number that float64 can hold",
    "2**10**10": "no number that float64 can hold",
    "9**9**9**9": "no number that float64 can hold",
    "1e999": "too large",
    "9" * 400: "too large",
    "9" * 5000: "too large",
    "x" + "+x" * 4900: "nested too deeply",
    "(" * 500 + "x" + ")" * 500: "",
    "x" * 10_001: "at most 10000 are read",
    "x\0": "",
    "yield x": "",
}


@pytest.mark.parametrize("formula", MISTAKES, ids=lambda text: text[:24].replace("\0", "NUL") or "empty")
def test_formula_that_cannot_be_read_is_refused_at_once(formula: str) -> None:
    start = time.perf_counter()
    result = run("derive", "--", formula)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert MISTAKES[formula] in result.stderr
    assert time.perf_counter() - start < 5


def test_a_mistake_is_pointed_at() -> None:
    with pytest.raises(FormulaError) as refused:
        parse("sin(x) + sn(y)")
    assert str(refused.value).splitlines()[1:] == ["  sin(x) + sn(y)", "           ^"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x**2", "--wrt", "y"], "'y' does not occur in the formula, which has x"),
        (["x**2", "--wrt", "x,x"], "'x' is named twice"),
        (["3"], "no symbols"),
        (["x", "--order", "9"], "9 is not in the range"),
        (["x", "--format", "cobol"], "'cobol' is not one of"),
        (["a+b+c+d+e+f+g+h+i+j", "--order", "6"], "more than 200 derivatives"),
        ([], "Missing argument"),
    ],
)
def test_wrong_call_of_derive_is_refused(arguments: list[str], message: str) -> None:
    result = run("derive", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_name_that_is_no_identifier_is_refused() -> None:
    result = run("derive", "x", "--format", "numpy", "--name", "my function")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")


@pytest.mark.parametrize("command", [[], *([name] for name in main.commands)], ids=lambda path: " ".join(path) or "all")
def test_help_shows_an_example(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert f"symgraph {command[0] if command else 'demo'}" in result.output.partition("Example")[2]


def test_version_is_the_packages_own() -> None:
    assert run("--version").output == f"symgraph, version {sg.__version__}\n"


def test_errors_of_symgraph_are_one_line_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise CompileError("this cannot be compiled")

    monkeypatch.setattr("symgraph.cli.derive.partial_derivatives", fail)
    result = run("derive", "x")
    assert (result.exit_code, result.stderr) == (1, "Error: this cannot be compiled\n")


def test_module_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "symgraph.cli", "derive", "x**2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(sg.__file__).parents[1])}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (0, "f = x**2\ndf/dx = 2*x\n")


def test_cache_lists_and_clears_compiled_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    assert run("cache").output.startswith("0 compiled functions")
    with sg.Graph():
        x = sg.placeholder("x")
        assert sg.function([x], x * 3)(2.0) == 6.0
    listed = run("cache")
    assert "1 compiled functions" in listed.output
    assert "symgraph_" in listed.output
    assert run("cache", "--clear").output == f"1 compiled functions removed from {tmp_path / 'cache'}\n"
    assert run("cache").output.startswith("0 compiled functions")


@pytest.mark.parametrize("name", MODELS)
def test_models_have_the_same_gradients_in_every_library(name: str) -> None:
    model = MODELS[name]
    arrays = {
        key: array[:50] if key in ("X", "Y", "y") else array
        for key, array in model.data(np.random.default_rng(1)).items()
    }
    library = symgraph_library()
    result = sg.compare(
        lambda *values: model.loss(library, *values), arrays, wrt=range(model.parameters),
        others=peer_steps(model, arrays), seconds=0.01,
    )  # fmt: skip
    assert len(result.rows) == 2 + sum(importlib.util.find_spec(package) is not None for package in ("torch", "jax"))
    for row in result.rows:
        assert row.gradient_difference < 1e-12, row
        assert row.value_difference < 1e-12, row


def test_compare_prints_a_table_of_one_model() -> None:
    result = run("compare", "rosenbrock", "--seconds", "0.01")
    assert result.exit_code == 0
    assert "rosenbrock: Rosenbrock's valley" in result.output
    assert "symgraph, static" in result.output
    assert "symgraph, dynamic" in result.output


def test_compare_refuses_an_unknown_model() -> None:
    result = run("compare", "perceptron")
    assert result.exit_code == 2
    assert "'perceptron' is not one of 'rosenbrock'" in result.stderr


def test_comparison_shows_a_wrong_gradient() -> None:
    def wrong() -> tuple[Any, list[Any]]:
        return np.float64(14.0), [np.array([2.0, 4.0, 6.6])]

    result = sg.compare(lambda x: sg.sum(x**2), [np.array([1.0, 2.0, 3.0])], others={"wrong": wrong}, seconds=0.01)
    assert result.rows[2].gradient_difference == pytest.approx(0.1)
    assert "wrong" in repr(result)
    assert "1.0e-01" in repr(result)


def written_for_the_dynamic_engine(x: Any, w: Any, labels: Any) -> Any:
    z = torch.tanh(x.view(-1, 2).matmul(w))
    for _ in range(3 if z.sum().item() > -100 else 0):
        z = torch.sigmoid(z) * z + 0.5
    picked = z[torch.arange(3), labels]
    return -(picked.abs() + 1).log().mean() + torch.where(z > 0.6, z**2, z).sum()


def test_function_with_the_names_of_pytorch_is_compared_too() -> None:
    rng = np.random.default_rng(5)
    inputs = [rng.standard_normal(6), rng.standard_normal((2, 4)), np.array([0, 3, 1])]
    result = sg.compare(written_for_the_dynamic_engine, inputs, seconds=0.01)
    assert [row.name for row in result.rows] == ["symgraph, static", "symgraph, dynamic"]
    assert result.rows[1].gradient_difference < 1e-13
    assert result.rows[1].value_difference < 1e-14


def test_transcription_keeps_operations_and_names_what_it_cannot() -> None:
    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2

    with sg.Graph():
        x = sg.placeholder("x", (2,))
    leaf = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert sg.to_text(transcribe(lambda t: torch.exp(t) * t, [leaf], [x])) == "exp(x)*x"
    with pytest.raises(sg.DeclarationError, match="OwnBackward has no static form"):
        transcribe(Own.apply, [leaf], [x])
    with pytest.raises(sg.DeclarationError, match="no tensor that depends"):
        transcribe(lambda t: 3.0, [leaf], [x])


@pytest.mark.parametrize(
    ("fn", "inputs", "wrt", "message"),
    [
        (sg.sum, [np.arange(3)], None, "no input of a floating-point dtype"),
        (sg.sum, {"x": np.ones(3)}, ["y"], "no input 'y' among x"),
        (lambda x: 3.0, [np.ones(3)], None, "returns float, not one array"),
        (lambda x: x @ np.ones(4), [np.ones(3)], None, "symgraph, static: "),
    ],
)
def test_comparison_that_makes_no_sense_is_refused(fn: Callable[..., Any], inputs: Any, wrt: Any, message: str) -> None:
    with pytest.raises(sg.SymgraphError, match=message):
        sg.compare(fn, inputs, wrt=wrt)


def test_digits_are_split_without_overlap() -> None:
    pytest.importorskip("sklearn")
    data = load_digits()
    assert (len(data.images), len(data.test_images)) == (1437, 360)
    assert data.images.min() == 0 <= data.images.max() == 1
    assert {row.tobytes() for row in data.images}.isdisjoint({row.tobytes() for row in data.test_images})
    np.testing.assert_array_equal(data.labels.sum(axis=1), 1)


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda classifier: classifier.name)
def test_gradients_of_the_demo_agree_with_central_differences(classifier: Any) -> None:
    rng = np.random.default_rng(3)
    declared = declare(classifier)
    X, Y = rng.random((7, 64)), np.eye(10)[rng.integers(0, 10, 7)]
    values = dict(zip(
        declared.parameters.values(), classifier.initial_parameters().values(), strict=True))  # fmt: skip
    feeds = {declared.X: X, declared.Y: Y}
    directions = {node: rng.standard_normal(array.shape) for node, array in values.items()}

    def moved(step: float) -> Any:
        return sg.evaluate(declared.loss, feeds | {node: a + step * directions[node] for node, a in values.items()})

    slope = sum(
        np.sum(sg.evaluate(gradient, feeds | values) * direction)
        for gradient, direction in zip(declared.gradients.values(), directions.values(), strict=True)
    )
    np.testing.assert_allclose(slope, (moved(1e-5) - moved(-1e-5)) / 2e-5, rtol=1e-8)


def test_demo_trains_compares_and_saves(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    result = run("demo", "--output", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    for text in ("dW1 = ", "symgraph, dynamic", "speed-up", "97.", str(tmp_path / "out")[:20]):
        assert text in result.output
    suffixes = ["", "_gradient", "_numpy", "_compiled", "_loops"]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    stems = {name.partition(".")[0] for name in written}
    assert {f"{name}{part}" for name in ("softmax", "network") for part in suffixes} <= stems
    assert (tmp_path / "out" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "out" / "network_gradient.svg").read_text(encoding="utf-8")
    assert r"X^\top" in (tmp_path / "out" / "softmax.tex").read_text(encoding="utf-8")
    compile((tmp_path / "out" / "network_compiled.py").read_text(encoding="utf-8"), "network_compiled.py", "exec")
    check_saved_module(tmp_path / "out" / "network_numpy.py", load_digits())


def check_saved_module(path: Path, data: Digits) -> None:
    namespace: dict[str, Any] = {}
    exec(path.read_text(encoding="utf-8"), namespace)
    classifier = CLASSIFIERS[1]
    declared = declare(classifier)
    arrays = [data.test_images, data.test_labels, *classifier.initial_parameters().values()]
    leaves = [declared.X, declared.Y, *declared.parameters.values()]
    loss, *gradients = namespace["network_gradient"](*arrays)
    feeds = dict(zip(leaves, arrays, strict=True))
    np.testing.assert_allclose(loss, sg.evaluate(declared.loss, feeds), rtol=1e-12)
    for found, node in zip(gradients, declared.gradients.values(), strict=True):
        np.testing.assert_allclose(found, sg.evaluate(node, feeds), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("missing", ["sklearn", "matplotlib"])
def test_demo_says_which_extra_is_missing(missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == missing else find(name, *rest))
    result = run("demo", "--output", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert 'pip install "symgraph[examples]"' in result.stderr
    assert not (tmp_path / "out").exists()
