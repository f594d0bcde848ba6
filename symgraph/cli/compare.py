"""``symgraph compare``: the engines side by side on named models."""

from __future__ import annotations

from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from symgraph.comparison import Comparison
from symgraph.comparison import compare as compare_engines
from symgraph.models import MODELS, peer_steps, symgraph_library

_LISTED = "\n".join(f"  {name:11} {model.meaning}" for name, model in MODELS.items())


@click.command(epilog=f"\b\nModels:\n{_LISTED}")
@click.argument("model", required=False, type=click.Choice(list(MODELS)), metavar="[MODEL]")
@click.option(
    "--seconds", type=click.FloatRange(0.01, 600), default=2.0, show_default=True, help="How long a model is timed."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the made-up data.")
def compare(model: str | None, seconds: float, seed: int) -> None:
    """Compare the static engine with the dynamic one, and with PyTorch and JAX where they are installed.

    Each computes the value and the gradients of MODEL (every model when none is named) on the same numbers. All are
    warmed up and then timed in turns; times are medians, and ratios are medians of the ratios of each round. A
    difference between gradients is relative to the largest entry.

    \b
    Examples:
      symgraph compare logistic
      symgraph compare --seconds 5
    """
    console = Console()
    library = symgraph_library()
    for name in [model] if model else MODELS:
        chosen = MODELS[name]
        arrays = chosen.data(np.random.default_rng(seed))
        with console.status(f"{name}: deriving, compiling, timing"):
            result = compare_engines(
                lambda *values, loss=chosen.loss: loss(library, *values),
                arrays,
                wrt=range(chosen.parameters),
                others=peer_steps(chosen, arrays),
                seconds=seconds,
                title=f"{name}: {chosen.meaning}",
            )
        console.print(comparison_table(result))


def comparison_table(result: Comparison) -> Table:
    """Return a comparison as a table for the terminal."""
    table = Table(title=f"{result.title}\nvalue and gradients", title_justify="left", caption=result.footnote)
    table.caption_justify = "left"
    for i, column in enumerate(Comparison.columns):
        styles: dict[str, Any] = {"justify": "right", "no_wrap": True} if i else {"no_wrap": True}
        table.add_column(column, **styles)
    for row in result.rows:
        table.add_row(*Comparison.cells(row))
    return table
