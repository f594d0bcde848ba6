"""``symgraph cache``: what compiled functions are on disk."""

from __future__ import annotations

import time

import click
from rich.console import Console
from rich.table import Table

from symgraph.compile.cache import clear, directory, entries


@click.command()
@click.option("--clear", "clearing", is_flag=True, help="Remove every compiled function.")
def cache(clearing: bool) -> None:
    """List the compiled functions kept on disk, or remove them.

    They are kept in your user cache folder, or in the folder that SYMGRAPH_CACHE_DIR names; a function that is not
    there is compiled again.

    \b
    Examples:
      symgraph cache
      symgraph cache --clear
    """
    folder = directory()
    if clearing:
        click.echo(f"{clear()} compiled functions removed from {folder}")
        return
    found = sorted(entries(), key=lambda entry: -entry.last_used)
    if found:
        table = Table("function", "size", "last used")
        table.columns[1].justify = "right"
        for entry in found:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.last_used))
            table.add_row(entry.name, f"{entry.size / 1024:.0f} KiB", used)
        Console().print(table)
    total = sum(entry.size for entry in found)
    click.echo(f"{len(found)} compiled functions, {total / 2**20:.1f} MiB, in {folder}")
