"""Options: what is refused, how many threads there are, and what belongs to a program's identity."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import symgraph as sg
from symgraph.compile.identity import program_name
from symgraph.options import program_identity, thread_count

VARIABLES = ["SYMGRAPH_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"]


@pytest.fixture
def environment(monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", 0),
        ("threads", -2),
        ("threads", 2.0),
        ("threads", True),
        ("threads", "2"),
        ("fuse", 1),
        ("fuse", None),
        ("optimize", "yes"),
        ("cache", 0),
        ("cache_dir", 3),
        ("cache_dir", b"folder"),
        ("cache_dir", ""),
    ],
)
def test_wrong_values_are_refused_with_the_option_and_the_value(name, value):
    with pytest.raises(sg.DeclarationError, match=f"^Options: {name} is .*, not {value!r}$"):
        sg.Options(**{name: value})


def test_paths_and_numpy_integers_are_taken(tmp_path):
    options = sg.Options(cache_dir=tmp_path, threads=np.int32(3))
    assert options == sg.Options(cache_dir=str(tmp_path), threads=3)
    assert type(options.threads) is int
    assert options.cache_dir == str(tmp_path)


@pytest.mark.parametrize(
    "make", [lambda options: sg.Session(options=options), lambda options: sg.function([], 1, options=options)]
)
def test_something_else_than_options_is_refused(make):
    with pytest.raises(sg.DeclarationError, match=r"options is a symgraph.Options, not \{'threads': 2\}"):
        make({"threads": 2})


@pytest.mark.parametrize(
    ("own", "omp", "numba", "expected"),
    [
        ("3", "4", "5", 3),
        (None, "4", "5", 4),
        (None, None, "5", 5),
        ("", "4,2", "5", 4),
        (" 3 ", None, None, 3),
        (None, "zero", "5", 5),
        (None, "0", "5", 5),
        (None, "-1", "", None),
        (None, None, None, None),
    ],
)
def test_threads_come_from_the_first_variable_that_says_a_number(environment, own, omp, numba, expected):
    for variable, value in zip(VARIABLES, (own, omp, numba), strict=True):
        if value is not None:
            environment.setenv(variable, value)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert thread_count(sg.Options()) == (usable if expected is None else expected)
    assert thread_count(sg.Options(threads=7)) == 7


@pytest.mark.parametrize("value", ["many", "0", "-1", "2.5", "4,2"])
def test_a_wrong_number_in_our_own_variable_is_an_error(environment, value):
    environment.setenv("SYMGRAPH_NUM_THREADS", value)
    with pytest.raises(sg.DeclarationError, match=f"SYMGRAPH_NUM_THREADS is a positive number, not '{value}'"):
        thread_count(sg.Options())


def test_only_the_processors_that_may_be_used_count(environment):
    environment.setattr(os, "process_cpu_count", lambda: 11, raising=False)
    assert thread_count(sg.Options()) == 11
    environment.delattr(os, "process_cpu_count")
    environment.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert thread_count(sg.Options()) == 3
    environment.delattr(os, "sched_getaffinity")
    environment.setattr(os, "cpu_count", lambda: None)
    assert thread_count(sg.Options()) == 1


def test_backend_and_options_make_another_program():
    usual = sg.Options()
    others = [replace(usual, optimize=False), replace(usual, fuse=False)]
    identities = {program_identity(backend, o) for backend in ("numba", "numpy") for o in (usual, *others)}
    assert len(identities) == 6
    names = {program_name("text", identity) for identity in identities}
    assert len(names) == 6


def test_where_a_program_is_kept_and_its_threads_leave_it_the_same():
    options = sg.Options(cache=False, cache_dir=str(Path("elsewhere")), threads=1)
    assert program_identity("numba", options) == program_identity("numba", sg.Options())
