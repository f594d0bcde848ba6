"""The way from a graph to machine code: rewrite, lower, schedule, plan storage, emit, compile.

Each stage is a pure function in a module of its own; this one composes them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from symgraph.compile import assembly
from symgraph.compile import lower as lowering
from symgraph.compile.bands import add_bands
from symgraph.compile.bounds import decide_bounds
from symgraph.compile.build import build as build_loops
from symgraph.compile.emit import emit
from symgraph.compile.entry import Entry
from symgraph.compile.factor import factor
from symgraph.compile.lifetimes import add_lifetimes
from symgraph.compile.loops import Loop
from symgraph.compile.loops import Program as LoopProgram
from symgraph.compile.machine.program import given_results
from symgraph.compile.memory import Memory, plan_memory
from symgraph.compile.overlap import overlap
from symgraph.compile.products import find_products
from symgraph.compile.schedule import schedule
from symgraph.compile.show import show
from symgraph.compile.stencil import sink_places
from symgraph.compile.tidy import tidy
from symgraph.dims import evaluate
from symgraph.expr import Expr
from symgraph.options import Options, program_identity, thread_count
from symgraph.rewrite import rewrite


class Compiled:
    """A program as machine code.

    Attributes:
        source: The emitted module.
        loops: The loop program, printed.
    """

    def __init__(self, program: LoopProgram, options: Options) -> None:
        self.source = emit(program)
        self.loops = show(program)
        self._constants = [np.array(value) for _, value in program.constants]
        self._program = program
        # A user's own functions are Python that Numba has to compile: such programs are compiled from their text.
        self._threads = None if program.user_functions else thread_count(options)
        self._more = () if self._threads is None else (self._threads,)
        self._arrays = () if program.user_functions else tuple(given_results(program))
        self._sizes = program.sizes
        # Machine code hands numbers back as Python's.
        self._scalars = [(i, r.dtype.type) for i, r in enumerate(program.results) if not getattr(r, "shape", ())]
        self._options = options

    @cached_property
    def _code(self) -> Callable[..., tuple[Any, ...]]:
        """The machine code; compiled, or found on disk, when it is first asked for."""
        program, options = self._program, self._options
        if program.user_functions:
            functions = {f"function_{i + 1}": f for i, f in enumerate(program.user_functions)}
            kernel: Callable[..., Any] = importlib.import_module("symgraph.compile.native").load(self.source, functions)
            return kernel
        # Neither text says of which types arguments and results are.
        kinds = [each.dtype.str for each in (*program.arguments, *program.results)]
        text = f"{self.source}\n{program}\n{kinds}"
        identity = program_identity("numba", options)
        return assembly.load(program, text, cache=options.cache, cache_dir=options.cache_dir, identity=identity)

    def memory(self) -> Memory:
        """Return the planned memory, by the names of sizes."""
        return plan_memory(self._program, self._threads or 1)

    def entry(self) -> Entry:
        """Return the machine code and what it takes."""
        numbers = [None if getattr(r, "shape", ()) else r.dtype.type for r in self._program.results]
        return Entry(self._code, tuple(self._constants), self._sizes, tuple(numbers), self._threads, self._arrays)

    def run(self, values: Sequence[Any], sizes: dict[str, int]) -> list[Any]:
        """Return new arrays, and NumPy scalars for outputs without axes.

        Args:
            values: For each input a contiguous array of just its dtype, or a scalar of that dtype.
            sizes: What the names of sizes stand for.
        """
        try:
            numbers = map(sizes.__getitem__, self._sizes)
            arrays = [np.empty([evaluate(s, sizes) for s in array.shape], array.dtype) for array in self._arrays]
            results = list(self._code(*values, *self._constants, *arrays, *numbers, *self._more))
        except IndexError as error:
            raise _readable(error) from None
        if self._arrays:
            found, given = iter(results), iter(arrays)
            results = [next(given if getattr(r, "shape", ()) else found) for r in self._program.results]
        for i, dtype in self._scalars:
            results[i] = dtype(results[i])
        return results


def _readable(error: IndexError) -> IndexError:
    """Return the error of ``wrap_index``, which compiled code cannot put into words, as a sentence."""
    if len(error.args) != 3:
        return error
    _, index, size = error.args
    return IndexError(f"index {index} is out of bounds for an axis of size {size}")


def plan(inputs: Sequence[Expr], outputs: Sequence[Expr], options: Options, name: str) -> LoopProgram:
    """Return the loop program that computes the outputs from the inputs."""
    given = set(inputs)
    optimized = rewrite(outputs, keep=given) if options.optimize else list(outputs)
    lowered = lowering.lower(optimized, given)
    lowered = factor(lowered, given) if options.optimize else lowered
    arrays = lowering.materialise(sink_places(lowered, given), given)
    program = add_lifetimes(build_loops(schedule(arrays, given, options.fuse), inputs, arrays, name))
    # Straight-line code comes without repetitions from a graph; only loops that are joined make some.
    has_loops = any(isinstance(statement, Loop) for statement in program.body)
    return add_bands(find_products(tidy(decide_bounds(overlap(program))))) if options.fuse and has_loops else program


def build(inputs: Sequence[Expr], outputs: Sequence[Expr], options: Options, name: str) -> Compiled:
    """Return the compiled program of a graph; it becomes machine code, or is found on disk, at its first call."""
    return Compiled(plan(inputs, outputs, options, name), options)
