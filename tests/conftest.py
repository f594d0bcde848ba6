"""Golden files: generated text that is reviewed as a diff. ``pytest --update-golden`` writes them anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parent / "golden"

Golden = Callable[..., None]


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
