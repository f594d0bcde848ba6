"""The memory of a call, planned from the loop program: what lives when, in bytes, by the names of sizes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from symgraph import dims
from symgraph.compile.loops import Allocate, Free, Loop, Program, View, bytes_of, walk
from symgraph.compile.machine.chunks import allocated, shared_targets
from symgraph.compile.machine.cost import chunk_count, cost
from symgraph.compile.machine.threads import MOST_CHUNKS
from symgraph.dims import Dim, Size


@dataclass(frozen=True)
class Amount:
    """A number of bytes: the greatest of some polynomials of the names of sizes, or less.

    Attributes:
        formulas: The polynomials, none of which is seen to be at most another whatever the sizes are.
        bytes: The number, None before sizes are known.
    """

    formulas: tuple[Size, ...]
    bytes: int | None = None

    @property
    def formula(self) -> str:
        """The polynomial; ``max(...)`` of several."""
        shown = [str(formula) for formula in self.formulas]
        return shown[0] if len(shown) == 1 else f"max({', '.join(shown)})"


class Moment(NamedTuple):
    """What is allocated beside results while an outermost statement runs, in bytes.

    Attributes:
        shared: Scratch of all threads.
        own: Scratch that each thread has for itself.
        copied: What each chunk of a loop, but the first, adds to a copy of; so the order of additions does not depend
            on threads.
        work: What the loop costs, in the units of ``machine.cost``.
    """

    shared: Size = 0
    own: Size = 0
    copied: Size = 0
    work: Size = 0

    def at(self, sizes: Mapping[str, int]) -> tuple[int, int, int]:
        """Return the shared scratch, a thread's own, and the copies, in bytes; one chunk, no copies."""
        shared, own, copied, work = (dims.evaluate(size, sizes) for size in self)
        chunks = chunk_count(max(0, work), copied, min, lambda number: (math.isqrt(4 * number) + 1) // 2)
        return shared, own, copied * max(chunks - 1, 0)


@dataclass(frozen=True, repr=False)
class Memory:
    """How much memory a call takes; prints as a table.

    What libraries allocate inside their own functions is not known here.

    Attributes:
        inputs: Arguments and variables that the program reads, and those that it updates in place.
        constants: Arrays of the program itself, kept as long as it.
        results: New at each call.
        scratch: What all threads share, at the moment when that is most.
        scratch_per_thread: What each thread has for itself, at the moment when that is most.
        accumulators: Copies of what chunks of a loop add to. The formula is for as many chunks as there can be.
        peak: What is allocated during a call at the fullest moment, with all threads at work: all but the inputs
            and constants.
        threads: How many threads that is.
    """

    inputs: Amount
    constants: Amount
    results: Amount
    scratch: Amount
    scratch_per_thread: Amount
    accumulators: Amount
    peak: Amount
    threads: int
    moments: tuple[Moment, ...] = field(compare=False)

    def at(self, sizes: Mapping[str, int]) -> Memory:
        """Return the same memory in bytes for these sizes, which are all that ``names`` gives."""
        plain = [dims.evaluate(a.formulas[0], sizes) for a in (self.inputs, self.constants, self.results)]
        known = [moment.at(sizes) for moment in self.moments]
        most = max(shared + self.threads * own + copies for shared, own, copies in known)
        numbers = [*plain, *map(max, zip(*known, strict=True)), plain[-1] + most]
        amounts = [Amount(a.formulas, number) for a, number in zip(self._rows().values(), numbers, strict=True)]
        inputs, constants, results, scratch, own, accumulators, peak = amounts
        return Memory(inputs, constants, results, scratch, own, accumulators, peak, self.threads, self.moments)

    def names(self) -> frozenset[str]:
        """Return the names of sizes that the memory depends on."""
        formulas = [formula for amount in self._rows().values() for formula in amount.formulas]
        return frozenset[str]().union(*map(dims.names, [*formulas, *(size for m in self.moments for size in m)]))

    def __str__(self) -> str:
        rows = [
            (name, "" if amount.bytes is None else f"{amount.bytes:,}", amount.formula)
            for name, amount in self._rows().items()
        ]
        rows.insert(0, ("memory in bytes", "", "at most"))
        first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
        gap = "  " if second else ""
        return "\n".join(f"{name:{first}}  {number:>{second}}{gap}{formula}" for name, number, formula in rows)

    __repr__ = __str__

    def _rows(self) -> dict[str, Amount]:
        plural = "" if self.threads == 1 else "s"
        return {
            "inputs": self.inputs,
            "constants": self.constants,
            "results": self.results,
            "scratch (shared)": self.scratch,
            "scratch per thread": self.scratch_per_thread,
            "accumulators": self.accumulators,
            f"peak on {self.threads} thread{plural}": self.peak,
        }


def plan_memory(program: Program, threads: int) -> Memory:
    """Return the memory that a program takes.

    Scratch is shared where it is allocated outside all loops, and each thread's own inside. Scratch that is
    never allocated by a statement lives during the whole call.

    Example:
        >>> import numpy as np
        >>> from symgraph.compile.loops import Axis, Buffer
        >>> double = np.dtype("float64")
        >>> x, y = (Buffer(name, double, (dims.dim("n"),), role) for name, role in [("x", "argument"), ("y", "result")])
        >>> b, t = (Buffer(name, double, (size,), "scratch") for name, size in [("b", dims.dim("n-1")), ("t", 32)])
        >>> body = (Allocate(b), Loop(Axis("i", dims.dim("n")), (Allocate(t), Free(t))), Free(b))
        >>> memory = plan_memory(Program("f", (x,), ("n",), (), body, (y,)), threads=2)
        >>> print(memory.at({"n": 1000}))
        memory in bytes             at most
        inputs               8,000  8*n
        constants                0  0
        results              8,000  8*n
        scratch (shared)     7,992  8*n-8
        scratch per thread     256  256
        accumulators             0  0
        peak on 2 threads   16,504  16*n+504
    """
    owned = {id(buffer) for buffer, _ in program.constants}
    results = bytes_of(r for r in program.results if r not in program.arguments)
    moments = tuple(_moments(program))
    return Memory(
        inputs=Amount((bytes_of(a for a in program.arguments if id(a) not in owned),)),
        constants=Amount((bytes_of(buffer for buffer, _ in program.constants),)),
        results=Amount((results,)),
        scratch=Amount(_greatest(moment.shared for moment in moments)),
        scratch_per_thread=Amount(_greatest(moment.own for moment in moments)),
        accumulators=Amount(_greatest((MOST_CHUNKS - 1) * moment.copied for moment in moments)),
        peak=Amount(_greatest(results + m.shared + threads * m.own + (MOST_CHUNKS - 1) * m.copied for m in moments)),
        threads=threads,
        moments=moments,
    )


def _moments(program: Program) -> Sequence[Moment]:
    """Return the moments that differ."""
    shared = _never_allocated(program)
    found = {Moment(shared): None}
    for statement in program.body:
        match statement:
            case Allocate(buffer=buffer):
                shared = shared + bytes_of([buffer])
                found[Moment(shared)] = None
            case Free(buffer=buffer):
                shared = shared - bytes_of([buffer])
            case Loop():
                own: Size = 0
                for buffer, lanes in allocated(statement):
                    own = own + lanes * bytes_of([buffer])
                targets = shared_targets(statement)
                # Where the last write stays there is one chunk only.
                copied = 0 if "set" in targets.values() else bytes_of(targets)
                found[Moment(shared, own, copied, cost([statement]) if copied != 0 else 0)] = None
    return list(found)


def _never_allocated(program: Program) -> Size:
    allocated = {id(statement.buffer) for statement in walk(program.body) if isinstance(statement, Allocate)}
    allocated |= {id(statement.result) for statement in walk(program.body) if isinstance(statement, View)}
    return bytes_of(b for b in program.buffers() if b.role == "scratch" and id(b) not in allocated)


def _greatest(formulas: Iterable[Size]) -> tuple[Size, ...]:
    """Return the formulas of which none is at most another whatever the sizes are; none is negative."""
    greatest: list[Size] = []
    for formula in formulas:
        if not any(at_most(formula, other) for other in greatest):
            greatest = [other for other in greatest if not at_most(other, formula)]
            greatest.append(formula)
    return tuple(greatest)


def at_most(less: Size, more: Size) -> bool:
    """Tell whether a number of bytes is seen to be at most another, whatever the sizes are."""
    difference: Size = more - less
    if isinstance(difference, Dim):
        return less == 0 or all(coefficient >= 0 for _, coefficient in difference.terms)
    return difference >= 0
