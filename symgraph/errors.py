"""Every error that symgraph raises, and the user's own line that an error points at.

    SymgraphError
    ├── DeclarationError            something was declared that cannot be
    │   ├── ShapeError              (ValueError)  ranks or sizes that do not fit
    │   ├── DTypeError              (TypeError)   element types that do not fit
    │   └── GraphError              (ValueError)  another graph, a frozen graph, a name taken
    ├── DifferentiationError        no derivative exists, or none is asked of the right thing
    ├── RewriteError                laws of rewriting that lead in a circle
    ├── CompileError                a program that cannot be compiled
    ├── CallError                   a compiled function or a session was called wrongly
    │   ├── ArgumentError           (TypeError)   missing, unknown, doubled, of the wrong type
    │   └── SizeError               (ValueError)  sizes at the call that do not fit
    ├── ExportError                 an expression that a target language cannot say
    └── EagerError                  (RuntimeError) what the dynamic engine refuses, in PyTorch's words
    CacheWarning                    (UserWarning) compiled programs cannot be kept on disk; nothing else is affected

The classes in brackets are Python's own, which the error is as well.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class SymgraphError(Exception):
    """The root of all errors that symgraph raises on purpose."""


class DeclarationError(SymgraphError):
    """Something was declared that cannot be."""


class ShapeError(DeclarationError, ValueError):
    """Ranks or sizes that do not fit, found when the operation was declared."""


class DTypeError(DeclarationError, TypeError):
    """Element types that do not fit, found when the operation was declared."""


class GraphError(DeclarationError, ValueError):
    """A node of another graph, a frozen graph, or a name that is taken."""


class DifferentiationError(SymgraphError):
    """No derivative exists, or none is asked of the right thing."""


class RewriteError(SymgraphError):
    """Laws of rewriting lead in a circle."""


class CompileError(SymgraphError):
    """A program that cannot be compiled."""


class CallError(SymgraphError):
    """A compiled function or a session was called wrongly."""


class ArgumentError(CallError, TypeError):
    """An argument is missing, unknown, given twice, or of the wrong type."""


class SizeError(CallError, ValueError):
    """Sizes at the call that do not fit what was declared."""


class ExportError(SymgraphError):
    """An expression that the target language cannot say."""


class EagerError(SymgraphError, RuntimeError):
    """What the dynamic engine refuses; the words are PyTorch's wherever PyTorch refuses it too."""


class CacheWarning(UserWarning):
    """Compiled programs cannot be kept on disk, so the next process will compile them again."""


class Location(NamedTuple):
    """A line of the user's program."""

    filename: str
    line: int

    def __str__(self) -> str:
        return f"{self.filename}:{self.line}"


def user_location() -> Location | None:
    """Return the innermost line of the call stack that is outside symgraph and NumPy.

    Returns:
        The line, or None when every frame belongs to a library.
    """
    frame = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        library = _library.get(filename)
        if library is None:
            library = _library[filename] = _is_library(filename)
        if not library:
            return Location(filename, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None


_library: dict[str, bool] = {}


def _is_library(filename: str) -> bool:
    return filename.startswith((_PACKAGE, "<frozen")) or f"{os.sep}numpy{os.sep}_core{os.sep}" in filename


def at_user_line(message: str) -> str:
    """Return the message with the user's file and line added, where one is known."""
    return declared_at(message, user_location())


def declared_at(message: str, location: Location | None) -> str:
    """Return the message with a line of the user's program added, where one is known."""
    return message if location is None else f"{message}\n  declared at {location}"
