"""The folder of compiled programs: private to the user, and trusted only as far as it can be checked.

A program is one file, ``symgraph_<hash>.code``, named by the hash of everything its machine code depends on: an object
file, behind a SHA-256 of it and of the file's name.

Files are written aside and renamed, so that another process, or this one after Ctrl-C, sees a whole file or none.
A folder that cannot be used costs one warning; programs are then compiled for this process only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import platformdirs

from symgraph.errors import CacheWarning

DIRECTORY_VARIABLE = "SYMGRAPH_CACHE_DIR"
MAXIMUM_BYTES = 2**30
MAXIMUM_ENTRIES = 2000

_OUR_FILE = re.compile(r"(symgraph_[0-9a-f]{32})\.code(\.\w+\.part)?")
_ABANDONED_SECONDS = 3600.0
_DIGEST_BYTES = 32
_refused: set[Path] = set()


class Entry(NamedTuple):
    """One program in the cache: its name, its bytes on disk, and when it was last used (seconds, as `time.time`)."""

    name: str
    size: int
    last_used: float


def directory(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the cache's folder: the argument, else the variable SYMGRAPH_CACHE_DIR, else the user's cache folder."""
    return Path(cache_dir or os.environ.get(DIRECTORY_VARIABLE) or platformdirs.user_cache_dir("symgraph")).absolute()


def open_directory(cache_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Make the folder if need be, and return it if code may be loaded from it.

    Returns:
        The folder; None, after one warning, when it cannot be made, or others own it or can write to it.
    """
    folder = directory(cache_dir)
    if folder in _refused:
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        reason = _distrust(os.stat(folder))
    except OSError as error:
        reason = str(error)
    if reason is None:
        return folder
    refuse(folder, reason)
    return None


def refuse(folder: Path, reason: object) -> None:
    """Use the folder no more in this process, and warn the first time."""
    if folder not in _refused:
        _refused.add(folder)
        warnings.warn(
            f"compiled programs are not kept in {folder}: {reason}. The next process compiles them again. "
            f"Set {DIRECTORY_VARIABLE} to a folder that only you can write to.",
            CacheWarning,
            stacklevel=3,
        )


def write_code(path: Path, code: bytes) -> None:
    """Store machine code so that `read_code` can tell whether it is unharmed, and make room for it.

    Raises:
        OSError: The file cannot be written.
    """
    _replace(path, _digest(path, code) + code)
    prune(path.parent)


def read_code(path: Path) -> bytes | None:
    """Return what `write_code` stored; None when it is absent, damaged, or open to others."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            if _distrust(os.fstat(descriptor)) is not None:
                return None
            stored = file.read()
    except OSError:
        return None
    code = stored[_DIGEST_BYTES:]
    if stored[:_DIGEST_BYTES] != _digest(path, code):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return code


def entries(cache_dir: str | os.PathLike[str] | None = None) -> list[Entry]:
    """Return the programs in the cache, the last used first."""
    found: dict[str, Entry] = {}
    for name, file in _our_files(directory(cache_dir)):
        with contextlib.suppress(FileNotFoundError):
            status = file.stat(follow_symlinks=False)
            before = found.get(name, Entry(name, 0, 0.0))
            found[name] = Entry(name, before.size + status.st_size, max(before.last_used, status.st_mtime))
    return sorted(found.values(), key=lambda entry: (-entry.last_used, entry.name))


def size(cache_dir: str | os.PathLike[str] | None = None) -> int:
    """Return the number of bytes that the cache's files hold."""
    return sum(entry.size for entry in entries(cache_dir))


def clear(cache_dir: str | os.PathLike[str] | None = None) -> int:
    """Remove the files that symgraph made in the cache's folder, and nothing else.

    Returns:
        The number of programs removed.

    Raises:
        OSError: A file cannot be removed.
    """
    folder = directory(cache_dir)
    names = [entry.name for entry in entries(folder)]
    _remove(folder, set(names))
    return len(names)


def prune(folder: Path, maximum_bytes: int = MAXIMUM_BYTES, maximum_entries: int = MAXIMUM_ENTRIES) -> None:
    """Remove what killed processes left half-written, and the programs unused for longest beyond the two limits."""
    surplus: set[str] = set()
    total = 0
    for count, entry in enumerate(entries(folder), start=1):
        total += entry.size
        if total > maximum_bytes or count > maximum_entries:
            surplus.add(entry.name)
    with contextlib.suppress(OSError):
        _remove(folder, surplus)
        for _, file in list(_our_files(folder)):
            if file.name.endswith(".part") and time.time() - file.stat().st_mtime > _ABANDONED_SECONDS:
                os.unlink(file.path)


def _our_files(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as files:
            for file in files:
                match = _OUR_FILE.fullmatch(file.name)
                if match is not None and not file.is_dir(follow_symlinks=False):
                    yield match[1], file
    except FileNotFoundError:
        return


def _remove(folder: Path, names: set[str]) -> None:
    for name, file in list(_our_files(folder)):
        if name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file.path)


def _replace(path: Path, content: bytes) -> None:
    descriptor, aside = tempfile.mkstemp(prefix=path.name + ".", suffix=".part", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise


def _digest(path: Path, code: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + b"\0" + code).digest()


def _distrust(status: os.stat_result) -> str | None:
    """Return why code behind this file or folder may not be run; None when only this user can have written it."""
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid != os.geteuid():
        return "another user owns it"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others can write to it"
    return None
