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
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
from numba.core.registry import CPUDispatcher

import symgraph
from symgraph.compile import cache, native
from symgraph.errors import CacheWarning, CompileError

SOURCE = """\
import numpy as np

from symgraph.compile.kernels import exp

COMPILED = ("part_1", "kernel")


def part_1(x):
    return exp(x) + 1.0


def kernel(x):
    out = np.empty_like(x)
    for i in range(x.shape[0]):
        out[i] = part_1(x[i])
    return out
"""
X = [0.0, 0.5, -1.0]
EXPECTED = np.exp(X) + 1.0

PROCESS = """\
import json, os, signal, sys, warnings
import numpy as np
from numba.core import event
from symgraph.compile import native

{before}
compiled = event.RecordingListener()
with event.install_listener("numba:compile", compiled), warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    kernel = native.load({source!r}, cache_dir=sys.argv[1])
    {call}
print(json.dumps(dict(
    program=kernel.py_func.__module__,
    hits=sum(kernel.stats.cache_hits.values()),
    compilations=sum(happened.is_start for _, happened in compiled.buffer),
    result=result,
    warnings=[f"{{w.category.__name__}}: {{w.message}}" for w in caught],
)))
"""
CALL = f"result = kernel(np.array({X})).tolist()"

_different = itertools.count()


def start(folder: Path, *, before: str = "", call: str = CALL, package: Path | None = None, **environment: str):
    package = package or Path(symgraph.__file__).parent
    script = PROCESS.format(source=SOURCE, before=before, call=textwrap.indent(call, "    ").lstrip())
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


def different_source() -> str:
    """A program that this process has not loaded, and no other test uses."""
    return f"def kernel(x):\n    return x + {next(_different)}.25\n"


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
    assert sorted(path.suffix for path in folder.iterdir()) == [".code", ".py"]
    assert cache.read_code(code_file(folder)) is not None


def test_the_next_process_compiles_nothing(filled):
    report = finish(start(filled))
    assert (report["hits"], report["compilations"], report["warnings"]) == (1, 0, [])
    np.testing.assert_allclose(report["result"], EXPECTED, rtol=1e-15)


def test_a_damaged_program_is_compiled_again_and_replaced(filled):
    healthy = code_file(filled).read_bytes()
    code_file(filled).write_bytes(healthy[:-100] + bytes(100))
    next(filled.glob("*.py")).write_text("raise SystemExit('the text on disk was executed')\n")
    report = finish(start(filled))
    assert report["hits"] == 0
    assert report["compilations"] > 0
    np.testing.assert_allclose(report["result"], EXPECTED, rtol=1e-15)
    assert cache.read_code(code_file(filled)) is not None
    assert next(filled.glob("*.py")).read_text() == SOURCE


