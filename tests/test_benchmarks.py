"""The benchmarks' own arithmetic, and that each workload's graph and hand-written limit do the same work."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import symgraph as sg
from benchmarks.suite import report
from benchmarks.suite.contest import LIMIT, SYMGRAPH, Case, Run, Workload, in_double, largest_difference, tolerance
from benchmarks.suite.timing import Pace, ratio, summarize, time_in_turn
from benchmarks.workloads import load, names


@pytest.mark.parametrize("name", names())
def test_the_graph_and_the_limit_of_every_workload_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is interpreted, and the kernel run as Python: compiled, they are checked before they are timed."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    work = load(name)
    problem = work.problem(work.tiny)
    run = work.contestants[SYMGRAPH](problem)
    if work.measure == "compile":
        assert all(np.isfinite(array).all() for array in run.results())
        return
    interpreted = sg.function(run.function.inputs, run.function.outputs, backend="numpy")
    ours = Run(interpreted, run.arguments, run.read).results()
    with np.errstate(all="ignore"):  # lanes of a tile beyond the data
        limit = work.contestants[LIMIT](problem).results()
    assert largest_difference(ours, limit) <= tolerance(work.tiny.dtype)
    assert any(np.any(array != 0) for array in limit)


@pytest.mark.parametrize("name", names())
def test_labels_tell_the_cases_of_a_workload_apart(name: str) -> None:
    work = load(name)
    labels = [case.label for case in work.cases]
    assert labels
    assert len(set(labels)) == len(labels)


def test_a_ratio_is_the_median_over_rounds_and_not_the_ratio_of_medians() -> None:
    times = {"a": [1.0, 10.0, 6.0], "b": [1.0, 2.0, 6.0]}
    assert ratio(times, "a", "b") == 1.0
    assert ratio({"a": [1.0, 8.0, None], "b": [1.0, 2.0, 1e9]}, "a", "b") == 2.5


def test_the_best_peer_is_no_engine_of_our_own_and_not_the_limit() -> None:
    times = {
        SYMGRAPH: [1.0, 2.0, 1.0], "symgraph eager": [0.1] * 3, "JAX": [4.0, 8.0, 4.0], "autograd": [3.0, 6.0, 9.0],
        LIMIT: [0.5, 1.0, 0.5],
    }  # fmt: skip
    figures = summarize(times)
    assert figures["best_peer"] == "autograd"
    assert figures["faster"] == 3.0
    assert figures["over_limit"] == 2.0
    assert figures["contestants"]["JAX"] == {"seconds": 4.0, "least_seconds": 4.0, "rounds": 3, "over_symgraph": 4.0}


def test_without_symgraph_peers_are_still_ranked() -> None:
    figures = summarize({"JAX": [4.0], "PyTorch": [2.0]})
    assert figures["best_peer"] == "PyTorch"
    assert "faster" not in figures
    assert "over_limit" not in figures


def test_turns_are_interleaved_and_who_is_slow_sits_out() -> None:
    turns: list[str] = []

    def call(name: str, seconds: float) -> None:
        turns.append(name)
        stop = time.perf_counter() + seconds
        while time.perf_counter() < stop:
            pass

    runs = {"quick": Run(call, ["quick", 0.0005]), "slow": Run(call, ["slow", 0.01])}
    pace = Pace(rounds=5, seconds=10.0, least=2, block=0.001, rest=0.0, slow=0.005)
    times = time_in_turn(runs, pace)
    assert [t is None for t in times["slow"]] == [False, False, True, True, True]
    assert all(t is not None and t >= 0.0005 for t in times["quick"])
    assert all(t >= 0.01 for t in times["slow"] if t is not None)
    assert "slow" in turns[turns.index("slow") + 3 :]


def test_a_wrong_result_is_told_from_a_right_one() -> None:
    true = [np.array(2.0), np.array([1.0, -4.0])]
    assert largest_difference(true, true) == 0.0
    assert largest_difference([np.array(2.0), np.array([1.0, -4.0 - 4e-8])], true) > tolerance("float64")
    assert not largest_difference([np.array(2.0), np.array([np.nan, -4.0])], true) <= tolerance("float64")
    assert not largest_difference([np.array(np.nan), np.array([1.0, -4.0])], true) <= tolerance("float64")
    with pytest.raises(ValueError, match="1 results, where the reference has 2"):
        largest_difference(true[:1], true)
    with pytest.raises(ValueError, match=r"result 1 has shape \(1, 2\)"):
        largest_difference([true[0], true[1][None]], true)


def test_the_reference_of_a_case_in_single_precision_is_in_double() -> None:
    work = load("mlp")
    problem = work.problem(Case("small", batch=3, widths=(4, 3), dtype="float32"))
    double = in_double(problem)
    assert {str(array.dtype) for array in problem.arrays} == {"float32", "int64"}
    assert {str(array.dtype) for array in double.arrays} == {"float64", "int64"}
    assert double.case.parameters["dtype"] == "float64"
    assert all(np.array_equal(a, b) for a, b in zip(problem.arrays, double.arrays, strict=True))


def test_a_contestant_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="no contestant is called Jaxx"):
        Workload("w", "", [], Case("t"), dict, [], {"Jaxx": lambda problem: Run(print)})


def _row(workload: str, case: str, **contestants: Any) -> dict[str, Any]:
    return {"workload": workload, "case": case, "dtype": "float64", "contestants": contestants}


def _timed(seconds: float, over_symgraph: float) -> dict[str, Any]:
    return {"status": "right", "difference": 0.0, "seconds": seconds, "over_symgraph": over_symgraph}


def _results() -> dict[str, Any]:
    ours = _timed(2e-3, 1.0)
    first = {SYMGRAPH: {"cold": {"build": 0.5, "first": 1.0}, "warm": {"build": 0.01, "first": 0.09}}}
    a = _row("a", "n = 1", symgraph=ours, JAX=_timed(4e-3, 2.0), autograd=_timed(1.0, 500.0))
    b = _row("b", "n = 2", symgraph=ours, JAX=_timed(16e-3, 8.0), PyTorch={"status": "wrong", "difference": 0.5})
    rows = [
        {**a, "best_peer": "JAX", "faster": 2.0, "over_limit": 1.21, "first": first},
        {**b, "best_peer": "JAX", "faster": 8.0},
    ]
    return {"machine": {"threads": 2, "processor": "Abacus"}, "date": "2026-11-21", "rows": rows}


def test_the_table_says_what_was_measured() -> None:
    lines = report.markdown(_results()).splitlines()
    assert "2 threads of an Abacus processor, 2026-11-21" in lines[0]
    assert lines[2] == "| workload | symgraph | JAX | autograd | by hand | first result, symgraph | JAX |"
    assert lines[4] == "| a, n = 1 | 2.0 ms | **2.0** | 500 | 1.2 | 1.5 s / 100 ms |  |"
    assert lines[5] == "| b, n = 2 | 2.0 ms | **8.0** |  |  |  |  |"
    assert lines[6] == "| geometric mean |  | 4.0 | 500 | 1.2 | 1.5 s / 100 ms |  |"
    assert report.reasons(_results()) == ["b, n = 2: PyTorch wrong: differs by 0.5"]


def test_the_table_goes_between_its_marks_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "CHART", report.ROOT / "no" / "chart.svg")
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.START}\nold\n{report.END}\nafter\n", encoding="utf-8")
    report.write_table(_results(), readme)
    text = readme.read_text(encoding="utf-8")
    assert text == f"before\n{report.START}\n{report.markdown(_results())}\n{report.END}\nafter\n"
    readme.write_text("no marks\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no place for the table"):
        report.write_table(_results(), readme)


def test_a_row_measured_again_takes_its_old_place(tmp_path: Path) -> None:
    rows = _results()["rows"]
    order = [("a", "n = 1"), ("new", "n = 3"), ("b", "n = 2")]
    again = report.with_row(report.with_row(rows, _row("new", "n = 3"), order), _row("a", "n = 1"), order)
    assert [row["workload"] for row in again] == ["a", "new", "b"]
    assert again[0]["contestants"] == {}
    assert again[0]["first"] == rows[0]["first"]
    path = tmp_path / "results.json"
    report.write_results({"rows": [{"seconds": 1.23456e-5}]}, path)
    assert report.read_results(path) == {"rows": [{"seconds": 1.235e-5}]}
