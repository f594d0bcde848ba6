"""Lifetimes: where each piece of scratch begins to exist, and where it is not used any more.

Scratch belongs to the innermost loop that holds everything which uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from symgraph.compile.loops import Allocate, Buffer, Free, Loop, Program, Statement, View, buffers_of, walk


def add_lifetimes(program: Program) -> Program:
    """Return the program with ``Allocate`` before the first use of scratch and ``Free`` after the last."""
    memory = shared_memory(program)
    kept = {memory.get(r, r) for r in program.results if isinstance(r, Buffer)}
    scratch = [b for b in program.buffers() if b.role == "scratch" and b not in memory and b not in kept]
    return replace(program, body=_marked(program.body, scratch, memory))


def shared_memory(program: Program) -> dict[Buffer, Buffer]:
    """Return whose memory each view is."""
    memory: dict[Buffer, Buffer] = {}
    for statement in walk(program.body):
        if isinstance(statement, View):
            memory[statement.result] = memory.get(statement.source, statement.source)
    return memory


def _marked(
    body: Sequence[Statement], scratch: Sequence[Buffer], memory: dict[Buffer, Buffer]
) -> tuple[Statement, ...]:
    if not scratch:
        return tuple(body)
    wanted = set(scratch)
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for number, statement in enumerate(body):
        for buffer in buffers_of(statement):
            owner = memory.get(buffer, buffer)
            if owner in wanted:
                first.setdefault(owner, number)
                last[owner] = number
    inside: dict[int, list[Buffer]] = {}
    begin: dict[int, list[Buffer]] = {}
    end: dict[int, list[Buffer]] = {}
    for buffer in scratch:
        if buffer not in first:
            continue
        if first[buffer] == last[buffer] and isinstance(body[first[buffer]], Loop):
            inside.setdefault(first[buffer], []).append(buffer)
        else:
            begin.setdefault(first[buffer], []).append(buffer)
            end.setdefault(last[buffer], []).append(buffer)
    found: list[Statement] = []
    for number, statement in enumerate(body):
        found += [Allocate(buffer) for buffer in begin.get(number, ())]
        if isinstance(statement, Loop) and number in inside:
            found.append(replace(statement, body=_marked(statement.body, inside[number], memory)))
        else:
            found.append(statement)
        found += [Free(buffer) for buffer in end.get(number, ())]
    return tuple(found)
