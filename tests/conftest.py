"""One folder of compiled functions for the whole run, and golden files.

Golden files are generated text that is reviewed as a diff; ``pytest --update-golden`` writes them anew.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parent / "golden"

Golden = Callable[..., None]


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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare text with ``tests/golden/<test name>.<extension>``."""

    def compare(text: str, extension: str = "txt") -> None:
        name = request.node.name.removeprefix("test_").replace("[", "-").rstrip("]")
        path = _FOLDER / f"{name}.{extension}"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
        assert path.exists(), f"{path.name} does not exist: run pytest --update-golden and review it"
        assert text.rstrip("\n") + "\n" == path.read_text(encoding="utf-8")

    return compare
