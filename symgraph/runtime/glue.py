"""The straight line from a call to machine code, written out for each function.

A call of a small program costs more in Python than in its loops, so the way of an ordinary call is a text of its
own: look at the arguments, call the machine code, put the results into the user's structure. It has no loops, no
lists that nobody asked for and no attributes to look up. Whatever is not ordinary (another dtype, a list, a strided
or read-only array, a size that does not fit, an index out of bounds) is left to ``general``, which takes every
argument there is, computes the same, and says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import starmap
from keyword import iskeyword
from typing import Any, NamedTuple

import numpy as np

from symgraph import dims
from symgraph.compile.entry import Entry
from symgraph.compile.loops import Buffer
from symgraph.dims import Size
from symgraph.expr import Expr
from symgraph.runtime.door import plain_name, targets
from symgraph.runtime.values import Values
from symgraph.structure import flatten

_WORD = re.compile(r"[^\W\d]\w*")
_BUILTIN = {"call", "float", "len", "type", "IndexError"}
_LONG = 90
_GIVEN = {"empty": np.empty, "dict": dict, "ndarray": np.ndarray, "sequences": (list, tuple)}


class Result(NamedTuple):
    """Where a value comes from: by position, a result of the machine code, or an argument or (after them) variable."""

    is_given: bool
    position: int


class Call(NamedTuple):
    """What is known about the calls of a function.

    Attributes:
        parts: The structures of the arguments by position, with nodes as leaves.
        labels: What the leaves are called.
        requirements: Conditions on sizes, as Python says them, with the names they mention.
        passed: Which leaves the machine code takes; after them it takes the variables.
        variables: The variables that are read.
        outputs: The structure of the results, with None where there is nothing to compute.
        written: The variables whose values change.
        results: Where the values of the other leaves of the outputs, and then those of what is written, come from.
    """

    parts: Sequence[Any]
    labels: Sequence[str]
    requirements: Mapping[str, Collection[str]]
    passed: Sequence[int]
    variables: Sequence[Expr]
    outputs: Any
    written: Sequence[Expr]
    results: Sequence[Result]


def write(
    call: Call, entry: Entry, general: Callable[..., Any], values: Values | None = None
) -> tuple[str, Callable[..., Any]] | None:
    """Return the text of the function for ordinary calls, and the function.

    Args:
        call: What is known about the calls.
        entry: The machine code.
        general: Takes the same arguments, ordinary or not.
        values: Those of the variables, if there are any.

    Returns:
        None where there is no straight line: a size is needed that is the size of no axis by itself.

    Example:
        >>> import symgraph as sg
        >>> with sg.Graph():
        ...     x, rate = sg.placeholder("x", ("n", 3)), sg.placeholder("rate")
        >>> results = [Result(False, 0), Result(False, 1)]
        >>> call = Call([{"X": x}, rate], ["x", "rate"], {"n-1 >= 0": ["n"]}, [0, 1], [], [x, {"y": x}], [], results)
        >>> print(write(call, Entry(print, (), ("n",), (np.float64, None), 2), print)[0])
        def call(p0, rate):
            if type(p0) is not dict or len(p0) != 1 or 'X' not in p0:
                return general(p0, rate)
            x = p0['X']
            if (
                type(x) is not ndarray or x.dtype is not float64_dtype or x.ndim != 2 or not x.flags.carray
                or type(rate) is not float64 and type(rate) is not float
            ):
                return general(p0, rate)
            n, x_1 = x.shape
            if x_1 != 3 or not n-1 >= 0:
                return general(p0, rate)
            try:
                r0, r1 = code(x, rate, n, threads)
            except IndexError:
                return general(p0, rate)
            return [float64(r0), {'y': r1}]
    """
    writer = _Writer(call, entry, general, values)
    source = writer.source()
    if source is None:
        return None
    exec(compile(source, "<symgraph call>", "exec", dont_inherit=True), writer.namespace)
    return source, writer.namespace["call"]


class _Writer:
    """Writes the text and gathers what its names stand for."""

    def __init__(self, call: Call, entry: Entry, general: Callable[..., Any], values: Values | None) -> None:
        self._call, self._entry = call, entry
        self._nodes: list[Expr] = [node for part in call.parts for node in flatten(part)]
        self._taken = set(_BUILTIN)
        self.namespace: dict[str, Any] = {}
        for name, value in {**_GIVEN, "code": entry.code, "general": general, "threads": entry.threads}.items():
            self._bind(name, value)
        if values is not None:
            for name, value in {"lock": values.lock, "read": values.read, "write": values.write}.items():
                self._bind(name, value)
            self._bind("variables", call.variables)
            changed = [call.variables[i - len(call.passed)] for i in entry.in_place.values()]
            self._read = f"read(variables, {self._bind('changed', changed)})" if changed else "read(variables)"
        self._constants = [self._bind(f"constant{i}", value) for i, value in enumerate(entry.constants)]
        given: list[Expr | Buffer] = [*self._nodes, *call.variables, *entry.arrays]
        kinds = dict.fromkeys([*(each.dtype.type for each in given), *filter(None, entry.numbers)])
        self._kinds = {kind: self._bind(kind.__name__, kind) for kind in kinds}
        # NumPy keeps one object for each common dtype, so that identity is the quick test.
        self._dtypes = {kind: self._bind(f"{kind.__name__}_dtype", np.dtype(kind)) for kind in kinds}
        alone = dict.fromkeys(plain_name(size) for node in self._nodes for size in node.shape)
        self._sizes = {size: self._unused(size) for size in alone if size is not None}
        self._arguments = [self._local(label, i) for i, label in enumerate(call.labels)]
        self._variables = [self._local(variable.attrs[0], i) for i, variable in enumerate(call.variables)]
        self._results = [self._unused(f"r{i}") for i in range(len(entry.numbers))]
        for place, i in entry.in_place.items():
            self._results[place] = self._variables[i - len(call.passed)]
        self._kept: list[str] = []

    def source(self) -> str | None:
        """Return the text."""
        if not self._needed_sizes() <= self._sizes.keys():
            return None
        unpacking: list[tuple[list[str], str]] = []
        leaves = iter(self._arguments)
        parameters = [self._unpack(part, leaves, unpacking) for part in self._call.parts]
        general = f"return general({', '.join(parameters)})"
        lines: list[str] = []
        for unusual, unpack in unpacking:
            lines += [*_if_any(unusual, general), *filter(None, [unpack])]
        lines += _if_any([self._unusual(*each) for each in zip(self._nodes, self._arguments, strict=True)], general)
        shapes, unfit = self._shapes()
        unfit += [f"not {self._in_local_names(condition)}" for condition in self._call.requirements]
        values = self._values()
        outcome = f"return {self._display(self._call.outputs, values)}"
        lines += [*shapes, *_if_any(unfit, general), *self._run(general, values), outcome]
        return "\n".join([f"def call({', '.join(parameters)}):", *("    " + line for line in lines)])

    def _needed_sizes(self) -> set[str]:
        sizes = [size for node in self._nodes for size in node.shape]
        sizes += [size for array in self._entry.arrays for size in array.shape]
        return set(self._entry.sizes).union(*map(dims.names, sizes), *self._call.requirements.values())

    def _unpack(self, part: Any, leaves: Iterator[str], lines: list[tuple[list[str], str]]) -> str:
        """Return the name of a part; add the test whether it is unusual, and the line that takes it apart."""
        if not isinstance(part, Mapping | list | tuple):
            return next(leaves)
        place = len(lines)
        name = self._unused(f"p{place}")
        lines.append(([], ""))
        if isinstance(part, Mapping):
            keys = [self._constant("key", key) for key in part]
            unusual = [f"type({name}) is not dict", f"len({name}) != {len(part)}"]
            unusual += [f"{key} not in {name}" for key in keys]
            values = [f"{name}[{key}]" for key in keys]
            items = [self._unpack(item, leaves, lines) for item in part.values()]
        else:
            unusual = [f"type({name}) not in sequences", f"len({name}) != {len(part)}"]
            values = [name]
            items = [self._unpack(item, leaves, lines) for item in part]
        left = ", ".join(items) if isinstance(part, Mapping) else targets(items)
        lines[place] = (unusual, f"{left} = {', '.join(values)}" if items else "")
        return name

    def _unusual(self, node: Expr, name: str) -> str:
        kind, dtype = self._kinds[node.dtype.type], self._dtypes[node.dtype.type]
        if node.ndim:
            return (
                f"type({name}) is not ndarray or {name}.dtype is not {dtype} or {name}.ndim != {node.ndim}"
                f" or not {name}.flags.carray"
            )
        also = f" and type({name}) is not float" if node.dtype.type is np.float64 else ""
        return f"type({name}) is not {kind}{also}"

    def _shapes(self) -> tuple[list[str], list[str]]:
        """Return lines that name the sizes of the arguments, and what is wrong when sizes do not fit."""
        lines, unfit, known = [], [], set[str]()
        for node, argument in zip(self._nodes, self._arguments, strict=True):
            met = []
            for axis, size in enumerate(node.shape):
                name = plain_name(size)
                if name is None or name in known:
                    met.append(self._unused(f"{argument}_{axis}"))
                    unfit.append(f"{met[-1]} != {self._in_local_names(size)}")
                else:
                    known.add(name)
                    met.append(self._sizes[name])
            if met:
                lines.append(f"{targets(met)} = {argument}.shape")
        return lines, unfit

    def _run(self, general: str, values: Iterator[str]) -> list[str]:
        """Return the lines that read variables, call the machine code, and write variables."""
        lines: list[str] = []
        if self._variables:
            lines.append(f"{targets(self._variables)} = {self._read}")
            arrays = [n for n, variable in zip(self._variables, self._call.variables, strict=True) if variable.ndim]
            lines += _if_any([f"type({n}) is not ndarray or not {n}.flags.carray" for n in arrays], general)
        taken = [*(self._arguments[i] for i in self._call.passed), *self._variables, *self._constants]
        new = [i for i in range(len(self._results)) if i not in self._entry.in_place]
        given = [i for i in new if self._entry.numbers[i] is None and self._entry.arrays]
        returned = [self._results[i] for i in new if i not in given]
        for i, array in zip(given, self._entry.arrays, strict=True):
            lines.append(f"{self._results[i]} = {self._empty(array)}")
            taken.append(self._results[i])
        taken += [self._sizes[name] for name in self._entry.sizes]
        taken += [] if self._entry.threads is None else ["threads"]
        last = self._write(values)
        lines += self._kept
        unusual = ["except IndexError:", f"    {general}"]
        if last and self._entry.in_place:
            # An interrupt from the keyboard would lose what a plain call returns, and may come while this is written.
            done, calls = self._unused("done"), self._bind("starmap", starmap)
            each = targets(returned) or self._unused("each")
            finish = [f"    for {each} in {done}:", *("        " + line for line in last)]
            lines += [f"{done} = []", "try:", f"    {done}.extend({calls}(code, (({', '.join(taken)}),)))", *finish]
            lines += [*unusual, "except BaseException:", *finish, "    raise"]
        else:
            run = f"code({', '.join(taken)})"
            lines += ["try:", f"    {targets(returned)} = {run}" if returned else f"    {run}", *unusual, *last]
        return ["with lock:", *("    " + line for line in lines)] if self._call.written else lines

    def _write(self, values: Iterator[str]) -> list[str]:
        """Return the line that gives variables their new values, but for those that have been written over."""
        sources = self._call.results[len(self._call.results) - len(self._call.written) :]
        changes = []
        for i, (variable, source, value) in enumerate(zip(self._call.written, sources, values, strict=True)):
            if source.is_given or source.position not in self._entry.in_place:
                changes.append(f"{self._bind(f'variable{i}', variable)}: {value}")
        return [f"write({{{', '.join(changes)}}})"] if changes else []

    def _empty(self, array: Buffer) -> str:
        sizes = [self._in_local_names(size) for size in array.shape]
        shape = sizes[0] if len(sizes) == 1 else f"({', '.join(sizes)})"
        return f"empty({shape})" if array.dtype == np.float64 else f"empty({shape}, {self._dtypes[array.dtype.type]})"

    def _values(self) -> Iterator[str]:
        handed_out: set[int] = set()
        given = list(zip([*self._nodes, *self._call.variables], [*self._arguments, *self._variables], strict=True))
        for is_given, position in self._call.results:
            if is_given:
                node, name = given[position]
                value = f"{name}.copy()" if node.ndim else f"{self._kinds[node.dtype.type]}({name})"
                if node.ndim and self._entry.in_place:  # which may be that of what is written over
                    kept = self._unused(f"{name}_before")
                    self._kept.append(f"{kept} = {value}")
                    value = kept
                yield value
                continue
            kind, name = self._entry.numbers[position], self._results[position]
            if kind is not None:
                yield f"{self._kinds[kind]}({name})"
            else:
                yield f"{name}.copy()" if position in handed_out else name
            handed_out.add(position)

    def _display(self, outputs: Any, values: Iterator[str]) -> str:
        """Return the structure of the results as Python writes it."""
        if outputs is None:
            return "None"
        if isinstance(outputs, Mapping):
            items = [f"{self._constant('key', key)}: {self._display(item, values)}" for key, item in outputs.items()]
            return f"{{{', '.join(items)}}}"
        if not isinstance(outputs, list | tuple):
            return next(values)
        items = [self._display(item, values) for item in outputs]
        if isinstance(outputs, list):
            return f"[{', '.join(items)}]"
        if hasattr(outputs, "_fields"):
            return f"{self._bind(type(outputs).__name__, type(outputs))}({', '.join(items)})"
        return f"({', '.join(items)}{',' if len(items) == 1 else ''})"

    def _constant(self, wish: str, value: Any) -> str:
        return repr(value) if type(value) in (str, int) else self._bind(wish, value)

    def _in_local_names(self, condition: Size | str) -> str:
        return _WORD.sub(lambda word: self._sizes.get(word[0], word[0]), str(condition))

    def _local(self, label: str, position: int) -> str:
        return self._unused(label if label.isidentifier() and not iskeyword(label) else f"a{position}")

    def _bind(self, wish: str, value: Any) -> str:
        name = self._unused(wish)
        self.namespace[name] = value
        return name

    def _unused(self, wish: str) -> str:
        while wish in self._taken:
            wish += "_"
        self._taken.add(wish)
        return wish


def _if_any(conditions: Sequence[str], then: str) -> list[str]:
    if len(conditions) > 1 and sum(map(len, conditions)) > _LONG:
        first, *others = conditions
        return ["if (", f"    {first}", *(f"    or {other}" for other in others), "):", f"    {then}"]
    return [f"if {' or '.join(conditions)}:", f"    {then}"] if conditions else []
