"""From a schedule with its storage to a loop program."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from symgraph.compile import loops
from symgraph.compile.loops import Affine, Axis, Buffer, Load, Name, Operand, Statement, Subscript
from symgraph.compile.lower import is_matrix_transpose
from symgraph.compile.nest import Group, Schedule
from symgraph.compile.steps import Index, Read, Step
from symgraph.compile.storage import plan, shape_in
from symgraph.dims import names, sizes_in
from symgraph.errors import CompileError, declared_at
from symgraph.expr import CONSTANT, SIZE, Expr, constant_value, described
from symgraph.op import FUNCTIONS, REGISTRY, Kind

_RESERVED = {
    *keyword.kwlist,
    *keyword.softkwlist,
    *REGISTRY,
    *FUNCTIONS,
    "np",
    "kernel",
    "range",
    "library",
    "accumulate",
    "integer_matmul",
    "received",
    "wrap_index",
}


class _Names:
    """Names of a program: those of placeholders where they can stand, numbered ones elsewhere."""

    def __init__(self, sizes: Sequence[str]) -> None:
        self.taken = set(sizes) | _RESERVED
        self.counts: dict[str, int] = {}

    def named(self, wish: str) -> str:
        stem = re.sub(r"\W", "_", wish) or "x"
        stem = f"_{stem}" if stem[0].isdigit() else stem
        name, count = stem, 1
        while name in self.taken:
            count += 1
            name = f"{stem}_{count}"
        self.taken.add(name)
        return name

    def numbered(self, stem: str) -> str:
        while True:
            self.counts[stem] = self.counts.get(stem, 0) + 1
            name = f"{stem}{self.counts[stem]}"
            if name not in self.taken:
                self.taken.add(name)
                return name


class _Builder:
    def __init__(self, schedule: Schedule, given: Sequence[Expr], outputs: Sequence[Expr], name: str) -> None:
        self.schedule = schedule
        self.outputs = outputs
        self.name = name
        self.size_names = _size_names(schedule, given)
        self.names = _Names(self.size_names)
        self.places = plan(schedule, {schedule.computes[node] for node in outputs if node in schedule.computes})
        self.leaves: dict[Expr, Buffer | loops.Scalar] = {}
        self.arguments: list[Buffer | loops.Scalar] = [self._argument(node) for node in given]
        self.constants: list[tuple[Buffer, np.ndarray[Any, Any]]] = []
        self.axes: dict[int, Axis] = {}
        self.blocks: dict[Group, Axis] = {}
        self.buffers: dict[Step, Buffer] = {}
        self.scalars: dict[Step, str] = {}
        self.functions: list[Any] = []
        self.sites: dict[Expr, int] = {}
        for step in schedule.steps:
            self._name(step)

    def _argument(self, node: Expr) -> Buffer | loops.Scalar:
        name = self.names.named(node.attrs[0] if node.op.kind is Kind.LEAF else node.op.name)
        made: Buffer | loops.Scalar = (
            Buffer(name, node.dtype, node.shape, "argument") if node.ndim else loops.Scalar(name, node.dtype)
        )
        self.leaves[node] = made
        return made

    def _name(self, step: Step) -> None:
        place = self.places[step]
        if place.places is not None or step.opaque:
            role = "result" if place.is_result else "scratch"
            self.buffers[step] = Buffer(
                self.names.numbered("out" if role == "result" else "b"), step.node.dtype, shape_in(step, place), role
            )
        self.scalars[step] = self.names.numbered("t")

    def build(self) -> loops.Program:
        body = self._groups(self.schedule.groups, 0)
        results = tuple(self._result(output) for output in self.outputs)
        return loops.Program(
            self.name,
            tuple(self.arguments) + tuple(buffer for buffer, _ in self.constants),
            tuple(self.size_names),
            tuple(self.constants),
            tuple(body),
            results,
            tuple(self.functions),
            tuple(loops.Origin(described(node), node.location) for node in self.sites),
        )

    def _site(self, node: Expr) -> int:
        """Return the number of an operation that can fail."""
        return self.sites.setdefault(node, len(self.sites))

    def _result(self, output: Expr) -> Buffer | Operand:
        step = self.schedule.computes[output]
        return self.buffers[step] if step in self.buffers else Name(self.scalars[step], output.dtype)

    # Loops

    def _groups(self, groups: Sequence[Group], depth: int) -> list[Statement]:
        body: list[Statement] = []
        for group in groups:
            if group.axis is None:
                for step in group.steps:
                    body.extend(self._straight(step, depth))
                continue
            body.extend(self._prologue(group.steps, depth))
            index = self._block(group) if group.rows is not None else self._axis(group.steps[0], group.axis)
            body.append(loops.Loop(index, tuple(self._groups(group.children, depth + 1)), group.lanes))
            body.extend(self._epilogue(group.steps, depth))
        return body

    def _straight(self, step: Step, depth: int) -> list[Statement]:
        if step.rows:
            return [self._product(step)]
        if step.opaque:
            return self._call(step)
        return [*self._prologue([step], depth), *self._compute(step)]

    def _prologue(self, steps: Sequence[Step], depth: int) -> list[Statement]:
        """Begin the accumulations of the loop (or straight code) that comes next."""
        body: list[Statement] = []
        for step in steps:
            place = self.places[step]
            if not step.accumulates:
                continue
            if self._scalar_accumulator(step):
                if place.loops == depth:
                    body.append(loops.Start(self._accumulator(step), self._accumulator_dtype(step), step.node.op.name))
            elif place.scope == depth:
                body.append(self._fill(step))
        return body

    def _epilogue(self, steps: Sequence[Step], depth: int) -> list[Statement]:
        body: list[Statement] = []
        for step in steps:
            if step.reduced and not step.rows and self._scalar_accumulator(step) and self.places[step].loops == depth:
                body.extend(self._finish_accumulation(step))
        return body

    def _finish_accumulation(self, step: Step) -> list[Statement]:
        body: list[Statement] = []
        value = Name(self._accumulator(step), self._accumulator_dtype(step))
        name = self.scalars[step]
        if value.name != name:
            body.append(loops.Let(name, step.node.dtype, "astype", None, (value,), (step.node.dtype,)))
        if step in self.buffers:
            body.append(self._store(step, Name(name, step.node.dtype)))
        return body

    def _axis(self, step: Step, axis: int) -> Axis:
        """Return the loop index that a step has along an axis."""
        block = next((g for g in self.schedule.paths[step] if g.rows is not None and g.axis == axis), None)
        if block is not None:
            self._block(block)
            return self.blocks[block]
        if axis not in self.axes:
            self.axes[axis] = Axis(self.names.numbered("i"), self.schedule.sizes[axis])
        return self.axes[axis]

    def _block(self, group: Group) -> loops.Block:
        if group not in self.blocks:
            assert group.axis is not None
            assert group.rows is not None
            size = self.schedule.sizes[group.axis]
            self.blocks[group] = Axis(
                self.names.numbered("i"), size, loops.Block(self.names.numbered("r"), size, group.rows)
            )
        block = self.blocks[group].block
        assert block is not None
        return block

    # Accumulation

    def _scalar_accumulator(self, step: Step) -> bool:
        """Whether the value is one number where it becomes known: then it accumulates in a scalar."""
        if step.is_scatter or step.rows:
            return False
        place = self.places[step]
        open_axes = {group.axis for group in self.schedule.loops_of(step)[: place.loops] if group.rows is None}
        return all(p is None or step.axes[p] in open_axes for p in step.places)

    def _accumulator(self, step: Step) -> str:
        name = self.scalars[step]
        return name if self._accumulator_dtype(step) == step.node.dtype else f"{name}_wide"

    def _accumulator_dtype(self, step: Step) -> np.dtype[np.generic]:
        wide = step.node.dtype == np.float32 and step.node.op.name in ("sum", "prod")
        return np.dtype("float64") if wide else step.node.dtype

    def _fill(self, step: Step) -> Statement:
        buffer = self.buffers[step]
        if not step.is_scatter:
            return loops.Fill(buffer, "sum" if step.rows else step.node.op.name)
        source = self._whole(step.reads[0])
        assert isinstance(source, Buffer | loops.Literal)
        return loops.Fill(buffer, "set", source)

    # Steps

    def _compute(self, step: Step) -> list[Statement]:
        node = step.node
        if node.op.name == "gather":
            return self._gather(step)
        if step.is_scatter:
            return self._scatter(step)
        if node.op.kind is Kind.REDUCE:
            return self._reduce(step)
        if node.op.name == "place":
            operands: tuple[Operand, ...] = (self._guarded(step, step.reads[0], _zero(node)),)
        elif node.op.name == "concat":
            operands = (self._concatenated(step),)
        else:
            operands = tuple(self._operand(step, r) for r in step.reads)
        if node.op.kind is Kind.ELEMENTWISE:
            statement = self._elementwise(step, operands)
        else:
            statement = loops.Let(self.scalars[step], node.dtype, "copy", "{0}", operands)
        return [statement, *self._keep(step)]

    def _elementwise(self, step: Step, operands: tuple[Operand, ...]) -> loops.Let:
        node, op = step.node, step.node.op
        function = op.custom.get("scalar_function")
        if function is not None and function not in self.functions:
            self.functions.append(function)
        let = loops.Let(self.scalars[step], node.dtype, op.name, op.scalar, operands, node.attrs, function)
        return replace(let, site=self._site(node)) if loops.can_fail(let) else let

    def _keep(self, step: Step) -> list[Statement]:
        if step not in self.buffers:
            return []
        return [self._store(step, Name(self.scalars[step], step.node.dtype))]

    def _store(self, step: Step, operand: Operand) -> Statement:
        return loops.Store(self.buffers[step], self._own_indices(step), operand)

    def _own_indices(self, step: Step) -> tuple[Subscript, ...]:
        found: list[Subscript] = []
        for k in self.places[step].places or ():
            place = step.places[k]
            index = Affine(None) if place is None else Affine(self._axis(step, step.axes[place]))
            found.append(self._within(step, index))
        return tuple(found)

    def _within(self, source: Step, index: Affine) -> Affine:
        """Return where an index is in a buffer that may hold the rows of one block only."""
        block = self.places[source].block
        if block is None or index.axis is not self.blocks.get(block):
            return index
        return replace(index, block=self._block(block))

    def _reduce(self, step: Step) -> list[Statement]:
        node = step.node
        operand = self._operand(step, step.reads[0])
        if not step.reduced:
            return [loops.Let(self.scalars[step], node.dtype, "copy", "{0}", (operand,)), *self._keep(step)]
        target: Name | Load
        if self._scalar_accumulator(step):
            target = Name(self._accumulator(step), self._accumulator_dtype(step))
        else:
            target = Load(self.buffers[step], self._own_indices(step))
        return [loops.Accumulate(target, node.op.name, operand)]

    def _selectors(self, step: Step, first: int) -> tuple[list[Statement], list[Name]]:
        body: list[Statement] = []
        found = []
        for r in step.reads[first:]:
            name = self.names.numbered("k")
            body.append(loops.Let(name, r.source.dtype, "copy", "{0}", (self._operand(step, r),)))
            found.append(Name(name, r.source.dtype))
        return body, found

    def _gather(self, step: Step) -> list[Statement]:
        body, selectors = self._selectors(step, 1)
        site = self._site(step.node)
        source = step.reads[0]
        leaf = self._whole(source)
        assert isinstance(leaf, Buffer)
        indices: list[Subscript] = []
        for k, index in enumerate(source.indices):
            if index.data is not None:
                indices.append(loops.Wrapped(selectors[index.data - 1], source.source.shape[k], site))
            else:
                indices.append(self._subscript(step, index))
        load = Load(leaf, tuple(indices))
        body.append(loops.Let(self.scalars[step], step.node.dtype, "copy", "{0}", (load,)))
        return [*body, *self._keep(step)]

    def _scatter(self, step: Step) -> list[Statement]:
        body, selectors = self._selectors(step, 2)
        site = self._site(step.node)
        axes = step.node.attrs[0]
        operand = self._operand(step, step.reads[1])
        indices: list[Subscript] = []
        for k, place in enumerate(step.places):
            if k in axes:
                indices.append(loops.Wrapped(selectors[axes.index(k)], step.node.shape[k], site))
            else:
                indices.append(Affine(None) if place is None else Affine(self._axis(step, step.axes[place])))
        how = "sum" if step.node.op.name == "scatter_add" else "set"
        body.append(loops.Accumulate(Load(self.buffers[step], tuple(indices)), how, operand))
        return body

    def _concatenated(self, step: Step) -> Operand:
        *first, last = step.reads
        operand = self._operand(step, last)
        for r in reversed(first):
            operand = self._guarded(step, r, operand)
        return operand

    def _guarded(self, step: Step, r: Read, otherwise: Operand) -> Operand:
        operand = self._operand(step, r)
        if not r.guards:
            return operand
        bounds = []
        for guard in r.guards:
            sign = 1 if guard.step > 0 else -1
            axis = None if guard.axis is None else self._axis(step, step.axes[guard.axis])
            index = Affine(axis, sign, -sign * guard.start)
            bounds.append(loops.Bound(index, guard.size * abs(guard.step), abs(guard.step)))
        return loops.Guarded(tuple(bounds), operand, otherwise)

    # Operands

    def _subscript(self, step: Step, index: Index) -> Affine:
        axis = None if index.axis is None else self._axis(step, step.axes[index.axis])
        return Affine(axis, index.step, index.offset, index.divisor)

    def _operand(self, step: Step, r: Read) -> Operand:
        source = r.step
        if source is None:
            return self._leaf(step, r)
        if self._is_at_hand(source, step):
            return Name(self.scalars[source], r.source.dtype)
        kept = self.places[source].places or ()
        indices = tuple(self._within(source, self._subscript(step, r.indices[k])) for k in kept)
        return Load(self.buffers[source], indices)

    def _is_at_hand(self, source: Step, user: Step) -> bool:
        """Whether the source's value is a scalar that the user's iteration can see."""
        if source.opaque or source.is_scatter or not self._scalar_accumulator(source):
            return False
        known = self.places[source].loops
        return self.schedule.loops_of(source)[:known] == self.schedule.loops_of(user)[:known]

    def _leaf(self, step: Step, r: Read) -> Operand:
        node = r.source
        if node.op is CONSTANT:
            array = constant_value(node)
            assert array is not None
            if array.size == 1:
                return loops.Literal(array.reshape(())[()], node.dtype)
        elif node.op is SIZE:
            return loops.IndexValue(Affine(None, 1, node.attrs[0]), node.dtype)
        elif node.op.name == "arange":
            return loops.IndexValue(self._subscript(step, r.indices[0]), node.dtype)
        found = self._whole(r)
        if isinstance(found, Buffer):
            return Load(found, tuple(self._subscript(step, index) for index in r.indices))
        return found

    def _whole(self, r: Read) -> Buffer | Operand:
        """Return what is read as a library call takes it: an array, or a number."""
        node = r.source
        if r.step is not None:
            return self.buffers[r.step] if r.step in self.buffers else Name(self.scalars[r.step], node.dtype)
        if node in self.leaves:
            return self.leaves[node]
        while node.op.name == "broadcast_to":
            node = node.args[0]
        array = constant_value(node)
        if array is None:
            return loops.IndexValue(Affine(None, 1, node.attrs[0]), node.dtype)
        if array.ndim == 0:
            return loops.Literal(array[()], node.dtype)
        buffer = Buffer(self.names.numbered("constant"), node.dtype, node.shape, "argument")
        self.leaves[node] = buffer
        self.constants.append((buffer, array))
        return buffer

    # Library calls

    def _call(self, step: Step) -> list[Statement]:
        node = step.node
        buffer = self.buffers[step]
        sources = [self._whole(r) for r in step.reads]
        if node.op.name == "reshape" and isinstance(sources[0], Buffer):
            return [loops.View(buffer, sources[0])]
        if node.op.name == "matmul" and node.ndim == 2 and node.dtype.kind == "f":
            left, right = (
                loops.Panel(source, transposed=is_matrix_transpose(arg))
                for source, arg in zip(sources, node.args, strict=True)
                if isinstance(source, Buffer)
            )
            return [_multiply(loops.Panel(buffer), left, right, False)]
        operands = tuple(
            loops.Transposed(source)
            if isinstance(source, Buffer) and node.op.name == "matmul" and is_matrix_transpose(arg)
            else source
            for source, arg in zip(sources, node.args, strict=True)
        )
        user = node.op.custom.get("function")
        if user is not None and not node.op.custom["numba"]:
            message = f"{node.op.name}: Numba may not compile it (numba=False): use backend='numpy'"
            raise CompileError(declared_at(message, node.location))
        if user is not None and user not in self.functions:
            self.functions.append(user)
        return [loops.Call(node.op.name, buffer, operands, node.attrs, user, self._site(node))]

    def _product(self, step: Step) -> Statement:
        """Return the matrix product of a block of rows."""
        block = self._block(self.schedule.paths[step][0])
        row = step.rows[0]

        def panel(buffer: Buffer, axes: Sequence[int | None], matrix: list[int], local: bool) -> loops.Panel:
            along = list(axes).index(row) if row in axes else 0
            rows = block if row in axes else None
            return loops.Panel(buffer, rows, along, local and rows is not None, list(axes) != matrix)

        def operand(r: Read, matrix: list[int]) -> loops.Panel:
            buffer = self._whole(r)
            assert isinstance(buffer, Buffer)
            kept = range(r.source.ndim) if r.step is None else self.places[r.step].places or ()
            local = r.step is not None and self.places[r.step].block is not None
            return panel(buffer, [r.indices[k].axis for k in kept], matrix, local)

        place = self.places[step]
        own = [step.places[k] for k in place.places or ()]
        result = panel(self.buffers[step], own, [0, 1], place.block is not None)
        return _multiply(result, operand(step.reads[0], [0, 2]), operand(step.reads[1], [2, 1]), row == 2)


def _multiply(result: loops.Panel, left: loops.Panel, right: loops.Panel, accumulate: bool) -> loops.Multiply:
    symmetric = replace(left, transposed=not left.transposed) == right
    return loops.Multiply(result, left, right, accumulate, symmetric)


def _zero(node: Expr) -> loops.Literal:
    return loops.Literal(node.dtype.type(0), node.dtype)


def _size_names(schedule: Schedule, given: Sequence[Expr]) -> list[str]:
    found: set[str] = set()
    for node in [*(step.node for step in schedule.steps), *given]:
        for part in (node, *node.args):
            for size in sizes_in((part.shape, part.attrs)):
                found |= names(size)
    return sorted(found)


def build(schedule: Schedule, given: Sequence[Expr], outputs: Sequence[Expr], name: str) -> loops.Program:
    """Return the loop program of a schedule.

    Args:
        schedule: The loops.
        given: The nodes whose values are the arguments, in order.
        outputs: The nodes that are handed back, in order.
        name: What the program is called.
    """
    return _Builder(schedule, given, outputs, name).build()
