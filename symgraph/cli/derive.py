"""``symgraph derive``: the derivatives of a formula, printed as formulas or as source code."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import click

import symgraph as sg
from symgraph.cli.formula import FormulaError, parse_formula
from symgraph.export.latex import latex_name
from symgraph.export.source import LANGUAGES
from symgraph.expr import Expr

_FORMATS = ["text", "latex", "sympy", *LANGUAGES]
_HIGHEST_ORDER = 6
_MOST_DERIVATIVES = 200


@click.command()
@click.argument("formula")
@click.option(
    "--wrt",
    metavar="NAMES",
    multiple=True,
    help="Symbols to differentiate by, such as x,y; may be given several times. All of them when not given.",
)
@click.option(
    "--order", type=click.IntRange(1, _HIGHEST_ORDER), default=1, show_default=True, help="Order of the derivatives."
)
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), default="text", show_default=True, help="What is printed."
)
@click.option("--name", default="formula", show_default=True, help="What the function is called in source code.")
def derive(formula: str, wrt: tuple[str, ...], order: int, form: str, name: str) -> None:
    """Differentiate FORMULA and print all its partial derivatives of one order.

    FORMULA has numbers, names, + - * / **, comparisons and functions such as sin, exp, where, maximum;
    pi and E are numbers. It is read, never run.

    \b
    Examples:
      symgraph derive "x**2*sin(y)"
      symgraph derive "x**2*sin(y)" --wrt x,y --order 2
      symgraph derive "log(1 + exp(-a*x))" --wrt a --format latex
      symgraph derive "b1*(1 - exp(-b2*x))" --wrt b1,b2 --format numpy > jacobian.py
    """
    symbols: dict[str, Expr] = {}
    with sg.Graph():
        try:
            value = parse_formula(formula, lambda symbol: symbols.setdefault(symbol, sg.placeholder(symbol)))
        except FormulaError as error:
            raise click.BadParameter(str(error), param_hint="FORMULA") from None
    by = _chosen(wrt, symbols)
    labels = _labels(by, order, symbols, form == "latex")
    derivatives = partial_derivatives(value, [symbols[symbol] for symbol in by], order)
    named = dict(zip(labels, derivatives, strict=True))
    own = _own_name(symbols)
    if form in LANGUAGES:
        click.echo(
            sg.to_source([value, *derivatives], inputs=list(symbols.values()), language=form, name=name), nl=False
        )
    elif form == "text":
        click.echo(sg.to_text({own: value} | named))
    elif form == "latex":
        click.echo(_labelled_latex({own: value} | named))
    else:
        for label, node in ({own: value} | named).items():
            click.echo(f"{label} = {sg.to_sympy(node)}")


def partial_derivatives(value: Expr, xs: Sequence[Expr], order: int) -> list[Expr]:
    """Return all partial derivatives of one order, in the order of ``combinations_with_replacement``."""
    found: dict[tuple[Expr, ...], Expr] = {(): value}
    for depth in range(order):
        longer: dict[tuple[Expr, ...], Expr] = {}
        for taken, node in found.items():
            rest = xs[xs.index(taken[-1]) if depth else 0 :]
            for x, derivative in zip(rest, sg.gradients(node, rest, unconnected="zero"), strict=True):
                longer[*taken, x] = _tidied(derivative)
        found = longer
    return [found[xs_taken] for xs_taken in itertools.combinations_with_replacement(xs, order)]


def _tidied(node: Expr) -> Expr:
    return sg.simplify(node, kinds=("exact", "rounding"), groups=("algebra", "structure"))


def _labelled_latex(named: dict[str, Expr]) -> str:
    """Return LaTeX with labels as they are; :func:`symgraph.to_latex` reads its labels as names of variables."""
    stand_ins = {f"output_{i}": label for i, label in enumerate(named)}
    text = sg.to_latex(dict(zip(stand_ins, named.values(), strict=True)))
    for name, label in stand_ins.items():
        text = text.replace(latex_name(name), label)
    return text


def _chosen(wrt: Sequence[str], symbols: dict[str, Expr]) -> list[str]:
    if not symbols:
        raise click.BadParameter("the formula has no symbols to differentiate by", param_hint="FORMULA")
    names = [name.strip() for given in wrt for name in given.split(",")] or list(symbols)
    for name in names:
        if name not in symbols:
            raise click.BadParameter(
                f"{name!r} does not occur in the formula, which has {', '.join(symbols)}", param_hint="--wrt"
            )
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise click.BadParameter(f"{doubled[0]!r} is named twice", param_hint="--wrt")
    return names


def _own_name(symbols: dict[str, Expr]) -> str:
    return next(name for name in ("f", "F", "value", "the_formula") if name not in symbols)


def _labels(by: Sequence[str], order: int, symbols: dict[str, Expr], latex: bool) -> list[str]:
    own = _own_name(symbols)
    taken = list(itertools.islice(itertools.combinations_with_replacement(by, order), _MOST_DERIVATIVES + 1))
    if len(taken) > _MOST_DERIVATIVES:
        raise click.BadParameter(f"more than {_MOST_DERIVATIVES} derivatives: name fewer symbols", param_hint="--wrt")
    return [_label(own, Counter(names), order, latex) for names in taken]


def _label(own: str, counts: Counter[str], order: int, latex: bool) -> str:
    if latex:
        power = f"^{{{order}}}" if order > 1 else ""
        shown = {name: latex_name(name) for name in counts}
        below = r" \, ".join(rf"\partial {shown[name]}{f'^{{{n}}}' if n > 1 else ''}" for name, n in counts.items())
        return rf"\frac{{\partial{power} {own}}}{{{below}}}"
    below = " ".join(f"d{name}{n if n > 1 else ''}" for name, n in counts.items())
    return f"d{order if order > 1 else ''}{own}/{below if len(counts) == 1 else f'({below})'}"
