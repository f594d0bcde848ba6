"""The way from a graph to machine code: rewrite, lower, schedule, plan storage, emit, compile.

Each stage is a pure function in a module of its own; this one composes them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import starmap
from typing import Any, TypeVar

import numpy as np

from symgraph.compile import assembly
from symgraph.compile import lower as lowering
from symgraph.compile.bands import add_bands
from symgraph.compile.bounds import decide_bounds
from symgraph.compile.build import build as build_loops
from symgraph.compile.emit import emit
from symgraph.compile.entry import Entry
from symgraph.compile.factor import factor
from symgraph.compile.inplace import place_results, place_updates
from symgraph.compile.lifetimes import add_lifetimes
from symgraph.compile.loops import Buffer, Loop, can_fail, parts
from symgraph.compile.loops import Program as LoopProgram
from symgraph.compile.machine.program import given_results
from symgraph.compile.memory import Memory, plan_memory
from symgraph.compile.overlap import overlap
from symgraph.compile.products import find_products
from symgraph.compile.reuse import reuse_vectors
from symgraph.compile.schedule import schedule
from symgraph.compile.show import listing, show
from symgraph.compile.stencil import sink_places
from symgraph.compile.tidy import tidy
from symgraph.dims import evaluate
from symgraph.expr import Expr
from symgraph.options import Options, program_identity, thread_count
from symgraph.rewrite import rewrite

T = TypeVar("T")


class Compiled:
    """A program as machine code.

    Attributes:
        source: The emitted module.
        in_place: Positions of outputs that are written over inputs, each with that of the input.
    """

    def __init__(self, program: LoopProgram, options: Options) -> None:
        self.source = emit(program)
        self._constants = [np.array(value) for _, value in program.constants]
        self._program = program
        # A user's own functions are Python that Numba has to compile: such programs are compiled from their text.
        self._threads = None if program.user_functions else thread_count(options)
        self._more = () if self._threads is None else (self._threads,)
        self._arrays = () if program.user_functions else tuple(given_results(program))
        self._sizes = program.sizes
        # Machine code hands numbers back as Python's.
        self._numbers = tuple(None if getattr(r, "shape", ()) else r.dtype.type for r in program.results)
        self.in_place = {i: program.arguments.index(r) for i, r in enumerate(program.results) if _is_argument(r)}
        self._options = options

    @cached_property
    def loops(self) -> str:
        """The loop program as formulas, which are made when they are first asked for."""
        return show(self._program)

    @cached_property
    def _code(self) -> Callable[..., tuple[Any, ...]]:
        """The machine code; compiled, or found on disk, when it is first asked for."""
        program, options = self._program, self._options
        if program.user_functions:
            functions = {f"function_{i + 1}": f for i, f in enumerate(program.user_functions)}
            kernel: Callable[..., Any] = importlib.import_module("symgraph.compile.native").load(self.source, functions)
            return kernel
        # Neither text says of which types arguments and results are, nor what errors say.
        kinds = [each.dtype.str for each in (*program.arguments, *program.results)]
        sites = [part.site for part in parts(program.body) if can_fail(part)] if program.origins else []
        text = f"{self.source}\n{listing(program)}\n{kinds}\n{sites}"
        identity = program_identity("numba", options)
        return assembly.load(program, text, cache=options.cache, cache_dir=options.cache_dir, identity=identity)

    def memory(self) -> Memory:
        """Return the planned memory, by the names of sizes."""
        return plan_memory(self._program, self._threads or 1)

    def entry(self) -> Entry:
        """Return the machine code and what it takes."""
        constants = tuple(self._constants)
        return Entry(self._code, constants, self._sizes, self._numbers, self._threads, self._arrays, self.in_place)

    def run(self, values: Sequence[Any], sizes: dict[str, int], finish: Callable[[list[Any]], T]) -> T:
        """Return what is made of the outputs: new arrays, and NumPy scalars for those without axes.

        Args:
            values: For each input a contiguous array of just its dtype, or a scalar of that dtype.
            sizes: What the names of sizes stand for.
            finish: Takes the outputs; called again where an interrupt from the keyboard comes in between.
        """
        arrays = [np.empty([evaluate(s, sizes) for s in array.shape], array.dtype) for array in self._arrays]
        taken = [*values, *self._constants, *arrays, *map(sizes.__getitem__, self._sizes), *self._more]
        done: list[Any] = []
        try:
            done.extend(starmap(self._code, [taken]))  # an interrupt would lose what a plain call returns
            return finish(self._outputs(done[0], arrays, values))
        except IndexError as error:
            raise _readable(error) from None
        except BaseException:
            if done:
                finish(self._outputs(done[0], arrays, values))
            raise

    def _outputs(self, found: Sequence[Any], arrays: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        """Return the outputs in order, given what machine code returned and what it was given to be filled."""
        returned, filled = iter(found), iter(arrays)
        outputs: list[Any] = []
        for i, number in enumerate(self._numbers):
            if number is not None:
                outputs.append(number(next(returned)))
            elif i in self.in_place:
                outputs.append(values[self.in_place[i]])
            else:
                outputs.append(next(filled if arrays else returned))
        return outputs


def _is_argument(result: object) -> bool:
    return isinstance(result, Buffer) and result.role == "argument"


def _readable(error: IndexError) -> IndexError:
    """Return the error of ``wrap_index``, which compiled code cannot put into words, as a sentence."""
    if len(error.args) != 3:
        return error
    _, index, size = error.args
    return IndexError(f"index {index} is out of bounds for an axis of size {size}")


def plan(
    inputs: Sequence[Expr],
    outputs: Sequence[Expr],
    options: Options,
    name: str,
    updates: Sequence[tuple[int, int]] = (),
) -> LoopProgram:
    """Return the loop program that computes the outputs from the inputs.

    Args:
        inputs, outputs, options, name: As for `build`.
        updates: Positions of outputs, each with that of the input that it may be written over.
    """
    given = set(inputs)
    optimized = rewrite(outputs, keep=given) if options.optimize else list(outputs)
    lowered = lowering.lower(optimized, given)
    lowered = factor(lowered, given) if options.optimize else lowered
    arrays = lowering.materialise(sink_places(lowered, given), given)
    program = add_lifetimes(build_loops(schedule(arrays, given, options.fuse), inputs, arrays, name))
    # Straight-line code comes without repetitions from a graph; only loops that are joined make some.
    is_fused = options.fuse and any(isinstance(statement, Loop) for statement in program.body)
    if is_fused:
        program = reuse_vectors(add_bands(find_products(tidy(decide_bounds(overlap(program))))))
    program = place_updates(program, updates)
    return place_results(program) if is_fused else program


def build(
    inputs: Sequence[Expr],
    outputs: Sequence[Expr],
    options: Options,
    name: str,
    updates: Sequence[tuple[int, int]] = (),
) -> Compiled:
    """Return the compiled program of a graph; it becomes machine code, or is found on disk, at its first call."""
    return Compiled(plan(inputs, outputs, options, name, updates), options)
