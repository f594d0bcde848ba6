"""The chart: for each workload, how many times symgraph's time the best peer and the hand-written kernel take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.suite.contest import SYMGRAPH
from benchmarks.suite.report import CHART, geometric_mean

_BAR, _LATE, _MARK, _TEXT = "#2f6db5", "#b5482f", "#1b1b1b", "#555555"


def draw_chart(results: Mapping[str, Any], path: Path = CHART) -> None:
    """Write the chart as SVG or PNG, by the file's name."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    rows = [row for row in results["rows"] if "faster" in row]
    if not rows:
        raise ValueError("there is no result with symgraph and a peer: run the benchmarks first")
    # Letters stay letters, so that the file is small; a fixed salt gives the same file for the same figures.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "symgraph", "font.family": "sans-serif"})
    figure, axes = plt.subplots(figsize=(9, 0.34 * len(rows) + 1.5), layout="constrained")
    places = range(len(rows))
    values = [row["faster"] for row in rows]
    axes.barh(
        places, [value - 1 for value in values], left=1, height=0.62, color=[_BAR if v >= 1 else _LATE for v in values]
    )
    for place, (row, value) in enumerate(zip(rows, values, strict=True)):
        axes.annotate(
            f"{value:.2g}× {row['best_peer']}" if value < 9.5 else f"{value:.0f}× {row['best_peer']}",
            (max(value, 1.0), place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8.5, color=_TEXT,
        )  # fmt: skip
    limits = [(1 / row["over_limit"], place) for place, row in enumerate(rows) if "over_limit" in row]
    if limits:
        at, where = zip(*limits, strict=True)
        axes.scatter(at, where, marker="|", s=130, color=_MARK, zorder=3, linewidths=2, label="kernel written by hand")
    axes.axvline(1, color=_MARK, linewidth=0.8)
    axes.set_xscale("log")
    lowest, highest = min([*values, *(at for at, _ in limits), 1.0]), max([*values, 2.0])
    axes.set_xlim(lowest / 1.3, highest * 2.6)
    ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if lowest / 1.3 <= t <= highest * 2.6]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    axes.set_yticks(places, [f"{row['workload']}, {row['case']}" for row in rows], fontsize=9)
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(
        f"time of the best peer over that of {SYMGRAPH}; geometric mean {geometric_mean(values):.2g}×", fontsize=9
    )
    if limits:
        figure.legend(loc="outside upper right", frameon=False, fontsize=8.5)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
