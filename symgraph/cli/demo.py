"""``symgraph demo``: the main job from end to end on real data."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import symgraph as sg
from symgraph.cli.digits import BATCH, CLASSIFIERS, Classifier, Declared, Digits, declare, fit, load_digits, torch_step
from symgraph.comparison import Comparison
from symgraph.expr import Expr
from symgraph.measure import format_seconds

Array = np.ndarray[Any, Any]
_EXTRA = 'pip install "symgraph[examples]"'
_LEAST_ACCURACY = 0.96


class _Trained(NamedTuple):
    classifier: Classifier
    declared: Declared
    shown: dict[str, Expr]
    gradient_function: Any
    losses: list[float]
    accuracy: float
    parameters: dict[str, Array]


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("symgraph-demo"),
    show_default=True,
    help="Folder for formulas, source code and pictures; made if need be.",
)
def demo(output: Path) -> None:
    """Train two classifiers of handwritten digits, and show everything on the way.

    Declares a softmax regression and a network with one hidden layer, derives their gradients and prints the formulas,
    compiles, trains, compares the static with the dynamic engine (and PyTorch where it is installed) on the same
    weights, and saves formulas, emitted source, the curve of the loss and a picture of the graph. Data, split and
    weights to start with are fixed.

    \b
    Example:
      symgraph demo --output results
    """
    console = Console(highlight=False)
    started = time.perf_counter()
    _check_packages()
    data = load_digits()
    output.mkdir(parents=True, exist_ok=True)
    console.print(
        f"[bold]Handwritten digits[/]: {len(data.images)} images of 8×8 pixels to train with, "
        f"{len(data.test_images)} to test"
    )
    trained = [_derive_and_train(console, classifier, data) for classifier in CLASSIFIERS]
    console.print(_comparison_table([_compare(console, item, data) for item in trained]))
    console.print(
        f"A step is loss and gradients of {BATCH} images. The speed-up of the static engine\n"
        "over another is the median over rounds run in turns; a difference is relative to\n"
        "the largest entry of a gradient."
    )
    console.print(f"\n[bold]Saved[/] in {output.resolve()}:", soft_wrap=True)
    for name, meaning in _save(output, trained).items():
        console.print(f"  {name:28}{meaning}")
    console.print(f"\nThe whole demo took {format_seconds(time.perf_counter() - started)}.")
    poor = [item.classifier.name for item in trained if item.accuracy < _LEAST_ACCURACY]
    if poor:
        raise click.ClickException(f"{', '.join(poor)}: the test accuracy is below {_LEAST_ACCURACY:.0%}")


def _check_packages() -> None:
    needed = {"sklearn": "scikit-learn", "matplotlib": "matplotlib"}
    missing = [name for package, name in needed.items() if importlib.util.find_spec(package) is None]
    if missing:
        raise click.ClickException(f"the demo needs {' and '.join(missing)}, from the extra of examples: {_EXTRA}")


def _derive_and_train(console: Console, classifier: Classifier, data: Digits) -> _Trained:
    console.rule(f"[bold]{classifier.meaning}")
    start = time.perf_counter()
    declared = declare(classifier)
    derived = time.perf_counter() - start
    shown = _simplified({"loss": declared.loss} | declared.gradients)
    console.print("The loss and its gradients, as symgraph derived them:")
    for line in sg.to_text(shown).splitlines():
        console.print(f"    {line}", markup=False, soft_wrap=True)
    with sg.Session(declared.graph) as session:
        start = time.perf_counter()
        session.run(
            [declared.loss, declared.accuracy], {declared.X: data.images[:BATCH], declared.Y: data.labels[:BATCH]}
        )
        gradient_function = sg.function(
            [declared.X, declared.Y],
            [declared.loss, *declared.gradients.values()],
            session=session,
            name=f"{classifier.name}_gradient",
        )
        gradient_function(data.images[:BATCH], data.labels[:BATCH])
        compiled = time.perf_counter() - start
        console.print(f"\nDeclared and derived in {format_seconds(derived)}, compiled in {format_seconds(compiled)}.")
        losses, accuracy = _train(console, classifier, declared, session, data)
        parameters = {name: session[node] for name, node in declared.parameters.items()}
    return _Trained(classifier, declared, shown, gradient_function, losses, accuracy, parameters)


def _simplified(nodes: Mapping[str, Expr]) -> dict[str, Expr]:
    simple = sg.simplify(list(nodes.values()), kinds=("exact", "rounding"), groups=("algebra", "structure"))
    return dict(zip(nodes, simple, strict=True))


def _train(
    console: Console, classifier: Classifier, declared: Declared, session: sg.Session, data: Digits
) -> tuple[list[float], float]:
    def measured(images: Array, labels: Array) -> float:
        return float(session.run(declared.accuracy, {declared.X: images, declared.Y: labels}))

    columns = [
        TextColumn("Training"), BarColumn(), TextColumn("epoch {task.completed:.0f} of {task.total:.0f}"),
        TextColumn("loss {task.fields[loss]:.4f}, test accuracy {task.fields[accuracy]:.1%}"), TimeElapsedColumn(),
    ]  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=classifier.epochs, loss=float("nan"), accuracy=0.0)

        def show(epoch: int, loss: float) -> None:
            if epoch + 1 > progress.tasks[0].completed:
                accuracy = measured(data.test_images, data.test_labels)
                progress.update(task, completed=epoch + 1, loss=loss, accuracy=accuracy)

        losses = fit(declared, session, data, classifier.epochs, show)
        accuracy = measured(data.test_images, data.test_labels)
        progress.update(task, loss=losses[-1], accuracy=accuracy)
    known = measured(data.images, data.labels)
    console.print(f"Accuracy: [bold]{accuracy:.1%}[/] on the test images, {known:.1%} on those trained with.")
    return losses, accuracy


def _compare(console: Console, item: _Trained, data: Digits) -> tuple[str, Comparison]:
    images, labels = data.images[:BATCH], data.labels[:BATCH]
    parameters = list(item.parameters.values())
    others = {}
    if importlib.util.find_spec("torch") is not None:
        others["PyTorch"] = torch_step(item.classifier, images, labels, parameters)
    with console.status(f"comparing the engines: {item.classifier.name}"):
        result = sg.compare(
            item.classifier.loss,
            {"X": images, "Y": labels} | item.parameters,
            wrt=list(item.parameters),
            others=others,
            seconds=1.5,
        )
    return item.classifier.name, result


def _comparison_table(results: Sequence[tuple[str, Comparison]]) -> Table:
    table = Table(title="Loss and gradients, one step: the same weights, the same images", title_justify="left")
    for column in ("model", "engine"):
        table.add_column(column, no_wrap=True)
    for column in ("time of a step", "speed-up", "largest difference\nbetween gradients"):
        table.add_column(column, justify="right")
    for name, result in results:
        for row in result.rows:
            first = row is result.rows[0]
            table.add_row(
                name if first else "",
                row.name,
                format_seconds(row.seconds),
                "" if first else f"{row.ratio:.1f} ×",
                "" if first else f"{row.gradient_difference:.1e}",
                end_section=row is result.rows[-1],
            )
    return table


def _save(output: Path, trained: Sequence[_Trained]) -> dict[str, str]:
    """Write every file, and return what is in each."""
    saved = {"loss.png": "the loss at each step"}
    _plot(output / "loss.png", trained)
    for item in trained:
        name, declared = item.classifier.name, item.declared
        nodes = [declared.loss, *declared.gradients.values()]
        texts = {
            f"{name}.txt": (sg.to_text(item.shown), "loss and gradients as text"),
            f"{name}.tex": (_document(item), "loss and gradients as a LaTeX document"),
            f"{name}_numpy.py": (sg.to_source(nodes, name=f"{name}_gradient"), "the same in NumPy alone"),
            f"{name}_compiled.py": (item.gradient_function.source, "the module that was compiled"),
            f"{name}_loops.txt": (item.gradient_function.loops, "its loops, for people"),
        }
        for file, (text, meaning) in texts.items():
            (output / file).write_text(text.rstrip("\n") + "\n", encoding="utf-8")
            saved[file] = meaning
        sg.view.graph({"loss": declared.loss}).save(output / f"{name}.svg")
        sg.view.graph(item.shown).save(output / f"{name}_gradient.svg")
        saved[f"{name}.svg"] = "a picture of the graph of the loss"
        saved[f"{name}_gradient.svg"] = "the same with the gradients"
    return saved


def _document(item: _Trained) -> str:
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage{amsmath,amssymb}",
            r"\begin{document}",
            f"{item.classifier.meaning.partition(',')[0].capitalize()}: the loss and its gradients.",
            r"\[",
            sg.to_latex(item.shown),
            r"\]",
            r"\end{document}",
        ]
    )


def _plot(path: Path, trained: Sequence[_Trained]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss", yscale="log")
    for item in trained:
        axes.plot(item.losses, linewidth=1, label=f"{item.classifier.meaning}: {item.accuracy:.1%} right")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
