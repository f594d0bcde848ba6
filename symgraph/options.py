"""What a user may choose about compiling, passed along as one frozen value."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from symgraph.errors import DeclarationError, at_user_line

_OWN_VARIABLE = "SYMGRAPH_NUM_THREADS"
_OTHERS_VARIABLES = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
_NOT_IN_THE_CODE = {"cache", "cache_dir", "threads"}


@dataclass(frozen=True)
class Options:
    """How a graph is compiled.

    Attributes:
        optimize: Whether the graph is rewritten by the laws of algebra before it is compiled.
        cache: Whether compiled programs are kept on disk for the next process.
        cache_dir: The folder they are kept in, as text or path; the user's cache folder when None.
        threads: On how many threads a call may run, at least 1. Results are the same, bit for bit, for any number.
            When None, what the environment says: ``SYMGRAPH_NUM_THREADS``, else ``OMP_NUM_THREADS``, else
            ``NUMBA_NUM_THREADS``, else as many as this process may use processors.
        fuse: Whether operations share loops. Without, each runs in loops of its own and writes down its result,
            as frameworks without a compiler work: for teaching and for tests.

    Raises:
        DeclarationError: a value is not of its type, or there are less than 1 threads.

    Example:
        >>> import symgraph as sg
        >>> sg.Options(threads=2)
        Options(optimize=True, cache=True, cache_dir=None, threads=2, fuse=True)
    """

    optimize: bool = True
    cache: bool = True
    cache_dir: str | os.PathLike[str] | None = None
    threads: int | None = None
    fuse: bool = True

    def __post_init__(self) -> None:
        for name in ("optimize", "cache", "fuse"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, "True or False", getattr(self, name))
        if self.cache_dir is not None:
            object.__setattr__(self, "cache_dir", _folder(self.cache_dir))
        if self.threads is not None:
            object.__setattr__(self, "threads", _positive(self.threads))


def checked_options(options: Any) -> Options:
    """Return options as they are, the usual ones for None.

    Raises:
        DeclarationError: they are something else.
    """
    if options is None:
        return Options()
    if not isinstance(options, Options):
        raise DeclarationError(at_user_line(f"options is a symgraph.Options, not {options!r}"))
    return options


def thread_count(options: Options) -> int:
    """Return on how many threads a call may run.

    The number that the options say; else that of the environment, where ``OMP_NUM_THREADS`` may be a list, whose
    first number counts; else how many processors this process may use. In the variables of other libraries,
    what is no positive number is passed over, as they do.

    Raises:
        DeclarationError: ``SYMGRAPH_NUM_THREADS`` is no positive number.

    Example:
        >>> thread_count(Options(threads=3))
        3
    """
    if options.threads is not None:
        return options.threads
    asked = os.environ.get(_OWN_VARIABLE, "").strip()
    if asked:
        if not (asked.isdecimal() and int(asked) > 0):
            raise DeclarationError(f"the environment variable {_OWN_VARIABLE} is a positive number, not {asked!r}")
        return int(asked)
    for variable in _OTHERS_VARIABLES:
        first = os.environ.get(variable, "").partition(",")[0].strip()
        if first.isdecimal() and int(first) > 0:
            return int(first)
    return _usable_processors()


def program_identity(backend: str, options: Options) -> tuple[tuple[str, object], ...]:
    """Return what is decided about a program beside its graph; a new option belongs to it until it is excluded.

    Where programs are kept does not change them, and the number of threads is an argument of each call.

    Example:
        >>> program_identity("numba", Options(fuse=False))
        (('backend', 'numba'), ('optimize', True), ('fuse', False))
    """
    decided = [
        (field.name, getattr(options, field.name))
        for field in dataclasses.fields(options)
        if field.name not in _NOT_IN_THE_CODE
    ]
    return (("backend", backend), *decided)


def _usable_processors() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13; it knows -X cpu_count as well
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _positive(threads: Any) -> int:
    try:
        number = None if isinstance(threads, bool) else int(threads.__index__())
    except (AttributeError, TypeError):
        number = None
    if number is None or number < 1:
        raise _wrong("threads", "a positive integer or None", threads)
    return number


def _folder(path: Any) -> str:
    try:
        folder = os.fspath(path)
    except TypeError:
        folder = None
    if not isinstance(folder, str) or not folder:
        raise _wrong("cache_dir", "the path of a folder or None", path)
    return folder


def _wrong(name: str, expected: str, got: Any) -> DeclarationError:
    return DeclarationError(f"Options: {name} is {expected}, not {got!r}")
