"""The command ``symgraph``. A user's mistake ends with one clear message and an exit code, never a traceback."""

from __future__ import annotations

from typing import Any

import click

import symgraph
from symgraph.cli.cache import cache
from symgraph.cli.compare import compare
from symgraph.cli.demo import demo
from symgraph.cli.derive import derive
from symgraph.errors import SymgraphError


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SymgraphError, OSError) as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(symgraph.__version__, prog_name="symgraph")
def main() -> None:
    """Static-graph symbolic differentiation, compiled to native code.

    \b
    Examples:
      symgraph demo                                  train two networks on handwritten digits
      symgraph derive "x**2*sin(y)" --wrt x,y        print derivatives as formulas
      symgraph compare logistic                      the static engine beside the dynamic one
      symgraph cache                                 list compiled functions on disk

    Exit codes: 0 done, 1 it could not be done, 2 it was asked for in a wrong way.
    """


main.add_command(demo)
main.add_command(derive)
main.add_command(compare)
main.add_command(cache)
