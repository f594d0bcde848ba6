"""Compiled programs on disk: found by the next process, never trusted unseen, and no harm when the disk fails."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

import symgraph
import symgraph as sg
from symgraph.compile import assembly, cache
from symgraph.errors import CacheWarning

X = [0.0, 0.5, -1.0]
EXPECTED = np.exp(X) + 1.0

PROCESS = """\
import json, os, signal, sys, warnings
import numpy as np
import symgraph as sg
from symgraph.compile import assembly

assembled = []
assemble = assembly.assemble
def counted(module):
    assembled.append(module.name)
    return assemble(module)
assembly.assemble = counted

{before}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    function = sg.function([x], sg.exp(x) + 1.0, options=sg.Options(cache_dir=sys.argv[1]))
    {call}
print(json.dumps(dict(
    programs=list(assembly._loaded),
    assembled=assembled,
    result=result,
    warnings=[f"{{w.category.__name__}}: {{w.message}}" for w in caught],
)))
"""
CALL = f"result = function(np.array({X})).tolist()"

_different = itertools.count()


def start(folder: Path, *, before: str = "", call: str = CALL, package: Path | None = None, **environment: str):
    package = package or Path(symgraph.__file__).parent
    script = PROCESS.format(before=before, call=textwrap.indent(call, "    ").lstrip())
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        env=os.environ | {"PYTHONPATH": str(package.parent)} | environment,
        cwd=package.parent,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return json.loads(output)


def different_function(**options):
    """A function that this process has not compiled, and no other test uses."""
    with sg.Graph():
        x = sg.placeholder("x")
    return sg.function([x], x + (next(_different) + 0.25), options=sg.Options(**options))


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    """A folder that two processes filled at once, and what each of them reported."""
    folder = tmp_path_factory.mktemp("raced") / "cache"
    processes = [start(folder), start(folder)]
    return folder, [finish(process) for process in processes]


@pytest.fixture
def filled(raced, tmp_path):
    """A copy of the filled folder, to be spoilt."""
    folder = tmp_path / "cache"
    shutil.copytree(raced[0], folder)
    folder.chmod(0o700)
    return folder


def code_file(folder: Path) -> Path:
    (path,) = folder.glob("*.code")
    return path


# The next process


def test_two_processes_that_compile_at_once_leave_one_whole_program(raced):
    folder, reports = raced
    for report in reports:
        assert report["warnings"] == []
        np.testing.assert_allclose(report["result"], EXPECTED, rtol=1e-15)
    assert [path.suffix for path in folder.iterdir()] == [".code"]
    assert cache.read_code(code_file(folder)) is not None


def test_the_next_process_compiles_nothing(filled):
    report = finish(start(filled))
    assert (report["assembled"], report["warnings"]) == ([], [])
    np.testing.assert_allclose(report["result"], EXPECTED, rtol=1e-15)


def test_a_damaged_program_is_compiled_again_and_replaced(filled):
    healthy = code_file(filled).read_bytes()
    code_file(filled).write_bytes(healthy[:-100] + bytes(100))
    report = finish(start(filled))
    assert report["assembled"] == report["programs"]
    np.testing.assert_allclose(report["result"], EXPECTED, rtol=1e-15)
    assert cache.read_code(code_file(filled)) is not None


@pytest.mark.parametrize("what", ["kernels", "processor"])
def test_another_kernel_text_or_processor_is_another_program(raced, tmp_path, what):
    package, before = None, ""
    if what == "kernels":
        package = tmp_path / "symgraph"
        shutil.copytree(Path(symgraph.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
        with (package / "compile" / "kernels" / "arithmetic.py").open("a") as file:
            file.write("\n\nVERSION = 2\n")
    else:
        before = "from llvmlite import binding; binding.get_host_cpu_name = lambda: 'generic'"
    report = finish(start(raced[0], before=before, package=package))
    assert report["programs"] != raced[1][0]["programs"]


def test_both_racing_processes_named_the_program_alike(raced):
    assert raced[1][0]["programs"] == raced[1][1]["programs"]


# What is not trusted


@pytest.mark.parametrize(
    "damage",
    [
        lambda code: b"",
        lambda code: code[:10],
        lambda code: code[:-1],
        lambda code: code[:40] + bytes([code[40] ^ 1]) + code[41:],
        lambda code: bytes([code[0] ^ 1]) + code[1:],
        lambda code: code + b"\0",
    ],
    ids=["empty", "shorter-than-its-digest", "truncated", "one-bit", "digest", "longer"],
)
def test_harmed_code_is_not_read(tmp_path, damage):
    path = tmp_path / f"symgraph_{'0' * 32}.code"
    cache.write_code(path, b"machine code " * 10)
    assert cache.read_code(path) == b"machine code " * 10
    path.write_bytes(damage(path.read_bytes()))
    assert cache.read_code(path) is None


def test_the_code_of_another_program_is_not_read(tmp_path):
    path = tmp_path / "one.code"
    cache.write_code(path, b"machine code")
    path.rename(tmp_path / "two.code")
    assert cache.read_code(tmp_path / "two.code") is None


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_code_that_others_can_write_is_not_read(tmp_path, mode):
    path = tmp_path / "one.code"
    cache.write_code(path, b"machine code")
    path.chmod(mode)
    assert cache.read_code(path) is None


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_code_behind_a_link_is_not_read(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    cache.write_code(tmp_path / "elsewhere" / "one.code", b"machine code")
    (tmp_path / "one.code").symlink_to(tmp_path / "elsewhere" / "one.code")
    assert cache.read_code(tmp_path / "one.code") is None


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_can_write_is_not_used(tmp_path, mode):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.warns(CacheWarning, match="others can write to it"):
        assert different_function(cache_dir=str(folder))(1.0) % 1 == 0.25
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="owners of POSIX")
def test_a_folder_of_another_user_is_not_used(tmp_path, monkeypatch):
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.warns(CacheWarning, match="another user owns it"):
        assert cache.open_directory(tmp_path) is None


# When the disk fails


def test_a_folder_that_cannot_be_made_costs_one_warning(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    folder = str(tmp_path / "file" / "cache")
    with pytest.warns(CacheWarning, match="are not kept in"):
        assert different_function(cache_dir=folder)(1.0) % 1 == 0.25
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert different_function(cache_dir=folder)(1.0) % 1 == 0.25


def test_a_full_disk_costs_one_warning_and_no_result(tmp_path):
    pytest.importorskip("resource")
    # From here on a write of even one byte to a file fails in that process, as on a full disk.
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    call = CALL + "\nsg.function([x], x * 2.0, options=sg.Options(cache_dir=sys.argv[1]))(np.ones(1))"
    report = finish(start(tmp_path / "cache", call=call, before=full))
    np.testing.assert_allclose(report["result"], EXPECTED, rtol=1e-15)
    assert len(report["warnings"]) == 1
    assert report["warnings"][0].startswith("CacheWarning: compiled programs are not kept in")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_disk_that_fills_up_during_compilation_costs_one_warning_and_no_result(tmp_path, monkeypatch):
    def fail(source, destination):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.warns(CacheWarning, match="No space left"):
        assert different_function(cache_dir=str(tmp_path))(1.0) % 1 == 0.25
    assert list(tmp_path.iterdir()) == []


# Ctrl-C

INTERRUPT = """\
optimize = assembly.optimize
def interrupted(module):
    assembly.optimize = optimize
    signal.raise_signal(signal.SIGINT)
