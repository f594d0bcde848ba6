"""The results file, and the README's table made from it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.suite.contest import EAGER, PEERS, SYMGRAPH

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results.json"
README = ROOT / "README.md"
CHART = ROOT / "docs" / "benchmark.svg"
START, END = "<!-- benchmark table -->", "<!-- end -->"
LEGEND = (
    "Value and derivatives on {where}. A peer's column says how many times symgraph's time it takes (bold: the best "
    "peer), the column *by hand* how many times as long symgraph takes as a kernel written by hand. The first result "
    "comes with an empty cache on disk, and with a warm one."
)

Row = Mapping[str, Any]


def read_results(path: Path = RESULTS) -> dict[str, Any]:
    """Return what the results file holds; an empty set of rows where there is none."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    return found


def write_results(results: Mapping[str, Any], path: Path = RESULTS) -> None:
    """Write the results file; figures keep four digits, which is more than they are good for."""
    path.write_text(json.dumps(_rounded(results), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def with_row(rows: Sequence[Row], new: Row, order: Sequence[tuple[str, str]]) -> list[Row]:
    """Return the rows with one replaced or added, in the order of (workload, case).

    Contestants are replaced together, because their ratios hold within one run only; what the new row did not
    measure (rounds, first calls) stays as it was.
    """
    places = {pair: index for index, pair in enumerate(order)}
    old = next((row for row in rows if _key(row) == _key(new)), {})
    if not new["contestants"] and old:
        merged = {**old, **{name: part for name, part in new.items() if name != "contestants"}}
    else:
        merged = {**{name: old[name] for name in ("first", "measure") if name in old}, **new}
    others = [row for row in rows if _key(row) != _key(new)]
    return sorted([*others, merged], key=lambda row: places.get(_key(row), len(places)))


def _key(row: Row) -> tuple[str, str]:
    return row["workload"], row["case"]


def for_machine(results: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results to go on with: those of another processor or number of threads are left behind."""
    same = all(results.get("machine", machine).get(key) == machine[key] for key in ("processor", "cores", "threads"))
    return {**(results if same else {"rows": []}), "machine": dict(machine)}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return value


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean.

    Example:
        >>> geometric_mean([1.0, 4.0])
        2.0
    """
    logarithms = [math.log(value) for value in values]
    return math.exp(math.fsum(logarithms) / len(logarithms))


def markdown(results: Mapping[str, Any]) -> str:
    """Return the table, with a line before it that says where it was measured and how it is read."""
    rows = [row for row in results["rows"] if "seconds" in row["contestants"].get(SYMGRAPH, {})]
    machine = results["machine"]
    peers = [name for name in (*PEERS, EAGER) if any(_figure(row, name) for row in rows)]
    where = f"{machine['threads']} threads ({machine['processor']}; {results['date']})"
    lines = [
        LEGEND.format(where=where),
        "",
        f"| workload | symgraph | {' | '.join(peers)} | by hand | first result, symgraph | JAX |",
        "|---|--:|" + "--:|" * (len(peers) + 3),
    ]
    for row in rows:
        cells = [f"{row['workload']}, {row['case']}", duration(row["contestants"][SYMGRAPH]["seconds"])]
        cells += [_bold(_cell(row, name), name == row.get("best_peer")) for name in peers]
        cells += [_number(row.get("over_limit")), _first(row, SYMGRAPH), _first(row, "JAX")]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"| {' | '.join(_means(rows, peers))} |")
    lines += [*_compiled(results), *_memory(results)]
    return "\n".join(lines)


def _means(rows: Sequence[Row], peers: Sequence[str]) -> list[str]:
    cells = ["geometric mean", ""]
    for name in peers:
        values = [value for row in rows if (value := _figure(row, name))]
        cells.append(_number(geometric_mean(values)) if values else "")
    limits = [row["over_limit"] for row in rows if "over_limit" in row]
    cells.append(_number(geometric_mean(limits)) if limits else "")
    for name in (SYMGRAPH, "JAX"):
        means = []
        for kind in ("cold", "warm"):
            values = [
                sum(found[kind].values()) for row in rows if kind in (found := row.get("first", {}).get(name, {}))
            ]
            means += [duration(geometric_mean(values))] if values else []
        cells.append(" / ".join(means))
    return cells


def _figure(row: Row, name: str) -> float | None:
    figure: float | None = row["contestants"].get(name, {}).get("over_symgraph")
    return figure


def _cell(row: Row, name: str) -> str:
    found = row["contestants"].get(name, {})
    return _number(found.get("over_symgraph")) or {"wrong": "wrong", "failed": "fails"}.get(found.get("status", ""), "")


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


def _number(value: float | None) -> str:
    """Return two digits, and all digits before the point."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"


def _first(row: Row, name: str) -> str:
    found = row.get("first", {}).get(name, {})
    return " / ".join(duration(sum(found[kind].values())) for kind in ("cold", "warm")) if "cold" in found else ""


def duration(seconds: float) -> str:
    """Return a time in its unit.

    Example:
        >>> duration(0.00123), duration(2.5e-6), duration(12.0)
        ('1.2 ms', '2.5 µs', '12 s')
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9995 * scale:
            return f"{_number(seconds / scale)} {unit}"
    return f"{_number(seconds * 1e6)} µs"


def _compiled(results: Mapping[str, Any]) -> list[str]:
    """Return the table of the workloads that are about compiling: seconds to the first result."""
    rows = [row for row in results["rows"] if row.get("measure") == "compile"]
    if not rows:
        return []
    names = [name for name in (SYMGRAPH, *PEERS) if any(name in row["first"] for row in rows)]
    lines = ["", f"| build, differentiate and compile | {' | '.join(names)} |", "|---|" + "--:|" * len(names)]
    for row in rows:
        cells = [_first(row, name) or ("fails" if name in row["first"] else "") for name in names]
        lines.append(f"| {row['workload']}, {row['case']} | {' | '.join(cells)} |")
    return lines


def _memory(results: Mapping[str, Any]) -> list[str]:
    found = results.get("memory")
    if not found:
        return []
    peaks = {name: told["peak"] for name, told in found["contestants"].items() if "peak" in told}
    said = ", ".join(f"{name} {peak / 1e6:,.1f} MB" for name, peak in peaks.items())
    return ["", f"Memory that `logistic` with n = {found['n']:,} and d = {found['d']} takes beyond its data: {said}."]


def write_table(results: Mapping[str, Any], readme: Path = README) -> None:
    """Write the table between its marks in the README, and after it the chart where there is one."""
    text = readme.read_text(encoding="utf-8")
    if text.count(START) != 1 or END not in text.split(START)[1]:
        raise ValueError(f"{readme.name} has no place for the table: one line '{START}' and after it one '{END}'")
    before, rest = text.split(START)
    after = rest.split(END, 1)[1]
    path = CHART.relative_to(ROOT).as_posix()
    chart = f"\n\n![Times of the best peer and of a kernel by hand, over symgraph's]({path})" if CHART.exists() else ""
    readme.write_text(f"{before}{START}\n{markdown(results)}{chart}\n{END}{after}", encoding="utf-8")


def reasons(results: Mapping[str, Any]) -> list[str]:
    """Return one line for each contestant that was not timed, with the reason."""
    lines = []
    for row in results["rows"]:
        for name, found in row["contestants"].items():
            if found["status"] != "right":
                said = found.get("reason") or f"differs by {found['difference']:.2g}"
                lines.append(f"{row['workload']}, {row['case']}: {name} {found['status']}: {said}")
    return lines