@pytest.mark.parametrize("what", ["kernels", "processor"])
def test_another_kernel_text_or_processor_is_another_program(raced, tmp_path, what):
    package, environment = None, {}
    if what == "kernels":
        package = tmp_path / "symgraph"
        shutil.copytree(Path(symgraph.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
        with (package / "compile" / "kernels" / "arithmetic.py").open("a") as file:
            file.write("\n\nVERSION = 2\n")
    else:
        environment = {"NUMBA_CPU_NAME": "generic"}
    report = finish(start(raced[0], call="result = None", package=package, **environment))
    assert report["program"] != raced[1][0]["program"]


def test_both_racing_processes_named_the_program_alike(raced):
    assert raced[1][0]["program"] == raced[1][1]["program"]


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
    path = tmp_path / f"symgraph_{'0' * 32}-{'0' * 16}.code"
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
        function = native.load(different_source(), cache_dir=str(folder))
    assert function.stats.cache_path is None
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
        first = native.load(different_source(), cache_dir=folder)
    second = native.load(different_source(), cache_dir=folder)
    assert first.stats.cache_path is second.stats.cache_path is None


def test_a_full_disk_costs_one_warning_and_no_result(tmp_path):
    pytest.importorskip("resource")
    # From here on a write of even one byte to a file fails in that process, as on a full disk.
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    call = CALL + "\nnative.load('def kernel(x): return x', cache_dir=sys.argv[1])"
    report = finish(start(tmp_path / "cache", call=call, before=full))
    np.testing.assert_allclose(report["result"], EXPECTED, rtol=1e-15)
    assert len(report["warnings"]) == 1
    assert report["warnings"][0].startswith("CacheWarning: compiled programs are not kept in")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_disk_that_fills_up_during_compilation_costs_one_warning_and_no_result(tmp_path, monkeypatch):
    function = native.load(different_source(), cache_dir=str(tmp_path))

    def fail(source, destination):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.warns(CacheWarning, match="No space left"):
        assert function(1.0) % 1 == 0.25
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert function(1) % 1 == 0.25
    assert [path.suffix for path in tmp_path.iterdir()] == [".py"]


# Ctrl-C

INTERRUPT = """\
class Interrupt(event.Listener):
    def on_start(self, happened):
        if "native_lowering" in happened.data["name"]:
            signal.raise_signal(signal.SIGINT)

    def on_end(self, happened):
        pass
"""
INTERRUPTED_CALL = f"""\
result = "not interrupted"
try:
    with event.install_listener("numba:run_pass", Interrupt()):
        kernel(np.array({X}))
except KeyboardInterrupt:
    left = sorted(name.partition(".")[2] for name in os.listdir(sys.argv[1]))
    result = dict(left=left, again=kernel(np.array({X})).tolist())
"""


def test_after_an_interrupt_the_same_process_and_the_next_one_go_on(tmp_path):
    folder = tmp_path / "cache"
    report = finish(start(folder, before=INTERRUPT, call=INTERRUPTED_CALL))
    assert report["result"]["left"] == ["py"]
    np.testing.assert_allclose(report["result"]["again"], EXPECTED, rtol=1e-15)
    report = finish(start(folder))
    assert (report["hits"], report["compilations"]) == (1, 0)


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


def test_a_source_is_loaded_once_even_by_many_threads(tmp_path):
    source = different_source()
    barrier = threading.Barrier(6)
    functions = []

    def run():
        barrier.wait()
        functions.append(native.load(source, cache_dir=str(tmp_path)))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(functions) == 6
    assert len({id(function) for function in functions}) == 1


def test_what_is_called_is_the_dispatcher_itself_over_a_real_file(tmp_path):
    source = different_source()
    function = native.load(source, cache_dir=str(tmp_path))
    assert type(function) is CPUDispatcher
    assert Path(function.py_func.__code__.co_filename).read_text() == source
    assert sys.modules[function.py_func.__module__].kernel is function.py_func


def test_without_cache_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.DIRECTORY_VARIABLE, str(tmp_path))
    function = native.load(different_source(), cache=False)
    assert function.stats.cache_path is None
    assert list(tmp_path.iterdir()) == []


def test_a_module_without_the_entry_is_refused_and_not_registered(tmp_path):
    before = set(sys.modules)
    with pytest.raises(CompileError, match="defines no function 'other'"):
        native.load(different_source(), entry="other", cache_dir=str(tmp_path))
    assert set(sys.modules) == before


def test_the_plain_module_computes_the_same_without_numba():
    module = native.load_plain(SOURCE)
    np.testing.assert_allclose(module.kernel(np.array(X)), EXPECTED, rtol=1e-15)
    assert not isinstance(module.part_1, CPUDispatcher)


def test_a_traceback_shows_the_lines_of_a_module_in_memory():
    module = native.load_plain("def kernel(x):\n    return x / 0  # here\n")
    with pytest.raises(ZeroDivisionError) as caught:
        module.kernel(1)
    assert "return x / 0  # here" in "".join(traceback.format_exception(caught.value))


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
    cache.write_text(folder / f"{name}.py", "12345")
    cache.write_code(folder / f"{name}-{'0' * 16}.code", b"12345")
    for path in folder.glob(name + "*"):
        os.utime(path, (used, used))
    return name


def test_entries_are_listed_and_cleared_and_strangers_stay(tmp_path):
    old, new = fill(tmp_path, "a", 1000), fill(tmp_path, "b", 2000)
    strangers = ["notes.txt", "symgraph_notes.py", f"symgraph_{'a' * 32}.txt"]
    for stranger in strangers:
        (tmp_path / stranger).write_text("mine")
    (tmp_path / f"symgraph_{'c' * 32}.py").mkdir()
    assert cache.entries(tmp_path) == [(new, 42, 2000.0), (old, 42, 1000.0)]
    assert cache.size(tmp_path) == 84
    assert cache.clear(tmp_path) == 2
    assert {path.name for path in tmp_path.iterdir()} == {*strangers, f"symgraph_{'c' * 32}.py"}
    assert (cache.entries(tmp_path), cache.size(tmp_path)) == ([], 0)


def test_a_folder_that_does_not_exist_is_empty(tmp_path):
    assert (cache.entries(tmp_path / "none"), cache.clear(tmp_path / "none")) == ([], 0)
    assert not (tmp_path / "none").exists()


def test_reading_counts_as_use(tmp_path):
    name = fill(tmp_path, "a", 1000)
    fill(tmp_path, "b", 2000)
    assert cache.read_code(tmp_path / f"{name}-{'0' * 16}.code") is not None
    assert cache.entries(tmp_path)[0].name == name


@pytest.mark.parametrize("limits", [{"maximum_entries": 2}, {"maximum_bytes": 2 * 42}])
def test_what_was_unused_for_longest_is_pruned(tmp_path, limits):
    names = [fill(tmp_path, digit, used) for digit, used in (("a", 2000), ("b", 1000), ("c", 3000))]
    cache.prune(tmp_path, **limits)
    assert [entry.name for entry in cache.entries(tmp_path)] == [names[2], names[0]]


def test_what_a_killed_process_left_is_pruned_and_what_is_being_written_stays(tmp_path):
    abandoned, current = (tmp_path / f"symgraph_{digit * 32}.py.x1_y.part" for digit in "ab")
    abandoned.write_text("half")
    current.write_text("half")
    os.utime(abandoned, (1000, 1000))
    cache.prune(tmp_path)
    assert list(tmp_path.iterdir()) == [current]
