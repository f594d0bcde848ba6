"""Run the benchmarks: every workload, every contestant, one command.

python -m benchmarks                       everything, into benchmarks/results.json (about an hour)
python -m benchmarks gmm logistic -c JAX   some workloads, symgraph and the limit beside some peers
python -m benchmarks --quick               fewer rounds, to see that all of it works
python -m benchmarks --table --plot        no measuring: the README's table and the chart from the results
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.suite import conduct, report
from benchmarks.suite.contest import LIMIT, NAMES, SYMGRAPH, Case, Workload
from benchmarks.suite.machine import facts
from benchmarks.suite.plot import draw_chart
from benchmarks.suite.timing import QUICK, Pace
from benchmarks.workloads import load, names

MEASURES = ("rounds", "first", "memory")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("workloads", nargs=-1, type=click.Choice(names()), metavar="[WORKLOAD]...")
@click.option("-c", "--contestant", "contestants", multiple=True, type=click.Choice(NAMES), help="Only these peers.")
@click.option("-k", "--case", "text", default="", help="Only cases whose size has this text in it.")
@click.option(
    "-m",
    "--measure",
    "measures",
    multiple=True,
    type=click.Choice(MEASURES),
    help="Times in rounds, first calls, or memory; all when not given.",
)
@click.option("--quick", is_flag=True, help="Few rounds, one first call: figures to see that it works.")
@click.option("--threads", default=2, show_default=True, help="How many threads everyone gets.")
@click.option("--table", is_flag=True, help="Write the README's table from the results, and measure nothing.")
@click.option("--plot", is_flag=True, help="Draw the chart from the results, and measure nothing.")
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    default=report.RESULTS,
    help="The results file.",
)
def main(
    workloads: tuple[str, ...],
    contestants: tuple[str, ...],
    text: str,
    measures: tuple[str, ...],
    quick: bool,
    threads: int,
    table: bool,
    plot: bool,
    results: Path,
) -> None:
    """Measure, or make the table and the chart."""
    if not (table or plot):
        chosen = [load(name) for name in workloads or names()]
        cases = [(workload, case) for workload in chosen for case in workload.cases if text in case.label]
        group = [name for name in NAMES if not contestants or name in (*contestants, SYMGRAPH, LIMIT)]
        _measure(
            cases,
            group,
            measures or MEASURES,
            quick,
            threads,
            results,
            memory=not (workloads or text) or "memory" in measures,
        )
    found = report.read_results(results)
    if plot:
        draw_chart(found)
        Console().print(f"wrote {report.CHART.parent.name}/{report.CHART.name}")
    if table:
        report.write_table(found)
        Console().print(f"wrote the table of {len(found['rows'])} rows into {report.README.name}")


def _measure(
    cases: list[tuple[Workload, Case]],
    group: list[str],
    measures: tuple[str, ...],
    quick: bool,
    threads: int,
    path: Path,
    memory: bool,
) -> None:
    """Measure case after case, and write the results file after each."""
    console = Console()
    order = [(name, case.label) for name in names() for case in load(name).cases]
    results = report.for_machine(report.read_results(path), facts(threads))
    results["date"] = datetime.date.today().isoformat()
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        whole = progress.add_task("cases", total=len(cases))
        now = progress.add_task("", total=None)
        for workload, case in cases:
            title = f"{workload.name}, {case.label}"

            def watch(text: str, title: str = title) -> None:
                progress.update(now, description=f"{title}: {text}")

            watch("starting")
            try:
                row = _measure_case(workload, case, group, measures, quick, threads, watch)
            except (conduct.Died, RuntimeError) as error:
                console.print(f"[red]{title}: {error}[/]")
            else:
                results["rows"] = report.with_row(results["rows"], row, order)
                report.write_results(results, path)
                _show(console, row)
            progress.advance(whole)
        if memory and "memory" in measures:
            results["memory"] = conduct.memory_peaks(threads, lambda text: progress.update(now, description=text))
            report.write_results(results, path)
            for name, told in results["memory"]["contestants"].items():
                console.print(f"peak memory: {name}: {told}")
        progress.remove_task(now)
    for line in report.reasons(results):
        console.print(f"[dim]{line}[/]", highlight=False)


def _measure_case(
    workload: Workload,
    case: Case,
    group: list[str],
    measures: tuple[str, ...],
    quick: bool,
    threads: int,
    watch: conduct.Watch,
) -> dict[str, Any]:
    row: dict[str, Any] = {"workload": workload.name, "case": case.label, "dtype": case.dtype, "contestants": {}}
    compiling = workload.measure == "compile"
    if "rounds" in measures and not compiling:
        row = conduct.case_figures(workload, case, group, threads, QUICK if quick else Pace(), watch)
    if "first" in measures or compiling:
        who = [name for name in (group if compiling else conduct.COMPILERS) if name in workload.contestants]
        row["first"] = conduct.first_calls(workload, case, who, threads, 1 if quick else 3, watch)
        row["measure"] = workload.measure
    return row


def _show(console: Console, row: dict[str, Any]) -> None:
    """Print what a case gave, on a line or two."""
    parts = [f"[bold]{row['workload']}, {row['case']}[/]"]
    for name, found in row["contestants"].items():
        if "seconds" in found:
            times = f" ({found['over_symgraph']:.2f}×)" if "over_symgraph" in found else ""
            parts.append(f"{name} {report.duration(found['seconds'])}{times}")
        else:
            parts.append(f"[yellow]{name} {found['status']}[/]")
    for name, found in row.get("first", {}).items():
        kinds = [f"{kind} {report.duration(sum(found[kind].values()))}" for kind in ("cold", "warm") if kind in found]
        parts.append(f"[cyan]{name} first: {', '.join(kinds) or found['failed']}[/]")
    console.print("  ".join(parts), highlight=False, soft_wrap=not console.is_terminal)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