assembly.optimize = interrupted
"""
INTERRUPTED_CALL = f"""\
result = "not interrupted"
try:
    function(np.array({X}))
except KeyboardInterrupt:
    left = os.listdir(sys.argv[1])
    result = dict(left=left, again=function(np.array({X})).tolist())
"""


def test_after_an_interrupt_the_same_process_and_the_next_one_go_on(tmp_path):
    folder = tmp_path / "cache"
    report = finish(start(folder, before=INTERRUPT, call=INTERRUPTED_CALL))
    assert report["result"]["left"] == []
    np.testing.assert_allclose(report["result"]["again"], EXPECTED, rtol=1e-15)
    assert finish(start(folder))["assembled"] == []


def test_an_interrupted_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "one.code"
    cache.write_code(path, b"old")

    def interrupt(source, destination):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cache.write_code(path, b"new")
    assert cache.read_code(path) == b"old"
    assert list(tmp_path.iterdir()) == [path]


# Within one process


def test_a_program_is_compiled_once_even_by_many_threads(tmp_path, monkeypatch):
    assembled = []
    assemble = assembly.assemble

    def counted(module):
        assembled.append(module.name)
        return assemble(module)

    monkeypatch.setattr(assembly, "assemble", counted)
    number = next(_different) + 0.25
    barrier = threading.Barrier(6)
    results = []

    def run():
        with sg.Graph():
            x = sg.placeholder("x")
        function = sg.function([x], x + number, options=sg.Options(cache_dir=str(tmp_path)))
        barrier.wait()
        results.append(function(1.0))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1.0 + number] * 6
    assert len(assembled) == 1


def test_without_cache_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.DIRECTORY_VARIABLE, str(tmp_path))
    assert different_function(cache=False)(1.0) % 1 == 0.25
    assert list(tmp_path.iterdir()) == []


# The folder


def test_the_folder_is_private_and_named_by_argument_variable_or_platform(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.DIRECTORY_VARIABLE, str(tmp_path / "variable" / "deep"))
    assert cache.open_directory() == tmp_path / "variable" / "deep"
    assert cache.open_directory(tmp_path / "argument") == tmp_path / "argument"
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "argument").stat().st_mode) == 0o700
    monkeypatch.delenv(cache.DIRECTORY_VARIABLE)
    assert "symgraph" in cache.directory().parts


def fill(folder: Path, digit: str, used: int) -> str:
    name = f"symgraph_{digit * 32}"
    cache.write_code(folder / f"{name}.code", b"12345")
    os.utime(folder / f"{name}.code", (used, used))
    return name


def test_entries_are_listed_and_cleared_and_strangers_stay(tmp_path):
    old, new = fill(tmp_path, "a", 1000), fill(tmp_path, "b", 2000)
    strangers = ["notes.txt", "symgraph_notes.py", f"symgraph_{'a' * 32}.txt"]
    for stranger in strangers:
        (tmp_path / stranger).write_text("mine")
    (tmp_path / f"symgraph_{'c' * 32}.code").mkdir()
    assert cache.entries(tmp_path) == [(new, 37, 2000.0), (old, 37, 1000.0)]
    assert cache.size(tmp_path) == 74
    assert cache.clear(tmp_path) == 2
    assert {path.name for path in tmp_path.iterdir()} == {*strangers, f"symgraph_{'c' * 32}.code"}
    assert (cache.entries(tmp_path), cache.size(tmp_path)) == ([], 0)


def test_a_folder_that_does_not_exist_is_empty(tmp_path):
    assert (cache.entries(tmp_path / "none"), cache.clear(tmp_path / "none")) == ([], 0)
    assert not (tmp_path / "none").exists()


def test_reading_counts_as_use(tmp_path):
    name = fill(tmp_path, "a", 1000)
    fill(tmp_path, "b", 2000)
    assert cache.read_code(tmp_path / f"{name}.code") is not None
    assert cache.entries(tmp_path)[0].name == name


@pytest.mark.parametrize("limits", [{"maximum_entries": 2}, {"maximum_bytes": 2 * 37}])
def test_what_was_unused_for_longest_is_pruned(tmp_path, limits):
    names = [fill(tmp_path, digit, used) for digit, used in (("a", 2000), ("b", 1000), ("c", 3000))]
    cache.prune(tmp_path, **limits)
    assert [entry.name for entry in cache.entries(tmp_path)] == [names[2], names[0]]


def test_what_a_killed_process_left_is_pruned_and_what_is_being_written_stays(tmp_path):
    abandoned, current = (tmp_path / f"symgraph_{digit * 32}.code.x1_y.part" for digit in "ab")
    abandoned.write_text("half")
    current.write_text("half")
    os.utime(abandoned, (1000, 1000))
    cache.prune(tmp_path)
    assert list(tmp_path.iterdir()) == [current]
