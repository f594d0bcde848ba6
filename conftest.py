"""One folder of compiled functions for a whole run of the tests, and a graph of its own for each docstring example."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

import symgraph as sg

_made: list[str] = []


def pytest_configure() -> None:
    """Let the processes of one run share what they compile, apart from the user's own cache."""
    if "SYMGRAPH_CACHE_DIR" not in os.environ:
        _made.append(tempfile.mkdtemp(prefix="symgraph-tests-"))
        os.environ["SYMGRAPH_CACHE_DIR"] = _made[0]


def pytest_unconfigure() -> None:
    """Remove the folder; only the process that made it does."""
    for folder in _made:
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop("SYMGRAPH_CACHE_DIR", None)


@pytest.fixture(autouse=True)
def _graph_of_an_example(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let docstring examples declare without names that another example has taken."""
    if isinstance(request.node, pytest.DoctestItem):
        with sg.Graph():
            yield
    else:
        yield
